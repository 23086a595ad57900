"""Reviewable edits of a source text, found by structure: blanks, parentheses and comments do not matter."""

import ast
import difflib
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kakehashi.source.text import SourceError, Splice, Text, parsed

_ANY, _REST = "kakehashi_any_", "kakehashi_rest_"
_HOLE = re.compile(r"\$(\.\.\.)?([A-Za-z_]\w*)")
_UNSEEN = {"ctx", "type_comment", "kind"}  # fields in which equal code may differ
_ATOMS = (ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Call, ast.List, ast.Dict, ast.Set)


class DoesNotApply(SourceError):
    """An edit that does not match exactly once, or whose result would not be the edit meant. `why` says which."""

    def __init__(self, why: str):
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Edit:
    """Within a symbol, turn the one place that looks like `find` into `replace`.

    find is an expression, a statement or several in a row. `$x` stands for any expression, the same one where it is
    named twice; `$...a` for the arguments that are left. replace may use both; "" removes the statement. forms are
    other (find, replace) pairs, tried in order where the first does not match: code in another style.
    """

    symbol: str
    find: str
    replace: str
    forms: tuple[tuple[str, str], ...] = ()


class Injected(NamedTuple):
    """lines: the changed lines of the new source (for a removal, the line now in its place); form: for each edit which
    form matched, 0 being find itself."""

    source: str
    lines: tuple[int, ...]
    form: tuple[int, ...]


class Site(NamedTuple):
    """A place inside a definition that a pattern matches: one expression, or statements in a row."""

    nodes: Sequence[ast.expr] | Sequence[ast.stmt]
    bound: dict[str, Any]  # what the holes hold: an expression, or a list of arguments
    replace: str
    with_comment: bool = False  # replace brings along the comment that ends the last line


def inject(source: str, edits: Iterable[Edit]) -> Injected:
    """Apply edits one after the other, each to the result of those before it.

    Raises DoesNotApply where an edit matches nowhere or in several places, changes nothing, or gives no valid Python.
    """
    lines: tuple[int, ...] = ()
    taken = []
    for edit in edits:
        form, site, text = _only_site(source, edit)
        splice = swap(text, site)
        if splice is None:
            raise DoesNotApply(f"{edit.symbol}: {edit.replace!r} cannot stand in the place of {edit.find!r}")
        changed = text.splice([splice])
        if changed == source:
            raise DoesNotApply(f"{edit.symbol}: {edit.find!r} -> {edit.replace!r} changes nothing")
        hunk = changed_lines(source, changed)
        lines = tuple(sorted({*follow(source, changed, lines), *hunk}))
        source = changed
        taken.append(form)
    return Injected(source, lines, tuple(taken))


def _only_site(source: str, edit: Edit) -> tuple[int, Site, Text]:
    text = parsed(source)
    if edit.symbol not in text.symbols:
        raise DoesNotApply(f"{edit.symbol}: there is no such symbol")
    found = []
    for form, (find, replace) in enumerate([(edit.find, edit.replace), *edit.forms]):
        places = [site for node in text.symbols[edit.symbol] for site in sites(node, find, replace)]
        if len(places) == 1:
            return form, places[0], text
        where = f" (lines {', '.join(str(site.nodes[0].lineno) for site in places)})" if places else ""
        found.append(f"{find!r} matches {len(places) or 'no'} places{where}")
    raise DoesNotApply(f"{edit.symbol}: {'; '.join(found)}; exactly one is needed")


def pattern(text: str) -> list[ast.stmt]:
    """A pattern as syntax, its holes as marked names."""
    marked = _HOLE.sub(lambda hole: f"{'*' + _REST if hole[1] else _ANY}{hole[2]}", textwrap.dedent(text).strip("\n"))
    return ast.parse(marked).body


def single_expression(body: list[ast.stmt]) -> ast.expr | None:
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None


def sites(scope: ast.AST, find: str, replace: str) -> Iterator[Site]:
    """All places in a node that look like `find`: expressions anywhere, if replace is one, too; else statements."""
    wanted = pattern(find)
    expression = single_expression(wanted)
    if expression and single_expression(pattern(replace)):
        for node in ast.walk(scope):
            if isinstance(node, ast.expr) and matches(expression, node, bound := {}):
                yield Site([node], bound, replace)
        return
    for body in bodies(scope):
        for i in range(len(body) - len(wanted) + 1):
            run = body[i : i + len(wanted)]
            if matches(wanted, run, bound := {}):
                yield Site(run, bound, replace)


def bodies(scope: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements in a node."""
    for node in ast.walk(scope):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body:
                yield body


def matches(wanted, found, bound: dict) -> bool:
    """True if two pieces of syntax are the same up to the holes in `wanted`; what the holes hold goes to `bound`."""
    if isinstance(wanted, ast.Name) and wanted.id.startswith(_ANY):
        return (
            isinstance(found, ast.expr)
            and not isinstance(found, ast.Starred)
            and _bind(wanted.id.removeprefix(_ANY), found, bound)
        )
    if isinstance(wanted, ast.Call) and isinstance(found, ast.Call) and (rest := _rest(wanted.args)) is not None:
        return _matches_call(wanted, found, rest, bound)
    if isinstance(wanted, ast.AST):
        return type(wanted) is type(found) and all(
            matches(getattr(wanted, field), getattr(found, field), bound)
            for field in wanted._fields
            if field not in _UNSEEN
        )
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return False
        if (rest := _rest(wanted)) is not None:
            stop = len(found) - (len(wanted) - rest - 1)
            return (
                rest <= stop
                and matches(wanted[:rest] + wanted[rest + 1 :], found[:rest] + found[stop:], bound)
                and _bind(_rest_name(wanted[rest]), found[rest:stop], bound)
            )
        return len(wanted) == len(found) and all(map(matches, wanted, found, [bound] * len(found)))
    return type(wanted) is type(found) and wanted == found


def _rest(nodes: list) -> int | None:
    """Where in a list `$...a` stands."""
    return next((i for i, node in enumerate(nodes) if _rest_name(node)), None)


def _rest_name(node: ast.AST) -> str:
    match node:
        case ast.Starred(ast.Name(name)) if name.startswith(_REST):
            return name.removeprefix(_REST)
    return ""


def _matches_call(wanted: ast.Call, found: ast.Call, rest: int, bound: dict) -> bool:
    """A call with `$...a`: the keywords of the pattern in any order; all other arguments are the rest."""
    named = {keyword.arg: keyword for keyword in found.keywords}
    if not all(keyword.arg in named for keyword in wanted.keywords):
        return False
    keywords = [named.pop(keyword.arg) for keyword in wanted.keywords]
    stop = len(found.args) - (len(wanted.args) - rest - 1)
    return (
        rest <= stop
        and matches(wanted.func, found.func, bound)
        and matches(wanted.args[:rest] + wanted.args[rest + 1 :], found.args[:rest] + found.args[stop:], bound)
        and matches(wanted.keywords, keywords, bound)
        and _bind(_rest_name(wanted.args[rest]), [*found.args[rest:stop], *named.values()], bound)
    )


def _bind(name: str, found, bound: dict) -> bool:
    if name in bound:
        return matches(bound[name], found, {})
    bound[name] = found
    return True


def swap(text: Text, site: Site) -> Splice | None:
    """What puts the replacement of a site in its place, or None where no way of writing it parses as what is meant.

    What is meant is known: the old definition with new nodes in the place of the old. So parentheses are found by
    trying, the fewest first, and a splice that would change anything else is refused.
    """
    expected: list = pattern(site.replace or "pass")
    if isinstance(site.nodes[0], ast.expr):
        expected = [single_expression(expected)]
        ways = _expression_ways(text, site)
    elif site.replace:
        ways = _statement_ways(text, site)
    else:
        siblings = next(body for body in bodies(text.tree) if site.nodes[0] in body)
        alone = len(siblings) == len(site.nodes)
        expected = expected if alone else []
        ways = _statement_ways(text, site._replace(replace="pass")) if alone else _removal_ways(text, site, siblings)
    around = next(each for each in text.tree.body if site.nodes[0].lineno <= text.place(each)[1])
    (start, end), _ = text.whole_lines(around)
    for splice in ways:
        try:
            body = ast.parse((text.data[start : splice.start] + splice.new + text.data[splice.end : end]).decode()).body
        except SyntaxError:
            continue
        if len(body) == 1 and _becomes(around, body[0], site, expected):
            return splice
    return None


def _becomes(old, new, site: Site, expected: list) -> bool:
    """True if `new` is `old` with the nodes of the site replaced by what is expected."""
    if isinstance(old, ast.AST):
        if old is site.nodes[0] and isinstance(old, ast.expr):
            return matches(expected[0], new, dict(site.bound))
        return type(old) is type(new) and all(
            _becomes(getattr(old, field), getattr(new, field), site, expected)
            for field in old._fields
            if field not in _UNSEEN
        )
    if isinstance(old, list):
        if not isinstance(new, list):
            return False
        at = next((i for i, node in enumerate(old) if node is site.nodes[0] and isinstance(node, ast.stmt)), None)
        if at is not None:
            end = at + len(expected)
            rest = old[:at] + old[at + len(site.nodes) :]
            return matches(expected, new[at:end], dict(site.bound)) and matches(rest, new[:at] + new[end:], {})
        return len(old) == len(new) and all(_becomes(a, b, site, expected) for a, b in zip(old, new, strict=True))
    return type(old) is type(new) and old == new


def _render(text: Text, site: Site, template: str, wrap: bool) -> str:
    """The replacement with its holes filled by source text, in parentheses where `wrap`."""
    for name, held in site.bound.items():
        if held == []:
            template = re.sub(rf",\s*\$\.\.\.{name}\b|\$\.\.\.{name}\b\s*,?\s*", "", template)

    def filled(hole: re.Match) -> str:
        held = site.bound[hole[2]]
        if isinstance(held, list):
            return ", ".join(map(text.cut, held))
        cut = text.cut(held)
        return f"({cut})" if wrap and not isinstance(held, _ATOMS) else cut

    return _HOLE.sub(filled, template)


def _expression_ways(text: Text, site: Site) -> Iterator[Splice]:
    start, end = text.span(site.nodes[0])
    before, after = text.data[:start].rstrip(), text.data[end:].lstrip()
    for wrap in (False, True):
        new = _render(text, site, site.replace, wrap)
        if before.endswith(b"(") and after.startswith(b")"):  # parentheses that only held the old expression
            yield Splice(len(before) - 1, len(text.data) - len(after) + 1, new.encode())
        yield Splice(start, end, new.encode())
        yield Splice(start, end, f"({new})".encode())


def _statement_ways(text: Text, site: Site) -> Iterator[Splice]:
    start, end = text.span(site.nodes[0])[0], text.span(site.nodes[-1])[1]
    if site.with_comment:
        end = text.newline_after(end).start
    indent = re.match(rb"[ \t\f]*", text.data[text.line_at(start)[0] : start])[0].decode()
    line_break = "\r\n" if b"\r\n" in text.data else "\n"
    lines = textwrap.dedent(site.replace).strip("\n").splitlines()
    template = line_break.join([lines[0], *(indent + line if line.strip() else "" for line in lines[1:])])
    for wrap in (False, True):
        yield Splice(start, end, _render(text, site, template, wrap).encode())


def _removal_ways(text: Text, site: Site, siblings: list[ast.stmt]) -> Iterator[Splice]:
    start, end = text.span(site.nodes[0])[0], text.span(site.nodes[-1])[1]
    line_start, last = text.line_at(start)[0], text.newline_after(end)
    if not text.data[line_start:start].strip() and not _semicolon(text, end, last.start):
        yield Splice(line_start, last.end, b"")
    at = next(i for i, node in enumerate(siblings) if node is site.nodes[0])
    if at + len(site.nodes) < len(siblings):
        yield Splice(start, text.span(siblings[at + len(site.nodes)])[0], b"")
    if at:
        yield Splice(text.span(siblings[at - 1])[1], end, b"")


def _semicolon(text: Text, start: int, end: int) -> bool:
    return any(token.kind == tokenize.OP and start <= token.start < end for token in text.tokens)


def changed_lines(before: str, after: str) -> list[int]:
    """The lines of `after` in the one stretch where it differs; the line in its place where lines only went away."""
    old, new = before.split("\n"), after.split("\n")
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    most = min(len(old), len(new)) - same
    tail = next((i for i in range(most) if old[-1 - i] != new[-1 - i]), most)
    return list(range(same + 1, len(new) - tail + 1)) or [min(same + 1, len(new))]


def follow(before: str, after: str, lines: Iterable[int]) -> tuple[int, ...]:
    """Where lines of `before` stand in `after`; a line that was rewritten is followed to all it may have become."""
    lines = set(lines)
    result = set()
    old, new = before.split("\n"), after.split("\n")
    for _, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if lines else ():
        touched = {line - 1 - a for line in lines if a < line <= b}
        if b - a == d - c:
            result |= {c + i + 1 for i in touched}
        elif touched:
            result |= set(range(c + 1, d + 1)) or {min(c + 1, len(new))}
    return tuple(sorted(result))
