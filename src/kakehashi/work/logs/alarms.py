"""Alarms among judged sessions: the worst first, those alike as one, at most a budget of them, all methods counted.

Memory does not grow with the sessions: of alarms over the budget only their kind and its first places are kept.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kakehashi.tokenizers.char import END
from kakehashi.tokenizers.words import UNKNOWN
from kakehashi.work.logs.detector import Detector, Judged, Kept, Nearest
from kakehashi.work.logs.drain import Drain
from kakehashi.work.logs.stamps import SEVERITY
from kakehashi.work.logs.vocabulary import N_BINS, Bins, Kinds, is_event, is_new, named, number

PLACES = 3  # of alarms alike, so many places are kept
KINDS = 10_000  # of alarms, told apart; what is over counts as one kind

OURS = ("both", "model", "parameter")  # the other methods stand beside them

Signature = tuple[str, ...]


@dataclass
class Kind:
    """Alarms alike: the same why, and the same template never seen, the same place of a number, or the same word after
    the same event."""

    signature: Signature
    count: int = 0
    places: list[Kept] = field(default_factory=list)  # the first ones


@dataclass(frozen=True)
class Meaning:
    """What a word of a session stands for.

    kind: "event"; "number", the one at a place (from 1) among an event's, between least and most; "new"; "end".
    """

    kind: str
    template: str = ""
    place: int | None = None
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Number:
    """A number that is odd, as it is written, and the range or the kinds that were learnt.

    how: "outside" the range, "inside" (usual, but not here), or of a "kind" that was never seen.
    """

    how: str
    name: str  # the word before it, "" where there is none
    written: str
    unit: str
    place: int  # from 1, among its event's
    least: float
    most: float
    kinds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Alarm:
    """An alarm, for all that are alike."""

    rank: int  # from 1
    judged: Judged  # the worst of them, the first one where several are
    n_alike: int
    places: list[Kept]  # of the first ones: the record that is odd, of an end the session's last
    expected: list[
        tuple[Meaning, float]
    ]  # what the model expected in its place, with probabilities; of a number nothing
    number: Number | None  # of why "parameter"
    nearest: Nearest
    missing: list[Meaning]  # what the nearest has besides
    extra: list[Meaning]  # and what it lacks

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a surprise that has no bound is None."""
        surprise = float(self.judged.surprises[self.judged.word])
        return {
            "rank": self.rank,
            "why": self.judged.why,
            "n_alike": self.n_alike,
            **place(at(self.judged)),
            "session": self.judged.session.key,
            "n_records": len(self.judged.session),
            "surprise": surprise if math.isfinite(surprise) else None,
            "methods": sorted(self.judged.odd),
            "number": self.number and asdict(self.number),
            "expected": [asdict(meaning) | {"probability": p} for meaning, p in self.expected],
            "nearest": {
                "count": self.nearest.count,
                "missing": [asdict(each) for each in self.missing],
                "extra": [asdict(each) for each in self.extra],
            },
            "places": [place(record) for record in self.places],
        }


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
    over: Kept | None
    n_alarms: int  # sessions
    n_sessions: int
    n_lines: int
    table: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "alarms": [alarm.to_dict() for alarm in self.alarms],
            "n_over": self.n_over,
            "over": self.over and place(self.over),
            "n_alarms": self.n_alarms,
            "n_sessions": self.n_sessions,
            "n_lines": self.n_lines,
            "table": [asdict(row) for row in self.table],
        }


class Tally:
    """Takes judged sessions in one by one, for instance while a file is watched."""

    def __init__(self, detector: Detector, budget: int):
        self.n_sessions = self.n_lines = 0
        self.odd: Counter[str] = Counter()
        self._detector = detector
        self._budget = budget
        self._kinds: dict[Signature, Kind] = {}
        self._worst: dict[Signature, Judged] = {}  # of the worst kinds, one more than the budget
        self._told: set[Signature] = set()
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

    def first(self, judged: Judged) -> bool:
        """Whether it was not asked for an alarm alike before."""
        signature = self._signature(judged)
        if signature in self._told or len(self._told) >= KINDS:
            return False
        self._told.add(signature)
        return True

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
        """What each method says of the sessions so far, the shipped verdict first."""
        return _table(self.odd, self.n_sessions, self.n_lines, self._detector)

    def _signature(self, judged: Judged) -> Signature:
        word = judged.word
        before = next(filter(is_event, reversed(judged.words[:word])), "")
        if judged.why in ("new", "level"):
            return (judged.why, str(self._new.learn(at(judged).message).id))
        if judged.why == "parameter":
            return ("parameter", judged.words[word].partition("=")[0])
        return (judged.why, judged.words[word] if word < len(judged.words) else "", before)


def rank(judged: Iterable[Judged], detector: Detector, budget: int = 20) -> Ranking:
    """The alarms among judged sessions: the worst first, those alike as one, at most `budget`."""
    tally = Tally(detector, budget)
    for each in judged:
        tally.add(each)
    return tally.ranking()


def held_out(detector: Detector) -> list[Row]:
    """What each method says of the normal sessions that were held out: all of it false alarms."""
    n = detector.n_held_out
    n_lines = sum(is_event(word) for session in detector.normal[detector.n_learnt :] for word in session.split())
    return _table({name: round(n * share) for name, share in detector.held_out.items()}, n, n_lines, detector)


def _table(n_alarms: Mapping[str, int], n_sessions: int, n_lines: int, detector: Detector) -> list[Row]:
    names = sorted(detector.held_out, key=lambda name: OURS.index(name) if name in OURS else len(OURS))
    return [
        Row(name, n := n_alarms[name], n / max(n_sessions, 1), 1000 * n / max(n_lines, 1), detector.held_out[name])
        for name in names
    ]


def explain(judged: Judged, detector: Detector, rank: int, kind: Kind) -> Alarm:
    """An alarm with what was expected in its place, and the nearest normal session."""
    by_number = judged.why == "parameter"
    expected = [] if by_number else detector.surprise.expected(*read_at(judged.words, judged.word))
    nearest = detector.nearest(judged.events)
    return Alarm(
        rank=rank,
        judged=judged,
        n_alike=kind.count,
        places=kind.places,
        expected=[(meaning(word, detector), p) for word, p in expected],
        number=odd_number(judged, detector) if by_number else None,
        nearest=nearest,
        missing=[meaning(word, detector) for word in nearest.missing],
        extra=[meaning(word, detector) for word in nearest.extra],
    )


def meaning(word: str, detector: Detector) -> Meaning:
    """What a word that the model knows stands for."""
    if word in (END, UNKNOWN):
        return Meaning("end" if word == END else "new")
    event, _, bin = word.partition("=")
    id, _, place = event.removeprefix("E").partition(".")
    group = detector.drain.groups.get(int(id))
    template = group.template if group else event
    if not bin:
        return Meaning("event", template)
    bins = detector.vocabulary.bins[int(id)][int(place) - 1]
    assert isinstance(bins, Bins)  # kinds have no word that a model knows
    edges = bins.edges
    nth = len(edges) - 1 if bin == f"b{N_BINS}" else int(bin.removeprefix("b"))  # the last is always b8
    return Meaning("number", template, int(place), edges[nth - 1], edges[nth])


def read_at(words: list[str], place: int) -> tuple[str, int]:
    """A session without its numbers of a new kind, which no model reads, and the place in it."""
    return " ".join(word for word in words if not is_new(word)), place - sum(map(is_new, words[:place]))


def odd_number(judged: Judged, detector: Detector) -> Number:
    """The number of a session that is odd."""
    id, _, place = judged.words[judged.word].partition("=")[0].removeprefix("E").partition(".")
    group, message, nth = detector.drain.groups[int(id)], at(judged).message, int(place) - 1
    written = detector.drain.parameters(group, message)[nth][1]
    name, unit = named(detector.drain, group, message)[nth]
    learnt = detector.vocabulary.bins[int(id)][nth]
    if isinstance(learnt, Kinds):
        return Number("kind", name, written, unit, int(place), learnt.values[0], learnt.values[-1], learnt.values)
    least, most = learnt.edges[0], learnt.edges[-1]
    how = "inside" if least <= number(written) <= most else "outside"
    return Number(how, name, written, unit, int(place), least, most)


def at(judged: Judged) -> Kept:
    """The record that is odd; of an end, the last one."""
    return judged.session.records[min(judged.place, len(judged.session) - 1)]


def badness(judged: Judged) -> tuple[float, int]:
    """What alarms are ranked by: the surprise at the place, then the level of its record."""
    level = at(judged).level
    surprise = float(judged.surprises[judged.word])
    return (-math.inf if math.isnan(surprise) else surprise, SEVERITY.index(level) if level in SEVERITY else -1)


def place(record: Kept) -> dict[str, Any]:
    """A record and where it stands, for JSON."""
    return {
        "source": record.source,
        "line": record.line_number,
        "time": record.time and record.time.isoformat(),
        "level": record.level,
        "message": record.message,
    }
