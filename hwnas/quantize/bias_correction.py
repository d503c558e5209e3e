"""Bias correction: rounding of weights and inputs shifts a layer's mean output, its bias shifts it back. torch; no files.

After Nagel et al. 2019 (Data-free quantization through weight equalization and bias correction, section 4.2), measured on calibration
windows: layer by layer, each reading what the corrected integer layers before it give,

    bias[c] += E[W x + b] - E[Wq xq + bq]       over windows and time, of channel c before its activation

Convolution commutes with the mean over windows, so both sides are one convolution of mean tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from hwnas.graph import Conv1d, DepthwiseConv1d, Node, Shape, same_padding
from hwnas.quantize import reference
from hwnas.quantize.qgraph import BIAS_MAX, Doubles, Int8, QuantGraph, QuantWeights, outputs_first, real_weights
from hwnas.student import FoldedNode


def correct(q: QuantGraph, folded: Mapping[int, FoldedNode], means: Mapping[int, Doubles], x: Int8) -> QuantGraph:
    """`q` with corrected biases of convolutions and dense layers.

    `folded` are the float weights that `q` was made of, `means` every float tensor's mean over the windows `x` int8 (N, T, C), (M * L, C).
    """
    tensors: dict[int, Int8] = {0: x}
    constants = dict(q.constants)
    for index, node in enumerate(q.graph.nodes):
        if index in constants:
            source = node.inputs[0]
            found = (tensors[source].mean(0, dtype=np.float64) - q.quants[source].zero_point) * q.quants[source].scale
            shape = q.graph.nodes[source].shape
            expected = _mean_output(node, shape, means[source], *folded[index])
            shift = expected - _mean_output(node, shape, found, *real_weights(q, index))
            constants[index] = _shifted(node, constants[index], shift / (constants[index].weight_scale * q.quants[source].scale))
            q = replace(q, constants=constants)
        if index:
            tensors[index] = _run(q, index, *(tensors[i] for i in node.inputs))
        for read in [i for i in tensors if not any(i in later.inputs for later in q.graph.nodes[index + 1 :])]:
            del tensors[read]
    return q


def _run(q: QuantGraph, index: int, *inputs: Int8) -> Int8:
    """`reference.run_node`, a batch of windows at a time: a node's working set is many times its output."""
    shape = q.graph.nodes[index].shape
    out = np.empty((len(inputs[0]), shape.rows, shape.channels), np.int8)
    for start, stop in reference.batches(q, len(out)):
        out[start:stop] = reference.run_node(q, index, *(x[start:stop] for x in inputs))
    return out


def _mean_output(node: Node, shape: Shape, mean: Doubles, weights: reference.Floats, bias: reference.Floats) -> Doubles:
    """Mean over time (C',) of a layer's output before its activation, from its mean input (M * L, C) of `shape`."""
    op = node.op
    weight = torch.from_numpy(weights).double()
    x = torch.from_numpy(np.ascontiguousarray(mean)).reshape(shape.modalities, shape.length, shape.channels).transpose(1, 2)
    if isinstance(op, Conv1d | DepthwiseConv1d):
        padded = F.pad(x, same_padding(shape.length, op.kernel, op.stride, op.dilation))
        groups = shape.channels if isinstance(op, DepthwiseConv1d) else 1
        y = F.conv1d(padded, weight, None, op.stride, 0, op.dilation, groups)
    else:
        y = F.linear(x.transpose(1, 2), weight).transpose(1, 2)
    out: Doubles = y.mean((0, 2)).numpy() + bias
    return out


def _shifted(node: Node, constants: QuantWeights, steps: Doubles) -> QuantWeights:
    """`constants` with `steps` added to the biases, as far as accumulators stay within int32."""
    outputs_last = np.moveaxis(outputs_first(node.op, constants.weights), 0, -1)
    limit = min(BIAS_MAX, 2**31 - 1 - reference.accumulator_bound(outputs_last))
    bias = np.clip(np.rint(constants.bias + steps), -limit, limit).astype(np.int32)
    return replace(constants, bias=bias)
