"""The models that others have of what ours are: transformers' GPT-2, Llama and ResNet, torch.nn's Transformer.

A peer's name of a parameter of ours may end in "|T", where it lies transposed, or in "|n", where it is the nth third.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from kakehashi import models
from kakehashi.convert.config import described
from kakehashi.convert.folder import HEAD, PREFIX, TRANSPOSED
from kakehashi.models.protocol import Output


class Peer(NamedTuple):
    """read: a batch as ours takes it -> what has .logits and .loss. names: ours -> the peer's."""

    module: nn.Module
    read: Callable[..., Any]
    names: dict[str, str]


def take(peer: Peer, model: nn.Module) -> None:
    """Our weights into the peer."""
    theirs = dict(peer.module.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            part(theirs, peer.names[name]).copy_(parameter)


def part(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """What a peer's name names."""
    name, _, how = name.partition("|")
    if how:
        return tensors[name].T if how == "T" else tensors[name].chunk(3)[int(how)]
    return tensors[name]


def lm(model: nn.Module, attention: str = "sdpa") -> Peer:
    """transformers' model of a GPT-2 or Llama of ours; attention: "sdpa", torch's kernels, or "eager"."""
    family = models.find("gpt2" if hasattr(model, "wte") else "llama")
    said = {"bos_token_id": None, "eos_token_id": None, "loss_type": "ForCausalLM"}  # else it warns
    config = transformers.AutoConfig.for_model(**described(family, model.config), **said)
    module = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)

    def read(tokens: Tensor, targets: Tensor) -> Any:
        # labels asks for a loss, shift_labels says that the targets stand where they are predicted
        return module(tokens, labels=targets, shift_labels=targets, use_cache=False)

    def theirs(name: str) -> str:
        transposed = "|T" if family.name == "gpt2" and re.search(TRANSPOSED, name) else ""
        return name if name == HEAD else PREFIX[family.name] + name + transposed

    return Peer(module.train(), read, {name: theirs(name) for name, _ in model.named_parameters()})


def resnet(model: nn.Module) -> Peer:
    """transformers' ResNet of one of ours with the large stem."""
    config = model.config
    module = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            num_channels=config.n_channels,
            embedding_size=config.stem_width,
            hidden_sizes=list(config.widths),
            depths=list(config.depths),
            layer_type="bottleneck" if config.bottleneck else "basic",
            num_labels=config.n_classes,
        )
    )

    def ours(name: str) -> str:
        name = name.replace("convolution", "conv").replace("normalization", "norm")
        if name.startswith("classifier.1."):
            return name.replace("classifier.1", "head")
        if name.startswith("resnet.embedder."):
            return name.replace("resnet.embedder.embedder", "stem")
        _, _, _, stage, _, layer, *rest = name.split(".")
        block = sum(config.depths[: int(stage)]) + int(layer)
        return ".".join(["blocks", str(block), *rest]).replace(".layer.", ".units.")

    return Peer(
        module.train(),
        lambda images, targets: module(images, labels=targets),
        {ours(name): name for name, _ in module.named_parameters()},
    )


class Between(nn.Module):
    """torch.nn.Transformer between an embedding and the same as the head, as the paper has it."""

    def __init__(self, config: Any, positions: Callable[[int, int, int], Tensor]):
        super().__init__()
        self.positions = positions
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.body = nn.Transformer(
            config.n_embd,
            config.n_heads,
            config.n_layers,
            config.n_layers,
            config.n_hidden,
            config.dropout,
            layer_norm_eps=config.eps,
            batch_first=True,
            norm_first=config.norm_first,
        )

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, C)."""
        T, C = tokens.shape[1], self.embedding.embedding_dim
        return self.embedding(tokens) * math.sqrt(C) + self.positions(0, T, C)

    def forward(self, source: Tensor, target: Tensor, targets: Tensor) -> Output:
        """source (B, S), target and targets (B, T) -> logits (B, T, V), loss."""
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        hidden = self.body(self.embed(source), self.embed(target), tgt_mask=mask, tgt_is_causal=True)  # (B, T, C)
        logits = hidden @ self.embedding.weight.T  # (B, T, V)
        return Output(logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def transformer(model: nn.Module) -> Peer:
    """torch.nn.Transformer of one of ours with norm_first, as there each stack ends with a norm."""
    module = Between(model.config, models.find("transformer").module.positions)
    names = {"embedding.weight": "embedding.weight"}
    for ours, _ in model.named_parameters():
        side, *rest = ours.split(".")
        if side in ("encoder_norm", "decoder_norm"):
            names[ours] = f"body.{side.removesuffix('_norm')}.norm.{rest[0]}"
        elif side in ("encoder", "decoder"):
            layer, inside, *inner, kind = rest
            stem = f"body.{side}.layers.{layer}."
            if inside == "branches":
                names[ours] = f"{stem}norm{int(inner[0]) + 1}.{kind}"
            elif inside == "feed_forward":
                names[ours] = f"{stem}linear{1 if inner[0] == 'up' else 2}.{kind}"
            else:
                attention = stem + ("self_attn" if inside == "attention" else "multihead_attn")
                third = "qkv".find(inner[0])
                names[ours] = f"{attention}.out_proj.{kind}" if third < 0 else f"{attention}.in_proj_{kind}|{third}"
    return Peer(module.train(), module, names)
