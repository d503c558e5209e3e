"""What TFLite and ONNX files derive alike from the integers of a student: pooling means as filters, and the check of all scales.

numpy only; no files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ExportError
from hwnas.graph import OP_NAMES
from hwnas.quantize.qgraph import Int8, Int32, QuantGraph

SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
UNIT = 64  # the integer that stands for 1 in weights that only add up: a power of two, so that their scale is exact


def check_scales(q: QuantGraph, what: str) -> None:
    """Raise ExportError unless every scale of `q` is a positive finite float32, as the formats store it."""
    for index, quant in enumerate(q.quants):
        scales = [quant.scale, *(q.constants[index].weight_scale.tolist() if index in q.constants else [])]
        for scale in scales:
            if not SMALLEST <= scale <= LARGEST:
                name = OP_NAMES[type(q.graph.nodes[index].op)]
                raise ExportError(
                    f"{what}: node {index} ({name}) has the scale {scale}, which must be positive and finite; quantise it again"
                )


def half_up_mean(kernel: int, channels: int) -> tuple[Int8, NDArray[np.float64], Int32]:
    """A pooling mean as a depthwise filter: weights (kernel, channels), their one scale, and the bias.

    Means are multiples of `1 / kernel` of a step. The bias adds a quarter of that, so that a half is well above a half in every arithmetic
    and nothing else reaches one: halves are rounded up, as the reference rounds them.
    """
    return np.full((kernel, channels), UNIT, np.int8), np.array([1 / (UNIT * kernel)]), np.full(channels, UNIT // 4, np.int32)
