"""Batches: every target is counted once, nothing leaks across documents, a step depends on its arguments alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kakehashi import data
from kakehashi.data.batches import IGNORE, Lanes, Source
from kakehashi.tokenizers import CharTokenizer

TEXTS = st.lists(st.text(alphabet="abc", max_size=9), min_size=1, max_size=9)
SIZE = st.integers(1, 7)
ABC = CharTokenizer.train(["abc"])


def rows(batches):
    """(inputs, targets) of each item, as tuples without the padding."""
    for batch in batches:
        (tokens,) = batch.inputs
        assert tokens.dtype == batch.targets.dtype == np.int64 and tokens.shape == batch.targets.shape
        assert batch.n_targets == (batch.targets != IGNORE).sum()
        for inputs, targets in zip(tokens, batch.targets, strict=True):
            n = int((targets != IGNORE).sum())
            assert n and (targets[n:] == IGNORE).all() and (inputs[n:] == 0).all()
            yield tuple(inputs[:n].tolist()), tuple(targets[:n].tolist())


def epochs(source, batch_size, seed, n):
    """The items of the first n epochs, an epoch a list."""
    steps = -(-n * source.n_items // batch_size)
    items = list(rows(source.batch(step, batch_size, seed) for step in range(steps)))
    return [items[i * source.n_items : (i + 1) * source.n_items] for i in range(n)]


def ring(n_documents, size):
    """A stream in which each character occurs once, so that a token says where it stood."""
    text = [chr(0x4E00 + i) for i in range(n_documents * size)]
    documents = tuple("".join(text[i : i + size]) for i in range(0, len(text), size))
    return documents, CharTokenizer.train(documents)


def test_a_document_is_predicted_from_end_and_up_to_end():
    (batch,) = Source(("ab", "", "cab"), ABC, 8, "document").whole(8)
    assert batch.inputs[0].tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [0, 3, 1, 2]]
    assert batch.targets.tolist() == [[1, 2, 0, IGNORE], [0, IGNORE, IGNORE, IGNORE], [3, 1, 2, 0]]
    assert batch.n_targets == 8


def test_a_stream_is_cut_into_windows_over_the_ends():
    first, last = Source(("ab", "c"), ABC, 3, "stream").whole(1)
    assert (first.inputs[0].tolist(), first.targets.tolist()) == ([[0, 1, 2]], [[1, 2, 0]])
    assert (last.inputs[0].tolist(), last.targets.tolist()) == ([[0, 3]], [[3, 0]])


def test_a_token_for_the_beginning_is_read_in_place_of_the_end_and_never_predicted():
    class Llama(CharTokenizer):
        begin = 9

    abc = Llama(ABC.tokens)
    (batch,) = Source(("ab", "", "c"), abc, 8, "document").whole(8)
    assert batch.inputs[0][:, :2].tolist() == [[9, 1], [9, 0], [9, 3]] and not (batch.targets == 9).any()
    stream = Source(("ab", "", "c"), abc, 3, "stream")
    assert [batch.inputs[0].tolist() for batch in stream.whole(1)] == [[[9, 1, 2]], [[9, 9, 3]]]
    ends = {
        (a, b)
        for batch in (stream.batch(step, 1, 0) for step in range(8))
        for a, b in zip(batch.inputs[0][0].tolist(), batch.targets[0].tolist(), strict=True)
    }
    assert ends == {(9, 1), (1, 2), (2, 0), (9, 0), (9, 3), (3, 0)}, "the same wherever the ring is cut"


@given(TEXTS, SIZE, SIZE)
def test_whole_counts_each_target_of_a_document_once_and_packs_nothing_across(texts, block_size, batch_size):
    source = Source(tuple(texts), ABC, block_size, "document")
    seen = list(rows(source.whole(batch_size)))
    expected = []
    for text in texts:
        tokens = ABC.encode(text)
        pairs = list(zip([0, *tokens], [*tokens, 0], strict=True))
        expected += [tuple(zip(*pairs[i : i + block_size], strict=True)) for i in range(0, len(pairs), block_size)]
    assert seen == expected
    assert source.n_items == len(seen) and source.n_targets == sum(len(text) + 1 for text in texts)
    assert source.n_cut == sum(len(text) + 1 > block_size for text in texts)


@given(TEXTS, SIZE, SIZE)
def test_whole_counts_each_target_of_a_stream_once(texts, block_size, batch_size):
    source = Source(tuple(texts), ABC, block_size, "stream")
    seen = list(rows(source.whole(batch_size)))
    tokens = [0, *(token for text in texts for token in [*ABC.encode(text), 0])]
    assert [token for inputs, _ in seen for token in inputs] == tokens[:-1]
    assert [token for _, targets in seen for token in targets] == tokens[1:]
    assert all(len(inputs) == block_size for inputs, _ in seen[:-1])
    assert source.n_items == len(seen) and source.n_targets == len(tokens) - 1


@given(TEXTS, SIZE, st.integers(1, 40), st.integers(0, 2**63))
def test_each_document_comes_once_an_epoch_whatever_the_batch_size(texts, block_size, batch_size, seed):
    source = Source(tuple(texts), ABC, block_size, "document")
    expected = Counter(rows(source.whole(1)))
    assert all(Counter(epoch) == expected for epoch in epochs(source, batch_size, seed, 3))


@given(st.integers(1, 3), st.integers(1, 9), SIZE, SIZE, st.integers(0, 99))
def test_each_target_of_a_stream_comes_once_an_epoch_after_its_own_past(n_documents, size, block, batch_size, seed):
    documents, tokenizer = ring(n_documents, size)
    tokens = [token for text in documents for token in [*tokenizer.encode(text), 0]]
    neighbours = set(zip([0, *tokens[:-1]], tokens, strict=True))
    for epoch in epochs(Source(documents, tokenizer, block, "stream"), batch_size, seed, 3):
        assert Counter(target for _, targets in epoch for target in targets) == Counter(tokens)
        for inputs, targets in epoch:
            assert neighbours.issuperset(zip(inputs, targets, strict=True))
            assert inputs[1:] == targets[:-1]


def test_epochs_differ_in_order_and_in_a_streams_phase():
    documents, tokenizer = ring(1, 40)
    orders = epochs(Source(tuple(documents[0]), tokenizer, 4, "document"), 7, 5, 4)
    assert len(set(map(tuple, orders))) == 4
    streams = epochs(Source(documents, tokenizer, 4, "stream"), 7, 5, 80)
    firsts = {inputs[0] for epoch in streams for inputs, _ in epoch}
    assert firsts == set(range(41))  # a window starts at every token of the text


def test_a_batch_depends_on_its_arguments_alone():
    documents, tokenizer = ring(5, 30)
    for unit in ("document", "stream"):
        one, other = (Source(documents, tokenizer, 8, unit) for _ in range(2))
        for step in (3, 0, 50, 3):
            for seed in range(20):  # push out the permutations that are kept
                one.batch(step, 6, seed)
            assert list(rows([one.batch(step, 6, 1)])) == list(rows([other.batch(step, 6, 1)]))
        assert list(rows([one.batch(0, 6, 1)])) != list(rows([one.batch(0, 6, 2)]))


def test_what_a_caller_does_to_a_batch_does_not_reach_the_next():
    source = Source(("abc", "cba"), ABC, 8, "document")
    expected = source.batch(0, 2, 1).targets.copy()
    source.batch(0, 2, 1).targets[:] = 7
    source.batch(0, 2, 1).inputs[0][:] = 7
    assert (source.batch(0, 2, 1).targets == expected).all()


def test_a_stream_without_one_whole_window_to_train_on_is_refused():
    split = data.Split(("abc",), ("a",), "by hand")
    train, val = data.sources(split, ABC, 4, "stream")
    assert (train.n_items, val.n_items, val.n_targets) == (1, 1, 2)
    with pytest.raises(data.DataError, match="too short: 4 tokens, and a window has 5; "):
        data.sources(split, ABC, 5, "stream")
    data.sources(split, ABC, 2, "stream", carry=True)
    with pytest.raises(data.DataError, match="a window has 3, of which carry needs two"):
        data.sources(split, ABC, 3, "stream", carry=True)
    data.sources(split, ABC, 5, "document")


# Lanes


@given(st.integers(1, 60), SIZE, SIZE, st.integers(0, 99))
def test_each_row_of_lanes_goes_on_where_it_ended_until_an_epoch_begins(size, block, n_lanes, seed):
    documents, tokenizer = ring(1, size)
    source = Lanes(documents, tokenizer, block)
    assume(n_lanes <= source.n_items)
    windows = (size + 1) // (n_lanes * block)
    seen = []
    for step in range(3 * windows):
        batch = source.batch(step, n_lanes, seed)
        (tokens,) = batch.inputs
        assert tokens.shape == batch.targets.shape == (n_lanes, block) and batch.n_targets == n_lanes * block
        assert ((batch.targets - tokens) % (size + 1) == 1).all()  # the character after it, round the ring
        assert batch.follows == (step % windows > 0)
        if batch.follows:
            assert (tokens[:, 0] == seen[-1][:, -1]).all()
        seen.append(batch.targets)
    for epoch in range(3):
        targets = np.concatenate(seen[epoch * windows : (epoch + 1) * windows]).ravel()
        assert len(set(targets.tolist())) == len(targets) > size + 1 - n_lanes * block  # what is over fills no column


def test_no_target_is_left_out_of_every_epoch_of_lanes():
    documents, tokenizer = ring(1, 40)
    source = Lanes(documents, tokenizer, 4)  # two lanes of 5 windows leave one of 41 targets out
    seen = [set(np.concatenate([source.batch(5 * e + i, 2, 5).targets for i in range(5)]).ravel()) for e in range(9)]
    assert {len(each) for each in seen} == {40} and len(set.union(*seen)) == 41


def test_a_batch_of_lanes_depends_on_its_arguments_alone():
    documents, tokenizer = ring(1, 90)
    one, other = (Lanes(documents, tokenizer, 4) for _ in range(2))
    for step in (3, 0, 50, 3):
        for seed in range(20):
            one.batch(step, 6, seed)
        assert (one.batch(step, 6, 1).targets == other.batch(step, 6, 1).targets).all()
    assert (one.batch(0, 6, 1).targets != one.batch(0, 6, 2).targets).any()


@given(TEXTS, SIZE, st.integers(1, 40))
def test_whole_reads_each_lane_to_its_end_and_each_target_once(texts, block, n_lanes):
    source = Lanes(tuple(texts), ABC, block)
    batches = list(source.whole(n_lanes))
    assert [batch.follows for batch in batches] == [False] + [True] * (len(batches) - 1)
    assert all(batch.n_targets == (batch.targets != IGNORE).sum() for batch in batches)
    targets = np.concatenate([batch.targets for batch in batches], 1)  # (lanes, longest)
    inputs = np.concatenate([batch.inputs[0] for batch in batches], 1)
    real = targets != IGNORE
    lengths = real.sum(1)
    assert len(lengths) <= n_lanes and np.ptp(lengths) <= 1
    assert all(real[lane, :n].all() for lane, n in enumerate(lengths))
    tokens = [0, *(token for text in texts for token in [*ABC.encode(text), 0])]
    assert targets[real].tolist() == tokens[1:] and inputs[real].tolist() == tokens[:-1]
    assert (inputs[~real] == 0).all() and source.n_targets == len(tokens) - 1


def test_what_cannot_be_laid_in_lanes_is_one_clear_line():
    split = data.Split(("abcabc",), ("a",), "by hand")
    with pytest.raises(data.DataError, match="carry needs a stream, and each document is learnt alone"):
        data.sources(split, ABC, 3, "document", carry=True)
    train, _ = data.sources(split, ABC, 3, "stream", carry=True)
    assert train.batch(0, 2, 1).targets.shape == (2, 3)
    with pytest.raises(data.DataError, match="too short for 3 lanes: 7 tokens, and a window has 3"):
        train.batch(0, 3, 1)
