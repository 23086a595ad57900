"""Two models by a person's words, and one input for both."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kakehashi import convert, runs
from kakehashi.convert.config import KINDS, understood
from kakehashi.convert.files import read_json
from kakehashi.inspection.diff import Diff, diff
from kakehashi.inspection.record import DiffError, Forward
from kakehashi.models.protocol import IGNORE, Output

BATCH, LENGTH, SIZE = 2, 32, 32  # of random inputs: rows, tokens, pixels
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Side:
    """One of the two. loaded: a run, or a folder, whose weights are what it is; others are drawn.

    task: None where only its author knows what it takes. borrowed: symbols of a learner's file that come from the
    reference.
    """

    word: str
    model: nn.Module
    forward: Forward | None
    task: str | None
    config: Any
    codec: Any
    loaded: bool
    borrowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two sides, what both read, and what was found. kind: "text", or drawn "tokens" or "images"; shape: as tokens."""

    a: Side
    b: Side
    kind: str
    shape: tuple[int, ...]
    found: Diff


def compare(
    a: str,
    b: str,
    *,
    text: str | None = None,
    peer: bool = False,
    own_weights: bool | None = None,
    grads: bool = True,
    training: bool = False,
    dtype: str = "float32",
    tol: float | None = None,
    seed: int = 0,
) -> Comparison:
    """`diff` of two models by NAME, FILE.py[:name], RUN or HF_DIR, on a text or on random inputs from a seed.

    A model by NAME or in a FILE.py has the Config of the other one, where that is a preset, a run or a folder; and the
    other one's weights, as those of a run or a folder go before drawn ones. own_weights: whether both keep their own;
    None: where both are runs or folders. peer: B's folder, or else A's, is opened by transformers itself.
    Raises DiffError, and what `runs.resolve` raises.
    """
    if dtype not in DTYPES:
        raise DiffError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    sides = pair(a, b, peer, seed)
    for side in sides:
        side.model.to(DTYPES[dtype])
    kind, inputs = one_input(sides, text, DTYPES[dtype], seed)
    one, other = sides
    found = diff(
        one.model,
        other.model,
        inputs,
        forward_a=one.forward,
        forward_b=other.forward,
        own_weights=one.loaded and other.loaded if own_weights is None else own_weights,
        from_b=other.loaded and not one.loaded,
        grads=grads,
        training=training,
        tol=tol,
        seed=seed,
    )
    return Comparison(one, other, kind, tuple(inputs[0].shape), found)


# --- Models ---


def pair(a: str, b: str, peer: bool, seed: int) -> tuple[Side, Side]:
    """Both models, built alike where one says how and the other does not."""
    theirs = [i for i, word in enumerate((a, b)) if convert.is_hf(word)][-1:] if peer else []
    if peer and not theirs:
        raise DiffError(f"peer opens a Hugging Face folder with transformers, and neither {a} nor {b} is one")
    opened = [from_transformers(word) if i in theirs else runs.resolve(word) for i, word in enumerate((a, b))]
    if None not in (tasks := [task_of(each) for each in opened]) and tasks[0] != tasks[1]:
        raise DiffError(f"{a} is of the task {tasks[0]} and {b} of {tasks[1]}: no input suits both")
    open_ended = [is_open(word, each) for word, each in zip((a, b), opened, strict=True)]
    said = [lent(each) for each in opened]
    if open_ended[0] and said[1] is not None:
        said[0] = alike(opened[0], said[1])
    elif open_ended[1] and said[0] is not None:
        said[1] = alike(opened[1], said[0])
    one, other = (built(word, each, config, seed) for word, each, config in zip((a, b), opened, said, strict=True))
    return one, other


@dataclass(frozen=True)
class Peer:
    """A folder's model as transformers has it."""

    folder: Path
    model: nn.Module
    codec: Any


def from_transformers(folder: str) -> Peer:
    try:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError:
        raise DiffError("peer needs the package transformers: pip install 'kakehashi[parity]'") from None
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", local_files_only=True)
    except (OSError, ValueError) as error:
        raise DiffError(f"transformers does not open {folder}: {' '.join(str(error).split())}") from error
    return Peer(Path(folder), model, convert.load_tokenizer(folder))


def task_of(opened: "runs.Resolved | Peer") -> str | None:
    return "lm" if isinstance(opened, Peer) else opened.family and opened.family.task


def is_open(word: str, opened: "runs.Resolved | Peer") -> bool:
    """Whether a person's word leaves the Config open: a model's name, or a file."""
    return not isinstance(opened, Peer) and opened.model is None and word not in opened.family.presets


def lent(opened: "runs.Resolved | Peer") -> Any:
    """The Config of a model in our words; None where it has none."""
    if not isinstance(opened, Peer):
        return opened.config
    path = opened.folder / "config.json"
    content = read_json(path)
    return understood(content, str(path))[1] if content.get("model_type") in KINDS else None


def alike(opened: Any, config: Any) -> Any:
    """A model's Config with the other's values, of the fields that both have."""
    family = opened.family
    shared = {each.name: getattr(config, each.name) for each in fields(family.Config) if hasattr(config, each.name)}
    with runs.learners_code(Path(family.path)):
        return replace(opened.config, **shared)


def built(word: str, opened: "runs.Resolved | Peer", config: Any, seed: int) -> Side:
    """The model, its attention written out rather than fused, so that its steps can be seen."""
    if isinstance(opened, Peer):
        return Side(word, opened.model, theirs_forward, "lm", config, opened.codec, loaded=True)
    if opened.family is None:
        return Side(
            word, opened.model, without_targets, None, None, opened.codec, loaded=False, borrowed=opened.borrowed
        )
    if hasattr(config, "fused"):
        config = replace(config, fused=False)
    with torch.random.fork_rng(devices=[]), runs.learners_code(Path(opened.family.path)):
        torch.manual_seed(seed)
        model = opened.family.Model(config)
    loaded = opened.model is not None
    if loaded:
        model.load_state_dict(opened.model.state_dict())
    return Side(word, model, None, opened.family.task, config, opened.codec, loaded, opened.borrowed)


def theirs_forward(model: nn.Module, tokens: Tensor, targets: Tensor) -> Output:
    """transformers' logits, and our mean over targets: its own loss moves them by one."""
    logits = model(tokens, use_cache=False).logits
    return Output(logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE))


def without_targets(model: nn.Module, *inputs: Tensor) -> Any:
    return model(*inputs[:-1])


# --- Inputs ---


def one_input(sides: tuple[Side, Side], text: str | None, dtype: torch.dtype, seed: int) -> tuple[str, tuple]:
    """A Comparison's kind, and what both models take, targets last."""
    task = next((side.task for side in sides if side.task), None)
    if task is None:
        raise DiffError(
            f"nobody says what {sides[0].word} and {sides[1].word} take: call kakehashi.inspection.diff(a, b, inputs)"
        )
    rng = torch.Generator().manual_seed(seed)
    if task == "classify":
        if text is not None:
            raise DiffError(f"{sides[0].word} takes images: leave the text out")
        size = next((side.codec.size for side in sides if side.codec), SIZE)
        images = torch.randn(BATCH, least(sides, "n_channels"), size, size, generator=rng)
        targets = torch.randint(least(sides, "n_classes"), (BATCH,), generator=rng)
        return "images", (images.to(dtype), targets)
    vocabulary = least(sides, "vocab_size")
    if task == "label":
        return text_and_class(sides, text, vocabulary, rng)
    if text is None:
        length = min(LENGTH, least(sides, "block_size", LENGTH))
        tokens = torch.randint(vocabulary, (BATCH, length + 1), generator=rng)
        source = torch.randint(vocabulary, (BATCH, length), generator=rng)
    else:
        codec = next((side.codec for side in sides if side.codec), None)
        if codec is None:
            raise DiffError(f"a text needs a tokenizer, and neither {sides[0].word} nor {sides[1].word} has one")
        ids = codec.encode(text)
        if not ids or max(ids) >= vocabulary or len(ids) > least(sides, "block_size", len(ids)):
            raise DiffError(
                f"the text must be 1 to {least(sides, 'block_size', runs.LONGEST_WINDOW)} tokens below {vocabulary}, "
                f"got {len(ids)}"
            )
        tokens, source = torch.tensor([[codec.end, *ids]]), torch.tensor([ids])
    taken = (source, tokens[:, :-1]) if task == "seq2seq" else (tokens[:, :-1],)
    return "tokens" if text is None else "text", (*taken, tokens[:, 1:])


def text_and_class(
    sides: tuple[Side, Side], text: str | None, vocabulary: int, rng: torch.Generator
) -> tuple[str, tuple]:
    """Of classifiers of texts: the tokens that both read, and a class for each."""
    form = next((side.codec for side in sides if side.codec), None)
    if text is not None and form is None:
        raise DiffError(f"a text needs a tokenizer, and neither {sides[0].word} nor {sides[1].word} has one")
    if text is None:
        tokens = torch.randint(vocabulary, (BATCH, min(LENGTH, least(sides, "block_size", LENGTH))), generator=rng)
    else:
        tokens = torch.from_numpy(form.numbers([text])[0])
        if int(tokens.max()) >= vocabulary:
            raise DiffError(f"the text must be of tokens below {vocabulary}, got {int(tokens.max())}")
    return "tokens" if text is None else "text", (
        tokens,
        torch.randint(least(sides, "n_classes"), (len(tokens),), generator=rng),
    )


def least(sides: tuple[Side, Side], name: str, default: int = 0) -> int:
    """The smaller of the two Configs' values; `default` where neither has one."""
    return min((getattr(side.config, name) for side in sides if hasattr(side.config, name)), default=default)
