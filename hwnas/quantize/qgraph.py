"""`QuantGraph`: a student in integers only, and the one requantisation rule. numpy; no torch, no files.

Activations are int8, asymmetric, one scale and zero point a tensor. Weights are int8 in [-127, 127], symmetric, one scale an
output channel. Biases are int32 with scale `input scale * weight scale`. Real value = scale * (q - zero_point).

Requantisation rounds once. For convolutions, dense layers and the global mean:

    out = saturate8(zero_point + floor((acc * multiplier + 2**31) / 2**32))         (halves round up)

with `multiplier = round(S * 2**32)` and `S = s_in * s_w / s_out` (mean: `S = s_in / (s_out * length)`). `quantize` chooses
output scales such that S < 0.5, so `multiplier` is a positive int32, no pre-shift is needed, and the product fits 63 bits; on
Cortex-M4 it is one SMMLAR (which adds 2**31 and keeps the upper word) and one SSAT. The output of a ReLU has zero point -128, so
saturation is the ReLU. The sum of two tensors and, with one term, each part of a concatenation use

    out = saturate8(zero_point + ((a - zp_a) * m_a + (b - zp_b) * m_b + 2**19 >> 20)),    m = round(s / s_out * 2**20)

with output scales such that both ratios are below 2, so |sum| <= 2 * 255 * 2**21 < 2**31. Pooling windows keep their input's
quantisation; a mean is `saturate8(sum(q) * round(2**20 / kernel) + 2**19 >> 20)`. So do `Split`, `Join`
and `Transpose`, which only move values.

LSTM (gates i, f, g, o in this order; the formats of TFLite's integer LSTM: gates Q3.12, activations Q0.15, cell state Q4.11):

    acc[u, k] = bias + sum(w_x * (x[t] - zp_x)) + sum(w_h * (h[t-1] - zp_h))                           |acc| < 2**25
    p[u, k]   = saturate16(floor((acc * 2**6 * multiplier + 2**31) / 2**32)),      multiplier = round(S * 2**26), S = s_acc * 2**12
    i, f, o = sigmoid(p), g = tanh(p)                                             (`hwnas.quantize.activation`: one table each)
    c[t] = saturate16((f * c[t-1] + 2**14 >> 15) + (i * g + 2**18 >> 19))
    h[t] = saturate8(zp_h + floor((((o * tanh(saturate16(2 * c[t]))) >> 15) * hidden_multiplier + 2**31) / 2**32))

with `hidden_multiplier = round(2**17 / s_h)`; c[-1] = 0 and h[-1] = zp_h. The pre-shift of 6 bits lets S reach 32 and cannot
overflow because |acc| < 2**25. Both weight matrices of a gate share one accumulator, so `s_acc = s_x * s_wx = s_h * s_wh`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import QuantizationError
from hwnas.graph import GATES, OP_NAMES, AvgPool1d, Conv1d, DepthwiseConv1d, Graph, Join, Lstm, MaxPool1d, Op, Split, Transpose

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Doubles = NDArray[np.float64]

SHIFT_BITS = 32
ADD_SHIFT_BITS = 20
LSTM_SHIFT_BITS = 6  # of the accumulator, before its multiplier
LSTM_ACC_MAX = (1 << 25) - 1
GATE_BITS, CELL_BITS = 12, 11  # behind the point: gates are Q3.12, cells Q4.11
GATE_SCALE_BITS = GATE_BITS + SHIFT_BITS - LSTM_SHIFT_BITS  # a gate's multiplier is what its accumulator's step is worth, times 2**38
BIAS_MAX = 2**30  # of convolutions and dense layers; the other half of int32 is left to their sums
QMIN, QMAX = -128, 127
WEIGHT_MAX = 127
KEEPS_QUANTISATION: tuple[type[Op], ...] = (AvgPool1d, MaxPool1d, Split, Join, Transpose)  # what writes values of its input, or their mean


@dataclass(frozen=True)
class Quant:
    """Affine quantisation of one activation tensor: real = scale * (q - zero_point)."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantWeights:
    """Integer constants of one convolution or dense node.

    Attributes:
        weights: int8. Conv1d (out, kernel, in); DepthwiseConv1d (kernel, channels); Dense (units, in).
        bias: int32 (out,), in units of `input scale * weight_scale`; the input zero point is *not* folded in.
        weight_scale: float64 (out,), one scale an output channel.
        multiplier: int32 (out,), `round(input scale * weight_scale / output scale * 2**32)`, in (0, 2**31).
    """

    weights: Int8
    bias: Int32
    weight_scale: Doubles
    multiplier: Int32


@dataclass(frozen=True)
class QuantLstm:
    """Integer constants of one LSTM node; gates i, f, g, o.

    Attributes:
        weights: int8 (units, 4, channels + units): input weights, then recurrent ones.
        bias: int32 (units, 4); zero points are *not* folded in.
        multiplier: int32 (units, 4), `round(S * 2**26)`, in (0, 2**31).
        hidden_multiplier: `round(2**17 / s_h)`, in (0, 2**31).
    """

    weights: Int8
    bias: Int32
    multiplier: Int32
    hidden_multiplier: int


@dataclass(frozen=True)
class QuantGraph:
    """A `Graph` with the integers of every node.

    Attributes:
        graph: the student.
        quants: one `Quant` a node (of the tensor it writes); node 0 is the input quantisation.
        constants: node index -> constants, for Conv1d, DepthwiseConv1d and Dense nodes.
        multipliers: node index -> scalar multipliers: GlobalAvgPool (m,), Add and Concat (m_a, m_b).
        labels: names of the outputs, in order.
        lstms: node index -> constants, for Lstm nodes.

    Raises:
        QuantizationError: a ReLU whose zero point is not -128, one of `KEEPS_QUANTISATION` with a quantisation of its own, or an LSTM
            whose accumulators can leave their 25 bits.
    """

    graph: Graph
    quants: tuple[Quant, ...]
    constants: dict[int, QuantWeights]
    multipliers: dict[int, tuple[int, ...]]
    labels: tuple[str, ...] = field(default=())
    lstms: dict[int, QuantLstm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, node in enumerate(self.graph):
            point = self.quants[index].zero_point
            if getattr(node.op, "relu", False) and point != QMIN:
                raise QuantizationError(f"node {index}: the output of a ReLU has zero point {point}; it must be {QMIN}")
            if isinstance(node.op, KEEPS_QUANTISATION) and self.quants[index] != self.quants[node.inputs[0]]:
                raise QuantizationError(f"node {index} ({OP_NAMES[type(node.op)]}) must keep the quantisation of its input")
            if index in self.lstms:
                bound = gate_bound(self.lstms[index], self.quants[node.inputs[0]].zero_point, point)
                if bound > LSTM_ACC_MAX:
                    raise QuantizationError(
                        f"node {index} (lstm): accumulators may reach {bound}, at most {LSTM_ACC_MAX} fit their format; "
                        "quantise its weights more coarsely"
                    )

    @property
    def input(self) -> Quant:
        return self.quants[0]

    @property
    def output(self) -> Quant:
        return self.quants[-1]


def gate_bound(lstm: QuantLstm, in_point: int, hidden_point: int) -> int:
    """Largest |accumulator| that any input can bring about in any gate of any unit, between the zero points of input and hidden state."""
    channels = lstm.weights.shape[2] - lstm.weights.shape[0]
    points = np.repeat([in_point, hidden_point], [channels, len(lstm.weights)])
    weights = lstm.weights.astype(np.int64)
    ends = weights * (QMIN - points), weights * (QMAX - points)
    low, high = (lstm.bias + extreme(*ends).sum(2) for extreme in (np.minimum, np.maximum))
    return int(max(-low.min(), high.max()))


def gate_scales(lstm: QuantLstm) -> Doubles:
    """What one step of each accumulator is worth in its gate's argument, (units, 4): `multiplier = round(scale * 2**38)`."""
    return lstm.multiplier / 2.0**GATE_SCALE_BITS


def outputs_first(op: Op, weights: NDArray[Any]) -> NDArray[Any]:
    """Weights of a `QuantGraph` in the layout of torch and the formats that follow it.

    Conv1d (out, in, kernel); DepthwiseConv1d (channels, 1, kernel); Dense (units, in); Lstm (4 * units, channels + units), its rows gate
    by gate. Biases and multipliers of an LSTM, (units, 4), become (4 * units,).
    """
    if isinstance(op, Conv1d):
        return weights.transpose(0, 2, 1)
    if isinstance(op, DepthwiseConv1d):
        return weights.T[:, None]
    return weights.swapaxes(0, 1).reshape(GATES * op.units, *weights.shape[2:]) if isinstance(op, Lstm) else weights


def as_stored(op: Op, weights: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `outputs_first`, contiguous."""
    if isinstance(op, Conv1d):
        weights = weights.transpose(0, 2, 1)
    elif isinstance(op, DepthwiseConv1d):
        weights = weights[:, 0].T
    elif isinstance(op, Lstm):
        weights = weights.reshape(GATES, op.units, *weights.shape[1:]).swapaxes(0, 1)
    return np.ascontiguousarray(weights)


def real_weights(q: QuantGraph, index: int) -> tuple[Doubles, Doubles]:
    """The real numbers that the integers of node `index` stand for: weights, outputs first, and one bias a row of them."""
    node = q.graph.nodes[index]
    source_scale = q.quants[node.inputs[0]].scale
    if index in q.lstms:
        lstm = q.lstms[index]
        scale, bias = (outputs_first(node.op, values) for values in (gate_scales(lstm), lstm.bias))
        channels = q.graph.in_shape(node).channels
        columns = np.repeat([source_scale, q.quants[index].scale], [channels, len(lstm.weights)])
        return outputs_first(node.op, lstm.weights) * scale[:, None] / columns, bias * scale
    constants = q.constants[index]
    integers, scale = outputs_first(node.op, constants.weights), constants.weight_scale
    return integers * scale.reshape(-1, *[1] * (integers.ndim - 1)), constants.bias * source_scale * scale


def requantize(acc: NDArray[np.int64], multiplier: NDArray[np.int64], zero_point: int) -> Int8:
    """The single-rounding rule of this module's head on int64 accumulators, channels last: the oracle of `reference` and of the C."""
    scaled = (acc * multiplier + (1 << (SHIFT_BITS - 1))) >> SHIFT_BITS
    out: Int8 = np.clip(scaled + zero_point, QMIN, QMAX).astype(np.int8)
    return out
