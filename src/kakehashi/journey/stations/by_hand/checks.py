"""Checks of the station by_hand: what each backward makes of what the reference's forward has kept.

The first trial of a function has axes of one length, so that a mistake with axes gives a result that can be named; in
the others no two are of one length. Arrays are float64 and float32 in turn, straight in memory, turned, or with holes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from kakehashi import autograd
from kakehashi.journey.checking import TOLERANCE, Wrong, check, finite, same
from kakehashi.journey.lm_checks import alike

Array = np.ndarray
Known = Iterable[tuple[str, Array]]  # key of a text, and what that mistake gives; drawn only where something is wrong

EXACT = 1e-9  # float64 rounds at 1e-16
B, N, C, K, V = 6, 4, 5, 8, 11  # of the whole model


# Trials


def trials(rng: torch.Generator, *sizes: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], partial[Array]]]:
    """Each size with what draws its arrays: normal(*shape)."""
    for i, size in enumerate(sizes):
        yield size, partial(normal, rng, (np.float64, np.float32)[i % 2], LAYOUTS[i % 3])


def normal(rng, dtype, layout, *shape: int) -> Array:
    return layout(torch.randn(shape, generator=rng, dtype=torch.float64).numpy().astype(dtype))


def holes(x: Array) -> Array:
    """The same numbers, every second in memory."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


LAYOUTS = (np.ascontiguousarray, np.asfortranarray, holes)


def integers(rng: torch.Generator, end: int, *shape: int) -> Array:
    return torch.randint(end, shape, generator=rng).numpy()


def untouched(name: str, function: Any, *given: Any) -> Any:
    """function(*given). Raises Wrong "overwrites" where an array among the given was changed."""
    held = list(arrays(given))
    before = [x.copy() for x in held]
    result = function(*given)
    if not all(np.array_equal(x, old) for x, old in zip(held, before, strict=True)):
        raise Wrong("overwrites", name=name)
    return result


def arrays(value: Any) -> Iterator[Array]:
    """Every array in tuples and dicts."""
    if isinstance(value, np.ndarray):
        yield value
    else:
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from arrays(each)


def barred(mine: ModuleType, name: str, other: str) -> AbstractContextManager:
    """Inside, the function called `other` refuses: it is the reference's, and would be the answer of `name`."""

    def refuse(*_: Any) -> Any:
        raise Wrong("borrowed", name=name, other=other)

    return patch.object(mine, other, refuse, create=True)  # a file may do without


def compare(name: str, mine: Any, right: Array, known: Known = ()) -> None:
    """`same`, but a known mistake is named, and a dtype that was not kept, and what is no array."""
    if isinstance(mine, torch.Tensor | autograd.Tensor):
        raise Wrong("no_array", name=name)
    tol = TOLERANCE if right.dtype == np.float32 else EXACT
    try:
        same(name, mine, right, tol=tol)
    except Wrong as wrong:
        with np.errstate(all="ignore"):  # a mistake may well divide by 0
            named = next((key for key, value in known if alike(mine, value, tol)), None)
        if named:
            raise Wrong(named, name=name) from None
        if wrong.key == "dtype":
            raise Wrong("dtype_kept", name=name, seen=np.asarray(mine).dtype, expected=right.dtype) from None
        raise


def compare_three(name: str, result: Any, right: tuple[Array, ...], evenly: tuple[Array, ...], *known: Known) -> None:
    """dx, dweight and dbias. evenly: the right ones where the gradient that comes in is all ones."""
    if not isinstance(result, tuple | list) or len(result) != 3:
        seen = type(result).__name__ + (f"[{len(result)}]" if isinstance(result, tuple | list) else "")
        raise Wrong("three", name=name, seen=seen)
    for i, part in enumerate(("dx", "dweight", "dbias")):
        mistakes = [*(("exchanged", right[j]) for j in range(3) if j != i), *common(right[i], evenly[i])]
        compare(part, result[i], right[i], (each for some in (known[i], mistakes) for each in some))


def common(right: Array, evenly: Array) -> Known:
    yield "sign", -right
    yield "upstream_lost", evenly


def wrong_sums(terms: Array) -> Known:
    """What else than terms.sum(0) a parameter of all rows might get. terms (B, ...)."""
    yield "sum_missing", terms
    yield "sum_keeps_axis", terms.sum(0, keepdims=True)
    yield "sum_averaged", terms.mean(0)
    yield "sum_axis", terms.sum(1)
    yield "sum_axis", terms.sum(1, keepdims=True)
    yield "sum_everything", terms.sum()


# Embedding


@check("embedding_backward", 100)
def embedding_adds_up_every_place(mine, ref, rng):
    for (b, n, c, rows), draw in trials(rng, (4, 4, 4, 4), (3, 4, 2, 7), (5, 1, 3, 6), (1, 3, 1, 5), (2, 5, 4, 3)):
        table, dx = draw(rows, c), draw(b, n * c)
        contexts = np.asfortranarray(integers(rng, rows - 1, b, n))  # the row before the last stands in none
        contexts[contexts == rows - 2] = rows - 1
        contexts[0, :2] = contexts[-1, -1]  # twice in a row, and again in another
        right = ref.embedding_backward(dx, table, contexts)
        result = untouched("embedding_backward", mine.embedding_backward, dx, table, contexts)
        compare("dtable", result, right, embedding_mistakes(ref, result, dx, table, contexts))


def embedding_mistakes(ref: ModuleType, result: Any, dx: Array, table: Array, contexts: Array) -> Known:
    places = dx.reshape(*contexts.shape, -1)  # (B, N, C)
    right = ref.embedding_backward(dx, table, contexts)
    last, of_rows, of_columns = (np.zeros_like(table) for _ in range(3))
    last[contexts] = places
    for tokens, shares in zip(contexts, places, strict=True):
        of_rows[tokens] += shares
    for i in range(contexts.shape[1]):
        of_columns[contexts[:, i]] += places[:, i]
    yield "embedding_repeated", last
    yield "embedding_repeated_in_a_row", of_rows
    yield "embedding_repeated_in_a_column", of_columns
    times = np.bincount(contexts.ravel(), minlength=len(table))[:, None].astype(table.dtype)  # (V + 1, 1)
    yield "embedding_averaged", right / np.maximum(times, 1)
    turned = dx.reshape(len(dx), -1, contexts.shape[1]).transpose(0, 2, 1).reshape(dx.shape)
    yield "embedding_interleaved", ref.embedding_backward(turned, table, contexts)
    yield "embedding_not_from_zero", right + table
    yield "embedding_not_from_zero", right + 1
    if np.shape(result) == table.shape:  # right but in rows that nothing was read from
        yield "embedding_not_from_zero", np.where(times, right, result).astype(table.dtype)
    beginning = right.copy()
    beginning[-1] = 0
    yield "embedding_last_row", beginning
    for wrong in (places, dx):
        yield "embedding_not_gathered", wrong
    yield from common(right, ref.embedding_backward(np.ones_like(dx), table, contexts))


# Linear


@check("linear_backward", 200)
def linear_sends_back(mine, ref, rng):
    for (b, i, o), draw in trials(rng, (4, 4, 4), (3, 5, 4), (6, 2, 1), (1, 3, 2), (2, 1, 5)):
        dy, x, weight = draw(b, o), draw(b, i), draw(o, i)
        right, evenly = (ref.linear_backward(g, x, weight) for g in (dy, np.ones_like(dy)))
        result = untouched("linear_backward", mine.linear_backward, dy, x, weight)
        known = input_mistakes(dy, x, weight), weight_mistakes(dy, x, weight), wrong_sums(dy)
        compare_three("linear_backward", result, right, evenly, *known)


def input_mistakes(dy: Array, x: Array, weight: Array) -> Known:
    yield "linear_not_gathered", dy[:, :, None] * weight  # (B, O, I)
    if x.shape == dy.shape == weight.shape:
        yield "linear_dx_transposed", dy @ weight.T
        yield "linear_order", weight @ dy
        yield "linear_order", weight.T @ dy
        yield "linear_own", dy @ x
        yield "linear_own", dy @ x.T
        yield "linear_elementwise", dy * weight


def weight_mistakes(dy: Array, x: Array, weight: Array) -> Known:
    yield "linear_dweight_transposed", x.T @ dy
    yield from wrong_sums(dy[:, :, None] * x[:, None])  # (B, O, I)
    if x.shape == dy.shape == weight.shape:
        yield "linear_dweight_axis", dy @ x.T
        yield "linear_dweight_axis", x @ dy.T
        yield "linear_dweight_axis", dy @ x
        yield "linear_dweight_axis", x @ dy
        yield "linear_own", dy.T @ weight
        yield "linear_elementwise", dy * x


# Batch normalisation


def norm_trials(ref: ModuleType, rng: torch.Generator) -> Iterator[tuple[Array, Any, Array]]:
    """dy, what is kept, and weight; features of different scales, the last often constant, and an eps that shows."""
    for (b, k), draw in trials(rng, (5, 5), (4, 7), (7, 3), (3, 1), (9, 4)):
        x = draw(b, k)
        x *= np.linspace(0.5, 3, k)
        if b != k:
            x[:, -1] = 2
        weight, bias, dy = 1 + draw(k), draw(k), draw(b, k)
        yield dy, ref.batch_norm(x, weight, bias, 0.1)[1], weight


@check("batch_norm_backward", 300)
def norm_goes_back_line_by_line(mine, ref, rng):
    for dy, kept, weight in norm_trials(ref, rng):
        right, evenly = (ref.batch_norm_backward(g, kept, weight) for g in (dy, np.ones_like(dy)))
        with barred(mine, "batch_norm_backward", "batch_norm_backward_short"):
            result = untouched("batch_norm_backward", mine.batch_norm_backward, dy, kept, weight)
        known = norm_mistakes(dy, kept, weight), gain_mistakes(dy, kept, weight), shift_mistakes(dy, weight)
        compare_three("batch_norm_backward", result, right, evenly, *known)


@check("batch_norm_backward", 310)
def norm_of_one_row(mine, ref, rng):
    """Stays: who divides by B - 1 is caught above, and sees here why it cannot be right: one row leaves nothing."""
    one_row(ref, rng, lambda *given: mine.batch_norm_backward(*given)[0])


def one_row(ref: ModuleType, rng: torch.Generator, back: Callable[[Array, Any, Array], Array]) -> None:
    """back(dy, kept, weight) of one row is 0. Raises Wrong "norm_one_row"."""
    x, weight, bias, dy = (normal(rng, np.float64, np.array, *shape) for shape in ((1, 3), (3,), (3,), (1, 3)))
    with np.errstate(all="ignore"):
        dx = back(dy, ref.batch_norm(x, weight, bias)[1], weight)
    if (largest := finite("dx of one row", dx).abs().max()) > 1e-6:
        raise Wrong("norm_one_row", seen=largest)


def gain_mistakes(dy: Array, kept: Any, weight: Array) -> Known:
    """In the place of dweight."""
    yield "norm_gain_of_centred", (dy * kept.centred).sum(0)
    yield "norm_gain_twice", (dy * weight * kept.normed).sum(0)
    yield from wrong_sums(dy * kept.normed)


def shift_mistakes(dy: Array, weight: Array) -> Known:
    """In the place of dbias."""
    yield "norm_shift_scaled", (dy * weight).sum(0)
    yield from wrong_sums(dy)


def over_rows(x: Array) -> Array:
    return x.sum(0)


def over_wrong_axes(square: bool) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Other sums than over_rows. square: so that what is summed over the features fits into the rows, too."""
    yield "norm_features", lambda x: x.sum(1, keepdims=True)
    yield "norm_everything", lambda x: x.sum()
    yield "norm_everything", lambda x: x.mean() * len(x)
    if square:
        yield "norm_features", lambda x: x.sum(1)


def norm_dx(
    dy,
    centred,
    inverse,
    normed,
    weight,
    *,
    direct=1.0,
    variance=2.0,
    mean=1.0,
    slope=-0.5,
    power=3,
    variance_sum=over_rows,
    mean_sum=over_rows,
) -> Array:
    """dx with the constants and sums of its lines as arguments."""
    dnormed = dy * weight
    dvariance = slope * inverse**power * variance_sum(dnormed * centred)
    dcentred = direct * dnormed * inverse + variance / len(dy) * centred * dvariance
    return dcentred - mean / len(dy) * mean_sum(dcentred)


def norm_mistakes(dy: Array, kept: Any, weight: Array) -> Known:
    """In the place of dx."""
    centred, inverse, normed = kept
    n = len(dy)
    to = partial(norm_dx, dy, *kept)
    dx = partial(to, weight)
    yield "norm_forgets_variance", dx(variance=0)
    yield "norm_forgets_mean", dx(mean=0)
    yield "norm_forgets_both", dx(variance=0, mean=0)
    yield "norm_replaces", dx(direct=0)
    for key, rows in (("norm_sample_variance", n / (n - 1)), ("norm_counts_features", n / dy.shape[1])):
        yield key, dx(variance=2 * rows)
        yield key, dx(variance=2 * rows, mean=rows)
        yield key, dx(mean=rows)
    yield "norm_variance_undivided", dx(variance=2 * n)
    yield "norm_mean_undivided", dx(mean=n)
    yield "norm_both_undivided", dx(variance=2 * n, mean=n)
    yield "norm_square_slope", dx(variance=1)
    yield "norm_mean_sign", dx(mean=-1)
    yield "norm_variance_sign", dx(slope=0.5)
    for slope, power in ((-0.5, 1), (-0.5, 2), (-1, 1), (-1, 2), (-1, 3)):
        yield "norm_inverse_slope", dx(slope=slope, power=power)
    yield "norm_gain_unused", to(np.ones_like(weight))
    yield "norm_inverse_unused", dx(direct=1 / inverse)
    yield "norm_inverse_unused", to(weight / inverse)
    variance = (centred**2).mean(0)
    for eps in (0, 1e-5, 1e-8):
        anew = (variance + eps) ** -0.5
        yield "norm_eps", norm_dx(dy, centred, anew, normed, weight)
    dvariance = -0.5 * inverse**3 * (dy * weight * centred).sum(0)
    yield "norm_variance_to_mean", dx() - 2 / n * centred * dvariance / n
    yield "norm_saved", dx(power=4)
    yield "norm_saved", dx(power=5)
    yield "norm_mean_unsummed", dx(mean=0) * (1 - 1 / n)
    for key, wrong in over_wrong_axes(dy.shape[0] == dy.shape[1]):
        yield key, dx(variance_sum=wrong)
        yield key, dx(mean_sum=wrong)
        yield key, dx(variance_sum=wrong, mean_sum=wrong)


@check("batch_norm_backward_short", 400)
def norm_goes_back_in_one_line(mine, ref, rng):
    for dy, kept, weight in norm_trials(ref, rng):
        right = ref.batch_norm_backward(dy, kept, weight)[0]
        with barred(mine, "batch_norm_backward_short", "batch_norm_backward"):
            result = untouched("batch_norm_backward_short", mine.batch_norm_backward_short, dy, kept, weight)
        compare("dx", result, right, short_mistakes(ref, dy, kept, weight))
    one_row(ref, rng, mine.batch_norm_backward_short)


def short_mistakes(ref: ModuleType, dy: Array, kept: Any, weight: Array) -> Known:
    _, inverse, normed = kept
    yield "norm_short_direction", weight * inverse * (dy - dy.mean(0) - (dy * normed).mean(0))
    for key, wrong in over_wrong_axes(dy.shape[0] == dy.shape[1]):
        for sums in ((wrong, over_rows), (over_rows, wrong), (wrong, wrong)):
            shift, along = (total(terms) / len(dy) for total, terms in zip(sums, (dy, dy * normed), strict=True))
            yield key, weight * inverse * (dy - shift - normed * along)
    for key, value in norm_mistakes(dy, kept, weight):
        yield "norm_short_centred" if key == "norm_inverse_slope" else key, value
    evenly = ref.batch_norm_backward_short(np.ones_like(dy), kept, weight)
    yield from common(ref.batch_norm_backward_short(dy, kept, weight), evenly)


# tanh


@check("tanh_backward", 500)
def tanh_flattens_out(mine, ref, rng):
    for size, draw in trials(rng, (3, 4), (5,), (2, 3, 4), (1, 1), (0, 3)):
        dh, h = draw(*size), np.tanh(2 * draw(*size))
        result = untouched("tanh_backward", mine.tanh_backward, dh, h)
        compare("dy", result, ref.tanh_backward(dh, h), tanh_mistakes(dh, h))


def tanh_mistakes(dh: Array, h: Array) -> Known:
    yield "tanh_of_output", dh * (1 - np.tanh(h) ** 2)
    yield "tanh_unsquared", dh * (1 - h)
    yield "tanh_unsquared", dh * (1 - np.abs(h))
    yield "tanh_sigmoid", dh * h * (1 - h)
    yield "tanh_plus", dh * (1 + h**2)
    yield "tanh_relu", dh * (h > 0)
    yield "tanh_slope_lost", dh
    yield "tanh_exchanged", h * (1 - dh**2)
    yield from common(dh * (1 - h**2), 1 - h**2)


# Cross entropy


def scored_trials(ref: ModuleType, rng: torch.Generator) -> Iterator[tuple[Any, Array]]:
    """What is kept of logits, and targets."""
    for (b, v), draw in trials(rng, (5, 5), (3, 7), (8, 4), (1, 3), (2, 1)):
        targets = np.array([3, 3, 0, 1, 4]) if b == v else integers(rng, v, b)
        yield ref.cross_entropy(draw(b, v), targets)[1], targets


def scores_go_back(mine: ModuleType, ref: ModuleType, rng: torch.Generator, name: str, other: str) -> None:
    for kept, targets in scored_trials(ref, rng):
        with barred(mine, name, other):
            result = untouched(name, getattr(mine, name), kept, targets)
        compare("dlogits", result, ref.cross_entropy_backward(kept, targets), score_mistakes(kept, targets))


def score_mistakes(kept: Any, targets: Array) -> Known:
    counts, total = kept
    n, v = counts.shape
    rows = np.arange(n)
    p = counts / total
    hit = np.zeros_like(p)
    hit[rows, targets] = 1
    right = (p - hit) / n
    yield "sign", -right
    yield "ce_undivided", right * n
    yield "ce_counts_vocabulary", right / v
    yield "ce_counts_vocabulary", right * n / v
    yield "ce_one_undivided", p / n - hit
    yield "ce_target_lost", p / n
    yield "ce_target_lost", p
    yield "ce_others_lost", -hit / n
    yield "ce_others_lost", -hit
    yield "ce_target_sign", (p + hit) / n
    yield "ce_total_sign", -(p + hit) / n
    yield "ce_log_slope", (counts - hit) / n
    yield "ce_exp_slope", (1 / total - hit) / n
    several = np.zeros_like(p)
    several[:, targets] = 1
    yield "ce_every_row", (p - several) / n
    yield "ce_every_row", (p * several.sum(1, keepdims=True) - several) / n
    if n == v:
        crossed = np.zeros_like(p)
        crossed[targets, rows] = 1
        yield "ce_place", (p - crossed) / n
        yield "ce_place", (p * crossed.sum(1, keepdims=True) - crossed) / n
    yield "ce_columns", (counts / counts.sum(0) - hit) / n
    yield "ce_of_probability", -hit / p / n


@check("cross_entropy_backward", 600)
def loss_goes_back_line_by_line(mine, ref, rng):
    scores_go_back(mine, ref, rng, "cross_entropy_backward", "cross_entropy_backward_short")


@check("cross_entropy_backward", 610)
def loss_of_a_hopeless_target(mine, ref, rng):
    hopeless_target(ref, mine.cross_entropy_backward)


def hopeless_target(ref: ModuleType, back: Callable[[Any, Array], Array]) -> None:
    """A target whose probability is rounded to 0 learns most of all. Raises Wrong "ce_hopeless", as `compare` does."""
    targets = np.array([0, 1])
    kept = ref.cross_entropy(np.array([[0.0, 2000.0, 0.0], [0.0, 0.0, 1.0]]), targets)[1]
    with np.errstate(all="ignore"):
        result = back(kept, targets)
    if not np.isfinite(result).all():
        raise Wrong("ce_hopeless", seen=np.ravel(result)[0])
    compare("dlogits", result, ref.cross_entropy_backward(kept, targets), score_mistakes(kept, targets))


@check("cross_entropy_backward_short", 700)
def loss_goes_back_in_one_line(mine, ref, rng):
    scores_go_back(mine, ref, rng, "cross_entropy_backward_short", "cross_entropy_backward")
    hopeless_target(ref, mine.cross_entropy_backward_short)


# The whole


def model(rng: torch.Generator, dtype: type = np.float64) -> dict[str, Array]:
    """Random weights, gains around 1."""
    shapes = {"embedding.weight": (V + 1, C), "hidden.weight": (K, N * C), "norm.weight": (K,), "norm.bias": (K,)}
    shapes |= {"output.weight": (V, K), "output.bias": (V,)}
    weights = {name: 0.5 * normal(rng, dtype, np.array, *shape) for name, shape in shapes.items()}
    weights["norm.weight"] += 1
    return weights


def batch(rng: torch.Generator) -> tuple[Array, Array]:
    """contexts (B, N), targets (B)."""
    return integers(rng, V + 1, B, N), integers(rng, V, B)


@check("backward", 800)
def backward_goes_through_all_layers(mine, ref, rng):
    returned = []
    for dtype, slope in ((np.float64, 20), (np.float32, 1)):
        weights = model(rng, dtype)
        weights["output.weight"] *= slope  # what goes back through it is larger than 1
        passed = ref.forward(weights, *batch(rng))[1]
        gradients = untouched("backward", mine.backward, weights, passed)
        if not isinstance(gradients, Mapping):
            raise Wrong("backward_no_dict", seen=type(gradients).__name__)
        for name in weights:
            if name not in gradients:
                raise Wrong("backward_missing", name=name, seen=", ".join(map(str, gradients)) or "-")
        for name in gradients:
            if name not in weights:
                raise Wrong("backward_extra", name=name)
        for name, right in ref.backward(weights, passed).items():
            compare(name, gradients[name], right, whole_mistakes(ref, weights, passed, name))
            returned.append((name, gradients, gradients[name].copy()))
    for name, gradients, value in returned:
        if not np.array_equal(gradients[name], value):
            raise Wrong("backward_shared", name=name)


def whole_mistakes(ref: ModuleType, w: Mapping[str, Array], passed: Any, name: str) -> Known:
    """In the place of one parameter's gradient."""
    right = ref.backward(w, passed)
    for other, value in right.items():
        if other != name:
            yield "backward_exchanged", value
    dlogits = ref.cross_entropy_backward(passed.scored, passed.targets)
    dh = ref.linear_backward(dlogits, passed.h, w["output.weight"])[0]
    dy = ref.tanh_backward(dh, passed.h)

    def below(dy: Array, skip: bool = False, gain: str = "norm.weight") -> Array:
        """What this parameter gets of a gradient at the norm's result, or the norm left out, or with another gain."""
        dz, dgain, dshift = ref.batch_norm_backward(dy, passed.norm, w[gain])
        dx, dhidden, _ = ref.linear_backward(dy if skip else dz, passed.x, w["hidden.weight"])
        found = {"norm.weight": dgain, "norm.bias": dshift, "hidden.weight": dhidden}
        found["embedding.weight"] = ref.embedding_backward(dx, w["embedding.weight"], passed.contexts)
        return found.get(name, right[name])

    yield "backward_no_tanh", below(dh)
    yield "backward_tanh_exchanged", below(ref.tanh_backward(passed.h, dh))
    yield "backward_no_norm", below(dy, skip=True)
    yield "backward_norm_bias", below(dy, gain="norm.bias")
    yield "backward_no_tanh_no_norm", below(dh, skip=True)
    yield "sign", -right[name]
    yield "backward_transposed", right[name].T


# The house


@check("", 900)
def descends_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree with each other; here the whole file learns."""
    losses, given = [], batch(rng)
    start = model(rng)
    for module in (mine, ref):
        forward = getattr(module, "forward", ref.forward)  # it was given: a file may do without
        weights, seen = dict(start), []
        for _ in range(4):
            loss, passed = forward(weights, *given)
            gradients = module.backward(weights, passed)
            weights = {name: value - 0.5 * gradients[name] for name, value in weights.items()}
            seen.append(float(loss))
        losses.append(seen)
    for step, (own, right) in enumerate(zip(*losses, strict=True)):
        if not abs(own - right) <= 1e-6 * right:
            raise Wrong("house_loss", step=step, mine=own, ref=right)
