"""Checks of the walk station. Graphs are made by the package's ops; the oracle is mathematics, and PyTorch at the end.

float64 throughout, but where dtypes are the matter; no two axes are of one length, but where a mistake with axes is to
give a result that can be named.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn import functional as tf

from kakehashi.autograd import AutogradError, Tensor, functional, grad, no_grad
from kakehashi.autograd.models import GPT, GPTConfig
from kakehashi.autograd.tensor import Array, Node, mode, record, watchers
from kakehashi.autograd.walk import inputs_of, key
from kakehashi.journey import lm_checks
from kakehashi.journey.checking import Wrong, check, same
from kakehashi.journey.lm_checks import alike

EXACT = 1e-9  # float64 rounds at 1e-16
DEEP = 3_000  # far beyond what recursion reaches

Vertex = Node | Tensor


def numbers(rng: torch.Generator, *shape: int) -> Array:
    """Around 0, of visible size."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).numpy()


def leaf(rng: torch.Generator, *shape: int) -> Tensor:
    return Tensor(numbers(rng, *shape), requires_grad=True)


def is_tensor(name: str, value: Any) -> Tensor:
    """The value, if it is a tensor of the engine: an array cannot be differentiated. Raises Wrong "none", "type"."""
    if value is None:
        raise Wrong("none", name=name)
    if not isinstance(value, Tensor):
        raise Wrong("type", name=name, seen=type(value).__name__)
    return value


def suspect(name: str, mine: Any, right: Array, **mistakes: Array | None) -> None:
    """As lm_checks.suspect, of a gradient, as exact as float64."""
    given = {key: value for key, value in mistakes.items() if value is not None}
    lm_checks.suspect(name, is_tensor(name, mine), right, tol=EXACT, **given)


@contextmanager
def no_recursion(mistake: str) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise Wrong(mistake, depth=DEEP) from None


def chain() -> tuple[Tensor, Tensor]:
    """A leaf, and what is made from it DEEP ops later."""
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(DEEP):
        y = -y
    return x, y


# sum_to


@check("sum_to", 100)
def sum_to_sums_what_was_broadcast(mine, ref, rng):
    cases = [
        ((2, 3), (2, 3)),
        ((3, 3), (3,)),  # square: an axis mistaken shows as a value
        ((3, 3), (3, 1)),
        ((3, 3), (1, 3)),
        ((4, 2, 3), (2, 3)),
        ((4, 2, 3), (3,)),
        ((4, 2, 3), ()),
        ((2, 3), (1, 1)),
        ((4, 2, 3), (4, 1, 3)),
        ((4, 2, 3), (2, 1)),
        ((5, 4, 2, 3), (1, 2, 1)),
        ((1, 3), (3,)),
        ((1,), ()),
        ((), ()),
        ((0, 3), (1, 3)),
        ((0, 3), (3,)),
        ((2, 0), (2, 1)),
        ((2, 0), (2, 0)),
    ]
    for seen, shape in cases:
        g = numbers(rng, *seen)
        name = f"sum_to: {seen} to {shape}"
        new = len(seen) - len(shape)
        front, stretched = tuple(range(new)), tuple(new + i for i, n in enumerate(shape) if n == 1)
        axes = (*front, *stretched)
        result = mine.sum_to(Tensor(g.copy()), shape)
        suspect(
            name,
            result,
            g.sum(axes, keepdims=True).reshape(shape),
            sum_to_stretched=g.sum(front),
            sum_to_front=g.sum(stretched, keepdims=True),
            sum_to_axes_lost=g.sum(axes),
            sum_to_axes_kept=g.sum(axes, keepdims=True),
            sum_to_first=g[(0,) * new].reshape(-1)[: int(np.prod(shape))].reshape(shape) if g.size else None,
            sum_to_mean=g.mean(axes, keepdims=True).reshape(shape) if g.size else None,
            sum_to_wrong_axis=g.T.sum(axes, keepdims=True).reshape(shape) if seen == (3, 3) else None,
        )


@check("sum_to", 110)
def sum_to_leaves_g_as_it_is(mine, ref, rng):
    """g is another's, too; in float32 and turned in memory as well as straight."""
    for dtype in (np.float64, np.float32):
        given = numbers(rng, 3, 2, 4).astype(dtype).transpose(2, 1, 0)  # (4, 2, 3)
        g = Tensor(given.copy(order="K"))
        result = is_tensor("sum_to", mine.sum_to(g, (2, 1)))
        same("sum_to", result, given.sum((0, 2)).reshape(2, 1))
        if not np.array_equal(g.data, given):
            raise Wrong("overwrites", name="sum_to")


@check("sum_to", 120)
def sum_to_can_be_differentiated(mine, ref, rng):
    """Each number of g went into one sum: its slope is the weight of that."""
    for seen, shape in (((4, 2, 3), (2, 1)), ((4, 2, 3), (2, 3)), ((2, 3), (2, 1)), ((2, 3), (2, 3))):
        g, weights = leaf(rng, *seen), numbers(rng, *shape)
        result = mine.sum_to(g, shape)
        if not is_tensor("sum_to", result).requires_grad:
            raise Wrong("sum_to_no_trace", name=f"sum_to: {seen} to {shape}")
        (slope,) = grad((result * weights).sum(), [g])
        suspect("sum_to: the derivative of its result", slope, np.broadcast_to(weights, seen))


# uses: graphs whose vertices have names, so that a verdict can say where


def count(mine: ModuleType, root: Vertex, wanted: Any, beyond: bool) -> dict[Vertex, int]:
    """What uses gives, if it is a dict of vertices. Raises Wrong "uses_dict", "uses_key", "uses_changes_wanted"."""
    before = set(wanted or ())
    counts = mine.uses(root, wanted, beyond)
    if (after := set(wanted or ())) != before:
        raise Wrong("uses_changes_wanted", seen=len(after), expected=len(before))
    if not isinstance(counts, Mapping):
        raise Wrong("uses_dict", seen=type(counts).__name__)
    for each in counts:
        if not isinstance(each, Node | Tensor):
            raise Wrong("uses_key", seen=type(each).__name__)
    return dict(counts)


def suspect_counts(
    names: Mapping[Vertex, str], counts: dict[Vertex, int], right: dict[Vertex, int], **mistakes: dict[Vertex, int]
) -> None:
    """Raises the mistake whose counts these are, else Wrong "uses_missing", "uses_extra", "uses_count"."""
    if counts == right:
        return
    for mistake, wrong in mistakes.items():
        if counts == wrong:
            raise Wrong(mistake)
    for vertex, n in right.items():
        if vertex not in counts:
            raise Wrong("uses_missing", vertex=names[vertex], expected=n)
        if counts[vertex] != n:
            raise Wrong("uses_count", vertex=names[vertex], seen=counts[vertex], expected=n)
    raise Wrong("uses_extra", vertex=next(names.get(each, "?") for each in counts if each not in right))


@check("uses", 200)
def uses_counts_a_chain(mine, ref, rng):
    x = leaf(rng, 3)
    y = x.exp().tanh()
    a = inputs_of(key(y))[0]
    names = {key(y): "tanh", a: "exp", x: "x"}
    right = {key(y): 0, a: 1, x: 1}
    suspect_counts(
        names,
        count(mine, key(y), None, True),
        right,
        uses_without_root={a: 1, x: 1},
        uses_root={key(y): 1, a: 1, x: 1},
        uses_nodes_only={key(y): 0, a: 1},
    )
    suspect_counts(names, count(mine, key(y), {x}, True), right, uses_nodes_only={key(y): 0, a: 1})
    suspect_counts(names, count(mine, x, None, True), {x: 0}, uses_without_root={})  # a leaf leads to itself


@check("uses", 210)
def uses_counts_what_is_shared(mine, ref, rng):
    """x, its exp used twice, and what was made from both used twice again: x lies on four ways, and is sent one."""
    x = leaf(rng, 3)
    a = x.exp()
    b = a.tanh() * a
    y = b.abs() + b
    tanh, bars = inputs_of(key(b))[0], inputs_of(key(y))[0]
    names = {key(y): "add", bars: "abs", key(b): "mul", tanh: "tanh", key(a): "exp", x: "x"}
    right = {key(y): 0, bars: 1, key(b): 2, tanh: 1, key(a): 2, x: 1}
    suspect_counts(
        names,
        count(mine, key(y), None, True),
        right,
        uses_once={each: min(n, 1) for each, n in right.items()},
        uses_paths={key(y): 0, bars: 1, key(b): 2, tanh: 2, key(a): 4, x: 4},
    )


@check("uses", 220)
def uses_counts_an_input_twice(mine, ref, rng):
    x = leaf(rng, 3)
    a = x.exp()
    y = a * a
    names = {key(y): "mul", key(a): "exp", x: "x"}
    suspect_counts(
        names,
        count(mine, key(y), None, True),
        {key(y): 0, key(a): 2, x: 1},
        uses_twice={key(y): 0, key(a): 1, x: 1},
        uses_paths={key(y): 0, key(a): 2, x: 2},
    )


@check("uses", 230)
def uses_leaves_out_dead_ends(mine, ref, rng):
    """Only x is wanted: z is not, nor is the tanh, which leads to z alone."""
    x, z = leaf(rng, 3), leaf(rng, 3)
    a, c = x.exp(), z.tanh()
    y = a * c
    names = {key(y): "mul", key(a): "exp", key(c): "tanh", x: "x", z: "z"}
    everything = {key(y): 0, key(a): 1, key(c): 1, x: 1, z: 1}
    counts = count(mine, key(y), {x}, True)
    right = {key(y): 0, key(a): 1, x: 1}
    dead = {key(y): 0, key(a): 1, key(c): 1, x: 1}
    suspect_counts(names, counts, right, uses_dead_ends=everything, uses_dead_nodes=dead, uses_targets_only={x: 1})
    elsewhere = leaf(rng, 3)
    root = {key(y): 0}
    suspect_counts(names, count(mine, key(y), {elsewhere}, True), {}, uses_dead_ends=everything, uses_nothing=root)
    suspect_counts(names, count(mine, key(y), set(), True), {}, uses_no_targets=everything, uses_nothing=root)
    # a wanted vertex inside: x lies under it, and is not wanted
    inside = {key(y): 0, key(a): 1}
    suspect_counts(names, count(mine, key(y), {key(a)}, True), inside, uses_dead_ends=everything, uses_nodes_only={})


@check("uses", 240)
def uses_goes_beyond_or_not(mine, ref, rng):
    """a, made from x, is wanted, and so is x, which is used beside a as well."""
    x = leaf(rng, 3)
    a = x.exp()
    y = a * x
    names = {key(y): "mul", key(a): "exp", x: "x"}
    both = {key(y): 0, key(a): 1, x: 2}
    ends = {key(y): 0, key(a): 1, x: 1}
    wanted = {key(a), x}
    suspect_counts(names, count(mine, key(y), wanted, True), both, uses_ends=ends)
    suspect_counts(names, count(mine, key(y), wanted, False), ends, uses_beyond=both)
    suspect_counts(names, count(mine, key(y), None, False), both, uses_ends=ends)
    suspect_counts(names, count(mine, key(y), {key(y), x}, False), {key(y): 0}, uses_beyond=both)
    a.node.free()
    try:
        mine.uses(key(y), {key(a)}, False)
    except AutogradError:
        raise Wrong("uses_looks_beyond") from None


@check("uses", 250)
def uses_refuses_a_freed_graph(mine, ref, rng):
    a = leaf(rng, 3).exp()
    y = a.tanh()
    a.node.free()
    try:
        mine.uses(key(y), None, True)
    except AutogradError as error:
        if "exp" not in str(error):
            raise Wrong("uses_freed_name", seen=error) from None
        return
    except TypeError:  # None is gone through as if it were a list
        pass
    raise Wrong("uses_freed")


def ladder(rungs: int) -> Tensor:
    """The last of tensors that are the one before them added to itself: 2^rungs ways lead through them.

    Wrong "uses_opens_again" is raised when a node is opened (its inputs read) or looked up in a dict or set more than
    100 times on average. Once through the graph takes 15; once for each way, or for each node, takes far more.
    """
    count = 0

    class Counted(Node):
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            if name == "inputs":
                step()
            return super().__getattribute__(name)

        def __hash__(self) -> int:
            step()
            return id(self)

    def step() -> None:
        nonlocal count
        count += 1
        if count > 100 * rungs:
            raise Wrong("uses_opens_again", nodes=rungs, seen=count)

    y = Tensor(0.0, requires_grad=True)
    for _ in range(rungs):
        y = y + y
        assert y.node
        y.node.__class__ = Counted
    return y


@check("uses", 260)
def uses_goes_deep(mine, ref, rng):
    counts = count(mine, key(ladder(300)), None, True)
    same("uses: shares in a ladder", sum(counts.values()), 600)
    x, y = chain()
    with no_recursion("uses_recursion"):
        counts = mine.uses(key(y), None, True)
    same("uses: vertices of a chain", len(counts), DEEP + 1)
    same("uses: shares of the chain's leaf", counts[x], 1)


# shares: of one node alone


def sent(mine: ModuleType, y: Tensor, g: Tensor, create_graph: bool, *waits: Vertex) -> list[tuple[Vertex, Tensor]]:
    """What shares yields for the node that made y, as a list. Raises Wrong "shares_pairs", "shares_output"."""
    node = key(y)
    assert isinstance(node, Node)
    with mode(recording=create_graph, walking=True):
        try:
            pairs = list(mine.shares(node, g, create_graph, dict.fromkeys(waits, 1)))
        except TypeError as error:
            if "positional argument" in str(error) and "<lambda>" in str(error):
                raise Wrong("shares_output", op=node.name) from None
            raise
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], Node | Tensor)):
            raise Wrong("shares_pairs", seen=type(pair).__name__)
        is_tensor(f"the share of an input of {node.name}", pair[1])
    return pairs


def go_to(pairs: Sequence[tuple[Vertex, Tensor]], *vertices: Vertex) -> list[Tensor]:
    """The shares of these, if there are no others; they may come in any order. Raises Wrong "shares_number"."""
    if sorted(id(vertex) for vertex, _ in pairs) != sorted(map(id, vertices)):
        raise Wrong("shares_number", seen=len(pairs), expected=len(vertices))
    return [share for wanted in dict.fromkeys(vertices) for vertex, share in pairs if vertex is wanted]


@check("shares", 300)
def shares_turns_g_into_each_inputs_gradient(mine, ref, rng):
    a, b, g = leaf(rng, 2, 3), leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    to_a, to_b = go_to(sent(mine, a * b, g, False, a, b), a, b)
    suspect("the first share of a * b", to_a, g.data * b.data, shares_slope=b.data, shares_g=g.data)
    suspect("the second share of a * b", to_b, g.data * a.data, shares_slope=a.data, shares_g=g.data)
    y = a.exp()  # its gradient reads the output
    (to_a,) = go_to(sent(mine, y, g, False, a), a)
    suspect("the share of exp", to_a, g.data * y.data, shares_slope=y.data, shares_g=g.data)
    z = b.exp()
    (to_z,) = go_to(sent(mine, -z, g, False, key(z)), key(z))  # an input that was made itself
    suspect("the share of -z", to_z, -g.data)


@check("shares", 310)
def shares_are_of_their_inputs_shape(mine, ref, rng):
    a, b, g = leaf(rng, 2, 3), leaf(rng, 3), Tensor(numbers(rng, 2, 3))
    to_a, to_b = go_to(sent(mine, a + b, g, False, a, b), a, b)
    suspect("the share of a matrix", to_a, g.data)
    suspect("the share of what was broadcast", to_b, g.data.sum(0), shares_wide=g.data)


@check("shares", 320)
def shares_are_of_their_inputs_dtype(mine, ref, rng):
    a = Tensor(numbers(rng, 2, 3).astype(np.float32), requires_grad=True)
    b, g = leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    to_a, to_b = go_to(sent(mine, a * b, g, False, a, b), a, b)
    for share, x in ((to_a, a), (to_b, b)):
        if share.dtype != x.dtype:
            raise Wrong("shares_dtype", seen=share.dtype, expected=x.dtype)
    same("the share of a float32 beside a float64", to_a, (g.data * b.data).astype(np.float32))


@check("shares", 330)
def shares_of_one_input_twice(mine, ref, rng):
    x, g = leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    pairs = sent(mine, x * x, g, False, x)
    if len(pairs) == 1:
        raise Wrong("shares_merged")
    for share in go_to(pairs, x, x):
        suspect("a share of x * x", share, g.data * x.data, shares_double=2 * g.data * x.data)


@check("shares", 340)
def shares_go_to_who_waits(mine, ref, rng):
    a, b, g = leaf(rng, 2, 3), leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    fused = product(a, b)
    for create_graph in (False, True):
        for y, one, right in ((a * b, b, a.data), (fused, a, 2 * a.data * b.data), (fused, b, a.data**2)):
            pairs = sent(mine, y, g, create_graph, one)
            if len(pairs) == 2:
                raise Wrong("shares_unasked")
            (share,) = go_to(pairs, one)
            suspect("the share of the one that waits", share, g.data * right)


@check("shares", 350)
def shares_refuse_changed_values(mine, ref, rng):
    g = Tensor(numbers(rng, 2, 3))
    for make in (lambda a, b: a * b, product, lambda a, b: a.exp()):
        for create_graph in (False, True):
            a, b = leaf(rng, 2, 3), leaf(rng, 2, 3)
            y = make(a, b)
            with no_grad():
                (y if y.node.output else b).zero_()  # what the gradient reads
            try:
                sent(mine, y, g, create_graph, a)
            except AutogradError:
                continue
            raise Wrong("shares_unchecked", op=y.node.name)


@check("shares", 360)
def shares_are_shown_to_the_watchers(mine, ref, rng):
    a, b, g = leaf(rng, 2, 3), leaf(rng, 3), Tensor(numbers(rng, 2, 3))
    y = a * b
    seen = []
    watchers.append(lambda what, share, made_from, node: seen.append((what, share, made_from, node)))
    try:
        sent(mine, y, g, False, a, b)
    finally:
        watchers.pop()
    if len(seen) != 2:
        raise Wrong("shares_unwatched", seen=len(seen))
    for (what, share, made_from, node), x in zip(seen, (a, b), strict=True):
        if (what, node) != ("the gradient of mul", key(y)) or len(made_from) != 1 or made_from[0] is not g:
            raise Wrong("shares_watched", seen=f"({what!r}, share, {[each.shape for each in made_from]}, {node})")
        same("the share that a watcher is shown", share, g.data * b.data if x is a else (g.data * a.data).sum(0))


@check("shares", 370)
def shares_leave_a_trace(mine, ref, rng):
    """The share of exp is g y; its derivative to x is g y again, to g it is y."""
    for dtype in (np.float64, np.float32):
        x = Tensor(numbers(rng, 2, 3).astype(dtype), requires_grad=True)
        g, y = leaf(rng, 2, 3), x.exp()
        (share,) = go_to(sent(mine, y, g, True, x), x)
        if not share.requires_grad:
            raise Wrong("shares_no_trace", op="exp")
        to_x, to_g = grad(share.sum(), [x, g], allow_unused=True)
        if not to_x.data.any():
            raise Wrong("shares_output_cut")
        same("the derivative of exp's share to x", to_x, g.data.astype(dtype) * y.data)
        same("the derivative of exp's share to g", to_g, y.data.astype(np.float64))


@check("shares", 380)
def shares_of_a_fused_op(mine, ref, rng):
    """A product whose own gradients are arithmetic on arrays. They will do, but where they are differentiated again."""
    a, b, g = leaf(rng, 2, 3), leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    y = product(a, b)
    for create_graph in (False, True):
        to_a, to_b = go_to(sent(mine, y, g, create_graph, a, b), a, b)
        suspect("the first share of a fused op", to_a, 2 * g.data * a.data * b.data)
        suspect("the second share of a fused op", to_b, g.data * a.data**2)
        if create_graph and not to_a.requires_grad:
            raise Wrong("shares_no_trace", op=y.node.name)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a^2 b as a fused op."""
    return record(
        "fused_product",
        a.data**2 * b.data,
        (a, lambda g: Tensor(2 * g.data * a.data * b.data)),
        (b, lambda g: Tensor(g.data * a.data**2)),
        composed=lambda a, b: a * a * b,
    )


# recomposed


def made_again(mine: ModuleType, y: Tensor, g: Tensor, number: int) -> list[Tensor]:
    """The shares that recomposed gives. Raises Wrong "recomposed_changes_given", "recomposed_list", "..._number"."""
    given = y.node.composed[1]
    before = [*given]
    with mode(recording=True, walking=True):
        found = mine.recomposed(key(y), g)
    if len(given) != len(before) or any(x is not old for x, old in zip(given, before, strict=True)):
        raise Wrong("recomposed_changes_given")
    if not isinstance(found, Sequence):
        raise Wrong("recomposed_list", seen=type(found).__name__)
    if len(found) != number:
        raise Wrong("recomposed_number", seen=len(found), expected=number)
    return [is_tensor("a share of recomposed", share) for share in found]


@check("recomposed", 400)
def recomposed_gives_what_the_fused_op_gives(mine, ref, rng):
    a, b, g = leaf(rng, 2, 3), leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    to_a, to_b = made_again(mine, product(a, b), g, 2)
    right = 2 * g.data * a.data * b.data, g.data * a.data**2
    slopes = 2 * a.data * b.data, a.data**2
    suspect("the first share", to_a, right[0], recomposed_turned=right[1], recomposed_without_g=slopes[0])
    suspect("the second share", to_b, right[1], recomposed_turned=right[0], recomposed_without_g=slopes[1])


@check("recomposed", 410)
def recomposed_can_be_differentiated(mine, ref, rng):
    a, b, g = leaf(rng, 2, 3), leaf(rng, 2, 3), leaf(rng, 2, 3)
    to_a, to_b = made_again(mine, product(a, b), g, 2)
    if not to_a.requires_grad or not to_b.requires_grad:
        raise Wrong("recomposed_no_trace")
    try:
        slopes = grad((to_a + to_b).sum(), [a, b, g], allow_unused=True)
    except AutogradError as error:
        raise Wrong("recomposed_freed") from error
    if not slopes[0].data.any():
        raise Wrong("recomposed_cut")
    right = 2 * g.data * (a.data + b.data), 2 * g.data * a.data, (2 * b.data + a.data) * a.data
    for name, slope, expected in zip("abg", slopes, right, strict=True):
        suspect(f"the derivative of the shares to {name}", slope, expected)


@check("recomposed", 420)
def recomposed_leaves_out_constants(mine, ref, rng):
    """Of x, weight and bias only x and bias require a gradient."""
    x, bias, g = leaf(rng, 2, 5), leaf(rng, 5), Tensor(numbers(rng, 2, 5))
    y = functional.layer_norm(x, Tensor(numbers(rng, 5)), bias)
    try:
        shares = made_again(mine, y, g, 2)
    except KeyError:
        raise Wrong("recomposed_constants") from None
    own = [share.data for _, share in sent(ref, y, g, False, x, bias)]
    for share, right in zip(shares, own, strict=True):
        suspect("a share of layer_norm", share, right)


@check("recomposed", 430)
def recomposed_tells_places_apart(mine, ref, rng):
    """product(a, a): towards the first place it moves by 2 a a, towards the second by a^2."""
    a, g = leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    whole = 3 * g.data * a.data**2
    first, second = made_again(mine, product(a, a), g, 2)
    suspect("the first share of product(a, a)", first, whole * 2 / 3, recomposed_merged=whole)
    suspect("the second share of product(a, a)", second, whole / 3, recomposed_merged=whole)


@check("recomposed", 440)
def recomposed_ends_at_its_inputs(mine, ref, rng):
    """What lies under the inputs is not gone through: with many fused ops one above the other that would take long."""
    x, b, g = leaf(rng, 2, 3), leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3))
    a = x.exp()
    y = product(a, b)
    a.node.free()
    try:
        made_again(mine, y, g, 2)
    except AutogradError:
        raise Wrong("recomposed_beyond") from None


# walk


def go(
    mine: ModuleType,
    y: Tensor,
    g: Array | Tensor,
    targets: Sequence[Tensor] | None,
    *,
    create_graph: bool = False,
    retain_graph: bool = True,
    beyond: bool = True,
) -> dict[Vertex, Tensor]:
    """walk(...), if it is a dict of vertices; of an array it is given a copy. Raises Wrong "walk_dict", "walk_key"."""
    with mode(recording=True, walking=False):
        first = g if isinstance(g, Tensor) else Tensor(g.copy())
        found = mine.walk(y, first, targets, create_graph, retain_graph, beyond)
    if not isinstance(found, Mapping):
        raise Wrong("walk_dict", seen=type(found).__name__)
    if any(not isinstance(each, Node | Tensor) for each in found):
        raise Wrong("walk_key", seen=type(next(iter(found))).__name__)
    return dict(found)


def of(found: Mapping[Vertex, Tensor], x: Tensor, name: str) -> Tensor:
    """The gradient of a target. Raises Wrong "walk_by_tensor", "walk_missing"."""
    if key(x) in found:
        return is_tensor(f"the gradient of {name}", found[key(x)])
    raise Wrong("walk_by_tensor" if x in found else "walk_missing", name=name)


@check("walk", 500)
def walk_follows_a_chain(mine, ref, rng):
    x, w, g = leaf(rng, 2, 3), Tensor(numbers(rng, 2, 3)), numbers(rng, 2, 3)
    for asked in ("x", "a", "ax", "yxx", ""):
        a = x * w
        y = a.exp()
        to_a = g * y.data
        right = {"y": ("y", y, g), "a": ("a = x * w", a, to_a), "x": ("x", x, to_a * w.data)}
        found = go(mine, y, g, [right[each][1] for each in asked] or None)
        if asked == "ax" and x not in found and key(a) in found:
            raise Wrong("walk_ends")
        asked = asked or "x"  # the only leaf that requires a gradient
        for each in asked:
            name, tensor, gradient = right[each]
            suspect(f"the gradient of {name}", of(found, tensor, name), gradient, walk_slope=y.data * w.data)
        if len(found) > len({*asked}):
            raise Wrong("walk_extra")
    suspect("the gradient of a leaf to itself", of(go(mine, x, g, None), x, "x"), g)


@check("walk", 510)
def walk_finds_nothing(mine, ref, rng):
    x, other, g = leaf(rng, 3), leaf(rng, 3), numbers(rng, 3)
    y = x.exp()
    if go(mine, y, g, []):
        raise Wrong("walk_no_targets")
    if go(mine, y, g, [other]):
        raise Wrong("walk_unreached")


@check("walk", 520)
def walk_waits_for_all_shares(mine, ref, rng):
    """a is used by y at once, and again at the end of a longer way: its node may send on when both have arrived."""
    x, g = leaf(rng, 3), numbers(rng, 3)
    for turned in (False, True):
        a = x.exp()
        far = (a * 0.5).tanh() * 3.0
        y = far + a if turned else a + far
        near, late = g, 1.5 * g * (1 - np.tanh(0.5 * a.data) ** 2)
        gradient = of(go(mine, y, g, None), x, "x")
        suspect(
            "the gradient of x",
            gradient,
            (near + late) * a.data,
            walk_first_share=near * a.data,
            walk_overwrites=late * a.data,
            walk_every_share=(near + near + late) * a.data,
        )


@check("walk", 530)
def walk_adds_what_meets(mine, ref, rng):
    """x is sent three shares: by products with p, q and r."""
    x, g, *(p, q, r) = leaf(rng, 3), *(numbers(rng, 3) for _ in range(4))
    y = x * p + x * q + x * r
    pieces = [g * each for each in (p, q, r)]
    right = np.sum(pieces, 0)
    gradient = of(go(mine, y, g, None), x, "x")
    if any(alike(gradient, wrong, EXACT) for wrong in (*pieces, *(right - each for each in pieces))):
        raise Wrong("walk_overwrites")
    suspect("the gradient of x", gradient, right)
    found = go(mine, x * x, g, None)
    if x not in found:
        raise Wrong("walk_twice")
    suspect("the gradient of x in x * x", of(found, x, "x"), 2 * g * x.data, walk_once=g * x.data)


@check("walk", 540)
def walk_frees_the_graph(mine, ref, rng):
    x, g = leaf(rng, 3), numbers(rng, 3)
    for retain_graph, targets in ((True, None), (False, None), (False, [x])):
        a = x.exp()
        y = a.tanh() + a
        go(mine, y, g, targets, retain_graph=retain_graph)
        freed = [each.node is not None and each.node.inputs is None for each in (y, a)]
        if retain_graph and any(freed):
            raise Wrong("walk_freed")
        if not retain_graph and not all(freed):
            raise Wrong("walk_not_freed")


@check("walk", 550)
def walk_leaves_what_others_hold(mine, ref, rng):
    """A sum hands the same gradient to both its terms: adding to one in place would add to the other, and to g."""
    x, z, given = leaf(rng, 3), leaf(rng, 3), numbers(rng, 3)
    for y in ((x + z) + (x + x), x + (x + z), (z + x) + x):
        g = Tensor(given.copy())
        found = go(mine, y, g, None)
        if not np.array_equal(g.data, given):
            raise Wrong("walk_changes_g")
        if not alike(of(found, z, "z"), given, EXACT):
            raise Wrong("walk_changes_another")
        uses = ref.uses(key(y), None, True)[x]
        suspect("the gradient of x", of(found, x, "x"), uses * given)
    # an inner target's gradient goes on to its inputs as it is
    a = x + z
    y = a.reshape(3) + x
    g = Tensor(given.copy())
    found = go(mine, y, g, [a, x])
    suspect("the gradient of x", of(found, x, "x"), 2 * given)
    suspect("the gradient of x + z", of(found, a, "x + z"), given, walk_changes_another=2 * given)


@check("walk", 560)
def walk_lets_targets_lead_to_one_another(mine, ref, rng):
    x, g = leaf(rng, 3), numbers(rng, 3)
    a = x.exp()
    y = a * x
    found = go(mine, y, g, [x, a])
    whole, direct = g * (a.data + a.data * x.data), g * a.data
    suspect("the gradient of a = exp(x)", of(found, a, "a = exp(x)"), g * x.data)
    suspect("the gradient of x", of(found, x, "x"), whole, walk_ends=direct)
    found = go(mine, y, g, [x, a], beyond=False)
    suspect("the gradient of a = exp(x), beyond=False", of(found, a, "a = exp(x)"), g * x.data)
    suspect("the gradient of x, beyond=False", of(found, x, "x"), direct, walk_beyond=whole)
    a.node.free()
    try:
        go(mine, y, g, [a], beyond=False)
    except AutogradError:
        raise Wrong("walk_looks_beyond") from None


@check("walk", 570)
def walk_calls_hooks(mine, ref, rng):
    x, g = leaf(rng, 3), numbers(rng, 3)
    a = x.exp()
    y = a * 2.0 + a.tanh()
    calls = []
    complete = g * (2 + 1 - np.tanh(a.data) ** 2)

    def once(gradient: Tensor) -> None:
        calls.append(gradient.data.copy())
        away()

    away = a.register_hook(once)
    a.register_hook(lambda gradient: gradient * 10.0)
    a.register_hook(lambda gradient: gradient + 1.0)
    x.register_hook(lambda gradient: gradient * 3.0)
    found = go(mine, y, g, [a, x])
    if not calls:
        raise Wrong("walk_no_hook")
    if alike(calls[0], (complete + 1) * 10, EXACT):
        raise Wrong("walk_hook_turned")
    if len(calls) > 1 or not alike(calls[0], complete, EXACT):
        raise Wrong("walk_hook_early")
    left = complete * 10 + 1
    to_a, to_x = of(found, a, "a = exp(x)"), of(found, x, "x")
    if alike(to_x, left * a.data, EXACT):
        raise Wrong("walk_hook_target" if alike(to_a, complete, EXACT) else "walk_hook_leaf")
    suspect(
        "the gradient of x under hooks",
        to_x,
        left * a.data * 3,
        walk_hook_lost=complete * a.data,
        walk_hook_skipped=(complete + 1) * a.data * 3,
    )
    suspect("the gradient of a = exp(x) under hooks", to_a, left, walk_hook_target=complete)
    found = go(mine, y, g, None)  # the first hook has taken itself away
    suspect(
        "the gradient of x, all leaves asked for", of(found, x, "x"), left * a.data * 3, walk_hook_leaf=left * a.data
    )
    for name in ("y", "a", "x"):
        for create_graph in (False, True):
            has_three_hooks(mine, leaf(rng, 3), g, name, create_graph)
    x.register_hook(lambda gradient: Tensor(np.ones(2)))
    try:
        go(mine, y, g, None)
    except AutogradError:
        return
    raise Wrong("walk_hook_shape")


def has_three_hooks(mine: ModuleType, x: Tensor, g: Array, name: str, create_graph: bool) -> None:
    """One vertex, the root y, the node a or the leaf x, has three hooks. Raises Wrong "walk_hook_somewhere"."""
    a = x.tanh()
    y = a.exp()
    slopes = {"y": np.ones(3), "a": y.data, "x": y.data * (1 - a.data**2)}  # of y, to each
    tensor = {"y": y, "a": a, "x": x}[name]
    away = tensor.register_hook(lambda _: away())
    tensor.register_hook(lambda gradient: gradient * 10.0)
    tensor.register_hook(lambda gradient: gradient + 1.0)
    found = go(mine, y, g, [x], create_graph=create_graph)
    right = (g * slopes[name] * 10 + 1) * slopes["x"] / slopes[name]
    if not alike(of(found, x, "x"), right, EXACT):
        raise Wrong("walk_hook_somewhere", name=name, create_graph=create_graph)


@check("walk", 590)
def walk_sets_the_mode(mine, ref, rng):
    """The ops of a walk are recorded with create_graph only, and no watcher takes them for the learner's own."""
    for create_graph in (False, True):
        x, g, seen = leaf(rng, 3), numbers(rng, 3), []
        y = x * x
        watchers.append(lambda what, made, inputs, node, seen=seen: seen.append(node))
        try:
            found = go(mine, y, g, None, create_graph=create_graph)
        finally:
            watchers.pop()
        if None in seen:  # what an op made, not a gradient
            raise Wrong("walk_watched")
        if of(found, x, "x").requires_grad != create_graph:
            raise Wrong("walk_no_trace" if create_graph else "walk_trace")


@check("walk", 600)
def walk_can_be_differentiated(mine, ref, rng):
    """x is sent three shares, of which each depends on x: y = x^3 p, whose slopes are 3 x^2 p and 6 x p."""
    x, p, g = leaf(rng, 3), Tensor(numbers(rng, 3)), leaf(rng, 3)
    y = (x * p) * (x * x)
    slope = of(go(mine, y, g, [x], create_graph=True), x, "x")
    suspect("the gradient of x^3 p", slope, 3 * g.data * x.data**2 * p.data)
    if not slope.requires_grad:
        raise Wrong("walk_no_trace")
    second, to_g = grad(slope.sum(), [x, g], allow_unused=True)
    right = 6 * g.data * x.data * p.data
    if not alike(second, right, EXACT) or not alike(to_g, 3 * x.data**2 * p.data, EXACT):
        raise Wrong("walk_second")


@check("walk", 610)
def walk_goes_deep(mine, ref, rng):
    x, y = chain()
    with no_recursion("walk_recursion"):
        found = go(mine, y, Tensor(2.0), None)
    same("the gradient at the end of a deep chain", of(found, x, "x"), np.float32(2.0))


@check("walk", 620)
def walk_equals_torchs(mine, ref, rng):
    """Stays: what the other checks did not think of. First and second derivatives of fused ops in a row, broadcast."""
    arrays = [numbers(rng, 4, 3, 5), numbers(rng, 5), numbers(rng, 3, 1), numbers(rng, 4, 3, 5)]

    def compute(norm: Callable, gelu: Callable, softmax: Callable, x: Any, weight: Any, c: Any) -> Any:
        h = gelu(norm(x, weight, weight) * c) + x
        return h * softmax(h * weight, -1)

    leaves = [Tensor(each, requires_grad=True) for each in arrays[:3]]
    y = compute(functional.layer_norm, functional.gelu, functional.softmax, *leaves)
    found = go(mine, y, Tensor(arrays[3]), leaves, create_graph=True)
    own = [of(found, x, f"input {i}") for i, x in enumerate(leaves, 1)]
    total = own[0].square().sum() + own[1].square().sum() + own[2].square().sum()

    theirs = [torch.tensor(each, requires_grad=True) for each in arrays[:3]]
    norm = lambda x, weight, bias: tf.layer_norm(x, (5,), weight, bias)  # noqa: E731
    z = compute(norm, lambda x: tf.gelu(x, approximate="tanh"), torch.softmax, *theirs)
    right = torch.autograd.grad(z, theirs, torch.tensor(arrays[3]), create_graph=True)
    seconds = torch.autograd.grad(torch.stack([each.square().sum() for each in right]).sum(), theirs)

    again = go(mine, total, Tensor(np.ones(())), leaves)
    for i, x in enumerate(leaves, 1):
        suspect(f"the gradient of input {i}", own[i - 1], right[i - 1].detach().numpy())
        suspect(f"the second derivative to input {i}", of(again, x, f"input {i}"), seconds[i - 1].numpy())


# The house


@check("", 900)
def trains_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may disagree; here the learner's walk takes a whole GPT-2 downhill."""
    config = GPTConfig(vocab_size=7, block_size=5, n_layers=2, n_heads=2, n_embd=6)
    tokens = torch.randint(7, (2, 6), generator=rng).numpy()
    losses = []
    for module in (ref, mine):
        model = GPT(config, np.random.default_rng(0))
        losses.append([])
        for _ in range(3):
            loss = model(tokens[:, :-1], tokens[:, 1:]).loss
            found = go(module, loss, Tensor(np.ones_like(loss.data)), None, retain_graph=False)
            with no_grad():
                for p in model.parameters():
                    p.add_(found[p], alpha=-0.5)
            losses[-1].append(loss.item())
    for step, (right, seen) in enumerate(zip(*losses, strict=True)):
        if not abs(seen - right) <= 1e-5 * right:
            raise Wrong("house_loss", step=step, mine=seen, ref=right)


@check("", 910)
def differentiates_twice_in_the_house(mine, ref, rng):
    """Stays: as above, for second derivatives. The sum of a GPT-2's squared gradients is differentiated in turn."""
    config = GPTConfig(vocab_size=5, block_size=3, n_layers=1, n_heads=2, n_embd=4)
    tokens = torch.randint(5, (2, 4), generator=rng).numpy()
    model = GPT(config, np.random.default_rng(0))
    names, parameters = zip(*model.named_parameters(), strict=True)

    def twice(module: ModuleType) -> list[Tensor]:
        loss = model(tokens[:, :-1], tokens[:, 1:]).loss
        first = go(module, loss, np.ones_like(loss.data), parameters, create_graph=True)
        total = sum((of(first, p, name).square().sum() for name, p in zip(names, parameters, strict=True)), Tensor(0.0))
        second = go(module, total, np.ones_like(total.data), parameters)
        return [of(second, p, name) for name, p in zip(names, parameters, strict=True)]

    for name, own, right in zip(names, twice(mine), twice(ref), strict=True):
        same(f"GPT-2: the second derivative to {name}", own, right.data)
