"""Training and using a classifier: its run, its figures, and what of a language model's dials it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kakehashi import cli, inference, runs, training
from kakehashi.data import DataError, images
from kakehashi.data.images import Form
from kakehashi.runs import Run, RunError
from kakehashi.training import Callback, Interrupted, TorchEngine, TrainingError, tasks

TINY = {"size": 4, "batch_size": 16, "lr": 3e-3}


def trained(folder, callbacks=(), **settings) -> Run:
    plan = training.plan("resnet20", **(TINY | {"steps": 4} | settings))
    return training.train(plan.config, plan.create(folder), callbacks, sources=plan.sources)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Of digits of 4 x 4 pixels, long enough for some to be right."""
    return trained(tmp_path_factory.mktemp("run"), steps=30, eval_every=5)


def right_by_hand(model, source) -> float:
    (batch,) = source.whole(10**6)
    with torch.no_grad():
        answers = model(torch.from_numpy(batch.inputs[0])).logits.argmax(-1).numpy()
    return float((answers == batch.targets).mean())


# --- Training ---


def test_a_run_keeps_what_it_takes_to_repeat_it(run):
    config = run.config
    assert (config.task, config.data.name, config.data.source) == ("classify", "digits", "digits")
    assert (config.data.size, config.data.shift, config.data.flip) == (4, 1, False)
    assert config.data.unit is config.data.block_size is config.data.encoding is None
    again = Run.open(run.path)
    assert again.config.data == config.data and again.model_config == run.model_config
    assert again.codec == again.form == run.codec
    train, val = training.open_sources(config, run.codec)
    assert (run.form.classes, run.form.size, run.form.channels) == (tuple("0123456789"), 4, 1)
    assert run.form == Form.of(run.form.classes, train.images)
    assert train.shift == 1 and val.shift == 0


def test_the_accuracy_is_counted_and_the_weights_with_the_fewest_errors_are_kept(run):
    rows = [row for row in run.metrics() if row["split"] == "val"]
    assert len(rows) == 7 and all(0 <= row["right"] <= 1 for row in rows)
    best = max(row["right"] for row in rows)
    kept = [row for row in rows if row["right"] == best][-1]
    assert run.summary()["right"] == best > 0.2 and run.summary()["val_loss"] == kept["loss"]
    val = training.open_sources(run.config, run.codec)[1]
    assert right_by_hand(run.load_model(), val) == best
    measured = training.measure(run.load_model(), val, TorchEngine(), 50, tasks.of("classify").right)
    assert measured.right == best and measured.loss == pytest.approx(kept["loss"], rel=1e-5)


def test_the_weights_with_the_fewest_errors_are_kept_whatever_the_loss(tmp_path, monkeypatch):
    verdicts = iter([True] + [False] * 99)  # of the first evaluation, in one batch, and of those after it
    monkeypatch.setattr(
        tasks.of("classify"), "right", lambda logits, targets: torch.full((len(targets),), next(verdicts))
    )
    made = trained(tmp_path, batch_size=142, steps=6, eval_every=3)
    losses = [row["loss"] for row in made.metrics() if row["split"] == "val"]
    assert losses[-1] < losses[0] == made.summary()["val_loss"] and made.summary()["right"] == 1


def test_training_never_looks_at_the_test(tmp_path, monkeypatch):
    read, parts = images.read, []
    monkeypatch.setattr(
        images, "read", lambda name, size=None, part="train", *rest: parts.append(part) or read(name, size, part, *rest)
    )
    made = trained(tmp_path)
    training.open_sources(made.config, made.codec)
    assert set(parts) == {"train"}
    test = training.open_test(made.config, made.codec)
    assert parts[-1] == "test" and test.n_items == 360


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(tmp_path):
    class Stop(Callback):
        def on_step(self, state):
            state.stop = state.step == 3

    def left(made):
        files = sorted(path for path in made.path.rglob("*") if path.suffix in (".safetensors", ".json"))
        rows = [{name: value for name, value in row.items() if name != "time"} for row in made.metrics()]
        return {path.relative_to(made.path): path.read_bytes() for path in files}, rows

    settings = {"steps": 6, "eval_every": 2, "shift": 1, "flip": True}
    whole = trained(tmp_path / "whole", **settings)
    with pytest.raises(Interrupted) as stopped:
        trained(tmp_path / "stopped", [Stop()], **settings)
    resumed = Run.open(stopped.value.run.path)
    training.train(resumed.config, resumed)
    assert left(resumed) == left(whole)


@pytest.mark.parametrize(
    "model, options, words",
    [
        ("resnet20", {"window": 9}, "window says nothing to resnet20, whose task is 'classify'"),
        ("resnet20", {"unit": "stream"}, "unit says nothing to resnet20"),
        ("resnet20", {"split": "lecture"}, "split says nothing to resnet20"),
        ("resnet20", {"encoding": "utf-8"}, "encoding says nothing to resnet20"),
        ("resnet20", {"carry": True}, "carry says nothing to resnet20"),
        ("gpt2", {"shift": 1}, "shift says nothing to gpt2, whose task is 'lm'"),
        ("gpt2", {"flip": False}, "flip says nothing to gpt2"),
        ("gpt2", {"size": 8}, "size says nothing to gpt2"),
        ("resnet20", {"shift": 8}, "shift must be at least 0 and below the 8 pixels of an image, got 8"),
        ("resnet20", {"shift": -1}, "shift must be at least 0"),
        ("resnet20", {"size": 0}, "size must be from 1 to 1024 pixels, got 0"),
        ("resnet20", {"engine": "numpy"}, "engine numpy has .* not 'resnet20'"),
        ("resnet20", {"batch_size": 2000}, "batch_size must be at most 1295"),
    ],
)
def test_a_dial_that_means_nothing_to_the_task_is_refused(model, options, words):
    with pytest.raises(TrainingError, match=words) if "size must be from" not in words else pytest.raises(DataError):
        training.plan(model, **options)


def test_each_task_has_data_of_its_own():
    assert training.plan("resnet20", steps=1).config.data.name == "digits"
    assert training.plan("bigram", steps=1).config.data.name == "identifiers"
    with pytest.raises(DataError, match="digits holds images, and this needs a text"):
        training.plan("bigram", "digits")


def test_training_starts_from_a_run_with_its_form(run, tmp_path):
    plan = training.plan(None, "digits", from_run=run.path, seed=5, size=4, steps=1)
    assert plan.codec == run.codec and plan.seen > 0.5
    other = replace(plan.codec, mean=(0.1,))  # what the run learnt with stays, whatever the data say
    (run.path / "images.json").write_text(json.dumps(other.to_dict()), encoding="utf-8")
    try:
        assert training.plan(None, "digits", from_run=run.path, size=4, steps=1).sources[0].form == other
    finally:
        (run.path / "images.json").write_text(json.dumps(run.codec.to_dict()), encoding="utf-8")
    with pytest.raises(
        TrainingError, match="digits are grey images of 8 pixels in 10 classes .* made for grey images of 4"
    ):
        training.plan(None, "digits", from_run=run.path)


def test_a_folder_of_ones_own_is_private_and_must_stay_as_it_was(tmp_path):
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        (tmp_path / "tones" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(low, low + 128, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tones" / name / f"{i}.png")
    plan = training.plan("resnet20", tmp_path / "tones", size=8, steps=2, batch_size=4)
    made = training.train(plan.config, plan.create(tmp_path), sources=plan.sources)
    assert made.private and made.form.classes == ("dark", "light") and made.model_config.n_classes == 2
    with pytest.raises(DataError, match="no part for a test"):
        training.open_test(made.config, made.codec)
    (tmp_path / "tones" / "dark" / "0.png").unlink()
    with pytest.raises(TrainingError, match="has changed since the run began"):
        training.open_split(made.config)


@pytest.mark.parametrize("learnt, tested", [("L", "RGB"), ("RGB", "L")])
def test_a_folders_test_is_brought_to_the_colours_that_were_learnt(learnt, tested, tmp_path):
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    for part, mode in (("train", learnt), ("test", tested)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i, pixels in enumerate(drawn):
                Image.fromarray(pixels + (name == "b")).convert(mode).save(tmp_path / part / name / f"{i}.png")
    plan = training.plan("resnet20", tmp_path, size=8, steps=1, batch_size=4)
    test = training.open_test(plan.config, plan.codec)
    (batch,) = test.whole(12)
    assert batch.inputs[0].shape == (12, 1 if learnt == "L" else 3, 8, 8)
    first = plan.codec.read(tmp_path / "test" / "a" / "0.png")  # as `classify` reads it
    assert np.array_equal(batch.inputs[0][0], plan.codec.numbers(first[None])[0])


def test_a_test_of_other_classes_is_refused(tmp_path):
    for folder in ("train/cat", "train/dog", "test/cat", "test/fox"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (4, 4), 40 * i + len(folder)).save(tmp_path / folder / f"{i}.png")
    plan = training.plan("resnet20", tmp_path, size=4, shift=0, steps=1)
    with pytest.raises(TrainingError, match="the classes to test are cat, fox, and cat, dog were learnt"):
        training.open_test(plan.config, plan.codec)


def test_a_learners_classifier_is_trained_as_ours(tmp_path):
    own = tmp_path / "line.py"
    own.write_text(
        """
from dataclasses import dataclass
import torch.nn.functional as F
from torch import nn
from kakehashi.models.protocol import Output
TASK = "classify"
@dataclass(frozen=True)
class Config:
    n_classes: int = 10
    n_channels: int = 1
PRESETS = {"line": Config()}
class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head = nn.Linear(16 * config.n_channels, config.n_classes)
    def forward(self, x, targets=None):
        logits = self.head(x.flatten(1))
        return Output(logits, None if targets is None else F.cross_entropy(logits, targets))
""",
        encoding="utf-8",
    )
    plan = training.plan(own, **(TINY | {"steps": 40, "lr": 0.1, "shift": 0}))
    made = training.train(plan.config, plan.create(tmp_path), sources=plan.sources)
    assert made.summary()["right"] > 0.5 and made.source


# --- Use ---


def test_classify_gives_the_likeliest_classes_of_each_file(run, tmp_path):
    test = images.read("digits", 4, "test").images
    paths = [tmp_path / f"{i}.png" for i in range(70)]
    for path, pixels in zip(paths, test.pixels, strict=False):
        Image.fromarray(pixels[..., 0]).save(path)
    model = run.load_model()
    answers = inference.classify(model, run.form, paths)
    with torch.no_grad():
        chances = model(torch.from_numpy(run.form.numbers(test.pixels[:70]))).logits.softmax(-1).numpy()
    for answer, row in zip(answers, chances, strict=True):
        assert [name for name, _ in answer] == [str(k) for k in np.argsort(-row)[:3]]
        assert [p for _, p in answer] == pytest.approx(np.sort(row)[::-1][:3], abs=1e-5)
    assert [len(each) for each in inference.classify(model, run.form, paths[:2], n=99)] == [10, 10]


def test_confusion_counts_every_image_once(run):
    source = training.open_test(run.config, run.codec)
    table = inference.confusion(run.load_model(), source, 10)
    assert table.sum(1).tolist() == np.bincount(source.images.labels).tolist()
    assert table.trace() / table.sum() == pytest.approx(right_by_hand(run.load_model(), source))


def test_a_run_says_what_it_is_not_for(run, tmp_path):
    with pytest.raises(RunError, match="learnt to classify images, not to write"):
        _ = run.tokenizer
    plan = training.plan("bigram", steps=1)
    with pytest.raises(RunError, match="learnt from text, not from images"):
        _ = plan.create(tmp_path).form
    with pytest.raises(TrainingError, match="identifiers has no part "):
        training.open_test(plan.config, plan.codec)
    with pytest.raises(TrainingError, match="there is no training for the task 'dream': the tasks are "):
        tasks.of("dream")


def test_weights_of_convolutions_are_stored_as_torch_lays_them_out(run):
    """In training their channels lie side by side; a file read by other tools must not."""
    arrays = runs.weights_of(run.load_model())
    assert all(np.array_equal(arrays[name], value) for name, value in run.load_best().items())
    assert run.load_best()["stem.conv.weight"].shape == (16, 1, 3, 3)


# --- The commands ---


def command(*arguments):
    """Run kakehashi in this process; returns its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main([*map(str, arguments)])
    return left.value.code


def test_the_commands_from_training_to_an_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def said(*arguments):
        assert command(*arguments, "--json") == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    def refused(*arguments):
        assert command(*arguments) == 2
        return " ".join(capsys.readouterr().err.split())

    flags = ("--size", 4, "--steps", 6, "--batch-size", 32, "--shift", 1, "--no-flip")
    assert command("train", "--model", "resnet20", *flags) == 0
    printed = capsys.readouterr().out
    assert "right)" in printed and "images/s" in printed and "kakehashi classify runs/resnet-digits-0001" in printed
    made = Run.open("runs/resnet-digits-0001")
    assert (made.path / "samples.md").read_text(encoding="utf-8").count("\n| ") == 11
    assert not (made.path / "tokenizer.json").exists()

    pixels = images.read("digits", part="test").images.pixels[0, ..., 0]
    Image.fromarray(pixels).resize((40, 40)).convert("RGB").save("two.jpg")
    first, second = said("classify", made.path, "two.jpg", "two.jpg")["images"]
    assert first == second and first["image"] == "two.jpg" and len(first["classes"]) == 3
    assert first["classes"][0]["probability"] >= first["classes"][1]["probability"] > 0

    measured = said("eval", made.path, "--split", "test")
    source = training.open_test(made.config, made.codec)
    assert measured["n"] == 360 and measured["right"] == pytest.approx(right_by_hand(made.load_model(), source))
    assert said("runs")["runs"][0]["right"] == made.summary()["right"]
    assert command("show", made.path) == 0
    shown = capsys.readouterr().out
    assert "resnet20" in shown and "shifted by up to 1 pixels" in shown and f"{made.summary()['right']:.1%}" in shown

    Path("text.png").write_text("hello", encoding="utf-8")
    assert "text.png is no PNG or JPEG image" in refused("classify", made.path, "text.png")
    assert "there is no file none.png" in refused("classify", made.path, "none.png")
    assert f"`kakehashi classify {made.path} IMAGE`" in refused("sample", made.path)
    assert "says nothing to resnet20" in refused("train", "--model", "resnet20", "--window", 9)
