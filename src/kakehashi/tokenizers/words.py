"""One token a word, a word being what stands between blanks: for texts that are written in a language of few words."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from kakehashi.tokenizers.char import END, SHOWN, TokenizerError

UNKNOWN = "[new]"  # stands for every word that the tokenizer never saw


@dataclass(frozen=True)
class WordTokenizer:
    """tokens: END, UNKNOWN, then the words. A token's number is its place in `tokens`."""

    tokens: tuple[str, ...]
    end = begin = 0
    ends = (0,)
    unknown = 1

    def __post_init__(self):
        words = self.tokens[2:]
        if self.tokens[:2] != (END, UNKNOWN) or not words or len(set(self.tokens)) < len(self.tokens):
            raise TokenizerError(
                f"tokens must be {END!r}, {UNKNOWN!r} and then distinct words, got {self.tokens[:9]!r}"
            )
        if odd := [word for word in words if word.split() != [word]]:
            raise TokenizerError(f"a word has no blanks and is not empty, got {odd[0]!r}")

    @classmethod
    def train(cls, texts: Iterable[str]) -> "WordTokenizer":
        """The tokenizer of all words in `texts`, in the order in which they come. Raises TokenizerError: no word."""
        words = dict.fromkeys(word for text in texts for word in text.split())
        words = [word for word in words if word not in (END, UNKNOWN)]
        if not words:
            raise TokenizerError("the texts hold no word to learn")
        return cls((END, UNKNOWN, *words))

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """One number a word, that of UNKNOWN where it was never seen; END is not added."""
        return [self.numbers.get(word, self.unknown) for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of the numbers, joined by blanks; END is left out. A number outside the vocabulary: KeyError."""
        return " ".join([self._words[i] for i in ids if i != self.end])

    def to_dict(self) -> dict:
        return {"format": 1, "kind": "words", "tokens": list(self.tokens)}

    @classmethod
    def from_dict(cls, content: dict) -> "WordTokenizer":
        """What `to_dict()` gave. Raises TokenizerError where it is something else."""
        tokens = content.get("tokens")
        if content.get("format") != 1 or content.get("kind") != "words":
            raise TokenizerError(
                f"need format 1 and kind 'words', got {content.get('format')!r} and {content.get('kind')!r}"
            )
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise TokenizerError(f"tokens must be a list of strings, got {str(tokens)[:SHOWN]!r}")
        return cls(tuple(tokens))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each word; END is none."""
        return {word: i for i, word in enumerate(self.tokens) if i != self.end}

    @cached_property
    def _words(self) -> dict[int, str]:
        """A dict, not a tuple: a negative number must not wrap around."""
        return dict(enumerate(self.tokens))
