"""Notes and odd numbers in words, for a terminal and for a page."""

from kakehashi.texts import t
from kakehashi.work.logs.alarms import Number
from kakehashi.work.logs.lines import Note


def sentence(note: Note, source: str | None = None) -> str:
    """A note in the language in use. source: how its file is named, where not as it stands."""
    kind, _, encoding = note.kind.partition("encoding ")
    kind = kind or "encoding"
    if note.line == 0 and kind in ("torn", "encoding"):  # of a file as a whole
        kind = {"torn": "torn_packed", "encoding": "encoding_file"}[kind]
    source = note.source if source is None else source
    return t(f"logs.note.{kind}", source=source, line=note.line, count=note.count, encoding=encoding)


def of_number(number: Number) -> str:
    """What is odd about a number, by its name where it has one."""
    return t(
        f"logs.number.{number.how}",
        name=number.name or t("logs.number.name"),
        written=f"{number.written} {number.unit}".rstrip(),
        learnt=learnt(number),
    )


def learnt(number: Number) -> str:
    """The range or the kinds that were learnt."""
    if number.kinds:
        return ", ".join(f"{kind:,.10g}" for kind in number.kinds)
    return t("logs.number.range", least=number.least, most=number.most)
