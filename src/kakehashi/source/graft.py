"""A half-finished file made whole: what the learner has not written comes from the reference, each line keeping the
file and number it came from."""

import ast
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, ModuleType

from kakehashi.source.cut import blank_functions, empty, is_blank
from kakehashi.source.text import BOM, Definition, SourceError, Text, bound, read, syntax_errors

Line = tuple[str, int]  # text, and where it came from: n for line n of the learner, n + offset for one of the reference


def compose(
    learner: str, learner_path: str | Path, reference: str, reference_path: str | Path, mine: Iterable[str] | None
) -> tuple[CodeType, list[str]]:
    """Code of the learner's file with the reference in the place of what is not the learner's, and what was borrowed.

    mine=None: all the learner wrote stays; what is missing or blank is borrowed. mine=[symbol, ...]: only these are the
    learner's; every other symbol of the reference comes from there, so a failure belongs to the symbols asked about.

    Definitions are borrowed whole, for two halves of a class seldom agree on their attributes; only in a class that is
    the learner's, the methods left blank are borrowed singly. What only the learner has (helpers, imports) always stays,
    and imports and constants it lacks are added. Tracebacks and inspect.getsource of a function find the file it stands
    in. Raises SourceError while one of `mine` is blank or missing: else the reference would pass in its place.
    """
    lines, offset, borrowed = _graft(learner, str(learner_path), reference, str(reference_path), mine)
    origins = [0, *(origin for _, origin in lines)]
    tree = Text("".join(text for text, _ in lines), str(learner_path)).tree
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno, node.end_lineno = origins[node.lineno], origins[node.end_lineno]
    return _settle(_compiled(tree, learner_path), offset, str(reference_path)), borrowed


def composed(
    learner: str, reference: str, mine: Iterable[str] | None = None, learner_path: str | Path = "the file"
) -> tuple[str, list[str]]:
    """The same as one text that is complete on its own: what a run keeps as its source.py."""
    lines, _, borrowed = _graft(learner, str(learner_path), reference, "the reference", mine)
    return "".join(text for text, _ in lines), borrowed


def _graft(learner: str, learner_name: str, reference: str, reference_name: str, mine: Iterable[str] | None):
    text, model = Text(learner, learner_name), Text(reference, reference_name)
    if mine is not None:
        mine = list(mine)
        if unwritten := empty(learner, reference, mine):
            raise SourceError(f"{learner_name}: still to be written: {', '.join(unwritten)}")
    kept = None if mine is None else {symbol.split(".")[0] for symbol in mine}

    lines: list[Line] = [(line, i) for i, line in enumerate(text.lines(), 1)]
    offset = len(lines)
    theirs = model.lines()
    line_break = "\r\n" if "\r\n" in learner else "\n"
    replaced: dict[int, tuple[int, list[Line]]] = {}  # first line -> last line, what stands there instead
    added: dict[int, list[Line]] = {}  # line -> what follows it
    borrowed: list[str] = []

    def taken(node: ast.stmt) -> list[Line]:
        first, last = model.place(node)
        return [(theirs[i - 1].rstrip("\r\n") + line_break, i + offset) for i in range(first, last + 1)]

    def borrow_method(name: str) -> None:
        for old, new in zip(text.symbols[name], model.symbols[name], strict=False):
            first, last = text.place(old)
            indents = [
                each.data[each.starts[node.lineno - 1] : each.span(node)[0]]
                for each, node in ((model, new), (text, old))
            ]
            start, end = model.starts[model.place(new)[0] - 1], model.line_at(model.offset(new.end_lineno, 0))[1]
            moved = model.reindent(start, end, *indents).decode().splitlines()
            origin = model.place(new)[0] + offset
            replaced[first] = last, [(line + line_break, origin + i) for i, line in enumerate(moved)]
        borrowed.append(name)

    cursor = _first_line(text) - 1
    for statement in model.tree.body:
        names = bound(statement)
        here = [each for each in text.tree.body if bound(each) & names]
        own = [each for each in here if isinstance(each, Definition)]
        if isinstance(statement, Definition):
            name = statement.name
            theirs_only = kept is not None and name not in kept
            if own and not theirs_only and not (is_blank(own[-1]) and not is_blank(statement)):
                for method in blank_functions(text, model, name):
                    borrow_method(method)
            elif own:
                first, last = text.place(own[-1])
                replaced[first] = last, taken(statement)
                borrowed.append(name)
            elif theirs_only or not here:
                after = max([cursor, *(each.end_lineno for each in here)])
                added.setdefault(after, []).extend([(line_break, offset), (line_break, offset), *taken(statement)])
                borrowed.append(name)
        elif names - set().union(*map(bound, here)):
            added.setdefault(cursor, []).extend(taken(statement))
        cursor = max([cursor, *(each.end_lineno for each in here)])

    result = list(added.get(0, []))
    skip_to = 0
    for text_line, i in lines:
        if i in replaced:
            skip_to, instead = replaced[i]
            result += instead
        if i > skip_to:
            result.append(
                (text_line if text_line.endswith(("\n", "\r")) or i not in added else text_line + line_break, i)
            )
        result += added.get(i, [])
    return result, offset, borrowed


def _first_line(text: Text) -> int:
    """The first line where a statement may be put: after the docstring and the imports from __future__."""
    first = 1
    for statement in text.tree.body:
        documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not (documents or isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        first = statement.end_lineno + 1
    return first


def _compiled(tree: ast.Module, path: str | Path) -> CodeType:
    with syntax_errors(str(path)):  # some errors show only here: `return` outside a function
        return compile(tree, str(path), "exec", dont_inherit=True)


def _settle(code: CodeType, offset: int, path: str) -> CodeType:
    """Give the code objects that lie beyond the learner's last line back to the reference's file and numbering."""
    inner = tuple(_settle(each, offset, path) if isinstance(each, CodeType) else each for each in code.co_consts)
    code = code.replace(co_consts=inner)
    if code.co_firstlineno <= offset:
        return code
    return code.replace(co_filename=path, co_firstlineno=code.co_firstlineno - offset)  # other lines are relative to it


def load(path: str | Path, code: CodeType | None = None) -> ModuleType:
    """Run a file (or `code` composed from it) as a module of its own, named kakehashi_own.<stem>_<hash>.

    The name is private and changes with the text, so a pickle of its objects fails loudly elsewhere instead of meeting
    another class of the same name. Raises SourceError for a file that is missing or not Python; what the file raises
    itself comes through, and the module is dropped.
    """
    path = Path(path).resolve()
    source = read(path)
    code = code or _compiled(Text(source, str(path)).tree, path)
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
