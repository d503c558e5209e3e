"""Random graphs and students for the tests of quantize, export and firmware. No files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hwnas.graph import (
    GATES,
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
    Split,
    same_length,
    same_padding,
)
from hwnas.quantize.arbitrary import labels_of, quants_of, weight_shape
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import QuantGraph, QuantLstm, QuantWeights
from hwnas.student import Student


def random_graph(
    rng: np.random.Generator,
    *,
    blocks: int = 3,
    length: int | None = None,
    channels: int = 12,
    residuals: bool = True,
    concat: bool = False,
    pools: bool = False,
    dilation: bool = False,
    lstm: bool = False,
    modalities: bool = False,
) -> Graph:
    """Stem, inverted residual blocks (odd lengths, all strides and kernels, ReLU or not), pool, head; at most `channels` wide.

    With `concat` and `pools` some blocks end in two joined branches or a pooling window, with `dilation` some kernels are dilated, with
    `lstm` an LSTM stands before the head, at times instead of the pool over time; with `modalities` the input's channels are split, and
    joined again before one of the blocks or after the last (two joined branches come after that only).
    """

    def spread() -> int:
        return int(rng.integers(1, 5)) if dilation else 1

    def add(op: Conv1d | DepthwiseConv1d, source: int) -> int:
        shape = builder.shape(source)
        left = same_padding(shape.length, op.kernel, op.stride, op.dilation).left
        starts = range(-left, same_length(shape.length, op.stride) * op.stride - left, op.stride)
        reads = any(0 <= start + tap * op.dilation < shape.length for start in starts for tap in range(op.kernel))
        return builder.add(op if reads else replace(op, dilation=1), source)  # taps in the padding only would make a constant student

    builder = GraphBuilder()
    samples = length if length is not None else int(rng.integers(1, 40))
    x = builder.add(Input(int(rng.integers(2 if modalities else 1, 4)), samples))
    join_at = int(rng.integers(0, blocks + 1)) if modalities else -1
    if modalities:
        x = builder.add(Split(), x)
    x = add(Conv1d(int(rng.integers(1, channels)), int(rng.integers(1, 8)), int(rng.integers(1, 4)), dilation=spread()), x)
    for block in range(blocks):
        if block == join_at:
            x = builder.add(Join(), x)
        source, stride = x, int(rng.integers(1, 4)) if rng.random() < 0.5 else 1
        x = builder.add(Conv1d(int(rng.integers(1, 2 * channels)), relu=bool(rng.random() < 0.8)), x)
        x = add(DepthwiseConv1d(int(rng.integers(1, 10)), stride, relu=bool(rng.random() < 0.8), dilation=spread()), x)
        keep = residuals and stride == 1 and rng.random() < 0.7
        wide = builder.shape(source).channels if keep else int(rng.integers(1, channels))
        x = add(Conv1d(wide, int(rng.integers(1, 4)), relu=bool(rng.random() < 0.2), dilation=spread()), x)
        if keep:
            x = builder.add(Add(), source, x)
        if concat and block >= join_at and rng.random() < 0.7:
            stride = int(rng.integers(1, 3))
            first = builder.add(Conv1d(int(rng.integers(1, channels)), int(rng.integers(1, 4)), stride), x)
            x = builder.add(Concat(), first, builder.add(DepthwiseConv1d(3, stride, relu=False), x))
        if pools and rng.random() < 0.7:
            kernel = int(rng.integers(1, min(builder.shape(x).length, 4) + 1))
            x = builder.add((AvgPool1d if rng.random() < 0.5 else MaxPool1d)(kernel, int(rng.integers(1, 4))), x)
    if join_at == blocks:
        x = builder.add(Join(), x)
    last = lstm and bool(rng.random() < 0.5)
    if lstm:
        x = builder.add(Lstm(int(rng.integers(1, channels)), last), x)
    if not last:
        x = builder.add(GlobalAvgPool(), x)
    builder.add(Dense(int(rng.integers(2, 7))), x)
    return builder.build()


def random_integers(graph: Graph, rng: np.random.Generator) -> QuantGraph:
    """`graph` with random integers of the full ranges that the format allows, good for bit-exactness only."""
    constants: dict[int, QuantWeights] = {}
    lstms: dict[int, QuantLstm] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        op, shape = node.op, weight_shape(node, graph.in_shape(node))
        if isinstance(op, Add | Concat):
            multipliers[index] = (int(rng.integers(1, 2**21)), int(rng.integers(1, 2**21)))
        elif isinstance(op, GlobalAvgPool):
            multipliers[index] = (int(2 ** rng.uniform(20, 31)) - 1,)
        elif shape:
            outputs = (op.units, GATES) if isinstance(op, Lstm) else (node.shape.channels,)
            weights = rng.integers(-127, 128, shape, dtype=np.int8)
            multiplier = (2 ** rng.uniform(16, 31, outputs)).astype(np.int64).clip(1, 2**31 - 1).astype(np.int32)
            bias = (2 ** rng.uniform(0, 24 if isinstance(op, Lstm) else 30, outputs) * rng.choice([-1, 1], outputs)).astype(np.int32)
            if isinstance(op, Lstm):
                lstms[index] = QuantLstm(weights, bias, multiplier, int(2 ** rng.uniform(17, 31)) - 1)
            else:
                constants[index] = QuantWeights(weights, bias, np.ones(outputs), multiplier)
    points = [int(rng.integers(-128, 128)) for _ in graph.nodes]
    return QuantGraph(graph, quants_of(graph, points, 1.0), constants, multipliers, labels_of(graph), lstms)


def warmed_student(graph: Graph, seed: int) -> Student:
    """A student with random weights, biases and batch-norm statistics of its own activations, few of which die."""
    generator = torch.Generator().manual_seed(seed)
    student = Student(graph, generator)
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.5, 0.3, generator=generator)
                module.momentum = None
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.5, generator=generator)
            elif isinstance(module, torch.nn.LSTM):
                for name, parameter in module.named_parameters():
                    spread = 0.5 if name.startswith("bias") else 1.0 / parameter.shape[1] ** 0.5
                    parameter.normal_(0, spread, generator=generator)
        student(torch.from_numpy(random_windows(graph, 32, seed + 1)))
        for name, statistics in student.named_buffers():
            if name.endswith("running_var"):
                statistics.clamp_(min=0.01)  # channels that those windows left still
    return student.eval()


def random_windows(graph: Graph, count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Smooth random windows (N, C, T) within [-1, 1]."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(count, *graph.input_shape[:2])).cumsum(2)
    return np.asarray(walk / (np.abs(walk).max(2, keepdims=True) + 1e-9), np.float32)


def quantized_student(graph: Graph, seed: int) -> tuple[Student, QuantGraph]:
    """A warmed student and its int8 form."""
    student = warmed_student(graph, seed)
    return student, quantize(student, random_windows(graph, 64, seed + 2), labels_of(graph))
