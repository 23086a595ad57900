"""The memory of a step: the next one needs the same."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees: asking the system anew is slow. Elsewhere nothing happens."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):  # not in musl
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
