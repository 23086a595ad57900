"""SentencePiece's BPE from and to a tokenizer.json's content, as the folders of Llama 2 and Mistral hold it.

What `PieceTokenizer` cannot do alike is refused by name. tokenizer.model, SentencePiece's own file, is not read:
transformers writes a tokenizer.json from it.
"""

from collections.abc import Mapping
from typing import Any

from kakehashi.tokenizers.bpe_formats import part_of, parts_of, short, written_as_hf
from kakehashi.tokenizers.char import TokenizerError
from kakehashi.tokenizers.pieces import MARK, PREFIXES, PieceTokenizer

MARK_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}


def from_hf(content: Mapping[str, Any], end: str | None = None) -> PieceTokenizer:
    """The tokenizer. end: the special token that ends a document; without it one that is known, or the only one.

    Raises TokenizerError, which names what we have not.
    """
    texts, merges, special, number, bos = parts_of(content, end)
    said = {key: part_of(content, key) or None for key in ("normalizer", "pre_tokenizer", "decoder")}
    for prefix in PREFIXES:
        if said == _around(prefix):
            return PieceTokenizer(tuple(texts), merges, special, number, prefix, bos)
    told = ", ".join(f"{key} {short(value or {})}" for key, value in said.items())
    raise TokenizerError(f"with byte_fallback we know how Llama 2 and Mistral mark spaces, and this one has {told}")


def to_hf(tokenizer: PieceTokenizer) -> dict[str, Any]:
    """A tokenizer.json's content."""
    content = written_as_hf(tokenizer, tokenizer.tokens) | _around(tokenizer.prefix)
    content["model"] |= {"byte_fallback": True, "fuse_unk": True}
    return content


def _around(prefix: str) -> dict[str, Any]:
    """What stands around the merges: spaces become marks, and marks spaces."""
    metaspace = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": prefix, "split": False}
    marked = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, MARK_SPACES]}
    unmark = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "normalizer": marked if prefix == "prepend" else None,
        "pre_tokenizer": None if prefix == "prepend" else metaspace,
        "decoder": {"type": "Sequence", "decoders": unmark[:3] if prefix == "never" else unmark},
    }
