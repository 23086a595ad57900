"""The learner's workspace: made whole or completed later, and nothing a learner wrote is ever lost."""

import errno
import multiprocessing
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kakehashi import models, paths, source
from kakehashi.journey import authoring, hints, stations, workspace
from kakehashi.journey.grading import Grader
from kakehashi.journey.workspace import Workspace, WorkspaceError, start

TOY = Path(__file__).parent / "toy_station"


@pytest.fixture
def toy(monkeypatch):
    """The toy as the only station there is."""
    monkeypatch.syspath_prepend(str(TOY))
    station = stations.read(TOY)
    monkeypatch.setattr(stations, "all", lambda: (station,))
    return station


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# --- start


def test_start_makes_a_git_repository_with_starters_that_hold_no_answer(toy, tmp_path, tool):
    tool("git")
    made = start(tmp_path / "my way", "ja")
    assert Workspace.find(made.root / "stations") == made and made.has_git
    assert git(made.root, "status", "--porcelain") == "" and "stations/toy_reference.py" in git(made.root, "ls-files")
    text = made.file(toy).read_text(encoding="utf-8")
    reference = source.read(toy.reference)
    assert source.empty(text, reference, toy.symbols)[0] == "squash"
    assert source.fill(text, reference, toy.symbols).count("torch.log1p") == 1 and "log1p" not in text
    assert text.startswith("# ") and "おもちゃ" in text and made.events() == []
    assert source.load(made.file(toy)).REFERENCE == "toy_reference"


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_starters_of_all_real_stations_are_python_and_name_the_model_that_they_are(lang):
    for name, text in workspace.starters(lang).items():
        stem = name.removesuffix(".py")
        assert (f'\nREFERENCE = "{stem}"\n' in text) == (stem in models.NAMES)
        compile(text, name, "exec")


def test_start_refuses_a_folder_with_anything_in_it_and_touches_nothing(toy, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="not empty"):
        start(tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}
    with pytest.raises(WorkspaceError, match="is a file"):
        start(tmp_path / "thesis.txt")


@pytest.mark.parametrize(("method", "at"), [("mkdir", 1), ("mkdir", 3), ("touch", 1)])
def test_a_disk_that_refuses_is_one_line_and_start_can_be_tried_again(toy, tmp_path, monkeypatch, method, at):
    plain, calls = getattr(Path, method), []

    def refused(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(WorkspaceError, match="No space left"):
        patch.setattr(Path, method, refused)
        start(tmp_path / "w")
    assert start(tmp_path / "w").events() == []


def test_start_takes_a_folder_with_its_own_empty_folders_only(toy, tmp_path):
    (tmp_path / "w" / "journal").mkdir(parents=True)
    assert start(tmp_path / "w").file(toy).exists()
    (tmp_path / "v" / "journal").mkdir(parents=True)
    (tmp_path / "v" / "journal" / "day 1.md").write_text("mine", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="not empty"):
        start(tmp_path / "v")


def test_start_refuses_a_finished_workspace(toy, tmp_path):
    made = start(tmp_path / "w")
    made.file(toy).write_text("my work", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="already a workspace"):
        start(tmp_path / "w")
    assert made.file(toy).read_text(encoding="utf-8") == "my work"


def test_start_works_without_git_and_says_so(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    made = start(tmp_path / "w")
    assert not made.has_git and made.file(toy).exists() and made.commit("nothing to commit to") is False


def test_start_is_not_led_astray_by_the_callers_git_variables(toy, tmp_path, monkeypatch, tool):
    tool("git")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert start(tmp_path / "w").has_git and not (tmp_path / "elsewhere").exists()


class Killed(BaseException):
    """A kill, where no handler runs."""


@pytest.mark.parametrize("step", range(1, 5))
def test_start_killed_in_the_middle_is_completed_by_the_next_start(toy, tmp_path, monkeypatch, step, tool):
    tool("git")
    whole = contents(start(tmp_path / "whole").root)
    writes = 0
    write = paths.atomic_write

    def killed_at_step(path, data):
        nonlocal writes
        writes += 1
        if writes == step:
            Path(path).with_name(".kakehashi-0123.tmp").write_bytes(b"half a fi")
            raise Killed
        write(path, data)

    monkeypatch.setattr(paths, "atomic_write", killed_at_step)
    with pytest.raises(Killed):
        start(tmp_path / "w")
    monkeypatch.setattr(paths, "atomic_write", write)
    assert contents(start(tmp_path / "w").root) == whole


def test_start_killed_inside_git_is_completed_by_the_next_start(toy, tmp_path, monkeypatch, tool):
    tool("git")

    def killed(self, *words):
        if words[0] == "commit":
            (self.root / ".git" / "index.lock").touch()
            raise Killed
        return run(self, *words)

    run = Workspace.git
    monkeypatch.setattr(Workspace, "git", killed)
    with pytest.raises(Killed):
        start(tmp_path / "w")
    monkeypatch.setattr(Workspace, "git", run)
    assert git(start(tmp_path / "w").root, "log", "--format=%s") == "Start\n"


def test_outside_a_workspace_the_error_says_how_to_make_one(tmp_path):
    with pytest.raises(WorkspaceError, match="kakehashi start DIR"):
        Workspace.find(tmp_path)


# --- reset


def test_reset_restores_the_starter_and_keeps_the_work_beside_it_and_in_git(toy, tmp_path, tool):
    tool("git")
    made = start(tmp_path / "w")
    starter = made.file(toy).read_bytes()
    for work in ("first try", "second try"):
        made.file(toy).write_text(work, encoding="utf-8")
        kept = made.reset(toy)
        assert kept.read_text(encoding="utf-8") == work and made.file(toy).read_bytes() == starter
    assert {path.name for path in made.file(toy).parent.iterdir()} == {
        "toy_reference.py",
        "toy_reference.1.py",
        "toy_reference.2.py",
    }
    assert git(made.root, "show", "HEAD:stations/toy_reference.py") == "second try"


def test_reset_of_an_untouched_or_a_deleted_file_keeps_nothing(toy, tmp_path):
    made = start(tmp_path / "w")
    starter = made.file(toy).read_bytes()
    assert made.reset(toy) is None
    made.file(toy).unlink()
    assert made.reset(toy) is None and made.file(toy).read_bytes() == starter


# --- events


def test_events_come_back_in_order_with_what_they_carry(tmp_path):
    made = Workspace(tmp_path)
    made.event("hint", "gpt2", symbol="MLP", level=2)
    made.event("predict", "batch-size", passed=True, score=0.25, seconds=3.5, 予想="速い")
    hint, predict = made.events()
    assert hint.keys() == {"v", "id", "t", "type", "item", "data"} and hint["data"] == {"symbol": "MLP", "level": 2}
    assert (predict["v"], predict["passed"], predict["score"], predict["seconds"]) == (1, True, 0.25, 3.5)
    assert predict["data"] == {"予想": "速い"} and hint["id"] != predict["id"] and hint["t"].endswith("+00:00")
    with pytest.raises(ValueError, match="type"):
        made.event("graed", "gpt2")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_left_out_and_the_next_event_stands_alone(tmp_path, cut):
    made = Workspace(tmp_path)
    made.event("note", "a")
    made.event("note", "b")
    with open(tmp_path / "progress.jsonl", "r+b") as file:
        file.truncate(os.path.getsize(tmp_path / "progress.jsonl") - cut)
    whole = ["a", "b"] if cut == 1 else ["a"]  # without the line break alone, nothing is missing
    assert [event["item"] for event in made.events()] == whole
    made.event("note", "c")
    assert [event["item"] for event in made.events()] == [*whole, "c"]


def test_a_line_that_is_no_event_in_the_middle_is_named_not_skipped(tmp_path):
    made = Workspace(tmp_path)
    made.event("note", "a")
    with open(tmp_path / "progress.jsonl", "ab") as file:
        file.write(b"<<<<<<< HEAD\n")
    with pytest.raises(WorkspaceError, match="line 2 is no event: '<<<<<<< HEAD'"):
        made.events()


def write_many(root: str, name: str) -> None:
    for _ in range(20):
        Workspace(Path(root)).event("note", name)


def test_events_of_two_processes_do_not_mix(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(str(tmp_path), name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    items = [event["item"] for event in Workspace(tmp_path).events()]
    assert sorted(items) == ["a"] * 20 + ["b"] * 20


def test_a_grading_is_an_event_and_a_passed_file_stands_in_until_it_changes(toy, tmp_path):
    made = start(tmp_path / "w")
    with Grader() as grader:
        assert not made.grade(grader, toy).passed and made.stand_in(toy) is None
        made.file(toy).write_bytes(toy.reference.read_bytes())
        assert made.grade(grader, toy, symbols=["Gain"]).right
        assert made.stand_in(toy) is None  # a part of the station is not the station
        assert made.grade(grader, toy).passed and made.stand_in(toy) == made.file(toy)
    blank, part, whole = made.events()
    assert (blank["passed"], blank["score"], blank["data"]["blank"][0]) == (False, 0.0, "squash")
    assert (part["passed"], part["score"], part["data"]["symbols"]) == (False, 0.2, ["Gain"])
    assert (whole["passed"], whole["score"], whole["data"]["failed"]) == (True, 1.0, [])
    made.file(toy).write_text("x = 1\n", encoding="utf-8")
    assert made.stand_in(toy) is None


def test_a_workspace_knows_where_the_learner_stands(toy, tmp_path):
    made = start(tmp_path / "w")
    reference = source.read(toy.reference)
    assert made.unwritten(toy) == ["squash", "Gain", "Net"] and made.next_blank(toy) == "squash"
    assert made.begun() == [toy]  # nothing is begun: the first
    made.file(toy).write_text(source.blank(reference, ["Net.forward"]), encoding="utf-8")
    assert made.unwritten(toy) == ["Net"] and made.next_blank(toy) == "Net"
    made.event("grade", toy.id, passed=False, failed=["gain_multiplies", "syntax"], blank=["Net.forward"])
    assert made.next_blank(toy) == "Gain"
    made.event("grade", toy.id, passed=True, failed=[], blank=[])
    made.file(toy).write_text(reference, encoding="utf-8")
    assert made.unwritten(toy) == [] and made.next_blank(toy) == "squash"


def test_the_next_hint_gives_away_one_step_more_until_the_last(toy, tmp_path):
    made = Workspace(tmp_path)

    def shown(symbol: str) -> list[int]:
        seen = []
        for _ in range(4):
            seen.append(made.next_hint(toy, symbol))
            made.event("hint", toy.id, symbol=symbol, level=seen[-1])
        return seen

    made.event("hint", toy.id, symbol="squash", level="answer")
    assert shown("squash") == [1, 2, 3, 3]
    assert shown("Gain") == [1, 1, 1, 1]  # its body has no comment


# --- hints


def test_hints_go_from_the_idea_over_the_shapes_to_the_reasons(toy):
    assert hints.hint(toy, "squash", 1, "en") == ["Which of the two terms is large?"]
    assert hints.hint(toy, "squash", 2, "ja") == ["(B, C)"]
    assert hints.hint(toy, "Net.forward", 3, "en") == ["x goes on as it is: the gradient has a straight way"]
    assert hints.hint(toy, "Net", 3, "ja") == ["x はそのまま先へ進む。勾配にまっすぐな道ができる。"]
    assert hints.hint(toy, "Gain", 3, "ja") == []
    with pytest.raises(hints.NoHint, match="4"):
        hints.hint(toy, "squash", 4, "en")
    with pytest.raises(stations.UnknownStation, match="'Head'"):
        hints.hint(toy, "Head", 1, "en")


def test_the_answer_is_the_references_own_text(toy):
    assert hints.answer(toy, "Gain.forward") in source.read(toy.reference)
    assert hints.answer(toy, "Gain.forward").rstrip().endswith("return x * self.weight")
    assert hints.answer(toy, "Gain").startswith("class Gain(nn.Module):")


# --- the author's check


def test_the_toys_texts_are_complete(toy):
    assert authoring.problems(toy) == []


@pytest.mark.parametrize("station", stations.all(), ids=lambda station: station.id)
def test_every_stations_texts_are_complete(station):
    assert authoring.problems(station) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("ja.md", "5c0c7f58", "00000000", "ja.md: hint squash: 00000000 is stale"),
        ("ja.md", "- a1ce2aea", "- 12345678", "a1ce2aea is missing: 'x goes on as it is"),
        ("en.md", "## hint Gain", "## hint Gian", "en.md: 'hint Gain' is missing"),
        ("ja.md", "squash({x})", "squash({y})", "'wrong overflows' has placeholders ['x'] in en, ['y'] in ja"),
        ("checks.py", 'Wrong("overflows"', 'Wrong("explodes"', "en.md: 'wrong explodes' is missing"),
        ("checks.py", '@check("Gain.forward", 20)', '@check("Net", 20)', "checks.py: no check of Gain"),
        ("checks.py", '"Gain.forward"', '"Gian.forward"', "station 'toy_station' has no symbol 'Gian.forward'"),
        ("station.py", '"Net"', '"Nut"', "toy_reference.py has no 'Nut'"),
    ],
)
def test_a_text_that_is_missing_or_stale_is_a_problem(toy, tmp_path, file, old, new, problem):
    folder = shutil.copytree(TOY, tmp_path / "toy_station")
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    assert any(problem in each for each in authoring.problems(stations.read(folder)))


def test_an_unknown_station_is_told_with_those_there_are(toy):
    with pytest.raises(stations.UnknownStation, match="toy_station"):
        stations.find("gtp2")
