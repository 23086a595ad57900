"""Faults of the MLP language model."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.mlp"


def probes(module: ModuleType) -> Iterator["Probe"]:
    """With batch normalisation and without."""
    from kakehashi.faults.liveness import language_model

    yield from language_model(module, "norm", {"block_size": 3, "n_embd": 4, "n_hidden": 8})
    yield from language_model(module, "plain", {"block_size": 3, "n_embd": 4, "n_hidden": 8, "batch_norm": False})


FAULTS = (
    Fault(
        "mlp-wrong-fan",
        "ffn",
        "weight_initialization",
        MODULE,
        (Edit("Linear.__init__", "math.sqrt(n_in)", "math.sqrt(n_out)"),),
        changes=("init",),
        level=3,
    ),
    Fault(
        "mlp-gain-missing",
        "ffn",
        "weight_initialization",
        MODULE,
        (
            Edit(
                "MLP.__init__",
                "Linear(n_in, config.n_hidden, gain=5 / 3, bias=$bias)",
                "Linear(n_in, config.n_hidden, bias=$bias)",
            ),
        ),
        changes=("init",),
        level=3,
    ),
    Fault(
        "mlp-confident-start",
        "output",
        "output_scaling",
        MODULE,
        (
            Edit(
                "MLP.__init__",
                "Linear(config.n_hidden, config.vocab_size, gain=0.1)",
                "Linear(config.n_hidden, config.vocab_size)",
            ),
        ),
        changes=("init",),
        level=1,
    ),
    Fault(
        "mlp-norm-eps-outside",
        "batchnorm",
        "stability_parameter",
        MODULE,
        (Edit("BatchNorm.forward", "torch.sqrt(variance + self.eps)", "(torch.sqrt(variance) + self.eps)"),),
        changes=("loss", "logits", "grad", "state"),
        level=3,
    ),
    Fault(
        "mlp-norm-batch-statistics-in-eval",
        "mode",
        "batch_statistics_in_eval",
        MODULE,
        (Edit("BatchNorm.forward", "self.training and len(rows) > 0", "len(rows) > 0"),),
        changes=("loss", "logits", "grad", "state", "buffers"),
        level=2,
    ),
    Fault(
        "mlp-norm-running-statistics-in-training",
        "mode",
        "running_statistics_in_training",
        MODULE,
        (
            Edit(
                "BatchNorm.forward",
                """
                if self.training and len(rows) > 0:
                    mean = rows.mean(0)
                    variance = (rows - mean).square().mean(0)
                    self.remember(mean, variance, len(rows))
                else:
                    mean, variance = self.running_mean, self.running_var
                """,
                """
                if self.training and len(rows) > 0:
                    mean = rows.mean(0)
                    variance = (rows - mean).square().mean(0)
                    self.remember(mean, variance, len(rows))
                mean, variance = self.running_mean, self.running_var
                """,
            ),
        ),
        changes=("loss", "logits", "grad"),
        level=2,
    ),
    Fault(
        "mlp-norm-momentum-swapped",
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
        "mlp-norm-running-variance-biased",
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
        "mlp-norm-counts-padding",
        "batchnorm",
        "statistics",
        MODULE,
        (Edit("MLP.forward", "self.norm($h, $counted)", "self.norm($h)"),),
        changes=("loss", "logits", "grad", "buffers"),
        level=2,
    ),
    Fault(
        "mlp-window-off-by-one",
        "positional",
        "indexing",
        MODULE,
        (
            Edit(
                "MLP.forward",
                "seen.unfold(1, self.config.block_size, 1)",
                "seen.unfold(1, self.config.block_size, 1)[:, :-1]",
            ),
            Edit("MLP.new_state", "self.config.block_size - 1", "self.config.block_size"),
        ),
        changes=("loss", "logits", "grad", "state", "buffers"),
        level=2,
    ),
    Fault(
        "mlp-state-ignored",
        "kv_cache",
        "update_synchronization",
        MODULE,
        (Edit("MLP.forward", "window = $new if state is None else state", "window = $new"),),
        changes=("state",),
        level=1,
    ),
    Fault(
        "mlp-beginning-is-token-0",
        "embedding",
        "input_type",
        MODULE,
        (
            Edit(
                "MLP.forward",
                "contexts = contexts.masked_fill(contexts < 0, self.config.vocab_size)",
                "contexts = contexts.clamp(min=0)",
            ),
        ),
        changes=("loss", "logits", "grad", "state", "buffers"),
        level=2,
    ),
    Fault(
        "mlp-padding-is-context",
        "masking",
        "mask_application",
        MODULE,
        (
            Edit("MLP.forward", "B, T = tokens.shape", "B = len(tokens)"),
            Edit("MLP.forward", "if pad is not None:\n    tokens = tokens.masked_fill(~pad[:, -T:], -1)", ""),
        ),
        changes=("loss", "logits", "grad", "state", "buffers"),
        level=3,
    ),
    Fault(
        "mlp-tanh-missing",
        "ffn",
        "activation_function",
        MODULE,
        (Edit("MLP.forward", "self.output(torch.tanh(h))", "self.output(h)"),),
        changes=("loss", "logits", "grad", "state"),
        level=2,
    ),
    Fault(
        "mlp-loss-mean-over-all",
        "loss",
        "denominator",
        MODULE,
        (Edit("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "targets.numel()"),),
        changes=("loss", "grad"),
        level=2,
    ),
    Fault(
        "mlp-loss-nothing-counted",
        "loss",
        "empty_batch",
        MODULE,
        (Edit("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "(targets != IGNORE).sum()"),),
        changes=("loss",),
        level=3,
    ),
)
