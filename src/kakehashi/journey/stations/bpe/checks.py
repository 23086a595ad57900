"""Checks of the BPE station: its functions give lists, tables and texts, which are compared exactly.

Beside what is right stand functions that make one mistake each: the one that gives all that was seen is named.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any

import regex
import torch

from kakehashi.journey import stations
from kakehashi.journey.checking import Wrong, check
from kakehashi.texts import LANGUAGES
from kakehashi.tokenizers import BPETokenizer
from kakehashi.tokenizers.patterns import PATTERNS

Pair = tuple[int, int]
Words = Sequence[tuple[Sequence[int], int]]
Table = Mapping[Pair, tuple[int, int]]

KINDS = (Mapping, str, bytes, list | tuple)
SHOWN = 160  # characters of an input in the words of a check


def suspect(name: str, function: Callable, cases: Iterable[tuple], right: Callable, **mistakes: Callable) -> None:
    """For each case, which is a tuple of inputs, the function gives what `right` gives.

    mistakes: the key of a text -> a function that makes this mistake. It is named if it explains all that was seen.
    Raises Wrong "bpe_changes_input", a mistake, and as `differs` does.
    """
    seen: list[tuple[tuple, Any]] = []
    raised = None
    for case in cases:
        inputs = deepcopy(case)
        try:
            seen.append((case, function(*inputs)))
        except Exception as error:  # what came before it may say more
            raised = error
            break
        if inputs != case:
            raise Wrong("bpe_changes_input", name=name)
    for case, mine in seen:
        if not alike(mine, ref := right(*case)):
            said = f"{name}({', '.join(map(shown, case))})"
            for key, mistake in mistakes.items():
                if all(alike(result, mistake(*inputs)) for inputs, result in seen):
                    raise Wrong(key, name=said, **parting(mine, ref))
            differs(said, mine, ref)
    if raised:
        raise raised


def alike(mine: Any, ref: Any) -> bool:
    """Equal; a tuple may stand for a list, a Counter for a dict."""
    if isinstance(mine, list | tuple) and isinstance(ref, list | tuple):
        return list(mine) == list(ref)
    return (type(mine) is type(ref) or isinstance(mine, Mapping) and isinstance(ref, Mapping)) and mine == ref


def differs(name: str, mine: Any, ref: Any) -> None:
    """Raises Wrong "none", "bpe_kind", "bpe_lacks", "bpe_entry", "bpe_more", "bpe_differs"."""
    if mine is None:
        raise Wrong("none", name=name)
    if not isinstance(mine, next(kind for kind in KINDS if isinstance(ref, kind))):
        raise Wrong("bpe_kind", name=name, seen=type(mine).__name__, expected=type(ref).__name__)
    if not isinstance(ref, Mapping):
        raise Wrong("bpe_differs", name=name, **parting(mine, ref))
    for entry, value in ref.items():
        if entry not in mine:
            raise Wrong("bpe_lacks", name=name, entry=repr(entry), ref=repr(value))
        if mine[entry] != value:
            raise Wrong("bpe_entry", name=name, entry=repr(entry), mine=repr(mine[entry]), ref=repr(value))
    raise Wrong("bpe_more", name=name, entry=repr(next(entry for entry in mine if entry not in ref)))


def parting(mine: Any, ref: Any) -> dict[str, str]:
    """The two in words; of long rows the few places where they part."""
    if not (isinstance(mine, list | tuple) and isinstance(ref, list | tuple) and len(repr(ref)) > SHOWN):
        return {"mine": repr(mine), "ref": repr(ref)}
    differ = (i for i, (own, theirs) in enumerate(zip(mine, ref, strict=False)) if own != theirs)
    at = next(differ, min(len(mine), len(ref)))
    start, end = max(at - 1, 0), at + 3

    def part(row: Sequence[Any]) -> str:
        return f"[{'..., ' * (start > 0)}{', '.join(map(repr, row[start:end]))}{', ...' * (len(row) > end)}]"

    return {"mine": part(mine), "ref": part(ref)}


def shown(value: Any) -> str:
    return words if len(words := repr(value)) <= SHOWN else "..."


# The alphabet


@check("byte_signs", 100)
def signs_can_be_seen(mine, ref, rng):
    right = ref.byte_signs()
    seen = [byte for byte, sign in right.items() if ord(sign) < 0x100]

    def signs(*shown: int) -> Callable[[], dict[int, str]]:
        moved = [byte for byte in range(256) if byte not in shown]
        return lambda: {byte: chr(byte) for byte in shown} | {byte: chr(0x100 + i) for i, byte in enumerate(moved)}

    suspect(
        "byte_signs",
        mine.byte_signs,
        [()],
        ref.byte_signs,
        signs_turned=lambda: {sign: byte for byte, sign in right.items()},
        signs_codes=lambda: {byte: ord(sign) for byte, sign in right.items()},
        signs_of_bytes=lambda: {bytes([byte]): sign for byte, sign in right.items()},
        signs_latin=signs(*range(256)),
        signs_by_byte=lambda: {byte: chr(byte + 0x100 * (byte not in seen)) for byte in right},
        signs_rest=lambda: {byte: right[byte] for byte in seen},
        signs_space=signs(0x20, *seen),
        signs_delete=signs(*seen, 0x7F),
        signs_soft_hyphen=signs(*seen, 0xAD),
        signs_no_break=signs(*seen, 0xA0),
        signs_ascii=signs(*(byte for byte in seen if byte < 0x7F)),
    )


@check("byte_signs", 110)
def signs_stand_in_order(mine, ref, rng):
    suspect(
        "keys of byte_signs",
        lambda: list(mine.byte_signs()),
        [()],
        lambda: list(ref.byte_signs()),
        signs_in_order_of_bytes=lambda: list(range(256)),
    )


# Pieces


def pieces(cut: Callable[[str], Iterable[Any]], texts: Iterable[str]) -> dict[Any, int]:
    return Counter(piece for text in texts for piece in cut(text))


def by_pattern(text: str, name: str = "gpt2") -> list[bytes]:
    return [piece.encode() for piece in regex.findall(PATTERNS[name], text)]


@check("count_pieces", 200)
def pieces_are_counted(mine, ref, rng):
    suspect(
        "count_pieces",
        mine.count_pieces,
        [(["low lower  low", " low low!", "We'll lower \n"],)],
        ref.count_pieces,
        pieces_whole=partial(pieces, lambda text: [text.encode()]),
        pieces_stripped=partial(pieces, lambda text: [piece.strip() for piece in by_pattern(text) if piece.strip()]),
        pieces_at_spaces=partial(pieces, lambda text: [piece.encode() for piece in text.split()]),
        pieces_texts=partial(pieces, lambda text: [piece.decode() for piece in by_pattern(text)]),
        pieces_spelled=partial(pieces, lambda text: map(tuple, by_pattern(text))),
        pieces_once=partial(pieces, lambda text: set(by_pattern(text))),
        pieces_last_text=lambda texts: pieces(by_pattern, texts[-1:]),
        pieces_first_text=lambda texts: pieces(by_pattern, texts[:1]),
        pieces_set=lambda texts: dict.fromkeys(pieces(by_pattern, texts), 1),
        pieces_lower=lambda texts: pieces(by_pattern, map(str.lower, texts)),
        pieces_name=lambda texts: {},
    )


@check("count_pieces", 210)
def pieces_are_those_of_the_pattern(mine, ref, rng):
    text = "WE'LL\n\n see 12345 (now)\r\n it's"
    suspect(
        "count_pieces",
        mine.count_pieces,
        [([text], name) for name in PATTERNS],
        ref.count_pieces,
        pieces_pattern=lambda texts, name: pieces(by_pattern, texts),
        pieces_name=lambda texts, name: {},
    )
    suspect("count_pieces", mine.count_pieces, [([text],)], ref.count_pieces)


@check("count_pieces", 220)
def pieces_of_any_texts(mine, ref, rng):
    """None at all, empty ones, letters of other alphabets, texts that can be read once."""
    cases = [([],), (["", "架け橋 bridge", "É\u0301e\u0301 \u00a0x", "x²½ ٣ 👩‍👧 架け橋", "Straße"],)]
    suspect(
        "count_pieces",
        mine.count_pieces,
        cases,
        ref.count_pieces,
        pieces_joined=lambda texts: pieces(by_pattern, ["".join(texts)]),
    )
    suspect(
        "count_pieces",
        lambda texts: mine.count_pieces(iter(texts)),
        cases,
        ref.count_pieces,
        pieces_read_twice=lambda texts: {},
    )


@check("count_pieces", 230)
def pieces_of_a_book_are_counted_in_time(mine, ref, rng):
    """Stays: who looks through all pieces for each is stopped by the clock alone."""
    suspect("count_pieces", mine.count_pieces, [([" ".join(map(str, range(50_000)))],)], ref.count_pieces)


# Pairs


def pairs(
    words: Words, of: Callable[[Sequence[int]], Iterable[Pair]] = pairwise, weigh: bool = True
) -> dict[Pair, int]:
    """The pairs of the words, or what a mistake in one of the parts gives."""
    found = Counter()
    for tokens, count in words:
        for pair in of(tokens):
            found[pair] += count if weigh else 1
    return found


def apart(tokens: Sequence[int]) -> list[Pair]:
    """The pairs that do not overlap the one before, if that is equal: of three equal tokens one."""
    found, last = [], None
    for i, pair in enumerate(pairwise(tokens)):
        if last != (i - 1, pair):
            found.append(pair)
            last = i, pair
    return found


@check("count_pairs", 300)
def pairs_weigh_as_their_words(mine, ref, rng):
    suspect(
        "count_pairs",
        mine.count_pairs,
        [([([7, 4, 2, 9], 5), ([4, 2], 3), ([4, 2, 7, 4, 2], 2), ([9, 4], 1), ([2, 4], 6)],)],
        ref.count_pairs,
        pairs_unweighted=partial(pairs, weigh=False),
        pairs_of_a_word=partial(pairs, of=lambda tokens: set(pairwise(tokens))),
        pairs_across=lambda words: pairs([([token for tokens, n in words for token in n * list(tokens)], 1)]),
        pairs_turned=partial(pairs, of=lambda tokens: pairwise(tokens[::-1])),
        pairs_unordered=partial(pairs, of=lambda tokens: [(min(pair), max(pair)) for pair in pairwise(tokens)]),
        pairs_every_other=partial(pairs, of=lambda tokens: zip(tokens[::2], tokens[1::2], strict=False)),
        pairs_last=partial(pairs, of=lambda tokens: pairwise(tokens[:-1])),
        pairs_around=partial(pairs, of=lambda tokens: pairwise([*tokens, tokens[0]])),
    )


@check("count_pairs", 310)
def pairs_overlap(mine, ref, rng):
    cases = [([([5, 5, 5], 1)],), ([([5, 5, 5, 5, 8, 5, 5, 5], 3)],)]
    suspect("count_pairs", mine.count_pairs, cases, ref.count_pairs, pairs_overlap=partial(pairs, of=apart))


@check("count_pairs", 320)
def pairs_of_short_words(mine, ref, rng):
    """No words, words of one token or none, words that can be read once."""
    cases = [([],), ([([7], 4)],), ([([], 2), ((7,), 4), ((7, 300, 7), 3)],)]
    suspect("count_pairs", lambda words: mine.count_pairs(iter(words)), cases, ref.count_pairs)


# Merging


def merged(
    tokens: Sequence[int], pair: Pair, new: int, step: int = 2, most: int = 10_000, either: bool = False
) -> list[int]:
    """The tokens with the pair merged, or with `step` tokens passed at a merge, `most` merges, `either` order."""
    row, i = [], 0
    while i < len(tokens):
        found = tuple(tokens[i : i + 2])
        if (found == pair or either and found == pair[::-1]) and row.count(new) < most:
            row.append(new)
            i += step
        else:
            row.append(tokens[i])
            i += 1
    return row


def without_end(tokens: Sequence[int], pair: Pair, new: int) -> list[int]:
    """What a loop over neighbours gives that forgets a last token without one."""
    row = merged(tokens, pair, new)
    return row if row[-1:] == [new] else row[:-1]


def merges(mine: ModuleType, ref: ModuleType, pair: Pair, *rows: Sequence[int]) -> None:
    """Raises Wrong as `suspect` does, and mistakes."""
    suspect(
        "merge_pair",
        mine.merge_pair,
        [(row, pair, 1111) for row in rows],
        ref.merge_pair,
        merge_untouched=lambda tokens, pair, new: tokens,
        merge_overlap=partial(merged, step=1),
        merge_first=partial(merged, most=1),
        merge_end=without_end,
        merge_neighbours=lambda tokens, pair, new: [new if each == pair else each[0] for each in pairwise(tokens)],
        merge_from_right=lambda tokens, pair, new: merged(tokens[::-1], pair[::-1], new)[::-1],
        merge_turned=lambda tokens, pair, new: merged(tokens, pair[::-1], new),
        merge_unordered=partial(merged, either=True),
        merge_any=lambda tokens, pair, new: [new if token in pair else token for token in tokens],
        merge_dropped=lambda tokens, pair, new: [token for token in merged(tokens, pair, new) if token != new],
    )


@check("merge_pair", 400)
def merge_replaces_every_occurrence(mine, ref, rng):
    rows = [8, 4, 2, 4, 2, 3, 2, 4, 9, 4, 2, 7, 4], [4, 2, 4, 7, 2, 9], [2, 4, 2, 4], [4, 2], [2, 4], [4], []
    merges(mine, ref, (4, 2), *rows)


@check("merge_pair", 410)
def merge_takes_a_token_once(mine, ref, rng):
    """In rows that are longer than Python recurses, too."""
    merges(mine, ref, (5, 5), *([5] * n + [9] + [5] * n for n in (1, 2, 3, 4, 5, 1000)))


@check("merge_pair", 420)
def merge_of_large_numbers(mine, ref, rng):
    """Numbers of several digits, equal ones that are not the same object; rows that cannot be written to."""
    tokens = (1, int("1000"), 11, 2, 1, 12, 1, int("1000"))
    for pair in ((1, 1000), (1, 12), (1, 1), (11, 2)):
        merges(mine, ref, pair, pair, tokens, tokens[::-1])


# Learning


def learn(
    ref: ModuleType,
    words: Mapping[bytes, int],
    n: int,
    best: Callable[[Pair, int, int, dict[int, bytes]], Any] = lambda pair, count, place, raw: (-count, pair),
    least: int = 2,
    first: int = 256,
    order: Iterable[int] = (),
    weigh: bool = True,
    anew: bool = True,
) -> list[Pair]:
    """The merges that the words teach, or what a mistake in one of the parts gives.

    best: the pair with the lowest best(pair, its count, its place in the order of first sight, the bytes of each
    token) is taken; order: of the bytes; anew: whether pairs are counted again after a merge.
    """
    raw = {i: bytes([byte]) for i, byte in enumerate(order or ref.byte_signs())}
    number = {byte: i for i, byte in raw.items()}
    spelled = [([number[bytes([byte])] for byte in word], count if weigh else 1) for word, count in words.items()]
    found: list[Pair] = []
    counts: dict[Pair, int] = {}
    for new in range(first, first + n):
        counts = pairs(spelled) if anew or not found else {pair: counts[pair] for pair in counts if pair not in found}
        order_of = {pair: i for i, pair in enumerate(counts)}
        pair = min(counts, key=lambda pair: best(pair, counts[pair], order_of[pair], raw), default=None)
        if pair is None or counts[pair] < least:
            break
        found.append(pair)
        raw[new] = raw[pair[0]] + raw[pair[1]]
        spelled = [(merged(tokens, pair, new), count) for tokens, count in spelled]
    return found


def learns(mine: ModuleType, ref: ModuleType, *cases: tuple[dict[bytes, int], int]) -> None:
    """Raises Wrong as `suspect` does, and mistakes."""
    told = partial(learn, ref)
    suspect(
        "learn_merges_slowly",
        mine.learn_merges_slowly,
        cases,
        ref.learn_merges_slowly,
        learn_bytes=partial(told, order=range(256)),
        learn_unweighted=partial(told, weigh=False),
        learn_once=partial(told, anew=False),
        learn_once_counted=partial(told, least=1),
        learn_least_3=partial(told, least=3),
        learn_first=partial(told, first=257),
        learn_number=partial(told, first=255),
        learn_one_less=lambda words, n: told(words, n - 1),
        learn_one_more=lambda words, n: told(words, n + 1),
        learn_n_tokens=lambda words, n: told(words, n - 256),
        learn_rarest=partial(told, best=lambda pair, count, place, raw: (count, pair)),
        tie_first=partial(told, best=lambda pair, count, place, raw: (-count, place)),
        tie_last=partial(told, best=lambda pair, count, place, raw: (-count, -place)),
        tie_highest=partial(told, best=lambda pair, count, place, raw: (-count, -pair[0], -pair[1])),
        tie_right=partial(told, best=lambda pair, count, place, raw: (-count, pair[::-1])),
        tie_bytes=partial(told, best=lambda pair, count, place, raw: (-count, raw[pair[0]], raw[pair[1]])),
        tie_longest=partial(
            told, best=lambda pair, count, place, raw: (-count, -len(raw[pair[0]] + raw[pair[1]]), pair)
        ),
    )


def random_words(rng: torch.Generator, letters: bytes, n: int) -> dict[bytes, int]:
    """Up to n words of one to nine letters, each with a count of one to five."""
    drawn = torch.randint(1 << 16, (n, 11), generator=rng).tolist()
    return {bytes(letters[i % len(letters)] for i in row[: 1 + size % 9]): 1 + n % 5 for n, size, *row in drawn}


@check("learn_merges_slowly", 500)
def learns_the_most_frequent_pair(mine, ref, rng):
    """No two pairs are equally frequent here; and nothing to learn, or nothing to learn from."""
    few, run = {b"ab": 9, b"abc": 4, b"cab": 2, b"ca": 1}, {b"~~~~~~~": 2, b"": 9}
    learns(mine, ref, (few, 2), (few, 3), (run, 2), (few, 0), ({}, 3), ({b"": 9, b"x": 4}, 3))


@check("learn_merges_slowly", 510)
def learns_the_lowest_of_equal_pairs(mine, ref, rng):
    """The words of Sennrich's paper, and some that tell apart how ties may be decided."""
    paper, other = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, {b" z": 3, b"ba": 3, b"ab": 3}
    several = {b"pq": 4, b"pqpq": 2, b"xy": 4, b"yx": 4, b"q ": 4, b"\xc3\xa9": 4}
    learns(mine, ref, (paper, 7), (other, 3), (several, 6))


@check("learn_merges_slowly", 520)
def learns_only_what_is_there_twice(mine, ref, rng):
    learns(mine, ref, ({b"abc": 1, b"abd": 1}, 5), ({b"abcd": 1, b"cd": 2}, 3), ({b"xyz": 1}, 300))


@check("learn_merges_slowly", 530)
def learns_merges_of_merges(mine, ref, rng):
    """Stays: words that nobody thought of, of few letters, merged until nothing is left."""
    learns(mine, ref, *((random_words(rng, b"ab ~\xc3", 12), 40) for _ in range(3)))


# Encoding a piece

# numbers in no order, and entries, too
TABLE: Table = {(3, 1): (3, 15), (1, 2): (0, 20), (9, 1): (4, 8), (2, 3): (1, 12), (20, 3): (2, 9)}
TABLE |= {(30, 30): (7, 10), (30, 5): (6, 11), (5, 5): (5, 30)}


def merge_by(
    tokens: Sequence[int],
    table: Table,
    key: Callable[[int, int, int], Any] = lambda rank, new, i: (rank, i),
    most: int = 10_000,
) -> list[int]:
    """The tokens after `most` merges at most, each time the one with the lowest key(rank, new token, place)."""
    row = list(tokens)
    while most and (known := [(*table[pair], i) for i, pair in enumerate(pairwise(row)) if pair in table]):
        _, new, i = min(known, key=lambda each: key(*each))
        row[i : i + 2] = [new]
        most -= 1
    return row


def longest(tokens: Sequence[int], table: Table) -> list[int]:
    """From left to right the longest token that fits."""
    raw: dict[int, tuple[int, ...]] = {}
    for (a, b), (_, new) in table.items():
        raw[new] = raw.get(a, (a,)) + raw.get(b, (b,))
    row, i = [], 0
    while i < len(tokens):
        fits = [(len(each), new) for new, each in raw.items() if tuple(tokens[i : i + len(each)]) == each]
        size, token = max(fits, default=(1, tokens[i]))
        row.append(token)
        i += size
    return row


def in_order_of_the_table(tokens: Sequence[int], table: Table) -> list[int]:
    """Each merge once, everywhere, as they stand in the table."""
    row = list(tokens)
    for pair, (_, new) in table.items():
        row = merged(row, pair, new)
    return row


def merges_slowly(mine: ModuleType, ref: ModuleType, table: Table, *rows: Sequence[int]) -> None:
    """Raises Wrong as `suspect` does, and mistakes."""
    suspect(
        "merge_slowly",
        mine.merge_slowly,
        [(row, table) for row in rows],
        ref.merge_slowly,
        rank_unmerged=lambda tokens, table: tokens,
        rank_one_merge=partial(merge_by, most=1),
        rank_left=partial(merge_by, key=lambda rank, new, i: i),
        rank_right=partial(merge_by, key=lambda rank, new, i: -i),
        rank_last=partial(merge_by, key=lambda rank, new, i: (-rank, i)),
        rank_last_place=partial(merge_by, key=lambda rank, new, i: (-rank, -i)),
        rank_number=partial(merge_by, key=lambda rank, new, i: (new, i)),
        rank_place=partial(merge_by, key=lambda rank, new, i: (rank, -i)),
        rank_is_token=lambda tokens, table: merge_by(tokens, {pair: (rank, rank) for pair, (rank, _) in table.items()}),
        rank_table=in_order_of_the_table,
        rank_longest=longest,
    )


@check("merge_slowly", 600)
def merges_what_was_learnt_first(mine, ref, rng):
    """And more merges than Python recurses: of two equal tokens a new one, from 1,024 down to one."""
    rows = [4, 1, 2, 3, 6], [2, 3, 1, 2], [1, 2, 3, 1, 2, 3, 1], [3, 1, 2, 3], [2, 3, 1], [], [1], (2, 1, 6), (1, 2)
    merges_slowly(mine, ref, TABLE, *rows, *([5] * n for n in (3, 4, 5, 7)))
    merges_slowly(mine, ref, {}, [1, 2], [])
    merges_slowly(mine, ref, {(i, i): (i, i + 1) for i in range(10)}, [0] * 1024)


@check("merge_slowly", 610)
def merges_as_they_were_learnt(mine, ref, rng):
    """Stays: pieces that nobody thought of, by merges that were learnt from words."""
    words = random_words(rng, b"abc", 30)
    table = {pair: (rank, 256 + rank) for rank, pair in enumerate(ref.learn_merges_slowly(words, 40))}
    number = {byte: i for i, byte in enumerate(ref.byte_signs())}
    rows = ([number[byte] for byte in word] for word in (*words, *random_words(rng, b"abc", 30)))
    merges_slowly(mine, ref, table, *rows)


# Special tokens


def cut_at(text: str, special: Iterable[str], escape: Callable[[str], str] = regex.escape, most: int = 0) -> list[str]:
    """The text cut at the special tokens, which are tried in this order, `most` times (0: everywhere)."""
    return regex.split(f"({'|'.join(map(escape, special))})", text, most)


def longest_first(special: Iterable[str]) -> list[str]:
    return sorted(special, key=len, reverse=True)


def cuts(mine: ModuleType, ref: ModuleType, *cases: tuple[str, Collection[str]]) -> None:
    """Raises Wrong as `suspect` does, and mistakes."""
    right = ref.cut_special
    suspect(
        "cut_special",
        mine.cut_special,
        cases,
        right,
        special_lost=lambda text, special: right(text, special)[::2],
        special_alone=lambda text, special: right(text, special)[1::2],
        special_uncut=lambda text, special: [text],
        special_no_empty=lambda text, special: [part for part in right(text, special) if part],
        special_shortest=lambda text, special: cut_at(text, sorted(special, key=len)),
        special_listed=cut_at,
        special_pattern=lambda text, special: cut_at(text, longest_first(special), escape=str),
        special_raw=lambda text, special: regex.split("|".join(longest_first(special)), text),
        special_first=lambda text, special: cut_at(text, longest_first(special), most=1),
    )


@check("cut_special", 700)
def cuts_at_special_tokens(mine, ref, rng):
    texts = "one<|end|>two<|pad|>", "<|end|><|end|>three", "<|end|>", "not<|END|>", "nothing", ""
    cuts(mine, ref, *((text, ["<|pad|>", "<|end|>"]) for text in texts))


@check("cut_special", 710)
def cuts_at_the_longest(mine, ref, rng):
    """And at the one that begins first, where they overlap."""
    orders = ["<x", "<x>", "x>", "<x>>"], ["<x>>", "x>", "<x>", "<x"], ["x>", "<x>", "<x>>", "<x"], {"<x": 0, "<x>": 1}
    cuts(mine, ref, *(("a<x>b<xx>c<x>>", special) for special in orders), ("abcd", ["bcd", "ab"]))


@check("cut_special", 720)
def cuts_at_any_characters(mine, ref, rng):
    cuts(mine, ref, ("a.c abc a+ (|)", ["a.c", "a+", "(|)"]), ("x[y]$z^ \\d1\n", ["[y]", "$", "^", "\\d", "\n"]))


@check("cut_special", 730)
def cuts_nothing_without_special_tokens(mine, ref, rng):
    suspect(
        "cut_special",
        mine.cut_special,
        [(text, special) for text in ("one<|end|>", "") for special in ((), set(), {})],
        ref.cut_special,
        special_letters=lambda text, special: cut_at(text, [""]),
    )


# A text


def vocabulary(ref: ModuleType, rng: torch.Generator) -> tuple[dict[int, bytes], list[Pair], dict[str, int]]:
    """The tokens, merges and special tokens of a small vocabulary: numbers in no order, a token that no merge makes,
    and a special token that is spelled as a token of text is."""
    words = {
        b"low": 5,
        b" low": 4,
        b"lower": 3,
        b" 12": 3,
        b"1\n": 9,
        b"wl": 9,
        "架け".encode(): 4,
        b"end": 3,
        b"<|": 3,
    }
    raw, names = [bytes([byte]) for byte in ref.byte_signs()], ("<|end|>", "<|pad|>", "low")
    learnt = ref.learn_merges_slowly(words, 30)
    for a, b in learnt:
        raw.append(raw[a] + raw[b])
    raw.append(b"WE")
    number = torch.randperm(len(raw) + len(names), generator=rng).tolist()
    special = dict(zip(names, number[len(raw) :], strict=True))
    tokens = dict(zip(number, [*raw, *map(str.encode, names)], strict=True))
    return tokens, [(number[a], number[b]) for a, b in learnt], special


def encode(
    text: str,
    tokens: Mapping[int, bytes],
    merges: Sequence[Pair],
    special: Mapping[str, int],
    pattern: str = "gpt2",
    allowed: Collection[str] = (),
    cut: Callable[[str], Iterable[str]] | None = None,
    shadow: bool = False,
    merge: Callable[[Sequence[int], Table], list[int]] = merge_by,
) -> list[int]:
    """The numbers of a text, or what a mistake in one of the parts gives. shadow: a special token takes its bytes."""
    last = sorted(tokens, key=lambda i: i in special.values())  # of two with the same bytes the last one counts
    number = {tokens[i]: i for i in last if shadow or i not in special.values()}
    table = {(a, b): (rank, number[tokens[a] + tokens[b]]) for rank, (a, b) in enumerate(merges)}
    cut, found = cut or regex.compile(PATTERNS[pattern]).findall, []
    for i, part in enumerate(cut_at(text, longest_first(allowed)) if allowed else [text]):
        for piece in cut(part) if i % 2 == 0 else ():
            found += merge([number[bytes([byte])] for byte in piece.encode()], table)
        found += [special[part]] if i % 2 else []
    return found


def whole(text: str, tokens: Mapping[int, bytes], merges: Sequence[Pair], special: Mapping[str, int], *others: Any):
    """Takes a token of a piece's bytes, if there is one, without merging."""
    number = {raw: i for i, raw in tokens.items() if i not in special.values()}

    def merge(row: Sequence[int], table: Table) -> list[int]:
        found = number.get(b"".join(tokens[i] for i in row))
        return merge_by(row, table) if found is None else [found]

    return encode(text, tokens, merges, special, *others, merge=merge)


def encodes(
    mine: ModuleType,
    ref: ModuleType,
    rng: torch.Generator,
    *texts: str,
    patterns: Iterable[str] = ("gpt2",),
    allowed: Iterable[Collection[str]] = ((),),
) -> None:
    """Each text by each pattern, with each of the collections of special tokens allowed. Raises Wrong as `suspect`
    does, and mistakes."""
    parts = vocabulary(ref, rng)
    suspect(
        "encode_slowly",
        mine.encode_slowly,
        [(text, *parts, pattern, special) for text in texts for pattern in patterns for special in allowed],
        ref.encode_slowly,
        encode_bytes=partial(encode, merge=lambda tokens, table: list(tokens)),
        encode_pattern=lambda text, tokens, merges, special, pattern, allowed: encode(
            text, tokens, merges, special, "gpt2", allowed
        ),
        encode_across=partial(encode, cut=lambda text: [text]),
        encode_stripped=partial(encode, cut=str.split),
        encode_special_always=lambda text, tokens, merges, special, pattern, allowed: encode(
            text, tokens, merges, special, pattern, special
        ),
        encode_special_never=lambda text, tokens, merges, special, pattern, allowed: encode(
            text, tokens, merges, special, pattern
        ),
        encode_special_bytes=partial(encode, shadow=True),
        encode_whole=whole,
        encode_numbers=partial(encode, merge=partial(merge_by, key=lambda rank, new, i: (new, i))),
    )


@check("encode_slowly", 800)
def encodes_piece_by_piece(mine, ref, rng):
    encodes(mine, ref, rng, "low lower 12 lowlow", "1\n2", "WE'll low", "<|end|>", "")


@check("encode_slowly", 810)
def encodes_special_tokens_where_they_are_allowed(mine, ref, rng):
    allowed = (), ["<|end|>"], ["<|end|>", "<|pad|>"], {"low", "<|pad|>"}
    encodes(mine, ref, rng, "low<|end|> lower<|pad|><|end|>", allowed=allowed)


@check("encode_slowly", 820)
def encodes_by_the_pattern_that_is_named(mine, ref, rng):
    encodes(mine, ref, rng, "12345 LOW'LL\n\nlow (low)\r\n 12", patterns=PATTERNS)


@check("encode_slowly", 830)
def encodes_any_text(mine, ref, rng):
    encodes(mine, ref, rng, "架け橋", "é e\u0301 👩‍👧 \u2028\x00", " ")


# Back to text

BYTE = {byte + 7: bytes([byte]) for byte in range(256)}  # tokens of single bytes, at other numbers


def decodes(mine: ModuleType, ref: ModuleType, strict: str, *cases: tuple[Sequence[int], Mapping[int, bytes]]) -> None:
    """Raises Wrong as `suspect` does, mistakes, and `strict` where bytes are refused."""

    def each(ids: Sequence[int], tokens: Mapping[int, bytes], errors: str) -> list[str]:
        return [tokens[number].decode(errors=errors) for number in ids]

    def joined(ids: Sequence[int], tokens: Mapping[int, bytes]) -> bytes:
        return b"".join(tokens[number] for number in ids)

    try:
        suspect(
            "decode",
            mine.decode,
            cases,
            ref.decode,
            decode_bytes=joined,
            decode_dropped=lambda *case: joined(*case).decode(errors="ignore"),
            decode_by_token=lambda *case: "".join(each(*case, errors="replace")),
            decode_by_token_dropped=lambda *case: "".join(each(*case, errors="ignore")),
            decode_shown=lambda *case: joined(*case).decode(errors="backslashreplace"),
            decode_latin=lambda *case: joined(*case).decode("latin-1"),
            decode_spaced=lambda *case: " ".join(each(*case, errors="replace")),
        )
    except UnicodeDecodeError as error:
        raise Wrong(strict, error=str(error)) from error


@check("decode", 900)
def decodes_characters_of_several_tokens(mine, ref, rng):
    tokens = {3: b"a \xe6", 9: b"\x9e", 4: b"\xb6\xe3\x81", 1: b"\x91 b"}
    texts = ([byte + 7 for byte in text.encode()] for text in ("\ufeffé👩", "a\r\nb\n"))
    cases = ([3, 9, 4, 1], tokens), *((text, BYTE) for text in texts), ([], tokens)
    decodes(mine, ref, "decode_each", *cases)


@check("decode", 910)
def decodes_what_is_no_text(mine, ref, rng):
    rows = b"a\xe6\x9e", b"\xff b\x80", b"\xed\xa0\x80c"
    decodes(mine, ref, "decode_strict", *(([byte + 7 for byte in row], BYTE) for row in rows))


@check("decode", 920)
def decodes_no_number_without_a_token(mine, ref, rng):
    suspect("decode", lambda ids: mine.decode(iter(ids), BYTE), [([104, 112],)], lambda ids: "ai")
    for number in (-1, 263):
        try:
            seen = mine.decode([104, number], BYTE)
        except KeyError:
            continue
        raise Wrong("decode_unknown", number=number, seen=repr(seen))


@check("decode", 930)
def a_book_is_decoded_in_time(mine, ref, rng):
    """Stays: who copies, with each token, all that came before it is stopped by the clock alone."""
    suspect("decode", mine.decode, [([2] * 200_000, {2: b" never ending story"})], ref.decode)


# The house


@check("", 9000)
def reads_and_writes_a_story_in_the_house(mine, ref, rng):
    """Stays: the point of the station. The parts together learn from a text, write it in their tokens, and read it."""
    texts = stations.find("bpe").texts
    story = "\n".join(texts.all(lang)["intro"] for lang in LANGUAGES) + "\n<|end|>"
    theirs = BPETokenizer.train([story], 400)
    tokens = {0: b"<|end|>"} | {1 + i: bytes([byte]) for i, byte in enumerate(mine.byte_signs())}
    merges = [(a + 1, b + 1) for a, b in mine.learn_merges_slowly(mine.count_pieces([story]), 400 - 257)]
    for a, b in merges:
        tokens[len(tokens)] = tokens[a] + tokens[b]
    if parts := first_to_differ(list(tokens.values()), list(theirs.tokens)):
        raise Wrong("house_tokens", **parts)
    for allowed in ((), ("<|end|>",)):
        ids = list(mine.encode_slowly(story, tokens, merges, {"<|end|>": 0}, allowed_special=allowed))
        if parts := first_to_differ([tokens[i] for i in ids], [tokens[i] for i in theirs.encode(story, allowed)]):
            raise Wrong("house_ids", **parts)
        if (seen := mine.decode(ids, tokens)) != story:
            i = next((i for i, (own, right) in enumerate(zip(seen, story, strict=False)) if own != right), 0)
            raise Wrong("house_story", mine=repr(seen[i : i + 30]), ref=repr(story[i : i + 30]))


def first_to_differ(mine: Sequence[bytes], ref: Sequence[bytes]) -> dict[str, Any]:
    """Where two rows of tokens part, and how each goes on; nothing where they are equal."""
    for i in range(max(len(mine), len(ref))):
        if mine[i : i + 1] != ref[i : i + 1]:
            return {"place": i, "mine": spelled(mine[i : i + 4]), "ref": spelled(ref[i : i + 4])}
    return {}


def spelled(tokens: Sequence[bytes]) -> str:
    return " ".join(repr(token.decode(errors="backslashreplace")) for token in tokens) or "-"
