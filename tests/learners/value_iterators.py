"""A right Value that pairs inputs with slopes at the end of each op, and walks with a stack of iterators."""

from math import cosh, exp, log, tanh
from typing import NamedTuple


class Edge(NamedTuple):
    input: "Value"
    slope: float


def wrap(x):
    if not isinstance(x, Value):
        x = Value(float(x), label="number")
    return x


class Value:
    __slots__ = ("data", "grad", "op", "edges", "label")

    def __init__(self, data, op="", *edges, label=""):
        self.label = label
        self.edges = tuple(Edge(*edge) for edge in edges)
        self.op = op
        self.grad = 0
        self.data = data

    def __repr__(self):
        return f"Value({self.data}, d={self.grad})"

    def __add__(self, other):
        x, y = self, wrap(other)
        slopes = 1.0, 1.0
        return Value(x.data + y.data, "plus", *zip((x, y), slopes, strict=True))

    def __mul__(self, other):
        x, y = self, wrap(other)
        slopes = y.data, x.data
        return Value(x.data * y.data, "times", *zip((x, y), slopes, strict=True))

    def __sub__(self, other):
        x, y = self, wrap(other)
        slopes = 1.0, -1.0
        return Value(x.data - y.data, "minus", *zip((x, y), slopes, strict=True))

    def __truediv__(self, other):
        x, y = self, wrap(other)
        quotient = x.data / y.data
        slopes = 1.0 / y.data, -quotient / y.data
        return Value(quotient, "over", *zip((x, y), slopes, strict=True))

    def __neg__(self):
        return 0 - self

    def __pow__(self, exponent):
        p = self.data**exponent
        if exponent == 0:
            slope = 0.0
        elif self.data == 0:
            slope = 1.0 if exponent == 1 else 0.0
        else:
            slope = exponent * p / self.data
        return Value(p, "power", (self, slope))

    def exp(self):
        return Value(exp(self.data), "exp", (self, exp(self.data)))

    def log(self):
        return Value(log(self.data), "log", (self, 1.0 / self.data))

    def tanh(self):
        slope = cosh(self.data) ** -2 if abs(self.data) < 300 else 0.0
        return Value(tanh(self.data), "tanh", (self, slope))

    def relu(self):
        on = self.data > 0
        return Value(self.data * on, "relu", (self, on))

    def __rsub__(self, other):
        return wrap(other).__sub__(self)

    def __rtruediv__(self, other):
        return wrap(other).__truediv__(self)

    def __radd__(self, other):
        return self.__add__(other)

    def __rmul__(self, other):
        return self.__mul__(other)

    def order(self):
        seen = {id(self)}
        found = []
        path = [(self, iter(self.edges))]
        while path:
            value, inputs = path[-1]
            for x, _ in inputs:
                if id(x) not in seen:
                    seen.add(id(x))
                    path.append((x, iter(x.edges)))
                    break
            else:
                found.append(value)
                path.pop()
        return found

    def backward(self):
        order = self.order()[::-1]
        between = [value for value in order if value.op]
        for value in between:
            value.grad = 0.0
        self.grad = self.grad + 1.0
        for value in between:
            for edge in value.edges:
                edge.input.grad = edge.input.grad + value.grad * edge.slope
