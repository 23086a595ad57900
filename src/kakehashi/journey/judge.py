"""One grading, inside the process made for it: load the learner's file beside a private reference, run the checks.

Each written symbol is judged alone, everything else taken from the reference, so that a failing check accuses the
symbol it names; then the house checks run the learner's whole file. Accidents are told apart from errors: a symbol
imported instead of written, a changed torch, a forbidden primitive.
"""

import errno
import inspect
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import cache, wraps
from operator import attrgetter
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, NoneType
from typing import get_args

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from kakehashi import autograd, sandbox, source
from kakehashi.journey import stations
from kakehashi.journey.checking import Wrong, brief, tensor

WATCHED = ("torch", "torch.nn", "torch.nn.functional", "torch.nn.init", "torch.autograd", "torch.optim")


@cache
def load_checks(folder: Path) -> ModuleType:
    """checks.py of a station, imported once; a server does it before it forks."""
    return stations.imported(folder / "checks.py")


class Judge:
    """Judges one request: {"folder" of the station, "reference" and "file" (absolute paths), "text" (the file as it was
    read), "given" (what it began as, where that was not the station's starter), "symbols" to judge one by one,
    "house": whether to judge the whole file after them}."""

    def __init__(self, request: dict, tell: Callable[[dict], None]):
        self.station = stations.read(Path(request["folder"]))
        self.checks = load_checks(self.station.folder)
        self.file, self.text, self.reference = request["file"], request["text"], request["reference"]
        self.given = request.get("given")
        self.subjects = [[symbol] for symbol in request["symbols"]] + [None] * request["house"]
        self.tell = tell
        self.lines = re.split(r"\r\n|\r|\n", self.text)
        self.modules = dict(sys.modules)

    def run(self) -> int:
        """Tell each verdict as it falls; return how many checks were run. A file that does not load ends it.

        Where a symbol failed alone, what of the given the file has in another way is told last: it may be the reason.
        """
        ref = source.load(self.reference)
        self.torch = Torch()
        self.tell({"running": ""})
        count, failed = 0, False
        for subject in self.subjects:
            symbol = subject[0] if subject else ""
            code = self.compose(subject)
            started = time.perf_counter()
            reset_switches()
            accused = ""  # what the file does while it loads is no symbol's fault
            try:
                mine = source.load(self.file, code)
                self.torch.refuse_changes()
                accused = symbol
                for each in subject or self.station.symbols:
                    self.refuse_import(mine, each)
                    watch_results(mine, ref, each)
            except BaseException as error:
                self.report(stations.Check("", accused, 0), started, error)
                return count
            for check in self.station.checks:
                if self.station.owner(check.symbol) == symbol:
                    self.tell({"running": check.id})
                    started = time.perf_counter()
                    error = self.failure(check, mine, ref)
                    self.report(check, started, error, mine)
                    count += 1
                    failed |= bool(error and symbol)
        if failed and (altered := self.altered()):
            name, line = next(iter(altered.items()))
            verdict = {"check": "", "symbol": "", "ok": False, "key": "given", "values": {"names": ", ".join(altered)}}
            self.tell(verdict | {"where": {"file": self.file, "line": line, "symbol": name}, "ms": 0.0})
        return count

    def altered(self) -> dict[str, int]:
        """What the file has in another way than it was given, and is not judged: name -> line."""
        judged = {"Config", *(symbol.split(".")[0] for symbol in self.station.symbols)}
        found = source.altered(self.text, self.given or source.read(self.reference))
        return {name: line for name, line in found.items() if name not in judged}

    def compose(self, subject: list[str] | None):
        """The learner's code with all but the subject from the reference; None: all that the learner has written."""
        # a Config of the learner's own may have a field more, which their classes read
        mine = subject and [*subject, *(name for name in source.symbols(self.text) if name == "Config")]
        code, borrowed = source.compose(self.text, self.file, source.read(self.reference), self.reference, mine)
        for own in subject or self.station.symbols:
            if any(f"{each}.".startswith(f"{own}.") for each in borrowed):
                raise AssertionError(f"{own} would be graded, but comes from the reference")
        return code

    def refuse_import(self, mine: ModuleType, symbol: str) -> None:
        """Raise Wrong "imported" where a graded symbol was made in another place, or inherits from the answer."""
        thing = mine
        for name in symbol.split("."):
            thing = getattr(thing, name)
            home = getattr(thing, "__module__", mine.__name__)
            ancestors = [each.__module__ for each in thing.__mro__] if isinstance(thing, type) else []
            if home != mine.__name__ or self.station.module in ancestors:
                home = home if home != mine.__name__ else self.station.module
                raise Wrong("imported", symbol=symbol, module=home)

    def failure(self, check: stations.Check, mine: ModuleType, ref: ModuleType) -> BaseException | None:
        """What one check raised, or what its run betrayed."""
        reset_switches()
        torch.manual_seed(0)
        rng = torch.Generator().manual_seed(zlib.crc32(check.id.encode()))
        guard = Forbid(self.station.forbid, self.file)
        raised = None
        try:
            with guard if self.station.forbid else nullcontext():
                getattr(self.checks, check.id)(mine, ref, rng)
        except BaseException as error:  # SystemExit, too: a learner's exit() is a failed check
            raised = error
        try:
            self.torch.refuse_changes()
        except Wrong as changed:
            return changed
        return guard.seen or raised

    def report(
        self, check: stations.Check, started: float, error: BaseException | None, mine: ModuleType | None = None
    ) -> None:
        """Tell the verdict of a check: ok, or the key, values and place of what went wrong."""
        sys.modules.update(self.modules)  # what we call imports, and a learner's code may have emptied it
        ms = round(1000 * (time.perf_counter() - started), 1)
        key, values, where = self.explain(error) if error else ("", {}, None)
        if error and not where:
            where = self.definition(mine, check.symbol)
        verdict = {"check": check.id, "symbol": check.symbol, "ok": error is None}
        self.tell(verdict | {"key": key, "values": values, "where": where, "ms": ms})

    def explain(self, error: BaseException) -> tuple[str, dict, dict | None]:
        """The key and values of an error, and the learner's own line that led to it, the last of them.

        Of frames further down only those in borrowed code are named: they lie in the reference, the cause does not.
        """
        where, code, seen, borrowed = None, "", "", ""
        for frame, line in frames(error):
            name = frame.f_code.co_qualname
            if frame.f_code.co_filename == self.file and line > len(self.lines):
                borrowed = Path(self.reference).name  # a definition's head runs among the learner's statements
            elif frame.f_code.co_filename == self.file:
                where, borrowed = {"file": self.file, "line": line, "symbol": name}, ""
                code = brief(self.lines[line - 1].strip())
                seen = shapes(code, frame)
            elif frame.f_code.co_filename == self.reference and frame.f_globals.get("__file__") == self.file:
                borrowed = name
        if isinstance(error, Wrong):
            return error.key, error.values, where
        try:
            said = str(error)
        except BaseException:  # the learner's own __str__
            said = "(its __str__ fails)"
        words = brief(f"{type(error).__name__}: {said}".splitlines()[0].strip())
        if isinstance(error, MemoryError) or "allocate memory" in said:
            return "memory", {"error": words, "limit": self.station.memory >> 20}, where
        if isinstance(error, OSError) and error.errno == errno.EFBIG:  # of files, the log of what is printed is one
            return "printed", {"limit": sandbox.FILE_MIB}, where
        values = {"error": words, "code": code, "shapes": seen}
        if borrowed:
            return "raised_borrowed", values | {"borrowed": borrowed}, where
        return ("raised" if where else "unusable"), values, where

    def definition(self, mine: ModuleType | None, symbol: str) -> dict | None:
        """Where a symbol stands in the learner's file."""
        with suppress(AttributeError, OSError, TypeError):  # missing, not in a file, not a function or class
            thing = inspect.unwrap(attrgetter(symbol)(mine))
            if inspect.getsourcefile(thing) == self.file:
                return {"file": self.file, "line": inspect.getsourcelines(thing)[1], "symbol": symbol}
        return None


class Forbid(TorchFunctionMode):
    """Refuses torch functions by name, under any alias, when the learner's file calls them, or lets torch call them."""

    def __init__(self, names: tuple[str, ...], file: str):
        super().__init__()
        self.names, self.file = frozenset(names), file
        self.seen: Wrong | None = None  # kept: the learner's code may catch what is raised

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in self.names and outside_torch(sys._getframe(1)).f_code.co_filename == self.file:
            self.seen = Wrong("forbidden", name=name)
            raise self.seen
        return func(*args, **(kwargs or {}))


def watch_results(mine: ModuleType, ref: ModuleType, symbol: str) -> None:
    """Let the functions of a symbol of the learner's refuse a result of another kind than the reference announces: a
    missing return is named where it happens, not where a check or another function stumbles over None."""
    owner, _, name = symbol.rpartition(".")
    holder = attrgetter(owner)(mine) if owner else mine
    own, theirs = inspect.getattr_static(holder, name), attrgetter(symbol)(ref)
    if isinstance(own, type) and isinstance(theirs, type):
        for each in vars(own).keys() & vars(theirs).keys():
            watch_results(mine, ref, f"{symbol}.{each}")
    elif isinstance(own, FunctionType) and isinstance(theirs, FunctionType):
        kind = theirs.__annotations__.get("return")
        if kind is not None and NoneType not in get_args(kind):
            setattr(holder, name, returning(kind, symbol, own))


def returning(kind: type, name: str, function: FunctionType) -> Callable:
    """The function, refusing None, what is no tensor where kind is one, and what lacks a field of a NamedTuple."""

    @wraps(function)
    def watched(*args, **kwargs):
        value = function(*args, **kwargs)
        if value is None:
            raise Wrong("none", name=name)
        if kind in (torch.Tensor, np.ndarray, autograd.Tensor):
            tensor(name, value)
        fields = getattr(kind, "_fields", ())
        if not all(hasattr(value, field) for field in fields):
            expected = f"{kind.__name__}({', '.join(fields)})"
            raise Wrong("result", name=name, seen=type(value).__name__, expected=expected)
        return value

    return watched


def outside_torch(frame: FrameType) -> FrameType:
    """The frame that called into torch."""
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "torch":
        frame = frame.f_back
    return frame


def reset_switches() -> None:
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)


class Torch:
    """What a learner's file must leave as it is: torch's callables, the methods of its layers, its global switches."""

    def __init__(self) -> None:
        spaces = {name: sys.modules[name] for name in WATCHED} | {"torch.Tensor": torch.Tensor}
        spaces |= {f"torch.nn.{name}": layer for name, layer in vars(torch.nn).items() if isinstance(layer, type)}
        self.spaces = [(name, vars(holder), isinstance(holder, type)) for name, holder in spaces.items()]
        self.callables = [callables(names) for _, names, _ in self.spaces]
        self.counts = [len(names) for _, names, _ in self.spaces]

    def refuse_changes(self) -> None:
        """Raise Wrong "patched" where something is another than before. New names in a module are no change of torch;
        in a class they override something."""
        if torch.get_default_dtype() is not torch.float32:
            raise Wrong("patched", name="torch.get_default_dtype()")
        if not torch.is_grad_enabled():
            raise Wrong("patched", name="torch.is_grad_enabled()")
        for (space, now, is_class), before, count in zip(self.spaces, self.callables, self.counts, strict=True):
            if not before.items() <= now.items() or (is_class and len(now) != count):
                after = callables(now)
                for name in before | after if is_class else before:
                    if after.get(name) is not before.get(name):
                        raise Wrong("patched", name=f"{space}.{name}")


def callables(names: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in names.items() if callable(value)}


def frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Frame and line of an error, from the outermost call to the place."""
    trace = error.__traceback__
    while trace:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def shapes(code: str, frame: FrameType) -> str:
    """The tensors that a line of code names, with their shapes: "x (2, 5, 16), self.weight (16, 16)"."""
    found = {}
    for dotted in re.findall(r"[A-Za-z_][\w.]*", code):
        names = dotted.split(".")
        value = frame.f_locals.get(names[0])
        for i, name in enumerate([*names[1:], ""], 1):
            if isinstance(value, torch.Tensor | np.ndarray | autograd.Tensor):
                found[".".join(names[:i])] = tuple(value.shape)
                break
            with suppress(Exception):  # a property of the learner's
                value = getattr(value, name, None)
    return ", ".join(f"{name} {shape}" for name, shape in found.items())
