"""The second peer of `bench ladder`: the LSTM of kakehashi/models/recurrent.py on torch.nn.LSTM, in a plain loop.

Written for this comparison: torch's own layer, dropout, loss, clipping and AdamW, as the manual of PyTorch would have
it. Same parameters, batches and settings as ours; nothing here is shared with the package.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn import functional as F


class LSTM(nn.Module):
    """tokens (B, T), targets (B, T), -100 where none counts -> the mean loss. Every row begins without memory."""

    def __init__(self, vocab_size: int, n_embd: int, n_hidden: int, n_layers: int, dropout: float):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, n_embd)
        self.lstm = nn.LSTM(n_embd, n_hidden, n_layers, dropout=dropout if n_layers > 1 else 0.0, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(n_hidden, vocab_size)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        h, _ = self.lstm(self.dropout(self.embedding(tokens)))
        logits = self.output(self.dropout(h))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def take(model: LSTM, weights: dict[str, Tensor]) -> None:
    """Copy the weights of a kakehashi.models.recurrent.Recurrent with LSTM cells: the same numbers, other names."""

    def renamed(name: str) -> str:
        if not name.startswith("layers."):
            return name
        _, layer, weight = name.split(".")
        return f"lstm.{weight}_l{layer}"

    model.load_state_dict({renamed(name): tensor for name, tensor in weights.items()})


def train(
    model: LSTM,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    lr: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.99),
    grad_clip: float = 1.0,
    log_interval: int = 10,
) -> Iterator[Tensor]:
    """Train on (tokens, targets). Yields the loss of each step after it."""
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas)
    model.train()
    for it, (tokens, targets) in enumerate(batches):
        loss = model(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if it % log_interval == 0:
            loss.item()
        yield loss
