"""Faults: small source edits of a reference that make it wrong, each measured to be alive.

    fault = faults.find("gpt2-scale-missing")
    faults.inject(fault).source      # the reference with the fault; inject(fault, seed=7): disguised, for a drill
    faults.alive(fault).changed      # ("loss", "logits", "grad", "state"): where healthy and faulty twins differ
    faults.texts(fault, "ja")["symptom"]

faults/<module>.py lists the faults of one reference, <module>.en.toml and <module>.ja.toml beside it hold their texts.
Nothing is imported from torch before a fault is measured.
"""

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches, unified_diff
from functools import cache
from importlib import import_module
from pathlib import Path

import kakehashi
from kakehashi import Mistake
from kakehashi.source import Edit, Injected, hide, read
from kakehashi.source import inject as edit

HERE = Path(__file__).parent
KINDS = ("loss", "logits", "value", "grad", "state", "init", "buffers")  # what a fault may change
FIELDS = ("title", "symptom", "explanation", "fix")


class UnknownFault(Mistake):
    """No fault has this id."""


@dataclass(frozen=True)
class Fault:
    """A mistake one could make in a reference, as the edit that makes it.

    category, cause: as `taxonomy` names them. changes: those of KINDS in which a faulty model differs from a healthy
    one of the same weights, no more and no less; "value" is what a function gives that is no model's. level: 1 the
    first run shows it, 2 a measurement shows it, 3 it hides well. crashes: it also raises on inputs that the healthy
    one takes.
    """

    id: str
    category: str
    cause: str
    module: str  # the reference, by its dotted name
    edits: tuple[Edit, ...]
    changes: tuple[str, ...]
    level: int
    crashes: bool = False

    @property
    def symbol(self) -> str:
        """The symbol at fault."""
        return self.edits[0].symbol

    @property
    def path(self) -> Path:
        """The reference's file."""
        return Path(kakehashi.__file__).parent.joinpath(*self.module.split(".")[1:]).with_suffix(".py")

    @property
    def stem(self) -> str:
        """The last part of the module's name: the reference's file, and this fault's, are called so."""
        return self.module.rpartition(".")[2]


@dataclass(frozen=True)
class Liveness:
    """What a fault was seen to do. changed: the KINDS that differ, in that order. crashed: the first error."""

    changed: tuple[str, ...]
    crashed: str | None = None


def catalogue(module: str | None = None) -> list[Fault]:
    """All faults, or those of one module ("kakehashi.models.gpt2" or "gpt2")."""
    stems = sorted(path.name.removesuffix(".en.toml") for path in HERE.glob("*.en.toml"))
    faults = [fault for stem in stems for fault in import_module(f"kakehashi.faults.{stem}").FAULTS]
    return [fault for fault in faults if module in (None, fault.module, fault.stem)]


def find(id: str) -> Fault:
    """The fault called `id`. Raises UnknownFault, which names the ids that are near."""
    for fault in catalogue():
        if fault.id == id:
            return fault
    near = get_close_matches(id, [fault.id for fault in catalogue()], n=3, cutoff=0.0)
    raise UnknownFault(f"no fault is called {id!r}; near it: {', '.join(near)}; `kakehashi fault list` shows all")


def inject(fault: Fault, seed: int | None = None) -> Injected:
    """The reference with the fault in it. With a seed, disguised: equivalent rewrites, no comments but shapes."""
    injected = edit(read(fault.path), fault.edits)
    return injected if seed is None else hide(injected, seed)


def diff(fault: Fault) -> str:
    """The edit as a unified diff against the reference."""
    healthy, faulty = read(fault.path).splitlines(), edit(read(fault.path), fault.edits).source.splitlines()
    return "\n".join(unified_diff(healthy, faulty, fault.path.name, f"{fault.id}.py", n=2, lineterm=""))


def alive(fault: Fault, source: str | None = None) -> Liveness:
    """Put the fault into a source text (None: the reference), run it beside its healthy twin, compare bit by bit.

    A fault is alive if `changed` is not empty. Whether it is must be measured for each text: where a pattern of the
    reference matches in a file of another style, it need not hit the intended place. Raises DoesNotApply.
    """
    from kakehashi.faults.liveness import compare  # imports torch

    healthy = read(fault.path) if source is None else source
    return compare(fault, healthy, edit(healthy, fault.edits).source)


def texts(fault: Fault, lang: str) -> dict[str, str]:
    """The FIELDS of a fault in "en" or "ja": title (gives it away), symptom (does not), explanation, fix."""
    return tables(HERE / f"{fault.stem}.{lang}.toml")[fault.id]


@cache
def tables(path: Path) -> dict[str, dict[str, str]]:
    """A TOML file of texts, by fault."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
