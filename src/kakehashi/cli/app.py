"""The commands by name. A command's help is text like any other, so this is imported once the language is known."""

import typer

from kakehashi import __version__
from kakehashi.cli import bench, journey, models, tour
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
    "runs": models.runs,
    "show": models.show,
    "bench": bench.bench,
}
GROUPS = {"data": models.data, "fault": journey.fault}


def described(name: str) -> dict[str, str]:
    """What the --help of a command says besides its options."""
    return {"help": t(f"cli.{name}.help"), "epilog": t(f"cli.{name}.example")}


for name, command in COMMANDS.items():
    app.command(name, short_help=t(f"cli.{name}.short"), **described(name))(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name, short_help=t(f"cli.{name}.short"), no_args_is_help=True, **described(name))


@app.callback(invoke_without_command=True)
def everywhere(version: bool = typer.Option(False, "--version", help=t("cli.version"))) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
