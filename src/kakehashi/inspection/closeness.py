"""When two tensors are equal up to rounding: the largest difference, relative to the largest value."""

import math

import torch
from torch import Tensor

# Rounding that a deep model may gather, relative to the largest value of a tensor
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def wide(x: Tensor) -> Tensor:
    """The numbers in float64; of complex ones real and imaginary parts."""
    return (torch.view_as_real(x) if x.is_complex() else x).detach().double()


def distance(a: Tensor, b: Tensor) -> float:
    """max |a - b| / max(|a|, |b|), over finite values; 0 where both are 0.

    inf where shapes differ, or where one is infinite or NaN and the other is not the same.
    """
    if a.shape != b.shape:
        return math.inf
    a, b = wide(a), wide(b)
    same = (a == b) | (a.isnan() & b.isnan())
    if same.all():
        return 0.0
    if not (same | (a.isfinite() & b.isfinite())).all():
        return math.inf
    scale = torch.cat((a[a.isfinite()], b[b.isfinite()])).abs().max()
    return ((a - b)[~same].abs().max() / scale).item()


def tolerance(*tensors: Tensor) -> float:
    """What counts as rounding for tensors of these dtypes: the coarsest one's. 0 for whole numbers and bool."""
    return max(TOLERANCES.get(x.dtype, 0.0) for x in tensors)
