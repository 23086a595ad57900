"""The ops: each is its forward and, beside it, how a gradient goes back to each of its inputs.

    def mul(x, y):
        return record("mul", x.data * y.data, (x, lambda g: g * y), (y, lambda g: g * x))

In a gradient, g is that of the op's result, and has its shape. A gradient may be as wide as what was broadcast: the
walk sums it back. Gradients are made of ops, so that they can be differentiated in turn. A gradient keeps alive what it
names until it is called: where a shape is enough, it names a shape and not x. With reads_output=True it is called with
the result as well; view_of=x says that the result lies in the memory of x. All of this is `record` in `tensor`.

Shapes stand in comments; (...) are leading axes. dim and keepdim are PyTorch's words for axis and keepdims. sum, max,
abs and pow are ops here, and hide Python's own.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from kakehashi.autograd.tensor import Array, AutogradError, ShapeError, Tensor, as_tensor, record

Dim = int | tuple[int, ...] | None


def _pair(name: str, x: Any, y: Any, compute: Callable[[Array, Array], Array]) -> tuple[Tensor, Tensor, Array]:
    """Two inputs as tensors, and what `compute` makes of their arrays.

    Raises ShapeError, which names both shapes, and AutogradError for dtypes of which the op makes nothing.
    """
    x = as_tensor(x, like=y if isinstance(y, Tensor) else None)
    y = as_tensor(y, like=x)
    try:
        return x, y, compute(x.data, y.data)
    except (TypeError, ValueError) as error:
        if "broadcast" in str(error):
            raise ShapeError(
                f"{name}: shapes {x.shape} and {y.shape} do not go together: axes must be equal or 1, from the last"
            ) from None
        raise AutogradError(f"{name} of {x.dtype} and {y.dtype}: {error}") from None


# --- One number in, one number out ---


def identity(x: Tensor) -> Tensor:
    """x, as a tensor of its own."""
    return record("identity", x.data, (x, lambda g: g), view_of=x)


def astype(x: Tensor, dtype: Any) -> Tensor:
    """x in another dtype; the walk brings its gradient back in x's own."""
    return record("astype", x.data.astype(dtype), (x, lambda g: g))


def neg(x: Any) -> Tensor:
    """-x."""
    x = as_tensor(x)
    return record("neg", -x.data, (x, lambda g: -g))


def exp(x: Any) -> Tensor:
    """e^x, which is its own derivative."""
    x = as_tensor(x)
    return record("exp", np.exp(x.data), (x, lambda g, y: g * y), reads_output=True)


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    x = as_tensor(x)
    return record("log", np.log(x.data), (x, lambda g: g / x))


def sqrt(x: Any) -> Tensor:
    """The square root."""
    x = as_tensor(x)
    return record("sqrt", np.sqrt(x.data), (x, lambda g, y: g / (y * 2)), reads_output=True)


def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x)."""
    x = as_tensor(x)
    return record("rsqrt", 1 / np.sqrt(x.data), (x, lambda g, y: g * y * y * y * -0.5), reads_output=True)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent: its slope is 1 - tanh^2, nearly 0 where it saturates."""
    x = as_tensor(x)
    return record("tanh", np.tanh(x.data), (x, lambda g, y: g * (1 - y * y)), reads_output=True)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x), exact where it is small, too."""
    x = as_tensor(x)
    return record("sigmoid", _sigmoid(x.data), (x, lambda g, y: g * y * (1 - y)), reads_output=True)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # far below 0 e^-x is inf, and 1 / inf is 0
        return 1 / (1 + np.exp(x * -1.0))


def relu(x: Any) -> Tensor:
    """max(x, 0). Its slope at 0 is taken to be 0, as in PyTorch."""
    x = as_tensor(x)
    return record("relu", np.maximum(x.data, 0), (x, lambda g, y: _kept_at(~(y.data <= 0), g)), reads_output=True)


def abs(x: Any) -> Tensor:
    """|x|. Its slope at 0 is taken to be 0."""
    x = as_tensor(x)
    return record("abs", np.abs(x.data), (x, lambda g: g * Tensor(np.sign(x.data))))


def sin(x: Any) -> Tensor:
    """The sine."""
    x = as_tensor(x)
    return record("sin", np.sin(x.data), (x, lambda g: g * cos(x)))


def cos(x: Any) -> Tensor:
    """The cosine."""
    x = as_tensor(x)
    return record("cos", np.cos(x.data), (x, lambda g: -g * sin(x)))


def clamp(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """x held between min and max, which are numbers. No gradient where it is held. Raises AutogradError."""
    for bound in (min, max):
        if bound is not None and not np.isscalar(bound):
            raise AutogradError(f"clamp holds x between numbers, got a {type(bound).__name__}: use maximum and minimum")
    inside = np.ones(x.shape, bool)
    inside &= True if min is None else x.data >= min
    inside &= True if max is None else x.data <= max
    return record("clamp", np.clip(x.data, min, max), (x, lambda g: _kept_at(inside, g)))


def dropout(x: Tensor, p: float, training: bool, rng: np.random.Generator) -> Tensor:
    """Each number is 0 with probability p, the others are divided by 1 - p: the expectation stays. p = 0: x itself.

    Raises AutogradError where p is no `probability`.
    """
    if probability(p) == 0 or not training:
        return x
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * Tensor((rng.random(x.shape) >= p).astype(x.dtype) * scale)


def probability(p: float) -> float:
    """p, if it lies in [0, 1], else AutogradError."""
    if not 0 <= p <= 1:
        raise AutogradError(f"the probability of dropout lies in [0, 1], got {p}")
    return p


# --- Two in, broadcast ---


def add(x: Any, y: Any) -> Tensor:
    """x + y: a sum hands its gradient to both. One of them may be a number or an array. Raises ShapeError."""
    x, y, out = _pair("add", x, y, np.add)
    return record("add", out, (x, lambda g: g), (y, lambda g: g))


def sub(x: Any, y: Any) -> Tensor:
    """x - y."""
    x, y, out = _pair("sub", x, y, np.subtract)
    return record("sub", out, (x, lambda g: g), (y, lambda g: -g))


def mul(x: Any, y: Any) -> Tensor:
    """x * y: each factor's gradient is scaled by the other."""
    x, y, out = _pair("mul", x, y, np.multiply)
    return record("mul", out, (x, lambda g: g * y), (y, lambda g: g * x))


def div(x: Any, y: Any) -> Tensor:
    """x / y."""
    x, y, out = _pair("div", x, y, np.true_divide)
    return record("div", out, (x, lambda g: g / y), (y, lambda g: -g * x / (y * y)))


def pow(x: Any, y: Any) -> Tensor:
    """x^y. The derivative to y is x^y log x, to x it is y x^(y - 1); both are 0 where the power stays 0."""
    x, y, out = _pair("pow", x, y, np.power)

    def to_base(g: Tensor, _: Tensor) -> Tensor:
        still = y.data == 0  # x^0 is 1, and 0 * x^-1 would be NaN at x = 0
        return where(still, 0.0, g * y * pow(where(still, 1.0, x), y - 1))

    def to_exponent(g: Tensor, out: Tensor) -> Tensor:
        still = (x.data == 0) & (y.data >= 0)  # 0^y does not move with y > 0, but log 0 is -inf
        return where(still, 0.0, g * out * log(where(still, 1.0, x)))

    return record("pow", out, (x, to_base), (y, to_exponent), reads_output=True)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger of two. Where they are equal, each gets half, as in PyTorch."""
    return _chosen("maximum", *_pair("maximum", x, y, np.maximum), np.less)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of two. Where they are equal, each gets half."""
    return _chosen("minimum", *_pair("minimum", x, y, np.minimum), np.greater)


def _chosen(name: str, x: Tensor, y: Tensor, out: Array, loses: np.ufunc) -> Tensor:
    share = Tensor(np.where(x.data == y.data, 0.5, 1.0).astype(out.dtype))
    to_x, to_y = ~loses(x.data, y.data), ~loses(y.data, x.data)
    return record(name, out, (x, lambda g: _kept_at(to_x, g * share)), (y, lambda g: _kept_at(to_y, g * share)))


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition is true, else y: each gets the gradient of what it gave."""
    mask = np.array(plain(condition), dtype=bool)
    x, y, out = _pair(f"where, with a mask of shape {mask.shape}", x, y, lambda a, b: np.where(mask, a, b))
    return record("where", out, (x, lambda g: _kept_at(mask, g)), (y, lambda g: _kept_at(~mask, g)))


def _kept_at(mask: Array, g: Tensor) -> Tensor:
    """g where the mask is true, else 0, also where g is infinite: inf * 0 would be NaN."""
    # its bits, as whole numbers, times 1 or 0: ten times as fast as np.where, which stumbles over a random mask
    out = (g.data.view(f"i{g.dtype.itemsize}") * mask).view(g.dtype)
    return record("where", out, (g, lambda h: _kept_at(mask, h)))


def masked_fill(x: Tensor, mask: Any, value: float) -> Tensor:
    """`value` where the mask is true."""
    return where(mask, value, x)


# --- Many in, one out ---


def axis(dim: int, ndim: int) -> int:
    """dim counted from the first axis. Raises ShapeError."""
    if not -ndim <= dim < ndim:
        raise ShapeError(f"there is no axis {dim} in a tensor of {ndim} axes")
    return dim % ndim


def _dims(dim: Dim, ndim: int) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(ndim))
    dims = tuple(sorted(axis(d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))))
    if len(set(dims)) < len(dims):
        raise ShapeError(f"dims {dim} name an axis twice")
    return dims


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with `dims` reduced to 1."""
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


def sum(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The sum along dim (None: of all): each term gets the whole gradient."""
    dims, shape = _dims(dim, x.ndim), x.shape
    kept = _kept(shape, dims)
    # the axes that were summed away come back with size 1, and only then is it clear where to stretch
    return record("sum", x.data.sum(axis=dims, keepdims=keepdim), (x, lambda g: expand(reshape(g, kept), shape)))


def mean(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean along dim. Of nothing: NaN."""
    n = math.prod(x.shape[i] for i in _dims(dim, x.ndim))
    return sum(x, dim, keepdim) * (1 / n if n else math.nan)


def var(x: Tensor, dim: Dim = None, keepdim: bool = False, correction: int = 1) -> Tensor:
    """The variance along dim; correction=1 estimates the world's, 0 is that of the numbers alone. Of too few: NaN."""
    n = math.prod(x.shape[i] for i in _dims(dim, x.ndim)) - correction
    centred = x - mean(x, dim, keepdim=True)
    return sum(centred * centred, dim, keepdim) * (1 / n if n > 0 else math.nan)


def amax(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest along dim. Where several are, they share the gradient evenly, as in PyTorch."""
    dims = _dims(dim, x.ndim)
    if 0 in [x.shape[i] for i in dims]:
        raise ShapeError(f"there is no largest of nothing: a tensor of shape {x.shape} along {dims}")
    top = x.data.max(axis=dims, keepdims=True)
    kept = top.shape
    hit = x.data == top  # several may be the largest, and share
    share = Tensor((hit / hit.sum(axis=dims, keepdims=True)).astype(x.dtype))
    out = top if keepdim else top.reshape([n for i, n in enumerate(kept) if i not in dims])
    return record("amax", out, (x, lambda g: reshape(g, kept) * share))


def amin(x: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest along dim."""
    return -amax(-x, dim, keepdim)


def max(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The largest of all; or, along dim, (values, indices): the first largest gets the whole gradient."""
    if dim is None:
        return amax(x)
    if x.shape[axis(dim, x.ndim)] == 0:
        raise ShapeError(f"there is no largest of nothing: a tensor of shape {x.shape} along {dim}")
    indices = np.expand_dims(x.data.argmax(dim), dim)
    values = gather(x, dim, indices)
    return (values, indices) if keepdim else (squeeze(values, dim), indices.squeeze(dim))


def cumsum(x: Tensor, dim: int) -> Tensor:
    """Running sums along dim: a term is in all sums from its place on, so it gets all their gradients."""
    dim = axis(dim, x.ndim)
    # sums from the end: backwards, running sums, and backwards again
    return record("cumsum", x.data.cumsum(dim), (x, lambda g: flip(cumsum(flip(g, dim), dim), dim)))


def logsumexp(x: Tensor, dim: int = -1, keepdim: bool = False) -> Tensor:
    """log sum e^x, overflow-free: the largest is taken out first."""
    top = x.data.max(axis=axis(dim, x.ndim), keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)  # where all is -inf, -inf - -inf would be NaN
    # top is a constant: what it takes away it gives back, so its gradients cancel
    total = log(sum(exp(x - Tensor(top)), dim, keepdim=True)) + Tensor(top)
    return total if keepdim else squeeze(total, dim)


# --- The same numbers in another shape ---


def _shaped(name: str, x: Tensor, shape: Any, compute: Callable[[], Array]) -> Array:
    try:
        return compute()
    except ValueError:
        raise ShapeError(f"{name}: {x.shape} cannot become {tuple(shape)}") from None


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same numbers in the same order; one size may be -1. A view where the memory allows it."""
    before = x.shape
    out = _shaped("reshape", x, shape, lambda: x.data.reshape(shape))
    return record("reshape", out, (x, lambda g: reshape(g, before)), view_of=_base(x, out))


def _base(x: Tensor, out: Array) -> Tensor | None:
    return x if np.may_share_memory(x.data, out) else None


def permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    """The axes in another order."""
    order = tuple(axis(d, x.ndim) for d in dims)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute: {tuple(dims)} does not name each axis of {x.shape} once")
    back = tuple(int(i) for i in np.argsort(order))  # where each axis came from: order[back[i]] = i
    return record("permute", x.data.transpose(order), (x, lambda g: permute(g, back)), view_of=x)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    dim0, dim1 = axis(dim0, x.ndim), axis(dim1, x.ndim)
    return record("transpose", x.data.swapaxes(dim0, dim1), (x, lambda g: transpose(g, dim0, dim1)), view_of=x)


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeated along new axes and along axes of size 1, without a copy (-1: as it is): the shares are summed back."""
    new = len(shape) - x.ndim
    if new > 0 and -1 in shape[:new]:
        raise ShapeError(f"expand: -1 in {tuple(shape)} stands for a size of {x.shape}, not for a new axis")
    sizes = tuple(x.shape[i - new] if n == -1 else n for i, n in enumerate(shape))
    out = _shaped("expand", x, sizes, lambda: np.broadcast_to(x.data, sizes))
    return record("expand", out, (x, lambda g: g), view_of=x)


def squeeze(x: Tensor, dim: int) -> Tensor:
    """Without an axis of size 1; one of another size stays."""
    dim = axis(dim, x.ndim)
    return reshape(x, x.shape[:dim] + x.shape[dim + 1 :]) if x.shape[dim] == 1 else x


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new axis of size 1."""
    dim = axis(dim, x.ndim + 1)
    return reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


def flip(x: Tensor, dim: int) -> Tensor:
    """An axis backwards."""
    dim = axis(dim, x.ndim)
    return record("flip", np.flip(x.data, dim), (x, lambda g: flip(g, dim)), view_of=x)


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Framed: widths has (before, after) for each of the last axes. The frame's gradient goes nowhere."""
    if len(widths) > x.ndim:
        raise ShapeError(f"pad: {len(widths)} widths for a tensor of shape {x.shape}")
    full = [(0, 0)] * (x.ndim - len(widths)) + [tuple(each) for each in widths]
    if any(n < 0 for each in full for n in each):
        raise ShapeError(f"pad: widths are at least 0, got {widths}")
    inner = tuple(slice(a, a + n) for (a, _), n in zip(full, x.shape, strict=True))  # where x lies in the frame
    return record("pad", np.pad(x.data, full, constant_values=value), (x, lambda g: getitem(g, inner)))


def cat(xs: Sequence[Tensor], dim: int = 0) -> Tensor:
    """One after another along dim; each gets its own stretch of the gradient. Raises ShapeError."""
    if not xs:
        raise ShapeError("cat: there is nothing to join")
    dim = axis(dim, xs[0].ndim)
    try:
        out = np.concatenate([x.data for x in xs], axis=dim)
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise ShapeError(f"cat along {dim}: shapes {shapes} differ elsewhere") from None
    ends = list(accumulate(x.shape[dim] for x in xs))  # where the stretch of each ends

    def stretch(i: int) -> Callable[[Tensor], Tensor]:
        place = (slice(None),) * dim + (slice(ends[i - 1] if i else 0, ends[i]),)
        return lambda g: getitem(g, place)

    return record("cat", out, *((x, stretch(i)) for i, x in enumerate(xs)))


def stack(xs: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Along a new axis."""
    return cat([unsqueeze(x, dim) for x in xs], dim)


def split(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    """Pieces of `size` along dim, the last one perhaps shorter."""
    if size < 1:
        raise ShapeError(f"split: pieces are at least 1 long, got {size}")
    before = (slice(None),) * axis(dim, x.ndim)
    # of an axis of size 0, one piece, as in PyTorch
    return [getitem(x, (*before, slice(i, i + size))) for i in range(0, x.shape[dim] or 1, size)]


def chunk(x: Tensor, n: int, dim: int = 0) -> list[Tensor]:
    """n pieces of equal size along dim."""
    if n < 1 or not x.shape[axis(dim, x.ndim)] or x.shape[dim] % n:
        raise ShapeError(f"chunk: axis {dim} of {x.shape} cannot be cut into {n} equal pieces")
    return split(x, x.shape[dim] // n, dim)


# --- Some of the numbers ---


def plain(index: Any) -> Any:
    """An index with arrays in place of tensors."""
    if isinstance(index, tuple):
        return tuple(map(plain, index))
    return index.data if isinstance(index, Tensor) else index


def getitem(x: Tensor, index: Any, once: bool = False) -> Tensor:
    """x[index], as NumPy reads it. What was read several times gets the sum of its gradients.

    once: the caller knows that index names no place twice.
    """
    index, shape = _own(index), x.shape
    try:
        out = x.data[index]
    except IndexError as error:
        raise ShapeError(f"getitem: {error}, in a tensor of shape {shape}") from None
    return record("getitem", np.asarray(out), (x, lambda g: scatter(g, index, shape, once)), view_of=_base(x, out))


def _own(index: Any) -> Any:
    """A copy of an index: an array may hold the next batch when the gradient reads it."""
    if isinstance(index, tuple):
        return tuple(map(_own, index))
    return np.array(plain(index)) if isinstance(index, np.ndarray | Tensor | list) else index


def scatter(g: Tensor, index: Any, shape: tuple[int, ...], once: bool = False) -> Tensor:
    """Zeros of `shape` to which g is added at index: the gradient of x[index], and x[index] is the gradient of this."""
    out = np.zeros(shape, g.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if once or all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in parts):
        out[index] = g.data  # slices name no place twice
    else:
        _add_at(out, index, g.data)
    return record("scatter", out, (g, lambda h: getitem(h, index, once)))


def _add_at(out: Array, index: Any, values: Array) -> None:
    """out[index] += values, where an index may come several times."""
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and out.ndim == 2 and index.size:
        # rows of a table, as an embedding reads them: sort them, and add each run of equal ones at once
        places = index.reshape(-1).astype(np.intp) % len(out)  # small integers may not hold len(out)
        order = np.argsort(places, kind="stable")
        places = places[order]
        starts = np.flatnonzero(np.r_[True, places[1:] != places[:-1]])
        out[places[starts]] = np.add.reduceat(values.reshape(places.size, out.shape[1])[order], starts, axis=0)
    else:
        np.add.at(out, index, values)


def gather(x: Tensor, dim: int, indices: Any) -> Tensor:
    """out[i][j] = x[i][indices[i][j]] along dim, as torch.gather."""
    indices, dim = np.asarray(plain(indices)), axis(dim, x.ndim)
    if indices.ndim != x.ndim or any(indices.shape[i] > x.shape[i] for i in range(x.ndim) if i != dim):
        raise ShapeError(f"gather along {dim}: indices of shape {indices.shape} do not fit into {x.shape}")
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[dim] = indices
    return getitem(x, tuple(grid), once=indices.shape[dim] == 1)


def windows(x: Tensor, size: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """All windows of `size`, `stride` apart, over the last two axes: a view. (..., H, W) -> (..., H', W', h, w)."""
    if x.ndim < 2 or any(not 0 < k <= n for n, k in zip(x.shape[-2:], size, strict=True)):
        raise ShapeError(f"a window of {size} does not fit into the last two axes of {x.shape}")
    if min(stride) < 1:
        raise ShapeError(f"windows are at least 1 apart, got a stride of {stride}")
    # (..., H, W) -> (..., H - h + 1, W - w + 1, h, w)
    views = np.lib.stride_tricks.sliding_window_view(x.data, size, axis=(-2, -1))[..., :: stride[0], :: stride[1], :, :]
    shape = x.shape
    return record("windows", views, (x, lambda g: fold(g, shape, stride)), view_of=x)


def fold(g: Tensor, shape: tuple[int, ...], stride: tuple[int, int]) -> Tensor:
    """Zeros of `shape` to which each window is added at its place: the gradient of `windows`, as that is of this.

    g holds the windows, (..., H', W', h, w); shape is (..., H, W).
    """
    H, W, h, w = g.shape[-4:]
    out = np.zeros(shape, g.dtype)
    for i in range(h):  # a place of the window at a time: for all windows at once
        for j in range(w):
            rows, columns = slice(i, i + H * stride[0], stride[0]), slice(j, j + W * stride[1], stride[1])
            out[..., rows, columns] += g.data[..., i, j]  # (..., H, W)
    return record("fold", out, (g, lambda x: windows(x, (h, w), stride)))


# --- Products ---


def matmul(x: Any, y: Any) -> Tensor:
    """(..., n, k) @ (..., k, m) -> (..., n, m); vectors as NumPy's matmul takes them.

    y[k, m] moves out[n, m] by x[n, k]: its gradient is the sum over all n of x[n, k] g[n, m], which is x^T g.
    Raises ShapeError.
    """
    x, y = as_tensor(x), as_tensor(y)
    if 0 in (x.ndim, y.ndim) or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise ShapeError(
            f"matmul: shapes {x.shape} and {y.shape}: the last axis of one must be as long as the other's next to last"
        )
    if x.ndim == 1 or y.ndim == 1:
        return _with_vectors(x, y)
    if y.ndim == 2 and x.ndim > 2:
        # one matrix for all leading axes: they are rows like any other, and one product does it all
        return reshape(matmul(rows(x), y), (*x.shape[:-1], y.shape[-1]))
    x, y, out = _pair("matmul", x, y, np.matmul)
    return record(
        "matmul",
        out,
        (x, lambda g: g @ y.mT),  # (..., n, m) -> (..., n, k)
        (y, lambda g: x.mT @ g),  # (..., n, m) -> (..., k, m)
    )


def rows(x: Tensor) -> Tensor:
    """All leading axes as one. (..., C) -> (N, C)."""
    return x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _with_vectors(x: Tensor, y: Tensor) -> Tensor:
    """A vector is a matrix of one row (left) or one column (right), whose axis is taken out again."""
    out = matmul(unsqueeze(x, 0) if x.ndim == 1 else x, unsqueeze(y, 1) if y.ndim == 1 else y)
    if x.ndim == 1:
        out = squeeze(out, -2)
    return squeeze(out, -1) if y.ndim == 1 else out


def einsum(equation: str, *xs: Tensor) -> Tensor:
    """Einstein's summation, without "..." and without a letter twice in one input.

    The gradient of an input is an einsum again: its own letters come out, g and the other inputs go in.
    """
    letters, arrow, result = equation.replace(" ", "").partition("->")
    names = letters.split(",")
    if not arrow or "." in equation or len(names) != len(xs) or any(len(set(n)) < len(n) for n in (*names, result)):
        raise ShapeError(f"einsum: {equation!r} with {len(xs)} inputs: write 'ij,jk->ik', each letter once an input")
    fits = all(len(name) == x.ndim for name, x in zip(names, xs, strict=True)) and set(result) <= set(letters)
    read = [(c, n) for x, name in zip(xs, names, strict=True) for c, n in zip(name, x.shape, strict=False)]
    sizes = dict(read)
    if not fits or any(sizes[c] != n for c, n in read):
        raise ShapeError(f"einsum: {equation!r} does not fit shapes {' and '.join(str(x.shape) for x in xs)}")

    def to(i: int) -> Callable[[Tensor], Tensor]:
        name, others = names[i], [x for j, x in enumerate(xs) if j != i]
        given = [result, *(n for j, n in enumerate(names) if j != i)]  # the letters of g and of the other inputs
        present = "".join(c for c in name if any(c in n for n in given))
        kept = tuple(sizes[c] if c in present else 1 for c in name)
        shape = tuple(sizes[c] for c in name)

        def gradient(g: Tensor) -> Tensor:
            # a letter that was summed away and stands nowhere else: each of its places gets the same
            return expand(reshape(einsum(f"{','.join(given)}->{present}", g, *others), kept), shape)

        return gradient

    out = np.einsum(equation, *(x.data for x in xs), optimize=True)
    # of a single input whose letters only change places NumPy gives a view
    return record("einsum", np.asarray(out), *((x, to(i)) for i, x in enumerate(xs)), view_of=_base(xs[0], out))
