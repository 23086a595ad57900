"""How surprised a language model is at each word of a session: -log p(word | the words before it), in nats.

After Du, Li, Zheng & Srikumar, "DeepLog: Anomaly Detection and Diagnosis from System Logs through Deep Learning" (CCS
2017). Differences: the model reads a session from its beginning, not the last 10 events; a word is as odd as it is
improbable, where DeepLog asks whether it is among the 9 likeliest; the end of a session is a word, too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kakehashi.data import Source
from kakehashi.models.protocol import IGNORE
from kakehashi.tokenizers.words import WordTokenizer
from kakehashi.work.logs.vocabulary import as_read

ROWS = 256  # sessions, or pieces of them, in a batch
LARGEST = 1 << 24  # numbers in the logits of a batch


class Surprise:
    """Any language model, read as it was trained: a session longer than `window` in pieces, each begun anew."""

    def __init__(self, model: Any, tokenizer: WordTokenizer, window: int):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.window = window

    def of(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text (n + 1,) float64: the surprise at each of its n words, then at its end.

        Words outside what was learnt count as `as_read` says, others that were never seen as UNKNOWN.
        """
        encoded = [as_read(text) for text in texts]
        lengths = np.array([len(text.split()) + 1 for text in encoded], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")  # batches of texts that are about as long
        found: list[np.ndarray] = []
        source = Source(tuple(encoded[i] for i in order), self.tokenizer, self.window, "document")
        rows = max(1, min(ROWS, LARGEST // (self.window * self.tokenizer.vocab_size)))
        for batch in source.whole(rows) if texts else ():
            targets = torch.from_numpy(batch.targets)  # (B, T)
            counted = targets != IGNORE
            log_p = self._log_p(batch.inputs[0])  # (B, T, V)
            at_target = log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0]  # (B, T)
            found.append(-at_target[counted].numpy())
        sorted_pieces = np.split(np.concatenate(found), np.cumsum(lengths[order])[:-1]) if found else []
        result: list[np.ndarray] = [np.zeros(0)] * len(texts)
        for i, piece in zip(order, sorted_pieces, strict=True):
            result[i] = piece
        return result

    def expected(self, text: str, place: int, n: int = 3) -> list[tuple[str, float]]:
        """The likeliest words in place of the text's word number `place` (from 0; the number of words: its end), and
        their probabilities. The end is the tokenizer's first token; UNKNOWN, which stands for nothing, is left out."""
        source = Source((as_read(text),), self.tokenizer, self.window, "document")
        nth, column = divmod(place, self.window)  # the piece, and the place in it
        tokens = next(batch for i, batch in enumerate(source.whole(1)) if i == nth).inputs[0]
        p = self._log_p(tokens)[0, column].exp()  # (V,)
        p[self.tokenizer.unknown] = 0.0
        best = p.topk(min(n, len(p) - 1))
        return [(self.tokenizer.tokens[i], float(value)) for value, i in zip(best.values, best.indices, strict=True)]

    def _log_p(self, tokens: np.ndarray) -> torch.Tensor:
        """tokens (B, T) -> (B, T, V) float64."""
        with torch.no_grad():
            logits = self.model(torch.from_numpy(tokens)).logits
            # a model may know more tokens than the tokenizer has: they are never meant
            return logits[..., : self.tokenizer.vocab_size].double().log_softmax(-1)
