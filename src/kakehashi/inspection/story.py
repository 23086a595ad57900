"""What a run's metrics tell, curve by curve. It reads a run that is being written, was killed, or has not begun."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kakehashi.runs import Run

MEASURES = ("gradient", "update", "scale", "dead", "saturated")  # of Health, by layer
RULE = 1e-3  # of an update, per parameter: CS231n's notes on training, and Karpathy's lectures (makemore, part 3)
Point = tuple[int, float]  # (step, value)


@dataclass(frozen=True, eq=False)
class Story:
    """name: the run's, or its path where several have that name. rows: of metrics.jsonl. settings: dotted -> value."""

    name: str
    settings: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]

    @classmethod
    def of(cls, run: Run, name: str | None = None) -> "Story":
        """Raises RunError where metrics.jsonl is damaged; a torn last line is left out."""
        return cls(name or run.name, dict(flat(run.config.to_dict())), run.metrics(), run.summary())

    def curve(self, split: str, field: str) -> list[Point]:
        """A field of the rows of "train" or "val", where it is a number."""
        rows = [row for row in self.rows if row["split"] == split]
        return [(row["step"], row[field]) for row in rows if row.get(field) is not None]

    @cached_property
    def health(self) -> list[dict[str, Any]]:
        """The notes of Health that hold layers, in order."""
        return [row["health"] for row in self.rows if "layers" in row.get("health", {})]

    @property
    def trouble(self) -> dict[str, Any] | None:
        """The first number that was not finite: {"step", "what", "layer"}."""
        notes = (row.get("health", {}).get("not_finite") for row in self.rows)
        return next((note for note in notes if note), None)

    def layers(self, measure: str) -> dict[str, list[Point]]:
        """A measure of Health over steps, of each layer that has it, in the model's order."""
        found: dict[str, list[Point]] = {}
        for note in self.health:
            for layer, values in note["layers"].items():
                if values.get(measure) is not None:
                    found.setdefault(layer, []).append((note["step"], values[measure]))
        return found

    def middle(self, measure: str) -> list[Point]:
        """The median over layers, at each step."""
        steps: dict[int, list[float]] = {}
        for points in self.layers(measure).values():
            for step, value in points:
                steps.setdefault(step, []).append(value)
        return [(step, statistics.median(values)) for step, values in steps.items()]

    def scalars(self) -> dict[str, list[tuple[int, float, float]]]:
        """Every curve by a tag, for other tools: (step, seconds, value)."""
        found: dict[str, list[tuple[int, float, float]]] = {}
        for row in self.rows:
            tags = {f"loss/{row['split']}": row["loss"], f"right/{row['split']}": row.get("right")}
            tags |= {"lr": row.get("lr"), "grad_norm": row.get("grad_norm")}
            health = row.get("health", {})
            for layer, values in health.get("layers", {}).items():
                tags |= {f"health/{measure}/{layer}": value for measure, value in values.items()}
            for tag, value in tags.items():
                if value is not None:
                    found.setdefault(tag, []).append((row["step"], row["time"], value))
        return found


def stories(runs: Sequence[Run]) -> list[Story]:
    """One each; runs of one name in several folders go by their paths."""
    names = [run.name for run in runs]
    return [Story.of(run, str(run.path) if names.count(run.name) > 1 else None) for run in runs]


def differing(told: Sequence[Story]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs: dotted name -> a value a run; None where a run has none."""
    names = dict.fromkeys(name for story in told for name in story.settings)
    values = {name: [story.settings.get(name) for story in told] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


def comparable(told: Sequence[Story]) -> bool:
    """Whether losses mean the same in all runs: the same targets, seen through equal windows, in equal tokens."""
    same = ("task", "data.sha256", "data.split", "data.block_size", "model.config.vocab_size")
    return not differing(told).keys() & {*same}


def distance(value: float, standard: float) -> float:
    """How far a positive number is from a standard, in powers of e; 0 is as far as can be."""
    return abs(math.log(value / standard)) if value > 0 and standard > 0 else math.inf


def oddest(measure: str, layers: dict[str, list[Point]], n: int = 5) -> list[str]:
    """The n layers to look at, by their last value, the oddest first.

    Updates furthest from RULE; scales and gradients furthest from the median; the largest shares.
    """
    last = {layer: points[-1][1] for layer, points in layers.items()}
    if measure in ("dead", "saturated"):
        return sorted(last, key=lambda layer: -last[layer])[:n]
    standard = RULE if measure == "update" else statistics.median(last.values() or [1.0])
    return sorted(last, key=lambda layer: -distance(last[layer], standard))[:n]


def flat(value: Any, name: str = "") -> Any:
    """(dotted name, value) of all that is in nested dicts."""
    if not isinstance(value, dict):
        yield name, value
    else:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
