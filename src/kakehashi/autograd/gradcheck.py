"""Is a gradient right? Every entry of every input is moved a little, and the answer compared with the engine's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kakehashi.autograd.tensor import AutogradError, Tensor, grad, no_grad


class GradientError(AutogradError):
    """A gradient that central differences contradict."""


@dataclass(frozen=True)
class Finding:
    """An entry whose gradient is off."""

    input: int  # counted from 0
    index: tuple[int, ...]
    engine: float  # what the engine says
    measured: float  # what central differences say

    def __str__(self) -> str:
        return f"input {self.input} at {self.index}: the gradient is {self.engine:.9g}, measured {self.measured:.9g}"


def findings(
    f: Callable[..., Tensor], *inputs: Any, step: float = 1e-5, tolerance: float = 1e-6, seed: int = 0
) -> list[Finding]:
    """All entries whose gradients are off by more than `tolerance` times the larger of 1 and the gradient, worst first.

    f: of as many tensors as there are inputs, smooth within `step` of them (no kink, no random numbers); what it gives
    may have any shape, and is reduced by random weights drawn from seed. All is computed in float64.
    """
    xs = [Tensor(np.array(x, np.float64), requires_grad=True) for x in inputs]
    y = f(*xs)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, y.shape)
    gradients = grad(y, xs, weights, allow_unused=True)

    @no_grad()
    def measure() -> float:
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
                found.append(Finding(i, index, engine, measured))
    return sorted(found, key=lambda each: -_off(each))


def _off(finding: Finding) -> float:
    off = abs(finding.engine - finding.measured)
    return math.inf if math.isnan(off) else off


def gradcheck(
    f: Callable[..., Tensor], *inputs: Any, step: float = 1e-5, tolerance: float = 1e-6, seed: int = 0
) -> None:
    """Raises GradientError, which names the worst of `findings`, if there are any."""
    found = findings(f, *inputs, step=step, tolerance=tolerance, seed=seed)
    if found:
        entries = sum(np.size(x) for x in inputs)
        raise GradientError(f"{found[0]} ({len(found)} of {entries} entries are off)")
