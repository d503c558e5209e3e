"""A night as tables, Markdown for a build's summary, and JUnit XML. Pure.

Every target has a table of its own, and figures of different kinds (predicted, modelled, measured; real, synthetic data) different columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, NamedTuple, get_args
from xml.etree import ElementTree

from hwnas import __version__
from hwnas.validation.config import Limits
from hwnas.validation.history import Night, Row
from hwnas.validation.quarantine import Quarantined
from hwnas.validation.verdict import Against, Drift, Kind

NONE = "–"  # noqa: RUF001  (an en dash, for a figure that does not exist)
KINDS: tuple[Kind, ...] = ("pass", "drift", "fail", "not reached")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LISTED_NIGHTS = 20


@dataclass(frozen=True)
class Report:
    """What reports are made of: this night, and those before it."""

    night: Night
    tonight: tuple[Row, ...]
    quarantine: tuple[Quarantined, ...]
    nights: tuple[Night, ...]
    rows: tuple[Row, ...]
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether every student passed on every target."""
        return all(row.verdict.kind == "pass" for row in self.tonight)

    @property
    def counts(self) -> str:
        """How many rows got which verdict."""
        counted = Counter(row.verdict.kind for row in self.tonight)
        return ", ".join(f"{counted[kind]} {kind}" for kind in KINDS if counted[kind]) or "nothing was run"


class Table(NamedTuple):
    """A table with what there is to say above it."""

    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Figure(NamedTuple):
    """A figure and what it is. Figures that share `title` may share a column or a chart."""

    title: str
    value: float
    predicted: float | None


def figures(row: Row) -> list[Figure]:
    """The figures of a row, each with its kind in its title."""
    found = row.reading
    if found is None or row.record is None:
        return []
    data = str(row.record.get("windows_source", ""))
    metric = (row.record.get("night") or {}).get("metric", "accuracy")
    listed = [
        (f"latency, {found.latency_kind} (us)", found.latency_us, found.predicted_latency_us if found.judged else None),
        ("RAM (bytes)", found.ram_bytes, found.predicted_ram_bytes),
        ("arena and stack (bytes)", found.used_bytes, None),
        (f"energy, {found.energy_kind} (uJ)", found.energy_uj, found.predicted_energy_uj),
        (f"{metric}, all windows, {data}", found.accuracy, None),
        (f"{metric}, golden windows, {data}", found.golden_accuracy, None),
    ]
    return [Figure(title, value, predicted) for title, value, predicted in listed if value is not None]


def number(value: float | None) -> str:
    """A figure as text."""
    return NONE if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def said(row: Row) -> str:
    """Why a row got its verdict, and what to keep in mind."""
    return "; ".join(filter(None, (row.verdict.reason, *row.verdict.notes))) or NONE


def target_tables(report: Report) -> list[Table]:
    """One table a target: verdict, figures beside the predicted ones, reason."""
    return [_target_table(name, list(rows)) for name, rows in _by_target(report.tonight).items()]


def _target_table(name: str, rows: Sequence[Row]) -> Table:
    shown = [{figure.title: figure for figure in figures(row)} for row in rows]
    titles = list(dict.fromkeys(title for each in shown for title in each))
    header = ["student", "verdict", "reason and notes", "windows differing"]
    lines = [[row.student, row.verdict.kind, said(row), _differing(row)] for row in rows]
    for title in titles:
        columns = [(title, [each[title].value if title in each else None for each in shown])]
        predicted = [each[title].predicted if title in each else None for each in shown]
        if any(value is not None for value in predicted):
            columns.append((f"predicted: {_plain(title)}", predicted))
        for heading, values in columns:
            header.append(heading)
            for line, value in zip(lines, values, strict=True):
                line.append(number(value))
    provenance = dict.fromkeys(row.reading.provenance for row in rows if row.reading)
    return Table(name, tuple(provenance), tuple(header), tuple(map(tuple, lines)))


def _plain(title: str) -> str:
    """A title without its kind: "latency, modelled (us)" -> "latency (us)"."""
    return re.sub(r",[^(]*(?=\()", " ", title)


def _differing(row: Row) -> str:
    return f"{row.reading.differing} of {row.reading.windows}" if row.reading else NONE


def drift_tables(report: Report) -> list[Table]:
    """What drifted on each target: found, predicted, and the median of passing nights beside each other."""
    return [table for name, rows in _by_target(report.tonight).items() if (table := _drift_table(name, rows)).rows]


def _drift_table(target: str, rows: Iterable[Row]) -> Table:
    lines = []
    for row in rows:
        of_figure: dict[tuple[str, str], dict[Against, Drift]] = {}
        for drift in row.verdict.drifts:
            of_figure.setdefault((drift.quantity, drift.operator), {})[drift.against] = drift
        for (quantity, operator), found in of_figure.items():
            one = next(iter(found.values()))
            cells = [cell for against in get_args(Against) for cell in _expected(found.get(against))]
            lines.append((row.student, quantity, operator or NONE, _with_unit(one.found, one.unit), *cells, str(one.since)))
    header = (
        "student",
        "quantity",
        "operator",
        "found",
        "predicted",
        "change (limit)",
        "median of passing nights",
        "change (limit)",
        "since night",
    )
    return Table(f"{target}: drift", (), header, tuple(lines))


def _expected(drift: Drift | None) -> tuple[str, str]:
    """What was expected, and how far from it the figure is."""
    if drift is None:
        return NONE, NONE
    unit = "%" if drift.relative else drift.unit
    return _with_unit(drift.expected, drift.unit), f"{_with_unit(drift.change, unit, '+.4g')} ({_with_unit(drift.limit, unit, 'g')})"


def _with_unit(value: float, unit: str, form: str = "") -> str:
    return f"{format(value, form) if form else number(value)} {unit}".strip()


def quarantine_table(report: Report) -> Table:
    """Rows of the lookup table that are not to be trusted."""
    cycles = ("predicted cycles", "modelled cycles", "measured cycles", "change")
    header = ("key", "length", "calls", *cycles, "night", "student", "target", "profile", "fault")
    lines = [
        (
            each.key,
            str(each.length),
            str(each.calls),
            number(each.predicted),
            *(number(each.found if each.kind == kind else None) for kind in ("modelled", "measured")),
            f"{each.change_percent:+.4g} %",
            str(each.night),
            each.student,
            each.target,
            each.profile,
            each.fault or NONE,
        )
        for each in report.quarantine
    ]
    note = f"Rows of the lookup table whose cycles are more than {report.limits.predicted_percent:g} % from the predicted ones."
    return Table("Quarantine", (note,), header, tuple(lines))


def nights_table(nights: Iterable[Night], rows: Iterable[Row]) -> Table:
    """The nights, the latest first: what became of each."""
    counted: dict[int, Counter[Kind]] = {}
    for row in rows:
        counted.setdefault(row.night, Counter())[row.verdict.kind] += 1
    lines = [
        (
            str(each.night),
            each.began,
            each.state,
            f"{each.done} of {each.planned}",
            ", ".join(f"{counted[each.night][kind]} {kind}" for kind in KINDS if counted.get(each.night, Counter())[kind]) or NONE,
            each.fault or NONE,
        )
        for each in nights
    ]
    return Table("Nights", (), ("night", "began (UTC)", "state", "rows", "verdicts", "fault"), tuple(reversed(lines)))


def markdown(report: Report) -> str:
    """The night as Markdown."""
    night = report.night
    mark = "passed" if report.passed else "not passed"
    lines = [f"# Night {night.night}: {mark}", "", f"{report.counts}; began {night.began}, hwnas {__version__}."]
    if night.fault:
        lines += ["", f"A fault was made on purpose: {_cell(night.fault)}. These figures never serve as a baseline."]
    for table in (*target_tables(report), *drift_tables(report), quarantine_table(report)):
        lines += _section(table) if table.rows else []
    lines += _section(nights_table(report.nights[-LISTED_NIGHTS:], report.rows))
    return "\n".join(lines) + "\n"


def _section(table: Table) -> list[str]:
    lines = [table.header, *table.rows]
    body = [f"| {' | '.join(map(_cell, line))} |" for line in lines]
    return [
        "",
        f"## {_cell(table.title)}",
        "",
        *(f"{_cell(note)}\n" for note in table.notes),
        body[0],
        "|---" * len(table.header) + "|",
        *body[1:],
    ]


def _cell(text: str) -> str:
    """Text that stays in its cell and is no markup."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(text.split()))


def junit(report: Report) -> str:
    """The night as JUnit XML: drifted and failed students are failures, targets that were not reached errors."""
    counted = Counter(row.verdict.kind for row in report.tonight)
    totals = {"tests": len(report.tonight), "failures": counted["drift"] + counted["fail"], "errors": counted["not reached"]}
    counts = {name: str(value) for name, value in totals.items()}
    root = ElementTree.Element("testsuites", counts | {"name": "hwnas validate"})
    for target, rows in _by_target(report.tonight).items():
        kinds = Counter(row.verdict.kind for row in rows)
        numbers = {"tests": len(rows), "failures": kinds["drift"] + kinds["fail"], "errors": kinds["not reached"]}
        named = {"name": _xml(target), "timestamp": report.night.began.removesuffix("Z")}
        suite = ElementTree.SubElement(root, "testsuite", named | {name: str(value) for name, value in numbers.items()})
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in {"night": str(report.night.night), "fault": report.night.fault, "hwnas": __version__}.items():
            ElementTree.SubElement(properties, "property", {"name": name, "value": _xml(value)})
        for row in rows:
            _case(suite, row, report)
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, row: Row, report: Report) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(row.target), "name": _xml(row.student)})
    verdict = row.verdict
    if verdict.kind != "pass":
        tag = "error" if verdict.kind == "not reached" else "failure"
        element = ElementTree.SubElement(case, tag, {"type": verdict.kind, "message": _xml(verdict.reason)})
        element.text = _xml("\n".join(map(str, verdict.drifts)))
    strayed = [each for each in report.quarantine if (each.student, each.target) == (row.student, row.target)]
    lines = [f"{figure.title}: {number(figure.value)}, predicted {number(figure.predicted)}" for figure in figures(row)]
    ElementTree.SubElement(case, "system-out").text = _xml("\n".join([*lines, *verdict.notes, *map(quarantine_line, strayed)]))


def quarantine_line(each: Quarantined) -> str:
    """One quarantined row as a sentence."""
    marked = f"; fault: {each.fault}" if each.fault else ""
    return (
        f"quarantined: {each.key} at length {each.length}: predicted {each.predicted:,} cycles, {each.kind} {each.found:,} "
        f"({each.change_percent:+.4g} %), night {each.night}, {each.student} on {each.target}{marked}"
    )


def as_json(report: Report) -> dict[str, Any]:
    """The night as a JSON object."""
    night = report.night
    return {
        "night": night.night,
        "began": night.began,
        "fault": night.fault or None,
        "passed": report.passed,
        "rows": [
            {
                "student": row.student,
                "target": row.target,
                "verdict": row.verdict.kind,
                "reason": row.verdict.reason,
                "drifts": [asdict(drift) | {"change": drift.change if isfinite(drift.change) else None} for drift in row.verdict.drifts],
                "notes": list(row.verdict.notes),
                "figures": {figure.title: figure.value for figure in figures(row)},
            }
            for row in report.tonight
        ],
        "quarantine": [asdict(each) for each in report.quarantine],
    }


def _by_target(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.target, []).append(row)
    return found


def _xml(text: str) -> str:
    """Text that XML can hold."""
    return NOT_XML.sub("\ufffd", text)
