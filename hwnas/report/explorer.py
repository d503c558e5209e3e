"""What the Pareto scatter draws: every candidate and student as columns of figures, and the axes to choose from. Pure.

Columns are compact: figures in shown units with six digits, words as numbers into lists. page.js draws them and makes the text that a
pointer reads, so that thousands of candidates cost bytes, not pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.report.content import (
    COSTS,
    DOUBTS,
    EMULATED,
    FIGURES,
    KINDS,
    PREDICTED,
    Report,
    cost,
    doubt,
    families,
    measure,
    metrics_of,
    primary,
    score,
    short_score,
    source,
)
from hwnas.report.figures import BUDGET, FAMILIES, MARKS, REJECTED
from hwnas.report.listing import anchor

STATUSES = {"rejected": REJECTED} | MARKS
BLOCK = re.compile(r"block(\d+)_")
GROUPED = re.compile(r"^([a-z]+\d*)_(.+)$")


@dataclass(frozen=True, slots=True)
class Axis:
    """A figure that an axis can show. `lower`: less is better; `doubt`: the uncertainty to show beside it."""

    name: str
    title: str
    short: str
    unit: str
    group: str
    decimals: int
    logarithmic: bool
    lower: bool
    doubt: str = ""

    def described(self) -> dict[str, Any]:
        """As page.js reads it."""
        title = f"{self.title} ({self.group})" + (f" {self.doubt}" if self.doubt else "")
        shown = {"title": title, "short": self.short, "unit": self.unit, "group": self.group, "decimals": self.decimals}
        return {"name": self.name, **shown, "log": self.logarithmic, "lower": self.lower, "doubt": self.doubt}


def axes(report: Report) -> list[Axis]:
    """Predicted costs, scores on validation subjects, and what students alone have: emulated costs, scores on test subjects."""
    front = report.front
    made = [_cost_axis(report, name, PREDICTED) for name in COSTS]
    made += [
        Axis(name, title, title, "", "of the network", 0, True, True) for name, title in (("parameters", "parameters"), ("macs", "MACs"))
    ]
    parts = {"validation": f"validation, int8, {source(front)} data", "test": f"test, int8, {source(front)} data"}
    made += [_score_axis("validation", m, parts["validation"]) for m in metrics_of(front)]
    emulated = any(cost(s, name, EMULATED) is not None for s in report.students for name in COSTS)
    made += [_cost_axis(report, name, EMULATED) for name in COSTS] if emulated else []
    tested = any((s.get("metrics") or {}).get("test") for s in report.students)
    return made + ([_score_axis("test", m, parts["test"]) for m in metrics_of(front)] if tested else [])


def _cost_axis(report: Report, name: str, kind: str) -> Axis:
    q = FIGURES[name]
    mark = doubt(report.front, name) if name in DOUBTS else ""
    return Axis(f"{name}_{kind}", q.title, q.name, q.unit, KINDS[kind], q.decimals, True, True, mark)


def _score_axis(part: str, metric: str, group: str) -> Axis:
    m = measure(metric)
    return Axis(f"{part}_{metric}", m.axis, m.name, m.unit, group, 3 - bool(m.unit), False, m.lower)


def content(report: Report) -> dict[str, Any]:
    """All that page.js needs to draw the scatter."""
    front, first = report.front, primary(report.front)
    drawn = list(_networks(report))
    known = [name for name in dict.fromkeys([*families(front), *(n.family for n in drawn)]) if name] or [""]
    listed = axes(report)
    values = {a.name: [_short(n.values.get(a.name)) for n in drawn] for a in listed}
    teacher = ((front.get("teacher") or {}).get("metrics") or {}).get("validation") or {}
    budget = front.get("budget") or {}
    limits = {name: float(budget[name]) / q.divisor for name, q in COSTS.items() if budget.get(name) is not None}
    choices, told = _choices(drawn)
    return {
        "axes": [a.described() for a in listed if any(v is not None for v in values[a.name])],
        "first": [f"latency_us_{PREDICTED}", f"validation_{first}"],
        "values": {name: column for name, column in values.items() if any(v is not None for v in column)},
        "before": [_short(n.before) for n in drawn],
        "before_of": f"validation_{first}",
        "id": [n.identity for n in drawn],
        "anchors": {n.identity: anchor(n.identity) for n in drawn if n.status in ("front", "fallen")},
        "family": [known.index(n.family) if n.family else 0 for n in drawn],
        "families": known,
        "status": [list(STATUSES).index(n.status) for n in drawn],
        "statuses": [{"name": name, "label": mark.label, "symbol": mark.symbol, "colour": mark.colour} for name, mark in STATUSES.items()],
        "notes": {n.identity: n.note for n in drawn if n.note},
        "choices": choices,
        "told": told,
        "budget": {f"{name}_{kind}": limit for name, limit in limits.items() for kind in KINDS},
        "teacher": {f"validation_{m}": float(v) for m, v in teacher.items() if v is not None},
        "teacher_name": str((front.get("teacher") or {}).get("name") or "teacher"),
        "colours": {"families": FAMILIES, "budget": BUDGET},
        "best": str(front.get("best") or ""),
    }


@dataclass(frozen=True, slots=True)
class Network:
    """One candidate or student. `before`: its score after the short distillation; `choices`: its architecture, as the search chose it."""

    identity: str
    family: str
    status: str
    values: Mapping[str, float]
    before: float | None
    note: str
    choices: Mapping[str, Any] | str


def _networks(report: Report) -> Iterator[Network]:
    """In the order in which they are drawn: those that matter most last, on top."""
    first = primary(report.front)
    for wanted in ("rejected", "scored"):
        for trial in report.trials:
            if trial.get("status") == wanted and trial.get("cost"):
                scores = {f"validation_{m}": short_score(trial, m) for m in metrics_of(report.front)} if wanted == "scored" else {}
                note = ", ".join(name.replace("_", " ") for name in trial.get("violations") or {})
                architecture = _used(trial.get("parameters") or {})
                identity = str(trial.get("hash") or trial.get("id"))
                values = _known(_costs(trial) | scores)
                yield Network(
                    identity, str(trial.get("family") or ""), wanted, values, None, f"over budget: {note}" if note else "", architecture
                )
    for status, students in (("fallen", report.front.get("fallen", [])), ("front", report.front.get("students", []))):
        for s in students:
            scores = {f"{p}_{m}": score(s, p, m) for p in ("validation", "test") for m in metrics_of(report.front)}
            before = short_score(s, first) if "short_validation" in s else None
            note = f"not on the front: {s['fallen']}" if s.get("fallen") else ""
            values = _known(_costs(s) | scores)
            yield Network(str(s["id"]), str(s.get("family") or ""), status, values, before, note, str(s.get("summary") or ""))


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _costs(row: Mapping[str, Any]) -> dict[str, float | None]:
    found = {f"{name}_{kind}": cost(row, name, kind) for kind in KINDS for name in COSTS}
    shown = {name: None if value is None else value / COSTS[name.rpartition("_")[0]].divisor for name, value in found.items()}
    # A trial's `parameters` are its choices; how many parameters it has stands in its cost.
    size = row["cost"] if "macs" in (row.get("cost") or {}) else row
    return shown | {name: size.get(name) for name in ("parameters", "macs")}


def _used(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices that describe the network: those of blocks beyond its number of blocks are drawn too, and mean nothing."""
    most = choices.get("blocks")
    if not isinstance(most, int):
        return dict(choices)
    return {name: value for name, value in choices.items() if not ((found := BLOCK.match(name)) and int(found[1]) > most)}


def _choices(drawn: Sequence[Network]) -> tuple[list[list[str]], list[Any]]:
    """(lists of names of choices, for every network the number of its list and its values, or its architecture in a line)."""
    lists: dict[tuple[str, ...], int] = {}
    told: list[Any] = []
    for n in drawn:
        if isinstance(n.choices, str):
            told.append(n.choices)
        else:
            number = lists.setdefault(tuple(map(str, n.choices)), len(lists))
            told.append([number, *n.choices.values()])
    return [[_words(name) for name in names] for names in lists], told


def _words(name: str) -> str:
    """ "block1_kernel" -> "block1 kernel"; page.js puts what shares a first word on one line."""
    found = GROUPED.match(name)
    return f"{found[1]} {found[2].replace('_', ' ')}" if found else name


def _short(value: float | None) -> float | int | None:
    """Six digits are more than a screen shows; whole numbers stay whole."""
    if value is None or isinstance(value, int):
        return value
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded
