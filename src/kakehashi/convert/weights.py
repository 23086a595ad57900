"""The weights of a folder: one file of safetensors, or shards and their index."""

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from kakehashi.convert.files import ConvertError, as_json, read_json
from kakehashi.paths import atomic_write

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What older files hold beside weights: masks and frequencies, which the model makes itself
COMPUTED = r"^h\.\d+\.attn\.(masked_)?bias$|(^|\.)rotary_emb\.inv_freq$"
LFS = b"version https://git-lfs"  # how Git LFS begins the file that stands for one not fetched yet


class Weights(Mapping[str, Tensor]):
    """The weights in a folder, by our names. Each is read when it is asked for."""

    def __init__(self, folder: Path, prefix: str):
        self.places: dict[str, tuple[Any, str]] = {}  # name: the open file, and the name in it
        for file in _files(folder):
            try:
                opened = safetensors.safe_open(folder / file, "pt")
            except (OSError, safetensors.SafetensorError) as error:
                raise ConvertError(f"cannot read {folder / file}: {_why(folder / file, error)}") from error
            for key in opened.keys():
                name = key.removeprefix(prefix)
                if name in self.places:
                    raise ConvertError(f"{folder / file} holds {name}, which was there before")
                if not re.search(COMPUTED, name):
                    self.places[name] = (opened, key)

    def __getitem__(self, name: str) -> Tensor:
        opened, key = self.places[name]
        return opened.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _why(path: Path, error: Exception) -> str:
    """What is wrong with a file of weights that does not open."""
    if path.is_file():
        with open(path, "rb") as file:
            if file.read(len(LFS)) == LFS:
                return "it only says where Git LFS has the weights; run git lfs pull"
    return str(error)


def _files(folder: Path) -> list[str]:
    """The names of the files with weights: one, or the index's."""
    if (folder / SINGLE).exists():
        return [SINGLE]
    if not (folder / INDEX).exists():
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt")]
        advice = "; pickled weights (.bin, .pt) are not opened: save them as safetensors" if pickled else ""
        raise ConvertError(f"{folder} has no {SINGLE}{advice}")
    where = read_json(folder / INDEX).get("weight_map")
    if not (isinstance(where, dict) and where and all(isinstance(file, str) for file in where.values())):
        raise ConvertError(f"{folder / INDEX} has no weight_map of names and files")
    for file in (files := sorted(set(where.values()))):
        if file != Path(file).name:
            raise ConvertError(f"{folder / INDEX}: {file!r} is not a file of this folder")
    return files


def same_names(place: Any, wanted: Set[str], found: Set[str]) -> None:
    lacking, left_over = wanted - found, found - wanted
    said = []
    for what, names in (("lacks the weight", lacking), ("has a weight that is not the model's:", left_over)):
        if names:
            said.append(f"{what} {min(names)}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
    if said:
        raise ConvertError(f"{place} {', and '.join(said)}")


def same_shape(place: Any, name: str, found: torch.Size, wanted: torch.Size) -> None:
    if found != wanted:
        raise ConvertError(f"{place}: {name} is {tuple(found)}, and by its config {tuple(wanted)}")


def one_dtype(place: Any, weights: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype of all weights. Raises ConvertError where there are several."""
    dtypes = {tensor.dtype: name for name, tensor in weights.items()}
    if len(dtypes) > 1:
        seen = ", ".join(f"{name} in {str(dtype).removeprefix('torch.')}" for dtype, name in dtypes.items())
        raise ConvertError(f"{place}: weights must be of one dtype, got {seen}")
    return next(iter(dtypes))


def write(folder: Path, weights: Mapping[str, Tensor], most: int) -> None:
    """The weights as one file; or, of more than `most` bytes, as shards and an index: a larger weight has its own."""
    shards: list[dict[str, Tensor]] = [{}]
    room = most
    for name, tensor in weights.items():
        if shards[-1] and tensor.nbytes > room:
            shards.append({})
            room = most
        shards[-1][name] = tensor
        room -= tensor.nbytes
    n = len(shards)
    files = [SINGLE] if n == 1 else [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    for file, shard in zip(files, shards, strict=True):
        atomic_write(folder / file, safetensors.torch.save(shard, {"format": "pt"}))
    if n > 1:
        size = sum(tensor.nbytes for tensor in weights.values())
        where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        atomic_write(folder / INDEX, as_json({"metadata": {"total_size": size}, "weight_map": where}))
