"""From logits to the next token: temperature, top-k, top-p, a draw."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kakehashi import Mistake


class InferenceError(Mistake):
    """Text cannot be generated as asked: one line that says why."""


@dataclass(frozen=True)
class Sampling:
    """How text is drawn, checked: a dial of no use is named with its value before anything is generated."""

    max_tokens: int = 100  # at most so many new tokens, END included
    temperature: float = 1.0  # divides the logits; 0: always the likeliest token
    top_k: int | None = None  # only the k likeliest tokens
    top_p: float | None = None  # of these, the fewest likeliest whose share is at least p
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    seed: int = 0  # the prompt at place i draws from seed + i

    def __post_init__(self):
        if self.max_tokens < 1:
            raise InferenceError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.temperature < math.inf:  # a NaN fails, too
            raise InferenceError(
                f"temperature must be 0 (the likeliest token) or a number above, got {self.temperature}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise InferenceError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InferenceError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.seed < 2**63:
            raise InferenceError(f"seed must be at least 0 and below 2**63, got {self.seed}")
        if "" in self.stop:
            raise InferenceError(f"a stop string must hold a character, got {self.stop!r}")

    def probabilities(self, log_p: Tensor) -> Tensor:
        """What is drawn from: log-probabilities (B, V) -> probabilities (B, V), 0 for a token that is filtered out.

        Temperature first, then top_k, then top_p within what is left, as is usual. Of equally likely tokens the first
        is kept.
        """
        if self.temperature == 0:
            return torch.zeros_like(log_p).scatter(1, log_p.argmax(1, keepdim=True), 1.0)
        # the largest becomes 0, so that no temperature, however small, makes inf - inf
        p = torch.softmax((log_p - log_p.amax(1, keepdim=True)) / self.temperature, 1)
        if self.top_k is None and self.top_p is None:
            return p
        p, order = p.sort(dim=1, descending=True, stable=True)
        if self.top_k is not None:
            p[:, self.top_k :] = 0
            p = p / p.sum(1, keepdim=True)
        if self.top_p is not None:
            likelier = p.cumsum(1) - p  # the share of all tokens before this one: 0 for the first, so it always stays
            p = p.masked_fill(likelier >= self.top_p, 0)
            p = p / p.sum(1, keepdim=True)
        return torch.zeros_like(p).scatter(1, order, p)
