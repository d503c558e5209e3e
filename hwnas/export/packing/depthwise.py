"""Packed constants of depthwise convolutions, in the layout at the head of `depthwise_conv1d.c`. numpy; no torch, no files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.quantize.qgraph import QuantWeights

Words = NDArray[np.uint32]


def pack_depthwise(constants: QuantWeights, in_point: int) -> Words:
    """One row a channel of a depthwise convolution (kernel, channels); the input zero point `in_point` goes into the bias."""
    kernel, channels = constants.weights.shape
    bias = constants.bias.astype(np.int64) - in_point * constants.weights.astype(np.int64).sum(0)
    taps = np.zeros((channels, kernel + kernel % 2), "<i2")
    taps[:, :kernel] = constants.weights.T
    rows = np.empty((channels, 2 + taps.shape[1] // 2), np.uint32)
    rows[:, 0] = bias & 0xFFFFFFFF
    rows[:, 1] = constants.multiplier
    rows[:, 2:] = taps.view("<u4")
    return rows.reshape(-1)
