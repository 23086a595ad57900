"""A run, or several beside one another, as a page: curves, and with Health what went on in the layers."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kakehashi import paths, report, texts
from kakehashi.inspection.story import MEASURES, RULE, Point, Story, comparable, differing, oddest
from kakehashi.texts import t

MUTED = report.COLOURS["muted"][0]
FILE = "index.html"
ROWS = 100  # of a table; of longer curves, as many are kept, evenly
Part = report.Figure | report.Table | report.Details | str
Lines = dict[str, list[Point]]


def write(folder: str | Path, told: Sequence[Story]) -> Path:
    """Write folder/index.html and each picture as a PNG, in the language in use; returns the page's path.

    Of one run its own page, of several the comparison. Raises paths.CannotWrite.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise paths.CannotWrite(f"cannot write {folder}: {error.strerror or error}; choose another folder") from error
    alone = len(told) == 1
    title = t("health.page.title" if alone else "health.page.titles", run=told[0].name, n=len(told))
    page = report.Page(title, texts.language(), lead(told[0]) if alone else t("health.page.compared"))
    for name, parts in one(told[0]) if alone else several(told):
        page.add(*parts)
        for part in parts:
            if isinstance(part, report.Figure):
                paths.atomic_write(folder / f"{name}.png", png(part))
    return page.write(folder / FILE)


def png(part: report.Figure) -> bytes:
    file = io.BytesIO()
    part.figure.savefig(file, format="png", dpi=200)
    return file.getvalue()


def lead(story: Story) -> str:
    summary = story.summary
    if summary["val_loss"] is None:
        return t("health.page.not_begun" if not story.rows else "health.page.not_judged", step=summary["step"])
    return t(
        "health.page.lead",
        step=summary["step"],
        steps=summary["steps"] or summary["step"],
        loss=summary["val_loss"],
        seconds=summary["seconds"],
    )


# --- One run ---


def one(story: Story) -> Iterator[tuple[str, list[Part]]]:
    """(a picture's file name, what stands on the page around it)."""
    if note := story.trouble:
        yield "", [t(f"health.page.trouble.{note['what']}", **note)]
    if not story.rows:
        return
    losses = {t(f"health.page.{split}"): story.curve(split, "loss") for split in ("train", "val")}
    losses = {label: points for label, points in losses.items() if points}
    if losses:
        yield "loss", [t("health.page.loss"), curves("loss", losses), numbers_of_curves(story)]
    for name, log in (("lr", False), ("grad_norm", True)):
        if points := story.curve("train", name):
            yield name, [t(f"health.page.{name}"), curves(name, {t(f"health.page.label.{name}"): points}, log=log)]
    if not story.health:
        yield "", [t("health.page.without")]
        return
    for measure in ("update", "gradient", "scale", "dead", "saturated"):
        if layers := story.layers(measure):
            yield measure, [t(f"health.page.{measure}"), by_layer(measure, layers), numbers(layers, "layer")]


def curves(name: str, lines: Lines, log: bool = False) -> report.Figure:
    """Curves over steps, each by its name."""
    with report.figure() as (figure, axes):
        for label, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=label, marker=marker(points), markersize=3)
        if log and positive(lines):
            axes.set_yscale("log")
        if len(lines) > 1:
            axes.legend(handlelength=3)
        label_axes(axes, name)
    ends = ", ".join(f"{label} {points[-1][1]:.4g}" for label, points in lines.items())
    return report.Figure(figure, t("health.page.alt", what=t(f"health.page.label.{name}"), ends=ends))


def by_layer(measure: str, layers: Lines) -> report.Figure:
    """All layers as faint lines, and the oddest five by name."""
    named = oddest(measure, layers, len(report.PALETTE))
    with report.figure(height=3.8) as (figure, axes):
        for layer, points in layers.items():
            if layer not in named:
                axes.plot(*zip(*points, strict=True), color=MUTED, linestyle="-", linewidth=0.7, alpha=0.6)
        for layer, colour, dashes in zip(named, report.PALETTE, report.DASHES, strict=False):
            points = layers[layer]
            style = {"color": colour, "linestyle": dashes, "marker": marker(points), "markersize": 3}
            axes.plot(*zip(*points, strict=True), label=layer, **style)
        if measure in ("dead", "saturated"):
            axes.set_ylim(-0.02, 1.02)
            axes.yaxis.set_major_formatter(lambda value, place: f"{value:.0%}")
        elif positive(layers):
            axes.set_yscale("log")
        if measure == "update":
            axes.axhline(RULE, color=MUTED, linestyle=":", linewidth=1.4, label=t("health.page.rule"))
        figure.legend(loc="outside lower center", ncols=3, handlelength=3)
        label_axes(axes, measure)
    ends = ", ".join(f"{layer} {layers[layer][-1][1]:.3g}" for layer in named)
    rest = len(layers) - len(named)
    caption = t("health.page.oddest", n=len(named), rest=rest) if rest else ""
    return report.Figure(figure, t("health.page.alt", what=t(f"health.page.label.{measure}"), ends=ends), caption)


def label_axes(axes: Any, name: str) -> None:
    axes.set_xlabel(t("health.page.step"))
    axes.set_ylabel(t(f"health.page.label.{name}"))


def marker(points: list[Point]) -> str:
    """Dots where there are few."""
    return "o" if len(points) <= 20 else ""


def positive(lines: Lines) -> bool:
    """Whether a log axis can hold them: something is above 0."""
    return any(value > 0 for points in lines.values() for _, value in points)


def numbers_of_curves(story: Story) -> report.Details:
    """Rows of the metrics, thinned to ROWS."""
    fields = ["step", "split", "loss", "lr", "grad_norm"] + ["right"] * any("right" in row for row in story.rows)
    rows = [[row["split"], f"{row['step']}", *(shown(row.get(name)) for name in fields[2:])] for row in story.rows]
    kept = [rows[i * len(rows) // ROWS] for i in range(ROWS)] if len(rows) > ROWS else rows
    names = [t(f"health.column.{name}") for name in ("split", "step", *fields[2:])]
    caption = "" if len(rows) == len(kept) else t("health.page.thinned", n=len(kept), all=len(rows))
    return report.Details(t("health.page.numbers"), report.Table(names, kept, caption))


def numbers(lines: Lines, what: str) -> report.Details:
    """Each line's first, middle and last value; what: its "layer" or "run"."""
    columns = [t(f"health.column.{name}") for name in (what, "first", "middle", "last")]
    rows = [
        [name, *(shown(points[i][1]) for i in (0, len(points) // 2, -1))] for name, points in lines.items() if points
    ]
    return report.Details(t("health.page.numbers"), report.Table(columns, rows))


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


# --- Several ---


def several(told: Sequence[Story]) -> Iterator[tuple[str, list[Part]]]:
    """What differs, how they ended, and their curves on one axis."""
    yield "", [t("health.page.settings"), settings(told), t("health.page.results"), results(told)]
    if not comparable(told):
        yield "", [t("health.page.incomparable")]
    pictures = [("val_loss", "val", "loss"), ("train_loss", "train", "loss"), ("right", "val", "right")]
    pictures += [("grad_norm", "train", "grad_norm"), ("lr", "train", "lr")]
    for name, split, field in pictures:
        lines = {story.name: story.curve(split, field) for story in told}
        if any(lines.values()):
            yield (
                name,
                [t(f"health.page.together.{name}"), together(name, lines, name == "grad_norm"), numbers(lines, "run")],
            )
    lines = {story.name: story.middle("update") for story in told}
    if any(lines.values()):
        yield "update", [t("health.page.together.update"), together("update", lines, True), numbers(lines, "run")]


def together(name: str, lines: Lines, log: bool) -> report.Figure:
    """A line a run; after as many runs as there are colours, other dashes."""
    n = len(report.PALETTE)
    with report.figure(height=3.8) as (figure, axes):
        for i, (label, points) in enumerate(lines.items()):
            if points:
                style = {"color": report.PALETTE[i % n], "linestyle": report.DASHES[(i + i // n) % len(report.DASHES)]}
                axes.plot(*zip(*points, strict=True), label=label, marker=marker(points), markersize=3, **style)
        if log and positive(lines):
            axes.set_yscale("log")
        if name == "update":
            axes.axhline(RULE, color=MUTED, linestyle=":", linewidth=1.4, label=t("health.page.rule"))
        figure.legend(loc="outside lower center", ncols=2, handlelength=3)
        label_axes(axes, name)
    ends = ", ".join(f"{label} {points[-1][1]:.4g}" for label, points in lines.items() if points)
    return report.Figure(figure, t("health.page.alt", what=t(f"health.page.label.{name}"), ends=ends))


def settings(told: Sequence[Story]) -> report.Table | str:
    """The fields that differ, a column a run."""
    rows = [[name, *map(setting, values)] for name, values in differing(told).items()]
    if not rows:
        return t("health.page.same")
    return report.Table([t("health.column.setting"), *(story.name for story in told)], rows)


def setting(value: Any) -> str:
    """A value in a cell: a hash by its beginning."""
    if value is None:
        return "–"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text


def results(told: Sequence[Story]) -> report.Table:
    """A row a run: best validation loss, what is right, steps, targets, time."""
    columns = ["val_loss", "right", "step", "tokens", "seconds"]
    if not any("right" in story.summary for story in told):
        columns.remove("right")
    rows = [[story.name, *(result(story, column) for column in columns)] for story in told]
    return report.Table([t("health.column.run"), *(t(f"health.column.{column}") for column in columns)], rows)


def result(story: Story, column: str) -> str:
    value = story.rows[-1]["tokens"] if column == "tokens" and story.rows else story.summary.get(column)
    form = {"val_loss": ".3f", "right": ".1%", "seconds": ",.0f"}.get(column, ",")
    return "–" if value is None else format(value, form)


def worst(story: Story, n: int = 5) -> list[list[str]]:
    """The layers whose updates are oddest: name, and of each of MEASURES its first and its last value."""
    every = {measure: story.layers(measure) for measure in MEASURES}
    named = oddest("update", every["update"], n)
    return [[layer, *(trend(every[measure].get(layer)) for measure in MEASURES)] for layer in named]


def trend(points: list[Point] | None) -> str:
    if not points:
        return "–"
    first, last = f"{points[0][1]:.2g}", f"{points[-1][1]:.2g}"
    return last if first == last else f"{first} → {last}"
