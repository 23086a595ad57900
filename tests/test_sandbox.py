"""Code that misbehaves in earnest is stopped, says nothing false, and leaves nothing behind."""

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sandbox_cases as cases

from kakehashi import sandbox

pytestmark = pytest.mark.skipif(os.name == "nt", reason="only POSIX, so far: nobody has run this on Windows")


def run(case, *args, seconds=20.0, mib=512, **limits):
    return sandbox.run(functools.partial(case, *args), seconds=seconds, mib=mib, **limits)


def needs(protection: str) -> None:
    if why := sandbox.protections()[protection]:
        pytest.skip(f"only where a sandbox can hold {protection}: {why}")


def is_held(lock: Path) -> bool:
    import fcntl

    with open(lock, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def eventually(condition) -> bool:
    """A killed process takes a moment to go, a started one to come."""
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def is_freed(lock: Path) -> bool:
    assert lock.exists(), "the case did not get as far as taking its lock"
    return eventually(lambda: not is_held(lock))


@pytest.fixture
def lock(tmp_path) -> Path:
    return tmp_path / "lock"


def test_a_function_returns_its_value_and_sees_only_its_own_folder(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    outcome = run(cases.surroundings)
    value = outcome.value
    assert outcome.ok and outcome.why == "" and outcome.output == "こんにちは\nfrom a grandchild\n"
    assert value["listing"] == [] and value["stdin"] == "" and value["nothing"] is None and value["pair"] == [1, 2.5]
    assert os.path.realpath(value["home"]) == value["folder"] and value["folder"] != os.getcwd()
    assert "SECRET_TOKEN" not in value["environment"]
    assert not os.path.exists(value["folder"])
    assert run(cases.add, "架け", "橋").value == "架け橋"


def test_a_command_gives_its_exit_status_and_output():
    assert sandbox.run(["sh", "-c", "echo out; echo err >&2"], seconds=20, mib=512).output == "out\nerr\n"
    failed = sandbox.run(
        [sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(3)", "a b", "$HOME"], seconds=20, mib=512
    )
    assert (failed.ok, failed.value, failed.cause) == (False, 3, "exit") and failed.output == "['a b', '$HOME']\n"
    absent = sandbox.run(["no-such-program"], seconds=20, mib=512)
    assert (absent.ok, absent.value, absent.cause) == (False, None, "error")
    with pytest.raises(TypeError, match="list of words"):
        sandbox.run("echo", seconds=20, mib=512)


@pytest.mark.parametrize(
    ("case", "cause", "why"),
    [
        (cases.raises, "error", "ValueError: the loss is nan"),
        (cases.not_json, "error", "TypeError: Object of type set is not JSON serializable"),
        (cases.large_value, "error", "the value is larger than 4 MiB"),
        (cases.segfault, "signal", "ended by SIGSEGV"),
        (cases.exits_with_success, "exit", "ended before it returned a value, with exit status 0"),
        (cases.forges_its_answer, "exit", "ended before it returned a value, with exit status 0"),
        (cases.fills_the_disk, "error", "OSError: [Errno 27] File too large"),
        (cases.opens_many_files, "error", "OSError: [Errno 24] Too many open files: '/dev/null'"),
    ],
)
def test_what_does_not_return_a_value_is_not_ok_and_says_why(case, cause, why):
    outcome = run(case, file_mib=32, files=64)
    assert (outcome.ok, outcome.value, outcome.cause, outcome.why) == (False, None, cause, why)
    assert "\n" not in outcome.why


def test_the_traceback_is_in_the_output():
    assert 'raise ValueError("the loss is nan' in run(cases.raises).output


@pytest.mark.parametrize("case", [cases.endless_loop, cases.ignores_sigterm])
def test_time_is_up_for_every_kind_of_process(case, lock):
    outcome = run(case, str(lock), seconds=2)
    assert (outcome.ok, outcome.cause, outcome.why) == (False, "time", "stopped after 2 s, the limit")
    assert is_freed(lock)


def test_a_grandchild_does_not_outlive_its_parent(lock):
    assert run(cases.leaves_a_grandchild, str(lock)).value == "gone"
    assert is_freed(lock)


def test_a_grandchild_cannot_escape_by_leaving_its_group(lock):
    needs("escape")
    assert run(cases.escapes_its_group, str(lock)).value == "gone"
    assert is_freed(lock)


def test_a_thread_does_not_hold_the_answer_up():
    assert run(cases.leaves_a_thread).value == "done"


def test_a_fork_bomb_leaves_nothing_behind(lock):
    outcome = run(cases.fork_bomb, str(lock), 300, processes=30)
    assert is_freed(lock)
    if sandbox.protections()["processes"] == "":
        assert 0 < outcome.value < 300
    else:
        assert "processes" in outcome.missing


def test_a_memory_hog_is_told_so():
    needs("memory")
    outcome = run(cases.hogs_memory, mib=128)
    assert (outcome.cause, outcome.why) == ("memory", "needed more than 128 MiB of memory, the limit")
    assert run(cases.hogs_memory, mib=512).value == 256 << 20  # the case itself is sound


def test_endless_output_costs_no_memory_here():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = run(cases.endless_output, seconds=2, output_kib=64)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << (0 if sys.platform == "darwin" else 10)
    assert outcome.cause == "time" and len(outcome.output) < 200_000 and "bytes left out" in outcome.output
    assert int(outcome.output.split("[... ")[1].split()[0]) > 4 * grown  # far more was written than was ever held


def test_long_output_keeps_its_beginning_and_its_end():
    output = run(cases.long_output, output_kib=4).output
    assert output.startswith("first\nxxx") and output.endswith("xxx\nlast\n") and len(output) < 10_000


def test_the_network_is_out_of_reach_even_on_this_machine():
    needs("network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello")

        greeter = threading.Thread(target=greet)
        greeter.start()
        refused = run(cases.connects, port)
        assert not refused.ok and refused.cause == "error", refused
        assert run(cases.connects, port, network=True).value == "hello"
        greeter.join()


@pytest.mark.parametrize("case", ["endless_loop", "leaves_a_grandchild_and_waits"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_parent_leaves_nothing_behind(number, case, lock):
    if number != signal.SIGINT and not sandbox._die_with_parent():
        pytest.skip("only where setpriv can tie a process to its parent; elsewhere its alarm ends it")
    script = f"import sandbox_cases as c; c.run_for_long(c.{case}, {str(lock)!r})"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: lock.exists() and is_held(lock))
        parent.send_signal(number)
        parent.wait()
        assert is_freed(lock)
    finally:
        parent.kill()
        parent.wait()


def test_a_child_ends_itself_when_nobody_is_left_to_do_it():
    script = "from kakehashi import sandbox; sandbox.limit(0.1, 512)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGALRM


def test_limits_are_those_asked_for_and_never_above_the_present_ones():
    script = """
import resource
from kakehashi import sandbox
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
sandbox.limit(5, 300, files=128, file_mib=7)
print([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "FSIZE", "CORE")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.stdout == f"{[(64, 64), (7 << 20, 7 << 20), (0, 0)]}\n", done.stderr


def test_isolate_keeps_pipes_and_arguments_and_says_what_is_missing():
    argv, missing = sandbox.isolate(
        [sys.executable, "-c", "import sys; print(input(), sys.argv[1]); sys.exit(5)", "a $b"]
    )
    done = subprocess.run(argv, input="hello\n", capture_output=True, encoding="utf-8", check=False)
    assert (done.stdout, done.returncode) == ("hello a $b\n", 5)
    assert set(missing) == {name for name in ("network", "escape") if sandbox.protections()[name]}


def test_a_system_without_namespaces_still_runs_and_says_what_it_lacks(monkeypatch, lock):
    monkeypatch.setattr(sandbox, "_works", lambda *prefix: False)
    outcome = run(cases.leaves_a_grandchild, str(lock))
    assert outcome.ok and {"network", "escape"} <= set(outcome.missing)
    assert is_freed(lock)
    assert run(cases.segfault).why == "ended by SIGSEGV"
    assert "network" not in run(cases.add, 1, 2, network=True).missing
