"""WESAD: two hours of wrist PPG and acceleration under stress, amusement and rest. Reads that folder; caches nothing; runs no pickle.

Schmidt, Reiss, Duerichen, Marberger and Van Laerhoven, "Introducing WESAD, a multimodal dataset for wearable stress and affect detection",
ICMI 2018, 400. `SN/SN.pkl`, N = 2 to 11 and 13 to 17, hold the signals that `empatica` reads and no heart rate (`label` is the state of
mind at 700 Hz): it is computed from the chest ECG, and windows whose R waves cannot be believed are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwnas.errors import DataError
from hwnas.tasks import pulse_motion
from hwnas.tasks.datasets import empatica, rpeaks, tracks
from hwnas.tasks.datasets.empatica import ACC_HZ, BVP_HZ, CHEST_HZ
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.datasets.tracks import Track
from hwnas.tasks.pulse_motion import WINDOW_S

INSIDE = "WESAD"
PATTERN = "SN/SN.pkl"
ECG_TOLERANCE_S = 10.0


def matches(folder: Path) -> bool:
    """Whether the folder holds files of this form, by their names."""
    return bool(empatica.subjects(folder, INSIDE))


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of every subject, in the order of their numbers; one subject is in memory at a time.

    Raises:
        DataError: no subject, a damaged file, or one of another form.
    """
    found = empatica.subjects(folder, INSIDE)
    if not found:
        raise DataError(f"{folder}: no {PATTERN}; expected the WESAD folder")
    return tracks.assemble(f"wesad ({folder})", _tracks(found), wanted, ("heart rates from the R waves of the chest ECG",))


def _tracks(found: list[tuple[int, Path]]) -> Iterator[Track]:
    for number, path in found:
        content = empatica.read(path)
        if "activity" in content or "rpeaks" in content:
            raise DataError(f"{path}: holds activities and R waves, as PPG-DaLiA does; name its folder PPG_FieldStudy, as in the archive")
        ppg, acc = empatica.wrist(path, content)
        ecg = empatica.signal(path, content, "signal", "chest", "ECG", columns=1)[0]
        wrist_s, chest_s = len(ppg) / BVP_HZ, len(ecg) / CHEST_HZ
        if abs(wrist_s - chest_s) > ECG_TOLERANCE_S:
            raise DataError(f"{path}: {wrist_s:.0f} s of the wrist and {chest_s:.0f} s of the chest; they are not of one recording")
        windows = pulse_motion.count(min(wrist_s, chest_s))
        bpm = rpeaks.heart_rates(rpeaks.detect(ecg, CHEST_HZ) / CHEST_HZ, pulse_motion.starts_s(windows), WINDOW_S)
        name = f"wesad-{number:02d}"
        yield Track(path, name, name, ppg, BVP_HZ, acc, ACC_HZ, bpm)
