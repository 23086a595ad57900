"""What the author of a station forgot: `problems` is empty for a station that is complete in both languages."""

import ast

from kakehashi import source
from kakehashi.journey.stations import SHARED, Station, UnknownStation, digest
from kakehashi.texts import LANGUAGES


def problems(station: Station) -> list[str]:
    """One line for each symbol without a check or hint, text without its counterpart, and stale translation."""
    text = source.read(station.reference)
    known = source.symbols(text)
    found = [f"{station.reference.name} has no {symbol!r}" for symbol in station.symbols if symbol not in known]
    return found or [*unchecked(station), *untold(station), *station.texts.problems(), *untranslated(station, text)]


def unchecked(station: Station) -> list[str]:
    """Checks of symbols that the station lacks, and symbols without a check."""
    found, checked = [], set()
    for check in station.checks:
        try:
            checked.add(station.owner(check.symbol))
        except UnknownStation as error:
            found.append(f"checks.py: {check.id}: {error}")
    return found + [f"checks.py: no check of {symbol}" for symbol in station.symbols if symbol not in checked]


def untold(station: Station) -> list[str]:
    """Texts that are missing, and Wrong("key") in checks.py whose key has no words."""
    tree = ast.parse((station.folder / "checks.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Wrong"]
    keys = {node.args[0].value for node in calls if node.args and isinstance(node.args[0], ast.Constant)}
    wanted = ["title", "intro", *(f"hint {symbol}" for symbol in station.symbols), *(f"wrong {key}" for key in keys)]
    return [
        f"{lang}.md: {name!r} is missing"
        for lang in LANGUAGES
        for name in wanted
        if name not in station.texts.all(lang) and not (name.startswith("wrong ") and name in SHARED.all(lang))
    ]


def untranslated(station: Station, reference: str) -> list[str]:
    """Why-comments without Japanese, and Japanese of comments that have changed."""
    found = []
    for symbol in station.symbols:
        whys = {digest(why): why for why in source.hints(reference, symbol).whys}
        lines = station.japanese(symbol)
        found += [f"ja.md: hint {symbol}: {key} is missing: {why!r}" for key, why in whys.items() if not lines.get(key)]
        found += [f"ja.md: hint {symbol}: {key} is stale" for key in lines if key not in whys]
    return found
