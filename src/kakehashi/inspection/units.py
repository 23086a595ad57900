"""Units that say nothing, and units that learn nothing: what the activation functions of a model give.

    with watch(model) as seen:
        model(tokens)
    seen[Activation("h.0.mlp", "gelu")].share_dead

A unit is one feature of what an activation function gives: a column of (..., features), or a channel of an image.
Dead: over all examples it gives one value, or does not leave the flat end of its function, so it tells the next layer
nothing. Saturated: it is so far out that the slope is at most 6% of the largest, so next to no gradient comes through.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten: Any = torch.ops.aten
Span = tuple[float, float]
NEAR = 1e-3
# where a function is flat: outputs that all lie in one span are dead. relu's end is exact, others are only approached
BELOW, ZERO, ONE = (-NEAR, 0.0), (0.0, NEAR), (1 - NEAR, 1.0)
FLAT: dict[str, tuple[Span, ...]] = {
    "relu": ((-math.inf, 0.0),),
    "relu6": ((-math.inf, 0.0), (6.0, math.inf)),
    "hardtanh": ((-math.inf, -1.0), (1.0, math.inf)),
    "hardsigmoid": ((-math.inf, 0.0), (1.0, math.inf)),
    "hardswish": ((-math.inf, 0.0),),
    "leaky_relu": (),
    "elu": ((-1.0, -1 + NEAR),),
    "softplus": (ZERO,),
    "gelu": (BELOW,),
    "silu": (BELOW,),
    "mish": (BELOW,),
    "tanh": ((-1.0, -1 + NEAR), ONE),
    "sigmoid": (ZERO, ONE),
}
# |tanh| > 0.97 as in Karpathy's lectures (makemore, part 3): the slope is 1 - 0.97^2 = 0.06 there. A sigmoid is a tanh,
# halved and lifted, and has 0.06 of its largest slope at 0.015 and 0.985
SATURATED: dict[str, float] = {"tanh": 0.97, "sigmoid": 0.97, "hardtanh": 1 - 1e-6, "hardsigmoid": 1 - 1e-6}


@dataclass(frozen=True, eq=False)
class Units:
    """rows: the examples seen, at least 1. dead (n,) bool; saturated (n,): the share of each unit's outputs, float32.

    saturated is None for functions without two ends.
    """

    rows: int
    dead: Tensor
    saturated: Tensor | None

    @property
    def n(self) -> int:
        return len(self.dead)

    @property
    def share_dead(self) -> float:
        """Of the units."""
        return float(self.dead.float().mean())

    @property
    def share_saturated(self) -> float | None:
        """Of all outputs."""
        return None if self.saturated is None else float(self.saturated.mean())


@torch.no_grad()
def of(x: Tensor, kind: str) -> Units:
    """Of what a function of FLAT gave: (..., features), at least one row, of any floating dtype. NaN is not dead."""
    return Extent.of(x, kind).units(kind)


@dataclass(frozen=True, eq=False)
class Extent:
    """What Units follow from, and what adds up over calls: least and most (n,), and how many are saturated (n,)."""

    rows: int
    least: Tensor
    most: Tensor
    saturated: Tensor | None

    @classmethod
    def of(cls, x: Tensor, kind: str) -> "Extent":
        flat = x.detach().reshape(-1, x.shape[-1])  # (rows, n)
        least, most = flat.aminmax(dim=0)
        beyond = None
        if kind in SATURATED:
            size = (flat.abs() if kind.endswith("tanh") else flat.mul(2).sub_(1).abs_()) > SATURATED[kind]
            beyond = size.sum(0)
        return cls(len(flat), least, most, beyond)

    def joined(self, other: "Extent") -> "Extent":
        """Of both calls' examples."""
        both = None if self.saturated is None or other.saturated is None else self.saturated + other.saturated
        least, most = self.least.minimum(other.least), self.most.maximum(other.most)
        return Extent(self.rows + other.rows, least, most, both)

    def units(self, kind: str) -> Units:
        dead = (self.least == self.most) & (self.rows > 1)  # one example is no evidence that it never changes
        for low, high in FLAT[kind]:
            dead = dead | ((self.least >= low) & (self.most <= high))
        return Units(self.rows, dead, None if self.saturated is None else self.saturated.float() / self.rows)


class Activation(NamedTuple):
    """One place in a model where a function of FLAT is applied. module: the innermost one. place: 0 the first such
    of that module and kind, in the order in which they are first met; n units may differ between places."""

    module: str
    kind: str
    place: int = 0


@contextmanager
def watch(model: nn.Module, on: Callable[[], bool] = lambda: True) -> Iterator[dict[Activation, Units]]:
    """Inside, each pass of the model is looked at; afterwards the dict holds its Units, over all passes together.

    Seen are modules and functions alike, also gelu and silu that are written out, clamp(min=0), and the gates of
    torch's LSTM, whose kernel shows none (computed a second time from what it takes and gives). on: asked at each pass.
    Hooks, which are gone afterwards, and a dispatch mode while the model runs: bits and random numbers stay the same,
    but hooks switch off the shortcut of torch's encoder layer in eval mode, which changes its output by rounding. Not
    seen: what a backward pass runs again (checkpointing).
    """
    seen: dict[Activation, Units] = {}
    found = Found()
    handles = attach(model, found, on)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        seen.update(found.units())


def attach(model: nn.Module, found: "Found", on: Callable[[], bool] = lambda: True) -> list[Any]:
    """The hooks of `watch`, which the caller removes."""
    names: list[str] = []  # of the modules that run now, innermost last
    spy = Watch(lambda kind, extent, way: found.add(names[-1], kind, extent, way))

    def enter(name: str, module: nn.Module) -> None:
        if not names and (name or not on()):  # outside of a pass that is watched
            return
        if names:
            spy.flush()
        else:
            spy.root = sys._getframe(2)  # torch's call of the model: its hook, then us
            spy.__enter__()
        names.append(name)

    def leave(name: str) -> None:
        if names:
            spy.flush()
            names.pop()
            if not names:
                spy.__exit__(None, None, None)
                spy.root = None

    handles = []
    for name, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks; what is inside is the caller's
            handles.append(module.register_forward_pre_hook(lambda module, args, name=name: enter(name, module)))
            handles.append(
                module.register_forward_hook(lambda module, args, output, name=name: leave(name), always_call=True)
            )
    return handles


class Found:
    """Extents by where they were met."""

    def __init__(self):
        self.extents: dict[tuple, Extent] = {}

    def add(self, module: str, kind: str, extent: Extent, way: tuple) -> None:
        key = module, kind, way, len(extent.least)
        before = self.extents.get(key)
        self.extents[key] = extent if before is None else before.joined(extent)

    def units(self) -> dict[Activation, Units]:
        found: dict[Activation, Units] = {}
        for (module, kind, *_), extent in self.extents.items():
            place = sum(each.module == module and each.kind == kind for each in found)
            found[Activation(module, kind, place)] = extent.units(kind)
        return found


class Watch(TorchDispatchMode):
    """While it is entered, tells of what each activation function gives: tell(kind, Extent, way), way: the lines of
    code that led there, innermost first. `flush` where a module begins or ends. Changes nothing."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Or torch imports its compiler, for seconds, at the first operator."""
        return False

    def __init__(self, tell: Callable[[str, Extent, tuple], None]):
        super().__init__()
        self.tell = tell
        self.root: FrameType | None = None  # where ways end
        self.channels: tuple[int, int] | None = None  # of what the last convolution gave: (axes, channels)
        # sigmoids, tanhs and erfs that may turn out to be a part of silu or gelu
        self.open: list[Open] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_") if isinstance(func, torch._ops.OpOverload) else ""
        if name in INTERESTING:
            with _disable_current_modes(), torch.no_grad():  # ours is nobody's to see, or to count
                self.look(name, args, kwargs or {}, given)
        return given

    def look(self, name: str, args: Any, kwargs: dict[str, Any], given: Any) -> None:
        if name == "convolution":
            self.channels = given.ndim, given.shape[1]
        elif name == "mkldnn_rnn_layer":
            self.look_at_lstm(args, given[0])
        elif name in ("mul", "add"):
            self.look_at_parts(name, args, given)
        elif given.ndim > 1 and given.numel() and given.is_floating_point():
            kind = name
            if name in ("clamp", "clamp_min"):
                bounds = [
                    kwargs.get("min", args[1] if len(args) > 1 else None),
                    kwargs.get("max", *args[2:3] or [None]),
                ]
                kind = "relu" if bounds == [0, None] else ""
            elif name == "hardtanh":
                bounds = tuple(args[1:3]) or (-1, 1)
                kind = {(0, 6): "relu6", (-1, 1): "hardtanh"}.get(bounds, "")
            if name in ("sigmoid", "tanh", "erf"):
                extent = Extent.of(self.lain(given), kind) if kind in FLAT else None
                self.open.append(Open(kind, extent, self.way(), ref(args[0]), ref(given)))
            elif kind:
                self.tell(kind, Extent.of(self.lain(given), kind), self.way())

    def look_at_parts(self, name: str, args: Any, given: Tensor) -> None:
        """x sigmoid(x) is silu; x (1 + tanh(...)) and x (1 + erf(...)), by 0.5 somewhere, are gelu."""
        a, b = args[:2]
        for part in self.open:
            value = part.value()
            if value is None or not (a is value or b is value):
                continue
            other = b if a is value else a
            number = not isinstance(other, Tensor) or other.ndim == 0
            if part.is_gate and name == "mul" and number:
                part.value = ref(given)
            elif part.is_gate and name == "mul":
                self.open.remove(part)
                self.tell("gelu", Extent.of(self.lain(given), "gelu"), part.way)
            elif part.kind in ("tanh", "erf") and name == "add" and number and float(other) == 1:
                part.is_gate, part.value = True, ref(given)
            elif part.kind == "sigmoid" and name == "mul" and other is part.of():
                self.open.remove(part)
                self.tell("silu", Extent.of(self.lain(given), "silu"), part.way)
            return

    def look_at_lstm(self, args: Any, h: Tensor) -> None:
        """The gates of a layer of torch's LSTM, h (T, B, H) what it gave: i, f, o (T, B, 3H), candidates (T, B, H)."""
        x, w_x, w_h, b_x, b_h, before, _, reverse, _, mode = args[:10]
        if mode != 2 or not h.numel():  # cuDNN's number of an LSTM
            return
        order = (h[1:], before.reshape(1, *h.shape[1:])) if reverse else (before.reshape(1, *h.shape[1:]), h[:-1])
        i, f, g, o = (x @ w_x.T + b_x + torch.cat(order) @ w_h.T + b_h).chunk(4, -1)  # each (T, B, H)
        here = (*self.way(), id(w_x))  # layers and directions are called in one line
        self.tell("sigmoid", Extent.of(torch.cat([i, f, o], -1).sigmoid_(), "sigmoid"), here)
        self.tell("tanh", Extent.of(g.tanh(), "tanh"), here)

    def way(self) -> tuple:
        """The calls that led here, by code and place in it: two functions in a line are two places, a loop is one."""
        calls, frame = [], sys._getframe(1)
        while frame and frame is not self.root:
            calls.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return tuple(calls)

    def lain(self, x: Tensor) -> Tensor:
        """Features last: channels lie beside the batch, (B, K, ...), where a convolution gave as many."""
        return x.movedim(1, -1) if self.channels == (x.ndim, x.shape[1]) else x

    def flush(self) -> None:
        """What is open stands for itself."""
        for part in self.open:
            if part.extent is not None and not part.is_gate:
                self.tell(part.kind, part.extent, part.way)
        self.open.clear()


@dataclass(eq=False)
class Open:
    """A function that was applied; `of` and `value` are weak: nothing lives longer for being watched."""

    kind: str
    extent: Extent | None
    way: tuple
    of: Callable[[], Tensor | None]
    value: Callable[[], Tensor | None]
    is_gate: bool = False


INTERESTING = {*FLAT, "erf", "clamp", "clamp_min", "convolution", "mkldnn_rnn_layer", "mul", "add"}
