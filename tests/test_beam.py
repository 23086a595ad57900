"""Beam search against trying every text, and against the same search without its shortcuts."""

import functools
import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kakehashi import models
from kakehashi.inference import InferenceError, translate
from kakehashi.models.protocol import Output
from kakehashi.tokenizers import CharTokenizer, UnknownCharacter

TOKENIZER = CharTokenizer.train(["abc"])
V, END = TOKENIZER.vocab_size, TOKENIZER.end
SOURCES = ["", "a", "cab", "bbacb"]


@functools.cache
def drawn(seed: int, read: tuple[int, ...], written: tuple[int, ...]) -> torch.Tensor:
    """Logits (V,) by a seed of their own. END is rare."""
    draw = random.Random(str((seed, read, written)))
    return torch.tensor([draw.gauss(-1.5 if token == END else 0.0, 1.5) for token in range(V)])


class Tree(nn.Module):
    """What comes next follows from all that was read and written so far, at random.

    Of a Transformer's random weights most texts end at once, and hardly anything but the last token counts: a search
    that goes astray would find the same.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.config = models.find("transformer").Config(V, 1, 1, 2, 1)
        self.seed = seed

    def new_state(self, source, source_pad):
        return Rows([(tuple(row[real].tolist()), ()) for row, real in zip(source, source_pad, strict=True)])

    def forward(self, source, target, targets=None, *, source_pad=None, state):
        state.rows = [
            (read, (*written, *new)) for (read, written), new in zip(state.rows, target.tolist(), strict=True)
        ]
        return Output(torch.stack([drawn(self.seed, *row) for row in state.rows])[:, None])


class Rows:
    """The state of a Tree: (read, written) of each row."""

    def __init__(self, rows: list[tuple[tuple[int, ...], tuple[int, ...]]]):
        self.rows = rows

    def select(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[row] for row in rows]


def log_p(model: Tree, source: str, written: tuple[int, ...]) -> list[float]:
    """(V,): of each token after those written."""
    read = (*TOKENIZER.encode(source), END)
    return drawn(model.seed, read, (END, *written)).double().log_softmax(-1).tolist()


def penalty_of(n: int, power: float) -> float:
    return ((5 + n) / 6) ** power


@given(st.integers(0, 999), st.sampled_from([0.0, 0.6, 2.0]))
@settings(max_examples=5)
def test_a_beam_that_holds_every_beginning_finds_the_best_text_of_all(seed, power):
    model, longest = Tree(seed), 4
    letters = [token for token in range(V) if token != END]
    every = [(*text, END) for n in range(longest) for text in itertools.product(letters, repeat=n)]
    found = translate(model, TOKENIZER, SOURCES, beam=V**longest, max_tokens=longest, length_penalty=power)
    for source, one in zip(SOURCES, found, strict=True):

        def score(tokens, source=source):
            total = sum(log_p(model, source, tokens[:i])[token] for i, token in enumerate(tokens))
            return total / penalty_of(len(tokens), power)

        best = max(every, key=score)
        assert (one.tokens, one.reason, one.text) == (best, "end", TOKENIZER.decode(best))
        assert one.score == pytest.approx(score(best))


def searched(model: Tree, source: str, beam: int, longest: int, power: float) -> tuple[tuple[int, ...], float]:
    """The search as it is told: to the end, without a state and without a bound on what can still win."""
    kept, best = [((), 0.0)], ((), -math.inf)
    for n in range(1, longest + 1):
        grown = [((*text, v), p + q) for text, p in kept for v, q in enumerate(log_p(model, source, text))]
        grown = sorted(grown, key=lambda each: -each[1])[:beam]
        for text, p in grown:
            if text[-1] == END and p / penalty_of(n, power) > best[1]:
                best = text, p / penalty_of(n, power)
        kept = [each for each in grown if each[0][-1] != END]
    return best if best[0] else (kept[0][0], kept[0][1] / penalty_of(longest, power))


@given(st.integers(0, 999), st.integers(1, 8), st.sampled_from([0.0, 0.6, 3.0]))
@settings(max_examples=25)
def test_the_search_is_the_one_that_is_told_and_with_beam_1_greedy_decoding(seed, beam, power):
    model = Tree(seed)
    found = translate(model, TOKENIZER, SOURCES, beam=beam, max_tokens=9, length_penalty=power, batch_size=3)
    for source, one in zip(SOURCES, found, strict=True):
        tokens, score = searched(model, source, beam, 9, power)
        assert one.tokens == tokens and one.score == pytest.approx(score)
        assert one.reason == ("end" if tokens[-1] == END else "length")


def build(seed: int) -> nn.Module:
    family = models.find("transformer")
    torch.manual_seed(seed)
    model = family.Model(family.Config(V, 1, 2, 8, 8, dropout=0.5, label_smoothing=0.0))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model


@torch.no_grad()
def score_at_once(model: nn.Module, source: str, tokens: tuple[int, ...]) -> float:
    """By one pass over the whole text, with the usual penalty."""
    read, written = torch.tensor([[*TOKENIZER.encode(source), END]]), torch.tensor([[END, *tokens[:-1]]])
    each = model.eval()(read, written).logits[0].double().log_softmax(-1)[range(len(tokens)), tokens]
    return float(each.sum()) / penalty_of(len(tokens), 0.6)


def test_a_wider_beam_follows_what_greedy_decoding_leaves():
    """Which of a, b comes first is nearly open; only after b the rest is sure."""
    table = torch.full((V, V), -9.0)
    a, b, c = TOKENIZER.encode("abc")
    table[END, a], table[END, b] = 1.0, 0.9
    table[a, a] = table[a, b] = table[a, c] = table[a, END] = 0.0
    table[b, END] = 5.0
    model = Table(table)
    assert translate(model, TOKENIZER, ["a"], beam=1)[0].text.startswith("a")
    assert translate(model, TOKENIZER, ["a"], beam=2)[0].text == "b"


class Table(nn.Module):
    """The next token by a table of logits, whatever the source; counts how often it is asked."""

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.config = models.find("transformer").Config(V, 1, 1, 2, 1)
        self.table = nn.Parameter(table)
        self.asked = 0

    def new_state(self, source, source_pad=None):
        return self

    def select(self, rows):
        self.rows = len(rows)

    def forward(self, source, target, targets=None, *, source_pad=None, state=None):
        assert len(target) == self.rows
        self.asked += 1
        return Output(self.table[target])


@given(st.integers(0, 999), st.integers(1, 4))
@settings(max_examples=8)
def test_a_source_is_translated_alike_alone_and_among_others(seed, beam):
    model = build(seed)
    together = translate(model, TOKENIZER, SOURCES, beam=beam, max_tokens=7, batch_size=3)
    for source, one in zip(SOURCES, together, strict=True):
        (alone,) = translate(model, TOKENIZER, [source], beam=beam, max_tokens=7)
        assert (alone.tokens, alone.reason) == (one.tokens, one.reason)
        assert alone.score == pytest.approx(one.score, rel=1e-5)
        assert one.score == pytest.approx(score_at_once(model, source, one.tokens), rel=1e-5)
    assert translate(model, TOKENIZER, []) == []


def test_the_search_ends_when_no_open_beginning_can_win():
    table = torch.zeros(V, V)
    table[:, END] = 20.0
    model = Table(table)
    translate(model, TOKENIZER, SOURCES, beam=4, max_tokens=200)
    assert model.asked == 1
    table[:, END] = -20.0
    model = Table(table)
    (found,) = translate(model, TOKENIZER, ["a"], beam=2, max_tokens=7)
    assert model.asked == 7 and found.reason == "length" and len(found.tokens) == 7


def test_of_equals_the_earlier_text_and_the_lower_token_win():
    table = torch.zeros(V, V)
    (even,) = translate(Table(table), TOKENIZER, ["a"], beam=3, length_penalty=0.0)
    assert even.tokens == (END,) and even.score == pytest.approx(-math.log(V))
    table[:, END] = -50.0  # nothing ends: the first of equal beginnings is the one of the lowest tokens
    (cut,) = translate(Table(table), TOKENIZER, ["a"], beam=3, max_tokens=5)
    assert cut.text == "aaaaa"


def test_the_model_comes_back_in_the_mode_it_was_in():
    model = build(0).train()
    translate(model, TOKENIZER, ["a"])
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"beam": 0}, "beam must be from 1 to 1000, got 0"),
        ({"beam": 10**6}, "beam must be from 1 to 1000, got 1000000"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"length_penalty": -0.1}, "length_penalty must be from 0 to 10, got -0.1"),
        ({"length_penalty": 500.0}, "length_penalty must be from 0 to 10, got 500.0"),
        ({"length_penalty": math.nan}, "length_penalty must be from 0 to 10, got nan"),
    ],
)
def test_a_dial_of_no_use_is_named(dials, said):
    with pytest.raises(InferenceError, match=said):
        translate(build(0), TOKENIZER, ["a"], **dials)


def test_what_cannot_be_translated_is_told_in_a_line():
    with pytest.raises(UnknownCharacter, match="unknown character 'z'"):
        translate(build(0), TOKENIZER, ["abz"])
    with pytest.raises(InferenceError, match="do not belong together"):
        translate(build(0), CharTokenizer.train(["ab"]), ["a"])
    stateless = Table(torch.zeros(V, V))
    stateless.new_state = lambda source, source_pad: ()
    with pytest.raises(InferenceError, match=r"tuple, which new_state gives, has no select\(rows\)"):
        translate(stateless, TOKENIZER, ["a"])
    with pytest.raises(InferenceError, match="predicts NaN"):
        translate(Table(torch.full((V, V), math.nan)), TOKENIZER, ["a"])
    gpt2 = models.find("gpt2")
    lm = gpt2.Model(gpt2.Config(V, 4, 1, 1, 2))
    with pytest.raises(InferenceError, match="GPT reads no source"):
        translate(lm, TOKENIZER, ["a"])
