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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FunctionType
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

# Each is called after an op, as watch(name, result, inputs, None), and, while gradients go back, after each gradient of
# an op, as watch("the gradient of " + name, that gradient, [the gradient of its result], the op's node).
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
    constants   the shapes of the other inputs, which require no gradient and are not held
    kept        (tensor, version) of what the gradients hold on to, which must not change until they are called
    output      (data, version, count) where the gradients read what was made
    composed    of a fused op: the function that gives the same from simpler ops, and the tensors it takes
    hooks       called with the gradient of what was made
    place       where the op was called, if a watcher wrote it down
    """

    __slots__ = ("name", "inputs", "gradients", "likes", "constants", "kept", "output", "composed", "hooks", "place")

    def __init__(self, name: str, edges: Sequence[tuple["Tensor", Callable]], composed: Callable | None):
        self.name = name
        wanted = [(x, gradient) for x, gradient in edges if x.requires_grad]
        self.inputs: list[Node | Tensor] | None = [x.node or x for x, _ in wanted]
        self.gradients = [gradient for _, gradient in wanted]
        self.likes = [(x.data.shape, x.data.dtype) for x, _ in wanted]
        others = len(wanted) < len(edges)
        self.constants = [x.data.shape for x, _ in edges if not x.requires_grad] if others else []
        if composed:  # a fused op's gradients may read the arrays of any input
            held: list[Any] = [x for x, _ in edges]
            self.composed = (composed, held)
        else:
            held = _held(self.gradients)
            self.composed = None
        self.kept = [(x, x.version.count) for x in held]
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


PLAIN = {int, float, bool, str, slice, type(None), np.ndarray}  # types of what holds no tensor


def _held(things: Iterable[Any], depth: int = 4) -> "list[Tensor]":
    """The tensors that functions hold on to, where Python keeps them: no op has to say it twice. So deep at most."""
    held: list[Tensor] = []
    for each in things:
        kind = type(each)
        if kind is Tensor:
            held.append(each)
        elif kind in PLAIN or not depth:
            pass
        elif kind is FunctionType:
            cells = [cell.cell_contents for cell in each.__closure__ or ()]
            held += _held([*cells, *(each.__defaults__ or ())], depth - 1)
        elif kind in (list, tuple):
            held += _held(each, depth - 1)
        elif kind is dict:
            held += _held(each.values(), depth - 1)
        elif kind is partial:
            held += _held([each.func, *each.args, *each.keywords.values()], depth - 1)
        elif callable(each) and kind is not type:  # a method of an object, or an object that can be called
            bound = getattr(each, "__self__", each)
            inside = getattr(bound, "__dict__", {}).values()
            held += _held([bound] if type(bound) is Tensor else inside, depth - 1)
    return held


class Tensor:
    """A NumPy array that can have a gradient. Methods are called as PyTorch's.

    data            the array: shared, not copied, where an array is given; Python's floats become float32
    requires_grad   is a gradient wanted? Only floats can have one
    grad            an array of data's shape, or None: `backward` adds to it
    """

    __slots__ = ("data", "grad", "requires_grad", "node", "version", "hooks", "__weakref__")
    __array_priority__ = 1000  # NumPy leaves `array * tensor` to us

    def __init__(self, data: Any, requires_grad: bool = False):
        if type(data) is not np.ndarray or data.dtype.kind not in NUMBERS:
            data = _numbers(data)
        self.data: Array = data
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
        """The array itself, as .data, also where PyTorch wants detach() first. What is written into it is not seen: see
        `changes`.
        """
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
        """For NumPy's own functions. Raises AutogradError where a gradient would be lost."""
        if _now.recording and self.requires_grad:
            raise AutogradError(
                f"NumPy would lose the gradient of a tensor of shape {self.shape}: use ops.exp for np.exp, ops.where "
                "for np.where and so on, ops.stack for a list of tensors; or x.detach() where no gradient is wanted"
            )
        return np.array(self.data, dtype=dtype, copy=copy)

    def __array_function__(self, function: Callable, types: Any, args: Any, kwargs: Any) -> Any:
        """np.sum(x), np.where(c, x, 0), ...: on arrays, by `__array__`."""
        with mode(recording=_now.recording and function not in OF_SHAPE, walking=_now.walking):
            return function(*map(_as_array, args), **{name: _as_array(each) for name, each in kwargs.items()})

    def __format__(self, spec: str) -> str:
        """A single number as Python formats it; others as str does. Raises AutogradError."""
        if self.ndim == 0 or (spec and self.numel() == 1):
            return format(self.item(), spec)
        if spec:
            raise AutogradError(f"{spec!r} formats a single number, and this tensor has shape {self.shape}")
        return str(self)

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
        """Keep the gradient of a tensor made by an op in its `.grad`, as a leaf's is. Raises AutogradError where none
        will come.
        """
        if not self.requires_grad:
            raise AutogradError("there will be no gradient to retain: this tensor requires none")
        me = weakref.ref(self)

        def keep(g: Tensor) -> None:
            if (tensor := me()) is not None:
                tensor.grad = g.data.copy() if tensor.grad is None else tensor.grad + g.data

        keep.of = me  # pyright: ignore[reportFunctionMemberAccess]: to be known again
        if self.node is not None and not any(getattr(hook, "of", None) is me for hook in self.node.hooks):
            self.register_hook(keep)

    # In place

    def changes(self, by: str, other: Any = None, instead: str = "build a new tensor, with cat or where") -> None:
        """Say that `by` is about to change the data in place, with `other`. Raises AutogradError where a gradient
        would be lost or wrong, with what to do instead.
        """
        if _now.recording and self.requires_grad:
            what = "a leaf that requires a gradient" if self.node is None else f"a tensor made by {self.node.name}"
            advice = "do it inside no_grad()" if self.node is None else instead
            raise AutogradError(f"{by} would change {what} in place: {advice}")
        if _now.recording and isinstance(other, Tensor) and other.requires_grad:
            raise AutogradError(f"{by} would lose the gradient of what it writes: {instead}")
        self.version.count += 1
        self.version.by = by

    def _compute(self, by: str, compute: np.ufunc, other: Any, instead: str, alpha: float = 1.0) -> "Tensor":
        """self = compute(self, alpha * other), in place."""
        self.changes(by, other, instead)
        y = other if isinstance(other, (np.ndarray, float)) else as_tensor(other, like=self).data
        try:
            compute(self.data, y if alpha == 1.0 else alpha * y, self.data)
        except (TypeError, ValueError) as error:  # of shape, of dtype, of memory that cannot be written to
            self.version.count -= 1  # nothing was written
            kind = ShapeError if "broadcast" in str(error) else AutogradError
            raise kind(f"{by} in a tensor of shape {self.shape}: {str(error).strip()}") from None
        return self

    def copy_(self, other: Any) -> "Tensor":
        self.changes("copy_", other)
        self.data[...] = _array(other)
        return self

    def zero_(self) -> "Tensor":
        self.changes("zero_")
        self.data[...] = 0
        return self

    def fill_(self, value: float) -> "Tensor":
        self.changes("fill_", value)
        self.data[...] = value
        return self

    def add_(self, other: Any, *, alpha: float = 1.0) -> "Tensor":
        return self._compute("add_", np.add, other, "write x = x + y", alpha)

    def sub_(self, other: Any) -> "Tensor":
        return self._compute("sub_", np.subtract, other, "write x = x - y")

    def mul_(self, other: Any) -> "Tensor":
        return self._compute("mul_", np.multiply, other, "write x = x * y")

    def div_(self, other: Any) -> "Tensor":
        return self._compute("div_", np.true_divide, other, "write x = x / y")

    def __iadd__(self, other: Any) -> "Tensor":
        return self._compute("x += y", np.add, other, "write x = x + y")

    def __isub__(self, other: Any) -> "Tensor":
        return self._compute("x -= y", np.subtract, other, "write x = x - y")

    def __imul__(self, other: Any) -> "Tensor":
        return self._compute("x *= y", np.multiply, other, "write x = x * y")

    def __itruediv__(self, other: Any) -> "Tensor":
        return self._compute("x /= y", np.true_divide, other, "write x = x / y")

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

    def sin(self) -> "Tensor":
        return ops.sin(self)

    def cos(self) -> "Tensor":
        return ops.cos(self)

    def pow(self, exponent: Any) -> "Tensor":
        return self**exponent

    def matmul(self, other: Any) -> "Tensor":
        return ops.matmul(self, other)

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

    def std(self, dim: Any = None, keepdim: bool = False, correction: int = 1) -> "Tensor":
        return _root(ops.var(self, dim, keepdim, correction))

    def norm(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        """The root of the sum of squares."""
        return _root(ops.sum(self * self, dim, keepdim))

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return ops.max(self, dim, keepdim)

    def min(self, dim: int | None = None, keepdim: bool = False) -> Any:
        found = ops.max(-self, dim, keepdim)
        return -found if dim is None else (-found[0], found[1])

    def amax(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        return ops.amax(self, dim, keepdim)

    def amin(self, dim: Any = None, keepdim: bool = False) -> "Tensor":
        return ops.amin(self, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Array:
        return np.argmax(self.data, dim, keepdims=keepdim)

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

    def double(self) -> "Tensor":
        return ops.astype(self, np.float64)

    def float(self) -> "Tensor":  # last: in what stands above, float is Python's
        return ops.astype(self, np.float32)


def _sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    """x.reshape(2, 3) and x.reshape((2, 3)) are the same."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], Sequence) else given


def _array(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _as_array(x: Any) -> Any:
    """For NumPy: arrays in place of tensors, in lists and tuples, too."""
    if isinstance(x, Tensor):
        return np.asarray(x)
    return type(x)(map(_as_array, x)) if type(x) in (list, tuple) else x


OF_SHAPE = {np.shape, np.ndim, np.size, np.zeros_like, np.ones_like}  # NumPy's functions in which no gradient is lost
NUMBERS = "fiub"  # kinds of dtypes: floats, integers with and without a sign, bool


def _numbers(data: Any) -> Array:
    """What is no array as one, Python's floats as float32. Raises AutogradError."""
    try:
        array = np.asarray(data)
    except ValueError:
        raise AutogradError("a tensor is made of lists of equal lengths, got some of different ones") from None
    if array.dtype.kind not in NUMBERS:
        kind = type(data).__name__
        if data is None:
            got = "None: is it the .grad of a leaf that no backward has reached?"
        else:
            got = f"a {kind}" if array.ndim == 0 else f"a {kind} of dtype {array.dtype}"
        raise AutogradError(f"a tensor is made of real numbers, got {got}")
    own = isinstance(data, (np.ndarray, np.generic, Tensor))  # what has a dtype keeps it
    return array.astype(np.float32) if array.dtype == np.float64 and not own else array


def _root(x: Tensor) -> Tensor:
    """The square root, with a slope of 0 at 0, as in PyTorch's std and norm."""
    at_zero = x.data == 0
    return ops.where(at_zero, 0.0, ops.where(at_zero, 1.0, x).sqrt())


def as_tensor(x: Any, like: "Tensor | None" = None) -> Tensor:
    """A tensor as it is; an array as one; a plain number, Python's or NumPy's, as one in the dtype of `like`."""
    if isinstance(x, Tensor):
        return x
    if like is not None and isinstance(x, (int, float, np.number, np.bool_)):
        number = x.item() if isinstance(x, np.generic) else x
        return Tensor(np.asarray(number, dtype=np.result_type(like.dtype, number)))
    return Tensor(x)


def record(
    name: str,
    data: Array,
    *edges: tuple[Tensor, Callable[..., Tensor]],
    reads_output: bool = False,
    view_of: Tensor | None = None,
    composed: Callable[..., Tensor] | None = None,
) -> Tensor:
    """The tensor that an op made, and how gradients go back from it. An op of your own ends with it:

        def cube(x):
            return record("cube", x.data**3, (x, lambda g: g * x * x * 3))

    edges           (input, gradient): gradient(g) -> the input's gradient, a Tensor of its shape or of one broadcast
                    from it. Make it of tensors and `ops`: what is computed on arrays, as Tensor(g.data * 2), counts as
                    a constant, and the second derivative is wrong without a word. Arrays that are constants, as a mask,
                    may stand in it. Tensors that it holds on to are watched for changes in place: in its closure or
                    defaults, in the arguments of a partial, in an object's attributes, and in lists and tuples there
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
    xs: Tensor | Sequence[Tensor],
    gradient: Any = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of y with respect to each of xs (or to xs alone), leaves or not: a tuple. No `.grad` is touched.

    create_graph: record how they are made, so that they can be differentiated again; the graph stays, as with
    retain_graph. allow_unused: a gradient of zeros for what has no part in y, else AutogradError.
    """
    xs = [xs] if isinstance(xs, Tensor) else xs
    for i, x in enumerate(xs):
        if not (isinstance(x, Tensor) and x.requires_grad):
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
