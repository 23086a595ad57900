"""The stations' checks are tested by wrong implementations: the catalogue's faults and the mutants beside this file.

And by right ones: disguises of the reference, and learners' files in other styles, must never be rejected.
"""

import ast
from functools import cache
from pathlib import Path

import pytest
from mutants import MUTANTS

from kakehashi import faults, source
from kakehashi.journey import authoring, lm_checks, stations
from kakehashi.journey.matrix import failures, kill_matrix

pytestmark = pytest.mark.filterwarnings("ignore:var")  # of mutants that divide by n - 1

STATIONS = [station.id for station in stations.all()]
each_station = pytest.mark.parametrize("id", STATIONS, scope="module")  # one after the other: what is cached is shared
LEARNERS = sorted((Path(__file__).parent / "learners").glob("*.py"))

# What the checks must say to each fault of the catalogue, among other things.
KEYS = {
    "bigram-table-transposed": "count_transposed",
    "bigram-padding-counted": "count_padding",
    "bigram-smoothing-missing": "count_smoothing",
    "bigram-columns-normalised": "count_columns",
    "bigram-loss-mean-over-all": "loss_mean_over_all",
    "mlp-wrong-fan": "linear_fan",
    "mlp-gain-missing": "start_gain",
    "mlp-confident-start": "start_output_gain",
    "mlp-norm-eps-outside": "norm_eps_outside",
    "mlp-norm-batch-statistics-in-eval": "norm_batch_in_evaluation",
    "mlp-norm-running-statistics-in-training": "norm_running_in_training_after",
    "mlp-norm-momentum-swapped": "norm_momentum",
    "mlp-norm-running-variance-biased": "norm_biased",
    "mlp-norm-counts-padding": "model_norm_padding",
    "mlp-window-off-by-one": "window_self",
    "mlp-state-ignored": "model_state",
    "mlp-beginning-is-token-0": "model_beginning",
    "mlp-padding-is-context": "model_padding",
    "mlp-tanh-missing": "model_no_tanh",
    "mlp-loss-mean-over-all": "loss_mean_over_all",
    "mlp-loss-nothing-counted": "loss_nothing",
    "wavenet-dilation-grows-by-one": "model_dilations",
    "wavenet-dilation-ignored": "conv_neighbours",
    "wavenet-taps-swapped": "conv_swapped",
    "wavenet-window-centred": "conv_centred",
    "wavenet-gate-swapped": "block_swapped",
    "wavenet-gate-missing": "block_no_gate",
    "wavenet-tanh-missing": "block_no_tanh",
    "wavenet-residual-missing": "block_no_residual",
    "wavenet-residual-of-the-earlier": "block_earlier",
    "wavenet-skip-holds-the-stream": "block_skip",
    "wavenet-skips-of-the-first-tokens": "model_first_tokens",
    "wavenet-last-layer-alone": "model_last_layer",
    "wavenet-window-ends-early": "window_self",
    "wavenet-beginning-is-token-0": "model_beginning",
    "wavenet-padding-is-context": "model_padding",
    "wavenet-state-ignored": "model_state",
    "wavenet-head-is-linear": "model_no_relu_2",
    "wavenet-confident-start": "start_output_gain",
    "recurrent-rnn-tanh-missing": "rnn_no_tanh",
    "recurrent-rnn-weight-transposed": "rnn_transposed",
    "recurrent-gru-update-inverted": "gru_update_inverted",
    "recurrent-gru-gates-swapped": "gru_gates_swapped",
    "recurrent-gru-reset-on-input": "gru_reset_on_input",
    "recurrent-gru-reset-on-state": "gru_reset_on_state",
    "recurrent-lstm-forget-and-input-swapped": "lstm_forget_and_input",
    "recurrent-lstm-content-not-squashed": "lstm_content_bare",
    "recurrent-lstm-cell-shown-bare": "lstm_shown_bare",
    "recurrent-lstm-cell-handed-on-as-h": "lstm_handed_on_swapped",
    "recurrent-bias-hh-forgotten": "layer_bias_ih_twice",
    "recurrent-forget-bias-0": "forget_missing",
    "recurrent-forget-bias-on-the-input-gate": "forget_elsewhere",
    "recurrent-state-leaks-across-documents": "begins_ignored",
    "recurrent-cell-leaks-across-documents": "begins_leave_the_cell",
    "recurrent-state-emptied-in-every-row": "begins_everywhere",
    "recurrent-state-emptied-at-every-token": "model_forgets",
    "recurrent-padding-written": "padding_written",
    "recurrent-padding-from-the-wrong-end": "model_padding_columns",
    "recurrent-detach-missing": "model_history",
    "recurrent-history-cut-at-every-token": "layer_history",
    "recurrent-state-not-written-back": "model_state",
    "recurrent-state-of-the-first-layer": "window_future",
    "recurrent-dropout-in-evaluation": "model_dropout_in_evaluation",
    "recurrent-confident-start": "start_output_gain",
    "gpt2-mask-not-applied": "att_leak",
    "gpt2-mask-after-softmax": "att_after",
    "gpt2-mask-shows-next": "mask_future",
    "gpt2-mask-hides-self": "mask_self",
    "gpt2-mask-ignores-cache": "mask_cache",
    "gpt2-padding-seen": "heads_padding",
    "gpt2-scale-missing": "att_no_scale",
    "gpt2-softmax-over-queries": "att_queries",
    "gpt2-heads-cut-without-transpose": "heads_cut",
    "gpt2-heads-merged-without-transpose": "heads_merge",
    "gpt2-cache-not-read": "heads_cache_not_read",
    "gpt2-cache-swaps-keys-and-values": "heads_cache_swapped",
    "gpt2-cache-position-restarts": "model_position_restarts",
    "gpt2-cache-position-off-by-one": "model_positions_from_1",
    "gpt2-padding-shifts-positions": "model_padding_positions",
    "gpt2-no-positions": "model_no_positions",
    "gpt2-residual-missing": "block_residual",
    "gpt2-norm-after": "block_norm_after",
    "gpt2-norm-shared": "block_norm_shared",
    "gpt2-init-not-scaled": "start_not_scaled",
    "gpt2-norm-eps-outside": "norm_eps_outside",
    "gpt2-norm-sample-variance": "norm_sample_variance",
    "gpt2-final-norm-missing": "model_no_last_norm",
    "gpt2-gelu-missing": "mlp_linear",
    "gpt2-gelu-constant": "gelu_constants",
    "gpt2-dropout-in-eval": "mlp_dropout_in_evaluation",
    "gpt2-head-detached": "model_head_detached",
    "gpt2-loss-counts-padding": "loss_padding_counted",
    "gpt2-loss-mean-over-all": "loss_mean_over_all",
    "gpt2-loss-nothing-counted": "loss_nothing",
}

matrix = cache(lambda id: kill_matrix(stations.find(id)))


@cache
def verdicts(id: str) -> dict[str, list[dict]]:
    """What the checks of a station say to each mutant of its module."""
    station = stations.find(id)
    reference = source.read(station.reference)
    return {
        name: failures(station, source.inject(reference, edits).source, [station.owner(edits[0].symbol)])
        for name, (module, _, edits) in MUTANTS.items()
        if module == id
    }


@each_station
def test_every_fault_is_caught_and_named(id):
    assert matrix(id).survivors == [] and matrix(id).rate == 1
    for fault in faults.catalogue(id):
        assert KEYS[fault.id] in matrix(id).verdicts[fault.id].values(), fault.id


@each_station
def test_every_mutant_is_caught_and_named(id):
    for name, failed in verdicts(id).items():
        assert MUTANTS[name][1] in [verdict["key"] for verdict in failed], (name, failed)


@pytest.mark.parametrize(
    "name",
    ["count-not-returned", "norm-not-returned", "gpt2-returns-a-tuple", "norm-weight-plain", "att-mask-inverted"],
)
def test_every_check_that_meets_such_a_mistake_says_the_same(name):
    module, key, _ = MUTANTS[name]
    assert {verdict["key"] for verdict in verdicts(module)[name]} == {key}


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
                assert words and "{" not in words.replace(str(verdict["values"].get("code")), "")


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


@pytest.mark.parametrize("file", LEARNERS, ids=[file.stem for file in LEARNERS])
def test_a_right_file_in_another_style_passes(file):
    station = stations.find(file.stem.partition("_")[0])
    assert failures(station, file.read_text(encoding="utf-8"), station.symbols, house=True) == []


@pytest.mark.parametrize("file", LEARNERS, ids=[file.stem for file in LEARNERS])
def test_a_file_in_another_style_is_no_copy(file):
    station = stations.find(file.stem.partition("_")[0])
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
        elif name in ("suspect", "normal"):
            found |= {keyword.arg for keyword in call.keywords if keyword.arg not in (None, "tol")}
    return found


@each_station
def test_a_starter_is_blank_in_every_symbol(id):
    station = stations.find(id)
    reference = source.read(station.reference)
    starter = source.blank(reference, station.symbols)
    blank = source.empty(starter, reference, station.symbols)
    assert {station.owner(each) for each in blank} == set(station.symbols)
