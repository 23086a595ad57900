"""A right GPT-2 by someone who writes loops first: over heads, over queries, over the rows of the mask."""

import math

import torch
from torch import nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "gpt2"


class LayerNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.eps, self.width = eps, width
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        total = x.sum(-1, keepdim=True)
        centred = x - total / self.width
        variance = (centred**2).sum(-1, keepdim=True) / self.width
        return self.weight * centred / (variance + self.eps).sqrt() + self.bias


def gelu(x):
    c = math.sqrt(2 / math.pi)
    return x / 2 + x / 2 * torch.tanh(c * x * (1 + 0.044715 * x * x))


def causal_mask(T, S, pad=None, device=None):
    rows = []
    for t in range(T):
        last = S - T + t
        row = [s <= last for s in range(S)]
        rows.append(row)
    mask = torch.tensor(rows, device=device)
    if pad is None:
        return mask
    masks = []
    for b in range(pad.shape[0]):
        one = mask & pad[b]
        for t in range(T):
            one[t, S - T + t] = True
        masks.append(one[None])
    return torch.stack(masks)


def attention(q, k, v, visible, dropout=0.0):
    B, H, T, D = q.shape
    visible = visible.expand(B, 1, T, k.shape[2])
    outputs = []
    for t in range(T):
        query = q[:, :, t : t + 1]
        similarity = (query * k).sum(-1) / math.sqrt(D)
        similarity[~visible[:, :, t].expand_as(similarity)] = -math.inf
        similarity = similarity - similarity.max(-1, keepdim=True).values
        weight = similarity.exp()
        weight = weight / weight.sum(-1, keepdim=True)
        weight = nn.functional.dropout(weight, dropout, training=True)
        outputs.append((weight[..., None] * v).sum(2))
    return torch.stack(outputs, 2)


class CausalSelfAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config = config
        self.layer = layer
        self.c_attn = nn.Linear(config.n_embd, config.n_embd * 3)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, state=None, pad=None):
        C, H = self.config.n_embd, self.config.n_heads
        D = C // H
        qkv = self.c_attn(x)
        q, k, v = qkv[:, :, :C], qkv[:, :, C : 2 * C], qkv[:, :, 2 * C :]
        q = torch.stack([q[:, :, h * D : (h + 1) * D] for h in range(H)], 1)
        k = torch.stack([k[:, :, h * D : (h + 1) * D] for h in range(H)], 1)
        v = torch.stack([v[:, :, h * D : (h + 1) * D] for h in range(H)], 1)
        if state is not None:
            k, v = state.append(self.layer, k, v)
        mask = causal_mask(x.shape[1], k.shape[2], pad, x.device)
        dropout = self.config.dropout if self.training else 0.0
        heads = []
        for h in range(H):
            each = slice(h, h + 1)
            heads.append(attention(q[:, each], k[:, each], v[:, each], mask, dropout)[:, 0])
        return self.dropout(self.c_proj(torch.cat(heads, -1)))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.n_embd
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.p = config.dropout

    def forward(self, x):
        hidden = gelu(self.c_fc(x))
        out = self.c_proj(hidden)
        if self.training and self.p > 0:
            out = nn.functional.dropout(out, self.p)
        return out


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.ln_1, self.ln_2 = LayerNorm(config.n_embd, config.eps), LayerNorm(config.n_embd, config.eps)
        self.attn, self.mlp = CausalSelfAttention(config, layer), MLP(config)

    def forward(self, x, state=None, pad=None):
        for norm, branch in ((self.ln_1, lambda h: self.attn(h, state, pad)), (self.ln_2, self.mlp)):
            x = x + branch(norm(x))
        return x


def cross_entropy(logits, targets):
    losses = []
    for row, wanted in zip(logits, targets, strict=True):
        for scores, target in zip(row, wanted, strict=True):
            if target != -100:
                losses.append(torch.logsumexp(scores, 0) - scores[target])
    if not losses:
        return 0.0 * logits.sum()
    return torch.stack(losses).mean()


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList([Block(config, layer) for layer in range(config.n_layers)])
        self.ln_f = LayerNorm(config.n_embd, config.eps)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Embedding | nn.Linear):
                    module.weight.copy_(torch.randn_like(module.weight) * 0.02)
                if isinstance(module, nn.Linear):
                    module.bias.fill_(0)
            for block in self.h:
                for projection in (block.attn.c_proj, block.mlp.c_proj):
                    projection.weight.div_(math.sqrt(2 * config.n_layers))

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        B, T = tokens.shape
        S = T + (state.length if state is not None else 0)
        if S > self.config.block_size:
            raise ValueError(f"{S} > {self.config.block_size}")
        where = torch.zeros(B, T, dtype=torch.long)
        for b in range(B):
            for t in range(T):
                where[b, t] = S - T + t if pad is None else int(pad[b, : S - T + t].sum())
        x = self.wte(tokens) + self.wpe(where.to(tokens.device))
        if self.training:
            x = nn.functional.dropout(x, self.config.dropout)
        for block in self.h:
            x = block(x, state, pad)
        logits = self.ln_f(x) @ self.wte.weight.t()
        if targets is None:
            return Output(logits)
        return Output(logits, cross_entropy(logits, targets))

    def new_state(self, batch_size):
        return KVCache(batch_size)


Model = GPT
