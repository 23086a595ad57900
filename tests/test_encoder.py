"""The encoder against torch's own layers, and what a reader of texts must be: blind to padding, unsure at first."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kakehashi import models
from kakehashi.models import encoder
from kakehashi.models.encoder import Config
from kakehashi.models.protocol import IGNORE

SMALL = Config(
    30,
    5,
    12,
    n_members=2,
    n_embd=8,
    n_gram=2,
    n_filters=6,
    n_layers=2,
    n_heads=2,
    n_hidden=16,
    dropout=0.0,
    pool_dropout=0.0,
    word_dropout=0.0,
)


def small(seed: int = 0, **values) -> encoder.Encoder:
    """With random gains and biases: at their first values, 1 and 0, they would hide what is wrong."""
    torch.manual_seed(seed)
    model = encoder.Encoder(replace(SMALL, **values))
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(torch.randn(p.shape) * 0.3)
    return model


def batch(B: int, T: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(30, (B, T), generator=generator), torch.randint(5, (B,), generator=generator)


def close(a, b, tol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def test_padding_changes_nothing():
    """Texts of every length, together and each alone: logits, and the gradients of the loss."""
    model = small().eval()
    x, y = batch(9, 9)
    pad = torch.arange(9) < torch.arange(1, 10)[:, None]  # row b has b + 1 tokens
    together = model(x, y, pad=pad)
    alone = [model(x[b : b + 1, : b + 1], y[b : b + 1]) for b in range(9)]
    close(together.logits, torch.cat([each.logits for each in alone]))
    ours = torch.autograd.grad(together.loss, list(model.parameters()))
    close(ours, torch.autograd.grad(sum(each.loss for each in alone) / 9, list(model.parameters())))
    assert torch.equal(model(torch.where(pad, x, (x + 7) % 30), pad=pad).logits, together.logits)


def test_a_text_without_a_token_and_one_beyond_the_block_are_read():
    model = small().eval()
    x, y = batch(2, 20)
    close(model(x).logits, model(x[:, :12]).logits)
    nothing = model(x[:, :0], y)
    assert torch.isfinite(nothing.logits).all() and torch.isfinite(nothing.loss)
    close(nothing.logits, model(x, pad=torch.zeros_like(x, dtype=torch.bool)).logits)


def test_the_order_of_the_words_matters():
    model = small().eval()
    x, _ = batch(1, 6)
    assert (model(x).logits - model(x.flip(1)).logits).abs().max() > 1e-4  # far above rounding


def test_layers_are_torchs():
    """One layer, with the same weights, is torch's TransformerEncoderLayer with norm_first."""
    ours = small().members[0].layers[0]
    theirs = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
    names = {"linear1": "feed_forward.up", "linear2": "feed_forward.down", "norm1": "norms.0", "norm2": "norms.1"}
    state, a = ours.state_dict(), ours.attention
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([each.weight for each in (a.q, a.k, a.v)]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([each.bias for each in (a.q, a.k, a.v)]))
        theirs.self_attn.out_proj.load_state_dict(a.out.state_dict())
        for name, own in names.items():
            getattr(theirs, name).load_state_dict({p: state[f"{own}.{p}"] for p in ("weight", "bias")})
    x, real = torch.randn(3, 7, 8), torch.arange(7) < torch.tensor([[7], [4], [1]])
    close(ours(x, real)[real], theirs(x, src_key_padding_mask=~real)[real])


def test_attention_is_torchs():
    a = small().members[0].layers[0].attention
    x, real = torch.randn(3, 7, 8), torch.arange(7) < torch.tensor([[7], [4], [1]])
    q, k, v = (each(x).unflatten(2, (2, 4)).transpose(1, 2) for each in (a.q, a.k, a.v))
    y = F.scaled_dot_product_attention(q, k, v, real[:, None, None, :])
    close(a(x, real), a.out(y.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_n_grams_are_torchs_convolution(n):
    ours, theirs = encoder.NGrams(4, n, 5), nn.Conv1d(4, 5, n)
    theirs.load_state_dict({"weight": ours.linear.weight.view(5, n, 4).mT, "bias": ours.linear.bias})
    x, real = torch.randn(2, 6, 4), torch.arange(6) < torch.tensor([[6], [3]])
    padded = F.pad((x * real[..., None]).mT, ((n - 1) // 2, n // 2))
    close(ours(x, real), F.relu(theirs(padded).mT))


def test_the_text_is_the_largest_and_the_mean_of_each_feature():
    x, real = torch.randn(2, 4, 8) - 3, torch.tensor([[True] * 4, [True, True, False, False]])
    rows = (x[0], x[1, :2])
    close(encoder.largest(x, real), torch.stack([row.max(0).values for row in rows]))
    close(encoder.mean(x, real), torch.stack([row.mean(0) for row in rows]))


def test_the_answer_is_the_mean_of_the_members_probabilities():
    model = small().eval()
    x, y = batch(3, 6)
    with_end, real = F.pad(x, (1, 0)), torch.ones(3, 7, dtype=torch.bool)
    each = torch.stack([member(with_end, real).softmax(-1) for member in model.members])
    close(model(x).logits, each.mean(0).log())
    close(model(x, y).loss, F.nll_loss(each.mean(0).log(), y))
    assert (each[0] - each[1]).abs().max() > 0.01  # they are not one member twice


def test_each_member_learns_from_its_own_answer():
    model = small(label_smoothing=0.0)
    x, y = batch(4, 6)
    with_end, real = F.pad(x, (1, 0)), torch.ones(4, 7, dtype=torch.bool)
    losses = [F.cross_entropy(member(with_end, real), y) for member in model.members]
    close(model(x, y).loss, torch.stack(losses).mean())


def test_gradient_reaches_every_parameter():
    model = small()
    x, y = batch(8, 12)
    model(x, y).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_it_begins_without_an_opinion():
    for name, config in encoder.PRESETS.items():
        torch.manual_seed(0)
        model = encoder.Encoder(replace(config, vocab_size=30, n_classes=77)).eval()
        loss = model(*batch(64, 12)).loss
        assert loss.item() == pytest.approx(math.log(77), abs=0.2), name


def test_the_loss_is_of_the_targets_that_count():
    model = small(label_smoothing=0.2)
    x, y = batch(4, 6)
    y[1] = IGNORE
    logits = model(x).logits
    close(model.eval()(x, y).loss, F.cross_entropy(logits, y))
    one = small(label_smoothing=0.2, n_members=1)
    close(one(x, y).loss, F.cross_entropy(one(x).logits, y, label_smoothing=0.2))
    model.train()
    nothing = model(x, torch.full((4,), IGNORE)).loss
    nothing.backward()
    assert nothing == 0 and all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("dial", ["dropout", "pool_dropout", "word_dropout"])
def test_each_dropout_acts_in_training_only(dial):
    model = small(**{dial: 0.5})
    x, _ = batch(3, 8)
    assert not torch.equal(model(x).logits, model(x).logits)
    assert torch.equal(model.eval()(x).logits, small().eval()(x).logits)


def test_it_learns_what_only_two_words_together_tell():
    """Class 1 where 3 stands right before 4: both stand in every text, so that no single word tells."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(5, 30, (200, 8), generator=generator)
    at, y = torch.randint(0, 7, (200,), generator=generator), torch.arange(200) % 2
    rows = torch.arange(200)
    x[rows, at], x[rows, at + 1] = 4 - y, 3 + y
    torch.manual_seed(0)
    model = encoder.Encoder(replace(SMALL, n_classes=2, n_layers=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(x[:150], y[:150]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (model.eval()(x[150:]).logits.argmax(1) == y[150:]).float().mean() > 0.9


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"n_classes": 0}, "n_classes must be at least 1, got 0"),
        ({"n_layers": -1}, "n_layers must be at least 0, got -1"),
        ({"n_heads": 3}, "multiple of n_heads, got 8 and 3"),
        ({"word_dropout": 1.0}, r"word_dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_config_of_no_use_is_named(wrong, why):
    with pytest.raises(ValueError, match=why):
        replace(SMALL, **wrong)


def test_it_is_found_by_its_presets():
    family = models.find("encoder-texts")
    assert (family.name, family.task, next(iter(family.presets))) == ("encoder", "label", "encoder-texts")
