"""A right Value by someone who puts the helper on top, counts in NumPy, and orders values by their birth."""

from itertools import count

import numpy as np


def _value(x):
    return x if isinstance(x, Value) else Value(x)


class Value:
    born = count()

    def __init__(self, data, op="", *edges, label=""):
        self.data, self.op, self.edges, self.label = np.float64(data), op, edges, label
        self.grad, self.number = np.float64(0), next(Value.born)

    def __repr__(self):
        return f"{self.op or 'leaf'} of {self.data}"

    def __add__(self, other):
        left, right = self, _value(other)
        return Value(left.data + right.data, "add", (left, np.float64(1)), (right, np.float64(1)))

    def __mul__(self, other):
        left, right = self, _value(other)
        return Value(left.data * right.data, "mul", (left, right.data), (right, left.data))

    __radd__ = __add__
    __rmul__ = __mul__

    def __sub__(self, other):
        return self + _value(other) * -1

    def __rsub__(self, other):
        return self * -1 + other

    def __truediv__(self, other):
        return self * _value(other) ** -1

    def __rtruediv__(self, other):
        return self**-1 * other

    def __neg__(self):
        return 0 - self

    def __pow__(self, exponent):
        slope = exponent * self.data ** (exponent - 1.0) if exponent != 0 else 0
        return Value(np.power(self.data, np.float64(exponent)), "power", (self, slope))

    def exp(self):
        result = np.exp(self.data)
        return Value(result, "exponential", (self, result))

    def log(self):
        return Value(np.log(self.data), "logarithm", (self, np.reciprocal(self.data)))

    def tanh(self):
        result = np.tanh(self.data)
        return Value(result, "tangent", (self, (1 + result) * (1 - result)))

    def relu(self):
        return Value(np.maximum(self.data, 0), "ramp", (self, self.data > 0))

    def order(self):
        seen, waiting = {self}, [self]
        while waiting:
            new = {x for x, _ in waiting.pop().edges} - seen
            seen |= new
            waiting += new
        return sorted(seen, key=lambda value: value.number)

    def backward(self):
        values = self.order()
        for value in values:
            value.grad *= not value.edges
        self.grad += 1
        while values:
            value = values.pop()
            for x, slope in value.edges:
                x.grad += slope * value.grad
