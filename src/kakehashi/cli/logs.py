"""logs fit|scan|watch|accept: what is normal in logs, and what is not. (gate: gate.py)"""

import signal
import time
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.progress import BarColumn, Progress, TextColumn

from kakehashi.cli import console
from kakehashi.cli.gate import MASKS, gate
from kakehashi.cli.models import Root, Seed
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.work.logs import Notes, Record
    from kakehashi.work.logs.alarms import Alarm, Meaning, Number, Row
    from kakehashi.work.logs.detector import Detector, Judged, Kept, Pending
    from kakehashi.work.logs.sessions import Session

SHOWN = 5  # the most frequent templates, lines of a difference
NUMBERS = 10  # that are watched
SOURCES = 3  # of a kind of note
FEW_ONCE = 50  # templates seen once that say nothing of the rules for values
EVERY = 10.0  # seconds from one line of progress to the next, in a pipe

logs = typer.Typer(rich_markup_mode=None)
Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help=t("logs.option.paths"))]
Fitted = Annotated[Path, typer.Argument(metavar="RUN", help=t("logs.option.run"))]
Budget = Annotated[int, typer.Option(min=1, help=t("logs.option.budget"))]


def command(name: str) -> Any:
    """Registers a command of the group, with its texts."""
    return logs.command(
        name, help=t(f"logs.{name}.help"), short_help=t(f"logs.{name}.short"), epilog=t(f"logs.{name}.example")
    )


@command("fit")
def fit(
    paths: Paths,
    model: Annotated[str, typer.Option(help=t("logs.option.model"))] = "lstm",
    key: Annotated[str, typer.Option(metavar="auto|NAME|FIELD|REGEX", help=t("logs.option.key"))] = "auto",
    window: Annotated[int | None, typer.Option(help=t("logs.option.window"))] = None,
    seconds: Annotated[float | None, typer.Option(help=t("logs.option.seconds"))] = None,
    masks: Annotated[Path | None, typer.Option(help=t("logs.option.masks", path=MASKS))] = None,
    encoding: Annotated[str | None, typer.Option(help=t("logs.option.encoding"))] = None,
    layout: Annotated[str | None, typer.Option(help=t("logs.option.layout"))] = None,
    false_alarms: Annotated[float, typer.Option(help=t("logs.option.false_alarms"))] = 0.01,
    steps: Annotated[int | None, typer.Option(help=t("logs.option.steps"))] = None,
    seed: Seed = 1337,
    run: Annotated[Path | None, typer.Option(help=t("cli.train.run"))] = None,
    root: Root = Path("runs"),
) -> None:
    began = time.perf_counter()
    reading = Reading(paths)
    from kakehashi.cli.progress import Watched, duration
    from kakehashi.training import Callback
    from kakehashi.work.logs import alarms
    from kakehashi.work.logs.detector import Detector
    from kakehashi.work.logs.grouping import FEW

    class Read(Callback):
        """Takes the bar of reading off the screen when training begins."""

        name = "read"

        def on_start(self, state: Any) -> None:
            reading.close()

    watched = Watched()
    try:
        made = Detector.fit(
            paths,
            model=model,
            root=root if run is None else run.parent,
            name=None if run is None else run.name,
            key=None if key == "auto" else key,
            window=window,
            seconds=seconds,
            masks=masks,
            encoding=encoding,
            layout=layout,
            false_alarms=false_alarms,
            steps=steps,
            seed=seed,
            notes=reading.notes,
            callbacks=[Read(), watched],
        )
    finally:
        reading.close()
        watched.close()
    rows = alarms.held_out(made)
    groups = sorted(made.drain.groups.values(), key=lambda group: group.count, reverse=True)
    numbers = watched_numbers(made)
    console.say()
    say_read(reading.notes, made.n_records)
    say_torn(made.torn)
    console.say(t("logs.fit.templates", n=len(groups)))
    shares = [[f"{each.count:,}", f"{each.count / made.n_records:.1%}", each.template] for each in groups[:SHOWN]]
    say_lines(["count", "part", "template"], shares)
    if made.n_dropped:
        console.say(t("logs.fit.dropped", n=made.n_dropped, kept=made.drain.config.max_groups), "yellow")
    once = [each for each in groups if each.count == 1]
    if len(once) > max(FEW_ONCE, len(groups) / 2):
        word = shortened(varied([each.template for each in once]), console.out().width // 2)
        console.say(t("logs.fit.once", once=len(once), n=len(groups), word=word, path=MASKS), "yellow")
    console.say()
    console.say(t(f"logs.fit.{made.grouping.kind}", value=made.grouping.value))
    console.say(t("logs.fit.sessions", n=len(made.normal), learnt=made.n_learnt, held_out=made.n_held_out))
    if made.grouping.how == "usual" and len(made.normal) < FEW:
        counts = {"n": len(made.normal), "held_out": made.n_held_out, "usual": made.grouping.value}
        console.say(t("logs.fit.few", **counts), "yellow")
    if made.skipped:
        console.say(t("logs.fit.skipped", n=made.skipped))
    console.say()
    console.say(t("logs.fit.table", n=made.n_held_out), "bold")
    columns = ["method", "alarms", "share", "per_1000"]
    console.table([t(f"logs.column.{name}") for name in columns], [cells(row)[:4] for row in rows], (1, 2, 3))
    console.say()
    if numbers:
        console.say(t("logs.fit.watched"))
        ranges = [
            [", ".join(f"{kind:,.10g}" for kind in kinds) or f"{least:,.10g} - {most:,.10g}", place, template]
            for template, place, least, most, kinds in numbers[:NUMBERS]
        ]
        say_lines(["range", "number", "template"], ranges)
        if len(numbers) > NUMBERS:
            console.say(t("logs.alarm.more", n=len(numbers) - NUMBERS))
    else:
        console.say(t("logs.fit.unwatched"))
    console.say(t("logs.fit.done", run=made.run.path, time=duration(time.perf_counter() - began)))
    console.result(
        {
            "run": str(made.run.path),
            **reading.facts(),
            "n_records": made.n_records,
            "n_templates": len(groups),
            "n_dropped": made.n_dropped,
            "templates": [{"template": each.template, "count": each.count} for each in groups],
            "grouping": asdict(made.grouping),
            "n_sessions": len(made.normal),
            "n_held_out": made.n_held_out,
            "n_outside": made.skipped,
            "torn": list(map(place, made.torn)),
            "table": [asdict(row) for row in rows],
            "numbers": [
                dict(zip(("template", "place", "least", "most", "kinds"), each, strict=True)) for each in numbers
            ],
        }
    )


@command("scan")
def scan(run: Fitted, paths: Paths, budget: Budget = 20) -> None:
    reading = Reading(paths)
    from kakehashi.work.logs import alarms
    from kakehashi.work.logs.detector import Detector

    detector = Detector.load(run)
    try:
        found = alarms.rank(detector.judge(detector.sessions(paths, reading.notes)), detector, budget)
    finally:
        reading.close()
    say_read(reading.notes, found.n_lines + detector.outside.total() + len(detector.torn))
    say_torn(detector.torn)
    say_outside(detector.outside)
    if detector.n_running:
        console.say(t("logs.scan.running", n=detector.n_running))
    if found.n_sessions:
        columns = ["method", "alarms", "share", "per_1000", "held_out"]
        console.say()
        console.table([t(f"logs.column.{name}") for name in columns], list(map(cells, found.table)), (1, 2, 3, 4))
        console.say()
        if found.n_alarms:
            kinds = len(found.alarms) + found.n_over
            console.say(t("logs.scan.alarms", n=found.n_alarms, kinds=kinds), "bold")
        else:
            console.say(t("logs.scan.none"), "green")
    else:
        console.say(t("logs.scan.nothing", value=detector.grouping.value), "yellow")
    for alarm in found.alarms:
        say_alarm(alarm)
    if found.over:
        more = len(found.alarms) + found.n_over
        console.say()
        console.say(t("logs.scan.over", n=found.n_over, place=place(found.over), budget=more), "yellow")
    say_waiting(detector, budget)
    new = [pending(each) for each in detector.pending]
    left_out = {"outside": dict(detector.outside), "torn": list(map(place, detector.torn))}
    left_out["n_running"] = detector.n_running
    console.result({"run": str(run), **reading.facts(), **found.to_dict(), **left_out, "new": new})
    detector.note_pending()  # now: a disk that is full takes no result away
    if found.n_alarms:
        console.leave(1)
    if not found.n_sessions:
        console.leave(3)


@command("watch")
def watch(
    run: Fitted,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=t("logs.option.files"))],
    from_start: Annotated[bool, typer.Option("--from-start", help=t("logs.option.from_start"))] = False,
    idle: Annotated[float, typer.Option(min=0.1, help=t("logs.option.idle"))] = 60.0,
    budget: Budget = 20,
) -> None:
    from kakehashi.work.logs import Notes, alarms, follow
    from kakehashi.work.logs.detector import Detector

    detector = Detector.load(run)
    notes = Notes()
    told = lambda kind, path: console.say(t(f"logs.watch.{kind}", file=path), "dim")  # noqa: E731
    form = {name: detector.settings[name] for name in ("encoding", "layout")}
    follower = follow.Follower(files, notes, **form, from_start=from_start, tell=told)
    console.say(t("logs.watch.watching", files=", ".join(map(str, files)), idle=idle))
    tally = alarms.Tally(detector, budget)
    n_shown = 0

    def show(judged: "Judged") -> None:
        kind = tally.add(judged)
        if kind and is_next(judged):
            alarm = alarms.explain(judged, detector, n_shown, kind)
            say_alarm(alarm)
            console.result(alarm.to_dict())

    def show_line(session: "Session") -> None:
        """A line that alarms whatever its session, at once: the session's own alarm is alike, and not shown again."""
        judged, record = detector.alone(session), session.records[0]
        if judged and judged.alarm and is_next(judged):
            number = alarms.odd_number(judged, detector) if judged.why == "parameter" else None
            say_head(n_shown, record)
            say_line(t("logs.alarm.open", key=session.key), 3, "dim")
            say_why(judged.why, record, number)
            found = {"rank": n_shown, "why": judged.why, "session": session.key, **alarms.place(record)}
            found["number"] = number and asdict(number)
            console.result(found)

    def is_next(judged: "Judged") -> bool:
        """Whether nothing alike was shown, and the budget is not spent."""
        nonlocal n_shown
        if n_shown > budget or not tally.first(judged):
            return False
        n_shown += 1
        if n_shown > budget:
            console.say(t("logs.watch.spent", budget=budget), "yellow")
        return n_shown <= budget

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, before)  # the second one leaves at once
        follower.stop()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else somebody wants it otherwise
        signal.signal(signal.SIGINT, stop)
    try:
        follow.watch(detector, follower, idle, show, show_line)
    except KeyboardInterrupt:
        console.say(t("logs.watch.left", unread=follower.unread), "yellow")
    finally:
        signal.signal(signal.SIGINT, before)
    found = tally.ranking()
    counts = {"sessions": found.n_sessions, "records": found.n_lines, "alarms": found.n_alarms}
    kinds = len(found.alarms) + found.n_over
    console.say()
    console.say(t("logs.watch.summary", **counts, kinds=kinds), "bold")
    say_notes(notes)
    say_waiting(detector, budget)
    waiting = [pending(each) for each in detector.pending]
    console.result(
        {"run": str(run), **counts, "kinds": kinds, "notes": [asdict(note) for note in notes], "new": waiting}
    )
    detector.note_pending()


@command("accept")
def accept(
    run: Fitted,
    ids: Annotated[list[int] | None, typer.Argument(metavar="NUMBER...", help=t("logs.option.ids"))] = None,
    everything: Annotated[bool, typer.Option("--all", help=t("logs.option.all"))] = False,
) -> None:
    if ids and everything:
        raise typer.BadParameter(t("logs.accept.which"), param_hint="--all")
    from kakehashi.work.logs.detector import Detector

    detector = Detector.load(run)
    if ids or (everything and detector.pending):
        learnt = detector.accept(ids or [each.id for each in detector.pending])
        console.say(t("logs.accept.learnt", n=len(learnt), left=len(detector.pending)))
    else:
        learnt = []
        console.say(t("logs.accept.waiting" if detector.pending else "logs.accept.none", n=len(detector.pending)))
        say_pending(detector.pending)
    waiting = [pending(each) for each in detector.pending]
    console.result({"run": str(run), "learnt": [pending(each) for each in learnt], "waiting": waiting})


logs.command("gate", help=t("gate.help"), short_help=t("gate.short"), epilog=t("gate.example"))(gate)


class Reading:
    """Files that are read: how many, at once; then how far, by a bar at a terminal, a line now and then in a pipe."""

    def __init__(self, paths: list[Path]):
        from kakehashi.work.logs.lines import Notes, find_files

        self.notes = Notes(progress=self.show)
        files = find_files(paths, Notes())
        self.n_files, self.n_bytes = len(files), sum(file.stat().st_size for file in files)
        console.say(t("logs.fit.files", n=self.n_files, size=size(self.n_bytes)))
        self.first = str(files[0]) if files else ""
        self.source, self.n, self.before = "", 0, 0  # bytes of this file, and of those before it
        self.said = time.monotonic()
        self.bar = None
        screen = console.out()
        if screen.is_terminal:
            self.bar = Progress(TextColumn("{task.description}"), BarColumn(24), console=screen, transient=True)
            self.task = self.bar.add_task("", total=self.n_bytes)
            self.bar.start()

    def show(self, source: str, n_bytes: int) -> None:
        """So many bytes of this file are read."""
        again = n_bytes <= self.n if source == self.source else source == self.first
        if again:  # the files are read a second time
            self.before = 0
        elif source != self.source:
            self.before += self.n
        self.source, self.n = source, n_bytes
        done = self.before + n_bytes
        if self.bar is None and time.monotonic() - self.said < EVERY:
            return
        text = t("logs.read.reading", file=Path(source).name, done=size(done), size=size(self.n_bytes))
        if self.bar:
            self.bar.update(self.task, completed=done, description=console.plain(text))
        else:
            self.said = time.monotonic()
            console.say(text)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self.bar:
            self.bar.stop()

    def facts(self) -> dict[str, Any]:
        """What was read, for JSON."""
        first, last = self.notes.first, self.notes.last
        return {
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "first": first and first.isoformat(),
            "last": last and last.isoformat(),
            "notes": [asdict(note) for note in self.notes],
        }


def say_read(notes: "Notes", n_records: int) -> None:
    """How many records from when to when, and what was odd about the files."""
    if notes.first and notes.last:
        span = {"first": moment(notes.first), "last": moment(notes.last)}
        console.say(t("logs.read.done", n=n_records, **span))
    else:
        console.say(t("logs.read.timeless", n=n_records))
    say_notes(notes)


def say_notes(notes: "Notes") -> None:
    """A sentence for each note; of many files with the same one, the first."""
    from kakehashi.work.logs.wording import sentence

    for _, some in groupby(sorted(notes, key=lambda note: note.kind), key=lambda note: note.kind):
        same = list(some)
        for note in same[:SOURCES]:
            console.say(sentence(note), "yellow")
        if rest := same[SOURCES:]:
            console.say(t("logs.note.more", n=len(rest), count=sum(note.count for note in rest)), "yellow")


def say_torn(torn: list["Record"]) -> None:
    """The records left out as their lines have no end."""
    for record in torn[:SOURCES]:
        console.say(t("logs.read.torn", place=place(record)), "yellow")
    if len(torn) > SOURCES:
        console.say(t("logs.alarm.more", n=len(torn) - SOURCES), "yellow")


def say_outside(outside: Counter[str]) -> None:
    """How many records are in no session, by their level."""
    if outside:
        levels = ", ".join(f"{level or '-'} {n:,}" for level, n in outside.most_common())
        console.say(t("logs.fit.outside", n=outside.total(), levels=levels))


def say_alarm(alarm: "Alarm") -> None:
    """An alarm: where, the line, why, what was expected, the nearest normal session."""
    from kakehashi.work.logs.alarms import at

    record = at(alarm.judged)
    say_head(alarm.rank, record, alarm.n_alike)
    say_line(t("logs.alarm.session", key=alarm.judged.session.key, n=len(alarm.judged.session)), 3, "dim")
    say_why(alarm.judged.why, record, alarm.number)
    if alarm.expected:
        console.say(t("logs.alarm.expected"), indent=3)
    for each, p in alarm.expected:
        say_line(t("logs.alarm.chance", p=p, text=words(each)), 5)
    changes = [*lines("missing", alarm.missing), *lines("extra", alarm.extra)]
    key = "nearest" if changes else "nearest_equal"
    console.say(t(f"logs.alarm.{key}", n=alarm.nearest.count), indent=3)
    for change in changes[: 2 * SHOWN]:
        say_line(change, 5)
    if len(changes) > 2 * SHOWN:
        console.say(t("logs.alarm.more", n=len(changes) - 2 * SHOWN), indent=5)


def say_head(rank: int, record: "Kept", n_alike: int = 1) -> None:
    """Where a line that alarms stands, when it was written, and the line."""
    head = [f"{rank}. {place(record)}", moment(record.time) if record.time else t("logs.alarm.timeless")]
    head += [record.level] if record.level else []
    head += [t("logs.alarm.alike", n=n_alike)] if n_alike > 1 else []
    console.say()
    console.say("  ".join(head), "bold")
    say_line(record.message, 3, "red")


def say_why(why: str, record: "Kept", number: "Number | None") -> None:
    """Why it alarms, in a sentence."""
    from kakehashi.work.logs.wording import of_number

    said = of_number(number) if number else t(f"logs.alarm.{why}", level=record.level, usual=record.usual)
    console.say(said, indent=3)


def lines(key: str, meanings: list["Meaning"]) -> list[str]:
    """The lines of a difference, equal ones as one."""
    counts = Counter(map(words, meanings))
    return [t(f"logs.alarm.{key}", text=text) + (f"  (x{n})" if n > 1 else "") for text, n in counts.items()]


def words(meaning: "Meaning") -> str:
    """What a word of a session stands for, in words."""
    if meaning.kind == "event":
        return meaning.template
    key = {"end": "ends", "new": "unknown", "number": "value"}[meaning.kind]
    return t(f"logs.alarm.{key}", text=meaning.template, place=meaning.place, least=meaning.least, most=meaning.most)


def varied(templates: list[str]) -> str:
    """A word of the place at which templates of one length differ most."""
    seen: dict[tuple[int, int], dict[str, None]] = {}
    for template in templates:
        words = template.split()
        for place, word in enumerate(words):
            seen.setdefault((len(words), place), {})[word] = None
    return next(iter(max(seen.values(), key=len, default={"": None})))


def say_pending(some: list["Pending"]) -> None:
    """Templates that wait, with their numbers."""
    rows = [[each.id, f"{each.count:,}", each.example.level or "-", each.template] for each in some]
    if rows:
        say_lines(["id", "count", "level", "template"], rows)


def say_waiting(detector: "Detector", budget: int) -> None:
    """Templates that wait, those met just now first, at most so many, and how to accept them."""
    waiting = sorted(detector.pending, key=lambda each: each.earlier)
    for earlier, key in ((False, "new"), (True, "earlier")):
        if some := [each for each in waiting if each.earlier == earlier]:
            shown = [each for each in waiting[:budget] if each.earlier == earlier]
            console.say()
            console.say(t(f"logs.scan.{key}", n=len(some)))
            say_pending(shown)
            if shown and len(shown) < len(some):
                console.say(t("logs.alarm.more", n=len(some) - len(shown)))
    if waiting:
        console.say(t("logs.scan.accept", run=detector.run.path))


def pending(each: "Pending") -> dict[str, Any]:
    """A template that waits, for JSON."""
    example = {"source": each.example.source, "line": each.example.line_number, "message": each.example.message}
    known = {"id": each.id, "template": each.template, "count": each.count, "earlier": each.earlier}
    return {**known, "level": each.example.level, **example}


def watched_numbers(detector: "Detector") -> list[tuple[str, int, float, float, tuple[float, ...]]]:
    """(template, which of its numbers, from 1, the least that was learnt, the greatest, the kinds or ())."""
    from kakehashi.work.logs.vocabulary import Kinds

    found = []
    for id, places in detector.vocabulary.bins.items():
        for at, each in places.items():
            values = each.values if isinstance(each, Kinds) else each.edges
            kinds = values if isinstance(each, Kinds) else ()
            found.append((detector.drain.groups[id].template, at + 1, values[0], values[-1], kinds))
    return found


def cells(row: "Row") -> list[str]:
    """A method's row in a table."""
    shares = [f"{row.share:.2%}", f"{row.per_1000_lines:.2f}", f"{row.held_out:.2%}"]
    return [t(f"logs.method.{row.method}"), f"{row.n_alarms:,}", *shares]


def say_lines(columns: list[str], rows: list[list[Any]]) -> None:
    """A table whose last column is a line of a log, shortened to the width; the others are numbers and short words."""
    names = [t(f"logs.column.{name}") for name in columns]
    widths = [max(cell_len(str(cell)) for cell in column) for column in zip(names, *rows, strict=True)]
    room = console.out().width - sum(widths[:-1]) - 2 * len(widths)
    console.table(names, [[*row[:-1], shortened(row[-1], room)] for row in rows], tuple(range(len(columns) - 1)))


def say_line(text: str, indent: int, style: str | None = None) -> None:
    """A line that may be of a log, shortened to the width."""
    console.say(" " * indent + shortened(text, console.out().width - indent - 1), style)


def shortened(text: str, width: int) -> str:
    """At most so many columns; what a terminal would obey, or that turns its writing around, is spelled out."""
    text = "".join(c if c.isprintable() or c == "\u3000" else c.encode("unicode_escape").decode() for c in text)
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 3, 1)).rstrip() + "..."


def place(record: "Record | Kept") -> str:
    return f"{record.source}:{record.line_number}"


def moment(time: Any) -> str:
    """A time to the second, in the zone that was written, if one was."""
    return time.isoformat(" ", "seconds").replace("+00:00", "Z")


def size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
