"""Resampling: sines keep amplitude and phase in the pass band, nothing is left of those above it, and nothing else happens."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.errors import DataError
from hwnas.tasks.datasets.resample import resample

RATES = [(125, 100), (32, 100), (64, 100), (300, 100), (100, 64), (1000, 100), (125.5, 100), (250, 125)]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_sines_of_the_pass_band_keep_amplitude_and_phase(from_hz: float, to_hz: float) -> None:
    edge = 0.8 * min(from_hz, to_hz) / 2
    for f in (0.5, 0.3 * edge, 0.7 * edge, edge):
        found = resample(np.sin(2 * np.pi * f * np.arange(round(20 * from_hz)) / from_hz + 0.3), from_hz, to_hz)
        expected = np.sin(2 * np.pi * f * np.arange(len(found)) / to_hz + 0.3)
        inner = slice(round(to_hz), -round(to_hz))
        assert np.abs(found - expected)[inner].max() < 2e-3, f


@pytest.mark.parametrize(("from_hz", "to_hz"), [(125, 100), (300, 100), (100, 64), (1000, 100)])
def test_aliases_are_suppressed_by_more_than_40_db(from_hz: float, to_hz: float) -> None:
    worst = 0.0
    for f in np.linspace(to_hz / 2 * 1.005, from_hz / 2 * 0.99, 9):
        found = resample(np.sin(2 * np.pi * f * np.arange(round(20 * from_hz)) / from_hz), from_hz, to_hz)
        worst = max(worst, np.abs(found[round(to_hz) : -round(to_hz)]).max())
    assert 20 * np.log10(worst) < -55


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_offset_and_trend_pass_up_to_the_ends(from_hz: float, to_hz: float) -> None:
    assert np.ptp(resample(np.full(round(12 * from_hz), 1e6), from_hz, to_hz)) < 1e-6
    line = 1e3 + 5.0 * np.arange(round(12 * from_hz)) / from_hz
    found = resample(line, from_hz, to_hz)
    assert np.abs(found - (1e3 + 5.0 * np.arange(len(found)) / to_hz)).max() < 0.01


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 800])
def test_lengths_and_shapes(length: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, length))
    for from_hz, to_hz in RATES:
        found = resample(x, from_hz, to_hz)
        assert found.shape == (3, 2, int(np.ceil(length * to_hz / from_hz - 1e-9))) and np.isfinite(found).all()
        if length:
            assert np.array_equal(found[1, 1], resample(x[1, 1], from_hz, to_hz))
    same = resample(x, 100, 100)
    assert np.array_equal(same, x) and same is not x


@pytest.mark.parametrize(
    "rates", [(0, 100), (-5, 100), (np.nan, 100), (np.inf, 100), (100, 0), (99.98765, 100), (1e-300, 100), (1e300, 100)]
)
def test_rates_that_cannot_be(rates: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="cannot resample from"):
        resample(np.zeros(10), *rates)
