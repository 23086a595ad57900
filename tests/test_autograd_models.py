"""The models on the NumPy engine are the torch models: same weights, same batches, same numbers."""

import math
import sys
from dataclasses import asdict, fields
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from autograd_cases import close
from hypothesis import given, settings
from sklearn.datasets import load_digits

from kakehashi import models as theirs
from kakehashi import runs, training
from kakehashi.autograd import AutogradError, Tensor, by_hand, grad, models, ops, optim
from kakehashi.autograd import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import peer_eager

CONFIGS = {"mlp": models.MLPConfig, "recurrent": models.RecurrentConfig, "gpt2": models.GPTConfig}
SIZES = {
    "mlp": [
        {"vocab_size": 7, "block_size": 1, "n_embd": 4, "n_hidden": 8, "batch_norm": False},
        {"vocab_size": 7, "n_embd": 4, "n_hidden": 8},
    ],
    "recurrent": [
        {"vocab_size": 7, "cell": cell, "n_layers": layers, "n_embd": 4, "n_hidden": 5}
        for cell, layers in (("rnn", 1), ("gru", 2), ("lstm", 2))
    ],
    "gpt2": [{"vocab_size": 7, "block_size": 6, "n_layers": 2, "n_heads": 2, "n_embd": 8}],
}
ALL = [
    pytest.param(name, sizes, id=" ".join(map(str, (name, *sizes.values()))))
    for name, each in SIZES.items()
    for sizes in each
]


def twins(name: str, sizes: dict, dtype: str = "float64"):
    """The same model on this engine and on torch's, with the same weights, none of them 0 or 1 by habit."""
    torch.manual_seed(0)
    their_family = theirs.find(name)
    other = their_family.Model(their_family.Config(**sizes)).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    config = CONFIGS[name](**sizes)
    mine = models.MODELS[name](config, np.random.default_rng(0)).astype(dtype)
    mine.load_state_dict(runs.weights_of(other))
    return mine, other


def batch(seed: int = 0, B: int = 4, T: int = 6, V: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, some of them 0, which ends a document; targets, some of them not counted."""
    rng = np.random.default_rng(seed)
    tokens, targets = rng.integers(0, V, (2, B, T))
    targets[rng.random((B, T)) < 0.2] = -100
    return tokens, targets


def both(mine, other, tokens, targets=None, **state):
    """The outputs of both; `state`: (ours, theirs)."""
    ours = mine(tokens, targets, **{key: value[0] for key, value in state.items()})
    counted = None if targets is None else torch.from_numpy(targets)
    return ours, other(torch.from_numpy(tokens), counted, **{key: value[1] for key, value in state.items()})


@pytest.mark.parametrize("name, sizes", ALL)
@pytest.mark.parametrize("train", [True, False])
def test_logits_loss_and_all_gradients_are_torchs(name, sizes, train):
    mine, other = twins(name, sizes)
    mine.train(train)
    other.train(train)
    for seed in range(2):  # the second with the running statistics that the first has left
        ours, expected = both(mine, other, *batch(seed))
        close("logits", ours.logits, expected.logits)
        close("loss", ours.loss, expected.loss)
        mine.zero_grad()
        other.zero_grad()
        ours.loss.backward()
        expected.loss.backward()
        gradients = {key: parameter.grad for key, parameter in mine.named_parameters()}
        assert gradients.keys() == dict(other.named_parameters()).keys()
        for key, parameter in other.named_parameters():
            close(key, gradients[key], parameter.grad)
    for key, array in runs.weights_of(other).items():
        close(key, mine.state_dict()[key], torch.from_numpy(array))


@pytest.mark.parametrize("name, sizes", ALL)
def test_without_targets_there_is_no_loss(name, sizes):
    ours, expected = both(*twins(name, sizes), batch()[0])
    close("logits", ours.logits, expected.logits)
    assert ours.loss is None


@pytest.mark.parametrize("name, sizes", ALL)
def test_a_batch_in_which_nothing_counts_has_loss_and_gradients_of_0(name, sizes):
    mine, _ = twins(name, sizes)
    tokens, targets = batch()
    loss = mine(tokens, np.full_like(targets, -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in mine.parameters() if p.grad is not None)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_recurrent_state_is_carried_as_torchs(cell):
    mine, other = twins("recurrent", {"vocab_size": 7, "cell": cell, "n_layers": 2, "n_embd": 4, "n_hidden": 5})
    state = (mine.new_state(4), other.new_state(4))
    for seed in range(3):
        ours, expected = both(mine, other, *batch(seed), state=state)
        close("loss", ours.loss, expected.loss)
        mine.zero_grad()
        other.zero_grad()
        for loss in (ours.loss, expected.loss):  # back to where the state was handed on
            loss.backward()
        close("gradient", mine.layers[0].weight_hh.grad, other.layers[0].weight_hh.grad)
    for layer, their_layer in zip(state[0].layers, state[1].layers, strict=True):
        for tensor, their_tensor in zip(layer, their_layer, strict=True):
            close("state", tensor, their_tensor)


def train_both(mine, other, dtype: str, losses) -> None:
    """100 steps of AdamW with decay on matrices, checked all along. losses(step): ours, and torch's."""
    plan = training.TrainSettings(steps=100, batch_size=4, lr=3e-3)
    optimizers = [
        optim.AdamW(plan.groups(mine.parameters()), plan.lr, (plan.beta1, plan.beta2)),
        training.TorchEngine().optimizer(other, plan),
    ]
    seen = []
    for step in range(plan.steps):
        both_losses = losses(step)
        seen.append(both_losses[0].item())
        assert seen[-1] == pytest.approx(both_losses[1].item(), rel=1e-4 if dtype == "float32" else 1e-9)
        for loss, optimizer in zip(both_losses, optimizers, strict=True):
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert sum(seen[-2:]) < 0.95 * sum(seen[:2])  # they did learn
    if dtype == "float64":
        for key, array in runs.weights_of(other).items():
            close(key, mine.state_dict()[key], torch.from_numpy(array))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, sizes", [pytest.param(name, each[-1], id=name) for name, each in SIZES.items()])
def test_a_hundred_steps_of_training_are_torchs(name, sizes, dtype):
    mine, other = twins(name, sizes, dtype)
    train_both(mine, other, dtype, lambda step: [each.loss for each in both(mine, other, *batch(step % 2))])


@pytest.mark.parametrize("name", SIZES)
def test_configs_have_the_fields_and_defaults_of_the_torch_models(name):
    config, other = CONFIGS[name](), theirs.find(name).Config()
    assert asdict(config) == asdict(other)
    assert [each.type for each in fields(config)] == [each.type for each in fields(other)]


@pytest.mark.parametrize("name, sizes", ALL)
def test_weights_go_both_ways(name, sizes):
    mine, other = twins(name, sizes, "float32")
    fresh = models.MODELS[name](other.config, np.random.default_rng(1))  # a torch model's Config is as good
    runs.load_weights(other, fresh.state_dict())
    weights = runs.weights_of(other)
    assert list(weights) == list(fresh.state_dict())
    assert all(
        weights[key].dtype == array.dtype and (weights[key] == array).all() for key, array in fresh.state_dict().items()
    )


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("mlp", {"n_embd": 40, "n_hidden": 400}),
        ("mlp", {"n_embd": 40, "n_hidden": 400, "batch_norm": False}),
        *[("recurrent", {"cell": cell, "n_layers": 2, "n_embd": 80, "n_hidden": 160}) for cell in models.CELLS],
        ("gpt2", {"vocab_size": 99, "block_size": 90, "n_layers": 2, "n_heads": 2, "n_embd": 80}),
    ],
)
def test_first_weights_have_the_distribution_of_the_torch_models(name, sizes):
    torch.manual_seed(0)
    other = theirs.find(name).Model(theirs.find(name).Config(**sizes))
    mine = models.MODELS[name](CONFIGS[name](**sizes), np.random.default_rng(0)).state_dict()
    for key, array in runs.weights_of(other).items():
        if set(array.flat) <= {0, 1}:  # not drawn
            assert (mine[key] == array).all(), key
        # both are estimates of one mean and deviation: each is off by about deviation / sqrt(size)
        allowed = 6 * array.std() / np.sqrt(array.size)
        assert abs(mine[key].mean() - array.mean()) <= allowed, key
        assert abs(mine[key].std() - array.std()) <= allowed, key


@pytest.mark.parametrize("name", ["recurrent", "gpt2"])
def test_dropout_is_where_torchs_models_have_it(name, monkeypatch):
    mine, other = twins(name, SIZES[name][-1] | {"dropout": 0.5})
    monkeypatch.setattr(ops, "dropout", lambda x, p, training, rng: x * 0.7 if training else x)
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p, training=True: x * 0.7 if training and p else x)
    ours, expected = both(mine, other, batch()[0])
    close("logits", ours.logits, expected.logits)


@pytest.mark.parametrize("name", ["recurrent", "gpt2"])
def test_dropout_is_in_training_alone_and_drawn_from_the_generator(name):
    sizes = SIZES[name][-1] | {"dropout": 0.5}
    tokens, _ = batch()

    def logits(model):
        return model(tokens).logits.data

    a, b = (models.MODELS[name](CONFIGS[name](**sizes), np.random.default_rng(0)) for _ in range(2))
    assert (logits(a) == logits(b)).all()
    assert (logits(a) != logits(b.eval())).any()
    plain = models.MODELS[name](CONFIGS[name](**(sizes | {"dropout": 0.0})), np.random.default_rng(0))
    assert (logits(b) == logits(plain)).all()


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: models.MLPConfig(n_hidden=0), "n_hidden must be at least 1, got 0"),
        (lambda: models.CNNConfig(size=10), "size must be a multiple of 4, got 10"),
        (lambda: models.RecurrentConfig(cell="elman"), "cell must be rnn, gru or lstm, got 'elman'"),
        (lambda: models.RecurrentConfig(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: models.GPTConfig(n_embd=10, n_heads=4), "n_embd must be a multiple of n_heads, got 10 and 4"),
        (lambda: twins("gpt2", SIZES["gpt2"][0])[0](np.zeros((1, 7), int)), "7 tokens in sight, but block_size is 6"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(AutogradError, match=said):
        make()


# --- The CNN, whose twin is written in torch.nn ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_hundred_steps_of_the_cnn_are_torchs(dtype):
    mine = models.CNN(models.CNNConfig(n_classes=5, n_channels=2, n_filters=3), np.random.default_rng(0)).astype(dtype)
    other = peer_eager.CNN(n_classes=5, n_channels=2, n_filters=3).to(getattr(torch, dtype))
    mine.load_state_dict(runs.weights_of(other))
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((4, 2, 8, 8)).astype(dtype), rng.integers(0, 5, 4)) for _ in range(2)]

    def losses(step):
        x, targets = batches[step % 2]
        logits = other(torch.from_numpy(x))
        return mine(x, targets).loss, torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets))

    train_both(mine, other, dtype, losses)


def test_the_cnn_learns_handwritten_digits():
    rng = np.random.default_rng(0)
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]  # (1797, 1, 8, 8)
    order = rng.permutation(len(images))
    train, held_out = order[:1500], order[1500:]
    model = models.CNN(models.CNNConfig(), rng)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(6):
        for chosen in np.array_split(rng.permutation(train), 24):
            model(images[chosen], digits.target[chosen]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    guesses = model(images[held_out]).logits.data.argmax(1)
    assert (guesses == digits.target[held_out]).mean() > 0.95


def test_the_cnns_first_filters_have_the_deviation_for_relu():
    model = models.CNN(models.CNNConfig(n_channels=3, n_filters=40), np.random.default_rng(0))
    for conv, n_in in ((model.conv1, 3), (model.conv2, 40)):
        weight = conv.weight.data
        assert abs(weight.std() / math.sqrt(2 / (9 * n_in)) - 1) <= 4 / math.sqrt(weight.size)
        assert not conv.bias.data.any()


def test_of_several_largest_the_first_is_pooled_as_in_torch():
    x = np.random.default_rng(0).choice([0.0, 1.0, -np.inf], (3, 2, 7, 8))
    mine, other = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ours, expected = F.max_pool2d(mine, (2, 3), 1), torch.nn.functional.max_pool2d(other, (2, 3), 1)
    np.testing.assert_array_equal(ours.data, expected.detach())
    dy = np.random.default_rng(1).standard_normal(ours.shape)
    ours.backward(dy)
    expected.backward(torch.from_numpy(dy))
    near((mine.grad, other.grad.numpy()))


def test_a_nan_is_pooled_as_the_largest():
    x = np.random.default_rng(0).choice([0.0, 1.0, np.nan], (3, 2, 6, 6))
    expected = torch.nn.functional.max_pool2d(torch.from_numpy(x), 2)
    np.testing.assert_array_equal(F.max_pool2d(Tensor(x), 2).data, expected)


# --- Backpropagation by hand ---


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def engines_gradients(f, arrays, dy):
    """The value of f on the engine, and the gradients of its inputs."""
    xs = [Tensor(array, requires_grad=True) for array in arrays]
    y = f(*xs)
    return y.data, [g.data for g in grad(y, xs, dy)]


def near(*pairs: tuple[np.ndarray | float, np.ndarray]) -> None:
    for mine, expected in pairs:
        np.testing.assert_allclose(mine, expected, atol=1e-9)


drawn = settings(max_examples=20, database=None)
shapes = given(B=st.integers(1, 6), n=st.integers(1, 5), m=st.integers(1, 4), seed=st.integers(0, 999))


@drawn
@shapes
def test_linear_by_hand_is_the_engines(B, n, m, seed):
    x, weight, bias, dy = normal(B, n, seed=seed), normal(m, n, seed=1), normal(m, seed=2), normal(B, m, seed=3)
    y, expected = engines_gradients(F.linear, (x, weight, bias), dy)
    near((by_hand.linear(x, weight, bias), y), *zip(by_hand.linear_backward(dy, x, weight), expected, strict=True))


@drawn
@shapes
def test_batch_norm_by_hand_is_the_engines(B, n, m, seed):
    x, weight, bias, dy = m * normal(B, n, seed=seed), normal(n, seed=1), normal(n, seed=2), normal(B, n, seed=3)
    running = Tensor(np.zeros(n)), Tensor(np.ones(n))
    y, expected = engines_gradients(lambda x, w, b: F.batch_norm(x, *running, w, b, True), (x, weight, bias), dy)
    mine, kept = by_hand.batch_norm(x, weight, bias)
    near((mine, y), *zip(by_hand.batch_norm_backward(dy, kept, weight), expected, strict=True))
    near((by_hand.batch_norm_backward_short(dy, kept, weight), expected[0]))


@drawn
@shapes
def test_tanh_by_hand_is_the_engines(B, n, m, seed):
    y, dh = m * normal(B, n, seed=seed), normal(B, n, seed=3)
    h, expected = engines_gradients(lambda y: y.tanh(), (y,), dh)
    near((by_hand.tanh_backward(dh, h), expected[0]))


@drawn
@shapes
def test_an_embedding_by_hand_is_the_engines(B, n, m, seed):
    contexts = np.random.default_rng(seed).integers(0, n, (B, 3))
    table, dx = normal(n, m, seed=seed), normal(B, 3 * m, seed=3)
    x, expected = engines_gradients(lambda table: F.embedding(table, contexts).flatten(1), (table,), dx)
    near((by_hand.embedding(table, contexts), x), (by_hand.embedding_backward(dx, table, contexts), expected[0]))


@drawn
@given(B=st.integers(1, 6), V=st.integers(1, 5), seed=st.integers(0, 999), scale=st.sampled_from([1.0, 1e3]))
def test_cross_entropy_by_hand_is_the_engines_and_never_overflows(B, V, seed, scale):
    logits, targets = scale * normal(B, V, seed=seed), np.random.default_rng(seed).integers(0, V, B)
    expected_loss, (expected,) = engines_gradients(lambda x: F.cross_entropy(x, targets), (logits,), None)
    loss, kept = by_hand.cross_entropy(logits, targets)
    near((loss, expected_loss), (by_hand.cross_entropy_backward(kept, targets), expected))
    near((by_hand.cross_entropy_backward_short(kept, targets), expected))


def test_the_mlp_by_hand_is_the_engines_and_torchs():
    mine, other = twins("mlp", SIZES["mlp"][-1])
    N, V = mine.config.block_size, mine.config.vocab_size
    contexts, targets = batch(B=9, T=N, V=V)
    # the models predict at every place; only the last one sees the whole context, and only that is counted
    targets[:, :-1], targets[:, -1] = -100, contexts[:, 0]
    ours, expected = both(mine, other, contexts, targets)
    ours.loss.backward()
    expected.loss.backward()

    loss, passed = by_hand.forward(mine.state_dict(), contexts, targets[:, -1])
    gradients = by_hand.backward(mine.state_dict(), passed)
    close("loss", loss, expected.loss)
    assert gradients.keys() == dict(other.named_parameters()).keys()
    for (key, parameter), tensor in zip(other.named_parameters(), mine.parameters(), strict=True):
        close(key, gradients[key], parameter.grad)
        near((gradients[key], tensor.grad))
