"""The normal session that an odd one is nearest to.

Distance: Levenshtein, "Binary codes capable of correcting deletions, insertions and reversals" (1966).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kakehashi.work.logs.baselines import Events

LONGEST = 1_000  # events of a session that are compared
ROWS = 64  # sessions compared at a time


@dataclass(frozen=True)
class Nearest:
    """words: of the normal session, its templates. count: how often it was seen. missing: words that it has and the
    odd one lacks, extra: the other way round; each as often as that."""

    words: list[str]
    count: int
    missing: list[str]
    extra: list[str]


class Normal:
    """Distinct normal sessions, those seen most often first."""

    def __init__(self, sessions: Iterable[Events], tokens: Sequence[str]):
        self.tokens = tokens
        seen = Counter(sessions).most_common()
        self.sessions = [session for session, _ in seen]
        self.counts = [count for _, count in seen]
        self.bags = [Counter(session) for session in self.sessions]

    def nearest(self, events: Events) -> Nearest:
        """The session with the smallest edit distance; of several, the one that has the fewest events to name, and of
        these the one seen most often."""
        bag = Counter(events)
        extra = np.array([(bag - other).total() for other in self.bags])
        missing = np.array([(other - bag).total() for other in self.bags])
        # sessions that differ in n events are n steps apart at least: those that cannot win are not compared
        least = np.maximum(extra, missing)
        order = np.argsort(least, kind="stable")
        best, winner = (np.inf, 0), 0
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            if least[rows[0]] > best[0]:
                break
            found = distances(events[:LONGEST], [self.sessions[i][:LONGEST] for i in rows])
            for distance, i in zip(found, rows, strict=True):
                this = (distance, extra[i] + missing[i])
                if (this, i) < (best, winner):
                    best, winner = this, int(i)
        session, other = self.sessions[winner], self.bags[winner]
        return Nearest(
            words=self._words(session),
            count=self.counts[winner],
            missing=self._words((other - bag).elements()),
            extra=self._words((bag - other).elements()),
        )

    def _words(self, events: Iterable[int]) -> list[str]:
        return [self.tokens[event] for event in events]


def distances(events: Events, others: Sequence[Events]) -> list[int]:
    """How many events must be put in, left out or replaced to make each of the others of the first."""
    width = max(map(len, others))
    theirs = np.full((len(others), width), -1)  # (N, T)
    for row, other in enumerate(others):
        theirs[row, : len(other)] = other
    columns = np.arange(width + 1)
    row = np.tile(columns, (len(others), 1))  # (N, T + 1): from nothing to the first t of theirs
    for i, event in enumerate(events, 1):
        either = np.minimum(row[:, 1:] + 1, row[:, :-1] + (theirs != event))  # left out; kept or replaced
        row = np.concatenate((np.full((len(others), 1), i), either), 1)
        # put in, any number of times: the least of what stands to the left, and a step for each column between
        row = np.minimum.accumulate(row - columns, 1) + columns
    return [int(row[n, len(other)]) for n, other in enumerate(others)]
