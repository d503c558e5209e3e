"""Post-training quantisation: bounds of the contract, closeness to the float student, students that have no int8 form."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_students import quantized_student, random_graph, random_windows, warmed_student

from hwnas.errors import QuantizationError
from hwnas.graph import (
    OP_NAMES,
    Add,
    AvgPool1d,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Lstm,
    MaxPool1d,
    Op,
)
from hwnas.quantize import reference
from hwnas.quantize.ptq import best_quant, quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.student import ConvUnit, Student


def check_contract(q: QuantGraph) -> None:
    """Every bound that qgraph.py promises to the kernels."""
    for index, node in enumerate(q.graph.nodes):
        quant = q.quants[index]
        assert quant.scale == np.float32(quant.scale) > 0
        assert -128 <= quant.zero_point <= 127
        assert quant.zero_point == -128 or not getattr(node.op, "relu", False)
        if isinstance(node.op, Add):
            for multiplier, source in zip(q.multipliers[index], node.inputs, strict=True):
                assert 0 <= multiplier < 2**21
                assert multiplier == round(q.quants[source].scale / quant.scale * 2**20)
        elif isinstance(node.op, GlobalAvgPool):
            assert 0 < q.multipliers[index][0] < 2**31
        elif index:
            c = q.constants[index]
            ratio = q.quants[node.inputs[0]].scale * c.weight_scale / quant.scale
            assert (np.abs(c.weights.astype(int)) <= 127).all()
            assert (c.weight_scale == c.weight_scale.astype(np.float32)).all()
            assert ((ratio > 0) & (ratio < 0.5)).all()
            assert (c.multiplier == np.rint(ratio * 2**32)).all()
            assert (c.multiplier >= 2**15).all()
            assert [a.dtype for a in (c.weights, c.bias, c.multiplier)] == [np.int8, np.int32, np.int32]


@given(st.integers(0, 2**16))
@settings(max_examples=15)
def test_contract_and_closeness_on_random_students(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, length=int(rng.integers(8, 60)))
    student, q = quantized_student(graph, seed)
    check_contract(q)
    x = random_windows(graph, 64, seed + 2)
    with torch.no_grad():
        logits = student(torch.from_numpy(x))[0].numpy()
    found = reference.dequantize_output(q, reference.run(q, reference.quantize_input(q, x)))
    # Random weights amplify more than trained ones: a tenth of the logits' spread still tells a wrong scale or layout.
    assert np.sqrt(np.square(found - logits).mean()) < 0.12 * logits.std() + 2 * q.output.scale


def test_every_tensor_is_close_to_the_float_one() -> None:
    graph = random_graph(np.random.default_rng(5), length=64, blocks=4)
    student, q = quantized_student(graph, 5)
    x = random_windows(graph, 16, 7)
    with torch.no_grad():
        taps = student(torch.from_numpy(x))[1]
    tensors = reference.run_all(q, reference.quantize_input(q, x))
    for index in range(1, len(graph.nodes)):
        real = (tensors[index].astype(float) - q.quants[index].zero_point) * q.quants[index].scale
        expected = taps[str(index)].numpy().transpose(0, 2, 1)
        assert np.corrcoef(real.ravel(), expected.ravel())[0, 1] > 0.99, f"node {index}"


def one_conv() -> Graph:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, 3), builder.add(Input(1, 32)))
    x = builder.add(DepthwiseConv1d(3), x)
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    return builder.build()


def unit(student: torch.nn.Module, index: int) -> ConvUnit:
    found = student.get_submodule(f"nodes.{index}")
    assert isinstance(found, ConvUnit)
    return found


@pytest.mark.parametrize("weight", [0.0, 1e-30, 1e-6])
@pytest.mark.parametrize("beta", [0.0, 0.7, -50.0, 1e5])
def test_dead_channels_keep_their_constant(weight: float, beta: float) -> None:
    graph = one_conv()
    student = warmed_student(graph, 0)
    with torch.no_grad():
        unit(student, 1).bn.weight[1] = weight
        unit(student, 1).bn.bias[1] = beta
    x = random_windows(graph, 64, 1)
    q = quantize(student, x, ["a", "b"])
    check_contract(q)
    found = reference.run_all(q, reference.quantize_input(q, x))[1][:, :, 1]
    real = (found.astype(float) - q.quants[1].zero_point) * q.quants[1].scale
    assert np.allclose(real, max(beta, 0.0), atol=q.quants[1].scale)


def test_a_student_that_is_silent_everywhere() -> None:
    graph = one_conv()
    student = warmed_student(graph, 0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    q = quantize(student, random_windows(graph, 8, 1), ["a", "b"])
    check_contract(q)
    out = reference.run(q, reference.quantize_input(q, random_windows(graph, 8, 1)))
    assert (reference.dequantize_output(q, out) == 0).all()


def test_post_relu_range_starts_at_zero() -> None:
    _, q = quantized_student(one_conv(), 3)
    assert [q.quants[i].zero_point for i in (1, 2)] == [-128, -128]
    assert q.input.zero_point == 0
    assert q.input.scale == float(np.float32(1 / 127))


def test_the_range_search_cuts_a_lonely_outlier() -> None:
    values = np.random.default_rng(0).normal(size=(1, 5000, 4)).astype(np.float32)
    values[0, 0, 0] = 12.0
    assert best_quant(values).scale < best_quant(values, (1.0,)).scale
    spread = np.random.default_rng(0).uniform(-1, 1, (1, 5000, 4)).astype(np.float32)
    assert best_quant(spread).scale == best_quant(spread, (1.0,)).scale


def test_what_cannot_be_quantised_says_so() -> None:
    graph = one_conv()
    x = random_windows(graph, 8, 1)
    student = warmed_student(graph, 0)
    with pytest.raises(QuantizationError, match="none"):
        quantize(student, x[:0], ["a", "b"])
    with pytest.raises(QuantizationError, match="3 labels: a, b, c"):
        quantize(student, x, ["a", "b", "c"])
    with pytest.raises(QuantizationError, match=r"node 1 .*NaN"):
        quantize(student, np.full_like(x, np.nan), ["a", "b"])
    with torch.no_grad():
        unit(student, 2).conv.weight[0] = torch.inf
    with pytest.raises(QuantizationError, match="node 2"):
        quantize(student, x, ["a", "b"])


@pytest.mark.parametrize("op", [Lstm(3), AvgPool1d(2, 2), MaxPool1d(2, 2)])
def test_operators_without_a_rule_are_named(op: Op) -> None:
    builder = GraphBuilder()
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(op, builder.add(Input(1, 8)))))
    student = cast(Student, SimpleNamespace(graph=builder.build()))
    with pytest.raises(QuantizationError, match=f"node 1: .* no rule for '{OP_NAMES[type(op)]}'"):
        quantize(student, np.zeros((1, 1, 8), np.float32), ["a", "b"])


def test_an_accumulator_beyond_int32_is_refused() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(70_000), builder.add(Input(1, 1)))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), x))
    graph = builder.build()
    student = warmed_student(graph, 0)
    with torch.no_grad():
        weight = student.get_parameter("nodes.3.weight").fill_(1.0)
        weight[:, ::2] = -1.0  # the outputs stay small, the worst case does not
    with pytest.raises(QuantizationError, match="beyond int32"):
        quantize(student, random_windows(graph, 4, 1), ["a", "b"])


def test_quantising_leaves_the_training_mode_and_the_student_alone() -> None:
    student = warmed_student(one_conv(), 0).train()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    quantize(student, random_windows(student.graph, 8, 1), ["a", "b"])
    assert student.training
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
