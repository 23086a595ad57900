"""bench parity: our models beside transformers' and torch's own: as fast, as small in memory, and the same numbers.

Ours are fused, as `train` makes them, and begin with the same weights as the peer. A step of training is TorchEngine's
for both: forward, loss, backward, clipping, AdamW, zero_grad, on the same batches of random tokens or pixels. Of
transformers' two implementations of attention the faster one runs.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peer_models
from benchmarks.memory import counted, fresh, rise
from benchmarks.peer_models import Peer
from benchmarks.rows import Row, measure, summary
from kakehashi import models, training
from kakehashi.training import TorchEngine, TrainSettings

TURNS, TRIES = 9, 2  # steps of each side; and before, of each attention, to find the faster
VOCAB_SIZE = 8000
SIZE: dict[str, Any] = {"block_size": 256, "n_layers": 6, "n_heads": 6, "n_embd": 384}
SIZES = {"gpt2": SIZE, "llama": SIZE | {"n_kv_heads": 2, "n_hidden": 1024}}
BATCH = 8  # windows of block_size tokens
IMAGES = (8, 3, 128, 128)  # images, channels, height, width
PAIRS = (32, 32)  # pairs of texts, tokens in each
NAMES = {
    "gpt2": "GPT-2, 6 layers 384 wide",
    "llama": "Llama, 6 layers 384 wide",
    "resnet": "ResNet-18",
    "transformer": "Transformer, 3 layers 256 wide",
}

Batch = tuple[Tensor, ...]


# --- Who steps, on what ---


def config(name: str) -> Any:
    """Of our model, fused."""
    family = models.find(name)
    if name in SIZES:
        return family.Config(VOCAB_SIZE, **SIZES[name], fused=True)
    if name == "resnet":
        return replace(family.presets["resnet18"], fused=True)
    plain = {"dropout": 0.0, "label_smoothing": 0.0}
    return replace(family.presets["transformer-small"], vocab_size=VOCAB_SIZE, fused=True, **plain)


def ours(name: str) -> nn.Module:
    """Our model, in training mode."""
    return TorchEngine().build(models.find(name), config(name), seed=0)


def batch(name: str) -> Batch:
    """What both read, drawn at random: what stands there costs no time."""
    generator = torch.Generator().manual_seed(0)
    if name == "resnet":
        return torch.randn(IMAGES, generator=generator), torch.randint(1000, IMAGES[:1], generator=generator)
    n, shape = (3, PAIRS) if name == "transformer" else (2, (BATCH, SIZES[name]["block_size"]))
    return tuple(torch.randint(VOCAB_SIZE, shape, generator=generator) for _ in range(n))


def theirs(name: str, model: nn.Module, attention: str = "sdpa") -> Peer:
    """The peer of one of our models, with its weights; images as ours takes them, channels side by side."""
    peer = peer_models.lm(model, attention) if name in SIZES else getattr(peer_models, name)(model)
    peer_models.take(peer, model)
    if name == "resnet":
        peer.module.to(memory_format=torch.channels_last)
    return peer


def training_step(engine: TorchEngine, module: nn.Module, read: Callable[..., Any]) -> Callable[..., None]:
    """read: a batch -> what has a loss."""
    settings = TrainSettings()
    optimizer = engine.optimizer(module, settings)

    def step(*batch: Tensor) -> None:
        with engine.autocast():
            loss = read(*batch).loss
        engine.backward(loss)
        engine.unscale(optimizer)
        engine.clip_grad_norm_(optimizer, settings.clip)
        engine.step(optimizer)
        optimizer.zero_grad()

    return step


# --- Races ---


def race(name: str, on: str, unit: str, n: int, dtype: str = "float32", **words: str) -> Row:
    """on: a batch in words, of which `n` things are learnt from in a step. words: as `measure` takes them."""
    engine, model, given = TorchEngine(dtype=dtype), ours(name), batch(name)
    mine = training_step(engine, model, model)
    peers = {}
    for attention in ("sdpa", "eager") if name in SIZES else ("",):
        peer = theirs(name, model, attention)
        peers[attention] = training_step(engine, peer.module, peer.read)
    for step in (mine, *peers.values()):
        seconds(step, given)  # the first one warms up
    fastest = min(peers, key=lambda attention: min(seconds(peers[attention], given) for _ in range(TRIES)))
    other = peers[fastest]
    if fastest:
        words["peer_name"] += f", {fastest} attention"
    return measure(
        f"training {NAMES[name]}, on {on}, {dtype}",
        unit,
        lambda: n / seconds(mine, given),
        lambda: n / seconds(other, given),
        repeats=TURNS,
        command=f"kakehashi bench parity --only {name}",
        **words,
    )


def seconds(step: Callable[..., None], given: Batch) -> float:
    began = time.perf_counter()
    step(*given)
    return time.perf_counter() - began


def lm(name: str) -> Iterator[Row]:
    T = SIZES[name]["block_size"]
    for dtype in ("float32", "bfloat16"):
        on = f"{BATCH} x {T} tokens"
        yield race(name, on, "tokens/s", BATCH * T, dtype, peer_name="transformers", goal="ratio >= 0.97")


def resnet() -> Iterator[Row]:
    n, _, height, width = IMAGES
    yield race("resnet", f"{n} images of {height} x {width}", "images/s", n, peer_name="transformers")


def transformer() -> Iterator[Row]:
    n, T = PAIRS
    yield race("transformer", f"{n} pairs of {T} tokens", "tokens/s", n * T, peer_name="torch.nn.Transformer")


# --- Memory ---


def memory() -> Iterator[Row]:
    """No rows where the system does not count."""
    for name in SIZES if counted() else ():
        yield measure(
            f"memory of the first such step of {NAMES[name]}, float32",
            "MiB",
            partial(fresh, peak_of_a_step, name, False),
            partial(fresh, peak_of_a_step, name, True),
            repeats=5,
            command="kakehashi bench parity --only memory",
            peer_name="transformers, sdpa attention",
            goal="ratio <= 1",
        )


def peak_of_a_step(name: str, peers: bool) -> float:
    """MiB by which the first step of ours, or of the peer's, rises above what was held before it."""
    if peers:
        with torch.device("meta"):  # its names alone: memory that is freed again would be there for the step
            model = models.find(name).Model(config(name))
        module, read, _ = peer_models.lm(model)
    else:
        module = read = ours(name)
    step, given = training_step(TorchEngine(), module, read), batch(name)
    return rise(partial(step, *given))


# --- The same numbers ---


def numbers() -> Iterator[Row]:
    for name in NAMES:
        model, given = ours(name), batch(name)
        peer = theirs(name, model)
        other = "torch.nn.Transformer" if name == "transformer" else "transformers"
        for what, most in differences(model, peer, given).items():
            yield summary(
                f"{NAMES[name]}, {what}: largest difference from {other}",
                "",
                [(most, None)],
                command="kakehashi bench parity --only numbers",
                goal="ours <= 1e-4",
                why="no peer: both are in the difference",
            )


def differences(model: nn.Module, peer: Peer, given: Batch) -> dict[str, float]:
    """The largest absolute difference of logits, loss and gradients."""
    mine, other = model(*given), peer.read(*given)
    mine.loss.backward()
    other.loss.backward()
    gradients = {name: parameter.grad for name, parameter in peer.module.named_parameters()}
    return {
        "logits": apart(mine.logits, other.logits),
        "loss": apart(mine.loss, other.loss),
        "gradients": max(
            apart(parameter.grad, peer_models.part(gradients, peer.names[name]))
            for name, parameter in model.named_parameters()
        ),
    }


def apart(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


# --- Muon beside AdamW ---

STEPS = 400
RATES = {"muon": (0.01, 0.02, 0.05), "adamw": (3e-4, 1e-3, 3e-3)}


def muon() -> Iterator[Row]:
    said = {optimizer: ", ".join(f"{lr:g}" for lr in rates) for optimizer, rates in RATES.items()}
    yield measure(
        f"gpt2-nano on identifiers, Muon, {STEPS} steps: validation loss at the best of {len(RATES['muon'])} rates",
        "nats",
        lambda: min(learnt("muon", lr) for lr in RATES["muon"]),
        lambda: min(learnt("adamw", lr) for lr in RATES["adamw"]),
        repeats=1,
        command=f"kakehashi train --preset gpt2-nano --steps {STEPS} --batch-size 12 --seed 1 --optimizer muon --lr N",
        peer_name="AdamW",
        why=f"Rates of Muon {said['muon']}; of AdamW {said['adamw']}",
    )


def learnt(optimizer: str, lr: float) -> float:
    """The lowest validation loss of a run."""
    plan = training.plan("gpt2", preset="gpt2-nano", steps=STEPS, batch_size=12, optimizer=optimizer, lr=lr, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        run = training.train(plan.config, plan.create(folder), sources=plan.sources)
        return run.summary()["val_loss"]


PLAIN = {
    **{name: partial(lm, name) for name in SIZES},
    "memory": memory,
    "resnet": resnet,
    "transformer": transformer,
    "numbers": numbers,
}
FULL = {"muon": muon}
