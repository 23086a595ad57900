"""The tokenizer of words, and texts split in their order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kakehashi import data, tokenizers, training
from kakehashi.runs import Run
from kakehashi.tokenizers import TokenizerError
from kakehashi.tokenizers.words import UNKNOWN, WordTokenizer

WORDS = st.lists(st.text("abcE12.=", min_size=1, max_size=4), min_size=1, max_size=12)


@given(WORDS, st.text(" \t", min_size=1, max_size=3))
def test_what_was_learnt_comes_back_joined_by_blanks(words, between):
    tokenizer = WordTokenizer.train([between.join(words)])
    ids = tokenizer.encode(between.join(words))
    assert len(ids) == len(words) and min(ids) > 1 and tokenizer.decode(ids) == " ".join(words)
    assert tokenizer.vocab_size == len(set(words)) + 2


def test_what_was_never_seen_is_one_token_and_no_text_ends_itself():
    tokenizer = WordTokenizer.train(["E1 E2"])
    assert tokenizer.encode(f"E9 E2 {tokenizers.END} {UNKNOWN}") == [1, 3, 1, 1]
    assert tokenizer.decode([0, 2, 1, 0]) == f"E1 {UNKNOWN}"
    with pytest.raises(KeyError):
        tokenizer.decode([-1])


def test_it_is_read_back_by_its_kind(tmp_path):
    tokenizer = WordTokenizer.train(["E1 E2.1=b3"])
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer.to_dict()), encoding="utf-8")
    assert tokenizers.load(path) == tokenizer


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"format": 2, "tokens": []}, "need format 1"),
        ({"format": 1, "tokens": "E1"}, "must be a list of strings"),
        ({"format": 1, "tokens": [tokenizers.END, UNKNOWN]}, "and then distinct words"),
        ({"format": 1, "tokens": [UNKNOWN, tokenizers.END, "E1"]}, "and then distinct words"),
        ({"format": 1, "tokens": [tokenizers.END, UNKNOWN, "E1", "E1"]}, "and then distinct words"),
        ({"format": 1, "tokens": [tokenizers.END, UNKNOWN, "E 1"]}, "a word has no blanks"),
        ({"format": 1, "tokens": [tokenizers.END, UNKNOWN, ""]}, "a word has no blanks"),
    ],
)
def test_what_is_no_tokenizer_is_refused_in_one_line(content, said):
    with pytest.raises(TokenizerError, match=said) as caught:
        tokenizers.from_dict({"kind": "words"} | content)
    assert "\n" not in str(caught.value)


def test_texts_without_a_word_teach_nothing():
    with pytest.raises(TokenizerError, match="no word"):
        WordTokenizer.train(["", f"  {UNKNOWN}"])


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "days.txt"
    path.write_text("".join(f"day{i % 7} of{i % 3}\n" for i in range(50)), encoding="utf-8")
    return path


def test_a_split_in_order_validates_on_the_last_fifth(lines):
    corpus = data.corpus(lines, unit="document")
    split = corpus.order_split()
    assert split.train + split.val == corpus.documents and len(split.val) == 10
    with pytest.raises(data.DataError, match="--unit document"):
        data.corpus(lines).order_split()


def test_a_run_goes_on_from_its_own_copy_of_the_data(lines, tmp_path):
    """Its data, split and words are found again when the file that it was made from is gone."""
    tokenizer = WordTokenizer.train(data.corpus(lines, unit="document").documents)
    plan = training.plan("lstm-logs", lines, unit="document", split="order", tokenizer=tokenizer, steps=2)
    run = plan.create(tmp_path / "runs", keep="days.txt")
    lines.unlink()
    run = Run.open(run.path)
    assert run.private and run.config.data.source == str((run.path / "days.txt").resolve())
    assert training.open_split(run.config) == plan.split
    assert training.train(run.config, run).summary()["step"] == 2
    assert run.tokenizer == tokenizer
