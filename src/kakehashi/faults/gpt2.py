"""Faults of GPT-2."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.gpt2"
FORWARD = ("loss", "logits", "grad", "state")  # what nearly every fault in a forward pass changes


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Two layers and two heads; and once more with dropout, other heads, and an epsilon of some size."""
    from kakehashi.faults.liveness import LENGTH, language_model

    small = {"block_size": LENGTH, "n_layers": 2, "n_heads": 2, "n_embd": 8}
    yield from language_model(module, "plain", small)
    yield from language_model(module, "dropout", small | {"n_heads": 4, "dropout": 0.25, "eps": 1e-2})


FAULTS = (
    # masking
    Fault(
        "gpt2-mask-not-applied",
        "masking",
        "mask_application",
        MODULE,
        (Edit("attention", 'scores = scores.masked_fill(~visible, float("-inf"))', ""),),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "gpt2-mask-after-softmax",
        "masking",
        "mask_application",
        MODULE,
        (
            Edit("attention", 'scores = scores.masked_fill(~visible, float("-inf"))', ""),
            Edit("attention", "F.softmax(scores, dim=-1)", "F.softmax(scores, dim=-1).masked_fill(~visible, 0.0)"),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-mask-shows-next",
        "masking",
        "mask_generation",
        MODULE,
        (Edit("causal_mask", "everywhere.tril(S - T)", "everywhere.tril(S - T + 1)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-mask-hides-self",
        "masking",
        "mask_generation",
        MODULE,
        (Edit("causal_mask", "everywhere.tril(S - T)", "everywhere.tril(S - T - 1)"),),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "gpt2-mask-ignores-cache",
        "masking",
        "dynamic_mask",
        MODULE,
        (Edit("causal_mask", "everywhere.tril(S - T)", "everywhere.tril()"),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "gpt2-padding-seen",
        "masking",
        "mask_application",
        MODULE,
        (
            Edit(
                "CausalSelfAttention.forward",
                "causal_mask(T, k.shape[2], pad, x.device)",
                "causal_mask(T, k.shape[2], device=x.device)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    # scores
    Fault(
        "gpt2-scale-missing",
        "score",
        "normalization",
        MODULE,
        (Edit("attention", "q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])", "q @ k.transpose(-2, -1)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-softmax-over-queries",
        "score",
        "implementation",
        MODULE,
        (Edit("attention", "F.softmax(scores, dim=-1)", "F.softmax(scores, dim=-2)"),),
        changes=FORWARD,
        level=2,
    ),
    # heads
    Fault(
        "gpt2-heads-cut-without-transpose",
        "qkv",
        "head_interaction",
        MODULE,
        (
            Edit(
                "CausalSelfAttention.forward",
                """
                q = q.view(B, T, self.n_heads, -1).transpose(1, 2)
                k = k.view(B, T, self.n_heads, -1).transpose(1, 2)
                v = v.view(B, T, self.n_heads, -1).transpose(1, 2)
                """,
                """
                q = q.reshape(B, self.n_heads, T, -1)
                k = k.reshape(B, self.n_heads, T, -1)
                v = v.reshape(B, self.n_heads, T, -1)
                """,
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-heads-merged-without-transpose",
        "qkv",
        "head_interaction",
        MODULE,
        (Edit("CausalSelfAttention.forward", "y.transpose(1, 2).reshape(B, T, C)", "y.reshape(B, T, C)"),),
        changes=FORWARD,
        level=2,
    ),
    # cache and positions
    Fault(
        "gpt2-cache-not-read",
        "kv_cache",
        "update_synchronization",
        MODULE,
        (
            Edit(
                "CausalSelfAttention.forward",
                "k, v = state.append(self.layer, k, v)",
                "state.append(self.layer, k, v)",
            ),
        ),
        changes=("state",),
        level=1,
        crashes=True,
    ),
    Fault(
        "gpt2-cache-swaps-keys-and-values",
        "kv_cache",
        "memory_layout",
        MODULE,
        (Edit("CausalSelfAttention.forward", "state.append(self.layer, k, v)", "state.append(self.layer, v, k)"),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "gpt2-cache-position-restarts",
        "kv_cache",
        "cache_position",
        MODULE,
        (Edit("GPT.positions", "if state is not None:\n    return state.positions(T).to(tokens.device)", ""),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "gpt2-cache-position-off-by-one",
        "kv_cache",
        "cache_position",
        MODULE,
        (Edit("GPT.positions", "state.positions(T).to(tokens.device)", "state.positions(T).to(tokens.device) + 1"),),
        changes=("state",),
        level=3,
        crashes=True,
    ),
    Fault(
        "gpt2-padding-shifts-positions",
        "positional",
        "indexing",
        MODULE,
        (Edit("GPT.positions", "if pad is not None:\n    return (pad.cumsum(1) - pad.long())[:, -T:]", ""),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "gpt2-no-positions",
        "positional",
        "indexing",
        MODULE,
        (Edit("GPT.forward", "self.wte(tokens) + self.wpe($...positions)", "self.wte(tokens)"),),
        changes=FORWARD,
        level=2,
    ),
    # the residual stream
    Fault(
        "gpt2-residual-missing",
        "residual",
        "skip_connection",
        MODULE,
        (Edit("Block.forward", "x = x + self.attn($...inputs)", "x = self.attn($...inputs)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-norm-after",
        "residual",
        "residual_path",
        MODULE,
        (
            Edit(
                "Block.forward",
                "x = x + self.attn(self.ln_1(x), state, pad)\nx = x + self.mlp(self.ln_2(x))",
                "x = self.ln_1(x + self.attn(x, state, pad))\nx = self.ln_2(x + self.mlp(x))",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-norm-shared",
        "residual",
        "residual_path",
        MODULE,
        (Edit("Block.forward", "self.mlp(self.ln_2(x))", "self.mlp(self.ln_1(x))"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "gpt2-init-not-scaled",
        "residual",
        "residual_scaling",
        MODULE,
        (
            Edit(
                "GPT.initialise",
                """
                if isinstance(module, CausalSelfAttention | MLP):
                    nn.init.normal_(module.c_proj.weight, std=$std)
                """,
                "",
            ),
        ),
        changes=("init",),
        level=3,
    ),
    # norms
    Fault(
        "gpt2-norm-eps-outside",
        "layernorm",
        "stability_parameter",
        MODULE,
        (Edit("LayerNorm.forward", "torch.sqrt(variance + self.eps)", "(torch.sqrt(variance) + self.eps)"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "gpt2-norm-sample-variance",
        "layernorm",
        "scale_parameter",
        MODULE,
        (
            Edit(
                "LayerNorm.forward",
                "(x - mean).square().mean(-1, keepdim=True)",
                "x.var(-1, keepdim=True)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "gpt2-final-norm-missing",
        "output",
        "output_scaling",
        MODULE,
        (Edit("GPT.forward", "self.ln_f(x) @ self.wte.weight.T", "x @ self.wte.weight.T"),),
        changes=FORWARD,
        level=2,
    ),
    # feed-forward
    Fault(
        "gpt2-gelu-missing",
        "ffn",
        "activation_function",
        MODULE,
        (Edit("MLP.forward", "self.gelu(self.c_fc(x))", "self.c_fc(x)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "gpt2-gelu-constant",
        "ffn",
        "activation_function",
        MODULE,
        (Edit("gelu", "0.044715", "0.44715"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "gpt2-dropout-in-eval",
        "mode",
        "dropout_in_eval",
        MODULE,
        (Edit("MLP.forward", "F.dropout($h, self.dropout, self.training)", "F.dropout($h, self.dropout)"),),
        changes=FORWARD,
        level=2,
    ),
    # head and loss
    Fault(
        "gpt2-head-detached",
        "output",
        "weight_tying",
        MODULE,
        (Edit("GPT.forward", "self.wte.weight.T", "self.wte.weight.detach().T"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "gpt2-loss-counts-padding",
        "loss",
        "padding_counted",
        MODULE,
        (
            Edit(
                "cross_entropy",
                """
                total = F.cross_entropy($logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")
                return total / (targets != IGNORE).sum().clamp(min=1)
                """,
                "return F.cross_entropy($logits, targets.flatten().clamp(min=0))",
            ),
        ),
        changes=("loss", "grad"),
        level=2,
    ),
    Fault(
        "gpt2-loss-mean-over-all",
        "loss",
        "denominator",
        MODULE,
        (Edit("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "targets.numel()"),),
        changes=("loss", "grad"),
        level=2,
    ),
    Fault(
        "gpt2-loss-nothing-counted",
        "loss",
        "empty_batch",
        MODULE,
        (Edit("cross_entropy", "(targets != IGNORE).sum().clamp(min=1)", "(targets != IGNORE).sum()"),),
        changes=("loss",),
        level=3,
    ),
)
