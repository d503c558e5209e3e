"""What identifies an operator in a lookup table. Pure Python; no torch, no files."""

from __future__ import annotations

from typing import NamedTuple

from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, GraphBuilder, Input, Node, Op, Shape


class OpKey(NamedTuple):
    """One kernel with its shape but for the length, which is looked up beside it.

    `operator` is the kernel: `pointwise` (kernel 1, stride 1), `conv1d`, `depthwise_conv1d`, `add`, `global_avg_pool` or `dense`.
    Clamping after ReLU and without it costs the same, so activations are no part of the key.
    """

    operator: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int

    def __str__(self) -> str:
        return f"{self.operator} {self.in_channels}->{self.out_channels} kernel {self.kernel} stride {self.stride}"


def op_key(op: Op, source: Shape, shape: Shape) -> OpKey:
    """The key of an operator that reads a tensor of shape `source` and writes one of `shape`."""
    if isinstance(op, Conv1d):
        name = "pointwise" if op.kernel == 1 and op.stride == 1 else "conv1d"
        return OpKey(name, op.kernel, op.stride, source.channels, shape.channels)
    if isinstance(op, DepthwiseConv1d):
        return OpKey("depthwise_conv1d", op.kernel, op.stride, source.channels, shape.channels)
    return OpKey(_PLAIN[type(op)], 1, 1, source.channels, shape.channels)


_PLAIN: dict[type[Op], str] = {Add: "add", GlobalAvgPool: "global_avg_pool", Dense: "dense"}


def node_of(key: OpKey, in_length: int) -> tuple[Node, Shape]:
    """A node that `key` and `in_length` describe, with the shape it reads: what a profiler runs."""
    builder = GraphBuilder()
    source = builder.add(Input(key.in_channels, in_length))
    if key.operator in ("pointwise", "conv1d"):
        builder.add(Conv1d(key.out_channels, key.kernel, key.stride), source)
    elif key.operator == "depthwise_conv1d":
        builder.add(DepthwiseConv1d(key.kernel, key.stride), source)
    elif key.operator == "add":
        builder.add(Add(), source, source)
    elif key.operator == "global_avg_pool":
        builder.add(GlobalAvgPool(), source)
    else:
        builder.add(Dense(key.out_channels), source)
    return builder.build().nodes[1], Shape(key.in_channels, in_length)
