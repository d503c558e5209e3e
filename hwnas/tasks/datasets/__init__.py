"""On-disk formats of recordings and how a folder is recognised as one of them. Looks at file names only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import DataError
from hwnas.tasks.datasets import bami, dalia, deepbeat, liu2022, mimic_perform, plain, spc2015, wesad
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.synthetic.parameters import RHYTHMS


@dataclass(frozen=True)
class Format:
    """One on-disk format: `matches(folder)` looks at names, `load(folder, wanted)` reads, validates and resamples."""

    matches: Callable[[Path], bool]
    load: Callable[[Path, Wanted], Recordings]
    pattern: str


def _liu2022(folder: Path, wanted: Wanted) -> Recordings:
    """Segments as they are: they are of the task's rate, and the part of one that is cut off may be what its label says."""
    windows = liu2022.load(folder)
    if wanted.window_s is not None and wanted.window_s != windows.window_s:
        raise DataError(f"{windows.name}: windows of {windows.window_s:g} s that cannot be joined; asked for {wanted.window_s:g} s")
    return Recordings(windows, RHYTHMS, (windows.rate_hz,), len(windows.subjects))


# The first that matches is taken: who writes a dataset.yaml means it.
RHYTHM_FORMATS = {
    "plain": Format(plain.matches, plain.load, plain.PATTERN),
    "liu2022": Format(liu2022.matches, _liu2022, liu2022.PATTERN),
    "deepbeat": Format(deepbeat.matches, deepbeat.load, deepbeat.PATTERN),
    "mimic_perform": Format(mimic_perform.matches, mimic_perform.load, mimic_perform.PATTERN),
}
HEART_RATE_FORMATS = {
    "plain": Format(plain.matches, plain.load_heart_rates, plain.PATTERN),
    "ieee_spc2015": Format(spc2015.matches, spc2015.load, spc2015.PATTERN),
    "bami": Format(bami.matches, bami.load, bami.PATTERN),
    "ppg_dalia": Format(dalia.matches, dalia.load, dalia.PATTERN),
    "wesad": Format(wesad.matches, wesad.load, wesad.PATTERN),
}


def recognise(folder: Path, formats: dict[str, Format]) -> str:
    """Name of the format that a folder is in.

    Raises:
        DataError: no such folder, an empty one, or none of the formats.
    """
    known = ", ".join(f"{name} ({f.pattern})" for name, f in formats.items())
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; give --data a folder of recordings: {known}")
    if not folder.is_dir():
        raise DataError(f"{folder}: a file; give --data the folder that holds the recordings: {known}")
    try:
        found = next((name for name, f in formats.items() if f.matches(folder)), None)
        names = sorted(p.name for p in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if found:
        return found
    have = f"it holds {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" if names else "it is empty"
    raise DataError(f"{folder}: no recordings of a known format ({have}); known: {known}")


def load(folder: Path, formats: dict[str, Format], wanted: Wanted) -> Recordings:
    """Read a folder in whichever of `formats` it is; raises DataError as `recognise` and the format's loader do."""
    return formats[recognise(folder, formats)].load(folder, wanted)
