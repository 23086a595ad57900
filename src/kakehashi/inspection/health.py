"""Health of a model while it learns: a callback of training, for any nn.Module.

    training.train(config, run, [Health()])
    run.metrics()[-1]["health"]["layers"]["h.0"]["update"]      # 0.0011

In metrics.jsonl, at the steps that are measured:

    {"step", "layers": {name: {"gradient", "update", "scale", "dead", "saturated"}}}
    {"not_finite": {"step", "what", "layer"}}      once, beside these or alone: see Trouble

gradient   L2 norm of the layer's gradients, before clipping
update     |what the step changed in the layer's parameters| / |the parameters before it|, L2 norms. The change itself
           is measured, not lr * gradient: Adam's averages, Muon, decay and clipping are in it. Near 0.001 is a rule of
           thumb
scale      root of the mean square of what the layer gives, over the whole step
dead, saturated    the shares of `units`, over the layer's activation functions and the whole step

A figure that a layer has not is left out (it has no parameters, or no activation function, or is never called); one
that is not finite is null. Four digits are kept.

A layer is what a reader can take in at a glance: of a list of blocks each block, "h.0" or "encoder.layers.3", with all
that is inside; elsewhere the module that owns the parameters, "wte" or "ln_f". An activation function outside of them
stands under its module's name, or, called by the model itself, under its kind: "tanh".

The measured step holds one more copy of the trained parameters from the gradients to the end of the step, and no
activation. All other steps cost the norms of the gradients, and nothing is left on the model between them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from kakehashi.inspection import units
from kakehashi.inspection.record import tensors, unchanged

EVERY = 50  # steps: a measured one takes at most twice as long
POINTS = 10  # but at least so many times in a run, however short


class Trouble(NamedTuple):
    """The first number that was not finite. what: "outputs" of the layer, or only its "gradients". layer: its name."""

    step: int
    what: str
    layer: str


class Health:
    """Measures every so many steps (None: 50, less in a short run; a multiple of those that are written).

    tell: called once, at the step when a gradient is infinite or not a number, before the weights are spoilt by it (on
    the CPU; elsewhere at a measured step, as looking means waiting for the device). It names the first layer whose
    outputs are not finite, found by a second pass over the step's last batch; where all are, as in a wrong derivative
    or a wrong loss, the last layer whose gradients are not.

    The steps themselves are those of a run without it, bit by bit. With engine "numpy" there are no activations: its
    modules take no hooks.
    """

    name: ClassVar[str] = "health"

    def __init__(self, every: int | None = None, tell: Callable[[Trouble], None] = lambda trouble: None):
        if every is not None and every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every, self.tell = every, tell
        self.trouble: Trouble | None = None
        self.handles: list[Any] = []
        self.before: list[Any] | None = None  # the parameters, while a step is measured

    # --- What training calls ---

    def on_start(self, state: Any) -> None:
        settings = state.settings
        wanted = self.every or min(EVERY, max(1, settings.steps // POINTS))
        self.period = -(-wanted // settings.log_every) * settings.log_every
        self.of_torch = isinstance(state.model, nn.Module)
        self.is_near = settings.device == "cpu"
        named = [(name, p) for name, p in state.model.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        self.layers = [layer_of(name) for name, _ in named]
        self.prepare(state)

    def on_backward(self, state: Any) -> None:
        self.detach()
        due = self.is_due(state.step + 1)
        if not (due or self.is_near):
            return
        sizes = norms([p.grad for p in self.parameters])
        self.look(state, sizes)
        if not due:
            return
        self.notes = {name: {} for name in dict.fromkeys(self.layers)}
        self.put("gradient", self.by_layer(sizes))
        if self.of_torch:
            self.put("scale", self.scales.means())
            self.put_units()
        self.before = [copied(p) for p in self.parameters]

    def on_step(self, state: Any) -> dict[str, Any] | None:
        note = None
        if self.before is not None:
            sizes = self.by_layer(norms(self.before))
            changes = self.by_layer(norms(differences(self.before, self.parameters)))
            self.before = None
            self.put("update", {name: changes[name] / size for name, size in sizes.items() if size})
            note = {"step": state.step, "layers": self.notes}
        if self.trouble and self.trouble.step == state.step:
            note = (note or {}) | {"not_finite": self.trouble._asdict()}
        self.prepare(state)
        return note

    def on_end(self, state: Any) -> None:
        self.detach()

    # --- Around a measured step ---

    def is_due(self, step: int) -> bool:
        return step % self.period == 0

    def prepare(self, state: Any) -> None:
        """Where the next step is measured, watch its passes; evaluation, in eval mode, is let by."""
        self.detach()
        if self.of_torch and self.is_due(state.step + 1):
            model, modules = state.model, dict(state.model.named_modules())
            self.found, self.scales = units.Found(), Scales()
            self.handles = units.attach(model, self.found, lambda: model.training)
            for name in dict.fromkeys(self.layers):
                if (module := modules.get(name)) and not isinstance(module, torch.jit.ScriptModule):
                    self.handles.append(module.register_forward_hook(partial(self.scales.see, model, name)))

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def put(self, what: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.notes.setdefault(name, {})[what] = number(value)

    def put_units(self) -> None:
        """Shares over all activation functions of a layer: of its units, and of its outputs."""
        dead: dict[str, list[tuple[float, int]]] = {}
        saturated: dict[str, list[tuple[float, int]]] = {}
        for where, found in self.found.units().items():
            name = self.layer_around(where)
            dead.setdefault(name, []).append((found.share_dead, found.n))
            if found.share_saturated is not None:
                saturated.setdefault(name, []).append((found.share_saturated, found.n * found.rows))
        self.put("dead", {name: weighted(pairs) for name, pairs in dead.items()})
        self.put("saturated", {name: weighted(pairs) for name, pairs in saturated.items()})

    def layer_around(self, where: units.Activation) -> str:
        """Its module's block, or the layer that it is or stands in; else itself."""
        parts = where.module.split(".")
        around = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        return next((name for name in around if name in self.layers), where.module or where.kind)

    def by_layer(self, norms: list[float]) -> dict[str, float]:
        """Norms of parameters -> of layers."""
        squares = dict.fromkeys(self.layers, 0.0)
        for name, norm in zip(self.layers, norms, strict=True):
            squares[name] += norm * norm
        return {name: math.sqrt(square) for name, square in squares.items()}

    # --- What is not finite ---

    def look(self, state: Any, sizes: list[float]) -> None:
        if self.trouble or math.isfinite(sum(sizes)):
            return
        outputs = first_spoilt(state) if self.of_torch else None
        spoilt = [name for name, size in zip(self.layers, sizes, strict=True) if not math.isfinite(size)]
        layer = spoilt[-1] if spoilt else self.layers[-1]
        self.trouble = Trouble(state.step + 1, "gradients" if outputs is None else "outputs", outputs or layer)
        self.tell(self.trouble)


class Scales:
    """Sums of squares of what layers give, and of how many numbers."""

    def __init__(self):
        self.sums: dict[str, list[tuple[Tensor, int]]] = {}

    def see(self, model: nn.Module, name: str, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook of a layer: its first output."""
        given = next((x for x in tensors(output).values() if x.is_floating_point() and x.numel()), None)
        if model.training and given is not None:
            with _disable_current_modes(), torch.no_grad():  # `units` need not count it
                norm = torch.linalg.vector_norm(given.detach(), dtype=torch.promote_types(given.dtype, torch.float32))
            self.sums.setdefault(name, []).append((norm, given.numel()))

    def means(self) -> dict[str, float]:
        """Roots of the mean squares."""
        return {
            name: math.sqrt(sum(norm.item() ** 2 for norm, _ in pairs) / sum(n for _, n in pairs))
            for name, pairs in self.sums.items()
        }


def layer_of(parameter: str) -> str:
    """The block of a parameter: up to the first number in its name. Without one its module; of the model itself, it."""
    owner, _, own = parameter.rpartition(".")
    parts = owner.split(".")
    n = next((n for n, part in enumerate(parts, 1) if part.isdigit()), len(parts))
    return ".".join(parts[:n]) or own


def first_spoilt(state: Any) -> str | None:
    """The first module that gives infinity or NaN in a second pass over the step's last batch; innermost, in the order
    in which they end. The model itself, where it is only the loss, goes by its class. -inf alone is taken for a mask.
    """
    spoilt: list[str] = []

    def see(name: str, module: nn.Module, args: Any, output: Any) -> None:
        given = [x for x in tensors(output).values() if x.is_floating_point()]
        if not spoilt and any(bool((x.isnan() | (x == math.inf)).any()) for x in given):
            spoilt.append(name or type(module).__name__)

    model, batch = state.model, state.batch
    handles = [
        module.register_forward_hook(partial(see, name))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        with unchanged(model, True), torch.no_grad(), state.engine.autocast():
            model(*batch.inputs, batch.targets, **batch.options)
    finally:
        for handle in handles:
            handle.remove()
    return spoilt[0] if spoilt else None


# --- Arrays of either engine ---


def norms(arrays: Sequence[Any]) -> list[float]:
    """L2 norms; of None, 0."""
    there = [each for each in arrays if each is not None]
    if there and isinstance(there[0], Tensor):
        found = iter(torch.stack(torch._foreach_norm(there)).tolist())
    else:
        found = iter([float(np.linalg.norm(each)) for each in there])
    return [0.0 if each is None else next(found) for each in arrays]


def copied(parameter: Any) -> Any:
    return parameter.detach().clone() if isinstance(parameter, Tensor) else parameter.data.copy()


def differences(before: list[Any], parameters: Sequence[Any]) -> list[Any]:
    """before - parameters, in the memory of `before`."""
    for old, new in zip(before, parameters, strict=True):
        old -= new.detach() if isinstance(new, Tensor) else new.data
    return before


def weighted(pairs: Sequence[tuple[float, int]]) -> float:
    return sum(share * n for share, n in pairs) / sum(n for _, n in pairs)


def number(value: float) -> float | None:
    """With four digits; what is not finite is null in a row."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
