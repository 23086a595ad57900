"""Recognisers that look at calls and parameters."""

from torch import Tensor

from kakehashi.inspection.closeness import distance, wide
from kakehashi.inspection.patterns.seen import Pattern, Seen


def order(seen: Seen) -> Pattern | None:
    """Both made the same calls in another order; a norm that moved is named."""
    a, b = seen.order
    if a == b or sorted(a) != sorted(b):
        return None
    first = next(i for i in range(len(a)) if a[i] != b[i])
    if a[first] in seen.norms or b[first] in seen.norms:
        before = a[first] in seen.norms
        return Pattern(
            "norm_order", {"side": "AB"[not before], "other": "BA"[not before], "norm": (a if before else b)[first]}
        )
    return Pattern("order", {"a": ", ".join(a), "b": ", ".join(b)})


def head(seen: Seen) -> Pattern | None:
    """a and b are what went in times another matrix each, which is an embedding in one model only: its head."""
    if not seen.alike or seen.a.ndim < 2:
        return None
    for x in seen.given:
        if x.is_floating_point() and x.shape[:-1] == seen.a.shape[:-1]:
            wanted = (seen.a.shape[-1], x.shape[-1])
            found = [
                [name for name, p in parameters.items() if p.shape == wanted and seen.equal(wide(x) @ wide(p).T, y)]
                for parameters, y in zip(seen.parameters, (seen.a64, seen.b64), strict=True)
            ]
            tied = [not tables.isdisjoint(names) for tables, names in zip(seen.tables, found, strict=True)]
            if all(found) and tied[0] != tied[1]:
                return Pattern("head", {"a": found[0][0], "b": found[1][0]})
    return None


def batch_statistics(seen: Seen) -> Pattern | None:
    """(B, C, ...): a norm of x by its own mean and variance in one model, by vectors that the other keeps there."""
    if not seen.alike or seen.a.ndim < 3:
        return None
    sides = list(zip((seen.a64, seen.b64), seen.parameters, strict=True))
    kept = [[wide(p) for p in parameters.values() if p.shape == y.shape[1:2]] for y, parameters in sides]
    for side in (0, 1):
        if by_batch(sides[side][0], kept[side]):
            for x in seen.given:
                if x.shape == seen.a.shape and by_memory(wide(x), sides[1 - side][0], kept[1 - side], seen.tolerance):
                    return Pattern("batch_statistics", {"side": "AB"[side], "other": "BA"[side]})
    return None


def by_batch(y: Tensor, kept: list[Tensor]) -> bool:
    """Whether the channels' means are one of the vectors, and their deviations another: bias and gain."""
    others = [axis for axis in range(y.ndim) if axis != 1]
    means, deviations = y.mean(others), y.var(others, correction=0).sqrt()  # (C,)
    far = deviations.max().clamp(min=1e-300)
    # eps makes a deviation smaller than the gain, much so where the channel hardly varies
    short = [(v.abs() - deviations) / far for v in kept]
    return any((means - v).abs().max() < 1e-4 * far for v in kept) and any(
        s.min() > -1e-3 and s.abs().median() < 1e-2 for s in short
    )


def by_memory(x: Tensor, y: Tensor, kept: list[Tensor], tolerance: float) -> bool:
    """Whether y is a line of x in each channel, which takes one of the vectors to another: a kept mean to the bias."""
    x, y = (each.movedim(1, 0).flatten(1) for each in (x, y))  # (C, N)
    from_mean = x - x.mean(1, keepdim=True)
    slope = (from_mean * y).sum(1) / from_mean.square().sum(1).clamp(min=1e-300)  # (C,)
    start = y.mean(1) - slope * x.mean(1)  # (C,)
    line = slope[:, None] * x + start[:, None]
    if distance(line, y) > 10 * tolerance:
        return False
    far = y.abs().max()
    return any((slope * m + start - v).abs().max() < 1e-4 * far for m in kept for v in kept if m is not v)
