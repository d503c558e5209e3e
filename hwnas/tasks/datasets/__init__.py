"""On-disk formats of rhythm recordings and how a folder is recognised as one of them. Looks at file names only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import DataError
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets import liu2022


@dataclass(frozen=True)
class Format:
    """One on-disk format: `matches(folder)` looks at names, `load(folder)` reads and validates."""

    matches: Callable[[Path], bool]
    load: Callable[[Path], Windows]
    pattern: str


RHYTHM_FORMATS = {"liu2022": Format(liu2022.matches, liu2022.load, liu2022.PATTERN)}


def load(folder: Path, formats: dict[str, Format]) -> Windows:
    """Read a folder in whichever of `formats` it is.

    Raises:
        DataError: no such folder, an empty one, none of the formats, or what the format's loader raises.
    """
    known = ", ".join(f"{name} ({f.pattern})" for name, f in formats.items())
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; give --data a folder of recordings: {known}")
    if not folder.is_dir():
        raise DataError(f"{folder}: a file; give --data the folder that holds the recordings: {known}")
    try:
        found = [f for f in formats.values() if f.matches(folder)]
        names = sorted(p.name for p in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if found:
        return found[0].load(folder)
    have = f"it holds {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" if names else "it is empty"
    raise DataError(f"{folder}: no recordings of a known format ({have}); known: {known}")
