"""A page is one file that loads nothing, escapes everything, and can be read by everyone."""

import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from kakehashi import paths, report, texts

# Elements that may stand in a page: none of them runs anything, and of their attributes only those below name a thing.
ELEMENTS = set(
    "html head meta title style body header p span h1 h2 h3 h4 h5 h6 main footer ul ol li em strong code pre "
    "blockquote hr br div table caption thead tbody tr th td figure figcaption details summary svg g path defs use "
    "clippath rect image".split()
)
VOID = {"meta", "hr", "br"}


class Reader(HTMLParser):
    """What a browser would see: elements, text, and every reference; unbalanced elements fail."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.references, self.ids, self.text, self.open = [], [], [], "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "action", "poster", "data"}:
                self.references.append(value)
            elif name == "id":
                self.ids.append(value)
            self.references += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


def lines(title: str = "", label: str = "loss"):
    with report.figure() as (figure, axes):
        axes.plot([0, 1, 2], [3, 2, 1.5], label=label)
        axes.fill_between([0, 1, 2], [3, 2, 1], [3, 2.5, 2], alpha=0.3)
        axes.legend()
        axes.set_title(title)
    return figure


def heat():
    with report.figure(2.6, 2.2) as (figure, axes):
        axes.imshow(np.eye(4))
    return figure


def full_page(lang: str = "en") -> report.Page:
    return report.Page("学習の記録 <1>", lang, lead="A & B").add(
        "## Curves\n\nText with **weight**, `code` and\n\n- a list\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        report.Figure(lines("学習曲線", "損失"), alt='The loss "falls"', caption="Lower is better."),
        report.Table(["model", "loss"], [["bigram", 2.45], ["gpt2", 1.9]], caption="At the end"),
        report.Details("More", report.Figure(heat(), alt="A diagonal"), report.Code("def f():\n    return '<b>'")),
    )


def test_the_page_is_one_file_that_refers_to_nothing_outside(tmp_path):
    path = full_page().write(tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    read = Reader(page)
    assert {name for name, _ in read.elements} <= ELEMENTS
    assert read.references and all(each.startswith(("#", "data:image/png;base64,")) for each in read.references)
    assert (
        "://" not in page
        and "@import" not in page
        and "url(" not in "".join(re.findall("<style>(.*?)</style>", page, re.S))
    )
    policy = next(meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert list(tmp_path.iterdir()) == [path]


def test_references_inside_figures_meet_exactly_one_target():
    read = Reader(full_page().add(report.Figure(lines(), alt="the same again")).html())
    inner = {each[1:] for each in read.references if each.startswith("#")}
    assert inner <= set(read.ids) and len(read.ids) == len(set(read.ids))


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def test_every_text_is_escaped():
    page = report.Page(HOSTILE, lead=HOSTILE).add(
        HOSTILE,
        f"# {HOSTILE}\n\n<script>\nalert(1)\n</script>\n\n`{HOSTILE}`",
        report.Figure(lines(HOSTILE, HOSTILE), alt=HOSTILE, caption=HOSTILE),
        report.Table([HOSTILE, "n"], [[HOSTILE, 1]], caption=HOSTILE),
        report.Code(HOSTILE),
        report.Details(HOSTILE, HOSTILE),
    )
    read = Reader(page.html())
    assert {name for name, _ in read.elements} <= ELEMENTS
    assert not any(name.startswith("on") for _, attrs in read.elements for name in attrs)
    assert read.text.count("<script>alert(1)</script>") == 13


@pytest.mark.parametrize(
    "text",
    [
        "[a](http://x.test)",
        "![a](http://x.test/a.png)",
        "<http://x.test>",
        "[a]\n\n[a]: http://x.test",
        "[a](javascript:b)",
    ],
)
def test_markdown_makes_no_link_and_no_image(text):
    read = Reader(report.Page("t").add(text).html())
    assert read.references == [] and not read.all("a") and not read.all("img")


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_who_cannot_see_it_can_read_it(lang):
    read = Reader(full_page(lang).html())
    assert read.all("html")[0]["lang"] == lang
    assert len(read.all("h1")) == len(read.all("title")) == 1
    assert [svg["aria-label"] for svg in read.all("svg")] == ['The loss "falls"', "A diagonal"]
    assert all(svg["role"] == "img" for svg in read.all("svg"))
    assert [th.get("scope") for th in read.all("th")][-4:] == ["col", "col", "row", "row"]
    assert "width=device-width" in next(meta["content"] for meta in read.all("meta") if meta.get("name") == "viewport")
    with pytest.raises(ValueError, match="alt text"):
        report.Page("t").add(report.Figure(lines(), alt=" ")).html()


def test_the_page_speaks_its_own_language_whatever_the_program_speaks():
    texts.use("ja")
    try:
        assert "Made by Kakehashi" in full_page("en").html() and "で作成" in full_page("ja").html()
    finally:
        texts.use(None)


def test_numbers_are_set_to_the_right_with_the_same_decimals():
    columns = ["name", "count", "loss", "share", "rate", "note"]
    rows = [["a", 1234, 1.5, "10 %", 3e-5, None], ["b", None, 22.125, "9.5 %", float("nan"), "good"]]
    page = report.Page("t").add(report.Table(columns, rows)).html()
    cells = re.findall(r'<t[dh](?: scope="row")?( class="number")?>([^<]*)<', page.split("<tbody>")[1])
    assert [text for _, text in cells] == [
        *("a", "1,234", "1.50", "10 %", "3.000e-05", "–"),
        *("b", "–", "22.12", "9.5 %", "nan", "good"),
    ]
    assert [bool(kind) for kind, _ in cells] == [False, True, True, True, True, False] * 2
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        report.Page("t").add(report.Table(["a", "b"], [["x"]])).html()
    assert "<tbody>\n\n</tbody>" in report.Page("t").add(report.Table(["a", "b"], [])).html()


def test_the_same_parts_make_the_same_page():
    assert full_page().html() == full_page().html()


def test_a_part_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="not dict"):
        report.Page("t").add({"loss": 1}).html()


def test_figures_take_their_colours_from_the_readers_theme():
    svg = full_page().html().split("<svg")[1].split("</svg>")[0]
    assert "var(--series-1)" in svg and "var(--ink)" in svg and "var(--muted)" in svg
    assert re.findall("#[0-9a-f]{6}", svg) == []  # no colour that would not follow


def test_japanese_is_drawn_and_nothing_of_matplotlib_is_changed():
    script = """
import warnings; warnings.simplefilter("error")
import matplotlib; before = dict(matplotlib.rcParams)
from kakehashi import report
with report.figure() as (figure, axes):
    axes.set_title("勾配と学習率"); axes.text(0, 0, "損失 ≤ 1.9 −3")
html = report.Page("t").add(report.Figure(figure, alt="x")).html()
assert dict(matplotlib.rcParams) == before
print(html.count('-IPAexGothic-'))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert int(done.stdout) >= 2 * len("勾配と学習率損失"), done.stderr  # each glyph is defined once and used
    assert "Font" not in done.stderr and "font" not in done.stderr


def test_importing_it_imports_no_matplotlib():
    script = "import sys, kakehashi.report as r; r.Page('t').add('x').html(); sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(paths.CannotWrite, match="make its folder first"):
        report.Page("t").write(tmp_path / "missing" / "report.html")
    assert list(tmp_path.iterdir()) == []


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, relative luminance."""
    dark, light = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SIGHT = {  # Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_enough_contrast(theme):
    colours = {role: pair[theme] for role, pair in report.COLOURS.items()}
    for ground in ("paper", "panel"):
        assert contrast(colours["ink"], colours[ground]) >= 7
        assert contrast(colours["muted"], colours[ground]) >= 4.5
    for role in colours:
        if role.startswith("series"):
            assert contrast(colours[role], colours["paper"]) >= 3, role


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_no_two_series_look_alike(theme, sight):
    series = [pair[theme] for role, pair in report.COLOURS.items() if role.startswith("series")]
    seen = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in series]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12  # 2.3 is just noticeable


@pytest.mark.slow
def test_a_browser_loads_nothing_else_and_needs_no_sideways_scrolling(tmp_path, tool):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = full_page("ja").add(report.Code("x" * 500)).write(tmp_path / "report.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tool("chromium", "google-chrome"), args=["--no-sandbox"])
        grounds = set()
        for width, scheme in itertools.product((390, 1280), ("light", "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            requests, complaints = [], []
            page.on("request", lambda request, seen=requests: seen.append(request.url))
            page.on("console", lambda message, seen=complaints: seen.append(message.text))
            page.goto(path.as_uri())
            page.locator("summary").click()
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.locator("svg").first.bounding_box()["width"] > 300
            assert complaints == []
            assert [each for each in requests if not each.startswith("data:")] == [path.as_uri()]
        assert len(grounds) == 2
        browser.close()
