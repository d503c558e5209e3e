"""Arrays of an .npz file, every size checked before it is read. Reads one file; executes no pickle.

Not numpy's own reader: it takes sizes as they are declared and executes what an array of objects holds. Format: NEP 1, ".npy".
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files, safe_pickle

MAX_FILE_BYTES = 64 * 2**30
MAX_MEMBERS = 1000
MAX_ARRAY_BYTES = 2**30
MAX_OBJECT_BYTES = 512 * 2**20
CHUNK_BYTES = 8 * 2**20
# What the standard library's reader raises on damaged archives.
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
)
MAGIC = b"\x93NUMPY"
HEADER = re.compile(
    r"\{'descr': '(?P<type>[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,4}|O))', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,18}L?, ?){0,32}(?:\d{1,18}L?)?)\),? ?\}\s*",
    re.A,
)


@dataclass(frozen=True)
class Declared:
    """What the header of an array declares; `size` is the bytes of its values, as the archive has it."""

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes that the values of this shape take."""
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """An open archive; use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open it and read its directory; raises DataError."""
        self.path = path
        files.check(path, MAX_FILE_BYTES)
        with self._guard():
            self._zip = zipfile.ZipFile(path)
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()[: MAX_MEMBERS + 1]}
        if len(self._members) > MAX_MEMBERS:
            raise DataError(f"{path}: more than {MAX_MEMBERS:,} arrays")

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._members)

    def declared(self, name: str) -> Declared:
        """Type and shape of an array; raises DataError where it is missing or its header is none."""
        with self._open(name) as (declared, _):
            return declared

    def array(self, name: str) -> NDArray[Any]:
        """A whole array of numbers or text."""
        with self._open(name) as (declared, file):
            self._check(name, declared, MAX_ARRAY_BYTES)
            content = self._exactly(name, file, declared.nbytes)
            if declared.dtype.kind == "U" and not _is_unicode(np.frombuffer(content, _words(declared.dtype))):
                raise DataError(f"{self.path}: array '{name}' holds text that is no Unicode: damaged")
            flat = np.frombuffer(content, declared.dtype) if content else np.zeros(0, declared.dtype)
            return flat.reshape(declared.shape, order="F" if declared.fortran else "C")

    def rows(self, name: str) -> Iterator[NDArray[Any]]:
        """An array of numbers in blocks of rows, a few megabytes each."""
        with self._open(name) as (declared, file):
            self._check(name, declared, MAX_FILE_BYTES)
            if declared.fortran or not declared.shape:
                raise DataError(f"{self.path}: array '{name}' is not stored row by row; save it with np.ascontiguousarray")
            row_bytes = math.prod(declared.shape[1:]) * declared.dtype.itemsize
            if row_bytes > CHUNK_BYTES:
                raise DataError(f"{self.path}: array '{name}' has rows of {row_bytes:,} bytes; allowed are {CHUNK_BYTES:,}")
            block = max(1, CHUNK_BYTES // max(1, row_bytes))
            for begin in range(0, declared.shape[0], block):
                count = min(block, declared.shape[0] - begin)
                content = self._exactly(name, file, count * row_bytes)
                yield np.frombuffer(content, declared.dtype).reshape(count, *declared.shape[1:])

    def objects(self, name: str) -> NDArray[Any]:
        """An array of numbers or text, or of objects read without executing its pickle."""
        with self._open(name) as (declared, file):
            if not declared.dtype.hasobject:
                return self.array(name)
            if declared.size > MAX_OBJECT_BYTES:
                raise DataError(f"{self.path}: array '{name}' of {declared.size:,} bytes; allowed are {MAX_OBJECT_BYTES:,} of objects")
            content = self._exactly(name, file, declared.size)
        try:
            found = safe_pickle.loads(content)
        except safe_pickle.UnsafePickle as error:
            raise DataError(f"{self.path}: array '{name}': {error}") from error
        if not isinstance(found, np.ndarray) or found.shape != declared.shape:
            raise DataError(f"{self.path}: array '{name}' is not of the shape {declared.shape} that it declares")
        return found

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[Declared, IO[bytes]]]:
        if name not in self._members:
            raise DataError(f"{self.path}: array '{name}' is missing (found: {', '.join(self._members)[:200] or 'none'})")
        info = self._members[name]
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{self.path}: array '{name}' is encrypted or packed in an unusual way; save it with np.savez")
        with self._guard(), self._zip.open(info) as file:
            yield self._header(name, info.file_size, file), file

    def _header(self, name: str, size: int, file: IO[bytes]) -> Declared:
        start = file.read(8)
        form = {b"\x01": "<H", b"\x02": "<I", b"\x03": "<I"}.get(start[6:7])
        if start[:6] != MAGIC or form is None:
            raise DataError(f"{self.path}: '{name}' is no array: it begins with {start!r}")
        word = file.read(struct.calcsize(form))
        (length,) = struct.unpack(form, word)
        text = file.read(min(length, 2**16))
        found = HEADER.fullmatch(text.decode("latin-1"))
        if not found or len(text) != length:
            raise DataError(f"{self.path}: array '{name}' has the header {text[:80]!r}; read are arrays of numbers, text or objects")
        shape = tuple(int(number) for number in re.findall(r"\d+", found["shape"]))
        return Declared(np.dtype(found["type"]), found["fortran"] == "True", shape, size - len(start) - len(word) - length)

    def _check(self, name: str, declared: Declared, most: int) -> None:
        where = f"{self.path}: array '{name}'"
        if declared.dtype.hasobject:
            raise DataError(f"{where} holds objects; expected numbers or text")
        if declared.nbytes > most:
            raise DataError(f"{where} declares the shape {declared.shape}, {declared.nbytes:,} bytes; allowed are {most:,}")
        if declared.nbytes != declared.size:
            raise DataError(f"{where} declares {declared.nbytes:,} bytes in the shape {declared.shape} and holds {declared.size:,}")

    def _exactly(self, name: str, file: IO[bytes], count: int) -> bytes:
        content = file.read(count)
        if len(content) != count:
            raise DataError(f"{self.path}: array '{name}' is cut short; copy the file again")
        return content

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except FAULTS as error:
            raise DataError(f"{self.path}: damaged or no .npz file: {str(error)[:120] or type(error).__name__}; copy it again") from error


def _is_unicode(codes: NDArray[Any]) -> bool:
    """Whether the codes are characters that can be written: none beyond the last, and no half of a surrogate pair."""
    return not ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any()


def _words(dtype: np.dtype[Any]) -> str:
    return dtype.byteorder.replace("=", "<").replace("|", "<") + "u4"
