"""The learner's workspace: a folder, and a git repository of their own, where everything they make lies.

    stations/gpt2.py     the starters, to be filled in
    journal/  runs/      what they note and train
    progress.jsonl       every event, one JSON object a line, only ever appended to; all views are computed from it
    kakehashi.toml       lang = "en" | "ja"; the folder that holds it is the workspace

`start` makes it, and goes on where an interrupted `start` stopped. Nothing a learner wrote is ever lost.
"""

import ast
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from kakehashi import Mistake, paths, source, texts
from kakehashi.journey import stations
from kakehashi.journey.grading import Grade, Grader, Result
from kakehashi.journey.hints import levels
from kakehashi.journey.stations import Station

EVENTS = ("grade", "hint", "predict", "drill", "sprint", "note", "exam", "run")
STARTING = ".kakehashi-starting"  # stands in a workspace until it is complete
FOLDERS = ("stations", "journal", "runs")
IGNORED = "/runs/\n__pycache__/\n*.lock\n.kakehashi-*\n"
IMPORTS = ast.Import | ast.ImportFrom
GIT = ("git", "-c", "user.name=kakehashi", "-c", "user.email=kakehashi@localhost", "-c", "commit.gpgsign=false")


class WorkspaceError(Mistake):
    """There is no workspace, or none can be made here."""


@dataclass(frozen=True)
class Workspace:
    """A workspace by its folder."""

    root: Path

    @classmethod
    def find(cls, cwd: str | Path | None = None) -> "Workspace":
        """The workspace that a folder (the current one) lies in. Raises WorkspaceError where there is none."""
        root = paths.workspace(cwd)
        if root is None:
            raise WorkspaceError(
                f"{Path(cwd or '.').resolve()} is in no workspace: make one with `kakehashi start DIR`"
            )
        return cls(root)

    @property
    def has_git(self) -> bool:
        """Whether the workspace is a git repository; without git, `start` makes it without."""
        return (self.root / ".git").exists()

    def file(self, station: Station) -> Path:
        """The learner's file of a station; stations of one module share it."""
        return self.root / "stations" / station.file

    def begun(self) -> list[Station]:
        """The stations that are not in the state of their starter; where there is none, the first."""
        begun = [station for station in stations.all() if self.unwritten(station) != list(station.symbols)]
        return begun or list(stations.all()[:1])

    def unwritten(self, station: Station) -> list[str]:
        """The symbols of a station that the learner's file has not, or not all of. Raises SourceError if unreadable."""
        text, reference = source.read(self.file(station)), source.read(station.reference)
        blank = {station.owner(name) for name in source.empty(text, reference, station.symbols)}
        return [symbol for symbol in station.symbols if symbol in blank]

    def next_blank(self, station: Station) -> str:
        """What to work at: the first symbol that is still blank, or whose check failed when last graded."""
        open_ = set(self.unwritten(station))
        graded = [event for event in self.events() if event["type"] == "grade" and event["item"] == station.id]
        failed = graded[-1]["data"]["failed"] if graded else []
        open_ |= {station.owner(check.symbol) for check in station.checks if check.id in failed}
        return next((symbol for symbol in station.symbols if symbol in open_), station.symbols[0])

    def next_hint(self, station: Station, symbol: str) -> int:
        """The step after those that were shown of a symbol, at most the last that says something."""
        shown = [
            event["data"]["level"]
            for event in self.events()
            if event["type"] == "hint" and event["item"] == station.id and event["data"].get("symbol") == symbol
        ]
        known = levels(station, symbol)
        last = max([0, *(level for level in shown if level in known)])
        return next((level for level in known if level > last), known[-1])

    def reset(self, station: Station) -> Path | None:
        """Put the starter back. What stood there is committed where there is git, and kept beside it: its path."""
        path, starter = self.file(station), starters(texts.language())[station.file]
        old = path.read_bytes() if path.exists() else starter.encode()
        kept = None
        if old != starter.encode():
            self.commit(f"Before the reset of {path.name}", path)
            number = 1
            while (kept := path.with_name(f"{path.stem}.{number}.py")).exists():
                number += 1
            paths.atomic_write(kept, old)
        paths.atomic_write(path, starter)
        return kept

    def commit(self, message: str, *files: Path) -> bool:
        """Commit files (none: all), if there is git and something to commit; True if so."""
        return (
            self.has_git
            and shutil.which("git") is not None
            and self.git("add", "--all", "--", *map(str, files or [self.root]))
            and self.git("commit", "--quiet", "-m", message, "--", *map(str, files or [self.root]))
        )

    def git(self, *words: str) -> bool:
        """Run git in the workspace's own repository; True if it did what it should."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = [*GIT, "-C", str(self.root), *words]
        return subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0

    def event(self, type: str, item: str, *, passed=None, score=None, seconds=None, **data: Any) -> dict:
        """Append one event to progress.jsonl, on the disk when this returns, and return it."""
        if type not in EVENTS:
            raise ValueError(f"an event's type is one of {', '.join(EVENTS)}, not {type!r}")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = {"v": 1, "id": secrets.token_hex(8), "t": now, "type": type, "item": item}
        given = {"passed": passed, "score": score, "seconds": seconds}
        event |= {name: value for name, value in given.items() if value is not None} | {"data": data}
        path = self.root / "progress.jsonl"
        with FileLock(f"{path}.lock"), open(path, "a+b") as file:
            file.seek(0)
            content = file.read()
            tail = content[content.rfind(b"\n") + 1 :]
            if tail and parsed(tail) is None:
                file.truncate(len(content) - len(tail))
            elif tail:
                file.write(b"\n")
            file.write(json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return event

    def events(self) -> list[dict]:
        """All events in order. A torn last line is left out; any other that cannot be read raises WorkspaceError."""
        path = self.root / "progress.jsonl"
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        found = []
        for number, line in enumerate(lines, 1):
            event = parsed(line)
            if event is not None:
                found.append(event)
            elif line and number < len(lines):
                raise WorkspaceError(f"{path}, line {number} is no event: {line[:60].decode(errors='replace')!r}")
        return found

    def grade(
        self,
        grader: Grader,
        station: Station,
        symbols: Sequence[str] | None = None,
        tell: Callable[[Result], None] = lambda result: None,
    ) -> Grade:
        """Grade the learner's file of a station, and keep the outcome as an event."""
        path = self.file(station)
        started = time.monotonic()
        text = path.read_bytes() if path.is_file() else b""
        grade = grader.grade(station, path, symbols, tell)
        data = {"failed": sorted({each.check or each.key for each in grade.failures}), "blank": grade.blank}
        data |= {"symbols": list(symbols)} if symbols is not None else {"sha256": sha256(text).hexdigest()}
        ok = sum(result.ok for result in grade.results)
        self.event(
            "grade",
            station.id,
            passed=grade.passed,
            score=round(ok / len(station.checks), 3),
            seconds=round(time.monotonic() - started, 3),
            **data,
        )
        return grade

    def stand_in(self, station: Station) -> Path | None:
        """The learner's file, if it may stand in the reference's place: it passed the station as it is now."""
        path = self.file(station)
        digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        passed = any(
            event["type"] == "grade"
            and event["item"] == station.id
            and event.get("passed")
            and event["data"].get("sha256") == digest
            for event in self.events()
        )
        return path if passed else None


def start(folder: str | Path, lang: str = "en") -> Workspace:
    """Make a workspace in a new or empty folder, or complete one whose making was interrupted.

    Raises WorkspaceError, without touching anything, where something else lies there; and where the disk refuses: what
    was made by then does not hinder another try.
    """
    root = Path(folder).resolve()
    if root.exists() and not root.is_dir():
        raise WorkspaceError(f"{root} is a file: name a new or an empty folder")
    marker = root / STARTING
    if (
        root.exists()
        and not marker.exists()
        and any(each.name not in FOLDERS or holds(each) for each in root.iterdir())
    ):
        what = "already a workspace" if (root / paths.WORKSPACE_FILE).exists() else "not empty"
        raise WorkspaceError(f"{root} is {what}: name a new or an empty folder")
    files = {f"stations/{name}": text for name, text in starters(lang).items()}
    files |= {".gitignore": IGNORED, "progress.jsonl": "", paths.WORKSPACE_FILE: f'lang = "{lang}"\n'}
    workspace = Workspace(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        marker.touch()
        for name in FOLDERS:
            (root / name).mkdir(exist_ok=True)
        for name, text in files.items():
            if not (root / name).exists():
                paths.atomic_write(root / name, text)
        for left in (*root.rglob(paths.TEMPORARY), *root.glob(".git/**/*.lock")):  # by whom was interrupted
            left.unlink()
        if shutil.which("git"):
            workspace.git("init", "--quiet")
            workspace.commit("Start")
        marker.unlink()
    except OSError as error:
        raise WorkspaceError(f"cannot make a workspace in {root}: {error.strerror or error}") from error
    return workspace


def holds(path: Path) -> bool:
    """Whether there is anything at a path besides an empty folder."""
    return not path.is_dir() or any(path.iterdir())


def starters(lang: str) -> dict[str, str]:
    """File name -> starter of every module that has stations: its reference without the bodies of their symbols."""
    found: dict[str, list[Station]] = {}
    for station in stations.all():
        found.setdefault(station.file, []).append(station)
    return {name: starter(group, lang) for name, group in found.items()}


def starter(group: Sequence[Station], lang: str) -> str:
    """The starter of stations that share a module."""
    reference = source.read(group[0].reference)
    blank = source.blank(reference, [symbol for station in group for symbol in station.symbols])
    lines = blank.splitlines(keepends=True)
    if group[0].is_model:  # by its REFERENCE such a file can be trained
        name = group[0].module.rpartition(".")[2]
        last = max((node.end_lineno or 0 for node in ast.parse(blank).body if isinstance(node, IMPORTS)), default=0)
        lines.insert(last, f'\nREFERENCE = "{name}"\n')
    words = [station.head(lang) for station in group]
    head = [f"# {line}\n" for text in words for line in text.splitlines()]
    return "".join(head + lines)


def parsed(line: bytes) -> dict | None:
    """A line of progress.jsonl, None where it is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
