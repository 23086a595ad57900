"""Faults of the number that remembers."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.autograd.value"

# expressions of two numbers, or of one of them
EXPRESSIONS: dict[str, Callable] = {
    "a + b": lambda a, b: a + b + 2,
    "a * b": lambda a, b: 3 * a * b,
    "a - b": lambda a, b: 1 - (a - b),
    "a / b": lambda a, b: 2 / (a / b),
    "-a": lambda a, b: -a,
    "a ** n": lambda a, b: a**3 + b**2 + a**-2 + b**0,
    "exp": lambda a, b: a.exp() + b.exp(),
    "log": lambda a, b: (a * a).log() + (b * b).log(),
    "tanh": lambda a, b: a.tanh() * b.tanh(),
    "relu": lambda a, b: a.relu() + 2 * b.relu(),
    "corner": lambda a, b: (a - 1.25).relu() * b,
    "far out": lambda a, b: (200 * a).tanh() + (200 * b).tanh(),
    "near 0": lambda a, b: (1e-12 * a).tanh() * b,
}


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Each op at two points; one graph with values that many paths lead to; calls that follow one another."""

    def op(of: Callable, x: float, y: float):
        a, b = module.Value(x), module.Value(y)
        result = of(a, b)
        result.backward()
        yield ("value",), result.data
        yield ("grad", "a"), a.grad
        yield ("grad", "b"), b.grad

    def shared(*calls: str):
        a, b = module.Value(1.5), module.Value(-0.5)
        f = a * b
        g = f * f + b
        h = f - g.tanh()
        values = {"a": a, "b": b, "f": f, "g": g, "h": h, "y": f * (h * g)}
        for name in calls:
            values[name].backward()
        for name, value in values.items():
            yield ("grad", name), value.grad

    for name, of in EXPRESSIONS.items():
        for x, y in ((1.25, -0.75), (-2.0, 3.0)):
            yield f"{name} at {x}, {y}", lambda of=of, x=x, y=y: op(of, x, y)
    for calls in (("y",), ("y", "y"), ("h", "y"), ("a", "a")):
        yield f"backward on {', '.join(calls)}", lambda calls=calls: shared(*calls)


FAULTS = (
    Fault(
        "value-gradient-replaced",
        "backward",
        "accumulation",
        MODULE,
        (Edit("Value.backward", "x.grad += slope * value.grad", "x.grad = slope * value.grad"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "value-interior-kept",
        "backward",
        "accumulation",
        MODULE,
        (Edit("Value.backward", "for value in order:\n    if value.edges:\n        value.grad = 0.0", ""),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "value-leaves-reset",
        "backward",
        "accumulation",
        MODULE,
        (Edit("Value.backward", "if value.edges:\n    value.grad = 0.0", "value.grad = 0.0"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-shared-counted-twice",
        "backward",
        "recursion",
        MODULE,
        (
            Edit("Value.order", "opened: set[Value] = set()", ""),
            Edit(
                "Value.order",
                """
                if inputs_done:
                    order.append(value)
                elif value not in opened:
                    opened.add(value)
                    stack.append((value, True))
                    stack += [(x, False) for x, _ in value.edges]
                """,
                """
                if inputs_done:
                    order.append(value)
                else:
                    stack.append((value, True))
                    stack += [(x, False) for x, _ in value.edges]
                """,
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-marked-too-early",
        "backward",
        "visit_order",
        MODULE,
        (
            Edit(
                "Value.order",
                """
                if inputs_done:
                    order.append(value)
                elif value not in opened:
                    opened.add(value)
                    stack.append((value, True))
                    stack += [(x, False) for x, _ in value.edges]
                """,
                """
                if inputs_done:
                    order.append(value)
                else:
                    stack.append((value, True))
                    for x, _ in value.edges:
                        if x not in opened:
                            opened.add(x)
                            stack.append((x, False))
                """,
            ),
        ),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "value-from-the-leaves",
        "backward",
        "visit_order",
        MODULE,
        (Edit("Value.backward", "reversed(order)", "order"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "value-chain-broken",
        "backward",
        "chain",
        MODULE,
        (Edit("Value.backward", "x.grad += slope * value.grad", "x.grad += slope"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "value-one-factor-forgotten",
        "backward",
        "forgotten_path",
        MODULE,
        (Edit("Value.__mul__", "Value($product, $op, $left, $right)", "Value($product, $op, $left)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-product-own-factor",
        "backward",
        "slope",
        MODULE,
        (
            Edit(
                "Value.__mul__",
                "Value($product, $op, (self, other.data), (other, self.data))",
                "Value($product, $op, (self, self.data), (other, other.data))",
            ),
        ),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-subtraction-sign",
        "backward",
        "sign",
        MODULE,
        (Edit("Value.__sub__", "(other, -1.0)", "(other, 1.0)"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "value-division-sign",
        "backward",
        "sign",
        MODULE,
        (Edit("Value.__truediv__", "-self.data / other.data**2", "self.data / other.data**2"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-division-not-squared",
        "backward",
        "slope",
        MODULE,
        (Edit("Value.__truediv__", "-self.data / other.data**2", "-self.data / other.data"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-power-not-reduced",
        "backward",
        "slope",
        MODULE,
        (Edit("Value.__pow__", "exponent * self.data ** (exponent - 1)", "exponent * self.data**exponent"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-exp-saves-its-input",
        "backward",
        "saved_value",
        MODULE,
        (Edit("Value.exp", "(self, e)", "(self, self.data)"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-tanh-not-squared",
        "backward",
        "slope",
        MODULE,
        (Edit("Value.tanh", "1 - t * t", "1 - t"),),
        changes=("grad",),
        level=2,
    ),
    Fault(
        "value-tanh-half-argument",
        "forward",
        "definition",
        MODULE,
        (Edit("Value.tanh", "math.tanh(self.data)", "1 - 2 / (math.exp(self.data) + 1)"),),
        changes=("value", "grad"),
        level=2,
    ),
    Fault(
        "value-tanh-overflows",
        "forward",
        "overflow",
        MODULE,
        (Edit("Value.tanh", "math.tanh(self.data)", "1 - 2 / (math.exp(2 * self.data) + 1)"),),
        changes=("value", "grad"),
        level=3,
        crashes=True,
    ),
    Fault(
        "value-relu-other-side",
        "backward",
        "slope",
        MODULE,
        (Edit("Value.relu", "self.data > 0", "self.data < 0"),),
        changes=("grad",),
        level=1,
    ),
    Fault(
        "value-relu-corner",
        "backward",
        "tie",
        MODULE,
        (Edit("Value.relu", "self.data > 0", "self.data >= 0"),),
        changes=("grad",),
        level=3,
    ),
)
