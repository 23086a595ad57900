"""Translation by beam search: of the texts that a seq2seq model may write, one that it finds likely.

The likeliest text cannot be found by trying all. Of every beginning's extensions by a token the `beam` likeliest are
kept, again and again (Graves 2012, "Sequence Transduction"); what ends with END competes by its score. With beam 1
that is greedy decoding. A probability only falls with each token, so texts are compared by (Wu et al. 2016, eq. 14)

    score = log p(text and END | source) / ((5 + n) / 6)^length_penalty        n: its tokens, END counted

Axes: B sources, K kept beginnings of each, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from kakehashi import runs
from kakehashi.data import rectangle
from kakehashi.inference.engine import reading
from kakehashi.inference.sampling import InferenceError

WIDEST = 1000  # beam: more rows than that would fill the memory
STEEPEST = 10  # length_penalty: above, ((5 + n) / 6)^length_penalty would leave what a float can hold


@dataclass(frozen=True)
class Translation:
    """text; tokens, END included where it ended; score as above; reason: "end", or "length" where max_tokens cut it."""

    text: str
    tokens: tuple[int, ...]
    score: float
    reason: str


def translate(
    model: Any,
    tokenizer: Any,
    sources: Sequence[str],
    *,
    beam: int = 4,
    max_tokens: int = 200,
    length_penalty: float = 0.6,
    batch_size: int = 64,
    device: str = "cpu",
) -> list[Translation]:
    """The best text found for each source, in their order. It does not depend on the other sources.

    A source ends when no open beginning can win any more, or after max_tokens; only where nothing has ended by then,
    the best beginning is given. Of equals, the earlier wins: what ended first, then the lower token number.
    Raises InferenceError for a dial of no use or another kind of model, and the tokenizer's mistake for a source that
    it cannot encode.
    """
    for name, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise InferenceError(f"{name} must be at least 1, got {value}")
    for name, value, least, most in (("beam", beam, 1, WIDEST), ("length_penalty", length_penalty, 0, STEEPEST)):
        if not least <= value <= most:  # a NaN fails, too
            raise InferenceError(f"{name} must be from {least} to {most}, got {value}")
    if "source" not in signature(model.forward).parameters:
        raise InferenceError(f"{type(model).__name__} reads no source to translate: choose a model of the task seq2seq")
    if not hasattr(model, "new_state"):
        raise InferenceError(f"{type(model).__name__} has no new_state(source, source_pad), which translation needs")
    if (V := model.config.vocab_size) != tokenizer.vocab_size:
        raise InferenceError(
            f"model and tokenizer do not belong together: the model knows {V} tokens, the tokenizer "
            f"{tokenizer.vocab_size}"
        )
    here = runs.device(device)
    model.to(here)
    encoded = [[*tokenizer.encode(source), tokenizer.end] for source in sources]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))  # those of about the same length together
    found: dict[int, Translation] = {}
    with reading(model):
        for at in range(0, len(order), batch_size):
            places = order[at : at + batch_size]
            tokens, real = map(torch.from_numpy, rectangle([encoded[i] for i in places], tokenizer.end))
            state = model.new_state(tokens.to(here), real.to(here))
            if not hasattr(state, "select"):
                raise InferenceError(
                    f"{type(state).__name__}, which new_state gives, has no select(rows), by which a beam goes on with "
                    f"some rows of the batch"
                )
            best = _search(model, state, len(places), here, tokenizer.end, beam, max_tokens, length_penalty)
            for place, (written, score) in zip(places, best, strict=True):
                reason = "end" if written[-1] == tokenizer.end else "length"
                found[place] = Translation(tokenizer.decode(written), tuple(written), score, reason)
    return [found[i] for i in range(len(encoded))]


def _search(
    model: Any,
    state: Any,
    n_sources: int,
    device: torch.device,
    end: int,
    K: int,
    max_tokens: int,
    length_penalty: float,
) -> list[tuple[list[int], float]]:
    """(tokens, score) of the best text for each source. state: new, a row for each source. K: the beam."""

    def penalty(n: int) -> float:
        return ((5 + n) / 6) ** length_penalty

    best: list[tuple[list[int], float]] = [([], -math.inf)] * n_sources  # of the texts that have ended
    places = torch.arange(n_sources)  # (B,): which source; those that are done leave the batch
    state.select(places.repeat_interleave(K).to(device))  # a row for each kept beginning
    # one empty beginning a source; a score of -inf: no beginning is kept here
    scores = torch.full((n_sources, K), -math.inf, dtype=torch.float64)  # (B, K): log p of each beginning
    scores[:, 0] = 0.0
    texts = torch.full((n_sources, K, 1), end)  # (B, K, 1 + n)
    for n in range(1, max_tokens + 1):
        log_p = _log_p(model, texts[:, :, -1:].flatten(0, 1).to(device), state)  # (B K, V)
        V = log_p.shape[1]
        scores, chosen = _largest((scores[..., None] + log_p.view(-1, K, V)).flatten(1), K)  # (B, K), in (B, K V)
        parents, tokens = chosen // V, chosen % V
        texts = torch.cat((texts.gather(1, parents[..., None].expand(-1, -1, n)), tokens[..., None]), 2)

        # What ended leaves the beam
        ended = (tokens == end) & (scores > -math.inf)
        finals, which = scores.masked_fill(~ended, -math.inf).max(1)  # (B,)
        for b, place in enumerate(places.tolist()):
            if (final := float(finals[b]) / penalty(n)) > best[place][1]:
                best[place] = texts[b, which[b], 1:].tolist(), final
        scores = scores.masked_fill(ended, -math.inf)

        # A beginning can still win if it would by ending at once with the longest text's penalty: log p only falls
        hopes = scores.max(1).values / penalty(max_tokens)  # (B,)
        open_ = [b for b, place in enumerate(places.tolist()) if float(hopes[b]) > best[place][1]]
        rows = torch.tensor(open_, dtype=torch.int64)
        places, scores, texts = places[rows], scores[rows], texts[rows]
        if not open_:
            break
        state.select((rows[:, None] * K + parents[rows]).flatten().to(device))
    for b, place in enumerate(places.tolist()):
        if not best[place][0]:
            best[place] = texts[b, 0, 1:].tolist(), float(scores[b, 0]) / penalty(max_tokens)
    return best


def _log_p(model: Any, tokens: Tensor, state: Any) -> Tensor:
    """Of the token after these (B K, 1), on the CPU: (B K, V) float64."""
    log_p = model(None, tokens, state=state).logits[:, -1].cpu().double().log_softmax(1)
    if log_p.isnan().any():
        raise InferenceError("the model predicts NaN: its weights are not finite; did its training diverge?")
    return log_p


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their places, (B, k) each, from large to small; of equals the first ones.

    topk does not say which of equals it takes, argmax does. Uses up `values`.
    """
    found = []
    for _ in range(k):
        place = values.argmax(1, keepdim=True)  # (B, 1)
        found.append((values.gather(1, place), place))
        values.scatter_(1, place, -math.inf)
    largest, places = zip(*found, strict=True)
    return torch.cat(largest, 1), torch.cat(places, 1)
