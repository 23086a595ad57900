"""Texts to learn from: found by name or path, read, split without leaks, and cut into batches.

corpus = data.corpus("names")                                  # or a text file, or a folder of text files
split = corpus.split(seed=1337)
tokenizer = CharTokenizer.train(corpus.documents)
train, val = data.sources(split, tokenizer, block_size=16, unit=corpus.unit)
train.batch(step=0, batch_size=32, seed=1337)                  # Batch(inputs=(tokens,), targets, n_targets)

Pairs of texts are read by `read_pairs` and cut by PairSource; images by `images.read` and images.Shown; texts with
classes by `tables.read` and tables.Labelled.
"""

from kakehashi.data.batches import Batch, Batches, Lanes, Source, rectangle, sources
from kakehashi.data.corpora import LECTURE, ORDER, Corpus, Split, corpus
from kakehashi.data.errors import DataError
from kakehashi.data.pairs import Pairs, PairSource, PairSplit, read_pairs, training_texts
from kakehashi.data.sets import DataSet, catalogue, find, get, unit_of
from kakehashi.data.text import detect, read_text

__all__ = [
    "LECTURE",
    "ORDER",
    "Batch",
    "Batches",
    "Corpus",
    "DataError",
    "DataSet",
    "Lanes",
    "PairSource",
    "PairSplit",
    "Pairs",
    "Source",
    "Split",
    "catalogue",
    "corpus",
    "detect",
    "find",
    "get",
    "read_pairs",
    "read_text",
    "rectangle",
    "sources",
    "training_texts",
    "unit_of",
]
