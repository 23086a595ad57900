"""The optimizer that a run's settings ask for, whatever the array library; `Together` makes one of two."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from kakehashi.training.settings import TrainSettings

ADAMW_SHARE = 0.1  # of the rate, for what AdamW moves beside Muon


def optimizer(
    named: Iterable[tuple[str, Any]], settings: TrainSettings, AdamW: Callable[..., Any], Muon: Callable[..., Any]
) -> Any:
    """AdamW of the parameters with their names; with optimizer "muon" Muon of the hidden ones, AdamW of the others.

    AdamW, Muon: the engine's. Weights shrink where they are matrices.
    """
    named = list(named)
    betas = (settings.beta1, settings.beta2)
    if settings.optimizer == "adamw":
        return AdamW(settings.groups(p for _, p in named), settings.lr, betas)
    matrices = [p for name, p in named if is_hidden(name, p)]
    others = [p for name, p in named if not is_hidden(name, p)]
    return Together(
        Muon(matrices, settings.lr, weight_decay=settings.weight_decay),
        AdamW(settings.groups(others, ADAMW_SHARE), settings.lr * ADAMW_SHARE, betas),
    )


def is_hidden(name: str, parameter: Any) -> bool:
    """Whether a parameter is a matrix of a block, one of a list of modules: not embedding, head, gain or bias."""
    return parameter.ndim >= 2 and re.search(r"\.\d+\.", name) is not None


class Together:
    """Several optimizers as one, each with parameters of its own."""

    def __init__(self, *parts: Any):
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Any, dict[str, Any]]:
        return {p: state for part in self.parts for p, state in part.state.items()}

    def parameters(self) -> list[Any]:
        """All tensors of all parts, in order."""
        return [p for part in self.parts for p in part.parameters()]

    def step(self) -> None:
        """One update from the gradients."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad()

    def arrays(self) -> dict[str, Any]:
        """What a checkpoint keeps: each part's arrays, "PART/NAME"."""
        return {f"{i}/{name}": array for i, part in enumerate(self.parts) for name, array in part.arrays().items()}

    def load_arrays(self, arrays: dict[str, Any]) -> None:
        """Go on from what `arrays` gave."""
        for i, part in enumerate(self.parts):
            own = {name.removeprefix(f"{i}/"): array for name, array in arrays.items() if name.startswith(f"{i}/")}
            part.load_arrays(own)
