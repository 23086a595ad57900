"""The grading worker: `python -m kakehashi.journey.worker`, started and spoken to by `grading.Grader`.

One request a line on stdin. For each, a process of its own judges the learner's file; what that process says goes to
stdout as it comes, one JSON object a line:

    {"running": id}                                             a check begins ("" while the file is imported)
    {"check": id, "ok", "key", "values", "where", "ms"}         its verdict; where: {"file", "line", "symbol"} or null
    {"done": n}                                                 every check was run, n of them
    {"bug": traceback}                                          the grading itself is at fault
    {"end": {"late", "code", "log", "trace"}}                   added here, always last: how the process ended

Only a process that says "done" has come to its end: learner code may exit, crash or hang at any point before.

On Linux the process is forked from this one, which has imported torch and the station's checks: a verdict takes
milliseconds. Elsewhere, or with KAKEHASHI_SPAWN=1, each grading starts its own interpreter; nothing else differs.
"""

import faulthandler
import gc
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from kakehashi import sandbox

STARTUP = 120  # seconds that a process may take before its first word: a cold disk, an import of torch
LOG = 20_000  # characters of output that are handed on
Tell = Callable[[dict], None]


def main() -> None:
    """Serve requests until stdin closes."""
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    forks = sys.platform == "linux" and os.environ.get("KAKEHASHI_SPAWN") != "1"
    if forks:
        import torch

        torch.set_num_threads(1)  # a fork does not survive a parent whose thread pool has worked

    def tell(message: dict) -> None:
        results.write(json.dumps(message).encode() + b"\n")

    for line in requests:
        request = json.loads(line)
        if forks:
            from kakehashi.journey import judge

            judge.load_checks(Path(request["folder"]))
        supervise(multiprocessing.get_context("fork" if forks else "spawn"), request, tell)


def supervise(context, request: dict, tell: Tell) -> None:
    """Let one process judge one request, hand on what it says, and see that it and all it started are gone."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log, trace = Path(folder, "log"), Path(folder, "trace")
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=examine, args=(request, writer, log, trace))
        gc.collect()
        gc.freeze()  # or the first collection in the child walks, and copies, all of torch's objects
        process.start()
        writer.close()
        late = relay(reader, request["wall"], tell)
        if not late:
            process.join(1)
        sandbox.kill_group(process.pid)
        process.kill()
        process.join()
        tell({"end": {"late": late, "code": process.exitcode, "log": text(log)[-LOG:], "trace": text(trace)}})


def relay(reader: Connection, wall: float, tell: Tell) -> bool:
    """Hand messages on until "done" or the end of the pipe. True: `wall` seconds after the first, it still ran."""
    deadline = time.monotonic() + STARTUP
    begun = False
    try:
        while reader.poll(max(0, deadline - time.monotonic())):
            message = json.loads(reader.recv_bytes())
            tell(message)
            if "done" in message:
                return False
            if not begun:
                begun, deadline = True, time.monotonic() + wall
        return True
    except (EOFError, OSError, ValueError):  # the process is gone, or wrote into the pipe itself: never "done"
        return False


def examine(request: dict, writer: Connection, log: Path, trace: Path) -> None:
    """The process of one grading: everything it prints goes to `log`, Python's last position to `trace`."""
    if hasattr(os, "setsid"):
        os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # while torch functions are watched for, torch takes our frames for the callers: such a warning helps nobody
    warnings.filterwarnings("ignore", module=r"kakehashi(?!_own)")
    from kakehashi.journey import judge

    judge.load_checks(Path(request["folder"]))
    pid = os.getpid()

    def tell(message: dict) -> None:
        if os.getpid() != pid:  # forked by the learner's code: only one of the two is heard
            os._exit(0)
        writer.send_bytes(json.dumps(message).encode())

    with open(trace, "w", encoding="utf-8") as last:
        faulthandler.enable(last)
        faulthandler.dump_traceback_later(0.95 * request["wall"], file=last)
        sandbox.limit(request["wall"], request["memory"] >> 20)
        try:
            count = judge.Judge(request, tell).run()
        except BaseException:
            tell({"bug": traceback.format_exc()})
            raise
        tell({"done": count})


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="backslashreplace") if path.exists() else ""


if __name__ == "__main__":
    main()
