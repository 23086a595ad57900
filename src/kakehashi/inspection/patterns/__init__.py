"""Why two tensors differ, from their numbers alone: each recogniser knows one cause and is silent about all others.

A recogniser takes Seen and gives a Pattern or None. It names a cause only where the cause explains every number up to
rounding: b follows from a, or both follow from what went in. That the numbers agree is measured; which of the two is
right, and that no other cause gives the same numbers, is not claimed.

    numbers.py   scale  shift  bias  dropout  summand  rounding
    places.py    exchanged  transpose  layout  repeated  permutation  mask  softmax_axis  positions
    fits.py      activation  normalisation  rotation  angles
    calls.py     order  head  batch_statistics
"""

from collections.abc import Iterable

from kakehashi.inspection.patterns import calls, fits, numbers, places
from kakehashi.inspection.patterns.seen import Pattern, Recogniser, Seen

RECOGNISERS: tuple[Recogniser, ...] = (  # the most telling first
    calls.order,
    fits.normalisation,
    fits.activation,
    fits.rotation,
    fits.angles,
    calls.head,
    places.mask,
    places.softmax_axis,
    places.repeated,
    places.exchanged,
    places.transpose,
    places.layout,
    places.permutation,
    calls.batch_statistics,
    numbers.rounding,
    numbers.scale,
    numbers.shift,
    numbers.dropout,
    numbers.summand,
    numbers.bias,
    places.positions,  # says least
)


def recognise(seen: Iterable[Seen]) -> Pattern | None:
    """The most telling pattern that explains one of several sights; None where none does."""
    sights = list(seen)
    return next((found for each in RECOGNISERS for sight in sights if (found := each(sight))), None)


__all__ = ["RECOGNISERS", "Pattern", "Recogniser", "Seen", "recognise"]
