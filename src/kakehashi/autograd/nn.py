"""Modules: what has parameters, and what is made of what has. Names and arithmetic are those of torch.nn.

A parameter is a Tensor that requires a gradient and is the attribute of a module; a Tensor that requires none is a
buffer. Modules stand in attributes, and in lists of modules, under the names that torch.nn.ModuleList gives.
Initial weights are drawn from the generator that is given, in the ranges of torch.nn, but not its random numbers.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kakehashi.autograd import functional as F
from kakehashi.autograd import ops
from kakehashi.autograd.tensor import NUMBERS, Array, AutogradError, ShapeError, Tensor, no_grad


class Module:
    """The base of all: subclasses set Tensors and Modules as attributes, and define `forward`."""

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """(name, module) of the modules directly inside, in the order in which they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, list):
                yield from ((f"{name}.{i}", each) for i, each in enumerate(value) if isinstance(each, Module))

    def modules(self) -> Iterator["Module"]:
        """This module and all inside."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def _named_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                yield prefix + name, value
        for name, child in self.children():
            yield from child._named_tensors(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor), a tied one once, under its first name."""
        seen: set[Tensor] = set()
        for name, tensor in self._named_tensors():
            if tensor.requires_grad and tensor not in seen:
                seen.add(tensor)
                yield name, tensor

    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [tensor for _, tensor in self.named_parameters()]

    def state_dict(self) -> dict[str, Array]:
        """Name -> a copy of the array, of parameters and buffers; a tied one under each of its names."""
        return {name: tensor.data.copy() for name, tensor in self._named_tensors()}

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, in the dtype that stands. Raises AutogradError, nothing changed."""
        own = dict(self._named_tensors())
        what = f"load_state_dict of {type(self).__name__}"
        found = fitting(what, {name: tensor.data for name, tensor in own.items()}, arrays)
        with no_grad():
            for name, tensor in own.items():
                tensor.copy_(found[name])

    def astype(self, dtype: Any) -> "Module":
        """All parameters and buffers in another dtype."""
        for _, tensor in self._named_tensors():
            tensor.data = tensor.data.astype(dtype)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> "Module":
        """As in training: dropout drops."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """As in use: dropout lets all through."""
        return self.train(False)


def fitting(what: str, own: Mapping[str, Array], given: Mapping[str, Any]) -> dict[str, Array]:
    """Copies of `given`, in the dtypes of `own`; names and shapes must be its. Raises AutogradError about `what`."""
    for how, names in (("missing", own.keys() - given.keys()), ("not a part of it", given.keys() - own.keys())):
        if names:
            raise AutogradError(f"{what}: {', '.join(sorted(map(str, names)))}: {how}")
    found = {}
    for name, array in own.items():
        try:
            new = np.asarray(ops.plain(given[name]))
        except ValueError as error:  # of lists that are no array
            raise AutogradError(f"{what}: {name}: {error}") from None
        if new.shape != array.shape:
            raise ShapeError(f"{what}: {name} has shape {array.shape}, got {new.shape}")
        if new.dtype.kind not in NUMBERS:
            raise AutogradError(f"{what}: {name} is made of real numbers, got {new.dtype}")
        found[name] = new.astype(array.dtype)
    return found


def parameter(data: Any) -> Tensor:
    """A Tensor of float32 that is trained."""
    return Tensor(np.asarray(data, np.float32), requires_grad=True)


class Linear(Module):
    """y = x W^T + b. weight (n_out, n_in) and bias (n_out), uniform within 1 / sqrt(n_in)."""

    def __init__(self, n_in: int, n_out: int, rng: np.random.Generator, bias: bool = True):
        bound = 1 / math.sqrt(n_in) if n_in else 0.0
        self.weight = parameter(rng.uniform(-bound, bound, (n_out, n_in)))
        self.bias = parameter(rng.uniform(-bound, bound, n_out)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return F.linear(x, self.weight, self.bias)


class Embedding(Module):
    """A table of vectors. weight (V, C), normal with deviation 1."""

    def __init__(self, n: int, width: int, rng: np.random.Generator):
        self.weight = parameter(rng.standard_normal((n, width)))

    def forward(self, indices: Any) -> Tensor:
        """(...) int -> (..., C)."""
        return F.embedding(self.weight, indices)


class LayerNorm(Module):
    """Each vector to mean 0 and variance 1, then a gain and a bias. weight (C), 1 at first; bias (C), 0."""

    def __init__(self, width: int, eps: float = 1e-5):
        self.eps = eps
        self.weight = parameter(np.ones(width))
        self.bias = parameter(np.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return F.layer_norm(x, self.weight, self.bias, self.eps)


class Dropout(Module):
    """In training, each number is 0 with probability p, and the others grow to keep the expectation."""

    def __init__(self, p: float, rng: np.random.Generator):
        self.p = ops.probability(p)
        self.rng = rng

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return ops.dropout(x, self.p, self.training, self.rng)


class Conv2d(Module):
    """Windows times filters. weight (O, C, h, w) and bias (O), uniform within 1 / sqrt(C h w)."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: F.Pair,
        rng: np.random.Generator,
        stride: F.Pair = 1,
        padding: F.Pair = 0,
        bias: bool = True,
    ):
        self.stride, self.padding = stride, padding
        h, w = (size, size) if isinstance(size, int) else size
        bound = 1 / math.sqrt(n_in * h * w)
        self.weight = parameter(rng.uniform(-bound, bound, (n_out, n_in, h, w)))
        self.bias = parameter(rng.uniform(-bound, bound, n_out)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W')."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        """(...) -> (...)."""
        return ops.relu(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        """(...) -> (...)."""
        return ops.tanh(x)


class Sequential(Module):
    """One step after another: modules, under the names "0", "1", ..., and functions of a tensor."""

    def __init__(self, *steps: Callable[[Tensor], Tensor]):
        self.steps = steps

    def children(self) -> Iterator[tuple[str, Module]]:
        """(place, module)."""
        return ((str(i), step) for i, step in enumerate(self.steps) if isinstance(step, Module))

    def forward(self, x: Any) -> Any:
        """What the last step makes of it."""
        for step in self.steps:
            x = step(x)
        return x
