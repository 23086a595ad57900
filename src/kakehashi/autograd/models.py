"""Models on this engine: an MLP; a small CNN; an RNN, a GRU and an LSTM; GPT-2. NumPy, and nothing else.

They are those of `kakehashi.models`, where the papers and the reasons stand: same fields, same names and shapes of
parameters, same initial distributions, so that weights go both ways. Tests hold them equal to 1e-9. They read what
training gives them: no padding before a text and no cache of what was read, which only generation needs. The CNN has
no twin there.

Axes: B batch, T time, C width of an embedding, V vocabulary; the others are said where they come up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kakehashi.autograd import functional as F
from kakehashi.autograd import nn, ops
from kakehashi.autograd.tensor import Array, AutogradError, Tensor

END = 0  # the token that ends a document, and stands before its first character
Generator = np.random.Generator


class Output(NamedTuple):
    """Logits (..., V), and the mean loss over counted targets (targets != -100); None without targets."""

    logits: Tensor
    loss: Tensor | None = None


def output(logits: Tensor, targets: Array | None) -> Output:
    """The logits, with their loss where there are targets."""
    return Output(logits, None if targets is None else F.cross_entropy(logits, targets))


@dataclass(frozen=True)
class Config:
    """What all have in common: sizes are at least 1, dropout is a probability below 1."""

    def __post_init__(self):
        for name, value in vars(self).items():
            if type(value) is int and value < 1:
                raise AutogradError(f"{name} must be at least 1, got {value}")
            if name == "dropout" and not 0 <= value < 1:
                raise AutogradError(f"dropout must be in [0, 1), got {value}")


class Linear(nn.Linear):
    """y = x W^T + b. weight (n_out, n_in), normal with deviation std; bias (n_out), 0 at first, or None."""

    def __init__(self, n_in: int, n_out: int, std: float, rng: Generator, bias: bool = True):
        self.weight = normal(rng, std, n_out, n_in)
        self.bias = nn.parameter(np.zeros(n_out)) if bias else None


class Embedding(nn.Embedding):
    """A table of vectors. weight (n, C), normal with deviation std."""

    def __init__(self, n: int, width: int, std: float, rng: Generator):
        self.weight = normal(rng, std, n, width)


def normal(rng: Generator, std: float, *shape: int) -> Tensor:
    """A parameter drawn from a normal distribution with mean 0."""
    return nn.parameter(rng.standard_normal(shape) * std)


# --- MLP: N = block_size tokens of context, K hidden units ---


@dataclass(frozen=True)
class MLPConfig(Config):
    vocab_size: int = 27  # V
    block_size: int = 3  # N, tokens of context
    n_embd: int = 10  # C
    n_hidden: int = 200  # K
    batch_norm: bool = True


class BatchNorm(nn.Module):
    """Each feature to mean 0 and variance 1 over the batch, then a gain and a bias.

    weight (K), 1 at first; bias (K), 0. Buffers: running_mean (K), 0, and running_var (K), 1, which `eval` goes by.
    """

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = nn.parameter(np.ones(width)), nn.parameter(np.zeros(width))
        self.running_mean = Tensor(np.zeros(width, np.float32))
        self.running_var = Tensor(np.ones(width, np.float32))

    def forward(self, x: Tensor, counted: Array | None = None) -> Tensor:
        """(..., K) -> (..., K). counted (...) bool: the rows that are data; the others do not enter the statistics."""
        rows = ops.rows(x) if counted is None else ops.getitem(x, counted, once=True)  # (rows, K)
        if self.training and len(rows) > 0:
            mean, variance = F.batch_statistics(rows, (0,), self.running_mean, self.running_var, self.momentum)  # (K)
        else:
            mean, variance = self.running_mean, self.running_var
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class MLP(nn.Module):
    """Looks at the last N tokens, whatever stands before them.

    embedding (V + 1, C), its last row for "before the beginning"; hidden (N C -> K); norm, or None; output (K -> V).
    """

    def __init__(self, config: MLPConfig, rng: Generator):
        self.config = config
        n_in, K = config.block_size * config.n_embd, config.n_hidden
        self.embedding = Embedding(config.vocab_size + 1, config.n_embd, 1.0, rng)
        self.hidden = Linear(n_in, K, 5 / 3 / math.sqrt(n_in), rng, bias=not config.batch_norm)
        self.norm = BatchNorm(K) if config.batch_norm else None
        self.output = Linear(K, config.vocab_size, 0.1 / math.sqrt(K), rng)

    def forward(self, tokens: Array, targets: Array | None = None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss."""
        N = self.config.block_size
        seen = np.pad(tokens, [(0, 0), (N - 1, 0)], constant_values=self.config.vocab_size)  # (B, N - 1 + T)
        contexts = np.lib.stride_tricks.sliding_window_view(seen, N, axis=1)  # (B, T, N)
        h = self.hidden(self.embedding(contexts).flatten(2))  # (B, T, K)
        if self.norm is not None:
            h = self.norm(h, None if targets is None else targets != F.IGNORE)
        return output(self.output(h.tanh()), targets)


# --- CNN: images of (n_channels, size, size), O filters ---


@dataclass(frozen=True)
class CNNConfig(Config):
    n_classes: int = 10
    size: int = 8  # height and width of an image, a multiple of 4: it is halved twice
    n_channels: int = 1
    n_filters: int = 16  # O of the first convolution; the second has twice as many

    def __post_init__(self):
        super().__post_init__()
        if self.size % 4:
            raise AutogradError(f"size must be a multiple of 4, got {self.size}")


class Conv2d(nn.Conv2d):
    """3 x 3 windows, the size kept. weight (O, C, 3, 3), normal with deviation sqrt(2 / 9C) for relu; bias (O), 0."""

    stride, padding = 1, 1

    def __init__(self, n_in: int, n_out: int, rng: Generator):
        self.weight = normal(rng, math.sqrt(2 / (9 * n_in)), n_out, n_in, 3, 3)
        self.bias = nn.parameter(np.zeros(n_out))


class CNN(nn.Module):
    """Twice: look at windows with the same small filters, keep the largest of each 2 x 2. Then one linear layer."""

    def __init__(self, config: CNNConfig, rng: Generator):
        self.config = config
        n = config.n_filters
        self.conv1 = Conv2d(config.n_channels, n, rng)
        self.conv2 = Conv2d(n, 2 * n, rng)
        n_in = 2 * n * (config.size // 4) ** 2
        self.output = Linear(n_in, config.n_classes, 0.1 / math.sqrt(n_in), rng)

    def forward(self, x: Array | Tensor, targets: Array | None = None) -> Output:
        """x (B, C, size, size), targets (B) -> logits (B, n_classes), loss."""
        x = F.max_pool2d(self.conv1(x).relu(), 2)  # (B, O, size / 2, size / 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)  # (B, 2 O, size / 4, size / 4)
        return output(self.output(x.flatten(1)), targets)


# --- RNN, GRU and LSTM: K hidden units, G gates of a cell ---


@dataclass(frozen=True)
class RecurrentConfig(Config):
    vocab_size: int = 27  # V
    cell: str = "lstm"  # "rnn", "gru" or "lstm"
    n_layers: int = 1
    n_embd: int = 64  # C, width of the token embeddings
    n_hidden: int = 256  # K, in every layer
    dropout: float = 0.0  # probability; on the embeddings and on what each layer gives

    def __post_init__(self):
        super().__post_init__()
        if self.cell not in CELLS:
            raise AutogradError(f"cell must be rnn, gru or lstm, got {self.cell!r}")


State = tuple[Tensor, ...]  # of a layer: h, or h and c, each (B, K)


@dataclass
class RecurrentState:
    """What is known of the tokens read so far: a state for each layer, values without a history."""

    layers: list[State]


def rnn(x: Tensor, state: State, weight: Tensor, bias: Tensor) -> State:
    """h' = tanh(x + W h + b). x (B, K): what the input says."""
    (h,) = state
    return ((x + F.linear(h, weight, bias)).tanh(),)  # (B, K)


def gru(x: Tensor, state: State, weight: Tensor, bias: Tensor) -> State:
    """r = sigmoid(x_r + W_r h + b_r); z likewise; n = tanh(x_n + r (W_n h + b_n)); h' = (1 - z) n + z h. x (B, 3K)."""
    (h,) = state
    x_reset, x_update, x_new = x.chunk(3, -1)  # 3 times (B, K)
    h_reset, h_update, h_new = F.linear(h, weight, bias).chunk(3, -1)  # 3 times (B, K)
    update = (x_update + h_update).sigmoid()
    new = (x_new + (x_reset + h_reset).sigmoid() * h_new).tanh()
    return ((1 - update) * new + update * h,)  # (B, K)


def lstm(x: Tensor, state: State, weight: Tensor, bias: Tensor) -> State:
    """i = sigmoid(x_i + W_i h + b_i), f and o likewise, g with tanh; c' = f c + i g; h' = o tanh(c'). x (B, 4K)."""
    h, c = state
    write, keep, content, show = (x + F.linear(h, weight, bias)).chunk(4, -1)  # 4 times (B, K)
    c = keep.sigmoid() * c + write.sigmoid() * content.tanh()
    return show.sigmoid() * c.tanh(), c  # each (B, K)


CELLS = {"rnn": (rnn, 1, 1), "gru": (gru, 3, 1), "lstm": (lstm, 4, 2)}  # a step; its gates; the tensors of its state


class Layer(nn.Module):
    """A cell that reads from left to right.

    weight_ih (G K, C), normal with deviation 1 / sqrt(C); weight_hh (G K, K), 1 / sqrt(K); bias_ih and bias_hh (G K), 0
    at first, but bias_ih of the LSTM's forget gate 1.
    """

    def __init__(self, cell: str, n_in: int, n_hidden: int, rng: Generator):
        self.step, n_gates, _ = CELLS[cell]
        self.weight_ih = normal(rng, 1 / math.sqrt(n_in), n_gates * n_hidden, n_in)
        self.weight_hh = normal(rng, 1 / math.sqrt(n_hidden), n_gates * n_hidden, n_hidden)
        self.bias_ih = nn.parameter(np.zeros(n_gates * n_hidden))
        self.bias_hh = nn.parameter(np.zeros(n_gates * n_hidden))
        if cell == "lstm":
            self.bias_ih.data[n_hidden : 2 * n_hidden] = 1

    def forward(self, xs: Sequence[Tensor], state: State, begins: Array) -> tuple[list[Tensor], State]:
        """T times (B, C) -> T times (B, K), and the last state. begins (B, T) bool: before these, it is emptied."""
        outputs = []
        for x, begin in zip(xs, begins.T, strict=True):
            if begin.any():
                state = tuple(each.masked_fill(begin[:, None], 0) for each in state)
            state = self.step(F.linear(x, self.weight_ih, self.bias_ih), state, self.weight_hh, self.bias_hh)
            outputs.append(state[0])
        return outputs, state


class Recurrent(nn.Module):
    """Embeds a token, rewrites the state of each layer, predicts the next token from the last one's.

    embedding (V, C); layers, the first reads embeddings, each other what the one before gives; output (K -> V).
    """

    def __init__(self, config: RecurrentConfig, rng: Generator):
        self.config = config
        K = config.n_hidden
        self.embedding = Embedding(config.vocab_size, config.n_embd, 1.0, rng)
        widths = [config.n_embd] + [K] * (config.n_layers - 1)
        self.layers = [Layer(config.cell, width, K, rng) for width in widths]
        self.output = Linear(K, config.vocab_size, 0.1 / math.sqrt(K), rng)
        self.dropout = nn.Dropout(config.dropout, rng)

    def forward(self, tokens: Array, targets: Array | None = None, *, state: RecurrentState | None = None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. Goes on from `state`, and leaves its last in it."""
        state = self.new_state(len(tokens)) if state is None else state
        # a list over time, from bottom to top: a slice of one tensor would have a gradient as large as all of it
        xs = [self.dropout(self.embedding(each)) for each in tokens.T]  # T times (B, C)
        for i, layer in enumerate(self.layers):
            xs, last = layer(xs, state.layers[i], tokens == END)  # T times (B, K)
            state.layers[i] = tuple(each.detach() for each in last)
            xs = [self.dropout(x) for x in xs]
        return output(self.output(ops.stack(xs, 1)), targets)

    def new_state(self, batch_size: int) -> RecurrentState:
        """Nothing read yet: zeros for each layer."""
        zeros = Tensor(np.zeros((batch_size, self.config.n_hidden), self.output.weight.dtype))  # (B, K)
        _, _, n_tensors = CELLS[self.config.cell]
        return RecurrentState([(zeros,) * n_tensors] * self.config.n_layers)


# --- GPT-2: H heads, D = C / H width of a head, L layers ---


@dataclass(frozen=True)
class GPTConfig(Config):
    vocab_size: int = 50257  # V
    block_size: int = 1024  # the most tokens in sight: there are this many positions
    n_layers: int = 12  # L
    n_heads: int = 12  # H
    n_embd: int = 768  # C
    dropout: float = 0.0  # probability; on embeddings, attention weights and both branches of a block
    eps: float = 1e-5  # inside the root of LayerNorm
    fused: bool = False  # of no effect: a choice between torch's kernels

    def __post_init__(self):
        super().__post_init__()
        if self.n_embd % self.n_heads:
            raise AutogradError(f"n_embd must be a multiple of n_heads, got {self.n_embd} and {self.n_heads}")


class CausalSelfAttention(nn.Module):
    """Each token gathers from itself and the tokens before it. c_attn (C -> 3C), queries, keys, values; c_proj."""

    def __init__(self, config: GPTConfig, rng: Generator):
        C = config.n_embd
        self.n_heads = config.n_heads
        self.c_attn = Linear(C, 3 * C, 0.02, rng)
        self.c_proj = Linear(C, C, 0.02 / math.sqrt(2 * config.n_layers), rng)
        self.dropout = nn.Dropout(config.dropout, rng)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        heads = (B, T, self.n_heads, C // self.n_heads)
        q, k, v = (each.reshape(heads).transpose(1, 2) for each in self.c_attn(x).split(C, 2))  # 3 times (B, H, T, D)
        visible = np.tri(T, dtype=bool)  # (T, T): itself and what came before
        y = F.attention(q, k, v, visible, self.dropout.p if self.training else 0.0, self.dropout.rng)  # (B, H, T, D)
        return self.dropout(self.c_proj(y.transpose(1, 2).reshape(B, T, C)))


class FeedForward(nn.Module):
    """Each token by itself: c_fc (C -> 4C), gelu, c_proj (4C -> C)."""

    def __init__(self, config: GPTConfig, rng: Generator):
        C = config.n_embd
        self.c_fc = Linear(C, 4 * C, 0.02, rng)
        self.c_proj = Linear(4 * C, C, 0.02 / math.sqrt(2 * config.n_layers), rng)
        self.dropout = nn.Dropout(config.dropout, rng)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x))))


class Block(nn.Module):
    """Communication, then computation; each reads the residual stream through a norm and adds to it."""

    def __init__(self, config: GPTConfig, rng: Generator):
        self.ln_1 = nn.LayerNorm(config.n_embd, config.eps)
        self.attn = CausalSelfAttention(config, rng)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.eps)
        self.mlp = FeedForward(config, rng)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """wte (V, C) embeds tokens, wpe (block_size, C) positions; h, L blocks; ln_f; and wte again as the head."""

    def __init__(self, config: GPTConfig, rng: Generator):
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd, 0.02, rng)
        self.wpe = Embedding(config.block_size, config.n_embd, 0.02, rng)
        self.h = [Block(config, rng) for _ in range(config.n_layers)]
        self.ln_f = nn.LayerNorm(config.n_embd, config.eps)
        self.dropout = nn.Dropout(config.dropout, rng)

    def forward(self, tokens: Array, targets: Array | None = None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. Raises AutogradError for T > block_size."""
        T = tokens.shape[1]
        if T > self.config.block_size:
            raise AutogradError(f"{T} tokens in sight, but block_size is {self.config.block_size}")
        x = self.dropout(self.wte(tokens) + self.wpe(np.arange(T)))  # (B, T, C)
        for block in self.h:
            x = block(x)
        return output(F.linear(self.ln_f(x), self.wte.weight), targets)


# The same models under the names of their files in `kakehashi.models`
MODELS = {"mlp": MLP, "recurrent": Recurrent, "gpt2": GPT}
