"""Ranges in closed form, and what is observed of every tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_students import random_graph, random_windows, warmed_student

from hwnas.quantize import ranges
from hwnas.quantize.qgraph import Quant
from hwnas.quantize.ranges import Observation, at_least, mean_squared, min_max, observe, percentile, quant_of, round_trip


def seen(values: NDArray[np.float64]) -> Observation:
    return Observation(float(values.min()), float(values.max()), values.ravel(), values, 1.0)


def test_a_range_spans_255_steps_and_holds_zero() -> None:
    assert quant_of(0.0, 255.0) == Quant(1.0, -128)
    assert quant_of(-255.0, 0.0) == Quant(1.0, 127)
    assert quant_of(-100.0, 155.0) == Quant(1.0, -28)
    assert quant_of(5.0, 255.0) == Quant(1.0, -128)
    assert quant_of(-255.0, -5.0) == Quant(1.0, 127)
    assert quant_of(0.0, 0.0).scale > 0


def test_min_max_keeps_the_ends_and_a_percentile_leaves_them_out() -> None:
    values = np.arange(-1000.0, 1001.0)
    assert min_max(seen(values)) == quant_of(-1000, 1000)
    assert percentile(seen(values), 100) == quant_of(-1000, 1000)
    assert percentile(seen(values), 95) == quant_of(-900, 900)
    assert percentile(seen(np.abs(values)), 90) == quant_of(0, float(np.percentile(np.abs(values), 90)))


def test_the_range_search_finds_the_smallest_error() -> None:
    values = np.random.default_rng(0).laplace(size=20_000)
    values[:3] = 30.0, -25.0, 28.0
    found = mean_squared(seen(values))

    def error(quant: Quant) -> float:
        return float(np.square(round_trip(values, quant) - values).mean())

    assert found.scale < min_max(seen(values)).scale
    assert error(found) == min(error(quant_of(-25.0 * f, 30.0 * f)) for f in ranges.SHRINK)
    spread = np.random.default_rng(0).uniform(-1, 1, 20_000)
    assert mean_squared(seen(spread)) == min_max(seen(spread))


@pytest.mark.parametrize("quant", [Quant(0.5, -128), Quant(0.5, 127), Quant(0.5, 11), Quant(0.5, 0)])
def test_a_wider_quantisation_holds_the_same_range(quant: Quant) -> None:
    assert at_least(quant, 0.5) == quant
    wide = at_least(quant, 0.75)
    assert 0.75 < wide.scale < 0.7500002
    assert wide.scale == np.float32(wide.scale)
    for bound in (-128, 127):
        assert round_trip(np.array([(bound - quant.zero_point) * 0.5]), wide) == pytest.approx((bound - quant.zero_point) * 0.5, abs=0.38)
    if quant.zero_point in (-128, 127):
        assert wide.zero_point == quant.zero_point


def test_observations_are_those_of_one_whole_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches do not show: extremes and means are exact, and the sample takes of every channel the same share."""
    graph = random_graph(np.random.default_rng(8), length=50, concat=True, pools=True, lstm=True, modalities=True)
    student = warmed_student(graph, 8)
    x = random_windows(graph, 50, 1)
    monkeypatch.setattr(ranges, "BATCH", 7)
    monkeypatch.setattr(ranges, "SAMPLES", 5000)
    found = observe(student, x)
    with torch.no_grad():
        taps = {0: torch.from_numpy(x)} | {int(i): tap for i, tap in student(torch.from_numpy(x))[1].items()}
    for index, node in enumerate(graph):
        values = taps[index].flatten(2).transpose(1, 2).numpy().astype(np.float64)
        assert found[index].low == pytest.approx(values.min(), abs=1e-5) or getattr(node.op, "last", False)
        assert found[index].high == pytest.approx(values.max(), abs=1e-5) or getattr(node.op, "last", False)
        assert found[index].mean.shape == (node.shape.rows, node.shape.channels)
        assert np.allclose(found[index].mean, values.mean(0), atol=1e-5)
        assert not found[index].constant
        assert min(2500, values.size) <= found[index].sample.size <= 10_000 or getattr(node.op, "last", False)
        assert found[index].low <= found[index].sample.min() <= found[index].sample.max() <= found[index].high


def test_constant_tensors_are_noticed() -> None:
    graph = random_graph(np.random.default_rng(8), length=50)
    x = np.repeat(random_windows(graph, 1, 1), 40, axis=0)
    assert all(s.constant for s in observe(warmed_student(graph, 8), x).values())
    x[39, 0, 25] += 1e-3
    assert not observe(warmed_student(graph, 8), x)[0].constant
