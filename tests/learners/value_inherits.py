"""A right Value by someone whose helper stands first, whose operators are assigned, and whose walk is inherited."""

import math
from collections import Counter


def _value(x):
    return x if isinstance(x, Value) else Value(x)


def binary(sign, result, left, right):
    """A method of two values: the number, and its slopes to the left and to the right, from both numbers."""

    def method(self, other):
        other = _value(other)
        a, b = self.data, other.data
        return Value(result(a, b), sign, (self, left(a, b)), (other, right(a, b)))

    return method


class Graph:
    """Whatever has edges to what it was made from."""

    def order(self):
        met = dict.fromkeys([self])
        users, found = Counter(), [self]
        for each in found:
            for x, _ in each.edges:
                users[x] += 1
                if x not in met:
                    met[x] = None
                    found.append(x)
        ready, order = [self], []
        while ready:
            order.append(ready.pop())
            for x, _ in order[-1].edges:
                users[x] -= 1
                if not users[x]:
                    ready.append(x)
        return order[::-1]

    def backward(self):
        order = self.order()
        for each in order:
            each.grad *= not each.edges
        self.grad += 1
        while order:
            each = order.pop()
            for x, slope in each.edges:
                x.grad += each.grad * slope


class Value(Graph):
    def __init__(self, data, op="", *edges, label=""):
        self.data, self.op, self.edges, self.label, self.grad = data, op, edges, label, 0.0

    def __repr__(self):
        return f"{self.data} ({self.grad})"

    __add__ = __radd__ = binary("+", lambda a, b: a + b, lambda a, b: 1.0, lambda a, b: 1.0)
    __mul__ = __rmul__ = binary("*", lambda a, b: a * b, lambda a, b: b, lambda a, b: a)
    __sub__ = binary("-", lambda a, b: a - b, lambda a, b: 1.0, lambda a, b: -1.0)
    __truediv__ = binary("/", lambda a, b: a / b, lambda a, b: 1 / b, lambda a, b: -a / b / b)

    def __rsub__(self, other):
        return Value(other) - self

    def __rtruediv__(self, other):
        return Value(other) / self

    def __neg__(self):
        return 0.0 - self

    def __pow__(self, n):
        return Value(self.data**n, "power", (self, n * self.data ** (n - 1) if n else 0.0))

    def _of(self, name, result, slope):
        return Value(result, name, (self, slope))

    def exp(self):
        return self._of("exp", math.exp(self.data), math.exp(self.data))

    def log(self):
        return self._of("log", math.log(self.data), self.data**-1)

    def tanh(self):
        return self._of("tanh", math.tanh(self.data), math.cosh(min(abs(self.data), 300)) ** -2)

    def relu(self):
        return self._of("relu", self.data if self.data > 0 else 0.0, 1.0 if self.data > 0 else 0.0)
