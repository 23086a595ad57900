"""Hugging Face folders, both ways: what transformers computes, we compute; what we cannot, we refuse by name."""

import copy
import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import test_pieces
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_cases import CASES, theirs, twins
from test_models import ODD, close, gradients, is_transposed, lm, randomise, tokens
from test_models import twins as gpt2_twins

from kakehashi import Mistake, models, runs, source, tokenizers, training
from kakehashi.convert import ConvertError, load_hf, load_tokenizer, save_hf
from kakehashi.convert.config import described, understood
from kakehashi.inference import Engine
from kakehashi.models import gpt2, llama
from kakehashi.runs import Run
from kakehashi.tokenizers import BPETokenizer, CharTokenizer, TokenizerError

SMALL = gpt2.Config(vocab_size=11, block_size=9, n_layers=2, n_heads=2, n_embd=8)
FEW = [
    "wide heads",
    "tied",
    "all biases",
    "yarn sharpened otherwise",
    "mistral",
    "qwen2, tied",
    "qwen2 with a window",
    "llama3",
    "linear",
]


@pytest.fixture(autouse=True)
def no_progress(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def opened(folder: Path):
    from transformers import AutoModelForCausalLM

    model, said = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(said.values()), said  # nothing missing, left over, or of another shape
    return model.eval()


def same_answers(one, other, vocab_size: int, T: int) -> None:
    x = tokens(2, T, vocab_size=vocab_size)
    close(one(x).logits, other(x).logits)


def change(path: Path, **values) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content = {key: value for key, value in (content | values).items() if value != "drop"}
    path.write_text(json.dumps(content), encoding="utf-8")


def rewrite(folder: Path, edit) -> None:
    """The weights with an edit made to their dict."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    edit(weights)
    safetensors.torch.save_file(
        {name: each.contiguous() for name, each in weights.items()}, folder / "model.safetensors"
    )


@pytest.fixture
def folder(tmp_path):
    """A small Llama as a Hugging Face folder."""
    save_hf(randomise(llama.Llama(CASES["a key to three queries"][1]), 0), tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def gpt2_folder(tmp_path):
    save_hf(randomise(gpt2.GPT(SMALL), 0), tmp_path / "hf")
    return tmp_path / "hf"


# --- Both directions ---


@pytest.mark.parametrize(
    "name", [each if each in FEW else pytest.param(each, marks=pytest.mark.slow) for each in CASES]
)
def test_what_transformers_saves_is_read_and_what_we_save_it_opens(name, tmp_path):
    """Config and weights go through both, and come back to the bit."""
    model = theirs(name)
    model.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs")
    config = CASES[name][1]
    assert ours.config == config and not ours.training
    same_answers(ours, model, config.vocab_size, config.block_size)
    save_hf(ours, tmp_path / "ours")
    same_answers(ours, opened(tmp_path / "ours"), config.vocab_size, config.block_size)
    again = load_hf(tmp_path / "ours")
    assert again.config == config
    assert all(value.equal(again.state_dict()[each]) for each, value in ours.state_dict().items())


@pytest.mark.parametrize("name", [*list(ODD)[1:]])
def test_gpt2_goes_both_ways(name, tmp_path):
    ours, model = gpt2_twins(ODD[name])
    model.save_pretrained(tmp_path / "theirs")
    read = load_hf(tmp_path / "theirs")
    assert {**vars(read.config), "dropout": 0.0} == vars(ODD[name])
    same_answers(read, ours, ODD[name].vocab_size, ODD[name].block_size)
    save_hf(ours, tmp_path / "ours")
    same_answers(ours, opened(tmp_path / "ours"), ODD[name].vocab_size, ODD[name].block_size)
    again = load_hf(tmp_path / "ours")
    assert again.config == ODD[name]
    assert all(value.equal(again.state_dict()[each]) for each, value in ours.state_dict().items())


@pytest.mark.parametrize(
    "build", [lambda: gpt2.GPT(SMALL), lambda: llama.Llama(CASES["tied"][1])], ids=["gpt2", "llama"]
)
def test_shards_are_written_and_read(build, tmp_path):
    """Files of at most so many bytes, an index that transformers reads, and its own shards read by us."""
    model = randomise(build(), 0).eval()
    save_hf(model, tmp_path / "ours", shard_bytes=700)
    files = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert len(files) > 3 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    for file in files:
        held = safetensors.torch.load_file(file)
        assert len(held) == 1 or sum(each.nbytes for each in held.values()) <= 700
    again, other = load_hf(tmp_path / "ours"), opened(tmp_path / "ours")
    same_answers(model, again, 11, 9)
    same_answers(model, other, 11, 9)
    other.save_pretrained(tmp_path / "theirs", max_shard_size=700)
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    same_answers(model, load_hf(tmp_path / "theirs"), 11, 9)


def test_the_dtype_is_kept_or_said(tmp_path):
    ours, model = twins("qwen2")
    model.to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    read = load_hf(tmp_path / "bf16")
    assert {each.dtype for each in read.parameters()} == {torch.bfloat16}
    expected = ours.bfloat16().state_dict()
    assert all(value.equal(expected[each]) for each, value in read.state_dict().items())
    said = load_hf(tmp_path / "bf16", torch.float32)
    assert {each.dtype for each in said.parameters()} == {torch.float32}
    save_hf(read, tmp_path / "again")
    assert opened(tmp_path / "again").dtype == torch.bfloat16


def test_what_is_read_can_be_trained(folder):
    model = load_hf(folder)
    loss = model(tokens(2, 5), tokens(2, 5, seed=1)).loss
    loss.backward()
    assert all(each.requires_grad and each.grad.isfinite().all() for each in model.parameters())


# --- Any config ---


def drawn(kind: str, seed: int):
    """Our model of an odd config that transformers' model of that kind has, with random weights, in eval mode."""
    rng = random.Random(f"{kind} {seed}")
    T, V, L = rng.choice([1, 2, 7, 12, 33]), rng.randint(1, 30), rng.randint(1, 3)
    G, shared, eps = rng.randint(1, 3), rng.randint(1, 4), rng.choice([1e-2, 1e-5, 1e-6])
    H = G * shared
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = gpt2.Config(V, T, L, H, H * rng.randint(1, 5), dropout=rng.choice([0.0, 0.1]), eps=eps)
        return randomise(gpt2.GPT(config), seed).eval()
    scalings = [
        None,
        llama.Scaling("linear", rng.choice([1.0, 3.5])),
        llama.Scaling("llama3", 8.0, rng.choice([4, 9]), 0.5, 3.0),
        llama.Scaling("yarn", rng.choice([1.0, 4.0]), rng.choice([4, 30]), 0.5, 4.0, rng.choice([None, 0.7])),
    ]
    more = {
        "theta": rng.choice([20.0, 1e4, 5e5]),
        "scaling": rng.choice(scalings),
        "eps": eps,
        "tied": rng.random() < 0.5,
    }
    if kind == "llama":
        biases = rng.random() < 0.5
        more |= {"qkv_bias": biases, "out_bias": biases, "mlp_bias": rng.random() < 0.5}
    elif kind == "mistral":
        more |= {"window": rng.choice([2, max(2, T - 1), T + 1, T + 9])}  # of 1, transformers' own cache is another's
    else:
        more |= {"window": rng.choice([None, 2, max(2, T - 1), T + 1]), "qkv_bias": True}
    D = 2 * rng.randint(1, 6)
    C = H * rng.randint(1, 4) if kind == "llama" or rng.random() < 0.5 else rng.randint(3, 20)
    config = llama.Config(V, T, L, H, G, C, rng.randint(1, 20), D, **more)
    return randomise(llama.Llama(config), seed).eval()


def differences(ours, theirs, seed: int):
    """How far logits, losses and gradients are apart, relative where they are above 1: from one token up to the most,
    padded at the left and at the right, and token by token with state.
    """
    V, most = ours.config.vocab_size, ours.config.block_size
    is_gpt2 = isinstance(ours, gpt2.GPT)

    def apart(one, other):
        return ((one - other).abs() / (1 + other.abs())).max().item() if one.numel() else 0.0

    for T in {1, most}:
        x, y = (tokens(3, T, seed=seed + i, vocab_size=V) for i in (0, 1))
        lengths = torch.tensor([T, max(1, T // 2), max(1, T - 1)])
        whole, left = torch.ones(3, T, dtype=torch.bool), torch.arange(T) >= T - lengths[:, None]
        for pad in (whole, left, left.flip(1)):
            positions = (pad.long().cumsum(1) - 1).clamp(min=0)
            targets = y.masked_fill(~pad, -100)
            mine = ours(x, targets, pad=None if pad is whole else pad)
            logits = theirs(x, attention_mask=pad.long(), position_ids=positions, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            yield apart(mine.logits[pad], logits[pad])
            yield apart(mine.loss, loss)
            found, expected = gradients(ours, mine.loss), gradients(theirs, loss)
            for name, gradient in found.items():
                prefix = "" if name == "lm_head.weight" else "transformer." if is_gpt2 else "model."
                other = expected[prefix + name]
                yield apart(gradient, other.T if is_gpt2 and is_transposed(name) else other)
        for pad in (whole, left):
            state, cache = ours.new_state(3), None
            positions = (pad.long().cumsum(1) - 1).clamp(min=0)
            for end in range(1, T + 1):
                one = ours(x[:, end - 1 : end], state=state, pad=None if pad is whole else pad[:, :end]).logits
                said = {"attention_mask": pad[:, :end].long(), "position_ids": positions[:, end - 1 : end]}
                other = theirs(x[:, end - 1 : end], past_key_values=cache, use_cache=True, **said)
                cache = other.past_key_values
                real = pad[:, end - 1]
                yield apart(one[real], other.logits[real])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama", "mistral", "qwen2"])
def test_any_odd_config_goes_through_folders_and_computes_alike(kind, tmp_path):
    worst = 0.0
    for seed in range(20):
        model = drawn(kind, seed)
        save_hf(model, tmp_path / f"ours-{seed}")
        theirs = opened(tmp_path / f"ours-{seed}")
        theirs.set_attn_implementation("eager")
        theirs.save_pretrained(tmp_path / f"theirs-{seed}")
        again = load_hf(tmp_path / f"theirs-{seed}")
        assert again.config == model.config
        assert all(value.equal(again.state_dict()[name]) for name, value in model.state_dict().items())
        worst = max(worst, *differences(again, theirs, seed))
        assert worst < 1e-4, (seed, model.config)


@pytest.mark.parametrize("name", ["a key to three queries", "yarn", "qwen2, tied", "gpt2"])
def test_bfloat16_is_as_near_to_exact_numbers_as_transformers_is(name, tmp_path):
    """Both round a hundred times on the way, at other places: each is as far from float64 as the other, up to luck."""
    theirs_ = gpt2_twins(SMALL)[1] if name == "gpt2" else theirs(name)
    theirs_.bfloat16().save_pretrained(tmp_path / "half")
    ours = load_hf(tmp_path / "half")
    save_hf(ours, tmp_path / "again")
    x = tokens(8, ours.config.block_size, vocab_size=ours.config.vocab_size)
    exact = load_hf(tmp_path / "half", torch.float64)(x).logits

    def far(model):
        logits = model(x).logits
        assert logits.dtype == torch.bfloat16
        return (logits - exact).norm()

    for one in (ours, load_hf(tmp_path / "again")):
        assert far(one) < 3 * far(opened(tmp_path / "half"))


# --- Older files ---


def test_gpt2s_own_files_are_read(gpt2_folder):
    """As they lie on the hub: no prefix, masks among the weights, a head that repeats the embedding."""
    expected = load_hf(gpt2_folder)

    def age(weights):
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        for layer in range(2):
            weights[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 9, 9).tril()
            weights[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        weights["lm_head.weight"] = weights["wte.weight"].clone()

    rewrite(gpt2_folder, age)
    change(gpt2_folder / "config.json", n_ctx=9, task_specific_params={"text-generation": {}}, torch_dtype="drop")
    same_answers(load_hf(gpt2_folder), expected, 11, 9)


def test_llamas_older_files_are_read(folder):
    """Frequencies among the weights, a scaling whose kind is called "type", no head_dim and no theta."""
    expected = load_hf(folder)
    rewrite(folder, lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}))
    change(folder / "config.json", head_dim="drop", rope_theta="drop", pretraining_tp=1)
    same_answers(load_hf(folder), expected, 11, 9)
    change(folder / "config.json", head_dim=None, rope_theta=None)
    same_answers(load_hf(folder), expected, 11, 9)
    change(folder / "config.json", rope_scaling={"type": "linear", "factor": 2.0})
    assert load_hf(folder).config.scaling == llama.Scaling("linear", 2.0)


def test_deepseeks_way_to_say_how_sharp_yarn_is_means_what_transformers_makes_of_it(folder):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    said = {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
    said |= {"mscale": 1.0, "mscale_all_dim": 0.5}
    _, sharpen = ROPE_INIT_FUNCTIONS["yarn"](LlamaConfig(rope_scaling=said, rope_theta=1e4))
    change(folder / "config.json", rope_scaling=said)
    assert load_hf(folder).config.scaling.sharpen == pytest.approx(sharpen)


@pytest.mark.parametrize("name", ["all biases", "yarn", "llama3", "mistral", "qwen2 with a window", "gpt2"])
def test_what_a_config_leaves_out_is_what_transformers_assumes(name, tmp_path):
    """Each key, RoPE's own too, is taken away in turn: we read what transformers would, or say which key is missing."""
    from transformers import AutoConfig

    model = gpt2_twins(SMALL)[1] if name == "gpt2" else theirs(name)
    model.config.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    rope = content.get("rope_parameters", {})
    without = {key: {each: content[each] for each in content if each != key} for key in content.keys() - {"model_type"}}
    for key in rope.keys() - {"rope_type"}:
        without[key] = content | {"rope_parameters": {each: rope[each] for each in rope if each != key}}
    read = 0
    for key, less in without.items():
        try:
            found = understood(copy.deepcopy(less), "it")  # transformers changes what it is given
        except ConvertError as error:  # the usual number of key heads does not fit to every number of heads
            assert f"does not say {key}" in str(error) or key == "num_key_value_heads"
            continue
        assert found[1] == understood(AutoConfig.for_model(**less).to_dict(), "it")[1], key
        read += 1
    assert read > 10


COMMON = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.0",
    "use_cache": True,
}
COMMON |= {"initializer_range": 0.02, "hidden_act": "silu", "tie_word_embeddings": False, "attention_dropout": 0.0}
SMOL = COMMON | {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}}
# a published model's preset: its config.json, with the keys that lie there
PUBLISHED = {
    "gpt2-small": {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "_num_labels": 1,
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
    "llama-2-7b": SMOL
    | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "vocab_size": 32000,
    },
    "llama-3.2-1b": COMMON
    | {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "eos_token_id": [128001, 128008, 128009],
        "attention_bias": False,
        "head_dim": 64,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    },
    "mistral-7b": COMMON
    | {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "vocab_size": 32000,
    },
    "qwen2-0.5b": COMMON
    | {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_position_embeddings": 131072,
        "max_window_layers": 24,
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_the_presets(name):
    family = models.find(name)
    preset = family.presets[name]
    assert understood(PUBLISHED[name], "it")[1] == (replace(preset, dropout=0.1) if family.name == "gpt2" else preset)


# --- What does not fit is named ---


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda w: w.pop("model.norm.weight"), "lacks the weight norm.weight"),
        (lambda w: [w.pop(each) for each in list(w)[:3]], "lacks the weight .* and 2 more"),
        (
            lambda w: w.update({"base.norm.weight": w.pop("model.norm.weight")}),
            "lacks the weight norm.weight, and has a weight that is not the model's: base.norm.weight",
        ),
        (lambda w: w.update({"model.layers.9.mlp.extra": torch.ones(2)}), "not the model's: layers.9.mlp.extra"),
        (lambda w: w.update({"model.norm.weight": torch.ones(23)}), r"norm.weight is \(23,\), .* \(24,\)"),
        (
            lambda w: w.update({"model.norm.weight": torch.ones(24).half()}),
            "of one dtype, got .*norm.weight in float16",
        ),
        (lambda w: w.update({"model.norm.weight": torch.ones(24, dtype=torch.int8)}), "norm.weight is torch.int8"),
        (lambda w: w.update({"norm.weight": torch.ones(24)}), "norm.weight, which was there before"),
    ],
    ids=["missing", "three missing", "renamed", "extra", "shape", "dtypes", "integers", "twice"],
)
def test_a_weight_that_does_not_fit_is_named(folder, edit, message):
    rewrite(folder, edit)
    with pytest.raises(ConvertError, match=message) as caught:
        load_hf(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_linear_map_that_lies_the_other_way_is_named(gpt2_folder):
    """GPT-2's lie as (in, out): its file with (out, in) is of another shape."""
    rewrite(gpt2_folder, lambda w: w.update({"transformer.h.0.mlp.c_fc.weight": torch.ones(32, 8)}))
    with pytest.raises(ConvertError, match=r"h.0.mlp.c_fc.weight is \(8, 32\), .* \(32, 8\)"):
        load_hf(gpt2_folder)


def test_a_tied_head_that_is_another_matrix_is_named(gpt2_folder):
    rewrite(gpt2_folder, lambda w: w.update({"lm_head.weight": w["transformer.wte.weight"] + 1}))
    with pytest.raises(ConvertError, match="lm_head.weight is not wte.weight"):
        load_hf(gpt2_folder)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model_type": "bloom"}, "model_type must be one of gpt2, llama, mistral, qwen2, got 'bloom'"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "got .'LlamaForSequenceClassification'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1"),
        ({"hidden_size": "drop"}, "does not say hidden_size"),
        ({"hidden_size": 23}, r"embed_tokens.weight is \(11, 24\), .* \(11, 23\)"),
        ({"hidden_size": 24.5}, "n_embd must be a whole number, got 24.5"),
        ({"hidden_size": True}, "n_embd must be a whole number, got True"),
        ({"vocab_size": 10**30}, "vocab_size must be below 2147483648, got 10000"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings must be true or false, got 'false'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "factor of Scaling must be at least 1, got 0.5"),
        ({"num_key_value_heads": 4}, "n_heads must be a multiple of n_kv_heads, got 6 and 4"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}, which our model does not compute"),
        ({"logit_scale": 0.5}, "logit_scale is 0.5, which our model does not compute"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic', which turns by the length read so far"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "'longrope', which turns by the length read so far"),
        ({"rope_scaling": {"rope_type": "su", "factor": 2.0}}, "rope_type must be .* got 'su'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "RoPE does not say factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mscale": 2.0}}, "RoPE: mscale is 2.0"),
        ({"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "truncate": False}}, "truncate is False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_we_do_not_compute_is_refused_by_name(folder, values, message):
    change(folder / "config.json", **values)
    with pytest.raises(ConvertError, match=message) as caught:
        load_hf(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(max_examples=100)
@given(data=st.data(), name=st.sampled_from(["yarn", "llama3", "qwen2 with a window", "mistral"]), value=JSON)
def test_whatever_a_config_says_it_is_understood_or_refused_in_a_line(data, name, value):
    config = CASES[name][1]
    content = described(models.find("llama"), config)
    places = [content, *([content["rope_scaling"]] if config.scaling else [])]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from(list(place)))] = value
    try:
        understood(content, "it")
    except ConvertError as error:
        assert "\n" not in str(error) and str(error).startswith("it")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"n_inner": 16}, "n_inner is 16"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"attn_pdrop": 0.5}, "must be equal, got .*0.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_gpt2_that_we_do_not_compute_is_refused_by_name(gpt2_folder, values, message):
    change(gpt2_folder / "config.json", **values)
    with pytest.raises(ConvertError, match=message):
        load_hf(gpt2_folder)


def test_layers_that_are_not_alike_are_refused(tmp_path):
    save_hf(llama.Llama(CASES["qwen2 with a window"][1]), tmp_path / "hf")
    change(tmp_path / "hf" / "config.json", max_window_layers=1)
    with pytest.raises(ConvertError, match="layer_types mixes full_attention and sliding_attention"):
        load_hf(tmp_path / "hf")


def test_files_that_cannot_be_read_are_named(folder, tmp_path):
    def says(message):
        with pytest.raises(ConvertError, match=message) as caught:
            load_hf(folder)
        assert "\n" not in str(caught.value)

    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-8])
    says("cannot read .*model.safetensors")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    says("cannot read .*model.safetensors: .* run git lfs pull")
    (folder / "model.safetensors").unlink()
    says("has no model.safetensors$")
    (folder / "pytorch_model.bin").write_bytes(b"")
    says("pickled weights .* are not opened")
    index = folder / "model.safetensors.index.json"
    for content, message in [
        ("{", "is not JSON"),
        ('{"metadata": {}}', "no weight_map"),
        (
            '{"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}',
            "'../elsewhere.safetensors' is not a file",
        ),
        ('{"weight_map": {"model.norm.weight": "gone.safetensors"}}', "cannot read .*gone.safetensors"),
    ]:
        index.write_text(content, encoding="utf-8")
        says(message)
    (folder / "config.json").write_text("\ufeff[]", encoding="utf-8")  # as some editors write
    says("must hold an object")
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    says("is not JSON: maximum recursion depth")
    (folder / "config.json").unlink()
    says("cannot read .*config.json")


# --- What is saved ---


def test_a_learners_own_model_is_saved_as_the_reference(tmp_path):
    """By its names and shapes, not by its class."""
    text = (
        source.read(models.find("gpt2").path)
        .replace("class GPT(", "class Mine(")
        .replace("Model = GPT", "Model = Mine")
    )
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    mine = source.load(tmp_path / "mine.py")
    model = randomise(mine.Model(mine.Config(**vars(SMALL))), 0).eval()
    save_hf(model, tmp_path / "hf")
    same_answers(model, opened(tmp_path / "hf"), 11, 9)
    del model.h[1].mlp.c_fc.bias
    with pytest.raises(ConvertError, match="Mine lacks the weight h.1.mlp.c_fc.bias"):
        save_hf(model, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["bigram", "recurrent"])
def test_a_model_without_a_layout_is_refused(name, tmp_path):
    with pytest.raises(ConvertError, match="has no Hugging Face layout: gpt2 and llama have one"):
        save_hf(lm(name), tmp_path / "hf")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"out_bias": True}, "has no out_bias True|qkv_bias"),
        ({"qkv_bias": True, "mlp_bias": True}, "has no mlp_bias True"),
        ({"window": 3, "mlp_bias": True}, "has no mlp_bias True"),
        ({"n_embd": 9, "head_dim": 4}, "n_embd to be a multiple of n_heads, got 9 and 2"),
        ({"scaling": llama.Scaling("linear", 2.0, sharpen=2.0)}, "has no scaling"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_config_that_no_architecture_has_is_refused(values, message, tmp_path):
    config = llama.Config(**vars(CASES["one head"][1]) | {"n_embd": 8, "n_heads": 2, "head_dim": 4} | values)
    with pytest.raises(ConvertError, match=message):
        save_hf(llama.Llama(config), tmp_path / "hf")


def test_nothing_is_written_over_another_model(folder):
    with pytest.raises(ConvertError, match="is not empty: choose a new folder"):
        save_hf(llama.Llama(CASES["tied"][1]), folder)
    (folder / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConvertError, match="cannot write in"):
        save_hf(llama.Llama(CASES["tied"][1]), folder / "file")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("most", [100, 20_000])  # too little for the tokenizer, for the weights
def test_what_could_not_be_written_leaves_nothing(most, tmp_path):
    """A full disk, at whatever file; then there is room again."""
    import resource

    model = randomise(llama.Llama(replace(CASES["tied"][1], n_hidden=400)), 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(Mistake, match="cannot write .*free some space"):
            save_hf(model, tmp_path / "hf", BPETokenizer.train(["ab"], 258))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "hf").iterdir())
    save_hf(model, tmp_path / "hf")
    load_hf(tmp_path / "hf")


# --- Runs ---

TOKENIZER = CharTokenizer.train(["abcdefgh .\n"])


@pytest.fixture
def with_tokenizer(tmp_path):
    config = llama.Config(**vars(CASES["mistral"][1]) | {"vocab_size": TOKENIZER.vocab_size, "block_size": 16})
    model = randomise(llama.Llama(config), 0)
    save_hf(model, tmp_path / "hf", TOKENIZER)
    return tmp_path / "hf", model.eval()


def test_a_folder_is_a_model_wherever_one_is_taken(with_tokenizer):
    folder, model = with_tokenizer
    found = runs.resolve(folder)
    assert found.family.name == "llama" and found.config == model.config and found.codec == TOKENIZER
    same_answers(found.model, model, TOKENIZER.vocab_size, 16)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["eos_token_id"] == TOKENIZER.end


def test_a_folder_becomes_a_run_that_writes_the_same(with_tokenizer, tmp_path):
    folder, model = with_tokenizer
    run = Run.from_hf(folder, tmp_path / "runs")
    assert run.name == "llama-hf-0001" and run.private and run.family.name == "llama"
    again = Run.open(run.path)
    texts = [
        Engine(each, TOKENIZER).generate(["abc", ""], max_tokens=9, seed=1) for each in (model, again.load_model())
    ]
    assert texts[0] == texts[1] and again.summary()["val_loss"] is None
    assert Run.from_hf(folder, tmp_path, "named").path == tmp_path / "named"


@pytest.mark.parametrize("pattern", ["gpt2", "llama3"])
def test_a_bpe_is_written_as_transformers_reads_it(tmp_path, pattern):
    text = "the cat sat on the mat; 架け橋 it's 1234567\n"
    bpe = BPETokenizer.train([text * 9], 300, pattern=pattern, special=["<|fin|>"])
    bpe = replace(bpe, end=bpe.special["<|fin|>"])  # not the one that is taken where nothing is said
    save_hf(llama.Llama(replace(CASES["mistral"][1], vocab_size=bpe.vocab_size)), tmp_path / "hf", bpe)
    assert load_tokenizer(tmp_path / "hf") == runs.resolve(tmp_path / "hf").codec == bpe
    assert Run.from_hf(tmp_path / "hf", tmp_path / "runs").tokenizer == bpe
    peer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert peer(text)["input_ids"] == bpe.encode(text) and peer.eos_token_id == peer.bos_token_id == bpe.end


SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]


@pytest.fixture
def llama3(tmp_path):
    """A folder as Llama 3's are: a text begins and ends with tokens of their own. Its model, and its tokenizer."""
    bpe = BPETokenizer.train(["the cat sat on the mat; " * 9], 290, pattern="llama3", special=SPECIAL)
    bpe = replace(bpe, bos=bpe.special[SPECIAL[0]], end=bpe.special[SPECIAL[1]], stops=(bpe.special[SPECIAL[2]],))
    config = replace(CASES["a key to three queries"][1], vocab_size=bpe.vocab_size, block_size=40)
    torch.manual_seed(0)
    model = randomise(llama.Llama(config), 0).eval()
    save_hf(model, tmp_path / "llama3", bpe)
    return tmp_path / "llama3", model, bpe


@pytest.mark.parametrize("template", [True, False])
@pytest.mark.parametrize("said", [{}, {"add_bos_token": True}, {"add_bos_token": False}], ids=str)
def test_what_stands_before_a_text_is_what_transformers_puts_there(said, template, llama3):
    folder, _, bpe = llama3
    assert load_tokenizer(folder) == bpe
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["bos_token_id"], config["eos_token_id"]) == (bpe.begin, list(bpe.ends))
    change(folder / "tokenizer_config.json", **said)
    if not template:
        change(folder / "tokenizer.json", post_processor=None)
    found = load_tokenizer(folder)
    peer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    assert peer("the cat")["input_ids"] == ([found.begin] if template else []) + found.encode("the cat")
    assert found.begin == (bpe.begin if template else bpe.end)


@pytest.mark.parametrize("place", ["config.json", "generation_config.json"])
def test_texts_are_written_as_transformers_writes_them(place, llama3, tmp_path):
    """Greedily, from the beginning to any of several ends."""
    transformers = pytest.importorskip("transformers")
    folder, model, bpe = llama3
    (free,) = Engine(model, bpe).generate(["the cat"], max_tokens=12, temperature=0)
    assert free.reason == "length"
    stop = next(token for i, token in enumerate(free.tokens) if i > 3 and token not in free.tokens[:i])
    said = {"eos_token_id": [bpe.end, stop], "bos_token_id": bpe.begin}
    if place == "generation_config.json":
        (folder / place).write_text("{}", encoding="utf-8")
    change(folder / place, **said)
    run = Run.from_hf(folder, tmp_path / "runs")
    (ours,) = Engine(run.load_model(), run.tokenizer).generate(["the cat"], max_tokens=12, temperature=0)
    ids = transformers.AutoTokenizer.from_pretrained(folder)("the cat", return_tensors="pt")["input_ids"]
    theirs = opened(folder).generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=bpe.end)
    assert theirs[0, ids.shape[1] :].tolist() == list(ours.tokens) == list(free.tokens[: free.tokens.index(stop) + 1])
    assert ours.reason == "end" and ours.text == bpe.decode(ours.tokens[:-1])


def test_an_end_that_is_no_number_is_refused(llama3):
    folder, _, bpe = llama3
    change(folder / "config.json", eos_token_id=[bpe.end, 99999, -1])
    assert load_tokenizer(folder).stops == (), "what is no token is never drawn"
    change(folder / "config.json", eos_token_id="</s>")
    with pytest.raises(ConvertError, match="eos_token_id must be the number of a token, or several, got '</s>'"):
        load_tokenizer(folder)


def test_sentencepieces_bpe_is_written_as_transformers_reads_it(folder, tmp_path):
    pieces = test_pieces.ours()
    model = randomise(llama.Llama(replace(CASES["mistral"][1], vocab_size=pieces.vocab_size, block_size=40)), 0).eval()
    save_hf(model, tmp_path / "out", pieces)
    run = Run.from_hf(tmp_path / "out", tmp_path / "runs")
    assert run.tokenizer == load_tokenizer(tmp_path / "out") == pieces
    peer = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path / "out")
    assert peer("the  cat 架け橋")["input_ids"] == [pieces.begin, *pieces.encode("the  cat 架け橋")]
    (completion,) = Engine(run.load_model(), run.tokenizer).generate(["the cat"], max_tokens=9, seed=1)
    assert completion.text == pieces.decode([*pieces.encode("the cat"), *completion.tokens])[len("the cat") :]
    assert "".join(Engine(model, pieces).stream("the cat", max_tokens=9, seed=1)) == completion.text


def test_a_vocabulary_that_is_filled_up_is_sampled_trained_and_saved_again(tmp_path):
    """As Qwen2's: the model has more rows than there are tokens."""
    bpe = BPETokenizer.train(["the cat sat on the mat; " * 9], 290, pattern="qwen2", special=["<|endoftext|>"])
    config = replace(CASES["qwen2, tied"][1], vocab_size=bpe.vocab_size + 20, block_size=16)
    save_hf(randomise(llama.Llama(config), 0), tmp_path / "hf", bpe)
    start = Run.from_hf(tmp_path / "hf", tmp_path / "runs")
    (completion,) = Engine(start.load_model(), start.tokenizer).generate(["the"], max_tokens=30, temperature=3.0)
    assert max(completion.tokens) < bpe.vocab_size
    (tmp_path / "text.txt").write_text("the cat sat on the mat; " * 40, encoding="utf-8")
    plan = training.plan(None, tmp_path / "text.txt", from_run=start.path, steps=2, batch_size=2)
    run = training.train(plan.config, plan.create(tmp_path), sources=plan.sources)
    save_hf(run.load_model(), tmp_path / "again", run.tokenizer)
    assert load_hf(tmp_path / "again").config == config and load_tokenizer(tmp_path / "again") == bpe


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(llama3, tmp_path):
    folder, _, bpe = llama3
    tokenizers.save(BPETokenizer.train(["ab"], 300, special=[f"<{i}>" for i in range(40)]), folder, "hf")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(Mistake, match=rf"the tokenizer has \d+ tokens, and the model knows {bpe.vocab_size}"):
        Run.from_hf(folder, tmp_path / "runs")


def test_gpt2s_pair_of_files_is_read(folder):
    bpe = BPETokenizer.train(["ab ab abc"], 259)
    tokenizers.save(bpe, folder, "gpt2")
    assert load_tokenizer(folder) == bpe


def test_a_tokenizer_that_we_have_not_leaves_a_model_but_no_run(folder, tmp_path):
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}', encoding="utf-8")
    assert runs.resolve(folder).codec is None
    with pytest.raises(TokenizerError, match="Unigram"):
        Run.from_hf(folder, tmp_path / "runs")


def test_a_run_can_begin_with_its_weights(with_tokenizer, tmp_path):
    folder, model = with_tokenizer
    (tmp_path / "text.txt").write_text("abc def gh.\n" * 40, encoding="utf-8")
    start = Run.from_hf(folder, tmp_path)
    plan = training.plan(None, tmp_path / "text.txt", from_run=start.path, steps=2, batch_size=2)
    assert plan.config.data.private
    run = plan.create(tmp_path)
    same_answers(run.load_model(), model, TOKENIZER.vocab_size, 16)
    assert training.train(plan.config, run, sources=plan.sources).summary()["step"] == 2


def test_what_is_no_run_and_no_folder_is_told(with_tokenizer, tmp_path):
    folder, _ = with_tokenizer
    with pytest.raises(
        Mistake, match="is a Hugging Face folder, not a run: `kakehashi convert .* --to run` makes a run"
    ):
        Run.open(folder)
    with pytest.raises(Mistake, match="nowhere is not a Hugging Face folder: it has no config.json"):
        Run.from_hf(tmp_path / "nowhere")
    run = Run.from_hf(folder, tmp_path)
    with pytest.raises(Mistake, match="learnt elsewhere, from what is not known"):
        training.open_sources(run.config, run.codec)


def test_a_run_of_bfloat16_weights_is_in_float32(with_tokenizer, tmp_path):
    _, model = with_tokenizer
    save_hf(model.bfloat16(), tmp_path / "half", TOKENIZER)
    assert {each.dtype for each in Run.from_hf(tmp_path / "half", tmp_path).load_model().parameters()} == {
        torch.float32
    }


def test_a_folder_without_a_tokenizer_is_a_model_but_no_run(folder, tmp_path):
    assert load_tokenizer(folder) is None and runs.resolve(folder).codec is None
    with pytest.raises(Mistake, match="has no tokenizer"):
        Run.from_hf(folder, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def kakehashi(*arguments, check: int, cwd: Path):
    done = subprocess.run(
        [sys.executable, "-m", "kakehashi", *map(str, arguments), "--json"],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == check, done.stderr
    return done


@pytest.mark.slow
def test_the_command_goes_both_ways_and_lets_nothing_private_out_unseen(with_tokenizer, tmp_path):
    folder, _ = with_tokenizer
    made = json.loads(kakehashi("convert", folder, "--to", "run", check=0, cwd=tmp_path).stdout)["run"]
    (tmp_path / made / "samples.md").write_text("# what it writes\n", encoding="utf-8")
    refused = kakehashi("convert", made, "--to", "hf", "out", check=2, cwd=tmp_path)
    assert str(folder) in refused.stderr and "what it writes" in refused.stderr and "--i-reviewed" in refused.stderr
    assert refused.stderr.startswith("error: nothing was written") and not (tmp_path / "out").exists()
    done = kakehashi("convert", made, "--to", "hf", "out", "--i-reviewed", check=0, cwd=tmp_path)
    assert "no tokenizer for transformers" in done.stderr, "one token a character"
    one, other = (safetensors.torch.load_file(each / "model.safetensors") for each in (folder, tmp_path / "out"))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    for wrong, words in ((["--to", "gguf", "x"], "gguf"), (["--to", "hf"], "DIR")):
        assert re.search(words, kakehashi("convert", made, *wrong, check=2, cwd=tmp_path).stderr)
