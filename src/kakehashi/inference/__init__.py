"""What a trained model is asked for, by its task.

Engine(model, tokenizer).generate(["par", "get_"])              # a language model writes on
translate(model, tokenizer, ["24 Nov 2026"])                    # of a text, another
classify(model, form, ["shoe.png"])                             # of an image, its class
"""

from kakehashi.inference.beam import Translation, translate
from kakehashi.inference.classify import classify, confusion
from kakehashi.inference.engine import Completion, Engine
from kakehashi.inference.sampling import InferenceError, Sampling

__all__ = ["Completion", "Engine", "InferenceError", "Sampling", "Translation", "classify", "confusion", "translate"]
