"""From what a person says to what a run is made of."""

from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from kakehashi import Mistake, models, runs
from kakehashi.data import Batches, Lanes
from kakehashi.models.protocol import Family
from kakehashi.runs import ModelSpec, Resolved, Run, RunConfig
from kakehashi.tokenizers import Tokenizer
from kakehashi.training import memory, numpy_engine, tasks, together
from kakehashi.training.settings import TrainingError, TrainSettings


@dataclass(frozen=True)
class Plan:
    """All that training needs, before anything is written.

    codec: the tokenizer, or of a classifier its form and classes. split: the data of both sides; sources: (train,
    validation), the same as batches. source_text: the learner's code, where the model is theirs. weights: what training
    begins with, from another run; None: the seed decides. seen: the share of the data to validate on that the other run
    was trained on; None where its data are not as they were. n_parameters: of a reference; of a learner's model None.
    n_bytes: what they need in training, besides a batch; of a learner's 0. name: what a run's name calls the model, ""
    for its file's name: a reference's preset that was asked for and says more (mistral) than its file (llama).
    """

    config: RunConfig
    codec: Any
    split: Any
    sources: tuple[Batches, Batches]
    source_text: str | None = None
    weights: runs.Arrays | None = None
    seen: float | None = 0.0
    n_parameters: int | None = None
    n_bytes: int = 0
    name: str = ""

    @property
    def borrowed(self) -> tuple[str, ...]:
        """What the learner's file takes from its reference."""
        return self.config.model.borrowed

    def create(self, root: str | Path = "runs", name: str | None = None, *, keep: str | None = None) -> Run:
        """The run directory: root/NAME, or root/MODEL-DATA-0001 with the next free number.

        keep: of data that are one file, the run has a copy of this name, and goes on from it.
        """
        stem = name or f"{self.name or self.config.model.name}-{self.config.data.name}"
        data = {} if keep is None else {keep: Path(self.config.data.source).read_bytes()}
        return Run.create(
            root, stem, self.config, self.codec, self.source_text, weights=self.weights, number=name is None, data=data
        )


def plan(
    model: str | Path | None,
    data: str | Path | None = None,
    *,
    preset: str | None = None,
    task: str | None = None,
    seed: int = 1337,
    encoding: str | None = None,
    unit: str | None = None,
    split: str | None = None,
    window: int | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    size: int | None = None,
    shift: int | None = None,
    flip: bool | None = None,
    text: str | None = None,
    label: str | None = None,
    from_run: str | Path | None = None,
    **settings: Any,
) -> Plan:
    """Look up the model and the data, cut the data to the model's size, and check every setting.

    model: NAME, FILE.py or RUN, its code and Config taken; None with from_run, which gives the weights and the
    codec, too. data: NAME or PATH, private where it is not a built-in set; None: the DATA of the model's task.
    task: None: the model's own; "classify": a class is wanted, of which a language model makes its next token. Without
    a model, for this task and for data that are known to have classes, `tasks.usual_model`.
    settings: fields of TrainSettings. The rest is of single tasks, None where nothing is said.
    Texts and pairs: tokenizer: one, or its file, as `tokenizers.load` takes it; None: a token a character. Nobody knows
    what it was learnt from, so the run is private.
    Language models: encoding, unit: as `data.corpus` takes them. split: "distinct" (Corpus.split), "lecture"
    (Corpus.lecture_split) or "order" (Corpus.order_split); None: distinct. window: tokens in a training window of a
    model that slides over the text, and so how far backpropagation reaches back; longer documents are cut into such
    pieces; None: 64.
    Classifiers of texts: text, label: the columns, as `tables.read` takes them; encoding; tokenizer: None: word pieces.
    Classifiers of images: size: height and width of the images, in pixels; None: as they are, of a folder 32. shift,
    flip: how training varies them, see `data.images.Shown`; None: as leaves the classes of these data as they are.
    Raises a Mistake: one line that names what is wrong with its value.
    """
    checked = TrainSettings.of(settings)
    runs.device(checked.device)
    if not 0 <= seed < 2**63:
        raise TrainingError(f"seed must be at least 0 and below 2**63, got {seed}")
    start = None if from_run is None else Run.open(from_run)
    what = start.path if start else model
    if what is None and (task == "classify" or tasks.has_classes(data)):
        what = tasks.usual_model(data)
    if what is None:
        raise TrainingError("say which model to train: a name, a file, or a run to start from")
    resolved = runs.resolve(what)
    family, config = _model(resolved, preset, what)
    name = tasks.chosen(family, task, what) if start is None else start.config.task
    chosen = tasks.of(name)
    if checked.engine == "numpy":
        _require_numpy(resolved, what, name)
    if start and preset:
        raise TrainingError(f"preset {preset!r} does not go with the weights of {start.path}: leave one of them out")
    if start and tokenizer is not None:
        raise TrainingError(f"the tokenizer of {start.path} goes with its weights: leave tokenizer {tokenizer} out")
    if start and task is not None and name != tasks.chosen(family, task, what):
        raise TrainingError(f"task {task} does not go with the weights of {start.path}, whose task is {name!r}")

    options = {"encoding": encoding, "unit": unit, "split": split, "window": window, "tokenizer": tokenizer}
    options |= {"size": size, "shift": shift, "flip": flip, "text": text, "label": label}
    options = {option: value for option, value in options.items() if value is not None}
    for option in [*options, *(["carry"] if checked.carry else [])]:
        if option not in chosen.OPTIONS:
            advice = {"lm": ", or say task classify", "classify": ", or choose the encoder, which classifies texts"}
            advice = advice.get(name, "") if option in ("text", "label") else ""
            raise TrainingError(f"{option} says nothing to {what}, whose task is {name!r}: leave it out{advice}")
    if any(each.name == "fused" for each in fields(config)):
        config = replace(config, fused=True)
    if resolved.source is not None:
        _require_config(family, config)
    ready = chosen.prepare(
        family, config, chosen.DATA if data is None else data, checked, seed, start and start.codec, **options
    )
    n_parameters = None if resolved.source is not None else _n_parameters(family, ready.config)
    # float32: weights, gradients, and the averages of the gradients (Muon) and of their squares (AdamW)
    n_bytes = (n_parameters or 0) * 4 * (4 if checked.optimizer == "adamw" else 3)
    _require_memory(what, n_parameters, n_bytes, checked.device)
    if checked.optimizer == "muon":
        _require_blocks(family, ready.config, what)
    checked = _fitted(checked, ready.sources[0], said="batch_size" in settings)

    asked = preset or str(what)
    says_more = resolved.source is None and asked in family.presets and not asked.startswith(family.name)
    private = ready.spec.private or tokenizer is not None or (start is not None and start.private)
    return Plan(
        RunConfig(
            task=name,  # pyright: ignore[reportArgumentType]: tasks.of has checked it
            model=ModelSpec(family.name, asdict(ready.config), resolved.borrowed),
            data=replace(ready.spec, private=private),
            train=asdict(checked),
            seed=seed,
            versions=runs.versions(),
            threads=numpy_engine.threads() if checked.engine == "numpy" else torch.get_num_threads(),
            started_from=None if start is None else start.name,
        ),
        ready.codec,
        ready.split,
        ready.sources,
        resolved.source,
        None if start is None else start.load_best(),
        0.0 if start is None else _seen(start, ready.split),
        n_parameters,
        n_bytes,
        asked if says_more else "",
    )


def open_split(config: RunConfig) -> Any:
    """The data of a run, from what it was started with. Raises TrainingError where they changed, or are not known."""
    if not config.data.sha256:
        raise TrainingError(
            f"the model of {config.data.source} learnt elsewhere, from what is not known, so there is nothing to "
            f"measure on or to go on with: `kakehashi train --from RUN` begins with its weights, and data of your own"
        )
    return tasks.of(config.task).open_split(config)


def open_sources(config: RunConfig, codec: Any, split: Any = None) -> tuple[Batches, Batches]:
    """(train, validation) of a run. split: what `open_split` gave, where it is at hand."""
    return tasks.of(config.task).open_sources(config, codec, split or open_split(config))


def open_test(config: RunConfig, codec: Any, part: str = "test") -> Batches:
    """A part of a run's data that its training never sees. Raises TrainingError where there is none of that name."""
    return tasks.of(config.task).open_test(config, codec, part)


def _seen(start: Run, split: Any) -> float | None:
    """The share of what is validated on that another run was trained on; None where its data are not as they were."""
    try:
        return split.share_in(open_split(start.config).train)
    except Mistake:
        return None


def _model(resolved: Resolved, preset: str | None, said: Any) -> tuple[Family, Any]:
    family = resolved.family
    if family is None:
        raise TrainingError(f"{said} has no Config: training needs a file as models/protocol.py describes it")
    if preset is None:
        return family, resolved.config
    if preset not in family.presets:
        near = get_close_matches(preset, family.presets, n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise TrainingError(f"preset must be one of {', '.join(family.presets)}, got {preset!r}{meant}")
    return family, family.presets[preset]


def _n_parameters(family: Family, config: Any) -> int:
    with torch.device("meta"):  # shapes alone: no memory
        return sum(p.numel() for p in family.Model(config).parameters())


def _require_memory(said: Any, n_parameters: int | None, n_bytes: int, device: str) -> None:
    """On the CPU, what cannot fit is refused before the system would kill the process."""
    there = memory.of_this_machine()
    if device == "cpu" and there is not None and n_bytes > there:
        raise TrainingError(
            f"{said} has {n_parameters:,} parameters, which need {n_bytes / 2**30:.1f} GiB in training (weights, "
            f"gradients, averages), and this machine has {there / 2**30:.1f} GiB: choose a smaller preset"
        )


def _require_numpy(resolved: Resolved, said: Any, task: str) -> None:
    """Of our models, the NumPy engine has its own copies, which write; a learner's file is written in torch."""
    if resolved.source is not None:
        raise TrainingError(f"engine numpy cannot run {said}, whose model is written in torch: leave engine out")
    if task == "label" and resolved.family.task == "lm":
        raise TrainingError(f"engine numpy trains models to write, not {said} to classify: leave engine out")
    ours = numpy_engine.MODELS
    if resolved.family.name not in ours:
        presets = [preset for name in ours for preset in models.find(name).presets]
        raise TrainingError(
            f"engine numpy has {', '.join(ours)} ({', '.join(presets)}), not {str(said)!r}: "
            f"choose one of them, or leave engine out"
        )


def _require_config(family: Family, config: Any) -> None:
    """Generation asks a model for its `.config`: a learner's without one is refused before it is trained."""
    with runs.learners_code(Path(family.path)):
        model = family.Model(config)
    if not hasattr(model, "config"):
        raise TrainingError(f"{family.path}: {family.Model.__name__} has no .config: set self.config in its __init__")


def _require_blocks(family: Family, config: Any, said: Any) -> None:
    """Muon is for the matrices of blocks, and would have nothing to move without them."""
    with runs.learners_code(Path(family.path)):
        model = family.Model(config)
    if not any(together.is_hidden(name, p) for name, p in model.named_parameters()):
        raise TrainingError(f"optimizer muon moves the matrices of blocks, and {said} has none: leave optimizer out")


def _fitted(settings: TrainSettings, source: Batches, said: bool) -> TrainSettings:
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
            f"accumulate must be at most {in_an_epoch}, the batches of {settings.batch_size} in an epoch, "
            f"got {settings.accumulate}"
        )
    return settings
