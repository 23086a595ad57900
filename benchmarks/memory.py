"""Memory as Linux counts it, in a process of its own."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FORGET = Path("/proc/self/clear_refs")


def counted() -> bool:
    """Whether this system tells the peak of a process, and forgets it."""
    return FORGET.exists()


def fresh(work: Callable[..., float], *args: Any) -> float:
    """What `work` returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *args).result()


def rise(work: Callable[[], Any]) -> float:
    """MiB by which the memory of this process rises at most while it works."""
    FORGET.write_text("5", encoding="ascii")  # the peak so far
    before = held("VmRSS")
    work()
    return held("VmHWM") - before


def held(field: str) -> float:
    """MiB of memory held: VmRSS now, VmHWM at most."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024
