"""The tokens of a piece, fast: what `bpe.merge_slowly` makes of it, found without doing its merges.

A merge looks at the two tokens that it joins and at nothing beside them. So what happens to a stretch of bytes, as long
as nothing joins it to what is outside, happens as if it stood alone. Three things follow:

* Of the merges that make a token, one at most is ever done: the one that its bytes, alone, come to. `_made` holds it.
* A row of tokens is the result for its bytes if any two neighbours, alone, stay the two that they are: the first merge
  across a border would be done between these two alone, too. `_Stay` undoes their merges to see.
* The result is the only such row, and so is each beginning of it. So `Merger.tokens_of` tries the longest token first,
  goes back where none fits, and never comes to the same place twice.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kakehashi.tokenizers.char import TokenizerError

NEVER = 1 << 60  # the rank of a pair that is no merge
PAIRS = 1_000_000  # of neighbours, remembered
PIECES = 500_000  # remembered
LONG = 128  # characters: a longer piece is not remembered


class Made(NamedTuple):
    """The merge that makes a token: its place in the list, and its parts. A byte is made before all merges."""

    rank: int = -1
    left: int = -1
    right: int = -1


class Merger:
    """numbers: those of the tokens of text, by their bytes; all 256 bytes are there. merges: pairs of numbers.

    Raises TokenizerError where a merge stands before the one that makes its parts: only in order can they be undone.
    """

    def __init__(self, numbers: Mapping[bytes, int], merges: Sequence[tuple[int, int]]):
        self._bytes = {number: token for token, number in numbers.items()}
        self._made = {numbers[bytes([byte])]: Made() for byte in range(256)}
        self._rank: dict[tuple[int, int], int] = {}
        self._stay = _Stay(self._made, self._rank)
        joined = [numbers[self._bytes[left] + self._bytes[right]] for left, right in merges]
        early = []
        for rank, ((left, right), token) in enumerate(zip(merges, joined, strict=True)):
            if left not in self._made or right not in self._made:
                early.append(rank)
            elif token not in self._made and self._stay.until(rank, left, right):
                self._made[token] = Made(rank, left, right)
                self._rank[left, right] = rank
        for rank in early:  # in lists made from tiktoken's there are many, of which none is ever done
            left, right = merges[rank]
            if joined[rank] not in self._made and left in self._made and right in self._made:
                if self._stay.until(max(self._made[left].rank, self._made[right].rank), left, right):
                    raise TokenizerError(
                        f"merge {rank} stands before those that make its parts, tokens {left}, {right}"
                    )
        # A tree of the tokens' bytes: from a node, by a byte, to the next; the key is node * 256 + byte
        self._step: dict[int, int] = {}
        self._token: list[int | None] = [None]  # that ends at each node
        for number in self._made:
            node = 0
            for byte in self._bytes[number]:
                node = self._step.setdefault(node << 8 | byte, len(self._token))
                if node == len(self._token):
                    self._token.append(None)
            self._token[node] = number

    def tokens_of(self, piece: bytes) -> tuple[int, ...]:
        """The numbers of the piece's tokens."""
        found: list[int] = []
        ways = [self._beginning(piece, 0)]  # what the next token may be, and what else each one found may be
        at = 0
        while at < len(piece):
            before = found[-1] if found else None
            while ways[-1]:
                token = ways[-1].pop()
                if before is None or self._stay[before, token]:
                    found.append(token)
                    at += len(self._bytes[token])
                    ways.append(self._beginning(piece, at))
                    break
            else:
                ways.pop()
                at -= len(self._bytes[found.pop()])
        return tuple(found)

    def _beginning(self, piece: bytes, at: int) -> list[int]:
        """The tokens that the piece goes on with from there, the longest last."""
        found, node, step, token = [], 0, self._step.get, self._token
        while at < len(piece) and (node := step(node << 8 | piece[at])) is not None:
            if (number := token[node]) is not None:
                found.append(number)
            at += 1
        return found


class _Stay(dict[tuple[int, int], bool]):
    """{(left, right): whether the two tokens, side by side, stay two}, worked out when first asked for."""

    def __init__(self, made: Mapping[int, Made], rank: Mapping[tuple[int, int], int]):
        self.made, self.rank = made, rank

    def __missing__(self, pair: tuple[int, int]) -> bool:
        if len(self) >= PAIRS:
            self.clear()
        self[pair] = stay = self.until(NEVER, *pair)
        return stay

    def until(self, limit: int, left: int, right: int) -> bool:
        """Whether no merge of a rank below `limit` comes across the border of the two tokens while they are made.

        Back in time: what was made last is undone, until a pair across the border would have been merged before that.
        """
        made, rank = self.made, self.rank
        while rank.get((left, right), NEVER) >= limit:
            first, second = made[left], made[right]
            if first.rank > second.rank:
                limit, left = first.rank, first.right
            elif second.rank >= 0:  # of equal ranks the left one was first, and so was a pair across the border
                limit, right = second.rank + 1, second.left
            else:
                return True
        return False


class Known(dict[str, tuple[int, ...]]):
    """{piece: its tokens}, worked out when first asked for: a text repeats its words."""

    def __init__(self, work_out: Callable[[str], tuple[int, ...]]):
        self.work_out = work_out

    def __missing__(self, piece: str) -> tuple[int, ...]:
        tokens = self.work_out(piece)
        if len(piece) <= LONG:
            if len(self) >= PIECES:
                self.clear()
            self[piece] = tokens
        return tokens
