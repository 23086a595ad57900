"""The GPT in 200 lines against torch's gpt2.py: the same numbers, and mutants that are not; and the file alone."""

import ast
import collections
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kakehashi import Mistake, models, texts
from kakehashi.examples import algorithm, bridge
from kakehashi.tokenizers import CharTokenizer

FILE = Path(algorithm.__file__)
SOURCE = FILE.read_text(encoding="utf-8")
GPT2 = models.find("gpt2")
SIZES = {"vocab_size": 7, "block_size": 6, "n_layers": 2, "n_heads": 2, "n_embd": 6}
STEPS = 3
DOCUMENTS = [[0, 3, 1, 4, 1, 5, 0], [0, 2, 6, 0], [0, 5, 0], [0, 1, 1, 2, 3, 0], [0, 4, 6, 2, 0]]


def torch_model(seed: int = 0, std: float = 0.5) -> torch.nn.Module:
    """Large weights, and random gains and biases: at their first values, 1 and 0, they would hide what is wrong."""
    torch.manual_seed(seed)
    model = GPT2.Model(GPT2.Config(**SIZES)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * std)
    return model


def twin(model: torch.nn.Module, module: ModuleType = algorithm):
    """The same numbers in algorithm.py."""
    scalars = module.GPT(**SIZES)
    bridge.to_scalars(model, scalars)
    return scalars


def numbers(weights, attribute: str = "data") -> torch.Tensor:
    """Values in rows -> a flat tensor."""
    return torch.tensor([getattr(value, attribute) for row in weights for value in row], dtype=torch.float64)


def close(got, expected) -> bool:
    return torch.allclose(torch.as_tensor(got, dtype=torch.float64), expected, rtol=1e-9, atol=1e-9)


def differences(module: ModuleType) -> Iterator[str]:
    """In what a module like algorithm.py differs from gpt2.py: of logits, loss, gradients and steps, in this order."""
    model = torch_model()
    scalars, document = twin(model, module), DOCUMENTS[0]
    out = model(*bridge.padded([document]))
    if not close([[value.data for value in row] for row in scalars.forward(document[:-1])], out.logits[0]):
        yield "logits"
    loss = module.mean(scalars.losses(document))
    if not close(loss.data, out.loss):
        yield "loss"
    loss.backward()
    out.loss.backward()
    if not all(close(numbers(scalars.weights[n], "grad"), p.grad.flatten()) for n, p in model.named_parameters()):
        yield "gradients"
    scalars = twin(model, module)
    mine = list(module.train(scalars, DOCUMENTS, STEPS, bridge.BATCH_SIZE, bridge.LR, *bridge.BETAS))
    theirs = bridge.by_torch(model, DOCUMENTS, STEPS)
    after = [close(numbers(scalars.weights[name]), p.flatten()) for name, p in model.state_dict().items()]
    if not (close(mine, torch.tensor(theirs, dtype=torch.float64)) and all(after)):
        yield "steps"


# --- the same model ---


def test_it_is_torchs_gpt2_in_logits_loss_gradients_and_steps():
    assert list(differences(algorithm)) == []


# what is written -> what a person might write, and what differs first
MUTANTS = {
    "slope of exp": ("(self,), (math.exp(self.data),))", "(self,), (1.0,))", "gradients"),
    "slopes of a product swapped": ("(other.data, self.data)", "(self.data, other.data)", "gradients"),
    "slope of gelu": ("1 + 3 * 0.044715", "1 + 0.044715", "gradients"),
    "slope of a power": ("n * self.data ** (n - 1)", "n * self.data**n", "gradients"),
    "dot without one side": ("(*y, *x))", "(*y, *[0.0 for _ in x]))", "gradients"),
    "gradient set, not added": ("child.grad += grad * slope", "child.grad = grad * slope", "gradients"),
    "oldest first": (", reverse=True", "", "gradients"),
    "no eps in the norm": (" + Value(1e-5)) ** -0.5", ") ** -0.5", "logits"),
    "eps outside the root": (" + Value(1e-5)) ** -0.5", ") ** -0.5 + Value(1e-5)", "logits"),
    "head cut from the embedding": (
        'yield [dot(row, x) for row in self.weights["wte.weight"]]',
        'yield [dot([Value(w.data) for w in row], x) for row in self.weights["wte.weight"]]',
        "gradients",
    ),
    "1 / D": ("Value(D**-0.5)", "Value(1 / D)", "logits"),
    "1 / sqrt(C)": ("Value(D**-0.5)", "Value(C**-0.5)", "logits"),
    "key and value swapped": ("(0, C, 2 * C)", "(0, 2 * C, C)", "logits"),
    "not itself": ("for each in seen])", "for each in seen[:-1] or seen])", "logits"),
    "no positions": ('self.weights["wpe.weight"][position]', 'self.weights["wpe.weight"][0]', "logits"),
    "no bias correction": ("1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)", "1.0, 1.0", "steps"),
    "gradients kept": ("            p.grad = 0.0\n", "", "steps"),
    "no decay": ("+ decay * p.data)", ")", "steps"),
    "no cosine": ("lr * 0.5 * (1 + math.cos(math.pi * step / steps))", "lr", "steps"),
}
PAST = 'state = {f"h.{layer}": [] for layer in range(self.n_layers)}\n'
FUTURE = (
    PAST + "        embedded = [list(map(lambda a, b: a + b, w, p)) for w, p in zip("
    '[self.weights["wte.weight"][t] for t in tokens], self.weights["wpe.weight"])]\n'
    "        for h, seen in state.items():\n"
    '            seen += [self.linear(f"{h}.attn.c_attn", self.norm(f"{h}.ln_1", x)) for x in embedded]\n'
)
MUTANTS["no causality"] = (PAST, FUTURE, "logits")


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_differs_from_torchs_gpt2(name):
    old, new, first = MUTANTS[name]
    assert SOURCE.count(old) == 1
    module = ModuleType("mutant")
    exec(compile(SOURCE.replace(old, new), name, "exec"), module.__dict__)
    assert next(differences(module)) == first


def test_weights_copy_both_ways_by_name():
    source, target = torch_model(1), torch_model(2)
    scalars = twin(source)
    assert sorted(scalars.weights) == sorted(source.state_dict())
    bridge.to_torch(scalars, target)
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_it_begins_as_gpt2_does():
    """Gains 1, biases 0, the rest normal with deviation 0.02, projections into the stream with 0.02 / sqrt(2 L)."""
    weights = algorithm.GPT(vocab_size=40, n_layers=2, n_embd=16).weights
    for name, rows in weights.items():
        values = numbers(rows)
        if "ln_" in name or name.endswith("bias"):
            assert set(values.tolist()) == {float(name.endswith("weight"))}
        else:
            std = 0.02 / 2 if "c_proj" in name else 0.02  # 2 sqrt(L) = 2
            assert abs(values.std().item() / std - 1) < 4 / math.sqrt(2 * len(values))
    again = algorithm.GPT(vocab_size=40, n_layers=2, n_embd=16).weights
    assert all(torch.equal(numbers(rows), numbers(again[name])) for name, rows in weights.items())


def test_a_chain_longer_than_any_recursion_has_its_gradient():
    x = y = algorithm.Value(2.0)
    for _ in range(20_000):
        y = y + x
    y.backward()
    assert x.grad == 20_001


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=9))
def test_softmax_is_a_distribution_however_large_the_numbers(xs):
    chances = [p.data for p in algorithm.softmax([algorithm.Value(x) for x in xs])]
    assert close(chances, torch.tensor(xs, dtype=torch.float64).softmax(0))


# --- the tokenizer, and writing ---


@given(st.lists(st.text(min_size=1), min_size=1), st.randoms())
def test_the_tokenizer_is_char_tokenizer(documents, rng):
    mine, ours = algorithm.CharTokenizer(documents), CharTokenizer.train(documents)
    assert mine.tokens == ours.tokens
    for text in documents:
        ids = mine.encode(text)
        assert ids == ours.encode(text) and mine.decode([0, *ids, 0]) == ours.decode([0, *ids, 0]) == text


def test_what_it_writes_is_drawn_from_the_models_distribution():
    """The first token of 4,000 texts, against torch's softmax: chi-squared with 6 degrees of freedom, p > 1e-6."""
    torch.manual_seed(3)
    config = GPT2.Config(vocab_size=7, block_size=1, n_layers=1, n_heads=1, n_embd=2)
    model = GPT2.Model(config).double()
    with torch.no_grad():
        model.wte.weight.mul_(30)
        chances = model(torch.tensor([[0]])).logits[0, 0].softmax(0).tolist()
    scalars, rng = algorithm.GPT(7, 1, 1, 1, 2), random.Random(0)
    bridge.to_scalars(model, scalars)
    n = 4000
    counts = collections.Counter(scalars.sample(rng)[0] for _ in range(n))
    assert sum((counts[i] - n * p) ** 2 / (n * p) for i, p in enumerate(chances)) < 38
    assert max(chances) / min(chances) > 2


def test_what_it_writes_repeats_with_the_seed_and_ends():
    scalars = twin(torch_model())
    written = [[scalars.sample(rng) for _ in range(8)] for rng in map(random.Random, (1, 1, 2))]
    assert written[0] == written[1] != written[2]
    for tokens in written[0]:
        assert len(tokens) <= SIZES["block_size"] and 0 not in tokens[:-1]
        assert tokens[-1] == 0 or len(tokens) == SIZES["block_size"]


# --- the file ---


def test_it_has_200_lines_at_most_and_imports_the_standard_library_alone():
    lines = SOURCE.splitlines()
    assert len(lines) <= 200 and max(map(len, lines)) <= 120
    for node in ast.walk(ast.parse(SOURCE)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names)


@pytest.fixture
def alone(tmp_path):
    """alone(*arguments) runs a copy of the file that can import nothing but the standard library."""
    shutil.copy(FILE, tmp_path)

    def run(*arguments: str):
        command = [sys.executable, "-S", "-I", "-X", "utf8", "algorithm.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")

    return run


def test_it_runs_alone_and_learns_a_file(alone, tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffemma\r\nolivia\r\n\r\n花子\r\n".encode())
    done = alone("names.txt", "30")
    assert done.returncode == 0 and done.stderr == ""
    first, last, *written = done.stdout.split("\n")[:-1]
    assert first.split()[:2] == ["step", "0"] and last.split()[:2] == ["step", "29"]
    assert float(last.split()[-1]) < float(first.split()[-1]) and len(written) == 20
    assert set("".join(written)) <= set("emmaolivia花子")


def test_without_a_file_it_learns_the_standard_librarys_own_names(alone):
    done = alone("", "1")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 21


def test_a_pipe_that_lacks_a_character_does_not_stop_it(tmp_path):
    (tmp_path / "names.txt").write_text("é\n", encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    command = [sys.executable, FILE, tmp_path / "names.txt", "1"]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="only where pipes send a signal")
def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path):
    (tmp_path / "names.txt").write_text("ada\n", encoding="utf-8")
    command = [sys.executable, FILE, tmp_path / "names.txt", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"step")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.txt"], "absent.txt"),
        (["empty.txt"], "a text a line"),
        (["binary.txt"], "codec"),
        (["good.txt", "many"], "many"),
        (["good.txt", "-5"], "at least 1 step"),
        (["good.txt", "1", "2"], "one file"),
        (["."], "cannot learn ."),
    ],
)
def test_a_mistake_is_one_line(alone, tmp_path, arguments, said):
    for name, content in {"empty.txt": b"\n \n", "binary.txt": b"\xff\xfe\xff", "good.txt": b"emma\n"}.items():
        (tmp_path / name).write_bytes(content)
    done = alone(*arguments)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and said in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="only where a process can be sent Ctrl-C alone")
def test_ctrl_c_ends_it_without_a_word():
    command = [sys.executable, "-m", "kakehashi.examples.algorithm"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    assert process.stdout.readline().startswith("step")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and process.stderr.read() == ""


# --- the bridge ---


def test_the_curves_lie_on_each_other_and_fall():
    curves = bridge.curves(12)
    assert list(curves) == ["algorithm.py", "NumPy", "PyTorch"]
    apart = bridge.differences(curves)
    assert list(apart) == ["algorithm.py", "NumPy"] and max(max(gaps) for gaps in apart.values()) < 1e-9
    losses = curves["PyTorch"]
    assert sum(losses[-4:]) < sum(losses[:4])


@pytest.mark.parametrize("lang", texts.LANGUAGES)
def test_the_picture_holds_every_curve_and_their_differences(lang):
    texts.use(lang)
    try:
        figure = bridge.draw({"a": [3.0, 2.0, 1.0], "b": [3.0, 2.0 + 1e-9, 1.0], "c": [3.0, 2.0, 1.5]})
    finally:
        texts.use(None)
    above, below = figure.axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["a", "b", "c"]
    assert [list(line.get_ydata()) for line in below.lines] == [[0.5], pytest.approx([1e-9, 0.5])]


def test_the_picture_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(bridge, "curves", lambda steps: {"a": [1.0] * steps, "b": [1.0] * steps})
    bridge.main(str(tmp_path / "out.png"), "3")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [["out.txt"], ["out.png", "0"], ["out.png", "x"], ["out.png", "1", "2"]])
def test_a_wrong_call_of_the_bridge_is_a_mistake(arguments):
    with pytest.raises(Mistake, match=r"OUT\.png"):
        bridge.main(*arguments)
