"""kakehashi logs: from files to alarms, as a person goes: fit, scan, accept, watch."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path

import logs_made
import pytest

from kakehashi import texts
from kakehashi.cli import console
from kakehashi.work.logs import Note, lines
from kakehashi.work.logs.wording import sentence

N = 120
LATER = logs_made.START + timedelta(days=30)
BAD = {"missing": {1001, 1002}, "early": {1010}, "new": {1020, 1021, 1022}, "slow": {1030}}
FIT = ("--steps", 100, "--json")
METHODS = {"both", "model", "parameter", "event", "length", "event or length", "counts", "sequence", "2-gram", "forest"}


@pytest.fixture(autouse=True)
def in_english(monkeypatch):
    monkeypatch.setenv("KAKEHASHI_LANG", "en")
    texts.use(None)
    yield
    texts.use(None)
    console.as_json = False


def in_this_process(*arguments, encoding="utf-8"):
    """(exit code, stdout, stderr) of a command, where torch is imported already; its streams are strict pipes."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]), pytest.raises(SystemExit) as left:
        console.run(list(map(str, arguments)))
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert "Traceback" not in err
    return left.value.code or 0, out, err


@pytest.fixture
def kakehashi():
    return in_this_process


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """(folder with a run, the JSON that fit ended with, what it printed)."""
    folder = tmp_path_factory.mktemp("logs")
    logs_made.write(folder / "normal" / "app.log", logs_made.made(N, 1))
    logs_made.write(folder / "odd.log", logs_made.made(60, 2, start=LATER, first=1000, **BAD))
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAKEHASHI_LANG", "en")
        code, out, err = in_this_process("logs", "fit", "normal", *FIT)
    assert code == 0, err
    return folder, json.loads(out), err


@pytest.fixture
def run(fitted):
    folder, found, _ = fitted
    yield folder / found["run"]
    (folder / found["run"] / "pending.json").unlink(missing_ok=True)


def command(*arguments):
    return [sys.executable, "-m", "kakehashi", "logs", *map(str, arguments)]


@contextmanager
def process(*arguments, cwd, **environment):
    """The real command, killed where a test fails before it ends."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command(*arguments), cwd=cwd, env={**os.environ, **environment}, **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


def said(out):
    return json.loads(out.splitlines()[-1])


def test_fit_says_what_it_found_and_leaves_a_run(fitted):
    folder, found, printed = fitted
    events = logs_made.made(N, 1)
    sentences = {each.name for each in events}
    assert found["n_records"] == len(events) and found["n_sessions"] == N and found["n_held_out"] == N - int(0.8 * N)
    assert found["n_templates"] == len(sentences) == len(found["templates"])
    assert sum(each["count"] for each in found["templates"]) == len(events)
    assert found["grouping"]["kind"] == "key" and found["grouping"]["value"] == "request"
    assert found["n_outside"] == sum(each.session is None for each in events)
    written = [events[i].time.isoformat(timespec="milliseconds") for i in (0, -1)]
    assert [datetime.fromisoformat(found[name]) for name in ("first", "last")] == list(
        map(datetime.fromisoformat, written)
    )
    assert {row["method"] for row in found["table"]} == METHODS
    assert all(0 <= row["share"] <= 1 and row["n_alarms"] <= found["n_held_out"] for row in found["table"])
    assert "Query for req-<*> took <*> ms" in {each["template"] for each in found["numbers"]}
    assert (folder / found["run"] / "model.safetensors").exists()
    assert f"{len(events):,}" in printed and "Reading part <*> of file <*> for req-<*>" in printed
    assert f"kakehashi logs scan {found['run']}" in printed
    assert max(len(line) for line in printed.splitlines() if "<*>" in line) <= 80


def test_scan_names_each_defect_with_its_line(fitted, run, kakehashi):
    folder, _, _ = fitted
    code, out, _ = kakehashi("logs", "scan", run, folder / "odd.log", "--json")
    found = said(out)
    assert code == 1 and found["n_sessions"] == 60
    lines_of_file = (folder / "odd.log").read_text(encoding="utf-8").splitlines()
    for alarm in found["alarms"]:
        for place in [alarm, *alarm["places"]]:
            assert lines_of_file[place["line"] - 1].endswith(f"{place['level']} {place['message']}")
        assert {"rank", "why", "n_alike", "session", "surprise", "methods", "number", "expected", "nearest"} <= set(
            alarm
        )
    why = {int(alarm["session"]): alarm["why"] for alarm in found["alarms"]}
    assert why[1030] == "parameter" and why[1010] == "end"
    assert [why[number] for number in (1020, 1021, 1022) if number in why] == ["new"]
    assert [each["count"] for each in found["new"]] == [3] and found["new"][0]["message"].startswith("Checksum")
    assert sum(alarm["n_alike"] for alarm in found["alarms"]) == found["n_alarms"]
    assert found["table"][0]["method"] == "both" and found["table"][0]["n_alarms"] == found["n_alarms"]


def test_sessions_that_had_begun_before_the_log_are_counted_and_no_alarms(run, kakehashi, tmp_path):
    events = logs_made.made(60, 2, start=LATER, first=1000, heartbeat=None)
    cut = next(i for i, event in enumerate(events) if event.name == "query")
    n_open = len({event.session for event in events[:cut]} & {event.session for event in events[cut:]})
    log = logs_made.write(tmp_path / "cut.log", events[cut:])
    _, out, err = kakehashi("logs", "scan", run, log, "--json")
    assert said(out)["n_running"] == n_open > 0
    assert f"had begun before the log does: {n_open}" in err


def test_the_learnt_log_itself_has_no_alarm_but_for_numbers(fitted, run, kakehashi):
    # the counts of each session are known, so that the model alone cannot alarm
    folder, _, _ = fitted
    code, out, _ = kakehashi("logs", "scan", run, folder / "normal", "--json")
    found = said(out)
    assert code == bool(found["n_alarms"]) and found["n_sessions"] == N
    assert all(alarm["why"] == "parameter" for alarm in found["alarms"])


def test_without_a_session_nothing_can_be_told(fitted, run, kakehashi, tmp_path):
    (tmp_path / "other.log").write_text("a line of another program\n" * 3, encoding="utf-8")
    code, out, err = kakehashi("logs", "scan", run, tmp_path / "other.log", "--json")
    assert code == 3 and said(out)["n_sessions"] == 0 and "No session" in err


@pytest.mark.parametrize("form", ["csv", "json"])
def test_other_forms_of_the_log_give_the_same_alarms(form, fitted, run, kakehashi, tmp_path):
    folder, _, _ = fitted
    log = logs_made.write(tmp_path / "app.log", logs_made.made(60, 2, start=LATER, first=1000, **BAD), form)

    def alarms(path):
        found = said(kakehashi("logs", "scan", run, path, "--json")[1])
        return [(each["why"], each["message"], each["time"], each["n_alike"]) for each in found["alarms"]]

    assert alarms(log) == alarms(folder / "odd.log")


def test_alarms_are_said_in_sentences_within_the_width(fitted, run, kakehashi):
    folder, _, _ = fitted
    code, out, _ = kakehashi("logs", "scan", run, folder / "odd.log")
    assert code == 1
    for words in ("never seen", "Expected instead:", "nearest normal session", "- Query for req-<*>", "3 alike"):
        assert words in out, words
    assert "took " in out and "kakehashi logs accept" in out
    assert all(len(line) <= 80 for line in out.splitlines() if line.startswith("   "))


def test_over_the_budget_the_rest_is_counted(fitted, run, kakehashi):
    folder, _, _ = fitted
    everything = said(kakehashi("logs", "scan", run, folder / "odd.log", "--json")[1])
    code, out, err = kakehashi("logs", "scan", run, folder / "odd.log", "--budget", 1, "--json")
    found = said(out)
    assert code == 1 and found["alarms"][0]["message"] == everything["alarms"][0]["message"]
    assert len(found["alarms"]) == 1 and found["n_over"] == len(everything["alarms"]) - 1
    second = everything["alarms"][1]
    assert f"{second['source']}:{second['line']}" in err and f"{found['n_over']} more" in err


def test_japanese_words_pass_a_cp932_pipe(fitted, run, monkeypatch):
    folder, _, _ = fitted
    monkeypatch.setenv("KAKEHASHI_LANG", "ja")
    code, out, err = in_this_process("logs", "scan", run, folder / "odd.log", encoding="cp932")
    assert code == 1 and not err and "?" not in out.replace("<?>", ""), err
    for words in ("警報: ", "代わりに予想していたもの", "最も近い正常セッション", "取り置き分", "初めて見る"):
        assert words in out, words


def test_templates_are_learnt_when_a_person_says_so(fitted, run, kakehashi):
    folder, _, _ = fitted
    kept = {name: (run / name).read_bytes() for name in ("detector.json", "templates.json")}
    assert said(kakehashi("logs", "accept", run, "--json")[1])["waiting"] == []
    kakehashi("logs", "scan", run, folder / "odd.log")
    code, out, _ = kakehashi("logs", "accept", run)
    assert code == 0 and "Checksum mismatch in block <*> of req-<*>, giving up" in out
    (waiting,) = said(kakehashi("logs", "accept", run, "--json")[1])["waiting"]
    assert waiting["count"] == 3
    code, _, err = kakehashi("logs", "accept", run, waiting["id"] + 7)
    assert code == 2 and str(waiting["id"] + 7) in err
    code, out, _ = kakehashi("logs", "accept", run, waiting["id"], "--json")
    assert code == 0 and [each["id"] for each in said(out)["learnt"]] == [waiting["id"]] and not said(out)["waiting"]
    again = said(kakehashi("logs", "scan", run, folder / "odd.log", "--json")[1])
    assert again["new"] == [] and "new" not in {alarm["why"] for alarm in again["alarms"]}
    for name, content in kept.items():
        (run / name).write_bytes(content)


def test_watch_says_alarms_as_they_come_through_a_rotation_and_at_its_end_what_is_open(fitted, run, tmp_path):
    events = logs_made.made(40, 5, start=LATER, first=1000, new={1005}, slow={1030})
    # the last one is still open at the end
    end = events[-1].time + timedelta(seconds=60)
    events += logs_made.made(1, 5, start=end, first=1040, language="ja", new={1040}, heartbeat=None)
    raw = logs_made.text(events).splitlines(keepends=True)
    log = tmp_path / "app.log"
    with process("watch", run, log, "--idle", 2, "--json", cwd=tmp_path) as watch:
        words = iter(watch.stderr.readline, "")
        assert any("Watching" in line for line in words)
        for i, line in enumerate(raw):
            if i == 1:
                assert any("is there" in line for line in words)
            if i == len(raw) // 2:
                log.rename(tmp_path / "app.log.1")
            with open(log, "a", encoding="utf-8") as file:
                file.write(line)
        alarms = {}
        while "1030" not in alarms and (line := watch.stdout.readline()):
            alarm = json.loads(line)
            alarms[alarm["session"]] = alarm["why"]
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=60)
    assert watch.returncode == 0 and "Traceback" not in err
    alarms |= {alarm["session"]: alarm["why"] for alarm in map(json.loads, out.splitlines()[:-1])}
    assert alarms["1005"] == "new" and alarms["1030"] == "parameter" and alarms["1040"] == "new"
    assert (said(out)["sessions"], said(out)["records"]) == (41, sum(each.session is not None for each in events))
    waiting = {each["message"] for each in said(in_this_process("logs", "accept", run, "--json")[1])["waiting"]}
    assert {each["message"] for each in said(out)["new"]} == waiting and len(waiting) > 1


def test_watch_judges_what_one_look_brings_together_and_of_what_is_open_all_but_the_end(run, tmp_path, monkeypatch):
    from kakehashi.work.logs.detector import Detector
    from kakehashi.work.logs.follow import Follower, watch

    events = logs_made.made(20, 5, start=LATER, first=1000, heartbeat=None)
    log = logs_made.write(
        tmp_path / "app.log", [each for each in events if each.session != 1000 or each.name != "closed"]
    )
    batches = []
    judge = Detector.judge

    def counted(self, sessions):
        batches.append([session.key for session in sessions])
        return judge(self, sessions)

    monkeypatch.setattr(Detector, "judge", counted)
    judged = []
    follower = Follower([log], from_start=True)
    watch(Detector.load(run), follower, 1e9, judged.append, wait=lambda seconds: follower.stop())
    assert [sorted(keys) for keys in batches if keys] == [[str(1000 + i) for i in range(20)]]
    (cut,) = [each for each in judged if each.session.key == "1000"]
    assert cut.surprises[-1] == 0 and not cut.alarm, "its end may be to come"


def test_a_fit_that_was_killed_is_told_in_a_line(fitted, kakehashi, tmp_path):
    from kakehashi.work.logs.detector import Detector

    class Killed(Exception):
        pass

    class Killer:
        def on_step(self, state):
            raise Killed

    folder, _, _ = fitted
    with pytest.raises(Killed):
        Detector.fit(folder / "normal", root=tmp_path, name="killed", steps=2, callbacks=[Killer()])
    run = tmp_path / "killed"
    code, _, err = kakehashi("logs", "scan", run, folder / "odd.log")
    assert code == 2 and f"kakehashi train --resume {run}" in err and len(err.splitlines()) == 1


def test_a_folder_of_every_defect_is_read_and_each_is_said(fitted, run, kakehashi, tmp_path):
    events = logs_made.made(12, 9, start=LATER, first=1000)
    logs_made.write(tmp_path / "a" / "local.log", events, zone=False)
    logs_made.write(tmp_path / "a" / "sjis.log", logs_made.made(12, 9, first=2000, language="ja"), "cp932")
    logs_made.write(tmp_path / "a" / "torn.log", events, torn=True)
    logs_made.write(tmp_path / "a" / "back.log", logs_made.back(events, 20, 3600))
    (tmp_path / "a" / "core.bin").write_bytes(bytes(range(32)) * 9)
    (tmp_path / "a" / "empty.log").write_bytes(b"")
    mixed = logs_made.text(events).encode() + b"\x00\x00INFO zeros\n" + b"\xff\xfe\x81 no text\n"
    (tmp_path / "a" / "mixed.log").write_bytes(mixed)
    _, out, err = kakehashi("logs", "scan", run, tmp_path / "a", "--json")
    kinds = {Path(note["source"]).name: note["kind"] for note in said(out)["notes"]}
    assert {note["kind"] for note in said(out)["notes"]} == {
        *("no zone", "encoding cp932", "torn", "clock", "binary", "empty", "nul", "undecodable")
    }
    for name, words in {
        "local": "without a zone",
        "sjis": "cp932",
        "torn": "torn",
        "back": "clock",
        "core": "binary",
    }.items():
        assert any(name in line and words in line for line in err.splitlines()), (name, kinds)


def test_a_torn_last_line_of_no_known_kind_is_left_out_and_said(fitted, run, kakehashi, tmp_path):
    log = logs_made.write(tmp_path / "torn.log", logs_made.made(12, 9, start=LATER, first=1000), torn=True)
    code, out, err = kakehashi("logs", "scan", run, log, "--json")
    n_lines = len(log.read_text(encoding="utf-8").splitlines())
    found = said(out)
    assert found["torn"] == [f"{log}:{n_lines}"] and f"{log}:{n_lines} is left out" in err
    assert found["new"] == [] and "new" not in {alarm["why"] for alarm in found["alarms"]}
    assert found["n_lines"] + sum(found["outside"].values()) + 1 == n_lines and f"Records: {n_lines}," in err


@pytest.mark.parametrize(("n", "few"), [(3000, True), (6000, False)])
def test_windows_that_are_few_are_said_to_set_thresholds_of_little_meaning(n, few, kakehashi, tmp_path):
    words = ["opens", "waits", "closes", "asks", "answers"]
    (tmp_path / "app.log").write_text("".join(f"INFO it {words[i % 5]}\n" for i in range(n)), encoding="utf-8")
    code, out, err = kakehashi("logs", "fit", tmp_path / "app.log", "--steps", 1, "--root", tmp_path, "--json")
    assert code == 0 and said(out)["n_sessions"] == n // 100
    sentence = f"{n // 100} sessions are few: thresholds from the {n // 500} held out"
    assert (sentence in err) == few and ("--window with less than 100" in err) == few


@pytest.mark.parametrize("masked", [False, True])
def test_templates_that_are_mostly_seen_once_are_said_with_a_word_that_differs(masked, kakehashi, tmp_path):
    names = [f"user{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(80)]
    said_once = "".join(f"INFO {name} opens it\n" for name in names)
    (tmp_path / "app.log").write_text(said_once + "INFO it waits\n" * 1000, encoding="utf-8")
    (tmp_path / "masks.toml").write_text("[[mask]]\nname = 'user'\nregex = 'user[a-z]{2}'\n", encoding="utf-8")
    rules = ["--masks", tmp_path / "masks.toml"] if masked else []
    code, out, err = kakehashi("logs", "fit", tmp_path / "app.log", *rules, "--steps", 1, "--root", tmp_path, "--json")
    assert code == 0 and said(out)["n_templates"] == (2 if masked else 81)
    assert ("80 of 81. Words such as useraa differ most" in err) != masked
    path = err.partition("The rules that there are: ")[2].splitlines()[0].strip() if not masked else ""
    assert masked or Path(path).name == "masks.toml"


def test_every_cause_of_an_alarm_has_its_words(fitted):
    from kakehashi.work.logs.detector import Judged

    causes = set(re.findall(r'"(\w+)"', Judged.__doc__.partition("why  ")[2]))
    assert causes >= {"new", "level", "order", "end", "parameter", "loop"}
    for room in ("logs", "gate"):
        known = texts.Texts(texts.HERE / "{lang}" / f"{room}.toml").all()
        said = causes - {"parameter"} if room == "logs" else causes
        assert {f"{room}.alarm.{cause}" for cause in said} <= set(known)
    known = texts.Texts(texts.HERE / "{lang}" / "logs.toml").all()
    assert {f"logs.number.{how}" for how in ("outside", "inside", "kind")} <= set(known)


@pytest.mark.parametrize(
    "zone, shown", [("+09:00", "+09:00"), (" JST", "+09:00"), ("-0330", "-03:30"), ("Z", "Z"), ("", "")]
)
def test_times_are_shown_as_they_were_written(zone, shown):
    from kakehashi.cli.logs import moment
    from kakehashi.work.logs.stamps import Times

    time = Times(datetime(2026, 12, 31)).read(f"2026-10-01 01:00:02,940{zone}")
    assert moment(time) == f"2026-10-01 01:00:02{shown}"


KINDS = ["binary", "unreadable", "empty", "torn", "encoding cp932", "undecodable", "nul", "long", "json", "quote"]


@pytest.mark.parametrize("lang", texts.LANGUAGES)
def test_every_kind_of_note_is_a_sentence(lang):
    texts.use(lang)
    kinds = [*KINDS, "no zone", "clock"]
    said = [sentence(Note(kind, "app.log", 7, 1234)) for kind in kinds]
    said += [sentence(Note(kind, "app.log", 0, 1)) for kind in ("torn", "encoding utf-16")]
    assert len(set(said)) == len(said) and all("app.log" in each for each in said)
    counted = said[4:8]
    assert all("1,234" in each and "7" in each for each in counted)
    for kind in kinds:  # what lines.Notes promises
        assert f'"{kind.partition(" cp932")[0]}' in lines.Notes.__doc__, kind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "nowhere"], "nowhere"),
        (["fit", "few.log"], "too few"),
        (["fit", "few.log", "--layout", "("], "layout"),
        (["fit", "few.log", "--key", "("], "key"),
        (["fit", "few.log", "--masks", "nowhere.toml"], "nowhere.toml"),
        (["fit", "few.log", "--encoding", "cp0"], "cp0"),
        (["fit", "few.log", "--model", "mlp9"], "mlp9"),
        (["scan", "nowhere", "few.log"], "nowhere"),
        (["scan", "nowhere", "few.log", "--budget", "0"], "--budget"),
        (["watch", "nowhere", "few.log"], "nowhere"),
        (["accept", "nowhere"], "nowhere"),
        (["accept", "nowhere", "1", "--all"], "--all"),
    ],
)
def test_a_wrong_call_is_told_in_a_line(arguments, words, kakehashi, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs_made.write(tmp_path / "few.log", logs_made.made(4, 1))
    code, _, err = kakehashi("logs", *arguments)
    assert code == 2 and words in err and len(err.strip().splitlines()[-1]) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["few.log"], "a wrong call left something behind"


def test_a_folder_cannot_be_watched(fitted, run, kakehashi, tmp_path):
    code, _, err = kakehashi("logs", "watch", run, tmp_path)
    assert code == 2 and "is a folder" in err


def test_what_a_line_would_do_to_a_terminal_is_spelled_out():
    from kakehashi.cli.logs import shortened

    assert shortened("a\x1b[2Jb\u202ec\u3000d", 80) == "a\\x1b[2Jb\\u202ec\u3000d"
    assert shortened("要求を受け付けました", 12) == "要求を受..."
