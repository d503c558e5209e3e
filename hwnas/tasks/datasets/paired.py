"""A BCG or SCG and an ECG of the same beats: heart rates for the one from the R waves of the other. Reads a folder; caches nothing.

Two published recordings of this form, each with R waves that its authors marked: seismocardiogram (SCG) of the chest with ECG at 800 Hz
(`data.mat`; Parlato et al., Phys Eng Sci Med 2025, doi 10.1007/s13246-025-01531-3) and ballistocardiogram (BCG) of a chair with ECG at
1 kHz (`rec_proc_*.mat`; github.com/aydnzn). They are too short to learn from. They show, end to end, what a student that reads BCG and
a teacher that reads ECG rest on: that labels from the ECG hold for the windows of the other signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, sosfiltfilt

from hwnas.errors import DataError
from hwnas.tasks.base import Windows, normalise
from hwnas.tasks.datasets import mat5, rpeaks
from hwnas.tasks.datasets.recordings import check_rate
from hwnas.tasks.datasets.resample import resample

PATTERN = "data.mat or rec_proc_*.mat with ECG, BCG or SCG, and R peaks"
FILES = ("data.mat", "rec_proc_*.mat")
# names of signal, R peaks (from 1) and rate
FORMS = (("scg", "Rpeaks", "fs"), ("bcg", "peaks_r", "Fs"))
RATE_HZ = 50.0  # that of task `sleep`
WINDOW_S, HOP_S = 8.0, 2.0  # those of task `heart_rate`
TOLERANCE_S = 0.05
TINY = 1e-290
# The estimate from the signal alone. An SCG is a burst of vibration whose phase wanders, so its energy repeats; a BCG is a slower wave
# that repeats itself. Band, and whether the energy is taken
REPEATS = {"scg": ((4.0, 20.0), True), "bcg": ((1.0, 12.0), False)}
BEAT_S, RATES_BPM = 0.08, (40.0, 180.0)
NEARLY = 0.8  # of the largest repetition: two beats repeat as well as one does, the shorter lag is meant


@dataclass(frozen=True, eq=False)
class Pair:
    """One recording: `signal` (T,), called bcg or scg, and `ecg` (T,) with the R waves `marked` (beats,) by its authors, in samples."""

    path: Path
    kind: str
    signal: NDArray[np.float64]
    ecg: NDArray[np.float64]
    marked: NDArray[np.int64]
    rate_hz: float

    @property
    def name(self) -> str:
        """Folder and file, which tell recordings apart."""
        return f"{self.path.parent.name}/{self.path.stem}"


def matches(folder: Path) -> bool:
    """Whether the folder holds files of these names."""
    return bool(_files(folder))


def load(folder: Path) -> tuple[Pair, ...]:
    """Every recording of the folder, in the order of their names.

    Raises:
        DataError: no recording, or one that is damaged, lacks a signal or has R peaks outside it.
    """
    found = _files(folder)
    if not found:
        raise DataError(f"{folder}: no {PATTERN}")
    return tuple(_read(path) for path in found)


def agreement(found: NDArray[np.integer[Any]], marked: NDArray[np.integer[Any]], rate_hz: float) -> tuple[float, float]:
    """Sensitivity and precision of beats `found` against `marked`, each beat matched at most once within 50 ms."""
    within, i, j, hits = TOLERANCE_S * rate_hz, 0, 0, 0
    a, b = np.sort(found), np.sort(marked)
    while i < len(a) and j < len(b):
        if abs(int(a[i]) - int(b[j])) <= within:
            hits, i, j = hits + 1, i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return hits / max(1, len(b)), hits / max(1, len(a))


def windows(pair: Pair, beats: NDArray[np.integer[Any]]) -> Windows:
    """Windows of 8 s every 2 s at 50 Hz: `x` the BCG or SCG, `teacher_x` the ECG, `y` the heart rate of `beats` of the ECG in BPM.

    Raises:
        DataError: shorter than a window, or without a heart rate.
    """
    length, hop = round(WINDOW_S * RATE_HZ), round(HOP_S * RATE_HZ)
    both = np.stack([pair.signal, pair.ecg])
    # so that no filter overflows
    both = resample(both / np.maximum(np.abs(both).max(axis=1, keepdims=True, initial=0.0), TINY), pair.rate_hz, RATE_HZ)
    if both.shape[1] < length:
        raise DataError(f"{pair.path}: {both.shape[1] / RATE_HZ:g} s; heart rates are of {WINDOW_S:g} s")
    cut = np.lib.stride_tricks.sliding_window_view(both, length, axis=1)[:, ::hop].transpose(1, 0, 2)
    bpm = rpeaks.heart_rates(beats / pair.rate_hz, np.arange(len(cut)) * HOP_S, WINDOW_S)
    known = np.isfinite(bpm)
    if not known.any():
        raise DataError(f"{pair.path}: no window of {WINDOW_S:g} s with a heart rate; are its R peaks those of this recording?")
    x = normalise(cut[known], lambda i: f"{pair.path}: window {i}")
    return Windows(
        x=x[:, :1],
        y=bpm[known].astype(np.float32),
        subject=np.full(len(x), pair.name),
        rate_hz=RATE_HZ,
        source="real",
        name=f"{pair.kind} ({pair.path})",
        teacher_x=x[:, 1:],
    )


def estimate_bpm(x: NDArray[np.floating[Any]], rate_hz: float, kind: str) -> NDArray[np.float64]:
    """Heart rates (N,) in BPM of windows (N, 1, T) of `kind` bcg or scg by themselves: the shortest lag at which they repeat well."""
    band_hz, energetic = REPEATS[kind]
    wave = sosfiltfilt(butter(2, band_hz, "bandpass", fs=rate_hz, output="sos"), np.asarray(x[:, 0], dtype=np.float64), axis=1)
    if energetic:
        wave = gaussian_filter1d(wave**2, BEAT_S * rate_hz, axis=1)
    wave -= wave.mean(axis=1, keepdims=True)
    samples = wave.shape[1]
    power = np.abs(np.fft.rfft(wave, 2 * samples, axis=1)) ** 2
    repeats = np.fft.irfft(power, axis=1)[:, :samples] / (samples - np.arange(samples))
    low, high = (round(60 * rate_hz / bpm) for bpm in reversed(RATES_BPM))
    inner = repeats[:, low : high + 1]
    peak = (inner >= repeats[:, low - 1 : high]) & (inner > repeats[:, low + 1 : high + 2])
    height = np.where(peak, inner, -np.inf)
    first = (height >= NEARLY * height.max(axis=1, keepdims=True)).argmax(axis=1) + low
    before, at, after = (repeats[np.arange(len(first)), first + step] for step in (-1, 0, 1))
    # the top of the parabola through three lags
    curve = before - 2 * at + after
    lag = first + np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, 1.0), 0.0)
    return np.asarray(60 * rate_hz / lag)


def _read(path: Path) -> Pair:
    for number, (kind, peaks, rate) in enumerate(FORMS):
        try:
            arrays = mat5.read_numeric(path, (kind, "ecg", peaks, rate))
        except DataError:
            if number == len(FORMS) - 1:
                raise
            continue
        break
    signal, ecg = (arrays[name].astype(np.float64).ravel() for name in (kind, "ecg"))
    # NaN and what is beyond the recording become samples outside it
    marked = np.clip(np.nan_to_num(arrays[peaks].astype(np.float64)), 0, len(ecg) + 1).astype(np.int64).ravel() - 1
    if arrays[rate].size != 1 or len(signal) != len(ecg) or not (np.isfinite(signal).all() and np.isfinite(ecg).all()):
        raise DataError(f"{path}: '{kind}' {signal.shape} and 'ecg' {ecg.shape} must be as long, without gaps, and '{rate}' one number")
    rate_hz = check_rate(float(arrays[rate].ravel()[0]), str(path))
    if len(marked) < 2 or marked.min() < 0 or marked.max() >= len(ecg) or (np.diff(marked) <= 0).any():
        raise DataError(f"{path}: '{peaks}' must be growing numbers of samples, 1 to {len(ecg):,}; got {len(marked)} of them")
    return Pair(path, kind, signal, ecg, marked, rate_hz)


def _files(folder: Path) -> list[Path]:
    return sorted(path for pattern in FILES for path in folder.glob(pattern))
