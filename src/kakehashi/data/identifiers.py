"""The words of which Python's standard library makes its names: "buffer", "encode", "unpack". One word is one document.

The embedded stand-in for makemore's names.txt: some thousand short strings over a to z. The names are those that the
sources define (functions, classes, arguments, assigned names and attributes); `HTTPServer`, `_read_chunked` and
`b64decode` give http, server, read, chunked, decode.
"""

import ast
import contextlib
import hashlib
import platform
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kakehashi import paths
from kakehashi.data import stdlib_code

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
LONGEST = 20
SHORT = 3  # so short a word is often noise (fh, dq, bbb): it needs two names


def documents() -> tuple[str, ...]:
    """Distinct words of 2 to 20 letters, sorted. They are kept in the user's cache, per sources and rules."""
    rules = Path(__file__).read_bytes() + Path(stdlib_code.__file__).read_bytes()
    sources = "\0".join(text for _, text in stdlib_code.files()).encode()
    key = hashlib.sha256(rules + sources).hexdigest()[:16]
    kept = paths.cache() / f"identifiers-{platform.python_version()}-{key}.txt"
    if kept.is_file():
        return tuple(kept.read_text(encoding="ascii").split())
    found = words(name for _, text in stdlib_code.files() for name in names(ast.parse(text)))
    with contextlib.suppress(OSError, paths.CannotWrite):  # nothing but a second is lost
        kept.parent.mkdir(parents=True, exist_ok=True)
        paths.atomic_write(kept, "\n".join(found))
    return found


def words(defined: Iterable[str]) -> tuple[str, ...]:
    """The distinct words in the names, lower-cased and sorted, without single letters, runs of one letter and noise."""
    holders: dict[str, set[str]] = defaultdict(set)
    for name in set(defined):
        for word in WORD.findall(name):
            holders[word.lower()].add(name.strip("_").lower())  # fd, _fd and FD are one name
    return tuple(
        sorted(
            word
            for word, held in holders.items()
            if len(set(word)) > 1 and len(word) <= LONGEST and (len(word) > SHORT or len(held) > 1)
        )
    )


def names(tree: ast.AST) -> Iterator[str]:
    """Each name that a module's statements define. Expressions are not entered: few define any, and all take time."""
    stack = [tree]
    while stack:
        match node := stack.pop():
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
                a = node.args
                yield from (arg.arg for arg in (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg) if arg)
            case ast.ClassDef():
                yield node.name
            case ast.Assign():
                yield from _targets(node.targets)
            case ast.AugAssign() | ast.AnnAssign() | ast.For() | ast.AsyncFor():
                yield from _targets([node.target])
            case ast.With() | ast.AsyncWith():
                yield from _targets([item.optional_vars for item in node.items])
            case ast.ExceptHandler(name=str(name)):
                yield name
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            stack += getattr(node, field, ())


def _targets(targets: Sequence[ast.expr | None]) -> Iterator[str]:
    """The names in the targets of an assignment; `a[i]` defines none."""
    for target in targets:
        match target:
            case ast.Name():
                yield target.id
            case ast.Attribute():
                yield target.attr
            case ast.Tuple() | ast.List():
                yield from _targets(target.elts)
            case ast.Starred():
                yield from _targets([target.value])
