"""A right Llama without haste: tables of cos and sin, loops over heads and rows, the embedding as head."""

import torch
from torch import nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "llama"


class RMSNorm(nn.Module):
    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 1.0))
        self.floor = width * eps

    def forward(self, x):
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square().add(self.floor).sqrt()
        return x * (self.weight * len(self.weight) ** 0.5) / length


def frequencies(config):
    ratio = torch.tensor(config.theta, dtype=torch.float64) ** (-2 / config.head_dim)
    found = [torch.tensor(1.0, dtype=torch.float64)]
    while len(found) < config.head_dim // 2:
        found.append(found[-1] * ratio)
    plain = torch.stack(found).float()
    if config.scaling:
        share = kept(plain, config.theta, config.scaling)  # noqa: F821
        plain = plain * (share + (1 - share) / config.scaling.factor)
    return plain


def rotate(x, cos, sin):
    x = x.to(torch.promote_types(x.dtype, cos.dtype)), x.dtype
    first, second = x[0].tensor_split(2, dim=-1)
    left, right = torch.stack((cos, sin), -1), torch.stack((-sin, cos), -1)
    plane = first[..., None] * left + second[..., None] * right  # (B, H, T, D / 2, 2)
    return plane.mT.flatten(-2).to(x[1])


def causal_mask(T, S, pad=None, device=None, window=None):
    rows = []
    for row in range(S - T, S):
        first = 0 if window is None else max(0, row - window + 1)
        rows.append([first <= column <= row for column in range(S)])
    seen = torch.tensor(rows, device=device)
    if pad is None:
        return seen
    seen = seen.logical_and(pad[:, None, None, :]).clone()
    for row in range(T):
        seen[:, :, row, S - T + row] = True
    return seen


def repeat_heads(x, n):
    return torch.cat([head for head in x.split(1, dim=1) for _ in range(n)], dim=1)


def attention(q, k, v, visible):
    shared = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        scores = torch.baddbmm(
            torch.zeros(1, 1, 1, dtype=q.dtype), q[:, head], k[:, head // shared].mT, alpha=q.shape[-1] ** -0.5
        )
        scores = scores.masked_fill(~(visible if visible.ndim == 2 else visible[:, 0]), float("-inf"))
        scores = scores - scores.amax(-1, keepdim=True).detach()
        heads.append(scores.exp() @ v[:, head // shared] / scores.exp().sum(-1, keepdim=True))
    return torch.stack(heads, 1)


class SelfAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layer, C, D = layer, config.n_embd, config.head_dim
        self.heads = {"q_proj": config.n_heads, "k_proj": config.n_kv_heads, "v_proj": config.n_kv_heads}
        for name, heads in self.heads.items():
            self.add_module(name, nn.Linear(C, heads * D, bias=config.qkv_bias))
        self.add_module("o_proj", nn.Linear(config.n_heads * D, C, bias=config.out_bias))

    def forward(self, x, rotation, visible, state=None):
        q, k, v = (
            torch.stack(self.get_submodule(name)(x).chunk(heads, dim=-1), dim=1) for name, heads in self.heads.items()
        )
        q, k = rotate(q, rotation[0], rotation[1]), rotate(k, rotation[0], rotation[1])
        if state is not None:
            k, v = state.append(self.layer, k, v)
        return self.o_proj(torch.cat(attention(q, k, v, visible).unbind(1), -1))


def silu(x):
    return x * torch.exp(nn.functional.logsigmoid(x))


class MLP(nn.ModuleDict):
    def __init__(self, config):
        C, wide = config.n_embd, config.n_hidden
        sizes = {"gate_proj": (C, wide), "up_proj": (C, wide), "down_proj": (wide, C)}
        super().__init__({name: nn.Linear(*size, bias=config.mlp_bias) for name, size in sizes.items()})

    def forward(self, x):
        return self["down_proj"](self["up_proj"](x) * silu(self["gate_proj"](x)))


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (RMSNorm(config.n_embd, config.eps) for _ in "12")
        self.self_attn = SelfAttention(config, layer)
        self.mlp = MLP(config)

    def forward(self, x, rotation, visible, state=None):
        found = self.self_attn(self.input_layernorm(x), rotation, visible, state)
        return x + found + self.mlp(self.post_attention_layernorm(x + found))


def cross_entropy(logits, targets):
    logits, targets = logits[targets != -100], targets[targets != -100]
    if not len(targets):
        return logits.sum()
    return (torch.logsumexp(logits, -1) - logits[torch.arange(len(targets)), targets]).mean()


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList([Block(config, layer) for layer in range(config.n_layers)])
        self.norm = RMSNorm(config.n_embd, config.eps)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        branches = 2 * config.n_layers
        with torch.no_grad():
            for name, value in self.named_parameters():
                kind = name.split(".")[-2:]
                if value.ndim == 2:
                    value.normal_(0, (0.0004 / (branches if kind[0] in ("o_proj", "down_proj") else 1)) ** 0.5)
                elif kind[1] == "bias":
                    value.zero_()
        if config.tied:
            self.lm_head.weight = self.embed_tokens.weight
        angles = torch.outer(torch.arange(config.block_size), frequencies(config))  # (block_size, D / 2)
        longer = config.scaling.sharpen if config.scaling else 1
        self.register_buffer("cos", longer * angles.cos(), persistent=False)
        self.register_buffer("sin", longer * angles.sin(), persistent=False)

    def forward(self, tokens, targets=None, *, state=None, pad=None):
        T = tokens.shape[1]
        S = T if state is None else T + state.length
        if S > self.config.block_size:
            raise ValueError("more tokens than block_size")
        places = torch.arange(S).expand(1, S) if pad is None else torch.cumsum(pad, 1).sub(1).clamp(min=0)
        places = places[:, S - T :]
        rotation = self.cos[places].unsqueeze(1), self.sin[places].unsqueeze(1)
        visible = causal_mask(T, S, pad, tokens.device, self.config.window)
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, rotation, visible, state)
        logits = self.lm_head(self.norm(x))
        return Output(logits, cross_entropy(logits, targets) if targets is not None else None)

    def new_state(self, batch_size):
        return KVCache(batch_size)


Model = Llama
