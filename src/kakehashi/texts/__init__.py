"""Words for people, in English and Japanese.

    t("cli.train.saved", run=run.path, steps=2000)      texts/en/cli.toml, texts/ja/cli.toml: [cli.train] saved = "..."

The first part of a key is also the file's name: one pair of files a room, whose keys stand there in full. Placeholders
are those of str.format ({loss:.3f}; a brace itself is doubled). To add a text, add the key to both files; a new room
adds two files.

Texts that lie elsewhere are read in the same way, by a path with {lang} in it:

    Texts(HERE / "gpt2.{lang}.toml").get("scale.title")
    Texts(HERE / "{lang}.md").get("wrong shape", want=3)     # "# Title" is "title", what follows "intro", then "## KEY"

The language is the first that is set of: `use` (the flag), `lang` in the workspace's kakehashi.toml, $KAKEHASHI_LANG,
the system's. `Texts.problems` is the test of a pair; the terms of glossary.toml keep the Japanese one. The import reads
no file.
"""

import functools
import os
import re
import string
import sys
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

from kakehashi import Mistake, paths

LANGUAGES = ("en", "ja")
HERE = Path(__file__).parent
GLYPHS = {  # what a terminal or pipe that lacks a character shows in its place
    **{"✓": "OK", "✔": "OK", "✗": "x", "✘": "x", "•": "-", "·": ".", "…": "...", "—": "-", "–": "-", "−": "-"},
    **{"“": '"', "”": '"', "‘": "'", "’": "'", "→": "->", "←": "<-", "⇒": "=>", "≤": "<=", "≥": ">=", "≠": "!="},
    **{"≈": "~", "×": "x", "±": "+-", "∞": "inf", "√": "sqrt", "∂": "d", "σ": "sigma", "μ": "mu", "λ": "lambda"},
    **dict(zip("▁▂▃▄▅▆▇█", "._-~=+*#", strict=True)),
    **dict.fromkeys("─━═", "-"),
    **dict.fromkeys("│┃║", "|"),
}
_JAPANESE = re.compile("[\u3041-\u30ff\u4e00-\u9fff]")  # kana or kanji
_chosen: str | None = None


class TextError(Mistake):
    """A language that is not there, or settings that cannot be read."""


class Texts:
    """The texts of one pair of files, `path` with "en" and "ja" for {lang}; read when first asked for."""

    def __init__(self, path: str | Path):
        self.path = str(path)

    def all(self, lang: str | None = None) -> dict[str, str]:
        """{key: text with its placeholders}, in the file's order; keys of a TOML file are dotted. Do not change it."""
        return _read(self.path.replace("{lang}", lang or language()))

    def get(self, key: str, /, **values: object) -> str:
        """The text in the language in use. KeyError for a key or a placeholder's value that is not there: a bug."""
        known = self.all()
        if key not in known:
            raise KeyError(f"no text {key!r} in {self.path}")
        return known[key].format_map(values)

    def problems(self, same: tuple[str, ...] = ()) -> list[str]:
        """What keeps the pair from being whole, a line each; [] where all is well.

        Both files have the same keys with the same placeholders; no text is empty; a Japanese one with words in it
        holds kana or kanji, unless its key is in `same`, and no variant that the glossary forbids.
        """
        english, japanese = self.all("en"), self.all("ja")
        found = [f"{self.path}: {key!r} is in one language only" for key in sorted(english.keys() ^ japanese.keys())]
        for key in english.keys() & japanese.keys():
            pair = english[key], japanese[key]
            try:
                asked = [placeholders(text) for text in pair]
            except ValueError as error:
                found.append(f"{self.path}: {key!r}: {error} (a brace itself is doubled)")
                continue
            if asked[0] != asked[1]:
                found.append(
                    f"{self.path}: {key!r} has placeholders {sorted(asked[0])} in en, {sorted(asked[1])} in ja"
                )
            if not all(text.strip() for text in pair):
                found.append(f"{self.path}: {key!r} is empty")
            elif key not in same and _is_foreign(pair[1]):
                found.append(f"{self.path}: {key!r} is not Japanese in ja: {pair[1]!r}")
            found += [f"{self.path}: {key!r}: {line}" for line in forbidden(pair[1])]
        return sorted(found)


def t(key: str, /, **values: object) -> str:
    """The text of a key such as "cli.train.saved". KeyError for a key, or a value, that is not there."""
    return Texts(HERE / "{lang}" / f"{key.partition('.')[0]}.toml").get(key, **values)


def use(lang: str | None) -> None:
    """Speak this language from now on; None: look again at what the settings and the system say."""
    global _chosen
    _chosen = None if lang is None else _checked(lang, "--lang")
    _detected.cache_clear()


def language() -> str:
    """ "en" or "ja": the one in use. Raises TextError where a setting names another, or kakehashi.toml is broken."""
    return _chosen or _detected()


def placeholders(template: str) -> set[str]:
    """The names that a text asks for. ValueError where its braces do not match."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def glossary() -> dict[str, dict[str, Any]]:
    """{English term: {"ja": the Japanese one, "not": variants that are not used (optional)}}."""
    return tomllib.loads((HERE / "glossary.toml").read_text(encoding="utf-8"))


def forbidden(text: str) -> list[str]:
    """The variants in a Japanese text that the glossary forbids, each with the term to use; [] where there is none."""
    pattern, say = _variants()
    found = dict.fromkeys(match for match in pattern.findall(text) if match in say)
    return [f"{variant}: write {say[variant]}" for variant in found]


def plain(text: str, encoding: str | None) -> str:
    """`text` with a stand-in for every character that `encoding` lacks (None: UTF-8), so that printing cannot fail.

    >>> plain("✓ loss ≤ 1.9 — 損失", "cp932")
    'OK loss <= 1.9 - 損失'
    """
    return "".join(_stand_in(character, encoding or "utf-8") for character in text)


def _is_foreign(template: str) -> bool:
    """Letters outside the placeholders, and none of them Japanese."""
    words = "".join(literal for literal, *_ in string.Formatter().parse(template))
    return any(map(str.isalpha, words)) and not _JAPANESE.search(words)


@functools.lru_cache(4096)
def _stand_in(character: str, encoding: str) -> str:
    base = unicodedata.normalize("NFKD", character)[:1]  # é -> e, ² -> 2
    for candidate in (character, GLYPHS.get(character, ""), base):
        try:
            candidate.encode(encoding)
        except UnicodeEncodeError:
            continue
        if candidate:
            return candidate
    return "?"


@functools.cache
def _read(path: str) -> dict[str, str]:
    text = Path(path).read_text(encoding="utf-8")
    return _sections(text) if path.endswith(".md") else dict(_flat(tomllib.loads(text), ""))


def _flat(table: dict[str, Any], prefix: str):
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            yield prefix + name, value
        else:
            raise TypeError(f"text {prefix + name!r} is {value!r}, not a string")


def _sections(text: str) -> dict[str, str]:
    """Markdown by its "## KEY" headings; a line that begins so inside a fenced block is code."""
    found, key, fenced = {"intro": ""}, "intro", False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if line.startswith("# ") and not fenced and list(found) == ["intro"] and not found["intro"].strip():
            found = {"title": line[2:], "intro": ""}
        elif line.startswith("## ") and not fenced:
            key = line[3:].strip()
            if key in found:
                raise ValueError(f"two sections are called {key!r}")
            found[key] = ""
        else:
            found[key] += line
    return {key: body.strip() for key, body in found.items() if key != "intro" or body.strip()}


@functools.cache
def _variants() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of all terms and variants, the longest first, so that a term that holds a variant is let pass."""
    say = {variant: f"{entry['ja']} ({term})" for term, entry in glossary().items() for variant in entry.get("not", [])}
    words = sorted({*say, *(entry["ja"] for entry in glossary().values())}, key=len, reverse=True)
    # A word in katakana begins where katakana begins: ロス is not in クロス.
    starts = [("(?<![ァ-ヺー])" if "ァ" <= word[0] <= "ヺ" else "") + re.escape(word) for word in words]
    return re.compile("|".join(starts)), say


@functools.cache
def _detected() -> str:
    if folder := paths.workspace():
        settings = folder / paths.WORKSPACE_FILE
        try:
            lang = tomllib.loads(settings.read_text(encoding="utf-8")).get("lang")
        except (OSError, ValueError) as error:
            raise TextError(f"cannot read {settings}: {error}; mend it, or delete it and set lang again") from error
        if lang is not None:
            return _checked(lang, str(settings))
    if lang := os.environ.get("KAKEHASHI_LANG"):
        return _checked(lang, "KAKEHASHI_LANG")
    return "ja" if _system_locale().lower().startswith("ja") else "en"


def _checked(lang: object, where: str) -> str:
    if lang not in LANGUAGES:
        raise TextError(f"{where}: there is no language {lang!r}; choose one of {', '.join(LANGUAGES)}")
    return str(lang)


def _system_locale() -> str:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value
    if sys.platform == "win32":
        import ctypes

        return "ja" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == 0x11 else ""
    if sys.platform == "darwin":
        import subprocess

        asked = ["defaults", "read", "-g", "AppleLocale"]
        return subprocess.run(asked, capture_output=True, encoding="utf-8", check=False).stdout
    return ""
