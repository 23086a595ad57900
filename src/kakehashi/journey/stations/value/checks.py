"""Checks of the value station. An op is judged by its number and by its edges, which a walk of our own follows back;
`order` and `backward` are judged on graphs put together by hand.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

from kakehashi.journey.checking import Wrong, check, same
from kakehashi.journey.lm_checks import alike, suspect

EXACT = 1e-9  # Python's floats round at 1e-16
DEEP = 5_000  # values in a row: five times as many as Python's calls may lie within each other

Slopes = Mapping[str, Callable[..., Sequence[float]]]  # key of a text -> what that mistake gives, one for each input
Numbers = Mapping[str, Callable[..., float]]  # the same of a result
NONE: Mapping = MappingProxyType({})


def alone(mine: ModuleType, ref: ModuleType, symbol: str) -> type:
    """The learner's Value, with the reference's code in every method but this one and its reversed form.

    All methods of a class are the learner's together: a __sub__ that is self + (-other) would else be blamed for what
    is wrong with __add__. Raises Wrong "init_changed".
    """
    x = mine.Value(1.0)
    if missing := [name for name in ("data", "grad", "op", "edges") if not hasattr(x, name)]:
        raise Wrong("init_changed", missing=", ".join(missing))
    # the reference's code finds its own helpers, whatever the learner's file has under their names
    names = vars(ref) | {"Value": mine.Value, "__file__": mine.__file__}
    names["_value"] = FunctionType(ref._value.__code__, names)
    kept = {symbol, mirrored(symbol), "__init__", "__repr__"}
    for name, method in vars(ref.Value).items():
        if isinstance(method, FunctionType) and name not in kept:
            setattr(mine.Value, name, FunctionType(method.__code__, names, name))
    return mine.Value


def mirrored(symbol: str) -> str:
    """The method that Python calls where a plain number stands on the left: __radd__ of __add__."""
    return symbol.replace("__", "__r", 1)


# Ops


def trial(
    mine: ModuleType,
    ref: ModuleType,
    symbol: str,
    text: str,
    *points: Sequence[float],
    value: Numbers = NONE,
    slopes: Slopes = NONE,
) -> None:
    """An expression in a and b, or in x, of the learner's Values beside the reference's: what comes out, and how it
    moves with each input. value, slopes: known mistakes, as functions of the numbers.

    Raises Wrong as `made`, `edges` and `same` do, "op_path", and known mistakes.
    """
    letters = sorted(set(re.findall(r"\b[abx]\b", text)))
    expression = eval(f"lambda {', '.join(letters)}: {text}")  # what is shown is what is run
    Value = alone(mine, ref, symbol)
    for numbers in points:
        at = ", ".join(f"{letter} = {number:g}" for letter, number in zip(letters, numbers, strict=True))
        inputs, theirs = [Value(number) for number in numbers], [ref.Value(number) for number in numbers]
        y, right = made(Value, f"{text} ({at})", expression, inputs), expression(*theirs)
        known = {key: wrong(*numbers) for key, wrong in value.items()}
        suspect(f"{text} ({at})", y.data, right.data, tol=EXACT, **known)
        reached = zip(letters, reach(Value, text, y, inputs), reach(ref.Value, text, right, theirs), strict=True)
        for i, (letter, seen, expected) in enumerate(reached):
            if seen is None and expected:
                raise Wrong("op_path", name=text, input=letter)
            known = {key: wrong(*numbers)[i] for key, wrong in slopes.items()}
            suspect(f"d({text})/d{letter} ({at})", seen or 0.0, expected or 0.0, tol=EXACT, **known)


def made(Value: type, name: str, expression: Callable, inputs: Sequence) -> Any:
    """What an expression gives. Raises Wrong "op_plain", "op_data", "op_changes_input"."""
    before = [x.data for x in inputs]
    y = expression(*inputs)
    if not isinstance(y, Value):
        raise Wrong("op_plain", name=name, seen=type(y).__name__)
    if not isinstance(y.data, int | float):
        raise Wrong("op_data", name=name, seen=type(y.data).__name__)
    if any(x.data != number or x.edges or x.grad for x, number in zip(inputs, before, strict=True)):
        raise Wrong("op_changes_input", name=name)
    return y


def reach(Value: type, name: str, y: Any, inputs: Sequence) -> list[float | None]:
    """How y moves with each input: the products of the slopes along each path to it, summed up; None without a path."""
    found: list[float | None] = [None] * len(inputs)
    paths = [(y, 1.0)]
    while paths:
        value, slope = paths.pop()
        for i, x in enumerate(inputs):
            if value is x:
                found[i] = (found[i] or 0.0) + slope
        paths += [(x, slope * own) for x, own in edges(Value, name, value)]
    return found


def edges(Value: type, name: str, value: Any) -> Iterator[tuple[Any, float]]:
    """The edges of a value. Raises Wrong "op_unnamed", "edge_form", "edge_slope"."""
    if not isinstance(value.op, str) or (value.edges and not value.op):
        raise Wrong("op_unnamed", name=name, seen=repr(value.op))
    for edge in value.edges:
        if not (isinstance(edge, tuple | list) and len(edge) == 2 and isinstance(edge[0], Value)):
            raise Wrong("edge_form", name=name, seen=repr(edge))
        if not isinstance(edge[1], int | float | np.bool_):  # self.data > 0, of a number of NumPy's
            raise Wrong("edge_slope", name=name, seen=type(edge[1]).__name__)
        yield edge[0], float(edge[1])


def with_numbers(mine: ModuleType, ref: ModuleType, symbol: str, *texts: str, value: Numbers = NONE) -> None:
    """x with a plain number on one side. Raises Wrong "op_number", "op_mirrored", and as `trial` does."""
    for text in texts:
        try:
            trial(mine, ref, symbol, text, (0.5,), (-4.0,), value=value, slopes={"op_slope_is_input": lambda x: (x,)})
        except (AttributeError, TypeError) as error:
            trial(mine, ref, symbol, re.sub(r"[\d.]+", "a", text), (3.0, 0.5))  # what fails with Values, too, says so
            if text.endswith("x") and not hasattr(mine.Value, mirrored(symbol)):
                raise Wrong("op_mirrored", name=text, method=mirrored(symbol)) from error
            raise Wrong("op_number", name=text, error=str(error)) from error


def twice(mine: ModuleType, ref: ModuleType, symbol: str, text: str) -> None:
    """An expression with one Value on both sides. Raises Wrong "op_twice", and as `trial` does."""

    def once(x: float) -> list[float]:
        """The slope of the last edge alone, as if edges were kept by their inputs."""
        return [eval(text, {"x": ref.Value(x)}).edges[-1][1]]

    trial(mine, ref, symbol, text, (4.0,), (-0.5,), slopes={"op_twice": once})


@check("Value.__add__", 100)
def add_adds(mine, ref, rng):
    known = {"op_slope_is_input": lambda a, b: (a, b), "op_slope_is_other": lambda a, b: (b, a)}
    trial(mine, ref, "__add__", "a + b", (1.5, -2.5), (-3.0, 0.0), slopes=known)


@check("Value.__add__", 110)
def add_takes_numbers(mine, ref, rng):
    with_numbers(mine, ref, "__add__", "x + 3", "x + 2.5", "3 + x")


@check("Value.__add__", 120)
def add_takes_one_value_twice(mine, ref, rng):
    twice(mine, ref, "__add__", "x + x")


@check("Value.__mul__", 200)
def mul_multiplies(mine, ref, rng):
    known = {
        "op_slope_is_input": lambda a, b: (a, b),
        "mul_as_sum": lambda a, b: (1.0, 1.0),
        "mul_result": lambda a, b: (a * b, a * b),
    }
    trial(mine, ref, "__mul__", "a * b", (1.5, -2.5), (-3.0, 0.0), (0.0, 4.0), slopes=known)


@check("Value.__mul__", 210)
def mul_takes_numbers(mine, ref, rng):
    with_numbers(mine, ref, "__mul__", "x * 3", "x * 2.5", "3 * x")


@check("Value.__mul__", 220)
def mul_takes_one_value_twice(mine, ref, rng):
    twice(mine, ref, "__mul__", "x * x")


@check("Value.__sub__", 300)
def sub_subtracts(mine, ref, rng):
    trial(
        mine,
        ref,
        "__sub__",
        "a - b",
        (1.5, -2.5),
        (-3.0, 0.0),
        value={"op_turned": lambda a, b: b - a},
        slopes={"sub_sign": lambda a, b: (1.0, 1.0), "op_slope_turned": lambda a, b: (-1.0, 1.0)},
    )


@check("Value.__sub__", 310)
def sub_takes_numbers(mine, ref, rng):
    with_numbers(mine, ref, "__sub__", "x - 3", "x - 2.5")
    with_numbers(mine, ref, "__sub__", "3 - x", value={"op_turned": lambda x: x - 3})


@check("Value.__sub__", 320)
def sub_takes_one_value_twice(mine, ref, rng):
    twice(mine, ref, "__sub__", "x - x")


@check("Value.__truediv__", 400)
def div_divides(mine, ref, rng):
    trial(
        mine,
        ref,
        "__truediv__",
        "a / b",
        (3.5, -2.5),
        (-3.0, 0.25),
        (0.0, 4.0),
        (7, 2),
        value={"op_turned": lambda a, b: b / a if a else math.inf, "div_floor": lambda a, b: a // b},
        slopes={
            "div_sign": lambda a, b: (1 / b, a / b**2),
            "div_not_squared": lambda a, b: (1 / b, -a / b),
            "div_not_squared_sign": lambda a, b: (1 / b, a / b),
            "div_numerator": lambda a, b: (1 / b, -1 / b**2),
            "div_as_product": lambda a, b: (b, a),
        },
    )


@check("Value.__truediv__", 410)
def div_takes_numbers(mine, ref, rng):
    with_numbers(mine, ref, "__truediv__", "x / 4", "x / 2.5")
    with_numbers(mine, ref, "__truediv__", "4 / x", value={"op_turned": lambda x: x / 4})


@check("Value.__truediv__", 420)
def div_takes_one_value_twice(mine, ref, rng):
    twice(mine, ref, "__truediv__", "x / x")


@check("Value.__neg__", 500)
def neg_turns_the_sign(mine, ref, rng):
    trial(
        mine,
        ref,
        "__neg__",
        "-x",
        (1.5,),
        (-2.5,),
        value={"neg_abs": lambda x: -abs(x), "neg_value": lambda x: x},
        slopes={"neg_sign": lambda x: (1.0,)},
    )


def power(mine: ModuleType, ref: ModuleType, n: float, *points: float) -> None:
    """x ** n, at several x other than 0. Raises Wrong "pow_negative", and as `trial` does."""
    known = {
        "pow_not_reduced": lambda x: (n * x**n,),
        "pow_no_factor": lambda x: (x ** (n - 1),),
        "pow_reduced_factor": lambda x: ((n - 1) * x ** (n - 1),),
        "pow_along_exponent": lambda x: (x**n * math.log(abs(x)),),
    }
    try:
        trial(mine, ref, "__pow__", f"x ** {n}", *((x,) for x in points), slopes=known)
    except ValueError as error:
        raise Wrong("pow_negative", name=f"x ** {n}", error=str(error)) from error


@check("Value.__pow__", 600)
def pow_has_the_slope_of_a_power(mine, ref, rng):
    for n, points in ((3, (1.5, -2.5)), (2, (-1.5,)), (-1, (0.25, -4.0)), (0.5, (2.25,)), (-2.5, (0.25,))):
        power(mine, ref, n, *points)


@check("Value.__pow__", 610)
def pow_works_with_0_and_1(mine, ref, rng):
    power(mine, ref, 1, 1.5, -2.5)
    power(mine, ref, 0, 1.5, -2.5)
    for n in (0, 1, 2):
        try:
            trial(mine, ref, "__pow__", f"x ** {n}", (0.0,))
        except ZeroDivisionError as error:
            raise Wrong("pow_at_zero", name=f"x ** {n}", error=str(error)) from error


@check("Value.exp", 700)
def exp_is_its_own_slope(mine, ref, rng):
    known = {
        "exp_slope_input": lambda x: (x,),
        "exp_slope_1": lambda x: (1.0,),
        "exp_power_rule": lambda x: (x * math.exp(x - 1),),
    }
    points = (1.5,), (-2.5,), (0.0,), (500.0,), (-500.0,)
    trial(mine, ref, "exp", "x.exp()", *points, value={"exp_base_2": lambda x: 2.0**x}, slopes=known)


@check("Value.log", 800)
def log_has_its_slope(mine, ref, rng):
    trial(
        mine,
        ref,
        "log",
        "x.log()",
        (1.5,),
        (0.25,),
        (1e9,),
        (1e-100,),
        value={"log_base_2": math.log2, "log_base_10": math.log10},
        slopes={"log_slope_input": lambda x: (x,), "log_slope_result": lambda x: (1 / math.log(x),)},
    )


@check("Value.tanh", 900)
def tanh_has_its_slope(mine, ref, rng):
    trial(
        mine,
        ref,
        "tanh",
        "x.tanh()",
        (0.5,),
        (-1.5,),
        (0.0,),
        value={
            "tanh_sigmoid": lambda x: 1 / (1 + math.exp(-x)),
            "tanh_half": lambda x: math.tanh(x / 2),
            "tanh_tan": math.tan,
        },
        slopes={
            "tanh_not_squared": lambda x: (1 - math.tanh(x),),
            "tanh_of_input": lambda x: (1 - x * x,),
            "tanh_plus": lambda x: (1 + math.tanh(x) ** 2,),
            "tanh_as_sigmoid": lambda x: (math.tanh(x) * (1 - math.tanh(x)),),
        },
    )


@check("Value.tanh", 910)
def tanh_saturates(mine, ref, rng):
    Value = alone(mine, ref, "tanh")
    for number in (20.0, -20.0, 800.0, -800.0):
        x = Value(number)
        try:
            y = made(Value, f"tanh({number:g})", lambda x: x.tanh(), [x])
        except OverflowError as error:
            raise Wrong("tanh_overflow", x=number, error=str(error)) from error
        same(f"tanh({number:g})", y.data, math.copysign(1.0, number), tol=EXACT)
        slope = reach(Value, "x.tanh()", y, [x])[0] or 0.0  # 0, or 4 e^(-2 |x|): the rest is rounding
        if not abs(slope) <= EXACT:
            raise Wrong("tanh_flat", x=number, seen=slope)


@check("Value.relu", 1000)
def relu_cuts_off(mine, ref, rng):
    trial(
        mine,
        ref,
        "relu",
        "x.relu()",
        (1.5,),
        (-2.5,),
        value={"relu_identity": lambda x: x, "relu_abs": lambda x: abs(x), "relu_negative": lambda x: min(x, 0.0)},
        slopes={
            "relu_always": lambda x: (1.0,),
            "relu_side": lambda x: (float(x < 0),),
            "op_slope_is_result": lambda x: (max(x, 0.0),),
        },
    )


@check("Value.relu", 1010)
def relu_is_flat_at_0(mine, ref, rng):
    known = {"relu_at_zero": lambda x: (1.0,), "relu_half": lambda x: (0.5,)}
    trial(mine, ref, "relu", "x.relu()", (0.0,), slopes=known)


# Graphs by hand

Graph = dict[str, tuple[tuple[str, float], ...]]  # name -> (input, slope) of each input; the inputs stand before it

CHAIN: Graph = {"a": (), "h": (("a", 3.0),), "y": (("h", -2.0),)}
TWICE: Graph = {"a": (), "y": (("a", 2.0), ("a", 5.0))}
SHARED: Graph = {
    "a": (),
    "b": (),
    "f": (("a", 3.0),),
    "g": (("f", -2.0), ("b", 0.5)),
    "h": (("f", 5.0), ("g", 1.5)),
    "y": (("f", 7.0), ("h", 4.0), ("g", -3.0)),
}
TURNED: Graph = {name: inputs[::-1] for name, inputs in SHARED.items()}
GRAPHS = (CHAIN, TWICE, SHARED, TURNED)


def built(Value: type, graph: Graph) -> dict[str, Any]:
    """The graph as Values, by name."""
    values: dict[str, Any] = {}
    for name, inputs in graph.items():
        values[name] = Value(1.0, "+" if inputs else "", *((values[x], slope) for x, slope in inputs))
    return values


def told(graph: Graph) -> str:
    """The graph in words: "h = 3a, y = -2h + 0.5b"."""
    sums = {name: " + ".join(f"{slope:g}{x}" for x, slope in inputs) for name, inputs in graph.items() if inputs}
    return ", ".join(f"{name} = {words}" for name, words in sums.items()).replace("+ -", "- ") or ", ".join(graph)


def chain(Value: type, symbol: str) -> tuple[Any, Any]:
    """The first and the last of DEEP values, each the sum of the one before it and the first.

    They raise Wrong "walk_list" when they are compared as often as only a search through a list does: what would take
    minutes is named at once.
    """
    count = 0

    class Compared(Value):
        __slots__ = ()
        __hash__ = Value.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal count
            count += 1
            if count > 5 * DEEP:
                raise Wrong("walk_list", name=symbol, values=DEEP)
            return self is other

    x = y = Compared(1.0)
    for _ in range(DEEP - 1):
        y = Compared(1.0, "+", (y, 1.0), (x, 1.0))
    return x, y


def ladder(Value: type, symbol: str, rungs: int = 40) -> Any:
    """The last of values that are the one before them taken twice: 2^rungs paths lead through them.

    They raise Wrong "walk_paths" when their edges are read far more often than once for each value.
    """
    count = 0

    class Read(Value):
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            nonlocal count
            if name == "edges":
                count += 1
                if count > 100 * rungs:
                    raise Wrong("walk_paths", name=symbol, values=rungs + 1, count=count)
            return super().__getattribute__(name)

    y = Read(1.0)
    for _ in range(rungs):
        y = Read(1.0, "+", (y, 0.5), (y, 0.5))
    return y


@contextmanager
def few_calls(symbol: str, limit: int = 1000) -> Iterator[None]:
    """Inside, Python's calls lie as deep as they do by default. Raises Wrong "walk_recursion", "walk_limit"."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        yield
        if sys.getrecursionlimit() != limit:
            raise Wrong("walk_limit", name=symbol)
    except RecursionError:
        raise Wrong("walk_recursion", name=symbol, depth=DEEP) from None
    finally:
        sys.setrecursionlimit(before)


# order


@check("Value.order", 1100)
def order_is_complete(mine, ref, rng):
    Value = alone(mine, ref, "order")
    for graph in (*GRAPHS, {"a": ()}):
        values = built(Value, graph)
        root, expected = list(values.values())[-1], list(values)
        first, second = names(root.order(), values), names(root.order(), values)
        for seen in (first, second):
            if missing := [name for name in expected if name not in seen]:
                key = "order_again" if seen is second else "order_missing"
                raise Wrong(key, missing=", ".join(missing), seen=", ".join(seen) or "[]", graph=told(graph))
            if len(seen) > len(expected):
                again = next(name for name in seen if seen.count(name) > 1)
                raise Wrong("order_twice", value=again, seen=", ".join(seen), graph=told(graph))


def names(order: Any, values: dict[str, Any]) -> list[str]:
    """A list of values by their names. Raises Wrong "order_kind", "order_holds"."""
    if not isinstance(order, list | tuple):
        raise Wrong("order_kind", seen=type(order).__name__)
    found = []
    for each in order:
        name = next((name for name, value in values.items() if value is each), None)
        if name is None:
            raise Wrong("order_holds", seen=type(each).__name__)
        found.append(name)
    return found


@check("Value.order", 1110)
def order_puts_inputs_first(mine, ref, rng):
    Value = alone(mine, ref, "order")
    for graph in GRAPHS:
        values = built(Value, graph)
        seen = names(list(values.values())[-1].order(), values)
        place = {name: i for i, name in enumerate(seen)}
        pairs = [(x, name) for name, inputs in graph.items() for x, _ in inputs if {x, name} <= place.keys()]
        late = [(x, name) for x, name in pairs if place[x] > place[name]]
        if late and late == pairs:
            raise Wrong("order_reversed", seen=", ".join(seen), graph=told(graph))
        if late:
            raise Wrong("order_early", input=late[0][0], value=late[0][1], seen=", ".join(seen), graph=told(graph))


@check("Value.order", 1120)
def order_opens_a_value_once(mine, ref, rng):
    ladder(alone(mine, ref, "order"), "order").order()


@check("Value.order", 1130)
def order_needs_no_recursion(mine, ref, rng):
    _, root = chain(alone(mine, ref, "order"), "order")
    with few_calls("order"):
        order = root.order()
    if len(order) != DEEP:
        raise Wrong("order_length", seen=len(order), expected=DEEP)


# backward


def reachable(graph: Graph, root: str) -> list[str]:
    """What a root was made from, and itself, inputs first."""
    found = {root}
    for name in reversed(graph):
        if name in found:
            found |= {x for x, _ in graph[name]}
    return [name for name in graph if name in found]


def backwards(graph: Graph, root: str) -> list[str]:
    return reachable(graph, root)[::-1]


def breadth_first(graph: Graph, root: str) -> list[str]:
    met = [root]
    for name in met:
        met += dict.fromkeys(x for x, _ in graph[name] if x not in met)
    return met


def gradients(
    graph: Graph,
    *roots: str,
    visit: Callable[[Graph, str], Sequence[str]] = backwards,
    share: Callable[[float, float], float] = lambda slope, grad: slope * grad,
    join: Callable[[float, float], float] = lambda old, new: old + new,
    anew: Callable[[bool], bool] = lambda between: between,
    seed: float = 1.0,
) -> dict[str, float]:
    """The gradients after backward on each root in turn, or what a known mistake gives in one of its parts."""
    grads = dict.fromkeys(graph, 0.0)
    for root in roots:
        for name in reachable(graph, root):
            if anew(bool(graph[name])):
                grads[name] = 0.0
        grads[root] += seed
        for name in visit(graph, root):
            for x, slope in graph[name]:
                grads[x] = join(grads[x], share(slope, grads[name]))
    return grads


def recursion(graph: Graph, *roots: str) -> dict[str, float]:
    """A backward that calls itself for each input, which hands on the whole of its gradient so far."""
    grads = dict.fromkeys(graph, 0.0)

    def back(name: str) -> None:
        for x, slope in graph[name]:
            grads[x] += slope * grads[name]
            back(x)

    for root in roots:
        grads |= {name: 0.0 for name in reachable(graph, root) if graph[name]}
        grads[root] += 1.0
        back(root)
    return grads


def mistakes(graph: Graph, *roots: str) -> dict[str, dict[str, float]]:
    """Key of a text -> the gradients that this mistake gives."""
    right = gradients(graph, *roots)
    return {
        "back_no_seed": gradients(graph, *roots, seed=0.0),
        "back_root": right | {roots[-1]: 0.0},
        "back_leaves_only": {name: 0.0 if graph[name] else grad for name, grad in right.items()},
        "back_slope_alone": gradients(graph, *roots, share=lambda slope, grad: slope),
        "back_grad_alone": gradients(graph, *roots, share=lambda slope, grad: grad),
        "back_added": gradients(graph, *roots, share=lambda slope, grad: slope + grad),
        "back_from_inputs": gradients(graph, *roots, visit=reachable),
        "back_assigned": gradients(graph, *roots, join=lambda old, new: new),
        "back_recursion": recursion(graph, *roots),
        "back_early": gradients(graph, *roots, visit=breadth_first),
        "back_kept": gradients(graph, *roots, anew=lambda between: False),
        "back_leaf_anew": gradients(graph, *roots, anew=lambda between: True),
    }


def compare(Value: type, graph: Graph, *roots: str) -> None:
    """backward on each root in turn gives the right gradients. Raises Wrong of a mistake that all of them fit, else as
    `same` does."""
    values = built(Value, graph)
    for root in roots:
        values[root].backward()
    seen, right = {name: value.grad for name, value in values.items()}, gradients(graph, *roots)
    for name in reversed(graph):
        try:
            same(
                f"{name}.grad after {', '.join(f'{root}.backward()' for root in roots)} ({told(graph)})",
                seen[name],
                right[name],
                tol=EXACT,
            )
        except Wrong as wrong:
            said = {"name": f"{name}.grad", "seen": seen[name], "expected": right[name], "graph": told(graph)}
            for key, given in mistakes(graph, *roots).items():
                if all(alike(seen[each], given[each], EXACT) for each in graph):
                    raise Wrong(key, **said) from None
            raise wrong from None


@check("Value.backward", 1200)
def backward_follows_the_chain(mine, ref, rng):
    compare(alone(mine, ref, "backward"), CHAIN, "y")


@check("Value.backward", 1210)
def backward_adds_up(mine, ref, rng):
    for graph in (TWICE, SHARED, TURNED):
        compare(alone(mine, ref, "backward"), graph, "y")


@check("Value.backward", 1220)
def backward_starts_anew_between(mine, ref, rng):
    """Another call on the same root, on one that shares values with it, on one in between."""
    for roots in (("y", "y"), ("h", "y"), ("y", "g"), ("g", "h", "y")):
        compare(alone(mine, ref, "backward"), SHARED, *roots)


@check("Value.backward", 1230)
def backward_of_a_leaf_adds_one(mine, ref, rng):
    Value = alone(mine, ref, "backward")
    x = Value(3.0)
    x.grad = 0.5
    x.backward()
    suspect("x.backward(): x.grad, 0.5 before", x.grad, 1.5, tol=EXACT, back_leaf_assigned=1.0)


@check("Value.backward", 1240)
def backward_passes_a_value_once(mine, ref, rng):
    ladder(alone(mine, ref, "backward"), "backward").backward()


@check("Value.backward", 1250)
def backward_needs_no_recursion(mine, ref, rng):
    x, root = chain(alone(mine, ref, "backward"), "backward")
    with few_calls("backward"):
        root.backward()
    if not alike(x.grad, float(DEEP), EXACT):
        raise Wrong("back_length", values=DEEP, seen=x.grad, expected=DEEP)


# The house


def expression(a: Any, b: Any) -> Any:
    """Every op, with numbers on both sides; of Values, or of torch's tensors."""
    c = (a * b - b / 4 + 0.5).tanh()
    d = (a - 3 * b).relu() + (-(a * c)).exp()
    return (1 + d**2).log() / (5 - c) + 2.5 / (d + 1) - a


@check("", 9000)
def ops_agree_in_the_house(mine, ref, rng):
    """Stays: parts that are right one by one may call each other without end, or change what another keeps; here all
    are the learner's."""
    ours = [mine.Value(1.5), mine.Value(-0.75)]
    theirs = [torch.tensor(x.data, dtype=torch.double, requires_grad=True) for x in ours]
    right = expression(*theirs)
    right.backward()
    try:
        y = expression(*ours)
    except RecursionError:
        raise Wrong("house_circle") from None
    same("house: y", y.data, right.item(), tol=EXACT)
    for calls in (1, 2):
        y.backward()
        for name, x, leaf in zip("ab", ours, theirs, strict=True):
            same(f"house: {name}.grad, call {calls} of y.backward()", x.grad, calls * leaf.grad.item(), tol=EXACT)


@check("", 9100)
def learns_in_the_house(mine, ref, rng):
    """Stays: the point of the station. Two layers of single numbers learn exclusive or, as those of the reference."""
    start = torch.randn(4 * 3 + 5, generator=rng, dtype=torch.double).tolist()
    for step, (loss, expected) in enumerate(zip(losses(mine.Value, start), losses(ref.Value, start), strict=True)):
        if not alike(loss, expected, 1e-6):
            raise Wrong("house_loss", step=step, mine=loss, ref=expected)


def losses(Value: type, start: Sequence[float], steps: int = 100) -> list[float]:
    """The loss before each step of gradient descent on exclusive or, with four hidden units."""
    weights = [Value(number) for number in start]
    seen = []
    for _ in range(steps):
        loss = Value(0.0)
        for a, b, target in ((0, 0, -1), (0, 1, 1), (1, 0, 1), (1, 1, -1)):
            rows = [weights[i : i + 3] for i in range(0, 12, 3)]
            hidden = [(v * a + w * b + bias).tanh() for v, w, bias in rows]
            out = weights[12]
            for h, w in zip(hidden, weights[13:], strict=True):
                out = out + h * w
            loss = loss + (out.tanh() - target) ** 2
        for weight in weights:
            weight.grad = 0.0
        loss.backward()
        for weight in weights:
            weight.data -= 0.1 * weight.grad
        seen.append(loss.data)
    return seen
