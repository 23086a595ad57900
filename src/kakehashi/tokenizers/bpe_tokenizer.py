"""Byte-level BPE at work: what `bpe` tells, fast, its parts kept together and checked to fit.

train     bpe.count_pieces, then bpe_training.learn_merges
encode    bpe.cut_special and the pattern, then bpe_encoding.Merger; pieces that were met are remembered
decode    bpe.decode
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import regex

from kakehashi.tokenizers import patterns
from kakehashi.tokenizers.bpe import Pair, count_pieces, cut_special, decode
from kakehashi.tokenizers.bpe_encoding import Known, Merger
from kakehashi.tokenizers.bpe_training import learn_merges
from kakehashi.tokenizers.byte_alphabet import BYTES, read, written
from kakehashi.tokenizers.char import END, SHOWN, TokenizerError


@dataclass(frozen=True)
class BPETokenizer:
    """tokens   the bytes of each token, by its number; of a special token, its text in UTF-8
    merges      pairs of numbers, the one learnt first first; each makes the token of their bytes together
    special     {text: number} of the tokens that plain text never becomes
    end         the number of the special token that ends a document; it decodes to ""
    pattern     the name of one of patterns.PATTERNS
    nfc         text is put into Unicode's normal form C first (Qwen2)
    whole       a piece that is itself a token becomes that token, merges or not (Llama 3)
    bos         the number of the special token before a document's first character, as Llama has one, which decodes to
                ""; None: `end` stands there, too
    stops       the numbers of tokens besides `end` that end what a model writes, as Llama 3 has two

    One that we train has END as token 0, then its other special tokens, the bytes, and a token a merge.
    Raises TokenizerError where the parts do not fit together.
    """

    tokens: tuple[bytes, ...]
    merges: tuple[Pair, ...]
    special: Mapping[str, int] = field(hash=False)
    end: int = 0
    pattern: str = "gpt2"
    nfc: bool = False
    whole: bool = False
    bos: int | None = None
    stops: tuple[int, ...] = ()

    def __post_init__(self):
        patterns.find(self.pattern)
        size, special = len(self.tokens), set(self.special.values())
        for text, number in self.special.items():
            if not text or not 0 <= number < size or self.tokens[number] != checked(text).encode():
                raise TokenizerError(f"special token {text!r} is said to be number {number}, and is not")
        check_marks(self)
        if len(self._numbers) + len(special) < size:
            twice = Counter(token for i, token in enumerate(self.tokens) if i not in special).most_common(1)[0][0]
            raise TokenizerError(f"two tokens are the same bytes, {twice!r}")
        if missing := [byte for byte in BYTES if bytes([byte]) not in self._numbers]:
            raise TokenizerError(f"no token is the byte {missing[0]:#04x}: a byte-level vocabulary has all 256")
        for rank, pair in enumerate(self.merges):
            if not all(0 <= number < size and number not in special for number in pair):
                raise TokenizerError(f"merge {rank} is of tokens {pair}, which must be tokens of text")
            if self.tokens[pair[0]] + self.tokens[pair[1]] not in self._numbers:
                raise TokenizerError(f"merge {rank}, of tokens {pair}, makes no token of the vocabulary")
        if len(set(self.merges)) < len(self.merges):
            raise TokenizerError(f"the merge of tokens {Counter(self.merges).most_common(1)[0][0]} stands there twice")
        _ = self._merger  # checks that the merges are in order

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, pattern: str = "gpt2", special: Sequence[str] = ()
    ) -> "BPETokenizer":
        """The tokenizer that the texts teach: of vocab_size tokens, or fewer where no pair is left that occurs twice.

        special: texts of special tokens after END. Raises TokenizerError.
        """
        names = [END, *special]
        first = len(names)
        if len(set(names)) < first or "" in names:
            raise TokenizerError(f"special tokens must be distinct, not empty and not {END!r}, got {list(special)}")
        if vocab_size < first + 256:
            raise TokenizerError(f"vocab_size must be at least {first + 256}, for all bytes, got {vocab_size}")
        words = count_pieces(map(checked, texts), pattern)
        if not words:
            raise TokenizerError("the texts hold nothing to learn from")
        tokens = [checked(name).encode() for name in names] + [bytes([byte]) for byte in BYTES]
        merges = [(left + first, right + first) for left, right in learn_merges(words, vocab_size - len(tokens))]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        return cls(tuple(tokens), tuple(merges), {name: i for i, name in enumerate(names)}, pattern=pattern)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def begin(self) -> int:
        return self.end if self.bos is None else self.bos

    @property
    def ends(self) -> tuple[int, ...]:
        return self.end, *self.stops

    def encode(self, text: str, allowed_special: Collection[str] | Literal["all"] = ()) -> list[int]:
        """The numbers of the text's tokens; none is added.

        allowed_special: the special tokens that stand for themselves in the text; what spells another is plain text.
        Raises TokenizerError.
        """
        allowed = list(self.special) if allowed_special == "all" else list(allowed_special)
        if unknown := [name for name in allowed if name not in self.special]:
            raise TokenizerError(f"{unknown[0]!r} is no special token; there are {', '.join(self.special)}")
        numbers: list[int] = []
        for i, part in enumerate(cut_special(text, allowed)):
            numbers += [self.special[part]] if i % 2 else self._plain(part)
        return numbers

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the numbers; bytes that are no UTF-8, as of half a character, are U+FFFD, `end` and `begin` "".

        A number outside the vocabulary is a KeyError.
        """
        return decode(ids, self._bytes)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the numbers, none for `end` and `begin`. A number outside the vocabulary is a KeyError."""
        return b"".join([self._bytes[number] for number in ids])

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": 1,
            "kind": "bpe",
            "pattern": {"name": self.pattern, "regex": patterns.find(self.pattern)},
            "nfc": self.nfc,
            "whole": self.whole,
            "special": dict(self.special),
            "end": self.end,
            "bos": self.bos,
            "stops": list(self.stops),
            "tokens": [written(token) for token in self.tokens],
            "merges": [list(pair) for pair in self.merges],
        }

    @classmethod
    def from_dict(cls, content: dict) -> "BPETokenizer":
        """What `to_dict()` gave. Raises TokenizerError where it is something else."""
        if content.get("format") != 1 or content.get("kind") != "bpe":
            raise TokenizerError(
                f"need format 1 and kind 'bpe', got {content.get('format')!r} and {content.get('kind')!r}"
            )
        pattern = need(content, "pattern", dict)
        if pattern.get("regex") != patterns.find(pattern.get("name")):
            raise TokenizerError(f"the pattern {pattern['name']} is not ours: {pattern.get('regex')!r}")
        said = said_of(content)
        tokens = tuple(map(read_token, said.pop("tokens")))
        options = {"nfc": need(content, "nfc", bool), "whole": need(content, "whole", bool)}
        return cls(tokens, pattern=pattern["name"], **options, **said)

    def _plain(self, text: str) -> list[int]:
        if self.nfc:
            text = unicodedata.normalize("NFC", text)
        try:
            return list(chain.from_iterable(map(self._known.__getitem__, self._cut(text))))
        except UnicodeEncodeError:
            checked(text)  # says which character
            raise

    def _tokens_of(self, piece: str) -> tuple[int, ...]:
        raw = piece.encode()
        if self.whole and (number := self._numbers.get(raw)) is not None:
            return (number,)
        return self._merger.tokens_of(raw)

    @cached_property
    def _cut(self):
        return regex.compile(patterns.find(self.pattern)).findall

    @cached_property
    def _known(self) -> Known:
        return Known(self._tokens_of)

    @cached_property
    def _merger(self) -> Merger:
        return Merger(self._numbers, self.merges)

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Of the tokens of text."""
        special = set(self.special.values())
        return {token: i for i, token in enumerate(self.tokens) if i not in special}

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        """A dict, not a tuple: a negative number must not wrap around."""
        return {i: token if i not in (self.end, self.begin) else b"" for i, token in enumerate(self.tokens)}


def need(content: Any, key: str, kind: type, otherwise: Any = None) -> Any:
    """What stands under the key; `otherwise` where nothing or null does. Raises TokenizerError for another type."""
    value = content.get(key) if isinstance(content, dict) else None
    if value is None and otherwise is not None:
        return otherwise
    if type(value) is not kind:
        raise TokenizerError(f"{key} must be of type {kind.__name__}, got {str(value)[:SHOWN]!r}")
    return value


def said_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a `to_dict()` says of every kind of BPE, as its arguments; the tokens as they are written there."""
    special, tokens = need(content, "special", dict), need(content, "tokens", list)
    merges, stops = need(content, "merges", list), need(content, "stops", list, [])
    if not all(isinstance(token, str) for token in tokens):
        raise TokenizerError("tokens must be strings")
    if not all(isinstance(pair, list) and list(map(type, pair)) == [int, int] for pair in merges):
        raise TokenizerError("merges must be pairs of numbers")
    if not all(type(number) is int for number in stops):
        raise TokenizerError(f"stops must be numbers, got {str(stops)[:SHOWN]!r}")
    return {
        "tokens": tokens,
        "merges": tuple((left, right) for left, right in merges),
        "special": {text: need(special, text, int) for text in special},
        "end": need(content, "end", int),
        "bos": None if content.get("bos") is None else need(content, "bos", int),
        "stops": tuple(stops),
    }


def check_marks(tokenizer: Any) -> None:
    """Raises TokenizerError where a tokenizer's end, bos or stops are no tokens that can be that."""
    special, size = set(tokenizer.special.values()), tokenizer.vocab_size
    if tokenizer.end not in special:
        raise TokenizerError(f"end must be the number of a special token, got {tokenizer.end}")
    if tokenizer.bos not in {None, *special}:
        raise TokenizerError(f"bos must be the number of a special token, got {tokenizer.bos}")
    if wrong := [number for number in tokenizer.stops if not 0 <= number < size]:
        raise TokenizerError(f"stops must be numbers of tokens, of which there are {size}, got {wrong[0]}")


def read_token(text: str) -> bytes:
    """The bytes of a token that is written in GPT-2's alphabet. Raises TokenizerError."""
    try:
        return read(text)
    except KeyError as error:
        raise TokenizerError(
            f"token {text!r} is not byte-level: GPT-2's alphabet of bytes has no {error.args[0]!r}"
        ) from None


def checked(text: str) -> str:
    """The text. Raises TokenizerError where it is none: half of a surrogate pair has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start + 1} of the text is {text[error.start]!r}, half of a surrogate pair: "
            f"read the text with its right encoding"
        ) from None
    return text
