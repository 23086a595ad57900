"""Faults of the walk back through a graph."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.autograd.walk"


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Counts, gradients and their derivatives of small graphs in which much is shared."""
    import numpy as np

    from kakehashi.autograd import AutogradError, Tensor, functional, no_grad, ops

    def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
        rng = np.random.default_rng(0)
        return [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]

    def back(y: Tensor, *targets: Tensor, leaves_only: bool = False, create_graph: bool = False) -> list[Tensor]:
        """The gradients of the sum of y under fixed weights; zeros where none arrived."""
        g = Tensor(np.random.default_rng(1).standard_normal(y.shape))
        found = module.walk(y, g, None if leaves_only else targets, create_graph, True)
        return [found.get(module.key(x), Tensor(np.zeros(x.shape))) for x in targets]

    def gradients(y: Tensor, *targets: Tensor, leaves_only: bool = False):
        for i, found in enumerate(back(y, *targets, leaves_only=leaves_only)):
            yield ("grad", str(i)), np.array(found.data)

    def counts():
        (x,) = leaves((3,))
        a = x.exp()
        y = (a * a + a.tanh()) * x
        for name, wanted in (("leaves", None), ("a", {a.node}), ("both", {a.node, x})):
            for beyond in (True, False):
                found = module.uses(y.node, wanted, beyond)
                yield ("value", name, str(beyond)), [found.get(each, -1) for each in (y.node, a.node, x)]

    def shared():
        x, p, q, r = leaves(*[(3,)] * 4)
        a = x.exp()
        y = (a * p).tanh() + a * q + a * r + a
        yield from gradients(y, x, p, a)

    def square():
        x, z = leaves((3,), (3,))
        a = x * z
        yield from gradients(a.tanh() + a * a, x, z)

    def held():
        x, z = leaves((3,), (3,))
        yield from gradients(x + (x + z), x, z, leaves_only=True)

    def broadcast(shapes: tuple[tuple[int, ...], ...]):
        x, z = leaves(*shapes)
        yield from gradients(x * z, x, z)

    def hooks():
        (x,) = leaves((3,))
        a = x.exp()
        a.register_hook(lambda g: g * 10.0)
        yield from gradients(a.tanh(), x, a)

    def changed():
        x, z = leaves((3,), (3,))
        y = x * z
        with no_grad():
            z.zero_()
        try:
            back(y, x)
        except AutogradError:
            yield ("value",), 1
        else:
            yield ("value",), 0

    def second(fused: bool):
        x, z = leaves((3, 4), (4,))
        y = functional.layer_norm(x, z, z) if fused else ops.exp(x) * (x * (x * z))
        slopes = back(y, x, z, create_graph=True)
        yield from gradients(slopes[0] * slopes[1], x, z)

    yield "counts", counts
    yield "shared", shared
    yield "square", square
    yield "held", held
    for shapes in (((3, 3), (3,)), ((3, 3), (3, 1)), ((4, 2, 3), (2, 1)), ((4, 2, 3), (3,))):
        yield f"broadcast {shapes}", lambda shapes=shapes: broadcast(shapes)
    yield "hooks", hooks
    yield "changed", changed
    yield "second", lambda: second(False)
    yield "second, fused", lambda: second(True)


FAULTS = (
    Fault(
        "walk-overwrites",
        "backward",
        "accumulation",
        MODULE,
        (Edit("walk", "sums[below] = ops.add(sums[below], share)", "sums[below] = share"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "walk-first-share",
        "backward",
        "visit_order",
        MODULE,
        (
            Edit(
                "walk",
                """
                waits[below] -= 1
                if waits[below] == 0:
                    ready.append(below)
                """,
                """
                del waits[below]
                ready.append(below)
                """,
            ),
        ),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "walk-shares-in-a-dict",
        "backward",
        "repeated_index",
        MODULE,
        (
            Edit(
                "walk",
                "shares(vertex, g, create_graph, waits)",
                "dict(shares(vertex, g, create_graph, waits)).items()",
            ),
        ),
        changes=("grad",),
        level=1,
        crashes=True,
    ),
    Fault(
        "walk-broadcast-not-summed",
        "backward",
        "broadcast",
        MODULE,
        (
            Edit(
                "shares",
                """
                for below, gradient, (shape, dtype) in zip(inputs, node.gradients, node.likes, strict=True):
                    if below in waits:
                        share = sum_to(sound(node, gradient(g, *made), shape), shape)
                        for watch in watchers:
                            watch(f"the gradient of {node.name}", share, [g], node)
                        yield below, share if share.dtype == dtype else ops.astype(share, dtype)
                """,
                """
                for below, gradient, like in zip(inputs, node.gradients, node.likes, strict=True):
                    if below in waits:
                        share = gradient(g, *made)
                        for watch in watchers:
                            watch(f"the gradient of {node.name}", share, [g], node)
                        yield below, share if share.dtype == like[1] else ops.astype(share, like[1])
                """,
            ),
        ),
        changes=("grad",),
        level=1,
        crashes=True,
    ),
    Fault(
        "walk-new-axes-only",
        "backward",
        "broadcast",
        MODULE,
        (
            Edit("sum_to", "stretched = $axes", ""),
            Edit("sum_to", "ops.reshape(ops.sum(g, $axes, keepdim=True), shape)", "ops.sum(g, tuple(range(new)))"),
        ),
        changes=("grad",),
        level=2,
        crashes=True,
    ),
    Fault(
        "walk-wrong-axis",
        "backward",
        "reduced_axis",
        MODULE,
        (
            Edit(
                "sum_to",
                "(new + i for i, n in enumerate(shape) if n == 1)",
                "(i for i, n in enumerate(shape) if n == 1)",
            ),
            Edit("sum_to", "range(new)", "range(len(shape), g.ndim)"),
            Edit("sum_to", "new = g.ndim - len(shape)", ""),
        ),
        changes=("grad",),
        level=2,
        crashes=True,
    ),
    Fault(
        "walk-mean-of-uses",
        "backward",
        "denominator",
        MODULE,
        (Edit("sum_to", "ops.sum(g, $axes, keepdim=True)", "ops.mean(g, $axes, keepdim=True)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "walk-adds-to-anothers",
        "backward",
        "accumulation",
        MODULE,
        (
            Edit("walk", "ours: set[Vertex] = set()", ""),
            Edit(
                "walk",
                """
                if below not in sums:
                    sums[below] = share
                elif below in ours:
                    sums[below].data += share.data
                else:
                    sums[below] = ops.add(sums[below], share)
                    if not create_graph:
                        ours.add(below)
                """,
                """
                if below not in sums:
                    sums[below] = share
                elif create_graph:
                    sums[below] = ops.add(sums[below], share)
                else:
                    sums[below].data += share.data
                """,
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "walk-sums-leave-no-trace",
        "backward",
        "second_derivative",
        MODULE,
        (Edit("walk", "if not create_graph:\n    ours.add(below)", "ours.add(below)"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "walk-twice-counts-once",
        "backward",
        "repeated_index",
        MODULE,
        (
            Edit(
                "uses",
                "[each for each in inputs[vertex] if each in counts]",
                "{each for each in inputs[vertex] if each in counts}",
            ),
        ),
        changes=("value", "grad"),
        level=3,
    ),
    Fault(
        "walk-ends-at-targets",
        "backward",
        "forgotten_path",
        MODULE,
        (Edit("uses", "not beyond and is_wanted(vertex, wanted)", "is_wanted(vertex, wanted)"),),
        changes=("value", "grad"),
        level=2,
    ),
    Fault(
        "walk-hook-lost",
        "backward",
        "chain",
        MODULE,
        (Edit("walk", "g = hooked(hook, g)", "hooked(hook, g)"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "walk-unchecked",
        "backward",
        "saved_value",
        MODULE,
        (Edit("shares", "node.check()", ""),),
        changes=("value",),
        level=3,
    ),
    Fault(
        "walk-fused-as-it-is",
        "backward",
        "second_derivative",
        MODULE,
        (
            Edit(
                "shares",
                """
                if create_graph and node.composed:
                    for below, share in zip(inputs, recomposed(node, g), strict=True):
                        if below in waits:
                            yield below, share
                    return
                """,
                "",
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "walk-no-stand-ins",
        "backward",
        "repeated_index",
        MODULE,
        (Edit("recomposed", "[ops.identity(x) for x in given]", "given"),),
        changes=("grad",),
        level=3,
    ),
)
