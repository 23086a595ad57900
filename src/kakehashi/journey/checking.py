"""What checks are made of: the mark @check, the verdict Wrong, and helpers that say what is wrong before they compare.

    @check("LayerNorm", 30)
    def divides_by_the_standard_deviation(mine, ref, rng):
        x = torch.randn(2, 5, 16, generator=rng)
        norm = shake(ref.LayerNorm(16), rng)
        same("output", twin("LayerNorm", mine.LayerNorm(16), norm)(fresh(x)), norm(x))

A check is a plain function of (mine, ref, rng): the learner's module, a private copy of the reference, and a seeded
torch.Generator. It returns nothing when all is well and raises Wrong(key, **values) otherwise; the key's words are in
the station's en.md and ja.md. Its symbol says what it judges: everything else in `mine` comes from the reference then.
The symbol "" marks a house check, which runs on the learner's whole file once everything is built.
Both arguments of @check stand there as literals: the client reads them without importing the file.

A check that goes through these helpers speaks of None first, then type, shape, dtype, NaN, and value last.
"""

from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kakehashi import autograd

M = TypeVar("M", bound=nn.Module)

# float32 rounds at 6e-8; the same sums in another order, through a block and back, differ by 1e-6 of the largest value
TOLERANCE = 3e-5
LONGEST = 300  # characters of a learner's value or error that are shown


class Wrong(Exception):
    """The learner's code is wrong in a way that has a name. Tensors among the values become numbers and lists."""

    def __init__(self, key: str, **values: Any):
        super().__init__(f"{key} {values}")
        self.key = key
        self.values = {name: plain(value) for name, value in values.items()}


def plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, Tensor | autograd.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    return value if isinstance(value, bool | int | float | None) else brief(str(value))


def brief(text: str) -> str:
    """A text as long as a person reads it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def check(symbol: str, order: int) -> Callable[[Callable], Callable]:
    """Mark a function as a check of `symbol`, one of the station's or inside one; checks run by order."""
    return lambda function: function


def tensor(name: str, value: Any) -> Tensor:
    """The value, if it is a tensor (or a NumPy array, or a tensor of our engine: as a tensor of torch).

    Raises Wrong "none", "type".
    """
    if value is None:
        raise Wrong("none", name=name)
    value = value.data if isinstance(value, autograd.Tensor) else value
    if not isinstance(value, Tensor | np.ndarray | np.generic):
        raise Wrong("type", name=name, seen=type(value).__name__)
    # a copy: torch takes no array that is read backwards, and warns of one that may not be written to
    return value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))


def part(name: str, value: Any, attribute: str) -> Any:
    """value.attribute, for results with names: part("forward", model(x), "logits").

    Raises Wrong "none", "part".
    """
    if value is None:
        raise Wrong("none", name=name)
    if not hasattr(value, attribute):
        raise Wrong("part", name=name, part=attribute, seen=type(value).__name__)
    return getattr(value, attribute)


def shape(name: str, value: Any, expected: tuple[int, ...]) -> Tensor:
    """The value, if it is a tensor of this shape.

    Raises Wrong "none", "type", "shape".
    """
    value = tensor(name, value)
    if value.shape != torch.Size(expected):
        raise Wrong("shape", name=name, seen=tuple(value.shape), expected=tuple(expected))
    return value


def finite(name: str, value: Any) -> Tensor:
    """The value, if it is a tensor without NaN and infinities.

    Raises Wrong "none", "type", "nan", or "nan_number" for a scalar.
    """
    value = tensor(name, value)
    bad = ~torch.isfinite(value)
    if bad.any() and not value.ndim:
        raise Wrong("nan_number", name=name, seen=value)
    if bad.any():
        raise Wrong("nan", name=name, seen=value[bad][0], place=place(bad), count=bad.sum(), total=bad.numel())
    return value


def same(name: str, mine: Any, ref: Any, *, tol: float = TOLERANCE) -> None:
    """mine has ref's shape and dtype, and equals it within tol times ref's largest magnitude; whole numbers exactly.

    Infinities are equal where they stand in both. Two numbers may be compared, too.
    Raises Wrong "none", "type", "shape", "dtype", "nan", "value"; for scalars "nan_number", "number".
    """
    if isinstance(ref, bool | int | float) and isinstance(mine, bool | int | float):
        mine, ref = torch.tensor(mine, dtype=torch.float64), torch.tensor(ref, dtype=torch.float64)
    ref = (tensor(name, ref) if isinstance(ref, np.ndarray | autograd.Tensor) else torch.as_tensor(ref)).detach()
    mine = shape(name, mine, ref.shape).detach()
    if mine.dtype != ref.dtype:
        raise Wrong("dtype", name=name, seen=mine.dtype, expected=ref.dtype)
    unknown = mine.isnan() & ~ref.isnan()
    if unknown.any() and not mine.ndim:
        raise Wrong("nan_number", name=name, seen=mine)
    if unknown.any():
        raise Wrong("nan", name=name, seen="nan", place=place(unknown), count=unknown.sum(), total=unknown.numel())
    size = ref[ref.isfinite()].double().abs().max().item() if ref.isfinite().any() else 0.0
    limit = tol * size if ref.is_floating_point() else 0.0
    difference = torch.where(mine == ref, 0.0, (mine.double() - ref.double()).abs())
    wrong = ~(difference <= limit)  # not "> limit": a NaN must not pass
    if wrong.any() and not mine.ndim:
        raise Wrong("number", name=name, mine=mine, ref=ref)
    if wrong.any():
        worst = place(difference.nan_to_num(torch.inf) == difference.nan_to_num(torch.inf).max())
        raise Wrong(
            "value",
            name=name,
            place=worst,
            mine=mine[tuple(worst)],
            ref=ref[tuple(worst)],
            count=wrong.sum(),
            total=wrong.numel(),
        )


def place(where: Tensor) -> list[int]:
    """The first index at which a bool tensor is True."""
    return where.nonzero()[0].tolist()


def fresh(x: Tensor) -> Tensor:
    """A copy to hand to the learner's code: what it overwrites is its own."""
    return x.detach().clone()


def shake(module: M, rng: torch.Generator) -> M:
    """Give every parameter and buffer a random value of visible size, and return the module.

    Gains of 1, biases of 0 and weights of 0.02 hide faults. Matrices and kernels keep the scale of what passes
    through; vectors are drawn around 1 (gains) or 0 (all else); running variances stay positive.
    """
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=rng)
            if value.ndim > 1:
                value.copy_(noise / value[0].numel() ** 0.5)
            elif name.endswith("var"):
                value.copy_(0.5 + noise.square())
            else:
                value.copy_(0.5 * noise + name.endswith("weight"))
    return module


def twin(name: str, mine: M, ref: nn.Module) -> M:
    """mine with ref's parameters and buffers copied in: by name, as the class docstring lists them.

    mine may hold more buffers (a mask kept ready, say), not more parameters.
    Raises Wrong "none", "type", "buffer_not_saved", "plain_list", "plain_tensor", "plain_buffer", "missing_parameter",
    "extra_parameter", "shape".
    """
    if mine is None:
        raise Wrong("none", name=name)
    if not isinstance(mine, nn.Module):
        raise Wrong("type", name=name, seen=type(mine).__name__)
    theirs, own = ref.state_dict(), mine.state_dict()
    missing = [each for each in theirs if each not in own]
    if missing:
        holder = missing[0].partition(".")[0]
        if missing[0] in dict(mine.named_buffers()):
            raise Wrong("buffer_not_saved", name=name, parameter=missing[0])
        if isinstance(getattr(mine, holder, None), list | tuple):
            raise Wrong("plain_list", name=name, part=holder)
        with suppress(AttributeError):
            if isinstance(attrgetter(missing[0])(mine), Tensor):
                key = "plain_tensor" if missing[0] in dict(ref.named_parameters()) else "plain_buffer"
                raise Wrong(key, name=name, parameter=missing[0])
        raise Wrong("missing_parameter", name=name, parameter=missing[0], seen=", ".join(own) or "-")
    extra = [each for each, _ in mine.named_parameters() if each not in theirs]
    if extra:
        raise Wrong("extra_parameter", name=name, parameter=extra[0], expected=", ".join(theirs) or "-")
    for each, value in theirs.items():
        shape(f"{name}.{each}", own[each], value.shape)
    mine.load_state_dict(theirs, strict=False)
    return mine.train(ref.training)


def gradients(name: str, mine: Callable, ref: Callable, *inputs: Any, tol: float = TOLERANCE) -> None:
    """mine(*inputs) equals ref(*inputs), and so do the gradients of every floating input and every parameter.

    mine and ref are functions or modules that return a tensor. The inputs they get are copies and results of another
    operation, as they are inside a network: overwriting them in place is noticed.
    Raises Wrong as `same` does, and "overwrites", "backward", "no_gradient".
    """
    expected, theirs = forward_and_backward(name, ref, inputs)
    output, own = forward_and_backward(name, mine, inputs)
    same(name, output, expected, tol=tol)
    for source, gradient in theirs.items():
        if gradient is None:
            continue
        if own.get(source) is None:
            raise Wrong("no_gradient", name=name, source=source)
        same(f"{name}: d/d {source}", own[source], gradient, tol=tol)


def forward_and_backward(name: str, function: Callable, inputs: tuple) -> tuple[Tensor, dict[str, Tensor | None]]:
    """function(*inputs), and by name the gradients of its sum under fixed random weights."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x for x in inputs]
    given = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    output = tensor(name, function(*given))
    if any(isinstance(x, Tensor) and not torch.equal(x, now) for x, now in zip(inputs, given, strict=True)):
        raise Wrong("overwrites", name=name)
    sources = {f"input {i}": x for i, x in enumerate(leaves, 1) if isinstance(x, Tensor) and x.requires_grad}
    sources |= dict(function.named_parameters()) if isinstance(function, nn.Module) else {}
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output.dtype)
    try:
        found = torch.autograd.grad((output * weights).sum(), list(sources.values()), allow_unused=True)
    except RuntimeError as error:
        raise Wrong("backward", name=name, error=str(error).splitlines()[0]) from error
    return output, dict(zip(sources, found, strict=True))
