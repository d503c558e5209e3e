"""Flash that a student's constants take in the layouts the kernels read. Pure Python; no torch, no files.

The layouts stand at the head of each file in `firmware_bench/kernels/`. The C export packs exactly these bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    Join,
    Lstm,
    MaxPool1d,
    Node,
    Op,
    Shape,
    Split,
    Transpose,
)
from hwnas.hardware.ops import Layout, calls
from hwnas.memory import align, is_short

BLOCK = 4  # outputs that a block of packed weights serves; of an LSTM the gates of one unit
BLOCK_CONSTANTS_BYTES = 32  # four biases and four multipliers
CHANNEL_CONSTANTS_BYTES = 8  # one bias and one multiplier

# 32-bit members of the parameter structures, beside the pointer to packed weights.
_PARAMS: dict[type[Op], int] = {
    Conv1d: 10,
    DepthwiseConv1d: 10,
    Dense: 3,
    Lstm: 7,
    Add: 4,
    Concat: 7,
    AvgPool1d: 5,
    MaxPool1d: 5,
    GlobalAvgPool: 5,
    Split: 5,
    Join: 5,
    Transpose: 5,
}


def layouts(op: Op, source: Shape) -> tuple[Layout, ...]:
    """The layouts that there are for the weights of `op`, smallest first. Short windows and depthwise filters have one: they are small."""
    if isinstance(op, DepthwiseConv1d) or (isinstance(op, Conv1d) and is_short(op, source)):
        return ("int16",)
    return ("int8", "int16") if isinstance(op, Conv1d | Dense | Lstm) else ("none",)


def packed_bytes(op: Op, source: Shape, weights: Layout) -> int:
    """Bytes of the packed weights, biases and multipliers of one operator."""
    size = 2 if weights == "int16" else 1
    if isinstance(op, DepthwiseConv1d):
        return source.channels * (CHANNEL_CONSTANTS_BYTES + align(2 * op.kernel))
    if isinstance(op, Conv1d):
        values = op.kernel * source.channels
        if is_short(op, source):
            return op.out_channels * (CHANNEL_CONSTANTS_BYTES + align(2 * values))
        return _blocks(op.out_channels) * (BLOCK_CONSTANTS_BYTES + BLOCK * size * align(values))
    if isinstance(op, Dense):
        return _blocks(op.units) * (BLOCK_CONSTANTS_BYTES + BLOCK * size * align(source.channels))
    if isinstance(op, Lstm):
        return op.units * (BLOCK_CONSTANTS_BYTES + BLOCK * size * (align(source.channels) + align(op.units)))
    return 0


def params_bytes(op: Op, pointer_bytes: int = 4) -> int:
    """Bytes of the parameter structure of one operator."""
    pointer = pointer_bytes if isinstance(op, Conv1d | DepthwiseConv1d | Dense | Lstm) else 0
    size = pointer + 4 * _PARAMS[type(op)]
    return -(-size // pointer_bytes) * pointer_bytes if pointer else size


def layer_bytes(pointer_bytes: int = 4) -> int:
    """Bytes of a row of the layer table: kernel, params and three tensor places."""
    return -(-(2 * pointer_bytes + 12) // pointer_bytes) * pointer_bytes


def constants_bytes(node: Node, source: Shape, weights: Layout, pointer_bytes: int = 4) -> int:
    """All constants of one node: packed weights, parameters and its rows of the layer table."""
    rows = calls(node.op, source) * layer_bytes(pointer_bytes)
    parts = (packed_bytes(node.op, source, weights), params_bytes(node.op, pointer_bytes), rows)
    return sum(_placed(size, pointer_bytes) for size in parts)


def flash_bytes(graph: Graph, weights: Sequence[Layout], pointer_bytes: int = 4) -> int:
    """Bytes of all constants of a student; `weights` has one layout a node, the input included."""
    return sum(constants_bytes(n, graph.in_shape(n), w, pointer_bytes) for n, w in zip(graph.nodes[1:], weights[1:], strict=True))


def _placed(size_bytes: int, pointer_bytes: int) -> int:
    """What a constant takes where the linker script puts it: whole words on 32-bit cores, multiples of 16 bytes on 64-bit ones.

    A row of the layer table is a multiple of either by itself.
    """
    unit = 4 if pointer_bytes == 4 else 16
    return -(-size_bytes // unit) * unit


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK)
