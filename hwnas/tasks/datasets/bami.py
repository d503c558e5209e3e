"""BAMI-1 and BAMI-2: wrist PPG and acceleration at 50 Hz on a treadmill, heart rate from a chest ECG. Reads that folder; caches nothing.

BAMI-1, `Subject_N.mat`: Lee, Chung and Lee, "Motion artifact cancellation in wearable photoplethysmography using gyroscope", IEEE Sensors
Journal 2019, 19:1166. `sigPPG` and `sigAcc` uint16 (3, T), 32768 added to the acceleration; `timeECG` and `bpmECG` (B, 1), a rate for every
beat: the heart rate of a window is the mean over the beats inside it.

BAMI-2, `BAMI2_N.mat`: Chung, Lee and Lee, "Finite state machine framework for instantaneous heart rate validation using wearable
photoplethysmography during intensive exercise", IEEE JBHI 2019, 23:1595. `rawPPG` and `rawAcc` (3, T); `bpm_ecg` (W, 1), the rate of 10 s
every 2 s. The middle of window i lies between those of rates i - 1 and i: it has their mean, the first and the last the one there is.

Of the three PPG channels the first is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import pulse_motion
from hwnas.tasks.datasets import mat5, tracks
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.datasets.tracks import Track
from hwnas.tasks.pulse_motion import WINDOW_S

PATTERN = "Subject_*.mat or BAMI2_*.mat"
FILE = re.compile(r"(?P<layout>Subject|BAMI2)_(?P<number>\d{1,4})\.mat")
RATE_HZ = 50.0
ACC_OFFSET = 32768
PPG_CHANNEL = 0


def matches(folder: Path) -> bool:
    """Whether the folder holds files of one of these forms, by their names."""
    return bool(_files(folder))


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of every subject in the folder, in the order of their numbers.

    Raises:
        DataError: no such file; one that is damaged, lacks a variable or has another shape; heart rates that are not its signal's.
    """
    found = _files(folder)
    if not found:
        raise DataError(f"{folder}: no {PATTERN}; expected the BAMI-1 or the BAMI-2 folder, one such file a subject")
    return tracks.assemble(f"bami ({folder})", _tracks(found), wanted, ("PPG channel 1 of 3",))


def _files(folder: Path) -> list[tuple[str, int, Path]]:
    """(layout, number, path) of the files, in order."""
    named = [(FILE.fullmatch(path.name), path) for path in folder.glob("*.mat")]
    return sorted((found["layout"], int(found["number"]), path) for found, path in named if found)


def _tracks(found: list[tuple[str, int, Path]]) -> Iterator[Track]:
    for layout, number, path in found:
        # the two studies share no names, so that both can lie in one folder
        yield READERS[layout](path, f"bami{'1' if layout == 'Subject' else '2'}-{number:02d}")


def _beatwise(path: Path, subject: str) -> Track:
    """A file of BAMI-1."""
    arrays = mat5.read_numeric(path, ("sigPPG", "sigAcc", "timeECG", "bpmECG"))
    ppg, acc = _signals(path, arrays, "sigPPG", "sigAcc")
    time, rate = _column(path, arrays, "timeECG"), _column(path, arrays, "bpmECG")
    if len(time) != len(rate) or len(time) < pulse_motion.FEWEST_BEATS or not (np.isfinite(time).all() and (time[1:] > time[:-1]).all()):
        raise DataError(
            f"{path}: 'timeECG' of {len(time)} and 'bpmECG' of {len(rate)} values; expected as many of both, the times in seconds, growing"
        )
    windows = pulse_motion.count(len(ppg) / RATE_HZ)
    if time[-1] < (windows - 1) * pulse_motion.HOP_S or time[-1] > len(ppg) / RATE_HZ + WINDOW_S:
        raise DataError(f"{path}: beats up to {time[-1]:.1f} s, a signal of {len(ppg) / RATE_HZ:.1f} s; they are not of one recording")
    bpm = pulse_motion.beats_in_windows(time, rate, windows)
    return Track(path, subject, subject, ppg, RATE_HZ, acc - ACC_OFFSET, RATE_HZ, bpm)


def _windowwise(path: Path, subject: str) -> Track:
    """A file of BAMI-2."""
    arrays = mat5.read_numeric(path, ("rawPPG", "rawAcc", "bpm_ecg"))
    ppg, acc = _signals(path, arrays, "rawPPG", "rawAcc")
    rate = _column(path, arrays, "bpm_ecg")
    windows = pulse_motion.count(len(ppg) / RATE_HZ)
    if len(rate) != windows - 1:
        raise DataError(
            f"{path}: 'bpm_ecg' holds {len(rate)} rates, a signal of {len(ppg) / RATE_HZ:g} s has {windows - 1} windows of 10 s every 2 s; "
            "they are not of one recording, or the file is cut short"
        )
    ends = np.concatenate([rate[:1], rate, rate[-1:]])
    return Track(path, subject, subject, ppg, RATE_HZ, acc, RATE_HZ, ends[:-1] / 2 + ends[1:] / 2)


READERS: dict[str, Callable[[Path, str], Track]] = {"Subject": _beatwise, "BAMI2": _windowwise}


def _signals(path: Path, arrays: dict[str, NDArray[Any]], ppg: str, acc: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shapes = arrays[ppg].shape, arrays[acc].shape
    if shapes[0] != shapes[1] or shapes[0][0] != 3 or len(shapes[0]) != 2:
        raise DataError(f"{path}: '{ppg}' and '{acc}' have the shapes {shapes[0]} and {shapes[1]}, expected (3, samples) at {RATE_HZ:g} Hz")
    return arrays[ppg][PPG_CHANNEL].astype(np.float64), arrays[acc].astype(np.float64)


def _column(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    if arrays[name].ndim != 2 or 1 not in arrays[name].shape:
        raise DataError(f"{path}: '{name}' has the shape {arrays[name].shape}, expected a column")
    return arrays[name].ravel().astype(np.float64)
