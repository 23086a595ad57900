"""What a classifier of texts says: the logits of the classes, and the likeliest of them.

The model is an encoder, which names the class, or a language model, whose next token is one; see `tables.answers`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from kakehashi import runs
from kakehashi.data import Batch, tables
from kakehashi.data.tables import Form
from kakehashi.inference.sampling import InferenceError

AT_ONCE = 64  # texts in a batch


def class_logits(model: Any, batch: Batch, n_classes: int) -> Tensor:
    """The logits of the classes (B, n_classes), of a batch of tensors where the model is."""
    return tables.answers(model(*batch.inputs, **batch.options).logits, n_classes)


@torch.no_grad()
def text_logits(model: Any, form: Form, texts: Sequence[str], device: str = "cpu") -> Tensor:
    """The logits of the classes (N, n_classes), float32 on the CPU; softmax makes probabilities of them.

    model: in eval mode. Raises RunError for a device that is not there, InferenceError where the model gives NaN.
    """
    place = runs.device(device)
    model = model.to(place)
    n_classes, left = len(form.classes), tables.reads_on(asdict(model.config))
    found = [torch.empty(0, n_classes)]
    for i in range(0, len(texts), AT_ONCE):
        batch = tables.batch_of(*form.numbers(texts[i : i + AT_ONCE], left))
        inputs = tuple(torch.from_numpy(each).to(place) for each in batch.inputs)
        options = {name: torch.from_numpy(each).to(place) for name, each in batch.options.items()}
        found.append(class_logits(model, batch._replace(inputs=inputs, options=options), n_classes).float().cpu())
    logits = torch.cat(found)
    if logits.isnan().any():
        raise InferenceError("the model predicts NaN: its weights are not finite; did its training diverge?")
    return logits


def classify_texts(
    model: Any, form: Form, texts: Sequence[str], device: str = "cpu", n: int = 3, temperature: float = 1.0
) -> list[list[tuple[str, float]]]:
    """Of each text the n likeliest classes and their probabilities, the likeliest first. Raises as `text_logits`.

    temperature: by which the logits are divided; work.predictor finds the one that makes scores mean what they say.
    """
    logits = text_logits(model, form, texts, device).double() / temperature
    likely = logits.softmax(-1).topk(min(n, len(form.classes)))
    return [
        [(form.classes[k], p) for k, p in zip(places, chances, strict=True)]
        for chances, places in zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
    ]
