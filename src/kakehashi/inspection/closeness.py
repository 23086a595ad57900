"""When two tensors are equal up to rounding: the largest difference, relative to the largest value."""

import math

import torch
from torch import Tensor

# Rounding that a deep model may gather, relative to the largest value of a tensor
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def real(x: Tensor) -> Tensor:
    """Complex numbers as pairs, real and imaginary part, along one more axis; others as they are."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def wide(x: Tensor) -> Tensor:
    """The numbers in float64; complex ones as pairs."""
    return real(x).detach().double()


def alike(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors of one shape are the same, as NaN and NaN are: a mask."""
    return (a == b) | (a.isnan() & b.isnan())


def distance(a: Tensor, b: Tensor) -> float:
    """max |a - b| / max(|a|, |b|), over finite values; 0 where both are 0.

    inf where shapes differ, or where one is infinite or NaN and the other is not the same.
    """
    a, b = wide(a), wide(b)
    if a.shape != b.shape:
        return math.inf
    same = alike(a, b)
    if same.all():
        return 0.0
    if not (same | (a.isfinite() & b.isfinite())).all():
        return math.inf
    scale = torch.cat((a[a.isfinite()], b[b.isfinite()])).abs().max()
    return ((a - b)[~same].abs().max() / scale).item()


def largest(a: Tensor, b: Tensor) -> float:
    """max |a - b|; NaN where shapes differ, or where one alone is NaN."""
    a, b = wide(a), wide(b)
    if a.shape != b.shape:
        return math.nan
    apart = (a - b)[~alike(a, b)].abs()
    return apart.max().item() if apart.numel() else 0.0


def tolerance(*tensors: Tensor) -> float:
    """What counts as rounding for tensors of these dtypes: the coarsest one's. 0 for whole numbers and bool."""
    return max(TOLERANCES.get(x.real.dtype, 0.0) for x in tensors)
