"""The words in which sessions are written: what a model reads in place of records.

    Query for req-0007 took 12.4 ms        E4 E4.2=b3     template 4 of Drain; its second parameter, 12.4, lies in bin 3

A parameter gets bins where it is a measurement whose range holds. A whole number may be a name, such as a user's or a
port's, and a new name is nothing odd: a measurement has decimals, a unit, or a word of measure beside it. What grows,
such as a clock or a counter, leaves its range sooner or later, and would be odd for ever. Bins have equal mass, so that
an ordinary value is no surprise in any.

    Job req-0007 ended with code 12        E5 E5.2=new    code was one of a few kinds, such as 0 and 4, and never 12

A number of a few kinds, such as an exit code, has no word where it is one of them: the model learns templates alone.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kakehashi.tokenizers.words import UNKNOWN
from kakehashi.work.logs.drain import Drain, Group
from kakehashi.work.logs.errors import of_kind
from kakehashi.work.logs.masks import WILDCARD

N_BINS = 8
NEW = "new"  # in place of a bin: a kind that was never seen
MOST_KINDS, ENOUGH = 10, 50  # at most so many kinds in at least so many records
OUTSIDE, FEW_OUTSIDE = 0.01, 3  # of the held-out values at most this share, or so many, leave a range that holds
_NUMBER = re.compile(r"(?a:([-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,300})(?:\.\d+)?))(ns|us|µs|μs|ms|s|%|B|[kK]B|MB|GB)?")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}
_MEASURES = (
    "took elapsed duration latency delay size length len count total sum used free spent waited wait time timeout rtt "
    "cost load usage memory heap depth retry retries attempt attempts rows items entries bytes ns us ms s sec secs "
    "seconds min minutes kb mb gb"
).split()
_MEASURES_JA = (
    "経過 所要 時間 秒数 ミリ秒 遅延 待ち サイズ 容量 件数 回数 個数 合計 残り 使用量 使用率 バイト数"
).split()
_UNITS_AFTER = (
    "ns us µs μs ms s sec secs seconds? min minutes? % ％ percent b kb mb gb kib mib gib bytes? rows? items? entries "
    "retries attempts times"
).split()
_UNITS_JA = "ナノ秒 マイクロ秒 ミリ秒 秒 分 バイト キロ メガ ギガ パーセント 件 回 個".split()
_BEFORE = re.compile(rf"(?i)(?:(?<![a-z])(?:{'|'.join(_MEASURES)})|{'|'.join(_MEASURES_JA)})[はがにを]?\W*$")
_AFTER = re.compile(rf"(?i)\W*?((?:{'|'.join(_UNITS_AFTER)})(?![a-z0-9])|{'|'.join(_UNITS_JA)})")
# what counts, or is new in each release, each year, with each user, and so is of no kind
_COUNTS = (
    "v ver version release build rev revision id pid tid port user thread worker node shard partition part page step "
    "line no"
).split()
_CHANGES = re.compile(rf"(?i)(?:(?<![a-z])(?:{'|'.join(_COUNTS)})|版|バージョン|リリース|番号)[はがにを]?\W*$")
_ORDINAL = re.compile("[年月日時分]|[回番件]目")
_JOINED = re.compile(r"[-.:/_]")  # of values with such a mark alone between them each is a part: of a date, a version
_NAME = re.compile(r"(?<!\w)([^\W\d_][\w.-]{0,23}?)[はがにを]?[^\w\])}]*$")
_NO_NAME = frozenset("a an the of in on at to for from by with after and or is was are".split())
# what the model reads in place of a value that it cannot have learnt: so what follows is predicted undisturbed
_READ_AS = {"under": "b1", "far-under": "b1", "over": f"b{N_BINS}", "far-over": f"b{N_BINS}"}


def number(value: str) -> float:
    """The number that a parameter is, in the base of its unit where it has one; NaN where it is none."""
    found = _NUMBER.fullmatch(value)
    return float(found[1].replace(",", "")) * _UNITS.get(found[2], 1.0) if found else math.nan


def numbers(drain: Drain, group: Group, message: str) -> tuple[float, ...]:
    """The parameters of a message as numbers, NaN for those that are none."""
    return tuple(number(value) for _, value in drain.parameters(group, message))


def measured(drain: Drain, group: Group, message: str) -> tuple[bool, ...]:
    """Of each parameter of a message, whether its unit or a word beside it says that it is a measurement."""
    found = []
    for value, before, after in _beside(drain, group, message):
        parts = _NUMBER.fullmatch(value)
        found.append(bool(parts and parts[2] or _BEFORE.search(before) or _AFTER.match(after)))
    return tuple(found)


def kindly(drain: Drain, group: Group, message: str) -> tuple[bool, ...]:
    """Of each parameter of a message, whether it may be one of a few kinds: no part of a date or a version, no name."""
    return tuple(
        not (_JOINED.fullmatch(before) or _JOINED.fullmatch(after) or _CHANGES.search(before) or _ORDINAL.match(after))
        for _, before, after in _beside(drain, group, message)
    )


def named(drain: Drain, group: Group, message: str) -> list[tuple[str, str]]:
    """(the word before it that names it, its unit) of each parameter of a message; "" where there is none."""
    found = []
    for _, before, after in _beside(drain, group, message):
        name, unit = _NAME.search(before), _AFTER.match(after)
        known = name[1] if name and name[1].lower() not in _NO_NAME else ""
        found.append((known, unit[1] if unit else ""))
    return found


def _beside(drain: Drain, group: Group, message: str) -> Iterator[tuple[str, str, str]]:
    """Each parameter of a message, the text before it, and the text after it: as far as the next one, or a word."""
    words = ["", *((word or "").replace(WILDCARD, "0") for word in group.words), ""]
    for place, (kept, word) in enumerate(zip(group.words, message.split(), strict=True), 1):
        texts = (kept or WILDCARD).split(WILDCARD)  # before each <*> of the word, and after the last
        texts[0], texts[-1] = f"{words[place - 1]} {texts[0]}", f"{texts[-1]} {words[place + 1]}"
        for (_, value), before, after in zip(drain.values(kept, word), texts, texts[1:], strict=False):
            yield value, before, after


def is_event(word: str) -> bool:
    """Whether a word is a template, or UNKNOWN, and not a number's."""
    return "=" not in word


def is_new(word: str) -> bool:
    """Whether a word says that a number is of a kind that was never seen: no model reads it."""
    return word.endswith(f"={NEW}")


def is_far(word: str) -> bool:
    return "=far-" in word


def is_outside(word: str) -> bool:
    """Whether a word says that a number is outside what was learnt."""
    return word.partition("=")[2] in _READ_AS


def as_read(text: str) -> str:
    """A session as the model reads it: each number in a bin that it knows, and none of a new kind."""
    if "=" not in text:
        return text
    parts = (word.partition("=") for word in text.split() if not is_new(word))
    return " ".join(f"{name}{sign}{_READ_AS.get(bin, bin)}" for name, sign, bin in parts)


@dataclass(frozen=True)
class Bins:
    """edges: the least value, where the bins after the first begin, the greatest. The last bin is always b8."""

    edges: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> "Bins":
        """Bins of equal mass: fewer than 8 where many values are equal, so that there is a value in each."""
        inner = np.unique(np.quantile(values, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf"))
        least, most = values.min(), values.max()
        return cls((float(least), *inner[inner > least].tolist(), float(most)))

    def bin(self, value: float) -> str:
        """b1 to b8; "under", "over"; "far-under", "far-over": beyond the range by more than half of its width."""
        least, *inner, most = self.edges
        half = (most - least) / 2
        if value < least:
            return "under" if value >= least - half else "far-under"
        if value > most:
            return "over" if value <= most + half else "far-over"
        place = bisect_right(inner, value)
        return f"b{N_BINS if place == len(inner) else place + 1}"

    def holds(self, values: np.ndarray) -> bool:
        """Whether there are two bins at least, and other values stay inside: of a few most, of many nearly all."""
        n_outside = int(((values < self.edges[0]) | (values > self.edges[-1])).sum())
        allowed = max(FEW_OUTSIDE, OUTSIDE * len(values))
        return len(self.edges) > 2 and 2 * n_outside < len(values) and n_outside <= allowed


@dataclass(frozen=True)
class Kinds:
    """values: those that were seen, in order."""

    values: tuple[float, ...]

    def bin(self, value: float) -> str:
        """ "new"; "" for one that was seen."""
        return "" if value in self.values else NEW

    @classmethod
    def of(cls, values: np.ndarray) -> "Kinds | None":
        """The kinds, where they are few and another one is unlikely: it comes about as often as a value so far is the
        only one of its kind (Good, Biometrika 1953)."""
        kinds, counts = np.unique(values, return_counts=True)
        few = len(kinds) <= MOST_KINDS and len(values) >= ENOUGH and not (kinds % 1).any()
        return cls(tuple(kinds.tolist())) if few and (counts == 1).sum() <= OUTSIDE * len(values) else None

    def holds(self, values: np.ndarray) -> bool:
        """Whether other values are of these kinds, all of them."""
        return bool(np.isin(values, self.values).all())


class Vocabulary:
    """Words for records: of templates by Drain, of their numbers by bins. accepted: templates that no model knows yet,
    and that are left out therefore."""

    def __init__(self, drain: Drain, bins: Mapping[int, Mapping[int, Bins | Kinds]], accepted: Iterable[int] = ()):
        self.drain = drain
        self.bins = bins  # group -> place among its parameters, from 0 -> Bins or Kinds
        self.accepted = set(accepted)

    def words(self, message: str) -> tuple[str, ...]:
        """The word of a message's template, then one for each number that has bins; () where it is accepted."""
        group = self.drain.match(message)
        if group is None:
            return (UNKNOWN,)
        if group.id in self.accepted:
            return ()
        found = numbers(self.drain, group, message) if group.id in self.bins else ()
        return tuple(written(group.id, found, self.bins))

    def to_dict(self) -> dict[str, Any]:
        bins = {
            str(id): {
                str(at): {"kinds": each.values} if isinstance(each, Kinds) else each.edges
                for at, each in places.items()
            }
            for id, places in self.bins.items()
        }
        return {"bins": bins, "accepted": sorted(self.accepted)}

    @classmethod
    def from_dict(cls, drain: Drain, saved: dict[str, Any]) -> "Vocabulary":
        """The Vocabulary of `to_dict`. Raises what Python raises at damage."""
        bins = {
            int(id): {int(at): _loaded(each) for at, each in places.items()} for id, places in saved["bins"].items()
        }
        return cls(drain, bins, [of_kind(id, int) for id in saved["accepted"]])


def _loaded(saved: Any) -> Bins | Kinds:
    if isinstance(saved, dict):
        return Kinds(tuple(of_kind(value, int, float) for value in saved["kinds"]))
    edges = tuple(of_kind(edge, int, float) for edge in saved)
    if len(edges) < 3 or list(edges) != sorted(set(edges)):
        raise ValueError(f"{list(edges)} are no bins")
    return Bins(edges)


def written(id: int, found: tuple[float, ...], bins: Mapping[int, Mapping[int, Bins | Kinds]]) -> Iterator[str]:
    """The words of a record of template `id` (0: none) with these parameters, NaN where they are no numbers."""
    yield f"E{id}" if id else UNKNOWN
    for at, each in bins.get(id, {}).items():
        if at < len(found) and not math.isnan(found[at]) and (bin := each.bin(found[at])):
            yield f"E{id}.{at + 1}={bin}"
