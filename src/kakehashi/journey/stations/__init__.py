"""A station is one folder: some symbols of one module to rebuild, the checks that grade them, and their texts.

    stations/ID/station.py      STATION = Station("ID", "kakehashi.models.gpt2", symbols=("LayerNorm", ...))
    stations/ID/checks.py       plain functions under @check(symbol, order), see kakehashi.journey.checking
    stations/ID/en.md, ja.md    the texts, in this form:

    # Title
    What is built here and why.

    ## hint SYMBOL              for each symbol of the station
    Hint 1: the idea, without shapes or code.
    ### why                     in ja.md alone: the reference's why-comments in Japanese, one a line, each behind the
    - 1a2b3c4d 日本語の文         hash of the English comment (`digest`): a comment that changes makes its line stale

    ## wrong KEY                what Wrong(KEY, **values) says; {placeholders} and {formats:.3g} as in str.format

Keys that every station shares ("shape", "value", "raised", ...) are written once, in en.md and ja.md beside this file.
Nothing here imports torch: a client lists, describes and refuses before the grading worker has started.
"""

import ast
import re
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from kakehashi import Mistake
from kakehashi.texts import Texts

HERE = Path(__file__).parent
SHARED = Texts(HERE / "{lang}.md")
WHY = "### why\n"


class UnknownStation(Mistake):
    """No station has this id, or no symbol of it this name."""


@dataclass(frozen=True)
class Station:
    """Symbols of one module to rebuild, in the order to build them. The folder is filled in by `read`."""

    id: str
    module: str  # the reference, by its dotted name
    symbols: tuple[str, ...]  # "GPT" is a whole class, "GPT.forward" one method, "gelu" a function
    needs: tuple[str, ...] = ()  # stations that come before this one: advice, nothing is locked
    forbid: tuple[str, ...] = ()  # torch functions the learner's file may not call, by name, under any alias
    wall: float = 10  # seconds that one grading may take
    memory: int = 4 << 30  # bytes it may take
    folder: Path = field(default=HERE, compare=False)

    @property
    def reference(self) -> Path:
        """The reference's file, found without importing the module."""
        top, *rest = self.module.split(".")
        spec = find_spec(top)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"station {self.id!r}: no module {top!r}")
        return Path(spec.origin).parent.joinpath(*rest).with_suffix(".py") if rest else Path(spec.origin)

    @property
    def file(self) -> str:
        """The name of the learner's file. Stations of one module share it."""
        return self.reference.name

    @property
    def is_model(self) -> bool:
        """The module is a model, which can be trained, and not a part of the engine or of a tokenizer."""
        return not self.module.startswith(("kakehashi.autograd.", "kakehashi.tokenizers."))

    @property
    def checks(self) -> tuple["Check", ...]:
        """Every check of checks.py, in order."""
        return declared(self.folder / "checks.py")

    def owner(self, symbol: str) -> str:
        """The symbol of this station that `symbol` is or lies in ("GPT.forward" lies in "GPT"); "" for ""."""
        for mine in ("", *self.symbols):
            if symbol == mine or (mine and symbol.startswith(mine + ".")):
                return mine
        raise UnknownStation(f"station {self.id!r} has no symbol {symbol!r}; it has {', '.join(self.symbols)}")

    @property
    def texts(self) -> Texts:
        """The station's own texts, by key: "title", "intro", "hint SYMBOL", "wrong KEY"."""
        return Texts(self.folder / "{lang}.md")

    def say(self, key: str, values: dict, lang: str) -> str:
        """What Wrong(key, **values) says to a person: the station's own words, else those that all stations share."""
        name = f"wrong {key}"
        words = flowing((SHARED.all(lang) | self.texts.all(lang))[name]).format(**values)
        return "\n".join(line for line in words.splitlines() if line.strip())  # not all errors have a line of code

    def head(self, lang: str) -> str:
        """What stands on top of the starter."""
        title, first = self.texts.all(lang)["title"], self.symbols[0]
        # as wide as the symbol: what is said of both commands begins in one column
        return SHARED.all(lang)["starter"].format(station=self.id, title=title, first=first, gap=" " * len(first))

    def hint(self, symbol: str, lang: str) -> str:
        """Hint 1: the idea of a symbol."""
        return flowing(self.texts.all(lang)[f"hint {self.owner(symbol)}"].partition(WHY)[0].strip())

    def japanese(self, symbol: str) -> dict[str, str]:
        """digest -> Japanese of the why-comments of a symbol."""
        lines = self.texts.all("ja").get(f"hint {self.owner(symbol)}", "").partition(WHY)[2].splitlines()
        return dict(line.removeprefix("- ").split(" ", 1) for line in lines if line.strip())


class Check(NamedTuple):
    """One check as checks.py declares it. symbol "": a house check, run on the whole of the learner's file."""

    id: str  # the function's name
    symbol: str
    order: int


def read(folder: Path) -> Station:
    """The station in a folder, ours or anyone's."""
    folder = folder.resolve()
    return replace(imported(folder / "station.py").STATION, folder=folder)


def imported(path: Path) -> ModuleType:
    """A file of a station as a module."""
    spec = spec_from_file_location(f"kakehashi_{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader, path
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def all() -> tuple[Station, ...]:
    """Every station of the package, each after those it needs."""
    found = {station.id: station for station in map(read, sorted(path.parent for path in HERE.glob("*/station.py")))}
    ordered: dict[str, Station] = {}

    def place(station: Station) -> None:
        for earlier in station.needs:
            place(found[earlier])
        ordered.setdefault(station.id, station)

    for station in found.values():
        place(station)
    return tuple(ordered.values())


def find(id: str) -> Station:
    """The station called `id`. Raises UnknownStation, which lists what there is."""
    for station in all():
        if station.id == id:
            return station
    raise UnknownStation(f"no station is called {id!r}; stations: {', '.join(each.id for each in all())}")


@cache
def declared(path: Path) -> tuple[Check, ...]:
    """The checks of a file, by order, read from the text: @check("SYMBOL", ORDER) stands there in literals."""
    found = []
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for mark in function.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func).split(".")[-1] == "check":
                symbol, order = [*mark.args, *(word.value for word in mark.keywords)]
                found.append(Check(function.name, ast.literal_eval(symbol), ast.literal_eval(order)))
    return tuple(sorted(found, key=lambda check: check.order))


def flowing(text: str) -> str:
    """A text with one line a paragraph, for screens of any width; a line that is set in stays one of its own.

    Between two Japanese characters a line break is no space.
    """
    text = re.sub(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])", "", text)
    return re.sub(r"(?<=[^\n])\n(?=[^\s])", " ", text)


def digest(comment: str) -> str:
    """The hash that a translated why-comment is filed under: 8 hexadecimal digits."""
    return sha256(comment.strip().encode()).hexdigest()[:8]
