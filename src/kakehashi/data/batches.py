"""From the texts of a split to batches of token numbers. B: items in a batch, T: tokens in an item.

    tokens    END a n n a END b o b END      documents with END before, between and after: N + 1 tokens
    inputs    END a n n a END b o b          position i is to predict tokens[i + 1],
    targets    a  n n a END b o b END        so there are N targets, and every cut of 0..N-1 counts each of them once

Where a tokenizer has a token of its own for the beginning, as Llama's has <s>, that is read in place of END; none
learns to predict it, as a text that is written ends with END.

The unit says where the cuts are. "document": after each END, so nothing is learnt across documents. "stream": every
block_size positions.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from kakehashi.data.corpora import Split
from kakehashi.data.errors import DataError

IGNORE = -100  # the target where nothing is to be predicted, as in models/protocol.py
LONG_LANE = 8  # windows: in shorter lanes the state is emptied too often to be worth carrying


class Batch(NamedTuple):
    """One step's data. Of a language model: inputs == (tokens (B, T),), targets (B, T), both int64.

    n_targets: how many targets count, those that are not -100. follows: None where each row stands alone. In lanes:
    whether row b goes on where row b of the batch before ended; False: all lanes begin. options: inputs that the
    model takes by name.
    """

    inputs: tuple[Any, ...]
    targets: Any
    n_targets: int
    follows: bool | None = None
    options: Mapping[str, Any] = MappingProxyType({})


class Batches(Protocol):
    """What the training loop reads, of any task. n_items, n_targets: in an epoch; n_cut: items that had to be cut."""

    n_items: int
    n_targets: int
    n_cut: int

    def batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """The batch of a training step (from 0): a pure function of its arguments, each item once an epoch."""
        ...

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Every target exactly once, in a fixed order."""
        ...


class Encoder(Protocol):
    """What `sources` needs of a tokenizer."""

    @property
    def begin(self) -> int: ...

    @property
    def end(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...


class Source:
    """Items of at most block_size positions over one text after another.

    n_items: items in an epoch; n_targets: targets in an epoch, and in `whole`; n_cut: documents that with their END
    are longer than block_size, and so are cut into pieces.
    """

    def __init__(self, texts: tuple[str, ...], tokenizer: Encoder, block_size: int, unit: str):
        encoded = [[*tokenizer.encode(text), tokenizer.end] for text in texts]
        self._end = tokenizer.end
        self._targets = np.array([token for document in encoded for token in document], dtype=np.int64)
        lengths = np.array([len(document) for document in encoded], dtype=np.int64)
        self._inputs = np.concatenate(([tokenizer.begin], self._targets[:-1]))
        self._inputs[lengths.cumsum()[:-1]] = tokenizer.begin
        self.n_targets = len(self._targets)
        self._stream = unit == "stream"
        sizes = np.array([self.n_targets]) if self._stream else lengths
        self._starts, self._lengths = _cut(sizes, block_size)
        self.n_items = len(self._starts)
        self.n_cut = 0 if self._stream else int((sizes > block_size).sum())

    def batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """The batch of a training step (from 0): a pure function of its arguments, so a resumed run needs no state.

        Steps walk through epoch after epoch, a batch may hold the end of one and the start of the next. An epoch is
        a permutation of all items. In a stream, each epoch cuts at a fresh offset and the text is a ring: after its
        last END comes its first character.
        """
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), self.n_items)
        starts, lengths = [], []
        for epoch in range(epochs[0], epochs[-1] + 1):
            order, offset = _epoch(self.n_items, self.n_targets, seed, epoch)
            items = order[places[epochs == epoch]]
            starts.append(self._starts[items] + (offset if self._stream else 0))
            lengths.append(self._lengths[items])
        return self._gather(np.concatenate(starts), np.concatenate(lengths))

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Every target exactly once, in the order of the texts."""
        for i in range(0, self.n_items, batch_size):
            yield self._gather(self._starts[i : i + batch_size], self._lengths[i : i + batch_size])

    def _gather(self, starts: np.ndarray, lengths: np.ndarray) -> Batch:
        """(B,) starts and (B,) lengths -> a batch as wide as its longest item, padded on the right."""
        columns = np.arange(lengths.max())
        positions = starts[:, None] + columns  # (B, T)
        real = columns < lengths[:, None]
        tokens = np.where(real, self._inputs.take(positions, mode="wrap"), self._end)
        targets = np.where(real, self._targets.take(positions, mode="wrap"), IGNORE)
        return Batch((tokens,), targets, int(lengths.sum()))


class Lanes(Source):
    """A stream in lanes side by side, each read window after window, for a model that carries its state along.

        lane 0    the first part of the text     window 0 | window 1 | ...
        lane 1    the part after it              window 0 | window 1 | ...     a batch is a column, a row for each lane

    n_items: whole windows in the text, and so the most lanes there can be in training. n_lanes: the most lanes that
    are LONG_LANE windows long, at least 1.
    """

    def __init__(self, texts: tuple[str, ...], tokenizer: Encoder, block_size: int):
        super().__init__(texts, tokenizer, block_size, "stream")
        self._block_size = block_size
        self.n_items = self.n_targets // block_size
        self.n_lanes = max(1, self.n_items // LONG_LANE)

    def batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """In step s of an epoch, the s-th window of each of `batch_size` lanes: a pure function of its arguments.

        Windows are whole and lanes equally long; what is left over is not read in that epoch. Each epoch lays its lanes
        from a fresh offset of the ring. Raises DataError where a lane would have no window.
        """
        if batch_size > self.n_items:
            raise DataError(
                f"the text is too short for {batch_size} lanes: {self.n_targets} tokens, and a window has "
                f"{self._block_size}; choose a longer text, or a smaller batch_size or window"
            )
        windows = self.n_items // batch_size  # in a lane
        epoch, nth = divmod(step, windows)
        _, offset = _epoch(self.n_items, self.n_targets, seed, epoch)
        starts = offset + (np.arange(batch_size) * windows + nth) * self._block_size
        return self._gather(starts, np.full(batch_size, self._block_size))._replace(follows=nth > 0)

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Every target exactly once, in at most `batch_size` long lanes whose lengths differ by 1 at most."""
        n_lanes = min(batch_size, self.n_lanes)
        edges = np.arange(n_lanes + 1) * self.n_targets // n_lanes
        for done in range(0, int(np.diff(edges).max()), self._block_size):
            lengths = np.clip(np.diff(edges) - done, 0, self._block_size)
            yield self._gather(edges[:-1] + done, lengths)._replace(follows=done > 0)


def sources(split: Split, tokenizer: Encoder, block_size: int, unit: str, carry: bool = False) -> tuple[Source, Source]:
    """(train, val) of a split; with carry, both are Lanes.

    Raises DataError where a stream has no whole window to train on, with carry no two, or is no stream then.
    """
    if carry and unit != "stream":
        raise DataError(f"carry needs a stream, and each {unit} is learnt alone: say --unit stream, or leave carry out")
    if carry:
        train, val = (Lanes(texts, tokenizer, block_size) for texts in (split.train, split.val))
    else:
        train, val = (Source(texts, tokenizer, block_size, unit) for texts in (split.train, split.val))
    if unit == "stream" and train.n_targets < (1 + carry) * block_size:
        window = f"a window has {block_size}" + carry * ", of which carry needs two"
        raise DataError(
            f"the training text is too short: {train.n_targets} tokens, and {window}; "
            f"choose a longer text or a smaller window (--window, or the block_size of a model that has one)"
        )
    return train, val


def _cut(sizes: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut runs of `sizes` positions that follow one another into pieces: (starts, lengths), lengths <= block_size."""
    pieces = -(-sizes // block_size)
    nth = np.arange(pieces.sum()) - np.repeat(pieces.cumsum() - pieces, pieces)  # of its run
    starts = np.repeat(sizes.cumsum() - sizes, pieces) + nth * block_size
    lengths = np.minimum(np.repeat(sizes, pieces) - nth * block_size, block_size)
    return starts, lengths


def rectangle(rows: Sequence[Sequence[int]], fill: int, left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rows of numbers, filled to the longest on the right, or the left: (B, T) int64, and (B, T) bool: True = a row's
    own.
    """
    lengths = np.array([len(row) for row in rows])[:, None]  # (B, 1)
    places = np.arange(lengths.max())
    own = places >= len(places) - lengths if left else places < lengths  # (B, T)
    tokens = np.full(own.shape, fill, dtype=np.int64)
    tokens[own] = np.concatenate(rows)
    return tokens, own


def items(step: int, batch_size: int, n_items: int, seed: int) -> np.ndarray:
    """(B,): the numbers of the items that a training step reads, of n_items; an epoch is a permutation of all."""
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_items)
    walked = [_epoch(n_items, 1, seed, epoch)[0][places[epochs == epoch]] for epoch in range(epochs[0], epochs[-1] + 1)]
    return np.concatenate(walked)


@lru_cache(maxsize=8)
def _epoch(n_items: int, n_targets: int, seed: int, epoch: int) -> tuple[np.ndarray, int]:
    """The order of an epoch's items, and the offset by which a stream's cuts move. Kept: a step asks for the same."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(n_items)
    order.flags.writeable = False
    return order, int(rng.integers(n_targets))
