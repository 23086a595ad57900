"""What every module of a model takes and gives in one pass, in the order in which it happens.

Hooks on all modules; nothing is left behind: no hook, no training mode, no buffer, no random state.
"""

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
    """A pass. calls: in the order in which they began; ops: of the one that was looked into; output: the model's."""

    calls: list[Call]
    ops: list[Op]
    output: Any


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

    def __call__(self) -> Any:
        """Run it. Raises DiffError where the model does not take the inputs: whatever error inside it."""
        try:
            return self.forward(self.model, *self.inputs) if self.forward else self.model(*self.inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(x.shape)) for x in copies(self.inputs).values())
            raise DiffError(
                f"{self.name} ({type(self.model).__name__}) does not take inputs of shape {shapes}: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error


def record(one: Pass, *, inside: Key | None = None) -> Trace:
    """Run a pass without gradients.

    inside: a call; the functions of torch that it calls itself, not through a module below it, are recorded, too.
    All tensors are copies. Raises DiffError where the model does not take the inputs.
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
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        parent = stack[-1] if stack else None
        stack.append(Call(path, number, module, parent, next(moments), kept(given)))
        calls.append(stack[-1])

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

    with unchanged(one.model, one.training), torch.no_grad(), ExitStack() as hooks:
        for path, module in one.model.named_modules():
            before = module.register_forward_pre_hook(
                lambda module, args, kwargs, path=path: enter(path, module, args, kwargs), with_kwargs=True
            )
            after = module.register_forward_hook(lambda module, args, output: leave(output))
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        torch.manual_seed(one.seed)
        if inside is not None:
            hooks.enter_context(Functions())
        output = one()
    return Trace(calls, ops, output)


@contextmanager
def unchanged(model: nn.Module, training: bool) -> Iterator[None]:
    """Inside, the model is in one mode; afterwards its modes, its buffers and the random state are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]):
        try:
            model.train(training)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for buffer, before in buffers:
                buffer.copy_(before)


def copies(value: Any, label: str = "") -> Tensors:
    """The tensors in nested tuples, lists, mappings and dataclasses, copied; each under the way to it, "output.0"."""
    if isinstance(value, Tensor):
        return {label: value.detach().clone()}
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
        found |= copies(part, f"{label}.{name}" if label else str(name))
    return found
