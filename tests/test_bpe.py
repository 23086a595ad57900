"""Byte-level BPE. The oracles are the loops as they are told, and Hugging Face's `tokenizers`, token by token."""

import gzip
import json
import random
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kakehashi import Mistake, data, texts, tokenizers, training
from kakehashi.data import stdlib_code
from kakehashi.inference import Engine
from kakehashi.models.protocol import Output
from kakehashi.tokenizers import END, BPETokenizer, TokenizerError
from kakehashi.tokenizers.bpe import byte_signs, encode_slowly, learn_merges_slowly, merge_slowly
from kakehashi.tokenizers.bpe_encoding import Merger
from kakehashi.tokenizers.bpe_formats import from_gpt2, from_hf, to_gpt2, to_hf
from kakehashi.tokenizers.bpe_training import learn_merges
from kakehashi.tokenizers.byte_alphabet import BYTES, NUMBER, read, written
from kakehashi.tokenizers.patterns import PATTERNS

ROOT = Path(__file__).resolve().parent.parent
EOT = "<|eot|>"
NASTY = [
    "",
    "\x00\x00 \x00",
    "a\r\n\r\n  b\n \n\t\tc   ",
    "x\u00a0\u00a0y \u2028z\u3000w",
    "e\u0301 u\u0308\u0323 \u1e09",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇯🇵🇩🇪",
    "שלום مرحبا \u202eabc\u202c",
    "I'll don't WE'VE 'S ſ'ſ they'D 'tis",
    "1234567 ½ ٣٤ Ⅻ 一二三",
    "\ufeff\ufffd\uffff \U0010ffff",
    "架け橋へようこそ。トークナイザを作る。",
    "Ġthe Ċ <|endoftext|>",
    10_000 * "a",
    10_000 * " " + "b",
]
# Code points that are not assigned are left out: each side has the tables of its own version of Unicode
unicode_text = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60)
clumsy_text = st.text(alphabet="aab \n\r'sS1é架👩\u200d\u0301\u00a0!", max_size=60)


@cache
def corpora() -> dict[str, str]:
    """Real texts, some 40,000 characters each, without END, which the peer takes for the special token."""
    names = sorted((texts.HERE / "ja").glob("*.toml"))
    found = {
        "code": "\n".join(text for _, text in stdlib_code.files()[:20])[:40_000],
        "Japanese": "\n".join(path.read_text(encoding="utf-8") for path in names)[:40_000],
        "docs": "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))[:40_000],
    }
    return {name: text.replace(END, "") for name, text in found.items()}


@pytest.fixture
def real(data_dir) -> dict[str, str]:
    german = gzip.decompress((data_dir / "multi30k-de-en" / "val.de.gz").read_bytes()).decode("utf-8")
    play = data.read_text(data_dir / "tinyshakespeare" / "input.txt")
    return corpora() | {"German": german[:40_000], "play": play[:40_000]}


@cache
def learnt(pattern: str = "gpt2") -> BPETokenizer:
    return BPETokenizer.train(corpora().values(), 1500, pattern, [EOT])


@cache
def peer(pattern: str = "gpt2"):
    return hugging_face(learnt(pattern))


def hugging_face(tokenizer: BPETokenizer):
    """The peer that reads what we write."""
    return pytest.importorskip("tokenizers").Tokenizer.from_str(json.dumps(to_hf(tokenizer)))


def slowly(tokenizer: BPETokenizer, text: str, allowed_special=()) -> list[int]:
    """Encoded as it is told."""
    tokens = dict(enumerate(tokenizer.tokens))
    return encode_slowly(text, tokens, tokenizer.merges, tokenizer.special, tokenizer.pattern, allowed_special)


def all_splits(tokenizer: BPETokenizer) -> BPETokenizer:
    """With a merge for each way to cut a token in two tokens, in the order in which tiktoken's files are converted."""
    numbers = {token: i for i, token in enumerate(tokenizer.tokens)}
    merges = []
    for token in tokenizer.tokens[len(tokenizer.special) + 256 :]:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += sorted((numbers[a], numbers[b]) for a, b in cuts if a in numbers and b in numbers)
    return replace(tokenizer, merges=tuple(merges))


# --- Learning ---


def test_the_words_of_sennrichs_paper():
    """ "es" and "st" occur 9 times, "lo" 7, "ne", "ew" and "we" 6: of equal counts, the lower letters."""
    words = {b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}
    spelled = [bytes([byte]) for byte in BYTES]
    for left, right in learn_merges(words, 7):
        spelled.append(spelled[left] + spelled[right])
    assert spelled[256:] == [b"es", b"est", b"lo", b"low", b"ew", b"new", b"newest"]


@settings(max_examples=60)
@given(st.dictionaries(st.text("ab ", min_size=1, max_size=14).map(str.encode), st.integers(1, 5), max_size=8))
def test_the_fast_trainer_learns_what_the_slow_one_does(words):
    assert learn_merges(words, 30) == learn_merges_slowly(words, 30)


def test_both_trainers_learn_the_same_from_real_text():
    words = {word.encode(): n for n, word in enumerate(dict.fromkeys(corpora()["Japanese"].split()[:300]), 1)}
    assert learn_merges(words, 60) == learn_merges_slowly(words, 60) and len(learn_merges(words, 60)) == 60


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tokenizers_learns_the_same_tokens_with_the_same_numbers(pattern, real):
    hf = pytest.importorskip("tokenizers")
    theirs = hf.Tokenizer(hf.models.BPE())
    split = hf.pre_tokenizers.Split(hf.Regex(PATTERNS[pattern]), "isolated")
    byte_level = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.pre_tokenizer = hf.pre_tokenizers.Sequence([split, byte_level])
    trainer = hf.trainers.BpeTrainer(
        vocab_size=1200,
        min_frequency=2,
        special_tokens=[END, EOT],
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(real.values(), trainer)
    ours = BPETokenizer.train(real.values(), 1200, pattern, [EOT])
    assert theirs.get_vocab() == {written(token): number for number, token in enumerate(ours.tokens)}


def test_the_alphabet_of_bytes_is_that_of_tokenizers():
    hf = pytest.importorskip("tokenizers")
    assert list(byte_signs().values()) == sorted(hf.pre_tokenizers.ByteLevel.alphabet())
    theirs = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for character in "\x00 ~\x7f\xa0\xad\xae\xff架👩\U0010ffff":
        assert written(character.encode()) == theirs.pre_tokenize_str(character)[0][0]


def test_a_pair_that_occurs_once_is_no_merge():
    assert BPETokenizer.train(["abcab", "xyz"], 5000).tokens[257:] == (b"ab",)


def test_end_is_token_0_then_special_tokens_and_bytes():
    tokenizer = learnt()
    assert (tokenizer.end, tokenizer.special) == (0, {END: 0, EOT: 1})
    assert b"".join(tokenizer.tokens[2:258]) == BYTES and len(tokenizer.tokens) == tokenizer.vocab_size == 1500


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((["a"], 256), "at least 257, for all bytes, got 256"),
        ((["a"], 258, "gpt2", ["x", "y"]), "at least 259"),
        ((["a"], 300, "gpt9"), "one of gpt2, llama3, qwen2, got 'gpt9'"),
        ((["a"], 300, "gpt2", [END]), "distinct"),
        ((["a"], 300, "gpt2", [""]), "not empty"),
        (([], 300), "nothing to learn from"),
        ((["a\ud83d"], 300), r"character 2 of the text is '\\ud83d'"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(arguments, why):
    with pytest.raises(TokenizerError, match=why) as caught:
        BPETokenizer.train(*arguments)
    assert "\n" not in str(caught.value)


# --- Encoding ---


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tokens_equal_those_of_tokenizers_on_real_text(pattern, real):
    for name, text in real.items():
        assert learnt(pattern).encode(text) == peer(pattern).encode(text).ids, name
        assert learnt(pattern).decode(learnt(pattern).encode(text)) == text


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", NASTY, ids=lambda text: repr(text[:12]))
def test_tokens_equal_those_of_tokenizers_on_nasty_text(pattern, text):
    ours = learnt(pattern).encode(text)
    assert ours == peer(pattern).encode(text).ids
    assert learnt(pattern).decode(ours) == text


@settings(max_examples=60)
@given(st.sampled_from(sorted(PATTERNS)), unicode_text | clumsy_text)
def test_tokens_equal_those_of_tokenizers_on_any_text(pattern, text):
    ours = learnt(pattern).encode(text)
    assert ours == peer(pattern).encode(text).ids
    assert learnt(pattern).decode(ours) == text


@settings(max_examples=60)
@given(st.text("ab ", max_size=40), st.text("ab ", max_size=40))
def test_tokens_are_those_of_the_merges_done_one_by_one(seen, text):
    tokenizer = BPETokenizer.train([seen + "a"], 290)
    assert tokenizer.encode(text) == slowly(tokenizer, text)
    many = all_splits(tokenizer)
    assert many.encode(text) == slowly(many, text)


SHORT = ["".join(letters).encode() for n in range(2, 5) for letters in product("ab", repeat=n)]  # tokens of letters
CUTS = [(token[:i], token[i:]) for token in SHORT for i in range(1, len(token))]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(CUTS), unique=True, max_size=25), st.text("ab", max_size=24))
def test_any_list_of_merges_is_done_as_told_or_refused(cuts, text):
    """Lists that no training gives: with merges out of order, merges that are never done, tokens that none makes."""
    numbers = {bytes([byte]): number for byte, number in NUMBER.items()}
    numbers |= {token: 256 + i for i, token in enumerate(SHORT)}
    pairs = [(numbers[left], numbers[right]) for left, right in cuts]
    merges = {
        pair: (rank, numbers[left + right]) for rank, (pair, (left, right)) in enumerate(zip(pairs, cuts, strict=True))
    }
    try:
        merger = Merger(numbers, pairs)
    except TokenizerError:
        assume(False)
    told = merge_slowly([NUMBER[byte] for byte in text.encode()], merges)
    assert list(merger.tokens_of(text.encode())) == told


def test_merges_that_are_never_done_change_nothing(real):
    """A list made from tiktoken's ranks has a merge for every way to cut a token in two."""
    many = all_splits(learnt("llama3"))
    assert len(many.merges) > 1.1 * len(learnt("llama3").merges)
    theirs = hugging_face(many)
    for text in real.values():
        assert many.encode(text) == learnt("llama3").encode(text) == theirs.encode(text).ids


def test_a_merge_before_those_of_its_parts_is_refused():
    numbers = {bytes([byte]): number for byte, number in NUMBER.items()} | {b"bc": 256, b"abc": 257}
    a, b, c = (NUMBER[byte] for byte in b"abc")
    assert Merger(numbers, [(b, c), (a, 256)]).tokens_of(b"abcbc") == (257, 256)
    with pytest.raises(TokenizerError, match=rf"merge 0 stands before .*, tokens {a}, 256"):
        Merger(numbers, [(a, 256), (b, c)])


@pytest.mark.parametrize(("unit", "n"), [("a", 1_000_000), (" ", 100_000), ("ab", 100_000), ("架", 30_000)])
def test_a_long_run_ends(unit, n):
    text = n * unit
    tokenizer = BPETokenizer.train([text], 400)
    ids = tokenizer.encode(text)
    assert len(ids) < 30 and tokenizer.decode(ids) == text
    without_merges = BPETokenizer.train(["a"], 400)
    assert len(without_merges.encode(text[:50_000])) == len(text[:50_000].encode())


def test_long_pieces_of_random_letters_have_the_tokens_of_tokenizers():
    letters = "".join(random.Random(5).choices("etaoinshrdlu", k=50_000))
    assert learnt().encode(letters) == peer().encode(letters).ids


def test_special_tokens_come_from_plain_text_only_where_allowed():
    tokenizer, text = learnt(), f"a{END}b{EOT}{EOT}"
    assert not {0, 1} & set(tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    a, b = tokenizer.encode("a"), tokenizer.encode("b")
    assert tokenizer.encode(text, [EOT]) == [*tokenizer.encode(f"a{END}b"), 1, 1]
    assert tokenizer.encode(text, "all") == [*a, 0, *b, 1, 1] == peer().encode(text).ids
    assert slowly(tokenizer, text, [EOT]) == tokenizer.encode(text, [EOT])
    assert tokenizer.decode(tokenizer.encode(text, "all")) == f"ab{EOT}{EOT}", "the end decodes to nothing"
    with pytest.raises(TokenizerError, match=r"'<\|pad\|>' is no special token; there are <\|end\|>, <\|eot\|>"):
        tokenizer.encode(text, ["<|pad|>"])


def test_of_special_tokens_that_begin_alike_the_longest_is_taken():
    tokenizer = BPETokenizer.train(["ab"], 300, special=["<x", "<x>", "x>"])
    text = "<x><xx>"
    assert tokenizer.encode(text, "all") == [2, 1, 3] == hugging_face(tokenizer).encode(text).ids


@given(st.binary(max_size=40))
def test_any_bytes_have_tokens_and_come_back(raw):
    tokenizer = learnt()
    ids = [tokenizer.tokens.index(bytes([byte]), 2) for byte in raw]
    assert tokenizer.decode_bytes(ids) == raw and tokenizer.decode(ids) == raw.decode(errors="replace")
    assert read(written(raw)) == raw


@pytest.mark.parametrize("number", [-1, 1500])
def test_a_number_outside_the_vocabulary_is_an_error(number):
    with pytest.raises(KeyError):
        learnt().decode([number])


@pytest.mark.parametrize("special", [(), "all"])
def test_half_of_a_surrogate_pair_is_refused_in_one_line(special):
    with pytest.raises(TokenizerError, match=r"character \d+ of the text is '\\udc80', half of a surrogate pair: .*$"):
        learnt().encode("the \udc80", special)


# --- Files ---


def test_the_patterns_are_those_that_transformers_holds():
    spec = find_spec("transformers")
    if spec is None:
        pytest.skip("needs the package transformers")
    folder = Path(spec.origin).parent
    llama = (folder / "convert_slow_tokenizer.py").read_text(encoding="utf-8")
    qwen = (folder / "models" / "qwen2" / "tokenization_qwen2.py").read_text(encoding="utf-8")
    assert f'pattern=r"""{PATTERNS["llama3"]}"""' in llama
    assert f'PRETOKENIZE_REGEX = r"""{PATTERNS["qwen2"]}"""' in qwen


VARIANTS = {
    "gpt2": lambda: learnt(),
    "llama3": lambda: replace(all_splits(learnt("llama3")), whole=True),
    "qwen2": lambda: replace(learnt("qwen2"), nfc=True),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_written_is_read_back(name, tmp_path):
    tokenizer = VARIANTS[name]()
    for form in ("own", "hf"):
        assert tokenizers.load(tokenizers.save(tokenizer, tmp_path / form / "t.json", form)) == tokenizer
        assert tokenizers.load(tokenizers.save(tokenizer, tmp_path / form, form).parent) == tokenizer


@pytest.mark.parametrize("name", VARIANTS)
def test_each_kind_of_tokenizer_json_is_cut_as_tokenizers_cuts(name, real):
    tokenizer = VARIANTS[name]()
    theirs = hugging_face(tokenizer)
    for text in [*real.values(), *NASTY]:
        assert tokenizer.encode(text) == theirs.encode(text).ids


def test_a_piece_that_is_a_token_needs_no_merges_where_the_file_says_so():
    short = replace(learnt("llama3"), merges=learnt("llama3").merges[:20], whole=True)
    assert short.encode(" self") == hugging_face(short).encode(" self").ids
    assert len(short.encode(" self")) == 1 < len(replace(short, whole=False).encode(" self"))


def test_the_files_of_tokenizers_are_read(tmp_path):
    """As it writes them, with the merges of today and of before, and GPT-2's pair."""
    theirs = peer()
    content = json.loads(theirs.to_str())
    assert from_hf(content) == learnt()
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    assert from_hf(content) == learnt()
    theirs.model.save(str(tmp_path))
    assert tokenizers.load(tmp_path) == learnt()


def test_gpt2s_pair_is_written_as_tokenizers_reads_it(tmp_path):
    hf = pytest.importorskip("tokenizers")
    path = tokenizers.save(learnt(), tmp_path / "pair", "gpt2")
    theirs = hf.Tokenizer(hf.models.BPE.from_file(str(path), str(path.with_name("merges.txt"))))
    theirs.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert theirs.encode(corpora()["docs"]).ids == learnt().encode(corpora()["docs"])
    assert tokenizers.load(path) == tokenizers.load(tmp_path / "pair") == learnt()


def test_the_end_is_found_said_or_asked_for(tmp_path):
    pad, eot = "<|pad|>", "<|endoftext|>"
    vocab = {sign: number for number, sign in enumerate(written(BYTES))}
    assert from_gpt2(vocab | {eot: 256, pad: 257}, "#version: 0.2\n").end == 256, "one that is known"
    assert from_gpt2(vocab | {pad: 256}, "").end == 256, "the only one"
    assert from_gpt2(vocab | {eot: 256, pad: 257}, "", end=pad).end == 257
    for special, said in (({pad: 256, "<|x|>": 257}, None), ({}, None), ({pad: 256}, "a")):
        with pytest.raises(TokenizerError, match="say which special token ends a document"):
            from_gpt2(vocab | special, "", end=said)
    path = tokenizers.save(from_gpt2(vocab | {eot: 256, pad: 257}, ""), tmp_path, "hf")
    for eos in (pad, {"content": pad}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}), encoding="utf-8")
        assert tokenizers.load(path).end == 257 and tokenizers.load(path, end=eot).end == 256


def changed(**parts) -> dict:
    """A tokenizer.json of ours with another part, or with another part of its model."""
    content = to_hf(BPETokenizer.train(["abab"], 300))
    return content | {"model": content["model"] | parts.pop("model", {})} | parts


def added(**options) -> list[dict]:
    return [{"id": 0, "content": END, "special": True} | options]


BYTES_ALONE = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False}
REFUSED = [
    ({"model": {"type": "Unigram"}}, "'Unigram'"),
    ({"model": {"dropout": 0.1}}, "dropout 0.1"),
    ({"model": {"byte_fallback": True}}, "byte_fallback"),
    ({"model": {"continuing_subword_prefix": "##"}}, "'##'"),
    ({"model": {"end_of_word_suffix": "</w>"}}, "'</w>'"),
    ({"model": {"vocab": 5}}, "vocab must be of type dict"),
    ({"model": {"vocab": {END: 0}}}, "one of its merges is of 'a'"),
    ({"model": {"merges": ["a b c"]}}, "merge 0 must be of two tokens, got 'a b c'"),
    ({"model": {"merges": [["a", "c"]]}}, "merge 0, of tokens .* makes no token"),
    ({"model": {"merges": [["a", "xx"]]}}, "of 'xx'"),
    ({"model": {"merges": [["a", "b"], ["a", "b"]]}}, "stands there twice"),
    ({"model": {"merges": [["a", END]]}}, "must be tokens of text"),
    ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
    ({"decoder": {"type": "WordPiece"}}, "WordPiece"),
    ({"pre_tokenizer": None}, "pre_tokenizer is {}"),
    ({"pre_tokenizer": {"type": "Metaspace"}}, "Metaspace"),
    ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "add_prefix_space"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, BYTES_ALONE]}}, "Split"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": ["ByteLevel"]}}, "'ByteLevel'"),
    ({"added_tokens": added(lstrip=True)}, "lstrip"),
    ({"added_tokens": added(single_word=True)}, "single_word"),
    ({"added_tokens": added(id=3)}, "two numbers, 0 and 3"),
    ({"added_tokens": added(id="3")}, "id must be of type int"),
    ({"added_tokens": added(content="<|x|>", id=900)}, "numbers 0 to 258, each once"),
    ({"added_tokens": added(normalized=True), "normalizer": {"type": "NFC"}}, "normalized text"),
    ({"model": []}, "model must be of type dict"),
]


@pytest.mark.parametrize(("parts", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_we_cannot_do_alike_is_refused_by_name(parts, why, tmp_path):
    content = changed() | parts if not isinstance(parts.get("model", {}), dict) else changed(**parts)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError, match=why) as caught:
        tokenizers.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_vocabulary_of_characters_is_refused():
    with pytest.raises(TokenizerError, match="token '▁a' is not byte-level: GPT-2's alphabet of bytes has no '▁'"):
        from_hf(changed(model={"vocab": to_hf(learnt())["model"]["vocab"] | {"▁a": 1500}}))


def test_gpt2s_pair_cannot_say_other_patterns():
    for tokenizer in (learnt("llama3"), replace(learnt(), nfc=True), replace(learnt(), whole=True)):
        with pytest.raises(TokenizerError, match="write a tokenizer.json"):
            to_gpt2(tokenizer)


def test_a_special_token_that_is_written_as_another_cannot_be_written():
    tokenizer = BPETokenizer.train(["ab ab"], 300, special=["ab"])
    assert BPETokenizer.from_dict(tokenizer.to_dict()) == tokenizer
    with pytest.raises(TokenizerError, match="'ab' is spelled as another token"):
        to_hf(tokenizer)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"pattern": {"name": "gpt2", "regex": "."}}, "not ours"),
        ({"pattern": {"name": [1]}}, "got \\[1\\]"),
        ({"pattern": "gpt2"}, "pattern must be of type dict"),
        ({"tokens": ["a"]}, "special token"),
        ({"tokens": [5]}, "tokens must be"),
        ({"merges": [[1]]}, "pairs of numbers"),
        ({"merges": [[1, True]]}, "pairs of numbers"),
        ({"merges": [[-1, 5]]}, "merge 0"),
        ({"special": {END: "0"}}, "must be of type int"),
        ({"special": {}}, "end must be"),
        ({"special": {END: 7}}, "number 7"),
        ({"end": 5}, "end must be"),
        ({"end": True}, "end must be"),
        ({"nfc": None}, "nfc must be"),
        ({"format": 2}, "format 1"),
    ],
)
def test_a_broken_file_of_ours_is_one_line(parts, why):
    content = BPETokenizer.train(["abab"], 300).to_dict()
    with pytest.raises(TokenizerError, match=why):
        BPETokenizer.from_dict(content | parts)


@pytest.mark.parametrize("lost", [0x41, 0xFF])
def test_every_byte_has_a_token(lost):
    content = BPETokenizer.train(["abab"], 300).to_dict()
    content["tokens"].remove(written(bytes([lost])))
    with pytest.raises(TokenizerError, match=f"no token is the byte {lost:#x}"):
        BPETokenizer.from_dict(content | {"merges": []})


@pytest.mark.parametrize(
    ("form", "name", "why"),
    [("gpt2", "t.json", "name a folder"), ("xml", "t.json", "one of own, hf, gpt2"), ("own", "file/x", "cannot make")],
)
def test_what_cannot_be_saved_is_one_line(form, name, why, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(Mistake, match=why):
        tokenizers.save(learnt(), tmp_path / name, form)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tokenizer_config.json", b"{", "tokenizer_config.json is not JSON"),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json holds a list"),
        ("merges.txt", b"#version: 0.2\n\xff", "merges.txt is no text in UTF-8"),
        ("merges.txt", b"a b c\n", "merge 0 must be of two tokens, got 'a b c'"),
    ],
)
def test_what_is_wrong_beside_a_vocabulary_is_told(name, content, why, tmp_path):
    path = tokenizers.save(learnt(), tmp_path, "gpt2")
    path.with_name(name).write_bytes(content)
    with pytest.raises(TokenizerError, match=why):
        tokenizers.load(path)


def test_a_missing_half_of_a_pair_is_named(tmp_path):
    path = tokenizers.save(learnt(), tmp_path, "gpt2")
    path.with_name("merges.txt").unlink()
    with pytest.raises(TokenizerError, match=r"cannot read the tokenizer .*merges\.txt"):
        tokenizers.load(path)


# --- In a run ---


def test_a_run_trains_on_a_tokenizers_tokens(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(corpora()["docs"], encoding="utf-8")
    file = tokenizers.save(learnt(), tmp_path / "bpe.json")
    plan = training.plan("bigram", "stdlib-code", tokenizer=file, steps=1, batch_size=4)
    run = plan.create(tmp_path)
    assert run.private and run.private_by == "tokenizer", "nobody knows what the tokens were learnt from"
    plan = training.plan("bigram", text, tokenizer=file, steps=2, batch_size=4)
    assert plan.config.model.config["vocab_size"] == 1500
    run = plan.create(tmp_path)
    training.train(plan.config, run, sources=plan.sources)
    assert run.tokenizer == learnt()
    (completion,) = Engine(run.load_model(), run.tokenizer).generate(["架け橋"], max_tokens=5)
    assert completion.text == learnt().decode(completion.tokens)
    with pytest.raises(training.TrainingError, match="leave tokenizer .*bpe.json out"):
        training.plan(None, text, from_run=run.path, tokenizer=file)


def test_half_a_character_is_not_streamed():
    tokenizer = BPETokenizer.train(["a"], 257)
    said = [*tokenizer.encode("a架橋"), *tokenizer.encode("架")[:2], tokenizer.end]

    class Saying(torch.nn.Module):
        """Says these tokens, one after another."""

        config = type("Config", (), {"vocab_size": 257})

        def forward(self, tokens, targets=None):
            places = torch.arange(tokens.shape[1]).clamp(max=len(said) - 1)
            return Output(1e4 * torch.nn.functional.one_hot(torch.tensor(said)[places], 257).float()[None], None)

    engine = Engine(Saying(), tokenizer)
    pieces = list(engine.stream("", max_tokens=20))
    assert pieces == ["a", "架", "橋", "\ufffd"]
    assert "".join(pieces) == engine.generate([""], max_tokens=20)[0].text
