"""A search over its candidates: hypervolumes against the definition, rejections counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwnas.pareto import Objectives
from hwnas.report.history import Step, hypervolume, hypervolumes, rejections

BUDGET = {"ram_bytes": 1000, "flash_bytes": 2000, "latency_us": 100.0, "energy_uj": 10.0, "average_power_uw": 1.0}
FRONT = {"budget": BUDGET, "chance_error": 0.5}


def scored(error: float, latency_us: float = 50.0, ram_bytes: float = 500, flash_bytes: float = 1000) -> dict[str, Any]:
    cost = {"latency_us": latency_us, "ram_bytes": ram_bytes, "flash_bytes": flash_bytes, "energy_uj": 5.0}
    return {"status": "scored", "cost": cost, "metrics": {"error": error, "af_auc": 1 - error}}


def rejected(*limits: str) -> dict[str, Any]:
    return {"status": "rejected", "cost": scored(0)["cost"], "violations": {name: [2.0, 1.0] for name in limits}}


def test_hypervolume_after_every_scored_candidate() -> None:
    trials = [
        rejected("ram_bytes"),
        scored(0.25),
        {"status": "failed", "cost": scored(0)["cost"], "reason": "it diverged"},
        scored(0.3, 60.0),  # worse in everything
        scored(0.05, 75.0),
        scored(0.25),  # the same again
        {"status": "proposed", "cost": scored(0)["cost"]},
    ]
    box = 0.5 * 0.5  # what is left of RAM and flash
    first, both = 0.5 * 0.5 * box, (0.5 * 0.5 + 0.9 * 0.25 - 0.5 * 0.25) * box
    steps = hypervolumes(FRONT, trials)
    assert [(s.candidate, s.scored) for s in steps] == [(2, 1), (4, 2), (5, 3), (6, 4)]
    assert [s.hypervolume for s in steps] == pytest.approx([first, first, both, both])


def test_every_step_is_the_hypervolume_of_all_before_it() -> None:
    rng = np.random.default_rng(0)
    trials = [scored(*rng.uniform(0, (0.6, 120, 1200, 2200))) for _ in range(60)]
    points = [Objectives.of({**row["cost"], **row["metrics"]}) for row in trials]
    steps = hypervolumes(FRONT, trials)
    for step in steps:
        assert step.hypervolume == pytest.approx(hypervolume(points[: step.scored], BUDGET, 0.5), rel=1e-12)
    volumes = [step.hypervolume for step in steps]
    assert volumes == sorted(volumes) and 0 < volumes[-1] < 1 and len({*volumes}) > 5


def test_hypervolume_against_random_points_of_the_box() -> None:
    """The share of the box of budget and chance that some point dominates, by counting."""
    rng = np.random.default_rng(1)
    rows = rng.uniform(0.1, 1, (6, 4))
    corner = np.array([0.5, 100.0, 1000.0, 2000.0])
    points = [Objectives(*row) for row in rows * corner]
    thrown = rng.uniform(0, 1, (40_000, 4))
    share = (thrown[:, None] >= rows).all(axis=2).any(axis=1).mean()
    assert hypervolume(points, BUDGET, 0.5) == pytest.approx(share, abs=0.01)


def test_candidates_at_chance_or_over_budget_or_diverged_add_nothing() -> None:
    for row in (scored(0.5), scored(0.2, 100.0), scored(0.2, 50.0, 1000), scored(0.2, 50.0, 500, 2000), scored(float("nan"))):
        assert hypervolumes(FRONT, [row]) == [Step(1, 1, 0.0)]
        after = hypervolumes(FRONT, [row, scored(0.25)])[-1].hypervolume
        assert after == pytest.approx(hypervolume([Objectives(0.25, 50, 500, 1000)], BUDGET, 0.5)) == pytest.approx(0.0625)


def test_runs_that_do_not_say_their_scale_have_no_curve() -> None:
    for front in ({}, {"budget": BUDGET}, {"chance_error": 0.5}, {"budget": BUDGET | {"ram_bytes": None}, "chance_error": 0.5}):
        assert hypervolumes(front, [scored(0.2)]) == []
    assert hypervolumes(FRONT, []) == hypervolumes(FRONT, [{"status": "scored", "cost": None, "metrics": {"error": 0.1}}]) == []


def test_rejections_by_the_limits_that_were_broken() -> None:
    trials = [scored(0.2), rejected("latency_us"), rejected("ram_bytes", "latency_us"), scored(0.3), rejected("flash_bytes")]
    found = rejections(trials)
    assert found.candidates == 5 and found.total == (0, 1, 2, 2, 3)
    assert list(found.by_limit) == ["latency_us", "flash_bytes", "ram_bytes"]
    assert found.by_limit == {"latency_us": (0, 1, 2, 2, 2), "flash_bytes": (0, 0, 0, 0, 1), "ram_bytes": (0, 0, 1, 1, 1)}


def test_nothing_rejected() -> None:
    found = rejections([scored(0.2), scored(0.3)])
    assert (found.candidates, found.total, found.by_limit) == (2, (0, 0), {})
    assert rejections([]).total == ()
