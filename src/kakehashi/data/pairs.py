"""Pairs of texts, a source and what it is to become, and how they are cut into batches. B: pairs in a batch.

source     2 4 . 1 1 . 2 0 2 6 END           (B, S), padded with END on the right; source_pad says what is real
target     END 2 0 2 6 - 1 1 - 2 4           (B, T)
targets    2 0 2 6 - 1 1 - 2 4 END           (B, T), -100 where a shorter target has ended
"""

import gzip
import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kakehashi.data import dates, sets, tables
from kakehashi.data.batches import IGNORE, Batch, Encoder, rectangle
from kakehashi.data.corpora import Split, corpus
from kakehashi.data.dates import Pair
from kakehashi.data.errors import DataError
from kakehashi.data.text import decode, read_bytes

NEAR = 4  # tokens: pairs whose lengths differ by less may come into the same batch
LONGEST = 2048  # tokens of a text, END included: each is compared with each, so a longer one would fill the memory


@dataclass(frozen=True)
class PairSplit(Split[Pair]):
    """Pairs to train on and to validate on. apart: parts that training never looks at, by name."""

    apart: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts to learn from. `split(seed)` divides them: as published, or by the seed. The rest: see Corpus."""

    name: str
    split: Callable[[int], PairSplit]
    sha256: str
    private: bool
    licence: str
    origin: str
    source: str


def read_pairs(name_or_path: str | Path, encoding: str | None = None) -> Pairs:
    """The pairs of that name, "dates" or "multi30k", else those of a file with a tab between the two texts of a line.

    Raises DataError.
    """
    known = sets.known(str(name_or_path))
    if known is None:
        return _file(Path(os.path.expanduser(name_or_path)), encoding)
    if known.unit != "pair":
        raise DataError(
            f"{known.name} holds no pairs of texts: choose {sets.names('pair')}, or a FILE.tsv of two columns"
        )
    if known.files:
        parts, origin = _lines(known), f"{known.name}, its own division"
        divided = PairSplit(parts["train"], parts["val"], "as published", {"test": parts["test"]})
    else:
        parts, origin = dates.pairs(), "made by kakehashi.data.dates"
        apart = {name: parts[name] for name in ("test", "unseen")}
        divided = PairSplit(parts["train"], parts["val"], "by calendar day, 80/10/10", apart)
    return Pairs(known.name, lambda seed: divided, _sha256(parts), False, known.licence, origin, known.name)


def training_texts(name_or_path: str | Path, encoding: str | None = None, seed: int = 1337) -> tuple[str, list[str]]:
    """The name of data, and what a tokenizer may learn from: a text's documents; of pairs, which a FILE.tsv is said to
    hold, both sides of those that are trained on with this seed, and of a set of texts with classes those texts.

    Raises DataError.
    """
    if sets.unit_of(name_or_path) == "table":
        found = tables.read(name_or_path)
        return found.name, [row.text for row in found.split(seed).train]
    if sets.unit_of(name_or_path) == "pair":
        found = read_pairs(name_or_path, encoding)
        return found.name, [text for pair in found.split(seed).train for text in pair]
    found = corpus(name_or_path, encoding)
    return found.name, list(found.documents)


class PairSource:
    """Batches of pairs of about the same length, so that little of a batch is padding.

    n_items: pairs; n_targets: their targets, END with each; n_cut: 0, pairs are not cut. Raises DataError for a text of
    more than LONGEST tokens.
    """

    n_cut = 0

    def __init__(self, pairs: Sequence[Pair], tokenizer: Encoder):
        self._end = tokenizer.end
        self._sources = [_encoded(source, tokenizer) for source, _ in pairs]
        self._targets = [_encoded(target, tokenizer) for _, target in pairs]
        self._lengths = np.array([len(s) + len(t) for s, t in zip(self._sources, self._targets, strict=True)])
        self.n_items = len(pairs)
        self.n_targets = sum(map(len, self._targets))
        self._epoch: tuple[tuple[int, int, int], list[np.ndarray]] = ((0, 0, 0), [])

    def batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """The batch of a training step (from 0): a pure function of its arguments, each pair once an epoch.

        An epoch is cut into equally many pairs a batch, at most batch_size.
        """
        n_batches = -(-self.n_items // batch_size)
        epoch, nth = divmod(step, n_batches)
        if self._epoch[0] != (n_batches, seed, epoch):  # kept, for the next step asks for the same
            rng = np.random.default_rng((seed, epoch))
            # sorted by length, and yet with other neighbours in each epoch
            order = np.argsort(self._lengths + rng.uniform(0, NEAR, self.n_items))
            batches = np.array_split(order, n_batches)
            self._epoch = (n_batches, seed, epoch), [batches[i] for i in rng.permutation(n_batches)]
        return self._gather(self._epoch[1][nth])

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Every pair exactly once, from short to long."""
        order = np.argsort(self._lengths, kind="stable")
        for i in range(0, self.n_items, batch_size):
            yield self._gather(order[i : i + batch_size])

    def _gather(self, items: np.ndarray) -> Batch:
        """(B,) numbers of pairs -> a batch as wide as its longest texts."""
        source, real = rectangle([self._sources[i] for i in items], self._end)
        targets, counted = rectangle([self._targets[i] for i in items], self._end)
        before, _ = rectangle([[self._end, *self._targets[i][:-1]] for i in items], self._end)
        targets[~counted] = IGNORE
        return Batch((source, before), targets, int(counted.sum()), options={"source_pad": real})


def _encoded(text: str, tokenizer: Encoder) -> list[int]:
    tokens = [*tokenizer.encode(text), tokenizer.end]
    if len(tokens) > LONGEST:
        raise DataError(
            f"a text of a pair has at most {LONGEST} tokens, and {text[:40]!r}... has {len(tokens)}: "
            f"cut it into sentences, or choose a tokenizer of longer tokens"
        )
    return tokens


def _lines(known: sets.DataSet) -> dict[str, tuple[Pair, ...]]:
    """A set of two files of lines for each of "train", "val" and "test", the source's first."""
    texts = []
    for nth in range(len(known.files)):
        with gzip.open(sets.find(known.name, nth), "rt", encoding="utf-8", newline="\n") as file:
            texts.append([line.strip() for line in file])
    sides = zip(texts[::2], texts[1::2], strict=True)
    return {part: tuple(zip(*both, strict=True)) for part, both in zip(("train", "val", "test"), sides, strict=True)}


def _file(path: Path, encoding: str | None) -> Pairs:
    if not os.path.isfile(path):
        raise DataError(
            f"there is no file {str(path)!r} and no pairs of that name: choose {sets.names('pair')}, or a FILE.tsv"
        )
    raw = read_bytes(path)
    text, seen = decode(raw, path, encoding)
    found: list[Pair] = []
    for number, line in enumerate(text.split("\n"), 1):
        columns = [column.strip() for column in line.split("\t")]
        if not any(columns):
            continue
        if len(columns) != 2 or not all(columns):
            raise DataError(
                f"{path}, line {number}: a line is two texts with one tab between them, got {line.rstrip()[:80]!r}"
            )
        found.append((columns[0], columns[1]))
    name = path.resolve().stem
    return Pairs(
        name,
        lambda seed: _divide(name, found, seed),
        hashlib.sha256(raw).hexdigest(),
        True,
        "not known: it is yours to know",
        f"{path}, read as {seen}",
        str(path.resolve()),
    )


def _divide(name: str, found: list[Pair], seed: int) -> PairSplit:
    """A tenth of the distinct sources, at least one, with all their pairs, to validate on."""
    sources = list(dict.fromkeys(source for source, _ in found))
    if len(sources) < 2:
        raise DataError(f"{name} is too small to be split: it has {len(sources)} distinct sources; choose more data")
    random.Random(seed).shuffle(sources)
    kept = set(sources[: max(1, len(sources) // 10)])
    distinct = dict.fromkeys(found)
    train = tuple(pair for pair in distinct if pair[0] not in kept)
    val = tuple(pair for pair in distinct if pair[0] in kept)
    return PairSplit(train, val, f"by source text, seed {seed}, 90/10")


def _sha256(parts: Mapping[str, Sequence[Pair]]) -> str:
    return hashlib.sha256(
        "\0".join(text for made in parts.values() for pair in made for text in pair).encode()
    ).hexdigest()
