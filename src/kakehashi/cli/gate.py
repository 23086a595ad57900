"""logs gate: the logs of two releases compared, with a verdict, an exit code and a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import kakehashi
from kakehashi.cli import console
from kakehashi.cli.models import Root, Seed
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.work.logs.gate import Comparison

COLOURS = {"pass": "green", "look": "yellow", "cannot tell": "yellow"}
MASKS = Path(kakehashi.__file__).parent / "work" / "logs" / "masks.toml"


def gate(
    before: Annotated[list[Path], typer.Option(metavar="PATH", help=t("gate.option.before"))],
    after: Annotated[list[Path], typer.Option(metavar="PATH", help=t("gate.option.after"))],
    run: Annotated[Path | None, typer.Option(metavar="RUN", help=t("gate.option.run"))] = None,
    budget: Annotated[int, typer.Option(min=1, help=t("gate.option.budget"))] = 20,
    together: Annotated[bool, typer.Option("--together", help=t("gate.option.together"))] = False,
    out: Annotated[Path, typer.Option(help=t("gate.option.out"))] = Path("gate.html"),
    model: Annotated[str, typer.Option(help=t("logs.option.model"))] = "lstm",
    key: Annotated[str, typer.Option(metavar="NAME|REGEX|FIELD|auto", help=t("logs.option.key"))] = "auto",
    window: Annotated[int | None, typer.Option(help=t("logs.option.window"))] = None,
    seconds: Annotated[float | None, typer.Option(help=t("logs.option.seconds"))] = None,
    masks: Annotated[Path | None, typer.Option(help=t("logs.option.masks", path=MASKS))] = None,
    encoding: Annotated[str | None, typer.Option(help=t("logs.option.encoding"))] = None,
    layout: Annotated[str | None, typer.Option(help=t("logs.option.layout"))] = None,
    false_alarms: Annotated[float, typer.Option(help=t("logs.option.false_alarms"))] = 0.01,
    steps: Annotated[int | None, typer.Option(help=t("logs.option.steps"))] = None,
    seed: Seed = 1337,
    root: Root = Path("runs"),
) -> None:
    if out.is_dir() or not out.resolve().parent.is_dir():  # said now, not after the reading
        raise typer.BadParameter(t("cli.tour.not_a_place", out=out), param_hint="--out")
    fitting = {
        "model": model,
        "key": None if key == "auto" else key,
        "window": window,
        "seconds": seconds,
        "masks": masks,
        "false_alarms": false_alarms,
        "steps": steps,
        "seed": seed,
    }
    from kakehashi.cli.logs import Reading
    from kakehashi.cli.progress import Watched
    from kakehashi.work.logs import gate_page
    from kakehashi.work.logs.gate import compare

    reading, watched = Reading([*before, *after]), Watched()
    try:
        found = compare(
            before,
            after,
            run=run,
            budget=budget,
            together=together,
            encoding=encoding,
            layout=layout,
            progress=reading.notes.progress,
            root=root,
            callbacks=[watched],
            **fitting,
        )
    finally:
        reading.close()
        watched.close()
    show(found)
    gate_page.write(out, found)
    console.say("\n" + t("gate.page", path=out))
    console.result({**found.to_dict(), "page": str(out)})
    if found.exit_code:
        console.leave(found.exit_code)


def show(found: "Comparison") -> None:
    """The verdict, why, and the methods side by side."""
    from kakehashi.work.logs import gate_page

    console.say("\n" + t(f"gate.verdict.{gate_page.SLUGS[found.verdict]}"), f"bold {COLOURS[found.verdict]}")
    for reason in found.reasons:
        line = gate_page.quoted(reason.values.get("template", ""))
        console.say(f"• {gate_page.said(reason)}{': ' if line else ''}{line}", indent=2)
    console.say()
    for part in (gate_page.compared(found), gate_page.methods(found)):
        console.table(list(part.columns), [list(row) for row in part.rows])
        console.say()
    console.say(gate_page.against(found))
