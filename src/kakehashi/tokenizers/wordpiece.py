"""WordPiece: words, and pieces of words where a word is rare. The tokenizer of texts that are to be told apart.

    "Top-ups ﾌﾟﾗｽ"  --NFKC, casefold-->  "top-ups プラス"  --words-->  top - ups プラス  --pieces-->  top - up ##s プラス

A word is cut greedily: the longest piece that begins it, then the longest that goes on, "##" before it (Schuster &
Nakajima 2012; Devlin et al. 2019, BERT). Deviations: only the character that is in no piece is unknown, not its word;
pieces are learnt as BPE's merges, the most frequent pair of neighbours first (Sennrich et al. 2016), inside words.

A vocabulary goes wherever its model goes, so it is not to tell of any one text: a piece of more than one character
stands in at least 3 different texts, whatever the data.

To cut a text takes the standard library alone: work/predictor/tool.py does the same where this package is not.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import pairwise
from unicodedata import normalize

from kakehashi.tokenizers.char import END, SHOWN, TokenizerError

UNKNOWN = "[unk]"
MORE = "##"  # before a piece that goes on with a word
FEWEST = 3  # different texts that a piece of more than one character stands in
LONGEST = 100  # characters of a word that pieces are learnt from: what is longer is a key, a picture, no word

# Japanese has no spaces: a change of script is where a word most likely ends
SCRIPTS = ("ぁ-ゟ", "゠-ヿ", "々〆㐀-鿿豈-\ufaff\U00020000-\U0003ffff")  # hiragana, katakana, kanji
# a run of one script, of other letters and digits, or one sign alone: no text spells a special token or "##a"
WORDS = re.compile("|".join([*(f"[{each}]+" for each in SCRIPTS), rf"[^\W_{''.join(SCRIPTS)}]+", r"[^\w\s]|_"]))


def words(text: str) -> list[str]:
    """The words of a text, each normalised: half-width kana and full-width letters as the usual ones, no capitals."""
    # casefold can make what NFKC would write otherwise: a second time, and the words of words are the same words
    return WORDS.findall(normalize("NFKC", normalize("NFKC", text).casefold()))


@dataclass(frozen=True)
class WordPieceTokenizer:
    """tokens: END, "[unk]", then the pieces. A token's number is its place in `tokens`.

    Raises TokenizerError where they are not that.
    """

    tokens: tuple[str, ...]
    end = begin = 0
    unknown = 1
    ends = (0,)

    def __post_init__(self):
        if self.tokens[:2] != (END, UNKNOWN):
            raise TokenizerError(f"tokens must begin with {END!r} and {UNKNOWN!r}, got {self.tokens[:2]!r}")
        if twice := [token for token, n in Counter(self.tokens).items() if n > 1 or not token]:
            raise TokenizerError(f"tokens must be distinct and not empty, got {twice[0][:SHOWN]!r}")

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 4000) -> "WordPieceTokenizer":
        """The most frequent characters of the texts, then the merges of the most frequent neighbours, up to vocab_size.

        Of equally frequent ones the first in order of code points is taken. A pair is merged where it stands in at
        least 3 texts that differ in their words, and in words of at most 100 characters; there are fewer tokens where
        no such pair is left. Raises TokenizerError where there is no word, or no room for a character.
        """
        if vocab_size < 4:
            raise TokenizerError(f"vocab_size must be at least 4, two special tokens and a character, got {vocab_size}")
        counts, where, seen = Counter(), defaultdict(set), {}
        for text in texts:
            found = words(text)
            counts.update(found)
            number = seen.setdefault(" ".join(found), len(seen))
            for word in found:
                if len(where[word]) < FEWEST:  # which texts more does not matter
                    where[word].add(number)
        if not counts:
            raise TokenizerError("the texts hold no word to learn pieces from")
        characters = Counter()
        for word, n in counts.items():
            characters.update({c: n * word.count(c) for c in set(word)})
        # each in two forms: what is known at the beginning of a word is known inside
        alphabet = sorted(characters, key=lambda c: (-characters[c], c))[: (vocab_size - 2) // 2]
        tokens = [END, UNKNOWN, *alphabet, *(MORE + c for c in alphabet)]
        # a word with a character outside the alphabet teaches nothing: its pieces would never be found whole
        known = {word: n for word, n in counts.items() if len(word) <= LONGEST and set(word) <= set(alphabet)}
        return cls((*tokens, *_merges(known, where, vocab_size - len(tokens))))

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The numbers of the pieces; no END is added. A character that is in no piece is "[unk]"."""
        numbers = []
        for word in words(text):
            at = 0
            while at < len(word):
                more = MORE if at else ""
                # the longest that fits; of length 1 it is a character, or unknown
                for to in range(min(len(word), at + self._longest), at, -1):
                    number = self._numbers.get(more + word[at:to])
                    if number is not None:
                        break
                numbers.append(self.unknown if number is None else number)
                at = to
        return numbers

    def decode(self, ids: Iterable[int]) -> str:
        """The words of the numbers, a space between each two; END becomes "".

        A number outside the vocabulary is a KeyError.
        """
        texts = [self._texts[i] for i in ids]
        return " ".join(filter(None, texts)).replace(f" {MORE}", "")

    def to_dict(self) -> dict:
        return {"format": 1, "kind": "wordpiece", "tokens": list(self.tokens)}

    @classmethod
    def from_dict(cls, content: dict) -> "WordPieceTokenizer":
        """What `to_dict()` gave. Raises TokenizerError where it is something else."""
        tokens = content.get("tokens")
        if content.get("format") != 1 or content.get("kind") != "wordpiece":
            raise TokenizerError(
                f"need format 1 and kind 'wordpiece', got {content.get('format')!r} and {content.get('kind')!r}"
            )
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise TokenizerError(f"tokens must be a list of strings, got {str(tokens)[:SHOWN]!r}")
        return cls(tuple(tokens))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.tokens)}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.tokens))

    @cached_property
    def _texts(self) -> dict[int, str]:
        """A dict, not a tuple: a negative number must not wrap around."""
        return {i: token if i != self.end else "" for i, token in enumerate(self.tokens)}


def _merges(counts: dict[str, int], texts: dict[str, set[int]], n: int) -> list[str]:
    """At most n pieces, each two neighbours in the words made one, the most frequent first.

    texts: of each word the numbers of texts that hold it, of FEWEST of them if there are as many.
    """
    cut = {word: [word[0], *(MORE + c for c in word[1:])] for word in counts}
    pairs, where = Counter(), defaultdict(set)  # where: the words that a pair stood in, at some time
    for word, pieces in cut.items():
        for pair in pairwise(pieces):
            pairs[pair] += counts[word]
            where[pair].add(word)
    # pairs wait by a count that may be too high, never too low: it is looked at again when its turn has come
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapify(heap)
    merged = {}
    while len(merged) < n and heap:
        said, pair = heappop(heap)
        if pairs[pair] != -said:
            if pairs[pair] > 0:
                heappush(heap, (-pairs[pair], pair))
            continue
        holders = {word: at for word in where[pair] if (at := _places(cut[word], pair))}
        if not _in_enough(texts[word] for word in holders):
            continue  # until it gains a word
        new = pair[0] + pair[1].removeprefix(MORE)
        merged[new] = None  # two pairs may make the same piece
        gained = set()
        for word, at in holders.items():
            # only pairs with a piece that is merged, or beside one, change
            part = slice(max(at[0] - 1, 0), at[-1] + 3)
            before = cut[word][part]
            cut[word][part] = after = _merge(before, pair, new)
            for each in pairwise(before):
                pairs[each] -= counts[word]
                if not pairs[each]:
                    del pairs[each], where[each]
            for each in pairwise(after):
                pairs[each] += counts[word]
                where[each].add(word)
                gained.add(each)
        for each in gained:
            heappush(heap, (-pairs[each], each))
    return list(merged)


def _places(pieces: list[str], pair: tuple[str, str]) -> list[int]:
    """Of the left pieces of a pair."""
    left, right = pair
    return [i for i, piece in enumerate(pieces[:-1]) if piece == left and pieces[i + 1] == right]


def _in_enough(texts: Iterable[set[int]]) -> bool:
    """Whether these sets hold FEWEST different numbers."""
    found = set()
    return any(len(found := found | each) >= FEWEST for each in texts)


def _merge(pieces: list[str], pair: tuple[str, str], new: str) -> list[str]:
    merged = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] = new
        else:
            merged.append(piece)
    return merged
