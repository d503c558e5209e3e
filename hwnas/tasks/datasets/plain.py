"""People's own recordings: a folder with `dataset.yaml` and the CSV or NPZ files that it lists. Reads that folder; caches nothing.

    name: my watch study            # optional
    channels: [ppg]                 # columns of the CSV files, arrays of the NPZ files
    rate_hz: 64                     # of every file
    window_s: 10                    # optional: the length where none is asked for (default 10)
    labels: {N: sinus, A: af, noise: null}   # what the files say -> a label of the task; null: left out
    files:
      - {file: p01.csv, subject: anna, label: A}              # one rhythm throughout
      - {file: p02.csv, subject: bert, label_column: rhythm}  # a label in every row
      - {file: all.npz, subject_column: who, label_column: rhythm}

Labels of task `rhythm` are sinus, pvc, pac, vt, svt, af, or rest for "anything but af", which task `rhythm-af` alone can use. Without
`labels` the files use these words themselves. A CSV file is one recording with a header line; an empty cell is a gap. In an NPZ file a
channel is an array (T,), one recording with labels (T,), or (N, T), N segments that are never joined, with labels and subjects (N,).
Recordings are cut into windows side by side; a window in which the label changes is left out.

For task `heart_rate` the channels are the PPG and three axes of acceleration, in this order, and every file is one recording with
`heart_rate_column` in place of a label: the BPM in every row, empty (NaN) where it is unknown. A window of 8 s has the mean of its rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from annotated_types import Ge, Le, Len
from numpy.typing import NDArray
from pydantic import model_validator

from hwnas import config
from hwnas.errors import ConfigError, DataError, unknown
from hwnas.tasks import pulse_motion
from hwnas.tasks.datasets import files, safe_pickle, tracks
from hwnas.tasks.datasets.columns import MAX_WORDS, Table
from hwnas.tasks.datasets.npz import Npz
from hwnas.tasks.datasets.recordings import (
    AF_OR_NOT,
    MAX_SAMPLES,
    MAX_WINDOW_S,
    MIN_WINDOW_S,
    RATES_HZ,
    Piece,
    Recordings,
    Wanted,
    cut,
    gather,
)
from hwnas.tasks.datasets.tracks import Track
from hwnas.tasks.synthetic.parameters import RHYTHMS

PATTERN = "dataset.yaml"
MAX_YAML_BYTES = 2**20
MAX_TEXT = 200
MAX_NUMBER = 2**63
MAX_DEPTH = 20
MAX_FILES = 10_000
MAX_TOKENS = 20 * MAX_FILES
# numbers of many digits, or of many in base 60 (1:30:00), take long to work out
MAX_SCALAR = 1000
OPENING = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken, yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken)
CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
REST, AF = AF_OR_NOT
LABELS = (*RHYTHMS, REST)
NONE, SEVERAL = -1, -2
MIXED, DECLINED = "more than one label", "a label that dataset.yaml leaves out"
Text = Annotated[str, Len(1, MAX_TEXT)]


class Entry(config.Model):
    """One file, whose it is and what it shows."""

    file: Text
    subject: Text | int | None = None
    subject_column: Text | None = None
    label: Text | int | None = None
    label_column: Text | None = None
    heart_rate_column: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> Entry:
        if (self.label, self.label_column, self.heart_rate_column).count(None) != 2:
            raise ValueError("give either label or label_column (or heart_rate_column, for task heart_rate)")
        if (self.subject is None) == (self.subject_column is None):
            raise ValueError("give either subject or subject_column")
        if self.file != Path(self.file).name or Path(self.file).suffix.lower() not in (".csv", ".npz"):
            raise ValueError("file must be the name of a .csv or .npz file in this folder")
        return self


class Dataset(config.Model):
    """What dataset.yaml says."""

    channels: Annotated[list[Text], Len(1, 64)]
    rate_hz: Annotated[float, Ge(RATES_HZ[0]), Le(RATES_HZ[1])]
    files: Annotated[list[Entry], Len(1, MAX_FILES)]
    labels: Annotated[dict[Text | int, Text | None], Len(1, 1000)] = {name: name for name in LABELS}  # noqa: RUF012
    window_s: Annotated[float, Ge(MIN_WINDOW_S), Le(MAX_WINDOW_S)] = 10.0
    name: Text | None = None

    @model_validator(mode="after")
    def _known(self) -> Dataset:
        for label in self.labels.values():
            if label is not None and label not in LABELS:
                raise ValueError(unknown("label", label, LABELS))
        for repeated in (self.channels, [entry.file for entry in self.files]):
            if twice := [name for name, count in Counter(repeated).items() if count > 1]:
                raise ValueError(f"'{twice[0]}' is listed twice")
        return self


def matches(folder: Path) -> bool:
    """Whether the folder has a dataset.yaml."""
    return (folder / PATTERN).exists()


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of every file that dataset.yaml lists, in its order.

    Raises:
        DataError: a dataset.yaml that is none, a missing or damaged file, an unknown label, or nothing left to use.
    """
    about = read(folder / PATTERN)
    if any(entry.heart_rate_column is not None for entry in about.files):
        raise DataError(f"{folder / PATTERN}: gives heart rates; use --task heart_rate")
    window_s = wanted.length_s(about.window_s)
    left_out: Counter[str] = Counter()
    parts = []
    for entry in about.files:
        path = folder / entry.file
        with files.naming(path):
            source = _csv(path, entry, about) if entry.file.lower().endswith(".csv") else _npz(path, entry, about)
            piece = cut(source.signal, about.rate_hz, wanted.rate_hz, window_s, left_out)
            y = _classes(source, piece, int(window_s * about.rate_hz))
        for reason, value in ((MIXED, SEVERAL), (DECLINED, NONE)):
            left_out[reason] += int((y == value).sum())
        parts.append((piece.x[y >= 0], y[y >= 0], source.subject[piece.segment][y >= 0]))
    labels: tuple[str, ...] = RHYTHMS
    if any((y == LABELS.index(REST)).any() for _, y, _ in parts):
        # who says `rest` anywhere can tell AF from the rest and no more
        labels = AF_OR_NOT
        parts = [(x, (y == LABELS.index(AF)).astype(np.int64), subject) for x, y, subject in parts]
    name = f"{about.name} ({folder})" if about.name else f"plain ({folder})"
    return gather(name, parts, labels, wanted.rate_hz, [about.rate_hz], left_out, len(parts))


def load_heart_rates(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of 8 s with heart rates of every file that dataset.yaml lists, in its order.

    Raises:
        DataError: as `load`, files without heart rates, or other channels than PPG and acceleration.
    """
    about = read(folder / PATTERN)
    if len(about.channels) != len(pulse_motion.CHANNELS):
        raise DataError(f"{folder / PATTERN}: {len(about.channels)} channels; heart rates need four: the PPG and acceleration x, y, z")
    name = f"{about.name} ({folder})" if about.name else f"plain ({folder})"
    return tracks.assemble(name, (_track(folder, entry, about) for entry in about.files), wanted)


def _track(folder: Path, entry: Entry, about: Dataset) -> Track:
    path = folder / entry.file
    if entry.heart_rate_column is None or entry.subject is None:
        raise DataError(
            f"{folder / PATTERN}: {entry.file}: task heart_rate needs subject and heart_rate_column; labels are for --task rhythm"
        )
    names = [*about.channels, entry.heart_rate_column]
    if entry.file.lower().endswith(".csv"):
        rows = Table(path).numbers(names)
    else:
        with Npz(path) as archive:
            arrays = _channels(path, archive, names)
        if len(shapes := {array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
            raise DataError(f"{path}: arrays of the shapes {sorted(shapes)}, expected all (T,): channels and heart rates of one recording")
        rows = np.stack(arrays).astype(np.float64)
    signal, bpm = rows[:-1], tracks.mean_in_windows(rows[-1], about.rate_hz)
    return Track(path, str(entry.subject), entry.file, signal[0], about.rate_hz, signal[1:], about.rate_hz, bpm)


def read(path: Path) -> Dataset:
    """The checked content of a dataset.yaml."""
    text = files.read(path, MAX_YAML_BYTES)
    try:
        _check_tokens(path, text)
        return config.load(path, Dataset)
    except ConfigError as error:
        raise DataError(str(error)[:1000]) from error
    except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise DataError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from error


def _check_tokens(path: Path, text: bytes) -> None:
    """Refuse what lets a short file take long: aliases, which unfold without end, and deep nesting."""
    depth = 0
    for number, token in enumerate(yaml.scan(text, Loader=yaml.SafeLoader)):
        if number > MAX_TOKENS:
            raise DataError(f"{path}: holds more than {MAX_TOKENS:,} words and signs; a study of {MAX_FILES:,} files has fewer")
        if isinstance(token, yaml.AliasToken):
            raise DataError(f"{path}: holds an alias (*name); write the value out")
        if isinstance(token, yaml.ScalarToken) and len(token.value) > MAX_SCALAR:
            raise DataError(f"{path}: holds a value of {len(token.value):,} characters; allowed are {MAX_SCALAR:,}")
        depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if depth > MAX_DEPTH:
            raise DataError(f"{path}: nested deeper than {MAX_DEPTH} levels; it has four")


@dataclass(frozen=True, eq=False)
class Source:
    """One file: `signal` (S, C, N), `subject` (S,), and `label` (S,) or, of one recording, (1, N), numbers in LABELS or below 0."""

    signal: NDArray[Any]
    subject: NDArray[np.str_]
    label: NDArray[np.int64]


def _csv(path: Path, entry: Entry, about: Dataset) -> Source:
    if entry.subject_column is not None:
        raise DataError(f"{path}: a CSV file is one recording of one person; give subject, not subject_column")
    table = Table(path)
    signal = table.numbers(about.channels)[None]
    codes, words = (np.zeros(1, np.int64), [str(entry.label)]) if entry.label_column is None else table.words(entry.label_column)
    label = _meanings(path, words, about)[codes]
    return Source(signal, np.array([str(entry.subject)]), label if entry.label_column is None else label[None])


def _npz(path: Path, entry: Entry, about: Dataset) -> Source:
    with Npz(path) as archive:
        channels = _channels(path, archive, about.channels)
        columns = {name: archive.objects(name) for name in (entry.label_column, entry.subject_column) if name is not None}
    shapes = {channel.shape for channel in channels}
    if len(shapes) != 1 or channels[0].ndim not in (1, 2):
        raise DataError(f"{path}: channels of the shapes {sorted(shapes)}, expected all (T,) or all (N, T)")
    count = len(channels[0])
    for name, column in columns.items():
        if column.shape != (count,):
            raise DataError(f"{path}: '{name}' has the shape {column.shape}, expected ({count},), as the channels begin")
    single = channels[0].ndim == 1
    if single and entry.subject_column is not None:
        raise DataError(f"{path}: channels (T,) are one recording of one person; give subject, not subject_column")
    if entry.label_column is None:
        label = np.full(1 if single else count, _meanings(path, [str(entry.label)], about)[0])
    else:
        codes, words = _words(path, entry.label_column, columns[entry.label_column])
        label = _meanings(path, words, about)[codes]
        label = label[None] if single else label
    if entry.subject_column is None:
        subject = np.full(1 if single else count, str(entry.subject))
    else:
        codes, people = _words(path, entry.subject_column, columns[entry.subject_column])
        subject = np.array(people, dtype=np.str_)[codes] if people else np.zeros(0, dtype="U1")
    signal = np.stack(channels)[None] if single else np.stack(channels, axis=1)
    return Source(signal, subject, label)


def _classes(source: Source, piece: Piece, samples: int) -> NDArray[np.int64]:
    """Number in LABELS of each window; NONE where it is to be left out, SEVERAL where its label changes."""
    if source.label.ndim == 1:
        return source.label[piece.segment]
    spans = [source.label[0, a : a + samples] for a in piece.start]
    return np.array([span[0] if (span == span[0]).all() else SEVERAL for span in spans], dtype=np.int64)


def _meanings(path: Path, words: Sequence[str], about: Dataset) -> NDArray[np.int64]:
    """What each of a file's words means: its number in LABELS, or NONE."""
    meaning = {str(key): value for key, value in about.labels.items()}
    for word in words:
        if word not in meaning:
            raise DataError(f"{path}: {unknown('label', word[:MAX_TEXT], meaning)} The key 'labels' of {PATTERN} lists them")
    found = [meaning[word] for word in words]
    return np.array([NONE if label is None else LABELS.index(label) for label in found], dtype=np.int64)


def _channels(path: Path, archive: Npz, names: Sequence[str]) -> list[NDArray[Any]]:
    """Arrays of numbers that memory has room for, which is asked before one is read."""
    samples = sum(math.prod(archive.declared(name).shape) for name in names)
    if samples > MAX_SAMPLES:
        raise DataError(f"{path}: {samples:,} samples; allowed are {MAX_SAMPLES:,}: cut the recording into several files")
    found = [archive.array(name) for name in names]
    for name, array in zip(names, found, strict=True):
        if array.dtype.kind not in "iuf":
            raise DataError(f"{path}: array '{name}' is of type {array.dtype}, expected numbers")
    return found


def _words(path: Path, name: str, array: NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """An array of labels or subjects: the number of each word, and the words; whole numbers are written without a point."""
    known: dict[str, int] = {}
    codes = np.zeros(len(array), dtype=np.int64)
    for i, value in enumerate(array):
        if isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        number = isinstance(value, int | np.integer) and not isinstance(value, bool) and abs(int(value)) < MAX_NUMBER
        if not number and not isinstance(value, str):
            raise DataError(f"{path}: array '{name}' holds {safe_pickle.shown(value)} at {i}, expected whole numbers or text")
        codes[i] = known.setdefault(str(value).strip()[:MAX_TEXT], len(known))
        if len(known) > MAX_WORDS:
            raise DataError(f"{path}: array '{name}' holds more than {MAX_WORDS:,} different values; expected labels or subjects")
    return codes, list(known)
