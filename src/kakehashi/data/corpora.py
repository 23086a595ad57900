"""A corpus: documents with a name, a hash and a licence; and its split for training and validation."""

import hashlib
import os
import platform
import random
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from kakehashi.data import identifiers, sets, stdlib_code
from kakehashi.data.errors import DataError
from kakehashi.data.text import NotText, decode, read_bytes

UNITS = ("document", "stream")
# names of splits, by which a run finds them again
LECTURE = "lecture split (seed 42, 80/10/10, duplicates kept)"
ORDER = "in order, 80/20, duplicates kept"


Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Split(Generic[Item]):
    """Texts, or pairs of them, to train on and to validate on; `name` says in words how they were divided."""

    train: tuple[Item, ...]
    val: tuple[Item, ...]
    name: str

    @property
    def shared(self) -> float:
        """The share of the texts to validate on that are trained on, too."""
        return self.share_in(self.train)

    def share_in(self, texts: Iterable[Item]) -> float:
        """The share of the texts to validate on that stand in `texts`."""
        known = set(texts)
        return sum(text in known for text in self.val) / len(self.val)


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from.

    unit      "document": each document is learnt alone. "stream": documents are joined and cut into windows
    sha256    of the file's bytes where it is one file, else of the documents joined by zero bytes
    private   not one of the sets known by name: nothing learnt from it leaves the machine unasked
    origin    where it comes from, in words: path and encoding, or the version of Python
    source    what `corpus` takes to find it again: a name, or an absolute path
    """

    name: str
    documents: tuple[str, ...]
    unit: str
    sha256: str
    private: bool
    licence: str
    origin: str
    source: str

    def split(self, seed: int = 1337, fraction: float = 0.1) -> Split[str]:
        """Set `fraction` aside for validation, without duplicates: nothing validated on was trained on.

        By document: of the documents, shuffled by `seed`, those that fit into the fraction (of their number; in a
        stream, of their characters), at least one. A stream of one document: its last part.
        Raises DataError where one side would be empty.
        """
        documents = list(dict.fromkeys(self.documents))
        share = f"{100 - 100 * fraction:g}/{100 * fraction:g}"
        if self.unit == "stream" and len(documents) == 1:
            cut = int(len(documents[0]) * (1 - fraction))
            train, val, how = [documents[0][:cut]], [documents[0][cut:]], f"by position, {share}"
        else:
            train, val = _divide(documents, [len(d) if self.unit == "stream" else 1 for d in documents], seed, fraction)
            how = f"by document, seed {seed}, {share}"
        if not any(train) or not any(val):
            raise DataError(
                f"{self.name} is too small to be split {share}: {len(documents)} distinct documents, "
                f"{sum(map(len, documents))} characters; choose more data"
            )
        return Split(tuple(train), tuple(val), how)

    def lecture_split(self) -> Split[str]:
        """As the makemore lectures divide: all documents, shuffled; 80% to train on, the next 10% to validate on.

        Duplicates stay: `Split.shared` says how many names are validated on that were trained on. The last 10%, for a
        test, are left out. Raises DataError: a stream, or too few documents.
        """
        if self.unit != "document":
            raise DataError(
                f"the lecture's split is of documents, and {self.name} is a {self.unit}: say --unit document, "
                f"or leave the split out"
            )
        documents = list(self.documents)
        random.Random(42).shuffle(documents)
        n = len(documents)
        train, val = documents[: int(0.8 * n)], documents[int(0.8 * n) : int(0.9 * n)]
        if not train or not val:
            raise DataError(f"{self.name} is too small for the lecture's split: {n} documents; choose more data")
        return Split(tuple(train), tuple(val), LECTURE)

    def order_split(self) -> Split[str]:
        """The last 20% of the documents to validate on, as they stand: where order is time, on what came later.

        Duplicates stay. Raises DataError: a stream, or too few documents.
        """
        if self.unit != "document":
            raise DataError(
                f"the split in order is of documents, and {self.name} is a {self.unit}: say --unit document, "
                f"or leave the split out"
            )
        cut = int(0.8 * len(self.documents))
        if not cut:
            raise DataError(f"{self.name} is too small to be split in order: it has 1 document; choose more data")
        return Split(self.documents[:cut], self.documents[cut:], ORDER)


def corpus(name_or_path: str | Path, encoding: str | None = None, unit: str | None = None) -> Corpus:
    """The data set of that name, else the text file or the folder of text files at that path.

    unit: "stream" or "document" in place of the usual one, which is the set's own, and "stream" for a path. A file
    as documents is one document a line; a folder is one document a file. A folder's hidden files and folders are left
    out, and so are files that are empty or no text. Raises DataError.
    """
    if unit not in (None, *UNITS):
        raise DataError(f"unknown unit {unit!r}: it is one of {', '.join(UNITS)}")
    known = sets.known(str(name_or_path))
    if known is None:
        return _at_path(Path(os.path.expanduser(name_or_path)), encoding, unit or "stream")
    if known.unit not in UNITS:
        raise DataError(
            f"{known.name} holds {known.unit}s, and this needs a text: choose {sets.names(*UNITS)}, or a text file"
        )
    if known.files:
        path = sets.find(known.name)
        found = _one_file(path, encoding, unit or known.unit)
        return replace(found, name=known.name, private=False, licence=known.licence, source=known.name)
    documents = {"identifiers": identifiers, "stdlib-code": stdlib_code}[known.name].documents()
    return Corpus(
        name=known.name,
        documents=documents,
        unit=unit or known.unit,
        sha256=_sha256(documents),
        private=False,
        licence=known.licence,
        origin=f"the standard library of Python {platform.python_version()}",
        source=known.name,
    )


def _divide(documents: list[str], sizes: list[int], seed: int, fraction: float) -> tuple[list[str], list[str]]:
    """(train, val): of the shuffled documents, val gets those that still fit into the fraction, at least one."""
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    room = max(fraction * sum(sizes), min(sizes, default=0))
    train, val = [], []
    for i in order:
        if sizes[i] <= room:
            val.append(documents[i])
            room -= sizes[i]
        else:
            train.append(documents[i])
    return train, val


def _at_path(path: Path, encoding: str | None, unit: str) -> Corpus:
    # os.path's functions, unlike Path's, do not raise where a folder above is locked or the name is too long
    if os.path.isdir(path):
        return _folder(path, encoding, unit)
    if os.path.isfile(path):
        return _one_file(path, encoding, unit)
    if os.path.exists(path):
        raise DataError(f"{path} is neither a file nor a folder: choose a text file or a folder of text files")
    raise DataError(f"there is no file, folder or data set {str(path)!r}: the data sets are {sets.names(*UNITS)}")


def _one_file(path: Path, encoding: str | None, unit: str) -> Corpus:
    raw = read_bytes(path)
    text, seen = decode(raw, path, encoding)
    if not text.strip():
        raise DataError(f"{path} holds nothing but white space: choose a text file")
    documents = _lines(text) if unit == "document" else (text,)
    return _private(path, documents, unit, hashlib.sha256(raw).hexdigest(), f"{path}, read as {seen}")


def _folder(path: Path, encoding: str | None, unit: str) -> Corpus:
    documents, encodings, skipped = [], set(), 0
    for file in _files_below(path):
        raw = read_bytes(file)
        try:
            text, seen = decode(raw, file, encoding)
        except NotText:
            skipped += 1
        else:
            documents.append(text)
            encodings.add(seen)
    if not documents:
        raise DataError(f"no text file in {path} ({skipped} files are empty or no text): choose another folder")
    origin = f"{path}, {len(documents)} files read as {', '.join(sorted(encodings))}"
    if skipped:
        origin += f", {skipped} left out (empty or no text)"
    return _private(path, tuple(documents), unit, _sha256(documents), origin)


def _private(path: Path, documents: tuple[str, ...], unit: str, sha256: str, origin: str) -> Corpus:
    return Corpus(
        name=path.resolve().stem,
        documents=documents,
        unit=unit,
        sha256=sha256,
        private=True,
        licence="not known: it is yours to know",
        origin=origin,
        source=str(path.resolve()),
    )


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, without hidden ones; links to folders are not followed."""

    def refuse(error: OSError):
        raise DataError(f"cannot read {error.filename}: {error.strerror or error}") from error

    found = []
    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in sorted(files) if not name.startswith(".")]
    return [path for path in found if path.is_file()]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.split("\n") if line.strip())


def _sha256(documents: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(documents).encode()).hexdigest()
