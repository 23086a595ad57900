"""Verdicts on sessions that are written as texts: a model's surprise beside the methods that need no model.

    "E5 E22 E5 E11"     ->     Verdict(score 0.4, odd {})
    "E5 E22 E11"        ->     Verdict(score 9.1, odd {"model", "counts", "sequence", "both"})

The shipped verdict is "both": the model is surprised, and the counts of events are new, too. Either alone alarms too
often: counts are new where a loop goes round once more, which the model has learnt to expect; and the model is
surprised by what is rare, even where it is among what was learnt. Counts are blind to order: where they are known, two
events that never followed each other are the second witness, if the model is surprised far more than by anything
normal. A number that is odd has none, nor has an event that comes far more often than ever in a normal session: a loop
that does not end, which the model expects to go round once more each time.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from kakehashi import runs, training
from kakehashi.paths import atomic_write
from kakehashi.runs import Resolved, Run, RunError
from kakehashi.tokenizers.words import WordTokenizer
from kakehashi.training import Plan
from kakehashi.work.logs.baselines import ALL, UNKNOWN, Events, Method, threshold
from kakehashi.work.logs.errors import LogError, TooFew, damage_said, of_kind
from kakehashi.work.logs.readings import n_learnt
from kakehashi.work.logs.surprise import Surprise
from kakehashi.work.logs.vocabulary import as_read, is_event, is_far, is_new, is_outside

SESSIONS, THRESHOLDS = "sessions.txt", "thresholds.json"
FEWEST = 10  # sessions to learn from
LONGEST_PIECE = 128  # tokens that a model reads at once where it could read any number
EPOCHS, LEAST_STEPS, MOST_STEPS = 30, 600, 3_000
RECIPE: dict[str, Any] = {"lr": 3e-3, "min_lr": 0.0, "weight_decay": 0.05, "clip": 1.0}
LSTM = "lstm-logs"
BATCH, WARMUP = 64, 30
FAR, LEAST_FAR = 1.25, 3.0  # far more than normal: so many times the largest normal surprise, and so many nats
LOOP, LEAST_LOOP = 1.5, 3  # far more often: so many times the most, and so many more
SLACK = 1e-3  # nats by which the same session may differ from batch to batch, as sums are rounded otherwise


@dataclass(frozen=True)
class Verdict:
    """What is said of a session.

    events      its templates' tokens
    surprises   (n + 1,) nats of each of its n words and of its end; inf: never seen, or a number far outside what was
                learnt. Of a session whose end says nothing the last is 0
    score       the largest at a template or the end
    parameter   the largest at a number's bin; 0 where it has none
    odd         names of the methods that alarm: "event", "length", "event or length", "counts", "sequence", "2-gram",
                "forest", "model", "parameter", and "both", the shipped verdict
    by          what makes the shipped verdict alarm, the first of "events", "loop", "number"; "" where it does not
    looped      the index among `events` of the first one that a loop has too many; None where none has
    """

    events: Events
    surprises: np.ndarray
    score: float
    parameter: float
    odd: frozenset[str] = frozenset()
    by: str = ""
    looped: int | None = None


class Verdicts:
    """A run that learnt normal sessions, thresholds from those that were held out, and the methods beside the model.

    normal      the sessions that were learnt, sessions.txt; the model and "forest" know the first 80%, the sets all
    whole       whether the end of a session is one, and not the edge of a window
    thresholds  "model", "parameter", "forest"; "far": for the model far more than normal; "largest": what a number just
                outside its range counts, the largest finite surprise at a normal one
    held_out    by method: the share of held-out normal sessions that alarm, where the sets know the first 80%, too
    """

    def __init__(self, run: Run):
        """Raises LogError where the run is none of a log detector, or has not learnt to the end."""
        try:
            state, sessions = run.read_extra(THRESHOLDS), run.read_extra(SESSIONS)
        except RunError as error:
            raise LogError(f"{error}: it is not a log detector; `kakehashi logs fit` makes one") from None
        step, steps = run.summary()["step"], run.config.train["steps"]
        if step < steps:
            raise LogError(
                f"{run.path} has learnt {step} of {steps} steps: finish it with `kakehashi train --resume {run.path}`"
            )
        self.run = run
        self.tokenizer: WordTokenizer = run.tokenizer
        window = run.config.data.block_size
        assert window is not None  # every language model's run has one
        self.surprise = Surprise(run.load_model(), self.tokenizer, window)
        with damage_said(run.path / THRESHOLDS):
            saved = of_kind(json.loads(state), dict)
            self.whole: bool = of_kind(saved["whole"], bool)
            self.false_alarms = float(of_kind(saved["false_alarms"], int, float))
            n_sessions = of_kind(saved["n_sessions"], int)
            measured = saved["thresholds"] is not None
            if measured:
                self.thresholds = _numbers(saved["thresholds"], THRESHOLD_NAMES)
                self.held_out = _numbers(saved["held_out"], (*(make().name for make in ALL), *OWN, "both"))
        with damage_said(run.path / SESSIONS):
            self.normal = sessions.decode("utf-8").splitlines()
            if len(self.normal) != n_sessions:
                raise ValueError(f"{len(self.normal):,} sessions, and {n_sessions:,} were learnt")
        if not measured:  # training has just ended, here or by `train --resume`
            self._measure()
            self._save()

    @classmethod
    def fit(
        cls,
        sessions: Sequence[str],
        *,
        whole: bool = True,
        data_name: str = "sessions",
        model: str | Path = "lstm",
        root: str | Path = "runs",
        name: str | None = None,
        false_alarms: float = 0.01,
        steps: int | None = None,
        seed: int = 1337,
        extra: Mapping[str, str] = MappingProxyType({}),
        callbacks: Sequence[Any] = (),
    ) -> Self:
        """Learn normal sessions, in the order of time: the model from the first 80%, thresholds from the rest.

        model: "lstm", any language model's NAME or FILE.py, or a RUN, whose weights are gone on from. extra: further
        files of the run. callbacks: see `training.Callback`.
        Raises LogError: see `checked`; too few sessions; and the mistakes of `training`.
        """
        resolved = checked(model, root, name, false_alarms)
        if len(sessions) < FEWEST:
            raise TooFew(f"{len(sessions)} sessions are too few to learn from: it takes {FEWEST} at least")
        settings = {"false_alarms": false_alarms, "whole": whole, "n_sessions": len(sessions)}
        settings |= {"thresholds": None, "held_out": None}
        with TemporaryDirectory() as folder:
            data = Path(folder) / f"{data_name}.txt"
            atomic_write(data, "\n".join(sessions) + "\n")
            run = _plan(resolved, model, data, sessions, steps, seed).create(root, name, keep=SESSIONS)
        # before training, so that a run that was killed can be gone on with
        for each, content in {**extra, THRESHOLDS: json.dumps(settings)}.items():
            run.write_extra(each, content)
        training.train(run.config, run, callbacks)
        return cls(run)

    def of(self, sessions: Sequence[str], whole: Sequence[bool] | None = None) -> list[Verdict]:
        """whole: of each, whether its end is one; None: as in fit."""
        asked = list(zip(sessions, whole or [self.whole] * len(sessions), strict=True))
        distinct = list(dict.fromkeys(asked))
        verdicts = self._scored(distinct, self._read(distinct), self.thresholds["largest"])
        found = dict(zip(distinct, self._decided(verdicts, self.methods, self.most), strict=True))
        return [found[each] for each in asked]

    def events(self, session: str) -> Events:
        """The tokens of a session's templates."""
        return tuple(self.tokenizer.encode(" ".join(filter(is_event, session.split()))))

    @cached_property
    def known(self) -> list[Events]:
        """The events of each normal session."""
        distinct = {session: self.events(session) for session in dict.fromkeys(self.normal)}
        return [distinct[session] for session in self.normal]

    @cached_property
    def methods(self) -> list[Method]:
        """Sets know all normal sessions, the forest those that its threshold is not taken from."""
        learnt = self.known[: n_learnt(len(self.known))]
        return [method.fit(learnt if method.cut is None else self.known) for method in (make() for make in ALL)]

    @cached_property
    def first(self) -> frozenset[int]:
        """The events that begin a normal session."""
        return frozenset(events[0] for events in self.known if events)

    @cached_property
    def most(self) -> Counter[int]:
        """How often each event stands in a normal session, at most."""
        return _most(self.known)

    def _read(self, sessions: Sequence[tuple[str, bool]]) -> list[np.ndarray]:
        """What the model says of each (session, whole), whole or not."""
        with self.run.learners_code():
            return self.surprise.of([session for session, _ in sessions])

    def _scored(
        self, sessions: Sequence[tuple[str, bool]], surprises: Sequence[np.ndarray], largest: float
    ) -> list[Verdict]:
        """What model and numbers say of (session, whole). surprises: of `_read`. largest: what a number just outside
        its range counts."""
        verdicts = []
        for (session, whole), read in zip(sessions, surprises, strict=True):
            words = session.split()
            known = np.array([not is_new(word) for word in words] + [True])  # what the model has read
            surprise, tokens = np.full(len(words) + 1, np.inf), np.full(len(words), UNKNOWN)
            surprise[known], tokens[known[:-1]] = read, self.tokenizer.encode(as_read(session))
            event = np.array([is_event(word) for word in words] + [True])
            for i, word in enumerate(words):
                if is_outside(word):
                    surprise[i] = np.inf if is_far(word) else largest
                elif tokens[i] == UNKNOWN:
                    surprise[i] = np.inf
            if not whole:
                surprise[-1] = 0.0
            events = tuple(tokens[event[:-1]].tolist())
            score, parameter = surprise[event].max(), surprise[~event].max(initial=0.0)
            verdicts.append(Verdict(events, surprise, float(score), float(parameter)))
        return verdicts

    def _decided(self, verdicts: Sequence[Verdict], methods: Sequence[Method], most: Counter[int]) -> list[Verdict]:
        """The same with the methods that alarm. most: see `most`."""
        events = [verdict.events for verdict in verdicts]
        scores = {method.name: method.score(events) for method in methods}
        scores |= {name: np.array([getattr(v, at) for v in verdicts]) for name, at in OWN.items()}
        cuts = {method.name: method.cut for method in methods if method.cut is not None} | self.thresholds
        odd = {name: values > cuts[name] for name, values in scores.items()}
        by_events = (odd["model"] & odd["counts"]) | ((scores["model"] > cuts["far"]) & odd["2-gram"])
        looped = [_looped(each, most) for each in events]
        by_loop = np.array([place is not None for place in looped], dtype=bool)
        odd["both"] = by_events | by_loop | odd["parameter"]
        by = np.select([by_events, by_loop, odd["parameter"]], ["events", "loop", "number"], "")
        found = []
        for i, verdict in enumerate(verdicts):
            names = frozenset(name for name, alarms in odd.items() if alarms[i])
            found.append(replace(verdict, odd=names, by=str(by[i]), looped=looped[i]))
        return found

    def _measure(self) -> None:
        """Thresholds, and how often each method alarms, from the sessions that were held out."""
        distinct = [(session, self.whole) for session in dict.fromkeys(self.normal)]
        surprises = self._read(distinct)
        normal = self._scored(distinct, surprises, largest=0.0)
        most_event = max((v.score for v in normal if np.isfinite(v.score)), default=0.0)
        most_number = max((v.parameter for v in normal if np.isfinite(v.parameter)), default=0.0)

        cut = n_learnt(len(self.normal))
        learnt = self.known[:cut]
        methods = [make().fit(learnt) for make in ALL]
        scored = dict(zip(distinct, self._scored(distinct, surprises, most_number), strict=True))
        held_out = [scored[session, self.whole] for session in self.normal[cut:]]
        events = [verdict.events for verdict in held_out]
        scores = {method.name: method.score(events) for method in methods if method.cut is None}
        scores |= {name: np.array([getattr(v, at) for v in held_out]) for name, at in OWN.items()}
        self.thresholds = {name: threshold(values, self.false_alarms) for name, values in scores.items()}
        self.thresholds["model"] += SLACK
        self.thresholds["parameter"] = max(self.thresholds["parameter"], LEAST_FAR, FAR * most_number)
        self.thresholds |= {"far": max(LEAST_FAR, FAR * most_event), "largest": most_number}

        decided = self._decided(held_out, methods, _most(learnt))
        names = [method.name for method in methods] + [*OWN, "both"]
        self.held_out = {name: sum(name in each.odd for each in decided) / len(decided) for name in names}

    def _save(self) -> None:
        # JSON has no word for inf, which a threshold is where too many held-out sessions are
        thresholds = {name: each if np.isfinite(each) else str(each) for name, each in self.thresholds.items()}
        state = {"false_alarms": self.false_alarms, "whole": self.whole, "n_sessions": len(self.normal)}
        state |= {"thresholds": thresholds, "held_out": self.held_out}
        self.run.write_extra(THRESHOLDS, json.dumps(state, indent=1))


OWN = {"model": "score", "parameter": "parameter"}  # methods whose scores stand in the Verdict
THRESHOLD_NAMES = ("model", "parameter", "forest", "far", "largest")


def _numbers(saved: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """A number for each name. Raises what Python raises at damage."""
    found = {name: float(saved[name]) for name in names}
    if any(np.isnan(value) for value in found.values()):
        raise ValueError(f"{found} are no numbers")
    return found


def _most(sessions: Iterable[Events]) -> Counter[int]:
    """How often each event stands in one of the sessions, at most."""
    most: Counter[int] = Counter()
    for session in sessions:
        for event, n in Counter(session).items():
            most[event] = max(most[event], n)
    return most


def _looped(session: Events, most: Counter[int]) -> int | None:
    """The index of the first event that comes once more than `most`, where it comes far more often; None: none does."""
    for event, n in Counter(session).items():
        if event in most and n > LOOP * most[event] and n >= most[event] + LEAST_LOOP:
            return [i for i, each in enumerate(session) if each == event][most[event]]
    return None


def checked(model: str | Path, root: str | Path, name: str | None, false_alarms: float) -> Resolved:
    """What a person's word for a model stands for. Raises LogError, before anything is read: no language model, a run
    that is there already, no share."""
    if not 0 <= false_alarms <= 1:
        raise LogError(f"the share of false alarms must be between 0 and 1, got {false_alarms:g}")
    if name is not None and (Path(root) / name).exists():
        raise LogError(f"{Path(root) / name} exists: choose another name")
    resolved = runs.resolve(LSTM if str(model) == "lstm" else model)
    if resolved.family is None or resolved.family.task != "lm":
        raise LogError(f"a log detector needs a language model, and {model} is none: choose lstm, gpt2, ...")
    return resolved


def _plan(
    resolved: Resolved, model: str | Path, data: Path, sessions: Sequence[str], steps: int | None, seed: int
) -> Plan:
    """How the model learns the sessions. Raises LogError where it is a run that learnt other words."""
    what = LSTM if str(model) == "lstm" else model
    tokenizer: WordTokenizer | None = WordTokenizer.train(map(as_read, sessions))
    start = None
    if resolved.model is not None:
        if unknown := set(tokenizer.tokens) - set(getattr(resolved.codec, "tokens", ())):
            raise LogError(
                f"{model} does not know {len(unknown)} words of these sessions, such as {min(unknown)}: "
                f"begin anew, with model lstm for instance"
            )
        start, tokenizer = what, None
    learnt = [len(session.split()) + 1 for session in sessions[: n_learnt(len(sessions))]]
    # a model that could read any number of tokens reads whole sessions, if they are not too long
    window = None
    if getattr(resolved.config, "block_size", None) is None:
        window = min(LONGEST_PIECE, max(learnt))
    n_items = sum(-(-length // (window or length)) for length in learnt)
    usual = min(MOST_STEPS, max(LEAST_STEPS, EPOCHS * n_items // BATCH))
    steps = usual if steps is None else steps
    return training.plan(
        None if start else what,
        data,
        unit="document",
        split="order",
        window=window,
        tokenizer=tokenizer,
        from_run=start,
        seed=seed,
        steps=steps,
        batch_size=min(BATCH, n_items),
        warmup=min(WARMUP, steps // 2),
        **RECIPE,
    )
