"""Backpropagation by hand: the MLP with batch normalisation, its gradients derived on paper, line by line.

No engine: arrays alone. Each function stands above its backward, which reads the same lines from the last to the first;
`dx` is the gradient of the loss with respect to `x`, and has x's shape. Three rules are enough. What was used several
times gets the sum of its gradients. What was broadcast was used several times, so it is summed over those axes. What
was summed hands its gradient to each term.

Paper: Bengio et al. 2003; the model is that of `models.MLP`, with its names of parameters. Every target counts.
Axes: B batch, N tokens of context, C width of an embedding, K hidden units, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


# --- Embedding ---


def embedding(table: Array, contexts: Array) -> Array:
    """The rows of each context side by side. table (V + 1, C), contexts (B, N) int -> x (B, N C)."""
    return table[contexts].reshape(len(contexts), -1)  # (B, N, C), then (B, N C)


def embedding_backward(dx: Array, table: Array, contexts: Array) -> Array:
    """dx (B, N C) -> dtable (V + 1, C)."""
    dtable = np.zeros_like(table)  # (V + 1, C)
    # a token may stand in several places: np.add.at adds every share, where dtable[contexts] += would keep one
    np.add.at(dtable, contexts, dx.reshape(*contexts.shape, -1))  # dx as (B, N, C)
    return dtable


# --- Linear ---


def linear(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
    """y[b, o] = sum over i of x[b, i] weight[o, i] + bias[o]. x (B, I), weight (O, I), bias (O) -> y (B, O)."""
    return x @ weight.T + bias


def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """dy (B, O) -> dx (B, I), dweight (O, I), dbias (O)."""
    dx = dy @ weight  # (B, I): x[b, i] is in every y[b, o], so the sum is over o
    dweight = dy.T @ x  # (O, I): weight[o, i] is in every y[b, o], so the sum is over b
    dbias = dy.sum(0)  # (O): added to all rows
    return dx, dweight, dbias


# --- Batch normalisation ---


class Normed(NamedTuple):
    """What the backward of `batch_norm` reads."""

    centred: Array  # (B, K)
    inverse: Array  # (K): 1 / deviation
    normed: Array  # (B, K)


def batch_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Normed]:
    """Each feature to mean 0 and variance 1 over the batch, then gain and bias. x (B, K), others (K) -> y (B, K)."""
    mean = x.mean(0)  # (K)
    centred = x - mean  # (B, K)
    variance = (centred**2).mean(0)  # (K)
    inverse = (variance + eps) ** -0.5  # (K)
    normed = centred * inverse  # (B, K)
    y = normed * weight + bias  # (B, K)
    return y, Normed(centred, inverse, normed)


def batch_norm_backward(dy: Array, kept: Normed, weight: Array) -> tuple[Array, Array, Array]:
    """dy (B, K) -> dx (B, K), dweight (K), dbias (K)."""
    centred, inverse, normed = kept
    B = len(dy)
    # y = normed * weight + bias
    dnormed = dy * weight  # (B, K)
    dweight = (dy * normed).sum(0)  # (K)
    dbias = dy.sum(0)  # (K)
    # normed = centred * inverse
    dcentred = dnormed * inverse  # (B, K)
    dinverse = (dnormed * centred).sum(0)  # (K)
    # inverse = (variance + eps)^(-1/2), whose slope is -1/2 (variance + eps)^(-3/2)
    dvariance = -0.5 * inverse**3 * dinverse  # (K)
    # variance = mean of centred^2: the second use of centred
    dcentred += 2 / B * centred * dvariance  # (B, K)
    # centred = x - mean
    dmean = -dcentred.sum(0)  # (K)
    # mean = sum of x / B: the second use of x
    dx = dcentred + dmean / B  # (B, K)
    return dx, dweight, dbias


def batch_norm_backward_short(dy: Array, kept: Normed, weight: Array) -> Array:
    """The same dx (B, K) with all lines put into each other.

    What would only move the mean or the variance of x leaves y as it is: that part of the gradient is taken out.
    """
    _, inverse, normed = kept
    # in each column of dy, the part equal in all rows would move the mean, and the part along normed the variance
    return weight * inverse * (dy - dy.mean(0) - normed * (dy * normed).mean(0))  # (B, K)


# --- tanh ---


def tanh_backward(dh: Array, h: Array) -> Array:
    """h = tanh(y), whose slope is 1 - tanh(y)^2: nearly 0 where it saturates. dh (...), h (...) -> dy (...)."""
    return dh * (1 - h**2)


# --- Cross entropy ---


class Scored(NamedTuple):
    """What the backward of `cross_entropy` reads."""

    counts: Array  # (B, V): e^logit, up to a factor for each row
    total: Array  # (B, 1)


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Scored]:
    """The mean of -log p(target), in nats. logits (B, V), targets (B) int -> loss."""
    shifted = logits - logits.max(1, keepdims=True)  # (B, V): so that nothing overflows
    counts = np.exp(shifted)  # (B, V)
    total = counts.sum(1, keepdims=True)  # (B, 1)
    logs = shifted - np.log(total)  # (B, V): log of counts / total
    loss = -logs[np.arange(len(targets)), targets].mean()
    return loss, Scored(counts, total)


def cross_entropy_backward(kept: Scored, targets: Array) -> Array:
    """The gradient of the loss itself is 1 -> dlogits (B, V)."""
    counts, total = kept
    B = len(targets)
    # loss = -mean of logs at the targets: no other entry has a part in it
    dlogs = np.zeros_like(counts)  # (B, V)
    dlogs[np.arange(B), targets] = -1 / B
    # logs = shifted - log(total)
    dshifted = dlogs.copy()  # (B, V)
    dtotal = -dlogs.sum(1, keepdims=True) / total  # (B, 1)
    # total = sum of counts: each gets all of it
    dcounts = dtotal  # (B, 1), of (B, V)
    # counts = e^shifted, its own slope: the second use of shifted
    dshifted += dcounts * counts  # (B, V)
    # shifted = logits - max: the same shift for a whole row changes no probability, so max gets 0
    return dshifted


def cross_entropy_backward_short(kept: Scored, targets: Array) -> Array:
    """The same dlogits (B, V) with all lines put into each other: (p - 1) / B at the target, p / B elsewhere."""
    dlogits = kept.counts / kept.total  # (B, V)
    dlogits[np.arange(len(targets)), targets] -= 1
    return dlogits / len(targets)


# --- The whole ---


class Passed(NamedTuple):
    """What `backward` reads of a forward pass."""

    contexts: Array  # (B, N)
    targets: Array  # (B)
    x: Array  # (B, N C)
    norm: Normed
    h: Array  # (B, K)
    scored: Scored


def forward(weights: Mapping[str, Any], contexts: Array, targets: Array) -> tuple[float, Passed]:
    """contexts (B, N) int, targets (B) int -> loss. weights: as `models.MLP(...).state_dict()` gives them."""
    w = weights
    x = embedding(w["embedding.weight"], contexts)  # (B, N C)
    z = linear(x, w["hidden.weight"])  # (B, K)
    y, norm = batch_norm(z, w["norm.weight"], w["norm.bias"])  # (B, K)
    h = np.tanh(y)  # (B, K)
    logits = linear(h, w["output.weight"], w["output.bias"])  # (B, V)
    loss, scored = cross_entropy(logits, targets)
    return loss, Passed(contexts, targets, x, norm, h, scored)


def backward(weights: Mapping[str, Any], passed: Passed) -> dict[str, Array]:
    """The gradient of the loss with respect to each parameter, under its name and of its shape."""
    w, (contexts, targets, x, norm, h, scored) = weights, passed
    d = {}
    # the lines of forward from the last to the first: each takes the gradient of its result to those of its inputs
    dlogits = cross_entropy_backward(scored, targets)  # (B, V)
    dh, d["output.weight"], d["output.bias"] = linear_backward(dlogits, h, w["output.weight"])  # (B, K)
    dy = tanh_backward(dh, h)  # (B, K)
    dz, d["norm.weight"], d["norm.bias"] = batch_norm_backward(dy, norm, w["norm.weight"])  # (B, K)
    dx, d["hidden.weight"], _ = linear_backward(dz, x, w["hidden.weight"])  # (B, N C)
    d["embedding.weight"] = embedding_backward(dx, w["embedding.weight"], contexts)  # (V + 1, C)
    return d
