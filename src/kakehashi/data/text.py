"""Text files in the encodings that are met in Japan: UTF-8 with or without BOM, UTF-16 with BOM, CP932, EUC-JP, JIS."""

import codecs
from pathlib import Path

from kakehashi.data.errors import DataError

JAPANESE = ["cp932", "euc_jp"]
JIS_ESCAPE = b"\x1b$"  # ISO-2022-JP is made of ASCII bytes, so it would pass for UTF-8


class NotText(DataError):
    """A file that is empty or no text: in a folder it is passed over."""


def read_text(path: str | Path, encoding: str | None = None) -> str:
    """The text of a file, its line ends as "\\n". Without `encoding` it is detected, see `detect`.

    Raises DataError: missing, unreadable, empty, binary, not in that encoding (with the byte and its offset).
    """
    return decode(read_bytes(path), path, encoding)[0]


def detect(path: str | Path) -> str:
    """The name of the encoding in which `read_text` reads the file. Raises DataError as `read_text` does."""
    return decode(read_bytes(path), path)[1]


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file. Raises DataError: missing, unreadable."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def decode(raw: bytes, path: str | Path, encoding: str | None = None) -> tuple[str, str]:
    """(text, name of the encoding) of a file's bytes; `path` is for the messages. Raises DataError, NotText."""
    if not raw:
        raise NotText(f"{path} is empty (0 bytes): choose a file with text in it")
    stated, encoding = encoding, encoding or _detected(raw, path)
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise DataError(f"unknown encoding {encoding!r}: for instance utf-8, utf-16, cp932, euc_jp") from None
    except UnicodeDecodeError as error:
        offset = error.start + len(raw) - len(error.object)  # some codecs cut the BOM off first
        where = f"byte 0x{error.object[error.start]:02x} at offset {offset} ({error.reason})"
        if stated:
            raise DataError(f"{path} is not {stated}: {where}; give another --encoding, or none to detect it") from None
        raise NotText(f"{path} looks like {encoding}, but for {where}; mend it there, or give its --encoding") from None
    if (zero := text.find("\0")) >= 0:
        raise NotText(
            f"{path} looks binary, with a zero at character {zero}: choose a text file, or give its --encoding"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def _detected(raw: bytes, path: str | Path) -> str:
    """From what is certain to what is likely: a BOM, escapes, valid UTF-8, then the statistics of Japanese text."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if JIS_ESCAPE in raw and raw.isascii():
        return "iso2022_jp"
    try:
        raw.decode("utf-8")
        return "utf-8-sig" if raw.startswith(codecs.BOM_UTF8) else "utf-8"
    except UnicodeDecodeError as error:
        at = error.start
    if b"\0" in raw:
        raise NotText(f"{path} looks binary, with a zero byte at offset {raw.index(0)}: choose a text file")
    import charset_normalizer

    if best := charset_normalizer.from_bytes(raw, cp_isolation=JAPANESE).best():
        return best.encoding
    raise NotText(
        f"{path} is in no encoding known here: byte 0x{raw[at]:02x} at offset {at} is not UTF-8, and the rest is "
        f"neither UTF-16 nor Japanese; give its --encoding, or choose a text file"
    )
