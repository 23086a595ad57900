"""Checks of the WaveNet station. B = 3, T = 6, C = 5, K = 7, L = 4 layers, N = 16, V = 23: no two are of one length."""

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import (
    Wrong,
    check,
    forward_and_backward,
    fresh,
    gradients,
    same,
    shake,
    shape,
    tensor,
    twin,
)
from kakehashi.journey.lm_checks import HALF, Loss, alike, keeps_its_config, normal, suspect, targets_with_gaps

V, L, C, K = 23, 4, 5, 7
N = 2**L
SIZES = {"vocab_size": V, "n_layers": L, "n_embd": C, "n_hidden": K}


def stream(rng, S=13):
    """(3, S, C), a slice along both axes."""
    return torch.randn(3, S + 1, C + 1, generator=rng)[:, 1:, 1:]


# CausalConv


def conv(mine, ref, rng, dilation=2):
    """Twins of C -> 4 channels with random weights."""
    theirs = shake(ref.CausalConv(C, 4, dilation), rng)
    return twin("CausalConv", mine.CausalConv(C, 4, dilation), theirs), theirs


def conv1d(theirs, x, swap=False, interleaved=False, dilation=None, filled=(0, 0)):
    """torch's convolution with the weights of a CausalConv, and with known mistakes. filled: zeros on both sides."""
    weight = theirs.taps.weight
    taps = weight.view(4, C, 2) if interleaved else weight.view(4, 2, C).mT  # (n_out, C, 2)
    x = F.pad(x.mT, filled)  # (B, C, S)
    return F.conv1d(x, taps.flip(-1) if swap else taps, theirs.taps.bias, dilation=dilation or theirs.dilation).mT


@check("CausalConv", 100)
def conv_has_its_parameters(mine, ref, rng):
    conv(mine, ref, rng)
    same("CausalConv.taps.bias at the start", mine.CausalConv(C, 4, 2).taps.bias, torch.zeros(4))


@check("CausalConv", 110)
def conv_shortens_its_input(mine, ref, rng):
    for d in (1, 2, 4):
        own, theirs = conv(mine, ref, rng, d)
        x = stream(rng)
        output = tensor("CausalConv", own(fresh(x)))
        if output.shape == (3, 13, 4):
            centred = conv1d(theirs, x, filled=(d // 2, d - d // 2))
            raise Wrong("conv_centred" if alike(output, centred) else "conv_filled", seen=13, expected=13 - d)
        shape("CausalConv", output, (3, 13 - d, 4))


@check("CausalConv", 120)
def conv_joins_tokens_a_dilation_apart(mine, ref, rng):
    for d in (1, 2, 4):
        own, theirs = conv(mine, ref, rng, d)
        x = stream(rng)
        suspect(
            "CausalConv",
            own(fresh(x)),
            conv1d(theirs, x),
            conv_swapped=conv1d(theirs, x, swap=True),
            conv_interleaved=conv1d(theirs, x, interleaved=True),
            conv_neighbours=conv1d(theirs, x, dilation=1)[:, d - 1 :],
            conv_neighbours_early=conv1d(theirs, x, dilation=1)[:, : 13 - d],
            conv_one_token=theirs.taps(torch.cat((x, x), -1))[:, d:],
        )


@check("CausalConv", 130)
def conv_keeps_the_scale(mine, ref, rng):
    """Two taps of 200 channels: a sum of 400 terms."""
    weight = mine.CausalConv(200, 100, 2).taps.weight
    normal("taps.weight", weight, 1 / 400**0.5, conv_fan=1 / 200**0.5, start_uniform=(3 * 400) ** -0.5)


@check("CausalConv", 140)
def conv_has_a_gradient(mine, ref, rng):
    own, theirs = conv(mine, ref, rng)
    gradients("CausalConv", own, theirs, stream(rng))


@check("CausalConv", 150)
def conv_runs_in_half_precision(mine, ref, rng):
    own, theirs = conv(mine, ref, rng)
    x = stream(rng).bfloat16()
    same("CausalConv in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# Block


class Parts(nn.Module):
    """A block whose two results are one tensor: the next layer's input, then the head's."""

    def __init__(self, block, dilation):
        super().__init__()
        self.block, self.dilation = block, dilation

    def forward(self, x):
        result = self.block(x)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise Wrong("result", name="Block", seen=type(result).__name__, expected="stream, said")
        expected = (len(x), x.shape[1] - self.dilation, C)
        return torch.cat([shape(f"Block, result {i}", each, expected) for i, each in enumerate(result, 1)], -1)


def block(mine, ref, rng, dilation=2):
    """Twins with random weights, their results side by side."""
    theirs = shake(ref.Block(ref.Config(**SIZES), dilation), rng)
    own = twin("Block", mine.Block(mine.Config(**SIZES), dilation), theirs)
    return Parts(own, dilation), Parts(theirs, dilation)


@check("Block", 200)
def block_has_its_parameters(mine, ref, rng):
    for d in (1, 2, 4):
        own, _ = block(mine, ref, rng, d)
        if own.block.conv.dilation != d:
            raise Wrong("block_dilation", seen=own.block.conv.dilation, expected=d)
        own(stream(rng))


@check("Block", 210)
def block_says_what_its_gate_lets_through(mine, ref, rng):
    own, theirs = block(mine, ref, rng)
    x = stream(rng)
    h, out = theirs.block.conv(x), theirs.block.out
    a, b = h.chunk(2, -1)
    said = out(torch.tanh(a) * torch.sigmoid(b))
    suspect(
        "what Block hands to the head",
        own(fresh(x))[..., C:],
        said,
        block_swapped=out(torch.tanh(b) * torch.sigmoid(a)),
        block_no_gate=out(torch.tanh(a)),
        block_no_tanh=out(a * torch.sigmoid(b)),
        block_no_sigmoid=out(torch.tanh(a) * b),
        block_tanh_twice=out(torch.tanh(a) * torch.tanh(b)),
        block_sigmoid_twice=out(torch.sigmoid(a) * torch.sigmoid(b)),
        block_gate_added=out(torch.tanh(a) + torch.sigmoid(b)),
        block_interleaved=out(torch.tanh(h[..., ::2]) * torch.sigmoid(h[..., 1::2])),
        block_skip=x[:, 2:] + said,
    )


@check("Block", 220)
def block_adds_to_the_later_token(mine, ref, rng):
    own, theirs = block(mine, ref, rng)
    x = stream(rng)
    right, said = theirs(x).split(C, -1)
    suspect(
        "what Block hands to the next layer",
        own(fresh(x))[..., :C],
        right,
        block_no_residual=said,
        block_earlier=x[:, :-2] + said,
        block_said_lost=x[:, 2:],
    )


@check("Block", 230)
def block_keeps_the_scale(mine, ref, rng):
    block_starts("", mine.Block(mine.Config(n_embd=100, n_hidden=50), 2), 100, 50)


def block_starts(prefix, own, C, K):
    """A fresh block of C channels and K units, alone or in a model, where prefix is its name."""
    taps, out = own.conv.taps.weight, own.out.weight
    normal(f"{prefix}conv.taps.weight", taps, (2 * C) ** -0.5, conv_fan=C**-0.5, start_uniform=(6 * C) ** -0.5)
    normal(f"{prefix}out.weight", out, K**-0.5, start_uniform=(3 * K) ** -0.5)
    lm_checks.biases_start_at_zero(own)


@check("Block", 235)
def block_stays_finite(mine, ref, rng):
    own, _ = block(mine, ref, rng)
    output, found = forward_and_backward("Block", own, (1e3 * stream(rng),))
    if not all(each is None or each.isfinite().all() for each in (output, *found.values())):
        raise Wrong("block_overflow")


@check("Block", 240)
def block_has_a_gradient(mine, ref, rng):
    own, theirs = block(mine, ref, rng)
    gradients("Block", own, theirs, stream(rng))


@check("Block", 250)
def block_runs_in_half_precision(mine, ref, rng):
    own, theirs = block(mine, ref, rng)
    x = stream(rng).bfloat16()
    same("Block in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# WaveNet


def model(mine, ref, rng, training=False, **settings):
    """Twins with random weights."""
    settings = SIZES | settings
    theirs = shake(ref.WaveNet(ref.Config(**settings)), rng).train(training)
    return twin("WaveNet", mine.WaveNet(mine.Config(**settings)), theirs), theirs


def some_tokens(rng, T=6):
    """(3, T), a slice."""
    return torch.randint(V, (3, T + 1), generator=rng)[:, :-1]


def by_hand(theirs, tokens, before=V, cut=slice(-6, None), hear=lambda skips, x: sum(skips), relus=(True, True)):
    """The logits of (3, 6) tokens with known mistakes. hear: what the head is given of the skips and the stream."""
    x = theirs.embedding(torch.cat((torch.full((3, N - 1), before), tokens), 1))
    skips = []
    for each in theirs.blocks:
        x, skip = each(x)
        skips.append(skip[:, cut])
    h = hear(skips, x)
    h = theirs.hidden(torch.relu(h) if relus[0] else h)
    return theirs.output(torch.relu(h) if relus[1] else h)


@check("WaveNet", 300)
def model_has_its_parameters(mine, ref, rng):
    model(mine, ref, rng)


@check("WaveNet", 305)
def model_keeps_its_config(mine, ref, rng):
    config = mine.Config(**SIZES)
    keeps_its_config("WaveNet", mine.WaveNet(config), config)


@check("WaveNet", 310)
def model_doubles_its_dilations(mine, ref, rng):
    own = mine.WaveNet(mine.Config(**SIZES | {"n_layers": 6}))
    dilations = [each.conv.dilation for each in own.blocks]
    if dilations != [1, 2, 4, 8, 16, 32]:
        raise Wrong("model_dilations", seen=", ".join(map(str, dilations)), expected="1, 2, 4, 8, 16, 32")


@check("WaveNet", 320)
def model_predicts_at_every_position(mine, ref, rng):
    for layers in (L, L + 1):
        own, _ = model(mine, ref, rng, n_layers=layers)
        lm_checks.predicts_at_every_position(own, V, (3, 6), (1, 1), (2, N + 1))


@check("WaveNet", 330)
def model_looks_at_its_window(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.looks_at_its_window(own, V, N)


@check("WaveNet", 340)
def model_keeps_batches_apart(mine, ref, rng):
    own, _ = model(mine, ref, rng)
    lm_checks.keeps_batches_apart(own, V, some_tokens(rng))


@check("WaveNet", 350)
def model_computes_its_logits(mine, ref, rng):
    for training in (True, False):
        own, theirs = model(mine, ref, rng, training)
        tokens = some_tokens(rng)
        suspect(
            "logits in training" if training else "logits in evaluation",
            own(tokens).logits,
            theirs(tokens).logits,
            model_beginning=by_hand(theirs, tokens, before=0),
            model_first_tokens=by_hand(theirs, tokens, cut=slice(6)),
            model_last_layer=by_hand(theirs, tokens, hear=lambda skips, x: skips[-1]),
            model_stream=by_hand(theirs, tokens, hear=lambda skips, x: x),
            model_stream_too=by_hand(theirs, tokens, hear=lambda skips, x: sum(skips) + x),
            model_mean=by_hand(theirs, tokens, hear=lambda skips, x: sum(skips) / L),
            model_no_relu_1=by_hand(theirs, tokens, relus=(False, True)),
            model_no_relu_2=by_hand(theirs, tokens, relus=(True, False)),
            model_no_relus=by_hand(theirs, tokens, relus=(False, False)),
        )
        long = some_tokens(rng, N + 4)
        same("logits of more tokens than the window holds", own(long).logits, theirs(long).logits)


@check("WaveNet", 360)
def model_goes_on_from_its_state(mine, ref, rng):
    for training in (True, False):
        own, theirs = model(mine, ref, rng, training)
        lm_checks.goes_on_from_its_state(own, theirs, some_tokens(rng, N + 4), (1,) * (N + 4), (3, N, 1), (N + 2, 2))


@check("WaveNet", 370)
def model_leaves_out_padding(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    lm_checks.leaves_out_padding(own, theirs, some_tokens(rng))


@check("WaveNet", 380)
def model_starts_modestly(mine, ref, rng):
    own = mine.WaveNet(mine.Config(vocab_size=50, n_layers=2, n_embd=1000, n_hidden=100))
    lm_checks.embedding_starts_at_1(own.embedding.weight)
    for i, each in enumerate(own.blocks):
        block_starts(f"blocks.{i}.", each, 1000, 100)
    normal("hidden.weight", own.hidden.weight, 1 / 1000**0.5, start_uniform=(3 * 1000) ** -0.5)
    normal("output.weight", own.output.weight, 0.1 / 100**0.5, start_output_gain=1 / 100**0.5)
    lm_checks.biases_start_at_zero(own)
    lm_checks.starts_undecided(own, 50, rng)


@check("WaveNet", 390)
def model_has_a_gradient(mine, ref, rng):
    for training in (True, False):
        own, theirs = model(mine, ref, rng, training)
        tokens, targets = some_tokens(rng), targets_with_gaps(rng, 3, 6, V)
        gradients("loss", Loss(own, targets), Loss(theirs, targets), tokens)


@check("WaveNet", 395)
def model_runs_in_half_precision(mine, ref, rng):
    own, theirs = model(mine, ref, rng)
    tokens = some_tokens(rng)
    same("logits in bfloat16", own.bfloat16()(tokens).logits, theirs.bfloat16()(tokens).logits, tol=HALF)


# The house


@check("", 900)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    lm_checks.trains_alike(mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng), rng, V, 6)


@check("", 910)
def writes_in_the_house(mine, ref, rng):
    """Stays: generation is the other half of the house: a state, one token at a time."""
    own, theirs = mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng)
    lm_checks.continues_alike(own, theirs, some_tokens(rng))
