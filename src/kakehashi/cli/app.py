"""The commands by name. A command's help is text like any other, so this is imported once the language is known."""

import typer

from kakehashi import __version__
from kakehashi.cli import bench, convert, data, diff, journey, logs, models, predictor, show, tokenizer, tour
from kakehashi.cli.console import Commands
from kakehashi.texts import t

app = typer.Typer(
    cls=Commands,
    help=t("cli.help"),
    epilog=t("cli.epilog"),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS = {
    "tour": tour.tour,
    "start": journey.start,
    "grade": journey.grade,
    "hint": journey.hint,
    "reset": journey.reset,
    "train": models.train,
    "sample": models.sample,
    "translate": models.translate,
    "classify": models.classify,
    "eval": models.evaluate,
    "runs": models.runs,
    "show": show.show,
    "convert": convert.convert,
    "export": predictor.export,
    "diff": diff.diff,
    "bench": bench.bench,
}
GROUPS = {"data": data.data, "tokenizer": tokenizer.tokenizer, "fault": journey.fault, "logs": logs.logs}


for name in (*COMMANDS, *GROUPS):
    short, help, example = (t(f"cli.{name}.{part}") for part in ("short", "help", "example"))
    if name in COMMANDS:
        app.command(name, short_help=short, help=help, epilog=example)(COMMANDS[name])
    else:
        app.add_typer(GROUPS[name], name=name, short_help=short, help=help, epilog=example, no_args_is_help=True)


@app.callback(invoke_without_command=True)
def everywhere(version: bool = typer.Option(False, "--version", help=t("cli.version"))) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
