"""Run directories: made, locked, written whole, read back; and models found by what a person calls them."""

import json
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from kakehashi import Mistake, models, runs, source
from kakehashi.paths import CannotWrite
from kakehashi.runs import Checkpoint, DataSpec, ModelSpec, Run, RunBusy, RunConfig, RunError
from kakehashi.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer.train(["naïve 架け橋"])
CONFIG = RunConfig(
    task="lm",
    model=ModelSpec("bigram", {"vocab_size": TOKENIZER.vocab_size}),
    data=DataSpec("bridge", "/data/bridge.txt", "0" * 64, "by position, 90/10", True, "stream", 64),
    train={"steps": 10, "lr": 0.1},
    seed=1,
    versions={"torch": "2"},
    threads=2,
)
WEIGHTS = {"table": np.arange(TOKENIZER.vocab_size**2, dtype=np.float32).reshape(TOKENIZER.vocab_size, -1)}


def checkpoint(step: int, provisional: bool = False) -> Checkpoint:
    return Checkpoint({"step": step}, {"w": np.full(3, step)}, {"m": np.full(2, -step)}, provisional)


def row(step: int, **more) -> dict:
    return {"step": step, "time": step / 2, "split": "train", "loss": 1 / (step + 1)} | more


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path, "bigram-bridge", CONFIG, TOKENIZER)


# --- Making and opening ---


def test_a_run_reads_back_what_it_was_made_of(run):
    again = Run.open(run.path)
    assert again.config == CONFIG
    assert again.tokenizer == TOKENIZER
    assert again.private
    assert again.name == "bigram-bridge-0001"
    assert json.loads((run.path / "config.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(CONFIG.to_dict())
    )


def test_numbers_go_on_and_are_never_given_twice(tmp_path):
    made = []

    def make():
        made.extend(Run.create(tmp_path, "a model", CONFIG, TOKENIZER).name for _ in range(5))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [f"a-model-{i:04}" for i in range(1, 21)]


def test_a_name_without_a_number_is_taken_once(tmp_path):
    assert Run.create(tmp_path, "mine", CONFIG, TOKENIZER, number=False).path == tmp_path / "mine"
    with pytest.raises(RunError, match="mine exists: "):
        Run.create(tmp_path, "mine", CONFIG, TOKENIZER, number=False)


@pytest.mark.parametrize("failing", ["source.py", "tokenizer.json", "config.json"])
def test_a_start_that_failed_leaves_its_name_free(tmp_path, monkeypatch, failing):
    write = runs.atomic_write

    def full_disk(path, data):
        if path.name == failing:
            raise CannotWrite(f"cannot write {path}")
        write(path, data)

    with monkeypatch.context() as patch, pytest.raises(CannotWrite):
        patch.setattr(runs, "atomic_write", full_disk)
        Run.create(tmp_path, "mine", CONFIG, TOKENIZER, "x = 1", number=False)
    assert list(tmp_path.iterdir()) == []
    Run.create(tmp_path, "mine", CONFIG, TOKENIZER, "x = 1", number=False)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match=r"cannot write .*file"):
        Run.create(tmp_path / "file", "mine", CONFIG, TOKENIZER)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"seed": "x"}, "seed", "x"),
        ({"format": 2}, "format", "2"),
        ({"data": {**CONFIG.to_dict()["data"], "private": "perhaps"}}, "data.private", "perhaps"),
        ({"model": "bigram"}, "model", "bigram"),
        ({"task": None}, "task", "None"),
    ],
)
def test_a_wrong_field_of_config_json_is_named_with_its_value(run, change, field, value):
    (run.path / "config.json").write_text(json.dumps(CONFIG.to_dict() | change), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        Run.open(run.path)
    message = str(caught.value)
    assert f"config.json: {field}: " in message and value in message and "\n" not in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}"])
def test_a_config_json_that_is_none_of_ours_is_refused_in_one_line(run, content):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        Run.open(run.path)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_field_of_the_models_config_is_named(run):
    config = CONFIG.to_dict() | {"model": {"name": "bigram", "config": {"vocab_size": "lots"}}}
    (run.path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(RunError, match=r"model\.config: vocab_size: .*'lots'"):
        _ = Run.open(run.path).model_config


def test_runs_are_listed_and_what_is_none_is_left_out(run, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "half-made-0001").mkdir()
    broken = Run.create(tmp_path, "broken", CONFIG, TOKENIZER)
    (broken.path / "config.json").write_text("{", encoding="utf-8")
    assert [each.path for each in runs.list_runs(tmp_path)] == [run.path]
    assert runs.list_runs(tmp_path / "nowhere") == []


# --- Writing ---


def test_a_second_process_is_refused_in_one_line_with_the_first_ones_pid(run):
    program = """
import sys
from kakehashi.runs import Run
with Run.open(sys.argv[1]).lock():
    print("has it", flush=True)
    input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "has it\n"
    with pytest.raises(RunBusy) as caught:
        run.append(row(1))
    assert str(holder.pid) in str(caught.value) and "\n" not in str(caught.value)
    holder.kill()
    holder.communicate()
    run.append(row(1))  # the lock of a killed process is free
    assert run.metrics() == [row(1)]


def test_the_lock_can_be_nested_and_sweeps_what_a_kill_left_behind(run):
    torn = run.path / "checkpoint" / ".kakehashi-0123.tmp"
    torn.parent.mkdir()
    torn.write_bytes(b"half")
    with run.lock(), run.lock():
        run.write_samples("架け橋")
        with pytest.raises(RunBusy), Run.open(run.path).lock():
            pass
    assert not torn.exists()
    assert (run.path / "samples.md").read_text(encoding="utf-8") == "架け橋"


def test_a_torn_last_line_of_the_metrics_does_not_count(run):
    rows = [row(i, note="橋") for i in range(3)]
    for each in rows:
        run.append(each)
    whole = (run.path / "metrics.jsonl").read_bytes()
    for length in range(len(whole)):
        (run.path / "metrics.jsonl").write_bytes(whole[:length])
        assert run.metrics() == rows[: whole[:length].count(b"\n")]


def test_a_damaged_line_of_the_metrics_is_an_error(run):
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n', encoding="utf-8")
    with pytest.raises(RunError, match="metrics.jsonl is damaged"):
        run.metrics()


@pytest.mark.parametrize("line", ["[]", "{}", "5", '{"step": 1, "time": 0.5, "split": "val", "loss": "low"}'])
def test_a_line_that_is_no_row_is_named_and_its_run_not_listed(run, tmp_path, line):
    whole = Run.create(tmp_path, "whole", CONFIG, TOKENIZER)
    run.append(row(1))
    with open(run.path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    for read in (run.metrics, run.summary):
        with pytest.raises(RunError, match="metrics.jsonl is damaged: line 2 "):
            read()
    assert [each.path for each in runs.list_runs(tmp_path)] == [whole.path]


def test_rows_are_strict_json_and_as_long_whatever_the_time(run):
    for seconds in (0.0, 12.3456, 99999.9):
        run.append(row(1, time=seconds, loss=float("nan")) | {"health": {"norms": [1.0, float("inf")]}})
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(set(map(len, lines))) == 1
    for line in lines:
        read = json.loads(line, parse_constant=pytest.fail)
        assert read["loss"] is None and read["health"] == {"norms": [1.0, None]}
    assert [each["time"] for each in run.metrics()] == [0.0, 12.346, 99999.9]


def test_the_summary_is_what_the_metrics_say(run):
    assert run.summary()["val_loss"] is None and run.summary()["step"] == 0
    for step, loss in ((0, 3.0), (5, 1.5), (10, 2.0)):
        run.append({"step": step, "time": step / 2, "split": "val", "loss": loss})
    expected = {"model": "bigram", "data": "bridge", "step": 10, "steps": 10, "val_loss": 1.5, "seconds": 5.0}
    assert run.summary().items() >= expected.items()


# --- Checkpoints ---


def test_a_checkpoint_reads_back_with_the_metrics_of_its_moment(run):
    assert run.load_checkpoint() is None
    run.append(row(1))
    run.save_checkpoint(checkpoint(1))
    run.append(row(2))
    loaded = run.rewind()
    assert (loaded.state, loaded.provisional) == ({"step": 1}, False)
    assert np.array_equal(loaded.weights["w"], [1, 1, 1]) and np.array_equal(loaded.optimizer["m"], [-1, -1])
    assert run.metrics() == [row(1)]


def test_a_run_without_a_checkpoint_is_rewound_to_nothing(run):
    run.append(row(1))
    assert run.rewind() is None
    assert run.metrics() == []


def test_generations_alternate(run):
    for step in range(5):
        run.save_checkpoint(checkpoint(step))
        assert (run.path / "checkpoint" / "current").read_text(encoding="utf-8") == str(step % 2)
        assert run.load_checkpoint().state == {"step": step}


@pytest.mark.parametrize("name", ["last.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_where_the_newest_checkpoint_is_damaged_the_one_before_is_used_and_kept(run, name, damage):
    run.save_checkpoint(checkpoint(1))
    run.save_checkpoint(checkpoint(2))
    path = run.path / "checkpoint" / "1" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-8] if damage == "short" else b"")
    assert run.load_checkpoint().state == {"step": 1}
    run.save_checkpoint(checkpoint(3))
    assert run.load_checkpoint().state == {"step": 3}
    (run.path / "checkpoint" / "1" / "state.json").unlink()
    assert run.load_checkpoint().state == {"step": 1}


@pytest.mark.parametrize("content", [None, b"", b"x", b"7", b"\xff"])
def test_where_current_names_nothing_the_higher_step_is_taken(run, content):
    for step in (1, 2, 3):
        run.save_checkpoint(checkpoint(step))
    current = run.path / "checkpoint" / "current"
    current.unlink() if content is None else current.write_bytes(content)
    assert run.rewind().state == {"step": 3}
    run.save_checkpoint(checkpoint(4))
    assert run.load_checkpoint().state == {"step": 4}


@pytest.mark.parametrize("state", ["", "{}", "[]", '{"step": 1}'])
def test_where_no_checkpoint_is_whole_the_metrics_stay_and_it_is_said(run, state):
    run.append(row(1))
    run.save_checkpoint(checkpoint(1))
    run.append(row(2))
    (run.path / "checkpoint" / "0" / "state.json").write_text(state, encoding="utf-8")
    with pytest.raises(RunError, match=r"no checkpoint in .* is whole"):
        run.rewind()
    assert run.metrics() == [row(1), row(2)]


@pytest.mark.parametrize("left", [None, 0, 10])
def test_metrics_shorter_than_the_checkpoint_knew_are_named_and_left(run, left):
    run.append(row(1))
    run.save_checkpoint(checkpoint(1))
    path = run.path / "metrics.jsonl"
    path.unlink() if left is None else path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(RunError, match=r"metrics\.jsonl has \d+ bytes"):
        run.rewind()
    assert (path.stat().st_size if path.exists() else None) == left


def test_a_provisional_checkpoint_gives_its_place_to_the_next(run, tmp_path):
    other = Run.create(tmp_path, "straight", CONFIG, TOKENIZER)
    for step in (0, 3, 6):
        other.save_checkpoint(checkpoint(step))
    run.save_checkpoint(checkpoint(0))
    run.save_checkpoint(checkpoint(3))
    run.save_checkpoint(checkpoint(4, provisional=True))
    assert run.load_checkpoint().provisional
    run.save_checkpoint(checkpoint(5, provisional=True))
    assert run.load_checkpoint().state == {"step": 5}
    run.save_checkpoint(checkpoint(6))
    ours, theirs = (
        {path.relative_to(each.path): path.read_bytes() for path in each.path.glob("checkpoint/**/*") if path.is_file()}
        for each in (run, other)
    )
    assert ours == theirs


# --- Weights ---


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.turned = nn.Parameter(torch.arange(6.0).view(2, 3).T)  # not contiguous
        self.register_buffer("seen", torch.tensor(7))
        self.register_buffer("passing", torch.zeros(2), persistent=False)


def test_weights_survive_the_file_and_tied_ones_stay_tied(run):
    model, other = Tied(), Tied()
    weights = runs.weights_of(model)
    assert set(weights) == {"one.weight", "one.bias", "turned", "seen"}
    run.save_best(weights)
    runs.load_weights(other, run.load_best())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert other.two.weight is other.one.weight
    with torch.no_grad():
        model.one.weight.zero_()
    assert weights["one.weight"].any()  # a copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seen": None}, "there are none for seen"),
        ({"more": np.zeros(1)}, "the model has no more"),
        ({"turned": np.zeros((2, 3), np.float32)}, "fit: turned is (3, 2) in the model, (2, 3) in the weights"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, said):
    weights = {name: array for name, array in (runs.weights_of(Tied()) | change).items() if array is not None}
    with pytest.raises(RunError, match=re.escape(said)):
        runs.load_weights(Tied(), weights)


def test_a_run_without_weights_says_how_to_get_them(run):
    with pytest.raises(RunError, match=f"--resume {run.path}"):
        runs.resolve(run.path)


# --- Resolving ---


@pytest.mark.parametrize(("word", "name", "preset"), [("gpt2", "gpt2", "gpt2-nano"), ("mlp-wide", "mlp", "mlp-wide")])
def test_a_name_is_a_model_or_a_preset(word, name, preset):
    resolved = runs.resolve(word)
    assert resolved.family.name == name
    assert resolved.config == models.find(name).presets[preset]
    assert resolved.model is None and resolved.source is None


def test_a_run_gives_the_model_with_its_best_weights_in_eval_mode(run):
    run.save_best(WEIGHTS)
    resolved = runs.resolve(run.path)
    assert torch.equal(resolved.model.table, torch.from_numpy(WEIGHTS["table"]))
    assert not resolved.model.training
    assert resolved.codec == TOKENIZER
    assert resolved.config.vocab_size == TOKENIZER.vocab_size


def reference(name: str) -> str:
    return source.read(models.find(name).path)


def test_a_learners_half_finished_file_borrows_what_is_blank(tmp_path):
    path = tmp_path / "my_gpt2.py"
    starter = source.blank(reference("gpt2"), ["MLP", "Block.forward"])
    path.write_text('REFERENCE = "gpt2"\n' + starter, encoding="utf-8")
    resolved = runs.resolve(path)
    assert resolved.family.name == "my_gpt2" and resolved.family.task == "lm"
    assert any(each.startswith("MLP") for each in resolved.borrowed) and "Block.forward" in resolved.borrowed
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    assert resolved.family.Model(models.find("gpt2").Config(5, 4, 1, 1, 4))(tokens).logits.shape == (1, 4, 5)
    assert source.empty(resolved.source, reference("gpt2"), ["MLP", "Block"]) == []


def test_a_run_of_a_learners_model_lives_from_the_file_it_was_trained_with(tmp_path):
    path = tmp_path / "mine.py"
    starter = source.blank(reference("bigram"), ["Bigram.new_state"])
    path.write_text('REFERENCE = "bigram"\nTRAINED = 1\n' + starter, encoding="utf-8")
    resolved = runs.resolve(path)
    assert resolved.borrowed == ("Bigram.new_state",)
    config = RunConfig(**vars(CONFIG) | {"model": ModelSpec("mine", CONFIG.model.config, resolved.borrowed)})
    run = Run.create(tmp_path, "mine-bridge", config, TOKENIZER, resolved.source)
    run.save_best(WEIGHTS)
    path.write_text("raise RuntimeError('the newer file in the workspace')", encoding="utf-8")
    again = runs.resolve(run.path)
    assert again.family.name == "mine" and again.family.module.TRAINED == 1
    assert again.family.module.__file__ == str((run.path / "source.py").resolve())
    assert again.model.new_state(2).tokens.shape == (2, 0)
    assert again.borrowed == resolved.borrowed


OWN = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 3)

def make():
    return Net()

def case():
    return {"model": Net(), "batches": [1, 2], "expect": ("causal",)}

def wrong():
    return 5

def breaks():
    return nn.Linear(2, 3)(torch.zeros(7))

def asks(x):
    return Net()
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["Net", "make", "case"])
def test_a_class_or_a_function_of_a_file_gives_a_model(own, name):
    resolved = runs.resolve(f"{own}:{name}")
    assert type(resolved.model).__name__ == "Net" and resolved.family is None
    assert resolved.arguments == ({"batches": [1, 2], "expect": ("causal",)} if name == "case" else {})


def test_a_class_of_a_model_file_is_its_model(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(reference("bigram") + "\n\nclass Better(Bigram):\n    pass\n", encoding="utf-8")
    assert runs.resolve(f"{path}:Better").family.Model.__name__ == "Better"
    assert runs.resolve(path).family.Model.__name__ == "Bigram"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "has no Model"),
        (":Nothing", "has no Nothing"),
        (":wrong", "got int"),
        (":breaks", "own.py:19: RuntimeError: "),
        (":asks", "TypeError: "),
    ],
)
def test_a_file_that_gives_no_model_says_why(own, name, said):
    with pytest.raises(RunError) as caught:
        runs.resolve(f"{own}{name}")
    assert said in str(caught.value) and str(own) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["def broken(:\n", "import sys\nsys.exit(3)\n", "import nothing_of_this_name\n", "Model = 5 +\n", "Model = dict\n"],
)
def test_a_file_that_cannot_be_used_says_why_in_one_line(tmp_path, content):
    path = tmp_path / "mine.py"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Mistake) as caught:
        runs.resolve(path)
    assert "mine.py" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["gpt7", "no/such/file.py", "no/such/file.py:Net"])
def test_what_is_not_there_is_named(word):
    with pytest.raises(Mistake, match=re.escape(word.removesuffix(":Net"))):
        runs.resolve(word)


def test_a_hugging_face_folder_is_recognised(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(Mistake, match="does not say vocab_size"):
        runs.resolve(tmp_path)


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        runs.resolve(tmp_path)


def test_a_tool_keeps_files_of_its_own_in_a_run(run):
    with pytest.raises(RunError, match=r"has no predictor\.json"):
        run.read_extra("predictor.json")
    run.write_extra("predictor.json", "架け橋")
    run.write_extra("plots/page.html", b"\x00")
    again = Run.open(run.path)
    assert again.read_extra("predictor.json").decode("utf-8") == "架け橋"
    assert again.read_extra("plots/page.html") == b"\x00"
