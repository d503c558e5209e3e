"""Integer constants of a node in the layout that the C kernels read. numpy; no torch, no files.

The layouts stand at the head of each file in `firmware_bench/kernels/`; parameters are the structures of `hwnas_kernels.h`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.graph import Add, Conv1d, DepthwiseConv1d, GlobalAvgPool, same_padding
from hwnas.quantize.qgraph import ADD_SHIFT_BITS, QuantGraph, QuantWeights

Words = NDArray[np.uint32]

BLOCK = 4  # outputs or channels that one block of packed weights serves


@dataclass(frozen=True)
class PackedNode:
    """One operator as its kernel wants it.

    Attributes:
        kernel: name of the C function.
        struct: name of its parameter structure.
        params: the int32 members of that structure by name, in order, without the leading `packed` pointer.
        packed: weights, biases and multipliers as 32-bit words; empty for kernels that have none (and no `packed` member).
    """

    kernel: str
    struct: str
    params: dict[str, int]
    packed: Words


def pack_node(q: QuantGraph, index: int) -> PackedNode:
    """Parameters and packed constants of node `index` (not the input node)."""
    node = q.graph.nodes[index]
    op, source = node.op, q.graph.in_shape(node)
    sources = [q.quants[i].zero_point for i in node.inputs]
    out_point = q.quants[index].zero_point
    if isinstance(op, Add):
        first, second = q.multipliers[index]
        offset = (1 << (ADD_SHIFT_BITS - 1)) + (out_point << ADD_SHIFT_BITS) - sources[0] * first - sources[1] * second
        return PackedNode(
            "hwnas_add",
            "hwnas_add_params",
            {"count": source.elements, "multiplier_a": first, "multiplier_b": second, "offset": offset},
            np.empty(0, np.uint32),
        )
    if isinstance(op, GlobalAvgPool):
        return PackedNode(
            "hwnas_global_avg_pool",
            "hwnas_pool_params",
            {
                "length": source.length,
                "channels": source.channels,
                "bias": -sources[0] * source.length,
                "multiplier": q.multipliers[index][0],
                "out_zero_point": out_point,
            },
            np.empty(0, np.uint32),
        )
    kernel, stride = (op.kernel, op.stride) if isinstance(op, Conv1d | DepthwiseConv1d) else (1, 1)
    params = {
        "in_length": source.length,
        "in_channels": source.channels,
        "out_length": node.shape.length,
        "out_channels": node.shape.channels,
        "kernel": kernel,
        "stride": stride,
        "pad_left": same_padding(source.length, kernel, stride).left,
        "in_zero_point": sources[0],
        "out_zero_point": out_point,
        "low": q.clamp_low(index),
    }
    constants = q.constants[index]
    if isinstance(op, DepthwiseConv1d):
        return PackedNode("hwnas_depthwise_conv1d", "hwnas_conv_params", params, pack_depthwise(constants, sources[0]))
    return PackedNode("hwnas_conv1d", "hwnas_conv_params", params, pack_conv(constants, sources[0]))


def pack_conv(constants: QuantWeights, in_point: int) -> Words:
    """Blocks of a convolution (out, kernel, in) or dense layer (units, in); the zero point `in_point` goes into the bias."""
    weights = constants.weights.reshape(len(constants.weights), -1)
    outputs, taps = weights.shape
    padded = np.zeros((_up(outputs), _up(taps)), np.int8)
    padded[:outputs, :taps] = weights
    # (block, pair of outputs, output, group, pair of taps, odd tap) -> words of two outputs by two taps, see conv1d.c
    split = padded.reshape(len(padded) // BLOCK, 2, 2, -1, 2, 2)
    taps_of_blocks = np.ascontiguousarray(split.transpose(0, 3, 5, 1, 4, 2)).reshape(-1).view("<u4").reshape(len(split), -1)
    return _blocks(taps_of_blocks, constants, weights.astype(np.int64).sum(1), in_point)


def pack_depthwise(constants: QuantWeights, in_point: int) -> Words:
    """Blocks of a depthwise convolution (kernel, channels); the input zero point `in_point` goes into the bias."""
    kernel, channels = constants.weights.shape
    padded = np.zeros((kernel, _up(channels)), "<i2")
    padded[:, :channels] = constants.weights
    # (tap, block, pair of channels, odd channel) -> even channels, then odd ones
    split = padded.reshape(kernel, -1, 2, 2)
    taps_of_blocks = np.ascontiguousarray(split.transpose(1, 0, 3, 2)).reshape(-1).view("<u4").reshape(split.shape[1], -1)
    return _blocks(taps_of_blocks, constants, constants.weights.astype(np.int64).sum(0), in_point)


def _blocks(taps: Words, constants: QuantWeights, weight_sums: NDArray[np.int64], in_point: int) -> Words:
    """Each row of `taps` between its four biases and its four multipliers."""
    bias = constants.bias.astype(np.int64) - in_point * weight_sums
    words: Words = np.concatenate([_fours(bias), taps, _fours(constants.multiplier)], axis=1).reshape(-1)
    return words


def _fours(values: NDArray[Any]) -> Words:
    padded = np.zeros(_up(len(values)), np.int64)
    padded[: len(values)] = values
    return (padded & 0xFFFFFFFF).astype(np.uint32).reshape(-1, BLOCK)


def _up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
