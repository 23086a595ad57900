"""A right MLP model that adds up one product for each place of the context, and keeps weighted statistics."""

import torch
from torch import nn

from kakehashi.models.protocol import IGNORE, Output, TokenWindow

REFERENCE = "mlp"


class Linear(nn.Module):
    def __init__(self, n_in, n_out, gain=1.0, bias=True):
        super().__init__()
        weight = torch.randn(n_in, n_out).T / (n_in**0.5 / gain)
        self.weight = nn.Parameter(weight.contiguous())
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def forward(self, x):
        y = torch.einsum("...i,oi->...o", x, self.weight)
        if self.bias is not None:
            y = y + self.bias
        return y


class BatchNorm(nn.Module):
    def __init__(self, width, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def statistics(self, x, counted):
        share = torch.ones(x.shape[:-1], dtype=x.dtype) if counted is None else counted.to(x.dtype)
        n = share.sum()
        axes = tuple(range(x.ndim - 1))
        mean = (x * share[..., None]).sum(axes) / n
        variance = ((x - mean).square() * share[..., None]).sum(axes) / n
        return mean, variance, n

    def forward(self, x, counted=None):
        empty = counted is not None and not counted.any()
        if not self.training or empty:
            return self.normal(x, self.running_mean, self.running_var)
        mean, variance, n = self.statistics(x, counted)
        with torch.no_grad():
            correction = n / (n - 1) if n > 1 else 1.0
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (variance * correction - self.running_var)
        return self.normal(x, mean, variance)

    def normal(self, x, mean, variance):
        return self.bias + self.weight * (x - mean) / (variance + self.eps).sqrt()


def cross_entropy(logits, targets):
    seen = targets != IGNORE
    log_p = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(log_p * seen).sum() / seen.sum().clamp(min=1)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        nn.init.normal_(self.embedding.weight)
        self.hidden = Linear(config.n_embd * config.block_size, config.n_hidden, 5 / 3, bias=not config.batch_norm)
        if config.batch_norm:
            self.norm = BatchNorm(config.n_hidden)
        else:
            self.norm = lambda h, counted: h
        self.output = Linear(config.n_hidden, config.vocab_size, 0.1)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        T, C, N = tokens.shape[1], self.config.n_embd, self.config.block_size
        if pad is not None:
            tokens = tokens.where(pad[:, -T:], -1)
        seen = (state or self.new_state(len(tokens))).extend(tokens) % (self.config.vocab_size + 1)  # -1 -> V
        h = 0
        for place in range(N):
            embedded = self.embedding(seen[:, place : place + T])
            h = h + embedded @ self.hidden.weight[:, place * C : (place + 1) * C].T
        if self.hidden.bias is not None:
            h = h + self.hidden.bias
        h = torch.tanh(self.norm(h, None if targets is None else targets != IGNORE))
        logits = self.output(h)
        if targets is None:
            return Output(logits, None)
        return Output(logits, cross_entropy(logits, targets))

    def new_state(self, batch_size):
        return TokenWindow(batch_size, self.config.block_size - 1)


Model = MLP
