"""diff: where do two models part?"""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from kakehashi.cli import console
from kakehashi.cli.models import Seed
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.inspection import Diff, Parting, Pattern, Place
    from kakehashi.inspection.sides import Comparison

BEFORE, AFTER = 3, 4  # rows of the table: equal ones before the first that differs, and those from it on
NAMES = 4  # as many are listed
TINY = 1e-9  # a solved eps below it can hardly be told from none


def diff(
    a: Annotated[str, typer.Argument(help=t("cli.diff.a"))],
    b: Annotated[str, typer.Argument(help=t("cli.diff.b"))],
    text: Annotated[str | None, typer.Option(help=t("cli.diff.text"))] = None,
    peer: Annotated[bool, typer.Option("--peer", help=t("cli.diff.peer"))] = False,
    own_weights: Annotated[
        bool | None, typer.Option("--own-weights/--same-weights", help=t("cli.diff.own_weights"))
    ] = None,
    grads: Annotated[bool, typer.Option("--grads/--no-grads", help=t("cli.diff.grads"))] = True,
    training: Annotated[bool, typer.Option("--training", help=t("cli.diff.training"))] = False,
    dtype: Annotated[str, typer.Option(help=t("cli.diff.dtype"))] = "float32",
    tol: Annotated[float | None, typer.Option(help=t("cli.diff.tol"))] = None,
    seed: Seed = 0,
) -> None:
    from kakehashi.inspection import compare

    made = compare(
        a,
        b,
        text=text,
        peer=peer,
        own_weights=own_weights,
        grads=grads,
        training=training,
        dtype=dtype,
        tol=tol,
        seed=seed,
    )
    found = made.found
    mode = t(f"cli.diff.mode_{'training' if training else 'eval'}")
    console.say(t(f"cli.diff.{made.kind}_read", shape=times(made.shape), seed=seed, dtype=dtype, mode=mode))
    for side, name in ((made.a, "A"), (made.b, "B")):
        if side.borrowed:
            console.say(t("cli.diff.borrowed", side=name, symbols=", ".join(side.borrowed)))
    say_weights(made)
    if found.parting is None:
        console.say(t("cli.diff.all_equal", n=len(found.places), tolerance=found.tolerance), "green")
        if found.copied:
            console.say(t("cli.diff.starts"), "dim")
    else:
        say_parting(found, found.parting)
    say_ends(found)
    console.result({"a": a, "b": b, "input": made.kind, "shape": made.shape, "dtype": dtype, **found.to_dict()})
    if not found.equal:
        console.leave(1)


def say_weights(made: "Comparison") -> None:
    """How many weights both have, and which one has alone; modules that ran in one alone."""
    found = made.found
    source, target = ("B", "A") if made.b.loaded and not made.a.loaded else ("A", "B")
    key = "copied" if found.copied else "own"
    console.say(t(f"cli.diff.{key}", n=len(found.weights.pairs), source=source, target=target))
    for side, names in (("A", found.weights.left_a), ("B", found.weights.left_b)):
        if names:
            console.say(t("cli.diff.left", side=side, n=len(names), names=some(names)), "yellow")
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            console.say(t("cli.diff.only", side=side, n=len(names), names=some(names)), "dim")
    for side in found.random:
        console.say(t("cli.diff.random", side=side), "yellow")
    for side in found.overwrote:
        console.say(t("cli.diff.overwrote", side=side), "yellow")
    if found.nan:
        console.say(t("cli.diff.nan", n=found.nan, of=len(found.places)), "yellow")


def say_parting(found: "Diff", parting: "Parting") -> None:
    """Where they part, the tensors around, and what is known of the cause."""
    at = found.places.index(parting.place)
    console.say()
    key = "parts" if parting.a == parting.b else "parts_by_two_names"
    console.say(t(f"cli.diff.{key}", a=module(parting.a), b=module(parting.b)), "bold")
    around = found.places[max(at - BEFORE, 0) : at + AFTER]
    columns = [t(f"cli.diff.column.{name}") for name in ("equal", "tensor", "shape", "largest", "relative")]
    console.table(columns, [row(place) for place in around], numbers=(3, 4))
    console.say()
    console.say(t("cli.diff.pattern.none") if parting.pattern is None else sentence(parting.pattern), "bold")
    if any(parting.op):
        console.say(t("cli.diff.op", a=parting.op[0] or "-", b=parting.op[1] or "-"))
    if parting.weights:
        console.say(t("cli.diff.unlike", names=some(parting.weights)))
    for name, (one, other) in parting.settings.items():
        console.say(t("cli.diff.setting", name=name, a=one, b=other))
    for side, names in (("A", parting.only_a), ("B", parting.only_b)):
        if names:
            console.say(t("cli.diff.calls", side=side, names=some(names)))


def say_ends(found: "Diff") -> None:
    """Logits, losses, gradients and buffers."""
    console.say()
    key = "logits" if math.isfinite(found.logits) else "logits_unlike"
    console.say(t(f"cli.diff.{key}", distance=found.logits))
    if found.loss is not None:
        a, b = found.loss
        if a is not None and b is not None:
            console.say(t("cli.diff.loss", a=a, b=b))
        else:
            side, other, value = ("A", "B", b) if a is None else ("B", "A", a)
            console.say(t("cli.diff.loss_alone", side=side, other=other, value=value), "yellow")
    if found.gradients is not None:
        apart = found.gradients_apart
        key = "gradients_differ" if apart else "gradients_equal"
        console.say(t(f"cli.diff.{key}", n=len(found.gradients), apart=len(apart), names=distances(apart)))
    for side, error in found.failed.items():
        console.say(t("cli.diff.failed", side=side, error=error), "yellow")
    for side, names in (("A", found.frozen_a), ("B", found.frozen_b)):
        if names:
            console.say(t("cli.diff.frozen", side=side, n=len(names), names=some(names)), "yellow")
    if found.buffers_apart:
        names = distances(found.buffers_apart)
        console.say(t("cli.diff.buffers_differ", n=len(found.buffers_apart), names=names), "yellow")


def row(place: "Place") -> list[str]:
    name = f"{module(place.a)} {t(f'cli.diff.{place.end}')}"
    label = place.label.removeprefix("output").removeprefix(".")
    shape = times(place.shape_a)
    if place.shape_a != place.shape_b:
        shape += f" / {times(place.shape_b)}"
    mark = "✓" if place.equal else "✗"
    return [mark, f"{name} {label}".strip(), shape, f"{place.largest:.1e}", f"{place.distance:.1e}"]


def sentence(pattern: "Pattern") -> str:
    """A pattern in words."""
    values = dict(pattern.values)
    for name in ("form", "owner"):
        if values.get(name):
            values[name] = t(f"cli.diff.{name}", name=values[name])
    if pattern.name == "shift":
        values |= {"sign": "-" if values["c"] < 0 else "+", "c": abs(values["c"])}
    if pattern.name == "rope_theta":
        values["a"], values["b"] = told_apart(values["a"], values["b"])
    if pattern.name == "norm_eps":
        values = {side: t("cli.diff.about_0") if eps < TINY else f"{eps:.2g}" for side, eps in values.items()}
    return t(f"cli.diff.pattern.{pattern.name}", **values)


def told_apart(a: float, b: float) -> tuple[str, str]:
    """Two solved numbers to three digits, or to as many more as tell them apart."""
    digits = next(n for n in range(3, 18) if f"{a:.{n}g}" != f"{b:.{n}g}")
    one, other = (f"{float(f'{value:.{digits}g}'):.12g}" for value in (a, b))  # 20000, not 2e+04
    return one, other


def times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def module(path: str) -> str:
    return path or t("cli.diff.model")


def distances(apart: dict[str, float]) -> str:
    return some([f"{name} ({far:.1e})" for name, far in apart.items()])


def some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:NAMES]) + (" ..." if len(names) > NAMES else "")
