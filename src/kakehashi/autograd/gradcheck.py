"""Is a gradient right? Every entry of every input is moved a little, and the answer compared with the engine's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kakehashi.autograd.tensor import AutogradError, Tensor, grad


class GradientError(AutogradError):
    """A gradient that central differences contradict."""


@dataclass(frozen=True)
class Finding:
    """An entry whose gradient is off."""

    input: int  # counted from 0
    index: tuple[int, ...]
    engine: float  # what the engine says
    measured: float  # what central differences say
    of: tuple[int, ...] = ()  # the shape of the result; if it is no single number, these are slopes of a weighted sum

    def __str__(self) -> str:
        where = f"input {self.input} at {self.index}"
        if math.prod(self.of) != 1:
            where += f", of all {math.prod(self.of)} results under random weights"
        return f"{where}: the gradient is {self.engine:.9g}, measured {self.measured:.9g}"


def findings(
    f: Callable[..., Tensor], *inputs: Any, step: float = 1e-5, tolerance: float = 1e-6, seed: int = 0
) -> list[Finding]:
    """All entries whose gradients are off by more than `tolerance` times the larger of 1 and the gradient, worst first.

    f: of as many tensors as there are inputs, smooth within `step` of them (no kink, no random numbers); what it gives
    is a number, or is summed under random weights drawn from seed. All is computed in float64.
    """
    xs = [Tensor(np.array(x, np.float64), requires_grad=True) for x in inputs]
    y = f(*xs)
    # weights, as a plain sum can hide what is off: the sum of a softmax is always 1
    weights = np.ones(y.shape) if y.numel() == 1 else np.random.default_rng(seed).uniform(0.5, 1.5, y.shape)
    gradients = grad(y, xs, weights, allow_unused=True)

    def measure() -> float:  # recorded, as f itself may differentiate
        return float((f(*xs).data * weights).sum())

    before = measure()
    if measure() != before:
        raise AutogradError("the function gives another value each time: fix its random numbers, or use eval()")
    found: list[Finding] = []
    for i, (x, g) in enumerate(zip(xs, gradients, strict=True)):
        for index in np.ndindex(x.shape):
            middle = float(x.data[index])
            h = step * max(1.0, abs(middle))
            x.data[index] = middle + h
            above = measure()
            x.data[index] = middle - h
            below = measure()
            x.data[index] = middle
            engine, measured = float(g.data[index]), (above - below) / (2 * h)
            if not abs(engine - measured) <= tolerance * max(1.0, abs(engine), abs(measured)):  # NaN is off, too
                found.append(Finding(i, index, engine, measured, y.shape))
    return sorted(found, key=lambda each: -_off(each))


def _off(finding: Finding) -> float:
    off = abs(finding.engine - finding.measured)
    return math.inf if math.isnan(off) else off


def gradcheck(
    f: Callable[..., Tensor], *inputs: Any, step: float = 1e-5, tolerance: float = 1e-6, seed: int = 0
) -> None:
    """Raises GradientError, which names the worst of `findings`, if there are any.

    A second derivative is checked as the gradient of a gradient:

        gradcheck(lambda x: grad(f(x).sum(), x, create_graph=True)[0], [1.0, 2.0])
    """
    found = findings(f, *inputs, step=step, tolerance=tolerance, seed=seed)
    if found:
        entries = sum(np.size(x) for x in inputs)
        raise GradientError(f"{found[0]} ({len(found)} of {entries} entries are off)")
