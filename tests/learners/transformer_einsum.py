"""A right Transformer in einsum: axes by letter, masks that are added, positions as one complex number a circle."""

import torch
from torch import einsum, nn
from torch.nn import functional as F

from kakehashi.models.protocol import KVCache, Output

REFERENCE = "transformer"


def positions(start, T, width):
    turn = torch.logspace(0, -4, width // 2 + 1)[:-1]  # 10000^0 down to just above 10000^-1
    hands = torch.polar(torch.ones(T, width // 2), torch.outer(torch.arange(start, start + T).float(), turn))
    out = torch.empty(T, width)
    out[:, 0::2], out[:, 1::2] = hands.imag, hands.real
    return out


def attention(q, k, v, visible, dropout=0.0):
    hidden = torch.zeros_like(visible, dtype=q.dtype).masked_fill(visible.logical_not(), float("-inf"))
    scores = einsum("bhtd,bhnd->bhtn", q * q.size(-1) ** -0.5, k) + hidden
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    return einsum("bhtn,bhnd->bhtd", F.dropout(weights, dropout), v)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_heads, self.dropout, self.attend = config.n_heads, config.dropout, attention
        for name in ("q", "k", "v", "out"):
            self.add_module(name, nn.Linear(config.n_embd, config.n_embd))

    def heads(self, x):
        return x.unflatten(2, (self.n_heads, -1)).permute(0, 2, 1, 3)

    def keys_and_values(self, x):
        cut = [each.weight.unflatten(0, (self.n_heads, -1)) for each in (self.k, self.v)]
        shift = [each.bias.unflatten(0, (self.n_heads, 1, -1)) for each in (self.k, self.v)]
        return [einsum("bnc,hdc->bhnd", x, weight) + bias for weight, bias in zip(cut, shift, strict=True)]

    def forward(self, x, keys, values, visible):
        y = attention(self.heads(self.q(x)), keys, values, visible, self.training * self.dropout)
        return einsum("bhtd,ohd->bto", y, self.out.weight.unflatten(1, (self.n_heads, -1))) + self.out.bias


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dropout, sizes = config.dropout, (config.n_embd, config.n_hidden)
        self.up, self.down = nn.Linear(*sizes), nn.Linear(*reversed(sizes))

    def forward(self, x):
        h = einsum("btc,fc->btf", x, self.up.weight) + self.up.bias
        h = F.dropout(h.clamp(min=0), self.dropout, self.training)
        return einsum("btf,cf->btc", h, self.down.weight) + self.down.bias


class Branch(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm_first, self.dropout = config.norm_first, config.dropout
        self.norm = LayerNorm(config.n_embd, config.eps)  # noqa: F821, given

    def forward(self, x, branch, *given):
        read, ends = (self.norm, nn.Identity()) if self.norm_first else (nn.Identity(), self.norm)
        return ends(F.dropout(branch(read(x), *given), p=self.dropout, training=self.training).add(x))


class EncoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.feed_forward, self.attention = FeedForward(config), Attention(config)
        self.branches = nn.ModuleList([Branch(config), Branch(config)])

    def look_around(self, x, visible):
        keys, values = self.attention.keys_and_values(x)
        return self.attention(x, keys=keys, values=values, visible=visible)

    def forward(self, x, visible):
        steps = lambda x: self.look_around(x, visible), self.feed_forward
        for branch, step in zip(self.branches, steps, strict=True):
            x = branch(x, step)
        return x


class DecoderLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.attention, self.cross, self.feed_forward = Attention(config), Attention(config), FeedForward(config)
        self.branches = nn.ModuleList([Branch(config), Branch(config), Branch(config)])
        self.layer = layer

    def read(self, x):
        return tuple(self.cross.heads(each(x)) for each in (self.cross.k, self.cross.v))

    def look_back(self, x, state):
        before = state.layers[self.layer][0].size(2) if self.layer < len(state.layers) else 0
        keys, values = state.append(self.layer, *self.attention.keys_and_values(x))
        asks = torch.arange(before, before + x.size(1), device=x.device)
        return self.attention(x, keys, values, asks[:, None].ge(torch.arange(keys.size(2), device=x.device)))

    def look_at_source(self, x, state):
        keys, values = state.source[self.layer]
        return self.cross(x, keys, values, state.visible)

    def forward(self, x, state):
        steps = (self.look_back, state), (self.look_at_source, state), (self.feed_forward,)
        for branch, step in zip(self.branches, steps, strict=True):
            x = branch(x, *step)
        return x


class Memory(KVCache):
    def __init__(self, source, visible):
        super().__init__(visible.size(0))
        self.visible, self.source = visible, source

    def select(self, rows):
        def of(pairs):
            return [tuple(each.index_select(0, rows) for each in pair) for pair in pairs]

        self.source, self.layers, self.visible = of(self.source), of(self.layers), self.visible.index_select(0, rows)
        self.batch_size = rows.numel()


def cross_entropy(logits, targets, smoothing=0.0):
    counted = targets.ne(-100)
    wanted = torch.full_like(logits, smoothing / logits.size(-1))
    wanted.scatter_add_(-1, targets.where(counted, 0)[..., None], torch.full_like(logits[..., :1], 1 - smoothing))
    loss = einsum("btv,btv->bt", wanted, logits.log_softmax(-1))
    return -loss.where(counted, 0).sum() / max(int(counted.sum()), 1)


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, (V, C), depth = config, (config.vocab_size, config.n_embd), range(config.n_layers)
        self.encoder = nn.ModuleList([EncoderLayer(config) for _ in depth])
        self.decoder = nn.ModuleList([DecoderLayer(config, i) for i in depth])
        for name in ("encoder_norm", "decoder_norm"):
            last = LayerNorm(C, config.eps) if config.norm_first else nn.Identity()  # noqa: F821, given
            self.add_module(name, last)
        self.embedding = nn.Embedding(V, C, _weight=torch.randn(V, C) / C**0.5)
        with torch.no_grad():
            for name, value in self.named_parameters():
                if name.endswith("bias"):
                    value.zero_()
                elif value.ndim == 2 and name != "embedding.weight":
                    value.uniform_(-1, 1).mul_((6 / sum(value.shape)) ** 0.5)

    def embed(self, tokens, start=0):
        C = self.config.n_embd
        x = self.embedding.weight[tokens] * C**0.5 + positions(start, tokens.size(1), C).to(tokens.device)
        return F.dropout(x, self.config.dropout, self.training)

    def new_state(self, source, source_pad=None):
        real = source_pad if source_pad is not None else source.ge(0)
        visible, x = real.unsqueeze(1).unsqueeze(1), self.embed(source)
        for layer in self.encoder:
            x = layer(x, visible)
        x = self.encoder_norm(x)
        return Memory([layer.read(x) for layer in self.decoder], visible)

    def forward(self, source, target, targets=None, *, source_pad=None, state=None):
        state = state or self.new_state(source, source_pad)
        x = self.embed(target, state.length)
        for layer in self.decoder:
            x = layer(x, state)
        logits = einsum("btc,vc->btv", self.decoder_norm(x), self.embedding.weight)
        if targets is None:
            return Output(logits)
        return Output(logits, cross_entropy(logits, targets, self.config.label_smoothing if self.training else 0))


Model = Transformer
