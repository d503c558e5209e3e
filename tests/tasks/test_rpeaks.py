"""R waves and heart rates: made ECGs whose beats are known, and the recordings whose heart rates others computed from the same ECG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_heart_rates import ecg

from hwnas.errors import DataError
from hwnas.tasks.datasets import mat5, rpeaks

STARTS = np.arange(12) * 2.0


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 700.0])
def test_beats_of_a_made_ecg_are_found(rate_hz: float) -> None:
    beats = np.cumsum(60 / np.linspace(60, 150, 60)) - 0.5
    found = rpeaks.detect(ecg(beats[-1] + 1, rate_hz, beats), rate_hz) / rate_hz
    assert len(found) == len(beats) and np.abs(found - beats).max() < 0.025
    # scale and offset of the ECG do not matter, a short gap little
    scaled = 1e4 * ecg(beats[-1] + 1, rate_hz, beats) - 3e5
    scaled[: round(0.1 * rate_hz)] = np.nan
    assert np.abs(rpeaks.detect(scaled, rate_hz) / rate_hz - beats).max() < 0.025


@pytest.mark.parametrize("signal", [np.zeros(0), np.zeros(100), np.full(5000, 3.0), np.full(5000, np.nan)])
def test_no_ecg_has_no_beats(signal: np.ndarray) -> None:  # type: ignore[type-arg]
    assert rpeaks.detect(signal, 250.0).tolist() == []
    assert np.isnan(rpeaks.heart_rates(np.zeros(0), STARTS, 8.0)).all()
    with pytest.raises(DataError, match="sampled at 5 Hz"):
        rpeaks.detect(signal, 5.0)


@given(st.floats(40.0, 200.0), st.floats(0.0, 1.0))
def test_an_even_heart_has_its_rate(bpm: float, phase: float) -> None:
    times = np.arange(phase - 2, 34, 60 / bpm)
    assert rpeaks.heart_rates(times, STARTS, 8.0) == pytest.approx(np.full(12, bpm), rel=1e-6)


def test_a_changing_heart_has_beats_over_time() -> None:
    # beat number at time t is t + t^2 / 20: its slope is the rate
    times = np.sqrt(100 + 20 * np.arange(200.0)) - 10
    expected = 60 * (((STARTS + 8) - STARTS) + ((STARTS + 8) ** 2 - STARTS**2) / 20) / 8
    assert rpeaks.heart_rates(times, STARTS, 8.0) == pytest.approx(expected, rel=0.005)


def test_missed_and_invented_beats_are_not_believed() -> None:
    times = np.arange(0, 40, 0.8)
    missed = np.delete(times, 20)
    assert np.flatnonzero(~rpeaks.believable(missed)).tolist() == [19]
    assert rpeaks.heart_rates(missed, STARTS, 8.0) == pytest.approx(np.full(12, 75.0))
    invented = np.sort([*times, times[20] + 0.3])
    assert np.flatnonzero(~rpeaks.believable(invented)).tolist() == [20, 21]
    assert rpeaks.heart_rates(invented, STARTS, 8.0) == pytest.approx(np.full(12, 75.0))
    # six seconds without an R wave: windows that they cover a quarter of are left without a rate
    loose = times[(times < 16) | (times > 22)]
    found = rpeaks.heart_rates(loose, STARTS, 8.0)
    assert np.isnan(found[5:11]).all() and np.isfinite(found[:5]).all() and found[11] == pytest.approx(75.0)
    # noise is no heart
    assert np.isnan(rpeaks.heart_rates(np.arange(0, 40, 0.1), STARTS, 8.0)).all()


def test_agreement_with_the_heart_rates_of_spc2015(real_data: Callable[[str], Path]) -> None:
    folder = real_data("heart_rate/ieee_spc2015") / "Training_data"
    errors, known = [], []
    for path in sorted(folder.glob("DATA_??_TYPE??.mat"))[:4]:
        heart = mat5.read_numeric(path, ("sig",))["sig"][0]
        truth = mat5.read_numeric(folder / f"{path.stem}_BPMtrace.mat", ("BPM0",))["BPM0"].ravel()
        found = rpeaks.heart_rates(rpeaks.detect(heart, 125.0) / 125.0, np.arange(len(truth)) * 2.0, 8.0)
        known.append(np.isfinite(found).mean())
        errors.append(np.nanmean(np.abs(found - truth)))
    assert min(known) > 0.97 and max(errors) < 0.4


def test_agreement_with_marked_r_waves(real_data: Callable[[str], Path]) -> None:
    arrays = mat5.read_numeric(real_data("bcg/autotempmatch_scg_ecg") / "data.mat", ("ecg", "Rpeaks"))
    marked = (arrays["Rpeaks"].ravel() - 1) / 800
    found = rpeaks.detect(arrays["ecg"].ravel(), 800.0) / 800
    near = np.abs(found[:, None] - marked).min(axis=1)
    assert len(found) == pytest.approx(len(marked), abs=3) and (near < 0.05).mean() > 0.98
