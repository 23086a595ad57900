"""Right ops with as few rules as can be: what can be made of other ops is, and the rest has a nested backward."""

import numpy as np

from kakehashi.autograd.tensor import ShapeError, Tensor, as_tensor, record


def exp(x: Tensor) -> Tensor:
    def backward(grad, out):
        return mul(grad, out)

    return record("exp", np.exp(x.data), (x, backward), reads_output=True)


def tanh(x: Tensor) -> Tensor:
    def backward(grad, out):
        return grad * (1 + out) * (1 - out)

    return record("tanh", np.tanh(x.data), (x, backward), reads_output=True)


def add(x, y):
    x, y, total = _pair("add", x, y, lambda a, b: a + b)  # noqa: F821

    def backward(grad):
        return identity(grad)  # noqa: F821

    return record("add", total, (x, backward), (y, backward))


def mul(x, y):
    x, y, product = _pair("mul", x, y, lambda a, b: a * b)  # noqa: F821

    def backward_x(grad):
        return grad * y

    def backward_y(grad):
        return grad * x

    return record("mul", product, (x, backward_x), (y, backward_y))


def div(x, y):
    x = as_tensor(x, like=y if isinstance(y, Tensor) else None)
    return mul(x, pow(as_tensor(y, like=x), -1))


def where(condition, x, y):
    on = np.array(condition, bool)
    x, y, chosen = _pair("where", x, y, lambda a, b: np.where(on, a, b))  # noqa: F821

    def backward_x(grad):
        return grad * Tensor(on)

    def backward_y(grad):
        return grad * Tensor(~on)

    return record("where", chosen, (x, backward_x), (y, backward_y))


def sum(x: Tensor, dim=None, keepdim=False) -> Tensor:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    dims = tuple(d + x.ndim if d < 0 else d for d in dims)
    shape = x.shape

    def backward(grad):
        if not keepdim:
            for d in sorted(dims):
                grad = unsqueeze(grad, d)  # noqa: F821
        return expand(grad, shape)  # noqa: F821

    return record("sum", x.data.sum(dims, keepdims=keepdim), (x, backward))


def amax(x: Tensor, dim=None, keepdim=False) -> Tensor:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    top = x.data.max(tuple(dims), keepdims=True)
    hit = (x.data == top).astype(x.dtype)
    share = Tensor(hit / hit.sum(tuple(dims), keepdims=True))
    return sum(mul(where(hit, x, 0.0), share), dim, keepdim)


def cumsum(x: Tensor, dim: int) -> Tensor:
    n = x.shape[dim]
    triangle = Tensor(np.triu(np.ones((n, n), x.dtype)))
    return transpose(matmul(transpose(x, dim, -1), triangle), dim, -1)  # noqa: F821


def logsumexp(x: Tensor, dim=-1, keepdim=False) -> Tensor:
    with np.errstate(divide="ignore"):
        top = x.data.max(dim, keepdims=True) if x.shape[dim] else np.zeros(1, x.dtype)
        top = Tensor(np.nan_to_num(top, neginf=0.0))
        out = log(sum(exp(x - top), dim, True)) + top  # noqa: F821
    return out if keepdim else squeeze(out, dim)  # noqa: F821


def reshape(x: Tensor, shape) -> Tensor:
    def backward(grad):
        return reshape(grad, old)

    old, out = x.shape, x.data.copy().reshape(shape)
    return record("reshape", out, (x, backward))


def permute(x: Tensor, dims) -> Tensor:
    order = [d % x.ndim for d in dims]
    at = list(range(x.ndim))
    for i, axis_ in enumerate(order):  # bring each axis to its place by swapping two
        j = at.index(axis_)
        if i != j:
            x = transpose(x, i, j)  # noqa: F821
            at[i], at[j] = at[j], at[i]
    return x if x.node else identity(x)  # noqa: F821


def pad(x: Tensor, widths, value=0.0) -> Tensor:
    for axis_, (before, after) in enumerate(widths, x.ndim - len(widths)):
        size = list(x.shape)
        frames = []
        for n in (before, after):
            size[axis_] = n
            frames.append(Tensor(np.full(size, value, x.dtype)))
        x = cat([frames[0], x, frames[1]], axis_)
    return x


def cat(xs, dim=0) -> Tensor:
    try:
        joined = np.concatenate([x.data for x in xs], dim)
    except ValueError as error:
        raise ShapeError(f"cat {[x.shape for x in xs]}: {error}") from None
    cuts = np.cumsum([0] + [x.shape[dim] for x in xs])
    edges = []
    for x, low, high in zip(xs, cuts[:-1], cuts[1:], strict=True):
        places = np.arange(low, high)

        def backward(grad, places=places):
            return getitem(grad, (slice(None),) * (dim % grad.ndim) + (places,), once=True)

        edges.append((x, backward))
    return record("cat", joined, *edges)


def getitem(x: Tensor, index, once=False) -> Tensor:
    numbers = np.arange(x.data.size).reshape(x.shape)[plain(index)]  # noqa: F821
    places, shape = np.array(numbers), x.shape

    def backward(grad):
        return reshape(scatter(reshape(grad, (places.size,)), places.reshape(-1), (int(np.prod(shape)),)), shape)

    return record("getitem", x.data.reshape(-1)[places], (x, backward))


def scatter(g: Tensor, index, shape, once=False) -> Tensor:
    places = np.arange(int(np.prod(shape))).reshape(shape)[index]
    counts = np.bincount(places.reshape(-1), g.data.reshape(-1), minlength=int(np.prod(shape)))

    def backward(grad):
        return getitem(reshape(grad, (grad.numel(),)), places)

    return record("scatter", counts.reshape(shape).astype(g.dtype), (g, backward))


def windows(x: Tensor, size, stride) -> Tensor:
    (h, w), (down, across) = size, stride
    top = np.arange(0, x.shape[-2] - h + 1, down)
    left = np.arange(0, x.shape[-1] - w + 1, across)
    rows_ = top[:, None, None, None] + np.arange(h)[:, None]
    columns = left[:, None, None] + np.arange(w)
    return getitem(x, (..., rows_, columns))


def fold(g: Tensor, shape, stride) -> Tensor:
    H, W, h, w = g.shape[-4:]
    out = np.zeros(shape, g.dtype)
    for r in range(H):
        for c in range(W):
            y, x = r * stride[0], c * stride[1]
            out[..., y : y + h, x : x + w] += g.data[..., r, c, :, :]

    def backward(grad):
        return windows(grad, (h, w), stride)

    return record("fold", out, (g, backward))


def matmul(x, y) -> Tensor:
    """Rows times columns: (..., n, k, 1) * (..., 1, k, m), summed over k."""
    x, y = as_tensor(x), as_tensor(y)
    left = x if x.ndim > 1 else unsqueeze(x, 0) if x.ndim else x  # noqa: F821
    right = y if y.ndim > 1 else unsqueeze(y, 1) if y.ndim else y  # noqa: F821
    if not (x.ndim and y.ndim and left.shape[-1] == right.shape[-2]):
        raise ShapeError(f"matmul: {x.shape} @ {y.shape}")
    try:
        out = sum(unsqueeze(left, -1) * unsqueeze(right, -3), -2)  # noqa: F821
    except ShapeError:
        raise ShapeError(f"matmul: {x.shape} @ {y.shape}") from None
    out = out if x.ndim > 1 else squeeze(out, -2)  # noqa: F821
    return out if y.ndim > 1 else squeeze(out, -1)  # noqa: F821


def einsum(equation, *xs) -> Tensor:
    """Everything laid out along all letters, multiplied, summed over the letters that do not come out."""
    names, result = equation.replace(" ", "").split("->")
    letters = result + "".join(sorted(set(names) - set(result) - {","}))
    product = Tensor(np.ones((), xs[0].dtype))
    for name, x in zip(names.split(","), xs, strict=True):
        order = sorted(range(len(name)), key=lambda i: letters.index(name[i]))
        there = iter(permute(x, order).shape)
        product = product * reshape(permute(x, order), [next(there) if c in name else 1 for c in letters])
    lost = tuple(range(len(result), len(letters)))
    return sum(product, lost) if lost else product
