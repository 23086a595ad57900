"""A page on a classifier of texts: the table, who is right more often, and whether its scores mean what they say."""

from dataclasses import asdict

from kakehashi import report as pages
from kakehashi import texts
from kakehashi.texts import t
from kakehashi.work.predictor import certainty
from kakehashi.work.predictor.judging import FEW, Judged, Report

MUTED = pages.COLOURS["muted"][0]


def page(made: Report) -> pages.Page:
    """The page of a report, in the language in use."""
    model = made.model
    before, after = model.ece
    found = pages.Page(t("predictor.page.title", run=made.run), texts.language(), t("predictor.page.lead", n=made.n))
    columns, rows = table(made)
    found.add(pages.Table(columns, rows), *sentences(made), t("predictor.page.reliability"), reliability(model))
    found.add(t("predictor.page.temperature", temperature=model.temperature, before=before, after=after))
    return found.add(t(f"predictor.honest_{made.part}"))


def table(made: Report) -> tuple[list[str], list[list[str]]]:
    """(columns, rows): a row a figure, a column a classifier."""
    figures = [_figures(each) for each in made.sides]
    rows = [[t(f"predictor.figure.{name}"), *(each[name] for each in figures)] for name in figures[0]]
    return [t("predictor.figure.of", n=made.n), *(each.name for each in made.sides)], rows


def _figures(side: Judged) -> dict[str, str]:
    before, after = side.ece
    return {
        "accuracy": f"{side.accuracy:.1%}",
        "macro_f1": f"{side.macro_f1:.3f}",
        "threshold": "-" if side.threshold.value is None else f"{side.threshold.value:.3f}",
        "answered": f"{side.answered:.1%}",
        "precision": "-" if side.precision is None else f"{side.precision:.1%}",
        "interval": "-" if side.precision_interval is None else "{:.1%} - {:.1%}".format(*side.precision_interval),
        "before": f"{before:.3f}",
        "after": f"{after:.3f}",
    }


def sentences(made: Report) -> list[str]:
    """What the table says: who is right more often, what cannot be reached, texts of no class."""
    said = []
    if made.difference is not None:
        low, high = (100 * end for end in made.difference)
        if made.outcome == "baseline":
            low, high = -high, -low
        only, other = made.alone
        values = {"low": low, "high": high, "n": made.n, "only": only, "other": other}
        said.append(t(f"predictor.outcome.{made.outcome}", baseline=made.sides[1].name, **values))
    if few := [each.n_answered for each in made.sides if 0 < each.n_answered < FEW]:
        said.append(t("predictor.few", n=min(few)))
    for each in made.sides:
        if each.threshold.value is None:
            said.append(t("predictor.never", name=each.name, target=made.target))
    for each in made.outside:
        key = "predictor.outside_never" if each.threshold is None else "predictor.outside"
        said.append(t(key, **asdict(each)))
    return said


def reliability(side: Judged) -> pages.Figure:
    """The share right over the score, in bins of equal mass, before and after the temperature."""
    with pages.figure(height=3.8) as (figure, axes):
        axes.plot((0, 1), (0, 1), color=MUTED, linestyle=":", linewidth=1.2, label=t("predictor.page.honest"))
        for name, score in (("before", certainty.scores(side.logits)), ("after", side.score)):
            means, shares, _ = zip(*certainty.bins(score, side.right), strict=True)
            axes.plot(means, shares, marker="o", markersize=4, label=t(f"predictor.page.{name}"))
        axes.set_xlabel(t("predictor.page.score"))
        axes.set_ylabel(t("predictor.page.right"))
        axes.set_aspect("equal")
        axes.legend(loc="upper left")
    before, after = side.ece
    return pages.Figure(figure, t("predictor.page.alt", before=before, after=after), t("predictor.page.caption"))
