"""Heart rates of a recording over time: estimates made steadier by those before them. Numpy only; no files.

What these give is reported apart from the raw estimates, never in their place. Both are causal: an estimate depends on itself and on
earlier ones of its recording only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECENT, SHARE = 10, 0.1
# Exercise moves a heart by 1 to 2 BPM a second at most (time constants of 30 s over a reserve of 60 BPM).
STEP_BPM = 2.0
SPREAD_BPM = 8.0
# an estimate so many deviations off says more of motion than of the heart
BELIEVED = 2.0


def clip_to_recent(bpm: NDArray[np.floating[Any]], recordings: NDArray[np.str_]) -> NDArray[np.float64]:
    """Estimates (N,), each clipped to within 10 % of the mean of the last 10 clipped estimates of its recording (N,).

    PULSE's post-processing (Kasnesis et al.). The first estimate of a recording stays.
    """
    out = np.asarray(bpm, dtype=np.float64).copy()
    for places in _each(recordings):
        recent: deque[float] = deque(maxlen=RECENT)
        for i in places:
            if recent:
                mean = sum(recent) / len(recent)
                out[i] = min(max(out[i], mean * (1 - SHARE)), mean * (1 + SHARE))
            recent.append(float(out[i]))
    return out


def kalman(
    bpm: NDArray[np.floating[Any]],
    recordings: NDArray[np.str_],
    *,
    spread_bpm: float | NDArray[np.floating[Any]] = SPREAD_BPM,
    step_bpm: float = STEP_BPM,
) -> NDArray[np.float64]:
    """Estimates (N,) filtered as observations, of deviation `spread_bpm`, of a heart rate that walks by `step_bpm` from window to window.

    A scalar Kalman filter; an observation more than 2 deviations off counts with a deviation grown in proportion (Huber's weights), so
    that one harmonic of the cadence moves little and a lasting change is followed. The first estimate of a recording stays.
    """
    out = np.asarray(bpm, dtype=np.float64).copy()
    spread = np.broadcast_to(np.asarray(spread_bpm, dtype=np.float64), out.shape)
    for places in _each(recordings):
        state, variance = out[places[0]], spread[places[0]] ** 2
        for i in places[1:]:
            variance += step_bpm**2
            surprise = out[i] - state
            scale = math.hypot(spread[i], math.sqrt(variance))
            doubt = max(1.0, abs(surprise) / (BELIEVED * scale))
            gain = variance / (variance + doubt * spread[i] ** 2)
            state, variance = state + gain * surprise, (1 - gain) * variance
            out[i] = state
    return out


def _each(recordings: NDArray[np.str_]) -> Iterator[NDArray[np.int64]]:
    """Places of each recording's windows, in order."""
    _, member = np.unique(recordings, return_inverse=True)
    order = np.argsort(member, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(member[order])) + 1)
