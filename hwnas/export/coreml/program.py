"""`QuantGraph` -> an ML program of coremltools, in memory. No files.

Between operators a tensor is (1, C, M, L): a picture whose M rows are the modalities. Node 3 writes "node3", the last one "logits" (of a
regression by one value "output"), (1, K). Behind it stands the read-out: "probabilities", or "value" in its unit, or both where classes
stand for a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.graph import (
    OP_NAMES,
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
    Node,
    Split,
    Transpose,
    same_padding,
)
from hwnas.quantize.qgraph import Doubles, Int8, QuantGraph, gate_scales, outputs_first
from hwnas.quantize.values import Value, output_name, value_of

INPUT, PROBABILITIES, VALUE = "input", "probabilities", "value"
CORE_ML_GATES = (0, 1, 3, 2)  # our i, f, g, o in the order of CoreML: i, f, o, g
DEQUANTIZE = "constexpr_affine_dequantize"
Var = Any  # of coremltools, which carries no types


def tensor_name(q: QuantGraph, index: int) -> str:
    """Name of the tensor that node `index` writes."""
    if index == 0:
        return INPUT
    return output_name(q.labels) if index == len(q.graph.nodes) - 1 else f"node{index}"


def read_out_name(q: QuantGraph) -> str:
    """Name of what the outputs are read out as."""
    return PROBABILITIES if value_of(q.labels) is None else VALUE


def build(q: QuantGraph, mb: Any, opset: Any) -> Any:
    """The ML program of `q` for coremltools' builder `mb` and the operator set `opset`.

    Raises:
        ExportError: the student ends in neither a dense layer nor a convolution of one channel, or has an operator without a CoreML form.
    """
    nodes, shape = q.graph.nodes, q.graph.input_shape
    if not (isinstance(nodes[-1].op, Dense) or (isinstance(nodes[-1].op, Conv1d) and nodes[-1].shape.channels == 1)):
        raise ExportError(
            f"the student ends in '{OP_NAMES[type(nodes[-1].op)]}' of {nodes[-1].shape.channels} channels; a CoreML package needs a dense "
            "layer or a convolution of one channel as its last"
        )

    def body(input: Var) -> tuple[Var, ...]:
        tensors = [mb.expand_dims(x=input, axes=[2], name="window")]
        for index, node in enumerate(nodes[1:], start=1):
            tensors.append(_Writer(q, mb, index, tensor_name(q, index)).write([tensors[i] for i in node.inputs]))
        outputs, value = tensors[-1], value_of(q.labels)
        if isinstance(value, Value):
            spread = mb.mul(x=outputs, y=np.float32(value.span), name="spread")
            return outputs, mb.add(x=spread, y=np.float32(value.centre), name=VALUE)
        probabilities = mb.softmax(x=outputs, axis=-1, name=PROBABILITIES)
        if value is None:
            return outputs, probabilities
        weighted = mb.mul(x=probabilities, y=value.middles[None].astype(np.float32), name="weighted")
        return outputs, probabilities, mb.reduce_sum(x=weighted, axes=[1], keep_dims=True, name=VALUE)

    spec = mb.TensorSpec(shape=(1, shape.channels, shape.length))
    return mb.program(input_specs=[spec], opset_version=opset)(body)


class _Writer:
    """Appends node `index` to the program under construction."""

    def __init__(self, q: QuantGraph, mb: Any, index: int, name: str) -> None:
        self._q, self._mb, self._index, self._name = q, mb, index, name
        self._node: Node = q.graph.nodes[index]
        self._source = q.graph.in_shape(self._node)
        self._source_scale = q.quants[self._node.inputs[0]].scale

    def write(self, inputs: list[Var]) -> Var:
        """The tensor that the node writes, (1, C, M, L), or (1, K) for the logits."""
        x, mb, name = inputs[0], self._mb, self._name
        op = self._node.op
        if isinstance(op, Add):
            return mb.add(x=x, y=inputs[1], name=name)
        if isinstance(op, Concat):
            return mb.concat(values=inputs, axis=1, name=name)
        if isinstance(op, GlobalAvgPool):
            return mb.reduce_mean(x=x, axes=[3], keep_dims=True, name=name)
        if isinstance(op, Split):
            return mb.reshape(x=x, shape=(1, 1, self._source.channels, self._source.length), name=name)
        if isinstance(op, Transpose):
            return mb.transpose(x=x, perm=[0, 2, 3, 1], name=name)
        writers: dict[type, Callable[[Any, Var], Var]] = {
            Conv1d: self._convolution,
            DepthwiseConv1d: self._convolution,
            AvgPool1d: self._pool,
            MaxPool1d: self._pool,
            Dense: self._dense,
            Lstm: self._lstm,
            Join: self._join,
        }
        if type(op) not in writers:
            raise ExportError(f"node {self._index} ({OP_NAMES[type(op)]}) has no CoreML form here; export the student as C")
        return writers[type(op)](op, x)

    def _convolution(self, op: Conv1d | DepthwiseConv1d, x: Var) -> Var:
        constants, last = self._q.constants[self._index], self._index == len(self._q.graph.nodes) - 1
        name = f"{self._name}_row" if last else self._name
        weights = outputs_first(op, constants.weights)[:, :, None]
        groups = self._source.channels if isinstance(op, DepthwiseConv1d) else 1
        left, right = same_padding(self._source.length, op.kernel, op.stride, op.dilation)
        y = self._mb.conv(
            x=x,
            weight=self._expanded("weights", weights, constants.weight_scale),
            bias=(constants.bias * constants.weight_scale * self._source_scale).astype(np.float32),
            strides=[1, op.stride],
            pad_type="custom",
            pad=[0, 0, left, right],
            dilations=[1, op.dilation],
            groups=groups,
            name=f"{name}_linear" if op.relu else name,
        )
        y = self._mb.relu(x=y, name=name) if op.relu else y
        return self._mb.reshape(x=y, shape=(1, self._node.shape.elements), name=self._name) if last else y

    def _pool(self, op: AvgPool1d | MaxPool1d, x: Var) -> Var:
        window = {"kernel_sizes": [1, op.kernel], "strides": [1, op.stride], "pad_type": "valid"}
        pool = self._mb.avg_pool if isinstance(op, AvgPool1d) else self._mb.max_pool
        return pool(x=x, **window, name=self._name)

    def _dense(self, op: Dense, x: Var) -> Var:
        constants = self._q.constants[self._index]
        flat = self._mb.squeeze(x=x, axes=[2, 3], name=f"{self._name}_in")
        weights = self._expanded("weights", constants.weights, constants.weight_scale)
        bias = (constants.bias * constants.weight_scale * self._source_scale).astype(np.float32)
        if self._index == len(self._q.graph.nodes) - 1:
            return self._mb.linear(x=flat, weight=weights, bias=bias, name=self._name)
        y = self._mb.linear(x=flat, weight=weights, bias=bias, name=f"{self._name}_flat")
        return self._mb.expand_dims(x=y, axes=[2, 3], name=self._name)

    def _lstm(self, op: Lstm, x: Var) -> Var:
        """CoreML's LSTM reads (L, 1, C)."""
        constants, name, mb = self._q.lstms[self._index], self._name, self._mb
        stored = constants.weights, gate_scales(constants), constants.bias
        weights, rows, bias = (outputs_first(op, values[:, CORE_ML_GATES]) for values in stored)
        channels = self._source.channels
        hidden_scale = self._q.quants[self._index].scale
        sequence = mb.transpose(x=mb.squeeze(x=x, axes=[2], name=f"{name}_in"), perm=[2, 0, 1], name=f"{name}_sequence")
        start = np.zeros((1, op.units), np.float32)
        steps, last, _ = mb.lstm(
            x=sequence,
            initial_h=start,
            initial_c=start,
            weight_ih=self._expanded("weights", weights[:, :channels], rows / self._source_scale),
            weight_hh=self._expanded("recurrent", weights[:, channels:], rows / hidden_scale),
            bias=(bias * rows).astype(np.float32),
            direction="forward",
            output_sequence=not op.last,
            name=f"{name}_lstm",
        )
        if op.last:
            return mb.expand_dims(x=last, axes=[2, 3], name=name)
        return mb.expand_dims(x=mb.transpose(x=steps, perm=[1, 2, 0], name=f"{name}_out"), axes=[2], name=name)

    def _join(self, op: Join, x: Var) -> Var:
        rows = self._mb.transpose(x=x, perm=[0, 2, 1, 3], name=f"{self._name}_rows")
        return self._mb.reshape(x=rows, shape=(1, self._node.shape.channels, 1, self._node.shape.length), name=self._name)

    def _expanded(self, what: str, weights: Int8, scale: Doubles) -> Var:
        """Our int8 weights (outputs first) with one scale a row, which CoreML expands when it loads the model."""
        dequantize = getattr(self._mb, DEQUANTIZE)
        return dequantize(
            quantized_data=np.ascontiguousarray(weights),
            zero_point=np.int8(0),
            scale=scale.astype(np.float32),
            axis=np.int32(0),
            name=f"{self._name}_{what}",
        )
