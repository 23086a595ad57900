"""What the stations of models check alike: suspicion by name, attention, the loss, and a model at work in the house.

Each station's checks.py declares its own checks; those of attention, the loss and the house hand over to the functions
here.
"""

from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kakehashi.journey.checking import TOLERANCE, Wrong, finite, fresh, gradients, part, same, shape, tensor, twin
from kakehashi.models.protocol import IGNORE

# bfloat16 keeps 8 bits: each operation rounds at 2^-9. Through a block that adds up to hundredths of the largest value
HALF = 4e-2
DROPOUT = 0.25  # of 0.5 the share kept would be the share dropped


def suspect(name: str, mine: Any, ref: Any, *, tol: float = TOLERANCE, **mistakes: Any) -> None:
    """`same`, but where mine is not ref and equals what a known mistake gives instead, that mistake is named.

    mistakes: the key of a text -> the values that this mistake leads to; where they are dear, ask `alike` first.
    Raises Wrong(key, name=name), else as `same`.
    """
    try:
        same(name, mine, ref, tol=tol)
    except Wrong as wrong:
        raise next((Wrong(key, name=name) for key in mistakes if alike(mine, mistakes[key], tol)), wrong) from None


def alike(mine: Any, ref: Any, tol: float = TOLERANCE) -> bool:
    """True if `same` has nothing to say."""
    with suppress(Wrong):
        same("", mine, ref, tol=tol)
        return True
    return False


def changed(before: Tensor, after: Tensor) -> Tensor:
    """Where two results for different inputs differ by more than rounding.

    Raises Wrong "nan_result": NaN would differ everywhere, a false trail.
    """
    for each in (before, after):
        if each.isnan().any():
            raise Wrong("nan_result", count=each.isnan().sum(), total=each.numel())
    return ~((before - after).abs() <= 1e-5 * before.abs().max())


def normal(name: str, weight: Tensor, std: float, **mistakes: float) -> None:
    """A freshly drawn weight is normal with mean 0 and this standard deviation; mistakes: key -> its deviation.

    Of n draws the deviation is known to 1 / sqrt(2 n) and the mean to std / sqrt(n): six of those are never reached by
    chance. Raises a mistake, "start_std", "start_mean", "start_shape".
    """
    weight = weight.detach()
    slack = 6 / (2 * weight.numel()) ** 0.5
    seen = weight.std().item()
    if not abs(seen / std - 1) <= slack:
        for key, other in mistakes.items():
            if abs(seen / other - 1) <= slack:
                raise Wrong(key, name=name, seen=seen, expected=std)
        raise Wrong("start_std", name=name, seen=seen, expected=std)
    if not abs(weight.mean()) <= 6 * std / weight.numel() ** 0.5:
        raise Wrong("start_mean", name=name, seen=weight.mean())
    # of 1,000 normal draws the largest lies beyond 2.5 deviations; of uniform ones none beyond 1.74
    if weight.abs().max() < 2.2 * std:
        raise Wrong("start_shape", name=name)


def starts_apart(first: Tensor, second: Tensor) -> None:
    """Two layers of one kind are drawn one by one. Raises Wrong "start_alike"."""
    if torch.equal(first, second):
        raise Wrong("start_alike")


def biases_start_at_zero(module: nn.Module) -> None:
    """Every bias of a fresh module is 0, whatever class it came from. Raises Wrong as `same`."""
    for name, value in module.named_parameters():
        if name.endswith("bias"):
            same(f"{name} at the start", value, torch.zeros_like(value))


def embedding_starts_at_1(weight: Tensor) -> None:
    """Rows (V + 1, C) of deviation 1, the one for "before the beginning", the last, among them. Raises as `normal`."""
    normal("embedding.weight", weight, 1.0, start_small=0.02)
    normal(f"embedding.weight[{len(weight) - 1}]", weight[-1], 1.0)


def drops(name: str, output: Tensor, right: Tensor, p: float = DROPOUT) -> None:
    """Each value is 0 or right / (1 - p), and about p of them are 0: one dropout, and no other.

    Raises Wrong "dropout_scale", "dropout_share".
    """
    dropped = output == 0
    if not alike(output, torch.where(dropped, output, right / (1 - p))):
        raise Wrong("dropout_scale", name=name, expected=1 / (1 - p))
    share = dropped.float().mean()
    if not abs(share - p) <= 0.1:  # six deviations of 600 draws
        raise Wrong("dropout_share", name=name, seen=share, expected=p)


LEFT_PAD = torch.arange(6) >= torch.tensor([[0], [1], [3]])  # (3, 6), True = real: three prompts of 6, 5 and 3 tokens

# causal_mask


def mask_of_the_future(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    for T in (5, 1):
        seen = shape(f"causal_mask({T}, {T})", mine.causal_mask(T, T), (T, T))
        if seen.dtype != torch.bool:
            raise Wrong("dtype", name="causal_mask", seen=seen.dtype, expected=torch.bool)
        if torch.equal(seen, ~ref.causal_mask(T, T)):
            raise Wrong("mask_inverted")
        for key, wrong in (("mask_future", seen.triu(1)), ("mask_self", ~seen & torch.eye(T).bool())):
            if wrong.any():
                row, column = wrong.nonzero()[0].tolist()
                raise Wrong(key, row=row, column=column)
        same(f"causal_mask({T}, {T})", seen, ref.causal_mask(T, T))


def mask_of_a_cache(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    for T, S in ((1, 6), (3, 6), (2, 3), (1, 300)):
        suspect(
            f"causal_mask({T}, {S})",
            mine.causal_mask(T, S),
            ref.causal_mask(T, S),
            mask_cache=torch.ones(T, S).bool().tril(),
            mask_cache_open=torch.ones(T, S).bool(),
        )


def mask_of_padding(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    """Padding on the left, on the right, everywhere; new tokens alone with a cache before them."""
    pad = torch.cat((LEFT_PAD, LEFT_PAD.flip(1), torch.zeros(1, 6).bool()))
    for T in (6, 3, 1):
        plain, seen, right = ref.causal_mask(T, 6), mine.causal_mask(T, 6, pad.clone()), ref.causal_mask(T, 6, pad)
        if isinstance(seen, Tensor) and seen.shape == right.shape and not seen.any(-1).all():
            raise Wrong("mask_empty_row", place=(~seen.any(-1)).nonzero()[0])
        diagonal = torch.ones(T, 6).bool().triu(6 - T)
        suspect(
            f"causal_mask({T}, 6, pad)",
            seen,
            right,
            mask_padding_ignored=plain.expand_as(right),
            mask_padding_inverted=plain & (~pad[:, None, None, :] | diagonal),
        )


# Attention: q (B, H, T, D), k and v (B, H, S, D), visible bool, a dropout. B = 3, H = 2, T = 4, D = 5, S = 6: no
# two that code could take for each other are equal


LAST_FOUR = torch.ones(4, 6).bool().tril(2)  # (T, S): the last four of six tokens look back
LAST_FOUR_PADDED = LAST_FOUR & (LEFT_PAD[:, None, None, :] | torch.ones(4, 6).bool().triu(2))  # (B, 1, T, S)


def query(rng: torch.Generator, T: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v."""
    q, k, v = (torch.randn(3, 2, size, 5, generator=rng) for size in (T, 6, 6))
    return 2 * q, k, v


def attend(module: ModuleType, q: Tensor, k: Tensor, v: Tensor, visible: Tensor, *more: float) -> Tensor:
    """attention, of a copy of the mask, which all layers share.

    Raises Wrong "overwrites" where it is changed, and "att_nan": whatever else one could say of NaN is a false trail.
    """
    mask = fresh(visible)
    output = tensor("attention", module.attention(q, k, v, mask, *more))
    if not torch.equal(mask, visible):
        raise Wrong("overwrites", name="attention")
    if output.isnan().any():
        raise Wrong("att_nan", count=output.isnan().sum(), total=output.numel())
    return output


def attention_of_ones(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    """The weights of what is visible sum to 1: a mean of ones is one."""
    q, k, v = query(rng)
    ones = torch.ones_like(v)
    output = shape("attention", attend(mine, q, k, ones, LAST_FOUR), q.shape)
    if not (output - 1).abs().max() <= 1e-5:
        raw = q @ k.transpose(-2, -1) / 5**0.5
        after = raw.softmax(-1) * LAST_FOUR
        queries = raw.masked_fill(~LAST_FOUR, -torch.inf).softmax(-2).nan_to_num()
        suspect(
            "attention with values of 1", output, ones[:, :, :4], att_after=after @ ones, att_queries=queries @ ones
        )


def attention_of_what_is_hidden(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    q, k, v = query(rng)
    before = attend(mine, fresh(q), fresh(k), fresh(v), LAST_FOUR)
    for at in range(6):
        others = fresh(k), fresh(v)
        for each in others:
            each[:, :, at] += 3 * torch.randn(5, generator=rng)
        moved = changed(before, attend(mine, fresh(q), *others, LAST_FOUR)).any(-1).flatten(0, 1).any(0)
        leaks = moved & ~LAST_FOUR[:, at]
        if leaks.any():
            raise Wrong("att_leak", row=leaks.nonzero()[0, 0], column=at)


def attention_of_keys_that_match(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    q, k, v = query(rng)
    for visible in (LAST_FOUR, LAST_FOUR_PADDED):

        def weighed(scores: Tensor, visible: Tensor = visible) -> Tensor:
            return scores.masked_fill(~visible, -torch.inf).softmax(-1) @ v

        products = q @ k.transpose(-2, -1)
        suspect(
            "attention",
            attend(mine, fresh(q), fresh(k), fresh(v), visible),
            ref.attention(q, k, v, visible),
            att_no_scale=weighed(products),
            att_width=weighed(products / 5),
            att_all_heads=weighed(products / (2 * 5) ** 0.5),
            att_heads=weighed(products / 2**0.5),
            att_length=weighed(products / 6**0.5),
            att_multiplied=weighed(products * 5**0.5),
        )


def attention_of_large_scores(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    q, k, v = query(rng)
    attend(mine, fresh(q), fresh(k), fresh(v), LAST_FOUR)
    output = mine.attention(1e5 * q, k, v, fresh(LAST_FOUR))
    if not torch.isfinite(output).all():
        raise Wrong("att_overflow")
    same("attention with large scores", output, ref.attention(1e5 * q, k, v, LAST_FOUR))


def attention_dropout(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    """One visible token, weight 1, values of 1: a result is 0 or 1 / (1 - p), all D features alike."""
    one = torch.ones(800, 1, 1, 5)
    output = shape("attention", attend(mine, one, one, one, torch.ones(1, 1).bool(), DROPOUT), one.shape)
    if ((output - 1.0).abs() < 1e-5).all():
        raise Wrong("att_dropout_missing")
    if not ((output == 0) | ((output - 1 / (1 - DROPOUT)).abs() < 1e-5)).all():
        raise Wrong("att_dropout_scale", seen=output[output != 0][0] if output.any() else 0.0)
    if not (output == output[..., :1]).all():
        raise Wrong("att_dropout_output")
    drops("attention", output, one)


def attention_gradient(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    def fixed(module: ModuleType) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda q, k, v: attend(module, q, k, v, LAST_FOUR)

    gradients("attention", fixed(mine), fixed(ref), *query(rng))


def attention_of_half_precision(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    """On what a cache and a split of heads hand over: transposed views, one new token."""
    q, k, v = (each.transpose(1, 2).contiguous().transpose(1, 2).bfloat16() for each in query(rng, T=1))
    visible = LAST_FOUR_PADDED[:, :, -1:]
    same("attention in bfloat16", attend(mine, q, k, v, visible), ref.attention(q, k, v, visible), tol=HALF)


ATTENTION = (
    attention_of_ones,
    attention_of_what_is_hidden,
    attention_of_keys_that_match,
    attention_of_large_scores,
    attention_dropout,
    attention_gradient,
    attention_of_half_precision,
)


# A block


def looks_back_only(before: Tensor, after: Tensor, at: int) -> None:
    """Results (B, T, ...), and after item 0 was changed at place `at`: those from there on are others, no more.

    Raises Wrong "heads_future", "heads_batch", "heads_blind".
    """
    moved = changed(before, after).flatten(2).any(-1)  # (B, T)
    if moved[0, :at].any():
        raise Wrong("heads_future", position=moved[0, :at].nonzero()[0, 0], changed=at)
    if moved[1:].any():
        raise Wrong("heads_batch")
    if not moved[0, at:].all():
        raise Wrong("heads_blind", position=at + (~moved[0, at:]).nonzero()[0, 0], changed=at)


Function = Callable[[Tensor], Tensor]


def silent_blocks(x: Tensor, norm_1: Function, norm_2: Function) -> dict[str, Any]:
    """Key -> what a wrong block makes of x if neither branch says anything; a right one gives x."""
    return {
        "block_residual": torch.zeros_like(x),
        "block_norm_after": norm_2(norm_1(x)),
        "block_norm_in_stream": norm_1(x),
        "block_doubled": 4 * x,
    }


def wrong_blocks(x: Tensor, norm_1: Function, attend: Function, norm_2: Function, mlp: Function) -> dict[str, Any]:
    """Key -> what a block of these parts gives that has them in a wrong order."""
    middle, first, swapped, bare, inside = (
        x + attend(norm_1(x)),
        x + mlp(norm_2(x)),
        x + attend(norm_2(x)),
        x + attend(x),
        norm_1(x) + attend(norm_1(x)),
    )
    return {
        "block_parallel": middle + mlp(norm_2(x)),
        "block_norm_shared": middle + mlp(norm_1(middle)),
        "block_norm_swapped": swapped + mlp(norm_1(swapped)),
        "block_norm_missing_1": bare + mlp(norm_2(bare)),
        "block_norm_missing_2": middle + mlp(middle),
        "block_order": first + attend(norm_1(first)),
        "block_first_residual": x + mlp(norm_2(middle)),
        "block_from_norm": inside + mlp(norm_2(inside)),
    }


# The loss


def targets_with_gaps(rng: torch.Generator, B: int, T: int, V: int) -> Tensor:
    """(B, T): random targets as a slice, the first and the last token among them; each row counts one more."""
    targets = torch.randint(V, (B, T + 1), generator=rng)
    targets[0, 1:3] = torch.tensor([0, V - 1])
    return targets.masked_fill(torch.arange(T + 1) > torch.arange(B)[:, None] + 2, IGNORE)[:, 1:]


def loss_of_everything(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    logits, targets = torch.randn(3, 5, 7, generator=rng), torch.randint(7, (3, 5), generator=rng)
    right = ref.cross_entropy(logits, targets)
    suspect(
        "cross_entropy",
        shape("cross_entropy", mine.cross_entropy(fresh(logits), targets.clone()), ()),
        right,
        loss_sign=-right,
        loss_sum=right * 15,
        loss_bits=right / torch.log(torch.tensor(2.0)),
        loss_unnormalised=-logits.gather(-1, targets[..., None]).mean(),
        loss_twice=ref.cross_entropy(logits.softmax(-1), targets),
    )


def loss_of_what_counts(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    logits, targets = torch.randn(3, 5, 7, generator=rng), targets_with_gaps(rng, 3, 5, 7)
    seen = targets != IGNORE
    right = ref.cross_entropy(logits, targets)
    padded = -logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    rows = (padded * seen).sum(1) / seen.sum(1)
    suspect(
        "cross_entropy",
        mine.cross_entropy(fresh(logits), targets.clone()),
        right,
        loss_mean_over_all=(padded * seen).sum() / seen.numel(),
        loss_padding_counted=padded.mean(),
        loss_padding_added=padded.sum() / seen.sum(),
        loss_mean_of_rows=rows.mean(),
    )


def loss_of_nothing(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    logits = torch.randn(2, 3, 7, generator=rng, requires_grad=True)
    loss = shape("cross_entropy", mine.cross_entropy(logits, torch.full((2, 3), IGNORE)), ())
    if not loss == 0:
        raise Wrong("loss_nothing", seen=loss)
    if loss.requires_grad:
        loss.backward()
        same("cross_entropy: d/d logits", logits.grad, torch.zeros(2, 3, 7))
    else:
        raise Wrong("no_gradient", name="cross_entropy", source="logits")


def loss_of_slices(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    """A loader cuts targets as a slice, which .view refuses; a contiguous tensor would not show it."""
    logits, targets = torch.randn(3, 7, 6, generator=rng).transpose(1, 2), targets_with_gaps(rng, 3, 6, 7)
    same("cross_entropy of slices", mine.cross_entropy(logits, targets), ref.cross_entropy(logits, targets))
    one = logits[:1, :1], torch.tensor([[3]])
    same("cross_entropy of one token", mine.cross_entropy(*one), ref.cross_entropy(*one))


def loss_of_large_logits(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    logits, targets = 1e3 * torch.randn(2, 3, 7, generator=rng), torch.randint(7, (2, 3), generator=rng)
    loss = mine.cross_entropy(fresh(logits), targets)
    if loss is not None and not torch.isfinite(torch.as_tensor(loss)):
        raise Wrong("loss_overflow", seen=loss)
    same("cross_entropy of large logits", loss, ref.cross_entropy(logits, targets))


def loss_gradient(mine: ModuleType, ref: ModuleType, rng: torch.Generator) -> None:
    logits, targets = torch.randn(3, 5, 7, generator=rng), targets_with_gaps(rng, 3, 5, 7)
    gradients("cross_entropy", mine.cross_entropy, ref.cross_entropy, logits, targets)


LOSS = (
    loss_of_everything,
    loss_of_what_counts,
    loss_of_nothing,
    loss_of_large_logits,
    loss_of_slices,
    loss_gradient,
)


class Loss(nn.Module):
    """A model's loss as a module of its input alone, tokens or images, for `gradients`."""

    def __init__(self, model: nn.Module, targets: Tensor, **options: Any):
        super().__init__()
        self.model, self.targets, self.options = model, targets, options

    def forward(self, x: Tensor) -> Tensor:
        return part("forward", self.model(x, fresh(self.targets), **self.options), "loss")


def keeps_its_config(name: str, model: Any, config: Any) -> None:
    """The top class keeps what it was made from: generation reads its sizes there. Raises Wrong "no_config"."""
    if getattr(model, "config", None) != config:
        raise Wrong("no_config", name=name)


# The model alone, evaluating, with weights of visible size; tokens (B, T)


def predicts_at_every_position(model: Any, V: int, *sizes: tuple[int, int]) -> None:
    """Logits (B, T, V) of tokens (B, T), and no loss without targets. Raises Wrong "loss_without_targets"."""
    for B, T in sizes:
        output = model(torch.zeros(B, T, dtype=torch.long))
        shape("logits", part("forward", output, "logits"), (B, T, V))
        if part("forward", output, "loss") is not None:
            raise Wrong("loss_without_targets")


def looks_at_its_window(model: Any, V: int, N: int) -> None:
    """A prediction depends on the N tokens that end with its own, and on no others; with a state, too.

    No token stands there twice (V > N + 2), so a row of `embedding.weight` is a place, and its gradient tells.
    Raises Wrong "no_gradient", "window_future", "window_self", "window_long", "window_short".
    """
    t, tokens = N, torch.arange(N + 3)
    for name, state in (("logits", None), ("logits with a state", model.new_state(1))):
        model.zero_grad()
        model(tokens[None], state=state).logits[0, t].sum().backward()
        gradient = model.embedding.weight.grad
        if gradient is None:
            raise Wrong("no_gradient", name=name, source="embedding.weight")
        used = (gradient[tokens] != 0).any(-1)  # (T,)
        if used[t + 1 :].any():
            raise Wrong("window_future", position=t, later=used.nonzero()[-1, 0])
        if not used[t]:
            raise Wrong("window_self")
        if used[: t - N + 1].any():
            raise Wrong("window_long", size=N)
        if not used[t - N + 1 : t].all():
            raise Wrong("window_short", size=N, seen=used.sum())


def keeps_batches_apart(model: Any, V: int, tokens: Tensor) -> None:
    """Rows do not know each other. Raises Wrong "model_batch"."""
    other = tokens.clone()
    other[0] = (other[0] + 1) % V
    if changed(model(tokens).logits, model(other).logits)[1:].any():
        raise Wrong("model_batch")


def goes_on_from_its_state(mine: Any, ref: Any, tokens: Tensor, *pieces: tuple[int, ...]) -> None:
    """Read in pieces with a state, the tokens get the logits that they get at once. Raises "model_state"."""
    for sizes in pieces:
        name = "logits of single tokens" if set(sizes) == {1} else f"logits of pieces {sizes}"
        alone = torch.cat([ref(each).logits for each in tokens.split(list(sizes), 1)], 1)
        suspect(name, in_pieces(mine, sizes, tokens), ref(tokens).logits, model_state=alone)


def leaves_out_padding(mine: Any, ref: Any, tokens: Tensor) -> None:
    """With padding on the left, tokens (3, 6), each row is what it would be alone.

    Raises Wrong "model_padding", "model_padding_columns".
    """
    right, unseen = ref(tokens, pad=LEFT_PAD).logits[LEFT_PAD], ref(tokens).logits[LEFT_PAD]
    output = part("forward", mine(fresh(tokens), pad=LEFT_PAD.clone()), "logits")
    suspect("logits with padding", output[LEFT_PAD], right, model_padding=unseen)
    state, pieces = ref.new_state(len(tokens)), tokens.split([4, 1, 1], 1)
    first = torch.cat([ref(each, state=state, pad=LEFT_PAD[:, : each.shape[1]]).logits for each in pieces], 1)
    output = in_pieces(mine, (4, 1, 1), tokens, LEFT_PAD)
    suspect("logits of padded pieces", output[LEFT_PAD], right, model_padding_columns=first[LEFT_PAD])


def refuses_more_than_its_block(model: Any, N: int) -> None:
    """More than N tokens in sight, cached and padding ones among them, are a ValueError. Raises Wrong "model_block"."""
    for T, cached, padded in ((N + 1, 0, False), (1, N, False), (N + 1, 0, True), (1, N, True)):
        tokens = torch.arange(N + 1)[None] % 2
        state = model.new_state(1) if cached else None
        if cached:
            model(tokens[:, :cached], state=state)
        pad = torch.arange(N + 1)[None] > 0 if padded else None  # with one real token less, the positions would do
        try:
            model(tokens[:, cached:], state=state, pad=pad)
        except ValueError:
            continue
        except Exception as error:
            raise Wrong("model_block", size=N, tokens=T, cached=cached, seen=type(error).__name__) from error
        raise Wrong("model_block", size=N, tokens=T, cached=cached, seen="Output")


def starts_undecided(model: Any, V: int, rng: torch.Generator) -> None:
    """A fresh model's loss is near ln V: every token about equally likely. Raises Wrong "start_loss"."""
    tokens = torch.randint(V, (8, 9), generator=rng)
    loss, expected = part("forward", model(tokens[:, :-1], tokens[:, 1:]), "loss"), torch.tensor(float(V)).log()
    # logits of deviation 0.1 raise the loss by 0.1^2 / 2, and 64 targets scatter it by 0.1 / 8
    if not abs(loss - expected) <= 0.1:
        raise Wrong("start_loss", seen=loss, expected=expected)


# The model in the house: both models of the same weights, on what the loaders feed


def batches(rng: torch.Generator, V: int, T: int, steps: int) -> list[tuple[Tensor, ...]]:
    """Loader-like: slices of one stream of tokens, targets shifted by one, the last of each row not counted."""
    stream = torch.randint(V, (steps, 4, T + 1), generator=rng)
    ends = torch.arange(T) < torch.tensor([T, T - 1, T, 1])[:, None]
    return [(each[:, :-1], each[:, 1:].masked_fill(~ends, IGNORE)) for each in stream]


def trains_alike(mine: nn.Module, ref: nn.Module, rng: torch.Generator, V: int, T: int) -> None:
    """Three steps on tokens and the tokens after them. Raises as `learns_alike`."""
    learns_alike(mine, ref, batches(rng, V, T, 3))


def learns_alike(mine: nn.Module, ref: nn.Module, data: list[tuple[Tensor, ...]], **options: Tensor) -> None:
    """A step of the loop for each of data, the arguments of forward: forward, backward, clip, step.

    Plain SGD: Adam would turn rounding into whole steps. Raises Wrong "house_loss".
    """
    losses, name = [], type(ref).__name__
    for model in (twin(name, mine, ref), ref):
        model.train()
        losses.append([])
        for given in data:
            model.zero_grad()
            loss = part(f"{name}.forward", model(*given, **options), "loss")
            finite("loss", loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.3 * parameter.grad
            losses[-1].append(loss.item())
    for step, (own, theirs) in enumerate(zip(*losses, strict=True)):
        # three updates multiply the rounding of one pass by at most ten
        if not abs(own - theirs) <= 10 * TOLERANCE * abs(theirs):
            raise Wrong("house_loss", step=step, mine=own, ref=theirs)


def continues_alike(mine: Any, ref: Any, tokens: Tensor) -> None:
    """Greedy continuation of a prompt with a state, one token at a time. Raises Wrong "house_text"."""
    texts = []
    for model in (twin(type(ref).__name__, mine, ref), ref):
        model.eval()
        state, text, given = model.new_state(len(tokens)), tokens, tokens
        with torch.no_grad():
            for _ in range(3):
                given = model(given, state=state).logits[:, -1:].argmax(-1)
                text = torch.cat((text, given), 1)
        texts.append(text)
    own, theirs = texts
    if (other := (own != theirs).any(1)).any():
        raise Wrong("house_text", mine=own[other][0], ref=theirs[other][0])


def in_pieces(model: Any, sizes: tuple[int, ...], tokens: Tensor, pad: Tensor | None = None) -> Tensor:
    """The logits of tokens (B, T) read in pieces with one state; pad (B, T).

    Raises Wrong "overwrites" where the model changes what it was given.
    """
    state, at, logits = model.new_state(len(tokens)), 0, []
    for size in sizes:
        given = fresh(tokens[:, at : at + size])
        known = None if pad is None else fresh(pad[:, : at + size])
        output = model(given, state=state, pad=known)
        kept = pad is None or known is None or torch.equal(known, pad[:, : at + size])
        if not (kept and torch.equal(given, tokens[:, at : at + size])):
            raise Wrong("overwrites", name="forward")
        logits.append(shape("logits", part("forward", output, "logits"), (len(tokens), size, output.logits.shape[-1])))
        at += size
    return torch.cat(logits, 1)
