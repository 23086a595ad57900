"""The stations' checks are tested by wrong implementations: the catalogue's faults and the mutants beside this file.

And by right ones: disguises of the reference, and learners' files in other styles, must never be rejected.
"""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from kakehashi import faults, source
from kakehashi.autograd import Tensor
from kakehashi.journey import authoring, lm_checks, stations
from kakehashi.journey.checking import Wrong
from kakehashi.journey.matrix import failures, kill_matrix

pytestmark = pytest.mark.filterwarnings("ignore:var")  # of mutants that divide by n - 1

STATIONS = [station.id for station in stations.all()]
each_station = pytest.mark.parametrize("id", STATIONS, scope="module")  # one after the other: what is cached is shared
LEARNERS = sorted((Path(__file__).parent / "learners").glob("*.py"))
KEYS = {id: import_module(f"mutants.{id}").KEYS for id in STATIONS}
MUTANTS = {id: import_module(f"mutants.{id}").MUTANTS for id in STATIONS}
FURTHER = {id: vars(import_module(f"mutants.{id}")).get("FURTHER", {}) for id in STATIONS}

matrix = cache(lambda id: kill_matrix(stations.find(id)))


@cache
def verdicts(id: str) -> dict[str, list[dict]]:
    """What the checks of a station say to each mutant of its module."""
    station = stations.find(id)
    reference = source.read(station.reference)
    return {
        name: failures(station, source.inject(reference, edits).source, [station.owner(edits[0].symbol)])
        for name, (_, edits) in MUTANTS[id].items()
    }


@each_station
def test_every_fault_is_caught_and_named(id):
    assert matrix(id).survivors == [] and matrix(id).rate == 1
    for fault in faults.catalogue(id):
        assert KEYS[id][fault.id] in matrix(id).verdicts[fault.id].values(), fault.id


@each_station
def test_every_mutant_is_caught_and_named(id):
    for name, failed in verdicts(id).items():
        assert MUTANTS[id][name][0] in [verdict["key"] for verdict in failed], (name, failed)


def test_an_op_that_was_barred_is_back_after_an_error():
    checks = stations.imported(stations.find("ops").folder / "checks.py")
    with pytest.raises(Wrong, match="op_borrowed"), checks.barred("exp"):
        Tensor([0.0]).exp()
    assert Tensor([0.0]).exp().item() == 1


@pytest.mark.parametrize(
    "fault, check", [("ops-factors-swapped", "carries_a_gpt"), ("ops-fold-overwrites", "carries_a_convolution")]
)
def test_an_engine_on_wrong_ops_is_seen_to_be_wrong(fault, check):
    failed = failures(stations.find("ops"), faults.inject(faults.find(fault)).source, [], house=True)
    assert check in [verdict["check"] for verdict in failed]


@pytest.mark.parametrize(
    "fault, key",
    [
        ("bpe-tie-first-seen", "house_tokens"),
        ("bpe-left-to-right", "house_ids"),
        ("bpe-decoded-token-by-token", "house_story"),
    ],
)
def test_a_story_is_seen_to_be_written_with_wrong_parts(fault, key):
    failed = failures(stations.find("bpe"), faults.inject(faults.find(fault)).source, [], house=True)
    assert [verdict["key"] for verdict in failed] == [key]


@pytest.mark.slow
@pytest.mark.parametrize("id", [id for id in STATIONS if FURTHER[id]])
def test_further_mutants_are_caught_and_named(id):
    station = stations.find(id)
    reference = source.read(station.reference)
    for name, (key, edits) in FURTHER[id].items():
        failed = failures(station, source.inject(reference, edits).source, [station.owner(edits[0].symbol)])
        assert key in [verdict["key"] for verdict in failed], (name, failed)
        assert all(station.say(each["key"], each["values"], lang) for each in failed for lang in ("en", "ja"))


@pytest.mark.parametrize(
    "id, name",
    [
        ("value", "add-keeps-a-function"),
        ("bigram", "count-not-returned"),
        ("gpt2", "norm-not-returned"),
        ("gpt2", "gpt2-returns-a-tuple"),
        ("gpt2", "norm-weight-plain"),
        ("gpt2", "att-mask-inverted"),
    ],
)
def test_every_check_that_meets_such_a_mistake_says_the_same(id, name):
    assert {verdict["key"] for verdict in verdicts(id)[name]} == {MUTANTS[id][name][0]}


@each_station
def test_every_check_is_the_first_to_catch_something_or_says_why_it_stays(id):
    station = stations.find(id)
    first = {next(iter(failed)) for failed in matrix(id).verdicts.values()}
    first |= {failed[0]["check"] for failed in verdicts(id).values()}
    checks = stations.imported(station.folder / "checks.py")
    stay = {each.id for each in station.checks if "Stays:" in (getattr(checks, each.id).__doc__ or "")}
    assert {each.id for each in station.checks} - first == stay


@each_station
def test_what_the_checks_say_can_be_said_in_both_languages(id):
    station = stations.find(id)
    for failed in verdicts(id).values():
        for verdict in failed:
            for lang in ("en", "ja"):
                words = station.say(verdict["key"], verdict["values"], lang)
                for value in verdict["values"].values():  # code, or a dict that is shown
                    words = words.replace(str(value), "") or words
                assert words and "{" not in words


@each_station
def test_the_reference_passes_its_own_checks(id):
    station = stations.find(id)
    assert failures(station, source.read(station.reference), station.symbols, house=True) == []


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
@each_station
def test_a_disguised_reference_passes(id, seed):
    station = stations.find(id)
    disguised = source.disguise(source.read(station.reference), seed)
    assert failures(station, disguised, station.symbols, house=True) == []


def test_a_method_is_not_blamed_for_another_that_it_calls():
    station = stations.find("value")
    edits = (
        source.Edit("Value.__sub__", "return Value($...all)", "return self + -other"),
        source.Edit("Value.__add__", "(other, 1.0)", "(other, 2.0)"),
        source.Edit("Value.__neg__", "(self, -1.0)", "(self, 3.0)"),
    )
    wrong = source.inject(source.read(station.reference), edits).source
    assert failures(station, wrong, ["Value.__sub__"]) == []
    assert failures(station, wrong, ["Value.__add__"]) and failures(station, wrong, ["Value.__neg__"])


def test_a_layer_is_not_blamed_for_what_its_methods_do_wrong():
    station = stations.find("transformer")
    edits = (
        source.Edit("Attention.heads", "$cut.transpose(1, 2)", "$cut"),
        source.Edit("DecoderLayer.look_back", "$all.tril(N - T)", "$all"),
        source.Edit("DecoderLayer.look_at_source", "*state.source[self.layer]", "*state.source[0]"),
        source.Edit("Transformer.__init__", "self.encoder_norm = $norm", "pass"),
        source.Edit("Transformer.embed", "return $x", "return x[:1]"),
    )
    wrong = source.inject(source.read(station.reference), edits).source
    mistaken = {edit.symbol for edit in edits}
    classes = {symbol.split(".")[0] for symbol in mistaken}
    rest = [symbol for symbol in station.symbols if symbol.split(".")[0] in classes and symbol not in mistaken]
    assert failures(station, wrong, rest) == []


def test_methods_that_call_each_other_without_end_are_named_in_the_house():
    station = stations.find("value")
    edits = (
        source.Edit("Value.__sub__", "return Value($...all)", "return self + -other"),
        source.Edit("Value.__neg__", "return Value($...all)", "return 0 - self"),
    )
    circle = source.inject(source.read(station.reference), edits).source
    assert failures(station, circle, ["Value.__sub__", "Value.__neg__"]) == []
    assert failures(station, circle, [], house=True)[0]["key"] == "house_circle"


@pytest.mark.parametrize("file", LEARNERS, ids=[file.stem for file in LEARNERS])
def test_a_right_file_in_another_style_passes(file):
    station = stations.find(file.stem.rpartition("_")[0])
    assert failures(station, file.read_text(encoding="utf-8"), station.symbols, house=True) == []


@pytest.mark.parametrize("file", LEARNERS, ids=[file.stem for file in LEARNERS])
def test_a_file_in_another_style_is_no_copy(file):
    station = stations.find(file.stem.rpartition("_")[0])
    own, reference = (ast.parse(each.read_text(encoding="utf-8")) for each in (file, station.reference))
    bodies = [
        {ast.dump(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)} for tree in (own, reference)
    ]
    assert len(bodies[0] & bodies[1]) <= 1  # new_state has but one way


@each_station
def test_a_station_is_whole_in_both_languages(id):
    assert authoring.problems(stations.find(id)) == []


@each_station
def test_the_keys_of_the_checks_and_of_the_texts_are_the_same(id):
    station = stations.find(id)
    shared = {key.removeprefix("wrong ") for key in stations.SHARED.all("en")}
    own = {key.removeprefix("wrong ") for key in station.texts.all("en") if key.startswith("wrong ")}
    assert own == keys(station.folder / "checks.py", own) - shared
    assert keys(Path(lm_checks.__file__), set()) <= shared


def keys(path: Path, known: set[str]) -> set[str]:
    """The keys that a file of checks can raise: of Wrong("key"), of the mistakes given to suspect and normal, and those
    of the known ones that stand in it in another way."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & known
    for call in ast.walk(tree):
        name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
        if name == "Wrong":
            found |= {each.value for each in ast.walk(call.args[0]) if isinstance(getattr(each, "value", None), str)}
        elif name.startswith("suspect") or name == "normal":
            found |= {keyword.arg for keyword in call.keywords if keyword.arg not in (None, "tol")}
    return found


@each_station
def test_a_starter_is_blank_in_every_symbol(id):
    station = stations.find(id)
    reference = source.read(station.reference)
    starter = source.blank(reference, station.symbols)
    blank = source.empty(starter, reference, station.symbols)
    assert {station.owner(each) for each in blank} == set(station.symbols)
