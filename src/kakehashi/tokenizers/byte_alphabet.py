"""GPT-2's alphabet of bytes: each byte is written as a character that can be seen, and bytes are numbered in the order
of these characters. So every vocab.json and tokenizer.json of a byte-level BPE writes " the" as "Ġthe", "é" as "Ã©".
"""

_SEEN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # characters of Latin-1 that stand for their byte
_REST = [byte for byte in range(256) if byte not in _SEEN]  # control characters, spaces: from U+0100 on

BYTES = bytes(_SEEN + _REST)  # the byte of number 0, 1, ... 255
NUMBER = {byte: number for number, byte in enumerate(BYTES)}
SIGN = {byte: chr(byte) for byte in _SEEN} | {byte: chr(0x100 + i) for i, byte in enumerate(_REST)}
_BYTE = {sign: byte for byte, sign in SIGN.items()}


def written(raw: bytes) -> str:
    """The bytes in this alphabet.

    >>> written(b" the\\n")
    'ĠtheĊ'
    """
    return "".join([SIGN[byte] for byte in raw])


def read(signs: str) -> bytes:
    """What `written` wrote. KeyError: a character that is not in the alphabet."""
    return bytes([_BYTE[sign] for sign in signs])
