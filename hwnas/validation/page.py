"""`nights.html`: one self-contained page of tonight's verdicts and the trend of every figure; no script. Reads page.css."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from hwnas import __version__
from hwnas.validation.history import Row
from hwnas.validation.render import (
    NONE,
    Figure,
    Report,
    Table,
    drift_tables,
    figures,
    nights_table,
    number,
    quarantine_table,
    target_tables,
)

CSS = Path(__file__).resolve().parent / "page.css"
LONG = 40  # characters of a cell that are broken over lines
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 150, 58, 10, 10, 24
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
<header><h1>{title}</h1><p class="note">{note}</p></header>
<main>
{sections}
</main>
<footer>hwnas {version}</footer>
</body>
</html>
"""


class Point(NamedTuple):
    """One night of a figure."""

    row: Row
    figure: Figure


def page(report: Report) -> str:
    """The whole page."""
    night = report.night
    fault = f" A fault was made on purpose: {night.fault}; such figures never serve as a baseline." if night.fault else ""
    tables = [*target_tables(report), *drift_tables(report), quarantine_table(report)]
    sections = [_section(table) for table in tables if table.rows]
    sections += [_trend(student, target, rows) for (target, student), rows in _series(report).items()]
    sections.append(_section(nights_table(report.nights, report.rows)))
    return PAGE.format(
        title=escape(f"Night {night.night}: {report.counts}"),
        css=CSS.read_text(encoding="utf-8"),
        note=escape(f"Began {night.began}; {night.done} of {night.planned} rows.{fault}"),
        sections="\n".join(sections),
        version=escape(__version__),
    )


def _section(table: Table) -> str:
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return f"<section><h2>{escape(table.title)}</h2>{notes}{_table(table.title, table.header, table.rows)}</section>"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    mark = text.replace(" ", "-") if text in ("drift", "fail", "not reached") else "long" if len(text) > LONG else ""
    return f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>"


def _series(report: Report) -> dict[tuple[str, str], list[Row]]:
    """(target, student) -> its rows, oldest first; those of tonight's pairs first, then those that are run no more."""
    found: dict[tuple[str, str], list[Row]] = {(row.target, row.student): [] for row in report.tonight}
    for row in report.rows:
        found.setdefault((row.target, row.student), []).append(row)
    return found


def _trend(student: str, target: str, rows: Sequence[Row]) -> str:
    """Charts of every figure of one student on one target, and all of them as a table."""
    points: dict[str, list[Point]] = {}
    for row in rows:
        for figure in figures(row):
            points.setdefault(figure.title, []).append(Point(row, figure))
    charts = "".join(_chart(title, each) for title, each in points.items())
    by_row = [{figure.title: figure.value for figure in figures(row)} for row in rows]
    lines = [
        (str(row.night), row.verdict.kind, row.fault or NONE, *(number(known.get(title)) for title in points))
        for row, known in zip(rows, by_row, strict=True)
    ]
    name = f"{student} on {target}: trend"
    table = _table(name, ("night", "verdict", "fault", *points), lines[::-1])
    return (
        f'<section><h2>{escape(name)}</h2><div class="charts">{charts}</div>'
        f"<details><summary>All {len(rows)} nights as a table</summary>{table}</details></section>"
    )


def _chart(title: str, points: Sequence[Point]) -> str:
    """One figure over the nights. A dashed line is what was predicted; a hollow point, a night with a fault made on purpose."""
    values = [point.figure.value for point in points]
    predicted = points[-1].figure.predicted
    shown = values if predicted is None else [*values, predicted]
    low, high = min(shown), max(shown)
    margin = (high - low) * 0.1 or abs(high) * 0.05 or 1.0
    bottom, top = low - margin, high + margin
    first, last = points[0].row.night, points[-1].row.night

    def x(night: int) -> float:
        share = (night - first) / (last - first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    said = f"{title}: {len(points)} nights, {number(min(values))} to {number(max(values))}, the last {number(values[-1])}"
    parts = [f'<line class="axis" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{HEIGHT - BOTTOM}"/>']
    parts += [
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>' for value in dict.fromkeys((low, high))
    ]
    parts += [f'<text x="{x(night):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{night}</text>' for night in dict.fromkeys((first, last))]
    if predicted is not None:
        said += f"; predicted {number(predicted)}"
        parts.append(f'<line class="predicted" x1="{LEFT}" y1="{y(predicted):.1f}" x2="{WIDTH - RIGHT}" y2="{y(predicted):.1f}"/>')
    path = " ".join(f"{x(point.row.night):.1f},{y(point.figure.value):.1f}" for point in points)
    parts.append(f'<polyline class="trend" points="{path}"/>')
    parts += [_mark(point, x(point.row.night), y(point.figure.value)) for point in points]
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{"".join(parts)}</svg>'
        f"<figcaption>{escape(title)}{'; dashed: predicted' if predicted is not None else ''}</figcaption></figure>"
    )


def _mark(point: Point, x: float, y: float) -> str:
    """A circle for a night that passed, a square for others, with its figures as a tool tip."""
    row = point.row
    kind = f"point {row.verdict.kind.replace(' ', '-')}{' fault' if row.fault else ''}"
    told = f"night {row.night}: {number(point.figure.value)}, {row.verdict.kind}{f', fault {row.fault}' if row.fault else ''}"
    hint = f"<title>{escape(told)}</title>"
    if row.verdict.kind == "pass":
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{hint}</circle>'
    return f'<rect class="{kind}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">{hint}</rect>'
