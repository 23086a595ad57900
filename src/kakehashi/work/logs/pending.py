"""Templates that were never seen, kept until a person says that they are normal."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from kakehashi.work.logs.drain import Config, Drain
from kakehashi.work.logs.errors import of_kind
from kakehashi.work.logs.masks import Masks
from kakehashi.work.logs.records import Record

MOST = 1_000  # templates that wait; beyond it the one without a record for longest is forgotten


@dataclass(frozen=True)
class Pending:
    """A template that nobody has accepted yet; of the last scan that met it, the number of records and the first."""

    id: int
    template: str
    count: int
    example: Record
    earlier: bool  # no record of the scan that began last is of it


class Waiting:
    """Records that no template covers, grouped by a Drain of their own."""

    def __init__(self, masks: Masks):
        self.drain = Drain(Config(max_groups=MOST), masks)
        self.examples: dict[int, Record] = {}
        self.met: set[int] = set()  # in this scan

    def begin(self) -> None:
        """A scan begins: it counts for itself, as it may read what one before it has read."""
        self.met = set()

    def add(self, record: Record) -> None:
        group = self.drain.learn(record.message)
        if group.id in self.met:
            return
        self.met.add(group.id)
        group.count = 1
        self.examples[group.id] = record
        if len(self.examples) > MOST:
            self.examples = {id: self.examples[id] for id in self.drain.groups}
            self.met &= self.drain.groups.keys()

    def pending(self) -> list[Pending]:
        """Those that wait, in the order in which they came."""
        groups = sorted(self.drain.groups.values(), key=lambda group: group.id)
        return [
            Pending(group.id, group.template, group.count, self.examples[group.id], group.id not in self.met)
            for group in groups
        ]

    def without(self, ids: Collection[int]) -> Self:
        """Those that still wait when these do no more."""
        saved = self.to_dict()
        saved["drain"]["groups"] = [group for group in saved["drain"]["groups"] if group["id"] not in ids]
        return type(self).from_dict(saved)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what follows a record's first line, and its fields, are left out."""
        examples = {str(id): asdict(record) for id, record in self.examples.items() if id in self.drain.groups}
        for row in examples.values():
            del row["rest"], row["fields"], row["torn"]
            row["time"] = row["time"] and row["time"].isoformat()
        return {"drain": self.drain.to_dict(), "examples": examples}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """The Waiting of `to_dict`. Raises what Python raises at damage."""
        waiting = cls.__new__(cls)
        waiting.drain, waiting.met = Drain.from_dict(saved["drain"]), set()
        waiting.examples = {
            id: Record(**{**row, "time": row["time"] and datetime.fromisoformat(row["time"])})
            for id, row in ((int(id), row) for id, row in saved["examples"].items())
            if id in waiting.drain.groups
        }
        if missing := waiting.drain.groups.keys() - waiting.examples.keys():
            raise ValueError(f"there is no example of template {min(missing)}")
        for example in waiting.examples.values():
            of_kind(example.message, str)
        return waiting
