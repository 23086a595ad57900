"""bench bpe: how fast merges are learnt and texts encoded, beside Hugging Face's `tokenizers` on one thread.

Three kinds of text: code, the standard library of this Python; German, the training half of Multi30k; Japanese, our own
pages and what this machine's programs say in Japanese (gettext's catalogues): sentences, if dry ones.

What is encoded is the last tenth of a text, after the rest, from which the tokens were learnt: "new" text, and the same
once more, whose pieces are remembered by then.
"""

import gettext
import gzip
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")  # read when tokenizers begins to work

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.rows import ROOT, Row, measure
from kakehashi import Mistake
from kakehashi.data import stdlib_code
from kakehashi.tokenizers import END, BPETokenizer
from kakehashi.tokenizers.bpe_formats import to_hf

MERGES = 8000
VOCAB_SIZE = 1 + 256 + MERGES  # END, every byte, and what is learnt
SIZE = 10_000_000  # bytes to learn from
LONG_RUN = 1_000_000  # characters, all equal
TURNS = 5
PEER = "tokenizers on one thread"
GERMAN = Path(os.environ.get("KAKEHASHI_DATA", "data"), "multi30k-de-en", "train.de.gz")
CATALOGUES = Path("/usr/share/locale/ja/LC_MESSAGES")


class Missing(Mistake):
    """A text to measure on is not there."""


def learning() -> Iterator[Row]:
    text = "\n".join(read() for read in TEXTS.values()).encode()[:SIZE].decode(errors="ignore")
    yield measure(
        f"learning {MERGES:,} merges from {len(text.encode()) / 1e6:.1f} MB of {', '.join(TEXTS)}",
        "s",
        lambda: seconds(lambda: BPETokenizer.train([text], VOCAB_SIZE)),
        lambda: seconds(lambda: learnt_by_peer(text)),
        repeats=TURNS,
        command="kakehashi bench bpe --only learning",
        peer_name=PEER,
        goal="ratio <= 3",
    )


def encoding() -> Iterator[Row]:
    for name, read in TEXTS.items():
        yield from encoding_of(name, read())


def encoding_of(name: str, text: str) -> Iterator[Row]:
    cut = len(text) * 9 // 10
    seen, new = text[:cut], text[cut:]
    megabytes = len(new.encode()) / 1e6
    learnt = BPETokenizer.train([seen], VOCAB_SIZE)
    peer = Tokenizer.from_str(json.dumps(to_hf(learnt)))
    n_tokens = len(learnt.encode(new))  # and the pieces are remembered
    if peer.encode(new).ids != learnt.encode(new):
        raise AssertionError(f"the tokens of {name} differ from the peer's")

    def first_time() -> float:
        fresh = replace(learnt)
        fresh.encode(seen)
        return megabytes / seconds(lambda: fresh.encode(new))

    for kind, ours in (
        ("new", first_time),
        ("the same again", lambda: megabytes / seconds(lambda: learnt.encode(new))),
    ):
        yield measure(
            f"encoding {name}, {n_tokens / len(new):.3f} tokens a character: {kind}",
            "MB/s",
            ours,
            lambda: megabytes / seconds(lambda: peer.encode(new)),
            repeats=TURNS,
            command="kakehashi bench bpe --only encoding",
            peer_name=PEER,
            goal="ours >= 2",
        )


def one_character() -> Iterator[Row]:
    text = LONG_RUN * "a"
    learnt = BPETokenizer.train([text], VOCAB_SIZE)
    bytes_alone = BPETokenizer.train(["a"], VOCAB_SIZE)
    for what, work in {
        "learning from": lambda: BPETokenizer.train([text], VOCAB_SIZE),
        "encoding": lambda: learnt.encode(text),
        "encoding, without merges,": lambda: bytes_alone.encode(text),
    }.items():
        yield measure(
            f"{what} one character {LONG_RUN:,} times",
            "s",
            partial(seconds, work),
            repeats=TURNS,
            command="kakehashi bench bpe --only one-character",
            goal="ours < 10",
            why="no peer: it must end",
        )


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def learnt_by_peer(text: str) -> Tokenizer:
    """As `BPETokenizer.train` learns: the same tokens with the same numbers."""
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator([text], trainer)
    return peer


def code() -> str:
    return "\n".join(text for _, text in stdlib_code.files())


def german() -> str:
    if not GERMAN.exists():
        raise Missing(f"bench bpe needs Multi30k's German: there is no {GERMAN}; name its folder in KAKEHASHI_DATA")
    return gzip.decompress(GERMAN.read_bytes()).decode("utf-8")


def japanese() -> str:
    pages = [
        *ROOT.glob("*.ja.md"),
        *ROOT.glob("src/**/*ja.md"),
        *ROOT.glob("src/**/*ja.toml"),
        *ROOT.glob("src/**/ja/*"),
    ]
    said = [path.read_text(encoding="utf-8") for path in sorted(pages)]
    for path in sorted(CATALOGUES.glob("*.mo")):
        with path.open("rb") as file:
            messages = gettext.GNUTranslations(file)._catalog.values()  # its one list of all messages
        said += [message for message in messages if re.search("[\u3041-\u30ff]", message)]
    return "\n".join(dict.fromkeys(said))


TEXTS = {"code": code, "German": german, "Japanese": japanese}
PLAIN = {"learning": learning, "encoding": encoding, "one-character": one_character}
FULL = {}
