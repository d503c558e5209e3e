"""Heart rate as numbers: 180 classes of 1 BPM, soft targets, the expectation that reads classes out, a student's scale. Numpy only.

The classes are those of the PPG scaling study (arXiv 2511.18829): 30, 31 ... 209 BPM.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Floats = NDArray[np.floating[Any]]

LOWEST_BPM, CLASSES = 30, 180
CENTRE_BPM, SPAN_BPM = 120.0, 90.0  # a student's output of -1 is 30 BPM, of 1 is 210 BPM
VALUES_BPM: NDArray[np.float64] = np.arange(LOWEST_BPM, LOWEST_BPM + CLASSES, dtype=np.float64)
LABELS = tuple(f"{int(value)} bpm" for value in VALUES_BPM)


def classes(bpm: Floats) -> NDArray[np.int64]:
    """Class (N,) of heart rates (N,): the nearest, the first and the last for what lies beyond."""
    return np.asarray(np.clip(np.rint(bpm) - LOWEST_BPM, 0, CLASSES - 1), dtype=np.int64)


def soft_targets(bpm: Floats, sigma_bpm: float) -> NDArray[np.float64]:
    """Gaussian class probabilities (N, 180) around heart rates (N,), each row summing to 1."""
    return np.asarray(softmax(-0.5 * ((VALUES_BPM - np.asarray(bpm, dtype=np.float64)[:, None]) / sigma_bpm) ** 2, axis=1))


def expectation(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Heart rates (N,) in BPM: the mean of the classes under softmax(`logits` (N, 180) / `temperature`)."""
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1) @ VALUES_BPM)


def to_output(bpm: Floats) -> NDArray[np.float32]:
    """Heart rates in BPM on the scale of a student's output."""
    return np.asarray((np.asarray(bpm) - CENTRE_BPM) / SPAN_BPM, dtype=np.float32)


def from_output(output: Floats) -> NDArray[np.float64]:
    """A student's output as heart rates in BPM."""
    return np.asarray(CENTRE_BPM + SPAN_BPM * np.asarray(output, dtype=np.float64))
