"""From what a person says to what a run is made of."""

from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from kakehashi import Mistake, runs
from kakehashi.data import LECTURE, Lanes, Source, Split
from kakehashi.data import corpus as read_corpus
from kakehashi.data import sources as cut
from kakehashi.models.protocol import Family, RecurrentState, TokenWindow
from kakehashi.runs import DataSpec, ModelSpec, Resolved, Run, RunConfig
from kakehashi.tokenizers import CharTokenizer
from kakehashi.training.settings import TrainingError, TrainSettings

SPLITS = ("distinct", "lecture")
SHORTEST_WINDOW = 64  # tokens in a training window of a model that would take any number


@dataclass(frozen=True)
class Plan:
    """All that training needs, before anything is written.

    split: the texts of both sides; sources: (train, validation), the same as batches. source_text: the learner's code,
    where the model is theirs. weights: what training begins with, from another run; None: the seed decides. seen: the
    share of the texts to validate on that the other run was trained on; None where its text is not as it was.
    """

    config: RunConfig
    tokenizer: CharTokenizer
    split: Split
    sources: tuple[Source, Source]
    source_text: str | None = None
    weights: runs.Arrays | None = None
    seen: float | None = 0.0

    @property
    def borrowed(self) -> tuple[str, ...]:
        """What the learner's file takes from its reference."""
        return self.config.model.borrowed

    def create(self, root: str | Path = "runs", name: str | None = None) -> Run:
        """The run directory: root/NAME, or root/MODEL-DATA-0001 with the next free number."""
        stem = name or f"{self.config.model.name}-{self.config.data.name}"
        return Run.create(
            root, stem, self.config, self.tokenizer, self.source_text, weights=self.weights, number=name is None
        )


def plan(
    model: str | Path | None,
    data: str | Path,
    *,
    preset: str | None = None,
    engine: str = "torch",
    seed: int = 1337,
    encoding: str | None = None,
    unit: str | None = None,
    split: str = "distinct",
    window: int | None = None,
    from_run: str | Path | None = None,
    **settings: Any,
) -> Plan:
    """Look up the model and the data, cut the data to the model's size, and check every setting.

    model: NAME, FILE.py or RUN, its code and Config taken; None with from_run, which gives the weights and the
    tokenizer, too. data: NAME or PATH, private where it is not a built-in set. split: "distinct" (Corpus.split) or
    "lecture" (Corpus.lecture_split). window: tokens in a training window of a model that slides over the text, and so
    how far backpropagation reaches back; longer documents are cut into such pieces; None: 64. settings: fields of
    TrainSettings.
    Raises a Mistake: one line that names what is wrong with its value.
    """
    if engine != "torch":
        raise TrainingError(f"engine must be torch, got {engine!r}")
    if split not in SPLITS:
        raise TrainingError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if window is not None and not 1 <= window < runs.LONGEST_WINDOW:
        raise TrainingError(f"window must be at least 1 and below {runs.LONGEST_WINDOW}, got {window}")
    checked = TrainSettings.of(settings)
    runs.device(checked.device)
    if not 0 <= seed < 2**63:
        raise TrainingError(f"seed must be at least 0 and below 2**63, got {seed}")
    start = None if from_run is None else Run.open(from_run)
    what = start.path if start else model
    if what is None:
        raise TrainingError("say which model to train: a name, a file, or a run to start from")
    resolved = runs.resolve(what)
    family, config = _model(resolved, preset, what)
    if start and preset:
        raise TrainingError(f"preset {preset!r} does not go with the weights of {start.path}: leave one of them out")

    texts = read_corpus(data, encoding=encoding, **({} if unit is None else {"unit": unit}))
    divided = texts.lecture_split() if split == "lecture" else texts.split(seed)
    tokenizer = CharTokenizer.train(texts.documents) if start is None else start.tokenizer
    if start is None:
        config = replace(config, vocab_size=tokenizer.vocab_size)
    if any(each.name == "fused" for each in fields(config)):
        config = replace(config, fused=True)
    if resolved.source is not None:
        _require_config(family, config)
    if checked.carry:
        _require_recurrent(family, config)
    window = _window(family, config, window)
    sources = cut(divided, tokenizer, window, texts.unit, checked.carry)
    checked = _fitted(checked, sources[0], said="batch_size" in settings)

    private = texts.private or (start is not None and start.private)
    return Plan(
        RunConfig(
            task=family.task,
            model=ModelSpec(family.name, asdict(config), resolved.borrowed),
            data=DataSpec(texts.name, texts.source, texts.sha256, divided.name, private, texts.unit, window, encoding),
            train=asdict(checked),
            seed=seed,
            versions=runs.versions(),
            threads=torch.get_num_threads(),
            started_from=None if start is None else start.name,
        ),
        tokenizer,
        divided,
        sources,
        resolved.source,
        None if start is None else start.load_best(),
        0.0 if start is None else _seen(start, divided),
    )


def open_split(config: RunConfig) -> Split:
    """The texts of a run, from what it was started with. Raises TrainingError where that has changed."""
    spec = config.data
    texts = read_corpus(spec.source, encoding=spec.encoding, unit=spec.unit)
    if texts.sha256 != spec.sha256:
        raise TrainingError(
            f"{spec.source} has changed since the run began (sha256 {texts.sha256[:12]}, was {spec.sha256[:12]}): "
            f"bring the old text back, or start a new run"
        )
    return texts.lecture_split() if spec.split == LECTURE else texts.split(config.seed)


def open_sources(config: RunConfig, tokenizer: CharTokenizer, split: Split | None = None) -> tuple[Source, Source]:
    """(train, validation) of a run. split: what `open_split` gave, where it is at hand."""
    spec, split = config.data, split or open_split(config)
    return cut(split, tokenizer, spec.block_size, spec.unit, TrainSettings.of(config.train).carry)


def _seen(start: Run, split: Split) -> float | None:
    """The share of the texts to validate on that another run was trained on; None where its text is not as it was."""
    try:
        return split.share_in(open_split(start.config).train)
    except Mistake:
        return None


def _model(resolved: Resolved, preset: str | None, said: Any) -> tuple[Family, Any]:
    family = resolved.family
    if family is None:
        raise TrainingError(f"{said} has no Config: training needs a file as models/protocol.py describes it")
    if family.task != "lm":
        raise TrainingError(f"{said} has the task {family.task!r}: training on a text needs 'lm'")
    if preset is None:
        return family, resolved.config
    if preset not in family.presets:
        near = get_close_matches(preset, family.presets, n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise TrainingError(f"preset must be one of {', '.join(family.presets)}, got {preset!r}{meant}")
    return family, family.presets[preset]


def _require_config(family: Family, config: Any) -> None:
    """Generation asks a model for its `.config`: a learner's without one is refused before it is trained."""
    with runs.learners_code(Path(family.path)):
        model = family.Model(config)
    if not hasattr(model, "config"):
        raise TrainingError(f"{family.path}: {family.Model.__name__} has no .config: set self.config in its __init__")


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


def _fitted(settings: TrainSettings, source: Source, said: bool) -> TrainSettings:
    """The settings with a batch_size that the items to train on fill. Raises TrainingError where what was said is more.

    In lanes: so few that each is long enough to carry a state along; a lane of one window would carry nothing.
    """
    if isinstance(source, Lanes):
        usual, most, why = source.n_lanes, source.n_items // 2, f"two of {source.n_items} windows in each lane to carry"
    else:
        usual = most = source.n_items
        why = "the items to train on"
    if not said:
        settings = replace(settings, batch_size=min(settings.batch_size, usual))
    elif settings.batch_size > most:
        raise TrainingError(f"batch_size must be at most {most}, {why}, got {settings.batch_size}")
    in_an_epoch = -(-source.n_items // settings.batch_size)
    if settings.accumulate > in_an_epoch:
        raise TrainingError(
            f"accumulate must be at most {in_an_epoch}, the batches of {settings.batch_size} in the whole text, "
            f"got {settings.accumulate}"
        )
    return settings


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
