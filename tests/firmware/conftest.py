"""Random integer networks, and one profiler for all firmware tests (it compiles once)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hwnas.firmware.profiler import Profiler
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, node_biases
from hwnas.quantize.qgraph import Quant, QuantGraph, QuantWeights


@pytest.fixture(scope="session")
def profiler() -> Profiler:
    return Profiler()


def _quantized(graph: Graph, rng: np.random.Generator) -> QuantGraph:
    """Random constants whose outputs spread over int8 and saturate at both ends; zero points anywhere, the ends included."""
    points = rng.choice([-128, 127, 0, *rng.integers(-128, 128, 3)], len(graph.nodes))
    constants: dict[int, QuantWeights] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        op, source = node.op, graph.in_shape(node)
        if isinstance(op, Add):
            multipliers[index] = (int(rng.integers(1, 1 << 21)), int(rng.integers(1, 1 << 21)))
        elif isinstance(op, GlobalAvgPool):
            multipliers[index] = (min((1 << 31) - 1, int(rng.integers(1 << 31, 1 << 36)) // source.length),)
        else:
            units, taps = node_biases(node), op.kernel if isinstance(op, DepthwiseConv1d) else source.channels
            shape: tuple[int, ...] = (op.kernel, units) if isinstance(op, DepthwiseConv1d) else (units, source.channels)
            if isinstance(op, Conv1d):
                taps, shape = taps * op.kernel, (units, op.kernel, source.channels)
            weights = rng.integers(-127, 128, shape).astype(np.int8)
            bias = rng.integers(-(1 << 14), 1 << 14, units).astype(np.int32)
            largest = int(2.0**32 * 0.9 / (74.0 * np.sqrt(taps)))
            multiplier = rng.integers(1, largest, units).astype(np.int32)
            constants[index] = QuantWeights(weights, bias, np.ones(units), multiplier)
    assert all(isinstance(n.op, Add | GlobalAvgPool | Conv1d | Dense | DepthwiseConv1d) for n in graph.nodes[1:])
    return QuantGraph(graph, tuple(Quant(0.05, int(p)) for p in points), constants, multipliers, ("a", "b"))


@pytest.fixture(scope="session")
def quantized() -> Callable[[Graph, np.random.Generator], QuantGraph]:
    return _quantized
