"""Notes in words, for a terminal and for a page."""

from kakehashi.texts import t
from kakehashi.work.logs.lines import Note


def sentence(note: Note, source: str | None = None) -> str:
    """A note in the language in use. source: how its file is named, where not as it stands."""
    kind, _, encoding = note.kind.partition("encoding ")
    kind = kind or "encoding"
    if note.line == 0 and kind in ("torn", "encoding"):  # of a file as a whole
        kind = {"torn": "torn_packed", "encoding": "encoding_file"}[kind]
    source = note.source if source is None else source
    return t(f"logs.note.{kind}", source=source, line=note.line, count=note.count, encoding=encoding)
