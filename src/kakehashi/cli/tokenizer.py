"""tokenizer train|show: learn the tokens of a text, and look at a text's tokens."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from kakehashi.cli import console
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.tokenizers import Written

COLOURS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
SIZE = 2000  # tokens of the one that show learns where no file is named

tokenizer = typer.Typer(rich_markup_mode=None)


@tokenizer.command("train", help=t("cli.tokenizer.train"))
def tokenizer_train(
    out: Annotated[Path, typer.Option(metavar="DIR|FILE", help=t("cli.tokenizer.out"))],
    data: Annotated[str, typer.Option(help=t("cli.tokenizer.data"))] = "stdlib-code",
    vocab_size: Annotated[int, typer.Option(help=t("cli.tokenizer.vocab_size"))] = 8000,
    pattern: Annotated[str, typer.Option(help=t("cli.tokenizer.pattern"))] = "gpt2",
    special: Annotated[list[str] | None, typer.Option(help=t("cli.tokenizer.special"))] = None,
    form: Annotated[str, typer.Option(help=t("cli.tokenizer.form"))] = "own",
    encoding: Annotated[str | None, typer.Option(help=t("cli.train.encoding"))] = None,
    seed: Annotated[int, typer.Option(help=t("cli.tokenizer.seed"))] = 1337,
) -> None:
    from kakehashi import tokenizers
    from kakehashi.cli.progress import duration
    from kakehashi.data import training_texts

    if out.suffix not in ("", ".json") and not out.is_dir():
        raise typer.BadParameter(t("cli.tokenizer.suffix", path=out, suffix=out.suffix), param_hint="--out")
    for path in (out / "tokenizer.json", out / "vocab.json") if out.is_dir() else (out,):
        if path.exists():
            raise typer.BadParameter(t("cli.fault.exists", path=path), param_hint="--out")
    name, texts = training_texts(data, encoding, seed)
    began = time.perf_counter()
    learnt = tokenizers.BPETokenizer.train(texts, vocab_size, pattern, special or ())
    seconds = time.perf_counter() - began
    path = tokenizers.save(learnt, out, form)
    n_characters = sum(map(len, texts))
    per_character = sum(len(learnt.encode(text)) for text in texts) / n_characters
    if learnt.vocab_size < vocab_size:
        console.say(t("cli.tokenizer.fewer", n=learnt.vocab_size, wanted=vocab_size), "yellow")
    console.say(
        t(
            "cli.tokenizer.trained",
            path=path,
            n=learnt.vocab_size,
            data=name,
            time=duration(seconds),
            per_character=per_character,
        )
    )
    console.result(
        {
            "path": str(path),
            "vocab_size": learnt.vocab_size,
            "data": name,
            "characters": n_characters,
            "tokens_per_character": per_character,
            "seconds": seconds,
        }
    )


@tokenizer.command("show", help=t("cli.tokenizer.show"))
def tokenizer_show(
    words: Annotated[list[str], typer.Argument(metavar="[FILE] TEXT", help=t("cli.tokenizer.words"))],
) -> None:
    *file, text = words
    if len(words) > 2 or (not file and Path(text).exists()):
        raise typer.BadParameter(t("cli.tokenizer.which_text"), param_hint="TEXT")
    coder = opened(file[0] if file else None)
    if text == "-":
        text = sys.stdin.read()
    tokens = [(number, piece_of(coder, number)) for number in coder.encode(text)]
    line, separate = Text(), not console.out().is_terminal
    for i, (_, raw) in enumerate(tokens):
        line.append("|" if separate and i else "")
        line.append(console.plain(visible(raw)), "" if separate else COLOURS[i % len(COLOURS)])
    console.out().print(line)
    per_character = len(tokens) / len(text) if text else 0.0
    console.say(
        t("cli.tokenizer.counted", tokens=len(tokens), characters=len(text), per_character=per_character), "dim"
    )
    console.result(
        {
            "tokenizer": file[0] if file else "",
            "vocab_size": coder.vocab_size,
            "tokens": [{"id": number, "bytes": raw.hex(), "text": visible(raw)} for number, raw in tokens],
            "characters": len(text),
            "tokens_per_character": per_character,
        }
    )


def opened(path: str | None) -> "Written":
    """The tokenizer at a path; without one, a small one is learnt from Python's own library."""
    from kakehashi import tokenizers

    if path is not None:
        return tokenizers.load(path)
    from kakehashi.data import corpus

    console.say(t("cli.tokenizer.learnt_now", n=SIZE), "dim")
    return tokenizers.BPETokenizer.train(corpus("stdlib-code").documents, SIZE)


def piece_of(coder: "Written", number: int) -> bytes:
    """What a token stands for, in UTF-8."""
    token = coder.tokens[number]
    return token.encode() if isinstance(token, str) else token


def visible(raw: bytes) -> str:
    r"""A token on one line: what cannot be printed, and a part of a character, as \n, \xe3."""
    text = raw.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
