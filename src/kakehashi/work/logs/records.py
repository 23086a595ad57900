"""Records of logs: plain text, CSV exports, JSON lines, OpenTelemetry, logfmt, each recognised line by line.

    2026-01-31 10:15:30,123 ERROR [main] Disk 3 is full     time, level ERROR, message "[main] Disk 3 is full"
        at com.example.Disk.write(Disk.java:42)             joins the record before: .rest

Nothing is asked of the person; where a log has a form of its own, a `layout` says it.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kakehashi.work.logs import stamps
from kakehashi.work.logs.errors import LogError
from kakehashi.work.logs.lines import Line, Notes, find_files, read_lines

LONGEST_MESSAGE = 10_000  # characters of a message, and of what follows it; what is over is left out and said
LONGEST_ROW = 100_000  # characters of a table's row: a quote may be missing
LONGEST_DOCUMENT = 1 << 26  # characters of a JSON document over many lines

# Names of columns and keys, in lower case, the surest first; for JSON a dot leads into an object
_MESSAGES = (
    "message @message msg body @m @mt short_message log textpayload content logmessage log_message text event "
    "description _raw payload メッセージ 内容 本文 ログ"
).split()
_TIMES = (
    "@timestamp timestamp timeunixnano time_unix_nano @t _time time ts datetime date_time __realtime_timestamp "
    "observedtimeunixnano timegenerated time_generated eventtime asctime created date 日時 時刻 発生日時 タイムスタンプ"
).split()
_LEVELS = (
    "level log.level severitytext severity_text severity levelname level_name loglevel log_level lvl @l priority "
    "severitynumber severity_number レベル ログレベル 重要度"
).split()
_NAMED = {*_TIMES, *_LEVELS, "date"}
_CONTINUES = re.compile(r"\s|Caused by:|Traceback \(|\.\.\. \d+ more|at \S+\(|[}\])]+;?$")
_BLANK = re.compile(r"\s*")
_HALF = re.compile("[\ud800-\udfff]")  # of a character: JSON may hold it, UTF-8 cannot
_LOGFMT = re.compile(r'([\w.@-]+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True, slots=True)
class Record:
    """One event of a log."""

    message: str  # its first line, without time and level
    time: datetime | None = None  # in the zone written, or naive: local to the machine that wrote it
    level: str | None = None  # TRACE, DEBUG, INFO, NOTICE, WARNING, ERROR, CRITICAL
    source: str = ""
    line_number: int = 0  # where it begins
    rest: str = ""  # its further lines: a stack trace
    fields: dict[str, str] = field(default_factory=dict)  # what else was given by name: trace ids, services, ...
    torn: bool = False  # it begins in a line that has no end: its message may be cut

    @property
    def seconds(self) -> float | None:
        """The time since 1970 as a number; a local time counts as if it were UTC."""
        return seconds_of(self.time)


def seconds_of(time: datetime | None) -> float | None:
    """See `Record.seconds`."""
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def read(
    paths: str | Path | Iterable[str | Path],
    notes: Notes | None = None,
    *,
    encoding: str | None = None,
    layout: str | None = None,
) -> Iterator[Record]:
    """The records of files and folders, one after the other, as a stream: memory does not grow with the files.

    notes collects what a person should know, see `lines.Notes`. layout: see `Parser`.
    Raises LogError at once: a path that is not there, a binary file, a layout of no use; while reading: what a file
    does not let read.
    """
    notes = Notes() if notes is None else notes
    files = find_files([paths] if isinstance(paths, str | Path) else paths, notes)
    return _records(files, notes, encoding, compiled(layout))


def _records(files: list[Path], notes: Notes, encoding: str | None, layout: re.Pattern[str] | None) -> Iterator[Record]:
    for path in files:
        try:
            written = datetime.fromtimestamp(path.stat().st_mtime)
        except OSError as error:
            raise LogError(f"cannot read {path}: {error.strerror or error}") from error
        parser = Parser(str(path), notes, layout, latest=written + timedelta(days=1))
        line = None
        for line in read_lines(path, notes, encoding):
            yield from parser.feed(line)
        yield from parser.close()
        if line is None:
            notes.add("empty", str(path))


def compiled(layout: str | None) -> re.Pattern[str] | None:
    """A layout as a pattern. Raises LogError: no regular expression, without a group `message`."""
    try:
        pattern = re.compile(layout) if layout else None
    except re.error as error:
        raise LogError(f"the layout is no regular expression: {error}; see {layout!r}") from error
    if pattern and "message" not in pattern.groupindex:
        raise LogError(f"the layout has no group (?P<message>...): {layout!r}")
    return pattern


class Parser:
    """Lines of one source in, records out as soon as they are whole: for files, and for one that still grows.

    layout: a pattern at the beginning of a line; its group `message`, and where they are there `time` and `level`, are
    what the names say, other named groups become fields; a line without a message continues the record before.
    latest: no time of the log is later; it gives the year to times without one.
    """

    def __init__(
        self, source: str, notes: Notes, layout: re.Pattern[str] | None = None, latest: datetime | None = None
    ):
        self.source = source
        self.notes = notes
        self.layout = layout
        self.times = stamps.Times(latest or datetime.now() + timedelta(days=1))
        self._feed: Callable[[Line], Iterator[Record]] = self._feed_first
        self._open: Record | None = None  # the record that the next line may continue
        self._more: list[str] = []  # its further lines
        self._length = 0  # and their characters
        self._timed = False  # whether records of plain text have times here: then a line without continues
        self._before: datetime | None = None
        self._torn = 0  # the number of a line without an end

    def feed(self, line: Line) -> Iterator[Record]:
        """The records that are whole with this line; a blank line is none."""
        if not line.whole:
            self._torn = line.number
        if line.text.strip() or isinstance(self._feed, _Table):
            yield from map(self._checked, self._feed(line))

    def close(self) -> Iterator[Record]:
        """What is still open at the end of the source, or after a while without a line."""
        if isinstance(document := self._feed, _Document):
            value = document.parsed(self.source)
            self._feed = self._feed_first  # its records come once
            yield from map(self._checked, self._from_json(value, document.first))
        elif isinstance(self._feed, _Table):
            yield from map(self._checked, self._feed.close())
        yield from map(self._checked, self._closed())

    def _checked(self, record: Record) -> Record:
        said = "\n".join((record.message, record.rest, *record.fields, *record.fields.values()))
        if not said.isascii() and _HALF.search(said):
            self.notes.add("undecodable", self.source, record.line_number)
            fields = {_mended(name): _mended(value) for name, value in record.fields.items()}
            record = replace(record, message=_mended(record.message), rest=_mended(record.rest), fields=fields)
        if len(record.message) > LONGEST_MESSAGE or len(record.rest) > LONGEST_MESSAGE:
            self.notes.add("long", self.source, record.line_number)
            record = replace(record, message=record.message[:LONGEST_MESSAGE], rest=record.rest[:LONGEST_MESSAGE])
        if self._torn and record.line_number == self._torn:
            record = replace(record, torn=True)
        if (time := record.time) is not None:
            self.notes.span(time)
            if time.tzinfo is None:
                self.notes.add("no zone", self.source, record.line_number)
            same_kind = self._before is not None and (self._before.tzinfo is None) == (time.tzinfo is None)
            if same_kind and self._before - time > timedelta(seconds=1):  # pyright: ignore[reportOperatorIssue]
                self.notes.add("clock", self.source, record.line_number)
            self._before = time
        return record

    def _closed(self) -> Iterator[Record]:
        record, more = self._open, self._more
        self._open, self._more, self._length = None, [], 0
        if record is not None:
            yield replace(record, rest="\n".join(more)) if more else record

    # What a source is, its first line tells: a table, a JSON document over many lines, or line by line

    def _feed_first(self, line: Line) -> Iterator[Record]:
        text = line.text.strip()
        if not self.layout and (text in {"{", "["} or (text[0] == "[" and _parsed(text) is None and text[1:2] == "{")):
            self._feed = _Document(line)
            return iter(())
        if not self.layout and (delimiter := _delimiter(text, self.times)):
            self._feed = _Table(self, delimiter)
        else:
            self._feed = self._feed_line
        return self._feed(line)

    def _feed_line(self, line: Line) -> Iterator[Record]:
        if self.layout:
            return self._feed_layout(line)
        if line.text.lstrip()[:1] in {"{", "["} and _is_events(value := _parsed(line.text)):
            return self._feed_json(value, line)
        if "msg=" in line.text and "level=" in line.text:
            pairs = {key: value.strip('"').replace('\\"', '"') for key, value in _LOGFMT.findall(line.text)}
            if "msg" in pairs and "level" in pairs:
                return self._feed_json(pairs, line)
        if line.text.startswith('{"'):
            self.notes.add("json", self.source, line.number)
        return self._feed_plain(line)

    def _feed_json(self, value: Any, line: Line) -> Iterator[Record]:
        yield from self._closed()
        yield from self._from_json(value, line)

    def _feed_layout(self, line: Line) -> Iterator[Record]:
        found = self.layout.match(line.text)
        if not found or found["message"] is None:
            yield from self._continued(line)
            return
        yield from self._closed()
        parts = {name: value for name, value in found.groupdict().items() if value is not None}
        time = self.times.read(parts.pop("time", ""))
        level = stamps.read_level(parts.pop("level", ""))
        self._open = Record(parts.pop("message"), time, level, self.source, line.number, fields=parts)

    def _feed_plain(self, line: Line) -> Iterator[Record]:
        time, level, message = self._head(line.text)
        if self._open is not None and (_CONTINUES.match(line.text) or (self._timed and time is None)):
            yield from self._continued(line)
            return
        yield from self._closed()
        self._timed = self._timed or time is not None
        self._open = Record(message, time, level, self.source, line.number)

    def _continued(self, line: Line) -> Iterator[Record]:
        # the source begins within a record, or so much belongs to no record: what goes on is another one
        if self._open is None or self._length + len(line.text) > LONGEST_MESSAGE:
            yield from self._closed()
            self._open = Record(line.text.strip(), None, None, self.source, line.number)
        else:
            self._more.append(line.text)
            self._length += len(line.text) + 1

    def _head(self, text: str, inside: bool = False) -> tuple[datetime | None, str | None, str]:
        """(time, level, message) of plain text. inside: of a message whose own time is known already."""
        time = self.times.find(text, anywhere=not inside) or (inside and stamps.find_clock(text)) or None
        if time:
            text = stamps.cut(text, time)
        level = stamps.find_level(text) if not inside or time else None
        if level:
            text = stamps.cut(text, level)
        moment = time.value if time and isinstance(time.value, datetime) else None
        return moment, level and str(level.value), text.strip()

    def _from_json(self, value: Any, line: Line) -> Iterator[Record]:
        try:
            events = list(_events(value))
        except (AttributeError, KeyError, TypeError):  # it has the names of OpenTelemetry, and another form
            self.notes.add("json", self.source, line.number)
            events = [{"message": json.dumps(value, ensure_ascii=False)}]
        for event in events:
            yield self.record(_flat(event), line.number)

    def record(self, fields: dict[str, str], line_number: int) -> Record:
        """The record of named values. What wraps another (a cell or a key that holds JSON) is unwrapped."""
        time, level, message, rest = None, None, None, {}
        for _ in range(4):  # exports of container logs are wrapped up to three times
            time = self._take_time(fields) or time
            level = _take_level(fields) or level
            message = _take(fields, _MESSAGES)
            rest |= {key: value for key, value in fields.items() if value}
            inner = _parsed(message) if message and message.lstrip().startswith("{") else None
            if not isinstance(inner, dict):
                break
            fields = _flat(inner)
        if message is None:
            pairs = " ".join(f"{name}={value}" for name, value in rest.items())
            return Record(pairs, time, level, self.source, line_number, fields=rest)
        first, _, more = message.strip().partition("\n")
        inner_time, inner_level, first = self._head(first, inside=time is not None)
        return Record(first, time or inner_time, level or inner_level, self.source, line_number, more, rest)

    def _take_time(self, fields: dict[str, str]) -> datetime | None:
        names = {name.lower(): name for name in fields}
        for key in _TIMES:
            if key in names and (time := self.times.read(fields[names[key]])):
                del fields[names[key]]
                return time
        if "date" in names and "time" in names:
            time = self.times.read(f"{fields[names['date']]} {fields[names['time']]}")
            if time:
                del fields[names["date"]], fields[names["time"]]
            return time
        return None


class _Document:
    """A JSON document over many lines, gathered up to LONGEST_DOCUMENT characters."""

    def __init__(self, first: Line):
        self.first = first
        self._lines: list[str] = []
        self._length = 0

    def __call__(self, line: Line) -> Iterator[Record]:
        self._length += len(line.text) + 1
        if self._length > LONGEST_DOCUMENT:
            raise LogError(
                f"a JSON document of more than {LONGEST_DOCUMENT >> 20} MiB is not read as a whole (line "
                f"{line.number:,}): write one record a line, for instance by jq -c '.[]'"
            )
        self._lines.append(line.text)
        return iter(())

    def parsed(self, source: str) -> Any:
        text, at, values = "\n".join([self.first.text, *self._lines]).rstrip(), 0, []
        try:
            while at < len(text):  # there may be several, one after the other
                value, at = json.JSONDecoder().raw_decode(text, _BLANK.match(text, at).end())
                values.append(value)
            return values
        except (json.JSONDecodeError, RecursionError) as error:
            raise LogError(f"{source} begins like a JSON document and is none ({error}): mend or split it") from None


class _Table:
    """A CSV export: the first line names the columns, or is a record whose cells tell them apart."""

    def __init__(self, parser: Parser, delimiter: str):
        self._parser = parser
        self._delimiter = delimiter
        self._header: list[str] = []
        self._names: list[str] = []
        self._lines: list[Line] = []  # of a row so far: a quoted cell may go on in the next line
        self._length = 0

    def __call__(self, line: Line) -> Iterator[Record]:
        self._lines.append(line)
        self._length += len(line.text)
        goes_on = len(self._lines) > 1 and '"' not in line.text
        row, whole = ([], False) if goes_on else _cells([line.text for line in self._lines], self._delimiter)
        if whole:
            begin = self._lines[0].number
            self._lines, self._length = [], 0
            yield from self._record(row, begin)
        elif self._length > LONGEST_ROW:
            yield from self.close()

    def close(self) -> Iterator[Record]:
        """Lines after a quote that nothing closes: each is a row, so that none is lost."""
        lines, self._lines, self._length = self._lines, [], 0
        if lines:
            self._parser.notes.add("quote", self._parser.source, lines[0].number)
        for line in lines:
            yield from self._record(_cells([line.text], self._delimiter)[0], line.number)

    def _record(self, row: list[str], line_number: int) -> Iterator[Record]:
        if not any(map(str.strip, row)) or row == self._header:  # again, where exports were joined
            return
        if not self._names:
            if not self._header and _is_header(row):
                self._header = row
                return
            self._names = self._named(row)
        n_names = len(self._names)
        if len(row) > n_names:  # an export without quotes: what is over belongs to the last cell
            row = [*row[: n_names - 1], self._delimiter.join(row[n_names - 1 :])]
        yield self._parser.record(dict(zip(self._names, row, strict=False)), line_number)

    def _named(self, row: list[str]) -> list[str]:
        """Names of the columns, by the header and the first row."""
        if not self._header:
            return _told(row, self._parser.times)
        names = [name.strip() or f"column {i}" for i, name in enumerate(self._header, 1)]
        if not any(name.lower() in _MESSAGES for name in names):
            # no name says which column the message is in: the longest of the first row is it
            others = [i for i, name in enumerate(names) if name.lower() not in _NAMED and i < len(row)]
            names[max(others, key=lambda i: len(row[i]), default=-1)] = "message"
        return names


def _cells(lines: list[str], delimiter: str) -> tuple[list[str], bool]:
    """(cells, whether the row is whole); it is not where the reader asks for another line, in a quoted cell."""
    csv.field_size_limit(1 << 30)  # lines are bounded already
    left = iter([f"{line}\n" for line in lines])
    asked = []
    row = next(csv.reader(iter(lambda: next(left, None) or asked.append(True), None), delimiter=delimiter), [])
    return row, not asked


def _is_header(row: list[str]) -> bool:
    names = {cell.strip().lower() for cell in row}
    known = (set(_MESSAGES), set(_TIMES), set(_LEVELS))
    return sum(bool(names & kind) for kind in known) >= 2


def _delimiter(text: str, times: stamps.Times) -> str | None:
    """What divides the cells of a table whose first line this is; None where it is none."""
    for delimiter in ",\t;|":
        row, _ = _cells([text], delimiter)
        if len(row) >= 2 and (_is_header(row) or "message" in _told(row, times)):
            return delimiter
    return None


def _told(row: list[str], times: stamps.Times) -> list[str]:
    """Names for the columns of a table without header: a cell that is a time, one that is a level, the longest else."""
    names = [f"column {i}" for i in range(1, len(row) + 1)]
    moments = [i for i, cell in enumerate(row) if times.read(cell)]
    levels = [i for i, cell in enumerate(row) if cell.strip().upper() in stamps.LEVELS]
    others = [i for i in range(len(row)) if i not in moments[:1] + levels[:1]]
    if moments and levels and others:
        names[moments[0]], names[levels[0]] = "time", "level"
        names[max(others, key=lambda i: len(row[i]))] = "message"
    return names


def _mended(text: str) -> str:
    return _HALF.sub("\ufffd", text)


def _parsed(text: str) -> Any:
    """The JSON value that a text is, else None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_events(value: Any) -> bool:
    """Whether a JSON value is an object or a list of objects, not empty: [12] is plain text."""
    return bool(value) and (isinstance(value, dict) or isinstance(value, list) and isinstance(value[0], dict))


def _events(value: Any) -> Iterator[dict[str, Any]]:
    """The records in a JSON value: OpenTelemetry's batches, an answer of Elasticsearch, a list, else the value."""
    if isinstance(value, list):
        for item in value:
            yield from _events(item)
    elif not isinstance(value, dict):
        yield {"message": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
    elif isinstance(batches := value.get("resourceLogs"), list):
        for batch in batches:
            resource = _attributes(batch.get("resource", {}))
            for scope in batch.get("scopeLogs", []):
                for event in scope.get("logRecords", []):
                    yield resource | _otlp(event)
    elif isinstance(hits := value.get("hits"), dict):
        yield from _events(hits.get("hits", []))
    elif isinstance(value.get("_source"), dict):
        yield value["_source"]
    elif isinstance(value.get("body"), dict):  # OpenTelemetry, one record a line
        yield _otlp(value)
    else:
        yield value


def _otlp(event: dict[str, Any]) -> dict[str, Any]:
    event = dict(event)
    attributes, body = _attributes(event), _plain(event.pop("body", None))
    event.pop("attributes", None)
    return attributes | event | (body if isinstance(body, dict) else {"body": body})


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    pairs = holder.get("attributes", [])
    return {pair["key"]: _plain(pair.get("value")) for pair in pairs} if isinstance(pairs, list) else dict(pairs)


def _plain(value: Any) -> Any:
    """An AnyValue of OpenTelemetry as the value that it wraps."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    (kind, inner), *_ = value.items()
    if kind == "kvlistValue":
        return {pair["key"]: _plain(pair.get("value")) for pair in inner.get("values", [])}
    if kind == "arrayValue":
        return [_plain(item) for item in inner.get("values", [])]
    return inner if kind.endswith("Value") else value


def _flat(value: dict[str, Any], before: str = "") -> dict[str, str]:
    """Objects within objects as names with dots, all values as text."""
    found = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= _flat(inner, f"{before}{key}.")
        elif inner is not None:
            found[before + key] = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
    return found


def _take(fields: dict[str, str], keys: Iterable[str]) -> str | None:
    """The value under the first of the keys that is there, taken out; a name may stand within an object."""
    names = {name.lower().rpartition(".")[2]: name for name in fields} | {name.lower(): name for name in fields}
    found = next((names[key] for key in keys if key in names and fields[names[key]]), None)
    return None if found is None else fields.pop(found)


def _take_level(fields: dict[str, str]) -> str | None:
    names = {name.lower(): name for name in fields}
    for key in _LEVELS:
        if key in names and (level := stamps.read_level(fields[names[key]], "number" in key)):
            del fields[names[key]]
            return level
    return None
