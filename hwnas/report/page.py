"""`report.html`: the whole report as one page that opens offline, light or dark with the system. Reads page.css and page.js.

The overview stands first, then a page for every student, which links of the form `#student-ID` show. Without JavaScript all of them
follow one another, and only the scatter is missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from hwnas import __version__
from hwnas.report import course, explorer, listing, students, tables
from hwnas.report.charts import tag
from hwnas.report.content import (
    COSTS,
    EMULATED,
    KINDS,
    PREDICTED,
    Front,
    Report,
    Section,
    best_student,
    cost,
    doubt,
    families,
    figure,
    measure,
    primary,
    score,
    share,
    source,
)
from hwnas.report.facts import OBJECTIVES, facts, heading, warning
from hwnas.report.integers import exports, quantisation, sensitivity
from hwnas.report.sections import family_counts, search, teacher

HERE = Path(__file__).resolve().parent
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<a class="skip" href="#scatter">skip to the front</a>
<div id="overview">
<header><h1 tabindex="-1">{heading}</h1>{warning}</header>
<nav class="parts" aria-label="parts of the report">{parts}</nav>
<main>
<div class="tiles">{tiles}</div>
{sections}
</main>
</div>
{students}
<footer>hwnas {version}. This is research software. It is no medical device, and its output is no diagnosis.</footer>
<script type="application/json" id="networks">{networks}</script>
<script>{plotly}</script>
<script>{js}</script>
</body>
</html>
"""


def render(report: Report) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    front, listed = report.front, [str(s["id"]) for s in report.students]
    parts = [part for part in _parts(report) if part]
    neighbours = zip(["", *listed[:-1]], [*listed[1:], ""], strict=True) if listed else ()
    pages = [students.page(report, s, before, after) for s, (before, after) in zip(report.students, neighbours, strict=True)]
    return PAGE.format(
        title=escape(f"hwnas: {heading(front)}"),
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        heading=escape(f"{front.get('task')} on {front.get('profile')}"),
        warning=f'<p class="marked"><strong>{escape(warning(front))}</strong></p>' if warning(front) else "",
        parts="".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in parts),
        tiles="".join(students.tile(*tile) for tile in tiles(front)),
        sections="\n".join(f'<section id="{anchor}"><h2>{escape(title)}</h2>{body}</section>' for anchor, title, body in parts),
        students="\n".join(pages),
        version=escape(__version__),
        networks=_script_json(explorer.content(report)),
        plotly=get_plotlyjs(),
        js=(HERE / "page.js").read_text(encoding="utf-8"),
    )


def _parts(report: Report) -> list[tuple[str, str, str] | None]:
    """(anchor, title, content) of the parts of the overview, in order; None for one that has nothing to show."""
    front = report.front
    integers = [s for s in (quantisation(front), sensitivity(front), exports(front)) if s.rows]
    card, found, counts = teacher(front), search(front, report.trials), family_counts(front)
    return [
        ("scatter", "Pareto front", _scatter(report)),
        ("students-table", "Students", f'<p class="note">{escape(_students_note(front))}</p>{listing.table(report)}')
        if report.students
        else None,
        ("battery-life", "Battery life", course.battery(report)) if report.students else None,
        ("teacher", "Teacher card", f"<p>{course.teacher(report)}{tag(f'{source(front)} data')}</p>{_grid(card)}") if card.rows else None,
        ("search", "Search history", course.search(report) + _folded([s for s in (found, counts) if s.rows])),
        ("int8", "int8 and exported files", _folded(integers)) if integers else None,
        ("run", "The run", _facts(facts(front))),
        ("reproduce", "How to reproduce", course.reproduce(report)),
    ]


def _scatter(report: Report) -> str:
    metric = measure(primary(report.front))
    note = (
        f"Every network of the search: {metric.title} of the int8 form on {source(report.front)} data against its costs. A thin line joins "
        "a student's score after the short and after the full distillation; the step joins students that nothing beats on these two axes. "
        f"{OBJECTIVES}"
    )
    return (
        '<div class="tools"><label>vertical <select id="y-axis"></select></label>'
        '<label>horizontal <select id="x-axis"></select></label></div>'
        '<div class="tools keys" id="keys" role="group" aria-label="what is drawn"></div>'
        '<div class="plot"><div id="pareto" role="img" aria-label="Pareto scatter"></div>'
        '<div id="ring" hidden></div><div id="told" role="status" hidden></div></div>'
        f'<p class="note" id="scatter-note" role="status"></p><p class="note">{escape(note)}</p>'
    )


def _students_note(front: Front) -> str:
    return (
        "Click a head to sort, an id for the student's own page. Students are chosen on validation subjects; test subjects are scored "
        "once, after that. Predicted: from the lookup table and the arena plan, before training. Emulated: the shipped ELF executed with a "
        "cycle model of the core, not measured on silicon. CSV and JSON hold the rows and columns that are shown, in stored units."
    )


def _folded(sections: list[Section]) -> str:
    return "".join(f"<details><summary>{escape(s.title)}</summary>{tables.body(s)}</details>" for s in sections)


def _grid(section: Section) -> str:
    return f'<p class="note">{escape(section.note)}</p>{_facts([(row[0], row[1]) for row in section.rows])}'


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    return '<dl class="facts">' + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows) + "</dl>"


def tiles(front: Front) -> list[tuple[str, str, str]]:
    """The few figures to see first: (title, figure, what it is)."""
    first, students, teacher = primary(front), front.get("students", []), front.get("teacher") or {}
    metric = measure(first)
    counted = Counter(str(s.get("family")) for s in students)
    known = families(front)
    mix = ", ".join(f"{family} {counted[family]}" for family in known) if len(known) > 1 else ""
    made = [("students on the front", str(len(students)), mix or "int8, fully distilled")]
    chosen = best_student(front)
    if chosen is not None:
        made.append((f"best student, {metric.title}", metric.show(score(chosen, "test", first)), f"test, int8, {source(front)}"))
        kind = EMULATED if cost(chosen, "latency_us", EMULATED) is not None else PREDICTED
        made += [
            (f"its {q.title}", q.show(cost(chosen, name, kind)), " ".join(filter(None, (doubt(front, name), KINDS[kind]))))
            for name, q in COSTS.items()
            if name in ("latency_us", "ram_bytes", "energy_uj")
        ]
    reached = teacher.get("metrics") or {}
    if reached:
        size = figure(teacher.get("parameters"))
        part = "test, " if "test" in reached else ""
        made.append((f"teacher, {metric.title}", metric.show(reached.get("test", reached).get(first)), f"{part}float, {size} parameters"))
    rejected = (front.get("search") or {}).get("reject_share")
    return [*made, ("random candidates over budget", share(rejected), "never trained")] if rejected is not None else made


def _script_json(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
