"""The bridge in one picture: the same GPT learns number by number, on NumPy and in PyTorch; the losses are the same.

    python -m kakehashi.examples.bridge [OUT.png] [STEPS]

All begin with the same weights, read the same texts in the same order, and take the same steps of AdamW in float64.
What is left between them is rounding: they add in different orders.
"""

import io
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from kakehashi import Mistake, autograd, models, paths, report, runs
from kakehashi.autograd.models import MODELS
from kakehashi.examples import algorithm
from kakehashi.models.protocol import IGNORE
from kakehashi.texts import t
from kakehashi.training.optim import AdamW
from kakehashi.training.schedule import warmup_cosine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, BATCH_SIZE, LR, BETAS, EPS, DECAY = 150, 4, 0.01, (0.9, 0.99), 1e-8, 0.01
Documents = Sequence[Sequence[int]]  # token numbers, each document between two 0


def to_scalars(model: nn.Module, scalars: algorithm.GPT) -> None:
    """Copy a torch GPT's weights by name. ValueError or KeyError where the two differ in size."""
    for name, tensor in model.state_dict().items():
        values = [value for row in scalars.weights[name] for value in row]
        for value, number in zip(values, tensor.flatten().tolist(), strict=True):
            value.data = number


def to_torch(scalars: algorithm.GPT, model: nn.Module) -> None:
    """Copy the numbers' weights by name. RuntimeError where the two differ in size."""
    arrays = {}
    for name, tensor in model.state_dict().items():
        numbers = [value.data for row in scalars.weights[name] for value in row]
        arrays[name] = torch.tensor(numbers, dtype=tensor.dtype).reshape(tensor.shape)
    model.load_state_dict(arrays)


def by_numbers(model: nn.Module, documents: Documents, steps: int) -> list[float]:
    """The loss of each step of algorithm.py, from the weights of `model`, which stays as it is."""
    c: Any = model.config
    scalars = algorithm.GPT(c.vocab_size, c.block_size, c.n_layers, c.n_heads, c.n_embd)
    to_scalars(model, scalars)
    return list(algorithm.train(scalars, documents, steps, BATCH_SIZE, LR, *BETAS, EPS, DECAY))


def by_numpy(model: nn.Module, documents: Documents, steps: int) -> list[float]:
    """The loss of each step on `kakehashi.autograd`, from the weights of `model`, which stays as it is."""
    twin = MODELS["gpt2"](model.config, np.random.default_rng(0)).astype(np.float64)
    twin.load_state_dict(runs.weights_of(model))
    optimizer = autograd.optim.AdamW(twin.parameters(), LR, BETAS, EPS, DECAY)
    return learnt(lambda tokens, targets: twin(tokens.numpy(), targets.numpy()), optimizer, documents, steps)


def by_torch(model: nn.Module, documents: Documents, steps: int) -> list[float]:
    """The loss of each step in PyTorch; `model` learns."""
    return learnt(model, AdamW(model.parameters(), LR, BETAS, EPS, DECAY), documents, steps)


def learnt(model: Callable[..., Any], optimizer: Any, documents: Documents, steps: int) -> list[float]:
    """The loss of each step. The engine and PyTorch share the loop: their methods have the same names."""
    losses = []
    for step in range(steps):
        places = range(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
        loss = model(*padded([documents[place % len(documents)] for place in places])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = warmup_cosine(step, steps=steps, lr=LR)
        optimizer.step()
        losses.append(loss.item())
    return losses


# Each from the same model; PyTorch stands last, as it changes it, and is what the others are compared with.
ENGINES: dict[str, Callable[[nn.Module, Documents, int], list[float]]] = {
    "algorithm.py": by_numbers,
    "NumPy": by_numpy,
    "PyTorch": by_torch,
}


def padded(batch: Documents) -> tuple[torch.Tensor, torch.Tensor]:
    """Documents -> tokens and targets, each (B, T), T the longest's length less 1; beyond its end none counts."""
    T = max(map(len, batch)) - 1
    tokens = [[*document[:-1], *[0] * (T + 1 - len(document))] for document in batch]
    targets = [[*document[1:], *[IGNORE] * (T + 1 - len(document))] for document in batch]
    return torch.tensor(tokens), torch.tensor(targets)


def curves(steps: int = STEPS) -> dict[str, list[float]]:
    """The losses of each engine, learning the names of the standard library's modules."""
    names = sorted(sys.stdlib_module_names)
    random.Random(0).shuffle(names)
    tokenizer = algorithm.CharTokenizer(names)
    documents = [[0, *tokenizer.encode(name), 0] for name in names]
    gpt2 = models.find("gpt2")
    config = gpt2.Config(len(tokenizer.tokens), max(map(len, documents)) - 1, n_layers=1, n_heads=4, n_embd=16)
    torch.manual_seed(0)
    model = gpt2.Model(config).double()
    return {name: engine(model, documents, steps) for name, engine in ENGINES.items()}


def differences(curves: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """How far each curve but the last lies from the last, step by step."""
    *others, last = curves
    return {name: [abs(a - b) for a, b in zip(curves[name], curves[last], strict=True)] for name in others}


def draw(curves: Mapping[str, Sequence[float]]) -> "Figure":
    """The curves on one another, and under them, on a log axis, how far they lie apart."""
    apart = differences(curves)
    # each is thinner than the one below it, and less pale: all can be seen where they are the same
    widths = {name: 1 + 2.5 * i for i, name in enumerate(reversed(list(curves)))}
    with report.figure(6.4, 4.6, rows=2, sharex=True, height_ratios=(2, 1)) as (figure, (above, below)):
        for name, losses in curves.items():
            above.plot(losses, label=name, linewidth=widths[name], alpha=widths[name] ** -0.5, linestyle="-")
        above.set_title(t("examples.bridge.title"))
        above.set_ylabel(t("examples.bridge.loss"))
        above.legend()
        for name, gaps in apart.items():
            steps = [step for step, gap in enumerate(gaps) if gap > 0]  # 0 has no place on a log axis
            below.plot(steps, [gaps[step] for step in steps], ".", markersize=widths[name])
        below.set_yscale("log")
        below.set_ylim(1e-17, 1)
        below.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
        below.xaxis.get_major_locator().set_params(integer=True)
        below.set_xlabel(t("examples.bridge.step"))
        below.set_ylabel(t("examples.bridge.difference"))
        most = max(max(gaps) for gaps in apart.values())
        below.text(0.99, 0.92, t("examples.bridge.most", most=most), transform=below.transAxes, ha="right", va="top")
    return figure


def main(out: str = "bridge.png", steps: str = str(STEPS), *rest: str) -> None:
    """Draw the picture into the file `out`. Raises Mistake."""
    if rest or not out.endswith(".png") or not steps.isdecimal() or int(steps) < 1:
        raise Mistake(t("examples.bridge.usage", seen=" ".join((out, steps, *rest))))
    picture = io.BytesIO()
    draw(curves(int(steps))).savefig(picture, dpi=200)
    paths.atomic_write(out, picture.getvalue())
    print(out)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        sys.exit(mistake.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
