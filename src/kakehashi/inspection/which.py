"""Which modules of a model a person means."""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from torch import nn

from kakehashi import Mistake

Which = str | nn.Module | type[nn.Module] | Callable[[str, nn.Module], bool]


class ProbeError(Mistake):
    """A probe that finds no module, or is opened twice: one line."""


def matching(model: nn.Module, which: Which | Sequence[Which]) -> dict[nn.Module, str]:
    """The modules of a model, by the first of its names that fits; in the model's order.

    In a pattern "*" stands for any characters but the dot, "**" for any, "**." also for nothing, "?" for one, "[0-3]"
    for one of these: "h.*.attn", "**.attn", "encoder.**". "" is the model itself, "**" all. Raises ProbeError.
    """
    modules = [
        (bare(name), module)
        for name, module in model.named_modules(remove_duplicate=False)
        # a compiled one goes by its original's name; what has no forward, as a ModuleList, is never called
        if "_orig_mod" not in module._modules and type(module).forward is not nn.Module.forward
    ]
    fits = [fit(each) for each in (which if isinstance(which, Sequence) and not isinstance(which, str) else [which])]
    for said, one in fits:
        if not any(one(name, module) for name, module in modules):
            raise ProbeError(f"no module is {said}{near(said, (name for name, _ in modules))}")
    found: dict[nn.Module, str] = {}
    for name, module in modules:
        if any(one(name, module) for _, one in fits):
            found.setdefault(module, name)
    return found


def fit(which: Which) -> tuple[str, Callable[[str, nn.Module], bool]]:
    """In words, and as a predicate."""
    if isinstance(which, type):
        return f"of the class {which.__name__}", lambda name, module: isinstance(module, which)
    if isinstance(which, nn.Module):
        return f"this {type(which).__name__}", lambda name, module: module is which
    if not isinstance(which, str):
        return "chosen by the predicate", which
    parts = {"**.": r"(?:.*\.)?", "**": ".*", "*": r"[^.]*", "?": r"[^.]"}
    tokens = re.findall(r"\*\*\.|\*\*|\*|\?|\[[^]]+\]|.", which)
    regex = "".join(
        parts.get(token) or (token.replace("[!", "[^") if len(token) > 1 else re.escape(token)) for token in tokens
    )
    return repr(which), lambda name, module: bool(re.fullmatch(regex, name)) and (name != "" or which in ("", "**"))


def bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def near(word: str, names: Iterable[str]) -> str:
    """Names near a word, for the end of a sentence; layers of one kind as one pattern."""
    kinds = dict.fromkeys(re.sub(r"\b\d+\b", "*", name) for name in names if name)
    found = get_close_matches(word.strip("'"), kinds, n=3, cutoff=0.3) or list(kinds)[:3]
    return f"; near it: {', '.join(found)}" if found else ""
