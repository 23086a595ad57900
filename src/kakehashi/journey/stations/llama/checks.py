"""Checks of the Llama station. B = 3, T = 6, H = 8, G = 2, D = 14, C = 10, F = 17, V = 11, block_size 9, L = 3.

No two that code could take for each other are equal: H D is not C, H / G neither G nor L, D / 2 not T.
"""

import copy
from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, finite, fresh, gradients, part, same, shake, shape, twin
from kakehashi.journey.lm_checks import (
    HALF,
    LEFT_PAD,
    Loss,
    alike,
    attend,
    in_pieces,
    keeps_its_config,
    looks_back_only,
    normal,
    refuses_more_than_its_block,
    silent_blocks,
    starts_apart,
    suspect,
    targets_with_gaps,
    wrong_blocks,
)
from kakehashi.models.protocol import KVCache

V, H, G, D, C, N, L = 11, 8, 2, 14, 10, 9, 3
SIZES = {"vocab_size": V, "block_size": N, "n_layers": L, "n_heads": H, "n_kv_heads": G, "head_dim": D, "n_embd": C}
SIZES |= {"n_hidden": 17, "theta": 50.0, "eps": 0.1}
BIASED = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}
EACH_BIAS = tuple({name: True} for name in BIASED)
LINEAR = ("linear", 3.0)
LLAMA3 = ("llama3", 3.0, 40, 0.5, 3.0)  # of seven pairs two keep all of their frequency, three some, two nothing
YARN = ("yarn", 3.0, 40, 0.5, 3.0)
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]).bool()  # (3, 6), True = real


def config(module, scaling=None, **settings):
    """A Config of the module's own; scaling: the arguments of its Scaling."""
    return module.Config(**SIZES | settings, scaling=scaling and module.Scaling(*scaling))


def twins(name, mine, ref, rng, *layer, **settings):
    """The class of that name, mine and the reference's, with the same random weights, evaluating."""
    theirs = shake(getattr(ref, name)(config(ref, **settings), *layer), rng).eval()
    return twin(name, getattr(mine, name)(config(mine, **settings), *layer), theirs), theirs


def stream(rng, B=3, T=6):
    """(B, T, C): vectors for the residual stream."""
    return torch.randn(B, T, C, generator=rng)


def turns(rng, B=3, T=6):
    """cos and sin, each (B, 1, T, D / 2), of angles that follow no rule: what is not made from them shows."""
    angles = 3 * torch.randn(B, 1, T, D // 2, generator=rng)
    return angles.cos(), angles.sin()


def kept_as_given(name, function, *inputs):
    """function of copies, which it must leave as they are: what is given to one is read by others after it."""
    given = tuple(map(fresh, inputs))
    output = function(*given)
    if not all(map(torch.equal, given, inputs)):
        raise Wrong("overwrites", name=name)
    return output


def run(module, x, rotation, visible, *state):
    """What an attention or a block gives."""

    def forward(x, cos, sin, visible):
        return module(x, (cos, sin), visible, *state)

    return kept_as_given(type(module).__name__, forward, x, *rotation, visible)


# RMSNorm


def norms(mine, ref, rng, eps=0.1):
    """Twins of width C with a random gain, and an eps of a size that shows."""
    theirs = shake(ref.RMSNorm(C, eps), rng)
    return twin("RMSNorm", mine.RMSNorm(C, eps), theirs), theirs


@check("RMSNorm", 100)
def norm_has_its_parameter(mine, ref, rng):
    norms(mine, ref, rng)
    same("RMSNorm.weight at the start", mine.RMSNorm(C).weight, torch.ones(C))


@check("RMSNorm", 110)
def norm_divides_by_the_root_of_the_mean_square(mine, ref, rng):
    own, theirs = norms(mine, ref, rng)
    x = stream(rng) * torch.logspace(-2, 1, 6)[:, None] + 0.3  # tokens from 0.3 to 10 long; eps is 0.1
    square, eps = x.square().mean(-1, keepdim=True), theirs.eps
    centred = x - x.mean(-1, keepdim=True)

    def scaled(y):
        return y * theirs.weight

    suspect(
        "RMSNorm",
        own(fresh(x)),
        theirs(x),
        rms_eps_outside=scaled(x / (square.sqrt() + eps)),
        rms_eps_fixed=scaled(x / torch.sqrt(square + 1e-5)),
        rms_eps_missing=scaled(x / square.sqrt()),
        rms_centred=scaled(centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)),
        rms_deviation=scaled(x / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)),
        rms_sum=scaled(x / torch.sqrt(x.square().sum(-1, keepdim=True) + eps)),
        rms_no_root=scaled(x / (square + eps)),
        rms_over_tokens=scaled(x / torch.sqrt(x.square().mean(1, keepdim=True) + eps)),
        rms_no_gain=x / torch.sqrt(square + eps),
        rms_one_plus_gain=x / torch.sqrt(square + eps) * (1 + theirs.weight),
    )
    for size in ((C,), (1, C), (2, 2, 3, C)):
        given = torch.randn(size, generator=rng)
        same(f"RMSNorm of {size}", own(fresh(given)), theirs(given))


@check("RMSNorm", 120)
def norm_has_a_gradient(mine, ref, rng):
    """Of tiny vectors and of zeros, too."""
    own, theirs = norms(mine, ref, rng, 1e-5)
    if not torch.isfinite(own(torch.zeros(2, 3, C))).all():
        raise Wrong("rms_zeros")
    for name, size in (("", 1.0), (" of tiny vectors", 1e-4), (" of zeros", 0.0)):
        gradients(f"RMSNorm{name}", own, theirs, size * stream(rng))


@check("RMSNorm", 130)
def norm_runs_in_half_precision(mine, ref, rng):
    own, theirs = norms(mine, ref, rng)
    x = stream(rng).bfloat16().transpose(0, 1)
    same("RMSNorm in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# frequencies


@check("frequencies", 200)
def frequencies_fall_from_1(mine, ref, rng):
    for sizes in ({}, {"theta": 5e5}, {"theta": 5e5, "head_dim": 6}, {"theta": 1e4, "head_dim": 2}):
        given = config(ref, **sizes)
        right, exponents = ref.frequencies(given), torch.arange(0, given.head_dim, 2) / given.head_dim
        suspect(
            "frequencies",
            mine.frequencies(config(mine, **sizes)),
            right,
            freq_fixed=10000.0**-exponents,
            freq_half=given.theta ** (-exponents / 2),
            freq_inverse=given.theta**exponents,
            freq_from_1=given.theta ** -(exponents + 2 / given.head_dim),
            freq_to_the_end=given.theta ** -torch.linspace(0, 1, given.head_dim // 2),
            freq_width=given.theta ** (-exponents * given.head_dim / C),
            freq_of_all=torch.cat((right, right)),
        )


@check("frequencies", 210)
def frequencies_are_scaled(mine, ref, rng):
    for scaling in (LLAMA3, YARN, LINEAR):
        given = config(ref, scaling)
        plain, factor = ref.frequencies(config(ref)), given.scaling.factor
        share = ref.kept(plain, given.theta, given.scaling)
        suspect(
            f"frequencies with scaling {scaling[0]}",
            mine.frequencies(config(mine, scaling)),
            ref.frequencies(given),
            freq_unscaled=plain,
            freq_faster=torch.lerp(plain * factor, plain, share),
            freq_slows_the_fast=torch.lerp(plain, plain / factor, share),
            freq_all_slowed=plain / factor,
            freq_periods=1 / torch.lerp(factor / plain, 1 / plain, share),
        )


# rotate


@check("rotate", 300)
def rotate_turns_pairs(mine, ref, rng):
    x, (cos, sin) = torch.randn(3, H, 6, D, generator=rng), turns(rng)
    a, b = x.chunk(2, -1)
    even, odd = x[..., ::2], x[..., 1::2]
    right = ref.rotate(x, cos, sin)
    suspect(
        "rotate",
        kept_as_given("rotate", mine.rotate, x, cos, sin),
        right,
        rope_neighbours=torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2),
        rope_neighbours_read=ref.rotate(torch.cat((even, odd), -1), cos, sin),
        rope_neighbours_written=torch.stack(right.chunk(2, -1), -1).flatten(-2),
        rope_sign=torch.cat((a * cos - b * sin, b * cos - a * sin), -1),
        rope_backwards=ref.rotate(x, cos, -sin),
        rope_exchanged=ref.rotate(x, sin, cos),
        rope_halves=torch.cat(right.chunk(2, -1)[::-1], -1),
        rope_second_stays=torch.cat((a * cos - b * sin, b), -1),
        rope_overwritten=torch.cat((a * cos - b * sin, b * cos + (a * cos - b * sin) * sin), -1),
        rope_not_at_all=x,
    )


@check("rotate", 310)
def rotate_takes_what_it_is_given(mine, ref, rng):
    """One table for all rows, cos and sin that are longer than 1, one token, two features, views."""
    for B, T, width in ((1, 6, D), (3, 1, D), (3, 6, 2)):
        x = torch.randn(3, T, H, width, generator=rng).transpose(1, 2)
        cos, sin = torch.randn(2, B, 1, T, width // 2, generator=rng)
        length = torch.hypot(cos, sin)
        suspect(
            f"rotate of {tuple(x.shape)}",
            mine.rotate(x, fresh(cos), fresh(sin)),
            ref.rotate(x, cos, sin),
            rope_length=ref.rotate(x, cos / length, sin / length),
        )


@check("rotate", 320)
def rotate_has_a_gradient(mine, ref, rng):
    x, (cos, sin) = torch.randn(3, H, 6, D, generator=rng), turns(rng)
    gradients("rotate", lambda x: mine.rotate(x, cos, sin), lambda x: ref.rotate(x, cos, sin), x)


@check("rotate", 330)
def rotate_keeps_the_precision(mine, ref, rng):
    """x in bfloat16 comes back so, the angles being float32; and so does float64."""
    x, (cos, sin) = torch.randn(3, H, 6, D, generator=rng), turns(rng)
    for dtype in (torch.bfloat16, torch.float64):
        output = mine.rotate(x.to(dtype), fresh(cos), fresh(sin))
        same(f"rotate in {str(dtype)[6:]}", output, ref.rotate(x.to(dtype), cos, sin), tol=HALF)


# causal_mask


@check("causal_mask", 400)
def mask_hides_the_future(mine, ref, rng):
    lm_checks.mask_of_the_future(mine, ref, rng)


@check("causal_mask", 410)
def mask_counts_the_cache(mine, ref, rng):
    lm_checks.mask_of_a_cache(mine, ref, rng)


@check("causal_mask", 420)
def mask_hides_padding(mine, ref, rng):
    lm_checks.mask_of_padding(mine, ref, rng)


@check("causal_mask", 430)
def mask_has_a_window(mine, ref, rng):
    """Windows from the token alone to more than there is; with a cache, and with padding."""
    for (T, S), window in product(((6, 6), (3, 6), (1, 6), (1, 1)), (3, 1, 2, 6, 9, 5)):
        column, row = torch.arange(S), torch.arange(S)[-T:, None]
        for pad in (None, LEFT_PAD[:, :S], HOLES[:, :S]):
            plain = ref.causal_mask(T, S, pad)
            suspect(
                f"causal_mask({T}, {S}, {'None' if pad is None else 'pad'}, window={window})",
                mine.causal_mask(T, S, pad, window=window),
                ref.causal_mask(T, S, pad, window=window),
                mask_window_cache=plain & (column >= torch.arange(T)[:, None] - window + 1),
                mask_window_missing=plain,
                mask_window_wide=ref.causal_mask(T, S, pad, window=window + 1),
                mask_window_narrow=plain & (column > row - window + 1),
                mask_window_other_side=plain & (column <= row - window + 1),
            )


# repeat_heads


@check("repeat_heads", 500)
def heads_are_repeated_side_by_side(mine, ref, rng):
    for B, groups, n in ((3, G, 4), (3, 1, 3), (3, 5, 1), (1, 3, 2)):
        x = torch.randn(B, 6, groups, D, generator=rng).transpose(1, 2)  # as a split of heads hands it over
        suspect(
            f"repeat_heads of {groups} heads, {n} times",
            mine.repeat_heads(x, n),
            ref.repeat_heads(x, n),
            repeat_in_turn=x.repeat(1, n, 1, 1),
            repeat_tokens=x.repeat(1, 1, n, 1),
            repeat_not_at_all=x,
        )


@check("repeat_heads", 510)
def repeated_heads_have_a_gradient(mine, ref, rng):
    gradients("repeat_heads", lambda x: mine.repeat_heads(x, 4), lambda x: ref.repeat_heads(x, 4), *grouped(rng)[1:2])


# attention


def grouped(rng, B=3, T=4, S=6):
    """q (B, H, T, D), k and v (B, G, S, D)."""
    return tuple(torch.randn(B, n, size, D, generator=rng) for n, size in ((H, T), (G, S), (G, S)))


@check("attention", 600)
def attention_is_a_mean(mine, ref, rng):
    lm_checks.attention_of_ones(mine, ref, rng)


@check("attention", 610)
def attention_does_not_see_what_is_hidden(mine, ref, rng):
    lm_checks.attention_of_what_is_hidden(mine, ref, rng)


@check("attention", 620)
def attention_weighs_by_similarity(mine, ref, rng):
    lm_checks.attention_of_keys_that_match(mine, ref, rng)


@check("attention", 630)
def attention_shares_keys(mine, ref, rng):
    """H heads of queries to G of keys and values, one token or many, one row or several, with a window and padding."""
    for B, T, pad in ((3, 4, None), (1, 4, None), (3, 1, LEFT_PAD), (3, 6, LEFT_PAD)):
        q, k, v = grouped(rng, B, T)
        visible = ref.causal_mask(T, 6, pad, window=4)
        in_turn = [each.repeat(1, H // G, 1, 1) for each in (k, v)]
        side_by_side = ref.repeat_heads(k, H // G), ref.repeat_heads(v, H // G)
        suspect(
            "attention of shared keys",
            attend(mine, fresh(q), fresh(k), fresh(v), visible),
            ref.attention(q, k, v, visible),
            att_in_turn=ref.attention(q, *in_turn, visible),
            att_values_in_turn=ref.attention(q, side_by_side[0], in_turn[1], visible),
        )


@check("attention", 640)
def attention_survives_large_scores(mine, ref, rng):
    lm_checks.attention_of_large_scores(mine, ref, rng)


@check("attention", 650)
def attention_has_a_gradient(mine, ref, rng):
    """Of keys that four queries share, too: their gradients add up."""
    visible = ref.causal_mask(4, 6)

    def fixed(module):
        return lambda q, k, v: attend(module, q, k, v, visible)

    gradients("attention", fixed(mine), fixed(ref), *grouped(rng))


@check("attention", 660)
def attention_runs_in_half_precision(mine, ref, rng):
    lm_checks.attention_of_half_precision(mine, ref, rng)


# SelfAttention


def heads_by_hand(ref, theirs, x, rotation, visible, cut="", merge=False, turned="qk", in_turn=False):
    """What SelfAttention gives when heads are cut, merged, turned and shared in some way."""
    B, T, _ = x.shape

    def heads(name, n):
        y = getattr(theirs, f"{name}_proj")(x)
        y = y.view(B, n, T, D) if name in cut else y.view(B, T, n, D).transpose(1, 2)
        return ref.rotate(y, *rotation) if name in turned else y

    q, k, v = heads("q", H), heads("k", G), heads("v", G)
    if in_turn:
        k, v = k.repeat(1, H // G, 1, 1), v.repeat(1, H // G, 1, 1)
    y = ref.attention(q, k, v, visible)
    return theirs.o_proj((y if merge else y.transpose(1, 2)).reshape(B, T, -1))


@check("SelfAttention", 700)
def heads_have_their_parameters(mine, ref, rng):
    for settings in ({}, *EACH_BIAS, {"n_kv_heads": H}, {"n_kv_heads": 1}):
        own, _ = twins("SelfAttention", mine, ref, rng, 0, **settings)
        for B, T in ((3, 6), (1, 1), (2, N)):
            output = own(stream(rng, B, T), turns(rng, B, T), ref.causal_mask(T, T))
            shape("SelfAttention", output, (B, T, C))


@check("SelfAttention", 710)
def heads_are_cut_turned_and_merged(mine, ref, rng):
    """Angles that follow no rule, a window, padding; one row as long as can be: what is not taken as given shows."""
    own, theirs = twins("SelfAttention", mine, ref, rng, 0, qkv_bias=True)
    for B, T, pad in ((3, 6, LEFT_PAD), (1, N, None)):
        x, rotation, visible = stream(rng, B, T), turns(rng, B, T), ref.causal_mask(T, T, pad, window=3)
        output, right = run(own, x, rotation, visible), theirs(x, rotation, visible)
        if alike(output, right):
            continue
        by_hand = partial(heads_by_hand, ref, theirs, x, rotation)
        if any(alike(output, by_hand(visible, cut=cut)) for cut in ("qkv", "kv", "q", "k", "v")):
            raise Wrong("heads_cut")
        suspect(
            "SelfAttention",
            output,
            right,
            heads_cut_and_merge=by_hand(visible, cut="qkv", merge=True),
            heads_merge=by_hand(visible, merge=True),
            heads_not_turned=by_hand(visible, turned=""),
            heads_turn_values=by_hand(visible, turned="qkv"),
            heads_keys_stay=by_hand(visible, turned="q"),
            heads_queries_stay=by_hand(visible, turned="k"),
            heads_in_turn=by_hand(visible, in_turn=True),
            heads_own_mask=by_hand(ref.causal_mask(T, T)),
            heads_no_mask=by_hand(torch.ones(T, T).bool()),
        )


class SecondTurn(KVCache):
    """A cache as the second layer meets it: the first has had its turn. Raises Wrong(key) where the first is meant."""

    def __init__(self, key):
        super().__init__(3)
        self.key = key

    def append(self, layer, k, v):
        if layer != 1:
            raise Wrong(self.key)
        return super().append(layer, k, v)


def through_a_cache(module, x, rotation, visible, sizes, layer="heads_cache_layer", nothing="heads_cache_not_written"):
    """What a second layer gives for pieces of x, and the cache. layer, nothing: what to say where another layer's place
    is written to, and where none is."""
    state, pieces = SecondTurn(layer), []
    for place in torch.arange(6).split(list(sizes)):
        KVCache.append(state, 0, *torch.zeros(2, 3, G, len(place), D))
        turn, seen = tuple(each[:, :, place] for each in rotation), visible[..., place, : place[-1] + 1]
        pieces.append(run(module, x[:, place], turn, seen, state))
        if len(state.layers) < 2:
            raise Wrong(nothing)
    return torch.cat(pieces, 1), state


@check("SelfAttention", 720)
def heads_read_the_cache(mine, ref, rng):
    """As the second layer: the first has put its own keys and values there."""
    own, theirs = twins("SelfAttention", mine, ref, rng, 1)
    x, rotation, visible = stream(rng), turns(rng), ref.causal_mask(6, 6, LEFT_PAD, window=4)
    still = theirs.k_proj(x).view(3, 6, G, D).transpose(1, 2)
    for sizes in ((1,) * 6, (3, 1, 2), (6,)):
        output, state = through_a_cache(own, x, rotation, visible, sizes)
        whole, right = through_a_cache(theirs, x, rotation, visible, sizes)
        (k, v), (keys, values) = state.layers[1], right.layers[1]
        if k.shape[2] != 6:
            raise Wrong("heads_cache_length", seen=k.shape[2], expected=6)
        if k.shape[1] == H:
            raise Wrong("heads_cache_repeated", seen=H, expected=G)
        suspect("the cached keys", k, keys, heads_cache_swapped=values, heads_cache_unturned=still)
        same("the cached values", v, values)
        alone = []
        for place in torch.arange(6).split(list(sizes)):
            turn = tuple(each[:, :, place] for each in rotation)
            alone.append(theirs(x[:, place], turn, visible[..., place, :][..., place]))
        suspect(f"pieces {sizes} with a cache", output, whole, heads_cache_not_read=torch.cat(alone, 1))


class Fixed(nn.Module):
    """A module of x alone, for `gradients`."""

    def __init__(self, module, *given):
        super().__init__()
        self.module, self.given = module, given

    def forward(self, x):
        return self.module(x, *self.given)


@check("SelfAttention", 730)
def heads_have_a_gradient(mine, ref, rng):
    own, theirs = twins("SelfAttention", mine, ref, rng, 0, **BIASED)
    given = turns(rng), ref.causal_mask(6, 6, LEFT_PAD)
    own.train()
    gradients("SelfAttention", Fixed(own, *given), Fixed(theirs, *given), stream(rng))


@check("SelfAttention", 740)
def heads_run_in_half_precision(mine, ref, rng):
    own, theirs = twins("SelfAttention", mine, ref, rng, 0)
    x, given = stream(rng, 6, 3).bfloat16().transpose(0, 1), (turns(rng), ref.causal_mask(6, 6))
    same("SelfAttention in bfloat16", own.bfloat16()(x, *given), theirs.bfloat16()(x, *given), tol=HALF)


# silu


@check("silu", 800)
def silu_is_a_soft_gate(mine, ref, rng):
    x = torch.linspace(-6, 6, 65).view(5, 13)
    suspect(
        "silu",
        mine.silu(fresh(x)),
        ref.silu(x),
        silu_sigmoid=torch.sigmoid(x),
        silu_gelu=F.gelu(x),
        silu_steep=x * torch.sigmoid(1.702 * x),
        silu_relu=torch.relu(x),
        silu_tanh=x * torch.tanh(x),
        silu_inverted=x * torch.sigmoid(-x),
    )


@check("silu", 810)
def silu_survives_large_numbers(mine, ref, rng):
    """exp of 89 is infinite in float32: in the gradient, it may come back as NaN."""
    x = torch.tensor([-1e4, -200.0, -90.0, 90.0, 200.0, 1e4], requires_grad=True)
    output = mine.silu(x * 1)
    output.sum().backward()
    if not (output.isfinite().all() and x.grad is not None and x.grad.isfinite().all()):
        raise Wrong("silu_overflow")
    gradients("silu of large numbers", mine.silu, ref.silu, x)


@check("silu", 820)
def silu_has_a_gradient(mine, ref, rng):
    gradients("silu", mine.silu, ref.silu, 2 * torch.randn(4, 5, generator=rng))


@check("silu", 830)
def silu_runs_in_half_precision(mine, ref, rng):
    x = 3 * torch.randn(5, 4, generator=rng).bfloat16().T
    same("silu in bfloat16", mine.silu(x), ref.silu(x), tol=HALF)


# MLP


@check("MLP", 900)
def mlp_gates(mine, ref, rng):
    for settings in ({}, *EACH_BIAS):
        own, theirs = twins("MLP", mine, ref, rng, **settings)
        x = stream(rng)
        gate, up, down = theirs.gate_proj(x), theirs.up_proj(x), theirs.down_proj
        suspect(
            "MLP",
            own(fresh(x)),
            theirs(x),
            mlp_other_branch=down(gate * ref.silu(up)),
            mlp_added=down(ref.silu(gate) + up),
            mlp_bilinear=down(gate * up),
            mlp_both=down(ref.silu(gate) * ref.silu(up)),
            mlp_product=down(ref.silu(gate * up)),
            mlp_one_branch=down(ref.silu(gate)),
            mlp_glu=down(torch.sigmoid(gate) * up),
            mlp_geglu=down(F.gelu(gate) * up),
            mlp_again=ref.silu(down(ref.silu(gate) * up)),
            mlp_residual=x + theirs(x),
        )


@check("MLP", 910)
def mlp_has_a_gradient(mine, ref, rng):
    own, theirs = twins("MLP", mine, ref, rng, **BIASED)
    gradients("MLP", own.train(), theirs, stream(rng))


@check("MLP", 920)
def mlp_runs_in_half_precision(mine, ref, rng):
    own, theirs = twins("MLP", mine, ref, rng)
    x = stream(rng, 6, 3).bfloat16().transpose(0, 1)
    same("MLP in bfloat16", own.bfloat16()(x), theirs.bfloat16()(x), tol=HALF)


# Block


@check("Block", 1000)
def block_adds_to_the_stream(mine, ref, rng):
    """With both projections at 0 the branches say nothing: x goes through as it came."""
    own, theirs = twins("Block", mine, ref, rng, 0)
    for last in (theirs.self_attn.o_proj, theirs.mlp.down_proj):
        nn.init.zeros_(last.weight)
    twin("Block", own, theirs)
    x = stream(rng)
    mistakes = silent_blocks(x, theirs.input_layernorm, theirs.post_attention_layernorm)
    suspect("Block with silent branches", run(own, x, turns(rng), ref.causal_mask(6, 6)), x, **mistakes)


@check("Block", 1010)
def block_communicates_then_computes(mine, ref, rng):
    own, theirs = twins("Block", mine, ref, rng, 0, **BIASED)
    x, given = stream(rng), (turns(rng), ref.causal_mask(6, 6, LEFT_PAD, window=4))
    usual = copy.deepcopy(theirs)
    usual.input_layernorm.eps = usual.post_attention_layernorm.eps = 1e-5
    output, right, attn = run(own, x, *given), theirs(x, *given), Fixed(theirs.self_attn, *given)
    mistakes = wrong_blocks(x, theirs.input_layernorm, attn, theirs.post_attention_layernorm, theirs.mlp)
    suspect(
        "Block",
        output,
        right,
        block_eps=usual(x, *given),
        block_mask=theirs(x, given[0], ref.causal_mask(6, 6)),
        **mistakes,
    )


@check("Block", 1020)
def block_hands_on_the_state(mine, ref, rng):
    """As the second layer, in pieces."""
    own, theirs = twins("Block", mine, ref, rng, 1)
    x, rotation, visible = stream(rng), turns(rng), ref.causal_mask(6, 6, LEFT_PAD)
    output, _ = through_a_cache(own, x, rotation, visible, (4, 2), "block_layer", "block_state")
    same("Block with a cache", output, theirs(x, rotation, visible))


@check("Block", 1030)
def block_has_a_gradient(mine, ref, rng):
    own, theirs = twins("Block", mine, ref, rng, 0)
    given = turns(rng), ref.causal_mask(6, 6)
    own.train()
    gradients("Block", Fixed(own, *given), Fixed(theirs, *given), stream(rng))


# cross_entropy


@check("cross_entropy", 1100)
def loss_is_the_mean(mine, ref, rng):
    lm_checks.loss_of_everything(mine, ref, rng)


@check("cross_entropy", 1110)
def loss_counts_what_counts(mine, ref, rng):
    lm_checks.loss_of_what_counts(mine, ref, rng)


@check("cross_entropy", 1120)
def loss_of_nothing_is_zero(mine, ref, rng):
    lm_checks.loss_of_nothing(mine, ref, rng)


@check("cross_entropy", 1130)
def loss_stays_finite(mine, ref, rng):
    lm_checks.loss_of_large_logits(mine, ref, rng)


@check("cross_entropy", 1140)
def loss_takes_slices(mine, ref, rng):
    lm_checks.loss_of_slices(mine, ref, rng)


@check("cross_entropy", 1150)
def loss_has_a_gradient(mine, ref, rng):
    lm_checks.loss_gradient(mine, ref, rng)


# Llama

PLAIN = {}
QWEN = BIASED | {"tied": True, "scaling": LLAMA3}
MISTRAL = {"window": 3, "scaling": YARN}


def by_hand(
    ref,
    theirs,
    tokens,
    places=None,
    pad=None,
    *,
    rotation=None,
    windowed=True,
    scale=1.0,
    blocks: Sequence[int] = range(L),
    norm=True,
    head=None,
):
    """The logits of a reference model with known mistakes; places (B or 1, T): positions."""
    T = tokens.shape[1]
    rotation = rotation or theirs.rotation(torch.arange(T)[None] if places is None else places)
    visible = ref.causal_mask(T, T, pad, window=theirs.config.window if windowed else None)
    x = theirs.embed_tokens(tokens) * scale
    for i in blocks:
        x = theirs.layers[i](x, rotation, visible)
    own = theirs.embed_tokens if theirs.lm_head is None else theirs.lm_head
    return (theirs.norm(x) if norm else x) @ (own.weight if head is None else head).T


def some_tokens(rng, B=3, T=6):
    """(B, T), a slice."""
    return torch.randint(V, (B, T + 1), generator=rng)[:, :-1]


@check("Llama", 1195)
def model_keeps_its_config(mine, ref, rng):
    given = config(mine)
    keeps_its_config("Llama", mine.Llama(given), given)


@check("Llama", 1200)
def model_has_its_parameters(mine, ref, rng):
    for settings in (PLAIN, QWEN):
        own = mine.Llama(config(mine, **settings))
        if settings is QWEN and any(name.startswith("lm_head") for name, _ in own.named_parameters()):
            raise Wrong("model_second_head")
        own, _ = twins("Llama", mine, ref, rng, **settings)
        lm_checks.predicts_at_every_position(own, V, (3, 6), (1, 1), (2, N))


@check("Llama", 1210)
def model_looks_back_only(mine, ref, rng):
    own, _ = twins("Llama", mine, ref, rng)
    tokens = some_tokens(rng)
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % V
    looks_back_only(own(tokens).logits, own(other).logits, 3)


@check("Llama", 1220)
def model_computes_its_logits(mine, ref, rng):
    for settings, B, T in ((PLAIN, 3, 6), (PLAIN, 1, N), (QWEN, 3, 6), (MISTRAL, 3, 6)):
        own, theirs = twins("Llama", mine, ref, rng, **settings)
        tokens = some_tokens(rng, B, T)
        output, right = own(tokens).logits, theirs(tokens).logits
        if alike(output, right):
            continue
        places, scaling = torch.arange(T)[None], theirs.config.scaling
        cos, sin = theirs.rotation(places)
        sharpen = scaling.sharpen if scaling else 1.0
        usual, unscaled = copy.deepcopy(theirs), copy.deepcopy(theirs)
        usual.norm.eps, unscaled.config = 1e-5, config(ref, **settings | {"scaling": None})

        def model(theirs=theirs, tokens=tokens, **how):
            return by_hand(ref, theirs, tokens, **how)

        suspect(
            "logits",
            output,
            right,
            model_eps=usual(tokens).logits,
            model_no_positions=model(places=torch.zeros_like(places)),
            model_not_sharpened=model(rotation=(cos / sharpen, sin / sharpen)),
            model_unscaled=unscaled(tokens).logits,
            model_window=model(windowed=False),
            model_no_last_norm=model(norm=False),
            model_last_block_left_out=model(blocks=range(L - 1)),
            model_first_block_twice=model(blocks=[0] * L),
            model_blocks_reversed=model(blocks=range(L)[::-1]),
            model_embedding_scaled=model(scale=C**0.5),
            model_always_tied=model(head=theirs.embed_tokens.weight),
            model_probabilities=right.softmax(-1),
        )


@check("Llama", 1230)
def model_learns_through_both_ends(mine, ref, rng):
    """The embedding gets a gradient as input and, where it is the head, as head; every parameter gets one."""
    for settings in (QWEN, MISTRAL):
        own, theirs = twins("Llama", mine, ref, rng, **settings)
        tokens, targets = some_tokens(rng), targets_with_gaps(rng, 3, 6, V)
        logits, right = theirs(tokens, targets)
        shifted = ref.cross_entropy(logits[:, :-1], targets[:, 1:])
        suspect("loss in eval()", part("forward", own(tokens, fresh(targets)), "loss"), right, model_shifted=shifted)
        output = own.train()(tokens, fresh(targets))
        loss = part("forward", output, "loss")
        same("logits beside a loss", part("forward", output, "logits"), logits)
        suspect("loss", loss, right, model_shifted=shifted)
        embedding = theirs.embed_tokens.weight
        detached = ref.cross_entropy(by_hand(ref, theirs, tokens, head=embedding.detach()), targets)
        expected = [torch.autograd.grad(each, embedding)[0] for each in (right, detached)]
        own.zero_grad()
        loss.backward()
        if own.embed_tokens.weight.grad is None:
            raise Wrong("no_gradient", name="Llama", source="embed_tokens.weight")
        name = "Llama: d/d embed_tokens.weight"
        suspect(name, own.embed_tokens.weight.grad, expected[0], model_head_detached=expected[1])
        gradients("loss", Loss(own, targets), Loss(theirs, targets), tokens)


@check("Llama", 1240)
def model_starts_small(mine, ref, rng):
    """With a head of its own, and without; of three layers, and of two."""
    for n, tied in ((L, False), (2, True)):
        sizes = BIASED | {"vocab_size": 200, "n_embd": 48, "n_hidden": 34, "n_layers": n, "tied": tied}
        weights = dict(mine.Llama(config(mine, **sizes)).named_parameters())
        small = 0.02 / (2 * n) ** 0.5
        for name in ref.Llama(config(ref, **sizes)).state_dict():
            if name not in weights:
                raise Wrong("missing_parameter", name="Llama", parameter=name, seen=", ".join(weights))
            value = weights[name]
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                usual = {"start_not_scaled": 0.02, "start_one_branch": 0.02 / n**0.5, "start_no_root": 0.02 / (2 * n)}
                normal(name, value, small, **usual)
            elif value.ndim == 2:
                linear = (3 * value.shape[-1]) ** -0.5
                normal(name, value, 0.02, start_all_scaled=small, start_embedding=1.0, start_linear=linear)
            else:
                same(f"{name} at the start", value, torch.full_like(value, float(name.endswith("weight"))))
        starts_apart(weights["layers.0.mlp.up_proj.weight"], weights["layers.1.mlp.up_proj.weight"])


@check("Llama", 1250)
def model_goes_on_from_its_cache(mine, ref, rng):
    for settings in (PLAIN, MISTRAL):
        own, theirs = twins("Llama", mine, ref, rng, **settings)
        for sizes in ((1,) * 6, (3, 1, 2), (6,), (5, 4)):  # the last reaches block_size
            tokens = some_tokens(rng, T=sum(sizes))
            output, right = in_pieces(own, sizes, tokens), theirs(tokens).logits
            if alike(output, right):
                continue
            restarts = torch.cat([torch.arange(size) for size in sizes])[None]
            suspect(
                f"logits of pieces {sizes}",
                output,
                right,
                model_position_restarts=by_hand(ref, theirs, tokens, restarts),
                model_state=torch.cat([theirs(each).logits for each in tokens.split(list(sizes), 1)], 1),
                model_window=by_hand(ref, theirs, tokens, windowed=False),
            )
    tokens, states, read = some_tokens(rng), [own.new_state(3), own.new_state(3)], []
    for piece in tokens.split(2, 1):
        read.append([own(fresh(each), state=state).logits for each, state in zip((piece, piece), states, strict=True)])
    if not all(alike(torch.cat(text, 1), theirs(tokens).logits) for text in zip(*read, strict=True)):
        raise Wrong("model_two_states")


@check("Llama", 1260)
def model_counts_real_tokens(mine, ref, rng):
    """Padding on the left, where RoPE forgives wrong positions, and between tokens, where it does not."""
    own, theirs = twins("Llama", mine, ref, rng, **MISTRAL)
    tokens, columns = some_tokens(rng), torch.arange(6)[None]
    for pad in (LEFT_PAD, HOLES):
        places = pad.cumsum(1) - pad.long()
        right = by_hand(ref, theirs, tokens, places, pad)
        output = part("forward", own(fresh(tokens), pad=pad.clone()), "logits")
        finite("logits with padding", output)
        suspect(
            "logits with padding",
            output[pad],
            right[pad],
            model_padding_positions=by_hand(ref, theirs, tokens, columns, pad)[pad],
            model_padding_seen=by_hand(ref, theirs, tokens, places)[pad],
            model_padding_ignored=theirs(tokens).logits[pad],
        )
        pieces = in_pieces(own, (4, 1, 1), tokens, pad)
        places[:, 4:] = torch.arange(4, 6)  # padding forgotten once the prompt is cached
        forgotten = by_hand(ref, theirs, tokens, places, pad)[pad]
        suspect("logits of padded pieces", pieces[pad], right[pad], model_padding_cached=forgotten)


@check("Llama", 1270)
def model_refuses_more_than_its_block(mine, ref, rng):
    own, _ = twins("Llama", mine, ref, rng)
    refuses_more_than_its_block(own, N)


@check("Llama", 1280)
def model_runs_in_half_precision(mine, ref, rng):
    """Near, and 300 tokens on: there bfloat16 tells no odd place from an even one."""
    own, theirs = twins("Llama", mine, ref, rng, block_size=400, window=4)
    own, theirs, tokens = own.bfloat16(), theirs.bfloat16(), some_tokens(rng)
    same("logits in bfloat16", own(tokens).logits, theirs(tokens).logits, tol=HALF)
    output = []
    for model in (own, theirs):
        state = model.new_state(3)
        for layer in range(L):
            state.append(layer, *torch.zeros(2, 3, G, 300, D, dtype=torch.bfloat16))
        output.append(model(fresh(tokens), state=state).logits)
    if not alike(finite("logits in bfloat16", output[0]), output[1], tol=HALF):
        raise Wrong("model_half_places")


# The house


@check("", 1300)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    for settings in (QWEN, MISTRAL):
        theirs = shake(ref.Model(config(ref, **settings)), rng)
        lm_checks.trains_alike(mine.Model(config(mine, **settings)), theirs, rng, V, 6)


@check("", 1310)
def writes_in_the_house(mine, ref, rng):
    """Stays: generation is the other half of the house: a cache, one token at a time."""
    theirs = shake(ref.Model(config(ref, **MISTRAL)), rng)
    lm_checks.continues_alike(mine.Model(config(mine, **MISTRAL)), theirs, some_tokens(rng, T=5))
