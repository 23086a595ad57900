"""Checks of the GPT-2 station. B = 3, T = 6, H = 2, D = 5, C = 10, V = 11, block_size 9, L = 3.

No two that code could take for each other are equal: H is not sqrt(D), L not H, block_size not C, T new tokens not D.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, finite, fresh, gradients, part, same, shake, shape, twin
from kakehashi.journey.lm_checks import (
    DROPOUT,
    HALF,
    LEFT_PAD,
    Loss,
    alike,
    changed,
    drops,
    in_pieces,
    keeps_its_config,
    looks_back_only,
    normal,
    refuses_more_than_its_block,
    silent_blocks,
    suspect,
    targets_with_gaps,
    wrong_blocks,
)
from kakehashi.models.protocol import KVCache

V, H, D, C, N, L = 11, 2, 5, 10, 9, 3
SIZES = {"vocab_size": V, "block_size": N, "n_layers": L, "n_heads": H, "n_embd": C, "eps": 0.1}


def stream(rng, B=3, T=6):
    """(B, T, C): vectors for the residual stream."""
    return torch.randn(B, T, C, generator=rng)


def silence(branch, bias=0.0):
    """Let a branch of a block say the same to every token."""
    with torch.no_grad():
        branch.c_proj.weight.zero_()
        branch.c_proj.bias.fill_(bias)


# LayerNorm


def norm(mine, ref, rng, eps=0.1):
    """Twins of width C with random gain and bias, and an eps of a size that shows."""
    theirs = shake(ref.LayerNorm(C, eps), rng)
    return twin("LayerNorm", mine.LayerNorm(C, eps), theirs), theirs


@check("LayerNorm", 100)
def norm_has_its_parameters(mine, ref, rng):
    norm(mine, ref, rng)
    start = mine.LayerNorm(C)
    same("LayerNorm.weight at the start", start.weight, torch.ones(C))
    same("LayerNorm.bias at the start", start.bias, torch.zeros(C))


@check("LayerNorm", 110)
def norm_keeps_tokens_apart(mine, ref, rng):
    own, _ = norm(mine, ref, rng)
    x = stream(rng)
    other = fresh(x)
    other[1, 2] += torch.arange(C)
    moved = changed(own(fresh(x)), own(other)).any(-1)
    moved[1, 2] = False
    if moved.any():
        raise Wrong("norm_mixes", place=moved.nonzero()[0])
    for size in ((C,), (1, C), (2, 1, C), (2, 2, 3, C)):
        shape(f"LayerNorm of {size}", own(torch.randn(size, generator=rng)), size)


@check("LayerNorm", 120)
def norm_standardises(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    x = stream(rng) * torch.logspace(-2, 1, 6)[:, None] + 1.0  # the deviation of a token is 0.01 to 10; eps is 0.1
    mean, variance, eps = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True), theirs.eps

    def scaled(y):
        return y * theirs.weight + theirs.bias

    suspect(
        "LayerNorm",
        own(fresh(x)),
        theirs(x),
        norm_eps_outside=scaled((x - mean) / (variance.sqrt() + eps)),
        norm_eps_fixed=scaled((x - mean) / torch.sqrt(variance + 1e-5)),
        norm_eps_missing=scaled((x - mean) / variance.sqrt()),
        norm_sample_variance=scaled((x - mean) / torch.sqrt(x.var(-1, keepdim=True) + eps)),
        norm_not_centred=scaled(x / torch.sqrt(variance + eps)),
        norm_rms=scaled(x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)),
        norm_no_bias=(x - mean) / torch.sqrt(variance + eps) * theirs.weight,
        norm_no_gain=(x - mean) / torch.sqrt(variance + eps) + theirs.bias,
        norm_one_plus_gain=(x - mean) / torch.sqrt(variance + eps) * (1 + theirs.weight) + theirs.bias,
    )


@check("LayerNorm", 130)
def norm_of_a_constant(mine, ref, rng):
    """A token whose features are all equal: variance 0, in the gradient too."""
    own, theirs = norm(mine, ref, rng, 1e-5)
    x = torch.full((1, 2, C), 3.0)
    if not torch.isfinite(own(fresh(x))).all():
        raise Wrong("norm_constant")
    gradients("LayerNorm of a constant", own, theirs, x)


@check("LayerNorm", 135)
def norm_far_from_zero(mine, ref, rng):
    """A small deviation from a large mean: the difference of two large squares has lost it."""
    own, theirs = norm(mine, ref, rng, 1e-5)
    x = 100 + 0.01 * stream(rng)
    output, right = own(fresh(x)), theirs(x)
    if not alike(output, right, tol=2e-2):  # the mean itself is rounded at 1e-5, a thousandth of the deviation
        raise Wrong("norm_cancels")


@check("LayerNorm", 140)
def norm_has_a_gradient(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    gradients("LayerNorm", own, theirs, stream(rng))


@check("LayerNorm", 150)
def norm_runs_in_half_precision(mine, ref, rng):
    own, theirs = norm(mine, ref, rng)
    x = stream(rng).bfloat16().transpose(0, 1)
    same("LayerNorm in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# gelu


@check("gelu", 200)
def gelu_is_a_soft_gate(mine, ref, rng):
    x = torch.linspace(-4, 4, 64).view(4, 16)
    own, right = mine.gelu(fresh(x)), ref.gelu(x)
    near = dict.fromkeys(["gelu_constants"] if alike(own, right, tol=0.1) else [], own)  # the shape is there
    suspect(
        "gelu",
        own,
        right,
        tol=1e-5,  # the erf and tanh forms differ by 5e-4, 1e-4 of the largest value
        gelu_exact=F.gelu(x),
        gelu_sigmoid=x * torch.sigmoid(1.702 * x),
        gelu_relu=torch.relu(x),
        gelu_doubled=2 * right,
        gelu_gate=right / x,
        gelu_square=0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**2))),
        gelu_root=0.5 * x * (1 + torch.tanh(2 / torch.pi * (x + 0.044715 * x**3))),
        **near,
    )


@check("gelu", 210)
def gelu_has_a_gradient(mine, ref, rng):
    gradients("gelu", mine.gelu, ref.gelu, 2 * torch.randn(4, 5, generator=rng))


@check("gelu", 220)
def gelu_runs_in_half_precision(mine, ref, rng):
    x = 3 * torch.randn(5, 4, generator=rng).bfloat16().T
    same("gelu in bfloat16", mine.gelu(x), ref.gelu(x), tol=HALF)


# causal_mask


@check("causal_mask", 300)
def mask_hides_the_future(mine, ref, rng):
    lm_checks.mask_of_the_future(mine, ref, rng)


@check("causal_mask", 310)
def mask_counts_the_cache(mine, ref, rng):
    lm_checks.mask_of_a_cache(mine, ref, rng)


@check("causal_mask", 320)
def mask_hides_padding(mine, ref, rng):
    lm_checks.mask_of_padding(mine, ref, rng)


# attention


@check("attention", 400)
def attention_is_a_mean(mine, ref, rng):
    lm_checks.attention_of_ones(mine, ref, rng)


@check("attention", 410)
def attention_does_not_see_what_is_hidden(mine, ref, rng):
    lm_checks.attention_of_what_is_hidden(mine, ref, rng)


@check("attention", 420)
def attention_weighs_by_similarity(mine, ref, rng):
    lm_checks.attention_of_keys_that_match(mine, ref, rng)


@check("attention", 430)
def attention_survives_large_scores(mine, ref, rng):
    lm_checks.attention_of_large_scores(mine, ref, rng)


@check("attention", 440)
def attention_drops_weights(mine, ref, rng):
    lm_checks.attention_dropout(mine, ref, rng)


@check("attention", 450)
def attention_has_a_gradient(mine, ref, rng):
    lm_checks.attention_gradient(mine, ref, rng)


@check("attention", 460)
def attention_runs_in_half_precision(mine, ref, rng):
    lm_checks.attention_of_half_precision(mine, ref, rng)


# CausalSelfAttention


def heads(mine, ref, rng, layer=0, **settings):
    """Twins with random weights, evaluating."""
    settings = SIZES | settings
    theirs = shake(ref.CausalSelfAttention(ref.Config(**settings), layer), rng).eval()
    own = mine.CausalSelfAttention(mine.Config(**settings), layer)
    return twin("CausalSelfAttention", own, theirs), theirs


def heads_by_hand(ref, theirs, x, order=(0, 1, 2), cut=False, merge=False, heads=H, interleaved=False):
    """What CausalSelfAttention gives when the width is cut into heads in some way."""
    B, T, _ = x.shape
    mixed = theirs.c_attn(x)
    if interleaved:
        parts = mixed.view(B, T, heads, -1).transpose(1, 2).chunk(3, -1)
    else:
        parts = [mixed.split(C, 2)[i] for i in order]
        parts = [
            each.reshape(B, heads, T, -1) if cut else each.reshape(B, T, heads, -1).transpose(1, 2) for each in parts
        ]
    y = ref.attention(*parts, ref.causal_mask(T, T))
    return theirs.c_proj((y if merge else y.transpose(1, 2)).reshape(B, T, C))


@check("CausalSelfAttention", 500)
def heads_have_their_parameters(mine, ref, rng):
    own, _ = heads(mine, ref, rng)
    for B, T in ((3, 6), (1, 1), (2, N)):
        shape("CausalSelfAttention", own(stream(rng, B, T)), (B, T, C))


@check("CausalSelfAttention", 510)
def heads_look_back_only(mine, ref, rng):
    own, _ = heads(mine, ref, rng)
    x = stream(rng)
    other = fresh(x)
    other[0, 3] += torch.arange(C)
    looks_back_only(own(fresh(x)), own(other), 3)


@check("CausalSelfAttention", 520)
def heads_are_cut_and_merged(mine, ref, rng):
    own, theirs = heads(mine, ref, rng)
    x = stream(rng)

    def by_hand(**how):
        return heads_by_hand(ref, theirs, x, **how)

    output, right = own(fresh(x)), theirs(x)
    if alike(output, right):
        return
    for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1)):
        if alike(output, by_hand(order=order)):
            raise Wrong("heads_order", order=", ".join("qkv"[i] for i in order))
    suspect(
        "CausalSelfAttention",
        output,
        right,
        heads_cut=by_hand(cut=True),
        heads_cut_and_merge=by_hand(cut=True, merge=True),
        heads_merge=by_hand(merge=True),
        heads_one=by_hand(heads=1),
        heads_swapped=by_hand(heads=D),
        heads_interleaved=by_hand(interleaved=True),
    )


@check("CausalSelfAttention", 530)
def heads_read_the_cache(mine, ref, rng):
    """As the second layer: the first has put its own keys and values there."""
    own, theirs = heads(mine, ref, rng, layer=1)
    x, nothing = stream(rng), torch.zeros(3, H, 6, D)
    cache = KVCache(3)
    cache.append(0, nothing, nothing)
    whole, (keys, values) = theirs(x, cache), cache.layers[1]
    for sizes in ((1,) * 6, (3, 1, 2), (6,)):
        state, at, pieces = KVCache(3), 0, []
        for size in sizes:
            state.append(0, nothing[:, :, :size], nothing[:, :, :size])
            pieces.append(own(fresh(x[:, at : at + size]), state))
            at += size
            if len(state.layers) < 2:
                written = state.layers[0][0].shape[2] > at
                raise Wrong("heads_cache_layer" if written else "heads_cache_not_written")
            if state.layers[1][0].shape[2] != at:
                raise Wrong("heads_cache_length", seen=state.layers[1][0].shape[2], expected=at)
        suspect("the cached keys", state.layers[1][0], keys, heads_cache_swapped=values)
        same("the cached values", state.layers[1][1], values)
        alone = torch.cat([theirs(each) for each in x.split(list(sizes), 1)], 1)
        suspect(f"pieces {sizes} with a cache", torch.cat(pieces, 1), whole, heads_cache_not_read=alone)


@check("CausalSelfAttention", 540)
def heads_leave_out_padding(mine, ref, rng):
    own, theirs = heads(mine, ref, rng)
    x = stream(rng)
    right = theirs(x, pad=LEFT_PAD)
    output = own(fresh(x), pad=LEFT_PAD.clone())
    finite("CausalSelfAttention with padding", output)
    unseen = theirs(x)[LEFT_PAD]
    suspect("CausalSelfAttention with padding", output[LEFT_PAD], right[LEFT_PAD], heads_padding=unseen)
    state, pieces = KVCache(3), []
    for start, end in ((0, 4), (4, 5), (5, 6)):
        pieces.append(own(fresh(x[:, start:end]), state, LEFT_PAD[:, :end].clone()))
    same("CausalSelfAttention with padding and a cache", torch.cat(pieces, 1)[LEFT_PAD], right[LEFT_PAD])


@check("CausalSelfAttention", 550)
def heads_drop_out_in_training_only(mine, ref, rng):
    own, theirs = heads(mine, ref, rng, dropout=DROPOUT)
    x = stream(rng, 8, 8)
    right = theirs(x)
    if changed(right, own(fresh(x))).any():
        raise Wrong("heads_dropout_in_evaluation")
    output = own.train()(fresh(x))
    kept = output != 0
    if kept.all():
        raise Wrong("heads_dropout_output")
    # without dropout on the weights, what the output's dropout keeps would be the plain result, scaled
    if not changed(right / (1 - DROPOUT), output)[kept].any():
        raise Wrong("heads_dropout_weights")
    # a token alone gives its weight of 1 to itself; with nothing mixed behind, a value must pass both dropouts
    silence(theirs)
    with torch.no_grad():
        theirs.c_proj.weight.copy_(torch.eye(C))
    alone = stream(rng, 400, 1)
    right = theirs(alone)
    output = twin("CausalSelfAttention", own, theirs).train()(fresh(alone))
    drops("CausalSelfAttention", output, right, 1 - (1 - DROPOUT) ** 2)


@check("CausalSelfAttention", 560)
def heads_have_a_gradient(mine, ref, rng):
    own, theirs = heads(mine, ref, rng)
    gradients("CausalSelfAttention", own, theirs, stream(rng))


@check("CausalSelfAttention", 570)
def heads_run_in_half_precision(mine, ref, rng):
    own, theirs = heads(mine, ref, rng)
    x = stream(rng, 6, 3).bfloat16().transpose(0, 1)
    same("CausalSelfAttention in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# MLP


def mlp(mine, ref, rng, **settings):
    """Twins with random weights, evaluating."""
    settings = SIZES | settings
    theirs = shake(ref.MLP(ref.Config(**settings)), rng).eval()
    return twin("MLP", mine.MLP(mine.Config(**settings)), theirs), theirs


@check("MLP", 600)
def mlp_widens_and_returns(mine, ref, rng):
    own, theirs = mlp(mine, ref, rng)
    x = stream(rng)
    h = theirs.c_fc(x)
    suspect(
        "MLP",
        own(fresh(x)),
        theirs(x),
        mlp_linear=theirs.c_proj(h),
        mlp_relu=theirs.c_proj(torch.relu(h)),
        mlp_exact=theirs.c_proj(F.gelu(h)),
        mlp_gelu_last=ref.gelu(theirs.c_proj(h)),
        mlp_gelu_twice=ref.gelu(theirs.c_proj(ref.gelu(h))),
        mlp_residual=x + theirs.c_proj(ref.gelu(h)),
    )


@check("MLP", 610)
def mlp_drops_out_in_training_only(mine, ref, rng):
    own, theirs = mlp(mine, ref, rng, dropout=DROPOUT)
    x = stream(rng, 8, 8)
    right = theirs(x)
    if changed(right, own(fresh(x))).any():
        raise Wrong("mlp_dropout_in_evaluation")
    output = own.train()(fresh(x))
    if (output != 0).all():
        raise Wrong("mlp_dropout_missing")
    drops("MLP", output, right)


@check("MLP", 620)
def mlp_has_a_gradient(mine, ref, rng):
    own, theirs = mlp(mine, ref, rng)
    gradients("MLP", own, theirs, stream(rng))


@check("MLP", 630)
def mlp_runs_in_half_precision(mine, ref, rng):
    own, theirs = mlp(mine, ref, rng)
    x = stream(rng, 6, 3).bfloat16().transpose(0, 1)
    same("MLP in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# Block


def block(mine, ref, rng, layer=0, **settings):
    """Twins with random weights, evaluating."""
    settings = SIZES | settings
    theirs = shake(ref.Block(ref.Config(**settings), layer), rng).eval()
    return twin("Block", mine.Block(mine.Config(**settings), layer), theirs), theirs


@check("Block", 700)
def block_adds_to_the_stream(mine, ref, rng):
    """With both projections at 0 the branches say nothing: x goes through as it came."""
    own, theirs = block(mine, ref, rng)
    silence(theirs.attn)
    silence(theirs.mlp)
    twin("Block", own, theirs)
    x = stream(rng)
    suspect("Block with silent branches", own(fresh(x)), x, **silent_blocks(x, theirs.ln_1, theirs.ln_2))


@check("Block", 710)
def block_communicates_then_computes(mine, ref, rng):
    own, theirs = block(mine, ref, rng)
    x = stream(rng)
    usual = copy.deepcopy(theirs)
    usual.ln_1.eps = usual.ln_2.eps = 1e-5
    mistakes = wrong_blocks(x, theirs.ln_1, theirs.attn, theirs.ln_2, theirs.mlp)
    suspect("Block", own(fresh(x)), theirs(x), block_eps=usual(x), **mistakes)


@check("Block", 720)
def block_hands_on_state_and_padding(mine, ref, rng):
    """As the second layer, with padding, in pieces, and both at once."""
    own, theirs = block(mine, ref, rng, layer=1)
    x, nothing = stream(rng), torch.zeros(3, H, 6, D)
    right, unpadded = theirs(x, pad=LEFT_PAD)[LEFT_PAD], theirs(x)[LEFT_PAD]
    suspect("Block with padding", own(fresh(x), pad=LEFT_PAD.clone())[LEFT_PAD], right, block_pad=unpadded)
    state, pieces = KVCache(3), []
    for start, end in ((0, 4), (4, 6)):
        state.append(0, nothing[:, :, start:end], nothing[:, :, start:end])
        pieces.append(own(fresh(x[:, start:end]), state))
        if len(state.layers) < 2:
            written = state.layers[0][0].shape[2] > end
            raise Wrong("block_layer" if written else "block_state")
    same("Block with a cache", torch.cat(pieces, 1), theirs(x))
    state, pieces = KVCache(3), []
    for start, end in ((0, 4), (4, 6)):
        state.append(0, nothing[:, :, start:end], nothing[:, :, start:end])
        pieces.append(own(fresh(x[:, start:end]), state, LEFT_PAD[:, :end].clone()))
    suspect("Block with padding and a cache", torch.cat(pieces, 1)[LEFT_PAD], right, block_pad_with_state=unpadded)


@check("Block", 725)
def block_drops_nothing_itself(mine, ref, rng):
    """One branch says 1 and the other nothing: what is added is what that branch's own dropout makes of 1."""
    for speaks, silent in (("attn", "mlp"), ("mlp", "attn")):
        own, theirs = block(mine, ref, rng, dropout=DROPOUT)
        silence(getattr(theirs, speaks), 1.0)
        silence(getattr(theirs, silent))
        x = torch.full((8, 8, C), 2.0)
        output = twin("Block", own, theirs).train()(fresh(x))
        drops(f"Block, the branch {speaks}", output - x, torch.ones_like(x))


@check("Block", 730)
def block_has_a_gradient(mine, ref, rng):
    own, theirs = block(mine, ref, rng)
    gradients("Block", own, theirs, stream(rng))


# cross_entropy


@check("cross_entropy", 800)
def loss_is_the_mean(mine, ref, rng):
    lm_checks.loss_of_everything(mine, ref, rng)


@check("cross_entropy", 810)
def loss_counts_what_counts(mine, ref, rng):
    lm_checks.loss_of_what_counts(mine, ref, rng)


@check("cross_entropy", 820)
def loss_of_nothing_is_zero(mine, ref, rng):
    lm_checks.loss_of_nothing(mine, ref, rng)


@check("cross_entropy", 830)
def loss_stays_finite(mine, ref, rng):
    lm_checks.loss_of_large_logits(mine, ref, rng)


@check("cross_entropy", 840)
def loss_takes_slices(mine, ref, rng):
    lm_checks.loss_of_slices(mine, ref, rng)


@check("cross_entropy", 850)
def loss_has_a_gradient(mine, ref, rng):
    lm_checks.loss_gradient(mine, ref, rng)


# GPT


def gpt(mine, ref, rng, **settings):
    """Twins with random weights, evaluating."""
    settings = SIZES | settings
    theirs = shake(ref.GPT(ref.Config(**settings)), rng).eval()
    return twin("GPT", mine.GPT(mine.Config(**settings)), theirs), theirs


def by_hand(
    theirs, tokens, positions, pad=None, *, scale=1.0, blocks: Sequence[int] = range(L), norm=True, detach=False
):
    """The logits of a reference model for given positions, (T,) or (B, T), None: without; and with known mistakes."""
    x = theirs.wte(tokens) * scale
    if positions is not None:
        x = x + theirs.wpe(positions)
    for i in blocks:
        x = theirs.h[i](x, pad=pad)
    head = theirs.wte.weight.detach() if detach else theirs.wte.weight
    return (theirs.ln_f(x) if norm else x) @ head.T


def some_tokens(rng, B=3, T=6):
    """(B, T), a slice."""
    return torch.randint(V, (B, T + 1), generator=rng)[:, :-1]


@check("GPT", 895)
def model_keeps_its_config(mine, ref, rng):
    config = mine.Config(**SIZES)
    keeps_its_config("GPT", mine.GPT(config), config)


@check("GPT", 900)
def model_has_its_parameters(mine, ref, rng):
    sizes = mine.Config(**SIZES)
    for name, parameter in mine.GPT(sizes).named_parameters():
        if parameter.shape == (V, C) and name != "wte.weight":
            raise Wrong("model_second_head", parameter=name)
    own, _ = gpt(mine, ref, rng)
    lm_checks.predicts_at_every_position(own, V, (3, 6), (1, 1), (2, N))


@check("GPT", 910)
def model_looks_back_only(mine, ref, rng):
    own, _ = gpt(mine, ref, rng)
    tokens = some_tokens(rng)
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % V
    looks_back_only(own(tokens).logits, own(other).logits, 3)


@check("GPT", 920)
def model_computes_its_logits(mine, ref, rng):
    own, theirs = gpt(mine, ref, rng)
    tokens = some_tokens(rng)
    output, right = own(tokens).logits, theirs(tokens).logits
    if alike(output, right):
        return
    places = torch.arange(6)
    usual = copy.deepcopy(theirs)
    usual.ln_f.eps = 1e-5
    suspect(
        "logits",
        output,
        right,
        model_eps=usual(tokens).logits,
        model_no_positions=by_hand(theirs, tokens, None),
        model_position_0=by_hand(theirs, tokens, torch.zeros_like(places)),
        model_positions_from_1=by_hand(theirs, tokens, places + 1),
        model_no_last_norm=by_hand(theirs, tokens, places, norm=False),
        model_blocks_left_out=by_hand(theirs, tokens, places, blocks=range(1)),
        model_last_block_left_out=by_hand(theirs, tokens, places, blocks=range(L - 1)),
        model_first_block_twice=by_hand(theirs, tokens, places, blocks=[0] * L),
        model_blocks_reversed=by_hand(theirs, tokens, places, blocks=range(L)[::-1]),
        model_embedding_scaled=by_hand(theirs, tokens, places, scale=C**0.5),
        model_probabilities=right.softmax(-1),
    )


@check("GPT", 930)
def model_learns_through_both_ends(mine, ref, rng):
    """The embedding gets a gradient as input and as head; every parameter gets one."""
    own, theirs = gpt(mine, ref, rng)
    tokens, targets = some_tokens(rng), targets_with_gaps(rng, 3, 6, V)
    detached = torch.autograd.grad(
        ref.cross_entropy(by_hand(theirs, tokens, torch.arange(6), detach=True), targets), theirs.wte.weight
    )[0]
    output = own(tokens, fresh(targets))
    loss = part("forward", output, "loss")
    logits, right = theirs(tokens, targets)
    same("logits beside a loss", part("forward", output, "logits"), logits)
    again = ref.cross_entropy(logits[:, :-1], targets[:, 1:])
    suspect("loss", loss, right, model_shifted=again)
    own.zero_grad()
    loss.backward()
    right = torch.autograd.grad(theirs(tokens, targets).loss, theirs.wte.weight)[0]
    if own.wte.weight.grad is None:
        raise Wrong("no_gradient", name="GPT", source="wte.weight")
    suspect("GPT: d/d wte.weight", own.wte.weight.grad, right, model_head_detached=detached)
    gradients("loss", Loss(own, targets), Loss(theirs, targets), tokens)


@check("GPT", 940)
def model_starts_as_gpt2_does(mine, ref, rng):
    sizes = SIZES | {"vocab_size": 200, "block_size": 64, "n_embd": 48}
    weights = dict(mine.GPT(mine.Config(**sizes)).named_parameters())
    small = 0.02 / (2 * L) ** 0.5
    for name in ref.GPT(ref.Config(**sizes)).state_dict():
        if name not in weights:
            raise Wrong("missing_parameter", name="GPT", parameter=name, seen=", ".join(weights))
        value = weights[name]
        if name.endswith("c_proj.weight"):
            normal(
                name, value, small, start_not_scaled=0.02, start_one_branch=0.02 / L**0.5, start_no_root=0.02 / (2 * L)
            )
        elif value.ndim == 2:
            usual = {"start_all_scaled": small, "start_embedding": 1.0, "start_linear": (3 * value.shape[-1]) ** -0.5}
            normal(name, value, 0.02, **usual)
        else:
            expected = torch.ones_like(value) if "ln_" in name and name.endswith("weight") else torch.zeros_like(value)
            same(f"{name} at the start", value, expected)


@check("GPT", 950)
def model_goes_on_from_its_cache(mine, ref, rng):
    own, theirs = gpt(mine, ref, rng)
    for sizes in ((1,) * 6, (3, 1, 2), (6,), (5, 4)):  # the last reaches block_size
        T = sum(sizes)
        tokens, places = some_tokens(rng, T=T), torch.arange(T)
        output, right = in_pieces(own, sizes, tokens), theirs(tokens).logits
        if alike(output, right):
            continue
        restarts = torch.cat([torch.arange(size) for size in sizes])
        late = places + (places >= sizes[0])
        beside = (
            {}
            if T == N
            else {
                "model_positions_from_1": by_hand(theirs, tokens, places + 1),
                "model_position_late": by_hand(theirs, tokens, late),
            }
        )
        suspect(
            f"logits of pieces {sizes}",
            output,
            right,
            model_position_restarts=by_hand(theirs, tokens, restarts),
            model_state=torch.cat([theirs(each).logits for each in tokens.split(list(sizes), 1)], 1),
            **beside,
        )


@check("GPT", 960)
def model_counts_real_tokens(mine, ref, rng):
    """With padding on the left each row is what it would be alone."""
    own, theirs = gpt(mine, ref, rng)
    tokens = some_tokens(rng)
    places = (LEFT_PAD.cumsum(1) - 1).clamp(min=0)
    right = by_hand(theirs, tokens, places, LEFT_PAD)
    output = part("forward", own(fresh(tokens), pad=LEFT_PAD.clone()), "logits")
    finite("logits with padding", output)
    suspect(
        "logits with padding",
        output[LEFT_PAD],
        right[LEFT_PAD],
        model_padding_positions=by_hand(theirs, tokens, torch.arange(6), LEFT_PAD)[LEFT_PAD],
        model_padding_seen=by_hand(theirs, tokens, places)[LEFT_PAD],
        model_padding_ignored=theirs(tokens).logits[LEFT_PAD],
        model_positions_from_1=by_hand(theirs, tokens, LEFT_PAD.cumsum(1), LEFT_PAD)[LEFT_PAD],
    )
    pieces = in_pieces(own, (4, 1, 1), tokens, LEFT_PAD)
    places[:, 4:] = torch.arange(4, 6)  # padding forgotten once the prompt is cached
    suspect(
        "logits of padded pieces",
        pieces[LEFT_PAD],
        right[LEFT_PAD],
        model_padding_cached=by_hand(theirs, tokens, places, LEFT_PAD)[LEFT_PAD],
    )


@check("GPT", 970)
def model_refuses_more_than_its_block(mine, ref, rng):
    own, _ = gpt(mine, ref, rng)
    refuses_more_than_its_block(own, N)


@check("GPT", 980)
def model_drops_out_in_training_only(mine, ref, rng):
    """All branches silent: what is still random is dropout on the embeddings."""
    own, theirs = gpt(mine, ref, rng, dropout=DROPOUT)
    for each in theirs.h:
        silence(each.attn)
        silence(each.mlp)
    twin("GPT", own, theirs)
    tokens = some_tokens(rng)
    if changed(theirs(tokens).logits, own(tokens).logits).any():
        raise Wrong("model_dropout_in_evaluation")
    own.train()
    if not changed(own(tokens).logits, own(tokens).logits).any():
        raise Wrong("model_dropout_missing")
    # an embedding of ones in all, and a head that shows the features: the last norm leaves two values in a token, the
    # lower where a feature was dropped
    with torch.no_grad():
        theirs.wte.weight.copy_(torch.eye(V, C))
        theirs.wte.weight[-1] = 0.5
        theirs.wpe.weight.fill_(0.5)
        theirs.ln_f.weight.fill_(1.0)
        theirs.ln_f.bias.zero_()
        output = twin("GPT", own, theirs).train()(torch.full((8, N), V - 1)).logits[..., :C]
        dropped = output < 0
        right = theirs.ln_f(torch.where(dropped, 0.0, 1 / (1 - DROPOUT)).float())
    if not alike(output, right):
        raise Wrong("dropout_scale", name="GPT", expected=1 / (1 - DROPOUT))
    share = dropped.float().mean()
    if not abs(share - DROPOUT) <= 0.1:
        raise Wrong("dropout_share", name="GPT", seen=share, expected=DROPOUT)


@check("GPT", 990)
def model_runs_in_half_precision(mine, ref, rng):
    own, theirs = gpt(mine, ref, rng)
    tokens = some_tokens(rng)
    same("logits in bfloat16", own.bfloat16()(tokens).logits, theirs.bfloat16()(tokens).logits, tol=HALF)


# The house


@check("", 1000)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    lm_checks.trains_alike(mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng), rng, V, 6)


@check("", 1010)
def writes_in_the_house(mine, ref, rng):
    """Stays: generation is the other half of the house: a cache, one token at a time."""
    own, theirs = mine.Model(mine.Config(**SIZES)), shake(ref.Model(ref.Config(**SIZES)), rng)
    lm_checks.continues_alike(own, theirs, some_tokens(rng, T=5))
