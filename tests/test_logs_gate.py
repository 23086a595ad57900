"""The release gate: rates against scipy and simulation, verdicts on logs with known defects, a page of one sheet."""

import json
import re
import subprocess
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from types import SimpleNamespace

import logs_made as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kakehashi import texts
from kakehashi.cli import console
from kakehashi.work.logs import LogError, alarms, gate, gate_page, rates
from kakehashi.work.logs.detector import Detector, Judged
from kakehashi.work.logs.gate import CANNOT_TELL, LOOK, PASS, Reason
from kakehashi.work.logs.lines import Note
from kakehashi.work.logs.records import Record
from kakehashi.work.logs.sessions import Session

COUNTS = st.one_of(st.integers(0, 40), st.integers(0, 100_000))
SIZES = st.one_of(st.integers(1, 50), st.integers(1, 1_000_000))


# --- Rates ---


@given(k=COUNTS, n=SIZES, p=st.floats(1e-6, 1 - 1e-6))
def test_the_tail_is_the_binomial_one(k, n, p):
    assert rates.tail(k, n, p) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-6, abs=1e-12)


@given(st.integers(0, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_that_of_clopper_and_pearson(case):
    k, n = case
    exact = stats.binomtest(k, n).proportion_ci(rates.CONFIDENCE, "exact") if n else (0.0, 1.0)
    assert rates.interval(k, n) == pytest.approx(tuple(exact), abs=1e-8)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_q_values_are_those_of_benjamini_and_hochberg(p):
    assert rates.false_discovery(p) == pytest.approx(stats.false_discovery_control(p))


@given(COUNTS, SIZES, COUNTS, SIZES, st.floats(1, 50))
def test_the_ratio_lies_in_its_interval_and_turns_around_with_the_sides(before, n_before, after, n_after, spread):
    there = rates.compare(before, n_before, after, n_after, spread)
    back = rates.compare(after, n_after, before, n_before, spread)
    if before and spread == 1:
        assert there.low <= there.ratio <= there.high
    assert there.p == pytest.approx(back.p)
    if there.high < np.inf and back.low > 0:
        assert there.high == pytest.approx(1 / back.low, rel=1e-4)


def test_small_counts_give_the_exact_p_value():
    # 9 against 1 of equal logs: two tails of ten coins
    assert rates.compare(9, 100, 1, 100).p == pytest.approx(stats.binomtest(1, 10).pvalue)


def bursts(rng, n_lines, rate, size, key="x"):
    """Blocks of a log in which a line comes in bursts of `size`, with this rate among all lines."""
    blocks = rates.Blocks()
    left = 0
    for _ in range(n_lines):
        if not left and rng.random() < rate / size:
            left = size
        blocks.add([key] if left else [])
        left -= left > 0
    return blocks


def test_the_interval_holds_the_truth_as_often_as_it_says_where_lines_come_in_bursts():
    rng = np.random.default_rng(0)
    held = {"bursts": 0, "as if alone": 0}
    for _ in range(40):
        old, new = (bursts(rng, 2000, 0.1, 20) for _ in range(2))
        (measured,) = rates.dispersion(["x"], old, new)
        for name, spread in (("bursts", measured), ("as if alone", 1.0)):
            ratio = rates.compare(old.total()["x"], old.n, new.total()["x"], new.n, spread)
            held[name] += ratio.low <= 1 <= ratio.high
    assert held["bursts"] >= 38  # 99% of 40, less what chance takes
    assert held["as if alone"] < 30


def test_the_interval_is_about_that_of_a_bootstrap_over_blocks():
    rng = np.random.default_rng(1)
    old, new = bursts(rng, 8000, 0.05, 10), bursts(rng, 8000, 0.15, 10)
    (spread,) = rates.dispersion(["x"], old, new)
    ratio = rates.compare(old.total()["x"], old.n, new.total()["x"], new.n, spread)
    drawn = []
    for side in (old, new):
        sizes, counts = np.array(side.sizes), side.table(["x"])[:, 0]
        weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), 4000)
        drawn.append(weights @ counts / (weights @ sizes))
    low, high = np.quantile(drawn[1] / drawn[0], ((1 - rates.CONFIDENCE) / 2, (1 + rates.CONFIDENCE) / 2))
    assert np.log(ratio.high / ratio.low) == pytest.approx(np.log(high / low), rel=0.25)


@given(st.integers(0, 3000))
def test_blocks_keep_every_count_and_never_become_many(n):
    blocks = rates.Blocks()
    for i in range(n):
        blocks.add(["all", i % 2])
    assert len(blocks.sizes) <= rates.BLOCKS and blocks.n == n
    assert blocks.total() == {key: count for key, count in {"all": n, 0: n - n // 2, 1: n // 2}.items() if count}
    assert len(set(blocks.sizes[:-1])) <= 1


def test_one_event_stays_one_however_many_lines_there_are_to_an_event():
    assert rates.compare(0, 100, 1, 100, 50.0) == rates.compare(0, 100, 1, 100)
    assert rates.compare(0, 100, 1, 100, 50.0).low > 0


def test_the_dispersion_is_pearsons_statistic_over_its_degrees_of_freedom():
    counts = [[9, 0, 3], [1, 12, 2, 20, 0]]
    sides = []
    for each in counts:
        side = rates.Blocks()
        side.sizes, side.counts = [50] * len(each), [Counter({"x": n}) for n in each]
        sides.append(side)
    statistic = sum(stats.chisquare(each).statistic for each in counts)
    assert rates.dispersion(["x"], *sides) == pytest.approx([statistic / (2 + 4)])


# --- Verdicts ---


@pytest.fixture
def spoken():
    """spoken("ja"): the language from now on."""
    yield texts.use
    texts.use(None)


@pytest.fixture
def kakehashi(capsys):
    """kakehashi("logs", ...) -> (exit code, stdout, stderr), in this process, where torch is imported already."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            console.run(list(map(str, arguments)))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return left.value.code or 0, said.out, said.err

    yield run
    console.as_json = False
    texts.use(None)


DAY = timedelta(days=1)
SOME = range(10_000, 10_200, 4)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The folder with the release before, and a detector fitted on it."""
    folder = tmp_path_factory.mktemp("gate")
    made.write(folder / "before" / "a.log", made.made(300, seed=1))
    detector = Detector.fit(folder / "before", root=folder / "runs", steps=80)
    return folder / "before", detector.run.path


def compared(before, folder, n=200, seed=20, start=made.START + DAY, **defects):
    """The release after, with these defects, compared."""
    made.write(folder / "after" / "b.log", made.made(n, seed=seed, start=start, first=10_000, **defects))
    return gate.compare(before[0], folder / "after", run=before[1])


@pytest.mark.parametrize("seed", [30, 31])
def test_the_same_service_passes(before, tmp_path, seed):
    found = compared(before, tmp_path, seed=seed)
    assert (found.verdict, found.exit_code, found.reasons) == (PASS, 0, [Reason("nothing")])
    assert found.new_templates == [] and found.gone == []


@pytest.mark.parametrize(
    "first, defects",
    [
        ("new", {"new": {10_007}}),
        ("alarms", {"missing": SOME}),
        ("alarms", {"swapped": SOME}),
        ("alarms", {"slow": SOME}),
        ("errors", {"failures": 0.4}),
        ("rate", {"heartbeat": 4.0}),
        ("gone", {"heartbeat": None, "n": 300}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_defect_is_a_look_for_its_own_reason(before, tmp_path, first, defects):
    found = compared(before, tmp_path, **defects)
    assert (found.verdict, found.exit_code) == (LOOK, 1)
    assert found.reasons[0].key == first


def test_the_numbers_of_a_comparison_are_those_of_the_logs(before, tmp_path):
    found = compared(before, tmp_path, new={10_007, 10_011})
    lines = (tmp_path / "after" / "b.log").read_text(encoding="utf-8").splitlines()
    facts, errors = found.n["after"], next(share for share in found.levels if share.level == "ERROR")
    assert (facts.lines, facts.sessions, facts.files) == (len(lines), 200, 1)
    assert errors.after == sum(" ERROR " in line for line in lines)
    (new,) = found.new_templates
    assert (new.level, new.count) == ("ERROR", 2) and "Checksum mismatch" in new.example
    assert lines[new.line_number - 1].endswith(new.example)
    closed = next(rate for rate in found.rates if rate.template.startswith("Closed"))
    assert closed.after == sum(" Closed " in line for line in lines) and closed.ratio.ratio == pytest.approx(1.0)
    low, high = found.expected_false_alarms
    assert low <= found.ours.normal / found.ours.n_normal * 200 <= high
    assert rates.compare(found.ours.normal, found.ours.n_normal, found.ours.noticed, 200).low > 1


def test_where_new_lines_alone_explain_all_alarms_the_page_says_that_the_model_added_nothing(before, tmp_path, spoken):
    spoken("en")
    found = compared(before, tmp_path, new={10_007, 10_011})
    assert found.ours.after == found.explained == 2 and found.added == 0
    assert "The model added nothing here" in gate_page.page(found).html()
    assert "The model added nothing here" not in gate_page.page(compared(before, tmp_path, missing=SOME)).html()


def test_a_baseline_that_sees_more_than_the_model_is_named(before, tmp_path):
    found = compared(before, tmp_path, missing=SOME)
    assert "counts" in found.wins and "event" not in found.wins
    blind = replace(
        found,
        methods=[replace(row, ratio=rates.compare(1, 9, 1, 9)) if row.name == "both" else row for row in found.methods],
    )
    assert list(gate.worse(blind))[-1].key == "baseline"


def test_alarms_that_new_lines_explain_are_ours_alone(tmp_path):
    (tmp_path / "a.log").write_text("one\n", encoding="utf-8")
    side = gate.Side(tmp_path / "a.log", lambda source, n_bytes: None)
    odd = [{"event", "both"}, {"event", "counts"}, {"both"}, set()]
    judged = [SimpleNamespace(odd=frozenset(each)) for each in odd]
    list(side.judge(SimpleNamespace(judge=lambda sessions: judged, n_running=2), []))
    assert (side.n_sessions, side.explained, side.running) == (4, 1, 2)


def test_a_torn_line_is_no_line_of_another_system(before, tmp_path):
    after = made.made(60, 20, start=made.START + DAY, first=10_000)
    log = made.write(tmp_path / "torn.log", after)
    with open(log, "ab") as file:
        file.write(b"2026-10-06 09:20:00.000Z ERROR Upstr")
    found = gate.compare(before[0], log, run=before[1])
    assert (found.n["after"].lines, found.new_templates, found.verdict) == (len(after), [], PASS)
    assert "torn" in {note.kind for note in found.notes}


def test_sessions_that_had_begun_before_the_log_are_said(before, tmp_path, spoken):
    spoken("en")
    after = made.made(100, 20, start=made.START + DAY, first=10_000)
    cut = next(i for i, event in enumerate(after) if event.name == "query")
    made.write(tmp_path / "cut.log", after[cut:])
    found = gate.compare(before[0], tmp_path / "cut.log", run=before[1])
    n_open = len({event.session for event in after[:cut]} & {event.session for event in after[cut:]})
    assert found.n["after"].running == n_open > 0
    assert f"not judged: 0 before, {n_open} after" in gate_page.page(found).html()


def test_too_few_sessions_to_fit_on_cannot_tell_in_one_line(tmp_path, kakehashi):
    for name, start in (("before", made.START), ("after", made.START + DAY)):
        made.write(tmp_path / f"{name}.log", made.made(8, 1, start=start))
    sides = ("--before", tmp_path / "before.log", "--after", tmp_path / "after.log", "--out", tmp_path / "gate.html")
    code, _, err = kakehashi("logs", "gate", *sides, "--root", tmp_path / "runs", "--lang", "en")
    assert code == 3 and "8 sessions are too few" in err
    assert not (tmp_path / "gate.html").exists()


def test_too_little_and_the_same_time_cannot_tell(before, tmp_path):
    few = compared(before, tmp_path, n=20)
    assert (few.verdict, few.exit_code, few.reasons[0].key) == (CANNOT_TELL, 3, "few_after")
    overlap = compared(before, tmp_path, start=made.START)
    assert (overlap.verdict, [reason.key for reason in overlap.reasons]) == (CANNOT_TELL, ["overlap"])
    assert gate.compare(before[0], tmp_path / "after", run=before[1], together=True).verdict == PASS


def test_a_rise_that_comes_in_one_burst_cannot_tell(before, tmp_path):
    # a known line that names no session: 15 times before
    events = made.made(400, 20, start=made.START + DAY, first=10_000)
    middle = len(events) // 2
    beat = next(event for event in events if event.name == "heartbeat")
    burst = [replace(beat, time=events[middle].time, level="ERROR")] * 60
    made.write(tmp_path / "b.log", [*events[:middle], *burst, *events[middle:]])
    found = gate.compare(before[0], tmp_path / "b.log", run=before[1])
    assert (found.verdict, [reason.key for reason in found.reasons]) == (CANNOT_TELL, ["burst_errors", "burst"])
    errors = next(share for share in found.levels if share.level == "ERROR")
    assert errors.ratio.low <= 1 < gate.WORSE < errors.ratio.ratio
    spread = [*events, *burst]
    made.write(tmp_path / "c.log", [spread[i] for i in np.random.default_rng(0).permutation(len(spread))])
    assert gate.compare(before[0], tmp_path / "c.log", run=before[1]).reasons[0].key == "errors"


@pytest.mark.parametrize("size", [1, 20])
def test_equal_releases_are_rarely_taken_for_a_rise_in_a_burst(size):
    rng = np.random.default_rng(size)
    n_bursts = 0
    for _ in range(20):
        old, new = (SimpleNamespace(lines=bursts(rng, 2000, 0.1, size, "ERROR")) for _ in range(2))
        n_bursts += gate.levels_of(old, new)[0].burst
    assert n_bursts <= 2


def test_another_system_cannot_be_compared(before, tmp_path):
    lines = "".join(f"2026-10-07 10:00:{i % 60:02} INFO disk {i} spins up\n" for i in range(300))
    (tmp_path / "other.log").write_text(lines, encoding="utf-8")
    found = gate.compare(before[0], tmp_path / "other.log", run=before[1])
    assert (found.verdict, found.reasons[0].key) == (CANNOT_TELL, "foreign_after")


def test_the_same_files_pass_and_are_said_to_be_the_same(before, tmp_path):
    copy = tmp_path / "copy.log"
    copy.write_bytes((before[0] / "a.log").read_bytes())
    found = gate.compare(before[0], copy, run=before[1])
    assert (found.verdict, found.reasons) == (PASS, [Reason("same")])
    assert {rate.ratio.ratio for rate in found.rates} == {1.0}


def test_files_that_are_in_both_cannot_tell(before, tmp_path):
    copy = tmp_path / "after" / "a.log"
    copy.parent.mkdir()
    copy.write_bytes((before[0] / "a.log").read_bytes())
    found = compared(before, tmp_path)
    assert found.verdict == CANNOT_TELL and Reason("common", {"n": 1}) in found.reasons


def test_a_log_without_a_line_is_said_in_one_line(before, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogError, match="no line in .*empty"):
        gate.compare(before[0], tmp_path / "empty", run=before[1])


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_command_has_an_exit_code_json_and_a_page(before, tmp_path, lang, kakehashi):
    made.write(tmp_path / "after.log", made.made(100, seed=20, start=made.START + DAY, first=10_000, new={10_007}))
    sides = ("--before", before[0], "--after", tmp_path / "after.log", "--run", before[1])
    code, out, err = kakehashi("logs", "gate", *sides, "--out", tmp_path / "gate.html", "--json", "--lang", lang)
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == found["exit_code"] == 1
    assert found["verdict"] == "look" and found["reasons"][0]["key"] == "new"
    assert {"new_templates", "rates", "levels", "alarms", "methods", "wins", "cost", "n", "notes"} <= found.keys()
    title = {"en": "Look before you release", "ja": "要確認"}[lang]
    assert title in err and title in (tmp_path / "gate.html").read_text(encoding="utf-8")


def test_a_wrong_call_is_one_line(before, tmp_path, kakehashi):
    (tmp_path / "binary.log").write_bytes(bytes(range(256)) * 10)
    for after in ("none.log", "binary.log"):
        code, _, err = kakehashi("logs", "gate", "--before", before[0], "--after", tmp_path / after, "--lang", "en")
        assert code == 2 and after in err and len(err.splitlines()) == 1


# --- The page ---


LINES = [
    "WARNUNG " + "W" * 300,
    "問い合わせの応答がタイムアウトしました " * 12,
    "<script>alert(1)</script> \u202e\u2066txt.exe\u200b \x1b[31m\x07 **bold** `code` | pipe",
]


@pytest.fixture
def full():
    """A comparison with more of everything than a page can hold, all numbers large, all lines long or nasty."""
    ratio = rates.compare(123_456, 1e7, 456_789, 1e7)
    worst = []
    for i in range(20):
        record = Record(LINES[i % 3], datetime.now(UTC), "ERROR", "/log/" + "long-name-" * 9, 10**7 + i)
        why = ("new", "order", "end", "parameter")[i % 4]
        judged = Judged(
            session=Session("k", [record]), events=(2,), words=["E1"], places=[0], surprises=np.zeros(2), score=1.0,
            odd=frozenset({"both"}), alarm=True, word=0, place=0, why=why,
        )  # fmt: skip
        worst.append(alarms.Alarm(i + 1, judged, 1234, [record], [], None, None, [], []))
    names = (
        "event",
        "length",
        "event or length",
        "counts",
        "sequence",
        "2-gram",
        "forest",
        "model",
        "parameter",
        "both",
    )
    many = rates.compare(1234, 123_456, 234_567, 1_234_567)
    facts = gate.Facts(
        ("/log/" + "release-" * 20,), 1234, 123_456_789, 1_234_567, "2026-10-05T09:00", "2026-10-06T09:00", 0.1, 123_456
    )
    changed = [gate.Rate(LINES[i % 3], 123_456, 456_789, ratio, 1e-9, False) for i in range(30)]
    new = [Reason("new", {"level": "CRITICAL", "count": 1_234_567, "template": line}) for line in LINES * 3]
    return gate.Comparison(
        verdict=LOOK,
        reasons=[*new, Reason("errors", {"before": 10**6, "after": 10**7, **asdict(ratio)})],
        new_templates=[gate.NewTemplate(line, 123_456, "CRITICAL", line, "a.log", 3) for line in LINES * 4],
        expected_new=12.3,
        gone=[],
        rates=changed,
        per_session=False,
        levels=[gate.Share(level, 123_456, 1_234_567, ratio, False) for level in ("ERROR", "WARNING")],
        alarms=alarms.Ranking(worst, 37, None, 100, 1000, 10_000, []),
        methods=[gate.MethodRow(name, 1234, 123_456, 234_567, 1_234_567, many) for name in names],
        wins=list(names[:7]),
        explained=1234,
        n={"before": facts, "after": facts},
        notes=[Note(kind, "/log/" + "x" * 99, 10**6, 99) for kind in ("undecodable", "encoding cp932", "clock", "nul")],
        run="runs/" + "long-name-" * 12,
        fitted=True,
        cost=gate.Cost(12_345.6, 56_789.1, 1234.5),
    )  # fmt: skip


def test_the_fullest_pages_print_on_one_sheet_each(full, tmp_path, tool, spoken):
    pages = []
    for lang, n_reasons in product(texts.LANGUAGES, (1, None)):
        spoken(lang)
        page = gate_page.page(replace(full, reasons=full.reasons[:n_reasons])).html()
        assert page.count(":1000000") == (8 if n_reasons else 4)  # alarms
        head, body = re.split("(?<=</head>)", page)
        pages.append(f'<div lang="{lang}" style="break-after: page">{body}</div>')
    together, pdf = tmp_path / "gate.html", tmp_path / "gate.pdf"
    together.write_text(head + "".join(pages), encoding="utf-8")  # for one browser, which takes a second to start
    browser = [tool("chromium", "google-chrome"), "--headless", "--no-sandbox", "--disable-gpu"]
    command = [*browser, f"--print-to-pdf={pdf}", together.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == len(pages)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_lines_of_logs_are_text_on_the_page_and_nothing_else(full, lang, spoken):
    spoken(lang)
    page = gate_page.page(full).html()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "\\u202e" in page and not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x00-\x08\x1b]", page)
    assert "<strong>bold</strong>" not in page and "<code>code</code>" not in page
    assert "W" * 100 not in page


@given(st.text(), st.integers(1, 100))
def test_a_quoted_line_is_short_and_acts_on_nothing(text, cells):
    shown = gate_page.quoted(text, cells)
    assert len(shown) <= cells + 2
    assert shown.isprintable()


def test_every_verdict_and_reason_has_words(full, spoken):
    ratio = {"ratio": float("inf"), "low": 1.5, "high": float("inf"), "p": 0.0, "before": 0, "after": 3}
    seen = {"method": "counts", "seen": 30, "n": 300, "low": 0.0, "high": 4.2, "noticed": 9}
    values = {"level": "ERROR", "count": 3, "template": "t", "share": 0.7, "least": 30, **ratio, **seen}
    odd = {"n": 39, "template": "t", "number": asdict(alarms.Number("outside", "took", "894", "ms", 1, 63.0, 179.0))}
    keys = [key for key in texts.Texts(texts.HERE / "{lang}" / "gate.toml").all("en") if key.startswith("gate.reason.")]
    for lang in texts.LANGUAGES:
        spoken(lang)
        for verdict in (PASS, LOOK, CANNOT_TELL):
            names = [key.removeprefix("gate.reason.") for key in keys]
            reasons = [Reason(name, odd if name == "number" else values) for name in names]
            assert gate_page.page(replace(full, verdict=verdict, reasons=reasons)).html()
        assert all(part in gate_page.said(Reason("number", odd)) for part in ("39", "took 894 ms", "63", "179"))
