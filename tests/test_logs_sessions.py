"""Sessions: every record in the sessions it names or the windows it lies in, in order, with bounded memory."""

import math
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi.work.logs import LogError, Record, by_count, by_key, by_time, field_key, pattern_key, propose_keys, read
from kakehashi.work.logs.sessions import PATTERNS

START = datetime(2024, 1, 31, tzinfo=UTC)
BLOCK = pattern_key(PATTERNS["block"])


def record(message: str, seconds: float | None = None, **fields: str) -> Record:
    return Record(message, None if seconds is None else START + timedelta(seconds=seconds), fields=fields)


messages = st.lists(st.sets(st.sampled_from("abcd"), max_size=3).map(sorted), max_size=30)
LETTERS = pattern_key(r"\w")


@settings(max_examples=40)
@given(messages)
def test_sessions_are_the_records_that_name_them_in_order(names):
    records = [record(" ".join(keys)) for keys in names]
    expected = defaultdict(list)
    for one, keys in zip(records, names, strict=True):
        for key in keys:
            expected[key].append(one)
    outside = Counter()
    found = list(by_key(records, LETTERS, outside=outside))
    assert len(found) == len(expected)
    assert all(session.records == expected[session.key] and session.why == "end" for session in found)
    assert outside.total() == sum(not keys for keys in names)


@settings(max_examples=40)
@given(messages, st.integers(1, 3), st.integers(1, 4), st.integers(1, 6))
def test_no_record_is_lost_where_sessions_are_closed_early(names, max_open, longest, max_records):
    records = [record(" ".join(keys), i) for i, keys in enumerate(names)]
    parts = defaultdict(list)
    most = {"max_open": max_open, "longest": longest, "max_records": max_records}
    for session in by_key(records, LETTERS, idle=3, **most):
        assert 1 <= len(session) <= longest
        assert all(b.seconds - a.seconds <= 3 for a, b in zip(session.records, session.records[1:], strict=False))
        parts[session.key] += session.records
    whole = {session.key: session.records for session in by_key(records, LETTERS)}
    assert parts == whole


@settings(max_examples=40)
@given(messages, st.integers(1, 6))
def test_no_more_records_are_open_than_told(names, max_records):
    n_read = 0

    def read_in():
        nonlocal n_read
        for keys in names:
            yield record(" ".join(keys))
            n_read += len(keys)

    n_closed = 0
    for session in by_key(read_in(), LETTERS, max_records=max_records):
        assert n_read - n_closed <= max_records  # those of the record that is being read are not counted yet
        n_closed += len(session)
    assert n_closed == n_read


def test_a_session_holds_of_each_record_what_is_to_be_kept():
    records = [record(f"blk_{i} blk_0", float(i)) for i in range(1, 4)]
    kept = []

    def keep(one):
        kept.append(one)
        return one.message

    ways = [
        by_key(records, BLOCK, keep=keep),
        by_count(records, 2, 1, keep=keep),
        by_time(records, 2.0, keep=keep),
    ]
    for sessions in ways:
        kept.clear()
        held = [message for session in sessions for message in session.records]
        assert set(held) == {one.message for one in records} and kept == records


def test_sessions_of_an_endless_stream_come_while_it_runs():
    stream = (record(f"block blk_{i // 2}", i) for i in count())
    assert [len(session) for session in islice(by_key(stream, BLOCK, idle=10), 50)] == 50 * [2]
    stream = (record(f"block blk_{i}") for i in count())
    assert {session.why for session in islice(by_key(stream, BLOCK, max_open=5), 50)} == {"crowded"}


def test_a_clock_that_goes_back_closes_nothing():
    records = [record("blk_1", 100), record("blk_2", 40), record("blk_1", 101), record("blk_2", 102)]
    assert [(session.key, len(session)) for session in by_key(records, BLOCK, idle=60)] == [("blk_1", 2), ("blk_2", 2)]


@pytest.mark.parametrize("ahead", [3600.0, 70 * 365 * 86400.0])
def test_after_a_time_far_ahead_sessions_still_end(ahead):
    stream = [record(f"blk_{i // 2}", float(i)) for i in range(400)]
    stream.insert(100, record("blk_999", 100 + ahead))
    closed = {session.key: session.why for session in by_key(stream, BLOCK, idle=60)}
    assert len(closed) == 201 and closed["blk_999"] == "idle"
    assert [closed[f"blk_{i}"] for i in (0, 40, 60, 100, 160)] == 5 * ["idle"]


def test_after_a_time_far_ahead_windows_are_those_of_the_log_again():
    stream = [record(str(i), float(i)) for i in range(300)]
    stream.insert(100, record("wrong", 1e9))
    found = list(by_time(stream, 10))
    assert sum(map(len, found)) == 301
    # ten as they were, one of the wrong time and what followed it, what is left of its window, and the rest
    assert [len(session) for session in found] == [*10 * [10], 20, 1, *18 * [10]]


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e9, 4e9)), max_size=60),
    st.floats(0.01, 1e6),
    st.floats(0, 1),
)
def test_every_record_is_in_a_window_whatever_its_time(times, seconds, share):
    step = max(0.01, seconds * max(share, 0.02))
    stream = [record(str(i), t) for i, t in enumerate(times)]
    for each in (None, step):
        held = {one.message for session in by_time(stream, seconds, each) for one in session.records}
        assert held == {one.message for one in stream}


def test_where_too_many_are_open_the_one_without_a_record_for_longest_is_closed():
    records = [record(f"blk_{i}") for i in (1, 2, 1, 3)]
    assert [(s.key, s.why) for s in by_key(records, BLOCK, max_open=2)][0] == ("blk_2", "crowded")


@settings(max_examples=40)
@given(st.integers(0, 20), st.integers(1, 6), st.data())
def test_windows_by_count_hold_every_record_and_step_as_told(n, size, data):
    step = data.draw(st.integers(1, size))
    records = [record(str(i)) for i in range(n)]
    found = [session.records for session in by_count(records, size, step)]
    # the definition: windows at 0, step, 2 step, ... up to the first that reaches the end
    expected, at = [], 0
    while at < n and (not expected or at - step + size < n):
        expected.append(records[at : at + size])
        at += step
    assert found == expected


@settings(max_examples=30)
@given(st.lists(st.integers(0, 60), max_size=15).map(sorted), st.integers(1, 10), st.data())
def test_windows_by_time_are_those_of_the_definition(times, seconds, data):
    step = data.draw(st.integers(1, seconds))
    records = [record(str(i), t) for i, t in enumerate(times)]
    zero = START.timestamp()
    expected = defaultdict(list)
    for one in records:
        for at in range(-seconds, 61):
            begin = (int(zero) + at) // step * step
            if begin <= one.seconds < begin + seconds and one not in expected[begin]:
                expected[begin].append(one)
    found = list(by_time(records, seconds, step))
    assert [(float(s.key), s.records) for s in found] == sorted((b, r) for b, r in expected.items() if r)


def test_a_record_without_a_time_is_in_the_window_of_the_one_before():
    records = [record("a"), record("b", 5), record("c"), record("d", 3), record("e", 15)]
    assert [[r.message for r in s.records] for s in by_time(records, 10)] == [["a"], ["b", "c", "d"], ["e"]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: by_count([], 2, 3),
        lambda: by_count([], 0),
        lambda: by_time([], 0),
        lambda: by_time([], 0.001),
        lambda: by_time([], 1, 0.001),
        lambda: by_time([], math.inf),
        lambda: by_time([], math.nan),
        lambda: by_key([], BLOCK, idle=math.nan),
        lambda: by_time([], 5, 6),
        lambda: by_key([], BLOCK, idle=0),
        lambda: by_key([], BLOCK, max_open=0),
        lambda: pattern_key("("),
        lambda: pattern_key("(a)(b)"),
    ],
)
def test_settings_of_no_use_are_refused_in_one_line(call):
    with pytest.raises(LogError) as mistake:
        list(call())
    assert "\n" not in str(mistake.value)


def test_blocks_of_hdfs_are_proposed_and_group_every_line(data_dir):
    records = list(read(data_dir / "loghub-2k" / "HDFS_2k.log.gz"))
    best = propose_keys(records)[0]
    assert (best.name, best.share) == ("block", 1.0)
    found = list(by_key(records, best.key))
    assert len(found) == best.n_sessions
    assert sum(map(len, found)) == sum(len(set(re.findall(r"blk_[-0-9]+", r.message))) for r in records)
    assert all(session.key in r.message for session in found for r in session.records)


@pytest.mark.parametrize(
    "name", ["ジョブID", "ジョブ番号", "取引No", "伝票No.", "リクエスト_id", "トランザクションＩＤ"]
)
def test_fields_that_name_a_session_in_japanese_are_proposed(name):
    records = [
        record("処理しました", i, **{name: f"t{i // 3}", "部署番号": "7", "ジョブ名": "締め"}) for i in range(30)
    ]
    (best,) = propose_keys(records)
    assert (best.name, best.kind, best.n_sessions) == (name, "field", 10)


def test_ids_in_brackets_are_proposed_and_threads_are_not():
    records = [record(f"[JOB{200000 + i // 3}] [main] [worker-1] [exec-12] started", i) for i in range(30)]
    (best,) = propose_keys(records)
    assert (best.name, best.kind, best.n_sessions) == ("bracket", "pattern", 10)
    assert best.key(records[0]) == ["JOB200000"]


def test_fields_that_name_a_session_are_proposed():
    records = [record(f"step {i}", i, trace_id=f"t{i // 3}", service="shop") for i in range(30)]
    (best,) = propose_keys(records)
    assert (best.name, best.kind, best.n_sessions, best.median) == ("trace_id", "field", 10, 3)
    assert [len(s) for s in by_key(records, field_key("trace_id"))] == 10 * [3]
    assert propose_keys([]) == []
