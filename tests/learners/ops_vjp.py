"""Right ops in the manner of HIPS autograd: a value, and for each input a maker of its gradient."""

import numpy as np

from kakehashi.autograd.tensor import ShapeError, Tensor, as_tensor, record


def primitive(name, value, *makers, view=False):
    """op(*xs): value(*arrays), and gradients that makers[i](*xs) makes."""

    def op(*xs):
        edges = [(x, maker(*xs)) for x, maker in zip(xs, makers, strict=True)]
        return record(name, value(*(x.data for x in xs)), *edges, view_of=xs[0] if view else None)

    return op


def binary(name, value, *makers):
    op = primitive(name, value, *makers)

    def call(x, y):
        if not isinstance(x, Tensor):
            x = as_tensor(x, like=as_tensor(y))
        y = as_tensor(y, like=x)
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            raise ShapeError(f"{name} cannot broadcast {x.shape} with {y.shape}") from None
        return op(x, y)

    return call


def exp(x):
    return primitive("exp", np.exp, lambda x: lambda g: g * x.exp())(x)


def tanh(x):
    return primitive("tanh", np.tanh, lambda x: lambda g: g - g * x.tanh().square())(x)


def add(x, y):
    return binary("add", np.add, lambda x, y: lambda g: g, lambda x, y: lambda g: g)(x, y)


def mul(x, y):
    return binary("mul", np.multiply, lambda x, y: lambda g: y * g, lambda x, y: lambda g: x * g)(x, y)


def div(x, y):
    return binary("div", np.divide, lambda x, y: lambda g: g / y, lambda x, y: lambda g: -(g / y) * (x / y))(x, y)


def where(condition, x, y):
    flags = np.asarray(getattr(condition, "data", condition)).astype(bool)
    return binary(
        "where",
        lambda a, b: np.where(flags, a, b),
        lambda x, y: lambda g: g * Tensor(flags),
        lambda x, y: lambda g: g * Tensor(np.logical_not(flags)),
    )(x, y)


def sum(x, dim=None, keepdim=False):
    every = tuple(range(x.ndim))
    dims = every if dim is None else tuple(d % x.ndim for d in np.atleast_1d(dim).tolist())
    before = x.shape
    kept = [1 if i in dims else n for i, n in enumerate(before)]

    def spread(x):
        return lambda g: g.reshape(*kept) * Tensor(np.ones(before, g.dtype))

    return primitive("sum", lambda a: np.sum(a, dims, keepdims=keepdim), spread)(x)


def amax(x, dim=None, keepdim=False):
    dims = tuple(range(x.ndim)) if dim is None else tuple(np.atleast_1d(dim).tolist())
    winners = (x.data == np.amax(x.data, dims, keepdims=True)).astype(x.dtype)
    winners /= winners.sum(dims, keepdims=True)
    kept = np.amax(x.data, dims, keepdims=True).shape
    return record("amax", np.amax(x.data, dims, keepdims=keepdim), (x, lambda g: g.reshape(kept) * Tensor(winners)))


def cumsum(x, dim):
    def back(x):
        def gradient(g):  # all, without what came before
            return g.sum(dim, keepdim=True) - g.cumsum(dim) + g

        return gradient

    return primitive("cumsum", lambda a: np.cumsum(a, dim), back)(x)


def logsumexp(x, dim=-1, keepdim=False):
    out = np.logaddexp.reduce(x.data, axis=dim, keepdims=keepdim) if x.data.size else None
    if out is None:
        return exp(x).sum(dim, keepdim).log()
    return record("logsumexp", out, (x, lambda g: (g if keepdim else g.unsqueeze(dim)) * x.softmax(dim)))


def reshape(x, shape):
    before = x.shape
    y = np.reshape(x.data, tuple(shape))
    view = x if y.base is not None and np.may_share_memory(y, x.data) else None
    return record("reshape", y, (x, lambda g: g.reshape(before)), view_of=view)


def permute(x, dims):
    dims = [d % x.ndim for d in dims]
    back = [dims.index(i) for i in range(x.ndim)]
    return primitive("permute", lambda a: np.transpose(a, dims), lambda x: lambda g: g.permute(back), view=True)(x)


def pad(x, widths, value=0.0):
    front = x.ndim - len(widths)
    framed = [a + n + b for n, (a, b) in zip(x.shape[front:], widths, strict=True)]
    out = np.full((*x.shape[:front], *framed), value, x.dtype)
    cut = (..., *(slice(a, a + n) for n, (a, _) in zip(x.shape[front:], widths, strict=True)))
    out[cut] = x.data
    return record("pad", out, (x, lambda g: g[cut]))


def cat(xs, dim=0):
    shapes = [x.shape for x in xs]
    rest = {(*s[: dim % len(s)], *s[dim % len(s) + 1 :]) for s in shapes}
    if len(rest) > 1:
        raise ShapeError(f"cat of {shapes}")

    def piece(start, n):
        return lambda g: g.transpose(0, dim)[start : start + n].transpose(0, dim)

    edges, start = [], 0
    for x in xs:
        edges.append((x, piece(start, x.shape[dim])))
        start += x.shape[dim]
    return record("cat", np.concatenate([x.data for x in xs], dim), *edges)


def getitem(x, index, once=False):
    def frozen(part):
        return np.array(getattr(part, "data", part)) if isinstance(part, (list, np.ndarray, Tensor)) else part

    index = tuple(map(frozen, index)) if isinstance(index, tuple) else frozen(index)
    whole, value = x.shape, x.data[index]
    view = np.may_share_memory(value, x.data)
    return record("getitem", value, (x, lambda g: scatter(g, index, whole, once)), view_of=x if view else None)


def scatter(g, index, shape, once=False):
    out = np.zeros(shape, g.dtype)
    np.add.at(out, index, g.data)
    return primitive("scatter", lambda _: out, lambda g: lambda h: h[index])(g)


def windows(x, size, stride):
    (h, w), (down, across) = size, stride
    *lead, H, W = x.shape
    *strides, s, t = x.data.strides
    shape = (*lead, (H - h) // down + 1, (W - w) // across + 1, h, w)
    view = np.lib.stride_tricks.as_strided(x.data, shape, (*strides, s * down, t * across, s, t), writeable=False)
    whole = x.shape
    return record("windows", view, (x, lambda g: fold(g, whole, stride)), view_of=x)


def fold(g, shape, stride):
    H, W, h, w = g.shape[-4:]
    r = np.arange(H)[:, None, None, None] * stride[0] + np.arange(h)[:, None]
    c = np.arange(W)[:, None, None] * stride[1] + np.arange(w)
    return scatter(g, (..., r, c), tuple(shape))


def matmul(x, y):
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim * y.ndim == 0 or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise ShapeError(f"matmul of {x.shape} and {y.shape}")
    try:
        out = np.matmul(x.data, y.data)
    except ValueError:
        raise ShapeError(f"matmul of {x.shape} and {y.shape}") from None
    n, m = x.ndim > 1, y.ndim > 1

    def wide(g):  # with the axes that a vector lacks
        g = g if m else g.unsqueeze(-1)
        return g if n else g.unsqueeze(-2)

    def to_x(g):
        back = wide(g) @ (y if m else y.unsqueeze(-1)).mT
        return back if n else back.squeeze(-2)

    def to_y(g):
        back = (x if n else x.unsqueeze(0)).mT @ wide(g)
        return back if m else back.squeeze(-1)

    return record("matmul", out, (x, to_x), (y, to_y))


def einsum(equation, *xs):
    inputs, out = equation.replace(" ", "").split("->")
    names = inputs.split(",")
    sizes = {c: n for name, x in zip(names, xs, strict=True) for c, n in zip(name, x.shape, strict=True)}

    def to(i):
        ones = Tensor(np.ones([sizes[c] for c in names[i]], xs[i].dtype))
        given = ",".join([out, *names[:i], *names[i + 1 :], names[i]]) + "->" + names[i]
        others = [*xs[:i], *xs[i + 1 :]]
        return lambda g: einsum(given, g, *others, ones)

    value = np.einsum(equation, *(x.data for x in xs)).copy()
    return record("einsum", value, *((x, to(i)) for i, x in enumerate(xs)))
