"""What test_sandbox.py lets loose, in a module that a fresh process imports quickly.

A `lock` is a file that the process and everything it starts hold: it is free when the last of them is gone.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LONG = 60  # seconds; longer than any limit in the tests


def hold(lock: str) -> None:
    import fcntl

    file = os.open(lock, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(file, True)
    fcntl.flock(file, fcntl.LOCK_SH)


def surroundings():
    print("こんにちは", flush=True)
    os.system("echo from a grandchild")
    return {
        "folder": os.getcwd(),
        "listing": os.listdir(),
        "home": str(Path.home()),
        "environment": sorted(os.environ),
        "stdin": sys.stdin.read(),
        "nothing": None,
        "pair": (1, 2.5),
    }


def add(a, b):
    return a + b


def not_json():
    return {1, 2}


def large_value():
    return "x" * (5 << 20)


def raises():
    raise ValueError("the loss is nan\nsecond line")


def endless_loop(lock):
    hold(lock)
    while True:
        pass


def ignores_sigterm(lock):
    hold(lock)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LONG)


def leaves_a_grandchild(lock):
    hold(lock)
    subprocess.Popen(["sleep", str(LONG)], close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "gone"


def leaves_a_grandchild_and_waits(lock):
    leaves_a_grandchild(lock)
    time.sleep(LONG)


def escapes_its_group(lock):
    hold(lock)
    subprocess.Popen(["sleep", str(LONG)], close_fds=False, start_new_session=True)
    return "gone"


def fork_bomb(lock, size):
    """Every process forks as long as it can, until `size` exist; the answer is what stopped it."""
    hold(lock)
    for n in range(size):
        try:
            if os.fork() == 0:
                time.sleep(LONG)
                os._exit(0)
        except BlockingIOError:
            return n
    return size


def hogs_memory():
    return len(b"x" * (256 << 20))


def endless_output():
    print("first")
    os.write(1, b"last words wait\n")
    while True:
        os.write(1, b"x" * 65536)


def long_output():
    sys.stdout.write("first\n" + "x" * 3_000_000 + "\nlast\n")


def segfault():
    ctypes.string_at(0)


def exits_with_success():
    os._exit(0)


def forges_its_answer():
    os.write(1, json.dumps({"value": "forged"}).encode())
    os._exit(0)


def fills_the_disk():
    with open("large", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))


def opens_many_files():
    files = []
    while True:
        files.append(open(os.devnull, encoding="utf-8"))


def leaves_a_thread():
    import threading

    threading.Thread(target=time.sleep, args=(LONG,)).start()
    return "done"


def connects(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.recv(100).decode()


def run_for_long(case, lock):
    """A parent for a test to interrupt."""
    import functools

    from kakehashi import sandbox

    sandbox.run(functools.partial(case, lock), seconds=LONG, mib=512)
