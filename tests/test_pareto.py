"""Closed forms, a brute-force oracle, and the rules for NaN and duplicates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwnas import pareto
from hwnas.pareto import OBJECTIVES, Objectives

# Few distinct values, so that ties, duplicates and non-finite rows are common.
values = st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, math.inf])
matrices = st.integers(0, 12).flatmap(lambda n: arrays(np.float64, (n, 3), elements=values))


def brute_front(rows: np.ndarray) -> list[int]:
    keep = []
    for i, a in enumerate(rows):
        if not np.isfinite(a).all():
            continue
        beaten = any(np.isfinite(b).all() and all(b <= a) and any(b < a) for b in rows)
        twin = any(np.array_equal(rows[j], a) for j in range(i))
        if not beaten and not twin:
            keep.append(i)
    return keep


def brute_volume(rows: np.ndarray, reference: float) -> float:
    """Unit cells of the integer grid that some row covers."""
    cells = np.stack(np.meshgrid(*[np.arange(reference)] * rows.shape[1], indexing="ij"), -1).reshape(-1, rows.shape[1])
    covered = np.zeros(len(cells), bool)
    for row in rows:
        if np.isfinite(row).all():
            covered |= (cells >= row).all(axis=1)
    return float(covered.sum())


def test_the_order_of_objectives_is_one() -> None:
    point = Objectives(error=1, latency_us=2, ram_bytes=3, flash_bytes=4)
    assert OBJECTIVES == ("error", "latency_us", "ram_bytes", "flash_bytes")
    assert point.as_row() == (1, 2, 3, 4)
    assert Objectives.of({"flash_bytes": 4, "energy_uj": 9, "ram_bytes": 3, "latency_us": 2, "error": 1}) == point
    with pytest.raises(KeyError, match="ram_bytes"):
        Objectives.of({"error": 1, "latency_us": 2, "flash_bytes": 4})


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 1], [2, 2], True),
        ([1, 2], [1, 3], True),
        ([1, 2], [1, 2], False),
        ([1, 3], [2, 2], False),
        ([2, 2], [1, 1], False),
        ([1, math.nan], [2, 2], False),
        ([1, 1], [0, math.nan], True),
        ([math.nan, 1], [math.nan, 2], False),
        ([1, 1], [1, math.inf], True),
    ],
)
def test_dominance_table(a: list[float], b: list[float], expected: bool) -> None:
    assert pareto.dominates(a, b) is expected


@given(matrices)
def test_front_equals_brute_force(rows: np.ndarray) -> None:
    assert pareto.front(rows).tolist() == brute_front(rows)


@given(matrices)
def test_ranks_peel_fronts(rows: np.ndarray) -> None:
    ranks = pareto.ranks(rows)
    finite = np.isfinite(rows).all(axis=1)
    assert (ranks[~finite] == len(rows)).all()
    for i in np.flatnonzero(finite):
        beaten_by = [ranks[j] for j in np.flatnonzero(finite) if pareto.dominates(rows[j], rows[i])]
        assert ranks[i] == (max(beaten_by) + 1 if beaten_by else 0)


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_hypervolume_of_a_staircase(n: int) -> None:
    """Points (i, n - 1 - i) against (n, n) cover n(n + 1) / 2 unit cells."""
    rows = np.array([[i, n - 1 - i] for i in range(n)], dtype=float)
    assert pareto.hypervolume(rows, [n, n]) == pytest.approx(n * (n + 1) / 2)
    assert pareto.contributions(rows, [n, n]) == pytest.approx(np.ones(n))


@given(matrices)
def test_hypervolume_counts_cells(rows: np.ndarray) -> None:
    assert pareto.hypervolume(rows, [4, 4, 4]) == pytest.approx(brute_volume(rows, 4))


@given(matrices)
def test_a_contribution_is_what_is_lost(rows: np.ndarray) -> None:
    parts = pareto.contributions(rows, [4.0, 4.0, 4.0])
    whole = brute_volume(rows, 4)
    for i in range(len(rows)):
        assert parts[i] == pytest.approx(whole - brute_volume(np.delete(rows, i, axis=0), 4))


def test_a_box_in_four_objectives() -> None:
    rows = np.array([[0.5, 10.0, 100.0, 1000.0]])
    assert pareto.hypervolume(rows, [1, 20, 400, 2000]) == pytest.approx(0.5 * 10 * 300 * 1000)
    assert pareto.hypervolume(rows, [0.5, 20, 400, 2000]) == 0, "on the edge of the reference is outside"
    assert pareto.hypervolume(np.empty((0, 4)), [1, 1, 1, 1]) == 0


def test_crowding_of_a_line() -> None:
    rows = np.array([[0, 4], [1, 3], [2, 2], [4, 0], [math.nan, 0]], dtype=float)
    assert pareto.crowding(rows) == pytest.approx([np.inf, 1.0, 1.5, np.inf, 0])
    assert pareto.crowding(np.ones((3, 2))).tolist()[1] == 0, "equal points are as crowded as can be"


def points(rows: list[tuple[float, float, float, float]]) -> list[Objectives]:
    return [Objectives(*row) for row in rows]


CORNER = Objectives(10, 10, 10, 10)


def test_select_takes_the_largest_gain_first() -> None:
    useful = [(9, 9, 1, 1), (2, 2, 2, 2), (9, 1, 9, 9), (1, 9, 9, 9)]
    many = points([*useful, (2, 2, 2, 2), (3, 3, 3, 3), (math.nan, 0, 0, 0), (11, 0, 0, 0)])
    chosen = pareto.select(many, 8, CORNER)
    assert chosen[0] == 1
    assert set(chosen) == {0, 1, 2, 3}, "no duplicate, dominated, NaN or outside point"
    assert pareto.select(many, 2, CORNER) == chosen[:2]
    assert pareto.select(many, 0, CORNER) == pareto.select([], 3, CORNER) == []


@given(arrays(np.int64, (7, 4), elements=st.integers(0, 9)), arrays(np.int64, (4,), elements=st.integers(0, 6)))
def test_select_ignores_units(rows: np.ndarray, exponents: np.ndarray) -> None:
    """Powers of two keep the arithmetic exact, so the choice must be the same one."""
    scale = 2.0**exponents
    plain = pareto.select([Objectives(*map(float, r)) for r in rows], 3, CORNER)
    scaled = pareto.select([Objectives(*map(float, r * scale)) for r in rows], 3, Objectives(*map(float, 10 * scale)))
    assert scaled == plain


def test_select_keeps_the_promised_share() -> None:
    rng = np.random.default_rng(0)
    cloud = [Objectives(*map(float, r)) for r in rng.uniform(0, 9, (60, 4))]
    rows = pareto.as_rows(cloud)
    best = max(pareto.hypervolume(rows[list(s)], CORNER.as_row()) for s in rng.integers(0, 60, (3000, 3)))
    got = pareto.hypervolume(rows[pareto.select(cloud, 3, CORNER)], CORNER.as_row())
    assert got >= (1 - 1 / math.e) * best
