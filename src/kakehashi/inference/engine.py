"""Text from a language model, one token at a time, for many prompts at once.

Prompts of different length stand right-aligned in one batch; padding fills the left, and the model does not see it.
The model's state (KV cache, window, ...) spares it reading the same tokens again: the text is the same without.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kakehashi import runs
from kakehashi.inference.cache import PreallocatedCache
from kakehashi.inference.sampling import InferenceError, Sampling
from kakehashi.models.protocol import KVCache


@dataclass(frozen=True)
class Completion:
    """What follows a prompt.

    text      without the prompt, END, and the stop string with what came after it
    tokens    every token drawn, those that ended the text included
    logprobs  of each: its log-probability in nats as the model gives it, before temperature, top_k and top_p
    reason    "end": END was drawn, or what else the tokenizer says ends a text; "stop": a stop string; "length":
              max_tokens
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    reason: str


class Engine:
    """A language model and its tokenizer, ready to generate. The model is moved to `device`.

    model: what models/protocol.py describes, ours or the learner's. A model without `new_state` reads everything
    again for each token; `note` says so, else it is "". It may know more tokens than the tokenizer, as Qwen2 does whose
    vocabulary is filled up to a round number: those are never drawn. Raises a Mistake where the device is not there, or
    the model has no `.config` or belongs to another tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str = "cpu"):
        if not hasattr(model, "config"):
            raise InferenceError(f"{type(model).__name__} has no .config: set self.config in its __init__")
        self.model = model.to(runs.device(device))
        self.tokenizer = tokenizer
        self.device = device
        self.block_size: int | None = getattr(model.config, "block_size", None)
        self.has_state = hasattr(model, "new_state")
        self.note = "" if self.has_state else "the model has no new_state: it reads all tokens again for each new one"
        if model.config.vocab_size < tokenizer.vocab_size:
            raise InferenceError(
                f"model and tokenizer do not belong together: the model knows {model.config.vocab_size} tokens, "
                f"the tokenizer {tokenizer.vocab_size}"
            )

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        use_state: bool = True,
    ) -> list[Completion]:
        """A completion for each prompt; "" begins a document. Sampling says what the dials mean.

        A prompt's completion depends on neither its neighbours nor `use_state`, which only costs or saves time.
        Raises InferenceError for a dial of no use, and the tokenizer's mistake for a prompt that it cannot encode.
        """
        sampling = Sampling(max_tokens, temperature, top_k, top_p, _strings(stop), seed)
        drafts = [self._draft(prompt, sampling, place) for place, prompt in enumerate(prompts)]
        with reading(self.model):
            for _ in self._steps(drafts, sampling, use_state):
                pass
        return [draft.completion() for draft in drafts]

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int = 0,
        use_state: bool = True,
    ) -> Iterator[str]:
        """The text of `generate([prompt], ...)` in pieces, each as soon as it is certain. Raises as generate does."""
        sampling = Sampling(max_tokens, temperature, top_k, top_p, _strings(stop), seed)
        draft = self._draft(prompt, sampling, 0)
        return self._pieces(draft, self._steps([draft], sampling, use_state))

    def _draft(self, prompt: str, sampling: Sampling, place: int) -> "_Draft":
        tokens = [self.tokenizer.begin, *self.tokenizer.encode(prompt)]  # a prompt begins a document
        generator = torch.Generator().manual_seed(sampling.seed + place)
        return _Draft(self.tokenizer, sampling.stop, tokens, self.tokenizer.decode(tokens), generator)

    def _pieces(self, draft: "_Draft", steps: Iterator[None]) -> Iterator[str]:
        shown = 0
        while draft.reason is None:
            with reading(self.model):  # entered anew for each token: between two, the model is its owner's
                next(steps)
            text = draft.certain()
            if len(text) > shown:
                yield text[shown:]
                shown = len(text)

    def _steps(self, drafts: "list[_Draft]", sampling: Sampling, use_state: bool) -> Iterator[None]:
        """Draw one token for each draft that is not done; again, until all are."""
        longest = max((len(draft.prompt) for draft in drafts), default=0)
        tokens, real = self._right_aligned(drafts, longest + sampling.max_tokens, longest)
        state = self._new_state(len(drafts), tokens.shape[1]) if use_state and self.has_state else None
        read = 0  # columns that the state holds
        for end in range(longest, tokens.shape[1]):
            if all(draft.reason for draft in drafts):
                return
            if isinstance(state, KVCache) and self.block_size is not None and end > self.block_size:
                # Beyond block_size the oldest token leaves and every other one moves a position down: keys and values
                # of the old positions are wrong, so from here on the window is read as a whole
                state = None
            in_sight = 0 if state is not None or self.block_size is None else max(0, end - self.block_size)
            unread = in_sight if state is None else read
            logits = self._logits(tokens[:, unread:end], state, real[:, in_sight:end])
            read = end
            self._draw(logits, drafts, sampling)
            # a draft that is done repeats itself unseen: its row is kept, the rows of the others stay in their places
            tokens[:, end] = torch.tensor([draft.tokens[-1] for draft in drafts])
            yield

    def _right_aligned(self, drafts: "list[_Draft]", width: int, longest: int) -> tuple[Tensor, Tensor]:
        """tokens (B, width) and which are no padding (B, width), with room for what will be drawn at the right."""
        tokens = torch.full((len(drafts), width), self.tokenizer.end)
        real = torch.ones((len(drafts), width), dtype=torch.bool)
        for row, draft in enumerate(drafts):
            begin = longest - len(draft.prompt)
            tokens[row, begin:longest] = torch.tensor(draft.prompt)
            real[row, :begin] = False
        return tokens.to(self.device), real.to(self.device)

    def _new_state(self, batch_size: int, most_tokens: int) -> Any:
        state = self.model.new_state(batch_size)
        if type(state) is KVCache:  # a plain one, which copies itself for each token
            return PreallocatedCache(batch_size, min(most_tokens, self.block_size or most_tokens))
        return state

    def _logits(self, tokens: Tensor, state: Any, real: Tensor) -> Tensor:
        """The logits (B, V) of the next token. The model is given only those arguments that say something."""
        given = {} if state is None else {"state": state}
        if not real.all():
            given["pad"] = real
        return self.model(tokens, **given).logits[:, -1]

    def _draw(self, logits: Tensor, drafts: "list[_Draft]", sampling: Sampling) -> None:
        """The next token of each draft that is not done. On the CPU: the same draws whatever the device."""
        log_p = logits.cpu().double().log_softmax(1)
        if log_p.isnan().any():
            raise InferenceError("the model predicts NaN: its weights are not finite; did its training diverge?")
        p = sampling.probabilities(log_p[:, : self.tokenizer.vocab_size])
        for row, draft in enumerate(drafts):
            if draft.reason is None:
                token = int(torch.multinomial(p[row], 1, generator=draft.generator))
                draft.add(token, float(log_p[row, token]), sampling.max_tokens)


@dataclass
class _Draft:
    """A completion in the making."""

    tokenizer: Any
    stop: tuple[str, ...]
    prompt: list[int]
    given: str  # the prompt as the tokenizer gives it back
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: str | None = None

    def add(self, token: int, logprob: float, max_tokens: int) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in self.tokenizer.ends:
            self.reason = "end"
        elif self.stop and self._stop_begins() is not None:
            self.reason = "stop"
        elif len(self.tokens) == max_tokens:
            self.reason = "length"

    def text(self) -> str:
        return self._written()[: self._stop_begins()]

    def _written(self) -> str:
        """Read after the prompt: Llama's first token of a text loses its space, and what goes on with one keeps it."""
        tokens = self.tokens[:-1] if self.reason == "end" else self.tokens
        return self.tokenizer.decode([*self.prompt, *tokens])[len(self.given) :]

    def certain(self) -> str:
        """The text that no later token takes back: the beginning of a stop string, or of a character, is held back."""
        text = self.text()
        if self.reason is not None:
            return text
        text = text.rstrip("\ufffd")  # bytes that may still become a character
        begun = [n for stop in self.stop for n in range(1, len(stop)) if text.endswith(stop[:n])]
        return text[: len(text) - max(begun, default=0)]

    def completion(self) -> Completion:
        assert self.reason is not None
        return Completion(self.text(), tuple(self.tokens), tuple(self.logprobs), self.reason)

    def _stop_begins(self) -> int | None:
        """Where in the text the first stop string begins."""
        text = self._written()
        return min((text.index(stop) for stop in self.stop if stop in text), default=None)


@contextmanager
def reading(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, without gradients; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop)
