"""Right recurrent models by someone who multiplies gate by gate, blends by multiplication, and reads time first."""

import torch
from torch import nn

from kakehashi.models.protocol import Output, RecurrentState

REFERENCE = "recurrent"


def rnn(x, state, weight, bias):
    total = x + bias + state[0] @ weight.t()
    return [total.tanh()]


def gru(x, state, weight, bias):
    h = state[0]
    K = h.size(1)
    said = [h @ weight[i * K : (i + 1) * K].T + bias[i * K : (i + 1) * K] for i in range(3)]
    r = 1 / (1 + torch.exp(-(x[:, :K] + said[0])))
    z = 1 / (1 + torch.exp(-(x[:, K : 2 * K] + said[1])))
    n = torch.tanh(x[:, 2 * K :] + r * said[2])
    return (n + z * (h - n),)


def lstm(x, state, weight, bias):
    h, c = state
    i, f, g, o = (part + h @ w.T + b for part, w, b in zip(x.chunk(4, -1), weight.chunk(4), bias.chunk(4), strict=True))
    new = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    return o.sigmoid() * new.tanh(), new


class Layer(nn.Module):
    def __init__(self, cell, n_in, n_hidden):
        super().__init__()
        self.cell = cell
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
        self.weight_ih = nn.Parameter(torch.empty(gates * n_hidden, n_in).normal_(std=n_in**-0.5))
        self.weight_hh = nn.Parameter(torch.empty(gates * n_hidden, n_hidden).normal_(std=n_hidden**-0.5))
        bias = torch.zeros(gates, n_hidden)
        if gates == 4:
            bias[1] = 1.0
        self.bias_ih = nn.Parameter(bias.flatten())
        self.bias_hh = nn.Parameter(torch.zeros(gates * n_hidden))

    def forward(self, x, state, begins, real=None):
        step = {"rnn": rnn, "gru": gru, "lstm": lstm}[self.cell]
        seen = []
        for t, now in enumerate(x.transpose(0, 1)):
            goes_on = (~begins[:, t]).to(x.dtype)[:, None]
            counts = 1.0 if real is None else real[:, t].to(x.dtype)[:, None]
            old = state
            new = step(
                now @ self.weight_ih.T + self.bias_ih, [each * goes_on for each in old], self.weight_hh, self.bias_hh
            )
            state = tuple(counts * a + (1 - counts) * b for a, b in zip(new, old, strict=True))
            seen.append(state[0])
        return torch.stack(seen).transpose(0, 1), state


def cross_entropy(logits, targets):
    counted = targets >= 0
    losses = -logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return losses.where(counted, 0.0).sum() / max(int(counted.sum()), 1)


class Recurrent(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList()
        for i in range(config.n_layers):
            self.layers.append(Layer(config.cell, config.n_hidden if i else config.n_embd, config.n_hidden))
        self.output = nn.Linear(config.n_hidden, config.vocab_size)
        self.drop = nn.Dropout(config.dropout)
        with torch.no_grad():
            self.output.weight.normal_(std=0.1 * config.n_hidden**-0.5)
            self.output.bias.zero_()

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        if state is None:
            state = self.new_state(tokens.shape[0])
        h = self.drop(self.embedding(tokens))
        for i in range(len(self.layers)):
            h, last = self.layers[i](
                h, state.layers[i], tokens == 0, pad if pad is None else pad[:, -tokens.shape[1] :]
            )
            state.layers[i] = [each.detach() for each in last]
            h = self.drop(h)
        logits = self.output(h)
        return Output(logits, cross_entropy(logits, targets) if targets is not None else None)

    def new_state(self, batch_size):
        like = self.output.weight
        parts = 2 if self.config.cell == "lstm" else 1
        layers = []
        for _ in self.layers:
            layers.append([torch.zeros(batch_size, self.config.n_hidden, dtype=like.dtype) for _ in range(parts)])
        return RecurrentState(layers)


Model = Recurrent
