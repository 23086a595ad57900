"""The release gate: the logs of a release beside those of the release before, and whether somebody must look.

The rules, each said on the page:

    look          a template never seen before, at WARNING or worse
                  the share of ERROR lines rose: at least WORSE times, the whole interval above 1
                  a template came at least TIMES as often, or no more at all: q below Q among all templates
                  more sessions alarm than false alarms among normal ones explain, the whole interval above 1: by
                  the detector's verdict, by its model alone, or else by a baseline
    cannot tell   most lines fit no template: another system; files are in both; both are of the same time; too little;
                  ERROR lines or a template came so much more often, but in bursts: beyond chance only if their lines
                  were as independent as before
    pass          none of these

What is found is found, so it counts where there is little, too. Memory does not grow with the logs.
"""

import hashlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kakehashi.work.logs import alarms, rates
from kakehashi.work.logs.detector import Detector, Judged
from kakehashi.work.logs.drain import Drain
from kakehashi.work.logs.errors import LogError, TooFew
from kakehashi.work.logs.lines import Note, Notes, find_files
from kakehashi.work.logs.rates import Blocks, Ratio
from kakehashi.work.logs.records import Record, read
from kakehashi.work.logs.sessions import Session

SESSIONS = 30  # fewer on a side are too little
UNNOTICED = 0.25  # so large a share of the sessions may alarm, and chance would explain it: too little as well
FOREIGN = 0.5  # of the lines without a template: another system
WORSE, TIMES, Q = 1.5, 3.0, 0.01
NEW = 1000  # templates that the detector does not know, told apart
NUMBERS = 3  # that are named, those of most sessions
TIMES_KEPT = 1024  # of a side, spread over it
EXAMPLE = 500  # characters of a line that are kept
OURS, MODEL, PARAMETER, EVENT = "both", "model", "parameter", "event"  # methods, as the detector names them
SEVERE = {"WARNING": 1, "ERROR": 2, "CRITICAL": 3}

PASS, LOOK, CANNOT_TELL = "pass", "look", "cannot tell"
EXIT_CODES = {PASS: 0, LOOK: 1, CANNOT_TELL: 3}

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Reason:
    """Why the verdict is what it is: the text gate.reason.KEY with these values."""

    key: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """How often a template came. The ratio is of its lines a session where these have a key, else among all lines."""

    template: str
    before: int
    after: int
    ratio: Ratio
    q: float
    burst: bool  # TIMES as often or more, sure with the dispersion before, not with that of both


@dataclass(frozen=True)
class Share:
    """Lines of a level among all lines; CRITICAL counts as ERROR."""

    level: str
    before: int
    after: int
    ratio: Ratio
    burst: bool  # WORSE times as many or more, sure with the dispersion before, not with that of both


@dataclass(frozen=True)
class NewTemplate:
    """A template that only the release after wrote: its worst level, and its first line."""

    template: str
    count: int
    level: str | None
    example: str
    source: str
    line_number: int


@dataclass(frozen=True)
class MethodRow:
    """Sessions that alarm by a method: among normal ones that it did not learn from, and after."""

    name: str
    normal: int
    n_normal: int
    after: int
    n_after: int
    ratio: Ratio
    of_before: bool = False  # normal: those before, and not the held-out ones

    @property
    def more(self) -> bool:
        """More than false alarms explain."""
        return self.ratio.low > 1

    @property
    def expected(self) -> tuple[float, float]:
        """The interval of the false alarms to be expected after."""
        low, high = rates.interval(self.normal, self.n_normal)
        return low * self.n_after, high * self.n_after

    @property
    def noticed(self) -> int:
        """From how many alarms on they would be `more`; n_after + 1: never."""
        low, high = 0, self.n_after + 1
        while low + 1 < high:
            middle = (low + high) // 2
            more = rates.compare(self.normal, self.n_normal, middle, self.n_after).low > 1
            low, high = (low, middle) if more else (middle, high)
        return high


@dataclass(frozen=True)
class Facts:
    """What was read of a release."""

    paths: tuple[str, ...]
    files: int
    lines: int  # records: a stack trace belongs to the line that it follows
    sessions: int
    first: str | None  # ISO 8601
    last: str | None
    unmatched: float  # share of the lines that no template of the detector covers
    running: int  # sessions that had begun before the log: the order of their events is not judged


@dataclass(frozen=True)
class Cost:
    seconds: float
    lines_per_second: float
    peak_mib: float | None  # of this process so far; None where the system does not say


@dataclass(frozen=True)
class Comparison:
    """Everything that the gate found; `reasons` the weightiest first."""

    verdict: str
    reasons: list[Reason]
    new_templates: list[NewTemplate]
    expected_new: float  # lines of new templates that logs as those before have by chance
    gone: list[Rate]
    rates: list[Rate]  # the surest change first
    per_session: bool
    levels: list[Share]
    alarms: alarms.Ranking
    methods: list[MethodRow]
    wins: list[str]  # methods without a model by which more sessions alarm, and as many as by ours or more
    explained: int  # of our alarms, those with a template never seen
    n: dict[str, Facts]
    notes: list[Note]
    run: str
    fitted: bool  # on the release before, for this comparison
    cost: Cost

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def ours(self) -> MethodRow:
        return self.method(OURS)

    @property
    def expected_false_alarms(self) -> tuple[float, float]:
        return self.ours.expected

    @property
    def added(self) -> int:
        """Our alarms of known templates alone: what never-seen templates do not explain."""
        return self.ours.after - self.explained

    def method(self, name: str) -> MethodRow:
        return next(row for row in self.methods if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON; what is infinite or unknown is null."""
        more = {name: getattr(self, name) for name in ("exit_code", "expected_false_alarms", "added")}
        more["noticed"] = self.ours.noticed
        return _plain({**vars(self), **more, "alarms": self.alarms.to_dict()})


class Strangers:
    """Templates of lines that the detector knows none for, of both releases: -1, -2, ...; 0: there are too many."""

    def __init__(self, drain: Drain):
        self.drain = Drain(replace(drain.config, max_groups=None), drain.masks)
        self.first: dict[int, Record] = {}
        self.worst: dict[int, str | None] = {}

    def number(self, record: Record) -> int:
        group = (self.drain.learn if self.drain.n_made < NEW else self.drain.match)(record.message)
        if group is None:
            return 0
        self.first.setdefault(-group.id, record)
        self.worst[-group.id] = max(self.worst.get(-group.id), record.level, key=_severity)
        return -group.id


class Side:
    """One release while it is read: its lines and its sessions, counted in blocks."""

    def __init__(self, paths: Paths, progress: Callable[[str, int], Any]):
        self.paths = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
        self.notes = Notes(progress=progress)
        self.files = find_files(self.paths, self.notes)
        self.lines, self.sessions = Blocks(), Blocks()
        self.n_sessions = self.explained = self.running = 0
        self.seconds: list[float] = []  # the times of every nth line

    def read(self, detector: Detector, strangers: Strangers, **reading: Any) -> Iterator[Record]:
        """The records, each counted on its way: under its template, and under its level where that is a bad one."""
        every = 1
        for n, record in enumerate(read(self.files, self.notes, **reading)):
            known = detector.drain.match(record.message)
            if record.torn and known is None:  # what there is of the line tells nothing
                yield record
                continue
            keys: list[Any] = [known.id if known else strangers.number(record)]
            if record.level in SEVERE:
                keys.append("WARNING" if record.level == "WARNING" else "ERROR")
            self.lines.add(keys)
            if n % every == 0 and record.seconds is not None:
                self.seconds.append(record.seconds)
                if len(self.seconds) == TIMES_KEPT:
                    self.seconds, every = self.seconds[::2], every * 2
            yield record

    def judge(self, detector: Detector, sessions: Iterable[Session]) -> Iterator[Judged]:
        """The sessions judged, each counted under the methods to which it is odd."""
        for each in detector.judge(sessions):
            self.n_sessions += 1
            self.sessions.add(each.odd)
            self.explained += OURS in each.odd and EVENT in each.odd
            yield each
        self.running = detector.n_running

    def overlaps(self, other: "Side") -> bool:
        """Whether most of both is of the same time: a clock that is wrong now and then does not matter."""
        if not self.seconds or not other.seconds:
            return False
        (a, b), (c, d) = (np.quantile(side.seconds, (0.01, 0.99)) for side in (self, other))
        return bool(a < d and c < b)

    def facts(self) -> Facts:
        unmatched = sum(count for key, count in self.lines.total().items() if isinstance(key, int) and key <= 0)
        first, last = (time and time.isoformat() for time in (self.notes.first, self.notes.last))
        paths, n_lines = tuple(map(str, self.paths)), self.lines.n
        return Facts(paths, len(self.files), n_lines, self.n_sessions, first, last, unmatched / n_lines, self.running)


def compare(
    before: Paths,
    after: Paths,
    *,
    run: str | Path | None = None,
    budget: int = 20,
    together: bool = False,
    encoding: str | None = None,
    layout: str | None = None,
    progress: Callable[[str, int], Any] = lambda source, n_bytes: None,
    **fit: Any,
) -> Comparison:
    """The logs of two releases, files or folders, compared.

    run: a log detector; without it one is fitted on `before`, and `fit` are further settings of Detector.fit. budget:
    alarms that are kept. together: both releases ran at the same time, as a canary does. progress: as of Notes.
    Raises LogError: what cannot be read, has no line; TooFew, of exit code 3: too little to fit a detector on.
    """
    began = time.perf_counter()
    reading = {"encoding": encoding, "layout": layout}
    old, new = Side(before, progress), Side(after, progress)
    n_common, same = common_files(old.files, new.files)
    try:
        detector = (
            Detector.load(run) if run else Detector.fit(old.files, notes=Notes(progress=progress), **reading, **fit)
        )
    except TooFew as few:
        few.exit_code = EXIT_CODES[CANNOT_TELL]
        raise
    strangers = Strangers(detector.drain)
    sessions = detector.sessions(old.read(detector, strangers, **reading))
    if run:
        for _ in old.judge(detector, sessions):
            pass
    else:  # it has learnt these: their alarms would say nothing
        old.n_sessions = sum(1 for _ in sessions)
    sessions = detector.sessions(new.read(detector, strangers, **reading))
    ranking = alarms.rank(new.judge(detector, sessions), detector, budget)
    for side in (old, new):
        if not side.lines.n:
            raise LogError(f"no line in {', '.join(map(str, side.paths))}: name a folder or a file with logs")
    per_session = detector.grouping.by_key
    changes = rates_of(detector, strangers, old, new, per_session)
    methods = methods_of(detector, old, new)
    ours = next(row for row in methods if row.name == OURS)
    seconds = time.perf_counter() - began
    found = Comparison(
        verdict=PASS,
        reasons=[],
        new_templates=new_templates(strangers, old, new),
        expected_new=expected_new(old, new),
        gone=[rate for rate in changes if not rate.after and rate.q < Q],
        rates=changes,
        per_session=per_session,
        levels=levels_of(old, new),
        alarms=ranking,
        methods=methods,
        wins=[
            row.name
            for row in methods
            if row.name not in {OURS, MODEL, PARAMETER} and row.more and row.after >= ours.after
        ],
        explained=new.explained,
        n={"before": old.facts(), "after": new.facts()},
        notes=[*old.notes, *new.notes],
        run=str(detector.run.path),
        fitted=run is None,
        cost=Cost(seconds, (old.lines.n + new.lines.n) / seconds, peak_mib()),
    )
    verdict, reasons = judge(found, n_common, same, overlap=not together and old.overlaps(new))
    return replace(found, verdict=verdict, reasons=reasons)


def judge(found: Comparison, n_common: int, same: bool, overlap: bool) -> tuple[str, list[Reason]]:
    """The verdict by the rules above, and why. n_common: files that are in both; same: these are all."""
    if same:
        return PASS, [Reason("same")]
    for name, facts in found.n.items():
        if facts.unmatched > FOREIGN:
            return CANNOT_TELL, [Reason(f"foreign_{name}", {"share": facts.unmatched})]
    if reasons := list(worse(found)):
        return LOOK, reasons
    few = {name: facts.sessions for name, facts in found.n.items() if facts.sessions < SESSIONS}
    reasons = list(bursts(found))
    reasons += [Reason("common", {"n": n_common})] if n_common else []
    reasons += [Reason("overlap")] if overlap else []
    reasons += [Reason(f"few_{name}", {"n": n, "least": SESSIONS}) for name, n in few.items()]
    if not few and found.ours.noticed > UNNOTICED * found.ours.n_after:
        reasons.append(Reason("weak", {"noticed": found.ours.noticed, "n": found.ours.n_after}))
    return (CANNOT_TELL, reasons) if reasons else (PASS, [Reason("nothing")])


def worse(found: Comparison) -> Iterator[Reason]:
    """What somebody must look at, the weightiest first."""
    for new in found.new_templates:
        if new.level in SEVERE:
            yield Reason("new", {"level": new.level, "count": new.count, "template": new.template})
    for share in found.levels:
        if share.level == "ERROR" and share.ratio.low > 1 and share.ratio.ratio >= WORSE:
            yield Reason("errors", {"before": share.before, "after": share.after, **asdict(share.ratio)})
    for rate in found.gone:
        yield Reason("gone", {"template": rate.template, "before": rate.before})
    for rate in found.rates:
        if rate.q < Q and rate.ratio.ratio >= TIMES:
            values = {"template": rate.template, "before": rate.before, "after": rate.after}
            yield Reason("rate", {**values, **asdict(rate.ratio)})
    # "surprise": the model alone; "baseline": what needs no model sees what the verdict on sessions does not
    rows = [("alarms", found.ours), ("surprise", found.method(MODEL))]
    if found.wins and not found.ours.more:
        rows.append(("baseline", max(map(found.method, found.wins), key=lambda row: row.ratio.low)))
    for key, row in rows:
        if row.more:
            low, high = row.expected
            yield Reason(key, {"method": row.name, "seen": row.after, "n": row.n_after, "low": low, "high": high})
    if found.ours.more:
        odd = [alarm for alarm in found.alarms.alarms if alarm.number]
        for alarm in sorted(odd, key=lambda alarm: alarm.n_alike, reverse=True)[:NUMBERS]:
            line = alarms.at(alarm.judged).message[:EXAMPLE]
            yield Reason(
                "number", {"n": alarm.n_alike, "template": line, "number": alarm.number and asdict(alarm.number)}
            )


def bursts(found: Comparison) -> Iterator[Reason]:
    """What would be worse, had its lines not come in bursts."""
    for share in found.levels:
        if share.level == "ERROR" and share.burst:
            values = {"before": share.before, "after": share.after}
            yield Reason("burst_errors", {**values, **asdict(share.ratio)})
    for rate in found.rates:
        if rate.burst:
            values = {"template": rate.template, "before": rate.before, "after": rate.after}
            yield Reason("burst", {**values, **asdict(rate.ratio)})


def rates_of(detector: Detector, strangers: Strangers, old: Side, new: Side, per_session: bool) -> list[Rate]:
    """The templates that came before, the surest change first."""
    before, after = old.lines.total(), new.lines.total()
    n_old, n_new = (side.n_sessions if per_session else side.lines.n for side in (old, new))
    keys = [key for key in before if isinstance(key, int) and key]
    counted = (keys, old.lines, n_old, new.lines, n_new)
    ratios = rates.compare_all(*counted, old.lines, new.lines)
    qs, as_before = (
        rates.false_discovery([ratio.p for ratio in each]).tolist()
        for each in (ratios, rates.compare_all(*counted, old.lines))
    )
    found = []
    for key, ratio, q, q_before in zip(keys, ratios, qs, as_before, strict=True):
        template = (detector if key > 0 else strangers).drain.groups[abs(key)].template
        burst = ratio.ratio >= TIMES and q_before < Q <= q
        found.append(Rate(template, before[key], after[key], ratio, q, burst))
    return sorted(found, key=lambda rate: (rate.ratio.p, -rate.before))


def new_templates(strangers: Strangers, old: Side, new: Side) -> list[NewTemplate]:
    """The worst level first, then those that came most."""
    before, found = old.lines.total(), []
    for key, count in new.lines.total().items():
        if isinstance(key, int) and key < 0 and key not in before:
            first, template = strangers.first[key], strangers.drain.groups[-key].template
            place = (first.source, first.line_number)
            found.append(NewTemplate(template, count, strangers.worst[key], first.message[:EXAMPLE], *place))
    return sorted(found, key=lambda each: (-_severity(each.level), -each.count))


def expected_new(old: Side, new: Side) -> float:
    """The next line is of a new template about as often as a line so far is the only one of its own (Good, "The
    Population Frequencies of Species and the Estimation of Population Parameters", Biometrika 1953)."""
    once = sum(count == 1 for key, count in old.lines.total().items() if isinstance(key, int))
    return once / old.lines.n * new.lines.n


def levels_of(old: Side, new: Side) -> list[Share]:
    before, after, levels = old.lines.total(), new.lines.total(), ("ERROR", "WARNING")
    counted = (levels, old.lines, old.lines.n, new.lines, new.lines.n)
    shares = []
    for level, ratio, as_before in zip(
        levels,
        rates.compare_all(*counted, old.lines, new.lines),
        rates.compare_all(*counted, old.lines),
        strict=True,
    ):
        burst = ratio.ratio >= WORSE and ratio.low <= 1 < as_before.low
        shares.append(Share(level, before[level], after[level], ratio, burst))
    return shares


def methods_of(detector: Detector, old: Side, new: Side) -> list[MethodRow]:
    """A row a method. Normal are the sessions held out at fit, or those before where a larger share of them alarms."""
    names, rows = list(detector.held_out), []
    before, after = old.sessions.total(), new.sessions.total()
    for name, spread in zip(names, rates.dispersion(names, new.sessions), strict=True):
        normal, n = round(detector.held_out[name] * detector.n_held_out), detector.n_held_out
        of_before = before[name] * n > normal * old.sessions.n
        if of_before:
            normal, n = before[name], old.sessions.n
        ratio = rates.compare(normal, n, after[name], new.sessions.n, spread)
        rows.append(MethodRow(name, normal, n, after[name], new.sessions.n, ratio, of_before))
    return rows


def common_files(before: Sequence[Path], after: Sequence[Path]) -> tuple[int, bool]:
    """(files of equal content on both sides, whether these are all); empty ones do not count."""
    sides = [[path for path in side if path.stat().st_size] for side in (before, after)]
    sizes = set.intersection(*({path.stat().st_size for path in side} for side in sides))
    contents = [Counter(_digest(path) for path in side if path.stat().st_size in sizes) for side in sides]
    n = (contents[0] & contents[1]).total()
    return n, n == len(sides[0]) == len(sides[1])


def peak_mib() -> float | None:
    """The most memory that this process has had, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _severity(level: str | None) -> int:
    return SEVERE.get(level or "", 0)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """Dataclasses as dicts; None for what JSON has no number for."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
