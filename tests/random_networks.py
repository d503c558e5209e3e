"""Random graphs of every operator for the tests and benchmarks of memory, cost, export and firmware. No files, no torch."""

from __future__ import annotations

import numpy as np

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
    Op,
    Split,
    Transpose,
)


def random_operator(rng: np.random.Generator) -> Graph:
    """One operator on a small tensor: all kernels, strides, dilations, channel counts and lengths down to 1."""
    channels = int(rng.choice([1, 2, 3, 4, 5, 8, 12, 16, 17, 32]))
    length = int(rng.choice([1, 2, 3, *rng.integers(1, 60, 5)]))
    builder = GraphBuilder()
    kind = rng.choice(["conv", "pointwise", "depthwise", "dense", "add", "concat", "avg", "max", "global", "lstm"])
    x = builder.add(Input(channels, 1 if kind == "dense" else length))
    kernel, stride = int(rng.integers(1, 12)), int(rng.integers(1, 5))
    dilation = 1 if rng.random() < 0.7 else int(rng.integers(2, 4))
    outputs, relu = int(rng.integers(1, 21)), bool(rng.random() < 0.5)
    if kind in ("add", "concat"):
        builder.add(Add() if kind == "add" else Concat(), x, x)
        return builder.build()
    ops: dict[str, Op] = {
        "conv": Conv1d(outputs, kernel, stride, relu, dilation),
        "pointwise": Conv1d(outputs, relu=relu),
        "depthwise": DepthwiseConv1d(kernel, stride, relu, dilation),
        "dense": Dense(outputs),
        "avg": AvgPool1d(min(kernel, length), stride),
        "max": MaxPool1d(min(kernel, length), stride),
        "global": GlobalAvgPool(),
        "lstm": Lstm(outputs, bool(rng.random() < 0.3)),
    }
    builder.add(ops[str(kind)], x)
    return builder.build()


def random_modalities(rng: np.random.Generator, *, longest: int = 400) -> Graph:
    """Channels apart, shared convolution blocks on each, joined and mixed; then an LSTM or a pool, and a head."""
    builder = GraphBuilder()
    x = builder.add(Input(int(rng.integers(2, 7)), int(rng.integers(1, longest))))
    x = builder.add(Split(), x)
    if rng.random() < 0.9:
        x = builder.add(Conv1d(int(rng.integers(1, 13)), int(rng.integers(1, 10)), int(rng.integers(1, 4))), x)
    for _ in range(int(rng.integers(0, 5))):
        channels, length, _ = builder.shape(x)
        relu, dilation = bool(rng.random() < 0.6), int(rng.integers(1, 4))
        kind = rng.choice(["residual", "conv", "depthwise", "pool", "twice"])
        if kind == "residual":
            y = builder.add(Conv1d(channels, int(rng.integers(2, 6)), relu=False, dilation=dilation), x)
            x = builder.add(Add(), *((x, y) if relu else (y, x)))
        elif kind == "conv":
            x = builder.add(Conv1d(int(rng.integers(1, 17)), int(rng.integers(1, 8)), int(rng.integers(1, 4)), relu, dilation), x)
        elif kind == "depthwise":
            x = builder.add(DepthwiseConv1d(int(rng.integers(1, 12)), int(rng.integers(1, 4)), relu, dilation), x)
        elif kind == "pool":
            pool = AvgPool1d if relu else MaxPool1d
            x = builder.add(pool(min(length, int(rng.integers(1, 5))), int(rng.integers(1, 4))), x)
        else:
            x = builder.add(Add(), x, x)
    if rng.random() < 0.3:
        length = builder.shape(x).length
        x = builder.add(AvgPool1d(length, 1), x) if length > 1 else x
        x = builder.add(Transpose(), x)
    else:
        x = builder.add(Join(), x)
    if rng.random() < 0.7:
        x = builder.add(Conv1d(int(rng.integers(1, 20)), int(rng.choice([1, 3]))), x)
    if rng.random() < 0.2 and builder.shape(x).length <= 60:
        x = builder.add(Lstm(int(rng.integers(2, 13)), last=True), x)
    builder.add(Dense(int(rng.integers(2, 7))), builder.add(GlobalAvgPool(), x))
    return builder.build()


def random_network(rng: np.random.Generator, *, longest: int = 400) -> Graph:
    """Stem, then residual blocks, two-branch blocks, pools, LSTMs and strided depthwise convolutions, then a head."""
    builder = GraphBuilder()
    x = builder.add(Input(int(rng.integers(1, 5)), int(rng.integers(1, longest))))
    x = builder.add(Conv1d(4 * int(rng.integers(1, 5)), int(rng.integers(3, 12)), int(rng.integers(1, 5))), x)
    for _ in range(int(rng.integers(1, 5))):
        channels, length, _ = builder.shape(x)
        kind = rng.choice(["residual", "concat", "pool", "lstm", "strided"])
        if kind == "residual":
            y = builder.add(DepthwiseConv1d(int(rng.integers(2, 10))), builder.add(Conv1d(channels * int(rng.integers(1, 4))), x))
            x = builder.add(Add(), x, builder.add(Conv1d(channels, relu=False), y))
        elif kind == "concat":
            left = builder.add(Conv1d(int(rng.integers(3, 17)), int(rng.choice([1, 3, 5])), dilation=int(rng.integers(1, 3))), x)
            x = builder.add(Concat(), left, builder.add(Conv1d(4 * int(rng.integers(1, 5))), x))
        elif kind == "pool" and length >= 4:
            pool = AvgPool1d if rng.random() < 0.5 else MaxPool1d
            x = builder.add(pool(int(rng.integers(2, 4)), 2), x)
        elif kind == "lstm" and length <= 100:
            x = builder.add(Lstm(int(rng.integers(4, 25)), bool(rng.random() < 0.3)), x)
        else:
            x = builder.add(DepthwiseConv1d(int(rng.integers(1, 12)), int(rng.integers(1, 4))), x)
    builder.add(Dense(int(rng.integers(2, 7))), builder.add(GlobalAvgPool(), x))
    return builder.build()
