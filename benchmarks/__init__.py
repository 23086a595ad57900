"""What Kakehashi claims to reach, measured beside a peer. It stands outside the package and needs a source checkout.

python -m benchmarks ladder [--full] [--only PIECE] [--json]          or: kakehashi bench ladder [--full]

rows.py             a row: ours and a peer's, in turns in the same run, and whether the goal is met
table.py            docs/benchmarks.md, where each bench rewrites its own tables only
cli.py  ladder.py   the benches: PLAIN takes under 5 minutes in all, FULL longer; each holds pieces by the name that
autograd.py  bpe.py  --only takes, and a piece yields rows
parity.py  work.py
inspection.py
memory.py           how far the memory of a process rises
bleu.py             how well a run translates; a command of its own
names.py            pieces of ladder.py: the models on names.txt
log_sets.py         pieces of work.py: methods on sessions of logs
peer_*.py           peers
"""

from collections.abc import Callable, Collection
from importlib import import_module

from benchmarks import table
from benchmarks.rows import Row, commit, machine
from kakehashi import Mistake

NAMES = ("cli", "ladder", "autograd", "bpe", "parity", "work", "inspection")


class UnknownBench(Mistake):
    """There is no bench, or no piece of it, of this name."""


class NotInstalled(Mistake):
    """What a bench compares with is not there."""


def run(
    name: str, full: bool = False, tell: Callable[[Row], None] = lambda row: None, only: Collection[str] = ()
) -> dict:
    """Measure, write the tables of docs/benchmarks.md, and return what `kakehashi bench --json` prints.

    full: the pieces that take longer, too. tell: called with each row as soon as it is there, and in its table. only:
    measure these pieces, from either table, and leave all other rows as they are.
    """
    if name not in NAMES:
        raise UnknownBench(f"there is no bench {name!r}; there are {', '.join(NAMES)}")
    try:
        bench = import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("benchmarks", "kakehashi"):
            raise
        raise NotInstalled(f"bench {name} needs {error.name}: python bootstrap.py install --dev") from error
    known = bench.PLAIN | bench.FULL
    if unknown := [each for each in only if each not in known]:
        raise UnknownBench(f"bench {name} has no piece {unknown[0]!r}; it has {', '.join(known)}")
    head = {"bench": name, "machine": machine(), "commit": commit()}
    rows = []
    for part, pieces in [(name, bench.PLAIN), (f"{name} --full", bench.FULL)]:
        of_this_part = []
        for piece in pieces:
            if piece in only or (not only and (full or pieces is bench.PLAIN)):
                for row in pieces[piece]():
                    table.write(part, head["machine"], head["commit"], [row], keep=True)
                    tell(row)
                    of_this_part.append(row)
        if of_this_part and not only:
            table.write(part, head["machine"], head["commit"], of_this_part)
        rows += of_this_part
    return head | {"rows": [row.to_dict() for row in rows]}
