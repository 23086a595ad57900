"""Text files in the encodings that are met in Japan: UTF-8 with or without BOM, UTF-16 with BOM, CP932, EUC-JP, JIS."""

import codecs
import re
from pathlib import Path

from kakehashi.data.errors import DataError

JAPANESE = ["cp932", "euc_jp"]
KANA = "ぁ-ヺーｦ-ﾝﾞﾟ"
JAPANESE_SIGNS = f"{KANA}\u3000-\u303f一-鿿！-｠"  # without ｡｢｣､･, which EUC-JP is full of where it is read as CP932
BARE = re.compile("(?<![ｳｶ-ﾄﾊ-ﾎ])[ﾞﾟ]")  # a mark on a sound that has none
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
    if _is_short_cp932(raw):
        return "cp932"
    raise NotText(
        f"{path} is in no encoding known here: byte 0x{raw[at]:02x} at offset {at} is not UTF-8, and the rest is "
        f"neither UTF-16 nor Japanese; give its --encoding, or choose a text file"
    )


def _is_short_cp932(raw: bytes) -> bool:
    """Whether these bytes, too few for statistics or with too many half-width kana, are Japanese in CP932.

    Beyond ASCII they are Japanese signs for the most part, kana among them, that stand together, as letters with
    accents do not; and they are no UTF-8 with a flaw, whose bytes would be kanji and half-width kana, too.
    """
    try:
        runs = re.findall(r"[^\0-\x7f]+", raw.decode("cp932"))
    except UnicodeDecodeError:
        return False
    high = "".join(runs)
    n_kana, n_signs = (len(re.findall(f"[{signs}]", high)) for signs in (KANA, JAPANESE_SIGNS))
    in_utf8 = re.sub(r"[\0-\x7f]", "", raw.decode("utf-8", "ignore"))
    n_bytes = sum(byte > 0x7F for byte in raw)
    # half-width kana are letters in UTF-8 by chance, two to a letter; three bytes that are a kana or kanji hardly are
    n_three = len(re.findall("[\u0800-\uffff]", in_utf8))
    flawed = 4 * len(in_utf8.encode("utf-8")) >= 3 * n_bytes or 12 * n_three >= n_bytes
    together = len(high) >= 2 * len(runs)
    return 4 * n_kana >= len(high) and 4 * n_signs >= 3 * len(high) and together and not (flawed or BARE.search(high))
