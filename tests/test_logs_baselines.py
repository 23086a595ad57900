"""Baselines on sessions small enough to judge by hand, and what must hold of any sessions."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi.work.logs import LogError
from kakehashi.work.logs.baselines import (
    ALL,
    END,
    UNKNOWN,
    Counts,
    EventOrLength,
    Forest,
    Length,
    NeverSeen,
    Ngrams,
    Sequences,
    threshold,
)

A, B, C, D = 2, 3, 4, 5
NORMAL = [(A, B, A, C), (A, B, C)]
SETS = [NeverSeen, Length, EventOrLength, Counts, Sequences, Ngrams]

session = st.lists(st.integers(2, 5), max_size=5).map(tuple)
sessions = st.lists(session, min_size=1, max_size=8)
scores = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.0, float("inf")]), min_size=1, max_size=30).map(np.array)


def alarms(method, tested) -> list[bool]:
    return (method.score(tested) > method.cut).tolist()


@pytest.mark.parametrize(
    "odd, expected",
    [
        ((A, B, A, C), ""),
        ((A, B, A, D), "event, event or length, counts, sequence, 2-gram"),  # another event, the usual length
        ((A, B), "length, event or length, counts, sequence, 2-gram"),  # broken off
        ((A, B, B, C), "counts, sequence, 2-gram"),  # another event that is known
        ((B, A, A, C), "sequence, 2-gram"),  # two in another order
        ((A, B, A, B, C), "length, event or length, counts, sequence"),  # a loop that went round once more
        ((), "length, event or length, counts, sequence, 2-gram"),
    ],
)
def test_each_baseline_sees_what_it_says_and_is_blind_to_the_rest(odd, expected):
    methods = [make().fit(NORMAL) for make in SETS]
    assert ", ".join(method.name for method in methods if alarms(method, [odd]) == [True]) == expected


def test_scores_count_what_was_never_seen():
    tested = [(A, D, D, UNKNOWN), (A, B, A, C)]
    assert NeverSeen().fit(NORMAL).score(tested).tolist() == [3, 0]
    assert EventOrLength().fit(NORMAL).score([*tested, (D,)]).tolist() == [3, 0, 2]
    assert Ngrams(2).fit(NORMAL).score([(A, B, B, C)]).tolist() == [1]  # B B
    assert Ngrams(3).fit(NORMAL).score([(A, B, B, C)]).tolist() == [2]  # A B B, B B C
    assert Ngrams(3).name == "3-gram"


@settings(max_examples=50)
@given(sessions, sessions)
def test_a_session_alarms_exactly_where_its_part_was_in_no_normal_one(normal, tested):
    def fired(make, part):
        return alarms(make().fit(normal), tested) == [all(part(s) != part(n) for n in normal) for s in tested]

    assert fired(Length, len)
    assert fired(Counts, Counter)
    assert fired(Sequences, tuple)
    known = {event for s in normal for event in s}
    assert alarms(NeverSeen().fit(normal), tested) == [bool(set(s) - known) for s in tested]
    pairs = [set(zip((END, *s), (*s, END), strict=True)) for s in normal + tested]
    seen = set().union(*pairs[: len(normal)])
    assert alarms(Ngrams(2).fit(normal), tested) == [bool(each - seen) for each in pairs[len(normal) :]]


@settings(max_examples=30)
@given(sessions)
def test_what_was_seen_in_fit_never_alarms(normal):
    assert not any(sum((alarms(make().fit(normal), normal) for make in SETS), []))


@settings(max_examples=30)
@given(sessions, session)
def test_an_unknown_event_alarms_even_where_fit_met_unknown_ones(normal, rest):
    odd = (UNKNOWN, *rest)
    for make in (NeverSeen, EventOrLength, Counts, Sequences, Ngrams):
        assert alarms(make().fit([*normal, odd]), [odd]) == [True]


def test_all_are_in_the_order_of_tables_and_give_a_score_a_session():
    methods = [make() for make in ALL]
    names = ["event", "length", "event or length", "counts", "sequence", "2-gram", "forest"]
    assert [method.name for method in methods] == names
    assert [method.cut is None for method in methods] == [False] * 6 + [True]
    for method in methods:
        scored = method.fit(NORMAL).score([(), (A,), (D, UNKNOWN)])
        assert (scored.dtype, scored.shape, method.score([]).shape) == (np.float64, (3,), (0,))


def test_the_forest_finds_counts_that_stand_apart_and_repeats_itself():
    rng = np.random.default_rng(0)
    normal = [(A,) * int(n) + (B,) * int(m) for n, m in rng.integers(3, 8, size=(200, 2))]
    tested = [(A,) * 5 + (B,) * 5, (A,) * 40 + (B,) * 5, (B, A) * 5, (A,) * 5 + (B,) * 5 + (D,)]
    usual, apart, turned, unseen = Forest().fit(normal).score(tested)
    assert apart > usual and usual == turned == unseen  # blind to order, and to events never seen
    assert Forest(1).fit(normal).score(tested).tolist() == Forest(1).fit(normal).score(tested).tolist()


@given(scores, st.floats(0, 1))
def test_a_threshold_is_the_smallest_that_at_most_the_share_exceeds(held_out, share):
    cut = threshold(held_out, share)
    assert (held_out > cut).mean() <= share + 1e-9
    lower = [value for value in held_out if value < cut]
    if lower:
        assert (held_out > max(lower)).mean() > share  # and whatever lies between is exceeded by the same ones


def test_a_threshold_of_29_of_100_lets_29_exceed_it():
    assert threshold(np.arange(100.0), 0.29) == 70  # 0.29 * 100 is 28.999999999999996
    assert threshold(np.arange(100.0), 0) == 99 and threshold(np.arange(100.0), 1) == -np.inf


@pytest.mark.parametrize("held_out, share, said", [([], 0.01, "no held-out"), ([1.0], 1.5, "between 0 and 1, got 1.5")])
def test_a_threshold_from_nothing_or_of_no_share_is_one_line(held_out, share, said):
    with pytest.raises(LogError, match=said):
        threshold(np.array(held_out), share)
