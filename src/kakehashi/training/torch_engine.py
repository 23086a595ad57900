"""The engine of the training loop on PyTorch: everything the loop asks for that depends on the array library.

`numpy_engine` has the same methods. Run on CPUs; CUDA and MPS, and with CUDA float16, have not been run.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kakehashi import runs
from kakehashi.data import Batch
from kakehashi.models.protocol import Family, RecurrentState
from kakehashi.training import carried, together
from kakehashi.training.memory import keep_freed_memory
from kakehashi.training.optim import AdamW, Muon
from kakehashi.training.settings import TrainSettings


class TorchEngine:
    """PyTorch on one device: weights in float32, arithmetic in `dtype`, `threads` on the CPU (None: as they are).

    Raises RunError where the device is not there.
    """

    def __init__(self, device: str = "cpu", dtype: str = "float32", threads: int | None = None):
        self.device = runs.device(device)
        self.dtype = getattr(torch, dtype)
        if threads is not None:
            torch.set_num_threads(threads)  # a sum is split by threads: other threads, other bits
        # small gradients vanish in float16: the loss is scaled up before backward, the gradients down after it
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        keep_freed_memory()

    def build(self, family: Family, config: Any, seed: int) -> nn.Module:
        """A model in training mode, weights drawn from `seed`; what is random later (dropout) goes on from there."""
        torch.manual_seed(seed)
        # of each place of an image, all channels side by side: where convolutions are fastest. Other weights stay
        return family.Model(config).to(self.device, memory_format=torch.channels_last).train()

    def optimizer(self, model: nn.Module, settings: TrainSettings) -> Any:
        """What `together.optimizer` makes of the parameters that are trained."""
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        return together.optimizer(named, settings, AdamW, Muon)

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def tensors(self, batch: Batch) -> Batch:
        """The batch with its arrays on the device."""
        return batch._replace(
            inputs=tuple(map(self.tensor, batch.inputs)),
            targets=self.tensor(batch.targets),
            options={name: self.tensor(array) for name, array in batch.options.items()},
        )

    def no_grad(self) -> AbstractContextManager:
        return torch.no_grad()

    def autocast(self) -> AbstractContextManager:
        """Inside, what can be is computed in `dtype`."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those that are there."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: Any) -> None:
        """After the last backward: bring the gradients to their true size."""
        self._scaler.unscale_(optimizer)  # pyright: ignore[reportArgumentType]: param_groups is all it asks for

    def clip_grad_norm_(self, optimizer: Any, limit: float) -> Tensor:
        """Scale all gradients by one factor so that their common L2 norm is at most `limit` (0: no limit).

        Returns the norm before. The factor is not asked for on the host: no wait for the device.
        """
        grads = [p.grad for p in optimizer.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if limit:
            torch._foreach_mul_(grads, torch.clamp(limit / (norm + 1e-6), max=1.0))
        return norm

    def step(self, optimizer: Any) -> None:
        """optimizer.step(), unless float16 overflowed in the gradients."""
        self._scaler.step(optimizer)  # pyright: ignore[reportArgumentType]
        self._scaler.update()

    def weights(self, model: nn.Module) -> runs.Arrays:
        return runs.weights_of(model)

    def load_weights(self, model: nn.Module, weights: runs.Arrays) -> None:
        runs.load_weights(model, weights)

    def arrays(self, optimizer: Any, state: RecurrentState | None = None) -> runs.Arrays:
        """What a step depends on besides weights and data: optimizer, random numbers, loss scale, the carried state."""
        tensors = {**optimizer.arrays(), "rng.cpu": torch.get_rng_state()}
        for name, tensor in carried.named(state).items():
            # NumPy has no bfloat16; float32 holds all its values
            tensors[name] = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        if self._scaler.is_enabled():
            tensors["scale"] = torch.tensor([self._scaler.get_scale()])
        # a file holds plain order, whatever the order in memory
        return {name: np.asarray(tensor.detach().cpu().numpy(), order="C") for name, tensor in tensors.items()}

    def load_arrays(self, optimizer: Any, arrays: runs.Arrays) -> None:
        """Go on from what `arrays` gave."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        optimizer.load_arrays(tensors)
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        if self._scaler.is_enabled():
            self._scaler.update(float(tensors["scale"]))

    def load_carried(self, model: Any, batch_size: int, arrays: runs.Arrays) -> RecurrentState | None:
        """The state that was carried when `arrays` were made; None where none was."""
        layers = carried.layers(arrays)
        if not layers:
            return None
        state = model.new_state(batch_size)
        state.layers = [tuple(map(self.tensor, layer)) for layer in layers]
        return state
