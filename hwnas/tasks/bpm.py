"""Heart rate as numbers: classes of 1 BPM or wider, soft targets, the expectation that reads classes out, a student's scale. Numpy only.

The 180 classes are those of the PPG scaling study (arXiv 2511.18829): 30, 31 ... 209 BPM. A student may answer wider ones, several of
these joined: any number of classes that divides 180.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hwnas.errors import DataError

Floats = NDArray[np.floating[Any]]

LOWEST_BPM, CLASSES = 30, 180
CENTRE_BPM, SPAN_BPM = 120.0, 90.0  # a student's output of -1 is 30 BPM, of 1 is 210 BPM


def values_bpm(count: int = CLASSES) -> NDArray[np.float64]:
    """The middle (count,) of each of `count` classes; raises DataError where 180 cannot be joined to so many."""
    if count < 2 or CLASSES % count:
        allowed = ", ".join(str(n) for n in range(2, CLASSES + 1) if CLASSES % n == 0)
        raise DataError(f"{count} classes of heart rate; {CLASSES} classes of 1 BPM can be joined to {allowed}")
    width = CLASSES // count
    return LOWEST_BPM + (width - 1) / 2 + width * np.arange(count, dtype=np.float64)


def names(count: int = CLASSES) -> tuple[str, ...]:
    """Names of `count` classes, by their middles; raises DataError as `values_bpm`."""
    return tuple(f"{middle:g} bpm" for middle in values_bpm(count))


LABELS = names()


def classes(bpm: Floats) -> NDArray[np.int64]:
    """Class (N,) of heart rates (N,): the nearest, the first and the last for what lies beyond."""
    return np.asarray(np.clip(np.rint(bpm) - LOWEST_BPM, 0, CLASSES - 1), dtype=np.int64)


def soft_targets(bpm: Floats, sigma_bpm: float, count: int = CLASSES) -> NDArray[np.float64]:
    """Gaussian class probabilities (N, count) around heart rates (N,), each row summing to 1."""
    distance = values_bpm(count) - np.asarray(bpm, dtype=np.float64)[:, None]
    return np.asarray(softmax(-0.5 * (distance / sigma_bpm) ** 2, axis=1))


def expectation(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Heart rates (N,) in BPM: the mean of the classes under softmax(`logits` (N, K) / `temperature`)."""
    wide = np.asarray(logits, dtype=np.float64) / temperature
    return np.asarray(softmax(wide, axis=1) @ values_bpm(wide.shape[1]))


def to_output(bpm: Floats) -> NDArray[np.float32]:
    """Heart rates in BPM on the scale of a student's output."""
    return np.asarray((np.asarray(bpm) - CENTRE_BPM) / SPAN_BPM, dtype=np.float32)


def from_output(output: Floats) -> NDArray[np.float64]:
    """A student's output as heart rates in BPM."""
    return np.asarray(CENTRE_BPM + SPAN_BPM * np.asarray(output, dtype=np.float64))
