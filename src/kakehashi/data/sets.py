"""The data sets known by name: what they are, what one may do with them, where they are found, how they are fetched."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from kakehashi import paths
from kakehashi.data.errors import DataError
from kakehashi.texts import t

TIMEOUT = 30  # seconds without a byte until a download is given up


@dataclass(frozen=True)
class DataSet:
    """file: path below a data folder, "" for a set that is made on this machine (then url and sha256 are "" too).

    found: the file on this machine, None where there is none.
    """

    name: str
    unit: str
    licence: str
    file: str = ""
    url: str = ""
    sha256: str = ""
    size: int = 0
    found: Path | None = None

    @property
    def about(self) -> str:
        """What it is, in the language in use."""
        return t(f"data.{self.name}.about")

    @property
    def use(self) -> str:
        """What its licence allows, in the language in use."""
        return t(f"data.{self.name}.use")


_GITHUB = "https://raw.githubusercontent.com/karpathy"
_SETS = (
    DataSet("identifiers", "document", licence="PSF-2.0"),
    DataSet("stdlib-code", "stream", licence="PSF-2.0"),
    DataSet(
        "names",
        "document",
        licence="MIT",
        file="names/names.txt",
        url=f"{_GITHUB}/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt",
        sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        size=228_145,
    ),
    DataSet(
        "tinyshakespeare",
        "stream",
        licence="public domain (the text); MIT by char-rnn's Readme (the file)",
        file="tinyshakespeare/input.txt",
        url=f"{_GITHUB}/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
    ),
)


def catalogue() -> list[DataSet]:
    """The data sets that have a name, with where each is found on this machine."""
    return [replace(known, found=_search(known)) for known in _SETS]


def known(name: str) -> DataSet | None:
    """The data set of this name, if there is one."""
    return next((each for each in _SETS if each.name == name), None)


def find(name: str) -> Path:
    """The file of a data set, looked for in $KAKEHASHI_DATA, ./data and the user's cache, its sha256 checked.

    Raises DataError: no such name, a set without a file, not on this machine, other content than the one known here.
    """
    each = _with_file(name)
    path = _search(each)
    if path is None:
        raise DataError(
            f"{name} is not on this machine: fetch it ({each.size:,} bytes, {each.licence}) with "
            f"`kakehashi data get {name}`, or put it at {each.file} in ./data or in a folder that $KAKEHASHI_DATA names"
        )
    try:
        seen = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if seen != each.sha256:
        raise DataError(
            f"{path} is not the {name} known here (sha256 {seen[:12]}..., expected {each.sha256[:12]}...): "
            f"move it away, or use it by its path"
        )
    return path


def get(name: str) -> Path:
    """Fetch a data set into the user's cache, whole or not at all, unless it is found. Proxies are respected.

    Raises DataError (no such name, KAKEHASHI_OFFLINE, no connection, refused, cut short, wrong sha256) or
    paths.CannotWrite.
    """
    each = _with_file(name)
    if _search(each):
        return find(name)
    target = paths.cache() / "data" / each.file
    raw = _download(each)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {target.parent}: {error.strerror or error}") from error
    paths.atomic_write(target, raw)
    return target


def _with_file(name: str) -> DataSet:
    if (each := known(name)) is None:
        raise DataError(f"there is no data set {name!r}: known are {', '.join(each.name for each in _SETS)}")
    if not each.file:
        raise DataError(f"{name} has no file: it is made from this Python's standard library, just use it by its name")
    return each


def _search(each: DataSet) -> Path | None:
    if not each.file:
        return None
    folders = [Path("data"), paths.cache() / "data"]
    if stated := os.environ.get("KAKEHASHI_DATA"):
        folders.insert(0, Path(os.path.expanduser(stated)))
    return next((folder / each.file for folder in folders if os.path.isfile(folder / each.file)), None)


def _download(each: DataSet) -> bytes:
    """The bytes at a data set's URL, if they are the ones known."""
    if os.environ.get("KAKEHASHI_OFFLINE", "0") not in ("", "0"):
        raise DataError(
            f"{each.name} is not fetched, for KAKEHASHI_OFFLINE is set: unset it, or bring {each.url} "
            f"to {each.file} in ./data by hand"
        )
    from http.client import HTTPException, IncompleteRead
    from urllib.error import HTTPError
    from urllib.request import build_opener

    by_hand = f"try again, or bring it to {each.file} in ./data by hand"
    try:
        with build_opener().open(each.url, timeout=TIMEOUT) as response:  # urlopen would keep its first proxies
            raw = response.read()
    except HTTPError as error:
        raise DataError(f"{each.url} answers {error.code} {error.reason}: {by_hand}") from error
    except IncompleteRead as error:
        raise DataError(
            f"{each.url} was cut off after {len(error.partial):,} of {each.size:,} bytes: {by_hand}"
        ) from error
    except (OSError, HTTPException) as error:
        raise DataError(f"cannot fetch {each.url} ({getattr(error, 'reason', None) or error}): {by_hand}") from error
    if (seen := hashlib.sha256(raw).hexdigest()) != each.sha256:
        raise DataError(
            f"{each.url} gave other bytes than expected (sha256 {seen[:12]}..., expected {each.sha256[:12]}...), "
            f"nothing was kept: a proxy may have answered in its place"
        )
    return raw
