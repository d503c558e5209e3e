"""The grid, the band-pass and the scaling that recordings and generated signals share: closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfreqz

from hwnas.tasks import pulse_motion


@pytest.mark.parametrize(("length_s", "windows"), [(0, 0), (7.99, 0), (8, 1), (9.99, 1), (10, 2), (840, 417), (37937 / 125, 148)])
def test_windows_that_fit(length_s: float, windows: int) -> None:
    assert pulse_motion.count(length_s) == windows


@given(st.integers(0, 400), st.integers(0, 2000))
def test_a_recording_holds_its_windows_and_no_more(windows: int, extra_ms: int) -> None:
    length = 8 + 2 * (windows - 1) + extra_ms / 1000 if windows else extra_ms / 1000
    assert pulse_motion.count(length) == (windows if extra_ms < 2000 or not windows else windows + 1)


@pytest.mark.parametrize("hz", [0.1, 0.4, 0.8, 1.5, 3.0, 6.0, 8.0, 12.0])
def test_band_pass_has_the_gain_of_two_passes_and_no_delay(hz: float) -> None:
    t = np.arange(32 * 120) / 32
    found = pulse_motion.band_pass(5.0 + np.sin(2 * np.pi * hz * t))
    _, response = sosfreqz(butter(4, (0.4, 8.0), "bandpass", fs=32, output="sos"), worN=[hz], fs=32)
    middle = slice(32 * 30, 32 * 90)
    assert np.abs(found[middle] - np.abs(response[0]) ** 2 * np.sin(2 * np.pi * hz * t[middle])).max() < 2e-3


def test_windows_lie_on_the_grid() -> None:
    signal = np.arange(2 * 512, dtype=float).reshape(2, 512)
    found = pulse_motion.cut(signal, 4)
    assert found.shape == (4, 2, 256) and found[:, 0, 0].tolist() == [0, 64, 128, 192]
    assert np.array_equal(found[2, 1], signal[1, 128:384])
    assert pulse_motion.band_pass(np.ones((4, 100))).tolist() == np.zeros((4, 100)).tolist()


def test_scaling_leaves_an_arm_at_rest_and_marks_a_lost_pulse() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 256))
    x[1, 2], x[2, 0] = 0.25, 1e-14 * x[2, 0]
    scaled, alive = pulse_motion.scale(x, np.ones(4))
    assert alive.tolist() == [True, True, False] and scaled.dtype == np.float32
    assert not scaled[1, 2].any() and not scaled[2, 0].any()
    others = scaled.reshape(12, 256)[[0, 1, 2, 3, 4, 5, 7, 9, 10, 11]]
    assert np.array_equal(others.min(axis=1), -np.ones(10)) and np.array_equal(others.max(axis=1), np.ones(10))
    # scaled by itself, each channel is what it was but for offset and size
    assert np.corrcoef(scaled[0, 1], x[0, 1])[0, 1] > 0.999999
    assert pulse_motion.scale(np.zeros((0, 4, 256)), np.ones(4))[0].shape == (0, 4, 256)


@given(st.lists(st.floats(0.3, 2.0), min_size=0, max_size=60), st.integers(1, 12))
def test_mean_rate_of_the_beats_in_a_window(intervals: list[float], windows: int) -> None:
    time = np.cumsum(intervals)
    rate = np.linspace(60, 90, len(time))
    found = pulse_motion.beats_in_windows(time, rate, windows)
    for i in range(windows):
        inside = [r for t, r in zip(time, rate, strict=True) if 2 * i <= t < 2 * i + 8]
        assert np.isnan(found[i]) if len(inside) < 3 else found[i] == pytest.approx(np.mean(inside))
