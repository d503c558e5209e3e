"""The cost of a small network in closed form from a table made by hand, and which limits it breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hwnas.errors import MissingEntryError
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Join, Lstm, MaxPool1d, Split
from hwnas.hardware.cost import Cost, assemble, operator_cycles, predict, violations
from hwnas.hardware.deployment import Deployment, uniform
from hwnas.hardware.ops import Layout, OpKey, node_of, op_key
from hwnas.hardware.profile import BUDGET_FIELDS, STACK_BYTES, Budget, Profile
from hwnas.hardware.table import LookupTable, Overheads, Row, new_table

WINDOW_S = 5.0
FILE: dict[str, Any] = {
    "name": "by-hand",
    "description": "1 MHz, 200 pJ a cycle",
    "core": "hand",
    "clock_hz": 1_000_000,
    "memory": {"flash": {"origin": 0, "bytes": 100_000}, "sram": {"origin": 0, "bytes": 10_000}},
    "energy": {"pj_per_cycle": 200.0, "supply_v": 3.0, "regulator": "-", "source": "-"},
    "budget": {"ram_bytes": 1, "flash_bytes": 1, "latency_us": 1.0, "energy_uj": 1.0, "average_power_uw": 1.0},
    "presets": {},
    "lookup_table": "-",
}
PROFILE = Profile.model_validate(FILE)
WAITING = Profile.model_validate(FILE | {"flash_wait": {"cycles_per_byte": 0.5, "cycles_per_line": 2.0, "source": "-"}})
EXTRA = Overheads(
    frame_cycles=7,
    call_cycles=11,
    frame_read_bytes=3,
    call_read_bytes=5,
    frame_lines=1,
    call_lines=2,
    frame_stack_bytes=13,
    static_bytes=17,
    code_bytes=1900,
)
PROVENANCE = {"core": "hand", "pointer_bytes": "4", "kernel_set": "-", "toolchain": "-", "method": "counted on paper"}
CONV, DEPTHWISE = OpKey("conv1d", 3, 2, 1, 1, 4, "int16"), OpKey("depthwise_conv1d", 3, 1, 1, 4, 4, "int16")
ADD, POOL = OpKey("add", 1, 1, 1, 4, 4, "none"), OpKey("global_avg_pool", 1, 1, 1, 4, 4, "none")
HEAD, WIDE = OpKey("dense", 1, 1, 1, 4, 2, "int8"), OpKey("dense", 1, 1, 1, 4, 2, "int16")
ROWS = (
    Row(CONV, 2, 4, 400, 300, 48, 16, 6, 4, 40, "hwnas_conv1d_short", 300),  # at length 10: 400 + 2 * 300
    Row(DEPTHWISE, 5, 0, 500, 0, 80, 0, 9, 0, 80, "hwnas_depthwise_conv1d_k3_s1_d1_c4", 250),
    Row(ADD, 5, 0, 30, 0, 16, 0, 2, 0, 4, "hwnas_add", 60),
    Row(POOL, 5, 0, 50, 0, 20, 0, 3, 0, 8, "hwnas_global_avg_pool", 90),
    Row(HEAD, 1, 0, 70, 0, 64, 0, 4, 0, 16, "hwnas_dense_int8", 200),
    Row(WIDE, 1, 0, 60, 0, 96, 0, 4, 0, 16, "hwnas_dense_int16", 180),
)
TABLE = new_table(PROVENANCE, EXTRA, ROWS)


def network(*, residual: bool = False) -> Graph:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, 3, 2), builder.add(Input(1, 10)))
    y = builder.add(DepthwiseConv1d(3), x)
    if residual:
        y = builder.add(Add(), x, y)
    builder.add(Dense(2), builder.add(GlobalAvgPool(), y))
    return builder.build()


def cost_of(graph: Graph, layout: Layout = "int8", profile: Profile = PROFILE) -> Cost:
    return predict(graph, uniform(graph, layout), profile, TABLE, WINDOW_S)


def test_every_figure_in_closed_form() -> None:
    cost = cost_of(network())
    plan = uniform(network()).plan
    assert operator_cycles(network(), uniform(network()), TABLE) == [1000, 500, 50, 70]
    assert cost.cycles == 1000 + 500 + 50 + 70 + 4 * 11 + 7
    assert cost.latency_us == pytest.approx(1671.0)
    assert cost.energy_uj == pytest.approx(1671 * 200e-6)
    assert cost.average_power_uw == pytest.approx(1671 * 200e-6 / 5.0)
    # Window 10 -> 12 bytes, logits 2 -> 4 bytes; one stack at a time.
    assert cost.ram_bytes == plan.arena_bytes + (12 + 4) + 17 + (13 + 80)
    # An output of the short convolution: bias, multiplier and 3 taps of 16 bits in 8 bytes; the depthwise convolution the same a
    # channel; the head one block of 4 outputs.
    packed = 4 * (8 + 8) + 4 * (8 + 8) + (32 + 4 * 4)
    assert cost.flash_bytes == packed + (44 + 44 + 16 + 20) + 4 * 20 + (300 + 250 + 90 + 200) + 1900
    assert cost.parameters == (12 + 4) + (12 + 4) + (8 + 2)
    assert cost.macs == 5 * 4 * 3 + 5 * 4 * 3 + 4 * 2
    assert cost.provenance == "predicted: hand, counted on paper"
    assert (cost.uncertainty_factor, cost.energy_uncertainty_factor) == (1.0, 1.0)


def test_modalities_in_closed_form() -> None:
    """Three of them: three calls of each convolution and pool, one of the sum over all their bytes."""
    builder = GraphBuilder()
    x = builder.add(Split(), builder.add(Input(3, 10)))
    x = builder.add(Conv1d(4, 3, 2), x)
    x = builder.add(Add(), x, builder.add(MaxPool1d(1, 1), x))
    builder.add(Join(), x)
    graph = builder.build()
    rows = (
        Row(OpKey("split", 1, 1, 1, 3, 1, "none"), 2, 4, 40, 12, 36, 0, 5, 3, 20, "hwnas_transpose", 150),
        ROWS[0],
        Row(OpKey("max_pool1d", 1, 1, 1, 4, 4, "none"), 5, 0, 90, 0, 20, 0, 3, 0, 8, "hwnas_max_pool1d", 70),
        Row(OpKey("add", 1, 1, 1, 1, 1, "none"), 60, 0, 200, 0, 16, 0, 9, 0, 4, "hwnas_add", 60),
        Row(OpKey("join", 1, 1, 1, 4, 12, "none"), 5, 0, 33, 0, 36, 0, 4, 0, 24, "hwnas_transpose", 150),
    )
    table = new_table(PROVENANCE, EXTRA, rows)
    parts = [40 + 2 * 12, 3 * 1000, 3 * 90, 200, 33]
    assert operator_cycles(graph, uniform(graph), table) == parts
    cost = predict(graph, uniform(graph), WAITING, table, WINDOW_S)
    calls = 1 + 3 + 3 + 1 + 1
    reads = 36 + 3 * (48 + 2 * 16) + 3 * 20 + 16 + 36 + calls * 5 + 3
    lines = (5 + 2 * 3) + 3 * (6 + 2 * 4) + 3 * 3 + 9 + 4 + calls * 2 + 1
    assert cost.cycles == round(sum(parts) + calls * 11 + 7 + 0.5 * reads + 2 * lines)
    packed, params = 4 * (8 + 8), 20 + 44 + 20 + 16 + 20
    assert cost.flash_bytes == packed + params + calls * 20 + (150 + 300 + 70 + 60) + 1900


def test_another_layout_changes_cycles_flash_and_code() -> None:
    narrow, wide = cost_of(network()), cost_of(network(), "int16")
    assert narrow.cycles - wide.cycles == 70 - 60
    assert wide.flash_bytes - narrow.flash_bytes == 16 + 180 - 200
    assert wide.ram_bytes == narrow.ram_bytes


def test_a_function_that_is_called_twice_is_paid_once() -> None:
    builder = GraphBuilder()
    x = builder.add(GlobalAvgPool(), builder.add(Input(4, 5)))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    rows = [replace(ROWS[3], in_length=n) for n in (1, 5)] + [*ROWS[4:]]
    table = new_table(PROVENANCE, EXTRA, rows)
    graph = builder.build()
    flash = predict(graph, uniform(graph), PROFILE, table, WINDOW_S).flash_bytes
    assert flash == 1900 + (90 + 200) + 2 * 20 + (48 + 16) + 3 * 20


def test_waiting_for_flash_counts_every_read_and_line_of_the_whole_program() -> None:
    still, waits = cost_of(network()), cost_of(network(), profile=WAITING)
    reads = (48 + 2 * 16) + 80 + 20 + 64 + 4 * 5 + 3
    lines = (6 + 2 * 4) + 9 + 3 + 4 + 4 * 2 + 1
    assert waits.cycles == round(still.cycles + 0.5 * reads + 2.0 * lines)
    assert waits.latency_us == pytest.approx(waits.cycles)
    assert waits.energy_uj == pytest.approx(waits.cycles * 200e-6)
    assert replace(waits, cycles=0, latency_us=0, energy_uj=0, average_power_uw=0) == replace(
        still, cycles=0, latency_us=0, energy_uj=0, average_power_uw=0
    )


def test_a_residual_sum_adds_its_cycles_its_call_and_its_life() -> None:
    plain, residual = cost_of(network()), cost_of(network(residual=True))
    arenas = [uniform(network(residual=r)).plan.arena_bytes for r in (False, True)]
    assert residual.cycles - plain.cycles == 30 + 11
    assert residual.ram_bytes - plain.ram_bytes == arenas[1] - arenas[0] > 0
    assert residual.flash_bytes - plain.flash_bytes == 16 + 20 + 60


def test_a_window_twice_as_long_halves_the_average_power_only() -> None:
    graph = network()
    slow = predict(graph, uniform(graph), PROFILE, TABLE, 2 * WINDOW_S)
    assert slow == replace(cost_of(graph), average_power_uw=cost_of(graph).average_power_uw / 2)


def test_a_shape_without_a_row_is_no_guess() -> None:
    poor = new_table(PROVENANCE, EXTRA, [row for row in ROWS if row.key != DEPTHWISE])
    with pytest.raises(MissingEntryError, match=r"depthwise_conv1d 4->4 kernel 3 stride 1 int16 at length 5"):
        predict(network(), uniform(network()), PROFILE, poor, WINDOW_S)


def test_a_layout_that_failed_is_no_guess_even_where_the_deployment_names_it() -> None:
    rows = [row for row in ROWS if row.key != WIDE] + [Row.marked(WIDE, 1, "failed: faulted")]
    marked = LookupTable(TABLE.provenance, tuple(rows), EXTRA)
    assert predict(network(), uniform(network()), PROFILE, marked, WINDOW_S) == cost_of(network())
    with pytest.raises(MissingEntryError, match=r"dense 4->2 .* int16 at length 1: failed: faulted"):
        predict(network(), uniform(network(), "int16"), PROFILE, marked, WINDOW_S)


def test_emulated_figures_share_the_formulas() -> None:
    cost, graph = cost_of(network()), network()
    again = assemble(graph, PROFILE, WINDOW_S, cost.cycles, cost.ram_bytes, cost.flash_bytes, "emulated")
    assert again == replace(cost, provenance="emulated")
    assert set(cost.as_dict()) >= {*BUDGET_FIELDS, "cycles", "parameters", "macs", "provenance", "uncertainty_factor"}


def test_uncertainty_of_the_profile_stands_in_every_cost() -> None:
    doubtful = Profile.model_validate(FILE | {"uncertainty": {"factor": 2.0, "energy_factor": 4.0, "reason": "-"}})
    cost = cost_of(network(), profile=doubtful)
    assert replace(cost, uncertainty_factor=1.0, energy_uncertainty_factor=1.0) == cost_of(network())
    assert (cost.as_dict()["uncertainty_factor"], cost.as_dict()["energy_uncertainty_factor"]) == (2.0, 4.0)


def exact(cost: Cost) -> Budget:
    return Budget(**{name: getattr(cost, name) for name in BUDGET_FIELDS})


def test_a_budget_met_exactly_is_met() -> None:
    cost = cost_of(network())
    assert violations(cost, exact(cost), PROFILE) == {}


@pytest.mark.parametrize("name", BUDGET_FIELDS)
def test_a_broken_limit_is_named_with_need_and_allowance(name: str) -> None:
    cost = cost_of(network())
    need = getattr(cost, name)
    assert violations(cost, exact(cost).override(**{name: need * 0.99}), PROFILE) == {name: (need, need * 0.99)}


@pytest.mark.parametrize(("name", "region"), [("ram_bytes", "sram"), ("flash_bytes", "flash")])
def test_the_part_itself_is_a_limit_however_much_the_budget_allows(name: str, region: str) -> None:
    cost = cost_of(network())
    need = getattr(cost, name)
    kept = STACK_BYTES if region == "sram" else 0
    memory = FILE["memory"] | {region: {"origin": 0, "bytes": need - 1 + kept}}
    small = Profile.model_validate(FILE | {"memory": memory})
    assert violations(cost, exact(cost).override(**{name: 10**9}), small) == {name: (need, need - 1)}


def test_several_broken_limits_are_all_named() -> None:
    cost = cost_of(network())
    assert set(violations(cost, Budget(1, 1, 0.1, 1e-6, 1e-6), PROFILE)) == set(BUDGET_FIELDS)


KEYS = [row.key for row in ROWS] + [
    OpKey("pointwise", 1, 1, 1, 4, 8, "int16"),
    OpKey("conv1d", 1, 2, 1, 4, 8, "int8"),
    OpKey("conv1d", 3, 1, 4, 16, 8, "int8"),
    OpKey("concat", 1, 1, 1, 4, 9, "none"),
    OpKey("avg_pool1d", 3, 2, 1, 4, 4, "none"),
    OpKey("max_pool1d", 2, 2, 1, 4, 4, "none"),
    OpKey("lstm", 1, 1, 1, 4, 6, "int8"),
    OpKey("lstm_last", 1, 1, 1, 4, 6, "int16"),
    OpKey("split", 1, 1, 1, 3, 1, "none"),
    OpKey("join", 1, 1, 1, 4, 12, "none"),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_describes_a_node_that_has_that_key(key: OpKey) -> None:
    length = 1 if key.operator == "dense" else 9
    node, source = node_of(key, length)
    assert (op_key(node.op, source, node.shape, key.weights), source.length) == (key, length)
    assert isinstance(node.op, Lstm) == key.operator.startswith("lstm")


def test_a_deployment_of_another_graph_is_no_deployment() -> None:
    with pytest.raises(ValueError, match="zip"):
        predict(network(), Deployment(uniform(network()).plan, ("none", "int16")), PROFILE, TABLE, WINDOW_S)
