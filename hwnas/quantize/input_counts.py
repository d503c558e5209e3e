"""Counts of a sensor -> the int8 input of a student, in integers: the twin of `hwnas_model_quantize_input` in C. numpy; no torch, no files.

Every channel of a window is scaled by its own minimum and maximum to [-1, 1], as `hwnas.tasks.base.normalise` does, and rounded to steps
of 1/N (N = 127 for every student that `quantize` makes):

    span = max - min
    q    = saturate8(floor((4 * N * (count - min) + span) / (2 * span)) - N + zero point)                      (halves round up)

With int16 counts, span <= 65535 and N <= 16384, all of it fits 32 bits unsigned. For N = 127 this is `quantize_input(normalise(counts))`
but where the exact value lies half-way between two steps: there that one follows its rounding errors and may be one step lower.
(Elsewhere a value is at least 1 / 131,070 of a step from half-way, more than float32 is off.)

A channel that does not change holds no signal. Training refuses such windows; a program in the field cannot, and gets the zero point
(real 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import QuantizationError
from hwnas.quantize.qgraph import QMAX, QMIN, Int8, QuantGraph

STEPS_MAX = 2**14
TOLERANCE = 2.0**-20  # scales are rounded to float32


def input_steps(q: QuantGraph) -> int:
    """N, the input's steps in a real 1.

    Raises:
        QuantizationError: the input's scale is not 1/N for a whole number N of at most 16384.
    """
    scale = q.input.scale
    steps = round(1 / scale) if 1 / (2 * STEPS_MAX) < scale < 2 else 0
    if not 1 <= steps <= STEPS_MAX or abs(steps * scale - 1) > TOLERANCE:
        raise QuantizationError(
            f"the input has scale {scale!r}; it must be 1/N with N from 1 to {STEPS_MAX}, as `quantize` chooses it (N = 127)"
        )
    return steps


def quantize_counts(q: QuantGraph, counts: NDArray[np.int16]) -> Int8:
    """Windows of counts int16 (N, T, C) as int8 (N, T, C); see this module's head. The oracle of the C, for tests.

    Raises:
        QuantizationError: counts of another type or shape than the student reads, or another scale than the formula is for.
    """
    shape = q.graph.input_shape
    if counts.dtype != np.int16 or counts.shape[1:] != (shape.length, shape.channels):
        raise QuantizationError(
            f"the student reads counts int16 (N, {shape.length}, {shape.channels}) = (windows, samples, channels), "
            f"got {counts.dtype} {counts.shape}; shift wider counts to the right"
        )
    steps, x = input_steps(q), counts.astype(np.int64)
    low = x.min(axis=1, keepdims=True)
    span = x.max(axis=1, keepdims=True) - low
    value = (4 * steps * (x - low) + span) // np.maximum(2 * span, 1) - steps
    return np.clip(np.where(span > 0, value, 0) + q.input.zero_point, QMIN, QMAX).astype(np.int8)
