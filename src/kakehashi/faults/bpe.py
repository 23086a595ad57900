"""Faults of byte-level BPE."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.tokenizers.bpe"

TEXTS = ["low lower  lowest\n", "low aaa aaaaa low", "WE'LL 1234 é架け橋 <|end|>low<|end|>>w1"]
WORDS = {b"low": 5, b"lower": 2, b"newest": 6, b" widest": 3, b"aaaa": 4, b"z~": 3, b" z": 3, b"q": 7, b"qj": 1}
WORDS |= {"é架".encode(): 2, b"w1": 9}  # the last one is no piece of any pattern: a merge across the border of two
SPELLED = [([1, 2, 1, 2, 3], 4), ([2, 2, 2], 3), ([5], 9), ([], 1), ([3, 1, 2], 1)]
MERGES = {(1, 2): (0, 7), (2, 2): (1, 6), (7, 3): (2, 9), (6, 6): (3, 8), (3, 1): (4, 5)}  # numbers in no order
SPECIAL = ("<|end|>", "<|end|>>", "low")  # the last one is spelled as a token that is learnt


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Each function on words and texts with repeats, ties, spaces, several alphabets, and special tokens in them."""

    def seen(result: Any):
        yield ("value",), list(repr(result).encode())  # numbers, whatever it is

    def encoded(text: str, *allowed: str):
        merges = module.learn_merges_slowly(WORDS, 12)
        tokens = {i: bytes([byte]) for i, byte in enumerate(module.byte_signs())}
        for left, right in merges:
            tokens[len(tokens)] = tokens[left] + tokens[right]
        special = {text: len(tokens) + i for i, text in enumerate(SPECIAL)}
        tokens |= {i: text.encode() for text, i in special.items()}
        return seen(module.encode_slowly(text, tokens, merges, special, allowed_special=allowed))

    yield "byte_signs", lambda: seen(module.byte_signs())
    for pattern in ("gpt2", "llama3"):
        yield f"count_pieces {pattern}", lambda p=pattern: seen(module.count_pieces(iter(TEXTS), p))
    yield "count_pairs", lambda: seen(dict(module.count_pairs(SPELLED)))
    for tokens in ([1, 2, 3, 1, 2], [3, 1, 2], [2, 2, 2, 2, 2], [2, 1], []):
        for pair in ((1, 2), (2, 2)):
            yield f"merge_pair {tokens} {pair}", lambda t=tokens, p=pair: seen(module.merge_pair(t, p, 9))
        yield f"merge_slowly {tokens}", lambda t=tokens: seen(module.merge_slowly(t, MERGES))
    for n in (0, 3, 300):
        yield f"learn_merges_slowly {n}", lambda n=n: seen(module.learn_merges_slowly(WORDS, n))
    for text in TEXTS:
        yield f"cut_special {text}", lambda text=text: seen(module.cut_special(f"{text}>{text}", SPECIAL))
        for allowed in ((), SPECIAL[:1], SPECIAL):
            yield f"encode_slowly {text} {allowed}", lambda text=text, allowed=allowed: encoded(text, *allowed)
    for raw in ("a架b".encode(), b"\xe6\x9e", b"\xff a"):
        yield f"decode {raw}", lambda raw=raw: seen(module.decode(raw, {byte: bytes([byte]) for byte in range(256)}))


def fault(id: str, cause: str, level: int, symbol: str, find: str, replace: str, crashes: bool = False) -> Fault:
    """A tokenizer's functions are no model's: all that a fault may change is what they give."""
    edit = Edit(symbol, find, replace)
    return Fault(f"bpe-{id}", "tokenizer", cause, MODULE, (edit,), changes=("value",), level=level, crashes=crashes)


FAULTS = (
    fault(
        "alphabet-in-order-of-bytes",
        "alphabet",
        2,
        "byte_signs",
        "$seen | $rest",
        "dict(sorted(($seen | $rest).items()))",
    ),
    fault(
        "soft-hyphen-unseen",
        "alphabet",
        3,
        "byte_signs",
        "[*$ascii, *range(0xA1, 0xAD), *range(0xAE, 0x100)]",
        "[*$ascii, *range(0xA1, 0x100)]",
    ),
    fault("pattern-ignored", "cutting", 2, "count_pieces", "patterns.find(pattern)", 'patterns.PATTERNS["gpt2"]'),
    fault(
        "pieces-once-a-text", "counting", 2, "count_pieces", "counts.update(cut(text))", "counts.update(set(cut(text)))"
    ),
    fault("pairs-once-a-word", "counting", 2, "count_pairs", "pairwise(tokens)", "set(pairwise(tokens))"),
    fault("overlap-merged-twice", "merging", 1, "merge_pair", "i += 2", "i += 1"),
    fault(
        "first-place-alone",
        "merging",
        2,
        "merge_pair",
        "tuple($two) == pair",
        "tuple($two) == pair and new not in merged",
    ),
    fault(
        "tie-first-seen",
        "tie",
        3,
        "learn_merges_slowly",
        "min(counts, key=lambda pair: (-counts[pair], pair), default=None)",
        "max(counts, key=lambda pair: counts[pair], default=None)",
    ),
    fault(
        "tie-highest-numbers",
        "tie",
        3,
        "learn_merges_slowly",
        "min(counts, key=lambda pair: (-counts[pair], pair), default=None)",
        "max(counts, key=lambda pair: (counts[pair], pair), default=None)",
    ),
    fault(
        "counts-unweighted",
        "counting",
        2,
        "learn_merges_slowly",
        "[([number[byte] for byte in word], count) for word, count in words.items()]",
        "[([number[byte] for byte in word], 1) for word in words]",
    ),
    fault("merges-of-one-place", "counting", 2, "learn_merges_slowly", "counts[best] < 2", "counts[best] < 1"),
    fault(
        "number-of-a-byte",
        "numbering",
        2,
        "learn_merges_slowly",
        "range(256, 256 + n_merges)",
        "range(255, 255 + n_merges)",
    ),
    fault("left-to-right", "rank_order", 2, "merge_slowly", "min(known)", "known[0]"),
    fault("last-learnt-first", "rank_order", 1, "merge_slowly", "min(known)", "max(known)"),
    fault(
        "rightmost-place",
        "rank_order",
        3,
        "merge_slowly",
        "min(known)",
        "min(known, key=lambda each: (each[0], -each[2]))",
    ),
    fault(
        "special-shortest-first",
        "special",
        2,
        "cut_special",
        "sorted(special, key=len, reverse=True)",
        "sorted(special, key=len)",
    ),
    fault(
        "special-as-pattern",
        "special",
        1,
        "cut_special",
        "map(regex.escape, longest_first)",
        "longest_first",
        crashes=True,
    ),
    fault(
        "special-from-plain-text",
        "special",
        3,
        "encode_slowly",
        "cut_special(text, allowed_special)",
        "cut_special(text, special)",
    ),
    fault(
        "special-takes-bytes",
        "special",
        3,
        "encode_slowly",
        "{raw: i for i, raw in tokens.items() if i not in special.values()}",
        "{raw: i for i, raw in tokens.items()}",
    ),
    fault(
        "merges-across-pieces",
        "cutting",
        2,
        "encode_slowly",
        """
        for piece in cut(part):
            encoded += merge_slowly([number[bytes([byte])] for byte in piece.encode()], known)
        """,
        """
        raw = "".join(cut(part)).encode()
        encoded += merge_slowly([number[bytes([byte])] for byte in raw], known)
        """,
    ),
    fault(
        "decoded-token-by-token",
        "decoding",
        2,
        "decode",
        'b"".join([tokens[number] for number in ids]).decode(errors="replace")',
        '"".join([tokens[number].decode(errors="replace") for number in ids])',
    ),
)
