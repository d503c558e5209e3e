"""Liu 2022: 10 s PPG segments at 100 Hz of six rhythms, one `MPA_*.mat` a patient. Reads that folder; caches nothing.

Liu et al., "Multiclass arrhythmia detection and classification from photoplethysmography signals using a deep convolutional
neural network", JAHA 2022, 11:e023555. Each file holds `ppgseg` float (S, 1000) and `labels` (S, 1): 0 sinus, 1 PVC, 2 PAC,
3 VT, 4 SVT, 5 AF. Segments are scaled one by one and not contiguous.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows, normalise
from hwnas.tasks.datasets import mat5

PATTERN = "MPA_*.mat"
RATE_HZ = 100.0
SAMPLES = 1000
CLASSES = 6
MAX_SEGMENTS = 20_000  # two days; the longest published file has 534
TINY = 1e-290


def matches(folder: Path) -> bool:
    """Whether the folder holds files of this format, by their names."""
    return any(folder.glob(PATTERN))


def load(folder: Path) -> Windows:
    """Every segment of every patient in the folder, in the order of the file names.

    Raises:
        DataError: no such file; a file that is damaged, lacks a variable, has another shape, holds NaN, infinity or a constant
            segment, or labels outside 0..5. Names the file and the segment.
    """
    files = sorted(folder.glob(PATTERN))
    if not files:
        raise DataError(f"{folder}: no {PATTERN} in it; expected the Liu 2022 folder, one such file a patient")
    parts = [_patient(path) for path in files]
    return Windows(
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        subject=np.concatenate([np.full(len(y), path.stem) for path, (_, y) in zip(files, parts, strict=True)]),
        rate_hz=RATE_HZ,
        source="real",
        name=f"liu2022 ({folder})",
    )


def _patient(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    arrays = mat5.read_numeric(path, ("ppgseg", "labels"))
    segments, labels = arrays["ppgseg"], arrays["labels"]
    if segments.ndim != 2 or segments.shape[1] != SAMPLES or len(segments) == 0:
        raise DataError(f"{path}: 'ppgseg' has the shape {segments.shape}, expected (segments, {SAMPLES}): 10 s at 100 Hz")
    if len(segments) > MAX_SEGMENTS:
        raise DataError(f"{path}: {len(segments):,} segments; allowed are {MAX_SEGMENTS:,} in a file")
    if labels.shape not in ((len(segments), 1), (1, len(segments))):
        raise DataError(f"{path}: 'labels' has the shape {labels.shape}, expected ({len(segments)}, 1), one for each segment")
    y = _labels(path, labels.ravel())
    x = segments.astype(np.float64)[:, None, :]
    # so that halves of the smallest numbers are not nothing
    x[np.abs(x).max(axis=(1, 2)) < TINY] *= 2.0**600
    return normalise(x, lambda i: f"{path}: segment {i}"), y


def _labels(path: Path, labels: NDArray[Any]) -> NDArray[np.int64]:
    values = labels.astype(np.float64)
    good = np.isin(values, np.arange(CLASSES))
    if not good.all():
        where = int((~good).argmax())
        raise DataError(f"{path}: segment {where} has the label {values[where]:g}, allowed are the integers 0..{CLASSES - 1}")
    return values.astype(np.int64)
