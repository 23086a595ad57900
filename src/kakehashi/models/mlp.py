"""A neural probabilistic language model: embed the last few tokens, one hidden layer, predict the next.

Papers: Bengio et al., "A Neural Probabilistic Language Model" (JMLR 2003); He et al. 2015 (Kaiming initialisation);
Ioffe & Szegedy 2015 (batch normalisation). Deviations from Bengio: no direct connections from embeddings to output,
and batch normalisation before the tanh.
Axes: B batch, T time, N = block_size tokens of context, C width of an embedding, K hidden units, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, Output, TokenWindow

TASK = "lm"


@dataclass(frozen=True)
class Config:
    vocab_size: int = 27  # V
    block_size: int = 3  # N, tokens of context
    n_embd: int = 10  # C
    n_hidden: int = 200  # K
    batch_norm: bool = True

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


PRESETS = {"mlp-char": Config(), "mlp-wide": Config(block_size=8, n_embd=24, n_hidden=256)}


class Linear(nn.Module):
    """y = x W^T + b, drawn so that activations keep their scale from layer to layer (Kaiming initialisation).

    Parameters: weight (n_out, n_in), normal with deviation gain / sqrt(n_in); bias (n_out), starts at 0, or none.
    """

    def __init__(self, n_in: int, n_out: int, gain: float = 1.0, bias: bool = True):
        super().__init__()
        # a sum of n_in terms of variance 1 has variance n_in: dividing the weights by sqrt(n_in) brings it back to 1
        std = gain / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * std)
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        y = x @ self.weight.T  # (..., n_out)
        return y if self.bias is None else y + self.bias


class BatchNorm(nn.Module):
    """Each feature to mean 0 and variance 1 over the batch, then a learned gain and bias.

    Parameters: weight (K), starts at 1; bias (K), starts at 0. Buffers: running_mean (K), starts at 0; running_var (K),
    starts at 1: exponential averages with `momentum`, as torch.nn.BatchNorm1d keeps them, used in eval().
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """(..., K) -> (..., K). counted (...) bool: the rows that are data; the others do not enter the statistics."""
        rows = x.flatten(0, -2) if counted is None else x[counted]  # (rows, K)
        if self.training and len(rows) > 0:
            mean = rows.mean(0)  # (K,)
            # normalising divides by the number of rows: the variance of this batch, not an estimate of the world's
            variance = (rows - mean).square().mean(0)  # (K,)
            self.remember(mean, variance, len(rows))
        else:
            mean, variance = self.running_mean, self.running_var
        # eps stands inside the root: a feature that never varies is divided by sqrt(eps), not by 0
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Move the running statistics towards those of a batch of n rows."""
        # the running variance estimates the world's: divided by n - 1 instead of n
        unbiased = variance * (n / max(n - 1, 1))
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)


class MLP(nn.Module):
    """Looks at the last `block_size` tokens, whatever stands before them.

    Parameters: embedding.weight (V + 1, C), normal with standard deviation 1; row V stands for "before the beginning".
    hidden (N C -> K), with gain 5/3 for the tanh after it, and no bias when `norm` follows. norm (K), a BatchNorm, or
    None. output (K -> V), with gain 0.1. Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        # tanh squeezes: 5/3 makes up for it. The norm's own bias would absorb the layer's
        n_in = config.block_size * config.n_embd
        self.hidden = Linear(n_in, config.n_hidden, gain=5 / 3, bias=not config.batch_norm)
        self.norm = BatchNorm(config.n_hidden) if config.batch_norm else None
        # small logits at the start: every token about equally likely, a loss near ln V, no confident nonsense
        self.output = Linear(config.n_hidden, config.vocab_size, gain=0.1)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, state=None, pad=None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. pad (B, cached + T) bool: True = real."""
        B, T = tokens.shape
        if pad is not None:
            tokens = tokens.masked_fill(~pad[:, -T:], -1)
        window = self.new_state(B) if state is None else state
        seen = window.extend(tokens)  # (B, N - 1 + T)
        contexts = seen.unfold(1, self.config.block_size, 1)  # (B, T, N)
        # -1 is "nothing there": it has an embedding of its own, the last row
        contexts = contexts.masked_fill(contexts < 0, self.config.vocab_size)
        x = self.embedding(contexts).flatten(2)  # (B, T, N C)
        h = self.hidden(x)  # (B, T, K)
        if self.norm is not None:
            # padding is not data: where targets say what counts, only that enters the batch statistics
            h = self.norm(h, None if targets is None else targets != IGNORE)
        logits = self.output(torch.tanh(h))  # (B, T, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size: int) -> TokenWindow:
        """The last block_size - 1 tokens: what the next prediction needs besides its own token."""
        return TokenWindow(batch_size, self.config.block_size - 1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


Model = MLP
