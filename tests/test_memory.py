"""The arena plan: nothing alive is overwritten, and the arena is no larger than needed where the optimum is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwnas import families, memory, space
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Shape

SPACE = space.read("mobilenet1d")


def random_graph(seed: int, length: int) -> Graph:
    generator = np.random.default_rng(seed)
    parameters = {name: values[generator.integers(len(values))] for name, values in SPACE.choices.items()}
    return families.build(SPACE.candidate(parameters), Shape(1, length), 6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3001))
def test_no_node_writes_over_bytes_that_are_read_later(seed: int, length: int) -> None:
    graph = random_graph(seed, length)
    plan = memory.plan(graph)
    owner = np.full(plan.arena_bytes, -1)
    for index, node in enumerate(graph.nodes):
        need = memory.scratch_bytes(node, graph.in_shape(node)) if index else 0
        assert (plan.scratch[index] == memory.ABSENT) == (need == 0)
        if need:
            assert plan.scratch[index] % memory.ALIGNMENT_BYTES == 0
            owner[plan.scratch[index] : plan.scratch[index] + need] = -2 - index
        if plan.offsets[index] != memory.ABSENT:
            assert plan.offsets[index] % memory.ALIGNMENT_BYTES == 0
            owner[plan.offsets[index] :][: node.shape.elements] = index
        for source in node.inputs:
            if plan.offsets[source] != memory.ABSENT:
                held = owner[plan.offsets[source] :][: graph.nodes[source].shape.elements]
                assert len(held) == graph.nodes[source].shape.elements
                assert (held == source).all(), f"node {index} reads tensor {source}, which is overwritten"
        if need:
            assert (owner[plan.scratch[index] : plan.scratch[index] + need] == -2 - index).all()


@given(st.integers(0, 2**32 - 1))
def test_arena_is_at_least_the_largest_pair_and_at_most_the_sum(seed: int) -> None:
    graph = random_graph(seed, 1000)
    sizes = [memory.align(n.shape.elements) for n in graph.nodes]
    inner = range(1, len(graph.nodes) - 1)
    lower = max(sizes[i] + sum(sizes[s] for s in set(graph.nodes[i].inputs) if s) for i in inner)
    scratch = [memory.scratch_bytes(n, graph.in_shape(n)) for n in graph.nodes[1:]]
    assert lower <= memory.plan(graph).arena_bytes <= sum(sizes) + sum(scratch)


def test_closed_form_of_a_residual_block() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(8), builder.add(Input(1, 100)))
    y = builder.add(Conv1d(8, relu=False), builder.add(DepthwiseConv1d(3), x))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Add(), x, y)))
    plan = memory.plan(builder.build())
    # The block's input stays alive across the block: at the peak three tensors of 800 bytes and the scratch of 8 channels.
    assert plan.arena_bytes == 3 * 800 + 4 * 8
    assert plan.offsets[0] == plan.offsets[-1] == memory.ABSENT
