"""The memory of training: how much this machine has, and what a step frees and the next one needs again."""

import ctypes
import os
import sys


def of_this_machine() -> int | None:
    """Bytes of main memory; None where the system does not say (Windows)."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees: asking the system anew is slow. Elsewhere nothing happens."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):  # not in musl
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)
