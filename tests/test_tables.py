"""Tables of texts with classes: how they are read, what is refused, how they are divided and cut into batches."""

import csv
import io
import json
import tracemalloc
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kakehashi.data import DataError, tables, training_texts
from kakehashi.data.batches import IGNORE
from kakehashi.data.tables import Form, Labelled, Row, Table
from kakehashi.data.text import _is_short_cp932
from kakehashi.tokenizers import BPETokenizer, CharTokenizer, WordPieceTokenizer

ROWS = [
    ("card lost,\nplease help", "cards"),
    ('he said "no"', "people"),
    ("残高が違う", "残高"),
    ("card; stolen", "cards"),
]


def written(path, rows, header=("body", "team"), encoding="utf-8", **dialect):
    file = io.StringIO(newline="")
    csv.writer(file, **dialect).writerows([header, *rows])
    path.write_bytes(file.getvalue().encode(encoding))
    return path


def table(rows, **more) -> Table:
    texts, labels = zip(*rows, strict=True)
    return Table("made", texts, labels, "", True, "", "", "", ("text", "label"), **more)


def refused(path, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        tables.read(path, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Reading ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932", "euc_jp"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_whatever_its_encoding_and_delimiter(tmp_path, encoding, delimiter):
    rows = [
        *ROWS,
        *(("カードを紛失しました。再発行をお願いします", "カード") for _ in range(5)),
    ]  # enough to be detected
    path = written(tmp_path / "tickets.csv", rows, encoding=encoding, delimiter=delimiter)
    found = tables.read(path, "body", "team")
    assert list(zip(found.texts, found.labels, strict=True)) == rows
    assert (found.name, found.private, found.columns) == ("tickets", True, ("body", "team"))
    assert found.source == str(path.resolve()) and found.n_empty == found.n_torn == 0
    assert (encoding.removesuffix("-sig") in found.origin) and found.classes == tuple(sorted(dict(map(reversed, rows))))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_and_empty_lines_make_no_difference(tmp_path, line_end):
    path = tmp_path / "t.csv"
    path.write_bytes(f'{line_end}text,label{line_end}{line_end}"a{line_end}b",x{line_end}c,y'.encode())
    found = tables.read(path)
    assert (found.texts, found.labels) == (("a\nb", "c"), ("x", "y"))


def test_a_tsv_has_tabs_and_json_lines_have_keys(tmp_path):
    path = written(tmp_path / "t.tsv", [("a, b; c", "x"), ("d", "y")], ("text", "label"), delimiter="\t")
    assert tables.read(path).texts == ("a, b; c", "d")
    values = [{"text": "a\nb", "label": "x"}, {"text": "残高", "label": 3}, {"text": "c", "label": True, "more": {}}]
    path = tmp_path / "t.jsonl"
    path.write_text("\n\n".join(map(json.dumps, values)), encoding="utf-8")
    found = tables.read(path)
    assert (found.texts, found.labels) == (("a\nb", "残高", "c"), ("x", "3", "true"))


def test_labels_that_only_look_alike_stay_apart_and_are_counted():
    names = ["Card", "card", "ｶｰﾄﾞ", "カード", "one  card", "one card", "money"]
    split = table([(f"text {i}", names[i % 7]) for i in range(70)]).split()
    assert split.said["alike"] == 6 and len(split.classes) == 7


def test_white_space_makes_no_other_text():
    assert len({tables.same(text) for text in ("a b", "a  b", " a\u3000b", "A\nB\t")}) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (r'{"text": "bad \ud83d text", "label": "x"}', r"line 3: 'text' has half a character, '\ud83d'"),
        (r'{"text": "a", "label": "\udfff"}', r"line 3: 'label' has half a character, '\udfff'"),
        ('{"text": "a", "label": ["x"]}', "line 3: 'label' must be one label, got \"['x']\""),
        ('{"text": "a", "label": {"x": 1}}', "line 3: 'label' must be one label"),
    ],
)
def test_what_is_wrong_in_a_line_of_json_is_named_with_its_line(tmp_path, line, why):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "b", "label": "x"}\n{"text": "c", "label": "y"}\n' + line, encoding="utf-8")
    assert why in refused(path)


def test_a_label_that_is_no_number_is_empty(tmp_path):
    path = tmp_path / "t.jsonl"
    labels = ["NaN", "1", "Infinity", "2", "-Infinity"]
    path.write_text("".join(f'{{"text": "t", "label": {label}}}\n' for label in labels), encoding="utf-8")
    found = tables.read(path)
    assert (found.labels, found.n_empty) == (("1", "2"), 3)


def test_an_array_of_json_is_told_how_to_be_lines(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('[{"text": "a", "label": "b"}]', encoding="utf-8")
    assert "write it so, as a .jsonl" in refused(path)


SYLLABLES = [*"ｱｲｳｴｵﾅﾆﾇﾈﾉﾏﾐﾑﾒﾓﾗﾘﾙﾚﾛﾝ", "ｶﾞ", "ﾄﾞ", "ﾌﾟ", "ｰ", "ｯﾄ", "ｼｮ"]


@given(st.lists(st.lists(st.sampled_from(SYLLABLES), min_size=2, max_size=5).map("".join), min_size=2, max_size=5))
def test_short_half_width_kana_are_read(tmp_path_factory, words):
    content = "text,label\n" + "".join(f"{word}が届かない,{'ab'[i % 2]}\n" for i, word in enumerate(words))
    path = tmp_path_factory.getbasetemp() / "kana.csv"
    path.write_bytes(content.encode("cp932"))
    assert tables.read(path).texts == tuple(f"{word}が届かない" for word in words)


LATIN = [
    "élève à l'école",
    "«DÉJÀ VU»",
    "Señor Muñoz, ¿qué?",
    "Müller fährt Straße",
    "ÅNGSTRÖM",
    "café",
    "naïve",
    "£5 ½",
]


@given(st.lists(st.sampled_from(LATIN), min_size=1, max_size=6).map(" ".join), st.integers(0, 9))
def test_other_encodings_do_not_become_japanese(text, cut):
    assert not _is_short_cp932(text.encode("latin-1"))
    torn = ("残高が違う、カード" + text).encode("utf-8")
    assert not _is_short_cp932(torn[: 20 - cut] + torn[21:])
    assert not _is_short_cp932("élève, père, été".encode()[cut:] + b"\xc9")
    assert not _is_short_cp932("カードが届きません、残高が合わない"[cut:].encode("euc_jp"))


def test_rows_without_text_or_label_and_torn_rows_are_left_out_and_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\na,x\n , x\nb,\n,\nc\nd,y,z\ne,y\n", encoding="utf-8")
    found = tables.read(path)
    assert (found.texts, found.n_empty, found.n_torn) == (("a", "e"), 3, 2)
    path = tmp_path / "t.jsonl"
    lines = [{"text": "a", "label": "x"}, {"text": None, "label": "x"}, {"label": "x"}, {"text": "b", "label": "y"}]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = tables.read(path)
    assert (found.texts, found.n_empty, found.n_torn) == (("a", "b"), 1, 1)


@given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from(["x", "y, z", 'q"'])), min_size=1, max_size=20))
def test_what_a_csv_writer_wrote_is_read_back(tmp_path_factory, rows):
    controls = {"Cc", "Cs"}
    rows = [
        (text, label)
        for text, label in rows
        if text.strip() and not {unicodedata.category(each) for each in text} & controls and text[0] != "\ufeff"
    ]
    rows += [("a", "x"), ("b", "y, z")]
    path = written(tmp_path_factory.getbasetemp() / "any.csv", rows)
    found = tables.read(path, "body", "team", "utf-8")
    assert list(zip(found.texts, found.labels, strict=True)) == [(text.strip(), label) for text, label in rows]


def test_a_missing_column_names_those_that_are_there_the_nearest_first(tmp_path):
    path = written(tmp_path / "t.csv", [("1", "a", "x")], ("id", "body text", "Team"))
    assert "has no column 'team': those that its first line names are 'Team'" in refused(path, "body text", "team")
    assert "has no column 'text': those that its first line names are 'body text'" in refused(path)
    assert "text and label are both the column 'id'" in refused(path, "id", "id")


def test_what_is_no_table_of_classes_is_refused_in_one_line(tmp_path):
    def file(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    numbers = "".join(f"text {i},{i}.5\n" for i in range(30))
    words = "".join(f"text {i},label {i}\n" for i in range(1001))
    assert "holds 30 different numbers in 30 rows, such as '0.5'" in refused(file("text,label\n" + numbers))
    assert "1,001 classes in 'label', and the most are 1,000: did you mean" in refused(file("text,label\n" + words))
    assert "one class only, 'x' in 'label': did you mean" in refused(file("text,label\na,x\nb,x\n"))
    assert "has no row with a text and a label" in refused(file("text,label\n,x\n"))
    assert "looks binary" in refused(file(b"PK\x03\x04\0\0\xff"))
    assert "is empty" in refused(file(b""))
    assert "its first line names are 'card', 'x1'" in refused(file("x1,card\nb,y\n"), "care")  # no header
    assert "line 3: unexpected end of data; a quote" in refused(file('text,label\n"a,x\nb,y\n'))
    assert "line 2 is not JSON" in refused(file('{"text": "a", "label": "x"}\n{"text"\n', "t.jsonl"))
    assert "line 1: a line is an object {...}, got '[1]'" in refused(file("[1]\n", "t.jsonl"))
    assert "line 1: 'text' must be a text, got '7'" in refused(file('{"text": 7, "label": "x"}\n', "t.jsonl"))
    assert "there is no file" in refused(tmp_path / "none.csv")
    assert "cannot read" in refused(tmp_path)
    assert "digits holds no texts with classes: choose banking77, clinc150" in refused("digits")
    assert "has its texts in 'text', its classes in 'category', not 'label'" in refused("banking77", None, "label")


def test_a_cell_may_be_a_long_document(tmp_path):
    path = written(tmp_path / "t.csv", [("a " * 200_000, "x"), ("b", "y")], ("text", "label"))
    assert len(tables.read(path).texts[0]) == 399_999


def test_classes_may_be_numbers(tmp_path):
    path = written(tmp_path / "t.csv", [(f"text {i}", i % 30) for i in range(300)], ("text", "label"))
    assert len(tables.read(path).classes) == 30


def test_a_large_file_is_read_in_one_pass_and_little_more_memory_than_its_text(tmp_path):
    path = written(
        tmp_path / "t.csv", [("a" * 90, f"c{i % 9}", "b" * 900) for i in range(9000)], ("text", "label", "x")
    )
    size = path.stat().st_size
    tracemalloc.start()
    try:
        tables.read(path, encoding="utf-8")
        assert tracemalloc.get_traced_memory()[1] < 4 * size
    finally:
        tracemalloc.stop()


# --- Sets known by name ---


def test_banking77_has_its_own_test(data_dir):
    train, test = tables.read("banking77"), tables.read("banking77", part="test")
    assert (len(train.texts), len(test.texts), len(train.classes)) == (10003, 3080, 77)
    assert train.classes == test.classes and not train.private and train.licence == "CC BY 4.0"
    split = train.split()
    assert training_texts("banking77") == ("banking77", [row.text for row in split.train])


def test_clinc150_has_its_own_validation_and_texts_of_no_class(data_dir):
    found = tables.read("clinc150")
    split = found.split(5)
    assert (len(found.texts), len(split.val), len(split.classes), split.name) == (15000, 3000, 150, "as published")
    assert len(split.train) > 14990 and split.shared == 0  # without what is validated on
    assert len(tables.read("clinc150", part="test").texts) == 4500
    outside = tables.outside("val"), tables.outside("test")
    assert list(map(len, outside)) == [100, 1000] and not {*outside[0], *outside[1]} & set(found.texts)
    with pytest.raises(DataError, match="part must be val or test, got 'train'"):
        tables.outside("train")


# --- Dividing ---


@given(
    st.lists(st.tuples(st.sampled_from("aAbcdｅeéfgh "), st.sampled_from("xyz")), min_size=4, max_size=40),
    st.integers(0, 3),
)
def test_no_text_stands_on_both_sides_and_none_is_lost(rows, seed):
    rows = [(f"text {letter}", label) for letter, label in rows]
    try:
        split = table(rows).split(seed)
    except DataError:
        labels = {(tables.same(text), label) for text, label in rows}
        n_texts = Counter(label for _, label in labels)
        assert {text for text, _ in labels} == {text for text, label in labels if n_texts[label] == 1}
        return
    train, val = ({tables.same(row.text) for row in part} for part in (split.train, split.val))
    assert not train & val and split.shared == 0
    kept = [(tables.same(row.text), row.label) for row in split.train + split.val]
    assert Counter(kept) == Counter({(tables.same(text), label) for text, label in rows})
    assert {row.label for row in split.train} == set(split.classes)  # nothing is validated on that was not learnt
    assert split.said["alone"] == len(set(split.classes) - {row.label for row in split.val})
    assert split == table(rows).split(seed)


def test_a_tenth_of_each_class_is_validated_on_and_one_text_of_a_small_class():
    rows = [(f"{label} {i}", label) for label, n in (("big", 100), ("small", 2), ("alone", 1)) for i in range(n)]
    split = table(rows, n_empty=3, n_torn=4).split()
    assert Counter(row.label for row in split.val) == {"big": 10, "small": 1}
    assert Counter(row.label for row in split.train) == {"big": 90, "small": 1, "alone": 1}
    assert split.classes == ("alone", "big", "small")
    assert split.said == {"empty": 3, "torn": 4, "both": 0, "alike": 0, "alone": 1}
    assert split.name == "by text in each class, seed 1337, 90/10"
    assert table(rows).split(1).val != split.val


def test_a_text_with_two_labels_stays_on_one_side_with_both():
    rows = [("Ｌｏｓｔ ", "x"), ("lost", "y"), ("LOST", "y"), ("found", "x"), ("kept", "y")]
    split = table(rows).split()
    assert split.said["both"] == 1
    (side,) = (part for part in (split.train, split.val) if any(tables.same(row.text) == "lost" for row in part))
    assert sorted(row.label for row in side if tables.same(row.text) == "lost") == ["x", "y"]


def test_too_few_texts_to_divide_are_refused():
    with pytest.raises(
        DataError, match="made is too small to be split: no class in 'label' has a distinct text to spare"
    ):
        table([("a", "x"), ("b", "y"), ("B", "y")]).split()


# --- Numbers ---


TOKENIZER = CharTokenizer.train(["abcdefgh"])
FORM = Form(("x", "y"), TOKENIZER, 4)


def test_texts_become_tokens_with_padding_at_either_end():
    tokens, real = FORM.numbers(["ab", "", "cdefgh"])
    assert tokens.tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [0, 3, 4, 5]]
    assert real.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    tokens, real = FORM.numbers(["ab", "", "cdefgh"], left=True)
    assert tokens.tolist() == [[0, 0, 1, 2], [0, 0, 0, 0], [0, 3, 4, 5]]
    assert real.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]]
    assert tokens.dtype == np.int64 and real.dtype == bool


def test_the_length_reads_99_of_100_texts_whole():
    texts = ["ab"] * 99 + ["abcdefgh"]
    assert Form.of(("x", "y"), TOKENIZER, texts).length == 3
    assert Form.of(("x", "y"), TOKENIZER, texts[1:]).length == 9
    assert Form.of(("x", "y"), TOKENIZER, texts[1:], most=5).length == 5
    assert Form.of(("x", "y"), TOKENIZER, ["a" * 999]).length == tables.LONGEST


def test_batches_hold_each_text_once_an_epoch_as_wide_as_the_longest():
    rows = [Row("abcdefgh"[: 1 + i % 5], "xy"[i % 2]) for i in range(10)]
    source = Labelled(rows, FORM)
    assert (source.n_items, source.n_targets, source.n_cut) == (10, 10, 4)
    epoch = [source.batch(step, 5, seed=3) for step in range(2)]
    seen = Counter()
    for batch in epoch:
        real = batch.options.get("pad", np.ones_like(batch.inputs[0], dtype=bool))
        assert real.any(0).all() and batch.n_targets == 5  # no column is padding alone
        seen.update(zip(real.sum(1).tolist(), batch.targets.tolist(), strict=True))
    assert seen == Counter((min(4, 2 + i % 5), i % 2) for i in range(10))
    again = source.batch(1, 5, seed=3)
    assert (again.inputs[0] == epoch[1].inputs[0]).all() and (again.targets == epoch[1].targets).all()
    orders = [np.concatenate([source.batch(step, 5, seed).targets for step in (0, 1)]).tolist() for seed in range(4)]
    assert any(a != b for a, b in pairwise(orders))
    whole = np.concatenate([batch.targets for batch in source.whole(3)])
    assert whole.tolist() == [i % 2 for i in range(10)]


def test_a_language_model_is_to_name_the_class_as_its_next_token():
    batch = Labelled([Row("ab", "y"), Row("a", "x")], FORM, left=True).batch(0, 2, seed=0)
    targets = batch.targets
    assert (targets[:, :-1] == IGNORE).all() and sorted(targets[:, -1]) == [9, 10]  # after END and 8 characters
    assert batch.n_targets == 2 and batch.options["pad"][:, -1].all()
    equal = Labelled([Row("ab", "y"), Row("ba", "x")], FORM, left=True).batch(0, 2, seed=0)
    assert equal.options == {}


def test_the_classes_stand_at_the_end_of_what_follows_the_last_token():
    logits = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    assert tables.answers(logits, 2).tolist() == [[13, 14], [28, 29]]
    assert tables.answers(logits[:, 0, :2], 2).tolist() == [[0, 1], [15, 16]]


@pytest.mark.parametrize(
    "tokenizer",
    [TOKENIZER, WordPieceTokenizer.train(["card lost, card found"], 30), BPETokenizer.train(["card lost"], 260)],
)
def test_a_form_is_written_and_read_back(tmp_path, tokenizer):
    form = Form(("残高", "y"), tokenizer, 7)
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(form.to_dict()), encoding="utf-8")
    again = tables.load_form(path)
    assert (again.classes, again.length) == (form.classes, 7) and again.to_dict() == form.to_dict()
    assert form.to_dict().keys() == {"format", "kind", "tokenizer", "classes", "length"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kind": "images"},
        {"length": 0},
        {"length": "7"},
        {"length": float("inf")},
        {"classes": ["x"]},
        {"classes": None},
        {"classes": "abc"},
        {"classes": ["x", 1]},
        {"tokenizer": 1},
    ],
)
def test_what_is_no_form_is_refused(tmp_path, change):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(FORM.to_dict() | change), encoding="utf-8")
    with pytest.raises(DataError, match="texts.json: this is not the form of texts"):
        tables.load_form(path)
    for content in ("{", "", "[" * 100_000):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="is not JSON"):
            tables.load_form(path)
    for content in ("[]", "null"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="is not the form of texts"):
            tables.load_form(path)
