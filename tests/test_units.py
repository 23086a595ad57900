"""inspection.units: dead and saturated units, whatever the activation function is called by."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kakehashi import models
from kakehashi.inspection import units
from kakehashi.inspection.units import Activation, watch


class Written(nn.Module):
    """A linear map, and a function after it."""

    def __init__(self, function):
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.function = function

    def forward(self, x):
        return self.function(self.linear(x))


FUNCTIONS = {
    "relu": [F.relu, nn.ReLU(), lambda x: x.clamp(min=0), lambda x: torch.relu_(x + 0), lambda x: x.relu()],
    "gelu": [
        F.gelu,
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2))),
        lambda x: x * (0.5 * (torch.erf(x / math.sqrt(2)) + 1)),
    ],
    "silu": [F.silu, nn.SiLU(inplace=True), lambda x: x * torch.sigmoid(x), lambda x: torch.sigmoid(x) * x],
    "tanh": [torch.tanh, nn.Tanh(), lambda x: torch.tanh_(x + 0)],
    "sigmoid": [torch.sigmoid, lambda x: torch.sigmoid(x) * (x + 1)],
    "elu": [F.elu],
    "relu6": [F.relu6],
}


@pytest.mark.parametrize(("kind", "number"), [(kind, i) for kind, all in FUNCTIONS.items() for i in range(len(all))])
def test_a_function_is_seen_however_it_is_written(kind, number):
    model = Written(FUNCTIONS[kind][number])
    x = torch.randn(7, 6)
    with watch(model) as seen:
        output = model(x)
    assert [(each.kind, found.n, found.rows) for each, found in seen.items()] == [(kind, 5, 7)]
    assert torch.equal(output, model(x))


@pytest.mark.parametrize("kind", ["relu", "gelu", "silu", "tanh", "sigmoid", "hardsigmoid", "hardtanh", "relu6"])
def test_a_unit_that_stays_at_the_flat_end_is_dead(kind):
    function = getattr(F, kind, None) or getattr(torch, kind)
    x = torch.randn(50, 4)
    x[:, 1] -= 40
    assert units.of(function(x), kind).dead.tolist() == [False, True, False, False]


def test_a_small_relu_is_not_dead():
    assert units.of(F.relu(1e-6 * torch.randn(50, 3)), "relu").share_dead == 0


def test_a_unit_that_never_changes_is_dead_whatever_the_function():
    x = torch.randn(50, 4)
    x[:, 2] = 0.7
    assert units.of(F.leaky_relu(x), "leaky_relu").dead.tolist() == [False, False, True, False]
    assert not units.of(F.leaky_relu(x[:1]), "leaky_relu").dead.any(), "one example is no evidence"


def test_saturated_is_where_the_slope_is_six_percent_of_the_largest():
    x = torch.linspace(-6, 6, 10001, requires_grad=True)
    for function, kind in ((torch.tanh, "tanh"), (torch.sigmoid, "sigmoid")):
        y = function(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        flat = (slope < (1 - 0.97**2) * slope.max()).float().mean()
        assert units.of(y[:, None], kind).share_saturated == pytest.approx(float(flat), abs=1e-3)
    assert units.of(F.relu(x[:, None]), "relu").share_saturated is None


def test_a_unit_is_dead_over_all_calls_together():
    model = Written(F.relu)
    with torch.no_grad():
        model.linear.weight.copy_(torch.eye(5, 6))
        model.linear.bias.zero_()
    first, second = -torch.ones(3, 6), -torch.ones(2, 6)
    first[0, 0] = second[1, 3] = 1
    with watch(model) as seen:
        model(first)
        model(second)
    (found,) = seen.values()
    assert found.rows == 5
    assert found.dead.tolist() == [False, True, True, False, True]


def test_channels_are_the_units_of_an_image():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            return torch.tanh(self.head(F.relu(self.conv(x)).mean((2, 3))))

    model = Net()
    with torch.no_grad():
        model.conv.bias[3] = -100
    with watch(model) as seen:
        model(torch.randn(2, 3, 6, 6))
    relu = seen[Activation("", "relu")]
    assert relu.rows == 2 * 4 * 4
    assert relu.dead.nonzero().flatten().tolist() == [3]
    assert seen[Activation("", "tanh")].n == 5


def test_two_places_of_a_module_are_two_and_the_innermost_module_is_named():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return torch.sigmoid(x) + torch.sigmoid(self.act(x)) + self.act(-x)

    model = nn.Sequential(Block(), Block())
    with watch(model) as seen:
        model(torch.randn(4, 3))
    inside = [("0", "sigmoid", 0), ("0", "sigmoid", 1), ("0.act", "relu", 0), ("0.act", "relu", 1)]
    assert sorted(map(tuple, seen)) == inside + [(name.replace("0", "1", 1), *rest) for name, *rest in inside]


def test_torchs_lstm_shows_its_gates():
    torch.manual_seed(0)
    fused = nn.LSTM(4, 5, num_layers=2, bidirectional=True)
    x = 6 * torch.randn(6, 3, 4)
    with watch(fused) as seen:
        fused(x)
    assert [(each.kind, found.n, found.rows) for each, found in seen.items()] == [
        ("sigmoid", 15, 18),
        ("tanh", 5, 18),
    ] * 4

    cell = nn.LSTMCell(4, 5)  # whose gates torch computes one by one
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).copy_(getattr(fused, f"{name}_l0_reverse"))
    h, c = torch.zeros(3, 5), torch.zeros(3, 5)
    extents = []
    for each in x.flip(0):
        pre = F.linear(each, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh, cell.bias_hh)
        i, f, g, o = pre.chunk(4, 1)
        extents.append((torch.cat([i, f, o], 1).sigmoid(), g.tanh()))
        h, c = cell(each, (h, c))
    for place, kind in enumerate(("sigmoid", "tanh")):
        whole = units.of(torch.stack([pair[place] for pair in extents]), kind)
        assert seen[Activation("", kind, 1)].share_saturated == pytest.approx(whole.share_saturated, abs=1e-6)


@pytest.mark.parametrize("preset", ["mlp-char", "gpt2-nano", "llama-nano", "lstm-char", "resnet20", "wavenet-char"])
def test_watching_changes_no_bit_and_leaves_no_hook(preset):
    family = models.find(preset)
    torch.manual_seed(0)
    model = family.Model(family.presets[preset])
    if family.task == "classify":
        inputs = (torch.randn(2, model.config.n_channels, 16, 16), torch.tensor([1, 2]))
    else:
        inputs = tuple(torch.randint(0, 20, (2, 2, 8)))

    def step():
        model.zero_grad()
        torch.manual_seed(1)
        loss = model(*inputs).loss
        loss.backward()
        return [loss.detach(), torch.rand(1), *(p.grad.clone() for p in model.parameters())]

    state = {name: x.clone() for name, x in model.state_dict().items()}
    without = step()
    model.load_state_dict(state)
    with watch(model) as seen:
        watched = step()
    assert seen
    assert all(torch.equal(a, b) for a, b in zip(without, watched, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_pass_that_fails_ends_the_watching():
    model = Written(lambda x: 1 / 0)
    with watch(model) as seen, pytest.raises(ZeroDivisionError):
        model(torch.randn(2, 6))
    model.function = torch.tanh
    assert torch.utils._python_dispatch._len_torch_dispatch_stack() == 0 and not seen
