"""What a lookup table is keyed by: one kernel with its shape. Pure Python; no torch, no files."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Node,
    Op,
    Shape,
    Split,
    Transpose,
)
from hwnas.memory import values_bytes

Layout = Literal["int8", "int16", "none"]  # how the weights of an operator lie in flash; "none" for operators without weights


class OpKey(NamedTuple):
    """One kernel with its shape but for the length, which is looked up beside it.

    `operator` is `pointwise` (kernel 1, stride 1), `lstm_last` or the name of the graph's operator. Activations are no part of the key:
    a ReLU costs nothing. For `concat`, `in_channels` is the first tensor's width; for `join` and `transpose`
    it is that of a modality.
    """

    operator: str
    kernel: int
    stride: int
    dilation: int
    in_channels: int
    out_channels: int
    weights: Layout

    def __str__(self) -> str:
        dilated = f" dilation {self.dilation}" if self.dilation > 1 else ""
        layout = f" {self.weights}" if self.weights != "none" else ""
        return f"{self.operator} {self.in_channels}->{self.out_channels} kernel {self.kernel} stride {self.stride}{dilated}{layout}"


def calls(op: Op, source: Shape) -> int:
    """How often the kernel of an operator is called: convolutions and pools once for each modality."""
    return source.modalities if isinstance(op, Conv1d | DepthwiseConv1d | AvgPool1d | MaxPool1d) else 1


def table_key(op: Op, source: Shape, shape: Shape, weights: Layout) -> tuple[OpKey, int]:
    """What one call of an operator is looked up by: key and length. A sum of several modalities is one of their bytes."""
    if isinstance(op, Add) and source.modalities > 1:
        source = shape = Shape(1, values_bytes(source))
    return op_key(op, source, shape, weights), source.length


def op_key(op: Op, source: Shape, shape: Shape, weights: Layout) -> OpKey:
    """The key of an operator that reads a (first) tensor of shape `source`, writes one of `shape`, and keeps its weights so."""
    channels = (source.channels, shape.channels)
    if isinstance(op, Conv1d):
        name = "pointwise" if op.kernel == 1 and op.stride == 1 else "conv1d"
        return OpKey(name, op.kernel, op.stride, op.dilation, *channels, weights)
    if isinstance(op, DepthwiseConv1d):
        return OpKey("depthwise_conv1d", op.kernel, op.stride, op.dilation, *channels, weights)
    if isinstance(op, AvgPool1d | MaxPool1d):
        return OpKey(_PLAIN[type(op)], op.kernel, op.stride, 1, *channels, weights)
    if isinstance(op, Lstm):
        return OpKey("lstm_last" if op.last else "lstm", 1, 1, 1, *channels, weights)
    return OpKey(_PLAIN[type(op)], 1, 1, 1, *channels, weights)


_PLAIN: dict[type[Op], str] = {
    Add: "add",
    Concat: "concat",
    AvgPool1d: "avg_pool1d",
    MaxPool1d: "max_pool1d",
    GlobalAvgPool: "global_avg_pool",
    Dense: "dense",
    Split: "split",
    Join: "join",
    Transpose: "transpose",
}


def graph_of(key: OpKey, in_length: int) -> tuple[Graph, int]:
    """A graph and its node that `key` and `in_length` describe: what a profiler runs."""
    builder = GraphBuilder()
    modalities = {"join": key.out_channels // key.in_channels, "transpose": key.out_channels}.get(key.operator, 0)
    x = builder.add(Input(modalities or key.in_channels, in_length))
    op: Op
    inputs = [x]
    if key.operator in ("pointwise", "conv1d"):
        op = Conv1d(key.out_channels, key.kernel, key.stride, dilation=key.dilation)
    elif key.operator == "depthwise_conv1d":
        op = DepthwiseConv1d(key.kernel, key.stride, dilation=key.dilation)
    elif key.operator == "add":
        op, inputs = Add(), [x, x]
    elif key.operator == "concat":
        op, inputs = Concat(), [x, builder.add(Conv1d(key.out_channels - key.in_channels), x)]
    elif key.operator == "avg_pool1d":
        op = AvgPool1d(key.kernel, key.stride)
    elif key.operator == "max_pool1d":
        op = MaxPool1d(key.kernel, key.stride)
    elif key.operator == "global_avg_pool":
        op = GlobalAvgPool()
    elif key.operator.startswith("lstm"):
        op = Lstm(key.out_channels, key.operator == "lstm_last")
    elif key.operator == "split":
        op = Split()
    elif key.operator == "join":
        op, inputs = Join(), [builder.add(Conv1d(key.in_channels), builder.add(Split(), x))]
    elif key.operator == "transpose":
        op, inputs = Transpose(), [builder.add(Conv1d(key.in_channels), builder.add(Split(), x) if modalities > 1 else x)]
    else:
        op = Dense(key.out_channels)
    index = builder.add(op, *inputs)
    if isinstance(op, Split):
        builder.add(Join(), index)
    return builder.build(), index


def node_of(key: OpKey, in_length: int) -> tuple[Node, Shape]:
    """The node that `key` and `in_length` describe, with the (first) shape it reads."""
    graph, index = graph_of(key, in_length)
    return graph.nodes[index], graph.in_shape(graph.nodes[index])
