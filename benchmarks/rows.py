"""A row of a benchmark, and how it is measured: ours and a peer's in turns, so that what slows one slows the other."""

import operator
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One thing measured.

    ours, peer  in `unit`, medians over `repeats` turns, of what is trained with several seeds means over these; ours is
                None where it could not be measured
    ratio       the median over turns of ours / peer
    spread      the least and the most of ours
    goal        "ours < 150" or "ratio >= 0.97", or both with a comma; "" where the figure is for information
    command     what was run, so that a person can run it
    why         why there is no peer, where the ratio comes from, or why nothing was measured
    details     a table of the row's own: a dict a line, with equal keys; values are words, numbers, (least, most), None
    """

    what: str
    unit: str
    ours: float | None
    spread: tuple[float, float] | None
    repeats: int
    command: str
    goal: str = ""
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    why: str = ""
    details: Sequence[dict[str, Any]] = ()

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal, and where nothing was measured."""
        if not self.goal or self.ours is None:
            return None
        goals = [goal.split() for goal in self.goal.split(", ")]
        return all(SIGNS[sign](getattr(self, name), float(limit)) for name, sign, limit in goals)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}


def measure(
    what: str,
    unit: str,
    ours: Callable[[], float],
    peer: Callable[[], float] | None = None,
    *,
    repeats: int,
    **words: Any,
) -> Row:
    """Call `ours` and `peer` in turns, `repeats` times; each returns its figure. words: as `summary` takes them."""
    turns = [(ours(), None if peer is None else peer()) for _ in range(repeats)]
    return summary(what, unit, turns, **words)


def summary(
    what: str,
    unit: str,
    turns: Sequence[tuple[float, float | None]],
    *,
    command: str,
    peer_name: str = "",
    goal: str = "",
    why: str = "",
    details: Sequence[dict[str, Any]] = (),
) -> Row:
    """The row of what was measured in turns: (ours, the peer's) of each."""
    own = [mine for mine, _ in turns]
    pairs = [(mine, other) for mine, other in turns if other is not None]
    return Row(
        what=what,
        unit=unit,
        ours=statistics.median(own),
        spread=(min(own), max(own)),
        repeats=len(turns),
        command=command,
        goal=goal,
        peer=statistics.median(other for _, other in pairs) if pairs else None,
        peer_name=peer_name,
        ratio=statistics.median(mine / other for mine, other in pairs) if pairs else None,
        why=why,
        details=details,
    )


def machine() -> str:
    """The machine in words: processor, cores, system, Python, torch and its threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{_processor()}, {cores} cores, {system}, torch {torch.__version__}, threads: {torch.get_num_threads()}"


def commit() -> str:
    """The checkout's commit, with a + where files differ from it; "unknown" where git cannot say."""
    try:
        said = _git("rev-parse", "--short", "HEAD")
        return said + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
