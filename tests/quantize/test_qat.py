"""Quantisation-aware training: every value is the reference's, gradients are those of the real operators, and they teach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_network, random_operator
from random_students import quantized_student, random_graph, random_integers, random_windows
from torch import Tensor, nn

from hwnas.errors import GraphError, QuantizationError
from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, GraphBuilder, Input, Lstm
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qat import QuantStudent, requantise, whole
from hwnas.quantize.qgraph import LSTM_ACC_MAX, QMIN, QuantGraph, QuantLstm, gate_bound, real_weights
from hwnas.quantize.sensitivity import one_in_int8
from hwnas.quantize.straight_through import exact_type
from hwnas.student import ConvUnit, Student
from hwnas.train import Recipe, Targets, fit


def assert_same(q: QuantGraph, module: QuantStudent, x: np.ndarray) -> None:
    """Logits and taps of `module` are the dequantised tensors of the reference on `q`."""
    with torch.no_grad():
        logits, taps = module(torch.from_numpy(x))
    tensors = reference.run_all(q, reference.quantize_input(q, x))
    for index, node in enumerate(q.graph.nodes[1:], start=1):
        channels, length, modalities = node.shape
        quant = q.quants[index]
        expected = (tensors[index].astype(np.float32) - quant.zero_point) * np.float32(quant.scale)
        expected = expected.reshape(len(x), modalities, length, channels).transpose(0, 3, 1, 2)
        found = taps[str(index)].numpy().reshape(expected.shape)
        assert (found == expected).all(), f"node {index} {node.op}"
    assert set(taps) == {str(i) for i in range(1, len(q.graph.nodes))}
    heads = [node for node in q.graph.nodes if isinstance(node.op, Dense)]
    if heads and heads[-1].inputs[0] > 0:
        assert torch.equal(taps["embedding"], taps[str(heads[-1].inputs[0])].flatten(1))
    if q.graph.output_shape.length == 1:
        assert (logits.numpy() == reference.dequantize_output(q, reference.run(q, reference.quantize_input(q, x)))).all()


def assert_equal(a: QuantGraph, b: QuantGraph) -> None:
    for first, second in ((a.constants, b.constants), (a.lstms, b.lstms)):
        for index, constants in first.items():
            for name, value in vars(constants).items():
                other = getattr(second[index], name)
                assert np.asarray(value).dtype == np.asarray(other).dtype and np.array_equal(value, other), f"node {index}: {name}"


@given(st.integers(0, 2**20))
@settings(max_examples=60)
def test_one_operator_computes_what_the_reference_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_operator(rng)
    q = arbitrary(graph, rng)
    module = QuantStudent(q)
    assert_equal(module.quant_graph(), q)
    assert_same(q, module, random_windows(graph, int(rng.integers(1, 20)), seed))


@given(st.integers(0, 2**20))
@settings(max_examples=15)
def test_networks_compute_what_the_reference_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    several = bool(rng.random() < 0.5)
    if rng.random() < 0.5:
        graph = random_network(rng, longest=120)
    else:
        graph = random_graph(rng, concat=True, pools=True, dilation=True, lstm=bool(rng.random() < 0.5), modalities=several)
    q = random_integers(graph, rng) if rng.random() < 0.5 else arbitrary(graph, rng)
    module = QuantStudent(q)
    assert_same(q, module, random_windows(graph, 5, seed))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_an_lstm_of_small_weights_and_large_biases_is_exact_at_first(seed: int, last: bool) -> None:
    """`quantize` gives such biases all that the weights leave of the accumulator, between the zero points that there are."""
    builder = GraphBuilder()
    x = builder.add(Lstm(6, last), builder.add(Input(5, 20)))
    builder.add(Dense(2), x if last else builder.add(GlobalAvgPool(), x))
    student = Student(builder.build(), torch.Generator().manual_seed(seed)).eval()
    with torch.no_grad():
        for name, parameter in student.nodes["1"].named_parameters():
            parameter.mul_(0.005) if name.startswith("weight") else parameter.copy_(parameter.sign() * 12)
    windows = random_windows(student.graph, 32, seed)
    q = quantize(student, windows, ["a", "b"])
    assert 0.999 * LSTM_ACC_MAX < gate_bound(q.lstms[1], 0, q.quants[1].zero_point) <= LSTM_ACC_MAX
    module = QuantStudent(q)
    assert_equal(module.quant_graph(), q)
    assert_same(q, module, windows)


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_lstm_is_exact_at_the_bound_of_its_gates(sign: int) -> None:
    """Behind a ReLU inputs are never below their zero point: positive weights leave a negative bias the whole accumulator."""
    builder = GraphBuilder()
    x = builder.add(Lstm(2), builder.add(Conv1d(3), builder.add(Input(1, 12))))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    weights = np.full_like(q.lstms[2].weights, sign * 127)
    weights[:, :, 3:] = 0
    lstm = QuantLstm(weights, np.full((2, 4), -sign * LSTM_ACC_MAX, np.int32), q.lstms[2].multiplier, q.lstms[2].hidden_multiplier)
    q = replace(q, lstms={2: lstm})
    assert q.quants[1].zero_point == QMIN and gate_bound(lstm, QMIN, q.quants[2].zero_point) == LSTM_ACC_MAX
    module = QuantStudent(q)
    assert_equal(module.quant_graph(), q)
    assert_same(q, module, random_windows(q.graph, 8, 1))
    part = module.nodes["2"]
    with torch.no_grad():
        part.bias.mul_(-2)
    bounded = module.quant_graph()
    assert gate_bound(bounded.lstms[2], QMIN, q.quants[2].zero_point) == LSTM_ACC_MAX
    assert (bounded.lstms[2].bias == sign * (LSTM_ACC_MAX - 3 * 127 * 255)).all()


def test_accumulators_beyond_float32_stay_exact() -> None:
    """1,200 inputs of weight 127: sums pass 2**24, where float32 would lose the last bits."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(400, 3), builder.add(Input(400, 9)))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    conv = q.constants[1]
    loud = replace(conv, weights=np.full_like(conv.weights, 127), multiplier=np.full_like(conv.multiplier, 7_000))
    q = replace(q, constants=q.constants | {1: loud})
    x = np.random.default_rng(1).uniform(0.5, 1, (4, 400, 9)).astype(np.float32)
    assert_same(q, QuantStudent(q), x)
    weight = QuantStudent(q).nodes["1"].integers()[0]
    assert exact_type(weight) == torch.float64 and exact_type(weight[:, :100]) == torch.float32


def twin(student: Student, q: QuantGraph) -> Student:
    """`student` with the weights of `q` and every weighted node's output rounded by torch's own straight-through operator."""
    for index in (*q.constants, *q.lstms):
        student = one_in_int8(student, q, index)
    return student


def loss_of(module: nn.Module, x: np.ndarray, y: np.ndarray) -> Tensor:
    return nn.functional.cross_entropy(module(torch.from_numpy(x))[0], torch.from_numpy(y))


@pytest.mark.parametrize("seed", range(6))
def test_gradients_are_those_of_the_float_operators(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, length=40, blocks=1, concat=True, pools=True, dilation=True, lstm=seed % 2 == 1)
    student, q = quantized_student(graph, seed)
    x, y = random_windows(graph, 64, seed + 3), rng.integers(0, graph.output_shape.channels, 64)
    module, other = QuantStudent(q), twin(student, q)
    loss_of(module, x, y).backward()
    loss_of(other, x, y).backward()
    for name, part in module.nodes.items():
        expected = other.nodes[name]
        if isinstance(expected, ConvUnit):
            weight, bias = expected.conv.weight.grad, expected.bn.bias.grad
        elif isinstance(expected, nn.LSTM):
            weight = torch.cat([expected.weight_ih_l0.grad, expected.weight_hh_l0.grad], 1)
            bias = expected.bias_ih_l0.grad
        else:
            weight, bias = expected.weight.grad, expected.bias.grad
        real = torch.from_numpy(real_weights(q, int(name))[0]).float().reshape(part.weight.shape)
        steps = torch.where(part.integers()[0] != 0, real / part.integers()[0], torch.nan)
        unit = (127 * steps.abs()).reshape(len(real), -1).nanmedian(1).values.reshape(-1, *[1] * (real.ndim - 1))
        if isinstance(expected, nn.LSTM):  # one scale for input columns, another for recurrent ones
            unit = (127 * steps.abs()).nanmedian(0).values.expand_as(real)
        for found, wanted in ((part.weight.grad, weight.reshape(real.shape) * unit), (part.bias.grad.float(), bias)):
            assert found is not None and torch.isfinite(found).all()
            assert nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), 0) > 0.95, f"node {name}"


def task() -> tuple[Student, QuantGraph, np.ndarray, np.ndarray]:
    """A random student, its int8 form, and slow and fast windows to tell apart."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(6, 5, 2), builder.add(Input(1, 64)))
    x = builder.add(Conv1d(6, 3, relu=False), builder.add(DepthwiseConv1d(3), x))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Lstm(5), x)))
    student, q = quantized_student(builder.build(), 4)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 96)
    turns = np.where(y, 9.0, 3.0)[:, None] * np.linspace(0, 1, 64) + rng.random((96, 1))
    return student, q, np.sin(2 * np.pi * turns).astype(np.float32)[:, None], y.astype(np.int64)


RECIPE = Recipe(name="test", epochs=8, batch_size=16, learning_rate=0.01, weight_decay=0.0, average=0.8)


def test_training_teaches_and_what_was_learnt_is_what_the_reference_computes() -> None:
    _, q, x, y = task()
    module = QuantStudent(q)
    before = float(loss_of(module, x, y).detach())
    result = fit(module, x, Targets(y), RECIPE, seed=0)
    assert float(loss_of(module, x, y).detach()) < 0.7 * before and result.losses[-1] < result.losses[0]
    trained = module.quant_graph()
    assert_same(trained, module, x)
    assert (trained.constants[1].weights != q.constants[1].weights).any() and (trained.lstms[4].bias != q.lstms[4].bias).any()
    assert (trained.quants, trained.multipliers) == (q.quants, q.multipliers), "scales stay"
    for index, constants in trained.constants.items():
        assert np.abs(constants.weights.astype(int)).max() <= 127
        assert (constants.multiplier == q.constants[index].multiplier).all()


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    _, q, x, y = task()
    whole, resumed, path = QuantStudent(q), QuantStudent(q), tmp_path / "state.safetensors"
    recipe = replace(RECIPE, epochs=3)
    fit(whole, x, Targets(y), recipe, seed=1)

    def interrupt(done: int, epochs: int, loss: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(QuantStudent(q), x, Targets(y), recipe, seed=1, checkpoint=path, on_epoch=interrupt)
    fit(resumed, x, Targets(y), recipe, seed=1, checkpoint=path)
    assert_equal(resumed.quant_graph(), whole.quant_graph())
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in whole.state_dict().items())


def test_saturated_values_get_no_gradient() -> None:
    """Straight through the rounding inside the range, nothing beyond it: of weights, of biases, of outputs."""
    values = torch.tensor([-3.0, -2.4, 0.2, 2.6, 9.0], requires_grad=True)
    rounded = whole(values, torch.tensor(-2.0), torch.tensor(2.0))
    rounded.sum().backward()
    assert rounded.tolist() == [-2, -2, 0, 2, 2] and values.grad is not None and values.grad.tolist() == [0, 1, 1, 0, 0]
    acc = torch.tensor([[-9000.0, -20.0, 30.0, 9000.0]], requires_grad=True)
    out = requantise(acc.T[None], None, 0.1, -8)
    out.sum().backward()
    assert out.flatten().tolist() == [-120, -2, 3, 135] and acc.grad is not None
    assert acc.grad.flatten().tolist() == pytest.approx([0, 0.1, 0.1, 0])


def test_windows_of_another_shape_are_refused() -> None:
    _, q, x, _ = task()
    with pytest.raises(GraphError, match=r"1 channels x 64 samples, got shape \(96, 1, 63\)"):
        QuantStudent(q)(torch.from_numpy(x[:, :, 1:]))


def test_a_layer_whose_accumulators_could_overflow_in_training_is_refused() -> None:
    builder = GraphBuilder()
    builder.add(Dense(1), builder.add(Input(33_200, 1)))
    with pytest.raises(QuantizationError, match="node 1: 33200 inputs"):
        QuantStudent(arbitrary(builder.build(), np.random.default_rng(0)))
