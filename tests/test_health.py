"""inspection.Health: what it measures is what happened, and training does not feel it."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from kakehashi import training
from kakehashi.inspection import Health
from kakehashi.inspection.health import layer_of
from kakehashi.inspection.units import Activation
from kakehashi.models.protocol import Output
from kakehashi.runs import Run


class Stop:
    """Asks training to stop after a step."""

    name = "stop"

    def __init__(self, step):
        self.step = step

    def on_step(self, state):
        state.stop = state.step == self.step


class Witness:
    """Computes what Health should find, in its own plain way, at each step."""

    name = "witness"

    def __init__(self):
        self.gradients, self.updates = {}, {}

    def on_backward(self, state):
        self.before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
        self.gradients[state.step + 1] = {name: p.grad.clone() for name, p in state.model.named_parameters()}

    def on_step(self, state):
        self.updates[state.step] = {
            name: (p.detach() - self.before[name], self.before[name]) for name, p in state.model.named_parameters()
        }


def words(tmp_path, n=60):
    file = tmp_path / "words.txt"
    rng = np.random.default_rng(0)
    file.write_text("\n".join("".join(rng.choice(list("abcdef"), 6)) for _ in range(n)), encoding="utf-8")
    return file


def learn(tmp_path, name, callbacks, model="gpt2-nano", steps=12, **settings):
    settings = {"unit": "document", "batch_size": 4, "eval_every": 5, "checkpoint_every": 4} | settings
    plan = training.plan(model, words(tmp_path), steps=steps, **settings)
    run = plan.create(tmp_path, name)
    training.train(plan.config, run, callbacks, sources=plan.sources)
    return run


def health(run):
    return [row["health"] for row in run.metrics() if "health" in row]


def rows(run):
    return [{k: v for k, v in row.items() if k not in ("time", "health")} for row in run.metrics()]


def files(run, *, without=()):
    """The bits of a run; `without` names of state.json are left out."""
    found = {str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("*.safetensors")}
    for path in run.path.glob("checkpoint/*/state.json"):
        state = json.loads(path.read_text(encoding="utf-8"))
        found[str(path.relative_to(run.path))] = json.dumps({k: v for k, v in state.items() if k not in without})
    return found


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("gpt2-nano", {"accumulate": 2}),
        ("mlp-char", {}),
        ("lstm-char", {"dtype": "bfloat16"}),
        ("mlp-char", {"engine": "numpy"}),
    ],
)
def test_training_gives_the_same_bits_with_it(tmp_path, model, settings):
    plain = learn(tmp_path, "plain", [], model, **settings)
    watched = learn(tmp_path, "watched", [Health(every=3)], model, **settings)
    assert len(health(watched)) == 4
    assert rows(plain) == rows(watched)
    # metrics.jsonl is longer, and a note may wait for its row when a checkpoint is written
    ours = ("notes", "metrics_bytes")
    assert files(plain, without=ours) == files(watched, without=ours)


@pytest.mark.parametrize("stop", [5, 8])
def test_a_run_that_was_resumed_ends_with_the_same_bits(tmp_path, stop):
    whole = learn(tmp_path, "whole", [Health(every=3)], "mlp-char", log_every=3)
    with pytest.raises(training.Interrupted):
        learn(tmp_path, "cut", [Health(every=3), Stop(stop)], "mlp-char", log_every=3)
    cut = Run.open(tmp_path / "cut")
    training.train(cut.config, cut, [Health(every=3)])
    assert files(whole) == files(cut)
    assert rows(whole) == rows(cut) and health(whole) == health(cut) and len(health(cut)) == 4


def test_gradients_and_updates_are_those_of_the_step(tmp_path):
    witness = Witness()
    # the gradients are clipped hard, and weights decay: neither is in lr * gradient
    run = learn(tmp_path, "run", [witness, Health(every=4)], clip=0.01, weight_decay=0.5, lr=0.01)
    assert [each["step"] for each in health(run)] == [4, 8, 12]
    for each in health(run):
        found = {}
        for name, (change, before) in witness.updates[each["step"]].items():
            gradient = witness.gradients[each["step"]][name]
            sums = found.setdefault(layer_of(name), [0.0, 0.0, 0.0])
            for i, x in enumerate((gradient, change, before)):
                sums[i] += float(x.double().square().sum())
        assert each["layers"].keys() == found.keys()
        for name, (gradient, change, before) in found.items():
            layer = each["layers"][name]
            assert layer["gradient"] == pytest.approx(math.sqrt(gradient), rel=1e-3)
            assert layer["update"] == pytest.approx(math.sqrt(change / before), rel=1e-3)


def test_both_engines_measure_the_same(tmp_path):
    first = learn(tmp_path, "first", [], "mlp-char", steps=1)
    both = []
    for engine in ("torch", "numpy"):
        plan = training.plan(
            None, words(tmp_path), unit="document", from_run=first.path, engine=engine, steps=4, batch_size=4
        )
        run = plan.create(tmp_path, engine)
        training.train(plan.config, run, [Health(every=2)], sources=plan.sources)
        both.append(health(run)[-1]["layers"])
    for name in ("embedding", "hidden", "norm", "output"):
        for what in ("gradient", "update"):
            assert both[0][name][what] == pytest.approx(both[1][name][what], rel=1e-2)
    assert "scale" in both[0]["hidden"] and "scale" not in both[1]["hidden"]


class Net(nn.Module):
    """Blocks with a functional activation, one module for each role of a layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)) for _ in range(2))
        self.gain = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(6, 3)

    def forward(self, x, targets):
        x = torch.tanh(self.embed(x))
        for block in self.blocks:
            x = x + block(x)
        return Output(None, nn.functional.cross_entropy(self.head(x * self.gain), targets))


def by_hand(model, n=1, lr=0.1, health=None, inputs=None):
    """Health's notes in a loop of one's own, of any module and SGD."""
    health = health or Health(every=1)
    engine = SimpleNamespace(autocast=lambda: torch.no_grad())
    state = SimpleNamespace(
        model=model, settings=SimpleNamespace(steps=n, log_every=1, device="cpu"), step=0, engine=engine
    )
    health.on_start(state)
    notes = []
    for i in range(n):
        generator = torch.Generator().manual_seed(i)
        x = inputs if inputs is not None else torch.randn(16, 4, generator=generator)
        state.batch = SimpleNamespace(inputs=(x,), targets=torch.arange(16) % 3, options={})
        model.zero_grad()
        model(x, state.batch.targets).loss.backward()
        health.on_backward(state)
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * (0 if p.grad is None else p.grad)
        state.step += 1
        notes.append(health.on_step(state))
    health.on_end(state)
    return notes


def test_layers_are_blocks_and_what_stands_outside_of_them():
    torch.manual_seed(0)
    (note,) = by_hand(Net())
    layers = note["layers"]
    assert list(layers) == ["gain", "embed", "blocks.0", "blocks.1", "head", "tanh"]
    assert set(layers["blocks.0"]) == {"gradient", "update", "scale", "dead"}
    assert set(layers["embed"]) == {"gradient", "update", "scale"}
    assert set(layers["tanh"]) == {"dead", "saturated"}
    assert set(layers["gain"]) == {"gradient", "update"}


def test_scale_dead_and_saturated_are_those_of_the_batch():
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.blocks[1][0].bias[:3] = -1000  # three of eight units never answer
        model.embed.weight *= 30
    x = torch.randn(16, 4)
    with torch.no_grad():
        embedded = model.embed(x)
    (note,) = by_hand(model, inputs=x)
    layers = note["layers"]
    assert layers["blocks.1"]["dead"] == pytest.approx(3 / 8, abs=1e-4) and layers["blocks.0"]["dead"] < 3 / 8
    assert layers["embed"]["scale"] == pytest.approx(float(embedded.square().mean().sqrt()), rel=1e-3)
    saturated = float((embedded.tanh().abs() > 0.97).float().mean())
    assert layers["tanh"]["saturated"] == pytest.approx(saturated, rel=1e-3) and saturated > 0.5


def test_nothing_is_left_on_the_model():
    model = Net()
    health = Health(every=2)
    by_hand(model, 4, health=health)
    assert health.before is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_gradient_of_infinity_is_told_at_once_with_its_layer():
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    class Wrong(Net):
        def forward(self, x, targets):
            x = self.blocks[0](torch.tanh(self.embed(x)))
            return Output(None, self.head(self.blocks[1](Root.apply(x))).square().mean())

    told = []
    (*_, note) = by_hand(Wrong(), 3, lr=0, health=Health(every=100, tell=told.append))
    assert [(each.step, each.what, each.layer) for each in told] == [(1, "gradients", "blocks.0")]
    assert note is None, "it is said once"


@pytest.mark.parametrize(("where", "name"), [("blocks.1", "blocks.1.2"), ("head", "head"), ("loss", "Wrong")])
def test_outputs_that_are_not_finite_are_told_with_the_first_module(where, name):
    class Wrong(Net):
        def forward(self, x, targets):
            out = super().forward(x, targets)
            return Output(None, out.loss / 0) if where == "loss" else out

    model = Wrong()
    if where != "loss":
        layer = model.head if where == "head" else model.blocks[1][2]
        with torch.no_grad():
            layer.bias[1] = math.nan
    told = []
    (note,) = by_hand(model, 1, health=Health(tell=told.append))
    assert [(each.what, each.layer) for each in told] == [("outputs", name)]
    assert note["not_finite"]["step"] == 1
    json.dumps(note, allow_nan=False)


def test_short_runs_are_measured_ten_times_and_long_ones_every_fifty_steps():
    def period(steps, log_every, every=None):
        health = Health(every)
        settings = SimpleNamespace(steps=steps, log_every=log_every, device="cpu")
        health.on_start(SimpleNamespace(model=Net(), settings=settings, step=0))
        return health.period

    assert period(30, 1) == 3
    assert period(1000, 10) == 50
    assert period(20000, 200) == 200, "each measure has a row of its own step"
    assert period(1000, 10, every=25) == 30
    with pytest.raises(ValueError, match="every"):
        Health(every=0)


def test_an_activation_belongs_to_the_layer_around_it():
    health = Health()
    health.layers = ["wte", "h.0", "features.0", "0"]
    around = {"h.0.mlp.act": "h.0", "features.1": "features.1", "": "tanh", "act": "act", "0": "0"}
    assert {name: health.layer_around(Activation(name, "tanh")) for name in around} == around
