"""config.json in our words, and our Config in theirs."""

import math
from collections.abc import Mapping
from typing import Any

from kakehashi import models
from kakehashi.convert.files import ConvertError
from kakehashi.models.protocol import Family

KINDS = {  # model_type: our file, and the one architecture that is a language model
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("llama", "MistralForCausalLM"),
    "qwen2": ("llama", "Qwen2ForCausalLM"),
}
RATES = ("resid_pdrop", "embd_pdrop", "attn_pdrop")  # GPT-2's three dropouts, one in our Config
SIZES = {  # our Config's field: the key of config.json
    "gpt2": {
        "vocab_size": "vocab_size",
        "block_size": "n_positions",
        "n_layers": "n_layer",
        "n_heads": "n_head",
        "n_embd": "n_embd",
        "eps": "layer_norm_epsilon",
    },
    "llama": {
        "vocab_size": "vocab_size",
        "block_size": "max_position_embeddings",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "n_embd": "hidden_size",
        "n_hidden": "intermediate_size",
        "eps": "rms_norm_eps",
    },
}
BROKEN = ("eps", "theta", "dropout")  # fields that need not be whole
FLAGS = ("tied", "qkv_bias", "out_bias", "mlp_bias")
MOST = 2**31  # below it all sizes lie
SHOWN = 80  # characters of a value in a message
# Keys of config.json that change no number that a model gives for its tokens; nor do those that begin with _
HARMLESS = """
    bos_token_id chunk_size_feed_forward do_sample dtype early_stopping eos_token_id finetuning_task
    gradient_checkpointing id2label initializer_range is_llama_config label2id length_penalty max_length
    max_sequence_length min_length model_type n_ctx no_repeat_ngram_size num_beams num_labels num_return_sequences
    output_attentions output_hidden_states output_past pad_token_id prefix pretraining_tp problem_type
    repetition_penalty return_dict summary_activation summary_first_dropout summary_proj_to_labels summary_type
    summary_use_proj task_specific_params temperature tokenizer_class top_k top_p torch_dtype torchscript
    transformers.js_config transformers_version unsloth_fixed unsloth_version use_bfloat16 use_cache
""".split()


class _Said:
    """What a config.json says, taken key by key, so that what nobody asked for is left over."""

    def __init__(self, place: str, values: Mapping[str, Any]):
        self.place = place
        self.values = dict(values)

    def take(self, key: str, default: Any = None) -> Any:
        """The value; `default` where the key is not there."""
        return self.values.pop(key, default)

    def need(self, key: str) -> Any:
        if (value := self.take(key)) is None:
            raise ConvertError(f"{self.place} does not say {key}")
        return value

    def must(self, key: str, *computed: Any) -> None:
        """Refuse a value that is none of those we compute."""
        if (value := self.take(key)) is not None and value not in computed:
            raise ConvertError(f"{self.place}: {key} is {_short(value)}, and our model computes {computed[0]!r} alone")

    def flag(self, key: str) -> bool:
        """Whether the key is true. Refuses what is no truth value: "false" is not."""
        if type(value := self.take(key, False)) not in (bool, type(None)):
            raise ConvertError(f"{self.place}: {key} must be true or false, got {_short(value)}")
        return bool(value)

    def done(self) -> None:
        """Refuse what is left over, but for what says nothing."""
        for key, value in self.values.items():
            if value is not None and key not in HARMLESS and not key.startswith("_"):
                raise ConvertError(f"{self.place}: {key} is {_short(value)}, which our model does not compute")


def _short(value: Any) -> str:
    return repr(value)[:SHOWN]


def understood(content: Mapping[str, Any], place: str) -> tuple[Family, Any]:
    """The model file that computes what a config.json describes, and its Config."""
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConvertError(f"{place}: model_type must be one of {', '.join(KINDS)}, got {kind!r}")
    family = models.find(KINDS[kind][0])
    try:
        return family, _config(family, kind, _Said(place, content))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConvertError(f"{place}: {error}") from error


def _config(family: Family, kind: str, said: _Said) -> Any:
    architecture = KINDS[kind][1]
    if (given := said.take("architectures") or [architecture]) != [architecture]:
        raise ConvertError(f"{said.place}: architectures must be {[architecture]}, a language model, got {given}")
    said.must("is_encoder_decoder", False)
    said.must("pruned_heads", {})
    values = {ours: said.need(theirs) for ours, theirs in SIZES[family.name].items()}
    values |= _gpt2_values(said, values) if kind == "gpt2" else _llama_values(said, kind, values)
    said.done()
    for name, value in values.items():
        if value is None or name in FLAGS or name == "scaling":
            continue
        if type(value) is not int and not (name in BROKEN and type(value) is float):
            kind = "number" if name in BROKEN else "whole number"
            raise ConvertError(f"{said.place}: {name} must be a {kind}, got {_short(value)}")
        if value >= MOST and name != "theta":
            raise ConvertError(f"{said.place}: {name} must be below {MOST}, got {_short(value)}")
    return family.Config(**values)


def _gpt2_values(said: _Said, sizes: Mapping[str, Any]) -> dict[str, Any]:
    said.must("activation_function", "gelu_new", "gelu_pytorch_tanh")  # two names of the tanh form
    said.must("n_inner", 4 * sizes["n_embd"])
    said.must("scale_attn_weights", True)
    said.must("scale_attn_by_inverse_layer_idx", False)
    said.must("add_cross_attention", False)
    said.must("tie_word_embeddings", True)
    said.take("reorder_and_upcast_attn")  # the same numbers by other steps
    rates = [said.take(key, 0.1) for key in RATES]
    if len(set(rates)) > 1:
        raise ConvertError(f"{said.place}: {', '.join(RATES)} must be equal, got {rates}")
    return {"dropout": rates[0]}


def _llama_values(said: _Said, kind: str, sizes: Mapping[str, Any]) -> dict[str, Any]:
    said.must("hidden_act", "silu")
    said.must("attention_dropout", 0)
    said.must("rope_interleaved", False)
    said.must("use_mrope", False)
    values = {
        "n_kv_heads": said.take("num_key_value_heads", {"llama": None, "mistral": 8, "qwen2": 32}[kind]),
        "head_dim": said.take("head_dim"),
        "tied": said.flag("tie_word_embeddings"),
        "qkv_bias": kind == "qwen2" or said.flag("attention_bias"),
    }
    if kind == "llama":
        values |= {"out_bias": values["qkv_bias"], "mlp_bias": said.flag("mlp_bias")}
    elif kind == "mistral":
        values["window"] = said.take("sliding_window", 4096)
    else:
        values["window"] = _qwen2_window(said, sizes["n_layers"])
    theta = said.take("rope_theta")
    # transformers 5 says rope_parameters, 4 rope_theta and rope_scaling
    ropes = [said.take(key) for key in ("rope_scaling", "rope_parameters")]
    rope = _Said(f"{said.place}: RoPE", ropes[0] or ropes[1] or {})
    theta = rope.take("rope_theta", theta)
    values["theta"] = 10000.0 if theta is None else theta
    values["scaling"] = _scaling(rope, sizes["block_size"])
    rope.done()
    return values


def _qwen2_window(said: _Said, n_layers: int) -> int | None:
    """The window of all layers; a window in some of them is refused."""
    used, window = said.flag("use_sliding_window"), said.take("sliding_window", 4096)
    first = said.take("max_window_layers", 28)  # the layers from this one on have the window
    types = said.take("layer_types")
    if types is None:
        types = ["sliding_attention" if used and i >= first else "full_attention" for i in range(n_layers)]
    if len(set(types)) > 1:
        raise ConvertError(f"{said.place}: layer_types mixes {' and '.join(sorted(set(types)))}; our layers are alike")
    return window if used and types[0] == "sliding_attention" else None


def _scaling(rope: _Said, block_size: int) -> Any:
    """RoPE's scaling; None for none."""
    older = rope.take("type")
    kind = rope.take("rope_type") or older or "default"
    rope.must("partial_rotary_factor", 1)
    Scaling = models.find("llama").module.Scaling
    if kind == "default":
        return None
    if kind == "linear":
        return Scaling(kind, rope.need("factor"))
    if kind in ("dynamic", "longrope"):
        raise ConvertError(
            f"{rope.place}: rope_type is {kind!r}, which turns by the length read so far, and cached keys turned by a "
            f"shorter one: we compute default, linear, llama3 and yarn"
        )
    if kind not in ("llama3", "yarn"):
        raise ConvertError(f"{rope.place}: rope_type must be default, linear, llama3 or yarn, got {kind!r}")
    factor = rope.need("factor")
    trained = rope.take("original_max_position_embeddings") or block_size
    if kind == "llama3":
        return Scaling(kind, factor, trained, rope.need("low_freq_factor"), rope.need("high_freq_factor"))
    rope.must("truncate", True)
    slow, fast = rope.take("beta_slow") or 1.0, rope.take("beta_fast") or 32.0
    sharpen, *scales = (rope.take(key) for key in ("attention_factor", "mscale", "mscale_all_dim"))
    if sharpen is None and all(scales):  # DeepSeek's way to say it
        sharpen = (0.1 * scales[0] * math.log(factor) + 1) / (0.1 * scales[1] * math.log(factor) + 1)
    return Scaling(kind, factor, trained, slow, fast, sharpen)


def described(family: Family, config: Any) -> dict[str, Any]:
    """config.json of a model. Raises ConvertError where transformers has no words for it."""
    sizes = {theirs: getattr(config, ours) for ours, theirs in SIZES[family.name].items()}
    if family.name == "gpt2":
        kind = "gpt2"
        rest = dict.fromkeys(RATES, config.dropout)
        rest |= {"activation_function": "gelu_new", "tie_word_embeddings": True}
    else:
        only_qkv = config.qkv_bias and not config.out_bias
        kind = "qwen2" if only_qkv else "llama" if config.window is None else "mistral"
        rest = _llama_words(kind, config)
        if kind == "llama" and config.n_embd % config.n_heads:
            seen = f"{config.n_embd} and {config.n_heads}"
            raise ConvertError(f"transformers' Llama needs n_embd to be a multiple of n_heads, got {seen}")
    content = {"architectures": [KINDS[kind][1]], "model_type": kind, **sizes, **rest}
    # read back, what was said must be what was meant: no one of their models has all that our Config can combine
    read = understood(content, "the model's Config")[1]
    for name, meant in vars(config).items():
        if name != "fused" and getattr(read, name) != meant:
            raise ConvertError(f"transformers' {KINDS[kind][1]} has no {name} {meant!r} beside the rest of this Config")
    return content


def _llama_words(kind: str, config: Any) -> dict[str, Any]:
    words = {
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tied,
        "rope_theta": config.theta,
        "rope_scaling": None,
    }
    if kind == "llama":
        words |= {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}
    else:
        words["sliding_window"] = config.window
    if kind == "qwen2":
        words |= {"use_sliding_window": config.window is not None, "max_window_layers": 0}
    if (scaling := config.scaling) is not None:
        words["rope_scaling"] = rope = {"rope_type": scaling.kind, "factor": scaling.factor}
        slow, fast = {"llama3": ("low_freq_factor", "high_freq_factor")}.get(scaling.kind, ("beta_slow", "beta_fast"))
        if scaling.kind != "linear":
            rope |= {"original_max_position_embeddings": scaling.trained, slow: scaling.slow, fast: scaling.fast}
        if scaling.kind == "yarn":
            rope["attention_factor"] = scaling.sharpen
    return words
