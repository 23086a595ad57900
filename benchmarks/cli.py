"""bench cli: how long a person waits. Every figure is the wall time of a fresh process, unless it says warm."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.rows import Row, measure
from kakehashi.journey import stations
from kakehashi.journey.grading import Grader

PYTHON = sys.executable
KAKEHASHI = [PYTHON, "-m", "kakehashi"]


def starting() -> Iterator[Row]:
    yield measure(
        "import kakehashi",
        "ms",
        lambda: 1000 * wall(PYTHON, "-c", "import kakehashi"),
        lambda: 1000 * wall(PYTHON, "-c", "pass"),
        repeats=9,
        command='python -c "import kakehashi"',
        peer_name='python -c "pass"',
        goal="ours < 150",
    )
    yield measure(
        "kakehashi --help",
        "s",
        lambda: wall(*KAKEHASHI, "--help"),
        lambda: wall(PYTHON, "-m", "pip", "--help"),
        repeats=7,
        command="kakehashi --help",
        peer_name="pip --help",
        goal="ours < 0.5",
    )


def grading() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        station = stations.find("gpt2")
        done = Path(shutil.copy(station.reference, folder))  # the reference itself: a file that passes
        grade = [*KAKEHASHI, "grade", station.id, "--file", str(done)]
        yield measure(
            "first words of grade",
            "s",
            lambda: first_words(*grade),
            lambda: wall(PYTHON, "-c", "import torch"),
            repeats=7,
            command="kakehashi grade gpt2 --file gpt2.py",
            peer_name='python -c "import torch"',
            goal="ours < 0.5",
        )
        yield measure(
            "verdict of grade, cold",
            "s",
            lambda: wall(*grade),
            lambda: wall(PYTHON, "-c", "import torch"),
            repeats=5,
            command="kakehashi grade gpt2 --file gpt2.py",
            peer_name='python -c "import torch"',
            goal="ours < 4",
        )
        with Grader() as grader:

            def warm(symbols: list[str] | None = None) -> float:
                began = time.perf_counter()
                verdict = grader.grade(station, done, symbols)
                seconds = time.perf_counter() - began
                assert verdict.right, verdict
                return seconds

            warm()  # the worker starts, and imports torch
            for what, symbols in [("a whole station", None), ("one symbol", ["LayerNorm"])]:
                yield measure(
                    f"verdict of grade, warm, {what}",
                    "s",
                    partial(warm, symbols),
                    repeats=9,
                    command=f"kakehashi grade gpt2 {'LayerNorm ' if symbols else ''}--watch",
                    goal="ours < 0.3",
                    why="no peer: the second grading through one Grader",
                )


def wall(*command: str) -> float:
    """Seconds until a process has ended, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout.decode()}{done.stderr.decode()}")
    return seconds


def first_words(*command: str) -> float:
    """Seconds until a process has written a line that is not blank; it is then left to end."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).strip():
            assert line, f"{command} wrote nothing"
        seconds = time.perf_counter() - began
        process.stdout.read()
    return seconds


PLAIN = {"start": starting, "grade": grading}
FULL = {}
