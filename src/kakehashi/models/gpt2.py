"""GPT-2: a stack of Transformer decoder blocks that predicts the next token.

Papers: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019); Vaswani et al., "Attention Is All
You Need" (2017). Exact in architecture: normalisation before each branch, learned positions, the tanh form of GELU, the
output head tied to the embedding, projections into the residual stream initialised at 0.02 / sqrt(2 L).
Deviations: linear weights lie as (out, in), GPT-2's own files hold them transposed; dropout 0 unless set (0.1 there).

Axes: B batch, T new tokens, S tokens in sight (cached + T), C width, H heads, D = C / H width of a head, L layers,
V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, KVCache, Output

TASK = "lm"


@dataclass(frozen=True)
class Config:
    vocab_size: int = 50257  # V
    block_size: int = 1024  # the most tokens in sight: there are this many positions
    n_layers: int = 12  # L
    n_heads: int = 12  # H
    n_embd: int = 768  # C
    dropout: float = 0.0  # probability; on embeddings, attention weights and both branches of a block
    eps: float = 1e-5  # inside the root of LayerNorm
    fused: bool = False  # torch's kernels for attention, gelu and LayerNorm instead of the written-out ones

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "n_layers", "n_heads", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_embd % self.n_heads:
            raise ValueError(f"n_embd must be a multiple of n_heads, got {self.n_embd} and {self.n_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


PRESETS = {
    "gpt2-nano": Config(block_size=64, n_layers=4, n_heads=4, n_embd=128),
    "gpt2-pico": Config(block_size=64, n_layers=2, n_heads=4, n_embd=64),
    "gpt2-names": Config(block_size=64, n_layers=2, n_heads=4, n_embd=96, dropout=0.1),
    "gpt2-small": Config(),
    "gpt2-medium": Config(n_layers=24, n_heads=16, n_embd=1024),
    "gpt2-large": Config(n_layers=36, n_heads=20, n_embd=1280),
    "gpt2-xl": Config(n_layers=48, n_heads=25, n_embd=1600),
}


class LayerNorm(nn.Module):
    """Each token's vector to mean 0 and variance 1, then a learned gain and bias (Ba et al. 2016).

    Parameters: weight (C), starts at 1; bias (C), starts at 0.
    """

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C). The variance is the population's: divided by C."""
        # statistics along the width, for each token alone: no token learns of another here
        mean = x.mean(-1, keepdim=True)  # (..., 1)
        variance = (x - mean).square().mean(-1, keepdim=True)  # (..., 1)
        # eps inside the root: a constant vector is divided by sqrt(eps), not by 0
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


def gelu(x: Tensor) -> Tensor:
    """x times the probability that a standard normal is below x, in the tanh form (Hendrycks & Gimpel 2016)."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))
    # a gate that opens smoothly: 0 far below zero, x far above, and never quite flat as relu is
    return 0.5 * x * (1 + torch.tanh(inner))


def causal_mask(T: int, S: int, pad: Tensor | None = None, device: torch.device | None = None) -> Tensor:
    """Which of S tokens each of the last T may look at: itself and what came before, but no padding.

    pad (B, S) bool, True = real. Returns bool, True = may look: (T, S), or (B, 1, T, S) with pad. Every row holds at
    least one True: a padding token sees itself.
    """
    everywhere = torch.ones(T, S, dtype=torch.bool, device=device)
    # the first of the T stands at place S - T, so the diagonal moves right by that many
    visible = everywhere.tril(S - T)  # (T, S)
    if pad is None:
        return visible
    # softmax over nothing is NaN, so a token always sees itself
    itself_or_later = everywhere.triu(S - T)  # (T, S)
    return visible & (pad[:, None, None, :] | itself_or_later)  # (B, 1, T, S)


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: a weighted mean of the values whose keys match the query (Vaswani 2017, eq. 1).

    q (B, H, T, D); k, v (B, H, S, D); visible as `causal_mask` gives it; dropout on the weights -> (B, H, T, D).
    """
    # a dot product of D terms of variance 1 has variance D; undone, or softmax starts saturated and learns nothing
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    # -inf before the softmax, so that the weights of what is visible still sum to 1
    scores = scores.masked_fill(~visible, float("-inf"))
    weights = F.softmax(scores, dim=-1)  # (B, H, T, S)
    weights = F.dropout(weights, dropout)
    return weights @ v  # (B, H, T, D)


class CausalSelfAttention(nn.Module):
    """Each token gathers from itself and the tokens before it, in H heads at once.

    Parameters: c_attn (C -> 3C), queries, keys and values in that order; c_proj (C -> C).
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.layer = layer
        self.attend = fused_attention if config.fused else attention
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, state: KVCache | None = None, pad: Tensor | None = None) -> Tensor:
        """x (B, T, C) -> (B, T, C). state: the cached tokens are in sight, too. pad (B, S) bool, True = real."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)  # 3 times (B, T, C)
        # cut the width into heads first, then bring the heads forward: each head sees its own D features of all tokens
        q = q.view(B, T, self.n_heads, -1).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, self.n_heads, -1).transpose(1, 2)  # (B, H, T, D)
        v = v.view(B, T, self.n_heads, -1).transpose(1, 2)  # (B, H, T, D)
        if state is not None:
            k, v = state.append(self.layer, k, v)  # (B, H, S, D)
        visible = causal_mask(T, k.shape[2], pad, x.device)
        y = self.attend(q, k, v, visible, self.dropout if self.training else 0.0)  # (B, H, T, D)
        # the heads side by side again, then mixed by c_proj
        y = y.transpose(1, 2).reshape(B, T, C)
        return F.dropout(self.c_proj(y), self.dropout, self.training)


class MLP(nn.Module):
    """Each token by itself: four times as wide, a nonlinearity, back again.

    Parameters: c_fc (C -> 4C); c_proj (4C -> C).
    """

    def __init__(self, config: Config):
        super().__init__()
        self.dropout = config.dropout
        self.gelu = fused_gelu if config.fused else gelu
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        h = self.gelu(self.c_fc(x))  # (B, T, 4C)
        return F.dropout(self.c_proj(h), self.dropout, self.training)


class Block(nn.Module):
    """Communication, then computation; each reads the residual stream through a norm and adds to it.

    Parameters: ln_1, attn, ln_2, mlp.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        norm = FusedLayerNorm if config.fused else LayerNorm
        self.ln_1 = norm(config.n_embd, config.eps)
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = norm(config.n_embd, config.eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, state: KVCache | None = None, pad: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        # x itself is never normalised: the gradient has a straight way down through the additions
        x = x + self.attn(self.ln_1(x), state, pad)
        x = x + self.mlp(self.ln_2(x))
        return x


class GPT(nn.Module):
    """Token and position embeddings, L blocks, a last norm, and the token embedding again as the head.

    Parameters: wte (V, C) embeds tokens; wpe (block_size, C) positions; h, the L blocks; ln_f, the last norm.
    Initialised as GPT-2: weights normal with standard deviation 0.02, every c_proj with 0.02 / sqrt(2 L), biases 0.
    Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.ln_f = (FusedLayerNorm if config.fused else LayerNorm)(config.n_embd, config.eps)
        self.apply(self.initialise)

    def initialise(self, module: nn.Module) -> None:
        """Draw the weights of one module; `apply` calls it for every module inside."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, CausalSelfAttention | MLP):
            # 2 L branches add to the residual stream: smaller steps keep its variance at 1, however deep
            nn.init.normal_(module.c_proj.weight, std=0.02 / math.sqrt(2 * self.config.n_layers))

    def positions(self, tokens: Tensor, state: KVCache | None, pad: Tensor | None) -> Tensor:
        """The position of each token: the number of real tokens before it. (T,) or (B, T).

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
        return torch.arange(T, device=tokens.device)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, state=None, pad=None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. pad (B, S) bool: True = real."""
        x = self.wte(tokens) + self.wpe(self.positions(tokens, state, pad))  # (B, T, C)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x, state, pad)
        # the head is the embedding read backwards: a token is likely where the stream points along its own vector
        logits = self.ln_f(x) @ self.wte.weight.T  # (B, T, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size: int) -> KVCache:
        """An empty cache of keys and values."""
        return KVCache(batch_size)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


# The same by torch's kernels: nothing to learn from, faster. Config.fused chooses them; a test holds them equal.
def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """`attention` by torch's kernel."""
    if visible.ndim == 2 and q.shape[2] == k.shape[2]:  # no padding, no cache: the kernel makes the mask itself
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)


def fused_gelu(x: Tensor) -> Tensor:
    """`gelu` by torch's kernel."""
    return F.gelu(x, approximate="tanh")


class FusedLayerNorm(LayerNorm):
    """`LayerNorm` by torch's kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


Model = GPT
