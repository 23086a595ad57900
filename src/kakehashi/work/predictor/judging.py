"""A trained classifier of texts beside its baseline: how often each is right, how sure, and when it had better abstain.

    made = predictor.report(run)                # on the texts it was validated on, TF-IDF beside it
    made.outcome                                # "model", "baseline", or "close": too close to tell
    made.save(run)                              # predictor.json, plots/reliability.html
    predictor.report(run, part="test")          # of a set known by name: texts that nothing was chosen by

Threshold, temperature and the weights that are kept are all chosen by the validation texts, so that figures there are a
little too good.

Axes: N texts, K classes.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kakehashi import training
from kakehashi.data import tables
from kakehashi.inference.texts import text_logits
from kakehashi.runs import Run
from kakehashi.work.predictor import certainty
from kakehashi.work.predictor.baseline import NAME, Baseline
from kakehashi.work.predictor.certainty import Threshold
from kakehashi.work.predictor.errors import PredictorError

FILE = "predictor.json"
DECIMALS = 6  # of the tool's scores
FEW = 200  # answers: a precision of fewer is known roughly at best
CHANCE = 0.05  # where a fair coin would make as large a difference as often, nobody has won
PAGE = "plots/reliability.html"
TARGET = 0.95  # of what is answered, the share that is to be right
RESAMPLES = 10_000
Answering = Callable[[Sequence[str]], np.ndarray]  # texts -> logits (N, K)


@dataclass(frozen=True, eq=False)
class Judged:
    """A classifier on N texts: its logits (N, K), the right classes (N,), and what validation texts made it of.

    temperature, threshold: chosen by the texts to validate on, whatever these are.
    """

    name: str
    logits: np.ndarray
    classes: np.ndarray
    temperature: float
    threshold: Threshold

    @classmethod
    def by_itself(cls, name: str, logits: np.ndarray, classes: np.ndarray, target: float = TARGET) -> "Judged":
        """Temperature and threshold by these texts themselves."""
        temperature = certainty.temperature(logits, classes)
        right = logits.argmax(-1) == classes
        threshold = Threshold.reaching(target, certainty.scores(logits, temperature), right)
        return cls(name, logits, classes, temperature, threshold)

    def on(self, logits: np.ndarray, classes: np.ndarray) -> "Judged":
        """The same classifier, with its temperature and threshold, on other texts."""
        return Judged(self.name, logits, classes, self.temperature, self.threshold)

    @cached_property
    def score(self) -> np.ndarray:
        """(N,): the calibrated probability of the likeliest class."""
        return certainty.scores(self.logits, self.temperature)

    @cached_property
    def right(self) -> np.ndarray:
        """(N,) bool: where the likeliest class is the right one."""
        return self.logits.argmax(-1) == self.classes

    @property
    def accuracy(self) -> float:
        """The share right, all texts answered."""
        return float(self.right.mean())

    @property
    def macro_f1(self) -> float:
        """The mean over classes of the harmonic mean of precision and recall; of those that occur or are answered."""
        n_classes, answers = self.logits.shape[1], self.logits.argmax(-1)
        hits = np.bincount(self.classes[self.right], minlength=n_classes)  # (K,)
        both = np.bincount(answers, minlength=n_classes) + np.bincount(self.classes, minlength=n_classes)
        return float((2 * hits[both > 0] / both[both > 0]).mean())

    @property
    def answered(self) -> float:
        """The share of the texts whose score reaches the threshold."""
        return float(self.threshold.answers(self.score).mean())

    @property
    def precision(self) -> float | None:
        """Of the answered, the share right; None where none is answered."""
        answered = self.threshold.answers(self.score)
        return float(self.right[answered].mean()) if answered.any() else None

    @property
    def n_answered(self) -> int:
        """How many texts' scores reach the threshold."""
        return int(self.threshold.answers(self.score).sum())

    @property
    def precision_interval(self) -> tuple[float, float] | None:
        """Wilson's interval, 95%, of the precision; None where nothing is answered. That the threshold was chosen so
        that the precision is reached, where it was by these texts, is not in it.
        """
        answered = self.threshold.answers(self.score)
        return certainty.wilson(int(self.right[answered].sum()), int(answered.sum())) if answered.any() else None

    @property
    def ece(self) -> tuple[float, float]:
        """The calibration error before and after the temperature."""
        return certainty.ece(certainty.scores(self.logits), self.right), certainty.ece(self.score, self.right)

    def to_dict(self) -> dict[str, Any]:
        before, after = self.ece
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "temperature": self.temperature,
            "threshold": self.threshold.value,
            "answered": self.answered,
            "n_answered": self.n_answered,
            "precision": self.precision,
            "precision_interval": self.precision_interval,
            "ece_before": before,
            "ece": after,
        }


@dataclass(frozen=True)
class Outside:
    """Texts of no class beside those of classes, at a threshold by which most of the validation texts of both kinds are
    dealt with rightly (Larson et al. 2019).

    accuracy: of the texts of classes, the share answered, and rightly; recall: of the n others, the share not answered.
    """

    name: str
    threshold: float | None
    accuracy: float
    recall: float
    n: int

    @classmethod
    def of(cls, chosen_by: Judged, outside: np.ndarray, judged: Judged, others: np.ndarray) -> "Outside":
        """chosen_by, outside: on validation texts, and the logits (M, K) of those of no class; judged, others: on those
        that the figures are of.
        """
        score = certainty.scores(outside, chosen_by.temperature)
        threshold = Threshold.between(chosen_by.score, chosen_by.right, score)
        refused = ~threshold.answers(certainty.scores(others, judged.temperature))
        found = judged.right & threshold.answers(judged.score)
        return cls(judged.name, threshold.value, float(found.mean()), float(refused.mean()), len(others))


@dataclass(frozen=True, eq=False)
class Report:
    """A run beside its baseline, on the same texts. baseline: None where there was to be none.

    part: "val" or "test". outside: of each, model first, where the data have texts of no class.
    """

    run: str
    part: str
    target: float
    model: Judged
    baseline: Judged | None
    outside: tuple[Outside, ...] = ()

    @property
    def n(self) -> int:
        """How many texts."""
        return len(self.model.classes)

    @property
    def sides(self) -> tuple[Judged, ...]:
        """The model, and the baseline where there is one."""
        return (self.model,) if self.baseline is None else (self.model, self.baseline)

    @cached_property
    def difference(self) -> tuple[float, float] | None:
        """The interval, 95%, of how much more often the model is right than the baseline."""
        return None if self.baseline is None else interval(self.model.right, self.baseline.right)

    @property
    def alone(self) -> tuple[int, int]:
        """How many texts the model alone got right, and the baseline alone."""
        one, other = (each.right for each in self.sides)
        return int((one & ~other).sum()), int((other & ~one).sum())

    @property
    def outcome(self) -> str:
        """ "model" or "baseline", whichever is right more often; "alone", without baseline.

        "close": the interval holds 0; or the texts that one of them alone got right are so few that a coin for each
        could divide them as unevenly.
        """
        if self.difference is None:
            return "alone"
        low, high = self.difference
        if low <= 0 <= high or by_chance(*self.alone) >= CHANCE:
            return "close"
        return "model" if low > 0 else "baseline"

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 1,
            "part": self.part,
            "n": self.n,
            "target": self.target,
            "model": self.model.to_dict(),
            "baseline": None if self.baseline is None else self.baseline.to_dict(),
            "difference": self.difference,
            "outcome": self.outcome,
            "outside": [asdict(each) for each in self.outside],
        }

    def save(self, run: Run) -> None:
        """Write predictor.json and plots/reliability.html, in the language in use, into the run.

        Without baseline, the figures of one that was there before stay: they depend on the data alone.
        """
        from kakehashi.work.predictor.page import page

        found = self.to_dict()
        if self.baseline is None:
            with suppress(PredictorError):  # what is damaged is written anew
                found["baseline"] = (kept(run) or found)["baseline"]
        run.write_extra(FILE, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        run.write_extra(PAGE, page(self).html())


def interval(one: np.ndarray, other: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The paired bootstrap's interval, 95%, of the difference of two shares: (N,) bool each, of the same texts."""
    gain = one.astype(int) - other  # (N,): 1 where only `one` is right, -1 where only `other`
    shares = np.bincount(gain + 1, minlength=3) / len(gain)
    # texts drawn with replacement: how many of the three kinds come is multinomial
    drawn = np.random.default_rng(seed).multinomial(len(gain), shares, RESAMPLES)  # (RESAMPLES, 3)
    low, high = np.quantile((drawn[:, 2] - drawn[:, 0]) / len(gain), (0.025, 0.975))
    return float(low), float(high)


def by_chance(one: int, other: int) -> float:
    """How often fair coins, one + other of them, fall at least as unevenly as one to other: the sign test, exact."""
    n = one + other
    tail = sum(math.comb(n, k) for k in range(min(one, other) + 1))
    return min(1.0, 2 * tail / 2**n)


def kept(run: Run) -> dict[str, Any] | None:
    """What `Report.save` wrote into a run; None where nothing was. Raises PredictorError where it is damaged."""
    if not (run.path / FILE).exists():
        return None
    try:
        found = json.loads(run.read_extra(FILE))
        sides = [found["model"], found["baseline"]]
        if not all(each is None or (isinstance(each["name"], str) and 0 <= each["accuracy"] <= 1) for each in sides):
            raise ValueError("the figures are none")
        if not 0 < found["model"]["temperature"] < math.inf:
            raise ValueError("the temperature is none")
        if (threshold := found["model"]["threshold"]) is not None and not 0 <= threshold <= 1:
            raise ValueError("the threshold is none")
        return found
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PredictorError(
            f"{run.path / FILE} is damaged ({error}): `kakehashi train --resume {run.path}` writes it anew"
        ) from error


def floored(threshold: float | None) -> float | None:
    """To the decimals of the tool's scores, down: rounding must not silence the text that it was taken from."""
    return None if threshold is None else math.floor(threshold * 10**DECIMALS) / 10**DECIMALS


def abstains(score: float, threshold: float | None) -> bool:
    """Whether the tool, exported with this threshold, abstains from an answer of this score; None: always."""
    least = floored(threshold)
    return least is None or round(score, DECIMALS) < least


def report(run: Run, *, target: float = TARGET, part: str = "val", baseline: bool = True) -> Report:
    """Judge a run of a classifier of texts, and the baseline trained on the same texts.

    target: the precision that the threshold is to reach on the validation texts. part: "test" for texts that nothing
    was chosen by, of a set known by name. Raises RunError for a run of another task, and what opening its data raises.
    """
    run.require("label")
    split, form = training.open_split(run.config), run.codec
    form.require_classes(split.classes)
    rows = {"val": split.val}
    if part != "val":
        unseen: Any = training.open_test(run.config, run.codec, part)  # a Labelled, as of every run of this task
        rows[part] = unseen.rows
    found = {name: ([row.text for row in some], _numbers(some, form.classes)) for name, some in rows.items()}
    answering: dict[str, Answering] = {run.config.model.name: answers_of(run)}
    if baseline:
        texts = [row.text for row in split.train]
        answering[NAME] = Baseline(texts, _numbers(split.train, form.classes), len(form.classes)).logits
    judged, outside = [], []
    for name, answer in answering.items():
        texts, classes = found["val"]
        val = Judged.by_itself(name, answer(texts), classes, target)
        texts, classes = found[part]
        judged.append(val if part == "val" else val.on(answer(texts), classes))
        if run.config.data.source == "clinc150":
            others = [answer(tables.outside(each)) for each in ("val", part)]
            outside.append(Outside.of(val, others[0], judged[-1], others[1]))
    return Report(run.name, part, target, judged[0], judged[1] if baseline else None, tuple(outside))


def answers_of(run: Run) -> Answering:
    """What gives the logits (N, K) of a run's model, float32."""
    with run.learners_code():
        model = run.load_model()

    def answer(texts: Sequence[str]) -> np.ndarray:
        with run.learners_code():
            return text_logits(model, run.codec, texts).numpy()

    return answer


def _numbers(rows: Sequence[tables.Row], classes: Sequence[str]) -> np.ndarray:
    places = {name: i for i, name in enumerate(classes)}
    return np.array([places[row.label] for row in rows])
