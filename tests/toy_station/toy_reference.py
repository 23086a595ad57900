"""A reference of three symbols, small enough to break in every way. Axes: B batch, C width."""

import torch
from torch import Tensor, nn


def squash(x: Tensor) -> Tensor:
    """log(1 + e^x). (B, C) -> (B, C)."""
    # 入力が大きいと e^x があふれる: the larger of the two terms is taken out of the logarithm
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))  # (B, C)


class Gain(nn.Module):
    """Each feature times a number of its own.

    Parameters: weight (C), starts at 1.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        return x * self.weight


class Net(nn.Module):
    """A gain, then the squash, added to what came in.

    Parameters: gain, a Gain.
    """

    def __init__(self, width: int):
        super().__init__()
        self.gain = Gain(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        # x goes on as it is: the gradient has a straight way
        x = x + squash(self.gain(x))  # (B, C)
        return x
