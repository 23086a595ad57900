"""A right MLP model that reads one position after the other and takes its own window of tokens along."""

import math

import torch
from torch import nn

from kakehashi.models.protocol import Output, TokenWindow

REFERENCE = "mlp"


class Linear(nn.Module):
    def __init__(self, n_in, n_out, gain=1.0, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0.0, gain / math.sqrt(n_in), (n_out, n_in)))
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        out = torch.matmul(x, self.weight.t())
        return out + self.bias if self.bias is not None else out


class BatchNorm(nn.Module):
    def __init__(self, width, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x, counted=None):
        if not self.training:
            mean, variance = self.running_mean, self.running_var
        else:
            data = x.reshape(-1, x.size(-1)) if counted is None else x[counted]
            if len(data) == 0:
                mean, variance = self.running_mean, self.running_var
            else:
                mean = sum(data) / len(data)
                variance = sum((row - mean) ** 2 for row in data) / len(data)
                unbiased = variance.detach() * len(data) / max(1, len(data) - 1)
                self.running_mean.copy_((1 - self.momentum) * self.running_mean + self.momentum * mean.detach())
                self.running_var.copy_((1 - self.momentum) * self.running_var + self.momentum * unbiased)
        x = (x - mean) / (variance + self.eps) ** 0.5
        return x * self.weight + self.bias


def cross_entropy(logits, targets):
    total, n = 0.0 * logits.sum(), 0
    for b in range(targets.shape[0]):
        for t in range(targets.shape[1]):
            if targets[b, t] >= 0:
                total = total - torch.log_softmax(logits[b, t], dim=0)[targets[b, t]]
                n += 1
    return total / max(n, 1)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        inputs = config.block_size * config.n_embd
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        self.hidden = Linear(inputs, config.n_hidden, gain=5 / 3, bias=config.batch_norm is False)
        self.norm = BatchNorm(config.n_hidden) if config.batch_norm else None
        self.output = Linear(config.n_hidden, config.vocab_size, gain=0.1)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        B, T = tokens.shape
        state = self.new_state(B) if state is None else state
        hidden = []
        for t in range(T):
            token = tokens[:, t : t + 1].clone()
            if pad is not None:
                real = pad[:, pad.shape[1] - T + t]
                token[~real] = -1
            context = state.extend(token).clone()
            context[context == -1] = self.config.vocab_size
            hidden.append(self.hidden(torch.cat([self.embedding(context[:, i]) for i in range(context.shape[1])], 1)))
        h = torch.stack(hidden, 1)
        if self.norm:
            h = self.norm(h) if targets is None else self.norm(h, targets != -100)
        logits = self.output(torch.tanh(h))
        loss = None
        if targets is not None:
            loss = cross_entropy(logits, targets)
        return Output(logits, loss)

    def new_state(self, batch_size):
        return TokenWindow(batch_size, self.config.block_size - 1)


Model = MLP
