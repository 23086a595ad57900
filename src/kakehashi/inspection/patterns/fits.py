"""Recognisers that solve for the function from what went in, x, to what came out: a, and b."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kakehashi.inspection.closeness import distance
from kakehashi.inspection.patterns.numbers import named
from kakehashi.inspection.patterns.seen import Pattern, Seen

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "gelu (erf)": F.gelu,
    "gelu (sigmoid of 1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
ROWS = 64  # of a norm: enough for its unknowns, and each is looked at many times


def activation(seen: Seen) -> Pattern | None:
    """a = f(x) and b = g(x), two of ACTIVATIONS."""
    if not seen.alike:
        return None
    for x in seen.like():
        names = [
            next((name for name, f in ACTIVATIONS.items() if seen.equal(f(x), y)), None) for y in (seen.a64, seen.b64)
        ]
        if all(names) and names[0] != names[1]:
            return Pattern("activation", {"a": names[0], "b": names[1]})
    return None


# --- Norms ---


@dataclass(frozen=True)
class Norm:
    """y = (x - m) / sqrt(v + eps) * gain + c, row by row. centred: m is the mean, else 0. not inside: sqrt(v) + eps."""

    centred: bool
    inside: bool
    eps: float
    gain: Tensor  # (C,)
    error: float


def normalisation(seen: Seen) -> Pattern | None:
    """a and b are norms of the rows of one x, and how these differ: mean, eps, its place, or a common factor."""
    if not seen.alike or seen.a.ndim < 2:
        return None
    for x in seen.like():
        a, b = (fit_norm(x, y, seen.tolerance) for y in (seen.a64, seen.b64))
        if a is None or b is None:
            continue
        if a.centred != b.centred:
            return Pattern("norm_mean", {"side": "AB"[b.centred], "other": "BA"[b.centred]})
        if a.inside != b.inside:
            return Pattern("norm_eps_place", {"side": "AB"[b.inside], "other": "BA"[b.inside]})
        c = (a.gain @ b.gain / (a.gain @ a.gain)).item()
        if abs(c - 1) > 1e-4 and distance(c * a.gain, b.gain) < 1e-3:  # first: of a variance divided by n - 1
            return Pattern("norm_scale", {"c": c, "form": named(c, x.shape[-1:])})  # the eps looks smaller, too
        if abs(math.log(a.eps / b.eps)) > 0.1:
            return Pattern("norm_eps", {"a": a.eps, "b": b.eps})
    return None


def fit_norm(x: Tensor, y: Tensor, tolerance: float) -> Norm | None:
    """The norm that takes the rows of x to those of y, gain and bias solved for; None where none does.

    Of several that do, as where all rows are as long, the plainest: eps inside the root, the mean taken away.
    """
    x, y = x.flatten(0, -2), y.flatten(0, -2)
    step = -(-len(x) // ROWS)
    x, y = x[::step], y[::step]
    if len(x) < 4 or x.shape[1] < 2 or not (x.isfinite().all() and y.isfinite().all()):
        return None
    fits = [solve_eps(x, y, centred, inside) for centred in (True, False) for inside in (True, False)]
    found = [fit for fit in fits if fit]
    best = min((fit.error for fit in found), default=math.inf)
    return next(fit for fit in found if fit.error <= max(2 * best, 1e-9)) if best <= tolerance else None


def solve_eps(x: Tensor, y: Tensor, centred: bool, inside: bool) -> Norm | None:
    """The eps whose norm comes closest to y: a search on its logarithm, coarse, then by golden sections.

    None where the best one is far from y, or so large that nothing would be normalised.
    """
    from_mean = x - x.mean(1, keepdim=True) if centred else x
    variance = from_mean.square().mean(1, keepdim=True)
    up = y - y.mean(0)

    def fit(log_eps: Tensor) -> tuple[Tensor, Tensor]:
        """For each eps (E): the gain (E, C), and how far y is missed (E)."""
        eps = log_eps.exp()[:, None, None]
        normal = from_mean / ((variance + eps).sqrt() if inside else variance.sqrt() + eps)  # (E, R, C)
        # a line for each feature through its points (normal, y): the gain is its slope
        along = normal - normal.mean(1, keepdim=True)
        gain = (along * up).sum(1, keepdim=True) / along.square().sum(1, keepdim=True).clamp(min=1e-300)
        missed = (up - along * gain).abs().amax((1, 2)) / y.abs().max().clamp(min=1e-300)
        return gain[:, 0], missed

    grid = math.log(10) * torch.arange(-28, 3, dtype=torch.float64) / 2  # 1e-14 to 10
    missed = fit(grid)[1]
    at = int(missed[1:-1].argmin()) + 1
    if missed[at] > 0.2:
        return None
    low, high = grid[at - 1], grid[at + 1]
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(30):
        one, two = high - ratio * (high - low), low + ratio * (high - low)
        of_one, of_two = fit(torch.stack((one, two)))[1]
        low, high = (low, two) if of_one < of_two else (one, high)
    log_eps = (low + high) / 2
    gain, missed = fit(log_eps[None])
    eps = log_eps.exp().item()
    if eps > (variance if inside else variance.sqrt()).max():
        return None
    return Norm(centred, inside, eps, gain[0], missed[0].item())


# --- RoPE ---


@dataclass(frozen=True)
class Rotation:
    """Pairs of features turned by place times frequency. halves: (i, i + D/2), else (2i, 2i + 1).

    frequencies (D/2,) in radians a place; start: the first place; theta: None where no base gives the frequencies.
    """

    halves: bool
    frequencies: Tensor
    start: float
    theta: float | None


def rotation(seen: Seen) -> Pattern | None:
    """a and b (..., T, D) are x turned by RoPE, and how these differ: the pairs, the base, the first place."""
    if not seen.alike or seen.a.ndim < 3 or seen.a.shape[-2] < 3 or seen.a.shape[-1] % 2:
        return None
    for x in seen.like():
        a, b = (fit_rotation(x, y, seen.tolerance) for y in (seen.a64, seen.b64))
        if a is None or b is None:
            continue
        if a.halves != b.halves:
            return Pattern("pairing", {"side": "AB"[b.halves], "other": "BA"[b.halves], "D": seen.a.shape[-1]})
        if pattern := turns_apart(a, b):
            return pattern
    return None


def turns_apart(a: Rotation, b: Rotation) -> Pattern | None:
    """The base or the first place in which two rotations differ."""
    if a.theta and b.theta and abs(math.log(a.theta / b.theta)) > 1e-3:
        return Pattern("rope_theta", {"a": a.theta, "b": b.theta})
    if distance(a.frequencies, b.frequencies) < 1e-4 and abs(a.start - b.start) > 1e-2:
        return Pattern("rope_offset", {"places": round(b.start - a.start)})
    return None


def fit_rotation(x: Tensor, y: Tensor, tolerance: float) -> Rotation | None:
    """The rotation that takes x to y, both (..., T, D); None where none does."""
    # what is paired as neighbours may come out as halves
    for halves, halves_out in ((True, True), (False, False), (False, True)):
        zx, zy = as_pairs(x, halves), as_pairs(y, halves_out)  # (..., T, D/2) complex
        # one turn for all heads and texts: their mean, weighted by lengths
        turn = (zy * zx.conj()).flatten(0, -3).sum(0) / zx.abs().square().flatten(0, -3).sum(0)  # (T, D/2)
        if distance(turn * zx, zy) <= tolerance:
            steps = (turn[1:] * turn[:-1].conj()).angle()  # (T - 1, D/2)
            frequencies = steps.mean(0)
            if (steps - frequencies).abs().max() > 1e-2 or not (frequencies > 0).all():
                return None
            start = (turn[0, 0].angle() / frequencies[0]).item()
            return Rotation(halves, frequencies, start, base(frequencies))
    return None


def as_pairs(x: Tensor, halves: bool) -> Tensor:
    """(..., D) -> (..., D/2) complex numbers, one a pair."""
    one, two = x.chunk(2, -1) if halves else (x[..., ::2], x[..., 1::2])
    return torch.complex(one, two)


def base(frequencies: Tensor) -> float | None:
    """The theta of which the n frequencies are theta^(-i/n), i from 0; None where there is none."""
    n = len(frequencies)
    if n < 2 or abs(frequencies[0] - 1) > 1e-3:
        return None
    theta = (frequencies[1] ** -n).item()
    wanted = theta ** (-torch.arange(n) / n)
    return theta if (frequencies / wanted).log().abs().max() < 1e-2 else None


def angles(seen: Seen) -> Pattern | None:
    """a and b (..., T, n) are RoPE's tables of cos or sin, and how these differ: the base, the first place."""
    if not seen.alike or seen.a.ndim < 2 or min(seen.a.shape[-2:]) < 3:
        return None
    a, b = (fit_angles(x.flatten(0, -3)[0] if x.ndim > 2 else x) for x in (seen.a64, seen.b64))
    return turns_apart(a, b) if a and b else None


def fit_angles(table: Tensor) -> Rotation | None:
    """The rotation whose cos or sin a table (T, n) is; None where it is none. A table may hold its columns twice."""
    n = table.shape[1]
    if n % 2 == 0 and torch.equal(table[:, : n // 2], table[:, n // 2 :]):
        table, n = table[:, : n // 2], n // 2
    if n < 2 or table.abs().max() > 1 + 1e-6:
        return None
    # f(t - 1) + f(t + 1) = 2 cos(frequency) f(t), for cos and sin from any place on; best where f(t) is large
    at = table[1:-1, 1].abs().argmax() + 1
    cosine = (table[at - 1, 1] + table[at + 1, 1]) / (2 * table[at, 1])
    frequency = cosine.clamp(-1, 1).acos()
    if frequency <= 0:
        return None
    theta = (frequency**-n).item()
    frequencies = theta ** (-torch.arange(n, dtype=torch.float64) / n)
    for start in sorted(range(-64, 65), key=abs):
        turned = torch.arange(start, start + len(table))[:, None] * frequencies  # (T, n)
        if any((f(turned) - table).abs().max() < 1e-3 for f in (torch.cos, torch.sin)):
            return Rotation(True, frequencies, float(start), theta)
    return None
