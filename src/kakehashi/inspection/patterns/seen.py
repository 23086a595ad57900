"""What a recogniser is asked, and what it answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from kakehashi.inspection.closeness import distance, wide


@dataclass(frozen=True)
class Pattern:
    """A cause by its name, and the values that its sentence needs (texts: cli.diff.pattern.NAME).

    weak: it says where the numbers differ, and not by what.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    weak: bool = False


@dataclass(frozen=True)
class Seen:
    """Where two models part.

    a, b        the tensors that differ
    given       what went in, equal in both, or known to one alone, newest first
    parameters  and buffers of either model by name, for what is looked up there by value
    tables      those names that are embeddings
    order       of the calls that either made there, by common names
    norms       those names whose call was measured to normalise
    tolerance   of numbers that are equal, relative to the largest
    """

    a: Tensor
    b: Tensor
    given: Sequence[Tensor] = ()
    parameters: Sequence[Mapping[str, Tensor]] = ({}, {})
    tables: Sequence[Set[str]] = (frozenset(), frozenset())
    order: Sequence[tuple[str, ...]] = ((), ())
    norms: Set[str] = frozenset()
    tolerance: float = 1e-5

    def equal(self, x: Tensor, y: Tensor) -> bool:
        return distance(x, y) <= self.tolerance

    @cached_property
    def a64(self) -> Tensor:
        return wide(self.a)

    @cached_property
    def b64(self) -> Tensor:
        return wide(self.b)

    @property
    def alike(self) -> bool:
        """Whether both have one shape, of more than one number."""
        return self.a.shape == self.b.shape and self.a.numel() > 1

    def like(self) -> Iterable[Tensor]:
        """What went in and has the shape of a, as it is, and as the rows of another: (B, T, C) as (B T, C)."""
        for x in self.given:
            if x.numel() == self.a.numel() and x.shape[-1:] == self.a.shape[-1:] and x.is_floating_point():
                yield wide(x).reshape(self.a.shape)


Recogniser = Callable[[Seen], Pattern | None]
