"""Texts for the tests of kakehashi.source: the model files, and one that holds what editors and habits can do."""

from pathlib import Path

from kakehashi import models, source

FOLDER = Path(models.__file__).parent
REFERENCES = {name: source.read(FOLDER / f"{name}.py") for name in models.NAMES}

NASTY = '''\
# -*- 架け橋 -*-
"""A file that does everything
    a learner's editor may do."""
import functools; LIMIT = 3  # 上限

def one_line(x): return x + 1  # 一行
def documented(x): "Doc."; y = x; return y
def continued(x): \\
    return x

def signature(
    a,  # the axis: time
    b=lambda z: {1: z},
) -> "dict[str, int]":  # 署名の注: stays
    # 本文の注
    return {"鍵": a, "b": b}
    # the last word

# between 関数の間
@functools.lru_cache(
    maxsize=None)
async def decorated(x, /, *, y: int = 2):
    """説明 doc"""
    # 理由: because
    if x: return y
    elif y: pass
    else:
        z = """
  not # a comment
"""
        return z; w = 1
    async def inner(q):
        return q
    return await inner(x)

class 箱(dict):
    """A box."""

    size: int = 0  # 大きさ
    class Inner:
        def deep(self):
            return (1 +
2)
    @property
    def value(self): return self._value
    @value.setter
    def value(self, v):
        self._value = v \\
            + 0

    @staticmethod
    def lonely():
        """Only a docstring."""

    def last(self):
        """Doc"""; x = [1,

            2]
        return f"{x!r} {'é'}"
        # indented as the body

    # indented as the class
TAIL = "終"
'''


def styles(text: str) -> dict[str, str]:
    return {
        "as it is": text,
        "crlf": text.replace("\n", "\r\n"),
        "byte order mark": "\ufeff" + text,
        "crlf and byte order mark": "\ufeff" + text.replace("\n", "\r\n"),
        "tabs": text.replace("    ", "\t"),
        "no last line break": text.rstrip("\n"),
        "ends in a body": text[: text.index("    # indented as the class")].rstrip(" \n"),
    }
