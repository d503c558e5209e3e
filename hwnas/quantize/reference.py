"""The int8 reference interpreter: what the C kernels must reproduce bit for bit. numpy; no torch, no files.

Tensors are int8 in NWC order, (N, L, C); those of M modalities are (N, M * L, C), one modality after the other.

Everything is exact although it runs in floating point: accumulators are integers below 2**24 (float32) or 2**53 (float64), and
`acc * multiplier / 2**32` is a multiple of 2**-32, which float64 holds exactly while its absolute value is below 2**21; beyond that
saturation decides. (LSTM gates: a multiple of 2**-26, exact below 2**27.)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import QuantizationError
from hwnas.graph import (
    GATES,
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    DepthwiseConv1d,
    GlobalAvgPool,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Split,
    Transpose,
    same_padding,
)
from hwnas.quantize.activation import sigmoid, tanh
from hwnas.quantize.qgraph import ADD_SHIFT_BITS, LSTM_SHIFT_BITS, QMAX, QMIN, SHIFT_BITS, Int8, QuantGraph, QuantWeights

Floats = NDArray[np.floating[Any]]
FloatType = type[np.float32] | type[np.float64]

# Largest tensor of one batch: the working set of an operator should stay in the processor's cache.
BATCH_ELEMENTS = 64 * 1024
LSTM_WINDOWS = 32  # fewest of a batch with an LSTM, whose steps cost the same for one window as for many
INT16_MIN, INT16_MAX = -(2**15), 2**15 - 1
SPAN = QMAX - QMIN


def run(q: QuantGraph, x: Int8) -> Int8:
    """Output int8 (N, K) of windows int8 (N, T, C).

    Raises:
        QuantizationError: windows of another type or shape than the student reads.
    """
    _check(q, x)
    out = np.empty((len(x), q.graph.output_shape.elements), np.int8)
    last = len(q.graph.nodes) - 1
    last_use = _last_uses(q)
    for start, stop in batches(q, len(x)):
        tensors: dict[int, Int8] = {0: x[start:stop]}
        for index in range(1, last + 1):
            tensors[index] = run_node(q, index, *(tensors[i] for i in q.graph.nodes[index].inputs))
            for dead in [i for i in tensors if last_use[i] <= index and i != last]:
                del tensors[dead]
        out[start:stop] = tensors[last].reshape(stop - start, -1)
    return out


def run_all(q: QuantGraph, x: Int8) -> list[Int8]:
    """Every node's tensor, int8 (N, M * L, C), for windows int8 (N, T, C); raises as `run`."""
    _check(q, x)
    tensors = [np.empty((len(x), n.shape.rows, n.shape.channels), np.int8) for n in q.graph]
    tensors[0][...] = x
    for start, stop in batches(q, len(x)):
        for index, node in enumerate(q.graph.nodes[1:], start=1):
            tensors[index][start:stop] = run_node(q, index, *(tensors[i][start:stop] for i in node.inputs))
    return tensors


def run_node(q: QuantGraph, index: int, *inputs: Int8) -> Int8:
    """Output of node `index`, int8 (N, M * L, C), given its inputs. Modalities are windows of their own to all that does not move them."""
    node = q.graph.nodes[index]
    op, source, windows = node.op, q.graph.in_shape(node), len(inputs[0])
    if isinstance(op, Split):
        return inputs[0].transpose(0, 2, 1).reshape(windows, -1, 1)
    if isinstance(op, Join):
        modalities = inputs[0].reshape(windows, source.modalities, source.length, source.channels)
        return modalities.transpose(0, 2, 1, 3).reshape(windows, source.length, -1)
    if isinstance(op, Transpose):
        return inputs[0].transpose(0, 2, 1)
    if source.modalities > 1:
        inputs = tuple(x.reshape(-1, source.length, source.channels) for x in inputs)
    return _run_modality(q, index, *inputs).reshape(windows, node.shape.rows, node.shape.channels)


def _run_modality(q: QuantGraph, index: int, *inputs: Int8) -> Int8:
    """Output of node `index` on signals of one modality each, int8 (N, L, C)."""
    node = q.graph.nodes[index]
    op = node.op
    out_point = q.quants[index].zero_point
    if isinstance(op, Add | Concat):
        first, second = (
            _centred(q, source, x, np.float64) * (multiplier / 2.0**ADD_SHIFT_BITS)
            for source, x, multiplier in zip(node.inputs, inputs, q.multipliers[index], strict=True)
        )
        return _round(first + second if isinstance(op, Add) else np.concatenate([first, second], axis=2), out_point)
    if isinstance(op, AvgPool1d | MaxPool1d):
        return _window_pool(op, node.shape.length, inputs[0])
    if isinstance(op, GlobalAvgPool):
        total = _centred(q, node.inputs[0], inputs[0], np.float64).sum(1, keepdims=True)
        return _round(total * (q.multipliers[index][0] / 2.0**SHIFT_BITS), out_point)
    if isinstance(op, Lstm):
        return _lstm(q, index, op, inputs[0])
    constants = q.constants[index]
    if isinstance(op, Conv1d):
        acc = _conv(q, index, op, constants, inputs[0])
    elif isinstance(op, DepthwiseConv1d):
        acc = _depthwise(q, index, op, constants, inputs[0])
    else:
        weights = constants.weights.T
        acc = _centred(q, node.inputs[0], inputs[0], _exact_type(weights)) @ weights.astype(_exact_type(weights))
    scaled = np.add(acc, constants.bias, dtype=np.float64)
    scaled *= constants.multiplier / 2.0**SHIFT_BITS
    return _round(scaled, out_point)


def quantize_input(q: QuantGraph, x: Floats) -> Int8:
    """Windows float (N, C, T) as int8 (N, T, C), saturating.

    Raises:
        QuantizationError: a value is not finite.
    """
    steps = np.rint(np.asarray(x, np.float64) / q.input.scale) + q.input.zero_point
    if not np.isfinite(steps).all():
        raise QuantizationError("the windows hold NaN or infinity; drop those windows first")
    return np.ascontiguousarray(np.clip(steps, QMIN, QMAX).astype(np.int8).transpose(0, 2, 1))


def dequantize_output(q: QuantGraph, y: Int8) -> NDArray[np.float32]:
    """Logits float32 (N, K) of outputs int8 (N, K)."""
    out: NDArray[np.float32] = ((y.astype(np.float32) - q.output.zero_point) * q.output.scale).astype(np.float32)
    return out


def accumulator_bound(weights: Int8) -> int:
    """Largest |sum of weight * (input - zero point)| over the outputs; `weights` has the outputs on its last axis."""
    return SPAN * int(np.abs(weights.astype(np.int64)).reshape(-1, weights.shape[-1]).sum(0).max(initial=0))


def _exact_type(weights: Int8) -> FloatType:
    return np.float32 if accumulator_bound(weights) < 2**24 else np.float64


def _centred(q: QuantGraph, source: int, x: Int8, dtype: FloatType) -> Floats:
    """`x` minus its zero point, as exact integers in `dtype`."""
    centred: Floats = np.subtract(x, q.quants[source].zero_point, dtype=dtype)
    return centred


def _padded(q: QuantGraph, index: int, op: Conv1d | DepthwiseConv1d, x: Int8, dtype: FloatType) -> Floats:
    """The centred input of convolution `index` between its SAME padding (zeros)."""
    source = q.graph.nodes[index].inputs[0]
    left, right = same_padding(x.shape[1], op.kernel, op.stride, op.dilation)
    if left == right == 0:
        return _centred(q, source, x, dtype)
    padded: Floats = np.zeros((x.shape[0], left + x.shape[1] + right, x.shape[2]), dtype)
    np.subtract(x, q.quants[source].zero_point, out=padded[:, left : left + x.shape[1]], dtype=dtype)
    return padded


def _conv(q: QuantGraph, index: int, op: Conv1d, constants: QuantWeights, x: Int8) -> Floats:
    """Accumulators (N, L, out) of a convolution: one matrix product over kernel x input channels."""
    matrix = constants.weights.reshape(op.out_channels, -1).T
    dtype = _exact_type(matrix)
    padded = _padded(q, index, op, x, dtype)
    length = q.graph.nodes[index].shape.length
    if op.kernel == 1:
        columns = padded[:, :: op.stride]
    else:
        n, row, one = padded.strides
        shape = (len(x), length, op.kernel, x.shape[2])
        columns = np.lib.stride_tricks.as_strided(padded, shape, (n, row * op.stride, row * op.dilation, one), writeable=False)
    product: Floats = columns.reshape(len(x) * length, -1) @ matrix.astype(dtype)
    return product.reshape(len(x), length, op.out_channels)


def _depthwise(q: QuantGraph, index: int, op: DepthwiseConv1d, constants: QuantWeights, x: Int8) -> Floats:
    """Accumulators (N, L, C) of a depthwise convolution: shifted slices, multiplied and added."""
    dtype = _exact_type(constants.weights)
    taps = constants.weights.astype(dtype)
    padded = _padded(q, index, op, x, dtype)
    reach = (q.graph.nodes[index].shape.length - 1) * op.stride + 1
    acc: Floats = padded[:, : reach : op.stride] * taps[0]
    product = np.empty_like(acc)
    for tap in range(1, op.kernel):
        start = tap * op.dilation
        acc += np.multiply(padded[:, start : start + reach : op.stride], taps[tap], out=product)
    return acc


def _window_pool(op: AvgPool1d | MaxPool1d, length: int, x: Int8) -> Int8:
    """Mean or maximum of windows: shifted slices, added or compared."""
    reach = (length - 1) * op.stride + 1
    slices = [x[:, tap : tap + reach : op.stride] for tap in range(op.kernel)]
    if isinstance(op, MaxPool1d):
        largest = slices[0].copy()
        for other in slices[1:]:
            np.maximum(largest, other, out=largest)
        return largest
    total = np.zeros(slices[0].shape, np.float64)
    for part in slices:
        total += part
    return _round(total * (round(2**ADD_SHIFT_BITS / op.kernel) / 2.0**ADD_SHIFT_BITS), 0)


def _lstm(q: QuantGraph, index: int, op: Lstm, x: Int8) -> Int8:
    """Hidden states (N, L, units) or, with `last`, (N, 1, units): step by step, all windows at once."""
    constants, out_point = q.lstms[index], q.quants[index].zero_point
    windows, length, channels = x.shape
    matrix = constants.weights.transpose(2, 1, 0).reshape(-1, GATES * op.units)
    dtype = _exact_type(matrix)
    inputs = _centred(q, q.graph.nodes[index].inputs[0], x, dtype) @ matrix[:channels].astype(dtype)
    recurrent = matrix[channels:].astype(dtype)
    bias = constants.bias.T.reshape(-1).astype(np.float64)
    scale = constants.multiplier.T.reshape(-1) / 2.0 ** (SHIFT_BITS - LSTM_SHIFT_BITS)
    hidden = np.full((windows, op.units), out_point, np.int8)
    cell = np.zeros((windows, op.units), np.int32)
    out = np.empty((windows, 1 if op.last else length, op.units), np.int8)
    for step in range(length):
        acc = inputs[:, step] + np.subtract(hidden, out_point, dtype=dtype) @ recurrent
        p = np.clip(np.floor((acc + bias) * scale + 0.5), INT16_MIN, INT16_MAX).astype(np.int32).reshape(windows, GATES, op.units)
        write, keep, show = (sigmoid(p[:, gate]) for gate in (0, 1, 3))
        cell = (keep * cell + 2**14 >> 15) + (write * tanh(p[:, 2]) + 2**18 >> 19)
        np.clip(cell, INT16_MIN, INT16_MAX, out=cell)
        shown = show * tanh(np.clip(2 * cell, INT16_MIN, INT16_MAX)) >> 15
        hidden = _round(shown * (constants.hidden_multiplier / 2.0**SHIFT_BITS), out_point)
        out[:, 0 if op.last else step] = hidden
    return out


def _round(scaled: Floats, zero_point: int) -> Int8:
    """`saturate8(zero_point + floor(scaled + 0.5))`; values are made non-negative first, so that the cast is the floor."""
    scaled += zero_point - QMIN + 0.5
    np.clip(scaled, 0, SPAN, out=scaled)
    return (scaled.astype(np.uint8) ^ 0x80).view(np.int8)


def _last_uses(q: QuantGraph) -> list[int]:
    last = list(range(len(q.graph.nodes)))
    for index, node in enumerate(q.graph.nodes):
        for source in node.inputs:
            last[source] = index
    return last


def batches(q: QuantGraph, windows: int) -> list[tuple[int, int]]:
    """Ranges of windows whose largest tensor has about BATCH_ELEMENTS values."""
    fewest = LSTM_WINDOWS if q.lstms else 1
    size = max(fewest, BATCH_ELEMENTS // max(n.shape.elements for n in q.graph))
    return list(pairwise([*range(0, windows, size), windows])) if windows else []


def _check(q: QuantGraph, x: Int8) -> None:
    channels, length, _ = q.graph.input_shape
    if x.dtype != np.int8 or x.shape[1:] != (length, channels):
        raise QuantizationError(
            f"the student reads int8 windows (N, {length}, {channels}) = (windows, samples, channels), got {x.dtype} {x.shape}; "
            "use quantize_input"
        )
    if not isinstance(q.graph.nodes[0].op, Input):
        raise QuantizationError("the first node of a student is its input")
