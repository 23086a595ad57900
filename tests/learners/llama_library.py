"""A right Llama by the habits of a known library: rotate_half, doubled cosines, float masks, norms in float32."""

import math

import torch
from torch import nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "llama"


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


def frequencies(config):
    inv_freq = 1.0 / (config.theta ** (torch.arange(0, config.head_dim, 2, dtype=torch.int64) / config.head_dim))
    if config.scaling is not None:
        # given, and borrowed from the reference
        ramp = kept(inv_freq, config.theta, config.scaling)  # noqa: F821
        inv_freq = inv_freq * ramp + inv_freq / config.scaling.factor * (1.0 - ramp)
    return inv_freq


def rotate_half(x):
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def rotate(x, cos, sin):
    cos = torch.cat((cos, cos), dim=-1).to(x.dtype)
    sin = torch.cat((sin, sin), dim=-1).to(x.dtype)
    return (x * cos) + (rotate_half(x) * sin)


def causal_mask(T, S, pad=None, device=None, window=None):
    cache_position = torch.arange(S - T, S, device=device)
    hidden = torch.triu(torch.ones(T, S, device=device), diagonal=S - T + 1).bool()
    if window is not None:
        hidden |= torch.arange(S, device=device) <= cache_position.reshape(-1, 1) - window
    if pad is not None:
        hidden = hidden[None, None, :, :].repeat(pad.shape[0], 1, 1, 1)
        for row in range(T):
            padding = ~pad
            padding[:, S - T + row] = False
            hidden[:, 0, row] |= padding
    return hidden.logical_not()


def repeat_heads(hidden_states, n_rep):
    batch, num_key_value_heads, slen, head_dim = hidden_states.shape
    if n_rep == 1:
        return hidden_states
    hidden_states = hidden_states[:, :, None, :, :].expand(batch, num_key_value_heads, n_rep, slen, head_dim)
    return hidden_states.reshape(batch, num_key_value_heads * n_rep, slen, head_dim)


def attention(query, key, value, visible):
    key_states = repeat_heads(key, query.shape[1] // key.shape[1])
    value_states = repeat_heads(value, query.shape[1] // value.shape[1])
    attn_weights = torch.matmul(query, key_states.transpose(2, 3)) * (1 / math.sqrt(query.shape[-1]))
    mask = torch.zeros(visible.shape, dtype=query.dtype).masked_fill(~visible, torch.finfo(query.dtype).min)
    attn_weights = nn.functional.softmax(attn_weights + mask, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(attn_weights, value_states)


class SelfAttention(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        hidden_size, head_dim = config.n_embd, config.head_dim
        self.q_proj = nn.Linear(hidden_size, config.n_heads * head_dim, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden_size, config.n_kv_heads * head_dim, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden_size, config.n_kv_heads * head_dim, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.n_heads * head_dim, hidden_size, bias=config.out_bias)

    def forward(self, hidden_states, position_embeddings, attention_mask, past_key_values=None):
        input_shape = hidden_states.shape[:-1]
        hidden_shape = (*input_shape, -1, self.config.head_dim)
        query_states = self.q_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        key_states = self.k_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        value_states = self.v_proj(hidden_states).view(hidden_shape).transpose(1, 2)
        cos, sin = position_embeddings
        query_states = rotate(query_states, cos, sin)
        key_states = rotate(key_states, cos, sin)
        if past_key_values is not None:
            key_states, value_states = past_key_values.append(self.layer_idx, key_states, value_states)
        attn_output = attention(query_states, key_states, value_states, attention_mask)
        return self.o_proj(attn_output.transpose(1, 2).contiguous().view(*input_shape, -1))


def silu(x):
    return x.sigmoid().mul(x)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.n_embd, config.n_hidden, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.n_embd, config.n_hidden, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.n_hidden, config.n_embd, bias=config.mlp_bias)
        self.act_fn = silu

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.self_attn = SelfAttention(config, layer_idx)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.n_embd, eps=config.eps)
        self.post_attention_layernorm = RMSNorm(config.n_embd, eps=config.eps)

    def forward(self, hidden_states, position_embeddings, attention_mask, past_key_values=None):
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states = self.self_attn(hidden_states, position_embeddings, attention_mask, past_key_values)
        hidden_states = residual + hidden_states
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        return residual + self.mlp(hidden_states)


def cross_entropy(logits, targets):
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return loss.sum() / targets.ne(-100).sum().clamp_min(1)


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(Block(config, layer_idx) for layer_idx in range(config.n_layers))
        self.norm = RMSNorm(config.n_embd, eps=config.eps)
        self.apply(self._init_weights)
        if config.tied:
            self.register_module("lm_head", None)
        else:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
            self._init_weights(self.lm_head)
        for layer in self.layers:
            for out in (layer.self_attn.o_proj, layer.mlp.down_proj):
                out.weight.data.div_(math.sqrt(2 * config.n_layers))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(mean=0.0, std=0.02)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.data.normal_(mean=0.0, std=0.02)

    def rotary_emb(self, position_ids):
        freqs = position_ids[:, :, None].float() * frequencies(self.config)[None, None, :].float()
        scaling = 1.0 if self.config.scaling is None else self.config.scaling.sharpen
        return (freqs.cos() * scaling)[:, None], (freqs.sin() * scaling)[:, None]

    def forward(self, input_ids, labels=None, *, state=None, pad=None):
        past_seen_tokens = state.length if state is not None else 0
        total = past_seen_tokens + input_ids.shape[1]
        if total > self.config.block_size:
            raise ValueError(f"{total} tokens are more than {self.config.block_size}")
        if pad is None:
            position_ids = torch.arange(past_seen_tokens, total, device=input_ids.device).unsqueeze(0)
        else:
            position_ids = (pad.long().cumsum(-1) - 1).masked_fill(~pad, 1)[:, past_seen_tokens:]
        position_embeddings = self.rotary_emb(position_ids)
        mask = causal_mask(input_ids.shape[1], total, pad, input_ids.device, self.config.window)
        hidden_states = self.embed_tokens(input_ids)
        for decoder_layer in self.layers:
            hidden_states = decoder_layer(hidden_states, position_embeddings, mask, state)
        hidden_states = self.norm(hidden_states)
        weight = self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        logits = nn.functional.linear(hidden_states, weight)
        return Output(logits=logits, loss=None if labels is None else cross_entropy(logits, labels))

    def new_state(self, batch_size):
        return KVCache(batch_size)


Model = Llama
