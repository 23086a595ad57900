"""Every op of kakehashi.autograd beside PyTorch's, on shapes that are drawn: what the tests and the mutants run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF


@dataclass
class Case:
    """ours(engine, *tensors) and theirs(*tensors) of inputs of these shapes; positive: where the op wants that."""

    ours: Callable
    theirs: Callable
    shapes: list[tuple[int, ...]]
    positive: bool = False


# --- What is drawn ---


def shape(r: Random, least: int = 0, most: int = 3, smallest: int = 0) -> tuple[int, ...]:
    return tuple(r.choice([n for n in (2, 3, 1, 4, 0) if n >= smallest]) for _ in range(r.randint(least, most)))


def broadcast(r: Random, n: int = 2) -> list[tuple[int, ...]]:
    """n shapes that go together: axes are missing in front, or 1."""
    whole = shape(r)
    return [
        tuple(r.choice((k, k, 1)) for k in whole[r.randint(0, len(whole)) if r.random() < 0.3 else 0 :])
        for _ in range(n)
    ]


def mask(r: Random, size: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(r.getrandbits(32)).random(size) < 0.5


def integers(r: Random, size: tuple[int, ...], n: int) -> np.ndarray:
    return np.random.default_rng(r.getrandbits(32)).integers(0, n, size)


def array(r: Random, size: tuple[int, ...], positive: bool) -> np.ndarray:
    """Float64, in memory that lies straight, turned, backwards or with holes."""
    rng = np.random.default_rng(r.getrandbits(32))
    x = rng.uniform(0.5, 2.0, size) if positive else rng.standard_normal(size)
    how = r.randint(0, 3) if size else 0
    if how == 1:
        return np.asfortranarray(x)
    if how == 2:
        return np.flip(np.flip(x).copy())
    if how == 3:
        holes = np.zeros((*size[:-1], 2 * size[-1]))
        holes[..., ::2] = x
        return holes[..., ::2]
    return x


# --- The cases ---


def same(name: str, positive: bool = False, theirs: Callable | None = None) -> Callable[[Random], Case]:
    """An op of one tensor, under torch's name in `ops` or `functional`."""

    def case(r: Random) -> Case:
        def ours(a, x):
            return getattr(a.ops if hasattr(a.ops, name) else a.functional, name)(x)

        return Case(ours, theirs or getattr(torch, name), [shape(r)], positive)

    return case


def pair(name: str, positive: bool = False) -> Callable[[Random], Case]:
    return lambda r: Case(lambda a, x, y: getattr(a.ops, name)(x, y), getattr(torch, name), broadcast(r), positive)


def along(ours: Callable, theirs: Callable, smallest: int = 0) -> Callable[[Random], Case]:
    """An op of a tensor and one of its axes."""

    def case(r: Random) -> Case:
        size = shape(r, 1, smallest=smallest)
        dim = r.randrange(-len(size), len(size))
        return Case(lambda a, x: ours(a, x, dim), lambda x: theirs(x, dim), [size])

    return case


def reduction(name: str, **values: Any) -> Callable[[Random], Case]:
    def case(r: Random) -> Case:
        size = shape(r, 1, smallest={"sum": 0, "var": 2}.get(name, 1))
        dims = tuple(sorted(r.sample(range(len(size)), r.randint(1, len(size)))))
        dim, keep = r.choice((dims, dims[0])), r.random() < 0.5
        return Case(
            lambda a, x: getattr(a.ops, name)(x, dim, keep, **values),
            lambda x: getattr(torch, name)(x, dim=dim, keepdim=keep, **values),
            [size],
        )

    return case


def matmul(r: Random) -> Case:
    n, k, m = shape(r, 3, 3)
    leading = broadcast(r)
    x, y = (*leading[0], n, k), (*leading[1], k, m)
    if r.random() < 0.4:  # one matrix for many, or vectors
        x, y = r.choice([(x, (k, m)), (x, (k,)), ((k,), y), ((k,), (k,)), ((n, k), (k, m))])
    return Case(lambda a, x, y: a.ops.matmul(x, y), torch.matmul, [x, y])


def einsum(r: Random) -> Case:
    sizes = dict(zip("ijkl", shape(r, 4, 4), strict=True))
    equation = r.choice(
        ["ij,jk->ik", "ij,kj->ki", "ij,kl->k", "i,i->", "ijk,jl->lik", "ij->ji", "ijk->j", "ij,jk,kl->il"]
    )
    names = equation.split("->")[0].split(",")
    shapes = [tuple(sizes[c] for c in name) for name in names]
    return Case(lambda a, *xs: a.ops.einsum(equation, *xs), lambda *xs: torch.einsum(equation, *xs), shapes)


def reshape(r: Random) -> Case:
    size = shape(r, 1)
    to = r.choice([(math.prod(size),), size[::-1], (1, *size), (*size, 1)])
    return Case(lambda a, x: x.reshape(*to), lambda x: x.reshape(to), [size])


def flatten(r: Random) -> Case:
    size = shape(r, 1)
    start = r.randrange(len(size))
    end = r.randrange(start, len(size))
    return Case(lambda a, x: x.flatten(start, end), lambda x: x.flatten(start, end), [size])


def permute(r: Random) -> Case:
    size = r.choice([(2, 3, 4), shape(r, 1)])
    dims = r.sample(range(len(size)), len(size))
    return Case(lambda a, x: a.ops.permute(x, dims), lambda x: x.permute(dims), [size])


def transpose(r: Random) -> Case:
    size = shape(r, 2)
    return Case(lambda a, x: x.transpose(0, -1), lambda x: x.transpose(0, -1), [size])


def expand(r: Random) -> Case:
    size = shape(r, 1)
    small = tuple(r.choice((n, 1)) for n in size)
    to = (*shape(r, 0, 1), *size)
    return Case(lambda a, x: x.expand(*to), lambda x: x.expand(to), [small])


def squeeze(r: Random) -> Case:
    size = shape(r, 1)
    dim = r.randrange(-len(size) - 1, len(size) + 1)
    return Case(lambda a, x: x.unsqueeze(dim).squeeze(dim), lambda x: x.unsqueeze(dim).squeeze(dim), [size])


def pad(r: Random) -> Case:
    size = shape(r, 2, 3)
    w = [(r.randint(0, 2), r.randint(0, 2)) for _ in range(2)]
    return Case(lambda a, x: a.ops.pad(x, w, 0.5), lambda x: TF.pad(x, (*w[1], *w[0]), value=0.5), [size])


def cat(r: Random) -> Case:
    size = shape(r, 1)
    dim = r.randrange(-len(size), len(size))
    shapes = [tuple(r.randint(0, 3) if i == dim % len(size) else n for i, n in enumerate(size)) for _ in range(3)]
    return Case(lambda a, *xs: a.ops.cat(xs, dim), lambda *xs: torch.cat(xs, dim), shapes)


def stack(r: Random) -> Case:
    size = shape(r)
    dim = r.randrange(-len(size) - 1, len(size) + 1)
    return Case(lambda a, *xs: a.ops.stack(xs, dim), lambda *xs: torch.stack(xs, dim), [size, size])


def split(r: Random) -> Case:
    size, n = shape(r, 1, smallest=1), r.randint(1, 3)
    dim = r.randrange(len(size))
    # each piece by another factor, so that no piece can stand for another
    return Case(
        lambda a, x: a.ops.cat([p * (i + 1.0) for i, p in enumerate(x.split(n, dim))], dim),
        lambda x: torch.cat([p * (i + 1.0) for i, p in enumerate(x.split(n, dim))], dim),
        [size],
    )


def index(r: Random) -> Case:
    """Slices, numbers, None, ..., arrays that name a place twice, a mask."""
    size = shape(r, 2, 3, smallest=1)
    rows, columns = integers(r, (4,), size[0]), integers(r, (4,), size[1])
    chosen = r.choice(
        [
            (slice(None, None, 2), -1),
            (..., 0),
            (None, 0, slice(1, None)),
            rows,
            rows.reshape(2, 2),
            rows[:0],
            (rows, columns),
            (slice(None), columns),
            (rows, slice(None, 1)),
            (rows[:, None], columns[None, :2]),
            mask(r, size[:1]),
            mask(r, size),
        ]
    )
    theirs = tuple(map(_torch_index, chosen)) if isinstance(chosen, tuple) else _torch_index(chosen)
    return Case(lambda a, x: x[chosen], lambda x: x[theirs], [size])


def _torch_index(part):
    return torch.tensor(part) if isinstance(part, np.ndarray) else part


def gather(r: Random) -> Case:
    size = shape(r, 1, smallest=1)
    dim = r.randrange(len(size))
    where = integers(r, tuple(r.randint(0, 3) if i == dim else n for i, n in enumerate(size)), size[dim])
    return Case(lambda a, x: x.gather(dim, where), lambda x: x.gather(dim, torch.tensor(where)), [size])


def where(r: Random) -> Case:
    m = mask(r, shape(r, 2, 2))
    shapes = [m.shape, tuple(r.choice((n, 1)) for n in m.shape)]
    return Case(lambda a, x, y: a.ops.where(m, x, y), lambda x, y: torch.where(torch.tensor(m), x, y), shapes)


def masked_fill(r: Random) -> Case:
    size = shape(r)
    m = mask(r, size)
    return Case(lambda a, x: x.masked_fill(m, -3.0), lambda x: x.masked_fill(torch.tensor(m), -3.0), [size])


def clamp(r: Random) -> Case:
    low, high = r.choice([(-0.5, 0.7), (None, 0.2), (-0.1, None)])
    return Case(lambda a, x: x.clamp(low, high), lambda x: x.clamp(low, high), [shape(r)])


def power(r: Random) -> Case:
    n = r.choice([3, 2, 0.5, -1, 1, 0])
    return Case(lambda a, x: x**n, lambda x: x**n, [shape(r)], positive=True)


def cross_entropy(r: Random) -> Case:
    B, T, V = r.randint(0, 3), r.randint(0, 3), r.randint(1, 4)
    targets = np.where(mask(r, (B, T)), integers(r, (B, T), V), -100)
    targets.flat[:1] = 0  # something counts, where there is something: of nothing, torch makes NaN, and ours 0

    def theirs(x):
        loss = TF.cross_entropy(x.reshape(-1, V), torch.tensor(targets).reshape(-1), reduction="sum")
        return loss / max(1, (targets != -100).sum())

    return Case(lambda a, x: a.functional.cross_entropy(x, targets), theirs, [(B, T, V)])


def linear(r: Random) -> Case:
    n_in, n_out = shape(r, 2, 2)
    shapes = [(*shape(r, 0, 2), n_in), (n_out, n_in), (n_out,)][: r.choice((3, 2))]
    return Case(lambda a, *xs: a.functional.linear(*xs), TF.linear, shapes)


def embedding(r: Random) -> Case:
    V, C = r.randint(1, 4), r.randint(0, 3)
    where = integers(r, r.choice([(7,), (2, 3), shape(r, 0, 2)]), V)
    return Case(lambda a, w: a.functional.embedding(w, where), lambda w: TF.embedding(torch.tensor(where), w), [(V, C)])


def layer_norm(r: Random) -> Case:
    C = r.randint(2, 4)
    shapes = [(*shape(r, 0, 2), C), (C,), (C,)]
    return Case(
        lambda a, *xs: a.functional.layer_norm(*xs, eps=0.1), lambda x, w, b: TF.layer_norm(x, (C,), w, b, 0.1), shapes
    )


def fused_of_one(r: Random) -> Case:
    """A fused op that is given one tensor twice, and another one made from it."""

    def ours(a, x):
        w = x[0] * 2.0
        return a.functional.layer_norm(x, w, w, 0.1)

    return Case(ours, lambda x: TF.layer_norm(x, x.shape[1:], x[0] * 2.0, x[0] * 2.0, 0.1), [(r.randint(1, 3), 3)])


def rms_norm(r: Random) -> Case:
    C = r.randint(1, 4)
    shapes = [(*shape(r, 0, 2), C), (C,)]
    return Case(lambda a, *xs: a.functional.rms_norm(*xs, 0.1), lambda x, w: TF.rms_norm(x, (C,), w, 0.1), shapes)


def batch_norm(r: Random) -> Case:
    C, training = r.randint(1, 3), r.random() < 0.7
    # two rows at least: torch takes no variance of one
    size = (r.randint(2, 4), C, *shape(r, 0, 2, smallest=1))
    mean, var = np.linspace(-1, 1, C), np.linspace(1, 2, C)

    def ours(a, x, w, b):
        return a.functional.batch_norm(x, a.Tensor(mean.copy()), a.Tensor(var.copy()), w, b, training, eps=0.1)

    def theirs(x, w, b):
        return TF.batch_norm(x, torch.tensor(mean), torch.tensor(var), w, b, training, eps=0.1)

    return Case(ours, theirs, [size, (C,), (C,)])


def attention(r: Random) -> Case:
    B, H, T, S, D = r.randint(0, 2), r.randint(1, 2), r.randint(0, 3), r.randint(1, 3), r.randint(1, 3)
    visible = np.ones((T, S), bool).copy() if r.random() < 0.3 else np.tril(np.ones((T, S), bool))
    shapes = [(B, H, T, D), (B, H, S, D), (B, H, S, D)]

    def theirs(q, k, v):  # written out: the fused kernel has no second derivative
        scores = (q @ k.mT / math.sqrt(D)).masked_fill(~torch.tensor(visible), -math.inf)
        return scores.softmax(-1) @ v

    return Case(lambda a, q, k, v: a.functional.attention(q, k, v, visible), theirs, shapes)


def conv2d(r: Random) -> Case:
    B, C, n_out = r.randint(0, 2), r.randint(1, 2), r.randint(1, 3)
    h, w = r.randint(1, 3), r.randint(1, 3)
    stride, padding = r.choice([1, 2, (1, 2), 3]), r.choice([0, 1, (2, 0)])
    shapes = [(B, C, r.randint(3, 6), r.randint(3, 6)), (n_out, C, h, w), (n_out,)][: r.choice((3, 2))]
    return Case(
        lambda a, *xs: a.functional.conv2d(*xs, stride=stride, padding=padding),
        lambda *xs: TF.conv2d(*xs, stride=stride, padding=padding),
        shapes,
    )


def pool(name: str) -> Callable[[Random], Case]:
    def case(r: Random) -> Case:
        size, stride = r.choice([2, (2, 3), (3, 2)]), r.choice([None, 1, 2, (2, 3)])
        padding = r.choice([0, 1, (0, 1)])
        return Case(
            lambda a, x: getattr(a.functional, name)(x, size, stride, padding),
            lambda x: getattr(TF, name)(x, size, stride, padding),
            [(r.randint(1, 2), r.randint(1, 2), r.randint(3, 6), r.randint(3, 6))],
        )

    return case


CASES: dict[str, Callable[[Random], Case]] = {
    **{name: same(name) for name in ("neg", "exp", "tanh", "sigmoid", "relu", "abs", "sin", "cos")},
    **{name: same(name, positive=True) for name in ("log", "sqrt", "rsqrt")},
    "silu": same("silu", theirs=TF.silu),
    "gelu": same("gelu", theirs=lambda x: TF.gelu(x, approximate="tanh")),
    "square": lambda r: Case(lambda a, x: x.square(), torch.square, [shape(r)]),
    "min of all": lambda r: Case(lambda a, x: x.min(), torch.min, [shape(r, smallest=1)]),
    "max of all": lambda r: Case(lambda a, x: x.max(), torch.max, [shape(r, smallest=1)]),
    "sum of all": lambda r: Case(lambda a, x: x.sum(), torch.sum, [shape(r)]),
    "mean of all": lambda r: Case(lambda a, x: x.mean(), torch.mean, [shape(r, smallest=1)]),
    **{name: pair(name) for name in ("add", "sub", "mul", "maximum", "minimum")},
    **{name: pair(name, positive=True) for name in ("div", "pow")},
    "add of a number": lambda r: Case(lambda a, x: 2.0 + x - 1, lambda x: 2.0 + x - 1, [shape(r)]),
    "number over": lambda r: Case(lambda a, x: 2.0 / x + 3**x, lambda x: 2.0 / x + 3**x, [shape(r)], True),
    "a number to a number": power,
    "the same twice": lambda r: Case(lambda a, x: x * x + x, lambda x: x * x + x, [shape(r)]),
    "sum": reduction("sum"),
    "mean": reduction("mean"),
    "amax": reduction("amax"),
    "amin": reduction("amin"),
    "var": reduction("var"),
    "variance of these": reduction("var", correction=0),
    "max": along(lambda a, x, d: a.ops.max(x, d)[0], lambda x, d: x.max(d)[0], smallest=1),
    "min": along(lambda a, x, d: x.min(d)[0], lambda x, d: x.min(d)[0], smallest=1),
    "std": along(lambda a, x, d: x.std(d), torch.std, smallest=2),
    "norm": along(lambda a, x, d: x.norm(d), lambda x, d: x.norm(dim=d), smallest=1),
    "cumsum": along(lambda a, x, d: x.cumsum(d), torch.cumsum),
    "flip": along(lambda a, x, d: a.ops.flip(x, d), lambda x, d: x.flip(d)),
    "logsumexp": along(lambda a, x, d: x.logsumexp(d), torch.logsumexp, smallest=1),
    "softmax": along(lambda a, x, d: x.softmax(d), torch.softmax),
    "log_softmax": along(lambda a, x, d: x.log_softmax(d), torch.log_softmax),
    "chunk": along(lambda a, x, d: x.chunk(1, d)[0], lambda x, d: x.chunk(1, d)[0], smallest=1),
    "mse_loss": lambda r: Case(lambda a, *xs: a.functional.mse_loss(*xs), TF.mse_loss, [shape(r, smallest=1)] * 2),
    "astype": lambda r: Case(lambda a, x: x.astype(np.float64), lambda x: x.double(), [shape(r)]),
    **{
        f.__name__: f
        for f in (matmul, einsum, reshape, flatten, permute, transpose, expand, squeeze, pad, cat, stack, split, index)
    },
    **{f.__name__: f for f in (gather, where, masked_fill, clamp, cross_entropy, linear, embedding)},
    **{f.__name__: f for f in (layer_norm, fused_of_one, rms_norm, batch_norm, attention, conv2d)},
    "max_pool2d": pool("max_pool2d"),
    "avg_pool2d": pool("avg_pool2d"),
}


# --- What must hold ---


def close(what: str, got: Any, expected: torch.Tensor) -> None:
    """Equal to 1e-9 of the largest number, or of 1."""
    got, expected = np.asarray(getattr(got, "data", got)), expected.detach().numpy()
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, torch {expected.shape}"
    if expected.size:
        off = np.abs(got - expected).max() / max(1.0, np.abs(expected).max())
        assert off <= 1e-9, f"{what}: off by {off:.2g}"


def agrees(engine: Any, case: Case, r: Random) -> None:
    """Value, first derivatives (by backward and by grad) and second ones are torch's."""
    arrays = [array(r, size, case.positive) for size in case.shapes]
    xs = [engine.Tensor(x, requires_grad=True) for x in arrays]
    ts = [torch.tensor(x.copy(), requires_grad=True) for x in arrays]

    # through a curve first, so that second derivatives of linear ops are not all zero
    y, t = case.ours(engine, *(x + x * x * 0.1 for x in xs)), case.theirs(*(x + x * x * 0.1 for x in ts))
    close("value", y, t)
    w = np.random.default_rng(r.getrandbits(32)).standard_normal(y.shape)
    first = engine.grad(y, xs, w, create_graph=True)
    expected = torch.autograd.grad(t, ts, torch.tensor(w), create_graph=True)
    for i, (g, e) in enumerate(zip(first, expected, strict=True)):
        close(f"gradient of input {i}", g, e)
    y.backward(w, retain_graph=True)
    for i, (x, e) in enumerate(zip(xs, expected, strict=True)):
        close(f"gradient of input {i} by backward", x.grad, e)

    for i, (g, e) in enumerate(zip(engine.grad(y, xs, 2 * w, retain_graph=True), expected, strict=True)):
        close(f"gradient of input {i} for another gradient of the same graph", g, 2 * e)

    total = sum(((g * g).sum() for g in first), engine.Tensor(np.zeros(())))
    second = engine.grad(total, xs, allow_unused=True)
    expected = torch.autograd.grad(sum((e * e).sum() for e in expected), ts, allow_unused=True, materialize_grads=True)
    for i, (g, e) in enumerate(zip(second, expected, strict=True)):
        close(f"second derivative of input {i}", g, e)


def survives_changes(engine: Any, case: Case, r: Random) -> None:
    """An input or the result changed in place after the op: the gradient is refused, or right all the same."""
    for changed in range(len(case.shapes) + 1):
        for create_graph in (False, True):
            xs = [engine.Tensor(array(r, size, case.positive).copy(), requires_grad=True) for size in case.shapes]
            y = case.ours(engine, *xs)
            w = np.ones(y.shape)
            expected = engine.grad(y, xs, w, retain_graph=True)
            victim = [*xs, y][changed]
            if victim.data.flags.writeable:  # what was expanded is not
                with engine.no_grad():
                    victim.mul_(1.5)
            try:
                got = engine.grad(y, xs, w, create_graph=create_graph)
            except engine.AutogradError as error:
                assert "mul_" in str(error)
                continue
            for g, e in zip(got, expected, strict=True):
                close("gradient after a change", g, torch.tensor(e.data.copy()))
