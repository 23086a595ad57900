"""The grading machinery, on a toy station small enough to be broken in every way: tests/toy_station."""

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kakehashi import sandbox, source
from kakehashi.journey import grading, matrix, stations
from kakehashi.journey.grading import Grader, GradingError

TOY = Path(__file__).parent / "toy_station"
CHECKS = ("squash_is_log_1_plus_exp", "squash_survives_large_numbers", "gain_multiplies", "net_adds", "net_learns")
GAIN = "        return x * self.weight\n"
SQUASH = "    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))"
WEIGHT = "        self.weight = nn.Parameter(torch.ones(width))\n"
TOP = "from torch import Tensor, nn\n"


@pytest.fixture(scope="module")
def toy():
    sys.path.append(str(TOY))
    yield stations.read(TOY)
    sys.path.remove(str(TOY))


@pytest.fixture(scope="module")
def reference(toy):
    return source.read(toy.reference)


@pytest.fixture(scope="module")
def grader():
    with Grader() as grader:
        yield grader


@pytest.fixture
def grade(toy, reference, grader, tmp_path):
    """grade(("old", "new"), ...): the reference as the learner's file, with replacements; all verdicts have words."""

    def run(*changes, text=None, symbols=None, using=grader):
        text = reference if text is None else text
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        file = tmp_path / "my_toy.py"
        file.write_text(text, encoding="utf-8")
        told = []
        grade = using.grade(toy, file, symbols, tell=told.append)
        assert [result for result in told if result.check] == grade.results
        assert all(toy.say(each.key, each.values, lang) for each in grade.failures for lang in ("en", "ja"))
        return grade

    return run


def failures(grade):
    return {(result.check, result.key) for result in grade.failures}


# --- what passes and what does not


def test_a_right_file_passes_every_check_then_the_house(grade):
    result = grade()
    assert result.passed and result.why is None and result.blank == result.borrowed == []
    assert tuple(each.check for each in result.results) == CHECKS and all(each.ok for each in result.results)


def test_the_empty_starter_is_not_graded_on_the_references_work(grade, reference, toy):
    result = grade(text=source.blank(reference, toy.symbols))
    assert not result.passed and result.results == [] and result.waiting == {}
    assert {toy.owner(each) for each in result.blank} == set(toy.symbols)


def test_a_half_written_file_is_graded_on_what_is_written(grade, reference):
    result = grade(text=source.blank(reference, ["squash", "Net.forward"]))
    assert not result.passed and result.blank == ["squash", "Net.forward"]
    assert [(each.check, each.ok) for each in result.results] == [("gain_multiplies", True)]
    assert result.waiting == {"Net.__init__": ["Net.forward"]}, "written, and not graded alone"
    assert "squash" in result.borrowed


def test_a_file_with_one_symbol_alone_borrows_the_others(grade, reference):
    only = "def squash(x):\n    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))\n"
    result = grade(text=f"import torch\n\n{only}")
    assert [each.ok for each in result.results] == [True, True] and result.blank == ["Gain", "Net"]


def test_what_the_learners_code_printed_holds_no_warning_about_our_frames(grade):
    number = "    import math\n    print(math.tanh(torch.zeros((), requires_grad=True)))\n"
    result = grade((SQUASH, f"{number}{SQUASH}"), symbols=["squash"])
    assert result.right and set(result.log.splitlines()) == {"0.0"}


def test_symbols_can_be_asked_for_alone(grade):
    result = grade(symbols=["Gain.forward"])
    assert result.right and [each.check for each in result.results] == ["gain_multiplies"]
    assert not result.passed  # a part of the station is not the station
    with pytest.raises(stations.UnknownStation, match="squash, Gain, Net"):
        grade(symbols=["Gian"])


def test_a_failing_check_accuses_the_symbol_at_fault_and_no_other(grade):
    result = grade(("return x.clamp(min=0) +", "return 0.9 * x.clamp(min=0) +"))
    assert failures(result) == {("squash_is_log_1_plus_exp", "value")}
    assert result.failures[0].where["line"] == 7 and result.failures[0].where["symbol"] == "squash"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (GAIN, "        x * self.weight\n", ("gain_multiplies", "none")),
        (GAIN, "        return [x * self.weight]\n", ("gain_multiplies", "type")),
        (GAIN, "        return (x * self.weight).sum(1)\n", ("gain_multiplies", "shape")),
        (GAIN, "        return (x * self.weight).double()\n", ("gain_multiplies", "dtype")),
        (GAIN, "        return x * self.weight * float('nan')\n", ("gain_multiplies", "nan")),
        (GAIN, "        return x * self.weight.detach()\n", ("gain_multiplies", "no_gradient")),
        (GAIN, "        x *= self.weight\n        return x\n", ("gain_multiplies", "overwrites")),
        (GAIN, "        raise SystemExit(0)\n", ("gain_multiplies", "raised")),
        (GAIN, "        return torch.ones(10**12) * x\n", ("gain_multiplies", "memory")),
        (WEIGHT, WEIGHT.replace("weight", "gain"), ("gain_multiplies", "missing_parameter")),
        (WEIGHT, WEIGHT + WEIGHT.replace("weight", "bias"), ("gain_multiplies", "extra_parameter")),
        (WEIGHT, WEIGHT.replace("(width)", "(1, width)"), ("gain_multiplies", "shape")),
        ("x = x + squash(self.gain(x))", "x += squash(self.gain(x))", ("net_adds", "overwrites")),
        (SQUASH, "    return torch.log(1 + torch.exp(x))", ("squash_survives_large_numbers", "overflows")),
    ],
)
def test_what_is_wrong_has_a_name(grade, old, new, expected):
    result = grade((old, new))
    assert not result.passed and expected in failures(result)


# --- accidents: the answer imported, torch changed, a primitive that is not allowed


@pytest.mark.parametrize(
    "line",
    ["from kakehashi.models.gpt2 import gelu", "import kakehashi.models.mlp as m", "from kakehashi import models"],
)
def test_an_import_of_the_answers_is_refused_with_its_line(grade, line):
    result = grade((TOP, f"{TOP}{line}\n"))
    assert not result.passed and result.results == []
    assert result.why.key == "imports_answer" and result.why.where["line"] == 5


@pytest.mark.parametrize(
    "code",
    [
        "from torch.nn.functional import softplus as squash\n",
        "import importlib\nsquash = importlib.import_module('toy_reference').squash\n",
        "import importlib\nclass Gain(importlib.import_module('toy_reference').Gain): extra = 1\n",
    ],
)
def test_a_symbol_that_was_not_written_here_is_refused(grade, reference, code):
    name = "Gain" if "Gain" in code else "squash"
    path = f"import sys\nsys.path.append({str(TOY)!r})\n"
    result = grade(text=f"{reference}\n{path}{code}", symbols=[name])
    assert not result.passed and result.why.key == "imported" and result.why.values["symbol"] == name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("nn.functional.relu = lambda x: x", "torch.nn.functional.relu"),
        ("torch.exp = torch.sin", "torch.exp"),
        ("Tensor.abs = lambda self: self", "torch.Tensor.abs"),
        ("nn.Linear.forward = None", "torch.nn.Linear.forward"),
        ("nn.init.normal_ = nn.init.zeros_", "torch.nn.init.normal_"),
        ("torch.set_default_dtype(torch.float64)", "torch.get_default_dtype()"),
        ("torch.set_grad_enabled(False)", "torch.is_grad_enabled()"),
    ],
)
def test_a_changed_torch_is_noticed_at_import_and_named(grade, code, name):
    result = grade((TOP, f"{TOP}\n{code}\n"))
    assert not result.passed and result.results == []
    assert (result.why.key, result.why.values) == ("patched", {"name": name})


def test_a_change_of_torch_during_a_check_is_named_by_that_check(grade):
    result = grade((GAIN, "        torch.sigmoid = torch.sin\n        return x * self.weight\n"))
    assert ("gain_multiplies", "patched") in failures(result)


def test_switches_left_over_by_one_check_do_not_reach_the_next(grade):
    result = grade(("    return x.clamp", "    torch.set_grad_enabled(False)\n    return x.clamp"))
    assert {check for check, key in failures(result)} >= set(CHECKS[:2])
    assert "gain_multiplies" in {each.check for each in result.results if each.ok}


@pytest.mark.parametrize(
    "call",
    [
        "nn.functional.softplus(x)",
        "getattr(nn.functional, 'soft' + 'plus')(x)",
        "nn.Softplus()(x)",
        "alias(x)",
    ],
)
def test_a_forbidden_primitive_is_found_under_any_alias(grade, call):
    result = grade(
        (TOP, f"{TOP}alias = nn.functional.softplus\n"),
        (SQUASH, f"    try:\n        return {call}\n    except Exception:\n        return x"),
    )
    assert ("squash_is_log_1_plus_exp", "forbidden") in failures(result)
    assert result.failures[0].values == {"name": "softplus"}


def test_the_checks_themselves_may_call_what_is_forbidden(grade):
    assert grade().passed  # squash_is_log_1_plus_exp compares with softplus


def test_changing_the_imported_reference_does_not_reach_the_one_compared_with(grade):
    spoil = (
        f"import sys\nsys.path.append({str(TOY)!r})\nimport toy_reference\n"
        "toy_reference.squash = toy_reference.Gain.forward = None\n"
    )
    assert grade((TOP, f"{TOP}{spoil}")).passed


# --- crashes, loops, and words on the way


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ("import os; os._exit(0)", "exited"),
        ("import ctypes; ctypes.string_at(0)", "crashed"),
        ("while True: pass", "timeout"),
    ],
)
def test_a_process_that_does_not_end_well_fails_in_the_running_check(grade, code, key):
    result = grade((GAIN, f"        print('最後の言葉')\n        {code}\n"))
    assert not result.passed and result.why == result.results[-1]
    assert (result.why.check, result.why.key) == ("gain_multiplies", key)
    assert [each.ok for each in result.results] == [True, True, False] and result.n_checks == len(CHECKS)
    assert result.log == "最後の言葉\n"
    if key != "exited":
        assert result.why.where["line"] == 26


@pytest.mark.slow
def test_code_that_kills_its_parent_fails_in_the_running_check_and_the_next_grading_is_right(grade):
    result = grade((GAIN, "        import os, signal; os.kill(os.getppid(), signal.SIGKILL)\n"))
    assert not result.passed and (result.why.check, result.why.key) == ("gain_multiplies", "crashed")
    assert result.why.values["signal"] == "SIGKILL" and grade().passed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit the size of a file")
def test_code_that_prints_without_measure_is_told_so(grade):
    result = grade((GAIN, f"        print('x' * (65 << 20))\n{GAIN}"))
    assert ("gain_multiplies", "printed") in failures(result)


def test_of_a_process_that_forks_one_is_heard(grade):
    result = grade((GAIN, f"        import os; os.fork()\n{GAIN}"))
    assert result.passed and tuple(each.check for each in result.results) == CHECKS


def test_the_worker_lives_on_after_a_crash(grade):
    assert not grade((GAIN, "        import os; os._exit(1)\n")).passed
    assert grade().passed


def test_a_file_that_ends_the_process_while_imported_is_told_so(grade):
    result = grade((TOP, f"{TOP}import os; os._exit(0)\n"))
    assert not result.passed and result.results == [] and result.why.key == "exited_loading"


def test_an_error_while_imported_is_told_once_with_its_line(grade):
    result = grade((TOP, f"{TOP}print('so far')\nx = torch.ones(2, 3) @ torch.ones(2)\n"))
    assert not result.passed and result.results == [] and result.log == "so far\n"
    assert result.why.key == "raised" and result.why.where["line"] == 6 and result.why.symbol == ""


def test_what_a_grading_started_is_gone_when_it_is_over(grade, tmp_path, tool):
    tool("mkfifo")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    start = "import os, time; held = os.open({!r}, os.O_WRONLY); os.fork() or time.sleep(3600)"
    grade((GAIN, f"        {start.format(str(pipe))}\n{GAIN}"))
    select.select([reader], [], [], 10)  # killed is not yet gone
    assert os.read(reader, 1) == b""  # end of file: nobody holds the other end; else BlockingIOError
    os.close(reader)


def test_the_learners_code_reaches_no_network(grade):
    if "network" in sandbox.isolate([])[1]:
        pytest.skip("needs a system that can take the network away")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
        result = grade((GAIN, f"        {connect}\n{GAIN}"))
    assert ("gain_multiplies", "raised") in failures(result)


def test_the_learner_may_use_threads_though_the_worker_forked(grade):
    busy = "torch.set_num_threads(2); torch.ones(600, 600) @ torch.ones(600, 600)"
    assert grade((GAIN, f"        {busy}\n{GAIN}")).passed


def test_a_pickle_of_the_learners_never_becomes_the_references(grade):
    assert grade((GAIN, f"        import copy; copy.deepcopy(self)\n{GAIN}")).passed
    result = grade((GAIN, f"        import pickle; pickle.loads(pickle.dumps(self))\n{GAIN}"))
    assert ("gain_multiplies", "raised") in failures(result)
    assert "kakehashi_own" in result.failures[0].values["error"]


def test_an_error_shows_the_learners_line_and_the_shapes_on_it(grade):
    result = grade((GAIN, "        y = x.T\n        return y @ self.weight\n"))
    failure = result.failures[0]
    assert failure.key == "raised" and failure.where["line"] == 26
    assert failure.where["symbol"] == "Gain.forward"
    assert failure.values["code"] == "return y @ self.weight"
    assert failure.values["shapes"] == "y (3, 4), self.weight (3,)"


@pytest.mark.parametrize(
    "error, said",
    [
        ("ValueError('x' * 10**6)", "ValueError: xxx"),
        ("type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "E: (its __str__ fails)"),
        ("ValueError('\\n\\nsecond')", "ValueError:"),
    ],
)
def test_an_error_is_told_in_one_short_line(grade, error, said):
    failure = grade((GAIN, f"        raise {error}\n")).failures[0]
    assert failure.key == "raised" and failure.values["error"].startswith(said)
    assert len(failure.values["error"]) < 400 and "\n" not in failure.values["error"]


def test_a_learner_who_empties_pythons_modules_is_graded_all_the_same(grade):
    result = grade((GAIN, f"        import sys; sys.modules.clear(); assert x.shape[1] == 0\n{GAIN}"))
    assert ("gain_multiplies", "raised") in failures(result) and result.failures[0].where["line"] == 25


def test_an_error_in_the_head_of_what_is_borrowed_is_told_as_the_references(grade):
    result = grade(text=f"import torch\nnn = Tensor = None\n\ndef squash(x):\n{SQUASH}\n")
    assert (result.why.key, result.why.values["borrowed"]) == ("raised_borrowed", "toy_reference.py")


def test_line_breaks_of_old_machines_do_not_hide_a_line(grade, reference):
    wrong = reference.replace(GAIN, "        return x @ self.weight.T.T.T[None]\n").replace("\n", "\r")
    assert grade(text=wrong).failures[0].values["code"] == "return x @ self.weight.T.T.T[None]"


def test_what_was_given_and_is_altered_is_told_after_what_failed(tmp_path):
    station = stations.find("walk")
    text = source.read(station.reference).replace("def is_wanted(vertex: Vertex, ", "def is_wanted(")
    text = text.replace("set[Vertex] | None) -> bool:", "set[Vertex] | None, vertex: Vertex) -> bool:")
    text = text.replace("is_wanted(vertex, wanted)", "is_wanted(wanted, vertex)")
    failed = matrix.failures(station, text, ["uses", "walk"])
    assert failed[0]["check"] and (failed[-1]["check"], failed[-1]["key"]) == ("", "given")
    assert failed[-1]["values"] == {"names": "is_wanted"}
    assert "def is_wanted(wanted" in text.splitlines()[failed[-1]["where"]["line"] - 1]
    assert matrix.failures(station, text, [], house=True) == []


def test_an_error_in_borrowed_code_names_the_references_part_and_the_learners_line(grade):
    result = grade(("x = x + squash(self.gain(x))", "x = x + squash(self.gain(x[:, :2]))"), symbols=["Net"])
    failure = result.failures[0]
    assert failure.key == "raised_borrowed" and failure.values["borrowed"] == "Gain.forward"
    assert failure.values["code"].startswith("x = x + squash") and failure.where["symbol"] == "Net.forward"


def test_a_signature_that_does_not_fit_is_told_as_the_callers_error(grade):
    result = grade((f"(self, width: int):\n        super().__init__()\n{WEIGHT}", f"(self, a, width):\n{WEIGHT}"))
    assert ("gain_multiplies", "unusable") in failures(result)
    assert "Gain.__init__() missing 1 required positional argument" in result.failures[0].values["error"]


# --- files that cannot be graded


def test_a_syntax_error_is_told_with_its_line_before_any_worker_starts(toy, tmp_path):
    file = tmp_path / "my_toy.py"
    file.write_text("import torch\n\ndef squash(x:\n    return x\n", encoding="utf-8")
    grader = Grader()
    result = grader.grade(toy, file)
    assert grader.worker is None
    assert not result.passed and result.why.key == "syntax" and result.why.where["line"] == 3


@pytest.mark.parametrize("line", ["return 1", "x = '\0'"])
def test_what_only_the_compiler_refuses_is_a_syntax_error_too(grade, reference, line):
    why = grade((TOP, f"{TOP}{line}\n")).why
    assert why.key == "syntax" and why.values["line"] == reference.partition(TOP)[0].count("\n") + 2


@pytest.mark.parametrize("data", ["x = 'あ'\n".encode("cp932"), "x = 1\n".encode("utf-16")])
def test_a_file_that_is_not_text_is_refused_in_words(toy, tmp_path, data):
    file = tmp_path / "my_toy.py"
    file.write_bytes(data)
    why = Grader().grade(toy, file).why
    assert why.key == "unreadable" and toy.say(why.key, why.values, "ja")


def test_a_byte_order_mark_is_no_error(grade, reference):
    assert grade(text="\ufeff" + reference).passed


def test_a_missing_file_or_a_folder_is_a_wrong_call(toy, tmp_path):
    with pytest.raises(GradingError, match="not there"):
        Grader().grade(toy, tmp_path / "none.py")
    with pytest.raises(GradingError, match="a folder"):
        Grader().grade(toy, tmp_path)


# --- the machinery


def test_a_right_file_passes_where_processes_are_spawned(grade, monkeypatch):
    monkeypatch.setenv("KAKEHASHI_SPAWN", "1")
    with Grader() as spawning:
        result = grade(using=spawning)
    assert result.passed and tuple(each.check for each in result.results) == CHECKS


@pytest.mark.slow
@pytest.mark.parametrize(("code", "key"), [("import os; os._exit(0)", "exited"), ("while True: pass", "timeout")])
def test_a_spawned_process_that_does_not_end_well_fails_in_the_running_check(grade, monkeypatch, code, key):
    monkeypatch.setenv("KAKEHASHI_SPAWN", "1")
    with Grader() as spawning:
        result = grade((GAIN, f"        print('last')\n        {code}\n"), using=spawning)
    assert (result.why.check, result.why.key, result.log) == ("gain_multiplies", key, "last\n")


def test_first_words_come_without_torch():
    names = "grading", "hints", "stations", "workspace", "worker", "drills"
    code = f"import sys; from kakehashi.journey import {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checks_are_listed_from_the_text_in_their_order(toy):
    assert tuple(check.id for check in toy.checks) == CHECKS
    assert {toy.owner(check.symbol) for check in toy.checks} == {"", *toy.symbols}


def test_watching_grades_again_after_each_save(toy, reference, tmp_path):
    pytest.importorskip("watchfiles", reason="needs watchfiles")
    file = tmp_path / "my_toy.py"
    file.write_text("x = (", encoding="utf-8")
    grades = grading.watch(toy, file)
    assert next(grades).why.key == "syntax"
    file.write_text("from kakehashi.models import gpt2", encoding="utf-8")
    assert next(grades).why.key == "imports_answer"
    replacement = tmp_path / "new.py"  # many editors save so
    replacement.write_text(source.blank(reference, toy.symbols), encoding="utf-8")
    os.replace(replacement, file)
    assert next(grades).blank[0] == "squash"
    grades.close()


def test_a_config_with_a_field_more_belongs_to_the_learners_classes(grader, tmp_path):
    station = stations.find("bigram")
    text = source.read(station.reference)
    for old, new in (("  # V\n", "  # V\n    start: float = 0.0\n"), ("torch.zeros(", "config.start + torch.zeros(")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file = tmp_path / "bigram.py"
    file.write_text(text, encoding="utf-8")
    assert grader.grade(station, file).passed


def test_the_worker_speaks_the_protocol(toy, reference, grader, tmp_path):
    file = tmp_path / "my_toy.py"
    file.write_text(reference, encoding="utf-8")
    request = {"folder": str(TOY), "reference": str(toy.reference), "file": str(file), "text": reference}
    request |= {"symbols": ["Gain"], "house": False, "wall": 10, "memory": 4 << 30}
    loading, running, verdict, done, end = grader._messages(request)
    assert (loading, running, done) == ({"running": ""}, {"running": "gain_multiplies"}, {"done": 1})
    assert verdict.keys() == {"check", "symbol", "ok", "key", "values", "where", "ms"} and end["end"]["late"] is False


def test_a_fault_of_the_grading_itself_is_raised_not_graded(toy, tmp_path, grader):
    station = tmp_path / "broken"
    station.mkdir()
    for name in ("station.py", "en.md", "ja.md"):
        (station / name).write_bytes((TOY / name).read_bytes())
    (station / "checks.py").write_text(
        "from kakehashi.journey.checking import check\nraise OSError('author')\n@check('squash', 1)\ndef c(*_): ...\n",
        encoding="utf-8",
    )
    with pytest.raises(RuntimeError, match="author"):
        grader.grade(stations.read(station), toy.reference)
