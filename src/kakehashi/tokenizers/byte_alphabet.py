"""GPT-2's alphabet of bytes: each byte is written as a character that can be seen, and bytes are numbered in the order
of these characters. So every vocab.json and tokenizer.json of a byte-level BPE writes " the" as "Ġthe", "é" as "Ã©".
"""

from kakehashi.tokenizers.bpe import byte_signs

SIGN = byte_signs()
BYTES = bytes(SIGN)  # the byte of number 0, 1, ... 255
NUMBER = {byte: number for number, byte in enumerate(BYTES)}
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
