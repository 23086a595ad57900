"""Text to token numbers and back. A tokenizer's `end` ends a document and stands before its first character; in those
that we train it is token 0, END. `to_dict()` holds all there is to know, and `load` reads it back by its "kind".

    char.py    one token a character
    bpe.py     byte-level BPE as it is told; bpe_tokenizer.py is the one at work, bpe_formats.py reads and writes it as
               GPT-2 and Hugging Face do
    pieces.py  SentencePiece's BPE, of Llama 2 and Mistral; piece_formats.py reads and writes it
    words.py   one token a word
    wordpiece.py  words, and pieces of rare ones: of texts that are told apart
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from kakehashi.paths import atomic_write
from kakehashi.tokenizers import piece_formats
from kakehashi.tokenizers.bpe_formats import from_gpt2, from_hf, to_gpt2, to_hf
from kakehashi.tokenizers.bpe_tokenizer import BPETokenizer
from kakehashi.tokenizers.char import END, SHOWN, CharTokenizer, TokenizerError, UnknownCharacter
from kakehashi.tokenizers.pieces import PieceTokenizer
from kakehashi.tokenizers.wordpiece import WordPieceTokenizer
from kakehashi.tokenizers.words import WordTokenizer

__all__ = [
    "END",
    "BPETokenizer",
    "CharTokenizer",
    "PieceTokenizer",
    "Tokenizer",
    "TokenizerError",
    "UnknownCharacter",
    "WordPieceTokenizer",
    "WordTokenizer",
    "from_dict",
    "load",
    "save",
]

Written = CharTokenizer | BPETokenizer | PieceTokenizer | WordPieceTokenizer | WordTokenizer  # what a file can hold
KINDS = {
    "char": CharTokenizer,
    "bpe": BPETokenizer,
    "pieces": PieceTokenizer,
    "wordpiece": WordPieceTokenizer,
    "words": WordTokenizer,
}
FORMS = ("own", "hf", "gpt2")


class Tokenizer(Protocol):
    """What data, training, runs and inference need of a tokenizer.

    end      the token that ends a document
    begin    the token that stands before its first character: `end`, but where a model of others has one for it
    ends     the tokens that end what a model writes: `end`, and what else a model of others has for it
    """

    @property
    def end(self) -> int: ...

    @property
    def begin(self) -> int: ...

    @property
    def ends(self) -> tuple[int, ...]: ...

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


def from_dict(content: dict) -> Written:
    """The tokenizer that `to_dict()` described. Raises TokenizerError for anything else."""
    kind = KINDS.get(str(content.get("kind")))
    if kind is None:
        raise TokenizerError(f"there is no tokenizer of kind {content.get('kind')!r}: the kinds are {', '.join(KINDS)}")
    return kind.from_dict(content)


def load(path: str | Path, end: str | None = None) -> Written:
    """The tokenizer in a file, or in a folder such as a run: our tokenizer.json or Hugging Face's, or GPT-2's pair.

    end: of a tokenizer of others, the special token that ends a document; without it what tokenizer_config.json beside
    it calls so, else as `from_hf` finds it. What stands before a document is what transformers puts before a text, by a
    tokenizer.json's post-processor. It is `end` where that is nothing: so our documents begin, and so did GPT-2's and
    Qwen2's in their training, one after another. Raises TokenizerError, with the file's name.
    """
    path = Path(path)
    if path.is_dir():
        names = ("tokenizer.json", "vocab.json")
        path = next((path / name for name in names if (path / name).exists()), path / names[0])
    content, config = _object(path), path.with_name("tokenizer_config.json")
    if end is None and config.exists():
        said = _object(config).get("eos_token")
        end = said.get("content") if isinstance(said, dict) else said
        if not isinstance(end, str | None):
            raise TokenizerError(f"{config}: eos_token must be the text of a token, got {str(end)[:SHOWN]!r}")
    merges = _text(path.with_name("merges.txt")) if path.name == "vocab.json" else None
    try:
        if merges is not None:
            return from_gpt2(content, merges, end)
        if "model" not in content:
            return from_dict(content)
        in_pieces = isinstance(content["model"], dict) and content["model"].get("byte_fallback")
        return piece_formats.from_hf(content, end) if in_pieces else from_hf(content, end)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from error


def save(tokenizer: BPETokenizer | PieceTokenizer, path: str | Path, form: str = "own") -> Path:
    """Write a tokenizer to a file NAME.json, else to a folder, which is made; returns the file that `load` takes.

    form: "own", our tokenizer.json; "hf", Hugging Face's; "gpt2", vocab.json and merges.txt in a folder.
    Raises TokenizerError, CannotWrite.
    """
    path = Path(path)
    if form not in FORMS:
        raise TokenizerError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if path.suffix == ".json" and not path.is_dir():
        if form == "gpt2":
            raise TokenizerError(f"GPT-2's form is two files, vocab.json and merges.txt: name a folder, not {path}")
        folder, name = path.parent, path.name
    else:
        folder, name = path, "vocab.json" if form == "gpt2" else "tokenizer.json"
    if form == "own":
        files = {name: tokenizer.to_dict()}
    elif isinstance(tokenizer, PieceTokenizer):
        if form == "gpt2":
            raise TokenizerError("vocab.json and merges.txt are for byte-level BPE alone: write a tokenizer.json")
        files = {name: piece_formats.to_hf(tokenizer)}
    elif form == "gpt2":
        vocab, merges = to_gpt2(tokenizer)
        files = {name: vocab, "merges.txt": merges}
    else:
        files = {name: to_hf(tokenizer)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TokenizerError(f"cannot make the folder {folder}: {error.strerror}") from error
    for each, content in files.items():
        atomic_write(folder / each, content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    return folder / name


def _object(path: Path) -> dict:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} holds a {type(content).__name__}, a tokenizer is an object")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TokenizerError(f"cannot read the tokenizer {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from error
