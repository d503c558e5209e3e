"""IEEE Signal Processing Cup 2015 (TROIKA): wrist PPG and acceleration at 125 Hz while running. Reads that folder; caches nothing.

Zhang, Pi and Liu, "TROIKA: a general framework for heart rate monitoring using wrist-type photoplethysmographic signals during intensive
physical exercise", IEEE TBME 2015, 62:522. `Training_data/DATA_XX_TYPEYY.mat` and `Extra_TrainingData/DATA_S04_T01.mat` hold `sig` (6, N):
ECG, two PPG, three axes of acceleration; `TestData/TEST_SXX_TYY.mat` the same without the ECG. `BPM0` (W, 1), the mean heart rate of 8 s
every 2 s, stands in `..._BPMtrace.mat`, `BPM_S04_T01.mat` and `TrueBPM/True_SXX_TYY.mat`.

Subjects are `train-01` to `train-12` and `test-01` to `test-08`. The extra recording S04_T01 is of the person of TEST_S04: it is a
recording of `test-04`, so that whoever trains on the 12 does not see it. The first of the two PPG channels is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets import mat5, tracks
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.datasets.tracks import Track

PATTERN = "Training_data/DATA_*_TYPE*.mat, TestData/TEST_S*_T*.mat"
RATE_HZ = 125.0
TRAIN, TEST, EXTRA = "train", "test", "extra"


class Part(NamedTuple):
    """One folder: what its signals and its heart rates are called, and how many rows stand before the PPG's."""

    folder: str
    signal: re.Pattern[str]
    truth: str
    rows: int
    first: int
    kind: str


PARTS = (
    Part("Training_data", re.compile(r"DATA_(\d\d)_(TYPE\d\d)\.mat"), "Training_data/DATA_{0}_{1}_BPMtrace.mat", 6, 1, TRAIN),
    Part("TestData", re.compile(r"TEST_S(\d\d)_(T\d\d)\.mat"), "TrueBPM/True_S{0}_{1}.mat", 5, 0, TEST),
    Part("Extra_TrainingData", re.compile(r"DATA_S(\d\d)_(T\d\d)\.mat"), "Extra_TrainingData/BPM_S{0}_{1}.mat", 6, 1, EXTRA),
)


def matches(folder: Path) -> bool:
    """Whether the folder holds recordings of this form, by their names."""
    return bool(_files(folder))


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of every recording: training, test, extra, each in the order of the file names.

    Raises:
        DataError: no recording, one without heart rates, a damaged file, another shape, or heart rates that are not its signal's.
    """
    found = _files(folder)
    if not found:
        raise DataError(f"{folder}: no {PATTERN}; expected the folder of IEEE SPC 2015 that holds these")
    missing = [part.folder for part in PARTS if not any(each[0] is part for each in found)]
    notes = ("PPG channel 1 of 2", *(f"{name} is not there" for name in missing))
    return tracks.assemble(f"ieee_spc2015 ({folder})", _tracks(folder, found), wanted, notes)


def test_subjects(windows: Windows) -> tuple[str, ...]:
    """The subjects of the official test part that are in `windows`, for `hwnas.tasks.splits.held_out`."""
    return tuple(name for name in windows.subjects if name.startswith(TEST))


def official(windows: Windows, part: str) -> NDArray[np.bool_]:
    """Which windows (N,) belong to the official part `train` (12 recordings), `test` (10) or `extra` (1)."""
    return np.char.startswith(windows.recordings, part)


def _files(folder: Path) -> list[tuple[Part, Path, str, str]]:
    """Part, path, number and session of every recording, in order."""
    return [
        (part, path, named[1], named[2])
        for part in PARTS
        for path in sorted((folder / part.folder).glob("*.mat"))
        if (named := part.signal.fullmatch(path.name))
    ]


def _tracks(folder: Path, found: list[tuple[Part, Path, str, str]]) -> Iterator[Track]:
    for part, path, number, session in found:
        yield tracks.check_count(_track(part, path, folder / part.truth.format(number, session), number, session))


def _track(part: Part, path: Path, truth: Path, number: str, session: str) -> Track:
    signal, bpm = mat5.read_numeric(path, ("sig",))["sig"], mat5.read_numeric(truth, ("BPM0",))["BPM0"]
    if signal.ndim != 2 or len(signal) != part.rows:
        raise DataError(f"{path}: 'sig' has the shape {signal.shape}, expected ({part.rows}, samples) at {RATE_HZ:g} Hz")
    if bpm.ndim != 2 or 1 not in bpm.shape:
        raise DataError(f"{truth}: 'BPM0' has the shape {bpm.shape}, expected a column, a heart rate for every window")
    subject = f"{TRAIN if part.kind == TRAIN else TEST}-{number}"
    ppg, acc = signal[part.first], signal[part.first + 2 :]
    return Track(path, subject, f"{part.kind}-{number}-{session}", ppg, RATE_HZ, acc, RATE_HZ, bpm.ravel().astype(np.float64))
