"""The mistakes a person can make with logs."""

from typing import Any

from kakehashi import Mistake


class LogError(Mistake):
    """A log that cannot be read, a rule or a setting of no use: one line with the value seen and what to do."""


def of_kind(value: Any, *kinds: type) -> Any:
    """The value. Raises TypeError where it is of none of the kinds, as in a file that was damaged."""
    if not isinstance(value, kinds) or isinstance(value, bool) and bool not in kinds:
        raise TypeError(f"{value!r} instead of {' or '.join(kind.__name__ for kind in kinds)}")
    return value


class TooFew(LogError):
    """Too few sessions to learn from."""
