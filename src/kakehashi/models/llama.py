"""Llama, Mistral and Qwen2: GPT-2's stack of blocks, each of its parts exchanged for one that was found better.

    LayerNorm            RMSNorm           Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019)
    learned positions    RoPE              Su et al., "RoFormer" (2021)
    GELU                 SwiGLU            Shazeer, "GLU Variants Improve Transformer" (2020)
    H keys and values    G, shared         Ainslie et al., "GQA" (2023)
    all tokens before    sliding window    Jiang et al., "Mistral 7B" (2023)

The whole: Touvron et al., "LLaMA" and "Llama 2" (2023); Yang et al., "Qwen2 Technical Report" (2024), with biases on
queries, keys and values. Names of parameters are those of Hugging Face's files, without "model." before them.
Deviations: RoPE pairs the features i and i + D / 2, as those files do, where the paper pairs 2i and 2i + 1: the same
model, the rows of q_proj and k_proj in another order. The papers are silent on first weights: they are GPT-2's here.

Axes: B batch, T new tokens, S tokens in sight (cached + T), C width, H heads, G heads of keys and values, D width of a
head, F hidden width, L layers, V vocabulary.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, KVCache, Output

TASK = "lm"
FOLLOWS: Any = None  # a value that follows from the others


@dataclass(frozen=True)
class Scaling:
    """RoPE for more tokens than were trained on: pairs of features that turn seldom are slowed down.

    linear: all pairs (Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation",
    2023). yarn (Peng et al., "YaRN", 2023) and llama3 (Meta's code of Llama 3.1, 2024): wholly those that make less
    than `slow` turns in a text of `trained` tokens, none that make more than `fast`, those between by a ramp: yarn's
    runs over the pairs, llama3's over their turns. yarn also sharpens the attention: cos and sin times `sharpen`.
    Not here is NTK's "dynamic": it turns by the length read so far, so cached keys would have turned by another.
    """

    kind: str  # "linear", "yarn" or "llama3"
    factor: float  # how many times slower
    trained: int = 8192  # tokens
    slow: float = 1.0  # turns
    fast: float = FOLLOWS  # turns; yarn 32, llama3 4
    sharpen: float = FOLLOWS  # yarn 0.1 ln(factor) + 1, else 1

    def __post_init__(self):
        if self.kind not in ("linear", "yarn", "llama3"):
            raise ValueError(f"kind of Scaling must be linear, yarn or llama3, got {self.kind!r}")
        yarn = self.kind == "yarn"
        if self.fast is None:
            object.__setattr__(self, "fast", 32.0 if yarn else 4.0)
        if self.sharpen is None:
            object.__setattr__(self, "sharpen", 0.1 * math.log(max(self.factor, 1)) + 1 if yarn else 1.0)
        for name in ("factor", "trained"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} of Scaling must be at least 1, got {getattr(self, name)}")
        if not 0 < self.slow < self.fast:
            raise ValueError(f"slow of Scaling must be above 0 and below fast, got {self.slow} and {self.fast}")


@dataclass(frozen=True)
class Config:
    vocab_size: int = 32000  # V
    block_size: int = 4096  # the most tokens in sight
    n_layers: int = 32  # L
    n_heads: int = 32  # H, heads of queries
    n_kv_heads: int = FOLLOWS  # G, heads of keys and values, each shared by H / G of queries; H
    n_embd: int = 4096  # C
    n_hidden: int = 11008  # F, inside SwiGLU
    head_dim: int = FOLLOWS  # D; C / H
    theta: float = 10000.0  # RoPE's base: the slowest pair makes about block_size / (2 pi theta) turns
    scaling: Scaling | None = None  # of RoPE
    window: int | None = None  # a token sees so many, itself among them; None: all
    eps: float = 1e-5  # inside the root of RMSNorm
    tied: bool = False  # the head is the embedding
    qkv_bias: bool = False  # biases on q_proj, k_proj and v_proj
    out_bias: bool = False  # on o_proj
    mlp_bias: bool = False  # on gate_proj, up_proj and down_proj
    fused: bool = False  # torch's kernels for attention, silu and RMSNorm instead of the written-out ones

    def __post_init__(self):
        sizes = ("vocab_size", "block_size", "n_layers", "n_heads", "n_embd", "n_hidden")
        for name in (*sizes, "n_kv_heads", "head_dim", "window"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.head_dim is None:
            if self.n_embd % self.n_heads:
                raise ValueError(f"n_embd must be a multiple of n_heads, got {self.n_embd} and {self.n_heads}")
            object.__setattr__(self, "head_dim", self.n_embd // self.n_heads)
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads must be a multiple of n_kv_heads, got {self.n_heads} and {self.n_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even, as RoPE turns pairs, got {self.head_dim}")
        if not self.theta > 1:
            raise ValueError(f"theta must be above 1, got {self.theta}")


NANO = Config(block_size=64, n_layers=4, n_heads=4, n_kv_heads=2, n_embd=128, n_hidden=352)
LLAMA_3 = Config(vocab_size=128256, block_size=8192, n_kv_heads=8, n_hidden=14336, theta=5e5)
PRESETS = {
    "llama-nano": NANO,
    "mistral": replace(NANO, window=16),
    "qwen2": replace(NANO, qkv_bias=True, tied=True),
    "llama-2-7b": Config(),
    "llama-3-8b": LLAMA_3,
    "llama-3.1-8b": replace(LLAMA_3, block_size=131072, scaling=Scaling("llama3", 8.0)),
    "llama-3.2-1b": replace(
        LLAMA_3,
        block_size=131072,
        n_layers=16,
        n_embd=2048,
        n_hidden=8192,
        head_dim=64,
        scaling=Scaling("llama3", 32.0),
        tied=True,
    ),
    "mistral-7b": Config(block_size=32768, n_kv_heads=8, n_hidden=14336, window=4096),
    "qwen2-0.5b": Config(
        vocab_size=151936,
        block_size=131072,
        n_layers=24,
        n_heads=14,
        n_kv_heads=2,
        n_embd=896,
        n_hidden=4864,
        theta=1e6,
        eps=1e-6,
        tied=True,
        qkv_bias=True,
    ),
}


class RMSNorm(nn.Module):
    """Each token's vector to a mean square of 1, then a learned gain (Zhang & Sennrich 2019, eq. 4).

    Parameters: weight (C), starts at 1.
    """

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        # the mean is not taken away: the length is what disturbs, and one sum less is faster
        mean_square = x.square().mean(-1, keepdim=True)  # (..., 1)
        # eps inside the root: a vector of zeros is divided by sqrt(eps), not by 0
        return x / torch.sqrt(mean_square + self.eps) * self.weight


def kept(frequency: Tensor, theta: float, scaling: Scaling) -> Tensor:
    """How much of its frequency each pair keeps, as Scaling says: 1 all of it, 0 none. (D / 2,) -> (D / 2,)."""
    D = 2 * len(frequency)
    if scaling.kind == "linear":
        return torch.zeros_like(frequency)
    if scaling.kind == "llama3":
        turns = scaling.trained * frequency / (2 * math.pi)
        share = (turns - scaling.slow) / (scaling.fast - scaling.slow)  # (D / 2,)
    else:
        # `frequency` solved for the pair that makes so many turns: between two pairs, or beyond the last
        first, last = (
            D * math.log(scaling.trained / (2 * math.pi * turns)) / (2 * math.log(theta))
            for turns in (scaling.fast, scaling.slow)
        )
        first, last = max(math.floor(first), 0), min(math.ceil(last), D - 1)
        share = 1 - (torch.arange(D // 2) - first) / ((last - first) or 0.001)  # (D / 2,)
    return share.clamp(0, 1)


def frequencies(config: Config) -> Tensor:
    """How far each of a head's D / 2 pairs turns from one position to the next, in radians: (D / 2,), falling.

    Pair i turns by theta^(-2 i / D) (Su et al. 2021, section 3.2.2). With a scaling the share `kept` of it stays, and
    the rest is divided by the factor.
    """
    D, scaling = config.head_dim, config.scaling
    # from a turn in 2 pi tokens to one in nearly 2 pi theta: fast pairs tell neighbours apart, slow ones chapters
    frequency = 1.0 / config.theta ** (torch.arange(0, D, 2) / D)  # (D / 2,)
    if scaling is None:
        return frequency
    slowed = frequency / scaling.factor
    # a pair that has gone round in training knows all angles; one that has not must not come to new ones
    return torch.lerp(slowed, frequency, kept(frequency, config.theta, scaling))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (feature i, feature i + D / 2) by its angle: position becomes direction (Su et al. 2021, eq. 34).

    x (B, H, T, D); cos and sin of the angles (B or 1, 1, T, D / 2) -> (B, H, T, D).
    """
    a, b = x.chunk(2, -1)  # 2 times (B, H, T, D / 2)
    # lengths stay, and the dot product of two vectors turned by p and q depends on p - q alone
    turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)  # (B, H, T, D)
    # the angles are float32, as bfloat16 could not count past 256; what is turned keeps its own precision
    return turned.to(x.dtype)


def causal_mask(
    T: int, S: int, pad: Tensor | None = None, device: torch.device | None = None, window: int | None = None
) -> Tensor:
    """Which of S tokens each of the last T may look at: the last `window` up to itself, but no padding.

    pad (B, S) bool, True = real. Returns bool, True = may look: (T, S), or (B, 1, T, S) with pad. Every row holds at
    least one True: a padding token sees itself.
    """
    everywhere = torch.ones(T, S, dtype=torch.bool, device=device)
    # the first of the T stands at place S - T, so the diagonal moves right by that many
    visible = everywhere.tril(S - T)  # (T, S)
    if window is not None:
        # a layer sees window - 1 back, L layers L times as far: what is out of sight has been passed on
        visible = visible.triu(S - T - window + 1)  # (T, S)
    if pad is None:
        return visible
    # softmax over nothing is NaN, so a token always sees itself
    itself_or_later = everywhere.triu(S - T)  # (T, S)
    return visible & (pad[:, None, None, :] | itself_or_later)  # (B, 1, T, S)


def repeat_heads(x: Tensor, n: int) -> Tensor:
    """Each head n times, side by side: (B, G, S, D) -> (B, H, S, D). Queries 0 to n - 1 share head 0."""
    # seen n times over, still once in memory
    copies = x[:, :, None].expand(-1, -1, n, -1, -1)  # (B, G, n, S, D)
    return copies.flatten(1, 2)  # (B, H, S, D)


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: a weighted mean of the values whose keys match the query (Vaswani 2017, eq. 1).

    q (B, H, T, D); k, v (B, G, S, D); visible as `causal_mask` gives it -> (B, H, T, D).
    """
    n = q.shape[1] // k.shape[1]
    k, v = repeat_heads(k, n), repeat_heads(v, n)  # (B, H, S, D)
    # a dot product of D terms of variance 1 has variance D; undone, or softmax starts saturated and learns nothing
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    # -inf before the softmax, so that the weights of what is visible still sum to 1
    scores = scores.masked_fill(~visible, float("-inf"))
    weights = F.softmax(scores, dim=-1)  # (B, H, T, S)
    return weights @ v  # (B, H, T, D)


class SelfAttention(nn.Module):
    """Each token gathers from the tokens in its sight, in H heads at once.

    Parameters: q_proj (C -> H D); k_proj and v_proj (C -> G D); o_proj (H D -> C). Biases as Config says.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.layer = layer
        self.attend = attention
        if config.fused:
            self.attend = fused_attention if config.window is None else fused_window_attention
        all_heads, kv_heads = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.n_embd, all_heads, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.n_embd, kv_heads, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.n_embd, kv_heads, bias=config.qkv_bias)
        self.o_proj = nn.Linear(all_heads, config.n_embd, bias=config.out_bias)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], visible: Tensor, state: KVCache | None = None
    ) -> Tensor:
        """x (B, T, C) -> (B, T, C). rotation: cos and sin, as for `rotate`; visible as `causal_mask` gives it."""
        B, T, _ = x.shape
        # cut the width into heads first, then bring the heads forward: each head sees its own D features of all tokens
        q = self.q_proj(x).view(B, T, self.n_heads, -1).transpose(1, 2)  # (B, H, T, D)
        k = self.k_proj(x).view(B, T, self.n_kv_heads, -1).transpose(1, 2)  # (B, G, T, D)
        v = self.v_proj(x).view(B, T, self.n_kv_heads, -1).transpose(1, 2)  # (B, G, T, D)
        # who looks at whom depends on positions; what is handed over, the values, does not
        q, k = rotate(q, *rotation), rotate(k, *rotation)
        if state is not None:
            # G heads are kept, turned as they are: a cache of H / G times less
            k, v = state.append(self.layer, k, v)  # (B, G, S, D)
        y = self.attend(q, k, v, visible)  # (B, H, T, D)
        # the heads side by side again, then mixed by o_proj
        return self.o_proj(y.transpose(1, 2).reshape(B, T, -1))  # (B, T, C)


def silu(x: Tensor) -> Tensor:
    """x times the logistic sigmoid of x (Hendrycks & Gimpel 2016; Swish with beta 1)."""
    # a gate that x opens for itself, as gelu's, but without erf or tanh
    return x * torch.sigmoid(x)


class MLP(nn.Module):
    """SwiGLU: W2 (silu(W x) * V x), with W, V, W2 called gate, up and down (Shazeer 2020, eq. 6).

    Parameters: gate_proj and up_proj (C -> F); down_proj (F -> C).
    """

    def __init__(self, config: Config):
        super().__init__()
        self.silu = F.silu if config.fused else silu
        self.gate_proj = nn.Linear(config.n_embd, config.n_hidden, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.n_embd, config.n_hidden, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.n_hidden, config.n_embd, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        # one half says what, the other how much of it: a product of two readings, where GELU reads once
        h = self.silu(self.gate_proj(x)) * self.up_proj(x)  # (B, T, F)
        return self.down_proj(h)


class Block(nn.Module):
    """Communication, then computation; each reads the residual stream through a norm and adds to it.

    Parameters: input_layernorm, self_attn, post_attention_layernorm (before the MLP), mlp.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        norm = FusedRMSNorm if config.fused else RMSNorm
        self.input_layernorm = norm(config.n_embd, config.eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = norm(config.n_embd, config.eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], visible: Tensor, state: KVCache | None = None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        # x itself is never normalised: the gradient has a straight way down through the additions
        x = x + self.self_attn(self.input_layernorm(x), rotation, visible, state)
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x


class Llama(nn.Module):
    """A token embedding, L blocks, a last norm, and a head.

    Parameters: embed_tokens (V, C); layers, the L blocks; norm, the last one; lm_head (V, C) where not `tied`.
    Initialised as GPT-2: weights normal with standard deviation 0.02, every o_proj and down_proj with 0.02 / sqrt(2 L),
    biases 0. Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = (FusedRMSNorm if config.fused else RMSNorm)(config.n_embd, config.eps)
        self.lm_head = None if config.tied else nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.apply(self.initialise)

    def initialise(self, module: nn.Module) -> None:
        """Draw the weights of one module; `apply` calls it for every module inside."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        # 2 L branches add to the residual stream: smaller steps keep its variance at 1, however deep
        if isinstance(module, SelfAttention):
            nn.init.normal_(module.o_proj.weight, std=0.02 / math.sqrt(2 * self.config.n_layers))
        if isinstance(module, MLP):
            nn.init.normal_(module.down_proj.weight, std=0.02 / math.sqrt(2 * self.config.n_layers))

    def positions(self, tokens: Tensor, state: KVCache | None, pad: Tensor | None) -> Tensor:
        """The position of each token: the number of real tokens before it. (B or 1, T).

        Raises ValueError for more than block_size tokens in sight.
        """
        T = tokens.shape[1]
        S = T if state is None else state.length + T
        if S > self.config.block_size:
            raise ValueError(f"{S} tokens in sight, but block_size is {self.config.block_size}")
        if pad is not None:
            return (pad.cumsum(1) - pad.long())[:, -T:]
        if state is not None:
            return state.positions(T).to(tokens.device)
        return torch.arange(T, device=tokens.device)[None]

    def rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of position times frequency, for every pair: (B, T) -> 2 times (B, 1, T, D / 2) float32."""
        frequency = frequencies(self.config).to(positions.device)  # (D / 2,)
        # the same for all heads
        angles = positions[:, None, :, None] * frequency  # (B, 1, T, D / 2)
        sharpen = 1.0 if self.config.scaling is None else self.config.scaling.sharpen
        # on queries and keys, so scores grow by its square: of the same scores among more tokens a softmax is flatter
        return angles.cos() * sharpen, angles.sin() * sharpen

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, state=None, pad=None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. pad (B, S) bool: True = real."""
        T = tokens.shape[1]
        S = T if state is None else state.length + T
        # no position is added to x: each layer turns its own queries and keys
        rotation = self.rotation(self.positions(tokens, state, pad))
        visible = causal_mask(T, S, pad, tokens.device, self.config.window)
        x = self.embed_tokens(tokens)  # (B, T, C)
        for layer in self.layers:
            x = layer(x, rotation, visible, state)
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        logits = self.norm(x) @ head.weight.T  # (B, T, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size: int) -> KVCache:
        """An empty cache of keys and values. It keeps what a window has left behind: `crop` may go back there."""
        return KVCache(batch_size)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


# The same by torch's kernels: nothing to learn from, faster. Config.fused chooses them; a test holds them equal.
def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """`attention` without a window by torch's kernel."""
    if visible.ndim == 2 and q.shape[2] == k.shape[2]:  # no padding, no cache: the kernel makes the mask itself
        # its output lies in memory as q does: a token's heads side by side, so that no copy of both is kept
        q = q.transpose(1, 2).contiguous().transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return fused_window_attention(q, k, v, visible)


def fused_window_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """`attention` by torch's kernel, whatever is visible."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)


class FusedRMSNorm(RMSNorm):
    """`RMSNorm` by torch's kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


Model = Llama
