"""What every module of a model takes and gives in one pass, in the order in which it happens.

Hooks on all modules; nothing is left behind: no hook, no training mode, no buffer, no random state.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from kakehashi import Mistake
from kakehashi.inspection.closeness import distance, real

Tensors = dict[str, Tensor]
Forward = Callable[..., Any]  # (model, *inputs) -> what it gives
Key = tuple[str, int]  # a module's path, and the number of the call


class DiffError(Mistake):
    """Two models that cannot be compared as they were given: one line that says why."""


@dataclass
class Call:
    """One call of one module. path: its name, "" the model itself. number: of the call, 0 the first of this module.

    start, end: the moments when it took `inputs` and gave `outputs`. parent: the call that made this one.
    """

    path: str
    number: int
    module: nn.Module
    parent: "Call | None"
    start: int
    inputs: Tensors
    outputs: Tensors = field(default_factory=dict)
    end: int = -1

    @property
    def key(self) -> Key:
        return self.path, self.number


@dataclass(frozen=True)
class Op:
    """A function of torch that was called at a moment, and the tensors that it gave."""

    name: str
    moment: int
    outputs: Tensors


@dataclass(frozen=True)
class Trace:
    """A pass.

    calls: in the order in which they began. ops: of the one that was looked into. output: the model's. buffers: those
    that the pass changed, as it left them. overwrote: whether the model changed its inputs in place.
    """

    calls: list[Call]
    ops: list[Op]
    output: Any
    buffers: Tensors
    overwrote: bool


@dataclass(frozen=True)
class Pass:
    """How a model is run.

    name: "A" or "B". forward: how it takes the inputs, None: model(*inputs). seed: set before. training: its mode.
    """

    name: str
    model: nn.Module
    forward: Forward | None
    inputs: tuple
    seed: int = 0
    training: bool = False

    def __call__(self) -> tuple[Any, bool]:
        """Run it on copies of the inputs: what the model gives, and whether it overwrote them.

        Raises DiffError where the model does not take them: whatever error inside it.
        """
        before = tensors(self.inputs)
        inputs = copy.deepcopy(self.inputs, {id(x): x.detach().clone() for x in before.values()})
        try:
            output = self.forward(self.model, *inputs) if self.forward else self.model(*inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(x.shape)) for x in before.values())
            raise DiffError(
                f"{self.name} ({type(self.model).__name__}) does not take inputs of shape {shapes}: {one_line(error)}"
            ) from error
        after = tensors(inputs)
        overwrote = before.keys() != after.keys() or any(distance(x, after[label]) for label, x in before.items())
        return output, overwrote


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def record(one: Pass, *, inside: Key | None = None) -> Trace:
    """Run a pass without gradients.

    inside: a call; the functions of torch that it calls itself, not through a module below it, are recorded, too.
    All tensors are copies. Raises DiffError where the model does not take the inputs, or takes no hooks.
    """
    calls: list[Call] = []
    ops: list[Op] = []
    stack: list[Call] = []
    moments = count()
    recording = True

    def kept(value: Any, label: str = "") -> Tensors:
        nonlocal recording
        recording = False  # copying is none of the model's steps
        found = copies(value, label)
        recording = True
        return found

    def enter(path: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        number = sum(call.path == path for call in calls)
        call = Call(path, number, module, stack[-1] if stack else None, next(moments), {})
        stack.append(call)
        calls.append(call)
        call.inputs = kept(inspect.signature(module.forward).bind(*args, **kwargs).arguments)

    def leave(output: Any) -> None:
        stack[-1].outputs = kept(output, "output")
        stack.pop().end = next(moments)

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            given = func(*args, **(kwargs or {}))
            if recording and stack and stack[-1].key == inside:
                name = (resolve_name(func) or "").rpartition(".")[2]
                ops.append(Op(name, next(moments), kept(given, name)))
            return given

    for path, module in one.model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise DiffError(
                f"{one.name}'s {path or 'model'} is a ScriptModule, which takes no hooks: leave it unscripted"
            )
    with unchanged(one.model, one.training), torch.no_grad(), ExitStack() as hooks:
        for path, module in one.model.named_modules():
            on_enter = module.register_forward_pre_hook(
                lambda module, args, kwargs, path=path: enter(path, module, args, kwargs), with_kwargs=True
            )
            # one that raises is left, too, for its caller may go on
            on_leave = module.register_forward_hook(lambda module, args, output: leave(output), always_call=True)
            hooks.callback(on_enter.remove)
            hooks.callback(on_leave.remove)
        torch.manual_seed(one.seed)
        if inside is not None:
            hooks.enter_context(Functions())
        before = {name: buffer.clone() for name, buffer in one.model.named_buffers()}
        output, overwrote = one()
        after = copies(dict(one.model.named_buffers()))
    buffers = {name: x for name, x in after.items() if name not in before or distance(x, before[name])}
    return Trace(calls, ops, output, buffers, overwrote)


@contextmanager
def unchanged(model: nn.Module, training: bool) -> Iterator[None]:
    """Inside, the model is in one mode; afterwards its modes, its buffers and the random state are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    with torch.random.fork_rng(devices=[]):
        try:
            model.train(training)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer.copy_(before))


def copies(value: Any, label: str = "") -> Tensors:
    """The `tensors` in a value, copied; complex numbers as pairs of real ones."""
    return {label: real(x.detach().clone()) for label, x in tensors(value, label).items()}


def tensors(value: Any, label: str = "") -> Tensors:
    """The tensors in nested tuples, lists, mappings and dataclasses; each under the way to it, "output.0"."""
    if isinstance(value, Tensor):
        return {label: value}
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, tuple | list):
        parts = zip(getattr(value, "_fields", range(len(value))), value, strict=True)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [(each.name, getattr(value, each.name)) for each in fields(value)]
    else:
        return {}
    found: Tensors = {}
    for name, part in parts:
        found |= tensors(part, f"{label}.{name}" if label else str(name))
    return found
