"""The tour's report: the ladder, the prediction, and two looks inside GPT-2. One page that needs no network."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kakehashi import report, texts
from kakehashi.journey.tour import Learnt, order_of, score
from kakehashi.texts import t
from kakehashi.tokenizers import END

MUTED = report.COLOURS["muted"][0]
VOWELS = frozenset("aeiou")
WORD = "attention"  # whose attention is drawn: of letters alone, which every model of identifiers can read


def write(
    path: str | Path, learnt: Sequence[Learnt], predicted: Sequence[int] | None = None, repaired: bool | None = None
) -> Path:
    """Write the page of a finished tour in the language in use; returns its path. Raises paths.CannotWrite.

    predicted: the order that was named, highest validation loss first. repaired: did the person mend the fault?
    None: they were not asked.
    """
    first = learnt[0]
    ladder = [each for each in learnt if each.data == first.data]
    page = report.Page(t("tour.page.title"), texts.language(), t("tour.page.lead"))
    page.add(t("tour.page.ladder", V=first.vocab_size, blank=math.log(first.vocab_size)), table(learnt))
    page.add(t("tour.page.code"), learning_curves(ladder))
    if predicted is not None:
        page.add(t("tour.page.prediction", **score(predicted, learnt)._asdict()), prediction(predicted, learnt))
    if repaired is not None:
        page.add(t("tour.page.repair"), t("tour.page.repaired" if repaired else "tour.page.not_repaired"))
    for each in ladder:
        if hasattr(each.model, "wte"):
            page.add(t("tour.page.embedding"), embedding_map(each), t("tour.page.attention", word=WORD))
            page.add(attention_map(each, WORD))
    page.add(t("tour.page.samples"))
    for each in learnt:
        page.add(f"### {title(each)}", report.Code(written(each)))
    page.add(t("tour.page.next", run=ladder[-1].run.path), report.Details(t("tour.page.again"), settings(learnt)))
    return page.write(path)


def title(learnt: Learnt) -> str:
    """gpt2 on identifiers."""
    return t("tour.title", model=learnt.name, data=learnt.data)


def written(learnt: Learnt) -> str:
    """What it wrote: all its samples, a line each, where documents are single lines; else the first."""
    return "\n".join(learnt.samples) if learnt.run.config.data.unit == "document" else learnt.samples[0].rstrip()


def table(learnt: Sequence[Learnt]) -> report.Table:
    """A row a model."""
    columns = ("model", "parameters", "init", "blank", "val_loss", "bits", "seconds")
    rows = [
        [
            title(each),
            each.parameters,
            f"{each.loss_at_init:.2f}",
            f"{math.log(each.vocab_size):.2f}",
            f"{each.val_loss:.2f}",
            f"{each.bits_per_char:.2f}",
            f"{each.seconds:.0f}",
        ]
        for each in learnt
    ]
    return report.Table([t(f"tour.column.{column}") for column in columns], rows)


def learning_curves(ladder: Sequence[Learnt]) -> report.Figure:
    """Validation loss over seconds of models of the same data."""
    blank = math.log(ladder[0].vocab_size)
    with report.figure() as (figure, axes):
        axes.set_xscale("log")
        axes.axhline(blank, color=MUTED, linestyle=":", linewidth=1.2)
        said = t("tour.page.knows_nothing", V=ladder[0].vocab_size, blank=blank)
        at_the_right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(said, (1, blank), (0, 4), color=MUTED, **at_the_right)
        for each in ladder:
            seconds, losses = zip(*each.curve, strict=True)
            (line,) = axes.plot(seconds, losses, marker="o", markersize=3)
            axes.annotate(
                f"{each.name} {each.val_loss:.2f}",
                (seconds[-1], losses[-1]),
                (0, -6),
                textcoords="offset points",
                ha="center",
                va="top",
                color=line.get_color(),
                bbox={"facecolor": report.COLOURS["paper"][0], "edgecolor": "none", "pad": 1},
            )
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(t("tour.page.seconds"))
        axes.set_ylabel(t("tour.page.loss"))
        axes.margins(0.1)
    alt = t("tour.page.curves_alt", losses=", ".join(f"{each.name} {each.val_loss:.2f}" for each in ladder))
    return report.Figure(figure, alt, t("tour.page.curves_caption"))


def prediction(predicted: Sequence[int], learnt: Sequence[Learnt]) -> report.Table:
    """The two orders side by side, highest loss first."""
    rows = [
        [f"{place}", title(learnt[named]), title(learnt[came]), f"{learnt[came].val_loss:.2f}"]
        for place, (named, came) in enumerate(zip(predicted, order_of(learnt), strict=True), 1)
    ]
    return report.Table([t(f"tour.column.{column}") for column in ("place", "predicted", "came", "val_loss")], rows)


def embedding_map(learnt: Learnt) -> report.Figure:
    """The token embeddings in the plane of their two largest principal components."""
    names = ["END" if token == END else token for token in learnt.run.tokenizer.tokens]
    vectors = learnt.model.wte.weight.detach().numpy()  # (V, C)
    points, shares = principal_components(vectors)
    colours = {"vowel": report.PALETTE[1], "consonant": report.PALETTE[0], "END": MUTED}
    with report.figure(height=4.2) as (figure, axes):
        axes.scatter(*points.T, s=0)  # sets the limits; the letters are the marks
        for name, point in zip(names, points, strict=True):
            kind = "END" if len(name) > 1 else "vowel" if name in VOWELS else "consonant"
            axes.annotate(name, point, ha="center", va="center", fontsize=13, color=colours[kind])
        axes.set_xlabel(t("tour.page.component", n=1, share=shares[0]))
        axes.set_ylabel(t("tour.page.component", n=2, share=shares[1]))
        axes.margins(0.08)
    alike, of, chance = vowels_beside_vowels(names, vectors)
    caption = t("tour.page.embedding_caption", alike=alike, of=of, chance=chance)
    return report.Figure(figure, t("tour.page.embedding_alt"), caption)


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, C) -> the first two coordinates of each (V, 2), and the two components' shares of the variance (2,)."""
    U, S, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    return U[:, :2] * S[:2], (S**2 / (S**2).sum())[:2]


def vowels_beside_vowels(names: Sequence[str], vectors: np.ndarray) -> tuple[int, int, float]:
    """Of how many vowels the most similar letter (by cosine) is a vowel; how many there are; how many by chance."""
    letters = [i for i, name in enumerate(names) if len(name) == 1]
    units = vectors[letters] / np.linalg.norm(vectors[letters], axis=1, keepdims=True)
    alike = units @ units.T
    np.fill_diagonal(alike, -np.inf)
    is_vowel = np.array([names[i] in VOWELS for i in letters])
    n = int(is_vowel.sum())
    return int(is_vowel[alike.argmax(1)][is_vowel].sum()), n, n * (n - 1) / (len(letters) - 1)


def attention_map(learnt: Learnt, word: str) -> report.Figure:
    """Where each head of the first layer looks while the model reads a word."""
    tokenizer = learnt.run.tokenizer
    weights = attention_weights(learnt.model, torch.tensor([[tokenizer.end, *tokenizer.encode(word)]]))
    names, places = ["END", *word], np.arange(len(word) + 1)
    columns = 2
    with report.figure(height=6.2, rows=-(-len(weights) // columns), columns=columns) as (figure, axes):
        for head, (ax, seen) in enumerate(zip(axes.flat, weights, strict=True), 1):
            future = np.triu(np.ones(seen.shape, dtype=bool), 1)
            drawn = ax.pcolormesh(np.ma.masked_array(seen, future), vmin=0, vmax=1, edgecolors="face", linewidth=0.3)
            ax.set_title(t("tour.page.head", n=head), fontsize=9)
            ax.set_xticks(places + 0.5, names)
            ax.set_yticks(places + 0.5, names)
            ax.get_xticklabels()[0].set_rotation(90)  # END is wider than its column
            ax.tick_params(length=0)
            ax.grid(False)
            ax.invert_yaxis()
            ax.set_aspect("equal")
        figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.4, aspect=30, label=t("tour.page.weight"))
    return report.Figure(figure, t("tour.page.attention_alt", word=word), t("tour.page.attention_caption"))


def attention_weights(model: Any, tokens: Tensor) -> np.ndarray:
    """The weights of the first layer's heads on one text, tokens (1, T) -> (H, T, T): row i looks at column j.

    They are never asked from the model, which may use a fused kernel: attention is linear in the values, so with the
    unit vectors as values it returns its weights.
    """
    attention, seen = model.h[0].attn, []
    attend = attention.attend

    def watched(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
        units = torch.eye(k.shape[2]).expand(*k.shape[:2], -1, -1)  # (1, H, T, T)
        seen.append(attend(q, k, units, visible)[0])
        return attend(q, k, v, visible, dropout)

    attention.attend = watched
    try:
        with torch.no_grad():
            model(tokens)
    finally:
        attention.attend = attend
    return seen[0].numpy()


def settings(learnt: Sequence[Learnt]) -> report.Table:
    """What it takes to do it again."""
    columns = ("run", "steps", "batch_size", "lr", "seed", "threads")
    rows = [
        [str(each.run.path)]
        + [str(each.run.config.train[name]) for name in ("steps", "batch_size", "lr")]
        + [str(each.run.config.seed), str(each.run.config.threads)]
        for each in learnt
    ]
    return report.Table([t(f"tour.column.{column}") for column in columns], rows)
