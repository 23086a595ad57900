"""The walk back through a graph: reverse-mode differentiation itself, in four thoughts.

    uses      how many gradients will each node be sent?
    sum_to    what was broadcast was used several times, so its gradients are summed
    shares    what does a node send on to its inputs?
    walk      a node that was sent all its gradients sends on their sum; the others wait

A `Node` says how a tensor was made, see `tensor`; a leaf is a tensor that was not. Nothing is recursive: a graph may be
a hundred thousand nodes deep.
"""

from collections.abc import Callable, Iterator, Sequence

from kakehashi.autograd import ops
from kakehashi.autograd.tensor import AutogradError, Node, ShapeError, Tensor, as_tensor, mode, watchers


def walk(
    y: Tensor, g: Tensor, targets: Sequence[Tensor] | None, create_graph: bool, retain_graph: bool, beyond: bool = True
) -> dict[int, tuple[Tensor, Tensor]]:
    """Bring the gradient g of y to the targets (None: all leaves). Returns key -> (target, its gradient).

    beyond: may one target lead to another? create_graph: record how the gradients are made. The graph is freed on the
    way unless retain_graph.
    """
    root = y.node or y
    wanted = None if targets is None else {key(x): x for x in targets}
    waits = uses(root, wanted, beyond)  # key -> shares to come, of those on the way to a target
    sums = {id(root): g}
    ours: set[int] = set()  # sums that were made here, so that they may be added to in place
    found: dict[int, tuple[Tensor, Tensor]] = {}
    ready = [root] if id(root) in waits else []
    with mode(recording=create_graph, walking=True):
        while ready:
            node = ready.pop()
            g = sums.pop(id(node))
            for hook in list(node.hooks):
                g = hooked(hook, g)
            if wanted is not None and id(node) in wanted:
                found[id(node)] = (wanted[id(node)], g)
                if not beyond:
                    continue
            if isinstance(node, Tensor):
                if wanted is None:
                    found[id(node)] = (node, g)
                continue
            for below, share in shares(node, g, create_graph, waits):
                if id(below) not in sums:
                    sums[id(below)] = share
                elif create_graph or id(below) not in ours:
                    sums[id(below)] = ops.add(sums[id(below)], share)
                    ours.add(id(below))
                else:
                    sums[id(below)].data += share.data
                waits[id(below)] -= 1
                if waits[id(below)] == 0:
                    ready.append(below)
            if not retain_graph:
                node.free()
    return found


def uses(root: Node | Tensor, wanted: dict[int, Tensor] | None, beyond: bool) -> dict[int, int]:
    """How many gradients each node is sent that lies between root and what is wanted (None: every leaf), by key.

    The root is sent none from here. A key is an id: of a node, or of a leaf.
    """
    opened: dict[int, list[Node | Tensor]] = {}  # key -> what the node was made from
    order: list[Node | Tensor] = []  # a node comes after all that it was made from
    stack: list[Node | Tensor | None] = [root]
    while stack:
        node = stack.pop()
        if node is None:  # all below the node under this mark are in order
            order.append(stack.pop())  # pyright: ignore[reportArgumentType]
        elif id(node) not in opened:
            end = not beyond and wanted is not None and id(node) in wanted
            opened[id(node)] = [] if end else inputs_of(node)
            stack += [node, None, *(each for each in opened[id(node)] if id(each) not in opened)]
    counts: dict[int, int] = {}
    for node in order:
        leads = [each for each in opened[id(node)] if id(each) in counts]
        if leads or (isinstance(node, Tensor) if wanted is None else id(node) in wanted):
            counts[id(node)] = 0
            for each in leads:
                counts[id(each)] += 1
    return counts


def shares(node: Node, g: Tensor, create_graph: bool, waits: dict[int, int]) -> Iterator[tuple[Node | Tensor, Tensor]]:
    """(input, its gradient) for each input of a node that is waited for; g is the gradient of what the node made."""
    node.check()
    inputs = inputs_of(node)
    if create_graph and node.composed:
        # a fused op's own gradients are arithmetic on arrays, which leaves no trace; the simpler ops leave one
        compose, given = node.composed
        # stand-ins: one tensor may be given twice, and each place has a gradient of its own
        stand_ins = [ops.identity(x) for x in given]
        differentiated = [x for x in stand_ins if x.requires_grad]
        gradients = walk(compose(*stand_ins), g, differentiated, create_graph=True, retain_graph=True, beyond=False)
        for below, x in zip(inputs, differentiated, strict=True):
            if id(below) in waits:
                yield below, gradients[key(x)][1]
        return
    made = () if node.output is None else (output_of(node),)
    for below, gradient, (shape, dtype) in zip(inputs, node.gradients, node.likes, strict=True):
        if id(below) in waits:
            share = sum_to(gradient(g, *made), shape)
            for watch in watchers:
                watch(f"the gradient of {node.name}", share, [g], node)
            yield below, share if share.data.dtype == dtype else ops.astype(share, dtype)


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of what was broadcast from `shape`: a value that was used many times gets the sum of its shares."""
    if g.shape == shape:
        return g
    new = g.ndim - len(shape)
    stretched = tuple(new + i for i, n in enumerate(shape) if n == 1 and g.shape[new + i] != 1)
    if new or stretched:
        g = ops.sum(g, (*range(new), *stretched), keepdim=True)
    return ops.reshape(g, shape)


# --- What a node and a tensor say ---


def key(x: Tensor) -> int:
    """What a tensor is known by on the walk: its node, which other tensors may lead to, or itself."""
    return id(x.node or x)


def inputs_of(node: Node | Tensor) -> list[Node | Tensor]:
    """What the gradient of a node goes on to. Raises AutogradError where the graph is freed."""
    if isinstance(node, Tensor):
        return []
    if node.inputs is None:
        raise AutogradError(f"the graph of {node.name} was freed by an earlier backward: give that retain_graph=True")
    return node.inputs


def output_of(node: Node) -> Tensor:
    """What the node made, anew: the node does not hold it, for it holds the node."""
    assert node.output is not None
    data, version, _ = node.output
    y = Tensor(data)
    y.node, y.requires_grad, y.version = node, True, version
    return y


def hooked(hook: Callable, g: Tensor) -> Tensor:
    """The gradient that a hook leaves. Raises ShapeError."""
    changed = hook(g)
    if changed is None:
        return g
    changed = as_tensor(changed, like=g)
    if changed.shape != g.shape:
        raise ShapeError(f"a hook made a gradient of shape {changed.shape} out of one of shape {g.shape}")
    return changed
