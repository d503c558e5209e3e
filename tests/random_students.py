"""Random graphs and students for the tests of quantize, export and firmware. No files."""

from __future__ import annotations

import numpy as np
import torch

from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import Quant, QuantGraph, QuantWeights
from hwnas.student import Student


def random_graph(rng: np.random.Generator, *, blocks: int = 3, length: int | None = None, channels: int = 12) -> Graph:
    """Stem, inverted residual blocks (odd lengths, all strides and kernels, ReLU or not), pool, head; at most `channels` wide."""
    builder = GraphBuilder()
    samples = length if length is not None else int(rng.integers(1, 40))
    x = builder.add(Input(int(rng.integers(1, 4)), samples))
    x = builder.add(Conv1d(int(rng.integers(1, channels)), int(rng.integers(1, 8)), int(rng.integers(1, 4))), x)
    for _ in range(blocks):
        source, stride = x, int(rng.integers(1, 4)) if rng.random() < 0.5 else 1
        x = builder.add(Conv1d(int(rng.integers(1, 2 * channels)), relu=bool(rng.random() < 0.8)), x)
        x = builder.add(DepthwiseConv1d(int(rng.integers(1, 10)), stride, relu=bool(rng.random() < 0.8)), x)
        keep = stride == 1 and rng.random() < 0.7
        wide = builder.shape(source).channels if keep else int(rng.integers(1, channels))
        x = builder.add(Conv1d(wide, int(rng.integers(1, 4)), relu=bool(rng.random() < 0.2)), x)
        if keep:
            x = builder.add(Add(), source, x)
    x = builder.add(GlobalAvgPool(), x)
    builder.add(Dense(int(rng.integers(2, 7))), x)
    return builder.build()


def random_integers(graph: Graph, rng: np.random.Generator) -> QuantGraph:
    """`graph` with random integers of the full ranges that the format allows, good for bit-exactness only."""
    constants: dict[int, QuantWeights] = {}
    multipliers: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:], start=1):
        op, outputs, inputs = node.op, node.shape.channels, graph.in_shape(node).channels
        if isinstance(op, Add):
            multipliers[index] = (int(rng.integers(1, 2**21)), int(rng.integers(1, 2**21)))
        elif isinstance(op, GlobalAvgPool):
            multipliers[index] = (int(2 ** rng.uniform(20, 31)) - 1,)
        else:
            shape: tuple[int, ...] = (outputs, inputs)
            if isinstance(op, Conv1d):
                shape = (outputs, op.kernel, inputs)
            elif isinstance(op, DepthwiseConv1d):
                shape = (op.kernel, outputs)
            constants[index] = QuantWeights(
                rng.integers(-127, 128, shape, dtype=np.int8),
                (2 ** rng.uniform(0, 30, outputs) * rng.choice([-1, 1], outputs)).astype(np.int32),
                np.ones(outputs),
                (2 ** rng.uniform(16, 31, outputs)).astype(np.int64).clip(1, 2**31 - 1).astype(np.int32),
            )
    quants = tuple(Quant(1.0, int(rng.integers(-128, 128))) for _ in graph.nodes)
    return QuantGraph(graph, quants, constants, multipliers, tuple("abcdefg"[: graph.output_shape.channels]))


def warmed_student(graph: Graph, seed: int) -> Student:
    """A student with random weights, biases and batch-norm statistics of its own activations."""
    generator = torch.Generator().manual_seed(seed)
    student = Student(graph, generator)
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
                module.momentum = None
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.5, generator=generator)
        student(torch.from_numpy(random_windows(graph, 32, seed + 1)))
    return student.eval()


def random_windows(graph: Graph, count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Smooth random windows (N, C, T) within [-1, 1]."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(count, *graph.input_shape)).cumsum(2)
    return np.asarray(walk / (np.abs(walk).max(2, keepdims=True) + 1e-9), np.float32)


def quantized_student(graph: Graph, seed: int) -> tuple[Student, QuantGraph]:
    """A warmed student and its int8 form."""
    student = warmed_student(graph, seed)
    return student, quantize(student, random_windows(graph, 64, seed + 2), [f"class{i}" for i in range(graph.output_shape.channels)])
