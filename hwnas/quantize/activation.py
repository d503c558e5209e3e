"""Sigmoid and hyperbolic tangent in integers, for LSTMs: one table each, the same as in the C kernels. numpy; no torch, no files.

Arguments are Q3.12 (int16, so [-8, 8)), values Q0.15. A table holds the function at -8, -8 + 1/16 ... 8; between two entries it is
interpolated:

    index = p + 32768 >> 8,    fraction = p & 255
    value = table[index] + ((table[index + 1] - table[index]) * fraction + 128 >> 8)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]

ENTRIES = 257
ENTRIES_PER_UNIT = 16
ONE = 1 << 15  # 1.0 in Q0.15, which int16 just misses


def _table(function: Callable[[float], float]) -> Int16:
    points = (i / ENTRIES_PER_UNIT - 8 for i in range(ENTRIES))
    return np.array([min(round(ONE * function(x)), ONE - 1) for x in points], np.int16)


SIGMOID = _table(lambda x: 1 / (1 + math.exp(-x)))
TANH = _table(math.tanh)


def sigmoid(p: NDArray[Any]) -> Int32:
    """The logistic function, Q0.15, of integers Q3.12."""
    return _interpolate(SIGMOID, p)


def tanh(p: NDArray[Any]) -> Int32:
    """The hyperbolic tangent, Q0.15, of integers Q3.12."""
    return _interpolate(TANH, p)


def _interpolate(table: Int16, p: NDArray[Any]) -> Int32:
    position = p.astype(np.int32) + (1 << 15)
    index = position >> 8
    below, above = table[index].astype(np.int32), table[index + 1].astype(np.int32)
    value: Int32 = below + ((above - below) * (position & 255) + 128 >> 8)
    return value
