"""The tour at a terminal: ask, show what trains in the background, let the person repair, say what came out."""

import math
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from kakehashi import faults, texts
from kakehashi.cli import console, journey
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.journey.grading import Result
    from kakehashi.journey.tour import Climb, Learnt, Repair


def tour(
    yes: Annotated[bool, typer.Option("--yes", help=t("cli.tour.yes"))] = False,
    root: Annotated[Path, typer.Option("--root", help=t("cli.option.root"))] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help=t("cli.tour.out"))] = Path("report.html"),
) -> None:
    from kakehashi.journey.tour import Climb, ladder

    if out.is_dir() or not out.resolve().parent.is_dir():  # said now, not in four minutes
        raise typer.BadParameter(t("cli.tour.not_a_place", out=out), param_hint="--out")
    person = console.interactive() and not yes
    with Climb(root) as climb:
        try:
            console.say(t("tour.welcome"), "bold")
            predicted = predict(climb) if person else None
            follow(climb, range(2))
            repaired = mend(climb) if person else None
            learnt = follow(climb, range(2, len(climb.rungs)))
        except KeyboardInterrupt:
            say_what_stays(climb)
            raise

    from kakehashi.journey import tour_page

    console.say()
    show(learnt, predicted)
    tour_page.write(out, learnt, predicted, repaired)
    console.say("\n" + t("tour.next", report=journey.shown(out), run=journey.shown(ladder(learnt)[-1].run.path)))
    console.result({"models": [each.to_dict() for each in learnt], "report": str(out)})


def say_what_stays(climb: "Climb") -> None:
    """After Ctrl-C: the runs that are finished, and how to go on with the other."""
    console.say("\n" + t("tour.stopping"), "dim")
    stopped = climb.stop()
    for each in climb.learnt:
        console.say(t("tour.usable", run=journey.shown(each.run.path)))
    if stopped:
        console.say(t("tour.resumable", run=journey.shown(stopped.path)))
    console.say(t("tour.again"))


# --- Waiting ---


def follow(climb: "Climb", rungs: range) -> "list[Learnt]":
    """Wait for these rungs, a line for each as it ends; returns all that are finished."""
    learnt: list[Learnt] = []
    for n in rungs:
        name = t("tour.title", model=climb.rungs[n].name, data=climb.rungs[n].data)
        with waiting(climb, name) as tick:
            learnt = climb.wait(n + 1, tick)
        last = learnt[-1]
        said = t("tour.learnt", name=name, init=last.loss_at_init, val=last.val_loss, seconds=last.seconds)
        console.say(said, "green")
    return learnt


@contextmanager
def waiting(climb: "Climb", name: str) -> Iterator[Callable[[], None]]:
    """A bar at a terminal, moved by the function it gives; one line in a pipe."""
    screen = console.out()
    if not screen.is_terminal:
        console.say(t("tour.training", name=name))
        yield lambda: None
        return
    columns = TextColumn(console.plain(name)), BarColumn(24), TextColumn("{task.description}")
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tick() -> None:
            if (state := climb.state) and state.val_loss is not None:
                said = console.plain(t("tour.progress", val=state.val_loss, left=state.seconds_left or 0))
                bar.update(task, total=state.settings.steps, completed=state.step, description=said)

        yield tick


# --- The person's part ---


def predict(climb: "Climb") -> tuple[int, ...] | None:
    """The order that the person expects, the highest loss first; None where they skip."""
    from kakehashi.journey.tour import TourError, ladder, read_order

    n = len(ladder(climb.rungs))
    console.say("\n" + t("tour.predict"))
    while answer := ask(t("tour.predict_ask")):
        try:
            return read_order(answer, n)
        except TourError:
            console.say(t("tour.no_order", n=n, answer=answer))
    return None


def mend(climb: "Climb") -> bool:
    """The repair: the faulty function, its symptom, and tries until it is mended or skipped. Returns whether it is."""
    from kakehashi.journey.grading import Grader
    from kakehashi.journey.tour import Repair

    bigram = climb.learnt[0]
    repair = Repair(climb.root)
    symptom = repair.symptom(bigram.run)
    console.say("\n" + t("tour.repair"), "bold")
    console.say(t("tour.repair_idea"))
    console.say()
    list_code(repair)
    console.say()
    console.say(t("tour.symptom_loss", counted=symptom.loss, learnt=bigram.val_loss), "yellow")
    (low, least), (high, most) = symptom.extremes
    console.say(t("tour.symptom_sums", low=low, least=least, high=high, most=most), "yellow")
    with Grader() as grader:
        grade = repair.check(grader, mark)
        while not grade.right:
            if not attempt(repair):
                console.say(t("tour.answer", line=repair.line, code=repair.answer.strip()))
                break
            grade = repair.check(grader, journey.Teller(repair.station, repair.path).tell)
    if grade.right:
        console.say(t("tour.mended", counted=repair.healthy(bigram.run).loss, learnt=bigram.val_loss), "bold green")
    console.say(faults.texts(repair.fault, texts.language())["explanation"] + "\n")
    return grade.right


def attempt(repair: "Repair") -> bool:
    """Let the person change the file, here or in their editor; False where they would rather see the answer."""
    console.say("\n" + t("tour.repair_how", path=journey.shown(repair.path)))
    while True:
        answer = ask(t("tour.repair_line"), at_end="skip")
        if answer.lower() == "skip":
            return False
        if not answer:
            if repair.touched:
                return True
            console.say(t("tour.untouched", path=journey.shown(repair.path)))
        elif answer.isdecimal() and int(answer) in repair.listing:
            line = int(answer)
            code = ask(t("tour.repair_code", line=line), write=repair.listing[line].strip())
            if code:
                repair.change(line, code)
                return True
        else:
            console.say(t("tour.no_line", first=min(repair.listing), last=max(repair.listing), answer=answer))


def list_code(repair: "Repair") -> None:
    """The faulty function, its lines numbered, its comments in the background; those without room are left out."""
    grid, room = Table.grid(padding=(0, 2)), console.out().width - 6  # beside the number
    for number, line in repair.listing.items():
        code, mark, comment = console.plain(line).partition("  #")
        if len(line) > room:
            mark = comment = ""
            indent = " " * (len(code) - len(code.lstrip()) + 4)
            code = "\n".join(textwrap.wrap(code, room, subsequent_indent=indent))
        if code or mark or not line:
            grid.add_row(Text(f"{number:>4}", "dim"), Text.assemble(code, (mark + comment, "dim")))
    console.out().print(grid)


def mark(result: "Result") -> None:
    """A verdict without its words: they would give the fault away before the person has looked."""
    key, style = ("cli.grade.ok", "green") if result.ok else ("cli.grade.wrong", "red")
    console.say(t(key, name=f"{result.symbol}: {journey.words(result.check)}"), style)


def ask(question: str, write: str = "", at_end: str = "") -> str:
    """A line from the person, stripped. write: what stands there to be changed. at_end: the answer of Ctrl-D."""
    try:
        import readline
    except ImportError:  # Windows: the line is typed anew
        readline = None
    if readline:
        readline.set_startup_hook(lambda: readline.insert_text(write))
    try:
        return input(console.plain(question) + " ").strip()
    except EOFError:
        console.say()
        return at_end
    finally:
        if readline:
            readline.set_startup_hook()


# --- What came out ---


def show(learnt: "list[Learnt]", predicted: tuple[int, ...] | None) -> None:
    """The table, how to read it, and the prediction beside it."""
    from kakehashi.journey.tour import ladder, order_of, score

    columns = ("model", "parameters", "init", "blank", "val_loss", "bits", "seconds", "sample")
    rows = [
        [
            t("tour.title", model=each.name, data=each.data),
            f"{each.parameters:,}",
            f"{each.loss_at_init:.2f}",
            f"{math.log(each.vocab_size):.2f}",
            f"{each.val_loss:.2f}",
            f"{each.bits_per_char:.2f}",
            f"{each.seconds:.0f}",
            each.samples[0].splitlines()[0][:12],
        ]
        for each in learnt
    ]
    console.table([t(f"tour.column.{column}") for column in columns], rows, numbers=(1, 2, 3, 4, 5, 6))
    console.say("\n" + t("tour.reading"), "dim")
    if predicted is not None:
        asked = ladder(learnt)
        named, came = ("".join(str(place + 1) for place in order) for order in (predicted, order_of(asked)))
        right, pairs = score(predicted, asked)
        said = t("tour.score", right=right, pairs=pairs, named=named, came=came)
        console.say("\n" + said, "bold green" if right == pairs else "bold")
