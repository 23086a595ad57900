"""The one room that touches source: a reference becomes starter, drill and oracle, with `ast` and byte splices alone.

blank, fill, hints            a starter cut from the reference, put back, and its comments as hints
empty, written                what of a file is still to be written, and what is
inject, disguise, hide        a reviewable fault, and the same program in other words
compose, composed, load       a learner's half-finished file made whole and run
"""

from kakehashi.source.cut import (
    Hints,
    Import,
    altered,
    blank,
    empty,
    fill,
    hints,
    lint_imports,
    strip_comments,
    written,
)
from kakehashi.source.disguise import disguise, hide
from kakehashi.source.edit import DoesNotApply, Edit, Injected, inject
from kakehashi.source.graft import compose, composed, load
from kakehashi.source.text import SourceError, read, symbols

__all__ = [
    "DoesNotApply",
    "Edit",
    "Hints",
    "Import",
    "Injected",
    "SourceError",
    "altered",
    "blank",
    "compose",
    "composed",
    "disguise",
    "empty",
    "fill",
    "hide",
    "hints",
    "inject",
    "lint_imports",
    "load",
    "read",
    "strip_comments",
    "symbols",
    "written",
]
