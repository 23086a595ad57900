"""The models against their oracles: transformers, torch.nn, counting, and what must hold for every language model."""

import ast
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kakehashi import models
from kakehashi.inference import Engine
from kakehashi.models import bigram, gpt2, mlp, recurrent, wavenet
from kakehashi.models.protocol import END, IGNORE
from kakehashi.tokenizers import CharTokenizer

FAMILIES = models.families()
SMALL = {"vocab_size": 11, "block_size": 9, "n_layers": 2, "n_heads": 2, "n_embd": 8, "n_hidden": 7}
LMS = {
    **{family.name: (family, {}) for family in models.families("lm")},
    "mlp without norm": (models.find("mlp"), {"batch_norm": False, "block_size": 3}),
    "gpt2 fused": (models.find("gpt2"), {"fused": True}),
    "llama grouped": (models.find("llama"), {"n_kv_heads": 1, "window": 3, "tied": True, "qkv_bias": True}),
    "llama fused": (models.find("llama"), {"fused": True}),
    "recurrent rnn": (models.find("recurrent"), {"cell": "rnn"}),
    "recurrent gru": (models.find("recurrent"), {"cell": "gru", "n_layers": 1}),
}


def randomise(model: nn.Module, seed: int, std: float = 0.3) -> nn.Module:
    """Random gains and biases, too: at their first values, 1 and 0, they would hide what is wrong with them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * std)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_()
    return model


def lm(name: str, seed: int = 0, **values) -> nn.Module:
    family, special = LMS[name]
    values = SMALL | special | values
    config = family.Config(**{field: values[field] for field in values if field in family.Config.__dataclass_fields__})
    torch.manual_seed(seed)
    return randomise(family.Model(config), seed)


def tokens(*shape: int, seed: int = 0, vocab_size: int = SMALL["vocab_size"]) -> torch.Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def left_padding(*lengths: int) -> torch.Tensor:
    """(B, T) bool with T the largest length: row i ends in lengths[i] real tokens."""
    T = max(lengths)
    return torch.arange(T) >= T - torch.tensor(lengths)[:, None]


def close(got, expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


# --- GPT-2 against transformers ---

ODD = {
    "one head": gpt2.Config(vocab_size=7, block_size=5, n_layers=1, n_heads=1, n_embd=3),
    "three heads": gpt2.Config(vocab_size=13, block_size=9, n_layers=3, n_heads=3, n_embd=15),
    "width of a head 1": gpt2.Config(vocab_size=2, block_size=17, n_layers=2, n_heads=4, n_embd=4, eps=1e-3),
    "one position": gpt2.Config(vocab_size=5, block_size=1, n_layers=2, n_heads=2, n_embd=6),
}


def hf_name(name: str) -> str:
    """Our name of a parameter -> the same one's in GPT2LMHeadModel."""
    return f"transformer.{name}"


def is_transposed(name: str) -> bool:
    """transformers' Conv1D holds a linear map's weight as (in, out)."""
    return name.endswith(".weight") and any(part in name for part in ("c_attn", "c_proj", "c_fc"))


def twins(config: gpt2.Config, seed: int = 0):
    """Our model and transformers' with the same random weights, in eval mode."""
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_embd=config.n_embd,
            layer_norm_epsilon=config.eps,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    ours = randomise(gpt2.GPT(config), seed)
    weights = {hf_name(n): p.T if is_transposed(n) else p for n, p in ours.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}  # the head is the embedding
    theirs.tie_weights()
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_gpt2_is_transformers_gpt2(name, fused):
    """Logits, loss and every gradient, at T = 1 and T = block_size."""
    config = gpt2.Config(**(vars(ODD[name]) | {"fused": fused}))
    ours, theirs = twins(config)
    for T in {1, config.block_size}:
        x, y = (tokens(3, T, seed=seed, vocab_size=config.vocab_size) for seed in (1, 2))
        y[0, 0] = IGNORE
        mine = ours(x, y)
        logits = theirs(x).logits
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        close(mine.logits, logits)
        close(mine.loss, loss)
        expected = gradients(theirs, loss)
        for parameter, gradient in gradients(ours, mine.loss).items():
            want = expected[hf_name(parameter)]
            close(gradient, want.T if is_transposed(parameter) else want)


@pytest.mark.parametrize("name", ["one head", "three heads", "width of a head 1"])
def test_gpt2_with_left_padding_is_transformers_gpt2(name):
    ours, theirs = twins(ODD[name])
    pad = left_padding(4, 1, 3)
    x = tokens(3, 4, vocab_size=ODD[name].vocab_size)
    positions = (pad.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(x, attention_mask=pad.long(), position_ids=positions).logits
    close(ours(x, pad=pad).logits[pad], expected[pad])


@pytest.mark.parametrize("name", ["one head", "three heads", "width of a head 1"])
def test_gpt2_with_cache_and_padding_is_transformers_gpt2(name):
    """Both read 3 tokens, then 1, then 1, of rows with 5, 3 and 4 real ones."""
    ours, theirs = twins(ODD[name], seed=1)
    pad = left_padding(5, 3, 4)
    x = tokens(3, 5, vocab_size=ODD[name].vocab_size)
    positions = (pad.long().cumsum(1) - 1).clamp(min=0)
    state, cache = ours.new_state(3), None
    for begin, end in [(0, 3), (3, 4), (4, 5)]:
        read = {"attention_mask": pad[:, :end].long(), "position_ids": positions[:, begin:end]}
        expected = theirs(x[:, begin:end], past_key_values=cache, use_cache=True, **read)
        cache = expected.past_key_values
        mine = ours(x[:, begin:end], state=state, pad=pad[:, :end]).logits
        real = pad[:, begin:end]
        close(mine[real], expected.logits[real])


def test_gpt2_starts_as_gpt2():
    """Standard deviations within 5 of their standard errors; biases 0, gains 1; one matrix is embedding and head."""
    config = gpt2.Config(vocab_size=300, block_size=50, n_layers=8, n_heads=2, n_embd=64)
    torch.manual_seed(0)
    model = gpt2.GPT(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (1.0 if "ln_" in name and name.endswith("weight") else 0.0)).all(), name
            continue
        std = 0.02 / math.sqrt(2 * config.n_layers) if "c_proj" in name else 0.02
        assert abs(parameter.std() / std - 1) < 5 / math.sqrt(2 * parameter.numel()), name
        assert abs(parameter.mean() / std) < 5 / math.sqrt(parameter.numel()), name
    C, V, L = config.n_embd, config.vocab_size, config.n_layers
    assert sum(p.numel() for p in model.parameters()) == (V + config.block_size) * C + L * (12 * C * C + 13 * C) + 2 * C


def test_gpt2_small_has_124_million_parameters():
    """As the paper's smallest: counted without allocating them."""
    with torch.device("meta"):
        model = gpt2.GPT(gpt2.PRESETS["gpt2-small"])
    assert sum(p.numel() for p in model.parameters()) == 124_439_808


def test_gpt2_refuses_more_tokens_than_positions():
    model = lm("gpt2")
    with pytest.raises(ValueError, match="10 tokens in sight, but block_size is 9"):
        model(tokens(1, 10))
    state = model.new_state(1)
    model(tokens(1, 9), state=state)
    with pytest.raises(ValueError, match="10 tokens in sight"):
        model(tokens(1, 1), state=state)


def test_gpt2_fused_is_gpt2_written_out():
    written, fused = lm("gpt2"), lm("gpt2 fused")
    assert fused.config.fused and not written.config.fused
    x, y, padding = tokens(3, 6), tokens(3, 6, seed=1), left_padding(6, 2, 4)
    for pad, targets in ((None, y), (padding, y.masked_fill(~padding, IGNORE))):
        one, other = written(x, targets, pad=pad), fused(x, targets, pad=pad)
        close(one.logits, other.logits, 1e-5)
        close(gradients(written, one.loss), gradients(fused, other.loss), 1e-5)


def test_dropout_acts_in_training_only():
    for fused in (False, True):
        model = lm("gpt2", dropout=0.5, fused=fused)
        x = tokens(2, 6)
        assert not torch.equal(model(x).logits, model(x).logits)
        model.eval()
        assert torch.equal(model(x).logits, lm("gpt2", fused=fused).eval()(x).logits)


@pytest.mark.parametrize("attend", [gpt2.attention, gpt2.fused_attention])
def test_dropout_on_attention_weights_keeps_their_mean(attend):
    """With probability p a weight becomes 0, else it grows by 1 / (1 - p): over many heads the mean stays."""
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 4, 3).expand(1, 20000, 4, 3), torch.randn(1, 1, 4, 3).expand(1, 20000, 4, 3)
    v = torch.eye(4).expand(1, 20000, 4, 4)  # the output is the weights
    visible = gpt2.causal_mask(4, 4)
    without, with_dropout = attend(q, k, v, visible), attend(q, k, v, visible, 0.25)
    assert (with_dropout == 0).float().mean() > (without == 0).float().mean() + 0.1
    close(with_dropout.mean(1), without.mean(1), 0.02)


# --- The modules against torch's ---


def with_gradients(module, x: torch.Tensor, seed: int = 0) -> list[torch.Tensor]:
    """The output of a module or function, and the gradients of a random weighing of it."""
    x = x.clone().requires_grad_()
    y = module(x)
    weigh = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    parameters = list(module.parameters()) if isinstance(module, nn.Module) else []
    return [y, *torch.autograd.grad((y * weigh).sum(), [x, *parameters])]


@pytest.mark.parametrize("norm", [gpt2.LayerNorm, gpt2.FusedLayerNorm])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3, 16)])
def test_layer_norm_is_torchs(norm, shape):
    ours, theirs = (randomise(kind(shape[-1], eps=1e-3), 0) for kind in (norm, nn.LayerNorm))
    x = torch.randn(shape) * 3 + 2
    close(with_gradients(ours, x), with_gradients(theirs, x), 1e-5)


@pytest.mark.parametrize("gelu", [gpt2.gelu, gpt2.fused_gelu])
def test_gelu_is_torchs_tanh_form(gelu):
    x = torch.linspace(-8, 8, 101)
    close(with_gradients(gelu, x), with_gradients(nn.GELU(approximate="tanh"), x), 1e-5)


@pytest.mark.parametrize("attend", [gpt2.attention, gpt2.fused_attention])
@pytest.mark.parametrize("T, S, pad", [(1, 1, None), (5, 5, None), (2, 6, None), (4, 4, (4, 1)), (2, 5, (3, 5))])
def test_attention_is_torchs(attend, T, S, pad):
    """The mask, too, by its definition: token i of the last T sees j if j <= i and j is real, and itself."""
    pad = None if pad is None else left_padding(*pad, S)[:2]
    visible = gpt2.causal_mask(T, S, pad)
    for b in range(2):
        for i in range(T):
            for j in range(S):
                at = S - T + i
                want = j == at or (j < at and (pad is None or bool(pad[b, j])))
                assert visible.expand(2, 1, T, S)[b, 0, i, j] == want
    q, k, v = torch.randn(2, 3, T, 7), torch.randn(2, 3, S, 7), torch.randn(2, 3, S, 7)
    close(
        with_gradients(lambda q: attend(q, k, v, visible), q),
        with_gradients(lambda q: F.scaled_dot_product_attention(q, k, v, visible), q),
        1e-5,
    )


@pytest.mark.parametrize("momentum", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("rows", [2, 7])
def test_batch_norm_is_torchs(momentum, rows):
    """Output, gradients and running statistics over three steps, then eval mode."""
    ours, theirs = (kind(5, eps=1e-3, momentum=momentum) for kind in (mlp.BatchNorm, nn.BatchNorm1d))
    randomise(ours, 0)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for step in range(4):
        if step == 3:
            ours.eval(), theirs.eval()
        x = torch.randn(rows, 5) * 2 + step
        close(with_gradients(ours, x), with_gradients(theirs, x))
        close(ours.running_mean, theirs.running_mean, 1e-6)
        close(ours.running_var, theirs.running_var, 1e-6)


def test_batch_norm_counts_only_rows_that_are_data():
    """As if the other rows were not there."""
    ours, theirs = mlp.BatchNorm(5), nn.BatchNorm1d(5)
    x, counted = torch.randn(3, 4, 5), left_padding(4, 1, 2)
    close(ours(x, counted)[counted], theirs(x[counted]), 1e-5)
    close(ours.running_var, theirs.running_var, 1e-6)


def test_mlps_linear_keeps_the_scale_of_what_it_reads():
    """Kaiming: weights normal with gain / sqrt(n_in), so outputs of unit inputs have standard deviation gain."""
    torch.manual_seed(0)
    linear = mlp.Linear(200, 300, gain=5 / 3)
    deviation = 5 / 3 / math.sqrt(200)
    assert abs(linear.weight.std() / deviation - 1) < 5 / math.sqrt(2 * linear.weight.numel())
    assert abs(linear.weight.mean() / deviation) < 5 / math.sqrt(linear.weight.numel())
    kurtosis = ((linear.weight / deviation) ** 4).mean()  # 3 for a normal distribution, 1.8 for a uniform one
    assert abs(kurtosis - 3) < 0.2
    assert abs(linear(torch.randn(1000, 200)).std() / (5 / 3) - 1) < 0.05
    assert (linear.bias == 0).all() and mlp.Linear(2, 2, bias=False).bias is None
    theirs = nn.Linear(200, 300)
    theirs.load_state_dict(randomise(linear, 0).state_dict())
    x = torch.randn(4, 200)
    close(with_gradients(linear, x), with_gradients(theirs, x))


def test_mlp_starts_with_its_scales_kept_and_no_opinion():
    """What tanh reads has standard deviation 5/3; logits are a tenth of what it gives, so the loss is near ln V."""
    torch.manual_seed(0)
    model = mlp.MLP(mlp.Config(vocab_size=40, block_size=8, n_embd=25, n_hidden=400, batch_norm=False))
    x = tokens(50, 20, vocab_size=40)
    read, given = [], []
    model.hidden.register_forward_hook(lambda module, args, output: read.append(output[:, 8:]))
    model.output.register_forward_hook(lambda module, args, output: given.append((args[0], output)))
    loss = model(x, tokens(50, 20, seed=1, vocab_size=40)).loss
    assert read[0].std().item() == pytest.approx(5 / 3, rel=0.1)
    (h, logits), *_ = given
    assert logits.std().item() == pytest.approx(0.1 * h.square().mean().sqrt().item(), rel=0.1)
    assert loss.item() == pytest.approx(math.log(40), abs=0.02)


def test_mlps_norm_does_not_learn_from_positions_without_a_target():
    """Padding on the right is cut away: loss, gradients and running statistics are those of the real part."""
    one, other = lm("mlp"), lm("mlp")
    x, y = tokens(3, 9), tokens(3, 9, seed=1)
    y[:, 5:] = IGNORE
    padded, alone = one(x, y).loss, other(x[:, :5], y[:, :5]).loss
    close(padded, alone, 1e-6)
    close(gradients(one, padded), gradients(other, alone), 1e-5)
    close(one.state_dict(), other.state_dict(), 1e-6)


def test_mlp_is_its_equation():
    """tanh(norm(W e)) V + b over the last three tokens, with -1 before the beginning."""
    model = lm("mlp", block_size=3).eval()
    x = tokens(1, 5)[0].tolist()
    norm = nn.BatchNorm1d(SMALL["n_hidden"]).eval()
    norm.load_state_dict(model.norm.state_dict(), strict=False)
    for t in range(5):
        context = ([SMALL["vocab_size"]] * 2 + x)[t : t + 3]
        e = torch.cat([model.embedding.weight[token] for token in context])
        expected = model.output.weight @ torch.tanh(norm((model.hidden.weight @ e)[None])[0]) + model.output.bias
        close(model(torch.tensor([x])).logits[0, t], expected, 1e-5)


# --- WaveNet ---


@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_causal_conv_is_torchs_dilated_convolution(dilation):
    """A kernel of two taps, its last axis from old to new: output, gradients of input and parameters."""
    ours = randomise(wavenet.CausalConv(3, 4, dilation), 0)
    theirs = nn.Conv1d(3, 4, 2, dilation=dilation)
    weight, bias = ours.taps.weight.view(4, 2, 3).mT, ours.taps.bias  # (4, 3, 2)
    theirs.load_state_dict({"weight": weight, "bias": bias})
    x = torch.randn(2, 9, 3)
    mine, other = with_gradients(ours, x), with_gradients(lambda x: theirs(x.mT).mT, x)
    close(mine[:2], other, 1e-5)
    weigh = torch.randn(mine[0].shape, generator=torch.Generator().manual_seed(0))
    kernel, constant = torch.autograd.grad((theirs(x.mT).mT * weigh).sum(), list(theirs.parameters()))
    close(mine[2:], [kernel.mT.reshape(4, 6), constant], 1e-5)


def test_wavenet_is_a_tree_of_pairs():
    """By its definition, token by token: a node of layer l joins two of layer l - 1, 2^(l - 1) apart."""
    model = lm("wavenet", n_layers=3)
    V, x = model.config.vocab_size, tokens(1, 12)[0]

    def said(layer: int, t: int) -> torch.Tensor:
        block = model.blocks[layer - 1]
        pair = torch.cat((node(layer - 1, t - 2 ** (layer - 1)), node(layer - 1, t)))
        a, b = (block.conv.taps.weight @ pair + block.conv.taps.bias).view(2, -1)
        return block.out.weight @ (a.tanh() * b.sigmoid()) + block.out.bias

    def node(layer: int, t: int) -> torch.Tensor:
        if layer == 0:
            return model.embedding.weight[x[t] if t >= 0 else V]
        return node(layer - 1, t) + said(layer, t)

    logits = model(x[None]).logits[0]
    for t in (0, 3, 7, 11):
        h = (said(1, t) + said(2, t) + said(3, t)).clamp(min=0)
        h = (model.hidden.weight @ h + model.hidden.bias).clamp(min=0)
        close(logits[t], model.output.weight @ h + model.output.bias, 1e-5)


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_wavenet_sees_block_size_tokens_and_no_other(n_layers):
    """The gradient of the logits at t to the embedding at t - k is 0 exactly where k < 0 or k >= block_size."""
    model = lm("wavenet", n_layers=n_layers)
    N = model.config.block_size
    assert N == 2**n_layers
    embedded = []
    model.embedding.register_forward_hook(lambda module, args, output: embedded.append(output))
    logits = model(tokens(1, N + 4)).logits
    for t in (0, N, N + 3):
        (gradient,) = torch.autograd.grad(logits[0, t].sum(), embedded[0], retain_graph=True)
        seen = (gradient[0] != 0).any(-1)  # (N - 1 + T,): N - 1 places stand before the first token
        assert seen.tolist() == [t <= at < t + N for at in range(len(seen))]


def test_wavenet_starts_with_no_opinion():
    """Logits are a tenth of what the output layer would give with gain 1, so the loss is near ln V."""
    torch.manual_seed(0)
    model = wavenet.WaveNet(wavenet.Config(vocab_size=40))
    given = []
    model.output.register_forward_hook(lambda module, args, output: given.append((args[0], output)))
    loss = model(tokens(50, 20, vocab_size=40), tokens(50, 20, seed=1, vocab_size=40)).loss
    h, logits = given[0]
    assert logits.std().item() == pytest.approx(0.1 * h.square().mean().sqrt().item(), rel=0.1)
    assert loss.item() == pytest.approx(math.log(40), abs=0.02)


# --- RNN, GRU, LSTM ---

CELLS = ("rnn", "gru", "lstm")
each_cell = pytest.mark.parametrize("cell", CELLS)
each_precision = pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])


def carried(cell: str, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """A random state: one tensor, or h and c for the LSTM."""
    return tuple(torch.randn(*shape, dtype=dtype, requires_grad=True) for _ in range(1 + (cell == "lstm")))


def weighed(*outputs: torch.Tensor) -> torch.Tensor:
    """A sum whose gradients tell every value from every other."""
    return sum((each * torch.linspace(-1, 2, each.numel()).to(each).view(each.shape)).sum() for each in outputs)


def reads(layer: recurrent.Layer, x: torch.Tensor, state: tuple[torch.Tensor, ...]):
    return layer(x, state, torch.zeros(x.shape[:2], dtype=torch.bool))


@each_precision
@each_cell
def test_a_recurrent_layer_is_torchs_cell_step_by_step(cell, dtype, tolerance):
    """Seven steps: h at each time, the last state, gradients of weights, inputs and the first state."""
    ours = randomise(recurrent.Layer(cell, 3, 5).to(dtype), 0)
    theirs = getattr(nn, f"{cell.upper()}Cell")(3, 5, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())  # the same names
    x, state = torch.randn(2, 7, 3, dtype=dtype, requires_grad=True), carried(cell, 2, 5, dtype=dtype)
    output, last = reads(ours, x, state)
    wanted, now = [], state
    for t in range(7):
        now = theirs(x[:, t], now if cell == "lstm" else now[0])
        now = now if cell == "lstm" else (now,)
        wanted.append(now[0])
    close((output, *last), (torch.stack(wanted, 1), *now), tolerance)
    mine = torch.autograd.grad(weighed(output, *last), [x, *state, *ours.parameters()])
    other = torch.autograd.grad(weighed(torch.stack(wanted, 1), *now), [x, *state, *theirs.parameters()])
    close(mine, other, tolerance)


@each_precision
@each_cell
def test_recurrent_layers_are_torchs_stack(cell, dtype, tolerance):
    """Two layers and weights that copy both ways: outputs, final states, every gradient."""
    model = randomise(recurrent.Recurrent(recurrent.Config(cell=cell, n_layers=2, n_embd=3, n_hidden=5)).to(dtype), 0)
    names = {f"{name}_l{i}": f"{i}.{name}" for i in range(2) for name, _ in model.layers[i].named_parameters()}
    weights = model.layers.state_dict()
    theirs = getattr(nn, cell.upper())(3, 5, 2, batch_first=True, dtype=dtype)
    theirs.load_state_dict({name: weights[own] for name, own in names.items()})
    back = recurrent.Recurrent(model.config).to(dtype)
    back.layers.load_state_dict({own: theirs.state_dict()[name] for name, own in names.items()})
    x, state = torch.randn(2, 7, 3, dtype=dtype, requires_grad=True), carried(cell, 2, 2, 5, dtype=dtype)  # (L, B, K)
    h, last = x, []
    for i, layer in enumerate(back.layers):
        h, final = reads(layer, h, tuple(each[i] for each in state))
        last.append(final)
    last = [torch.stack(each) for each in zip(*last, strict=True)]
    wanted, final = theirs(x, state if cell == "lstm" else state[0])
    final = final if cell == "lstm" else (final,)
    close((h, *last), (wanted, *final), tolerance)
    ours = dict(back.layers.named_parameters())
    sources = [ours[own] for own in names.values()], [dict(theirs.named_parameters())[name] for name in names]
    mine = torch.autograd.grad(weighed(h, *last), [x, *state, *sources[0]])
    close(mine, torch.autograd.grad(weighed(wanted, *final), [x, *state, *sources[1]]), tolerance)


@settings(max_examples=20)
@each_cell
@given(row=st.lists(st.sampled_from([END, 1, 2, 3]), min_size=2, max_size=12))
def test_a_document_knows_nothing_of_the_one_before_it(cell, row):
    """Cut at each END, the pieces read alone get the logits that they get in one stream, beside another row."""
    model = lm("recurrent", cell=cell).eval()
    x = torch.tensor([row, [4] * len(row)])
    begins = [t for t, token in enumerate(row) if token == END or t == 0]
    alone = [model(x[:1, a:b]).logits for a, b in zip(begins, [*begins[1:], len(row)], strict=True)]
    together = model(x).logits
    close(together[:1], torch.cat(alone, 1), 1e-5)
    close(together[1:], model(x[1:]).logits, 1e-5)


@settings(max_examples=20)
@each_cell
@given(places=st.lists(st.booleans(), min_size=1, max_size=9), filled=st.integers(0, 3))
def test_a_recurrent_model_leaves_out_padding_wherever_it_stands(cell, places, filled):
    """Whatever fills it, END too: logits of real tokens and the state after them are those of the real tokens alone."""
    model = lm("recurrent", cell=cell).eval()
    real = torch.tensor([places])
    x = tokens(1, len(places), seed=len(places))
    state, other = model.new_state(1), model.new_state(1)
    logits = model(x.masked_fill(~real, filled), state=state, pad=real).logits[real]
    if real.any():
        close(logits, model(x[real][None], state=other).logits[0], 1e-5)
    close(state.layers, other.layers, 1e-5)


@each_cell
def test_backpropagation_ends_where_a_state_was_handed_on(cell):
    """The second window's gradients are those with the first one's state as plain numbers; each window can step."""
    model = lm("recurrent", cell=cell)
    x, y = tokens(2, 8), tokens(2, 8, seed=1)
    state = model.new_state(2)
    first = model(x[:, :4], y[:, :4], state=state).loss
    assert not any(each.requires_grad for layer in state.layers for each in layer)
    numbers = recurrent.RecurrentState([tuple(each.clone() for each in layer) for layer in state.layers])
    gradients(model, first)
    mine = gradients(model, model(x[:, 4:], y[:, 4:], state=state).loss)
    close(mine, gradients(model, model(x[:, 4:], y[:, 4:], state=numbers).loss), 1e-6)


@each_cell
def test_a_recurrent_model_runs_in_half_precision(cell):
    model, x = lm("recurrent", cell=cell).eval(), tokens(2, 6)
    exact, state = model(x).logits, model.bfloat16().new_state(2)
    logits = model(x, state=state).logits
    assert logits.dtype == torch.bfloat16 and all(each.dtype == torch.bfloat16 for each in state.layers[0])
    close(logits.float(), exact, 0.05)


@each_cell
def test_recurrent_generation_with_and_without_a_state_gives_the_same_text(cell):
    tokenizer = CharTokenizer.train(["abcdefghij"])
    engine = Engine(lm("recurrent", cell=cell), tokenizer)
    told = {"max_tokens": 12, "seed": 3}
    with_state = engine.generate(["", "abba", "j"], **told)
    assert [each.text for each in with_state] == [
        each.text for each in engine.generate(["", "abba", "j"], use_state=False, **told)
    ]
    assert any(each.text for each in with_state)


def test_a_recurrent_model_starts_as_it_says():
    torch.manual_seed(0)
    for cell in CELLS:
        config = recurrent.Config(vocab_size=40, cell=cell, n_layers=2, n_embd=50, n_hidden=200)
        model = recurrent.Recurrent(config)
        for layer, width in zip(model.layers, (50, 200), strict=True):
            for weight, n_in in ((layer.weight_ih, width), (layer.weight_hh, 200)):
                assert abs(weight.std() * math.sqrt(n_in) - 1) < 5 / math.sqrt(2 * weight.numel())
            assert (layer.bias_hh == 0).all()
            gates = layer.bias_ih.view(-1, 200)
            assert gates.tolist() == [[float(cell == "lstm" and i == 1)] * 200 for i in range(len(gates))]
        loss = model(tokens(20, 20, vocab_size=40), tokens(20, 20, seed=1, vocab_size=40)).loss
        assert loss.item() == pytest.approx(math.log(40), abs=0.02)


def test_the_gradient_fades_in_an_rnn_and_lives_on_in_an_lstm():
    """Of a loss at the last of 20 tokens: what the first embedding's gradient keeps of the last one's."""

    def kept(cell: str, seed: int) -> float:
        torch.manual_seed(seed)
        model = recurrent.Recurrent(recurrent.Config(cell=cell, n_hidden=128))
        embedded = []
        model.embedding.register_forward_hook(lambda module, args, output: embedded.append(output))
        targets = torch.full((16, 20), IGNORE)
        targets[:, -1] = 1
        loss = model(tokens(16, 20, vocab_size=26) + 1, targets).loss
        norms = torch.autograd.grad(loss, embedded)[0].norm(dim=(0, 2))
        return (norms[0] / norms[-1]).item()

    for seed in range(3):
        assert kept("lstm", seed) > 20 * kept("rnn", seed)


# --- Bigram ---


def test_bigram_by_counting_and_by_gradient_give_the_same_answer():
    """Descent on the loss ends at the table that counting gives: their probabilities agree to 1e-3."""
    x, y = tokens(40, 50, vocab_size=5), tokens(40, 50, seed=1, vocab_size=5)
    counted = bigram.count(x, y, 5, smoothing=0.0).exp()
    model = bigram.Bigram(bigram.Config(5))
    optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
    for _ in range(200):
        optimizer.zero_grad()
        model(x, y).loss.backward()
        optimizer.step()
    close(model.table.softmax(1), counted, 1e-3)
    by_counting = bigram.Bigram(bigram.Config(5))
    by_counting.load_state_dict({"table": counted.log()})
    close(by_counting(x, y).loss, model(x, y).loss, 1e-3)


@settings(max_examples=50)
@given(st.data())
def test_counting_is_the_share_of_each_pair(data):
    V = data.draw(st.integers(1, 4))
    pairs = data.draw(st.lists(st.tuples(st.integers(0, V - 1), st.integers(0, V - 1) | st.just(IGNORE)), max_size=12))
    smoothing = data.draw(st.sampled_from([0.5, 1.0, 3.0]))
    x, y = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
    table = bigram.count(x, y, V, smoothing).exp()
    for a in range(V):
        row = [pairs.count((a, b)) + smoothing for b in range(V)]
        assert table[a].tolist() == pytest.approx([count / sum(row) for count in row])


# --- What holds for every language model ---


@pytest.mark.parametrize("module", [each.module for each in models.families("lm")], ids=lambda module: module.__name__)
def test_cross_entropy_is_torchs(module):
    logits = torch.randn(3, 4, 6, requires_grad=True)
    targets = tokens(3, 5, vocab_size=6)[:, 1:]  # a slice: not contiguous
    targets[0, 1:] = IGNORE
    ours, theirs = module.cross_entropy(logits, targets), F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    close(ours, theirs, 1e-6)
    close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits), 1e-6)


@pytest.mark.parametrize("name", LMS)
def test_where_nothing_counts_the_loss_is_0_with_zero_gradients(name):
    model = lm(name)
    loss = model(tokens(2, 3), torch.full((2, 3), IGNORE)).loss
    assert loss.item() == 0
    assert all((gradient == 0).all() for gradient in gradients(model, loss).values())


@pytest.mark.parametrize("name", LMS)
def test_targets_that_do_not_count_have_no_influence(name):
    model = lm(name).eval()
    x, y = tokens(2, 6), tokens(2, 6, seed=1)
    cut = y.clone()
    cut[:, 4:] = IGNORE
    close(model(x, cut).loss, model(x[:, :4], y[:, :4]).loss, 1e-6)


@pytest.mark.parametrize("name", LMS)
def test_the_output_keeps_the_promises_of_the_protocol(name):
    model = lm(name)
    x = tokens(3, 8)[:, 1:7]  # a slice, as a training loop feeds it
    logits, loss = model(x, x)
    assert logits.shape == (3, 6, model.config.vocab_size) and loss.shape == ()
    assert model(x).loss is None
    assert model(x[:1, :1]).logits.shape == (1, 1, model.config.vocab_size)
    assert all(gradient.isfinite().all() for gradient in gradients(model, loss).values())


@settings(max_examples=20)
@pytest.mark.parametrize("name", LMS)
@given(T=st.integers(2, 9), t=st.integers(1, 8), seed=st.integers(0, 99))
def test_future_tokens_have_no_influence(name, T, t, seed):
    model = lm(name, seed).eval()
    t = min(t, T - 1)
    x = tokens(2, T, seed=seed)
    changed = torch.cat((x[:, :t], (x[:, t:] + 1) % SMALL["vocab_size"]), 1)
    before, after = model(x).logits, model(changed).logits
    close(before[:, :t], after[:, :t], 1e-6)
    assert not torch.allclose(before[:, t:], after[:, t:])


@settings(max_examples=20)
@pytest.mark.parametrize("name", LMS)
@given(chunks=st.lists(st.integers(1, 4), min_size=1, max_size=4), first=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_state_fed_in_any_chunks_equals_the_full_forward(name, chunks, first, seed):
    """With left padding in one of two rows."""
    while sum(chunks) > SMALL["block_size"]:
        chunks = chunks[:-1]
    T = sum(chunks)
    model = lm(name, seed).eval()
    x, pad = tokens(2, T, seed=seed), left_padding(T, min(first, T))
    state = model.new_state(2)
    parts, read = [], 0
    for chunk in chunks:
        parts.append(model(x[:, read : read + chunk], state=state, pad=pad[:, : read + chunk]).logits)
        read += chunk
    close(torch.cat(parts, 1)[pad], model(x, pad=pad).logits[pad], 1e-5)


@settings(max_examples=20)
@pytest.mark.parametrize("name", LMS)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_left_padding_is_invisible(name, lengths, seed):
    """Each row's logits are those of its real tokens alone, and whatever stands in the padding does not matter."""
    model = lm(name, seed).eval()
    pad = left_padding(*lengths)
    x = tokens(*pad.shape, seed=seed)
    logits = model(x, pad=pad).logits
    assert logits.isfinite().all()
    close(model(torch.where(pad, x, 0), pad=pad).logits[pad], logits[pad], 1e-5)
    for row, length in enumerate(lengths):
        close(logits[row, -length:], model(x[row : row + 1, -length:]).logits[0], 1e-5)


def test_a_cropped_cache_goes_on_as_if_it_had_read_no_more():
    model = lm("gpt2").eval()
    x = tokens(2, 6)
    state = model.new_state(2)
    model(tokens(2, 7, seed=1), state=state)
    state.crop(0)
    model(x[:, :4], state=state)
    model(tokens(2, 2, seed=2), state=state)
    state.crop(4)
    assert state.length == 4
    close(model(x[:, 4:], state=state).logits, model(x).logits[:, 4:], 1e-5)


# --- Configurations, names, files ---


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_config_error_names_the_field_and_the_value(family):
    sizes = [name for name, kind in family.Config.__annotations__.items() if kind in (int, "int")]
    assert "vocab_size" in sizes or "n_classes" in sizes
    for name in sizes:
        without = (family.name, name) == ("encoder", "n_layers")  # it may do without attention
        for value in (-1, -3) if without else (0, -3):
            with pytest.raises(ValueError, match=f"^{name} .*{value}$"):
                family.Config(**{name: value})


@pytest.mark.parametrize(
    "values, message",
    [
        ({"n_embd": 10, "n_heads": 4}, "n_embd must be a multiple of n_heads, got 10 and 4"),
        ({"dropout": 1.0}, "dropout must be in .* got 1.0"),
        ({"dropout": -0.1}, "dropout must be in .* got -0.1"),
        ({"dropout": math.nan}, "dropout must be in .* got nan"),
    ],
)
def test_a_gpt2_config_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        gpt2.Config(**values)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_config_is_frozen_and_its_model_keeps_it(family):
    config = next(iter(family.presets.values()))
    with torch.device("meta"):
        assert family.Model(config).config is config
    with pytest.raises(AttributeError):
        config.fused = True


def test_model_and_preset_names_are_unique():
    names = [name for family in FAMILIES for name in (family.name, *family.presets)]
    assert len(names) == len(set(names))


def test_find_knows_every_model_file_and_preset():
    folder = Path(models.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "protocol"}
    assert files == {family.name for family in FAMILIES}
    for family in FAMILIES:
        for name in (family.name, *family.presets):
            found = models.find(name)
            assert (found.name, found.Model, found.Config) == (family.name, family.Model, family.Config)
            assert Path(found.path) == folder / f"{family.name}.py"
            assert all(isinstance(preset, found.Config) for preset in found.presets.values())


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(models.UnknownModel, match="no model is called 'gpt9'") as caught:
        models.find("gpt9")
    assert "\n" not in str(caught.value) and all(family.name in str(caught.value) for family in FAMILIES)
    for family in FAMILIES:
        for preset in family.presets:
            with pytest.raises(models.UnknownModel, match=f"presets near it: .*{preset}\\b"):
                models.find(f"{preset}x")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_model_file_imports_only_torch_the_standard_library_and_the_protocol(family):
    for node in ast.walk(ast.parse(Path(family.path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            top = name.split(".")[0]
            assert top == "torch" or top in sys.stdlib_module_names or name == "kakehashi.models.protocol", name
