"""Character tokenizers: what goes in comes out, and what cannot go in is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kakehashi import Mistake, tokenizers
from kakehashi.tokenizers import END, CharTokenizer, TokenizerError, UnknownCharacter


@given(st.lists(st.text(), min_size=1).filter(any))
def test_decode_undoes_encode_for_every_text_trained_on(texts):
    tokenizer = CharTokenizer.train(texts)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts
    assert tokenizer.vocab_size == len(set("".join(texts))) + 1


def test_end_is_token_0_and_decodes_to_nothing():
    tokenizer = CharTokenizer.train(["ba"])
    assert tokenizer.tokens == (END, "a", "b")
    assert (tokenizer.end, tokenizer.decode([0, 2, 1, 0])) == (0, "ba")


def test_the_alphabet_does_not_depend_on_the_order_of_the_texts():
    assert CharTokenizer.train(["猫は", "neko"]) == CharTokenizer.train(iter(["neko", "は猫", "猫"]))


def test_a_text_that_spells_end_is_just_its_characters():
    tokenizer = CharTokenizer.train([END])
    assert 0 not in tokenizer.encode(END)
    assert tokenizer.decode(tokenizer.encode(END)) == END


def test_an_unknown_character_is_named_with_its_place_and_the_alphabet():
    tokenizer = CharTokenizer.train(["abc"])
    with pytest.raises(UnknownCharacter, match=r"'é' at place 4 of the text; the 3 characters .* are 'abc'$") as caught:
        tokenizer.encode("abcéz")
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, Mistake)


def test_a_large_alphabet_is_not_printed_whole():
    with pytest.raises(UnknownCharacter, match=r"5000 characters") as caught:
        CharTokenizer.train([chr(0x4E00 + i) for i in range(5000)]).encode("a")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("number", [-1, 3])
def test_a_number_outside_the_vocabulary_is_an_error_and_does_not_wrap_around(number):
    with pytest.raises(KeyError):
        CharTokenizer.train(["ab"]).decode([number])


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_text_is_no_alphabet(texts):
    with pytest.raises(TokenizerError, match="no character"):
        CharTokenizer.train(texts)


def test_a_written_tokenizer_is_read_back(tmp_path):
    tokenizer = CharTokenizer.train(['架け橋 "\\\n\u2028😀'])
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer.to_dict()), encoding="utf-8")
    assert tokenizers.load(path) == tokenizer


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not JSON"),
        ("[1]", "holds a list"),
        ('{"format": 1, "kind": ["char"]}', "no tokenizer of kind"),
        ('{"format": 1, "kind": "letters"}', "no tokenizer of kind 'letters'"),
        ('{"format": 2, "kind": "char", "tokens": ["<|end|>", "a"]}', "format 1"),
        ('{"format": 1, "kind": "char"}', "list of strings"),
        ('{"format": 1, "kind": "char", "tokens": ["<|end|>", 5]}', "list of strings"),
        ('{"format": 1, "kind": "char", "tokens": ["a", "b"]}', "'<|end|>' and then"),
        ('{"format": 1, "kind": "char", "tokens": ["<|end|>", "a", "a"]}', "distinct"),
        ('{"format": 1, "kind": "char", "tokens": ["<|end|>", "ab"]}', "single characters"),
        ('{"format": 1, "kind": "char", "tokens": ["<|end|>"]}', "single characters"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_one_line_with_its_name(tmp_path, content, why):
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError) as caught:
        tokenizers.load(path)
    assert why in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(TokenizerError, match="cannot read the tokenizer"):
        tokenizers.load(tmp_path / "none.json")
