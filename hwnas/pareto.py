"""Objectives, dominance, fronts and hypervolume of candidates. numpy and moocore; no torch, no files.

Everything is minimised. Rules that hold in every function here:

- **NaN and infinities.** A row that is not finite in every objective is never on a front, ranks behind every finite row, adds no
  hypervolume and is never selected: a training that diverged cannot win by an accident of comparison.
- **Duplicates.** Two equal rows do not dominate each other. They share a rank; `front` and `select` keep the first of them only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a search minimises. Energy is latency times a constant on one profile, so it is a limit and not an objective.

    Attributes:
        error: 1 minus the primary metric of the task on validation subjects.
    """

    error: float
    latency_us: float
    ram_bytes: float
    flash_bytes: float

    def as_row(self) -> tuple[float, ...]:
        """The values in the order of `OBJECTIVES`; the only place that decides it."""
        return astuple(self)

    @staticmethod
    def of(figures: Mapping[str, Any]) -> Objectives:
        """Pick the objectives out of a dict of metrics and costs; KeyError names one that is missing."""
        return Objectives(*(float(figures[name]) for name in OBJECTIVES))


OBJECTIVES = tuple(f.name for f in fields(Objectives))


def as_rows(points: Sequence[Objectives]) -> Rows:
    """The matrix (points, objectives) of `points`."""
    return np.array([p.as_row() for p in points], dtype=np.float64).reshape(len(points), len(OBJECTIVES))


def dominates(a: npt.ArrayLike, b: npt.ArrayLike) -> bool:
    """Whether row `a` is nowhere worse than row `b` and somewhere better; see the NaN rule above."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not np.isfinite(first).all():
        return False
    if not np.isfinite(second).all():
        return True
    return bool((first <= second).all() and (first < second).any())


def front(rows: Rows) -> Indices:
    """Indices, ascending, of the rows that no other row dominates; the first of equal rows."""
    finite = _finite(rows)
    if len(finite) == 0:
        return finite
    keep: npt.NDArray[np.bool_] = moocore.is_nondominated(np.ascontiguousarray(rows[finite]))
    return finite[keep]


def ranks(rows: Rows) -> Indices:
    """Front number of every row (0 is not dominated; 1 is not dominated once front 0 is taken away...).

    Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6(2), 2002.
    """
    finite = _finite(rows)
    result = np.full(len(rows), len(rows), dtype=np.intp)
    if len(finite):
        result[finite] = moocore.pareto_rank(np.ascontiguousarray(rows[finite]))
    return result


def crowding(rows: Rows) -> Rows:
    """Crowding distance of every row (same paper, III.B): infinite at the ends of each objective, 0 if not finite."""
    finite = _finite(rows)
    distance = np.zeros(len(rows))
    if len(finite) <= 2:
        distance[finite] = np.inf
        return distance
    for column in rows[finite].T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[finite[order[[0, -1]]]] = np.inf
        if span > 0:
            distance[finite[order[1:-1]]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def hypervolume(rows: Rows, reference: npt.ArrayLike) -> float:
    """Volume between `rows` and `reference` (worst corner); rows that do not better it in every objective add nothing."""
    inside = _inside(rows, reference)
    return float(moocore.hypervolume(np.ascontiguousarray(rows[inside]), ref=np.asarray(reference))) if len(inside) else 0.0


def contributions(rows: Rows, reference: npt.ArrayLike) -> Rows:
    """Hypervolume that is lost when one row is taken away, for each row; 0 for dominated rows and for duplicates."""
    inside = _inside(rows, reference)
    result = np.zeros(len(rows))
    if len(inside):
        corner = np.asarray(reference, np.float64)
        result[inside] = moocore.hv_contributions(np.ascontiguousarray(rows[inside]), ref=corner, ignore_dominated=False)
    return result


def select(points: Sequence[Objectives], k: int, reference: Objectives) -> list[int]:
    """Indices of at most `k` points, greedily: each adds the most hypervolume to those before it (ties: the earlier point).

    Stops when no point adds anything, so dominated points, duplicates and points outside `reference` are never chosen. Scaling an
    objective does not change the choice. At least `1 - 1/e` of the best volume of `k` points (Nemhauser et al., 1978).
    """
    rows, corner = as_rows(points), np.array(reference.as_row())
    chosen: list[int] = []
    left = _inside(rows, corner).tolist()
    volume = 0.0
    while left and len(chosen) < k:
        volumes = [hypervolume(rows[[*chosen, i]], corner) for i in left]
        best = int(np.argmax(volumes))
        if volumes[best] <= volume:
            break
        volume = volumes[best]
        chosen.append(left.pop(best))
    return chosen


def _finite(rows: Rows) -> Indices:
    return np.flatnonzero(np.isfinite(rows).all(axis=1))


def _inside(rows: Rows, reference: npt.ArrayLike) -> Indices:
    """Indices of the finite rows that are better than the reference in every objective."""
    return np.flatnonzero((np.isfinite(rows) & (rows < np.asarray(reference))).all(axis=1))
