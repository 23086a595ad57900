"""Look inside any nn.Module: what does it compute, and why do two models part?

    with Probe(model, "h.*.attn", grads=True) as probe: ...     # tensors, gradients, attention, by name
    training.train(config, run, [Health()])     # gradients, updates and dead units by layer, into the run's metrics
    diff(mine, theirs, (tokens,)).parting       # the first tensor that differs, what went into it, its pattern
    patterns.RECOGNISERS                        # causes that are told from numbers alone

probe.py keeps what passes by; attention.py finds weights in what the kernels take; statistics.py tells of what is too
large to keep; which.py reads names. diff.py compares; record.py hooks a pass; align.py finds what corresponds;
parting.py looks at the first difference; patterns/ knows causes; sides.py turns a person's words into two models and
one input. units.py finds units that are dead or saturated; health.py measures a model while it learns, and
run_page.py draws what it found.
"""

from kakehashi.inspection.diff import Diff, diff
from kakehashi.inspection.health import Health
from kakehashi.inspection.parting import Parting, Place
from kakehashi.inspection.patterns import RECOGNISERS, Pattern, Seen, recognise
from kakehashi.inspection.probe import Probe
from kakehashi.inspection.record import DiffError
from kakehashi.inspection.sides import compare
from kakehashi.inspection.statistics import Statistics
from kakehashi.inspection.which import ProbeError

__all__ = [
    "RECOGNISERS",
    "Diff",
    "DiffError",
    "Health",
    "Parting",
    "Pattern",
    "Place",
    "Probe",
    "ProbeError",
    "Seen",
    "Statistics",
    "compare",
    "diff",
    "recognise",
]
