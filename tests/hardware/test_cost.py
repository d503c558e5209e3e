"""The cost of a small network in closed form from a table made by hand, and which limits it breaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwnas import memory
from hwnas.errors import MissingEntryError
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.hardware.cost import Cost, assemble, operator_cycles, predict, violations
from hwnas.hardware.ops import OpKey, node_of, op_key
from hwnas.hardware.profile import BUDGET_FIELDS, Budget, Profile
from hwnas.hardware.table import HEADER, LookupTable, Overheads, Row

WINDOW_S = 5.0
PROFILE = Profile.model_validate(
    {
        "name": "by-hand",
        "description": "1 MHz, 200 pJ a cycle",
        "core": "none",
        "clock_hz": 1_000_000,
        "memory": {"flash": {"origin": 0, "bytes": 1}, "sram": {"origin": 0, "bytes": 1}},
        "energy": {"pj_per_cycle": 200.0, "supply_v": 3.0, "regulator": "-", "source": "-"},
        "budget": {"ram_bytes": 1, "flash_bytes": 1, "latency_us": 1.0, "energy_uj": 1.0, "average_power_uw": 1.0},
        "presets": {},
        "lookup_table": "-",
    }
)
EXTRA = Overheads(frame_cycles=7, call_cycles=11, frame_stack_bytes=13, static_bytes=17, code_bytes=1900)
CONV, DEPTHWISE = OpKey("conv1d", 3, 2, 1, 4), OpKey("depthwise_conv1d", 3, 1, 4, 4)
ADD, POOL, HEAD = OpKey("add", 1, 1, 4, 4), OpKey("global_avg_pool", 1, 1, 4, 4), OpKey("dense", 1, 1, 4, 2)
ROWS = (
    Row(CONV, 2, 4, 400, 300, 40),  # at length 10: 400 + 2 * 300
    Row(DEPTHWISE, 5, 0, 500, 0, 80),
    Row(ADD, 5, 0, 30, 0, 4),
    Row(POOL, 5, 0, 50, 0, 8),
    Row(HEAD, 1, 0, 70, 0, 16),
)
TABLE = LookupTable(dict.fromkeys(HEADER, "1"), ROWS, EXTRA)


def network(*, residual: bool = False) -> Graph:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, 3, 2), builder.add(Input(1, 10)))
    y = builder.add(DepthwiseConv1d(3), x)
    if residual:
        y = builder.add(Add(), x, y)
    builder.add(Dense(2), builder.add(GlobalAvgPool(), y))
    return builder.build()


def cost_of(graph: Graph) -> Cost:
    return predict(graph, memory.plan(graph), PROFILE, TABLE, WINDOW_S)


def test_every_figure_in_closed_form() -> None:
    cost = cost_of(network())
    assert operator_cycles(network(), TABLE) == [1000, 500, 50, 70]
    assert cost.cycles == 1000 + 500 + 50 + 70 + 4 * 11 + 7
    assert cost.latency_us == pytest.approx(1671.0)
    assert cost.energy_uj == pytest.approx(1671 * 200e-6)
    assert cost.average_power_uw == pytest.approx(1671 * 200e-6 / 5.0)
    # Arena: two tensors of 4 x 5 live across the depthwise convolution. Window 10 -> 12 bytes, logits 2 -> 4 bytes; one stack at a time.
    assert memory.plan(network()).arena_bytes == 40
    assert cost.ram_bytes == 40 + (12 + 4) + 17 + (13 + 80)
    # One block of 4 outputs each: 32 bytes of biases and multipliers, then taps (int8 in fours; int16 for the depthwise convolution).
    packed = (32 + 4 * 4) + (32 + 4 * 2 * 3) + (32 + 4 * 4)
    assert cost.flash_bytes == packed + (3 * 44 + 20) + 4 * 20 + 1900
    assert cost.parameters == (12 + 4) + (12 + 4) + (8 + 2)
    assert cost.macs == 5 * 4 * 3 + 5 * 4 * 3 + 4 * 2
    assert cost.provenance == "predicted"


def test_a_residual_sum_adds_its_cycles_its_call_and_its_life() -> None:
    plain, residual = cost_of(network()), cost_of(network(residual=True))
    assert residual.cycles - plain.cycles == 30 + 11
    assert residual.ram_bytes - plain.ram_bytes == 20  # both summands and the sum
    assert residual.flash_bytes - plain.flash_bytes == 16 + 20


def test_a_window_twice_as_long_halves_the_average_power_only() -> None:
    graph = network()
    slow = predict(graph, memory.plan(graph), PROFILE, TABLE, 2 * WINDOW_S)
    assert slow == replace(cost_of(graph), average_power_uw=cost_of(graph).average_power_uw / 2)


def test_a_shape_without_a_row_is_no_guess() -> None:
    poor = LookupTable(TABLE.provenance, tuple(row for row in ROWS if row.key != DEPTHWISE), EXTRA)
    with pytest.raises(MissingEntryError, match=r"depthwise_conv1d 4->4 kernel 3 stride 1 at length 5"):
        predict(network(), memory.plan(network()), PROFILE, poor, WINDOW_S)


def test_emulated_figures_share_the_formulas() -> None:
    cost, graph = cost_of(network()), network()
    again = assemble(graph, PROFILE, WINDOW_S, cost.cycles, cost.ram_bytes, cost.flash_bytes, "emulated")
    assert again == replace(cost, provenance="emulated")
    assert set(cost.as_dict()) >= {*BUDGET_FIELDS, "cycles", "parameters", "macs", "provenance"}


def exact(cost: Cost) -> Budget:
    return Budget(**{name: getattr(cost, name) for name in BUDGET_FIELDS})


def test_a_budget_met_exactly_is_met() -> None:
    cost = cost_of(network())
    assert violations(cost, exact(cost)) == {}


@pytest.mark.parametrize("name", BUDGET_FIELDS)
def test_a_broken_limit_is_named_with_need_and_allowance(name: str) -> None:
    cost = cost_of(network())
    need = getattr(cost, name)
    assert violations(cost, exact(cost).override(**{name: need * 0.99})) == {name: (need, need * 0.99)}


def test_several_broken_limits_are_all_named() -> None:
    cost = cost_of(network())
    assert set(violations(cost, Budget(1, 1, 0.1, 1e-6, 1e-6))) == set(BUDGET_FIELDS)


@pytest.mark.parametrize("key", [row.key for row in ROWS] + [OpKey("pointwise", 1, 1, 4, 8), OpKey("conv1d", 1, 2, 4, 8)], ids=str)
def test_a_key_describes_a_node_that_has_that_key(key: OpKey) -> None:
    length = 1 if key.operator == "dense" else 9
    node, source = node_of(key, length)
    assert (op_key(node.op, source, node.shape), source.length) == (key, length)
