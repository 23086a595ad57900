"""A small encoder: reads a text and says which class it is of.

The encoder of Vaswani et al., "Attention Is All You Need" (2017), as BERT (Devlin et al. 2019) uses one, with a norm
before each branch (Xiong et al. 2020) and learned positions. Added, as a small data set teaches a pure Transformer too
little: each token first sees its neighbours through convolutions (Kim 2014), and the whole text is the largest and the
mean of each feature over all tokens, where BERT takes the vector of its first token.

Axes: B batch, T tokens of a text, C width, H heads, D = C / H width of a head, K classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import END, IGNORE, Output

TASK = "label"
UNKNOWN = 1  # the token of what the tokenizer does not know


@dataclass(frozen=True)
class Config:
    vocab_size: int = 4000  # V
    n_classes: int = 2  # K
    block_size: int = 64  # the longest text; of a longer one the first tokens are read
    n_layers: int = 1
    n_heads: int = 4  # H
    n_embd: int = 128  # C
    n_hidden: int = 256  # inside the feed-forward layers
    n_gram: int = 3  # tokens that the convolution sees: itself and as many on either side
    dropout: float = 0.3  # probability; on embeddings, attention weights, hidden units, branches, and the pooled text
    word_dropout: float = 0.1  # probability that a token is read as unknown, while training
    label_smoothing: float = 0.1  # share of the probability that is wanted for all classes alike, while training
    eps: float = 1e-5  # inside the root of LayerNorm

    def __post_init__(self):
        for name in ("vocab_size", "n_classes", "block_size", "n_heads", "n_embd", "n_hidden", "n_gram"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_layers < 0:
            raise ValueError(f"n_layers must be at least 0, got {self.n_layers}")
        if self.n_embd % self.n_heads:
            raise ValueError(f"n_embd must be a multiple of n_heads, got {self.n_embd} and {self.n_heads}")
        if self.n_gram % 2 == 0:
            raise ValueError(f"n_gram must be odd, as many tokens before as after, got {self.n_gram}")
        for name in ("dropout", "word_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


PRESETS = {
    "encoder-texts": Config(),
    "encoder-tiny": Config(n_embd=32, n_heads=2, n_hidden=64, dropout=0.1),
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
        mean = x.mean(-1, keepdim=True)  # (..., 1)
        variance = (x - mean).square().mean(-1, keepdim=True)  # (..., 1)
        # eps inside the root: a constant vector is divided by sqrt(eps), not by 0
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


class Neighbours(nn.Module):
    """Each token with those around it, an n-gram: one linear map of their vectors side by side.

    Parameters: linear (n C -> C).
    """

    def __init__(self, width: int, n: int):
        super().__init__()
        self.n = n
        self.linear = nn.Linear(n * width, width)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x (B, T, C), real (B, T) bool -> (B, T, C)."""
        # padding is nothing, as is what lies beyond both ends: zeros
        around = F.pad(x * real[..., None], (0, 0, self.n // 2, self.n // 2))  # (B, T + n - 1, C)
        grams = around.unfold(1, self.n, 1).transpose(2, 3).flatten(2)  # (B, T, n C)
        return F.relu(self.linear(grams))


class Attention(nn.Module):
    """softmax(q k^T / sqrt(D)) v in H heads: each token's weighted mean of what all tokens have to say.

    Parameters: q, k, v, out, each (C -> C).
    """

    def __init__(self, config: Config):
        super().__init__()
        C = config.n_embd
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.q, self.k, self.v, self.out = (nn.Linear(C, C) for _ in range(4))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x (B, T, C), real (B, T) bool: what may be looked at -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (each(x).view(B, T, self.n_heads, -1).transpose(1, 2) for each in (self.q, self.k, self.v))
        # a dot product of D terms of variance 1 has variance D; undone, or softmax starts saturated and learns nothing
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])  # (B, H, T, T)
        # -inf before the softmax, so that the weights of what is real still sum to 1
        weights = F.softmax(scores.masked_fill(~real[:, None, None, :], float("-inf")), dim=-1)  # (B, H, T, T)
        y = F.dropout(weights, self.dropout, self.training) @ v  # (B, H, T, D)
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
        # without the relu, two linear layers in a row would be one
        h = F.relu(self.up(x))  # (B, T, hidden)
        return self.down(F.dropout(h, self.dropout, self.training))


class Layer(nn.Module):
    """A token looks at the whole text, then thinks for itself. Parameters: norms, two; attention, feed_forward."""

    def __init__(self, config: Config):
        super().__init__()
        self.dropout = config.dropout
        self.norms = nn.ModuleList(LayerNorm(config.n_embd, config.eps) for _ in range(2))
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x (B, T, C), real (B, T) bool -> (B, T, C)."""
        first, second = self.norms
        x = x + F.dropout(self.attention(first(x), real), self.dropout, self.training)
        return x + F.dropout(self.feed_forward(second(x)), self.dropout, self.training)


class Encoder(nn.Module):
    """Embeddings, neighbours, layers, a pool, one linear layer.

    Parameters: embedding (V, C) and positions (block_size + 1, C), normal with deviation 0.1; neighbours; layers; norm;
    head (2 C -> K). Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        C = config.n_embd
        self.embedding = nn.Embedding(config.vocab_size, C)
        self.positions = nn.Embedding(config.block_size + 1, C)
        self.neighbours = Neighbours(C, config.n_gram)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.norm = LayerNorm(C, config.eps)
        self.head = nn.Linear(2 * C, config.n_classes)
        for each in (self.embedding, self.positions):
            nn.init.normal_(each.weight, std=0.1)
        # small logits at the start: every class about equally likely, a loss near ln K
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, pad: Tensor | None = None) -> Output:
        """tokens (B, T), targets (B) -> logits (B, K), loss. pad (B, T) bool: True = real; the rest is on the right."""
        dropout, N = self.config.dropout, self.config.block_size
        real = torch.ones_like(tokens, dtype=torch.bool) if pad is None else pad
        # END begins every text, as it does a document: so a text without a token has one, too
        tokens, real = F.pad(tokens[:, :N], (1, 0), value=END), F.pad(real[:, :N], (1, 0), value=True)  # (B, 1 + T)
        if self.training:
            # whoever has learnt to do without any one word can do without those that it never saw
            lost = torch.rand(tokens.shape, device=tokens.device) < self.config.word_dropout
            tokens = tokens.masked_fill(lost, UNKNOWN)
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]  # (B, 1 + T, C)
        x = F.dropout(x, dropout, self.training)
        x = x + self.neighbours(x, real)
        for layer in self.layers:
            x = layer(x, real)
        logits = self.head(F.dropout(self.pool(self.norm(x), real), dropout, self.training))  # (B, K)
        # a way to train: what the model is worth is measured without it
        smoothing = self.config.label_smoothing if self.training else 0.0
        return Output(logits, None if targets is None else cross_entropy(logits, targets, smoothing))

    def pool(self, x: Tensor, real: Tensor) -> Tensor:
        """x (B, T, C), real (B, T) bool, one in each row -> (B, 2 C): the largest of each feature, and the mean."""
        real = real[..., None]  # (B, T, 1)
        largest = x.masked_fill(~real, float("-inf")).amax(1)  # (B, C)
        return torch.cat((largest, (x * real).sum(1) / real.sum(1)), 1)


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    smoothing: share of the probability that is wanted for all classes alike (Szegedy et al. 2016, section 7).
    logits (B, K), targets (B) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


Model = Encoder
