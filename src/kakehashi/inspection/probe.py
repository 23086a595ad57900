"""See the tensors of any nn.Module while it works as always.

    with Probe(model, "h.*.attn", grads=True) as probe:
        model(tokens, targets).loss.backward()
    probe["h.0.attn"].output            # (B, T, C), as it was then
    probe["h.0.attn"].grad              # (B, T, C), of the output
    probe["h.0.attn"].attention         # (B, H, T, T), whatever kernel computed it
    probe.notes                         # what to know of it

The probe stands around nn.Module.__call__, as torch.fx does, and puts nothing on the model: hooks would switch off the
shortcuts of torch's encoder layer, and so change its output by rounding.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from kakehashi.inspection.attention import Watch
from kakehashi.inspection.record import tensors
from kakehashi.inspection.statistics import Statistics
from kakehashi.inspection.which import ProbeError, Which, bare, matching, near

Value = Tensor | Statistics

NOTES = {
    "silent": "never called",
    "statistics": "more than the limit: Statistics instead of tensors",
    "written_out": "attention taken from the model's own steps: rows that sum to 1, multiplied with values",
    "shortcut": "a fused kernel gave the output; what is inside was computed a second time, without it",
    "again": "run again by the backward pass (checkpointing); counted once",
    "compiled": "run without the compiler",
}


@dataclass(eq=False)
class Call:
    """One call of a module: copies from the moment when it took and gave them.

    inputs      by place or name: "0", "mask"; what a nested value holds has the way to it: "0.1"
    outputs     "output", or of several "output.0", "output.logits", ...; none if the call raised an error
    grads       of the outputs, by the same labels, in the last backward pass that reached them
    attentions  weights (B, H, T, S), before dropout, of each attention inside that no other probed module holds
    """

    inputs: dict[str, Value]
    outputs: dict[str, Value] = field(default_factory=dict)
    grads: dict[str, Value] = field(default_factory=dict)
    attentions: list[Value] = field(default_factory=list)
    followed: bool = False  # whether gradients are waited for

    @property
    def output(self) -> Value | None:
        """The first of the outputs."""
        return next(iter(self.outputs.values()), None)

    @property
    def grad(self) -> Value | None:
        """That output's gradient; None where none arrived."""
        return self.grads.get(next(iter(self.outputs), ""))


@dataclass(eq=False)
class Probed:
    """A module's calls. What there is once is given itself, what there is more often as a list, in order."""

    name: str
    kind: str
    calls: list[Call] = field(default_factory=list)

    @property
    def inputs(self) -> Any:
        return one_or_all([call.inputs for call in self.calls])

    @property
    def output(self) -> Any:
        return one_or_all([call.output for call in self.calls])

    @property
    def grad(self) -> Any:
        return one_or_all([call.grad for call in self.calls])

    @property
    def attention(self) -> Any:
        return one_or_all([weights for call in self.calls for weights in call.attentions])


def one_or_all(values: list) -> Any:
    return values[0] if len(values) == 1 else values or None


class Probe:
    """Inside the `with`, keeps what the modules take and give, in the thread that opened it.

    which: names as `matching` reads them, a module, a class, a predicate (name, module) -> bool, or a list of these.
    grads: of outputs, too, in backward passes inside the `with`. attention: whether to look for it. limit: bytes of
    all copies together; of what is more, only Statistics are kept. device: where to copy to; None: where it was.

    probe[name] is Probed; probe itself goes over the names. The model computes the same bits as without, leaves its
    shortcuts on, and draws the same random numbers; afterwards nothing holds on to it. A compiled model is run without
    the compiler. Names leave out the compiler's "_orig_mod.". Raises ProbeError where `which` finds no module.
    """

    def __init__(
        self,
        model: nn.Module,
        which: Which | Sequence[Which] = "**",
        grads: bool = False,
        *,
        attention: bool = True,
        limit: int = 2**30,
        device: str | torch.device | None = None,
    ):
        self.grads, self.looks, self.limit, self.device = grads, attention, limit, device
        self.title = type(getattr(model, "_orig_mod", model)).__name__
        found = matching(model, which)
        self.kinds = {name: type(module).__name__ for module, name in found.items()}
        self.found = WeakKeyDictionary(found)
        self.watch: Watch | None = None
        self.compiled = [
            bare(name)
            for name, module in model.named_modules()
            if name.endswith("_orig_mod") or module._compiled_call_impl is not None
        ]
        self.is_open = False
        self.clear()

    def clear(self) -> None:
        self.seen = {name: Probed(name, kind) for name, kind in self.kinds.items()}
        self.noted: dict[str, dict[str, None]] = {kind: {} for kind in NOTES}
        self.noted["compiled"] = dict.fromkeys(self.compiled)
        self.held = 0  # bytes
        self.frames: list[tuple[nn.Module, Call | None]] = []  # those that run now, innermost last
        self.handles: list[Any] = []
        # what was copied, while the model has it: one's output is often the next one's input
        self.known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __enter__(self) -> "Probe":
        if self.is_open:
            raise ProbeError("this probe is open already: open another one")
        self.clear()
        self.watch = Watch(self.tell) if self.looks else None
        self.is_open = True
        start(self)
        return self

    def __exit__(self, *error: Any) -> None:
        stop(self)
        self.is_open, self.watch = False, None
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.noted["silent"] = {name: None for name, seen in self.seen.items() if not seen.calls}

    def __getitem__(self, name: str) -> Probed:
        if name not in self.seen:
            raise ProbeError(f"{name!r} is not probed{near(name, self.seen)}")
        return self.seen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.seen)

    @property
    def activations(self) -> dict[str, Any]:
        """The outputs of the modules that were called."""
        return {name: seen.output for name, seen in self.seen.items() if seen.calls}

    @property
    def gradients(self) -> dict[str, Any]:
        """Those of the outputs, where they arrived."""
        return {name: seen.grad for name, seen in self.seen.items() if any(call.grads for call in seen.calls)}

    @property
    def attention(self) -> dict[str, Any]:
        """The weights, where there are any."""
        return {name: seen.attention for name, seen in self.seen.items() if seen.attention is not None}

    @property
    def notes(self) -> dict[str, list[str]]:
        """Names of modules by what there is to know of them: the keys are those of NOTES."""
        return {kind: list(names) for kind, names in self.noted.items() if names}

    def __repr__(self) -> str:
        called = [seen for seen in self.seen.values() if seen.calls]
        width = max((len(seen.name) for seen in called[:20]), default=0)
        lines = [f"Probe of {self.title}: {len(called)} of {len(self.seen)} modules were called"]
        for seen in called[:20]:
            call = seen.calls[-1]
            shapes = [f"output {shape(call.output)}", *(f"attention {shape(each)}" for each in call.attentions)]
            times = [f"{len(seen.calls)} calls"] * (len(seen.calls) > 1)
            lines.append("  ".join(["", f"{seen.name:{width}}", *shapes, *["grad"] * bool(call.grads), *times]))
        lines += [f"  and {len(called) - 20} more"] * (len(called) > 20)
        for kind, names in self.notes.items():
            more = f" and {len(names) - 3} more" * (len(names) > 3)
            lines.append(f"{NOTES[kind]}: {', '.join(name or 'the model' for name in names[:3])}{more}")
        return "\n".join(lines)

    # --- While the model runs ---

    def around(self, run: Callable[[], Any], module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A call of a module, any module, which `run` makes."""
        name = self.found.get(module)
        if name is None and not self.has_shortcut(module):
            return run()
        if torch._C._current_graph_task_id() != -1:  # inside a backward pass
            output = run()
            if name is not None:
                self.ran_again(self.seen[name], output)
            return output
        call = None
        if name is not None:
            call = Call({label: self.kept(x, name) for label, x in (tensors(args) | tensors(kwargs)).items()})
            self.seen[name].calls.append(call)
        self.frames.append((module, call))
        try:
            with self.watch if self.watch and len(self.frames) == 1 else nullcontext():
                output = run()
                if self.watch and self.watch.shortcut:
                    self.long_way(module, args, kwargs)
        finally:
            self.frames.pop()
        if name is not None and call is not None:
            call.outputs = {label: self.kept(x, name) for label, x in tensors(output, "output").items()}
            self.follow(call, output, name)
        return output

    def kept(self, x: Tensor, name: str, own: bool = False) -> Value:
        """A copy, which is made once for each state of a tensor, or beyond the limit its Statistics."""
        if x.is_nested:
            x, own = x.to_padded_tensor(0.0), True
        version = None if x.is_inference() else x._version  # moves with each change in place
        before = None if version is None else self.known.get(x)
        if before is not None and before[0] == version:
            return before[1]
        size = x.numel() * x.element_size()
        # what is kept in inference mode can be computed with outside of it
        with torch.inference_mode(False), torch.no_grad():
            if self.held + size > self.limit:
                self.noted["statistics"][name] = None
                value = Statistics.of(x)
            else:
                self.held += size
                device = self.device or x.device
                value = x.detach().to(device, copy=not own or x.is_inference())
        if version is not None:
            self.known[x] = version, value
        return value

    def follow(self, call: Call, output: Any, name: str) -> None:
        """Wait for the gradients of what a call gave."""
        if not self.grads:
            return

        def arrived(gradient: Tensor, label: str) -> None:
            call.grads[label] = self.kept(gradient, name)

        for label, x in tensors(output, "output").items():
            if x.requires_grad:
                call.followed = True
                self.handles.append(x.register_hook(partial(arrived, label=label)))

    def ran_again(self, seen: Probed, output: Any) -> None:
        """A checkpoint computes anew what it did not store, and gradients may go through that alone.

        Which call it was, its values say; of calls with equal ones, the first.
        """
        self.noted["again"][seen.name] = None
        given = tensors(output, "output")
        for call in seen.calls:
            if not call.followed and given.keys() == call.outputs.keys():
                if all(same(call.outputs[label], x) for label, x in given.items()):
                    self.follow(call, output, seen.name)
                    return

    def tell(self, weights: Tensor, written_out: bool) -> None:
        """Attention inside the innermost call, from Watch: (..., T, S)."""
        module, call = next(((module, call) for module, call in reversed(self.frames) if call), (None, None))
        if module is None or call is None:
            return
        if weights.ndim == 2:
            weights = weights[None]  # (1, T, S)
        if weights.ndim == 3:  # heads lie beside the batch, or there is but one
            of_torch = [each for each, _ in self.frames if isinstance(each, nn.MultiheadAttention)]
            first = next(iter(call.inputs.values()), weights)
            B = len(weights) // of_torch[-1].num_heads if of_torch else (first.shape or (1,))[0]
            weights = weights.unflatten(0, (B, -1) if B and len(weights) % B == 0 else (1, -1))  # (B, H, T, S)
        call.attentions.append(self.kept(weights, self.found[module], own=True))
        if written_out:
            self.noted["written_out"][self.found[module]] = None

    def has_shortcut(self, module: nn.Module) -> bool:
        """Whether a module may not call what is probed inside it, or does not show the attention of what is around."""
        return isinstance(module, nn.TransformerEncoderLayer | nn.MultiheadAttention) and bool(
            self.frames or any(each in self.found for each in module.modules())
        )

    def long_way(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Let the modules inside one compute what its shortcut computed; what they give is seen, and thrown away."""
        assert self.watch is not None
        self.watch.shortcut = False
        inside = [self.found[each] for each in module.modules() if each in self.found]
        around = [self.found[each] for each, call in self.frames if call]
        self.noted["shortcut"][(inside[:1] or around[-1:])[0]] = None
        if args and args[0].is_nested:  # texts of several lengths, which the long way takes padded
            x = args[0].to_padded_tensor(0.0)  # (B, T, C)
            lengths = torch.tensor([len(row) for row in args[0].unbind()], device=x.device)
            padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]  # (B, T), True = hidden
            args = tuple(x if each is args[0] else each for each in args)
            prefix = "src_" if isinstance(module, nn.TransformerEncoderLayer) else ""
            kwargs = kwargs | {f"{prefix}key_padding_mask": padding}
        # a function mode, even one that does nothing, switches the shortcuts off
        others, _here.probes = _here.probes, [self]
        try:
            with torch.random.fork_rng(devices=[]), _disable_current_modes(), self.watch, BaseTorchFunctionMode():
                module.forward(*args, **kwargs)
        finally:
            _here.probes = others


def shape(value: Value | None) -> str:
    return "none" if value is None else str(tuple(value.shape)) + " in statistics" * isinstance(value, Statistics)


def same(kept: Value, x: Tensor) -> bool:
    if isinstance(kept, Statistics):
        return kept == Statistics.of(x)
    return kept.shape == x.shape and torch.equal(kept, x.detach().to(kept.device))


# --- Around every call ---

_lock = threading.Lock()
_here = threading.local()  # .probes: those that this thread opened
_open: list[Probe] = []  # those of all threads
_undo = ExitStack()


def start(probe: Probe) -> None:
    with _lock:
        if not _open:
            intercept()
        _open.append(probe)
    _here.probes = [*getattr(_here, "probes", []), probe]


def stop(probe: Probe) -> None:
    _here.probes = [each for each in _here.probes if each is not probe]
    with _lock:
        _open.remove(probe)
        if not _open:
            _undo.close()


def intercept() -> None:
    """Let open probes see the calls of all modules, until `_undo` is closed."""
    original = nn.Module.__call__

    def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        if "_orig_mod" in module._modules:  # a compiled one holds on to nn.Module.__call__ as it was
            return module._modules["_orig_mod"](*args, **kwargs)  # type: ignore[misc]
        run = partial(original, module, *args, **kwargs)
        for probe in getattr(_here, "probes", ()):
            run = partial(probe.around, run, module, args, kwargs)
        return run()

    nn.Module.__call__ = call
    _undo.callback(setattr, nn.Module, "__call__", original)
    if "torch._dynamo" in sys.modules:  # else nothing was compiled, and the import would take seconds
        _undo.enter_context(torch.compiler.set_stance("force_eager"))
