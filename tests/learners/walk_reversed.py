# ruff: noqa: F821 what a starter gives, this file takes from the reference
"""A right walk in the manner of micrograd and tinygrad: a topological order, gone through backwards.

Nothing counts down: shares lie in lists and are summed, never in place, when their vertex has its turn.
"""

from collections import Counter, defaultdict
from functools import reduce

from kakehashi.autograd import ops
from kakehashi.autograd.tensor import Node, Tensor, mode, watchers


def sum_to(g, shape):
    padded = (1,) * (g.ndim - len(shape)) + tuple(shape)
    axes = tuple(i for i in range(g.ndim) if padded[i] != g.shape[i])
    kept = g.sum(axes, keepdim=True) if axes else g
    return kept if kept.shape == shape else kept.reshape(shape)


def below(vertex, wanted, beyond):
    """The inputs to go on to."""
    return [] if not beyond and is_wanted(vertex, wanted) else inputs_of(vertex)


def topological(root, wanted, beyond):
    """Every vertex before all that it was made from."""
    order, state = [], {}
    path = [(root, iter(below(root, wanted, beyond)))]
    state[root] = "open"
    while path:
        vertex, rest = path[-1]
        following = next((each for each in rest if each not in state), None)
        if following is None:
            order.append(vertex)
            path.pop()
        else:
            state[following] = "open"
            path.append((following, iter(below(following, wanted, beyond))))
    order.reverse()
    return order


def uses(root, wanted, beyond):
    order = topological(root, wanted, beyond)
    leads = set()
    for vertex in reversed(order):
        if is_wanted(vertex, wanted) or any(each in leads for each in below(vertex, wanted, beyond)):
            leads.add(vertex)
    sent = Counter(each for vertex in order if vertex in leads for each in below(vertex, wanted, beyond))
    return {vertex: sent[vertex] for vertex in order if vertex in leads}


def shares(node, g, create_graph, waits):
    node.check()
    if create_graph and node.composed:
        yield from (pair for pair in zip(inputs_of(node), recomposed(node, g), strict=True) if pair[0] in waits)
        return
    arguments = [g]
    if node.output is not None:
        arguments.append(output_of(node))
    for vertex, gradient, like in zip(inputs_of(node), node.gradients, node.likes, strict=True):
        if vertex not in waits:
            continue
        share = sum_to(gradient(*arguments), like[0])
        for watch in list(watchers):
            watch(f"the gradient of {node.name}", share, [g], node)
        yield vertex, ops.astype(share, like[1]) if share.dtype != like[1] else share


def recomposed(node, g):
    compose, given = node.composed
    places = list(map(ops.identity, given))
    found = walk(compose(*places), g, [p for p in places if p.requires_grad], True, True, beyond=False)
    return [found[p.node] for p in places if p.requires_grad]


def walk(y, g, targets, create_graph, retain_graph, beyond=True):
    root, wanted = key(y), targets if targets is None else set(map(key, targets))
    waits = uses(root, wanted, beyond)
    arrived = defaultdict(list)
    arrived[root].append(g)
    found = {}
    with mode(recording=create_graph, walking=True):
        for vertex in topological(root, wanted, beyond):
            if vertex not in waits:
                continue
            g = reduce(ops.add, arrived.pop(vertex))
            for hook in vertex.hooks.copy():
                g = hooked(hook, g)
            if is_wanted(vertex, wanted):
                found[vertex] = g
                if not beyond:
                    continue
            if isinstance(vertex, Tensor):
                continue
            assert isinstance(vertex, Node)
            for each, share in shares(vertex, g, create_graph, waits):
                arrived[each].append(share)
            if not retain_graph:
                vertex.free()
    return found
