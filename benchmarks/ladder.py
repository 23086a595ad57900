"""bench ladder: how fast we train beside plain loops, and how far: on names.txt (names.py), and on tinyshakespeare.

tinyshakespeare's characters are trained on in nanoGPT's setting for a CPU: 4 layers, 4 heads, 128 wide, 64 tokens in
sight, 12 windows a step, 2,000 steps, no dropout; AdamW with beta2 0.99 and weight decay 0.1 on matrices, clipping at
1, 100 steps of warm-up, cosine from 1e-3 to 1e-4.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import names, peer_lstm, peer_nanogpt
from benchmarks.rows import Row, measure, summary
from kakehashi import data, training
from kakehashi.training import Plan

SETTINGS: dict[str, Any] = {
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
LSTM_WHY = (
    "What would close the rest: at 128 names a step 82% of our time is matrix products, which torch leaves to MKL, in "
    "AVX2 on an AMD processor; torch.nn.LSTM is oneDNN's, fused and in AVX-512, at twice the rate."
)


def gpt2_speed() -> Iterator[Row]:
    plan = planned(**of_a_race())
    with tempfile.TemporaryDirectory() as folder:
        path, vocab_size = tokens_file(plan, Path(folder)), plan.codec.vocab_size
        turns = race(plan, lambda model: peer_nanogpt.train(path, vocab_size, steps=plan.config.train["steps"]))
    yield summary(
        "training GPT-2",
        "tokens/s",
        turns,
        command=COMMAND,
        peer_name=PEER,
        goal="ratio >= 0.97",
    )


def lstm_speed() -> Iterator[Row]:
    plan = names.planned("lstm", "lecture", SEEDS[0], **of_a_race())
    yield summary(
        "training the LSTM",
        "targets/s",
        race(plan, lambda model: lstm_peer(plan, model)),
        command=names.command("lstm", "lecture", SEEDS[0]),
        peer_name="torch.nn.LSTM in a plain loop",
        goal="ratio >= 0.5",
        why=LSTM_WHY,
    )


def shakespeare() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        plans = [planned(seed=seed) for seed in SEEDS]
        ours, peers = iter(plans), iter(plans)
        yield measure(
            f"validation loss, whole split, seeds {', '.join(map(str, SEEDS))}",
            "nats",
            lambda: names.lowest(next(ours)),
            lambda: peers_loss(next(peers), Path(folder)),
            repeats=len(SEEDS),
            command=f"{COMMAND} --seed N",
            peer_name=PEER,
        )
    faster = iter([planned(seed=seed, lr=2e-3, min_lr=2e-4) for seed in SEEDS])
    yield measure(
        "the same at twice the learning rate",
        "nats",
        lambda: names.lowest(next(faster)),
        repeats=len(SEEDS),
        command=f"{COMMAND.replace('1e-3', '2e-3')} --seed N",
        goal="ours <= 1.90",
        why="no peer: nanoGPT's setting is 1e-3",
    )


def planned(**changed: Any) -> Plan:
    return training.plan("gpt2", "tinyshakespeare", preset="gpt2-nano", **(SETTINGS | changed))


def of_a_race() -> dict[str, Any]:
    """Settings: evaluation and checkpoints, which the peer has not, fall on the ends, outside the turns."""
    steps = STEPS * (TURNS + 1) + 1
    return {"steps": steps, "eval_every": steps, "checkpoint_every": steps, "log_every": 10}


def race(plan: Plan, start: Callable[[nn.Module], Iterator]) -> list[tuple[float, float]]:
    """Train as planned, in turns with a peer: targets a second of each, turn by turn. start: as Race takes it."""
    watch = Race(start)
    with tempfile.TemporaryDirectory() as folder:
        training.train(plan.config, plan.create(folder), callbacks=[watch], sources=plan.sources)
    return watch.turns[1:]  # the first one warms up


class Race(training.Callback):
    """After every so many steps of our loop, as many of the peer's: short turns, under the same load.

    start: makes the peer, which takes a step each time it is asked, from our model before its first step.
    """

    def __init__(self, start: Callable[[nn.Module], Iterator]):
        self.start = start
        self.turns: list[tuple[float, float]] = []

    def on_start(self, state: training.State) -> None:
        self.peer = self.start(state.model)

    def on_step(self, state: training.State) -> None:
        if state.step == 1:
            next(self.peer)
        elif state.step % STEPS == 1:
            between = time.perf_counter()
            for _ in range(STEPS):
                next(self.peer)
            end = time.perf_counter()
            targets = state.tokens - self.targets
            self.turns.append((targets / (between - self.began), targets / (end - between)))
        else:
            return
        self.targets, self.began = state.tokens, time.perf_counter()


def lstm_peer(plan: Plan, model: nn.Module) -> Iterator[torch.Tensor]:
    """The peer from the same weights, on the same batches."""
    config, settings = plan.config.model.config, plan.config.train
    peer = peer_lstm.LSTM(**{name: value for name, value in config.items() if name != "cell"})
    peer_lstm.take(peer, model.state_dict())

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(settings["steps"]):
            batch = plan.sources[0].batch(step, settings["batch_size"], plan.config.seed)
            yield torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets)

    return peer_lstm.train(peer, batches(), lr=settings["lr"])


def tokens_file(plan: Plan, folder: Path) -> Path:
    """The training text as the peer reads it."""
    (text,) = data.corpus("tinyshakespeare").split(plan.config.seed).train
    path = folder / "train.bin"
    np.array(plan.codec.encode(text), dtype=np.uint16).tofile(path)
    return path


def peers_loss(plan: Plan, folder: Path) -> float:
    """Of its last weights, over the same targets as ours."""
    tokens, seed = tokens_file(plan, folder), plan.config.seed
    *_, model = peer_nanogpt.train(tokens, plan.codec.vocab_size, steps=SETTINGS["steps"], seed=seed)
    total, n_targets = 0.0, 0
    with torch.no_grad():
        for batch in plan.sources[1].whole(batch_size=64):
            _, mean = model(*map(torch.from_numpy, (*batch.inputs, batch.targets)))
            total += mean.item() * batch.n_targets
            n_targets += batch.n_targets
    return total / n_targets


PLAIN = {"gpt2-speed": gpt2_speed, "lstm-speed": lstm_speed}
FULL = {**names.PIECES, "tinyshakespeare": shakespeare}
