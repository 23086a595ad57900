"""A right ResNet by someone who knows torchvision: torch's layers inherited, strides chosen ahead, sums in place."""

import torch
from torch import nn

from kakehashi.models.protocol import Output

REFERENCE = "resnet"


class Conv(nn.Conv2d):
    def __init__(self, n_in, n_out, size, stride=1):
        super().__init__(n_in, n_out, kernel_size=size, stride=stride, padding=(size - 1) // 2, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class BatchNorm(nn.Module):
    def __init__(self, width, eps=1e-5, momentum=0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        self.eps, self.momentum = eps, momentum

    def forward(self, x):
        if not self.training:
            var, mean = self.running_var, self.running_mean
        else:
            var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            n = x.size(0) * x.size(2) * x.size(3)
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.mul_(1 - self.momentum).add_(mean, alpha=self.momentum)
                self.running_var.mul_(1 - self.momentum).add_(var, alpha=self.momentum * n / (n - 1 if n > 1 else 1))
        gain = (var + self.eps).rsqrt() * self.weight
        shift = self.bias.view(1, -1, 1, 1)
        return (x - mean.view(1, -1, 1, 1)).mul(gain.view(1, -1, 1, 1)).add(shift)


class Pad(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.stride = stride
        self.missing = n_out - n_in

    def forward(self, x):
        x = nn.functional.max_pool2d(x, kernel_size=1, stride=self.stride)
        zeros = x.new_zeros(x.size(0), self.missing, x.size(2), x.size(3))
        return torch.cat([x, zeros], dim=1)


class Block(nn.Module):
    def __init__(self, config, n_in, n_out, stride):
        super().__init__()
        planes = n_out // 4 if config.bottleneck else n_out
        units = nn.ModuleList()
        if config.bottleneck:
            units.append(Unit(n_in, planes, 1, fused=config.fused))  # noqa: F821
            units.append(Unit(planes, planes, 3, stride, config.fused))  # noqa: F821
            units.append(Unit(planes, n_out, 1, fused=config.fused))  # noqa: F821
        else:
            units.append(Unit(n_in, planes, 3, stride, config.fused))  # noqa: F821
            units.append(Unit(planes, n_out, 3, fused=config.fused))  # noqa: F821
        self.shortcut = None
        if config.residual and (stride != 1 or n_in != n_out):
            if config.shortcut == "pad":
                self.shortcut = Pad(n_in, n_out, stride)
            else:
                self.shortcut = Unit(n_in, n_out, 1, stride, config.fused)  # noqa: F821
        self.relu = nn.ReLU(inplace=True)
        self.units = units
        self.plain = not config.residual

    def forward(self, x):
        identity = x
        out = self.units[0](x)
        for unit in self.units[1:]:
            out = unit(self.relu(out))
        if self.plain:
            return self.relu(out)
        if self.shortcut is not None:
            identity = self.shortcut(x)
        out += identity
        return self.relu(out)


def cross_entropy(logits, targets):
    if (targets == -100).all():
        return (logits * 0).sum()
    return nn.CrossEntropyLoss()(logits, targets)


class ResNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        large = config.stem == "large"
        size, stride = (7, 2) if large else (3, 1)
        self.config = config
        self.stem = Unit(config.n_channels, config.stem_width, size, stride, config.fused)  # noqa: F821
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1) if large else nn.Identity()
        widths = [width for width, depth in zip(config.widths, config.depths, strict=True) for _ in range(depth)]
        strides = [2 if i == 0 else 1 for depth in config.depths for i in range(depth)]
        strides[0] = 1
        entries = [config.stem_width, *widths[:-1]]
        self.blocks = nn.Sequential(*(Block(config, *each) for each in zip(entries, widths, strides, strict=True)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], config.n_classes)

    def forward(self, x, targets=None):
        x = self.pool(self.relu(self.stem(x)))
        self.seen = x  # for a look from outside
        x = torch.flatten(self.avgpool(self.blocks(x)), 1)
        logits = self.head(x)
        return Output(logits=logits, loss=cross_entropy(logits, targets) if targets is not None else None)
