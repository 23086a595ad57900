"""Drills: a broken file in disguise, mended and named."""

import ast
import io
import tokenize

import pytest

from kakehashi import faults, source
from kakehashi.journey import drills, stations
from kakehashi.journey.drills import NoDrill
from kakehashi.journey.grading import Grader

FAULT = "mlp-norm-batch-statistics-in-eval"
GRADED = {station.module for station in stations.all()}
EACH = [fault for fault in faults.catalogue() if fault.module in GRADED]
ONE_OF_EACH_MODULE = {fault.module: fault.id for fault in EACH}.values()


def comments(text: str) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.COMMENT}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(each, marks=() if each.id in ONE_OF_EACH_MODULE else pytest.mark.slow, id=each.id) for each in EACH],
)
def test_every_fault_makes_a_drill_that_hides_it(fault):
    reference = source.read(fault.path)
    drill = drills.make(fault.id, seed=1)
    assert drill.station.module == fault.module and drill == drills.make(fault.id, seed=1)
    ast.parse(drill.source)
    plain = source.strip_comments(faults.inject(fault).source)
    assert drill.source not in (plain, source.strip_comments(reference))
    assert comments(drill.source) <= comments(source.strip_comments(reference))  # shapes alone
    assert drill.answer.cause == fault.cause and fault.cause in drill.choices and len(drill.choices) > 1
    assert drill.answer.symbol in source.symbols(drill.source)
    assert all(1 <= line <= len(drill.source.splitlines()) for line in drill.answer.lines)
    assert fault.id not in drill.source and drill.symptoms and drill.symptoms != drill.answer.explanation


def test_another_seed_is_another_disguise_of_the_same_fault():
    one, other = drills.make(FAULT, 1), drills.make(FAULT, 2)
    assert one.source != other.source and one.answer.cause == other.answer.cause


def test_a_drill_speaks_japanese():
    assert drills.make(FAULT, 1, "ja").symptoms == faults.texts(faults.find(FAULT), "ja")["symptom"]


def test_a_drill_is_passed_by_naming_the_cause_and_mending_the_file(tmp_path):
    drill = drills.make(FAULT, seed=3)
    right = drill.answer.cause
    wrong = next(cause for cause in drill.choices if cause != right)
    file = tmp_path / "drill.py"
    mended = source.disguise(source.read(faults.find(FAULT).path), seed=3)
    with Grader() as grader:
        file.write_text(drill.source, encoding="utf-8")
        broken = drills.grade(drill, file, right, grader)
        assert broken.named and not broken.passed and broken.grade.failures
        assert "given" not in {failure.key for failure in broken.grade.failures}  # the disguise is no change of theirs
        assert all(failure.symbol.startswith("BatchNorm") for failure in broken.grade.failures if failure.symbol)
        file.write_text(mended, encoding="utf-8")
        assert drills.grade(drill, file, right, grader).passed
        misnamed = drills.grade(drill, file, wrong, grader)
        assert misnamed.grade.passed and not misnamed.named and not misnamed.passed
        with pytest.raises(NoDrill, match="gremlins"):
            drills.grade(drill, file, "gremlins", grader)


def test_a_fault_that_no_station_grades_makes_no_drill(monkeypatch):
    monkeypatch.setattr(stations, "all", lambda: ())
    with pytest.raises(NoDrill, match="no station grades"):
        drills.make(FAULT, 1)
    with pytest.raises(faults.UnknownFault):
        drills.make("mlp-no-such", 1)
