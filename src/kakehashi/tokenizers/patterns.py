"""The patterns that cut a text into pieces, which no token of a BPE crosses, verbatim of the models that brought them.

They need the package regex: Python's own re knows no \\p{L} (letters) and \\p{N} (numbers).
"""

from kakehashi.tokenizers.char import TokenizerError

PATTERNS = {
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


def find(name: object) -> str:
    """The pattern of that name. Raises TokenizerError."""
    if not isinstance(name, str) or name not in PATTERNS:
        raise TokenizerError(f"pattern must be one of {', '.join(PATTERNS)}, got {name!r}")
    return PATTERNS[name]
