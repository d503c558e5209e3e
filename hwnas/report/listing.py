"""The table of all students that a reader sorts, filters and downloads. Pure.

Every cell carries its stored figure beside the text that is shown; page.js sorts by and hands out the stored ones, so that what is
downloaded is what `front.json` holds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any
from urllib.parse import quote

from hwnas.report.content import (
    COSTS,
    FIGURES,
    KINDS,
    NONE,
    PREDICTED,
    Report,
    Student,
    cost,
    doubt,
    families,
    figure,
    measure,
    metrics_of,
    score,
    source,
)

MORE = "more metrics: "  # begins the groups of columns that are hidden at first
NETWORK = "the network"
Shown = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Field:
    """A column: the name that its figures are downloaded by, its title, the kind of all its figures, and how one is found and shown."""

    name: str
    title: str
    group: str
    of: Callable[[Student], Any]
    show: Shown = figure
    words: bool = False


def anchor(identity: str) -> str:
    """The hash of a student's page."""
    return f"student-{quote(identity, safe='')}"


def status(student: Student) -> str:
    """Whether a student stands on the front, or why not."""
    return str(student.get("fallen") or "on the front")


def fields(report: Report) -> list[Field]:
    """The columns: what it is, how good, and what it costs by each kind of figure."""
    front = report.front
    made = [Field("id", "student", "", lambda s: str(s["id"]), str)]
    made += [Field("family", "family", "", lambda s: s.get("family"), figure, True)] if len(families(front)) > 1 else []
    first, *others = metrics_of(front)
    parts = [p for p in ("validation", "test") if any((s.get("metrics") or {}).get(p) for s in report.students)]
    made += [_score_field(report, first, part, "") for part in parts]
    for kind, label in reversed(KINDS.items()):  # emulated first: it is of what ships
        if kind == PREDICTED or any(cost(s, name, kind) is not None for s in report.students for name in COSTS):
            made += [_cost_field(report, name, kind, label) for name in FIGURES]
    made += _board_fields(report)
    made += [
        Field("parameters", "parameters", NETWORK, lambda s: s.get("parameters")),
        Field("macs", "MACs", NETWORK, lambda s: s.get("macs")),
    ]
    made += [Field("status", "status", NETWORK, status, str, True)]
    return [*made, *(_score_field(report, m, part, MORE) for part in parts for m in others)]


def _score_field(report: Report, metric: str, part: str, more: str) -> Field:
    shown = measure(metric)
    return Field(
        f"{part}_{metric}", shown.title, f"{more}{part}, int8, {source(report.front)} data", lambda s: score(s, part, metric), shown.show
    )


def _cost_field(report: Report, name: str, kind: str, label: str) -> Field:
    mark, quantity = doubt(report.front, name), FIGURES[name]
    return Field(f"{name}_{kind}", quantity.title, label, lambda s: cost(s, name, kind), lambda v: quantity.show(v, mark))


def _board_fields(report: Report) -> Iterator[Field]:
    """Latency and deviations on every target; results of other provenance, or of another kind of figure, have columns of their own."""
    known = sorted({(target, *_kind(found)) for boards in report.boards.values() for target, found in boards.items()})
    several, taken = Counter(target for target, *_ in known), Counter[str]()
    for target, provenance, kind in known:
        name = re.sub(r"\W+", "_", f"{target} {kind} {provenance}" if several[target] > 1 else target)
        taken[name] += 1
        yield from _board_pair(report, target, provenance, kind, f"{name}__{taken[name]}" if taken[name] > 1 else name)


def _kind(found: Mapping[str, Any]) -> tuple[str, str]:
    """Provenance, and the kind of the latency."""
    return str(found.get("provenance") or "provenance not stated"), str((found.get("latency") or {}).get("kind") or "")


def _board_pair(report: Report, target: str, provenance: str, kind: str, name: str) -> Iterator[Field]:
    def result(student: Student) -> Mapping[str, Any]:
        found = (report.boards.get(str(student["id"])) or {}).get(target) or {}
        return found if _kind(found) == (provenance, kind) else {}

    latency, group = COSTS["latency_us"], f"{target}: {provenance}"
    title = ", ".join(filter(None, (latency.title, kind)))
    yield Field(f"latency_us_{name}", title, group, lambda s: (result(s).get("latency") or {}).get("median_us"), latency.show)
    yield Field(f"windows_differing_{name}", "windows differing", group, lambda s: result(s).get("windows_differing"))


def table(report: Report) -> str:
    """The table with its filters, choice of columns and downloads."""
    columns = fields(report)
    known = families(report.front)
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in known)
    chosen = f'<label>family <select id="family-filter"><option value="">all</option>{options}</select></label>' if len(known) > 1 else ""
    groups = [name for name in dict.fromkeys(f.group for f in columns) if name]
    switches = "".join(
        f'<label class="check"><input type="checkbox" data-group="{n}"{"" if name.startswith(MORE) else " checked"}> {escape(name)}</label>'
        for n, name in enumerate(groups, start=1)
    )
    numbers = {"": 0} | {name: n for n, name in enumerate(groups, start=1)}
    rows = "".join(_row(s, columns, numbers) for s in report.students)
    return (
        '<div class="tools"><label>filter <input type="search" id="text-filter" placeholder="any text, e.g. dense or fallen"></label>'
        f'{chosen}<span id="shown" role="status"></span>'
        '<span class="buttons"><button type="button" id="download-csv">CSV</button> '
        '<button type="button" id="download-json">JSON</button></span></div>'
        f'<fieldset class="tools"><legend>columns</legend>{switches}</fieldset>'
        '<div class="scroll" tabindex="0" role="region" aria-label="table of students"><table class="figures" id="students">'
        f"<thead>{_head(columns, numbers)}</thead><tbody>{rows}</tbody></table></div>"
    )


def _head(columns: list[Field], numbers: dict[str, int]) -> str:
    spans = [(name, len(list(members))) for name, members in groupby(c.group for c in columns)]
    above = "".join(
        f'<th class="group" scope="colgroup" colspan="{n}" data-group="{numbers[name]}">{escape(name)}</th>' for name, n in spans
    )
    heads = "".join(
        f'<th scope="col" class="{_classes(columns, i)}" data-group="{numbers[c.group]}" data-name="{escape(c.name)}" aria-sort="none">'
        f'<button type="button">{escape(c.title)}</button></th>'
        for i, c in enumerate(columns)
    )
    return f"<tr>{above}</tr><tr>{heads}</tr>"


def _classes(columns: list[Field], i: int) -> str:
    starts = i > 0 and columns[i].group != columns[i - 1].group
    return " ".join(filter(None, ("words" if columns[i].words else "", "start" if starts else "")))


def _row(student: Student, columns: list[Field], numbers: dict[str, int]) -> str:
    cells = []
    for i, column in enumerate(columns):
        value = column.of(student)
        text = column.show(value) if value is not None else NONE
        common = f'data-group="{numbers[column.group]}" data-value="{escape(json.dumps(value))}"'
        if i == 0:
            cells.append(f'<th scope="row" {common}><a href="#{escape(anchor(str(value)))}">{escape(text)}</a></th>')
        else:
            kind = " ".join(filter(None, (_classes(columns, i), "none" if text == NONE else "")))
            cells.append(f'<td class="{kind}" {common}>{escape(text)}</td>')
    words = " ".join(str(student.get(name) or "") for name in ("id", "family", "summary")) + " " + status(student)
    fallen = ' class="fallen"' if student.get("fallen") else ""
    return (
        f'<tr{fallen} data-id="{escape(str(student["id"]))}" data-family="{escape(str(student.get("family") or ""))}" '
        f'data-words="{escape(words.lower())}">{"".join(cells)}</tr>'
    )
