"""The cheapest candidates of every space: what is said to be the least needed, no candidate goes below."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from made_tables import made_table

from hwnas import space
from hwnas.errors import BudgetError
from hwnas.graph import Shape
from hwnas.hardware import profile
from hwnas.pipeline.gate import Gate, survey
from hwnas.pipeline.profiling import reachable
from hwnas.space.joint import JointSpace

PROFILE = profile.read("cortex-m4-192k")
WINDOW = Shape(1, 1000)
LIMITS = ("ram_bytes", "flash_bytes", "latency_us")
TABLE = made_table(set().union(*(reachable(space.read(name), WINDOW, 6) for name in space.names())))


def gate_for(name: str, **limits: float) -> Gate:
    return Gate(JointSpace((space.read(name),)), WINDOW, 6, 10.0, PROFILE, TABLE, PROFILE.limits().override(**limits))


@functools.cache
def need(name: str, limit: str) -> int:
    """What the smallest candidate needs, as the message for an impossible limit says."""
    with pytest.raises(BudgetError) as caught:
        survey(gate_for(name, **{limit: 1}), 0, 5)
    found = re.search(rf"the smallest still needs {limit} ([\d,]+)", str(caught.value))
    assert found, str(caught.value)
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("name", space.names())
def test_no_candidate_needs_less_than_the_smallest(name: str) -> None:
    found, gate, rng = space.read(name), gate_for(name), np.random.default_rng(1)
    least = {limit: need(name, limit) for limit in LIMITS}
    narrow = {choice: values[:2] if not choice.endswith(("stride", "pool")) else values for choice, values in found.choices.items()}
    for number in range(300):
        values = narrow if number % 2 else found.choices
        cost = gate.judge({choice: int(rng.choice(values[choice])) for choice in found.choices}).cost
        assert all(cost[limit] > least[limit] - 1 for limit in LIMITS)


@pytest.mark.parametrize("name", space.names())
def test_a_budget_of_just_the_smallest_is_not_hopeless(name: str) -> None:
    for limit in ("ram_bytes", "flash_bytes"):
        assert survey(gate_for(name, **{limit: need(name, limit)}), 0, 5)[name].needs == ""


@pytest.mark.parametrize("name", space.names())
def test_the_default_budget_keeps_a_fair_share_and_rejects_some(name: str) -> None:
    assert 0.1 <= survey(gate_for(name), 0, 200)[name].reject_share <= 0.8


def test_limits_that_only_hold_together_are_met_together() -> None:
    """Near the least of RAM and of latency at once; neither end of the space alone would do."""
    for name in space.names():
        tight = {"ram_bytes": 1.4 * need(name, "ram_bytes"), "latency_us": 3.0 * need(name, "latency_us")}
        assert survey(gate_for(name, **tight), 0, 5)[name].needs == ""
