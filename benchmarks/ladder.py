"""bench ladder: training on tinyshakespeare's characters in nanoGPT's setting for a CPU, beside a plain loop.

4 layers, 4 heads, 128 wide, 64 tokens in sight, 12 windows a step, 2,000 steps, no dropout; AdamW with beta2 0.99 and
weight decay 0.1 on matrices, clipping at 1, 100 steps of warm-up, cosine from 1e-3 to 1e-4.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import peer_nanogpt
from benchmarks.rows import Row, measure, summary
from kakehashi import data, training
from kakehashi.training import Plan

SETTINGS = {
    "steps": 2000,
    "batch_size": 12,
    "lr": 1e-3,
    "min_lr": 1e-4,
    "warmup": 100,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.99,
    "clip": 1.0,
}
COMMAND = (
    "kakehashi train --model gpt2 --preset gpt2-nano --data tinyshakespeare --batch-size 12 --lr 1e-3 --steps 2000"
)
PEER = "a plain loop in nanoGPT's manner"
SEEDS = (1, 2, 3)
STEPS, TURNS = 20, 30  # steps in a turn, of ours and then of the peer's


def plain() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        # evaluation and checkpoints fall on the first and the last step, outside the turns; the peer has neither
        steps = STEPS * (TURNS + 1) + 1
        plan = planned(steps=steps, eval_every=steps, checkpoint_every=steps, log_every=10)
        race = Race(plan, tokens_file(plan, Path(folder)))
        training.train(plan.config, plan.create(folder), callbacks=[race], sources=plan.sources)
        yield summary(
            "training",
            "tokens/s",
            race.turns[1:],  # the first one warms up
            command=COMMAND,
            peer_name=PEER,
            goal="ratio >= 0.97",
        )


def full() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        plans = [planned(seed=seed) for seed in SEEDS]
        ours, peers = iter(plans), iter(plans)
        yield measure(
            f"validation loss, whole split, seeds {', '.join(map(str, SEEDS))}",
            "nats",
            lambda: loss(next(ours), Path(folder)),
            lambda: peers_loss(next(peers), Path(folder)),
            repeats=len(SEEDS),
            command=f"{COMMAND} --seed N",
            peer_name=PEER,
        )
        faster = iter([planned(seed=seed, lr=2e-3, min_lr=2e-4) for seed in SEEDS])
        yield measure(
            "the same at twice the learning rate",
            "nats",
            lambda: loss(next(faster), Path(folder)),
            repeats=len(SEEDS),
            command=f"{COMMAND.replace('1e-3', '2e-3')} --seed N",
            goal="ours <= 1.90",
            why="no peer: nanoGPT's setting is 1e-3",
        )


def planned(**changed: float) -> Plan:
    return training.plan("gpt2", "tinyshakespeare", preset="gpt2-nano", **(SETTINGS | changed))


class Race(training.Callback):
    """After every so many steps of our loop, as many of the peer's: turns of a second, under the same load."""

    def __init__(self, plan: Plan, tokens: Path):
        steps = plan.config.train["steps"]
        self.peer = peer_nanogpt.train(tokens, plan.tokenizer.vocab_size, steps=steps)
        self.tokens = STEPS * SETTINGS["batch_size"] * plan.config.data.block_size
        self.turns: list[tuple[float, float]] = []

    def on_step(self, state: training.State) -> None:
        if state.step == 1:
            self.began = time.perf_counter()
        elif state.step % STEPS == 1:
            between = time.perf_counter()
            for _ in range(STEPS):
                next(self.peer)
            end = time.perf_counter()
            self.turns.append((self.tokens / (between - self.began), self.tokens / (end - between)))
            self.began = time.perf_counter()


def loss(plan: Plan, folder: Path) -> float:
    """The lowest validation loss of a run, which is that of the weights it keeps."""
    run = plan.create(folder)
    training.train(plan.config, run, sources=plan.sources)
    return min(row["loss"] for row in run.metrics() if row["split"] == "val")


def tokens_file(plan: Plan, folder: Path) -> Path:
    """The training text as the peer reads it."""
    (text,) = data.corpus("tinyshakespeare").split(plan.config.seed).train
    path = folder / "train.bin"
    np.array(plan.tokenizer.encode(text), dtype=np.uint16).tofile(path)
    return path


def peers_loss(plan: Plan, folder: Path) -> float:
    """Of its last weights, over the same targets as ours."""
    tokens, seed = tokens_file(plan, folder), plan.config.seed
    *_, model = peer_nanogpt.train(tokens, plan.tokenizer.vocab_size, steps=SETTINGS["steps"], seed=seed)
    total, n_targets = 0.0, 0
    with torch.no_grad():
        for batch in plan.sources[1].whole(batch_size=64):
            _, mean = model(*map(torch.from_numpy, (*batch.inputs, batch.targets)))
            total += mean.item() * batch.n_targets
            n_targets += batch.n_targets
    return total / n_targets
