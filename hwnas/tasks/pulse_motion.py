"""Windows of pulse and motion as the task `heart_rate` reads them: one grid, one band-pass, one scaling. Numpy and scipy only; no files.

Recordings and generated signals go through the same functions. Eight seconds every two at 32 Hz, the grid of IEEE SPC 2015 and of
PPG-DaLiA; four channels, the PPG first. Band-pass: Butterworth of order 4 from 0.4 to 8 Hz, run forwards and backwards over the whole
recording, so that it has no delay and its gain is the square of one pass (-6 dB at both edges).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from hwnas.tasks.base import normalise

CHANNELS = ("ppg", "acc_x", "acc_y", "acc_z")
RATE_HZ = 32.0
WINDOW_S, HOP_S = 8.0, 2.0
SAMPLES, HOP = int(WINDOW_S * RATE_HZ), int(HOP_S * RATE_HZ)
BAND_HZ, ORDER = (0.4, 8.0), 4
PAD = int(4 * RATE_HZ)
ABSURD_BPM = 1e6
FEWEST_BEATS = 3  # the slowest heart beats four times in a window
# of a channel's largest value in the recording: what is left of a constant by the filter's rounding
NOTHING = 1e-9


def count(length_s: float) -> int:
    """Windows that fit a recording of `length_s` seconds."""
    return max(0, int((length_s - WINDOW_S) / HOP_S + 1e-9) + 1) if length_s + 1e-9 >= WINDOW_S else 0


def starts_s(windows: int) -> NDArray[np.float64]:
    """Second (windows,) at which each window of a recording begins."""
    return np.arange(windows) * HOP_S


def beats_in_windows(time_s: NDArray[np.float64], rate_bpm: NDArray[np.float64], windows: int) -> NDArray[np.float64]:
    """Mean rate (windows,) over the beats at `time_s`, growing, inside each window; NaN where they are fewer than 3."""
    begin = np.searchsorted(time_s, starts_s(windows))
    end = np.searchsorted(time_s, starts_s(windows) + WINDOW_S)
    mean, found = means(rate_bpm, begin, end)
    return np.where(found >= FEWEST_BEATS, mean, np.nan)


def means(rate_bpm: NDArray[np.float64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean of the known rates (not NaN) in each span [begin, end), 0 where there are none, and how many there are."""
    known = ~np.isnan(rate_bpm)
    # what cannot be a heart rate stays so, and does not overflow
    total = np.concatenate([[0.0], np.cumsum(np.where(known, np.clip(rate_bpm, -ABSURD_BPM, ABSURD_BPM), 0.0))])
    number = np.concatenate([[0], np.cumsum(known)])
    found = number[end] - number[begin]
    return (total[end] - total[begin]) / np.maximum(found, 1), found


def band_pass(x: NDArray[Any]) -> NDArray[np.float64]:
    """Signals (..., T) at 32 Hz without what lies outside 0.4 to 8 Hz; those of less than a window become zeros."""
    wide = np.asarray(x, dtype=np.float64)
    if wide.shape[-1] < SAMPLES:
        return np.zeros_like(wide)
    return np.asarray(sosfiltfilt(_sections(), wide - wide.mean(axis=-1, keepdims=True), axis=-1, padlen=PAD))


def cut(filtered: NDArray[np.float64], windows: int) -> NDArray[np.float64]:
    """The first `windows` windows (windows, C, 256) of filtered signals (C, T)."""
    if not windows:
        return np.zeros((0, len(filtered), SAMPLES))
    view = np.lib.stride_tricks.sliding_window_view(filtered, SAMPLES, axis=1)[:, ::HOP][:, :windows]
    return np.ascontiguousarray(view.transpose(1, 0, 2))


def scale(x: NDArray[np.float64], full: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Windows (N, C, T) scaled channel by channel to [-1, 1], and which of them (N,) have a PPG to speak of.

    A channel of acceleration that says nothing in a window (`full` (C,): its largest value in the recording) becomes zeros there: an arm
    at rest is no fault. Windows without a PPG are zeros throughout.
    """
    silent = x.max(axis=2) - x.min(axis=2) <= NOTHING * full
    # any ramp will do for what becomes zeros
    scaled = normalise(np.where(silent[:, :, None], np.linspace(-1, 1, x.shape[2]), x)) if len(x) else x.astype(np.float32)
    scaled[silent] = 0.0
    return scaled, np.asarray(~silent[:, 0])


@lru_cache(maxsize=1)
def _sections() -> NDArray[np.float64]:
    return np.asarray(butter(ORDER, BAND_HZ, "bandpass", fs=RATE_HZ, output="sos"))
