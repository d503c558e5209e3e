"""The fast interpreter against loops over Python integers, and the requantisation rule against exact fractions."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_integers import clamp, node_output
from random_networks import random_modalities
from random_students import quantized_student, random_graph, random_integers, random_windows

from hwnas.errors import QuantizationError
from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Join, Lstm, MaxPool1d, Split
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph, QuantLstm, QuantWeights, gate_bound, requantize

Make = Callable[[Graph, np.random.Generator], QuantGraph]


@pytest.mark.parametrize("make", [random_integers, arbitrary])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_every_tensor_equals_python_integers(make: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(
        rng, blocks=2, length=int(rng.integers(1, 14)), channels=6, concat=True, pools=True, dilation=True, lstm=bool(rng.random() < 0.6)
    )
    q = make(graph, rng)
    x = rng.integers(-128, 128, (2, q.graph.input_shape.length, q.graph.input_shape.channels), dtype=np.int8)
    tensors = reference.run_all(q, x)
    for window in range(len(x)):
        naive = [x[window].tolist()]
        for index, node in enumerate(q.graph.nodes[1:], start=1):
            naive.append(node_output(q, index, *(naive[i] for i in node.inputs)))
            assert tensors[index][window].tolist() == naive[index], f"node {index} {node}"
    assert (reference.run(q, x) == tensors[-1][:, 0]).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_modalities_equal_python_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = arbitrary(random_modalities(rng, longest=16), rng)
    x = rng.integers(-128, 128, (3, q.graph.input_shape.length, q.graph.input_shape.channels), dtype=np.int8)
    tensors = reference.run_all(q, x)
    for window in range(len(x)):
        for index, node in enumerate(q.graph.nodes[1:], start=1):
            found = tensors[index][window].tolist()
            assert found == node_output(q, index, *(tensors[i][window].tolist() for i in node.inputs)), f"node {index} {node}"
    assert (reference.run(q, x) == tensors[-1][:, 0]).all()


@pytest.mark.parametrize("op", [Split(), Join(), MaxPool1d(2, 2)])
def test_what_only_moves_values_keeps_their_quantisation(op: Split | Join | MaxPool1d) -> None:
    builder = GraphBuilder()
    x = builder.add(Split(), builder.add(Input(2, 8)))
    builder.add(Join(), builder.add(op, x) if isinstance(op, MaxPool1d) else x)
    graph = builder.build()
    index = next(i for i, node in enumerate(graph) if type(node.op) is type(op))
    quants = [Quant(0.5, 3)] * len(graph.nodes)
    QuantGraph(graph, tuple(quants), {}, {})
    quants[index] = Quant(0.5, 4)
    with pytest.raises(QuantizationError, match=rf"node {index} \(\w+\) must keep the quantisation of its input"):
        QuantGraph(graph, tuple(quants), {}, {})


@given(st.integers(0, 2**32 - 1))
def test_the_bound_of_gates_is_reached_by_some_input_and_never_passed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels, units = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    points = [int(p) for p in rng.integers(-128, 128, 2)]
    bias = rng.integers(-(2**18), 2**18, (units, 4)).astype(np.int32)
    lstm = QuantLstm(rng.integers(-127, 128, (units, 4, channels + units)).astype(np.int8), bias, np.ones((units, 4), np.int32), 1)
    weights = lstm.weights.reshape(4 * units, -1).astype(int)
    zero = np.repeat(points, [channels, units])
    best = max(
        abs(sum(w * ((127 if (w > 0) == up else -128) - z) for w, z in zip(row, zero, strict=True)) + b)
        for row, b in zip(weights, bias.ravel().astype(int), strict=True)
        for up in (True, False)
    )
    assert gate_bound(lstm, *points) == best


def test_an_lstm_whose_accumulators_can_leave_their_format_is_refused() -> None:
    graph, quants = lstm_of(1, 2, 3), (Quant(1.0, 0), Quant(1.0, 0))
    for bias, message in ((2**25 - 1 - 128 * 127, None), (2**25 - 128 * 127, "may reach 33554432, at most 33554431")):
        weights = np.zeros((2, 4, 3), np.int8)
        weights[1, 2, 0] = -127
        constants = QuantLstm(weights, np.full((2, 4), bias, np.int32), np.ones((2, 4), np.int32), 1)
        if message is None:
            QuantGraph(graph, quants, {}, {}, lstms={1: constants})
        else:
            with pytest.raises(QuantizationError, match=message):
                QuantGraph(graph, quants, {}, {}, lstms={1: constants})


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
    assert (reference.run(q, x) == requantize(acc, multiplier, zero_out)).all()
    exact = [[clamp(zero_out + (int(a) * int(m) + 2**31 >> 32)) for a, m in zip(row, multiplier, strict=True)] for row in acc[::51]]
    assert requantize(acc[::51], multiplier, zero_out).tolist() == exact


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
    expected = [clamp((acc + int(b)) * multiplier + 2**31 >> 32) for b in bias]
    assert reference.run(q, np.full((1, 1, 2000), 127, np.int8))[0].tolist() == expected


def test_batches_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    q = random_integers(random_graph(rng, length=33), rng)
    x = rng.integers(-128, 128, (23, 33, q.graph.input_shape.channels), dtype=np.int8)
    whole = reference.run(q, x)
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 1)
    assert (reference.run(q, x) == whole).all()
    assert reference.run(q, x[:0]).shape == (0, q.graph.output_shape.channels)


def test_saturation_is_the_relu() -> None:
    builder = GraphBuilder()
    builder.add(Conv1d(1, 1), builder.add(Input(1, 3)))
    graph = builder.build()
    constants = QuantWeights(np.ones((1, 1, 1), np.int8), np.zeros(1, np.int32), np.ones(1), np.array([2**30], np.int32))
    q = QuantGraph(graph, (Quant(1.0, 0), Quant(1.0, -128)), {1: constants}, {})
    out = reference.run_all(q, np.array([[[-128], [0], [127]]], np.int8))[1]
    assert out[0, :, 0].tolist() == [-128, -128, -96]
    with pytest.raises(QuantizationError, match="ReLU has zero point -100"):
        QuantGraph(graph, (Quant(1.0, 0), Quant(1.0, -100)), {1: constants}, {})


def lstm_of(channels: int, units: int, length: int, *, last: bool = False) -> Graph:
    builder = GraphBuilder()
    builder.add(Lstm(units, last), builder.add(Input(channels, length)))
    return builder.build()


@pytest.mark.parametrize("last", [False, True])
def test_an_lstm_follows_the_real_one(last: bool) -> None:
    """In real numbers with the very same weights, so that only the rounding of activations differs."""
    rng = np.random.default_rng(0)
    channels, units, length = 5, 12, 40
    scale_x, scale_h, scale_w = 1 / 64, 1 / 127, 1 / 100
    weights = rng.integers(-100, 101, (units, 4, channels + units)).astype(np.int8)
    bias = rng.integers(-3000, 3000, (units, 4)).astype(np.int32)
    # One accumulator for both products: the hidden weights carry the ratio of the scales.
    scale_wh = scale_x * scale_w / scale_h
    multiplier = np.full((units, 4), round(scale_x * scale_w * 2**12 * 2**26), np.int32)
    constants = QuantLstm(weights, bias, multiplier, round(2**17 / scale_h))
    q = QuantGraph(lstm_of(channels, units, length, last=last), (Quant(scale_x, 7), Quant(scale_h, 0)), {}, {}, lstms={1: constants})
    x = rng.integers(-128, 128, (3, length, channels)).astype(np.int8)
    hidden, cell, rows = np.zeros((3, units)), np.zeros((3, units)), []
    for t in range(length):
        acc = np.einsum("nc,ukc->nuk", (x[:, t] - 7.0) * scale_x, weights[..., :channels] * scale_w)
        acc += np.einsum("nh,ukh->nuk", hidden, weights[..., channels:] * scale_wh) + bias * scale_x * scale_w
        i, f, o = (1 / (1 + np.exp(-acc[..., k])) for k in (0, 1, 3))
        cell = f * cell + i * np.tanh(acc[..., 2])
        hidden = o * np.tanh(cell)
        rows.append(hidden)
    expected = np.stack(rows, axis=1)[:, -1:] if last else np.stack(rows, axis=1)
    found = reference.run_all(q, x)[1] * scale_h
    assert expected.std() > 0.3
    assert np.abs(found - expected).mean() < 0.01


def test_lstm_gates_on_the_edge_of_a_half_and_of_int16() -> None:
    """Accumulators just below, at and above what the next gate value needs, up to |acc| = 2**25 - 1 and the largest multiplier."""
    bias = np.array([0, 1, -1, 2**24, -(2**24), 2**25 - 1, 1 - 2**25, 12345], np.int64)
    for multiplier in (1, 2**24, 2**25 + 1, 2**26 - 1, 2**31 - 1):
        units = len(bias)
        constants = QuantLstm(
            np.zeros((units, 4, 1 + units), np.int8),
            np.repeat(bias[:, None], 4, 1).astype(np.int32),
            np.full((units, 4), multiplier, np.int32),
            2**23,
        )
        q = QuantGraph(lstm_of(1, units, 3), (Quant(1.0, 0), Quant(1.0, 0)), {}, {}, lstms={1: constants})
        x = np.zeros((1, 3, 1), np.int8)
        assert reference.run_all(q, x)[1][0].tolist() == node_output(q, 1, x[0].tolist())


def test_input_quantisation_rounds_and_saturates() -> None:
    builder = GraphBuilder()
    builder.add(Conv1d(1, relu=False), builder.add(Input(2, 3)))
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
