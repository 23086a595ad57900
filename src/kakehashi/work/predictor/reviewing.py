"""What a person must have seen before a classifier leaves this machine: what it would carry along of their data."""

from collections import Counter
from dataclasses import dataclass

from kakehashi import training
from kakehashi.runs import Run, weights_of
from kakehashi.tokenizers import Tokenizer

LONG = 12  # characters: a piece as long is a whole word, a name perhaps
SHOWN = 40  # pieces of a kind
MORE = "##"  # before a piece that goes on with a word


@dataclass(frozen=True)
class Review:
    """What would leave with the tool of a run.

    data, n_texts   what it learnt from, a name or a path, and how many texts of these
    classes         their names
    n_pieces        tokens of the tokenizer that are text
    telling         those that look like data rather than language, the longest first: with digits, an @, or of 12
                    characters and more
    rare            those that stand in the fewest training texts, with how many, the longest first; single characters
                    left out, and what stands in longer pieces only
    n_weights       numbers that were learnt
    """

    data: str
    n_texts: int
    classes: tuple[str, ...]
    n_pieces: int
    telling: tuple[str, ...]
    rare: tuple[tuple[str, int], ...]
    n_weights: int


def review(run: Run) -> Review:
    """Look through a run of a classifier of texts. Raises RunError for a run of another task, or changed data."""
    run.require("label")
    texts = [row.text for row in training.open_split(run.config).train]
    tokenizer = run.codec.tokenizer
    pieces = _pieces(tokenizer)
    counts = Counter(token for text in texts for token in set(tokenizer.encode(text)))
    words = [token for token in pieces if counts[token] and len(pieces[token]) > 1]
    words.sort(key=lambda token: (counts[token], -len(pieces[token])))
    n_weights = sum(array.size for array in weights_of(run.load_model()).values())
    return Review(
        run.config.data.source,
        len(texts),
        run.codec.classes,
        len(pieces),
        tuple(sorted(filter(is_telling, pieces.values()), key=len, reverse=True)),
        tuple((pieces[token], counts[token]) for token in words[:SHOWN]),
        n_weights,
    )


def is_telling(piece: str) -> bool:
    """Whether a piece looks like data: more than a letter with digits in it, an address, a long word."""
    return len(piece) > 1 and (any(map(str.isdigit, piece)) or "@" in piece or len(piece) >= LONG)


def _pieces(tokenizer: Tokenizer) -> dict[int, str]:
    """{token: its text} of all tokens that are text."""
    no_text = {*tokenizer.ends, getattr(tokenizer, "unknown", None)}
    texts = {token: tokenizer.decode([token]) for token in range(tokenizer.vocab_size) if token not in no_text}
    return {token: text.removeprefix(MORE).strip() for token, text in texts.items()}
