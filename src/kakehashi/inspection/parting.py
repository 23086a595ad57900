"""The first tensor that differs, and what is known of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kakehashi.inspection import align
from kakehashi.inspection.closeness import distance, largest, real, tolerance, wide
from kakehashi.inspection.patterns import Pattern, Seen, recognise
from kakehashi.inspection.patterns.fits import fit_norm
from kakehashi.inspection.patterns.numbers import dropout, scale
from kakehashi.inspection.record import Call, Op, Pass, Trace, record

Pairs = Sequence[tuple[Call, Call]]
Names = tuple[str | None, ...]  # of a function in either model
Results = list[tuple[str, Tensor]]  # functions, and what they gave
NEAR = 16  # steps after the parting in which the models are compared
PAIRS = 40  # pairs of results that are looked at there
MOST = 24  # equal tensors before it in which a cause is looked for


@dataclass(frozen=True)
class Place:
    """A tensor that both models have. a, b: modules, "" the models; end: "in" or "out"; label: which tensor there.

    A tensor of complex numbers stands as one of pairs, real and imaginary part.
    """

    a: str
    b: str
    end: str
    label: str
    shape_a: tuple[int, ...]
    shape_b: tuple[int, ...]
    largest: float  # the largest |a - b|; NaN: other shapes, or one alone NaN
    distance: float  # relative to the largest value; inf: other shapes, or one alone infinite or NaN
    equal: bool
    nan: bool  # whether both hold NaN


@dataclass(frozen=True)
class Parting:
    """The first difference.

    a, b            the modules in whose own code it arises, after the last equal tensor; "" the models
    place           the first tensor that differs; before: the last one that is equal, None where there is none
    op              the function of torch, in each module, whose result is the first that the other has not
    pattern         what explains the difference; None: nothing that we know
    settings        plain attributes of the two modules that differ: {name: (a's, b's)}
    only_a, only_b  what one of them calls and the other does not
    weights         a's own parameters there to which b has none of equal value
    """

    a: str
    b: str
    place: Place
    before: Place | None
    op: Names
    pattern: Pattern | None
    settings: dict[str, tuple[Any, Any]]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class First:
    """The first tensors that differ: place number `at`, at the end `end` of the calls a and b."""

    at: int
    a: Call
    b: Call
    end: str
    x: Tensor
    y: Tensor


def walk(pairs: Pairs, tol: float | None) -> tuple[list[Place], First | None]:
    """All tensors that correspond, in a's order, and the first that differ."""
    ends = [(one.start, "in", one, other) for one, other in pairs]
    ends += [(one.end, "out", one, other) for one, other in pairs]
    places, first = [], None
    for _, end, one, other in sorted(ends, key=lambda each: each[0]):
        held = (one.inputs, other.inputs) if end == "in" else (one.outputs, other.outputs)
        for label, x, y in align.tensors(*held, needed=end == "out"):
            far = distance(x, y)
            equal = far <= limit(x, y, tol)
            if first is None and not equal:
                first = First(len(places), one, other, end, x, y)
            shapes = tuple(x.shape), tuple(y.shape)
            nan = bool(x.isnan().any() and y.isnan().any())
            places.append(Place(one.path, other.path, end, label, *shapes, largest(x, y), far, equal, nan))
    return places, first


def is_in(x: Tensor, others: Iterable[Tensor], tol: float | None) -> bool:
    return any(x.shape == y.shape and distance(x, y) <= limit(x, y, tol) for y in others)


def limit(x: Tensor, y: Tensor, tol: float | None) -> float:
    return tolerance(x, y) if tol is None else tol


def explain(
    first: First,
    places: Sequence[Place],
    pairs: Pairs,
    passes: Sequence[Pass],
    traces: Sequence[Trace],
    tol: float | None,
) -> Parting:
    """Whose code the difference arises in, between which steps, and what pattern it has."""
    # what enters a module was computed by the module that called it
    owner_a, owner_b = (
        (first.a, first.b) if first.end == "out" else (first.a.parent or first.a, first.b.parent or first.b)
    )
    calls_a, calls_b = (
        [call for call in trace.calls if call.parent is owner]
        for trace, owner in zip(traces, (owner_a, owner_b), strict=True)
    )
    partners = {id(one): other for one, other in pairs}
    names = {id(call): one.path.rpartition(".")[2] for one, other in pairs for call in (one, other)}  # by a's
    only_a, only_b = ([call for call in calls if id(call) not in names] for calls in (calls_a, calls_b))

    steps_a = steps_until(passes[0], owner_a, first.a, first.end)
    steps_b = steps_until(passes[1], owner_b, first.b, first.end)
    given, alone = compared(steps_a, steps_b, tol)
    for call in calls_a:
        if id(call) in partners:
            given += equal_ones(call.outputs, partners[id(call)].outputs, tol)
    given += equal_ones(owner_a.inputs, owner_b.inputs, tol)
    given += [x for call in only_a + only_b for x in call.outputs.values()]
    order = [tuple(names[id(call)] for call in calls if id(call) in names) for calls in (calls_a, calls_b)]
    moved = next((one for one, other in zip(*order, strict=False) if one != other), None)
    if first.end == "out" or names[id(first.a)] != moved:  # what moved takes what it took before: no cause
        order = [(), ()]
    context = {
        "given": distinct(given)[:MOST],
        "parameters": [
            {name: real(p) for name, p in [*each.model.named_parameters(), *each.model.named_buffers()]}
            for each in passes
        ],
        "tables": [tables(each.model) for each in passes],
        "order": order,
        "norms": {names[id(call)] for call in calls_a if id(call) in names and normalises(call)},
    }

    candidates = [(first.x, first.y), *near(alone)]
    pattern = recognise(Seen(x, y, **context, tolerance=limit(x, y, tol)) for x, y in candidates)
    if pattern is None or pattern.weak:
        pattern = added_step(given, alone, tol) or pattern
    return Parting(
        a=owner_a.path,
        b=owner_b.path,
        place=places[first.at],
        before=places[first.at - 1] if first.at else None,
        op=(alone[0][0][0] if alone[0] else None, alone[1][0][0] if alone[1] else None),
        pattern=pattern,
        settings=settings(owner_a.module, owner_b.module),
        only_a=tuple(call.path for call in only_a),
        only_b=tuple(call.path for call in only_b),
        weights=unlike(owner_a.module, owner_b.module),
    )


def steps_until(one: Pass, owner: Call, call: Call, end: str) -> list[Op]:
    """What torch computed in the owner's own code, up to the moment when a call takes or gives its tensors."""
    trace = record(one, inside=owner.key)
    again = next(each for each in trace.calls if each.key == call.key)
    return [op for op in trace.ops if op.moment < (again.start if end == "in" else again.end)]


def compared(a: Sequence[Op], b: Sequence[Op], tol: float | None) -> tuple[list[Tensor], list[Results]]:
    """Of two sequences of steps: the results that both have, newest first; and the next few that only one has."""
    results = [[(op.name, x) for op in ops for x in op.outputs.values()] for ops in (a, b)]
    tensors = [[x for _, x in each] for each in results]
    common = [x for x in tensors[0] if is_in(x, tensors[1], tol)]
    alone = [
        [(name, x) for name, x in each if not is_in(x, others, tol)][:NEAR]
        for each, others in zip(results, tensors[::-1], strict=True)
    ]
    return common[::-1], alone


def near(alone: Sequence[Results]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of results of one shape: those of one function, then those of others, the nearest to the parting first."""
    pairs = [
        (name != other, i + j, x, y)
        for i, (name, x) in enumerate(alone[0])
        for j, (other, y) in enumerate(alone[1])
        if x.shape == y.shape and (name == other or x.is_floating_point())
    ]
    return [pair[2:] for pair in sorted(pairs, key=lambda pair: pair[:2])[:PAIRS]]


def added_step(given: Sequence[Tensor], alone: Sequence[Results], tol: float | None) -> Pattern | None:
    """Whether the first result that one model has alone is what went in, times a factor, or with dropout."""
    for side, results in enumerate(alone):
        for _, y in results[:1]:
            for x in given:
                if not x.is_floating_point():
                    continue
                seen = Seen(x, y, given, tolerance=limit(x, y, tol))
                if found := scale(seen):
                    return Pattern("factor", found.values | {"side": "AB"[side], "other": "BA"[side]})
                if (found := dropout(seen)) and found.values.get("side") == "B":
                    return Pattern("dropout", found.values | {"side": "AB"[side]})
    return None


def equal_ones(a: Mapping[str, Tensor], b: Mapping[str, Tensor], tol: float | None) -> list[Tensor]:
    return [x for _, x, y in align.tensors(dict(a), dict(b), needed=False) if distance(x, y) <= limit(x, y, tol)]


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each once: those that are the same to the last bit are one."""
    found: list[Tensor] = []
    for x in tensors:
        if not any(x.shape == y.shape and torch.equal(x, y) for y in found):
            found.append(x)
    return found


def tables(model: nn.Module) -> set[str]:
    """The names of the embeddings' matrices, as `named_parameters` has them."""
    held = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    return {name for name, p in model.named_parameters() if id(p) in held}


def normalises(call: Call) -> bool:
    """Whether what a call gives is measured to be a norm of what it took."""
    if len(call.inputs) != 1 or len(call.outputs) != 1:
        return False
    (x,), (y,) = call.inputs.values(), call.outputs.values()
    return x.shape == y.shape and x.ndim > 1 and fit_norm(wide(x), wide(y), tolerance(x, y)) is not None


def settings(a: nn.Module, b: nn.Module) -> dict[str, tuple[Any, Any]]:
    """The plain attributes that both modules have, and that differ."""

    def plain(value: Any) -> bool:
        return isinstance(value, bool | int | float | str) or (isinstance(value, tuple) and all(map(plain, value)))

    one, other = vars(a), vars(b)
    shared = [name for name in one if name in other and name != "training" and not name.startswith("_")]
    return {
        name: (one[name], other[name])
        for name in shared
        if plain(one[name]) and plain(other[name]) and one[name] != other[name]
    }


def unlike(a: nn.Module, b: nn.Module) -> tuple[str, ...]:
    """Names of a's own parameters that are equal to none of b's own."""
    theirs = [p.detach() for p in b.parameters(recurse=False)]
    theirs += [p.T for p in theirs if p.ndim == 2]
    own = a.named_parameters(recurse=False)
    return tuple(name for name, p in own if all(distance(p, q) > tolerance(p, q) for q in theirs))
