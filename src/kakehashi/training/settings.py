"""The dials of training, checked: a wrong one is named with its value before anything starts."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kakehashi import Mistake
from kakehashi.runs import first_mistake
from kakehashi.training.schedule import noam, warmup_cosine

ENGINES = ("torch", "numpy")
OPTIMIZERS = ("adamw", "muon")
RATES = {"adamw": 1e-3, "muon": 0.02}
SCHEDULES = ("cosine", "noam")
DTYPES = ("float32", "bfloat16", "float16")
FOLLOWS: Any = None  # a value that is derived from the others


class TrainingError(Mistake):
    """Training cannot start or go on: one line that says why."""


@dataclass(frozen=True)
class TrainSettings:
    """One dial, `steps`, is enough: what is left out follows from it, and holds that value once made.

    A step sees `accumulate` batches of `batch_size` items. `clip` is the largest norm of the gradient, 0: no limit.
    Matrices shrink by lr * weight_decay a step. Weights are float32; `dtype` is that of the arithmetic (autocast).
    carry: a stream's windows follow one another, and the model's state goes on from batch to batch.
    """

    steps: int = 1000
    batch_size: int = 32
    optimizer: str = "adamw"  # or "muon", for the matrices of blocks: see training/together.py
    lr: float = FOLLOWS  # RATES
    schedule: str = "cosine"  # or "noam": see training/schedule.py
    min_lr: float = FOLLOWS  # lr / 10; of the cosine
    warmup: int = FOLLOWS  # steps until lr is reached; a twentieth of all
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    accumulate: int = 1
    carry: bool = False
    eval_every: int = FOLLOWS  # steps; a tenth of all
    checkpoint_every: int = FOLLOWS  # steps; as eval_every
    log_every: int = FOLLOWS  # steps; a hundredth of all
    engine: str = "torch"  # or "numpy": kakehashi.autograd
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise TrainingError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.lr is None:
            object.__setattr__(self, "lr", RATES[self.optimizer])
        _at_least(self, 1, "steps", "batch_size", "accumulate")
        _at_least(self, 0, "lr", "weight_decay", "clip")
        derived = {
            "min_lr": self.lr / 10,
            "warmup": self.steps // 20,
            "eval_every": max(1, self.steps // 10),
            "checkpoint_every": self.eval_every or max(1, self.steps // 10),
            "log_every": max(1, self.steps // 100),
        }
        for name, value in derived.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        _at_least(self, 1, "eval_every", "checkpoint_every", "log_every")
        _at_least(self, 0, "min_lr", "warmup")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise TrainingError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.engine not in ENGINES:
            raise TrainingError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.dtype not in DTYPES:
            raise TrainingError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", self.device):
            raise TrainingError(f"device must be cpu, cuda, cuda:N or mps, got {self.device!r}")
        if self.dtype == "float16" and not self.device.startswith("cuda"):
            raise TrainingError(f"dtype float16 needs device cuda, got {self.device!r}: choose bfloat16 or float32")
        for name, only in (("device", "cpu"), ("dtype", "float32")):
            if self.engine == "numpy" and (value := getattr(self, name)) != only:
                raise TrainingError(f"{name} must be {only} with engine numpy, got {value!r}: leave one of them out")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TrainSettings":
        """From what a person or a config.json says. Raises TrainingError for an unknown name or a value of no use."""
        known = [each.name for each in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise TrainingError(f"there is no training setting {unknown[0]!r}; there are {', '.join(known)}")
        try:
            return TypeAdapter(cls).validate_python(dict(values))
        except ValidationError as error:
            raise TrainingError(first_mistake(error)) from error

    def lr_of(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        if self.schedule == "noam":
            return noam(step, lr=self.lr, warmup=self.warmup)
        return warmup_cosine(step, steps=self.steps, lr=self.lr, min_lr=self.min_lr, warmup=self.warmup)

    def groups(self, params: Iterable[Any], share: float = 1.0) -> list[dict[str, Any]]:
        """Parameter groups of AdamW: matrices shrink; biases and gains have a scale to find, not to be kept small.

        share: of each step's rate, for these parameters.
        """
        params = list(params)
        return [
            {"params": [p for p in params if p.ndim >= 2], "weight_decay": self.weight_decay, "share": share},
            {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0, "share": share},
        ]


def _at_least(settings: TrainSettings, least: int, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not least <= value < math.inf:  # a NaN fails, too
            finite = "" if value < least else " and finite"
            raise TrainingError(f"{name} must be at least {least}{finite}, got {value}")
