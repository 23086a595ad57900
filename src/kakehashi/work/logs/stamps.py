"""Times and levels as they stand in logs: found, read, and cut out of the message.

A time with a zone keeps it; one without stays naive, which means local to the machine that wrote it.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

SHORTEST = 10  # characters of a time with its date
_SEPARATORS = " \t|:;,-"
HEAD = 128  # the first characters of a line, where its time and level stand


class Found(NamedTuple):
    """A time (datetime) or a level (str), and where in the line it stands."""

    value: Any
    start: int
    end: int


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = r"(?P<name>[A-Z][a-z]{2})"
_CLOCK = r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,:](?P<fraction>\d{1,9}))?)?"
_ZONE = r"(?:\s?(?P<zone>Z|UTC|GMT|JST|[+-](?:0\d|1[0-4]):?[0-5]\d)(?!\w))?"
_FORMATS = [
    rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}})[T _-]\s?{_CLOCK}{_ZONE}",  # ISO 8601 and kin
    rf"(?P<day>\d{{1,2}})[-/ ]{_NAME}[-/ ](?P<year>\d{{4}})[: T]{_CLOCK}{_ZONE}",  # web servers
    rf"(?:[A-Z][a-z]{{2}},? )?{_NAME} +(?P<day>\d{{1,2}}) {_CLOCK}(?: (?P<year>\d{{4}})\b)?",  # syslog, ctime
    rf"(?P<month>\d{{1,2}})/(?P<day>\d{{1,2}})/(?P<year>\d{{4}}),? {_CLOCK}(?: ?(?P<half>[AP]M))?{_ZONE}",
    rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.(?P<year>\d{{4}}),? {_CLOCK}{_ZONE}",
    r"(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})日\s?(?P<hour>\d{1,2})[:時](?P<minute>\d{2})"
    r"(?:[:分](?P<second>\d{2})秒?)?",
    rf"(?P<short>\d{{2}})/(?P<month>\d{{2}})/(?P<day>\d{{2}}) {_CLOCK}",  # Spark
    r"(?P<short>\d{2})(?P<month>\d{2})(?P<day>\d{2}) (?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})(?!\S)",  # Hadoop
    r"(?P<year>20\d{2})(?P<month>\d{2})(?P<day>\d{2})[T -]?(?P<hour>\d{2}):?(?P<minute>\d{2}):?(?P<second>\d{2})"
    rf"(?:[.,:](?P<fraction>\d{{1,9}}))?{_ZONE}(?!\w)",
    rf"(?P<month>\d{{2}})-(?P<day>\d{{2}}) {_CLOCK}",  # Android
    rf"(?P<letter>[IWEF])(?P<month>\d{{2}})(?P<day>\d{{2}}) {_CLOCK}",  # glog, Kubernetes
]
# A time begins the line, or follows a blank, a bracket, a quote, a separator
_TIMES = [re.compile(rf"(?<![^\s\[(\"'=|,;<>]){form}") for form in _FORMATS]
_EPOCH = re.compile(r"\[?(?P<epoch>1\d{9}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?)(?![^\s\],])")
_CLOCK_ALONE = re.compile(r"\[?\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?![^\s\]])\]?")

_LEVELS = {
    "TRACE": "TRACE FINEST FINER VERBOSE トレース",
    "DEBUG": "DEBUG DBG FINE デバッグ",
    "INFO": "INFO INFORMATION INFORMATIONAL INF 情報",
    "NOTICE": "NOTICE 通知",
    "WARNING": "WARNING WARN WRN 警告",
    "ERROR": "ERROR ERR SEVERE エラー",
    "CRITICAL": "CRITICAL CRIT FATAL FTL ALERT EMERG EMERGENCY PANIC 致命的 重大",
}
SEVERITY = tuple(_LEVELS)  # the least first
LEVELS = {word: level for level, words in _LEVELS.items() for word in words.split()}
_SYSLOG = ["CRITICAL", "CRITICAL", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"]  # RFC 5424: 0 to 7
_BY_TENS = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]  # pino and bunyan: 10 to 60
_BY_FOURS = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]  # OpenTelemetry: 1 to 24
_WORDS = "|".join(sorted(LEVELS, key=len, reverse=True))
# Bare words only in capitals, as "error" may be part of the message; in brackets, or first with a colon, any
_LEVEL = re.compile(
    rf"[\[(<{{|]\s*(?P<bracketed>(?i:{_WORDS}))\s*[\])>}}|]|(?<![\w./-])(?P<bare>{_WORDS})(?![\w./-]):?"
    rf"|^\s*(?P<first>(?i:{_WORDS})):"
)
_LETTER = re.compile(r"[IWEF](?=\s)")
_PRIORITY = re.compile(r"<(\d{1,3})>(?:1 )?")


class Times:
    """Reads the times of one source. A source has mostly one format: the one that was right last is tried first.

    latest: naive, no time is later; it gives the year to formats that have none.
    """

    def __init__(self, latest: datetime):
        self.latest = latest
        self._formats = list(_TIMES)

    def find(self, line: str, anywhere: bool = True) -> Found | None:
        """The first time in the head of a line; not `anywhere`: only one that the line begins with."""
        if found := _EPOCH.match(line):
            return Found(from_epoch(found["epoch"]), *found.span())
        first = 1 if line[:1] in {"[", "<", "("} else 0
        for form in self._formats:
            found = form.search(line, 0, HEAD) if anywhere else form.match(line, first)
            if found and (time := _moment(found, self.latest)):
                if form is not self._formats[0]:
                    self._formats.remove(form)
                    self._formats.insert(0, form)
                # the letter of glog is a level: it stays for find_level
                return Found(time, found.end("letter") if "letter" in form.groupindex else found.start(), found.end())
        return None

    def read(self, text: str) -> datetime | None:
        """The time that is the whole of a text: a cell, a value in JSON; None where it is none."""
        text = text.strip().strip("[]")
        found = self.find(text, anywhere=False) if len(text) >= SHORTEST else None
        return found.value if found and (found.start, found.end) == (0, len(text)) else None


def find_clock(line: str) -> Found | None:
    """A time of day that a line begins with, its date unknown."""
    found = _CLOCK_ALONE.match(line)
    return Found(found[0], *found.span()) if found else None


def from_epoch(number: str) -> datetime:
    """Seconds since 1970, or as its length tells milliseconds, microseconds, nanoseconds, as a time in UTC."""
    whole, _, fraction = number.partition(".")
    seconds, rest = int(whole[:10]), (whole[10:] + fraction)[:6]
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=int(rest.ljust(6, "0")))


def _moment(found: re.Match[str], latest: datetime) -> datetime | None:
    part = found.groupdict()
    try:
        month = _MONTHS.index(part["name"].lower()) + 1 if part.get("name") else int(part["month"])
        year = int(part["year"]) if part.get("year") else 2000 + int(part["short"]) if part.get("short") else None
        hour = int(part["hour"])
        if half := part.get("half"):
            hour = hour % 12 + 12 * (half == "PM")
        rest = (month, int(part["day"]), hour, int(part["minute"]), int(part["second"] or 0))
        time = datetime(year or latest.year, *rest, int((part.get("fraction") or "0")[:6].ljust(6, "0")))
        # a log of December is read in January
        if year is None and time > latest:
            time = time.replace(year=latest.year - 1)
        return time.replace(tzinfo=_zone(part.get("zone")))
    except (ValueError, OverflowError):
        return None


def _zone(name: str | None) -> timezone | None:
    if not name:
        return None
    if name[0] not in "+-":
        return timezone(timedelta(hours=9)) if name == "JST" else UTC
    return timezone(timedelta(hours=int(name[:3]), minutes=int(name[0] + name[-2:])))


def find_level(line: str) -> Found | None:
    """The level in the head of a line, by its usual name: TRACE, DEBUG, INFO, NOTICE, WARNING, ERROR or CRITICAL."""
    if found := _PRIORITY.match(line):
        return Found(_SYSLOG[int(found[1]) & 7], *found.span())
    if found := _LETTER.match(line):
        return Found({"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}[found[0]], *found.span())
    found = _LEVEL.search(line, 0, HEAD)
    return Found(LEVELS[found[found.lastgroup or 0].upper()], *found.span()) if found else None


def read_level(text: str, open_telemetry: bool = False) -> str | None:
    """The level that is the whole of a text: a name, or a number as syslog, pino or OpenTelemetry counts."""
    text = text.strip().removeprefix("SEVERITY_NUMBER_")
    if not text.isdecimal():
        return LEVELS.get(text.strip("[]").rstrip("234").upper())  # OpenTelemetry has INFO2, ...
    number = int(text)
    if open_telemetry:
        return _BY_FOURS[(number - 1) // 4] if 1 <= number <= 24 else None
    if number < len(_SYSLOG):
        return _SYSLOG[number]
    return _BY_TENS[number // 10 - 1] if number in range(10, 70, 10) else None


def cut(line: str, found: Found) -> str:
    """The line without what was found, and without what framed it."""
    before, after = line[: found.start].rstrip(), line[found.end :].lstrip()
    if before.endswith("[") and after.startswith("]"):
        before, after = before[:-1].rstrip(), after[1:].lstrip()
    if before and after:
        return f"{before} {after}"
    return before.rstrip(_SEPARATORS) or after.lstrip(_SEPARATORS)
