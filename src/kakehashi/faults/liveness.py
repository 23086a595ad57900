"""The liveness probe: a healthy and a faulty twin on the same rich inputs, compared bit by bit.

Rich, because a fault that the probe cannot feel would count as dead: weights of visible size with random gains and
biases and some rows near 0 (where an epsilon matters), one token and a full block, a batch of one, slices, targets with
gaps and with nothing to count, padding on the left, tokens read in chunks, training and evaluation, fresh weights.
"""

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kakehashi import source
from kakehashi.faults import KINDS, Fault, Liveness
from kakehashi.models.protocol import IGNORE

VOCABULARY, LENGTH = 11, 6  # every probe's tokens; a Config in a faults file holds as many
CLASSES = 5  # of every probe of a classifier

Seen = dict[tuple[str, ...], Tensor]  # (kind, where it was seen ...) -> value


def compare(fault: Fault, healthy: str, faulty: str) -> Liveness:
    """What differs between two source texts of a fault's module. What the healthy one cannot run tells nothing."""
    want, failed = observe(fault.path, healthy)
    have, crashed = observe(fault.path, faulty)
    changed = {key[0] for key in want.keys() & have.keys() if not identical(want[key], have[key])}
    crashes = [error for case, error in crashed.items() if case not in failed]
    return Liveness(tuple(kind for kind in KINDS if kind in changed), crashes[0] if crashes else None)


def identical(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit; a NaN equals a NaN and nothing else."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a.isnan() & b.isnan())).all())


@lru_cache(maxsize=16)
def observe(path: Path, text: str) -> tuple[Seen, dict[str, str]]:
    """What a source text, put in the place of a reference's file, shows on every probe; and which probes crashed."""
    probes = import_module(f"kakehashi.faults.{path.stem}").probes
    module = source.load(path, compile(text, str(path), "exec"))
    seen: Seen = {}
    crashed: dict[str, str] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        for case, run in probes(module):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                try:
                    for (kind, *where), value in run():
                        seen[kind, case, *where] = torch.as_tensor(value).detach().clone()
                except Exception as error:
                    crashed[case] = f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        torch.set_num_threads(threads)
    return seen, crashed


# a name, and what yields the observations: ((kind, where it was seen ...), a tensor, an array or a number)
Probe = tuple[str, Callable[[], Iterator[tuple[tuple[str, ...], Any]]]]


def language_model(module: ModuleType, name: str, config: dict) -> Iterator[Probe]:
    """The probes of a language model's file under one configuration."""
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCABULARY, (3, LENGTH + 1), generator=rng)
    before, after = tokens[:, :-1], tokens[:, 1:]  # slices, as the loaders cut them
    gaps = after.masked_fill(torch.rand(after.shape, generator=rng) < 0.3, IGNORE)
    pad = torch.arange(LENGTH) >= torch.tensor([[0], [1], [3]])  # (3, LENGTH), True = real
    batches = {
        "whole": ((before, after), {}),
        "gaps": ((before, gaps), {}),
        "nothing": ((before, torch.full_like(after, IGNORE)), {}),
        "one": ((before[:1, :1], after[:1, :1]), {}),
        "padded": ((before, after.masked_fill(~pad, IGNORE)), {"pad": pad}),
    }

    def make() -> Any:
        return module.Model(module.Config(vocab_size=VOCABULARY, **config))

    def chunks(sizes: tuple[int, ...], mask: Tensor | None):
        model = enrich(make()).eval()
        state, at = model.new_state(len(before)), 0
        for size in sizes:
            given = before[:, at : at + size]
            at += size
            logits, _ = model(given, state=state, pad=None if mask is None else mask[:, :at])
            yield ("state", f"to {at}"), logits

    yield from passes(name, make, batches)
    yield f"{name} chunks", lambda: chunks((1, 3, 1, 1), None)
    yield f"{name} padded chunks", lambda: chunks((4, 1, 1), pad)


def sequence_to_sequence(module: ModuleType, name: str, config: dict) -> Iterator[Probe]:
    """The probes of an encoder-decoder's file under one configuration: source and target of other lengths."""
    rng = torch.Generator().manual_seed(0)
    source = torch.randint(VOCABULARY, (3, LENGTH), generator=rng)
    tokens = torch.randint(VOCABULARY, (3, LENGTH), generator=rng)
    before, after = tokens[:, :-1], tokens[:, 1:]  # (3, LENGTH - 1)
    gaps = after.masked_fill(torch.rand(after.shape, generator=rng) < 0.3, IGNORE)
    real = torch.arange(LENGTH) < torch.tensor([[LENGTH], [4], [1]])  # (3, LENGTH)
    batches = {
        "whole": ((source, before, after), {}),
        "gaps": ((source, before, gaps), {}),
        "nothing": ((source, before, torch.full_like(after, IGNORE)), {}),
        "one": ((source[:1, :1], before[:1, :1], after[:1, :1]), {}),
        "padded": ((source, before, gaps), {"source_pad": real}),
    }

    def make() -> Any:
        return module.Model(module.Config(vocab_size=VOCABULARY, **config))

    def chunks(sizes: tuple[int, ...], mask: Tensor | None):
        model = enrich(make()).eval()
        state, at, rows = model.new_state(source, mask), 0, torch.tensor([0, 1, 2])
        for size in sizes:
            logits, _ = model(None, before[rows, at : at + size], state=state)
            at += size
            yield ("state", f"to {at}"), logits
            state.select(order := torch.tensor([2, 0, 0]))  # as a beam search does
            rows = rows[order]

    yield from passes(name, make, batches)
    yield f"{name} chunks", lambda: chunks((1, 3, 1), None)
    yield f"{name} padded chunks", lambda: chunks((2, 1, 1), real)


def classifier(module: ModuleType, name: str, config: dict) -> Iterator[Probe]:
    """The probes of an image classifier's file under one configuration: images of odd sizes in two channels."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 9, 7, generator=rng)
    targets = torch.randint(CLASSES, (4,), generator=rng)
    batches = {
        "whole": ((x, targets), {}),
        "gaps": ((x, targets.masked_fill(torch.tensor([False, True, False, True]), IGNORE)), {}),
        "nothing": ((x, torch.full_like(targets, IGNORE)), {}),
        "one": ((x[:1], targets[:1]), {}),
    }

    def make() -> Any:
        return module.Model(module.Config(n_classes=CLASSES, n_channels=2, **config))

    yield from passes(name, make, batches)


def passes(name: str, make: Callable[[], Any], batches: dict[str, tuple[tuple, dict[str, Any]]]) -> Iterator[Probe]:
    """A fresh model; and an enriched one on each batch, its inputs and options, in training and in evaluation."""
    yield f"{name} fresh", lambda: fresh(make())
    for training in (True, False):
        for batch, (inputs, options) in batches.items():
            label = f"{name} {'training' if training else 'evaluation'} {batch}"
            yield label, lambda t=training, i=inputs, o=options: step(enrich(make()).train(t), *i, **o)


def fresh(model: Any):
    """The first values of everything that is learnt or remembered."""
    for each, value in model.state_dict().items():
        yield ("init", each), value


def step(model: Any, *inputs: Tensor, **options: Any):
    """One pass forward and back."""
    torch.manual_seed(0)  # dropout does not depend on what the weights took
    logits, loss = model(*inputs, **options)
    yield ("logits",), logits
    yield ("loss",), loss
    loss.backward()
    for each, parameter in model.named_parameters():
        yield ("grad", each), torch.tensor(torch.nan) if parameter.grad is None else parameter.grad
    for each, buffer in model.named_buffers():
        yield ("buffers", each), buffer


def enrich(model: Any) -> Any:
    """Give every parameter and buffer a random value of visible size that depends on its name and shape alone.

    Matrices keep the scale of what passes through, but every fourth row is near 0; gains lie around 1, variances are
    positive.
    """
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
            if value.ndim > 1:
                noise[3::4] *= 1e-3
                value.copy_(1.5 * noise / value.shape[-1] ** 0.5)
            elif name.endswith("var"):
                value.copy_(0.1 + noise.square())
            else:
                value.copy_(0.5 * noise + name.endswith("weight"))
    return model


def counted_table(module: ModuleType) -> Iterator[Probe]:
    """The probe of a bigram file's `count`: what a model with the counted table predicts."""
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCABULARY, (3, LENGTH + 1), generator=rng)
    gaps = tokens.masked_fill(torch.rand(tokens.shape, generator=rng) < 0.3, IGNORE)

    def counted():
        yield ("logits",), module.count(tokens[:, :-1], gaps[:, 1:], VOCABULARY)[tokens]

    yield "counted", counted
