"""Anti-aliased resampling by a rational ratio. Numpy and scipy only; no files.

One low-pass filter for every ratio: flat to 0.8 of the lower of the two Nyquist frequencies, 60 dB down from that frequency on, linear
phase and without delay. Ends are continued by odd reflection, so that an offset or a trend makes no step there.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, kaiser_beta, kaiserord, resample_poly

from hwnas.errors import DataError

STOP_DB = 60.0
# pass band and stop band begin, of the lower Nyquist frequency
PASS, STOP = 0.8, 1.0
MAX_FACTOR = 2000


def resample(x: NDArray[Any], from_hz: float, to_hz: float) -> NDArray[np.float64]:
    """`x` (..., T) at `from_hz` as (..., ceil(T * to_hz / from_hz)) at `to_hz`; sample 0 stays where it is.

    Raises:
        DataError: rates that are not positive or whose ratio is no fraction of numbers up to 2,000.
    """
    up, down = _ratio(from_hz, to_hz)
    wide = np.asarray(x, dtype=np.float64)
    if up == down or wide.shape[-1] == 0:
        return wide.copy()
    taps = _taps(up, down)
    # a multiple of `down` samples in front becomes a whole number of samples behind
    margin = -(-(len(taps) // 2 // up + 1) // down) * down
    padded = np.pad(wide, [(0, 0)] * (wide.ndim - 1) + [(margin, margin)], mode="reflect", reflect_type="odd")
    begin, length = margin * up // down, -(-wide.shape[-1] * up // down)
    return np.asarray(resample_poly(padded, up, down, axis=-1, window=taps)[..., begin : begin + length])


def _ratio(from_hz: float, to_hz: float) -> tuple[int, int]:
    if not (np.isfinite(from_hz) and np.isfinite(to_hz) and from_hz > 0 and to_hz > 0):
        raise DataError(f"cannot resample from {from_hz:g} Hz to {to_hz:g} Hz; both rates must be positive")
    exact = Fraction(to_hz) / Fraction(from_hz)
    near = exact.limit_denominator(MAX_FACTOR)
    # one sample of drift in a day of 100 Hz
    if not 0 < near.numerator <= MAX_FACTOR or abs(float(near / exact) - 1) > 1e-7:
        raise DataError(
            f"cannot resample from {from_hz:g} Hz to {to_hz:g} Hz: their ratio is no fraction of numbers up to {MAX_FACTOR:,}; "
            "state the rate exactly or resample the recording"
        )
    return near.numerator, near.denominator


@lru_cache(maxsize=16)
def _taps(up: int, down: int) -> NDArray[np.float64]:
    """Low-pass filter of unit gain at `up` times the input's rate; odd length."""
    slower = max(up, down)
    length, beta = kaiserord(STOP_DB, (STOP - PASS) / slower)[0], kaiser_beta(STOP_DB)
    taps = np.asarray(firwin(length | 1, (PASS + STOP) / 2 / slower, window=("kaiser", beta)))
    # every phase of equal weight: an offset, often a hundred times the pulse, passes without a ripple
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum() * up
    return taps
