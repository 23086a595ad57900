"""WaveNet for tokens: a tree of convolutions, in which every layer doubles how far back is seen.

Papers: van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016), for dilated causal convolutions, gated
units, residual and skip connections; the tree that joins tokens two by two as in the last lecture of Karpathy's
makemore series (2022), which computes its last column only.
Deviations from van den Oord: tokens are embedded where the paper convolves one-hot samples; dilations double from 1
(1, 2, 4, ...) and do not begin again; before the beginning stand embedded "nothing there" tokens in place of zeros, so
every convolution is a plain one that shortens its input. Deviations from the lecture: the paper's gates, residual and
skip connections take the place of batch normalisation and tanh.
Axes: B batch, T time, S tokens that a layer reads (the first one block_size - 1 + T), C channels, K units of a gate,
V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi.models.protocol import IGNORE, Output, TokenWindow

TASK = "lm"


@dataclass(frozen=True)
class Config:
    vocab_size: int = 27  # V
    n_layers: int = 3  # L
    n_embd: int = 64  # C, channels between the layers
    n_hidden: int = 128  # K, units of a gate, and of the head's hidden layer

    def __post_init__(self):
        for name in ("vocab_size", "n_layers", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def block_size(self) -> int:
        """Tokens that a prediction depends on."""
        return 2**self.n_layers


PRESETS = {"wavenet-char": Config(), "wavenet-wide": Config(n_layers=4, n_embd=96)}


class Linear(nn.Module):
    """y = x W^T + b: a convolution over one token, where x is a token's channels.

    Parameters: weight (n_out, n_in), normal with deviation gain / sqrt(n_in); bias (n_out), starts at 0.
    """

    def __init__(self, n_in: int, n_out: int, gain: float = 1.0):
        super().__init__()
        # a sum of n_in terms of variance 1 has variance n_in: dividing the weights by sqrt(n_in) brings it back to 1
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * gain / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n_in) -> (..., n_out)."""
        return x @ self.weight.T + self.bias  # (..., n_out)


class CausalConv(nn.Module):
    """A convolution of two taps, `dilation` tokens apart: each token is joined with one before it.

    Parameters: taps (2 C -> n_out), a Linear; its first C inputs are the earlier token's, the others its own.
    """

    def __init__(self, n_in: int, n_out: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.taps = Linear(2 * n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, S - dilation, n_out): the first `dilation` tokens have nobody to be joined with."""
        earlier, now = x[:, : -self.dilation], x[:, self.dilation :]  # 2 times (B, S - dilation, C)
        # two tokens side by side, and one product: that is all a convolution of two taps is
        return self.taps(torch.cat((earlier, now), -1))


class Block(nn.Module):
    """tanh(a) sigmoid(b) of a causal convolution (van den Oord, eq. 2), added to the input and given to the head.

    Parameters: conv (2 C -> 2 K), a CausalConv; its first K outputs are the signal a, the others the gate b. out
    (K -> C), a Linear: what it gives is both added and handed to the head (figure 4).
    """

    def __init__(self, config: Config, dilation: int):
        super().__init__()
        self.conv = CausalConv(config.n_embd, 2 * config.n_hidden, dilation)
        self.out = Linear(config.n_hidden, config.n_embd)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, S, C) -> the next layer's input (B, S - dilation, C), the head's, of the same shape."""
        signal, gate = self.conv(x).chunk(2, -1)  # 2 times (B, S - dilation, K)
        # what is said, times whether it is to be heard
        h = torch.tanh(signal) * torch.sigmoid(gate)  # (B, S - dilation, K)
        said = self.out(h)  # (B, S - dilation, C)
        # the stream is a token's own: the later one of each pair goes on, what the pair says is added to it
        return x[:, self.conv.dilation :] + said, said


class WaveNet(nn.Module):
    """Embeds the tokens in sight, joins them in L layers, dilations 1, 2, 4, ..., predicts from what all layers said.

    Parameters: embedding.weight (V + 1, C), normal with deviation 1; row V stands for "before the beginning". blocks,
    L of them. hidden (C -> K), a Linear, and output (K -> V), a Linear with gain 0.1: each reads a relu, the first that
    of the sum of what the layers said. Keeps `.config`.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size + 1, config.n_embd)
        # 1 + 2 + 4 + ...: each token reaches exactly block_size - 1 back
        self.blocks = nn.ModuleList(Block(config, 2**layer) for layer in range(config.n_layers))
        self.hidden = Linear(config.n_embd, config.n_hidden)
        # small logits at the start: every token about equally likely, a loss near ln V
        self.output = Linear(config.n_hidden, config.vocab_size, gain=0.1)

    def forward(self, tokens: Tensor, targets: Tensor | None = None, *, state=None, pad=None) -> Output:
        """tokens (B, T), targets (B, T) -> logits (B, T, V), loss. pad (B, cached + T) bool: True = real."""
        B, T = tokens.shape
        if pad is not None:
            tokens = tokens.masked_fill(~pad[:, -T:], -1)
        window = self.new_state(B) if state is None else state
        seen = window.extend(tokens)  # (B, S)
        # -1 is "nothing there": it has an embedding of its own, the last row
        x = self.embedding(seen.masked_fill(seen < 0, self.config.vocab_size))  # (B, S, C)
        skips = []
        for block in self.blocks:
            x, skip = block(x)
            # the head hears every layer, near or far; of the tokens before the T new ones it has heard already
            skips.append(skip[:, -T:])
        h = F.relu(torch.stack(skips).sum(0))  # (B, T, C)
        h = F.relu(self.hidden(h))  # (B, T, K)
        logits = self.output(h)  # (B, T, V)
        return Output(logits, None if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size: int) -> TokenWindow:
        """The last block_size - 1 tokens: what the next prediction needs besides its own token."""
        return TokenWindow(batch_size, self.config.block_size - 1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) over the targets that count (those that are not -100), in nats.

    logits (B, T, V), targets (B, T) -> scalar. Nothing counted: 0, with zero gradients.
    """
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    # the mean is over counted targets; at least 1 keeps an empty batch from 0 / 0
    return total / (targets != IGNORE).sum().clamp(min=1)


Model = WaveNet
