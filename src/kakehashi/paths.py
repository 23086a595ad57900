"""Where things lie on this machine, and the one way to write a file: whole or not at all.

$KAKEHASHI_HOME, where set, holds everything that would else lie in the user's own folders.
"""

import errno
import os
import secrets
from pathlib import Path

from kakehashi import Mistake

WORKSPACE_FILE = "kakehashi.toml"
TEMPORARY = ".kakehashi-*.tmp"  # what a killed atomic_write can leave beside its target; nothing reads it

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space, or raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "choose a place that is not read-only",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "a part of this path is a file, choose another",
    errno.EISDIR: "it is a folder, choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class CannotWrite(Mistake):
    """A file could not be written; what stood there before still stands. The OSError is the __cause__."""


def cache() -> Path:
    """Things that can be fetched or computed again. The folder may not exist yet, as with data() and config()."""
    return _user_folder("cache")


def data() -> Path:
    """Things that the person wants kept."""
    return _user_folder("data")


def config() -> Path:
    """The person's settings."""
    return _user_folder("config")


def workspace(start: str | Path | None = None) -> Path | None:
    """The nearest folder that holds kakehashi.toml, from `start` (the current folder) upwards; None where none does."""
    here = Path(start or ".").resolve()
    return next((folder for folder in (here, *here.parents) if (folder / WORKSPACE_FILE).is_file()), None)


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Replace the file at `path` by `data` (text as UTF-8, line ends as they are), so that it is on the disk on return.

    A reader, and a machine that loses power, sees the old file or the new one, never a part. A link is written
    through and an existing file keeps its mode. Raises CannotWrite (full disk, read-only, no such folder, ...).
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(TEMPORARY.replace("*", secrets.token_hex(8)))
    content = data.encode("utf-8") if isinstance(data, str) else data
    try:
        _refuse_read_only(target)
        try:
            _write_new(temporary, content)
            if target.exists():
                os.chmod(temporary, target.stat().st_mode)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "see whether the disk is in order")
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def _user_folder(kind: str) -> Path:
    if home := os.environ.get("KAKEHASHI_HOME"):
        return Path(home).expanduser() / kind
    import platformdirs

    return Path(getattr(platformdirs, f"user_{kind}_dir")("kakehashi", appauthor=False))


def _refuse_read_only(target: Path) -> None:
    """A rename would replace a write-protected file too: raise what opening it raises."""
    if target.exists():
        os.close(os.open(target, os.O_WRONLY))


def _write_new(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk once its folder is. Windows cannot open a folder, and needs no such step."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
