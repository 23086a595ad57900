"""data list|get|show: which data sets there are, and what data hold."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from kakehashi.cli import console
from kakehashi.texts import t

data = typer.Typer(rich_markup_mode=None)


@data.command("list", help=t("cli.data.list"))
def data_list() -> None:
    from kakehashi.data import catalogue

    sets = catalogue()
    for each in sets:
        console.say(each.name, "bold")
        console.say(f"  {each.about}")
        console.say(f"  {each.licence}: {each.use}", "dim")
        console.say(f"  {each.found or where(each)}", "dim")
    keys = ("name", "about", "unit", "licence", "use")
    facts = [
        {key: getattr(each, key) for key in keys}
        | {"files": [asdict(file) for file in each.files], "found": str(each.found or "")}
        for each in sets
    ]
    console.result({"data": facts})


def where(dataset) -> str:
    """Where a set that is not on the disk comes from."""
    if not dataset.files:
        return t(f"cli.data.made_here_{dataset.unit if dataset.unit in ('image', 'pair') else 'text'}")
    if not all(file.url for file in dataset.files):
        return t("cli.data.to_bring", files=", ".join(file.path for file in dataset.files))
    return t("cli.data.to_get", name=dataset.name)


@data.command("get", help=t("cli.data.get"))
def data_get(name: Annotated[str, typer.Argument(help=t("cli.data.name_option"))]) -> None:
    from kakehashi.data import get, sets

    if known := sets.known(name):
        console.say(f"{known.licence}: {known.use}", "dim")
        for file in known.files:
            console.say(f"{file.url or file.path} ({file.size:,} bytes, sha256 {file.sha256})", "dim")
    path = get(name)
    console.say(t("cli.data.got", name=name, path=path))
    console.result({"name": name, "path": str(path)})


@data.command("show", help=t("cli.data.show"))
def data_show(
    name: Annotated[str, typer.Argument(help=t("cli.data.what"))],
    encoding: Annotated[str | None, typer.Option(help=t("cli.train.encoding"))] = None,
    unit: Annotated[str | None, typer.Option(help=t("cli.data.unit"))] = None,
    text: Annotated[str | None, typer.Option(help=t("cli.train.text"))] = None,
    label: Annotated[str | None, typer.Option(help=t("cli.train.label"))] = None,
) -> None:
    from kakehashi.data import unit_of

    kind = unit or ("table" if text or label else unit_of(name))
    if kind == "image":
        facts, some = images_in(name)
    elif kind == "pair":
        facts, some = pairs_in(name, encoding)
    elif kind == "table":
        facts, some = classes_in(name, text, label, encoding)
    else:
        facts, some = texts_in(name, encoding, unit)
    rows = [[key, ", ".join(value) if isinstance(value, list) else value] for key, value in facts.items()]
    console.table([t("cli.show.what"), t("cli.show.value")], rows)
    if some:
        console.say("\n" + "\n".join(some))
    console.result(facts)


def texts_in(name: str, encoding: str | None, unit: str | None) -> tuple[dict[str, Any], list[str]]:
    """What a text or a folder of texts holds, and some of it."""
    from kakehashi.data import corpus

    found = corpus(name, encoding, unit)
    facts = {
        "documents": len(found.documents),
        "characters": sum(map(len, found.documents)),
        "alphabet": len(set().union(*found.documents)),
        "unit": found.unit,
    }
    return described(found, found.split(), facts), [document[:80] for document in found.documents[:5]]


def pairs_in(name: str, encoding: str | None) -> tuple[dict[str, Any], list[str]]:
    """What a set of pairs holds, and some of them."""
    from kakehashi.data import read_pairs

    found = read_pairs(name, encoding)
    split = found.split(1337)
    some = split.train[:: max(1, len(split.train) // 8)][:8]  # from all over the part
    facts = {part: len(pairs) for part, pairs in split.apart.items()}
    return described(found, split, facts), [f"{source[:80]}  ->  {target[:80]}" for source, target in some]


def classes_in(
    name: str, text: str | None, label: str | None, encoding: str | None
) -> tuple[dict[str, Any], list[str]]:
    """What a table of texts with classes holds, and some of them."""
    from kakehashi.cli.samples import short
    from kakehashi.data import tables

    found = tables.read(name, text, label, encoding)
    split = found.split()
    some = split.train[:: max(1, len(split.train) // 8)][:8]  # from all over the part
    facts = {"texts": len(found.texts), "classes": list(found.classes), **split.said}
    return described(found, split, facts), [f"{short(row.text, 80)}  ->  {row.label}" for row in some]


def images_in(name: str) -> tuple[dict[str, Any], list[str]]:
    """What a set of images holds."""
    from kakehashi.data import images

    found = images.read(name)
    _, height, width, channels = found.images.pixels.shape
    facts = {
        "images": len(found.images),
        "pixels": f"{width} x {height}",
        "channels": channels,
        "classes": list(found.classes),
    }
    return described(found, found.split(), facts), []


def described(found: Any, split: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """What holds for data of any kind, around the facts of theirs."""
    return {
        "name": found.name,
        **facts,
        "train": len(split.train),
        "val": len(split.val),
        "split": split.name,
        "licence": found.licence,
        "origin": found.origin,
        "sha256": found.sha256,
    }
