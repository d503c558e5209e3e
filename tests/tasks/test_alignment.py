"""Heart rates of other seconds than their windows are noticed, by how much and which way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.tasks import TASKS, Windows
from hwnas.tasks.datasets import alignment


@pytest.fixture(scope="module")
def windows() -> Windows:
    """Two recordings of a pulse whose rate wanders, 8 s every 2 s at 32 Hz."""
    rng = np.random.default_rng(0)
    x, y, names = [], [], []
    for name in ("a", "b"):
        t = np.arange(0, 400, 1 / 32)
        bpm = np.interp(t, np.arange(0, 410, 10), np.clip(90 + np.cumsum(rng.normal(0, 12, 41)), 50, 170))
        pulse = np.sin(2 * np.pi * np.cumsum(bpm / 60) / 32) + 0.3 * rng.normal(size=len(t))
        for begin in range(0, len(t) - 256, 64):
            x.append(pulse[begin : begin + 256])
            y.append(bpm[begin : begin + 256].mean())
            names.append(name)
    return Windows(
        np.array(x, np.float32)[:, None], np.array(y, np.float32), np.array(names), rate_hz=32.0, source="synthetic", name="made"
    )


@pytest.mark.parametrize("shift", [-4, -2, 0, 1, 3])
def test_a_shift_of_the_labels_is_measured(windows: Windows, shift: int) -> None:
    """Window i is given the heart rate of window i + shift: it belongs that many windows later."""
    y = np.concatenate([np.roll(windows.y[windows.subject == name], -shift) for name in ("a", "b")])
    found = alignment.offset_windows(replace(windows, y=y))
    assert found == pytest.approx(shift, abs=0.5)


def test_short_recordings_say_nothing(windows: Windows) -> None:
    assert alignment.offset_windows(windows.take(slice(0, 20))) is None


def test_published_recordings(real_data: Callable[[str], Path]) -> None:
    found = alignment.offset_windows(TASKS["heart_rate"].load(real_data("heart_rate/ieee_spc2015"), window_s=None, seed=0))
    assert found is not None and abs(found) < 0.5
