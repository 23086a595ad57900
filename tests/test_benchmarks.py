"""The benchmarks' own machinery: turns, goals, tables, the peer's model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kakehashi import models

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import benchmarks  # noqa: E402
from benchmarks import peer_nanogpt, table  # noqa: E402
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
    monkeypatch.setattr("benchmarks.cli.plain", lambda: iter([row("ours < 9")]))
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
    assert r"another \1 machine, commit def" in after and "ours < 1: not met" in after and "ours < 9" not in after
    begin, end = after.index("<!-- one:"), after.index("<!-- end of one -->")
    old_begin, old_end = before.index("<!-- one:"), before.index("<!-- end of one -->")
    assert (after[:begin], after[end:]) == (before[:old_begin], before[old_end:])


def test_an_unknown_bench_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 2 and "there are cli, ladder" in done.stderr and done.stderr.count("\n") == 1


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
