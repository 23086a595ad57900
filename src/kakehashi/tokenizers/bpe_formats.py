"""The files of others, from and to their contents: GPT-2's vocab.json with merges.txt, Hugging Face's tokenizer.json.

What `BPETokenizer` cannot do alike is refused by name. Of a tokenizer.json's post-processor, the token that it puts
before a text is read. Not read are its truncation and padding: they are about what is done with tokens once they are
there. piece_formats.py does the same for SentencePiece's BPE, with what both have in common from here.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from kakehashi.tokenizers.bpe_tokenizer import BPETokenizer, need, read_token
from kakehashi.tokenizers.byte_alphabet import SIGN, written
from kakehashi.tokenizers.char import END, SHOWN, TokenizerError
from kakehashi.tokenizers.patterns import PATTERNS

ENDS = (END, "<|endoftext|>", "<|end_of_text|>", "</s>")  # how those that are met call the token that ends a document
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}  # GPT-2's pattern


def from_gpt2(vocab: Mapping[str, int], merges: str, end: str | None = None) -> BPETokenizer:
    """The tokenizer of the contents of vocab.json and merges.txt. Tokens that are no byte and no merge are special.

    end: the special token that ends a document; without it the one of ENDS that is there, or the only one.
    Raises TokenizerError.
    """
    lines = [line.rstrip("\r") for line in merges.split("\n")]
    merged = [line for line in lines if line and not line.startswith("#version")]
    plain = {*SIGN.values(), *(left + right for left, right in _pairs(merged))}
    return _tokenizer(fitted(vocab, merged, vocab.keys() - plain, end))


def to_gpt2(tokenizer: BPETokenizer) -> tuple[dict[str, int], str]:
    """The contents of vocab.json and merges.txt. Raises TokenizerError where they cannot say what the tokenizer is."""
    if tokenizer.pattern != "gpt2" or tokenizer.nfc or tokenizer.whole:
        raise TokenizerError(
            f"vocab.json and merges.txt are for GPT-2's way of cutting alone, and this tokenizer has pattern "
            f"{tokenizer.pattern}, nfc {tokenizer.nfc}, whole {tokenizer.whole}: write a tokenizer.json"
        )
    signs = _signs(tokenizer)
    merges = "".join(f"{signs[left]} {signs[right]}\n" for left, right in tokenizer.merges)
    return {sign: number for number, sign in enumerate(signs)}, f"#version: 0.2\n{merges}"


def from_hf(content: Mapping[str, Any], end: str | None = None) -> BPETokenizer:
    """The tokenizer of a tokenizer.json's content. end: as `from_gpt2` takes it.

    Raises TokenizerError, which names what we have not.
    """
    normalizer, decoder = part_of(content, "normalizer"), part_of(content, "decoder")
    parts = parts_of(content, end)
    if normalizer.get("type", "NFC") != "NFC":
        raise TokenizerError(f"its normalizer is {short(normalizer)}: we know NFC, and none")
    if decoder.get("type", "ByteLevel") != "ByteLevel":
        raise TokenizerError(f"its decoder is {short(decoder)}: we know ByteLevel")
    if normalizer:
        for token in need(content, "added_tokens", list, []):
            if token.get("normalized"):
                text = token["content"]
                raise TokenizerError(f"its token {text!r} is looked for in normalized text: we look before that")
    return _tokenizer(
        parts,
        pattern=_pattern(part_of(content, "pre_tokenizer")),
        nfc=bool(normalizer),
        whole=need(content["model"], "ignore_merges", bool, False),
    )


class Parts(NamedTuple):
    """What every BPE has: tokens as they are written, by their numbers; merges; special tokens; end; bos."""

    texts: list[str]
    merges: tuple[tuple[int, int], ...]
    special: dict[str, int]
    end: int
    bos: int | None = None


def parts_of(content: Mapping[str, Any], end: str | None) -> Parts:
    """Those in a tokenizer.json's content. Raises TokenizerError."""
    model = need(content, "model", dict)
    if (kind := model.get("type", "BPE")) != "BPE":
        raise TokenizerError(f"its model is {kind!r}: we read BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise TokenizerError(f"its model has {key} {model[key]!r}: we read BPE without it")
    vocab, special = dict(need(model, "vocab", dict)), []
    for token in need(content, "added_tokens", list, []):
        text, number = need(token, "content", str), need(token, "id", int)
        if used := [option for option in ("single_word", "lstrip", "rstrip") if token.get(option)]:
            raise TokenizerError(f"its token {text!r} is added with {used[0]}, which we have not")
        if vocab.setdefault(text, number) != number:
            raise TokenizerError(f"its token {text!r} has two numbers, {vocab[text]} and {number}")
        special.append(text)
    parts = fitted(vocab, need(model, "merges", list), special, end)
    return parts._replace(bos=_bos(part_of(content, "post_processor"), parts))


def _bos(processor: dict[str, Any], parts: Parts) -> int | None:
    """The number of the special token that a post-processor puts before a text; None where it puts none.

    One that puts `end` after the text is read as one that does not: a prompt is to be gone on with, and a document that
    is learnt ends with `end` anyway.
    """
    for step in need(processor, "processors", list, []) or [processor]:
        kind = need(step, "type", str, "ByteLevel")
        if kind == "ByteLevel":  # about places in the text
            continue
        single = need(step, "single", list) if kind == "TemplateProcessing" else []
        added = [need(each, "SpecialToken", dict, {}) for each in single]  # {} is the text
        match [parts.special.get(need(token, "id", str)) if token else "text" for token in added]:
            case ["text"] | ["text", parts.end]:
                continue
            case [int(bos), "text"] | [int(bos), "text", parts.end]:
                return bos
        raise TokenizerError(f"its post_processor is {short(step)}: we know one special token before the text")
    return None


def to_hf(tokenizer: BPETokenizer) -> dict[str, Any]:
    """A tokenizer.json's content. Raises TokenizerError where a special token is spelled as another token is."""
    steps = [_split(PATTERNS[tokenizer.pattern]), BYTE_LEVEL | {"use_regex": False}]
    content = written_as_hf(tokenizer, _signs(tokenizer))
    content["normalizer"] = {"type": "NFC"} if tokenizer.nfc else None
    if tokenizer.pattern == "gpt2":
        content["pre_tokenizer"] = BYTE_LEVEL
    else:
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    content["decoder"] = BYTE_LEVEL
    content["model"]["ignore_merges"] = tokenizer.whole
    return content


def written_as_hf(tokenizer: Any, signs: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """What is alike in the tokenizer.json of every BPE. signs: how its tokens are written."""
    special = sorted(tokenizer.special.items(), key=lambda item: item[1])
    options = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **options} for text, number in special],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None if tokenizer.bos is None else _template(signs[tokenizer.bos], tokenizer.bos),
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {sign: number for number, sign in enumerate(signs)},
            "merges": [[signs[left], signs[right]] for left, right in tokenizer.merges],
        },
    }


def _template(bos: str, number: int) -> dict[str, Any]:
    """A post-processor that puts a token before a text, and before each of two."""
    one, other = (
        [{"SpecialToken": {"id": bos, "type_id": i}}, {"Sequence": {"id": name, "type_id": i}}]
        for i, name in enumerate("AB")
    )
    tokens = {bos: {"id": bos, "ids": [number], "tokens": [bos]}}
    return {"type": "TemplateProcessing", "single": one, "pair": one + other, "special_tokens": tokens}


def fitted(vocab: Mapping[str, int], merges: Sequence[object], special: Collection[str], end: str | None) -> Parts:
    """The parts by numbers. merges: as files write them; special: the special tokens' texts. Raises TokenizerError."""
    pairs = _pairs(merges)
    if {number for number in vocab.values() if type(number) is int} != set(range(len(vocab))):
        raise TokenizerError(f"its {len(vocab)} tokens must have the numbers 0 to {len(vocab) - 1}, each once")
    if unknown := [part for pair in pairs for part in pair if part not in vocab]:
        raise TokenizerError(f"one of its merges is of {unknown[0]!r}, which is no token of it")
    texts = sorted(vocab, key=lambda text: vocab[text])
    numbers = {text: vocab[text] for text in texts if text in special}
    if end is None:
        end = next((text for text in ENDS if text in numbers), next(iter(numbers)) if len(numbers) == 1 else None)
    if end not in numbers:
        raise TokenizerError(
            f"say which special token ends a document, as eos_token in tokenizer_config.json beside it, got {end!r}; "
            f"it has {', '.join(numbers) or 'none'}"
        )
    return Parts(texts, tuple((vocab[left], vocab[right]) for left, right in pairs), numbers, numbers[end])


def _tokenizer(parts: Parts, **options: Any) -> BPETokenizer:
    texts, merges, special, end, bos = parts
    tokens = tuple(text.encode() if text in special else read_token(text) for text in texts)
    return BPETokenizer(tokens, merges, special, end, bos=bos, **options)


def _pattern(pre_tokenizer: dict[str, Any]) -> str:
    """The name of the pattern by which a pre-tokenizer cuts."""
    *before, last = need(pre_tokenizer, "pretokenizers", list, []) or [pre_tokenizer]
    if isinstance(last, dict) and last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        if not before and last.get("use_regex", True):
            return "gpt2"
        for name, pattern in PATTERNS.items():
            if before == [_split(pattern)] and last.get("use_regex") is False:
                return name
    raise TokenizerError(
        f"its pre_tokenizer is {short(pre_tokenizer)}: we know ByteLevel, without add_prefix_space, alone or after a "
        f"Split, Isolated, by the pattern of {', '.join(PATTERNS)}"
    )


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _pairs(merges: Sequence[object]) -> list[tuple[str, str]]:
    """Merges in both notations, "Ġt he" and ["Ġt", "he"]."""
    pairs = []
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or [type(part) for part in parts] != [str, str]:
            raise TokenizerError(f"merge {rank} must be of two tokens, got {str(merge)[:SHOWN]!r}")
        pairs.append((parts[0], parts[1]))
    return pairs


def _signs(tokenizer: BPETokenizer) -> list[str]:
    """How each token is written: in GPT-2's alphabet of bytes, a special token as its text."""
    signs = [written(token) for token in tokenizer.tokens]
    for text, number in tokenizer.special.items():
        signs[number] = text
    if len(set(signs)) < len(signs):
        twice = next(text for text in tokenizer.special if signs.count(text) > 1)
        raise TokenizerError(f"the special token {twice!r} is spelled as another token is written: rename it")
    return signs


def part_of(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A part of a tokenizer.json that may be null or missing."""
    return need(content, key, dict, {})


def short(part: dict[str, Any]) -> str:
    return repr(part)[: 4 * SHOWN]
