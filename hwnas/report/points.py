"""The points of the still Pareto scatter. Pure.

All costs of the scatter are predicted ones (every candidate has them); scores are of the int8 form on validation subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.report.content import COSTS, FIGURES, Front, Trial, cost, doubt, families, primary, score, short_score


@dataclass(frozen=True, slots=True)
class Point:
    """One network: `x` cost name -> shown unit, `y` its score, `before` that after the short distillation."""

    family: str
    x: dict[str, float]
    y: float
    before: float | None


@dataclass(frozen=True, slots=True)
class Cloud:
    """All points of a run: scored after short distillation only, fully distilled but not on the front, and on the front."""

    families: tuple[str, ...]
    scored: tuple[Point, ...]
    fallen: tuple[Point, ...]
    front: tuple[Point, ...]
    teacher: float | None
    budget: dict[str, float]
    doubts: dict[str, str]  # cost name -> the uncertainty of its figures, as words

    @property
    def y_range(self) -> tuple[float, float]:
        """Limits of the score axis, with room at both ends."""
        points = [p for group in (self.scored, self.fallen, self.front) for p in group]
        values = [p.y for p in points] + [p.before for p in points if p.before is not None]
        values += [self.teacher] if self.teacher is not None else []
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = max(high - low, 0.01) * 0.12
        return low - room, high + room


def cloud(front: Front, trials: Sequence[Trial]) -> Cloud:
    """The points of a run; candidates without a score or a cost are not drawn."""
    metric = primary(front)
    budget = front.get("budget", {})
    doubts = {name: doubt(front, name) for name in FIGURES}
    teacher = (front.get("teacher") or {}).get("metrics") or {}
    reached = teacher.get("validation", teacher).get(metric) if "test" in teacher or "validation" in teacher else None
    return Cloud(
        families=tuple(dict.fromkeys([*families(front), *(str(t["family"]) for t in trials if t.get("family"))])),
        scored=_points([(t, short_score(t, metric), None) for t in trials if t.get("status") == "scored"]),
        fallen=_finished(front.get("fallen", []), metric),
        front=_finished(front.get("students", []), metric),
        teacher=None if reached is None else float(reached),
        budget={name: float(budget[name]) / q.divisor for name, q in COSTS.items() if budget.get(name) is not None},
        doubts=doubts,
    )


def _finished(students: Sequence[Mapping[str, Any]], metric: str) -> tuple[Point, ...]:
    rows = [(s, score(s, "validation", metric), short_score(s, metric) if "short_validation" in s else None) for s in students]
    return tuple(sorted(_points(rows), key=lambda p: p.x["latency_us"]))


def _points(rows: Sequence[tuple[Mapping[str, Any], float | None, float | None]]) -> tuple[Point, ...]:
    points = []
    for row, y, before in rows:
        x = {name: cost(row, name) for name in COSTS}
        known = {name: value / COSTS[name].divisor for name, value in x.items() if value is not None}
        if y is not None and len(known) == len(COSTS):
            points.append(Point(str(row.get("family", "")), known, y, before))
    return tuple(points)
