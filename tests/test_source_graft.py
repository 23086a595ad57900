"""A half-finished file made whole: who wrote what, where tracebacks point, and how a learner's file is loaded."""

import copy
import inspect
import pickle
import sys
import traceback
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from source_cases import REFERENCES

from kakehashi import models
from kakehashi.source import SourceError, blank, compose, composed, load, symbols

PATH = Path(models.__file__).with_name("gpt2.py")
TEXT = REFERENCES["gpt2"]
CLASSES = (
    "LayerNorm",
    "gelu",
    "causal_mask",
    "attention",
    "CausalSelfAttention",
    "MLP",
    "Block",
    "GPT",
    "cross_entropy",
)
STARTER = blank(TEXT, CLASSES)
SMALL = {"vocab_size": 11, "block_size": 8, "n_layers": 2, "n_heads": 2, "n_embd": 8}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.py"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def whole(tmp_path: Path, text: str, mine=None):
    """The module composed of a learner's text and GPT-2, and what it borrowed."""
    path = written(tmp_path, text)
    code, borrowed = compose(text, path, TEXT, PATH, mine)
    return load(path, code), borrowed


def logits(module) -> torch.Tensor:
    torch.manual_seed(0)
    return module.Model(module.Config(**SMALL))(torch.arange(12).view(2, 6) % 11).logits


REFERENCE = logits(load(PATH))


FUNCTIONS = {
    name: [each for each in symbols(TEXT) if each.startswith(f"{name}.")] or [name] for name in CLASSES
}  # class or function -> the functions in it


@settings(max_examples=12)
@given(left=st.lists(st.sampled_from(sorted(sum(FUNCTIONS.values(), []))), unique=True))
def test_whatever_is_left_blank_comes_from_the_reference_and_is_listed(tmp_path_factory, left):
    module, borrowed = whole(tmp_path_factory.mktemp("own"), blank(TEXT, left))
    assert torch.equal(logits(module), REFERENCE)
    wholly = [name for name in CLASSES if set(FUNCTIONS[name]) <= set(left)]
    singly = [each for name in CLASSES if name not in wholly for each in FUNCTIONS[name] if each in left]
    assert sorted(borrowed) == sorted(wholly + singly)


def test_with_only_attention_written_the_rest_is_borrowed(tmp_path):
    text = blank(TEXT, [name for name in CLASSES if name != "CausalSelfAttention"])
    module, borrowed = whole(tmp_path, text)
    assert torch.equal(logits(module), REFERENCE)
    assert borrowed == [name for name in CLASSES if name != "CausalSelfAttention"]


def test_each_line_keeps_its_file_and_number(tmp_path):
    text = blank(TEXT, ["MLP", "Block.forward"]).replace(
        "B, T, C = x.shape", "\n\n        B, T, C = x.shape; assert B != 2"
    )
    module, _ = whole(tmp_path, text)
    own = str(tmp_path / "own.py")
    for thing, path in [
        (module.MLP.forward, str(PATH)),
        (module.Block.forward, str(PATH)),
        (module.Block.__init__, own),
        (module.CausalSelfAttention.forward, own),
        (module.GPT, own),
    ]:
        lines, first = inspect.getsourcelines(thing)
        if thing is not module.GPT:
            assert inspect.getsourcefile(thing) == path
        assert "".join(lines) == "".join(
            Path(path).read_text("utf-8").splitlines(keepends=True)[first - 1 :][: len(lines)]
        )
        assert "NotImplementedError" not in "".join(lines) and f"{thing.__name__}(" in "".join(lines)
    with pytest.raises(AssertionError) as error:
        logits(module)
    frames = [(each.filename, each.line) for each in traceback.extract_tb(error.tb)]
    assert frames[-1] == (own, "B, T, C = x.shape; assert B != 2")
    assert (str(PATH), "x = x + self.attn(self.ln_1(x), state, pad)") in frames


def test_every_line_of_a_whole_file_has_its_number(tmp_path):
    """Also lines inside comprehensions, lambdas and nested functions."""
    reference = (
        "def f():\n    return [\n        (lambda: 1 / x)\n        for x in [0]][0]()\n\n\n"
        "def g():\n    def h():\n        1 / 0\n    h()\n"
    )
    model = tmp_path / "model.py"
    model.write_text(reference, "utf-8")
    path = written(tmp_path, "# one\n# two\ndef f():\n    pass\ndef g(): ...\n")
    code, borrowed = compose(path.read_text("utf-8"), path, reference, model, None)
    module = load(path, code)
    for function, line in ((module.f, 3), (module.g, 9)):
        with pytest.raises(ZeroDivisionError) as error:
            function()
        last = traceback.extract_tb(error.tb)[-1]
        assert (last.filename, last.lineno) == (str(model), line)
    assert borrowed == ["f", "g"]


@pytest.mark.parametrize("symbol", CLASSES)
def test_one_symbol_is_graded_and_all_else_is_the_references(tmp_path, symbol):
    """Everything else the learner wrote is wrong, and does not matter."""
    wrong = blank(TEXT, [name for name in CLASSES if name != symbol]).replace(
        "raise NotImplementedError(", "return str("
    )
    module, borrowed = whole(tmp_path, wrong, [symbol])
    assert torch.equal(logits(module), REFERENCE)
    assert symbol not in borrowed and {*CLASSES} - {symbol} <= {*borrowed}


def test_a_fault_in_the_graded_symbol_shows_and_one_beside_it_does_not(tmp_path):
    faulty = TEXT.replace("0.044715", "0.5")
    assert not torch.equal(logits(whole(tmp_path, faulty, ["gelu"])[0]), REFERENCE)
    assert torch.equal(logits(whole(tmp_path, faulty, ["MLP"])[0]), REFERENCE)


@pytest.mark.parametrize("mine", [["CausalSelfAttention"], ["CausalSelfAttention.forward"], ["MLP", "gelu"], ["GPT"]])
@pytest.mark.parametrize("text", [STARTER, "", STARTER.replace("raise NotImplementedError", "pass;"), "x = 1"])
def test_an_empty_file_is_refused_and_not_graded_as_the_reference(tmp_path, mine, text):
    with pytest.raises(SourceError, match=f"own.py: still to be written: .*{mine[0]}"):
        compose(text, tmp_path / "own.py", TEXT, PATH, mine)


def test_helpers_imports_and_another_style_of_the_learner_stay(tmp_path):
    own = '''"""Mine."""
import math as m

SCALE = m.sqrt(2 / m.pi)

def twice(x):
    return 2 * x

def gelu(x):
    return x * (1 + torch.tanh(SCALE * (x + 0.044715 * x * x * x))) / twice(1)
'''
    for mine in (["gelu"], None):
        module, borrowed = whole(tmp_path, own, mine)
        assert torch.allclose(logits(module), REFERENCE, atol=1e-5)
        assert "gelu" not in borrowed and "GPT" in borrowed and module.__doc__ == "Mine."
        assert inspect.getsourcefile(module.gelu) == str(tmp_path / "own.py")


def test_what_is_not_needed_is_not_borrowed(tmp_path):
    gone = TEXT[: TEXT.index("# The same by torch's kernels")] + "Model = GPT\n"
    own = (
        gone.replace("fused_attention if config.fused else attention", "attention")
        .replace("fused_gelu if config.fused else gelu", "gelu")
        .replace("FusedLayerNorm if config.fused else LayerNorm", "LayerNorm")
    )
    assert whole(tmp_path, own)[1] == []
    module, borrowed = whole(tmp_path, gone)
    assert borrowed == ["fused_attention", "fused_gelu", "FusedLayerNorm"]
    assert torch.equal(logits(module), REFERENCE)


def test_a_name_bound_by_assignment_is_written(tmp_path):
    own = blank(TEXT, []).replace("def gelu(", "def old_gelu(") + "\ngelu = old_gelu\n"
    assert whole(tmp_path, own)[1] == []
    assert whole(tmp_path, own, ["gelu"])[1].count("gelu") == 0


LAYERED = '''from __future__ import annotations
import functools

class Base:
    def name(self) -> Late:
        return "base"

class Child(Base):
    @property
    def value(self):
        return self._v
    @value.setter
    def value(self, v):
        self._v = v + 1
    @functools.lru_cache(maxsize=2)
    def name(self):
        """Doc."""
        text = """
 two
lines"""
        return "child of " + super().name() + text

Late = Child
'''


@pytest.mark.parametrize("indent", ["  ", "\t", "        "])
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_methods_are_borrowed_into_any_indentation(tmp_path, indent, line_break, mark):
    own = (
        'class Base:\n    def name(self): return "own base"\n\nclass Child(Base):\n    mine = 1\n'
        "    @property\n    def value(self): ...\n    @value.setter\n    def value(self, v):\n        pass\n"
        "    def other(self):\n        return 2\n    def name(self):\n        raise NotImplementedError"
    )
    own = mark + own.replace("    ", indent).replace("\n", line_break)
    path = written(tmp_path, own)
    (tmp_path / "reference.py").write_text(LAYERED, "utf-8")
    code, borrowed = compose(own, path, LAYERED, tmp_path / "reference.py", None)
    text, same = composed(own, LAYERED)
    assert borrowed == same == ["Child.value", "Child.name"]
    assert line_break == "\n" or text.count("\n") == text.count("\r\n")
    for module in (load(path, code), load(written(tmp_path, text))):
        child = module.Child()
        child.value = 1
        assert (child.value, child.other(), child.mine) == (2, 2, 1)
        assert child.name() == "child of own base\n two\nlines"


def test_what_is_borrowed_may_name_what_the_learner_defines_further_down(tmp_path):
    reference = "class A:\n    x: int = 1\n\ndef f(a: A) -> A:\n    return a\n\ndef g(a: A) -> A:\n    return a\n"
    own = "def f(a):\n    return 2\n\ndef g(a):\n    return 3\n\nclass A:\n    x = 4\n"
    path = written(tmp_path, own)
    code, borrowed = compose(own, path, reference, tmp_path / "reference.py", ["A", "f"])
    module = load(path, code)
    assert borrowed == ["g"] and (module.f(1), module.g(1), module.A.x) == (2, 1, 4)


def test_the_composed_text_is_complete_on_its_own(tmp_path):
    text, borrowed = composed(blank(TEXT, ["Block", "attention"]), TEXT)
    assert torch.equal(logits(load(written(tmp_path, text))), REFERENCE)
    assert borrowed == ["attention", "Block"]
    assert composed(TEXT, TEXT) == (TEXT, [])
    assert composed(text, TEXT) == (text, [])


def test_a_module_is_loaded_under_a_private_name_before_it_runs(tmp_path):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text += "@dataclass\nclass Config:\n    n: int = 3\n"
    path = written(tmp_path, text)
    module = load(path)
    assert module.__name__.startswith("kakehashi_own.own_") and sys.modules[module.__name__] is module
    assert module.Config().n == 3 and module.__file__ == str(path)
    with pytest.raises(pickle.PicklingError, match="kakehashi_own"):
        pickle.dumps(module.Config(4))
    assert copy.deepcopy(module.Config(4)) == module.Config(4)
    other = load(written(tmp_path, text + "x = 1\n"))
    assert other.__name__ != module.__name__


def test_a_file_that_raises_leaves_no_module_behind(tmp_path):
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load(written(tmp_path, "x = 1\n1 / 0\n"))
    assert {name for name in sys.modules if name.startswith("kakehashi_own")} <= before


@pytest.mark.parametrize(
    "text, line", [("x = 1\ndef f(:\n", 2), ("def f():\n    pass\nreturn 1\n", 3), ("\tx\n  y\n", 1)]
)
def test_a_syntax_error_is_a_mistake_with_file_and_line(tmp_path, text, line):
    path = written(tmp_path, text)
    with pytest.raises(SourceError, match=rf"own\.py:{line}: "):
        load(path)
    with pytest.raises(SourceError, match=rf"own\.py:{line}: "):
        load(path, compose(text, path, TEXT, PATH, None)[0])
