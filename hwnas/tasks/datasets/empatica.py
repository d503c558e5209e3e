"""What the pickles of PPG-DaLiA and WESAD have in common: wrist signals of an Empatica E4, chest signals of a RespiBAN. Reads one file.

Both are a dict with `signal` -> `wrist` {BVP (n, 1) at 64 Hz, ACC (n, 3) at 32 Hz, ...} and `chest` {ECG (n, 1) at 700 Hz, ...}, written by
Python 2. They are read through `safe_pickle`: nothing in them is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files, safe_pickle

BVP_HZ, ACC_HZ, CHEST_HZ = 64.0, 32.0, 700.0
TOLERANCE_S = 10.0
# one subject takes about 1 GiB on disk
MAX_BYTES = 2 * 2**30
FOLDER = re.compile(r"S(\d{1,2})")


def subjects(folder: Path, inside: str = "") -> list[tuple[int, Path]]:
    """(number, path) of `SN/SN.pkl`, in `folder` or in its folder `inside`, in the order of the numbers."""
    for place in (folder / inside, folder):
        found = [(int(match[1]), path / f"{path.name}.pkl") for path in place.glob("S*") if (match := FOLDER.fullmatch(path.name))]
        if found := sorted((number, path) for number, path in found if path.exists()):
            return found
    return []


def read(path: Path) -> Mapping[str, Any]:
    """The dict that a subject's file holds.

    Raises:
        DataError: unreadable, too large, damaged, or anything but data.
    """
    try:
        content = safe_pickle.loads(files.read(path, MAX_BYTES))
    except safe_pickle.UnsafePickle as error:
        raise DataError(f"{path}: not a pickle of numbers: {error}; copy it again from the archive") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a dict with 'signal' and 'label'")
    return content


def wrist(path: Path, content: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PPG (n,) at 64 Hz and acceleration (3, m) at 32 Hz; raises DataError where they are not of one recording."""
    ppg = signal(path, content, "signal", "wrist", "BVP", columns=1)[0]
    acc = signal(path, content, "signal", "wrist", "ACC", columns=3)
    seconds = len(ppg) / BVP_HZ, acc.shape[1] / ACC_HZ
    if abs(seconds[0] - seconds[1]) > TOLERANCE_S:
        raise DataError(f"{path}: {seconds[0]:.0f} s of BVP and {seconds[1]:.0f} s of ACC; they are not of one recording, or cut short")
    return ppg, acc


def signal(path: Path, content: Mapping[str, Any], *keys: str, columns: int) -> NDArray[np.float64]:
    """The array at content[keys[0]][keys[1]]... as (columns, samples); raises DataError where there is none."""
    found: Any = content
    for depth, key in enumerate(keys):
        if not isinstance(found, dict) or key not in found:
            have = ", ".join(sorted(map(str, found)))[:200] if isinstance(found, dict) else type(found).__name__
            raise DataError(f"{path}: '{'/'.join(keys[: depth + 1])}' is missing (found: {have})")
        found = found[key]
    # lists of lists are not taken apart: a short pickle nests them without end
    numbers = isinstance(found, list) and all(isinstance(value, int | float | np.number) for value in found)
    array = np.asarray(found) if numbers or isinstance(found, np.ndarray) else np.zeros(0)
    # a column alone is written as (n, 1) or (n,)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != columns or not len(array) or array.dtype.kind not in "iuf":
        had = f"the shape {array.shape} and type {array.dtype}"
        raise DataError(f"{path}: '{'/'.join(keys)}' has {had}, expected numbers (samples, {columns})")
    return np.asarray(array.T, dtype=np.float64)
