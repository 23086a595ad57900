"""The gate's page: one sheet of A4 for a person who was not there; on a phone or laptop the same, as wide as it may be.

It quotes lines of logs, which anybody may have written: they are cut, shown as text, and what would turn the writing
around or hide a part of it is spelled out.
"""

import math
import subprocess
import unicodedata
from collections import Counter
from operator import itemgetter
from pathlib import Path

from kakehashi import __version__, report, texts
from kakehashi.texts import t
from kakehashi.work.logs.alarms import Alarm, Number, at
from kakehashi.work.logs.gate import CANNOT_TELL, LOOK, OURS, PASS, Comparison, Facts, NewTemplate, Rate, Reason, Share
from kakehashi.work.logs.rates import CONFIDENCE, Ratio
from kakehashi.work.logs.wording import learnt, sentence

REASONS, NEW, LEVELS, CHANGED, ALARMS, NOTES = 5, 3, 2, 4, 4, 3  # so many are shown on a full page; all stand in --json
MOST_ALARMS = 8  # where there is room
CELLS = 90  # columns of a terminal that a quoted line may be wide; kanji take two
NAME = 28  # and the name of a file
SLUGS = {PASS: "pass", LOOK: "look", CANNOT_TELL: "cannot_tell"}
CHECKOUT = Path(__file__).parents[4]


class Sheet(report.Page):
    """A page that prints on one sheet; kind colours its title."""

    def __init__(self, title: str, lang: str, lead: str, kind: str):
        super().__init__(title, lang, lead)
        self.kind = kind

    def html(self) -> str:
        made = super().html().replace("</style>", f"{_CSS}</style>", 1)
        return made.replace("<body>", f'<body class="{self.kind}">', 1)


def write(path: str | Path, found: Comparison) -> Path:
    """Write the page in the language in use; returns its path. Raises paths.CannotWrite."""
    return page(found).write(path)


def page(found: Comparison) -> Sheet:
    """The verdict, why, baseline against model, what changed, what could not be read, cost, how to read it."""
    slug = SLUGS[found.verdict]
    made = Sheet(t(f"gate.verdict.{slug}"), texts.language(), t(f"gate.lead.{slug}"), slug)
    made.add(reasons(found), heading("compared"), compared(found))
    made.add(heading("methods"), methods(found), against(found))
    new, sure = found.new_templates, [rate for rate in found.rates if not rate.ratio.low <= 1 <= rate.ratio.high]
    room = NEW + LEVELS + CHANGED + max(0, REASONS - len(found.reasons))  # lines that the alarms may have besides
    levels = [share for share in found.levels if share.before or share.after]
    if rows := [*map(new_row, new[:NEW]), *map(level_row, levels), *(rate_row(each, found) for each in sure[:CHANGED])]:
        columns = [t(f"gate.column.{name}") for name in ("change", "before", "after", "ratio", "line")]
        room -= len(rows)
        shown = (t("gate.column.new"), NEW, len(new)), (t("gate.column.rates"), CHANGED, len(sure))
        made.add(heading("changes", *shown))
        made.add(report.Table(columns, rows))
    if new:
        n = sum(each.count for each in new)
        made.add(t("gate.expected_new", n=number(n), expected=number(found.expected_new)))
    if worst := found.alarms.alarms:
        columns = [t(f"gate.column.{name}") for name in ("why", "alike", "place", "line")]
        n_shown = min(MOST_ALARMS, ALARMS + room, len(worst))
        made.add(heading("alarms", ("", n_shown, len(worst) + found.alarms.n_over)))
        made.add(report.Table(columns, [alarm_row(each) for each in worst[:n_shown]]))
    made.add(heading("read"), "\n".join(f"- {line}" for line in remarks(found)))
    return made


def heading(key: str, *shown: tuple[str, int, int]) -> str:
    """A heading; behind it, for each (name, shown, n) where not all are shown, of how many."""
    parts = [f"{name} {of(k, n)}".strip() for name, k, n in shown if k < n]
    return f"## {t(f'gate.heading.{key}')}" + (f" ({', '.join(parts)})" if parts else "")


def reasons(found: Comparison) -> report.Table:
    """Why the verdict is so: the first of each kind, the weightiest first, then the others."""
    kinds: Counter[str] = Counter()
    rows = []
    for reason in found.reasons:
        kinds[reason.key] += 1
        rows.append((kinds[reason.key], [said(reason), quoted(reason.values.get("template", ""))]))
    rows = [row for _, row in sorted(rows, key=itemgetter(0))]
    why = t("gate.column.why") + (f" ({of(REASONS, len(rows))})" if len(rows) > REASONS else "")
    return report.Table([why, t("gate.column.line")], rows[:REASONS])


def said(reason: Reason) -> str:
    """A reason in words."""
    if reason.key == "number":
        odd = Number(**reason.values["number"])
        words = {"name": odd.name or t("logs.number.name"), "written": f"{odd.written} {odd.unit}".rstrip()}
        return t("gate.reason.number", n=number(reason.values["n"]), **words, learnt=learnt(odd))
    values = {name: number(value, name == "share") for name, value in reason.values.items()}
    if "method" in values:
        values["method"] = t(f"logs.method.{values['method']}")
    return t(f"gate.reason.{reason.key}", **values)


def compared(found: Comparison) -> report.Table:
    """What was read of each side."""
    columns = ("", "files", "lines", "sessions", "span", "folder")
    rows = [side(name, found.n[name]) for name in ("before", "after")]
    return report.Table([t(f"gate.column.{name}") if name else "" for name in columns], rows)


def side(name: str, facts: Facts) -> list[object]:
    span = "–" if facts.first is None or facts.last is None else f"{moment(facts.first)} – {moment(facts.last)}"
    paths = quoted(", ".join(facts.paths))
    return [t(f"gate.column.{name}"), facts.files, facts.lines, facts.sessions, span, paths]


def methods(found: Comparison) -> report.Table:
    """A row a method: alarms among normal sessions, and after."""
    columns = ("method", "normal", "after", "ratio", "interval")
    rows = [
        [
            t(f"logs.method.{row.name}"),
            f"{row.normal:,} / {row.n_normal:,}" + (f" ({t('gate.column.before')})" if row.of_before else ""),
            f"{row.after:,} / {row.n_after:,}",
            number(row.ratio.ratio),
            span(row.ratio) + (" ▲" if row.more else ""),
        ]
        for row in sorted(found.methods, key=lambda row: row.name == OURS)
    ]
    return report.Table([t(f"gate.column.{name}") for name in columns], rows)


def against(found: Comparison) -> str:
    """False alarms expected and alarms seen; what the model added to what needs no learning."""
    ours = found.ours
    key = "noticed" if ours.noticed <= ours.n_after else "not_noticed"
    counts = {"seen": ours.after, "n": ours.n_after, "noticed": ours.noticed}
    sentences = [t(f"gate.{key}", **{name: number(n) for name, n in counts.items()})]
    if ours.after:
        added = {"n": number(ours.after), "added": number(found.added)}
        sentences.append(t("gate.added", **added) if found.added else t("gate.nothing_added"))
    if found.wins and ours.more:
        names = t("gate.and").join(t(f"logs.method.{name}") for name in found.wins)
        sentences.append(t("gate.wins", names=names))
    return " ".join(sentences)


def new_row(new: NewTemplate) -> list[object]:
    return [t("gate.new", level=new.level or "–"), 0, new.count, "∞", quoted(new.example)]


def level_row(share: Share) -> list[object]:
    return [share.level, share.before, share.after, with_span(share.ratio), t("gate.of_all_lines")]


def rate_row(rate: Rate, found: Comparison) -> list[object]:
    unit = t("gate.rate_session" if found.per_session else "gate.rate_line")
    return [unit, rate.before, rate.after, with_span(rate.ratio), quoted(rate.template)]


def alarm_row(alarm: Alarm) -> list[object]:
    record = at(alarm.judged)
    place = f"{quoted(Path(record.source).name, NAME)}:{record.line_number}"
    return [t(f"gate.alarm.{alarm.judged.why}"), alarm.n_alike, place, quoted(record.message)]


def remarks(found: Comparison) -> list[str]:
    """What could not be read, cost, privacy, how to read the page, and with what it was made."""
    notes = [sentence(each, code(Path(each.source).name, NAME)) for each in found.notes[:NOTES]]
    over = len(found.notes) - NOTES
    if sum(running := [found.n[name].running for name in ("before", "after")]):
        notes.append(t("gate.running", before=number(running[0]), after=number(running[1])))
    cost = found.cost
    memory = t("gate.memory", peak=number(cost.peak_mib)) if cost.peak_mib else ""
    return [
        t("gate.read_all") if not notes else t("gate.failures", notes=" ".join(notes), over=max(over, 0)),
        t("gate.cost", seconds=number(cost.seconds), speed=number(cost.lines_per_second), memory=memory),
        t("gate.private"),
        t("gate.how", confidence=f"{CONFIDENCE:.0%}"),
        t("gate.rules"),
        t("gate.made", version=__version__, commit=commit() or "–", run=code(found.run, 2 * NAME)),
    ]


def of(shown: int, n: int) -> str:
    return t("gate.shown", shown=shown, n=number(n))


def number(value: float | int | str, share: bool = False) -> str:
    """Counts in full, other numbers to two digits or as a whole."""
    if isinstance(value, str):
        return value
    if share:
        return f"{value:.0%}"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def span(ratio: Ratio) -> str:
    return f"{number(ratio.low)} – {number(ratio.high)}"


def with_span(ratio: Ratio) -> str:
    return f"{number(ratio.ratio)} ({span(ratio)})"


def moment(iso: str) -> str:
    """2026-10-05 09:30, of a time in ISO 8601."""
    return iso[:16].replace("T", " ")


def quoted(text: str, cells: int = CELLS) -> str:
    """A line of a log as a page may show it: cut, and what acts on the writing around it spelled out."""
    shown, width = "", 0
    for character in text:
        if unicodedata.category(character)[0] in "CZ" and character != " ":
            character = character.encode("unicode_escape").decode() if not character.isspace() else " "
        width += sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in character)
        if width > cells:
            return shown + " …"
        shown += character
    return shown


def code(text: str, cells: int) -> str:
    """A name within Markdown, as it stands."""
    return f"`{quoted(text, cells).replace('`', chr(0x2019))}`"


def commit() -> str | None:
    """The commit of the checkout that this package stands in; None where it stands in none."""
    if not (CHECKOUT / ".git").exists() or not (CHECKOUT / "src" / "kakehashi").is_dir():
        return None
    asked = ["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


_CSS = """
h1{padding-left:.6em;border-left:.28em solid var(--muted)}
.pass h1{border-color:var(--series-3)}
.look h1{border-color:var(--series-2)}
body{max-width:60rem}
header{margin-bottom:2rem}
h2{margin-top:2.25rem}
th,td{white-space:nowrap}
td:last-child:not(.number){width:100%;min-width:14rem;white-space:normal;overflow-wrap:anywhere}
main>.wide:first-child th{min-width:16rem;white-space:normal}
@media (max-width:40rem){
main>.wide :is(table,thead,tbody){display:block;width:auto}
main>.wide tr{display:grid;grid-template-columns:repeat(3,1fr);border-bottom:1px solid var(--line)}
main>.wide :is(th,td){min-width:0;padding:.1em .6em .1em 0;border:0}
main>.wide :is(th,td){text-align:left;white-space:normal;overflow-wrap:anywhere}
main>.wide :is(th,td):is(:first-child,:nth-child(5),:last-child){grid-column:1/-1;width:auto;min-width:0}
main>.wide:first-child thead{display:none}
}
@media print{
@page{size:A4;margin:9mm 11mm}
body{max-width:none;font-size:7.6pt}
body,:lang(ja){line-height:1.28}
header{margin-bottom:2mm}
.house{margin:0;font-size:7pt}
h1{font-size:20pt}
.lead{margin-top:1mm;font-size:9pt;line-height:1.3}
h2{margin:2.4mm 0 .6mm;font-size:9.5pt}
p,ul{margin:0 0 1mm}
ul{padding-left:4mm}
li+li{margin-top:.3mm}
table{margin:0 0 1mm;font-size:inherit;line-height:1.2}
th,td{padding:.32mm 3mm .32mm 0}
thead th{font-size:7pt}
code{padding:0;background:none}
footer{margin-top:2mm;padding-top:1mm;font-size:7pt}
.wide{overflow:hidden}
main>.wide:first-child th{white-space:nowrap}
td:last-child:not(.number){min-width:0;max-width:0;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
}
"""
