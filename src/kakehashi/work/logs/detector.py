"""The log detector: logs in, alarms out. Its state is a run, and so the model in it is a language model as any other.

runs/lstm-logs-october-0001/
  templates.json       Drain
  detector.json        how records become sessions, and messages words
  sessions.txt         the normal sessions, the model's data
  thresholds.json      what is too much, from normal sessions that were held out
  pending.json         templates never seen that a scan has met
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from kakehashi.runs import Run, RunError
from kakehashi.tokenizers.words import UNKNOWN
from kakehashi.work.logs.baselines import Events
from kakehashi.work.logs.drain import Drain
from kakehashi.work.logs.errors import LogError, TooFew, damage_said, of_kind, of_saved
from kakehashi.work.logs.grouping import Grouping
from kakehashi.work.logs.lines import Notes
from kakehashi.work.logs.masks import Masks
from kakehashi.work.logs.nearest import Nearest, Normal
from kakehashi.work.logs.pending import Pending, Waiting
from kakehashi.work.logs.readings import Readings, n_learnt
from kakehashi.work.logs.records import Record, read, seconds_of
from kakehashi.work.logs.sessions import Session
from kakehashi.work.logs.stamps import SEVERITY
from kakehashi.work.logs.surprise import Surprise
from kakehashi.work.logs.verdict import FEWEST, Verdict, Verdicts, checked
from kakehashi.work.logs.vocabulary import Vocabulary, is_event, is_far, is_new, kindly, measured, numbers

TEMPLATES, DETECTOR, PENDING = "templates.json", "detector.json", "pending.json"
GRAVE = ("WARNING", "ERROR", "CRITICAL")  # levels that alarm where a template had none as bad
SAMPLE = 20_000  # records that show how a log may be grouped
BATCH = 256  # sessions judged at a time
RUNNING = 60.0  # seconds from the first time of a log
CUT = ("full", "crowded")  # why a session was closed that goes on
WORDS = 65_536  # distinct lists of a record's words that are remembered

Paths = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class Judged:
    """A session and what is said of it.

    words       one for each event and each of its numbers' bins; places: the index of the record of each
    surprises   (n + 1,) nats of each word and of the end, see `Verdict`
    score       the largest at an event or the end
    odd         names of the methods that alarm, see `Verdict`; alarm: whether "both", the shipped verdict, does
    word        the index in `words` of what is oddest; their number for the end
    place       the index of its record; the number of records for the end
    why         "new" (a template never seen), "level" (a known one, at a worse level than ever), "order"
                (another event was expected), "end", "parameter", "loop" (an event comes far more often than ever)
    """

    session: Session
    events: Events
    words: list[str]
    places: list[int]
    surprises: np.ndarray
    score: float
    odd: frozenset[str]
    alarm: bool
    word: int
    place: int
    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a record until its session is judged: its words, and what an alarm shows."""

    words: tuple[str, ...]
    message: str
    time: datetime | None
    level: str | None
    source: str
    line_number: int
    usual: str | None = None  # the worst level of its template in the normal logs, where its own is GRAVE and worse


class Detector:
    """A fitted detector. Make one with `fit`, or `load` it from its run.

    run, drain, vocabulary, grouping, verdicts. worst: of each event in fit the worst level, by its word. settings:
    encoding and layout of the files. n_records: read in fit; skipped: of them, those in no session; n_dropped:
    templates that Drain had no room for. outside: of the last `sessions`, the records in none, by their level. torn: of
    the last `sessions`, or of fit, the records left out, as their line has no end and no template covers what there is
    of it. n_running: of the last `sessions`, those judged that were running before the log began: their first event, in
    its first RUNNING seconds, never begins a normal one.
    What they lack is no wonder, so that they alarm only for a template never seen, a number or a loop.
    """

    def __init__(self, run: Run, verdicts: Verdicts, drain: Drain, saved: dict[str, Any], waiting: Waiting):
        self.run = run
        self.verdicts = verdicts
        self.drain = drain
        self.vocabulary = Vocabulary.from_dict(drain, saved["vocabulary"])
        self.grouping = of_saved(Grouping, saved["grouping"])
        list(self.grouping.sessions([]))  # says what is wrong with it
        self.worst = {word: SEVERITY[SEVERITY.index(level)] for word, level in saved["worst"].items()}
        kinds = (str, type(None))
        self.settings = {name: of_kind(saved["settings"][name], *kinds) for name in ("encoding", "layout")}
        self.n_records, self.skipped, self.n_dropped = (
            of_kind(saved[name], int) for name in ("n_records", "skipped", "n_dropped")
        )
        self.outside: Counter[str] = Counter()
        self.torn: list[Record] = []
        self.n_running = 0
        self._began: float | None = None  # the first time of the log, in seconds
        self._waiting = waiting
        self._words: dict[tuple[str, ...], tuple[str, ...]] = {}

    @classmethod
    def fit(
        cls,
        paths: Paths,
        *,
        model: str | Path = "lstm",
        root: str | Path = "runs",
        name: str | None = None,
        key: str | None = None,
        window: int | None = None,
        seconds: float | None = None,
        masks: str | Path | None = None,
        encoding: str | None = None,
        layout: str | None = None,
        false_alarms: float = 0.01,
        steps: int | None = None,
        seed: int = 1337,
        notes: Notes | None = None,
        callbacks: Sequence[Any] = (),
    ) -> Self:
        """Learn logs in which all is normal.

        model: "lstm", any language model's NAME or FILE.py, or the RUN of a detector, whose templates, bins and weights
        are gone on from. key, window (records), seconds: one of them says how records are grouped, see `Grouping`.
        false_alarms: the share of normal sessions that may exceed each threshold.
        Raises LogError: what cannot be read, has no record or too few sessions; and the mistakes of `training`.
        """
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        notes = Notes() if notes is None else notes
        started = None
        if checked(model, root, name, false_alarms).model is not None:
            if masks is not None:
                raise LogError(f"the templates of {model} go on with its own masks: leave masks {masks} out")
            started = cls.load(model)
        rules = Masks.load(masks)
        settings = {"encoding": encoding, "layout": layout}

        # the first time: templates, which widen while they are learnt, so that sessions can be written only afterwards
        records = read(paths, notes, **settings)
        sample = list(islice(records, SAMPLE))
        if not sample:
            raise LogError(f"there is no record in {', '.join(map(str, paths))}: choose logs with something in them")
        grouping = Grouping.of(sample, key, window, seconds)
        by_key = grouping.mask(sample)
        drain = started.drain if started else Drain(masks=rules.before(by_key) if by_key else rules)
        n_records = 0
        for record in chain(sample, records):
            if not record.torn:
                drain.learn(record.message)
            n_records += 1
        del sample

        # the second time: sessions, of each record its template and its numbers
        readings, outside, torn = Readings(), Counter(), []
        worst = started.worst if started else {}
        measures: dict[int, tuple[bool, ...]] = {0: ()}
        kinds: dict[int, tuple[bool, ...]] = {0: ()}

        def keep(record: Record) -> int:
            group = drain.match(record.message)
            if group is None:
                return readings.note(0, ())
            if group.id not in measures:
                measures[group.id] = measured(drain, group, record.message)
                kinds[group.id] = kindly(drain, group, record.message)
            if record.level and _is_worse(record.level, worst.get(word := f"E{group.id}")):
                worst[word] = record.level
            return readings.note(group.id, numbers(drain, group, record.message))

        records = _told(read(paths, Notes(progress=notes.progress), **settings), drain, torn)
        for session in grouping.sessions(records, keep=keep, outside=outside):
            readings.add(session.records)
        if len(readings.sessions) < FEWEST:
            raise TooFew(
                f"{len(readings.sessions)} sessions are too few to learn from, it takes {FEWEST}: {grouping.smaller}"
            )
        vocabulary = Vocabulary(drain, started.vocabulary.bins if started else readings.bins(measures, kinds))
        saved = {
            "format": 1,
            "grouping": asdict(grouping),
            "vocabulary": vocabulary.to_dict(),
            "worst": worst,
            "settings": settings,
            "n_records": n_records,
            "skipped": outside.total(),
            "n_dropped": drain.n_made - len(drain.groups),
        }
        verdicts = Verdicts.fit(
            list(readings.texts(vocabulary.bins)),
            whole=grouping.by_key,
            data_name=_named(Path(paths[0])),
            model=model,
            root=root,
            name=name,
            false_alarms=false_alarms,
            steps=steps,
            seed=seed,
            extra={TEMPLATES: _json(drain.to_dict()), DETECTOR: _json(saved)},
            callbacks=callbacks,
        )
        made = cls(verdicts.run, verdicts, drain, saved, Waiting(drain.masks))
        made.torn = torn
        return made

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The detector in a run.

        Raises LogError where it is a run of another kind, has not learnt to the end, or is damaged.
        """
        run = Run.open(path)
        saved, templates = _extra(run, DETECTOR), _extra(run, TEMPLATES)
        if saved.get("format") != 1:
            raise LogError(f"{run.path} has the format {saved.get('format')!r}, and 1 can be read: update kakehashi")
        with damage_said(run.path / TEMPLATES):
            drain = Drain.from_dict(templates)
        waiting = Waiting(drain.masks)
        if (run.path / PENDING).exists():
            with damage_said(run.path / PENDING):
                waiting = Waiting.from_dict(_extra(run, PENDING))
        verdicts = Verdicts(run)
        with damage_said(run.path / DETECTOR):
            return cls(run, verdicts, drain, saved, waiting)

    @property
    def surprise(self) -> Surprise:
        return self.verdicts.surprise

    @property
    def normal(self) -> list[str]:
        """The normal sessions as texts, in the order of time: the first `n_learnt` were learnt by the model."""
        return self.verdicts.normal

    @property
    def n_learnt(self) -> int:
        return n_learnt(len(self.normal))

    @property
    def n_held_out(self) -> int:
        return len(self.normal) - self.n_learnt

    @property
    def held_out(self) -> dict[str, float]:
        """By method: the share of held-out normal sessions that alarm."""
        return self.verdicts.held_out

    def sessions(
        self,
        source: Paths | Iterable[Record],
        notes: Notes | None = None,
        *,
        idle: float | None = None,
        each: Callable[[Session], Any] | None = None,
    ) -> Iterator[Session]:
        """The sessions of files and folders, or of records, as fit grouped them, as a stream; of each record `Kept`.

        idle: see `sessions.by_key`. each: called with each record as it comes, as a session of its own.
        Records that no template covers become `pending`; see `outside` and `torn`, too.
        """
        self.outside, self.torn, self.n_running, self._began = Counter(), [], 0, None
        self._waiting.begin()
        items: Iterator[Any] = iter([source] if isinstance(source, str | Path) else source)
        first = list(islice(items, 1))
        if first and isinstance(first[0], str | Path):
            records = read([*first, *items], notes, **self.settings)
        else:
            records = chain(first, items)
        told = _told(records, self.drain, self.torn)
        key = self.grouping.key if self.grouping.by_key else lambda record: [""]

        def keep(record: Record) -> Kept:
            kept = self._kept(record)
            if each and (names := key(record)):
                each(Session(names[0], [kept]))
            return kept

        return self.grouping.sessions(told, keep=keep if each else self._kept, idle=idle, outside=self.outside)

    def judge(self, sessions: Iterable[Session]) -> Iterator[Judged]:
        """What is said of each session, in batches: memory does not grow with their number."""
        stream = iter(sessions)
        while batch := list(islice(stream, BATCH)):
            read = [_written(session) for session in batch]
            texts = [" ".join(words) for words, _ in read]
            # the end says nothing of a session that goes on in another one, or of which no word is left
            cut = [session.why in CUT or not text for session, text in zip(batch, texts, strict=True)]
            whole = [self.verdicts.whole and not each for each in cut]
            for session, (words, places), verdict in zip(batch, read, self.verdicts.of(texts, whole), strict=True):
                if self._was_running(session, verdict):
                    self.n_running += 1
                    verdict = _lenient(verdict)
                yield _judged(session, words, places, verdict)

    def alone(self, session: Session) -> Judged | None:
        """What is said of a session of one record, where this alarms in any: its template was never seen, or never at
        such a level, or a number in it is far outside what was learnt or of a new kind. Else None."""
        words, places = _written(session)
        new = UNKNOWN in words
        if not new and not any(is_far(word) or is_new(word) for word in words):
            return None
        (verdict,) = self.verdicts.of([" ".join(words)], [False])
        if ("model" if new else "parameter") not in verdict.odd:
            return None
        return _judged(session, words, places, replace(verdict, by="events" if new else "number"))

    def _was_running(self, session: Session, verdict: Verdict) -> bool:
        """Whether a session is one of those whose beginning was before the log's."""
        if not self.verdicts.whole or not verdict.events or self._began is None:
            return False
        seconds = seconds_of(session.records[0].time)
        soon = seconds is not None and abs(seconds - self._began) <= RUNNING
        return soon and verdict.events[0] not in self.verdicts.first

    def nearest(self, events: Events) -> Nearest:
        """The normal session that is nearest; of several, the one seen most often."""
        return self._normal.nearest(events)

    @property
    def pending(self) -> list[Pending]:
        """Templates never seen that `sessions` has met, here or in a scan before, and that nobody has accepted."""
        return [each for each in self._waiting.pending() if self.drain.match(each.example.message) is None]

    def note_pending(self) -> None:
        """Write pending.json, so that they can be accepted later."""
        self.run.write_extra(PENDING, _json(self._waiting.to_dict()))

    def accept(self, ids: Iterable[int]) -> list[Pending]:
        """Learn pending templates, and write them to the run: their events are left out until the next fit.

        Raises LogError for one that does not wait.
        """
        waiting = {each.id: each for each in self.pending}
        ids = list(dict.fromkeys(ids))
        if unknown := [id for id in ids if id not in waiting]:
            there = f"those that do are {', '.join(map(str, waiting))}" if waiting else "none does"
            raise LogError(f"no template number {unknown[0]} waits to be accepted: {there}")
        self.vocabulary.accepted |= {self.drain.adopt(waiting[id].template).id for id in ids}
        self._waiting = self._waiting.without(ids)
        saved = _extra(self.run, DETECTOR) | {"vocabulary": self.vocabulary.to_dict()}
        # in this order: what a kill leaves half done can be done again
        self.run.write_extra(DETECTOR, _json(saved))
        self.run.write_extra(TEMPLATES, _json(self.drain.to_dict()))
        self.note_pending()
        return [waiting[id] for id in ids]

    @cached_property
    def _normal(self) -> Normal:
        return Normal(self.verdicts.known, self.verdicts.tokenizer.tokens)

    def _usual(self, words: tuple[str, ...], level: str | None) -> str | None:
        """The worst level of an event in the normal logs, where this one is worse and GRAVE."""
        known = self.worst.get(words[0]) if words else None
        return known if known and level in GRAVE and _is_worse(level, known) else None

    def _kept(self, record: Record) -> Kept:
        if self._began is None:
            self._began = record.seconds
        words = self.vocabulary.words(record.message)
        if words == (UNKNOWN,):
            self._waiting.add(record)
        if usual := self._usual(words, record.level):
            words = (UNKNOWN,)  # no normal session has it
        if len(self._words) >= WORDS:
            self._words.clear()
        words = self._words.setdefault(words, words)  # once for all records that have the same
        return Kept(words, record.message, record.time, record.level, record.source, record.line_number, usual)


def _is_worse(level: str, known: str | None) -> bool:
    return known is None or SEVERITY.index(level) > SEVERITY.index(known)


def _told(records: Iterable[Record], drain: Drain, torn: list[Record]) -> Iterator[Record]:
    """The records of which can be told what they are; what is left of others becomes `torn`."""
    for record in records:
        if record.torn and drain.match(record.message) is None:
            torn.append(record)
        else:
            yield record


def _written(session: Session) -> tuple[list[str], list[int]]:
    """The words of a session, and the index of the record of each."""
    words = [word for kept in session.records for word in kept.words]
    places = [place for place, kept in enumerate(session.records) for _ in kept.words]
    return words, places


def _lenient(verdict: Verdict) -> Verdict:
    """Without an alarm for the order of events that were all seen before."""
    if verdict.by != "events" or np.isinf(verdict.score):
        return verdict
    by = "loop" if verdict.looped is not None else "number" if "parameter" in verdict.odd else ""
    return replace(verdict, by=by, odd=verdict.odd if by else verdict.odd - {"both"})


def _judged(session: Session, words: list[str], places: list[int], verdict: Verdict) -> Judged:
    by_number = verdict.by == "number"
    here = np.array([is_event(word) != by_number for word in words] + [not by_number])
    word = int(np.where(here, verdict.surprises, -1.0).argmax())
    if by_number:
        why = "parameter"
    elif verdict.by == "loop" and verdict.looped is not None:
        word, why = int(np.flatnonzero(here)[verdict.looped]), "loop"
    elif word == len(words):
        why = "end"
    else:
        why = "new" if np.isinf(verdict.surprises[word]) else "order"
        if why == "new" and session.records[places[word]].usual:
            why = "level"
    return Judged(
        session=session,
        events=verdict.events,
        words=words,
        places=places,
        surprises=verdict.surprises,
        score=verdict.score,
        odd=verdict.odd,
        alarm="both" in verdict.odd,
        word=word,
        place=[*places, len(session.records)][word],
        why=why,
    )


def _named(path: Path) -> str:
    """What a run is named by: the folder, or the file without .log.gz and the like."""
    name = path.resolve().name
    if not path.is_dir():
        name = name.removesuffix("".join(Path(name).suffixes))
    return name or "logs"


def _extra(run: Run, name: str) -> dict[str, Any]:
    try:
        return of_kind(json.loads(run.read_extra(name)), dict)
    except RunError:
        raise LogError(f"{run.path} is not a log detector: it has no {name}; `kakehashi logs fit` makes one") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise LogError(f"{run.path / name} is damaged: {error}") from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
