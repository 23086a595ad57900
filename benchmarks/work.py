"""bench work: alarms on logs beside methods without a network, Drain beside drain3, classifiers of texts beside TF-IDF.

Logs (log_sets.py): no threshold sees a test label, and no setting was chosen on a test set. Drain: both sort the same
lines with the same masks, and must make the same groups. Texts: trained from nothing, on the set's whole training part.
"""

import csv
import importlib.util
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from drain3.drain import Drain as Drain3
from drain3.masking import LogMasker, MaskingInstruction

from benchmarks import log_sets
from benchmarks.memory import counted, fresh, rise
from benchmarks.rows import Row, measure, summary
from kakehashi import training
from kakehashi.data import DataError, tables
from kakehashi.runs import Run
from kakehashi.work import predictor
from kakehashi.work.logs import Config, Drain, masks

# --- Drain ---

LOGHUB = ("HDFS", "BGL", "OpenStack")  # 2,000 lines each, with the event of each as people labelled it
TIMES, TURNS = 10, 5  # how often the lines of a set stand in a race, with fresh numbers; turns
ENDLESS = 2_000_000  # lines of the stream that memory is measured on
ODD = 500  # of which every so many is of a template never seen, that is forgotten again
KEPT = 1000  # templates kept at a time


def drain(command: str) -> Iterator[Row]:
    for name in LOGHUB:
        yield from drain_on(name, command)


def drain_on(name: str, command: str) -> Iterator[Row]:
    rows = list(csv.DictReader(io.StringIO(log_sets.text(f"loghub-2k/{name}_2k.log_structured.csv.gz"))))
    lines, truth = [row["Content"] for row in rows], [row["EventId"] for row in rows]
    yield measure(
        f"Drain on {name}, {len(lines):,} lines: grouping accuracy",
        "",
        lambda: accuracy(ours(lines), truth),
        lambda: accuracy(theirs(lines), truth),
        repeats=1,
        command=command,
        peer_name="drain3, the same masks",
        goal="ratio >= 1",
    )
    many = renumbered(TIMES * lines)
    if ours(many) != theirs(many):
        raise AssertionError(f"the groups of {name} differ from drain3's")
    yield measure(
        f"Drain on {name}, {len(many):,} lines with fresh numbers",
        "lines/s",
        lambda: len(many) / seconds(lambda: ours(many)),
        lambda: len(many) / seconds(lambda: theirs(many)),
        repeats=TURNS,
        command=command,
        peer_name="drain3, the same masks",
        goal="ratio >= 2",
    )


def ours(lines: Sequence[str]) -> list[int]:
    """The group of each line."""
    learn = Drain().learn
    return [learn(line).id for line in lines]


def theirs(lines: Sequence[str]) -> list[int]:
    config = Config()
    peer = Drain3(config.depth, config.similarity, config.max_children, config.max_groups)
    mask = LogMasker([MaskingInstruction(each.regex, "*") for each in masks.shipped()], "<", ">").mask
    return [peer.add_log_message(mask(line))[0].cluster_id for line in lines]


def accuracy(found: Sequence[int], truth: Sequence[str]) -> float:
    """The share of lines whose group holds exactly the lines of their event (Zhu et al. 2019)."""
    groups, events, both = Counter(found), Counter(truth), Counter(zip(found, truth, strict=True))
    whole = [n for (group, event), n in both.items() if n == groups[group] == events[event]]
    return sum(whole) / len(truth)


def renumbered(lines: Sequence[str]) -> list[str]:
    """Each digit drawn anew, so that no line has been seen before."""
    rng = random.Random(0)
    return [re.sub(r"\d", lambda _: rng.choice("0123456789"), line) for line in lines]


def drain_memory(command: str) -> Iterator[Row]:
    """No row where the system does not count."""
    if counted():
        yield measure(
            f"Drain: memory that {ENDLESS:,} fresh lines add after {ENDLESS // 10:,}, {KEPT:,} templates kept",
            "MiB",
            partial(fresh, endless),
            repeats=1,
            command=command,
            goal="ours <= 10",
            why=f"no peer: it must be bounded; every {ODD}th line is of a template never seen",
        )


def endless() -> float:
    """MiB by which the peak over the stream is above what is held after its first tenth."""
    drain, rng = Drain(Config(max_groups=KEPT)), random.Random(0)

    def learn(lines: range) -> None:
        for i in lines:
            if i % ODD:
                drain.learn(f"Received block blk_{rng.getrandbits(60)} of size {i} from /10.251.{i % 256}.{i % 199}")
            else:
                drain.learn(" ".join("".join(rng.choices("abcdefghij", k=9)) for _ in range(6)))

    learn(range(ENDLESS // 10))
    return rise(lambda: learn(range(ENDLESS // 10, ENDLESS + ENDLESS // 10)))


# --- Classifiers of texts ---

ASKED = 500  # texts that a tool is asked
RECIPE: dict[str, Any] = {"model": "encoder", "steps": 1500, "batch_size": 64, "lr": 0.003, "min_lr": 0.0}
SEED = 1
# In-scope accuracy and out-of-scope recall, a threshold on the largest probability: Larson et al. 2019, table 2
PUBLISHED = {"BERT, published": (0.962, 0.523), "MLP on sentence vectors, published": (0.934, 0.491)}


def planned(data: str, **changed: Any) -> training.Plan:
    settings = RECIPE | changed
    return training.plan(data=data, seed=SEED, **settings)


def said(data: str) -> str:
    """The command that makes the same run."""
    settings = {"data": data, **RECIPE, "seed": SEED}
    return "kakehashi train " + " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())


def trained(root: str, data: str, **changed: Any) -> Run:
    plan = planned(data, **changed)
    return training.train(plan.config, plan.create(root), sources=plan.sources)


def banking77(_: str) -> Iterator[Row]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        run = trained(root, "banking77")
        minutes = (time.perf_counter() - began) / 60
        made = predictor.report(run, part="test")
    assert made.baseline is not None and made.difference is not None
    low, high = made.difference
    yield summary(
        f"Banking77: share of {made.n:,} test texts right",
        "",
        [(made.model.accuracy, made.baseline.accuracy)],
        command=said("banking77"),
        peer_name=made.baseline.name,
        goal="ours >= 0.93",
        why=f"The difference is {low:+.4f} to {high:+.4f} (95%, paired bootstrap over texts)",
    )
    yield summary(
        "Banking77: training, tokenizer and evaluations included",
        "minutes",
        [(minutes, None)],
        command=said("banking77"),
        goal="ours <= 10",
        why="no peer",
    )


def clinc150(_: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as root:
        made = predictor.report(trained(root, "clinc150"), part="test")
    ours, other = made.outside
    found = {f"ours, {ours.name}": (ours.accuracy, ours.recall), other.name: (other.accuracy, other.recall)}
    details = [
        {"classifier": name, "in scope, answered rightly": accuracy, "out of scope, not answered": recall}
        for name, (accuracy, recall) in (found | PUBLISHED).items()
    ]
    yield summary(
        f"CLINC150, threshold from validation: share of {made.n:,} test texts in scope answered rightly",
        "",
        [(ours.accuracy, other.accuracy)],
        command=said("clinc150"),
        peer_name=other.name,
        details=details,
    )
    yield summary(
        f"CLINC150, the same threshold: share of {ours.n:,} test texts out of scope not answered",
        "",
        [(ours.recall, other.recall)],
        command=said("clinc150"),
        peer_name=other.name,
    )


def export(command: str) -> Iterator[Row]:
    """How long the tool of a run takes for a text: weights of a few steps take as long as good ones."""
    texts = tables.read("banking77", part="test").texts[:ASKED]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "tool")
        predictor.export(trained(root, "banking77", steps=10, warmup=1), folder)
        for how, asking in {"in its process": inside, "through a pipe": piped}.items():
            with asking(folder) as ask:
                ask(texts[0])  # the first one loads the weights
                turns = [(1000 * seconds(partial(ask, text)), None) for text in texts]
            yield summary(
                f"exported tool, a text of Banking77, {how}",
                "ms",
                turns,
                command=command,
                goal="ours < 5",
                why="no peer: it must be at once",
            )


@contextmanager
def inside(folder: Path) -> Iterator[Callable[[str], Any]]:
    spec = importlib.util.spec_from_file_location("exported_tool", folder / "tool.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.predict


@contextmanager
def piped(folder: Path) -> Iterator[Callable[[str], Any]]:
    command = [sys.executable, "-I", "tool.py"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(text: str) -> Any:
            stdin.write(json.dumps({"text": text}).encode() + b"\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield ask


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def if_there(name: str, rows: Callable[[str], Iterator[Row]]) -> Callable[[], Iterator[Row]]:
    """A piece, whose rows are told its command; where its data are missing, it is a row that says so."""
    command = f"kakehashi bench work --only {name}"

    def piece() -> Iterator[Row]:
        try:
            yield from rows(command)
        except (log_sets.Missing, DataError) as mistake:
            yield Row(name, "", None, None, 0, command, why=str(mistake))

    return piece


LOGS = {
    "hdfs": partial(log_sets.compared, log_sets.hdfs),
    "hdfs-100k": partial(log_sets.compared, log_sets.hdfs_100k),
    "openstack": partial(log_sets.compared, partial(log_sets.ait, "OpenStack (Loghub)", "openstack_loghub")),
    "openstack-2": partial(log_sets.compared, partial(log_sets.ait, "OpenStack (Kalaki)", "openstack_parisakalaki")),
    "hadoop": partial(log_sets.compared, partial(log_sets.ait, "Hadoop", "hadoop_loghub")),
}
DRAIN = {"drain": drain, "drain-memory": drain_memory, "export": export}
PLAIN = {name: if_there(name, rows) for name, rows in (LOGS | DRAIN).items()}
FULL = {name: if_there(name, rows) for name, rows in {"banking77": banking77, "clinc150": clinc150}.items()}
