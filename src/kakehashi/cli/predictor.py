"""export: a trained classifier of texts as a folder that needs NumPy alone; and how `train` tells of a classifier."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kakehashi.cli import console
from kakehashi.cli.models import RunPath
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.runs import Run
    from kakehashi.work.predictor import Report

SHOWN = 60  # pieces of a kind, the rest stands in the run's review.txt


def export(
    run: RunPath,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help=t("cli.export.folder"))],
    to: Annotated[str, typer.Option(help=t("cli.export.to"))] = "tool",
    precision: Annotated[float, typer.Option(help=t("cli.export.precision"))] = 0.95,
    reviewed: Annotated[bool, typer.Option("--i-reviewed", help=t("cli.option.reviewed"))] = False,
) -> None:
    from kakehashi.runs import Run
    from kakehashi.work import predictor

    if to != "tool":
        raise typer.BadParameter(t("cli.export.unknown", to=to))
    opened = Run.open(run)
    opened.require("label")
    if opened.private:
        say_review(opened)
        if not reviewed and not (console.interactive() and typer.confirm(t("predictor.review.ask"))):
            console.error(t("cli.convert.review"))
            console.leave(2)
    made = predictor.export(opened, folder, target=precision, reviewed=True)
    say(made)
    console.say(t("cli.export.written", folder=folder, n=made.n))
    console.result({"run": str(run), "to": "tool", "folder": str(folder), **made.to_dict()})


def say_review(run: "Run") -> None:
    """What would leave the machine with the tool of a private run: the whole in its review.txt, the main here."""
    from kakehashi.work.predictor import review
    from kakehashi.work.predictor.reviewing import FILE

    found = review(run)
    run.write_extra(FILE, found.page())
    console.say(t("predictor.review.head", run=run.path, data=found.data, texts=found.n_texts))
    foreign = [t("predictor.review.foreign", n=sum(n == 0 for _, n in found.pieces))] if found.foreign else []
    for line in (
        t("predictor.review.classes", n=len(found.classes), names=", ".join(found.classes)),
        t("predictor.review.pieces", n=len(found.pieces)),
        *foreign,
        t("predictor.review.telling", n=len(found.telling), pieces=some(found.telling)),
        t("predictor.review.rare", pieces=some(found.rare)),
        t("predictor.review.weights", n=found.n_weights),
        t("predictor.review.stays"),
        t("predictor.review.whole", path=run.path / FILE),
    ):
        console.say(f"* {line}")


def judge(run: "Run", baseline: bool) -> dict[str, Any]:
    """How a classifier of texts that has just been trained fares, said and kept in its run; for --json, too."""
    from kakehashi.work.predictor import report
    from kakehashi.work.predictor.baseline import NAME

    if baseline:
        console.say(t("predictor.judging", name=NAME))
    made = report(run, baseline=baseline)
    made.save(run)
    say(made)
    return made.to_dict()


def say(made: "Report") -> None:
    """A table of the model and its baseline, and what follows from it."""
    from kakehashi.work.predictor import page

    columns, rows = page.table(made)
    console.table(columns, rows, numbers=tuple(range(1, len(columns))))
    for line in (*page.sentences(made), t(f"predictor.honest_{made.part}")):
        console.say(line)


def some(pieces: list[tuple[str, int]]) -> str:
    shown = "  ".join(f"{piece} ({n})" for piece, n in pieces[:SHOWN])
    return shown + (" ..." if len(pieces) > SHOWN else "") or "-"
