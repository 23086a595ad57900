"""A right walk in the manner of HIPS autograd: who uses whom, and gradients with a mark of whose they are."""

from kakehashi.autograd import ops
from kakehashi.autograd.tensor import AutogradError, Node, ShapeError, Tensor, as_tensor, mode, watchers


def sum_to(g, shape):
    while g.ndim > len(shape):
        g = ops.sum(g, 0)
    for axis, size in enumerate(shape):
        if size == 1 and g.shape[axis] != 1:
            g = ops.sum(g, axis, keepdim=True)
    return g


def uses(root, wanted, beyond):
    users = {root: []}
    reached = [root]
    for vertex in reached:
        if not beyond and is_wanted(vertex, wanted):
            continue
        for each in inputs_of(vertex):
            if each not in users:
                users[each] = []
                reached.append(each)
            users[each].append(vertex)
    useful = set()
    todo = [vertex for vertex in users if is_wanted(vertex, wanted)]
    while todo:
        vertex = todo.pop()
        if vertex not in useful:
            useful.add(vertex)
            todo.extend(users[vertex])
    return {vertex: sum(user in useful for user in users[vertex]) for vertex in useful}


def shares(node, g, create_graph, waits):
    node.check()
    if create_graph and node.composed is not None:
        pairs = zip(inputs_of(node), recomposed(node, g), strict=True)
        return [(below, share) for below, share in pairs if below in waits]
    pairs = []
    for i, below in enumerate(inputs_of(node)):
        if below not in waits:
            continue
        shape, dtype = node.likes[i]
        gradient = node.gradients[i]
        share = sum_to(gradient(g) if node.output is None else gradient(g, output_of(node)), shape)
        for watch in watchers:
            watch("the gradient of " + node.name, share, [g], node)
        if share.dtype != dtype:
            share = share.astype(dtype)
        pairs.append((below, share))
    return pairs


def recomposed(node, g):
    compose, given = node.composed
    with mode(recording=True, walking=True):
        doubles = [ops.identity(x) if x.requires_grad else x for x in given]
        result = compose(*doubles)
    wanted = [x for x in doubles if x.requires_grad]
    found = walk(result, g, wanted, True, True, False)
    return [found[x.node] for x in wanted]


def walk(y, g, targets, create_graph, retain_graph, beyond=True):
    root = key(y)
    wanted = None if targets is None else {key(x) for x in targets}
    missing = uses(root, wanted, beyond)
    arrived = {root: (g, False)}  # vertex -> its gradient so far, and whether that is ours to change
    result = {}
    complete = [root]
    with mode(recording=create_graph, walking=True):
        while complete:
            vertex = complete.pop(0)
            if vertex not in missing:
                break
            total, _ = arrived.pop(vertex)
            for hook in tuple(vertex.hooks):
                total = hooked(hook, total)
            target = is_wanted(vertex, wanted)
            if target:
                result[vertex] = total
            if isinstance(vertex, Node) and not (target and not beyond):
                for below, share in shares(vertex, total, create_graph, missing):
                    arrived[below] = joined(arrived.get(below), share, create_graph)
                    missing[below] -= 1
                    if not missing[below]:
                        complete.append(below)
                if not retain_graph:
                    vertex.free()
    return result


def joined(before, share, create_graph):
    if before is None:
        return share, False
    total, own = before
    if create_graph or not own:
        return total + share, True
    total.data += share.data
    return total, True


def key(x):
    return x if x.node is None else x.node


def is_wanted(vertex, wanted):
    return vertex in wanted if wanted is not None else not isinstance(vertex, Node)


def inputs_of(vertex):
    if isinstance(vertex, Node) and vertex.inputs is None:
        raise AutogradError(f"{vertex.name} was freed: keep it with retain_graph=True")
    return vertex.inputs if isinstance(vertex, Node) else []


def output_of(node):
    data, version, _ = node.output
    y = Tensor(data)
    y.node, y.requires_grad, y.version = node, True, version
    return y


def hooked(hook, g):
    answer = hook(g)
    if answer is not None and as_tensor(answer, like=g).shape != g.shape:
        raise ShapeError(f"a hook turned {g.shape} into {answer.shape}")
    return g if answer is None else as_tensor(answer, like=g)
