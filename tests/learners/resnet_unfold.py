"""A right ResNet from windows laid out as rows: unfold, einsum, and moments of a table with a column a channel."""

import torch
from torch import einsum, nn

from kakehashi.models.protocol import Output

REFERENCE = "resnet"


def positive(x):
    return x.clamp(min=0)


class Conv(nn.Module):
    def __init__(self, n_in, n_out, size, stride=1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in, size, size).normal_(0, (n_out * size**2 / 2) ** -0.5))
        self.size, self.stride = size, stride

    def forward(self, x):
        reach = self.size // 2
        padded = nn.functional.pad(x, (reach,) * 4)
        windows = padded.unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)  # (B, C, h, w, size, size)
        return einsum("bchwij,ocij->bohw", windows, self.weight)


class BatchNorm(nn.Module):
    def __init__(self, width, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        table = x.movedim(1, -1)  # (B, H, W, C)
        mean, var = self.moments(table.flatten(0, 2)) if self.training else (self.running_mean, self.running_var)
        return ((table - mean) / (var + self.eps) ** 0.5 * self.weight + self.bias).movedim(-1, 1)

    def moments(self, rows):
        n, mean = len(rows), rows.mean(0)
        var = (rows - mean).pow(2).sum(0) / n
        new = {"running_mean": mean.detach(), "running_var": (var * n / max(n - 1, 1)).detach()}
        for name, value in new.items():
            old = getattr(self, name)
            setattr(self, name, old + self.momentum * (value - old))
        return mean, var


class Pad(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        # a 1 x 1 convolution whose weights are never learnt
        self.register_buffer("pick", torch.eye(n_out, n_in)[:, :, None, None], persistent=False)
        self.stride = stride

    def forward(self, x):
        return torch.conv2d(x, self.pick.to(x.dtype), stride=self.stride)


class Block(nn.Module):
    def __init__(self, config, n_in, n_out, stride):
        super().__init__()
        widths, sizes, strides = [n_in, n_out, n_out], [3, 3], [stride, 1]
        if config.bottleneck:
            widths, sizes, strides = [n_in, n_out // 4, n_out // 4, n_out], [1, 3, 1], [1, stride, 1]
        steps = zip(widths[:-1], widths[1:], sizes, strides, strict=True)
        self.units = nn.ModuleList([Unit(*step, config.fused) for step in steps])  # noqa: F821
        if not config.residual:
            self.shortcut = lambda x: 0
        elif (n_in, stride) == (n_out, 1):
            self.shortcut = lambda x: x
        elif config.shortcut == "pad":
            self.shortcut = Pad(n_in, n_out, stride)
        else:
            self.shortcut = Unit(n_in, n_out, 1, stride, config.fused)  # noqa: F821

    def forward(self, x):
        carried = self.shortcut(x)
        for i, unit in enumerate(self.units):
            x = unit(x if i == 0 else positive(x))
        return positive(carried + x)


def cross_entropy(logits, targets):
    counted = targets >= 0
    chosen = logits[counted].gather(1, targets[counted][:, None]).squeeze(1)
    return (logits[counted].logsumexp(1) - chosen).sum() / max(1, int(counted.sum()))


class ResNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        n, stem = config.stem_width, (3, 1) if config.stem == "small" else (7, 2)
        self.stem = Unit(config.n_channels, n, *stem, config.fused)  # noqa: F821
        self.blocks = nn.ModuleList()
        for width, depth in zip(config.widths, config.depths, strict=True):
            self.blocks.append(Block(config, n, width, 2 if self.blocks else 1))
            self.blocks.extend(Block(config, width, width, 1) for _ in range(depth - 1))
            n = width
        self.head = nn.Linear(n, config.n_classes)

    def forward(self, x, targets=None):
        x = positive(self.stem(x))
        if self.config.stem == "large":
            padded = nn.functional.pad(x, (1, 1, 1, 1), value=float("-inf"))
            x = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
        for block in self.blocks:
            x = block(x)
        logits = self.head(einsum("bchw->bc", x) / x[0, 0].numel())
        loss = None
        if targets is not None:
            loss = cross_entropy(logits, targets)
        return Output(logits, loss)
