"""Alarms: the worst first, those alike as one, never more than the budget, every session counted."""

import math
from collections import Counter
from dataclasses import replace

import logs_made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kakehashi.tokenizers.char import END
from kakehashi.tokenizers.words import UNKNOWN
from kakehashi.work.logs import alarms
from kakehashi.work.logs.detector import Detector
from kakehashi.work.logs.sessions import Session
from kakehashi.work.logs.vocabulary import Kinds

N = 120
BAD = {"missing": {1001, 1002}, "early": {1010}, "new": {1020, 1021, 1022}, "slow": {1030}}
BAD_SESSIONS = {str(number) for numbers in BAD.values() for number in numbers}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alarms")
    log = logs_made.write(folder / "normal.log", logs_made.made(N, 1))
    return Detector.fit(log, root=folder, steps=150)


@pytest.fixture(scope="module")
def judged(detector, tmp_path_factory):
    events = logs_made.made(60, 2, first=1000, **BAD)
    log = logs_made.write(tmp_path_factory.mktemp("odd") / "odd.log", events)
    return list(detector.judge(detector.sessions(log)))


def alarm(one, word, surprise, *, message=None):
    """A judged session as one that alarms at its record number `word`, with this surprise there."""
    surprises = np.zeros(len(one.words) + 1)
    surprises[word] = surprise
    place = [*one.places, len(one.session)][word]
    records = list(one.session.records)
    if message is not None:
        records[place] = replace(records[place], message=message)
    why = "new" if message else "end" if word == len(one.words) else "order"
    session = Session(one.session.key, records)
    odd = frozenset({"both", "model"})
    return replace(one, session=session, surprises=surprises, word=word, place=place, why=why, alarm=True, odd=odd)


@pytest.fixture(scope="module")
def normal(detector, judged):
    return next(each for each in judged if not each.alarm and len(each.session) > 5)


def test_each_planted_defect_is_an_alarm_that_says_why(detector, judged):
    found = alarms.rank(judged, detector)
    of = {number: each for each in found.alarms for number in BAD_SESSIONS if each.judged.session.key == number}
    new = next(each for number, each in of.items() if int(number) in BAD["new"])
    assert (new.judged.why, new.n_alike, new.rank) == ("new", 3, 1)
    assert [record.level for record in new.places] == ["ERROR"] * 3
    assert [each.kind for each in new.extra] == ["new"] and len(new.missing) <= 1
    slow = of["1030"]
    assert slow.judged.why == "parameter" and not slow.missing and not slow.extra
    assert (
        float(slow.number.written) > 2 * slow.number.most and f"took {slow.number.written} ms" in slow.places[0].message
    )
    assert not slow.expected and (slow.number.how, slow.number.name, slow.number.unit) == ("outside", "took", "ms")
    assert of["1010"].judged.why == "end"
    without = next(each for number, each in of.items() if int(number) in BAD["missing"])
    assert without.judged.why == "order" and without.n_alike == 2
    assert [each.template for each in without.missing] == ["Query for req-<*> took <*> ms"]


def test_expectations_are_likeliest_first_and_never_what_stands_for_nothing(detector, judged):
    for each in alarms.rank(judged, detector).alarms:
        chances = [p for _, p in each.expected]
        assert chances == sorted(chances, reverse=True) and sum(chances) <= 1 + 1e-9
        assert all(meaning.kind in {"event", "number", "end"} for meaning, _ in each.expected)


def test_the_table_counts_every_method_and_every_line(detector, judged):
    found = alarms.rank(judged, detector)
    odd = Counter(name for each in judged for name in each.odd)
    assert [row.method for row in found.table][:3] == ["both", "model", "parameter"]
    assert {row.method for row in found.table} == set(detector.held_out)
    n_lines = sum(len(each.session) for each in judged)
    assert (found.n_sessions, found.n_lines, found.n_alarms) == (len(judged), n_lines, odd["both"])
    for row in found.table:
        assert row.n_alarms == odd[row.method]
        assert row.share == pytest.approx(odd[row.method] / len(judged))
        assert row.per_1000_lines == pytest.approx(1000 * odd[row.method] / n_lines)
        assert row.held_out == detector.held_out[row.method]


def test_the_table_of_held_out_sessions_is_of_them_alone(detector):
    rows = alarms.held_out(detector)
    assert detector.n_held_out == N - int(0.8 * N)
    for row in rows:
        assert row.n_alarms == pytest.approx(row.held_out * detector.n_held_out)
        assert row.share == pytest.approx(row.held_out)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    surprises=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([3.0, 5.0, 9.0, math.inf])), max_size=25),
    budget=st.integers(1, 5),
)
def test_the_worst_kinds_come_first_and_all_are_counted(detector, normal, surprises, budget):
    found = alarms.rank([alarm(normal, word, surprise) for word, surprise in surprises], detector, budget)
    worst: dict[int, float] = {}
    for word, surprise in surprises:
        worst[word] = max(worst.get(word, 0.0), surprise)
    shown = [each.judged.word for each in found.alarms]
    assert len(found.alarms) == min(budget, len(worst)) and found.n_over == len(worst) - len(shown)
    values = [float(each.judged.surprises[each.judged.word]) for each in found.alarms]
    assert values == sorted(worst.values(), reverse=True)[: len(values)]
    assert [each.rank for each in found.alarms] == list(range(1, len(shown) + 1))
    for each in found.alarms:
        assert each.n_alike == sum(word == each.judged.word for word, _ in surprises)
    assert (found.over is not None) == (found.n_over > 0)


def test_new_lines_of_one_template_are_one_alarm(detector, normal):
    messages = ["disk 1 of host a is full", "disk 2 of host b is full", "the night is cold, said he"]
    found = alarms.rank([alarm(normal, 2, math.inf, message=message) for message in messages], detector)
    assert [each.n_alike for each in found.alarms] == [2, 1]


def test_alarms_after_the_same_event_are_alike_whatever_its_number_was(detector, normal):
    one = alarm(normal, 1, 5.0)
    alike = [replace(one, words=["E1", f"E1.1=b{i}", *normal.words], word=2) for i in (2, 5)]
    tally = alarms.Tally(detector, budget=3)
    assert [tally.add(each).count for each in alike] == [1, 2]
    assert [tally.first(each) for each in alike] == [True, False]


def test_a_number_within_its_range_is_not_said_to_be_outside(detector, normal):
    word = next(i for i, word in enumerate(normal.words) if "=b" in word)
    found = alarms.odd_number(replace(normal, word=word, place=normal.places[word], why="parameter"), detector)
    assert found.how == "inside" and found.least <= float(found.written) <= found.most


def test_of_equals_the_higher_level_comes_first(detector, normal):
    mild, grave = (alarm(normal, 2, math.inf, message=message) for message in ("one is odd", "two are quite odd"))
    grave.session.records[2] = replace(grave.session.records[2], level="ERROR")
    found = alarms.rank([mild, grave], detector)
    assert [each.places[0].message for each in found.alarms] == ["two are quite odd", "one is odd"]


def test_of_alarms_alike_the_first_of_the_worst_is_shown(detector, normal):
    alike = [alarm(normal, 1, surprise) for surprise in (5.0, 9.0, 9.0)]
    alike = [replace(each, session=Session(str(i), each.session.records)) for i, each in enumerate(alike)]
    (found,) = alarms.rank(alike, detector).alarms
    assert (found.judged.session.key, found.n_alike) == ("1", 3)


def test_memory_does_not_grow_with_the_alarms(detector, normal, monkeypatch):
    monkeypatch.setattr(alarms, "KINDS", 50)
    tally = alarms.Tally(detector, budget=3)
    words = normal.words
    for i in range(200):
        tally.add(replace(alarm(normal, 1, 5.0 + i % 7), words=[words[0], f"E{i}", *words[2:]]))
    assert len(tally._kinds) == 51 and len(tally._worst) == 4
    assert sum(kind.count for kind in tally._kinds.values()) == 200
    assert all(len(kind.places) <= alarms.PLACES for kind in tally._kinds.values())


def test_words_mean_templates_ranges_or_the_end(detector):
    assert alarms.meaning(END, detector).kind == "end" and alarms.meaning(UNKNOWN, detector).kind == "new"
    for id, places in detector.vocabulary.bins.items():
        template = detector.drain.groups[id].template
        assert alarms.meaning(f"E{id}", detector) == alarms.Meaning("event", template)
        for at, bins in places.items():
            if isinstance(bins, Kinds):
                continue
            for value in ((least + most) / 2 for least, most in zip(bins.edges, bins.edges[1:], strict=False)):
                found = alarms.meaning(f"E{id}.{at + 1}={bins.bin(value)}", detector)
                assert (found.template, found.place) == (template, at + 1)
                assert found.least <= value <= found.most
