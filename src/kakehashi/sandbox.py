"""Run code that is not ours: in a process of its own, with limits, without network, and gone when it is over.

    outcome = run(function | ["command", "argument"], seconds=10, mib=1024)

What holds it, by the names that `protections` uses; a system that cannot give one is said to lack it:

    time        the parent's clock; should the parent die, an alarm and a CPU limit in the child
    memory      RLIMIT_DATA, for each process
    processes   RLIMIT_NPROC, which counts threads too
    files       RLIMIT_FSIZE, RLIMIT_NOFILE, no core dumps
    network     a network namespace without any device (unshare or bubblewrap)
    escape      a process namespace: what leaves the process group dies with the rest

It does not hide files: the code may read and write what the person who runs it may. A room that keeps a worker of its
own takes the pieces: `isolate` its command, `limit` its children, `kill_group` at the end.
"""

import functools
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

MIB = 1 << 20
GRACE = 1  # seconds that the child's own alarm waits behind the parent's clock
VALUE_BYTES = 4 * MIB
FILE_MIB = 64  # as large a file may be, one that output goes to among them
_OUT_OF_MEMORY = ("MemoryError", "allocate memory")  # as Python, the system and PyTorch put it
_LINUX = sys.platform == "linux"
_KEPT = (
    *("PATH", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("KAKEHASHI_LANG", "KAKEHASHI_OFFLINE", "SYSTEMROOT", "WINDIR", "PATHEXT", "COMSPEC", "NUMBER_OF_PROCESSORS"),
)
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline());"
    "from kakehashi import sandbox; sandbox._child()"
)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    value: what the function returned, through JSON (a tuple comes back as a list); of a command, its exit status.
    output: stdout and stderr together; of a long one, the beginning and the end.
    why: "" where ok, else one line; cause: its kind: "time", "memory", "signal", "exit" or "error" (an exception).
    missing: the protections that this system could not give.
    """

    ok: bool
    value: Any
    output: str
    why: str
    cause: str = ""
    missing: tuple[str, ...] = ()


def run(
    target: Callable[[], Any] | Sequence[str],
    *,
    seconds: float,
    mib: int,
    network: bool = False,
    processes: int = 64,
    files: int = 256,
    file_mib: int = FILE_MIB,
    output_kib: int = 256,
) -> Outcome:
    """Run a function without arguments, or a command, in an empty folder of its own; return how it ended.

    The function is imported by the child, so it stands at the top of a module (functools.partial brings arguments);
    what it returns has to be JSON, since a pickle from code that is not ours could do anything here. The child sees
    no stdin, a few environment variables and $HOME = its folder. When it ends, or at `seconds`, or when this process
    is interrupted, whatever it started is killed.
    """
    if isinstance(target, str):
        raise TypeError(f"a command is a list of words, not {target!r}")
    limits = {"seconds": seconds, "mib": mib, "processes": processes, "files": files, "file_mib": file_mib}
    missing = tuple(name for name, why in protections(network).items() if why)
    argv, _ = isolate([sys.executable, "-c", _BOOT], network)
    late = False
    with tempfile.TemporaryDirectory(prefix="kakehashi-", ignore_cleanup_errors=True) as folder:
        with tempfile.TemporaryFile() as told:
            told.write(json.dumps([os.path.abspath(entry) for entry in sys.path]).encode() + b"\n")
            told.write(json.dumps(limits).encode() + b"\n")
            told.write(pickle.dumps(target if callable(target) else list(target)))
            told.seek(0)
            child = subprocess.Popen(
                [*_die_with_parent(), *argv],
                stdin=told,
                stdout=subprocess.PIPE,  # the answer: the child moves its own stdout to stderr
                stderr=subprocess.PIPE,
                cwd=folder,
                env=environment(folder),
                start_new_session=True,
            )
        try:
            answer, output = _Capture(child.stdout, VALUE_BYTES), _Capture(child.stderr, output_kib << 10)
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            kill_group(child.pid)
            child.wait()
        status, told_back = child.returncode, _answer(answer)
    if late:
        value, cause, why = None, "time", f"stopped after {seconds:g} s, the limit"
    elif "error" in told_back:
        value, cause, why = None, "error", str(told_back["error"])
        if any(sign in why for sign in _OUT_OF_MEMORY):
            cause, why = "memory", f"needed more than {mib} MiB of memory, the limit"
    elif name := _signal(status):
        value, cause, why = None, "signal", f"ended by {name}"
    elif callable(target) and "value" not in told_back:
        value, cause, why = None, "exit", f"ended before it returned a value, with exit status {status}"
    elif status != 0:
        value, cause, why = status, "exit", f"ended with exit status {status}"
    else:
        value, cause, why = told_back.get("value", status), "", ""
    return Outcome(not cause, value, output.text(), why, cause, missing)


def protections(network: bool = False) -> dict[str, str]:
    """Every protection by name: "" where this system gives it, else why it does not."""
    lacks: dict[str, str] = dict.fromkeys(("time", "memory", "processes", "files", "network", "escape"), "")
    if os.name == "nt":
        lacks["files"] = "Windows sets no such limits on a process"
    if not _LINUX:
        lacks["memory"] = "only Linux holds a process to a limit on memory"
        lacks["processes"] = "only on Linux are the user's running processes counted first"
    elif os.getuid() == 0:
        lacks["processes"] = "Linux does not hold root to a limit on processes"
    for name in isolate([], network)[1]:
        lacks[name] = "neither unshare nor bubblewrap works here"
    return lacks


def isolate(argv: Sequence[str], network: bool = False) -> tuple[list[str], tuple[str, ...]]:
    """The command that runs `argv` without network, in a process namespace: (command, what this system lacks of it).

    stdin, stdout, stderr, passed descriptors, folder and environment stay. An exit by signal n is seen as 128 + n.
    Start it with start_new_session=True and end it by kill_group.
    """
    if _LINUX:
        net = [] if network else ["--net"], [] if network else ["--unshare-net"]
        # Process 1 of a namespace ignores most signals, even its own abort(): a shell takes that place.
        shell = ["sh", "-c", '"$@"; exit $?', "sh"]
        unshare = ["unshare", "--map-current-user", "--pid", "--kill-child", *net[0], *shell]
        bubblewrap = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--die-with-parent", *net[1], "--"]
        for prefix in (unshare, bubblewrap):
            if _works(*prefix):
                return [*prefix, *argv], ()
    return list(argv), ("escape",) if network else ("network", "escape")


def limit(seconds: float, mib: int, *, processes: int = 64, files: int = 256, file_mib: int = FILE_MIB) -> None:
    """Bind this process, and what it starts, as far as the system can. There is no way back: call it in a child.

    seconds: of wall time (an alarm kills, a little later than the parent should have) and of CPU time on each core.
    mib: private memory of each process, what it already holds included. processes: more than run now, threads too.
    """
    if os.name == "nt":
        return
    import resource

    cpu = math.ceil(seconds + GRACE) * (os.cpu_count() or 1)
    wanted = {"CORE": 0, "FSIZE": file_mib * MIB, "NOFILE": files, "CPU": cpu}
    if _LINUX:
        wanted |= {"DATA": mib * MIB, "NPROC": _tasks_of_this_user() + processes}
    for name, value in wanted.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)


def kill_group(pid: int) -> None:
    """Kill at once a process started with start_new_session=True, and its group; with `isolate`, all descendants."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], capture_output=True, check=False)
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone already (macOS says the latter of a dead group)
        pass


def environment(home: str) -> dict[str, str]:
    """The variables a sandboxed process sees: no tokens, no proxies, and `home` as its home and temporary folder."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), home) | {"PYTHONUTF8": "1"}


class _Capture(threading.Thread):
    """Reads a pipe to its end and keeps the first and the last half of `size` bytes, however many come."""

    def __init__(self, pipe: IO[bytes] | None, size: int):
        super().__init__(daemon=True)
        assert pipe is not None
        self.pipe, self.half, self.left_out, self.kept = pipe, size // 2, 0, bytearray()
        self.start()

    def run(self) -> None:
        with self.pipe:
            while chunk := os.read(self.pipe.fileno(), 1 << 16):
                self.kept += chunk
                if (surplus := len(self.kept) - 2 * self.half) > 0:
                    del self.kept[self.half : self.half + surplus]
                    self.left_out += surplus

    def text(self) -> str:
        self.join(GRACE)  # where processes can escape, one may hold the pipe open
        head, tail = self.kept, b""
        if self.left_out:
            cut = f"\n[... {self.left_out} bytes left out ...]\n".encode()
            head, tail = self.kept[: self.half], cut + self.kept[self.half :]
        return bytes(head + tail).decode("utf-8", "replace")


def _answer(answer: _Capture) -> dict[str, Any]:
    """What the child wrote into its private pipe: {"value": ...}, {"error": ...}, or {} for nothing."""
    text = answer.text()
    if not text:
        return {}
    if answer.left_out:
        return {"error": f"the value is larger than {VALUE_BYTES // MIB} MiB"}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or (told.keys() != {"value"} and told.keys() != {"error"}):
        return {"error": "something else wrote into the private pipe"}
    return told


def _child() -> None:
    """The other side of `run`. stdin: a line of sys.path (read by _BOOT), a line of limits, the pickled target."""
    limit(**json.loads(sys.stdin.buffer.readline()))
    target = sys.stdin.buffer.read()
    private = os.fdopen(os.dup(1), "wb")  # closed by exec, so a command cannot write to it
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        todo = pickle.loads(target)
        if not callable(todo):
            if os.name == "nt":  # where exec returns to the parent at once
                os._exit(subprocess.call(todo))
            os.execvp(todo[0], todo)
        told = json.dumps({"value": todo()})
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        told = json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
    with private:
        private.write(told.encode())
    sys.stdout.flush()
    os._exit(0)  # threads and exit handlers of the function do not hold the answer up


def _signal(status: int) -> str:
    """The name of the signal that ended a process, seen directly (-n) or through `isolate` (128 + n); else ""."""
    number = -status if status < 0 else status - 128
    return next((name.name for name in signal.Signals if name == number), "")


def _die_with_parent() -> list[str]:
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    return prefix if _LINUX and _works(*prefix) else []


@functools.cache
def _works(*prefix: str) -> bool:
    """Containers and distributions forbid namespaces in many ways: try it."""
    if not shutil.which(prefix[0]):
        return False
    trial = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=10, start_new_session=True)
    return trial.returncode == 0


def _tasks_of_this_user() -> int:
    """Processes and threads that RLIMIT_NPROC counts already."""
    total = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                total += os.stat(f"{entry.path}/task").st_nlink - 2
        except OSError:  # it has ended
            pass
    return total
