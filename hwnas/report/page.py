"""`report.html`: one self-contained page, opens offline, light or dark with the system. Reads page.css and page.js."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from hwnas import __version__
from hwnas.report.content import (
    COSTS,
    EMULATED,
    KINDS,
    NONE,
    PREDICTED,
    Front,
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
from hwnas.report.facts import OBJECTIVES, facts, heading
from hwnas.report.figures import FIRST_AXIS, axes, interactive
from hwnas.report.points import Cloud

LONG = 30  # words of a cell that are broken over lines
HERE = Path(__file__).resolve().parent
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<header><h1>{heading}</h1><dl class="facts">{facts}</dl></header>
<main>
<div class="tiles">{tiles}</div>
<section>
<h2>Pareto scatter</h2>
<p class="note">{scatter_note}</p>
<div class="switch" role="group" aria-label="horizontal axis">{buttons}</div>
<div class="plot">{plot}</div>
</section>
{sections}
</main>
<footer>hwnas {version}</footer>
<script>{js}</script>
</body>
</html>
"""


def render(front: Front, sections: Sequence[Section], cloud: Cloud) -> str:
    """The whole page."""
    metric = measure(primary(front))
    plot = interactive(cloud, f"{metric.axis} (validation, int8, {source(front)})").to_html(
        full_html=False, include_plotlyjs=True, div_id="pareto", config={"displayModeBar": False, "responsive": True}
    )
    labels = {name: quantity.name for name, quantity in COSTS.items()}
    buttons = "".join(
        f'<button type="button" data-axis="{name}" aria-pressed="{str(name == FIRST_AXIS).lower()}">{escape(text)}</button>'
        for name, text in labels.items()
    )
    note = (
        f"Costs are predicted; {metric.title} is that of the int8 form on validation subjects, {source(front)} data. A thin line joins "
        "a student's score after the short and after the full distillation. Hover a point for its "
        "architecture, cost and scores; drag to zoom, double-click to reset. "
        f"{OBJECTIVES}"
    )
    return PAGE.format(
        title=escape(f"hwnas: {heading(front)}"),
        heading=escape(heading(front)),
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        facts="".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts(front)),
        tiles="".join(_tile(*tile) for tile in tiles(front)),
        scatter_note=escape(note),
        buttons=buttons,
        plot=plot,
        sections="\n".join(map(_section, sections)),
        version=escape(__version__),
        js=(HERE / "page.js").read_text(encoding="utf-8").replace("__AXES__", _script_json(axes(cloud))),
    )


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


def _tile(name: str, value: str, kind: str) -> str:
    return f'<div class="tile"><span>{escape(name)}</span><strong>{escape(value)}</strong><em>{escape(kind)}</em></div>'


def _section(section: Section) -> str:
    kind = "figures" if section.figures else "facts-table"
    body = "".join(f"<tr>{_cells('td', row, section, number)}</tr>" for number, row in enumerate(section.rows))
    return (
        f'<section><h2>{escape(section.title)}</h2><p class="note">{escape(section.note)}</p>'
        f'<div class="scroll"><table class="{kind}"><thead>{_head(section)}</thead><tbody>{body}</tbody></table></div></section>'
    )


def _head(section: Section) -> str:
    titles = f"<tr>{_cells('th', [c.title for c in section.columns], section)}</tr>"
    if not any(c.group for c in section.columns):
        return titles
    groups = [(name, len(list(members))) for name, members in groupby(c.group for c in section.columns)]
    return "<tr>" + "".join(f'<th class="group" colspan="{n}">{escape(name)}</th>' for name, n in groups) + "</tr>" + titles


def _starts(section: Section) -> set[int]:
    """Indices of the columns at which another kind of figure begins."""
    groups = [c.group for c in section.columns]
    return {i for i, name in enumerate(groups) if i and name != groups[i - 1]}


def _cells(tag: str, texts: Sequence[str], section: Section, row: int = -1) -> str:
    """The cells of row `row` of a section, or of its head."""
    starts, columns = _starts(section), section.columns
    kinds = [
        {
            "start": i in starts,
            "words": column.words,
            "long": column.words and len(text) > LONG,
            "none": text == NONE,
            "marked": (row, i) in section.marked,
        }
        for i, (text, column) in enumerate(zip(texts, columns, strict=True))
    ]
    marks = [" ".join(name for name, holds in kind.items() if holds) for kind in kinds]
    return "".join(f'<{tag} class="{mark}">{escape(text)}</{tag}>' for mark, text in zip(marks, texts, strict=True))


def _script_json(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content).replace("<", "\\u003c")
