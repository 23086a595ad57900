"""Log files that grow, followed: their records as they are written, none lost and none twice.

A file may not be there yet, may be renamed and begun anew, or copied and emptied (both are rotations), may end within a
line or a record; the system may refuse it for a while. What is not seen: a file that comes and goes between two looks,
and what was written and emptied between them without a copy.
"""

import codecs
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kakehashi.work.logs.detector import BATCH, Detector, Judged
from kakehashi.work.logs.errors import LogError
from kakehashi.work.logs.lines import CHUNK, LONGEST, Lines, Notes, find_files, open_file
from kakehashi.work.logs.records import Parser, Record, compiled
from kakehashi.work.logs.sessions import Session

QUIET = 1.0  # seconds without a byte after which no further line of the last record is waited for
LINGER = 10.0  # seconds without a byte after which nobody writes any more to a file that was replaced
MARK = 256  # bytes by which what was read is known again


class Follower:
    """Follows files: `look` gives the records that have come since the last look.

    Begins at the end of files that are there, or with from_start at their beginning. tell(kind, path) is called when
    something happens to a file: "missing", "unreadable", "found" after these, "replaced", "emptied", "unfinished" (it
    was a JSON document, and is given up before its end).
    encoding, layout, notes: see `records.read`. Raises LogError: a folder, packed or binary files, a layout of no use.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        notes: Notes | None = None,
        *,
        encoding: str | None = None,
        layout: str | None = None,
        from_start: bool = False,
        tell: Callable[[str, Path], Any] = lambda kind, path: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.clock = clock
        self.newest = clock()  # when the last record came
        self.stopped = False
        self.closed = False
        notes = Notes() if notes is None else notes

        def opened(path: Path) -> _Source:
            lines = Lines(str(path), notes, encoding)
            return _Source(path, lines, Parser(str(path), notes, compiled(layout)), clock)

        self._files: list[_File] = []
        for path in dict.fromkeys(map(Path, paths)):
            try:
                file = _File(_checked(path), opened, tell)
                file.open()
                if file.source and not from_start:
                    file.source.skip()
            except OSError as error:
                raise LogError(f"cannot follow {path}: {error.strerror or error}") from error
            self._files.append(file)

    def look(self) -> Iterator[Record]:
        """The records that are whole since the last look, a file after the other."""
        for file in self._files:
            for record in file.look():
                self.newest = self.clock()
                yield record

    def stop(self) -> None:
        """Nothing more is waited for: `until_quiet` ends with what is in the files now."""
        self.stopped = True

    def close(self) -> Iterator[Record]:
        """What is still in the files, a last line without an end, too."""
        self.closed = True
        for file in self._files:
            yield from file.close()

    @property
    def unread(self) -> int:
        """Bytes in the files that nobody has looked at."""
        return sum(file.unread for file in self._files)

    def until_quiet(
        self, seconds: float, wait: Callable[[float], Any] = time.sleep, every: float = 0.25
    ) -> Iterator[Record]:
        """The records as they come, until there was none for so many seconds; the first is waited for without limit.
        Where it is stopped, the follower is closed.

        wait(every): what passes the time between two looks.
        """
        begun = False
        while not self.stopped and (not begun or self.clock() - self.newest <= seconds):
            for record in self.look():
                begun = True
                yield record
            wait(every)
        if self.stopped:
            yield from self.close()


def watch(
    detector: Detector,
    follower: Follower,
    idle: float,
    show: Callable[[Judged], Any],
    each: Callable[[Session], Any] | None = None,
    wait: Callable[[float], Any] = time.sleep,
) -> None:
    """show(judged) is called with each session as soon as it has ended: after `idle` seconds without a record, by the
    log's own clock, and where nothing at all comes by ours. Goes on until the follower is stopped; a session that is
    open then is judged as one that goes on. each: see `Detector.sessions`.
    """
    ended: list[Session] = []

    def judge() -> None:
        for judged in detector.judge(ended):
            show(judged)
        ended.clear()

    def pause(seconds: float) -> None:
        judge()  # those that one look has brought, together
        wait(seconds)

    while not follower.closed:
        for session in detector.sessions(follower.until_quiet(idle, pause), idle=idle, each=each):
            if follower.closed and session.why == "end":
                session.why = "full"
            ended.append(session)
            if len(ended) == BATCH:
                judge()
        judge()


class _File:
    """A path that is followed: the file that it names now, and those that it named before."""

    def __init__(self, path: Path, opened: "Callable[[Path], _Source]", tell: Callable[[str, Path], Any]):
        self.path = path
        self.source: _Source | None = None
        self._old: list[_Source] = []  # replaced, but somebody may still write to them
        self._opened = opened
        self._tell = tell
        self._state = "found"  # what is known of the path: found, missing, unreadable

    def open(self) -> None:
        """Open the path, where that is possible by now."""
        self.source = None
        try:
            self.source = self._opened(self.path)
        except OSError as error:
            self._now("missing" if isinstance(error, FileNotFoundError) else "unreadable")
        else:
            self._now("found")

    def look(self) -> Iterator[Record]:
        try:
            yield from self._look()
        except OSError:
            self._now("unreadable")
            if self.source:
                self.source.reopen()
        else:
            if self.source:
                self._now("found")

    @property
    def unread(self) -> int:
        return sum(source.unread for source in self._sources())

    def _now(self, state: str) -> None:
        if state != self._state:
            self._tell(state, self.path)
        self._state = state

    def _look(self) -> Iterator[Record]:
        for source in list(self._old):
            try:
                yield from source.read()
                over = self.source is not None and source.is_quiet(LINGER)
            except OSError:
                over = True
            if over:
                self._old.remove(source)
                yield from self._end(source)
        if self.source is None:
            yield from self._open_next()
        if self.source is None:
            return
        if self.source.is_overwritten():
            self._tell("emptied", self.path)
            yield from self.source.read_copy()
            yield from self._end(self.source)
            self.open()
        elif self.source.is_replaced():
            yield from self.source.read()
            self._old.append(self.source)
            yield from self._open_next()
            if self.source:
                self._tell("replaced", self.path)
        if self.source:
            yield from self.source.read()

    def _open_next(self) -> Iterator[Record]:
        """Open the path; the last record before comes before what is in it."""
        self.open()
        if self.source:
            for source in self._old:
                yield from source.settle()

    def close(self) -> Iterator[Record]:
        yield from self.look()
        for source in self._sources():
            yield from self._end(source)
        self._old, self.source = [], None

    def _end(self, source: "_Source") -> Iterator[Record]:
        """What is still open in it, for the last time."""
        try:
            yield from source.close()
        except LogError:
            self._tell("unfinished", self.path)

    def _sources(self) -> "list[_Source]":
        return [*self._old, *([self.source] if self.source else [])]


class _Source:
    """An open file, and how far it was read. Raises OSError where it cannot be opened."""

    def __init__(self, path: Path, lines: Lines, parser: Parser, clock: Callable[[], float]):
        self.path = path
        self._file = open(path, "rb", buffering=0)  # a buffer would show what the file was
        self._lines = lines
        self._parser = parser
        self._clock = clock
        self._at = 0  # bytes read
        self._mark = b""  # the last of them
        self._grown = clock()  # when it was last seen to grow
        self._written = 0  # when it was last written to, by its own file system, as far as it was read
        self._settled = True  # whether the parser was told that nothing follows

    def skip(self) -> None:
        """Go to the beginning of the last line that is not whole, or to the end. The first line tells the form."""
        head = self._file.readline(LONGEST)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            for _ in self.read():  # its line ends are only found by decoding
                pass
            list(self._parser.close())
            return
        if not head.endswith(b"\n"):
            return
        self._at = end = len(head)
        for line in self._lines.feed(head):
            list(self._parser.feed(line))
        list(self._parser.close())
        while chunk := self._file.read(CHUNK):
            if b"\n" in chunk:
                self._at = end + chunk.rindex(b"\n") + 1
                self._lines.number += chunk.count(b"\n")
            end += len(chunk)
        self._file.seek(max(0, self._at - MARK))
        self._mark = self._file.read(min(MARK, self._at))

    def read(self) -> Iterator[Record]:
        """The records that are whole by what the file has more than at the last time."""
        self._parser.times.latest = datetime.now() + timedelta(days=1)
        self._file.seek(self._at)
        self._written = os.fstat(self._file.fileno()).st_mtime_ns
        yield from self._read(self._file)
        if self.is_quiet(QUIET):
            yield from self.settle()

    def settle(self) -> Iterator[Record]:
        """The last record: no further line of it is waited for, but for a JSON document that has no end yet."""
        if not self._settled:
            self._settled = True
            with suppress(LogError):
                yield from self._parser.close()

    def _read(self, file: Any) -> Iterator[Record]:
        while chunk := file.read(CHUNK):
            self._at += len(chunk)
            self._mark = (self._mark + chunk)[-MARK:]
            self._grown, self._settled = self._clock(), False
            for line in self._lines.feed(chunk):
                yield from self._parser.feed(line)

    def read_copy(self) -> Iterator[Record]:
        """Of a file that was copied and emptied, what the copy has more than was read; nothing where there is none."""
        try:
            for path in self._siblings():
                with open_file(path) as copy:
                    if self._is_in(copy):
                        yield from self._read(copy)
                        return
        except (OSError, EOFError, zlib.error):  # somebody moves or packs it meanwhile
            return

    def _siblings(self) -> list[Path]:
        """What may be a copy, the newest first."""
        near = [path for path in self.path.parent.iterdir() if path.name.startswith(self.path.stem)]
        files = [path for path in near if path != self.path and path.is_file()]
        return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def close(self) -> Iterator[Record]:
        """What is still open. The file is closed."""
        self._file.close()
        for line in self._lines.close():
            yield from self._parser.feed(line)
        yield from self._parser.close()

    def reopen(self) -> None:
        """Open the path anew, where that is possible, and go on at the same place: a server may have been away."""
        with suppress(OSError):
            old, self._file = self._file, open(self.path, "rb", buffering=0)
            old.close()

    @property
    def unread(self) -> int:
        return max(0, os.fstat(self._file.fileno()).st_size - self._at)

    def is_quiet(self, seconds: float) -> bool:
        """Whether it has not grown for so long."""
        return self._clock() - self._grown > seconds

    def is_overwritten(self) -> bool:
        """Whether it no longer holds what was read: it was emptied, and perhaps written to since."""
        return not self._is_in(self._file) or self._is_torn_elsewhere()

    def _is_torn_elsewhere(self) -> bool:
        """Whether all that was read is the beginning of a line, which goes on in a copy made since, and not here: lines
        begin alike."""
        if not 0 < self._at == len(self._mark) or b"\n" in self._mark or not (here := self._file.read(MARK)):
            return False
        try:
            for path in self._siblings():
                if path.stat().st_mtime_ns >= self._written and path.name.startswith(self.path.name):
                    with open_file(path) as copy:
                        if self._is_in(copy) and (there := copy.read(MARK)):
                            return not (there.startswith(here) or here.startswith(there))
        except (OSError, EOFError, zlib.error):  # see read_copy
            return False
        return False

    def is_replaced(self) -> bool:
        """Whether its path names another file by now, or none."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return True

    def _is_in(self, file: Any) -> bool:
        file.seek(self._at - len(self._mark))
        return file.read(len(self._mark)) == self._mark


def _checked(path: Path) -> Path:
    """The path, where it can be followed. Raises LogError."""
    if path.is_dir():
        raise LogError(f"{path} is a folder: name the files to follow")
    if path.exists():
        find_files([path], Notes())  # refuses what is binary
        with open(path, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise LogError(f"{path} is packed by gzip, so it does not grow: `kakehashi logs scan` reads it")
    return path
