"""Head temperature and integer softmax: integers kept, scales consistent, distance to the real softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_students import quantized_student, random_graph, random_windows
from scipy.special import softmax

from hwnas.errors import QuantizationError
from hwnas.graph import Conv1d, Dense, GraphBuilder, Input
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.probabilities import exponentials, probabilities, with_temperature
from hwnas.quantize.qgraph import Int8, Quant, QuantGraph
from hwnas.tasks import TASKS, Windows


def head(scale: float, classes: int = 3) -> QuantGraph:
    """A student whose output scale is `scale`; its other constants do not matter here."""
    builder = GraphBuilder()
    builder.add(Dense(classes), builder.add(Input(2, 1)))
    q = arbitrary(builder.build(), np.random.default_rng(0))
    return replace(q, quants=(q.quants[0], Quant(float(np.float32(scale)), q.output.zero_point)))


def by_hand(scale: float, row: list[int]) -> list[int]:
    """The formula in Python's whole numbers."""
    table = [round(65536 * float(np.exp(-k * scale))) for k in range(256)]
    parts = [table[max(row) - y] for y in row]
    return [min(255, (256 * part + sum(parts) // 2) // sum(parts)) for part in parts]


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 2.0), st.integers(1, 12))
@settings(max_examples=60)
def test_integer_softmax(seed: int, scale: float, classes: int) -> None:
    rng = np.random.default_rng(seed)
    q = head(scale, classes)
    spread = int(rng.integers(1, 129))
    logits: Int8 = rng.integers(-spread, spread, (40, classes)).astype(np.int8)
    found = probabilities(q, logits)
    assert found.dtype == np.uint8
    assert found.tolist() == [by_hand(q.output.scale, row) for row in logits.tolist()]
    exact = softmax(logits.astype(np.float64) * q.output.scale, axis=1)
    assert np.abs(found / 256 - exact).max() <= 1 / 256
    assert (np.abs(found.sum(1, dtype=int) - 256) <= classes / 2 + 1).all()
    for row, p in zip(logits, found, strict=True):
        order = np.argsort(row)
        assert (np.diff(p[order].astype(int)) >= 0).all()
        assert p[row.argmax()] == p.max()


def test_extremes_of_the_integer_softmax() -> None:
    q = head(0.5)
    assert probabilities(q, np.array([[127, -128, -128], [5, 5, 5], [-128, -128, 127]], np.int8)).tolist() == [
        [255, 0, 0],
        [85, 85, 85],
        [0, 0, 255],
    ]
    table = exponentials(q)
    assert (table[0], table.dtype, len(table)) == (65536, np.uint32, 256)
    assert probabilities(q, np.zeros((0, 3), np.int8)).shape == (0, 3)
    many = head(1e-4, 257)
    assert set(probabilities(many, np.zeros((1, 257), np.int8)).ravel().tolist()) == {1}


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7, 8.0])
def test_a_temperature_divides_the_logits_and_leaves_every_integer(temperature: float) -> None:
    graph = random_graph(np.random.default_rng(2), length=40, lstm=True, concat=True)
    _, q = quantized_student(graph, 2)
    warm = with_temperature(q, temperature)
    last = len(graph.nodes) - 1
    for index, constants in q.constants.items():
        found = warm.constants[index]
        assert all((getattr(found, name) == getattr(constants, name)).all() for name in ("weights", "bias", "multiplier"))
        assert (found.weight_scale == constants.weight_scale).all() or index == last
    assert warm.quants[:-1] == q.quants[:-1]
    assert warm.output.zero_point == q.output.zero_point
    x = reference.quantize_input(q, random_windows(graph, 50, 9))
    out = reference.run(warm, x)
    assert (out == reference.run(q, x)).all()
    cooled = reference.dequantize_output(warm, out)
    assert np.allclose(cooled, reference.dequantize_output(q, out) / temperature, rtol=1e-6, atol=0)
    assert np.allclose(softmax(cooled, axis=1), softmax(reference.dequantize_output(q, out) / temperature, axis=1), atol=1e-5)
    assert np.abs(probabilities(warm, out) / 256 - softmax(cooled.astype(np.float64), axis=1)).max() <= 1 / 256


@pytest.mark.parametrize("temperature", [0.3, 1.7, 8.0])
def test_scales_of_a_file_still_say_the_same(temperature: float) -> None:
    """What a runtime derives from the scales that a file holds: float32, and the very multiplier that the kernels use."""
    graph = random_graph(np.random.default_rng(2), length=40)
    _, q = quantized_student(graph, 2)
    warm = with_temperature(q, temperature)
    last = len(graph.nodes) - 1
    head, source = warm.constants[last], warm.quants[graph.nodes[last].inputs[0]]
    assert (head.weight_scale == head.weight_scale.astype(np.float32)).all()
    assert warm.output.scale == np.float32(warm.output.scale)
    derived = source.scale * head.weight_scale / warm.output.scale * 2.0**32
    assert (np.abs(derived - head.multiplier) <= 0.5 + head.multiplier * 2.0**-22).all()
    real_bias = head.bias * (source.scale * head.weight_scale)
    expected = q.constants[last].bias * (source.scale * q.constants[last].weight_scale) / temperature
    assert np.allclose(real_bias, expected, rtol=1e-6, atol=0)


def test_a_temperature_changes_no_ranking() -> None:
    """Of two classes. (With more, a temperature weighs the others in the log odds of one class anew: its AUC may move a little.)"""
    builder = GraphBuilder()
    builder.add(Dense(2), builder.add(Input(6, 1)))
    graph = builder.build()
    _, q = quantized_student(graph, 2)
    x = random_windows(graph, 300, 4)
    out = reference.run(q, reference.quantize_input(q, x))
    y: NDArray[np.int64] = (np.random.default_rng(0).random(300) < softmax(reference.dequantize_output(q, out), axis=1)[:, 1]).astype(
        np.int64
    )
    task = TASKS["rhythm-af"]
    windows = Windows(x, y, np.repeat("s", len(y)), 100.0, "synthetic", "made")

    def metrics(student: QuantGraph) -> dict[str, float]:
        return task.metrics((out.astype(np.float64) - student.output.zero_point) * student.output.scale, windows)

    assert 0.5 < metrics(q)["af_auc"] < 1
    assert metrics(with_temperature(q, 3.3)) == pytest.approx(metrics(q), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), 1e-45, 1e300])
def test_temperatures_out_of_range_are_refused(temperature: float) -> None:
    with pytest.raises(QuantizationError, match="temperature"):
        with_temperature(head(0.1), temperature)


def test_a_temperature_needs_a_dense_head() -> None:
    builder = GraphBuilder()
    builder.add(Conv1d(2, relu=False), builder.add(Input(2, 1)))
    _, q = quantized_student(builder.build(), 0)
    with pytest.raises(QuantizationError, match="'conv1d'"):
        with_temperature(q, 2.0)
