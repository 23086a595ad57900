"""bench work's own machinery: sets read, methods judged without labels, tables, Drain beside its peer's definition."""

import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import log_sets, memory, work
from benchmarks.log_sets import BASELINES, METHODS, LogSet

NORMAL = ["E1 E2 E3", "E1 E2 E2 E3", "E1 E3"] * 5


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KAKEHASHI_DATA", str(tmp_path))
    return tmp_path


def put(folder: Path, path: str, lines: list[str]) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(gzip.compress("\n".join([*lines, ""]).encode("utf-8")))


def test_half_of_the_normal_hdfs_sessions_is_learnt_and_the_rest_judged(folder):
    put(folder, "hdfs-deeplog/hdfs_train.gz", ["5 22 ", "5 5", "22", "9 9"])
    put(folder, "hdfs-deeplog/hdfs_test_abnormal.gz", ["5 7"])
    put(folder, "log-sequences-ait/hdfs_loghub/hdfs_train.gz", ["blk_1,5 22", "", "blk_2,11"])
    found = log_sets.hdfs()
    assert found.normal == ["E5 E22", "E5 E5"]
    first, second = found.tests
    assert (first.sessions, first.labels.tolist()) == (["E22", "E9 E9", "E5 E7"], [False, False, True])
    assert (second.sessions, second.labels.tolist()) == (["E5 E22", "E11", "E5 E7"], [False, False, True])
    assert first.share == second.share == 0.0293 and first.goal and not second.goal


def test_only_normal_sessions_of_a_labelled_set_are_learnt(folder):
    rows = [{"block": "b", "label": label, "events": [label, 3]} for label in (0, 1, 0)]
    for part in ("train", "test"):
        put(folder, f"hdfs-100k-sessions/sessions_{part}.jsonl.gz", list(map(json.dumps, rows)))
    found = log_sets.hdfs_100k()
    assert found.normal == ["E0 E3", "E0 E3"]
    (test,) = found.tests
    assert (test.sessions, test.labels.tolist()) == (["E0 E3", "E0 E3", "E1 E3"], [False, False, True])


def test_a_set_of_ait_has_its_three_files(folder):
    for part, lines in {"train": ["a/b,1 2"], "test_normal": ["c,3"], "test_abnormal": ["d,4 4"]}.items():
        put(folder, f"log-sequences-ait/hadoop_loghub/hadoop_{part}.gz", lines)
    found = log_sets.ait("Hadoop", "hadoop_loghub")
    assert found.normal == ["E1 E2"] and found.tests[0].sessions == ["E3", "E4 E4"]


@pytest.mark.parametrize("piece", ["hdfs", "drain", "clinc150"])
def test_a_piece_without_its_data_is_a_row_that_says_so(folder, monkeypatch, piece):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    (row,) = (work.PLAIN | work.FULL)[piece]()
    assert (row.what, row.ours, row.met) == (piece, None, None) and row.command.endswith(f"--only {piece}")
    assert str(folder) in row.why or "kakehashi data get" in row.why


def test_labels_decide_figures_and_never_alarms(monkeypatch):
    monkeypatch.setattr(log_sets, "SEEDS", (1,))
    judge, raised = log_sets.alarms, []

    def judged(*given):
        raised.append(judge(*given, steps=3))
        return raised[-1]

    monkeypatch.setattr(log_sets, "alarms", judged)
    tested = log_sets.test("made", ["E1 E2 E3", "E1 E2"], ["E1 E9 E3", "E3 E2 E1"])
    turned = log_sets.Test("made", tested.sessions, ~tested.labels)
    (row,) = log_sets.compared(lambda: LogSet(NORMAL, [tested]), "run it")
    (other,) = log_sets.compared(lambda: LogSet(NORMAL, [turned]), "run it")
    one, again = raised
    assert set(one) == set(METHODS) and all((one[name] == again[name]).all() for name in METHODS)
    assert one["event"].tolist() == [False, False, True, False]
    assert one["length"].tolist() == [False, False, False, False]
    assert one["sequence"].tolist() == [False, True, True, True]
    assert [line["method"] for line in row.details] == list(METHODS.values())
    assert (row.details[0]["recall"], other.details[0]["recall"]) == (0.5, 0.0)
    assert "2 normal and 2 abnormal ones judged" in row.what and row.repeats == 1


def test_a_table_has_means_over_seeds_beside_the_best_baseline(monkeypatch):
    # a normal session and two abnormal ones, of which one stands twice
    tested = log_sets.test("made", ["E1"], ["E2", "E3", "E3"])
    silent = dict.fromkeys(METHODS, np.zeros(4, bool))
    one, other = np.array([0, 1, 1, 1], bool), np.array([0, 0, 1, 1], bool)
    by_seed = {1: silent | {"both": one, "counts": other}, 2: silent | {"both": other, "counts": other}}
    monkeypatch.setattr(log_sets, "SEEDS", (1, 2))
    monkeypatch.setattr(log_sets, "alarms", lambda normal, sessions, seed: by_seed[seed])
    (row,) = log_sets.compared(lambda: LogSet(NORMAL, [tested]), "run it")
    found = {line["method"]: line for line in row.details}
    assert found["counts"]["F1"] == pytest.approx(0.8) and found["counts"]["seeds"] is None
    assert found["counts"]["F1, each sequence once"] == pytest.approx(2 / 3)
    ours = found[METHODS["both"]]
    assert (ours["F1"], ours["seeds"]) == (pytest.approx(0.9), pytest.approx((0.8, 1.0)))
    assert ours["false alarms in 1,000 lines"] == 0
    assert (row.ours, row.peer, row.ratio) == pytest.approx((0.9, 0.8, 0.9 / 0.8))
    assert row.peer_name == "counts, the best baseline" and "wins" not in row.why
    by_seed |= {1: silent | {"length": other}, 2: silent | {"length": other}}
    (row,) = log_sets.compared(lambda: LogSet(NORMAL, [tested]), "run it")
    assert row.why == "Baseline wins here: length" and set(BASELINES) < set(METHODS)


def test_grouping_accuracy_counts_lines_of_groups_that_are_exactly_an_event():
    assert work.accuracy([1, 1, 2, 3], ["a", "a", "b", "b"]) == 0.5  # the event b is in two groups
    assert work.accuracy([1, 1, 1, 3], ["a", "a", "b", "c"]) == 0.25  # the group 1 holds two events
    assert work.accuracy([7, 7, 8], ["a", "a", "b"]) == 1.0


def test_fresh_numbers_change_digits_alone():
    lines = ["blk_123 from 10.0.0.1", "no number"]
    fresh = work.renumbered(50 * lines)
    assert {re.sub(r"\d", "0", line) for line in fresh} == {"blk_000 from 00.0.0.0", "no number"}
    assert len(set(fresh)) > 40 and fresh == work.renumbered(50 * lines)


@pytest.mark.skipif(not memory.counted(), reason="only where the system tells the peak of a process")
def test_an_endless_stream_is_measured(monkeypatch):
    for name, value in {"ENDLESS": 2000, "ODD": 5, "KEPT": 10}.items():
        monkeypatch.setattr(work, name, value)
    assert 0 <= work.endless() < 10


@pytest.mark.parametrize("asking", [work.inside, work.piped])
def test_a_tool_is_asked_in_its_process_and_through_a_pipe(tmp_path, asking):
    code = """
import json, sys

def predict(text):
    return {"label": text.upper()}

if __name__ == "__main__":
    for line in sys.stdin.buffer:
        print(json.dumps(predict(json.loads(line)["text"])), flush=True)
"""
    (tmp_path / "tool.py").write_text(code, encoding="utf-8")
    with asking(tmp_path) as ask:
        assert [ask(text)["label"] for text in ("a", "架け橋")] == ["A", "架け橋"]


def test_a_recipe_is_a_plan_and_the_command_that_makes_it(tmp_path):
    texts = tmp_path / "texts.csv"
    rows = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(100))  # more than a batch of the recipe
    texts.write_text("text,label\n" + rows, encoding="utf-8")
    plan = work.planned(str(texts), steps=2)
    assert plan.config.task == "label" and plan.config.train["steps"] == 2 and plan.config.seed == work.SEED
    assert work.said("banking77").startswith("kakehashi train --data banking77 --model encoder")
