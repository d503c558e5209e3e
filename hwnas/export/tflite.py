"""`QuantGraph` -> TFLite flatbuffer, without TensorFlow, verified in tflite-runtime before it is written.

A window is a picture of height 1: NHWC (N, 1, T, C). Operator versions are those of int8 with per-channel weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from hwnas.errors import ExportError
from hwnas.export.comparison import Comparison, RunNode, compare, part
from hwnas.export.runtimes import TfliteKernels, TfliteSession
from hwnas.export.seal import PLACEHOLDER, seal
from hwnas.graph import OP_NAMES, Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Shape
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.resources import write_bytes

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
DESCRIPTION = "hwnas int8 student"
Operator = schema.BuiltinOperator
VERSIONS = {Operator.CONV_2D: 3, Operator.DEPTHWISE_CONV_2D: 3, Operator.ADD: 2, Operator.MEAN: 2, Operator.FULLY_CONNECTED: 4}


def write(q: QuantGraph, path: Path, check: Int8) -> Comparison:
    """Write `q` to `path` after running it on windows `check` int8 (M, T, C) in tflite-runtime.

    The figures end to end are those of the built-in kernels; every operator is tried with each of `TfliteKernels`.

    Raises:
        ExportError: the runtime refuses the file, or an operator is more than one step from the reference.
        RunError: the file cannot be written.
    """
    content = to_bytes(q)
    session = TfliteSession(content, str(path), TfliteKernels.BUILTIN)
    nodes = [_node_runner(q, kernels) for kernels in TfliteKernels]
    comparison = compare(q, check, str(path), lambda x: session.run(x[:, None]).reshape(len(x), -1), nodes)
    write_bytes(path, content)
    return comparison


def to_bytes(q: QuantGraph, nodes: Sequence[int] | None = None) -> bytes:
    """The sealed flatbuffer of `q`, or of its consecutive `nodes` alone, reading the tensors that they do not make."""
    writer = _Writer(q)
    inputs, chosen = part(q, nodes)
    for index in inputs:
        writer.activation(index, "input" if index == 0 else f"node{index}")
    for index in chosen:
        writer.activation(index, "logits" if index == len(q.graph.nodes) - 1 else f"node{index}")
        writer.operator(index)
    return seal(writer.pack(inputs, chosen[-1]))


def _node_runner(q: QuantGraph, kernels: TfliteKernels) -> RunNode:
    def run(index: int, inputs: list[Int8]) -> Int8:
        session = TfliteSession(to_bytes(q, [index]), f"node {index}", kernels)
        distinct = dict(zip(q.graph.nodes[index].inputs, inputs, strict=True))
        return session.run(*(x[:, None] for x in distinct.values()))

    return run


class _Writer:
    """Collects tensors, buffers and operators in the object API of the schema."""

    def __init__(self, q: QuantGraph) -> None:
        self.q = q
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [_buffer(None)]  # buffer 0 is "no data" by the format
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.of_node: dict[int, int] = {}

    def activation(self, index: int, name: str) -> None:
        """Declare the tensor that node `index` writes."""
        shape, quant = self.q.graph.nodes[index].shape, self.q.quants[index]
        quantization = _quantization([quant.scale], quant.zero_point, 0)
        self.of_node[index] = self._tensor(name, _nhwc(shape), schema.TensorType.INT8, 0, quantization)
        self.tensors[-1].shapeSignature = np.array([-1, *_nhwc(shape)[1:]], np.int32)

    def operator(self, index: int) -> None:
        """Append node `index`; its inputs and its output are declared already."""
        node = self.q.graph.nodes[index]
        inputs = [self.of_node[i] for i in node.inputs]
        if isinstance(node.op, Conv1d | DepthwiseConv1d | Dense):
            inputs += self._constants(index)
        if isinstance(node.op, GlobalAvgPool):
            inputs.append(self._constant(f"node{index}_axes", np.array([1, 2], np.int32), None))
        code, kind, options = _options(node.op)
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([self.of_node[index]], np.int32)
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)

    def _constants(self, index: int) -> list[int]:
        """Weights and bias of node `index`, in TFLite's order of axes."""
        node, constants = self.q.graph.nodes[index], self.q.constants[index]
        weights, axis = constants.weights, 0
        if isinstance(node.op, Conv1d):
            weights = weights[:, None]  # (out, 1, kernel, in)
        elif isinstance(node.op, DepthwiseConv1d):
            weights, axis = weights[None, None], 3  # (1, 1, kernel, channels)
        bias_scale = constants.weight_scale * self.q.quants[node.inputs[0]].scale
        return [
            self._constant(f"node{index}_weights", weights, _quantization(constants.weight_scale, 0, axis)),
            self._constant(f"node{index}_bias", constants.bias, _quantization(bias_scale, 0, 0)),
        ]

    def _constant(self, name: str, values: NDArray[Any], quantization: Any) -> int:
        self.buffers.append(_buffer(values.tobytes()))
        kind = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
        return self._tensor(name, values.shape, kind, len(self.buffers) - 1, quantization)

    def _tensor(self, name: str, shape: Sequence[int], kind: int, buffer: int, quantization: Any) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, np.array(shape, np.int32), kind
        tensor.buffer, tensor.quantization = buffer, quantization
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def pack(self, inputs: Sequence[int], output: int) -> bytes:
        """The flatbuffer, with the seal's placeholder in its metadata."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs = np.array([self.of_node[i] for i in inputs], np.int32)
        graph.outputs = np.array([self.of_node[output]], np.int32)
        model = schema.ModelT()
        model.version, model.subgraphs = SCHEMA_VERSION, [graph]
        model.description = f"{DESCRIPTION} {self.q.graph.hash}; outputs: {', '.join(self.q.labels)}"
        model.operatorCodes = [_operator_code(code) for code in self.codes]
        model.signatureDefs = [self._signature(graph)]
        model.metadata = [schema.MetadataT()]
        model.metadata[0].name, model.metadata[0].buffer = "hwnas_seal", len(self.buffers)
        model.buffers = [*self.buffers, _buffer(PLACEHOLDER.encode())]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _signature(self, graph: Any) -> Any:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_tensor_map(self.tensors[i].name, i) for i in graph.inputs]
        signature.outputs = [_tensor_map(self.tensors[i].name, i) for i in graph.outputs]
        return signature


def _options(op: Any) -> tuple[int, int, Any]:
    """Builtin operator, type of its options, and the options."""
    kinds, relu = schema.BuiltinOptions, schema.ActivationFunctionType.RELU
    none = schema.ActivationFunctionType.NONE
    options: Any
    if isinstance(op, Conv1d | DepthwiseConv1d):
        depthwise = isinstance(op, DepthwiseConv1d)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = schema.Padding.SAME, op.stride, op.stride
        options.dilationWFactor, options.dilationHFactor = op.dilation, 1
        options.fusedActivationFunction = relu if op.relu else none
        if depthwise:
            options.depthMultiplier = 1
            return Operator.DEPTHWISE_CONV_2D, kinds.DepthwiseConv2DOptions, options
        return Operator.CONV_2D, kinds.Conv2DOptions, options
    if isinstance(op, Add):
        options = schema.AddOptionsT()
        options.fusedActivationFunction = none
        return Operator.ADD, kinds.AddOptions, options
    if isinstance(op, GlobalAvgPool):
        options = schema.ReducerOptionsT()
        options.keepDims = True
        return Operator.MEAN, kinds.ReducerOptions, options
    if not isinstance(op, Dense):
        raise ExportError(f"operator {OP_NAMES[type(op)]} has no TFLite form here; export the student as C")
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = none
    return Operator.FULLY_CONNECTED, kinds.FullyConnectedOptions, options


def _nhwc(shape: Shape) -> tuple[int, ...]:
    return 1, 1, shape.length, shape.channels


def _quantization(scale: Sequence[float] | NDArray[np.float64], zero_point: int, axis: int) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.asarray(scale, np.float32)
    quantization.zeroPoint = np.full(len(scale), zero_point, np.int64)
    quantization.quantizedDimension = axis
    return quantization


def _buffer(content: bytes | None) -> Any:
    buffer = schema.BufferT()
    if content is not None:
        buffer.data = np.frombuffer(content, np.uint8)
    return buffer


def _operator_code(code: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode = entry.deprecatedBuiltinCode = code
    entry.version = VERSIONS[code]
    return entry


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
