"""`QuantGraph` -> ONNX in QDQ form, verified in onnxruntime before it is written.

int8 windows (N, C, T) named "input" in, int8 logits (N, K) named "logits" out, of a regression by one value "output"; what ends in another
operator than a dense layer is flattened to that, in the order of samples. Tensors of M modalities are
(N, C, M, L). Operators stand between DequantizeLinear and QuantizeLinear, with weights int8 per channel and bias int32; runtimes fuse
these into integer kernels. What only moves values is written on int8 tensors.

A pooling mean is a depthwise convolution with a small bias, because QuantizeLinear rounds halves to even and a mean of two samples is a
half every other time. ONNX has no integer LSTM: this one computes in float from the integer weights, its states are not rounded
to int8 at every sample, and so it follows the reference but does not equal it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwnas.errors import ExportError
from hwnas.export.comparison import Allowance, Allowed, Comparison, RunNode, compare, part
from hwnas.export.runtimes import OnnxSession
from hwnas.export.scales import check_scales, half_up_mean
from hwnas.export.seal import PLACEHOLDER, seal, student_mark
from hwnas.graph import (
    GATES,
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
    Padding,
    Shape,
    Split,
    Transpose,
    same_padding,
)
from hwnas.quantize.qgraph import Int8, Int32, QuantGraph, gate_scales, outputs_first
from hwnas.quantize.values import describe_outputs, output_name
from hwnas.resources import write_bytes

__all__ = ["ALLOWED", "OPSET", "to_bytes", "write"]

OPSET, IR_VERSION = 17, 8
GATE_ORDER = (0, 3, 1, 2)  # ONNX has the gates input, output, forget, cell
# Reported; the limit only tells a wrong file from one whose states are neither rounded nor clipped.
ALLOWED: Allowed = {Lstm: Allowance(32, 0.75)}
Floats = NDArray[np.float64]


def write(q: QuantGraph, path: Path, check: Int8) -> Comparison:
    """Write `q` to `path` after running it on windows `check` int8 (M, T, C) in onnxruntime.

    Raises:
        ExportError: an operator or a scale that the format lacks, no windows, a runtime that refuses the file, or an operator further
            from the reference than `ALLOWED` says (1 step where it says nothing).
        RunError: the file cannot be written.
    """
    check_scales(q, str(path))
    content = to_bytes(q)
    session = OnnxSession(content, str(path))
    whole = {"onnxruntime": lambda x: session.run(x.transpose(0, 2, 1)).reshape(len(x), -1)}
    comparison = compare(q, check, str(path), whole, [_node_runner(q)], ALLOWED)
    write_bytes(path, content)
    return comparison


def to_bytes(q: QuantGraph, nodes: Sequence[int] | None = None) -> bytes:
    """The sealed model of `q`, or of its consecutive `nodes` alone, reading the tensors that they do not make."""
    writer = _Writer(q)
    inputs, chosen = part(q, nodes)
    for index in chosen:
        writer.operator(index)
    return seal(writer.pack(inputs, chosen[-1]))


def _node_runner(q: QuantGraph) -> RunNode:
    def run(index: int, inputs: list[Int8]) -> Int8:
        session = OnnxSession(to_bytes(q, [index]), f"node {index}")
        read = dict(zip(q.graph.nodes[index].inputs, inputs, strict=True))  # a node may read one tensor twice
        out = session.run(*(_channels_first(x, q.graph.nodes[i].shape) for i, x in read.items()))
        return np.ascontiguousarray(np.moveaxis(out, 1, -1))

    return run


def _channels_first(x: Int8, shape: Shape) -> Int8:
    """(N, rows, C) as (N, C, L), or (N, C, M, L) of several modalities."""
    return np.moveaxis(x.reshape(len(x), *_axes(shape), shape.channels), -1, 1)


def _axes(shape: Shape) -> tuple[int, ...]:
    """Lengths of what stands behind the channels."""
    return (shape.modalities, shape.length) if shape.modalities > 1 else (shape.length,)


class _Writer:
    """Collects nodes and initialisers. The tensor of node 3 is "node3" in int8 and "node3_real" dequantised."""

    def __init__(self, q: QuantGraph) -> None:
        self.q = q
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def operator(self, index: int) -> None:
        """Append node `index`.

        Raises:
            ExportError: an operator that has no form here.
        """
        node = self.q.graph.nodes[index]
        op, source, first = node.op, self.q.graph.in_shape(node), node.inputs[0]
        if isinstance(op, Conv1d | DepthwiseConv1d):
            constants = self.q.constants[index]
            padding = same_padding(source.length, op.kernel, op.stride, op.dilation)
            self._conv(index, op, constants.weights, constants.weight_scale, constants.bias, padding)
        elif isinstance(op, Dense):
            self._dense(index)
        elif isinstance(op, Add | Concat):
            attributes = {"axis": 1} if isinstance(op, Concat) else {}
            self._quantize(index, type(op).__name__, [self._real(i) for i in node.inputs], **attributes)
        elif isinstance(op, AvgPool1d):
            self._conv(index, DepthwiseConv1d(op.kernel, op.stride, relu=False), *half_up_mean(op.kernel, source.channels), Padding(0, 0))
        elif isinstance(op, MaxPool1d):
            flat = (1,) * (len(_axes(source)) - 1)
            self._quantize(index, "MaxPool", [self._real(first)], kernel_shape=[*flat, op.kernel], strides=[*flat, op.stride])
        elif isinstance(op, GlobalAvgPool):
            self._quantize(index, "GlobalAveragePool", [self._real(first)])
        elif isinstance(op, Lstm):
            self._lstm(index, op)
        elif isinstance(op, Split):
            self._node("Unsqueeze", [self._int8(first), self._constant(f"axes{index}", np.array([1]))], self._int8(index))
        elif isinstance(op, Join):
            swapped = self._node("Transpose", [self._int8(first)], f"swapped{index}", perm=[0, 2, 1, 3])
            shape = self._constant(f"shape{index}", np.array([0, node.shape.channels, node.shape.length]))
            self._node("Reshape", [swapped, shape], self._int8(index))
        elif isinstance(op, Transpose):
            one = self._constant(f"axes{index}", np.array([len(_axes(source)) + 1]))
            matrix = self._node("Squeeze", [self._int8(first), one], f"matrix{index}") if source.modalities > 1 else self._int8(first)
            self._node("Transpose", [matrix], self._int8(index), perm=[0, 2, 1])
        else:
            raise ExportError(f"node {index} ({type(op).__name__}) has no ONNX form; export the student as C")

    def _conv(self, index: int, op: Conv1d | DepthwiseConv1d, weights: Int8, scale: Floats, bias: Int32, padding: Padding) -> None:
        """`weights` as in `QuantWeights`."""
        node = self.q.graph.nodes[index]
        source, first = self.q.graph.in_shape(node), node.inputs[0]
        depthwise = isinstance(op, DepthwiseConv1d)
        filters = outputs_first(op, weights)
        flat = len(_axes(source)) - 1
        window = {
            "kernel_shape": [*[1] * flat, op.kernel],
            "strides": [*[1] * flat, op.stride],
            "dilations": [*[1] * flat, op.dilation],
            "pads": [*[0] * flat, padding.left, *[0] * flat, padding.right],
            "group": source.channels if depthwise else 1,
        }
        shape = (*filters.shape[:2], *[1] * flat, op.kernel)
        inputs = [self._real(first), *self._weights(index, filters.reshape(shape), scale, bias)]
        if op.relu:
            self._quantize(index, "Relu", [self._node("Conv", inputs, f"linear{index}", **window)])
        else:
            self._quantize(index, "Conv", inputs, **window)

    def _dense(self, index: int) -> None:
        """Flattening the int8 tensor keeps its DequantizeLinear beside the Gemm. The logits are (N, K), other outputs (N, K, 1)."""
        node, constants = self.q.graph.nodes[index], self.q.constants[index]
        first, head = node.inputs[0], self._is_head(index)
        flat = self._node("Flatten", [self._int8(first)], f"flat{index}", axis=1)
        real = self._node("DequantizeLinear", [flat, *self._scales(first)], f"flat{index}_real")
        inputs = [real, *self._weights(index, constants.weights, constants.weight_scale, constants.bias)]
        real = self._node("Gemm", inputs, f"real{index}", transB=1)
        out = self._node("QuantizeLinear", [real, *self._scales(index)], self._int8(index) if head else f"units{index}")
        if not head:
            self._node("Unsqueeze", [out, self._constant(f"axes{index}", np.array([2]))], self._int8(index))

    def _lstm(self, index: int, op: Lstm) -> None:
        """(N, C, L) -> (L, N, C), the LSTM, and back."""
        node, constants = self.q.graph.nodes[index], self.q.lstms[index]
        read, hidden = self.q.quants[node.inputs[0]].scale, self.q.quants[index].scale
        channels = self.q.graph.in_shape(node).channels
        # Rows gate by gate, in ONNX's order of gates.
        weights = constants.weights.transpose(1, 0, 2)[list(GATE_ORDER)].reshape(1, GATES * op.units, -1)
        bias = constants.bias.T[list(GATE_ORDER)].reshape(1, -1)
        acc_scale = gate_scales(constants).T[list(GATE_ORDER)].reshape(-1)
        inputs = [
            self._node("Transpose", [self._real(node.inputs[0])], f"series{index}", perm=[2, 0, 1]),
            self._dequantized(f"weights{index}", weights[..., :channels], acc_scale / read, 1),
            self._dequantized(f"recurrent{index}", weights[..., channels:], acc_scale / hidden, 1),
            self._dequantized(f"bias{index}", np.concatenate([bias, np.zeros_like(bias)], axis=1), np.tile(acc_scale, 2), 1),
        ]
        states, last = f"states{index}", f"last{index}"
        self.nodes.append(helper.make_node("LSTM", inputs, [states, last], name=f"LSTM_{index}", hidden_size=op.units))
        if op.last:
            self._quantize(index, "Transpose", [last], perm=[1, 2, 0])
        else:
            flat = self._node("Squeeze", [states, self._constant(f"axes{index}", np.array([1]))], f"flat{index}")
            self._quantize(index, "Transpose", [flat], perm=[1, 2, 0])

    def _weights(self, index: int, weights: Int8, scale: Floats, bias: Int32) -> list[str]:
        """Names of the dequantised weights, (out, ...) and bias of node `index`; a single scale is that of all outputs."""
        source = self.q.graph.nodes[index].inputs[0]
        scale = np.broadcast_to(scale, len(weights))
        return [
            self._dequantized(f"weights{index}", weights, scale, 0),
            self._dequantized(f"bias{index}", bias, scale * self.q.quants[source].scale, 0),
        ]

    def _dequantized(self, name: str, integers: NDArray[Any], scale: Floats, axis: int) -> str:
        inputs = [
            self._constant(name, np.ascontiguousarray(integers)),
            self._constant(f"{name}_scale", scale.astype(np.float32)),
            self._constant(f"{name}_zero", np.zeros(len(scale), integers.dtype)),
        ]
        return self._node("DequantizeLinear", inputs, f"{name}_real", axis=axis)

    def _quantize(self, index: int, kind: str, inputs: list[str], **attributes: Any) -> None:
        """Append the operator that makes the output of node `index`, and its quantisation."""
        real = self._node(kind, inputs, f"real{index}", **attributes)
        self._node("QuantizeLinear", [real, *self._scales(index)], self._int8(index))

    def _real(self, index: int) -> str:
        """The dequantised tensor that node `index` writes."""
        name = f"node{index}_real"
        if not any(name in node.output for node in self.nodes):
            self._node("DequantizeLinear", [self._int8(index), *self._scales(index)], name)
        return name

    def _scales(self, index: int) -> list[str]:
        quant = self.q.quants[index]
        return [self._constant(f"scale{index}", np.float32(quant.scale)), self._constant(f"zero{index}", np.int8(quant.zero_point))]

    def _int8(self, index: int) -> str:
        if index == 0:
            return "input"
        return output_name(self.q.labels) if self._is_head(index) else f"node{index}"

    def _is_head(self, index: int) -> bool:
        """Whether node `index` is the dense layer that the student ends in: its outputs are (N, K) as they are."""
        return index == len(self.q.graph.nodes) - 1 and isinstance(self.q.graph.nodes[index].op, Dense)

    def _flat(self, index: int) -> str:
        """The outputs (N, K) of a student that ends in node `index`, which is no dense layer."""
        shape, name = self.q.graph.nodes[index].shape, self._int8(index)
        if shape.channels > 1 and shape.length > 1:
            name = self._node("Transpose", [name], f"rows{index}", perm=[0, 2, 1])
        return self._node("Flatten", [name], output_name(self.q.labels), axis=1)

    def _constant(self, name: str, values: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
        return output

    def pack(self, inputs: Sequence[int], output: int) -> bytes:
        """The serialised model, with the seal's placeholder in its metadata."""
        infos = [self._info(i) for i in inputs], [self._output(output)]
        graph = helper.make_graph(self.nodes, "hwnas_student", *infos, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="hwnas")
        model.doc_string = f"hwnas int8 student {self.q.graph.hash}; outputs: {describe_outputs(self.q.labels)}"
        facts = {"graph": self.q.graph.hash, "labels": ",".join(self.q.labels)}
        helper.set_model_props(model, facts | {"hwnas_seal": PLACEHOLDER, "hwnas_student": student_mark(self.q)})
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"the ONNX form of student {self.q.graph.hash} is not valid: {error}; report this") from error
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _info(self, index: int) -> Any:
        shape = self.q.graph.nodes[index].shape
        return helper.make_tensor_value_info(self._int8(index), TensorProto.INT8, ["windows", shape.channels, *_axes(shape)])

    def _output(self, index: int) -> Any:
        """What the model answers: the outputs (N, K) of the student, or a tensor in its midst."""
        if index < len(self.q.graph.nodes) - 1:
            return self._info(index)
        name = self._int8(index) if self._is_head(index) else self._flat(index)
        return helper.make_tensor_value_info(name, TensorProto.INT8, ["windows", self.q.graph.output_shape.elements])
