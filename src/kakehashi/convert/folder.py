"""A model from a folder, and into one."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kakehashi import models, tokenizers
from kakehashi.convert.config import described, understood
from kakehashi.convert.files import ConvertError, as_json, read_json
from kakehashi.convert.weights import Weights, one_dtype, same_names, same_shape, write
from kakehashi.models.protocol import Family
from kakehashi.paths import atomic_write
from kakehashi.tokenizers import CharTokenizer

PREFIX = {"gpt2": "transformer.", "llama": "model."}  # of every weight but the head's
HEAD = "lm_head.weight"
TRANSPOSED = r"\.c_(attn|proj|fc)\.weight$"  # GPT-2's linear maps: (in, out) in its files, (out, in) in our model
TOKENIZER = "kakehashi_tokenizer.json"  # of one token a character, which tokenizer.json cannot say
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def is_hf(folder: str | Path) -> bool:
    """Whether a folder's config.json is Hugging Face's."""
    try:
        return "model_type" in read_json(Path(folder) / "config.json")
    except ConvertError:
        return False


def load_hf(folder: str | Path, dtype: torch.dtype | None = None) -> Any:
    """The model in a Hugging Face folder, in eval mode.

    dtype: of the weights; None: as they lie in the files. Raises ConvertError.
    """
    folder = Path(folder)
    path = folder / "config.json"
    family, config = understood(read_json(path), str(path))
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        model = family.Model(config)
    wanted = dict(model.named_parameters())
    weights = Weights(folder, PREFIX[family.name])
    found = set(weights)
    if HEAD in found - wanted.keys():  # tied, and saved all the same
        embedding = next(iter(wanted))
        if embedding in found and not torch.equal(weights[HEAD], weights[embedding]):
            raise ConvertError(f"{folder}: {HEAD} is not {embedding}, though config.json says that they are tied")
        found.remove(HEAD)
    same_names(folder, wanted.keys(), found)
    state = {}
    for name, parameter in wanted.items():
        tensor = weights[name]
        if tensor.dtype not in DTYPES:
            raise ConvertError(f"{folder}: {name} is {tensor.dtype}, which is no dtype that our models compute in")
        if re.search(TRANSPOSED, name):
            tensor = tensor.T.contiguous()
        same_shape(folder, name, tensor.shape, parameter.shape)
        state[name] = tensor if dtype is None else tensor.to(dtype)
    one_dtype(folder, state)
    model.load_state_dict(state, assign=True)
    return model.eval()


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer in a folder: `save_hf`'s, tokenizer.json, or vocab.json with merges.txt; None where there is none.

    Its model's texts end where transformers' do, too: at each eos_token_id of generation_config.json, or without that
    file, of config.json. Chat templates are not read: a prompt here begins a document, not a conversation. Raises
    TokenizerError for a tokenizer that we cannot read, and ConvertError.
    """
    folder = Path(folder)
    paths = [folder / name for name in (TOKENIZER, "tokenizer.json", "vocab.json")]
    tokenizer = next((tokenizers.load(path) for path in paths if path.exists()), None)
    if tokenizer is None or isinstance(tokenizer, CharTokenizer):
        return tokenizer
    drawn = {*range(tokenizer.vocab_size)} - {tokenizer.end}
    return replace(tokenizer, stops=tuple(each for each in _stops(folder) if each in drawn))


def _stops(folder: Path) -> list[int]:
    """The numbers at which transformers stops."""
    path = next((path for name in ("generation_config.json", "config.json") if (path := folder / name).exists()), None)
    said = None if path is None else read_json(path).get("eos_token_id")
    stops = said if isinstance(said, list) else [] if said is None else [said]
    if not all(type(each) is int for each in stops):
        raise ConvertError(f"{path}: eos_token_id must be the number of a token, or several, got {said!r}")
    return stops


def save_hf(model: nn.Module, folder: str | Path, tokenizer: Any = None, *, shard_bytes: int = 2**30) -> None:
    """Write a model as a Hugging Face folder, which must be new or empty: its weights, in their dtype, and config.json.

    model: ours, or a learner's with the same Config and names. tokenizer: written beside it, a BPE as a tokenizer.json,
    which transformers reads, with what begins and ends a text. More than shard_bytes are split into files of at most
    that size (a single larger weight has its own). Raises ConvertError, and TokenizerError for a BPE as `to_hf` does.
    """
    folder = Path(folder)
    family, config = _of(model)
    weights = {}
    for name, parameter in model.named_parameters():
        tensor = parameter.detach().cpu()
        if re.search(TRANSPOSED, name):
            tensor = tensor.T
        weights[name if name == HEAD else PREFIX[family.name] + name] = tensor.contiguous()
    content = described(family, config)
    content["torch_dtype"] = str(one_dtype(type(model).__name__, weights)).removeprefix("torch.")
    content["bos_token_id"] = content["eos_token_id"] = None
    if tokenizer is not None:
        content["bos_token_id"] = tokenizer.begin
        content["eos_token_id"] = tokenizer.end if len(tokenizer.ends) == 1 else list(tokenizer.ends)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise ConvertError(f"cannot write in {folder}: {error.strerror or error}") from error
    if taken:  # another model's shards or index would be read in place of these
        raise ConvertError(f"{folder} is not empty: choose a new folder")
    try:
        _save_tokenizer(tokenizer, folder)
        write(folder, weights, shard_bytes)
        atomic_write(folder / "config.json", as_json(content))  # last: with it the folder is a model
    except BaseException:
        for path in folder.iterdir():  # so that it is empty again for who has made room
            path.unlink()
        raise


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    if isinstance(tokenizer, CharTokenizer):
        atomic_write(folder / TOKENIZER, as_json(tokenizer.to_dict()))
    elif tokenizer is not None:
        tokenizers.save(tokenizer, folder, "hf")
        names = {number: text for text, number in tokenizer.special.items()}
        said = {"bos_token": names[tokenizer.begin], "eos_token": names[tokenizer.end]}
        atomic_write(folder / "tokenizer_config.json", as_json({"tokenizer_class": "PreTrainedTokenizerFast", **said}))


def _of(model: Any) -> tuple[Family, Any]:
    """The model file whose weights have a model's names and shapes, and its Config with the model's values."""
    for family in map(models.find, PREFIX):
        names = [each.name for each in fields(family.Config)]
        if all(hasattr(getattr(model, "config", None), name) for name in names):
            break
    else:
        raise ConvertError(f"{type(model).__name__} has no Hugging Face layout: {' and '.join(PREFIX)} have one")
    config = family.Config(**{name: getattr(model.config, name) for name in names})
    with torch.device("meta"):
        wanted = dict(family.Model(config).named_parameters())
    found = dict(model.named_parameters())
    same_names(type(model).__name__, wanted.keys(), found.keys())
    for name, tensor in wanted.items():
        same_shape(type(model).__name__, name, found[name].shape, tensor.shape)
    return family, config
