"""What makes a trained classifier of texts fit for work: a baseline beside it, scores that mean what they say, a
threshold below which it abstains, and a folder to use it from that needs NumPy alone.
"""

from kakehashi.work.predictor.baseline import Baseline
from kakehashi.work.predictor.certainty import Threshold
from kakehashi.work.predictor.errors import PredictorError
from kakehashi.work.predictor.exporting import export
from kakehashi.work.predictor.judging import Judged, Outside, Report, report
from kakehashi.work.predictor.reviewing import Review, review

__all__ = [
    "Baseline",
    "Judged",
    "Outside",
    "PredictorError",
    "Report",
    "Review",
    "Threshold",
    "export",
    "report",
    "review",
]
