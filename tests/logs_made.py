"""Logs of a service, made by a seeded grammar: what is normal is known, and so is every defect.

    events = made(300, seed=1)                              sessions of requests, interleaved in time
    events = made(300, seed=2, slow={7}, new={9})        session 7 has a query of 50 times, ...
    write(path, events, "json")                             or "text", "csv", "cp932"

A session: accepted; the cache has it, or reads and a query answer (after a failure of the upstream once more); sent;
closed. Every line names it, req-NNNN, the number counted from 0; a heartbeat names none.
"""

import csv
import io
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2026, 10, 5, 9, 0, 0, tzinfo=UTC)
SENTENCES = {
    "accepted": "Accepted {id} from 10.0.0.{host}",
    "hit": "Found the answer to {id} in the cache",
    "miss": "Cache miss for {id}",
    "read": "Reading part {part} of file /data/f{file} for {id}",
    "query": "Query for {id} took {ms:.1f} ms",
    "failed": "Upstream answered 503 to {id}",
    "retry": "Retrying {id} once more",
    "sent": "Sent {size} bytes to client of {id}",
    "closed": "Closed {id}",
    "new": "Checksum mismatch in block 17 of {id}, giving up",
    "heartbeat": "Heartbeat: {idle} workers are idle",
}
JAPANESE = {
    "accepted": "要求 {id} を 10.0.0.{host} から受け付けました",
    "hit": "応答が キャッシュに ありました {id}",
    "miss": "キャッシュに なし {id}",
    "read": "ファイル /data/f{file} の断片 {part} を 読み込み中 {id}",
    "query": "問い合わせ {id} は {ms:.1f} ms で完了",
    "failed": "上流が 503 を返しました {id}",
    "retry": "もう一度 試します {id}",
    "sent": "要求 {id} の相手に {size} バイトを送信",
    "closed": "切断しました {id}",
    "new": "ブロック 17 の 検査値が 一致しません 中止します {id}",
    "heartbeat": "生存確認: 待機中の作業者は {idle} です",
}
LEVELS = {"failed": "ERROR", "retry": "WARNING", "new": "ERROR"}


@dataclass(frozen=True)
class Event:
    """One line to be written."""

    time: datetime
    level: str
    message: str
    name: str  # of its sentence
    session: int | None  # None: it names no session


def made(
    n: int,
    seed: int = 0,
    *,
    start: datetime = START,
    language: str = "en",
    cached: float = 0.3,
    failures: float = 0.1,
    heartbeat: float | None = 20.0,
    first: int = 0,
    missing: Collection[int] = (),
    swapped: Collection[int] = (),
    early: Collection[int] = (),
    new: Collection[int] = (),
    slow: Collection[int] = (),
    repeated: Collection[int] = (),
) -> list[Event]:
    """n sessions numbered from `first`, about one a second, their lines in the order of time.

    cached, failures: shares of sessions that the cache answers, and in whose query the upstream fails (ERROR).
    heartbeat: seconds from one line without a session to the next. The others name sessions with a defect, which are
    never cached: missing (no query), swapped (sent before the query), early (ends after the reads), new (a line never
    written else), slow (a query of 50 times), repeated (12 reads, where 1 to 4 are normal).
    """
    rng = np.random.default_rng(seed)
    sentences = {"en": SENTENCES, "ja": JAPANESE}[language]
    defects = {number for each in (missing, swapped, early, new, slow, repeated) for number in each}
    events, moment = [], start

    def event(time: datetime, name: str, session: int | None = None, **values: object) -> Event:
        message = sentences[name].format(id=f"req-{session or 0:04}", **values)
        return Event(time, LEVELS.get(name, "INFO"), message, name, session)

    for number in range(first, first + n):
        moment += timedelta(seconds=float(rng.exponential(1.0)))
        names = ["accepted"]
        if rng.random() < cached and number not in defects:
            names += ["hit"]
        else:
            names += ["miss", *["read"] * (12 if number in repeated else int(rng.integers(1, 5)))]
            if rng.random() < failures:
                names += ["failed", "retry"]
            names += ["query"]
        names += ["sent", "closed"]
        query = names.index("query") if "query" in names else 0
        if number in missing:
            del names[query]
        if number in swapped:
            names[query], names[query + 1] = names[query + 1], names[query]
        if number in early:
            names = names[: names.index("read") + 1]
        if number in new:
            names.insert(query, "new")
        time = moment
        for part, name in enumerate(names):
            time += timedelta(milliseconds=float(rng.integers(1, 400)))
            ms = float(rng.gamma(4.0, 5.0)) + 2.0
            values = {
                "host": int(rng.integers(1, 200)),
                "part": part,
                "file": int(rng.integers(1000)),
                "ms": 50 * ms if number in slow else ms,
                "size": int(rng.integers(100, 100_000)),
            }
            events.append(event(time, name, number, **values))
    if heartbeat:
        beats = range(1, int((moment - start).total_seconds() / heartbeat) + 1)
        events += [
            event(start + timedelta(seconds=i * heartbeat), "heartbeat", idle=int(rng.integers(2, 9))) for i in beats
        ]
    return sorted(events, key=lambda each: each.time)


def back(events: list[Event], at: int, seconds: float) -> list[Event]:
    """The events with a clock that is put back before number `at`."""
    late = [replace(each, time=each.time - timedelta(seconds=seconds)) for each in events[at:]]
    return [*events[:at], *late]


def text(events: list[Event], form: str = "text", zone: bool = True) -> str:
    """The log in a form, as text; zone=False: times without a zone."""
    if form == "json":
        rows = [{"time": stamp(each, True), "level": each.level, "message": each.message} for each in events]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if form == "csv":
        buffer = io.StringIO()
        rows = [(stamp(each, zone), each.level, each.message) for each in events]
        csv.writer(buffer, lineterminator="\n").writerows([("timestamp", "level", "message"), *rows])
        return buffer.getvalue()
    return "".join(f"{stamp(each, zone)} {each.level} {each.message}\n" for each in events)


def write(path: Path, events: list[Event], form: str = "text", *, zone: bool = True, torn: bool = False) -> Path:
    """The log as a file: "text", "csv", "json" in UTF-8, or "cp932", text in CP932. torn: the last line is cut."""
    raw = text(events, form, zone).encode("cp932" if form == "cp932" else "utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw[:-10] if torn else raw)
    return path


def stamp(event: Event, zone: bool) -> str:
    if zone:
        return event.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event.time.strftime("%Y-%m-%d %H:%M:%S,") + f"{event.time.microsecond // 1000:03}"
