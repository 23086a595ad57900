"""A tensor that remembers how it was made.

    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                   # array([2., 4.])

Every op of `ops` ends in `record(name, data, (input, gradient), ...)`: the result, and for each input the function that
brings the gradient of the result back to that input. `backward` calls them in the one order that works, see `walk`.
The functions are written with the same ops, so with create_graph=True they are recorded, too, and can be differentiated
again.

A node holds no tensor that it made, so nothing refers to itself in a circle, and memory is free as soon as a graph is.
"""

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kakehashi import Mistake

Array = np.ndarray


class AutogradError(Mistake, RuntimeError):
    """A tensor was used in a way that has no gradient: one line with the values seen and what to do."""


class ShapeError(AutogradError, ValueError):
    """Shapes that an op cannot join."""


class _Mode(threading.local):
    """Of each thread: one may walk back while another trains."""

    recording = True  # is it remembered how tensors are made?
    walking = False  # are these the ops of a backward?


_now = _Mode()

# Each is called with what was just made: watch(what, tensor, inputs, node), node where it is a gradient of that op's.
watchers: list[Callable[[str, "Tensor", Sequence["Tensor"], "Node | None"], None]] = []


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is remembered: what is made requires no gradient. Other threads go on as they are."""
    with mode(recording=False, walking=_now.walking):
        yield


@contextmanager
def mode(recording: bool, walking: bool) -> Iterator[None]:
    """Inside, in this thread: are ops recorded, and are they those of a backward?"""
    before = _now.recording, _now.walking
    _now.recording, _now.walking = recording, walking
    try:
        yield
    finally:
        _now.recording, _now.walking = before


class Version:
    """How often the memory of a tensor and its views was changed in place, and by what last."""

    __slots__ = ("count", "by")

    def __init__(self):
        self.count, self.by = 0, ""


class Node:
    """How a tensor was made.

    name        of the op
    inputs      what gradients go on to: the Node of an input, or a leaf; None when the graph is freed
    gradients   for each: from the gradient of what was made to the input's, up to broadcasting
    likes       for each: its shape and dtype
    kept        (tensor, version) of what the gradients hold on to, which must not change until they are called
    output      (data, version, count) where the gradients read what was made
    composed    of a fused op: the function that gives the same from simpler ops, and the tensors it takes
    hooks       called with the gradient of what was made
    place       where the op was called, if a watcher wrote it down
    """

    __slots__ = ("name", "inputs", "gradients", "likes", "kept", "output", "composed", "hooks", "place")

    def __init__(self, name: str, edges: Sequence[tuple["Tensor", Callable]], composed: Callable | None):
        self.name = name
        wanted = [(x, gradient) for x, gradient in edges if x.requires_grad]
        self.inputs: list[Node | Tensor] | None = [x.node or x for x, _ in wanted]
        self.gradients = [gradient for _, gradient in wanted]
        self.likes = [(x.data.shape, x.data.dtype) for x, _ in wanted]
        if composed:  # a fused op's gradients may read the arrays of any input
            held: list[Any] = [x for x, _ in edges]
            self.composed = (composed, held)
        else:  # what a function holds on to stands in its closure: no op has to say it twice
            held = [cell.cell_contents for gradient in self.gradients for cell in gradient.__closure__ or ()]
            held += [x for each in held if isinstance(each, list) for x in each]
            self.composed = None
        self.kept = [(x, x.version.count) for x in held if isinstance(x, Tensor)]
        self.output: tuple[Array, Version, int] | None = None
        self.hooks: list[Callable] = []
        self.place = ""

    def free(self) -> None:
        """Let go of everything that a gradient would need."""
        self.inputs, self.gradients, self.kept, self.output, self.composed = None, [], [], None, None

    def check(self) -> None:
        """Raises AutogradError where a value that the gradients need was changed since."""
        seen = [(x.data, x.version, count) for x, count in self.kept]
        for data, version, count in [*seen, *([self.output] if self.output else [])]:
            if version.count != count:
                raise AutogradError(
                    f"the gradient of {self.name} needs a value of shape {data.shape} that {version.by} has changed in "
                    f"place since {self.name} used it: change a copy, or write x = x + y in place of x += y"
                )


class Tensor:
    """A NumPy array that can have a gradient. Methods are called as PyTorch's.

    data            the array: shared, not copied, where an array is given; Python's floats become float32
    requires_grad   is a gradient wanted? Only floats can have one
    grad            an array of data's shape, or None: `backward` adds to it
    """

    __slots__ = ("data", "grad", "requires_grad", "node", "version", "hooks", "__weakref__")
    __array_priority__ = 1000  # NumPy leaves `array * tensor` to us

    def __init__(self, data: Any, requires_grad: bool = False):
        if not isinstance(data, np.ndarray | np.generic):
            data = np.asarray(data)
            if data.dtype == np.float64:
                data = data.astype(np.float32)
        self.data: Array = np.asarray(data)
        self.grad: Array | None = None
        self.node: Node | None = None
        self.version = Version()
        self.hooks: list[Callable] = []  # of a leaf; else the node keeps them, for this object may be gone by then
        if requires_grad and self.data.dtype.kind != "f":
            raise AutogradError(f"only floats have gradients, got {self.dtype}: convert it with .astype(np.float32)")
        self.requires_grad = requires_grad

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def is_leaf(self) -> bool:
        """Made by hand, not by an op."""
        return self.node is None

    @property
    def T(self) -> "Tensor":
        """The axes in reverse order."""
        return ops.permute(self, tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> "Tensor":
        """The last two axes swapped."""
        return ops.transpose(self, -2, -1)

    def numel(self) -> int:
        return self.data.size

    def item(self) -> float:
        return self.data.item()

    def numpy(self) -> Array:
        """The array itself. Whoever changes it in place is not seen: `changes` says so."""
        return self.data

    def tolist(self) -> Any:
        return self.data.tolist()

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> "Iterator[Tensor]":
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        said = np.array2string(self.data, separator=", ", precision=4, prefix="Tensor(")
        how = f", made by {self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({said}{how})"

    # Its place in the graph

    def backward(self, gradient: Any = None, *, retain_graph: bool = False) -> None:
        """Add the gradients of this tensor to `.grad` of every leaf it was made from.

        gradient: of something with respect to this tensor, of its shape; None for a single number, whose is 1. The
        graph is freed on the way unless retain_graph. Raises AutogradError.
        """
        for leaf, g in walk(self, _first_gradient(self, gradient), None, False, retain_graph).items():
            assert isinstance(leaf, Tensor)
            # g may be shared with other gradients, or be a view: what is kept and added to must be the leaf's own
            if leaf.grad is None:
                leaf.grad = np.array(g.data, dtype=leaf.dtype)
            else:
                leaf.grad += g.data

    def detach(self) -> "Tensor":
        """The same data, its past forgotten."""
        out = Tensor(self.data)
        out.version = self.version
        return out

    def requires_grad_(self, requires_grad: bool = True) -> "Tensor":
        """Set requires_grad of a leaf."""
        if self.node is not None:
            raise AutogradError(f"a tensor made by {self.node.name} has requires_grad from its inputs: detach it first")
        self.requires_grad = Tensor(self.data, requires_grad).requires_grad
        return self

    def register_hook(self, hook: Callable[["Tensor"], "Tensor | None"]) -> Callable[[], None]:
        """Call `hook` with this tensor's gradient when it is complete; what it returns takes its place.

        Returns a function that takes the hook away. Raises AutogradError where no gradient will come.
        """
        if not self.requires_grad:
            raise AutogradError("a hook waits for a gradient, and this tensor requires none")
        hooks = self.hooks if self.node is None else self.node.hooks
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor made by an op in its `.grad`, as a leaf's is."""
        me = weakref.ref(self)

        def keep(g: Tensor) -> None:
            if (tensor := me()) is not None:
                tensor.grad = g.data.copy() if tensor.grad is None else tensor.grad + g.data

        if self.node is not None:
            self.register_hook(keep)

    # In place

    def changes(self, by: str, other: Any = None) -> None:
        """Say that `by` is about to change the data in place, with `other`. Raises AutogradError where a gradient
        would be lost or wrong.
        """
        if _now.recording and self.requires_grad:
            what = "a leaf that requires a gradient" if self.is_leaf else f"a tensor made by {self.node.name}"
            raise AutogradError(f"{by} would change {what} in place: write x = x + y, or change it inside no_grad()")
        if _now.recording and isinstance(other, Tensor) and other.requires_grad:
            raise AutogradError(
                f"{by} would lose the gradient of what it writes: build a new tensor, with cat or where"
            )
        self.version.count += 1
        self.version.by = by

    def copy_(self, other: Any) -> "Tensor":
        self.changes("copy_", other)
        self.data[...] = _array(other)
        return self

    def zero_(self) -> "Tensor":
        self.changes("zero_")
        self.data[...] = 0
        return self

    def fill_(self, value: float) -> "Tensor":
        self.changes("fill_")
        self.data[...] = value
        return self

    def add_(self, other: Any, *, alpha: float = 1.0) -> "Tensor":
        self.changes("add_", other)
        self.data += _array(other) if alpha == 1.0 else alpha * _array(other)
        return self

    def mul_(self, other: Any) -> "Tensor":
        self.changes("mul_", other)
        self.data *= _array(other)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        self.changes("an assignment to x[...]", value)
        self.data[ops.plain(index)] = _array(value)

    # The ops as methods

    def __neg__(self) -> "Tensor":
        return ops.neg(self)

    def __add__(self, other: Any) -> "Tensor":
        return ops.add(self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return ops.add(other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return ops.sub(self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return ops.sub(other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return ops.mul(self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return ops.mul(other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return ops.div(self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return ops.div(other, self)

    def __pow__(self, exponent: Any) -> "Tensor":
        return ops.mul(self, self) if isinstance(exponent, int | float) and exponent == 2 else ops.pow(self, exponent)

    def __rpow__(self, base: Any) -> "Tensor":
        return ops.pow(base, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return ops.matmul(other, self)

    def __getitem__(self, index: Any) -> "Tensor":
        return ops.getitem(self, index)

    # Comparisons give arrays of bool: there is nothing to differentiate

    def __eq__(self, other: Any) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.data == _array(other)

    def __ne__(self, other: Any) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.data != _array(other)

    def __lt__(self, other: Any) -> Array:
        return self.data < _array(other)

    def __le__(self, other: Any) -> Array:
        return self.data <= _array(other)

    def __gt__(self, other: Any) -> Array:
        return self.data > _array(other)

    def __ge__(self, other: Any) -> Array:
        return self.data >= _array(other)

    __hash__ = object.__hash__

    def astype(self, dtype: Any) -> "Tensor":
        return ops.astype(self, dtype)

    def exp(self) -> "Tensor":
        return ops.exp(self)

    def log(self) -> "Tensor":
        return ops.log(self)

    def sqrt(self) -> "Tensor":
        return ops.sqrt(self)

    def rsqrt(self) -> "Tensor":
        return ops.rsqrt(self)

    def square(self) -> "Tensor":
        return ops.mul(self, self)

    def tanh(self) -> "Tensor":
        return ops.tanh(self)

    def sigmoid(self) -> "Tensor":
        return ops.sigmoid(self)

    def relu(self) -> "Tensor":
        return ops.relu(self)

    def abs(self) -> "Tensor":
        return ops.abs(self)

    def clamp(self, min: float | None = None, max: float | None = None) -> "Tensor":
        return ops.clamp(self, min, max)

    def masked_fill(self, mask: Any, value: float) -> "Tensor":
        return ops.masked_fill(self, mask, value)

    def sum(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        return ops.sum(self, dim, keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        return ops.mean(self, dim, keepdim)

    def var(self, dim: Any = None, keepdim: bool = False, correction: int = 1) -> "Tensor":
        return ops.var(self, dim, keepdim, correction)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return ops.max(self, dim, keepdim)

    def amax(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        return ops.amax(self, dim, keepdim)

    def cumsum(self, dim: int) -> "Tensor":
        return ops.cumsum(self, dim)

    def logsumexp(self, dim: int = -1, keepdim: bool = False) -> "Tensor":
        return ops.logsumexp(self, dim, keepdim)

    def softmax(self, dim: int = -1) -> "Tensor":
        return functional.softmax(self, dim)

    def log_softmax(self, dim: int = -1) -> "Tensor":
        return functional.log_softmax(self, dim)

    def reshape(self, *shape: Any) -> "Tensor":
        return ops.reshape(self, _sizes(shape))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> "Tensor":
        start, end = start_dim % max(self.ndim, 1), end_dim % max(self.ndim, 1) + 1
        size = math.prod(self.shape[start:end])  # not -1, which is ambiguous beside a size of 0
        return ops.reshape(self, (*self.shape[:start], size, *self.shape[end:]))

    def permute(self, *dims: Any) -> "Tensor":
        return ops.permute(self, _sizes(dims))

    def transpose(self, dim0: int, dim1: int) -> "Tensor":
        return ops.transpose(self, dim0, dim1)

    def expand(self, *shape: Any) -> "Tensor":
        return ops.expand(self, _sizes(shape))

    def squeeze(self, dim: int) -> "Tensor":
        return ops.squeeze(self, dim)

    def unsqueeze(self, dim: int) -> "Tensor":
        return ops.unsqueeze(self, dim)

    def split(self, size: int, dim: int = 0) -> "list[Tensor]":
        return ops.split(self, size, dim)

    def chunk(self, n: int, dim: int = 0) -> "list[Tensor]":
        return ops.chunk(self, n, dim)

    def gather(self, dim: int, indices: Any) -> "Tensor":
        return ops.gather(self, dim, indices)


def _sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    """x.reshape(2, 3) and x.reshape((2, 3)) are the same."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], Sequence) else given


def _array(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def as_tensor(x: Any, like: "Tensor | None" = None) -> Tensor:
    """A tensor as it is; a number or an array as one, a plain number in the dtype of `like`."""
    if isinstance(x, Tensor):
        return x
    if like is not None and not isinstance(x, np.ndarray | np.generic) and np.ndim(x) == 0:
        return Tensor(np.asarray(x, dtype=np.result_type(like.dtype, x)))
    return Tensor(x)


def record(
    name: str,
    data: Array,
    *edges: tuple[Tensor, Callable[..., Tensor]],
    reads_output: bool = False,
    view_of: Tensor | None = None,
    composed: Callable[..., Tensor] | None = None,
) -> Tensor:
    """The tensor that an op made, and how gradients go back from it.

    edges           (input, gradient): gradient(g) -> the input's gradient, of its shape or of one broadcast from it
    reads_output    the gradients are called with the output, too: gradient(g, y)
    view_of         the tensor whose memory `data` shares
    composed        of a fused op, whose gradients are arithmetic on arrays: the same from simpler ops, of the inputs;
                    it takes over where gradients are to be differentiated again
    Raises AutogradError for a gradient that would have to go through integers.
    """
    out = Tensor(data)
    if view_of is not None:
        out.version = view_of.version
    if _now.recording and any(x.requires_grad for x, _ in edges):
        if out.data.dtype.kind != "f":
            raise AutogradError(f"{name} makes {out.dtype}, which has no gradient: detach its input first")
        out.requires_grad = True
        out.node = Node(name, edges, composed)
        if reads_output:
            out.node.output = (out.data, out.version, out.version.count)
    if not _now.walking:
        for watch in watchers:
            watch(name, out, [x for x, _ in edges], None)
    return out


def grad(
    y: Tensor,
    xs: Sequence[Tensor],
    gradient: Any = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of y with respect to each of xs, leaves or not. No `.grad` is touched.

    create_graph: record how they are made, so that they can be differentiated again; the graph stays, as with
    retain_graph. allow_unused: a gradient of zeros for what has no part in y, else AutogradError.
    """
    for i, x in enumerate(xs):
        if not x.requires_grad:
            raise AutogradError(f"input {i} of grad requires no gradient: make it with requires_grad=True")
    retain = create_graph if retain_graph is None else retain_graph
    found = walk(y, _first_gradient(y, gradient), xs, create_graph, retain)
    gradients = [found.get(key(x)) for x in xs]
    unused = [i for i, g in enumerate(gradients) if g is None]
    if unused and not allow_unused:
        raise AutogradError(f"input {unused[0]} of grad has no part in y: allow_unused=True gives zeros for it")
    return tuple(Tensor(np.zeros_like(x.data)) if g is None else g for x, g in zip(xs, gradients, strict=True))


def _first_gradient(y: Tensor, gradient: Any) -> Tensor:
    if not y.requires_grad:
        raise AutogradError("there is nothing to differentiate: no input of this tensor requires a gradient")
    if gradient is None:
        if y.numel() != 1:
            raise AutogradError(
                f"a gradient is that of one number, and this tensor has shape {y.shape}: reduce it, as y.sum(), "
                f"or say the gradient with respect to it, as y.backward(np.ones({y.shape}))"
            )
        return Tensor(np.ones_like(y.data))
    g = as_tensor(gradient, like=y)
    if g.shape != y.shape:
        raise ShapeError(f"backward got a gradient of shape {g.shape} for a tensor of shape {y.shape}")
    return g


# ops make tensors, and the methods of tensors are ops
from kakehashi.autograd import functional, ops  # noqa: E402
from kakehashi.autograd.walk import key, walk  # noqa: E402
