"""The real command, in a process of its own, as a person runs it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from kakehashi import source, texts
from kakehashi.cli import console
from kakehashi.journey import stations

GROUPS = ["data", "tokenizer", "fault", "logs"]
COMMANDS = ["tour", "start", "grade", "hint", "reset", "train", "sample", "translate", "classify", "eval", "runs"]
COMMANDS += ["show", "convert", "bench", "diff", "export", *GROUPS]
TOKENS = ["tokenizer", "show", "é 架け橋 😀"]
TINY = ("--data", "identifiers", "--batch-size", "8", "--steps", "4")
# A module of this name is imported by Python itself: it refuses every connection that is not to this machine
NO_NETWORK = """
import socket
def refuse(self, address, real=socket.socket.connect):
    if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"):
        return real(self, address)
    raise SystemExit(f"a connection to {address} was tried")
socket.socket.connect = refuse
socket.getaddrinfo = lambda host, *rest, **more: refuse(socket.socket(), (host, 0))
"""


def kakehashi(*arguments, cwd, check=None, **environment):
    """Run the command; its stdin is no terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "kakehashi", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check is not None:
        assert done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done


def said(done):
    """The JSON object that ends stdout."""
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with one finished run of the smallest model."""
    folder = tmp_path_factory.mktemp("cli")
    done = kakehashi("train", "--model", "bigram", *TINY, "--json", cwd=folder, check=0)
    return folder, said(done), done


@pytest.fixture
def workspace(tmp_path):
    kakehashi("start", "mine", cwd=tmp_path, check=0)
    return tmp_path / "mine"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_every_command_shows_an_example(lang, tmp_path):
    word = {"en": "Example: kakehashi", "ja": "例: kakehashi"}[lang]
    for command in COMMANDS:
        assert word in kakehashi(command, "--help", "--lang", lang, cwd=tmp_path, check=0).stdout, command


def test_the_examples_name_options_that_exist(tmp_path):
    for lang in texts.LANGUAGES:
        with open(texts.HERE / lang / "cli.toml", "rb") as file:
            sections = tomllib.load(file)["cli"]
        for command in COMMANDS:
            text = sections[command]["example"]
            words = re.findall(r"kakehashi (.+)", text)[0].split()
            path = [word for word in words[:2] if not word.startswith("-")][: 2 if command in GROUPS else 1]
            usage = kakehashi(*path, "--help", cwd=tmp_path, check=0).stdout
            for option in (word for word in words if word.startswith("-")):
                assert option in usage, (command, option)


def test_help_does_not_wait_for_torch(tmp_path):
    code = "import sys; from kakehashi.cli import app; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nix"], "nix"),
        (["train", "--steps", "many"], "--steps"),
        (["train", "--steps", "0"], "steps must be at least 1, got 0"),
        (["train", "--model", "gpt9"], "gpt9"),
        (["train", "--data", "nowhere.txt"], "nowhere.txt"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["train", "--engine", "numpy", "--model", "bigram"], "bigram"),
        (["train", "--carry"], "gpt2 keeps a KVCache"),
        (["sample", "nowhere"], "nowhere"),
        (["show", "nowhere"], "nowhere"),
        (["convert", "nowhere", "out"], "nowhere"),
        (["data", "get", "nix"], "nix"),
        (["grade", "gpt2"], "kakehashi start"),
        (["grade", "gpt2", "--file", "nowhere.py"], "nowhere.py"),
        (["grade", "--file", "nowhere.py"], "STATION"),
        (["grade", "nix", "--file", "nowhere.py"], "nix"),
        (["hint", "gpt2"], "kakehashi start"),
        (["reset", "gpt2"], "kakehashi start"),
        (["fault", "show", "nix"], "nix"),
        (["train", "--tokenizer", "nowhere.json"], "nowhere.json"),
        (["tokenizer", "train", "--out", "t.json", "--vocab-size", "9"], "at least 257, for all bytes, got 9"),
        (["tokenizer", "show", "nowhere.json", "a"], "nowhere.json"),
        (["tokenizer", "show", "a", "b", "c"], "one text"),
        (["bench", "nix"], "nix"),
        (["--lang", "fr", "runs"], "fr"),
    ],
)
def test_a_wrong_call_is_told_in_a_line(arguments, words, tmp_path):
    done = kakehashi(*arguments, cwd=tmp_path, check=2)
    assert words in done.stderr and not done.stdout
    assert len(done.stderr.strip().splitlines()[-1]) < 400
    assert not list(tmp_path.iterdir()), "a wrong call left something behind"


def test_training_ends_in_a_run_that_samples_and_shows(trained):
    folder, summary, done = trained
    assert summary["step"] == 4 and summary["val_loss"] < 3.3
    assert done.stdout.count("\n") == 1 and "4/4" in done.stderr
    run = folder / summary["run"]
    assert {"config.json", "model.safetensors", "metrics.jsonl", "samples.md", "tokenizer.json"} <= set(os.listdir(run))

    once = said(kakehashi("sample", run, "--prompt", "get", "-n", 2, "--seed", 3, "--json", cwd=folder, check=0))
    again = said(kakehashi("sample", run, "--prompt", "get", "-n", 2, "--seed", 3, "--json", cwd=folder, check=0))
    assert once == again and len(once["samples"]) == 2

    assert said(kakehashi("runs", "--json", cwd=folder, check=0))["runs"][0]["run"] == summary["run"]
    shown = kakehashi("show", run, cwd=folder, check=0).stdout
    assert "bigram" in shown and f"{summary['val_loss']:.3f}" in shown


def test_each_line_of_training_shows_the_validation_loss_of_its_own_step(trained):
    folder, summary, done = trained
    printed = re.findall(r"step (\d+)/4 .* validation (\d\.\d{3})  ", done.stderr)
    rows = [json.loads(line) for line in open(folder / summary["run"] / "metrics.jsonl", encoding="utf-8")]
    evaluated = {str(row["step"]): f"{row['loss']:.3f}" for row in rows if row["split"] == "val" and row["step"]}
    assert len(printed) == 4 and dict(printed) == evaluated


def test_resuming_says_the_step_of_the_checkpoint_and_changes_no_weights_of_a_finished_run(trained):
    folder, summary, _ = trained
    weights = (folder / summary["run"] / "model.safetensors").read_bytes()
    with open(folder / summary["run"] / "metrics.jsonl", "a", encoding="utf-8") as metrics:  # after it came a kill
        metrics.write('{"step": 7, "time": 9.0, "tokens": 1, "split": "train", "loss": 1.0}\n')
    done = kakehashi("train", "--resume", summary["run"], cwd=folder, check=0)
    assert "from step 4 of 4" in done.stdout
    assert (folder / summary["run"] / "model.safetensors").read_bytes() == weights


def test_training_on_the_lectures_split_warns_of_what_is_known(data_dir, tmp_path):
    data = ["--data", "names", "--split", "lecture", "--window", 5]
    done = kakehashi("train", "--model", "mlp", *data, "--steps", 1, "--json", cwd=tmp_path, check=0)
    warning, *rest = done.stderr.splitlines()
    assert "13% of the validation documents" in warning and "13%" not in "".join(rest)
    assert sum("window of 5 tokens, and so cut" in line for line in rest) == 1
    config = json.loads((tmp_path / said(done)["run"] / "config.json").read_text(encoding="utf-8"))
    assert config["data"]["block_size"] == 5 and config["data"]["split"].startswith("lecture")
    resumed = kakehashi("train", "--resume", said(done)["run"], cwd=tmp_path, check=0)
    assert "13% of the validation documents" in " ".join(resumed.stdout.split())
    other = kakehashi("train", "--from", said(done)["run"], "--data", "names", "--steps", 1, cwd=tmp_path, check=0)
    assert re.search(r"8\d% of the validation documents were trained on by ", " ".join(other.stdout.split()))


def test_a_run_is_shown_with_what_matters_in_words(tmp_path, monkeypatch):
    from kakehashi import training
    from kakehashi.cli.show import facts

    text, own = tmp_path / "mine.txt", tmp_path / "own.py"
    text.write_text("a text of my own " * 20, encoding="utf-8")
    own.write_text(source.read(stations.find("recurrent").reference), encoding="utf-8")
    monkeypatch.setenv("KAKEHASHI_LANG", "en")
    for model in ("gru-char", own):
        run = training.plan(model, text, carry=True, window=9, seed=5, steps=3).create(tmp_path)
        said = facts(run, run.summary())
        if model == own:
            assert said["model"] == "own, your own file" and not said["preset"]
        else:
            assert said["model"] == "recurrent" and said["preset"] == "gru-char" and "cell gru" in said["config"]
        assert (said["window"], said["seed"], said["step"]) == (9, 5, "0/3")
        assert "goes on" in said["state"] and "leaves this machine" in said["use"]


def test_an_unknown_character_in_a_prompt_is_named(trained):
    folder, summary, _ = trained
    done = kakehashi("sample", summary["run"], "--prompt", "añb", cwd=folder, check=2)
    assert "ñ" in done.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    command = [
        sys.executable,
        "-u",
        "-m",
        "kakehashi",
        "train",
        "--model",
        "mlp",
        "--steps",
        "100000",
        "--batch-size",
        "8",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("runs/*/checkpoint/current")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "kakehashi train --resume" in errors


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_output_survives_a_japanese_console(lang, trained, tmp_path):
    folder, summary, _ = trained
    for arguments in (["--help"], ["data", "list"], ["show", summary["run"]], ["fault", "list"], TOKENS):
        command = [sys.executable, "-m", "kakehashi", *arguments, "--lang", lang]
        environment = {**os.environ, "PYTHONIOENCODING": "cp932:strict"}
        done = subprocess.run(command, cwd=folder, capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode("cp932")


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "kakehashi", "fault", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_empty_starter_does_not_pass(workspace):
    done = kakehashi("grade", "bigram", "--json", cwd=workspace, check=1)
    verdict = said(done)["stations"][0]
    assert verdict["blank"] and not verdict["passed"] and not verdict["results"]


def test_the_way_through_a_station(workspace):
    station = stations.find("bigram")
    file = workspace / "stations" / station.file
    hint = kakehashi("hint", "bigram", cwd=workspace, check=0).stdout
    assert kakehashi("hint", "bigram", cwd=workspace, check=0).stdout != hint, "the second hint says more"
    wrong = kakehashi("grade", "bigram", "foo", cwd=workspace, check=2)
    assert "foo" in wrong.stderr and not wrong.stdout, "no title before the error"

    reference = source.read(station.reference)
    file.write_text(source.fill(file.read_text(encoding="utf-8"), reference, station.symbols), encoding="utf-8")
    assert said(kakehashi("grade", "--json", cwd=workspace, check=0))["stations"][0]["passed"]
    done = kakehashi("train", "--model", file, *TINY, "--json", cwd=workspace, check=0)
    assert (workspace / said(done)["run"] / "source.py").exists()

    file.write_text(file.read_text(encoding="utf-8").replace("clamp(min=1)", "clamp(min=2)"), encoding="utf-8")
    assert said(kakehashi("grade", "bigram", "--json", cwd=workspace))["stations"][0]["results"]
    kept = said(kakehashi("reset", "bigram", "--json", cwd=workspace, check=0))["kept"]
    assert "clamp(min=2)" in Path(kept).read_text(encoding="utf-8")
    types = [json.loads(line)["type"] for line in open(workspace / "progress.jsonl", encoding="utf-8")]
    assert types == ["hint", "hint", "grade", "grade"]


def test_a_fault_can_be_looked_at_and_written(tmp_path):
    listed = said(kakehashi("fault", "list", "bigram", "--json", cwd=tmp_path, check=0))["faults"]
    shown = kakehashi("fault", "show", listed[0]["id"], cwd=tmp_path, check=0).stdout
    assert re.search(r"^-.*\n\+", shown, re.MULTILINE), "the edit is shown as a diff"
    done = kakehashi("fault", "inject", listed[0]["id"], "--seed", 3, "--out", "broken.py", cwd=tmp_path, check=0)
    assert listed[0]["id"] in done.stdout
    compile((tmp_path / "broken.py").read_text(encoding="utf-8"), "broken.py", "exec")


def test_tokens_are_learnt_and_shown(tmp_path):
    data = ("--data", "identifiers", "--vocab-size", 400, "--json")
    learnt = said(kakehashi("tokenizer", "train", *data, "--out", "t.json", cwd=tmp_path, check=0))
    assert (learnt["path"], learnt["vocab_size"]) == ("t.json", 400) and 0 < learnt["tokens_per_character"] < 1
    again = kakehashi("tokenizer", "train", *data, "--out", "t.json", cwd=tmp_path, check=2)
    assert "t.json exists already" in again.stderr
    kakehashi("tokenizer", "train", *data, "--out", "t.txt", cwd=tmp_path, check=2)
    assert not (tmp_path / "t.txt").exists(), "neither a file of another kind, nor a folder"
    text = "get_é\n\x1b[0m"
    shown = said(kakehashi("tokenizer", "show", "t.json", text, "--json", cwd=tmp_path, check=0))
    assert bytes.fromhex("".join(token["bytes"] for token in shown["tokens"])).decode() == text
    words = kakehashi("tokenizer", "show", "t.json", text, cwd=tmp_path, check=0).stdout.splitlines()
    assert words[0] == "|".join(token["text"] for token in shown["tokens"])
    assert words[0].endswith(r"\xc3|\xa9|\n|\x1b|[|0|m"), "what a terminal would obey is spelled out"
    assert words[1].startswith(f"tokens: {len(shown['tokens'])}, characters: {len(text)}, ")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_obeys_nothing_that_a_model_wrote(terminal, monkeypatch):
    written = "a\tb\nc\x1b[31m\x07\x9b"
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    console.say(written)
    said = screen.buffer.getvalue().decode()
    assert ("\x1b[31m" in said) != terminal and (r"\x1b[31m\x07\x9b" in said) == terminal and "b\nc" in said


def test_offline_means_no_socket(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    offline = {"KAKEHASHI_OFFLINE": "1", "PYTHONPATH": str(tmp_path)}
    probe = [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)"]
    refused = subprocess.run(probe, env={**os.environ, **offline}, capture_output=True, text=True)
    assert "was tried" in refused.stderr, "the trap works"
    kakehashi("train", "--model", "bigram", *TINY, cwd=tmp_path, check=0, **offline)
    kakehashi("start", "mine", cwd=tmp_path, check=0, **offline)
    kakehashi("grade", "bigram", cwd=tmp_path / "mine", check=1, **offline)
    done = kakehashi("data", "get", "names", cwd=tmp_path, KAKEHASHI_DATA="", KAKEHASHI_HOME=str(tmp_path), **offline)
    assert done.returncode == 2 and "KAKEHASHI_OFFLINE" in done.stderr
