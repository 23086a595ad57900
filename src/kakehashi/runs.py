"""Runs: everything that is trained is a directory, and this file is its one reader and writer.

    runs/gpt2-names-0001/
      config.json          what it takes to repeat the run
      tokenizer.json       self-contained; of a classifier images.json or texts.json, the form and the classes
      source.py            only when the model is the learner's own: the code that was trained, reloaded from here
      model.safetensors    the best weights on validation
      metrics.jsonl        one JSON object a line
      checkpoint/          two generations; the file `current` names the one to go on from
      samples.md           for people
      ...                  what else a tool keeps with it: `write_extra`

A file is replaced whole or not at all, so a run that was killed at any moment is a run. One process writes at a time.
Arrays are NumPy: an engine makes its own tensors of them.
"""

import json
import math
import os
import platform
import re
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, Literal

import filelock
import numpy as np
import safetensors
import safetensors.numpy
import torch
from pydantic import Field, TypeAdapter, ValidationError

from kakehashi import Mistake, __version__, convert, models, source, tokenizers
from kakehashi.data import images, tables
from kakehashi.models.protocol import Family
from kakehashi.paths import TEMPORARY, atomic_write

Arrays = dict[str, np.ndarray]
LONGEST_WINDOW = 2**31  # tokens; below it, places in a text are exact in int64
# by task: the file of the codec, what stands between a person's input and the model's numbers, and what reads it
CODECS = {
    "lm": ("tokenizer.json", tokenizers.load),
    "seq2seq": ("tokenizer.json", tokenizers.load),
    "classify": ("images.json", images.load_form),
    "label": ("texts.json", tables.load_form),
}
# by task: the command that uses a run
USES = {
    "lm": "kakehashi sample {run}",
    "seq2seq": "kakehashi translate {run} TEXT",
    "classify": "kakehashi classify {run} IMAGE",
    "label": "kakehashi classify {run} TEXT",
}


class RunError(Mistake):
    """A run, a model's name or a device that cannot be used as it is: one line that says why."""


class RunBusy(RunError):
    """Another process writes this run."""


@dataclass(frozen=True)
class ModelSpec:
    """The model: its file's name, its Config's fields, and what a learner's file borrowed from the reference."""

    name: str
    config: dict[str, Any]
    borrowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSpec:
    """What was learnt: enough to find the same data again and to cut them in the same way. None: not of this task."""

    name: str
    source: str  # a name, or an absolute path
    sha256: str
    split: str  # in words
    private: bool  # nothing learnt from it leaves the machine unasked
    unit: str | None = None
    block_size: Annotated[int, Field(ge=1, lt=LONGEST_WINDOW)] | None = None  # tokens in a window, or read of a text
    encoding: str | None = None
    size: int | None = None  # of images: pixels, height and width
    shift: int | None = None  # in training, up to so many pixels
    flip: bool | None = None  # in training, half of them mirrored
    text: str | None = None  # of a table: the column of the texts
    label: str | None = None  # and that of the classes


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """config.json. train: the fields of training.TrainSettings. started_from: the run that gave the first weights."""

    format: Literal[1] = 1
    task: Literal["lm", "seq2seq", "classify", "label"]
    model: ModelSpec
    data: DataSpec
    train: dict[str, Any]
    seed: int
    versions: dict[str, str]
    threads: int
    started_from: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Checkpoint:
    """What a run goes on from: JSON values, the last weights, and the engine's arrays (optimizer, random numbers).

    provisional: off schedule, as after Ctrl-C. The next one takes its place, not the older generation's, so that the
    directory ends as if there had been no interruption.
    """

    state: dict[str, Any]
    weights: Arrays
    optimizer: Arrays
    provisional: bool = False


class Run:
    """A run directory. Make one with `create`, read one with `open`; whoever writes holds `lock()`."""

    def __init__(self, path: Path, config: RunConfig):
        self.path = path
        self.config = config
        self._lock = filelock.FileLock(path / ".lock", timeout=0)

    @classmethod
    def create(
        cls,
        root: str | Path,
        name_stem: str,
        config: RunConfig,
        codec: Any,
        source: str | None = None,
        *,
        weights: Arrays | None = None,
        number: bool = True,
        data: Mapping[str, bytes] = MappingProxyType({}),
    ) -> "Run":
        """A new directory root/name_stem-0001, with the next free number; root/name_stem itself where not `number`.

        codec: the tokenizer, or what else stands between a person's input and the model's numbers; it has to_dict().
        source: the learner's code, where the model is theirs. weights: what training begins with; None: the seed's.
        data: the file of that name that the run keeps and goes on from, in place of config's own source.
        Raises RunError where the directory cannot be made.
        """
        path = _claim(Path(root), name_stem, number)
        try:
            if source is not None:
                atomic_write(path / "source.py", source)
            if weights is not None:
                atomic_write(path / "model.safetensors", safetensors.numpy.save(weights))
            for each, content in data.items():
                atomic_write(path / each, content)
                config = replace(config, data=replace(config.data, source=str((path / each).resolve())))
            atomic_write(path / CODECS[config.task][0], _json(codec.to_dict()))
            atomic_write(path / "config.json", _json(config.to_dict()))  # last: with it the directory is a run
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # else the name would be taken by what is no run
            raise
        return cls(path, config)

    @classmethod
    def from_hf(cls, folder: str | Path, root: str | Path = "runs", name: str | None = None) -> "Run":
        """A new run root/NAME, or the next free number below root, of a Hugging Face folder's model, in float32.

        What it learnt from is not known, so the run is private. Raises RunError where the folder has no tokenizer, or
        one with tokens that the model does not know, TokenizerError where it has one of a kind that we have not, and
        ConvertError.
        """
        folder = Path(folder)
        if not (folder / "config.json").exists():
            raise RunError(f"{folder} is not a Hugging Face folder: it has no config.json")
        tokenizer = convert.load_tokenizer(folder)
        if tokenizer is None:
            raise RunError(f"{folder} has no tokenizer, and a run needs one: put its tokenizer.json there")
        model = convert.load_hf(folder, torch.float32)  # a run's arrays are NumPy's, which has no bfloat16
        family, settings = _family_of(model), model.config
        if tokenizer.vocab_size > settings.vocab_size:
            raise RunError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, and the model knows "
                f"{settings.vocab_size}: put the tokenizer there that belongs to it"
            )
        config = RunConfig(
            task="lm",  # as all that convert reads
            model=ModelSpec(family.name, asdict(settings)),
            data=DataSpec(
                folder.resolve().name,
                str(folder.resolve()),
                sha256="",
                split="not known: learnt elsewhere",
                private=True,
                unit="stream",
                block_size=settings.block_size,
            ),
            train={},
            seed=0,
            versions=versions(),
            threads=torch.get_num_threads(),
        )
        stem = name or f"{family.name}-{folder.resolve().name}"
        return cls.create(root, stem, config, tokenizer, weights=weights_of(model), number=name is None)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run in a directory. Raises RunError where there is none, or its config.json is not one of ours."""
        path = Path(path)
        try:
            text = (path / "config.json").read_text(encoding="utf-8")
            return cls(path, TypeAdapter(RunConfig).validate_json(text))
        except FileNotFoundError:
            raise RunError(f"{path} is not a run: it has no config.json; `kakehashi runs` lists the runs") from None
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read {path / 'config.json'}: {error}") from error
        except ValidationError as error:
            if convert.is_hf(path):
                advice = f"`kakehashi convert {path} --to run` makes a run of it"
                raise RunError(f"{path} is a Hugging Face folder, not a run: {advice}") from None
            raise RunError(f"{path / 'config.json'}: {first_mistake(error)}") from error

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def private(self) -> bool:
        return self.config.data.private

    @property
    def private_by(self) -> Literal["data", "start", "tokenizer"]:
        """What makes a private run private: data of one's own, a private run that it began from, or its tokenizer."""
        if Path(self.config.data.source).is_absolute():
            return "data"
        return "start" if self.config.started_from else "tokenizer"

    @cached_property
    def codec(self) -> Any:  # a Tokenizer, and what its kind has besides
        """What stands between a person's input and the model's numbers: of a run on text, its tokenizer."""
        name, load = CODECS[self.config.task]
        found = load(self.path / name)
        if self.config.task == "label":
            try:
                found.require_fits(self.config.model.config)
                if found.length != self.config.data.block_size:
                    raise RunError(f"length must be {self.config.data.block_size}, as config.json says")
            except Mistake as error:
                raise RunError(f"{self.path / name}: {error}") from error
        return found

    @property
    def tokenizer(self) -> Any:
        """The codec of a run that writes. Raises RunError for a classifier's."""
        if self.config.task in ("classify", "label"):
            use = USES[self.config.task].format(run=self.path)
            what = "images" if self.config.task == "classify" else "texts"
            raise RunError(f"{self.path} learnt to classify {what}, not to write: `{use}`")
        return self.codec

    @property
    def form(self):
        """The codec of a classifier's run. Raises RunError for a run that writes."""
        if self.config.task not in ("classify", "label"):
            raise RunError(f"{self.path} learnt from text, not from images: choose a run of a classifier")
        return self.codec

    def learners_code(self, everything: bool = False, advice: str = "") -> AbstractContextManager[None]:
        """Inside, what the learner's code of this run raises becomes one line: see `runs.learners_code`."""
        return learners_code(self.path / "source.py", everything, advice)

    def require(self, task: str) -> None:
        """Raises RunError, with the command that uses it, where the run is of another task."""
        if self.config.task != task:
            use = USES[self.config.task].format(run=self.path)
            raise RunError(f"{self.path} is of the task {self.config.task}, and this needs one of {task}: try `{use}`")

    @cached_property
    def source(self) -> str | None:
        """The learner's code, where the model is their own."""
        path = self.path / "source.py"
        return path.read_text(encoding="utf-8") if path.exists() else None

    @cached_property
    def family(self) -> Family:
        """The model's code: the run's source.py, else the reference of that name."""
        if self.source is None:
            return models.find(self.config.model.name)
        path = self.path / "source.py"
        with learners_code(path):
            return replace(_family(source.load(path), path), name=self.config.model.name)

    @cached_property
    def model_config(self) -> Any:
        """The family's Config, with the values of config.json."""
        try:
            return TypeAdapter(self.family.Config).validate_python(self.config.model.config)
        except ValidationError as error:
            raise RunError(f"{self.path / 'config.json'}: model.config: {first_mistake(error)}") from error

    # --- Writing ---

    @contextmanager
    def lock(self) -> Iterator["Run"]:
        """Hold the run for writing; may be nested. Raises RunBusy at once where another holds it."""
        holder = self.path / ".pid"
        try:
            self._lock.acquire()
        except filelock.Timeout:
            pid = holder.read_text(encoding="utf-8") if holder.exists() else "unknown"
            raise RunBusy(f"{self.path} is being written by process {pid}: wait until it ends, or stop it") from None
        except OSError as error:
            raise RunError(f"cannot write in {self.path}: {error.strerror or error}") from error
        try:
            if self._lock.lock_counter == 1:
                atomic_write(holder, str(os.getpid()))
                with _writing(self.path):
                    for left_over in self.path.rglob(TEMPORARY):  # by a process that was killed inside a write
                        left_over.unlink()
            yield self
        finally:
            self._lock.release()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl. What is not finite becomes null, as JSON has no word for it."""
        # `time` is as wide in every row, so a resumed run has the same byte offsets as one that was never interrupted
        fields = (
            f'"{key}": ' + (f"{value:12.3f}" if key == "time" else json.dumps(_finite(value), ensure_ascii=False))
            for key, value in row.items()
        )
        with self.lock(), _writing(self._metrics), open(self._metrics, "a", encoding="utf-8", newline="\n") as file:
            file.write("{" + ", ".join(fields) + "}\n")

    def save_best(self, weights: Arrays) -> None:
        """Replace model.safetensors."""
        with self.lock():
            atomic_write(self.path / "model.safetensors", safetensors.numpy.save(weights))

    def write_samples(self, text: str) -> None:
        """Replace samples.md."""
        with self.lock():
            atomic_write(self.path / "samples.md", text)

    def write_extra(self, name: str, content: str | bytes) -> None:
        """Replace a file that a tool keeps beside the run's own: name "predictor.json", or "plots/reliability.html"."""
        path = self.path / name
        with self.lock():
            with _writing(path):
                path.parent.mkdir(exist_ok=True)
            atomic_write(path, content)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the generation that is not current, then make it current."""
        with self.lock():
            current = self._current()
            slot = 0 if current is None else 1 - current
            if current is not None and self._read_state(current)["provisional"] and self._is_whole(slot):
                self._point_to(slot)
                slot = current
            folder = self._slot(slot)
            with _writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "state.json").unlink(missing_ok=True)  # a generation is whole while it has one
                metrics_bytes = _synced_size(self._metrics)
            atomic_write(folder / "last.safetensors", safetensors.numpy.save(checkpoint.weights))
            atomic_write(folder / "optimizer.safetensors", safetensors.numpy.save(checkpoint.optimizer))
            state = {**checkpoint.state, "metrics_bytes": metrics_bytes, "provisional": checkpoint.provisional}
            atomic_write(folder / "state.json", _json(state))
            self._point_to(slot)

    def rewind(self) -> Checkpoint | None:
        """The newest whole checkpoint, with metrics.jsonl cut back to its moment. None, and no rows: begin anew.

        Raises RunError, and cuts nothing, where there were checkpoints and none is whole, or rows are missing.
        """
        with self.lock():
            current = self._current()
            folder = self.path / "checkpoint"
            # a first checkpoint that a kill cut short has neither: state.json is its last file, `current` comes after
            if current is None and [*folder.glob("current"), *folder.glob("*/state.json")]:
                raise RunError(f"no checkpoint in {folder} is whole: bring one back from a copy, or start a new run")
            kept = 0 if current is None else self._read_state(current)["metrics_bytes"]
            size = self._metrics.stat().st_size if self._metrics.exists() else 0
            if size < kept:
                raise RunError(
                    f"{self._metrics} has {size} bytes, and had {kept} at the newest checkpoint: "
                    f"bring it back from a copy, or start a new run"
                )
            if size > kept:
                with _writing(self._metrics):
                    os.truncate(self._metrics, kept)
            return self.load_checkpoint()

    # --- Reading ---

    def read_extra(self, name: str) -> bytes:
        """What `write_extra` wrote. Raises RunError where there is no such file."""
        path = self.path / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise RunError(f"{self.path} has no {name}") from None
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror or error}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a torn last line does not count. Raises RunError where another is no row."""
        if not self._metrics.exists():
            return []
        lines = self._metrics.read_bytes().split(b"\n")[:-1]  # after the last line's end: nothing, or a torn line
        try:
            rows = [json.loads(line) for line in lines]
        except ValueError as error:
            raise RunError(f"{self._metrics} is damaged: {error}") from error
        for number, row in enumerate(rows, 1):
            if not _is_row(row):
                raise RunError(f"{self._metrics} is damaged: line {number} is no row of metrics, got {str(row)[:80]!r}")
        return rows

    def summary(self) -> dict[str, Any]:
        """A run in one row: what learnt what, how far it is, and how good the weights that are kept.

        val_loss: None before the first evaluation. right: only in tasks that count what is right.
        """
        rows = self.metrics()
        evaluations = [row for row in rows if row["split"] == "val" and row["loss"] is not None]
        kept = min(
            reversed(evaluations),
            key=lambda row: badness(self.config.task, row["loss"], row.get("right")),
            default={"loss": None},
        )
        return {
            "model": self.config.model.name,
            "data": self.config.data.name,
            "private": self.private,
            "step": rows[-1]["step"] if rows else 0,
            "steps": self.config.train.get("steps"),
            "val_loss": kept["loss"],
            **({"right": kept["right"]} if "right" in kept else {}),
            "seconds": rows[-1]["time"] if rows else 0.0,
        }

    def load_best(self) -> Arrays:
        """The best weights. Raises RunError where there are none yet."""
        path = self.path / "model.safetensors"
        if not path.exists():
            raise RunError(f"{self.path} has no weights yet: go on with `kakehashi train --resume {self.path}`")
        try:
            return safetensors.numpy.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise RunError(f"cannot read {path}: {error}") from error

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint; None where there is none."""
        current = self._current()
        if current is None:
            return None
        state = self._read_state(current)
        del state["metrics_bytes"]
        weights, optimizer = map(safetensors.numpy.load_file, self._arrays(current))
        return Checkpoint(state, weights, optimizer, state.pop("provisional"))

    def load_model(self):
        """The model with the best weights, in eval mode. Raises RunError where weights and code do not fit."""
        model = self.family.Model(self.model_config)
        try:
            load_weights(model, self.load_best())
        except RunError as error:
            raise RunError(f"{self.path}: {error}") from error
        return model.eval()

    # --- The two generations of checkpoints ---

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def _slot(self, slot: int) -> Path:
        return self.path / "checkpoint" / str(slot)

    def _arrays(self, slot: int) -> tuple[Path, Path]:
        return self._slot(slot) / "last.safetensors", self._slot(slot) / "optimizer.safetensors"

    def _read_state(self, slot: int) -> dict[str, Any]:
        return json.loads((self._slot(slot) / "state.json").read_text(encoding="utf-8"))

    def _is_whole(self, slot: int) -> bool:
        try:
            state = self._read_state(slot)
            if not (isinstance(state, dict) and {"step", "metrics_bytes", "provisional"} <= state.keys()):
                return False
            for path in self._arrays(slot):
                with safetensors.safe_open(path, "numpy"):  # reads the header, and compares the size with it
                    pass
        except (OSError, ValueError, safetensors.SafetensorError):
            return False
        return True

    def _current(self) -> int | None:
        """The generation that `current` names, if it is whole; else, the one of the higher step that is."""
        whole = [slot for slot in (0, 1) if self._is_whole(slot)]
        try:
            named = int((self.path / "checkpoint" / "current").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            named = None
        return named if named in whole else max(whole, key=lambda slot: self._read_state(slot)["step"], default=None)

    def _point_to(self, slot: int) -> None:
        atomic_write(self.path / "checkpoint" / "current", str(slot))


# --- The machine, and the weights of torch models ---


def versions() -> dict[str, str]:
    """What a run's numbers depend on besides its config."""
    return {
        "kakehashi": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def device(name: str) -> torch.device:
    """The torch device of that name. Raises RunError where PyTorch does not know it, or has none here."""
    try:
        found = torch.device(name)
    except RuntimeError:
        raise RunError(f"device must be cpu, cuda, cuda:N or mps, got {name!r}") from None
    n_found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (found.index or 0) >= n_found.get(found.type, 0):
        raise RunError(f"device {name!r} is not available to PyTorch {torch.__version__} here: choose cpu")
    return found


def weights_of(model) -> Arrays:
    """A copy of a torch model's parameters and persistent buffers. What is tied stands once, under its first name."""
    return {name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in distinct(model).items()}


def load_weights(model, weights: Arrays) -> None:
    """Copy what `weights_of` gave into a torch model. Raises RunError where names or shapes differ."""
    tensors = distinct(model)
    if missing := tensors.keys() - weights.keys():
        raise RunError(f"the weights do not fit: there are none for {', '.join(sorted(missing))}")
    if unknown := weights.keys() - tensors.keys():
        raise RunError(f"the weights do not fit: the model has no {', '.join(sorted(unknown))}")
    for name, tensor in tensors.items():
        if tensor.shape != weights[name].shape:
            shapes = f"{tuple(tensor.shape)} in the model, {weights[name].shape} in the weights"
            raise RunError(f"the weights do not fit: {name} is {shapes}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(weights[name]))


def distinct(model) -> dict[str, Any]:
    """The parameters and persistent buffers of a torch model; what is tied stands once, under its first name."""
    names = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), (name, tensor))
    return dict(names.values())


# --- Finding runs and models ---


def list_runs(root: str | Path) -> list[Run]:
    """The runs in a directory, by name. What `Run.open` or `summary` would refuse is left out."""
    runs = []
    for path in sorted(Path(root).glob("*/config.json")):
        with suppress(RunError):
            run = Run.open(path.parent)
            run.summary()
            runs.append(run)
    return runs


@dataclass(frozen=True)
class Resolved:
    """What a person's word for a model stands for.

    family      the code; None for a model that does not follow models/protocol.py
    config      the Config to build with: the run's, the preset's, or that of the first preset
    model       with weights, for a run and a Hugging Face folder; what the person's function made
    codec       the run's: of a model on text, its tokenizer; of a Hugging Face folder, its tokenizer if we can read it
    borrowed    symbols of a learner's file that come from the reference, because they are blank there
    source      the code of a learner's file
    arguments   what else the person's function gave for doctor.examine
    """

    family: Family | None
    config: Any = None
    model: Any = None
    codec: Any = None
    borrowed: tuple[str, ...] = ()
    source: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


def resolve(what: str | Path) -> Resolved:
    """A model by NAME, FILE.py, FILE.py:name, RUN or HF_DIR.

    NAME is a model file or a preset. A FILE.py follows models/protocol.py; `name` in it is a class that is built
    without arguments or takes the Config, or a function without arguments that returns a model, or a dict of
    doctor.examine's arguments. Raises RunError or UnknownModel: one line that says what was looked for.
    """
    text = str(what)
    if match := re.fullmatch(r"(.+\.py)(?::(\w+))?", text):
        return _resolve_file(Path(match[1]), match[2])
    if Path(text).is_dir():
        return _resolve_folder(Path(text))
    family = models.find(text)
    config = family.presets.get(text) or next(iter(family.presets.values()))
    return Resolved(family, config)


def _resolve_file(path: Path, name: str | None) -> Resolved:
    module, text, borrowed = _load(path)
    what = name or "Model"
    if not hasattr(module, what):
        raise RunError(f"{path} has no {what}: say which class or function to take, as in {path}:Net")
    chosen = getattr(module, what)
    lacks = [each for each in ("TASK", "Config", "PRESETS") if not hasattr(module, each)]
    if isinstance(chosen, type) and not lacks:
        family = _family(module, path, chosen)
        return Resolved(family, next(iter(family.presets.values())), borrowed=borrowed, source=text)
    if name is None:
        raise RunError(
            f"{path} has no {lacks[0]}, which models/protocol.py asks for; name a class to do without: {path}:Net"
        )
    with learners_code(path):
        made = chosen()
    given = dict(made) if isinstance(made, Mapping) else {"model": made}
    model = given.pop("model", None)
    if not hasattr(model, "state_dict"):
        raise RunError(
            f"{path}:{name} must give a model or a dict with a model under 'model', got {type(made).__name__}"
        )
    return Resolved(None, model=model, borrowed=borrowed, source=text, arguments=given)


def _resolve_folder(path: Path) -> Resolved:
    if convert.is_hf(path):
        model = convert.load_hf(path)
        try:
            tokenizer = convert.load_tokenizer(path)
        except tokenizers.TokenizerError:  # of a kind that we have not: the model is one without it
            tokenizer = None
        return Resolved(_family_of(model), model.config, model, tokenizer)
    run = Run.open(path)
    model = run.load_model()
    return Resolved(run.family, run.model_config, model, run.codec, run.config.model.borrowed, run.source)


def _family_of(model: Any) -> Family:
    """The reference that a model is made of."""
    return next(family for family in models.families() if isinstance(model, family.Model))


def _load(path: Path) -> tuple[ModuleType, str, tuple[str, ...]]:
    """A learner's file as a module, its text made whole with what it borrows from its REFERENCE, and what that was."""
    with learners_code(path):
        text = source.read(path)
        if not (named := re.search(r"^REFERENCE\s*=\s*[\"'](\w+)[\"']", text, re.MULTILINE)):
            return source.load(path), text, ()
        reference = models.find(named[1]).path
        theirs = source.read(reference)
        code, borrowed = source.compose(text, path, theirs, reference, None)
        whole, _ = source.composed(text, theirs, learner_path=path)
        return source.load(path, code), whole, tuple(borrowed)


def _family(module: ModuleType, path: Path, model: type | None = None) -> Family:
    return Family(path.stem, module, module.Config, model or module.Model, module.PRESETS, str(path))


@contextmanager
def learners_code(path: Path, everything: bool = True, advice: str = "") -> Iterator[None]:
    """What a learner's code raises becomes one line, with the place in their file.

    everything: all that is raised inside; else only what came through that file. advice: what ends the line.
    """
    try:
        yield
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.resolve()]
        if not (lines or everything):
            raise
        place = f"{path}:{lines[-1]}" if lines else str(path)
        raise RunError(f"{place}: {type(error).__name__}: {' '.join(str(error).split())}{advice}") from error


# --- Files ---


def first_mistake(error: ValidationError) -> str:
    """pydantic's report in one line: the first field that is wrong, what is wrong, and the value."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "the file"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{name}: {message}, got {str(first['input'])[:80]!r}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _finite(value: Any) -> Any:
    """The value with None for each number that is infinite or not a number."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def badness(task: str, loss: float, right: Any = None) -> float:
    """What the weights that are kept have least of: a classifier's errors; of other tasks, loss.

    Few sentences are translated to the letter, and which ones is luck: loss says what all of them are worth.
    """
    return 1 - right if task in ("classify", "label") else loss


def _is_row(value: Any) -> bool:
    """Whether a line of metrics.jsonl has what every row has."""
    kinds = {"step": int, "time": int | float, "split": str, "loss": int | float | None}
    return isinstance(value, dict) and all(
        name in value and isinstance(value[name], kind) for name, kind in kinds.items()
    )


def _synced_size(path: Path) -> int:
    """Bring a file to the disk, and say how many bytes it has."""
    with open(path, "ab") as file:
        os.fsync(file.fileno())
        return file.tell()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A disk that refuses becomes one line."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _claim(root: Path, stem: str, number: bool) -> Path:
    """Make the run's directory: mkdir succeeds for one process only, so no two get the same number."""
    stem = re.sub(r"[^\w.-]+", "-", stem)
    taken = [int(match[1]) for path in root.glob(f"{stem}-*") if (match := re.fullmatch(r".*-(\d{4,})", path.name))]
    next_number = max(taken, default=0) + 1
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        while True:
            path = root / (f"{stem}-{next_number:04d}" if number else stem)
            try:
                path.mkdir()
                return path
            except FileExistsError:
                if not number:
                    raise RunError(f"{path} exists: choose another name, or go on with --resume {path}") from None
                next_number += 1
