"""SentencePiece's BPE. The oracle is Hugging Face's `tokenizers`, token by token, with merges that it has learnt."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_bpe import NASTY, corpora

from kakehashi import tokenizers
from kakehashi.inference import Engine
from kakehashi.models.protocol import Output
from kakehashi.tokenizers import PieceTokenizer, TokenizerError
from kakehashi.tokenizers.bpe import merge_slowly
from kakehashi.tokenizers.piece_formats import from_hf, to_hf
from kakehashi.tokenizers.pieces import BYTES, MARK, PREFIXES, merge

ODD = [*NASTY, " ", " a", "  a  b ", "a ", f"{MARK}a {MARK}", "<0x0A>\n", "\n a"]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("ab  \né架▁", max_size=60)


@cache
def files() -> dict:
    """A tokenizer.json as Llama 2's is, with what `tokenizers` learns from real text."""
    hf = pytest.importorskip("tokenizers")
    learner = hf.Tokenizer(hf.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    learner.pre_tokenizer = hf.pre_tokenizers.Metaspace(prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>", *BYTES]
    trainer = hf.trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=[MARK], limit_alphabet=300, show_progress=False
    )
    learner.train_from_iterator((line for each in corpora().values() for line in each.splitlines()), trainer)
    learner.normalizer = hf.normalizers.Sequence([hf.normalizers.Prepend(MARK), hf.normalizers.Replace(" ", MARK)])
    unmark = [hf.decoders.Replace(MARK, " "), hf.decoders.ByteFallback(), hf.decoders.Fuse(), hf.decoders.Strip(" ", 1)]
    learner.decoder = hf.decoders.Sequence(unmark)
    learner.post_processor = hf.processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    content = json.loads(learner.to_str())
    content["added_tokens"] = [each for each in content["added_tokens"] if each["id"] < 3]
    return content | {"pre_tokenizer": None}


@cache
def ours(prefix: str = "prepend") -> PieceTokenizer:
    return replace(from_hf(files()), prefix=prefix)


@cache
def theirs(prefix: str = "prepend"):
    content = files() if prefix == "prepend" else to_hf(ours(prefix))
    return pytest.importorskip("tokenizers").Tokenizer.from_str(json.dumps(content))


def same(prefix: str, text: str) -> None:
    ids = ours(prefix).encode(text)
    assert ids == theirs(prefix).encode(text, add_special_tokens=False).ids
    assert ours(prefix).decode(ids) == theirs(prefix).decode(ids)


def test_tokens_equal_those_of_tokenizers_on_real_text():
    for each in corpora().values():
        same("prepend", each)
        assert ours().decode(ours().encode(each)) == each


@pytest.mark.parametrize("prefix", PREFIXES)
def test_tokens_equal_those_of_tokenizers_on_odd_text(prefix):
    for each in ODD:
        same(prefix, each)


@settings(max_examples=60)
@given(st.sampled_from(PREFIXES), text)
def test_tokens_equal_those_of_tokenizers_on_any_text(prefix, text):
    same(prefix, text)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(*[st.text("ab▁", min_size=1, max_size=2)] * 2), unique=True, max_size=20),
    st.text("aab é", max_size=30),
)
@example([("a", MARK), (f"a{MARK}", "b")], "aa ab a")
def test_any_merges_are_done_as_tokenizers_does_them(pairs, text):
    """Marks inside tokens, too, which real vocabularies have not: then no cut between words is safe."""
    tokens = dict.fromkeys(["<s>", *BYTES, "a", "b", MARK, *(part for pair in pairs for part in pair)])
    tokens |= dict.fromkeys(left + right for left, right in pairs)
    number = {each: i for i, each in enumerate(tokens)}
    merges = tuple((number[left], number[right]) for left, right in pairs)
    made = PieceTokenizer(tuple(tokens), merges, {"<s>": 0}, 0)
    peer = pytest.importorskip("tokenizers").Tokenizer.from_str(json.dumps(to_hf(made)))
    assert made.encode(text) == peer.encode(text).ids


@settings(max_examples=100)
@given(st.dictionaries(st.tuples(*[st.integers(0, 4)] * 2), st.integers(0, 6), max_size=9), st.data())
def test_the_fast_merges_are_the_slow_ones(made, data):
    merges = {pair: (rank, new) for rank, (pair, new) in enumerate(made.items())}
    tokens = data.draw(st.lists(st.integers(0, 4), max_size=30))
    assert merge(tokens, merges) == merge_slowly(tokens, merges)


def test_a_long_text_without_spaces_ends():
    japanese = corpora()["Japanese"].replace(" ", "") * 5
    assert ours().decode(ours().encode(japanese)) == japanese


def test_what_begins_and_ends_a_text_is_read():
    assert (ours().bos, ours().begin, ours().end, ours().ends) == (1, 1, 2, (2,))
    assert theirs().encode("a b").ids == [ours().begin, *ours().encode("a b")]
    assert ours().decode([1, *ours().encode("a"), 2]) == "a"
    assert not {0, 1, 2} & set(ours().encode("<s> </s> <unk>"))


def test_what_goes_on_with_a_space_keeps_it_and_a_text_has_none_at_its_beginning():
    class Saying(torch.nn.Module):
        """Goes on with " the cat", token after token."""

        config = type("Config", (), {"vocab_size": ours().vocab_size})

        def forward(self, tokens, targets=None):
            row = ours().encode("the cat")
            follows = {ours().begin: row[0], row[-1]: row[0], **dict(pairwise(row))}
            following = torch.tensor([[follows[int(token)] for token in each] for each in tokens])
            return Output(torch.nn.functional.one_hot(following, ours().vocab_size).float())

    engine, n = Engine(Saying(), ours()), len(ours().encode("the cat"))
    for prompt, text in (("", "the cat"), ("the cat", " the cat")):
        (completion,) = engine.generate([prompt], max_tokens=n, temperature=0)
        assert completion.text == text == "".join(engine.stream(prompt, max_tokens=n, temperature=0))


def test_half_a_character_is_no_text():
    number = {each: i for i, each in enumerate(ours().tokens)}
    halves = [number[f"<0x{byte:02X}>"] for byte in "架".encode()]
    assert ours("never").decode(halves) == "架" and ours("never").decode(halves[:2]) == "\ufffd"
    with pytest.raises(KeyError):
        ours().decode([-1])
    with pytest.raises(TokenizerError, match="half of a surrogate pair"):
        ours().encode("a\ud83d")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_is_written_is_read_back(prefix, tmp_path):
    tokenizer = replace(ours(prefix), stops=(5, 7))
    assert tokenizers.load(tokenizers.save(tokenizer, tmp_path / "own")) == tokenizer
    path = tokenizers.save(tokenizer, tmp_path / "hf", "hf")
    assert tokenizers.load(path) == ours(prefix)
    with pytest.raises(TokenizerError, match="write a tokenizer.json"):
        tokenizers.save(tokenizer, tmp_path / "gpt2", "gpt2")


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"normalizer": {"type": "NFKC"}}, "how Llama 2 and Mistral mark spaces, .*NFKC"),
        ({"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "split": True}}, "Metaspace"),
        ({"decoder": None}, "decoder {}"),
        ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
    ],
)
def test_another_way_to_mark_spaces_is_refused_by_name(parts, why):
    with pytest.raises(TokenizerError, match=why):
        from_hf(files() | parts)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"tokens": ("<s>",)}, r"no token is the byte <0x00>"),
        ({"merges": ((0, 9999),)}, "merge 0 is of tokens 0, 9999"),
        ({"merges": ((5, 6),)}, "merge 0, of tokens 5, 6, makes no token"),
        ({"special": {"<s>": 3}}, "number 3"),
        ({"end": 5}, "end must be"),
        ({"bos": 5}, "bos must be"),
        ({"stops": (-1,)}, "stops must be numbers of tokens"),
        ({"prefix": "last"}, "prefix must be one of"),
    ],
)
def test_parts_that_do_not_fit_are_one_line(parts, why):
    with pytest.raises(TokenizerError, match=why) as caught:
        replace(PieceTokenizer(("<s>", *BYTES, "a"), (), {"<s>": 0}, 0), **parts)
    assert "\n" not in str(caught.value)
