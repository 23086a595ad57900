"""The log detector: logs in, alarms out. Its state is a run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from kakehashi.work.logs.baselines import Events
from kakehashi.work.logs.lines import Notes
from kakehashi.work.logs.records import Record
from kakehashi.work.logs.sessions import Session


@dataclass(frozen=True)
class Grouping:
    """How records become sessions. kind: "key" (value: a name of sessions.PATTERNS, or a regular expression), "field"
    (its name), "count" (records), "time" (seconds). why: in words, where nobody chose it."""

    kind: str
    value: str | int | float
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """A session and what is said of it.

    words       one for each event and each of its numbers' bins; places: the index of the record of each
    surprises   (n + 1,) nats of each word and of the end; inf: never seen
    score       the largest at an event or the end
    odd         names of the methods that alarm, see `Verdict`; alarm: whether "both", the shipped verdict, does
    place       the index of the record that is oddest; len(session) for the end
    why         "new" (a template never seen), "order" (another event was expected), "end", "parameter"
    """

    session: Session
    events: Events
    words: list[str]
    places: list[int]
    surprises: np.ndarray
    score: float
    odd: frozenset[str]
    alarm: bool
    place: int
    why: str

    @property
    def word(self) -> int:
        """The index in `words` of what is oddest, for `surprise.expected`; len(words) for the end."""
        raise NotImplementedError


@dataclass(frozen=True)
class Nearest:
    """The normal session that is nearest, how often it was seen, what it has besides, and what it lacks."""

    words: list[str]
    count: int
    missing: list[str]
    extra: list[str]


@dataclass(frozen=True)
class Pending:
    """A template that nobody has accepted yet: how many records it has had, and its first one."""

    id: int
    template: str
    count: int
    example: Record


class Detector:
    """run, drain, vocabulary, surprise, grouping, settings, normal, held_out, n_records, skipped, outside (Counter by
    level: records in no session, of the last `sessions`), n_dropped (templates that max_groups dropped), pending."""

    pending: list[Pending]

    @classmethod
    def fit(
        cls,
        paths: str | Path | Iterable[str | Path],
        *,
        model: str | Path = "lstm",
        root: str | Path = "runs",
        name: str | None = None,
        key: str | None = None,
        window: int | None = None,
        seconds: float | None = None,
        masks: str | Path | None = None,
        encoding: str | None = None,
        layout: str | None = None,
        false_alarms: float = 0.01,
        steps: int | None = None,
        seed: int = 1337,
        notes: Notes | None = None,
        callbacks: Sequence[Any] = (),
    ) -> Self:
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path) -> Self:
        raise NotImplementedError

    def sessions(
        self,
        source: str | Path | Iterable[str | Path] | Iterable[Record],
        notes: Notes | None = None,
        *,
        idle: float | None = None,
    ) -> Iterator[Session]:
        """The sessions of files, or of records, as fit grouped them. Records of templates never seen become pending."""
        raise NotImplementedError

    def judge(self, sessions: Iterable[Session]) -> Iterator[Judged]:
        """A stream, in batches."""
        raise NotImplementedError

    def nearest(self, events: Events) -> Nearest:
        raise NotImplementedError

    def note_pending(self) -> None:
        """Write pending.json: the templates never seen that `sessions` has met since, beside those that wait."""
        raise NotImplementedError

    def accept(self, ids: Iterable[int]) -> list[Pending]:
        """Learn these templates, and write templates.json: the model skips their events until the next fit."""
        raise NotImplementedError
