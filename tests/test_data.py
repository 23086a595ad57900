"""Corpora: the embedded sets, any file or folder, the split, encodings, and one clear line for what cannot be read."""

import ast
import os
import random
import re
import subprocess
import sys
import sysconfig
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kakehashi import Mistake, data
from kakehashi.data import identifiers, stdlib_code

JAPANESE = "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。\n"


def says(call, *words):
    """The call raises a DataError of one line that holds all the words."""
    with pytest.raises(data.DataError) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, Mistake) and "\n" not in message
    assert all(word in message for word in words), message


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# The embedded sets


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An empty user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAKEHASHI_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def words(home):
    return data.corpus("identifiers")


def test_identifiers_are_thousands_of_distinct_words(words):
    assert (words.unit, words.private) == ("document", False)
    assert len(words.documents) == len(set(words.documents)) > 4000
    assert all(re.fullmatch("[a-z]{2,20}", word) for word in words.documents)
    assert {"buffer", "encode", "unpack", "server", "fd"} <= set(words.documents)


def test_identifiers_stand_in_the_sources(words):
    sources = "\n".join(text for _, text in stdlib_code.files()).lower()
    assert [word for word in words.documents[::50] if word not in sources] == []


def test_identifiers_are_kept_and_do_not_need_to_be(words, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", None)  # kept: nothing is parsed again
        assert data.corpus("identifiers") == words
    write(tmp_path / "file", "x")
    monkeypatch.setenv("KAKEHASHI_HOME", str(tmp_path / "file"))  # nowhere to keep anything
    assert data.corpus("identifiers") == words


def test_names_are_what_statements_define():
    source = """
import not_this
class Kept(Base):
    field: int = other
    def method(self, a, /, b=default, *rest, key=1, **more):
        try:
            self.attribute, (x, *y) = value[index] = called(z=1)
        except Error as caught:
            pass
        for i in loop: n += 1
        with opened as (one, two), closed: pass
        match thing:
            case _: inside = 1
async def later():
    async for j in k: pass
    async with l as m: pass
"""
    expected = "Kept field method self a b rest key more attribute x y caught i n one two inside later j m"
    assert sorted(identifiers.names(ast.parse(source))) == sorted(expected.split())


def test_names_are_split_at_underscores_digits_and_humps():
    given_names = ["HTTPServer", "_read_chunked", "b64decode", "MAX_SIZE", "aaaa", "a" * 12 + "b" * 12, "x", "größe"]
    expected = {"http", "server", "read", "chunked", "decode", "size"}
    assert set(identifiers.words(given_names)) - {"gr"} == expected
    assert identifiers.words(["_fd", "fd", "FD"]) == ()
    assert identifiers.words(["fd_set", "fd"]) == ("fd",)


def test_stdlib_code_is_whole_ascii_sources_below_the_cap():
    code = data.corpus("stdlib-code")
    assert (code.unit, code.private) == ("stream", False)
    assert 900_000 < sum(map(len, code.documents)) <= 1_000_000
    assert "\r" not in "".join(code.documents) and "".join(code.documents).isascii()
    assert all(ast.parse(text) for text in code.documents)
    assert sum(map(len, stdlib_code.documents(limit=50_000))) <= 50_000
    assert ".".join(map(str, sys.version_info[:3])) in code.origin


def test_stdlib_code_holds_no_tests_and_no_tables():
    files = [name for name, _ in stdlib_code.files()]
    assert files == sorted(set(files)) and "json/decoder.py" in files
    order = [text for _, text in stdlib_code.files()]
    places = [order.index(text) for text in stdlib_code.documents() if order.count(text) == 1]
    assert places == sorted(places)
    assert not [name for name in files if re.search(r"(^|/)tests?/|encodings/|pydoc_data|site-packages|idlelib", name)]


def test_only_ascii_sources_of_library_modules_are_taken_with_plain_line_ends(tmp_path, monkeypatch):
    write(tmp_path / "abc.py", "a = 1\r\n")
    write(tmp_path / "json" / "tool.py", "b = 2\n")
    write(tmp_path / "json" / "tests" / "case.py", "c = 3\n")
    write(tmp_path / "csv.py", "d = 'é'\n")
    write(tmp_path / "mine.py", "e = 5\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert stdlib_code.files.__wrapped__() == (("abc.py", "a = 1\n"), ("json/tool.py", "b = 2\n"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "none"))
    says(stdlib_code.files.__wrapped__, "no sources of its standard library", "--data")


def test_another_process_gets_the_same_texts_and_imports_no_torch(words):
    code = (
        "import sys; from kakehashi import data, tokenizers; "
        "assert not {'torch', 'charset_normalizer'} & set(sys.modules); "
        "print(*(data.corpus(name).sha256 for name in ('identifiers', 'stdlib-code')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [words.sha256, data.corpus("stdlib-code").sha256]


# Files and folders


def test_a_file_is_a_private_stream_or_one_document_a_line(tmp_path):
    path = write(tmp_path / "poem.txt", "one\r\n\r\n two \r\nthree")
    stream = data.corpus(path)
    assert (stream.name, stream.documents, stream.unit) == ("poem", ("one\n\n two \nthree",), "stream")
    assert stream.private and "utf-8" in stream.origin and data.corpus(stream.source) == stream
    lines = data.corpus(str(path), unit="document")
    assert (lines.documents, lines.unit) == (("one", "two", "three"), "document")
    assert lines.sha256 == stream.sha256


def test_a_folder_is_its_visible_texts_in_order_and_says_what_was_left_out(tmp_path):
    for name in "hgfedcb":
        write(tmp_path / name / "z.txt", name)
    write(tmp_path / "a.md", JAPANESE.encode("cp932"))
    write(tmp_path / "b" / "image.png", b"\x89PNG\0\0")
    write(tmp_path / "b" / "nothing.txt", b"")
    write(tmp_path / ".git" / "config", "hidden")
    write(tmp_path / ".hidden", "hidden")
    corpus = data.corpus(tmp_path)
    assert (corpus.documents, corpus.unit) == ((JAPANESE, *"bcdefgh"), "stream")
    assert "8 files read as cp932, utf-8, 2 left out" in corpus.origin
    assert data.corpus(tmp_path, unit="document").documents == corpus.documents


def test_a_path_beside_a_data_set_of_the_same_name_is_reached_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "identifiers" / "a.txt", "mine")
    assert data.corpus("./identifiers").documents == ("mine",)


def test_the_hash_tells_where_one_document_ends(tmp_path):
    for name, texts in {"x": ("ab", "c"), "y": ("a", "bc")}.items():
        for i, text in enumerate(texts):
            write(tmp_path / name / f"{i}.txt", text)
    assert data.corpus(tmp_path / "x").sha256 != data.corpus(tmp_path / "y").sha256


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    says(lambda: data.corpus(write(tmp_path / "empty.txt", b"")), "empty.txt", "empty (0 bytes)")
    says(lambda: data.corpus(write(tmp_path / "blank.txt", " \n\n")), "blank.txt", "white space")
    says(lambda: data.corpus(write(tmp_path / "x.bin", b"MZ\0\x01")), "x.bin", "binary", "character 2")
    says(lambda: data.corpus(write(tmp_path / "y.bin", b"\x89PNG\0")), "y.bin", "binary", "offset 4")
    says(lambda: data.corpus(tmp_path / "none.txt"), "none.txt", "no file", "identifiers, stdlib-code")
    says(lambda: data.read_text(tmp_path / "none.txt"), "no file", "none.txt")
    says(lambda: data.read_text(tmp_path), "cannot read")
    write(tmp_path / "pictures" / "x.png", b"\x89PNG\0")
    says(lambda: data.corpus(tmp_path / "pictures"), "no text file", "1 files")
    says(lambda: data.corpus("x" * 5000), "no file")
    says(lambda: data.corpus("~nobody-of-this-name/x.txt"), "no file")
    says(lambda: data.corpus("identifiers", unit="word"), "'word'", "document, stream")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only where there are named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    says(lambda: data.corpus(tmp_path / "pipe"), "neither a file nor a folder")


def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    path = write(tmp_path / "locked.txt", "text")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("only for users whom file modes bind")
    says(lambda: data.corpus(path), "locked.txt", "Permission denied")


# Encodings


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("cp932", "cp932"), ("euc_jp", "euc_jp")]
    + [("iso2022_jp", "iso2022_jp")],
)
@pytest.mark.parametrize("text", [JAPANESE, "田中\n鈴木\n佐藤\n", "ログ: ERROR 接続に失敗しました (code 5)\n"])
def test_the_encoding_of_japanese_text_is_detected(tmp_path, encoding, seen, text):
    path = write(tmp_path / "text.txt", text.replace("\n", "\r\n").encode(encoding))
    assert data.detect(path) == seen
    assert data.read_text(path) == data.read_text(path, encoding) == text
    assert seen in data.corpus(path).origin


def test_big_endian_utf_16_is_detected_too(tmp_path):
    path = write(tmp_path / "text.txt", b"\xfe\xff" + JAPANESE.encode("utf-16-be"))
    assert (data.detect(path), data.read_text(path)) == ("utf-16", JAPANESE)


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and "\x1b$" not in text and text[0] != "\ufeff"))
def test_every_utf_8_text_is_read_as_what_it_is(tmp_path_factory, text):
    path = write(tmp_path_factory.getbasetemp() / "text.txt", text)
    assert data.read_text(path) == text.replace("\r\n", "\n").replace("\r", "\n")


def test_utf_8_that_is_cut_in_a_character_is_not_taken_for_something_else(tmp_path):
    raw = JAPANESE.strip().encode()[:-1]
    says(lambda: data.corpus(write(tmp_path / "cut.txt", raw)), "cut.txt", f"offset {len(raw) - 2} is not UTF-8")


@pytest.mark.parametrize(("encoding", "why"), [("utf-16", "looks like utf-16, but"), ("cp932", "not UTF-8")])
def test_a_text_that_ends_in_a_character_says_so_and_is_left_out_of_a_folder(tmp_path, encoding, why):
    raw = (JAPANESE * 20).encode(encoding)
    broken = write(tmp_path / "broken.txt", raw + b"\x81")
    write(tmp_path / "whole.txt", raw)
    says(lambda: data.corpus(broken), "broken.txt", why, "--encoding")
    says(lambda: data.corpus(broken, encoding), f"is not {encoding}: byte 0x81 at offset {len(raw)}")
    assert f"1 files read as {encoding}, 1 left out" in data.corpus(tmp_path).origin


def test_a_stated_encoding_wins_and_a_wrong_one_says_where(tmp_path):
    path = write(tmp_path / "text.txt", "ab漢字".encode())
    assert data.read_text(path, "latin-1") == "ab漢字".encode().decode("latin-1")
    says(lambda: data.read_text(path, "ascii"), "text.txt is not ascii", "byte 0xe6 at offset 2", "--encoding")
    says(lambda: data.read_text(path, "cp9999"), "unknown encoding 'cp9999'")
    assert data.read_text(write(path, "\ufeffab"), "utf-8") == "ab"
    write(path, b"\xef\xbb\xbfab\xff")
    says(lambda: data.read_text(path, "utf-8-sig"), "byte 0xff at offset 5")
    says(lambda: data.read_text(path), "byte 0xff at offset 5")


# The split


def corpus(documents, unit):
    return data.Corpus("mine", tuple(documents), unit, "", True, "", "", "mine")


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=40), st.integers(0, 9))
def test_no_document_stands_on_both_sides_and_none_is_lost(documents, seed):
    distinct = set(documents)
    for unit in ("document", "stream"):
        if len(distinct) == 1:
            continue
        split = corpus(documents, unit).split(seed)
        assert len(split.train) + len(split.val) == len(distinct)
        assert set(split.train) | set(split.val) == distinct and split.train and split.val
        assert split == corpus(documents, unit).split(seed)


def test_documents_are_shuffled_by_the_seed_and_a_tenth_is_set_aside():
    names = corpus(map(str, range(1000)), "document")
    split, other = names.split(1), names.split(2)
    assert (len(split.val), split.name) == (100, "by document, seed 1, 90/10")
    assert split.val != names.documents[-100:] and set(split.val) != set(other.val)
    assert len(names.split(1, fraction=0.25).val) == 250


def test_a_stream_of_files_is_split_by_file_and_by_size():
    files = ["big" * 1000, *(f"{i:02}" * 50 for i in range(20))]
    for seed in range(5):
        split = corpus(files, "stream").split(seed, 0.1)
        assert files[0] in split.train and 400 <= sum(map(len, split.val)) <= 500
    assert "by document" in split.name


def test_a_single_text_ends_in_its_validation_part():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1000)))
    split = corpus([text, text], "stream").split(seed=5)
    assert split == data.Split((text[:900],), (text[900:],), "by position, 90/10")


@pytest.mark.parametrize(
    ("documents", "unit"), [(["anna"], "document"), (["anna"] * 9, "document"), (["a"], "stream"), ([], "document")]
)
def test_what_cannot_be_split_is_one_clear_line(documents, unit):
    says(lambda: corpus(documents, unit).split(), "mine is too small to be split 90/10", "choose more data")


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=10, max_size=60))
def test_the_lectures_split_keeps_duplicates_and_measures_them(documents):
    split = corpus(documents, "document").lecture_split()
    n = len(documents)
    assert (len(split.train), len(split.val)) == (n * 8 // 10, n * 9 // 10 - n * 8 // 10)
    assert not Counter(split.train + split.val) - Counter(documents)
    assert split.shared == sum(split.train.count(text) > 0 for text in split.val) / len(split.val)
    if len(set(documents)) > 1:
        assert corpus(documents, "document").split().shared == 0


def test_what_the_lectures_split_cannot_divide_is_one_clear_line():
    says(lambda: corpus(["abc"], "stream").lecture_split(), "mine is a stream", "--unit document")
    says(lambda: corpus(["a", "b"], "document").lecture_split(), "too small for the lecture's split: 2 documents")


# The real sets


def test_names_are_makemores(data_dir):
    names = data.corpus("names")
    assert (len(names.documents), names.documents[:2], names.unit, names.private) == (
        32033,
        ("emma", "olivia"),
        "document",
        False,
    )
    assert names.sha256 == {each.name: each for each in data.catalogue()}["names"].files[0].sha256
    split = names.split()
    assert len(split.train) + len(split.val) == len(set(names.documents)) == 29494


def test_names_are_split_as_the_lectures_do(data_dir):
    words = (data_dir / "names" / "names.txt").read_text(encoding="utf-8").splitlines()
    random.seed(42)
    random.shuffle(words)
    split = data.corpus("names").lecture_split()
    assert (split.train, split.val) == (tuple(words[:25626]), tuple(words[25626:28829]))
    assert f"{split.shared:.0%}" == "13%"


def test_tinyshakespeare_is_split_as_nanogpt_does(data_dir):
    split = data.corpus("tinyshakespeare").split()
    assert (len(split.train[0]), len(split.val[0])) == (1003854, 111540)
    assert split.val[0].startswith("?\n\nGREMIO:\nGood morrow, neighbour Baptista.")
