"""A half-finished file made whole: what the learner has not written comes from the reference, each line keeping the
file and number it came from."""

import __future__

import ast
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from kakehashi.source.cut import blank_functions, empty, is_blank
from kakehashi.source.text import Definition, SourceError, Text, bound, parsed, read, syntax_errors


def compose(
    learner: str, learner_path: str | Path, reference: str, reference_path: str | Path, mine: Iterable[str] | None
) -> tuple[CodeType, list[str]]:
    """Code of the learner's file with the reference in the place of what is not the learner's, and what was borrowed.

    mine=None: all the learner wrote stays; what is blank, or missing and needed, is borrowed. mine=[symbol, ...]: only
    these are the learner's; every other symbol comes from the reference, so a failure belongs to what is asked about.

    Definitions are borrowed whole, for two halves of a class seldom agree on their attributes; only in a class that is
    the learner's, methods left blank are borrowed singly. What the learner alone has (helpers, imports) always stays;
    imports and constants it lacks are added. Tracebacks and inspect.getsource of a function find the file it stands in.
    Annotations are not evaluated: a borrowed one may name what the learner defines further down.
    Raises SourceError while one of `mine` is blank or missing: else the reference would pass in its place.
    """
    weave, borrowed = _graft(parsed(learner, str(learner_path)), parsed(reference, str(reference_path)), mine)
    lines = weave.lines()
    origins = [0, *(origin for _, origin in lines)]
    tree = Text("".join(line for line, _ in lines), str(learner_path)).tree
    node: Any
    for node in ast.walk(tree):
        if "lineno" in node._attributes:
            node.lineno, node.end_lineno = origins[node.lineno], origins[node.end_lineno]
            # several added lines may count as one, and compile() refuses a node that ends before it begins
            if node.lineno == node.end_lineno:
                node.end_col_offset = max(node.col_offset, node.end_col_offset)
    code = _compiled(tree, learner_path, __future__.annotations.compiler_flag)
    return _settle(code, weave.offset, str(reference_path)), borrowed


def composed(
    learner: str, reference: str, mine: Iterable[str] | None = None, learner_path: str | Path = "the file"
) -> tuple[str, list[str]]:
    """The same as one text that is complete on its own: what a run keeps as its source.py."""
    weave, borrowed = _graft(parsed(learner, str(learner_path)), parsed(reference, "the reference"), mine)
    return "".join(line for line, _ in weave.lines()), borrowed


class _Weave:
    """The learner's lines with lines of the reference among them, each with its origin: n is line n of the learner,
    n + offset line n of the reference."""

    def __init__(self, text: Text, model: Text):
        self.text, self.model = text, model
        self.own = text.lines()
        self.offset = len(self.own)
        self.line_break = "\r\n" if b"\r\n" in text.data else "\n"
        self.instead: dict[int, tuple[int, list[tuple[str, int]]]] = {}  # first line -> last line, what replaces them
        self.added: dict[int, list[tuple[str, int]]] = {}  # line -> what follows it

    def replace(self, old: Definition, new: Definition) -> None:
        _, indent = self.text.whole_lines(old)
        first, last = self.text.place(old)
        self.instead[first] = last, self.taken(new, indent)

    def insert(self, after: int, new: ast.stmt) -> None:
        space = [(self.line_break, self.offset)] * 2 if isinstance(new, Definition) else []
        lines = self.taken(new, b"")
        if not isinstance(new, Definition):  # runs among the learner's statements: an error there is told as being here
            lines = [(line, max(after, 1)) for line, _ in lines]
        self.added.setdefault(after, []).extend(space + lines)

    def taken(self, node: ast.stmt, indent: bytes) -> list[tuple[str, int]]:
        (start, end), old_indent = self.model.whole_lines(node)
        lines = self.model.reindent(start, end, old_indent, indent).splitlines()
        first, _ = self.model.place(node)
        return [(line.decode() + self.line_break, first + i + self.offset) for i, line in enumerate(lines)]

    def lines(self) -> list[tuple[str, int]]:
        result = list(self.added.get(0, []))
        done = 0
        for i, line in enumerate(self.own, 1):
            if i in self.instead:
                done, lines = self.instead[i]
                result += lines
            if i > done:
                ends = line.endswith(("\n", "\r")) or i not in self.added
                result.append((line if ends else line + self.line_break, i))
            result += self.added.get(i, [])
        return result


def _graft(text: Text, model: Text, mine: Iterable[str] | None) -> tuple[_Weave, list[str]]:
    kept = None
    if mine is not None:
        mine = list(mine)
        kept = {symbol.split(".")[0] for symbol in mine}
        if unwritten := empty(text.source, model.source, mine):
            raise SourceError(f"{text.name}: still to be written: {', '.join(unwritten)}")
    weave, borrowed = _Weave(text, model), []
    needed = _needed(text, model) if kept is None else set(model.symbols)
    last = _first_line(text) - 1  # the learner's line after which what comes next in the reference may stand
    present = [(each, bound(each)) for each in text.tree.body]
    for statement in model.tree.body:
        names = bound(statement)
        here = [each for each, theirs in present if theirs & names]
        last = max([last, *(text.place(each)[1] for each in here)])
        if not isinstance(statement, Definition):
            if names - set().union(*map(bound, here)):
                weave.insert(last, statement)
            continue
        name = statement.name
        own = text.symbols[name][-1] if name in text.symbols else None
        if kept is None or name in kept:
            if own and (is_blank(statement) or not is_blank(own)):
                methods = blank_functions(text, model, name)
                for method in methods:
                    for old, new in zip(text.symbols[method], model.symbols[method], strict=False):
                        weave.replace(old, new)
                borrowed += methods
                continue
            if not own and (here or name not in needed):  # `GELU = nn.GELU` is written, too
                continue
        if own:
            weave.replace(own, statement)
        else:
            weave.insert(last, statement)
        borrowed.append(name)
    return weave, borrowed


def _needed(text: Text, model: Text) -> set[str]:
    """The reference's definitions that the learner's file asks for, or what it borrows asks for."""

    def named(*nodes: ast.AST) -> set[str]:
        return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}

    present = set().union(*map(bound, text.tree.body))
    blanks = (model.symbols[name][-1] for symbol in model.symbols for name in blank_functions(text, model, symbol))
    constants = (each for each in model.tree.body if not isinstance(each, Definition) and not bound(each) <= present)
    asked = named(text.tree, *blanks, *constants)
    missing = {each.name: each for each in model.tree.body if isinstance(each, Definition)}
    needed: set[str] = set()
    while more := (asked & set(missing)) - present - needed:
        needed |= more
        asked = named(*(missing[name] for name in more))
    return needed


def _first_line(text: Text) -> int:
    """The first line where a statement may be put: after the docstring and the imports from __future__."""
    first = 1
    for statement in text.tree.body:
        documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not (documents or isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        first = statement.end_lineno + 1
    return first


def _compiled(tree: ast.Module, path: str | Path, flags: int = 0) -> CodeType:
    with syntax_errors(str(path)):  # some errors show only here: `return` outside a function
        return compile(tree, str(path), "exec", flags, dont_inherit=True)


def _settle(code: CodeType, offset: int, path: str) -> CodeType:
    """Give the code objects that lie beyond the learner's last line back to the reference's file and numbering."""
    inner = tuple(_settle(each, offset, path) if isinstance(each, CodeType) else each for each in code.co_consts)
    code = code.replace(co_consts=inner)
    if code.co_firstlineno <= offset:
        return code
    return code.replace(co_filename=path, co_firstlineno=code.co_firstlineno - offset)  # other lines are relative to it


def load(path: str | Path, code: CodeType | None = None) -> ModuleType:
    """Run a file (or `code` composed from it) as a module of its own, named kakehashi_own.<stem>_<hash>.

    The name is private and changes with the text, and cannot be imported: pickling its objects fails loudly instead of
    meeting another class of the same name later. Raises SourceError for a file that is missing or not Python; what the
    file raises itself comes through, and the module is dropped.
    """
    path = Path(path).resolve()
    source = read(path)
    code = code or _compiled(parsed(source, str(path)).tree, path)
    digest = hashlib.sha256(f"{path}\n{source}".encode()).hexdigest()[:12]
    module = ModuleType(f"kakehashi_own.{path.stem}_{digest}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # before it runs: dataclasses look their module up there
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module
