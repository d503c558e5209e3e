"""Nights as the Sleep Heart Health Study publishes them: EDF and a scoring in XML beside it. Reads that folder; caches nothing.

Quan et al., "The Sleep Heart Health Study: design, rationale, and methods", Sleep 1997, 20:1077; National Sleep Research Resource. For
`shhs1-200001.edf` the stages stand in `shhs1-200001-profusion.xml` or `shhs1-200001-nsrr.xml`, anywhere below the same folder; both
visits of a person, `shhs1-200001` and `shhs2-200001`, are one subject. Other nights of this form are read as well: their subject is
the name of the file.

The study has ECG at 125 or 250 Hz and no BCG. It is read for task `sleep-ecg`, whose windows are ECG and whose teachers can teach task
`sleep`, too: that reads ECG with its teacher. Task `sleep` itself reads nights of this form that have a signal named BCG beside the ECG.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets import edf, scoring
from hwnas.tasks.datasets.recordings import FLAT, Recordings, Wanted, cut
from hwnas.tasks.synthetic.sleep_parameters import EPOCH_S, STAGES

PATTERN = "*.edf with *-profusion.xml or *-nsrr.xml, also in folders"
FORMS = ("-profusion.xml", "-nsrr.xml")
LABELS = {"ecg": "ECG|EKG", "bcg": "BCG"}
PERSON = re.compile(r"shhs[12]-(\d+)", re.I)
DEPTH = 5
MAX_FILES = 50_000
MAX_WINDOWS = 200_000
NO_STAGE, NO_SIGNAL, NOT_SCORED = "scored as no stage", "a stage for which there is no signal", "beyond the scoring"


def matches(folder: Path) -> bool:
    """Whether there is an EDF file and a scoring below the folder, by their names."""
    below = _files(folder)
    return any(name.endswith(".edf") for name in below) and any(name.endswith(FORMS) for name in below)


def load(folder: Path, wanted: Wanted, channels: Sequence[str] = ("ecg",)) -> Recordings:
    """Epochs of every night below the folder, in the order of their names; the first of `channels` is `x`, a second is `teacher_x`.

    Raises:
        DataError: no night, another length than an epoch's, a damaged file, a signal that is not there, or nothing left to use.
    """
    if wanted.length_s(EPOCH_S) != EPOCH_S:
        raise DataError(f"{folder}: sleep is scored in epochs of {EPOCH_S:g} s; asked for windows of {wanted.window_s:g} s")
    below = _files(folder)
    nights = [name.removesuffix(".edf") for name in sorted(below) if name.endswith(".edf")]
    scored = {night: next((below[night + form] for form in FORMS if night + form in below), None) for night in nights}
    left_out: Counter[str] = Counter()
    notes, rates, parts = [], set[float](), list[tuple[NDArray[np.float32], NDArray[np.int64]]]()
    kept_nights, total = [], 0
    for night, xml in scored.items():
        if xml is None:
            continue
        signals = edf.read(below[night + ".edf"], {name: LABELS[name] for name in channels})
        rates |= {signal.rate_hz for signal in signals.values()}
        stage = scoring.read(xml)
        lasts = int(min(len(signal.data) / signal.rate_hz for signal in signals.values()) / EPOCH_S + 1e-9)
        if abs(lasts - len(stage)) > 1:
            notes.append(f"{night}: {len(stage)} scored epochs, the signal lasts {lasts}: are they of one recording?")
        parts.append(_epochs(signals, stage, lasts, wanted, left_out))
        kept_nights.append(below[night + ".edf"].stem)
        total += len(parts[-1][1])
        if total > MAX_WINDOWS:
            raise DataError(f"{folder}: more than {MAX_WINDOWS:,} epochs; give a folder of some {MAX_WINDOWS // 1000} nights")
    if missing := [night for night, xml in scored.items() if xml is None]:
        notes.append(f"{len(missing)} night(s) without a scoring are left out: {missing[0]}{' ...' if len(missing) > 1 else ''}")
    said = {reason: number for reason, number in sorted(left_out.items()) if number}
    if not total:
        why = ", ".join(f"{number:,}: {reason}" for reason, number in said.items())
        raise DataError(f"shhs ({folder}): no window can be used ({why or 'no night has a scoring'}); expected {PATTERN}")
    x, y = (np.concatenate([part[i] for part in parts]) for i in range(2))
    counts = [len(part[1]) for part in parts]
    windows = Windows(
        x=x[:, :1],
        y=y,
        subject=np.repeat([_subject(night) for night in kept_nights], counts),
        rate_hz=wanted.rate_hz,
        source="real",
        name=f"shhs ({folder})",
        teacher_x=x[:, 1:] if len(channels) > 1 else None,
        recording=np.repeat(kept_nights, counts),
    )
    return Recordings(windows, STAGES, tuple(sorted(rates)), len(parts), said, tuple(notes))


def _epochs(
    signals: dict[str, edf.Signal], stage: NDArray[np.int64], lasts: int, wanted: Wanted, left_out: Counter[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows (n, channels, T) and stages (n,) of the epochs of a night that are scored and that every signal shows."""
    shared = min(lasts, len(stage))
    left_out[NOT_SCORED] += lasts - shared
    left_out[NO_SIGNAL] += len(stage) - shared
    left_out[NO_STAGE] += int((stage[:shared] == scoring.UNSCORED).sum())
    shown: list[dict[int, NDArray[np.float32]]] = []
    for signal in signals.values():
        piece = cut(signal.data[None, None, :], signal.rate_hz, wanted.rate_hz, EPOCH_S, Counter())
        epochs = np.round(piece.start / signal.rate_hz / EPOCH_S).astype(np.int64)
        shown.append(dict(zip(epochs.tolist(), piece.x[:, 0], strict=True)))
    staged = np.flatnonzero(stage[:shared] != scoring.UNSCORED)
    keep = [epoch for epoch in staged.tolist() if all(epoch in channel for channel in shown)]
    # samples are whole numbers: an epoch that is not shown stands still
    left_out[FLAT] += len(staged) - len(keep)
    x = np.array([[channel[epoch] for channel in shown] for epoch in keep], dtype=np.float32)
    return x.reshape(len(keep), len(shown), round(EPOCH_S * wanted.rate_hz)), stage[keep]


def _subject(night: str) -> str:
    person = PERSON.fullmatch(night)
    return f"shhs-{person[1]}" if person else night


def _files(folder: Path) -> dict[str, Path]:
    """EDF and XML files below the folder by their names in small letters; raises DataError where a name stands twice."""
    found: dict[str, Path] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        if len(Path(place).relative_to(folder).parts) >= DEPTH:
            folders.clear()
        for name in sorted(names):
            key = name.lower()
            if not key.endswith((".edf", *FORMS)):
                continue
            if key in found:
                raise DataError(f"{Path(place) / name}: the file {name} is also {found[key]}; keep one of them")
            found[key] = Path(place) / name
        if len(found) + len(folders) > MAX_FILES:
            raise DataError(f"{folder}: more than {MAX_FILES:,} files or folders; give the folder of the recordings alone")
    return found
