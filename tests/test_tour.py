"""The tour in-process, with a few steps a model: what it learns, asks, repairs and shows."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from kakehashi import source, texts
from kakehashi.cli import console
from kakehashi.cli import tour as face
from kakehashi.journey import tour, tour_page
from kakehashi.journey.grading import Grader
from kakehashi.runs import Run
from kakehashi.training import Interrupted, TrainingError

TINY = tuple(
    replace(rung, settings=rung.settings | {"steps": 2, "batch_size": 128, "eval_every": 2}, max_tokens=9)
    for rung in tour.RUNGS
)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """All models after two steps."""
    with tour.Climb(tmp_path_factory.mktemp("tour"), TINY) as climb:
        return climb.wait(len(TINY))


@pytest.fixture(scope="module")
def grader():
    with Grader() as warm:
        yield warm


@pytest.fixture(autouse=True)
def english():
    texts.use("en")
    yield
    texts.use(None)


# --- What is learnt ---


def test_each_rung_ends_as_a_run_that_can_be_used(learnt):
    for rung, each in zip(TINY, learnt, strict=True):
        again = Run.open(each.run.path)
        assert (again.config.model.name, again.config.data.name) == (rung.model, rung.data)
        assert (each.name, each.data) == (rung.name, rung.data)
        tokens = torch.tensor([[again.tokenizer.end]])
        assert torch.equal(again.load_model()(tokens).logits, each.model(tokens).logits)
        assert len(each.samples) == 8 and all(sample.startswith(rung.prompt) for sample in each.samples)


def test_losses_are_those_of_the_metrics_and_begin_near_ln_V(learnt):
    for each in learnt:
        losses = [row["loss"] for row in each.run.metrics() if row["split"] == "val"]
        assert each.loss_at_init == losses[0] and each.val_loss == min(losses)
        assert abs(each.loss_at_init - math.log(each.vocab_size)) < 0.3
        assert 2**each.bits_per_char == pytest.approx(math.exp(each.val_loss))
        assert [loss for _, loss in each.curve] == losses


def test_parameters_are_counted_once_where_they_are_tied(learnt):
    V, C, T = learnt[5].vocab_size, 64, 64
    block = 4 * C + (C + 1) * 3 * C + (C + 1) * C + (C + 1) * 4 * C + (4 * C + 1) * C
    assert learnt[0].parameters == V * V
    assert learnt[5].parameters == (V + T) * C + 2 * block + 2 * C  # the head is the embedding


def test_the_words_of_a_rung_are_json(learnt):
    keys = {"name", "data", "parameters", "val_loss", "bits_per_char", "seconds", "loss_at_init", "sample"}
    assert all(json.loads(json.dumps(each.to_dict())).keys() == keys for each in learnt)


def test_a_stopped_climb_keeps_what_is_finished_and_says_what_can_be_resumed(tmp_path):
    rungs = (TINY[0], replace(TINY[1], settings=TINY[1].settings | {"steps": 100_000}))
    with tour.Climb(tmp_path, rungs) as climb:

        def tick():
            if climb.learnt and climb.state and climb.state.step > 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            climb.wait(2, tick)
        stopped = climb.stop()
        assert [each.name for each in climb.learnt] == ["bigram"]
        assert climb.learnt[0].run.load_model()
        assert stopped.load_checkpoint().state["step"] > 3
        with pytest.raises(Interrupted):
            climb.wait(2)


def test_what_ends_the_climb_is_raised_where_it_is_waited_for(tmp_path):
    wrong = replace(TINY[1], settings={"steps": 0})
    with tour.Climb(tmp_path, (TINY[0], wrong)) as climb:
        assert climb.wait(1)[0].name == "bigram"
        with pytest.raises(TrainingError, match="steps must be at least 1"):
            climb.wait(2)


# --- The prediction ---


@pytest.mark.parametrize("answer", ["3142", "3 1 4 2", "3>1>4>2", " 3, 1, 4, 2 "])
def test_an_order_is_read_as_people_write_it(answer):
    assert tour.read_order(answer, 4) == (2, 0, 3, 1)


@pytest.mark.parametrize("answer", ["314", "3145", "3144", "31422", "abcd"])
def test_what_is_no_order_is_refused_with_its_value(answer):
    with pytest.raises(tour.TourError, match=re.escape(repr(answer))):
        tour.read_order(answer, 4)


def test_the_score_counts_pairs_in_the_right_order(learnt):
    known = [replace(each, val_loss=loss) for each, loss in zip(learnt[:4], (4.0, 3.0, 2.0, 1.0), strict=True)]
    assert tour.order_of(known) == (0, 1, 2, 3)
    assert tour.score((0, 1, 2, 3), known) == (6, 6)
    assert tour.score((3, 2, 1, 0), known) == (0, 6)
    assert tour.score((1, 0, 2, 3), known) == (5, 6)


def test_the_order_is_asked_of_the_models_that_learn_the_same_words(learnt):
    asked = [rung.name for rung in tour.ladder(tour.RUNGS)]
    assert asked == ["bigram", "mlp", "wavenet", "rnn", "lstm", "gpt2"] == [each.name for each in tour.ladder(learnt)]
    assert tour.read_order("314265", len(asked)) == (2, 0, 3, 1, 5, 4)
    assert sorted(tour.order_of(tour.ladder(learnt))) == list(range(6))


@pytest.mark.parametrize("lang", texts.LANGUAGES)
def test_the_question_names_each_model_that_is_asked_within_80_columns(lang):
    texts.use(lang)
    said = texts.t("tour.predict").splitlines()
    for number, rung in enumerate(tour.ladder(tour.RUNGS), 1):
        assert [line for line in said if line.startswith(f"  {number}  {rung.name} ")]
    wide = [*said, texts.t("tour.predict_ask") + " 123456", *texts.t("tour.welcome").splitlines()]
    assert max(map(cell_len, wide)) <= 80


# --- The repair ---


def test_the_planted_fault_is_in_one_line_of_the_listing_and_shows_in_numbers(learnt, tmp_path):
    repair = tour.Repair(tmp_path)
    reference, planted = source.read(repair.fault.path).splitlines(), source.read(repair.path).splitlines()
    assert [n for n, pair in enumerate(zip(reference, planted, strict=True), 1) if pair[0] != pair[1]] == [repair.line]
    assert repair.listing[repair.line] == planted[repair.line - 1] != repair.answer
    assert list(repair.listing.values())[0].startswith(f"def {repair.fault.symbol}(")
    symptom, healthy = repair.symptom(learnt[0].run), repair.healthy(learnt[0].run)
    assert symptom.loss > healthy.loss + 0.1
    (_, least), (_, most) = symptom.extremes
    assert least < 0.5 and most > 2
    assert [total for _, total in healthy.extremes] == pytest.approx([1, 1], abs=1e-5)


def test_only_the_right_line_turns_the_checks_green(grader, tmp_path):
    repair = tour.Repair(tmp_path)
    assert not repair.check(grader).right
    repair.change(repair.line, "return torch.log(smoothed / smoothed.sum())")
    assert not repair.check(grader).right
    repair.change(repair.line, "return torch.log(smoothed /")
    assert "syntax" in [each.key for each in repair.check(grader).failures]
    repair.change(repair.line, repair.answer)
    told = []
    assert repair.check(grader, told.append).right
    assert told and all(result.ok and result.symbol == repair.fault.symbol for result in told)


def test_an_edit_in_an_editor_is_noticed(grader, tmp_path):
    repair = tour.Repair(tmp_path)
    assert not repair.touched
    lines = repair.planted.splitlines()
    lines[repair.line - 1] = repair.answer
    repair.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert repair.touched
    assert repair.check(grader).right
    assert not repair.touched


# --- The report ---


@pytest.mark.parametrize("lang", texts.LANGUAGES)
def test_the_page_tells_everything_in_both_languages(lang, learnt, tmp_path):
    texts.use(lang)
    html = tour_page.write(tmp_path / "report.html", learnt, range(6), True).read_text(encoding="utf-8")
    assert f'<html lang="{lang}">' in html
    assert html.count("<figure>") == 5  # curves, sight, gradient, embeddings, attention
    assert all(f"{each.val_loss:.2f}" in html and tour_page.title(each) in html for each in learnt)
    for part in ("repair", "sight", "time", "embedding", "samples"):
        assert texts.t(f"tour.page.{part}", back=tour_page.BACK).splitlines()[0].removeprefix("## ") in html


def test_the_page_leaves_out_what_nobody_was_asked(learnt, tmp_path):
    asked, alone = tmp_path / "asked.html", tmp_path / "alone.html"
    tour_page.write(asked, learnt, range(6), False)
    tour_page.write(alone, learnt)
    for heading in ("What you predicted", "The fault in the count"):
        assert heading in asked.read_text(encoding="utf-8")
        assert heading not in alone.read_text(encoding="utf-8")


def test_how_many_characters_a_model_sees_is_what_changes_its_prediction(learnt):
    assert [tour_page.sight(each) for each in learnt] == [1, 3, 8, None, None, None, None]
    text = torch.randint(1, 27, (1, 12), generator=torch.Generator().manual_seed(1))
    for each in tour.ladder(learnt):
        n = tour_page.sight(each) or 12
        last = each.model(text).logits[0, -1]
        for back in range(12):
            other = text.clone()
            other[0, -1 - back] = text[0, -1 - back] % 26 + 1
            assert torch.equal(each.model(other).logits[0, -1], last) == (back >= n), (each.name, back)


def test_a_dot_stands_at_the_last_place_that_sees_the_word_begin(learnt):
    rungs = tour.ladder(learnt)
    text = torch.randint(1, 27, (1, 12), generator=torch.Generator().manual_seed(1))
    begun = text.clone()
    begun[0, 0] = 0  # END
    expected = []
    for each in rungs:
        changed = (each.model(text).logits != each.model(begun).logits).any(-1)[0]  # (T,)
        if not changed[-1]:
            expected.append(int(changed.nonzero().max()))
    lines = tour_page.sight_figure(rungs).figure.axes[0].lines
    assert [line.get_xdata()[0] for line in lines if line.get_marker() == "o"] == expected


def test_the_losses_by_position_add_up_to_the_validation_loss(learnt):
    for each in tour.ladder(learnt):
        losses, n_words = tour_page.loss_by_position(each)
        assert (losses * n_words).sum() / n_words.sum() == pytest.approx(each.val_loss, rel=1e-4)
        assert (np.diff(n_words) <= 0).all() and len(losses) == len(n_words)


def test_a_loss_by_position_is_the_mean_surprise_of_the_words_that_are_long_enough(learnt):
    bigram = learnt[0]
    encode, log_p = bigram.run.tokenizer.encode, bigram.model.table.log_softmax(-1)
    _, targets = tour_page.validation(bigram)
    letters = bigram.run.tokenizer.tokens
    words = ["".join(letters[i] for i in row if i > 0) for row in targets.tolist()]
    losses, n_words = tour_page.loss_by_position(bigram)
    for k in (0, 1, 5, 9):
        long = [[*encode(word), 0] for word in words if len(word) >= k]
        assert n_words[k] == len(long)
        expected = np.mean([-log_p[([0] + word)[k], word[k]].item() for word in long])
        assert losses[k] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_gradient_through_time_is_that_of_each_text_alone(cell, learnt):
    model = next(each for each in learnt if each.name == cell).model
    tokens = torch.randint(1, 27, (3, 7), generator=torch.Generator().manual_seed(2))
    expected = torch.zeros(6)
    for text in tokens:
        x = model.embedding.weight[text[None, :-1]].detach().requires_grad_()  # (1, 6, C)
        begins = torch.zeros(1, 6, dtype=torch.bool)
        h, _ = model.layers[0](x, model.new_state(1).layers[0], begins)
        loss = -model.output(h[0, -1]).log_softmax(-1)[text[-1]]
        loss.backward()
        expected += x.grad[0].norm(dim=-1).flip(0) / len(tokens)
    before = model(tokens).logits
    assert np.allclose(tour_page.gradient_through_time(model, tokens), expected, rtol=1e-4)
    assert torch.equal(model(tokens).logits, before) and not model.embedding._forward_hooks  # nothing stays behind


def test_at_the_rnn_s_start_the_gradient_vanishes_as_the_product_of_its_steps(learnt):
    rnn = next(each for each in learnt if each.name == "rnn")
    model = tour_page.at_the_start(rnn)
    (layer,) = model.layers
    tokens = torch.randint(1, 27, (1, 9), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        inputs, h, hidden = model.embedding(tokens[0, :-1]) @ layer.weight_ih.T, torch.zeros(256), []
        for x in inputs:
            h = torch.tanh(x + layer.weight_hh @ h)
            hidden.append(h)
        logits = model.output(h)
        g = model.output.weight.T @ (logits.softmax(-1) - torch.eye(27)[tokens[0, -1]])  # dL/dh at the last
        norms = []
        for h in reversed(hidden):
            g = (1 - h**2) * g  # through tanh
            norms.append((layer.weight_ih.T @ g).norm().item())
            g = layer.weight_hh.T @ g  # W^T diag(1 - h^2), once a character
    assert np.allclose(tour_page.gradient_through_time(model, tokens), norms, rtol=1e-3)


def test_the_start_is_what_the_run_began_with(learnt):
    for each in tour.ladder(learnt):
        loss = tour_page.at_the_start(each)(*tour_page.validation(each)).loss
        assert loss.item() == pytest.approx(each.loss_at_init, rel=1e-4)


def test_joined_words_are_the_validation_words_without_what_stands_between(learnt):
    joined = tour_page.joined_words(learnt[0], 32)
    assert joined.shape[1] == 32 and len(joined) > 100 and (joined > 0).all()
    tokens, targets = tour_page.validation(learnt[0])
    assert (tokens[:, 0] == 0).all() and torch.equal(joined[0, :2], targets[0, :2])


def test_attention_weights_are_those_of_the_written_out_attention(learnt):
    gpt = learnt[5]
    tokens = torch.tensor([[gpt.run.tokenizer.end, *gpt.run.tokenizer.encode("attention")]])
    before = gpt.model(tokens).logits
    weights = tour_page.attention_weights(gpt.model, tokens)
    assert torch.equal(gpt.model(tokens).logits, before)  # nothing stays behind
    block = gpt.model.h[0]
    x = block.ln_1(gpt.model.wte(tokens) + gpt.model.wpe(torch.arange(tokens.shape[1])))
    q, k, _ = (each.view(-1, 4, 16).transpose(0, 1) for each in block.attn.c_attn(x)[0].split(64, dim=1))
    scores = (q @ k.transpose(1, 2) / 4).masked_fill(torch.ones(10, 10).triu(1).bool(), -torch.inf)
    assert np.allclose(weights, scores.softmax(-1).detach().numpy(), atol=1e-5)


def test_principal_components_find_the_plane_that_points_lie_in():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(20, 2)))[0]  # two orthonormal directions of 20
    flat = rng.normal(size=(30, 2)) * [5, 1]
    points, shares = tour_page.principal_components(flat @ plane.T + 3)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    centred = flat - flat.mean(0)
    assert np.allclose(points @ points.T, centred @ centred.T)  # the same distances


def test_vowels_are_counted_by_their_nearest_letter():
    names = ["END", "a", "e", "b", "c"]
    vectors = np.array([[9.0, 9], [1, 0.1], [2, 0.1], [0.1, 1], [0.1, 2]])
    assert tour_page.vowels_beside_vowels(names, vectors) == (2, 2, pytest.approx(2 / 3))
    assert tour_page.vowels_beside_vowels(names, vectors[[0, 1, 3, 2, 4]])[0] == 0


# --- At the terminal ---


@pytest.fixture
def person(monkeypatch):
    """person([...]): these answers are typed, one after the other, and then Ctrl-D."""

    def types(answers):
        given = iter(answers)

        def answer(prompt=""):
            try:
                return next(given)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", answer)

    return types


@pytest.fixture
def climb(learnt, tmp_path):
    """A climb that is over."""
    over = tour.Climb(tmp_path, TINY)
    over.learnt = learnt
    return over


@pytest.mark.parametrize(("lang", "said"), [("en", "not '21'"), ("ja", "入力は '21'")])
def test_the_order_is_asked_in_ones_language_until_it_can_be_read(person, climb, capsys, lang, said):
    texts.use(lang)
    person(["21", "213465"])
    assert face.predict(climb) == (1, 0, 2, 3, 5, 4)
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("answers", [[""], []])
def test_the_prediction_can_be_skipped(answers, person, climb):
    person(answers)
    assert face.predict(climb) is None


def test_the_listing_shows_all_code_within_the_screen(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    repair = tour.Repair(tmp_path)
    face.list_code(repair)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 16 and max(map(len, lines)) <= 80
    said, code = (re.sub(r"\s", "", "".join(each)) for each in ((line[6:] for line in lines), repair.listing.values()))
    assert said == re.sub(r"#apair\(a,b\)asonenumber|#\(V,V\)|#adding.*?finite", "", code)


def test_what_is_indented_stays_so_where_the_screen_breaks_it(monkeypatch, capsys):
    said = "one two " * 20 + "\n  three"
    console.say(said, indent=2)
    assert capsys.readouterr().out.splitlines() == ["  " + line for line in said.splitlines()]  # a pipe breaks nothing
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(console, "out", lambda: Console(force_terminal=True, color_system=None))
    console.say(said, indent=2)
    *broken, last = capsys.readouterr().out.splitlines()
    assert len(broken) > 5 and all(line.startswith("  one") or line.startswith("  two") for line in broken)
    assert last == "    three" and max(map(len, broken)) <= 30


def test_the_person_mends_the_fault_at_the_second_try(person, climb, capsys):
    repair = tour.Repair(climb.root)
    line = str(repair.line)
    person(["7", "", line, "return smoothed", line, repair.answer.strip()])
    assert face.mend(climb) is True
    said = capsys.readouterr().out
    red, green = (said.count(mark) for mark in ("✗", "✓"))
    checks = len([check for check in repair.station.checks if check.symbol == repair.fault.symbol])
    assert red >= 2 and green >= checks
    assert f"Mended. Counted {repair.healthy(climb.learnt[0].run).loss:.2f}" in said
    assert repair.answer.strip() not in said  # the answer is the person's


@pytest.mark.parametrize("answers", [["skip"], []])
def test_the_answer_is_shown_to_who_skips(answers, person, climb, capsys):
    person(answers)
    assert face.mend(climb) is False
    said = " ".join(capsys.readouterr().out.split())
    assert f"The answer is line {tour.Repair(climb.root).line}: return torch.log" in said


def test_without_a_terminal_nothing_is_asked_and_the_last_line_is_json(person, monkeypatch, tmp_path, capsys):
    def refuse(prompt=""):
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", refuse)
    monkeypatch.setattr(tour.Climb.__init__, "__defaults__", (TINY,))
    monkeypatch.setattr(console, "as_json", True)
    face.tour(root=tmp_path / "runs", out=tmp_path / "report.html")
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert [each["name"] for each in said["models"]] == ["bigram", "mlp", "wavenet", "rnn", "lstm", "gpt2", "gpt2"]
    assert said["report"] == str(tmp_path / "report.html") and (tmp_path / "report.html").exists()
    assert "gpt2 on stdlib-code" in printed.err
