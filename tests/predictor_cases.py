"""A small classifier of texts, for tests of what is made of one."""

import json
import random
from pathlib import Path

from kakehashi import training
from kakehashi.data import sets
from kakehashi.runs import Run

PARTS = {
    "card": ("カード", "my card", "ｶｰﾄﾞ", "the card", "新しいカード"),
    "money": ("送金", "a transfer", "振込 100 円", "money", "残高"),
    "code": ("暗証番号", "PIN", "the passcode", "パスワード", "code 4711"),
}
ENDS = ("が届かない", "を忘れた", " is lost", " does not work", "はどこ?", " - please help", "!", "について")
STRANGERS = [
    "天気はどうですか",
    "zzz qqq",
    "🙂🙂",
    "how tall is the tower of Pisa",
    "猫が庭で寝ている",
    "vulcano y lava",
]


def table(path: Path, n: int = 60) -> Path:
    """A CSV file of n texts in each of three classes, Japanese and English."""
    rng = random.Random(0)
    texts = {
        label: [f"{rng.choice(parts)}{rng.choice(ENDS)} {rng.choice(parts)} {rng.randrange(1000)}" for _ in range(n)]
        for label, parts in PARTS.items()
    }
    rows = [f'"{text}",{label}\n' for label, some in texts.items() for text in some]
    path.write_text("body,team\n" + "".join(rows), encoding="utf-8")
    return path


def clinc(folder: Path, monkeypatch, change=lambda content: content) -> Path:
    """A small set of the form of clinc150, in its place: texts of classes, and texts of none. change: what of it."""
    rng = random.Random(1)

    def rows(n: int) -> list[tuple[str, str]]:
        picked = [(label, *rng.choices(parts, k=2)) for label, parts in PARTS.items() for _ in range(n)]
        return [(f"{one}{rng.choice(ENDS)} {other} {rng.randrange(1000)}", label) for label, one, other in picked]

    content = {"train": rows(40), "val": rows(20), "test": rows(20)}
    for part in ("val", "test"):  # a few of them wrong, so that there is a best temperature
        content[part][::7] = [(text, "money") for text, _ in content[part][::7]]
    strangers = [f"{one}, {other} {rng.randrange(1000)}" for one in STRANGERS for other in STRANGERS]
    content |= {part: [(text, "oos") for text in strangers[i::2]] for i, part in enumerate(("oos_val", "oos_test"))}
    path = folder / "clinc150.json"
    path.write_text(json.dumps(change(content)), encoding="utf-8")
    monkeypatch.setattr(sets, "find", lambda name, test=False: path)
    return path


def trained_run(folder: Path, model: str = "encoder-tiny", steps: int = 60, **options) -> Run:
    """A run of a model on such a table."""
    data = table(folder / "tickets.csv")
    plan = training.plan(model, data, task="classify", text="body", label="team", steps=steps, lr=0.01, **options)
    run = plan.create(folder / "runs")
    return training.train(run.config, run, sources=plan.sources)
