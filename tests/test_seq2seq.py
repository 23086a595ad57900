"""From pairs to a run that translates: the task seq2seq, and its commands as a person runs them."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bleu import bleu
from kakehashi import models, runs, texts, tokenizers, training
from kakehashi.cli import console
from kakehashi.data import corpus, read_pairs, sets, training_texts
from kakehashi.inference import translate
from kakehashi.models.protocol import IGNORE
from kakehashi.tokenizers import BPETokenizer, CharTokenizer, UnknownCharacter
from kakehashi.training.tasks import seq2seq

WORDS = ["ab", "ba", "abc", "cab", "bca", "acb", "aab", "bba", "cca", "abab", "bcbc", "cacb"]


@pytest.fixture
def kakehashi(capsys, monkeypatch):
    """kakehashi("show", RUN) -> (stdout, stderr) of the command, which is to leave with `code`."""

    def call(*arguments, code=0, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as left:
            console.run([str(each) for each in arguments])
        assert left.value.code == code
        return capsys.readouterr()

    yield call
    texts.use(None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With FILE.tsv, words and the same words backwards."""
    folder = tmp_path_factory.mktemp("seq2seq")
    text = "\n".join(f"{word}\t{word[::-1]}" for word in WORDS)
    (folder / "backwards.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A run of the smallest Transformer that has learnt the words by heart."""
    name = folder / "small.py"
    text = open(models.find("transformer").path, encoding="utf-8").read()
    start = text.index("PRESETS = {")
    end = text.index("}\n", start) + 2
    small = 'PRESETS = {"small": Config(n_layers=1, n_heads=2, n_embd=32, n_hidden=64, dropout=0.0, norm_first=True)}\n'
    name.write_text(text[:start] + small + text[end:], encoding="utf-8")
    plan = training.plan(name, folder / "backwards.tsv", steps=150, batch_size=11, lr=0.01, eval_every=75, seed=2)
    made = plan.create(folder / "runs", "backwards")
    training.train(made.config, made, sources=plan.sources)
    return made


def test_what_is_right_is_what_greedy_decoding_writes():
    """Of random models: for the texts that they write themselves, and for others that differ in one token."""
    tokenizer = CharTokenizer.train(["abc"])
    family = models.find("transformer")
    for seed in range(12):
        torch.manual_seed(seed)
        model = family.Model(family.Config(tokenizer.vocab_size, 1, 2, 8, 8, dropout=0.0)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.6)
        (found,) = translate(model, tokenizer, ["ab"], beam=1, max_tokens=8)
        written = torch.tensor([found.tokens])
        others = written.repeat(written.shape[1], 1)
        others[range(len(others)), range(len(others))] += 1
        others %= tokenizer.vocab_size
        targets = torch.cat((written, others))
        source = torch.tensor([[*tokenizer.encode("ab"), tokenizer.end]]).expand(len(targets), -1)
        before = torch.cat((torch.full_like(targets[:, :1], tokenizer.end), targets[:, :-1]), 1)
        logits = model(source, before).logits
        assert seq2seq.right(logits, targets).tolist() == [True] + [False] * len(others)
        logits, padded = torch.cat((logits, logits[:, :1]), 1), torch.cat((targets, targets[:, :1] * 0 + IGNORE), 1)
        assert seq2seq.right(logits, padded).tolist() == [True] + [False] * len(others)


def test_a_small_transformer_learns_pairs_and_writes_them(run):
    train, _ = training.open_sources(run.config, run.tokenizer)
    split = training.open_split(run.config)
    model = run.load_model()
    engine = training.TorchEngine()
    measured = training.measure(model, train, engine, right=seq2seq.right)
    assert measured.right == 1 and measured.loss < 0.1
    for beam in (1, 3):
        found = translate(model, run.tokenizer, [source for source, _ in split.train], beam=beam)
        assert [each.text for each in found] == [target for _, target in split.train]
    rows = [row for row in run.metrics() if row["split"] == "val"]
    assert [row["step"] for row in rows] == [0, 75, 150] and all(0 <= row["right"] <= 1 for row in rows)
    assert run.config.data.private and run.config.data.split == "by source text, seed 2, 90/10"


def test_the_weights_of_the_lowest_loss_are_kept_whatever_is_exact(folder, monkeypatch):
    verdicts = iter([True] + [False] * 99)  # of the first evaluation, in one batch, and of those after it
    monkeypatch.setattr(seq2seq, "right", lambda logits, targets: torch.full((len(targets),), next(verdicts)))
    plan = training.plan("transformer", folder / "backwards.tsv", steps=4, eval_every=2)
    run = training.train(plan.config, plan.create(folder / "runs"), sources=plan.sources)
    losses = [row["loss"] for row in run.metrics() if row["split"] == "val"]
    assert min(losses) < losses[0] and run.summary()["val_loss"] == min(losses) and run.summary()["right"] == 0
    kept = training.measure(run.load_model(), plan.sources[1], training.TorchEngine())
    assert kept.loss == pytest.approx(min(losses), rel=1e-5)


def test_a_run_that_goes_on_reads_what_it_was_planned_to_read(folder):
    plan = training.plan("transformer", folder / "backwards.tsv", batch_size=4, steps=3)
    config = plan.create(folder / "runs").config
    for planned, opened in zip(plan.sources, training.open_sources(config, plan.codec), strict=True):
        np.testing.assert_equal(opened.batch(5, 4, 1), planned.batch(5, 4, 1))
    assert plan.config.model.config["vocab_size"] == plan.codec.vocab_size == 4


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(folder):
    class Stop(training.Callback):
        name = "stop"

        def on_step(self, state):
            state.stop = state.step == 3

    settings = {"batch_size": 4, "steps": 6, "checkpoint_every": 2, "schedule": "noam", "preset": "transformer-nano"}
    plan = training.plan("transformer", folder / "backwards.tsv", **settings)
    whole, killed = plan.create(folder / "runs", "whole"), plan.create(folder / "runs", "killed")
    training.train(plan.config, whole, sources=plan.sources)
    with pytest.raises(training.Interrupted):
        training.train(plan.config, killed, [Stop()], sources=plan.sources)
    again = runs.Run.open(killed.path)
    training.train(again.config, again)
    np.testing.assert_equal(again.load_checkpoint().weights, whole.load_checkpoint().weights)
    np.testing.assert_equal(again.load_best(), whole.load_best())


def test_another_runs_weights_are_gone_on_with(run, folder):
    plan = training.plan(None, folder / "backwards.tsv", from_run=run.path, steps=2, batch_size=4, seed=2)
    assert plan.codec == run.tokenizer and plan.config.started_from == run.name and plan.seen == 0


def test_the_parts_of_dates_are_opened_by_name(run):
    plan = training.plan("transformer", "dates", steps=1)
    sizes = {name: training.open_test(plan.config, plan.codec, name).n_items for name in ("test", "unseen")}
    assert sizes == {name: len(part) for name, part in plan.split.apart.items()}
    with pytest.raises(
        training.TrainingError, match="dates has no part 'nothing': it is divided into train, val, test"
    ):
        training.open_test(plan.config, plan.codec, "nothing")
    with pytest.raises(training.TrainingError, match="backwards has no part 'unseen'"):
        training.open_test(run.config, run.tokenizer, "unseen")


def test_a_tokenizer_of_ones_own_is_taken_and_makes_the_run_private(run, folder):
    theirs = run.path / "tokenizer.json"
    plan = training.plan("transformer", folder / "backwards.tsv", tokenizer=theirs, batch_size=4)
    assert plan.codec == run.tokenizer and plan.config.data.private
    assert plan.config.model.config["vocab_size"] == run.tokenizer.vocab_size
    with pytest.raises(training.TrainingError, match="goes with its weights: leave tokenizer .* out"):
        training.plan(None, folder / "backwards.tsv", from_run=run.path, tokenizer=theirs)
    with pytest.raises(UnknownCharacter):
        training.plan("transformer", "dates", tokenizer=theirs)


def test_pairs_are_learnt_in_the_pieces_of_a_bpe(folder, tmp_path):
    bpe = BPETokenizer.train(WORDS * 2, 262)
    file = tokenizers.save(bpe, tmp_path / "bpe.json")
    small = {"preset": "transformer-nano", "tokenizer": file, "steps": 2, "batch_size": 4}
    plan = training.plan("transformer", folder / "backwards.tsv", **small)
    run = training.train(plan.config, plan.create(tmp_path), sources=plan.sources)
    assert run.tokenizer == bpe and run.load_model().config.vocab_size == bpe.vocab_size == 262
    pairs = set()
    for source in training.open_sources(run.config, run.tokenizer):
        for batch in source.whole(5):
            targets = np.where(batch.targets == IGNORE, bpe.end, batch.targets)
            pairs |= set(zip(map(bpe.decode, batch.inputs[0]), map(bpe.decode, targets), strict=True))
    assert pairs == {(word, word[::-1]) for word in WORDS}
    (made,) = translate(run.load_model(), run.tokenizer, ["ab"], max_tokens=5)
    assert made.text == bpe.decode(made.tokens)


def test_a_learners_model_that_could_not_translate_is_refused_before_it_is_trained(folder):
    text = open(models.find("transformer").path, encoding="utf-8").read()
    (folder / "half.py").write_text(text.replace("new_state", "fresh_state"), encoding="utf-8")
    with pytest.raises(training.TrainingError, match=r"half.py: Transformer has no new_state\(source, source_pad\)"):
        training.plan(folder / "half.py", folder / "backwards.tsv")


def test_a_tokenizer_learns_from_both_sides_of_what_is_trained_on(folder, kakehashi, data_dir):
    file = folder / "backwards.tsv"
    name, learnt = training_texts(file, seed=5)
    assert name == "backwards" and set(learnt) == {text for pair in read_pairs(file).split(5).train for text in pair}
    name, learnt = training_texts("multi30k")
    split = read_pairs("multi30k").split(0)
    assert name == "multi30k" and learnt == [text for pair in split.train for text in pair]
    assert training_texts("identifiers")[1] == list(corpus("identifiers").documents)
    out, _ = kakehashi(
        "tokenizer", "train", "--data", file, "--vocab-size", 262, "--out", folder / "pairs.json", "--json"
    )
    said = json.loads(out.splitlines()[-1])
    assert said["data"] == "backwards" and said["characters"] == sum(map(len, training_texts(file)[1]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"window": 64}, "window says nothing to transformer, whose task is 'seq2seq'"),
        ({"schedule": "linear"}, "schedule must be one of cosine, noam, got 'linear'"),
        ({"batch_size": 12}, "batch_size must be at most 11"),
    ],
)
def test_what_means_nothing_here_is_named(settings, said, folder):
    with pytest.raises(training.TrainingError, match=said):
        training.plan("transformer", folder / "backwards.tsv", **settings)


# --- Commands ---


def test_training_tells_the_exact_match_and_shows_pairs(folder, kakehashi):
    made = ("train", "--model", "transformer", "--data", folder / "backwards.tsv", "--steps", "3", "--batch-size", "4")
    out, err = kakehashi(*made, "--schedule", "noam", "--root", folder / "runs", "--json")
    said = json.loads(out.splitlines()[-1])
    assert 0 <= said["right"] <= 1 and "exact match" in err and "kakehashi translate" in err
    page = (Path(said["run"]) / "samples.md").read_text(encoding="utf-8")
    assert "## val\n" in page and "| source / 原文 | wanted / 正解 | written / 出力 |" in page
    assert "backwards" in kakehashi("show", said["run"], "--lang", "ja").out


def test_texts_are_translated_from_the_line_and_from_standard_input(run, kakehashi):
    (source, target), (other, its) = training.open_split(run.config).train[:2]
    out, err = kakehashi("translate", run.path, source, other, "--json")
    found = json.loads(out)["translations"]
    assert [(each["source"], each["text"], each["reason"]) for each in found] == [
        (source, target, "end"),
        (other, its, "end"),
    ]
    assert all(each["score"] <= 0 for each in found) and err.split() == [target, its]
    assert kakehashi("translate", run.path, "--beam", 1, stdin=f"{other}\r\n{source}\n").out.split() == [its, target]


def test_a_run_of_another_task_is_told_in_a_line(run, tmp_path, kakehashi):
    _, err = kakehashi("sample", run.path, code=2)
    assert f"is of the task seq2seq, and this needs one of lm: try `kakehashi translate {run.path} TEXT`" in err
    lm = training.plan("bigram", "identifiers", steps=1).create(tmp_path)
    _, err = kakehashi("translate", lm.path, "a", "--lang", "ja", code=2)
    assert "is of the task lm, and this needs one of seq2seq: try `kakehashi sample" in err


def test_a_set_of_pairs_can_be_looked_at(folder, kakehashi):
    out, err = kakehashi("data", "show", "dates", "--json")
    found = json.loads(out)
    assert found["train"] > 100_000 and found["unseen"] > 2000 and "->  19" in err
    out, err = kakehashi("data", "show", folder / "backwards.tsv", "--json")
    assert (json.loads(out)["train"], json.loads(out)["val"]) == (11, 1) and "ab  ->  ba" in err
    assert (
        "dates holds pairs, and this needs a text" in kakehashi("data", "show", "dates", "--unit", "stream", code=2).err
    )


def test_data_get_says_what_is_fetched_from_where_and_for_what_use(kakehashi, data_dir):
    out = kakehashi("data", "get", "multi30k").out
    for file in sets.known("multi30k").files:
        assert f"{file.url} ({file.size:,} bytes, sha256 {file.sha256})" in out
    assert "none stated: no licence is stated" in out and "train.de.gz" in out.splitlines()[-1]


def test_an_unknown_character_is_named(run, kakehashi):
    assert "unknown character 'z' at place 3" in kakehashi("translate", run.path, "abz", code=2).err


def test_bleu_is_of_cased_text_and_says_how_it_was_made():
    pytest.importorskip("sacrebleu", reason="needs sacrebleu (extra parity)")
    wanted = ["Two men sit on a bench.", "A dog runs through the snow."]
    whole, lower = bleu(wanted, wanted), bleu([text.lower() for text in wanted], wanted)
    assert whole["bleu"] == pytest.approx(100) and lower["bleu"] < 90
    assert "case:mixed" in whole["signature"] and "tok:13a" in whole["signature"]
