"""Integer constants of a node in the layout that the C kernels read. numpy; no torch, no files.

The layouts stand at the head of each file in `firmware_bench/kernels/`; parameters are the structures of `hwnas_kernels.h`. Those of
convolutions and pools are of one modality: their kernels are called once for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ExportError
from hwnas.export.packing.blocks import pack_blocks, pack_short
from hwnas.export.packing.depthwise import pack_depthwise
from hwnas.export.packing.lstm import pack_lstm
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
    Shape,
    Split,
    Transpose,
    same_padding,
)
from hwnas.hardware.ops import Layout
from hwnas.hardware.weights import layouts
from hwnas.memory import is_short, modality_bytes, values_bytes
from hwnas.quantize.qgraph import ADD_SHIFT_BITS, QuantGraph

Words = NDArray[np.uint32]


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


def pack_node(q: QuantGraph, index: int, weights: Layout) -> PackedNode:
    """Parameters and packed constants of node `index` (not the input node), with its weights laid out as `weights` says.

    Raises:
        ExportError: a layout that this operator does not have.
    """
    node = q.graph.nodes[index]
    op, source = node.op, q.graph.in_shape(node)
    if weights not in layouts(op, source):
        raise ExportError(f"node {index} ({OP_NAMES[type(op)]}): no layout '{weights}'; it has {', '.join(layouts(op, source))}")
    points = [q.quants[i].zero_point for i in node.inputs]
    if isinstance(op, Conv1d | DepthwiseConv1d):
        return _convolution(q, index, weights, op, points[0])
    if isinstance(op, Dense):
        params = {"in_channels": source.channels, "units": op.units, "out_zero_point": q.quants[index].zero_point}
        return PackedNode(f"hwnas_dense_{weights}", "hwnas_dense_params", params, pack_blocks(q.constants[index], points[0], weights))
    if isinstance(op, Lstm):
        lstm = q.lstms[index]
        params = {
            "length": source.length,
            "in_channels": source.channels,
            "units": op.units,
            "in_zero_point": points[0],
            "hidden_zero_point": q.quants[index].zero_point,
            "hidden_multiplier": lstm.hidden_multiplier,
            "last": int(op.last),
        }
        packed = pack_lstm(lstm, source.channels, points[0], q.quants[index].zero_point, weights)
        return PackedNode(f"hwnas_lstm_{weights}", "hwnas_lstm_params", params, packed)
    if isinstance(op, Split | Join | Transpose):
        return _transpose(op, source, node.shape)
    return _plain(q, index, points)


def _convolution(q: QuantGraph, index: int, weights: Layout, op: Conv1d | DepthwiseConv1d, in_point: int) -> PackedNode:
    node, constants = q.graph.nodes[index], q.constants[index]
    source = q.graph.in_shape(node)
    params = {
        "in_length": source.length,
        "in_channels": source.channels,
        "out_length": node.shape.length,
        "out_channels": node.shape.channels,
        "kernel": op.kernel,
        "stride": op.stride,
        "dilation": op.dilation,
        "pad_left": same_padding(source.length, op.kernel, op.stride, op.dilation).left,
        "in_zero_point": in_point,
        "out_zero_point": q.quants[index].zero_point,
    }
    if isinstance(op, DepthwiseConv1d):
        return PackedNode("hwnas_depthwise_conv1d", "hwnas_conv_params", params, pack_depthwise(constants, in_point))
    if is_short(op, source):
        return PackedNode("hwnas_conv1d_short", "hwnas_conv_params", params, pack_short(constants, in_point))
    return PackedNode(f"hwnas_conv1d_{weights}", "hwnas_conv_params", params, pack_blocks(constants, in_point, weights))


def _transpose(op: Split | Join | Transpose, source: Shape, shape: Shape) -> PackedNode:
    """A matrix of blocks: rows x columns -> columns x rows.

    Split: samples x channels -> modalities x samples. Join: modalities x samples of all their channels -> the other way.
    Transpose: modalities x channels -> the other way.
    """
    split = isinstance(op, Split)
    params = {
        "rows": source.length if split else source.modalities,
        "columns": source.length if isinstance(op, Join) else source.channels,
        "block_bytes": source.channels if isinstance(op, Join) else 1,
        "in_pitch_bytes": source.channels if split else modality_bytes(source),
        "out_pitch_bytes": modality_bytes(shape) if split else shape.channels,
    }
    return PackedNode("hwnas_transpose", "hwnas_transpose_params", params, np.empty(0, np.uint32))


def _plain(q: QuantGraph, index: int, points: list[int]) -> PackedNode:
    """Operators without weights."""
    node = q.graph.nodes[index]
    op, source = node.op, q.graph.in_shape(node)
    out_point = q.quants[index].zero_point
    half = (1 << (ADD_SHIFT_BITS - 1)) + (out_point << ADD_SHIFT_BITS)
    if isinstance(op, Add):
        first, second = q.multipliers[index]
        offset = half - points[0] * first - points[1] * second
        struct, params = (
            "hwnas_add_params",
            {"count": values_bytes(source), "multiplier_a": first, "multiplier_b": second, "offset": offset},
        )
    elif isinstance(op, Concat):
        first, second = q.multipliers[index]
        struct, params = (
            "hwnas_concat_params",
            {
                "length": source.length,
                "channels_a": source.channels,
                "channels_b": node.shape.channels - source.channels,
                "multiplier_a": first,
                "offset_a": half - points[0] * first,
                "multiplier_b": second,
                "offset_b": half - points[1] * second,
            },
        )
    elif isinstance(op, AvgPool1d | MaxPool1d):
        multiplier = round((1 << ADD_SHIFT_BITS) / op.kernel)
        struct, params = (
            "hwnas_window_params",
            {
                "out_length": node.shape.length,
                "channels": source.channels,
                "kernel": op.kernel,
                "stride": op.stride,
                "multiplier": multiplier,
            },
        )
    elif isinstance(op, GlobalAvgPool):
        struct, params = (
            "hwnas_pool_params",
            {
                "length": source.length,
                "channels": source.channels,
                "bias": -points[0] * source.length,
                "multiplier": q.multipliers[index][0],
                "out_zero_point": out_point,
            },
        )
    else:
        raise ExportError(f"node {index} ({OP_NAMES[type(op)]}) has no kernel")
    return PackedNode(f"hwnas_{OP_NAMES[type(op)]}", struct, params, np.empty(0, np.uint32))
