"""The ResNet against transformers, torch.nn, published counts and what a residual net must be."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kakehashi import models
from kakehashi.models.protocol import IGNORE
from kakehashi.models.resnet import PRESETS, BatchNorm, Block, Config, Conv, Pad, ResNet, cross_entropy

SMALL = {"depths": (1, 2), "widths": (4, 8), "n_classes": 5, "n_channels": 2}
KINDS = {
    "projection": {},
    "pad": {"shortcut": "pad"},
    "plain": {"residual": False},
    "bottleneck": {"bottleneck": True},
    "large": {"stem": "large"},
}


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random gains, biases and running statistics: at their first values, 1 and 0, they would hide what is wrong."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point() and value.ndim == 1:
                value.add_(torch.randn(value.shape, generator=generator) * 0.3)
            if name.endswith("running_var"):
                value.abs_().add_(0.1)
    return model


def small(seed: int = 0, **values) -> ResNet:
    torch.manual_seed(seed)
    return randomise(ResNet(Config(**(SMALL | values))), seed)


def batch(*shape: int, n_classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator), torch.randint(n_classes, shape[:1], generator=generator)


def close(a: torch.Tensor, b: torch.Tensor, tol: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- transformers' ResNet ---


def theirs(config: Config):
    """transformers' model of the same shape, and what each of its tensors is called in ours."""
    transformers = pytest.importorskip("transformers")
    made = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            num_channels=config.n_channels,
            embedding_size=64,
            hidden_sizes=list(config.widths),
            depths=list(config.depths),
            layer_type="bottleneck" if config.bottleneck else "basic",
            num_labels=config.n_classes,
        )
    )

    def ours(name: str) -> str:
        name = name.replace("convolution", "conv").replace("normalization", "norm")
        if name.startswith("classifier.1."):
            return name.replace("classifier.1", "head")
        if name.startswith("resnet.embedder."):
            return name.replace("resnet.embedder.embedder", "stem")
        _, _, _, stage, _, layer, *rest = name.split(".")
        block = sum(config.depths[: int(stage)]) + int(layer)
        return ".".join(["blocks", str(block), *rest]).replace(".layer.", ".units.")

    return made, ours


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("fused", [False, True], ids=["written out", "fused"])
@pytest.mark.parametrize(
    "values, size",
    [
        ({"depths": (2, 1), "widths": (8, 12)}, (33, 40)),
        ({"depths": (1, 2, 1), "widths": (64, 20, 24), "n_channels": 1}, (40, 24)),
        ({"depths": (1, 2), "widths": (16, 24), "bottleneck": True}, (32, 35)),
        ({"depths": (1, 1), "widths": (64, 32), "bottleneck": True, "n_classes": 2}, (24, 24)),
    ],
    ids=["basic", "three stages", "bottleneck", "two classes"],
)
def test_it_is_transformers_resnet_in_logits_loss_gradients_and_running_statistics(values, size, fused, training):
    config = Config(**(SMALL | values), stem="large", fused=fused)
    torch.manual_seed(1)
    peer, named = theirs(config)
    randomise(peer)
    weights = {named(name): value for name, value in peer.state_dict().items() if "num_batches" not in name}
    mine = ResNet(config)
    mine.load_state_dict(weights)
    peer.train(training), mine.train(training)
    for n in (3, 4):  # twice: running statistics go on from where they are
        x, targets = batch(n, config.n_channels, *size, n_classes=config.n_classes)
        output, want = mine(x, targets), peer(x, labels=targets)
        close(output.logits, want.logits)
        close(output.loss, want.loss)
    output.loss.backward(), want.loss.backward()
    gradients = {name: parameter.grad for name, parameter in mine.named_parameters()}
    assert len(gradients) == len(list(peer.parameters()))
    for name, parameter in peer.named_parameters():
        close(gradients[named(name)], parameter.grad, 2e-4)
    for name, value in peer.named_buffers():
        if "num_batches" not in name:
            close(mine.get_buffer(named(name)), value)


# --- Published counts ---


def count(config: Config) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ResNet(config).parameters())


@pytest.mark.parametrize("name, n", [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)])
def test_the_presets_for_photographs_have_the_published_number_of_parameters(name, n):
    assert count(PRESETS[name]) == n


@pytest.mark.parametrize("depth, millions", [(20, 0.27), (56, 0.85)])
def test_the_presets_for_small_images_have_the_papers_number_of_parameters(depth, millions):
    colours = replace(PRESETS[f"resnet{depth}"], n_channels=3)
    assert round(count(colours) / 1e6, 2) == millions
    assert count(colours) == count(replace(PRESETS[f"plain{depth}"], n_channels=3))  # the twin differs in nothing else
    with torch.device("meta"):
        layers = [each for each in ResNet(colours).modules() if isinstance(each, Conv | nn.Linear)]
    assert len(layers) == depth


# --- Its parts ---


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)).filter(
        lambda shape: shape[0] * shape[2] * shape[3] > 1
    ),
    momentum=st.sampled_from([0.1, 0.5, 1.0]),
    eps=st.sampled_from([1e-5, 0.1]),
)
def test_batch_norm_is_torchs_in_values_gradients_and_running_statistics(shape, momentum, eps):
    mine, peer = BatchNorm(shape[1], eps, momentum), nn.BatchNorm2d(shape[1], eps, momentum)
    peer.load_state_dict(randomise(mine).state_dict(), strict=False)
    for training in (True, True, False):
        x = torch.randn(shape).requires_grad_()
        upstream = torch.randn(shape)
        a, b = mine.train(training)(x), peer.train(training)(x)
        close(a, b)
        close(torch.autograd.grad(a, x, upstream)[0], torch.autograd.grad(b, x, upstream)[0], 1e-3)
        close(mine.running_mean, peer.running_mean)
        close(mine.running_var, peer.running_var)


def test_a_new_batch_norm_is_torchs():
    peer = nn.BatchNorm2d(5).state_dict()
    for name, value in BatchNorm(5).state_dict().items():
        assert torch.equal(value, peer[name])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
def test_the_padded_shortcut_takes_every_stride_th_place_and_adds_channels_of_zeros(n_in, more, stride, H, W):
    x = torch.randn(2, n_in, H, W)
    y = Pad(n_in, n_in + more, stride)(x)
    assert y.shape == (2, n_in + more, math.ceil(H / stride), math.ceil(W / stride))
    for c in range(n_in + more):
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                want = x[:, c, i * stride, j * stride] if c < n_in else torch.zeros(2)
                assert torch.equal(y[:, c, i, j], want)


@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolutions_keep_the_size_or_halve_it_upwards_and_start_at_the_rectifiers_scale(size, stride):
    torch.manual_seed(0)
    conv = Conv(50, 60, size, stride)
    assert conv(torch.randn(1, 50, 9, 6)).shape == (1, 60, math.ceil(9 / stride), math.ceil(6 / stride))
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (size * size * 60)), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_adds_what_it_learnt_and_the_plain_twin_does_not(kind):
    """Where the last norm gives 0, a residual block of one size lets everything pass, and a plain one nothing."""
    config = Config(**(SMALL | KINDS[kind]))
    block = randomise(Block(config, 8, 8, 1))
    last = block.units[-1].norm
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    x = torch.randn(2, 8, 5, 6).relu()
    close(block(x), x if config.residual else torch.zeros_like(x))
    changing = randomise(Block(config, 4, 8, 2))
    last = changing.units[-1].norm
    nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
    x = torch.randn(2, 4, 5, 6)
    shortcut = changing.shortcut(x).relu() if config.residual else torch.zeros(2, 8, 3, 3)
    close(changing(x), shortcut)


def test_a_branch_can_take_away_what_came_in():
    block = randomise(Block(Config(**SMALL), 8, 8, 1))
    x = torch.rand(2, 8, 5, 6)
    with torch.no_grad():
        block.units[-1].norm.bias.fill_(-100.0)
    assert (block(x) == 0).all()


# --- The whole ---


@pytest.mark.parametrize("kind", KINDS)
def test_fused_is_equal(kind):
    mine, fused = small(**KINDS[kind]), small(**KINDS[kind], fused=True)
    fused.load_state_dict(mine.state_dict())
    x, targets = batch(4, 2, 17, 20)
    for training in (True, False):
        outputs = [model.train(training)(x, targets) for model in (mine, fused)]
        close(outputs[0].logits, outputs[1].logits)
        gradients = [
            torch.autograd.grad(output.loss, list(model.parameters()))
            for output, model in zip(outputs, (mine, fused), strict=True)
        ]
        for ours, torchs in zip(*gradients, strict=True):
            close(ours, torchs, 5e-4)
        for ours, torchs in zip(mine.buffers(), fused.buffers(), strict=True):
            close(ours, torchs)


def test_one_number_a_channel_is_its_own_mean():
    for fused in (False, True):
        model = small(fused=fused).train()
        x, targets = batch(1, 2, 1, 1)
        model(x, targets).loss.backward()
        assert all(value.isfinite().all() for value in model.state_dict().values())
        close(model.blocks[0].units[0].norm(torch.randn(1, 4, 1, 1)).flatten(), model.blocks[0].units[0].norm.bias)


@pytest.mark.parametrize("kind", KINDS)
def test_in_evaluation_an_image_is_judged_alone_and_nothing_is_remembered(kind):
    model = small(**KINDS[kind]).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, _ = batch(3, 2, 9, 11)
    together = model(x).logits
    for i in range(3):
        close(model(x[i : i + 1]).logits[0], together[i], 1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_loss_is_the_mean_over_the_targets_that_count():
    logits = torch.randn(6, 4, requires_grad=True)
    targets = torch.tensor([0, 3, IGNORE, 1, IGNORE, 2])
    ours, torchs = cross_entropy(logits, targets), F.cross_entropy(logits, targets)
    close(ours, torchs, 1e-6)
    close(torch.autograd.grad(ours, logits)[0], torch.autograd.grad(torchs, logits)[0], 1e-6)
    nothing = cross_entropy(logits, torch.full((6,), IGNORE))
    assert nothing.item() == 0 and (torch.autograd.grad(nothing, logits)[0] == 0).all()


@pytest.mark.parametrize("name", [name for name, config in PRESETS.items() if config.stem == "small"])
def test_the_small_presets_answer_images_of_other_sizes(name):
    torch.manual_seed(0)
    model = models.find(name).Model(PRESETS[name])
    for size in ((8, 8), (7, 13)):
        logits, loss = model(torch.randn(2, 1, *size), torch.tensor([1, 2]))
        assert logits.shape == (2, 10) and loss.isfinite()
    assert model(torch.randn(2, 1, 8, 8)).loss is None


@pytest.mark.parametrize(
    "values, message",
    [
        ({"depths": (1, 0)}, r"depths must be sizes of at least 1, got \(1, 0\)"),
        ({"widths": ()}, r"widths must be sizes of at least 1, got \(\)"),
        ({"depths": (1,)}, r"as many, got \(1,\) and \(4, 8\)"),
        ({"widths": (4, 6), "bottleneck": True}, r"multiples of 4, got \(4, 6\)"),
        ({"stem": "huge"}, "stem must be small or large, got 'huge'"),
        ({"shortcut": "none"}, "shortcut must be projection or pad, got 'none'"),
        ({"shortcut": "pad", "widths": (8, 4)}, r"never shrink, from the stem's on, got \[8, 8, 4\]"),
        ({"shortcut": "pad", "stem": "large"}, r"never shrink, from the stem's on, got \[64, 4, 8\]"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Config(**(SMALL | values))
