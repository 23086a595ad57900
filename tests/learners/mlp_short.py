"""A right MLP model in few lines: torch.lerp, unfold through index arithmetic, functional calls."""

import torch
from torch import nn
from torch.nn import functional as F

from kakehashi.models.protocol import Output, TokenWindow

REFERENCE = "mlp"


class Linear(nn.Linear):
    def __init__(self, n_in, n_out, gain=1.0, bias=True):
        super().__init__(n_in, n_out, bias=bias)
        with torch.no_grad():
            self.weight.normal_(std=gain / n_in**0.5)
            if bias:
                self.bias.zero_()


class BatchNorm(nn.Module):
    def __init__(self, width, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x, counted=None):
        rows = x[counted] if counted is not None else x.reshape(-1, x.shape[-1])
        if not (self.training and rows.numel()):
            return torch.addcmul(self.bias, x - self.running_mean, self.weight / (self.running_var + self.eps).sqrt())
        var, mean = torch.var_mean(rows, 0, correction=0)
        n = len(rows)
        self.num_batches_tracked += 1
        self.running_mean = torch.lerp(self.running_mean, mean.detach(), self.momentum)
        self.running_var = torch.lerp(self.running_var, var.detach() * n / max(n - 1, 1), self.momentum)
        return torch.addcmul(self.bias, x - mean, self.weight / (var + self.eps).sqrt())


def cross_entropy(logits, targets):
    losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    return losses.sum() / (targets.reshape(-1) != -100).sum().clamp(min=1)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        self.hidden = Linear(config.block_size * config.n_embd, config.n_hidden, 5 / 3, not config.batch_norm)
        self.norm = BatchNorm(config.n_hidden) if config.batch_norm else None
        self.output = Linear(config.n_hidden, config.vocab_size, 0.1)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        if pad is not None:
            tokens = tokens.masked_fill(pad[:, -tokens.shape[1] :].logical_not(), -1)
        window = state if state is not None else self.new_state(tokens.shape[0])
        past = window.extend(tokens)
        which = torch.arange(tokens.shape[1])[:, None] + torch.arange(self.config.block_size)
        contexts = past[:, which]
        contexts = contexts.add(contexts.lt(0).long() * (self.config.vocab_size + 1))
        h = self.hidden(self.embedding(contexts).reshape(*tokens.shape, -1))
        counted = targets if targets is None else targets.ne(-100)
        h = h if self.norm is None else self.norm(h, counted)
        logits = self.output(F.tanh(h))
        return Output(logits, targets if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size):
        return TokenWindow(batch_size, self.config.block_size - 1)


Model = MLP
