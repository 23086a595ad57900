"""bench autograd: the engine on NumPy beside PyTorch's eager mode on the CPU, and beside engines of single numbers.

A step of training is forward, loss, backward, AdamW with its defaults (on the moons: plain SGD) and zero_grad; ours and
the peer's begin with the same weights and see the same batch again and again. Each race is run twice: with the threads
that NumPy and PyTorch take by themselves, one a core, and with one. Memory that a step frees is kept for the next one
(training.memory), for both. What a step needs is measured in a fresh process that is left as it is.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import micrograd.engine
import numpy as np
import torch
from sklearn.datasets import load_digits, make_moons
from threadpoolctl import threadpool_limits

from benchmarks import peer_eager, peer_lstm
from benchmarks.memory import counted, fresh, held, rise
from benchmarks.rows import Row, measure
from kakehashi import models as torch_models
from kakehashi import runs
from kakehashi.autograd import Tensor, Value, models, nn, optim
from kakehashi.autograd import functional as F
from kakehashi.training.memory import keep_freed_memory

TURNS = 7
SECONDS, REST = 0.3, 0.2  # of a turn, and before it: threads look out for work a while after their last
STEPS = 200  # without the collector
GPT = {"vocab_size": 65, "block_size": 64, "n_layers": 4, "n_heads": 4, "n_embd": 128}

Arrays = tuple[np.ndarray, ...]
Step = Callable[..., Any]  # takes the arrays of a batch, gives the loss before the step
Pair = tuple[Step, Step]  # ours and the peer's


# --- Who steps ---


def training_step(loss_of: Callable[..., Any], optimizer: Any) -> Step:
    """Ours and PyTorch's alike: the names are the same."""

    def step(*batch: Any) -> Any:
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def pair(model: nn.Module, loss_of: Callable, peer: torch.nn.Module, peers_loss_of: Callable) -> Pair:
    """Steps of both, each with its own AdamW. The peer's takes arrays, too."""
    theirs = training_step(peers_loss_of, torch.optim.AdamW(peer.parameters()))
    ours = training_step(loss_of, optim.AdamW(model.parameters()))
    return ours, lambda *batch: theirs(*map(torch.from_numpy, batch))


def mlp_steps() -> Pair:
    rng = np.random.default_rng(0)
    layers = [nn.Linear(64, 128, rng), Tensor.relu, nn.Linear(128, 128, rng), Tensor.relu, nn.Linear(128, 10, rng)]
    model, peer = nn.Sequential(*layers), peer_eager.mlp()
    model.load_state_dict(runs.weights_of(peer))
    return pair(
        model,
        lambda x, targets: F.cross_entropy(model(Tensor(x)), targets),
        peer,
        lambda x, targets: torch.nn.functional.cross_entropy(peer(x), targets),
    )


def cnn_steps(size: int = 8) -> Pair:
    model, peer = models.CNN(models.CNNConfig(size=size), np.random.default_rng(0)), peer_eager.CNN(size=size)
    model.load_state_dict(runs.weights_of(peer))
    return pair(
        model,
        lambda x, targets: model(x, targets).loss,
        peer,
        lambda x, targets: torch.nn.functional.cross_entropy(peer(x), targets),
    )


def lstm_steps() -> Pair:
    model = models.Recurrent(models.RecurrentConfig(), np.random.default_rng(0))
    peer = peer_lstm.LSTM(vocab_size=27, n_embd=64, n_hidden=256, n_layers=1, dropout=0.0)
    peer_lstm.take(peer, {name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    return pair(model, lambda tokens, targets: model(tokens, targets).loss, peer, peer)


def gpt_steps(fused: bool = False) -> Pair:
    family = torch_models.find("gpt2")
    peer = family.Model(family.Config(**GPT, fused=fused))
    model = models.GPT(models.GPTConfig(**GPT), np.random.default_rng(0))
    model.load_state_dict(runs.weights_of(peer))
    return pair(
        model,
        lambda tokens, targets: model(tokens, targets).loss,
        peer,
        lambda tokens, targets: peer(tokens, targets).loss,
    )


# --- On what ---


def digits(n: int, scale: int = 1) -> Arrays:
    """n handwritten digits, images (n, 1, 8 scale, 8 scale) and classes (n)."""
    data = load_digits()
    images = (data.images[:n] / 16).astype(np.float32).repeat(scale, 1).repeat(scale, 2)
    return images[:, None], data.target[:n]


def words(n: int, T: int = 12) -> Arrays:
    """Tokens and targets (n, T) of made-up names: 3 to T - 1 letters between END and END, then nothing that counts."""
    rng = np.random.default_rng(0)
    letters = rng.integers(1, 27, (n, T + 1))
    lengths = rng.integers(3, T, (n, 1))
    letters[:, 0] = models.END
    letters[np.arange(T + 1) > lengths] = models.END
    return letters[:, :-1], np.where(np.arange(T) > lengths, F.IGNORE, letters[:, 1:])


def text(n: int, T: int = 64) -> Arrays:
    """Tokens and targets (n, T), drawn at random: what stands there costs no time."""
    tokens = np.random.default_rng(0).integers(0, GPT["vocab_size"], (n, T + 1))
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


# --- Races ---


def race(what: str, steps: Pair, batch: Arrays, **words: str) -> Iterator[Row]:
    """Milliseconds a step. words: as `measure` takes them."""
    keep_freed_memory()
    ours, peer = (partial(pace, partial(step, *batch)) for step in steps)
    for said, threads in (("", nullcontext()), (", 1 thread", one_thread())):
        with threads:
            yield measure(what + said, "ms", ours, peer, repeats=TURNS, **words)


def pace(step: Callable[[], Any]) -> float:
    """Milliseconds a step, over as many as fit into SECONDS."""
    time.sleep(REST)
    step()  # the first one finds other memory in the cache, and threads asleep
    n, began = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - began < SECONDS:
        step()
        n += 1
    return 1000 * (time.perf_counter() - began) / n


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def mlp() -> Iterator[Row]:
    for n in (64, 512):
        images, targets = digits(n)
        yield from race(
            f"MLP 64-128-128-10, a step on {n} digits",
            mlp_steps(),
            (images.reshape(n, 64), targets),
            command="kakehashi bench autograd --only mlp",
            peer_name="torch.nn.Linear",
            goal="ratio <= 1.0",
        )


def gpt() -> Iterator[Row]:
    for fused in (False, True):
        yield from race(
            f"GPT, 4 layers 128 wide, a step on 12 x 64 tokens{', attention of the peer fused' if fused else ''}",
            gpt_steps(fused),
            text(12),
            command="kakehashi bench autograd --only gpt",
            peer_name=f"kakehashi.models.gpt2, {'fused' if fused else 'not fused'}",
            goal="ratio <= 3",
        )


def cnn() -> Iterator[Row]:
    for scale in (1, 4):
        size = 8 * scale
        yield from race(
            f"CNN, 16 and 32 filters, a step on 64 images of {size} x {size}",
            cnn_steps(size),
            digits(64, scale),
            command="kakehashi bench autograd --only cnn",
            peer_name="torch.nn.Conv2d",
            goal="ratio <= 4",
        )


def lstm() -> Iterator[Row]:
    yield from race(
        "LSTM, 256 units, a step on 64 names",
        lstm_steps(),
        words(64),
        command="kakehashi bench autograd --only lstm",
        peer_name="torch.nn.LSTM",
    )


# --- Single numbers: the MLP 2-16-16-1 of micrograd's demo, on two moons, with its hinge loss, decay and all points ---

LR, DECAY = 0.01, 1e-4
WIDTHS = (2, 16, 16, 1)


def moons() -> tuple[Arrays, list[np.ndarray]]:
    """100 points (100, 2), their classes (100, 1), 1 or -1; and each layer's weight (n_out, n_in) and bias (n_out)."""
    rng = np.random.default_rng(0)
    x, y = make_moons(100, noise=0.1, random_state=0)
    weights = []
    for n_in, n_out in pairwise(WIDTHS):
        weights += [rng.uniform(-1, 1, (n_out, n_in)), np.zeros(n_out)]
    return (x, 2.0 * y[:, None] - 1), weights


def tensor_steps(weights: list[np.ndarray]) -> Step:
    ps = [Tensor(each.copy(), requires_grad=True) for each in weights]

    def loss_of(x: np.ndarray, y: np.ndarray) -> Tensor:
        h = Tensor(x)
        for i in range(0, len(ps), 2):
            h = F.linear(h if i == 0 else h.relu(), ps[i], ps[i + 1])  # (100, n_out)
        decay = sum((p * p).sum() for p in ps)
        return (1 - h * y).relu().mean() + decay * DECAY

    return training_step(loss_of, optim.SGD(ps, LR))


def scalar_steps(Value: Any, weights: list[np.ndarray]) -> Step:
    """The same on an engine of single numbers: kakehashi's Value, or micrograd's."""
    layers = [
        ([[Value(w) for w in row] for row in weight.tolist()], [Value(b) for b in bias.tolist()])
        for weight, bias in zip(weights[::2], weights[1::2], strict=True)
    ]
    ps = [p for matrix, bias in layers for row in [*matrix, bias] for p in row]

    def score(x: list[Any]) -> Any:
        for i, (matrix, bias) in enumerate(layers):
            x = x if i == 0 else [each.relu() for each in x]
            x = [
                sum((w * each for w, each in zip(row, x, strict=True)), b) for row, b in zip(matrix, bias, strict=True)
            ]
        return x[0]

    def step(x: np.ndarray, y: np.ndarray) -> Any:
        losses = [
            (score(point) * -wanted + 1.0).relu() for point, (wanted,) in zip(x.tolist(), y.tolist(), strict=True)
        ]
        loss = sum(losses) * (1 / len(losses)) + sum(p * p for p in ps) * DECAY
        loss.backward()
        for p in ps:
            p.data -= LR * p.grad
            p.grad = 0.0
        return loss

    return step


ENGINES = {"kakehashi.autograd.Value": Value, "micrograd": micrograd.engine.Value}


def scalars() -> Iterator[Row]:
    batch, weights = moons()

    def speed(step: Step) -> Callable[[], float]:
        return lambda: 1000 / pace(partial(step, *batch))

    for name, engine in ENGINES.items():
        yield measure(
            f"MLP 2-16-16-1 on 100 moons, tensors beside {name}",
            "steps/s",
            speed(tensor_steps(weights)),
            speed(scalar_steps(engine, weights)),
            repeats=TURNS,
            command="kakehashi bench autograd --only scalars",
            peer_name=name,
            goal="ratio >= 200",
        )
    ours, peer = (speed(scalar_steps(engine, weights)) for engine in ENGINES.values())
    yield measure(
        "the same graph of single numbers",
        "steps/s",
        ours,
        peer,
        repeats=TURNS,
        command="kakehashi bench autograd --only scalars",
        peer_name="micrograd",
    )


# --- Memory ---


def memory() -> Iterator[Row]:
    """No rows where the system does not count."""
    if not counted():
        return
    for fused in (False, True):
        yield measure(
            f"memory of a step of that GPT{', attention of the peer fused' if fused else ''}",
            "MiB",
            partial(fresh, peak_of_a_step, 0, fused),
            partial(fresh, peak_of_a_step, 1, fused),
            repeats=3,
            command="kakehashi bench autograd --only memory",
            peer_name=f"kakehashi.models.gpt2, {'fused' if fused else 'not fused'}",
            goal="ratio <= 1.5",
        )
    yield measure(
        f"memory after {STEPS} steps without the collector, change",
        "%",
        partial(fresh, change_without_collector),
        repeats=3,
        command="kakehashi bench autograd --only memory",
        goal="ours <= 2",
        why="no peer: in either direction, since the tenth step",
    )


def peak_of_a_step(side: int, fused: bool) -> float:
    """MiB by which a step of ours (0) or of the peer (1) rises above what a step on one token has left."""
    step = gpt_steps(fused)[side]
    step(*text(1, 1))  # now there is what the optimizer keeps, and what is made once
    return rise(partial(step, *text(12)))


def change_without_collector() -> float:
    step, _ = gpt_steps()
    return change(partial(step, *text(12)))


def change(step: Callable[[], Any]) -> float:
    """By how many percent the memory of this process differs after STEPS steps, with no search for cycles."""
    gc.disable()
    try:
        for _ in range(10):
            step()
        before = held("VmRSS")
        for _ in range(STEPS):
            step()
        return 100 * abs(held("VmRSS") / before - 1)
    finally:
        gc.enable()


PLAIN = {"mlp": mlp, "gpt": gpt, "cnn": cnn, "lstm": lstm, "scalars": scalars, "memory": memory}
FULL = {}
