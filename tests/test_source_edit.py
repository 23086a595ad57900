"""Edits by structure: exactly one place, exactly what was meant, refused with the reason otherwise."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_cases import NASTY, REFERENCES, styles

from kakehashi.source import DoesNotApply, Edit, SourceError, inject, symbols

ATTENTION = '''\
class Attention(nn.Module):
    def forward(self, x):
        """scores = scores / 8"""
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(d)  # 縮尺
        scores = scores.masked_fill(
            mask == 0,  # 未来
            float("-inf"),
        )
        weights = F.softmax(scores, dim=-1); weights = drop(weights)
        if x is not None:
            weights = keep(weights)
        return (weights @ v)
'''


def one(find: str, replace: str, text: str = ATTENTION, symbol: str = "Attention.forward", forms=()):
    return inject(text, [Edit(symbol, find, replace, forms)])


def line(result, number=0) -> str:
    return result.source.splitlines()[result.lines[number] - 1].strip()


def test_an_expression_is_found_whatever_its_parentheses_blanks_and_comments():
    result = one("$a @ $b / math.sqrt( $d )", "$a @ $b / $d")
    assert line(result) == "scores = q @ k.transpose(-2, -1) / d  # 縮尺"
    assert result.lines == (4,) and result.form == (0,)
    assert one("scores.masked_fill(mask==0, $x)", "scores").lines == (5,)


def test_a_hole_named_twice_must_hold_the_same():
    text = "def f(a, b):\n    x = a * a\n    return a * b\n"
    assert inject(text, [Edit("f", "$x * $x", "$x ** 2")]).source == "def f(a, b):\n    x = a ** 2\n    return a * b\n"


def test_a_rest_holds_what_is_left_and_leaves_no_trace_where_that_is_nothing():
    text = "def f(x):\n    g(x, 1, *x, k=2)\n    return h(x)\n"
    assert "g(1, *x, k=2)\n" in inject(text, [Edit("f", "g($x, $...a)", "g($...a)")]).source
    assert "H(x)\n" in inject(text, [Edit("f", "h($x, $...a)", "H($x, $...a)")]).source
    assert "H()\n" in inject(text, [Edit("f", "h($...a, x)", "H($...a)")]).source
    assert "g(x, 1, *x)\n" in inject(text, [Edit("f", "g($...a, k=2)", "g($...a)")]).source
    with pytest.raises(DoesNotApply):  # `*x` is no expression, so no hole for one
        inject("def f(x):\n    return h(*x)\n", [Edit("f", "h($x)", "h(0, $x)")])
    assert "h([x])" in inject(text, [Edit("f", "h($...a)", "h([$...a])")]).source


@pytest.mark.parametrize(
    "find, gone",
    [
        ("scores = scores.masked_fill($...a)", [5, 6, 7, 8]),
        ("weights = drop(weights)", []),
        ("weights = F.softmax($...a)", []),
        ("scores = $a / $b\nscores = scores.masked_fill($...c)", [4, 5, 6, 7, 8]),
    ],
)
def test_a_statement_is_removed_with_its_lines_and_its_comment(find, gone):
    result = one(find, "")
    lines = ATTENTION.splitlines(keepends=True)
    if gone:
        assert result.source == "".join(text for i, text in enumerate(lines, 1) if i not in gone)
        assert result.lines == (gone[0],)  # the line that now stands there
    else:
        assert len(result.source.splitlines()) == len(lines) and ";" not in result.source


def test_the_only_statement_of_a_block_leaves_pass():
    assert line(one("weights = keep(weights)", "")) == "pass"


def test_several_statements_change_places_and_only_their_lines_are_told():
    result = one(
        "weights = F.softmax(scores, $...a)\nweights = drop(weights)", "weights = drop(scores)\nweights = weights"
    )
    assert result.lines == (9, 10)
    assert result.source.splitlines()[8:10] == ["        weights = drop(scores)", "        weights = weights"]


def test_edits_apply_one_after_the_other_and_all_their_lines_are_told():
    edits = [
        Edit("Attention.forward", "return $x", "return $x * 7"),
        Edit("Attention.forward", "scores = scores.masked_fill($...a)", ""),
        Edit("Attention", "$x * 7", "$x * 8"),
    ]
    result = inject(ATTENTION, edits)
    assert (
        line(result, -1) == "return weights @ v * 8"
        and line(result) == "weights = F.softmax(scores, dim=-1); weights = drop(weights)"
    )
    assert result.lines == (5, 8)


def test_another_form_is_tried_where_the_first_does_not_match():
    result = one("scores * $s", "scores", forms=(("$a / math.sqrt(d)", "$a"), ("$x", "1")))
    assert result.form == (1,) and line(result) == "scores = q @ k.transpose(-2, -1)  # 縮尺"


@pytest.mark.parametrize(
    "find, replace, why",
    [
        ("softmax($x)", "$x", r"^Attention\.forward: 'softmax\(\$x\)' matches no places; exactly one is needed$"),
        ("weights", "w", r"'weights' matches 6 places \(lines 9, "),
        ("scores / 8", "1", "matches no places"),  # it stands in the docstring only
        ("weights = drop($x)", "weights = drop($x)", "changes nothing"),
        ("$a is not None", "a = 1", "matches no places"),  # no statement of its own
        ("weights = drop($x)", "if $x:\n    pass", "cannot stand in the place"),  # after a semicolon
    ],
)
def test_what_does_not_apply_says_why(find, replace, why):
    with pytest.raises(DoesNotApply, match=why) as refused:
        one(find, replace)
    assert refused.value.why == str(refused.value) and isinstance(refused.value, SourceError)


def test_all_forms_are_named_where_none_applies_and_so_is_a_symbol_that_is_missing():
    with pytest.raises(DoesNotApply, match=r"'a1' matches no places; 'scores' matches 4 places"):
        one("a1", "b", forms=(("scores", "b"),))
    with pytest.raises(DoesNotApply, match=r"^Block: there is no such symbol"):
        one("$x", "1", symbol="Block")


def test_only_the_symbol_is_searched():
    text = "def f(x):\n    return x + 1\n\nclass A:\n    def f(self, x):\n        return x + 1\n"
    assert inject(text, [Edit("A.f", "x + 1", "x")]).lines == (6,)


@pytest.mark.parametrize("style", styles(NASTY))
def test_an_edit_leaves_every_other_byte_of_nasty_text_alone(style):
    text = styles(NASTY)[style]
    result = inject(
        text, [Edit("signature", '{"鍵": $a, "b": $b}', '{"鍵": $b, "b": $a}'), Edit("decorated", "$w = 1", "")]
    )
    expected = text.replace('{"鍵": a, "b": b}', '{"鍵": b, "b": a}').replace("return z; w = 1", "return z")
    assert result.source == expected
    assert [result.source.split("\n")[i - 1].strip() for i in result.lines] == ['return {"鍵": b, "b": a}', "return z"]


names = st.sampled_from("abcd")
expressions = st.recursive(
    st.one_of(names, st.sampled_from(["2", "-3", "f(a, b=c)", "[a, b][0]", "(a,\n b)[1]"])),
    lambda inner: st.one_of(
        st.builds(
            "{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "**", "<", "and", "@", "if b else"]), inner
        ),
        st.builds("({})".format, inner),
        st.builds("-({})".format, inner),
        st.builds("(not {})".format, inner),
        st.builds("({}).real".format, inner),
        st.builds("(lambda x: {})".format, inner),
    ),
    max_leaves=5,
)


class Meant(ast.NodeTransformer):
    """What an edit means, on the tree: the mark with two arguments becomes the replacement with both put in."""

    def __init__(self, replacement: str):
        self.replacement = replacement

    def visit_Call(self, node):
        self.generic_visit(node)
        if getattr(node.func, "id", "") != "mark":
            return node
        held = {"p": node.args[0], "q": node.args[1]}

        class Fill(ast.NodeTransformer):
            def visit_Name(self, name):
                return held.get(name.id, name)

        return Fill().visit(ast.parse(self.replacement, mode="eval").body)


@given(
    expressions,
    expressions,
    st.sampled_from(
        ["{}", "1 + {}", "({}) ** 2", "c - ({})", "f(({}), c)", "[({})\n]", "{}.imag", "not {}", "({})(1)"]
    ),
    st.sampled_from(
        ["p + q", "q", "q * p", "p ** q", "g(q, p)", "-p", "p if q else 1", "p < q", "p.real", "lambda: q"]
    ),
)
def test_a_replacement_means_the_same_wherever_it_stands(p, q, around, replacement):
    """Parentheses are added where they are needed: the oracle is the same edit made on the tree."""
    text = f"def f(a, b, c, d):\n    return ({around.format(f'mark(({p}), ({q}))')})\n"
    template = replacement.replace("p", "$p").replace("q", "$q")
    result = inject(text, [Edit("f", "mark($p, $q)", template)]).source
    assert ast.dump(ast.parse(result)) == ast.dump(Meant(replacement).visit(ast.parse(text)))


@pytest.mark.parametrize("name", REFERENCES)
def test_every_statement_of_a_reference_can_be_removed_and_no_other_changes(name):
    text = REFERENCES[name]
    for function in [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]:
        simple = [node for node in function.body if isinstance(node, ast.Assign | ast.Return)]
        for node in simple[:2]:
            symbol = next(each for each in symbols(text) if each.split(".")[-1] == function.name)
            find = ast.unparse(node)
            try:
                result = inject(text, [Edit(symbol, find, "")])
            except DoesNotApply as refused:
                assert "matches" in refused.why  # the name stands in several classes, or the statement twice
                continue
            before, after = (
                ast.unparse(ast.parse(text)).splitlines(),
                ast.unparse(ast.parse(result.source)).splitlines(),
            )
            assert len(before) - len(after) in (0, 1)  # 0: `pass` in its place
            assert set(after) - set(before) <= {"        pass", "    pass"}
