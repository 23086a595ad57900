"""Grading a learner's file: the side without torch. It refuses what cannot be graded, asks a worker, and sums up.

    with Grader() as grader:                                   # the worker starts at once, and stays warm
        grade = grader.grade(stations.find("gpt2"), "stations/gpt2.py", tell=print)

A symbol that is still blank is never graded: the reference would stand in for it and pass. A station passes when
nothing is blank, every check that it declares was reported ok, and the worker's process came to its own end.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import kakehashi
from kakehashi import Mistake, sandbox, source
from kakehashi.journey.stations import Station

DEBOUNCE = 200  # milliseconds in which the writes of one save are taken as one


class GradingError(Mistake):
    """What was asked for cannot be graded: no such file, no such symbol, no watchfiles."""


@dataclass(frozen=True)
class Result:
    """One verdict. Its words: station.say(result.key, result.values, lang).

    check: the check's id, "" where no check had begun. key: "" if ok. where: {"file", "line", "symbol"} or None.
    """

    check: str
    symbol: str
    ok: bool
    key: str
    values: dict
    where: dict | None
    ms: float


@dataclass(frozen=True)
class Grade:
    """What a grading found.

    results: verdicts in the order they fell. blank: symbols still to build. waiting: what is written but not graded,
    and which blanks of its class it waits for. borrowed: what the reference lends the file, of the station or not.
    whole: the station was asked for and not some of its symbols. right: nothing that was asked for is blank or wrong.
    why: what ended the grading early (a syntax error, a crash, ...), the last of the results, too, if a check was
    running; or that failures may come from what was given and is altered. log: what the learner's code printed.
    n_checks: how many checks were to be run; where it ended early, there are fewer results.
    """

    station: str
    results: list[Result]
    blank: list[str]
    waiting: dict[str, list[str]]
    borrowed: list[str]
    whole: bool
    right: bool
    why: Result | None
    log: str
    n_checks: int

    @property
    def passed(self) -> bool:
        """The station is passed: all of it was asked for, and all of it is right."""
        return self.whole and self.right

    @property
    def failures(self) -> list[Result]:
        """The checks that failed, and why."""
        failed = [result for result in self.results if not result.ok]
        return failed + ([self.why] if self.why and self.why not in failed else [])


class Grader:
    """A context manager that keeps a grading worker; on leaving it, the worker and all it started are killed.

    missing: the protections that this system could not give it.
    """

    def __init__(self) -> None:
        self.worker: subprocess.Popen | None = None
        self.missing: tuple[str, ...] = ()

    def __enter__(self) -> "Grader":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def grade(
        self,
        station: Station,
        path: str | Path,
        symbols: Sequence[str] | None = None,
        tell: Callable[[Result], None] = lambda result: None,
        given: str | None = None,
    ) -> Grade:
        """Grade a file, each result told as it falls. symbols: only these, without the house checks. given: what the
        file began as, where that was not the station's starter.

        Raises GradingError for a file that is not there and UnknownStation for a symbol that the station lacks.
        Whatever is wrong inside the file is in the Grade.
        """
        path = Path(path).resolve()
        wanted = station.symbols if symbols is None else tuple(dict.fromkeys(map(station.owner, symbols)))
        if not path.is_file():
            raise GradingError(f"{path} is {'a folder' if path.is_dir() else 'not there'}: name the file to grade")
        reference = source.read(station.reference)
        refused, text = refusal(path, reference)
        if refused:
            tell(refused)
            return Grade(station.id, [], [], {}, [], symbols is None, False, refused, "", 0)
        blank = source.empty(text, reference, wanted)
        unfinished = {station.owner(each) for each in blank}
        written = [symbol for symbol in wanted if symbol not in unfinished]
        waiting = {
            name: [each for each in blank if station.owner(each) == owner]
            for owner in wanted
            if owner in unfinished
            for name in source.written(text, reference, owner)
        }
        _, borrowed = source.compose(text, path, reference, station.reference, None)
        house = symbols is None and not blank
        expected = {
            check.id
            for check in station.checks
            if (owner := station.owner(check.symbol)) in written or (house and owner == "")
        }
        results, why, log = [], None, ""
        if written:
            request = {"folder": str(station.folder), "reference": str(station.reference), "file": str(path)}
            request |= {"text": text, "given": given, "symbols": written, "house": house}
            request |= {"wall": station.wall, "memory": station.memory}
            results, why, log = self._ask(station, request, tell)
        right = not blank and not why and expected == {result.check for result in results if result.ok}
        return Grade(station.id, results, blank, waiting, borrowed, symbols is None, right, why, log, len(expected))

    def _ask(
        self, station: Station, request: dict, tell: Callable[[Result], None]
    ) -> tuple[list[Result], Result | None, str]:
        """One request to the worker: its results, what ended it early, and what the learner's code printed."""
        results: list[Result] = []
        running: str | None = None
        end: dict = {}
        done = False

        def add(result: Result) -> Result:
            results.append(result)
            tell(result)
            return result

        try:
            for message in self._messages(request):
                if "running" in message:
                    running = message["running"]
                elif "check" in message:
                    add(Result(**message))
                elif "done" in message:
                    done = message["done"] == sum(bool(result.check) for result in results)
                elif "bug" in message or ("end" in message and running is None):
                    raise RuntimeError(f"grading failed by a fault of its own:\n{message}")
                elif "end" in message:
                    end = message["end"]
        except BaseException:
            self._stop()  # what the worker still says belongs to this request
            raise
        why = next((result for result in results if not result.check), None)
        if not (done or why):
            why = add(interruption(station, running or "", end, request))
        return [result for result in results if result.check], why, end["log"]

    def _messages(self, request: dict) -> Iterator[dict]:
        """Send a request and read to its end."""
        if self.worker is None or self.worker.poll() is not None:
            self._start()
        self.worker.stdin.write(json.dumps(request).encode() + b"\n")
        self.worker.stdin.flush()
        message: dict = {}
        while "end" not in message:
            line = self.worker.stdout.readline()
            if line:
                message = json.loads(line)
            elif 0 <= (code := self.worker.wait()) <= 128:
                raise RuntimeError(f"the grading worker ended:\n{self.errors.read_text(encoding='utf-8')}")
            else:  # a signal, 128 + its number under `sandbox.isolate`: the learner's code killed its parent
                message = {"end": {"late": False, "code": min(code, 128 - code), "log": "", "trace": ""}}
            yield message

    def _start(self) -> None:
        self._stop()
        self.home = tempfile.TemporaryDirectory(prefix="kakehashi-", ignore_cleanup_errors=True)
        self.errors = Path(self.home.name, "errors")
        # -P: a learner's random.py or torch.py in the current folder must not become the library's
        command, self.missing = sandbox.isolate([sys.executable, "-P", "-m", "kakehashi.journey.worker"])
        environment = sandbox.environment(self.home.name) | {
            "PYTHONPATH": str(Path(kakehashi.__file__).parent.parent),
            "PYTHONUNBUFFERED": "1",  # a crash must not take the learner's last words with it
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",  # checks are mathematics, not speed; and a process that saw CUDA cannot fork
            "KAKEHASHI_SPAWN": os.environ.get("KAKEHASHI_SPAWN", ""),
        }
        with open(self.errors, "wb") as errors:
            self.worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self.home.name,
                env=environment,
                start_new_session=True,
            )

    def _stop(self) -> None:
        if self.worker is None:
            return
        sandbox.kill_group(self.worker.pid)
        self.worker.communicate()
        self.worker = None
        self.home.cleanup()


def refusal(path: Path, reference: str) -> tuple[Result | None, str]:
    """Why a file is not worth starting a worker for, if so, and its text."""

    def refuse(key: str, line: int | None = None, **values: object) -> Result:
        where = {"file": str(path), "line": line, "symbol": ""} if line else None
        return Result("", "", False, key, ({"line": line} if line else {}) | values, where, 0.0)

    try:
        text = source.read(path)
    except source.SourceError as error:
        return refuse("unreadable", error=str(error)), ""
    try:
        compile(text.removeprefix("\ufeff"), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # some versions of Python raise the latter for a null byte
        before_null = text.partition("\0")[0]
        line = getattr(error, "lineno", None) or len(re.split(r"\r\n|\r|\n", before_null))  # nor do they say where
        return refuse("syntax", line, error=getattr(error, "msg", str(error))), text
    for found in source.lint_imports(text, reference):
        return refuse("imports_answer", found.line, module=found.module), text
    return None, text


def interruption(station: Station, running: str, end: dict, request: dict) -> Result:
    """What ended a process that did not come to its end, with the learner's line where Python last was."""
    if end["late"]:
        key, values = "timeout", {"seconds": request["wall"]}
    elif end["code"] < 0:
        key, values = "crashed", {"signal": signal.Signals(-end["code"]).name}
    elif end["code"] > 255:  # Windows' word for a crash
        key, values = "crashed", {"signal": hex(end["code"])}
    else:
        key, values = "exited", {"code": end["code"]}
    # faulthandler writes the innermost frame first, and other than ASCII as \x.. and \u....
    name = re.escape(request["file"].encode("ascii", "backslashreplace").decode())
    found = re.search(rf'File "{name}", line (\d+) in (\S+)', end["trace"])
    where = {"file": request["file"], "line": int(found[1]), "symbol": found[2]} if found else None
    if not running:
        return Result("", "", False, f"{key}_loading", values, where, 0.0)
    symbol = next(check.symbol for check in station.checks if check.id == running)
    return Result(running, symbol, False, key, values | {"check": running.replace("_", " ")}, where, 0.0)


def watch(
    station: Station,
    path: str | Path,
    symbols: Sequence[str] | None = None,
    tell: Callable[[Result], None] = lambda result: None,
) -> Iterator[Grade]:
    """Grade a file now and after every change of it, through one warm worker, until the caller stops.

    Raises GradingError as `grade` does, and where watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise GradingError("to watch a file, watchfiles is needed: pip install watchfiles") from None
    path = Path(path).resolve()

    def stamp() -> tuple[int, int] | None:
        with suppress(FileNotFoundError):  # many editors save by renaming: for a moment there is no file
            return path.stat().st_mtime_ns, path.stat().st_size

    with Grader() as grader:
        seen = stamp()
        yield grader.grade(station, path, symbols, tell)
        # the timeout also finds a change that fell between the grading and the watching
        for _ in watchfiles.watch(
            path.parent, recursive=False, debounce=DEBOUNCE, rust_timeout=1000, yield_on_timeout=True
        ):
            now = stamp()
            if now and now != seen:
                seen = now
                yield grader.grade(station, path, symbols, tell)
