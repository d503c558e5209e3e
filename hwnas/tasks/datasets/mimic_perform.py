"""MIMIC PERform AF: 20 min of finger PPG at 125 Hz a patient, as WFDB records or CSV files. Reads that folder; caches nothing.

Charlton et al., "Detecting beats in the photoplethysmogram: benchmarking open-source algorithms", Physiol. Meas. 2022, 43:085007;
doi 10.5281/zenodo.6807402. Each patient is one record, `mimic_perform_af_001` or `mimic_perform_non_af_001`: whether it is AF is said by
the name of the file or of a folder above it, and nowhere else. Other records of this form and naming are read as well, at their rate.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files, wfdb
from hwnas.tasks.datasets.columns import Table
from hwnas.tasks.datasets.recordings import AF_OR_NOT, Recordings, Wanted, check_rate, cut, gather

PATTERN = "*af*.hea or mimic_perform_*af*.csv, also in folders"
WINDOW_S = 10.0
CHANNEL = "PPG"
DEPTH = 3
MAX_FILES = 10_000
LABEL = re.compile(r"(?<![a-z])(non[-_ ]?)?af(?![a-z])", re.I)
ARCHIVE = re.compile(r"mimic_perform", re.I)


def matches(folder: Path) -> bool:
    """Whether the folder, or one in it, holds records of this form, by their names."""
    return bool(_records(folder))


def load(folder: Path, wanted: Wanted) -> Recordings:
    """Windows of every record below the folder, in the order of their paths.

    Raises:
        DataError: no record, one twice, one whose name does not say AF or not, a damaged file, or nothing left to use.
    """
    found = _records(folder)
    if not found:
        raise DataError(f"{folder}: no {PATTERN}; expected the folders of MIMIC PERform AF")
    window_s = wanted.length_s(WINDOW_S)
    left_out: Counter[str] = Counter()
    parts, rates, seen = [], [], dict[str, Path]()
    for path in found:
        name = path.stem.removesuffix("_data")
        if name in seen:
            raise DataError(f"{path}: the record {name} is also {seen[name]}; keep one of them, or its windows count twice")
        seen[name] = path
        af = _is_af(folder, path)
        with files.naming(path):
            signal, rate_hz = _wfdb(path) if path.suffix.lower() == ".hea" else _csv(path)
            piece = cut(signal[None, None, :], rate_hz, wanted.rate_hz, window_s, left_out)
        parts.append((piece.x, np.full(len(piece.x), int(af)), np.full(len(piece.x), name)))
        rates.append(rate_hz)
    return gather(f"mimic_perform ({folder})", parts, AF_OR_NOT, wanted.rate_hz, rates, left_out, len(found))


def _records(folder: Path) -> list[Path]:
    """Headers and CSV files of the form, by name only, at most `DEPTH` folders down."""
    names: list[Path] = []
    places = [folder]
    for _ in range(DEPTH):
        below: list[Path] = []
        for place in places:
            inside = sorted(place.iterdir())
            below += [p for p in inside if p.is_dir()]
            names += [p for p in inside if _is_record(folder, p) and not p.is_dir()]
            if len(names) + len(below) > MAX_FILES:
                raise DataError(f"{folder}: more than {MAX_FILES:,} files or folders; give the folder of the recordings alone")
        places = below
    return sorted(names)


def _is_record(folder: Path, path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return any(ARCHIVE.search(part) and LABEL.search(part) for part in _titles(folder, path))
    return suffix == ".hea"


def _titles(folder: Path, path: Path) -> list[str]:
    """Names that may say the label, the nearest first: the file's, then of the folders up to the one given."""
    relative = path.relative_to(folder)
    return [path.stem, *(part for part in reversed(relative.parts[:-1])), folder.resolve().name]


def _is_af(folder: Path, path: Path) -> bool:
    for title in _titles(folder, path):
        if found := LABEL.search(title):
            return not found[1]
    raise DataError(f"{path}: neither its name nor its folder's says 'af' or 'non_af'; name it as the archive does (mimic_perform_af_001)")


def _wfdb(path: Path) -> tuple[NDArray[np.float64], float]:
    header = wfdb.read_header(path)
    return wfdb.read_channel(path, header, wfdb.channel_number(path, header, CHANNEL)), header.rate_hz


def _csv(path: Path) -> tuple[NDArray[np.float64], float]:
    table = Table(path)
    named = [name for name in table.names if re.match(rf"{CHANNEL}\b", name, re.I)]
    if len(named) != 1:
        raise DataError(f"{path}: {len(named)} columns are named '{CHANNEL}...' (found: {', '.join(table.names)[:200]}); expected one")
    time, signal = table.numbers(["Time", named[0]])
    return signal, _rate(path, time)


def _rate(path: Path, time: NDArray[np.float64]) -> float:
    """Rate of the seconds in column Time, which must run evenly: rows are taken for samples."""
    if len(time) < 2 or not np.isfinite(time).all() or not time[-1] > time[0]:
        raise DataError(f"{path}: 'Time' must be seconds that grow, without gaps")
    with np.errstate(over="ignore"):
        rate_hz = float((len(time) - 1) / (time[-1] - time[0]))
    check_rate(rate_hz, str(path))
    # written in decimals, so that 125 Hz may come out as 125.003
    rate_hz = float(round(rate_hz)) if abs(rate_hz / round(rate_hz) - 1) < 2e-3 else rate_hz
    with np.errstate(over="ignore"):
        drift = np.abs(time - time[0] - np.arange(len(time)) / rate_hz)
    if drift.max() > 0.5:
        raise DataError(
            f"{path}: line {int((drift > 0.5).argmax()) + 2}: 'Time' leaves the even grid of {rate_hz:g} Hz; fill gaps with empty cells"
        )
    return rate_hz
