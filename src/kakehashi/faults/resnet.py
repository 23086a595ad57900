"""Faults of the ResNet."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.resnet"


def probes(module: ModuleType) -> Iterator["Probe"]:
    """With both shortcuts and none, with a bottleneck and the stem for photographs."""
    from kakehashi.faults.liveness import classifier

    sizes = {"depths": (1, 2), "widths": (4, 8)}
    yield from classifier(module, "projection", sizes)
    yield from classifier(module, "pad", sizes | {"shortcut": "pad"})
    yield from classifier(module, "plain", sizes | {"residual": False})
    yield from classifier(module, "bottleneck", sizes | {"bottleneck": True, "stem": "large"})


FAULTS = (
    Fault(
        "resnet-wrong-fan",
        "convolution",
        "weight_initialization",
        MODULE,
        (Edit("Conv.__init__", "math.sqrt(2 / (size * size * n_out))", "math.sqrt(2 / (size * size * n_in))"),),
        changes=("init",),
        level=3,
    ),
    Fault(
        "resnet-norm-eps-outside",
        "batchnorm",
        "stability_parameter",
        MODULE,
        (Edit("BatchNorm.forward", "torch.sqrt(variance + self.eps)", "(torch.sqrt(variance) + self.eps)"),),
        changes=("loss", "logits", "grad", "buffers"),
        level=3,
    ),
    Fault(
        "resnet-norm-variance-about-zero",
        "batchnorm",
        "statistics",
        MODULE,
        (Edit("BatchNorm.forward", "(x - mean[:, None, None]).square()", "x.square()"),),
        changes=("loss", "logits", "grad", "buffers"),
        level=2,
    ),
    Fault(
        "resnet-norm-scale-without-gradient",
        "batchnorm",
        "statistics",
        MODULE,
        (Edit("BatchNorm.forward", "torch.sqrt(variance + self.eps)", "torch.sqrt(variance.detach() + self.eps)"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "resnet-norm-batch-statistics-in-eval",
        "mode",
        "batch_statistics_in_eval",
        MODULE,
        (
            Edit(
                "BatchNorm.forward",
                """
                if self.training:
                    mean = x.mean((0, 2, 3))
                    variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
                    self.remember(mean, variance, x.numel() // x.shape[1])
                else:
                    mean, variance = self.running_mean, self.running_var
                """,
                """
                mean = x.mean((0, 2, 3))
                variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
                self.remember(mean, variance, x.numel() // x.shape[1])
                """,
            ),
        ),
        changes=("loss", "logits", "grad", "buffers"),
        level=2,
    ),
    Fault(
        "resnet-norm-running-statistics-in-training",
        "mode",
        "running_statistics_in_training",
        MODULE,
        (
            Edit(
                "BatchNorm.forward",
                """
                if self.training:
                    mean = x.mean((0, 2, 3))
                    variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
                    self.remember(mean, variance, x.numel() // x.shape[1])
                else:
                    mean, variance = self.running_mean, self.running_var
                """,
                """
                if self.training:
                    mean = x.mean((0, 2, 3))
                    variance = (x - mean[:, None, None]).square().mean((0, 2, 3))
                    self.remember(mean, variance, x.numel() // x.shape[1])
                mean, variance = self.running_mean, self.running_var
                """,
            ),
        ),
        changes=("loss", "logits", "grad", "buffers"),
        level=2,
    ),
    Fault(
        "resnet-norm-counts-images-only",
        "batchnorm",
        "running_average",
        MODULE,
        (Edit("BatchNorm.forward", "self.remember($m, $v, x.numel() // x.shape[1])", "self.remember($m, $v, len(x))"),),
        changes=("buffers",),
        level=3,
    ),
    Fault(
        "resnet-norm-momentum-swapped",
        "batchnorm",
        "running_average",
        MODULE,
        (
            Edit("BatchNorm.remember", "$mean.lerp_(mean, self.momentum)", "$mean.lerp_(mean, 1 - self.momentum)"),
            Edit(
                "BatchNorm.remember", "$var.lerp_(unbiased, self.momentum)", "$var.lerp_(unbiased, 1 - self.momentum)"
            ),
        ),
        changes=("buffers",),
        level=3,
    ),
    Fault(
        "resnet-norm-running-variance-biased",
        "batchnorm",
        "running_average",
        MODULE,
        (
            Edit("BatchNorm.remember", "unbiased = variance * (n / max(n - 1, 1))", ""),
            Edit("BatchNorm.remember", "self.running_var.lerp_(unbiased, $m)", "self.running_var.lerp_(variance, $m)"),
        ),
        changes=("buffers",),
        level=3,
    ),
    Fault(
        "resnet-relu-in-the-branch",
        "residual",
        "residual_path",
        MODULE,
        (Edit("Block.forward", "y = last(y)", "y = F.relu(last(y))"),),
        changes=("loss", "logits", "grad", "buffers"),
        level=3,
    ),
    Fault(
        "resnet-relu-after-addition-missing",
        "convolution",
        "activation_function",
        MODULE,
        (Edit("Block.forward", "return F.relu(y)", "return y"),),
        changes=("loss", "logits", "grad", "buffers"),
        level=3,
    ),
    Fault(
        "resnet-shortcut-only-where-sizes-change",
        "residual",
        "skip_connection",
        MODULE,
        (
            Edit(
                "Block.forward",
                "if self.residual:\n    y = self.shortcut(x) + y",
                "if not isinstance(self.shortcut, nn.Identity):\n    y = self.shortcut(x) + y",
            ),
        ),
        changes=("loss", "logits", "grad", "buffers"),
        level=2,
    ),
    Fault(
        "resnet-pad-in-front",
        "residual",
        "skip_connection",
        MODULE,
        (Edit("Pad.forward", "(0, 0, 0, 0, 0, self.more)", "(0, 0, 0, 0, self.more, 0)"),),
        changes=("loss", "logits", "grad", "buffers"),
        level=3,
    ),
    Fault(
        "resnet-stride-before-the-bottleneck",
        "convolution",
        "stride",
        MODULE,
        (
            Edit(
                "Block.__init__",
                "[(n_in, inner, 1, 1), (inner, inner, 3, stride), (inner, n_out, 1, 1)]",
                "[(n_in, inner, 1, stride), (inner, inner, 3, 1), (inner, n_out, 1, 1)]",
            ),
        ),
        changes=("loss", "logits", "grad", "buffers"),
        level=3,
    ),
    Fault(
        "resnet-every-block-halves",
        "convolution",
        "stride",
        MODULE,
        (Edit("ResNet.__init__", "stage and i == 0", "stage or i == 0"),),
        changes=("loss", "logits", "grad", "init", "buffers"),
        level=2,
    ),
    Fault(
        "resnet-head-takes-the-largest",
        "convolution",
        "pooling",
        MODULE,
        (Edit("ResNet.forward", "x.mean((2, 3))", "x.amax((2, 3))"),),
        changes=("loss", "logits", "grad"),
        level=2,
    ),
    Fault(
        "resnet-loss-mean-over-all",
        "loss",
        "denominator",
        MODULE,
        (Edit("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "targets.numel()"),),
        changes=("loss", "grad"),
        level=2,
    ),
)
