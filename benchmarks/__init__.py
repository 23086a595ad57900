"""What Kakehashi claims to reach, measured beside a peer. It stands outside the package and needs a source checkout.

python -m benchmarks ladder [--full] [--json]          or: kakehashi bench ladder

rows.py             a row: ours and a peer's, in turns in the same run, and whether the goal is met
table.py            docs/benchmarks.md, where each bench rewrites its own tables only
cli.py  ladder.py   the benches: plain() yields rows that take under 5 minutes in all, full() those that take longer
peer_nanogpt.py     a peer
"""

from collections.abc import Callable
from importlib import import_module

from benchmarks import table
from benchmarks.rows import Row, commit, machine
from kakehashi import Mistake

NAMES = ("cli", "ladder")


class UnknownBench(Mistake):
    """There is no bench of this name."""


def run(name: str, full: bool = False, tell: Callable[[Row], None] = lambda row: None) -> dict:
    """Measure, write the tables of docs/benchmarks.md, and return what `kakehashi bench --json` prints.

    full: the rows that take longer, too. tell: called with each row as soon as it is there.
    """
    if name not in NAMES:
        raise UnknownBench(f"there is no bench {name!r}; there are {', '.join(NAMES)}")
    bench = import_module(f"benchmarks.{name}")
    head = {"bench": name, "machine": machine(), "commit": commit()}
    rows = []
    for part, measured in [(name, bench.plain), (f"{name} --full", bench.full)][: 1 + full]:
        of_this_part = []
        for row in measured():
            tell(row)
            of_this_part.append(row)
        if of_this_part:
            table.write(part, head["machine"], head["commit"], of_this_part)
        rows += of_this_part
    return head | {"rows": [row.to_dict() for row in rows]}
