"""Pages for people: one HTML file with everything inside, for light and dark, phone and laptop.

    page = report.Page("Three models", lang="en", lead="What each of them learnt in a minute.")
    with report.figure() as (figure, axes):
        axes.plot(steps, losses, label="gpt2")
        axes.legend()
    page.add("## Learning curves\\n\\nAll start near `ln V`.", report.Figure(figure, alt="Loss falls from 3.3 to 1.9"))
    page.add(report.Table(["model", "loss"], [["bigram", 2.45], ["gpt2", 1.88]]), report.Details("More", "..."))
    page.write("report.html")

A page has no script, no link and no address; a content security policy forbids the browser to load anything. Text is
Markdown (paragraphs, headings, emphasis, lists, quotes, code, tables), and everything else in it is shown as it stands.
A figure is vector graphics whose colours follow the reader's theme. Matplotlib is imported by the first figure.
"""

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kakehashi import __version__, paths, texts

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

# Colours by role: (light, dark). Text has a contrast of 7, lesser text of 4.5, a series of 3 on its paper; with the
# common kinds of colour blindness, too, no two series look alike.
COLOURS = {
    "paper": ("#fbfbf9", "#14181c"),
    "panel": ("#f1f2ef", "#1d2329"),
    "line": ("#d8dcdf", "#343c44"),
    "muted": ("#59636d", "#9ca6b0"),
    "ink": ("#1d2329", "#e6e9ec"),
    "series-1": ("#1f77c4", "#4a9fee"),
    "series-2": ("#d4600f", "#ee7d3a"),
    "series-3": ("#0b5748", "#2f9478"),
    "series-4": ("#8a2a80", "#e2b0ea"),
    "series-5": ("#7f8790", "#b4bec8"),
}
PALETTE = tuple(light for role, (light, _) in COLOURS.items() if role.startswith("series"))
SEQUENTIAL, DIVERGING = "cividis", "PuOr"  # colour maps of Matplotlib that survive colour blindness
DASHES = ("-", (0, (5, 1.5)), "-.", (0, (1, 1.2)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))  # a series is known by its line, too
TEXT_WIDTH = 5.2  # inches that a figure as wide as the text has


@dataclass(frozen=True)
class Figure:
    """A Matplotlib figure. alt says what it shows to who cannot see it."""

    figure: "MatplotlibFigure"
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of strings, numbers or None; the first column names the row. Columns of numbers are set to the right.

    A column of floats shows 4 significant digits of the one that needs most: pass strings where it should not.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Text as it stands, in a fixed-width font: code, or what a model wrote."""

    text: str


@dataclass(frozen=True, init=False)
class Details:
    """Parts that open when the reader asks for them."""

    summary: str
    parts: tuple[Any, ...]

    def __init__(self, summary: str, *parts: Any):
        object.__setattr__(self, "summary", summary)
        object.__setattr__(self, "parts", parts)


class Page:
    """One page: a title, a leading sentence, and parts from top to bottom. lang is that of its words, "en" or "ja"."""

    def __init__(self, title: str, lang: str = "en", lead: str = ""):
        self.title, self.lang, self.lead = title, lang, lead
        self.parts: list[Any] = []

    def add(self, *parts: Any) -> "Page":
        """Add text (Markdown), Figures, Tables, Code and Details at the end; returns the page."""
        self.parts += parts
        return self

    def html(self) -> str:
        """The whole page as text; the same parts give the same text."""
        drawn = _Writer()
        body = "\n".join(drawn.part(part) for part in self.parts)
        lead = f'<p class="lead">{html.escape(self.lead)}</p>' if self.lead else ""
        made = texts.Texts(texts.HERE / "{lang}" / "report.toml").all(self.lang)["report.made"]
        return f"""<!doctype html>
<html lang="{html.escape(self.lang)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(self.title)}</title>
<style>{_style()}</style>
</head>
<body>
<header><p class="house">Kakehashi <span lang="ja">架け橋</span></p><h1>{html.escape(self.title)}</h1>{lead}</header>
<main>
{body}
</main>
<footer>{html.escape(made.format(version=__version__))}</footer>
</body>
</html>
"""

    def write(self, path: str | Path) -> Path:
        """Write the page, whole or not at all; returns its path. Raises paths.CannotWrite."""
        paths.atomic_write(path, self.html())
        return Path(path)


@contextmanager
def figure(
    width: float = TEXT_WIDTH, height: float = 3.3, rows: int = 1, columns: int = 1, **subplots: Any
) -> Iterator[tuple["MatplotlibFigure", Any]]:
    """A figure in our style and its axes (an array where there are several); draw inside the `with`.

    Sizes in inches; a narrower figure than the default takes less than the page's width. Japanese text is drawn. The
    figure belongs to no window, and can also be saved alone: figure.savefig("plot.png", dpi=200).
    """
    import matplotlib
    from matplotlib.figure import Figure as MatplotlibFigure

    with matplotlib.rc_context(_matplotlib_style()):
        drawn = MatplotlibFigure(figsize=(width, height), layout="constrained")
        yield drawn, drawn.subplots(rows, columns, **subplots)


class _Writer:
    """Turns parts into HTML; counts the figures, whose inner names must differ on a page."""

    def __init__(self):
        self.figures = 0

    def part(self, part: Any) -> str:
        match part:
            case str():
                return _markdown().render(part)
            case Code():
                return f'<pre tabindex="0"><code>{html.escape(part.text)}</code></pre>'
            case Figure():
                return self.figure(part)
            case Table():
                return self.table(part)
            case Details():
                inside = "\n".join(self.part(each) for each in part.parts)
                return f"<details><summary>{html.escape(part.summary)}</summary>\n{inside}\n</details>"
        raise TypeError(f"a page holds text, Figure, Table, Code and Details, not {type(part).__name__}")

    def figure(self, part: Figure) -> str:
        if not part.alt.strip():
            raise ValueError("a figure needs an alt text")
        self.figures += 1
        drawing = _svg(part.figure, f"f{self.figures}-", part.alt)
        caption = f"<figcaption>{html.escape(part.caption)}</figcaption>" if part.caption else ""
        return f'<figure><div class="wide" tabindex="0">{drawing}</div>{caption}</figure>'

    def table(self, part: Table) -> str:
        for row in part.rows:
            if len(row) != len(part.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(part.columns)} columns: {row!r}")
        columns = [_cells(column) for column in zip(*part.rows, strict=True)] or [[] for _ in part.columns]
        numeric = [bool(column) and all(map(_is_number, column)) for column in columns]
        kinds = [' class="number"' if each else "" for each in numeric]
        head = "".join(
            f'<th scope="col"{kind}>{html.escape(name)}</th>' for name, kind in zip(part.columns, kinds, strict=True)
        )
        body = "\n".join(f"<tr>{_row(row, kinds)}</tr>" for row in zip(*columns, strict=True))
        caption = f"<caption>{html.escape(part.caption)}</caption>" if part.caption else ""
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
        return f'<div class="wide" tabindex="0">{table}</div>'


def _row(cells: tuple[str, ...], kinds: list[str]) -> str:
    first, *rest = (f"{kind}>{html.escape(cell)}" for cell, kind in zip(cells, kinds, strict=True))
    return f'<th scope="row"{first}</th>' + "".join(f"<td{each}</td>" for each in rest)


def _cells(column: Sequence[object]) -> list[str]:
    """A column as text, its floats with the same number of decimals."""
    finite = [value for value in column if isinstance(value, float) and math.isfinite(value)]
    decimals = max((len(f"{value:.4g}".partition(".")[2]) for value in finite if 1e-4 <= abs(value) < 1e4), default=0)
    return [_cell(value, decimals) for value in column]


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.3e}" if 0 < abs(value) < 1e-4 else f"{value:,.{decimals}f}"
    return str(value)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"[–-]|[+−-]?[\d,]*\.?\d+(e[+-]?\d+)?( ?[%×a-zµ]{1,3})?|[+-]?inf|nan", cell) is not None


def _markdown():
    """CommonMark and tables, without anything that could load or lead somewhere."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return parser.disable(["link", "image", "autolink", "reference", "html_block", "html_inline"])


def _svg(drawn: "MatplotlibFigure", prefix: str, alt: str) -> str:
    """A figure as an <svg> element: colours of the light theme become variables, names get a prefix."""
    import matplotlib

    file = io.StringIO()
    # The salt makes the names inside, and so the page, the same in every run.
    with matplotlib.rc_context(_matplotlib_style() | {"svg.hashsalt": prefix, "svg.fonttype": "path"}):
        drawn.savefig(file, format="svg", facecolor="none", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    head, _, body = text.partition("<svg")[2].partition(">")
    view = "".join(re.findall(r'viewBox="[^"]*"', head))
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'href="#', f'href="#{prefix}', body).replace("url(#", f"url(#{prefix}")
    for role, (light, _) in COLOURS.items():
        body = body.replace(light, f"var(--{role})")
    share = min(1.0, drawn.get_figwidth() / TEXT_WIDTH)
    return f'<svg {view} role="img" aria-label="{html.escape(alt)}" style="--share:{share:.3g}">{body.strip()}'


def _matplotlib_style() -> Any:
    """Settings of Matplotlib, with the Japanese font made known."""
    from cycler import cycler
    from matplotlib import font_manager

    package = find_spec("matplotlib_fontja")  # found, not imported: its import changes everyone's settings
    if package and package.origin and "IPAexGothic" not in font_manager.fontManager.get_font_names():
        font_manager.fontManager.addfont(Path(package.origin).parent / "fonts" / "ipaexg.ttf")
    light = {role: pair[0] for role, pair in COLOURS.items()}
    return {
        "font.family": ["DejaVu Sans", "IPAexGothic"],
        "font.size": 8.5,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=DASHES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "axes.edgecolor": light["muted"],
        "axes.labelcolor": light["ink"],
        "text.color": light["ink"],
        "xtick.color": light["muted"],
        "ytick.color": light["muted"],
        "grid.color": light["line"],
        "grid.linewidth": 0.6,
        "figure.facecolor": light["paper"],
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "image.cmap": SEQUENTIAL,
    }


def _style() -> str:
    light, dark = (";".join(f"--{role}:{pair[theme]}" for role, pair in COLOURS.items()) for theme in (0, 1))
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}{_CSS}"


_CSS = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:46rem;padding:clamp(1.5rem,5vw,4rem) 1.25rem 3rem;background:var(--paper);color:var(--ink);
  font:1.0625rem/1.65 system-ui,-apple-system,"Segoe UI","Hiragino Sans","Noto Sans JP","Noto Sans CJK JP",
  "Yu Gothic UI",Meiryo,sans-serif;overflow-wrap:break-word}
:lang(ja){line-height:1.8;line-break:strict}
header{margin-bottom:3rem}
.house{margin:0 0 .75rem;font-size:.8125rem;letter-spacing:.04em;color:var(--muted)}
h1,h2,h3,h4{line-height:1.25;text-wrap:balance;font-weight:650;letter-spacing:-.011em}
h1{margin:0;font-size:clamp(1.75rem,1.3rem + 2.2vw,2.5rem)}
.lead{margin:1rem 0 0;font-size:1.1875rem;line-height:1.55;color:var(--muted);text-wrap:pretty}
h2{margin:3.25rem 0 1rem;font-size:1.5rem}
h3{margin:2.25rem 0 .75rem;font-size:1.1875rem}
h4{margin:1.75rem 0 .5rem;font-size:1rem}
p,ul,ol,blockquote{margin:0 0 1.1rem}
ul,ol{padding-left:1.4rem}
li+li{margin-top:.3rem}
blockquote{padding-left:1rem;border-left:3px solid var(--line);color:var(--muted)}
hr{margin:2.5rem 0;border:0;border-top:1px solid var(--line)}
code,pre{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono","Noto Sans Mono CJK JP","BIZ UDGothic",monospace;
  font-size:.875em}
code{padding:.1em .3em;border-radius:4px;background:var(--panel)}
pre{margin:0 0 1.5rem;padding:.9rem 1.1rem;border-radius:8px;background:var(--panel);line-height:1.55;overflow-x:auto}
pre code{padding:0;background:none;font-size:.9375em}
figure{margin:1.75rem 0 2rem}
figure svg{display:block;width:calc(100%*var(--share));min-width:calc(21.5rem*var(--share));height:auto}
figcaption,caption{font-size:.875rem;line-height:1.5;color:var(--muted)}
figcaption{margin-top:.5rem}
caption{padding-bottom:.6rem;text-align:left}
.wide{overflow-x:auto}
:focus-visible{outline:2px solid var(--series-1);outline-offset:3px;border-radius:4px}
table{width:100%;margin:.25rem 0 1.75rem;border-collapse:collapse;font-size:.9375rem;line-height:1.45;
  font-variant-numeric:tabular-nums lining-nums}
th,td{padding:.5rem 1.25rem .5rem 0;text-align:left;vertical-align:baseline;border-bottom:1px solid var(--line)}
th:last-child,td:last-child{padding-right:0}
thead th{font-size:.8125rem;font-weight:600;color:var(--muted);border-bottom-color:var(--muted);vertical-align:bottom}
tbody th{font-weight:550}
.number{text-align:right}
td.number{white-space:nowrap}
details{margin:0 0 1.1rem;padding:.7rem 1.1rem;border:1px solid var(--line);border-radius:8px}
details[open]{padding-bottom:.1rem}
summary{cursor:pointer;font-weight:550}
details[open]>summary{margin-bottom:.8rem}
footer{margin-top:4rem;padding-top:1.1rem;border-top:1px solid var(--line);font-size:.8125rem;color:var(--muted)}
@media (max-width:30rem){table{font-size:.875rem}th,td{padding-right:.75rem}}
@media print{body{max-width:none;padding:0}pre{white-space:pre-wrap}figure,tr{break-inside:avoid}}
"""
