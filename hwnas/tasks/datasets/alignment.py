"""Whether heart rates and windows are of the same seconds, as the PPG itself tells. Numpy only; no files.

Labels that a loader or a recorder shifted look like any others; but a shifted heart rate finds less of the PPG's power at its frequency.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.tasks.base import Windows

FARTHEST = 6  # windows
BAND_BPM = (25.0, 250.0)
BINS, BESIDE = 2048, 3  # 3 bins of about 1 BPM on either side count as a heart rate's
SUSPECT = 2.0  # windows; people's heart rates change within one or two


def offset_windows(windows: Windows) -> float | None:
    """By how many windows later ones of the same recording the heart rates `y` (N,) fit the signals better; near 0 is right.

    The first channel is the PPG. The top of a parabola through the shares of power at heart rates shifted by whole windows; None where no
    recording is long enough. Windows that were left out count as if there had been none.
    """
    power, bpm = _spectra(windows)
    shares = []
    for name in np.unique(windows.recordings):
        place = np.flatnonzero(windows.recordings == name)
        if len(place) > 4 * FARTHEST:
            shares.append([_share(power, bpm, windows.y, place, shift) for shift in range(-FARTHEST, FARTHEST + 1)])
    if not shares:
        return None
    mean = np.mean(shares, axis=0)
    best = int(mean.argmax())
    if not 0 < best < 2 * FARTHEST:
        return float(FARTHEST - best)
    before, at, after = mean[best - 1 : best + 2]
    curve = before - 2 * at + after
    return float(FARTHEST - best - (0.5 * (before - after) / curve if curve < 0 else 0.0))


def _spectra(windows: Windows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Amplitudes (N, F), each window's summing to 1, and their frequencies (F,) in BPM."""
    x = windows.x[:, 0] * np.hanning(windows.x.shape[2])
    bpm = np.fft.rfftfreq(BINS, 1 / windows.rate_hz) * 60
    inside = (bpm > BAND_BPM[0]) & (bpm < BAND_BPM[1])
    power = np.abs(np.fft.rfft(x, BINS, axis=1))[:, inside]
    return power / np.maximum(power.sum(axis=1, keepdims=True), 1e-12), bpm[inside]


def _share(power: NDArray[np.float64], bpm: NDArray[np.float64], y: NDArray[np.generic], place: NDArray[np.int64], shift: int) -> float:
    """Mean share of power at the heart rates `shift` windows on, over the windows of a recording that have such."""
    at = place[max(0, -shift) : len(place) - max(0, shift)]
    line = np.abs(bpm[None, :] - np.asarray(y[at + shift], dtype=np.float64)[:, None]).argmin(axis=1)
    beside = np.clip(line[:, None] + np.arange(-BESIDE, BESIDE + 1), 0, len(bpm) - 1)
    return float(power[at[:, None], beside].sum(axis=1).mean())
