"""The mistakes a person can make with a predictor."""

from kakehashi import Mistake


class PredictorError(Mistake):
    """A run that cannot become a predictor, a setting of no use: one line with the value seen and what to do."""
