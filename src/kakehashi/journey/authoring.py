"""What the author of a station forgot: `problems` is empty for a station that is complete in both languages."""

import ast

from kakehashi import source
from kakehashi.journey.stations import (
    HERE,
    LANGUAGES,
    Station,
    UnknownStation,
    digest,
    placeholders,
    sections,
    translations,
)


def problems(station: Station) -> list[str]:
    """One line for each symbol without a check or hint, text without its counterpart, and stale translation."""
    text = source.read(station.reference)
    known = source.symbols(text)
    found = [f"{station.reference.name} has no {symbol!r}" for symbol in station.symbols if symbol not in known]
    if found:
        return found
    return [*unchecked(station), *untold(station), *different(station), *untranslated(station, text)]


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
    """Hints that are missing, and Wrong("key") in checks.py whose key has no words."""
    found = []
    tree = ast.parse((station.folder / "checks.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Wrong"]
    keys = {node.args[0].value for node in calls if node.args and isinstance(node.args[0], ast.Constant)}
    for lang in LANGUAGES:
        texts = station.texts(lang)
        wanted = ["title", "intro", *(f"hint {symbol}" for symbol in station.symbols)]
        found += [f"{lang}.md: {name} is missing" for name in wanted if not texts.get(name)]
        words = texts | sections(HERE / f"{lang}.md")
        found += [f"checks.py: Wrong({key!r}) has no words in {lang}.md" for key in keys if f"wrong {key}" not in words]
    return found


def different(station: Station) -> list[str]:
    """Sections that stand in one language alone, and messages that ask for other values in the other."""
    en, ja = (station.texts(lang) for lang in LANGUAGES)
    ja = {name: text for name, text in ja.items() if not name.startswith("why ")}
    found = [f"{name} stands in one language alone" for name in sorted(en.keys() ^ ja.keys())]
    for name in sorted(en.keys() & ja.keys()):
        ours, theirs = placeholders(en[name]), placeholders(ja[name])
        if name.startswith("wrong ") and ours != theirs:
            found.append(f"{name}: en.md gives {sorted(ours)}, ja.md {sorted(theirs)}")
    return found


def untranslated(station: Station, reference: str) -> list[str]:
    """Why-comments without Japanese, and Japanese of comments that have changed."""
    found = []
    for symbol in station.symbols:
        whys = {digest(why): why for why in source.hints(reference, symbol).whys}
        lines = translations(station, symbol)
        found += [f"ja.md: why {symbol}: {why!r} ({key}) is missing" for key, why in whys.items() if not lines.get(key)]
        found += [f"ja.md: why {symbol}: stale {key}" for key in lines if key not in whys]
    return found
