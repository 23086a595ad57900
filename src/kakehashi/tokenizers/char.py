"""One token a character. The alphabet is what the training texts hold, sorted, after END."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from kakehashi import Mistake

END = "<|end|>"
SHOWN = 80  # characters of an alphabet in a message


class TokenizerError(Mistake):
    """A tokenizer cannot be made or read: one line that says why."""


class UnknownCharacter(TokenizerError, ValueError):
    """A text holds a character that the tokenizer never saw."""


@dataclass(frozen=True)
class CharTokenizer:
    """tokens: END, then the alphabet, one character each. A token's number is its place in `tokens`."""

    tokens: tuple[str, ...]
    end = begin = 0
    ends = (0,)

    def __post_init__(self):
        first, alphabet = self.tokens[:1], self.tokens[1:]
        if first != (END,) or not alphabet or any(len(c) != 1 for c in alphabet) or len(set(alphabet)) < len(alphabet):
            raise TokenizerError(f"tokens must be {END!r} and then distinct single characters, got {self.tokens[:9]!r}")

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """The tokenizer of all characters in `texts`. Raises TokenizerError where there is none."""
        alphabet = sorted(set().union(*texts))
        if not alphabet:
            raise TokenizerError("the texts hold no character to learn an alphabet from")
        return cls((END, *alphabet))

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """One number a character; END is not added. Raises UnknownCharacter."""
        try:
            return [self._numbers[c] for c in text]
        except KeyError:
            place, c = next((i, c) for i, c in enumerate(text) if c not in self._numbers)
            alphabet = "".join(self.tokens[1:])
            shown = f"{alphabet[:SHOWN]!r}" + (" ..." if len(alphabet) > SHOWN else "")
            raise UnknownCharacter(
                f"unknown character {c!r} at place {place + 1} of the text; "
                f"the {len(alphabet)} characters of this tokenizer are {shown}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the numbers; END becomes "". A number outside the vocabulary is a KeyError."""
        return "".join([self._texts[i] for i in ids])

    def to_dict(self) -> dict:
        return {"format": 1, "kind": "char", "tokens": list(self.tokens)}

    @classmethod
    def from_dict(cls, content: dict) -> "CharTokenizer":
        """What `to_dict()` gave. Raises TokenizerError where it is something else."""
        tokens = content.get("tokens")
        if content.get("format") != 1 or content.get("kind") != "char":
            raise TokenizerError(
                f"need format 1 and kind 'char', got {content.get('format')!r} and {content.get('kind')!r}"
            )
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise TokenizerError(f"tokens must be a list of strings, got {str(tokens)[:SHOWN]!r}")
        return cls(tuple(tokens))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.tokens) if i != self.end}

    @cached_property
    def _texts(self) -> dict[int, str]:
        """A dict, not a tuple: a negative number must not wrap around."""
        return {i: c if i != self.end else "" for i, c in enumerate(self.tokens)}
