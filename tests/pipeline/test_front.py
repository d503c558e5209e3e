"""Freezing the front, and its hypervolume in units of the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.errors import RunError
from hwnas.hardware.profile import BUDGET_FIELDS, Budget
from hwnas.pareto import Objectives, dominates
from hwnas.pipeline.front import best, describe_metric, freeze, hypervolume, objectives, over_budget, read_cards
from hwnas.pipeline.rundir import RunDirectory
from hwnas.tasks import TASKS

TASK = TASKS["rhythm"]
BUDGET = Budget(ram_bytes=1000, flash_bytes=2000, latency_us=100.0, energy_uj=10.0, average_power_uw=1.0)


def card(identity: str, auc: float = 0.9, *, predicted: dict[str, float] | None = None, **emulated: float) -> dict[str, Any]:
    figures = {"ram_bytes": 500, "flash_bytes": 1000, "latency_us": 50.0, "energy_uj": 5.0, "average_power_uw": 0.5} | emulated
    before = figures | (predicted or {})
    cost = {name: {"predicted": before[name], "emulated": value} for name, value in figures.items()}
    return {"id": identity, "cost": cost, "metrics": {"validation": {"af_auc": auc}}}


def ids(cards: list[dict[str, Any]]) -> list[str]:
    return [c["id"] for c in cards]


def test_dominated_students_fall_and_the_front_is_in_order_of_latency() -> None:
    cards = [card("slow", 0.95, latency_us=90.0), card("worse", 0.89, latency_us=60.0), card("fast", 0.8, latency_us=10.0), card("mid")]
    front, fallen = freeze(cards, TASK, BUDGET)
    assert (ids(front), ids(fallen)) == (["fast", "mid", "slow"], ["worse"])
    assert fallen[0]["fallen"] == "dominated by mid" and not any("fallen" in c for c in front)


def test_a_student_that_is_better_in_one_cost_alone_stays() -> None:
    for name in ("ram_bytes", "flash_bytes", "latency_us"):
        front, _ = freeze([card("a"), card("b", 0.5, **{name: 1.0})], TASK, BUDGET)
        assert set(ids(front)) == {"a", "b"}


def test_random_cards_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    cards = [
        card(f"{i:02}", float(rng.integers(5, 10)) / 10, latency_us=float(rng.integers(1, 6)), ram_bytes=int(rng.integers(1, 6)))
        for i in range(40)
    ]
    rows = {c["id"]: objectives(c, TASK).as_row() for c in cards}
    front, fallen = freeze(cards, TASK, BUDGET)
    assert sorted(ids(front) + ids(fallen)) == sorted(rows)
    for c in front:
        assert not any(dominates(other, rows[c["id"]]) for other in rows.values())
    for c in fallen:
        assert any(dominates(rows[f], rows[c["id"]]) or rows[f] == rows[c["id"]] for f in ids(front))


@pytest.mark.parametrize("name", BUDGET_FIELDS)
def test_over_budget_as_emulated_is_off_the_front_whatever_was_predicted(name: str) -> None:
    limit = getattr(BUDGET, name)
    over = card("over", 0.99, predicted={name: limit * 0.9}, **{name: limit * 1.001})
    assert over_budget(over, BUDGET) == [name]
    front, fallen = freeze([over, card("in", 0.7)], TASK, BUDGET)
    assert (ids(front), ids(fallen)) == (["in"], ["over"])
    assert fallen[0]["fallen"] == f"over budget as emulated: {name}" and "fallen" not in over


@pytest.mark.parametrize("name", BUDGET_FIELDS)
def test_at_the_limit_and_predicted_above_it_still_fits(name: str) -> None:
    limit = getattr(BUDGET, name)
    there = card("there", predicted={name: limit * 2}, **{name: limit})
    assert over_budget(there, BUDGET) == []
    assert freeze([there], TASK, BUDGET) == ([there], [])


def test_a_student_over_budget_does_not_push_others_off() -> None:
    cards = [card("over", 0.99, latency_us=10.0, ram_bytes=1001), card("in", 0.9)]
    assert ids(freeze(cards, TASK, BUDGET)[0]) == ["in"]


def test_of_equal_students_one_stays_whatever_their_order() -> None:
    for order in (["b", "a", "c"], ["c", "b", "a"]):
        front, fallen = freeze([card(i) for i in order], TASK, BUDGET)
        assert (ids(front), ids(fallen)) == (["a"], ["b", "c"])
        assert {c["fallen"] for c in fallen} == {"equal to a student on the front"}


def test_nobody_fits() -> None:
    over = [card("b", latency_us=200.0), card("a", latency_us=200.0)]
    front, fallen = freeze(over, TASK, BUDGET)
    assert (ids(front), ids(fallen)) == ([], ["a", "b"])
    assert freeze([], TASK, BUDGET) == ([], [])
    assert best([], TASK) is None


def test_best_is_by_validation() -> None:
    cards = [card("a", 0.8), card("b", 0.95), card("c", 0.9)]
    winner = best(cards, TASK)
    assert winner is not None and winner["id"] == "b"


def test_of_an_error_the_smallest_is_best() -> None:
    task = TASKS["heart_rate"]
    cards = [card(name, latency_us=latency) for name, latency in (("slow", 90.0), ("worse", 95.0), ("fast", 10.0))]
    for each, error in zip(cards, (3.5, 4.0, 9.0), strict=True):
        each["metrics"] = {"validation": {"mae_bpm": error}}
    assert objectives(cards[0], task).error == 3.5
    front, fallen = freeze(cards, task, BUDGET)
    assert (ids(front), ids(fallen), fallen[0]["fallen"]) == (["fast", "slow"], ["worse"], "dominated by slow")
    winner = best(cards, task)
    assert winner is not None and winner["id"] == "slow"


@pytest.mark.parametrize("name", TASKS)
def test_what_is_said_of_a_metric_is_what_the_task_minimises(name: str) -> None:
    """Which way is better, for every task, against the error that its search ranks by."""
    task = TASKS[name]
    told = describe_metric(task)
    assert told["name"] == task.primary and told["lower_is_better"] == (task.error({task.primary: 0.2}) < task.error({task.primary: 0.3}))
    assert (told["unit"] is None) == (task.kind == "classification") and "_" not in told["title"]


def test_objectives_are_emulated_figures() -> None:
    found = objectives(card("a", 0.75, predicted=dict.fromkeys(BUDGET_FIELDS, 1.0)), TASK)
    assert found == Objectives(error=0.25, latency_us=50.0, ram_bytes=500, flash_bytes=1000)


def test_hypervolume_is_in_units_of_the_budget() -> None:
    assert hypervolume([], BUDGET, 0.5) == 0.0
    assert hypervolume([Objectives(0.0, 0.0, 0.0, 0.0)], BUDGET, 0.5) == pytest.approx(1.0)
    # Half of the error from chance, three quarters of the latency, four fifths of the RAM and nine tenths of the flash are left.
    point = Objectives(0.25, 25.0, 200.0, 200.0)
    assert hypervolume([point], BUDGET, 0.5) == pytest.approx(0.5 * 0.75 * 0.8 * 0.9)
    assert hypervolume([point, point, Objectives(0.3, 30.0, 300.0, 300.0)], BUDGET, 0.5) == pytest.approx(0.5 * 0.75 * 0.8 * 0.9)
    other = Objectives(0.05, 75.0, 200.0, 200.0)
    union = (0.5 * 0.75 + 0.9 * 0.25 - 0.5 * 0.25) * 0.8 * 0.9
    assert hypervolume([point, other], BUDGET, 0.5) == pytest.approx(union)
    assert hypervolume([Objectives(5.0, 25.0, 200.0, 200.0)], BUDGET, 20.0) == pytest.approx(0.75 * 0.75 * 0.8 * 0.9)


def test_points_at_chance_or_over_budget_add_no_volume() -> None:
    good = (0.25, 25.0, 200.0, 200.0)
    for index, value in enumerate((0.5, 100.0, 1000.0, 2000.0)):
        assert hypervolume([Objectives(*good[:index], value, *good[index + 1 :])], BUDGET, 0.5) == 0.0


def test_cards_are_read_in_the_order_given(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for identity in ("a", "b", "c"):
        run.write_json(run.student(identity) / "card.json", card(identity))
    assert ids(read_cards(run, ["c", "a"])) == ["c", "a"]
    with pytest.raises(RunError, match=r"students/d/card\.json"):
        read_cards(run, ["a", "d"])
