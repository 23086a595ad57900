"""Byte-level BPE: the tokenizer of GPT-2, Llama 3 and Qwen2, and how its merges are learnt.

    "low lower"  --pattern-->  "low", " lower"  --UTF-8-->  l o w,  ␣ l o w e r  --merges-->  low,  ␣low er

A pattern splits the text into pieces that no token crosses. A piece begins as its bytes; as long as two neighbours are a
known pair, the pair that was learnt first becomes one token (Sennrich et al. 2016, arXiv:1508.07909). Bytes, not
characters, so that every text has tokens (Radford et al. 2019, GPT-2).

Learning: the most frequent pair of neighbours becomes a token, again and again. Of pairs of equal counts, the one whose
left token has the lower number is taken, then the one whose right token has; bytes are numbered as GPT-2 does, so this
is also what Hugging Face's `tokenizers` takes.

    learn_merges_slowly    Sennrich's loop, as it is told        bpe_training.py    the same merges, fast
    BPETokenizer           text to numbers and back              bpe_formats.py     the files of GPT-2 and Hugging Face
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise, repeat
from operator import add
from typing import Any, Literal, NamedTuple

import regex

from kakehashi.tokenizers.bpe_training import learn_merges
from kakehashi.tokenizers.byte_alphabet import BYTES, NUMBER, read, written
from kakehashi.tokenizers.char import END, SHOWN, TokenizerError

PATTERNS = {  # verbatim, of the models that brought them
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
LONG = 128  # bytes: longer pieces are merged with a heap, and not remembered
REMEMBERED = 500_000  # pieces
NEVER = 1 << 60  # the rank of a pair that is no merge


def learn_merges_slowly(words: Mapping[bytes, int], n_merges: int) -> list[tuple[int, int]]:
    """The merges that the words, each with its count, teach: pairs of token numbers, the first one learnt first.

    Numbers 0 to 255 are the bytes, in the order of BYTES; merge i makes token 256 + i. A pair that occurs once is no
    merge, so there may be fewer than n_merges.
    """
    spelled = [([NUMBER[byte] for byte in word], count) for word, count in words.items()]
    merges = []
    for new in range(256, 256 + n_merges):
        counts = Counter()
        for tokens, count in spelled:
            for pair in pairwise(tokens):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        spelled = [(merged(tokens, best, new), count) for tokens, count in spelled]
    return merges


def merged(tokens: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    """The tokens with each occurrence of the pair, from left to right, replaced by the new token."""
    out, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


def count_pieces(texts: Iterable[str], pattern: str = "gpt2") -> dict[bytes, int]:
    """{piece in UTF-8: how often it stands in the texts}; what merges are learnt from."""
    split, counts = regex.compile(_pattern(pattern)).findall, Counter()
    for text in texts:
        counts.update(split(_checked(text)))
    return {piece.encode(): count for piece, count in counts.items()}


@dataclass(frozen=True)
class BPETokenizer:
    """tokens   the bytes of each token, by its number; of a special token, its text in UTF-8
    merges      pairs of numbers, the one learnt first first; each makes the token of their bytes together
    special     {text: number} of the tokens that plain text never becomes
    end         the number of the special token that ends a document; decodes to ""
    pattern     the name of one of PATTERNS
    nfc         text is put into Unicode's normal form C first (Qwen2)
    whole       a piece that is itself a token becomes that token, merges or not (Llama 3)

    One that we train has END as token 0, then its other special tokens, the bytes, and a token a merge.
    """

    tokens: tuple[bytes, ...]
    merges: tuple[tuple[int, int], ...]
    special: Mapping[str, int] = field(hash=False)
    end: int = 0
    pattern: str = "gpt2"
    nfc: bool = False
    whole: bool = False

    def __post_init__(self):
        _pattern(self.pattern)
        size, special = len(self.tokens), set(self.special.values())
        if size > 0x110000:
            raise TokenizerError(f"a vocabulary holds at most {0x110000} tokens, got {size}")  # see _Merges
        for text, number in self.special.items():
            if not 0 <= number < size or self.tokens[number] != text.encode() or not text:
                raise TokenizerError(f"special token {text!r} is said to be number {number}, which is another token")
        if self.end not in special:
            raise TokenizerError(f"end must be the number of a special token, got {self.end}")
        if len(self._numbers) + len(special) < size:
            twice = Counter(token for i, token in enumerate(self.tokens) if i not in special).most_common(1)[0][0]
            raise TokenizerError(f"two tokens are the same bytes, {twice!r}")
        if missing := [byte for byte in BYTES if bytes([byte]) not in self._numbers]:
            raise TokenizerError(f"there is no token for the byte {missing[0]:#04x}: a byte-level vocabulary has all 256")
        for rank, pair in enumerate(self.merges):
            if not all(0 <= number < size and number not in special for number in pair):
                raise TokenizerError(f"merge {rank} is of tokens {pair}, which must be numbers of tokens of text")
            if self.tokens[pair[0]] + self.tokens[pair[1]] not in self._numbers:
                raise TokenizerError(f"merge {rank}, of tokens {pair}, makes no token of the vocabulary")
        if len(set(self.merges)) < len(self.merges):
            raise TokenizerError(f"the merge of tokens {Counter(self.merges).most_common(1)[0][0]} stands there twice")

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, pattern: str = "gpt2", special: Sequence[str] = ()
    ) -> "BPETokenizer":
        """The tokenizer of at most vocab_size tokens that the texts teach: fewer where no pair is left that occurs twice.

        special: texts of special tokens after END. Raises TokenizerError.
        """
        names = [END, *special]
        first = len(names)
        if len(set(names)) < first or "" in names:
            raise TokenizerError(f"special tokens must be distinct, not empty and not {END!r}, got {list(special)}")
        if vocab_size < first + 256:
            raise TokenizerError(f"vocab_size must be at least {first + 256}, bytes and special tokens, got {vocab_size}")
        words = count_pieces(texts, pattern)
        if not words:
            raise TokenizerError("the texts hold nothing to learn from")
        tokens = [name.encode() for name in names] + [bytes([byte]) for byte in BYTES]
        merges = [(left + first, right + first) for left, right in learn_merges(words, vocab_size - len(tokens))]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        return cls(tuple(tokens), tuple(merges), {name: i for i, name in enumerate(names)}, pattern=pattern)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, allowed_special: Collection[str] | Literal["all"] = ()) -> list[int]:
        """The numbers of the text's tokens; none is added.

        allowed_special: the special tokens that their own text becomes; all others are plain text. Raises TokenizerError.
        """
        allowed = list(self.special) if allowed_special == "all" else list(allowed_special)
        if unknown := [name for name in allowed if name not in self.special]:
            raise TokenizerError(f"{unknown[0]!r} is no special token; there are {', '.join(self.special)}")
        if not allowed:
            return self._plain(text)
        longest_first = sorted(allowed, key=len, reverse=True)
        parts = regex.split(f"({'|'.join(map(regex.escape, longest_first))})", text)  # text, special, text, ..., text
        return [n for i, part in enumerate(parts) for n in ([self.special[part]] if i % 2 else self._plain(part))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the numbers; bytes that are no UTF-8, as in half a character, become U+FFFD, the end token "".

        A number outside the vocabulary is a KeyError.
        """
        return self.decode_bytes(ids).decode(errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the numbers, exactly; none for the end token. A number outside the vocabulary is a KeyError."""
        return b"".join([self._bytes[number] for number in ids])

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 1,
            "kind": "bpe",
            "pattern": {"name": self.pattern, "regex": PATTERNS[self.pattern]},
            "nfc": self.nfc,
            "whole": self.whole,
            "special": dict(self.special),
            "end": self.end,
            "tokens": [name if (name := self._names.get(i)) else written(token) for i, token in enumerate(self.tokens)],
            "merges": [list(pair) for pair in self.merges],
        }

    @classmethod
    def from_dict(cls, content: dict) -> "BPETokenizer":
        """What `to_dict()` gave. Raises TokenizerError where it is something else."""
        kinds = {"pattern": dict, "nfc": bool, "whole": bool, "special": dict, "end": int, "tokens": list, "merges": list}
        if content.get("format") != 1 or content.get("kind") != "bpe":
            raise TokenizerError(
                f"need format 1 and kind 'bpe', got {content.get('format')!r} and {content.get('kind')!r}"
            )
        for name, kind in kinds.items():
            if type(content.get(name)) is not kind:
                raise TokenizerError(f"{name} must be a {kind.__name__}, got {str(content.get(name))[:SHOWN]!r}")
        pattern, special, tokens = content["pattern"].get("name"), content["special"], content["tokens"]
        if content["pattern"].get("regex") != _pattern(pattern):
            raise TokenizerError(f"pattern {pattern} is not as we know it: {content['pattern'].get('regex')!r}")
        if not all(isinstance(token, str) for token in tokens):
            raise TokenizerError("tokens must be strings")
        if not all(type(number) is int for number in [*special.values(), *_flat(content["merges"])]):
            raise TokenizerError("special must hold numbers, and merges pairs of numbers")
        names = {number: name for name, number in special.items()}
        return cls(
            tuple(names[i].encode() if i in names else read(token) for i, token in enumerate(tokens)),
            tuple((left, right) for left, right in content["merges"]),
            special,
            content["end"],
            pattern,
            content["nfc"],
            content["whole"],
        )

    def _plain(self, text: str) -> list[int]:
        if self.nfc:
            text = unicodedata.normalize("NFC", text)
        try:
            return list(chain.from_iterable(map(self._known.__getitem__, self._split(text))))
        except UnicodeEncodeError:
            _checked(text)  # says what is wrong
            raise

    def _tokens_of(self, piece: str) -> tuple[int, ...]:
        raw = piece.encode()
        if self.whole and raw in self._numbers:
            return (self._numbers[raw],)
        word = "".join([self._first[byte] for byte in raw])
        return tuple(map(ord, (merge if len(word) <= LONG else merge_long)(word, self._merges)))

    @cached_property
    def _split(self):
        return regex.compile(PATTERNS[self.pattern]).findall

    @cached_property
    def _known(self) -> "_Known":
        return _Known(self._tokens_of)

    @cached_property
    def _names(self) -> dict[int, str]:
        return {number: name for name, number in self.special.items()}

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Of the tokens of text."""
        special = set(self.special.values())
        return {token: i for i, token in enumerate(self.tokens) if i not in special}

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """A dict, not a tuple: a negative number must not wrap around."""
        return {i: token if i != self.end else b"" for i, token in enumerate(self.tokens)}

    @cached_property
    def _first(self) -> list[str]:
        """Each byte's token, as `_Merges` writes it."""
        return [chr(self._numbers[bytes([byte])]) for byte in range(256)]

    @cached_property
    def _merges(self) -> "_Merges":
        made = [self._numbers[self.tokens[left] + self.tokens[right]] for left, right in self.merges]
        pairs = [chr(left) + chr(right) for left, right in self.merges]
        return _Merges({pair: rank for rank, pair in enumerate(pairs)}, pairs, list(map(chr, made)))


class _Merges(NamedTuple):
    """Merges of words in which a token is the character of its number: "ab" is tokens 97 and 98, whatever they mean.

    So a pair is two characters, and Python's own string methods find and replace it.
    """

    rank: dict[str, int]  # of each pair
    pairs: list[str]  # by rank
    made: list[str]  # by rank: the token that the pair becomes


def merge(word: str, merges: _Merges) -> str:
    """The word after all merges that apply to it, always the first one of the lowest rank. Quadratic in its length."""
    while len(word) > 1:
        rank = min(map(merges.rank.get, map(add, word, word[1:]), repeat(NEVER)))
        if rank == NEVER:
            break
        word = word.replace(merges.pairs[rank], merges.made[rank], 1)
    return word


def merge_long(word: str, merges: _Merges) -> str:
    """What `merge` gives, in n log n: pairs wait in a heap, by rank and then place."""
    n = len(word)
    tokens = list(word)  # "" where one was swallowed
    after, before = list(range(1, n + 1)), list(range(-1, n - 1))
    waiting = [merges.rank.get(pair, NEVER) * n + i for i, pair in enumerate(map(add, word, word[1:]))]
    heapify(waiting)
    while waiting:
        rank, i = divmod(heappop(waiting), n)
        if rank == NEVER:
            break
        j = after[i]
        if j == n or tokens[i] + tokens[j] != merges.pairs[rank]:  # another merge was faster
            continue
        tokens[i], tokens[j] = merges.made[rank], ""
        after[i] = after[j]
        if after[i] < n:
            before[after[i]] = i
        for left in (before[i], i):
            if left >= 0 and (right := after[left]) < n:
                if (rank := merges.rank.get(tokens[left] + tokens[right])) is not None:
                    heappush(waiting, rank * n + left)
    return "".join(tokens)


class _Known(dict[str, tuple[int, ...]]):
    """{piece: its tokens}, worked out when first asked for: a text repeats its words."""

    def __init__(self, work_out: Callable[[str], tuple[int, ...]]):
        self.work_out = work_out

    def __missing__(self, piece: str) -> tuple[int, ...]:
        tokens = self.work_out(piece)
        if len(self) >= REMEMBERED:
            self.clear()
        if len(piece) <= LONG:
            self[piece] = tokens
        return tokens


def _pattern(name: object) -> str:
    if name not in PATTERNS:
        raise TokenizerError(f"pattern must be one of {', '.join(PATTERNS)}, got {name!r}")
    return PATTERNS[str(name)]


def _checked(text: str) -> str:
    """The text. Raises TokenizerError where it is none: a lone surrogate has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start + 1} of the text is {text[error.start]!r}, half of a surrogate pair, which is no "
            f"text: read the file with the right encoding"
        ) from None
    return text


def _flat(merges: list) -> Iterator[object]:
    for pair in merges:
        yield from pair if isinstance(pair, list) and len(pair) == 2 else [None]
