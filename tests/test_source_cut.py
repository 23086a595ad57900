"""A reference cut into a starter and hints, and put back: properties over every model file and nasty text."""

import ast
import io
import tokenize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_cases import FOLDER, NASTY, REFERENCES, styles

from kakehashi import source
from kakehashi.source import SourceError, altered, blank, empty, fill, hints, lint_imports, strip_comments, symbols

LOGS, PREDICTOR = "work/logs", "work/predictor"
PARTS = (
    "models/encoder.py",
    f"{LOGS}/drain.py",
    f"{LOGS}/surprise.py",
    f"{LOGS}/baselines.py",
    f"{PREDICTOR}/certainty.py",
)  # of which stations are to come
EVERY = {**REFERENCES, **{f"nasty, {name}": text for name, text in styles(NASTY).items()}}


def comments(text: str) -> list[str]:
    lines = io.StringIO(text.removeprefix("\ufeff").replace("\r\n", "\n")).readline
    return [token.string for token in tokenize.generate_tokens(lines) if token.type == tokenize.COMMENT]


def shells(text: str) -> str:
    """The tree with every function body reduced to its docstring."""
    tree = ast.parse(text.removeprefix("\ufeff"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Expr(ast.Constant(ast.get_docstring(node, clean=False)))]
    return ast.dump(tree)


@settings(max_examples=40)
@given(st.data())
def test_filling_a_blanked_file_gives_the_original_byte_for_byte(data):
    text = EVERY[data.draw(st.sampled_from(sorted(EVERY)))]
    chosen = data.draw(st.lists(st.sampled_from(symbols(text)), unique=True))
    starter = blank(text, chosen)
    assert fill(starter, text, chosen) == text
    assert symbols(starter) == symbols(text)
    assert shells(starter) == shells(text)  # signatures, decorators, docstrings, class bodies
    assert blank(starter, chosen) == starter


@pytest.mark.parametrize("path", PARTS)
def test_each_symbol_alone_and_all_together_go_there_and_back(path):
    text = source.read(FOLDER.parent / path)
    names = symbols(text)
    for chosen in (*([name] for name in names), names):
        starter = blank(text, chosen)
        assert starter != text and fill(starter, text, chosen) == text
        ast.parse(starter)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_cut_is_one_stretch_a_body_and_all_else_keeps_its_bytes(name):
    text = EVERY[name]
    for symbol in symbols(text):
        starter = blank(text, [symbol])
        at = starter.find(f'raise NotImplementedError("{symbol}")')
        if at >= 0 and starter.count("raise NotImplementedError") == 1 + text.count("raise NotImplementedError"):
            tail = starter[at:].partition(")")[2]
            assert text.startswith(starter[:at]) and text.endswith(tail)


@pytest.mark.parametrize("name", REFERENCES)
def test_no_line_of_the_answer_is_left_in_the_starter(name):
    text = REFERENCES[name]
    tree = ast.parse(text)
    kept = blank(text, symbols(text))
    answer = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            first = node.body[0].end_lineno + 1 if len(body) < len(node.body) else node.lineno + 1
            answer |= {line.strip() for line in text.splitlines()[first - 1 : node.end_lineno]} - {""}
    assert len(answer) > 10
    assert not answer & {line.strip() for line in kept.splitlines()}
    for symbol in symbols(text):
        given_away = {*hints(text, symbol).whys}
        assert not [why for why in given_away if why in blank(text, [symbol])]


def test_a_starter_says_what_is_missing_and_keeps_its_shape():
    head = 'class A:\n    def f(self, x):  # (B, T)\n        """Doc."""\n'
    text = head + "        # why\n        return x\n        # end\n\n    y = 1\n"
    assert blank(text, ["A"]) == head + '        raise NotImplementedError("A.f")\n\n    y = 1\n'
    assert blank("def f(x): return x  # 答え\n", ["f"]) == 'def f(x): raise NotImplementedError("f")\n'
    with pytest.raises(NotImplementedError, match=r"^A\.f$"):
        exec(blank(text, ["A.f"]) + "A().f(1)", {})


def test_a_comment_as_deep_as_the_class_is_not_cut():
    starter = blank(NASTY, symbols(NASTY))
    assert "# indented as the class" in starter and "# indented as the body" not in starter
    assert "# 署名の注: stays" in starter and "# 本文の注" not in starter and "# between 関数の間" in starter


pieces = st.sampled_from(
    ["x = 1", "y = 'é'; x = 2", "if x:\n    pass\nelse:\n    x = [\n1,\n]", "# 注", "", 's = """\n a\n"""',
     "x = 1 \\\n    + 2", "def g():\n    return 1\n    # end of g", "for i in (): break", "return 1  # c", '"text"']
)  # fmt: skip


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(pieces, min_size=1, max_size=5), st.lists(pieces, max_size=1)), max_size=3
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_round_trip_of_generated_files(functions, line_break, final):
    text = ""
    for i, (documented, body, after) in enumerate(functions):
        lines = [*(['"""doc"""'] if documented else []), *body, "pass"]
        inside = "".join(f"    {line}\n" for piece in lines for line in piece.split("\n"))
        outside = "".join(f"{piece}\n" for piece in after if not piece.startswith("return"))
        text += f"def f{i}(x=0):\n{inside}{outside}"
    text = text.replace("\n", line_break)
    text = text if final else text.removesuffix(line_break)
    names = [name for name in symbols(text) if name[0] == "f"]
    assert fill(blank(text, names), text, names) == text


def test_a_body_is_filled_into_another_indentation():
    reference = 'class A:\n    def f(self, x):\n        if x:\n            return """\n  a"""\n        return 1\n'
    for indent in ("  ", "\t", "        "):
        starter = f"class A:\n{indent}def f(self, x):\n{indent}{indent}pass\n{indent}def g(self): return 2\n"
        space: dict = {}
        exec(fill(starter, reference, ["A.f"]), space)
        assert space["A"]().f(True) == "\n  a" and space["A"]().f(False) == 1 and space["A"]().g() == 2


def test_a_body_on_one_line_and_one_on_several_change_places():
    short, long = "def f(x): return x + 1\n", "def f(x):\n    y = x\n    return y + 1\n"
    assert fill(blank(short, ["f"]), long, ["f"]) == long
    assert fill(long, short, ["f"]) == short


@pytest.mark.parametrize("do", [lambda t, s: blank(t, s), lambda t, s: fill(t, t, s), lambda t, s: hints(t, s[0])])
def test_an_unknown_symbol_is_named_with_its_neighbours(do):
    with pytest.raises(SourceError, match=r"'Block\.forwrad'.*Block\.forward"):
        do(REFERENCES["gpt2"], ["Block.forwrad"])


def test_text_that_is_not_python_is_a_mistake_with_its_line():
    with pytest.raises(SourceError, match=r"^the file:2: .*def f\(x$"):
        empty("x = 1\ndef f(x\n", "x = 1", ["f"])


@pytest.mark.parametrize(
    "body",
    ["pass", "...", '"""Doc."""', "raise NotImplementedError", 'raise NotImplementedError("f")', '"""D."""\n    ...'],
)
def test_a_body_that_does_nothing_is_empty(body):
    assert empty(f"def f(x):\n    {body}\n", "def f(x): return x", ["f"]) == ["f"]
    assert empty(f"def f(x):\n    {body}\n    return 1\n", "def f(x): return x", ["f"]) == []
    assert empty(f"def f(x):\n    {body}\n", "def f(x): pass", ["f"]) == []  # the reference does nothing, either


@pytest.mark.parametrize("name", REFERENCES)
def test_a_starter_is_empty_exactly_where_it_was_cut(name):
    text = REFERENCES[name]
    functions = [symbol for symbol in symbols(text) if blank(text, [symbol]) != text and "." in symbol][::2]
    for symbol in functions:
        assert empty(blank(text, [symbol]), text, symbols(text)) == [symbol]
    assert empty(text, text, symbols(text)) == []
    assert set(empty("", text, symbols(text))) == set(symbols(text))


def test_a_class_is_asked_for_its_blank_methods_and_a_method_by_name_must_be_there():
    reference = (
        "class A(B):\n    def __init__(self): self.x = 1\n    def f(self): return self.x\n    def _h(self): return 1\n"
    )
    written = "class A(B):\n    def __init__(self): self.y = 1\n    def f(self): return self.y\n"
    assert empty(written, reference, ["A"]) == []
    assert empty(written, reference, ["A._h"]) == ["A._h"]
    assert empty(blank(reference, ["A.f"]), reference, ["A"]) == ["A.f"]
    assert empty("class A(B): pass", reference, ["A"]) == ["A"]
    assert empty("A = B", reference, ["A"]) == []


@pytest.mark.parametrize(
    "line, allowed",
    [
        ("from kakehashi.autograd import Tensor, ShapeError, no_grad", True),
        ("from kakehashi.autograd import Tensor, Value", False),
        ("from kakehashi.autograd import *", False),
        ("from kakehashi.autograd import functional", False),
        ("import kakehashi.autograd as ag", False),
        ("from kakehashi.autograd.value import Number", False),
    ],
)
def test_what_a_package_offers_everyone_is_no_answer(line, allowed):
    assert (lint_imports(line, "class Value: ...") == []) is allowed


@pytest.mark.parametrize(
    "own, missing",
    [
        ("class A:\n    f = g = make('f')\n", []),
        ("class A:\n    g: object = make('g')\n", ["A.f"]),
        ("class Base:\n    def f(self): return 1\nclass Mixin(Base): g = 1\nclass A(Mixin): x = 1\n", []),
        ("class Base:\n    def f(self): raise NotImplementedError\nclass A(Base):\n    g = 1\n", ["A.f"]),
        ("class A:\n    def f(self): return 1\nclass A(A):\n    def g(self): return 2\n", []),
        ("class A(B): x = 1\nclass B(A): x = 2\n", ["A.f", "A.g"]),
        ("class A(other.B):\n    def f(self): return 1\n    def g(self): ...\n", ["A.g"]),
    ],
)
def test_a_method_is_written_by_assignment_and_by_inheritance_too(own, missing):
    reference = "class A:\n    def f(self): return 1\n    def g(self): return 2\n"
    assert empty(own, reference, ["A.f", "A.g"]) == missing


def test_what_is_written_in_another_way_is_found_whatever_its_words():
    reference = 'class N(T):\n    a: int\n    b: int\n\ndef f(x: int) -> int:\n    """Doc."""\n    return x  # why\n'
    assert altered('class N(T):\n    a: "A"\n    b: "B"\n\n\ndef f(x):\n    return x\n', reference) == {}
    assert altered("def g(): return 1\ndef f(x: int): ...\n", reference) == {}
    turned = "import math\nclass N(T):\n    b: int\n    a: int\n\ndef f(y):\n    return y\n"
    assert altered(turned, reference) == {"N": 2, "f": 6}


def test_hints_are_the_comments_of_the_body_shapes_apart_from_reasons():
    text = (
        "def f(x):  # not this\n    # first reason,\n    # told on two lines\n"
        "    y = x.view(1)  # (B, T, C) -> (B, H, T, D)\n    # second\n    z = y  # 3 times (B, N C)\n"
        "    return z  # a reason beside code (see Bengio, 2003)\n# nor this\n"
    )
    found = hints(text, "f")
    assert found.shapes == ("(B, T, C) -> (B, H, T, D)", "(B, N C)")
    assert found.names == ("y", "z")
    assert found.whys == ("first reason, told on two lines", "second", "a reason beside code (see Bengio, 2003)")


@pytest.mark.parametrize("name", REFERENCES)
def test_hints_of_the_references_hold_comments_and_no_code(name):
    text = REFERENCES[name]
    said = " ".join(comment.lstrip("# ") for comment in comments(text))
    found = [hints(text, symbol) for symbol in symbols(text)]
    assert any(each.shapes for each in found) and any(each.whys for each in found)
    assert all(part in said for each in found for part in (*each.shapes, *each.whys))


@pytest.mark.parametrize("name", EVERY)
def test_stripping_comments_leaves_the_program_and_only_shapes(name):
    text = EVERY[name]
    kept = strip_comments(text)
    bare = strip_comments(text, keep_shapes=False)
    for each in (kept, bare):
        assert ast.dump(ast.parse(each.removeprefix("\ufeff"))) == ast.dump(ast.parse(text.removeprefix("\ufeff")))
        assert ("\r\n" in each) == ("\r\n" in text) and each.startswith("\ufeff") == text.startswith("\ufeff")
    assert comments(bare) == []
    assert all(comment.startswith("# (") and comment.endswith(")") for comment in comments(kept))


def test_a_shape_comment_stays_byte_for_byte_and_of_a_longer_one_the_shapes():
    shape = "x = 1  # (B, T, 4C) -> (B, H, T, D)\n"
    text = f"{shape}y = 2  # 3 times (B, T, C)\nz = 3  # divide (or not) by n\n# alone\nw = 4\n"
    assert strip_comments(text) == f"{shape}y = 2  # (B, T, C)\nz = 3\nw = 4\n"


def test_imports_of_the_answer_are_found_however_they_are_written():
    text = """
import torch
from kakehashi.models.protocol import Output
from kakehashi.models import protocol
import kakehashi.models.protocol
from kakehashi import Mistake
import kakehashi.models.gpt2
def f():
    from kakehashi.models.gpt2 import GPT, Block
from kakehashi.models import mlp as m
from kakehashi import models
"""
    modules = [(each.line, each.module) for each in lint_imports(text, REFERENCES["gpt2"])]
    gpt2 = "kakehashi.models.gpt2"
    assert modules == [(7, gpt2), (9, gpt2), (10, "kakehashi.models.mlp"), (11, "kakehashi.models")]
    engine = "from kakehashi.autograd import Tensor, ops\nfrom kakehashi.autograd.tensor import Tensor, record\n"
    ops = "from kakehashi.autograd.tensor import record"
    assert [each.module for each in lint_imports(engine, ops)] == ["kakehashi.autograd.ops"]
    assert all(lint_imports(reference, reference) == [] for reference in REFERENCES.values())


@settings(max_examples=20)
@given(st.sampled_from(["utf-8", "utf-8-sig", "cp932"]), st.sampled_from(["\n", "\r\n"]))
def test_a_file_is_read_as_it_is(tmp_path_factory, encoding, line_break):
    path = tmp_path_factory.mktemp("read") / "own.py"
    text = f"# coding: {'cp932' if encoding == 'cp932' else 'utf-8'}\nx = '架け橋'\n".replace("\n", line_break)
    path.write_bytes(text.encode(encoding))
    assert source.read(path).removeprefix("\ufeff") == text
    assert source.load(path).x == "架け橋"


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        source.read(tmp_path / "nothing.py")
    (tmp_path / "binary.py").write_bytes(b"\x93\xfa\x96\x7b")
    with pytest.raises(SourceError, match="save it as UTF-8"):
        source.read(tmp_path / "binary.py")
