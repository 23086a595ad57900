"""The exported tool: it runs without us, answers as the run does, whatever it is fed, and leaves only after review."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from predictor_cases import STRANGERS, clinc, trained_run

from kakehashi import models, texts, training
from kakehashi.cli import predictor as face
from kakehashi.inference import text_logits
from kakehashi.paths import TEMPORARY
from kakehashi.runs import Run, weights_of
from kakehashi.tokenizers import CharTokenizer, WordPieceTokenizer, save
from kakehashi.tokenizers.wordpiece import words
from kakehashi.work import predictor
from kakehashi.work.predictor import PredictorError, certainty, exporting, review
from kakehashi.work.predictor import tool as module
from kakehashi.work.predictor.reviewing import is_telling

TEXTS = [
    "my card is lost",
    "",
    "ｶｰﾄﾞが届かない",
    "カードが届かない",
    "ＰＩＮを忘れた",
    "  \n ",
    *STRANGERS,
    "送金 " * 30_000,
]
PIECES = WordPieceTokenizer.train(
    ["my card's lost, カードが届かない 架け橋 straße abc ガ" + mark for mark in ".!?"], 150
)
# what runs a file as a program while nothing but NumPy and the standard library can be imported, and no socket opened
GUARD = """
import runpy, socket, sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in (*sys.stdlib_module_names, "numpy"):
            raise ImportError(f"{name} is neither NumPy nor of the standard library")
def refuse(*given, **named):
    raise OSError("a socket was opened")
sys.meta_path.insert(0, Only())
socket.socket = refuse
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(folder: Path) -> list[str]:
    return [sys.executable, "-I", "-c", GUARD, str(folder / "tool.py")]


def ask(folder: Path, lines: bytes) -> list[dict]:
    """What the tool answers, where the locale knows ASCII alone."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(command(folder), input=lines, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return trained_run(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def tool(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tools") / "made" / "tool"
    predictor.export(run, folder, reviewed=True)
    return folder


# --- The tool ---


def test_it_answers_as_the_run_without_anything_but_numpy(run, tool):
    settings = json.loads((tool / "tool.json").read_text(encoding="utf-8"))
    logits = text_logits(run.load_model(), run.codec, TEXTS).numpy()
    probabilities = certainty.softmax(logits, settings["temperature"])
    answers = ask(tool, "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode("utf-8"))
    for answer, chances in zip(answers, probabilities, strict=True):
        assert answer["label"] == run.codec.classes[chances.argmax()]
        assert answer["score"] == pytest.approx(chances.max(), abs=1e-5)
        assert answer["abstain"] == (answer["score"] < settings["threshold"])
    assert answers[2] == answers[3]  # half-width kana


def test_a_line_that_is_wrong_is_answered_and_the_next_one_is_read(tool):
    good = '{"text": "カードを忘れた"}'.encode()
    bad = [b"", b"{", b"\xff\xfe", b"5", b"null", b"{}", b'{"text": 5}', b"[" * 100_000, b"1" * 5000, b"NaN"]
    told, string, *errors, last = ask(tool, b"\n".join(["\ufeff".encode() + good, good[9:-1], *bad, good]))
    assert told == string == last and "label" in told
    assert [list(each) for each in errors] == [["error", "line"]] * len(bad)
    assert [each["line"] for each in errors] == list(range(3, 3 + len(bad)))
    assert all(isinstance(each["error"], str) and each["error"] for each in errors)


def test_surrogates_and_control_characters_are_read(tool):
    answers = ask(tool, rb'"\ud83d \u0000 \u202e card"' + b"\n" + rb'{"text": "\udfff"}' + b"\n")
    assert [set(answer) for answer in answers] == [{"label", "score", "abstain"}] * 2


def test_each_answer_comes_at_once(tool):
    with subprocess.Popen(command(tool), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(3):
            process.stdin.write(b'"card"\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] == "card"
        process.stdin.close()
        assert process.wait(30) == 0


def test_the_text_that_the_threshold_was_taken_from_is_answered(run, tool):
    made = predictor.report(run, baseline=False).model
    last = int(np.abs(made.score - made.threshold.value).argmin())
    (answer,) = ask(tool, json.dumps(training.open_split(run.config).val[last].text).encode("utf-8"))
    assert not answer["abstain"]


def test_a_reader_that_leaves_early_is_no_error(tool):
    with subprocess.Popen(
        command(tool), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.stdin.write(b'"card"\n' * 3)
        process.stdin.close()
        assert (process.wait(30), process.stderr.read()) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only where there is a /dev/full")
def test_a_full_disk_is_one_line(tool):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(tool), input=b'"card"\n', stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and done.stderr.startswith(b"tool.py: ") and done.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="only where Ctrl-C is a signal that one process can be sent")
def test_ctrl_c_ends_it_without_a_traceback(tool):
    with subprocess.Popen(
        command(tool), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b'"card"\n')
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, b"")


def test_texts_are_arguments_too_and_what_is_none_gives_the_usage(tool):
    def called(*arguments):
        done = subprocess.run(
            [*command(tool), *arguments], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = called("my card is lost", "カードが届かない")
    assert (code, err) == (0, "")
    lines = [json.dumps(text).encode() for text in ("my card is lost", "カードが届かない")]
    assert [json.loads(line) for line in out.splitlines()] == ask(tool, b"\n".join(lines))
    for flag, expected in (("--help", 0), ("--precision", 2)):
        code, out, err = called(flag)
        assert (code, out) == (expected, "") and "usage: python tool.py TEXT" in err and err.count("\n") == 1


def test_it_is_a_function_too(tool):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from tool import predict; print(predict('PIN')['label'])"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(tool)], capture_output=True, text=True, check=True)
    assert done.stdout == "code\n"


def test_without_a_threshold_it_always_abstains(run, tmp_path, monkeypatch):
    exact = certainty.Threshold.reaching
    never = classmethod(lambda cls, target, score, right: exact(target, score, np.zeros_like(right)))
    monkeypatch.setattr(certainty.Threshold, "reaching", never)
    made = predictor.export(run, tmp_path / "tool", reviewed=True)
    assert made.model.threshold.value is None and made.model.answered == 0
    (answer,) = ask(tmp_path / "tool", b'"my card"\n')
    assert answer["abstain"] is True and answer["label"] == "card"


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("encoder-tiny", {"vocab_size": 20, "n_classes": 4, "n_layers": 2, "n_gram": 5}),
        ("encoder-tiny", {"vocab_size": 20, "n_classes": 4, "n_layers": 0, "n_gram": 1, "block_size": 5}),
        ("recurrent", {"vocab_size": 20, "n_layers": 2, "n_hidden": 24, "cell": "lstm"}),
        ("recurrent", {"vocab_size": 20, "n_layers": 2, "n_hidden": 24, "cell": "gru"}),
        ("recurrent", {"vocab_size": 20, "n_layers": 2, "n_hidden": 24, "cell": "rnn"}),
        ("gpt2-pico", {"vocab_size": 20, "n_layers": 2}),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 9])
def test_numpy_computes_as_torch_does(model, config, n):
    family = models.find(model)
    built = family.Model(replace(family.presets.get(model) or family.Config(), **config)).eval()
    torch.manual_seed(n)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(std=0.5)
        tokens = torch.cat((torch.zeros(1, dtype=torch.int64), torch.randint(2, 20, (n - 1,))))
        expected = built(tokens[None]).logits[0]
    if expected.ndim == 2:  # a language model's
        expected = expected[-1]
    found = module.MODELS[family.name](weights_of(built), asdict(built.config), tokens.numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)


@given(
    st.lists(
        st.text(max_size=20) | st.sampled_from(["カード", "ｶﾞ", "ＡＢＣ", "straße", "İ", "card-holder's"]), max_size=4
    )
)
def test_pieces_are_cut_as_the_tokenizer_cuts_them(words):
    text = " ".join(words)
    assert list(module.wordpiece(PIECES.tokens)(text)) == PIECES.encode(text)


@pytest.mark.parametrize(("model", "reference"), [("lstm-names", "recurrent"), ("gpt2-pico", "gpt2")])
def test_a_language_model_becomes_a_tool_that_answers_as_it_does(model, reference, tmp_path):
    run = trained_run(tmp_path, model, steps=2)
    made = predictor.export(run, tmp_path / "tool", reviewed=True)  # which compares every validation text
    settings = json.loads((tmp_path / "tool" / "tool.json").read_text(encoding="utf-8"))
    assert settings["model"]["name"] == reference
    (answer,) = ask(tmp_path / "tool", json.dumps(training.open_split(run.config).val[0].text).encode("utf-8"))
    assert answer["score"] == pytest.approx(made.model.score[0], abs=1e-5)


def test_a_tokenizer_of_characters_goes_along(tmp_path):
    save(CharTokenizer.train(["".join(map(chr, range(32, 127)))]), tmp_path / "letters.json")
    rows = [f"{word} {i},{label}" for i in range(20) for word, label in (("card", "a"), ("money", "b"))]
    (tmp_path / "ascii.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    plan = training.plan(
        "encoder-tiny", tmp_path / "ascii.csv", task="classify", steps=2, tokenizer=tmp_path / "letters.json"
    )
    run = plan.create(tmp_path)
    training.train(run.config, run, sources=plan.sources)
    predictor.export(run, tmp_path / "tool", reviewed=True)
    known, unknown = ask(tmp_path / "tool", '"card"\n"カード"\n'.encode())
    assert "label" in known and "'カ' was never seen" in unknown["error"]


# --- What cannot become one ---


def learners(folder: Path, change: str) -> Run:
    """A trained run of a learner's file: the encoder, with this put behind it."""
    path = folder / "mine.py"
    path.write_text(Path(models.find("encoder").path).read_text(encoding="utf-8") + change, encoding="utf-8")
    return trained_run(folder, str(path), steps=2)


def test_a_learners_file_that_computes_as_the_reference_becomes_a_tool(tmp_path):
    run = learners(tmp_path, "")
    assert run.config.model.name == "mine"
    predictor.export(run, tmp_path / "tool", reviewed=True)
    assert (tmp_path / "tool" / "tool.py").exists()


def test_one_that_computes_otherwise_is_refused_with_the_first_text(tmp_path):
    change = """
class Other(Encoder):
    def forward(self, tokens, targets=None, *, pad=None):
        found = super().forward(tokens, targets, pad=pad)
        return Output(found.logits + 0.1 * (tokens == tokens[:, -1:]).sum(1, keepdim=True) * found.logits, found.loss)

Model = Other
"""
    run = learners(tmp_path, change)
    first = training.open_split(run.config).val[0].text
    with pytest.raises(PredictorError, match="computes otherwise") as refused:
        predictor.export(run, tmp_path / "tool", reviewed=True)
    assert first[:10] in str(refused.value)
    assert not (tmp_path / "tool").exists() and not list(tmp_path.glob(TEMPORARY))


def test_other_models_and_tokenizers_are_refused_by_name(tmp_path):
    with pytest.raises(PredictorError, match="the model 'bigram', and a tool can have encoder, recurrent, gpt2"):
        predictor.export(trained_run(tmp_path, "bigram", steps=1), tmp_path / "tool", reviewed=True)
    assert not (tmp_path / "tool").exists()


def test_a_folder_that_holds_something_is_left_as_it_is(run, tmp_path):
    (tmp_path / "note").write_text("mine", encoding="utf-8")
    for place in (tmp_path, tmp_path / "note"):
        with pytest.raises(PredictorError, match="not empty"):
            predictor.export(run, place, reviewed=True)
    assert [each.name for each in tmp_path.iterdir()] == ["note"]
    (tmp_path / "empty").mkdir()
    predictor.export(run, tmp_path / "empty", reviewed=True)
    assert sorted(each.name for each in (tmp_path / "empty").iterdir()) == [
        "README.md",
        "tool.json",
        "tool.py",
        "weights.npz",
    ]


def test_until_all_is_proved_the_folder_is_not_there(run, tmp_path, monkeypatch):
    def interrupted(*given):
        assert not (tmp_path / "tool").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_require_same", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predictor.export(run, tmp_path / "tool", reviewed=True)
    assert list(tmp_path.iterdir()) == []


# --- Review ---


def test_a_private_run_stays_until_it_has_been_shown(run, tmp_path, capsys):
    with pytest.raises(PredictorError, match="must be reviewed"):
        predictor.export(run, tmp_path / "tool")
    with pytest.raises(typer.Exit) as left:
        face.export(run.path, tmp_path / "tool", "tool", 0.95, False)
    assert left.value.exit_code == 2 and not (tmp_path / "tool").exists()
    shown = capsys.readouterr()
    assert "--i-reviewed" in shown.err
    for what in ("card, code, money", "4711", str(run.config.data.source)):
        assert what in shown.out
    face.export(run.path, tmp_path / "tool", "tool", 0.95, True)
    shown = capsys.readouterr()
    assert "4711" in shown.out and (tmp_path / "tool").exists()


def test_what_looks_like_data_is_told_from_language(run):
    assert all(map(is_telling, ("4711", "a1", "me@there.jp", "wolfeschlegel")))
    assert not any(map(is_telling, ("7", "card", "カード", "problem")))


def test_all_pieces_are_listed_by_how_few_texts_hold_them(run):
    found = review(run)
    texts = [row.text for row in training.open_split(run.config).train]
    held = [set(words(text)) for text in texts]
    assert found.n_texts == len(texts) and not found.foreign
    pieces = {token.removeprefix("##") for token in run.codec.tokenizer.tokens[2:]}
    assert dict(found.pieces) == {piece: sum(any(piece in word for word in some) for some in held) for piece in pieces}
    assert [n for _, n in found.pieces] == sorted(n for _, n in found.pieces)
    assert all(n >= 3 for piece, n in found.pieces if len(piece) > 1)  # no piece tells of one text
    assert found.rare == [(piece, n) for piece, n in found.pieces if len(piece) > 1]


def test_the_whole_list_lies_in_the_run_before_anything_leaves(run, tmp_path, monkeypatch):
    def listed(*given, **named):
        page = run.read_extra("review.txt").decode("utf-8")
        assert all(f"{n}\t{piece}\n" in page for piece, n in review(run).pieces)
        assert all(f"\n{name}\n" in page for name in run.codec.classes)
        raise KeyboardInterrupt

    (run.path / "review.txt").unlink(missing_ok=True)
    monkeypatch.setattr(exporting, "report", listed)
    with pytest.raises(KeyboardInterrupt):
        face.export(run.path, tmp_path / "tool", "tool", 0.95, True)


def test_a_vocabulary_from_elsewhere_is_said_and_what_these_texts_lack_comes_first(tmp_path, capsys):
    theirs = [f"{name} owes {n} yen" for n in range(3) for name in ("sakamoto", "my card")]
    save(WordPieceTokenizer.train(theirs, 300), tmp_path / "theirs.json")
    run = trained_run(tmp_path, steps=1, tokenizer=tmp_path / "theirs.json")
    found = review(run)
    assert found.foreign and found.rare[0] == ("sakamoto", 0) == found.telling[0]
    face.say_review(run)
    assert "sakamoto (0)" in (shown := capsys.readouterr().out) and "came along from elsewhere" in shown


def test_what_is_private_by_its_tokenizer_or_its_start_is_reviewed_too(tmp_path, monkeypatch):
    clinc(tmp_path, monkeypatch)
    save(WordPieceTokenizer.train(["my card", "a card", "the card"], 60), tmp_path / "theirs.json")
    settings = {"preset": "encoder-tiny", "steps": 1}
    plan = training.plan("encoder", "clinc150", tokenizer=tmp_path / "theirs.json", **settings)
    one = training.train(plan.config, plan.create(tmp_path / "runs"), sources=plan.sources)
    plan = training.plan(None, "clinc150", from_run=one.path, steps=1)
    other = training.train(plan.config, plan.create(tmp_path / "runs"), sources=plan.sources)
    plan = training.plan("encoder", "clinc150", **settings)
    public = training.train(plan.config, plan.create(tmp_path / "runs"), sources=plan.sources)
    assert (one.private_by, other.private_by, public.private) == ("tokenizer", "start", False)
    for run in (one, other):
        with pytest.raises(PredictorError, match="must be reviewed"):
            predictor.export(run, tmp_path / run.name)
        with pytest.raises(typer.Exit):
            face.export(run.path, tmp_path / run.name, "tool", 0.95, False)
        assert not (tmp_path / run.name).exists()
    predictor.export(public, tmp_path / "tool")
    settings = json.loads((tmp_path / "tool" / "tool.json").read_text(encoding="utf-8"))
    assert settings["trained_on"]["data"] == "clinc150" and settings["trained_on"]["private"] is False
    assert settings["made_by"]["run"] == public.name


def test_readme_speaks_the_language_in_use(run, tmp_path):
    texts.use("ja")
    try:
        predictor.export(run, tmp_path / "tool", reviewed=True)
    finally:
        texts.use(None)
    page = (tmp_path / "tool" / "README.md").read_text(encoding="utf-8")
    assert "文の分類器" in page and "python tool.py" in page


def test_the_folder_of_a_private_run_names_no_file_no_run_and_no_sum(run, tool):
    settings = json.loads((tool / "tool.json").read_text(encoding="utf-8"))
    assert settings["trained_on"]["private"] is True
    for name in (str(Path(run.config.data.source).parent), "tickets", run.name, run.config.data.sha256):
        assert all(name.encode() not in each.read_bytes() for each in tool.glob("*.*")), name


def test_a_score_is_called_a_share_only_where_many_texts_show_it(run, tool):
    page = (tool / "README.md").read_text(encoding="utf-8")
    assert "Scores rank, they are not shares" in page and "can be read as a share" not in page
    assert "texts were answered: with as few" in page
    settings = json.loads((tool / "tool.json").read_text(encoding="utf-8"))
    settings["figures"] |= {"texts": 200, "ece": 0.05, "n_answered": 200}
    page = exporting.readme(settings)
    assert "can be read as a share" in page and "Scores rank" not in page and "with as few" not in page
    settings["figures"]["ece"] = 0.051
    assert "Scores rank" in exporting.readme(settings)


@pytest.mark.parametrize(
    "content", [b"", b'{"model": {"na', b"\xff\x00", b"[]", b"{}", b'{"baseline": "x"}', b"[" * 100_000]
)
def test_a_damaged_judgement_is_one_line(run, tmp_path, content):
    path = run.path / "predictor.json"
    path.write_bytes(content)
    try:
        with pytest.raises(PredictorError, match="predictor.json is damaged") as refused:
            predictor.export(run, tmp_path / "tool", reviewed=True)
        assert "\n" not in str(refused.value) and not (tmp_path / "tool").exists()
    finally:
        path.unlink()


# --- The folder ---


def test_a_folder_is_what_its_name_stands_for(run, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    predictor.export(run, tmp_path / "link", reviewed=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty" / "tool.py").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, why in ((".", "is the current folder"), ("a" * 300, "cannot write")):
        with pytest.raises(PredictorError, match=why):
            predictor.export(run, name, reviewed=True)


def test_what_a_killed_export_left_is_removed_by_the_next(run, tmp_path):
    old, young = (tmp_path / TEMPORARY.replace("*", name) for name in ("old", "young"))
    for each in (old, young):
        each.mkdir()
        (each / "weights.npz").write_bytes(b"")
    os.utime(old, (1e9, 1e9))
    predictor.export(run, tmp_path / "tool", reviewed=True)
    assert not old.exists() and young.exists()  # the young one may be another's, at work
