"""Dates as people write them, in English and Japanese, and the same in ISO 8601: pairs that are made here.

    the 24th of November 2026, 11/24/26, 令和８年１１月２４日, ...   ->   2026-11-24

Every text means one day. Where slashes leave open which number is the month, the day is above 12; a year of two digits
is that of 1969 to 2068, as POSIX reads it; points put the day first; an era's year is written within the era.
The split is by calendar day: no day that is validated on is trained on, in whatever form.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import date, timedelta

Pair = tuple[str, str]

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
EACH = 4  # forms in which a day is trained on
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
FULL_WIDTH = str.maketrans("0123456789/", "０１２３４５６７８９／")
ERAS = (("令和", "R", date(2019, 5, 1)), ("平成", "H", date(1989, 1, 8)), ("昭和", "S", date(1926, 12, 25)))


def month(day: date) -> str:
    return MONTHS[day.month - 1]


def weekday(day: date) -> str:
    return WEEKDAYS[day.weekday()]


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, ... 11th, 12th, 13th, ... 21st."""
    return f"{n}" + ("th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th"))


def kanji(n: int) -> str:
    """1 to 99 as 一, 十, 十一, 二十四."""
    tens, ones = divmod(n, 10)
    digits = "〇一二三四五六七八九"
    return (digits[tens] if tens > 1 else "") + ("十" if tens else "") + (digits[ones] if ones else "")


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
    year = "".join("〇一二三四五六七八九"[int(digit)] for digit in str(day.year))
    return f"{year}年{kanji(day.month)}月{kanji(day.day)}日"


def by_month(day: date) -> bool:
    """Can only one of the two numbers be the month?"""
    return day.day > 12


# Each form by how it writes 2026-11-24: what writes a day, and which days it writes without a second meaning
FORMS: dict[str, tuple[Callable[[date], str], Callable[[date], bool]]] = {
    form: (write, where)
    for form, write, where in (
        ("2026-11-24", lambda d: d.isoformat(), lambda d: True),
        ("20261124", lambda d: f"{d:%Y%m%d}", lambda d: True),
        ("2026/11/24", lambda d: f"{d.year}/{d.month}/{d.day}", lambda d: True),
        ("11/24/2026", lambda d: f"{d.month}/{d.day}/{d.year}", by_month),
        ("24/11/2026", lambda d: f"{d.day}/{d.month}/{d.year}", by_month),
        ("11/24/26", lambda d: f"{d.month}/{d.day}/{d.year % 100:02}", lambda d: by_month(d) and d.year >= 1969),
        ("24.11.2026", lambda d: f"{d.day}.{d.month}.{d.year}", lambda d: True),
        ("24 Nov 2026", lambda d: f"{d.day} {month(d)[:3]} {d.year}", lambda d: True),
        ("24-NOV-2026", lambda d: f"{d.day:02}-{month(d)[:3].upper()}-{d.year}", lambda d: True),
        ("Nov 24, 2026", lambda d: f"{month(d)[:3]} {d.day}, {d.year}", lambda d: True),
        ("24 November 2026", lambda d: f"{d.day} {month(d)} {d.year}", lambda d: True),
        ("November 24th, 2026", lambda d: f"{month(d)} {ordinal(d.day)}, {d.year}", lambda d: True),
        ("the 24th of November 2026", lambda d: f"the {ordinal(d.day)} of {month(d)} {d.year}", lambda d: True),
        ("Tue, 24 Nov 2026", lambda d: f"{weekday(d)[:3]}, {d.day} {month(d)[:3]} {d.year}", lambda d: True),
        ("Tuesday, November 24, 2026", lambda d: f"{weekday(d)}, {month(d)} {d.day}, {d.year}", lambda d: True),
        ("2026年11月24日", lambda d: f"{d.year}年{d.month}月{d.day}日", lambda d: True),
        (
            "2026年11月24日(火)",
            lambda d: f"{d.year}年{d.month}月{d.day}日({'月火水木金土日'[d.weekday()]})",
            lambda d: True,
        ),
        (
            "２０２６年１１月２４日",
            lambda d: f"{d.year}年{d.month}月{d.day}日".translate(FULL_WIDTH),
            lambda d: True,
        ),
        ("２０２６／１１／２４", lambda d: f"{d:%Y/%m/%d}".translate(FULL_WIDTH), lambda d: True),
        ("二〇二六年十一月二十四日", in_kanji, lambda d: True),
        ("令和8年11月24日", in_era, lambda d: True),
        ("令和8年11月24日火曜日", lambda d: f"{in_era(d)}{'月火水木金土日'[d.weekday()]}曜日", lambda d: True),
        ("令和８年１１月２４日", lambda d: in_era(d).translate(FULL_WIDTH), lambda d: True),
        ("令和八年十一月二十四日", lambda d: in_era(d, kanji), lambda d: True),
        ("R8.11.24", lambda d: f"{era(d)[1]}{era(d)[2]}.{d.month}.{d.day}", lambda d: True),
    )
}

# Forms that are not trained on in these years, so that what a model makes of a known form and known years that it
# never saw together can be measured
UNSEEN = {
    "Tuesday, November 24, 2026": range(1970, 1980),
    "二〇二六年十一月二十四日": range(2010, 2020),
    "令和８年１１月２４日": range(2000, 2010),
}


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
        seen = [form for form, (_, where) in FORMS.items() if where(day) and day.year not in UNSEEN.get(form, ())]
        for _ in range(EACH if part == "train" else 1):
            dice, drawn = divmod(dice, len(seen))
            parts[part].append((FORMS[seen.pop(drawn)][0](day), iso))
        if part != "train":
            parts["unseen"] += [(FORMS[form][0](day), iso) for form, years in UNSEEN.items() if day.year in years]
    return {part: tuple(made) for part, made in parts.items()}


def days() -> Iterator[date]:
    """Every day from FIRST to LAST."""
    for n in range((LAST - FIRST).days + 1):
        yield FIRST + timedelta(n)
