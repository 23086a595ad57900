"""Recognisers of where the numbers stand: the same ones in other places, and some places alone."""

import torch
from torch import Tensor

from kakehashi.inspection.closeness import wide
from kakehashi.inspection.patterns.seen import Pattern, Seen


def exchanged(seen: Seen) -> Pattern | None:
    """Two that went in stand crosswise: a is a multiple of x @ y.T, b of y @ x.T, as scores with q and k exchanged."""
    if not seen.alike or seen.a.ndim < 2 or not seen.equal(seen.a64.mT, seen.b64):
        return None
    given = [wide(x) for x in seen.given if x.is_floating_point() and x.ndim > 1]
    for x in given:
        for y in given:
            if x is not y and x.shape == y.shape and x.shape[:-1] == seen.a.shape[:-1]:
                product = x @ y.mT
                c = (product * seen.a64).sum() / product.square().sum()
                # a product that both models have was transposed afterwards
                known = any(seen.equal(each, one) for each in (product, product.mT) for one in given)
                if not known and seen.equal(c * product, seen.a64):
                    return Pattern("exchanged")
    return None


def transpose(seen: Seen) -> Pattern | None:
    """b is a with two axes exchanged."""
    for i, j in axes(seen.a):
        if seen.equal(seen.a64.transpose(i, j), seen.b64):
            return Pattern("transpose", {"i": i, "j": j})
    return None


def layout(seen: Seen) -> Pattern | None:
    """A reshape where a transpose was needed, or the other way round.

    b is a with two axes exchanged, read in the old shape; or a and b are both read from what went in, x, one of them
    with two of its axes exchanged before.
    """
    if not seen.alike:
        return None
    for i, j in axes(seen.a):
        if seen.equal(seen.a64.transpose(i, j).reshape(seen.a.shape), seen.b64):
            return Pattern("layout", {"i": i, "j": j, "shape": tuple(seen.a.shape), "side": "B"})
    for x in seen.given:
        if x.numel() == seen.a.numel() and x.is_floating_point():
            plain = wide(x).reshape(seen.a.shape)
            for side, y, other in (("B", seen.a64, seen.b64), ("A", seen.b64, seen.a64)):
                if seen.equal(plain, y):
                    for i, j in axes(x):
                        if seen.equal(wide(x).transpose(i, j).reshape(seen.a.shape), other):
                            return Pattern("layout", {"i": i, "j": j, "shape": tuple(x.shape), "side": side})
    return None


def axes(x: Tensor) -> list[tuple[int, int]]:
    """The pairs of axes of which both are longer than 1."""
    return [(i, j) for i in range(x.ndim) for j in range(i + 1, x.ndim) if min(x.shape[i], x.shape[j]) > 1]


def repeated(seen: Seen) -> Pattern | None:
    """The same few parts repeated along an axis: side by side (0 0 1 1) in one, in turn (0 1 0 1) in the other."""
    if not seen.alike:
        return None
    for axis in range(1, seen.a.ndim - 1):
        a, b = seen.a64.movedim(axis, 0), seen.b64.movedim(axis, 0)
        for groups in (g for g in range(2, len(a) // 2 + 1) if len(a) % g == 0):
            n = len(a) // groups
            for side, (in_turn, side_by_side) in enumerate(((a, b), (b, a))):
                parts = side_by_side[::n]
                if seen.equal(side_by_side, parts.repeat_interleave(n, 0)) and seen.equal(
                    in_turn, parts[torch.arange(len(a)) % groups]
                ):
                    sides = {"side": "AB"[side], "other": "BA"[side]}
                    return Pattern("repeated", {"n": n, "groups": groups} | sides)
    return None


def permutation(seen: Seen) -> Pattern | None:
    """b is a with the entries of one axis in another order, and what that order is."""
    if not seen.alike or not (seen.a64.isfinite() & seen.b64.isfinite()).all():
        return None
    for axis in range(seen.a.ndim - 1, 0, -1):
        order = moved(seen, axis)
        if order is None or order == list(range(len(order))):
            continue
        if axis == seen.a.ndim - 1:
            return features(order, one_head=seen.a.ndim == 4)  # (B, H, T, D)
        return Pattern("heads" if seen.a.ndim == 4 and axis == 1 else "axis", {"axis": axis, "order": shown(order)})
    return None


def moved(seen: Seen, axis: int) -> list[int] | None:
    """The order with b[i] = a[order[i]] along an axis; None where there is none."""
    a, b = (x.movedim(axis, 0).flatten(1) for x in (seen.a64, seen.b64))
    # entries are found by one number each, their shadow in a direction that nobody chose
    direction = torch.randn(a.shape[1], dtype=a.dtype, generator=torch.Generator().manual_seed(0))
    order = torch.empty(len(a), dtype=torch.int64)
    order[(b @ direction).argsort()] = (a @ direction).argsort()
    return order.tolist() if seen.equal(a[order], b) else None


def features(order: list[int], one_head: bool) -> Pattern:
    """What an order of the features on the last axis is."""
    n = len(order)
    sizes = [D for D in range(2, n + 1) if n % D == 0]
    for D in sizes:  # pairs (i, i + D/2) stand as neighbours, in every head: RoPE's two conventions
        if D % 2 == 0 and D > 2 and (one_head or D < n):
            to_neighbours = torch.arange(D).view(2, -1).T.flatten()
            for side, inner in ((0, to_neighbours), (1, to_neighbours.argsort())):
                if order == (torch.arange(0, n, D)[:, None] + inner).flatten().tolist():
                    return Pattern("pairing", {"side": "AB"[side], "other": "BA"[side], "D": D})
    for D in sizes[:-1]:
        if order == torch.arange(n).view(-1, D).T.flatten().tolist():
            return Pattern("heads_layout", {"H": n // D, "D": D})
    for D in reversed(sizes[:-1]):
        blocks = torch.tensor(order).view(-1, D)
        if torch.equal(blocks, blocks[:, :1] + torch.arange(D)) and not (blocks[:, 0] % D).any():
            return parts((blocks[:, 0] // D).tolist(), D)
    return Pattern("axis", {"axis": -1, "order": shown(order)})


def parts(order: list[int], size: int) -> Pattern:
    """What an order of whole blocks of the last axis is."""
    if len(order) == 3:
        return Pattern("qkv", {"order": "".join("qkv"[i] for i in order)})
    if len(order) % 3 == 0 and len(order) > 3:
        by_part = torch.arange(len(order)).view(3, -1).T.flatten()
        for side, by_head in ((0, by_part), (1, by_part.argsort())):
            if order == by_head.tolist():
                return Pattern("qkv_layout", {"H": len(order) // 3, "D": size, "side": "AB"[side], "other": "BA"[side]})
    return Pattern("heads", {"axis": -1, "order": shown(order)})


def shown(order: list[int]) -> str:
    return " ".join(map(str, order[:12])) + (" ..." if len(order) > 12 else "")


def mask(seen: Seen) -> Pattern | None:
    """Who may look at whom differs: read from a mask, from scores with -inf, or from weights that sum to 1."""
    if min(seen.a.ndim, seen.b.ndim) < 2 or seen.a.shape[-2:] != seen.b.shape[-2:]:
        return None
    a, b = visible(seen.a), visible(seen.b)
    if a is None or b is None:
        return None
    a, b = torch.broadcast_tensors(a, b)
    T, S = a.shape[-2:]
    if torch.equal(a, b) or S < 2:
        return None
    if T > 1:
        if not (a | b).diagonal(S - T, -2, -1).any():  # neither sees itself: True is what is hidden
            return None
        (back_a, ahead_a), (back_b, ahead_b) = reach(a), reach(b)
        if ahead_a != ahead_b:
            return Pattern("mask_ahead", {"a": ahead_a, "b": ahead_b})
        if back_a != back_b:
            return Pattern("mask_back", {"a": back_a, "b": back_b})
    return Pattern("mask_other", {"a": a.double().mean().item(), "b": b.double().mean().item()})


def visible(x: Tensor) -> Tensor | None:
    """(..., T, S) -> bool, True = may look; None where this is no mask, no scores and no weights."""
    if x.dtype == torch.bool:
        return x
    if not x.is_floating_point() or x.isnan().any():
        return None
    if x.min() < -1e4:
        return x > -1e4
    rows = wide(x).sum(-1)
    return x > 0 if x.min() >= 0 and ((rows - 1).abs() < 1e-2).all() else None


def softmax_axis(seen: Seen) -> Pattern | None:
    """Shares that sum to 1 along the last axis in one model, and along the axis before it in the other."""
    if not seen.alike or seen.a.ndim < 2 or min(seen.a64.min(), seen.b64.min()) < 0:
        return None
    axes_of_a, axes_of_b = ([axis for axis in (-1, -2) if sums_to_1(x, axis)] for x in (seen.a64, seen.b64))
    if sorted((axes_of_a, axes_of_b)) != [[-2], [-1]]:
        return None
    side = axes_of_b == [-1]
    return Pattern("softmax_axis", {"side": "AB"[side], "other": "BA"[side]})


def sums_to_1(x: Tensor, axis: int) -> bool:
    return bool(((x.sum(axis) - 1).abs() < 1e-3).all())


def reach(sight: Tensor) -> tuple[int, int]:
    """How many places back, and how many ahead, the farthest that any row sees lies; -1 ahead: not even itself."""
    T, S = sight.shape[-2:]
    offset = torch.arange(S) - torch.arange(T)[:, None] - (S - T)
    seen = offset[sight.reshape(-1, T, S).any(0)]
    return (-int(seen.min()), int(seen.max())) if len(seen) else (0, -1)


def positions(seen: Seen) -> Pattern | None:
    """Only some places along the time axis differ: (B, T, C) or (B, H, T, D)."""
    if not seen.alike or seen.a.ndim not in (3, 4):
        return None
    axis = seen.a.ndim - 2
    apart = [not seen.equal(x, y) for x, y in zip(seen.a64.unbind(axis), seen.b64.unbind(axis), strict=True)]
    if all(apart) or not any(apart):
        return None
    return Pattern("positions", {"first": apart.index(True), "n": sum(apart), "of": len(apart)}, weak=True)
