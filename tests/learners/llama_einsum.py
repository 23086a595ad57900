"""A right Llama in einsum: places as complex numbers, queries in groups that share a key, masks from places."""

import math

import torch
from torch import Tensor, einsum, nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "llama"


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        power = einsum("...c,...c->...", x, x).div(x.size(-1)).unsqueeze(-1)
        return einsum("...c,c->...c", x * (power + self.eps) ** -0.5, self.weight)


def frequencies(config) -> Tensor:
    D, theta, scaling, pairs = config.head_dim, config.theta, config.scaling, torch.arange(config.head_dim // 2)
    plain = torch.exp(pairs * (-2 / D * math.log(theta)))
    if scaling is None:
        return plain
    if scaling.kind == "yarn":
        first, last = (
            math.log(scaling.trained / turns / math.tau, theta) * D / 2 for turns in (scaling.fast, scaling.slow)
        )
        first, last = max(math.floor(first), 0), min(math.ceil(last), D - 1)
        share = 1 - (pairs - first) / max(last - first, 0.001)
    elif scaling.kind == "llama3":
        share = (scaling.trained / math.tau * plain - scaling.slow) / (scaling.fast - scaling.slow)
    else:
        share = torch.zeros(D // 2)
    share = share.clip(0, 1)
    return share * plain + (1 - share) * plain / scaling.factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    plane = torch.complex(*x.float().chunk(2, dim=-1)) * torch.complex(cos, sin)
    return torch.cat((plane.real, plane.imag), dim=-1).to(x.dtype)


def causal_mask(T: int, S: int, pad=None, device=None, window=None) -> Tensor:
    there = torch.arange(S, device=device)
    here = there[S - T :].unsqueeze(1)
    seen = (there <= here) & (here - there < (window or S))
    return seen if pad is None else seen & pad[:, None, None] | (there == here)


def repeat_heads(x: Tensor, n: int) -> Tensor:
    return x.repeat_interleave(n, dim=1)


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    q = q.unflatten(1, (k.size(1), -1)) * q.size(-1) ** -0.5
    scores = einsum("bgntd,bgsd->bgnts", q, k).where(visible.unsqueeze(-3), -torch.inf)
    return einsum("bgnts,bgsd->bgntd", scores.softmax(-1), v).flatten(1, 2)


class SelfAttention(nn.Module):
    def __init__(self, config, layer: int):
        super().__init__()
        self.layer, self.D = layer, config.head_dim
        for name, heads in (("q", config.n_heads), ("k", config.n_kv_heads), ("v", config.n_kv_heads)):
            setattr(self, f"{name}_proj", nn.Linear(config.n_embd, heads * self.D, config.qkv_bias))
        self.o_proj = nn.Linear(config.n_heads * self.D, config.n_embd, config.out_bias)

    def forward(self, x: Tensor, rotation, visible: Tensor, state: KVCache | None = None) -> Tensor:
        layers = self.q_proj, self.k_proj, self.v_proj
        q, k, v = (einsum("bthd->bhtd", layer(x).unflatten(2, (-1, self.D))) for layer in layers)
        q, k = (rotate(each, *rotation) for each in (q, k))
        if state is not None:
            k, v = state.append(self.layer, k, v)
        y = einsum("bhtd,chd->btc", attention(q, k, v, visible), self.o_proj.weight.unflatten(1, (-1, self.D)))
        return y if self.o_proj.bias is None else y + self.o_proj.bias


def silu(x: Tensor) -> Tensor:
    return (1 + torch.tanh(x / 2)) * x / 2


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.down_proj = nn.Linear(config.n_hidden, config.n_embd, config.mlp_bias)
        self.up_proj, self.gate_proj = (nn.Linear(config.n_embd, config.n_hidden, config.mlp_bias) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(einsum("...f,...f->...f", self.up_proj(x), silu(self.gate_proj(x))))


class Block(nn.Module):
    def __init__(self, config, layer: int):
        super().__init__()
        self.mlp, self.self_attn = MLP(config), SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.n_embd, config.eps)
        self.input_layernorm = RMSNorm(config.n_embd, config.eps)

    def forward(self, x: Tensor, *given) -> Tensor:
        middle = self.self_attn(self.input_layernorm(x), *given) + x
        return self.mlp(self.post_attention_layernorm(middle)) + middle


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList([Block(config, layer) for layer in range(config.n_layers)])
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        if not config.tied:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.norm = RMSNorm(config.n_embd, config.eps)
        for name, value in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(value, 0.0, 0.02 * (2 * config.n_layers) ** -0.5)
            elif value.ndim == 2:
                nn.init.normal_(value, 0.0, 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(value)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        B, T = tokens.shape
        S = T + (state.length if state is not None else 0)
        if S > self.config.block_size:
            raise ValueError(f"block_size is {self.config.block_size}, got {S}")
        real = tokens.new_ones(B, S) if pad is None else pad.long()
        places = (real.cumsum(1) - real)[:, S - T :]
        angles = einsum("bt,d->btd", places.float(), frequencies(self.config)).unsqueeze(1)
        sharpen = self.config.scaling.sharpen if self.config.scaling else 1.0
        rotation = torch.polar(torch.full_like(angles, sharpen), angles)
        visible = causal_mask(T, S, pad, tokens.device, self.config.window)
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, (rotation.real, rotation.imag), visible, state)
        head = self.embed_tokens.weight if self.config.tied else self.lm_head.weight
        logits = einsum("btc,vc->btv", self.norm(x), head)
        return Output(logits, cross_entropy(logits, targets) if targets is not None else None)

    def new_state(self, batch_size):
        return KVCache(batch_size)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    counted = targets.ne(-100)
    log_p = logits.log_softmax(-1).gather(-1, targets.where(counted, 0).unsqueeze(-1)).squeeze(-1)
    return -einsum("bt,bt->", log_p, counted.to(log_p)) / max(int(counted.sum()), 1)


Model = Llama
