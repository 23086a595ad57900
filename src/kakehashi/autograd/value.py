"""One number that remembers how it was made: backpropagation without anything else.

    a, b = Value(2.0), Value(-3.0)
    (a * b + a.tanh()).backward()
    a.grad                                   # -3 + 1 - tanh(2)^2 = -2.929...

After the lecture "micrograd" (Karpathy 2022). Deviations: an op keeps the slope towards each of its inputs, a number,
in place of a function that refers to its own result; and the order is found without recursion, so that a graph may be
as deep as memory allows.
"""

import math
from typing import Union

Number = Union["Value", int, float]


class Value:
    """A number, and the numbers it was made from.

    data    the number
    grad    how the value that `backward` was called on moves with this one; `backward` adds to it
    op      what made it, "" for a leaf
    edges   (input, slope) for each input: how this value moves when that input does
    label   a name for the drawing
    """

    __slots__ = ("data", "grad", "op", "edges", "label")

    def __init__(self, data: float, op: str = "", *edges: tuple["Value", float], label: str = ""):
        self.data = data
        self.grad = 0.0
        self.op = op
        self.edges = edges
        self.label = label

    def __repr__(self) -> str:
        return f"Value(data={self.data:.6g}, grad={self.grad:.6g})"

    def __add__(self, other: Number) -> "Value":
        other = _value(other)
        # each summand moves the sum by as much as it moves itself
        return Value(self.data + other.data, "+", (self, 1.0), (other, 1.0))

    def __mul__(self, other: Number) -> "Value":
        other = _value(other)
        # each factor moves the product by as much as the other factor is large
        return Value(self.data * other.data, "*", (self, other.data), (other, self.data))

    def __sub__(self, other: Number) -> "Value":
        other = _value(other)
        return Value(self.data - other.data, "-", (self, 1.0), (other, -1.0))

    def __truediv__(self, other: Number) -> "Value":
        other = _value(other)
        # a / b is a * b^-1: along b its slope is that of a power, -a * b^-2
        return Value(self.data / other.data, "/", (self, 1 / other.data), (other, -self.data / other.data**2))

    def __neg__(self) -> "Value":
        return Value(-self.data, "-", (self, -1.0))

    def __pow__(self, exponent: float) -> "Value":
        # a power of 0 is constant: its slope is 0, also at 0, where 0 * 0^-1 has no value
        slope = exponent * self.data ** (exponent - 1) if exponent else 0.0
        return Value(self.data**exponent, f"^{exponent:g}", (self, slope))

    def exp(self) -> "Value":
        """e^x, which is its own slope."""
        e = math.exp(self.data)
        return Value(e, "exp", (self, e))

    def log(self) -> "Value":
        """The natural logarithm; of a positive number only."""
        return Value(math.log(self.data), "log", (self, 1 / self.data))

    def tanh(self) -> "Value":
        """The hyperbolic tangent: nearly flat where it saturates."""
        t = math.tanh(self.data)
        # the result tells its own slope
        return Value(t, "tanh", (self, 1 - t * t))

    def relu(self) -> "Value":
        """max(x, 0); its slope at 0 is taken to be 0."""
        # at 0 any slope from 0 to 1 would do; PyTorch takes 0, too
        return Value(max(self.data, 0.0), "relu", (self, float(self.data > 0)))

    def __rsub__(self, other: float) -> "Value":
        return _value(other) - self

    def __rtruediv__(self, other: float) -> "Value":
        return _value(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def order(self) -> list["Value"]:
        """Everything this value was made from, each after its inputs; itself last."""
        order: list[Value] = []
        # many paths may lead to a value: it is opened once
        opened: set[Value] = set()
        # a stack of our own: Python's ends at a thousand calls
        stack: list[tuple[Value, bool]] = [(self, False)]
        while stack:
            value, inputs_done = stack.pop()
            if inputs_done:
                order.append(value)
            elif value not in opened:
                opened.add(value)
                # below its inputs: it comes up again, to be listed, when they are all done
                stack.append((value, True))
                stack += [(x, False) for x, _ in value.edges]
        return order

    def backward(self) -> None:
        """Add to each `.grad` how this value moves with that one: the chain rule, from the end to the beginning.

        It may be called again, on this value or on others: leaves collect, what lies between starts anew.
        """
        order = self.order()
        # what lies between starts anew: only leaves collect over several calls, as parameters do over a batch
        for value in order:
            if value.edges:
                value.grad = 0.0
        self.grad += 1.0
        # backwards, a value comes after all that was made from it: its gradient is complete when it is passed on
        for value in reversed(order):
            for x, slope in value.edges:
                x.grad += slope * value.grad


def _value(x: Number) -> Value:
    return x if isinstance(x, Value) else Value(x)
