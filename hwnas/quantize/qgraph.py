"""`QuantGraph`: a student in integers only, and the one requantisation rule. numpy; no torch, no files.

Activations are int8, asymmetric, one scale and zero point a tensor. Weights are int8 in [-127, 127], symmetric, one scale an
output channel. Biases are int32 with scale `input scale * weight scale`. Real value = scale * (q - zero_point).

Requantisation rounds once. For convolutions, dense layers and the global mean:

    out = clamp(zero_point + floor((acc * multiplier + 2**31) / 2**32), low, high)         (halves round up)

with `multiplier = round(S * 2**32)` and `S = s_in * s_w / s_out` (mean: `S = s_in / (s_out * length)`). `quantize` chooses
output scales such that S < 0.5, so `multiplier` is a positive int32, no pre-shift is needed, and the product fits 63 bits; on
Cortex-M4 it is one SMMLAR (which adds 2**31 and keeps the upper word) and one SSAT. The sum of two tensors uses

    out = clamp(zero_point + ((a - zp_a) * m_a + (b - zp_b) * m_b + 2**19 >> 20), -128, 127),    m = round(s / s_out * 2**20)

with output scales such that both ratios are below 2, so |sum| <= 2 * 255 * 2**21 < 2**31.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwnas.graph import Graph

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]

SHIFT_BITS = 32
ADD_SHIFT_BITS = 20
QMIN, QMAX = -128, 127
WEIGHT_MAX = 127


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
    weight_scale: NDArray[np.float64]
    multiplier: Int32


@dataclass(frozen=True)
class QuantGraph:
    """A `Graph` with the integers of every node.

    Attributes:
        graph: the student.
        quants: one `Quant` a node (of the tensor it writes); node 0 is the input quantisation.
        constants: node index -> constants, for Conv1d, DepthwiseConv1d and Dense nodes.
        multipliers: node index -> scalar multipliers: GlobalAvgPool (m,), Add (m_a, m_b).
        labels: names of the outputs, in order.
        activation: ReLU nodes clamp their output to [zero_point, 127] (`low` of the rule), others to [-128, 127].
    """

    graph: Graph
    quants: tuple[Quant, ...]
    constants: dict[int, QuantWeights]
    multipliers: dict[int, tuple[int, ...]]
    labels: tuple[str, ...] = field(default=())

    @property
    def input(self) -> Quant:
        return self.quants[0]

    @property
    def output(self) -> Quant:
        return self.quants[-1]

    def clamp_low(self, index: int) -> int:
        """Lower clamp of node `index`: its zero point after a ReLU, -128 otherwise."""
        return self.quants[index].zero_point if getattr(self.graph.nodes[index].op, "relu", False) else QMIN


def requantize(acc: NDArray[np.int64], multiplier: NDArray[np.int64], zero_point: int, low: int) -> Int8:
    """The single-rounding rule of this module's head, on int64 accumulators; the channel axis is last."""
    scaled = (acc * multiplier + (1 << (SHIFT_BITS - 1))) >> SHIFT_BITS
    out: Int8 = np.clip(scaled + zero_point, low, QMAX).astype(np.int8)
    return out
