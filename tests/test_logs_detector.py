"""The log detector: words, surprise, verdicts, and what is kept in the run."""

import gzip
import json
import shutil
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logs_made import made, write

from kakehashi import inference, models, training
from kakehashi.runs import Run
from kakehashi.tokenizers.words import UNKNOWN, WordTokenizer
from kakehashi.work.logs import Config, Drain, LogError, Masks, Notes, Record, read
from kakehashi.work.logs.alarms import odd_number
from kakehashi.work.logs.baselines import threshold
from kakehashi.work.logs.detector import Detector
from kakehashi.work.logs.grouping import Grouping
from kakehashi.work.logs.nearest import Normal, distances
from kakehashi.work.logs.readings import Readings
from kakehashi.work.logs.surprise import Surprise
from kakehashi.work.logs.verdict import SLACK, Verdicts, _looped, _most
from kakehashi.work.logs.vocabulary import Bins, Kinds, as_read, kindly, measured, named, number

FIRST = 1000  # the number of the first session of a log to scan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def log(folder):
    return write(folder / "normal.log", made(300, seed=1))


@pytest.fixture(scope="module")
def detector(folder, log):
    return Detector.fit(log, root=folder / "runs", name="fitted", steps=200)


@pytest.fixture
def copied(detector, tmp_path):
    """The same detector in a run of the test's own."""
    return Detector.load(shutil.copytree(detector.run.path, tmp_path / "copied"))


def judged(detector, path, **defects):
    """What is said of 40 sessions, of which those numbered have a defect, by their number."""
    named = {name: [FIRST + i for i in numbers] for name, numbers in defects.items()}
    write(path, made(40, seed=2, first=FIRST, **named))
    return {int(each.session.key) - FIRST: each for each in detector.judge(detector.sessions(path))}


def template(detector, word):
    return detector.drain.groups[int(word[1:])].template


# --- What it finds ---


@pytest.mark.parametrize(
    ("defect", "why", "there", "expected"),
    [
        ("missing", "order", "Sent", "Query"),
        ("swapped", "order", "Sent", "Query"),
        ("early", "end", None, None),
        ("new", "new", "Checksum", None),
        ("slow", "parameter", "Query", None),
    ],
)
def test_a_defect_alarms_with_its_cause_its_place_and_what_was_expected(
    detector, tmp_path, defect, why, there, expected
):
    found = judged(detector, tmp_path / "log", **{defect: [7, 31]})
    assert {i for i, each in found.items() if each.alarm} == {7, 31}
    for each in (found[7], found[31]):
        assert each.why == why
        records = each.session.records
        if there is None:
            assert each.place == len(records) and each.word == len(each.words)
        else:
            assert records[each.place].message.startswith(there) and each.places[each.word] == each.place
        words = dict(detector.surprise.expected(" ".join(each.words), each.word, 3))
        if expected:
            assert any(template(detector, word).startswith(expected) for word in words if word != "<|end|>")
        assert each.words[each.word : each.word + 1] != [max(words, key=words.__getitem__)]


@pytest.mark.parametrize(
    ("name", "level", "usual"),
    [("hit", "FATAL", "INFO"), ("sent", "WARN", "INFO"), ("sent", "NOTICE", None), ("failed", "FATAL", "ERROR"),
     ("failed", "WARN", None), ("retry", "ERROR", "WARNING")],
)  # fmt: skip
def test_a_known_line_at_a_worse_level_than_ever_alarms(detector, tmp_path, name, level, usual):
    events = made(40, seed=2, first=FIRST)
    at = [i for i, event in enumerate(events) if event.name == name][-1]
    events[at] = replace(events[at], level=level)
    found = list(detector.judge(detector.sessions(write(tmp_path / "log", events))))
    (alarm,) = [each for each in found if int(each.session.key) == events[at].session]
    assert (alarm.alarm and alarm.why == "level") == (usual is not None)
    if usual:
        assert alarm.session.records[alarm.place].message == events[at].message
        assert alarm.session.records[alarm.place].usual == usual
    assert sum(each.why == "level" for each in found) == (usual is not None)
    assert all(each.example.message != events[at].message for each in detector.pending)  # its template is known


def test_normal_sessions_rarely_alarm(detector, tmp_path):
    path = write(tmp_path / "log", made(300, seed=3, first=FIRST))
    alarms = [each for each in detector.judge(detector.sessions(path)) if each.alarm]
    assert len(alarms) <= 6  # 2%; the held-out sessions are only 60


def test_no_threshold_alarms_for_more_of_what_was_held_out_than_was_allowed(detector):
    assert detector.n_held_out == 60 and set(detector.held_out) >= {"event", "counts", "forest", "model", "both"}
    assert all(0 <= share <= 1 for share in detector.held_out.values())
    for name in ("model", "parameter", "forest"):
        assert detector.held_out[name] <= 0.01


def test_a_record_without_a_session_is_counted_by_its_level(detector, log, tmp_path):
    list(detector.sessions(write(tmp_path / "log", made(40, seed=2, heartbeat=5.0))))
    assert set(detector.outside) == {"INFO"} and detector.outside["INFO"] > 0
    assert detector.skipped > 0 and detector.n_records == sum(1 for _ in read(log))


def test_records_and_paths_give_the_same(detector, tmp_path):
    path = write(tmp_path / "log", made(40, seed=2))
    forms = (path, [path], iter([path]), read(path), list(read(path)))
    keys = [[(each.key, len(each)) for each in detector.sessions(form)] for form in forms]
    assert all(each == keys[0] for each in keys) and len(keys[0]) == 40
    assert list(detector.sessions([])) == []


def test_a_verdict_does_not_depend_on_the_neighbours_of_a_session(detector, tmp_path):
    found = judged(detector, tmp_path / "log", swapped=[3])
    for each in list(found.values())[:10]:
        (alone,) = detector.judge([each.session])
        assert alone.odd == each.odd and alone.why == each.why
        np.testing.assert_allclose(alone.surprises, each.surprises, atol=1e-4)


# --- Surprise ---


def by_hand(surprise, text):
    """-log p of each word and of the end, one window after the other, one word at a time."""
    tokens = [*surprise.tokenizer.encode(text), 0]
    found = []
    for i, token in enumerate(tokens):
        start = i - i % surprise.window
        before = torch.tensor([[0, *tokens][start : i + 1]])
        with torch.no_grad():
            found.append(-float(surprise.model(before).logits[0, -1].log_softmax(-1)[token]))
    return found


@pytest.mark.parametrize(("name", "window"), [("lstm-logs", 4), ("lstm-logs", 50), ("gpt2", 8), ("mlp", 8)])
def test_surprise_is_the_models_negative_log_probability(name, window):
    family = models.find(name)
    config = family.presets.get(name) or next(iter(family.presets.values()))
    small = {"gpt2": {"block_size": window, "n_layers": 1, "n_heads": 2, "n_embd": 8}}.get(name, {})
    tokenizer = WordTokenizer.train(["E1 E2 E3 E4 E4.1=b1 E4.1=b8"])
    torch.manual_seed(0)
    model = family.Model(replace(config, vocab_size=tokenizer.vocab_size, **small))
    surprise = Surprise(model, tokenizer, window)
    texts = ["E1 E2 E3 E4 E4.1=b8 E1 E1 E2 E3 E9", "", "E4", "E2 E3 E1 E2 E4 E4.1=b1 E3", "E1 E2 E3"]
    for text, found in zip(texts, surprise.of(texts), strict=True):
        assert len(found) == len(text.split()) + 1
        np.testing.assert_allclose(found, by_hand(surprise, text), atol=1e-4)
        for place, nats in enumerate(found):
            words = dict(surprise.expected(text, place, tokenizer.vocab_size))
            said = [*text.split(), "<|end|>"][place]
            assert UNKNOWN not in words
            if said in words:
                assert -np.log(words[said]) == pytest.approx(nats, abs=1e-4)
    assert surprise.of([]) == []


def test_a_loop_that_does_not_end_alarms_at_the_first_round_too_many(detector, tmp_path):
    found = judged(detector, tmp_path / "log", repeated=[7, 31])
    assert {i for i, each in found.items() if each.alarm} == {7, 31}
    for each in (found[7], found[31]):
        reads = [i for i, record in enumerate(each.session.records) if record.message.startswith("Reading")]
        if each.why == "loop":
            assert each.place == reads[4] and each.places[each.word] == each.place
    assert "loop" in {found[7].why, found[31].why}


@given(
    st.lists(st.lists(st.integers(2, 4), max_size=8), min_size=1, max_size=4), st.lists(st.integers(2, 5), max_size=14)
)
def test_a_loop_is_an_event_far_more_often_than_in_any_normal_session(normal, session):
    most = {event: max(each.count(event) for each in normal) for each in normal for event in each}
    many = [event for event, n in most.items() if session.count(event) > max(1.5 * n, n + 2)]
    place = _looped(tuple(session), _most(map(tuple, normal)))
    assert (place is not None) == bool(many)
    if place is not None:
        assert session[place] in many and session[:place].count(session[place]) == most[session[place]]


def test_a_number_outside_what_was_learnt_does_not_disturb_what_follows():
    assert as_read("E4 E4.1=over E4.2=far-under E5") == "E4 E4.1=b8 E4.2=b1 E5"
    assert as_read("E4.1=under E4.2=far-over") == "E4.1=b1 E4.2=b8"
    assert as_read("E4 E4.1=new E5") == "E4 E5"


def test_a_number_is_far_beyond_half_of_the_range():
    bins = Bins((0.0, 4.0, 10.0))
    names = {-5.1: "far-under", -5.0: "under", -0.1: "under", 10.1: "over", 15.0: "over", 15.1: "far-over"}
    assert {value: bins.bin(value) for value in names} == names


# --- Sessions of which a part is elsewhere ---


def test_sessions_that_were_running_when_the_log_begins_do_not_alarm_for_what_they_lack(detector, tmp_path):
    whole = write(tmp_path / "log", made(200, seed=2, first=FIRST, slow=[FIRST + 5]))
    text = whole.read_text(encoding="utf-8").splitlines(True)
    begun = next(i for i, line in enumerate(text) if f"Accepted req-{FIRST + 5}" in line)
    late = next(i for i, line in enumerate(text) if f"Accepted req-{FIRST + 150}" in line)
    (tmp_path / "log").write_text("".join(text[begun + 1 : late] + text[late + 1 :]), encoding="utf-8")
    found = list(detector.judge(detector.sessions(tmp_path / "log")))
    middle = {each.session.key for each in found if not each.session.records[0].message.startswith("Accepted")}
    assert f"{FIRST + 5}" in middle and f"{FIRST + 150}" in middle
    assert detector.n_running == len(middle) - 1
    alarms = {each.session.key: each.why for each in found if each.alarm and each.session.key in middle}
    assert alarms == {f"{FIRST + 5}": "parameter", f"{FIRST + 150}": "order"}
    judged(detector, tmp_path / "whole")
    assert detector.n_running == 0


@pytest.mark.parametrize("why", ["full", "crowded", "end", "idle"])
def test_the_end_of_a_session_that_goes_on_elsewhere_says_nothing(detector, tmp_path, why):
    session = replace(judged(detector, tmp_path / "log", early=[7])[7].session, why=why)
    (found,) = detector.judge([session])
    goes_on = why in ("full", "crowded")
    assert (found.surprises[-1] == 0) == goes_on and found.alarm == (not goes_on)


# --- Numbers ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [("12", 12), ("-3.5", -3.5), ("1,234.5", 1234.5), ("12ms", 0.012), ("2s", 2), ("4KB", 4000), ("7%", 7)],
)
def test_numbers_are_read_with_their_units(value, expected):
    assert number(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["", "10.0.0.1", "0x1f", "ms", "12 ms", "1e5", "१२"])
def test_what_is_no_decimal_is_no_number(value):
    assert np.isnan(number(value))


@given(st.lists(st.integers(0, 50), min_size=20, max_size=300), st.floats(-200, 200))
def test_bins_cover_the_range_and_none_is_empty(values, other):
    bins = Bins.of(np.array(values, dtype=float))
    names = {bins.bin(value) for value in values}
    assert len(names) == len(bins.edges) - 1 and "b8" in names and names <= {f"b{i}" for i in range(1, 9)}
    least, most = min(values), max(values)
    away = max(least - other, other - most, 0)
    name = bins.bin(other)
    assert name.endswith("under") == (other < least) and name.endswith("over") == (other > most)
    assert name.startswith("far") == (away > (most - least) / 2)


def test_only_a_number_whose_range_holds_gets_bins():
    rng = np.random.default_rng(0)
    readings = Readings()
    for i in range(500):
        latency, clock, choice = float(rng.integers(50)), float(i), float(rng.integers(5))
        address = float("nan")
        rare = float(i) if i % 3 == 0 else float("nan")
        readings.add([readings.note(7, (latency, clock, choice, address, rare)), readings.note(8, ())])
    no, yes = {7: 5 * (False,), 8: ()}, {7: 5 * (True,), 8: ()}
    bins = readings.bins(yes, no)
    assert list(bins) == [7] and list(bins[7]) == [0]
    assert readings.bins(no, no) == {}  # whole numbers may be names
    assert readings.bins(no, yes) == {7: {2: Kinds((0, 1, 2, 3, 4))}}
    text = next(iter(readings.texts(bins)))
    assert text.startswith("E7 E7.1=b") and text.endswith(" E8")


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(-5, 20))
def test_kinds_are_few_and_another_one_is_unlikely(values, other):
    found = Kinds.of(np.array(values, dtype=float))
    alone = sum(values.count(value) == 1 for value in values)
    assert (found is not None) == (len(values) >= 50 and len(set(values)) <= 10 and 100 * alone <= len(values))
    if found:
        assert (found.bin(other) == "") == (other in values) == found.holds(np.array([other, values[0]]))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("終了コード=0 処理時間=12ms", [(True, "終了コード", ""), (True, "処理時間", "ms")]),
        ("exit code 0", [(True, "code", "")]),
        ("release 4.1.0 of 2026-11-01", [(False, "release", ""), (False, "", ""), *3 * [(False, "", "")]]),
        ("3回目 版=4 port 80", [(False, "", "回"), (False, "版", ""), (False, "port", "")]),
    ],
)
def test_a_number_has_a_name_and_may_be_of_a_kind_where_it_is_no_part_of_a_date_or_a_name(message, expected):
    drain = Drain()
    group = drain.learn(message)
    found = zip(kindly(drain, group, message), named(drain, group, message), strict=True)
    assert [(kind, *names) for kind, names in found] == expected


def test_an_exit_code_that_was_never_seen_alarms_and_disturbs_nothing_else(tmp_path):
    def lines(codes):
        for i, code in enumerate(codes):
            yield f"2026-10-01 10:{i // 60:02}:{i % 60:02} INFO [JOB{i:06}] job begins\n"
            yield f"2026-10-01 10:{i // 60:02}:{i % 60:02} INFO [JOB{i:06}] job ends, code={code} release 4.1.0\n"

    log, later = tmp_path / "normal.log", tmp_path / "later.log"
    log.write_text("".join(lines([0, 0, 4] * 40)), encoding="utf-8")
    fitted = Detector.fit(log, root=tmp_path / "runs", steps=60)
    later.write_text("".join(lines([0, 12, 4, 0])).replace("4.1.0", "5.2.7"), encoding="utf-8")
    found = list(Detector.load(fitted.run.path).judge(fitted.sessions(later)))
    assert [each.alarm for each in found] == [False, True, False, False]
    assert (found[1].why, found[1].odd, found[1].place) == ("parameter", {"parameter", "both"}, 1)
    assert found[1].surprises[-1] == pytest.approx(found[0].surprises[-1], abs=SLACK)
    assert fitted.normal[0].split() == found[0].words
    number = odd_number(found[1], fitted)
    assert (number.how, number.name, number.written, number.kinds) == ("kind", "code", "12", (0, 4))


def test_a_numbers_range_is_of_the_sessions_to_learn_in_whatever_order_the_records_came():
    rng = np.random.default_rng(0)
    records = [(i, float(value)) for i in range(100) for value in rng.integers(50, size=3)]
    records += 4 * [(99, 500.0)]  # in one of the sessions held out
    readings = Readings()
    sessions = [[] for _ in range(100)]
    for i in rng.permutation(len(records)):
        number, value = records[i]
        sessions[number].append(readings.note(7, (value,)))
    for session in sessions:
        readings.add(session)
    measured = {7: (True,)}
    no = {7: (False,)}
    assert readings.bins(measured, no) == {}  # 4 of 64 held-out values are outside, 3 may be
    learnt = [value for number, value in records if number < 80]
    readings.sessions.pop()
    bins = readings.bins(measured, no)[7][0]
    assert (bins.edges[0], bins.edges[-1]) == (min(learnt), max(learnt))
    written = [sorted(text.split()) for text in readings.texts({7: {0: bins}})]
    wanted = [[f"E7.1={bins.bin(value)}" for number, value in records if number == i] for i in range(99)]
    assert written == [sorted(["E7"] * len(words) + words) for words in wanted]


def test_a_latency_and_a_size_are_watched_and_no_name_address_or_counter(detector):
    watched = {template(detector, f"E{id}").split()[0]: len(places) for id, places in detector.vocabulary.bins.items()}
    assert watched == {"Query": 1, "Sent": 1}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("took {} to answer", True),
        ("done in {}ms by us", True),
        ("size={} of it", True),
        ("elapsed_ms={} of it", True),
        ("Sent {} bytes to us", True),
        ("disk at {}% of it", True),
        ("gave up after {} retries", True),
        ("経過 {} です", True),
        ("経過時間は {} でした", True),
        ("取得した {} 件の結果", True),
        ("合計{}バイトを送信", True),
        ("login of user {}", False),
        ("connected from port {} now", False),
        ("worker pid[{}] began", False),
        ("tick {} of it", False),
        ("request number {} began", False),
        ("copyright {} by us", False),
        ("user {} requests more", False),
        ("ユーザー {} がログイン", False),
        ("ポート {} で待機", False),
    ],
)
def test_a_whole_number_is_a_measurement_only_by_its_unit_or_a_word_beside_it(text, is_one):
    drain = Drain()
    messages = [text.format(value) for value in (17, 2024)]
    group = [drain.learn(message) for message in messages][-1]
    assert group.n_wild or "<*>" in group.template
    assert [measured(drain, group, message) for message in messages] == 2 * [(is_one,)]


@pytest.mark.parametrize(("n", "allowed"), [(5, 2), (60, 3), (299, 3), (500, 5)])
def test_of_a_few_held_out_values_three_may_leave_the_range_and_of_many_one_in_a_hundred(n, allowed):
    bins = Bins.of(np.arange(40.0))
    for n_outside in range(7):
        values = np.array([-1.0] * n_outside + [5.0] * (n - n_outside) if n_outside <= n else [])
        assert bins.holds(values) == (n_outside <= allowed)


def test_names_from_a_new_range_are_nothing_odd(tmp_path):
    def log(name, n, first, users):
        rng, lines = np.random.default_rng(first), []
        for i in range(n):
            for step in (
                f"login of user {rng.integers(*users)}",
                f"peer port {rng.integers(*users)}",
                "page",
                "closed",
            ):
                lines.append(f"2026-01-01 00:00:00 INFO req-{10_000 + first + i} {step}\n")
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
        return tmp_path / name

    fitted = Detector.fit(log("fit.log", 120, 0, (1, 50)), root=tmp_path, steps=10)
    assert fitted.vocabulary.bins == {}
    assert not any(each.alarm for each in fitted.judge(fitted.sessions(log("new.log", 50, 1000, (9000, 65000)))))


# --- The nearest normal session ---


@settings(max_examples=60)
@given(st.data())
def test_the_edit_distance_is_that_of_its_definition(data):
    session = st.lists(st.integers(2, 5), max_size=8).map(tuple)
    one, others = data.draw(session), data.draw(st.lists(session, min_size=1, max_size=4))

    @lru_cache
    def naive(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(naive(a[1:], b) + 1, naive(a, b[1:]) + 1, naive(a[1:], b[1:]) + (a[0] != b[0]))

    expected = [naive(one, other) for other in others]
    assert distances(one, others) == expected
    tokens = ["<|end|>", UNKNOWN, "E1", "E2", "E3", "E4"]
    nearest = Normal(others, tokens).nearest(one)
    chosen = tuple(tokens.index(word) for word in nearest.words)
    assert naive(one, chosen) == min(expected) and nearest.count == others.count(chosen)
    assert len(one) - len(nearest.extra) + len(nearest.missing) == len(chosen)


def test_the_nearest_session_says_what_is_missing(detector, tmp_path):
    each = judged(detector, tmp_path / "log", missing=[7])[7]
    nearest = detector.nearest(each.events)
    assert [template(detector, word)[:5] for word in nearest.missing] == ["Query"] and nearest.extra == []
    assert nearest.count > 1


# --- New templates ---


def test_a_line_that_alarms_in_any_session_is_said_when_it_comes(detector, tmp_path):
    path = write(tmp_path / "log", made(20, seed=2, first=FIRST, new=[FIRST + 2], slow=[FIRST + 3], early=[FIRST + 4]))
    alone = []
    sessions = list(detector.sessions(path, each=lambda session: alone.append(detector.alone(session))))
    at_once = {each.session.key: each for each in alone if each}
    assert {key: each.why for key, each in at_once.items()} == {"1002": "new", "1003": "parameter"}
    later = {each.session.key: each for each in detector.judge(sessions) if each.alarm}
    assert later.keys() == {"1002", "1003", "1004"} and all(each.alarm for each in at_once.values())
    for key, each in at_once.items():
        assert each.session.records == [later[key].session.records[later[key].place]] and each.why == later[key].why


def test_a_new_template_waits_until_it_is_accepted_and_is_then_left_out(copied, tmp_path):
    assert copied.pending == []
    assert judged(copied, tmp_path / "log", new=[7, 31])[7].alarm
    (new,) = copied.pending
    assert (new.count, new.example.message[:8]) == (2, "Checksum") and new.template.startswith("Checksum mismatch")
    copied.note_pending()

    again = Detector.load(copied.run.path)
    (waits,) = again.pending
    assert waits == replace(new, example=waits.example, earlier=True) and not new.earlier
    with pytest.raises(LogError, match=f"no template number 99 waits .* {new.id}$"):
        again.accept([99])
    assert again.accept([new.id]) == [waits]
    for each in (again, Detector.load(copied.run.path)):
        assert each.pending == []
        found = judged(each, tmp_path / "log", new=[7, 31])[7]
        assert not found.alarm and len(found.events) == len(found.session.records) - 1
        assert "event" not in found.odd


def test_a_file_that_is_scanned_again_counts_once(copied, tmp_path):
    judged(copied, tmp_path / "log", new=[7, 31])
    copied.note_pending()
    for again in (copied, Detector.load(copied.run.path)):
        judged(again, tmp_path / "log", new=[7, 31])
        assert [each.count for each in again.pending] == [2]
    judged(copied, tmp_path / "other", new=[9])
    (new,) = copied.pending
    assert (new.count, new.example.source) == (1, str(tmp_path / "other"))
    judged(copied, tmp_path / "normal")  # what it does not meet still waits
    assert [each.count for each in copied.pending] == [1]


def test_those_that_wait_are_bounded(detector, log, monkeypatch):
    monkeypatch.setattr("kakehashi.work.logs.pending.MOST", 5)
    copy = Detector.load(detector.run.path)
    records = list(read(log))[:30]
    words = ["alpha", "beta", "gamma", "delta", "eta", "theta", "iota", "kappa", "mu", "nu"]
    strange = [replace(each, message=f"{w} {w}er {w}est") for each, w in zip(records, words, strict=False)]
    list(copy.sessions(strange))
    assert [each.template.split()[0] for each in copy.pending] == words[-5:]


# --- State ---


def test_a_loaded_detector_says_what_the_fitted_one_says(detector, tmp_path):
    loaded = Detector.load(detector.run.path)
    assert loaded.held_out == detector.held_out and loaded.grouping == detector.grouping
    for one, other in zip(
        *(judged(each, tmp_path / "log", early=[3], slow=[9]).values() for each in (detector, loaded)), strict=True
    ):
        assert (one.odd, one.why, one.place) == (other.odd, other.why, other.place)
        assert (one.surprises == other.surprises).all()


def test_the_same_logs_give_the_same_run_and_a_killed_one_goes_on_to_it(log, tmp_path):
    class Killed(Exception):
        pass

    class Killer:
        def on_step(self, state):
            if state.step == 3:
                raise Killed

    whole = Detector.fit(log, root=tmp_path, name="whole", steps=4)
    with pytest.raises(Killed):
        Detector.fit(log, root=tmp_path, name="killed", steps=4, callbacks=[Killer()])
    with pytest.raises(LogError, match=r"has learnt 2 of 4 steps: finish it with `kakehashi train --resume"):
        Detector.load(tmp_path / "killed")
    killed = Run.open(tmp_path / "killed")
    training.train(killed.config, killed)
    resumed = Detector.load(tmp_path / "killed")
    assert resumed.verdicts.thresholds == whole.verdicts.thresholds and resumed.held_out == whole.held_out
    for name in ("model.safetensors", "sessions.txt", "templates.json", "detector.json", "thresholds.json"):
        assert killed.read_extra(name) == whole.run.read_extra(name), name


def test_it_is_a_run_as_any_other(detector):
    run = Run.open(detector.run.path)
    assert run.private and run.config.data.unit == "document" and run.config.task == "lm"
    (written,) = inference.Engine(run.load_model(), run.tokenizer).generate([""], max_tokens=40)
    assert written.reason == "end" and set(written.text.split()) <= set(run.tokenizer.tokens)
    split = training.open_split(run.config)
    assert list(split.train + split.val) == detector.normal and len(split.val) == detector.n_held_out


# --- Other models ---

OWN = """
import torch
from torch import nn
from dataclasses import dataclass
from kakehashi.models.protocol import Output

TASK = "lm"

@dataclass(frozen=True)
class Config:
    vocab_size: int = 5

PRESETS = {"own": Config()}

class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        logits = self.table[tokens]
        loss = None if targets is None else nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return Output(logits, loss)
"""
SESSIONS = ["E1 E2 E3", "E1 E2 E2 E3"] * 15


def test_a_learners_file_and_a_transformer_stand_in_the_lstms_place(tmp_path, monkeypatch):
    presets = models.find("gpt2").presets
    tiny = replace(presets["gpt2-pico"], n_layers=1, n_heads=2, n_embd=8)
    monkeypatch.setitem(presets, "gpt2-pico", tiny)
    own = tmp_path / "own.py"
    own.write_text(OWN, encoding="utf-8")
    for model in (own, "gpt2-pico"):
        verdicts = Verdicts.fit(SESSIONS, root=tmp_path / "runs", model=model, steps=40)
        normal, odd = verdicts.of(["E1 E2 E3", "E3 E3 E3 E1"])
        assert odd.score > normal.score and "both" in odd.odd and not normal.odd


def test_the_thresholds_are_of_the_sessions_that_were_held_out(tmp_path):
    rare = "E1 E3 E2 E2 E1"
    sessions = [*SESSIONS, *SESSIONS, *SESSIONS[:20], *SESSIONS[:17], *3 * [rare]]  # 100, 3 of the last 20 are rare
    verdicts = Verdicts.fit(sessions, root=tmp_path, steps=30, false_alarms=0.1)
    scores = [each.score for each in verdicts.of(sessions)]
    wanted, of_all = threshold(np.array(scores[80:]), 0.1), threshold(np.array(scores), 0.1)
    assert abs(wanted - of_all) > 0.1
    # what sums are rounded by from batch to batch makes no alarm
    assert verdicts.thresholds["model"] - wanted == pytest.approx(SLACK, abs=SLACK / 4)


def test_after_training_the_model_reads_each_distinct_session_once(tmp_path, monkeypatch):
    read, of = [], Surprise.of
    monkeypatch.setattr(Surprise, "of", lambda self, texts: read.extend(texts) or of(self, texts))
    Verdicts.fit(SESSIONS, root=tmp_path, steps=1)
    assert sorted(read) == sorted(set(SESSIONS))


def test_a_runs_weights_are_gone_on_from_where_the_words_are_the_same(tmp_path):
    first = Verdicts.fit(SESSIONS, root=tmp_path, steps=2)
    second = Verdicts.fit(SESSIONS[:20], root=tmp_path, model=first.run.path, steps=1)
    assert second.run.config.started_from == first.run.name
    with pytest.raises(LogError, match="does not know 1 words of these sessions, such as E9: begin anew"):
        Verdicts.fit([*SESSIONS, "E9"], root=tmp_path, model=first.run.path, steps=1)


def test_a_detector_is_gone_on_from_with_its_templates(copied, tmp_path):
    log = write(tmp_path / "more.log", made(60, seed=5, first=500))
    further = Detector.fit(log, root=tmp_path, model=copied.run.path, steps=1)
    known = {id: group.template for id, group in copied.drain.groups.items()}
    assert {id: group.template for id, group in further.drain.groups.items()} == known
    assert further.vocabulary.bins == copied.vocabulary.bins and further.n_records < copied.n_records


# --- Groupings ---


@pytest.mark.parametrize(
    ("wish", "kind", "value"),
    [
        ({}, "key", "request"),
        ({"key": "request"}, "key", "request"),
        ({"key": r"req-\d+"}, "key", r"req-\d+"),
        ({"window": 20}, "count", 20),
        ({"seconds": 30.0}, "time", 30.0),
    ],
)
def test_records_are_grouped_as_was_said_or_by_what_they_show(log, wish, kind, value):
    sample = list(read(log))
    grouping = Grouping.of(sample, **wish)
    assert (grouping.kind, grouping.value) == (kind, value) and grouping.why
    assert grouping.how == ("asked" if wish else "proposed")
    assert len(list(grouping.sessions(sample))) >= 10


@pytest.mark.parametrize(
    ("key", "masked"),
    [(r"user[a-z]{2}", "<<*>>"), (r"(?i)USER[a-z]{2}", "<<*>>"), (r"<(\w+)>", "<*>"), (r"^(\S+)", None)],
)
def test_what_a_persons_key_matches_is_a_value(key, masked, tmp_path):
    users = [f"user{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]
    steps = ["opens", "reads", "closes"]
    log = tmp_path / "log"
    log.write_text("".join(f"<{user}> {step}\n" for user in users for step in steps), encoding="utf-8")
    fitted = Detector.fit(log, root=tmp_path, key=key, steps=1)
    assert len(fitted.normal) == 60
    if masked:
        assert {group.template for group in fitted.drain.groups.values()} == {f"{masked} {step}" for step in steps}
    else:  # of every word it is the beginning
        assert fitted.drain.masks.masks == Masks.load().masks


def test_where_no_key_convinces_windows_of_100_records_are_cut():
    grouping = Grouping.of([Record(f"tick {i} of the clock") for i in range(300)])
    assert (grouping.kind, grouping.value, grouping.how) == ("count", 100, "usual")


@pytest.mark.parametrize("bytes_cut", [0, 10, 15])
def test_a_torn_last_line_is_never_a_new_template(detector, tmp_path, bytes_cut):
    path = tmp_path / "torn.log"
    whole = write(path, made(20, seed=2, first=FIRST)).read_bytes()
    last = whole[whole.rstrip().rindex(b"\n") + 1 :]
    path.write_bytes(whole + last[: len(last) - 1 - bytes_cut])
    copy = Detector.load(detector.run.path)
    found = list(copy.judge(copy.sessions(path)))
    assert "new" not in {each.why for each in found} and copy.pending == []
    (torn,) = [record for record in read(path) if record.torn]
    left_out = copy.drain.match(torn.message) is None
    assert left_out == (bytes_cut > 0) and copy.torn == [torn] * left_out
    assert sum(len(each.session) for each in found) + copy.outside.total() + left_out == len(list(read(path)))
    if left_out:  # nor is it one to learn
        further = Detector.fit(path, root=tmp_path, steps=1)
        assert further.torn == [torn] and further.drain.match(torn.message) is None


@pytest.mark.parametrize(("file", "name"), [("app_2k.log.gz", "app_2k"), ("app", "app"), ("2026.10/", "2026.10")])
def test_a_run_is_named_by_the_file_without_its_suffixes_or_by_the_folder(file, name, tmp_path):
    path = tmp_path / file
    written = write(path / "app.log" if file.endswith("/") else path, made(20))
    if file.endswith(".gz"):
        written.write_bytes(gzip.compress(written.read_bytes()))
    assert Detector.fit(path, root=tmp_path / "runs", steps=1).run.name == f"lstm-logs-{name}-0001"


def test_the_end_of_a_window_says_nothing(log, tmp_path):
    windowed = Detector.fit(log, root=tmp_path, window=40, steps=1)
    found = list(windowed.judge(windowed.sessions(log)))
    assert len(found) > 40 and all(each.surprises[-1] == 0 and each.why != "end" for each in found)


# --- Mistakes of a person ---


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"key": "nothing"}, "none of the first 1,9.. records has the key 'nothing': choose one of block, "),
        ({"key": "(("}, "no regular expression"),
        ({"key": "request", "window": 5}, "grouped in one way, got key request and window 5"),
        ({"window": 0}, "at least 1, got 0"),
        ({"seconds": 0.0}, "at least 0.01 seconds"),
        ({"window": 400}, r"5 sessions are too few .* choose a smaller window than 400 records"),
        ({"model": "resnet"}, "needs a language model, and resnet is none"),
        ({"false_alarms": 2.0}, "between 0 and 1, got 2"),
        ({"name": "fitted"}, "fitted exists: choose another name"),
        ({"masks": "nowhere.toml"}, "cannot read the masks nowhere.toml"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line_and_leaves_no_run(detector, folder, log, wish, said):
    before = sorted((folder / "runs").iterdir())
    with pytest.raises(LogError, match=said) as caught:
        Detector.fit(log, root=folder / "runs", **wish)
    assert "\n" not in str(caught.value) and sorted((folder / "runs").iterdir()) == before


def test_logs_without_a_record_are_refused(tmp_path):
    (tmp_path / "empty.log").write_text("\n", encoding="utf-8")
    with pytest.raises(LogError, match="no record in .*empty.log"):
        Detector.fit(tmp_path / "empty.log", root=tmp_path, notes=Notes())


def test_a_run_of_another_kind_is_no_detector(tmp_path):
    verdicts = Verdicts.fit(SESSIONS, root=tmp_path, steps=1)
    with pytest.raises(LogError, match="is not a log detector: it has no detector.json"):
        Detector.load(verdicts.run.path)


def damages(path):
    """What may have become of a file: cut, of another form, and of one in JSON each value gone or of another kind."""
    raw = path.read_bytes()
    yield from (b"{", b"\xff\xfe", raw[: len(raw) // 2])
    if path.suffix == ".json":
        yield from (b"", b"[]", b"null", b"5", b"{}", b"[" * 100_000)
        state = json.loads(raw)
        inner = ("whole", "vocabulary", "grouping", "settings", "thresholds", "held_out", "config", "drain")
        for holder in (state, *(state[name] for name in inner if isinstance(state.get(name), dict))):
            for name, value in list(holder.items()):
                del holder[name]
                yield json.dumps(state).encode()
                for other in ({"a": [1]}, "x", None):
                    holder[name] = other
                    # None is what thresholds are before training has ended; another text may be the right one
                    free = name in ("thresholds", "max_groups", "encoding", "layout", "name") and other is None
                    if not free and (name == "kind" or not isinstance(other, str) or not isinstance(value, str | None)):
                        yield json.dumps(state).encode()
                holder[name] = value


@pytest.mark.parametrize("name", ["pending", "templates", "detector", "thresholds", "sessions"])
def test_a_damaged_state_is_said_in_one_line_and_never_used(copied, tmp_path, name):
    judged(copied, tmp_path / "log", new=[7])
    copied.note_pending()
    path = copied.run.path / f"{name}.{'txt' if name == 'sessions' else 'json'}"
    for damage in damages(path):
        path.write_bytes(damage)
        with pytest.raises(LogError) as caught:
            Detector.load(copied.run.path)
            pytest.fail(f"{damage[:300]!r} was used")
        assert "\n" not in str(caught.value)


def test_a_run_of_before_a_threshold_was_saved_is_to_be_fitted_again(copied):
    path = copied.run.path / "thresholds.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    del state["thresholds"]["far"]
    path.write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(LogError, match="thresholds.json is damaged, or of an older kakehashi .*'far'.*: fit again"):
        Detector.load(copied.run.path)


def test_templates_without_room_are_counted_and_read_as_unknown():
    drain = Drain(Config(max_groups=2))
    for message in ("one two", "three four five", "six"):
        drain.learn(message)
    readings = Readings()
    readings.add(readings.note(group.id if (group := drain.match(m)) else 0, ()) for m in ("one two", "six"))
    assert next(iter(readings.texts({}))) == f"{UNKNOWN} E3"


def test_the_state_is_json_that_any_tool_reads(detector):
    def refuse(constant):
        raise AssertionError(constant)

    for name in ("detector.json", "thresholds.json", "templates.json"):
        json.loads(detector.run.read_extra(name), parse_constant=refuse)
