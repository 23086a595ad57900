"""One readable file a model. Rooms above get a model by value: `models.find("gpt2").Model(config)`."""

from difflib import get_close_matches
from importlib import import_module

from kakehashi import Mistake
from kakehashi.models.protocol import Family

# the ladder, then the other tasks
NAMES = ("bigram", "mlp", "wavenet", "recurrent", "gpt2", "llama", "transformer", "resnet", "encoder")


class UnknownModel(Mistake):
    """No model file and no preset has this name."""


def families(task: str | None = None) -> list[Family]:
    """All model files, or those of one task, in the order of NAMES."""
    return [each for each in map(find, NAMES) if task in (None, each.task)]


def family(module, name: str) -> Family:
    """A module that follows `models/protocol.py` as a Family: ours, or one loaded from a learner's file."""
    return Family(name, module, module.Config, module.Model, module.PRESETS, module.__file__)


def find(name: str) -> Family:
    """The model file called `name`, or the one that has a preset of that name.

    Raises UnknownModel, which lists the models and the presets that are near.
    """
    if name in NAMES:
        return family(import_module(f"kakehashi.models.{name}"), name)
    for each in families():
        if name in each.presets:
            return each
    near = get_close_matches(name, [preset for each in families() for preset in each.presets], n=4, cutoff=0.4)
    presets = f"; presets near it: {', '.join(near)}" if near else ""
    raise UnknownModel(f"no model is called {name!r}; models: {', '.join(NAMES)}{presets}")
