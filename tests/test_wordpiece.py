"""WordPiece: every text has tokens, what is normalised alike is read alike, and greedy means the longest piece."""

import json
import random
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi import tokenizers
from kakehashi.tokenizers import END, TokenizerError, WordPieceTokenizer
from kakehashi.tokenizers.wordpiece import MORE, UNKNOWN, words

JAPANESE = "カードを再発行したい。暗証番号を忘れました"
TEXTS = ["I'm waiting for my card", "waited, wait: the card is on its way!", "Cards? 2 cards.", JAPANESE]
TOKENIZER = WordPieceTokenizer.train([text + mark for text in TEXTS for mark in ".!?"], 200)


@given(st.lists(st.text(), min_size=1).filter(lambda texts: any(map(words, texts))), st.integers(4, 60))
def test_what_was_trained_on_comes_back_as_its_words_but_for_what_is_unknown(texts, more):
    """With room for every character, in both its forms, nothing is unknown."""
    room = 2 + 2 * len(set("".join(map("".join, map(words, texts)))))
    for size in (room + more, more):
        tokenizer = WordPieceTokenizer.train(texts, size)
        assert tokenizer.vocab_size <= size
        for text in texts:
            ids = tokenizer.encode(text)
            assert all(0 < i < tokenizer.vocab_size for i in ids)
            if size > room:
                assert tokenizer.decode(ids) == " ".join(words(text))
                assert tokenizer.encode(tokenizer.decode(ids)) == ids


@given(st.text(st.characters(), max_size=60))  # every code point, surrogates, too
def test_every_text_has_tokens(text):
    ids = TOKENIZER.encode(text)
    assert len(ids) <= sum(map(len, words(text))) and bool(ids) == bool(words(text))
    TOKENIZER.decode(ids)


@given(st.text(st.characters(), max_size=60))
def test_the_words_of_words_are_the_same_words(text):
    found = words(text)
    assert [each for word in found for each in words(word)] == found == words(" ".join(found))


@given(st.text(st.sampled_from("waitcrdsingfory'? "), max_size=30))
def test_each_piece_is_the_longest_that_is_there(text):
    """By the definition: no longer token of the vocabulary begins where a piece does."""
    ids = iter(TOKENIZER.encode(text))
    for word in words(text):
        at = 0
        while at < len(word):
            fits = [i for i in range(2, TOKENIZER.vocab_size) if _fits(TOKENIZER.tokens[i], word, at)]
            longest = max(fits, key=lambda i: len(TOKENIZER.tokens[i]), default=TOKENIZER.unknown)
            assert next(ids) == longest
            at += len(TOKENIZER.tokens[longest].removeprefix(MORE)) if fits else 1
    assert next(ids, None) is None


def _fits(token: str, word: str, at: int) -> bool:
    return token.startswith(MORE) == (at > 0) and word.startswith(token.removeprefix(MORE if at else ""), at)


@pytest.mark.parametrize(
    "text, found",
    [
        ("ｶﾞＡ", ["ガ", "a"]),
        ("ＣＡＲＤ２", ["card2"]),
        ("Straße", ["strasse"]),
        ("don't_stop", ["don", "'", "t", "_", "stop"]),
        ("カードを再発行したい。", ["カード", "を", "再発行", "したい", "。"]),
        ("PINを", ["pin", "を"]),
        ("架け橋", ["架", "け", "橋"]),
        ("𠮷野家 人々", ["𠮷野家", "人々"]),
        ("한국어 русский", ["한국어", "русский"]),
        (" \n\t　", []),
    ],
)
def test_words(text, found):
    assert words(text) == found


def test_training_depends_on_what_the_texts_hold_and_not_on_their_order():
    texts = [text + mark for text in TEXTS for mark in ("", ".", "!", " card")]
    made = WordPieceTokenizer.train(texts, 120)
    assert "card" in made.tokens
    random.Random(0).shuffle(texts)
    assert WordPieceTokenizer.train(iter(texts), 120) == made


def test_the_most_frequent_neighbours_become_a_piece_first():
    """By hand: of "ab" 18, "abc" 6, "bc" 9: a ##b is there 24 times, b ##c 9, then ab ##c 6; each in three texts."""
    texts = ["ab " * n + "abc " * 2 + "bc " * 3 for n in (5, 6, 7)]
    tokenizer = WordPieceTokenizer.train(texts, 100)
    assert tokenizer.tokens == (END, UNKNOWN, "b", "a", "c", "##b", "##a", "##c", "ab", "bc", "abc")
    assert WordPieceTokenizer.train(texts, 9).tokens == tokenizer.tokens[:9]


@given(
    st.lists(st.text(st.sampled_from("aab "), max_size=12), min_size=3, max_size=12).filter(
        lambda texts: any(map(words, texts))
    )
)
def test_merges_are_those_of_the_slow_way(texts):
    """By the definition: all pairs counted anew at every merge, those in fewer than three different texts left out."""
    tokenizer = WordPieceTokenizer.train(texts, 40)
    cut = [[[word[0], *(MORE + c for c in word[1:])] for word in words(text)] for text in texts]
    merged = []
    while True:
        counts, holders = Counter(), defaultdict(set)
        for text, some in zip(texts, cut, strict=True):
            for pair in (pair for pieces in some for pair in pairwise(pieces)):
                counts[pair] += 1
                holders[pair].add(tuple(words(text)))
        pairs = [pair for pair in counts if len(holders[pair]) >= 3]
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-counts[pair], pair))
        new = left + right.removeprefix(MORE)
        merged += [new] * (new not in merged)
        for pieces in (pieces for some in cut for pieces in some):
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == (left, right):
                    pieces[i : i + 2] = [new]
                i += 1
    n = 2 + 2 * len(set("".join(map("".join, map(words, texts)))))
    assert list(tokenizer.tokens[n:]) == merged[: 40 - n]


def test_no_piece_tells_of_fewer_than_three_texts():
    texts = [
        f"please call {name} at home" for name in ("sakamoto", "Ｓａｋａｍｏｔｏ", "sakamoto ", "tanaka", "watanabe")
    ]
    tokens = WordPieceTokenizer.train(texts * 5, 1000).tokens  # the three of sakamoto are one text
    assert "please" in tokens and not any(each.removeprefix(MORE) in ("saka", "moto", "sakamoto") for each in tokens)
    tokens = WordPieceTokenizer.train([*texts, "sakamoto", "and sakamoto"], 1000).tokens
    assert "sakamoto" in tokens


def test_what_is_longer_than_a_word_teaches_no_pieces():
    rng = random.Random(0)
    keys = ["".join(rng.choice("abcdefghij0123456789") for _ in range(2000)) for _ in range(20)]  # all pairs, 100 times
    tokens = WordPieceTokenizer.train([f"the key {key}" for key in keys], 8000).tokens
    assert [each for each in tokens[2:] if len(each.removeprefix(MORE)) > 2] == ["key", "the"]


def test_only_the_character_that_is_in_no_piece_is_unknown():
    pieces = [TOKENIZER.tokens[i] for i in TOKENIZER.encode("waitλwait λ")]
    assert pieces == ["wait", UNKNOWN, "##w", "##a", "##it", UNKNOWN]


def test_what_spells_a_special_token_or_a_piece_is_its_signs():
    tokenizer = WordPieceTokenizer.train([f"{END} {UNKNOWN} {MORE}ing waiting"], 300)
    for text in (END, UNKNOWN, f"{MORE}ing"):
        assert not {tokenizer.end, tokenizer.unknown} & set(tokenizer.encode(text))
        assert tokenizer.decode(tokenizer.encode(text)) == " ".join(words(text))


def test_a_word_without_end_is_cut_in_a_moment():
    assert len(TOKENIZER.encode("a" * 200_000)) <= 200_000
    known = WordPieceTokenizer.train([f"{'ab' * 20} {i}" for i in range(3)], 30)
    assert len(known.encode("ab" * 20_000)) < 20_000


@settings(max_examples=20)
@given(st.lists(st.text(), min_size=1).filter(lambda texts: any(map(words, texts))))
def test_what_is_written_is_read_back(texts):
    tokenizer = WordPieceTokenizer.train(texts, 30)
    back = tokenizers.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert back == tokenizer and [back.encode(text) for text in texts] == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(
    "change, why",
    [
        ({"format": 2}, "format 1"),
        ({"kind": "char"}, "kind 'wordpiece'"),
        ({"tokens": "ab"}, "list of strings"),
        ({"tokens": [END, UNKNOWN, 3]}, "list of strings"),
        ({"tokens": [END, "a"]}, "must begin with"),
        ({"tokens": [END, UNKNOWN, "a", "a"]}, "distinct and not empty, got 'a'"),
        ({"tokens": [END, UNKNOWN, ""]}, "distinct and not empty, got ''"),
    ],
)
def test_a_content_that_is_no_tokenizer_is_named(change, why):
    with pytest.raises(TokenizerError, match=why):
        WordPieceTokenizer.from_dict(TOKENIZER.to_dict() | change)


def test_nothing_to_learn_from_no_room_for_it_and_a_number_outside_the_vocabulary_are_errors():
    with pytest.raises(TokenizerError, match="at least 4.* got 3"):
        WordPieceTokenizer.train(["a"], 3)
    with pytest.raises(TokenizerError, match="no word"):
        WordPieceTokenizer.train(["", " \n"])
    for number in (-1, TOKENIZER.vocab_size):
        with pytest.raises(KeyError):
            TOKENIZER.decode([number])
