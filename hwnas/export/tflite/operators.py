"""How each operator of a student is spelled in TFLite: such that kernels round as the reference does, as far as they can.

The built-in kernels round twice: to `2**-n` of an output step, where n is the shift of the multiplier S (S in [2**-n / 2, 2**-n)), then to
a step. That errs by a step on `2**-n / 2` of the outputs: 0.1 to 0.6 % for the S of convolutions, far more where S is large. What has a
large S is therefore written as a convolution with large integers for weights, whose S is 64 or 127 times smaller:

- GlobalAvgPool: MEAN errs on 3 to 7 % of the outputs, on 37 % where it truncates its offset. Here: a 1x1 convolution over time, 127 for
  every sample.
- AvgPool1d: AVERAGE_POOL_2D rounds halves away from zero, which errs on 25 % of the means of two, with XNNPACK too. Here: a depthwise
  convolution of 64 for every sample, whose bias rounds halves up.
- Concat: QUANTIZE errs on up to 20 %, with XNNPACK (8 bits of scale) on up to 5 %. Here: a depthwise convolution with one weight of 64.

What convolutions err by remains with built-in kernels. It is little an operator, but each of these steps shifts accumulators behind it,
some of which lie beside a half: end to end 5 to 45 % of the logits are a step away. XNNPACK rounds once; there it is less than 1 %.

Dense is a 1x1 convolution because FULLY_CONNECTED ignores or refuses a scale an output in TFLite Micro before September 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from hwnas.errors import ExportError
from hwnas.export.scales import UNIT, half_up_mean
from hwnas.export.tflite.lstm import append_lstm
from hwnas.export.tflite.model import Model, Operator
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Join,
    Lstm,
    MaxPool1d,
    Shape,
    Split,
    Transpose,
)
from hwnas.quantize.qgraph import ADD_SHIFT_BITS, WEIGHT_MAX, Int8, Int32, Quant, QuantGraph
from hwnas.quantize.values import output_name

Tensors = dict[int, int]
Floats = NDArray[np.float64]
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID


def append(model: Model, q: QuantGraph, index: int, tensors: Tensors) -> None:
    """Append node `index`, whose inputs are in `tensors`, and put its output there.

    Raises:
        ExportError: an operator that has no form here.
    """
    node = q.graph.nodes[index]
    op, inputs, source = node.op, [tensors[i] for i in node.inputs], q.graph.in_shape(node)
    last = index == len(q.graph.nodes) - 1
    name = output_name(q.labels) if last else f"node{index}"
    writer = _Writer(model, name, q.quants[index])
    tensors[index] = writer.tensor("", (1, node.shape.elements) if last else nhwc(node.shape))
    output = writer.tensor("/flat", nhwc(node.shape)) if last else tensors[index]
    if isinstance(op, Conv1d | DepthwiseConv1d | Dense):
        constants = q.constants[index]
        bias_scale = constants.weight_scale * q.quants[node.inputs[0]].scale
        if isinstance(op, DepthwiseConv1d):
            writer.depthwise(inputs[0], output, op, constants.weights, constants.weight_scale, constants.bias, bias_scale)
        else:
            weights = constants.weights.reshape(node.shape.channels, 1, -1, source.channels)
            writer.conv(inputs[0], output, op, weights, constants.weight_scale, constants.bias, bias_scale)
    elif isinstance(op, Add):
        model.operator(Operator.ADD, inputs, output, schema.AddOptionsT())
    elif isinstance(op, Concat):
        parts = [
            writer.requantized(tensor, q.quants[i], q.graph.nodes[i].shape, multiplier, f"/part{number}")
            for number, (tensor, i, multiplier) in enumerate(zip(inputs, node.inputs, q.multipliers[index], strict=True))
        ]
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        model.operator(Operator.CONCATENATION, parts, output, options)
    elif isinstance(op, AvgPool1d):
        weights, scale, bias = half_up_mean(op.kernel, source.channels)
        mean = DepthwiseConv1d(op.kernel, op.stride, relu=False)
        writer.depthwise(inputs[0], output, mean, weights, scale, bias, scale * q.quants[index].scale, VALID)
    elif isinstance(op, MaxPool1d):
        window = schema.Pool2DOptionsT()
        window.padding, window.filterWidth, window.filterHeight, window.strideW, window.strideH = VALID, op.kernel, 1, op.stride, 1
        model.operator(Operator.MAX_POOL_2D, inputs, output, window)
    elif isinstance(op, GlobalAvgPool):
        writer.mean(inputs[0], output, source, q.quants[node.inputs[0]])
    elif isinstance(op, Lstm):
        append_lstm(model, q, index, inputs[0], output, name)
    elif isinstance(op, Split):
        writer.transpose(inputs[0], output, (0, 3, 2, 1))
    elif isinstance(op, Join):
        swapped = writer.tensor("/swapped", (1, source.length, source.modalities, source.channels))
        writer.transpose(inputs[0], swapped, (0, 2, 1, 3))
        writer.reshape(swapped, output, (-1, *nhwc(node.shape)[1:]))
    elif isinstance(op, Transpose):
        writer.transpose(inputs[0], output, (0, 2, 3, 1))
    else:
        raise ExportError(f"node {index} ({type(op).__name__}) has no TFLite form; export the student as C")
    if last:
        writer.reshape(output, tensors[index], (-1, node.shape.elements))


def nhwc(shape: Shape) -> tuple[int, int, int, int]:
    """A tensor of one window as a picture: a row a modality."""
    return 1, shape.modalities, shape.length, shape.channels


class _Writer:
    """Operators of one node. Tensors that it makes have the node's name and, unless told otherwise, the quantisation of its output."""

    def __init__(self, model: Model, name: str, quant: Quant) -> None:
        self.model, self.name, self.quant = model, name, quant

    def tensor(self, suffix: str, shape: Sequence[int], quant: Quant | None = None) -> int:
        quant = quant or self.quant
        return self.model.activation(self.name + suffix, shape, quant.scale, quant.zero_point)

    def conv(self, source: int, output: int, op: Conv1d | Dense, weights: Int8, scale: Floats, bias: Int32, bias_scale: Floats) -> None:
        """`weights` (out, 1, kernel, in)."""
        options = _window(schema.Conv2DOptionsT(), op if isinstance(op, Conv1d) else Conv1d(op.units, relu=False), SAME)
        inputs = [source, self._constant("weights", weights, scale), self._constant("bias", bias, bias_scale)]
        self.model.operator(Operator.CONV_2D, inputs, output, options)

    def depthwise(
        self,
        source: int,
        output: int,
        op: DepthwiseConv1d,
        weights: Int8,
        scale: Floats,
        bias: Int32,
        bias_scale: Floats,
        padding: int = SAME,
        suffix: str = "",
    ) -> None:
        """`weights` (kernel, channels)."""
        options = _window(schema.DepthwiseConv2DOptionsT(), op, padding)
        options.depthMultiplier = 1
        constants = self._constant(f"weights{suffix}", weights[None, None], scale, 3), self._constant(f"bias{suffix}", bias, bias_scale)
        self.model.operator(Operator.DEPTHWISE_CONV_2D, [source, *constants], output, options)

    def requantized(self, source: int, quant: Quant, shape: Shape, multiplier: int, suffix: str) -> int:
        """The tensor `source` in this node's quantisation; itself where it has that already.

        Where the ratio of the scales is a multiple of 1/16, such as 1.25, halves occur; a bias of 1/64 rounds them up.
        """
        if quant == self.quant:
            return source
        output, scale = self.tensor(suffix, nhwc(shape)), np.array([1 / UNIT])
        halves = multiplier % (1 << ADD_SHIFT_BITS - 4) == 0
        weights, bias = np.full((1, shape.channels), UNIT, np.int8), np.full(shape.channels, int(halves), np.int32)
        self.depthwise(source, output, DepthwiseConv1d(1, relu=False), weights, scale, bias, scale * quant.scale, suffix=suffix)
        return output

    def mean(self, source: int, output: int, shape: Shape, quant: Quant) -> None:
        """Mean over time: samples become channels, which one filter of a 1x1 convolution adds up."""
        swapped = self.tensor("/swapped", (1, 1, shape.channels, shape.length), quant)
        means = self.tensor("/means", (1, 1, shape.channels, 1))
        self.transpose(source, swapped, (0, 1, 3, 2))
        weights, scale = np.full((1, 1, 1, shape.length), WEIGHT_MAX, np.int8), np.array([1 / (WEIGHT_MAX * shape.length)])
        self.conv(swapped, means, Dense(1), weights, scale, np.zeros(1, np.int32), scale * quant.scale)
        self.reshape(means, output, (-1, 1, 1, shape.channels))

    def transpose(self, source: int, output: int, axes: Sequence[int]) -> None:
        inputs = [source, self._constant("axes", np.array(axes, np.int32))]
        self.model.operator(Operator.TRANSPOSE, inputs, output, schema.TransposeOptionsT())

    def reshape(self, source: int, output: int, shape: Sequence[int]) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = np.array(shape, np.int32)
        inputs = [source, self._constant("shape", options.newShape)]
        self.model.operator(Operator.RESHAPE, inputs, output, options)

    def _constant(self, suffix: str, values: NDArray[Any], scale: Floats | tuple[()] = (), axis: int = 0) -> int:
        return self.model.constant(f"{self.name}/{suffix}", values, scale, axis)


def _window(options: Any, op: Conv1d | DepthwiseConv1d, padding: int) -> Any:
    """Options of a convolution along time."""
    activations = schema.ActivationFunctionType
    options.padding, options.strideW, options.strideH = padding, op.stride, 1
    options.dilationWFactor, options.dilationHFactor = op.dilation, 1
    options.fusedActivationFunction = activations.RELU if op.relu else activations.NONE
    return options
