"""Checks of the ops station: what each op makes, what it sends back, and whether that can be differentiated in turn.

The first trial of an op has axes of one length, so that a mistake with axes gives a result that can be named; in the
others no two are of one length, some are 0 or 1, and memory lies straight, with holes or turned.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

from kakehashi.autograd import AutogradError, ShapeError, Tensor, functional, grad, models, no_grad, ops
from kakehashi.autograd.tensor import Array
from kakehashi.autograd.walk import output_of
from kakehashi.journey import stations
from kakehashi.journey.checking import TOLERANCE, Wrong, check, same
from kakehashi.journey.lm_checks import alike, suspect

EXACT = 1e-9  # float64 rounds at 1e-16

Known = Mapping[str, Callable[..., Array]]  # key of a text -> what that mistake gives


# One op, tried


@dataclass(frozen=True)
class Case:
    """A call of an op: the arrays that are differentiated, and what it is given before and after them."""

    op: str
    arrays: tuple[Array, ...]
    before: tuple = ()
    after: tuple = ()
    listed: bool = False  # the tensors are given as one list

    def __str__(self) -> str:
        """The call with shapes in the place of arrays: "sum((2, 3), 1, True)"."""
        shapes = [str(x.shape) for x in self.arrays]
        given = [f"[{', '.join(shapes)}]"] if self.listed else shapes
        return f"{self.op}({', '.join([*map(short, self.before), *given, *map(short, self.after)])})"

    def leaves(self) -> list[Tensor]:
        return [Tensor(x, requires_grad=True) for x in self.arrays]

    def call(self, module: ModuleType, leaves: Sequence[Tensor]) -> Tensor:
        return getattr(module, self.op)(*self.before, *([list(leaves)] if self.listed else leaves), *self.after)


def short(value: Any) -> str:
    """An argument in few words."""
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))}{',' * (len(value) == 1)})"
    if isinstance(value, slice):
        return ":".join("" if each is None else str(each) for each in (value.start, value.stop, value.step))
    if isinstance(value, np.ndarray | Tensor):
        return f"{value.dtype} {value.shape}"
    return "..." if value is Ellipsis else repr(value)


@contextmanager
def barred(name: str) -> Iterator[None]:
    """Inside, the package's own op of this name refuses: a method of Tensor would lead to it, and be the answer."""

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise Wrong("op_borrowed", name=name)

    right = getattr(ops, name)
    setattr(ops, name, refuse)
    try:
        yield
    finally:
        setattr(ops, name, right)


def made(mine: ModuleType, case: Case, leaves: Sequence[Tensor]) -> Tensor:
    """What the learner's op makes. Raises Wrong "op_borrowed", "overwrites", "op_array", "op_forgets"."""
    before = [x.data.copy() for x in leaves]
    with barred(case.op), np.errstate(all="ignore"):  # what is not finite is judged, not warned of
        y = case.call(mine, leaves)
    if not all(np.array_equal(x.data, old, equal_nan=True) for x, old in zip(leaves, before, strict=True)):
        raise Wrong("overwrites", name=case.op)
    if not isinstance(y, Tensor):
        raise Wrong("op_array", name=case.op, seen=type(y).__name__)
    if y.node is None and not any(y is x for x in leaves):
        raise Wrong("op_forgets", name=case.op)
    return y


def trial(mine: ModuleType, ref: ModuleType, case: Case, *slopes: Known, value: Known = MappingProxyType({})) -> None:
    """The learner's op beside the reference's: value, gradients, gradients of these, changes in place, views.

    slopes: for each input what known mistakes give in the place of its gradient, of (w, *arrays), w being the gradient
    of the result; value: what they give in the place of the result, of the arrays.
    """
    tol = TOLERANCE if case.arrays[0].dtype == np.float32 else EXACT
    leaves, theirs = case.leaves(), case.leaves()
    y, right = made(mine, case, leaves), case.call(ref, theirs)
    suspect(str(case), y, right.data, tol=tol, **{key: np.array(wrong(*case.arrays)) for key, wrong in value.items()})
    says_what_it_shares(case, y, leaves)
    sends_tensors(case, y)

    w = Tensor(np.random.default_rng(0).standard_normal(right.shape).astype(right.dtype), requires_grad=True)
    first = grad(right, theirs, w, create_graph=True)
    evenly = grad(right, theirs, np.ones_like(right.data), retain_graph=True)
    for i, (g, e) in enumerate(zip(gradients(case, y, leaves, w), first, strict=True)):
        known = slopes[i] if i < len(slopes) else {}
        mistakes = {key: np.array(wrong(w.data, *case.arrays)) for key, wrong in known.items()}
        mistakes |= {"op_sign": -e.data, "op_g_unused": evenly[i].data}
        if len(first) == 2 and first[1 - i].shape == e.shape:
            mistakes |= {"op_swapped": first[1 - i].data}
        suspect(f"{case}: d/d input {i + 1}", g, e.data, tol=tol, **mistakes)

    bears_changes(mine, case, w, first, tol)
    leaves_a_trace(case, y, leaves, first, theirs, w, tol)


def sends_tensors(case: Case, y: Tensor) -> None:
    """Each gradient takes what record gives it, and makes a tensor that fits.

    Raises Wrong "op_output_missing", "op_output_unasked", "op_gradient_type", "op_gradient_shape", "backward".
    """
    if y.node is None:
        return
    given = (Tensor(np.ones_like(y.data)), *([output_of(y.node)] if y.node.output else []))
    for gradient, (shape, _) in zip(y.node.gradients, y.node.likes, strict=True):
        try:
            inspect.signature(gradient).bind(*given)
        except TypeError:
            raise Wrong("op_output_unasked" if y.node.output else "op_output_missing", name=case.op) from None
        try:
            share = gradient(*given)
        except Exception as error:
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            raise Wrong(BROKEN.get(case.op, "backward"), name=str(case), error=words) from error
        if not isinstance(share, Tensor):
            raise Wrong("op_gradient_type", name=case.op, seen=type(share).__name__)
        if not reaches(share.shape, shape):
            key = BROKEN.get(case.op, "op_gradient_shape")
            raise Wrong(key, name=str(case), seen=share.shape, expected=shape)


# ops whose gradient breaks, or is of another shape, in one way above all
BROKEN = {
    "sum": "sum_axis",
    "reshape": "reshape_back",
    "permute": "permute_again",
    "pad": "pad_frame",
    "cat": "cat_stretch",
    "matmul": "matmul_axes",
    "einsum": "einsum_letters",
}


def reaches(wide: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Can a gradient be summed back to this shape?"""
    with suppress(ValueError):
        return np.broadcast_shapes(wide, shape) == wide
    return False


def gradients(
    case: Case, y: Tensor, leaves: Sequence[Tensor], w: Tensor, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """The gradient of each leaf. Raises Wrong "no_gradient"."""
    for i, x in enumerate(leaves, 1):
        if not leads_to(y, x):
            raise Wrong("no_gradient", name=case.op, source=f"input {i}")
    return grad(y, leaves, w, create_graph=create_graph, retain_graph=True)


def leads_to(y: Tensor, x: Tensor) -> bool:
    """Was y made from the leaf x?"""
    below: list[Any] = [y.node or y]
    while below:
        node = below.pop()
        if node is x:
            return True
        below += [] if isinstance(node, Tensor) else node.inputs
    return False


def leaves_a_trace(
    case: Case,
    y: Tensor,
    leaves: Sequence[Tensor],
    first: Sequence[Tensor],
    theirs: Sequence[Tensor],
    w: Tensor,
    tol: float,
) -> None:
    """The gradients can be differentiated in turn: to the inputs, and to the gradient they came from.

    Raises Wrong "op_constant".
    """
    weights = [Tensor(np.linspace(1, 2, g.numel(), dtype=g.dtype).reshape(g.shape)) for g in first]

    def second(gradients: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        total = Tensor(np.zeros((), w.dtype))
        for g, weight in zip(gradients, weights, strict=True):
            total = total + (g * weight).sum()
        if not total.requires_grad:
            raise Wrong("op_constant", name=case.op)
        return grad(total, [*inputs, w], allow_unused=True)

    own = second(gradients(case, y, leaves, w, create_graph=True), leaves)
    for g, e in zip(own, second(first, theirs), strict=True):
        if not alike(g, e.data, tol):
            raise Wrong("op_constant", name=case.op)


def bears_changes(mine: ModuleType, case: Case, w: Tensor, first: Sequence[Tensor], tol: float) -> None:
    """After a change in place of an input or the result, a gradient is refused or right. Raises Wrong "op_changed"."""
    for i in range(len(first) + 1):
        leaves = [Tensor(x.copy(), requires_grad=True) for x in case.arrays]
        y = made(mine, case, leaves)
        victim = [*leaves, y][i]
        if not victim.data.flags.writeable:  # overlapping windows are not
            continue
        with no_grad():
            victim.mul_(1.5)
        with suppress(AutogradError):
            for g, e in zip(gradients(case, y, leaves, w), first, strict=True):
                if not alike(g, e.data, tol):
                    raise Wrong("op_changed", name=case.op)


def says_what_it_shares(case: Case, y: Tensor, leaves: Sequence[Tensor]) -> None:
    """A result in an input's memory is said to be a view, and no other is. Raises Wrong "op_view_*"."""
    for x in leaves:
        shares, said = np.may_share_memory(x.data, y.data), y.version is x.version
        if y.numel() and shares != said:
            raise Wrong("op_view_unsaid" if shares else "op_view_false", name=str(case))


def names_the_shapes(mine: ModuleType, case: Case, composed: bool = False) -> None:
    """Shapes that do not fit are a ShapeError that says op and shapes. Raises Wrong "op_error_*".

    composed: of an op that may be made of others it is enough to say the shapes.
    """
    try:
        made(mine, case, case.leaves())
    except ShapeError as error:
        for each in (*(() if composed else (case.op,)), *(str(x.shape) for x in case.arrays)):
            if each not in str(error):
                raise Wrong("op_error_words", name=str(case), seen=str(error), missing=each) from error
    except Wrong:
        raise
    except Exception as error:
        raise Wrong("op_error_kind", name=str(case), seen=type(error).__name__) from error
    else:
        raise Wrong("op_error_none", name=str(case))


# Numbers


def draw(rng: torch.Generator, *size: int) -> Array:
    return torch.randn(size, generator=rng, dtype=torch.float64).numpy()


def apart(rng: torch.Generator, *size: int) -> Array:
    """Of either sign, 0.5 to 2 away from 0: to be divided by."""
    sign = 2 * torch.randint(2, size, generator=rng) - 1
    return (sign * (0.5 + 1.5 * torch.rand(size, generator=rng, dtype=torch.float64))).numpy()


def holes(x: Array) -> Array:
    """The same numbers, every second in memory."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


LAYOUTS = (np.asfortranarray, holes, lambda x: np.flip(np.flip(x).copy()), np.ascontiguousarray)


def everywhere(mine, ref, rng, op, *cases, before=(), listed=False, numbers=draw):
    """Trials of an op. Each case: the inputs' shapes, and what comes after them; layouts and dtypes take turns."""
    for i, (sizes, *after) in enumerate(cases):
        arrays = [numbers(rng, *size).astype((np.float32, np.float64, np.float64)[i % 3]) for size in sizes]
        laid = tuple(LAYOUTS[i % 4](x) if x.ndim else x for x in arrays)
        trial(mine, ref, Case(op, laid, before, tuple(after), listed))


def takes_numbers(mine, ref, rng, op):
    """A plain number on either side leaves the other's dtype. Raises Wrong "op_number"."""
    for dtype in (np.float32, np.float64):
        x = apart(rng, 2, 3).astype(dtype)
        zero = () if op == "div" else (Case(op, (x,), after=(0,)),)
        for case in (Case(op, (x,), after=(3,)), Case(op, (x,), before=(0.5,)), Case(op, (x,), before=(0,)), *zero):
            y = made(mine, case, case.leaves())
            if y.dtype != dtype:
                raise Wrong("op_number", name=str(case), seen=y.dtype, expected=np.dtype(dtype))
            trial(mine, ref, case)


def takes_arrays(mine, ref, rng, op):
    """An array on either side, and tensors of two dtypes: the result has the wider one."""
    x, y = apart(rng, 3, 3), apart(rng, 3, 3)
    for case in (Case(op, (x,), after=(y,)), Case(op, (x,), before=(y,)), Case(op, (x.astype(np.float32), y))):
        trial(mine, ref, case)


def used_twice(mine, ref, rng, op, *before):
    """op(x, x): the gradient is the sum over both places."""
    x = Tensor(apart(rng, 3, 3), requires_grad=True)
    case = Case(op, (x.data, x.data), before)
    y = made(mine, case, [x, x])
    sends_tensors(case, y)
    w = draw(rng, *y.shape)
    own, right = grad(y, [x], w)[0], grad(case.call(ref, [x, x]), [x], w)[0]
    same(f"{op}(x, x): d/d input 1", own, right.data, tol=EXACT)


# One number in, one number out

ONE = [[(2, 3, 4)], [(5,)], [()], [(0, 3)], [(1, 1)], [(3, 2)]]


@check("exp", 100)
def exp_is_its_own_slope(mine, ref, rng):
    case = Case("exp", (draw(rng, 3, 4),))
    slopes = {
        "exp_slope_lost": lambda w, x: w,
        "exp_of_input": lambda w, x: w * x,
        "exp_power_rule": lambda w, x: w * x * np.exp(x - 1),
    }
    trial(mine, ref, case, slopes, value={"exp_base": lambda x: 2**x})
    everywhere(mine, ref, rng, "exp", *([size] for size in ONE))
    for far in (500.0, -30.0):
        trial(mine, ref, Case("exp", (np.array([far]),)))


@check("tanh", 110)
def tanh_flattens_out(mine, ref, rng):
    case = Case("tanh", (draw(rng, 3, 4),))
    slopes = {
        "tanh_unsquared": lambda w, x: w * (1 - np.tanh(x)),
        "tanh_of_input": lambda w, x: w * (1 - x * x),
        "tanh_plus": lambda w, x: w * (1 + np.tanh(x) ** 2),
        "tanh_slope_lost": lambda w, x: w,
    }
    trial(mine, ref, case, slopes)
    everywhere(mine, ref, rng, "tanh", *([size] for size in ONE))


@check("tanh", 120)
def tanh_survives_large_numbers(mine, ref, rng):
    x = Tensor(np.array([-1e4, -30.0, 0.0, 30.0, 1e4]), requires_grad=True)
    y, w = made(mine, Case("tanh", (x.data,)), [x]), np.ones(5)
    slope = grad(y, [x], w)[0]
    for name, value in (("tanh", y), ("tanh: d/d input 1", slope)):
        if not np.isfinite(value.data).all():
            raise Wrong("tanh_overflow", name=name)
    same("tanh", y, np.tanh(x.data), tol=EXACT)


# Two in, broadcast

TWO = [
    [[(2, 3, 4), (2, 3, 4)]],
    [[(2, 3), (3,)]],
    [[(2, 1, 4), (3, 1)]],
    [[(), (2, 3)]],
    [[(0, 3), (1, 3)]],
    [[(1,), (1, 1)]],
    [[(4, 1), (1, 5)]],
]


@check("add", 200)
def add_hands_on(mine, ref, rng):
    case = Case("add", (draw(rng, 3, 4), draw(rng, 3, 4)))
    to_x = {"add_scaled": lambda w, x, y: w * y}
    to_y = {"add_scaled": lambda w, x, y: w * x}
    trial(mine, ref, case, to_x, to_y)
    everywhere(mine, ref, rng, "add", *TWO)
    used_twice(mine, ref, rng, "add")


@check("add", 210)
def add_takes_what_it_is_given(mine, ref, rng):
    takes_numbers(mine, ref, rng, "add")
    takes_arrays(mine, ref, rng, "add")


@check("add", 220)
def add_names_the_shapes(mine, ref, rng):
    names_the_shapes(mine, Case("add", (draw(rng, 2, 3), draw(rng, 2, 4))))


@check("mul", 230)
def mul_scales_by_the_other(mine, ref, rng):
    case = Case("mul", (draw(rng, 3, 4), draw(rng, 3, 4)))
    to_x = {"mul_own": lambda w, x, y: w * x, "mul_whole": lambda w, x, y: w}
    to_y = {"mul_own": lambda w, x, y: w * y, "mul_whole": lambda w, x, y: w}
    trial(mine, ref, case, to_x, to_y)
    everywhere(mine, ref, rng, "mul", *TWO)
    used_twice(mine, ref, rng, "mul")


@check("mul", 240)
def mul_takes_what_it_is_given(mine, ref, rng):
    takes_numbers(mine, ref, rng, "mul")
    takes_arrays(mine, ref, rng, "mul")
    names_the_shapes(mine, Case("mul", (draw(rng, 2, 3), draw(rng, 2, 4))))


@check("div", 250)
def div_follows_the_quotient_rule(mine, ref, rng):
    case = Case("div", (draw(rng, 3, 4), apart(rng, 3, 4)))
    to_x = {"div_numerator": lambda w, x, y: w, "div_times": lambda w, x, y: w * y}
    to_y = {
        "div_sign": lambda w, x, y: w * x / (y * y),
        "div_square": lambda w, x, y: -w * x / y,
        "div_x_lost": lambda w, x, y: -w / (y * y),
    }
    trial(mine, ref, case, to_x, to_y, value={"div_floor": lambda x, y: x // y})
    everywhere(mine, ref, rng, "div", *TWO, numbers=apart)


@check("div", 260)
def div_takes_what_it_is_given(mine, ref, rng):
    takes_numbers(mine, ref, rng, "div")
    takes_arrays(mine, ref, rng, "div")
    names_the_shapes(mine, Case("div", (draw(rng, 2, 3), draw(rng, 2, 4))), composed=True)


@check("where", 270)
def where_gives_to_whom_it_took_from(mine, ref, rng):
    mask = np.array([[True, False, True, True], [False, False, True, False], [True, False, False, True]])
    case = Case("where", (draw(rng, 3, 4), draw(rng, 3, 4)), before=(mask,))
    to_x = {"where_both": lambda w, x, y: w}
    to_y = {"where_both": lambda w, x, y: w}
    trial(mine, ref, case, to_x, to_y, value={"where_inverted": lambda x, y: np.where(mask, y, x)})
    sizes = [[[(3, 4), (4,)]], [[(3, 1), ()]], [[(2, 3, 4), (3, 4)]], [[(1,), (1, 1, 1)]]]
    everywhere(mine, ref, rng, "where", *sizes, before=(mask,))
    everywhere(mine, ref, rng, "where", *sizes[:2], before=(Tensor(mask),))
    everywhere(mine, ref, rng, "where", [[(0, 4), (4,)]], before=(mask[:0],))
    x, y = draw(rng, 3, 4), draw(rng, 3, 4)
    x[~mask], y[mask] = (np.inf, -np.inf, np.nan) * 2, (-np.inf, np.nan, np.inf) * 2
    for case in (
        Case("where", (x, y), (mask,)),
        Case("where", (y,), (mask, 0.5)),
        Case("where", (x,), (mask,), (0.5,)),
    ):
        if np.isnan(made(mine, case, case.leaves()).data).any():
            raise Wrong("where_spills", name=str(case))
        trial(mine, ref, case)
    names_the_shapes(mine, Case("where", (draw(rng, 2, 4), draw(rng, 3, 4)), (mask,)), composed=True)


@check("where", 280)
def where_keeps_its_mask(mine, ref, rng):
    mask, w = np.array([True, False, True]), draw(rng, 3)
    case = Case("where", (draw(rng, 3), draw(rng, 3)), before=(mask,))
    leaves = case.leaves()
    y = made(mine, case, leaves)
    right = [w * mask, w * ~mask]
    mask[:] = ~mask  # the next batch, in the same memory
    for g, e in zip(gradients(case, y, leaves, Tensor(w)), right, strict=True):
        if not alike(g, e, EXACT):
            raise Wrong("op_reused", name="where", what="mask")


# Many in, one out


def stretched(w: Array, dim: int, n: int) -> Array:
    """w with a new axis of n equal slices."""
    return np.expand_dims(w, dim).repeat(n, dim)


@check("sum", 300)
def sum_gives_each_term_the_whole(mine, ref, rng):
    for dim in (1, 0):
        case = Case("sum", (draw(rng, 3, 3),), after=(dim,))
        slopes = {
            "sum_divided": lambda w, _, dim=dim: stretched(w, dim, 3) / 3,
            "sum_axis": lambda w, _, dim=dim: stretched(w, 1 - dim, 3),
        }
        value = {
            "sum_mean": lambda x, dim=dim: x.mean(dim),
            "sum_other_axis": lambda x, dim=dim: x.sum(1 - dim),
            "sum_of_all": lambda x: x.sum(),
        }
        trial(mine, ref, case, slopes, value=value)
    everywhere(
        mine,
        ref,
        rng,
        "sum",
        *([[(2, 3, 4)], *after] for after in ((), (1,), (-1,), (1, True), (None, True), ((0, 2),), ((2, 0), True))),
        [[(2, 3, 4)], (-1, -2)],
        *([[(2, 3, 0)], *after] for after in ((2,), (0, True), ())),
        [[()]],
        [[(1, 1)], 0],
    )


@check("amax", 310)
def amax_shares_among_equals(mine, ref, rng):
    x = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-5.0, -7.0, -6.0, -8.0]])  # ties, and all below 0
    hit = x == x.max(1, keepdims=True)
    case = Case("amax", (x,), after=(1,))
    slopes = {
        "amax_everyone": lambda w, x: stretched(w, 1, 4),
        "amax_whole": lambda w, x: w[:, None] * hit,
        "amax_first": lambda w, x: w[:, None] * np.eye(4)[x.argmax(1)],
        "amax_last": lambda w, x: w[:, None] * np.eye(4)[3 - x[:, ::-1].argmax(1)],
    }
    trial(mine, ref, case, slopes)
    tied = torch.randint(3, (2, 3, 4), generator=rng).double().numpy()
    for after in ((), (1,), (-1, True), ((0, 2),), ((2, 1), True)):
        trial(mine, ref, Case("amax", (tied,), after=after))
    cases = [[[(2, 3, 4)], *after] for after in ((), (1,), (-1, True), (None, True), ((0, 2),))]
    everywhere(mine, ref, rng, "amax", *cases, [[(1, 1)], 0], [[(0, 3)], 1])
    near = Case("amax", (np.array([[1.0, 1.0 + 1e-9, 1.0 - 1e-9]]),), after=(1,))
    trial(mine, ref, near, {"amax_nearly": lambda w, x: stretched(w, 1, 3) / 3})


@check("cumsum", 320)
def cumsum_runs_back(mine, ref, rng):
    case = Case("cumsum", (draw(rng, 3, 3),), after=(0,))
    slopes = {
        "cumsum_forward": lambda w, x: w.cumsum(0),
        "cumsum_alone": lambda w, x: w,
        "cumsum_total": lambda w, x: stretched(w.sum(0), 0, 3),
        "cumsum_late": lambda w, x: w[::-1].cumsum(0)[::-1] - w,
        "cumsum_unflipped": lambda w, x: w[::-1].cumsum(0),
        "cumsum_axis": lambda w, x: w[:, ::-1].cumsum(1)[:, ::-1],
    }
    value = {"cumsum_axis": lambda x: x.cumsum(1), "cumsum_flat": lambda x: x.cumsum()}
    trial(mine, ref, case, slopes, value=value)
    everywhere(mine, ref, rng, "cumsum", *([[(2, 3, 4)], dim] for dim in (0, 1, 2, -1, -2)), [[(3, 0)], 0], [[(1,)], 0])


@check("logsumexp", 330)
def logsumexp_is_a_soft_maximum(mine, ref, rng):
    def soft(x):
        return np.exp(x) / np.exp(x).sum(1, keepdims=True)

    def largest(x):
        return x == x.max(1, keepdims=True)

    case = Case("logsumexp", (draw(rng, 3, 4),), after=(1,))
    slopes = {
        "lse_unnormalised": lambda w, x: w[:, None] * np.exp(x),
        "lse_top_learns": lambda w, x: w[:, None] * (soft(x) + largest(x)),
        "lse_top_unlearns": lambda w, x: w[:, None] * (soft(x) - largest(x)),
    }
    value = {
        "lse_top_lost": lambda x: np.log(np.exp(x - x.max(1, keepdims=True)).sum(1)),
        "lse_log_lost": lambda x: np.exp(x).sum(1),
        "lse_mean": lambda x: np.log(np.exp(x).mean(1)),
    }
    trial(mine, ref, case, slopes, value=value)
    cases = [[[(2, 3, 4)], *after] for after in ((), (1,), (-1, True), (0, True), (-2,))]
    everywhere(mine, ref, rng, "logsumexp", *cases, [[(0, 3)], 1], [[(1,)], 0], [[(1, 3)], 1])


@check("logsumexp", 340)
def logsumexp_overflows_nowhere(mine, ref, rng):
    x = np.array([[1000.0, 1000.0, 999.0], [-1000.0, -1001.0, -np.inf], [1e4, -1e4, 0.0], [-np.inf] * 3])
    leaf = Tensor(x, requires_grad=True)
    y = made(mine, Case("logsumexp", (x,)), [leaf])
    with np.errstate(all="ignore"):
        slope = grad(y, [leaf], np.ones(4))[0]
    for name, value in (("logsumexp", y), ("logsumexp: d/d input 1", slope)):
        if len(lost := value.data[:3][~np.isfinite(value.data[:3])]):
            raise Wrong("lse_overflow", name=name, seen=lost[0])
    if np.isnan(y.data[3]):
        raise Wrong("lse_of_nothing")
    same("logsumexp", y, np.logaddexp.reduce(x, axis=1), tol=EXACT)


# The same numbers in another shape


@check("reshape", 400)
def reshape_keeps_the_order(mine, ref, rng):
    case = Case("reshape", (draw(rng, 2, 3),), after=((3, 2),))
    slopes = {"reshape_order": lambda w, x: w.reshape((2, 3), order="F"), "reshape_turned": lambda w, x: w.T}
    value = {"reshape_order": lambda x: x.reshape((3, 2), order="F"), "reshape_turned": lambda x: x.T}
    trial(mine, ref, case, slopes, value=value)
    cases = (
        [[(2, 3, 4)], (4, 3, 2)],  # turned in memory: a copy
        [[(2, 3, 4)], (-1, 4)],
        [[(1, 2, 3)], (2, 3, 1)],
        [[()], (1, 1)],
        [[(0, 3)], (3, 0)],
    )
    everywhere(mine, ref, rng, "reshape", *cases)


@check("permute", 410)
def permute_goes_back(mine, ref, rng):
    case = Case("permute", (draw(rng, 3, 3, 3),), after=((1, 2, 0),))
    slopes = {"permute_again": lambda w, x: w.transpose(1, 2, 0), "permute_lost": lambda w, x: w}
    value = {"permute_inverse": lambda x: x.transpose(2, 0, 1), "permute_all": lambda x: x.T}
    trial(mine, ref, case, slopes, value=value)
    cases = [[(2, 3, 4)], (2, 0, 1)], [[(2, 3, 4)], (0, -1, 1)], [[(2, 3)], [1, 0]], [[(2, 0, 1, 3)], (3, 1, 0, 2)]
    everywhere(mine, ref, rng, "permute", *cases, [[(1,)], (0,)])


@check("pad", 420)
def pad_frames(mine, ref, rng):
    widths = [(1, 2), (2, 0)]

    def framed(x, widths, value=0.5):
        return np.pad(x, widths, constant_values=value)

    case = Case("pad", (draw(rng, 3, 3),), after=(widths, 0.5))
    slopes = {"pad_frame": lambda w, x: w[:3, :3], "pad_behind": lambda w, x: w[2:5, :3]}
    value = {
        "pad_value": lambda x: framed(x, widths, 0.0),
        "pad_sides": lambda x: framed(x, [(2, 1), (0, 2)]),
        "pad_axes": lambda x: framed(x, widths[::-1]),
    }
    trial(mine, ref, case, slopes, value=value)
    cases = (
        [[(2, 3, 4)], [(1, 0), (0, 2)]],
        [[(2, 3)], [(2, 1)], -np.inf],
        [[(0, 1)], [(1, 1), (0, 1)]],
        [[(4,)], [(0, 0)]],
    )
    everywhere(mine, ref, rng, "pad", *cases)


@check("cat", 430)
def cat_gives_each_its_stretch(mine, ref, rng):
    case = Case("cat", (draw(rng, 2, 2), draw(rng, 2, 2)), after=(1,), listed=True)
    to_x = {"cat_stretch": lambda w, x, y: w[:, 2:]}
    to_y = {"cat_stretch": lambda w, x, y: w[:, :2]}
    value = {"cat_axis": lambda x, y: np.concatenate([x, y], 0), "cat_order": lambda x, y: np.hstack([y, x])}
    trial(mine, ref, case, to_x, to_y, value=value)
    cases = (
        [[(2, 3), (2, 4), (2, 1)], 1],
        [[(2, 3), (4, 3)]],
        [[(2, 3, 1), (2, 3, 2), (2, 3, 0)], -1],
        [[(2, 3), (2, 3)], -2],
        [[(3,)], 0],
    )
    everywhere(mine, ref, rng, "cat", *cases, listed=True)
    x = Tensor(draw(rng, 2, 3), requires_grad=True)
    w = draw(rng, 4, 3)
    same("cat([x, x]): d/d input 1", grad(mine.cat([x, x]), [x], w)[0], w[:2] + w[2:], tol=EXACT)


@check("cat", 440)
def cat_names_the_shapes(mine, ref, rng):
    names_the_shapes(mine, Case("cat", (draw(rng, 2, 3), draw(rng, 4, 5)), after=(1,), listed=True))


# Some of the numbers


def placed(index: Any, g: Array, shape: tuple[int, ...]) -> Array:
    """Zeros with g written, not added, at index."""
    out = np.zeros(shape)
    out[index] = g
    return out


ROWS, COLUMNS = np.array([2, 0, 2, -1]), np.array([1, 3, 1, 0])
FLAGS = np.array([True, False, True])
INDICES = (
    (slice(None, None, 2), -1),
    (..., 0),
    (None, 0, slice(1, None)),
    ROWS.reshape(2, 2),
    (ROWS, COLUMNS),
    (slice(None), COLUMNS),
    (ROWS, slice(None, 1)),
    ROWS[:0],
    FLAGS,
    (1, 2),
)


@check("getitem", 500)
def getitem_adds_up_what_was_read_twice(mine, ref, rng):
    case = Case("getitem", (draw(rng, 3, 4),), after=(ROWS,))
    slopes = {"getitem_repeated": lambda w, x: placed(ROWS, w, (3, 4))}
    trial(mine, ref, case, slopes)
    everywhere(mine, ref, rng, "getitem", *([[(3, 4)], index] for index in INDICES))
    everywhere(mine, ref, rng, "getitem", [[(3, 4)], Tensor(ROWS)], [[(3, 4)], [0, 2, 0]])
    everywhere(mine, ref, rng, "getitem", [[(5,)], slice(1, 4)], [[(3, 4)], np.array([2, 0]), True])


@check("getitem", 510)
def getitem_keeps_its_index(mine, ref, rng):
    x = draw(rng, 3, 4)
    for given in (np.asarray, Tensor, lambda rows: (rows, COLUMNS[:2]), np.ndarray.tolist):
        rows = np.array([2, 0])
        index = given(rows)
        case = Case("getitem", (x,), after=(index,))
        leaves = case.leaves()
        y = made(mine, case, leaves)
        w = draw(rng, *y.shape)
        right = placed(ops.plain(index), w, (3, 4))
        (index if isinstance(index, list) else rows)[:] = [1, 1]  # the next batch, in the same memory
        if not alike(gradients(case, y, leaves, Tensor(w))[0], right, EXACT):
            raise Wrong("op_reused", name="getitem", what="index")


@check("scatter", 520)
def scatter_adds(mine, ref, rng):
    case = Case("scatter", (draw(rng, 4, 4),), after=(ROWS, (3, 4)))
    trial(mine, ref, case, value={"scatter_overwrites": lambda g: placed(ROWS, g, (3, 4))})
    for index in INDICES:
        shape = np.zeros((3, 4))[index].shape
        known = {"scatter_overwrites": lambda g, index=index: placed(index, g, (3, 4))}
        trial(mine, ref, Case("scatter", (draw(rng, *shape),), after=(index, (3, 4))), value=known)
    everywhere(mine, ref, rng, "scatter", [[(2, 4)], np.array([2, 0]), (3, 4), True], [[(2,)], slice(1, 3), (5,)])


@check("windows", 530)
def windows_look_everywhere(mine, ref, rng):
    def views(x, size, stride):
        return np.lib.stride_tricks.sliding_window_view(x, size)[:: stride[0], :: stride[1]]

    case = Case("windows", (draw(rng, 5, 5),), after=((2, 3), (1, 2)))
    value = {
        "windows_stride_swapped": lambda x: views(x, (2, 3), (2, 1)),
        "windows_stride_lost": lambda x: views(x, (2, 3), (1, 1)),
        "windows_size_swapped": lambda x: views(x, (3, 2), (1, 2)),
        "windows_axes": lambda x: np.moveaxis(views(x, (2, 3), (1, 2)), (2, 3), (0, 1)),
    }
    trial(mine, ref, case, value=value)
    cases = [
        [[(2, 4, 6)], (2, 2), (2, 3)],
        [[(1, 2, 5, 4)], (3, 1), (1, 1)],
        [[(3, 4)], (3, 4), (2, 1)],
        [[(0, 3, 3)], (2, 2), (1, 1)],
        [[(7, 5)], (2, 3), (3, 2)],
    ]
    everywhere(mine, ref, rng, "windows", *cases)


@check("fold", 540)
def fold_adds(mine, ref, rng):
    g = draw(rng, 1, 2, 4, 2)
    close = np.pad(g[0, 0], [(0, 0), (0, 2)]) + np.pad(g[0, 1], [(0, 0), (1, 1)])  # one step apart instead of two
    trial(mine, ref, Case("fold", (g,), after=((4, 4), (1, 2))), value={"fold_stride": lambda g: close})
    ones = Case("fold", (np.ones((3, 3, 2, 2)),), after=((4, 4), (1, 1)))  # the middle lies in four windows
    trial(mine, ref, ones, value={"fold_overwrites": lambda g: np.ones((4, 4))})
    cases = [
        [[(2, 2, 2, 2, 2)], (2, 4, 6), (2, 3)],
        [[(1, 2, 3, 4, 3, 1)], (1, 2, 5, 4), (1, 1)],
        [[(1, 1, 3, 4)], (3, 4), (2, 1)],
        [[(0, 2, 2, 2, 2)], (0, 3, 3), (1, 1)],
        [[(2, 2, 2, 3)], (7, 6), (3, 2)],
    ]
    everywhere(mine, ref, rng, "fold", *cases)


# Products


@check("matmul", 600)
def matmul_meets_its_transposes(mine, ref, rng):
    case = Case("matmul", (draw(rng, 3, 3), draw(rng, 3, 3)))
    to_x = {"matmul_transpose": lambda w, x, y: w @ y, "matmul_order": lambda w, x, y: y.T @ w}
    to_y = {"matmul_transpose": lambda w, x, y: x @ w, "matmul_order": lambda w, x, y: w @ x.T}
    value = {"matmul_elementwise": lambda x, y: x * y, "matmul_reversed": lambda x, y: y @ x}
    trial(mine, ref, case, to_x, to_y, value=value)
    everywhere(mine, ref, rng, "matmul", [[(2, 3), (3, 4)]], [[(0, 4), (4, 2)]], [[(3, 0), (0, 2)]], [[(1, 1), (1, 1)]])
    used_twice(mine, ref, rng, "matmul")
    takes_arrays(mine, ref, rng, "matmul")


@check("matmul", 610)
def matmul_goes_through_the_batch(mine, ref, rng):
    cases = (
        [(2, 3, 4), (4, 5)],
        [(2, 3, 4), (2, 4, 5)],
        [(2, 1, 3, 4), (5, 4, 2)],
        [(3, 4), (2, 4, 5)],
        [(1, 0, 2), (3, 2, 1)],
    )
    everywhere(mine, ref, rng, "matmul", *([sizes] for sizes in cases))


@check("matmul", 620)
def matmul_takes_vectors(mine, ref, rng):
    cases = [(4,), (4, 5)], [(3, 4), (4,)], [(4,), (4,)], [(2, 3, 4), (4,)], [(4,), (2, 4, 5)]
    everywhere(mine, ref, rng, "matmul", *([sizes] for sizes in cases))


@check("matmul", 630)
def matmul_names_the_shapes(mine, ref, rng):
    for sizes in ([(2, 3), (2, 3)], [(2, 3, 4), (3, 4, 5)], [(3,), (4,)], [(2, 3), ()]):
        names_the_shapes(mine, Case("matmul", tuple(draw(rng, *size) for size in sizes)))


@check("einsum", 640)
def einsum_gives_the_letters_back(mine, ref, rng):
    case = Case("einsum", (draw(rng, 3, 3), draw(rng, 3, 3)), before=("ij,jk->ik",))
    to_x = {
        "einsum_letters": lambda w, x, y: w @ y,
        "einsum_exchanged": lambda w, x, y: y @ w.T,
        "einsum_alone": lambda w, x, y: w,
    }
    to_y = {
        "einsum_letters": lambda w, x, y: x @ w,
        "einsum_exchanged": lambda w, x, y: w.T @ x,
        "einsum_alone": lambda w, x, y: w,
    }
    trial(mine, ref, case, to_x, to_y)
    for equation, *sizes in (
        ("ij,kj->ki", (2, 3), (4, 3)),
        ("i,i->", (3,), (3,)),
        ("ijk,jl->lik", (2, 3, 4), (3, 5)),
        ("ij->ji", (2, 3)),
        ("ij,jk,kl->il", (2, 3), (3, 4), (4, 1)),
        ("ij,jk->ik", (2, 0), (0, 3)),
        ("bhtd,bhsd->bhts", (2, 1, 3, 4), (2, 1, 5, 4)),
    ):
        everywhere(mine, ref, rng, "einsum", [sizes], [sizes], before=(equation,))
    used_twice(mine, ref, rng, "einsum", "ij,ij->")


@check("einsum", 650)
def einsum_brings_back_what_was_summed_away(mine, ref, rng):
    for equation, *sizes in (("ij->j", (2, 3)), ("ijk->j", (2, 3, 4)), ("ij,kl->k", (2, 3), (4, 5)), ("ij->", (2, 3))):
        everywhere(mine, ref, rng, "einsum", [sizes], [sizes], before=(equation,))


# In the engine


@contextmanager
def hosting(mine: ModuleType) -> Iterator[None]:
    """Inside, the package's engine runs on the learner's ops."""
    names = stations.find("ops").symbols
    before = {name: getattr(ops, name) for name in names}
    try:
        for name in names:
            setattr(ops, name, getattr(mine, name))
        yield
    finally:
        for name, right in before.items():
            setattr(ops, name, right)


@check("", 900)
def carries_a_gpt(mine, ref, rng):
    """Stays: the point of the station. A GPT's loss and all its gradients, through the learner's ops."""
    config = models.GPTConfig(vocab_size=11, block_size=6, n_layers=2, n_heads=2, n_embd=8)
    tokens = torch.randint(11, (3, 7), generator=rng).numpy()

    def step() -> tuple[Tensor, models.GPT]:
        model = models.GPT(config, np.random.default_rng(0))
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        return loss, model

    with hosting(mine):
        loss, own = step()
    expected, right = step()
    same("GPT: loss", loss, expected.data)
    for (name, parameter), (_, theirs) in zip(own.named_parameters(), right.named_parameters(), strict=True):
        same(f"GPT: {name}.grad", parameter.grad, theirs.grad)


@check("", 910)
def carries_a_convolution(mine, ref, rng):
    """Stays: windows, fold and einsum at work together, as a CNN uses them."""
    arrays = [draw(rng, *size).astype(np.float32) for size in ((2, 3, 8, 7), (4, 3, 3, 2), (4,))]

    def step() -> list[Tensor]:
        leaves = [Tensor(x, requires_grad=True) for x in arrays]
        y = functional.max_pool2d(functional.conv2d(*leaves, stride=(1, 2), padding=1).tanh(), 2)
        return [y, *grad((y * y).sum(), leaves)]

    with hosting(mine):
        own = step()
    for name, value, right in zip(("", ": d/d x", ": d/d weight", ": d/d bias"), own, step(), strict=True):
        same(f"conv2d, max_pool2d{name}", value, right.data)
