"""What a trained model is asked for, by its task.

Engine(model, tokenizer).generate(["par", "get_"])              # a language model writes on
translate(model, tokenizer, ["24 Nov 2026"])                    # of a text, another
classify(model, form, ["shoe.png"])                             # of an image, its class
classify_texts(model, form, ["my card is lost"])                # of a text
"""

from kakehashi.inference.beam import Translation, translate
from kakehashi.inference.classify import classify, confusion
from kakehashi.inference.engine import Completion, Engine
from kakehashi.inference.sampling import InferenceError, Sampling
from kakehashi.inference.texts import class_logits, classify_texts, text_logits

__all__ = [
    "Completion",
    "Engine",
    "InferenceError",
    "Sampling",
    "Translation",
    "class_logits",
    "classify",
    "classify_texts",
    "confusion",
    "text_logits",
    "translate",
]
