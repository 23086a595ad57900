"""The loop against PyTorch's own pieces and against arithmetic."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kakehashi import Mistake, autograd, runs, source, training
from kakehashi.data import Batch
from kakehashi.models import gpt2
from kakehashi.runs import RunError
from kakehashi.training import Callback, NumpyEngine, TorchEngine, TrainingError, TrainSettings, evaluate, memory
from kakehashi.training.optim import AdamW, Muon
from kakehashi.training.schedule import noam, warmup_cosine

WORDS = ["ab", "abba", "baobab", "cab", "dab", "decade", "facade", "bead", "beef", "cabbage", "badge", "face", "fade"]


@pytest.fixture
def text(tmp_path):
    """Documents, one a line: batches with padding, of uneven numbers of targets."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(word * n for word in WORDS for n in (1, 2, 3)), encoding="utf-8")
    return path


def plan_for(text, model="mlp", **settings):
    return training.plan(model, text, unit="document", **{"steps": 20, "batch_size": 4, "lr": 0.01} | settings)


def trained(plan, folder, callbacks=()):
    return training.train(plan.config, plan.create(folder), callbacks, sources=plan.sources)


# --- Optimizers ---


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("lr", [1e-3, 0.1])
def test_adamw_takes_the_steps_of_torchs(lr, weight_decay):
    torch.manual_seed(0)
    shapes = [(5, 3), (3,), (1,), (2, 2, 2)]
    ours = [torch.randn(shape).requires_grad_() for shape in shapes]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    mine = AdamW(ours, lr, (0.9, 0.95), 1e-6, weight_decay)
    torchs = torch.optim.AdamW(theirs, lr, (0.9, 0.95), 1e-6, weight_decay)
    for step in range(200):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape) * 10.0 ** (step % 7 - 3)
            q.grad = p.grad.clone()
        mine.step()
        torchs.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_adamw_keeps_what_groups_say_and_leaves_alone_what_has_no_gradient():
    torch.manual_seed(0)
    ours = [torch.randn(4, 4).requires_grad_() for _ in range(3)]
    theirs = [p.detach().clone().requires_grad_() for p in ours]

    def groups(p):
        return [{"params": p[:2], "weight_decay": 0.5, "lr": 0.05}, {"params": p[2:], "betas": (0.5, 0.6)}]

    mine, torchs = AdamW(groups(ours), 0.01), torch.optim.AdamW(groups(theirs), 0.01)
    for step in range(20):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            p.grad = torch.randn(4, 4) if (step + i) % 3 else None
            q.grad = None if p.grad is None else p.grad.clone()
        mine.step()
        torchs.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_an_optimizer_goes_on_from_its_arrays_to_the_same_bits(kind):
    def walk(p, optimizer, steps):
        for step in steps:
            p.grad = torch.arange(6.0).view(2, 3).mul(step).sin()
            optimizer.step()

    p = torch.zeros(2, 3)
    straight = kind([p], 0.1)
    walk(p, straight, range(10))
    q = torch.zeros(2, 3)
    first = kind([q], 0.1)
    walk(q, first, range(4))
    second = kind([q], 0.1)
    second.load_arrays({name: tensor.clone() for name, tensor in first.arrays().items()})
    walk(q, second, range(4, 10))
    assert torch.equal(p, q)


@pytest.fixture
def without_bfloat16(monkeypatch):
    """torch.optim.Muon computes in float32, too."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_muon_takes_the_steps_of_torchs(without_bfloat16, nesterov, weight_decay):
    torch.manual_seed(0)
    shapes = [(5, 3), (3, 5), (4, 4), (1, 6)]
    ours = [torch.randn(shape).requires_grad_() for shape in shapes]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    words = {"lr": 0.05, "momentum": 0.9, "weight_decay": weight_decay, "nesterov": nesterov}
    mine, torchs = Muon(ours, **words), torch.optim.Muon(theirs, **words)
    for step in range(20):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            p.grad = torch.randn(p.shape) * 10.0 ** (step % 7 - 3) if (step + i) % 5 else None
            q.grad = None if p.grad is None else p.grad.clone()
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 2, 2)])
def test_muon_takes_the_steps_of_the_numpy_engines(shape):
    rng = np.random.default_rng(0)
    ours = torch.tensor(rng.normal(size=shape), requires_grad=True)
    theirs = autograd.Tensor(ours.detach().numpy().copy(), requires_grad=True)
    mine, other = Muon([ours], 0.1, weight_decay=0.1), autograd.optim.Muon([theirs], 0.1, weight_decay=0.1)
    for _ in range(10):
        theirs.grad = rng.normal(size=shape)
        ours.grad = torch.tensor(theirs.grad)
        mine.step()
        other.step()
        np.testing.assert_allclose(ours.detach().numpy(), theirs.data, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (3, 0)])
def test_muon_refuses_what_is_no_matrix(shape):
    with pytest.raises(ValueError, match=rf"{re.escape(str(shape))}.*AdamW"):
        Muon([torch.ones(shape)])


@pytest.mark.parametrize("engine", [TorchEngine, NumpyEngine])
def test_muon_moves_the_matrices_of_blocks_and_adamw_the_rest_at_a_tenth_of_the_rate(engine):
    resolved, engine = runs.resolve("gpt2-pico"), engine()
    model = engine.build(resolved.family, resolved.config, 0)
    names = {p: name for name, p in model.named_parameters()}
    optimizer = engine.optimizer(model, TrainSettings(optimizer="muon"))
    hidden, tables, vectors = ([names[p] for p in group["params"]] for group in optimizer.param_groups)
    matrices = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert hidden == [f"h.{i}.{name}.weight" for i in range(2) for name in matrices]
    assert tables == ["wte.weight", "wpe.weight"] and len(vectors) == len(names) - len(hidden) - 2
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.002, 0.002])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]
    assert set(map(id, optimizer.parameters())) == set(map(id, names)) == set(map(id, optimizer.state))


def test_a_rate_that_is_not_said_is_the_optimizers():
    assert (TrainSettings().lr, TrainSettings(optimizer="muon").lr) == (1e-3, 0.02)
    assert TrainSettings(optimizer="muon", lr=0.5).min_lr == 0.05


@pytest.mark.parametrize("engine", [TorchEngine, NumpyEngine])
def test_weight_decay_is_for_matrices_only(engine):
    resolved, engine = runs.resolve("mlp"), engine()
    model = engine.build(resolved.family, resolved.config, 0)
    decayed, others = engine.optimizer(model, TrainSettings()).param_groups
    assert {p.ndim for p in decayed["params"]} == {2} and decayed["weight_decay"] == 0.1
    assert {p.ndim for p in others["params"]} == {1} and others["weight_decay"] == 0
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


# --- Schedule and clipping ---


@given(st.integers(1, 60), st.floats(0, 0.9), st.floats(1e-5, 1), st.floats(0, 1))
def test_the_rate_rises_in_a_line_and_falls_along_torchs_cosine(steps, warmup_share, lr, low):
    warmup, min_lr = int(steps * warmup_share), lr * low
    rates = [warmup_cosine(i, steps=steps, lr=lr, min_lr=min_lr, warmup=warmup) for i in range(steps)]
    np.testing.assert_allclose(rates[:warmup], [lr * (i + 1) / warmup for i in range(warmup)])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup, min_lr)
    for rate in rates[warmup:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-9)
        optimizer.step()
        cosine.step()


@given(st.integers(1, 2048), st.integers(1, 5000), st.integers(1, 20000))
def test_noams_rate_is_the_papers(width, warmup, nth):
    """lrate = d_model^-0.5 min(step^-0.5, step warmup^-1.5), steps from 1."""
    lr = (width * warmup) ** -0.5
    settings = TrainSettings(steps=10, lr=lr, warmup=warmup, schedule="noam")
    paper = width**-0.5 * min(nth**-0.5, nth * warmup**-1.5)
    assert settings.lr_of(nth - 1) == noam(nth - 1, lr=lr, warmup=warmup) == pytest.approx(paper)


def test_noam_without_warmup_begins_at_the_rate_itself():
    assert [noam(step, lr=0.5, warmup=0) for step in (0, 3)] == [0.5, 0.25]


@pytest.mark.parametrize("limit", [0.1, 1.0, 1e6])
def test_clipping_is_torchs(limit):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in [(3, 4), (5,)]]
    grads = [torch.randn(p.shape) * 3 for p in params]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad.clone()
    norm = TorchEngine().clip_grad_norm_(AdamW(params), limit)
    clipped = [p.grad for p in params]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad.clone()
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(params, limit))
    torch.testing.assert_close(clipped, [p.grad for p in params])


def test_a_limit_of_0_does_not_clip():
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([30.0, 40.0])
    assert TorchEngine().clip_grad_norm_(AdamW([p]), 0.0) == 50
    assert p.grad.tolist() == [30, 40]


# --- The loop ---


def test_the_loop_does_what_a_plain_pytorch_loop_does(text, tmp_path):
    plan = plan_for(text, weight_decay=0.2, clip=0.5, eval_every=7)
    run = trained(plan, tmp_path)

    torch.manual_seed(plan.config.seed)
    family = runs.resolve("mlp").family
    model = family.Model(family.Config(**plan.config.model.config))
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, 0.01, (0.9, 0.99))
    for step in range(20):
        rate = 0.01 if step == 0 else 0.001 + 0.009 * (1 + math.cos(math.pi * (step - 1) / 19)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = plan.sources[0].batch(step, 4, plan.config.seed)
        tokens, targets = torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets)
        logits = model(tokens, targets).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        assert rows(run, "train")[step]["loss"] == pytest.approx(loss.item(), rel=1e-4)
    ours = run.load_checkpoint().weights
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(ours[name], tensor.numpy(), rtol=1e-3, atol=1e-5)


def rows(run, split):
    return [row for row in run.metrics() if row["split"] == split]


def test_the_loop_with_muon_does_what_torchs_two_optimizers_do(text, tmp_path, without_bfloat16):
    plan = plan_for(text, "gpt2", preset="gpt2-pico", optimizer="muon", lr=0.03, warmup=3, steps=6, eval_every=6)
    run = trained(plan, tmp_path)

    torch.manual_seed(plan.config.seed)
    family = runs.resolve("gpt2").family
    model = family.Model(family.Config(**plan.config.model.config))
    hidden = [p for p in model.h.parameters() if p.ndim == 2]
    tables = [model.wte.weight, model.wpe.weight]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(hidden, weight_decay=0.1)
    groups = [{"params": tables, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    for step in range(6):
        rate = warmup_cosine(step, steps=6, lr=0.03, min_lr=0.003, warmup=3)
        for optimizer, share in ((muon, 1), (adamw, 0.1)):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = rate * share
        batch = plan.sources[0].batch(step, 4, plan.config.seed)
        loss = model(torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step()
        adamw.step()
        assert rows(run, "train")[step]["loss"] == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("model", ["bigram", "gpt2"])
def test_small_batches_accumulated_are_one_large_batch(text, tmp_path, model):
    one = trained(plan_for(text, model, batch_size=12, steps=6), tmp_path)
    four = trained(plan_for(text, model, batch_size=3, accumulate=4, steps=6), tmp_path)
    sizes = [batch.n_targets for batch in (plan_for(text).sources[0].batch(i, 3, 1337) for i in range(4))]
    assert len(set(sizes)) > 1  # else a plain mean would do
    for a, b in zip(rows(one, "train"), rows(four, "train"), strict=True):
        assert a["tokens"] == b["tokens"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_evaluation_is_the_mean_over_every_target_of_the_split(text):
    plan = plan_for(text, "gpt2")
    source = plan.sources[1]
    model = TorchEngine().build(runs.resolve("gpt2").family, runs.resolve("gpt2-nano").config, 0)
    total = n = 0
    for batch in source.whole(1):
        logits = model(torch.from_numpy(batch.inputs[0])).logits.double()
        losses = F.cross_entropy(logits[0], torch.from_numpy(batch.targets[0]), reduction="none", ignore_index=-100)
        total += losses.sum().item()
        n += int((batch.targets != -100).sum())
    assert n == source.n_targets
    for batch_size in (1, 3, 1000):
        assert evaluate(model, source, TorchEngine(), batch_size) == pytest.approx(total / n, rel=1e-6)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_the_seed_decides_everything(text, tmp_path):
    first, same = (trained(plan_for(text, seed=1), tmp_path) for _ in range(2))
    other = trained(plan_for(text, seed=2), tmp_path)
    assert (first.path / "model.safetensors").read_bytes() == (same.path / "model.safetensors").read_bytes()
    assert (first.path / "model.safetensors").read_bytes() != (other.path / "model.safetensors").read_bytes()
    assert first.config.data.split != other.config.data.split


@pytest.mark.parametrize("engine", ["torch", "numpy"])
def test_dropout_goes_on_where_it_stopped(text, tmp_path, monkeypatch, engine):
    family = runs.resolve("gpt2").family
    nano = replace(family.presets["gpt2-nano"], n_layers=1, n_heads=2, n_embd=8, dropout=0.3)
    monkeypatch.setitem(family.module.PRESETS, "gpt2-nano", nano)
    plan = plan_for(text, "gpt2", engine=engine, steps=8, checkpoint_every=8)

    class Stops(Callback):
        def on_step(self, state):
            state.stop = state.step == 5

    whole, run = trained(plan, tmp_path), plan.create(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        training.train(plan.config, run, [Stops()])
    torch.manual_seed(99)
    training.train(plan.config, run)
    np.testing.assert_equal(run.load_checkpoint().weights, whole.load_checkpoint().weights)


def test_the_kept_weights_are_the_best_on_validation_not_the_last(text, tmp_path):
    plan = plan_for(text, steps=60, lr=0.3, eval_every=5, weight_decay=0.0)
    run = trained(plan, tmp_path)
    losses = [row["loss"] for row in rows(run, "val")]
    assert min(losses) < losses[-1]  # it overfits, or else this test says nothing
    assert evaluate(run.load_model(), plan.sources[1], TorchEngine(), 4) == pytest.approx(min(losses), rel=1e-6)
    assert run.summary()["val_loss"] == min(losses)


def test_learning_a_bigram_comes_near_to_counting(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(6, 0.3), 6)
    letters = [0]
    for _ in range(6000):
        letters.append(rng.choice(6, p=table[letters[-1]]))
    path = tmp_path / "chain.txt"
    path.write_text("".join("abcdef"[i] for i in letters), encoding="utf-8")
    plan = training.plan("bigram", path, steps=300, lr=0.2, batch_size=8, weight_decay=0)
    run = trained(plan, tmp_path)

    family = runs.resolve("bigram").family
    model = family.Model(runs.resolve(run.path).config)
    everything = next(plan.sources[0].whole(10**6))
    with torch.no_grad():
        counted = family.module.count(
            torch.from_numpy(everything.inputs[0]),
            torch.from_numpy(everything.targets),
            plan.codec.vocab_size,
            0.01,
        )
        model.table.copy_(counted)
    assert run.summary()["val_loss"] == pytest.approx(evaluate(model, plan.sources[1], TorchEngine()), abs=0.02)


# --- The state carried from batch to batch ---


@pytest.fixture
def poem(tmp_path):
    """A stream of 450 characters."""
    path = tmp_path / "poem.txt"
    path.write_text("".join(np.random.default_rng(0).choice(list("abcd\n"), 450, p=[0.4, 0.3, 0.1, 0.1, 0.1])), "utf-8")
    return path


@pytest.fixture
def small(monkeypatch):
    """small(preset, **changes): that preset of the recurrent models with few units, until the test ends."""

    def change(name, **changes):
        presets = runs.resolve(name).family.presets
        monkeypatch.setitem(presets, name, replace(presets[name], **{"n_embd": 6, "n_hidden": 8} | changes))
        return name

    return change


def test_a_carried_step_is_truncated_backpropagation_through_time(poem, small, tmp_path):
    name = small("lstm-char", n_layers=2)
    settings = {"steps": 18, "batch_size": 3, "lr": 0.02, "accumulate": 2, "eval_every": 4, "window": 5}
    plan = training.plan(name, poem, carry=True, clip=0.0, weight_decay=0.0, **settings)
    run = trained(plan, tmp_path)

    torch.manual_seed(plan.config.seed)
    family = runs.resolve(name).family
    first = family.Model(family.Config(**plan.config.model.config)).state_dict()
    V = plan.codec.vocab_size
    net = torch.nn.ModuleList(
        [torch.nn.Embedding(V, 6), torch.nn.LSTM(6, 8, 2, batch_first=True), torch.nn.Linear(8, V)]
    )
    embedding, lstm, output = net
    theirs = {"embedding.weight": embedding.weight, "output.weight": output.weight, "output.bias": output.bias}
    for i in range(2):
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        theirs |= {f"layers.{i}.{kind}": getattr(lstm, f"{kind}_l{i}") for kind in kinds}
    with torch.no_grad():
        for key, tensor in theirs.items():
            tensor.copy_(first[key])
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    zeros, epochs = torch.zeros(2, 3, 8), 0
    for step in range(18):
        optimizer.zero_grad()
        losses = []
        for batch in (plan.sources[0].batch(2 * step + i, 3, plan.config.seed) for i in range(2)):
            tokens, targets = torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets)
            if not batch.follows:
                h, c, epochs = zeros, zeros, epochs + 1
            h, c, hidden = h.detach(), c.detach(), []
            for t in range(5):
                knows = (tokens[:, t, None] != 0).float()  # END empties the state
                now, (h, c) = lstm(embedding(tokens[:, t, None]), (h * knows, c * knows))
                hidden.append(now)
            losses.append(F.cross_entropy(output(torch.cat(hidden, 1)).flatten(0, 1), targets.flatten()) / 2)
            losses[-1].backward()
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, steps=18, lr=0.02, min_lr=0.002)
        optimizer.step()
        assert rows(run, "train")[step]["loss"] == pytest.approx(sum(losses).item(), rel=1e-5)
    assert epochs == 2
    ours = run.load_checkpoint().weights
    for key, tensor in theirs.items():
        np.testing.assert_allclose(ours[key], tensor.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_with_its_state_carried_a_model_remembers_more_than_a_window(small, tmp_path):
    period, window = "ababbaab", 3
    path = tmp_path / "round.txt"
    path.write_text(period * 1000, encoding="utf-8")
    # what no model can do better that sees of each window its i tokens alone: the entropy after i letters
    ring, entropies = period * 2, []
    for i in range(1, window + 1):
        pasts = [ring[at : at + i] for at in range(len(period))]
        followed = [ring[at : at + i + 1] for at in range(len(period))]
        entropies.append(
            np.mean([math.log(pasts.count(a) / followed.count(b)) for a, b in zip(pasts, followed, strict=True)])
        )
    name, losses = small("gru-char", n_hidden=16), {}
    for carry in (False, True):
        settings = {"steps": 300, "batch_size": 8, "lr": 0.02, "eval_every": 300, "weight_decay": 0.0}
        plan = training.plan(name, path, carry=carry, window=window, **settings)
        losses[carry] = trained(plan, tmp_path).summary()["val_loss"]
    assert losses[False] > 0.98 * np.mean(entropies) > 2 * losses[True]


def test_carried_evaluation_reads_each_lane_as_one_text(poem, small):
    plan = training.plan(small("gru-char"), poem, carry=True, window=2, batch_size=4)
    source = plan.sources[1]
    family = runs.resolve("gru-char").family
    model = TorchEngine().build(family, family.Config(**plan.config.model.config), 0)
    for batch_size in (1, 3, 1000):
        batches = list(source.whole(batch_size))
        tokens, targets = (
            torch.from_numpy(np.concatenate(parts, 1))
            for parts in ([batch.inputs[0] for batch in batches], [batch.targets for batch in batches])
        )
        assert len(batches) >= 8
        logits = model(tokens).logits.double()  # every lane from its beginning to its end at once
        expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100).item()
        assert evaluate(model, source, TorchEngine(), batch_size) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("mlp", {}, "mlp keeps a TokenWindow"),
        ("gpt2", {}, "gpt2 keeps a KVCache"),
        ("gru-char", {"unit": "document"}, "each document is learnt alone: say --unit stream"),
        ("gru-char", {"window": 40, "batch_size": 6}, "batch_size must be at most 5, two of 10 windows in each lane"),
        ("gru-char", {"window": 300}, "too short: 406 tokens, and a window has 300, of which carry needs two"),
    ],
)
def test_what_cannot_be_carried_is_told_in_a_line(poem, model, settings, said):
    with pytest.raises(Mistake) as caught:
        training.plan(model, poem, carry=True, **settings)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_lanes_are_as_few_as_it_takes_to_carry(poem):
    for window, n_lanes in ((2, 25), (5, 10), (64, 1), (200, 1)):  # of 406 tokens
        plan = training.plan("gru-char", poem, carry=True, window=window)
        assert plan.config.train["batch_size"] == n_lanes
        assert plan.sources[0].batch(1, n_lanes, 1).follows


OWN = """
import torch
from torch import nn
from dataclasses import dataclass
from kakehashi.models.protocol import Output, RecurrentState

TASK = "lm"

@dataclass(frozen=True)
class Config:
    vocab_size: int = 5

PRESETS = {"own": Config()}

class State:
    def __init__(self, layers):
        self.layers = layers

class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        logits = self.table[tokens]
        loss = None if targets is None else nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return Output(logits, loss)
"""


def own(folder, state=None):
    """A learner's file of which new_state gives `state`; None: there is no new_state."""
    path = folder / "own.py"
    kept = "" if state is None else f"\n    def new_state(self, B):\n        return {state}\n"
    path.write_text(OWN + kept, encoding="utf-8")
    return path


@pytest.mark.parametrize("state", [None, "State([])", "RecurrentState([])"])
def test_a_model_that_names_no_block_size_is_trained_on_whole_windows(poem, tmp_path, state):
    plan = training.plan(own(tmp_path, state), poem, steps=2, batch_size=2)
    assert plan.config.data.block_size == 64
    assert trained(plan, tmp_path).summary()["step"] == 2


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "own keeps no state"),
        ("State([])", "own keeps a State"),
        ("RecurrentState(torch.zeros(1, B, 2))", "is a list, got a Tensor"),
        ("RecurrentState([torch.zeros(B, 2)])", r"layers\[0\] is a Tensor"),
        ("RecurrentState([(), (torch.zeros(B, 2),)])", r"layers\[0\] is a tuple of 0"),
        ("RecurrentState([(torch.zeros(B, 2), 0)])", "of 2: \\['Tensor', 'int'\\]"),
    ],
)
def test_a_state_of_another_form_is_refused_before_it_is_carried(poem, tmp_path, state, said):
    with pytest.raises(TrainingError, match=said):
        training.plan(own(tmp_path, state), poem, carry=True)


# --- Callbacks ---


def test_callbacks_hear_in_order_and_see_what_was_promised(text, tmp_path):
    heard = []

    class Listens(Callback):
        name = "ears"

        def on_start(self, state):
            heard.append("start")

        def on_backward(self, state):
            heard.append("backward")
            self.weights = [p.detach().clone() for p in state.model.parameters()]
            grads = [p.grad for p in state.model.parameters()]
            self.norm = torch.linalg.vector_norm(torch.cat([grad.flatten() for grad in grads]))
            assert state.loss.item() == state.model(*state.batch.inputs, state.batch.targets).loss.item()

        def on_step(self, state):
            heard.append("step")
            torch.testing.assert_close(state.grad_norm, self.norm)  # that of the gradients that on_backward saw
            params = list(state.model.parameters())
            assert not all(map(torch.equal, params, self.weights))
            clipped = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in params]))
            assert clipped <= 0.1001 < self.norm
            assert state.optimizer.param_groups[0]["lr"] == state.lr
            assert state.tokens_per_second > 0 and state.seconds_left >= 0

        def on_eval(self, state):
            heard.append("eval")
            assert state.val_loss == evaluate(state.model, val, state.engine, 4)

        def on_end(self, state):
            heard.append("end")
            assert state.step == 4 and state.run.load_best() and state.run.load_checkpoint().state["step"] == 4

    class Half:  # duck-typed: listens to one thing only
        name = "half"

        def on_step(self, state): ...

    plan = plan_for(text, "bigram", steps=4, eval_every=2, clip=0.1)
    val = plan.sources[1]
    trained(plan, tmp_path, [Listens(), Half()])
    steps = ["backward", "step"] * 2
    assert heard == ["start", "eval", *steps, "eval", *steps, "eval", "end"]


def test_what_callbacks_return_goes_into_the_rows(text, tmp_path):
    class Notes(Callback):
        name = "health"

        def on_backward(self, state):
            return {"backward": state.step, "worst": math.nan}

        def on_step(self, state):
            return {"step": state.step}

        def on_eval(self, state):
            return {"val": state.val_loss}

    run = trained(plan_for(text, steps=6, log_every=3, eval_every=6), tmp_path, [Notes()])
    assert [row["health"] for row in rows(run, "train")] == [
        {"backward": 2, "worst": None, "step": 3},
        {"backward": 5, "worst": None, "step": 6},
    ]
    assert all(row["health"] == {"val": row["loss"]} for row in rows(run, "val"))
    for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_rows_hold_the_mean_loss_since_the_row_before(text, tmp_path):
    every = trained(plan_for(text, steps=7, log_every=1), tmp_path)
    third = trained(plan_for(text, steps=7, log_every=3), tmp_path)
    losses = [row["loss"] for row in rows(every, "train")]
    assert [row["step"] for row in rows(third, "train")] == [3, 6, 7]
    means = [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]]
    assert [row["loss"] for row in rows(third, "train")] == pytest.approx(means, rel=1e-6)
    assert set(rows(third, "train")[0]) == {"step", "time", "tokens", "split", "loss", "lr", "grad_norm"}


# --- Precision ---


def test_bfloat16_arithmetic_learns_nearly_the_same_with_float32_weights(text, tmp_path):
    full, half = (trained(plan_for(text, "gpt2", steps=10, dtype=dtype), tmp_path) for dtype in ("float32", "bfloat16"))
    assert rows(full, "train")[-1]["loss"] != rows(half, "train")[-1]["loss"]
    assert rows(full, "train")[-1]["loss"] == pytest.approx(rows(half, "train")[-1]["loss"], rel=0.02)
    assert {array.dtype for array in half.load_best().values()} == {np.dtype("float32")}


def test_scaled_float16_gradients_are_those_of_float32_after_unscaling():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(8, 8) / 3)
    x = torch.randn(4, 8)
    grads = {}
    for dtype in ("float32", "float16"):
        engine, optimizer = TorchEngine(dtype=dtype), AdamW([p])
        with engine.autocast():
            loss = (x @ p).float().square().mean() * 1e-6  # such a gradient vanishes in float16
        engine.backward(loss)
        engine.unscale(optimizer)
        grads[dtype] = p.grad.clone()
        before = p.detach().clone()
        engine.step(optimizer)
        assert not torch.equal(p, before)
        with torch.no_grad():
            p.copy_(before)
        optimizer.zero_grad()
    torch.testing.assert_close(grads["float16"], grads["float32"], rtol=0.02, atol=1e-10)


# --- What goes wrong ---


def test_a_loss_that_is_no_number_stops_in_one_line_and_keeps_the_run(text, tmp_path):
    class Poisons(Callback):
        def on_backward(self, state):
            if state.step == 12:
                next(state.model.parameters()).grad[:] = math.nan

    plan = plan_for(text, checkpoint_every=5, log_every=2)
    run = plan.create(tmp_path)
    with pytest.raises(TrainingError) as caught:
        training.train(plan.config, run, [Poisons()])
    message = str(caught.value)
    assert "\n" not in message and "step 14" in message and "checkpoint of step 10" in message and "lr 0.00" in message
    assert all(np.isfinite(array).all() for array in run.load_checkpoint().weights.values())
    assert all(math.isfinite(row["loss"]) for row in run.metrics())
    assert runs.resolve(run.path).model


def test_spoilt_weights_are_not_saved(text, tmp_path):
    class Poisons(Callback):
        def on_step(self, state):
            if state.step == 5:
                next(state.model.parameters()).data[:] = math.inf

    plan = plan_for(text, checkpoint_every=5, eval_every=20, log_every=20)
    run = plan.create(tmp_path)
    with pytest.raises(TrainingError, match="not finite after step 5 .* keeps the checkpoint of step 0$"):
        training.train(plan.config, run, [Poisons()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": -3},
        {"steps": "many"},
        {"batch_size": 0},
        {"lr": -0.1},
        {"lr": math.nan},
        {"lr": math.inf},
        {"optimizer": "muom"},
        {"optimizer": "muon"},
        {"min_lr": -1.0},
        {"warmup": -1},
        {"accumulate": 0},
        {"clip": -1.0},
        {"weight_decay": -0.1},
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"eval_every": 0},
        {"checkpoint_every": 0},
        {"log_every": 0},
        {"carry": "perhaps"},
        {"window": 0},
        {"split": "thirds"},
        {"dtype": "float8"},
        {"device": "tpu"},
        {"engine": "jax"},
        {"seed": -1},
        {"seed": 2**63},
        {"batch_size": 10**6},
        {"accumulate": 10**20},
        {"window": 2**63},
        {"nonsense": 1},
    ],
)
def test_a_wrong_setting_is_named_with_its_value(text, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(TrainingError) as caught:
        plan_for(text, **wrong)
    message = str(caught.value)
    assert name in message and "\n" not in message
    assert str(value) in message or name == "nonsense"


def test_a_device_that_is_not_there_is_named_before_a_run_is_made(text):
    for refuse in (lambda: TorchEngine("cuda:63"), lambda: plan_for(text, device="cuda:63")):
        with pytest.raises(RunError, match="'cuda:63' is not available"):
            refuse()


def test_the_largest_seed_trains(text, tmp_path):
    assert trained(plan_for(text, seed=2**63 - 1, steps=2), tmp_path).summary()["step"] == 2


def test_a_batch_size_that_is_not_said_is_at_most_what_there_is(tmp_path):
    path = tmp_path / "few.txt"
    path.write_text("\n".join(WORDS), encoding="utf-8")
    plan = training.plan("mlp", path, unit="document")
    assert plan.config.train["batch_size"] == plan.sources[0].n_items < len(WORDS)


def test_a_learners_model_without_its_config_is_refused_before_it_is_trained(text, tmp_path):
    path = tmp_path / "mine.py"
    reference = source.read(runs.resolve("bigram").family.path)
    assert reference.count("        self.config = config\n") == 1
    path.write_text(reference.replace("        self.config = config\n", ""), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"mine\.py: \w+ has no \.config"):
        plan_for(text, model=path)


def test_float16_is_for_cuda():
    with pytest.raises(TrainingError, match="float16 needs device cuda, got 'cpu'"):
        TrainSettings(dtype="float16")


# --- Plans ---


def test_a_plan_fits_the_model_to_the_data(text):
    plan = plan_for(text, "gpt2")
    config = plan.config.model.config
    assert config["vocab_size"] == plan.codec.vocab_size == 1 + len(set("".join(WORDS)) | {"\n"}) - 1
    assert config["fused"] is True
    assert plan.config.data.block_size == config["block_size"] == 64
    assert plan.config.data.private
    assert plan.config.threads == torch.get_num_threads()
    assert plan.config.versions["torch"] == torch.__version__
    assert plan.config.train["warmup"] == 1 and plan.config.train["min_lr"] == pytest.approx(0.001)


def test_a_model_that_slides_is_trained_on_windows_longer_than_it_sees(text):
    plan = plan_for(text, "mlp")
    assert plan.config.model.config["block_size"] == 3
    assert plan.config.data.block_size == 64
    assert plan_for(text, "mlp", preset="mlp-wide").config.model.config["block_size"] == 8


def test_the_window_of_a_model_that_slides_can_be_said(text):
    for model in ("mlp", "gru-char"):
        assert plan_for(text, model).config.data.block_size == 64
        plan = plan_for(text, model, window=5)
        assert plan.config.data.block_size == 5 and plan.sources[0].batch(0, 9, 1).targets.shape == (9, 5)
    with pytest.raises(TrainingError, match="got 32: gpt2 sees its block_size of 64 tokens"):
        plan_for(text, "gpt2", window=32)


def test_a_plan_on_the_lectures_split_says_so_and_what_is_shared(text):
    text.write_text(text.read_text(encoding="utf-8") + "\nab" * 40, encoding="utf-8")
    plan = plan_for(text, split="lecture")
    assert plan.config.data.split == plan.split.name and "duplicates kept" in plan.split.name
    assert 0 < plan.split.shared < 1
    assert plan.sources[1].n_targets == sum(len(word) + 1 for word in plan.split.val)
    assert plan_for(text).split.shared == 0
    with pytest.raises(Mistake, match="words is a stream"):
        training.plan("mlp", text, split="lecture")


@pytest.mark.parametrize(
    ("model", "settings"),
    [("mlp", {"unit": "document", "split": "lecture", "window": 4}), ("gru-char", {"carry": True, "window": 9})],
)
def test_a_run_that_goes_on_reads_what_it_was_planned_to_read(text, tmp_path, model, settings):
    plan = training.plan(model, text, batch_size=4, **settings)
    config = plan.create(tmp_path).config
    for planned, opened in zip(plan.sources, training.open_sources(config, plan.codec), strict=True):
        assert type(opened) is type(planned)
        for step in (0, 5):
            np.testing.assert_equal(opened.batch(step, 4, 1), planned.batch(step, 4, 1))
        np.testing.assert_equal(list(opened.whole(4)), list(planned.whole(4)))


def test_a_run_can_start_from_anothers_weights(text, tmp_path):
    first = trained(plan_for(text), tmp_path)
    plan = training.plan(None, text, unit="document", from_run=first.path, steps=3, batch_size=4)
    assert plan.config.started_from == first.name
    assert plan.codec == first.tokenizer
    second = trained(plan, tmp_path)
    assert rows(second, "val")[0]["loss"] == pytest.approx(first.summary()["val_loss"], rel=1e-6)


def test_what_another_run_has_learnt_of_the_validation_texts_is_measured(text, tmp_path):
    def seen(**settings):
        return training.plan(None, text, unit="document", from_run=first.path, steps=1, batch_size=4, **settings).seen

    plan = plan_for(text, steps=1)
    first = trained(plan, tmp_path)
    assert plan.seen == seen() == 0
    other = plan_for(text, seed=5).split.val
    assert seen(seed=5) == sum(each in plan.split.train for each in other) / len(other) > 0
    text.write_text(text.read_text(encoding="utf-8") + "\nbed", encoding="utf-8")
    assert seen() is None


def test_an_infinite_rate_is_told_so():
    with pytest.raises(TrainingError, match="lr must be at least 0 and finite, got inf"):
        TrainSettings(lr=math.inf)


@pytest.mark.parametrize(
    ("model", "preset", "name"),
    [("mistral", None, "mistral"), ("llama", "qwen2", "qwen2"), ("llama", None, "llama"), ("gpt2-pico", None, "gpt2")],
)
def test_a_run_is_named_after_the_preset_where_it_says_more(text, tmp_path, model, preset, name):
    assert plan_for(text, model, preset=preset).create(tmp_path).name == f"{name}-words-0001"


@pytest.mark.parametrize(("optimizer", "floats"), [("adamw", 4), ("muon", 3)])
def test_what_cannot_fit_into_memory_is_refused_with_its_size(text, monkeypatch, optimizer, floats):
    plan = plan_for(text, "gpt2", preset="gpt2-pico", optimizer=optimizer)
    n = sum(p.numel() for p in gpt2.GPT(gpt2.Config(**plan.config.model.config)).parameters())
    assert (plan.n_parameters, plan.n_bytes) == (n, n * 4 * floats)
    monkeypatch.setattr(memory, "of_this_machine", lambda: plan.n_bytes - 1)
    with pytest.raises(TrainingError, match=f"{n:,} parameters"):
        plan_for(text, "gpt2", preset="gpt2-pico", optimizer=optimizer)
    monkeypatch.setattr(memory, "of_this_machine", lambda: plan.n_bytes)
    plan_for(text, "gpt2", preset="gpt2-pico", optimizer=optimizer)


def test_what_starts_from_a_private_run_is_private(text, tmp_path):
    first = trained(plan_for(text, "bigram", steps=1), tmp_path)
    public = training.plan("bigram", "identifiers", steps=1)
    assert not public.config.data.private
    letters = tmp_path / "letters.txt"
    letters.write_text("\n".join(WORDS), encoding="utf-8")
    second = training.plan(None, letters, from_run=first.path, unit="document").create(tmp_path)
    assert (first.private_by, second.private, second.private_by) == ("data", True, "data")
    public = replace(second.config, data=replace(second.config.data, source="identifiers"))
    assert runs.Run(second.path, public).private_by == "start"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "mlp-huge"}, "'mlp-huge'"),
        ({"preset": "wide"}, "did you mean mlp-wide?"),
        ({"model": "bigram", "engine": "numpy"}, "'bigram'"),
        ({"model": "gpt7"}, "'gpt7'"),
        ({"from_run": "nowhere"}, "nowhere"),
    ],
)
def test_what_a_plan_cannot_find_is_named(text, arguments, said):
    with pytest.raises(Mistake) as caught:
        plan_for(text, **arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_that_changed_is_refused_on_resume(text, tmp_path):
    plan = plan_for(text)
    run = plan.create(tmp_path)
    text.write_text("something else\nentirely\nor not", encoding="utf-8")
    with pytest.raises(TrainingError, match="has changed since the run began"):
        training.train(run.config, run)


def test_a_batch_without_targets_teaches_nothing_and_breaks_nothing(text, tmp_path):
    plan = plan_for(text, "bigram", steps=2, weight_decay=0.0)

    class Empty:
        def batch(self, step, batch_size, seed):
            return Batch((np.zeros((2, 3), np.int64),), np.full((2, 3), -100), 0)

    run = training.train(plan.config, plan.create(tmp_path), sources=(Empty(), plan.sources[1]))
    assert np.array_equal(run.load_checkpoint().weights["table"], np.zeros_like(run.load_best()["table"]))


def test_a_run_keeps_its_preset_when_another_starts_from_it(text, tmp_path):
    first = trained(plan_for(text, steps=1), tmp_path)
    with pytest.raises(TrainingError, match="'mlp-wide' does not go with the weights"):
        training.plan(None, text, from_run=first.path, preset="mlp-wide")


def test_a_mistake_in_a_learners_model_is_shown_with_its_line(text, tmp_path):
    own = tmp_path / "own.py"
    code = source.read(runs.resolve("bigram").family.path)
    own.write_text(code.replace("self.table[tokens]", "self.table[tokens] @ tokens"), encoding="utf-8")
    line = next(i for i, each in enumerate(own.read_text(encoding="utf-8").splitlines(), 1) if "@ tokens" in each)
    plan = plan_for(text, own)
    run = plan.create(tmp_path)
    with pytest.raises(TrainingError) as caught:
        training.train(run.config, run)
    message = str(caught.value)
    assert f"{run.path / 'source.py'}:{line}: RuntimeError: " in message and "\n" not in message


def test_what_backward_finds_in_a_learners_model_is_a_line_and_in_ours_a_bug(text, tmp_path, monkeypatch):
    own = tmp_path / "own.py"
    code = source.read(runs.resolve("bigram").family.path)
    own.write_text(code.replace("self.table[tokens]", "self.table[tokens].detach()"), encoding="utf-8")
    run = plan_for(text, own).create(tmp_path)
    with pytest.raises(
        TrainingError, match=r"source\.py: RuntimeError: .*does not require grad.*`kakehashi grade`"
    ) as caught:
        training.train(run.config, run)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(TorchEngine, "backward", lambda self, loss: loss.detach().backward())
    with pytest.raises(RuntimeError, match="does not require grad"):
        trained(plan_for(text, "bigram"), tmp_path)


def test_a_learners_model_is_trained_resumed_and_loaded_from_its_source(text, tmp_path):
    own = tmp_path / "own.py"
    starter = source.blank(source.read(runs.resolve("mlp").family.path), ["BatchNorm"])
    own.write_text('REFERENCE = "mlp"\n' + starter, encoding="utf-8")
    plan = plan_for(text, own)
    assert plan.borrowed and all(each.startswith("BatchNorm") for each in plan.borrowed)

    class Stops(Callback):
        def on_step(self, state):
            state.stop = state.step == 7

    run = plan.create(tmp_path)
    assert run.name.startswith("own-")
    with pytest.raises(KeyboardInterrupt):
        training.train(plan.config, run, [Stops()])
    own.unlink()
    training.train(run.config, runs.Run.open(run.path))
    theirs = trained(plan_for(text, "mlp"), tmp_path)  # the reference itself
    np.testing.assert_equal(run.load_best(), theirs.load_best())
    assert runs.resolve(run.path).model.config.vocab_size == plan.codec.vocab_size
