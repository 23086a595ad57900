"""Look inside any nn.Module: where do two models part, and why?

    diff(mine, theirs, (tokens,)).parting       # the first tensor that differs, what went into it, its pattern
    patterns.RECOGNISERS                        # causes that are told from numbers alone

diff.py compares; record.py hooks a pass; align.py finds what corresponds; parting.py looks at the first difference;
patterns/ knows causes; sides.py turns a person's words into two models and one input.
"""

from kakehashi.inspection.diff import Diff, diff
from kakehashi.inspection.parting import Parting, Place
from kakehashi.inspection.patterns import RECOGNISERS, Pattern, Seen, recognise
from kakehashi.inspection.record import DiffError
from kakehashi.inspection.sides import compare

__all__ = ["RECOGNISERS", "Diff", "DiffError", "Parting", "Pattern", "Place", "Seen", "compare", "diff", "recognise"]
