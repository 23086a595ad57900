"""How sure an answer is: a temperature that makes probabilities mean what they say, and a threshold to abstain below.

Papers: Guo et al., "On Calibration of Modern Neural Networks" (2017): temperature, expected calibration error; Nguyen &
O'Connor (2015): bins of equal mass; Larson et al., "An Evaluation Dataset for Intent Classification and Out-of-Scope
Prediction" (2019): a threshold on the largest probability for texts of no class.

Axes: N texts, K classes. All in float64.
"""

import math
from dataclasses import dataclass

import numpy as np

from kakehashi.work.predictor.errors import PredictorError

N_BINS = 15
SHARPEST, FLATTEST = 1 / 64, 64.0  # between them a temperature is looked for


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, K) -> (N, K): probabilities of logits / temperature, in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    # the largest is brought to 0, so that no exponential is too large for a float
    exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))  # (N, K)
    return exponentials / exponentials.sum(-1, keepdims=True)


def scores(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(N, K) -> (N,): the probability of the likeliest class."""
    return softmax(logits, temperature).max(-1)


def nll(logits: np.ndarray, classes: np.ndarray, temperature: float = 1.0) -> float:
    """logits (N, K), classes (N,) -> the mean of -ln p(right class), in nats."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled = scaled - scaled.max(-1, keepdims=True)  # (N, K)
    right = scaled[np.arange(len(classes)), classes]  # (N,)
    return float((np.log(np.exp(scaled).sum(-1)) - right).mean())


def temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """The temperature whose `nll` is least: logits (N, K), classes (N,) -> a number from 1/64 to 64.

    1 where no temperature between is the best one: all texts right, say, which ever sharper answers would only praise.
    """
    logits = np.asarray(logits, dtype=np.float64)
    right = logits[np.arange(len(classes)), classes]  # (N,)

    def slope(beta: float) -> float:
        """The derivative of the nll by beta = 1 / temperature."""
        return float(((softmax(logits, 1 / beta) * logits).sum(-1) - right).mean())

    # the nll is convex in beta, so its slope only rises: where it crosses 0, bisection finds it
    low, high = math.log(1 / FLATTEST), math.log(1 / SHARPEST)
    if slope(math.exp(low)) >= 0 or slope(math.exp(high)) <= 0:
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def bins(score: np.ndarray, right: np.ndarray, n_bins: int = N_BINS) -> list[tuple[float, float, int]]:
    """(mean score, share right, how many) of texts of like score, from the least sure on; bins of about equal mass.

    score (N,), right (N,) bool. Fewer bins where there are fewer texts.
    """
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, n_bins) if len(part)]
    return [(float(score[part].mean()), float(right[part].mean()), len(part)) for part in parts]


def ece(score: np.ndarray, right: np.ndarray, n_bins: int = N_BINS) -> float:
    """Expected calibration error: how far a bin's mean score is from its share right, in the mean over texts."""
    return sum(abs(mean - share) * n for mean, share, n in bins(score, right, n_bins)) / len(score)


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval, 95%, of a share of which k of n texts were seen, n > 0 (Wilson 1927): also where k is 0 or n."""
    middle = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Threshold:
    """Below `value` there is no answer; None: there is never one, as no threshold reaches the target.

    target: the precision that was asked for, None where it was chosen by texts of no class. coverage: the share of the
    texts that is answered; precision: the share of these that is right, None where none is.
    """

    value: float | None
    target: float | None
    coverage: float
    precision: float | None

    @classmethod
    def reaching(cls, target: float, score: np.ndarray, right: np.ndarray) -> "Threshold":
        """The lowest score at which the texts that score as much are right in `target` of the cases, or more.

        score (N,), right (N,) bool, 0 < target <= 1. Raises PredictorError for another target.
        """
        if not 0 < target <= 1:
            raise PredictorError(f"a precision to reach is above 0 and at most 1, got {target}")
        order = np.argsort(-score, kind="stable")  # the surest first
        precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)  # (N,) of the first 1, 2, ... N
        # texts of one score are answered together: a cut is possible after the last of them
        possible = np.append(score[order][:-1] != score[order][1:], True)
        reached = np.flatnonzero(possible & (precision >= target))
        if not len(reached):
            return cls(None, target, 0.0, None)
        last = reached[-1]
        return cls(float(score[order][last]), target, float((last + 1) / len(score)), float(precision[last]))

    @classmethod
    def between(cls, score: np.ndarray, right: np.ndarray, outside: np.ndarray) -> "Threshold":
        """The threshold by which most texts are dealt with rightly: answered rightly, or, if of no class, not at all.

        score (N,), right (N,) bool; outside (M,): the scores of texts of no class. Of equally good ones the highest.
        """
        every = np.concatenate((score, outside))
        gain = np.concatenate((right.astype(int), np.full(len(outside), -1)))  # what an answer adds to silence
        order = np.argsort(-every, kind="stable")
        possible = np.append(every[order][:-1] != every[order][1:], True)
        total = np.where(possible, np.cumsum(gain[order]), -len(every) - 1)
        if total.max() < 0:
            return cls(None, None, 0.0, None)
        value = float(every[order][total.argmax()])  # the first is the highest
        answered = score >= value
        precision = float(right[answered].mean()) if answered.any() else None
        return cls(value, None, float(answered.mean()), precision)

    def answers(self, score: np.ndarray) -> np.ndarray:
        """(N,) -> (N,) bool: which of them are answered."""
        return np.zeros(len(score), dtype=bool) if self.value is None else score >= self.value
