"""Bias correction: mean errors of every channel go, other integers stay, overflow is out of reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from random_students import random_graph, random_windows, warmed_student

from hwnas.graph import Conv1d, Dense, DepthwiseConv1d, Graph, GraphBuilder, Input, Join, Split
from hwnas.quantize import bias_correction, reference
from hwnas.quantize.arbitrary import labels_of
from hwnas.quantize.ptq import PtqSettings, quantize
from hwnas.quantize.qgraph import BIAS_MAX, QuantGraph
from hwnas.student import Student, fold


def both(graph: Graph, seed: int) -> tuple[Student, np.ndarray[tuple[int, ...], np.dtype[np.float32]], QuantGraph, QuantGraph]:
    """A student, its calibration windows, and its int8 forms without and with bias correction."""
    student = warmed_student(graph, seed)
    x = random_windows(graph, 128, seed + 2)
    plain, corrected = (quantize(student, x, labels_of(graph), PtqSettings(bias_correction=wanted)) for wanted in (False, True))
    return student, x, plain, corrected


def test_a_linear_layer_loses_its_mean_error() -> None:
    """In closed form: a dense layer of an input of constant mean is left with less than half a step of its accumulator."""
    builder = GraphBuilder()
    builder.add(Dense(3), builder.add(Input(40, 1)))
    student, x, plain, corrected = both(builder.build(), 0)
    weight, bias = fold(student)[1]
    source = reference.quantize_input(plain, x)[:, 0].astype(np.float64) * plain.input.scale
    expected = (x[:, :, 0].astype(np.float64) @ weight.T.astype(np.float64) + bias).mean(0)

    def error(q: QuantGraph) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        c = q.constants[1]
        unit = c.weight_scale * q.input.scale
        found = (source @ (c.weights * c.weight_scale[:, None]).T).mean(0) + c.bias * unit
        return np.asarray((found - expected) / unit)

    assert np.abs(error(plain)).max() > 3
    assert np.abs(error(corrected)).max() <= 0.500001


@pytest.mark.parametrize("op", [Conv1d(4, 15, 2, False, 2), DepthwiseConv1d(20, 3, False)])
@pytest.mark.parametrize("modalities", [False, True])
def test_a_convolution_loses_its_mean_error(op: Conv1d | DepthwiseConv1d, modalities: bool) -> None:
    """Padding, strides and modalities included: what is left is half a step of the bias, and noise of the output's rounding."""
    builder = GraphBuilder()
    x = builder.add(Input(3, 31))
    if modalities:
        builder.add(Join(), builder.add(op, builder.add(Split(), x)))
    else:
        builder.add(op, x)
    student = warmed_student(builder.build(), 1)
    node = 2 if modalities else 1
    windows = np.abs(random_windows(student.graph, 256, 2))  # weights are rounded to the same side of the truth all the time
    windows[:, 1] *= 0.5
    with torch.no_grad():
        expected = student(torch.from_numpy(windows))[1][str(node)].flatten(2).numpy().mean((0, 2))

    def left(corrected: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        q = quantize(student, windows, labels_of(student.graph), PtqSettings("min_max", bias_correction=corrected))
        steps = reference.run_all(q, reference.quantize_input(q, windows))[node].mean((0, 1)) - q.quants[node].zero_point
        return np.asarray(np.abs(steps - expected / q.quants[node].scale) - 0.5 * q.constants[node].multiplier / 2**32)

    assert left(True).max() < 0.015
    assert left(False).max() > 0.035


@pytest.mark.parametrize("kinds", [(), ("concat", "pools", "dilation"), ("modalities", "pools")])
def test_mean_errors_shrink(kinds: tuple[str, ...]) -> None:
    """Over random students, of convolutions without activation (saturation makes means of others an approximation) and the logits."""
    before, after = [], []
    for seed in range(6):
        graph = random_graph(np.random.default_rng(seed), length=50, **dict.fromkeys(kinds, True))
        student, x, plain, corrected = both(graph, seed)
        with torch.no_grad():
            taps = student(torch.from_numpy(x))[1]
        for q, errors in ((plain, before), (corrected, after)):
            tensors = reference.run_all(q, reference.quantize_input(q, x))
            for index, node in enumerate(graph.nodes[1:], start=1):
                if isinstance(node.op, Dense) or (isinstance(node.op, Conv1d) and not node.op.relu):
                    real = (tensors[index].astype(np.float64) - q.quants[index].zero_point) * q.quants[index].scale
                    expected = taps[str(index)].flatten(2).numpy().transpose(0, 2, 1)
                    errors.append(np.abs((real - expected).mean((0, 1))).mean() / expected.std())
    assert np.mean(after) < 0.6 * np.mean(before)


def test_nothing_but_biases_changes() -> None:
    graph = random_graph(np.random.default_rng(4), length=40, concat=True, pools=True, lstm=True, modalities=True)
    _, _, plain, corrected = both(graph, 4)
    assert corrected.quants == plain.quants
    assert corrected.multipliers == plain.multipliers
    changed = 0
    for index, constants in plain.constants.items():
        found = corrected.constants[index]
        assert (found.weights == constants.weights).all()
        assert (found.multiplier == constants.multiplier).all()
        assert found.bias.dtype == np.int32
        changed += int((found.bias != constants.bias).sum())
    assert changed > 0
    assert all((corrected.lstms[i].bias == lstm.bias).all() for i, lstm in plain.lstms.items())


def test_no_node_reads_more_than_a_batch_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's working set is many times its output; the integers are those of all windows at once."""
    graph = random_graph(np.random.default_rng(3), length=300, channels=24, residuals=True)
    student, x, plain, _ = both(graph, 3)
    folded = fold(student)
    means = {i: tap.flatten(2).numpy().mean(0, dtype=np.float64).T for i, tap in _taps(student, x).items()}
    read = []
    run_node = reference.run_node

    def spy(q: QuantGraph, index: int, *inputs: np.ndarray[tuple[int, ...], np.dtype[np.int8]]) -> np.ndarray[tuple[int, ...], Any]:
        read.append(len(inputs[0]))
        return run_node(q, index, *inputs)

    monkeypatch.setattr(reference, "run_node", spy)
    windows = reference.quantize_input(plain, x)
    found = bias_correction.correct(plain, folded, means, windows)
    batched = max(read)
    monkeypatch.setattr(reference, "BATCH_ELEMENTS", 2**40)
    whole = bias_correction.correct(plain, folded, means, windows)
    assert batched < len(x) == max(read)
    assert all((found.constants[i].bias == whole.constants[i].bias).all() for i in plain.constants)
    assert any((found.constants[i].bias != plain.constants[i].bias).any() for i in plain.constants)


def _taps(student: Student, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> dict[int, torch.Tensor]:
    with torch.no_grad():
        return {0: torch.from_numpy(x), **{int(i): tap for i, tap in student(torch.from_numpy(x))[1].items()}}


def test_accumulators_stay_within_int32() -> None:
    """However large the shift asked for, the worst accumulator is below 2**31."""
    builder = GraphBuilder()
    builder.add(Conv1d(2, relu=False), builder.add(Input(2, 4)))
    student, x, plain, _ = both(builder.build(), 0)
    folded = fold(student)[1]
    wild = {1: folded._replace(bias=np.full_like(folded.bias, 1e9))}
    means = {0: x.mean(0, dtype=np.float64).T}
    found = bias_correction.correct(plain, wild, means, reference.quantize_input(plain, x)).constants[1]
    assert (found.bias == BIAS_MAX).all()
    heavy = replace(plain.constants[1], weights=np.full((2, 1, 2), 127, np.int8))
    limit = int(bias_correction._shifted(plain.graph.nodes[1], heavy, np.array([1e12, -1e12])).bias.max())
    assert limit + 2 * 127 * 255 < 2**31
