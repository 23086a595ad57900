"""The walk back through a graph: reverse-mode differentiation itself, in five thoughts.

    sum_to        what was broadcast was used many times, so its gradients are summed
    uses          how many gradients will each vertex be sent?
    shares        what does a node send on to its inputs?
    recomposed    the same for a fused op, where it is to be differentiated again
    walk          who was sent all its gradients sends on their sum; the others wait

The vertices of a graph are Nodes, each of which says how a tensor was made (see `tensor`), and leaves: tensors that
were not made. Dicts and sets go by the vertex itself; do not ask a list with `in`: == compares tensors entry by entry.
Nothing is recursive: a graph may be a hundred thousand nodes deep.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kakehashi.autograd import ops
from kakehashi.autograd.tensor import AutogradError, Node, ShapeError, Tensor, as_tensor, mode, watchers

Vertex = Node | Tensor


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of a tensor of this shape, from g, the gradient of what it was broadcast to.

    Broadcasting puts new axes in front and stretches axes of size 1. A value that was used many times gets the sum of
    its gradients. Made of `ops`, so that it can be differentiated; where the shapes are the same, g itself.
    """
    if g.shape == shape:
        return g
    new = g.ndim - len(shape)  # shapes are lined up from the last axis: what g has more, it has in front
    stretched = (new + i for i, n in enumerate(shape) if n == 1)
    return ops.reshape(ops.sum(g, (*range(new), *stretched), keepdim=True), shape)  # (A, B, C) -> (1, B, 1) -> (B, 1)


def uses(root: Vertex, wanted: set[Vertex] | None, beyond: bool) -> dict[Vertex, int]:
    """How many gradients each vertex is sent that lies on a way from root to a wanted one (None: to any leaf).

    A vertex on such a way sends one to each of its inputs that is on one, too; two to an input that it has twice, as
    x * x has. The root is sent none: it stands there with 0. Where it leads to no wanted vertex the dict is empty.
    beyond=False: ways end at the first wanted vertex, and what is under it is not looked at. Raises AutogradError where
    the graph is freed (`inputs_of`).
    """
    inputs: dict[Vertex, list[Vertex]] = {}
    order: list[Vertex] = []  # a vertex comes after all its inputs
    stack: list[tuple[Vertex, bool]] = [(root, False)]
    while stack:
        vertex, inputs_done = stack.pop()
        if inputs_done:
            order.append(vertex)
        elif vertex not in inputs:
            end = not beyond and is_wanted(vertex, wanted)
            inputs[vertex] = [] if end else inputs_of(vertex)
            stack.append((vertex, True))
            stack += [(each, False) for each in inputs[vertex]]
    counts: dict[Vertex, int] = {}
    for vertex in order:
        # from the leaves up: a gradient for who leads to nothing wanted would be work for nobody
        leads = [each for each in inputs[vertex] if each in counts]
        if leads or is_wanted(vertex, wanted):
            counts[vertex] = 0
            for each in leads:
                counts[each] += 1
    return counts


def shares(node: Node, g: Tensor, create_graph: bool, waits: Mapping[Vertex, int]) -> Iterator[tuple[Vertex, Tensor]]:
    """(input, its share) for each input that stands in waits; twice for one that the node has twice.

    g is the gradient of what the node made. node.gradients turn it into those of the inputs; each takes g and, if
    node.output is not None, output_of(node), too. A share is its input's in shape (`sum_to`) and dtype: node.likes has
    both. Each of `watchers` is called with (f"the gradient of {node.name}", share, [g], node). With create_graph the
    shares of a fused op (one with node.composed) are `recomposed`. Raises AutogradError where a value that the
    gradients need was changed in place (`node.check`), or where what a gradient gives is none (`sound`).
    """
    node.check()
    inputs = inputs_of(node)
    if create_graph and node.composed:
        for below, share in zip(inputs, recomposed(node, g), strict=True):
            if below in waits:
                yield below, share
        return
    made = () if node.output is None else (output_of(node),)
    for below, gradient, (shape, dtype) in zip(inputs, node.gradients, node.likes, strict=True):
        if below in waits:
            share = sum_to(sound(node, gradient(g, *made), shape), shape)
            for watch in watchers:
                watch(f"the gradient of {node.name}", share, [g], node)
            # of a float32 beside a float64 the gradient came back as float64
            yield below, share if share.dtype == dtype else ops.astype(share, dtype)


def recomposed(node: Node, g: Tensor) -> list[Tensor]:
    """The shares of all inputs of a fused op, made so that they can be differentiated again.

    A fused op's own gradients are arithmetic on arrays, which leaves no trace. But node.composed is (compose, given):
    compose(*given) makes from simpler ops what the fused op made from the tensors `given`, of which those that require
    a gradient belong to node.inputs, in order. g is the gradient of what the node made.
    """
    assert node.composed is not None
    compose, given = node.composed
    # stand-ins: one tensor may be given twice, and each place has a gradient of its own
    stand_ins = [ops.identity(x) for x in given]
    targets = [x for x in stand_ins if x.requires_grad]
    # beyond them lies the rest of the graph, which is the outer walk's
    found = walk(compose(*stand_ins), g, targets, create_graph=True, retain_graph=True, beyond=False)
    return [found[key(x)] for x in targets]


def walk(
    y: Tensor, g: Tensor, targets: Sequence[Tensor] | None, create_graph: bool, retain_graph: bool, beyond: bool = True
) -> dict[Vertex, Tensor]:
    """Bring g, the gradient of y, back to the targets: key(target) -> its gradient, for those that y was made from.

    targets         leaves or not, and one may lead to another; None: all leaves
    create_graph    record the ops of this walk: its gradients can be differentiated again
    retain_graph    if False, a node is freed (node.free) when it has sent its shares
    beyond          if False, the walk ends at targets
    While it walks it is in `mode(recording=create_graph, walking=True)`. When the gradient of a vertex is complete its
    hooks are called, in order, and what each leaves (`hooked`) takes its place. A tensor that came from elsewhere, g or
    a share, may be another's gradient, too: it is never changed in place. Raises AutogradError.
    """
    root = key(y)
    wanted = None if targets is None else {key(x) for x in targets}
    waits = uses(root, wanted, beyond)  # vertex -> shares to come
    sums = {root: g}
    ours: set[Vertex] = set()  # whose sum was made here
    found: dict[Vertex, Tensor] = {}
    ready = [root] if root in waits else []
    with mode(recording=create_graph, walking=True):
        while ready:
            vertex = ready.pop()
            g = sums.pop(vertex)
            for hook in list(vertex.hooks):  # a hook may take itself away
                g = hooked(hook, g)
            if is_wanted(vertex, wanted):
                found[vertex] = g
            if isinstance(vertex, Tensor) or (vertex in found and not beyond):
                continue
            for below, share in shares(vertex, g, create_graph, waits):
                if below not in sums:
                    sums[below] = share
                elif below in ours:
                    sums[below].data += share.data
                else:
                    # a new tensor: that of the first share may be another's, too
                    sums[below] = ops.add(sums[below], share)
                    if not create_graph:  # a sum in place would leave no trace
                        ours.add(below)
                waits[below] -= 1
                if waits[below] == 0:
                    ready.append(below)
            if not retain_graph:
                vertex.free()
    return found


# --- What vertices say ---


def key(x: Tensor) -> Vertex:
    """The vertex of a tensor: its node, which it may share with other tensors; of a leaf, itself."""
    return x.node or x


def is_wanted(vertex: Vertex, wanted: set[Vertex] | None) -> bool:
    """Is this a target? None: all leaves are."""
    return isinstance(vertex, Tensor) if wanted is None else vertex in wanted


def inputs_of(vertex: Vertex) -> list[Vertex]:
    """What the gradient of a vertex goes on to: of a leaf, nothing. Raises AutogradError where the graph is freed."""
    if isinstance(vertex, Tensor):
        return []
    if vertex.inputs is None:
        raise AutogradError(f"the graph of {vertex.name} was freed by an earlier backward: give that retain_graph=True")
    return vertex.inputs


def output_of(node: Node) -> Tensor:
    """What the node made, anew: the node does not hold it, for it holds the node."""
    assert node.output is not None
    data, version, _ = node.output
    y = Tensor(data)
    y.node, y.requires_grad, y.version = node, True, version
    return y


def sound(node: Node, share: Any, shape: tuple[int, ...]) -> Tensor:
    """What a gradient of the node gave for an input of this shape. Raises AutogradError where it cannot be that."""
    if not isinstance(share, Tensor):
        given = type(share).__name__
        raise AutogradError(f"the gradient of {node.name} gave {given}: it must give a Tensor made from g by ops")
    if share.data.shape != shape:
        pairs = zip(shape[::-1], share.shape[::-1], strict=False)  # lined up from the last axis
        if share.ndim < len(shape) or any(n not in (1, m) for n, m in pairs):
            raise ShapeError(f"the gradient of {node.name} gave shape {share.shape} for an input of shape {shape}")
    return share


def hooked(hook: Callable, g: Tensor) -> Tensor:
    """The gradient that a hook leaves. Raises ShapeError."""
    changed = hook(g)
    if changed is None:
        return g
    changed = as_tensor(changed, like=g)
    if changed.shape != g.shape:
        raise ShapeError(f"a hook made a gradient of shape {changed.shape} out of one of shape {g.shape}")
    return changed
