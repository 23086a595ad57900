"""The sources of Python's own standard library: the embedded text that is on every machine.

Left out are tests, generated tables, and what a distribution of Python patches or ships apart, so that one version of
Python gives the same list on each system; also files that are not pure ASCII.
"""

import hashlib
import sys
import sysconfig
from functools import cache
from pathlib import Path, PurePosixPath

from kakehashi.data.errors import DataError

SKIPPED = frozenset(
    # tests; generated tables
    "test tests encodings pydoc_data html/entities.py ctypes/wintypes.py curses/has_key.py locale.py stringprep.py "
    "_compat_pickle.py keyword.py opcode.py token.py sre_constants.py re/_constants.py "
    # patched or shipped apart
    "distutils ensurepip idlelib lib2to3 macholib msilib site.py sysconfig.py tkinter turtle.py turtledemo venv".split()
)


@cache
def files() -> tuple[tuple[str, str], ...]:
    """(path under the library's folder, text) of each source file, sorted by path."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for module in sorted(sys.stdlib_module_names):
        for path in [root / f"{module}.py", *(root / module).rglob("*.py")]:
            name = PurePosixPath(path.relative_to(root))
            if SKIPPED.isdisjoint((str(name), *name.parts)) and path.is_file() and (raw := path.read_bytes()).isascii():
                found.append((str(name), raw.decode("ascii").replace("\r\n", "\n")))
    if not found:
        raise DataError(f"this Python has no sources of its standard library in {root}: choose data with --data")
    return tuple(sorted(found))


def documents(limit: int = 1_000_000) -> tuple[str, ...]:
    """Whole source files of at most `limit` characters together, sorted by path.

    Which ones is settled by the hash of their paths: a cut of the sorted list would be all about asyncio.
    """
    chosen = []
    for name, text in sorted(files(), key=lambda file: hashlib.sha256(file[0].encode()).digest()):
        if text and len(text) <= limit:
            chosen.append((name, text))
            limit -= len(text)
    return tuple(text for _, text in sorted(chosen))
