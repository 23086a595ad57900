"""`python -m benchmarks.twins OUT.png [--steps N]`: a deeper plain net trains worse, and shortcuts reverse it.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2, with Fashion-MNIST at 14 x 14: each
net with and without shortcuts reads the same batches with the same settings. Drawn is the TRAINING error, in eval mode,
on a fixed part of the images that are trained on: what is shown is a matter of optimisation, not of overfitting.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kakehashi import Mistake, paths, report, training
from kakehashi.data.images import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETS = ("plain20", "plain56", "resnet20", "resnet56")
DATA, SIZE, SEED = "fashion-mnist", 14, 1337
STEPS, BATCH_SIZE, LR = 4500, 64, 1e-3
PART = 5000  # images that the error is measured on
MOMENTS = 25  # measurements of a run


class Curve(NamedTuple):
    """errors: (steps taken, share of the fixed part that is classified wrongly)."""

    errors: tuple[tuple[int, float], ...]
    seconds: float


def learnt(net: str, steps: int, root: Path) -> Curve:
    """One net's training error while it learns; the run is written below root."""
    every = max(1, steps // MOMENTS)
    plan = training.plan(
        net,
        DATA,
        seed=SEED,
        size=SIZE,
        shift=0,
        flip=False,
        steps=steps,
        batch_size=BATCH_SIZE,
        lr=LR,
        eval_every=every,
        checkpoint_every=steps,
    )
    run = plan.create(root, net)
    part = Shown(plan.split.train.take(np.arange(PART)), plan.codec)
    began = time.perf_counter()
    # the loop evaluates on the second source: here images of the first
    training.train(plan.config, run, sources=(plan.sources[0], part))
    seconds = time.perf_counter() - began
    rows = [row for row in run.metrics() if row["split"] == "val"]
    return Curve(tuple((row["step"], round(1 - row["right"], 6)) for row in rows), seconds)


def draw(curves: Mapping[str, Curve]) -> "Figure":
    """The curves, each named where it ends: a colour for plain, one for residual; the deeper is thicker."""
    with report.figure(6.4, 3.8) as (figure, axes):
        ends = []
        for net, curve in curves.items():
            steps, errors = zip(*curve.errors[1:], strict=True)  # before the first step all are at chance
            colour = report.PALETTE[net.startswith("plain")]
            width = 2.6 if net.endswith("56") else 1.3
            axes.plot(steps, [100 * error for error in errors], color=colour, linewidth=width, linestyle="-")
            ends.append((100 * errors[-1], net, colour))
        axes.set_yscale("log")
        ticks = [1, 2, 5, 10, 20, 50]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_yticks([], minor=True)
        least = min(error for curve in curves.values() for _, error in curve.errors)
        low, high = max(0.1, 80 * least), 100.0  # a logarithm has no place for 0
        axes.set_ylim(low, high)
        place = low
        for error, net, colour in sorted(ends):
            place = max(error, place * (high / low) ** 0.055)  # a line of text higher than the one below
            name = f"{net[:-2]}-{net[-2:]}  {error:.1f}%"
            axes.annotate(name, (steps[-1], place), (6, 0), textcoords="offset points", color=colour, va="center")
        axes.set_title(f"Training error, {DATA} at {SIZE} x {SIZE}")
        axes.set_xlabel(f"steps of {BATCH_SIZE} images")
        axes.set_ylabel("wrong, %")
        axes.set_xmargin(0)
    return figure


def measured(steps: int) -> dict[str, Curve]:
    """The curves of all four nets, one after the other; progress goes to stderr."""
    curves = {}
    with tempfile.TemporaryDirectory() as root:
        for net in NETS:
            curves[net] = curve = learnt(net, steps, Path(root))
            print(f"{net}: {100 * curve.errors[-1][1]:.2f}% wrong, {curve.seconds:.0f} s", file=sys.stderr, flush=True)
    return curves


def numbers(curves: Mapping[str, Curve], steps: int) -> dict[str, Any]:
    """What was measured, and how, for one line of JSON."""
    how = {"data": DATA, "size": SIZE, "steps": steps, "batch_size": BATCH_SIZE, "lr": LR, "seed": SEED, "images": PART}
    return how | {"nets": {net: curve._asdict() for net, curve in curves.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.twins", description="Training error of plain and residual nets.")
    parser.add_argument("out", help="the picture, a PNG")
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    try:
        curves = measured(given.steps)
        print(json.dumps(numbers(curves, given.steps)), flush=True)
        picture = io.BytesIO()
        draw(curves).savefig(picture, dpi=200)
        paths.atomic_write(given.out, picture.getvalue())
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return mistake.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
