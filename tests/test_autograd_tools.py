"""What stands around the tensors: the scalar engine, drawing, modules, optimizers, the gradient check, the trace."""

import doctest
import inspect
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kakehashi import training
from kakehashi.autograd import (
    AutogradError,
    GradientError,
    NotFinite,
    ShapeError,
    Tensor,
    Value,
    draw,
    grad,
    gradcheck,
    nn,
    no_grad,
    ops,
    optim,
    record,
    trace_nan,
)
from kakehashi.autograd import functional as F
from kakehashi.autograd.gradcheck import findings


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- Value ---


# what joins two numbers, in forms that stay in bounds
JOINS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: 1.5 - a - b,
    "*": lambda a, b: (a * b).tanh(),
    "/": lambda a, b: a / (b * b + 1.0),
    "^": lambda a, b: (a * a + 0.1) ** -0.5,
    "e": lambda a, b: (-(a * a)).exp(),
    "t": lambda a, b: a.tanh() * 2,
    "l": lambda a, b: (a * a + 0.5).log(),
    "r": lambda a, b: a.relu() + 1 / (b * b + 1),
}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(list(JOINS)), st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_scalar_gradients_are_torchs(steps):
    ours = [Value(0.5), Value(-1.25), Value(2.0)]
    theirs = [torch.tensor(v.data, dtype=torch.double, requires_grad=True) for v in ours]
    leaves = list(theirs)
    for join, i, j in steps:
        for numbers in (ours, theirs):
            numbers.append(JOINS[join](numbers[i % len(numbers)], numbers[j % len(numbers)]))
    loss, expected = ours[-1] + ours[0] * ours[1] + ours[2], theirs[-1] + theirs[0] * theirs[1] + theirs[2]
    loss.backward()
    expected.backward()
    assert loss.data == pytest.approx(expected.item(), rel=1e-12)
    for value, leaf in zip(ours, leaves, strict=False):
        assert value.grad == pytest.approx(leaf.grad.item(), rel=1e-10, abs=1e-12)


def test_a_chain_of_100_000_values_works_and_is_freed():
    x = Value(1.0)
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward()
    assert x.grad == 100_001
    del y


def test_leaves_collect_over_calls_and_what_lies_between_does_not():
    x = Value(3.0)
    h = x * x
    h.backward()
    (h + h).backward()
    assert x.grad == 6 + 12 and h.grad == 2


def test_the_slope_at_a_kink_and_at_zero_is_zero():
    x = Value(0.0)
    (x.relu() + x**0).backward()
    assert x.grad == 0


# --- The drawing ---


def neuron() -> Value:
    x1, x2, w1, w2 = Value(2.0, label="x1"), Value(0.0, label="x2"), Value(-3.0, label="w1"), Value(1.0, label="w2")
    n = x1 * w1 + x2 * w2 + Value(6.88, label="<b>")
    y = (n * 2).exp()
    return (y - 1) / (y + 1) - x1


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    rects = [each.attrib for each in ET.fromstring(svg) if each.tag.endswith("rect")]
    return [tuple(float(each[key]) for key in ("x", "y", "width", "height")) for each in rects]


def overlapping(places: list[tuple[float, float, float, float]]) -> int:
    def apart(a, b):
        return a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]

    return sum(not apart(a, b) for i, a in enumerate(places) for b in places[:i])


def test_the_drawing_shows_every_value_with_its_gradient_and_every_op():
    y = neuron()
    y.backward()
    svg = draw(y)
    texts = [each.text for each in ET.fromstring(svg) if each.tag.endswith("text")]
    for value in y.order():
        assert f"data {value.data:.4g}" in texts and f"grad {value.grad:.4g}" in texts
    ops_made = sorted(v.op for v in y.order() if v.op)
    assert sorted(t for t in texts if t in ops_made) == ops_made
    assert "<b>" in texts  # escaped in the file


def test_nothing_in_the_drawing_overlaps_or_stands_outside_and_time_runs_to_the_right():
    svg = draw(neuron())
    places = boxes(svg)
    width, height = (float(ET.fromstring(svg).attrib[key]) for key in ("width", "height"))
    assert overlapping(places) == 0
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in places)
    # every curve goes to the right
    for path in (each.attrib["d"] for each in ET.fromstring(svg) if each.tag.endswith("path")):
        start, end = path.replace("C", " ").removeprefix("M").split()[:1], path.split()[-2:]
        assert float(start[0]) <= float(end[0])


def test_the_drawing_of_a_tensor_shows_shapes_names_and_small_numbers():
    w, x = Tensor([[1.0, 2.0]], requires_grad=True), Tensor(np.ones((3, 2)))
    y = F.linear(x, w).tanh().sum()
    y.backward(retain_graph=True)
    svg = draw(y, {"w": w})
    assert all(text in svg for text in (">w<", "data [1.0, 2.0]", "shape (3, 1)", ">linear<", ">tanh<", ">sum<"))
    y.backward()
    with pytest.raises(AutogradError, match="sum was freed"):
        draw(y)


def test_constants_are_drawn_in_grey():
    x, c = Tensor([1.0, 2.0], requires_grad=True), Tensor(np.ones((3, 2)))
    svg = draw(((x + c) * 2.0).sum())
    texts = [each for each in ET.fromstring(svg) if each.tag.endswith("text")]
    ink = {each.text: each.attrib["fill"] for each in texts}
    assert ink["constant (3, 2)"] == ink["constant"] != ink["data [1.0, 2.0]"]
    assert overlapping(boxes(svg)) == 0


def test_a_graph_that_cannot_be_read_is_not_drawn():
    y = Value(1.0)
    for _ in range(300):
        y = y.tanh()
    with pytest.raises(AutogradError, match="301 boxes"):
        draw(y)


# --- Modules ---


class Net(nn.Module):
    def __init__(self, rng):
        self.table = nn.Embedding(5, 4, rng)
        self.h = [nn.Linear(4, 4, rng), nn.Linear(4, 4, rng, bias=False)]
        self.norm = nn.LayerNorm(4)
        self.drop = nn.Dropout(0.5, rng)
        self.seen = Tensor(np.zeros(2))

    def forward(self, tokens):
        x = self.table(tokens)
        for layer in self.h:
            x = x + layer(x).tanh()
        return F.linear(self.drop(self.norm(x)), self.table.weight)


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 4)
        self.h = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, bias=False)])
        self.norm = torch.nn.LayerNorm(4)
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, tokens):
        x = self.table(tokens)
        for layer in self.h:
            x = x + layer(x).tanh()
        return self.norm(x) @ self.table.weight.T


def test_names_arrays_and_results_are_torchs():
    ours, theirs = Net(np.random.default_rng(0)).astype(np.float64).eval(), TorchNet().double()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert {name for name, _ in ours.named_parameters()} == {name for name, _ in theirs.named_parameters()}
    ours.load_state_dict(theirs.state_dict())
    tokens = np.array([[0, 1, 4], [2, 2, 3]])
    y, expected = ours(tokens), theirs(torch.tensor(tokens))
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-12)
    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, p), t in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-9, err_msg=name)


def test_a_tied_parameter_is_trained_once_and_saved_under_both_names():
    model = Net(np.random.default_rng(0))
    model.head = nn.Linear(4, 5, np.random.default_rng(0), bias=False)
    n = len(model.parameters())
    model.head.weight = model.table.weight
    assert len(model.parameters()) == n - 1
    assert {"table.weight", "head.weight"} <= model.state_dict().keys()


def test_state_is_a_copy_and_comes_back():
    model = Net(np.random.default_rng(0))
    state = model.state_dict()
    with no_grad():
        for p in model.parameters():
            p.zero_()
    model.load_state_dict(state)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, state[name])


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop("norm.bias"), "norm.bias: missing"),
        (lambda state: state.update(more=np.zeros(1)), "more: not a part"),
        (lambda state: state.update({"seen": np.zeros(3)}), r"seen has shape \(2,\), got \(3,\)"),
        (lambda state: state.update({"seen": np.array(["1", "2"])}), "seen is made of real numbers, got <U1"),
        (lambda state: state.update({"seen": np.array([1j, 2])}), "seen is made of real numbers, got complex128"),
        (lambda state: state.update({"seen": [[1.0], [1.0, 2.0]]}), "seen: "),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, words):
    model = Net(np.random.default_rng(0))
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(AutogradError, match=words):
        model.load_state_dict(state)
    assert all((array == before[name]).all() for name, array in model.state_dict().items())


def test_layers_give_what_torchs_give():
    rng = np.random.default_rng(0)
    ours = nn.Sequential(nn.Conv2d(2, 3, (3, 2), rng, stride=2, padding=1), nn.ReLU(), nn.Tanh())
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 3, (3, 2), stride=2, padding=1), torch.nn.ReLU(), torch.nn.Tanh())
    assert np.abs(ours.state_dict()["0.weight"]).max() <= 1 / math.sqrt(2 * 3 * 2)
    ours.load_state_dict(theirs.state_dict())
    x = normal(2, 2, 5, 6).astype(np.float32)
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_dropout_follows_train_and_eval():
    model = nn.Sequential(
        nn.Dropout(0.5, np.random.default_rng(0)), nn.Sequential(nn.Dropout(0.5, np.random.default_rng(1)))
    )
    x = Tensor(np.ones(100))
    assert (model(x).data == 0).any()
    assert (model.eval()(x).data == 1).all()
    assert (model.train()(x).data == 0).any()


def test_initial_weights_have_the_spread_of_torchs():
    ours, theirs = nn.Linear(100, 300, np.random.default_rng(0)), torch.nn.Linear(100, 300)
    for name, p in ours.named_parameters():
        t = dict(theirs.named_parameters())[name].detach()
        assert p.dtype == np.float32 and abs(p.data.std() / t.std().item() - 1) < 0.1
        assert np.abs(p.data).max() <= 0.1
    assert abs(nn.Embedding(100, 100, np.random.default_rng(0)).weight.data.std() - 1) < 0.05


# --- Optimizers ---

KINDS = {
    "SGD": {},
    "SGD with momentum": {"momentum": 0.9},
    "SGD, Nesterov and decay": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adam": {},
    "Adam with decay": {"weight_decay": 0.1, "betas": (0.8, 0.9)},
    "AdamW": {"weight_decay": 0.1, "eps": 1e-3},
    "AdamW of this house": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_optimizers_step_as_torchs_group_by_group(kind):
    name, values = kind.split()[0].rstrip(","), {"lr": 0.05, **KINDS[kind]}
    other = training.optim.AdamW if "house" in kind else getattr(torch.optim, name)
    ours = [Tensor(normal(3, 2, seed=i), requires_grad=True) for i in range(3)]
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]

    def groups(params):  # the third never gets a gradient, and stays
        return [{"params": params[:1], "lr": 0.2}, {"params": params[1:]}]

    a, b = getattr(optim, name)(groups(ours), **values), other(groups(theirs), **values)
    for step in range(6):
        for i in range(2):
            ours[i].grad = normal(3, 2, seed=10 * step + i)
            theirs[i].grad = torch.tensor(ours[i].grad.copy())
        a.step()
        b.step()
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=1e-12)
    a.zero_grad()
    assert all(p.grad is None for p in ours)


def test_an_optimizer_goes_on_from_its_arrays():
    def run(steps, arrays=None, start=None, first=0):
        p = Tensor(normal(3, 2) if start is None else start.copy(), requires_grad=True)
        optimizer = optim.AdamW([p])
        if arrays:
            optimizer.load_arrays(arrays)
        for step in range(first, first + steps):
            p.grad = normal(3, 2, seed=step)
            optimizer.step()
        return p.data, optimizer.arrays()

    whole, _ = run(6)
    half, arrays = run(3)
    rest, _ = run(3, arrays, half, first=3)
    np.testing.assert_array_equal(rest, whole)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda arrays: arrays.pop("1.exp_avg"), "AdamW: 1.exp_avg: missing"),
        (lambda arrays: arrays.update({"2.step": 1}), "AdamW: 2.step: not a part"),
        (lambda arrays: arrays.update({"1.exp_avg": np.ones(1)}), r"1.exp_avg has shape \(3,\), got \(1,\)"),
        (lambda arrays: arrays.update({"1.step": "3"}), "1.step is made of real numbers, got <U1"),
    ],
)
def test_arrays_that_do_not_fit_an_optimizer_are_refused_and_change_nothing(change, words):
    optimizer = optim.AdamW([Tensor(normal(3, seed=i), requires_grad=True) for i in range(2)])
    before = optimizer.arrays()
    arrays = {name: array + 1 for name, array in before.items()}
    change(arrays)
    with pytest.raises(AutogradError, match=words):
        optimizer.load_arrays(arrays)
    assert all((array == before[name]).all() for name, array in optimizer.arrays().items())


@pytest.mark.parametrize(
    "params, words",
    [
        (lambda p: [p, p], r"parameter 1 of SGD, of shape \(2,\), is given twice"),
        (lambda p: [{"params": [p]}, {"params": [p]}], "parameter 1 .* twice"),
        (lambda p: [{"params": [p]}, p], "number 1 of its groups"),
        (lambda p: [{"lr": 0.1}], "number 0 of its groups"),
        (lambda p: [{"params": p}], r"\[x\]"),
        (lambda p: p, r"\[x\]"),
        (lambda p: [], "no parameters"),
        (lambda p: [{"params": []}], "no parameters"),
    ],
)
def test_an_optimizer_says_what_it_cannot_move(params, words):
    with pytest.raises(AutogradError, match=words):
        optim.SGD(params(Tensor(np.ones(2), requires_grad=True)))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 2, 2, 2)])
def test_muon_steps_along_the_singular_vectors_by_jordans_polynomial(shape):
    p = Tensor(normal(*shape), requires_grad=True)
    start, buffer = p.data.copy(), np.zeros(shape)
    optimizer = optim.Muon([p], lr=0.1, weight_decay=0.5)
    for step in range(3):
        p.grad = g = normal(*shape, seed=step + 1)
        optimizer.step()
        # by the singular value decomposition: u f(s) v, where f is the polynomial five times over
        buffer = 0.95 * buffer + 0.05 * g
        u, s, v = np.linalg.svd((0.05 * g + 0.95 * buffer).reshape(shape[0], -1), full_matrices=False)
        s /= np.linalg.norm(s) + 1e-7
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        rows, columns = u.shape[0], v.shape[1]
        start = start * (1 - 0.1 * 0.5) - 0.1 * max(1, rows / columns) ** 0.5 * (u * s @ v).reshape(shape)
        np.testing.assert_allclose(p.data, start, rtol=1e-6, atol=1e-8)


def test_muon_is_torchs_as_far_as_bfloat16_reaches():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("only where torch has Muon")
    ours = Tensor(normal(6, 4).astype(np.float32), requires_grad=True)
    theirs = torch.tensor(ours.data.copy(), requires_grad=True)
    a, b = optim.Muon([ours], lr=0.1, weight_decay=0.1), torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1)
    for step in range(3):
        ours.grad = normal(6, 4, seed=step).astype(np.float32)
        theirs.grad = torch.tensor(ours.grad)
        a.step()
        b.step()
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), atol=0.01)


@pytest.mark.parametrize(
    "params, words",
    [
        (lambda w: w, "SGD .* list of tensors"),
        (lambda w: [{"params": w}], "SGD .* list of tensors"),
        (lambda w: [], "SGD got no parameters"),
        (lambda w: [{"params": []}], "SGD got no parameters"),
        (lambda w: [w, w * 2], "parameter 1 of SGD was made by mul"),
        (lambda w: [w.detach()], "parameter 0 of SGD requires no gradient"),
        (lambda w: [w.data], "parameter 0 is a ndarray"),
    ],
)
def test_an_optimizer_refuses_what_it_could_never_move(params, words):
    with pytest.raises(AutogradError, match=words):
        optim.SGD(params(Tensor(normal(2, 2), requires_grad=True)))


@pytest.mark.parametrize("shape", [(4,), (3, 0), (0, 3)])
def test_muon_refuses_what_is_no_matrix(shape):
    with pytest.raises(AutogradError, match=rf"{re.escape(str(shape))}.*AdamW"):
        optim.Muon([Tensor(np.ones(shape), requires_grad=True)])


def test_clipping_is_torchs():
    for most in (0.1, 100.0):
        ours = [Tensor(normal(3, seed=i), requires_grad=True) for i in range(3)]
        theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
        for p, t in zip(ours[:2], theirs[:2], strict=True):
            p.grad = p.data * 2
            t.grad = torch.tensor(p.grad.copy())
        norm = optim.clip_grad_norm_(ours, most)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, most).item())
        for p, t in zip(ours[:2], theirs[:2], strict=True):
            np.testing.assert_allclose(p.grad, t.grad.numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_what_is_not_finite_is_torchs(bad):
    ours = [Tensor(np.ones(2), requires_grad=True) for _ in range(2)]
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    for i, (p, t) in enumerate(zip(ours, theirs, strict=True)):
        p.grad = np.array([1.0, bad if i else 2.0])
        t.grad = torch.tensor(p.grad.copy())
    with np.errstate(invalid="ignore"):
        optim.clip_grad_norm_(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(p.grad, t.grad.numpy())


def test_a_single_tensor_is_clipped():
    x = Tensor(np.ones(2), requires_grad=True)
    x.grad = np.array([3.0, 4.0])
    assert optim.clip_grad_norm_(x, 1.0) == 5
    np.testing.assert_allclose(x.grad, [0.6, 0.8], rtol=1e-6)


def test_a_step_of_an_optimizer_makes_older_graphs_unusable():
    p = Tensor(normal(2, 2), requires_grad=True)
    y = (p * p).sum()
    p.grad = np.ones((2, 2))
    optim.SGD([p]).step()
    with pytest.raises(AutogradError, match="mul needs"):
        y.backward()


# --- The gradient check ---


def test_a_right_gradient_passes_on_all_entries():
    gradcheck(lambda x, w: F.conv2d(x, w, stride=2, padding=1).tanh(), normal(1, 2, 4, 4), normal(2, 2, 3, 3))
    gradcheck(lambda x: F.softmax(x).log(), normal(2, 3))
    gradcheck(lambda x: x * 2.0, 1.5)


def test_a_wrong_gradient_is_named_by_input_and_entry_worst_first():
    def f(x, y):
        # y's gradient is forgotten in one entry, and smaller ones are lost in another
        keep = np.ones((2, 3))
        keep[1, 2], keep[0, 1] = 0, 0.5
        return x * 2.0 + y * Tensor(keep) * 3.0 + y.detach() * Tensor(1 - keep) * 3.0

    found = findings(f, normal(2, 3), normal(2, 3))
    assert [(each.input, each.index) for each in found] == [(1, (1, 2)), (1, (0, 1))]
    assert found[0].engine == 0 and 1.5 <= found[0].measured <= 4.5
    with pytest.raises(GradientError, match=r"input 1 at \(1, 2\), .* all 6 .*: the gradient is 0, .* \(2 of 12"):
        gradcheck(f, normal(2, 3), normal(2, 3))


def test_the_gradient_of_a_number_is_said_as_it_is_on_paper():
    def half(x):
        return record("square", x.data**2, (x, lambda g: g * x))

    with pytest.raises(GradientError, match=r"the gradient is 3, measured 6 \(1 of 1"):
        gradcheck(half, 3.0)
    with pytest.raises(GradientError, match=r"all 2 results under random weights"):
        gradcheck(half, [3.0, 1.0])


def test_a_second_derivative_is_checked_as_the_gradient_of_a_gradient():
    def cube(back):
        return lambda x: record("cube", x.data**3, (x, lambda g: back(g, x)))

    def slope(f):
        return lambda x: grad(f(x).sum(), x, create_graph=True)[0]

    right, of_arrays = cube(lambda g, x: g * x * x * 3), cube(lambda g, x: g * Tensor(3 * x.data**2))
    for f in (right, of_arrays):
        gradcheck(f, [1.0, 2.0])
    gradcheck(slope(right), [1.0, 2.0])
    with pytest.raises(AutogradError):
        gradcheck(slope(of_arrays), [1.0, 2.0])


def test_what_is_random_cannot_be_checked():
    rng = np.random.default_rng(0)
    with pytest.raises(AutogradError, match="another value each time"):
        gradcheck(lambda x: ops.dropout(x, 0.5, True, rng), normal(10))


# --- Where NaN comes from ---


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_op_that_makes_a_nan_is_named_with_shapes_and_the_callers_line():
    x = Tensor(np.array([[1.0, 0.0]]), requires_grad=True)
    with pytest.raises(NotFinite) as caught, trace_nan():
        h = x - 1.0
        line = inspect.currentframe().f_lineno + 1
        h = h.log()
        h.sum().exp()
    assert all(s in str(caught.value) for s in ("log made NaN", "(1, 2)", f"{__file__}:{line}"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_gradient_that_makes_an_infinity_is_named_by_the_line_of_its_op():
    x = Tensor(np.array([1.0, 0.0]), requires_grad=True)
    with pytest.raises(NotFinite) as caught, trace_nan():
        line = inspect.currentframe().f_lineno + 1
        y = nn.Sequential(Tensor.sqrt)(x * 1.0).sum()
        y.backward()
    assert all(s in str(caught.value) for s in ("the gradient of sqrt made inf", f"{__file__}:{line}"))


def test_what_was_infinite_before_is_not_complained_of_and_outside_nothing_is():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    with trace_nan():
        x.masked_fill(np.array([True, False]), -math.inf).softmax().sum().backward()
    with np.errstate(divide="ignore"):
        assert np.isinf((x - x).log().data).all()


def test_the_frame_of_a_pool_is_no_alarm():
    with trace_nan():
        F.max_pool2d(Tensor(normal(1, 1, 4, 4), requires_grad=True), 2, padding=1).sum().backward()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_trace_is_of_one_thread():
    with ThreadPoolExecutor(1) as other, trace_nan():
        assert other.submit(lambda: ops.log(np.zeros(1)).item()).result() == -math.inf
        with pytest.raises(NotFinite):
            ops.log(np.zeros(1))


def test_shape_errors_are_value_errors_for_those_who_catch_them():
    assert issubclass(ShapeError, ValueError) and issubclass(AutogradError, RuntimeError)


def test_the_readme_says_what_is_so():
    readme = Path(inspect.getfile(Value)).with_name("README.md")
    with np.errstate(all="ignore"):
        failed, tried = doctest.testfile(
            str(readme), module_relative=False, encoding="utf-8", optionflags=doctest.ELLIPSIS
        )
    assert failed == 0 and tried >= 15


def test_the_engine_needs_numpy_alone():
    code = "import sys, kakehashi.autograd; print([m for m in ('torch', 'scipy', 'matplotlib') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert said.stdout.strip() == "[]"
