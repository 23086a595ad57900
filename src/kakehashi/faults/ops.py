"""Faults of the ops of the NumPy engine."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.autograd.ops"


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Value and gradients of each op, on inputs with ties, repeated places, square and oblong axes, large numbers."""
    import numpy as np

    from kakehashi.autograd import Tensor, grad

    rng = np.random.default_rng(0)
    normal = rng.standard_normal

    def probe(name: str, op: Callable[..., Any], *arrays: Any) -> "Probe":
        def run():
            leaves = [Tensor(x, requires_grad=True) for x in arrays]
            with np.errstate(all="ignore"):  # a fault may overflow
                y = op(*leaves)
                yield ("value",), np.array(y.data)
                for i, g in enumerate(grad(y, leaves, np.random.default_rng(1).standard_normal(y.shape))):
                    yield ("grad", str(i)), np.array(g.data)

        return name, run

    square, oblong, flat = normal((3, 3)), normal((3, 4)), normal(4)
    ties = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]])
    far = np.array([[1000.0, 999.0, 1000.0], [-1000.0, -1001.0, -1002.0]])
    rows = np.array([2, 0, 2, 1])
    mask = oblong > 0

    for name in ("exp", "tanh"):
        yield probe(name, getattr(module, name), oblong)
    for name in ("add", "mul", "div"):
        yield probe(name, getattr(module, name), oblong, 1 + flat * flat)
    yield probe("where", lambda x, y: module.where(mask, x, y), oblong, flat)
    for dim in (None, 0, 1):
        yield probe(f"sum {dim}", lambda x, dim=dim: module.sum(x, dim), square)
        yield probe(f"sum of a block {dim}", lambda x, dim=dim: module.sum(x, dim), normal((2, 3, 4)))
        yield probe(f"amax {dim}", lambda x, dim=dim: module.amax(x, dim), ties)
    yield probe("cumsum", lambda x: module.cumsum(x, 1), oblong)
    yield probe("logsumexp", lambda x: module.logsumexp(x, 1), oblong)
    yield probe("logsumexp of large numbers", lambda x: module.logsumexp(x, 1), far)
    yield probe("reshape", lambda x: module.reshape(x, (4, 3)), oblong)
    yield probe("permute", lambda x: module.permute(x, (1, 2, 0)), normal((3, 3, 3)))
    yield probe("permute a block", lambda x: module.permute(x, (2, 0, 1)), normal((2, 3, 4)))
    yield probe("pad", lambda x: module.pad(x, [(1, 2), (2, 1)], 0.5), square)
    yield probe("cat", lambda x, y: module.cat([x, y], 1), square, normal((3, 3)))
    for name, index in (("rows", rows), ("slice", (slice(1, None), 0)), ("points", (rows, rows))):
        yield probe(f"getitem {name}", lambda x, index=index: module.getitem(x, index), oblong)
        given = normal(oblong[index].shape)
        yield probe(f"scatter {name}", lambda g, index=index: module.scatter(g, index, (3, 4)), given)
    yield probe("windows", lambda x: module.windows(x, (2, 3), (1, 2)), normal((5, 7)))
    yield probe("fold", lambda g: module.fold(g, (5, 5), (1, 2)), normal((4, 2, 2, 3)))
    yield probe("matmul", module.matmul, square, normal((3, 3)))
    yield probe("matmul of oblong matrices", module.matmul, normal((2, 3)), oblong)
    yield probe("matmul of a batch", module.matmul, normal((2, 3, 3)), normal((2, 3, 3)))
    yield probe("einsum", lambda x, y: module.einsum("ij,jk->ik", x, y), square, normal((3, 3)))
    yield probe("einsum of three", lambda *xs: module.einsum("ij,jk,kl->il", *xs), square, oblong, normal((4, 2)))


FAULTS = (
    Fault(
        "ops-tanh-slope-unsquared",
        "backward",
        "slope",
        MODULE,
        (Edit("tanh", "1 - y * y", "1 - y"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-factors-swapped",
        "backward",
        "slope",
        MODULE,
        (
            Edit(
                "mul",
                'record("mul", out, (x, lambda g: g * y), (y, lambda g: g * x))',
                'record("mul", out, (x, lambda g: g * x), (y, lambda g: g * y))',
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-quotient-sign",
        "backward",
        "sign",
        MODULE,
        (Edit("div", "-g * x / (y * y)", "g * x / (y * y)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-quotient-unsquared",
        "backward",
        "slope",
        MODULE,
        (Edit("div", "-g * x / (y * y)", "-g * x / y"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-where-gives-both",
        "backward",
        "place",
        MODULE,
        (
            Edit("where", "lambda g: _kept_at(mask, g)", "lambda g: g"),
            Edit("where", "lambda g: _kept_at(~mask, g)", "lambda g: g"),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-sum-divides",
        "backward",
        "denominator",
        MODULE,
        (
            Edit(
                "sum",
                "expand(reshape(g, kept), shape)",
                "expand(reshape(g, kept), shape) * (math.prod(kept) / math.prod(shape))",
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-sum-stretches-the-wrong-axis",
        "backward",
        "reduced_axis",
        MODULE,
        (
            Edit("sum", "kept = _kept(shape, dims)", ""),
            Edit("sum", "expand(reshape(g, kept), shape)", "expand(g, shape)"),
        ),
        changes=("grad",),
        level=1,
        crashes=True,
    ),
    Fault(
        "ops-amax-each-takes-all",
        "backward",
        "tie",
        MODULE,
        (Edit("amax", "(hit / hit.sum(axis=dims, keepdims=True)).astype(x.dtype)", "hit.astype(x.dtype)"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "ops-cumsum-runs-forward",
        "backward",
        "visit_order",
        MODULE,
        (Edit("cumsum", "flip(cumsum(flip(g, dim), dim), dim)", "cumsum(g, dim)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-logsumexp-overflows",
        "forward",
        "overflow",
        MODULE,
        (Edit("logsumexp", "np.where(np.isfinite(top), top, 0).astype(x.dtype)", "np.zeros_like(top)"),),
        changes=("value", "grad"),
        level=3,
    ),
    Fault(
        "ops-permute-again",
        "backward",
        "transposition",
        MODULE,
        (
            Edit("permute", "back = tuple(int(i) for i in np.argsort(order))", ""),
            Edit("permute", "permute(g, back)", "permute(g, order)"),
        ),
        changes=("grad",),
        level=2,
        crashes=True,
    ),
    Fault(
        "ops-pad-frame-shifts",
        "backward",
        "place",
        MODULE,
        (
            Edit(
                "pad",
                "inner = tuple(slice(a, a + n) for (a, _), n in zip(full, x.shape, strict=True))",
                "inner = tuple(slice(b, b + n) for (_, b), n in zip(full, x.shape, strict=True))",
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "ops-cat-stretches-from-the-start",
        "backward",
        "place",
        MODULE,
        (
            Edit("cat", "ends = list(accumulate(x.shape[dim] for x in xs))", ""),
            Edit("cat", "slice(ends[i - 1] if i else 0, ends[i])", "slice(0, xs[i].shape[dim])"),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "ops-getitem-keeps-the-last",
        "backward",
        "repeated_index",
        MODULE,
        (Edit("getitem", "scatter(g, index, shape, once)", "scatter(g, index, shape, True)"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "ops-scatter-overwrites",
        "backward",
        "accumulation",
        MODULE,
        (Edit("scatter", "_add_at(out, index, g.data)", "out[index] = g.data"),),
        changes=("value", "grad"),
        level=2,
    ),
    Fault(
        "ops-windows-stride-swapped",
        "forward",
        "axis",
        MODULE,
        (
            Edit(
                "windows",
                "$views[..., :: stride[0], :: stride[1], :, :]",
                "$views[..., :: stride[1], :: stride[0], :, :]",
            ),
        ),
        changes=("value",),
        level=1,
        crashes=True,
    ),
    Fault(
        "ops-fold-overwrites",
        "backward",
        "accumulation",
        MODULE,
        (Edit("fold", "out[..., rows, columns] += g.data[..., i, j]", "out[..., rows, columns] = g.data[..., i, j]"),),
        changes=("value", "grad"),
        level=3,
    ),
    Fault(
        "ops-matmul-untransposed",
        "backward",
        "transposition",
        MODULE,
        (Edit("matmul", "g @ y.mT", "g @ y"), Edit("matmul", "x.mT @ g", "x @ g")),
        changes=("grad",),
        level=1,
        crashes=True,
    ),
    Fault(
        "ops-matmul-order",
        "backward",
        "transposition",
        MODULE,
        (Edit("matmul", "g @ y.mT", "y.mT @ g"), Edit("matmul", "x.mT @ g", "g @ x.mT")),
        changes=("grad",),
        level=1,
        crashes=True,
    ),
    Fault(
        "ops-einsum-letters-exchanged",
        "backward",
        "chain",
        MODULE,
        (
            Edit(
                "einsum",
                "[result, *(n for j, n in enumerate(names) if j != i)]",
                "[*(n for j, n in enumerate(names) if j != i), result]",
            ),
        ),
        changes=("grad",),
        level=2,
        crashes=True,
    ),
)
