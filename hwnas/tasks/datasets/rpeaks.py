"""R waves of an ECG and the heart rate between them, for recordings that come without heart rates. Numpy and sleepecg; no files.

R waves are found by `sleepecg.detect_heartbeats`, after Pan and Tompkins, IEEE TBME 1985, 32:230. A heart rate is given where the
intervals can be believed, and not elsewhere: an ECG that comes loose shows as intervals that no heart makes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sleepecg.heartbeats import detect_heartbeats

from hwnas.tasks.datasets.recordings import check_rate

# 240 and 25 beats a minute
SHORTEST_S, LONGEST_S = 0.25, 2.4
# A missed beat doubles an interval and an invented one splits it; sinus arrhythmia and exercise stay inside.
ODD_SHARE = 0.3
FEWEST = 3
COVERED = 0.75
SHORTEST_ECG_S = 4.0
TINY = 1e-290


def detect(ecg: NDArray[np.floating[Any]], rate_hz: float) -> NDArray[np.int64]:
    """Samples of the R waves of an ECG (T,); gaps are bridged, and one that is too short or still has none.

    Raises:
        DataError: a rate at which no ECG is sampled.
    """
    check_rate(rate_hz, "ECG")
    wide = np.array(ecg, dtype=np.float64).ravel()
    finite = np.isfinite(wide)
    if len(wide) < SHORTEST_ECG_S * rate_hz or not finite.any():
        return np.zeros(0, dtype=np.int64)
    if not finite.all():
        index = np.arange(len(wide))
        wide[~finite] = np.interp(index[~finite], index[finite], wide[finite])
    # so that sums of the largest numbers do not overflow
    wide /= max(np.abs(wide).max(), TINY)
    wide -= np.median(wide)
    largest = np.abs(wide).max()
    if largest == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(detect_heartbeats(wide / largest, rate_hz), dtype=np.int64)


def believable(times_s: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which of the intervals (beats - 1,) between beats at `times_s`, growing, a heart can have made.

    Inside 0.25 to 2.4 s, and within 30 % of the median of the nine intervals around.
    """
    rr = np.diff(np.asarray(times_s, dtype=np.float64))
    possible = (rr >= SHORTEST_S) & (rr <= LONGEST_S)
    if not possible.any():
        return possible
    around = np.lib.stride_tricks.sliding_window_view(np.pad(np.where(possible, rr, np.nan), 4, constant_values=np.nan), 9)
    usual = np.full(len(rr), np.nan)
    usual[possible] = np.nanmedian(around[possible], axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(possible & (np.abs(rr - usual) <= ODD_SHARE * usual))


def heart_rates(times_s: NDArray[np.floating[Any]], starts_s: NDArray[np.floating[Any]], window_s: float) -> NDArray[np.float64]:
    """Mean heart rate (windows,) in BPM of beats at `times_s`, growing, in windows of `window_s` that begin at `starts_s`.

    60 over the mean of the believable intervals that lie inside; NaN where they are fewer than 3 or cover less than 75 % of the window.
    An interval that a window's edge cuts counts with the part inside.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if len(times) < 2:
        return np.full(len(starts_s), np.nan)
    rr, good = np.diff(times), believable(times)
    seconds = np.concatenate([[0.0], np.cumsum(np.where(good, rr, 0.0))])
    beats = np.concatenate([[0.0], np.cumsum(good)])
    edges = np.asarray(starts_s, dtype=np.float64)[:, None] + np.array([0.0, window_s])
    # both grow linearly inside an interval
    (covered,), (counted,) = (np.diff(np.interp(edges, times, total), axis=1).T for total in (seconds, beats))
    enough = (counted >= FEWEST) & (covered >= COVERED * window_s)
    return np.where(enough, 60.0 * counted / np.where(covered > 0, covered, 1.0), np.nan)
