"""Recurrent language models: a state of fixed size, rewritten at every token by a plain RNN, a GRU or an LSTM.

Papers: Elman, "Finding Structure in Time" (1990); Hochreiter & Schmidhuber, "Long Short-Term Memory" (1997), with the
forget gate of Gers, Schmidhuber & Cummins (2000) and its bias of 1 of Jozefowicz et al. (2015); Cho et al., "Learning
Phrase Representations using RNN Encoder-Decoder" (2014), the GRU; Williams & Peng (1990), truncated backpropagation.
Deviations: tanh where Elman's units are logistic and where the LSTM of 1997 squashes by scaled logistics; gradients run
through all gates, which 1997 cuts off; the GRU's reset gate acts on the product with the state (Cho: on the state). All
this is as in torch, and so are two biases a gate, so that weights copy both ways. A document begins without memory.
Axes: B batch, T time, C width of what a layer reads, K hidden units, G gates of a cell, L layers, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import END, IGNORE, Output, RecurrentState

TASK = "lm"


@dataclass(frozen=True)
class Config:
    vocab_size: int = 27  # V
    cell: str = "lstm"  # "rnn", "gru" or "lstm"
    n_layers: int = 1  # L
    n_embd: int = 64  # width of the token embeddings
    n_hidden: int = 256  # K, in every layer
    dropout: float = 0.0  # probability; on the embeddings and on what each layer gives

    def __post_init__(self):
        for name in ("vocab_size", "n_layers", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.cell not in ("rnn", "gru", "lstm"):
            raise ValueError(f"cell must be rnn, gru or lstm, got {self.cell!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


PRESETS = {
    "lstm-char": Config(),
    "gru-char": Config(cell="gru"),
    "rnn-char": Config(cell="rnn"),
    "lstm-names": Config(n_hidden=192, dropout=0.1),
    "lstm-logs": Config(n_embd=32, n_hidden=64, dropout=0.1),
}


def rnn(x: Tensor, state: tuple[Tensor], weight: Tensor, bias: Tensor) -> tuple[Tensor]:
    """h' = tanh(x + W h + b) (Elman 1990).

    x (B, K): what the input says; state: h (B, K); weight (K, K); bias (K) -> the next state.
    """
    (h,) = state
    # the whole state is written anew at every token: what is to be kept must come through W and tanh each time
    return (torch.tanh(x + F.linear(h, weight, bias)),)  # (B, K)


def gru(x: Tensor, state: tuple[Tensor], weight: Tensor, bias: Tensor) -> tuple[Tensor]:
    """r = sigmoid(x_r + W_r h + b_r); z likewise; n = tanh(x_n + r (W_n h + b_n)); h' = (1 - z) n + z h (Cho 2014).

    x (B, 3K): what the input says to r, z and n; state: h (B, K); weight (3K, K); bias (3K) -> the next state.
    """
    (h,) = state
    x_reset, x_update, x_new = x.chunk(3, -1)  # 3 times (B, K)
    h_reset, h_update, h_new = F.linear(h, weight, bias).chunk(3, -1)  # 3 times (B, K)
    reset = torch.sigmoid(x_reset + h_reset)
    update = torch.sigmoid(x_update + h_update)
    # where reset is 0 the state has no say in the proposal
    new = torch.tanh(x_new + reset * h_new)
    # a weighted mean of old and new: where update is 1 the state passes unchanged, and so does its gradient
    return ((1 - update) * new + update * h,)  # (B, K)


def lstm(x: Tensor, state: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """i = sigmoid(x_i + W_i h + b_i), f and o likewise, g with tanh; c' = f c + i g; h' = o tanh(c') (Hochreiter 1997).

    x (B, 4K): what the input says to i, f, g and o; state: h and c, each (B, K); weight (4K, K); bias (4K) -> the next.
    """
    h, c = state
    write, keep, content, show = (x + F.linear(h, weight, bias)).chunk(4, -1)  # 4 times (B, K)
    # the cell is added to, not written anew: along c the gradient is multiplied by the forget gate alone
    c = torch.sigmoid(keep) * c + torch.sigmoid(write) * torch.tanh(content)
    h = torch.sigmoid(show) * torch.tanh(c)
    return h, c  # each (B, K)


CELLS = {"rnn": (rnn, 1, 1), "gru": (gru, 3, 1), "lstm": (lstm, 4, 2)}  # a step; its gates; the tensors of its state


class Layer(nn.Module):
    """A cell that reads from left to right.

    Parameters: weight_ih (G K, C), normal with deviation 1 / sqrt(C); weight_hh (G K, K), normal with deviation
    1 / sqrt(K); bias_ih (G K) and bias_hh (G K), which start at 0, but bias_ih of the LSTM's forget gate f at 1. Gates
    stand in the order of the equations, as in torch.nn.RNN, GRU and LSTM.
    """

    def __init__(self, cell: str, n_in: int, n_hidden: int):
        super().__init__()
        self.step, n_gates, _ = CELLS[cell]
        self.weight_ih = nn.Parameter(torch.randn(n_gates * n_hidden, n_in) / math.sqrt(n_in))
        self.weight_hh = nn.Parameter(torch.randn(n_gates * n_hidden, n_hidden) / math.sqrt(n_hidden))
        self.bias_ih = nn.Parameter(torch.zeros(n_gates * n_hidden))
        self.bias_hh = nn.Parameter(torch.zeros(n_gates * n_hidden))
        if cell == "lstm":
            # sigmoid(0) would halve the cell at every token; sigmoid(1) keeps 0.73 of it, and more is to be learnt from
            nn.init.ones_(self.bias_ih[n_hidden : 2 * n_hidden])

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...], begins: Tensor, real: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x (B, T, C), begins (B, T) bool, real (B, T) bool -> h at each time (B, T, K), and the state after the last.

        begins: before these tokens the state is emptied. real: tokens that are not leave the state as it was.
        """
        # what the input says to each gate needs no memory: one product for all times
        inputs = F.linear(x, self.weight_ih, self.bias_ih).unbind(1)  # T times (B, G K)
        # most tokens begin nothing, in no row: there is nothing to empty
        anywhere = begins.any(0).tolist()  # (T,)
        outputs = []
        for t in range(x.shape[1]):
            before = state
            if anywhere[t]:
                before = tuple(each.masked_fill(begins[:, t, None], 0) for each in state)
            after = self.step(inputs[t], before, self.weight_hh, self.bias_hh)  # each (B, K)
            if real is not None:
                after = tuple(torch.where(real[:, t, None], new, old) for new, old in zip(after, state, strict=True))
            state = after
            outputs.append(state[0])
        return torch.stack(outputs, 1), state  # (B, T, K)


class Recurrent(nn.Module):
    """Embeds a token, rewrites the state of each layer, predicts the next token from the last one's.

    Parameters: embedding.weight (V, n_embd), normal with deviation 1; layers, L of them, the first reads embeddings,
    each other what the one before gives; output (K -> V), its weight normal with deviation 0.1 / sqrt(K), its bias 0.
    Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        widths = [config.n_embd] + [config.n_hidden] * (config.n_layers - 1)
        self.layers = nn.ModuleList(Layer(config.cell, width, config.n_hidden) for width in widths)
        self.output = nn.Linear(config.n_hidden, config.vocab_size)
        # small logits at the start: every token about equally likely, a loss near ln V
        nn.init.normal_(self.output.weight, std=0.1 / math.sqrt(config.n_hidden))
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, state=None, pad=None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. pad (B, cached + T) bool: True = real.

        Goes on from `state`, and leaves in it what the next tokens need.
        """
        B, T = tokens.shape
        state = self.new_state(B) if state is None else state
        real = None if pad is None else pad[:, -T:]
        begins = tokens == END  # (B, T)
        x = F.dropout(self.embedding(tokens), self.config.dropout, self.training)  # (B, T, n_embd)
        for i, layer in enumerate(self.layers):
            x, last = layer(x, state.layers[i], begins, real)  # (B, T, K)
            # handed on as values: backpropagation ends at the edge of these T tokens, or each step would reach back
            # through all steps before it
            state.layers[i] = tuple(each.detach() for each in last)
            x = F.dropout(x, self.config.dropout, self.training)
        logits = self.output(x)  # (B, T, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size: int) -> RecurrentState:
        """Nothing read yet: zeros for each layer."""
        zeros = self.output.weight.new_zeros(batch_size, self.config.n_hidden)  # (B, K)
        _, _, n_tensors = CELLS[self.config.cell]
        return RecurrentState([(zeros,) * n_tensors] * self.config.n_layers)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


Model = Recurrent
