"""Training on NumPy alone: the steps of PyTorch from the same weights, and a run like any other."""

import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kakehashi import Mistake, cli, inference, runs, training
from kakehashi.autograd import AutogradError, NotFinite, Tensor, models, no_grad, optim, trace_nan
from kakehashi.training import NumpyEngine, TorchEngine, TrainingError, carried, evaluate, loop, numpy_engine
from kakehashi.training.optim import AdamW

STEPS = 100
TEXT = "".join(np.random.default_rng(0).choice(list("abcd\n"), 600, p=[0.4, 0.3, 0.1, 0.1, 0.1]))
SMALL = {
    "mlp-char": {"n_embd": 5, "n_hidden": 16},
    "lstm-char": {"n_layers": 2, "n_embd": 6, "n_hidden": 8},
    "gpt2-nano": {"block_size": 12, "n_layers": 2, "n_heads": 2, "n_embd": 8, "dropout": 0.0},
}
CASES = {
    "mlp": ("mlp-char", {"window": 8, "clip": 0.5, "accumulate": 2}),
    "lstm": ("lstm-char", {"window": 4, "clip": 0.1}),
    "lstm that carries": ("lstm-char", {"window": 4, "carry": True, "clip": 0.0}),
    "gpt2": ("gpt2-nano", {"clip": 0.5}),
}


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A stream, and the presets of `SMALL` with few units, until the test ends."""
    for name, changes in SMALL.items():
        presets = runs.resolve(name).family.presets
        monkeypatch.setitem(presets, name, replace(presets[name], **changes))
    path = tmp_path / "letters.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def trained(model, text, engine, callbacks=(), **settings):
    plan = training.plan(model, text, **{"engine": engine, "steps": 4, "batch_size": 4, "lr": 3e-3} | settings)
    return training.train(plan.config, plan.create(text.parent / "runs"), callbacks, sources=plan.sources)


def begun(model, text):
    """A run of torch's that has only its first weights, and statistics of a few batches."""
    return trained(model, text, "torch", steps=3, lr=1e-3)


def of_all_steps(run, key):
    return [row[key] for row in run.metrics() if row["split"] == "train"]


@pytest.mark.parametrize("case", CASES)
def test_from_the_same_weights_a_hundred_steps_are_torchs(text, case):
    name, settings = CASES[case]
    start = begun(name, text)
    mine, theirs = (
        trained(None, text, engine, from_run=start.path, steps=STEPS, log_every=1, **settings)
        for engine in ("numpy", "torch")
    )
    losses = of_all_steps(mine, "loss")
    np.testing.assert_allclose(losses, of_all_steps(theirs, "loss"), rtol=1e-4)
    assert len(losses) == STEPS and sum(losses[-10:]) < sum(losses[:10])
    assert mine.summary()["val_loss"] == pytest.approx(theirs.summary()["val_loss"], rel=1e-4)


def test_from_the_same_weights_muon_takes_the_same_steps(text):
    start = begun("gpt2-nano", text)
    losses = [
        of_all_steps(trained(None, text, engine, from_run=start.path, steps=10, log_every=1, optimizer="muon"), "loss")
        for engine in ("numpy", "torch")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("case", CASES)
def test_in_float64_a_hundred_steps_end_with_torchs_parameters(text, case, monkeypatch):
    class DoubleNumpy(NumpyEngine):
        def build(self, *arguments):
            return super().build(*arguments).astype(np.float64)

    class DoubleTorch(TorchEngine):
        def build(self, *arguments):
            return super().build(*arguments).double()

    monkeypatch.setattr(loop, "NumpyEngine", DoubleNumpy)
    monkeypatch.setattr(loop, "TorchEngine", DoubleTorch)
    name, settings = CASES[case]
    start = begun(name, text)
    mine, theirs = (
        trained(None, text, engine, from_run=start.path, steps=STEPS, log_every=1, **settings)
        for engine in ("numpy", "torch")
    )
    np.testing.assert_allclose(of_all_steps(mine, "grad_norm"), of_all_steps(theirs, "grad_norm"), rtol=1e-9)
    if limit := settings["clip"]:
        assert max(of_all_steps(mine, "grad_norm")) > limit
    weights, expected = (run.load_checkpoint().weights for run in (mine, theirs))
    assert list(weights) == list(expected)
    for key, array in expected.items():
        assert weights[key].dtype == array.dtype == np.float64
        np.testing.assert_allclose(weights[key], array, rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", SMALL)
def test_a_run_is_opened_as_one_of_torchs(text, name):
    run = runs.Run.open(trained(name, text, "numpy").path)
    model = run.load_model()
    weights = runs.weights_of(model)
    assert {key: (array.dtype, array.shape) for key, array in run.load_best().items()} == {
        key: (array.dtype, array.shape) for key, array in weights.items()
    }
    _, val = training.open_sources(run.config, run.tokenizer)
    assert evaluate(model, val, TorchEngine()) == pytest.approx(run.summary()["val_loss"], rel=1e-5)
    written = inference.Engine(model, run.tokenizer).generate([""], max_tokens=5)
    assert len(written[0].tokens) <= 5
    resolved = runs.resolve(run.path)
    assert resolved.family.name == run.config.model.name and resolved.model is not None


def test_weights_go_from_engine_to_engine(text):
    first = trained("mlp-char", text, "numpy")
    second = trained(None, text, "torch", from_run=first.path, steps=3)
    third = trained(None, text, "numpy", from_run=second.path, steps=3)
    for before, after in ((first, second), (second, third)):
        start = [row["loss"] for row in after.metrics() if row["split"] == "val"][0]
        assert start == pytest.approx(before.summary()["val_loss"], rel=1e-5)


def test_a_run_without_an_engine_in_its_config_is_torchs(text):
    run = trained("mlp-char", text, "torch")
    old = {name: value for name, value in run.config.train.items() if name != "engine"}
    assert training.TrainSettings.of(old).engine == "torch"


@pytest.mark.parametrize("carry", [False, True])
def test_training_runs_nothing_of_torchs(text, carry):
    class Refuses(TorchDispatchMode):
        def __torch_dispatch__(self, function, *rest):
            raise AssertionError(f"{function} was called")

    plan = training.plan("lstm-char", text, engine="numpy", steps=3, batch_size=4, window=6, carry=carry)
    run = plan.create(text.parent)
    with Refuses():
        with pytest.raises(AssertionError, match="was called"):  # the watch sees what there is
            torch.zeros(1)
        training.train(plan.config, run, sources=plan.sources)
    assert run.summary()["step"] == 3


LEARNERS = "class Model: ...\nclass Config: ...\nTASK = 'lm'\nPRESETS = {'mine': Config()}\n"


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ("bigram", {}, "mlp, recurrent, gpt2 (mlp-char, "),
        ("wavenet-char", {}, "not 'wavenet-char': choose one of them"),
        ("bigram", {"preset": "bigram-char"}, "not 'bigram'"),
        ("mine.py", {}, "mine.py, whose model is written in torch: leave engine out"),
        ("gpt2", {"device": "cuda"}, "device must be cpu with engine numpy, got 'cuda'"),
        ("gpt2", {"device": "mps"}, "device must be cpu with engine numpy, got 'mps'"),
        ("gpt2", {"dtype": "bfloat16"}, "dtype must be float32 with engine numpy, got 'bfloat16'"),
        ("gpt2", {"engine": "cupy"}, "engine must be one of torch, numpy, got 'cupy'"),
        ("gpt2", {"carry": True}, "gpt2 keeps a KVCache"),
    ],
)
def test_what_numpy_cannot_do_is_refused_in_a_line(text, monkeypatch, model, settings, said):
    monkeypatch.chdir(text.parent)
    (text.parent / "mine.py").write_text(LEARNERS, encoding="utf-8")
    with pytest.raises(Mistake) as caught:
        training.plan(model, text, **{"engine": "numpy"} | settings)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_is_one_line_and_nothing_beside_it(text):
    with warnings.catch_warnings(), pytest.raises(TrainingError) as caught:
        warnings.simplefilter("error")
        trained("gpt2-nano", text, "numpy", steps=20, lr=1e30, warmup=0)
    assert "is not finite" in str(caught.value) and "keeps the checkpoint of step 0" in str(caught.value)


@pytest.mark.parametrize("event", ["forward", "backward"])
def test_what_autograd_refuses_in_a_model_of_ours_is_a_bug(text, monkeypatch, event):
    class Broken(NumpyEngine):
        def build(self, *arguments):
            model = super().build(*arguments)
            forward = model.forward

            def changes(*inputs):
                result = forward(*inputs)
                with no_grad():
                    model.ln_f.weight.mul_(2.0)
                return result

            if event == "forward":
                model.wte.forward = lambda tokens: Tensor(np.ones((3, 5)))
            else:
                model.forward = changes
            return model

    monkeypatch.setattr(loop, "NumpyEngine", Broken)
    with pytest.raises(RuntimeError) as caught:
        trained("gpt2-nano", text, "numpy")
    assert not isinstance(caught.value, Mistake) and isinstance(caught.value.__cause__, AutogradError)


def test_who_asks_where_a_nan_comes_from_is_told(text):
    with trace_nan(), pytest.raises(Mistake, match="out of finite numbers") as caught:
        trained("gpt2-nano", text, "numpy", steps=20, lr=1e30, warmup=0)
    assert isinstance(caught.value.__cause__, NotFinite)


def test_gradients_that_are_infinite_are_clipped_as_torchs_are_without_a_word():
    mine, theirs = Tensor([1.0, 2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    mine.grad, theirs.grad = np.array([np.inf, 1.0], np.float32), torch.tensor([np.inf, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norm = NumpyEngine().clip_grad_norm_(optim.AdamW([mine]), 1.0)
    assert norm == TorchEngine().clip_grad_norm_(AdamW([theirs]), 1.0) == np.inf
    np.testing.assert_array_equal(mine.grad, theirs.grad.numpy())


def test_evaluation_remembers_nothing_that_a_backward_would_need(text):
    plan = training.plan("mlp-char", text, engine="numpy")
    resolved, engine = runs.resolve("mlp-char"), NumpyEngine()
    model = engine.build(resolved.family, resolved.config, 0)
    losses = []
    forward = model.forward
    model.forward = lambda *inputs: losses.append(forward(*inputs)) or losses[-1]
    evaluate(model, plan.sources[1], engine)
    assert losses and not any(each.loss.requires_grad for each in losses)


def test_a_carried_state_keeps_the_order_of_its_layers_however_its_arrays_are_listed():
    state = models.RecurrentState([(Tensor([float(i)]), Tensor([-float(i)])) for i in range(12)])
    listed = dict(sorted(carried.named(state).items(), reverse=True))
    assert [[tensor.item() for tensor in layer] for layer in carried.layers(listed | {"rng": 0})] == [
        [i, -i] for i in range(12)
    ]


BLAS_SAYS = """
import ctypes, numpy
library = ctypes.CDLL(numpy._core._multiarray_umath.__file__)
print(library.scipy_openblas_get_num_threads64_() if hasattr(library, "scipy_openblas_get_num_threads64_") else "")
"""


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "1,2"},
        {"OMP_NUM_THREADS": "999"},
        {"OPENBLAS_NUM_THREADS": "0", "OMP_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"},
    ],
)
def test_the_threads_that_are_recorded_are_those_of_blas(monkeypatch, said):
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", BLAS_SAYS], capture_output=True, text=True, check=True)
    if not done.stdout.strip():
        pytest.skip("only where NumPy has the OpenBLAS of its wheels")
    assert int(done.stdout) == numpy_engine.threads()


def test_a_run_records_the_threads_of_its_engine(text, monkeypatch):
    monkeypatch.setattr(numpy_engine, "threads", lambda: 77)
    recorded = {engine: training.plan("mlp-char", text, engine=engine).config.threads for engine in ("torch", "numpy")}
    assert recorded == {"torch": torch.get_num_threads(), "numpy": 77}


def command(*arguments):
    """Run kakehashi in this process; returns its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main([*map(str, arguments)])
    return left.value.code


def test_the_command_trains_on_numpy_and_goes_on_with_it(text, monkeypatch, capsys):
    monkeypatch.chdir(text.parent)
    size = ("--steps", 6, "--batch-size", 4, "--window", 8)
    assert command("train", "--engine", "numpy", "--model", "mlp-char", "--data", text, *size, "--run", "whole") == 0
    assert command("show", "whole", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1])["config"]["train"]["engine"] == "numpy"
    assert re.search(r"engine\s.*numpy", shown.err)

    assert command("train", "--resume", "whole", "--engine", "torch") == 2
    assert "--engine: the run whole decides that" in " ".join(capsys.readouterr().err.split())

    assert command("train", "--resume", "whole") == 0
    assert "threads" not in capsys.readouterr().out
    monkeypatch.setattr(numpy_engine, "threads", lambda: 77)
    assert command("train", "--resume", "whole") == 0
    assert "now there are 77" in " ".join(capsys.readouterr().out.split())
