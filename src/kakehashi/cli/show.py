"""show: what a run is and how it went; of several, what differs."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kakehashi.cli import console
from kakehashi.cli.models import shown
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.inspection.story import Story
    from kakehashi.runs import Run


def show(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help=t("cli.show.runs"))],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help=t("cli.show.out"))] = None,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help=t("cli.show.tensorboard"))] = None,
) -> None:
    from kakehashi.inspection.story import stories
    from kakehashi.runs import Run

    opened = [Run.open(path) for path in runs]
    told = stories(opened)
    result = tell_one(opened[0], told[0]) if len(told) == 1 else tell_several(told)
    if out is not None:
        from kakehashi.inspection import run_page

        result["page"] = str(run_page.write(out, told))
        console.say(t("cli.show.page", path=result["page"]))
    if tensorboard is not None:
        from kakehashi.inspection import event_files

        result["tensorboard"] = [str(event_files.write(tensorboard, story)) for story in told]
        console.say(t("cli.show.events", folder=tensorboard))
    console.result(result)


def tell_one(run: "Run", story: "Story") -> dict[str, Any]:
    from kakehashi.inspection import run_page
    from kakehashi.inspection.story import MEASURES

    summary = story.summary
    rows = [
        [t(f"cli.show.fact.{name}"), shown(value, name)] for name, value in facts(run, summary).items() if value != ""
    ]
    console.table([t("cli.show.what"), t("cli.show.value")], rows)
    console.say()
    columns = ["step", "loss", "right"][: 2 + ("right" in summary)]
    rows = [[shown(row[column], column) for column in columns] for row in story.rows if row["split"] == "val"]
    names = {"loss": "val_loss"}
    console.table(
        [t(f"cli.runs.{names.get(column, column)}") for column in columns], rows, numbers=tuple(range(len(columns)))
    )
    if note := story.trouble:
        console.say("\n" + t(f"health.{note['what']}", **note), "red")
    if story.health:
        console.say("\n" + t("health.worst"))
        columns = ["layer", *MEASURES]
        numbers = tuple(range(1, len(columns)))
        console.table([t(f"health.column.{name}") for name in columns], run_page.worst(story), numbers=numbers)
    samples = run.path / "samples.md"
    if samples.exists():
        console.say("\n" + samples.read_text(encoding="utf-8"))
    return {
        "run": str(run.path),
        "config": run.config.to_dict(),
        **summary,
        **({"health": story.health[-1]} if story.health else {}),
    }


def tell_several(told: Sequence["Story"]) -> dict[str, Any]:
    from kakehashi.inspection import run_page
    from kakehashi.inspection.story import comparable, differing

    for table in (run_page.settings(told), run_page.results(told)):
        if isinstance(table, str):
            console.say(table)
        else:
            console.table(list(table.columns), [list(row) for row in table.rows])
        console.say()
    if not comparable(told):
        console.say(t("health.page.incomparable"), "yellow")
    return {
        "runs": [{"run": story.name, **story.summary} for story in told],
        "differs": differing(told),
        "comparable": comparable(told),
    }


def facts(run: "Run", summary: dict[str, Any]) -> dict[str, Any]:
    """What a person wants to know of a run, by the keys of its texts; "" where there is nothing to say."""
    config, model, data = run.config, run.config.model, run.config.data
    own = run.source is not None
    return {
        "model": t("cli.show.own", name=model.name) if own else model.name,
        "preset": "" if own else preset_of(run),
        "config": ", ".join(f"{name} {value}" for name, value in model.config.items()),
        "borrowed": ", ".join(model.borrowed),
        "data": data.name,
        "use": t(f"cli.show.use.{run.private_by if run.private else 'public'}"),
        "split": data.split,
        "columns": "" if data.text is None else t("cli.show.columns", text=data.text, label=data.label),
        "unit": data.unit or "",
        "window": data.block_size or "",
        "size": data.size or "",
        "varied": ""
        if data.shift is None
        else t("cli.show.mirrored" if data.flip else "cli.show.shifted", n=data.shift),
        "state": t(f"cli.show.{'carried' if config.train.get('carry') else 'fresh'}") if data.unit == "stream" else "",
        "engine": config.train.get("engine", "torch"),
        "seed": config.seed,
        "started_from": config.started_from or "",
        "step": f"{summary['step']}/{summary['steps']}" if summary["steps"] else "",  # none: it learnt elsewhere
        "val_loss": summary["val_loss"],
        "right": summary.get("right", ""),
        "seconds": summary["seconds"],
    }


DECIDED = ("vocab_size", "n_classes", "n_channels", "fused")  # in a Config, by the data and `train`


def preset_of(run: "Run") -> str:
    """The preset of a reference that the run's Config is, but for what the data and `train` decide; "" for none."""
    chosen = {name: value for name, value in asdict(run.model_config).items() if name not in DECIDED}
    return next((name for name, each in run.family.presets.items() if chosen.items() <= asdict(each).items()), "")
