"""The mistakes a person can make with logs."""

from kakehashi import Mistake


class LogError(Mistake):
    """A log that cannot be read, a rule or a setting of no use: one line with the value seen and what to do."""


class TooFew(LogError):
    """Too few sessions to learn from."""
