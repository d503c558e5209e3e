"""The fast interpreter against loops over Python integers, and the requantisation rule against exact fractions."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_students import quantized_student, random_graph, random_integers, random_windows

from hwnas.errors import QuantizationError
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, GraphBuilder, Input
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph, QuantWeights, requantize


def clamp(value: int, low: int) -> int:
    return max(low, min(127, value))


def naive_node(q: QuantGraph, index: int, *inputs: list[list[int]]) -> list[list[int]]:
    """One node on one window, lists (L, C) of Python integers, straight from the definitions of qgraph.py."""
    node, zero, low = q.graph.nodes[index], q.quants[index].zero_point, q.clamp_low(index)
    op = node.op
    centred = [[[v - q.quants[i].zero_point for v in row] for row in x] for i, x in zip(node.inputs, inputs, strict=True)]
    x = centred[0]
    if isinstance(op, Add):
        a, b = q.multipliers[index]
        return [
            [clamp(zero + ((u * a + v * b + 2**19) >> 20), low) for u, v in zip(r, s, strict=True)] for r, s in zip(*centred, strict=True)
        ]
    if isinstance(op, GlobalAvgPool):
        sums = [sum(column) for column in zip(*x, strict=True)]
        return [[clamp(zero + math.floor((s * q.multipliers[index][0] + 2**31) / Fraction(2**32)), low) for s in sums]]
    c = q.constants[index]
    out = []
    kernel, stride = getattr(op, "kernel", 1), getattr(op, "stride", 1)
    total = max((node.shape.length - 1) * stride + kernel - len(x), 0)
    for position in range(node.shape.length):
        row = []
        for o in range(node.shape.channels):
            acc = int(c.bias[o])
            for k in range(kernel):
                t = position * stride + k - total // 2
                if 0 <= t < len(x):
                    if isinstance(op, Conv1d):
                        acc += sum(int(c.weights[o, k, i]) * x[t][i] for i in range(len(x[t])))
                    elif isinstance(op, DepthwiseConv1d):
                        acc += int(c.weights[k, o]) * x[t][o]
                    else:
                        acc += sum(int(c.weights[o, i]) * x[t][i] for i in range(len(x[t])))
            row.append(clamp(zero + math.floor(Fraction(acc * int(c.multiplier[o]) + 2**31, 2**32)), low))
        out.append(row)
    return out


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_every_tensor_equals_python_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = random_integers(random_graph(rng, blocks=2, length=int(rng.integers(1, 14)), channels=6), rng)
    x = rng.integers(-128, 128, (2, q.graph.input_shape.length, q.graph.input_shape.channels), dtype=np.int8)
    tensors = reference.run_all(q, x)
    for window in range(len(x)):
        naive = [x[window].tolist()]
        for index, node in enumerate(q.graph.nodes[1:], start=1):
            naive.append(naive_node(q, index, *(naive[i] for i in node.inputs)))
            assert tensors[index][window].tolist() == naive[index], f"node {index} {node}"
    assert (reference.run(q, x) == tensors[-1][:, 0]).all()


@given(st.integers(0, 2**32 - 1))
def test_rounding_in_floating_point_equals_the_integer_rule(seed: int) -> None:
    """Accumulators to the edge of int32, and multipliers that put the exact value on and beside a half."""
    rng = np.random.default_rng(seed)
    outputs = 64
    multiplier = (2 ** rng.uniform(0, 31, outputs)).astype(np.int64).clip(1, 2**31 - 1)
    halves = ((2 * rng.integers(-300, 300, outputs) + 1) * 2**31 // multiplier).clip(-(2**31) + 2**20, 2**31 - 2**20)
    bias = np.where(
        rng.random(outputs) < 0.7, halves + rng.integers(-2, 3, outputs), rng.integers(-(2**31) + 2**20, 2**31 - 2**20, outputs)
    )
    weights = rng.integers(-127, 128, (outputs, 1), dtype=np.int8)
    builder = GraphBuilder()
    builder.add(Dense(outputs), builder.add(Input(1, 1)))
    zero_in, zero_out = int(rng.integers(-128, 128)), int(rng.integers(-128, 128))
    constants = QuantWeights(weights, bias.astype(np.int32), np.ones(outputs), multiplier.astype(np.int32))
    q = QuantGraph(builder.build(), (Quant(1.0, zero_in), Quant(1.0, zero_out)), {1: constants}, {})
    x = np.arange(-128, 128, dtype=np.int8).reshape(-1, 1, 1)
    acc = (x[:, 0].astype(np.int64) - zero_in) * weights[:, 0] + bias
    assert (reference.run(q, x) == requantize(acc, multiplier, zero_out, -128)).all()
    exact = [[clamp(zero_out + (int(a) * int(m) + 2**31 >> 32), -128) for a, m in zip(row, multiplier, strict=True)] for row in acc[::51]]
    assert requantize(acc[::51], multiplier, zero_out, -128).tolist() == exact


def test_sums_beyond_float32_are_exact() -> None:
    """2,000 inputs of 255 x 127 pass 2**24; the sum is odd there, which float32 cannot hold."""
    outputs = 20
    builder = GraphBuilder()
    builder.add(Dense(outputs), builder.add(Input(2000, 1)))
    weights = np.full((outputs, 2000), 127, np.int8)
    weights[:, 0] = 126
    acc = 255 * int(weights[0].sum(dtype=np.int64))
    assert int(np.float32(acc)) != acc
    multiplier = 2**31 - 1  # half a step a unit: losing one changes an output
    bias = np.arange(outputs, dtype=np.int32) - acc - outputs // 2
    constants = QuantWeights(weights, bias, np.ones(outputs), np.full(outputs, multiplier, np.int32))
    q = QuantGraph(builder.build(), (Quant(1.0, -128), Quant(1.0, 0)), {1: constants}, {})
    expected = [clamp((acc + int(b)) * multiplier + 2**31 >> 32, -128) for b in bias]
    assert reference.run(q, np.full((1, 1, 2000), 127, np.int8))[0].tolist() == expected


def test_batches_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    q = random_integers(random_graph(rng, length=33), rng)
    x = rng.integers(-128, 128, (23, 33, q.graph.input_shape.channels), dtype=np.int8)
    whole = reference.run(q, x)
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 1)
    assert (reference.run(q, x) == whole).all()
    assert reference.run(q, x[:0]).shape == (0, q.graph.output_shape.channels)


def test_relu_clamps_at_the_zero_point() -> None:
    builder = GraphBuilder()
    builder.add(Conv1d(1, 1), builder.add(Input(1, 3)))
    constants = QuantWeights(np.ones((1, 1, 1), np.int8), np.zeros(1, np.int32), np.ones(1), np.array([2**30], np.int32))
    q = QuantGraph(builder.build(), (Quant(1.0, 0), Quant(1.0, -100)), {1: constants}, {})
    out = reference.run_all(q, np.array([[[-128], [0], [127]]], np.int8))[1]
    assert out[0, :, 0].tolist() == [-100, -100, -68]


def test_input_quantisation_rounds_and_saturates() -> None:
    builder = GraphBuilder()
    builder.add(Conv1d(1), builder.add(Input(2, 3)))
    q = QuantGraph(builder.build(), (Quant(float(np.float32(1 / 127)), 0), Quant(1.0, 0)), {}, {})
    x = np.array([[[-1.0, 1.0, 0.0], [2.0, -3.0, 0.49 / 127]]], np.float32)
    assert reference.quantize_input(q, x).tolist() == [[[-127, 127], [127, -128], [0, 0]]]
    with pytest.raises(QuantizationError, match="NaN"):
        reference.quantize_input(q, np.array([[[np.nan, 0, 0], [0, 0, 0]]], np.float32))


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 1), np.float32), np.zeros((2, 1, 4), np.int8)])
def test_other_windows_are_refused(bad: Int8) -> None:
    rng = np.random.default_rng(0)
    q = random_integers(random_graph(rng, length=9), rng)
    with pytest.raises(QuantizationError, match=r"reads int8 windows \(N, 9, "):
        reference.run(q, bad)


@pytest.mark.bench
def test_speed() -> None:
    """2,000 windows of a half-million-MAC student in under two seconds on one core."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 2), builder.add(Input(1, 1000)))
    for wide, out, stride in ((16, 16, 2), (32, 24, 2), (48, 24, 2)):
        x = builder.add(Conv1d(out, relu=False), builder.add(DepthwiseConv1d(5, stride), builder.add(Conv1d(wide), x)))
    builder.add(Dense(6), builder.add(GlobalAvgPool(), x))
    graph = builder.build()
    _, q = quantized_student(graph, 0)
    windows = reference.quantize_input(q, random_windows(graph, 2000, 1))
    start = time.perf_counter()
    reference.run(q, windows)
    assert time.perf_counter() - start < 2.0
