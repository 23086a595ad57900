"""Classifiers of texts: each text is of one class. An encoder names it; so does any language model, as its next token.

A language model's vocabulary is then the tokenizer's tokens and, after them, one for each class. It reads END and the
text, padded on the left, and is asked for what follows the last token: targets are -100 but there, so no line of the
model changes. Training learns from its whole vocabulary; what is asked of it later, `right` included, is a choice among
the classes alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kakehashi.data import tables
from kakehashi.data.tables import Form, Labelled, Row, TableSplit
from kakehashi.models.protocol import Family
from kakehashi.runs import DataSpec, RunConfig
from kakehashi.tokenizers import Tokenizer, WordPieceTokenizer
from kakehashi.training.settings import TrainingError, TrainSettings
from kakehashi.training.tasks import Prepared, require_unchanged, tokenizer_of

DATA = "banking77"
OPTIONS = ("text", "label", "encoding", "tokenizer")
PIECES = 8000  # tokens of the tokenizer that is trained where none is said, at most


def prepare(
    family: Family,
    config: Any,
    data: str | Path,
    settings: TrainSettings,
    seed: int,
    codec: Form | None = None,
    *,
    text: str | None = None,
    label: str | None = None,
    encoding: str | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
) -> Prepared:
    """The texts as tokens, their classes as numbers. codec: the form of the run to start from; None: a new one.

    text, label: the columns, as `tables.read` takes them. tokenizer: None: word pieces of the training texts.
    """
    found = tables.read(data, text, label, encoding)
    split = found.split(seed)
    if codec is None:
        texts = [row.text for row in split.train]
        pieces = WordPieceTokenizer.train(texts, PIECES) if tokenizer is None else tokenizer_of(tokenizer, texts)
        codec = Form.of(split.classes, pieces, texts, getattr(config, "block_size", None))
        n_tokens, n_classes = pieces.vocab_size, len(codec.classes)
        if tables.reads_on(asdict(config)):
            config = replace(config, vocab_size=n_tokens + n_classes)
        else:
            config = replace(config, vocab_size=n_tokens, n_classes=n_classes)
    elif codec.classes != split.classes:
        raise TrainingError(
            f"{found.name} has {_said(split.classes)}, and the weights were made for {_said(codec.classes)}"
        )
    spec = DataSpec(
        found.name,
        found.source,
        found.sha256,
        split.name,
        found.private,
        block_size=codec.length,
        encoding=encoding,
        text=found.columns[0],
        label=found.columns[1],
    )
    return Prepared(codec, config, spec, split, _sources(split, codec, asdict(config)))


def open_split(config: RunConfig) -> TableSplit:
    """The rows of a run, from what it was started with. Raises TrainingError where that has changed."""
    spec = config.data
    found = tables.read(spec.source, spec.text, spec.label, spec.encoding)
    require_unchanged(spec, found.sha256)
    return found.split(config.seed)


def open_sources(config: RunConfig, codec: Form, split: TableSplit) -> tuple[Labelled, Labelled]:
    """(train, validation) of a run."""
    codec.require_classes(split.classes)
    return _sources(split, codec, config.model.config)


def open_test(config: RunConfig, codec: Form, part: str) -> Labelled:
    """The texts that training never sees. Raises DataError where there are none, TrainingError for other classes."""
    spec = config.data
    if part != "test":
        raise TrainingError(f"{spec.name} has no part {part!r}: its parts are train, val and test")
    found = tables.read(spec.source, spec.text, spec.label, spec.encoding, "test")
    if unknown := sorted(set(found.labels) - set(codec.classes)):
        raise TrainingError(f"the test has classes that were not learnt: {', '.join(unknown)}")
    rows = tuple(map(Row, found.texts, found.labels))
    return Labelled(rows, codec, tables.reads_on(config.model.config))


def right(logits: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Which classes are found: logits (B, n_classes), targets (B,); or (B, T, V) and (B, T) -> (B,) bool."""
    if targets.ndim == 2:  # a class is the token of that number after all tokens of texts
        targets = targets[:, -1] - (logits.shape[-1] - n_classes)
    return tables.answers(logits, n_classes).argmax(-1) == targets


def _sources(split: TableSplit, form: Form, config: dict[str, Any]) -> tuple[Labelled, Labelled]:
    left = tables.reads_on(config)
    return Labelled(split.train, form, left), Labelled(split.val, form, left)


def _said(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} classes ({shown})"
