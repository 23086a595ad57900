"""A right GPT-2 by someone with nanoGPT's habits: mask buffers, contiguous().view, F.linear, layers in a ModuleDict."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "gpt2"


class LayerNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        var, mean = torch.var_mean(x, dim=-1, keepdim=True, unbiased=False)
        return self.weight * ((x - mean) * torch.rsqrt(var + self.eps)) + self.bias


def gelu(x):
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def causal_mask(T, S, pad=None, device=None):
    mask = torch.tril(torch.ones(S, S, device=device))[S - T :, :].bool()
    if pad is not None:
        mask = mask.view(1, 1, T, S) & pad.view(pad.size(0), 1, 1, S)
        mask = mask | torch.eye(S, device=device).bool()[S - T :, :]
    return mask


def attention(q, k, v, visible, dropout=0.0):
    att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
    att = att.masked_fill(visible == 0, float("-inf"))
    att = F.softmax(att, dim=-1)
    att = F.dropout(att, p=dropout)
    return att @ v


class CausalSelfAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        assert config.n_embd % config.n_heads == 0
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head, self.n_embd, self.layer = config.n_heads, config.n_embd, layer
        triangle = torch.tril(torch.ones(config.block_size, config.block_size))
        self.register_buffer("bias", triangle.view(1, 1, config.block_size, config.block_size))

    def forward(self, x, state=None, pad=None):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        if state is not None:
            k, v = state.append(self.layer, k, v)
        S = k.size(2)
        seen = self.bias[:, :, S - T : S, :S] != 0
        if pad is not None:
            seen = (seen & pad[:, None, None, :S]) | torch.eye(S, device=x.device).bool()[S - T :]
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(~seen, float("-inf"))
        att = self.attn_dropout(F.softmax(att, dim=-1))
        y = (att @ v).transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        x = self.c_fc(x)
        x = gelu(x)
        x = self.c_proj(x)
        return self.dropout(x)


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.eps)
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = LayerNorm(config.n_embd, config.eps)
        self.mlp = MLP(config)

    def forward(self, x, state=None, pad=None):
        x = x + self.attn(self.ln_1(x), state=state, pad=pad)
        x = x + self.mlp(self.ln_2(x))
        return x


def cross_entropy(logits, targets):
    targets = targets.reshape(-1)
    logits = logits.reshape(-1, logits.size(-1))
    if (targets == -100).all():
        return logits.sum() * 0.0
    return F.cross_entropy(logits, targets, ignore_index=-100)


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config, i) for i in range(config.n_layers)])
        self.ln_f = LayerNorm(config.n_embd, config.eps)
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layers))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        b, t = tokens.size()
        past = 0 if state is None else state.length
        if past + t > self.config.block_size:
            raise ValueError(f"cannot read {past + t} tokens, block_size is {self.config.block_size}")
        if pad is None:
            pos = torch.arange(past, past + t, dtype=torch.long, device=tokens.device).unsqueeze(0)
        else:
            pos = (torch.cumsum(pad.long(), dim=1) - 1).clamp(min=0)[:, past:]
        x = self.drop(self.wte(tokens) + self.wpe(pos))
        for block in self.h:
            x = block(x, state, pad)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        loss = cross_entropy(logits, targets) if targets is not None else None
        return Output(logits, loss)

    def new_state(self, batch_size):
        return KVCache(batch_size)


Model = GPT
