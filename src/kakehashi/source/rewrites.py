"""The rewrites a disguise is made of, and what must be known of an expression for each to keep every bit.

No rewrite changes the order in which tensors are made (random draws and sums of gradients follow it), reassociates
arithmetic, or touches a name that is seen from outside. Operands change places only where one is `quiet`; what needs a
tensor is done only to what `tensors` is sure of.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from kakehashi.source.edit import Site, bodies, matches, pattern, single_expression
from kakehashi.source.text import Function, Node, Text


class Scope(NamedTuple):
    """A function, the names that hold tensors in it, and the names its file has already taken."""

    node: Function
    tensors: frozenset[str]
    taken: frozenset[str]


Rewrite = Callable[[Text, Scope], Iterator[Site]]
Guard = Callable[[dict, frozenset[str]], bool]


# What is known of an expression


def quiet(node: ast.AST) -> bool:
    """True if it makes no difference when it is evaluated: a name, a constant, an attribute, `-1`, `math.sqrt(n)`."""
    match node:
        case ast.Name() | ast.Constant():
            return True
        case ast.Attribute(value) | ast.UnaryOp(ast.USub(), ast.Constant() as value) | ast.keyword(_, value):
            return quiet(value)
        case ast.Subscript(ast.Attribute(_, "shape") as value, index):
            return quiet(value) and quiet(index)
        case ast.Call(ast.Attribute(ast.Name("math")), args, []):
            return all(map(quiet, args))
    return False


def is_number(node: ast.AST) -> bool:
    """True only if the expression must be a number (or a tensor): something that commutes under +."""
    match node:
        case ast.Constant(value):
            return type(value) in (int, float)
        case ast.BinOp(left, ast.Mult() | ast.Add(), right):
            return is_number(left) and is_number(right)
        case ast.BinOp(_, ast.Sub() | ast.Div() | ast.FloorDiv()) | ast.UnaryOp(ast.USub()):
            return True
    return False


# Methods that only tensors have, and that give a tensor: each is also torch.NAME(tensor, ...)
METHODS = (
    "clamp cumsum exp flatten gather log log_softmax logsumexp masked_fill matmul mean relu rsqrt sigmoid softmax sqrt "
    "square squeeze sum tanh transpose tril triu unsqueeze var"
).split()
MORE_METHODS = "contiguous expand float long permute pow reshape to unfold view".split()
PARTING = "chunk split unbind".split()  # these give several tensors
FUNCTIONAL = "cross_entropy dropout gelu log_softmax relu softmax".split()


def is_tensor(node: ast.AST, names: frozenset[str] | set[str]) -> bool:
    """True only if the expression must be a tensor, given the names that are."""
    match node:
        case ast.Name(name):
            return name in names
        case ast.BinOp(left, _, right):
            return is_tensor(left, names) or is_tensor(right, names)
        case ast.UnaryOp(ast.USub() | ast.Invert(), value) | ast.Attribute(value, "T" | "mT"):
            return is_tensor(value, names)
        case ast.Call(ast.Attribute(ast.Name("torch"), name)):
            return name in METHODS
        case ast.Call(ast.Attribute(ast.Name("F"), name)):
            return name in FUNCTIONAL
        case ast.Call(ast.Attribute(value, method)):
            return method in (*METHODS, *MORE_METHODS) and is_tensor(value, names)
    return False


def tensors(function: Function) -> frozenset[str]:
    """The names that hold a tensor wherever they are bound: parameters annotated so, what is assigned only tensors."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotated = {
        each for each in arguments if each.annotation and ast.unparse(each.annotation) in ("Tensor", "torch.Tensor")
    }
    values: dict[str, list[ast.AST | None]] = {each.arg: [] if each in annotated else [None] for each in arguments}
    understood = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                tuples = isinstance(target, ast.Tuple)
                for name in target.elts if tuples else [target]:
                    if isinstance(name, ast.Name):
                        parts = isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") in PARTING
                        values.setdefault(name.id, []).append(node.value if tuples == parts else None)
                        understood.add(name)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in understood:
            values.setdefault(node.id, []).append(None)

    def holds(value: ast.AST | None) -> bool:
        match value:
            case ast.Call(ast.Attribute(whole, part)) if part in PARTING:  # q, k, v = x.split(C, dim=2)
                return is_tensor(whole, known)
        return value is not None and is_tensor(value, known)

    known = set(values)
    while (still := {name for name in known if all(map(holds, values[name]))}) != known:
        known = still
    return frozenset(known)


def own_names(function: Function) -> set[str]:
    """The names that a function binds by plain assignment or loop and that mean nothing outside it."""
    own, other = set(), set()
    for node in ast.walk(function):
        match node:
            case ast.Name("locals" | "vars" | "eval" | "exec"):
                return set()
            case ast.Name(name, ast.Store()):
                own.add(name)
            case ast.arg(name) | ast.alias(name=name, asname=None) | ast.alias(asname=name):
                other.add(name)
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                other.add(name)
            case (
                ast.ExceptHandler(name=name)
                | ast.MatchAs(name=name)
                | ast.MatchStar(name)
                | ast.MatchMapping(rest=name)
            ):
                other.add(name)
            case ast.Global(names) | ast.Nonlocal(names):
                other |= set(names)
            case ast.JoinedStr():  # before Python 3.12 the places of names inside are wrong
                other |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return {name for name in own - other if not (len(name) == 1 and name.isupper() or name.startswith("_"))}


# Rewrites by pattern


def always(bound: dict, known: frozenset[str]) -> bool:
    return True


def tensor(*holes: str) -> Guard:
    return lambda bound, known: any(is_tensor(bound[hole], known) for hole in holes)


def all_quiet(*holes: str) -> Guard:
    return lambda bound, known: all(quiet(bound[hole]) for hole in holes)


def one_quiet(bound: dict, known: frozenset[str]) -> bool:
    return quiet(bound["a"]) or quiet(bound["b"])


def numeric(bound: dict, known: frozenset[str]) -> bool:
    """Numbers and tensors commute under +; tuples and strings do not."""
    return any(is_tensor(bound[hole], known) or is_number(bound[hole]) for hole in "ab")


def keywords(bound: dict, known: frozenset[str]) -> bool:
    """The arguments that are left are all keywords."""
    return all(isinstance(each, ast.keyword) for each in bound["r"])


def no_keywords(bound: dict, known: frozenset[str]) -> bool:
    return not any(isinstance(each, ast.keyword) for each in bound["r"])


def unnegated(bound: dict, known: frozenset[str]) -> bool:
    match bound["c"]:
        case ast.UnaryOp(ast.Not()) | ast.Compare(_, [ast.Is() | ast.IsNot()]):
            return False
    return True


def by_pattern(*rows: tuple) -> Rewrite:
    """Rows of (find, replace, guard, ...): expressions that look like `find`, where every guard holds."""
    rows = tuple((single_expression(pattern(find)), replace, guards) for find, replace, *guards in rows)

    def rewrite(text: Text, scope: Scope) -> Iterator[Site]:
        nodes: dict[type, list[ast.expr]] = {}
        for statement in scope.node.body:
            for node in ast.walk(statement):
                if isinstance(node, ast.expr):
                    nodes.setdefault(type(node), []).append(node)
        for wanted, replace, guards in rows:
            for node in nodes.get(type(wanted), []):
                bound: dict = {}
                if matches(wanted, node, bound) and all(guard(bound, scope.tensors) for guard in guards):
                    yield Site([node], bound, replace)

    return rewrite


def both_ways(*rows: tuple) -> list[tuple]:
    return [*rows, *((replace, find, *guards) for find, replace, *guards in rows)]


DIM_FIRST = "argmax cumsum log_softmax logsumexp mean softmax squeeze sum unsqueeze var".split()


# Rewrites of statements


def block(text: Text, statements: list[ast.stmt]) -> str:
    """The text of statements that follow one another, comments between them included, without their indentation."""
    first, last = text.span(statements[0])[0], text.span(statements[-1])[1]
    line = text.line_at(first)[0]
    indent = text.data[line:first]
    if indent.strip():  # on the line of their `if`
        return text.data[first:last].decode()
    return text.reindent(line, text.newline_after(last).start, indent, b"").decode()


def if_(test: str, then: str, otherwise: str | None = None) -> str:
    def inside(body: str) -> str:
        return "".join(f"\n    {line}" if line.strip() else "\n" for line in body.splitlines())

    return f"if {test}:{inside(then)}" + ("" if otherwise is None else f"\nelse:{inside(otherwise)}")


def enclosed(text: Text, node: ast.expr) -> str:
    """The text of an expression, in parentheses where it goes over several lines."""
    cut = text.cut(node)
    return f"({cut})" if "\n" in cut or "\r" in cut else cut


def lightest(bare: str, wrapped: str) -> str:
    """The first of two ways to write something, if it means what the second means."""
    try:
        return bare if ast.dump(ast.parse(bare)) == ast.dump(ast.parse(wrapped)) else wrapped
    except SyntaxError:
        return wrapped


def negated(text: Text, test: ast.expr) -> str:
    match test:
        case ast.UnaryOp(ast.Not(), value):
            return enclosed(text, value)
        case ast.Compare(left, [ast.Is() | ast.IsNot() as is_], [right]):
            return f"{enclosed(text, left)} {'is' if isinstance(is_, ast.IsNot) else 'is not'} {enclosed(text, right)}"
    return lightest(f"not {text.cut(test)}", f"not ({text.cut(test)})")


def is_elif(text: Text, node: ast.If) -> bool:
    return text.cut(node).startswith("elif")


def ifs(text: Text, scope: Scope) -> Iterator[tuple[ast.If, list[ast.stmt]]]:
    """Every `if` that is no `elif` and has none, and the statements after it."""
    for body in bodies(scope.node):
        for i, node in enumerate(body):
            if isinstance(node, ast.If) and not is_elif(text, node):
                if not (node.orelse and isinstance(node.orelse[0], ast.If) and is_elif(text, node.orelse[0])):
                    yield node, body[i + 1 :]


def flip_if(text: Text, scope: Scope) -> Iterator[Site]:
    """The branches of an if exchanged."""
    for node, _ in ifs(text, scope):
        if node.orelse:
            flipped = if_(negated(text, node.test), block(text, node.orelse), block(text, node.body))
            yield Site([node], {}, flipped, with_comment=True)


def else_after_return(text: Text, scope: Scope) -> Iterator[Site]:
    """`if c: return a` and what follows: under an else, or no longer."""
    for node, after in ifs(text, scope):
        if isinstance(node.body[-1], ast.Return | ast.Raise):
            test, then = enclosed(text, node.test), block(text, node.body)
            if node.orelse:
                yield Site([node], {}, f"{if_(test, then)}\n{block(text, node.orelse)}", with_comment=True)
            elif after and not isinstance(after[0], ast.If):
                yield Site([node, *after], {}, if_(test, then, block(text, after)), with_comment=True)


def ternary_statement(text: Text, scope: Scope) -> Iterator[Site]:
    """`x = a if c else b` as an if statement, and back."""
    for body in bodies(scope.node):
        for node in body:
            match node:
                case ast.Assign([ast.Name(name)], ast.IfExp(test, a, b)):
                    yield Site([node], {}, _branches(text, f"{name} = ", test, a, b))
                case ast.Return(ast.IfExp(test, a, b)):
                    yield Site([node], {}, _branches(text, "return ", test, a, b))
    for node, _ in ifs(text, scope):
        match node.body, node.orelse:
            case [ast.Assign([ast.Name(name)], a)], [ast.Assign([ast.Name(other)], b)] if name == other:
                one, test, two = (text.cut(each) for each in (a, node.test, b))
                bare = f"{name} = {one} if {test} else {two}"
                yield Site([node], {}, lightest(bare, f"{name} = ({one}) if ({test}) else ({two})"))


def _branches(text: Text, head: str, test: ast.expr, a: ast.expr, b: ast.expr) -> str:
    return if_(enclosed(text, test), head + enclosed(text, a), head + enclosed(text, b))


def fresh(scope: Scope, names: str) -> str:
    return next((name for name in names.split() if name not in scope.taken), "")


def name_result(text: Text, scope: Scope) -> Iterator[Site]:
    """`return f(x)` by way of a local name."""
    if name := fresh(scope, "out result answer y res"):
        for node in ast.walk(scope.node):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Call | ast.BinOp):
                yield Site([node], {}, f"{name} = {enclosed(text, node.value)}\nreturn {name}")


def in_order(node: Node) -> Sequence[Node]:
    """The parts of an expression that are certain to be evaluated, in that order."""
    match node:
        case ast.Call(func, args, named):
            return [func, *args, *named]
        case ast.BinOp(left, _, right):
            return [left, right]
        case ast.Attribute(value) | ast.UnaryOp(_, value) | ast.keyword(_, value) | ast.IfExp(value):
            return [value]
        case ast.Subscript(value, index):
            return [value, index]
        case ast.Compare(left, _, [right, *_]):
            return [left, right]
        case ast.Tuple(parts) | ast.List(parts):
            return parts
    return []


def first_step(node: Node) -> ast.Call | ast.BinOp | None:
    """The call or the operation in an expression that is carried out first."""
    for part in in_order(node):
        if not quiet(part):
            return first_step(part)
    return node if isinstance(node, ast.Call | ast.BinOp) else None


def first_use(node: Node, name: str) -> ast.Name | None:
    """The place where an expression reads a name, if nothing is carried out before."""
    for part in in_order(node):
        if isinstance(part, ast.Name) and part.id == name:
            return part
        if not quiet(part) or any(isinstance(each, ast.Name) and each.id == name for each in ast.walk(part)):
            return first_use(part, name)
    return None


def name_step(text: Text, scope: Scope) -> Iterator[Site]:
    """What is carried out first in a chain, `f(x).g()` or `g(f(x))`, on a line of its own."""
    name = fresh(scope, "h z part step stage")
    for node in ast.walk(scope.node):
        if name and isinstance(node, ast.Assign | ast.Return) and node.value is not None:
            step = first_step(node.value)
            if step is not None and step is not node.value:
                before, after = around(text, node, step)
                rest = f"{before}{name}{after}"
                if before.endswith("(") and after.startswith(")"):
                    rest = lightest(f"{before[:-1]}{name}{after[1:]}", rest)
                yield Site([node], {}, f"{name} = {enclosed(text, step)}\n{rest}")


def around(text: Text, statement: ast.stmt, part: Node) -> tuple[str, str]:
    """The text of a statement before and after one part of it."""
    (start, end), (part_start, part_end) = text.span(statement), text.span(part)
    return text.data[start:part_start].decode(), text.data[part_end:end].decode()


def inline(text: Text, scope: Scope) -> Iterator[Site]:
    """A local name that only the next statement reads, before it does anything else, gives way to its value."""
    names = [node.id for node in ast.walk(scope.node) if isinstance(node, ast.Name)]
    own = own_names(scope.node)
    for body in bodies(scope.node):
        for node, after in zip(body, body[1:], strict=False):
            match node, after:
                case ast.Assign([ast.Name(name)], value), (ast.Assign(_, into) | ast.Return(ast.expr() as into)):
                    used = into if isinstance(into, ast.Name) and into.id == name else first_use(into, name)
                    if used is not None and name in own and names.count(name) == 2:
                        before, rest = around(text, after, used)
                        cut = text.cut(value)
                        yield Site([node, after], {}, lightest(f"{before}{cut}{rest}", f"{before}({cut}){rest}"))


def split_tuple(text: Text, scope: Scope) -> Iterator[Site]:
    """`a, b = e, f` on two lines."""
    for node in ast.walk(scope.node):
        match node:
            case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)):
                names = [each.id for each in targets if isinstance(each, ast.Name)]
                read = {each.id for value in values[1:] for each in ast.walk(value) if isinstance(each, ast.Name)}
                if len(names) == len(targets) == len(values) and not read & set(names):
                    pairs = zip(names, values, strict=True)
                    yield Site([node], {}, "\n".join(f"{name} = {enclosed(text, value)}" for name, value in pairs))


def reorder_keywords(text: Text, scope: Scope) -> Iterator[Site]:
    """Keyword arguments in reverse. Not of dict(), which remembers their order."""
    for node in ast.walk(scope.node):
        match node:
            case ast.Call(func, args, [_, _, *_] as named) if not isinstance(func, ast.Name) or func.id != "dict":
                if all(each.arg and quiet(each) for each in named):
                    parts = [text.cut(each) for each in [*args, *reversed(named)]]
                    yield Site([node], {}, f"{text.cut(func)}({', '.join(parts)})")


REWRITES: dict[str, Rewrite] = {
    "axes": by_pattern(("$x.transpose($a, $b)", "$x.transpose($b, $a)", all_quiet("a", "b"))),
    "factors": by_pattern(("$a * $b", "$b * $a", one_quiet)),
    "terms": by_pattern(("$a + $b", "$b + $a", one_quiet, numeric)),
    "comparison": by_pattern(
        *both_ways(("$a < $b", "$b > $a", one_quiet), ("$a <= $b", "$b >= $a", one_quiet)),
        ("$a == $b", "$b == $a", one_quiet),
        ("$a != $b", "$b != $a", one_quiet),
    ),
    "ternary": by_pattern(
        *both_ways(("$a if $x is None else $b", "$b if $x is not None else $a")),
        ("$a if not $c else $b", "$b if $c else $a"),
        ("$a if $c else $b", "$b if not $c else $a", unnegated),
    ),
    "method or function": by_pattern(
        *((f"$x.{name}($...r)", f"torch.{name}($x, $...r)", tensor("x")) for name in METHODS),
        *((f"torch.{name}($x, $...r)", f"$x.{name}($...r)") for name in METHODS),
        *both_ways(("F.softmax($x, $...r)", "$x.softmax($...r)", tensor("x"))),
        *both_ways(("F.log_softmax($x, $...r)", "$x.log_softmax($...r)", tensor("x"))),
    ),
    "operator or method": by_pattern(
        *both_ways(("$a @ $b", "torch.matmul($a, $b)", tensor("a", "b"))),
        *both_ways(("$a ** $b", "$a.pow($b)", tensor("a"))),
        *both_ways(("$a.square()", "$a.pow(2)", tensor("a"))),
        *both_ways(("$a.transpose(-2, -1)", "$a.mT", tensor("a"))),
    ),
    "keyword or position": by_pattern(
        *both_ways(
            *((f"$x.{name}($d, $...r)", f"$x.{name}(dim=$d, $...r)", tensor("x"), keywords) for name in DIM_FIRST)
        ),
        *both_ways(*((f"$x.{name}($n, $d)", f"$x.{name}($n, dim=$d)", tensor("x")) for name in ("chunk", "split"))),
        *both_ways(
            *((f"F.{name}($x, $d, $...r)", f"F.{name}($x, dim=$d, $...r)", keywords) for name in FUNCTIONAL[-1:])
        ),
        *both_ways(*((f"torch.{name}($x, $d)", f"torch.{name}($x, dim=$d)") for name in ("cat", "stack"))),
        *both_ways(("$x.gather($d, $i)", "$x.gather(dim=$d, index=$i)", tensor("x"))),
        *both_ways(("F.dropout($x, $p, $t)", "F.dropout($x, p=$p, training=$t)")),
        *both_ways(("F.dropout($x, $p)", "F.dropout($x, p=$p)")),
        *both_ways(("nn.Embedding($n, $d)", "nn.Embedding(num_embeddings=$n, embedding_dim=$d)")),
        *both_ways(("nn.Linear($n, $m, $...r)", "nn.Linear(in_features=$n, out_features=$m, $...r)", keywords)),
    ),
    "default": by_pattern(
        *both_ways(("range($n)", "range(0, $n)")),
        *both_ways(("torch.arange($n, $...r)", "torch.arange(0, $n, $...r)", keywords)),
        *both_ways(("nn.init.normal_($x, std=$s)", "nn.init.normal_($x, mean=0.0, std=$s)")),
        *both_ways(("nn.Linear($n, $m)", "nn.Linear($n, $m, bias=True)")),
        *both_ways(("zip($a, $b)", "zip($a, $b, strict=False)")),
    ),
    "size": by_pattern(*both_ways(("$x.shape[$i]", "$x.size($i)", tensor("x"), all_quiet("i")))),
    "sizes as a tuple": by_pattern(
        *(
            (f"$x.{name}($a, $b, $...r)", f"$x.{name}(($a, $b, $...r))", tensor("x"), no_keywords)
            for name in ("view", "reshape", "permute", "expand")
        ),
        *(
            (f"torch.{name}($a, $b, $...r)", f"torch.{name}(($a, $b), $...r)", keywords)
            for name in ("zeros", "ones", "randn", "rand", "empty")
        ),
    ),
    "list or generator": by_pattern(
        *(
            row
            for name in ("nn.ModuleList", "sum", "tuple", "sorted")
            for row in both_ways((f"{name}($e for $t in $i)", f"{name}([$e for $t in $i])"))
        )
    ),
    "list or tuple": by_pattern(
        *(
            row
            for name in ("cat", "stack")
            for row in both_ways((f"torch.{name}(($...a,), $...r)", f"torch.{name}([$...a], $...r)"))
        )
    ),
    "flip if": flip_if,
    "else after return": else_after_return,
    "ternary or if": ternary_statement,
    "name a result": name_result,
    "name a step": name_step,
    "inline a name": inline,
    "split a tuple": split_tuple,
    "order of keywords": reorder_keywords,
}
