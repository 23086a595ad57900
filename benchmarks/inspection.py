"""bench inspection: what it costs to look inside. Training with and without --health, in turns in the same process."""

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.rows import Row, summary
from kakehashi import training
from kakehashi.inspection import Health
from kakehashi.training import Plan

TURNS = 7
GOAL = "ratio <= 1.05"
# the ladder's GPT-2, and the MLP, whose steps are so short that anything beside them is felt
GPT2: dict[str, Any] = {"model": "gpt2", "data": "tinyshakespeare", "preset": "gpt2-nano", "steps": 100}
MLP: dict[str, Any] = {"model": "mlp", "data": "names", "preset": "mlp-char", "steps": 1000}


def health(what: str, steps: int, turns: int = TURNS, **planned: Any) -> Iterator[Row]:
    """Seconds for the same steps, with Health as `train --health` has it in a run of 1,000 steps, and without it."""
    # evaluation and checkpoints, which are the same in both, fall on the ends
    ends = {"eval_every": steps, "checkpoint_every": steps, "log_every": 10}
    plan = training.plan(**planned, steps=steps, **ends)
    pairs = [(seconds(plan, [Health(every=50)]), seconds(plan, [])) for _ in range(turns + 1)]
    yield summary(
        f"training {what}, {steps:,} steps, with --health",
        "s",
        pairs[1:],  # the first turn warms up
        command="kakehashi bench inspection --only health",
        peer_name="without it",
        goal=GOAL,
    )


def seconds(plan: Plan, callbacks: list[Any]) -> float:
    """Of the steps alone."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        training.train(plan.config, plan.create(folder), [*callbacks, watch], sources=plan.sources)
    return watch.seconds


class Watch(training.Callback):
    """From the end of the first step to the end of the last."""

    def on_step(self, state: training.State) -> None:
        now = time.perf_counter()
        self.began = now if state.step == 1 else self.began
        self.seconds = now - self.began


def all_health() -> Iterator[Row]:
    yield from health("GPT-2 (gpt2-nano)", **GPT2)
    yield from health("the MLP (mlp-char)", **MLP)


PLAIN: dict[str, Callable[[], Iterator[Row]]] = {"health": all_health}
FULL: dict[str, Callable[[], Iterator[Row]]] = {}
