"""Reading logs: what stood in a file comes out as records, whatever its form, encoding and size."""

import csv
import gzip
import io
import json
import os
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi.work.logs import LogError, Notes, Parser, read
from kakehashi.work.logs import lines as lines_module
from kakehashi.work.logs import records as records_module
from kakehashi.work.logs.lines import Decoder, Line, Lines, find_files
from kakehashi.work.logs.stamps import Times, read_level

JST = timezone(timedelta(hours=9))
LATEST = datetime(2026, 6, 1)
AT = datetime(2024, 1, 31, 10, 15, 30)


def parsed(text: str, latest: datetime = LATEST) -> list:
    """The records of a text, without a file."""
    parser = Parser("test.log", Notes(), latest=latest)
    found = [record for i, line in enumerate(text.split("\n"), 1) for record in parser.feed(Line(i, line, True))]
    return found + list(parser.close())


@pytest.fixture
def log(tmp_path):
    """log(bytes or text, ...) -> (records, {kind of note: (count, first line)})."""

    def reading(content: str | bytes, name: str = "app.log", **settings):
        file = tmp_path / name
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        notes = Notes()
        records = list(read(file, notes, **settings))
        return records, {note.kind: (note.count, note.line) for note in notes}

    return reading


# Times and levels


@settings(max_examples=40)
@given(
    st.datetimes(datetime(2001, 9, 10), datetime(2026, 5, 1)),
    st.sampled_from(
        [
            "%Y-%m-%d %H:%M:%S,%f",
            "%Y-%m-%dT%H:%M:%S.%f%z",
            "%Y/%m/%d %H:%M:%S.%f",
            "%Y-%m-%d-%H.%M.%S.%f",
            "%Y.%m.%d %H:%M:%S %z",
            "%d/%b/%Y:%H:%M:%S %z",
            "%a %b %d %H:%M:%S %Y",
            "%d %b %Y %H:%M:%S",
            "%m/%d/%Y %I:%M:%S %p",
            "%d.%m.%Y %H:%M:%S",
            "%Y年%m月%d日 %H時%M分%S秒",
            "%y/%m/%d %H:%M:%S",
            "%y%m%d %H%M%S",
            "%Y%m%d-%H:%M:%S:%f",
            "%Y%m%dT%H%M%S%z",
            "EPOCH",
        ]
    ),
)
def test_a_time_is_read_as_it_was_written(moment, form):
    moment = moment.replace(tzinfo=JST)
    if "%f" not in form:
        moment = moment.replace(microsecond=0)
    text = str(int(moment.timestamp())) if form == "EPOCH" else moment.strftime(form)
    expected = moment.astimezone(UTC) if "%z" in form or form == "EPOCH" else moment.replace(tzinfo=None)
    assert Times(LATEST).read(text) == expected
    assert "%z" not in form or Times(LATEST).read(text).isoformat() == moment.isoformat()  # not only the same moment
    (record,) = parsed(f"{text} disk is full")
    assert (record.time, record.message) == (expected, "disk is full")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Jan 31 10:15:30 web sshd[12]: Failed", datetime(2026, 1, 31, 10, 15, 30)),
        ("Dec 31 10:15:30 web sshd[12]: Failed", datetime(2025, 12, 31, 10, 15, 30)),
        ("03-17 16:13:38.811 1702 D Window: printed", datetime(2026, 3, 17, 16, 13, 38, 811000)),
    ],
)
def test_a_time_without_a_year_is_of_the_year_before_the_file_was_written(text, expected):
    assert parsed(text)[0].time == expected


@pytest.mark.parametrize("digits", [10, 13, 16, 19])
def test_an_epoch_is_told_by_its_length(digits):
    text = f"{1706663730_123456789}"[:digits]
    expected = datetime(2024, 1, 31, 1, 15, 30, int(text[10:16].ljust(6, "0")), tzinfo=UTC)
    assert Times(LATEST).read(text) == expected


@pytest.mark.parametrize("text", ["2024-13-31 10:15:30", "2024-02-30 10:15:30", "10:15", "version 1.2.3", "12345", ""])
def test_what_is_no_time_is_none(text):
    assert Times(LATEST).read(text) is None
    assert parsed(text + " x")[0].time is None


@pytest.mark.parametrize(
    "text, level, message",
    [
        ("2024-01-31 10:15:30,123 INFO [main] hello", "INFO", "[main] hello"),
        ("[INFO ] 2024-01-31 10:15:30 hello", "INFO", "hello"),
        ("2024-01-31 10:15:30 | WARN | hello", "WARNING", "hello"),
        ("2024/01/31 10:15:30 [error] 12#0: open() failed", "ERROR", "12#0: open() failed"),
        ("<34>1 2024-01-31T10:15:30Z web app - - hello", "CRITICAL", "web app - - hello"),
        ("I0131 10:15:30.123456 1 main.go:12] hello", "INFO", "1 main.go:12] hello"),
        ("2024-01-31 10:15:30 致命的: 満杯", "CRITICAL", "満杯"),
        ("error: hello", "ERROR", "hello"),
        ("an error and no information", None, "an error and no information"),
        ("ERROR_CODE is 3", None, "ERROR_CODE is 3"),
        ('127.0.0.1 - - [31/Jan/2024:10:15:30 +0900] "GET / HTTP/1.0" 200', None, '127.0.0.1 - - "GET / HTTP/1.0" 200'),
    ],
)
def test_a_level_is_found_and_cut_from_the_message(text, level, message):
    (record,) = parsed(text)
    assert (record.level, record.message) == (level, message)


@pytest.mark.parametrize(
    "text, otel, level",
    [
        ("warn", False, "WARNING"),
        ("3", False, "ERROR"),
        ("30", False, "INFO"),
        ("17", True, "ERROR"),
        ("35", False, None),
    ]
    + [("SEVERITY_NUMBER_WARN2", True, "WARNING"), ("情報", False, "INFO"), ("", False, None)],
)
def test_a_level_may_be_a_name_or_a_number_of_three_schools(text, otel, level):
    assert read_level(text, otel) == level


# Forms


@pytest.mark.parametrize(
    "event, message, level, fields",
    [
        ({"level": 40, "time": 1706663730123, "pid": 3, "msg": "pino"}, "pino", "WARNING", {"pid": "3"}),
        ({"event": "structlog", "level": "error", "timestamp": "2024-01-31T01:15:30.123Z"}, "structlog", "ERROR", {}),
        ({"@timestamp": "2024-01-31T01:15:30.123Z", "log": {"level": "info"}, "message": "ecs", "trace": {"id": "ab"}},
         "ecs", "INFO", {"trace.id": "ab"}),
        ({"log": "2024-01-31 10:15:30 WARN docker\n", "stream": "stderr", "time": "2024-01-31T01:15:30.123Z"},
         "docker", "WARNING", {"stream": "stderr"}),
        ({"__REALTIME_TIMESTAMP": "1706663730123000", "PRIORITY": "3", "MESSAGE": "journald", "_PID": "1"},
         "journald", "ERROR", {"_PID": "1"}),
        ({"jsonPayload": {"message": "cloud"}, "severity": "NOTICE", "timestamp": "2024-01-31T01:15:30.123Z"},
         "cloud", "NOTICE", {}),
        ({"timeUnixNano": "1706663730123000000", "severityNumber": 17, "body": {"stringValue": "otel"}, "traceId": "ab",
          "attributes": [{"key": "n", "value": {"intValue": "3"}}]}, "otel", "ERROR", {"traceId": "ab", "n": "3"}),
        ({"Timestamp": "1706663730123000000", "SeverityText": "WARN", "Body": "model", "Attributes": {"k": "v"}},
         "model", "WARNING", {"Attributes.k": "v"}),
        ({"time": "2024-01-31T01:15:30.123Z", "level": "info", "user": 3}, "user=3", "INFO", {"user": "3"}),
    ],
)  # fmt: skip
def test_json_lines_of_many_makers_are_understood(event, message, level, fields):
    (record,) = parsed(json.dumps(event))
    assert (record.message, record.level, record.fields) == (message, level, fields)
    assert record.time == datetime(2024, 1, 31, 1, 15, 30, 123000, tzinfo=UTC)


OTLP = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeLogs": [
                {
                    "logRecords": [
                        {"timeUnixNano": "1706663730000000000", "severityText": "WARN", "body": {"stringValue": "one"}},
                        {"body": {"kvlistValue": {"values": [{"key": "message", "value": {"stringValue": "two"}}]}}},
                    ]
                }
            ],
        }
    ]
}


@pytest.mark.parametrize("indent", [None, 1], ids=["a batch a line", "one document"])
def test_batches_of_open_telemetry_are_taken_apart(indent):
    found = parsed(json.dumps(OTLP, indent=indent) + "\n" + json.dumps(OTLP, indent=indent))
    assert [(r.message, r.level, r.fields) for r in found] == 2 * [
        ("one", "WARNING", {"service.name": "shop"}),
        ("two", None, {"service.name": "shop"}),
    ]


@pytest.mark.parametrize("text", [
    '[\n{"msg": "a"},\n{"msg": "b"}\n]',
    '{"hits": {"hits": [{"_source": {"msg": "a"}}, {"_source": {"msg": "b"}}]}}',
    '{"msg": "a"}\n{"msg": "b"}', 'level=info msg="a"\nlevel=info msg="b"',
])  # fmt: skip
def test_lists_answers_and_lines_give_the_same_records(text):
    assert [record.message for record in parsed(text)] == ["a", "b"]


def test_what_only_the_wrapping_knows_is_kept():
    inner = json.dumps({"msg": "hello", "user": "x"})
    (record,) = parsed(json.dumps({"level": "warn", "time": 1706663730, "host": "h", "message": inner}))
    assert (record.message, record.level, record.fields) == ("hello", "WARNING", {"host": "h", "user": "x"})
    assert record.time == datetime(2024, 1, 31, 1, 15, 30, tzinfo=UTC)


cells = st.text(alphabet='ab,;"\n ', max_size=12)


@settings(max_examples=40)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_a_csv_export_gives_back_every_cell(rows, delimiter):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["No", "Date", "Time", "Severity", "Service", "Message"])
    for i, (service, message) in enumerate(rows):
        writer.writerow([i, "2024-01-31", f"10:15:{i:02}", "warn", service, message])
    found = parsed(out.getvalue())
    assert len(found) == len(rows)
    for i, (record, (service, message)) in enumerate(zip(found, rows, strict=True)):
        assert (record.time, record.level) == (AT.replace(second=i), "WARNING")
        assert record.fields.get("Service", "") == service
        if message.strip():
            assert f"{record.message}\n{record.rest}".split() == message.split()


def test_columns_are_told_by_content_where_no_name_tells(log):
    records, _ = log("2024-01-31 10:15:30;INFO;app;disk 3 is full\n2024-01-31 10:15:31;WARN;app;disk 4 is full\n")
    assert [(r.level, r.message) for r in records] == [("INFO", "disk 3 is full"), ("WARNING", "disk 4 is full")]
    records, _ = log("時刻,重要度,その他\n2024-01-31 10:15:30,警告,ディスクが満杯\n")
    assert (records[0].time, records[0].level, records[0].message) == (AT, "WARNING", "ディスクが満杯")


def test_commas_in_plain_text_make_no_table(log):
    records, _ = log("2024-01-31 10:15:30,123 INFO a, b, c\n2024-01-31 10:15:31,123 INFO d\n")
    assert [record.message for record in records] == ["a, b, c", "d"]


def test_a_missing_quote_loses_no_row_of_a_table(log, monkeypatch):
    monkeypatch.setattr(records_module, "LONGEST_ROW", 1000)
    rows = "".join(f"2024-01-31 10:15:30,INFO,message number {i}\n" for i in range(60))
    records, notes = log('time,level,message\n2024-01-31 10:15:30,INFO,"open\n' + rows)
    assert [record.message for record in records] == ["open", *(f"message number {i}" for i in range(60))]
    assert [record.line_number for record in records] == list(range(2, 63))
    assert notes == {"quote": (1, 2), "no zone": (61, 2)}


def test_quotes_within_cells_and_joined_exports_confuse_no_table(log):
    header, row = "time|level|message\n", '2024-01-31 10:15:30|INFO|a 5" disk | is full\n'
    records, notes = log(header + row + row + header + row)
    assert [(record.message, record.line_number) for record in records] == [
        ('a 5" disk | is full', i) for i in (2, 3, 5)
    ]
    assert "quote" not in notes


def test_wrapped_logs_are_unwrapped_to_the_program_s_own_message(data_dir):
    import tarfile

    with tarfile.open(data_dir / "rca-nezha" / "nezha-metrics-faults.tar.gz") as archive:
        content = archive.extractfile("rca_data/2023-01-30/log/12_06_log.csv").read().decode("utf-8")
    content = "".join(content.splitlines(keepends=True)[:400])
    found = parsed(content)  # CSV, in it JSON of Docker, in it the text of the program
    assert len(found) == len(list(csv.DictReader(io.StringIO(content))))
    assert all(record.time.tzinfo and record.level and record.fields["TraceID"] for record in found)
    assert not any(record.message.startswith(("{", "20:0", "INFO")) for record in found)


@pytest.mark.parametrize("name", ["HDFS", "BGL", "OpenStack"])
def test_times_and_levels_of_loghub_are_found(data_dir, name):
    folder = data_dir / "loghub-2k"
    text = gzip.decompress((folder / f"{name}_2k.log_structured.csv.gz").read_bytes()).decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    same = {
        "INFO": "INFO",
        "WARN": "WARNING",
        "WARNING": "WARNING",
        "ERROR": "ERROR",
        "SEVERE": "ERROR",
        "FATAL": "CRITICAL",
    }
    found = list(read(folder / f"{name}_2k.log.gz"))
    assert len(found) == len(rows)
    for record, row in zip(found, rows, strict=True):
        assert record.time is not None
        assert record.level == same.get(row["Level"], record.level)
        assert record.message.endswith(row["Content"].strip())


# Records of several lines

TRACE = """2024-01-31 10:15:30 ERROR failed
java.lang.IllegalStateException: no disk
\tat a.B.c(B.java:3)
Caused by: java.io.IOException
2024-01-31 10:15:31 INFO next"""


def test_a_stack_trace_joins_the_record_before_it():
    first, second = parsed(TRACE)
    assert (first.message, first.rest.split("\n")) == ("failed", TRACE.split("\n")[1:4])
    assert (second.message, second.line_number, second.rest) == ("next", 5, "")


def test_without_times_only_what_is_indented_or_says_so_joins():
    found = parsed("failed\n  at x\nnext\nTraceback (most recent call last):\n  File a\nlast")
    assert [record.message for record in found] == ["failed", "next", "last"]


def test_a_log_that_only_begins_with_a_time_is_not_one_record():
    found = parsed("2024-01-31 10:15:30 started\n" + "\n".join(f"line {i}" for i in range(5000)))
    assert "\n".join(f"{r.message}\n{r.rest}".strip() for r in found).split("\n")[1:] == [
        f"line {i}" for i in range(5000)
    ]
    assert all(len(record.rest) <= 10_000 for record in found)


values = st.recursive(
    st.none() | st.integers() | st.sampled_from(["a", '{"log": "x"}', "2024-01-31 10:15:30", "1706663730"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "resourceLogs scopeLogs logRecords attributes key value body stringValue hits time".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["resourceLogs", "hits", "body", "attributes", "message"]), values, min_size=1))
def test_json_of_any_form_is_one_record_or_several_never_a_crash(value):
    assert all(isinstance(record.message, str) for record in parsed(json.dumps(value)))


@settings(max_examples=40)
@given(st.text(alphabet="ab:7 \t[]{}',=\n", max_size=80))
def test_no_character_of_a_plain_text_is_lost(text):
    if text.split("\n")[0].strip() in {"[", "{"} or text.lstrip().startswith("[{"):
        return  # a JSON document, or a torn one
    found = "".join(f"{record.message}{record.rest}" for record in parsed(text))
    assert "".join(found.split()) == "".join(text.split())


def test_a_layout_says_what_stands_where(log):
    layout = r"(?P<time>\d+ \d+) (?P<pid>\d+) (?P<level>\w+) (?P<component>[^:]+): (?P<message>.*)"
    records, _ = log(
        "081109 203615 148 INFO dfs.Node: block 3\nmore\n081109 203616 148 WARN dfs.Node: block 4\n", layout=layout
    )
    assert [(r.message, r.rest, r.level) for r in records] == [("block 3", "more", "INFO"), ("block 4", "", "WARNING")]
    assert records[0].fields == {"pid": "148", "component": "dfs.Node"}
    assert records[0].time == datetime(2008, 11, 9, 20, 36, 15)


def test_a_line_in_which_the_layout_finds_no_message_continues_the_record_before(log):
    records, _ = log("m one\nmore\nm two\n", layout=r"(?:m (?P<message>.*))?")
    assert [(record.message, record.rest) for record in records] == [("one", "more"), ("two", "")]


@pytest.mark.parametrize("layout", ["(", "(?P<text>.*)"])
def test_a_layout_of_no_use_is_refused(log, layout):
    with pytest.raises(LogError, match="layout"):
        log("a\n", layout=layout)


# Encodings

JAPANESE = "これはテストです"


def test_each_line_may_have_its_own_encoding(log):
    names = ["utf-8", "cp932", "euc_jp", "iso2022_jp"]
    records, notes = log(b"".join(JAPANESE.encode(name) + b"\n" for name in names))
    assert [record.message for record in records] == 4 * [JAPANESE]
    assert {kind: line for kind, (_, line) in notes.items()} == {
        f"encoding {n}": i for i, n in enumerate(names, 1) if i > 1
    }


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_are_understood(log, encoding):
    text = f"2024-01-31 10:15:30 {JAPANESE}\n2024-01-31 10:15:31 b\n"
    bom = "\ufeff" if encoding[-3:] in {"-le", "-be"} else ""
    records, _ = log((bom + text).encode(encoding))
    assert [record.message for record in records] == [JAPANESE, "b"]


@settings(max_examples=40)
@given(
    st.text(st.characters(min_codepoint=0x3041, max_codepoint=0x3093), min_size=2), st.sampled_from(["cp932", "euc_jp"])
)
def test_kana_tell_the_encoding(text, encoding):
    assert Decoder().decode(text.encode(encoding)) == (text, encoding)


def test_an_encoding_that_was_stated_is_used_and_what_is_in_none_is_kept_as_bytes(log):
    records, notes = log("é\n".encode("latin-1"), encoding="latin-1")
    assert records[0].message == "é" and "encoding iso8859-1" in notes
    records, notes = log(b"a \xff\xfe\xfd\n")
    assert records[0].message == r"a \xff\xfe\xfd" and notes["undecodable"] == (1, 1)


@pytest.mark.parametrize("encoding", ["klingon", "base64", "hex", "rot13", "a\0b"])
def test_what_is_no_encoding_of_text_is_refused_in_one_line(log, encoding):
    with pytest.raises(LogError, match="is no encoding of text") as caught:
        log("a\n", encoding=encoding)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["ascii", "idna", "undefined"])
def test_a_line_that_is_none_of_the_stated_encoding_is_kept_as_bytes(log, encoding):
    records, notes = log(b"a \xff\xfe\xfd\nb\n", encoding=encoding)
    assert [record.message for record in records] == [r"a \xff\xfe\xfd", "b"] and "undecodable" in notes


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp"])
def test_the_kana_of_other_lines_tell_the_encoding_of_a_line_without(log, encoding):
    kanji = ["完了", "切断", "異常終了", "再試行"]
    records, _ = log("\n".join([*kanji, JAPANESE, *kanji, ""]).encode(encoding))
    assert [record.message for record in records] == [*kanji, JAPANESE, *kanji]


@pytest.mark.parametrize(
    "event", [{"msg": "a \ud800 b"}, {"msg": "a", "t\udc00": "x"}, {"msg": "a", "id": "\udfff"}, {"body": '"\ud800"'}]
)
def test_half_a_character_of_json_is_replaced_and_said(log, event):
    records, notes = log(json.dumps(event) + "\n" + json.dumps({"msg": "😀"}) + "\n")
    for record in records:
        repr(record).encode("utf-8")
        for text in (record.message, *record.fields, *record.fields.values()):
            text.encode("utf-8")
    assert "\ufffd" in f"{records[0].message}{records[0].fields}" and records[1].message == "😀"
    assert notes == {"undecodable": (1, 1)}


# Files that are not as they should be


def test_colours_zero_bytes_and_line_ends_of_windows_are_taken_off(log):
    records, notes = log(b"\0\0\0\x1b[1;31mred\x1b[0m text\r\nnext\r\n")
    assert [record.message for record in records] == ["red text", "next"]
    assert notes["nul"] == (1, 1)


def test_lines_may_end_in_carriage_returns_alone(log):
    records, notes = log(b"one\rtwo\rthree\r")
    assert [(record.message, record.line_number) for record in records] == [("one", 1), ("two", 2), ("three", 3)]
    assert notes == {}
    records, _ = log(b"10%\r20%\r\ndone\n")
    assert [record.message for record in records] == ["10% 20%", "done"]


def test_a_line_that_is_too_long_is_cut_and_said_and_the_next_one_is_whole(log, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST", 100_000)
    records, notes = log(b"x" * 1_000_000 + b"\nnext\n" + b"y" * 20_000 + b"\nlast")
    assert [(len(record.message), record.line_number) for record in records] == [
        (10_000, 1),
        (4, 2),
        (10_000, 3),
        (4, 4),
    ]
    assert notes == {"long": (3, 1), "torn": (1, 4)}  # the first for the line, and for its message


def test_memory_does_not_grow_with_a_file_or_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST", 1 << 18)
    file = tmp_path / "holes.log"
    with open(file, "wb") as out:
        out.truncate(20 << 20)  # what a rotation leaves that empties a file in use
        out.seek(0, os.SEEK_END)
        out.write(b"\n" + b"2024-01-31 10:15:30 INFO all is well\n" * 1000)
    tracemalloc.start()
    try:
        n = sum(record.level == "INFO" for record in read(file))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n == 1000
    assert peak < 4 << 20


def test_a_packed_file_that_was_cut_gives_what_is_there(log):
    whole = gzip.compress(b"".join(f"line {i} {os.urandom(9).hex()}\n".encode() for i in range(5000)))
    records, notes = log(whole[: len(whole) // 2], "app.log.gz")
    assert 1000 < len(records) < 4000 and [r.line_number for r in records[:3]] == [1, 2, 3]
    assert "torn" in notes


def test_a_torn_json_line_is_kept_and_said(log):
    records, notes = log('{"msg": "a"}\n{"msg": "b')
    assert [record.message for record in records] == ["a", '{"msg": "b']
    assert notes == {"torn": (1, 2), "json": (1, 2)}


def test_a_clock_that_goes_back_is_said(log):
    _, notes = log("2024-01-31 10:15:30 a\n2024-01-31 10:15:29.5 b\n2024-01-31 09:00:00 c\n2024-01-31 10:15:31 d\n")
    assert notes["clock"] == (1, 3)


@pytest.mark.parametrize(
    "content", [bytes(range(256)) * 9, b"\x7fELF\2\1\1" + bytes(99), gzip.compress(bytes(range(256)) * 9)]
)
def test_a_binary_file_is_refused_and_in_a_folder_passed_over(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    (tmp_path / "b.log").write_text("hello\n", encoding="utf-8")
    with pytest.raises(LogError, match="looks binary"):
        read(tmp_path / "a.bin")
    notes = Notes()
    assert [record.message for record in read(tmp_path, notes)] == ["hello"]
    assert [note.kind for note in notes] == ["binary"]


def test_what_is_not_there_or_empty_is_said(tmp_path, log):
    with pytest.raises(LogError, match="there is no file"):
        read(tmp_path / "none.log")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogError, match=r"pipe is neither a file nor a folder: write what it holds to a file"):
        read(tmp_path / "pipe")
    assert log("") == ([], {"empty": (1, 0)})


def test_a_json_document_that_is_none_is_one_line(log):
    with pytest.raises(LogError, match="JSON document"):
        log('[\n{"msg": "a"},\n')


def test_rotated_files_are_read_in_the_order_in_which_they_were_written(tmp_path):
    names = ["app-20240131.log", "app-20240201.log", "sys.log.10.gz", "sys.log.2.gz", "sys.log.1", "sys.log", ".hidden"]
    for name in reversed(names):
        (tmp_path / name).write_bytes(gzip.compress(b"x\n") if name.endswith("gz") else b"x\n")
    assert [path.name for path in find_files([tmp_path], Notes())] == names[:-1]


@settings(max_examples=40)
@given(st.binary(max_size=200).map(lambda raw: raw.replace(b"z", b"\n")), st.integers(1, 9))
def test_lines_do_not_depend_on_how_the_bytes_arrive(raw, size):
    def fed(pieces):
        notes = Notes()
        lines = Lines("a", notes)
        return [line for piece in pieces for line in lines.feed(piece)] + list(lines.close()), list(notes)

    found, notes = fed([raw[i : i + size] for i in range(0, len(raw), size)])
    assert (found, notes) == fed([raw])
    if not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        *whole, last = raw.split(b"\n")
        assert [line.whole for line in found] == [True] * len(whole) + [False] * bool(last)
