"""Integers of any graph whose scales and multipliers say the same, as those of a quantised student do, without a training. No files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwnas.graph import Add, Concat, GlobalAvgPool, Graph, Lstm
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import ADD_SHIFT_BITS, KEEPS_QUANTISATION, QMIN, SHIFT_BITS, Quant, QuantGraph, QuantLstm

HIDDEN_SHIFT_BITS = 17


def made_integers(graph: Graph, seed: int, *, points: tuple[int, ...] = (-128, -90, -3, 0, 40, 127)) -> QuantGraph:
    """Outputs spread over int8; zero points are drawn from `points`, and scales lie within a factor of 20 of each other."""
    rng = np.random.default_rng(seed)
    q = arbitrary(graph, rng)
    quants: list[Quant] = []
    constants, lstms, multipliers = {}, {}, {}
    for index, node in enumerate(graph.nodes):
        scale, point = float(np.float32(np.exp(rng.uniform(-5, -2)))), int(rng.choice(points))
        sources = [quants[i] for i in node.inputs]
        if isinstance(node.op, KEEPS_QUANTISATION):
            scale, point = sources[0].scale, sources[0].zero_point
        elif isinstance(node.op, Add | Concat):
            scale = float(np.float32(max(s.scale for s in sources) * rng.uniform(0.51, 2)))
            multipliers[index] = tuple(round(s.scale / scale * 2**ADD_SHIFT_BITS) for s in sources)
        elif isinstance(node.op, GlobalAvgPool):
            step = sources[0].scale / graph.in_shape(node).length
            scale = float(np.float32(max(sources[0].scale * rng.uniform(0.1, 1), step / 0.499)))
            multipliers[index] = (round(step / scale * 2**SHIFT_BITS),)
        elif isinstance(node.op, Lstm):
            scale, point = float(np.float32(rng.uniform(1.5, 2) / 128)), int(rng.choice([-40, 0, 40]))  # holds -1 and 1
            lstms[index] = _one_scale_a_gate(q.lstms[index], scale)
        elif index:
            ratio = q.constants[index].multiplier / 2.0**SHIFT_BITS
            weight_scale = (ratio * scale / sources[0].scale).astype(np.float32).astype(np.float64)
            multiplier = np.rint(sources[0].scale * weight_scale / scale * 2.0**SHIFT_BITS).clip(1, 2**31 - 1).astype(np.int32)
            constants[index] = replace(q.constants[index], weight_scale=weight_scale, multiplier=multiplier)
        quants.append(Quant(scale, QMIN if getattr(node.op, "relu", False) else point))
    return QuantGraph(graph, tuple(quants), constants, multipliers, q.labels, lstms)


def _one_scale_a_gate(lstm: QuantLstm, hidden_scale: float) -> QuantLstm:
    """Gates that deviate by about 2: with larger ones the states are chaotic, and a rounding decides what they become."""
    multiplier = np.broadcast_to(np.median(lstm.multiplier, axis=0).astype(np.int32) // 3, lstm.multiplier.shape).copy()
    return replace(lstm, multiplier=multiplier, hidden_multiplier=round(2**HIDDEN_SHIFT_BITS / hidden_scale))
