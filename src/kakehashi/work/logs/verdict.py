"""Verdicts on sessions that are written as texts: a model's surprise and the methods beside it. See `Verdicts`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from kakehashi.runs import Run
from kakehashi.work.logs.baselines import Events


@dataclass(frozen=True)
class Verdict:
    """What is said of a session.

    events      its templates' tokens
    surprises   (n + 1,) nats of each of its n words and of its end; inf: never seen. Of a session whose end says
                nothing the last is 0
    score       the largest at a template or the end
    parameter   the largest at a number's bin; 0 where it has none
    odd         names of the methods that alarm: "event", "length", "event or length", "counts", "sequence", "2-gram",
                "forest", "model", "parameter", and "both", the shipped verdict: model and counts, or parameter
    """

    events: Events
    surprises: np.ndarray
    score: float
    parameter: float
    odd: frozenset[str]


class Verdicts:
    """A trained model, thresholds, and the methods beside it, on sessions as texts: "E5 E22 E5 E11".

    run, tokenizer, surprise, normal (list[str]: what was learnt), held_out (by method: the share of held-out normal
    sessions that alarm), thresholds ("model", "parameter", "forest").
    """

    @classmethod
    def fit(
        cls,
        sessions: Sequence[str],
        *,
        whole: bool = True,
        model: str | Path = "lstm",
        root: str | Path = "runs",
        name: str | None = None,
        false_alarms: float = 0.01,
        steps: int | None = None,
        seed: int = 1337,
        callbacks: Sequence[Any] = (),
    ) -> Self:
        """Learn normal sessions, in the order of time: the model from the first 80%, thresholds from the rest."""
        raise NotImplementedError

    def of(self, sessions: Sequence[str], whole: Sequence[bool] | None = None) -> list[Verdict]:
        """whole: whether a session's end is one, and not the edge of a window; None: as in fit."""
        raise NotImplementedError
