"""A trained classifier of texts as a folder that is used without Kakehashi: Python and NumPy suffice.

    tool.py        `predict(text)`, and JSON lines on standard input: the file tool.py beside this one, as it stands
    weights.npz    what was learnt
    tool.json      tokenizer, classes, threshold, temperature, what it was trained on, figures
    README.md      for people, in the language in use

Before the folder has its name, the tool has answered every validation text as the run does.
"""

import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from kakehashi import __version__, models, training
from kakehashi.paths import TEMPORARY, atomic_write
from kakehashi.runs import Run, distinct, weights_of
from kakehashi.texts import t
from kakehashi.work.predictor import tool
from kakehashi.work.predictor.certainty import softmax
from kakehashi.work.predictor.errors import PredictorError
from kakehashi.work.predictor.judging import FEW, TARGET, Report, floored, kept, report

APART = 1e-5  # by which a score of the tool may differ from the run's
LEFT_OVER = 3600.0  # seconds after which a temporary folder is nobody's: an export takes minutes at most
HONEST = 0.05  # calibration error up to which a score may be read as a share


def export(run: Run, folder: str | Path, *, target: float = TARGET, reviewed: bool = False) -> Report:
    """Write the tool of a run, whole or not at all; returns how it fares on the validation texts, without baseline.

    target: the precision that its threshold is to reach there. reviewed: a person has seen `review` of a private run.
    Raises PredictorError for a folder that holds something, a private run not reviewed, a model or tokenizer that the
    tool has not, or a model that answers otherwise than the tool; RunError for a run of another task.
    """
    run.require("label")
    if run.private and not reviewed:
        raise PredictorError(f"{run.path} is private: what would leave must be reviewed first")
    folder = Path(folder)
    _require_free(folder)
    model = _model(run)
    made = report(run, target=target, baseline=False)
    texts = [row.text for row in training.open_split(run.config).val]
    with _whole(folder) as place:
        arrays = io.BytesIO()
        np.savez(arrays, **weights_of(run.load_model()))  # pyright: ignore[reportArgumentType]: names are no options
        atomic_write(place / "weights.npz", arrays.getvalue())
        settings = _settings(run, model, made)
        atomic_write(place / "tool.json", json.dumps(settings, ensure_ascii=False, indent=1) + "\n")
        atomic_write(place / "tool.py", Path(tool.__file__).read_bytes())
        atomic_write(place / "README.md", readme(settings))
        _require_same(place, texts, made, run)
    return made


def _model(run: Run) -> dict[str, Any]:
    """The name and the config of the tool's model that has this run's parameters; a learner's file has any name."""
    kind = run.codec.tokenizer.to_dict()["kind"]
    if kind not in tool.TOKENIZERS:
        known = ", ".join(tool.TOKENIZERS)
        raise PredictorError(
            f"{run.path} has a tokenizer of the kind {kind!r}, and a tool can have {known}: train again"
        )
    shapes = {name: array.shape for name, array in run.load_best().items()}
    for name in tool.MODELS:
        config = _config(name, run.config.model.config)
        if config is not None and _shapes(name, config) == shapes:
            return {"name": name, "config": asdict(config)}
    known = ", ".join(tool.MODELS)
    raise PredictorError(
        f"{run.path} has the model {run.config.model.name!r}, and a tool can have {known}, with the parameters of the "
        f"reference: train one of them"
    )


def _config(name: str, values: dict[str, Any]) -> Any:
    """A reference's Config with these values; None where they are not for it."""
    try:
        return TypeAdapter(models.find(name).Config).validate_python(values)
    except ValidationError:
        return None


def _shapes(name: str, config: Any) -> dict[str, tuple[int, ...]]:
    """The parameters of a reference."""
    with torch.device("meta"):  # shapes alone: no memory
        model = models.find(name).Model(config)
    return {each: tuple(tensor.shape) for each, tensor in distinct(model).items()}


def _settings(run: Run, model: dict[str, Any], made: Report) -> dict[str, Any]:
    """tool.json: what tool.py reads, and what a person may want to know; of a private run no names, and no sums."""
    form, data = run.codec, run.config.data
    public = {} if data.private else {"data": data.name, "sha256": data.sha256}
    name = {} if data.private else {"run": run.name}
    figures = {"texts": made.n, "target": made.target, **made.model.to_dict(), "name": model["name"]}
    return {
        "format": 1,
        "model": model,
        "tokenizer": form.tokenizer.to_dict(),
        "classes": form.classes,
        "length": form.length,
        "temperature": made.model.temperature,
        "threshold": floored(made.model.threshold.value),
        "trained_on": {**public, "split": data.split, "private": data.private},
        # the baseline's figures, where the run has been judged beside it, depend on its data alone
        "figures": {**figures, "baseline": (kept(run) or {"baseline": None})["baseline"]},
        "made_by": {**name, "kakehashi": __version__},
    }


def readme(settings: dict[str, Any]) -> str:
    """README.md of a tool, by its tool.json."""
    figures, baseline = settings["figures"], settings["figures"]["baseline"]
    data = settings["trained_on"].get("data", t("predictor.readme.private"))
    share = figures["ece"] <= HONEST and figures["texts"] >= FEW
    parts = [
        t("predictor.readme.what", data=data, n=len(settings["classes"])),
        "\n".join(f"* {name}" for name in settings["classes"]),
        t("predictor.readme.call"),
        t("predictor.readme.sure", n=figures["texts"], accuracy=figures["accuracy"], ece=figures["ece"]),
        t("predictor.readme.share" if share else "predictor.readme.rank"),
    ]
    if baseline is not None:
        parts.append(t("predictor.readme.baseline", name=baseline["name"], accuracy=baseline["accuracy"]))
    if settings["threshold"] is None:
        parts.append(t("predictor.readme.never", target=figures["target"]))
    else:
        values = {name: figures[name] for name in ("target", "threshold", "answered", "precision")}
        low, high = figures["precision_interval"]
        parts.append(t("predictor.readme.abstain", **values, n=figures["n_answered"], low=low, high=high))
        if figures["n_answered"] < FEW:
            parts.append(t("predictor.few", n=figures["n_answered"]))
    parts.append(t("predictor.readme.honest"))
    return "\n\n".join(parts) + "\n"


def _require_same(place: Path, texts: Sequence[str], made: Report, run: Run) -> None:
    """The tool, in a process of its own, answers each text as the run does."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    command = [sys.executable, "-I", "tool.py"]
    done = subprocess.run(command, cwd=place, input=lines.encode("utf-8"), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the exported tool failed:\n{done.stderr.decode('utf-8', 'replace')}")
    probabilities = softmax(made.model.logits, made.model.temperature)  # (N, K)
    places = {name: i for i, name in enumerate(run.codec.classes)}
    for text, line, of_run in zip(texts, done.stdout.splitlines(), probabilities, strict=True):
        said = json.loads(line)
        chance = of_run[places[said["label"]]] if "label" in said else -1.0
        # where two classes are as likely, rounding may choose either
        if max(of_run.max() - chance, abs(said.get("score", 0.0) - chance)) > APART:
            label, score = run.codec.classes[of_run.argmax()], of_run.max()
            raise PredictorError(
                f"{text[:60]!r} is {label!r} ({score:.6f}) to {run.path}, and to the tool {line.decode('utf-8')}: "
                f"the model computes otherwise than the reference, and only what computes as it does can become a tool"
            )


def _require_free(folder: Path) -> None:
    with _writing(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise PredictorError(f"{folder} is there already, and not empty: choose another folder")
        if folder.resolve() == Path.cwd():  # it would be replaced under the feet of whoever stands in it
            raise PredictorError(f"{folder} is the current folder: name one that is not, such as {folder / 'tool'}")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside, which takes the name `folder` at the end; of one that fails nothing stays."""
    with _writing(folder):
        folder = folder.resolve()  # a link, or ".": what it stands for
        place = folder.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder.parent)
    try:
        with _writing(folder):
            place.mkdir()
        yield place
        _require_free(folder)
        with _writing(folder):
            if folder.exists():  # empty: Windows renames to no folder that is there
                folder.rmdir()
            os.rename(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Remove what an export that was killed left there: folders of our name, untouched for an hour."""
    for place in folder.glob(TEMPORARY):
        if place.is_dir() and time.time() - place.stat().st_mtime > LEFT_OVER:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that refuses becomes one line."""
    try:
        yield
    except OSError as error:
        raise PredictorError(f"cannot write {folder}: {error.strerror or error}; choose another place") from error
