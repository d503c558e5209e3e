"""Numeric arrays of a MATLAB v5 file, parsed in Python with every size checked. Reads one file.

`scipy.io.loadmat` is not used: its C parser trusts what a file declares, and some damaged files crash the process (scipy 1.17.1,
found by flipping bytes).
Format: MathWorks, "MAT-File Format", level 5: a 128-byte header, then elements of an 8-byte tag (type, bytes) and data.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files

HEADER_BYTES = 128
MAX_BYTES = 512 * 2**20
MAX_VALUES = 50_000_000
MATRIX, COMPRESSED = 14, 15
COMPLEX_FLAG = 0x0800
# storage type of an element -> numpy
STORAGE = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# array classes that are not plain numbers
OTHER_CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "opaque"}


class _Damaged(Exception):
    """What is wrong with the bytes; becomes DataError with the path."""


class _Element(NamedTuple):
    type: int
    data: memoryview


def read_numeric(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The real numeric arrays `names` of the file, in the types they are stored in.

    Raises:
        DataError: not a readable MATLAB v5 file, cut short, damaged, too large, or without these arrays.
    """
    try:
        with files.naming(path):
            found = _arrays(files.read(path, MAX_BYTES), names)
    except (_Damaged, struct.error, zlib.error, ValueError) as error:
        raise DataError(f"{path}: damaged or not a MATLAB v5 file: {error}; copy it again or save it with -v7") from error
    for name in names:
        if name not in found:
            raise DataError(f"{path}: variable '{name}' is missing (found: {', '.join(sorted(found)) or 'none'})")
        if isinstance(found[name], str):
            raise DataError(f"{path}: variable '{name}' is of MATLAB class '{found[name]}', expected real numbers")
    arrays = {name: np.asarray(found[name]) for name in names}
    # bytes become floats of eight: what fits packed may not fit then
    if (values := sum(array.size for array in arrays.values())) > MAX_VALUES:
        raise DataError(f"{path}: {values:,} values in {', '.join(names)}; allowed are {MAX_VALUES:,}: cut it into several files")
    return arrays


def _arrays(content: bytes, names: tuple[str, ...]) -> dict[str, NDArray[Any] | str]:
    """Variables of the file by name: the array, or the name of its class where it is not one of real numbers."""
    orders = {b"IM": "<", b"MI": ">"}
    if len(content) < HEADER_BYTES or not content.startswith(b"MATLAB 5.0") or content[126:128] not in orders:
        raise _Damaged(f"it begins with {content[:10]!r}")
    order = orders[content[126:128]]
    found: dict[str, NDArray[Any] | str] = {}
    room = MAX_BYTES
    for element in _elements(memoryview(content)[HEADER_BYTES:], order, aligned=False):
        inner = element
        if element.type == COMPRESSED:
            plain = _unpack(element.data, room)
            room -= len(plain)
            inner = next(_elements(memoryview(plain), order, aligned=False), element)
        if inner.type != MATRIX:
            raise _Damaged(f"an element of type {inner.type} where a variable belongs")
        name, value = _matrix(inner.data, order, names)
        found[name] = value
    return found


def _elements(data: memoryview, order: str, *, aligned: bool) -> Iterator[_Element]:
    """The elements that fill `data` exactly; inside a variable they are aligned to 8 bytes."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from(order + "II", data, position)
        begin = position + 8
        if kind >> 16:
            # small form: two bytes of size, two of type, data in the second half of the tag
            kind, size, begin = kind & 0xFFFF, kind >> 16, position + 4
            if size > 4:
                raise _Damaged(f"a small element of {size} bytes")
        end = begin + size
        if end > len(data):
            raise _Damaged(f"cut short: {len(data)} bytes where {end} are declared")
        yield _Element(kind, data[begin:end])
        position = max(end, position + 8)
        if aligned:
            position += -position % 8


def _unpack(packed: memoryview, room: int) -> bytes:
    unpacker = zlib.decompressobj()
    # a limit of 0 would be none
    plain = unpacker.decompress(packed, room + 1)
    if len(plain) > room:
        raise _Damaged(f"unpacks to more than {MAX_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise _Damaged("compressed data cut short")
    return plain


def _matrix(data: memoryview, order: str, names: tuple[str, ...]) -> tuple[str, NDArray[Any] | str]:
    """Name of a variable and, where it is one of `names`, its array; else the name of its class."""
    parts = _elements(data, order, aligned=True)
    try:
        flags, dimensions, title = [bytes(next(parts).data) for _ in range(3)]
        word = struct.unpack_from(order + "I", flags)[0]
        shape = tuple(int(d) for d in np.frombuffer(dimensions, order + "i4"))
        name = title.decode("ascii")
        kind = OTHER_CLASSES.get(word & 0xFF, "complex" if word & COMPLEX_FLAG else "")
        if kind or name not in names:
            return name, kind or "number"
        values = next(parts)
    except StopIteration:
        raise _Damaged("a variable without its parts") from None
    if values.type not in STORAGE:
        raise _Damaged(f"variable '{name}' is stored as type {values.type}")
    array = np.frombuffer(values.data, order + STORAGE[values.type])
    if len(shape) < 2 or min(shape) < 0 or math.prod(shape) != len(array):
        raise _Damaged(f"variable '{name}' declares the shape {shape} and holds {len(array)} values")
    return name, array.reshape(shape, order="F")
