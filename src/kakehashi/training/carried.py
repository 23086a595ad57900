"""The state that is carried from batch to batch, among the arrays of a checkpoint: "carried.LAYER.TENSOR"."""

import itertools
from collections.abc import Mapping
from typing import Any


def named(carried: Any) -> dict[str, Any]:
    """The tensors of a RecurrentState by their places; none where None is carried."""
    layers = carried.layers if carried else ()
    return {f"carried.{i}.{j}": tensor for i, layer in enumerate(layers) for j, tensor in enumerate(layer)}


def layers(arrays: Mapping[str, Any]) -> list[list[Any]]:
    """What `named` gave, layer by layer; other names are passed over."""
    places = sorted(tuple(map(int, name.split(".")[1:])) for name in arrays if name.startswith("carried."))
    return [
        [arrays[f"carried.{i}.{j}"] for i, j in layer] for _, layer in itertools.groupby(places, lambda place: place[0])
    ]
