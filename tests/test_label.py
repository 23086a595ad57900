"""Classifiers of texts: an encoder, or any language model, on a table of a person's own."""

import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kakehashi import Mistake, cli, inference, models, texts, tokenizers, training
from kakehashi.data import Batch, DataError, tables
from kakehashi.data.tables import Form, Labelled
from kakehashi.inspection.sides import compare
from kakehashi.runs import Run, RunError
from kakehashi.tokenizers import BPETokenizer, CharTokenizer
from kakehashi.training import Callback, TorchEngine, TrainingError, tasks
from kakehashi.work import predictor

TOPICS = {
    "カード": ("カードを紛失しました", "カードが届きません", "カードの暗証番号を忘れた", "ｶｰﾄﾞを止めてください"),
    "残高": ("残高が合いません", "残高を知りたい", "口座の残高が減った", "残高照会の方法は"),
    "送金": ("送金が遅れています", "送金の手数料は", "海外送金をしたい", "送金を取り消したい"),
}
TINY = {"task": "classify", "text": "本文", "label": "担当", "preset": "encoder-tiny", "batch_size": 16, "lr": 3e-3}
LADDER = {"bigram": {}, "mlp": {}, "wavenet": {}, "recurrent": {"preset": "gru-char"}, "gpt2": {"preset": "gpt2-pico"}}


def tickets(path: Path, n: int = 40) -> Path:
    """A CSV as a Japanese spreadsheet writes it: CP932, quoted line breaks, rows that are not filled in."""
    rng = random.Random(0)
    lines = ["番号,本文,担当"]
    for i in range(n):
        team = list(TOPICS)[i % 3]
        text = f"{rng.choice(TOPICS[team])}、{i} 日前から{rng.choice(('です', 'で困っています', ''))}"
        lines.append(f'{i},"{text}\r\nよろしくお願いします",{team}')
    path.write_bytes("\r\n".join([*lines, "99,,残高", "100,カード,"]).encode("cp932"))
    return path


@pytest.fixture(scope="module")
def csv(tmp_path_factory) -> Path:
    return tickets(tmp_path_factory.mktemp("data") / "tickets.csv")


def trained(csv, folder, model="encoder", **settings) -> Run:
    plan = training.plan(model, csv, **(TINY | {"steps": 4} | settings))
    return training.train(plan.config, plan.create(folder), sources=plan.sources)


@pytest.fixture(scope="module")
def run(csv, tmp_path_factory) -> Run:
    return trained(csv, tmp_path_factory.mktemp("run"), steps=40)


def command(*arguments):
    """Run kakehashi in this process; returns its exit code."""
    with pytest.raises(SystemExit) as left:
        cli.main([*map(str, arguments)])
    return left.value.code


# --- Training ---


def test_a_run_keeps_what_it_takes_to_read_texts_again(run, csv):
    config, form = run.config, run.form
    assert (config.task, config.data.name, config.data.source) == ("label", "tickets", str(csv))
    assert (config.data.text, config.data.label, config.data.block_size) == ("本文", "担当", form.length)
    assert run.private and form.classes == tuple(sorted(TOPICS)) and run.model_config.n_classes == 3
    assert run.model_config.vocab_size == form.tokenizer.vocab_size
    split = training.open_split(config)
    assert split.said == {"empty": 2, "torn": 0, "both": 0, "alike": 0, "alone": 0}
    # no text that is validated on has a say in the tokens
    learnt = type(form.tokenizer).train([row.text for row in split.train], 8000)
    assert learnt.to_dict() == form.tokenizer.to_dict()


def test_the_encoder_learns_and_the_weights_with_the_fewest_errors_are_kept(run):
    rows = [row for row in run.metrics() if row["split"] == "val"]
    assert rows[0]["loss"] == pytest.approx(np.log(3), abs=0.5)
    assert run.summary()["right"] == max(row["right"] for row in rows) >= 0.75


def test_what_is_counted_while_training_is_what_classify_answers(run):
    split = training.open_split(run.config)
    answers = inference.classify_texts(run.load_model(), run.form, [row.text for row in split.val], n=1)
    right = np.mean([answer[0][0] == row.label for answer, row in zip(answers, split.val, strict=True)])
    val = training.open_sources(run.config, run.codec, split)[1]
    assert training.measure(run.load_model(), val, TorchEngine(), 3, tasks.right(run)).right == right
    assert run.summary()["right"] == right


def test_training_goes_on_from_a_run_with_its_classes_and_tokens(run, csv, tmp_path):
    plan = training.plan(None, csv, from_run=run.path, seed=5, text="本文", label="担当", steps=1)
    assert plan.codec.to_dict() == run.codec.to_dict() and plan.seen > 0.5 and plan.config.data.private
    other = tmp_path / "other.csv"
    other.write_text("text,label\na,x\nb,x\nc,y\nd,y\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"other has 2 classes \(x, y\), and the weights were made for 3 classes"):
        training.plan(None, other, from_run=run.path)
    with pytest.raises(TrainingError, match="the tokenizer of .* goes with its weights"):
        training.plan(None, csv, from_run=run.path, tokenizer="b.json")
    lm = training.plan("bigram", csv, encoding="cp932", steps=1)
    lm = training.train(lm.config, lm.create(tmp_path), sources=lm.sources)
    with pytest.raises(TrainingError, match="task classify does not go with the weights of .*, whose task is 'lm'"):
        training.plan(None, csv, from_run=lm.path, task="classify")


def test_a_changed_table_is_not_gone_on_with(tmp_path):
    csv = tickets(tmp_path / "tickets.csv")
    config = training.plan("encoder", csv, **TINY, steps=1).config
    csv.write_bytes(csv.read_bytes() + "\r\n7,カード,カード".encode("cp932"))
    with pytest.raises(TrainingError, match="has changed since the run began"):
        training.open_split(config)


def test_a_tokenizer_of_ones_own_is_taken(csv, tmp_path):
    pieces = BPETokenizer.train(["カード カード 残高"], 270)
    path = tokenizers.save(pieces, tmp_path / "bpe.json")
    plan = training.plan("encoder", csv, **TINY, tokenizer=path, steps=1)
    assert plan.codec.tokenizer.to_dict() == pieces.to_dict()
    assert plan.config.model.config["vocab_size"] == pieces.vocab_size


def test_training_never_reads_the_test(data_dir, tmp_path, monkeypatch):
    in_bytes = tokenizers.save(BPETokenizer.train(["a"], 257), tmp_path / "bytes.json")  # which takes no time to learn
    read, parts = tables.read, []
    monkeypatch.setattr(tables, "read", lambda *given: parts.append([*given, "train"][4:][0]) or read(*given))
    plan = training.plan("encoder", "banking77", preset="encoder-tiny", tokenizer=in_bytes, steps=1)
    assert set(parts) == {"train"}
    test = training.open_test(plan.config, plan.codec)
    assert parts[-1] == "test" and test.n_items == 3080
    with pytest.raises(TrainingError, match="banking77 has no part 'unseen'"):
        training.open_test(plan.config, plan.codec, "unseen")


def left_by(run: Run) -> dict:
    files = [run.path / "model.safetensors", run.path / "texts.json", *sorted(run.path.glob("checkpoint/**/*"))]
    rows = [{key: value for key, value in row.items() if key != "time"} for row in run.metrics()]
    return {"rows": rows} | {str(path.relative_to(run.path)): path.read_bytes() for path in files if path.is_file()}


def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_bits(csv, tmp_path):
    class Stopped(Exception):
        pass

    class Stop(Callback):
        def on_step(self, state):
            if state.step == 5:
                raise Stopped

    settings = TINY | {"steps": 8, "eval_every": 2, "log_every": 2}
    plan = training.plan("encoder", csv, **settings)
    whole = training.train(plan.config, plan.create(tmp_path / "whole"), sources=plan.sources)
    stopped = plan.create(tmp_path / "stopped")
    with pytest.raises(Stopped):
        training.train(stopped.config, stopped, [Stop()])
    assert len(stopped.metrics()) < len(whole.metrics())
    opened = Run.open(stopped.path)
    training.train(opened.config, opened)
    assert left_by(opened) == left_by(whole)


# --- A language model as a classifier ---


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    """Which of two letters comes more often, in texts of several lengths: all of a text must be kept in mind."""
    rng = random.Random(1)
    texts = ["".join(rng.choices("ab", odds, k=rng.randint(5, 9))) for odds in ((3, 1), (1, 3)) for _ in range(60)]
    rows = [{"text": each, "label": "a" if each.count("a") * 2 > len(each) else "b"} for each in texts]
    path = tmp_path_factory.mktemp("letters") / "letters.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chars(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "chars.json"
    path.write_text(json.dumps(CharTokenizer.train(["ab"]).to_dict()), encoding="utf-8")
    return path


@pytest.mark.parametrize("model, preset, steps", [("recurrent", "gru-char", 40), ("gpt2", "gpt2-pico", 60)])
def test_a_language_model_learns_to_name_the_class(letters, chars, tmp_path, model, preset, steps):
    settings = {"preset": preset, "tokenizer": chars, "steps": steps, "lr": 5e-3}
    plan = training.plan(model, letters, task="classify", **settings)
    made = training.train(plan.config, plan.create(tmp_path), sources=plan.sources)
    assert made.config.task == "label" and made.model_config.vocab_size == 3 + 2
    assert made.summary()["right"] >= 0.8
    split = training.open_split(made.config)
    texts = [row.text for row in split.val]
    together = inference.text_logits(made.load_model(), made.form, texts)
    alone = torch.cat([inference.text_logits(made.load_model(), made.form, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.shape == (len(texts), 2)


@pytest.mark.parametrize("model", LADDER)
def test_padding_changes_no_answer_of_any_language_model(letters, chars, model):
    plan = training.plan(model, letters, task="classify", tokenizer=chars, steps=1, **LADDER[model])
    torch.manual_seed(0)
    family = models.find(model)
    net = family.Model(family.Config(**plan.config.model.config)).eval()
    texts = ["ab", "", "abbab", "b"]
    together = inference.text_logits(net, plan.codec, texts)
    alone = torch.cat([inference.text_logits(net, plan.codec, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    # the same by hand: END, the text, and what comes next
    text = plan.codec.encode("ab")[: plan.codec.length]
    by_hand = net(torch.tensor([text])).logits[0, -1, -2:]
    assert torch.allclose(together[0], by_hand, atol=1e-5)


def test_only_the_classes_are_chosen_among():
    form = Form(("x", "y"), CharTokenizer.train(["ab"]), 9)
    logits = torch.zeros(1, 2, 5)
    logits[0, -1] = torch.tensor([9.0, 0, 0, 1, 2])  # END is likelier than both classes
    batch = Labelled([tables.Row("a", "y")], form, left=True).batch(0, 1, 0)
    assert tasks.of("label").right(logits, torch.from_numpy(batch.targets), 2).tolist() == [True]
    found = inference.class_logits(lambda tokens, **_: models.protocol.Output(logits), Batch((0,), None, 1), 2)
    assert found.tolist() == [[1, 2]]


def test_a_learners_language_model_classifies_as_it_stands(letters, chars, tmp_path):
    own = tmp_path / "my_gru.py"
    own.write_text(Path(models.find("recurrent").path).read_text(encoding="utf-8"), encoding="utf-8")
    settings = {"preset": "gru-char", "tokenizer": chars, "steps": 4}
    plan = training.plan(own, letters, task="classify", **settings)
    made = training.train(plan.config, plan.create(tmp_path), sources=plan.sources)
    theirs = training.plan("recurrent", letters, task="classify", **settings)
    ours = training.train(theirs.config, theirs.create(tmp_path), sources=theirs.sources)
    assert made.source and made.name.startswith("my_gru-letters")
    texts = ["ab", "bbbb"]
    assert inference.classify_texts(made.load_model(), made.form, texts) == inference.classify_texts(
        ours.load_model(), ours.form, texts
    )


def test_a_learners_encoder_is_compared_with_the_reference(run, tmp_path):
    code = Path(models.find("encoder").path).read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    drawn = compare("encoder", str(tmp_path / "mine.py"))
    assert drawn.kind == "tokens" and drawn.found.equal
    read = compare(str(run.path), str(tmp_path / "mine.py"), text="カードが届きません")
    assert read.kind == "text" and read.shape[0] == 1 and read.found.equal
    (tmp_path / "mine.py").write_text(code.replace("F.relu(self.linear", "F.gelu(self.linear"), encoding="utf-8")
    assert not compare("encoder", str(tmp_path / "mine.py")).found.equal
    with pytest.raises(Mistake, match="a text needs a tokenizer"):
        compare("encoder", str(tmp_path / "mine.py"), text="カード")


# --- Mistakes ---


@pytest.mark.parametrize(
    "model, options, words",
    [
        ("encoder", {"text": "no"}, "has no column 'no': those that its first line names are '"),
        ("encoder", {"window": 9}, "window says nothing to encoder, whose task is 'label': leave it out"),
        ("encoder", {"carry": True}, "carry says nothing to encoder"),
        ("encoder", {"size": 8}, "size says nothing to encoder"),
        ("encoder", {"engine": "numpy"}, "engine numpy has .* not 'encoder'"),
        ("recurrent", {"engine": "numpy"}, "engine numpy trains models to write, not recurrent to classify"),
        ("recurrent", {"window": 64}, "window says nothing to recurrent, whose task is 'label'"),
        ("recurrent", {"task": None}, "text says nothing to recurrent, whose task is 'lm': .* or say task classify"),
        ("resnet20", {}, "text says nothing to resnet20, whose task is 'classify': .* choose the encoder"),
        ("resnet20", {"text": None, "label": None}, "tickets.csv is no folder: give a folder"),
        ("transformer", {}, "transformer translates, and cannot classify"),
        ("encoder", {"task": "lm"}, "task must be classify, got 'lm'"),
        ("encoder", {"batch_size": 99}, "batch_size must be at most"),
    ],
)
def test_a_mistake_is_one_line(csv, model, options, words):
    given = {"task": "classify", "text": "本文", "label": "担当", "steps": 1} | options
    with pytest.raises(Mistake, match=words) as caught:
        training.plan(model, csv, **given)
    assert "\n" not in str(caught.value)


def test_what_classifies_follows_from_the_data(csv):
    assert training.plan(None, csv, **(TINY | {"steps": 1})).config.model.name == "encoder"
    assert training.plan(None, "digits", steps=1).config.model.name == "resnet"
    assert training.plan(None, "digits", task="classify", steps=1).config.model.name == "resnet"
    with pytest.raises(Mistake, match="digits holds no texts with classes"):
        training.plan("encoder", "digits")


def test_a_run_says_what_it_is_not_for(run, tmp_path):
    with pytest.raises(RunError, match=r"learnt to classify texts, not to write: `kakehashi classify .* TEXT`"):
        _ = run.tokenizer
    with pytest.raises(Mistake, match="has no part 'test'"):
        training.open_test(run.config, run.codec)


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda form: form["classes"].pop(), "2 classes"),
        (lambda form: form["classes"].append("zz"), "4 classes"),
        (lambda form: form["tokenizer"]["tokens"].append("zzq"), "and the model has"),
        (lambda form: form["tokenizer"]["tokens"].pop(), "and the model has"),
        (lambda form: form.update(length=form["length"] + 1), "length must be"),
    ],
)
def test_a_form_of_another_size_than_its_model_gives_a_line_not_a_class(run, tmp_path, change, why):
    damaged = shutil.copytree(run.path, tmp_path / "run")
    form = json.loads((damaged / "texts.json").read_text(encoding="utf-8"))
    change(form)
    (damaged / "texts.json").write_text(json.dumps(form), encoding="utf-8")
    with pytest.raises(RunError, match=f"texts.json: .*{why}") as caught:
        _ = Run.open(damaged).form
    assert "\n" not in str(caught.value)


def test_classes_that_are_not_those_of_the_data_are_not_measured(run, tmp_path):
    damaged = shutil.copytree(run.path, tmp_path / "run")
    form = json.loads((damaged / "texts.json").read_text(encoding="utf-8"))
    form["classes"].reverse()
    (damaged / "texts.json").write_text(json.dumps(form), encoding="utf-8")
    opened = Run.open(damaged)
    with pytest.raises(DataError, match="it is another run's"):
        training.open_sources(opened.config, opened.codec)
    with pytest.raises(DataError, match="it is another run's"):
        predictor.report(opened, baseline=False)


def test_weights_that_are_no_numbers_give_a_line_not_a_class(run):
    model = run.load_model()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(Mistake, match="the model predicts NaN"):
        inference.classify_texts(model, run.form, ["カード"])


# --- The commands ---


def test_the_commands_from_a_japanese_csv_to_an_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tickets(Path("tickets.csv"))

    def said(*arguments):
        assert command(*arguments, "--json") == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    def refused(*arguments):
        assert command(*arguments) == 2
        return " ".join(capsys.readouterr().err.split())

    columns = ("--text", "本文", "--label", "担当")
    flags = ("--preset", "encoder-tiny", "--steps", 30, "--batch-size", 16, "--lr", "3e-3", "--no-baseline")
    assert command("train", "--task", "classify", "--data", "tickets.csv", *columns, *flags) == 0
    printed = capsys.readouterr().out
    assert "Rows left out, without a text or a label: 2." in printed and "texts/s" in printed
    assert "kakehashi classify runs/encoder-tickets-0001" in printed and "--split test" not in printed
    assert printed.count("texts to validate on are few") == 1
    made = Run.open("runs/encoder-tickets-0001")
    page = (made.path / "samples.md").read_text(encoding="utf-8")
    split = training.open_split(made.config)
    assert page.count("\n| ") == 1 + min(12, len(split.val)) and f"{made.summary()['right']:.1%} right of" in page

    first, second = said("classify", made.path, "ｶｰﾄﾞが届きません", "カードが届きません")["texts"]
    assert first["classes"] == second["classes"] and sum(each["probability"] for each in first["classes"]) > 0.999
    assert first["classes"][0]["class"] == "カード"
    monkeypatch.setattr("sys.stdin", io.StringIO("残高が合いません\n\n"))
    answers = said("classify", made.path)["texts"]
    assert [each["text"] for each in answers] == ["残高が合いません", ""]

    assert "| text / 文章 | answer / 答え | probability / 確率 | right class / 正しいクラス |" in page
    (made.path / "samples.md").unlink()
    assert command("train", "--resume", made.path, "--no-baseline", "--lang", "ja") == 0
    texts.use(None)
    assert (made.path / "samples.md").read_text(encoding="utf-8") == page
    capsys.readouterr()

    measured = said("eval", made.path)
    assert measured["right"] == made.summary()["right"] and measured["n"] == len(split.val)
    assert said("runs")["runs"][0]["private"] is True
    for lang, words in (("en", "本文, its class in 担当"), ("ja", "本文、クラスは 担当")):
        assert command("show", made.path, "--lang", lang) == 0
        assert words in capsys.readouterr().out
    facts = said("data", "show", "tickets.csv", *columns)
    assert (facts["texts"], facts["empty"], sorted(facts["classes"])) == (40, 2, sorted(TOPICS))

    assert "tickets.csv has no part 'test'" in refused("eval", made.path, "--split", "test")
    assert "kakehashi classify" in refused("sample", made.path)
    assert "has no column 'text'" in refused("train", "--task", "classify", "--data", "tickets.csv")
    assert "says nothing to gpt2" in refused("train", "--data", "tickets.csv", *columns)
    assert "task must be classify, got 'tell'" in refused("train", "--task", "tell")
    assert "--task" in refused("train", "--resume", made.path, "--task", "classify")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("残高".encode("cp932")), encoding="utf-8"))
    assert "standard input is not utf-8" in refused("classify", made.path)
