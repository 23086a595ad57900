"""docs/benchmarks.md: each bench has its own tables between markers, and rewrites nothing else."""

import re
from collections.abc import Sequence

from benchmarks.rows import ROOT, Row
from kakehashi.paths import atomic_write

PAGE = ROOT / "docs" / "benchmarks.md"
FIRST = """# Benchmarks

What was measured, on which machine, at which commit; a commit with a + had changes. The commands write these tables.
Ours and the peer run in turns in the same process or right after one another; figures are medians over the turns, or
means over the seeds, with the least and the most of ours in brackets; a ratio is the median of ours / peer in the same
turn.
"""


def write(name: str, machine: str, commit: str, rows: Sequence[Row], keep: bool = False) -> None:
    """Put the table of `name` in place of the one that is there, else at the end of the page.

    keep: rows that were there and are not measured now stay, with their own commit. A table is of one machine: from
    another one nothing stays.
    """
    begin, end = f"<!-- {name}: written by kakehashi bench {name} -->", f"<!-- end of {name} -->"
    head = [begin, f"## `kakehashi bench {name}`", "", f"{machine}.", ""]
    head += ["| what | ours | peer | ratio | goal | turns | commit |", "|---|---|---|---|---|---|---|"]
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else FIRST
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    there = pattern.search(page)
    entries = {}  # what -> its line of the table, and of the list of commands
    details = {}  # what -> its own table
    if keep and there and there[0].startswith("\n".join(head)):
        table, *sections = there[0].removesuffix("\n" + end).split("\n\n### ")
        lines = table.splitlines()[len(head) :]
        cells = [line for line in lines if line.startswith("| ")]
        commands = [line for line in lines if line.startswith("* ")]
        entries = {_what(line): (line, command) for line, command in zip(cells, commands, strict=True)}
        details = {_escaped(section.split("\n")[0]): f"\n### {section}" for section in sections}
    for row in rows:
        line = _cells(row, commit)
        why = f". {row.why}" if row.why and row.peer is not None else ""  # without a peer it stands in its place
        entries[_what(line)] = (line, f"* {row.what}: `{row.command}`{why}")
        details[_what(line)] = f"\n### {row.what}\n\n{_details(row)}" if row.details else ""
    cells, commands = zip(*entries.values(), strict=True)
    below = [details[what] for what in entries if details.get(what)]
    block = "\n".join([*head, *cells, "", *commands, *below, end])
    page = pattern.sub(lambda _: block, page) if there else f"{page.rstrip()}\n\n{block}\n"
    atomic_write(PAGE, page)


def line(row: Row) -> str:
    """A row as a line for a terminal."""
    ours = f"not measured: {row.why}" if row.ours is None else f"{_figure(row.ours)} {row.unit}"
    peer = "" if row.peer is None else f", {row.peer_name} {_figure(row.peer)}, ratio {row.ratio:.2f}"
    goal = f" (goal: {row.goal}: {_verdict(row)})" if row.goal else ""
    return f"{row.what}: {ours.rstrip()}{peer}{goal}"


def _cells(row: Row, commit: str) -> str:
    ours = "not measured" if row.ours is None else f"{_figure(row.ours)} {row.unit}"
    if row.repeats > 1 and row.spread is not None:
        ours += f" ({_figure(row.spread[0])} to {_figure(row.spread[1])})"
    peer = row.why if row.peer is None else f"{_figure(row.peer)} {row.unit}".rstrip() + f", {row.peer_name}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    goal = f"{row.goal}: {_verdict(row)}" if row.goal else ""
    return _line([row.what, ours, peer, ratio, goal, str(row.repeats), commit])


def _details(row: Row) -> str:
    names = list(row.details[0])
    body = [_line([_value(values[name]) for name in names]) for values in row.details]
    return "\n".join([_line(names), "|" + len(names) * "---|", *body])


def _value(value: str | float | tuple[float, float] | None) -> str:
    """Three digits of a number that count, as there are many in a table of details."""
    if isinstance(value, tuple):
        return " to ".join(map(_value, value))
    return "" if value is None else value if isinstance(value, str) else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _what(line: str) -> str:
    """The first cell of a line of a table."""
    return line.removeprefix("| ").split(" | ")[0]


def _figure(value: float) -> str:
    """Four digits that count, or all of a large whole number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _verdict(row: Row) -> str:
    return {True: "met", False: "not met", None: "not measured"}[row.met]
