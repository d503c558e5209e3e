"""Operators and `Graph`: the one description of a student. Pure Python; no torch, no files.

Everything that must agree about a student (trained module, cost, integer arithmetic, ONNX, TFLite, C) is derived
from its `Graph`. Shapes are `(channels, length)` of one window; tensors are named by the node that writes them.

Between `Split` and `Join` or `Transpose` a tensor holds several modalities: signals of one shape, one after the other in memory.
Convolutions, pools and sums treat each alike, with the same weights, as a 2-D operator of height 1 treats the rows of a picture.

Padding of convolutions is SAME as TFLite defines it: `out = ceil(in / stride)`,
`total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - in, 0)`, `left = total // 2`; pooling windows are not padded (VALID).
Batch normalisation is not an operator: every convolution is followed by one in training, and it is folded into the convolution before
anything is costed or exported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from hwnas.errors import GraphError, UsageError, lookup


class Shape(NamedTuple):
    """Shape of one window's tensor: `channels` x `length` samples, of each of its `modalities`."""

    channels: int
    length: int
    modalities: int = 1

    def __repr__(self) -> str:
        several = f", modalities={self.modalities}" if self.modalities > 1 else ""
        return f"Shape(channels={self.channels}, length={self.length}{several})"

    @property
    def rows(self) -> int:
        """Time steps of all modalities: tensors lie in memory as `rows` x `channels`."""
        return self.length * self.modalities

    @property
    def elements(self) -> int:
        """Number of values; in int8 also the number of bytes."""
        return self.channels * self.rows


class Padding(NamedTuple):
    """Samples of zero to the left and right of a signal."""

    left: int
    right: int


def same_length(length: int, stride: int) -> int:
    """Output length of a SAME-padded operator."""
    return -(-length // stride)


def same_padding(length: int, kernel: int, stride: int, dilation: int = 1) -> Padding:
    """SAME padding of TFLite for one axis; the odd sample goes to the right."""
    total = max((same_length(length, stride) - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    return Padding(total // 2, total - total // 2)


@dataclass(frozen=True, slots=True)
class Input:
    """The window itself."""

    channels: int
    length: int


@dataclass(frozen=True, slots=True)
class Conv1d:
    """Convolution over all input channels, batch norm folded, optional ReLU. `kernel == 1` is a pointwise convolution."""

    out_channels: int
    kernel: int = 1
    stride: int = 1
    relu: bool = True
    dilation: int = 1


@dataclass(frozen=True, slots=True)
class DepthwiseConv1d:
    """One filter a channel, batch norm folded, optional ReLU."""

    kernel: int
    stride: int = 1
    relu: bool = True
    dilation: int = 1


@dataclass(frozen=True, slots=True)
class Add:
    """Element-wise sum of two tensors of one shape (residual), no activation."""


@dataclass(frozen=True, slots=True)
class Concat:
    """Two tensors of one length side by side: (C1, L), (C2, L) -> (C1 + C2, L)."""


@dataclass(frozen=True, slots=True)
class AvgPool1d:
    """Mean over windows inside the signal: (C, L) -> (C, (L - kernel) // stride + 1)."""

    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class MaxPool1d:
    """Largest value of windows inside the signal: (C, L) -> (C, (L - kernel) // stride + 1)."""

    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """Mean over time: (C, L) -> (C, 1)."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Fully connected head with bias and no activation: (C, 1) -> (units, 1)."""

    units: int


@dataclass(frozen=True, slots=True)
class Lstm:
    """Long short-term memory over time, gates input, forget, cell, output, starting from zero: (C, L) -> (units, L).

    With `last` it writes only the hidden state after the last sample: (units, 1).
    """

    units: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Every channel becomes a modality: (C, L) -> C modalities of (1, L)."""


@dataclass(frozen=True, slots=True)
class Join:
    """Modalities become channels, those of the first modality first: M modalities of (C, L) -> (M * C, L)."""


@dataclass(frozen=True, slots=True)
class Transpose:
    """Channels become time, modalities become channels: M modalities of (C, 1) -> (M, C).

    After a bank of filters and a mean over time, its "time" is frequency.
    """


Op = Input | Conv1d | DepthwiseConv1d | Add | Concat | AvgPool1d | MaxPool1d | GlobalAvgPool | Dense | Lstm | Split | Join | Transpose
OPS: dict[str, type[Any]] = {
    "input": Input,
    "conv1d": Conv1d,
    "depthwise_conv1d": DepthwiseConv1d,
    "add": Add,
    "concat": Concat,
    "avg_pool1d": AvgPool1d,
    "max_pool1d": MaxPool1d,
    "global_avg_pool": GlobalAvgPool,
    "dense": Dense,
    "lstm": Lstm,
    "split": Split,
    "join": Join,
    "transpose": Transpose,
}
OP_NAMES = {cls: name for name, cls in OPS.items()}
GATES = 4  # of an LSTM unit
FORMAT = "hwnas-graph-1"
ARITY = {Input: 0, Add: 2, Concat: 2}
FLAGS = ("relu", "last")
EACH_MODALITY = (Conv1d, DepthwiseConv1d, Add, AvgPool1d, MaxPool1d)  # what may stand between `Split` and `Join`


@dataclass(frozen=True, slots=True)
class Node:
    """One operator, the nodes it reads (indices into `Graph.nodes`), and the shape it writes."""

    op: Op
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class Graph:
    """A student: nodes in execution order, node 0 the input, the last node the output.

    Raises:
        GraphError: a node reads a later node, has the wrong number of inputs, or shapes do not fit.
    """

    nodes: tuple[Node, ...]

    @property
    def input_shape(self) -> Shape:
        return self.nodes[0].shape

    @property
    def output_shape(self) -> Shape:
        return self.nodes[-1].shape

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def in_shape(self, node: Node) -> Shape:
        """Shape of the first tensor that `node` reads."""
        return self.nodes[node.inputs[0]].shape

    def check_windows(self, shape: Sequence[int]) -> None:
        """Raise GraphError unless a batch of that shape, (B, C, T), holds windows of the graph's input."""
        channels, length, _ = self.input_shape
        if tuple(shape[1:]) != (channels, length):
            raise GraphError(f"the student reads windows of {channels} channels x {length} samples, got shape {tuple(shape)}")

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one window: convolutions, dense layers, matrix products of LSTMs; not bias, pooling, sums."""
        return sum(node_macs(n, self.in_shape(n)) for n in self.nodes[1:])

    @cached_property
    def parameters(self) -> int:
        """Weights and biases after batch-norm folding."""
        return sum(node_weights(n, self.in_shape(n)) + node_biases(n) for n in self.nodes[1:])

    @cached_property
    def hash(self) -> str:
        """Content hash of the canonical form: equal for two candidates exactly when they are the same network."""
        return hashlib.sha256(repr(self.nodes).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The graph as JSON text, readable back by `Graph.from_json`."""
        nodes = [{"op": OP_NAMES[type(n.op)], **asdict(n.op), "inputs": list(n.inputs)} for n in self.nodes]
        return json.dumps({"format": FORMAT, "nodes": nodes}, indent=1)

    @staticmethod
    def from_json(text: str) -> Graph:
        """Parse `to_json` text.

        Raises:
            GraphError: not such a text, or an inconsistent graph.
        """
        try:
            builder = GraphBuilder()
            for row in json.loads(text)["nodes"]:
                fields = {k: v for k, v in row.items() if k not in ("op", "inputs")}
                _check_types(fields | {f"inputs[{i}]": v for i, v in enumerate(row["inputs"])})
                builder.add(lookup(OPS, row["op"], "operator")(**fields), *row["inputs"])
            return builder.build()
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise GraphError(f"not a hwnas graph: {error}; expected what `graph.json` of a student holds") from error


def _check_types(fields: dict[str, Any]) -> None:
    """Everything in a graph is a whole number but the flags; Python would accept 1.5 or True in their place."""
    for name, value in fields.items():
        if type(value) is not (bool if name in FLAGS else int):
            raise TypeError(f"{name} = {value!r}")


def node_macs(node: Node, source: Shape) -> int:
    """Multiply-accumulates of one node reading a tensor of shape `source`."""
    op = node.op
    if isinstance(op, Conv1d):
        return node.shape.rows * op.out_channels * op.kernel * source.channels
    if isinstance(op, DepthwiseConv1d):
        return node.shape.elements * op.kernel
    if isinstance(op, Lstm):
        return source.length * node_weights(node, source)
    return source.channels * op.units if isinstance(op, Dense) else 0


def node_weights(node: Node, source: Shape) -> int:
    """Number of weights of one node (bias not counted)."""
    op = node.op
    if isinstance(op, Conv1d):
        return op.out_channels * op.kernel * source.channels
    if isinstance(op, DepthwiseConv1d):
        return node.shape.channels * op.kernel
    if isinstance(op, Lstm):
        return GATES * op.units * (source.channels + op.units)
    return source.channels * op.units if isinstance(op, Dense) else 0


def node_biases(node: Node) -> int:
    """Number of biases of one node."""
    if isinstance(node.op, Lstm):
        return GATES * node.op.units
    return node.shape.channels if isinstance(node.op, Conv1d | DepthwiseConv1d | Dense) else 0


class GraphBuilder:
    """Builds a `Graph` node by node, inferring shapes. `add` returns the new node's index."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def add(self, op: Op, *inputs: int) -> int:
        """Append `op` reading the nodes `inputs`; raises GraphError where it does not fit."""
        index = len(self._nodes)
        where = f"node {index} ({OP_NAMES[type(op)]})"
        if len(inputs) != ARITY.get(type(op), 1):
            raise GraphError(f"{where}: got {len(inputs)} inputs, needs {ARITY.get(type(op), 1)}")
        if any(not 0 <= i < index for i in inputs):
            raise GraphError(f"{where}: reads {inputs}, only nodes 0..{index - 1} exist before it")
        self._nodes.append(Node(op, inputs, self._shape(op, inputs, where)))
        return index

    def _shape(self, op: Op, inputs: tuple[int, ...], where: str) -> Shape:
        if isinstance(op, Input):
            shape = Shape(op.channels, op.length)
        else:
            source = self._nodes[inputs[0]].shape
            modalities = source.modalities
            if modalities > 1 and not isinstance(op, (Join, Transpose, *EACH_MODALITY)):
                raise GraphError(f"{where}: reads {modalities} modalities; join them first")
            if isinstance(op, Conv1d):
                shape = Shape(op.out_channels, same_length(source.length, _positive(op, where)), modalities)
            elif isinstance(op, DepthwiseConv1d):
                shape = Shape(source.channels, same_length(source.length, _positive(op, where)), modalities)
            elif isinstance(op, Add | Concat):
                shape = self._joined(op, source, self._nodes[inputs[1]].shape, where)
            elif isinstance(op, AvgPool1d | MaxPool1d):
                if source.length < op.kernel:
                    raise GraphError(f"{where}: pools windows of {op.kernel} over a length of {source.length}; use a shorter window")
                stride = _positive(op, where)
                shape = Shape(source.channels, (source.length - op.kernel) // stride + 1, modalities)
            elif isinstance(op, GlobalAvgPool):
                shape = Shape(source.channels, 1)
            elif isinstance(op, Lstm):
                shape = Shape(op.units, 1 if op.last else source.length)
            elif isinstance(op, Split):
                if source.channels == 1:
                    raise GraphError(f"{where}: splits 1 channel; a single signal is a single modality already")
                shape = Shape(1, source.length, source.channels)
            elif isinstance(op, Join):
                if modalities == 1:
                    raise GraphError(f"{where}: joins 1 modality; split the channels first")
                shape = Shape(source.channels * modalities, source.length)
            elif isinstance(op, Transpose):
                if source.length != 1:
                    raise GraphError(f"{where}: reads length {source.length}; take the mean over time first")
                shape = Shape(modalities, source.channels)
            else:
                if source.length != 1:
                    raise GraphError(f"{where}: reads length {source.length}; pool over time first")
                shape = Shape(op.units, 1)
        if shape.channels < 1 or shape.length < 1:
            raise GraphError(f"{where}: empty shape {shape}")
        return shape

    def _joined(self, op: Add | Concat, first: Shape, second: Shape, where: str) -> Shape:
        if isinstance(op, Concat):
            if first.length != second.length:
                raise GraphError(f"{where}: joins lengths {first.length} and {second.length}; lengths must be equal")
            return Shape(first.channels + second.channels, first.length)
        if first != second:
            raise GraphError(f"{where}: adds {first} and {second}; shapes must be equal")
        return first

    def shape(self, index: int) -> Shape:
        """Shape of the tensor that node `index` writes."""
        return self._nodes[index].shape

    def build(self) -> Graph:
        """The finished graph; raises GraphError for an empty one or one that does not begin with its input."""
        if len(self._nodes) < 2 or not isinstance(self._nodes[0].op, Input):
            raise GraphError("a graph needs an input node first and at least one operator")
        if any(isinstance(n.op, Input) for n in self._nodes[1:]):
            raise GraphError("a graph has exactly one input node, node 0")
        if self._nodes[-1].shape.modalities > 1:
            raise GraphError("the output of a graph is of one modality; join them first")
        return Graph(tuple(self._nodes))


def _positive(op: Conv1d | DepthwiseConv1d | AvgPool1d | MaxPool1d, where: str) -> int:
    """The stride, once kernel, stride and dilation are sound."""
    dilation = getattr(op, "dilation", 1)
    if op.stride < 1 or op.kernel < 1 or dilation < 1:
        raise GraphError(f"{where}: kernel {op.kernel}, stride {op.stride} and dilation {dilation} must be at least 1")
    return op.stride
