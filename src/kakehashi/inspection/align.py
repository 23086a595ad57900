"""What of one model corresponds to what of another: weights, and calls of modules.

By name where names are equal, but for what stands before all of one model's ("transformer."); else in order, those of
one shape, as few as possible left over.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile

import torch
from torch import Tensor, nn

from kakehashi.inspection.closeness import distance, tolerance
from kakehashi.inspection.record import Call, Tensors, Trace

Move = tuple[int, int]  # how many of one sequence stand for how many of the other


@dataclass(frozen=True)
class Pair:
    """Weights that are one: several of either stand for one of the other, side by side along its first axis.

    transposed: a matrix lies (in, out) in one and (out, in) in the other.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Weights:
    """The pairs, and the names in either model that have no partner."""

    pairs: list[Pair]
    left_a: list[str]
    left_b: list[str]


def prefixes(a: Iterable[str], b: Iterable[str]) -> tuple[str, str]:
    """What to take away in front of either model's names so that most become equal: one of the two is ""."""
    a, b = set(a), set(b)

    def shared(one: str, other: str) -> int:
        return len(
            {name.removeprefix(one) for name in a if name.startswith(one)}
            & {name.removeprefix(other) for name in b if name.startswith(other)}
        )

    def stems(names: set[str]) -> list[str]:
        return sorted({name[: i + 1] for name in names for i, c in enumerate(name) if c == "."}, key=len)

    choices = [("", ""), *((stem, "") for stem in stems(a)), *(("", stem) for stem in stems(b))]
    return max(choices, key=lambda choice: shared(*choice))


def in_order(
    n: int, m: int, worth: Callable[[int, int, Move], float], moves: Sequence[Move] = ((1, 1),)
) -> list[tuple]:
    """The alignment of two sequences of n and m that is worth most, nothing crossing: [(i, j, move)].

    worth(i, j, move): of the move that takes those from i and from j on together; 0 or less: not allowed.
    """
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    chosen: list[list[Move]] = [[(1, 0)] * (m + 1) for _ in range(n + 1)]
    for i in range(n, -1, -1):
        for j in range(m, -1, -1):
            if i == n and j == m:
                continue
            options = [(best[i + di][j + dj], (di, dj)) for di, dj in ((1, 0), (0, 1)) if i + di <= n and j + dj <= m]
            for di, dj in moves:
                if i + di <= n and j + dj <= m and (gain := worth(i, j, (di, dj))) > 0:
                    options.append((best[i + di][j + dj] + gain, (di, dj)))
            best[i][j], chosen[i][j] = max(options, key=lambda option: option[0])
    found, i, j = [], 0, 0
    while i < n or j < m:
        move = chosen[i][j]
        if min(move):
            found.append((i, j, move))
        i, j = i + move[0], j + move[1]
    return found


# --- Weights ---


def weights(a: nn.Module, b: nn.Module, trace_a: Trace, trace_b: Trace) -> Weights:
    """Which weights (parameters and saved buffers) of two models are one.

    The traces tell of a square matrix, of which the shape does not, whether its module computes x W or x W^T.
    """
    of_a, of_b = distinct(a), distinct(b)
    input_first_a, input_first_b = input_first(trace_a), input_first(trace_b)

    def pair(names_a: Sequence[str], names_b: Sequence[str]) -> Pair | None:
        """The two as one, if their shapes allow it."""
        x, y = beside(of_a[name] for name in names_a), beside(of_b[name] for name in names_b)
        if x is None or y is None or (x != y and (len(x) != 2 or x != y[::-1])):
            return None
        square = x == y == y[::-1]
        turned = (names_a[0] in input_first_a) != (names_b[0] in input_first_b) if square else x != y
        return Pair(tuple(names_a), tuple(names_b), turned)

    def paired_in_order(some_a: list[str], some_b: list[str]) -> Iterable[Pair]:
        """Equal shapes, or three that side by side make one, as queries, keys and values do."""

        def worth(i: int, j: int, move: Move) -> float:
            return max(move) * bool(pair(some_a[i : i + move[0]], some_b[j : j + move[1]]))

        for i, j, (n, m) in in_order(len(some_a), len(some_b), worth, ((1, 1), (1, 3), (3, 1))):
            if found := pair(some_a[i : i + n], some_b[j : j + m]):
                yield found

    front_a, front_b = prefixes(of_a, of_b)
    shared = [
        (name, other)
        for name in of_a
        if name.startswith(front_a) and (other := front_b + name.removeprefix(front_a)) in of_b
    ]
    pairs = [found for name, other in shared if (found := pair([name], [other]))]
    left_a = [name for name in of_a if name not in {each.a[0] for each in pairs}]
    left_b = [name for name in of_b if name not in {each.b[0] for each in pairs}]
    for kind in (2, 1, 0):  # matrices, vectors, numbers: each in its own order, for a layer's bias follows its matrix
        pairs += paired_in_order(
            [name for name in left_a if min(of_a[name].ndim, 2) == kind],
            [name for name in left_b if min(of_b[name].ndim, 2) == kind],
        )
    used_a, used_b = {name for each in pairs for name in each.a}, {name for each in pairs for name in each.b}
    return Weights(pairs, [name for name in of_a if name not in used_a], [name for name in of_b if name not in used_b])


def beside(tensors: Iterable[Tensor]) -> tuple[int, ...] | None:
    """The shape of tensors side by side along the first axis; None where they do not fit."""
    first, *rest = (tuple(tensor.shape) for tensor in tensors)
    if rest and (not first or any(shape != first for shape in rest)):
        return None
    return ((1 + len(rest)) * first[0], *first[1:]) if rest else first


def distinct(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and saved buffers; what is tied, once, under its first name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def input_first(trace: Trace) -> set[str]:
    """The names of square matrices W with which a module was seen to compute x W + bias: (in, out)."""
    found = set()
    for call in trace.calls:
        own = dict(call.module.named_parameters(recurse=False))
        matrices = [name for name, p in own.items() if p.ndim == 2 and p.shape[0] == p.shape[1]]
        if len(matrices) == 1 and len(own) <= 2 and len(call.inputs) == len(call.outputs) == 1:
            (x,), (y,), W = call.inputs.values(), call.outputs.values(), own[matrices[0]]
            if x.dtype == W.dtype and x.shape == y.shape and x.shape[-1] == W.shape[0]:
                bias = next((p for p in own.values() if p.ndim == 1), 0)
                if distance(x @ W.detach() + bias, y) <= tolerance(x, y):
                    found.add(f"{call.path}.{matrices[0]}".lstrip("."))
    return found


@torch.no_grad()
def copy(source: nn.Module, target: nn.Module, pairs: Iterable[Pair], backwards: bool = False) -> None:
    """Give target the weights of source. backwards: source is the pairs' b, target their a."""
    theirs, mine = source.state_dict(keep_vars=True), target.state_dict(keep_vars=True)
    for pair in pairs:
        taken, given = (pair.b, pair.a) if backwards else (pair.a, pair.b)
        for name, piece in zip(given, cut([theirs[name] for name in taken], len(given), pair.transposed), strict=True):
            mine[name].copy_(piece)


def cut(pieces: Sequence[Tensor], n: int, transposed: bool) -> Sequence[Tensor]:
    """Tensors side by side, transposed, and cut into n."""
    whole = torch.cat(list(pieces)) if len(pieces) > 1 else pieces[0]
    whole = whole.T if transposed else whole
    return whole.chunk(n) if n > 1 else [whole]


# --- Calls ---


def calls(a: Sequence[Call], b: Sequence[Call]) -> list[tuple[Call, Call]]:
    """Which calls correspond, in the order in which a's began.

    The models themselves, called first; then those of one name and number; the rest in order, by values and shapes. Of
    the rest, two that give other values, which the other model has elsewhere, do not correspond.
    """
    front_a, front_b = prefixes((call.path for call in a), (call.path for call in b))
    modules_a, modules_b = ({path for path, _ in each[0].module.named_modules()} for each in (a, b))
    named = {(call.path.removeprefix(front_b), call.number): call for call in b[1:] if call.path.startswith(front_b)}
    pairs = {id(a[0]): (a[0], b[0])}
    for call in a[1:]:
        if call.path.startswith(front_a) and (other := named.get((call.path.removeprefix(front_a), call.number))):
            pairs[id(call)] = (call, other)
    taken = {id(other) for _, other in pairs.values()}

    def has_namesake(call: Call, front: str, other_front: str, modules: set[str]) -> bool:
        """Whether the other model has a module of this name, which it calls otherwise, or not at all."""
        return call.path.startswith(front) and other_front + call.path.removeprefix(front) in modules

    rest_a = [c for c in a if id(c) not in pairs and not has_namesake(c, front_a, front_b, modules_b)]
    rest_b = [c for c in b if id(c) not in taken and not has_namesake(c, front_b, front_a, modules_a)]
    for i, j, _ in in_order(len(rest_a), len(rest_b), lambda i, j, _: likeness(rest_a[i], rest_b[j])):
        one, other = rest_a[i], rest_b[j]
        if same_work(one, other) or not (gives_one_of(one, b) or gives_one_of(other, a)):
            pairs[id(one)] = (one, other)
    return [pairs[id(call)] for call in a if id(call) in pairs]


def same_work(a: Call, b: Call) -> bool:
    """Whether two calls give an equal tensor, and take none that differs."""
    return gives_one_of(a, [b]) and all(
        distance(x, y) <= tolerance(x, y) for _, x, y in tensors(a.inputs, b.inputs, needed=False)
    )


def gives_one_of(call: Call, others: Iterable[Call]) -> bool:
    """Whether some tensor that a call gives is one that others give."""
    return any(
        x.shape == y.shape and distance(x, y) <= tolerance(x, y)
        for x in call.outputs.values()
        for other in others
        for y in other.outputs.values()
    )


def likeness(a: Call, b: Call) -> float:
    """How well two calls go together: 0 without a common shape of what they give."""
    if not {x.shape for x in a.outputs.values()} & {x.shape for x in b.outputs.values()}:
        return 0.0
    if same_work(a, b):
        return 10.0
    own = [sorted(sorted(p.shape) for p in call.module.parameters(recurse=False)) for call in (a, b)]
    leaf = [not any(True for _ in call.module.children()) for call in (a, b)]
    last = [call.path.rpartition(".")[2] for call in (a, b)]
    # the same weights say most, then the same name; one with weights and one without hardly go together
    weights = (2.0 if own[0] else 0.5) if own[0] == own[1] else -0.9
    return 1.0 + weights + 1.0 * (last[0] == last[1]) + 0.5 * (leaf[0] == leaf[1])


def tensors(a: Tensors, b: Tensors, needed: bool) -> list[tuple[str, Tensor, Tensor]]:
    """Which tensors of two calls correspond: by label where all labels are equal, else those of one shape, in order.

    Shapes that differ in leading axes of length 1 are one, and b's tensor is given that of a's. needed: where none
    correspond, the first ones are taken, whose shapes differ.
    """
    if a.keys() == b.keys():
        return [(label, a[label], shaped(b[label], a[label])) for label in a]
    left, found = list(b.values()), []
    for label, x in a.items():
        for i, y in enumerate(left):
            y = shaped(y, x)
            if x.shape == y.shape and x.is_floating_point() == y.is_floating_point():
                found.append((label, x, y))
                del left[i]
                break
    if needed and not found and a and b:
        return [(next(iter(a)), next(iter(a.values())), next(iter(b.values())))]
    return found


def shaped(y: Tensor, x: Tensor) -> Tensor:
    """y with x's shape, where they differ in leading axes of length 1."""
    bare = [tuple(dropwhile(lambda size: size == 1, tensor.shape)) for tensor in (x, y)]
    return y.reshape(x.shape) if bare[0] == bare[1] else y
