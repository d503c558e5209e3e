"""DeepBeat: 25 s of wrist PPG at 32 Hz, AF or not, in three .npz files. Reads that folder; caches nothing; executes no pickle.

Torres-Soto and Ashley, "Multi-task deep learning for cardiac rhythm detection in wearable devices", npj Digital Medicine 2020, 3:116;
Synapse syn21985690. Each file holds `signal` (N, 800, 1), `rhythm` (N, 2) one-hot with column 1 = AF, `qa_label` (N, 3) and
`parameters` (N, 3): time, channel, subject. Segments of a subject overlap (a segment a second, eight channels at once), so a number of
them spread over the subject's time is taken and not all. The published parts are joined, to be split again by subject; subjects of the
same id in two files count as one person, so that nobody can be in two parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files, safe_pickle
from hwnas.tasks.datasets.npz import Npz
from hwnas.tasks.datasets.recordings import AF_OR_NOT, Recordings, Wanted, cut, gather

FILES = ("train.npz", "validate.npz", "test.npz")
PATTERN = ", ".join(FILES)
RATE_HZ = 32.0
SAMPLES = 800
SEGMENT_S = SAMPLES / RATE_HZ
SUBJECT_COLUMN = 2
SEGMENTS_PER_SUBJECT = 200
MAX_SEGMENTS = 5_000_000  # the largest published file has 2.8 million
MAX_NUMBER = 1e15
SPARED = "segments that overlap others (at most {} a subject)"


def matches(folder: Path) -> bool:
    """Whether the folder holds one of the files, by their names."""
    return any((folder / name).exists() for name in FILES)


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Segments of the files there are, resampled, and cut where shorter windows are asked for.

    Raises:
        DataError: no file, a damaged one, one of another form, or windows longer than a segment.
    """
    window_s = wanted.length_s(SEGMENT_S)
    if window_s > SEGMENT_S:
        raise DataError(f"{folder}: segments of {SEGMENT_S:g} s that cannot be joined; asked for {window_s:g} s")
    paths = [folder / name for name in FILES if (folder / name).exists()]
    if not paths:
        raise DataError(f"{folder}: none of {PATTERN}; expected the DeepBeat folder")
    left_out: Counter[str] = Counter()
    people: dict[str, int] = {}
    tables = [_table(path, people) for path in paths]
    names = np.array(list(people))
    everyone = np.concatenate([person for _, person, _ in tables])
    taken = _spread(everyone)
    left_out[SPARED.format(SEGMENTS_PER_SUBJECT)] = len(everyone) - int(taken.sum())
    parts, begin = [], 0
    for path, (y, person, _) in zip(paths, tables, strict=True):
        keep = np.flatnonzero(taken[begin : begin + len(y)])
        begin += len(y)
        with files.naming(path):
            for rows, signal in _signals(path, keep):
                piece = cut(signal, RATE_HZ, wanted.rate_hz, window_s, left_out)
                parts.append((piece.x, y[rows][piece.segment], names[person[rows]][piece.segment]))
    missing = [name for name in FILES if folder / name not in paths]
    quality: NDArray[np.int64] = sum((q for _, _, q in tables), np.zeros(3, np.int64))
    notes = [f"{', '.join(missing)} is not there"] if missing else []
    notes.append(f"qa_label, segments in its columns 0, 1, 2: {', '.join(f'{n:,}' for n in quality)} (not used)")
    return gather(f"deepbeat ({folder})", parts, AF_OR_NOT, wanted.rate_hz, [RATE_HZ], left_out, len(paths), tuple(notes))


def _table(path: Path, people: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Labels (N,), numbers (N,) of the subjects in `people`, which grows, and the number of segments in each column of `qa_label`."""
    with files.naming(path), Npz(path) as archive:
        shape = archive.declared("signal").shape
        count = shape[0] if shape else 0
        if count == 0 or shape not in ((count, SAMPLES, 1), (count, SAMPLES)):
            raise DataError(f"{path}: 'signal' has the shape {shape}, expected (segments, {SAMPLES}, 1): 25 s at 32 Hz")
        if count > MAX_SEGMENTS:
            raise DataError(f"{path}: {count:,} segments; allowed are {MAX_SEGMENTS:,} in a file")
        rhythm = _one_hot(path, "rhythm", archive.array("rhythm"), (count, 2))
        parameters = archive.objects("parameters")
        if parameters.ndim != 2 or len(parameters) != count or parameters.shape[1] <= SUBJECT_COLUMN:
            raise DataError(f"{path}: 'parameters' has the shape {parameters.shape}, expected ({count}, 3)")
        person = np.zeros(count, np.int64)
        for i, value in enumerate(parameters[:, SUBJECT_COLUMN]):
            person[i] = people.setdefault(_subject(path, i, value), len(people))
        quality = np.zeros(3, np.int64)
        if "qa_label" in archive.names:
            quality = np.bincount(_one_hot(path, "qa_label", archive.array("qa_label"), (count, 3)), minlength=3)
    return rhythm, person, quality


def _one_hot(path: Path, name: str, array: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.int64]:
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise DataError(f"{path}: '{name}' is of shape {array.shape} and type {array.dtype}, expected numbers {shape}")
    good = np.isin(array, (0, 1)).all(axis=1) & ((array == 1).sum(axis=1) == 1)
    if not good.all():
        raise DataError(f"{path}: '{name}' of segment {int((~good).argmax())} is {array[(~good).argmax()].tolist()}, expected a single 1")
    return np.asarray(array.argmax(axis=1), dtype=np.int64)


def _subject(path: Path, segment: int, value: Any) -> str:
    text = value.strip()[:80] if isinstance(value, str) else ""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if number and -MAX_NUMBER < value < MAX_NUMBER:
        text = str(value)
    if not text:
        raise DataError(
            f"{path}: 'parameters' of segment {segment}: the subject is {safe_pickle.shown(value)}, expected a number or a name"
        )
    # 149, 149.0 and '149' are one person
    return f"deepbeat_{text.removesuffix('.0')}"


def _spread(person: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which segments to take: at most so many of each subject, evenly spread over those there are."""
    taken = np.zeros(len(person), dtype=bool)
    order = np.argsort(person, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(person[order])) + 1):
        count = min(len(places), SEGMENTS_PER_SUBJECT)
        taken[places[np.arange(count) * len(places) // count]] = True
    return taken


def _signals(path: Path, keep: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """(rows, signals (n, 1, 800)) of the segments to keep, block by block."""
    begin = 0
    with Npz(path) as archive:
        if archive.declared("signal").dtype.kind not in "iuf":
            raise DataError(f"{path}: 'signal' is of type {archive.declared('signal').dtype}, expected numbers")
        for block in archive.rows("signal"):
            rows = keep[(keep >= begin) & (keep < begin + len(block))]
            if len(rows):
                yield rows, block[rows - begin].reshape(len(rows), 1, SAMPLES).astype(np.float64)
            begin += len(block)
