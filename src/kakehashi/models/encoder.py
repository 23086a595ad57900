"""A small encoder: reads a text and says which class it is of.

Several readers, the members, each look at the text alone, and their probabilities are averaged. A member looks for
n-grams: convolutions over 1, 2, 3 tokens, of each feature the largest value anywhere in the text (Kim, "Convolutional
Neural Networks for Sentence Classification", 2014). With `n_layers` it is besides the encoder of Vaswani et al.,
"Attention Is All You Need" (2017), as BERT (Devlin et al. 2019) uses one: a norm before each branch (Xiong et al.
2020), learned positions, and the largest and the mean of each feature where BERT takes the vector of its first token.

From ten thousand short texts, n-grams learn more than attention does, which must find out first where to look: so the
first preset has no layers. Members differ by their first weights and by what dropout hides (Lakshminarayanan et al.
2017).

Axes: B batch, T tokens of a text, C width, F features of a convolution, H heads, D = C / H, K classes, M members.
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
    n_members: int = 4  # M
    n_embd: int = 256  # C
    n_gram: int = 3  # tokens that the widest convolution sees; there is one for each width up to it
    n_filters: int = 256  # F, features of each convolution
    n_layers: int = 0  # of attention
    n_heads: int = 4  # H
    n_hidden: int = 256  # inside the feed-forward layers
    dropout: float = 0.3  # probability; on embeddings, attention weights, hidden units and branches
    pool_dropout: float = 0.5  # probability; on the features of the whole text
    word_dropout: float = 0.1  # probability that a token is read as unknown, while training
    label_smoothing: float = 0.1  # share of the probability that is wanted for all classes alike, while training
    eps: float = 1e-5  # inside the root of LayerNorm

    def __post_init__(self):
        sizes = ("vocab_size", "n_classes", "block_size", "n_members", "n_embd", "n_gram", "n_filters")
        for name in (*sizes, "n_heads", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_layers < 0:
            raise ValueError(f"n_layers must be at least 0, got {self.n_layers}")
        if self.n_embd % self.n_heads:
            raise ValueError(f"n_embd must be a multiple of n_heads, got {self.n_embd} and {self.n_heads}")
        for name in ("dropout", "pool_dropout", "word_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


PRESETS = {
    "encoder-texts": Config(),
    "encoder-attention": Config(n_members=1, n_embd=128, n_layers=1),
    "encoder-tiny": Config(n_members=2, n_embd=32, n_filters=32, n_layers=1, n_heads=2, n_hidden=64, dropout=0.1),
}


class NGrams(nn.Module):
    """Features of n tokens in a row: one linear map of their vectors side by side, and a relu.

    Parameters: linear (n C -> F).
    """

    def __init__(self, width: int, n: int, n_filters: int):
        super().__init__()
        self.n = n
        self.linear = nn.Linear(n * width, n_filters)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """x (B, T, C), real (B, T) bool -> (B, T, F): of the n-gram around each token."""
        # padding is nothing, as is what lies beyond both ends: zeros
        around = F.pad(x * real[..., None], (0, 0, (self.n - 1) // 2, self.n // 2))  # (B, T + n - 1, C)
        grams = around.unfold(1, self.n, 1).transpose(2, 3).flatten(2)  # (B, T, n C)
        return F.relu(self.linear(grams))


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


class Member(nn.Module):
    """One reader: what it finds anywhere in the text, and one linear layer.

    Parameters: embedding (V, C), normal with deviation 0.1; n_grams, of 1 to n_gram tokens; with layers also positions
    (block_size + 1, C), as the embedding, layers, and norm; head, which starts normal with deviation 0.01 and bias 0.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        C = config.n_embd
        self.embedding = nn.Embedding(config.vocab_size, C)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.n_grams = nn.ModuleList(NGrams(C, 1 + i, config.n_filters) for i in range(config.n_gram))
        n_features = config.n_filters * config.n_gram
        if config.n_layers:
            self.positions = nn.Embedding(config.block_size + 1, C)
            nn.init.normal_(self.positions.weight, std=0.1)
            self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
            self.norm = LayerNorm(C, config.eps)
            n_features += 2 * C
        self.head = nn.Linear(n_features, config.n_classes)
        # small logits at the start: every class about equally likely, a loss near ln K
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """tokens (B, T), real (B, T) bool, at least one in each row -> logits (B, K)."""
        config = self.config
        if self.training:
            # whoever has learnt to do without any one word can do without those that it never saw
            lost = torch.rand(tokens.shape, device=tokens.device) < config.word_dropout
            tokens = tokens.masked_fill(lost, UNKNOWN)
        x = F.dropout(self.embedding(tokens), config.dropout, self.training)  # (B, T, C)
        features = [largest(n_gram(x, real), real) for n_gram in self.n_grams]  # each (B, F)
        if config.n_layers:
            x = x + self.positions.weight[: tokens.shape[1]]
            for layer in self.layers:
                x = layer(x, real)
            x = self.norm(x)
            features += [largest(x, real), mean(x, real)]  # each (B, C)
        # half of what was found is hidden: no class may rest on a single n-gram
        return self.head(F.dropout(torch.cat(features, 1), config.pool_dropout, self.training))


def largest(x: Tensor, real: Tensor) -> Tensor:
    """x (B, T, C), real (B, T) bool, at least one in each row -> (B, C): of each feature the largest over the text."""
    return x.masked_fill(~real[..., None], float("-inf")).amax(1)


def mean(x: Tensor, real: Tensor) -> Tensor:
    """x (B, T, C), real (B, T) bool, at least one in each row -> (B, C): of each feature the mean over the text."""
    return (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)


class Encoder(nn.Module):
    """Members that read the same text. Parameters: members, M of them. Keeps `.config`."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config) for _ in range(config.n_members))

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, pad: Tensor | None = None) -> Output:
        """tokens (B, T), targets (B) -> logits (B, K), loss. pad (B, T) bool: True = real; the rest is on the right.

        The logits are the logarithm of the members' mean probability.
        """
        N = self.config.block_size
        real = torch.ones_like(tokens, dtype=torch.bool) if pad is None else pad
        # END begins every text, as it does a document: so a text without a token has one, too
        tokens, real = F.pad(tokens[:, :N], (1, 0), value=END), F.pad(real[:, :N], (1, 0), value=True)  # (B, 1 + T)
        each = [member(tokens, real) for member in self.members]  # M times (B, K)
        logits = torch.stack([F.log_softmax(one, -1) for one in each]).logsumexp(0) - math.log(len(each))  # (B, K)
        if targets is None:
            return Output(logits)
        if not self.training:
            return Output(logits, cross_entropy(logits, targets))
        # each answers for itself: one that could lean on the others would learn less, and all would err together
        losses = [cross_entropy(one, targets, self.config.label_smoothing) for one in each]
        return Output(logits, torch.stack(losses).mean())


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    smoothing: share of the probability that is wanted for all classes alike (Szegedy et al. 2016, section 7).
    logits (B, K), targets (B) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


Model = Encoder
