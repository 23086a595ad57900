"""The mistakes a person can make with logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from kakehashi import Mistake

T = TypeVar("T")


class LogError(Mistake):
    """A log that cannot be read, a rule or a setting of no use: one line with the value seen and what to do."""


@contextmanager
def damage_said(path: Path) -> Iterator[None]:
    """What Python raises at a file that is not what was written becomes one LogError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise LogError(f"{path} is damaged, or of an older kakehashi ({what}): fit again") from None


def of_kind(value: Any, *kinds: type) -> Any:
    """The value. Raises TypeError where it is of none of the kinds, as in a file that was damaged."""
    if not isinstance(value, kinds) or isinstance(value, bool) and bool not in kinds:
        raise TypeError(f"{value!r} instead of {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def of_saved(cls: type[T], saved: Any) -> T:
    """The dataclass whose `asdict` was saved. Raises KeyError, TypeError: a field is missing, or of another kind."""
    kinds = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(cls).items()}
    # JSON writes what is a whole number as one
    return cls(**{name: of_kind(saved[name], *each, *([int] * (float in each))) for name, each in kinds.items()})


class TooFew(LogError):
    """Too few sessions to learn from."""
