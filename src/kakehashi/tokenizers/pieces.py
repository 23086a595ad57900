"""SentencePiece's BPE: the tokenizer of Llama 2 and Mistral (Kudo & Richardson 2018, arXiv:1808.06226).

    "a dog"  --a mark for each space-->  "▁a▁dog"  --characters-->  ▁ a ▁ d o g  --merges-->  ▁a ▁dog

It begins with characters where byte-level BPE begins with bytes; one that is no token is its bytes in UTF-8, "<0xE6>"
each, so that every text has tokens. No pattern cuts the text, and the mark is a character like others: a word at the
beginning has one, too, to be the same token as elsewhere. We read and write it (piece_formats.py), and train none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from typing import Any

import regex

from kakehashi.tokenizers.bpe_encoding import Known
from kakehashi.tokenizers.bpe_tokenizer import check_marks, checked, need, said_of
from kakehashi.tokenizers.char import TokenizerError

MARK = "▁"  # of a space
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # how the token of a byte is written
PREFIXES = ("prepend", "always", "first", "never")


def merge(tokens: Sequence[int], merges: Mapping[tuple[int, int], tuple[int, int]]) -> list[int]:
    """What `bpe.merge_slowly` makes of the tokens, in n log n steps: a text without spaces is one long piece."""
    parts = list(tokens)  # -1: merged into the one before
    before, after = list(range(-1, len(parts) - 1)), list(range(1, len(parts) + 1))
    waiting = [(*merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]
    heapify(waiting)
    while waiting:
        rank, new, i = heappop(waiting)
        j = after[i]
        if j == len(parts) or merges.get((parts[i], parts[j])) != (rank, new):  # merged otherwise since
            continue
        parts[i], parts[j] = new, -1
        after[i] = after[j]
        if after[i] < len(parts):
            before[after[i]] = i
        for left in (before[i], i):
            if left >= 0 and after[left] < len(parts) and (pair := (parts[left], parts[after[left]])) in merges:
                heappush(waiting, (*merges[pair], left))
    return [part for part in parts if part >= 0]


@dataclass(frozen=True)
class PieceTokenizer:
    """tokens   the text of each token, by its number
    merges      pairs of numbers, the one to be done first first; each makes the token of their texts together
    special     {text: number} of the tokens that plain text never becomes
    end         the number of the special token that ends a document; it decodes to ""
    prefix      "prepend": a mark is put before each text; "always" or "first": where it begins with none, which differ
                between special tokens alone, where we encode nothing; "never"
    bos, stops  as in BPETokenizer

    Raises TokenizerError where the parts do not fit together.
    """

    tokens: tuple[str, ...]
    merges: tuple[tuple[int, int], ...]
    special: Mapping[str, int] = field(hash=False)
    end: int
    prefix: str = "prepend"
    bos: int | None = None
    stops: tuple[int, ...] = ()

    def __post_init__(self):
        for text, number in self.special.items():
            if not 0 <= number < len(self.tokens) or self.tokens[number] != text:
                raise TokenizerError(f"special token {text!r} is said to be number {number}, and is not")
        check_marks(self)
        if self.prefix not in PREFIXES:
            raise TokenizerError(f"prefix must be one of {', '.join(PREFIXES)}, got {self.prefix!r}")
        if missing := [byte for byte in BYTES if byte not in self._numbers]:
            raise TokenizerError(
                f"no token is the byte {missing[0]}: a vocabulary that falls back to bytes has all 256"
            )
        for rank, (left, right) in enumerate(self.merges):
            if not (0 <= left < len(self.tokens) and 0 <= right < len(self.tokens)):
                raise TokenizerError(f"merge {rank} is of tokens {left}, {right}, and there are {len(self.tokens)}")
            if self.tokens[left] + self.tokens[right] not in self._numbers:
                raise TokenizerError(f"merge {rank}, of tokens {left}, {right}, makes no token of the vocabulary")

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def begin(self) -> int:
        return self.end if self.bos is None else self.bos

    @property
    def ends(self) -> tuple[int, ...]:
        return self.end, *self.stops

    def encode(self, text: str) -> list[int]:
        """The numbers of the text's tokens; none is added, and what spells a special token is plain text.

        Raises TokenizerError.
        """
        marked = checked(text).replace(" ", MARK)
        if text and (self.prefix == "prepend" or (self.prefix != "never" and not marked.startswith(MARK))):
            marked = MARK + marked
        return list(chain.from_iterable(map(self._known.__getitem__, self._cut(marked))))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the numbers, without the space that stands for the mark before a text.

        Bytes that are no UTF-8 become U+FFFD, the end and the beginning of a document "". A number outside the
        vocabulary is a KeyError.
        """
        text = b"".join([self._bytes[number] for number in ids]).decode(errors="replace")
        return text if self.prefix == "never" else text.removeprefix(" ")

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 1,
            "kind": "pieces",
            "prefix": self.prefix,
            "special": dict(self.special),
            "end": self.end,
            "bos": self.bos,
            "stops": list(self.stops),
            "tokens": list(self.tokens),
            "merges": [list(pair) for pair in self.merges],
        }

    @classmethod
    def from_dict(cls, content: dict) -> "PieceTokenizer":
        """What `to_dict()` gave. Raises TokenizerError where it is something else."""
        if content.get("format") != 1 or content.get("kind") != "pieces":
            raise TokenizerError(
                f"need format 1 and kind 'pieces', got {content.get('format')!r} and {content.get('kind')!r}"
            )
        said = said_of(content)
        return cls(tuple(said.pop("tokens")), prefix=need(content, "prefix", str), **said)

    @cached_property
    def _cut(self):
        """Into words, each with the marks before it, where no merge joins a mark to what stands before it; else not."""
        inside = regex.compile(f"[^{MARK}]{MARK}")
        made = (self.tokens[left] + self.tokens[right] for left, right in self.merges)
        return regex.compile(".+" if any(map(inside.search, made)) else f"{MARK}*[^{MARK}]*", regex.DOTALL).findall

    @cached_property
    def _known(self) -> Known:
        return Known(self._tokens_of)

    def _tokens_of(self, piece: str) -> tuple[int, ...]:
        numbers: list[int] = []
        for character in piece:
            number = self._numbers.get(character)
            numbers += [self._numbers[BYTES[b]] for b in character.encode()] if number is None else [number]
        return tuple(merge(numbers, self._merges))

    @cached_property
    def _merges(self) -> dict[tuple[int, int], tuple[int, int]]:
        """{pair: (its place in the list, the token it makes)}."""
        return {
            (left, right): (rank, self._numbers[self.tokens[left] + self.tokens[right]])
            for rank, (left, right) in enumerate(self.merges)
        }

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Of the tokens of text."""
        special = set(self.special.values())
        return {token: i for i, token in enumerate(self.tokens) if i not in special}

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """A dict, not a tuple: a negative number must not wrap around."""
        found = {i: token.replace(MARK, " ").encode() for i, token in enumerate(self.tokens)}
        found |= {self._numbers[text]: bytes([byte]) for byte, text in enumerate(BYTES)}
        found |= {number: text.encode() for text, number in self.special.items()}
        return found | {self.end: b"", self.begin: b""}
