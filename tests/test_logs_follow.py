"""Files followed while they grow: every record once, in its order, whatever is done to the files."""

import gzip
import os
import shutil
from itertools import count
from pathlib import Path

import logs_made
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kakehashi.work.logs import LogError, Notes, read
from kakehashi.work.logs.follow import LINGER, QUIET, Follower


class Clock:
    """A clock that goes when it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Watched:
    """A follower with a clock of its own, what it told, and messages as they come."""

    def __init__(self, *paths: Path, **options):
        self.clock, self.notes, self.told = Clock(), Notes(), []
        tell = lambda kind, path: self.told.append((kind, path.name))  # noqa: E731
        self.follower = Follower(paths, self.notes, tell=tell, clock=self.clock, **options)

    def look(self, after: float = 0.0) -> list[str]:
        self.clock.wait(after)
        return [record.message for record in self.follower.look()]

    def settled(self) -> list[str]:
        """Now and after a while in which nothing comes: a record may have further lines until then."""
        return self.look() + self.look(QUIET + 0.1)

    def end(self) -> list[str]:
        return self.look() + [record.message for record in self.follower.close()]


def append(path: Path, *lines: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


LOGS = [
    ("text", "en", False),
    ("csv", "en", True),
    ("json", "en", True),
    ("cp932", "ja", True),
]


@pytest.mark.parametrize(("form", "language", "zone"), LOGS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 4000), max_size=12), torn=st.booleans())
def test_any_cutting_of_the_bytes_into_writes_gives_the_same_records(form, language, zone, tmp_path, cuts, torn):
    events = logs_made.made(8, 1, language=language, new={3})
    whole = logs_made.write(tmp_path / "whole.log", events, form, zone=zone, torn=torn)
    raw = whole.read_bytes()
    grown = tmp_path / "grown.log"
    grown.write_bytes(b"")
    followed, notes = Clock(), Notes()
    follower = Follower([grown], notes, clock=followed)
    found, at = [], 0
    for size in [*cuts, len(raw)]:
        with open(grown, "ab") as file:
            file.write(raw[at : at + size])
        at += size
        found += follower.look()
    found += follower.close()
    wanted = Notes()
    expected = list(read(whole, wanted))
    assert [(r.message, r.time, r.level, r.line_number) for r in found] == [
        (r.message, r.time, r.level, r.line_number) for r in expected
    ]
    assert [(note.kind, note.line, note.count) for note in notes] == [(n.kind, n.line, n.count) for n in wanted]
    assert (notes.first, notes.last) == (wanted.first, wanted.last)


def test_a_record_over_several_lines_is_whole_after_a_quiet_second(tmp_path):
    path = tmp_path / "app.log"
    append(path, "2026-01-31 10:15:30 INFO one")
    watched = Watched(path, from_start=True)
    append(path, "2026-01-31 10:15:31 ERROR two")
    assert watched.look() == ["one"]
    append(path, "    at com.example.Two")
    assert watched.look(QUIET / 2) == []
    watched.clock.wait(QUIET + 0.1)
    (record,) = watched.follower.look()
    assert (record.message, record.rest) == ("two", "    at com.example.Two")
    assert watched.settled() == []


def test_a_torn_last_line_is_waited_for(tmp_path):
    path = tmp_path / "app.log"
    path.write_bytes(b"INFO one\nINFO tw")
    watched = Watched(path, from_start=True)
    assert watched.settled() == ["one"]
    assert watched.look(100) == []
    with open(path, "ab") as file:
        file.write(b"o\n")
    assert watched.settled() == ["two"] and not list(watched.notes)


def test_following_begins_at_the_end_with_the_lines_numbered_as_in_the_file(tmp_path):
    path = tmp_path / "app.csv"
    events = logs_made.made(20, 1)
    logs_made.write(path, events, "csv", torn=True)
    watched = Watched(path)
    rest = logs_made.text(events, "csv").encode()[-10:]
    with open(path, "ab") as file:
        file.write(rest)
    (record,) = watched.follower.look()
    wanted = list(read(path))[-1]
    assert (record.message, record.time, record.line_number) == (wanted.message, wanted.time, wanted.line_number)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_followed_from_the_end_too(encoding, tmp_path):
    path = tmp_path / "app.log"
    path.write_bytes("\ufeffINFO 一つ\nINFO 二".encode(encoding))
    watched = Watched(path)
    with open(path, "ab") as file:
        file.write("つ\n".encode(encoding))
    assert watched.settled() == ["二つ"]


def test_a_file_that_is_not_there_yet_is_waited_for_and_read_from_its_beginning(tmp_path):
    path = tmp_path / "app.log"
    watched = Watched(path)
    assert watched.look() == [] and watched.look(5) == []
    append(path, "one")
    assert watched.settled() == ["one"]
    assert watched.told == [("missing", "app.log"), ("found", "app.log")]


def test_of_a_file_that_is_renamed_and_begun_anew_both_are_read_to_their_end(tmp_path):
    path, old = tmp_path / "app.log", tmp_path / "app.log.1"
    append(path, "one")
    watched = Watched(path, from_start=True)
    assert watched.settled() == ["one"]
    append(path, "two")  # not seen before the rotation
    path.rename(old)
    append(old, "three")  # the program has not opened the new one yet
    assert watched.look() == ["two"]
    append(path, "four")
    append(old, "five")  # another process still has the old one
    assert sorted(watched.settled()) == ["five", "four", "three"]
    assert ("missing", "app.log") in watched.told
    watched.look(LINGER + 1)
    append(path, "six")
    assert watched.settled() == ["six"]


def test_a_file_that_was_renamed_is_read_on_while_no_new_one_is_there(tmp_path):
    path, old = tmp_path / "app.log", tmp_path / "app.log.1"
    append(path, "one")
    watched = Watched(path, from_start=True)
    path.rename(old)
    assert watched.settled() == ["one"]
    assert watched.look(LINGER + 1) == []
    append(old, "two")
    assert watched.settled() == ["two"]


def test_a_rotation_between_two_looks_is_told_and_loses_nothing(tmp_path):
    path = tmp_path / "app.log"
    append(path, "one")
    watched = Watched(path)
    append(path, "two")
    path.rename(tmp_path / "app.log.1")
    append(path, "three", "four")
    assert watched.look() == ["two", "three"]  # in their order: a session must not end before its last record
    assert watched.end() == ["four"]
    assert watched.told == [("replaced", "app.log")]


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_file_that_is_copied_and_emptied_the_rest_is_read_from_the_copy(packed, tmp_path):
    path, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    append(path, "one")
    watched = Watched(path, from_start=True)
    assert watched.settled() == ["one"]
    append(path, "two", "three")
    shutil.copy(path, copy)
    if packed:
        (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(copy.read_bytes()))
        copy.unlink()
    os.truncate(path, 0)
    append(path, "four")
    assert watched.settled() == ["two", "three", "four"]
    assert watched.told == [("emptied", "app.log")]


def test_a_torn_line_goes_on_in_the_copy_though_the_new_file_begins_alike(tmp_path):
    path = tmp_path / "app.log"
    path.write_bytes(b"INFO ")
    watched = Watched(path, from_start=True)
    assert watched.settled() == []
    append(path, "one")
    assert watched.follower._files[0].source.is_overwritten() is False
    shutil.copy(path, tmp_path / "app.log.1")
    os.truncate(path, 0)
    append(path, "INFO two")
    assert watched.settled() == ["one", "two"]


def test_a_file_that_is_emptied_and_soon_longer_than_before_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "app.log"
    append(path, "one")
    watched = Watched(path, from_start=True)
    assert watched.settled() == ["one"]
    os.truncate(path, 0)
    append(path, "a line longer than the one before", "two")
    assert watched.settled() == ["a line longer than the one before", "two"]


def test_a_file_that_is_deleted_and_made_again_goes_on(tmp_path):
    path = tmp_path / "app.log"
    append(path, "one")
    watched = Watched(path, from_start=True)
    with open(path, "a", encoding="utf-8") as program:
        path.unlink()
        program.write("two\n")  # into the file without a name
    assert watched.settled() == ["one", "two"]
    append(path, "three")
    assert watched.settled() == ["three"]
    assert watched.told == [("missing", "app.log"), ("found", "app.log")]


def test_a_folder_that_becomes_a_file_is_told_and_its_file_waited_for(tmp_path):
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    path = folder / "app.log"
    append(path, "one")
    watched = Watched(path, from_start=True)
    assert watched.settled() == ["one"]
    folder.rename(moved)
    folder.write_bytes(b"")
    append(moved / "app.log", "two")
    assert watched.settled() == ["two"] and watched.settled() == []
    assert watched.told == [("unreadable", "app.log")]
    folder.unlink()
    moved.rename(folder)
    path.rename(folder / "app.log.1")
    append(path, "three")
    assert watched.settled() == ["three"]
    assert watched.told == [("unreadable", "app.log"), ("found", "app.log")]


def test_after_an_error_of_the_system_reading_goes_on_where_it_was(tmp_path):
    path = tmp_path / "app.log"
    append(path, "one")
    watched = Watched(path, from_start=True)
    assert watched.settled() == ["one"]
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, watched.follower._files[0].source._file.fileno())  # from now on reading it is an error
    os.close(folder)
    append(path, "two")
    assert watched.look() == []
    assert watched.settled() == ["two"]
    assert watched.told == [("unreadable", "app.log"), ("found", "app.log")]


def test_a_json_document_is_waited_for_to_its_end_and_read_once(tmp_path):
    path = tmp_path / "app.json"
    watched = Watched(path)
    append(path, "[")
    assert watched.settled() == []
    append(path, '{"message": "one"},')
    assert watched.settled() == []
    append(path, '{"message": "two"}', "]")
    assert watched.settled() == ["one", "two"]
    append(path, "[", '{"message": "three"}')
    assert watched.settled() + watched.end() == []
    assert watched.told[-1] == ("unfinished", "app.json")


def test_garbage_between_the_lines_ends_nothing_and_is_noted(tmp_path):
    path = tmp_path / "app.log"
    append(path, "INFO one")
    watched = Watched(path, from_start=True)
    with open(path, "ab") as file:
        file.write(
            bytes(range(256)).replace(b"\n", b"") + b"\x00\xff\n" + "INFO 二\n".encode("cp932") + b"INFO three\n"
        )
    first, _, *rest = watched.settled()
    assert [first, *rest] == ["one", "二", "three"]
    assert {note.kind for note in watched.notes} == {"undecodable", "nul", "encoding cp932"}


def test_several_files_are_followed_together(tmp_path):
    paths = [tmp_path / f"{name}.log" for name in "ab"]
    watched = Watched(*paths)
    append(paths[1], "b1")
    assert watched.settled() == ["b1"]
    append(paths[0], "a1")
    append(paths[1], "b2")
    assert watched.settled() == ["a1", "b2"]


def test_records_end_where_nothing_comes_for_a_while(tmp_path):
    path = tmp_path / "app.log"
    watched = Watched(path)
    waits = count()

    def wait(seconds: float) -> None:
        watched.clock.wait(seconds)
        number = next(waits)
        if number == 100:  # the first one is waited for without limit
            append(path, "one")
        if number == 110:
            append(path, "two")

    found = [record.message for record in watched.follower.until_quiet(5.0, wait)]
    assert found == ["one", "two"] and next(waits) > 110 + 5.0 / 0.25


def test_a_follower_that_is_stopped_ends_with_what_is_there(tmp_path):
    path = tmp_path / "app.log"
    watched = Watched(path)

    def wait(seconds: float) -> None:
        append(path, "INFO one", "INFO two")
        with open(path, "ab") as file:
            file.write(b"INFO three, torn")
        watched.follower.stop()

    assert watched.follower.unread == 0
    found = list(watched.follower.until_quiet(5.0, wait))
    assert [(record.message, record.torn) for record in found] == [
        ("one", False),
        ("two", False),
        ("three, torn", True),
    ]


def test_what_nobody_has_looked_at_is_unread(tmp_path):
    path = tmp_path / "app.log"
    append(path, "one")
    watched = Watched(path)
    append(path, "two", "three")
    assert watched.follower.unread == len("two\nthree\n")
    watched.look()
    assert watched.follower.unread == 0


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is a folder"), (b"\x1f\x8b1", "gzip"), (bytes(range(32)), "binary")]
)
def test_what_cannot_be_followed_is_told_in_a_line(content, words, tmp_path):
    path = tmp_path
    if content:
        path = tmp_path / "app.log"
        path.write_bytes(gzip.compress(b"one\n") if words == "gzip" else content)
    with pytest.raises(LogError, match=words) as caught:
        Follower([path])
    assert str(path) in str(caught.value)
