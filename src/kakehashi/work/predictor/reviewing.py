"""What a person must have seen before a classifier leaves this machine: what it would carry along of their data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from kakehashi import training
from kakehashi.runs import Run, weights_of
from kakehashi.texts import t
from kakehashi.tokenizers import Tokenizer, WordPieceTokenizer
from kakehashi.tokenizers.wordpiece import MORE, words
from kakehashi.training.tasks.label import PIECES

FILE = "review.txt"  # in the run: the whole of it
LONG = 8  # characters: a piece as long is a whole word, a name perhaps


@dataclass(frozen=True)
class Review:
    """What would leave with the tool of a run.

    run             its path
    data, n_texts   what it learnt from, a name or a path, and how many texts of these
    classes         their names
    pieces          each piece of the vocabulary, and how many of these texts hold it, those that the fewest hold first,
                    of these the longest
    foreign         the vocabulary was not learnt from these texts, or not from them alone: what stands in none of them
                    tells of others
    n_weights       numbers that were learnt
    """

    run: str
    data: str
    n_texts: int
    classes: tuple[str, ...]
    pieces: tuple[tuple[str, int], ...]
    foreign: bool
    n_weights: int

    @property
    def rare(self) -> list[tuple[str, int]]:
        """The pieces, the rarest first, without single characters."""
        return [(piece, n) for piece, n in self.pieces if len(piece) > 1]

    @property
    def telling(self) -> list[tuple[str, int]]:
        """Those that look like data rather than language, the rarest first: with digits, an @, or long."""
        return [(piece, n) for piece, n in self.pieces if is_telling(piece)]

    def page(self) -> str:
        """The whole of it, in the language in use: review.txt."""
        lines = [t("predictor.review.head", run=self.run, data=self.data, texts=self.n_texts)]
        lines += ["", t("predictor.review.all_classes", n=len(self.classes)), *self.classes]
        lines += ["", t("predictor.review.all_pieces", n=len(self.pieces))]
        lines += [f"{n}\t{piece}" for piece, n in self.pieces]
        if self.foreign:
            lines += ["", t("predictor.review.foreign", n=sum(n == 0 for _, n in self.pieces))]
        return "\n".join([*lines, "", t("predictor.review.weights", n=self.n_weights), t("predictor.review.stays"), ""])


def review(run: Run) -> Review:
    """Look through a run of a classifier of texts. Raises RunError for a run of another task, or changed data."""
    run.require("label")
    texts = [row.text for row in training.open_split(run.config).train]
    tokenizer = run.codec.tokenizer
    own = isinstance(tokenizer, WordPieceTokenizer) and WordPieceTokenizer.train(texts, PIECES) == tokenizer
    counts = holders(tokenizer, texts)
    pieces = sorted(counts.items(), key=lambda each: (each[1], -len(each[0]), each[0]))
    n_weights = sum(array.size for array in weights_of(run.load_model()).values())
    return Review(
        str(run.path), run.config.data.source, len(texts), run.codec.classes, tuple(pieces), not own, n_weights
    )


def is_telling(piece: str) -> bool:
    """Whether a piece looks like data: more than a letter with digits in it, an address, a long word."""
    return len(piece) > 1 and (any(map(str.isdigit, piece)) or "@" in piece or len(piece) >= LONG)


def holders(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[str]:
    """How many texts hold each piece of a vocabulary; a word piece also inside of longer ones. 0 of those in none."""
    no_text = {*tokenizer.ends, getattr(tokenizer, "unknown", None)}
    decoded = {token: tokenizer.decode([token]) for token in range(tokenizer.vocab_size) if token not in no_text}
    if not isinstance(tokenizer, WordPieceTokenizer):
        found = Counter(dict.fromkeys(decoded.values(), 0))
        for text in texts:
            found.update({decoded[token] for token in tokenizer.encode(text) if token in decoded})
        return found
    found = Counter({text.removeprefix(MORE): 0 for text in decoded.values()})
    longest = max(map(len, found), default=0)

    @cache
    def held(word: str) -> set[str]:
        ends = ((i, j) for i in range(len(word)) for j in range(i + 1, min(len(word), i + longest) + 1))
        return {piece for i, j in ends if (piece := word[i:j]) in found}

    for text in texts:
        found.update(set().union(*map(held, words(text))))
    return found
