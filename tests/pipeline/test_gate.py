"""The gate: identity, verdicts, what it says of a budget before anything is trained, and that what it costs is what ships."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_tables import made_table

from hwnas.errors import BudgetError, ConfigError, UsageError
from hwnas.graph import Shape
from hwnas.hardware import profile, table
from hwnas.hardware.cost import predict
from hwnas.hardware.deployment import uniform
from hwnas.hardware.profile import BUDGET_FIELDS, Region
from hwnas.hardware.table import LookupTable
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData
from hwnas.pipeline.gate import Gate, Survey, open_gate, survey
from hwnas.pipeline.profiling import reachable
from hwnas.pipeline.rundir import RunDirectory
from hwnas.space.joint import JointSpace, read_joint
from hwnas.tasks import TASKS, Split, Windows

SPACE = read_joint(["mobilenet1d"])
JOINT = read_joint(["mobilenet1d", "lstm"])
PROFILE = profile.read("cortex-m4-192k")
RATE_HZ = 100.0
TABLE = made_table(shape for space in JOINT.spaces for length in (1000, 3000) for shape in reachable(space, Shape(1, length), 6))


def gate_for(window_s: float = 10.0, space: JointSpace = SPACE, **limits: float) -> Gate:
    budget = PROFILE.limits().override(**limits)
    return Gate(space, Shape(1, round(window_s * RATE_HZ)), 6, window_s, PROFILE, TABLE, budget)


def drawn(rng: np.random.Generator, of: JointSpace = SPACE, **fixed: Any) -> dict[str, Any]:
    return {name: values[rng.integers(len(values))] for name, values in of.choices.items()} | fixed


def alone(gate: Gate, seed: int, candidates: int) -> Survey:
    """The survey of a gate with one family."""
    (found,) = survey(gate, seed, candidates).values()
    return found


@pytest.mark.parametrize("seed", range(5))
def test_inactive_choices_change_nothing(seed: int) -> None:
    rng, gate = np.random.default_rng(seed), gate_for()
    chosen = drawn(rng, blocks=2)
    verdict = gate.judge(chosen)
    others = drawn(rng)
    inactive = {name: others[name] for name in chosen if name[:6] in ("block3", "block4", "block5", "block6")}
    assert len(inactive) == 4 * 5
    assert gate.judge(chosen | inactive) == verdict
    assert gate.judge({name: value for name, value in chosen.items() if name not in inactive}) == verdict


@pytest.mark.parametrize("name", ["stem_channels", "stem_kernel", "stem_stride", "blocks", "block2_channels", "block2_kernel"])
def test_active_choices_change_the_identity(name: str) -> None:
    gate, least = gate_for(), {n: values[0] for n, values in SPACE.choices.items()}
    hashes = {gate.judge(least | {name: value}).hash for value in SPACE.choices[name]}
    assert len(hashes) == len(SPACE.choices[name])


@pytest.mark.parametrize("change", [{"stem_kernel": 8}, {"blocks": 7}, {"block7_kernel": 3}, {"stem_channels": None}])
def test_parameters_outside_the_space_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        gate_for().judge(drawn(np.random.default_rng(0)) | change)


def test_violations_are_exactly_the_limits_below_the_cost() -> None:
    rng = np.random.default_rng(3)
    gate = gate_for(30.0)
    seen: set[str] = set()
    for _ in range(200):
        verdict = gate.judge(drawn(rng))
        over = {name for name in BUDGET_FIELDS if verdict.cost[name] > getattr(gate.budget, name)}
        assert set(verdict.violations) == over
        assert all(verdict.violations[name] == (verdict.cost[name], getattr(gate.budget, name)) for name in over)
        seen |= over
    assert {"ram_bytes", "latency_us"} <= seen


@pytest.mark.parametrize("window_s", [10.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_default_budget_rejects_some_and_keeps_some(window_s: float, seed: int) -> None:
    assert 0.2 <= alone(gate_for(window_s), seed, 400).reject_share <= 0.8


def test_a_survey_counts_what_the_gate_says_and_repeats() -> None:
    gate = gate_for(30.0)
    found = alone(gate, 5, 300)
    assert found == alone(gate, 5, 300) != alone(gate, 6, 300)
    assert found.reject_share == found.rejected / 300
    whole = PROFILE.model_copy(update={"memory": PROFILE.memory.model_copy(update={"sram": Region(origin=0, bytes=1 << 40)})})
    endless = gate.budget.override(**dict.fromkeys(BUDGET_FIELDS, 1e12))
    assert alone(replace(gate, profile=whole, budget=endless), 5, 300).rejected == 0


def smallest_need(name: str, window_s: float) -> float:
    """What the message for an impossible limit says that the smallest candidate needs."""
    with pytest.raises(BudgetError) as caught:
        survey(gate_for(window_s, **{name: 1}), 0, 10)
    found = re.search(rf"the smallest still needs {name} ([\d,]+) \(allowed 1\);", str(caught.value))
    assert found, str(caught.value)
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("window_s", [10.0, 30.0])
def test_no_candidate_needs_less_than_the_smallest_of_a_survey(window_s: float) -> None:
    gate = gate_for(window_s)
    smallest = {name: smallest_need(name, window_s) for name in ("ram_bytes", "flash_bytes", "latency_us")}
    rng = np.random.default_rng(1)
    for number in range(600):
        chosen = drawn(rng)
        if number % 2:
            chosen |= {"blocks": 2, "stem_channels": 4, "block1_channels": 8, "block2_channels": 8}
        cost = gate.judge(chosen).cost
        assert all(cost[name] > least - 1 for name, least in smallest.items())  # the message rounds


@pytest.mark.parametrize(("name", "limit"), [("ram_bytes", 1024), ("latency_us", 20.0), ("flash_bytes", 2500)])
def test_an_impossible_budget_says_what_to_do(name: str, limit: float) -> None:
    with pytest.raises(BudgetError) as caught:
        survey(gate_for(**{name: limit}), 0, 100)
    message = str(caught.value)
    assert f"{name} {smallest_need(name, 10.0):,.0f} (allowed {limit:,.0f})" in message
    assert "'mobilenet1d'" in message and "cortex-m4-192k" in message and "--window-s, now 10 s" in message
    assert not any(other in message for other in BUDGET_FIELDS if other != name)


def test_one_candidate_that_fits_is_enough() -> None:
    for name in ("ram_bytes", "flash_bytes"):
        limit = smallest_need(name, 10.0)
        assert alone(gate_for(**{name: limit}), 0, 100).rejected >= 99
        with pytest.raises(BudgetError):
            survey(gate_for(**{name: limit - 1}), 0, 100)


def run_data(samples: int) -> RunData:
    x = np.zeros((2, 1, samples), np.float32)
    part = Windows(x, np.array([0, 5]), np.array(["a", "b"]), RATE_HZ, "synthetic", "none")
    return RunData(TASKS["rhythm"], Split(part, part, part), "hash", "none")


def test_a_run_opens_its_own_gate(tmp_path: Path) -> None:
    config, data, run = (
        RunConfig.model_validate({"profile": PROFILE.name, "budget": {"max_ram_kb": 8}}),
        run_data(1500),
        RunDirectory(tmp_path),
    )
    table.write(TABLE, run.table)
    gate = open_gate(config, data, run)
    assert (gate.window, gate.outputs, gate.window_s) == (Shape(1, 1500), 6, 15.0)
    assert gate.budget == PROFILE.limits().override(ram_bytes=8192)
    assert set(gate.table.rows) == set(TABLE.rows)
    table.write(LookupTable(TABLE.provenance, TABLE.rows[:5], TABLE.overheads), run.table)
    assert set(open_gate(config, data, run).table.rows) == set(TABLE.rows[:5])


@pytest.mark.parametrize("kb", [8, 24, 512])
def test_what_is_costed_is_what_ships_within_the_flash_budget(kb: int) -> None:
    rng, gate = np.random.default_rng(0), gate_for(flash_bytes=kb * 1024)
    seen = set()
    for _ in range(50):
        graph = gate.graph(drawn(rng))
        deployment = gate.deploy(graph)
        cost = gate.cost(graph)
        assert cost == gate.cost(graph, deployment) == predict(graph, deployment, PROFILE, TABLE, 10.0)
        smallest = predict(graph, uniform(graph), PROFILE, TABLE, 10.0)
        assert cost.flash_bytes <= max(kb * 1024, smallest.flash_bytes) and cost.cycles <= smallest.cycles
        seen |= set(deployment.weights)
    assert seen == {"none", "int8", "int16"} - ({"int8"} if kb == 512 else set())


def test_a_candidate_that_fits_with_small_layouts_only_passes() -> None:
    """Fast layouts are chosen under the flash budget, so they never cost a candidate its place in it."""
    rng = np.random.default_rng(1)
    graph = gate_for().graph(drawn(rng))
    smallest = predict(graph, uniform(graph), PROFILE, TABLE, 10.0)
    gate = gate_for(flash_bytes=smallest.flash_bytes, **dict.fromkeys(("ram_bytes", "latency_us", "energy_uj", "average_power_uw"), 1e9))
    assert gate.judge(drawn(np.random.default_rng(1))).violations == {}


def test_a_budget_above_the_part_is_refused_and_never_judged_by() -> None:
    config = RunConfig.model_validate({"profile": "stm32f405", "budget": {"max_ram_kb": 192}})
    with pytest.raises(UsageError, match=r"ram_bytes: 196,608 is more than stm32f405 has \(131,072"):
        _ = config.limits
    small = profile.read("stm32f405")
    gate = replace(gate_for(30.0), profile=small, budget=small.limits().override(**dict.fromkeys(BUDGET_FIELDS, 1e12)))
    rng = np.random.default_rng(0)
    over = [v.violations for v in (gate.judge(drawn(rng, block1_stride=1, block2_stride=1, stem_channels=16)) for _ in range(100))]
    assert {tuple(v) for v in over} <= {(), ("ram_bytes",)}
    assert all(need > allowed == 131_072 - profile.STACK_BYTES for v in over for need, allowed in v.values()) and any(over)


def test_an_impossible_budget_of_an_uncertain_part_says_how_uncertain_its_figures_are() -> None:
    watch = profile.read("watch-a53")
    gate = replace(gate_for(), profile=watch, budget=watch.limits().override(latency_us=0.01, energy_uj=0.001, ram_bytes=1))
    with pytest.raises(BudgetError) as caught:
        survey(gate, 0, 10)
    assert re.search(r"latency_us [\d,]+ \(x2 either way\) \(allowed", str(caught.value))
    assert re.search(r"energy_uj [\d,]+ \(x4 either way\) \(allowed", str(caught.value))
    assert re.search(r"ram_bytes [\d,]+ \(allowed", str(caught.value))


@pytest.mark.parametrize("family", JOINT.families)
def test_a_joint_gate_judges_each_candidate_as_its_own_family_does(family: str) -> None:
    rng, joint, own = np.random.default_rng(4), gate_for(space=JOINT), gate_for(space=read_joint([family]))
    for _ in range(20):
        parameters = drawn(rng, JOINT, space=family)
        plain = {n.removeprefix(f"{family}."): v for n, v in parameters.items() if n.startswith(f"{family}.")}
        assert joint.candidate(parameters) == own.candidate(plain) and joint.graph(parameters).hash == own.graph(plain).hash
        verdict = joint.judge(parameters)
        assert verdict == own.judge(plain) and verdict.family == family
        assert (
            joint.judge(parameters | {n: v for n, v in drawn(rng, JOINT).items() if n != "space" and n not in own_names(family)}) == verdict
        )


def own_names(family: str) -> set[str]:
    return {name for name in JOINT.choices if name.startswith(f"{family}.")}


def test_a_joint_survey_is_that_of_every_family() -> None:
    found = survey(gate_for(space=JOINT), 3, 100)
    assert found == {family: alone(gate_for(space=read_joint([family])), 3, 100) for family in JOINT.families}
    assert not any(seen.needs for seen in found.values())


def test_one_family_that_fits_is_enough_and_the_other_says_what_it_needs() -> None:
    least = {family: alone_need(family) for family in JOINT.families}
    poor, rich = max(least, key=least.__getitem__), min(least, key=least.__getitem__)
    limit = (least[poor] + least[rich]) // 2
    found = survey(gate_for(space=JOINT, flash_bytes=limit), 0, 50)
    assert found[rich].needs == "" and f"flash_bytes {least[poor]:,.0f} (allowed {limit:,.0f})" in found[poor].needs
    with pytest.raises(BudgetError) as caught:
        survey(gate_for(space=JOINT, flash_bytes=least[rich] - 1), 0, 50)
    for family, need in least.items():
        assert f"space '{family}': the smallest still needs flash_bytes {need:,.0f}" in str(caught.value)


def alone_need(family: str) -> float:
    """Flash of the smallest candidate of a family."""
    with pytest.raises(BudgetError) as caught:
        survey(gate_for(space=read_joint([family]), flash_bytes=1), 0, 50)
    found = re.search(r"flash_bytes ([\d,]+) \(allowed 1\)", str(caught.value))
    assert found, str(caught.value)
    return float(found[1].replace(",", ""))
