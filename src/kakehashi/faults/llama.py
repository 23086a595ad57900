"""Faults of Llama, Mistral and Qwen2.

Not here: positions that padding or a cache shifts for all tokens alike. RoPE makes of them what they are, nothing.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.llama"
FORWARD = ("loss", "logits", "grad", "state")  # what nearly every fault in a forward pass changes


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Two layers, two queries to a key, wide heads; once with a window, tied; two kinds of scaling."""
    from kakehashi.faults.liveness import LENGTH, language_model

    small = {"block_size": LENGTH, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "n_embd": 8, "n_hidden": 6}
    small |= {"head_dim": 8, "theta": 50.0, "eps": 1e-2}
    yarn = module.Scaling("yarn", 4.0, 30, slow=1.0, fast=4.0)
    llama3 = module.Scaling("llama3", 4.0, 20, slow=1.0, fast=4.0)
    yield from language_model(module, "plain", small | {"qkv_bias": True})
    yield from language_model(module, "window", small | {"window": 3, "tied": True, "scaling": yarn})
    yield from language_model(module, "scaled", small | {"scaling": llama3, "out_bias": True, "mlp_bias": True})


FAULTS = (
    # masking
    Fault(
        "llama-mask-not-applied",
        "masking",
        "mask_application",
        MODULE,
        (Edit("attention", 'scores = scores.masked_fill(~visible, float("-inf"))', ""),),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "llama-mask-ignores-cache",
        "masking",
        "dynamic_mask",
        MODULE,
        (Edit("causal_mask", "everywhere.tril(S - T)", "everywhere.tril()"),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "llama-padding-seen",
        "masking",
        "mask_application",
        MODULE,
        (
            Edit(
                "Llama.forward",
                "causal_mask(T, S, pad, tokens.device, self.config.window)",
                "causal_mask(T, S, None, tokens.device, self.config.window)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "llama-window-off-by-one",
        "masking",
        "mask_generation",
        MODULE,
        (Edit("causal_mask", "visible.triu(S - T - window + 1)", "visible.triu(S - T - window)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-window-ignores-cache",
        "masking",
        "dynamic_mask",
        MODULE,
        (Edit("causal_mask", "visible.triu(S - T - window + 1)", "visible.triu(1 - window)"),),
        changes=("state",),
        level=3,
    ),
    Fault(
        "llama-window-missing",
        "masking",
        "mask_generation",
        MODULE,
        (Edit("causal_mask", "if window is not None:\n    visible = visible.triu(S - T - window + 1)", ""),),
        changes=FORWARD,
        level=2,
    ),
    # scores and heads
    Fault(
        "llama-scale-by-all-heads",
        "score",
        "normalization",
        MODULE,
        (Edit("attention", "math.sqrt(q.shape[-1])", "math.sqrt(q.shape[1] * q.shape[-1])"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-heads-shared-in-turn",
        "qkv",
        "head_interaction",
        MODULE,
        (Edit("repeat_heads", "x[:, :, None].expand(-1, -1, n, -1, -1)", "x[:, None].expand(-1, n, -1, -1, -1)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-heads-cut-without-transpose",
        "qkv",
        "head_interaction",
        MODULE,
        (
            Edit(
                "SelfAttention.forward",
                """
                k = self.k_proj(x).view(B, T, self.n_kv_heads, -1).transpose(1, 2)
                v = self.v_proj(x).view(B, T, self.n_kv_heads, -1).transpose(1, 2)
                """,
                """
                k = self.k_proj(x).view(B, self.n_kv_heads, T, -1)
                v = self.v_proj(x).view(B, self.n_kv_heads, T, -1)
                """,
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    # positions
    Fault(
        "llama-rope-pairs-neighbours",
        "positional",
        "relative_position",
        MODULE,
        (Edit("rotate", "a, b = x.chunk(2, -1)", "a, b = x[..., ::2], x[..., 1::2]"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-rope-no-rotation",
        "positional",
        "relative_position",
        MODULE,
        (Edit("rotate", "b * cos + a * sin", "b * cos - a * sin"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-rope-turns-values",
        "positional",
        "relative_position",
        MODULE,
        (
            Edit(
                "SelfAttention.forward",
                "q, k = rotate(q, *rotation), rotate(k, *rotation)",
                "q, k, v = rotate(q, *rotation), rotate(k, *rotation), rotate(v, *rotation)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-rope-keys-stay",
        "positional",
        "relative_position",
        MODULE,
        (
            Edit(
                "SelfAttention.forward",
                "q, k = rotate(q, *rotation), rotate(k, *rotation)",
                "q = rotate(q, *rotation)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "llama-rope-theta-fixed",
        "positional",
        "indexing",
        MODULE,
        (Edit("frequencies", "1.0 / config.theta ** $pairs", "1.0 / 10000.0 ** $pairs"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-rope-half-exponents",
        "positional",
        "indexing",
        MODULE,
        (
            Edit(
                "frequencies",
                "config.theta ** (torch.arange(0, D, 2) / D)",
                "config.theta ** (torch.arange(D // 2) / D)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-rope-scaled-the-wrong-way",
        "positional",
        "interpolation",
        MODULE,
        (Edit("frequencies", "frequency / scaling.factor", "frequency * scaling.factor"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "llama-rope-slows-the-fast",
        "positional",
        "interpolation",
        MODULE,
        (Edit("frequencies", "torch.lerp(slowed, frequency, $kept)", "torch.lerp(frequency, slowed, $kept)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-yarn-not-sharpened",
        "positional",
        "interpolation",
        MODULE,
        (
            Edit(
                "Llama.rotation",
                "sharpen = $value\nreturn angles.cos() * sharpen, angles.sin() * sharpen",
                "return angles.cos(), angles.sin()",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    # cache
    Fault(
        "llama-cache-position-restarts",
        "kv_cache",
        "cache_position",
        MODULE,
        (Edit("Llama.positions", "if state is not None:\n    return state.positions(T).to(tokens.device)", ""),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "llama-cache-swaps-keys-and-values",
        "kv_cache",
        "memory_layout",
        MODULE,
        (Edit("SelfAttention.forward", "state.append(self.layer, k, v)", "state.append(self.layer, v, k)"),),
        changes=("state",),
        level=2,
    ),
    # norms
    Fault(
        "llama-norm-centred",
        "layernorm",
        "scale_parameter",
        MODULE,
        (
            Edit("RMSNorm.forward", "x.square().mean(-1, keepdim=True)", "x.var(-1, keepdim=True, correction=0)"),
            Edit("RMSNorm.forward", "x / torch.sqrt($square)", "(x - x.mean(-1, keepdim=True)) / torch.sqrt($square)"),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-norm-eps-outside",
        "layernorm",
        "stability_parameter",
        MODULE,
        (Edit("RMSNorm.forward", "torch.sqrt(mean_square + self.eps)", "(torch.sqrt(mean_square) + self.eps)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-norm-sum",
        "layernorm",
        "scale_parameter",
        MODULE,
        (Edit("RMSNorm.forward", "x.square().mean(-1, keepdim=True)", "x.square().sum(-1, keepdim=True)"),),
        changes=FORWARD,
        level=2,
    ),
    # the residual stream
    Fault(
        "llama-norm-shared",
        "residual",
        "residual_path",
        MODULE,
        (Edit("Block.forward", "self.mlp(self.post_attention_layernorm(x))", "self.mlp(self.input_layernorm(x))"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-mlp-beside-attention",
        "residual",
        "residual_path",
        MODULE,
        (
            Edit(
                "Block.forward",
                "x = x + $attention\nx = x + self.mlp(self.post_attention_layernorm(x))",
                "x = x + $attention + self.mlp(self.post_attention_layernorm(x))",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-init-not-scaled",
        "residual",
        "residual_scaling",
        MODULE,
        (
            Edit(
                "Llama.initialise",
                "if isinstance(module, SelfAttention):\n    nn.init.normal_(module.o_proj.weight, std=$std)",
                "",
            ),
        ),
        changes=("init",),
        level=3,
    ),
    # feed-forward
    Fault(
        "llama-silu-on-the-wrong-branch",
        "ffn",
        "activation_function",
        MODULE,
        (
            Edit(
                "MLP.forward",
                "self.silu(self.gate_proj(x)) * self.up_proj(x)",
                "self.gate_proj(x) * self.silu(self.up_proj(x))",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "llama-silu-is-sigmoid",
        "ffn",
        "activation_function",
        MODULE,
        (Edit("silu", "x * torch.sigmoid(x)", "torch.sigmoid(x)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "llama-gate-added",
        "ffn",
        "activation_function",
        MODULE,
        (
            Edit(
                "MLP.forward",
                "self.silu(self.gate_proj(x)) * self.up_proj(x)",
                "self.silu(self.gate_proj(x)) + self.up_proj(x)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    # head and loss
    Fault(
        "llama-final-norm-missing",
        "output",
        "output_scaling",
        MODULE,
        (Edit("Llama.forward", "self.norm(x) @ head.weight.T", "x @ head.weight.T"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "llama-head-always-tied",
        "output",
        "weight_tying",
        MODULE,
        (
            Edit(
                "Llama.forward",
                "head = self.embed_tokens if self.lm_head is None else self.lm_head",
                "head = self.embed_tokens",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "llama-head-detached",
        "output",
        "weight_tying",
        MODULE,
        (Edit("Llama.forward", "head.weight.T", "head.weight.detach().T"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "llama-loss-mean-over-all",
        "loss",
        "denominator",
        MODULE,
        (Edit("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "targets.numel()"),),
        changes=("loss", "grad"),
        level=2,
    ),
)
