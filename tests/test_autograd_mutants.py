"""The tests of the engine, tested: each wrong engine below is caught by those of test_autograd."""

import importlib.util
import itertools
import random
import sys
import types
from pathlib import Path

import pytest
from autograd_cases import CASES, agrees

import kakehashi.autograd

SOURCE = Path(kakehashi.autograd.__file__).parent
NUMBERS = itertools.count()

# what is wrong: (file, what stands there, what the mutant has)
MUTANTS = {
    "what was broadcast is not summed back": (
        "walk",
        "share = sum_to(sound(node, gradient(g, *made), shape), shape)",
        "share = gradient(g, *made)",
    ),
    "only axes in front are summed back": ("walk", "(*range(new), *stretched)", "tuple(range(new))"),
    "= for += where shares meet": (
        "walk",
        "sums[below] = ops.add(sums[below], share)",
        "sums[below] = share",
    ),
    "= for += from the third share on": (
        "walk",
        "sums[below].data += share.data",
        "sums[below].data = share.data",
    ),
    "a share of another node is added to in place": (
        "walk",
        "elif below in ours:",
        "elif not create_graph:",
    ),
    "= for += in .grad": ("tensor", "leaf.grad += g.data", "leaf.grad = g.data.copy()"),
    ".grad is a view of another's": (
        "tensor",
        "leaf.grad = np.array(g.data, dtype=leaf.dtype)",
        "leaf.grad = np.asarray(g.data, dtype=leaf.dtype)",
    ),
    "sums leave no trace for a second derivative": (
        "walk",
        "if not create_graph:",
        "if True:",
    ),
    "a node is visited at its first share": ("walk", "if waits[below] == 0:", "if sums[below] is share:"),
    "changes are not counted": ("tensor", "self.version.count += 1", "pass"),
    "a view has a version of its own": ("tensor", "out.version = view_of.version", "pass"),
    "a result that is read is not watched": (
        "tensor",
        "out.node.output = (out.data, out.version, out.version.count)",
        "out.node.output = (out.data, Version(), 0)",
    ),
    "a fused op does not watch its inputs": (
        "tensor",
        "held: list[Any] = [x for x, _ in edges]\n            self.composed = (composed, held)",
        "held: list[Any] = []\n            self.composed = (composed, [x for x, _ in edges])",
    ),
    "a fused op is given its own inputs": (
        "walk",
        "stand_ins = [ops.identity(x) for x in given]",
        "stand_ins = given",
    ),
    "graphs are never freed": ("walk", "                vertex.free()", "                pass"),
    "what a hook returns is lost": ("walk", "g = hooked(hook, g)", "hooked(hook, g)"),
    "gradients keep the dtype of the result": (
        "walk",
        "share if share.dtype == dtype else",
        "share if True else",
    ),
    "an index is kept, not copied": (
        "ops",
        "index, shape = _own(index), x.shape",
        "index, shape = plain(index), x.shape",
    ),
    "factors swapped": ("ops", '"mul", out, (x, lambda g: g * y)', '"mul", out, (x, lambda g: g * x)'),
    "no sign in a difference": (
        "ops",
        '"sub", out, (x, lambda g: g), (y, lambda g: -g)',
        '"sub", out, (x, lambda g: g), (y, lambda g: g)',
    ),
    "a quotient's divisor not squared": ("ops", "-g * x / (y * y)", "-g * x / y"),
    "tanh's slope without the square": ("ops", "g * (1 - y * y)", "g * (1 - y)"),
    "relu's slope at 0": ("ops", "~(y.data <= 0)", "~(y.data < 0)"),
    "the first of equals takes all": ("ops", "hit / hit.sum(axis=dims, keepdims=True)", "hit"),
    "a running sum's gradient runs forward": ("ops", "flip(cumsum(flip(g, dim), dim), dim)", "cumsum(g, dim)"),
    "axes permuted once more, not back": ("ops", "permute(g, back)", "permute(g, order)"),
    "= for += in scatter": ("ops", "np.add.at(out, index, values)", "out[index] = values"),
    "rows added in another order": (
        "ops",
        "values.reshape(places.size, out.shape[1])[order]",
        "values.reshape(places.size, out.shape[1])",
    ),
    "all pieces from the first place": ("ops", "slice(ends[i - 1] if i else 0, ends[i])", "slice(0, x.shape[dim])"),
    "= for += in fold": ("ops", "out[..., rows, columns] += ", "out[..., rows, columns] = "),
    "windows without their stride": (
        "ops",
        "[..., :: stride[0], :: stride[1], :, :]",
        "[..., :: stride[0], :: stride[0], :, :]",
    ),
    "softmax without its sum": ("functional", "y * (g - (g * y).sum(dim, keepdim=True))", "y * (g - g * y)"),
    "softmax's sum along the last axis": (
        "functional",
        "(g * y).sum(dim, keepdim=True)",
        "(g * y).sum(-1, keepdim=True)",
    ),
    "layer_norm keeps the part along x": ("functional", "        d -= normed * along\n", ""),
    "layer_norm's eps outside the root": (
        "functional",
        "scale = 1 / np.sqrt(np.square(normed).mean(-1, keepdims=True) + eps)",
        "scale = 1 / (np.sqrt(np.square(normed).mean(-1, keepdims=True)) + eps)",
    ),
    "gelu's slope without the 3": (
        "functional",
        "(a * a * (3 * 0.044715 * _ROOT) + _ROOT)",
        "(a * a * (0.044715 * _ROOT) + _ROOT)",
    ),
    "the mean over all targets": ("functional", "n = max(len(places), 1)", "n = max(flat.size, 1)"),
    "attention not scaled": ("functional", "q @ k.mT * (1 / math.sqrt(q.shape[-1]))", "q @ k.mT"),
    "the gradient of a linear layer's weight turned": (
        "functional",
        "ops.rows(g).mT @ ops.rows(x)",
        "(ops.rows(x).mT @ ops.rows(g)).reshape(weight.shape)",
    ),
    "the unbiased variance normalises": ("functional", "x.var(dims, correction=0)", "x.var(dims, correction=1)"),
}
SLOW = ("deep", "circle", "memory_is_flat", "dropout")  # in the names of tests that do without


def load(folder: Path, file: str = "", old: str = "", new: str = ""):
    """The engine with one change, under a name of its own, and its tests, which import that one."""
    name = f"engine_{next(NUMBERS)}"
    for path in SOURCE.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.stem == file:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}.py"
            text = text.replace(old, new)
        target = folder / name / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(text.replace("kakehashi.autograd", name), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(
        name, folder / name / "__init__.py", submodule_search_locations=[str(folder / name)]
    )
    sys.modules[name] = engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    text = Path(__file__).with_name("test_autograd.py").read_text(encoding="utf-8")
    tests = types.ModuleType(f"{name}_tests")
    exec(text.replace("kakehashi.autograd", name), vars(tests))
    return engine, tests


def run(engine, tests) -> None:
    """The tests of test_autograd in short."""
    for name, test in vars(tests).items():
        if not name.startswith("test_") or any(word in name for word in SLOW):
            continue
        parameters = [mark.args[1] for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for arguments in parameters[0] if parameters else [()]:
            if isinstance(arguments, tuple):  # else a case, below
                test(*arguments)
    for seed, case in itertools.product(range(8), CASES.values()):
        r = random.Random(seed)
        agrees(engine, case(r), r)


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in [name for name in sys.modules if name.startswith("engine_")]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_engine_itself_passes(tmp_path):
    run(*load(tmp_path))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("wrong", MUTANTS)
def test_a_wrong_engine_is_caught(wrong, tmp_path):
    engine, tests = load(tmp_path, *MUTANTS[wrong])
    with pytest.raises((Exception, pytest.fail.Exception)):
        run(engine, tests)
