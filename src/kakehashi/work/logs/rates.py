"""How often something comes in one log and in another: the ratio, its interval, whether chance explains it.

Lines of a log come in bursts: a failure writes a hundred of them. Taken for independent, as Poisson's counts are, they
make every difference certain. So a log is cut into blocks of consecutive lines, and the spread of the counts between
blocks says how many lines there are to one independent event, the dispersion (McCullagh & Nelder, "Generalized Linear
Models", 1989, ch. 4.5). With counts divided by it, the exact test and interval of two rates hold (Przyborowski &
Wilenski 1940; Clopper & Pearson 1934). A bootstrap over blocks would do as much for frequent lines, but has no interval
where one count is 0, and no small p-values, which many templates at once need.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.99  # of every interval
BLOCKS = 64  # at most; when they are full, each two become one


class Blocks:
    """Counts in consecutive parts of a stream, all parts but the last of one size. Memory does not grow with it."""

    def __init__(self):
        self.size = 1
        self.sizes: list[int] = []  # items in each block
        self.counts: list[Counter[Hashable]] = []

    def add(self, keys: Iterable[Hashable]) -> None:
        """One item, which counts under each of the keys."""
        if not self.sizes or self.sizes[-1] == self.size:
            if len(self.sizes) == BLOCKS:
                self._halve()
            self.sizes.append(0)
            self.counts.append(Counter())
        self.sizes[-1] += 1
        for key in keys:
            self.counts[-1][key] += 1

    def _halve(self) -> None:
        self.size *= 2
        self.sizes = [a + b for a, b in zip(self.sizes[::2], self.sizes[1::2], strict=True)]
        self.counts = [a + b for a, b in zip(self.counts[::2], self.counts[1::2], strict=True)]

    @property
    def n(self) -> int:
        return sum(self.sizes)

    def total(self) -> Counter[Hashable]:
        return sum(self.counts, Counter())

    def table(self, keys: Sequence[Hashable]) -> np.ndarray:
        """(B, K) float64: how often each key was counted in each block."""
        return np.array([[counts[key] for key in keys] for counts in self.counts], float).reshape(-1, len(keys))


def dispersion(keys: Sequence[Hashable], *sides: Blocks) -> np.ndarray:
    """(K,): how many times Poisson's the variance of each key's counts between the blocks of a side is; 1 or more.

    Pearson's statistic over its degrees of freedom, of all sides together, each around its own rate.
    """
    statistic, freedom = np.zeros(len(keys)), np.zeros(len(keys))
    for side in sides:
        counts, sizes = side.table(keys), np.array(side.sizes, float)
        if len(sizes) < 2:
            continue
        expected = sizes[:, None] * counts.sum(0) / sizes.sum()  # (B, K)
        there = counts.sum(0) > 0  # what never came has no spread
        statistic[there] += ((counts - expected)[:, there] ** 2 / expected[:, there]).sum(0)
        freedom[there] += len(sizes) - 1
    return np.maximum(statistic / np.maximum(freedom, 1), 1.0)


@dataclass(frozen=True)
class Ratio:
    """The rate after over the rate before; inf where there was nothing before, NaN where there is nothing at all."""

    ratio: float
    low: float  # interval of CONFIDENCE
    high: float
    p: float  # two-sided: how often chance alone would part equal rates so far


def compare(before: int, n_before: float, after: int, n_after: float, dispersion: float = 1.0) -> Ratio:
    """Counts before and after, among n_before and n_after lines or sessions.

    Of all that came, as many come after as n_after is of both: with equal rates a binomial number.
    """
    if not n_before or not n_after:
        return Ratio(math.nan, 0.0, math.inf, 1.0)
    # independent events; one that came at all stays one
    few, many = (math.ceil(count / dispersion - 0.5) or min(count, 1) for count in (before, after))
    n, share = few + many, n_after / (n_before + n_after)
    ratio = after / n_after / (before / n_before) if before else (math.inf if after else math.nan)
    low, high = (_odds(bound) * n_before / n_after for bound in interval(many, n))
    return Ratio(ratio, low, high, min(1.0, 2 * min(tail(many, n, share), tail(few, n, 1 - share))))


def compare_all(
    keys: Sequence[Hashable], before: Blocks, n_before: float, after: Blocks, n_after: float, *spread: Blocks
) -> list[Ratio]:
    """`compare` of each key's counts, with its dispersion between the blocks of `spread`."""
    counts = [blocks.total() for blocks in (before, after)]
    return [
        compare(counts[0][key], n_before, counts[1][key], n_after, times)
        for key, times in zip(keys, dispersion(keys, *spread).tolist(), strict=True)
    ]


def interval(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The shares that k of n leave possible (Clopper & Pearson)."""
    error = (1 - confidence) / 2
    low = _solve(lambda p: tail(k, n, p) < error) if k else 0.0
    high = _solve(lambda p: tail(n - k, n, 1 - p) > error) if k < n else 1.0
    return low, high


def tail(k: int, n: int, p: float) -> float:
    """The probability that k or more of n come, each with probability p."""
    if k <= 0 or p >= 1:
        return 1.0
    if k > n or p <= 0:
        return 0.0
    if k <= n * p:  # the smaller tail is summed: its terms fall from the first on
        return 1.0 - tail(n - k + 1, n, 1 - p)
    log_first = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    log_first += k * math.log(p) + (n - k) * math.log1p(-p)
    more = np.arange(k, min(n, k + 100 + 10 * math.isqrt(n)))  # beyond ten standard deviations nothing is left
    steps = np.log((n - more) / (more + 1)) + math.log(p) - math.log1p(-p)
    return math.exp(log_first) * (1.0 + float(np.exp(np.cumsum(steps)).sum()))


def false_discovery(p: Sequence[float]) -> np.ndarray:
    """q-values: of all those with q at most x, the share x is expected to be chance (Benjamini-Hochberg)."""
    p_values = np.array(p, float)
    order = np.argsort(-p_values)  # the largest first
    ranks = np.arange(len(p_values), 0, -1)
    q = np.empty_like(p_values)
    q[order] = np.minimum.accumulate(np.minimum(p_values[order] * len(p_values) / ranks, 1.0))
    return q


def _solve(below: Callable[[float], bool]) -> float:
    """The share at which `below` turns from true to false."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf
