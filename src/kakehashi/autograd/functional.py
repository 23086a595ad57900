"""What models are made of: softmax, losses, norms, activations, attention, convolutions.

Some are written twice. `layer_norm` is one pass over arrays with its gradient derived on paper; `composed` inside it is
the same from simple ops. The first is fast; the second says what it means, and takes over where gradients are to be
differentiated again. Tests hold them equal.
"""

import math
from typing import Any

import numpy as np

from kakehashi.autograd import ops
from kakehashi.autograd.tensor import Array, AutogradError, ShapeError, Tensor, as_tensor, record

IGNORE = -100  # a target with this value is not counted


# --- Probabilities and losses ---


def softmax(x: Any, dim: int = -1, visible: Array | None = None) -> Tensor:
    """e^x / sum e^x along dim, overflow-free; a row of -inf alone is NaN, as in PyTorch.

    visible: bool, broadcast to x; where False, the probability is 0, as if x were -inf.
    """
    x = as_tensor(x)
    dim = ops.axis(dim, x.ndim)
    e = x.data
    if visible is not None:
        try:
            e = np.where(np.broadcast_to(visible, x.shape), e, -np.inf)
        except ValueError:
            raise ShapeError(f"softmax: visible of shape {visible.shape} does not fit {x.shape}") from None
    e = np.exp(e - e.max(axis=dim, keepdims=True, initial=-np.inf))
    e /= e.sum(axis=dim, keepdims=True)

    def gradient(g: Tensor, y: Tensor) -> Tensor:
        # raising one logit takes from all probabilities what it adds to its own: y (g - <g, y>)
        return y * (g - (g * y).sum(dim, keepdim=True))

    return record("softmax", e, (x, gradient), reads_output=True)


def log_softmax(x: Any, dim: int = -1) -> Tensor:
    """log of softmax, exact where softmax itself would round to 0."""
    x = as_tensor(x)
    dim = ops.axis(dim, x.ndim)
    shifted = x.data - x.data.max(axis=dim, keepdims=True, initial=-np.inf)
    shifted -= np.log(np.exp(shifted).sum(axis=dim, keepdims=True))
    return record("log_softmax", shifted, (x, lambda g, y: g - y.exp() * g.sum(dim, keepdim=True)), reads_output=True)


def cross_entropy(logits: Any, targets: Any, ignore_index: int = IGNORE) -> Tensor:
    """Mean of -log p(target) over the targets that count, in nats. logits (..., V), targets (...) int -> a number.

    Nothing counted: 0, with zero gradients, as the models' own.
    """
    logits, targets = as_tensor(logits), np.asarray(ops.plain(targets))
    if logits.ndim == 0 or targets.shape != logits.shape[:-1]:
        raise ShapeError(f"cross_entropy: targets of shape {targets.shape} for logits of shape {logits.shape}")
    if targets.dtype.kind not in "iu" and targets.size:
        raise AutogradError(f"cross_entropy: targets are numbers of classes, integers, got {targets.dtype}")
    V = logits.shape[-1]
    flat = targets.reshape(-1)
    places = np.flatnonzero(flat != ignore_index)
    classes = flat[places]
    wrong = classes[(classes < 0) | (classes >= V)]
    if wrong.size:
        raise AutogradError(f"cross_entropy: target {wrong[0]} is not one of {V} classes")
    n = max(len(places), 1)

    def composed(logits: Tensor) -> Tensor:
        return log_softmax(ops.rows(logits))[places, classes].sum() * (-1 / n)

    shifted = ops.rows(logits).data
    shifted = shifted - shifted.max(-1, keepdims=True, initial=-np.inf)  # (N, V)
    e = np.exp(shifted)
    total = e.sum(-1)  # (N)
    loss = (np.log(total[places]) - shifted[places, classes]).sum() / n

    def gradient(g: Tensor) -> Tensor:
        # p - 1 at the target, p elsewhere: each row pulls its target up by what it pulls the others down
        scale = np.zeros_like(total)
        scale[places] = g.data / n
        d = e * (scale / total)[:, None]
        d[places, classes] -= scale[places]
        return Tensor(d.reshape(logits.shape))

    return record("cross_entropy", np.asarray(loss, logits.dtype), (logits, gradient), composed=composed)


def mse_loss(x: Any, y: Any) -> Tensor:
    """The mean of (x - y)^2. Of equal shapes: (B, 1) and (B) would be compared each with each."""
    x, y = as_tensor(x), as_tensor(y)
    if x.shape != y.shape:
        raise ShapeError(f"mse_loss: shapes {x.shape} and {y.shape} differ")
    return (x - y).square().mean()


# --- Layers ---


def linear(x: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b. x (..., n_in), weight (n_out, n_in), bias (n_out) -> (..., n_out)."""
    x = as_tensor(x)
    if x.ndim == 0 or x.shape[-1:] != weight.shape[1:] or (bias is not None and bias.shape != weight.shape[:1]):
        with_bias = "" if bias is None else f" and a bias of shape {bias.shape}"
        raise ShapeError(f"linear: x of shape {x.shape} does not fit a weight of shape {weight.shape}{with_bias}")
    out = ops.rows(x).data @ weight.data.T  # (N, n_out): one product for all leading axes
    edges = [(x, lambda g: g @ weight), (weight, lambda g: ops.rows(g).mT @ ops.rows(x))]
    if bias is not None:
        out += bias.data
        edges.append((bias, lambda g: g))
    return record("linear", out.reshape(*x.shape[:-1], len(weight)), *edges)


def embedding(weight: Tensor, indices: Any) -> Tensor:
    """Rows of weight (V, C) by number: (...) int -> (..., C). A row read twice gets both gradients."""
    indices = np.asarray(ops.plain(indices))
    if indices.dtype.kind not in "iu":
        raise AutogradError(f"embedding: rows are named by integers, got {indices.dtype}")
    wrong = indices[(indices < 0) | (indices >= len(weight))]
    if wrong.size:
        raise AutogradError(f"embedding: index {wrong[0]} is not a row of a table of shape {weight.shape}")
    return ops.getitem(weight, indices)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Each last axis to mean 0 and variance 1, then a gain and a bias. x (..., C), weight (C), bias (C)."""
    _check_norm("layer_norm", x, weight, bias)

    def composed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt() * weight + bias

    normed = x.data - x.data.mean(-1, keepdims=True)
    scale = 1 / np.sqrt(np.square(normed).mean(-1, keepdims=True) + eps)  # (..., 1)
    normed *= scale

    def to_x(g: Tensor) -> Tensor:
        # what would only move the mean or the variance of x leaves the result as it is: that part is taken out
        d = g.data * weight.data
        along = (d * normed).mean(-1, keepdims=True)
        d -= d.mean(-1, keepdims=True)
        d -= normed * along
        d *= scale
        return Tensor(d)

    return record(
        "layer_norm",
        normed * weight.data + bias.data,
        (x, to_x),
        (weight, lambda g: Tensor(_over_rows(g.data, normed))),
        (bias, lambda g: g),
        composed=composed,
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Each last axis to a mean square of 1, then a gain (Zhang & Sennrich 2019). x (..., C), weight (C)."""
    _check_norm("rms_norm", x, weight)

    def composed(x: Tensor, weight: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight

    scale = 1 / np.sqrt(np.square(x.data).mean(-1, keepdims=True) + eps)  # (..., 1)
    normed = x.data * scale

    def to_x(g: Tensor) -> Tensor:
        d = g.data * weight.data
        d -= normed * (d * normed).mean(-1, keepdims=True)
        d *= scale
        return Tensor(d)

    return record(
        "rms_norm",
        normed * weight.data,
        (x, to_x),
        (weight, lambda g: Tensor(_over_rows(g.data, normed))),
        composed=composed,
    )


def _check_norm(name: str, x: Tensor, *parameters: Tensor) -> None:
    if x.ndim == 0 or any(p.shape != x.shape[-1:] for p in parameters):
        shapes = " and ".join(str(p.shape) for p in parameters)
        raise ShapeError(f"{name}: x of shape {x.shape} does not fit parameters of shape {shapes}")


def _over_rows(x: Array, y: Array) -> Array:
    """The sum of x * y over all axes but the last, without the product as an array. (..., C) -> (C)."""
    shape = (math.prod(x.shape[:-1]), x.shape[-1])
    return np.einsum("nc,nc->c", x.reshape(shape), y.reshape(shape))


# --- Activations ---

relu, tanh, sigmoid = ops.relu, ops.tanh, ops.sigmoid  # under torch's names here, too
_ROOT = math.sqrt(2 / math.pi)


def gelu(x: Any) -> Tensor:
    """x times the probability that a standard normal is below x, in the tanh form (Hendrycks & Gimpel 2016)."""

    def composed(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + ((x + x * x * x * 0.044715) * _ROOT).tanh())

    x = as_tensor(x)
    a = x.data
    t = np.tanh((a * a * (0.044715 * _ROOT) + _ROOT) * a)

    def gradient(g: Tensor) -> Tensor:
        d = (1 - t * t) * (a * a * (3 * 0.044715 * _ROOT) + _ROOT)
        d *= a
        d += t
        d += 1
        d *= 0.5
        d *= g.data
        return Tensor(d)

    return record("gelu", (t + 1) * a * 0.5, (x, gradient), composed=composed)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return x * x.sigmoid()


# --- Attention ---


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Array | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v. q (..., T, D), k and v (..., S, D), visible bool, True = may look -> (..., T, D).

    dropout: the probability that a weight is taken out, drawn from rng.
    """
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]))  # (..., T, S)
    weights = softmax(scores, visible=visible)
    if ops.probability(dropout):
        if rng is None:
            raise AutogradError(f"attention: dropout {dropout} draws from a generator: rng=np.random.default_rng(0)")
        weights = ops.dropout(weights, dropout, True, rng)
    return weights @ v


# --- Images: x (B, C, H, W) ---

Pair = int | tuple[int, int]


def conv2d(x: Any, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair = 0) -> Tensor:
    """Each window times each filter. weight (O, C, h, w), bias (O) -> (B, O, H', W').

    Windows are views, so this is one product; its gradient to x adds each window's share back at its place.
    """
    x = as_tensor(x)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"conv2d: x of shape {x.shape} does not fit a weight of shape {weight.shape}: (B, C, H, W) and (O, C, h, w)"
        )
    size = (weight.shape[2], weight.shape[3])
    y = ops.einsum("bchwij,ocij->bohw", ops.windows(_framed(x, padding), size, _pair(stride)), weight)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def max_pool2d(x: Tensor, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The largest of each window; the first of several gets the gradient, as in PyTorch. stride None: size."""
    size, stride, padding = _pool("max_pool2d", size, stride, padding)

    def places(x: Tensor) -> Tensor:
        views = ops.windows(_framed(x, padding), size, stride)  # (..., H', W', h, w)
        return views.permute(-2, -1, *range(x.ndim)).flatten(0, 1)  # (h w, ..., H', W'): long last axes are fast

    seen = places(x)
    if padding == (0, 0):
        return ops.where(_first_largest(seen.data), seen, 0.0).sum(0)
    # the frame is never the largest, not even of -inf: it is 0, and left out
    inside = places(Tensor(np.ones((1,) * (x.ndim - 2) + x.shape[-2:], bool))).data
    hit = _first_largest(np.where(inside, seen.data, -math.inf), inside)
    return ops.where(hit, seen, 0.0).sum(0)


def _first_largest(x: Array, counted: Array | bool = True) -> Array:
    """Where the largest of those counted stands first along the first axis, as bool; a NaN counts as the largest."""
    hit = ((x == x.max(0)) | np.isnan(x)) & counted
    seen = np.zeros(x.shape[1:], bool)
    for each in hit:  # a place of the window at a time, for all windows at once
        each &= ~seen
        seen |= each
    return hit


def avg_pool2d(x: Tensor, size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The mean of each window, the zeros of the padding counted, as in PyTorch. stride None: size."""
    size, stride, padding = _pool("avg_pool2d", size, stride, padding)
    return ops.windows(_framed(x, padding), size, stride).mean((-2, -1))


def _pair(n: Pair) -> tuple[int, int]:
    return (n, n) if isinstance(n, int) else n


def _pool(name: str, size: Pair, stride: Pair | None, padding: Pair) -> list[tuple[int, int]]:
    size, stride, padding = _pair(size), _pair(size if stride is None else stride), _pair(padding)
    if any(2 * p > n for p, n in zip(padding, size, strict=True)):
        raise ShapeError(f"{name}: padding {padding} is more than half of {size}: a window would see nothing else")
    return [size, stride, padding]


def _framed(x: Tensor, padding: Pair) -> Tensor:
    h, w = _pair(padding)
    return ops.pad(x, [(h, h), (w, w)]) if h or w else x


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel to mean 0 and variance 1 over the batch, then a gain and a bias (Ioffe & Szegedy 2015).

    x (B, C, ...), the others (C). training: by the statistics of x, towards which the running ones move in place (the
    variance by its unbiased estimate); else by the running ones.
    """
    if x.ndim < 2 or not x.shape[1:2] == weight.shape == bias.shape == running_mean.shape == running_var.shape:
        raise ShapeError(
            f"batch_norm: x of shape {x.shape} does not fit a weight of shape {weight.shape}: (B, C, ...) and (C)"
        )
    dims, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    if training:
        mean, var = batch_statistics(x, dims, running_mean, running_var, momentum)  # (C)
    else:
        mean, var = running_mean.detach(), running_var.detach()
    scale = (var + eps).rsqrt() * weight  # (C)
    return (x - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape)


def batch_statistics(
    x: Tensor, dims: tuple[int, ...], running_mean: Tensor, running_var: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Mean and variance of x along dims; the running ones move towards them in place."""
    n = math.prod(x.shape[d] for d in dims)
    mean, var = x.mean(dims), x.var(dims, correction=0)
    running_mean.mul_(1 - momentum).add_(mean.detach(), alpha=momentum)
    # the running variance estimates the world's: divided by n - 1 instead of n
    running_var.mul_(1 - momentum).add_(var.detach(), alpha=momentum * n / max(n - 1, 1))
    return mean, var
