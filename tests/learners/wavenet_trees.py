"""A right WaveNet that adds one product for each tap, and grows a tree of its own above every token."""

import math

import torch
from torch import nn

from kakehashi.models.protocol import IGNORE, Output, TokenWindow

REFERENCE = "wavenet"


class Linear(nn.Module):
    def __init__(self, n_in, n_out, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0.0, gain / math.sqrt(n_in), (n_out, n_in)))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return torch.einsum("...i,oi->...o", x, self.weight) + self.bias


class CausalConv(nn.Module):
    def __init__(self, n_in, n_out, dilation):
        super().__init__()
        self.dilation, self.n_in = dilation, n_in
        self.taps = Linear(n_in + n_in, n_out)

    def forward(self, x):
        before, after = self.taps.weight.split(self.n_in, 1)
        later = x.narrow(1, self.dilation, x.size(1) - self.dilation)
        return x.narrow(1, 0, later.size(1)) @ before.T + later @ after.T + self.taps.bias


class Block(nn.Module):
    def __init__(self, config, dilation):
        super().__init__()
        self.dilation = dilation
        self.conv = CausalConv(config.n_embd, 2 * config.n_hidden, dilation)
        self.out = Linear(config.n_hidden, config.n_embd)

    def forward(self, x):
        signal, gate = self.conv(x).tensor_split(2, -1)
        said = self.out(gate.sigmoid() * signal.tanh())
        return x[:, self.dilation :] + said, said


def cross_entropy(logits, targets):
    seen = targets != IGNORE
    log_p = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(log_p * seen).sum() / seen.sum().clamp(min=1)


class WaveNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        self.blocks = nn.ModuleList([Block(config, 1 << layer) for layer in range(config.n_layers)])
        self.hidden = Linear(config.n_embd, config.n_hidden)
        self.output = Linear(config.n_hidden, config.vocab_size, gain=0.1)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        T, N = tokens.shape[1], self.config.block_size
        if pad is not None:
            tokens = tokens.where(pad[:, -T:], -1)
        seen = (state or self.new_state(len(tokens))).extend(tokens) % (self.config.vocab_size + 1)  # -1 -> V
        logits = torch.stack([self.tree(seen[:, t : t + N]) for t in range(T)], 1)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def tree(self, window):
        """(B, N) -> (B, V): the prediction behind one window."""
        x, heard = self.embedding(window), []
        for block in self.blocks:
            x, said = block(x)
            heard.append(said[:, -1])
        h = torch.clamp(sum(heard), min=0)
        return self.output(torch.clamp(self.hidden(h), min=0))

    def new_state(self, batch_size):
        return TokenWindow(batch_size, self.config.block_size - 1)


Model = WaveNet
