"""Recognisers of what was done to every number: b follows from a, one by one."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from kakehashi.inspection.closeness import distance, wide
from kakehashi.inspection.patterns.seen import Pattern, Seen


def scale(seen: Seen) -> Pattern | None:
    """b = c a, with the c that fits best; named by a size of the tensors where one fits: sqrt(8), 1/64."""
    if not seen.alike:
        return None
    a, b = seen.a64, seen.b64
    finite = a.isfinite() & b.isfinite()
    x, y = a[finite], b[finite]
    if x.numel() < 2 or x.max() == x.min() or not x.any():  # of a constant, any change is a factor and a term alike
        return None
    c = (x @ y / (x @ x)).item()
    if c == 0 or abs(c - 1) <= 10 * seen.tolerance or not seen.equal(c * a, b):
        return None
    ratios = y[x != 0] / x[x != 0]
    if (ratios - c).abs().median() > 1e-2 * abs(c - 1):  # a few large numbers spoke for the rest
        return None
    sizes = {size for tensor in (seen.a, *seen.given) for size in tensor.shape}
    return Pattern("scale", {"c": c, "form": named(c, sizes)})


def named(c: float, sizes: Iterable[int]) -> str:
    """A factor in terms of a size n: sqrt(n), n, their inverses, the root of n / (n - 1); "" where none fits."""
    for n in sorted(set(sizes) - {0, 1}, reverse=True):
        forms = {
            f"sqrt({n})": math.sqrt(n),
            f"1/sqrt({n})": 1 / math.sqrt(n),
            f"{n}": n,
            f"1/{n}": 1 / n,
            f"sqrt({n}/{n - 1})": math.sqrt(n / (n - 1)),
            f"sqrt({n - 1}/{n})": math.sqrt((n - 1) / n),
        }
        for form, value in forms.items():
            if math.isclose(c, value, rel_tol=1e-5):
                return form
    return ""


def shift(seen: Seen) -> Pattern | None:
    """b = a + c."""
    if not seen.alike or not (seen.a64.isfinite() & seen.b64.isfinite()).all():
        return None
    c = (seen.b64 - seen.a64).mean()
    return Pattern("shift", {"c": c.item()}) if seen.equal(seen.a64 + c, seen.b64) else None


def bias(seen: Seen) -> Pattern | None:
    """b = a + v, one vector v along the last axis or along the channels; named where it is a parameter of one."""
    if not seen.alike or seen.a.ndim < 2:
        return None
    d = seen.b64 - seen.a64
    for axis in {seen.a.ndim - 1, 1}:
        others = [each for each in range(seen.a.ndim) if each != axis]
        v = d.mean(others, keepdim=True)
        if d.numel() > v.numel() and v.numel() > 1 and seen.equal(seen.a64 + v, seen.b64):
            owner = parameter(seen, v.flatten(), 1) or parameter(seen, -v.flatten(), 0)
            return Pattern("bias", {"n": v.numel(), "owner": owner})
    return None


def parameter(seen: Seen, value: Tensor, side: int) -> str:
    """The name of the parameter of a (0) or b (1) that has this value; "" where there is none."""
    return next((name for name, p in seen.parameters[side].items() if distance(p, value) <= 1e-3), "")


def dropout(seen: Seen) -> Pattern | None:
    """One is the other, or both are what went in, with a share p of zeros and the rest times 1 / (1 - p)."""
    if not seen.alike:
        return None
    for side, (kept, dropped) in enumerate(((seen.b64, seen.a64), (seen.a64, seen.b64))):
        if p := dropped_share(seen, kept, dropped):
            return Pattern("dropout", {"side": "AB"[side], "p": p})
    for x in seen.like():
        p, q = (dropped_share(seen, x, y) for y in (seen.a64, seen.b64))
        if p and q:
            return Pattern("dropout_both", {"a": p, "b": q})
    return None


def dropped_share(seen: Seen, kept: Tensor, dropped: Tensor) -> float:
    """The p with which dropout makes `dropped` of `kept`; 0 where it does not, or where kept has zeros of its own."""
    zeros, alive = dropped == 0, dropped != 0
    share = zeros.double().mean().item()
    if not 0 < share < 1 or not kept.all() or not (kept[zeros] > 0).any() or not (kept[zeros] < 0).any():
        return 0.0
    c = (dropped[alive] / kept[alive]).median().item()
    # so far may the share of n draws be from the probability
    spread = 5 * math.sqrt(share * (1 - share) / zeros.numel())
    p = 1 - 1 / c if c > 1 else 0.0
    return p if p and abs(p - share) < spread and seen.equal(dropped[alive], c * kept[alive]) else 0.0


def summand(seen: Seen) -> Pattern | None:
    """a - b is what went in: one adds it and the other does not, as where a skip connection is missing."""
    if not seen.alike:
        return None
    d = seen.a64 - seen.b64
    for x in seen.given:
        if x.is_floating_point() and x.any() and x.shape == d.shape[d.ndim - x.ndim :]:
            x = wide(x).expand_as(d)
            for side, difference in ((0, d), (1, -d)):
                # the sum is equal up to rounding, and what is added is large enough to be known
                if seen.equal(seen.a64, seen.b64 + x if side == 0 else seen.b64 - x) and distance(difference, x) < 1e-2:
                    return Pattern("summand", {"side": "AB"[side], "other": "BA"[side]})
    return None


def rounding(seen: Seen) -> Pattern | None:
    """One is the other on the grid of bfloat16 or float16."""
    if not seen.alike or not seen.a.is_floating_point() or not seen.b.is_floating_point():
        return None
    for dtype in (torch.float16, torch.bfloat16):  # the finer one first
        for side, (fine, coarse) in enumerate(((seen.b64, seen.a64), (seen.a64, seen.b64))):
            on_grid = torch.equal(coarse, coarse.to(dtype).double())
            near = ((fine - coarse).abs() <= torch.finfo(dtype).eps * fine.abs() + torch.finfo(dtype).tiny).all()
            if on_grid and near and not torch.equal(fine, fine.to(dtype).double()):
                return Pattern("rounding", {"side": "AB"[side], "dtype": str(dtype).removeprefix("torch.")})
    return None
