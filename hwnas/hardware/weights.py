"""Flash that a student's constants take in the layout the kernels read. Pure Python; no torch, no files.

The layouts stand at the head of each file in `firmware_bench/kernels/`. The C export packs exactly these bytes.
"""

from __future__ import annotations

from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, Graph, Node, Shape
from hwnas.memory import align

LAYER_BYTES = 20  # hwnas_layer: kernel, params and three tensor places
CONV_PARAMS_BYTES, ADD_PARAMS_BYTES, POOL_PARAMS_BYTES = 44, 16, 20
BLOCK = 4  # outputs that a block of packed weights serves
BLOCK_CONSTANTS_BYTES = 32  # four biases and four multipliers


def packed_bytes(node: Node, source: Shape) -> int:
    """Bytes of the packed weights, biases and multipliers of one node."""
    op = node.op
    if isinstance(op, DepthwiseConv1d):
        return _blocks(source.channels) * (BLOCK_CONSTANTS_BYTES + 2 * BLOCK * op.kernel)
    if isinstance(op, Conv1d):
        return _blocks(op.out_channels) * (BLOCK_CONSTANTS_BYTES + BLOCK * align(op.kernel * source.channels))
    if isinstance(op, Dense):
        return _blocks(op.units) * (BLOCK_CONSTANTS_BYTES + BLOCK * align(source.channels))
    return 0


def params_bytes(node: Node) -> int:
    """Bytes of the parameter structure of one node."""
    if isinstance(node.op, Conv1d | DepthwiseConv1d | Dense):
        return CONV_PARAMS_BYTES
    return ADD_PARAMS_BYTES if isinstance(node.op, Add) else POOL_PARAMS_BYTES


def flash_bytes(graph: Graph) -> int:
    """Bytes of all constants of a student: packed weights, parameters and the layer table."""
    return sum(packed_bytes(n, graph.in_shape(n)) + params_bytes(n) + LAYER_BYTES for n in graph.nodes[1:])


def _blocks(channels: int) -> int:
    return -(-channels // BLOCK)
