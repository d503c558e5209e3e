"""Flash of a student's constants equals the bytes that the export packs, for any network."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_students import random_graph, random_integers

from hwnas import families, space
from hwnas.export.packing import pack_node
from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, Graph, GraphBuilder, Input, Shape
from hwnas.hardware.weights import flash_bytes, packed_bytes, params_bytes

POINTER, LAYER = 4, struct.calcsize("<5I")


def check(graph: Graph, rng: np.random.Generator) -> None:
    """Each node's bytes, and their sum with one row of the layer table a node."""
    q, total = random_integers(graph, rng), 0
    for index, node in enumerate(graph.nodes[1:], start=1):
        made = pack_node(q, index)
        words = len(made.params) + (1 if made.packed.size else 0)
        assert packed_bytes(node, graph.in_shape(node)) == made.packed.nbytes, node
        assert params_bytes(node) == POINTER * words, node
        total += made.packed.nbytes + POINTER * words + LAYER
    assert flash_bytes(graph) == total


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_random_students(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    check(random_graph(rng, channels=channels), rng)


def test_students_of_the_shipped_space() -> None:
    rng, found = np.random.default_rng(0), space.read("mobilenet1d")
    for _ in range(10):
        drawn = {name: values[rng.integers(len(values))] for name, values in found.choices.items()}
        check(families.build(found.candidate(drawn), Shape(1, 1000), 6), rng)


@pytest.mark.parametrize(
    ("op", "channels", "expected"),
    [
        (Conv1d(4, 3), 1, 32 + 4 * 4),  # 3 taps are stored as 4
        (Conv1d(5, 3), 3, 2 * (32 + 4 * 12)),  # 5 outputs take two blocks, 9 taps are stored as 12
        (Conv1d(8), 8, 2 * (32 + 4 * 8)),
        (DepthwiseConv1d(5), 6, 2 * (32 + 8 * 5)),  # taps are 16 bits wide
        (Dense(6), 10, 2 * (32 + 4 * 12)),
    ],
)
def test_closed_forms(op: Conv1d | DepthwiseConv1d | Dense, channels: int, expected: int) -> None:
    builder = GraphBuilder()
    builder.add(op, builder.add(Input(channels, 1)))
    graph = builder.build()
    assert packed_bytes(graph.nodes[1], graph.input_shape) == expected
    assert flash_bytes(graph) == expected + 44 + 20
