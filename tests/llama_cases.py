"""Small odd configurations of the Llama family, ours and transformers' side by side."""

import torch

from kakehashi.models.llama import Config, Llama, Scaling

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 30, "beta_fast": 4.0, "beta_slow": 0.5}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 9}
LLAMA3 |= {"low_freq_factor": 0.5, "high_freq_factor": 3.0}
WINDOW = {"use_sliding_window": True, "max_window_layers": 0}


def of(n_heads=2, n_kv_heads=1, n_embd=8, n_hidden=7, vocab_size=11, block_size=9, n_layers=2, **more) -> Config:
    return Config(vocab_size, block_size, n_layers, n_heads, n_kv_heads, n_embd, n_hidden, **more)


# a name: transformers' model_type, our Config, and what transformers calls that of it which has no plain number
CASES = {
    "one head": ("llama", of(1, 1, 2, 1, n_layers=1), {}),
    "a key to a query": ("llama", of(3, 3, 18, 5), {}),
    "a key to three queries": ("llama", of(6, 2, 24, 13, n_layers=3), {}),
    "a key to all queries": ("llama", of(4, 1, 8, 3), {}),
    "wide heads": ("llama", of(3, 1, 6, 9, head_dim=10), {}),
    "narrow heads": ("llama", of(4, 2, 32, 9, head_dim=2, eps=1e-2), {}),
    "two tokens": ("llama", of(vocab_size=2, block_size=17), {}),
    "one place": ("llama", of(block_size=1, n_layers=1), {}),
    "tied": ("llama", of(2, 2, 12, tied=True), {}),
    "all biases": (
        "llama",
        of(qkv_bias=True, out_bias=True, mlp_bias=True),
        {"attention_bias": True, "mlp_bias": True},
    ),
    "bias of attention": ("llama", of(qkv_bias=True, out_bias=True), {"attention_bias": True}),
    "bias of the MLP": ("llama", of(mlp_bias=True), {"mlp_bias": True}),
    "another theta": ("llama", of(2, 1, 16, theta=5e5), {"rope_theta": 5e5}),
    "linear": (
        "llama",
        of(2, 1, 24, block_size=20, theta=50.0, scaling=Scaling("linear", 2.5)),
        {"rope_theta": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 2.5}},
    ),
    "llama3": (
        "llama",
        of(2, 1, 48, block_size=30, theta=50.0, scaling=Scaling("llama3", 8.0, 9, 0.5, 3.0)),
        {"rope_theta": 50.0, "rope_scaling": LLAMA3},
    ),
    "yarn": (
        "llama",
        of(2, 1, 48, block_size=40, theta=50.0, scaling=Scaling("yarn", 4.0, 30, 0.5, 4.0)),
        {"rope_theta": 50.0, "rope_scaling": YARN},
    ),
    "yarn sharpened otherwise": (
        "llama",
        of(2, 1, 40, block_size=40, theta=50.0, scaling=Scaling("yarn", 4.0, 30, 0.5, 4.0, 0.7)),
        {"rope_theta": 50.0, "rope_scaling": YARN | {"attention_factor": 0.7}},
    ),
    "mistral": ("mistral", of(4, 2, 16, window=4), {"sliding_window": 4}),
    "mistral that sees itself": ("mistral", of(2, 1, 8, window=1), {"sliding_window": 1}),
    "mistral without a window": ("mistral", of(2, 2, 10, head_dim=4), {"sliding_window": None}),
    "mistral, tied, wide window": ("mistral", of(2, 1, window=20, tied=True), {"sliding_window": 20}),
    "qwen2": ("qwen2", of(4, 2, 16, qkv_bias=True), {}),
    "qwen2, tied": ("qwen2", of(7, 1, 28, qkv_bias=True, tied=True, theta=1e6, eps=1e-6), {"rope_theta": 1e6}),
    "qwen2 with a window": ("qwen2", of(2, 1, qkv_bias=True, window=3), {"sliding_window": 3, **WINDOW}),
}


def theirs(name: str):
    """transformers' model of a case, its weights far from where they start, in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, config, words = CASES[name]
    described = AutoConfig.for_model(
        kind,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.block_size,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        hidden_size=config.n_embd,
        intermediate_size=config.n_hidden,
        head_dim=config.head_dim,
        rms_norm_eps=config.eps,
        tie_word_embeddings=config.tied,
        bos_token_id=None,
        eos_token_id=None,
        **words,
    )
    model = AutoModelForCausalLM.from_config(described, attn_implementation="eager")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def our_name(name: str) -> str:
    """transformers' name of a parameter -> ours."""
    return name.removeprefix("model.")


def twins(name: str, **changed):
    """Our model and transformers' of a case, with the same weights. changed: fields of our Config."""
    model = theirs(name)
    ours = Llama(Config(**vars(CASES[name][1]) | changed))
    ours.load_state_dict({our_name(each): value.detach() for each, value in model.named_parameters()})
    return ours.eval(), model
