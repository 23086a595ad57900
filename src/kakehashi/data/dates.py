"""Dates as people write them, in English and Japanese, and the same in ISO 8601: pairs that are made here.

    the 24th of November 2026, 11/24/26, 令和８年１１月２４日, ...   ->   2026-11-24

Every text means one day. Where slashes leave open which number is the month, the day is above 12; years of two digits
are those of 1969 to 2068, as POSIX reads them; points put the day first; 1989 is 昭和 up to January 7, then 平成.
The split is by calendar day: no day that is validated on is trained on, in whatever form.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import cache

Pair = tuple[str, str]  # a text, and what it is to become

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
EACH = 4  # forms in which a day is trained on
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
DIGITS = "〇一二三四五六七八九"
FULL_WIDTH = str.maketrans("0123456789/", "０１２３４５６７８９／")
ERAS = (("令和", "R", date(2019, 5, 1)), ("平成", "H", date(1989, 1, 8)), ("昭和", "S", date(1926, 12, 25)))


def month(day: date) -> str:
    return MONTHS[day.month - 1]


def weekday(day: date) -> str:
    return WEEKDAYS[day.weekday()]


def youbi(day: date) -> str:
    """火 of 火曜日."""
    return "月火水木金土日"[day.weekday()]


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, ... 11th, 12th, 13th, ... 21st."""
    return f"{n}" + ("th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th"))


def kanji(n: int) -> str:
    """1 to 99 as 一, 十, 十一, 二十四."""
    tens, ones = divmod(n, 10)
    return (DIGITS[tens] if tens > 1 else "") + ("十" if tens else "") + (DIGITS[ones] if ones else "")


def era(day: date) -> tuple[str, str, int]:
    """(name, letter, year within it)."""
    name, letter, first = next(each for each in ERAS if day >= each[2])
    return name, letter, day.year - first.year + 1


def in_era(day: date, number: Callable[[int], str] = str) -> str:
    """令和8年11月24日. The first year of an era is 元年."""
    name, _, year = era(day)
    return f"{name}{'元' if year == 1 else number(year)}年{number(day.month)}月{number(day.day)}日"


def in_kanji(day: date) -> str:
    """二〇二六年十一月二十四日."""
    year = "".join(DIGITS[int(digit)] for digit in str(day.year))
    return f"{year}年{kanji(day.month)}月{kanji(day.day)}日"


def full_width(text: str) -> str:
    return text.translate(FULL_WIDTH)


# Each form by how it writes 2026-11-24
FORMS: dict[str, Callable[[date], str]] = {
    "2026-11-24": lambda d: d.isoformat(),
    "20261124": lambda d: f"{d:%Y%m%d}",
    "2026/11/24": lambda d: f"{d.year}/{d.month}/{d.day}",
    "11/24/2026": lambda d: f"{d.month}/{d.day}/{d.year}",
    "24/11/2026": lambda d: f"{d.day}/{d.month}/{d.year}",
    "11/24/26": lambda d: f"{d.month}/{d.day}/{d.year % 100:02}",
    "24.11.2026": lambda d: f"{d.day}.{d.month}.{d.year}",
    "24 Nov 2026": lambda d: f"{d.day} {month(d)[:3]} {d.year}",
    "24-NOV-2026": lambda d: f"{d.day:02}-{month(d)[:3].upper()}-{d.year}",
    "Nov 24, 2026": lambda d: f"{month(d)[:3]} {d.day}, {d.year}",
    "24 November 2026": lambda d: f"{d.day} {month(d)} {d.year}",
    "November 24th, 2026": lambda d: f"{month(d)} {ordinal(d.day)}, {d.year}",
    "the 24th of November 2026": lambda d: f"the {ordinal(d.day)} of {month(d)} {d.year}",
    "Tue, 24 Nov 2026": lambda d: f"{weekday(d)[:3]}, {d.day} {month(d)[:3]} {d.year}",
    "Tuesday, November 24, 2026": lambda d: f"{weekday(d)}, {month(d)} {d.day}, {d.year}",
    "2026年11月24日": lambda d: f"{d.year}年{d.month}月{d.day}日",
    "2026年11月24日(火)": lambda d: f"{d.year}年{d.month}月{d.day}日({youbi(d)})",
    "２０２６年１１月２４日": lambda d: full_width(f"{d.year}年{d.month}月{d.day}日"),
    "２０２６／１１／２４": lambda d: full_width(f"{d:%Y/%m/%d}"),
    "二〇二六年十一月二十四日": in_kanji,
    "令和8年11月24日": in_era,
    "令和8年11月24日火曜日": lambda d: f"{in_era(d)}{youbi(d)}曜日",
    "令和８年１１月２４日": lambda d: full_width(in_era(d)),
    "令和八年十一月二十四日": lambda d: in_era(d, kanji),
    "R8.11.24": lambda d: f"{era(d)[1]}{era(d)[2]}.{d.month}.{d.day}",
}

# The days that a form writes without a second meaning, where these are not all
CLEAR: dict[str, Callable[[date], bool]] = {
    "11/24/2026": lambda d: d.day > 12,
    "24/11/2026": lambda d: d.day > 12,
    "11/24/26": lambda d: d.day > 12 and d.year >= 1969,
}

# Forms that are not trained on in these years, so that what a model makes of a known form and known years that it
# never saw together can be measured
UNSEEN = {
    "Tuesday, November 24, 2026": range(1970, 1980),
    "二〇二六年十一月二十四日": range(2010, 2020),
    "令和８年１１月２４日": range(2000, 2010),
}


@cache  # half a second
def pairs() -> dict[str, tuple[Pair, ...]]:
    """{"train", "val", "test", "unseen"}: (text, ISO date) each; the same on every machine.

    Of ten days eight are trained on, in EACH forms, one is validated on and one tested on, in one form each. "unseen":
    days that are not trained on, in the forms and years of UNSEEN.
    """
    parts: dict[str, list[Pair]] = {"train": [], "val": [], "test": [], "unseen": []}
    for day in days():
        iso = day.isoformat()
        dice = int.from_bytes(hashlib.sha256(iso.encode()).digest())  # a large number to draw from, the day's own
        dice, side = divmod(dice, 10)
        part = {0: "val", 1: "test"}.get(side, "train")
        seen = [form for form in FORMS if form not in CLEAR or CLEAR[form](day)]
        seen = [form for form in seen if day.year not in UNSEEN.get(form, ())]
        for _ in range(EACH if part == "train" else 1):
            dice, drawn = divmod(dice, len(seen))
            parts[part].append((FORMS[seen.pop(drawn)](day), iso))
        if part != "train":
            parts["unseen"] += [(FORMS[form](day), iso) for form, years in UNSEEN.items() if day.year in years]
    return {part: tuple(made) for part, made in parts.items()}


def days() -> Iterator[date]:
    """Every day from FIRST to LAST."""
    for n in range((LAST - FIRST).days + 1):
        yield FIRST + timedelta(n)
