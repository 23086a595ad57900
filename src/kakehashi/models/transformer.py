"""The Transformer: an encoder reads a text, a decoder writes another while it looks at what was read.

Paper: Vaswani et al., "Attention Is All You Need" (2017). Exact in architecture: sinusoidal positions, one table of
embeddings for both texts and for the output, times sqrt(C) going in, normalisation after each addition, relu, label
smoothing. Deviations: linear layers of the attention have biases, as in every implementation; norm_first=True puts the
normalisation before each branch (Xiong et al. 2020), which learns without a long warm-up, and ends each stack with one.

Axes: B batch, S source tokens, T target tokens, N tokens that are looked at, C width, H heads, D = C / H width of a
head, V vocabulary.
"""

import math
from dataclasses import dataclass

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
    dropout: float = 0.1  # probability; on embeddings, attention weights and branches
    label_smoothing: float = 0.1  # share of the probability that is wanted for all tokens alike, while training
    norm_first: bool = False
    eps: float = 1e-5  # inside the root of LayerNorm
    fused: bool = False  # torch's kernel for attention instead of the written-out one

    def __post_init__(self):
        for name in ("vocab_size", "n_layers", "n_heads", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_embd % self.n_heads or self.n_embd % 2:
            raise ValueError(f"n_embd must be even and a multiple of n_heads, got {self.n_embd} and {self.n_heads}")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


PRESETS = {
    "transformer-nano": Config(
        n_layers=2, n_heads=4, n_embd=128, n_hidden=256, dropout=0.0, label_smoothing=0.0, norm_first=True
    ),
    "transformer-small": Config(n_layers=3, n_heads=4, n_embd=256, n_hidden=512, dropout=0.3, norm_first=True),
    "transformer-base": Config(),
    "transformer-big": Config(n_heads=16, n_embd=1024, n_hidden=4096, dropout=0.3),
}


def positions(start: int, T: int, width: int) -> Tensor:
    """Places as points on circles that turn ever more slowly: (T, C), for places start to start + T - 1.

    Columns come in pairs: sin and cos of place / 10000^(2 i / C).
    """
    place = torch.arange(start, start + T, dtype=torch.float32)[:, None]  # (T, 1)
    # from one turn in 2 pi tokens to one in 10000 times as many: near and far can both be told apart
    speed = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))  # (C / 2,)
    angle = place * speed  # (T, C / 2)
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1)  # (T, C): sin, cos, sin, cos, ...


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(D)) v: a weighted mean of the values whose keys match the query (eq. 1).

    q (B, H, T, D); k, v (B, H, N, D); visible bool, True = may look, broadcast to (B, H, T, N) -> (B, H, T, D).
    """
    # a dot product of D terms of variance 1 has variance D; undone, or softmax starts saturated and learns nothing
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, N)
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
        return x.view(B, N, self.n_heads, C // self.n_heads).transpose(1, 2)

    def keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of what is looked at: x (B, N, C) -> each (B, H, N, D)."""
        return self.heads(self.k(x)), self.heads(self.v(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """x (B, T, C), keys and values (B, H, N, D), visible broadcast to (B, H, T, N) -> (B, T, C)."""
        B, T, C = x.shape
        y = self.attend(self.heads(self.q(x)), keys, values, visible, self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class FeedForward(nn.Module):
    """Each token by itself. Parameters: up (C -> hidden), down (hidden -> C)."""

    def __init__(self, config: Config):
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(config.n_embd, config.n_hidden)
        self.down = nn.Linear(config.n_hidden, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.down(F.dropout(F.relu(self.up(x)), self.dropout, self.training))


class Branch(nn.Module):
    """What joins a branch to the stream of a text: an addition, and a norm before or after it.

    Parameters: norm, torch's LayerNorm.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.dropout = config.dropout
        self.norm_first = config.norm_first
        self.norm = nn.LayerNorm(config.n_embd, config.eps)

    def forward(self, x: Tensor, branch) -> Tensor:
        """x (B, T, C), branch: (B, T, C) -> (B, T, C)."""
        if self.norm_first:
            return x + F.dropout(branch(self.norm(x)), self.dropout, self.training)
        return self.norm(x + F.dropout(branch(x), self.dropout, self.training))


class EncoderLayer(nn.Module):
    """Every source token looks at every other. Parameters: attention, feed_forward, branches, two."""

    def __init__(self, config: Config):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.branches = nn.ModuleList(Branch(config) for _ in range(2))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (B, S, C), visible (B, 1, 1, S) -> (B, S, C)."""
        first, second = self.branches
        x = first(x, lambda x: self.attention(x, *self.attention.keys_and_values(x), visible))
        return second(x, self.feed_forward)


class DecoderLayer(nn.Module):
    """A target token looks at those before it, then at the source.

    Parameters: attention, cross, feed_forward, branches, three.
    """

    def __init__(self, config: Config, layer: int):
        super().__init__()
        self.layer = layer
        self.attention = Attention(config)
        self.cross = Attention(config)
        self.feed_forward = FeedForward(config)
        self.branches = nn.ModuleList(Branch(config) for _ in range(3))

    def forward(self, x: Tensor, state: "Memory") -> Tensor:
        """x (B, T, C) -> (B, T, C)."""

        def to_itself(x: Tensor) -> Tensor:
            T = x.shape[1]
            keys, values = state.append(self.layer, *self.attention.keys_and_values(x))  # (B, H, N, D)
            N = keys.shape[2]
            # the first of the T stands at place N - T: what is to be predicted lies above the diagonal, unseen
            visible = torch.ones(T, N, dtype=torch.bool, device=x.device).tril(N - T)
            return self.attention(x, keys, values, visible)

        def to_the_source(x: Tensor) -> Tensor:
            return self.cross(x, *state.source[self.layer], state.visible)

        first, second, third = self.branches
        x = first(x, to_itself)
        x = second(x, to_the_source)
        return third(x, self.feed_forward)


class Memory(KVCache):
    """What the decoder looks at: for each layer the source's keys and values, and the cache of its own tokens'."""

    def __init__(self, source: list[tuple[Tensor, Tensor]], visible: Tensor):
        super().__init__(len(visible))
        self.source = source  # (B, H, S, D) each
        self.visible = visible  # (B, 1, 1, S) bool: no padding

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; one may come several times."""
        self.batch_size = len(rows)
        self.visible = self.visible[rows]
        self.source = [(k[rows], v[rows]) for k, v in self.source]
        self.layers = [(k[rows], v[rows]) for k, v in self.layers]


class Transformer(nn.Module):
    """Embeddings, an encoder, a decoder, and the embeddings again as the head.

    Parameters: embedding (V, C), normal with deviation 1 / sqrt(C); encoder and decoder, their layers; encoder_norm and
    decoder_norm, with norm_first. All other matrices are drawn as Glorot & Bengio (2010) do, uniformly. Keeps
    `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        C = config.n_embd
        self.embedding = nn.Embedding(config.vocab_size, C)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.n_layers))
        self.encoder_norm = nn.LayerNorm(C, config.eps) if config.norm_first else nn.Identity()
        self.decoder_norm = nn.LayerNorm(C, config.eps) if config.norm_first else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=C**-0.5)

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """(B, T) -> (B, T, C), the first token at place `start`."""
        C = self.config.n_embd
        # times sqrt(C): the table suits the head with deviation 1 / sqrt(C), and beside the positions needs about 1
        x = self.embedding(tokens) * math.sqrt(C) + positions(start, tokens.shape[1], C).to(tokens.device)
        return F.dropout(x, self.config.dropout, self.training)

    def new_state(self, source: Tensor, source_pad: Tensor | None = None) -> Memory:
        """Read the source (B, S), once for all that is written from it. source_pad (B, S) bool: True = real."""
        real = torch.ones_like(source, dtype=torch.bool) if source_pad is None else source_pad
        visible = real[:, None, None, :]  # (B, 1, 1, S)
        x = self.embed(source)  # (B, S, C)
        for layer in self.encoder:
            x = layer(x, visible)
        x = self.encoder_norm(x)
        return Memory([layer.cross.keys_and_values(x) for layer in self.decoder], visible)

    def forward(
        self, source: Tensor | None, target: Tensor, targets: Tensor | None = None, *, source_pad=None, state=None
    ) -> Output:
        """source (B, S), target (B, T), targets (B, T) -> logits (B, T, V), loss.

        target: what is written so far, END first; targets: the same one further. source_pad (B, S) bool: True = real;
        every row has a real token. state, from `new_state`: target goes on where the last one ended, and source is not
        read again.
        """
        if state is None:
            state = self.new_state(source, source_pad)
        x = self.embed(target, state.length)  # (B, T, C)
        for layer in self.decoder:
            x = layer(x, state)
        logits = self.decoder_norm(x) @ self.embedding.weight.T  # (B, T, V)
        smoothing = self.config.label_smoothing if self.training else 0.0
        return Output(logits, None if targets is None else cross_entropy(logits, targets, smoothing))


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over the targets that count of -sum over v of want(v) log p(v), in nats; Szegedy et al. (2016).

    want is 1 - smoothing on the target and smoothing / V on every token. logits (B, T, V), targets (B, T) -> scalar.
    Nothing counted: 0, with zero gradients.
    """
    logs = F.log_softmax(logits, dim=-1)  # (B, T, V)
    counted = targets != IGNORE  # (B, T)
    right = logs.gather(-1, targets.masked_fill(~counted, 0)[..., None]).squeeze(-1)  # (B, T)
    loss = -(1 - smoothing) * right - smoothing * logs.mean(-1)  # (B, T)
    return loss.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


# The same by torch's kernel: nothing to learn from, faster. Config.fused chooses it; a test holds them equal.
def fused_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    """`attention` by torch's kernel."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)


Model = Transformer
