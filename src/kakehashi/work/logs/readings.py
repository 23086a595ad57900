"""Normal sessions as they are read: kept in a few bytes a record until it is known which numbers have bins."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from kakehashi.work.logs.vocabulary import Bins, written

LEARNT = 0.8  # of the sessions, in the order of time; the rest is held out
NUMERIC, DISTINCT = 0.9, 20  # a parameter is a number in this share of its records, and has so many values at least


class Readings:
    """Normal sessions, in the order of time."""

    def __init__(self):
        self.sessions: list[array] = []  # the groups of each; 0: none, as Drain's memory was too small
        self.columns: dict[int, list[array]] = {}  # group -> its parameters, each with a number (or NaN) a record

    def add(self, session: Iterable[tuple[int, tuple[float, ...]]]) -> None:
        """The group and the numbers of each record."""
        ids = array("q")
        for id, found in session:
            ids.append(id)
            columns = self.columns.setdefault(id, [array("d") for _ in found])
            for column, value in zip(columns, found, strict=True):
                column.append(value)
        self.sessions.append(ids)

    def bins(self) -> dict[int, dict[int, Bins]]:
        """Bins of the parameters that are numbers and whose range, in the sessions to learn, holds in the rest."""
        learnt = self.sessions[: int(LEARNT * len(self.sessions))]
        counts = np.bincount(np.concatenate(learnt), minlength=max(self.columns, default=0) + 1)
        found: dict[int, dict[int, Bins]] = {}
        for id, columns in self.columns.items():
            for at, column in enumerate(columns):
                values = np.array(column)
                known = ~np.isnan(values)
                first, rest = values[: counts[id]], values[counts[id] :]
                first, rest = first[~np.isnan(first)], rest[~np.isnan(rest)]
                if known.mean() >= NUMERIC and len(np.unique(first)) >= DISTINCT:
                    each = Bins.of(first)
                    if each.holds(rest):
                        found.setdefault(id, {})[at] = each
        return found

    def texts(self, bins: Mapping[int, Mapping[int, Bins]]) -> Iterator[str]:
        """The sessions, written."""
        rows = Counter()  # of each group, how many records were written
        for ids in self.sessions:
            words: list[str] = []
            for id in ids:
                row = tuple(column[rows[id]] for column in self.columns[id]) if id in bins else ()
                rows[id] += 1
                words += written(id, row, bins)
            yield " ".join(words)
