"""Class probabilities of an int8 student: a temperature for its head, and softmax in integers. numpy; no torch, no files.

Softmax of int8 logits y (N, K), in Q0.8 (255 stands for 255/256 and more), from one table of 256 entries:

    e[k] = round(2**16 * exp(-k * output scale)),                   k = 0 ... 255          (`exponentials`)
    d[i] = e[max(y) - y[i]]
    p[i] = min(255, (256 * d[i] + sum(d) / 2) / sum(d))             (both divisions of unsigned integers, rounded down)

Everything fits 32 bits unsigned while K < 32,768. For K <= 256 classes p / 256 is within 1/256 of the real softmax: half a step of
rounding and K * 2**-17 of the table, or the one step that 1.0 saturates by. A larger logit never has a smaller probability, and the
probabilities of a window sum to 256, give or take K / 2 steps of rounding and one of saturation.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import QuantizationError
from hwnas.graph import OP_NAMES, Dense
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph

TABLE_BITS = 16
PROBABILITY_BITS = 8
SCALE_MIN, SCALE_MAX = 2.0**-100, 2.0**100  # of float32, with room for products of scales


def with_temperature(q: QuantGraph, temperature: float) -> QuantGraph:
    """`q` with logits divided by `temperature`: no integer changes, only what the outputs of its last dense layer stand for.

    Output scale and weight scales are rounded to float32 each, so their ratio moves by 2**-23 at most.

    Raises:
        QuantizationError: a temperature that is not positive and finite or leaves float32, or a student that does not end in a dense layer.
    """
    last = len(q.graph.nodes) - 1
    op = q.graph.nodes[last].op
    if not isinstance(op, Dense):
        raise QuantizationError(f"a temperature belongs to a dense head; the last node of this student is '{OP_NAMES[type(op)]}'")
    if not (math.isfinite(temperature) and temperature > 0):
        raise QuantizationError(f"the temperature of the head is {temperature}; it must be a number above 0")
    scale = float(np.float32(q.output.scale / temperature)) if q.output.scale / temperature < SCALE_MAX else math.inf
    head = q.constants[last]
    weight_scale = head.weight_scale / temperature
    if not (scale > SCALE_MIN and math.isfinite(scale) and SCALE_MIN < weight_scale.min() <= weight_scale.max() < SCALE_MAX):
        raise QuantizationError(f"the temperature {temperature:g} takes the scales of the head out of float32; fit it within 0.01 and 100")
    quants = (*q.quants[:-1], Quant(scale, q.output.zero_point))
    head = replace(head, weight_scale=weight_scale.astype(np.float32).astype(np.float64))
    return replace(q, quants=quants, constants=q.constants | {last: head})


def exponentials(q: QuantGraph) -> NDArray[np.uint32]:
    """The table e of this module's head, (256,): exp of minus k output steps, Q16."""
    return np.array([round(2**TABLE_BITS * math.exp(-k * q.output.scale)) for k in range(256)], np.uint32)


def weights(q: QuantGraph, logits: Int8) -> NDArray[np.int64]:
    """What each class of outputs (N, K) of `q` weighs in a softmax: d of this module's head."""
    steps = logits.max(axis=1, keepdims=True).astype(np.int16) - logits
    return np.asarray(exponentials(q)[steps], dtype=np.int64)


def probabilities(q: QuantGraph, logits: Int8) -> NDArray[np.uint8]:
    """Softmax (N, K) in Q0.8 of outputs (N, K) of `q`, in integers as this module's head says. The oracle of the C, for tests."""
    parts = weights(q, logits)
    total = parts.sum(axis=1, keepdims=True)
    rounded = ((parts << PROBABILITY_BITS) + (total >> 1)) // total
    out: NDArray[np.uint8] = np.minimum(rounded, 2**PROBABILITY_BITS - 1).astype(np.uint8)
    return out
