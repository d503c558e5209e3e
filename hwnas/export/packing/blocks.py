"""Packed constants of convolutions and dense layers, in the layouts that head `conv1d_*.c` and `dense_*.c`. numpy; no torch, no files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.hardware.ops import Layout
from hwnas.hardware.weights import BLOCK
from hwnas.quantize.qgraph import QuantWeights

Words = NDArray[np.uint32]


def pack_blocks(constants: QuantWeights, in_point: int, weights: Layout) -> Words:
    """Blocks of four outputs, of a convolution (out, kernel, in) or dense layer (units, in); the input zero point goes into the bias."""
    values = _flat(constants)
    outputs, taps = values.shape
    padded = np.zeros((_up(outputs), _up(taps)), np.int8 if weights == "int8" else "<i2")
    padded[:outputs, :taps] = values
    if weights == "int8":
        # (block, pair of outputs, output, group, pair of taps, odd tap) -> words of two outputs by two taps
        order = padded.reshape(-1, 2, 2, _up(taps) // 4, 2, 2).transpose(0, 3, 5, 1, 4, 2)
    else:
        # (block, output, group, pair of taps, odd tap) -> words of one output by two taps
        order = padded.reshape(-1, BLOCK, _up(taps) // 4, 2, 2).transpose(0, 2, 4, 1, 3)
    groups = np.ascontiguousarray(order).reshape(-1).view("<u4").reshape(len(order), -1)
    bias, multiplier = (_words(_padded(column)).reshape(-1, BLOCK) for column in (_folded_bias(constants, in_point), constants.multiplier))
    words: Words = np.concatenate([bias, groups, multiplier], axis=1).reshape(-1)
    return words


def pack_short(constants: QuantWeights, in_point: int) -> Words:
    """Output channels of a convolution of short windows: bias, multiplier, taps in pairs; the input zero point goes into the bias."""
    values = _flat(constants)
    padded = np.zeros((len(values), values.shape[1] + values.shape[1] % 2), "<i2")
    padded[:, : values.shape[1]] = values
    columns = (_words(_folded_bias(constants, in_point))[:, None], _words(constants.multiplier)[:, None], padded.view("<u4"))
    words: Words = np.concatenate(columns, axis=1).reshape(-1)
    return words


def _flat(constants: QuantWeights) -> NDArray[np.int8]:
    """Weights as one row of taps an output."""
    return constants.weights.reshape(len(constants.weights), -1)


def _folded_bias(constants: QuantWeights, in_point: int) -> NDArray[np.int64]:
    folded: NDArray[np.int64] = constants.bias.astype(np.int64) - in_point * _flat(constants).astype(np.int64).sum(1)
    return folded


def _padded(values: NDArray[Any]) -> NDArray[np.int64]:
    """`values` with zeros up to a whole number of blocks."""
    padded = np.zeros(_up(len(values)), np.int64)
    padded[: len(values)] = values
    return padded


def _words(values: NDArray[Any]) -> Words:
    """Integers modulo 2**32, as the sums of the kernels are."""
    words: Words = (values.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
    return words


def _up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
