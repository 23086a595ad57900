"""Predictors: threshold, calibration and baseline against formulas, and a small trained one beside its baseline."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictor_cases import PARTS, STRANGERS, clinc, trained_run

from kakehashi import training
from kakehashi.cli import console, models
from kakehashi.data import tables
from kakehashi.runs import Run, RunError
from kakehashi.work import predictor
from kakehashi.work.predictor import Baseline, Judged, Outside, PredictorError, Threshold, certainty, judging, page
from kakehashi.work.predictor.tool import Tool

# texts of few distinct scores, so that ties are common
ANSWERS = st.lists(st.tuples(st.integers(1, 8).map(lambda k: k / 8), st.booleans()), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    return trained_run(tmp_path_factory.mktemp("predictor"))


def arrays(answers: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    score, right = zip(*answers, strict=True)
    return np.array(score), np.array(right)


def noisy(n: int = 3000, n_classes: int = 5, sharper: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sharper` times too sure, and classes drawn from the honest ones."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (n, n_classes))
    chances = certainty.softmax(honest)
    classes = (chances.cumsum(1) > rng.random((n, 1))).argmax(1)
    return sharper * honest, classes


# --- Threshold ---


@given(ANSWERS, st.floats(0.01, 1))
def test_a_threshold_reaches_its_target_and_no_lower_one_does(answers, target):
    score, right = arrays(answers)
    found = Threshold.reaching(target, score, right)
    reaching = [value for value in set(score) if right[score >= value].mean() >= target]
    assert found.value == (min(reaching) if reaching else None)
    answered = found.answers(score)
    assert found.coverage == answered.mean()
    if reaching:
        assert found.precision == right[answered].mean() >= target
    else:
        assert found.precision is None and not answered.any()


@given(ANSWERS, ANSWERS)
def test_a_threshold_against_texts_of_no_class_deals_rightly_with_most(answers, others):
    score, right = arrays(answers)
    outside, _ = arrays(others)
    found = Threshold.between(score, right, outside)

    def rightly(value: float) -> int:
        return right[score >= value].sum() + (outside < value).sum()

    best = max(rightly(value) for value in {*score, *outside, math.inf})
    assert rightly(math.inf if found.value is None else found.value) == best


def test_a_precision_of_exactly_the_target_is_enough():
    score, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, True, False])
    assert Threshold.reaching(0.75, score, right).value == 0.6


@pytest.mark.parametrize("target", [0, -0.1, 1.01, math.nan])
def test_a_target_that_is_no_share_is_refused(target):
    with pytest.raises(PredictorError, match="above 0 and at most 1"):
        Threshold.reaching(target, np.ones(2), np.ones(2, dtype=bool))


# --- Calibration ---


def test_the_temperature_is_the_best_of_a_grid_and_undoes_what_made_logits_too_sure():
    logits, classes = noisy(sharper=3.0)
    found = certainty.temperature(logits, classes)
    grid = np.exp(np.linspace(math.log(0.1), math.log(10), 2001))
    best = min(grid, key=lambda each: certainty.nll(logits, classes, each))
    assert found == pytest.approx(best, rel=0.003)  # the grid's step is 0.0023
    assert found == pytest.approx(3.0, rel=0.1)
    assert certainty.nll(logits, classes, found) <= certainty.nll(logits, classes, best)


def test_where_all_are_right_there_is_no_best_temperature():
    assert certainty.temperature(np.eye(3), np.arange(3)) == 1.0


def test_probabilities_of_huge_logits_are_finite():
    probabilities = certainty.softmax(np.array([[1e4, 0.0, -1e4]]), 0.01)
    assert probabilities.tolist() == [[1.0, 0.0, 0.0]]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_the_calibration_error_is_as_its_formula_says(answers, n_bins):
    score, right = arrays(sorted(answers))
    n, total = len(score), 0.0
    for i in range(n_bins):  # the first n % n_bins bins hold one more
        begin = i * (n // n_bins) + min(i, n % n_bins)
        end = begin + n // n_bins + (i < n % n_bins)
        if end > begin:
            total += abs(right[begin:end].sum() - score[begin:end].sum())
    assert certainty.ece(score, right, n_bins) == pytest.approx(total / n, abs=1e-9)


def test_the_temperature_lowers_the_calibration_error_of_who_is_too_sure():
    logits, classes = noisy(sharper=3.0)
    before, after = Judged.by_itself("toy", logits, classes).ece
    assert after < 0.03 < 0.15 < before


# --- Judged ---


def test_the_mean_f1_is_that_of_scikit_learn():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(1)
    logits, classes = rng.normal(size=(50, 6)), rng.integers(0, 4, 50)
    judged = Judged.by_itself("toy", logits, classes)
    assert judged.macro_f1 == pytest.approx(f1_score(classes, logits.argmax(1), average="macro"))


def test_the_interval_is_that_of_the_paired_difference():
    rng = np.random.default_rng(2)
    one = rng.random(2000) < 0.9
    other = np.where(rng.random(2000) < 0.8, one, rng.random(2000) < 0.6)  # mostly right on the same texts
    gain = one.astype(int) - other
    error = 1.96 * gain.std() / math.sqrt(len(gain))
    low, high = judging.interval(one, other)
    assert low == pytest.approx(gain.mean() - error, abs=0.002)
    assert high == pytest.approx(gain.mean() + error, abs=0.002)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 60), (59, 60), (60, 60)])
def test_the_interval_of_a_share_holds_what_its_equation_says(k, n):
    """Its ends are the shares p from which k of n is 1.96 standard errors away."""
    ends = certainty.wilson(k, n)
    assert 0 <= ends[0] <= k / n <= ends[1] <= 1
    for p in ends:
        distance = abs(k / n - p)
        assert distance == pytest.approx(1.96 * math.sqrt(p * (1 - p) / n), abs=1e-9)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (5, 0), (6, 0), (3, 12), (40, 60)])
def test_chance_is_that_of_fair_coins(one, other):
    from scipy.stats import binomtest

    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert judging.by_chance(one, other) == pytest.approx(expected)


def test_a_few_texts_that_only_one_got_right_make_no_winner():
    def side(right: list[int]) -> Judged:
        return Judged.by_itself("toy", np.eye(2)[right], np.ones(18, dtype=int))

    made = predictor.Report("run", "val", 0.95, side([1] * 18), side([1] * 14 + [0] * 4))
    assert made.difference[0] > 0 and made.alone == (4, 0) and made.outcome == "close"
    said = page.sentences(made)
    assert "of 18 texts the model alone got 4 right, the baseline alone 0" in said[0]
    assert "with as few" in said[1]


@pytest.mark.parametrize(("model", "baseline", "outcome"), [(90, 60, "model"), (60, 90, "baseline"), (80, 79, "close")])
def test_who_is_right_more_often_wins_if_chance_does_not_explain_it(model, baseline, outcome):
    def side(n_right: int, shift: int) -> Judged:
        answers = np.roll(np.arange(100) < n_right, shift).astype(int)  # 1 is right
        return Judged.by_itself("toy", np.eye(2)[answers], np.ones(100, dtype=int))

    made = predictor.Report("run", "val", 0.95, side(model, 0), side(baseline, 30))
    assert made.outcome == outcome
    assert predictor.Report("run", "val", 0.95, side(model, 0), None).outcome == "alone"


def test_other_texts_are_judged_by_the_threshold_of_the_first():
    logits, classes = noisy()
    first = Judged.by_itself("toy", logits[:2000], classes[:2000], target=0.8)
    other = first.on(logits[2000:], classes[2000:])
    answered = certainty.scores(logits[2000:], first.temperature) >= first.threshold.value
    assert other.answered == answered.mean() and other.threshold == first.threshold
    assert other.precision == pytest.approx(0.8, abs=0.05)


def test_texts_of_no_class_are_told_by_a_threshold_from_validation():
    logits, classes = noisy()
    flat = np.random.default_rng(3).normal(0, 1, (1000, 5))
    val = Judged.by_itself("toy", logits[:1500], classes[:1500])
    found = Outside.of(val, flat[:500], val.on(logits[1500:], classes[1500:]), flat[500:])
    refused = certainty.scores(flat[500:], val.temperature) < found.threshold
    assert found.recall == refused.mean() > 0.5 and found.n == 500


# --- The baseline ---


@pytest.mark.parametrize(
    "texts",
    [
        ["カードを無くした", "ｶｰﾄﾞを紛失", "送金できない", "送金が届かない"],
        ["!!", "!?!", "...", "...."],  # no word in any
    ],
)
def test_the_baseline_learns_texts_with_and_without_words(texts):
    logits = Baseline(texts, np.array([0, 0, 2, 2]), 3).logits([*texts, ""])
    assert logits[:4].argmax(1).tolist() == [0, 0, 2, 2]  # class 1 was never seen
    assert np.isfinite(logits).all()
    assert certainty.softmax(logits)[:, [0, 2]].sum(1) == pytest.approx(1)


# --- A trained one ---


def test_a_run_is_judged_beside_its_baseline_and_keeps_what_was_found(trained, tmp_path):
    made = predictor.report(trained)
    assert made.model.accuracy > 0.9 and made.baseline.accuracy > 0.9
    found = trained.metrics()
    assert made.model.accuracy == pytest.approx(trained.summary()["right"])
    made.save(trained)
    kept = json.loads(Run.open(trained.path).read_extra("predictor.json"))
    assert kept["model"]["accuracy"] == made.model.accuracy and kept["baseline"]["name"].startswith("TF-IDF")
    assert b"<svg" in trained.read_extra("plots/reliability.html")
    assert trained.metrics() == found
    predictor.report(trained, baseline=False).save(trained)  # as `train --resume --no-baseline` does
    assert judging.kept(trained)["baseline"] == kept["baseline"]
    (trained.path / "predictor.json").write_text("[]", encoding="utf-8")
    made.save(trained)  # what was damaged is whole again
    assert judging.kept(trained) == kept


def test_classify_answers_with_the_temperature_that_was_found(trained, capsys):
    made = predictor.report(trained, baseline=False)
    path = trained.path / "predictor.json"
    made.save(trained)
    path.write_text(
        path.read_text(encoding="utf-8").replace(f'"temperature": {made.model.temperature}', '"temperature": 3.5')
    )
    models.classify_texts(Run.open(trained.path), ["my card"], "cpu")
    said = capsys.readouterr().out
    made.save(trained)
    expected = certainty.softmax(judging.answers_of(trained)(["my card"]), 3.5).max()
    assert f"card {expected:.1%}" in said


def test_classify_marks_what_the_tool_would_abstain_from(trained, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(models.console, "as_json", True)

    def classified(threshold) -> tuple[list[bool], str]:
        trained.write_extra("predictor.json", json.dumps(found | {"model": found["model"] | {"threshold": threshold}}))
        models.classify_texts(Run.open(trained.path), asked, "cpu")
        told = capsys.readouterr()
        return [each["abstain"] for each in json.loads(told.out)["texts"]], told.err

    asked = ["my card", *STRANGERS]
    made = predictor.report(trained, baseline=False)
    found = made.to_dict()
    predictor.export(trained, tmp_path / "tool", reviewed=True)
    tool = Tool(tmp_path / "tool")
    try:
        said, words = classified(made.model.threshold.value)
        assert said == [tool.predict(text)["abstain"] for text in asked] and {True, False} == {*said}
        assert [line.endswith("(unsure)") for line in words.splitlines()] == said
        (answer,) = [tool.predict(text) for text in asked[:1]]
        assert classified(answer["score"])[0][0] is False and classified(min(answer["score"] + 1e-5, 1))[0][0] is True
        assert classified(None)[0] == [True] * len(asked)  # no threshold reaches the target
    finally:
        (trained.path / "predictor.json").unlink()
    models.classify_texts(trained, asked[:1], "cpu")  # never judged
    assert json.loads(capsys.readouterr().out)["texts"][0]["abstain"] is None


def test_train_points_to_the_test_of_a_set_that_has_one(tmp_path, monkeypatch, capsys):
    clinc(tmp_path, monkeypatch)
    arguments = "train --data clinc150 --model encoder --preset encoder-tiny --steps 1 --no-baseline --root"
    with pytest.raises(SystemExit) as left:
        console.run([*arguments.split(), str(tmp_path)])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "encoder-clinc150-0001 --split test` measures on texts never looked at." in printed
    assert "60 texts to validate on are few" in printed


@given(st.floats(0, 1), st.floats(0, 1))
def test_whoever_scores_the_threshold_or_more_is_answered(score, threshold):
    assert not judging.abstains(max(score, threshold), threshold)
    assert judging.abstains(score, threshold) or score > threshold - 2e-6


def test_texts_of_no_class_are_left_to_a_person_more_often(trained):
    made = predictor.report(trained, baseline=False)
    score = certainty.scores(judging.answers_of(trained)(STRANGERS), made.model.temperature)
    assert made.model.threshold.answers(score).mean() + 0.5 < made.model.answered


# --- What must not be seen: a set of the form of clinc150 ---


@pytest.fixture(scope="module")
def judged_elsewhere(tmp_path_factory):
    """A run on a made set with its own test and texts of no class, and a report of the test; change: of the set."""
    folder = tmp_path_factory.mktemp("clinc")
    with pytest.MonkeyPatch.context() as patch:
        clinc(folder, patch)
        plan = training.plan("encoder", "clinc150", preset="encoder-tiny", steps=30, lr=0.01)
        run = training.train(plan.config, plan.create(folder), sources=plan.sources)

    def judge(change=lambda content: content) -> predictor.Report:
        with pytest.MonkeyPatch.context() as patch:
            clinc(folder, patch, change)
            patch.setattr(training, "open_split", lambda config: tables.read("clinc150").split(config.seed))
            return predictor.report(run, part="test")

    return judge


def other_labels(part: str):
    """The same texts, a third of them of the next class."""
    names = sorted(PARTS)

    def change(content: dict) -> dict:
        rows = [(text, names[(names.index(label) + (i % 3 == 0)) % 3]) for i, (text, label) in enumerate(content[part])]
        return content | {part: rows}

    return change


def others(part: str, like: str):
    """Texts of classes in the place of those of none."""
    return lambda content: content | {part: [(text, "oos") for text, _ in content[like][: len(content[part])]]}


def chosen(made: predictor.Report):
    return [(side.temperature, side.threshold) for side in made.sides], [each.threshold for each in made.outside]


def test_nothing_is_chosen_by_the_test(judged_elsewhere):
    honest = judged_elsewhere()
    shuffled = judged_elsewhere(other_labels("test"))
    assert chosen(shuffled) == chosen(honest)
    assert [side.accuracy for side in shuffled.sides] != [side.accuracy for side in honest.sides]
    strangers = judged_elsewhere(others("oos_test", "test"))
    assert chosen(strangers) == chosen(honest) and strangers.outside != honest.outside


def test_thresholds_are_chosen_by_validation_and_its_strangers(judged_elsewhere):
    honest = judged_elsewhere()
    shuffled = judged_elsewhere(other_labels("val"))
    for one, other in zip(honest.sides, shuffled.sides, strict=True):
        assert one.accuracy == other.accuracy and one.temperature != other.temperature != 1
    strangers = judged_elsewhere(others("oos_val", "val"))
    assert chosen(strangers)[0] == chosen(honest)[0] and chosen(strangers)[1] != chosen(honest)[1]


def test_the_baseline_learns_from_training_texts_alone(judged_elsewhere):
    honest, shuffled = judged_elsewhere(), judged_elsewhere(other_labels("val"))
    assert np.array_equal(honest.baseline.logits, shuffled.baseline.logits)
    learnt = judged_elsewhere(other_labels("train"))
    assert not np.array_equal(honest.baseline.logits, learnt.baseline.logits)


def test_a_run_of_another_task_is_refused(tmp_path):
    run = training.plan("bigram", "identifiers", steps=1).create(tmp_path)
    with pytest.raises(RunError, match="task lm"):
        predictor.report(run)


@pytest.mark.slow
def test_the_threshold_holds_on_texts_that_nothing_was_chosen_by(data_dir, tmp_path):
    plan = training.plan("encoder-tiny", "clinc150", steps=400, lr=0.01)
    run = plan.create(tmp_path)
    training.train(run.config, run, sources=plan.sources)
    made = predictor.report(run, part="test")
    assert made.n == 4500 and made.baseline.accuracy > 0.9
    assert made.baseline.precision == pytest.approx(0.95, abs=0.02)
    assert made.outside[1].recall > 0.35 and made.outside[1].accuracy > 0.85
