"""ResNet: an image classifier whose blocks add to what they were given, so that a hundred of them can be trained.

Papers: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), tables 1 and 6; Ioffe & Szegedy, "Batch
Normalization" (2015); He et al., "Delving Deep into Rectifiers" (2015), for the initialisation. Deviation, as in every
implementation since: the bottleneck halves the image in its 3 x 3 convolution, not in the 1 x 1 before it, which
would throw three of four places away unseen. residual=False gives the paper's plain twin, for comparison.

Axes: B batch, C channels (C_in, C_out), H height, W width (h, w after a stride), V classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, Output

TASK = "classify"


@dataclass(frozen=True)
class Config:
    n_classes: int = 10  # V
    n_channels: int = 1  # of the image: 1 for grey, 3 for colours
    depths: tuple[int, ...] = (3, 3, 3)  # blocks of each stage; all but the first stage halve height and width
    widths: tuple[int, ...] = (16, 32, 64)  # channels of each stage
    bottleneck: bool = False  # blocks of three convolutions, the middle one a quarter as wide
    stem: str = "small"  # "small": 3 x 3; "large", for photographs: 7 x 7 and a pool, a quarter of height and width
    shortcut: str = "projection"  # where sizes change: "projection", a 1 x 1 convolution, or "pad", with zeros
    residual: bool = True  # False: the plain twin, without shortcuts
    fused: bool = False  # torch's kernel for batch normalisation instead of the written-out one

    def __post_init__(self):
        for name in ("n_classes", "n_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("depths", "widths"):
            sizes = tuple(getattr(self, name))  # what is read from a file comes as a list
            object.__setattr__(self, name, sizes)
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name} must be sizes of at least 1, got {sizes}")
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths and widths must be as many, got {self.depths} and {self.widths}")
        if self.bottleneck and any(width % 4 for width in self.widths):
            raise ValueError(f"with a bottleneck, widths must be multiples of 4, got {self.widths}")
        if self.stem not in ("small", "large"):
            raise ValueError(f"stem must be small or large, got {self.stem!r}")
        if self.shortcut not in ("projection", "pad"):
            raise ValueError(f"shortcut must be projection or pad, got {self.shortcut!r}")
        widths = [self.stem_width, *self.widths]
        if self.shortcut == "pad" and widths != sorted(widths):
            raise ValueError(f"shortcut pad needs widths that never shrink, from the stem's on, got {widths}")

    @property
    def stem_width(self) -> int:
        return self.widths[0] if self.stem == "small" else 64


PRESETS = {
    "resnet20": Config(shortcut="pad"),
    "resnet56": Config(depths=(9, 9, 9), shortcut="pad"),
    "plain20": Config(residual=False),
    "plain56": Config(depths=(9, 9, 9), residual=False),
    "resnet18": Config(1000, 3, (2, 2, 2, 2), (64, 128, 256, 512), stem="large"),
    "resnet34": Config(1000, 3, (3, 4, 6, 3), (64, 128, 256, 512), stem="large"),
    "resnet50": Config(1000, 3, (3, 4, 6, 3), (256, 512, 1024, 2048), bottleneck=True, stem="large"),
}


class Conv(nn.Module):
    """Every place of the image looks at its neighbours through the same small window.

    Parameters: weight (C_out, C_in, size, size), normal with deviation sqrt(2 / (size^2 C_out)). No bias: the norm that
    follows has one.
    """

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.padding = size // 2  # as many zeros around the image as the window reaches over its edge
        # a gradient comes back from size^2 C_out places, half of them cut off by relu: 2 keeps its scale
        self.weight = nn.Parameter(torch.randn(n_out, n_in, size, size) * math.sqrt(2 / (size * size * n_out)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, ceil(H / stride), ceil(W / stride))."""
        return F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)  # (B, C_out, h, w)


class BatchNorm(nn.Module):
    """Each channel to mean 0 and variance 1 over the batch and all places, then a learned gain and bias.

    Parameters: weight (C), starts at 1; bias (C), starts at 0. Buffers: running_mean (C), starts at 0; running_var (C),
    starts at 1: exponential averages with `momentum`, as torch.nn.BatchNorm2d keeps them, used in eval(). Keeps `.eps`
    and `.momentum`, which FusedBatchNorm reads.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.training:
            # a channel means the same at every place: B H W numbers for one mean
            mean = x.mean((0, 2, 3))  # (C,)
            variance = (x - mean[:, None, None]).square().mean((0, 2, 3))  # (C,)
            self.remember(mean, variance, x.numel() // x.shape[1])
        else:
            mean, variance = self.running_mean, self.running_var
        # eps stands inside the root: a channel that never varies is divided by sqrt(eps), not by 0
        scale = self.weight / torch.sqrt(variance + self.eps)  # (C,)
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Move the running statistics towards those of a batch of n numbers a channel."""
        # the running variance estimates the world's: divided by n - 1 instead of n
        unbiased = variance * (n / max(n - 1, 1))
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


class Unit(nn.Module):
    """A convolution and its norm. Parameters: conv, norm."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1, fused: bool = False):
        super().__init__()
        self.conv = Conv(n_in, n_out, size, stride)
        self.norm = (FusedBatchNorm if fused else BatchNorm)(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, h, w)."""
        return self.norm(self.conv(x))


class Pad(nn.Module):
    """A shortcut without parameters: every stride-th place, and channels of zeros behind those that are there."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.more = n_out - n_in
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, h, w)."""
        x = x[:, :, :: self.stride, :: self.stride]  # (B, C_in, h, w)
        return F.pad(x, (0, 0, 0, 0, 0, self.more))  # pads from the last axis backwards: W, H, C


class Block(nn.Module):
    """What is learnt is added to what came in: a block that has nothing to say lets everything pass.

    Parameters: units, two of 3 x 3; or, with a bottleneck, 1 x 1, 3 x 3 at a quarter of the width, 1 x 1. shortcut, a
    Unit of 1 x 1 where height, width or channels change; else, and with shortcut "pad" or without residual, none.
    """

    def __init__(self, config: Config, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.residual = config.residual
        fused, inner = config.fused, n_out // 4
        if config.bottleneck:
            # the 3 x 3 has the stride: it sees every place, a 1 x 1 would skip three of four
            shapes = [(n_in, inner, 1, 1), (inner, inner, 3, stride), (inner, n_out, 1, 1)]
        else:
            shapes = [(n_in, n_out, 3, stride), (n_out, n_out, 3, 1)]
        self.units = nn.ModuleList(Unit(*shape, fused) for shape in shapes)
        self.shortcut: nn.Module = nn.Identity()
        if config.residual and (stride > 1 or n_in != n_out):
            pad = config.shortcut == "pad"
            self.shortcut = Pad(n_in, n_out, stride) if pad else Unit(n_in, n_out, 1, stride, fused)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, h, w)."""
        *inner, last = self.units
        y = x
        for unit in inner:
            y = F.relu(unit(y))
        # the last unit has no relu of its own, so that it can take away as well as add
        y = last(y)  # (B, C_out, h, w)
        if self.residual:
            y = self.shortcut(x) + y
        return F.relu(y)


class ResNet(nn.Module):
    """A stem, stages of blocks, the mean over all places, one linear layer.

    The large stem ends in a pool: the largest of 3 x 3 places, stride 2, beyond the edge nothing.
    Parameters: stem, a Unit; blocks, all stages' one after another; head, torch's Linear, as it draws it. Keeps
    `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        width = config.stem_width
        size, stride = (3, 1) if config.stem == "small" else (7, 2)
        self.stem = Unit(config.n_channels, width, size, stride, config.fused)
        blocks = []
        for stage, (depth, n_out) in enumerate(zip(config.depths, config.widths, strict=True)):
            for i in range(depth):
                # the first block of a stage halves the image while it doubles the channels: the work stays the same
                blocks.append(Block(config, width, n_out, stride=2 if stage and i == 0 else 1))
                width = n_out
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(width, config.n_classes)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Output:
        """x (B, C, H, W), targets (B) -> logits (B, V), loss."""
        x = F.relu(self.stem(x))  # (B, C, h, w)
        if self.config.stem == "large":
            x = F.max_pool2d(x, 3, stride=2, padding=1)  # (B, C, h, w)
        for block in self.blocks:
            x = block(x)
        # where something was seen does not matter: the mean over all places
        logits = self.head(x.mean((2, 3)))  # (B, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, V), targets (B) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


# The same by torch's kernel: nothing to learn from, faster. Config.fused chooses it; a test holds them equal.
class FusedBatchNorm(BatchNorm):
    """`BatchNorm` by torch's kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.training and x.numel() == x.shape[1]:
            return super().forward(x)  # the kernel refuses one number a channel
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps)


Model = ResNet
