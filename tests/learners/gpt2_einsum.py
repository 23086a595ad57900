"""A right GPT-2 in einsum: axes by letter, a float mask that is added, queries, keys and values unfolded at once."""

import torch
from torch import Tensor, einsum, nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "gpt2"
HIDDEN = float("-inf")


class LayerNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        power = einsum("...c,...c->...", centred, centred).div(x.shape[-1]).unsqueeze(-1)
        return torch.addcmul(self.bias, self.weight, centred * (power + self.eps) ** -0.5)


def gelu(x: Tensor) -> Tensor:
    root = (2 / torch.pi) ** 0.5
    gate = torch.sigmoid(2 * root * (x + 0.044715 * x * x * x))  # (1 + tanh(a)) / 2 = sigmoid(2 a)
    return x * gate


def causal_mask(T: int, S: int, pad: Tensor | None = None, device=None) -> Tensor:
    rows = torch.arange(S - T, S, device=device).unsqueeze(1)
    columns = torch.arange(S, device=device).unsqueeze(0)
    seen = columns <= rows
    if pad is not None:
        seen = seen.logical_and(pad.unsqueeze(1).unsqueeze(1)).logical_or(columns == rows)
    return seen


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, dropout: float = 0.0) -> Tensor:
    scores = einsum("bhtd,bhsd->bhts", q * q.size(-1) ** -0.5, k)
    scores = scores + torch.zeros_like(visible, dtype=scores.dtype).masked_fill(visible.logical_not(), HIDDEN)
    weights = torch.exp(scores - scores.logsumexp(dim=-1, keepdim=True))
    if dropout:
        weights = nn.functional.dropout(weights, dropout)
    return einsum("bhts,bhsd->bhtd", weights, v)


class CausalSelfAttention(nn.Module):
    def __init__(self, config, layer: int):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.config, self.layer = config, layer

    def forward(self, x: Tensor, state: KVCache | None = None, pad: Tensor | None = None) -> Tensor:
        p = self.config.dropout if self.training else 0.0
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.config.n_heads, -1)).permute(2, 0, 3, 1, 4)
        if state is not None:
            k, v = state.append(self.layer, k, v)
        y = attention(q, k, v, causal_mask(x.size(1), k.size(2), pad, x.device), p)
        weight = self.c_proj.weight.unflatten(1, (self.config.n_heads, -1))
        return nn.functional.dropout(einsum("bhtd,ohd->bto", y, weight) + self.c_proj.bias, p)


class MLP(nn.Sequential):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.n_embd * 4)
        self.c_proj = nn.Linear(config.n_embd * 4, config.n_embd)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.c_proj(gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config, layer: int):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.eps)
        self.ln_2 = LayerNorm(config.n_embd, config.eps)
        self.mlp = MLP(config)
        self.attn = CausalSelfAttention(config, layer)

    def forward(self, x: Tensor, state=None, pad=None) -> Tensor:
        middle = self.attn(self.ln_1(x), state, pad) + x
        return self.mlp(self.ln_2(middle)) + middle


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    counted = targets.ne(-100)
    log_p = logits.log_softmax(dim=-1)
    picked = torch.take_along_dim(log_p, targets.where(counted, 0).unsqueeze(-1), dim=-1).squeeze(-1)
    return -picked.where(counted, 0.0).sum() / max(int(counted.sum()), 1)


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.ln_f = LayerNorm(config.n_embd, config.eps)
        self.h = nn.ModuleList()
        for layer in range(config.n_layers):
            self.h.append(Block(config, layer))
        for name, weight in self.named_parameters():
            if weight.ndim < 2:
                continue
            deep = name.endswith("c_proj.weight")
            torch.nn.init.normal_(weight, 0.0, 0.02 * (2 * config.n_layers) ** -0.5 if deep else 0.02)
        for name, bias in self.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(bias)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        T = tokens.size(1)
        before = state.length if state is not None else 0
        if before + T > self.config.block_size:
            raise ValueError("too long")
        real = torch.ones(len(tokens), before + T, dtype=torch.bool, device=tokens.device) if pad is None else pad
        places = (real.long().cumsum(1) - real.long())[:, before:]
        x = nn.functional.dropout(self.wte(tokens) + self.wpe(places), self.config.dropout, training=self.training)
        for block in self.h:
            x = block(x, state, pad)
        logits = einsum("btc,vc->btv", self.ln_f(x), self.wte.weight)
        return Output(logits=logits, loss=cross_entropy(logits, targets) if targets is not None else None)

    def new_state(self, batch_size):
        return KVCache(batch_size)


Model = GPT
