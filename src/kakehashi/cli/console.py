"""What commands share: the flags that every command takes, printing that survives any terminal, errors in one line."""

import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from kakehashi import Mistake, texts
from kakehashi.texts import t

# what a terminal would obey, but for line feed and tab
CONTROLS = {i: chr(i).encode("unicode_escape").decode() for i in (*range(32), *range(127, 160)) if i not in (9, 10)}
as_json = False  # progress goes to stderr, and the last line of stdout is one JSON object


def run(arguments: list[str]) -> NoReturn:
    """Run one command and leave with its exit code."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what `plain` has no other word for must not end the program
            stream.reconfigure(errors="replace")
    global as_json
    rest, as_json, lang = take_everywhere(arguments)
    with mistakes_in_a_line():
        texts.use(lang)
        from kakehashi.cli.app import app  # now: the help texts are in the language chosen

        try:
            app(rest, prog_name="kakehashi")
        finally:
            sys.stdout.flush()
    sys.exit(0)


@contextmanager
def mistakes_in_a_line() -> Iterator[None]:
    """A person's mistake inside is one line on stderr and an exit code; a bug stays a traceback."""
    try:
        yield
    except Mistake as mistake:
        error(str(mistake))
        sys.exit(mistake.exit_code)
    except KeyboardInterrupt as interrupt:
        error(str(interrupt) or t("cli.interrupted"))
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as full:
        if full.errno != errno.ENOSPC:
            raise
        error(t("cli.full"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)


class Commands(TyperGroup):
    """A group of commands whose mistakes are told before typer would make something else of them."""

    def invoke(self, ctx):
        with mistakes_in_a_line():
            return super().invoke(ctx)


def take_everywhere(arguments: list[str]) -> tuple[list[str], bool, str | None]:
    """(the other arguments, --json?, --lang): the two flags that may stand anywhere before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest, json_wanted, lang = [], False, None
    mine = iter(arguments[:end])
    for argument in mine:
        if argument == "--json":
            json_wanted = True
        elif argument == "--lang":
            lang = next(mine, "")
        elif argument.startswith("--lang="):
            lang = argument.removeprefix("--lang=")
        else:
            rest.append(argument)
    return rest + arguments[end:], json_wanted, lang


def plain(text: str) -> str:
    """The text as the stream that words go to can write it; for a terminal, control characters are spelled out."""
    stream = sys.stderr if as_json else sys.stdout
    return texts.plain(text.translate(CONTROLS) if stream.isatty() else text, stream.encoding)


class Screen(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would leave with 1


def out() -> Console:
    """Where words for people go: stdout, or stderr under --json."""
    stream = sys.stderr if as_json else sys.stdout
    return Screen(file=stream, highlight=False, soft_wrap=not stream.isatty(), markup=False)


def say(text: str = "", style: str | None = None, indent: int = 0) -> None:
    """Print a paragraph. indent: how far in each of its lines begins, those too that a terminal's width makes."""
    screen, words = out(), Text(plain(text), style=style or "")
    width = screen.width - indent if screen.is_terminal else cell_len(words.plain) + 1  # a pipe breaks no line
    lines = words.wrap(screen, width) if indent else [words]
    screen.print(*(Text(" " * indent).append_text(line) for line in lines), sep="\n")


def error(text: str) -> None:
    """Print one line on stderr; on a terminal, broken between words."""
    try:
        line = t("cli.error", message=text)
    except texts.TextError:  # the language itself is what is wrong
        line = f"error: {text}"
    line = texts.plain(line, sys.stderr.encoding)
    if sys.stderr.isatty():
        screen = Screen(file=sys.stderr, highlight=False, markup=False)
        screen.print(Text(line))
    else:
        print(line, file=sys.stderr)


def table(columns: list[str], rows: list[list[Any]], numbers: tuple[int, ...] = ()) -> None:
    """Print a table; the columns in `numbers` are set to the right."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, column in enumerate(columns):
        name = place == 0  # to be copied: never broken over lines
        drawn.add_column(column, justify="right" if place in numbers else "left", overflow="fold", no_wrap=name)
    for row in rows:
        drawn.add_row(*(plain(str(cell)) for cell in row))
    out().print(drawn)


def result(value: dict[str, Any]) -> None:
    """Under --json: the last line of stdout. Otherwise nothing: the words were said."""
    if as_json:
        print(json.dumps(value, ensure_ascii=True), flush=True)


def interactive() -> bool:
    """Is a person there to answer?"""
    return sys.stdin.isatty() and sys.stdout.isatty() and not as_json


def leave(code: int) -> None:
    """End the command with this exit code: 1 the answer is no, 3 cannot tell."""
    raise typer.Exit(code)
