"""Layouts of weights: the fastest that fit, nothing that saves nothing, and close to the best that there is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tables import OVERHEADS, PROVENANCE, made_table
from random_networks import random_network

from hwnas.errors import MissingEntryError
from hwnas.graph import Conv1d, Dense, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import predict
from hwnas.hardware.deployment import Deployment, deploy, uniform
from hwnas.hardware.ops import Layout, op_key
from hwnas.hardware.profile import FlashWait, Profile
from hwnas.hardware.table import LookupTable, new_table
from hwnas.hardware.weights import layouts
from hwnas.memory import plan

STILL, WAITS = profiles.read("cortex-m4-192k"), profiles.read("stm32l4r5")


def table_of(graph: Graph) -> LookupTable:
    shapes = {
        (op_key(n.op, graph.in_shape(n), n.shape, w), graph.in_shape(n).length)
        for n in graph.nodes[1:]
        for w in layouts(n.op, graph.in_shape(n))
    }
    return made_table(shapes)


def cost(graph: Graph, deployment: Deployment, profile: Profile) -> tuple[int, int]:
    """(cycles, flash bytes)."""
    found = predict(graph, deployment, profile, table_of(graph), 10.0)
    return found.cycles, found.flash_bytes


def convolutions(*channels: int, length: int = 50) -> Graph:
    """A chain of kernel-3 convolutions, a pool and a head."""
    builder = GraphBuilder()
    x = builder.add(Input(8, length))
    for wide in channels:
        x = builder.add(Conv1d(wide, 3), x)
    builder.add(Dense(4), builder.add(GlobalAvgPool(), x))
    return builder.build()


def test_with_room_every_layout_that_saves_is_taken() -> None:
    graph = convolutions(16, 32)
    assert (
        deploy(graph, STILL, table_of(graph), 10**6).weights
        == uniform(graph, "int16").weights
        == (*("none", "int16", "int16", "none", "int16"),)
    )


def test_without_room_the_smallest_stay() -> None:
    graph = convolutions(16, 32)
    # The head is small: its int16 kernel, shorter than the int8 one, outweighs what its weights grow by.
    least = Deployment(plan(graph), ("none", "int8", "int8", "none", "int16"))
    assert cost(graph, least, STILL)[1] < cost(graph, uniform(graph), STILL)[1]
    for limit in (0, 1, cost(graph, least, STILL)[1]):
        assert deploy(graph, STILL, table_of(graph), limit) == least


def test_a_dense_layer_that_streams_its_weights_stays_narrow_where_flash_waits() -> None:
    graph = convolutions(16, 64)
    table = table_of(graph)
    # Its weights are read once an output: an int16 byte more costs more waiting than the multiplications save.
    assert deploy(graph, STILL, table, 10**6).weights[-1] == "int16"
    assert deploy(graph, WAITS, table, 10**6).weights[-1] == "int8"


def test_nothing_that_saves_no_cycles_is_taken_even_where_it_is_smaller() -> None:
    graph = convolutions(16)
    slow = Profile.model_validate(STILL.model_dump() | {"flash_wait": FlashWait(cycles_per_byte=50.0, cycles_per_line=0.0, source="-")})
    assert deploy(graph, slow, table_of(graph), 10**6) == uniform(graph)


def test_the_arena_is_planned_as_ever() -> None:
    graph = convolutions(16, 32)
    assert deploy(graph, STILL, table_of(graph), 10**6).plan == plan(graph)


@given(st.integers(0, 2**32 - 1))
def test_never_over_the_limit_never_slower_and_nothing_left_to_gain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_network(rng, longest=100)
    profile = (STILL, WAITS)[seed % 2]
    start, largest = cost(graph, uniform(graph), profile), cost(graph, uniform(graph, "int16"), profile)
    limit = int(rng.integers(start[1], max(largest[1], start[1] + 1) + 1))
    table = table_of(graph)
    found = deploy(graph, profile, table, limit)
    cycles, flash = cost(graph, found, profile)
    assert flash <= limit
    assert cycles <= start[0]
    assert found == deploy(graph, profile, table, limit)
    for index, node in enumerate(graph.nodes[1:], 1):
        for other in layouts(node.op, graph.in_shape(node)):
            changed = Deployment(found.plan, (*found.weights[:index], other, *found.weights[index + 1 :]))
            more = cost(graph, changed, profile)
            # One more change within the limit would save no more than rounding.
            assert more[1] > limit or more[0] >= cycles - 1


@pytest.mark.parametrize("seed", range(25))
def test_close_to_the_best_of_all_layouts(seed: int) -> None:
    """Against every combination: taking the best change first is no optimum, but gains most of what layouts can."""
    rng = np.random.default_rng(seed)
    graph = convolutions(*(4 * int(c) for c in rng.integers(1, 13, 5)), length=int(rng.integers(20, 200)))
    profile = (STILL, WAITS)[seed % 2]
    table = table_of(graph)
    options = [("none",), *(layouts(n.op, graph.in_shape(n)) for n in graph.nodes[1:])]
    everything = [predict(graph, Deployment(plan(graph), w), profile, table, 1.0) for w in itertools.product(*options)]
    start = cost(graph, uniform(graph), profile)
    gained = []
    for share in (0.25, 0.5, 0.75, 1.0):
        limit = start[1] + share * (max(c.flash_bytes for c in everything) - start[1])
        best = min(c.cycles for c in everything if c.flash_bytes <= limit)
        reached = cost(graph, deploy(graph, profile, table, limit), profile)[0]
        gained.append((start[0] - reached) / (start[0] - best))
    assert sum(gained) / len(gained) >= 0.8 and gained[-1] == 1


WEIGHTS: dict[str, tuple[Layout, ...]] = {
    "none": ("none", "int8", "int8", "none", "int8"),
    "first": ("none", "int16", "int8", "none", "int8"),
    "all": ("none", "int16", "int16", "none", "int8"),
}


def test_code_that_comes_and_goes_is_counted() -> None:
    """Two equal convolutions: one int16 kernel more, and the int8 one less when the last user leaves."""
    graph = convolutions(16, 16)
    weights = {name: cost(graph, Deployment(plan(graph), w), STILL)[1] for name, w in WEIGHTS.items()}
    both = 700 + 520  # kernels in use while the layers differ
    assert weights["first"] - weights["none"] == 16 * 2 * 12 + 520
    assert weights["all"] - weights["none"] == 16 * 12 * 2 + 16 * 12 * 4 + 520 - 700 < both
    # Between the two, the way to "all" leads over more flash than "all" itself needs; it is found all the same.
    assert deploy(graph, STILL, without_head(graph), weights["all"]).weights == WEIGHTS["all"]


def without_head(graph: Graph) -> LookupTable:
    """The table of `graph`, but an int16 head is as slow as an int8 one: it never changes."""
    rows = table_of(graph).rows
    cycles = next(row.cycles for row in rows if row.key.operator == "dense" and row.key.weights == "int8")
    return new_table(PROVENANCE, OVERHEADS, [replace(row, cycles=cycles) if row.key.operator == "dense" else row for row in rows])


def test_a_missing_row_is_an_error() -> None:
    graph = convolutions(16)
    full = table_of(graph)
    with pytest.raises(MissingEntryError):
        deploy(graph, STILL, new_table(PROVENANCE, OVERHEADS, full.rows[1:]), 10**6)
