"""Figures of alarms. The oracles are scikit-learn's metrics with weights a sample, and resamples drawn one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from kakehashi.work.logs import LogError
from kakehashi.work.logs.measures import distinct, figures, interval

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40).map(np.array)
shares = st.none() | st.floats(0.01, 0.99)


def weights(labels: np.ndarray, share: float | None) -> np.ndarray:
    if share is None:
        return np.ones(len(labels))
    return np.where(labels, share / max(1, labels.sum()), (1 - share) / max(1, (~labels).sum()))


def f1(alarms, labels, share=None) -> float:
    return metrics.f1_score(labels, alarms, sample_weight=weights(labels, share), zero_division=0)


@pytest.mark.filterwarnings("ignore:A single label")
@given(outcomes, shares)
def test_figures_are_those_of_scikit_learn_with_weights(drawn, share):
    alarms, labels = drawn.T
    found = figures(alarms, labels, share=share)
    words = {"sample_weight": weights(labels, share), "zero_division": 0}
    assert found.precision == pytest.approx(metrics.precision_score(labels, alarms, **words))
    assert found.recall == pytest.approx(metrics.recall_score(labels, alarms, **words))
    assert found.f1 == pytest.approx(f1(alarms, labels, share))
    assert found.specificity == pytest.approx(metrics.recall_score(~labels, ~alarms, **words))
    mcc = metrics.matthews_corrcoef(labels, alarms, sample_weight=words["sample_weight"])
    assert found.mcc == pytest.approx(mcc, abs=1e-6)
    assert found.per_1000 is None


def test_weighting_to_a_share_is_as_if_the_normal_sessions_were_more():
    alarms, labels = np.array([1, 1, 0, 1, 0, 0], bool), np.array([1, 1, 1, 0, 0, 0], bool)
    often = np.r_[np.arange(3), np.repeat(np.arange(3, 6), 10)]
    weighted, repeated = figures(alarms, labels, share=3 / 33), figures(alarms[often], labels[often])
    assert (weighted.f1, weighted.mcc) == pytest.approx((repeated.f1, repeated.mcc))


def test_false_alarms_are_per_1000_lines_of_the_log_as_weighted():
    alarms, labels = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)
    lines = np.array([70, 10, 10, 10])
    assert figures(alarms, labels, lines=lines).per_1000 == pytest.approx(1000 * 2 / 100)
    # a hundredth abnormal: of 100 sessions 66 false alarms, in 70 + 99 * 10 lines
    assert figures(alarms, labels, lines=lines, share=0.01).per_1000 == pytest.approx(1000 * 66 / 1060)


@settings(max_examples=20)
@given(outcomes, shares, st.sampled_from(["f1", "precision", "mcc"]))
def test_an_interval_is_ordered_repeats_and_grows_with_its_level(drawn, share, of):
    alarms, labels = drawn.T
    low, high = interval(alarms, labels, of=of, share=share)
    assert (low, high) == interval(alarms, labels, of=of, share=share)
    wider = interval(alarms, labels, of=of, share=share, level=0.99)
    assert -1 <= wider[0] <= low <= high <= wider[1] <= 1


@pytest.mark.parametrize("share", [None, 0.03])
def test_an_interval_is_that_of_resamples_drawn_session_by_session(share):
    rng = np.random.default_rng(1)
    labels = rng.random(300) < 0.3
    alarms = np.where(rng.random(300) < 0.15, ~labels, labels)
    resamples = rng.integers(0, 300, size=(1000, 300))
    drawn = [figures(alarms[i], labels[i], share=share).f1 for i in resamples]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert interval(alarms, labels, share=share) == pytest.approx((low, high), abs=0.02)
    assert low < f1(alarms, labels, share) < high


@given(st.lists(st.tuples(st.text("ab", max_size=2), st.booleans()), max_size=30))
def test_of_equal_sequences_with_one_label_the_first_stays(drawn):
    kept = distinct([text for text, _ in drawn], np.array([label for _, label in drawn], bool))
    assert [drawn[i] for i in kept] == list(dict.fromkeys(drawn))


def test_mistakes_are_one_line():
    with pytest.raises(LogError, match="alarms are of 2 sessions, labels of 3"):
        figures(np.zeros(2), np.zeros(3))
    with pytest.raises(LogError, match="between 0 and 1, got 2"):
        figures(np.zeros(3), np.zeros(3), share=2)
    with pytest.raises(LogError, match="no sessions"):
        interval(np.zeros(0), np.zeros(0))
