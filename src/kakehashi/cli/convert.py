"""convert: a run as a Hugging Face folder, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kakehashi.cli import console
from kakehashi.cli.models import Root
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.runs import Run


def convert(
    what: Annotated[Path, typer.Argument(metavar="RUN|HF_DIR", help=t("cli.convert.what"))],
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help=t("cli.convert.folder"))] = None,
    to: Annotated[str, typer.Option(help=t("cli.convert.to"))] = "hf",
    reviewed: Annotated[bool, typer.Option("--i-reviewed", help=t("cli.option.reviewed"))] = False,
    root: Root = Path("runs"),
) -> None:
    from kakehashi.convert import TOKENIZER, save_hf
    from kakehashi.runs import Run

    if to == "hf":
        if folder is None:
            raise typer.BadParameter(t("cli.convert.where"))
        run = Run.open(what)
        refuse_unreviewed(run, reviewed)
        save_hf(run.load_model(), folder, run.codec)
        console.say(t("cli.convert.written", folder=folder))
        found = (folder / "tokenizer.json").exists()
        console.say(t(f"cli.convert.{'with' if found else 'without'}_tokenizer", file=TOKENIZER))
        console.result({"from": str(what), "to": "hf", "folder": str(folder)})
    elif to == "run":
        made = Run.from_hf(what, root) if folder is None else Run.from_hf(what, folder.parent, folder.name)
        console.say(t("cli.convert.made", run=made.path))
        console.result({"from": str(what), "to": "run", "run": str(made.path)})
    else:
        raise typer.BadParameter(t("cli.convert.unknown", to=to))


def refuse_unreviewed(run: "Run", reviewed: bool) -> None:
    """What may hold private text is shown before it may leave: where the text lies, what the model writes."""
    if not run.private or reviewed:
        return
    console.error(t("cli.convert.review"))
    config = run.config
    console.say(
        t(f"cli.convert.private.{run.private_by}", run=run.path, text=config.data.source, start=config.started_from)
    )
    samples = run.path / "samples.md"
    if samples.exists():
        console.say("\n" + samples.read_text(encoding="utf-8"))
    console.leave(2)
