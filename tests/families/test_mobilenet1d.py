"""MobileNet-1D: closed forms of one candidate, the parameter range of the space, and the operators it can reach."""

from __future__ import annotations

import numpy as np

from hwnas import families, space
from hwnas.graph import Add, DepthwiseConv1d, Shape
from hwnas.hardware.ops import op_key

SPACE = space.read("mobilenet1d")


def parameters(**changes: int) -> dict[str, int]:
    return {name: values[0] for name, values in SPACE.choices.items()} | changes


def test_closed_form_of_one_candidate() -> None:
    chosen = parameters(stem_channels=16, blocks=2, block1_channels=16, block1_expansion=2, block2_channels=8, block2_stride=2)
    graph = families.build(SPACE.candidate(chosen), Shape(1, 1000), 6)
    stem = 16 * 7 + 16
    inverted = (16 * 32 + 32) + (32 * 3 + 32) + (32 * 16 + 16)
    separable = (16 * 3 + 16) + (16 * 8 + 8)
    assert graph.parameters == stem + inverted + separable + 8 * 6 + 6
    assert graph.macs == 250 * (16 * 7 + 16 * 32 + 32 * 3 + 32 * 16) + 125 * (16 * 3 + 16 * 8) + 8 * 6
    assert [type(n.op) for n in graph].count(Add) == 1
    assert graph.output_shape == Shape(6, 1)


def test_parameters_span_the_declared_range() -> None:
    smallest = families.build(SPACE.candidate(parameters()), Shape(1, 1000), 6)
    largest = families.build(SPACE.candidate({n: max(v) for n, v in SPACE.choices.items()}), Shape(1, 1000), 6)
    assert smallest.parameters <= 1_000
    assert largest.parameters >= 300_000


def test_reach_covers_every_operator_of_random_candidates() -> None:
    window = Shape(1, 1000)
    reached = {(op_key(n.op, source, n.shape, "none"), source.length) for n, source in families.reach(SPACE, window, 6)}
    generator = np.random.default_rng(0)
    for _ in range(500):
        drawn = {name: values[generator.integers(len(values))] for name, values in SPACE.choices.items()}
        graph = families.build(SPACE.candidate(drawn), window, 6)
        for node in graph.nodes[1:]:
            source = graph.in_shape(node)
            assert (op_key(node.op, source, node.shape, "none"), source.length) in reached


def test_very_short_windows_still_give_a_network() -> None:
    chosen = {n: max(v) for n, v in SPACE.choices.items()}
    graph = families.build(SPACE.candidate(chosen), Shape(1, 5), 2)
    assert graph.output_shape == Shape(2, 1)
    assert any(isinstance(n.op, DepthwiseConv1d) for n in graph)
