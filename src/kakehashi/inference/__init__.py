"""Text from a language model: `Engine(model, tokenizer).generate(["par", "get_"])`; `classify(model, form, files)`."""

from kakehashi.inference.classify import classify, confusion
from kakehashi.inference.engine import Completion, Engine
from kakehashi.inference.sampling import InferenceError, Sampling

__all__ = ["Completion", "Engine", "InferenceError", "Sampling", "classify", "confusion"]
