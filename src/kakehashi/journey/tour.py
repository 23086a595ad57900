"""The tour: a ladder of models in four minutes; a prediction before they run, a repair while they train.

    with Climb("runs") as climb:                   # in the background: the person reads, predicts and repairs meanwhile
        learnt = climb.wait(len(RUNGS))
    score((0, 1, 2, 5, 3, 4), ladder(learnt))      # Score(right=15, pairs=15)

A rung goes through the same rooms as any other training, and ends as a run like every other. `tour_page` shows.
Nothing here imports torch before the climb begins: the first question need not wait for it.
"""

import math
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from kakehashi import Mistake, faults, paths, source
from kakehashi.journey import stations
from kakehashi.journey.grading import Grade, Grader, Result
from kakehashi.runs import Run
from kakehashi.source.text import parsed
from kakehashi.tokenizers import END


class TourError(Mistake):
    """An answer that cannot be read."""


# --- What is trained ---


@dataclass(frozen=True)
class Rung:
    """A model, its data, and how long it learns.

    name: what it is called here. prompt: how its samples begin, in as many tokens at most.
    """

    name: str
    model: str
    data: str
    preset: str
    settings: dict[str, Any]
    prompt: str = ""
    max_tokens: int = 40


# The seconds are for the whole ladder: a longer rung shortens another.
RUNGS = (
    Rung("bigram", "bigram", "identifiers", "bigram-char", {"steps": 300, "batch_size": 256, "lr": 0.1}),
    Rung("mlp", "mlp", "identifiers", "mlp-char", {"steps": 1000, "batch_size": 64, "lr": 0.01}),
    Rung("wavenet", "wavenet", "identifiers", "wavenet-char", {"steps": 1000, "batch_size": 32, "lr": 0.006}),
    Rung("rnn", "recurrent", "identifiers", "rnn-char", {"steps": 1500, "batch_size": 32, "lr": 0.004}),
    Rung("lstm", "recurrent", "identifiers", "lstm-char", {"steps": 1000, "batch_size": 32, "lr": 0.006}),
    Rung(
        "gpt2",
        "gpt2",
        "identifiers",
        "gpt2-pico",
        {"steps": 2500, "batch_size": 32, "lr": 0.012, "weight_decay": 0.3},  # so few words are soon known by heart
    ),
    Rung(
        "gpt2",
        "gpt2",
        "stdlib-code",
        "gpt2-pico",
        # its validation text is twenty times as long
        {"steps": 1500, "batch_size": 16, "lr": 0.008, "eval_every": 500},
        prompt="def ",
        max_tokens=200,
    ),
)


@dataclass(frozen=True)
class Learnt:
    """A finished rung. Losses are means over the whole validation split, in nats per character.

    name: the rung's. model: with its best weights, in eval mode. loss_at_init: before the first step. seconds:
    evaluation included.
    """

    name: str
    run: Run
    model: Any = field(repr=False)
    samples: tuple[str, ...]
    parameters: int
    loss_at_init: float
    val_loss: float
    seconds: float

    @property
    def data(self) -> str:
        return self.run.config.data.name

    @property
    def vocab_size(self) -> int:
        """V: a model that knows nothing gives each token the probability 1 / V, a loss of ln V."""
        return self.run.tokenizer.vocab_size

    @property
    def bits_per_char(self) -> float:
        return self.val_loss / math.log(2)

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(seconds, validation loss) of each evaluation."""
        return [(row["time"], row["loss"]) for row in self.run.metrics() if row["split"] == "val"]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "data": self.data,
            "parameters": self.parameters,
            "val_loss": self.val_loss,
            "bits_per_char": self.bits_per_char,
            "seconds": self.seconds,
            "loss_at_init": self.loss_at_init,
            "sample": self.samples[0],
        }


def learn(rung: Rung, root: str | Path, callbacks: Sequence[Any] = ()) -> Learnt:
    """Plan, train and sample one rung; its run is root/MODEL-DATA-0001, with the next free number.

    Raises what training.plan and training.train raise.
    """
    from kakehashi import training
    from kakehashi.inference import Engine

    plan = training.plan(rung.model, rung.data, preset=rung.preset, **rung.settings)
    run = training.train(plan.config, plan.create(root), callbacks, sources=plan.sources)
    model = run.load_model()
    completions = Engine(model, run.tokenizer).generate([rung.prompt] * 8, max_tokens=rung.max_tokens)
    losses = [row["loss"] for row in run.metrics() if row["split"] == "val"]
    return Learnt(
        name=rung.name,
        run=run,
        model=model,
        samples=tuple(rung.prompt + each.text for each in completions),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        loss_at_init=losses[0],
        val_loss=min(losses),
        seconds=run.summary()["seconds"],
    )


class Climb:
    """Learns one rung after another in a thread of its own, which begins and ends with the `with`.

    learnt: the finished rungs. state: the training loop's state of the rung in training, or None between two.
    """

    def __init__(self, root: str | Path, rungs: Sequence[Rung] = RUNGS):
        self.root, self.rungs = Path(root), rungs
        self.learnt: list[Learnt] = []
        self.state: Any = None
        self._stopped = False
        self._error: BaseException | None = None
        self._ended = threading.Event()  # Thread.join, once interrupted, takes the thread for ended (Python 3.11)

    def __enter__(self) -> "Climb":
        threading.Thread(target=self._climb, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()  # a thread that is inside torch while the interpreter ends aborts the process

    def wait(self, n: int, tick: Callable[[], None] = lambda: None) -> list[Learnt]:
        """The first n rungs when they are finished. `tick` is called some ten times a second until then.

        Raises what ended the climb before.
        """
        while len(self.learnt) < n and not self._ended.wait(0.1):
            tick()
        if len(self.learnt) < n and self._error:
            raise self._error
        return self.learnt[:n]

    def stop(self) -> Run | None:
        """End after the present step, and wait until it is saved. Returns the run that can be gone on with, if any."""
        self._stopped = True
        if self.state:
            self.state.stop = True
        self._ended.wait()
        return getattr(self._error, "run", None)

    def on_start(self, state: Any) -> None:
        """The loop's callback: from now on there is something to stop."""
        self.state = state
        state.stop = self._stopped

    def _climb(self) -> None:
        try:
            import torch

            torch.set_num_threads(1)  # a second one gains little on models so small, and loses much on a busy machine
            for rung in self.rungs:
                if self._stopped:
                    break
                learnt = learn(rung, self.root, [self])
                self.state = None
                self.learnt.append(learnt)
        except BaseException as error:  # it belongs to who waits
            self._error = error
        finally:
            self._ended.set()


# --- The prediction ---

Step = TypeVar("Step", Rung, Learnt)


def ladder(steps: Sequence[Step]) -> list[Step]:
    """The models that can be compared, and whose order is asked: those of the first one's data."""
    return [each for each in steps if each.data == steps[0].data]


class Score(NamedTuple):
    """How many pairs of models stand in the right order, of how many."""

    right: int
    pairs: int


def read_order(answer: str, n: int) -> tuple[int, ...]:
    """The order of n that a person writes ("2134", "2 1 3 4", "2>1>3>4"), counted from 0. Raises TourError."""
    order = tuple(int(digit) - 1 for digit in re.findall(r"\d", answer))
    if sorted(order) != list(range(n)):
        raise TourError(
            f"an order names each of 1 to {n} once, as {''.join(map(str, range(n, 0, -1)))}; got {answer!r}"
        )
    return order


def order_of(learnt: Sequence[Learnt]) -> tuple[int, ...]:
    """The places of the models, highest validation loss first."""
    return tuple(sorted(range(len(learnt)), key=lambda i: -learnt[i].val_loss))


def score(order: Sequence[int], learnt: Sequence[Learnt]) -> Score:
    """Compare a predicted order, highest validation loss first, with what came out (Kendall's count of pairs)."""
    pairs = list(combinations(order, 2))
    return Score(sum(learnt[a].val_loss > learnt[b].val_loss for a, b in pairs), len(pairs))


# --- The repair ---

FAULT = "bigram-columns-normalised"


class Symptom(NamedTuple):
    """What the table found by counting looks like.

    loss: on validation. extremes: the letters after which the probabilities sum to least and to most, with the sums;
    each should be 1.
    """

    loss: float
    extremes: tuple[tuple[str, float], tuple[str, float]]


class Repair:
    """A copy of the bigram's file with one fault in its `count`, for the person to mend: folder/repair-bigram.py.

    line: where the fault is. listing: the faulty function, line number -> line.
    """

    def __init__(self, folder: str | Path):
        self.fault = faults.find(FAULT)
        self.station = stations.find(self.fault.stem)
        self.planted, (self.line,), _ = faults.inject(self.fault)
        text = parsed(self.planted)
        first, last = text.place(text.find(self.fault.symbol)[0])
        self.listing = dict(list(enumerate(self.planted.splitlines(), 1))[first - 1 : last])
        self.path = Path(folder, f"repair-{self.station.file}")
        self._write(self.planted)

    @property
    def answer(self) -> str:
        """The line as it should be."""
        return source.read(self.fault.path).splitlines()[self.line - 1]

    @property
    def touched(self) -> bool:
        """Has the file changed since it was last written or checked?"""
        return source.read(self.path) != self._seen

    def change(self, line: int, code: str) -> None:
        """Write the planted file with one line of the listing in other words; its indentation stays."""
        old = self.listing[line]
        new = old[: len(old) - len(old.lstrip())] + code.strip()
        lines = self.planted.splitlines()
        self._write("\n".join([*lines[: line - 1], new, *lines[line:], ""]))

    def check(self, grader: Grader, tell: Callable[[Result], None] = lambda result: None) -> Grade:
        """The station's checks on the function as the file has it now."""
        self._seen = source.read(self.path)
        return grader.grade(self.station, self.path, [self.fault.symbol], tell)

    def symptom(self, run: Run) -> Symptom:
        """What the planted fault does to the table counted from a bigram run's data."""
        return counted(source.load(self.path, compile(self.planted, str(self.path), "exec")), run)

    def healthy(self, run: Run) -> Symptom:
        """The same without the fault."""
        return counted(run.family.module, run)

    def _write(self, text: str) -> None:
        paths.atomic_write(self.path, text)
        self._seen = text


def counted(module: ModuleType, run: Run) -> Symptom:
    """Count the data of a bigram's run with `count` of the bigram file `module`, and look at the table."""
    import torch

    from kakehashi import training

    def all_at_once(part: Any) -> tuple[torch.Tensor, torch.Tensor]:
        batch = next(part.whole(part.n_items))
        return torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets)

    train, val = map(all_at_once, training.open_sources(run.config, run.tokenizer))
    table = module.count(*train, run.tokenizer.vocab_size)  # (V, V)
    loss = run.family.module.cross_entropy(table[val[0]], val[1])
    sums = sorted(zip(table.exp().sum(1).tolist(), run.tokenizer.tokens, strict=True))
    letters = [(token, total) for total, token in sums if token != END]
    return Symptom(float(loss), (letters[0], letters[-1]))
