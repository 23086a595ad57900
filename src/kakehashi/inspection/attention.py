"""Attention weights, caught while a model computes: what its kernels do not give is computed from what they take.

Axes: B batch, H heads, T queries, S keys, D width of a head.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from kakehashi.inspection.record import tensors

aten: Any = torch.ops.aten
SOFTMAX = (aten._softmax.default, aten.softmax.int, aten._safe_softmax.default)
WRITTEN_OUT = (aten.div.Tensor, aten.div_.Tensor, aten.exp.default)  # e / sum(e), or exp(x - logsumexp(x))
PRODUCTS = (aten.bmm.default, aten.matmul.default, aten.mm.default, aten.einsum.default)
# torch's shortcuts for eval mode: whole layers that call no module and give no weights
SHORTCUTS = (aten._native_multi_head_attention.default, aten._transformer_encoder_layer_fwd.default)


@torch.no_grad()
def weights(
    query: Tensor, key: Tensor, mask: Tensor | None = None, is_causal: bool = False, scale: float | None = None
) -> Tensor:
    """What scaled_dot_product_attention weighs its values with, before dropout: (..., H, T, S).

    query (..., H, T, D); key (..., K, S, D), each of its K heads for H / K of the query's. mask broadcasts to
    (..., T, S): bool, True = may look, or added to the scores. is_causal: query i sees keys 0 to i. scale: None:
    1 / sqrt(D). A query that sees nothing has weights 0. Computed in float32 at least, and given so.
    """
    q, k = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (query, key))
    if q.ndim > 2 and 1 < k.shape[-3] < q.shape[-3]:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)  # (..., H, S, D)
    scores = q @ k.transpose(-2, -1)  # (..., H, T, S)
    scores *= 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()  # (T, S)
        scores.masked_fill_(~seen, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    blind = scores.amax(-1, keepdim=True) == -math.inf  # (..., T, 1)
    return scores.softmax(-1).masked_fill_(blind, 0)


def taken(func: Any, args: Iterable, kwargs: dict) -> dict[str, Any]:
    """An operator's arguments by name, if it is a kernel for attention, of whatever device; else none."""
    schema = getattr(func, "_schema", None)
    names = [each.name for each in schema.arguments] if schema else []
    if not {"query", "key", "value", "is_causal"} <= set(names) or "grad_out" in names:
        return {}
    return dict(zip(names, args, strict=False)) | kwargs


def sums_to_one(x: Tensor) -> bool:
    """Whether the last axis holds weights: none negative, of sum 1."""
    return x.is_floating_point() and bool((x >= 0).all()) and bool(((x.sum(-1) - 1).abs() < 1e-2).all())


def weighs(operands: Iterable[Tensor], w: Tensor) -> bool:
    """Whether a product's operands look like the weights w (..., T, S), which dropout may have changed, and values."""
    shapes = [(x.numel(), *sorted(x.shape[-2:])) for x in operands if x.ndim >= min(3, w.ndim)]
    return len(shapes) > 1 and (w.numel(), *sorted(w.shape[-2:])) in shapes


class Watch(TorchDispatchMode):
    """While it is entered, tells of the weights of each attention, whatever computes it. Changes nothing.

    tell(weights, written_out): as the model has them, a copy, before dropout. written_out: they were taken for weights
    because values were multiplied by what a softmax over the last axis gave, or something else whose rows sum to 1.
    shortcut: one of SHORTCUTS was called; its weights are not told.

    A dispatch mode, as it sees what is called below Python, too, and does not, as a function mode does, switch the
    shortcuts off.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Or torch imports its compiler, for seconds, at the first operator."""
        return False

    def __init__(self, tell: Callable[[Tensor, bool], None]):
        super().__init__()
        self.tell = tell
        self.shortcut = False
        self.pending: Tensor | None = None  # may turn out to be weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        self.look(func, args, kwargs or {}, given)
        return given

    def look(self, func: Any, args: Any, kwargs: dict, given: Any) -> None:
        if func in SHORTCUTS:
            self.shortcut = True
        elif func in SOFTMAX or (func in WRITTEN_OUT and given.ndim > 1 and sums_to_one(given)):
            last = func in WRITTEN_OUT or args[1] in (-1, given.ndim - 1)
            square = given.ndim == 2 and given.shape[0] == given.shape[1]
            if last and (given.ndim > 2 or square):
                self.pending = given.detach().clone()  # dropout may overwrite it
        elif func in PRODUCTS and self.pending is not None and weighs(tensors(args).values(), self.pending):
            self.tell(self.pending, True)
            self.pending = None
        elif call := taken(func, args, kwargs):
            mask = call.get("attn_mask", call.get("attn_bias"))
            with _disable_current_modes():  # ours is nobody's to see, or to count
                found = weights(call["query"], call["key"], mask, call.get("is_causal", False), call.get("scale"))
            self.tell(found, False)
        elif str(func) == "flex_attention":  # a program of its own for scores: asked with the identity as values
            query, key, _, *program = args
            S = key.shape[2]
            identity = torch.eye(S, dtype=query.dtype, device=query.device).expand(*key.shape[:2], S, S)
            with _disable_current_modes():
                found = func(query, key, identity, *program, **kwargs)[0]  # (B, H, T, S)
            self.tell(found, False)
