"""What the loop tells those who watch it, and how they, or Ctrl-C, stop it."""

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from kakehashi.runs import Run
from kakehashi.training.settings import TrainSettings


@dataclass(kw_only=True)
class Progress:
    """What of the loop's state a checkpoint keeps besides arrays."""

    step: int = 0  # finished steps
    tokens: int = 0  # targets learnt from
    val_loss: float | None = None  # of the last evaluation
    val_right: float | None = None  # of the last evaluation: the share that is right, in tasks that count it
    best: float | None = None  # the least `runs.badness` of all evaluations
    evaluated: int | None = None  # at this step
    loss_sum: Any = 0.0  # of the steps since the last row in metrics.jsonl; while training, a tensor of the engine
    loss_count: int = 0
    notes: dict[str, Any] = field(default_factory=dict)  # of the callbacks, for the next row

    def to_dict(self) -> dict[str, Any]:
        values = {each.name: getattr(self, each.name) for each in fields(Progress)}
        return values | {"loss_sum": float(self.loss_sum)}

    def restore(self, values: dict[str, Any]) -> None:
        """Take what `to_dict` gave."""
        for name, value in values.items():
            setattr(self, name, value)


@dataclass(kw_only=True)
class State(Progress):
    """What a callback sees. Tensors are the live ones: copy what is to be kept.

    batch is the last micro-batch, loss that of the whole step, grad_norm as it was before clipping. None: not yet.
    carried: the model's state after that batch, where the next one follows it; None without `carry`.
    """

    run: Run
    settings: TrainSettings
    engine: Any
    model: Any
    optimizer: Any
    batch: Any = None
    carried: Any = None
    loss: Any = None
    lr: float | None = None
    grad_norm: Any = None
    saved: int | None = None  # step of the newest checkpoint on schedule
    stop: bool = False  # set it, and the loop saves after this step and raises Interrupted
    training_seconds: float = 0.0  # of this session, without evaluation and saving

    def start_clock(self) -> None:
        """A session begins; what the run took before stands in its metrics."""
        rows = self.run.metrics()
        self._started = time.perf_counter()
        self._seconds_before = rows[-1]["time"] if rows else 0.0
        self._steps_before, self._tokens_before = self.step, self.tokens

    @property
    def seconds(self) -> float:
        """What the run has taken so far, interruptions not counted."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def tokens_per_second(self) -> float:
        """Targets learnt from in a second of training, in this session. 0 before its first step."""
        return (self.tokens - self._tokens_before) / self.training_seconds if self.training_seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, evaluations included, at this session's pace. None before its first step."""
        done = self.step - self._steps_before
        return (self.settings.steps - self.step) / done * (time.perf_counter() - self._started) if done else None

    def note(self, notes: dict[str, dict[str, Any]]) -> None:
        """Keep what callbacks noted for the next row; what they said before under the same key is replaced."""
        for name, note in notes.items():
            self.notes[name] = self.notes.get(name, {}) | note

    def check_stop(self) -> None:
        """Raises Interrupted where someone asked to stop."""
        if self.stop:
            raise Interrupted(self.run, self.step)


class Callback:
    """Watches training; override what is needed. A returned dict goes into the next row of metrics under `name`."""

    name: ClassVar[str] = "callback"

    def on_start(self, state: State) -> None:
        """Before the first step, or the first after a resume."""

    def on_backward(self, state: State) -> dict[str, Any] | None:
        """The gradients are there, and not clipped."""

    def on_step(self, state: State) -> dict[str, Any] | None:
        """The weights are updated, the gradients still there."""

    def on_eval(self, state: State) -> dict[str, Any] | None:
        """state.val_loss is new."""

    def on_end(self, state: State) -> None:
        """All steps are done, the best and the last weights written."""


def tell(callbacks: Iterable[Any], event: str, state: State) -> dict[str, dict[str, Any]]:
    """Call each callback that listens to `event`; return what they noted, by their names."""
    notes = {}
    for callback in callbacks:
        if listen := getattr(callback, event, None):
            if note := listen(state):
                notes[callback.name] = note
    return notes


class Interrupted(KeyboardInterrupt):
    """Training was stopped on request, and saved: `run` goes on from `step` when it is resumed."""

    def __init__(self, run: Run, step: int):
        super().__init__(f"stopped after step {step}; `kakehashi train --resume {run.path}` goes on")
        self.run = run
        self.step = step


@contextmanager
def stop_on_ctrl_c(state: State) -> Iterator[None]:
    """Inside, the first Ctrl-C sets state.stop, so that no update is torn; the second one raises at once."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield  # signals belong to the main thread, and one that is ignored stays so
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number, frame):
        state.stop = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
