"""Text to token numbers and back. Token 0 of every tokenizer is END, which ends a document and stands before its first
character; `to_dict()` holds all there is to know, and `load` reads it back by its "kind".
"""

import json
from pathlib import Path

from kakehashi.tokenizers.char import END, CharTokenizer, TokenizerError, UnknownCharacter

__all__ = ["END", "CharTokenizer", "TokenizerError", "UnknownCharacter", "from_dict", "load"]

KINDS = {"char": CharTokenizer}


def from_dict(content: dict) -> CharTokenizer:
    """The tokenizer that `to_dict()` described. Raises TokenizerError for anything else."""
    kind = KINDS.get(str(content.get("kind")))
    if kind is None:
        raise TokenizerError(f"there is no tokenizer of kind {content.get('kind')!r}: the kinds are {', '.join(KINDS)}")
    return kind.from_dict(content)


def load(path: str | Path) -> CharTokenizer:
    """The tokenizer in a JSON file, such as a run's tokenizer.json. Raises TokenizerError, with the file's name."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TokenizerError(f"it holds a {type(content).__name__}, a tokenizer is an object")
        return from_dict(content)
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from error
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error
