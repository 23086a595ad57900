"""The reference with its bodies cut out (a starter), put back (an answer), and read for hints."""

import ast
import re
import tokenize
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kakehashi.source.text import Definition, Function, SourceError, Splice, Text, bound, parsed

KAKEHASHI = Path(__file__).parent.parent
ROOMS = ("models", "autograd", "tokenizers")  # those that hold references


class Body(NamedTuple):
    """The bytes of what a function does: all after its docstring, comments included."""

    start: int
    end: int
    indent: bytes | None  # None: the body stands on the line of the signature


def body_of(text: Text, node: Function) -> Body:
    documented = ast.get_docstring(node, clean=False) is not None
    colon = _colon(text, node)
    head = text.span(node.body[0])[1] if documented else colon
    statements = node.body[documented:]
    line_end = text.newline_after(head)
    on_this_line = bool(statements) and text.span(statements[0])[0] < line_end.start
    start = text.span(statements[0])[0] if on_this_line else line_end.end
    last = text.newline_after(text.span(node.body[-1])[1])
    first = text.span(node.body[0])[0]
    if first < text.newline_after(colon).start:
        return Body(min(start, last.start), last.start, None)
    indent = text.data[text.line_at(first)[0] : first]
    return Body(start, max(start, _comments_end(text, last.end, indent)), indent)


def _colon(text: Text, node: Function) -> int:
    """The byte after the colon that ends a signature."""
    start = text.span(node.returns)[1] if node.returns else text.span(node)[0]
    depth = 0
    for token in text.tokens:
        if token.start >= start and token.kind == tokenize.OP:
            depth += (token.text in "([{") - (token.text in ")]}")
            if token.text == ":" and depth <= 0:
                return token.end
    raise AssertionError(f"no colon after def {node.name}")


def _comments_end(text: Text, start: int, indent: bytes) -> int:
    """Where the comments end that still belong to a body: those after its last statement, as deep as it."""
    end = start
    while start < len(text.data):
        start, after = text.line_at(start)
        line = text.data[start:after]
        if line.strip():
            if not (line.startswith(indent) and line.lstrip().startswith(b"#")):
                break
            end = after
        start = after
    return end


def blank(source: str, symbols: Iterable[str]) -> str:
    """The source with the bodies of the symbols cut out: signature, decorators and docstring stay, the rest becomes
    `raise NotImplementedError("Class.method")`. A class stands for all its methods.

    Raises SourceError for a symbol that is not there.
    """
    text = parsed(source)
    splices = {}
    for symbol in symbols:
        for name, _, node in text.functions(symbol):
            body = body_of(text, node)
            old = text.data[body.start : body.end]
            if old:
                starts_line = body.indent is not None and text.line_at(body.start)[0] == body.start
                line_break = re.search(rb"(\r\n|\r|\n)?\Z", old)[0]
                indent = body.indent if starts_line else b""
                splices[body.start] = Splice(
                    body.start, body.end, indent + f'raise NotImplementedError("{name}")'.encode() + line_break
                )
    return text.splice(splices.values())


def fill(starter: str, source: str, symbols: Iterable[str]) -> str:
    """The starter with the bodies of the symbols taken from the source, whatever stood there.

    `fill(blank(s, names), s, names) == s`, byte for byte. Raises SourceError where either lacks a symbol.
    """
    into, text = parsed(starter, "the starter"), parsed(source, "the reference")
    splices = {}
    for symbol in symbols:
        for name, i, node in text.functions(symbol):
            places = [each for each in into.find(name) if isinstance(each, Function)]
            if i >= len(places):
                raise SourceError(f"the starter has {len(places)} functions {name!r}, the reference more")
            old, new = body_of(into, places[i]), body_of(text, node)
            if (old.indent is None) != (new.indent is None):  # one of them on one line: the whole definition moves
                (start, end), indent = into.whole_lines(places[i])
                (first, last), from_indent = text.whole_lines(node)
                splices[start] = Splice(start, end, text.reindent(first, last, from_indent, indent))
            elif old.indent is None or new.indent is None:
                splices[old.start] = Splice(old.start, old.end, text.data[new.start : new.end])
            else:
                moved = text.reindent(new.start, new.end, new.indent, old.indent)
                splices[old.start] = Splice(old.start, old.end, moved)
    return into.splice(splices.values())


def is_blank(node: Definition) -> bool:
    """True if a definition does nothing yet: `pass`, `...`, a docstring, `raise NotImplementedError`; for a class, if
    all its methods do nothing and nothing else stands in it."""
    return all(_does_nothing(statement) for statement in node.body)


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name("NotImplementedError") | ast.Call(ast.Name("NotImplementedError"))):
            return True
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return is_blank(statement)
    return False


def empty(source: str, reference: str, symbols: Iterable[str]) -> list[str]:
    """What of the symbols is still to be written in the source: blank, or missing.

    A class that is there is asked method by method for those left blank (one it lacks may be inherited, or not needed
    the way it is built); a method asked for by name must be there, if only by assignment or inheritance. What the
    reference leaves blank is never empty.
    """
    text, model = parsed(source, "the file"), parsed(reference, "the reference")
    others = set().union(*map(bound, text.tree.body)) - set(text.symbols)  # `GELU = nn.GELU` is written, too
    result = []
    for symbol in symbols:
        asked = model.find(symbol)[-1]
        if symbol in text.symbols:
            written = not is_blank(text.symbols[symbol][-1]) or is_blank(asked)
            result += blank_functions(text, model, symbol) or ([] if written else [symbol])
        elif symbol not in others and not _provided(text, symbol):
            result.append(symbol)
    return list(dict.fromkeys(result))


def written(source: str, reference: str, symbol: str) -> list[str]:
    """The functions of a symbol that do something in both the source and the reference."""
    text, model = parsed(source, "the file"), parsed(reference, "the reference")
    names = dict.fromkeys(name for name, _, node in model.functions(symbol) if not is_blank(node))
    return [name for name in names if name in text.symbols and not is_blank(text.symbols[name][-1])]


def _provided(text: Text, symbol: str) -> bool:
    """True if a class has a method without a `def` in its own body: `__radd__ = __add__`, or inherited from a class of
    the text."""
    owner, _, name = symbol.rpartition(".")
    owners = [owner]
    for each in owners:
        for node in text.symbols.get(each, ()):
            for statement in node.body:
                if name in bound(statement) and not (isinstance(statement, Definition) and is_blank(statement)):
                    return True
            bases = node.bases if isinstance(node, ast.ClassDef) else []
            owners += [base.id for base in bases if isinstance(base, ast.Name) and base.id not in owners]
    return False


def altered(source: str, reference: str) -> dict[str, int]:
    """The functions and classes that a source writes at its top level in another way than the reference: name -> line.

    Comments, docstrings and annotations make no other way; what is blank is not written.
    """
    text, model = parsed(source, "the file"), parsed(reference, "the reference")
    names = [name for name in model.symbols if "." not in name and name in text.symbols]
    both = [(name, text.symbols[name][-1], model.symbols[name][-1]) for name in names]
    return {
        name: own.lineno
        for name, own, theirs in both
        # most stand there as they were given, which their text tells at once
        if not is_blank(own) and text.cut(own) != model.cut(theirs) and _program(own) != _program(theirs)
    }


def _program(definition: Definition) -> str:
    """What of a definition Python runs, in one form."""
    definition = deepcopy(definition)
    for node in ast.walk(definition):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, Definition):
            del node.body[: ast.get_docstring(node) is not None]
            if not isinstance(node, ast.ClassDef):
                node.returns = None
    return ast.dump(definition)


def blank_functions(text: Text, model: Text, symbol: str) -> list[str]:
    """The functions of a symbol that stand in both texts, written in the model and blank in the text."""
    names = (name for name, _, node in model.functions(symbol) if name in text.symbols and not is_blank(node))
    return list(dict.fromkeys(name for name in names if is_blank(text.symbols[name][-1])))


_AXIS = r"(?:\.\.\.|[A-Z](?: [A-Z])+|\w+(?:\s*(?:\*\*|//|[-+*/])\s*\w+)*)"  # T, n_embd, 4C, N C, cached + T
_SHAPE = (
    rf"\((?=[^)]*(?:\b[A-Z]\b|\.\.\.)){_AXIS}(?:\s*,\s*{_AXIS})*,?\s*\)"  # some axis is a capital, or there are "..."
)
_ASSIGNED = re.compile(r"\s*([\w.]+(?:, *[\w.]+)*) = ")
_SHAPES = re.compile(rf"{_SHAPE}(?:\s*->\s*{_SHAPE})*")


def strip_comments(source: str, keep_shapes: bool = True) -> str:
    """The source without its comments. Shape comments such as `# (B, T, C) -> (B, H, T, D)` stay; of a comment that
    says more, only the shapes."""
    text = parsed(source)
    splices = []
    for token in text.tokens:
        if token.kind != tokenize.COMMENT:
            continue
        shapes = [found[0] for found in _SHAPES.finditer(token.text)] if keep_shapes else []
        line_start, line_end = text.line_at(token.start)
        before = text.data[line_start : token.start]
        if shapes:
            splices.append(Splice(token.start, token.end, f"# {', '.join(shapes)}".encode()))
        elif before.strip():
            splices.append(Splice(line_start + len(before.rstrip()), token.end, b""))
        else:
            splices.append(Splice(line_start, line_end, b""))
    return text.splice(splices)


@dataclass(frozen=True)
class Hints:
    """What a reference body's own comments give away, in order: the trail of shapes, what has them, and the reasons.

    names: beside each shape the variables of its line ("q, k, v"), "" where the line assigns none.
    """

    shapes: tuple[str, ...]
    names: tuple[str, ...]
    whys: tuple[str, ...]


def hints(source: str, symbol: str) -> Hints:
    """The hints in the bodies of a symbol. Comments on lines of their own that follow one another are one reason."""
    text = parsed(source)
    shapes: list[str] = []
    names: list[str] = []
    whys: list[str] = []
    for _, _, node in text.functions(symbol):
        body = body_of(text, node)
        continues = -1  # where a comment must begin to go on with the last one
        for token in text.tokens:
            if token.kind != tokenize.COMMENT or not body.start <= token.start < body.end:
                continue
            found = [shape[0] for shape in _SHAPES.finditer(token.text)]
            shapes += found
            line_start, line_end = text.line_at(token.start)
            assigned = _ASSIGNED.match(text.data[line_start : token.start].decode())
            names += [assigned[1] if assigned else ""] * len(found)
            if (
                found and len(_SHAPES.sub("", token.text.lstrip("#")).split()) < 3
            ):  # at most "each (B, T, C)": no reason
                continue
            alone = not text.data[line_start : token.start].strip()
            words = token.text.lstrip("#").strip()
            if alone and line_start == continues:
                whys[-1] += f" {words}"
            else:
                whys.append(words)
            continues = line_end if alone else -1
    return Hints(tuple(shapes), tuple(names), tuple(whys))


class Import(NamedTuple):
    line: int
    module: str


def lint_imports(source: str, reference: str) -> list[Import]:
    """Imports of the answers: of a package of ROOMS, a file in them that the reference does not import itself, or a
    name that the reference defines. Other names of these packages (Tensor, ShapeError) are free.

    The commonest accident: an editor's auto-import.
    """
    allowed = {each.module for each in _imports(reference)}
    answers = {"*", *parsed(reference).symbols}

    def is_answer(module: str) -> bool:
        _, package, *names = module.split(".")
        return not names or names[0] in answers or (KAKEHASHI / package / f"{names[0]}.py").is_file()

    return [each for each in _imports(source) if each.module not in allowed and is_answer(each.module)]


def _imports(source: str) -> list[Import]:
    """What a text imports of the rooms that hold references."""
    found = []
    for node in ast.walk(parsed(source).tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            # `from package import name`: the name may be a module or something in the package
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "kakehashi" and len(parts) > 1 and parts[1] in ROOMS:
                found.append(Import(node.lineno, ".".join(parts[:3])))
    return sorted(set(found))
