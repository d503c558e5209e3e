"""`QuantGraph` -> ONNX in QDQ form, verified in onnxruntime before it is written.

int8 windows (N, C, T) named "input" in, int8 logits (N, K) named "logits" out. Every operator stands between DequantizeLinear and
QuantizeLinear, with weights int8 per channel and bias int32; runtimes fuse these into integer kernels.
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
from hwnas.export.comparison import Comparison, RunNode, compare, part
from hwnas.export.runtimes import OnnxSession
from hwnas.export.seal import PLACEHOLDER, seal
from hwnas.graph import OP_NAMES, Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, same_padding
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.resources import write_bytes

OPSET, IR_VERSION = 17, 8


def write(q: QuantGraph, path: Path, check: Int8) -> Comparison:
    """Write `q` to `path` after running it on windows `check` int8 (M, T, C) in onnxruntime.

    Raises:
        ExportError: the runtime refuses the file, or an operator is more than one step from the reference.
        RunError: the file cannot be written.
    """
    content = to_bytes(q)
    session = OnnxSession(content, str(path))
    comparison = compare(q, check, str(path), lambda x: session.run(x.transpose(0, 2, 1)), [_node_runner(q)])
    write_bytes(path, content)
    return comparison


def to_bytes(q: QuantGraph, nodes: Sequence[int] | None = None) -> bytes:
    """The sealed model of `q`, or of its consecutive `nodes` alone, reading the tensors that they do not make."""
    writer = _Writer(q)
    inputs, chosen = part(q, nodes)
    for index in inputs:
        writer.declare(index)
    for index in chosen:
        writer.operator(index)
    return seal(writer.pack(inputs, chosen[-1]))


def _node_runner(q: QuantGraph) -> RunNode:
    def run(index: int, inputs: list[Int8]) -> Int8:
        session = OnnxSession(to_bytes(q, [index]), f"node {index}")
        distinct = dict(zip(q.graph.nodes[index].inputs, inputs, strict=True))
        out = session.run(*(x.transpose(0, 2, 1) for x in distinct.values()))
        return np.ascontiguousarray(out.transpose(0, 2, 1)) if out.ndim == 3 else out

    return run


class _Writer:
    """Collects nodes and initialisers."""

    def __init__(self, q: QuantGraph) -> None:
        self.q = q
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def declare(self, index: int) -> None:
        """Scale and zero point of the tensor that node `index` writes, and its dequantised form, "t{index}"."""
        quant = self.q.quants[index]
        self._constant(f"scale{index}", np.float32(quant.scale))
        self._constant(f"zero{index}", np.int8(quant.zero_point))
        self._node("DequantizeLinear", [self._int8(index), f"scale{index}", f"zero{index}"], f"t{index}")

    def operator(self, index: int) -> None:
        """Append node `index`, quantised, and declare its output."""
        node = self.q.graph.nodes[index]
        op, inputs, real = node.op, [f"t{i}" for i in node.inputs], f"real{index}"
        if isinstance(op, Conv1d | DepthwiseConv1d):
            source = self.q.graph.in_shape(node)
            groups = source.channels if isinstance(op, DepthwiseConv1d) else 1
            pads = list(same_padding(source.length, op.kernel, op.stride, op.dilation))
            out = f"linear{index}" if op.relu else real
            window = {"kernel_shape": [op.kernel], "strides": [op.stride], "dilations": [op.dilation], "pads": pads}
            self._node("Conv", inputs + self._weights(index), out, group=groups, **window)
            if op.relu:
                self._node("Relu", [out], real)
        elif isinstance(op, Add):
            self._node("Add", inputs, real)
        elif isinstance(op, GlobalAvgPool):
            self._node("GlobalAveragePool", inputs, real)
        elif not isinstance(op, Dense):
            raise ExportError(f"node {index} ({OP_NAMES[type(op)]}) has no ONNX form here; export the student as C")
        else:
            # The product reads (N, C); flattening the int8 tensor keeps its DequantizeLinear beside the Gemm.
            source_index = node.inputs[0]
            self._node("Flatten", [self._int8(source_index)], f"flat{index}", axis=1)
            self._node("DequantizeLinear", [f"flat{index}", f"scale{source_index}", f"zero{source_index}"], f"tflat{index}")
            self._node("Gemm", [f"tflat{index}", *self._weights(index)], real, transB=1)
        self._node("QuantizeLinear", [real, f"scale{index}", f"zero{index}"], self._int8(index))
        self.declare(index)

    def _weights(self, index: int) -> list[str]:
        """Names of the dequantised weights and bias of node `index`."""
        node, constants = self.q.graph.nodes[index], self.q.constants[index]
        weights = constants.weights
        if isinstance(node.op, Conv1d):
            weights = weights.transpose(0, 2, 1)
        elif isinstance(node.op, DepthwiseConv1d):
            weights = weights.T[:, None]
        scale = constants.weight_scale.astype(np.float32)
        bias_scale = (constants.weight_scale * self.q.quants[node.inputs[0]].scale).astype(np.float32)
        return [
            self._dequantized(f"weights{index}", np.ascontiguousarray(weights), scale),
            self._dequantized(f"bias{index}", constants.bias, bias_scale),
        ]

    def _dequantized(self, name: str, integers: NDArray[Any], scale: NDArray[np.float32]) -> str:
        self._constant(name, integers)
        self._constant(f"{name}_scale", scale)
        self._constant(f"{name}_zero", np.zeros(len(scale), integers.dtype))
        self._node("DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], f"{name}_real", axis=0)
        return f"{name}_real"

    def pack(self, inputs: Sequence[int], output: int) -> bytes:
        """The serialised model, with the seal's placeholder in its metadata."""
        # The last DequantizeLinear has no reader: the file's output is int8.
        infos = [self._info(i) for i in inputs], [self._info(output)]
        graph = helper.make_graph(self.nodes[:-1], "hwnas_student", *infos, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="hwnas")
        model.doc_string = f"hwnas int8 student {self.q.graph.hash}; outputs: {', '.join(self.q.labels)}"
        helper.set_model_props(model, {"hwnas_seal": PLACEHOLDER, "labels": ",".join(self.q.labels)})
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _info(self, index: int) -> Any:
        node = self.q.graph.nodes[index]
        shape: list[str | int | None] = ["windows", node.shape.channels]
        shape += [] if isinstance(node.op, Dense) else [node.shape.length]
        return helper.make_tensor_value_info(self._int8(index), TensorProto.INT8, shape)

    def _int8(self, index: int) -> str:
        if index == 0:
            return "input"
        return "logits" if index == len(self.q.graph.nodes) - 1 else f"node{index}"

    def _constant(self, name: str, values: Any) -> None:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{output}", **attributes))
