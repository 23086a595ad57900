"""The benchmarks' own machinery: turns, goals, tables, the peer's model."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kakehashi import Mistake, models, training
from kakehashi.cli.app import app
from kakehashi.runs import Run
from kakehashi.training import TrainSettings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import benchmarks  # noqa: E402
from benchmarks import autograd, ladder, names, peer_lstm, peer_nanogpt, table, twins  # noqa: E402
from benchmarks.rows import measure  # noqa: E402


def row(goal: str = "", ours=(4.0, 1.0, 3.0), peer=(2.0, 1.0, 1.0)):
    called = []
    own, others = iter(ours), iter(peer)

    def one():
        called.append("ours")
        return next(own)

    def other():
        called.append("peer")
        return next(others)

    made = measure("speed", "s", one, other, repeats=3, command="run | it", peer_name="them", goal=goal)
    assert called == ["ours", "peer"] * 3
    return made


def test_ours_and_the_peer_run_in_turns_and_medians_are_compared():
    measured = row()
    assert (measured.ours, measured.peer, measured.spread) == (3.0, 1.0, (1.0, 4.0))
    assert measured.ratio == 2.0  # of 2, 1 and 3: turn by turn


@pytest.mark.parametrize(
    "goal, met",
    [
        ("ours < 3", False),
        ("ours <= 3", True),
        ("ratio >= 2", True),
        ("ratio >= 2.1", False),
        ("ours > 2", True),
        ("", None),
    ],
)
def test_a_goal_is_met_or_not(goal, met):
    assert row(goal).met is met


def test_json_holds_what_the_contract_says(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr("benchmarks.cli.FULL", {})
    monkeypatch.setattr("benchmarks.cli.PLAIN", {"one": lambda: iter([row("ours < 9")])})
    told = []
    result = json.loads(json.dumps(benchmarks.run("cli", full=True, tell=told.append)))
    assert set(result) == {"bench", "machine", "commit", "rows"} and result["bench"] == "cli" and len(told) == 1
    wanted = {"what", "ours", "peer", "peer_name", "ratio", "unit", "goal", "met", "repeats", "command"}
    assert wanted <= set(result["rows"][0]) and result["rows"][0]["met"] is True


def test_a_bench_rewrites_its_own_table_only(monkeypatch, tmp_path):
    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(table, "PAGE", page)
    table.write("one", "a machine", "abc", [row("ours < 9")])
    table.write("two", "a machine", "abc", [row()])
    page.write_text(page.read_text(encoding="utf-8") + "\nWritten by hand: 架け橋\n", encoding="utf-8")
    before = page.read_text(encoding="utf-8")
    table.write("one", r"another \1 machine", "def", [row("ours < 1")])
    after = page.read_text(encoding="utf-8")
    assert (
        r"another \1 machine." in after
        and "| def |" in after
        and "ours < 1: not met" in after
        and "ours < 9" not in after
    )
    begin, end = after.index("<!-- one:"), after.index("<!-- end of one -->")
    old_begin, old_end = before.index("<!-- one:"), before.index("<!-- end of one -->")
    assert (after[:begin], after[end:]) == (before[:old_begin], before[old_end:])


def test_rows_that_are_kept_stay_in_place_with_their_own_commit(monkeypatch, tmp_path):
    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(table, "PAGE", page)
    first, second, third = (replace(row("ours < 9"), what=what) for what in ("a | b", "c", "d"))
    table.write("one", "a machine", "old", [first, second])
    table.write("one", "a machine", "new", [replace(first, command="again")], keep=True)
    table.write("one", "a machine", "new", [third], keep=True)
    text = page.read_text(encoding="utf-8")
    cells = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [(line[2], line.split(" | ")[-1]) for line in cells] == [("a", "new |"), ("c", "old |"), ("d", "new |")]
    commands = [line for line in text.splitlines() if line.startswith("* ")]
    assert commands == ["* a | b: `again`", "* c: `run | it`", "* d: `run | it`"]
    table.write("one", "a machine", "new", [third])
    assert "* c:" not in page.read_text(encoding="utf-8")


def test_rows_of_another_machine_do_not_stay(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")
    table.write("one", "a machine", "abc", [replace(row(), what="old")])
    table.write("one", "a machine with more", "abc", [row()], keep=True)
    assert "| old |" not in table.PAGE.read_text(encoding="utf-8")


def test_a_row_is_in_the_page_before_the_next_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")

    def killed():
        yield replace(row(), what="measured")
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.cli.PLAIN", {"one": killed})
    with pytest.raises(KeyboardInterrupt):
        benchmarks.run("cli")
    assert "| measured |" in table.PAGE.read_text(encoding="utf-8")


def test_a_piece_alone_leaves_the_other_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")
    pieces = {name: lambda name=name: iter([replace(row(), what=name)]) for name in ("one", "two", "three")}
    monkeypatch.setattr("benchmarks.cli.PLAIN", {"one": pieces["one"]})
    monkeypatch.setattr("benchmarks.cli.FULL", {"two": pieces["two"], "three": pieces["three"]})
    benchmarks.run("cli", full=True)
    told = []
    benchmarks.run("cli", full=True, tell=lambda each: told.append(each.what), only=["two"])
    text = table.PAGE.read_text(encoding="utf-8")
    assert told == ["two"] and all(text.count(f"| {name} |") == 1 for name in ("one", "two", "three"))


def test_an_unknown_bench_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "there are cli, ladder, autograd, bpe, parity, work" in done.stderr


def test_an_unknown_piece_is_one_line():
    with pytest.raises(benchmarks.UnknownBench, match="no piece 'lstn'; it has gpt2-speed, .*, lstm, "):
        benchmarks.run("ladder", only=["lstn"])


def test_a_peer_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.autograd")
    monkeypatch.setitem(sys.modules, "micrograd", None)
    with pytest.raises(benchmarks.NotInstalled, match="bench autograd needs micrograd.*: python bootstrap.py install"):
        benchmarks.run("autograd")


@pytest.fixture
def few_names(monkeypatch, tmp_path):
    """The ladder on 40 made-up names, each there twice, with one step a run."""
    made_up = [first + last for first in "abcdefgh" for last in ("na", "ta", "li", "mo", "ri")]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(2 * made_up), encoding="utf-8")
    monkeypatch.setattr(names, "DATA", path)
    monkeypatch.setattr(names, "SEEDS", (1, 2))
    small = {"steps": 1, "batch_size": 4, "unit": "document"}
    rungs = {name: replace(rung, settings=rung.settings | small) for name, rung in names.RUNGS.items()}
    monkeypatch.setattr(names, "RUNGS", rungs)
    monkeypatch.setattr(ladder, "STEPS", 2)
    monkeypatch.setattr(ladder, "TURNS", 2)
    names.trained.cache_clear()
    yield path
    names.trained.cache_clear()


def test_a_rung_has_a_row_for_each_split(few_names):
    lecture, ours = names.losses("mlp")
    shared = names.planned("mlp", "lecture", 1).split.shared
    assert shared > 0 and f"lecture split, {shared:.0%} of validation names stand in training" in lecture.what
    assert names.planned("mlp", "distinct", 1).split.shared == 0 and "our split" in ours.what
    for split, row_ in (("lecture", lecture), ("distinct", ours)):
        losses = [names.trained("mlp", split, seed)[0] for seed in names.SEEDS]
        assert row_.ours == pytest.approx(sum(losses) / 2) and row_.spread == (min(losses), max(losses))
    assert lecture.goal == "ours <= 2.1" and not ours.goal


def test_minutes_train_nothing_twice(few_names, monkeypatch):
    monkeypatch.setattr(names, "RUNGS", {name: names.RUNGS[name] for name in ("bigram", "mlp")})
    monkeypatch.setattr(names, "SEEDS", (1,))
    for name in names.RUNGS:
        list(names.losses(name))
    monkeypatch.setattr(names, "lowest", None)
    five, ten = names.minutes()
    assert 0 < five.ours < ten.ours and five.goal == ten.goal == "ours <= 20"


@pytest.mark.parametrize("name", names.RUNGS)
def test_the_command_of_a_row_plans_the_same_run(name, monkeypatch, tmp_path):
    """The command line, asked what it would train, answers what the row trained."""
    planned = []

    def stop(*args, **settings):
        planned.append(training_plan(*args, **settings))
        raise Mistake("enough")

    training_plan = training.plan
    words = tmp_path / "words.txt"
    words.write_text("ana\n" * 400, encoding="utf-8")
    monkeypatch.setattr(names, "DATA", words)
    rung = names.RUNGS[name]
    monkeypatch.setitem(names.RUNGS, name, replace(rung, settings=rung.settings | {"unit": "document"}))
    expected = names.planned(name, "lecture", 2)
    monkeypatch.setattr(training, "plan", stop)
    with pytest.raises(SystemExit):
        app(names.command(name, "lecture", 2).split()[1:], standalone_mode=False)
    assert planned[0].config == expected.config


def test_the_lstms_race_is_run(few_names):
    (measured,) = ladder.lstm_speed()
    assert measured.repeats == 2 and measured.ours > 0 and measured.peer > 0 and measured.goal == "ratio >= 0.5"


def test_the_bench_of_bpe_is_run(monkeypatch):
    pytest.importorskip("tokenizers")
    from benchmarks import bpe

    text = "def get(self):\n    return self.value\n" * 200
    for name, value in {"TEXTS": {"code": lambda: text}, "VOCAB_SIZE": 300, "LONG_RUN": 100, "TURNS": 2}.items():
        monkeypatch.setattr(bpe, name, value)
    rows = [row for piece in bpe.PLAIN.values() for row in piece()]
    assert [row.goal for row in rows] == ["ratio <= 3", *2 * ["ours >= 2"], *3 * ["ours < 10"]]
    n_tokens = float(rows[1].what.split()[2])
    assert 0 < n_tokens < 1 and all(row.ours > 0 and row.repeats == 2 for row in rows)


def test_the_second_peer_learns_as_ours():
    """From the same weights: the same loss, and after a step of training the same weights."""
    family = models.find("recurrent")
    ours = family.Model(family.Config(vocab_size=11, n_embd=5, n_hidden=8, n_layers=2))
    peer = peer_lstm.LSTM(vocab_size=11, n_embd=5, n_hidden=8, n_layers=2, dropout=0.0)
    peer_lstm.take(peer, ours.state_dict())
    tokens, targets = torch.randint(1, 11, (3, 6)), torch.randint(11, (3, 6))
    tokens[:, 0], tokens[1, 4:], targets[1, 4:] = 0, 0, -100  # names begin with END, and are padded with it
    engine, settings = training.TorchEngine(), TrainSettings(lr=0.01)
    optimizer = engine.optimizer(ours, settings)
    loss = ours(tokens, targets).loss
    loss.backward()
    engine.clip_grad_norm_(optimizer, settings.clip)
    optimizer.step()
    (peers,) = peer_lstm.train(peer, [(tokens, targets)], lr=0.01)
    torch.testing.assert_close(peers, loss, rtol=1e-6, atol=1e-6)
    again = peer_lstm.LSTM(vocab_size=11, n_embd=5, n_hidden=8, n_layers=2, dropout=0.0)
    peer_lstm.take(again, ours.state_dict())
    for (name, got), expected in zip(peer.named_parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5, msg=name)


def test_the_peer_is_the_same_model():
    """Same parameters, same logits: the race is about the code."""
    family = models.find("gpt2")
    ours = family.Model(family.Config(vocab_size=11, block_size=8, n_layers=2, n_heads=2, n_embd=16, fused=True))
    peer = peer_nanogpt.GPT(peer_nanogpt.GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16))
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_()
    missing, unexpected = ours.load_state_dict(peer.state_dict(), strict=False)
    assert not missing and unexpected == ["lm_head.weight"]  # tied to wte in both
    x, y = torch.randint(11, (3, 8)), torch.randint(11, (3, 8))
    for got, expected in zip(ours(x, y), peer(x, y), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


# --- bench autograd ---

RACES = {
    "mlp": (autograd.mlp_steps, lambda: (np.ones((5, 64), np.float32), np.arange(5))),
    "gpt": (autograd.gpt_steps, lambda: autograd.text(2, 9)),
    "gpt, fused": (lambda: autograd.gpt_steps(fused=True), lambda: autograd.text(2, 9)),
    "cnn": (autograd.cnn_steps, lambda: autograd.digits(5)),
    "cnn, large": (lambda: autograd.cnn_steps(16), lambda: autograd.digits(5, 2)),
    "lstm": (autograd.lstm_steps, lambda: autograd.words(5)),
}


@pytest.mark.parametrize("name", RACES)
def test_both_of_a_race_take_the_same_steps(name):
    steps, batch = (make() for make in RACES[name])
    losses = [[step(*batch).item() for step in steps] for _ in range(4)]
    for ours, peers in losses:
        assert ours == pytest.approx(peers, rel=1e-4)
    assert losses[-1][0] < losses[0][0]


def test_tensors_and_both_engines_of_single_numbers_take_the_same_steps():
    (x, y), weights = autograd.moons()
    batch = x[:7], y[:7]
    steps = [
        autograd.tensor_steps(weights),
        *(autograd.scalar_steps(each, weights) for each in autograd.ENGINES.values()),
    ]
    losses = [[float(step(*batch).data) for step in steps] for _ in range(3)]
    for first, *others in losses:
        assert others == pytest.approx([first, first], rel=1e-9)
    assert losses[-1][0] < losses[0][0]


def test_made_up_names_are_padded_with_what_does_not_count():
    tokens, targets = autograd.words(50)
    assert tokens.shape == targets.shape == (50, 12) and not tokens[:, 0].any()
    for row_, wanted in zip(tokens, targets, strict=True):
        n = int((row_ != 0).sum())
        assert 3 <= n <= 11 and row_[1 : n + 1].all()
        assert wanted.tolist() == [*row_[1 : n + 1], 0, *[-100] * (11 - n)]


def test_a_race_is_run_with_all_threads_and_with_one(monkeypatch):
    monkeypatch.setattr(autograd, "SECONDS", 0)
    monkeypatch.setattr(autograd, "REST", 0)
    monkeypatch.setattr(autograd, "TURNS", 2)
    seen = []

    def step(*batch):
        seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        both = list(autograd.race("a step", (step, step), (), command="run", peer_name="them", goal="ratio <= 4"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert [each.what for each in both] == ["a step", "a step, 1 thread"] and seen == [2] * 8 + [1] * 8


def test_a_turn_is_as_many_steps_as_fit_and_the_first_does_not_count(monkeypatch):
    took = iter([9.0, 0.1, 0.1, 0.2, 0.4])
    clock = [0.0]

    def step():
        clock[0] += next(took)

    monkeypatch.setattr(autograd, "REST", 0)
    monkeypatch.setattr(autograd.time, "perf_counter", lambda: clock[0])
    assert autograd.pace(step) == pytest.approx(1000 * (0.1 + 0.1 + 0.2) / 3)


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its memory this way")


@linux
def test_the_rise_of_memory_is_its_peak():
    def work():
        peak = np.ones(64 << 20, np.uint8)
        del peak
        return np.ones(1 << 20, np.uint8)

    assert 63 < autograd.rise(work) < 72


@linux
def test_memory_that_only_the_collector_would_free_is_seen(monkeypatch):
    monkeypatch.setattr(autograd, "STEPS", 50)

    def circle():
        ring = [np.ones(2 << 20, np.uint8)]
        ring.append(ring)

    assert autograd.change(circle) > 2 > autograd.change(lambda: np.ones(2 << 20, np.uint8))


def test_what_is_measured_afresh_runs_in_a_process_of_its_own():
    assert autograd.fresh(os.getpid) != os.getpid()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("side", [0, 1])
def test_a_step_of_the_gpt_needs_more_memory_than_its_logits_and_hidden_layers(side):
    values = 12 * 64 * (65 + 4 * 4 * 128)  # float32
    assert autograd.fresh(autograd.peak_of_a_step, side, True) > 4 * values / 2**20


@pytest.mark.slow
def test_the_races_of_bench_autograd_give_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")
    for name, least in (("SECONDS", 0), ("REST", 0), ("TURNS", 1)):
        monkeypatch.setattr(autograd, name, least)
    races = autograd.PLAIN.keys() - {"memory"}
    rows = benchmarks.run("autograd", only=races)["rows"]
    assert all(each["ratio"] > 0 for each in rows)
    assert {each["command"] for each in rows} == {f"kakehashi bench autograd --only {piece}" for piece in races}


def test_the_twins_are_measured_on_images_that_they_are_trained_on(monkeypatch, tmp_path):
    for name, value in (("DATA", "digits"), ("SIZE", 8), ("PART", 40), ("MOMENTS", 2)):
        monkeypatch.setattr(twins, name, value)
    curve = twins.learnt("resnet20", 2, tmp_path)
    assert [step for step, _ in curve.errors] == [0, 1, 2]
    run = Run.open(tmp_path / "resnet20")
    images, _ = training.open_sources(run.config, run.codec)
    batch = next(images.whole(40))
    with torch.no_grad():
        answers = run.load_model()(torch.from_numpy(batch.inputs[0])).logits.argmax(1).numpy()
    assert min(error for _, error in curve.errors) == pytest.approx(np.mean(answers != batch.targets))


def test_the_twins_are_named_apart_where_their_curves_end_together():
    figure = twins.draw({net: twins.Curve(((0, 0.9), (1, 0.5), (2, 0.1)), 1.0) for net in twins.NETS})
    figure.draw_without_rendering()
    boxes = sorted((label.get_window_extent() for label in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 4 and all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))


# --- bench parity ---


@pytest.fixture
def parity(monkeypatch):
    """The bench on small models and batches."""
    pytest.importorskip("transformers")
    from benchmarks import parity

    sizes = {"block_size": 6, "n_layers": 2, "n_heads": 4, "n_embd": 16}
    monkeypatch.setattr(parity, "SIZES", {"gpt2": sizes, "llama": {**sizes, "n_kv_heads": 2, "n_hidden": 24}})
    family = models.find("resnet")
    monkeypatch.setitem(family.presets, "resnet18", replace(family.presets["resnet18"], widths=(8, 8, 12, 16)))
    family = models.find("transformer")
    small = replace(family.presets["transformer-small"], n_layers=1, n_heads=2, n_embd=8, n_hidden=12)
    monkeypatch.setitem(family.presets, "transformer-small", small)
    changed = {"VOCAB_SIZE": 11, "BATCH": 2, "IMAGES": (3, 3, 32, 32), "PAIRS": (2, 5), "TURNS": 2, "TRIES": 1}
    for name, value in changed.items():
        monkeypatch.setattr(parity, name, value)
    return parity


pairs = pytest.mark.parametrize("name", ["gpt2", "llama", "resnet", "transformer"])
quietly = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


@quietly
@pairs
def test_a_peer_with_our_weights_takes_the_same_steps(parity, name):
    model, batch, engine = parity.ours(name), parity.batch(name), training.TorchEngine()
    peer = parity.theirs(name, model)
    theirs = dict(peer.module.named_parameters())
    assert len(set(peer.names.values())) == len(list(model.parameters()))
    assert sum(p.numel() for p in theirs.values()) == sum(p.numel() for p in model.parameters())
    steps = [parity.training_step(engine, model, model), parity.training_step(engine, peer.module, peer.read)]
    losses = []
    for _ in range(3):
        losses.append([read(*batch).loss.item() for read in (model, peer.read)])
        for step in steps:
            step(*batch)
    for ours, others in losses:
        assert ours == pytest.approx(others, rel=1e-3)
    assert len({ours for ours, _ in losses}) == 3  # they move


@quietly
@pairs
def test_a_difference_of_numbers_is_seen(parity, name):
    model, batch = parity.ours(name), parity.batch(name)
    peer = parity.theirs(name, model)
    assert all(most <= 1e-4 for most in parity.differences(model, peer, batch).values())
    with torch.no_grad():
        last = list(model.parameters())[-1]
        last.add_(torch.arange(last.numel()).view_as(last) * 0.1)
    model.zero_grad(), peer.module.zero_grad()
    assert all(most > 1e-4 for most in parity.differences(model, peer, batch).values())


@quietly
def test_the_races_of_bench_parity_give_rows(parity):
    rows = [row for name in ("gpt2", "llama", "resnet", "transformer") for row in parity.PLAIN[name]()]
    assert [row.goal for row in rows] == [*4 * ["ratio >= 0.97"], "", ""] and all(row.ratio > 0 for row in rows)
    assert all(("sdpa" in row.peer_name) != ("eager" in row.peer_name) for row in rows[:4])
    assert {row.repeats for row in rows} == {2} and "bfloat16" in rows[1].what


@linux
@pytest.mark.slow
@pytest.mark.parametrize("peers", [False, True])
def test_a_step_needs_more_memory_than_three_times_its_logits(peers):
    parity = pytest.importorskip("benchmarks.parity")
    logits = parity.BATCH * parity.SIZES["gpt2"]["block_size"] * parity.VOCAB_SIZE
    assert autograd.fresh(parity.peak_of_a_step, "gpt2", peers) > 3 * 4 * logits / 2**20


@pytest.mark.slow
def test_muon_and_adamw_are_compared_at_their_best_rates(parity, monkeypatch):
    monkeypatch.setattr(parity, "STEPS", 2)
    (row,) = parity.muon()
    assert row.ours == min(parity.learnt("muon", lr) for lr in parity.RATES["muon"])
    assert row.peer == min(parity.learnt("adamw", lr) for lr in parity.RATES["adamw"])


def test_a_goal_of_two_parts_needs_both():
    assert row("ours >= 3, ratio > 1").met is True
    assert row("ours >= 3, ratio > 2").met is False
    assert row("ours >= 4, ratio > 1").met is False


def test_what_could_not_be_measured_is_said_and_fails_no_goal(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "PAGE", tmp_path / "benchmarks.md")
    missing = replace(row("ours < 9"), ours=None, spread=None, peer=None, ratio=None, why="there is no data")
    assert missing.met is None and table.line(missing).startswith("speed: not measured: there is no data")
    table.write("one", "a machine", "abc", [missing])
    assert "| speed | not measured | there is no data |" in table.PAGE.read_text(encoding="utf-8")


def test_a_row_has_a_table_of_its_own_below_which_stays_with_it(monkeypatch, tmp_path):
    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(table, "PAGE", page)
    details = [{"method": "a | b", "F1": 0.5, "interval": (0.25, 0.75)}, {"method": "c", "F1": 1.0, "interval": None}]
    first = replace(row("ours < 9"), what="first | one", details=details)
    table.write("one", "a machine", "abc", [first, replace(row(), what="second")])
    below = r"""### first | one

| method | F1 | interval |
|---|---|---|
| a \| b | 0.5 | 0.25 to 0.75 |
| c | 1 |  |
"""
    assert page.read_text(encoding="utf-8").count(below) == 1
    before = page.read_text(encoding="utf-8")
    table.write("one", "a machine", "def", [replace(row(), what="second", details=details[1:])], keep=True)
    table.write("one", "a machine", "abc", [replace(row(), what="second")], keep=True)
    assert page.read_text(encoding="utf-8") == before
    table.write("one", "a machine", "abc", [replace(first, details=())], keep=True)
    assert "###" not in page.read_text(encoding="utf-8")
