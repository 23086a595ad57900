"""What goes wrong with data by a person's hand."""

from kakehashi import Mistake


class DataError(Mistake):
    """Data that is missing, unreadable, too small or not what it should be: one line with the value and what to do."""
