"""Random integers for the constants of a graph: what kernels are checked, profiled and timed with. numpy; no torch, no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.graph import (
    GATES,
    Add,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    Lstm,
    Node,
    Shape,
)
from hwnas.quantize.qgraph import KEEPS_QUANTISATION, QMIN, Quant, QuantGraph, QuantLstm, QuantWeights


def arbitrary(graph: Graph, rng: np.random.Generator) -> QuantGraph:
    """Random constants whose outputs spread over int8 and saturate at both ends; zero points anywhere, the ends included."""
    constants: dict[int, QuantWeights] = {}
    lstms: dict[int, QuantLstm] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        op, source = node.op, graph.in_shape(node)
        shape = weight_shape(node, source)
        if isinstance(op, Add | Concat):
            multipliers[index] = (int(rng.integers(1, 1 << 21)), int(rng.integers(1, 1 << 21)))
        elif isinstance(op, GlobalAvgPool):
            multipliers[index] = (min((1 << 31) - 1, int(rng.integers(1 << 31, 1 << 36)) // source.length),)
        elif shape:
            outputs = (op.units, GATES) if isinstance(op, Lstm) else (node.shape.channels,)
            taps = shape[0] if isinstance(op, DepthwiseConv1d) else int(np.prod(shape)) // int(np.prod(outputs))
            weights = rng.integers(-127, 128, shape).astype(np.int8)
            bias = rng.integers(-(1 << 14), 1 << 14, outputs).astype(np.int32)
            deviation = 74.0 * 74.0 * np.sqrt(taps)  # of the accumulators of inputs and weights like these
            if isinstance(op, Lstm):
                # Gates deviate by up to 8 from zero, hidden states span up to 350 steps.
                multiplier = rng.integers(1, min(int(2.0**41 / deviation), 2**31), outputs).astype(np.int32)
                lstms[index] = QuantLstm(weights, bias, multiplier, int(rng.integers(2**22, 350 << 17)))
            else:
                multiplier = rng.integers(1, int(2.0**32 * 0.9 * 74 / deviation), outputs).astype(np.int32)
                constants[index] = QuantWeights(weights, bias, np.ones(outputs), multiplier)
    points = rng.choice([-128, 127, 0, *rng.integers(-128, 128, 3)], len(graph.nodes))
    return QuantGraph(graph, quants_of(graph, points.tolist(), 0.05), constants, multipliers, labels_of(graph), lstms)


def weight_shape(node: Node, source: Shape) -> tuple[int, ...]:
    """Shape of the weights of a node that reads `source`, empty for a node without any."""
    op = node.op
    if isinstance(op, Conv1d):
        return op.out_channels, op.kernel, source.channels
    if isinstance(op, DepthwiseConv1d):
        return op.kernel, source.channels
    if isinstance(op, Lstm):
        return op.units, GATES, source.channels + op.units
    return (op.units, source.channels) if isinstance(op, Dense) else ()


def quants_of(graph: Graph, points: Sequence[int], scale: float) -> tuple[Quant, ...]:
    """A quantisation a node with those zero points, but where the format prescribes one: after a ReLU, and where values only move."""
    quants: list[Quant] = []
    for node, point in zip(graph, points, strict=True):
        if isinstance(node.op, KEEPS_QUANTISATION):
            quants.append(quants[node.inputs[0]])
        else:
            quants.append(Quant(scale, QMIN if getattr(node.op, "relu", False) else int(point)))
    return tuple(quants)


def labels_of(graph: Graph) -> tuple[str, ...]:
    """A name an output."""
    return tuple(f"class{i}" for i in range(graph.output_shape.elements))
