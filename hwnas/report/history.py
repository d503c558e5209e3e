"""A search over its candidates, in the order in which they were proposed: hypervolume, and rejections by reason. Pure.

The order is that of `trials.jsonl`, so that curves do not depend on how many workers scored candidates, or how fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from hwnas import pareto
from hwnas.pareto import OBJECTIVES, Objectives
from hwnas.report.content import Front, Trial

LIMITS = OBJECTIVES[1:]


@dataclass(frozen=True, slots=True)
class Step:
    """The hypervolume after one candidate was scored.

    Attributes:
        candidate: its number among all that were judged, from 1.
        scored: how many were scored by then.
        hypervolume: of all of them; at most 1.
    """

    candidate: int
    scored: int
    hypervolume: float


@dataclass(frozen=True, slots=True)
class Rejections:
    """How many candidates had been rejected after each that was judged.

    Attributes:
        candidates: how many were judged; as many figures has each of the following.
        total: rejected by then.
        by_limit: name of the limit -> those by then that broke it, the limit that is broken most first. A candidate that breaks two
            counts for both.
    """

    candidates: int
    total: tuple[int, ...]
    by_limit: dict[str, tuple[int, ...]]


def hypervolume(points: Sequence[Objectives], budget: Mapping[str, float], chance_error: float) -> float:
    """Hypervolume of `points`, with each objective in units of its limit and error up to that of chance: at most 1."""
    return _volume(_scaled(points, budget, chance_error)) if points else 0.0


def hypervolumes(front: Front, trials: Sequence[Trial]) -> list[Step]:
    """The hypervolume after every scored candidate, by predicted cost and the error after short distillation.

    The last one is `front["search"]["hypervolume"]`. Empty for a run that does not say its budget and the error of chance.
    """
    budget, chance = front.get("budget") or {}, front.get("chance_error")
    if chance is None or not all(budget.get(name) for name in LIMITS):
        return []
    found = [(number, point) for number, row in enumerate(trials, start=1) if (point := _objectives(row)) is not None]
    rows = _scaled([point for _, point in found], budget, float(chance))
    steps: list[Step] = []
    kept, volume = rows[:0], 0.0  # rows that none of those before dominates
    for scored, ((number, _), row) in enumerate(zip(found, rows, strict=True), start=1):
        if not (kept <= row).all(axis=1).any():
            kept = np.vstack([kept[~(row <= kept).all(axis=1)], row])
            volume = _volume(kept)
        steps.append(Step(number, scored, volume))
    return steps


def rejections(trials: Sequence[Trial]) -> Rejections:
    """Rejected candidates by the limits that they broke."""
    broken = [set(row.get("violations") or {}) if row.get("status") == "rejected" else None for row in trials]
    names = {name for limits in broken if limits for name in limits}
    counts = {name: tuple(accumulate(int(limits is not None and name in limits) for limits in broken)) for name in names}
    ordered = sorted(counts, key=lambda name: (-counts[name][-1], name))
    total = tuple(accumulate(int(limits is not None) for limits in broken))
    return Rejections(len(trials), total, {name: counts[name] for name in ordered})


def _objectives(row: Trial) -> Objectives | None:
    """What the search minimised, of a candidate that was scored."""
    figures: dict[str, Any] = {**(row.get("cost") or {}), **(row.get("metrics") or {})}
    scored = row.get("status") == "scored" and all(name in figures for name in OBJECTIVES)
    return Objectives.of(figures) if scored else None


def _scaled(points: Sequence[Objectives], budget: Mapping[str, float], chance_error: float) -> pareto.Rows:
    corner = np.array([chance_error, *(budget[name] for name in LIMITS)], dtype=np.float64)
    return np.asarray(pareto.as_rows(points) / corner)


def _volume(rows: pareto.Rows) -> float:
    return pareto.hypervolume(rows, np.ones(len(OBJECTIVES)))
