"""Logs of one's own: records read from files of any kind, templates found by Drain, sessions."""

from kakehashi.work.logs.drain import Config, Drain, Group
from kakehashi.work.logs.errors import LogError
from kakehashi.work.logs.lines import Note, Notes
from kakehashi.work.logs.masks import Mask, Masks
from kakehashi.work.logs.records import Parser, Record, read
from kakehashi.work.logs.sessions import Session, by_count, by_key, by_time, field_key, pattern_key, propose_keys

__all__ = [
    "Config",
    "Drain",
    "Group",
    "LogError",
    "Mask",
    "Masks",
    "Note",
    "Notes",
    "Parser",
    "Record",
    "Session",
    "by_count",
    "by_key",
    "by_time",
    "field_key",
    "pattern_key",
    "propose_keys",
    "read",
]
