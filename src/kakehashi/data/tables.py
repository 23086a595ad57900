"""Texts with classes: read from a table, divided, and cut into batches. B texts, T tokens.

found = tables.read("tickets.csv", text="body", label="team")       # CSV, TSV, JSON lines; banking77, clinc150
parts = found.split(seed=1337)
form = Form.of(parts.classes, tokenizer, [row.text for row in parts.train])
Labelled(parts.train, form).batch(step=0, batch_size=32, seed=1337)       # Batch((tokens (B, T),), classes (B,))

    an encoder reads          END my card is lost  .   .        pad: True where a token is real      class (B,)
    a language model reads     .   .  END my card is lost       and is to predict the class as the token that comes next
"""

import csv
import hashlib
import json
import math
import os
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kakehashi import tokenizers
from kakehashi.data import sets
from kakehashi.data.batches import IGNORE, Batch, items, rectangle
from kakehashi.data.corpora import Split
from kakehashi.data.errors import DataError
from kakehashi.data.text import decode, read_bytes
from kakehashi.tokenizers import Tokenizer, TokenizerError

DELIMITERS = ",;\t"
LINES = (".jsonl", ".ndjson")
MOST_CLASSES = 1000
HALF = re.compile("[\ud800-\udfff]")  # of a character beyond 16 bits
FEW = 10  # rows a class: labels that are numbers and have fewer are amounts, not classes
LONGEST = 512  # tokens of a text, END included
COVERED = 0.99  # the share of the training texts that is read whole
COLUMNS = {"banking77": ("text", "category"), "clinc150": ("text", "intent")}  # of the sets known by name


class Row(NamedTuple):
    """A text and its class."""

    text: str
    label: str


@dataclass(frozen=True)
class TableSplit(Split[Row]):
    """Rows to train on and to validate on. classes: all of both, sorted. said: what a person should know, counted.

    said: "empty": rows left out, without text or label; "torn": rows left out, of more or fewer cells than the first
    line; "both": texts that stand there with several labels; "alike": classes that are the `same` as another but for
    how they are written; "alone": classes with too few texts to set one aside, so that nothing of them is validated on.
    """

    classes: tuple[str, ...] = ()
    said: Mapping[str, int] = field(default_factory=dict)

    def share_in(self, texts: Iterable[Row]) -> float:
        """The share of the texts to validate on that stand in these rows, by `same`."""
        known = {same(row.text) for row in texts}
        return sum(same(row.text) in known for row in self.val) / len(self.val)


@dataclass(frozen=True)
class Table:
    """One part of a data set: texts[i] is of the class labels[i].

    sha256    of the file's bytes
    private   not one of the sets known by name: nothing learnt from it leaves the machine unasked
    source    what `read` takes to find it again, with `columns` (text, label): a name, or an absolute path
    val       the set's own part to validate on; empty: `split` sets some aside
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    sha256: str
    private: bool
    licence: str
    origin: str
    source: str
    columns: tuple[str, str]
    n_empty: int = 0
    n_torn: int = 0
    val: tuple[Row, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({*self.labels, *(row.label for row in self.val)}))

    def split(self, seed: int = 1337, fraction: float = 0.1) -> TableSplit:
        """Set `fraction` of each class aside for validation, at least one text of each class that can spare one.

        Texts that are the `same` count once for each of their labels, and stand on one side. A set's own validation
        part is taken as it is, without its texts in training. Raises DataError where a side would be empty.
        """
        labels: dict[str, dict[str, Row]] = defaultdict(dict)  # of each distinct text, a row for each label
        for row in map(Row, self.texts, self.labels):
            labels[same(row.text)].setdefault(row.label, row)
        members: dict[str, list[str]] = defaultdict(list)
        for text, rows in labels.items():
            members[next(iter(rows))].append(text)
        if self.val:
            chosen = {same(row.text) for row in self.val}
            name = "as published"
        else:
            rng, chosen = random.Random(seed), set()
            left = Counter(label for rows in labels.values() for label in rows)  # texts to train on, of each class
            for label in sorted(members):
                rng.shuffle(members[label])
                wanted = max(1, round(fraction * len(members[label])))
                for text in members[label]:
                    if wanted and all(left[each] > 1 for each in labels[text]):  # each class keeps one to learn from
                        chosen.add(text)
                        left.subtract(labels[text].keys())
                        wanted -= 1
            name = f"by text in each class, seed {seed}, {100 - 100 * fraction:g}/{100 * fraction:g}"
        train = tuple(row for text, rows in labels.items() if text not in chosen for row in rows.values())
        val = self.val or tuple(row for text, rows in labels.items() if text in chosen for row in rows.values())
        if not train or not val:
            raise DataError(
                f"{self.name} is too small to be split: no class in {self.columns[1]!r} has a distinct text to spare; "
                f"choose more data, or another column"
            )
        said = {
            "empty": self.n_empty,
            "torn": self.n_torn,
            "both": sum(len(rows) > 1 for rows in labels.values()),
            "alike": len(self.classes) - sum(n == 1 for n in Counter(map(same, self.classes)).values()),
            "alone": len(set(self.classes) - {row.label for row in val}),
        }
        return TableSplit(train, val, name, self.classes, said)


@dataclass(frozen=True)
class Form:
    """What a classifier of texts reads and answers: a run keeps it. length: tokens that are read of a text, at most."""

    classes: tuple[str, ...]
    tokenizer: Tokenizer
    length: int

    @classmethod
    def of(
        cls, classes: tuple[str, ...], tokenizer: Tokenizer, texts: Sequence[str], most: int | None = None
    ) -> "Form":
        """The form that reads COVERED of these texts whole, if `most` tokens suffice; None: LONGEST."""
        lengths = [1 + len(tokenizer.encode(text)) for text in texts]
        needed = int(np.quantile(lengths, COVERED, method="inverted_cdf"))
        return cls(classes, tokenizer, min(needed, LONGEST, LONGEST if most is None else most))

    def encode(self, text: str) -> list[int]:
        """A text's tokens after the one that begins a document, uncut: never none, whatever the text."""
        return [self.tokenizer.begin, *self.tokenizer.encode(text)]

    def numbers(self, texts: Sequence[str], left: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Texts, cut at the end to `length` -> tokens (B, T) int64 and pad (B, T) bool, True = real.

        Padding fills the right; with `left`, as a language model reads, the left.
        """
        return rectangle([self.encode(text)[: self.length] for text in texts], self.tokenizer.end, left)

    def to_dict(self) -> dict[str, Any]:
        tokenizer = self.tokenizer.to_dict()
        return {"format": 1, "kind": "texts", "tokenizer": tokenizer, "classes": self.classes, "length": self.length}

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Raises DataError where a run's data have not these classes, in this order: the form is not that run's."""
        if self.classes != classes:
            raise DataError(
                f"the data have {len(classes)} classes, from {classes[0]!r} to {classes[-1]!r}, and the form of texts "
                f"{len(self.classes)}, from {self.classes[0]!r} to {self.classes[-1]!r}: it is another run's"
            )

    def require_fits(self, config: Mapping[str, Any]) -> None:
        """Raises DataError where a model of these Config fields has not as many tokens and classes as this form."""
        n_tokens, n_classes = self.tokenizer.vocab_size, len(self.classes)
        if reads_on(config):
            there, wanted = {"vocab_size": config.get("vocab_size")}, {"vocab_size": n_tokens + n_classes}
        else:
            there = {name: config.get(name) for name in ("vocab_size", "n_classes")}
            wanted = {"vocab_size": n_tokens, "n_classes": n_classes}
        if there != wanted:
            raise DataError(
                f"the form of texts has {n_tokens} tokens and {n_classes} classes, which make {wanted}, and the model "
                f"has {there}: one of them is not this run's"
            )

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Form":
        """What `to_dict()` gave. Raises DataError where it is something else."""
        try:
            if (content["format"], content["kind"]) != (1, "texts"):
                raise ValueError("need format 1 and kind 'texts'")
            classes, length = content["classes"], content["length"]
            if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
                raise ValueError("classes are a list of texts")
            if len(classes) < 2 or len(set(classes)) < len(classes):
                raise ValueError("there are at least two classes, all different")
            if type(length) is not int or length < 1:
                raise ValueError("length is a number of tokens")
            return cls(tuple(classes), tokenizers.from_dict(content["tokenizer"]), length)
        except (AttributeError, KeyError, TypeError, ValueError, TokenizerError) as error:
            raise DataError(f"this is not the form of texts ({error}), got {str(content)[:80]!r}") from error


def load_form(path: str | Path) -> Form:
    """The form in a JSON file, such as a run's texts.json. Raises DataError, with the file's name."""
    raw = read_bytes(path)
    try:
        return Form.from_dict(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def reads_on(config: Mapping[str, Any]) -> bool:
    """Whether a model of these Config fields is a language model: an encoder's know how many classes there are."""
    return "n_classes" not in config


def answers(logits: Any, n_classes: int) -> Any:
    """The classes' logits (B, n_classes): all of an encoder's (B, n_classes); of a language model's (B, T, V) those of
    what follows the last token, where the classes are the last n_classes tokens.
    """
    return (logits if logits.ndim == 2 else logits[:, -1])[:, -n_classes:]


class Labelled:
    """Rows as a training loop reads them: each once an epoch, a batch as wide as its longest text.

    left: for a language model; targets are then (B, T), IGNORE but in the last column. n_cut: texts longer than `form`
    reads.
    """

    def __init__(self, rows: Sequence[Row], form: Form, left: bool = False):
        self.rows = tuple(rows)
        self.form = form
        self.left = left
        encoded = [form.encode(row.text) for row in rows]
        self._tokens = [tokens[: form.length] for tokens in encoded]
        self.n_cut = sum(len(tokens) > form.length for tokens in encoded)
        places = {label: place for place, label in enumerate(form.classes)}
        self.labels = np.array([places[row.label] for row in rows], dtype=np.int64)
        self.n_items = self.n_targets = len(rows)

    def batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """The batch of a training step (from 0): a pure function of its arguments, so a resumed run needs no state."""
        return self._gather(items(step, batch_size, self.n_items, seed))

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Every text exactly once, in order."""
        for i in range(0, self.n_items, batch_size):
            yield self._gather(np.arange(i, min(i + batch_size, self.n_items)))

    def _gather(self, places: np.ndarray) -> Batch:
        tokens, real = rectangle([self._tokens[i] for i in places], self.form.tokenizer.end, self.left)
        targets = self.labels[places]
        if self.left:
            targets = np.full(tokens.shape, IGNORE)
            targets[:, -1] = self.form.tokenizer.vocab_size + self.labels[places]
        return batch_of(tokens, real, targets)


def batch_of(tokens: np.ndarray, real: np.ndarray, targets: Any = None) -> Batch:
    """What `Form.numbers` gave as a batch. A model is told of padding only where there is some."""
    return Batch((tokens,), targets, len(tokens), options={} if real.all() else {"pad": real})


def read(
    name_or_path: str | Path,
    text: str | None = None,
    label: str | None = None,
    encoding: str | None = None,
    part: str = "train",
) -> Table:
    """The texts and classes of the set of that name, or of a file: CSV with , ; or tabs, .tsv, or JSON lines (.jsonl).

    text, label: the columns, by the names in the file's first line, or the keys; None: those called text and label; a
    set known by name has its own. Rows without text or label are left out, and so are those of too many or too few
    cells; they are counted. part: "train", or of a set known by name "test".
    Raises DataError: no such file, no text, no such column, labels that are no classes.
    """
    known = sets.known(str(name_or_path))
    if known is None:
        if part != "train":
            raise DataError(f"{name_or_path} has no part {part!r}: a file is divided into training and validation")
        return _file(Path(os.path.expanduser(name_or_path)), text or "text", label or "label", encoding)
    if known.unit != "table":
        raise DataError(
            f"{known.name} holds no texts with classes: choose {sets.names('table')}, or a FILE.csv with a column of "
            f"texts and one of classes"
        )
    columns = COLUMNS[known.name]
    for said, column in zip((text, label), columns, strict=True):
        if said not in (None, column):
            raise DataError(
                f"{known.name} has its texts in {columns[0]!r}, its classes in {columns[1]!r}, not {said!r}"
            )
    val: tuple[Row, ...] = ()
    if known.name == "clinc150":
        path, content = _clinc()
        rows, val = content[part], content["val"] if part == "train" else ()
    else:
        path = sets.find(known.name, part == "test")
        found = _file(path, *columns, encoding="utf-8")
        rows = tuple(map(Row, found.texts, found.labels))
    texts, labels = zip(*rows, strict=True)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Table(known.name, texts, labels, sha256, False, known.licence, str(path), known.name, columns, val=val)


def outside(part: str) -> tuple[str, ...]:
    """Texts of clinc150 that belong to none of its classes. part: "val" or "test". Raises DataError."""
    if part not in ("val", "test"):
        raise DataError(f"part must be val or test, got {part!r}")
    return tuple(row.text for row in _clinc()[1][f"oos_{part}"])


def same(text: str) -> str:
    """What texts have in common that a person takes for one: width, case and how much white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _clinc() -> tuple[Path, dict[str, tuple[Row, ...]]]:
    path = sets.find("clinc150")
    content = json.loads(path.read_text(encoding="utf-8"))
    return path, {part: tuple(Row(*each) for each in rows) for part, rows in content.items()}


def _file(path: Path, text: str, label: str, encoding: str | None = None) -> Table:
    if text == label:
        raise DataError(f"text and label are both the column {text!r}: name two")
    if not os.path.exists(path):
        raise DataError(
            f"there is no file {str(path)!r}, and no table of that name: the tables are {sets.names('table')}"
        )
    if path.suffix.lower() == ".json":
        raise DataError(f"{path}: of JSON, JSON lines are read, an object {{...}} a line: write it so, as a .jsonl")
    raw = read_bytes(path)
    content, seen = decode(raw, path, encoding)
    cut = _objects if path.suffix.lower() in LINES else _cells
    texts, labels, n_empty, n_torn = [], [], 0, 0
    for cells in cut(content, path, (text, label)):
        if cells is None:
            n_torn += 1
        elif all(cells):
            texts.append(cells[0])
            labels.append(cells[1])
        else:
            n_empty += 1
    _require_classes(labels, path, label, n_empty + n_torn)
    name, sha256 = path.resolve().stem, hashlib.sha256(raw).hexdigest()
    return Table(
        name,
        tuple(texts),
        tuple(labels),
        sha256,
        True,
        "not known: it is yours to know",
        f"{path}, read as {seen}",
        str(path.resolve()),
        (text, label),
        n_empty,
        n_torn,
    )


def _cells(content: str, path: Path, wanted: tuple[str, str]) -> Iterator[tuple[str, str] | None]:
    """The two cells of each row of a CSV file, without white space around; None for a row of too many or too few."""
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # a document may be long
    delimiters = "\t" if path.suffix.lower() == ".tsv" else DELIMITERS
    headers = {each: _header(content, each) for each in delimiters}
    delimiter = max(delimiters, key=lambda each: (sum(name in headers[each] for name in wanted), len(headers[each])))
    header = headers[delimiter]
    places = [_place(name, header, path) for name in wanted]
    rows = csv.reader(_lines(content), delimiter=delimiter, strict=True)
    try:
        next(row for row in rows if row)
        for row in filter(None, rows):
            yield (row[places[0]].strip(), row[places[1]].strip()) if len(row) == len(header) else None
    except csv.Error as error:
        raise DataError(
            f"{path}, line {rows.line_num}: {error}; a quote inside a quoted cell is written twice, and each is closed"
        ) from error


def _objects(content: str, path: Path, wanted: tuple[str, str]) -> Iterator[tuple[str, str] | None]:
    """The two values of each object of a file of JSON lines; None for an object without one of the keys."""
    found = False
    for number, line in enumerate(_lines(content), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: a line is an object {{...}}, got {line.strip()[:80]!r}")
        if not found:  # a key that the first object lacks is more likely misspelt than missing there alone
            for name in wanted:
                _place(name, list(value), path)
            found = True
        cells = [value.get(name) for name in wanted]
        if not isinstance(cells[0], str | None):
            raise DataError(f"{path}, line {number}: {wanted[0]!r} must be a text, got {str(cells[0])[:80]!r}")
        if isinstance(cells[1], list | dict):
            raise DataError(f"{path}, line {number}: {wanted[1]!r} must be one label, got {str(cells[1])[:80]!r}")
        said = [_said(each) for each in cells]
        for name, each in zip(wanted, said, strict=True):
            if half := HALF.search(each):
                raise DataError(f"{path}, line {number}: {name!r} has half a character, {half[0]!r}: write it whole")
        yield (said[0].strip(), said[1].strip()) if all(name in value for name in wanted) else None


def _said(value: Any) -> str:
    """A value of JSON as a cell: what is none, or no number, is empty."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _header(content: str, delimiter: str) -> list[str]:
    """The names of the columns, if this is what stands between them."""
    try:
        row = next(filter(None, csv.reader(_lines(content), delimiter=delimiter, strict=True)), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in row]


def _lines(content: str) -> Iterator[str]:
    """Lines with their ends, one after another: a large text is not copied."""
    begin = 0
    while begin < len(content):
        end = content.find("\n", begin) + 1 or len(content)
        yield content[begin:end]
        begin = end


def _place(name: str, columns: Sequence[str], path: Path) -> int:
    if name in columns:
        return columns.index(name)
    near = sorted(columns, key=lambda each: -SequenceMatcher(None, each.casefold(), name.casefold()).ratio())
    shown = ", ".join(repr(each[:40]) for each in near[:20]) + (", ..." if len(near) > 20 else "")
    raise DataError(f"{path} has no column {name!r}: those that its first line names are {shown or 'none'}")


def _require_classes(labels: Sequence[str], path: Path, column: str, left_out: int) -> None:
    if not labels:
        raise DataError(
            f"{path} has no row with a text and a label in {column!r} ({left_out} left out): choose another"
        )
    counts = Counter(labels)
    advice = "did you mean another column?"
    if len(counts) < 2:
        raise DataError(f"{path} has one class only, {labels[0][:40]!r} in {column!r}: {advice}")
    if len(counts) > 2 * FEW and len(labels) < FEW * len(counts) and all(map(_is_number, counts)):
        raise DataError(
            f"{path}: {column!r} holds {len(counts):,} different numbers in {len(labels):,} rows, such as "
            f"{labels[0]!r}, which are no classes: {advice}"
        )
    if len(counts) > MOST_CLASSES:
        raise DataError(
            f"{path} has {len(counts):,} classes in {column!r}, and the most are {MOST_CLASSES:,}: {advice}"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
