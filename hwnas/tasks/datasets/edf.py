"""Signals of an EDF file by the first word of their label, through edfio. Reads one file.

Format: Kemp et al., "A simple format for exchange of digitized polygraphic recordings", Electroencephalogr Clin Neurophysiol 1992, 82:391.
A file that is not as long as its header says is refused, and so is one with gaps in time (EDF+D).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import edfio
import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files
from hwnas.tasks.datasets.recordings import MAX_SAMPLES, check_rate

BLOCK_BYTES = 256  # of a header: one for the file, one for each signal
MAX_SIGNALS = 256
# what edfio raises on damage of one kind or another; a warning of it says that the file is cut short
DAMAGE = (ValueError, ArithmeticError, LookupError, TypeError, NameError, AttributeError, AssertionError, UserWarning)


@dataclass(frozen=True, eq=False)
class Signal:
    """Samples (T,) at `rate_hz`."""

    data: NDArray[np.float64]
    rate_hz: float


def read(path: Path, names: dict[str, str]) -> dict[str, Signal]:
    """The signals whose label begins with the words that `names` gives as patterns, by the keys of `names`.

    Raises:
        DataError: no whole EDF file, or not exactly one such signal; names those there are.
    """
    content = files.read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return _signals(path, content, names)
        except DAMAGE as error:
            raise DataError(f"{path}: damaged or not an EDF file: {str(error)[:200]}; copy it again") from error


def _signals(path: Path, content: bytes, names: dict[str, str]) -> dict[str, Signal]:
    signals = int(content[252:256] or b"0")
    declared = int(content[184:192] or b"0")
    if not 1 <= signals <= MAX_SIGNALS or declared != BLOCK_BYTES * (signals + 1):
        raise ValueError(f"{signals} signals and a header of {declared} bytes")
    if content[192:197] == b"EDF+D":
        raise DataError(f"{path}: has gaps in time (EDF+D), which this reader does not read; convert it to plain EDF")
    recording = edfio.read_edf(content, lazy_load_data=True)
    labels = [signal.label for signal in recording.signals]
    found = {}
    for name, pattern in names.items():
        places = [i for i, label in enumerate(labels) if re.match(rf"(?:{pattern})(?![a-z])", label, re.I)]
        if len(places) != 1:
            have = ", ".join(label[:20] for label in labels)
            raise DataError(f"{path}: {len(places)} signals are named {name.upper()} (its signals: {have}); expected one")
        signal = recording.signals[places[0]]
        data = signal.data
        if not 0 < len(data) <= MAX_SAMPLES:
            raise DataError(f"{path}: {len(data):,} samples of {name.upper()}; allowed are 1 to {MAX_SAMPLES:,}")
        found[name] = Signal(data, check_rate(float(signal.sampling_frequency), f"{path}: {name.upper()}"))
    return found
