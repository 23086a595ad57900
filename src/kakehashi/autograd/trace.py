"""Where does a NaN come from? By the time it is in the loss it is everywhere; here the op that made it speaks up."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kakehashi.autograd.tensor import AutogradError, Node, Tensor, watchers

MACHINERY = {str(path) for path in Path(__file__).parent.glob("*.py") if path.name != "models.py"}


class NotFinite(AutogradError):
    """A NaN or an infinity came out of finite numbers."""


@contextmanager
def trace_nan() -> Iterator[None]:
    """Inside, the first op, or gradient of one, that makes a NaN or an infinity out of finite numbers raises NotFinite.

    What was infinite when it came in, as a mask of -inf, is not complained of. Every op of this thread is looked at:
    use it to search. Not looked at is where gradients of a tensor that was used several times are summed: finite ones
    may overflow there, only close to the largest of floats.
    """
    me = threading.get_ident()

    def watch(what: str, made: Tensor, inputs: Sequence[Tensor], node: Node | None) -> None:
        if threading.get_ident() == me:
            _watch(what, made, inputs, node)

    watchers.append(watch)
    try:
        yield
    finally:
        watchers.remove(watch)


def _watch(what: str, made: Tensor, inputs: Sequence[Tensor], node: Node | None) -> None:
    if node is None and made.node is not None:
        made.node.place = _place()
    if np.isfinite(made.data).all() or not all(np.isfinite(x.data).all() for x in inputs):
        return
    kind = "NaN" if np.isnan(made.data).any() else "inf"
    place = node.place if node and node.place else _place()
    shapes = " and ".join(str(x.shape) for x in inputs)
    raise NotFinite(f"{what} made {kind} of shape {made.shape} out of finite numbers of shape {shapes}, at {place}")


def _place() -> str:
    """The line of the caller's code that is being run."""
    frame = sys._getframe()
    while frame.f_back and frame.f_code.co_filename in MACHINERY:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
