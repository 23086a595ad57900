"""What samples.md shows of a run, by its task: a function each.

Its words stand there in every language, so that a run that is resumed under another one writes the same bytes.
"""

from typing import TYPE_CHECKING, Any

from kakehashi.texts import HERE, LANGUAGES, Texts

if TYPE_CHECKING:
    from kakehashi.data import Batches
    from kakehashi.inference import Completion
    from kakehashi.runs import Run


def page(run: "Run", split: Any, val: "Batches") -> str:
    """samples.md of a run whose training has ended. split: its data; val: what it is validated on, of them."""
    return f"# {run.name}\n\n{SAMPLES[run.config.task](run, split, val)}\n"


def spoken(key: str, **values: object) -> str:
    """A text in every language, side by side; the head of a table cell by cell."""
    room = Texts(HERE / "{lang}" / "cli.toml")
    each = [room.all(lang)[f"cli.samples.{key}"].format(**values).split("|") for lang in LANGUAGES]
    return " | ".join(" / ".join(filter(None, map(str.strip, cells))) for cells in zip(*each, strict=True)).strip()


def texts(run: "Run", split: Any, val: "Batches") -> str:
    """Eight texts that a language model writes."""
    completions = written(run, run.config.train["device"], [""] * 8, max_tokens=60, seed=run.config.seed)
    return "\n\n".join(f"```\n{each.text}\n```" for each in completions)


def written(run: "Run", device: str, prompts: list[str], **dials: Any) -> "list[Completion]":
    """What a run's model writes after the prompts; a mistake in a learner's own code is one line."""
    from kakehashi.inference import Engine

    run.require("lm")
    with run.learners_code():
        return Engine(run.load_model(), run.tokenizer, device).generate(prompts, **dials)


def classes(run: "Run", split: Any, val: "Batches") -> str:
    """A table of a classifier's classes: how many of their images it knows, and what it takes the others for."""
    from kakehashi.inference import confusion

    names = run.form.classes
    with run.learners_code():
        table = confusion(run.load_model(), val, len(names), run.config.train["device"])  # (V, V)
    lines = [spoken("classes"), "|---|--:|--:|---|"]
    for name, row, i in zip(names, table, range(len(names)), strict=True):
        others = sorted((j for j in range(len(names)) if j != i and row[j]), key=lambda j: -row[j])[:3]
        share = f"{row[i] / row.sum():.1%}" if row.sum() else "-"
        lines.append(f"| {name} | {row.sum()} | {share} | {', '.join(f'{names[j]} {row[j]}' for j in others)} |")
    return "\n".join(lines)


def translations(run: "Run", split: Any, val: "Batches") -> str:
    """Tables of pairs with what the model writes, greedily: of those validated on, and of unseen ones where there are.

    Below each part's name: the share of all its pairs that are written exactly.
    """
    from kakehashi import training
    from kakehashi.data import PairSource
    from kakehashi.inference import translate

    config = run.config
    task = training.tasks.of(config.task)
    parts = {"val": (split.val, val)}
    if unseen := split.apart.get("unseen"):
        parts["unseen"] = unseen, PairSource(unseen, run.codec)
    lines = []
    with run.learners_code():
        engine = training.TorchEngine(config.train["device"])
        model = run.load_model().to(engine.device)
        for name, (pairs, source) in parts.items():
            exact = training.measure(model, source, engine, right=task.right).right
            some = pairs[:: max(1, len(pairs) // 12)][:12]  # from all over the part
            written = translate(model, run.tokenizer, [source for source, _ in some], beam=1, device=str(engine.device))
            lines += [f"## {name}", "", spoken("pairs", exact=exact, n=len(pairs)), ""]
            lines += [spoken("written"), "|---|---|---|"]
            for pair, made in zip(some, written, strict=True):
                cells = (text.replace("|", "\\|") for text in (*pair, made.text))
                lines.append(f"| {' | '.join(cells)} |")
            lines.append("")
    return "\n".join(lines).rstrip()


def labels(run: "Run", split: Any, val: "Batches") -> str:
    """A table of some texts that are validated on: the answer, how likely it is, and the right class.

    Above it: the share of all of them whose class is found.
    """
    from kakehashi.inference import text_logits

    classes = run.form.classes
    with run.learners_code():
        logits = text_logits(run.load_model(), run.form, [row.text for row in split.val], run.config.train["device"])
    chances, answers = logits.softmax(-1).max(-1)
    given = [classes[k] for k in answers.tolist()]
    right = sum(answer == row.label for answer, row in zip(given, split.val, strict=True)) / len(given)
    lines = [spoken("right", right=right, n=len(given)), "", spoken("labels")]
    lines.append("|---|---|--:|---|")
    for i in range(0, len(given), max(1, len(given) // 12))[:12]:  # from all over the part
        text, label = split.val[i]
        lines.append(f"| {cell(text)} | {cell(given[i])} | {chances[i]:.1%} | {cell(label)} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    """A text in a cell of a table."""
    return short(text, 100).replace("|", "\\|")


def short(text: str, most: int) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} ..."


SAMPLES = {"lm": texts, "seq2seq": translations, "classify": classes, "label": labels}
