"""A right WaveNet by someone who knows torch's convolutions: channels first, input filled on the left, then cut."""

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.models.protocol import Output, TokenWindow

REFERENCE = "wavenet"


class Linear(nn.Linear):
    def __init__(self, n_in, n_out, gain=1.0):
        super().__init__(n_in, n_out)
        nn.init.normal_(self.weight, std=gain / n_in**0.5)
        nn.init.zeros_(self.bias)


class CausalConv(nn.Module):
    def __init__(self, n_in, n_out, dilation):
        super().__init__()
        self.dilation = dilation
        self.taps = Linear(2 * n_in, n_out)

    def forward(self, x):
        n_out, width = self.taps.weight.shape
        kernel = self.taps.weight.reshape(n_out, 2, width // 2).transpose(1, 2)
        filled = F.pad(x.transpose(1, 2), (self.dilation, 0))
        y = F.conv1d(filled, kernel, self.taps.bias, dilation=self.dilation)
        return y[:, :, self.dilation :].transpose(1, 2)


class Block(nn.Module):
    def __init__(self, config, dilation):
        super().__init__()
        self.conv = CausalConv(config.n_embd, config.n_hidden * 2, dilation)
        self.out = Linear(config.n_hidden, config.n_embd)

    def forward(self, x):
        both = self.conv(x)
        half = both.size(-1) // 2
        said = self.out(both[..., :half].tanh() * both[..., half:].sigmoid())
        return said + x[:, -said.size(1) :], said


def cross_entropy(logits, targets):
    if not (targets != -100).any():
        return logits.sum() * 0
    return F.cross_entropy(logits.transpose(1, 2), targets)


class WaveNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        self.blocks = nn.ModuleList()
        dilation = 1
        for _ in range(config.n_layers):
            self.blocks.append(Block(config, dilation))
            dilation *= 2
        self.hidden = Linear(config.n_embd, config.n_hidden)
        self.output = Linear(config.n_hidden, config.vocab_size, 0.1)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        B, T = tokens.shape
        if pad is not None:
            tokens = torch.where(pad[:, pad.shape[1] - T :], tokens, -1)
        state = self.new_state(B) if state is None else state
        seen = state.extend(tokens)
        x = self.embedding(torch.where(seen == -1, self.config.vocab_size, seen))
        heard = 0
        for block in self.blocks:
            x, said = block(x)
            heard = heard + said[:, said.size(1) - T :]
        logits = self.output(self.hidden(heard.relu()).relu())
        return Output(logits, cross_entropy(logits, targets) if targets is not None else None)

    def new_state(self, batch_size):
        return TokenWindow(batch_size, self.config.block_size - 1)


Model = WaveNet
