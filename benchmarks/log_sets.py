"""Sessions of which it is known whether they were abnormal, and how well each method of work/logs finds those.

A session is a text, a word an event: "E5 E22 E5 E11". Labels come last: methods learn from normal sessions, and judge
sessions that they are given without a label.
"""

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.rows import Row
from kakehashi import Mistake
from kakehashi.work.logs import baselines
from kakehashi.work.logs.measures import distinct, figures, interval
from kakehashi.work.logs.verdict import Verdicts

SEEDS = (1, 2, 3)
HDFS_SHARE = 0.0293  # 16,838 of 575,061 sessions of the whole log are abnormal
BASELINES = tuple(make().name for make in baselines.ALL)
OURS = "both"  # the verdict that is shipped
METHODS = {**{name: name for name in BASELINES}, "model": "model alone", OURS: "ours: model and counts"}
SHOWN = {
    "precision": "precision",
    "recall": "recall",
    "mcc": "MCC",
    "per_1000": "false alarms in 1,000 lines",
}

Alarms = dict[str, np.ndarray]  # method -> (N,) bool


class Missing(Mistake):
    """A data set is not there."""


@dataclass(frozen=True)
class Test:
    """Sessions to judge. labels: (N,) bool, True for abnormal. share: what figures are re-weighted to; None: not."""

    name: str
    sessions: list[str]
    labels: np.ndarray
    share: float | None = None
    goal: str = ""
    note: str = ""


@dataclass(frozen=True)
class LogSet:
    """normal: what all methods learn from, in its order."""

    normal: list[str]
    tests: list[Test]


# --- Reading ---


def hdfs() -> LogSet:
    """The first half of DeepLog's normal sessions to learn from; the second half, and others, as normal ones to test.

    No full set of held-out normal sessions could be had, and 2,428 are few.
    """
    normal = events("hdfs-deeplog/hdfs_train.gz")
    abnormal = events("hdfs-deeplog/hdfs_test_abnormal.gz")
    half = len(normal) // 2
    others = events("log-sequences-ait/hdfs_loghub/hdfs_train.gz", keys=True)
    note = (
        f"The normal ones are {len(others):,} of AIT's hdfs_loghub/hdfs_train, in what looks like the same numbering; "
        f"about 1% of them may stand in what was learnt from, which has no block ids to tell"
    )
    return LogSet(
        normal[:half],
        [
            test("HDFS", normal[half:], abnormal, share=HDFS_SHARE, goal="ours >= 0.95, ratio > 1"),
            test("HDFS, other normal sessions", others, abnormal, share=HDFS_SHARE, note=note),
        ],
    )


def hdfs_100k() -> LogSet:
    """The first 100,000 lines of HDFS, which cut sessions off."""
    folder = "hdfs-100k-sessions/"
    learnt, tested = (rows(folder + name) for name in ("sessions_train.jsonl.gz", "sessions_test.jsonl.gz"))
    normal = [session for session, label in learnt if not label]
    sides = [[session for session, label in tested if label == wanted] for wanted in (False, True)]
    return LogSet(normal, [test("HDFS, 100,000 lines", *sides)])


def ait(name: str, folder: str) -> LogSet:
    """A set of log-sequences-ait that has held-out normal sessions. Its training part is 1% of the normal ones."""
    path = f"log-sequences-ait/{folder}/{folder.split('_')[0]}_"
    normal, silent, abnormal = (
        events(f"{path}{part}.gz", keys=True) for part in ("train", "test_normal", "test_abnormal")
    )
    return LogSet(normal, [test(name, silent, abnormal, note="To learn from, the set has 1% of the normal sessions")])


def test(name: str, normal: list[str], abnormal: list[str], **words: Any) -> Test:
    """words: further fields of a Test."""
    labels = np.repeat([False, True], [len(normal), len(abnormal)])
    return Test(name, normal + abnormal, labels, **words)


def events(path: str, keys: bool = False) -> list[str]:
    """Sessions of a file with a line each: events between blanks; keys: after what names the session, and a comma."""
    lines = filter(None, map(str.strip, text(path).splitlines()))
    return [written(line.partition(",")[2].split() if keys else line.split()) for line in lines]


def rows(path: str) -> list[tuple[str, bool]]:
    """(session, whether it is abnormal) of a file of JSON lines."""
    lines = map(json.loads, text(path).splitlines())
    return [(written(line["events"]), bool(line["label"])) for line in lines]


def written(session: Iterable[str | int]) -> str:
    return " ".join(f"E{event}" for event in session)


def text(path: str) -> str:
    file = Path(os.environ.get("KAKEHASHI_DATA", "data"), path)
    if not file.exists():
        raise Missing(f"there is no {file}: name the folder of data sets in KAKEHASHI_DATA")
    return gzip.decompress(file.read_bytes()).decode("utf-8")


# --- Judging: no label is in sight ---


def alarms(normal: Sequence[str], sessions: Sequence[str], seed: int, steps: int | None = None) -> Alarms:
    """What each method says of the sessions, after learning the normal ones."""
    with tempfile.TemporaryDirectory() as root:
        verdicts = Verdicts.fit(normal, root=root, seed=seed, steps=steps).of(sessions)
    return {method: np.array([method in verdict.odd for verdict in verdicts]) for method in METHODS}


# --- Measuring ---


def table(test: Test, of_seeds: Sequence[Alarms]) -> list[dict[str, Any]]:
    """A line a method, in the order of METHODS. Each seed makes a model of its own: figures are means over the seeds,
    "seeds" is the least and the most F1 of them, the interval over sessions runs from the least end to the most."""
    lines = np.array([len(session.split()) for session in test.sessions])
    once = distinct(test.sessions, test.labels)
    found = []
    for method, title in METHODS.items():
        raised = [alarms[method] for alarms in of_seeds]
        each = [figures(alarm, test.labels, lines=lines, share=test.share) for alarm in raised]
        kinds = [figures(alarm[once], test.labels[once], share=test.share).f1 for alarm in raised]
        low, high = zip(*(interval(alarm, test.labels, share=test.share) for alarm in raised), strict=True)
        f1 = [figure.f1 for figure in each]
        found.append(
            {
                "method": title,
                "F1": mean(f1),
                "95% interval": (min(low), max(high)),
                "seeds": (min(f1), max(f1)) if len(set(f1)) > 1 else None,
                **{title: mean(getattr(figure, name) for figure in each) for name, title in SHOWN.items()},
                "F1, each sequence once": mean(kinds),
            }
        )
    return found


def compared(read: Callable[[], LogSet], command: str) -> Iterator[Row]:
    """A row a test: our F1 beside that of the baseline which does best on it; all methods in the row's own table."""
    log_set = read()
    sessions = [session for test in log_set.tests for session in test.sessions]
    of_seeds = [alarms(log_set.normal, sessions, seed) for seed in SEEDS]
    begin = 0
    for test in log_set.tests:
        part = slice(begin, begin := begin + len(test.sessions))
        found = table(test, [{method: each[part] for method, each in alarms.items()} for alarms in of_seeds])
        ours, best = found[-1], max(found[: len(BASELINES)], key=lambda line: line["F1"])
        why = []
        if best["F1"] >= ours["F1"]:
            why.append(f"Baseline {'wins' if best['F1'] > ours['F1'] else 'does as well'} here: {best['method']}")
        yield Row(
            what=said(log_set, test),
            unit="F1",
            ours=ours["F1"],
            spread=ours["seeds"] or (ours["F1"], ours["F1"]),
            repeats=len(SEEDS),
            command=command,
            goal=test.goal,
            peer=best["F1"],
            peer_name=f"{best['method']}, the best baseline",
            ratio=ours["F1"] / best["F1"],
            why=". ".join(why + [test.note] * bool(test.note)),
            details=found,
        )


def said(log_set: LogSet, test: Test) -> str:
    n = int(test.labels.sum())
    share = "" if test.share is None else f", weighted to {test.share:.2%} abnormal"
    judged = f"{len(test.labels) - n:,} normal and {n:,} abnormal ones judged"
    return f"{test.name}: {len(log_set.normal):,} normal sessions learnt, {judged}{share}"
