"""Classifiers of images: each image is of one class; the share of the images whose class is found is the accuracy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from kakehashi.data import images
from kakehashi.data.images import Form, Shown
from kakehashi.models.protocol import Family
from kakehashi.runs import DataSpec, RunConfig
from kakehashi.training.settings import TrainingError, TrainSettings
from kakehashi.training.tasks import Prepared, require_unchanged

DATA = "digits"
OPTIONS = ("size", "shift", "flip")


def prepare(
    family: Family,
    config: Any,
    data: str | Path,
    settings: TrainSettings,
    seed: int,
    codec: Form | None = None,
    *,
    size: int | None = None,
    shift: int | None = None,
    flip: bool | None = None,
) -> Prepared:
    """The images, normalised by those that are trained on. codec: the form of the run to start from; None: a new one.

    shift, flip: None: what leaves the class as it is in these data.
    """
    found = images.read(data, size)
    split = found.split(seed)
    form = Form.of(found.classes, split.train)
    if codec is None:
        config = replace(config, n_classes=len(form.classes), n_channels=form.channels)
    elif (codec.classes, codec.size, codec.channels) == (form.classes, form.size, form.channels):
        form = codec
    else:
        raise TrainingError(f"{found.name} are {_said(form)}, and the weights were made for {_said(codec)}")
    shift, flip = found.shift if shift is None else shift, found.flip if flip is None else flip
    if not 0 <= shift < form.size:
        raise TrainingError(f"shift must be at least 0 and below the {form.size} pixels of an image, got {shift}")
    spec = DataSpec(
        found.name, found.source, found.sha256, split.name, found.private, size=form.size, shift=shift, flip=flip
    )
    return Prepared(form, config, spec, split, _sources(split, form, spec))


def open_split(config: RunConfig) -> images.Split:
    """The images of a run, from what it was started with. Raises TrainingError where that has changed."""
    found = images.read(config.data.source, config.data.size)
    require_unchanged(config.data, found.sha256)
    return found.split(config.seed)


def open_sources(config: RunConfig, codec: Form, split: images.Split) -> tuple[Shown, Shown]:
    """(train, validation) of a run."""
    return _sources(split, codec, config.data)


def open_test(config: RunConfig, codec: Form, part: str) -> Shown:
    """The images that training never sees. Raises DataError where there are none, TrainingError for other classes."""
    if part != "test":
        raise TrainingError(f"{config.data.name} has no part {part!r}: images are divided into train, val and test")
    found = images.read(config.data.source, config.data.size, "test", codec.channels)
    if found.classes != codec.classes:
        raise TrainingError(
            f"the classes to test are {', '.join(found.classes)}, and {', '.join(codec.classes)} were learnt"
        )
    return Shown(found.images, codec)


def right(logits: Any, targets: Any) -> Any:
    """(B, V), (B,) -> (B,) bool: whether the likeliest class is the right one."""
    return logits.argmax(-1) == targets


def _sources(split: images.Split, form: Form, spec: Any) -> tuple[Shown, Shown]:
    return Shown(split.train, form, spec.shift, spec.flip), Shown(split.val, form)


def _said(form: Form) -> str:
    colours = "grey" if form.channels == 1 else "colour"
    return f"{colours} images of {form.size} pixels in {len(form.classes)} classes ({', '.join(form.classes)})"
