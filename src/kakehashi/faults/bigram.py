"""Faults of the bigram model."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.bigram"


def probes(module: ModuleType) -> Iterator["Probe"]:
    """The model, and the counted table as the model's: `count` shows in what it predicts."""
    from kakehashi.faults.liveness import counted_table, language_model

    yield from language_model(module, "table", {})
    yield from counted_table(module)


FAULTS = (
    Fault(
        "bigram-table-transposed",
        "labels",
        "direction",
        MODULE,
        (
            Edit(
                "count",
                "tokens[seen] * vocab_size + targets[seen]",
                "targets[seen] * vocab_size + tokens[seen]",
            ),
        ),
        changes=("logits",),
        level=2,
    ),
    Fault(
        "bigram-padding-counted",
        "data",
        "counting",
        MODULE,
        (
            Edit("count", "seen = targets != IGNORE", ""),
            Edit(
                "count",
                "pairs = tokens[seen] * vocab_size + targets[seen]",
                "pairs = (tokens * vocab_size + targets.clamp(min=0)).flatten()",
            ),
        ),
        changes=("logits",),
        level=2,
    ),
    Fault(
        "bigram-smoothing-missing",
        "data",
        "smoothing",
        MODULE,
        (
            Edit("count", "smoothed = counts + smoothing", ""),
            Edit(
                "count",
                "torch.log(smoothed / smoothed.sum(1, keepdim=True))",
                "torch.log(counts / counts.sum(1, keepdim=True))",
            ),
        ),
        changes=("logits",),
        level=1,
    ),
    Fault(
        "bigram-columns-normalised",
        "score",
        "implementation",
        MODULE,
        (Edit("count", "smoothed.sum(1, keepdim=True)", "smoothed.sum(0, keepdim=True)"),),
        changes=("logits",),
        level=2,
    ),
    Fault(
        "bigram-loss-mean-over-all",
        "loss",
        "denominator",
        MODULE,
        (Edit("cross_entropy", "seen.sum().clamp(min=1)", "seen.numel()"),),
        changes=("loss", "grad"),
        level=2,
    ),
)
