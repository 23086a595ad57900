"""Byte-level BPE, as it is told: the tokenizer of GPT-2, Llama 3 and Qwen2, and how its merges are learnt.

    "low lower"  --pattern-->  "low", " lower"  --UTF-8-->  l o w,  ␣ l o w e r  --merges-->  low,  ␣low er

A pattern cuts the text into pieces that no token crosses. A piece begins as its bytes; as long as two neighbours are a
known pair, the pair that was learnt first becomes one token (Sennrich et al. 2016, arXiv:1508.07909). Bytes, not
characters, so that every text has tokens (Radford et al. 2019, GPT-2).

Learning: the most frequent pair of neighbours becomes a token, again and again. Of pairs of equal counts, the one whose
left token has the lower number is taken, then the one whose right token has; bytes are numbered as GPT-2 does, so this
is also what Hugging Face's `tokenizers` takes.

Each step is a function of plain values here. What is used is fast, and tested equal:

    learn_merges_slowly    bpe_training.learn_merges
    merge_slowly           bpe_encoding.Merger
    encode_slowly          bpe_tokenizer.BPETokenizer, which keeps all the parts together
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import regex

from kakehashi.tokenizers import patterns

Pair = tuple[int, int]  # the numbers of two tokens, left and right


def byte_signs() -> dict[int, str]:
    """GPT-2's alphabet of bytes: {byte: the character that it is written as}, in the order of the characters.

    What Latin-1 shows, "!" to "~", "¡" to "¬" and "®" to "ÿ", stands for its own byte. The other bytes, the space among
    them, are written in their order as the characters from U+0100 on.
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    # spaces and control characters would be lost in a file of tokens: they get characters that can be seen
    rest = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(0x100 + i) for i, byte in enumerate(rest)}


def count_pieces(texts: Iterable[str], pattern: str = "gpt2") -> dict[bytes, int]:
    """{piece in UTF-8: how often it stands in the texts}: the words that merges are learnt from.

    pattern: the name of one of patterns.PATTERNS, whose matches are the pieces.
    """
    cut, counts = regex.compile(patterns.find(pattern)).findall, Counter()
    for text in texts:
        counts.update(cut(text))
    return {piece.encode(): count for piece, count in counts.items()}


def count_pairs(words: Iterable[tuple[Sequence[int], int]]) -> dict[Pair, int]:
    """{pair: how often it stands in the words}, of words that are (their tokens, how often the word stands there).

    Each two neighbours in a word are a pair, overlapping ones, too: three equal tokens are two pairs.
    """
    counts = Counter()
    for tokens, count in words:
        for pair in pairwise(tokens):
            counts[pair] += count  # a word is here once, however often it stands in the texts
    return counts


def merge_pair(tokens: Sequence[int], pair: Pair, new: int) -> list[int]:
    """The tokens with each occurrence of the pair, from left to right, replaced by the new token.

    Each token goes into one merge at most: of three equal ones, the first two.
    """
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append(new)
            i += 2  # both are gone: of three equal tokens, the second is not merged again
        else:
            merged.append(tokens[i])
            i += 1
    return merged


def learn_merges_slowly(words: Mapping[bytes, int], n_merges: int) -> list[Pair]:
    """The merges that the words, each with its count, teach: pairs of token numbers, the first one learnt first.

    Numbers 0 to 255 are the bytes, in the order of `byte_signs`; merge i makes token 256 + i. Of pairs of equal counts
    the lowest is taken, left before right. A pair that occurs once is no merge, so there may be fewer than n_merges.
    """
    number = {byte: i for i, byte in enumerate(byte_signs())}
    spelled = [([number[byte] for byte in word], count) for word, count in words.items()]
    merges = []
    for new in range(256, 256 + n_merges):
        # counted anew: a merge makes pairs with the new token, and takes places from pairs with its two parts
        counts = count_pairs(spelled)
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        spelled = [(merge_pair(tokens, best, new), count) for tokens, count in spelled]
    return merges


def merge_slowly(tokens: Sequence[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """The tokens after all merges that apply, each time the one learnt first, in its leftmost place.

    merges: {pair: (how many merges were learnt before this one, the token it makes)}. A merge of a token stands after
    the one that makes this token.
    """
    tokens = list(tokens)
    while known := [(*merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]:
        _, new, i = min(known)  # the lowest rank, in its leftmost place
        tokens[i : i + 2] = [new]
    return tokens


def cut_special(text: str, special: Collection[str]) -> list[str]:
    """The text cut at its special tokens: [text, special, text, ... special, text], where a text may be "".

    special: the texts of the special tokens; where several begin at one place, the longest is taken.
    """
    if not special:
        return [text]
    longest_first = sorted(special, key=len, reverse=True)
    # of alternatives the first that fits is taken; in brackets, so that split keeps what it cuts at
    return regex.split(f"({'|'.join(map(regex.escape, longest_first))})", text)


def encode_slowly(
    text: str,
    tokens: Mapping[int, bytes],
    merges: Sequence[Pair],
    special: Mapping[str, int],
    pattern: str = "gpt2",
    allowed_special: Collection[str] = (),
) -> list[int]:
    """The numbers of the text's tokens.

    tokens: the bytes of each number, of a special token its text in UTF-8; merges: pairs of numbers, the first one
    learnt first, each makes the token of their bytes together; special: {text: number}, which plain text never becomes.
    allowed_special: those that stand for themselves in the text; what spells another is plain text.
    """
    # a special token may be spelled as one of text, which keeps its bytes for itself
    number = {raw: i for i, raw in tokens.items() if i not in special.values()}
    known = {(a, b): (rank, number[tokens[a] + tokens[b]]) for rank, (a, b) in enumerate(merges)}
    cut, encoded = regex.compile(patterns.find(pattern)).findall, []
    for i, part in enumerate(cut_special(text, allowed_special)):
        if i % 2:
            encoded.append(special[part])
        else:
            for piece in cut(part):
                encoded += merge_slowly([number[bytes([byte])] for byte in piece.encode()], known)
    return encoded


def decode(ids: Iterable[int], tokens: Mapping[int, bytes]) -> str:
    """The text of the numbers, tokens: the bytes of each. Bytes that are no UTF-8, as of half a character, become
    U+FFFD. A number without a token is a KeyError.
    """
    # all bytes first: those of one character may lie in several tokens
    return b"".join([tokens[number] for number in ids]).decode(errors="replace")
