"""Detectors without a network, which stand beside the model in every table: what is odd about a session's events.

    normal: E5 E22 E5 E11      odd:  E5 E22 E5 E99    an event never seen        "event"
                                     E5 E22 E5        a length never seen        "length"
                                     E5 E22 E22 E11   counts never seen          "counts"
                                     E5 E5 E22 E11    an order never seen        "sequence", "2-gram"

All learn from normal sessions alone. Sources: Landauer, Skopik & Wurzenberger, "A Critical Review of Common Log Data
Sets Used for Evaluation of Sequence-based Anomaly Detection Techniques" (FSE 2024), whose finding is that such simple
detectors do as well as published networks on the usual data; He, Zhu, He & Lyu, "Experience Report: System Log Analysis
for Anomaly Detection" (ISSRE 2016), for counts of events; Liu, Ting & Zhou, "Isolation Forest" (ICDM 2008).
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import Protocol, Self

import numpy as np

from kakehashi.work.logs.errors import LogError

END, UNKNOWN = 0, 1  # tokens that are no template: the end of a session; a template never seen

Events = tuple[int, ...]  # a session: the tokens of its templates


class Method(Protocol):
    """A session alarms where its score is above `cut`; None: the cut is a `threshold` of held-out normal sessions."""

    name: str
    cut: float | None

    def fit(self, sessions: Sequence[Events]) -> Self:
        """Learn normal sessions, and nothing that was learnt before."""
        ...

    def score(self, sessions: Sequence[Events]) -> np.ndarray:
        """(N,) float64, the higher the odder."""
        ...


class Unseen:
    """How many parts of a session were in no normal one; one is enough for an alarm. UNKNOWN equals nothing seen."""

    name: str
    cut: float | None = 0.5

    def parts(self, session: Events) -> Iterable[Hashable]:
        """What is looked for among the parts of normal sessions."""
        raise NotImplementedError

    def fit(self, sessions: Sequence[Events]) -> Self:
        learnt = (tuple(-1 if event == UNKNOWN else event for event in session) for session in sessions)
        self.seen = {part for session in learnt for part in self.parts(session)}
        return self

    def score(self, sessions: Sequence[Events]) -> np.ndarray:
        odd = (sum(part not in self.seen for part in self.parts(session)) for session in sessions)
        return np.fromiter(odd, np.float64)


class NeverSeen(Unseen):
    """Its events. Blind to order, to repeats, and to what is missing."""

    name = "event"

    def parts(self, session: Events) -> Iterable[Hashable]:
        return session


class Length(Unseen):
    """Its number of events: sees a session that broke off, and one more step. Blind to which events they are."""

    name = "length"

    def parts(self, session: Events) -> Iterable[Hashable]:
        return (len(session),)


class EventOrLength(Unseen):
    """Its events and their number. Blind to order, and to an event in place of another."""

    name = "event or length"

    def parts(self, session: Events) -> Iterable[Hashable]:
        return (*session, ("length", len(session)))


class Counts(Unseen):
    """How often each event stands in it. Blind to order; every new number of repeats is odd."""

    name = "counts"

    def parts(self, session: Events) -> Iterable[Hashable]:
        return (tuple(sorted(session)),)  # equal where all counts are


class Sequences(Unseen):
    """Its events in their order. Sees every difference, and takes each new way of being normal for odd."""

    name = "sequence"

    def parts(self, session: Events) -> Iterable[Hashable]:
        return (session,)


class Ngrams(Unseen):
    """Its runs of n events, both ends included. Blind to what is further apart, so to how often a loop goes round."""

    def __init__(self, n: int = 2):
        self.name, self.n = f"{n}-gram", n

    def parts(self, session: Events) -> Iterable[Hashable]:
        padded = (END,) * (self.n - 1) + session + (END,)
        return zip(*(padded[i:] for i in range(self.n)), strict=False)


class Forest:
    """How soon random cuts through the counts of events isolate a session (scikit-learn's isolation forest). Blind to
    order; and no cut divides what is the same in all normal sessions, so neither an event never seen is odd to it nor
    the lack of one that is always there."""

    name = "forest"
    cut: float | None = None

    def __init__(self, seed: int = 0):
        self.seed = seed

    def fit(self, sessions: Sequence[Events]) -> Self:
        from sklearn.ensemble import IsolationForest  # a second, which nobody waits for who does not need it

        self.events = np.unique(np.fromiter(chain.from_iterable(sessions), np.int64))
        self.forest = IsolationForest(random_state=self.seed).fit(self._counts(sessions))
        return self

    def score(self, sessions: Sequence[Events]) -> np.ndarray:
        return -self.forest.score_samples(self._counts(sessions)) if sessions else np.zeros(0)

    def _counts(self, sessions: Sequence[Events]):
        """(N, events seen + 1 for all others), sparse: a log can have many templates, and a session has few."""
        from scipy.sparse import csr_matrix

        events = np.fromiter(chain.from_iterable(sessions), np.int64)
        rows = np.repeat(np.arange(len(sessions)), [len(session) for session in sessions])
        columns = np.searchsorted(self.events, events)
        columns[~np.isin(events, self.events)] = len(self.events)
        return csr_matrix((np.ones(len(events)), (rows, columns)), shape=(len(sessions), len(self.events) + 1))


ALL: tuple[Callable[[], Method], ...] = (NeverSeen, Length, EventOrLength, Counts, Sequences, Ngrams, Forest)


def threshold(scores: np.ndarray, false_alarms: float = 0.01) -> float:
    """The smallest value that at most this share of the scores exceeds; -inf where all may.

    scores: (N,) of held-out normal sessions, seen neither in learning nor in a test. Raises LogError: none; no share.
    """
    if not 0 <= false_alarms <= 1:
        raise LogError(f"the share of false alarms must be between 0 and 1, got {false_alarms:g}")
    if len(scores) == 0:
        raise LogError("no held-out normal session to take a threshold from: give more sessions, or smaller windows")
    n_above = int(false_alarms * len(scores) + 1e-9)  # 0.29 * 100 is a little less than 29
    return float(np.sort(scores)[::-1][n_above]) if n_above < len(scores) else -np.inf
