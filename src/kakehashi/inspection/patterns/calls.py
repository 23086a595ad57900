"""Recognisers that look at calls and parameters."""

import torch
from torch import Tensor

from kakehashi.inspection.closeness import wide
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
    """a and b are what went in times another matrix each: a head that is the embedding in one model only."""
    if not seen.alike or seen.a.ndim < 2:
        return None
    for x in seen.given:
        if x.is_floating_point() and x.shape[:-1] == seen.a.shape[:-1]:
            wanted = (seen.a.shape[-1], x.shape[-1])
            found = [
                [name for name, p in parameters.items() if p.shape == wanted and seen.equal(wide(x) @ wide(p).T, y)]
                for parameters, y in zip(seen.parameters, (seen.a64, seen.b64), strict=True)
            ]
            if all(found):
                return Pattern("head", {"a": found[0][0], "b": found[1][0]})
    return None


def batch_statistics(seen: Seen) -> Pattern | None:
    """(B, C, ...): the channels of one have the mean and deviation that its parameters say, those of the other not."""
    if not seen.alike or seen.a.ndim < 3:
        return None
    a, b = (
        as_said(x, [wide(p) for p in parameters.values() if p.shape == x.shape[1:2]])
        for x, parameters in zip((seen.a64, seen.b64), seen.parameters, strict=True)
    )
    return Pattern("batch_statistics", {"side": "AB"[b], "other": "BA"[b]}) if a != b else None


def as_said(x: Tensor, vectors: list[Tensor]) -> bool:
    """Whether the channels' means are one of these vectors or 0, and their deviations one or 1: a batch's own norm."""
    others = [axis for axis in range(x.ndim) if axis != 1]
    means, deviations = x.mean(others), x.var(others, correction=0).sqrt()  # (C,)
    by_item = x.flatten(2).mean(2)  # (B, C)
    if (by_item - means).abs().max() <= 1e-3 * deviations.max():  # each item has these means: a norm of its own
        return False
    vectors = [*vectors, torch.zeros_like(means), torch.ones_like(means)]
    far = deviations.max().clamp(min=1e-300)
    # eps makes a deviation smaller than the gain, much so where the channel hardly varies
    short = [(v.abs() - deviations) / far for v in vectors]
    return any((means - v).abs().max() < 1e-4 * far for v in vectors) and any(
        s.min() > -1e-3 and s.abs().median() < 1e-2 for s in short
    )
