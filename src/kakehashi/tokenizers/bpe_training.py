"""The merges of a byte-level BPE, fast: the same as `bpe.learn_merges_slowly`, which tells the idea.

All words stand in one array of tokens, NONE between them; a token that is swallowed becomes NONE, and `after` and
`before` lead past it. Two things save nearly all of the work:

* A merge makes a token that was not there before, so all pairs with it are new, and their places known at once. From
  then on a pair can only lose places: a count, once taken, is never too low.
* Pairs wait in a heap by a count that may be too high. Only of the one on top is the true count taken: if it is lower,
  the pair goes back with it; if not, no pair can have more, and all its places are merged in a few array steps.
"""

from collections.abc import Mapping
from heapq import heappop, heappush

import numpy as np

from kakehashi.tokenizers.byte_alphabet import NUMBER

NONE = -1
WIDTH = 1 << 32  # a pair is the key left * WIDTH + right: keys are in the order of pairs


def learn_merges(words: Mapping[bytes, int], n_merges: int) -> list[tuple[int, int]]:
    """The merges that the words, each with its count, teach: pairs of token numbers, the first one learnt first.

    Numbers 0 to 255 are the bytes, in the order of BYTES; merge i makes token 256 + i. A pair that occurs once is no
    merge, so there may be fewer than n_merges. Equal counts: the pair with the lower numbers, left before right.
    """
    token, weight = _lay_out(words)  # both (N,)
    after = np.arange(1, len(token) + 1, dtype=np.int32)
    after[-1] = len(token) - 1  # the last one is NONE: a pair with it does not count
    before = np.arange(-1, len(token) - 1, dtype=np.int32)
    places: dict[int, np.ndarray] = {}  # of the left tokens of each pair, ascending; of some the pair may be gone
    heap: list[tuple[int, int]] = []  # (-count, key)
    merges: list[tuple[int, int]] = []

    def wait(left: np.ndarray) -> None:
        """Let the new pairs that begin at these places wait for their turn."""
        first, second = token[left], token[after[left]]
        real = (first != NONE) & (second != NONE)
        left, keys = left[real], first[real].astype(np.int64) * WIDTH + second[real]
        order = keys.argsort(kind="stable")
        left, keys = left[order], keys[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))  # one a distinct pair
        if not len(starts):
            return
        counts = np.add.reduceat(weight[left], starts)
        often = counts > 1
        ends = np.append(starts[1:], len(left))
        for key, count, start, end in zip(
            *(each[often].tolist() for each in (keys[starts], counts, starts, ends)), strict=True
        ):
            places[key] = left[start:end]
            heappush(heap, (-count, key))

    wait(np.arange(len(token), dtype=np.int32))
    while heap and len(merges) < n_merges:
        said, key = heappop(heap)
        first, second = divmod(key, WIDTH)
        left = places.pop(key)
        left = left[(token[left] == first) & (token[after[left]] == second)]
        count = int(weight[left].sum())
        if count < -said:
            if count > 1:
                places[key] = left
                heappush(heap, (-count, key))
            continue
        if first == second:
            left = _apart(left, after)
        new = 256 + len(merges)
        merges.append((first, second))
        right = after[left]
        token[left], token[right] = new, NONE
        after[left] = after[right]
        before[after[left]] = left
        previous = before[left]
        wait(np.concatenate([previous[token[previous] != new], left]))  # a new token before: its own right neighbour
    return merges


def _lay_out(words: Mapping[bytes, int]) -> tuple[np.ndarray, np.ndarray]:
    """(token, weight), both (N,): the bytes of all words with NONE around each, and how often its word stands there."""
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    counts = np.fromiter(words.values(), dtype=np.int64, count=len(words))
    ends = np.cumsum(lengths + 1)  # the NONE after each word; one more stands at 0
    token = np.full(1 + int((lengths + 1).sum()), NONE, dtype=np.int32)
    of_words = np.ones(len(token), dtype=bool)
    of_words[[0, *ends]] = False
    number = np.array([NUMBER[byte] for byte in range(256)], dtype=np.int32)
    token[of_words] = number[np.frombuffer(b"".join(words), dtype=np.uint8)]
    return token, np.concatenate([[0], np.repeat(counts, lengths + 1)])


def _apart(left: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of the places of a pair of equal tokens, those that are merged: in "aaa" the first, in "aaaa" first and third."""
    overlaps = np.append(False, after[left[:-1]] == left[1:])  # the one before it
    nth = np.arange(len(left))
    of_run = nth - np.maximum.accumulate(np.where(overlaps, 0, nth))
    return left[of_run % 2 == 0]
