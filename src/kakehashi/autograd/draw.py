"""The graph of a computation as a picture: SVG text, made here, without another program.

    Path("graph.svg").write_text(draw(loss), encoding="utf-8")

Time runs from left to right. A box is a number or a tensor with its gradient, a circle the op that made it. The layout
is the usual one (Sugiyama et al. 1981): boxes in layers, long edges cut at each layer they pass, layers ordered so that
few edges cross, then everything moved as near to its neighbours as its layer allows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from statistics import fmean

from kakehashi.autograd.tensor import AutogradError, Node, Tensor
from kakehashi.autograd.value import Value

MOST = 300  # boxes: a picture of more cannot be read

CHARACTER, LINE, GAP, BETWEEN = 7.3, 16, 18, 36  # pixels: of the text, and between boxes down and across


@dataclass(eq=False)
class Box:
    """What stands in the picture; without lines, a place that a long edge passes."""

    lines: Sequence[str] = ()
    op: str = ""
    inputs: list["Box"] = field(default_factory=list)
    layer: int = 0
    y: float = 0.0  # of its middle
    faint: bool = False  # a constant

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 10 if self.lines else 2.0

    @property
    def width(self) -> float:
        return CHARACTER * max(map(len, self.lines)) + 16 if self.lines else 0.0

    @property
    def op_width(self) -> float:
        return max(26.0, CHARACTER * len(self.op) + 14) if self.op else 0.0


def draw(y: Value | Tensor, names: Mapping[str, Tensor] | None = None) -> str:
    """The graph of y as the text of an SVG file.

    Of a Value: data and gradient of each number. Of a Tensor: of each leaf that requires a gradient the numbers, where
    they are few; of what lies between the shape, and in grey of the constants that an op was given. names: for leaves.
    Raises AutogradError for a graph of more than 300 boxes, and for one that was freed.
    """
    boxes = _of_value(y) if isinstance(y, Value) else _of_tensor(y, names or {})
    if len(boxes) > MOST:
        raise AutogradError(f"a graph of {len(boxes)} boxes cannot be read: draw one of at most {MOST}")
    return _svg(_arrange(boxes))


# --- What is drawn: each box after its inputs ---


def _of_value(y: Value) -> list[Box]:
    boxes: dict[Value, Box] = {}
    for value in y.order():
        lines = [value.label] if value.label else []
        lines += [f"data {value.data:.4g}", f"grad {value.grad:.4g}"]
        boxes[value] = Box(lines, value.op, [boxes[x] for x, _ in value.edges])
    return list(boxes.values())


def _of_tensor(y: Tensor, names: Mapping[str, Tensor]) -> list[Box]:
    labels = {id(tensor): name for name, tensor in names.items()}
    root = y.node or y
    boxes: dict[int, Box] = {}
    shapes = {id(root): y.shape}
    constants: list[Box] = []
    stack: list[tuple[Node | Tensor, bool]] = [(root, False)]
    while stack:
        node, inputs_done = stack.pop()
        key = id(node)
        if key in boxes:
            continue
        if isinstance(node, Tensor):
            label = [labels[key]] if key in labels else []
            boxes[key] = Box([*label, f"data {_numbers(node.data)}", f"grad {_numbers(node.grad)}"])
        elif node.inputs is None:
            raise AutogradError(
                f"the graph of {node.name} was freed by backward: call it with retain_graph=True to draw"
            )
        elif inputs_done:
            result = [f"data {_numbers(y.data)}"] if node is root else [f"shape {shapes[key]}"]
            given = [Box([f"constant {shape}" if shape else "constant"], faint=True) for shape in node.constants]
            constants += given
            boxes[key] = Box(result, node.name, [*(boxes[id(x)] for x in node.inputs), *given])
        else:
            stack.append((node, True))
            for x, (shape, _) in zip(node.inputs, node.likes, strict=True):
                shapes[id(x)] = shape
                stack.append((x, False))
    return [*constants, *boxes.values()]


def _numbers(data) -> str:
    """Four numbers at most, else the shape."""
    if data is None:
        return "none"
    if data.size > 4:
        return f"of shape {data.shape}"
    return str([float(f"{x:.4g}") for x in data.flat]) if data.ndim else f"{data:.4g}"


# --- Where it stands ---


def _arrange(boxes: list[Box]) -> list[list[Box]]:
    """The boxes by layer, each layer from top to bottom, with places for edges to pass, all y set."""
    for box in boxes:
        box.layer = 1 + max((x.layer for x in box.inputs), default=-1)
    used_by = {box: [other for other in boxes if box in other.inputs] for box in boxes}
    for box in reversed(boxes):
        if used_by[box]:  # as late as it can stand: a constant beside its use, not at the far left
            box.layer = min(other.layer for other in used_by[box]) - 1
    layers: list[list[Box]] = [[] for _ in range(1 + max(box.layer for box in boxes))]
    for box in boxes:
        layers[box.layer].append(box)
        box.inputs = [_reach(x, box.layer - 1, layers) for x in box.inputs]

    before = {box: box.inputs for layer in layers for box in layer}
    after: dict[Box, list[Box]] = {box: [] for box in before}
    for box, inputs in before.items():
        for x in inputs:
            after[x].append(box)
    for layer in layers:
        _stack(layer)
    for _ in range(12):
        # there and back: order each layer by where its neighbours stand, which takes crossings out
        for order, neighbours in ((layers, before), (layers[::-1], after)):
            for layer in order:
                aims = {box: _middle(neighbours[box], box.y) for box in layer}
                layer.sort(key=aims.__getitem__)
                _stack(layer, aims)
    for _ in range(8):  # the order stays now
        for layer in layers:
            _stack(layer, {box: _middle([*before[box], *after[box]], box.y) for box in layer})
    return layers


def _reach(box: Box, layer: int, layers: list[list[Box]]) -> Box:
    """The end of a chain of passing places from box to a layer; edges from one box share them."""
    for i in range(box.layer + 1, layer + 1):
        passing = next((p for p in layers[i] if not p.lines and p.inputs == [box]), None)
        if passing is None:
            passing = Box(inputs=[box], layer=i)
            layers[i].append(passing)
        box = passing
    return box


def _middle(boxes: Iterable[Box], otherwise: float) -> float:
    return fmean([box.y for box in boxes] or [otherwise])


def _stack(layer: list[Box], aims: Mapping[Box, float] | None = None) -> None:
    """Set y of a layer's boxes: one under the other, as near to their aims as the order allows."""
    aims = aims or dict.fromkeys(layer, 0.0)
    groups: list[tuple[list[Box], float]] = []  # boxes that touch, and where the first stands
    for box in layer:
        group, top = [box], aims[box]
        # a box that would overlap the group above joins it, and all stand where their aims are met best on the mean
        while groups and groups[-1][1] + _depth([*groups[-1][0], group[0]]) > top:
            group = groups.pop()[0] + group
            top = fmean(aims[each] - _depth(group[: i + 1]) for i, each in enumerate(group))
        groups.append((group, top))
    for group, top in groups:
        for i, box in enumerate(group):
            box.y = top + _depth(group[: i + 1])


def _depth(boxes: list[Box]) -> float:
    """From the middle of the first box to that of the last, where they touch."""
    return sum((a.height + b.height) / 2 + GAP for a, b in zip(boxes, boxes[1:], strict=False))


# --- How it looks ---


def _svg(layers: list[list[Box]]) -> str:
    everything = [box for layer in layers for box in layer]
    top = min(box.y - box.height / 2 for box in everything) - 10
    height = max(box.y + box.height / 2 for box in everything) - top + 10
    left: dict[Box, float] = {}
    right: dict[Box, float] = {}
    edges, shapes = [], []
    x = 10.0
    for layer in layers:
        ops = max(box.op_width for box in layer)
        x += ops + 12 if ops else 0.0
        width = max(box.width for box in layer)
        for box in layer:
            left[box], right[box] = x, x + box.width
            if not box.lines:  # the edge passes along ops and boxes
                left[box], right[box] = x - (ops + 12 if ops else 0.0), x + width
                edges.append(_curve(left[box], box.y - top, right[box], box.y - top))
        x += width + BETWEEN
    x -= BETWEEN - 10

    for box in everything:
        y = box.y - top
        start = left[box] - (box.op_width + 12 if box.op else 0.0)
        for source in box.inputs:
            edges.append(_curve(right[source], source.y - top, start, y))
        if not box.lines:
            continue
        shapes.append(_rect(left[box], y - box.height / 2, box.width, box.height, 4, "#ffffff"))
        for i, line in enumerate(box.lines):
            ink = "#8a8a8a" if box.faint else "#1a1a1a"
            shapes.append(_text(left[box] + box.width / 2, y - box.height / 2 + 17 + LINE * i, line, ink))
        if box.op:
            edges.append(_curve(start + box.op_width, y, left[box], y))
            shapes.append(_rect(start, y - 13, box.op_width, 26, 13, "#fdebc8"))
            shapes.append(_text(start + box.op_width / 2, y + 4, box.op))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{x:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {x:.0f} {height:.0f}" font-family="monospace" font-size="12" text-anchor="middle">',
            *edges,
            *shapes,
            "</svg>\n",
        ]
    )


def _curve(x0: float, y0: float, x1: float, y1: float) -> str:
    bend = (x0 + x1) / 2
    path = f"M{x0:.1f} {y0:.1f}C{bend:.1f} {y0:.1f} {bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return f'<path d="{path}" fill="none" stroke="#8a8a8a" stroke-width="1.3"/>'


def _rect(x: float, y: float, width: float, height: float, radius: float, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" '
        f'fill="{fill}" stroke="#8a8a8a"/>'
    )


def _text(x: float, y: float, text: str, ink: str = "#1a1a1a") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{ink}">{escape(text)}</text>'
