"""The tour's report: the ladder, the prediction, how far each model sees, and looks inside. It needs no network."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kakehashi import report, texts, training
from kakehashi.journey.tour import Learnt, ladder, order_of, score
from kakehashi.models.protocol import IGNORE, RecurrentState, TokenWindow
from kakehashi.texts import t
from kakehashi.tokenizers import END

MUTED = report.COLOURS["muted"][0]
VOWELS = frozenset("aeiou")
# A line a rung, from the lowest: colour and dashes. The one more than the report has series is drawn in ink.
LINES = [*zip(report.PALETTE[::-1], report.DASHES[::-1], strict=True), (report.COLOURS["ink"][0], "-")]
WORDS = 50  # as many make a mean that is worth drawing
BACK = 30  # characters that the gradient is followed back
WORD = "attention"  # whose attention is drawn: of letters alone, which every model of identifiers can read


def write(
    path: str | Path, learnt: Sequence[Learnt], predicted: Sequence[int] | None = None, repaired: bool | None = None
) -> Path:
    """Write the page of a finished tour in the language in use; returns its path. Raises paths.CannotWrite.

    predicted: the order that was named, highest validation loss first. repaired: did the person mend the fault?
    None: they were not asked.
    """
    first, rungs = learnt[0], ladder(learnt)
    page = report.Page(t("tour.page.title"), texts.language(), t("tour.page.lead"))
    page.add(t("tour.page.ladder", V=first.vocab_size, blank=math.log(first.vocab_size)), table(learnt))
    page.add(t("tour.page.code"), learning_curves(rungs))
    if predicted is not None:
        page.add(t("tour.page.prediction", **score(predicted, rungs)._asdict()), prediction(predicted, rungs))
    if repaired is not None:
        page.add(t("tour.page.repair"), t("tour.page.repaired" if repaired else "tour.page.not_repaired"))
    page.add(t("tour.page.sight"), sight_figure(rungs), t("tour.page.beyond_sight", losses=losses_in_sight(rungs)))
    page.add(t("tour.page.time", back=BACK), time_figure(rungs), t("tour.page.time_why"))
    for each in rungs:
        if hasattr(each.model, "wte"):
            page.add(t("tour.page.embedding"), embedding_map(each), t("tour.page.attention", word=WORD))
            page.add(attention_map(each, WORD))
    page.add(t("tour.page.samples"))
    for each in learnt:
        page.add(f"### {title(each)}", report.Code(written(each)))
    page.add(t("tour.page.next", run=rungs[-1].run.path), report.Details(t("tour.page.again"), settings(learnt)))
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


def learning_curves(rungs: Sequence[Learnt]) -> report.Figure:
    """Validation loss over seconds of models of the same data."""
    blank = math.log(rungs[0].vocab_size)
    with report.figure() as (figure, axes):
        axes.set_xscale("log")
        axes.axhline(blank, color=MUTED, linestyle=":", linewidth=1.2)
        said = t("tour.page.knows_nothing", V=rungs[0].vocab_size, blank=blank)
        at_the_right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(said, (1, blank), (0, 4), color=MUTED, **at_the_right)
        for each, (colour, dashes) in zip(rungs, LINES, strict=True):
            label = f"{each.name} {each.val_loss:.2f}"
            axes.plot(*zip(*each.curve, strict=True), marker="o", markersize=3, c=colour, ls=dashes, label=label)
        axes.legend(loc="upper right", bbox_to_anchor=(1, 0.9), handlelength=3)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(t("tour.page.seconds"))
        axes.set_ylabel(t("tour.page.loss"))
        axes.margins(0.1)
    alt = t("tour.page.curves_alt", losses=", ".join(f"{each.name} {each.val_loss:.2f}" for each in rungs))
    return report.Figure(figure, alt, t("tour.page.curves_caption"))


def prediction(predicted: Sequence[int], learnt: Sequence[Learnt]) -> report.Table:
    """The two orders side by side, highest loss first."""
    rows = [
        [f"{place}", title(learnt[named]), title(learnt[came]), f"{learnt[came].val_loss:.2f}"]
        for place, (named, came) in enumerate(zip(predicted, order_of(learnt), strict=True), 1)
    ]
    return report.Table([t(f"tour.column.{column}") for column in ("place", "predicted", "came", "val_loss")], rows)


# --- How far they see ---


def sight(learnt: Learnt) -> int | None:
    """How many tokens a prediction can depend on; None: all that were read."""
    state = learnt.model.new_state(1)
    return state.tokens.shape[1] + 1 if isinstance(state, TokenWindow) else None


def losses_in_sight(rungs: Sequence[Learnt]) -> str:
    """1: bigram 2.62; 3: mlp 2.10; ...: the mean losses by how many characters are seen."""
    by_sight: dict[int | None, list[str]] = {}
    for each in rungs:
        by_sight.setdefault(sight(each), []).append(f"{each.name} {each.val_loss:.2f}")
    return "; ".join(f"{seen or t('tour.page.all')}: {', '.join(named)}" for seen, named in by_sight.items())


def loss_by_position(learnt: Learnt) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss after 0, 1, 2, ... characters of a validation word, and of how many words: two of shape (T,)."""
    batch, targets = validation(learnt)
    with torch.no_grad():
        logits = learnt.model(batch).logits  # (B, T, V)
    losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")  # (B, T)
    n_words = (targets != IGNORE).sum(0)  # (T,)
    return (losses.sum(0) / n_words).numpy(), n_words.numpy()


def validation(learnt: Learnt) -> tuple[Tensor, Tensor]:
    """All validation words at once: tokens (B, T), which begin with END, and targets (B, T), which end with it."""
    _, source = training.open_sources(learnt.run.config, learnt.run.tokenizer)
    batch = next(source.whole(source.n_items))
    return torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets)


def sight_figure(rungs: Sequence[Learnt]) -> report.Figure:
    """The loss after so many characters of a word; beside it, the mean loss by how many characters are seen."""
    seen = [sight(each) for each in rungs]
    with report.figure(height=3.6, columns=2, width_ratios=(2.4, 1)) as (figure, (by_position, by_sight)):
        for each, n, (colour, dashes) in zip(rungs, seen, LINES, strict=True):
            losses, n_words = loss_by_position(each)
            last = int((n_words >= WORDS).sum())  # the longer a word, the fewer there are
            by_position.plot(losses[:last], c=colour, ls=dashes, label=each.name)
            if n is not None and n <= last:  # END is read first: after n - 1 characters all is still in sight
                by_position.plot(n - 1, losses[n - 1], "o", c=colour, markersize=6)
            by_sight.plot(str(n or t("tour.page.all")), each.val_loss, "o", c=colour, markersize=6)
        by_position.set_xlabel(t("tour.page.position"))
        by_position.set_ylabel(t("tour.page.loss"))
        by_sight.set_xlabel(t("tour.page.in_sight"))
        by_sight.margins(0.2)
        figure.legend(*by_position.get_legend_handles_labels(), loc="outside upper center", ncols=6, handlelength=2.2)
    caption = t("tour.page.sight_caption", words=n_words[0], last=last - 1, left=n_words[last - 1])
    return report.Figure(figure, t("tour.page.sight_alt", losses=losses_in_sight(rungs)), caption)


# --- The gradient through time ---


def gradient_through_time(model: Any, tokens: Tensor) -> np.ndarray:
    """How strongly the loss at the end of a text pulls at what was read k tokens before, for k = 0, 1, ..., T - 1: (T,)

    tokens (B, T + 1): T are read, the last is to be predicted. The norm of that loss's gradient with respect to each
    token's embedding, as the model's `embedding` gives it; its mean over the texts.
    """
    read = []

    def watched(module: Any, inputs: Any, embedded: Tensor) -> Tensor:
        read.append(embedded.detach().requires_grad_())
        return read[0]

    hook = model.embedding.register_forward_hook(watched)
    try:
        logits = model(tokens[:, :-1]).logits[:, -1]  # (B, V)
    finally:
        hook.remove()
    # the sum: a text's gradient is that of its own loss alone
    loss = F.cross_entropy(logits, tokens[:, -1], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, read)  # (B, T, C)
    return gradient.norm(dim=-1).mean(0).flip(0).numpy()


def joined_words(learnt: Learnt, length: int) -> Tensor:
    """The validation words one after another without END, cut into texts of `length`: (B, length)."""
    _, targets = validation(learnt)
    letters = targets[(targets != IGNORE) & (targets != learnt.run.tokenizer.end)]
    return letters[: len(letters) // length * length].view(-1, length)


def at_the_start(learnt: Learnt) -> Any:
    """The model as it was before its first step, in eval mode."""
    config = learnt.run.config
    engine = training.TorchEngine(threads=config.threads)
    return engine.build(learnt.run.family, learnt.run.model_config, config.seed).eval()


def time_figure(rungs: Sequence[Learnt]) -> report.Figure:
    """The gradient through time of the recurrent models, before and after training, on a logarithmic scale."""
    said = []
    with report.figure() as (figure, axes):
        axes.set_yscale("log")
        for each, (colour, _) in zip(rungs, LINES, strict=True):
            if not isinstance(each.model.new_state(1), RecurrentState):
                continue
            texts_read = joined_words(each, BACK + 2)  # k = 0 ... BACK, and what is to be predicted
            for when, model, dashes in (("start", at_the_start(each), ":"), ("trained", each.model, "-")):
                norms = gradient_through_time(model, texts_read)
                label = t(f"tour.page.{when}", name=each.name)
                axes.plot(norms, c=colour, ls=dashes, label=label)
                said.append(t("tour.page.factor", label=label, kept=(norms[-1] / norms[0]) ** (1 / BACK)))
        axes.set_xlabel(t("tour.page.back"))
        axes.set_ylabel(t("tour.page.gradient"))
        axes.legend(loc="lower left", handlelength=3)
    caption = t("tour.page.time_caption", texts=len(texts_read), factors=t("tour.page.and").join(said))
    return report.Figure(figure, t("tour.page.time_alt"), caption)


# --- Inside GPT-2 ---


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
