"""Language models: a text, cut into documents or windows; each token is to predict the next one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kakehashi import runs
from kakehashi.data import LECTURE, ORDER, Corpus, Source, Split
from kakehashi.data import corpus as read_corpus
from kakehashi.data import sources as cut
from kakehashi.models.protocol import Family, RecurrentState, TokenWindow
from kakehashi.runs import DataSpec, RunConfig
from kakehashi.tokenizers import Tokenizer
from kakehashi.training.settings import TrainingError, TrainSettings
from kakehashi.training.tasks import Prepared, require_unchanged, tokenizer_of

DATA = "identifiers"
OPTIONS = ("encoding", "unit", "split", "window", "tokenizer", "carry")
SPLITS = ("distinct", "lecture", "order")
SHORTEST_WINDOW = 64  # tokens in a training window of a model that would take any number

right = None  # an item is many tokens: the loss says it better


def prepare(
    family: Family,
    config: Any,
    data: str | Path,
    settings: TrainSettings,
    seed: int,
    codec: Tokenizer | None = None,
    *,
    encoding: str | None = None,
    unit: str | None = None,
    split: str = "distinct",
    window: int | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
) -> Prepared:
    """The text in windows that the model can read. codec: the tokenizer of the run to start from; None: a new one."""
    if split not in SPLITS:
        raise TrainingError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if window is not None and not 1 <= window < runs.LONGEST_WINDOW:
        raise TrainingError(f"window must be at least 1 and below {runs.LONGEST_WINDOW}, got {window}")
    texts = read_corpus(data, encoding=encoding, unit=unit)
    divided = _divided(texts, split, seed)
    if codec is None:
        codec = tokenizer_of(tokenizer, texts.documents)
        config = replace(config, vocab_size=codec.vocab_size)
    if settings.carry:
        _require_recurrent(family, config)
    window = _window(family, config, window)
    return Prepared(
        codec,
        config,
        DataSpec(texts.name, texts.source, texts.sha256, divided.name, texts.private, texts.unit, window, encoding),
        divided,
        cut(divided, codec, window, texts.unit, settings.carry),
    )


def open_split(config: RunConfig) -> Split:
    """The texts of a run, from what it was started with. Raises TrainingError where that has changed."""
    spec = config.data
    texts = read_corpus(spec.source, encoding=spec.encoding, unit=spec.unit)
    require_unchanged(spec, texts.sha256)
    return _divided(texts, {LECTURE: "lecture", ORDER: "order"}.get(spec.split, "distinct"), config.seed)


def _divided(texts: Corpus, split: str, seed: int) -> Split:
    """A text in one of SPLITS."""
    if split == "lecture":
        return texts.lecture_split()
    return texts.order_split() if split == "order" else texts.split(seed)


def open_sources(config: RunConfig, codec: Tokenizer, split: Split) -> tuple[Source, Source]:
    """(train, validation) of a run."""
    spec: Any = config.data  # whose fields of this task are all there
    return cut(split, codec, spec.block_size, spec.unit, TrainSettings.of(config.train).carry)


def open_test(config: RunConfig, codec: Tokenizer, part: str) -> Source:
    """Raises TrainingError: texts are divided in two."""
    raise TrainingError(f"{config.data.name} has no part {part!r}: a text is divided into training and validation")


def _state(family: Family, config: Any, read: bool = False) -> Any:
    """What the model keeps of the tokens it reads, after one where `read`; None where it has no new_state."""
    with runs.learners_code(Path(family.path)), torch.no_grad():
        model = family.Model(config).eval()
        state = model.new_state(1) if hasattr(model, "new_state") else None
        if read and state is not None:
            model(torch.zeros(1, 1, dtype=torch.int64), state=state)
        return state


def _require_recurrent(family: Family, config: Any) -> None:
    """Only a state of a fixed size can be carried through a whole text, and only one of a known form be saved."""
    kept = _state(family, config, read=True)
    if not isinstance(kept, RecurrentState):
        what = "no state" if kept is None else f"a {type(kept).__name__}"
        raise TrainingError(
            f"carry needs a model with a RecurrentState, and {family.name} keeps {what}: "
            f"leave carry out, or choose a recurrent model"
        )
    if not isinstance(kept.layers, list):
        raise TrainingError(f"{family.path}: layers of a RecurrentState is a list, got a {type(kept.layers).__name__}")
    for i, layer in enumerate(kept.layers):
        if not (isinstance(layer, tuple) and layer and all(isinstance(each, torch.Tensor) for each in layer)):
            held = f" of {len(layer)}: {[type(each).__name__ for each in layer]}" if isinstance(layer, tuple) else ""
            raise TrainingError(
                f"{family.path}: a layer of a RecurrentState is a tuple of tensors, at least one, and after a token "
                f"layers[{i}] is a {type(layer).__name__}{held}"
            )


def _window(family: Family, config: Any, said: int | None) -> int:
    """Tokens in a training window: what the model can see, unless it slides over texts of any length."""
    seen = getattr(config, "block_size", None)
    if seen is None:
        return said or SHORTEST_WINDOW
    if said is None and seen >= SHORTEST_WINDOW:
        return seen
    slides = isinstance(_state(family, config), TokenWindow | RecurrentState)
    if said is None:
        return SHORTEST_WINDOW if slides else seen
    if not slides:
        raise TrainingError(
            f"window is for models that slide over a text, got {said}: {family.name} sees its block_size of {seen} "
            f"tokens, so leave window out"
        )
    return said
