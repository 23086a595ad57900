"""The Transformer against torch.nn's encoder and decoder, the paper's formulas, and what must hold for each."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kakehashi import models
from kakehashi.models import transformer
from kakehashi.models.protocol import IGNORE
from kakehashi.models.transformer import Config, Transformer, cross_entropy, positions

PLAIN = {"dropout": 0.0, "label_smoothing": 0.0}
ODD = {
    "one of all": Config(3, 1, 1, 2, 1, **PLAIN),
    "three heads": Config(7, 2, 3, 12, 5, **PLAIN),
    "width of a head 1": Config(11, 3, 4, 4, 9, eps=1e-3, **PLAIN),
}
ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["norm after", "norm first"])


def randomised(config: Config, seed: int = 0) -> Transformer:
    """A model with random gains and biases, too: at 1 and 0 they would hide what is wrong with them."""
    torch.manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model


def texts(config: Config, B: int, S: int, T: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """source (B, S), target (B, T), targets (B, T) with gaps, source_pad (B, S) whose last row has one real token."""
    generator = torch.Generator().manual_seed(seed)
    source, target, targets = (torch.randint(config.vocab_size, (B, n), generator=generator) for n in (S, T, T))
    targets[torch.rand((B, T), generator=generator) < 0.3] = IGNORE
    lengths = torch.randint(1, S + 1, (B,), generator=generator)
    lengths[-1] = 1
    return source, target, targets, torch.arange(S) < lengths[:, None]


def close(got, expected, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


# --- torch.nn's layers ---


def the_same_in_torch(model: Transformer) -> tuple[nn.Module, dict[str, str]]:
    """torch.nn.Transformer with our weights, and the name there of each of our parameters but the embedding.

    Of q, k and v, which lie in one matrix there, "name|n" is the nth third.
    """
    c = model.config
    theirs = nn.Transformer(
        c.n_embd,
        c.n_heads,
        c.n_layers,
        c.n_layers,
        c.n_hidden,
        c.dropout,
        "relu",
        None,
        None,
        c.eps,
        True,
        c.norm_first,
    )
    if not c.norm_first:
        theirs.encoder.norm = theirs.decoder.norm = None  # the paper's stacks end with a layer's own norm
    names = {}
    for ours in dict(model.named_parameters()):
        part, *rest = ours.split(".")
        if part in ("encoder_norm", "decoder_norm"):
            names[ours] = f"{part.removesuffix('_norm')}.norm.{rest[0]}"
        elif part in ("encoder", "decoder"):
            layer, module, *inner, kind = rest
            stem = f"{part}.layers.{layer}."
            if module == "branches":
                names[ours] = f"{stem}norm{int(inner[0]) + 1}.{kind}"
            elif module == "feed_forward":
                names[ours] = f"{stem}linear{1 if inner[0] == 'up' else 2}.{kind}"
            else:
                attention = "self_attn" if module == "attention" else "multihead_attn"
                third = "qkv".find(inner[0])
                names[ours] = stem + attention + (f".out_proj.{kind}" if third < 0 else f".in_proj_{kind}|{third}")
    with torch.no_grad():
        parameters = dict(theirs.named_parameters())
        for ours, name in names.items():
            part_of(parameters, name).copy_(model.get_parameter(ours))
    return theirs, names


def part_of(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    name, _, third = name.partition("|")
    return tensors[name].chunk(3)[int(third)] if third else tensors[name]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@ORDERS
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(("S", "T"), [(1, 1), (7, 5), (3, 8)])
def test_the_transformer_is_torchs(name, norm_first, S, T):
    """Logits, loss and every gradient, with padding in the source and gaps in the targets."""
    model = randomised(replace(ODD[name], norm_first=norm_first))
    theirs, names = the_same_in_torch(model)
    C = model.config.n_embd
    source, target, targets, real = texts(model.config, 4, S, T)
    table = model.embedding.weight.detach().clone().requires_grad_()

    def embedded(tokens):
        return table[tokens] * math.sqrt(C) + paper_positions(tokens.shape[1], C)

    hidden = theirs(
        embedded(source),
        embedded(target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(T),
        src_key_padding_mask=torch.zeros(real.shape).masked_fill(~real, -math.inf),
        memory_key_padding_mask=torch.zeros(real.shape).masked_fill(~real, -math.inf),
    )
    want = hidden @ table.T
    loss = F.cross_entropy(want.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    got = model(source, target, targets, source_pad=real)
    close(got.logits, want)
    close(got.loss, loss)
    loss.backward()
    got.loss.backward()
    # in a width of 2 a norm may divide by nearly nothing, which makes rounding large
    close(model.embedding.weight.grad, table.grad, 1e-4)
    gradients = {each: parameter.grad for each, parameter in theirs.named_parameters()}
    for ours, other in names.items():
        close(model.get_parameter(ours).grad, part_of(gradients, other), 1e-4)
    assert sum(p.numel() for p in theirs.parameters()) + table.numel() == sum(p.numel() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@ORDERS
def test_dropout_falls_where_torchs_does(norm_first):
    """From the same seed, number by number; of one text, as torch's numbers of several lie in another order."""
    model = randomised(replace(ODD["three heads"], norm_first=norm_first, dropout=0.4))
    theirs, _ = the_same_in_torch(model)
    C = model.config.n_embd
    source, target, _, _ = texts(model.config, 1, 7, 5)

    def embedded(tokens):
        return F.dropout(model.embedding(tokens) * math.sqrt(C) + paper_positions(tokens.shape[1], C), 0.4)

    torch.manual_seed(3)
    got = model(source, target).logits
    torch.manual_seed(3)
    memory = theirs.encoder(embedded(source))
    before = nn.Transformer.generate_square_subsequent_mask(5)
    close(got, theirs.decoder(embedded(target), memory, tgt_mask=before) @ model.embedding.weight.T, 1e-4)


@ORDERS
@pytest.mark.parametrize("T", [1, 6])
def test_the_fused_model_is_the_written_out_one(norm_first, T):
    model = randomised(replace(ODD["three heads"], norm_first=norm_first))
    fused = Transformer(replace(model.config, fused=True))
    fused.load_state_dict(model.state_dict())
    source, target, targets, real = texts(model.config, 3, 5, T)
    both = [each(source, target, targets, source_pad=real) for each in (model, fused)]
    close(both[1].logits, both[0].logits)
    grads = [
        torch.autograd.grad(out.loss, list(each.parameters())) for out, each in zip(both, (model, fused), strict=True)
    ]
    for one, other in zip(*grads, strict=True):
        close(other, one)


# --- The paper's formulas ---


def paper_positions(T: int, C: int) -> torch.Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i / C)), PE(pos, 2i + 1) = cos of the same: section 3.5."""
    return torch.tensor(
        [
            [(math.cos if column % 2 else math.sin)(pos / 10000 ** ((column - column % 2) / C)) for column in range(C)]
            for pos in range(T)
        ]
    )


@pytest.mark.parametrize("C", [2, 6, 64])
def test_positions_are_the_papers(C):
    close(positions(0, 50, C), paper_positions(50, C), 1e-5)
    close(positions(17, 33, C), paper_positions(50, C)[17:], 1e-5)


@given(st.integers(2, 9), st.floats(0, 0.9), st.integers(0, 99))
@settings(max_examples=25)
def test_smoothing_is_torchs(V, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 5, V), generator=generator)
    targets = torch.randint(V, (2, 5), generator=generator)
    targets[torch.rand((2, 5), generator=generator) < 0.3] = IGNORE
    targets[0, 0] = V - 1
    want = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, label_smoothing=smoothing)
    close(cross_entropy(logits, targets, smoothing), want)


def test_nothing_counted_is_no_loss_and_teaches_nothing():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 3), IGNORE), 0.1)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_only_training_is_smoothed():
    model = randomised(replace(ODD["three heads"], label_smoothing=0.4))
    source, target, targets, _ = texts(model.config, 3, 5, 4)
    logits, loss = model.eval()(source, target, targets)
    flat = logits.flatten(0, 1), targets.flatten()
    close(loss, F.cross_entropy(*flat, ignore_index=IGNORE))
    close(model.train()(source, target, targets).loss, F.cross_entropy(*flat, ignore_index=IGNORE, label_smoothing=0.4))


def test_weights_start_at_the_scale_they_need():
    torch.manual_seed(0)
    model = Transformer(Config(500, 1, 4, 128, 256))
    assert float(model.embedding.weight.detach().std()) == pytest.approx(128**-0.5, rel=0.02)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.ndim == 2 and name != "embedding.weight":
            assert float(parameter.detach().var()) == pytest.approx(2 / sum(parameter.shape), rel=0.05), name
            assert parameter.abs().max() <= math.sqrt(6 / sum(parameter.shape))
    tokens = torch.arange(500)[None]
    close((model.eval().embed(tokens) - paper_positions(500, 128)).std(), torch.tensor(1.0), 0.02)


# --- What must hold ---


@ORDERS
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (2, 3, 1), (6,)])
@pytest.mark.parametrize("fused", [False, True])
def test_a_text_read_with_a_state_is_the_text_read_at_once(norm_first, sizes, fused):
    model = randomised(replace(ODD["three heads"], norm_first=norm_first, fused=fused)).eval()
    source, target, _, real = texts(model.config, 3, 5, 6)
    state = model.new_state(source, real)
    pieces = [model(None, piece, state=state).logits for piece in target.split(sizes, 1)]
    close(torch.cat(pieces, 1), model(source, target, source_pad=real).logits)


def test_a_state_goes_on_with_the_rows_that_are_selected():
    model = randomised(ODD["three heads"]).eval()
    source, target, _, real = texts(model.config, 3, 5, 6)
    rows = torch.tensor([2, 0, 0, 1])
    state = model.new_state(source, real)
    model(None, target[:, :2], state=state)
    state.select(rows)
    got = model(None, target[rows, 2:], state=state).logits
    close(got, model(source, target, source_pad=real).logits[rows, 2:])
    assert (state.length, state.batch_size) == (6, 4)


def test_a_target_depends_on_no_later_one():
    model = randomised(ODD["three heads"]).eval()
    source, target, _, real = texts(model.config, 3, 5, 6)
    other = target.clone()
    other[:, 4:] = (other[:, 4:] + 1) % model.config.vocab_size
    got, want = (model(source, each, source_pad=real).logits for each in (other, target))
    assert torch.equal(got[:, :4], want[:, :4]) and not torch.equal(got[:, 4:], want[:, 4:])


def test_padding_of_the_source_changes_nothing():
    model = randomised(ODD["three heads"]).eval()
    source, target, _, real = texts(model.config, 3, 5, 6)
    want = model(source, target, source_pad=real).logits
    noise = torch.where(real, source, (source + 1) % model.config.vocab_size)
    assert torch.equal(model(noise, target, source_pad=real).logits, want)
    for row, length in enumerate(real.sum(1)):
        close(model(source[row : row + 1, :length], target[row : row + 1]).logits, want[row : row + 1])


def test_dropout_is_for_training_alone():
    model = randomised(replace(ODD["three heads"], dropout=0.5))
    source, target, _, _ = texts(model.config, 3, 5, 6)
    assert not torch.equal(model(source, target).logits, model(source, target).logits)
    model.eval()
    assert torch.equal(model(source, target).logits, model(source, target).logits)


@pytest.mark.parametrize("fused", [False, True])
def test_a_model_in_bfloat16_computes_in_it(fused):
    config = replace(ODD["three heads"], fused=fused)
    model, given = randomised(config), texts(config, 3, 5, 4)
    expected = model(*given[:2]).logits
    logits = model.bfloat16()(*given[:2]).logits
    assert logits.dtype == torch.bfloat16
    close(logits.float(), expected, 0.05 * expected.abs().max().item())  # 8 bits, through two layers each


def test_the_paper_s_models_have_the_sizes_of_its_table_3():
    for preset, millions in (("transformer-base", 65), ("transformer-big", 213)):
        with torch.device("meta"):
            model = Transformer(models.find("transformer").presets[preset])
        # the paper rounds, and its attention has no biases
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.04)


def test_a_width_of_odd_size_or_uneven_heads_is_named():
    with pytest.raises(ValueError, match="n_embd must be even.*got 9"):
        Config(n_embd=9, n_heads=3)
    with pytest.raises(ValueError, match="n_embd must be a multiple of n_heads, got 10 and 4"):
        Config(n_embd=10, n_heads=4)
    assert transformer.TASK == "seq2seq"
