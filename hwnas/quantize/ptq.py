"""`quantize`: a trained `Student` and calibration windows -> `QuantGraph`. torch (to run the student); no files.

Ranges are chosen to make the mean squared quantisation error smallest among shrunken min-max ranges. All scales are exact float32
values, so the exported files hold the very same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, gcd

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.errors import QuantizationError
from hwnas.graph import OP_NAMES, Add, AvgPool1d, Concat, Conv1d, Dense, GlobalAvgPool, Lstm, MaxPool1d, Node
from hwnas.quantize.qgraph import ADD_SHIFT_BITS, QMAX, QMIN, SHIFT_BITS, WEIGHT_MAX, Int8, Int32, Quant, QuantGraph, QuantWeights
from hwnas.quantize.reference import accumulator_bound
from hwnas.student import FoldedNode, Student, fold

Doubles = NDArray[np.float64]

INPUT = Quant(float(np.float32(1 / 127)), 0)  # windows are scaled to [-1, 1]
CALIBRATION_WINDOWS = 256
SAMPLES = 20_000  # values of one tensor that the range search looks at
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
STEPS = QMAX - QMIN
SCALE_FLOOR = 1e-8
# `multiplier = S * 2**32` keeps at least 16 significant bits, and S stays clear of 0.5.
RATIO_MIN, RATIO_MAX = 2.0**-16, 0.499
ADD_RATIO_MAX = 1.99
BIAS_MAX = 2**30
MEAN_ALIGN_MIN = 4  # below it the alignment would widen the range by more than a quarter


def quantize(student: Student, calibration_x: NDArray[np.float32], labels: Sequence[str]) -> QuantGraph:
    """Post-training int8 form of `student`; at most 256 windows of `calibration_x` (N, C, T), evenly chosen, are used.

    Raises:
        QuantizationError: no calibration windows, a wrong number of labels, weights or activations that are not finite, an
            accumulator that could leave int32, or an operator that has no post-training form.
    """
    graph = student.graph
    for index, node in enumerate(graph):
        if isinstance(node.op, Concat | AvgPool1d | MaxPool1d | Lstm):
            raise QuantizationError(f"node {index}: post-training quantisation has no rule for '{OP_NAMES[type(node.op)]}'")
    if len(labels) != graph.output_shape.channels:
        outputs = graph.output_shape.channels
        raise QuantizationError(f"the student has {outputs} outputs, got {len(labels)} labels: {', '.join(labels)}")
    if len(calibration_x) == 0:
        raise QuantizationError("quantisation needs calibration windows, got none; give windows of the training patients")
    ranges = _activation_quants(student, calibration_x)
    folded = fold(student)
    quants: list[Quant] = [INPUT]
    constants: dict[int, QuantWeights] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        sources = [quants[i] for i in node.inputs]
        quant = ranges[index]
        if isinstance(node.op, Add):
            quant = _at_least(quant, max(s.scale for s in sources) / ADD_RATIO_MAX)
            multipliers[index] = tuple(round(s.scale / quant.scale * 2**ADD_SHIFT_BITS) for s in sources)
        elif isinstance(node.op, GlobalAvgPool):
            step = sources[0].scale / graph.in_shape(node).length
            quant = _for_tflite_mean(_at_least(quant, step / RATIO_MAX), sources[0])
            multipliers[index] = (round(step / quant.scale * 2**SHIFT_BITS),)
        else:
            quant, constants[index] = _weights(node, index, folded[index], sources[0], quant)
        quants.append(quant)
    return QuantGraph(graph, tuple(quants), constants, multipliers, tuple(labels))


def _weights(node: Node, index: int, folded: FoldedNode, source: Quant, quant: Quant) -> tuple[Quant, QuantWeights]:
    """Integer constants of a convolution or dense node, and its output quantisation, coarser where the multiplier needs it."""
    weight, bias = folded.weight.astype(np.float64), folded.bias.astype(np.float64)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise QuantizationError(f"node {index} has NaN or infinite weights: the training diverged; train again with a lower rate")
    scale = np.abs(weight).reshape(len(weight), -1).max(1) / WEIGHT_MAX
    quant = _at_least(quant, source.scale * float(scale.max()) / RATIO_MAX)
    # A dead channel has no scale of its own; the smallest useful one keeps its multiplier precise and its bias exact.
    scale = _float32(np.maximum(scale, RATIO_MIN * quant.scale / source.scale))
    columns = np.moveaxis(weight, 0, -1)
    integers = np.clip(np.rint(columns / scale), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    # A bias that is clipped here saturates its output with or without the clip.
    integer_bias: Int32 = np.clip(np.rint(bias / (source.scale * scale)), -BIAS_MAX, BIAS_MAX).astype(np.int32)
    largest = accumulator_bound(integers) + int(np.abs(integer_bias.astype(np.int64)).max())
    if largest >= 2**31:
        raise QuantizationError(f"node {index}: an accumulator may reach {largest}, beyond int32; use fewer inputs an output")
    ratio = source.scale * scale / quant.scale
    multiplier = np.rint(ratio * 2.0**SHIFT_BITS).astype(np.int32)
    return quant, QuantWeights(_layout(node, integers), integer_bias, scale, multiplier)


def _layout(node: Node, weights: Int8) -> Int8:
    """Weights with the outputs last, (in, kernel, out), (1, kernel, C) or (in, units), in the order of `QuantWeights`."""
    if isinstance(node.op, Conv1d):
        return np.ascontiguousarray(weights.transpose(2, 1, 0))
    return np.ascontiguousarray(weights.T if isinstance(node.op, Dense) else weights[0])


def _activation_quants(student: Student, x: NDArray[np.float32]) -> dict[int, Quant]:
    """Range of every node's tensor but the input's, from a float pass over calibration windows."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), CALIBRATION_WINDOWS)).round().astype(int))
    was_training = student.training
    student.eval()
    with torch.no_grad():
        _, taps = student(torch.from_numpy(np.ascontiguousarray(x[chosen], dtype=np.float32)))
    student.train(was_training)
    quants = {}
    last = len(student.graph.nodes) - 1
    for name, tensor in taps.items():
        values = tensor.permute(0, 2, 1).numpy()
        if not np.isfinite(values).all():
            raise QuantizationError(f"node {name} gives NaN or infinity on calibration windows: the student or they are broken")
        # A clipped logit would tie windows that the score must tell apart.
        quants[int(name)] = best_quant(values, (1.0,) if int(name) == last else SHRINK)
    return quants


def best_quant(values: NDArray[np.float32], shrink: Sequence[float] = SHRINK) -> Quant:
    """The int8 quantisation of smallest mean squared error of `values` (..., C) among shrunken min-max ranges that hold zero."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    step = max(values.size // SAMPLES, 1)
    while gcd(step, values.shape[-1]) > 1:  # so that every channel is visited
        step += 1
    sample = values.reshape(-1)[::step].astype(np.float64)
    candidates = [_quant(low * factor, high * factor) for factor in shrink]
    errors = [float(np.square(_round_trip(sample, c) - sample).mean()) for c in candidates]
    return candidates[int(np.argmin(errors))]


def _round_trip(values: Doubles, quant: Quant) -> Doubles:
    steps = np.clip(np.rint(values / quant.scale) + quant.zero_point, QMIN, QMAX)
    out: Doubles = (steps - quant.zero_point) * quant.scale
    return out


def _quant(low: float, high: float) -> Quant:
    """Quantisation of [low, high], which holds zero; a range that starts at zero gets zero point -128."""
    scale = float(np.float32(max((high - low) / STEPS, SCALE_FLOOR)))
    return Quant(scale, int(np.clip(round(QMIN - low / scale), QMIN, QMAX)))


def _at_least(quant: Quant, scale: float) -> Quant:
    """`quant` with a scale of at least `scale`, about the same centre."""
    if quant.scale >= scale:
        return quant
    # Rounded up, so that the multiplier stays within its bound.
    wider = float(np.nextafter(np.float32(scale), np.float32(np.inf)))
    low = (QMIN - quant.zero_point) * quant.scale
    if low == 0.0:
        return Quant(wider, QMIN)
    high = (QMAX - quant.zero_point) * quant.scale
    zero_point = round((QMIN + QMAX) / 2 - (low + high) / 2 / wider)
    return Quant(wider, int(np.clip(zero_point, QMIN, QMAX)))


def _for_tflite_mean(quant: Quant, source: Quant) -> Quant:
    """`quant` a little wider, so that `source.zero_point * source.scale / scale` is just above an integer.

    The built-in MEAN kernel of TFLite truncates that product to an integer, which else shifts all means by up to one step.
    """
    margin = 0.01  # above the integer, so that float32 rounding cannot fall below it
    whole = floor(abs(source.zero_point) * source.scale / quant.scale - margin)
    if whole < MEAN_ALIGN_MIN:
        return quant
    return _at_least(quant, abs(source.zero_point) * source.scale / (whole + margin))


def _float32(values: Doubles) -> Doubles:
    out: Doubles = values.astype(np.float32).astype(np.float64)
    return out
