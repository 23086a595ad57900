from mutants import mutant

KEYS = {
    "value-gradient-replaced": "back_assigned",
    "value-interior-kept": "back_kept",
    "value-leaves-reset": "back_leaf_anew",
    "value-shared-counted-twice": "order_twice",
    "value-marked-too-early": "order_early",
    "value-from-the-leaves": "back_from_inputs",
    "value-chain-broken": "back_slope_alone",
    "value-one-factor-forgotten": "op_path",
    "value-product-own-factor": "op_slope_is_input",
    "value-subtraction-sign": "sub_sign",
    "value-division-sign": "div_sign",
    "value-division-not-squared": "div_not_squared",
    "value-power-not-reduced": "pow_not_reduced",
    "value-exp-saves-its-input": "exp_slope_input",
    "value-tanh-not-squared": "tanh_not_squared",
    "value-tanh-half-argument": "tanh_half",
    "value-tanh-overflows": "tanh_overflow",
    "value-relu-other-side": "relu_side",
    "value-relu-corner": "relu_at_zero",
}

WALK = """
order: list[Value] = []
opened: set[Value] = set()
stack: list[tuple[Value, bool]] = [(self, False)]
while stack:
    value, inputs_done = stack.pop()
    if inputs_done:
        order.append(value)
    elif value not in opened:
        opened.add(value)
        stack.append((value, True))
        stack += [(x, False) for x, _ in value.edges]
return order
"""

BACK = """
order = self.order()
for value in order:
    if value.edges:
        value.grad = 0.0
self.grad += 1.0
for value in reversed(order):
    for x, slope in value.edges:
        x.grad += slope * value.grad
"""

# only in a deep graph: the limit is that of the tests' process, and the check that meets one puts it back
RAISES_THE_LIMIT = """
import sys
order, opened = [], set()
def visit(value, depth):
    if depth == 500:
        sys.setrecursionlimit(10**6)
    if value not in opened:
        opened.add(value)
        for x, _ in value.edges:
            visit(x, depth + 1)
        order.append(value)
visit(self, 0)
"""


def result(symbol: str, key: str, given: str) -> tuple:
    """A mutant of what an op returns."""
    return mutant(key, (f"Value.{symbol}", "return Value($...all)", f"return {given}"))


def walk(key: str, code: str) -> tuple:
    return mutant(key, ("Value.order", WALK, code))


def back(key: str, code: str) -> tuple:
    return mutant(key, ("Value.backward", BACK, code))


MUTANTS = {
    # what any op may get wrong
    "add-plain": result("__add__", "op_plain", "self.data + other.data"),
    "add-not-returned": mutant("none", ("Value.__add__", "return $value", "$value")),
    "sub-of-values": result("__sub__", "op_data", 'Value(self + -other, "-", (self, 1.0), (other, -1.0))'),
    "add-in-place": mutant(
        "op_changes_input",
        ("Value.__add__", "return $value", "self.data += other.data\nreturn $value"),
    ),
    "add-unnamed": result("__add__", "op_unnamed", "Value(self.data + other.data, (self, 1.0), (other, 1.0))"),
    "add-without-slopes": result("__add__", "edge_form", 'Value(self.data + other.data, "+", self, other)'),
    "add-edges-in-one": result(
        "__add__", "edge_form", 'Value(self.data + other.data, "+", ((self, 1.0), (other, 1.0)))'
    ),
    "add-edges-turned": result("__add__", "edge_form", 'Value(self.data + other.data, "+", (1.0, self), (1.0, other))'),
    "add-without-edges": result("__add__", "op_path", "Value(self.data + other.data)"),
    "add-slopes-are-inputs": result(
        "__add__", "op_slope_is_input", 'Value(self.data + other.data, "+", (self, self.data), (other, other.data))'
    ),
    "add-slopes-of-product": result(
        "__add__", "op_slope_is_other", 'Value(self.data + other.data, "+", (self, other.data), (other, self.data))'
    ),
    "add-no-numbers": mutant("op_number", ("Value.__add__", "other = _value(other)", "")),
    "add-keeps-a-function": mutant(
        "raised", ("Value.__add__", "return $value", "out = $value\nout._backward = lambda: None\nreturn out")
    ),
    "add-collapses": result(
        "__add__", "op_twice", 'Value(self.data + other.data, "+", *{self: 1.0, other: 1.0}.items())'
    ),
    # product
    "mul-slope-is-a-value": result(
        "__mul__", "edge_slope", 'Value(self.data * other.data, "*", (self, other), (other, self))'
    ),
    "mul-slope-is-a-function": result(
        "__mul__", "edge_slope", 'Value(self.data * other.data, "*", (self, lambda g: g * other.data), (other, 1.0))'
    ),
    "mul-as-sum": result("__mul__", "mul_as_sum", 'Value(self.data * other.data, "*", (self, 1.0), (other, 1.0))'),
    "mul-result": result(
        "__mul__",
        "mul_result",
        'Value(self.data * other.data, "*", (self, self.data * other.data), (other, self.data * other.data))',
    ),
    "mul-no-numbers": mutant("op_number", ("Value.__mul__", "other = _value(other)", "")),
    "mul-collapses": result(
        "__mul__", "op_twice", 'Value(self.data * other.data, "*", *{self: other.data, other: self.data}.items())'
    ),
    "mul-adds": result("__mul__", "number", "self + other"),
    # difference and quotient
    "sub-turned": result("__sub__", "op_turned", "other + -self"),
    "sub-slopes-turned": result(
        "__sub__", "op_slope_turned", 'Value(self.data - other.data, "-", (self, -1.0), (other, 1.0))'
    ),
    "sub-no-numbers": mutant("op_number", ("Value.__sub__", "other = _value(other)", "")),
    "sub-collapses": result(
        "__sub__", "op_twice", 'Value(self.data - other.data, "-", *{self: 1.0, other: -1.0}.items())'
    ),
    "div-turned": result("__truediv__", "op_turned", "other * self**-1"),
    "div-floor": mutant("div_floor", ("Value.__truediv__", "self.data / other.data", "self.data // other.data")),
    "div-not-squared-nor-negative": mutant(
        "div_not_squared_sign", ("Value.__truediv__", "-self.data / other.data**2", "self.data / other.data")
    ),
    "div-numerator-forgotten": mutant(
        "div_numerator", ("Value.__truediv__", "-self.data / other.data**2", "-1 / other.data**2")
    ),
    "div-as-product": mutant(
        "div_as_product",
        ("Value.__truediv__", "(self, $s)", "(self, other.data)"),
        ("Value.__truediv__", "(other, $s)", "(other, self.data)"),
    ),
    "div-no-numbers": mutant("op_number", ("Value.__truediv__", "other = _value(other)", "")),
    "div-collapses": result(
        "__truediv__",
        "op_twice",
        'Value(self.data / other.data, "/", *{self: 1 / other.data, other: -self.data / other.data**2}.items())',
    ),
    # one input
    "neg-value": result("__neg__", "neg_value", 'Value(self.data, "-", (self, -1.0))'),
    "neg-abs": result("__neg__", "neg_abs", 'Value(-abs(self.data), "-", (self, -1.0))'),
    "neg-slope": mutant("neg_sign", ("Value.__neg__", "(self, -1.0)", "(self, 1.0)")),
    "pow-no-factor": mutant("pow_no_factor", ("Value.__pow__", "exponent * self.data ** $n", "self.data ** $n")),
    "pow-reduced-factor": mutant(
        "pow_reduced_factor", ("Value.__pow__", "exponent * self.data ** $n", "(exponent - 1) * self.data ** $n")
    ),
    "pow-along-exponent": mutant(
        "pow_along_exponent",
        (
            "Value.__pow__",
            "exponent * self.data ** (exponent - 1)",
            "self.data**exponent * math.log(abs(self.data) or 1)",
        ),
    ),
    "pow-through-logarithm": mutant(
        "pow_negative",
        (
            "Value.__pow__",
            "Value(self.data**exponent, $...rest)",
            "Value(math.exp(exponent * math.log(self.data)), $...rest)",
        ),
    ),
    "pow-at-zero": mutant("pow_at_zero", ("Value.__pow__", "$slope if exponent else 0.0", "$slope")),
    "pow-divides": mutant(
        "pow_at_zero",
        ("Value.__pow__", "exponent * self.data ** (exponent - 1)", "exponent * self.data**exponent / self.data"),
    ),
    "exp-base-2": mutant("exp_base_2", ("Value.exp", "math.exp(self.data)", "2**self.data")),
    "exp-slope-1": mutant("exp_slope_1", ("Value.exp", "(self, e)", "(self, 1.0)")),
    "exp-power-rule": mutant("exp_power_rule", ("Value.exp", "(self, e)", "(self, self.data * e / math.e)")),
    "log-base-2": mutant("log_base_2", ("Value.log", "math.log(self.data)", "math.log2(self.data)")),
    "log-base-10": mutant("log_base_10", ("Value.log", "math.log(self.data)", "math.log10(self.data)")),
    "log-slope-input": mutant("log_slope_input", ("Value.log", "1 / self.data", "self.data")),
    "log-slope-result": mutant("log_slope_result", ("Value.log", "1 / self.data", "1 / math.log(self.data)")),
    "tanh-sigmoid": mutant("tanh_sigmoid", ("Value.tanh", "math.tanh(self.data)", "1 / (1 + math.exp(-self.data))")),
    "tanh-tan": mutant("tanh_tan", ("Value.tanh", "math.tanh(self.data)", "math.tan(self.data)")),
    "tanh-of-input": mutant("tanh_of_input", ("Value.tanh", "1 - t * t", "1 - self.data**2")),
    "tanh-plus": mutant("tanh_plus", ("Value.tanh", "1 - t * t", "1 + t * t")),
    "tanh-as-sigmoid": mutant("tanh_as_sigmoid", ("Value.tanh", "1 - t * t", "t * (1 - t)")),
    "tanh-from-exponentials": mutant(
        "tanh_overflow",
        (
            "Value.tanh",
            "math.tanh(self.data)",
            "(math.exp(2 * self.data) - 1) / (math.exp(2 * self.data) + 1)",
        ),
    ),
    "tanh-leaks": mutant("tanh_flat", ("Value.tanh", "1 - t * t", "max(1 - t * t, 0.01)")),
    "relu-identity": mutant("relu_identity", ("Value.relu", "max(self.data, 0.0)", "self.data")),
    "relu-abs": mutant("relu_abs", ("Value.relu", "max(self.data, 0.0)", "abs(self.data)")),
    "relu-negative": mutant("relu_negative", ("Value.relu", "max(self.data, 0.0)", "min(self.data, 0.0)")),
    "relu-always": mutant("relu_always", ("Value.relu", "float(self.data > 0)", "1.0")),
    "relu-result": mutant("op_slope_is_result", ("Value.relu", "float(self.data > 0)", "max(self.data, 0.0)")),
    "relu-half": mutant(
        "relu_half", ("Value.relu", "float(self.data > 0)", "0.5 * ((self.data > 0) + (self.data >= 0))")
    ),
    # order
    "order-not-returned": mutant("none", ("Value.order", "return order", "")),
    "order-set": mutant("order_kind", ("Value.order", "return order", "return set(order)")),
    "order-edges": mutant("order_holds", ("Value.order", "order.append(value)", "order.extend(value.edges)")),
    "order-without-itself": mutant("order_missing", ("Value.order", "return order", "return order[:-1]")),
    "order-kept": mutant(
        "order_again",
        ("Value.order", "opened: set[Value] = set()", 'opened = _value.__dict__.setdefault("opened", set())'),
    ),
    "order-reversed": mutant("order_reversed", ("Value.order", "return order", "return order[::-1]")),
    "order-breadth-first": walk(
        "order_early",
        "order = [self]\nfor value in order:\n    for x, _ in value.edges:\n        if x not in order:\n"
        "            order.append(x)\nreturn order[::-1]",
    ),
    "order-depth-first": walk(
        "order_early",
        "order, stack = {}, [self]\nwhile stack:\n    value = stack.pop()\n    if value not in order:\n"
        "        order[value] = True\n        stack += [x for x, _ in value.edges]\nreturn list(order)[::-1]",
    ),
    "order-every-path": walk(
        "walk_paths",
        "order = {}\ndef visit(value):\n    for x, _ in value.edges:\n        visit(x)\n    order[value] = True\n"
        "visit(self)\nreturn list(order)",
    ),
    "order-list": mutant(
        "walk_list",
        ("Value.order", "opened: set[Value] = set()", "opened: list[Value] = []"),
        ("Value.order", "opened.add(value)", "opened.append(value)"),
    ),
    "order-recursion": walk(
        "walk_recursion",
        "order, opened = [], set()\ndef visit(value):\n    if value not in opened:\n        opened.add(value)\n"
        "        for x, _ in value.edges:\n            visit(x)\n        order.append(value)\nvisit(self)\n"
        "return order",
    ),
    "order-stops": walk("order_length", WALK.replace("while stack", "while stack and len(order) < 1000")),
    # backward
    "backward-no-seed": mutant("back_no_seed", ("Value.backward", "self.grad += 1.0", "")),
    "backward-root-unwritten": mutant(
        "back_root",
        ("Value.backward", BACK, BACK + "\nif self.edges:\n    self.grad = 0.0"),
    ),
    "backward-leaves-only": back(
        "back_leaves_only",
        BACK + "\nfor value in order:\n    if value.edges:\n        value.grad = 0.0",
    ),
    "backward-grad-alone": mutant("back_grad_alone", ("Value.backward", "slope * value.grad", "value.grad")),
    "backward-added": mutant("back_added", ("Value.backward", "slope * value.grad", "slope + value.grad")),
    "backward-breadth-first": back(
        "back_early",
        BACK.replace(
            "self.order()",
            "[self]\nfor value in order:\n    order += dict.fromkeys(x for x, _ in value.edges if x not in order)",
        ).replace("reversed(order)", "order"),
    ),
    "backward-recursion": back(
        "back_recursion",
        "for value in self.order():\n    if value.edges:\n        value.grad = 0.0\nself.grad += 1.0\n"
        "def back(value):\n    for x, slope in value.edges:\n        x.grad += slope * value.grad\n        back(x)\n"
        "back(self)",
    ),
    "backward-every-path": back(
        "walk_paths",
        "for value in self.order():\n    if value.edges:\n        value.grad = 0.0\ndef back(value, grad):\n"
        "    value.grad += grad\n    for x, slope in value.edges:\n        back(x, slope * grad)\nback(self, 1.0)",
    ),
    "backward-calls-itself": back(
        "walk_recursion",
        BACK.replace(
            "self.order()",
            "[]\nopened = set()\ndef visit(value):\n    if value not in opened:\n        opened.add(value)\n"
            "        for x, _ in value.edges:\n            visit(x)\n        order.append(value)\nvisit(self)",
        ),
    ),
    "backward-list": back(
        "walk_list",
        BACK.replace(
            "for value in reversed(order):",
            "done = []\nfor value in reversed(order):\n    if value in done:\n        continue\n    done.append(value)",
        ),
    ),
    "backward-stops": mutant("back_length", ("Value.backward", "reversed(order)", "order[:-1000:-1]")),
    "backward-leaf-assigned": mutant("back_leaf_assigned", ("Value.backward", "self.grad += 1.0", "self.grad = 1.0")),
}

FURTHER = {
    "add-whole-numbers-only": mutant(
        "op_number",
        ("Value.__add__", "other = _value(other)", "other = Value(other) if isinstance(other, int) else other"),
    ),
    "add-not-from-the-left": mutant(
        "op_mirrored",
        ("Value.__add__", "_value(other)", "other if isinstance(other, Value) else Value(other)"),
        ("Value", "__radd__, __rmul__ = __add__, __mul__", "__rmul__ = __mul__"),
    ),
    "add-another-init": mutant(
        "init_changed",
        ("Value.__add__", "return Value($...all)", 'return Value(self.data + other.data, (self, other), "+")'),
        ("Value", '__slots__ = ("data", "grad", "op", "edges", "label")', ""),
        ("Value.__init__", "self.op = op", "self._prev = set(op)"),
        ("Value.__init__", "self.edges = edges", "self._backward = lambda: None"),
    ),
    "mul-zero-is-a-leaf": mutant(
        "op_path",
        ("Value.__mul__", "other = _value(other)", "other = _value(other)\nif self.data == 0:\n    return Value(0.0)"),
    ),
    "div-floors-whole-numbers": mutant(
        "div_floor",
        (
            "Value.__truediv__",
            "self.data / other.data",
            "(self.data // other.data if isinstance(self.data, int) else self.data / other.data)",
        ),
    ),
    "exp-cut-off": mutant("number", ("Value.exp", "math.exp(self.data)", "math.exp(min(self.data, 20))")),
    "log-cut-off": mutant("number", ("Value.log", "math.log(self.data)", "math.log(max(self.data, 1e-8))")),
    "log-with-eps": mutant("number", ("Value.log", "math.log(self.data)", "math.log(self.data + 1e-10)")),
    "order-raises-the-limit": walk("walk_limit", RAISES_THE_LIMIT + "return order"),
    "backward-raises-the-limit": back("walk_limit", BACK.replace("\norder = self.order()\n", RAISES_THE_LIMIT)),
}
