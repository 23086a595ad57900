"""The helpers of checks: what they let through, what they refuse, and in which order they speak."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from kakehashi.journey.checking import (
    LONGEST,
    TOLERANCE,
    Wrong,
    finite,
    gradients,
    part,
    same,
    shake,
    shape,
    tensor,
    twin,
)

FLOATS = arrays.arrays(
    np.float32, arrays.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e4, 1e4, width=32)
).map(torch.tensor)


def key_of(function, *args, **kwargs) -> str | None:
    try:
        function(*args, **kwargs)
    except Wrong as wrong:
        json.dumps(wrong.values)
        return wrong.key
    return None


@given(FLOATS)
def test_a_tensor_is_the_same_as_itself_and_no_longer_when_its_largest_value_moves(x):
    assert key_of(same, "x", x.clone(), x) is None
    moved = x.clone().flatten()
    worst = moved.abs().argmax()
    moved[worst] += 3 * TOLERANCE * (moved[worst].abs() + 1)
    assert key_of(same, "x", moved.view(x.shape), x) == "value"


@given(FLOATS, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_nan_and_infinity_never_pass_for_a_number(x, bad):
    spoiled = x.clone().flatten()
    spoiled[-1] = bad
    assert key_of(same, "x", spoiled.view(x.shape), x) == ("nan" if math.isnan(bad) else "value")
    assert key_of(same, "x", x, spoiled.view(x.shape)) == "value"
    assert key_of(finite, "x", spoiled) == "nan"


def test_infinities_in_the_same_places_are_equal():
    x = torch.tensor([1.0, -math.inf, math.inf])
    assert key_of(same, "x", x.clone(), x) is None
    assert key_of(same, "x", -x, x) == "value"


@pytest.mark.parametrize(
    ("mine", "key"),
    [
        (None, "none"),
        ([1.0, 2.0], "type"),
        (torch.full((3,), math.nan, dtype=torch.float64), "shape"),
        (torch.full((2,), math.nan, dtype=torch.float64), "dtype"),
        (torch.tensor([math.nan, 9.0]), "nan"),
        (torch.tensor([9.0, 2.0]), "value"),
    ],
)
def test_the_first_thing_wrong_is_what_is_said(mine, key):
    assert key_of(same, "x", mine, torch.tensor([1.0, 2.0])) == key


def test_whole_numbers_and_truth_are_compared_exactly():
    large = torch.tensor([10**9])
    assert key_of(same, "n", large.clone(), large) is None and key_of(same, "n", large + 1, large) == "value"
    assert key_of(same, "b", torch.tensor([True]), torch.tensor([False])) == "value"
    assert key_of(same, "n", 3, 3) is None and key_of(same, "n", 3, 4) == "number"
    assert key_of(same, "a", np.ones(2), np.ones(2)) is None and key_of(same, "a", np.ones(2), np.zeros(2)) == "value"


def test_a_long_value_is_cut():
    shown = Wrong("x", seen=[1] * 10**5).values["seen"]
    assert shown.startswith("[1, 1, ") and LONGEST <= len(shown) < LONGEST + 10
    assert Wrong("x", seen="s" * LONGEST).values["seen"] == "s" * LONGEST


def test_the_worst_place_is_shown_with_both_values():
    with pytest.raises(Wrong) as caught:
        same("x", torch.tensor([[1.0, 2.0], [3.1, 9.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert caught.value.values == {"name": "x", "place": "[1, 1]", "mine": 9.0, "ref": 4.0, "count": 2, "total": 4}


def test_shape_tensor_and_part_return_what_they_accept():
    x = torch.ones(2, 3)
    assert shape("x", x, (2, 3)) is x and tensor("x", x) is x and part("x", x, "T").shape == (3, 2)
    assert (key_of(shape, "x", x, (3, 2)), key_of(tensor, "x", "x"), key_of(part, "x", x, "logits")) == (
        "shape",
        "type",
        "part",
    )
    assert key_of(part, "x", None, "logits") == "none"


def test_a_shaken_module_has_no_parameter_left_at_its_start_and_still_computes():
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.LayerNorm(8))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    shake(net, torch.Generator().manual_seed(0)).eval()
    for name, value in net.state_dict().items():
        assert name.endswith("num_batches_tracked") or (value != before[name]).all(), name
    assert net(torch.randn(4, 8)).isfinite().all()


def test_a_twin_computes_what_the_other_does_whatever_buffers_it_adds():
    class WithMask(nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.register_buffer("mask", torch.ones(3))

    x, ref = torch.randn(2, 3), nn.Linear(3, 3).eval()
    mine = twin("Linear", WithMask(), ref)
    assert torch.equal(mine(x), ref(x)) and not mine.training
    assert key_of(twin, "Linear", nn.Linear(3, 3, bias=False), ref) == "missing_parameter"
    assert key_of(twin, "Linear", nn.Linear(3, 3), nn.Linear(3, 3, bias=False)) == "extra_parameter"
    assert key_of(twin, "Linear", nn.Linear(4, 3), ref) == "shape"
    assert key_of(twin, "Linear", None, ref) == "none" and key_of(twin, "Linear", torch.ones(3), ref) == "type"


def test_parts_in_a_plain_list_are_named():
    class Net(nn.Module):
        def __init__(self, parts):
            super().__init__()
            self.parts = parts

    assert key_of(twin, "Net", Net([nn.Linear(3, 3)]), Net(nn.ModuleList([nn.Linear(3, 3)]))) == "plain_list"


class SavesInput(nn.Module):
    """Its backward pass needs the input as it was."""

    def __init__(self, spoil: bool):
        super().__init__()
        self.spoil = spoil

    def forward(self, x):
        y = x.exp()
        saved = y * y
        if self.spoil:
            y.mul_(2)
        return saved


@pytest.mark.parametrize(
    ("mine", "key"),
    [
        (lambda x: x.exp() * x.exp(), None),
        (SavesInput(spoil=False), None),
        (SavesInput(spoil=True), "backward"),
        (lambda x: x.mul_(2).exp(), "overwrites"),
        (lambda x: (2 * x).exp().detach(), "backward"),
        (lambda x: (2 * x).exp().detach() + 0 * x, "value"),
        (lambda x: (2 * x).exp().detach() + torch.zeros(1, requires_grad=True), "no_gradient"),
        (lambda x: None, "none"),
        (lambda x: (2 * x).exp().sum(), "shape"),
    ],
)
def test_gradients_compares_forward_and_backward_and_leaves_the_inputs_alone(mine, key):
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    assert key_of(gradients, "exp(2x)", mine, lambda x: (2 * x).exp(), x) == key
    assert torch.equal(x, before) and x.grad is None
