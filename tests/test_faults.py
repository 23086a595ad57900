"""Faults: each applies once, is alive in what it says it changes and nothing else, and does not give itself away."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from kakehashi import faults, models, source
from kakehashi.faults import FIELDS, KINDS, Fault, UnknownFault
from kakehashi.faults.liveness import compare
from kakehashi.faults.taxonomy import TAXONOMY
from kakehashi.source import DoesNotApply, Edit
from kakehashi.texts import Texts

LEARNERS = Path(__file__).parent / "learners"
EACH = faults.catalogue()
MODULES = {fault.stem: fault for fault in EACH}
FEW = {fault.category: fault.id for fault in EACH}.values()  # the last of each category


def every_fault(slow: bool = False):
    """All faults; with slow, all but a few are left to the slow tests."""
    marks = [() if not slow or each.id in FEW else pytest.mark.slow for each in EACH]
    return pytest.mark.parametrize(
        "fault", [pytest.param(each, marks=mark, id=each.id) for each, mark in zip(EACH, marks, strict=True)]
    )


def shows_what_it_declares(fault: Fault, seen: faults.Liveness) -> None:
    assert seen.changed == tuple(kind for kind in KINDS if kind in fault.changes)
    assert bool(seen.crashed) == fault.crashes, seen.crashed


def test_there_are_faults_of_every_model():
    counts = Counter(fault.stem for fault in EACH)
    to_come = {"encoder"}  # with its station
    assert set(models.NAMES) - to_come <= set(counts) and min(counts.values()) >= 5
    assert len({fault.id for fault in EACH}) == len(EACH)
    assert all(fault.id.startswith(f"{fault.stem}-") and fault.path.is_file() for fault in EACH)
    assert faults.catalogue("kakehashi.models.gpt2") == faults.catalogue("gpt2")


def test_every_fault_has_a_cause_of_the_taxonomy_and_changes_something():
    for fault in EACH:
        assert fault.cause in TAXONOMY[fault.category], fault.id
        assert fault.changes and set(fault.changes) <= set(KINDS) and fault.level in (1, 2, 3)


@every_fault()
def test_a_fault_is_alive_in_what_it_declares_and_nothing_else(fault):
    shows_what_it_declares(fault, faults.alive(fault))


@every_fault(slow=True)
def test_a_disguise_keeps_a_fault_alive(fault):
    healthy = source.read(fault.path)
    for seed in range(3) if fault.id not in FEW else [1]:
        shows_what_it_declares(fault, compare(fault, healthy, faults.inject(fault, seed).source))


@pytest.mark.parametrize("fault", MODULES.values(), ids=MODULES)
def test_the_probe_sees_nothing_in_an_equivalent_file(fault):
    healthy = source.read(fault.path)
    assert compare(fault, healthy, source.disguise(healthy, seed=5)).changed == ()


def test_the_probe_compares_bits():
    slightly = Edit("LayerNorm.forward", "self.weight", "(self.weight * (1 + 1e-6))")
    fault = Fault("gpt2-tiny", "layernorm", "scale_parameter", "kakehashi.models.gpt2", (slightly,), ("logits",), 3)
    assert "logits" in faults.alive(fault).changed


@every_fault()
def test_a_fault_does_not_give_itself_away(fault):
    """No statement that does nothing, no local that only the fault left unused, no comment that the reference lacks."""
    healthy, faulty = source.read(fault.path), faults.inject(fault).source
    tree = ast.parse(faulty)
    assert ast.dump(tree) != ast.dump(ast.parse(healthy))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            assert ast.unparse(node.targets[0]) != ast.unparse(node.value)
        assert not isinstance(node, ast.Pass)
    assert unused(tree) <= unused(ast.parse(healthy))
    lines = {line.strip() for line in healthy.splitlines()}
    assert all(line.strip() in lines for line in faulty.splitlines() if line.strip().startswith("#"))


def unused(tree: ast.AST) -> set[str]:
    """Locals of functions that are bound and never read."""
    found = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
            read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
            found |= {f"{function.name}.{node.id}" for node in names if node.id not in read}
    return found


@every_fault()
def test_a_fault_has_words_in_both_languages(fault):
    for lang in ("en", "ja"):
        words = faults.texts(fault, lang)
        assert tuple(words) == FIELDS
        assert words["symptom"] not in (words["title"], words["explanation"])


@pytest.mark.parametrize("stem", MODULES)
def test_the_texts_are_whole_and_belong_to_faults(stem):
    words = Texts(faults.HERE / f"{stem}.{{lang}}.toml")
    assert words.problems() == []
    assert {key.rpartition(".")[0] for key in words.all("en")} == {fault.id for fault in faults.catalogue(stem)}


def test_liveness_is_measured_on_a_file_of_another_style():
    fault = faults.find("gpt2-gelu-constant")
    own = (LEARNERS / "gpt2_buffers.py").read_text(encoding="utf-8")
    whole, _ = source.composed(own, source.read(fault.path))
    assert faults.alive(fault, whole).changed == ("loss", "logits", "grad", "state")
    with pytest.raises(DoesNotApply):
        faults.alive(faults.find("gpt2-softmax-over-queries"), whole)


def test_an_unknown_fault_is_answered_with_those_near_it():
    with pytest.raises(
        UnknownFault, match="no fault is called 'bigram-transposed'; near it: bigram-table-transposed, "
    ):
        faults.find("bigram-transposed")


def test_listing_faults_needs_no_torch():
    code = (
        "import sys; from kakehashi import faults; faults.inject(faults.catalogue()[0]); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
