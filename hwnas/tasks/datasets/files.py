"""Reading files of a stranger's folder: plain files only, and no more bytes than are allowed. Reads one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwnas.errors import DataError

MAX_BYTES = 512 * 2**20


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in what is said of its content while this lasts, and in saying that memory does not suffice for it."""
    try:
        yield
    except DataError as error:
        if path.name in str(error):
            raise
        raise DataError(f"{path}: {error}") from error
    except MemoryError as error:
        raise DataError(f"{path}: needs more memory than there is; cut the recording into several files") from error


def read(path: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of a plain file; raises DataError where it is none, cannot be read or is larger than `most`."""
    check(path, most)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise DataError(f"{path}: larger than {_size(most)}; cut the recording into several files")
    return content


def check(path: Path, most: int) -> int:
    """Size of a plain file in bytes; raises DataError where it is none or larger than `most`."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DataError(f"{path}: no plain file")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if size > most:
        raise DataError(f"{path}: larger than {_size(most)}; cut the recording into several files")
    return size


def _size(count: int) -> str:
    return f"{count >> 20:,} MiB" if count >= 2**24 else f"{count >> 10:,} KiB"
