"""The peers of `bench autograd` that have no file in kakehashi/models, as the manual of torch.nn would have them."""

import torch.nn as nn
from torch import Tensor
from torch.nn import functional as F


class CNN(nn.Module):
    """x (B, n_channels, size, size) -> logits (B, n_classes): the names and shapes of kakehashi.autograd.models.CNN."""

    def __init__(self, n_classes: int = 10, size: int = 8, n_channels: int = 1, n_filters: int = 16):
        super().__init__()
        self.conv1 = nn.Conv2d(n_channels, n_filters, 3, padding=1)
        self.conv2 = nn.Conv2d(n_filters, 2 * n_filters, 3, padding=1)
        self.output = nn.Linear(2 * n_filters * (size // 4) ** 2, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.output(x.flatten(1))


def mlp() -> nn.Module:
    """x (B, 64) -> logits (B, 10), for the digits."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
