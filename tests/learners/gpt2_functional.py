"""A right GPT-2 in few words: small helpers, chained calls, a module for the dropout, float32 where it is safer."""

import math
from functools import partial

import torch
import torch.nn as nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "gpt2"


def split_heads(x, n):
    return x.reshape(*x.shape[:2], n, -1).movedim(2, 1)


def merge_heads(x):
    return x.movedim(1, 2).flatten(2)


class LayerNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width).fill_(1))
        self.bias = nn.Parameter(torch.empty(width).fill_(0))
        self.eps = eps

    def forward(self, x):
        h = x.float()
        h = (h - h.mean(-1, True)) / (h.var(-1, correction=0, keepdim=True) + self.eps).sqrt()
        return (self.weight.float() * h + self.bias.float()).to(x.dtype)


def gelu(x):
    return x * 0.5 * (1 + ((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())


def causal_mask(T, S, pad=None, device=None):
    future = torch.ones(T, S, device=device, dtype=torch.bool).triu(diagonal=S - T + 1)
    if pad is None:
        return ~future
    me = torch.ones(T, S, device=device, dtype=torch.bool).tril(S - T).triu(S - T)
    return ~(future | ~pad[:, None, None]) | me


def attention(q, k, v, visible, dropout=0.0):
    scores = torch.matmul(q, k.mT).div_(q.size(-1) ** 0.5)
    scores = torch.where(visible, scores, torch.finfo(scores.dtype).min)
    return nn.functional.dropout(scores.softmax(-1), dropout, training=dropout > 0) @ v


class CausalSelfAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.heads = partial(split_heads, n=config.n_heads)
        self.layer, self.p = layer, config.dropout
        self.c_attn = nn.Linear(config.n_embd, config.n_embd * 3, bias=True)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=True)

    def forward(self, x, state=None, pad=None):
        q, k, v = map(self.heads, self.c_attn(x).chunk(3, dim=-1))
        k, v = (k, v) if state is None else state.append(self.layer, k, v)
        p = self.p * self.training
        y = attention(q, k, v, causal_mask(q.size(2), k.size(2), pad, x.device), p)
        return nn.functional.dropout(self.c_proj(merge_heads(y)), self.p, self.training)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc, self.c_proj = (
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.Linear(4 * config.n_embd, config.n_embd),
        )
        self.after = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.after(self.c_proj(gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        for name in ("ln_1", "ln_2"):
            setattr(self, name, LayerNorm(config.n_embd, config.eps))
        self.attn = CausalSelfAttention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x, state=None, pad=None):
        x = torch.add(x, self.attn(self.ln_1(x), state, pad))
        return torch.add(x, self.mlp(self.ln_2(x)))


def cross_entropy(logits, targets):
    seen = targets != -100
    return nn.functional.nll_loss(logits[seen].log_softmax(-1), targets[seen], reduction="sum") / seen.sum().clamp_min(
        1
    )


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte, self.wpe = (
            nn.Embedding(config.vocab_size, config.n_embd),
            nn.Embedding(config.block_size, config.n_embd),
        )
        self.h = nn.ModuleList(map(partial(Block, config), range(config.n_layers)))
        self.ln_f = LayerNorm(config.n_embd, config.eps)
        for name, each in self.named_parameters():
            if each.ndim == 2:
                each.data.normal_(std=0.02 / (2 * config.n_layers if "c_proj" in name else 1) ** 0.5)
            elif name.endswith("bias"):
                each.data.zero_()

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        S = tokens.size(1) + (0 if state is None else state.length)
        if S > self.config.block_size:
            raise ValueError(f"block_size is {self.config.block_size}, got {S}")
        if pad is None:
            places = torch.arange(S, device=tokens.device)[None]
        else:
            places = pad.long().cumsum(-1).sub(1).clamp(0)
        x = self.wte(tokens) + self.wpe(places[:, -tokens.size(1) :])
        x = nn.functional.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x, state=state, pad=pad)
        logits = nn.functional.linear(self.ln_f(x), self.wte.weight)
        return Output(logits, targets if targets is None else cross_entropy(logits, targets))

    def new_state(self, batch_size):
        return KVCache(batch_size)


Model = GPT
