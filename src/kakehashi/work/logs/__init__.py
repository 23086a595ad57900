"""Logs of one's own: records read from files of any kind, templates found by Drain, sessions."""

from kakehashi.work.logs.drain import Config, Drain, Group
from kakehashi.work.logs.errors import LogError
from kakehashi.work.logs.lines import Note, Notes
from kakehashi.work.logs.masks import Mask, Masks
from kakehashi.work.logs.records import Parser, Record, read

__all__ = ["Config", "Drain", "Group", "LogError", "Mask", "Masks", "Note", "Notes", "Parser", "Record", "read"]
