"""Lines of log files of any size: files found, unpacked, cut into lines, decoded, cleaned. Memory is bounded."""

import codecs
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from kakehashi.work.logs.errors import LogError

CHUNK = 1 << 16  # bytes read at a time
LONGEST = 1 << 22  # bytes of a line; what is over is left out and said
MANY = 100  # lines that tell which encoding is usual in a file
_JIS = b"\x1b$"  # ISO-2022-JP is made of ASCII bytes, so it would pass for UTF-8
_UNASSIGNED = re.compile("[\x80\xa0\uf8f1-\uf8f3]")  # what Python makes of bytes that mean nothing in CP932
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")  # colours, and titles of windows
_CONTROL = bytes(set(range(0x20)) - set(b"\0\t\n\r\f\x1b\b\x07\x0e\x0f") | {0x7F})
_ROTATED = re.compile(r"(?P<stem>.*?)[.-](?P<number>\d+|\d{4}-\d{2}-\d{2})(?P<suffix>\.log)?$")
_EARLIEST, _LATEST = (each.replace(tzinfo=UTC) for each in (datetime.min, datetime.max))


class Line(NamedTuple):
    number: int  # from 1
    text: str
    whole: bool  # False: the last line, without a line end: it may be torn


@dataclass
class Note:
    """Something about a file that a person should know: of which kind, how often, and in which line first."""

    kind: str
    source: str
    line: int
    count: int = 0


@dataclass
class Notes:
    """What was met on the way, by kind and source, and between which times.

    Of files: "binary", "unreadable" (passed over, in a folder), "empty", "torn" (it ends without a line end, or packed
    data end too early). Of lines: "encoding NAME" (not UTF-8), "undecodable" (bytes kept as \\xNN, half characters in
    JSON as \\ufffd), "nul" (zero bytes left out), "long" (cut), "json" (looks like it and is not), "quote" (a cell of a
    table that does not end).
    Of times: "no zone" (local ones), "clock" (it goes back by more than a second).
    """

    notes: dict[tuple[str, str], Note] = field(default_factory=dict)
    first: datetime | None = None  # the span of the records' times; local ones count as if they were UTC
    last: datetime | None = None
    _first: datetime = _LATEST  # the same in UTC
    _last: datetime = _EARLIEST
    progress: Callable[[str, int], Any] = lambda source, n_bytes: None  # called with what was read of a file so far

    def span(self, time: datetime) -> None:
        """Widen the span of time by this one."""
        in_utc = time if time.tzinfo else time.replace(tzinfo=UTC)
        if in_utc < self._first:
            self.first, self._first = time, in_utc
        if in_utc > self._last:
            self.last, self._last = time, in_utc

    def add(self, kind: str, source: str, line: int = 0) -> None:
        note = self.notes.get((kind, source))
        if note is None:
            note = self.notes[kind, source] = Note(kind, source, line)
        note.count += 1

    def __iter__(self) -> Iterator[Note]:
        return iter(self.notes.values())


def find_files(paths: Iterable[str | Path], notes: Notes) -> list[Path]:
    """The files named, and those in the folders named, older ones of a rotation first; hidden ones are left out.

    Raises LogError: a path that is not there, or is neither a file nor a folder; a file that was named and is binary.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
            found += [file for file in sorted(inside, key=_age) if _is_text(file, notes)]
        elif not path.exists():
            raise LogError(f"there is no file or folder {path}")
        elif not path.is_file():  # a pipe gives its lines once, and logs are opened more than once
            raise LogError(f"{path} is neither a file nor a folder: write what it holds to a file, and name that")
        else:
            if why := _why_not(path):
                raise LogError(f"{path} {why}: choose a log in text, CSV or JSON, as it is or packed by gzip")
            found.append(path)
    return found


def read_lines(path: Path, notes: Notes, encoding: str | None = None) -> Iterator[Line]:
    """The lines of a file, packed by gzip or not. Each is decoded on its own, so that a file may mix encodings.

    encoding: of the lines that are not UTF-8; without it Japanese encodings are told apart line by line.
    Raises LogError: unreadable, an encoding that is not known.
    """
    lines, n_bytes = Lines(str(path), notes, encoding), 0
    try:
        with open_file(path) as file:
            try:
                while chunk := file.read(CHUNK):
                    if not n_bytes:
                        lines.look_at(chunk)
                    yield from lines.feed(chunk)
                    n_bytes += len(chunk)
                    notes.progress(str(path), n_bytes)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                notes.add("torn", str(path))
        yield from lines.close()
    except OSError as error:
        raise LogError(f"cannot read {path}: {error.strerror or error}") from error


def open_file(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked where it is packed by gzip."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else open(path, "rb")  # type: ignore[return-value]


class Lines:
    """The lines in the bytes of one source, however these arrive; a line is there as soon as its end is.

    encoding: of what is not UTF-8, or UTF-16 with its mark. Raises LogError: an encoding that is not known.
    """

    def __init__(self, source: str, notes: Notes, encoding: str | None = None):
        self.source = source
        self.notes = notes
        self.number = 0  # of the last line
        self._decoder = Decoder(encoding)
        self._end = b"\n"
        self._wide: codecs.IncrementalDecoder | None = None  # turns UTF-16 into UTF-8
        self._begun = False
        self._rest = b""  # of a line whose end is still to come
        self._skipping = False  # the end of a line whose beginning was long enough

    def look_at(self, block: bytes) -> None:
        """Learn from the first block of a file how its lines end, and which encoding is usual there."""
        if b"\n" not in block and b"\r" in block:
            self._end = b"\r"
        self._decoder.look_at(block.split(self._end)[:-1])

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in these bytes; of one that is too long the beginning, some bytes more than LONGEST."""
        if not self._begun:
            chunk, self._rest = self._rest + chunk, b""
            if len(chunk) < 2:  # too few to tell
                self._rest = chunk
                return
            self._begun = True
            if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                self._wide = codecs.getincrementaldecoder("utf-16")("replace")
                self.notes.add("encoding utf-16", self.source)
        if self._wide:
            chunk = self._wide.decode(chunk).encode("utf-8", "replace")
        *whole, rest = (self._rest + chunk).split(self._end)
        for raw in whole:
            if not self._skipping:
                yield self._line(raw + self._end)
            self._skipping = False
        if self._skipping:
            rest = b""
        elif len(rest) > LONGEST:
            yield self._line(rest + self._end)
            rest, self._skipping = b"", True
        self._rest = rest

    def close(self) -> Iterator[Line]:
        """The last line, where it has no end."""
        rest, self._rest = self._rest, b""
        if rest:
            yield self._line(rest)

    def _line(self, raw: bytes) -> Line:
        self.number += 1
        whole = raw.endswith(self._end)
        if len(raw) > LONGEST:
            self._note("long")
        text, name = self._decoder.decode(raw[:LONGEST])
        if name != "utf-8":
            self._note(name if name == "undecodable" else f"encoding {name}")
        if "\0" in text:
            self._note("nul")
        if not whole:
            self._note("torn")
        return Line(self.number, clean(text), whole)

    def _note(self, kind: str) -> None:
        self.notes.add(kind, self.source, self.number)


def clean(text: str) -> str:
    """Without line end, BOM, zero bytes and the colours of a terminal."""
    text = text.strip("\r\n").removeprefix("\ufeff").replace("\0", "").replace("\r", " ")
    return _ANSI.sub("", text) if "\x1b" in text else text


class Decoder:
    """Decodes the lines of a file, each in its own encoding: UTF-8, ISO-2022-JP, CP932 or EUC-JP, or the one stated."""

    def __init__(self, encoding: str | None = None):
        try:
            self.stated = codecs.lookup(encoding).name if encoding else None
            if self.stated:
                b"a".decode(self.stated)  # says whether it is one of text, as base64 is not
        except UnicodeError:
            pass  # a letter is none of its texts, but it has texts: UTF-16
        except (LookupError, ValueError):
            raise LogError(f"{encoding!r} is no encoding of text: choose utf-8, cp932, euc_jp, ...") from None
        self._usual = "cp932"  # of the Japanese lines so far that could be told

    def look_at(self, lines: Iterable[bytes]) -> None:
        """Take for usual the encoding in which these lines, up to MANY that are not UTF-8, have more kana."""
        if self.stated:
            return
        odd = islice((raw for raw in lines if not raw.isascii() and _try(raw, "utf-8") is None), MANY)
        kana = Counter[str]()
        for readings in map(_readings, odd):
            kana.update({name: _n_kana(text) for name, text in readings.items()})
        self._usual = max(("cp932", "euc_jp"), key=kana.__getitem__)

    def decode(self, raw: bytes) -> tuple[str, str]:
        """(text, name of the encoding); "undecodable": what is no text is kept as \\xNN."""
        if _JIS in raw and not self.stated and (text := _try(raw, "iso2022_jp")) is not None:
            return text, "iso2022_jp"
        if (text := _try(raw, "utf-8")) is not None:
            return text, "utf-8"
        if self.stated:
            text = _try(raw, self.stated)
            return (text, self.stated) if text is not None else _as_bytes(raw)
        if not (readings := _readings(raw)):
            return _as_bytes(raw)
        # Kana tell: the bytes of one encoding's kana are no text, or half-width kana and rare kanji, in the other
        scores = {name: _n_kana(text) for name, text in readings.items()}
        best = max(scores, key=lambda name: (scores[name], name == self._usual))
        if len(readings) == 1 or scores[best] > min(scores.values()):
            self._usual = best
        return readings[best], best


def _readings(raw: bytes) -> dict[str, str]:
    """What Japanese encodings make of a line, those in which it is text."""
    return {name: text for name in ("cp932", "euc_jp") if (text := _try(raw, name)) is not None}


def _n_kana(text: str) -> int:
    return sum("ぁ" <= c <= "ヶ" for c in text)


def _try(raw: bytes, encoding: str) -> str | None:
    try:
        text = raw.decode(encoding)
    except UnicodeError:
        return None
    return None if encoding == "cp932" and _UNASSIGNED.search(text) else text


def _as_bytes(raw: bytes) -> tuple[str, str]:
    return raw.decode("utf-8", "backslashreplace"), "undecodable"


def _why_not(path: Path) -> str:
    """What keeps a file from being read as a log; "" where nothing does."""
    try:
        with open_file(path) as file:
            head = file.read(CHUNK)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return "is packed by gzip, and broken"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    # zero bytes are left by a rotation that empties a file in use; other control characters are in no text
    text = head.replace(b"\0", b"")
    n_control = len(text) - len(text.translate(None, _CONTROL))
    return "looks binary" if n_control > len(text) / 50 else ""


def _is_text(path: Path, notes: Notes) -> bool:
    why = _why_not(path)
    if why:
        notes.add("binary" if why == "looks binary" else "unreadable", str(path))
    return not why


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _age(path: Path) -> tuple:
    """Sorts app.log.2.gz, app.log.1, app.log, and app-20240131.log, app-20240201.log: as they were written."""
    name = path.name.removesuffix(".gz")
    if not (found := _ROTATED.match(name)):
        return (str(path.parent), name, 2, 0)
    number = int(found["number"].replace("-", ""))
    dated = len(found["number"]) >= 6
    return (str(path.parent), found["stem"] + (found["suffix"] or ""), 0 if dated else 1, number if dated else -number)
