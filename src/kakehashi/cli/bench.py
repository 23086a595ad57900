"""bench: a thin face over benchmarks/, which stands outside the package."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import kakehashi
from kakehashi import Mistake
from kakehashi.cli import console
from kakehashi.texts import t


class NoCheckout(Mistake):
    """The benchmarks do not come with the wheel."""


def bench(
    name: Annotated[str, typer.Argument(help=t("cli.bench.name"))],
    full: Annotated[bool, typer.Option("--full", help=t("cli.bench.full"))] = False,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="PIECE", help=t("cli.bench.only"))] = None,
) -> None:
    checkout = Path(kakehashi.__file__).parents[2]
    if not (checkout / "benchmarks" / "__main__.py").exists():
        raise NoCheckout("bench needs a source checkout: clone the project and run `kakehashi bench` from it")
    sys.path.insert(0, str(checkout))
    import benchmarks
    from benchmarks.table import line

    result = benchmarks.run(name, full, lambda row: console.say(line(row)), only or ())
    console.result(result)
    if any(row["met"] is False for row in result["rows"]):
        console.leave(1)
