"""Flash of a student's constants equals the bytes that the export packs, for any network in any layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_modalities, random_network, random_operator

from hwnas import families, space
from hwnas.export.packing import pack_node
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, Graph, GraphBuilder, Input, Join, Lstm, MaxPool1d, Op, Shape, Split
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import Layout
from hwnas.hardware.weights import constants_bytes, flash_bytes, layer_bytes, layouts, packed_bytes, params_bytes
from hwnas.quantize.arbitrary import arbitrary


def check(graph: Graph, rng: np.random.Generator) -> None:
    """Each node's bytes in every layout, and the sum over a random one."""
    q, total = arbitrary(graph, rng), 0
    chosen: list[Layout] = ["none"]
    for index, node in enumerate(graph.nodes[1:], start=1):
        source = graph.in_shape(node)
        for weights in layouts(node.op, source):
            made = pack_node(q, index, weights)
            words = len(made.params) + (1 if made.packed.size else 0)
            assert packed_bytes(node.op, source, weights) == made.packed.nbytes, node
            assert params_bytes(node.op) == 4 * words, node
        chosen.append(layouts(node.op, source)[int(rng.integers(len(layouts(node.op, source))))])
        total += constants_bytes(node, source, chosen[-1])
    assert flash_bytes(graph, chosen) == total


@given(st.integers(0, 2**32 - 1), st.sampled_from([random_network, random_modalities, random_operator]))
def test_random_graphs(seed: int, make: Callable[[np.random.Generator], Graph]) -> None:
    rng = np.random.default_rng(seed)
    check(make(rng), rng)


def test_modalities_share_constants_and_take_a_row_of_the_layer_table_each() -> None:
    flash = []
    for split in (False, True):
        builder = GraphBuilder()
        x = builder.add(Input(1 if not split else 5, 20))
        x = builder.add(Split(), x) if split else x
        x = builder.add(MaxPool1d(2, 2), builder.add(DepthwiseConv1d(3), builder.add(Conv1d(8, 5), x)))
        x = builder.add(Add(), x, x)
        x = builder.add(Join(), x) if split else x
        graph = builder.build()
        flash.append(flash_bytes(graph, uniform(graph).weights))
    # Three operators have four rows more; Split and Join have a row and five parameters each.
    assert flash[1] - flash[0] == 3 * 4 * layer_bytes() + 2 * (layer_bytes() + 20)


def test_students_of_the_shipped_space() -> None:
    rng, found = np.random.default_rng(0), space.read("mobilenet1d")
    for _ in range(10):
        drawn = {name: values[rng.integers(len(values))] for name, values in found.choices.items()}
        check(families.build(found.candidate(drawn), Shape(1, 1000), 6), rng)


@pytest.mark.parametrize(
    ("op", "channels", "narrow", "wide"),
    [
        (Conv1d(4, 3, 2), 1, None, 4 * (8 + 8)),  # a short window: 3 taps of 16 bits are stored as 4
        (Conv1d(5, 3), 3, 2 * (32 + 4 * 12), 2 * (32 + 8 * 12)),  # 5 outputs take two blocks, 9 taps are stored as 12
        (Conv1d(8), 12, 2 * (32 + 4 * 12), 2 * (32 + 8 * 12)),
        (DepthwiseConv1d(5), 6, None, 6 * (8 + 12)),
        (Dense(6), 10, 2 * (32 + 4 * 12), 2 * (32 + 8 * 12)),
        (Lstm(6), 5, 6 * (32 + 4 * (8 + 8)), 6 * (32 + 8 * (8 + 8))),
    ],
)
def test_closed_forms(op: Op, channels: int, narrow: int | None, wide: int) -> None:
    source = Shape(channels, 1)
    assert layouts(op, source) == (("int16",) if narrow is None else ("int8", "int16"))
    if narrow is not None:
        assert packed_bytes(op, source, "int8") == narrow
    assert packed_bytes(op, source, "int16") == wide


@pytest.mark.parametrize(("pointer", "dense", "layer", "constants"), [(4, 16, 20, 32 + 16 + 16 + 20), (8, 24, 32, 48 + 32 + 32)])
def test_structures_grow_with_the_pointer_and_keep_its_alignment(pointer: int, dense: int, layer: int, constants: int) -> None:
    assert params_bytes(Dense(4), pointer) == dense
    assert layer_bytes(pointer) == layer
    builder = GraphBuilder()
    builder.add(Dense(4), builder.add(Input(4, 1)))
    assert flash_bytes(builder.build(), ("none", "int8"), pointer) == constants
