"""Records grouped into sessions: by what they have in common (a request, a block, a user), by time, or by count.

All work on a stream: a session is handed out as soon as it is closed, and only a bounded number is open.
"""

import math
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kakehashi.work.logs.errors import LogError
from kakehashi.work.logs.records import Record

IN_A_ROW = 20  # records that are enough to take the log's clock anew
SHORTEST = 0.01  # seconds of a window: far more than what times are rounded by

Key = Callable[[Record], list[str]]  # the sessions that a record belongs to: none, one or several
Keep = Callable[[Record], Any]  # what a session holds of a record

# What names a session in the text of logs, and names of fields; `propose_keys` sees which of them a log has
_ID = r"(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,32})"
PATTERNS = {
    "block": r"\bblk_-?\d+",
    "trace": rf"\b[Tt]race_?[Ii][Dd]\W{{1,3}}({_ID})",
    "request": rf"\breq(?:uest)?(?:[_ -]?[Ii][Dd]\W{{1,3}}|-)({_ID}|\w+)",
    "instance": rf"\binstance\W{{1,3}}({_ID})",
    "session": r"\b[Ss]ess(?:ion)?[_ -]?[Ii][Dd]\W{1,3}(\w+)",
    "transaction": r"\b(?:tx|transaction)[_ -]?[Ii][Dd]\W{1,3}(\w+)",
    "job": r"\bjob_\d+_\d+",
    "application": r"\bapplication_\d+_\d+",
    "uuid": rf"\b{_ID}\b",
    "bracket": r"\[([A-Za-z]+-?\d{4,})\]",  # [JOB200025]
    "process": r"\[(\d+)\]",
}
FIELDS = re.compile(
    r"(?i)(?:trace|req|request|session|correlation|transaction|block|job|user|thread|process)[ ._-]?id$|pid$"
    r"|(?:ジョブ|要求|リクエスト|セッション|取引|トランザクション|伝票)[ _]?(?:id|ＩＤ|番号|no\.?)$"
)


def whole(record: Record) -> Record:
    """All of a record."""
    return record


@dataclass(slots=True)
class Session:
    """Records that belong together, in the order in which they came, or what was to be kept of each."""

    key: str
    records: list[Any] = field(default_factory=list)
    # why it was closed: "end" of the stream, "idle", "crowded" (too many were open), "full"; of a window "window"
    why: str = "end"
    last: float | None = None  # the newest time of the log when it had its last record, in seconds

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Proposal:
    """A key that a log could be grouped by, and what would come of it."""

    name: str  # "block", or the name of a field
    kind: str  # "pattern" or "field"
    share: float  # of the records that have it
    n_sessions: int
    median: int  # records of the middle session
    key: Key


def pattern_key(pattern: str) -> Key:
    """The matches of a regular expression in a message, each once; of one with a group what the group holds.

    Raises LogError: no regular expression.
    """
    try:
        find = re.compile(pattern).findall
    except re.error as error:
        raise LogError(f"the key is no regular expression: {error}; see {pattern!r}") from error
    if re.compile(pattern).groups > 1:
        raise LogError(f"the key has more than one group, so what names the session? Use (?:...): {pattern!r}")
    return lambda record: [key for key in dict.fromkeys(find(record.message)) if key]


def field_key(name: str) -> Key:
    """The value of a field."""
    return lambda record: [record.fields[name]] if record.fields.get(name) else []


def by_key(
    records: Iterable[Record],
    key: Key,
    *,
    keep: Keep = whole,
    idle: float | None = None,
    longest: int = 10_000,
    max_open: int = 100_000,
    max_records: int = 1_000_000,
    outside: Counter[str] | None = None,
) -> Iterator[Session]:
    """Sessions by what their records name; a record that names several belongs to each.

    keep: see `Keep`; asked once for each record. idle: seconds of the log's own time after which a session without a
    record is closed. longest: records of a session; the next one begins another with the same key. max_open,
    max_records: sessions open at a time, and records in them; beyond it the session without a record for longest is
    closed. outside: counts the records without a key, by their level.
    """
    if idle is not None and not idle > 0:
        raise LogError(f"idle must be more than 0 seconds, got {idle:g}")
    _at_least_one(longest=longest, max_open=max_open, max_records=max_records)
    open_sessions: OrderedDict[str, Session] = OrderedDict()  # the one with the newest record last
    n_records = 0  # in them
    clock = Clock(idle)

    def closed(session: Session, why: str) -> Session:
        nonlocal n_records
        del open_sessions[session.key]
        n_records -= len(session)
        session.why = why
        return session

    for record in records:
        now = clock.read(record)
        if clock.anew:
            for session in open_sessions.values():
                session.last = None if session.last is None or now is None else min(session.last, now)
        while idle is not None and open_sessions:
            oldest = next(iter(open_sessions.values()))
            if now is None or oldest.last is None or now - oldest.last <= idle:
                break
            yield closed(oldest, "idle")
        names, kept = key(record), keep(record)
        if not names and outside is not None:
            outside[record.level or ""] += 1
        for name in names:
            session = open_sessions.get(name)
            if session is None:
                session = open_sessions[name] = Session(name)
            session.records.append(kept)
            n_records += 1
            open_sessions.move_to_end(name)
            session.last = now
            if len(session) >= longest:
                yield closed(session, "full")
            while len(open_sessions) > max_open or n_records > max_records:
                yield closed(next(iter(open_sessions.values())), "crowded")
    for session in list(open_sessions.values()):
        yield closed(session, "end")


def by_count(records: Iterable[Record], size: int, step: int | None = None, *, keep: Keep = whole) -> Iterator[Session]:
    """Windows of `size` records, one every `step` records (size: side by side); the last one may be shorter.

    Every record is in a window where step <= size, else LogError, as records between windows would be seen by nobody.
    """
    step = size if step is None else step
    _at_least_one(size=size, step=step)
    _no_gaps(size, step)
    window: deque[Any] = deque()
    first, fresh = 0, 0  # the number of the window's first record; records that no window has had yet
    for record in records:
        window.append(keep(record))
        fresh += 1
        if len(window) == size:
            yield Session(f"records {first + 1}-{first + size}", list(window), "window")
            for _ in range(step):
                window.popleft()
            first, fresh = first + step, 0
    if fresh:
        yield Session(f"records {first + 1}-{first + len(window)}", list(window), "end")


def by_time(
    records: Iterable[Record], seconds: float, step: float | None = None, *, keep: Keep = whole
) -> Iterator[Session]:
    """Windows of the log's own time, [t, t + seconds), t a multiple of `step`; windows without records are left out.

    A record without a time, or from before the window (a clock that went back), counts as of the time before it; those
    before the first time are a window of their own.
    LogError where step > seconds, as records between windows would be seen by nobody.
    """
    step = seconds if step is None else step
    if not all(math.isfinite(each) and each >= SHORTEST for each in (seconds, step)):
        raise LogError(
            f"a window and its step must be at least {SHORTEST:g} seconds and finite, got {seconds:g} and {step:g}"
        )
    _no_gaps(seconds, step)
    open_windows: dict[int, Session] = {}  # by the number of the step at which it begins, the oldest first
    clock = Clock(seconds)
    for record in records:
        now, kept = clock.read(record), keep(record)
        if now is None:  # before the first time there is one window for all
            inside = range(1)
        else:
            newest = int(now // step)
            # where windows stand side by side there is one, however sums are rounded
            inside = range(newest if step == seconds else int((now - seconds) // step) + 1, newest + 1)
        for number in [number for number in open_windows if number not in inside]:
            yield open_windows.pop(number)
        for number in inside:
            open_windows.setdefault(number, Session(f"{number * step:.3f}", why="window")).records.append(kept)
    for session in open_windows.values():
        session.why = "end"
        yield session


def propose_keys(records: Iterable[Record], at_least: float = 0.3) -> list[Proposal]:
    """The keys that a sample of records could be grouped by, the best first: what most records have, in sessions that
    are many and of more than one record."""
    records = list(records)
    names = Counter(name for record in records for name in record.fields)
    candidates = [(name, "field", field_key(name)) for name in names if FIELDS.search(name)]
    candidates += [(name, "pattern", pattern_key(pattern)) for name, pattern in PATTERNS.items()]
    proposals = []
    for name, kind, key in candidates:
        keys = [key(record) for record in records]
        lengths = sorted(Counter(k for found in keys for k in found).values())
        share = sum(map(bool, keys)) / len(records) if records else 0.0
        # one session alone groups nothing, and sessions of one record have no order
        if share >= at_least and len(lengths) > 1 and lengths[-1] > 1:
            proposals.append(Proposal(name, kind, share, len(lengths), lengths[len(lengths) // 2], key))
    return sorted(proposals, key=lambda p: (p.median > 1, p.share), reverse=True)


class Clock:
    """The log's own time: the newest so far, as a clock that goes back a little makes nobody idle.

    Where IN_A_ROW records lie behind it by more than `slack` seconds, it was one wrong time, or the clock was put back:
    it is taken anew from the last of them, and `anew` is True for this record. slack None: never.
    """

    def __init__(self, slack: float | None):
        self.now: float | None = None
        self.anew = False
        self._slack = math.inf if slack is None else slack
        self._behind = 0  # records in a row

    def read(self, record: Record) -> float | None:
        """The time at this record, in seconds; None before the first time."""
        seconds, self.anew = record.seconds, False
        if seconds is None:
            return self.now
        behind = self.now is not None and self.now - seconds > self._slack
        self._behind = self._behind + 1 if behind else 0
        self.anew = self._behind == IN_A_ROW
        if self.now is None or seconds > self.now or self.anew:
            self.now = seconds
        return self.now


def _at_least_one(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise LogError(f"{name} must be at least 1, got {value}")


def _no_gaps(size: float, step: float) -> None:
    if step > size:
        raise LogError(f"windows of {size:g} every {step:g} would leave records out: choose a step of at most {size:g}")
