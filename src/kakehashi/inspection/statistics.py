"""What is kept of a tensor that is too large to keep."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kakehashi.inspection.closeness import real

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
CHUNK = 2**20  # numbers that are held in float64 at a time
SAMPLE = 2**14  # numbers that quantiles are taken of


@dataclass(frozen=True)
class Statistics:
    """Of a tensor's finite values, computed in float64; NaN where there is none. Complex numbers count as pairs.

    std         around the mean, divided by their number
    rms         the root of the mean square
    largest     of the absolute values; least, most: of the values
    zeros, not_finite   shares of all values
    quantiles   of at most 16,384 values drawn evenly: share -> value
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    mean: float
    std: float
    rms: float
    largest: float
    least: float
    most: float
    zeros: float
    not_finite: float
    quantiles: dict[float, float]

    @classmethod
    @torch.no_grad()
    def of(cls, x: Tensor) -> "Statistics":
        """Of a tensor of any shape and dtype, a piece at a time; no random number is drawn from torch's own state."""
        pieces = real(x.detach()).reshape(-1).split(CHUNK)
        n = n_finite = n_zeros = 0
        total, least, most = 0.0, math.inf, -math.inf
        for piece in pieces:
            values = piece.cpu().double()  # some devices have no float64
            finite = values[values.isfinite()]
            n, n_finite, n_zeros = n + len(values), n_finite + len(finite), n_zeros + int((values == 0).sum())
            if len(finite):
                total += finite.sum().item()
                least, most = min(least, finite.min().item()), max(most, finite.max().item())
        if not n_finite:
            none = math.nan
            return cls(tuple(x.shape), x.dtype, none, none, none, none, none, none, 0.0, n and 1.0, {})
        mean = total / n_finite
        # around the mean in a second pass: a difference of sums of squares would lose a small deviation
        squares = sum((piece.cpu().double() - mean).square().nan_to_num(0, 0, 0).sum().item() for piece in pieces)
        variance = squares / n_finite
        return cls(
            tuple(x.shape),
            x.dtype,
            mean,
            math.sqrt(variance),
            math.sqrt(variance + mean**2),
            max(abs(least), abs(most)),
            least,
            most,
            n_zeros / n,
            1 - n_finite / n,
            quantiles(x, n),
        )


def quantiles(x: Tensor, n: int) -> dict[float, float]:
    """QUANTILES of the finite ones of SAMPLE values, or of all n where they are fewer."""
    values = real(x.detach()).reshape(-1)
    if n > SAMPLE:
        drawn = torch.randint(n, (SAMPLE,), generator=torch.Generator().manual_seed(0))
        values = values[drawn.to(values.device)]
    values = values.cpu().double()
    values = values[values.isfinite()]
    if not len(values):
        return {}
    at = torch.tensor(QUANTILES, dtype=values.dtype)
    return dict(zip(QUANTILES, values.quantile(at).tolist(), strict=True))
