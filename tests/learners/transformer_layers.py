"""A right Transformer with the habits of torch's layers: masks as tensors kept ready, contiguous().view, F.linear."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "transformer"
LONGEST = 64  # of the table of positions that is kept ready; longer texts get a longer one


def table_of_positions(length, width):
    table = torch.zeros(length, width, requires_grad=False)
    position = torch.arange(0, length, dtype=torch.float).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
    table[:, 0::2] = torch.sin(position * div_term)
    table[:, 1::2] = torch.cos(position * div_term)
    return table


def positions(start, T, width):
    return table_of_positions(max(start + T, LONGEST), width)[start : start + T].clone()


def subsequent_mask(size):
    return torch.triu(torch.full((size, size), float("-inf")), diagonal=1)


def attention(q, k, v, visible, dropout=0.0):
    b, h, t, d = q.size()
    n = k.size(2)
    scores = torch.bmm(q.reshape(b * h, t, d), k.reshape(b * h, n, d).transpose(1, 2)).view(b, h, t, n)
    scores = torch.where(visible, scores / math.sqrt(d), scores.new_tensor(float("-inf")))
    p_attn = torch.softmax(scores, dim=-1)
    if dropout > 0.0:
        p_attn = F.dropout(p_attn, p=dropout, training=True)
    return torch.matmul(p_attn, v)


def split_heads(x, n_heads):
    batch_size, length, width = x.size()
    return x.contiguous().view(batch_size, length, n_heads, width // n_heads).transpose(1, 2)


def merge_heads(x):
    batch_size, n_heads, length, width = x.size()
    return x.transpose(1, 2).contiguous().view(batch_size, length, n_heads * width)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_heads = config.n_heads
        self.q = nn.Linear(config.n_embd, config.n_embd)
        self.k = nn.Linear(config.n_embd, config.n_embd)
        self.v = nn.Linear(config.n_embd, config.n_embd)
        self.out = nn.Linear(config.n_embd, config.n_embd)
        self.p = config.dropout

    @property
    def drops(self):
        return self.p if self.training else 0.0

    def heads(self, x):
        return split_heads(x, self.n_heads)

    def keys_and_values(self, x):
        weight, bias = torch.cat((self.k.weight, self.v.weight)), torch.cat((self.k.bias, self.v.bias))
        key, value = F.linear(x, weight, bias).chunk(2, dim=-1)
        return self.heads(key), self.heads(value)

    def forward(self, x, keys, values, visible):
        return self.out(merge_heads(attention(self.heads(self.q(x)), keys, values, visible, self.drops)))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.n_hidden)
        self.down = nn.Linear(config.n_hidden, config.n_embd)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x):
        hidden = self.up(x).relu_()
        return self.down(self.drop(hidden))


class Branch(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm = LayerNorm(config.n_embd, config.eps)  # noqa: F821, given
        self.dropout = config.dropout
        self.norm_first = config.norm_first

    def forward(self, x, branch, *given):
        residual = x
        if self.norm_first:
            x = self.norm(x)
        x = branch(x, *given)
        x = F.dropout(x, p=self.dropout, training=self.training)
        x = residual + x
        if not self.norm_first:
            x = self.norm(x)
        return x


class EncoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)
        self.branches = nn.ModuleList()
        for _ in range(2):
            self.branches.append(Branch(config))

    def look_around(self, x, visible):
        key, value = self.attention.keys_and_values(x)
        return self.attention(x, key, value, visible)

    def forward(self, x, visible):
        x = self.branches[0](x, self.look_around, visible)
        x = self.branches[1](x, self.feed_forward)
        return x


class DecoderLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.attention = Attention(config)
        self.cross = Attention(config)
        self.feed_forward = FeedForward(config)
        self.branches = nn.ModuleList()
        for _ in range(3):
            self.branches.append(Branch(config))
        self.layer = layer

    def read(self, x):
        keys, values = self.cross.keys_and_values(x)
        return keys.contiguous(), values.contiguous()

    def look_back(self, x, state):
        key, value = self.attention.keys_and_values(x)
        key, value = state.append(self.layer, key, value)
        length, total = x.size(1), key.size(2)
        mask = subsequent_mask(total)[total - length :].to(x.device)
        return self.attention(x, key, value, mask == 0)

    def look_at_source(self, x, state):
        memory = state.source[self.layer]
        mask = state.visible.expand(-1, self.cross.n_heads, x.size(1), -1)
        return self.cross(x, memory[0], memory[1], mask)

    def forward(self, x, state):
        x = self.branches[0](x, self.look_back, state)
        x = self.branches[1](x, self.look_at_source, state)
        x = self.branches[2](x, self.feed_forward)
        return x


class Memory(KVCache):
    def __init__(self, source, visible):
        super().__init__(batch_size=visible.size(0))
        self.source = source
        self.visible = visible

    def select(self, rows):
        for pairs in (self.source, self.layers):
            for i, (key, value) in enumerate(pairs):
                pairs[i] = (key[rows], value[rows])
        self.visible = self.visible[rows]
        self.batch_size = self.visible.size(0)


def cross_entropy(logits, targets, smoothing=0.0):
    flat, wanted = logits.reshape(-1, logits.size(-1)), targets.reshape(-1)
    counted = wanted != -100
    if not counted.any():
        return (logits * 0.0).sum()
    log_probs = F.log_softmax(flat[counted], dim=-1)
    nll = F.nll_loss(log_probs, wanted[counted])
    return (1.0 - smoothing) * nll - smoothing * log_probs.mean()


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.scale = math.sqrt(config.n_embd)
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.encoder = nn.ModuleList([])
        self.decoder = nn.ModuleList([])
        for i in range(config.n_layers):
            self.encoder.append(EncoderLayer(config))
            self.decoder.append(DecoderLayer(config, i))
        if config.norm_first:
            self.encoder_norm = LayerNorm(config.n_embd, config.eps)  # noqa: F821, given
            self.decoder_norm = LayerNorm(config.n_embd, config.eps)  # noqa: F821, given
        else:
            self.encoder_norm = self.decoder_norm = nn.Identity()
        self._reset_parameters()

    def _reset_parameters(self):
        for name, p in self.named_parameters():
            if name == "embedding.weight":
                nn.init.normal_(p, mean=0.0, std=1 / math.sqrt(self.config.n_embd))
            elif p.dim() > 1:
                nn.init.xavier_uniform_(p)
            elif name.endswith("bias"):
                nn.init.constant_(p, 0.0)

    def embed(self, tokens, start=0):
        x = self.embedding(tokens).mul(self.scale)
        x = x + positions(start, tokens.size(1), self.config.n_embd).unsqueeze(0).to(device=x.device, dtype=x.dtype)
        return F.dropout(x, p=self.config.dropout, training=self.training)

    def new_state(self, source, source_pad=None):
        if source_pad is None:
            source_pad = torch.ones(source.size(), dtype=torch.bool, device=source.device)
        mask = source_pad.view(source.size(0), 1, 1, source.size(1))
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x) * mask[:, 0, 0, :, None]  # nothing is kept of padding
        return Memory(source=[layer.read(x) for layer in self.decoder], visible=mask)

    def forward(self, source, target, targets=None, *, source_pad=None, state=None):
        memory = self.new_state(source, source_pad) if state is None else state
        x = self.embed(target, memory.length)
        for layer in self.decoder:
            x = layer(x, memory)
        logits = F.linear(self.decoder_norm(x), self.embedding.weight)
        loss = None
        if targets is not None:
            smoothing = 0.0
            if self.training:
                smoothing = self.config.label_smoothing
            loss = cross_entropy(logits, targets, smoothing)
        return Output(logits, loss)


Model = Transformer
