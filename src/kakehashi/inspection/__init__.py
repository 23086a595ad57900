"""Look inside any nn.Module: what does it compute, and why do two models part?

    with Probe(model, "h.*.attn", grads=True) as probe: ...     # tensors, gradients, attention, by name
    diff(mine, theirs, (tokens,)).parting       # the first tensor that differs, what went into it, its pattern
    patterns.RECOGNISERS                        # causes that are told from numbers alone

probe.py keeps what passes by; attention.py finds weights in what the kernels take; statistics.py tells of what is too
large to keep; which.py reads names. diff.py compares; record.py hooks a pass; align.py finds what corresponds;
parting.py looks at the first difference; patterns/ knows causes; sides.py turns a person's words into two models and
one input.
"""

from kakehashi.inspection.diff import Diff, diff
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
