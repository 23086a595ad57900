"""Generation: the oracle is the model's full forward, transformers' filters, and the prompts one by one."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kakehashi import Mistake, models
from kakehashi.inference import Engine, InferenceError, Sampling
from kakehashi.inference.cache import PreallocatedCache
from kakehashi.models.protocol import KVCache, Output
from kakehashi.tokenizers import CharTokenizer, UnknownCharacter

TOKENIZER = CharTokenizer.train(["abcdefgh .\n"])
V = TOKENIZER.vocab_size
SMALL = {"n_layers": 2, "n_heads": 2, "n_embd": 8, "n_hidden": 16, "block_size": 12}  # those a Config has are used
LMS = [family.name for family in models.families("lm")]
PROMPTS = ["", "abc", "h", "a bad cab.", "gg"]


def build(name: str, seed: int = 0, **values) -> nn.Module:
    """A model with random weights everywhere: zeros and ones would hide what is wrong."""
    family = models.find(name)
    known = family.Config.__dataclass_fields__
    config = family.Config(**{k: v for k, v in ({"vocab_size": V} | SMALL | values).items() if k in known})
    torch.manual_seed(seed)
    model = family.Model(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def next_logits(model, tokens: list[int]) -> torch.Tensor:
    """By the definition: the last block_size tokens through the model, with no state."""
    window = tokens[-getattr(model.config, "block_size", len(tokens)) :]
    with torch.no_grad():
        return model(torch.tensor([window])).logits[0, -1]


def greedy_by_hand(model, prompt: str, n: int) -> list[int]:
    tokens = [TOKENIZER.end, *TOKENIZER.encode(prompt)]
    drawn = []
    while len(drawn) < n and (not drawn or drawn[-1] != TOKENIZER.end):
        drawn.append(int(next_logits(model, tokens + drawn).argmax()))
    return drawn


class Table(nn.Module):
    """A learner's model with the least it may have: the next token by a table of logits; no state, no padding."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.config = models.find("bigram").Config(vocab_size=len(table))
        self.table = nn.Parameter(table)

    def forward(self, tokens, targets=None):
        return Output(self.table[tokens])


def saying(text: str) -> Table:
    """A model that after END says `text`, whose characters are distinct, and then END."""
    table = torch.full((V, V), -100.0)
    tokens = [TOKENIZER.end, *TOKENIZER.encode(text), TOKENIZER.end]
    for a, b in zip(tokens, tokens[1:], strict=False):
        table[a, b] = 0.0
    return Table(table)


# --- The same text, however it is computed ---


@pytest.mark.parametrize("name", LMS)
def test_every_step_equals_the_full_forward(name):
    """Also beyond block_size, where the window slides."""
    model = build(name).eval()
    stepwise = []
    model.register_forward_hook(lambda module, given, output: stepwise.append(output.logits[:, -1]))
    most = 0
    for seed, prompt in enumerate(PROMPTS * 2):
        stepwise.clear()
        (completion,) = Engine(model, TOKENIZER).generate([prompt], max_tokens=20, temperature=1.5, seed=seed)
        tokens = [TOKENIZER.end, *TOKENIZER.encode(prompt)]
        steps = zip(completion.tokens, completion.logprobs, list(stepwise), strict=True)
        for token, logprob, logits in steps:
            full = next_logits(model, tokens)
            torch.testing.assert_close(logits[0], full, rtol=0, atol=1e-5)
            assert logprob == pytest.approx(float(full.log_softmax(0)[token]), abs=1e-5)
            tokens.append(token)
        most = max(most, len(tokens) - 1)
    assert most > SMALL["block_size"]


@pytest.mark.parametrize("name", LMS)
def test_greedy_is_the_likeliest_token_at_every_step(name):
    model = build(name, seed=1).eval()
    for prompt, completion in zip(
        PROMPTS, Engine(model, TOKENIZER).generate(PROMPTS, temperature=0, max_tokens=30), strict=True
    ):
        assert list(completion.tokens) == greedy_by_hand(model, prompt, 30)


@pytest.mark.parametrize("name", LMS)
@pytest.mark.parametrize("temperature", [0, 1.3])
def test_a_batch_equals_its_prompts_one_by_one(name, temperature):
    engine = Engine(build(name, seed=2), TOKENIZER)
    batch = engine.generate(PROMPTS, max_tokens=20, temperature=temperature, seed=5)
    for i, (prompt, together) in enumerate(zip(PROMPTS, batch, strict=True)):
        (alone,) = engine.generate([prompt], max_tokens=20, temperature=temperature, seed=5 + i)
        assert (together.text, together.tokens, together.reason) == (alone.text, alone.tokens, alone.reason)
        assert together.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    assert (
        temperature == 0 or len({len(completion.tokens) for completion in batch}) > 1
    )  # some end early, and the others go on


@pytest.mark.parametrize("name", LMS)
def test_without_state_the_text_is_the_same(name):
    engine = Engine(build(name, seed=3), TOKENIZER)
    with_state, without = (engine.generate(PROMPTS, max_tokens=16, use_state=use) for use in (True, False))
    assert [c.tokens for c in with_state] == [c.tokens for c in without]


def test_the_state_is_used_until_the_window_slides():
    model = build("gpt2", block_size=8).eval()
    nn.init.normal_(model.wte.weight[0], std=1e-3)
    lengths = []
    model.register_forward_pre_hook(lambda module, given: lengths.append(given[0].shape[1]))
    (completion,) = Engine(model, TOKENIZER).generate(["abc"], max_tokens=9, temperature=0, seed=1)
    expected = [4, 1, 1, 1, 1, 8, 8, 8, 8]
    assert lengths == expected[: len(completion.tokens)] and len(lengths) > 6


def test_a_prompt_longer_than_the_window_is_read_from_its_end():
    model = build("gpt2", block_size=4).eval()
    prompts = ["abcdefgh", "hgfedcdefgh"]
    one, other = Engine(model, TOKENIZER).generate(prompts, temperature=0, max_tokens=5)
    assert one.tokens == other.tokens == tuple(greedy_by_hand(model, "defgh", 5))


@given(chunks=st.lists(st.integers(1, 4), min_size=1, max_size=5), crop=st.integers(0, 4))
def test_the_preallocated_cache_holds_what_the_plain_one_holds(chunks, crop):
    plain, ours = KVCache(2), PreallocatedCache(2, sum(chunks) + 3)
    for T in [*chunks, "crop", 3]:
        if T == "crop":
            plain.crop(crop)
            ours.crop(crop)
            continue
        assert torch.equal(plain.positions(T), ours.positions(T))
        for layer in range(2):
            k, v = torch.randn(2, 3, T, 4), torch.randn(2, 3, T, 5)
            for expected, got in zip(plain.append(layer, k, v), ours.append(layer, k, v), strict=True):
                assert torch.equal(expected, got)
        assert plain.length == ours.length


def test_a_full_cache_says_so():
    cache = PreallocatedCache(1, 2)
    cache.append(0, torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2, 1))
    with pytest.raises(ValueError, match="room for 2 tokens cannot take token 3"):
        cache.append(0, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))


# --- What is drawn ---


@settings(max_examples=60)
@given(
    logits=st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=12, unique=True),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 15),
    top_p=st.none() | st.floats(0.05, 0.99),
)
def test_the_filters_are_those_of_transformers(logits, temperature, top_k, top_p):
    from transformers.generation import logits_process as hf

    scores = torch.tensor([logits], dtype=torch.float64)
    expected = hf.TemperatureLogitsWarper(temperature)(None, scores)
    if top_k is not None:
        expected = hf.TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        expected = hf.TopPLogitsWarper(top_p)(None, expected)
    ours = Sampling(temperature=temperature, top_k=top_k, top_p=top_p).probabilities(scores.log_softmax(1))
    torch.testing.assert_close(ours, expected.softmax(1), rtol=1e-9, atol=1e-12)


def test_equally_likely_tokens_are_not_more_than_top_k():
    p = Sampling(top_k=2).probabilities(torch.zeros(1, 5, dtype=torch.float64))
    assert p.tolist() == [[0.5, 0.5, 0, 0, 0]]


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e300])
def test_no_temperature_overflows(temperature):
    p = Sampling(temperature=temperature).probabilities(torch.tensor([[-1.0, -2.0, -math.inf]], dtype=torch.float64))
    expected = [0.5, 0.5, 0.0] if temperature > 1 else [1.0, 0.0, 0.0]
    assert p[0].tolist() == pytest.approx(expected)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    """4000 first tokens: every count within 5 standard deviations of its expectation."""
    model = Table(torch.randn(V, V, generator=torch.Generator().manual_seed(0)))
    n = 4000
    drawn = [c.tokens[0] for c in Engine(model, TOKENIZER).generate([""] * n, max_tokens=1, temperature=0.7)]
    p = (model.table[TOKENIZER.end].detach().double() / 0.7).softmax(0)
    counts = torch.bincount(torch.tensor(drawn), minlength=V)
    assert ((counts - n * p).abs() < 5 * (n * p * (1 - p)).sqrt() + 1).all()


def test_the_seed_decides():
    engine = Engine(build("bigram"), TOKENIZER)
    texts = [engine.generate(["a"], seed=seed)[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


# --- Where it ends ---


def test_end_stops_the_document():
    (completion,) = Engine(saying("abc"), TOKENIZER).generate([""])
    assert (completion.text, completion.reason) == ("abc", "end")
    assert completion.tokens == (*TOKENIZER.encode("abc"), TOKENIZER.end)
    assert len(completion.logprobs) == 4 and all(-1e-6 <= logprob <= 0 for logprob in completion.logprobs)


@pytest.mark.parametrize(
    "stop, text", [("de", "abc"), (["g", "fx", "cde"], "ab"), ("abc", ""), (["h", "x"], "abcdefg")]
)
def test_a_stop_string_ends_the_text_before_it(stop, text):
    (completion,) = Engine(saying("abcdefgh"), TOKENIZER).generate([""], stop=stop)
    assert (completion.text, completion.reason) == (text, "stop")


def test_max_tokens_is_the_most():
    (completion,) = Engine(saying("abcdefgh"), TOKENIZER).generate([""], max_tokens=3)
    assert (completion.text, completion.reason, len(completion.tokens)) == ("abc", "length", 3)


def test_no_prompts_no_completions():
    assert Engine(build("gpt2"), TOKENIZER).generate([]) == []


@pytest.mark.parametrize("name", LMS)
@pytest.mark.parametrize("stop", [(), ("a",), ("ab", "bb", "c d")])
def test_streamed_pieces_are_the_text(name, stop):
    engine = Engine(build(name, seed=4), TOKENIZER)
    for seed in range(8):
        options = {"max_tokens": 25, "stop": stop, "seed": seed}
        assert "".join(engine.stream("ca", **options)) == engine.generate(["ca"], **options)[0].text


def test_a_piece_that_may_become_a_stop_string_is_held_back():
    assert list(Engine(saying("abcdefgh"), TOKENIZER).stream("", stop=["cdx", "fgh"])) == ["a", "b", "cd" + "e"]


# --- The learner's model, and mistakes ---


def test_a_model_without_state_reads_everything_again_and_it_is_said():
    plain = Engine(Table(torch.randn(V, V)), TOKENIZER)
    assert "no new_state" in plain.note and Engine(build("gpt2"), TOKENIZER).note == ""
    assert plain.generate(["abc"], seed=1) == plain.generate(["abc"], seed=1, use_state=False)


def test_the_models_modes_are_as_before():
    model = build("mlp").train()
    model.norm.eval()
    engine = Engine(model, TOKENIZER)
    before = [module.training for module in model.modules()]
    statistics = model.norm.running_mean.clone()

    def unchanged() -> bool:
        return torch.is_grad_enabled() and [module.training for module in model.modules()] == before

    engine.generate(["a"])
    assert unchanged()
    for _ in engine.stream("a", max_tokens=4):
        assert unchanged()  # between two pieces, too
    with torch.no_grad():
        nn.init.constant_(model.output.bias, math.nan)
    with pytest.raises(InferenceError, match="predicts NaN"):
        engine.generate(["a"])
    assert unchanged() and torch.equal(statistics, model.norm.running_mean)


def test_dropout_is_off():
    engine = Engine(build("gpt2", dropout=0.5).train(), TOKENIZER)
    assert engine.generate(["ab"]) == engine.generate(["ab"])


def test_an_unknown_character_is_the_tokenizers_mistake():
    with pytest.raises(UnknownCharacter, match="'é' at place 2"):
        Engine(build("bigram"), TOKENIZER).generate(["ab", "bé"])


@pytest.mark.parametrize(
    "dial, value",
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", math.nan),
        ("max_tokens", 0),
        ("stop", ("a", "")),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_a_dial_of_no_use_is_named_with_its_value(dial, value):
    engine = Engine(build("bigram"), TOKENIZER)
    for call in (lambda: engine.generate(["a"], **{dial: value}), lambda: engine.stream("a", **{dial: value})):
        with pytest.raises(Mistake) as caught:
            call()
        message = str(caught.value)
        assert dial in message and str(value) in message and "\n" not in message


def test_the_largest_seed_serves_a_batch():
    assert len(Engine(build("bigram"), TOKENIZER).generate(["a"] * 3, max_tokens=1, seed=2**63 - 1)) == 3


@pytest.mark.parametrize("device", ["cuda:63", "bogus", "meta"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(Mistake, match=device) as caught:
        Engine(build("bigram"), TOKENIZER, device)
    assert "\n" not in str(caught.value)


def test_a_model_without_its_config_is_named():
    with pytest.raises(InferenceError, match=r"Linear has no \.config"):
        Engine(nn.Linear(2, 2), TOKENIZER)


def test_model_and_tokenizer_must_fit():
    with pytest.raises(InferenceError, match=f"the model knows {V - 1} tokens, the tokenizer {V}"):
        Engine(build("bigram", vocab_size=V - 1), TOKENIZER)


@pytest.mark.parametrize("dials", [{"temperature": 0}, {}, {"top_k": 2}, {"top_p": 0.9}], ids=str)
def test_numbers_that_no_token_has_are_never_drawn(dials):
    """A vocabulary that is filled up to a round number: likely as they are, only what is theirs of p is not drawn."""
    table = torch.randn(V + 3, V + 3)
    table[:, V:] += 5
    engine = Engine(Table(table), TOKENIZER)
    for seed in range(5):
        (completion,) = engine.generate(["a"], max_tokens=20, seed=seed, **dials)
        previous = [TOKENIZER.encode("a")[0], *completion.tokens]
        assert all(token < V for token in completion.tokens)
        own = [table.double()[a].log_softmax(0)[b] for a, b in pairwise(previous)]
        assert completion.logprobs == pytest.approx([float(each) for each in own])
