"""Llama, Mistral and Qwen2 against transformers, torch, and what RoPE and a window promise."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cases import CASES, our_name, twins
from test_models import close, gradients, left_padding, randomise, tokens, with_gradients
from torch import nn

from kakehashi.models import llama
from kakehashi.models.llama import Config, Llama, Scaling
from kakehashi.models.protocol import IGNORE

SMALL = {"vocab_size": 11, "block_size": 9, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "n_embd": 16, "n_hidden": 7}
# A window of 1 is left out: transformers' own cache keeps keys[-1 + 1:] then, which is all of them
STEPPED = [name for name, (_, config, _) in CASES.items() if config.block_size >= 9 and config.window != 1]


def positions_of(pad: torch.Tensor) -> torch.Tensor:
    return (pad.long().cumsum(1) - 1).clamp(min=0)


# --- The whole against transformers ---


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_llama_is_transformers(name, fused):
    """Logits, loss and every gradient, at T = 1 and T = block_size."""
    ours, theirs = twins(name, fused=fused)
    for T in {1, ours.config.block_size}:
        x, y = (tokens(2, T, seed=seed, vocab_size=ours.config.vocab_size) for seed in (1, 2))
        y[0, 0] = IGNORE
        mine = ours(x, y)
        logits = theirs(x).logits
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        close(mine.logits, logits)
        close(mine.loss, loss)
        expected = {our_name(each): gradient for each, gradient in gradients(theirs, loss).items()}
        found = gradients(ours, mine.loss)
        assert found.keys() == expected.keys()
        for each, gradient in found.items():
            close(gradient, expected[each])


@pytest.mark.parametrize("name", STEPPED)
def test_llama_with_state_and_padding_is_transformers_at_every_step(name):
    """All read 4 tokens, then one at a time up to block_size, in rows of different length."""
    ours, theirs = twins(name)
    n = ours.config.block_size
    for pad in (left_padding(n, n, n), left_padding(n, n - 3, n - 1)):
        x = tokens(3, n, vocab_size=ours.config.vocab_size)
        state, cache = ours.new_state(3), None
        for begin, end in [(0, 4), *((i, i + 1) for i in range(4, n))]:
            read = {"attention_mask": pad[:, :end].long(), "position_ids": positions_of(pad)[:, begin:end]}
            expected = theirs(x[:, begin:end], past_key_values=cache, use_cache=True, **read)
            cache = expected.past_key_values
            given_pad = None if pad.all() else pad[:, :end]
            real = pad[:, begin:end]
            close(ours(x[:, begin:end], state=state, pad=given_pad).logits[real], expected.logits[real])
        whole = theirs(x, attention_mask=pad.long(), position_ids=positions_of(pad)).logits
        close(ours(x, pad=None if pad.all() else pad).logits[pad], whole[pad])


@settings(max_examples=50)
@given(data=st.data())
def test_any_config_is_transformers(data):
    draw = data.draw
    kv, shared, half = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    kind, said = draw(
        st.sampled_from([("llama", "plain"), ("llama", "biases"), ("mistral", "window"), ("qwen2", "qkv")])
    )
    scaling, words = draw(st.sampled_from([CASES[each] for each in ("tied", "linear", "llama3", "yarn")]))[1:]
    config = Config(
        vocab_size=draw(st.integers(1, 20)),
        block_size=draw(st.integers(1, 40)),
        n_layers=draw(st.integers(1, 3)),
        n_heads=kv * shared,
        n_kv_heads=kv,
        n_embd=kv * shared * draw(st.integers(1, 5)),
        n_hidden=draw(st.integers(1, 20)),
        head_dim=2 * half,
        theta=scaling.theta,
        scaling=scaling.scaling,
        window=draw(st.integers(1, 12)) if said == "window" else None,
        eps=draw(st.sampled_from([1e-2, 1e-5])),
        tied=draw(st.booleans()),
        qkv_bias=said in ("biases", "qkv"),
        out_bias=said == "biases",
        mlp_bias=said == "biases",
    )
    more = {"biases": {"attention_bias": True, "mlp_bias": True}, "window": {"sliding_window": config.window}}
    CASES["drawn"] = (kind, config, words | more.get(said, {}))
    try:
        ours, theirs = twins("drawn")
    finally:
        del CASES["drawn"]
    pad = left_padding(config.block_size, draw(st.integers(1, config.block_size)))
    x = tokens(*pad.shape, vocab_size=config.vocab_size)
    expected = theirs(x, attention_mask=pad.long(), position_ids=positions_of(pad)).logits
    close(ours(x, pad=pad).logits[pad], expected[pad])


# --- RoPE ---


@pytest.mark.parametrize("kind", ["llama3", "yarn", "linear"])
@pytest.mark.parametrize("D, theta", [(64, 5e5), (128, 1e6), (96, 1e4), (2, 1e4)])
def test_real_frequencies_are_transformers(kind, D, theta):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    words = {"rope_type": kind, "factor": 8.0, "original_max_position_embeddings": 8192}
    words |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if kind == "llama3" else {}
    if kind == "linear":
        del words["original_max_position_embeddings"]
    theirs = LlamaConfig(head_dim=D, rope_theta=theta, rope_scaling=words, max_position_embeddings=131072)
    expected, sharpen = ROPE_INIT_FUNCTIONS[kind](theirs)
    config = Config(head_dim=D, theta=theta, scaling=Scaling(kind, 8.0))
    torch.testing.assert_close(llama.frequencies(config), expected, rtol=1e-6, atol=0)
    assert config.scaling.sharpen == pytest.approx(sharpen)


@given(seed=st.integers(0, 99), p=st.integers(0, 500), q=st.integers(0, 500), shift=st.integers(0, 500))
@settings(max_examples=30)
def test_turned_vectors_keep_their_length_and_know_their_distance_alone(seed, p, q, shift):
    model = Llama(Config(**SMALL | {"head_dim": 8}))
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 1, 1, 1, 8, generator=generator)

    def turned(x, position):
        return llama.rotate(x, *model.rotation(torch.tensor([[position]])))

    close(turned(a, p).norm(), a.norm(), 1e-5)
    one, other = (turned(a, p + s).flatten() @ turned(b, q + s).flatten() for s in (0, shift))
    close(one, other, 1e-3)  # float32 angles of up to 1000 radians


def test_a_pair_turns_by_position_times_frequency():
    """As complex numbers: (a + ib) e^(i p f), of features i and i + D / 2."""
    config = Config(**SMALL | {"head_dim": 6, "theta": 30.0})
    x = torch.randn(2, 4, 5, 6)
    cos, sin = Llama(config).rotation(torch.arange(5)[None])
    frequency = torch.tensor([1.0, 30 ** (-1 / 3), 30 ** (-2 / 3)])
    close(llama.frequencies(config), frequency, 1e-6)
    turn = torch.polar(torch.ones(5, 3), torch.outer(torch.arange(5.0), frequency))
    turned = torch.complex(x[..., :3], x[..., 3:]) * turn
    close(llama.rotate(x, cos, sin), torch.cat((turned.real, turned.imag), -1), 1e-5)


def test_what_is_turned_keeps_its_precision_and_angles_are_float32():
    model = Llama(Config(**SMALL)).bfloat16()
    cos, sin = model.rotation(torch.tensor([[257, 258]]))
    assert cos.dtype == torch.float32 and not torch.equal(cos[:, :, 0], cos[:, :, 1])
    assert llama.rotate(torch.ones(1, 1, 2, 4, dtype=torch.bfloat16), cos, sin).dtype == torch.bfloat16
    assert model(tokens(2, 5), tokens(2, 5)).loss.isfinite()


# --- Parts ---


@pytest.mark.parametrize("norm", [llama.RMSNorm, llama.FusedRMSNorm])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 16)])
def test_rms_norm_is_torchs(norm, shape):
    ours, theirs = (randomise(kind(shape[-1], eps=1e-2), 0) for kind in (norm, nn.RMSNorm))
    x = torch.randn(shape) * 3 + 2
    close(with_gradients(ours, x), with_gradients(theirs, x), 1e-5)
    assert norm(4)(torch.zeros(4)).equal(torch.zeros(4))


def test_silu_is_torchs():
    x = torch.linspace(-8, 8, 101)
    close(with_gradients(llama.silu, x), with_gradients(F.silu, x), 1e-5)


@pytest.mark.parametrize("n", [1, 3])
def test_heads_are_repeated_side_by_side(n):
    x = torch.randn(2, 4, 5, 6)
    assert llama.repeat_heads(x, n).equal(x.repeat_interleave(n, 1))


@pytest.mark.parametrize("window", [None, 1, 2, 4, 99])
@pytest.mark.parametrize("T, S, pad", [(1, 1, None), (5, 5, None), (2, 6, None), (4, 4, (4, 1)), (2, 5, (3, 5))])
def test_the_mask_shows_a_window_of_real_tokens_and_oneself(T, S, pad, window):
    pad = None if pad is None else left_padding(*pad, S)[:2]
    visible = llama.causal_mask(T, S, pad, window=window).expand(2, 1, T, S)
    for b in range(2):
        for i in range(T):
            at = S - T + i
            for j in range(S):
                near = 0 <= at - j < (window or S)
                assert visible[b, 0, i, j] == (near and (j == at or pad is None or bool(pad[b, j])))


@pytest.mark.parametrize("fused", [False, True])
def test_a_window_reaches_back_once_for_each_layer(fused):
    """With a window of 3 in 2 layers, token t depends on t - 4 and on nothing before."""
    model = randomise(Llama(Config(**SMALL | {"window": 3, "fused": fused})), 0)
    embedded = []
    model.embed_tokens.register_forward_hook(lambda *found: embedded.append(found[2]))
    logits = model(tokens(1, 9)).logits
    reached = torch.autograd.grad(logits[0, 8].sum(), embedded[0])[0][0].abs().sum(1) > 0
    assert reached.tolist() == [False] * 4 + [True] * 5


def test_the_cache_holds_the_shared_heads_alone():
    model = Llama(Config(**SMALL))
    state = model.new_state(2)
    model(tokens(2, 5), state=state)
    assert [tuple(each.shape) for each in state.layers[1]] == [(2, 2, 5, 4), (2, 2, 5, 4)]


@pytest.mark.parametrize("window", [None, 3])
def test_fused_is_written_out(window):
    written, fused = (
        randomise(Llama(Config(**SMALL | {"window": window, "fused": each, "qkv_bias": True})), 0)
        for each in (False, True)
    )
    fused.load_state_dict(written.state_dict())
    x, y, padding = tokens(3, 6), tokens(3, 6, seed=1), left_padding(6, 2, 4)
    for pad, targets in ((None, y), (padding, y.masked_fill(~padding, IGNORE))):
        one, other = written(x, targets, pad=pad), fused(x, targets, pad=pad)
        close(one.logits, other.logits, 1e-5)
        close(gradients(written, one.loss), gradients(fused, other.loss), 1e-5)
    states = [model.new_state(3) for model in (written, fused)]
    for begin, end in ((0, 2), (2, 5), (5, 6)):
        one, other = (
            model(x[:, begin:end], state=state, pad=padding[:, :end]).logits
            for model, state in zip((written, fused), states, strict=True)
        )
        close(one[padding[:, begin:end]], other[padding[:, begin:end]], 1e-5)


# --- Configurations ---


@pytest.mark.parametrize(
    "name, millions",
    [
        ("llama-2-7b", 6738.415616),
        ("llama-3-8b", 8030.261248),
        ("llama-3.1-8b", 8030.261248),
        ("llama-3.2-1b", 1235.8144),
        ("mistral-7b", 7241.732096),
        ("qwen2-0.5b", 494.032768),
    ],
)
def test_the_presets_have_as_many_parameters_as_the_published_models(name, millions):
    with torch.device("meta"):
        model = Llama(llama.PRESETS[name])
    assert sum(p.numel() for p in model.parameters()) == round(millions * 1e6)


def test_llama_starts_as_it_says():
    """Standard deviations within 5 of their standard errors; biases 0, gains 1; a loss near ln V."""
    config = Config(300, 50, 8, 4, 2, 64, 96, qkv_bias=True, out_bias=True, mlp_bias=True)
    torch.manual_seed(0)
    model = Llama(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (1.0 if name.endswith("weight") else 0.0)).all(), name
            continue
        std = 0.02 / math.sqrt(2 * config.n_layers) if "o_proj" in name or "down_proj" in name else 0.02
        assert abs(parameter.std() / std - 1) < 5 / math.sqrt(2 * parameter.numel()), name
        assert abs(parameter.mean() / std) < 5 / math.sqrt(parameter.numel()), name
    x, y = tokens(4, 50, vocab_size=300), tokens(4, 50, seed=1, vocab_size=300)
    assert abs(model(x, y).loss - math.log(300)) < 0.1


@pytest.mark.parametrize(
    "values, message",
    [
        ({"n_embd": 10, "n_heads": 4}, "n_embd must be a multiple of n_heads, got 10 and 4"),
        ({"n_heads": 4, "n_kv_heads": 3}, "n_heads must be a multiple of n_kv_heads, got 4 and 3"),
        ({"head_dim": 3}, "head_dim must be even, as RoPE turns pairs, got 3"),
        ({"head_dim": 0}, "head_dim must be at least 1, got 0"),
        ({"n_kv_heads": 0}, "n_kv_heads must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"theta": 1.0}, "theta must be above 1, got 1.0"),
        ({"theta": math.nan}, "theta must be above 1, got nan"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Config(**values)


@pytest.mark.parametrize(
    "values, message",
    [
        (("dynamic", 2.0), "linear, yarn or llama3, got 'dynamic'"),
        (("linear", 0.5), "factor of Scaling must be at least 1, got 0.5"),
        (("yarn", math.nan), "factor of Scaling must be at least 1, got nan"),
        (("yarn", 2.0, 0), "trained of Scaling must be at least 1, got 0"),
        (("llama3", 2.0, 8, 4.0, 4.0), "below fast, got 4.0 and 4.0"),
    ],
)
def test_a_scaling_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Scaling(*values)


def test_more_tokens_than_block_size_are_refused():
    model = Llama(Config(**SMALL))
    with pytest.raises(ValueError, match="10 tokens in sight, but block_size is 9"):
        model(tokens(1, 10))
    state = model.new_state(1)
    model(tokens(1, 9), state=state)
    with pytest.raises(ValueError, match="10 tokens in sight"):
        model(tokens(1, 1), state=state)
