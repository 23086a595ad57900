"""Pairs of texts: dates that mean one day, splits without leaks, batches that hold each pair once."""

import random
import re
from collections import Counter
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi import data
from kakehashi.data import DataError, PairSource, dates
from kakehashi.data.batches import IGNORE
from kakehashi.tokenizers import CharTokenizer

DATES = data.read_pairs("dates")
SPLIT = DATES.split(0)
PARTS = {"train": SPLIT.train, "val": SPLIT.val, **SPLIT.apart}
MONTHS = {name: n for n, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
KANJI = {digit: n for n, digit in enumerate("〇一二三四五六七八九")}


def reading(text: str) -> date:
    """The day that a text means, read by other rules than those that wrote it."""
    text = text.translate({0xFF10 + n: str(n) for n in range(10)}).replace("／", "/")
    if era := re.match(r"(令和|平成|昭和|[RHS](?=\d))(.+)", text):
        start = {"令": 2018, "平": 1988, "昭": 1925, "R": 2018, "H": 1988, "S": 1925}[era[1][0]]
        year, month, day = (number(part) for part in re.split(r"[年月日.]", era[2])[:3])
        return date(start + year, month, day)
    if "年" in text:
        return date(*(number(part) for part in re.split("[年月日]", text)[:3]))
    if named := re.search("|".join(MONTHS), text.lower()):
        day, year = sorted(map(int, re.findall(r"\d+", text)))
        return date(year, MONTHS[named[0]], day)
    numbers = [int(part) for part in re.findall(r"\d+", text)]
    if len(numbers) == 1:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    if numbers[0] > 31:
        return date(*numbers)
    first, second, year = numbers
    year += 0 if year > 99 else 2000 if year < 69 else 1900
    return date(year, first, second) if second > 12 and "." not in text else date(year, second, first)


def number(text: str) -> int:
    if text == "元":
        return 1
    if text.isascii():
        return int(text)
    if "十" in text:
        tens, ones = text.split("十")
        return 10 * KANJI.get(tens, 1) + KANJI.get(ones, 0)
    return int("".join(str(KANJI[digit]) for digit in text))


# --- Dates ---


def test_each_form_writes_the_day_of_its_name():
    for form, write in dates.FORMS.items():
        assert write(date(2026, 11, 24)) == form and reading(form) == date(2026, 11, 24)
    assert len(dates.FORMS) == 25 and set(dates.UNSEEN) | set(dates.CLEAR) <= set(dates.FORMS)


def test_every_pair_means_its_day():
    rng = random.Random(0)
    for part in PARTS.values():
        for text, iso in rng.sample(part, 1500):
            assert reading(text).isoformat() == iso, text
        assert all(len(iso) == 10 for _, iso in part)


def test_no_text_means_two_days():
    meant = {}
    for part in PARTS.values():
        for text, iso in part:
            assert meant.setdefault(text, iso) == iso


@pytest.mark.parametrize(
    ("day", "written"),
    [
        (date(1989, 1, 7), "昭和64年1月7日"),
        (date(1989, 1, 8), "平成元年1月8日"),
        (date(2019, 4, 30), "平成31年4月30日"),
        (date(2019, 5, 1), "令和元年5月1日"),
    ],
)
def test_eras_begin_and_end_where_they_did(day, written):
    assert dates.in_era(day) == written


def test_numbers_are_written_as_they_are_said():
    assert [dates.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == (
        "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 31st".split()
    )
    assert [dates.kanji(n) for n in (1, 9, 10, 11, 20, 24, 31, 99)] == "一 九 十 十一 二十 二十四 三十一 九十九".split()


def test_no_day_is_trained_on_and_looked_at_later():
    days = {part: {iso for _, iso in made} for part, made in PARTS.items()}
    assert not days["train"] & (days["val"] | days["test"] | days["unseen"]) and not days["val"] & days["test"]
    assert len(days["train"] | days["val"] | days["test"]) == 36525
    assert len(days["val"]) / 36525 == pytest.approx(0.1, abs=0.01)
    assert SPLIT.shared == 0


def test_unseen_forms_of_some_years_are_in_no_other_part():
    def unseen(text: str, iso: str) -> bool:
        day = date.fromisoformat(iso)
        return any(dates.FORMS[form](day) == text and day.year in years for form, years in dates.UNSEEN.items())

    assert all(unseen(*pair) for pair in PARTS["unseen"]) and len(PARTS["unseen"]) > 2000
    for part in ("train", "val", "test"):
        assert not any(unseen(*pair) for pair in PARTS[part])


def test_each_form_and_every_year_is_trained_on():
    forms = Counter(
        form
        for text, iso in SPLIT.train[::10]
        for form, write in dates.FORMS.items()
        if write(date.fromisoformat(iso)) == text
    )
    assert set(forms) == set(dates.FORMS)
    assert {iso[:4] for _, iso in SPLIT.train} == {str(year) for year in range(1950, 2050)}


# --- Other pairs ---


def test_multi30k_is_divided_as_published(data_dir):
    pairs = data.read_pairs("multi30k")
    split = pairs.split(1)
    assert (len(split.train), len(split.val), len(split.apart["test"])) == (29000, 1014, 1000)
    german, english = split.train[0]
    assert german.startswith("Zwei junge weiße Männer") and english.startswith("Two young, White males")
    assert not pairs.private and split.shared == 0


def test_a_file_of_pairs_is_private_and_divided_by_source(tmp_path):
    path = tmp_path / "mine.tsv"
    lines = [f"s{i % 40}\tt{i}" for i in range(100)] + ["", "s1\tt1"]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    pairs = data.read_pairs(path)
    split = pairs.split(3)
    assert pairs.private and pairs.name == "mine" and pairs.split(3) == split != pairs.split(4)
    assert len(split.train) + len(split.val) == 100 and len({s for s, _ in split.val}) == 4
    assert not {s for s, _ in split.train} & {s for s, _ in split.val}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tb\nno tab", "line 2: a line is two texts with one tab between them, got 'no tab'"),
        ("a\tb\tc", "line 1: .*got 'a\\\\tb\\\\tc'"),
        ("a\t", "line 1"),
        ("a\tb\na\tc", "too small to be split: it has 1 distinct sources"),
    ],
)
def test_a_file_that_holds_no_pairs_is_told_in_a_line(text, said, tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        data.read_pairs(path).split(0)


def test_what_is_no_set_of_pairs_is_told_in_a_line(tmp_path):
    with pytest.raises(DataError, match="names holds no pairs of texts: choose dates, multi30k, or a FILE.tsv"):
        data.read_pairs("names")
    with pytest.raises(DataError, match="there is no file 'nowhere.tsv'"):
        data.read_pairs("nowhere.tsv")
    with pytest.raises(DataError, match="dates holds pairs, and this needs a text"):
        data.corpus("dates")
    with pytest.raises(DataError, match="made from Kakehashi's own rules"):
        data.get("dates")


# --- Batches ---

TEXTS = st.lists(st.tuples(st.text("abc", max_size=6), st.text("abc", max_size=6)), min_size=1, max_size=30)
TOKENIZER = CharTokenizer.train(["abc"])


def pairs_of(batch) -> list[tuple[str, str]]:
    """The pairs that a batch holds, read back; and that its parts fit together."""
    (source, target), real, targets = batch.inputs, batch.options["source_pad"], batch.targets
    assert (
        source.shape == real.shape
        and target.shape == targets.shape
        and {a.dtype for a in batch.inputs} == {np.dtype(np.int64)}
    )
    assert (target[:, 0] == TOKENIZER.end).all() and batch.n_targets == (targets != IGNORE).sum()
    found = []
    for row in range(len(source)):
        said, asked = source[row][real[row]], targets[row][targets[row] != IGNORE]
        assert said[-1] == asked[-1] == TOKENIZER.end and (source[row][~real[row]] == TOKENIZER.end).all()
        np.testing.assert_array_equal(target[row, 1 : len(asked)], asked[:-1])
        found.append((TOKENIZER.decode(said), TOKENIZER.decode(asked)))
    return found


@given(TEXTS, st.integers(1, 9), st.integers(0, 3))
@settings(max_examples=40)
def test_an_epoch_and_the_whole_hold_each_pair_once(pairs, batch_size, seed):
    source = PairSource(pairs, TOKENIZER)
    steps = -(-len(pairs) // batch_size)
    for epoch in range(2):
        batches = [source.batch(epoch * steps + i, batch_size, seed) for i in range(steps)]
        assert sorted(pair for batch in batches for pair in pairs_of(batch)) == sorted(pairs)
        assert all(0 < len(batch.targets) <= batch_size for batch in batches)
        assert sum(batch.n_targets for batch in batches) == source.n_targets
    assert sorted(pair for batch in source.whole(batch_size) for pair in pairs_of(batch)) == sorted(pairs)


def test_a_text_that_would_fill_the_memory_is_refused_in_a_line():
    assert PairSource([("a" * 2047, "b")], TOKENIZER).n_items == 1
    with pytest.raises(DataError, match=r"at most 2048 tokens, and 'bbb.*'\.\.\. has 2049: cut it into sentences"):
        PairSource([("a", "b" * 2048)], TOKENIZER)


def test_a_batch_is_a_pure_function_of_step_size_and_seed():
    one, other = (PairSource(SPLIT.val[:300], CharTokenizer.train(map("".join, SPLIT.val))) for _ in range(2))
    for step, size, seed in [(0, 32, 1), (25, 32, 1), (3, 7, 1), (0, 32, 2), (0, 32, 1)]:
        np.testing.assert_equal(one.batch(step, size, seed), other.batch(step, size, seed))
    orders = [one.batch(step, 300, seed).inputs[0].tolist() for step, seed in [(0, 1), (1, 1), (0, 2)]]
    assert orders[0] != orders[1] and orders[0] != orders[2]


def test_batches_hold_pairs_of_about_the_same_length():
    source = PairSource(SPLIT.train[:3000], CharTokenizer.train(map("".join, SPLIT.train)))
    share = np.mean([source.batch(step, 50, 0).options["source_pad"].mean() for step in range(60)])
    assert share > 0.8
    widths = [source.batch(step, 50, 0).inputs[0].shape[1] for step in range(60)]
    assert widths != sorted(widths), "short and long batches come in any order"
