"""Packed constants of LSTMs, in the layout at the heads of `hwnas_lstm.h`, `lstm_int8.c` and `lstm_int16.c`. numpy; no torch, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.graph import GATES
from hwnas.hardware.ops import Layout
from hwnas.memory import align
from hwnas.quantize.qgraph import QuantLstm

Words = NDArray[np.uint32]


def pack_lstm(lstm: QuantLstm, channels: int, in_point: int, hidden_point: int, weights: Layout) -> Words:
    """One block a unit; the zero points of inputs and hidden values go into the biases."""
    inputs, hidden = np.split(lstm.weights.astype(np.int64), [channels], axis=2)
    bias = lstm.bias - in_point * inputs.sum(2) - hidden_point * hidden.sum(2)
    padded = np.concatenate([_padded(inputs), _padded(hidden)], axis=2)
    # (unit, group, odd value, gate, second value)
    values = padded.reshape(len(padded), GATES, -1, 2, 2).transpose(0, 2, 4, 1, 3)
    if weights == "int8":
        # (unit, group, odd value, pair of gates, second value, odd gate)
        values = values.reshape(*values.shape[:3], 2, 2, 2).transpose(0, 1, 2, 3, 5, 4)
    groups = np.ascontiguousarray(values, "<i1" if weights == "int8" else "<i2").reshape(len(padded), -1).view("<u4")
    words: Words = np.concatenate([_words(bias), groups, _words(lstm.multiplier)], axis=1).reshape(-1)
    return words


def _padded(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Zeros behind the last axis, up to whole groups of four."""
    count = weights.shape[2]
    return np.pad(weights, ((0, 0), (0, 0), (0, align(count) - count)))


def _words(values: NDArray[np.signedinteger[Any]]) -> Words:
    return (values.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
