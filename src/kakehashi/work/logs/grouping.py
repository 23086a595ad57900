"""How the records of a log become sessions: as a person says, by the key that convinces most, else in windows."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kakehashi.work.logs import sessions as cut
from kakehashi.work.logs.errors import LogError
from kakehashi.work.logs.masks import Mask
from kakehashi.work.logs.records import Record
from kakehashi.work.logs.sessions import PATTERNS, Keep, Key, Session

CONVINCES = 0.5  # a key that so many records have
WINDOW = 100  # records, where no key convinces
FEW = 50  # sessions: with fewer, thresholds from those held out mean little


@dataclass(frozen=True)
class Grouping:
    """kind and value: "key" a name of PATTERNS or a regular expression, "field" its name, "count" records in a window,
    "time" seconds in one. how: "asked", "proposed" or "usual"; why: the same in a sentence. Of the key that was chosen,
    or else of the best that did not convince: its name, the share of the records that have it, the number of sessions
    in the sample, and the records of the middle one."""

    kind: str
    value: str | int | float
    how: str = "asked"
    why: str = "as it was asked for"
    name: str | None = None
    share: float = 0.0
    n_sessions: int = 0
    median: int = 0

    @classmethod
    def of(
        cls, sample: Sequence[Record], key: str | None = None, window: int | None = None, seconds: float | None = None
    ) -> "Grouping":
        """For a log that begins with the sample. Raises LogError: two wishes at once, or one of no use."""
        wishes = {"key": key, "window": window, "seconds": seconds}
        if len(said := [f"{name} {value}" for name, value in wishes.items() if value is not None]) > 1:
            raise LogError(f"records are grouped in one way, got {' and '.join(said)}: leave one of them out")
        if key is not None:
            return cls._by_key(sample, key)
        if window is not None or seconds is not None:
            grouping = cls("count", window) if window is not None else cls("time", seconds or 0)
            list(grouping.sessions([]))  # says what is wrong with the number
            return grouping
        best = next(iter(cut.propose_keys(sample)), None)
        if best is None:
            return cls("count", WINDOW, "usual", "no key is in enough of the records")
        found = (best.name, best.share, best.n_sessions, best.median)
        about = f"{best.share:.0%} of the first {len(sample):,} records have the key {best.name}"
        if best.share < CONVINCES or best.median < 2:
            return cls("count", WINDOW, "usual", f"{about}, in sessions of mostly {best.median}: too few", *found)
        kind = "key" if best.kind == "pattern" else "field"
        return cls(kind, best.name, "proposed", f"{about}, in {best.n_sessions:,} sessions", *found)

    @classmethod
    def _by_key(cls, sample: Sequence[Record], key: str) -> "Grouping":
        is_field = key not in PATTERNS and any(key in record.fields for record in sample)
        grouping = cls("field" if is_field else "key", key)
        find = grouping.key
        if not any(find(record) for record in sample):
            raise LogError(
                f"none of the first {len(sample):,} records has the key {key!r}: choose one of {', '.join(PATTERNS)}, "
                f"the name of a field, or a regular expression; or windows"
            )
        return grouping

    @property
    def by_key(self) -> bool:
        """Whether sessions have an end, and are not cut where a window ends."""
        return self.kind in ("key", "field")

    def mask(self, sample: Iterable[Record]) -> Mask | None:
        """A person's pattern as a rule for values, so that each session does not have templates of its own.

        None where there is none, or where it finds in the words of the sample what it does not in messages, as ^ does.
        """
        if self.kind != "key" or self.value in PATTERNS:
            return None
        value = str(self.value)
        find = re.compile(value).findall
        for record in sample:
            keys = find(record.message)
            if "" in keys or keys != [key for word in record.message.split() for key in find(word)]:
                return None
        return Mask("key", re.sub(r"^\(\?([a-zA-Z]+)\)(.*)$", r"(?\1:\2)", value))  # flags for this rule alone

    @property
    def key(self) -> Key:
        """What finds the keys of a record. Raises LogError for a regular expression that is none."""
        value = str(self.value)
        return cut.field_key(value) if self.kind == "field" else cut.pattern_key(PATTERNS.get(value, value))

    def sessions(
        self,
        records: Iterable[Record],
        *,
        keep: Keep = cut.whole,
        idle: float | None = None,
        outside: Counter[str] | None = None,
    ) -> Iterator[Session]:
        """Records in sessions, see `sessions.by_key`. Raises LogError, ValueError: a kind or a value of no use."""
        if self.kind not in ("key", "field", "count", "time"):
            raise ValueError(f"records are not grouped by {self.kind!r}")
        if self.kind == "count":
            return cut.by_count(records, int(self.value), keep=keep)
        if self.kind == "time":
            return cut.by_time(records, float(self.value), keep=keep)
        return cut.by_key(records, self.key, keep=keep, idle=idle, outside=outside)

    @property
    def smaller(self) -> str:
        """What gives more sessions."""
        if self.by_key:
            return f"choose another key than {self.value}, or a window (--window RECORDS)"
        unit = "records" if self.kind == "count" else "seconds"
        return f"choose a smaller window than {self.value:g} {unit}" if isinstance(self.value, int | float) else ""
