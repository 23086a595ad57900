"""Hints in three steps, each giving away more: the idea, the trail of shapes, the reasons; and the answer itself.

Only the first is written by hand. The others are the comments of the reference's own body; the reasons' Japanese is
filed under the English comment's hash, so it cannot outlive a change of it.
"""

import ast

from kakehashi import Mistake, source
from kakehashi.journey.stations import Station, UnknownStation, digest

LEVELS = (1, 2, 3)


class NoHint(Mistake):
    """There is no such step."""


def hint(station: Station, symbol: str, level: int, lang: str) -> list[str]:
    """One step, a line each: 1 the idea, 2 the shapes in the order they come, 3 the reasons.

    Empty where the reference needs no comment of that kind. Raises NoHint for another level, UnknownStation for a
    symbol that is not the station's.
    """
    symbol = station.owner(symbol)
    if level not in LEVELS:
        raise NoHint(f"hint {level} does not exist: 1 is the idea, 2 the shapes, 3 the reasons")
    if level == 1:
        return station.hint(symbol, lang).splitlines()
    found = source.hints(source.read(station.reference), symbol)
    if level == 2:
        return [f"{name} {shape}".strip() for name, shape in zip(found.names, found.shapes, strict=True)]
    if lang == "en":
        return list(found.whys)
    japanese = station.japanese(symbol)
    return [japanese[digest(why)] for why in found.whys]


def levels(station: Station, symbol: str) -> tuple[int, ...]:
    """The steps that have something to say of a symbol. Raises UnknownStation."""
    return tuple(level for level in LEVELS if hint(station, symbol, level, "en"))


def answer(station: Station, symbol: str) -> str:
    """The reference's own text of a symbol. Raises UnknownStation for one that is not the station's or not there."""
    station.owner(symbol)
    text = source.read(station.reference)
    node: ast.AST = ast.parse(text)
    for name in symbol.split("."):
        inside = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
        if name not in inside:
            raise UnknownStation(f"{station.module} has no {symbol!r}; at that place it has {', '.join(inside)}")
        node = inside[name]
    return ast.get_source_segment(text, node, padded=True) or ""
