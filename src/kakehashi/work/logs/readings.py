"""Normal sessions as they are read: kept in a few bytes a record until it is known which numbers have bins."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from kakehashi.work.logs.vocabulary import Bins, Kinds, written

LEARNT = 0.8  # of the sessions, in the order of time; the rest is held out
NUMERIC, DISTINCT = 0.9, 20  # a parameter is a number in this share of its records, and has so many values at least
ROWS = 1 << 40  # more than the records of a group


def n_learnt(n_sessions: int) -> int:
    """How many of the sessions are learnt, the first ones."""
    return int(LEARNT * n_sessions)


class Readings:
    """Normal sessions, in the order of time."""

    def __init__(self):
        # of each record one number: its group (0: none, as Drain's memory was too small), and its row in the columns
        self.sessions: list[array] = []
        self.columns: dict[int, list[array]] = {}  # group -> its parameters, each with a number (or NaN) a record
        self.n_rows: Counter[int] = Counter()  # of each group

    def note(self, group: int, found: tuple[float, ...]) -> int:
        """The one number for a record of this group, with these numbers in it."""
        for column, value in zip(self.columns.setdefault(group, [array("d") for _ in found]), found, strict=True):
            column.append(value)
        self.n_rows[group] += 1
        return group * ROWS + self.n_rows[group] - 1

    def add(self, records: Iterable[int]) -> None:
        """A session of records that were noted."""
        self.sessions.append(array("q", records))

    def bins(
        self, measured: Mapping[int, Sequence[bool]], kindly: Mapping[int, Sequence[bool]]
    ) -> dict[int, dict[int, Bins | Kinds]]:
        """Bins of the measurements whose range, in the sessions to learn, holds in the rest; kinds that do.

        measured, kindly: of each group, which of its parameters are measurements even where they have no decimals, and
        which may be of a few kinds.
        """
        cut = n_learnt(len(self.sessions))
        learnt, rest = _rows(self.sessions[:cut]), _rows(self.sessions[cut:])
        nothing = np.zeros(0, np.int64)
        found: dict[int, dict[int, Bins | Kinds]] = {}
        for id, columns in self.columns.items():
            for at, column in enumerate(columns):
                values = np.frombuffer(column)
                first, then = (values[rows.get(id, nothing)] for rows in (learnt, rest))
                n, first, then = len(first) + len(then), first[~np.isnan(first)], then[~np.isnan(then)]
                if len(first) + len(then) < NUMERIC * n:
                    continue
                each = None
                if len(np.unique(first)) < DISTINCT:
                    each = Kinds.of(first) if kindly[id][at] else None
                elif measured[id][at] or (first % 1).any():
                    each = Bins.of(first)
                if each and each.holds(then):
                    found.setdefault(id, {})[at] = each
        return found

    def texts(self, bins: Mapping[int, Mapping[int, Bins | Kinds]]) -> Iterator[str]:
        """The sessions, written."""
        for session in self.sessions:
            words: list[str] = []
            for record in session:
                id, row = divmod(record, ROWS)
                found = tuple(column[row] for column in self.columns[id]) if id in bins else ()
                words += written(id, found, bins)
            yield " ".join(words)


def _rows(sessions: Sequence[array]) -> dict[int, np.ndarray]:
    """The rows of each group that stand in sessions, each as often as it does."""
    records = np.sort(np.concatenate(sessions)) if sessions else np.zeros(0, np.int64)
    ids, starts = np.unique(records // ROWS, return_index=True)
    return dict(zip(ids.tolist(), np.split(records % ROWS, starts[1:]), strict=True))
