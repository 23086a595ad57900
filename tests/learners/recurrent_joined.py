"""Right recurrent models by someone who joins: one product for input and state, one tensor for all of a state."""

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.models.protocol import END, Output, RecurrentState

REFERENCE = "recurrent"


def joined(x, h, weight, bias):
    """x + W h + b as one product of (h, x)."""
    return torch.cat((h, x), -1) @ torch.cat((weight, torch.eye(len(weight), dtype=weight.dtype)), 1).T + bias


def rnn(x, state, weight, bias):
    return (torch.tanh(joined(x, *state, weight, bias)),)


def gru(x, state, weight, bias):
    (h,) = state
    K = h.shape[-1]
    gates = torch.sigmoid(joined(x[:, : 2 * K], h, weight[: 2 * K], bias[: 2 * K]))
    proposal = torch.tanh(torch.addcmul(x[:, 2 * K :], gates[:, :K], F.linear(h, weight[2 * K :], bias[2 * K :])))
    return (torch.lerp(proposal, h, gates[:, K:]),)


def lstm(x, state, weight, bias):
    h, c = state
    gates = joined(x, h, weight, bias).unflatten(-1, (4, -1)).unbind(1)
    cell = c * torch.sigmoid(gates[1])
    cell = cell + torch.tanh(gates[2]) * torch.sigmoid(gates[0])
    return (torch.sigmoid(gates[3]) * torch.tanh(cell), cell)


class Layer(nn.Module):
    def __init__(self, cell, n_in, n_hidden):
        super().__init__()
        self.step, n_gates = {"rnn": (rnn, 1), "gru": (gru, 3), "lstm": (lstm, 4)}[cell]
        width = n_gates * n_hidden
        for name, size in (("weight_ih", n_in), ("weight_hh", n_hidden)):
            setattr(self, name, nn.Parameter(torch.normal(0.0, size**-0.5, (width, size))))
        self.bias_ih = nn.Parameter(torch.zeros(width))
        self.bias_hh = nn.Parameter(torch.zeros(width))
        if cell == "lstm":
            self.bias_ih.data[n_hidden : n_hidden * 2].fill_(1)

    def forward(self, x, state, begins, real=None):
        B, T, _ = x.shape
        outputs = x.new_empty(B, T, state[0].shape[-1])
        state = torch.stack(tuple(state))
        for t in range(T):
            before = torch.where(begins[:, t].view(1, B, 1), torch.zeros_like(state), state)
            read = F.linear(x[:, t], self.weight_ih, self.bias_ih)
            after = torch.stack(self.step(read, before.unbind(0), self.weight_hh, self.bias_hh))
            if real is None:
                state = after
            else:
                state = torch.where(real[:, t].view(1, B, 1), after, state)
            outputs[:, t] = state[0]
        return outputs, state.unbind(0)


class Recurrent(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        V, C, K = config.vocab_size, config.n_embd, config.n_hidden
        self.embedding = nn.Embedding(V, C)
        self.layers = nn.ModuleList([Layer(config.cell, C, K)])
        self.layers.extend(Layer(config.cell, K, K) for _ in range(1, config.n_layers))
        self.output = nn.Linear(K, V)
        nn.init.normal_(self.output.weight, 0, 0.1 / K**0.5)
        nn.init.constant_(self.output.bias, 0)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        state = self.new_state(len(tokens)) if state is None else state
        real = pad if pad is None else pad.flip(1)[:, : tokens.shape[1]].flip(1)
        x, handed_on = self.dropped(self.embedding(tokens)), []
        for layer, at in zip(self.layers, state.layers, strict=True):
            x, last = layer(x, at, tokens.eq(END), real)
            x = self.dropped(x)
            handed_on.append(tuple(torch.stack(last).detach().unbind(0)))
        state.layers = handed_on
        logits = self.output(x)
        if targets is None:
            return Output(logits)
        return Output(
            logits, F.cross_entropy(logits.mT, targets, reduction="sum") / (targets != -100).sum().clamp(min=1)
        )

    def dropped(self, x):
        if not self.training or self.config.dropout == 0:
            return x
        return x * (torch.rand_like(x) >= self.config.dropout) / (1 - self.config.dropout)

    def new_state(self, batch_size):
        nothing = torch.zeros(batch_size, self.config.n_hidden).to(self.output.weight)
        return RecurrentState([(nothing,) * (1 + (self.config.cell == "lstm")) for _ in self.layers])


Model = Recurrent
