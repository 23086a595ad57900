"""Alarms among judged sessions: the worst first, those alike as one, at most a budget of them, all methods counted.

Memory does not grow with the sessions: of alarms over the budget only their kind and its first places are kept.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kakehashi.work.logs.detector import Detector, Judged, Nearest
from kakehashi.work.logs.drain import Drain
from kakehashi.work.logs.records import Record

PLACES = 3  # of alarms alike, so many places are kept
KINDS = 10_000  # of alarms, told apart; what is over counts as one kind
SEVERITY = ("TRACE", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL")

Signature = tuple[str, ...]


@dataclass
class Kind:
    """Alarms alike: the same why, the same word at the place, after the same word."""

    signature: Signature
    count: int = 0
    places: list[Record] = field(default_factory=list)  # the first ones


@dataclass(frozen=True)
class Alarm:
    """An alarm, for all that are alike."""

    rank: int  # from 1
    judged: Judged  # the worst of them, the first one where several are
    n_alike: int
    places: list[Record]  # of the first ones: the record that is odd, of an end the session's last
    expected: list[tuple[str, float]]  # words that the model expected in its place, with their probabilities
    nearest: Nearest


@dataclass(frozen=True)
class Row:
    """What a method says of the sessions."""

    method: str
    n_alarms: int
    share: float  # of the sessions
    per_1000_lines: float
    held_out: float  # the share of held-out normal sessions for which it alarmed at fit


@dataclass(frozen=True)
class Ranking:
    """What is to be shown of a scan."""

    alarms: list[Alarm]
    n_over: int  # kinds of alarms over the budget, and the place of the first of them
    over: Record | None
    n_alarms: int  # sessions
    n_sessions: int
    n_lines: int
    table: list[Row]


class Tally:
    """Takes judged sessions in one by one, for instance while a file is watched."""

    def __init__(self, detector: Detector, budget: int):
        self.n_sessions = self.n_lines = 0
        self.odd: Counter[str] = Counter()
        self._detector = detector
        self._budget = budget
        self._kinds: dict[Signature, Kind] = {}
        self._worst: dict[Signature, Judged] = {}  # of the worst kinds, one more than the budget
        self._new = Drain(detector.drain.config, detector.drain.masks)  # tells templates never seen apart

    def add(self, judged: Judged) -> Kind | None:
        """Count a session; the kind of its alarm, where it is one."""
        self.n_sessions += 1
        self.n_lines += len(judged.session)
        self.odd.update(judged.odd)
        if not judged.alarm:
            return None
        signature = self._signature(judged)
        if signature not in self._kinds and len(self._kinds) >= KINDS:
            signature = ("rest",)
        kind = self._kinds.setdefault(signature, Kind(signature))
        kind.count += 1
        if len(kind.places) < PLACES:
            kind.places.append(at(judged))
        known = self._worst.get(signature)
        if known is None or badness(judged) > badness(known):
            self._worst[signature] = judged
        if len(self._worst) > self._budget + 1:
            del self._worst[min(self._worst, key=lambda each: badness(self._worst[each]))]
        return kind

    def ranking(self) -> Ranking:
        """The alarms so far, explained."""
        # equals stay in the order in which they came
        worst = sorted(self._worst.items(), key=lambda item: badness(item[1]), reverse=True)
        shown, over = worst[: self._budget], worst[self._budget :]
        alarms = [
            explain(judged, self._detector, rank, self._kinds[signature])
            for rank, (signature, judged) in enumerate(shown, 1)
        ]
        return Ranking(
            alarms=alarms,
            n_over=len(self._kinds) - len(shown),
            over=at(over[0][1]) if over else None,
            n_alarms=self.odd["both"],
            n_sessions=self.n_sessions,
            n_lines=self.n_lines,
            table=self.table(),
        )

    def table(self) -> list[Row]:
        """What each method says, in the order of the detector's."""
        per_line, per_session = 1000 / max(self.n_lines, 1), 1 / max(self.n_sessions, 1)
        return [
            Row(name, n := self.odd[name], n * per_session, n * per_line, held_out)
            for name, held_out in self._detector.held_out.items()
        ]

    def _signature(self, judged: Judged) -> Signature:
        word = judged.word
        before = judged.words[word - 1] if word else ""
        if judged.why == "new":
            return ("new", str(self._new.learn(at(judged).message).id))
        if judged.why == "parameter":
            return ("parameter", judged.words[word].partition("=")[0])
        return (judged.why, judged.words[word] if word < len(judged.words) else "", before)


def rank(judged: Iterable[Judged], detector: Detector, budget: int = 20) -> Ranking:
    """The alarms among judged sessions: the worst first, those alike as one, at most `budget`."""
    tally = Tally(detector, budget)
    for each in judged:
        tally.add(each)
    return tally.ranking()


def explain(judged: Judged, detector: Detector, rank: int, kind: Kind) -> Alarm:
    """An alarm with what was expected in its place, and the nearest normal session."""
    expected = detector.surprise.expected(" ".join(judged.words), judged.word)
    return Alarm(rank, judged, kind.count, kind.places, expected, detector.nearest(judged.events))


def at(judged: Judged) -> Record:
    """The record that is odd; of an end, the last one."""
    return judged.session.records[min(judged.place, len(judged.session) - 1)]


def badness(judged: Judged) -> tuple[float, int]:
    """What alarms are ranked by: the surprise at the place, then the level of its record."""
    level = at(judged).level
    surprise = float(judged.surprises[judged.word])
    return (-math.inf if math.isnan(surprise) else surprise, SEVERITY.index(level) if level in SEVERITY else -1)
