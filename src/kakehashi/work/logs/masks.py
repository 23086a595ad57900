"""Masks: which part of a word is a value (a number, an address, a path) and not text. The rules are a TOML file."""

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from kakehashi.work.logs.errors import LogError, of_kind

WILDCARD = "<*>"
HERE = Path(__file__).parent
SECONDS = 1.0  # what a rule of a person may take for one word
CACHED_WORDS, CACHED_LENGTH = 65_536, 100


@dataclass(frozen=True)
class Mask:
    """What matches `regex` in a word is a value; `name` says which sort."""

    name: str
    regex: str


class Masks:
    """Words with their values masked: all rules in one pass, and each word only once while it is remembered.

    A word with a port number is new every time, but most words of a log were seen a moment ago. Memory is bounded.
    Raises LogError for a rule that is no regular expression, or that takes longer than SECONDS for a word.
    """

    def __init__(self, masks: Iterable[Mask]):
        self.masks = tuple(masks)
        for mask in self.masks:
            _check(mask)
        pattern = "|".join(f"(?P<mask{i}>{mask.regex})" for i, mask in enumerate(self.masks)) or "(?!)"
        find: Any
        if self.masks == shipped():
            find, limit = re.compile(pattern), {}  # known to take linear time
        else:
            import regex  # four times slower than re, but it can be stopped

            find, limit = regex.compile(pattern), {"timeout": SECONDS}
        self._cover = partial(find.sub, WILDCARD, **limit)
        self._find = partial(find.finditer, **limit)
        self._masked = _Remembered(self._mask)

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Masks":
        """The rules that are shipped; before them those of a file: tables [[mask]] with `name` and `regex`.

        With `replace = true` at its top the file's rules are all. Raises LogError: missing, not TOML, a rule of another
        form.
        """
        if path is None:
            return cls(shipped())
        masks, replace = _read(Path(path))
        return cls(masks if replace else (*masks, *shipped()))

    def before(self, mask: Mask) -> "Masks":
        """The same with one more rule, which is tried first."""
        return Masks((mask, *self.masks))

    def words(self, message: str) -> tuple[str, ...]:
        """The words of a message, each value in them replaced by <*>."""
        return tuple(map(self._masked.__getitem__, message.split()))

    def values(self, word: str) -> list[tuple[str, str]]:
        """(name of the mask, value) for each value in a word, from left to right."""
        try:
            # the outermost group closes last, and that is what lastgroup names
            return [
                (self.masks[int(match.lastgroup.removeprefix("mask"))].name, match[0]) for match in self._find(word)
            ]
        except TimeoutError:
            raise self._too_slow(word) from None

    def _mask(self, word: str) -> str:
        try:
            return self._cover(word)
        except TimeoutError:
            raise self._too_slow(word) from None

    def _too_slow(self, word: str) -> LogError:
        names = ", ".join(mask.name for mask in self.masks)
        return LogError(
            f"a mask takes longer than {SECONDS:g} s for one word of {len(word):,} characters, {word[:40]!r}...: "
            f"simplify the regex with repeats inside repeats, among {names}"
        )


class _Remembered(dict[str, str]):
    """A dict that works a missing value out and keeps it, until it is full and begins anew."""

    def __init__(self, work_out: Callable[[str], str]):
        self._work_out = work_out

    def __missing__(self, word: str) -> str:
        masked = self._work_out(word)
        if len(word) <= CACHED_LENGTH:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = masked
        return masked


@cache
def shipped() -> tuple[Mask, ...]:
    """The rules of masks.toml in this folder."""
    return _read(HERE / "masks.toml")[0]


def _read(path: Path) -> tuple[tuple[Mask, ...], bool]:
    """(the rules of a file, whether they replace those that are shipped)."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        replace = of_kind(tables.get("replace", False), bool)
        return tuple(Mask(table["name"], table["regex"]) for table in tables["mask"]), replace
    except OSError as error:
        raise LogError(f"cannot read the masks {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LogError(f"the masks {path} are not UTF-8 ({error.reason}): save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise LogError(f"the masks {path} are not TOML: {error}; quote a regex as '''...'''") from error
    except (KeyError, TypeError) as error:
        need = "tables [[mask]] with `name` and `regex`, and where they are to be all, `replace = true` before them"
        raise LogError(f"the masks {path} need {need}: {error}") from error


def _check(mask: Mask) -> None:
    if not all(isinstance(value, str) and value for value in (mask.name, mask.regex)):
        raise LogError(f"a mask needs a name and a regex that are text and not empty, got {mask}")
    if back := re.search(r"(?<!\\)(?:\\\\)*\\[1-9]", mask.regex):
        raise LogError(f"the mask {mask.name!r} refers back with {back[0]}: name the group, (?P<x>...) and (?P=x)")
    try:
        if re.compile(f"(?:{mask.regex})").fullmatch(""):
            raise LogError(f"the mask {mask.name!r} matches nothing at all, which is everywhere: {mask.regex!r}")
    except re.error as error:
        raise LogError(f"the mask {mask.name!r} is no regular expression: {error}; see {mask.regex!r}") from error
