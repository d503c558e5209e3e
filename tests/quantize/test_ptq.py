"""Post-training quantisation: bounds of the contract, closeness to the float student, what has no int8 form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_students import quantized_student, random_graph, random_windows, warmed_student

from hwnas.errors import ConfigError, QuantizationError
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
)
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import labels_of
from hwnas.quantize.ptq import PtqSettings, quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.student import ConvUnit, fold


def check_contract(q: QuantGraph) -> None:
    """Every bound that qgraph.py promises to the kernels."""
    for index, node in enumerate(q.graph.nodes):
        quant = q.quants[index]
        assert quant.scale == np.float32(quant.scale) > 0
        assert -128 <= quant.zero_point <= 127
        assert quant.zero_point == -128 or not getattr(node.op, "relu", False)
        if isinstance(node.op, Add | Concat):
            for multiplier, source in zip(q.multipliers[index], node.inputs, strict=True):
                assert 0 <= multiplier < 2**21
                assert multiplier == round(q.quants[source].scale / quant.scale * 2**20)
        elif isinstance(node.op, AvgPool1d | MaxPool1d | Split | Join):
            assert quant == q.quants[node.inputs[0]]
        elif isinstance(node.op, Lstm):
            lstm = q.lstms[index]
            assert (np.abs(lstm.weights.astype(int)) <= 127).all()
            assert (lstm.multiplier == lstm.multiplier[:1]).all()
            assert (lstm.multiplier >= 2**15).all()
            assert lstm.hidden_multiplier == round(2**17 / quant.scale) < 2**31
            reach = [max(127 - z, z + 128) for z in (q.quants[node.inputs[0]].zero_point, quant.zero_point)]
            channels = q.graph.in_shape(node).channels
            worst = np.abs(lstm.weights.astype(int)) @ np.repeat(reach, [channels, node.op.units]) + np.abs(lstm.bias)
            assert worst.max() < 2**25
            assert [a.dtype for a in (lstm.weights, lstm.bias, lstm.multiplier)] == [np.int8, np.int32, np.int32]
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


KINDS = ("concat", "pools", "dilation", "lstm", "modalities")


@given(st.integers(0, 2**16))
@settings(max_examples=25)
def test_contract_and_closeness_on_random_students(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, length=int(rng.integers(8, 60)), **dict(zip(KINDS, (rng.random(5) < 0.5).tolist(), strict=True)))
    student, q = quantized_student(graph, seed)
    check_contract(q)
    x = random_windows(graph, 64, seed + 2)
    with torch.no_grad():
        logits = student(torch.from_numpy(x))[0].numpy()
    found = reference.dequantize_output(q, reference.run(q, reference.quantize_input(q, x)))
    # Random weights amplify more than trained ones: a fifth of the logits' spread still tells a wrong scale or layout.
    assert np.sqrt(np.square(found - logits).mean()) < 0.2 * logits.std() + 2 * q.output.scale


def real_tensor(
    q: QuantGraph, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]], index: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Tensor (N, M * L, C) of a node, from the int8 reference."""
    tensor = reference.run_all(q, reference.quantize_input(q, x))[index].astype(np.float64)
    return np.asarray((tensor - q.quants[index].zero_point) * q.quants[index].scale)


@pytest.mark.parametrize(("seed", "kinds"), [(5, ()), (6, ("concat", "pools")), (7, ("lstm",)), (8, ("modalities", "pools")), (9, KINDS)])
def test_every_tensor_is_close_to_the_float_one(seed: int, kinds: tuple[str, ...]) -> None:
    graph = random_graph(np.random.default_rng(seed), length=64, blocks=4, **dict.fromkeys(kinds, True))
    student, q = quantized_student(graph, seed)
    x = random_windows(graph, 16, 7)
    with torch.no_grad():
        taps = student(torch.from_numpy(x))[1]
    for index in range(1, len(graph.nodes)):
        expected = taps[str(index)].flatten(2).numpy().transpose(0, 2, 1)
        assert np.corrcoef(real_tensor(q, x, index).ravel(), expected.ravel())[0, 1] > 0.985, f"node {index} {graph.nodes[index]}"


@pytest.mark.parametrize("op", [AvgPool1d(3, 2), MaxPool1d(3, 2), Concat(), Add(), Lstm(6), Lstm(6, True), Conv1d(4, 3), GlobalAvgPool()])
def test_one_operator_costs_a_step_or_two(op: Op) -> None:
    """Alone behind the input, rounding is all that an operator may add: about half a step of its input and half one of its output."""
    builder = GraphBuilder()
    x = builder.add(Input(3, 24))
    builder.add(op, *([x, x] if isinstance(op, Add | Concat) else [x]))
    student, q = quantized_student(builder.build(), 1)
    check_contract(q)
    windows = random_windows(q.graph, 32, 5)
    with torch.no_grad():
        expected = student(torch.from_numpy(windows))[1]["1"].numpy().transpose(0, 2, 1)
    error = np.abs(real_tensor(q, windows, 1) - expected)
    low, high = ((bound - q.output.zero_point) * q.output.scale for bound in (-128, 127))
    error = error[(expected > low) & (expected < high)]  # windows of another seed may leave the calibrated range
    assert error.mean() < q.output.scale
    assert error.max() < 5 * q.output.scale
    assert expected.std() > 20 * q.output.scale


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


def test_a_silent_layer_beside_a_residual_is_fine() -> None:
    builder = GraphBuilder()
    x = builder.add(Conv1d(4, 3), builder.add(Input(1, 32)))
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Add(), x, builder.add(Conv1d(4, 3), x))))
    student = warmed_student(builder.build(), 0)
    with torch.no_grad():
        unit(student, 2).bn.bias.fill_(-100)
    x_check = random_windows(student.graph, 32, 1)
    q = quantize(student, x_check, ["a", "b"])
    check_contract(q)
    assert (real_tensor(q, x_check, 2) == 0).all()
    assert np.unique(real_tensor(q, x_check, 5)).size > 10


def test_a_student_that_answers_alike_is_refused() -> None:
    student = warmed_student(one_conv(), 0)
    with torch.no_grad():
        unit(student, 2).bn.bias.fill_(-100)
    with pytest.raises(QuantizationError, match=r"alike; .* node 2 \(depthwise_conv1d\)"):
        quantize(student, random_windows(student.graph, 8, 1), ["a", "b"])


def test_post_relu_range_starts_at_zero() -> None:
    _, q = quantized_student(one_conv(), 3)
    assert [q.quants[i].zero_point for i in (1, 2)] == [-128, -128]
    assert q.input.zero_point == 0
    assert q.input.scale == float(np.float32(1 / 127))


def test_what_cannot_be_quantised_says_so() -> None:
    graph = one_conv()
    x = random_windows(graph, 8, 1)
    student = warmed_student(graph, 0)
    with pytest.raises(QuantizationError, match="at least 8 calibration windows, got none"):
        quantize(student, x[:0], ["a", "b"])
    with pytest.raises(QuantizationError, match="at least 8 calibration windows, got 7"):
        quantize(student, x[:7], ["a", "b"])
    with pytest.raises(QuantizationError, match="3 labels: a, b, c"):
        quantize(student, x, ["a", "b", "c"])
    with pytest.raises(QuantizationError, match=r"channel 0 .*NaN"):
        quantize(student, np.where(x == x[3], np.nan, x), ["a", "b"])
    with torch.no_grad():
        unit(student, 1).bn.bias[0] = 3e38
        unit(student, 1).bn.bias[1] = 3e38
        unit(student, 2).bn.weight.fill_(1e30)
    with pytest.raises(QuantizationError, match=r"node 2 \(depthwise_conv1d\) gives NaN or infinity"):
        quantize(student, x, ["a", "b"])
    with torch.no_grad():
        unit(student, 2).conv.weight[0] = torch.inf
    with pytest.raises(QuantizationError, match=r"node 2 \(depthwise_conv1d\) has NaN or infinite weights"):
        quantize(student, x, ["a", "b"])


def test_a_dead_input_channel_is_named() -> None:
    builder = GraphBuilder()
    builder.add(Dense(2), builder.add(GlobalAvgPool(), builder.add(Conv1d(4, 3), builder.add(Input(3, 32)))))
    student = warmed_student(builder.build(), 0)
    x = random_windows(student.graph, 16, 1)
    x[:, 2] = 0.25
    with pytest.raises(QuantizationError, match=r"channel 2 of the calibration windows is 0\.25 throughout"):
        quantize(student, x, ["a", "b"])
    x[15, 2, 31] = 0.5  # one sample that differs is a signal
    quantize(student, x, ["a", "b"])


@pytest.mark.parametrize("wrong", [{"calibration": "entropy"}, {"percentile": 50.0}, {"percentile": 100.1}, {"percentile": float("nan")}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="allowed is"):
        PtqSettings(**wrong)


@pytest.mark.parametrize("calibration", ["mse", "min_max", "percentile"])
def test_every_calibration_keeps_the_contract(calibration: Any) -> None:
    graph = random_graph(np.random.default_rng(3), length=40, concat=True, pools=True, lstm=True)
    student = warmed_student(graph, 3)
    q = quantize(student, random_windows(graph, 64, 5), labels_of(graph), PtqSettings(calibration))
    check_contract(q)


def test_the_calibration_chooses_the_ranges_but_never_clips_logits() -> None:
    student = warmed_student(one_conv(), 0)
    x = random_windows(student.graph, 64, 1)
    whole, cut = (quantize(student, x, ["a", "b"], PtqSettings(c, 90, bias_correction=False)).quants for c in ("min_max", "percentile"))
    assert cut[1].scale < 0.9 * whole[1].scale
    assert cut[2].scale < 0.9 * whole[2].scale
    assert cut[4] == whole[4]


def test_a_sum_that_cancels_keeps_its_multipliers() -> None:
    """Its values span far less than those of its inputs, so its scale is bound by theirs."""
    builder = GraphBuilder()
    x = builder.add(Input(1, 32))
    builder.add(Add(), builder.add(Conv1d(4, 3, relu=False), x), builder.add(Conv1d(4, 3, relu=False), x))
    student = warmed_student(builder.build(), 0)
    unit(student, 2).load_state_dict(unit(student, 1).state_dict())
    with torch.no_grad():
        unit(student, 2).bn.weight.neg_()
        unit(student, 2).bn.bias.neg_()
        unit(student, 2).bn.bias[0] += 0.01
        unit(student, 2).bn.weight[1] *= 0.99
    q = quantize(student, random_windows(student.graph, 32, 1), labels_of(student.graph))
    check_contract(q)
    assert max(q.multipliers[3]) > 1.9 * 2**20


def test_lstm_weights_use_all_of_int8() -> None:
    """Each gate's step is the finest that holds both matrices: a weight of 127 in every gate, integers exact to half a step."""
    builder = GraphBuilder()
    builder.add(Lstm(12), builder.add(Input(5, 20)))
    student, q = quantized_student(builder.build(), 4)
    lstm, folded = q.lstms[1], fold(student)[1]
    step = lstm.multiplier[0] / 2.0**38
    scales = np.repeat([q.input.scale, q.output.scale], [5, 12])
    real = lstm.weights * step[None, :, None] / scales
    expected = folded.weight.reshape(4, 12, 17).transpose(1, 0, 2)
    assert (np.abs(lstm.weights.astype(int)).max((0, 2)) == 127).all()
    assert (np.abs(real - expected) <= 0.5001 * step[None, :, None] / scales).all()
    assert np.allclose(lstm.bias * step, folded.bias.reshape(4, 12).T, rtol=0, atol=0.5001 * step.max())


def test_an_lstm_of_last_states_is_calibrated_on_all_of_them() -> None:
    """Hidden states are large while the signal is on and fall back to nothing before the last sample."""
    builder = GraphBuilder()
    builder.add(Lstm(4, True), builder.add(Input(1, 40)))
    student = warmed_student(builder.build(), 0)
    x = random_windows(student.graph, 32, 0)
    x[:, :, 20:] = 0
    with torch.no_grad():
        student.get_parameter("nodes.1.bias_ih_l0").zero_()
        student.get_parameter("nodes.1.bias_hh_l0").zero_()
        student.get_parameter("nodes.1.weight_hh_l0").zero_()
        student.get_parameter("nodes.1.weight_ih_l0").fill_(4)
        all_steps = torch.abs(student.get_submodule("nodes.1")(torch.from_numpy(x).transpose(1, 2))[0])
    q = quantize(student, x, [*"abcd"], PtqSettings("min_max"))
    assert float(all_steps[:, -1].max()) < 0.05 * float(all_steps.max())
    assert 255 * q.output.scale >= float(all_steps.max())


def test_an_lstm_with_wild_weights_is_refused() -> None:
    builder = GraphBuilder()
    builder.add(Lstm(3), builder.add(Input(2, 10)))
    student = warmed_student(builder.build(), 0)
    x = random_windows(student.graph, 8, 0)
    with torch.no_grad():
        student.get_parameter("nodes.1.weight_ih_l0")[6:9] *= 1000
    with pytest.raises(QuantizationError, match=r"node 1 \(lstm\): weights of gate g are too large"):
        quantize(student, x, labels_of(student.graph))


def test_a_gate_without_weights_keeps_a_multiplier() -> None:
    builder = GraphBuilder()
    builder.add(Lstm(3), builder.add(Input(2, 10)))
    student = warmed_student(builder.build(), 0)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            student.get_parameter(f"nodes.1.{name}")[9:12] = 0
    q = quantize(student, random_windows(student.graph, 8, 0), labels_of(student.graph))
    check_contract(q)
    assert (q.lstms[1].weights[:, 3] == 0).all()


def test_large_biases_of_an_lstm_coarsen_its_step() -> None:
    builder = GraphBuilder()
    builder.add(Lstm(3), builder.add(Input(2, 10)))
    student = warmed_student(builder.build(), 0)
    with torch.no_grad():
        student.get_parameter("nodes.1.weight_ih_l0").mul_(1e-4)
        student.get_parameter("nodes.1.weight_hh_l0").mul_(1e-4)
        student.get_parameter("nodes.1.bias_ih_l0").fill_(60)
    x = random_windows(student.graph, 8, 0)
    with torch.no_grad():  # saturated gates answer every window alike but for the very first bits
        student.get_parameter("nodes.1.weight_ih_l0")[0] += 30
        student.get_parameter("nodes.1.bias_ih_l0")[0] = 0
    check_contract(quantize(student, x, labels_of(student.graph)))


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
        quantize(student, random_windows(graph, 8, 1), ["a", "b"])


def test_quantising_leaves_the_training_mode_and_the_student_alone() -> None:
    student = warmed_student(one_conv(), 0).train()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    quantize(student, random_windows(student.graph, 8, 1), ["a", "b"])
    assert student.training
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
