"""Faults of the Transformer, encoder and decoder."""

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from kakehashi.faults import Fault
from kakehashi.source import Edit

if TYPE_CHECKING:
    from kakehashi.faults.liveness import Probe

MODULE = "kakehashi.models.transformer"
FORWARD = ("loss", "logits", "grad", "state")  # what nearly every fault in a forward pass changes


def probes(module: ModuleType) -> Iterator["Probe"]:
    """Norms after and before the branches; dropout and smoothing with the former, other heads with the latter."""
    from kakehashi.faults.liveness import sequence_to_sequence

    small = {"n_layers": 2, "n_heads": 2, "n_embd": 8, "n_hidden": 12}
    smooth = {"dropout": 0.25, "label_smoothing": 0.2, "eps": 1e-2}
    yield from sequence_to_sequence(module, "after", small | smooth)
    yield from sequence_to_sequence(
        module, "before", small | {"n_heads": 4, "dropout": 0.0, "label_smoothing": 0.0, "norm_first": True}
    )


FAULTS = (
    # masking
    Fault(
        "transformer-decoder-sees-what-comes",
        "masking",
        "mask_application",
        MODULE,
        (
            Edit(
                "DecoderLayer.look_back",
                "torch.ones($...shape, dtype=torch.bool, device=x.device).tril(N - T)",
                "torch.ones($...shape, dtype=torch.bool, device=x.device)",
            ),
        ),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "transformer-mask-shows-next",
        "masking",
        "mask_generation",
        MODULE,
        (Edit("DecoderLayer.look_back", "$everywhere.tril(N - T)", "$everywhere.tril(N - T + 1)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "transformer-mask-hides-self",
        "masking",
        "mask_generation",
        MODULE,
        (Edit("DecoderLayer.look_back", "$everywhere.tril(N - T)", "$everywhere.tril(N - T - 1)"),),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "transformer-mask-ignores-cache",
        "masking",
        "dynamic_mask",
        MODULE,
        (Edit("DecoderLayer.look_back", "$everywhere.tril(N - T)", "$everywhere.tril()"),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "transformer-source-padding-seen",
        "masking",
        "mask_application",
        MODULE,
        (
            Edit(
                "Transformer.new_state",
                "visible = real[:, None, None, :]",
                "visible = torch.ones_like(real)[:, None, None, :]",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "transformer-encoder-sees-padding",
        "masking",
        "mask_application",
        MODULE,
        (Edit("Transformer.new_state", "layer(x, visible)", "layer(x, torch.ones_like(visible))"),),
        changes=FORWARD,
        level=3,
    ),
    # attention
    Fault(
        "transformer-cross-keys-from-decoder",
        "qkv",
        "head_interaction",
        MODULE,
        (
            Edit(
                "DecoderLayer.look_at_source",
                "self.cross(x, *state.source[self.layer], state.visible)",
                "self.cross(x, *self.cross.keys_and_values(x), torch.ones_like(state.visible[..., :1]))",
            ),
        ),
        changes=FORWARD,
        level=1,
    ),
    Fault(
        "transformer-cross-of-the-first-layer",
        "qkv",
        "head_interaction",
        MODULE,
        (Edit("DecoderLayer.look_at_source", "state.source[self.layer]", "state.source[0]"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-values-are-keys",
        "qkv",
        "head_interaction",
        MODULE,
        (Edit("Attention.keys_and_values", "self.heads(self.v(x))", "self.heads(self.k(x))"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-scale-of-the-whole-width",
        "score",
        "normalization",
        MODULE,
        (Edit("attention", "math.sqrt(q.shape[-1])", "math.sqrt(q.shape[-1] * q.shape[1])"),),
        changes=FORWARD,
        level=3,
    ),
    # embedding and positions
    Fault(
        "transformer-embedding-not-scaled",
        "embedding",
        "input_initialization",
        MODULE,
        (Edit("Transformer.embed", "x * math.sqrt(C)", "x"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "transformer-positions-scaled",
        "positional",
        "indexing",
        MODULE,
        (
            Edit(
                "Transformer.embed",
                "x * math.sqrt(C) + positions(start, $length, C).to(x)",
                "(x + positions(start, $length, C).to(x)) * math.sqrt(C)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-positions-in-halves",
        "positional",
        "indexing",
        MODULE,
        (
            Edit(
                "positions",
                "torch.stack((angle.sin(), angle.cos()), 2).flatten(1)",
                "torch.cat((angle.sin(), angle.cos()), 1)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-positions-too-slow",
        "positional",
        "indexing",
        MODULE,
        (Edit("positions", "-torch.arange(0, width, 2) / width", "-torch.arange(0, width, 2) * 2 / width"),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-embedding-starts-wide",
        "embedding",
        "input_initialization",
        MODULE,
        (
            Edit(
                "Transformer.__init__",
                "nn.init.normal_(self.embedding.weight, std=C**-0.5)",
                "nn.init.normal_(self.embedding.weight)",
            ),
        ),
        changes=("init",),
        level=1,
    ),
    # the state
    Fault(
        "transformer-state-positions-restart",
        "kv_cache",
        "cache_position",
        MODULE,
        (Edit("Transformer.forward", "self.embed(target, state.length)", "self.embed(target)"),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "transformer-select-forgets-the-source",
        "kv_cache",
        "memory_layout",
        MODULE,
        (Edit("Memory.select", "self.source = [(k[rows], v[rows]) for k, v in self.source]", ""),),
        changes=("state",),
        level=2,
    ),
    Fault(
        "transformer-select-forgets-the-targets",
        "kv_cache",
        "memory_layout",
        MODULE,
        (Edit("Memory.select", "self.layers = [(k[rows], v[rows]) for k, v in self.layers]", ""),),
        changes=("state",),
        level=2,
    ),
    # the stream
    Fault(
        "transformer-norm-inside-the-addition",
        "residual",
        "residual_path",
        MODULE,
        (Edit("Branch.forward", "self.norm(x + F.dropout($...given))", "x + self.norm(F.dropout($...given))"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "transformer-stream-normalised",
        "residual",
        "residual_path",
        MODULE,
        (
            Edit(
                "Branch.forward",
                "return x + F.dropout(branch(self.norm(x), *given), self.dropout, self.training)",
                "x = self.norm(x)\nreturn x + F.dropout(branch(x, *given), self.dropout, self.training)",
            ),
        ),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-encoder-norm-missing",
        "layernorm",
        "regularization",
        MODULE,
        (Edit("Transformer.new_state", "x = self.encoder_norm(x)", ""),),
        changes=FORWARD,
        level=3,
    ),
    Fault(
        "transformer-relu-missing",
        "ffn",
        "activation_function",
        MODULE,
        (Edit("FeedForward.forward", "F.relu(self.up(x))", "self.up(x)"),),
        changes=FORWARD,
        level=2,
    ),
    Fault(
        "transformer-dropout-in-eval",
        "mode",
        "dropout_in_eval",
        MODULE,
        (
            Edit(
                "Transformer.embed",
                "F.dropout(x, self.config.dropout, self.training)",
                "F.dropout(x, self.config.dropout)",
            ),
        ),
        changes=FORWARD,
        level=2,
    ),
    # head and loss
    Fault(
        "transformer-head-detached",
        "output",
        "weight_tying",
        MODULE,
        (Edit("Transformer.forward", "self.embedding.weight.T", "self.embedding.weight.detach().T"),),
        changes=("grad",),
        level=3,
    ),
    Fault(
        "transformer-smoothing-over-the-others",
        "loss",
        "smoothing",
        MODULE,
        (Edit("cross_entropy", "smoothing * logs.mean(-1)", "smoothing * logs.sum(-1) / (logs.shape[-1] - 1)"),),
        changes=("loss", "grad"),
        level=3,
    ),
    Fault(
        "transformer-smoothing-in-evaluation",
        "loss",
        "smoothing",
        MODULE,
        (
            Edit(
                "Transformer.forward",
                "self.config.label_smoothing if self.training else 0.0",
                "self.config.label_smoothing",
            ),
        ),
        changes=("loss", "grad"),
        level=2,
    ),
    Fault(
        "transformer-smoothing-of-padding",
        "loss",
        "padding_counted",
        MODULE,
        (
            Edit(
                "cross_entropy",
                "loss = -(1 - smoothing) * right - smoothing * logs.mean(-1)",
                "loss = -(1 - smoothing) * right.masked_fill(~counted, 0.0) - smoothing * logs.mean(-1)",
            ),
            Edit("cross_entropy", "loss.masked_fill(~counted, 0.0).sum()", "loss.sum()"),
        ),
        changes=("loss", "grad"),
        level=3,
    ),
    Fault(
        "transformer-loss-mean-over-all",
        "loss",
        "denominator",
        MODULE,
        (Edit("cross_entropy", "counted.sum().clamp(min=1)", "targets.numel()"),),
        changes=("loss", "grad"),
        level=2,
    ),
)
