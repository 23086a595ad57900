"""A right Value by someone who writes three ops and derives the others, and orders the graph by counting uses."""

import math


class Value:
    def __init__(self, data, op="", *edges, label=""):
        self.data, self.op, self.edges, self.label = data, op, list(edges), label
        self.grad = 0.0

    def __repr__(self):
        return f"<{self.label or self.op or 'leaf'} {self.data:.4f}>"

    def _op(self, data, name, *edges):
        return Value(float(data), name, *(each for each in edges if isinstance(each[0], Value)))

    @staticmethod
    def _number(x):
        return x.data if isinstance(x, Value) else x

    def __add__(self, other):
        return self._op(self.data + self._number(other), "add", (self, 1), (other, 1))

    def __radd__(self, other):
        return self + other

    def __mul__(self, other):
        factor = self._number(other)
        return self._op(self.data * factor, "mul", (self, factor), (other, self.data))

    def __rmul__(self, other):
        return self * other

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        return self * other**-1.0

    def __rtruediv__(self, other):
        return self**-1 * other

    def __pow__(self, exponent):
        if exponent == 0:
            return Value(1.0)
        if exponent == 1:
            return self
        return self._op(self.data**exponent, "pow", (self, exponent * self.data ** (exponent - 1)))

    def exp(self):
        y = self._op(math.e**self.data, "exp")
        y.edges.append((self, y.data))
        return y

    def log(self):
        return self._op(math.log2(self.data) / math.log2(math.e), "log", (self, self.data**-1))

    def tanh(self):
        shrunk = math.exp(-2 * abs(self.data))  # at most 1, however large the input
        t = math.copysign((1 - shrunk) / (1 + shrunk), self.data)
        return self._op(t, "tanh", (self, 4 * shrunk / (1 + shrunk) ** 2))

    def relu(self):
        return self if self.data > 0 else Value(0.0)

    def order(self):
        uses = {self: 0}
        found = [self]
        for value in found:
            for x, _ in value.edges:
                if x not in uses:
                    uses[x] = 0
                    found.append(x)
                uses[x] += 1
        ready, done = [self], []
        while ready:
            value = ready.pop()
            done.append(value)
            for x, _ in value.edges:
                uses[x] -= 1
                if uses[x] == 0:
                    ready.append(x)
        done.reverse()
        return done

    def backward(self):
        flow = dict.fromkeys(self.order(), 0.0)
        flow[self] = 1.0
        for value in list(flow)[::-1]:
            for x, slope in value.edges:
                flow[x] = flow[x] + flow[value] * slope
            value.grad = flow[value] if value.edges else value.grad + flow[value]
