"""What every model promises to the rooms above, and the state it carries while it generates. No mathematics.

    lm          forward(tokens (B, T), targets=None, *, state=None, pad=None) -> Output(logits (B, T, V), loss)
    seq2seq     forward(source (B, S), target (B, T), targets=None, *, source_pad=None, state=None)
    classify    forward(x, targets=None)
    label       forward(tokens (B, T), targets (B,)=None, *, pad=None) -> Output(logits (B, K), loss)

A model file has TASK (one of the four), a frozen Config, PRESETS (the first is what `train` takes) and one top class
`Model(config)` that keeps `.config`. An lm's `new_state(B)` gives the state that `forward` reads and extends in place;
a seq2seq model's `new_state(source, source_pad=None)` reads the source once for all that is written from it, and such a
state's `select(rows)` goes on with these rows of the batch.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORE = -100  # a target with this value is not counted
END = 0  # the token that ends a document, and stands before its first character


class Output(NamedTuple):
    """Logits, and the mean loss over counted targets (targets != -100).

    loss is None without targets; where no target counts it is 0 with zero gradients.
    """

    logits: Tensor
    loss: Tensor | None = None


@dataclass(frozen=True)
class Family:
    """A model file by value: what the rooms above get instead of an import."""

    name: str
    module: ModuleType
    Config: type
    Model: type
    presets: dict[str, Any]
    path: str

    @property
    def task(self) -> str:
        return self.module.TASK


class KVCache:
    """The keys and values of the tokens read so far, one pair a layer, each (B, H, length, D)."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.layers: list[tuple[Tensor, Tensor]] = []

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, D) keys and values of new tokens; return those of all tokens, (B, H, length + T, D)."""
        if layer == len(self.layers):
            self.layers.append((k, v))
        else:
            old_k, old_v = self.layers[layer]
            self.layers[layer] = (torch.cat((old_k, k), 2), torch.cat((old_v, v), 2))
        return self.layers[layer]

    def positions(self, T: int) -> Tensor:
        """(B, T): the positions of the next T tokens. Ask before appending."""
        return torch.arange(self.length, self.length + T).expand(self.batch_size, T)

    def crop(self, n: int) -> None:
        """Forget all but the first n tokens."""
        self.layers = [(k[:, :, :n], v[:, :, :n]) for k, v in self.layers]


class TokenWindow:
    """The last `size` tokens read, for models that look back a fixed number of tokens. -1: nothing was there yet."""

    def __init__(self, batch_size: int, size: int):
        self.tokens = torch.full((batch_size, size), -1)

    def extend(self, tokens: Tensor) -> Tensor:
        """Take new tokens (B, T); return them after the remembered ones (B, size + T); remember the last `size`."""
        size = self.tokens.shape[1]
        seen = torch.cat((self.tokens.to(tokens.device), tokens), 1)
        self.tokens = seen[:, seen.shape[1] - size :]
        return seen


class RecurrentState:
    """What a recurrent model knows of the tokens read so far: for each layer its tensors, each (B, K).

    They are values without a history: backpropagation ends where a state was handed on.
    """

    def __init__(self, layers: list[tuple[Tensor, ...]]):
        self.layers = layers
