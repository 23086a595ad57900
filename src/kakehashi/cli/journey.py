"""Commands of the journey: start, grade, hint, reset, fault."""

import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kakehashi import texts
from kakehashi.cli import console
from kakehashi.texts import t

StationId = Annotated[str, typer.Argument(metavar="STATION", help=t("cli.option.one_station"))]


def start(folder: Annotated[Path, typer.Argument(metavar="DIR", help=t("cli.start.folder"))]) -> None:
    from kakehashi.journey import stations, workspace

    made = workspace.start(folder, texts.language())
    activate = Path(sys.executable).parent / "activate"
    first = stations.all()[0]
    console.say(t("cli.start.done", folder=folder))
    if not made.has_git:
        console.say(t("cli.start.no_git"))
    if shutil.which("kakehashi") is None and activate.exists():
        console.say(t("cli.start.activate", path=activate))
    console.say(t("cli.start.next", folder=folder, file=first.file, station=first.id))
    console.result({"workspace": str(made.root), "stations": [each.id for each in stations.all()]})


def grade(
    station: Annotated[str, typer.Argument(metavar="[STATION]", help=t("cli.option.station"))] = "",
    symbols: Annotated[list[str] | None, typer.Argument(metavar="[SYMBOL]...", help=t("cli.grade.symbols"))] = None,
    file: Annotated[Path | None, typer.Option(help=t("cli.grade.file"))] = None,
    watch: Annotated[bool, typer.Option("--watch", help=t("cli.grade.watch"))] = False,
) -> None:
    from kakehashi.journey import grading, stations
    from kakehashi.journey.workspace import Workspace

    symbols = symbols or None
    if file and not station:
        raise typer.BadParameter(t("cli.grade.which"), param_hint="STATION")
    workspace = None if file else Workspace.find()
    chosen = [stations.find(station)] if station else workspace.begun()
    for symbol in symbols or []:
        chosen[0].owner(symbol)  # a wrong name is told before anything is graded
    if watch:
        path = file or workspace.file(chosen[0])
        console.say(t("cli.grade.watching", file=shown(path)))
        teller = Teller(chosen[0], path)
        with suppress(KeyboardInterrupt):  # the way to end it
            for verdict in grading.watch(chosen[0], path, symbols, teller.tell):
                teller.conclude(verdict, symbols)
                console.say(f"--- {datetime.now():%H:%M:%S}", "dim")
                teller = Teller(chosen[0], path)
        return
    verdicts = []
    if file and not file.is_file():
        raise grading.GradingError(f"{file} is not there: name the file to grade")
    with grading.Grader() as grader:
        for each in chosen:
            path = file or workspace.file(each)
            console.say(t("cli.grade.starting", station=each.texts.get("title"), file=shown(path)), "bold")
            teller = Teller(each, path)
            if workspace:
                verdict = workspace.grade(grader, each, symbols, teller.tell)
            else:
                verdict = grader.grade(each, path, symbols, teller.tell)
            teller.conclude(verdict, symbols)
            verdicts.append(verdict)
        if grader.missing:
            console.say(t("cli.grade.unprotected", missing=", ".join(grader.missing)), "dim")
    console.result({"stations": [{**asdict(each), "passed": each.passed} for each in verdicts]})
    if not all(each.right if symbols else each.passed for each in verdicts):
        console.leave(1)


class Teller:
    """Says the verdicts of one grading as they fall, and what follows after them."""

    def __init__(self, station, path: Path):
        self.station, self.path = station, path
        self.said: set[str] = set()

    def tell(self, result) -> None:
        """A line; for a wrong one the words and the place, once."""
        name = f"{result.symbol or self.station.id}: {words(result.check)}".removesuffix(": ")
        if result.ok:
            console.say(t("cli.grade.ok", name=name), "green")
            return
        why = self.station.say(result.key, result.values, texts.language())
        if result.where:
            why += "\n" + t("cli.grade.where", where=place(result.where))
        if why in self.said:
            console.say(t("cli.grade.same", name=name), "red")
            return
        self.said.add(why)
        console.say(t("cli.grade.wrong", name=name), "red")
        console.say(why, indent=2)

    def conclude(self, verdict, symbols: list[str] | None) -> None:
        """What the learner's code printed, how many checks passed, and what to do next."""
        if verdict.log.strip():
            console.say(t("cli.grade.printed"), "dim")
            console.say(verdict.log.rstrip(), "dim")
        if verdict.results:
            right = sum(result.ok for result in verdict.results)
            console.say(t("cli.grade.partly", passed=right, n=verdict.n_checks))
        if verdict.blank:
            console.say(t("cli.grade.blank", symbols=", ".join(verdict.blank)))
        for blank in dict.fromkeys(map(tuple, verdict.waiting.values())):
            ready = [name for name, lacking in verdict.waiting.items() if tuple(lacking) == blank]
            console.say(t("cli.grade.waiting", symbols=", ".join(ready), blank=", ".join(blank)))
        failed = [result.symbol for result in verdict.failures if result.symbol]
        if failed or verdict.blank:
            console.say(t("cli.grade.hint", station=self.station.id, symbol=[*failed, *verdict.blank][0]), "dim")
        elif verdict.passed and not symbols:
            console.say(t("cli.grade.passed", station=self.station.id), "bold green")
            if self.station.is_model:
                console.say(t("cli.grade.standin", file=shown(self.path)), "dim")


def words(check: str) -> str:
    """A check's name as words: future_is_hidden -> future is hidden."""
    return check.replace("_", " ")


def place(where: dict) -> str:
    """gpt2.py:57 (LayerNorm.forward)."""
    return f"{shown(Path(where['file']))}:{where['line']}" + (f" ({where['symbol']})" if where["symbol"] else "")


def shown(path: Path) -> Path:
    """A path as short as it can be said from here."""
    with suppress(ValueError):
        return path.resolve().relative_to(Path.cwd())
    return path


def hint(
    station: StationId,
    symbol: Annotated[str, typer.Argument(metavar="[SYMBOL]", help=t("cli.hint.symbol"))] = "",
    level: Annotated[int | None, typer.Option(min=1, max=3, help=t("cli.hint.level"))] = None,
    answer: Annotated[bool, typer.Option("--answer", help=t("cli.hint.answer"))] = False,
) -> None:
    from kakehashi.journey import hints, stations
    from kakehashi.journey.workspace import Workspace

    chosen = stations.find(station)
    workspace = Workspace.find()
    symbol = chosen.owner(symbol) if symbol else workspace.next_blank(chosen)
    level = level or workspace.next_hint(chosen, symbol)
    lines = [hints.answer(chosen, symbol)] if answer else hints.hint(chosen, symbol, level, texts.language())
    workspace.event("hint", chosen.id, symbol=symbol, level="answer" if answer else level)
    known = hints.levels(chosen, symbol)
    further = [each for each in known if each > level]
    if answer or level not in known:
        console.say(symbol, "bold")
    else:
        console.say(t("cli.hint.heading", symbol=symbol, level=level, kind=t(f"cli.hint.kind.{level}")), "bold")
    console.say("\n".join(lines) or t("cli.hint.none", symbol=symbol))
    if not answer and further:
        console.say(t("cli.hint.more", level=further[0], kind=t(f"cli.hint.kind.{further[0]}")), "dim")
    elif not answer:
        console.say(t("cli.hint.last"), "dim")
    console.result({"station": chosen.id, "symbol": symbol, "level": "answer" if answer else level, "lines": lines})


def reset(station: StationId) -> None:
    from kakehashi.journey import stations
    from kakehashi.journey.workspace import Workspace

    chosen = stations.find(station)
    workspace = Workspace.find()
    kept = workspace.reset(chosen)
    console.say(t("cli.reset.done", file=chosen.file))
    if kept:
        console.say(t("cli.reset.kept", kept=shown(kept)))
    console.result({"file": str(workspace.file(chosen)), "kept": str(kept or "")})


fault = typer.Typer(rich_markup_mode=None)
FaultId = Annotated[str, typer.Argument(metavar="FAULT", help=t("cli.fault.id"))]


@fault.command("list", help=t("cli.fault.list"))
def fault_list(model: Annotated[str | None, typer.Argument(help=t("cli.fault.module"))] = None) -> None:
    from kakehashi import faults

    found = faults.catalogue(model)
    if not found:
        stems = sorted({each.stem for each in faults.catalogue()})
        raise faults.UnknownFault(f"there are no faults of {model!r}; there are those of {', '.join(stems)}")
    titles = [faults.texts(each, texts.language())["title"] for each in found]
    rows = [[each.id, title] for each, title in zip(found, titles, strict=True)]
    console.table([t("cli.fault.column_id"), t("cli.fault.column_title")], rows)
    facts = ("id", "module", "category", "cause", "level")
    listed = [{name: getattr(each, name) for name in facts} for each in found]
    console.result({"faults": [each | {"title": title} for each, title in zip(listed, titles, strict=True)]})


@fault.command("show", help=t("cli.fault.show"))
def fault_show(id: FaultId) -> None:
    from kakehashi import faults

    found = faults.find(id)
    said = faults.texts(found, texts.language())
    console.say(f"{found.id}: {said['title']}", "bold")
    console.say(f"{found.module}  {found.category} / {found.cause}", "dim")
    for part in ("symptom", "explanation", "fix"):
        console.say(f"\n{t(f'cli.fault.{part}')}: {said[part]}")
    console.say("\n" + t("cli.fault.measured", changes=", ".join(found.changes)))
    console.say(f"\n{faults.diff(found)}")
    facts = {"id": found.id, "module": found.module, "category": found.category, "cause": found.cause}
    console.result({**facts, "level": found.level, "changes": list(found.changes), **said, "diff": faults.diff(found)})


@fault.command("inject", help=t("cli.fault.inject"))
def fault_inject(
    id: FaultId,
    seed: Annotated[int | None, typer.Option(help=t("cli.fault.seed"))] = None,
    out: Annotated[Path | None, typer.Option(help=t("cli.fault.out"))] = None,
) -> None:
    from kakehashi import faults, paths

    found = faults.find(id)
    if out and out.exists():
        raise typer.BadParameter(t("cli.fault.exists", path=out), param_hint="--out")
    injected = faults.inject(found, seed)
    if out is None and not console.as_json:
        print(injected.source, end="")
    if out is not None:
        paths.atomic_write(out, injected.source)
        console.say(t("cli.fault.wrote", path=out, id=found.id))
    console.result({"id": found.id, "path": str(out or ""), "lines": list(injected.lines)})
