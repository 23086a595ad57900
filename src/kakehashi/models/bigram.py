"""Bigram language model: the next token depends on the present one alone. One table, found in two ways.

Counting how often b follows a gives the table at once (`count`); gradient descent on the loss arrives at the same one.
That is the whole of learning in one picture: every later model only replaces the table by something that sees further.

Source: Shannon, "A Mathematical Theory of Communication" (1948), section 3; the first rung of Karpathy's makemore.
Axes: B batch, T time, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, Output, TokenWindow

TASK = "lm"


@dataclass(frozen=True)
class Config:
    vocab_size: int = 27  # V

    def __post_init__(self):
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {self.vocab_size}")


PRESETS = {"bigram-char": Config()}


def count(tokens: Tensor, targets: Tensor, vocab_size: int, smoothing: float = 1.0) -> Tensor:
    """The table by counting: log of the share of each target after each token.

    tokens, targets: integers of one shape; a target of -100 is not counted. smoothing: what every pair starts with.
    Returns (V, V) log-probabilities: row a, column b is log p(b | a).
    """
    seen = targets != IGNORE
    pairs = tokens[seen] * vocab_size + targets[seen]  # a pair (a, b) as one number
    counts = torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size)  # (V, V)
    # adding to every pair keeps a pair that was never seen possible: its logarithm stays finite
    smoothed = counts + smoothing
    return torch.log(smoothed / smoothed.sum(1, keepdim=True))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    seen = targets != IGNORE
    wanted = targets.masked_fill(~seen, 0).unsqueeze(-1)  # (B, T, 1)
    # log p = logit - log(sum of exp(logits)); logsumexp subtracts the maximum first, so that exp cannot overflow
    log_p = logits.gather(-1, wanted).squeeze(-1) - logits.logsumexp(-1)  # (B, T)
    # the mean is over counted targets, so padding changes nothing; at least 1 keeps an empty batch from 0 / 0
    return -(log_p * seen).sum() / seen.sum().clamp(min=1)


class Bigram(nn.Module):
    """A table of logits, one row for each present token.

    Parameters: table (V, V): table[a, b] is the logit of b after a; starts at 0, every next token equally likely.
    Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.zeros(config.vocab_size, config.vocab_size))

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, state=None, pad=None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. What came earlier does not matter."""
        # a row of the table for each token: the same as one-hot vectors times the table, without the multiplications
        logits = self.table[tokens]  # (B, T, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size: int) -> TokenWindow:
        """Nothing needs to be remembered: a window of 0 tokens."""
        return TokenWindow(batch_size, 0)


Model = Bigram
