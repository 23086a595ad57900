"""`kakehashi show`: one run, several beside one another, as a page and as TensorBoard's event files."""

import json
import math
import re
import shutil
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from kakehashi import training
from kakehashi.inspection import Health, event_files, run_page
from kakehashi.inspection.story import Story, comparable, differing, oddest, stories
from kakehashi.runs import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of every task; "lm" twice, with Health, the second at another rate."""
    root = tmp_path_factory.mktemp("runs")
    file = root / "words.txt"
    file.write_text("\n".join(f"word{i}" for i in range(80)), encoding="utf-8")
    pairs, rows = root / "pairs.tsv", root / "rows.csv"
    pairs.write_text("\n".join(f"a{i}\tb{i}" for i in range(80)), encoding="utf-8")
    rows.write_text("text,label\n" + "\n".join(f"say {i} {'no' * (i % 2)},c{i % 2}" for i in range(80)), "utf-8")
    words = {"data": file, "unit": "document"}
    for name, model, asked in (
        ("lm", "mlp", {**words}),
        ("faster", "mlp", {**words, "lr": 0.01}),
        ("seq2seq", "transformer", {"data": pairs, "preset": "transformer-nano"}),
        ("classify", "resnet", {"data": "digits"}),
        ("label", "encoder", {"data": rows, "preset": "encoder-tiny"}),
    ):
        plan = training.plan(model, steps=4, batch_size=4, **asked)
        run = plan.create(root, name)
        if name in ("lm", "faster"):
            training.train(plan.config, run, [Health(every=1)], sources=plan.sources)
        elif name != "classify":
            training.train(plan.config, run, sources=plan.sources)
        else:  # a ResNet takes long to learn, and its rows look like others
            for step in (0, 4):
                row = {"step": step, "time": 1.0, "tokens": step, "split": "val", "loss": 2.0, "lr": None}
                run.append(row | {"grad_norm": None, "right": 0.1})
    return root


def show(*arguments, code=0):
    from kakehashi.cli.app import app

    done = CliRunner().invoke(app, ["show", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("task", ["seq2seq", "classify", "label"])
def test_a_run_of_every_task_has_a_page(folder, tmp_path, task):
    said = show(folder / task, "--out", tmp_path / "page")
    assert str(tmp_path / "page" / "index.html") in said
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    pictures = {path.stem for path in (tmp_path / "page").glob("*.png")}
    assert page.count("<svg") == len(pictures) and "loss" in pictures and "update" not in pictures


def test_the_page_and_the_terminal_show_the_layers(folder, tmp_path):
    said = show(folder / "lm", "--out", tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    (*_, last) = [row["health"] for row in Run.open(folder / "lm").metrics() if "health" in row]
    for layer in ("embedding", "hidden", "norm", "output"):
        assert layer in said and layer in page
        assert f"{last['layers'][layer]['update']:.4g}" in page
    assert "tanh" in page and "CS231n" in page
    assert {"update", "gradient", "scale", "dead", "saturated"} < {path.stem for path in tmp_path.glob("*.png")}


def test_several_runs_show_what_differs_and_nothing_else(folder, tmp_path):
    said = show(folder / "lm", folder / "faster", "--out", tmp_path)
    assert re.search(r"train\.lr +0\.001 +0\.01", said)
    assert "train.steps" not in said and "do not compare" not in said
    told = stories([Run.open(folder / name) for name in ("lm", "faster")])
    assert set(differing(told)) == {"train.lr", "train.min_lr"}
    for story in told:
        assert f"{story.summary['val_loss']:.3f}" in said
    assert {path.stem for path in tmp_path.glob("*.png")} == {"val_loss", "train_loss", "grad_norm", "lr", "update"}


def test_losses_of_other_data_are_said_not_to_compare(folder):
    assert "do not compare" in show(folder / "lm", folder / "label")
    one, other = stories([Run.open(folder / "lm"), Run.open(folder / "faster")])
    assert comparable([one, other])
    cut = replace(other, settings=other.settings | {"data.sha256": "0" * 64})
    assert not comparable([one, cut])


def test_runs_of_one_name_go_by_their_paths(folder, tmp_path):
    shutil.copytree(folder / "lm", tmp_path / "lm")
    told = stories([Run.open(folder / "lm"), Run.open(tmp_path / "lm")])
    assert [story.name for story in told] == [str(folder / "lm"), str(tmp_path / "lm")]
    assert "No setting differs" in show(folder / "lm", tmp_path / "lm")


def test_a_run_without_metrics_and_one_with_a_torn_line_are_shown(folder, tmp_path):
    run = tmp_path / "label"
    shutil.copytree(folder / "label", run)
    (run / "samples.md").unlink(missing_ok=True)
    metrics = run / "metrics.jsonl"
    whole = metrics.read_text(encoding="utf-8")
    metrics.write_text(whole + '{"step": 5, "time": 9', encoding="utf-8")
    assert len(Story.of(Run.open(run)).rows) == whole.count("\n")
    show(run, "--out", tmp_path / "torn")
    metrics.unlink()
    show(run, "--out", tmp_path / "none")
    assert "no metrics yet" in (tmp_path / "none" / "index.html").read_text(encoding="utf-8")
    show(run, folder / "label", "--out", tmp_path / "beside")


def test_a_run_that_is_being_written_is_shown(folder, tmp_path):
    run = Run.open(folder / "label")
    with run.lock():
        show(run.path, "--out", tmp_path, "--tensorboard", tmp_path / "events")


def test_null_and_the_first_number_that_was_not_finite_are_shown(tmp_path):
    row = {"step": 1, "time": 1.0, "tokens": 1, "split": "train", "loss": None, "lr": 0.1, "grad_norm": None}
    layers = {"h.0": {"gradient": None, "update": 0.0, "dead": 1.0}, "tanh": {"dead": 0.0, "saturated": 0.5}}
    trouble = {"step": 1, "what": "outputs", "layer": "h.0"}
    rows = [row | {"health": {"step": 1, "layers": layers, "not_finite": trouble}}, row | {"step": 2}]
    story = Story("run", {}, rows, {"val_loss": None, "step": 2, "steps": 9, "seconds": 1.0})
    assert "h.0" in run_page.write(tmp_path, [story]).read_text(encoding="utf-8")
    assert story.trouble == trouble and set(story.layers("gradient")) == set()


def test_the_oddest_layers_are_named_first():
    last = {"near": 1.1e-3, "above": 5e-2, "below": 1e-6, "still": 0.0}
    layers = {name: [(1, value)] for name, value in last.items()}
    assert oddest("update", layers) == ["still", "below", "above", "near"]
    assert oddest("dead", layers, 2) == ["above", "near"]


def test_tensorboard_reads_what_was_written_and_twice_is_once(folder, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    story = Story.of(Run.open(folder / "lm"))
    target = tmp_path / "lm"
    target.mkdir()
    (target / "events.out.tfevents.1.others").write_bytes(b"")  # a person's own
    for _ in range(2):
        assert event_files.write(tmp_path, story) == target
    assert len(list(target.glob("*.kakehashi"))) == 1 and (target / "events.out.tfevents.1.others").exists()
    read = reader.EventAccumulator(str(target), size_guidance={"scalars": 0}).Reload()
    written = story.scalars()
    assert set(read.Tags()["scalars"]) == set(written) >= {"loss/train", "loss/val", "lr", "health/update/hidden"}
    for tag, points in written.items():
        found = [(each.step, each.value) for each in read.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _, _ in points]
        assert all(math.isclose(a, b, rel_tol=1e-6) for (_, a), (_, _, b) in zip(found, points, strict=True))


def test_without_tensorboard_one_line_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(event_files.NoTensorBoard, match=r"pip install 'kakehashi\[tensorboard\]'"):
        event_files.write(tmp_path, Story.of(Run.open(folder / "lm")))


def test_train_health_on_the_command_line_also_when_resumed(folder, tmp_path, monkeypatch):
    from kakehashi.cli.app import app

    monkeypatch.chdir(tmp_path)
    words = str(folder / "words.txt")
    asked = ["train", "--model", "mlp", "--data", words, "--unit", "document", "--steps", "3", "--health"]
    for arguments in (asked, ["train", "--resume", "runs/mlp-words-0001", "--health"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    lines = (tmp_path / "runs" / "mlp-words-0001" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum("layers" in json.loads(line).get("health", {}) for line in lines) == 3
