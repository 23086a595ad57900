"""The kill matrix of a station: which of its checks catches which fault. The faults are the tests of the checks.

matrix = kill_matrix(stations.find("gpt2"))
matrix.rate                                     # 1.0: every fault of the reference fails at least one check
matrix.verdicts["gpt2-scale-missing"]           # {"attention_weighs_by_similarity": "att_no_scale", ...}
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kakehashi import faults
from kakehashi.journey.judge import Judge
from kakehashi.journey.stations import Station


@dataclass(frozen=True)
class Matrix:
    """verdicts: for each fault the checks that failed, in their order, each with the key of what it said."""

    station: str
    checks: tuple[str, ...]
    verdicts: dict[str, dict[str, str]]

    @property
    def survivors(self) -> list[str]:
        """The faults that no check catches."""
        return [fault for fault, failed in self.verdicts.items() if not failed]

    @property
    def rate(self) -> float:
        """The share of faults that are caught."""
        return 1 - len(self.survivors) / len(self.verdicts)


def kill_matrix(station: Station) -> Matrix:
    """Every fault of the station's module against the checks of the symbol at fault. Runs in this process, seconds."""
    verdicts = {}
    for fault in faults.catalogue(station.module):
        failed = failures(station, faults.inject(fault).source, [station.owner(fault.symbol)])
        verdicts[fault.id] = {verdict["check"]: verdict["key"] for verdict in failed}
    return Matrix(station.id, tuple(check.id for check in station.checks), verdicts)


def failures(station: Station, text: str, symbols: Sequence[str], house: bool = False) -> list[dict]:
    """The verdicts that are not ok when `text` is graded as a learner's file. No sandbox: only for code of ours."""
    verdicts: list[dict] = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        file = Path(folder, station.file)
        file.write_text(text, encoding="utf-8")
        request = {"folder": str(station.folder), "reference": str(station.reference), "file": str(file), "text": text}
        Judge(request | {"symbols": list(symbols), "house": house}, verdicts.append).run()
    return [verdict for verdict in verdicts if not verdict.get("ok", True)]
