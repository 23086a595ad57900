"""The engine of the training loop on PyTorch: everything the loop asks for that depends on the array library.

Another engine has the same methods. Run on CPUs; CUDA and MPS, and with CUDA float16, have not been run.
"""

import ctypes
import itertools
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kakehashi import runs
from kakehashi.data import Batch
from kakehashi.models.protocol import Family, RecurrentState
from kakehashi.training.optim import AdamW
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
        _keep_freed_memory()

    def build(self, family: Family, config: Any, seed: int) -> nn.Module:
        """A model in training mode, weights drawn from `seed`; what is random later (dropout) goes on from there."""
        torch.manual_seed(seed)
        return family.Model(config).to(self.device).train()

    def optimizer(self, model: nn.Module, settings: TrainSettings) -> AdamW:
        """AdamW with weight decay on matrices only: biases and gains have a scale to find, not to be kept small."""
        params = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in params if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
        ]
        return AdamW(groups, settings.lr, (settings.beta1, settings.beta2))

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def tensors(self, batch: Batch) -> Batch:
        """The batch with its arrays on the device."""
        return batch._replace(inputs=tuple(map(self.tensor, batch.inputs)), targets=self.tensor(batch.targets))

    def no_grad(self) -> AbstractContextManager:
        return torch.no_grad()

    def autocast(self) -> AbstractContextManager:
        """Inside, what can be is computed in `dtype`."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those that are there."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: AdamW) -> None:
        """After the last backward: bring the gradients to their true size."""
        self._scaler.unscale_(optimizer)  # pyright: ignore[reportArgumentType]: param_groups is all it asks for

    def clip_grad_norm_(self, optimizer: AdamW, limit: float) -> Tensor:
        """Scale all gradients by one factor so that their common L2 norm is at most `limit` (0: no limit).

        Returns the norm before. The factor is not asked for on the host: no wait for the device.
        """
        grads = [p.grad for p in optimizer.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if limit:
            torch._foreach_mul_(grads, torch.clamp(limit / (norm + 1e-6), max=1.0))
        return norm

    def step(self, optimizer: AdamW) -> None:
        """optimizer.step(), unless float16 overflowed in the gradients."""
        self._scaler.step(optimizer)  # pyright: ignore[reportArgumentType]
        self._scaler.update()

    def weights(self, model: nn.Module) -> runs.Arrays:
        return runs.weights_of(model)

    def load_weights(self, model: nn.Module, weights: runs.Arrays) -> None:
        runs.load_weights(model, weights)

    def arrays(self, optimizer: AdamW, carried: RecurrentState | None = None) -> runs.Arrays:
        """What a step depends on besides weights and data: optimizer, random numbers, loss scale, what is carried."""
        tensors = {**optimizer.arrays(), "rng.cpu": torch.get_rng_state()}
        for i, layer in enumerate(carried.layers if carried else ()):
            for j, tensor in enumerate(layer):
                # NumPy has no bfloat16; float32 holds all its values
                tensors[f"carried.{i}.{j}"] = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        if self._scaler.is_enabled():
            tensors["scale"] = torch.tensor([self._scaler.get_scale()])
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def load_arrays(self, optimizer: AdamW, arrays: runs.Arrays) -> None:
        """Go on from what `arrays` gave."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        optimizer.load_arrays(tensors)
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        if self._scaler.is_enabled():
            self._scaler.update(float(tensors["scale"]))

    def load_carried(self, model: Any, batch_size: int, arrays: runs.Arrays) -> RecurrentState | None:
        """What was carried when `arrays` were made; None where nothing was."""
        places = sorted(tuple(map(int, name.split(".")[1:])) for name in arrays if name.startswith("carried."))
        if not places:
            return None
        carried = model.new_state(batch_size)
        carried.layers = [
            tuple(self.tensor(arrays[f"carried.{i}.{j}"]) for i, j in layer)
            for _, layer in itertools.groupby(places, lambda place: place[0])
        ]
        return carried


def _keep_freed_memory() -> None:
    """Have glibc keep the memory that a step frees: the next one needs the same, and asking the system anew is slow."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):  # not in musl
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
