"""From one text to another: pairs; each token of the target is to be predicted from the source and those before it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kakehashi.data import PairSource, PairSplit, read_pairs
from kakehashi.models.protocol import IGNORE, Family
from kakehashi.runs import DataSpec, RunConfig
from kakehashi.tokenizers import Tokenizer
from kakehashi.training.settings import TrainingError, TrainSettings
from kakehashi.training.tasks import Prepared, require_unchanged, tokenizer_of

DATA = "dates"
OPTIONS = ("encoding", "tokenizer")


def right(logits: Tensor, targets: Tensor) -> Tensor:
    """Which targets the model would write itself: logits (B, T, V), targets (B, T) -> (B,) bool.

    If the likeliest token is right after every right beginning, then choosing it each time writes the whole target:
    this is the exact match of greedy decoding, without decoding.
    """
    return ((logits.argmax(-1) == targets) | (targets == IGNORE)).all(1)


def prepare(
    family: Family,
    config: Any,
    data: str | Path,
    settings: TrainSettings,
    seed: int,
    codec: Tokenizer | None = None,
    *,
    encoding: str | None = None,
    tokenizer: str | Path | None = None,
) -> Prepared:
    """The pairs in batches. codec: the tokenizer of the run to start from; None: a new one.

    Raises TrainingError for a model that could not translate once it is trained.
    """
    if not hasattr(family.Model, "new_state"):
        raise TrainingError(
            f"{family.path}: {family.Model.__name__} has no new_state(source, source_pad): write it first"
        )
    pairs = read_pairs(data, encoding)
    split = pairs.split(seed)
    if codec is None:
        # one vocabulary for both sides, as the model has one table of embeddings for both
        parts = (split.train, split.val, *split.apart.values())
        codec = tokenizer_of(tokenizer, (text for part in parts for pair in part for text in pair))
        config = replace(config, vocab_size=codec.vocab_size)
    return Prepared(
        codec,
        config,
        DataSpec(pairs.name, pairs.source, pairs.sha256, split.name, pairs.private, "pair", encoding=encoding),
        split,
        _sources(split, codec),
    )


def open_split(config: RunConfig) -> PairSplit:
    """The pairs of a run, from what it was started with. Raises TrainingError where that has changed."""
    pairs = read_pairs(config.data.source, config.data.encoding)
    require_unchanged(config.data, pairs.sha256)
    return pairs.split(config.seed)


def open_sources(config: RunConfig, codec: Tokenizer, split: PairSplit) -> tuple[PairSource, PairSource]:
    """(train, validation) of a run."""
    return _sources(split, codec)


def open_test(config: RunConfig, codec: Tokenizer, part: str) -> PairSource:
    """A part of a run's pairs that training never looks at. Raises TrainingError where there is none of that name."""
    parts = {"train": (), "val": (), **open_split(config).apart}
    if not parts.get(part):
        raise TrainingError(f"{config.data.name} has no part {part!r}: it is divided into {', '.join(parts)}")
    return PairSource(parts[part], codec)


def _sources(split: PairSplit, codec: Tokenizer) -> tuple[PairSource, PairSource]:
    return PairSource(split.train, codec), PairSource(split.val, codec)
