"""Where things lie: a source text as bytes, its syntax tree, its tokens and its symbols.

Everything is measured in bytes of the UTF-8 text, because `ast` counts columns so; nothing is ever unparsed, so what
no splice touches survives to the byte (comments, Japanese, tabs, CRLF, a byte order mark).
"""

import ast
import difflib
import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple, cast

from kakehashi import Mistake

BOM = "\ufeff"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Node = ast.stmt | ast.expr | ast.keyword  # what has a place


class SourceError(Mistake):
    """A source text that cannot be used as asked: one line with the place and what to do."""


class Token(NamedTuple):
    kind: int
    text: str
    start: int
    end: int


class Splice(NamedTuple):
    """Put `new` in the place of the bytes start..end."""

    start: int
    end: int
    new: bytes


class Text:
    """A parsed source text. Raises SourceError with `name`:line where it is not Python."""

    def __init__(self, source: str, name: str = "source", tree: ast.Module | None = None):
        self.source, self.name = source, name
        self.data = source.encode()
        first = len(BOM.encode()) if source.startswith(BOM) else 0
        # Python's own notion of a line: \f and the Unicode separators, where str.splitlines also cuts, end none
        self.starts = [first, *(line.end() for line in re.finditer(rb"\r\n|\r|\n", self.data))]
        with syntax_errors(name):
            self.tree = tree or ast.parse(source.removeprefix(BOM))

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: Node) -> tuple[int, int]:
        """The bytes of a node, without its decorators and without parentheses around it."""
        return self.offset(node.lineno, node.col_offset), self.offset(
            cast(int, node.end_lineno), cast(int, node.end_col_offset)
        )

    def cut(self, node: Node) -> str:
        start, end = self.span(node)
        return self.data[start:end].decode()

    def line_at(self, offset: int) -> tuple[int, int]:
        """Start and end (line break included) of the line that holds a byte."""
        line = bisect_right(self.starts, offset)
        return self.starts[line - 1], self.starts[line] if line < len(self.starts) else len(self.data)

    def lines(self) -> list[str]:
        """The lines with their breaks, without the byte order mark."""
        return [self.data[a:b].decode() for a, b in zip(self.starts, [*self.starts[1:], len(self.data)], strict=True)]

    def splice(self, splices: Iterable[Splice]) -> str:
        """The text with bytes replaced; the splices must not overlap."""
        data = self.data
        for start, end, new in sorted(splices, reverse=True):
            data = data[:start] + new + data[end:]
        return data.decode()

    @cached_property
    def tokens(self) -> list[Token]:
        bare = [line.rstrip("\r\n") for line in self.lines()]
        lines = (line + "\n" * (i < len(bare)) for i, line in enumerate(bare, 1))

        def offset(place: tuple[int, int]) -> int:
            line, column = place[0] - 1, place[1]
            if line >= len(bare) or column > len(bare[line]):  # the line break itself, however long, or the end
                return self.starts[line + 1] if line + 1 < len(self.starts) else len(self.data)
            return self.starts[line] + (column if bare[line].isascii() else len(bare[line][:column].encode()))

        return [
            Token(token.type, token.string, offset(token.start), offset(token.end))
            for token in tokenize.generate_tokens(lambda: next(lines, ""))
        ]

    def newline_after(self, offset: int) -> Token:
        """The token that ends the logical line which holds a byte."""
        return next(token for token in self.tokens if token.kind == tokenize.NEWLINE and token.start >= offset)

    @cached_property
    def long_strings(self) -> list[tuple[int, int]]:
        """The bytes of each token over several lines."""
        return [(token.start, token.end) for token in self.tokens if "\n" in token.text.strip("\r\n")]

    def reindent(self, start: int, end: int, old: bytes, new: bytes) -> bytes:
        """The bytes start..end with the indentation `old` of their lines turned into `new`, strings left alone."""
        place = start
        pieces = []
        for line in self.data[start:end].splitlines(keepends=True):
            in_string = any(a < place < b for a, b in self.long_strings)
            pieces.append(line if in_string or not line.startswith(old) else new + line[len(old) :])
            place += len(line)
        return b"".join(pieces)

    @cached_property
    def symbols(self) -> dict[str, list[Definition]]:
        """Dotted name -> its definitions in order: more than one where it is defined again (a property's setter)."""
        found: dict[str, list[Definition]] = {}

        def collect(body: list[ast.stmt], prefix: str) -> None:
            for statement in body:
                if isinstance(statement, Definition):
                    found.setdefault(prefix + statement.name, []).append(statement)
                if isinstance(statement, ast.ClassDef):
                    collect(statement.body, f"{prefix}{statement.name}.")

        collect(self.tree.body, "")
        return found

    def find(self, symbol: str) -> list[Definition]:
        """The definitions of a symbol; SourceError names the nearest ones there are."""
        if symbol not in self.symbols:
            near = difflib.get_close_matches(symbol, self.symbols, n=3, cutoff=0.5) or list(self.symbols)[:8]
            raise SourceError(f"{self.name} defines no {symbol!r}; it has {', '.join(near) or 'no symbols'}")
        return self.symbols[symbol]

    def functions(self, symbol: str) -> Iterator[tuple[str, int, Function]]:
        """(dotted name, which definition of that name, node) of each function that is the symbol or lies in it."""
        self.find(symbol)
        for name, nodes in self.symbols.items():
            if name == symbol or name.startswith(symbol + "."):
                yield from ((name, i, node) for i, node in enumerate(nodes) if isinstance(node, Function))

    def place(self, node: ast.stmt) -> tuple[int, int]:
        """First and last line of a statement, decorators included."""
        decorators = getattr(node, "decorator_list", [])
        return min([node.lineno, *(each.lineno for each in decorators)]), cast(int, node.end_lineno)

    def whole_lines(self, node: ast.stmt) -> tuple[tuple[int, int], bytes]:
        """The bytes of a statement's lines, decorators included, and its indentation."""
        first, last = self.place(node)
        end = self.line_at(self.offset(last, 0))[1]
        return (self.starts[first - 1], end), self.data[self.starts[node.lineno - 1] : self.span(node)[0]]


@lru_cache(maxsize=16)
def parsed(source: str, name: str = "source") -> Text:
    """Text(source, name), remembered: the rooms above ask one thing after the other of the same few files."""
    with syntax_errors(name):
        return Text(source, name, _tree(source))


@lru_cache(maxsize=16)
def _tree(source: str) -> ast.Module:
    """The same for a text under every name: parsing takes the longest."""
    return ast.parse(source.removeprefix(BOM))


class syntax_errors:
    """Turns Python's SyntaxError into a SourceError that says file:line."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, SyntaxError):
            where = f": {error.text.strip()}" if error.text and error.text.strip() else ""
            raise SourceError(f"{self.name}:{error.lineno or 1}: {error.msg}{where}") from error


def read(path: str | Path) -> str:
    """A source file as it is: line breaks and byte order mark kept, a coding line obeyed."""
    path = Path(path)
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode("utf-8" if encoding == "utf-8-sig" else encoding)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file") from None
    except (UnicodeDecodeError, SyntaxError) as error:
        raise SourceError(f"{path}: not readable as text ({error}); save it as UTF-8") from None


def symbols(source: str) -> list[str]:
    """All functions, classes and methods of a source text as dotted names, in order."""
    return list(parsed(source).symbols)


def bound(statement: ast.stmt) -> set[str]:
    """The names a statement binds where it stands: by definition, import or assignment."""
    if isinstance(statement, Definition):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {
            node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    return set()
