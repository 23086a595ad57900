"""What a classifier says of images: the likeliest classes of each, and how a whole set of them is answered."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kakehashi import runs
from kakehashi.data import Batches
from kakehashi.data.images import Form

AT_ONCE = 64  # images in a batch


@torch.no_grad()
def classify(
    model: Any, form: Form, paths: Sequence[str | Path], device: str = "cpu", n: int = 3
) -> list[list[tuple[str, float]]]:
    """Of each image file the n likeliest classes and their probabilities, the likeliest first.

    model: in eval mode. Raises DataError for a file that is no image, RunError for a device that is not there.
    """
    place = runs.device(device)
    model = model.to(place)
    answers = []
    for i in range(0, len(paths), AT_ONCE):
        pixels = np.stack([form.read(path) for path in paths[i : i + AT_ONCE]])  # (B, H, W, C)
        logits = model(torch.from_numpy(form.numbers(pixels)).to(place)).logits  # (B, V)
        likely = logits.softmax(-1).topk(min(n, len(form.classes)))
        for chances, places in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
            answers.append([(form.classes[k], p) for k, p in zip(places, chances, strict=True)])
    return answers


@torch.no_grad()
def confusion(model: Any, source: Batches, n_classes: int, device: str = "cpu") -> np.ndarray:
    """(V, V) int64: in row i, column j, how many images of class i are taken for class j. model: in eval mode."""
    place = runs.device(device)
    model = model.to(place)
    table = np.zeros((n_classes, n_classes), dtype=np.int64)
    for batch in source.whole(AT_ONCE):
        (x,) = batch.inputs
        answers = model(torch.from_numpy(x).to(place)).logits.argmax(-1).cpu().numpy()  # (B,)
        np.add.at(table, (batch.targets, answers), 1)
    return table
