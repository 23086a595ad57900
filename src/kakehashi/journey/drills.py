"""A drill hands over a broken, disguised file and its symptoms: name the cause, then mend the file.

The file is the reference with one fault in it, rewritten so that a diff against the reference drowns, without comments
but the shapes. Whoever compares all the same finds the place, not yet its name: both are asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kakehashi import Mistake, faults
from kakehashi.journey import stations
from kakehashi.journey.grading import Grade, Grader, Result
from kakehashi.journey.stations import Station


class NoDrill(Mistake):
    """This fault cannot be drilled, or the named cause is none of the choices."""


@dataclass(frozen=True)
class Answer:
    """What is wrong: the cause by its name, the symbol, the lines of the drill's source, and the words for it."""

    cause: str
    symbol: str
    lines: tuple[int, ...]
    title: str
    explanation: str
    fix: str


@dataclass(frozen=True)
class Drill:
    """A broken file, what one sees of it, and what is behind it. choices: the causes to choose from."""

    fault: str
    seed: int
    station: Station
    source: str
    symptoms: str
    choices: tuple[str, ...]
    answer: Answer


@dataclass(frozen=True)
class DrillGrade:
    """named: the cause was right. grade: the station's checks on the mended file."""

    named: bool
    grade: Grade

    @property
    def passed(self) -> bool:
        return self.named and self.grade.passed


def make(fault_id: str, seed: int, lang: str = "en") -> Drill:
    """The drill of a fault; another seed is another disguise.

    Raises UnknownFault, and NoDrill for a fault in a symbol that no station grades.
    """
    fault = faults.find(fault_id)
    graders = [each for each in stations.all() if each.module == fault.module and fault.symbol.startswith(each.symbols)]
    if not graders:
        raise NoDrill(f"{fault_id!r} is a fault of {fault.module}'s {fault.symbol}, which no station grades")
    injected = faults.inject(fault, seed)
    words = faults.texts(fault, lang)
    answer = Answer(
        fault.cause, fault.symbol, tuple(injected.lines), words["title"], words["explanation"], words["fix"]
    )
    choices = tuple(sorted({each.cause for each in faults.catalogue(fault.module)}))
    return Drill(fault_id, seed, graders[0], injected.source, words["symptom"], choices, answer)


def grade(
    drill: Drill, path: str | Path, cause: str, grader: Grader, tell: Callable[[Result], None] = lambda result: None
) -> DrillGrade:
    """Judge a mended file and the cause that was named. Raises NoDrill for a cause that is none of the choices."""
    if cause not in drill.choices:
        raise NoDrill(f"{cause!r} is none of the causes: {', '.join(drill.choices)}")
    return DrillGrade(cause == drill.answer.cause, grader.grade(drill.station, path, tell=tell, given=drill.source))
