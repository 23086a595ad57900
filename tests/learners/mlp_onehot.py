"""A right MLP model by someone who multiplies one-hot vectors and shifts the tokens by hand."""

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.models.protocol import Output, TokenWindow

REFERENCE = "mlp"


class Linear(nn.Module):
    def __init__(self, n_in, n_out, gain=1.0, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        nn.init.normal_(self.weight, 0.0, gain * n_in**-0.5)
        if bias:
            self.bias = nn.Parameter(torch.zeros(n_out))
        else:
            self.register_parameter("bias", None)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class BatchNorm(nn.Module):
    def __init__(self, width, eps=1e-5, momentum=0.1):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.eps, self.momentum = eps, momentum

    def forward(self, x, counted=None):
        mean, var = self.running_mean, self.running_var
        if self.training:
            rows = x.reshape(-1, x.shape[-1])
            if counted is not None:
                rows = rows[counted.reshape(-1)]
            n = rows.shape[0]
            if n:
                mean, var = rows.mean(0), rows.var(0, unbiased=False)
                with torch.no_grad():
                    m = self.momentum
                    self.running_mean.mul_(1 - m).add_(mean, alpha=m)
                    self.running_var.mul_(1 - m).add_(var, alpha=m * (n / (n - 1) if n > 1 else 1))
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias


def cross_entropy(logits, targets):
    if not (targets != -100).any():
        return logits.sum() * 0
    return F.cross_entropy(logits.transpose(1, 2), targets)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        V, N, C, K = config.vocab_size, config.block_size, config.n_embd, config.n_hidden
        self.embedding = nn.Embedding(V + 1, C)
        self.hidden = Linear(N * C, K, 5 / 3, not config.batch_norm)
        self.norm = BatchNorm(K) if config.batch_norm else None
        self.output = Linear(K, V, 0.1)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        V, N = self.config.vocab_size, self.config.block_size
        B, T = tokens.shape
        if pad is not None:
            tokens = torch.where(pad[:, pad.shape[1] - T :], tokens, -1)
        if state is None:
            state = self.new_state(B)
        line = state.extend(tokens)
        line = torch.where(line == -1, V, line)
        shifted = [line[:, i : i + T] for i in range(N)]
        hot = torch.stack([F.one_hot(each, V + 1) for each in shifted], 2).to(self.embedding.weight.dtype)
        x = (hot @ self.embedding.weight).reshape(B, T, -1)
        h = self.hidden(x)
        if self.norm is not None:
            h = self.norm(h, None if targets is None else targets != -100)
        logits = self.output(h.tanh())
        return Output(logits, cross_entropy(logits, targets) if targets is not None else None)

    def new_state(self, batch_size):
        return TokenWindow(batch_size, self.config.block_size - 1)


Model = MLP
