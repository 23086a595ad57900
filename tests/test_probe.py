"""A probe shows what a model computes, and changes nothing: no bit of an output, no hook, no random number."""

import copy
import gc
import math
import threading
import warnings
import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from kakehashi import Mistake, models, runs
from kakehashi.inspection import Probe, ProbeError, Statistics
from kakehashi.inspection import attention as watching
from kakehashi.inspection.record import tensors

LEARNERS = Path(__file__).parent / "learners"
B, T, C, H, V = 2, 6, 8, 2, 11


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ids(vocab_size: int = V, length: int = T) -> Tensor:
    return torch.randint(vocab_size, (B, length), generator=torch.Generator().manual_seed(1))


# --- Models of many hands: how each is built, and run as far as its gradients ---


def ours(name: str, **changes):
    family = models.find(name)
    sizes = {"vocab_size": V, "block_size": T, "n_layers": 2, "n_heads": H, "n_embd": C, "n_hidden": C} | changes
    config = replace(next(iter(family.presets.values())), **{k: v for k, v in sizes.items() if k in fields(family)})
    model = family.Model(config)
    inputs = {
        "lm": lambda: (ids(),),
        "seq2seq": lambda: (ids(length=5), ids()),
        "classify": lambda: (rand(B, 1, 8, 8),),
    }
    targets = ids()[:, 0] % 10 if family.task == "classify" else ids()

    def run(model):
        found = model(*inputs[family.task](), targets)
        found.loss.backward()
        return found

    return model, run


def fields(family) -> set[str]:
    return set(family.Config.__dataclass_fields__)


def learner(name: str):
    family = runs.resolve(LEARNERS / f"{name}.py").family
    config = replace(family.presets["gpt2-names"], vocab_size=V, block_size=T, n_layers=2, n_heads=H, n_embd=C)

    def run(model):
        found = model(ids(), ids())
        found.loss.backward()
        return found

    return family.Model(config), run


def hugging_face(kind: str, implementation: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = pytest.importorskip("transformers", reason="needs transformers")
    tf.logging.set_verbosity_error()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 16}
    attention = {"attn_implementation": implementation}
    if kind == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 8, "bos_token_id": 0, "eos_token_id": 0}
        model = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=V, **sizes, **attention))
    elif kind == "llama":
        model = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=V, num_key_value_heads=2, **sizes, **attention))
    elif kind == "bert":
        model = tf.BertForMaskedLM(tf.BertConfig(vocab_size=V, max_position_embeddings=8, **sizes, **attention))
    elif kind == "vit":
        model = tf.ViTForImageClassification(tf.ViTConfig(image_size=8, patch_size=4, **sizes, **attention))
    else:
        model = tf.ResNetForImageClassification(tf.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1]))
    pad = torch.ones(B, T, dtype=torch.long)
    pad[1, -2:] = 0

    def run(model, **options):
        if kind in ("vit", "resnet"):
            found = model(rand(B, 3, 8, 8), **options)
        else:
            found = model(ids(), attention_mask=pad, **options)
        found.logits.square().mean().backward()
        return found

    return model, run


class Pair(nn.Module):
    """A generator and what judges it; both learn from one sum."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, C), nn.ReLU(inplace=True), nn.Linear(C, C))
        self.judge = nn.Sequential(nn.Linear(C, C), nn.Dropout(0.2), nn.LeakyReLU(0.2, inplace=True), nn.Linear(C, 1))


def gan():
    def run(pair):
        made = pair["generator"](rand(B, 4))
        loss = F.softplus(pair["judge"](made)).mean() + F.softplus(-pair["judge"](rand(B, C))).mean()
        loss.backward()
        return made, loss

    return nn.ModuleDict(dict(Pair().named_children())), run


def of_torch(build, *inputs: Tensor, **options):
    def run(model):
        found = model(*inputs, **options)
        sum(x.float().square().sum() for x in tensors(found).values()).backward()
        return found

    return build(), run


def encoder(**options):
    return nn.TransformerEncoderLayer(C, H, 16, dropout=0.1, batch_first=True, **options)


CASES = {
    **{name: lambda name=name: ours(name) for name in ("gpt2", "llama", "mlp", "recurrent", "resnet", "wavenet")},
    "transformer": lambda: ours("transformer", dropout=0.1),
    "gpt2 fused": lambda: ours("gpt2", fused=True, dropout=0.1),
    "llama fused": lambda: ours("llama", fused=True),
    "transformer fused": lambda: ours("transformer", fused=True),
    "a learner's": lambda: learner("gpt2_einsum"),
    **{
        f"{kind} {how}": lambda kind=kind, how=how: hugging_face(kind, how)
        for kind in ("gpt2", "llama", "bert", "vit")
        for how in ("eager", "sdpa")
    },
    "resnet of transformers": lambda: hugging_face("resnet", "eager"),
    "nn.Transformer": lambda: of_torch(
        lambda: nn.Transformer(C, H, 1, 1, 16, dropout=0.1), rand(5, B, C), rand(T, B, C, seed=1)
    ),
    "nn.LSTM": lambda: of_torch(lambda: nn.LSTM(C, 5, 2, dropout=0.5), rand(T, B, C)),
    "nn.MultiheadAttention": lambda: of_torch(lambda: nn.MultiheadAttention(C, H, 0.1), *[rand(T, B, C)] * 3),
    "gan": gan,
    "bfloat16": lambda: of_torch(lambda: encoder().bfloat16(), rand(B, T, C).bfloat16()),
    "shared": lambda: of_torch(lambda: (lambda one: nn.Sequential(one, nn.Tanh(), one))(nn.Linear(C, C)), rand(B, C)),
    "in place": lambda: of_torch(
        lambda: nn.Sequential(
            nn.BatchNorm1d(C), nn.ReLU(inplace=True), nn.Conv1d(C, C, 1), nn.Dropout(0.5, inplace=True)
        ),
        rand(B, C, T),
    ),
}


def state(model: nn.Module) -> list:
    """What a probe could leave behind."""
    return [
        nn.Module.__call__,
        F.scaled_dot_product_attention,
        torch._C._len_torch_dispatch_stack(),
        torch._C._len_torch_function_stack(),
        torch.is_grad_enabled(),
        *((name, x.requires_grad, x._backward_hooks) for name, x in model.named_parameters()),
        *((m.training, sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()),
    ]


def both(model: nn.Module, run, which="**", **options) -> tuple[Probe, nn.Module]:
    """A probe on a model that runs as its twin does without one, bit for bit."""
    twin, before = copy.deepcopy(model), state(model)
    torch.manual_seed(5)
    want = run(twin)
    random = torch.get_rng_state()
    torch.manual_seed(5)
    with Probe(model, which, **options) as probe:
        got = run(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert state(model) == before
    results = tensors(want), tensors(got)
    weights = [dict((*m.named_parameters(), *m.named_buffers())) for m in (twin, model)]
    gradients = [{name: x.grad for name, x in each.items() if x.grad is not None} for each in weights]
    for a, b in (results, weights, gradients):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    return probe, twin


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_a_model_computes_the_same_bits_and_the_probe_sees_what_hooks_see(case):
    torch.manual_seed(0)
    model, run = CASES[case]()
    probe, twin = both(model, run, grads=True)
    # torch's own hooks, on the twin: what each call gave, and the gradients of it
    outputs: dict[str, list] = {name: [] for name in probe}
    arrived: dict[tuple, Tensor] = {}

    def hook(name):
        def keep(module, args, output):
            given = tensors(output, "output")
            call = len(outputs[name])
            outputs[name].append({label: x.detach().clone() for label, x in given.items()})
            for label, x in given.items():
                if x.requires_grad:
                    x.register_hook(lambda g, key=(name, call, label): arrived.__setitem__(key, g.clone()))

        return keep

    for name in probe:
        twin.get_submodule(name).register_forward_hook(hook(name))
    torch.manual_seed(5)
    run(twin)
    for name in probe:
        calls = probe[name].calls
        assert len(calls) == len(outputs[name])
        for i, (call, expected) in enumerate(zip(calls, outputs[name], strict=True)):
            assert call.outputs.keys() == expected.keys()
            assert all(torch.equal(call.outputs[label], x) for label, x in expected.items()), name
            wanted = {label: g for (of, n, label), g in arrived.items() if (of, n) == (name, i)}
            assert call.grads.keys() == wanted.keys()
            assert all(torch.equal(call.grads[label], g) for label, g in wanted.items()), name
    assert any(calls for calls in outputs.values())


# --- Attention ---


@settings(max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 4),
    heads=st.sampled_from([(2, 2), (4, 2), (4, 1), (1, 1)]),
    mask=st.sampled_from(["none", "causal", "bool", "float", "nothing seen"]),
    scale=st.sampled_from([None, 0.7]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    mode=st.sampled_from(["grad", "no_grad", "inference"]),
)
def test_weights_times_values_are_what_torchs_kernel_gave(sizes, heads, mask, scale, dtype, mode):
    """Whatever kernel torch chose; and they are weights: no query's sum to anything but 1, or 0 where it sees none."""
    batch, queries, keys, width = sizes
    q, k, v = (
        rand(batch, n, length, width, seed=i).to(dtype).requires_grad_(mode == "grad")
        for i, (n, length) in enumerate(((heads[0], queries), (heads[1], keys), (heads[1], keys)))
    )
    masks = {
        "bool": rand(queries, keys, seed=4) > -0.5,
        "float": rand(batch, 1, queries, keys, seed=4).to(dtype),
        "nothing seen": torch.arange(queries)[:, None].expand(queries, keys) > 0,
    }

    class Attention(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(
                q, k, v, masks.get(mask), is_causal=mask == "causal", scale=scale, enable_gqa=heads[0] != heads[1]
            )

    modes = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
    model = Attention()
    with modes[mode]():
        plain = model(q, k, v)
        with Probe(model, "") as probe:
            y = model(q, k, v)
    assert torch.equal(y, plain)
    found = probe[""].attention
    assert found.shape == (batch, heads[0], queries, keys)
    groups = heads[0] // heads[1]
    mixed = found.double() @ v.detach().double().repeat_interleave(groups, 1)
    torch.testing.assert_close(mixed, y.detach().double(), atol=3e-2 if dtype == torch.bfloat16 else 1e-5, rtol=1e-2)
    sums = found.sum(-1)
    assert bool(((sums - 1).abs() < 1e-4).logical_or(sums == 0).all())


def test_dropout_in_the_kernel_leaves_the_weights_before_it():
    q = rand(B, H, T, 4).requires_grad_()
    model = Lambda(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, is_causal=True))
    torch.manual_seed(0)
    with Probe(model, "") as probe:
        model(q)
    torch.testing.assert_close(probe[""].attention, watching.weights(q, q, is_causal=True))
    torch.testing.assert_close(probe[""].attention.sum(-1), torch.ones(B, H, T))


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


@pytest.mark.parametrize("name", ["gpt2", "llama", "transformer"])
def test_the_written_out_and_the_fused_attention_of_our_models_are_one(name):
    torch.manual_seed(0)
    written, run = ours(name, dropout=0.0)
    fused, _ = ours(name, fused=True, dropout=0.0)
    fused.load_state_dict(written.state_dict())
    with Probe(written) as a, Probe(fused) as b:
        run(written)
        run(fused)
    assert len(a.attention) == (6 if name == "transformer" else 2)
    assert a.attention.keys() == b.attention.keys()
    for place in a.attention:
        torch.testing.assert_close(a.attention[place], b.attention[place])
    assert a.notes["written_out"] == list(a.attention)
    assert "written_out" not in b.notes
    decoder = next(w for place, w in a.attention.items() if place.startswith(("h.", "layers.", "model.", "decoder.")))
    assert decoder.shape == (B, H, T, T)
    assert decoder.triu(1).count_nonzero() == 0


@pytest.mark.parametrize("name", ["gpt2_einsum", "gpt2_functional", "gpt2_buffers"])
def test_a_learners_attention_is_the_references(name):
    torch.manual_seed(0)
    model, run = learner(name)
    reference, _ = ours("gpt2")
    reference.load_state_dict(model.state_dict(), strict=False)
    model.eval(), reference.eval()
    with Probe(model, "h.*.attn") as mine, Probe(reference, "h.*.attn") as theirs:
        run(model)
        run(reference)
    for place in ("h.0.attn", "h.1.attn"):
        torch.testing.assert_close(mine[place].attention, theirs[place].attention)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "vit"])
@pytest.mark.parametrize("how", ["eager", "sdpa"])
def test_transformers_attention_is_what_it_says_itself(kind, how):
    torch.manual_seed(0)
    model, run = hugging_face(kind, how)
    said, _ = hugging_face(kind, "eager")
    said.load_state_dict(model.state_dict())
    model.eval(), said.eval()
    want = run(said, output_attentions=True).attentions
    probe, _ = both(model, run)
    assert len(want) == len(probe.attention) == 2
    for expected, found in zip(want, probe.attention.values(), strict=True):
        # rows of padding see nothing, and say as they like
        rows = slice(0, T - 2) if kind != "vit" else slice(None)
        torch.testing.assert_close(found[:, :, rows], expected[:, :, rows], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_weights_of_torchs_attention_are_those_that_it_returns(batch_first, training):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(C, H, batch_first=batch_first).train(training)
    x = rand(B, T, C) if batch_first else rand(T, B, C)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    for options in ({}, {"attn_mask": hidden}):
        with torch.no_grad():
            y, weights = module(x, x, x, average_attn_weights=False, **options)
            for need_weights in (True, False):
                with Probe(module, "") as probe:
                    again, _ = module(x, x, x, need_weights=need_weights, **options)
                torch.testing.assert_close(probe[""].attention, weights)
                torch.testing.assert_close(again, y)


@pytest.mark.parametrize("which", ["", "layers.*", "**.self_attn", "layers.1.linear1"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_torchs_encoder_keeps_its_shortcut_and_shows_what_is_inside(which, padded):
    """In eval mode torch computes a layer in one kernel that calls no module; hooks alone would switch that off."""
    torch.manual_seed(0)
    model = nn.TransformerEncoder(encoder(), 2).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()  # a random number is drawn on the long way alone
    hidden = torch.arange(T).expand(B, T) >= torch.tensor([[T], [T - 2]])
    options = {"src_key_padding_mask": hidden} if padded else {}
    x = rand(B, T, C)
    with torch.no_grad():
        probe, twin = both(model, lambda model: model(x, **options), which)
        for module in twin.modules():
            module.eval()
        with Probe(model.eval(), which) as other, Probe(model, "**") as second:
            model(x, **options)
        want, y = [], x
        for layer in twin.layers:
            want.append(
                layer.self_attn(y, y, y, key_padding_mask=hidden if padded else None, average_attn_weights=False)[1]
            )
            y = layer(y, **options)
    assert probe.notes["shortcut"]
    assert all(len(each.calls) == 1 for each in other.seen.values())
    assert all(len(second[name].calls) == ("out_proj" not in name) for name in second)
    assert second.notes["shortcut"] == ["layers.0", "layers.1"]  # by itself, not on the other's long way
    found = [w for name in other for call in other[name].calls for w in call.attentions]
    assert len(found) == (0 if "linear" in which else 2)
    if "linear" in which:
        assert other[which].output.shape == (B, T, 16)
    for expected, weights in zip(want, found, strict=False):
        torch.testing.assert_close(weights[0], expected[0], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(weights[1, :, : T - 2], expected[1, :, : T - 2], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "steps",
    [
        lambda x: x.softmax(-1),  # probabilities, for nobody's values
        lambda x: x.softmax(1) @ x,  # over another axis
        lambda x: torch.sigmoid(x) @ x,  # rows that do not sum to 1
        lambda x: x.softmax(-1) * x,  # a gate
        lambda x: x.softmax(-1) @ rand(T, C),  # a mean of rows of a table, as an embedding of probabilities
        lambda x: (x / x.norm()) @ x,
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_what_is_no_attention_is_not_taken_for_it(steps, inference):
    with torch.inference_mode(inference):
        with Probe(model := Lambda(steps), "") as probe:
            model(rand(1, T, T))
    assert probe.attention == {}


@pytest.mark.parametrize(
    "weigh",
    [
        lambda s: s.softmax(-1),
        lambda s: (s - s.amax(-1, keepdim=True)).exp() / (s - s.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True),
        lambda s: s.exp().div_(s.exp().sum(-1, keepdim=True)),
        lambda s: (s - s.logsumexp(-1, keepdim=True)).exp(),
        lambda s: F.dropout(s.softmax(-1), 0.5, inplace=True),
        lambda s: F.softmax(s, -1, dtype=torch.float64).to(s.dtype),
    ],
)
@pytest.mark.parametrize("mix", ["@", "bhts,bhsd->bhtd", "bhsd,bhts->bthd"])
@pytest.mark.parametrize("inference", [False, True])
def test_attention_is_found_however_it_is_written(weigh, mix, inference):
    def steps(q, k, v):
        w = weigh(q @ k.mT)
        return w @ v if mix == "@" else torch.einsum(mix, *((w, v) if mix.startswith("bhts") else (v, w)))

    q, k, v = rand(B, H, T, 4), rand(B, H, 5, 4, seed=1), rand(B, H, 5, 4, seed=2)
    with torch.inference_mode(inference), Probe(model := Lambda(steps), "") as probe:
        model(q, k, v)
    torch.testing.assert_close(probe[""].attention.float(), (q @ k.mT).softmax(-1))


def test_one_head_beside_the_batch_and_a_text_alone_have_both_axes():
    one = Lambda(lambda x: (x @ x.mT).softmax(-1) @ x)
    for x, shape in ((rand(B, T, C), (B, 1, T, T)), (rand(T, C), (1, 1, T, T))):
        with Probe(one, "") as probe:
            one(x)
        assert probe[""].attention.shape == shape
        torch.testing.assert_close(probe[""].attention.squeeze(), (x @ x.mT).softmax(-1))


def test_the_innermost_probed_module_has_the_attention():
    model, run = ours("gpt2")
    with Probe(model, ["h.*", "h.1.attn"]) as probe:
        run(model)
    assert set(probe.attention) == {"h.0", "h.1.attn"}
    with Probe(model, "") as probe:
        run(model)
    assert [w.shape for w in probe[""].attention] == [(B, H, T, T)] * 2


def test_kernels_of_other_devices_are_known_by_what_they_take():
    """Of those that this machine cannot run, the operators' own schemas say it."""
    q = rand(B, H, T, 4)
    aten = torch.ops.aten
    for kernel, names in (
        (aten._scaled_dot_product_flash_attention.default, (q, q, q, 0.0, True)),
        (aten._scaled_dot_product_efficient_attention.default, (q, q, q, None, False, 0.0, True)),
        (aten._scaled_dot_product_cudnn_attention.default, (q, q, q, None, False, 0.0, True)),
        (aten._scaled_dot_product_fused_attention_overrideable.default, (q, q, q, None, 0.0, True)),
        (aten._scaled_dot_product_attention_math_for_mps.default, (q, q, q, None, 0.0, True)),
    ):
        call = watching.taken(kernel, names, {"scale": 0.5})
        assert (call["query"] is q, call["is_causal"], call["scale"]) == (True, True, 0.5)
        mask = {each.name for each in kernel._schema.arguments} & {"attn_mask", "attn_bias"}
        assert mask or "flash" in str(kernel)
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    assert watching.taken(backward, (q,) * 6 + (0.0, True), {}) == {}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_asked_with_its_own_program():
    flex = pytest.importorskip("torch.nn.attention.flex_attention").flex_attention
    x = rand(1, H, 16, C)
    model = Lambda(lambda x: flex(x, x, x, score_mod=lambda s, b, h, i, j: torch.where(i >= j, s - i + j, -math.inf)))
    with torch.no_grad(), Probe(model, "") as probe:
        y = model(x)
    torch.testing.assert_close(probe[""].attention @ x, y)
    places = torch.arange(16)
    scores = (x @ x.mT / math.sqrt(C) - places[:, None] + places).masked_fill(places[:, None] < places, -math.inf)
    torch.testing.assert_close(probe[""].attention, scores.softmax(-1))


# --- Nothing is left, and nothing disturbed ---


def test_an_error_inside_leaves_nothing_and_shows_how_far_it_came():
    model = nn.Sequential(nn.Linear(C, C), nn.Linear(C + 1, C))
    before = state(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), Probe(model, grads=True) as probe:
        model(rand(B, C))
    assert state(model) == before
    assert probe["0"].output.shape == (B, C)
    assert probe["1"].calls[0].outputs == {} and torch.equal(probe["1"].inputs["0"], probe["0"].output)
    with Probe(model, "0") as probe:  # and the next one works
        model[0](rand(B, C))
    assert len(probe["0"].calls) == 1


def test_probes_may_be_nested_and_end_in_any_order():
    model, run = ours("gpt2", fused=True)
    before = state(model)
    first, second = Probe(model, "h.*.attn", grads=True), Probe(model, "**")
    first.__enter__()
    second.__enter__()
    run(model)
    first.__exit__()
    run(model)
    second.__exit__()
    assert state(model) == before
    assert [len(each["h.0.attn"].calls) for each in (first, second)] == [1, 2]
    # neither saw the other at work
    assert torch.equal(first.attention["h.0.attn"], second.attention["h.0.attn"][0])
    assert len(second.attention["h.0.attn"]) == 2
    run(model)
    assert [len(each["h.0.attn"].calls) for each in (first, second)] == [1, 2]


@pytest.mark.parametrize("which", ["", "**"])
def test_what_the_probe_computes_is_counted_by_nobody(which):
    """Weights, and what torch's shortcut hides, cost the model nothing that another mode of torch's would see."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.sdpa = encoder(), Lambda(lambda x: F.scaled_dot_product_attention(x, x, x))

        def forward(self, x):
            return self.sdpa(self.layer(x)[:, None]) @ x.mT

    model, x = Both().eval(), rand(B, T, C)
    counts = []
    with torch.no_grad():
        for probe in (nullcontext(), Probe(model, which)):
            with FlopCounterMode(display=False) as counter, probe:
                model(x)
            counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    # each attention once, though the one is seen on the way and the other on the long way
    assert [w.shape for name in probe for call in probe[name].calls for w in call.attentions].count((B, 1, T, T)) == 1
    assert sum(len(call.attentions) for name in probe for call in probe[name].calls) == 2


def test_a_probe_sees_the_calls_of_its_thread_alone():
    model = nn.Linear(C, C)
    seen, ready, done = {}, threading.Barrier(2), threading.Barrier(2)

    def work(n: int) -> None:
        with Probe(model, "", grads=True) as probe:
            ready.wait()
            for _ in range(n):
                model(rand(n, C)).sum().backward()
            done.wait()
        seen[n] = probe

    before = state(model)
    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {n: [call.output.shape for call in probe[""].calls] for n, probe in seen.items()} == {
        1: [(1, C)],
        3: [(3, C)] * 3,
    }
    assert state(model) == before


def test_a_probe_holds_no_tensor_of_the_model_and_the_model_none_of_the_probes():
    model, run = ours("gpt2", fused=True)
    made = []
    model.h[0].register_forward_hook(lambda module, args, output: made.append(weakref.ref(output)))
    gc.disable()  # by counting references alone
    try:
        with Probe(model, "h.*", grads=True) as probe:
            loss = run(model).loss
        copies = [weakref.ref(x) for x in (probe["h.0"].output, probe["h.0"].grad, probe["h.0"].attention)]
        del loss
        assert made[0]() is None
        whole = weakref.ref(model)
        del model, run
        gc.collect()
        assert whole() is None
        assert all(copy() is not None for copy in copies)
        del probe
        assert all(copy() is None for copy in copies)
    finally:
        gc.enable()


def test_gradients_that_come_later_are_nobodys():
    model = nn.Linear(C, 1)
    with Probe(model, "", grads=True) as probe:
        loss = model(rand(B, C)).sum()
    loss.backward()
    assert probe[""].grad is None and probe.gradients == {}


def test_values_are_those_of_the_moment():
    """The model overwrites its inputs and what it gave, and a probe opened twice begins anew."""
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Identity(), relu, Lambda(lambda x: x.mul_(0)))
    x = rand(B, C)
    before = x.clone()
    probe = Probe(model)
    for _ in range(2):
        with torch.no_grad(), probe:
            y = model(x.copy_(before))
        assert torch.equal(probe["0"].output, before) and torch.equal(probe["1"].inputs["0"], before)
        assert torch.equal(probe["1"].output, before.relu()) and not y.any()
        assert not probe[""].output.any() and len(probe[""].calls) == 1


def test_a_value_is_copied_once():
    model = nn.Sequential(*(nn.Identity() for _ in range(5)))
    x = rand(100)
    with Probe(model) as probe:
        model(x)
    assert probe.held == 400
    assert {x.data_ptr() for x in probe.activations.values()} == {probe["0"].inputs["0"].data_ptr()}


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_that_runs_again_is_counted_once(reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.drop, self.two = nn.Linear(C, C), nn.Dropout(0.5), nn.Linear(C, C)
            self.stores = True

        def part(self, x):
            return self.two(self.drop(self.one(self.one(x)) + self.one(x)))

        def forward(self, x):
            x = self.part(x)
            return self.part(x) if self.stores else checkpoint(self.part, x, use_reentrant=reentrant)

    torch.manual_seed(0)
    model = Net()

    def run(model):
        y = model(rand(B, C))
        y.square().sum().backward()
        return y

    torch.manual_seed(5)
    with Probe(stored := copy.deepcopy(model), "*", grads=True) as want:
        run(stored)
    model.stores = False
    probe, _ = both(model, run, "*", grads=True)
    assert probe.notes["again"] and "again" not in want.notes
    for name in ("one", "drop", "two"):
        for a, b in zip(want[name].calls, probe[name].calls, strict=True):
            assert torch.equal(a.output, b.output) and torch.equal(a.grad, b.grad)


def test_a_compiled_model_is_run_without_the_compiler():
    model, run = ours("gpt2", fused=True)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    step = torch.compile(lambda x: model(x).logits, backend=backend)
    plain = compiled(ids(), ids()).logits
    n = len(graphs)
    assert n
    with Probe(compiled, ["", "h.*.attn"], grads=True) as probe, Probe(model, "h.*") as other:
        found = run(compiled)
        step(ids())
    torch.testing.assert_close(found.logits, plain)
    assert list(probe.attention) == ["h.0.attn", "h.1.attn"]
    assert list(probe.gradients) == ["", "h.0.attn", "h.1.attn"]
    assert torch.equal(probe[""].calls[0].outputs["output.logits"], found.logits)
    assert probe.notes["compiled"] == [""] and "compiled" not in other.notes
    assert [len(each["h.0" + end].calls) for each, end in ((probe, ".attn"), (other, ""))] == [2, 2]
    compiled(ids(), ids())
    assert len(graphs) == n  # the compiler is back, with what it had


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_there_are_none_and_what_is_kept_can_be_used(mode):
    model, _ = ours("gpt2")
    with mode(), Probe(model, grads=True) as probe:
        model(ids())
    assert probe.gradients == {} and probe["h.0.attn"].grad is None
    kept = probe["h.0"].output
    (kept * torch.ones(1, requires_grad=True)).sum().backward()


# --- Which modules, how much, in words ---


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ("h.*.attn", ["h.0.attn", "h.1.attn"]),
        ("*", ["wte", "wpe", "ln_f"]),
        ("**.attn", ["h.0.attn", "h.1.attn"]),
        ("**.ln_f", ["ln_f"]),
        ("h.[!0].ln_?", ["h.1.ln_1", "h.1.ln_2"]),
        ("", [""]),
        (["wpe", "wte"], ["wte", "wpe"]),
        (nn.Embedding, ["wte", "wpe"]),
        (lambda name, module: name.endswith("mlp"), ["h.0.mlp", "h.1.mlp"]),
        ([nn.Embedding, "h.0.mlp"], ["wte", "wpe", "h.0.mlp"]),
    ],
)
def test_modules_are_chosen_by_name_class_or_predicate(which, found):
    assert list(Probe(ours("gpt2")[0], which)) == found


def test_a_module_is_chosen_by_itself():
    model = ours("gpt2")[0]
    assert list(Probe(model, [model.h[1], model.wte])) == ["wte", "h.1"]
    with pytest.raises(ProbeError, match="no module is this Linear"):
        Probe(model, nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("blocks.*.attn", "no module is 'blocks.*.attn'; near it: h.*.attn"),
        (nn.LSTM, "no module is of the class LSTM"),
        (["wte", lambda name, module: False], "no module is chosen by the predicate"),
    ],
)
def test_what_finds_no_module_is_a_mistake_with_names_near_it(which, says):
    with pytest.raises(ProbeError) as caught:
        Probe(ours("gpt2")[0], which)
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)
    assert isinstance(caught.value, Mistake)


def test_a_name_that_is_not_probed_and_a_probe_that_is_open_are_mistakes():
    probe = Probe(ours("gpt2")[0], "h.*.attn")
    with pytest.raises(ProbeError, match=r"'h.0.atn' is not probed; near it: h\.\*\.attn"):
        probe["h.0.atn"]
    with probe, pytest.raises(ProbeError, match="open already"), probe:
        pass
    assert "h.0.attn" in probe and "h.0.atn" not in probe


def test_beyond_the_limit_there_are_statistics_and_a_note():
    model, run = ours("gpt2", fused=True)
    with Probe(model, "h.*.attn", grads=True) as whole:
        run(model)
    with Probe(model, "h.*.attn", grads=True, limit=0) as probe:
        run(model)
    assert probe.notes["statistics"] == ["h.0.attn", "h.1.attn"] and "statistics" not in whole.notes
    assert probe.held == 0
    for name in probe:
        for a, b in zip(
            (whole[name].output, whole[name].grad, whole[name].attention),
            (probe[name].output, probe[name].grad, probe[name].attention),
            strict=True,
        ):
            assert b == Statistics.of(a) and b.shape == tuple(a.shape)
    limit = 4 * B * T * C * 2
    with Probe(model, limit=limit) as probe:
        run(model)
    kept = {x.data_ptr(): x.nbytes for x in probe.activations.values() if isinstance(x, Tensor)}
    assert 0 < sum(kept.values()) <= probe.held <= limit


@settings(max_examples=40)
@given(
    values=st.lists(st.floats(width=32) | st.sampled_from([0.0, math.inf, math.nan]), max_size=30),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]),
)
def test_statistics_are_those_of_the_finite_values(values, dtype):
    x = (
        torch.tensor([v if dtype.is_floating_point or math.isfinite(v) else 0 for v in values])
        .clamp(-1e9, 1e9)
        .to(dtype)
    )
    found = Statistics.of(x)
    finite = x.double()[x.double().isfinite()]
    assert (found.shape, found.dtype) == (tuple(x.shape), dtype)
    assert found.not_finite == pytest.approx(1 - len(finite) / len(x) if len(x) else 0)
    assert found.zeros == pytest.approx((x == 0).double().mean().item() if len(x) else 0)
    if not len(finite):
        assert math.isnan(found.mean) and found.quantiles == {}
        return
    assert found.mean == pytest.approx(finite.mean().item(), rel=1e-9, abs=1e-6)
    assert found.std == pytest.approx(finite.std(correction=0).item(), rel=1e-6, abs=1e-6)
    assert found.rms == pytest.approx(finite.square().mean().sqrt().item(), rel=1e-6)
    assert (found.least, found.most) == (finite.min().item(), finite.max().item())
    assert found.largest == finite.abs().max().item()
    assert found.quantiles[0.5] == pytest.approx(finite.quantile(0.5).item())


def test_statistics_of_a_large_tensor_come_in_pieces_and_quantiles_of_a_sample():
    x = rand(3, 1_000_003) * 2 + 5
    random = torch.get_rng_state()
    found = Statistics.of(x)
    assert torch.equal(torch.get_rng_state(), random)
    assert found.mean == pytest.approx(x.double().mean().item(), rel=1e-9)
    assert found.std == pytest.approx(x.double().std(correction=0).item(), rel=1e-9)
    normal = torch.distributions.Normal(5, 2)
    for share, value in found.quantiles.items():  # 16,384 drawn: within 5 standard errors
        assert abs(normal.cdf(torch.tensor(value)).item() - share) < 5 * math.sqrt(share * (1 - share) / 2**14)


def test_a_probe_describes_itself_in_a_few_lines():
    model, run = ours("gpt2", n_layers=9)
    model.unused = nn.Linear(1, 1)
    with Probe(model, "**", grads=True) as probe:
        run(model)
    lines = repr(probe).splitlines()
    assert lines[0] == f"Probe of GPT: {len(probe.activations)} of {len(list(probe))} modules were called"
    assert f"  h.0.attn         output ({B}, {T}, {C})  attention ({B}, {H}, {T}, {T})  grad" in lines
    assert "never called: unused" in lines and len(lines) < 26
    assert probe.notes["silent"] == ["unused"]
