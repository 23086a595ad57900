"""The Transformer: an encoder reads a text, a decoder writes another while it looks at what was read.

Paper: Vaswani et al., "Attention Is All You Need" (2017). Exact in architecture: sinusoidal positions, one table of
embeddings for both texts and for the output, times sqrt(C) going in, normalisation after each addition, relu, label
smoothing. Deviations, the first two as in the paper's own code and torch's layers: the attention's linear layers have
biases; dropout falls on attention weights and inside the feed-forward layer, too. norm_first=True puts the
normalisation before each branch (Xiong et al. 2020), which learns without a long warm-up, and ends each stack with one.

Axes: B batch, S source tokens, T target tokens, N tokens that are looked at, C width, H heads, D = C / H width of a
head, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, KVCache, Output

TASK = "seq2seq"


@dataclass(frozen=True)
class Config:
    vocab_size: int = 37000  # V, of both texts
    n_layers: int = 6  # of the encoder, and of the decoder
    n_heads: int = 8  # H
    n_embd: int = 512  # C
    n_hidden: int = 2048  # inside the feed-forward layers
    dropout: float = 0.1  # probability; on embeddings, attention weights, hidden units and branches
    label_smoothing: float = 0.1  # share of the probability that is wanted for all tokens alike, while training
    norm_first: bool = False  # False: a norm after each addition, as in the paper; True: before each branch
    eps: float = 1e-5  # inside the root of LayerNorm
    fused: bool = False  # torch's kernels for attention and LayerNorm instead of the written-out ones

    def __post_init__(self):
        for name in ("vocab_size", "n_layers", "n_heads", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_embd % self.n_heads:
            raise ValueError(f"n_embd must be a multiple of n_heads, got {self.n_embd} and {self.n_heads}")
        if self.n_embd % 2:
            raise ValueError(f"n_embd must be even, for positions come as pairs of sin and cos, got {self.n_embd}")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


PRESETS = {
    "transformer-nano": Config(
        n_layers=2, n_heads=4, n_embd=128, n_hidden=256, dropout=0.0, label_smoothing=0.0, norm_first=True
    ),
    "transformer-tiny": Config(n_layers=4, n_heads=4, n_embd=128, n_hidden=256, dropout=0.3, norm_first=True),
    "transformer-small": Config(n_layers=3, n_heads=4, n_embd=256, n_hidden=512, dropout=0.3, norm_first=True),
    "transformer-base": Config(),
    "transformer-big": Config(n_heads=16, n_embd=1024, n_hidden=4096, dropout=0.3),
}


def positions(start: int, T: int, width: int) -> Tensor:
    """Places as points on circles that turn ever more slowly: (T, C), for places start to start + T - 1 (section 3.5).

    Columns 2 i and 2 i + 1: sin and cos of place / 10000^(2 i / C).
    """
    place = torch.arange(start, start + T)[:, None]  # (T, 1)
    # from one turn in 2 pi tokens to one in nearly 10000 times as many: near and far can both be told apart
    speed = 10000.0 ** (-torch.arange(0, width, 2) / width)  # (C / 2,)
    angle = place * speed  # (T, C / 2)
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1)  # (T, C)


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
        mean = x.mean(-1, keepdim=True)  # (..., 1)
        variance = (x - mean).square().mean(-1, keepdim=True)  # (..., 1)
        # eps inside the root: a constant vector is divided by sqrt(eps), not by 0
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: a weighted mean of the values whose keys match the query (eq. 1).

    q (B, H, T, D); k, v (B, H, N, D); visible bool, True = may look, broadcast to (B, H, T, N) -> (B, H, T, D).
    """
    # a dot product of D terms of variance 1 has variance D; undone, or softmax starts saturated and learns nothing
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, N)
    # -inf before the softmax, so that the weights of what is visible still sum to 1
    scores = scores.masked_fill(~visible, float("-inf"))
    weights = F.softmax(scores, dim=-1)  # (B, H, T, N)
    return F.dropout(weights, dropout) @ v  # (B, H, T, D)


class Attention(nn.Module):
    """Queries from one text, keys and values from the same or another, in H heads at once.

    Parameters: q, k, v, out, each (C -> C).
    """

    def __init__(self, config: Config):
        super().__init__()
        C = config.n_embd
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.attend = fused_attention if config.fused else attention
        self.q, self.k, self.v, self.out = (nn.Linear(C, C) for _ in range(4))

    def heads(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, H, N, D)."""
        B, N, C = x.shape
        # cut the width into heads first, then bring the heads forward: each head sees its own D features of all tokens
        return x.view(B, N, self.n_heads, C // self.n_heads).transpose(1, 2)  # (B, H, N, D)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of what is looked at: x (B, N, C) -> each (B, H, N, D)."""
        return self.heads(self.k(x)), self.heads(self.v(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """x (B, T, C), keys and values (B, H, N, D), visible broadcast to (B, H, T, N) -> (B, T, C)."""
        B, T, C = x.shape
        dropout = self.dropout if self.training else 0.0
        y = self.attend(self.heads(self.q(x)), keys, values, visible, dropout)  # (B, H, T, D)
        # the heads side by side again, then mixed by `out`
        return self.out(y.transpose(1, 2).reshape(B, T, C))  # (B, T, C)


class FeedForward(nn.Module):
    """Each token by itself. Parameters: up (C -> hidden), down (hidden -> C)."""

    def __init__(self, config: Config):
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(config.n_embd, config.n_hidden)
        self.down = nn.Linear(config.n_hidden, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        # without the relu, two linear layers in a row would be one
        h = F.relu(self.up(x))  # (B, T, hidden)
        return self.down(F.dropout(h, self.dropout, self.training))


class Branch(nn.Module):
    """What joins a branch to the stream of a text: an addition, with a norm after it, or before the branch.

    Parameters: norm.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.dropout = config.dropout
        self.norm_first = config.norm_first
        self.norm = (FusedLayerNorm if config.fused else LayerNorm)(config.n_embd, config.eps)

    def forward(self, x: Tensor, branch: Callable[..., Tensor], *given: Any) -> Tensor:
        """x (B, T, C), branch: (B, T, C), *given -> (B, T, C). Returns (B, T, C)."""
        if self.norm_first:
            # x itself is never normalised: the gradient has a straight way down through the additions
            return x + F.dropout(branch(self.norm(x), *given), self.dropout, self.training)
        return self.norm(x + F.dropout(branch(x, *given), self.dropout, self.training))


class EncoderLayer(nn.Module):
    """A source token looks at all of the source, then thinks for itself.

    Parameters: attention, feed_forward; branches, one for each.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.branches = nn.ModuleList(Branch(config) for _ in range(2))

    def look_around(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, S, C), visible (B, 1, 1, S) -> (B, S, C)."""
        # x asks and x is looked at; no token is hidden from another, for the whole source is known
        return self.attention(x, *self.attention.keys_and_values(x), visible)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, S, C), visible (B, 1, 1, S) -> (B, S, C)."""
        first, second = self.branches
        x = first(x, self.look_around, visible)
        return second(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """A target token looks at those before it, then at the source, then thinks for itself.

    Parameters: attention, cross, feed_forward; branches, one for each.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.layer = layer
        self.attention = Attention(config)
        self.cross = Attention(config)
        self.feed_forward = FeedForward(config)
        self.branches = nn.ModuleList(Branch(config) for _ in range(3))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The source as the encoder gives it (B, S, C) -> its keys and values here, each (B, H, S, D)."""
        return self.cross.keys_and_values(x)

    def look_back(self, x: Tensor, state: "Memory") -> Tensor:
        """At itself and the targets before it: (B, T, C) -> (B, T, C)."""
        # a cache of keys and values alone: no later token asks what an earlier one asked
        keys, values = state.append(self.layer, *self.attention.keys_and_values(x))  # (B, H, N, D)
        T, N = x.shape[1], keys.shape[2]
        # the first of the T stands at place N - T: what is to be predicted lies above the diagonal, unseen
        visible = torch.ones(T, N, dtype=torch.bool, device=x.device).tril(N - T)
        return self.attention(x, keys, values, visible)

    def look_at_source(self, x: Tensor, state: "Memory") -> Tensor:
        """At the source, as `read` left it in the state: (B, T, C) -> (B, T, C)."""
        # the source's keys and values do not depend on x: `read` makes them once a text
        return self.cross(x, *state.source[self.layer], state.visible)

    def forward(self, x: Tensor, state: "Memory") -> Tensor:
        """x (B, T, C) -> (B, T, C)."""
        first, second, third = self.branches
        x = first(x, self.look_back, state)
        x = second(x, self.look_at_source, state)
        return third(x, self.feed_forward)


class Memory(KVCache):
    """What the decoder looks at: each layer's keys and values of the source, and the cache of the targets'.

    source: a pair a layer, each (B, H, S, D). visible (B, 1, 1, S) bool: the source but its padding.
    """

    def __init__(self, source: list[tuple[Tensor, Tensor]], visible: Tensor):
        super().__init__(len(visible))
        self.source = source
        self.visible = visible

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, (B',) int64, in this order; one may come several times."""
        # all that has rows goes along: a row of the batch is a text, what was written of it, and its source
        self.batch_size = len(rows)
        self.visible = self.visible[rows]
        self.source = [(k[rows], v[rows]) for k, v in self.source]
        self.layers = [(k[rows], v[rows]) for k, v in self.layers]


class Transformer(nn.Module):
    """Embeddings, an encoder, a decoder, and the embeddings again as the head.

    Parameters: embedding (V, C), normal with deviation 1 / sqrt(C); encoder and decoder, their layers; encoder_norm and
    decoder_norm, where norm_first leaves the streams without one. All other matrices are drawn as Glorot & Bengio
    (2010) do, uniform with variance 2 / (inputs + outputs), biases 0. Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        C = config.n_embd
        self.embedding = nn.Embedding(config.vocab_size, C)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.n_layers))
        norm = FusedLayerNorm if config.fused else LayerNorm
        self.encoder_norm = norm(C, config.eps) if config.norm_first else nn.Identity()
        self.decoder_norm = norm(C, config.eps) if config.norm_first else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # it is the head, too: a dot product with a normalised stream, C terms, then starts with variance 1
        nn.init.normal_(self.embedding.weight, std=C**-0.5)

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """(B, T) -> (B, T, C), the first token at place `start`."""
        C = self.config.n_embd
        x = self.embedding(tokens)  # (B, T, C)
        # times sqrt(C): the head wants a table of deviation 1 / sqrt(C), which beside the positions would be lost
        x = x * math.sqrt(C) + positions(start, tokens.shape[1], C).to(x)
        return F.dropout(x, self.config.dropout, self.training)

    def new_state(self, source: Tensor, source_pad: Tensor | None = None) -> Memory:
        """Read the source (B, S), once for all that is written from it. source_pad as `forward` takes it."""
        real = torch.ones_like(source, dtype=torch.bool) if source_pad is None else source_pad
        # the same for every head and for whoever asks, in the encoder and in the decoder
        visible = real[:, None, None, :]  # (B, 1, 1, S)
        x = self.embed(source)  # (B, S, C)
        for layer in self.encoder:
            x = layer(x, visible)
        x = self.encoder_norm(x)
        layers: Any = self.decoder
        return Memory([layer.read(x) for layer in layers], visible)

    def forward(
        self, source: Tensor, target: Tensor, targets: Tensor | None = None, *, source_pad=None, state=None
    ) -> Output:
        """source (B, S), target (B, T), targets (B, T) -> logits (B, T, V), loss.

        target: what is written so far, END first; targets: the same one further. source_pad (B, S) bool, True = real,
        at least one in each row. state, from `new_state`: target goes on where the last one ended, and source, which
        is not looked at again, may be None.
        """
        if state is None:
            state = self.new_state(source, source_pad)
        x = self.embed(target, state.length)  # (B, T, C)
        for layer in self.decoder:
            x = layer(x, state)
        # the head reads the table backwards: a token is likely where the stream points along its vector
        logits = self.decoder_norm(x) @ self.embedding.weight.T  # (B, T, V)
        # a way to train: what the model is worth is measured without it
        smoothing = self.config.label_smoothing if self.training else 0.0
        return Output(logits, None if targets is None else cross_entropy(logits, targets, smoothing))


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean of -sum over v of want(v) log p(v) over the targets that count (those that are not -100), in nats.

    want(v) is smoothing / V, and 1 - smoothing more on the target (Szegedy et al. 2016, section 7).
    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    logs = F.log_softmax(logits, dim=-1)  # (B, T, V)
    counted = targets != IGNORE  # (B, T)
    right = logs.gather(-1, targets.masked_fill(~counted, 0)[..., None]).squeeze(-1)  # (B, T)
    # a model that is never asked to be certain: no logit need run away from the others
    loss = -(1 - smoothing) * right - smoothing * logs.mean(-1)  # (B, T)
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return loss.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


# The same by torch's kernels: nothing to learn from, faster. Config.fused chooses them; a test holds them equal.
def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """`attention` by torch's kernel."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)


class FusedLayerNorm(LayerNorm):
    """`LayerNorm` by torch's kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


Model = Transformer
