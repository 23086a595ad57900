"""Words for people: both languages whole, one Japanese word for a term, no text that a terminal cannot show."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kakehashi import texts
from kakehashi.texts import Texts, t

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "kakehashi"
SAME = ("cli.fault.column_id", "tour.column.blank")  # the same word in both languages


def pairs() -> list[str]:
    """Every pair of text files of the package, as its path with {lang} in it."""
    files = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.suffix in (".toml", ".md")]
    named = [re.sub(r"(?<![^./])(en|ja)(?=[./])", "{lang}", file) for file in files]
    return sorted({name for name in named if "{lang}" in name})


@pytest.fixture(autouse=True)
def no_language_chosen(monkeypatch, tmp_path):
    for name in ("KAKEHASHI_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    texts.use(None)
    yield
    monkeypatch.undo()
    texts.use(None)


@pytest.fixture
def pair(tmp_path):
    """pair(english, japanese, ".toml") -> Texts of two files with these contents."""

    number = itertools.count()

    def write(english: str, japanese: str, suffix: str = ".toml") -> Texts:
        stem = f"{next(number)}"  # a file is read once, so each pair has names of its own
        (tmp_path / f"{stem}.en{suffix}").write_text(english, encoding="utf-8")
        (tmp_path / f"{stem}.ja{suffix}").write_text(japanese, encoding="utf-8")
        return Texts(tmp_path / f"{stem}.{{lang}}{suffix}")

    return write


def test_every_pair_of_the_package_is_found():
    assert {"texts/{lang}/cli.toml", "journey/stations/{lang}.md"} <= set(pairs())


@pytest.mark.parametrize("path", pairs())
def test_both_languages_are_whole(path):
    assert Texts(PACKAGE / path).problems(same=SAME) == []


def test_japanese_pages_use_the_terms_of_the_glossary():
    for page in [*ROOT.glob("*.ja.md"), *ROOT.glob("docs/**/*.ja.md")]:
        assert texts.forbidden(page.read_text(encoding="utf-8")) == [], page.name


def test_the_glossary_is_large_consistent_and_japanese():
    terms = texts.glossary()
    assert len(terms) >= 50
    assert terms["gradient"]["ja"] == "勾配" and terms["learning rate"]["ja"] == "学習率"
    for term, entry in terms.items():
        assert set(entry) <= {"ja", "not"} and texts.forbidden(entry["ja"]) == [], term
        for variant in entry.get("not", []):
            assert texts.forbidden(f"この{variant}は") == [f"{variant}: write {entry['ja']} ({term})"]


def test_a_variant_is_found_only_where_it_is_a_word_of_its_own():
    assert texts.forbidden("ロスが減る") and not texts.forbidden("クロス集計とプロセス")
    assert texts.forbidden("パラメーターの数") and not texts.forbidden("パラメータの数")
    assert len(texts.forbidden("ロスとアテンションとロス")) == 2


@pytest.mark.parametrize(
    ("english", "japanese", "problem"),
    [
        ('a = "x"\nb = "y"', 'a = "あ"', "'b' is in one language only"),
        ('a = "x"', 'a = "あ"\nb = "い"', "'b' is in one language only"),
        ('a = "{n} runs"', 'a = "実行"', "'a' has placeholders ['n'] in en, [] in ja"),
        ('a = "runs"', 'a = "runs"', "'a' is not Japanese in ja: 'runs'"),
        ('a = "runs"', 'a = " "', "'a' is empty"),
        ('a = "{"', 'a = "あ"', "a brace itself is doubled"),
        ('a = "attention"', 'a = "アテンション"', "write 注意機構 (attention)"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(english, japanese, problem, pair):
    (found,) = pair(english, japanese).problems()
    assert problem in found


def test_what_is_right_with_a_pair_is_let_pass(pair):
    whole = pair(
        'a = "{n:.2f} of {m}"\nb = "✓ {n}: {m}"\nc = "GPT-2"', 'a = "{m} 中の {n}"\nb = "✓ {n}: {m}"\nc = "GPT-2"'
    )
    assert whole.problems(same=("c",)) == [] and len(whole.problems()) == 1


def test_tables_become_dotted_keys_and_values_are_filled_in(pair):
    both = pair('[a.b]\nc = "{loss:.2f} {{x}}"', '[a.b]\nc = "損失 {loss:.2f}"')
    texts.use("en")
    assert both.get("a.b.c", loss=1.239) == "1.24 {x}"
    texts.use("ja")
    assert both.get("a.b.c", loss=1.239) == "損失 1.24"
    assert both.all("en") == {"a.b.c": "{loss:.2f} {{x}}"}


def test_markdown_has_a_title_an_introduction_and_sections_by_key(pair):
    page = "# The title\nWhy.\n\n## hint GPT.forward\n\nOne.\n\n```\n## no heading\n```\n### small\n"
    page += "## wrong shape\n{want}\n"
    both = pair(page, page, ".md")
    assert both.all("en") == {
        "title": "The title",
        "intro": "Why.",
        "hint GPT.forward": "One.\n\n```\n## no heading\n```\n### small",
        "wrong shape": "{want}",
    }
    assert both.get("wrong shape", want=(2, 3)) == "(2, 3)"
    with pytest.raises(ValueError, match="two sections are called 'a'"):
        pair("## a\n## a\n", "", ".md").all("en")


def test_an_unknown_key_and_a_missing_value_are_bugs(pair):
    texts.use("en")
    with pytest.raises(KeyError, match="no text 'cli.no_such_key'"):
        t("cli.no_such_key")
    with pytest.raises(KeyError, match="n"):
        pair('a = "{n}"', 'a = "あ{n}"').get("a")
    with pytest.raises(TypeError, match="not a string"):
        pair("a = 1", "").all("en")


def test_the_flag_goes_before_the_workspace_before_the_variable_before_the_system(monkeypatch, tmp_path):
    def now() -> str:
        texts.use(None)
        return texts.language()

    monkeypatch.setattr(sys, "platform", "linux")
    assert now() == "en"
    monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    assert now() == "ja"
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert now() == "en"
    monkeypatch.setenv("KAKEHASHI_LANG", "ja")
    assert now() == "ja"
    (tmp_path / "kakehashi.toml").write_text('lang = "en"\n', encoding="utf-8")
    assert now() == "en"
    texts.use("ja")
    assert texts.language() == "ja"


def test_a_language_that_is_not_there_and_broken_settings_are_one_clear_line(monkeypatch, tmp_path):
    with pytest.raises(texts.TextError, match="--lang: there is no language 'fr'; choose one of en, ja"):
        texts.use("fr")
    monkeypatch.setenv("KAKEHASHI_LANG", "de")
    with pytest.raises(texts.TextError, match="KAKEHASHI_LANG: there is no language 'de'"):
        texts.language()
    settings = tmp_path / "kakehashi.toml"
    for content in (b"lang = ", b"\xff", b"lang = 3"):
        settings.write_bytes(content)
        with pytest.raises(texts.TextError) as caught:
            texts.language()
        assert str(settings) in str(caught.value) and "\n" not in str(caught.value)


def test_glyphs_that_a_japanese_console_lacks_have_a_stand_in():
    assert texts.plain("✓ loss ≤ 1.9 — 損失 注意機構 ▃", "cp932") == "OK loss <= 1.9 - 損失 注意機構 -"
    assert texts.plain("é² 損", "ascii") == "e2 ?"
    assert texts.plain("✓ 損失", "utf-8") == texts.plain("✓ 損失", None) == "✓ 損失"


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp", "cp1252", "ascii", "utf-8"])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_plain_text_can_always_be_encoded_and_keeps_what_can(encoding, text):
    shown = texts.plain(text, encoding)
    shown.encode(encoding)
    assert texts.plain(shown, encoding) == shown
    if encoding == "utf-8":
        assert shown == text


def test_every_stand_in_is_ascii():
    assert "".join(texts.GLYPHS.values()).isascii()


def test_the_import_reads_no_text_and_nothing_heavy():
    script = """
import builtins, io, sys
opened = []
sys.addaudithook(lambda event, args: event == "open" and opened.append(str(args[0])))
import kakehashi.texts
print([name for name in opened if name.endswith((".toml", ".md"))])
print(sorted({"torch", "numpy", "matplotlib", "pydantic", "rich"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "[]\n[]\n"
