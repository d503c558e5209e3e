"""A TFLite model being written: tensors, constants and operators in, flatbuffer out. Knows nothing of students; touches no files.

The object API of the schema writes every vector anew and aligns buffers to one byte. `_Builder` shares vectors of equal content (the zero
points of all channels are zeros, many shapes and scales are alike) and aligns as the schema asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import DTypeLike, NDArray

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16  # `force_align` of Buffer.data in the schema
ABSENT = -1  # an optional input that is not given
Operator = schema.BuiltinOperator
TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
}


class Support(NamedTuple):
    """Version of an operator, and the lowest runtime known to run it in int8."""

    version: int
    runtime: tuple[int, int, int]


# The lowest versions that read int8, and weights with a scale an output channel.
SUPPORT = {
    Operator.ADD: Support(2, (1, 14, 0)),
    Operator.CONCATENATION: Support(2, (1, 14, 0)),
    Operator.CONV_2D: Support(3, (1, 14, 0)),
    Operator.DEPTHWISE_CONV_2D: Support(3, (1, 14, 0)),
    Operator.MAX_POOL_2D: Support(2, (1, 14, 0)),
    Operator.RESHAPE: Support(1, (1, 5, 0)),
    Operator.STRIDED_SLICE: Support(2, (1, 14, 0)),
    Operator.TRANSPOSE: Support(2, (1, 14, 0)),
    Operator.UNIDIRECTIONAL_SEQUENCE_LSTM: Support(2, (2, 14, 0)),  # in integers; older runtimes were not tried
}


class Model:
    """One subgraph with one signature, "serving_default"."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[bytes] = [b""]  # buffer 0 is "no data" by the format
        self._operators: list[Any] = []
        self._codes: list[int] = []

    def activation(self, name: str, shape: Sequence[int], scale: float, zero_point: int) -> int:
        """An int8 tensor that is computed; `shape` is of one window, batch included."""
        return self._tensor(name, shape, np.int8, _quantization([scale], zero_point))

    def variable(self, name: str, shape: Sequence[int], dtype: DTypeLike, scale: float, zero_point: int) -> int:
        """A tensor that the runtime keeps between two runs."""
        tensor = self._tensor(name, shape, dtype, _quantization([scale], zero_point))
        self._tensors[tensor].isVariable = True
        return tensor

    def intermediate(self, name: str, dtype: DTypeLike, scale: float, zero_point: int) -> int:
        """A scale of an operator's insides."""
        return self._tensor(name, (), dtype, _quantization([scale], zero_point))

    def constant(self, name: str, values: NDArray[Any], scale: Sequence[float] | NDArray[np.float64] = (), axis: int = 0) -> int:
        """A constant, symmetric where it has scales; constants of equal bytes share one buffer."""
        content = np.ascontiguousarray(values).tobytes()
        if content not in self._buffers:
            self._buffers.append(content)
        quantization = _quantization(scale, 0, axis) if len(scale) else None
        return self._tensor(name, values.shape, values.dtype, quantization, self._buffers.index(content))

    def operator(self, code: int, inputs: Sequence[int], output: int, options: Any, intermediates: Sequence[int] = ()) -> None:
        """Append an operator; its options tell their own type."""
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if intermediates:
            operator.intermediates = np.array(intermediates, np.int32)
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(operator)

    def pack(self, inputs: Sequence[int], output: int, *, any_batch: bool, description: str, metadata: Mapping[str, bytes]) -> bytes:
        """The flatbuffer; `metadata` is put in by name, and the lowest runtime version beside it.

        With `any_batch` inputs and output say that their first axis may have any length.
        """
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if any_batch:
            for tensor in (self._tensors[i] for i in (*inputs, output)):
                tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
        runtime = ".".join(map(str, max(SUPPORT[code].runtime for code in self._codes)))
        entries = {**metadata, "min_runtime_version": runtime.encode().ljust(16, b"\0")}
        model = schema.ModelT()
        model.version, model.subgraphs, model.description = SCHEMA_VERSION, [graph], description
        model.operatorCodes = [_operator_code(code) for code in self._codes]
        model.signatureDefs = [self._signature(graph)]
        model.metadata = [_metadata(name, len(self._buffers) + i) for i, name in enumerate(entries)]
        model.buffers = [_buffer(content) for content in (*self._buffers, *entries.values())]
        builder = _Builder(1 << 16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(self, name: str, shape: Sequence[int], dtype: DTypeLike, quantization: Any, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, np.array(shape, np.int32), TYPES[np.dtype(dtype)]
        tensor.buffer, tensor.quantization = buffer, quantization
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _signature(self, graph: Any) -> Any:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_tensor_map(self._tensors[i].name, i) for i in graph.inputs]
        signature.outputs = [_tensor_map(self._tensors[i].name, i) for i in graph.outputs]
        return signature


class _Builder(flatbuffers.Builder):  # type: ignore[misc] # the library ships no types
    """Writes vectors of equal content once, and bytes at the alignment of buffers."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        """Offset of the vector."""
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            if x.dtype == np.uint8:
                self.Prep(BUFFER_ALIGNMENT, x.size)
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def _quantization(scale: Sequence[float] | NDArray[np.float64], zero_point: int, axis: int = 0) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.asarray(scale, np.float32)
    quantization.zeroPoint = np.full(len(scale), zero_point, np.int64)
    quantization.quantizedDimension = axis
    return quantization


def _buffer(content: bytes) -> Any:
    buffer = schema.BufferT()
    if content:
        buffer.data = np.frombuffer(content, np.uint8)
    return buffer


def _operator_code(code: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode = entry.deprecatedBuiltinCode = code
    entry.version = SUPPORT[code].version
    return entry


def _metadata(name: str, buffer: int) -> Any:
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, buffer
    return entry


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
