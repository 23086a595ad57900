"""Checks of the Transformer station. B = 4, S = 7, T = 5, H = 3, D = 6, C = 18, hidden 10, V = 11, two layers each.

No two that code could take for each other are equal. Dropout is compared with the learner's own result in eval(), which
another check judges.
"""

import copy
import inspect
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, finite, fresh, gradients, part, same, shake, shape, tensor, twin
from kakehashi.journey.lm_checks import (
    DROPOUT,
    alike,
    biases_start_at_zero,
    drops,
    keeps_its_config,
    normal,
    starts_apart,
    suspect,
    targets_with_gaps,
)
from kakehashi.models.protocol import IGNORE

B, S, T, H, D, C, HIDDEN, V, L = 4, 7, 5, 3, 6, 18, 10, 11, 2
SIZES = {"vocab_size": V, "n_layers": L, "n_heads": H, "n_embd": C, "n_hidden": HIDDEN, "eps": 0.1}
SIZES |= {"dropout": 0.0, "label_smoothing": 0.0}
REAL = torch.arange(S) < torch.tensor([[7], [4], [1], [0]])  # (B, S), True = real
REAL[3, [0, 2, 3, 5]] = True  # padding may lie anywhere
SEEN = REAL[:, None, None]  # (B, 1, 1, S)
ALL = torch.ones_like(SEEN)


def stream(rng, B=B, T=T):
    """(B, T, C): vectors for the stream of a text."""
    return torch.randn(B, T, C, generator=rng)


def some_tokens(rng, T=T, B=B):
    """(B, T), a slice; token 0, which may be taken for padding, is among them."""
    tokens = torch.randint(V, (B, T + 1), generator=rng)
    tokens[0, -1] = 0
    return tokens[:, 1:]


def some_heads(rng, N=S):
    """Keys and values, each (B, H, N, D)."""
    return torch.randn(2, B, H, N, D, generator=rng).unbind()


def alone(symbol, mine, ref, *given):
    """An object with one method of the learner's and what their __init__ adds; all else of it is the reference's."""
    name, method = symbol.split(".")
    own, theirs = getattr(mine, name), getattr(ref, name)
    others = {each: value for each, value in vars(theirs).items() if inspect.isfunction(value)}
    kind = type(name, (own,), {each: others[each] for each in others if each not in (method, "__init__")})
    if method == "__init__":
        return kind(*given)
    made, right = kind.__new__(kind), theirs(*given)
    nn.Module.__init__(made)
    with suppress(Exception):  # a wrong __init__ is judged by itself
        made = kind(*given)
    for attribute, value in vars(right).items():
        if isinstance(value, dict):  # torch's: of parameters, buffers, modules
            vars(made)[attribute].update(value)
        else:
            vars(made)[attribute] = value
    return made


def twins(symbol, mine, ref, rng, *more, **settings):
    """What holds a method, `alone`, and the reference's, with the same random weights, evaluating."""
    name, settings = symbol.split(".")[0], SIZES | settings
    theirs = shake(getattr(ref, name)(ref.Config(**settings), *more), rng).eval()
    return twin(name, alone(symbol, mine, ref, mine.Config(**settings), *more), theirs), theirs


class Call(nn.Module):
    """What `call` makes of a module, for `gradients`: it has the module's parameters, under their names."""

    def __init__(self, module, call):
        super().__init__()
        self.of, self.call = module, call

    def named_parameters(self, *given, **options):
        return self.of.named_parameters(*given, **options)

    def forward(self, *inputs):
        return self.call(self.of, *inputs)


def suspect_call(name, both, call, *given, **mistakes):
    """`suspect` of call(own, *given) beside call(theirs, *given), both being (own, theirs), and `gradients` of both.

    Called twice, for nothing may stay from call to call. The gradients are taken in train(), which without dropout
    changes nothing, and in float64, where a fixed precision shows. Raises Wrong "second_call", else as these two.
    """
    output, again = (tensor(name, call(both[0], *map(fresh, given))) for _ in range(2))
    suspect(name, output, call(both[1], *given), **mistakes)
    if not alike(again, output):
        raise Wrong("second_call", name=name)
    calls = [Call(copy.deepcopy(each).double().train(), call) for each in both]
    gradients(f"{name} in train()", *calls, *(x.double() if x.is_floating_point() else x for x in given))


def evaluated(name, own, *given):
    """What own gives in eval(), where nothing is dropped. Raises Wrong "dropout_in_evaluation"."""
    output = tensor(name, own(*given))
    if not alike(own(*given), output):
        raise Wrong("dropout_in_evaluation", name=name)
    return output


def pair(name, value):
    """Two tensors of one shape as one: (2, ...). Raises Wrong "pair"."""
    try:
        first, second = value
    except (TypeError, ValueError):
        raise Wrong("pair", name=name, seen=type(value).__name__) from None
    return torch.stack((tensor(name, first), shape(name, second, first.shape)))


# positions


def circles(start, T, width, step=2.0, ends=0):
    """Sine and cosine (T, C / 2, 2) of place / 10000^(step i / (C + ends)), in float64."""
    place = torch.arange(start, start + T, dtype=torch.float64)[:, None]
    angle = place / 10000 ** (step * torch.arange(width // 2) / (width + ends))
    return torch.stack((angle.sin(), angle.cos()), 2)


@check("positions", 100)
def positions_are_points_on_circles(mine, ref, rng):
    """From the beginning and from later on, one place and many, wide and as narrow as can be."""
    for start, T, width in ((0, 9, C), (3, 4, 12), (25, 1, 6), (0, 5, 2), (2, 9, C), (2, 9, 12), (300, 3, C)):
        right = circles(start, T, width).flatten(1).float()
        place = torch.arange(start, start + T)[:, None]
        angle = place / 10000 ** (torch.arange(width) / width)  # a speed a column
        suspect(
            f"positions({start}, {T}, {width})",
            mine.positions(start, T, width),
            right,
            tol=1e-4,  # the power is taken in float32 and multiplied by the place
            positions_halves=circles(start, T, width).transpose(1, 2).flatten(1).float(),
            positions_cosine_first=circles(start, T, width).flip(2).flatten(1).float(),
            positions_start=circles(0, T, width).flatten(1).float(),
            positions_from_1=circles(start + 1, T, width).flatten(1).float(),
            positions_slow=circles(start, T, width, step=4).flatten(1).float(),
            positions_fast=circles(start, T, width, step=1).flatten(1).float(),
            positions_columns=torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos()),
            **({"positions_ends": circles(start, T, width, ends=-2).flatten(1).float()} if width > 2 else {}),
        )


# attention


@check("attention", 200)
def attention_is_a_weighted_mean(mine, ref, rng):
    for judge in lm_checks.ATTENTION:
        judge(mine, ref, rng)


# Attention


@check("Attention.heads", 300)
def heads_are_cut(mine, ref, rng):
    own, theirs = twins("Attention.heads", mine, ref, rng)
    for x in (stream(rng), stream(rng, 1, 1)):
        rows, N, _ = x.shape
        suspect_call(
            "Attention.heads",
            (own, theirs),
            lambda each, x: each.heads(x),
            x,
            heads_cut=x.view(rows, H, N, D),
            heads_interleaved=x.view(rows, N, D, H).permute(0, 3, 1, 2),
        )


def keys_and_values(layer, x):
    return pair("Attention.keys_and_values", layer.keys_and_values(x))


@check("Attention.keys_and_values", 350)
def keys_and_values_have_projections_of_their_own(mine, ref, rng):
    own, theirs = twins("Attention.keys_and_values", mine, ref, rng)
    x = stream(rng, T=S)
    q, k, v = (theirs.heads(each(x)) for each in (theirs.q, theirs.k, theirs.v))
    suspect_call(
        "Attention.keys_and_values",
        (own, theirs),
        keys_and_values,
        x,
        kv_values_are_keys=torch.stack((k, k)),
        kv_keys_are_values=torch.stack((v, v)),
        kv_keys_are_queries=torch.stack((q, v)),
        kv_swapped=torch.stack((v, k)),
    )


@check("Attention.forward", 400)
def queries_look_at_the_keys_they_are_given(mine, ref, rng):
    """At another text with padding, at the own one with a cache, and one token at another text."""
    own, theirs = twins("Attention.forward", mine, ref, rng)
    keys, values = some_heads(rng)
    for x, visible in ((stream(rng), SEEN), (stream(rng), table(0)(T, S)), (stream(rng, T=1), SEEN)):
        q = theirs.heads(theirs.q(x))
        mixed = ref.attention(q, keys, values, visible)  # (B, H, N, D)
        side_by_side = mixed.transpose(1, 2).reshape(x.shape)
        bare = ref.attention(theirs.heads(x), keys, values, visible).transpose(1, 2).reshape(x.shape)
        suspect_call(
            "Attention.forward",
            (own, theirs),
            lambda each, *given: each(*given),
            x,
            keys,
            values,
            visible,
            heads_merge=theirs.out(mixed.reshape(x.shape)),
            look_out_missing=side_by_side,
            look_not_projected=theirs.out(bare),
            look_at_everything=theirs(x, keys, values, torch.ones_like(visible)),
            look_keys_swapped=theirs(x, values, keys, visible),
            look_residual=x + theirs.out(side_by_side),
        )


@check("Attention.forward", 410)
def queries_lose_keys_in_training(mine, ref, rng):
    """One key, weight 1, no mixing behind: what each head gives is 0 or the value / (1 - p)."""
    own, theirs = twins("Attention.forward", mine, ref, rng, dropout=DROPOUT)
    with torch.no_grad():
        theirs.out.weight.copy_(torch.eye(C))
        theirs.out.bias.zero_()
    twin("Attention", own, theirs)
    value = torch.rand(300, H, 1, D, generator=rng) + 1
    given = stream(rng, 300, 1), value, fresh(value), torch.ones(1, 1).bool()
    right, output = evaluated("Attention.forward", own, *given), own.train()(*given)
    if alike(output, right):
        raise Wrong("look_dropout_missing")
    drops("Attention.forward", output, right)
    kept = (output != 0).view(300, H, D)
    if (kept.any(-1) != kept.all(-1)).any():
        raise Wrong("look_dropout_output")


# FeedForward


@check("FeedForward.forward", 500)
def feed_forward_widens_and_returns(mine, ref, rng):
    own, theirs = twins("FeedForward.forward", mine, ref, rng)
    for x in (stream(rng), stream(rng, 1, 1)):
        h = theirs.up(x)
        suspect_call(
            "FeedForward.forward",
            (own, theirs),
            lambda each, x: each(x),
            x,
            ff_linear=theirs.down(h),
            ff_gelu=theirs.down(F.gelu(h)),
            ff_relu_last=torch.relu(theirs.down(h)),
            ff_relu_twice=torch.relu(theirs(x)),
            ff_residual=x + theirs(x),
        )


@check("FeedForward.forward", 510)
def feed_forward_drops_hidden_units(mine, ref, rng):
    """Each hidden unit is 1 and is read by two features of the output: both are 0, or both 1 / (1 - p)."""
    own, theirs = twins("FeedForward.forward", mine, ref, rng, dropout=DROPOUT)
    with torch.no_grad():
        for value in theirs.parameters():
            value.zero_()
        theirs.up.bias.fill_(1.0)
        theirs.down.weight[torch.arange(C), torch.arange(C) % (C // 2)] = 1.0
    x = stream(rng, 8, 9)
    right, output = evaluated("FeedForward.forward", twin("FeedForward", own, theirs), x), own.train()(x)
    if alike(output, right):
        raise Wrong("ff_dropout_missing")
    first, second = output.chunk(2, -1)
    if not torch.equal(first, second):
        raise Wrong("ff_dropout_output")
    drops("FeedForward.forward", output, right)


# Branch


@check("Branch.forward", 600)
def branch_adds_to_the_stream(mine, ref, rng):
    weight = torch.randn(C, C, generator=rng) / C**0.5

    def branch(x, *given):
        calls.append(x)
        if len(given) != 1:
            raise Wrong("branch_given", seen=len(given))
        return torch.tanh(x @ weight.to(x.dtype)) + given[0]

    for norm_first in (False, True):
        own, theirs = twins("Branch.forward", mine, ref, rng, norm_first=norm_first)
        x, given, norm, calls = stream(rng), stream(rng), theirs.norm, []
        own(fresh(x), branch, given)
        if len(calls) != 1:
            raise Wrong("branch_calls", seen=len(calls))
        after, first = norm(x + branch(x, given)), x + branch(norm(x), given)
        suspect_call(
            f"Branch.forward with norm_first={norm_first}",
            (own, theirs),
            lambda each, x, given: each(x, branch, given),
            x,
            given,
            branch_norm_inside=x + norm(branch(x, given)),
            branch_stream_normalised=norm(x) + branch(norm(x), given),
            branch_norm_missing=x + branch(x, given),
            branch_not_added=branch(norm(x), given) if norm_first else norm(branch(x, given)),
            **({"branch_always_after": after} if norm_first else {"branch_always_first": first}),
        )


@check("Branch.forward", 610)
def branch_drops_what_it_adds(mine, ref, rng):
    """Without its norm, a stream of 2 and a branch that says 1: the sum is 2 or 2 + 1 / (1 - p)."""
    for norm_first in (False, True):
        own, _ = twins("Branch.forward", mine, ref, rng, norm_first=norm_first, dropout=DROPOUT)
        own.norm = nn.Identity()
        x = torch.full((B, 9, C), 2.0)
        name, given = f"Branch.forward with norm_first={norm_first}", (x, lambda x, *given: torch.ones_like(x), x)
        right, output = evaluated(name, own, *given), own.train()(*given)
        if (output == 0).any():
            raise Wrong("branch_dropout_stream")
        if alike(output, right):
            raise Wrong("branch_dropout_missing", norm_first=norm_first)
        drops(name, output - x, right - x)


# EncoderLayer and DecoderLayer


def through(layer, x, *steps):
    """x through branches of a layer, each with what it does; a branch of None is a plain addition."""
    for index, step in steps:
        x = x + step(layer, x) if index is None else layer.branches[index](x, partial(step, layer))
    return x


def look(layer, x):
    return layer.look_around(x, SEEN)


def think(layer, x):
    return layer.feed_forward(x)


@check("EncoderLayer.look_around", 700)
def source_looks_around(mine, ref, rng):
    own, theirs = twins("EncoderLayer.look_around", mine, ref, rng)
    x = stream(rng, T=S)
    keys, values = theirs.attention.keys_and_values(x)
    suspect_call(
        "EncoderLayer.look_around",
        (own, theirs),
        look,
        x,
        around_padding=theirs.attention(x, keys, values, ALL),
        around_swapped=theirs.attention(x, values, keys, SEEN),
        around_residual=x + theirs.attention(x, keys, values, SEEN),
    )


@check("EncoderLayer.forward", 720)
def encoder_looks_then_thinks(mine, ref, rng):
    for norm_first in (False, True):
        own, theirs = twins("EncoderLayer.forward", mine, ref, rng, norm_first=norm_first)
        x = stream(rng, T=S)
        suspect_call(
            "EncoderLayer.forward",
            (own, theirs),
            lambda each, x: each(x, SEEN),
            x,
            layer_order=through(theirs, x, (0, think), (1, look)),
            layer_branches=through(theirs, x, (1, look), (0, think)),
            layer_branch_shared=through(theirs, x, (0, look), (0, think)),
            layer_no_branch=through(theirs, x, (None, look), (None, think)),
            layer_does_not_think=through(theirs, x, (0, look)),
            layer_does_not_look=through(theirs, x, (1, think)),
            layer_padding=theirs(x, ALL),
        )


def memory(ref, *pairs):
    """Of a source, its keys and values for each layer; nothing is written yet."""
    return ref.Memory(list(pairs), SEEN)


@check("DecoderLayer.read", 800)
def source_is_read_for_cross_attention(mine, ref, rng):
    own, theirs = twins("DecoderLayer.read", mine, ref, rng, 1)
    x = stream(rng, T=S)
    suspect_call(
        "DecoderLayer.read",
        (own, theirs),
        lambda each, x: pair("DecoderLayer.read", each.read(x)),
        x,
        read_for_the_other=keys_and_values(theirs.attention, x),
        kv_swapped=keys_and_values(theirs.cross, x).flip(0),
    )


def table(move=None):
    """Who of the last T of N may look at whom: back, and `move` places on; None: all see all."""
    return lambda T, N: torch.ones(T, N).bool() if move is None else torch.ones(T, N).bool().tril(N - T + move)


def corner(T, N):
    """A table that forgets what is cached."""
    return torch.ones(T, N).bool().tril()


def looking_back(layer, ref, x, sizes):
    """look_back of the second layer on x in pieces, where the first has cached something of its own; and the state.

    Raises Wrong "heads_cache_layer", "heads_cache_not_written", "heads_cache_length".
    """
    state, pieces, at = memory(ref), [], 0
    for piece in x.split(sizes, 1):
        nothing = x.new_zeros(len(x), H, piece.shape[1], D)
        state.append(0, nothing, nothing)
        pieces.append(shape("DecoderLayer.look_back", layer.look_back(piece, state), piece.shape))
        at += piece.shape[1]
        if len(state.layers) < 2:
            raise Wrong("heads_cache_layer" if state.length > at else "heads_cache_not_written")
        if state.layers[1][0].shape[2] != at:
            raise Wrong("heads_cache_length", seen=state.layers[1][0].shape[2], expected=at)
    return torch.cat(pieces, 1), state


def back_by_hand(theirs, x, sizes, visible, cached=True):
    """The same for a table of who may look at whom; cached=False: at the piece alone."""
    keys, values = theirs.attention.keys_and_values(x)
    pieces, at = [], 0
    for size in sizes:
        start, at = at, at + size
        here = slice(0 if cached else start, at)
        seen = visible(size, at if cached else size)
        pieces.append(theirs.attention(x[:, start:at], keys[:, :, here], values[:, :, here], seen))
    return torch.cat(pieces, 1)


@check("DecoderLayer.look_back", 820)
def target_looks_back_only(mine, ref, rng):
    own, theirs = twins("DecoderLayer.look_back", mine, ref, rng, 1)
    for x in (stream(rng), stream(rng, 1, 1)):
        sizes = (x.shape[1],)
        output, _ = looking_back(own, ref, fresh(x), sizes)
        if output[:, 0].isnan().any():
            raise Wrong("back_self")
        if output[:, -1].isnan().any():
            raise Wrong("back_inverted")
        suspect_call(
            "DecoderLayer.look_back",
            (own, theirs),
            lambda each, x: looking_back(each, ref, x, (x.shape[1],))[0],
            x,
            back_no_mask=back_by_hand(theirs, x, sizes, table()),
            back_next=back_by_hand(theirs, x, sizes, table(1)),
            back_with_cross=theirs.cross(x, *theirs.cross.keys_and_values(x), table(0)(*sizes * 2)),
        )


@check("DecoderLayer.look_back", 830)
def target_looks_back_at_what_is_cached(mine, ref, rng):
    own, theirs = twins("DecoderLayer.look_back", mine, ref, rng, 1)
    short, long = stream(rng), stream(rng, 1, 300)
    for x, sizes in ((short, (1,) * T), (short, (3, 2)), (short, (1, 3, 1)), (long, (299, 1))):
        output, state = looking_back(own, ref, fresh(x), sizes)
        right, kept = looking_back(theirs, ref, x, (x.shape[1],))
        suspect("the cached keys", state.layers[1][0], kept.layers[1][0], heads_cache_swapped=kept.layers[1][1])
        same("the cached values", state.layers[1][1], kept.layers[1][1])
        suspect(
            f"DecoderLayer.look_back in pieces {sizes}",
            output,
            right,
            back_corner=back_by_hand(theirs, x, sizes, corner),
            back_no_mask=back_by_hand(theirs, x, sizes, table()),
            heads_cache_not_read=back_by_hand(theirs, x, sizes, table(0), cached=False),
        )


@check("DecoderLayer.look_at_source", 840)
def target_looks_at_the_source(mine, ref, rng):
    """As the second layer, many tokens and one; nothing is remembered by it."""
    own, theirs = twins("DecoderLayer.look_at_source", mine, ref, rng, 1)
    first, second, cross = some_heads(rng), some_heads(rng), theirs.cross
    for x in (stream(rng), stream(rng, T=1)):
        state = memory(ref, first, second)
        own.look_at_source(fresh(x), state)
        if state.layers or not all(map(torch.equal, (*first, *second), (*state.source[0], *state.source[1]))):
            raise Wrong("cross_cached")
        own_keys = cross.keys_and_values(x)
        suspect_call(
            "DecoderLayer.look_at_source",
            (own, theirs),
            lambda each, x, *second: each.look_at_source(x, memory(ref, first, second)),
            x,
            *second,
            cross_own_keys=cross(x, *own_keys, table()(1, 1)),
            cross_own_keys_behind=cross(x, *own_keys, table(0)(x.shape[1], x.shape[1])),
            cross_first_layer=cross(x, *first, SEEN),
            cross_padding=cross(x, *second, ALL),
            cross_other_attention=theirs.attention(x, *second, SEEN),
            cross_swapped=cross(x, *second[::-1], SEEN),
        )


@check("DecoderLayer.forward", 860)
def decoder_looks_back_looks_over_and_thinks(mine, ref, rng):
    source = some_heads(rng)

    def back(layer, x):
        return layer.look_back(x, memory(ref))

    def over(layer, x):
        return layer.look_at_source(x, memory(ref, source))

    for norm_first in (False, True):
        own, theirs = twins("DecoderLayer.forward", mine, ref, rng, 0, norm_first=norm_first)
        x = stream(rng)
        suspect_call(
            "DecoderLayer.forward",
            (own, theirs),
            lambda each, x, *source: each(x, memory(ref, source)),
            x,
            *source,
            layer_source_first=through(theirs, x, (0, over), (1, back), (2, think)),
            layer_order=through(theirs, x, (0, think), (1, back), (2, over)),
            layer_branches=through(theirs, x, (1, back), (0, over), (2, think)),
            layer_branch_shared=through(theirs, x, (0, back), (0, over), (0, think)),
            layer_no_branch=through(theirs, x, (None, back), (None, over), (None, think)),
            layer_no_source=through(theirs, x, (0, back), (2, think)),
            layer_does_not_look=through(theirs, x, (1, over), (2, think)),
            layer_does_not_think=through(theirs, x, (0, back), (1, over)),
        )


# Memory


@check("Memory.select", 900)
def memory_goes_on_with_rows(mine, ref, rng):
    """More rows and fewer, in another order, one several times; before and after something is written."""
    for rows, length in (([2, 0, 0, 1], 3), ([3, 3, 1, 0, 2, 2], 1), ([1], 2), ([2, 1], 0)):
        chosen = torch.tensor(rows)
        source, layers = ([some_heads(rng, N) for _ in range(L if N else 0)] for N in (S, length))
        state = mine.Memory([tuple(map(fresh, each)) for each in source], SEEN.clone())
        state.layers = [tuple(map(fresh, each)) for each in layers]
        given = [state.visible, *(each for two in (*state.source, *state.layers) for each in two)]
        state.select(chosen.clone())
        if not all(map(torch.equal, given, [SEEN, *(each for two in (*source, *layers) for each in two)])):
            raise Wrong("overwrites", name="Memory.select")
        if state.batch_size != len(rows):
            raise Wrong("select_batch_size", seen=state.batch_size, expected=len(rows))
        suspect("visible after select", state.visible, SEEN[chosen], select_visible=SEEN)
        for name, forgotten, before, after in (
            ("source", "select_source", source, state.source),
            ("layers", "select_targets", layers, state.layers),
        ):
            if not isinstance(after, list) or len(after) != len(before):
                raise Wrong("select_list", name=name, expected=len(before))
            for layer, (two, now) in enumerate(zip(before, after, strict=True)):
                old, new = torch.stack(two), pair(f"{name}[{layer}] after select", now)
                if new.shape == old.shape and torch.equal(new, old):
                    raise Wrong(forgotten)
                same(f"{name}[{layer}] after select", new, old[:, chosen])


# cross_entropy


@check("cross_entropy", 1000)
def loss_is_the_mean_over_what_counts(mine, ref, rng):
    for judge in lm_checks.LOSS:
        judge(mine, ref, rng)


@check("cross_entropy", 1010)
def loss_wants_a_little_of_everything(mine, ref, rng):
    """Smoothed, with gaps; and nothing counted."""
    logits, targets, share = torch.randn(3, 5, 7, generator=rng), targets_with_gaps(rng, 3, 5, 7), 0.3
    logs, counted = logits.log_softmax(-1), targets != IGNORE
    right, everything = -logs.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1), -logs.mean(-1)

    def mean(loss):
        return (loss * counted).sum() / counted.sum()

    suspect(
        "cross_entropy with smoothing",
        mine.cross_entropy(fresh(logits), targets.clone(), share),
        mean((1 - share) * right + share * everything),
        smooth_missing=mean(right),
        smooth_added=mean(right + share * everything),
        smooth_swapped=mean(share * right + (1 - share) * everything),
        smooth_others=mean((1 - share) * right + share * everything * 7 / 6),
        smooth_others_alone=mean((1 - share) * right + share * (everything * 7 - right) / 6),
        smooth_sum=mean((1 - share) * right + share * everything * 7),
        smooth_padding=mean((1 - share) * right) + share * everything.sum() / counted.sum(),
    )

    def smoothed(module):
        return lambda logits: module.cross_entropy(logits, targets, share)

    gradients("cross_entropy with smoothing", smoothed(mine), smoothed(ref), logits)
    if not (loss := mine.cross_entropy(logits, torch.full((3, 5), IGNORE), share)) == 0:
        raise Wrong("loss_nothing", seen=loss)


# Transformer


@check("Transformer.__init__", 1100)
def model_has_its_parts(mine, ref, rng):
    config = mine.Config(**SIZES)
    keeps_its_config("Transformer", mine.Transformer(config), config)
    for norm_first in (False, True):
        made = mine.Transformer(mine.Config(**SIZES | {"norm_first": norm_first}))
        names = dict(made.named_parameters())
        for name, parameter in names.items():
            if parameter.shape == (V, C) and name != "embedding.weight":
                raise Wrong("init_second_table", parameter=name)
        norms = [name for name in names if name.startswith(("encoder_norm.", "decoder_norm."))]
        if len(norms) != 4 * norm_first:
            raise Wrong("init_norms" if norm_first else "init_norms_too_many", seen=", ".join(norms) or "-")
        for name in made.state_dict():
            if name not in names:
                raise Wrong("init_shared", parameter=name)
        own, theirs = twins("Transformer.__init__", mine, ref, rng, norm_first=norm_first)
        numbers = [each.layer for each in own.decoder]
        if numbers != list(range(L)):
            raise Wrong("init_layer_numbers", seen=numbers, expected=list(range(L)))
        given = some_tokens(rng, S), some_tokens(rng)
        usual = copy.deepcopy(theirs)
        usual.encoder_norm.eps = usual.decoder_norm.eps = 1e-5
        both, eps = (own, theirs), usual(*given).logits
        suspect_call("logits", both, lambda each, *given: each(*given).logits, *given, init_eps=eps)


@check("Transformer.__init__", 1110)
def model_starts_at_its_scale(mine, ref, rng):
    sizes = SIZES | {"vocab_size": 300, "n_embd": 60, "n_hidden": 100, "norm_first": True}
    made = mine.Transformer(mine.Config(**sizes))
    words = made.embedding.weight
    normal("embedding.weight", words, 60**-0.5, start_wide=1.0, start_glorot=(2 / 360) ** 0.5, start_gpt2=0.02)
    for name, value in made.named_parameters():
        if value.ndim == 2 and value is not words:
            glorot(name, value.detach())
        elif value.ndim == 1 and name.endswith("weight"):
            same(f"{name} at the start", value, torch.ones_like(value))
    biases_start_at_zero(made)
    starts_apart(*(layer.feed_forward.up.weight for layer in made.encoder))


def glorot(name, weight):
    """Uniform with variance 2 / (inputs + outputs). Raises Wrong "start_linear", "start_std", "start_normal"."""
    std, seen = (2 / sum(weight.shape)) ** 0.5, weight.std().item()
    slack = 6 / (2 * weight.numel()) ** 0.5
    if not abs(seen / std - 1) <= slack:
        default = abs(seen * (3 * weight.shape[1]) ** 0.5 - 1) <= slack
        raise Wrong("start_linear" if default else "start_std", name=name, seen=seen, expected=std)
    if weight.abs().max() > 3**0.5 * std * 1.001:
        raise Wrong("start_normal", name=name, seen=weight.abs().max(), expected=3**0.5 * std)


@check("Transformer.embed", 1200)
def tokens_meet_their_places(mine, ref, rng):
    own, theirs = twins("Transformer.embed", mine, ref, rng)
    for tokens, start in ((some_tokens(rng), 0), (some_tokens(rng), 4), (some_tokens(rng, 1, 1), 9)):
        e, p = theirs.embedding(tokens), ref.positions(start, tokens.shape[1], C)
        suspect_call(
            f"Transformer.embed, from place {start}",
            (own, theirs),
            lambda each, tokens, start=start: each.embed(tokens, start) if start else each.embed(tokens),
            tokens,
            embed_not_scaled=e + p,
            embed_positions_scaled=(e + p) * C**0.5,
            embed_divided=e / C**0.5 + p,
            embed_times_width=e * C + p,
            embed_no_positions=e * C**0.5,
            embed_start=e * C**0.5 + ref.positions(0, tokens.shape[1], C),
        )


@check("Transformer.embed", 1210)
def embeddings_drop_out_in_training(mine, ref, rng):
    own, _ = twins("Transformer.embed", mine, ref, rng, dropout=DROPOUT)
    tokens = some_tokens(rng, 9)
    right, output = evaluated("Transformer.embed", own.embed, tokens), own.train().embed(tokens)
    if alike(output, right):
        raise Wrong("embed_dropout_missing")
    drops("Transformer.embed", output, right)


def kept(pairs, real):
    """Keys and values of real tokens, (their number, L, 2, H, D). What is kept of padding is nobody's business."""
    return torch.stack([pair("Memory.source", each) for each in pairs]).permute(2, 4, 0, 1, 3, 5)[real]


def read(
    theirs, source, real, *, seen=None, layers: Sequence = range(L), norm=True, readers: Sequence = range(L), bare=False
):
    """What a reference model keeps of a source, and what it would keep with known mistakes."""
    x = theirs.embedding(source) if bare else theirs.embed(source)
    for i in layers:
        x = theirs.encoder[i](x, real[:, None, None] if seen is None else seen)
    x = theirs.encoder_norm(x) if norm else x
    return kept([theirs.decoder[i].read(x) for i in readers], real)


@check("Transformer.new_state", 1300)
def source_is_read_once(mine, ref, rng):
    """With padding and without, and one token alone; norms after the branches and before."""
    for norm_first in (False, True):
        own, theirs = twins("Transformer.new_state", mine, ref, rng, norm_first=norm_first)
        for source, pad in ((some_tokens(rng, S), REAL), (some_tokens(rng, S), None), (some_tokens(rng, 1, 1), None)):
            real = torch.ones_like(source).bool() if pad is None else pad
            seen, everything = real[:, None, None], torch.ones_like(real)[:, None, None]
            state = own.new_state(source.clone(), None if pad is None else pad.clone())
            visible = part("Transformer.new_state", state, "visible")
            suspect("Memory.visible", visible, seen, state_padding_seen=everything, state_padding_inverted=~seen)
            if len(state.source) != L:
                raise Wrong("state_layers", seen=len(state.source), expected=L)
            if state.length:
                raise Wrong("state_written", seen=state.length)
            output, right = kept(state.source, real), read(theirs, source, real)
            if alike(output, right):
                continue
            suspect(
                "the keys and values of the source",
                output,
                right,
                state_encoder_sees_padding=read(theirs, source, real, seen=everything),
                state_no_norm=read(theirs, source, real, norm=False),
                state_one_layer=read(theirs, source, real, layers=[0]),
                state_first_layer_again=read(theirs, source, real, layers=[0] * L),
                state_no_encoder=read(theirs, source, real, layers=[]),
                state_reversed=read(theirs, source, real, layers=range(L)[::-1]),
                state_one_reader=read(theirs, source, real, readers=[0] * L),
                state_not_embedded=read(theirs, source, real, bare=True),
            )
        suspect_call(
            "the keys and values of the source",
            (own, theirs),
            lambda each, source: kept(each.new_state(source, REAL).source, REAL),
            some_tokens(rng, S),
        )


def write(theirs, state, target, *, start=0, layers: Sequence = range(L), norm=True, detach=False):
    """A reference model's logits, and what they would be with known mistakes."""
    x = theirs.embed(target, start)
    for i in layers:
        x = theirs.decoder[i](x, state)
    table = theirs.embedding.weight
    return (theirs.decoder_norm(x) if norm else x) @ (table.detach() if detach else table).T


@check("Transformer.forward", 1400)
def model_computes_its_logits(mine, ref, rng):
    """With padding and without, of many tokens and one, norms before the branches and after."""
    for norm_first, rows, N, pad in ((True, B, T, REAL), (False, B, T, REAL), (True, 1, 1, None)):
        own, theirs = twins("Transformer.forward", mine, ref, rng, norm_first=norm_first)
        source, target = some_tokens(rng, S, rows), some_tokens(rng, N, rows)
        output = own(source, target, source_pad=pad)
        logits = shape("logits", part("forward", output, "logits"), (rows, N, V))
        if part("forward", output, "loss") is not None:
            raise Wrong("loss_without_targets")
        right = theirs(source, target, source_pad=pad).logits
        suspect(
            "logits",
            logits,
            right,
            forward_padding=theirs(source, target).logits,
            forward_no_norm=write(theirs, theirs.new_state(source, pad), target, norm=False),
            forward_one_layer=write(theirs, theirs.new_state(source, pad), target, layers=[0]),
            forward_reads_target=theirs(target, target).logits,
            model_probabilities=right.softmax(-1),
            forward_logs=right.log_softmax(-1),
        )


@check("Transformer.forward", 1410)
def model_goes_on_from_its_state(mine, ref, rng):
    """One token at a time and several, whether or not the source is given again; rows are selected on the way."""
    own, theirs = twins("Transformer.forward", mine, ref, rng)
    source, target, rows = some_tokens(rng, S), some_tokens(rng), torch.tensor([2, 0, 0, 1])
    right = theirs(source, target, source_pad=REAL).logits
    for sizes in ((1,) * T, (3, 2), (1, 3, 1)):
        pieces, state, again = target.split(sizes, 1), own.new_state(source, REAL), theirs.new_state(source, REAL)
        suspect(
            f"logits of pieces {sizes}",
            torch.cat([own(source, piece, state=state).logits for piece in pieces], 1),
            right,
            model_position_restarts=torch.cat([write(theirs, again, piece) for piece in pieces], 1),
            model_state=torch.cat([theirs(source, piece).logits for piece in pieces], 1),
        )
    state = own.new_state(source, REAL)
    own(None, target[:, :2], state=state)
    state.select(rows)
    same("logits after select", own(None, target[rows, 2:], state=state).logits, right[rows, 2:])


@check("Transformer.forward", 1420)
def model_is_smoothed_while_it_trains(mine, ref, rng):
    own, theirs = twins("Transformer.forward", mine, ref, rng, label_smoothing=0.3)
    given = some_tokens(rng, S), some_tokens(rng), targets_with_gaps(rng, B, T, V)
    logits = theirs(*given).logits
    plain, smooth = (ref.cross_entropy(logits, given[2], share) for share in (0.0, 0.3))
    shifted = ref.cross_entropy(logits[:, :-1], given[2][:, 1:])
    output = own(*given)
    same("logits beside a loss", part("forward", output, "logits"), logits)
    suspect("the loss in eval()", output.loss, plain, smooth_evaluation=smooth, model_shifted=shifted)
    suspect("the loss in train()", own.train()(*given).loss, smooth, smooth_training=plain)


@check("Transformer.forward", 1430)
def model_learns_through_both_ends(mine, ref, rng):
    """The table gets a gradient as input and as head; every parameter gets one."""
    own, theirs = twins("Transformer.forward", mine, ref, rng)
    given = some_tokens(rng, S), some_tokens(rng), targets_with_gaps(rng, B, T, V)
    table, logits = theirs.embedding.weight, write(theirs, theirs.new_state(given[0]), given[1], detach=True)
    right, cut = (torch.autograd.grad(x, table)[0] for x in (theirs(*given).loss, ref.cross_entropy(logits, given[2])))
    finite("the loss", own(*given).loss).backward()
    if (gradient := own.embedding.weight.grad) is None:
        raise Wrong("no_gradient", name="Transformer", source="embedding.weight")
    suspect("Transformer: d/d embedding.weight", gradient, right, model_head_detached=cut)
    both = twins("Transformer.forward", mine, ref, rng, norm_first=True)
    suspect_call("the loss", both, lambda each, *given: each(*given, source_pad=REAL).loss, *given)


# The house


@check("", 1500)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file runs."""
    settings = SIZES | {"label_smoothing": 0.1}
    own, theirs = mine.Model(mine.Config(**settings)), shake(ref.Model(ref.Config(**settings)), rng)
    data = [(some_tokens(rng, S), some_tokens(rng), targets_with_gaps(rng, B, T, V)) for _ in range(3)]
    lm_checks.learns_alike(own, theirs, data, source_pad=REAL)


@check("", 1510)
def writes_in_the_house(mine, ref, rng):
    """Stays: a translation is the other half of the house: a source read once, token by token, rows selected."""
    settings, source, texts = SIZES | {"norm_first": True}, some_tokens(rng, S), []
    theirs = shake(ref.Model(ref.Config(**settings)), rng)
    for each in (twin("Transformer", mine.Model(mine.Config(**settings)), theirs), theirs):
        with torch.no_grad():
            state, text = each.eval().new_state(source, REAL), torch.zeros(B, 1, dtype=torch.long)
            for rows in ([0, 0, 1, 2, 3, 3], [5, 1, 0, 2], [0, 1, 2, 3]):
                text = torch.cat((text, each(None, text[:, -1:], state=state).logits[:, -1:].argmax(-1)), 1)[rows]
                state.select(torch.tensor(rows))
        texts.append(text)
    own, right = texts
    if (other := (own != right).any(1)).any():
        raise Wrong("house_text", mine=own[other][0], ref=right[other][0])
