"""The models on names.txt, a rung each, for `bench ladder --full`: on the lecture's split, and on ours.

A loss is the mean over every target of the validation split, so per character with the END of each name included: the
lowest of a run's evaluations, which is that of the weights it keeps. Our split depends on the seed, the lecture's does
not. A run's settings are the command line's, and what is not said is its default.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from benchmarks.rows import Row
from kakehashi import training
from kakehashi.training import Plan

DATA = "names"
SEEDS = (1, 2, 3)
SPLITS = ("lecture", "distinct")


@dataclass(frozen=True)
class Rung:
    """settings: as `training.plan` and, with dashes, `kakehashi train` take them. goal: on the lecture's split."""

    title: str
    settings: dict[str, Any]
    goal: float


RUNGS = {
    "bigram": Rung("bigram", {"model": "bigram", "steps": 1000, "batch_size": 256, "lr": 0.1}, 2.46),
    "mlp": Rung("MLP, 3 characters in sight", {"model": "mlp", "steps": 6000, "batch_size": 128, "lr": 0.006}, 2.10),
    "wavenet": Rung(
        "WaveNet, 8 characters in sight", {"model": "wavenet", "steps": 4000, "batch_size": 64, "lr": 0.004}, 1.99
    ),
    "lstm": Rung(
        "LSTM", {"model": "recurrent", "preset": "lstm-names", "steps": 4000, "batch_size": 64, "lr": 0.003}, 1.97
    ),
    "gpt2": Rung(
        "GPT-2", {"model": "gpt2", "preset": "gpt2-names", "steps": 7000, "batch_size": 128, "lr": 0.006}, 1.95
    ),
}


def planned(name: str, split: str, seed: int, **changed: Any) -> Plan:
    settings = RUNGS[name].settings | changed
    return training.plan(data=DATA, split=split, seed=seed, **settings)


def command(name: str, split: str, seed: int | str) -> str:
    """What gives the same run."""
    settings = {"data": DATA, "split": split, **RUNGS[name].settings, "seed": seed}
    return "kakehashi train " + " ".join(f"--{key.replace('_', '-')} {value}" for key, value in settings.items())


def lowest(plan: Plan) -> float:
    """Train; the lowest validation loss."""
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(plan.config, plan.create(folder), sources=plan.sources)
        return min(row["loss"] for row in run.metrics() if row["split"] == "val")


@cache
def trained(name: str, split: str, seed: int) -> tuple[float, float]:
    """(lowest validation loss, minutes from the file of names to the last evaluation). Once for all rows."""
    began = time.perf_counter()
    loss = lowest(planned(name, split, seed))
    return loss, (time.perf_counter() - began) / 60


def losses(name: str) -> Iterator[Row]:
    """A row a split, over the seeds."""
    rung = RUNGS[name]
    for split in SPLITS:
        of_seeds = [trained(name, split, seed)[0] for seed in SEEDS]
        plan = planned(name, split, SEEDS[0])
        if split == "lecture":
            label = f"lecture split, {plan.split.shared:.0%} of validation names stand in training"
        else:
            label = "our split, no validation name stands in training"
        yield Row(
            what=f"{rung.title}: {label}",
            unit="nats",
            ours=statistics.mean(of_seeds),
            spread=(min(of_seeds), max(of_seeds)),
            repeats=len(of_seeds),
            command=command(name, split, "N"),
            goal=f"ours <= {rung.goal}" if split == "lecture" else "",
            why=f"no peer: mean of seeds {', '.join(map(str, SEEDS))}; {regularisers(plan)}",
        )


def regularisers(plan: Plan) -> str:
    dropout = plan.config.model.config.get("dropout", 0.0)
    return f"weight decay {plan.config.train['weight_decay']}" + (f", dropout {dropout}" if dropout else "")


def minutes() -> Iterator[Row]:
    """How long one seed of all models takes. What was trained for a loss is not trained again."""
    for what, splits in [("lecture split", ("lecture",)), ("both splits", SPLITS)]:
        total = sum(trained(name, split, SEEDS[0])[1] for split in splits for name in RUNGS)
        yield Row(
            what=f"all {len(RUNGS)} models, one seed: {what}",
            unit="minutes",
            ours=total,
            spread=(total, total),
            repeats=1,
            command=f"python -m benchmarks ladder {' '.join(f'--only {name}' for name in (*RUNGS, 'minutes'))}",
            goal="ours <= 20",
            why=f"no peer: the sum of the runs with seed {SEEDS[0]}, evaluations and checkpoints included",
        )


PIECES = {**{name: partial(losses, name) for name in RUNGS}, "minutes": minutes}
