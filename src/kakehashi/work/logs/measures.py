"""How good alarms are on sessions of which it is known whether they were abnormal.

A test set rarely has the share of abnormal sessions that the real log has, and precision, F1 and MCC depend on it: all
can be re-weighted to a given `share`, by weights that are equal within the normal and within the abnormal sessions.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from kakehashi.work.logs.errors import LogError

RESAMPLES = 2000


@dataclass(frozen=True)
class Figures:
    """0 where there is nothing to divide by, as in scikit-learn."""

    precision: float  # of the alarms, those that are right
    recall: float  # of the abnormal sessions, those that alarm
    f1: float  # the harmonic mean of the two
    mcc: float  # Matthews correlation of alarms and labels: 1 all right, 0 as by chance, -1 all wrong
    specificity: float  # of the normal sessions, those that do not alarm
    per_1000: float | None = None  # false alarms (sessions) per 1,000 lines of the log; None: not known how many lines


def figures(
    alarms: np.ndarray, labels: np.ndarray, *, lines: np.ndarray | None = None, share: float | None = None
) -> Figures:
    """The Figures of alarms (N,), where labels (N,) say which sessions are abnormal.

    lines: (N,) lines of each session. share: of abnormal sessions, to which all is re-weighted; None: as they are.
    Raises LogError: the two differ in length; a share that cannot be had.
    """
    cells = _cells(alarms, labels)
    weights = _weights(cells, share)
    found = {name: float(value) for name, value in _ratios(cells * weights).items()}
    if lines is not None:
        of_session = np.where(np.asarray(labels, dtype=bool), weights[0], weights[2])
        found["per_1000"] = float(_ratio(1000 * (cells * weights)[2], of_session @ np.asarray(lines)))
    return Figures(**found)


def interval(
    alarms: np.ndarray,
    labels: np.ndarray,
    *,
    of: str = "f1",
    share: float | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval over sessions of one of the Figures: (low, high).

    A resample draws N sessions with replacement. Only how many of each of the four outcomes it drew counts, and that
    is multinomial, so no session is touched.
    """
    cells = _cells(alarms, labels)
    if not cells.sum():
        raise LogError("no sessions to draw from: an interval needs some")
    drawn = np.random.default_rng(seed).multinomial(int(cells.sum()), cells / cells.sum(), size=resamples).T
    found = _ratios(drawn * _weights(drawn, share))[of]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def distinct(sessions: Sequence[Hashable], labels: np.ndarray) -> np.ndarray:
    """(M,) indices of sessions so that each pair of a sequence and its label is there once: the first of its kind."""
    first = {}
    for i, kind in enumerate(zip(sessions, np.asarray(labels, dtype=bool).tolist(), strict=True)):
        first.setdefault(kind, i)
    return np.fromiter(first.values(), np.int64)


def _cells(alarms: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(4,) how many: right alarms, missed ones, false ones, rightly silent."""
    alarms, labels = np.asarray(alarms, dtype=bool), np.asarray(labels, dtype=bool)
    if alarms.shape != labels.shape:
        raise LogError(f"alarms are of {len(alarms):,} sessions, labels of {len(labels):,}: give one of each a session")
    return np.array(
        [np.sum(labels & alarms), np.sum(labels & ~alarms), np.sum(~labels & alarms), np.sum(~(labels | alarms))]
    )


def _weights(cells: np.ndarray, share: float | None) -> np.ndarray:
    """What one session of each cell counts, in the shape of the cells (4, ...)."""
    if share is None:
        return np.ones(cells.shape)
    if not 0 <= share <= 1:
        raise LogError(f"the share of abnormal sessions must be between 0 and 1, got {share:g}")
    abnormal, normal = cells[:2].sum(axis=0), cells[2:].sum(axis=0)
    return np.stack(2 * [_ratio(share, abnormal)] + 2 * [_ratio(1 - share, normal)])


def _ratios(cells: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of cells (4, ...), each (...)."""
    hit, missed, false, silent = cells.astype(np.float64)
    product = (hit + false) * (hit + missed) * (silent + false) * (silent + missed)
    return {
        "precision": _ratio(hit, hit + false),
        "recall": _ratio(hit, hit + missed),
        "f1": _ratio(2 * hit, 2 * hit + false + missed),
        "mcc": _ratio(hit * silent - false * missed, np.sqrt(product)),
        "specificity": _ratio(silent, silent + false),
    }


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=np.float64), whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
