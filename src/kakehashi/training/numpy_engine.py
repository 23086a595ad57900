"""The engine of the training loop on NumPy: to see that nothing in training needs PyTorch.

What TorchEngine asks of PyTorch, this one asks of `kakehashi.autograd`, where every line can be read. It leaves a run
like any other. From the same weights the two take the same steps, up to rounding; what is drawn at random, the first
weights and dropout, comes from another generator, and so differs.

A product of matrices is split by BLAS's threads, and other threads may give other last bits. NumPy has no dial for
them: resume with the OMP_NUM_THREADS that the run was started with.
"""

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from kakehashi import autograd, runs
from kakehashi.autograd import AutogradError, Tensor, nn
from kakehashi.autograd.models import MODELS
from kakehashi.autograd.optim import AdamW, Muon, clip_grad_norm_
from kakehashi.data import Batch
from kakehashi.models.protocol import Family
from kakehashi.training import carried, together
from kakehashi.training.memory import keep_freed_memory
from kakehashi.training.settings import TrainSettings


class NumpyEngine:
    """NumPy on the CPU: weights and arithmetic in float32."""

    def __init__(self):
        keep_freed_memory()

    def build(self, family: Family, config: Any, seed: int) -> nn.Module:
        """A model in training mode, weights drawn from `seed`; what is random later (dropout) goes on from there."""
        self.rng = np.random.default_rng(seed)
        return MODELS[family.name](config, self.rng).train()

    def optimizer(self, model: nn.Module, settings: TrainSettings) -> Any:
        """What `together.optimizer` makes of the parameters."""
        return together.optimizer(model.named_parameters(), settings, AdamW, Muon)

    def tensors(self, batch: Batch) -> Batch:
        """The batch as it is: the models read arrays."""
        return batch

    def no_grad(self) -> AbstractContextManager:
        return autograd.no_grad()

    def autocast(self) -> AbstractContextManager:
        """Around a forward pass. There is one dtype only."""
        return ours()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to those that are there."""
        with ours():
            loss.backward()

    def unscale(self, optimizer: Any) -> None:
        """Gradients have their true size already."""

    @np.errstate(all="ignore")
    def clip_grad_norm_(self, optimizer: Any, limit: float) -> float:
        """Scale all gradients by one factor so that their common L2 norm is at most `limit` (0: no limit).

        Returns the norm before.
        """
        return clip_grad_norm_(optimizer.parameters(), limit or math.inf)

    @np.errstate(all="ignore")
    def step(self, optimizer: Any) -> None:
        optimizer.step()

    def weights(self, model: nn.Module) -> runs.Arrays:
        return model.state_dict()

    def load_weights(self, model: nn.Module, weights: runs.Arrays) -> None:
        model.load_state_dict(weights)

    def arrays(self, optimizer: Any, state: Any = None) -> runs.Arrays:
        """What a step depends on besides weights and data: optimizer, random numbers, the state that is carried."""
        drawn = json.dumps(self.rng.bit_generator.state).encode()  # integers of 128 bits: no dtype holds them
        layers = {name: tensor.data for name, tensor in carried.named(state).items()}
        return {**optimizer.arrays(), "rng": np.frombuffer(drawn, np.uint8), **layers}

    def load_arrays(self, optimizer: Any, arrays: runs.Arrays) -> None:
        """Go on from what `arrays` gave."""
        own = optimizer.arrays().keys() & arrays.keys()  # besides them lie random numbers and what is carried
        optimizer.load_arrays({name: arrays[name] for name in own})
        self.rng.bit_generator.state = json.loads(arrays["rng"].tobytes())

    def load_carried(self, model: Any, batch_size: int, arrays: runs.Arrays) -> Any:
        """The state that was carried when `arrays` were made; None where none was."""
        layers = carried.layers(arrays)
        if not layers:
            return None
        state = model.new_state(batch_size)
        state.layers = [tuple(map(Tensor, layer)) for layer in layers]
        return state


@contextmanager
def ours() -> Iterator[None]:
    """Around what our models compute. A number that overflows is no news here: the loop looks for it.

    An AutogradError speaks to whoever wrote the model, so of ours it is a bug, and keeps its traceback; but not the
    NotFinite of `trace_nan`, which the person has asked for.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except autograd.NotFinite:
        raise
    except AutogradError as error:
        raise RuntimeError(str(error)) from error


def threads() -> int:
    """How many BLAS computes with: what the environment says, at most one a core; where it says nothing, one a core.

    So OpenBLAS, which NumPy's wheels hold, decides when NumPy is imported (on macOS they hold Apple's, which does not
    tell).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        if said := re.match("0*[1-9][0-9]*", os.environ.get(name, "")):
            return min(int(said[0]), cores)
    return cores
