"""What training asks of a task, one module each: `of(task)`. The loop, the settings and the runs are the same for all.

    DATA                                        what is learnt where the person names no data
    OPTIONS                                     the options of `training.plan` that mean something here
    prepare(family, config, data, settings, seed, codec=None, **options) -> Prepared
    open_split(config) -> split                 the parts of the data that a run was started with, unless it changed
    open_sources(config, codec, split) -> (train, validation)
    open_test(config, codec, part) -> Batches   a part that training never sees: "test", or of pairs "unseen", what no
                                                like of was trained on; TrainingError where there is none
    right                                       None, or right(logits, targets) -> (B,) bool: the items of a batch whose
                                                answer is wholly right; their share is measured beside the loss. What
                                                is measured asks `tasks.right(run)`

A codec stands between what a person gives and the model's numbers: a tokenizer; of a classifier, the form of the images
or texts, and the classes.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from kakehashi import tokenizers
from kakehashi.data import Batches, unit_of
from kakehashi.models.protocol import Family
from kakehashi.runs import DataSpec, Run
from kakehashi.tokenizers import CharTokenizer, Tokenizer
from kakehashi.training.settings import TrainingError

NAMES = ("lm", "classify", "seq2seq", "label")


@dataclass(frozen=True)
class Prepared:
    """What a task makes of the data, for a model.

    config: the model's, with the sizes that the data decide. spec: for config.json. split has .shared, the share of
    what is validated on that is trained on, too, and .share_in(part), the same of any part. sources: (train,
    validation).
    """

    codec: Any
    config: Any
    spec: DataSpec
    split: Any
    sources: tuple[Batches, Batches]


def of(task: str) -> ModuleType:
    """The module of a task. Raises TrainingError where there is none."""
    if task not in NAMES:
        raise TrainingError(f"there is no training for the task {task!r}: the tasks are {', '.join(NAMES)}")
    return import_module(f"kakehashi.training.tasks.{task}")


def chosen(family: Family, asked: str | None, said: Any) -> str:
    """The task that a model is trained for: its own; asked to "classify", a language model labels texts.

    said: the person's word for the model. Raises TrainingError for another wish.
    """
    own = family.task
    if asked is None:
        return own
    if asked != "classify":
        raise TrainingError(f"task must be classify, got {asked!r}: leave it out, and the model's own is taken")
    if own == "seq2seq":
        raise TrainingError(f"{said} translates, and cannot classify: choose encoder, a model that writes, or resnet")
    return "label" if own == "lm" else own


def has_classes(data: str | Path | None) -> bool:
    """Whether these data are a set known by name whose items are each of a class."""
    return data is not None and unit_of(data) in ("table", "image")


def usual_model(data: str | Path | None) -> str:
    """What classifies these data where nobody says it: of images resnet, of texts the encoder."""
    images = data is not None and (unit_of(data) == "image" or os.path.isdir(data))
    return "resnet" if images else "encoder"


def right(run: Run) -> Callable[[Any, Any], Any] | None:
    """`right` of a run's task, which of texts has to know how many classes there are."""
    found = of(run.config.task).right
    return partial(found, n_classes=len(run.codec.classes)) if run.config.task == "label" else found


def tokenizer_of(said: str | Path | Tokenizer | None, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that is said, or the one in a file; where none is, one of a token a character of the texts."""
    if said is None:
        return CharTokenizer.train(texts)
    return tokenizers.load(said) if isinstance(said, str | Path) else said


def require_unchanged(spec: DataSpec, sha256: str) -> None:
    """Raises TrainingError where the data of a run are not what they were."""
    if sha256 != spec.sha256:
        raise TrainingError(
            f"{spec.source} has changed since the run began (sha256 {sha256[:12]}, was {spec.sha256[:12]}): "
            f"bring the old one back, or start a new run"
        )
