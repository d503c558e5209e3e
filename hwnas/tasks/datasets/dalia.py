"""PPG-DaLiA: hours of wrist PPG and acceleration of daily life, a heart rate every 2 s. Reads that folder; caches nothing; runs no pickle.

Reiss, Indlekofer, Schmidt and Van Laerhoven, "Deep PPG: large-scale heart rate estimation with convolutional neural networks", Sensors
2019, 19:3079. `PPG_FieldStudy/SN/SN.pkl`, N = 1 to 15, hold `label` (W,), the mean heart rate of seconds [2i, 2i + 8) by the chest ECG,
beside the signals that `empatica` reads. A subject's last labels or windows can lack the other: they are left out by subject, so that
nobody's labels move to another's windows. The recording of S6 is short: its hardware failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwnas.errors import DataError
from hwnas.tasks.datasets import empatica, tracks
from hwnas.tasks.datasets.empatica import ACC_HZ, BVP_HZ
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.datasets.tracks import Track

INSIDE = "PPG_FieldStudy"
PATTERN = f"{INSIDE}/SN/SN.pkl"


def matches(folder: Path) -> bool:
    """Whether the folder is this one, by names: WESAD's files are called alike, but it has no subject 1 and no list of activities."""
    found = empatica.subjects(folder, INSIDE)
    said = INSIDE in (folder.resolve().name, *(path.parent.parent.name for _, path in found))
    return bool(found) and (said or found[0][0] == 1 or any((p.parent / f"S{n}_activity.csv").exists() for n, p in found))


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of every subject, in the order of their numbers; one subject is in memory at a time.

    Raises:
        DataError: no subject, a damaged file, one of another form, or heart rates that cannot be.
    """
    found = empatica.subjects(folder, INSIDE)
    if not found:
        raise DataError(f"{folder}: no {PATTERN}; expected the PPG-DaLiA folder")
    return tracks.assemble(f"ppg_dalia ({folder})", _tracks(found), wanted)


def _tracks(found: list[tuple[int, Path]]) -> Iterator[Track]:
    for number, path in found:
        content = empatica.read(path)
        ppg, acc = empatica.wrist(path, content)
        bpm = empatica.signal(path, content, "label", columns=1)[0]
        name = f"dalia-{number:02d}"
        yield Track(path, name, name, ppg, BVP_HZ, acc, ACC_HZ, bpm)
