"""Files made by hand to harm: claims, bombs, code, other files' names, and what is no file at all. Writes where it is told to."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, savemat

Content = bytes | Callable[[Path], None] | None
Case = tuple[str, Content]
MARKER = "touch executed ../executed ../../executed"
HUGE = (2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 10**18, 10**40, -1, 0)


def hostile(name: str, whole: bytes) -> list[Case]:
    """What may stand in the place of the file `name`, whose good content is `whole`."""
    kinds = {
        ".mat": _mat,
        ".npz": _npz,
        ".pkl": _pickle,
        ".csv": _csv,
        ".hea": _hea,
        ".dat": _dat,
        ".yaml": _yaml,
        ".edf": _edf,
        ".xml": _xml,
    }
    return [*_anything(name), *kinds[Path(name).suffix](name, whole)]


# what is no such file


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _sparse(size: int, head: bytes = b"") -> Callable[[Path], None]:
    """A file that says to be of this size and takes no room."""

    def make(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return make


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


def _anything(name: str) -> Iterator[Case]:
    yield "a folder", _folder
    yield "a FIFO", _fifo
    yield "a link to /dev/zero", _link("/dev/zero")
    yield "a link to a terminal", _link("/dev/tty")
    yield "a link to nothing", _link("nowhere")
    yield "a link to itself", _link(Path(name).name)
    yield "a link to the folder above", _link("..")
    yield "a link to text elsewhere", _link("/etc/passwd")
    yield "not there", None
    yield "empty", b""
    yield "one byte", b"\x00"
    yield "ELF", b"\x7fELF\x02\x01\x01" + bytes(600)
    yield "gzip", b"\x1f\x8b\x08\x00" + bytes(600)
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(600)
    yield "one letter", b"a" * 100_000
    yield "empty lines", b"\n" * 100_000
    yield "noise", np.random.default_rng(0).bytes(20_000)
    yield "3 GiB", _sparse(3 * 2**30)
    yield "500 GiB", _sparse(500 * 2**30)


# MATLAB


def _element(kind: int, data: bytes, size: int | None = None) -> bytes:
    return struct.pack("<II", kind, len(data) if size is None else size) + data + bytes(-len(data) % 8)


def _variable(name: bytes, shape: tuple[int, ...], data: bytes, mclass: int = 6, storage: int = 9, flags: int = 0) -> bytes:
    parts = _element(6, struct.pack("<II", mclass | flags, 0)) + _element(5, struct.pack(f"<{len(shape)}i", *shape)) + _element(1, name)
    return parts + _element(storage, data)


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


@functools.cache
def _deflated_zeros(size: int) -> bytes:
    """Zeros as deflate blocks that stand by themselves."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)


def _deflated(head: bytes, size: int) -> bytes:
    """A raw deflate stream of `head` and `size` zeros, made in no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    times, rest = divmod(size, 2**24)
    return packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + _deflated_zeros(2**24) * times + _deflated_zeros(rest) + b"\x03\x00"


def _summed(check: Callable[[bytes, int], int], head: bytes, size: int, start: int) -> int:
    """A checksum of `head` and `size` zeros."""
    value, block = check(head, start), bytes(2**20)
    for begin in range(0, size, len(block)):
        value = check(block[: size - begin], value)
    return value


class Later:
    """What is large, and made only where it is drawn."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make

    def __call__(self, path: Path) -> None:
        path.write_bytes(self._make())


def _compressed(inner: bytes) -> bytes:
    packed = zlib.compress(inner)
    return struct.pack("<II", 15, len(packed)) + packed


def _bomb(name: bytes, shape: tuple[int, int], storage: int, width: int) -> bytes:
    """A compressed variable of zeros."""
    size = shape[0] * shape[1] * width
    parts = _element(6, struct.pack("<II", 6, 0)) + _element(5, struct.pack("<2i", *shape)) + _element(1, name)
    inner = parts + struct.pack("<II", storage, size)
    head = struct.pack("<II", 14, len(inner) + size) + inner
    packed = b"\x78\x9c" + _deflated(head, size) + struct.pack(">I", _summed(zlib.adler32, head, size, 1))
    return struct.pack("<II", 15, len(packed)) + packed


def _changes(array: Any) -> Iterator[tuple[str, Any]]:
    """An array in other types and shapes, with other values."""
    array = np.asarray(array)
    yield "transposed", array.T
    yield "flat", array.ravel()
    yield "cube", array.reshape(*array.shape, 1, 1)
    yield "none", array[:0]
    yield "half", array[: len(array) // 2] if len(array) > 1 else array[:, : array.size // 2]
    yield "half across", array[..., : array.shape[-1] // 2] if array.ndim else array
    yield "twice", np.concatenate([array, array]) if array.ndim else array
    yield "one", np.ones((1, 1))
    yield "text", "text"
    yield "letters", np.full(array.shape, "x")
    yield "flags", np.ones(array.shape, bool)
    yield "bytes", np.ones(array.shape, np.uint8)
    if array.dtype.kind in "biuf" and array.size:
        wide = array.astype(np.float64)
        yield "complex", wide * 1j
        yield "big-endian", wide.astype(">f8")
        for value in (np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -1.0, 2.0**63, 0.5, 1e9):
            yield f"all {value:g}", np.full(array.shape, value)
            some = wide.copy()
            some.ravel()[:: max(1, array.size // 7)] = value
            yield f"some {value:g}", some
        yield "extremes", np.where(np.arange(array.size).reshape(array.shape) % 2, 1.7e308, -1.7e308)
        yield "tiny", wide * 5e-324
        yield "huge", wide * 1e300
        yield "whole", np.nan_to_num(wide).clip(-(2**62), 2**62).astype(np.int64)
        yield "single", wide.clip(-3e38, 3e38).astype(np.float32)


def _saved(content: dict[str, Any], compress: bool) -> bytes:
    file = io.BytesIO()
    savemat(file, content, do_compression=compress)
    return file.getvalue()


def _mat(_: str, whole: bytes) -> Iterator[Case]:
    good = {name: value for name, value in loadmat(io.BytesIO(whole)).items() if not name.startswith("__")}
    for name, array in good.items():
        yield f"without {name}", _saved({n: v for n, v in good.items() if n != name}, True)
        for number, (said, changed) in enumerate(_changes(array)):
            yield f"{name} {said}", _saved({**good, name: changed}, number % 2 == 0)
        yield f"{name} cell", _saved({**good, name: np.array([[1, "a"]], dtype=object)}, False)
        yield f"{name} struct", _saved({**good, name: {"a": {"b": array}}}, False)
        rest = _saved({n: v for n, v in good.items() if n != name}, False)
        key = name.encode()
        claims = {
            "2^62 values": (2**31 - 1, 2**31 - 1),
            "negative": (-1, -5),
            "no values of many": (0, 2**31 - 1),
            "many of none": (2**31 - 1, 0),
            "one dimension": (5,),
            "no dimension": (),
            "40 dimensions": (1,) * 40,
            "100,000 dimensions": (1,) * 100_000,
            "huge product": (65536, 65536, 65536, 65536),
        }
        for said, shape in claims.items():
            for data in (b"", bytes(8)):
                yield f"{name} declares {said}", rest + _element(14, _variable(key, shape, data))
        yield f"{name} of unknown storage", rest + _element(14, _variable(key, (1, 1), bytes(8), storage=99))
        yield f"{name} as text storage", rest + _element(14, _variable(key, (1, 8), b"abcdefgh", storage=16))
        yield f"{name} sparse", rest + _element(14, _variable(key, (1, 1), bytes(8), mclass=5))
        yield f"{name} complex", rest + _element(14, _variable(key, (1, 1), bytes(8), flags=0x0800))
        yield f"{name} size beyond the file", rest + _element(14, _variable(key, (1, 1), bytes(8)), 2**32 - 1)
        yield f"{name} size 0", rest + _element(14, b"", 0)
        yield f"{name} cut short", rest + _element(14, _variable(key, (1, 1), bytes(8))[:40])
        yield f"{name} compressed twice", rest + _compressed(_compressed(_element(14, _variable(key, (1, 1), bytes(8)))))
        yield f"{name} compressed nothing", rest + _compressed(b"")
        yield f"{name} a bomb of 600 MB", Later(lambda rest=rest, key=key: rest + _bomb(key, (75_000, 1000), 9, 8))
        yield f"{name} 400 MB of bytes", Later(lambda rest=rest, key=key: rest + _bomb(key, (400_000, 1000), 2, 1))
        yield f"{name} 400 MB of bytes in few rows", Later(lambda rest=rest, key=key: rest + _bomb(key, (5, 80_000_000), 2, 1))
        yield f"{name} 400 MB of bytes in three rows", Later(lambda rest=rest, key=key: rest + _bomb(key, (3, 133_000_000), 2, 1))
        yield f"{name} 400 MB in a column", Later(lambda rest=rest, key=key: rest + _bomb(key, (400_000_000, 1), 2, 1))
        yield f"{name} six bombs", Later(lambda rest=rest, key=key: rest + _bomb(key, (50_000, 1000), 9, 8) * 6)
        yield f"{name} again and again", rest + _element(14, _variable(key, (1, 1), bytes(8))) * 2000
    if {"ppgseg", "labels"} <= set(good):
        yield "400,000 segments", Later(lambda: HEAD + _bomb(b"ppgseg", (400_000, 1000), 2, 1) + _bomb(b"labels", (400_000, 1), 2, 1))
    yield "no variable", HEAD
    yield "a name that is no text", HEAD + _element(14, _variable(b"\xff\xfe" * 10, (1, 1), bytes(8)))
    yield "a long name", HEAD + _element(14, _variable(b"n" * 2**20, (1, 1), bytes(8)))
    yield "many variables", HEAD + b"".join(_element(14, _variable(b"v%d" % i, (1, 1), bytes(8))) for i in range(20_000))
    yield "empty elements", HEAD + bytes(8) * 100_000
    yield "MATLAB 4", struct.pack("<iiiii", 0, 2**31 - 1, 2**31 - 1, 0, 4) + b"sig\x00"
    yield "big-endian mark", whole[:126] + b"MI" + whole[128:]
    nested = b""
    for _n in range(3000):
        nested = _element(14, _element(6, struct.pack("<II", 1, 0)) + _element(5, struct.pack("<2i", 1, 1)) + _element(1, b"c") + nested)
    yield "deep cells", HEAD + nested


# numpy


def _array_file(head: str, values: bytes = b"") -> bytes:
    text = head.encode("latin-1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + values if len(text) < 65536 else text


def _archive(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _zeros_archive(name: str, declared: str, size: int, others: dict[str, bytes]) -> bytes:
    """An archive with an array of zeros of this many bytes, its first member."""
    head, title = _array_file(declared), name.encode()
    packed, crc, plain = _deflated(head, size), _summed(zlib.crc32, head, size, 0), len(head) + size
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(packed), plain, len(title), 0)
    entry = b"PK\x03\x04" + common + title + packed
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for other, content in others.items():
            file.writestr(other, content)
        place = file.start_dir
    rest = archive.getvalue()
    directory = b"PK\x01\x02" + struct.pack("<H", 20) + common + bytes(10) + struct.pack("<I", place) + title
    end = struct.pack("<HHHHIIH", 0, 0, len(others) + 1, len(others) + 1, len(rest) - place - 22 + len(directory), place + len(entry), 0)
    return rest[:place] + entry + rest[place:-22] + directory + b"PK\x05\x06" + end


DECLARED = "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }"
HEADERS = {
    "2^31 values": DECLARED % ("<f8", "False", "2147483648,"),
    "10^18 rows": DECLARED % ("<f8", "False", "999999999999999999, 800, 1"),
    "40 dimensions": DECLARED % ("<f8", "False", "1, " * 40),
    "0 of many": DECLARED % ("<f8", "False", "0, 999999999999999999, 999999999999999999"),
    "text of nothing": DECLARED % ("<U0", "False", "5,"),
    "bytes of nothing": DECLARED % ("|S0", "False", "1000000000,"),
    "bytes of nothing in rows": DECLARED % ("|S0", "False", "1000000000, 800, 1"),
    "an ambiguous number": DECLARED % ("<f8", "False", "1" * 64 + "x"),
    "many digits": DECLARED % ("<f8", "False", "9" * 30_000),
    "many numbers": DECLARED % ("<f8", "False", "1, " * 15_000),
    "fields": "{'descr': [('a', '<f8'), ('b', 'O')], 'fortran_order': False, 'shape': (1,), }",
    "code": "__import__('os').system('" + MARKER + "')",
    "code in the shape": "{'descr': '<f8', 'fortran_order': False, 'shape': (__import__('os').system('" + MARKER + "'),), }",
    "deep": "(" * 20_000,
    "a scalar": DECLARED % ("<f8", "False", ""),
    "objects": DECLARED % ("|O", "False", "3,"),
    "long text": DECLARED % ("<U99999", "False", "1000000,"),
    "columns first": DECLARED % ("<f8", "True", "2, 2"),
}


def _npz(_: str, whole: bytes) -> Iterator[Case]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with np.load(io.BytesIO(whole), allow_pickle=True) as loaded:
        good = dict(loaded)
    for name, array in good.items():
        member = f"{name}.npy"
        yield f"without {name}", _archive({n: v for n, v in members.items() if n != member})
        for number, (said, changed) in enumerate(_changes(array)):
            file = io.BytesIO()
            np.lib.format.write_array(file, np.asarray(changed), allow_pickle=True)
            content = {**members, member: file.getvalue()}
            yield f"{name} {said}", _archive(content, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)
        for said, head in HEADERS.items():
            for values in (b"", bytes(8)):
                yield f"{name} declares {said}", _archive({**members, member: _array_file(head, values)})
        for said, content in PICKLES.items():
            head = DECLARED % ("|O", "False", ", ".join(map(str, array.shape)) + ",")
            yield f"{name} pickled: {said}", _archive({**members, member: _array_file(head, content)})
        others = {n: v for n, v in members.items() if n != member}
        row = int(np.prod(array.shape[1:]))
        for size in (600_000_000, 150_000_000):
            shape = ", ".join(map(str, (size // row, *array.shape[1:]))) + ","
            head = DECLARED % ("|u1", "False", shape)
            yield f"{name} {size:,} bytes", Later(functools.partial(_zeros_archive, member, head, size // row * row, others))
        head = DECLARED % ("<f8", "False", "150000000,")
        yield f"{name} a bomb of 1.2 GB", Later(functools.partial(_zeros_archive, member, head, 1_200_000_000, others))
        head = DECLARED % ("|O", "False", "3,")
        yield f"{name} a pickle of 600 MB", Later(functools.partial(_zeros_archive, member, head, 600_000_000, others))
    if "signal" in good:
        yield "300,000 segments of zeros", Later(functools.partial(_many_segments, members))
    if "ppg" in good and "who" in good:
        yield "100,000 segments", Later(_short_segments)
    yield "no archive member", _archive({})
    yield "20,000 members", _archive({f"m{i}.npy": b"" for i in range(20_000)}, zipfile.ZIP_STORED)
    yield "members of other folders", _archive({f"../../{n}": v for n, v in members.items()})
    yield "absolute members", _archive({f"/tmp/{n}": v for n, v in members.items()})
    yield "not arrays", _archive(dict.fromkeys(members, b"hello"))
    yield "only a directory's end", b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**32 - 1, 0, 0)
    for said, word in (("encrypted", 0x01), ("patched", 0x20), ("strongly encrypted", 0x40)):
        bad = bytearray(whole)
        at = bad.rfind(b"PK\x01\x02")
        bad[at + 8] |= word
        yield said, bytes(bad)
    for said, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield said, _archive({n: v[:2000] for n, v in members.items()}, method) if method == zipfile.ZIP_BZIP2 else _lzma(members)
    yield "an unknown method", bytes(whole[:8] + b"\x63" + whole[9:])


def _lzma(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@functools.cache
def _text_rows(rows: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.tile(np.array([[0, 1]], np.uint8), (rows, 1)))
    return file.getvalue()


def _many_segments(members: dict[str, bytes]) -> bytes:
    """Labels and subjects of 300,000 segments whose signal is zeros."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros((300_000, 3), np.uint8))
    others = {**members, "rhythm.npy": _text_rows(300_000), "parameters.npy": file.getvalue()}
    others.pop("signal.npy")
    others.pop("qa_label.npy", None)
    return _zeros_archive("signal.npy", DECLARED % ("|i1", "False", "300000, 800, 1"), 240_000_000, others)


@functools.cache
def _short_segments() -> bytes:
    """Segments of little more than a window, each of which the filter needs a margin for."""
    file = io.BytesIO()
    rows = 100_000
    signal = np.tile(np.array([0, 1, 3, 1], np.uint8), (rows, 128))[:, :510]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in {"ppg": signal, "who": np.zeros(rows, np.uint8), "rhythm": np.zeros(rows, np.uint8)}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    return file.getvalue()


# pickles


class _Calls:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def _nested(levels: int, times: int) -> bytes:
    """Tuples in tuples, the same one several times: a short text for a tree of times ** levels leaves."""
    parts = [b"\x80\x02K\x01"]
    for level in range(levels):
        key = struct.pack("<I", level)
        parts.append(b"r" + key + b"0(" + (b"j" + key) * times + b"t")
    return b"".join(parts)


def _lists(levels: int) -> bytes:
    """Lists in lists, the same one twice."""
    parts = [b"\x80\x02(K\x01lr\x00\x00\x00\x00"]
    for level in range(1, levels):
        below, key = struct.pack("<I", level - 1), struct.pack("<I", level)
        parts.append(b"0(j" + below + b"j" + below + b"lr" + key)
    return b"".join(parts) + b"."


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
TYPED = b"tcnumpy\ndtype\n(V%b\ntRI00\n"
PICKLES: dict[str, bytes] = {
    "os.system": pickle.dumps(_Calls(os.system, (MARKER,))),
    "os.system by name": b"cos\nsystem\n(V" + MARKER.encode() + b"\ntR.",
    "posix.system, protocol 0": pickle.dumps(_Calls(os.system, (MARKER,)), 0),
    "subprocess": b"csubprocess\ncall\n((lp0\nVtouch\naVexecuted\natR.",
    "eval": pickle.dumps(_Calls(eval, (f"__import__('os').system('{MARKER}')",))),
    "exec": pickle.dumps(_Calls(exec, (f"import os; os.system('{MARKER}')",))),
    "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR(V" + MARKER.encode() + b"\ntR.",
    "numpy's way to os": b"cnumpy.core.multiarray\nos.system\n(V" + MARKER.encode() + b"\ntR.",
    "numpy's runstring": b"cnumpy.testing._private.utils\nrunstring\n(V1\n}tR.",
    "numpy.load": pickle.dumps(_Calls(np.load, ("/etc/passwd",))),
    "open": pickle.dumps(_Calls(open, ("/etc/passwd",))),
    "an instance": b"(ios\nsystem\n.",
    "an object": b"(cos\nsystem\nV" + MARKER.encode() + b"\no.",
    "new object": b"\x80\x02cbuiltins\nobject\n)\x81.",
    "new object of an array": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "persistent": b"Pabc\n.",
    "persistent object": b"Vabc\nQ.",
    "extension": b"\x82\x01.",
    "next buffer": b"\x80\x05\x97.",
    "name of no text": b"\x80\x04" + _nested(40, 2)[2:] + b"Vx\n\x93.",
    "name that is an array": b"\x80\x04]Vx\n\x93.",
    "tree as text": _nested(60, 2) + b".",
    "tree in a list": b"\x80\x02](" + _nested(60, 2)[2:] + b"K\x01e.",
    "deep lists in a list": b"\x80\x02](" + b"]" * 1000 + b"a" * 999 + b"e.",
    "a tree of lists": _lists(28),
    "a higher tree of lists": _lists(60),
    "a long key": b"}\x8b" + struct.pack("<i", 3000) + b"\x7f" * 3000 + b"K\x01s.",
    "wide tree": _nested(8, 60) + b".",
    "tree as key": b"\x80\x02}" + _nested(60, 2)[2:] + b"K\x01s.",
    "tree in a set": b"\x80\x04\x8f(" + _nested(60, 2)[2:] + b"\x90.",
    "tree in a frozen set": b"\x80\x04(" + _nested(60, 2)[2:] + b"\x91.",
    "tree as type": b"cnumpy\ndtype\n(" + _nested(60, 2)[2:] + b"tR.",
    "tree as encoding": b"c_codecs\nencode\n(Vx\n" + _nested(60, 2)[2:] + b"tR.",
    "tree as content": b"c_codecs\nencode\n(" + _nested(60, 2)[2:] + b"Vlatin1\ntR.",
    "deep tuple": b"\x80\x02)" + b"\x85" * 500_000 + b".",
    "deep tuple as key": b"\x80\x02})" + b"\x85" * 500_000 + b"K\x01s.",
    "deep list": b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".",
    "itself": b"\x80\x02]q\x00h\x00a.",
    "itself in a dict": b"\x80\x02}q\x00K\x01h\x00s.",
    "empty sets": b"\x80\x04" + b"\x8f" * 3_000_000 + b".",
    "empty dicts": b"\x80\x04" + b"}" * 3_000_000 + b".",
    "sets of one list": b"\x80\x02]r\x00\x00\x00\x00("
    + b"".join(b"J" + struct.pack("<i", i) for i in range(100_000))
    + b"e0"
    + b"c__builtin__\nset\nr\x01\x00\x00\x00"
    + b"j\x01\x00\x00\x00j\x00\x00\x00\x00\x85R" * 2000
    + b".",
    "copies of a text": b"c_codecs\nencode\nr\x01\x00\x00\x000V"
    + b"x" * 1_000_000
    + b"\nr\x00\x00\x00\x000"
    + b"j\x01\x00\x00\x00j\x00\x00\x00\x00Vlatin1\n\x86R" * 5000
    + b".",
    "2^40 values": ARRAY + b"(I1\n(I1099511627776\n" + TYPED % b"f8" + b"Vx\ntb.",
    "a negative shape": ARRAY + b"(I1\n(I-1\nI-1\n" + TYPED % b"b1" + b"Vx\ntb.",
    "a huge empty array": ARRAY + b"(I1\n(I0\nI9223372036854775807\nI99\n" + TYPED % b"f8" + b"V\ntb.",
    "text of nothing": ARRAY + b"(I1\n(I1000000000\n" + TYPED % b"U0" + b"V\ntb.",
    "40 dimensions": ARRAY + b"(I1\n(" + b"I1\n" * 40 + TYPED % b"f8" + b"V12345678\ntb.",
    "pointers": ARRAY + b"(I1\n(I3\n" + TYPED % b"O8" + b"V" + b"A" * 24 + b"\ntb.",
    "a long number": b"\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b".",
    "a shape of long numbers": ARRAY
    + b"(I1\n("
    + (b"\x8b" + struct.pack("<i", 3_000_000) + b"\x7f" * 3_000_000) * 6
    + TYPED % b"f8"
    + b"Vx\ntb.",
    "many digits": b"I" + b"9" * 100_000 + b"\n.",
    "many digits, long": b"L" + b"9" * 100_000 + b"L\n.",
    "a long memo": b"]r\xff\xff\xff\x7f0j\xff\xff\xff\x7e.",
    "text that is said to be long": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "bytes that are said to be long": b"\x8e\xff\xff\xff\xff\x00\x00\x00\x00abc.",
    "bytes of 2 GiB said": b"\x80\x04\x8e\x00\x00\x00\x80\x00\x00\x00\x00abc.",
    "odd escapes": b"S'\\x'\n.",
    "half of a surrogate": b"V\\ud800\n.",
    "unhashable": b"}]Ns.",
    "no end": b"]",
    "no stack": b".",
    "below the mark": b"](a.",
    "marks": b"(" * 1_000_000 + b".",
    "a number": b"K\x01.",
    "none": b"N.",
    "a text": b"Vx\n.",
    "a list": b"].",
    "a dict": b"}.",
    "a timestamp of an array": b"cpandas._libs.tslibs.timestamps\nTimestamp\n(" + _nested(60, 2)[2:] + b"tR.",
    "type twice": b"cnumpy\ndtype\n(Vf8\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb(I3\nV<\nNNNI-1\nI-1\nI0\ntb.",
    "protocol 99": b"\x80\x63N.",
}


def _pickle(_: str, whole: bytes) -> Iterator[Case]:
    yield from PICKLES.items()
    good = pickle.loads(whole, encoding="latin1")
    yield "protocol 0", pickle.dumps(good, 0)
    yield "with code behind it", whole + PICKLES["os.system"]
    yield "with code before it", whole[:2] + PICKLES["os.system"][2:-1] + b"0" + whole[2:]
    # the same in the place of each value, however deep
    for place in _places(good):
        name = ".".join(map(str, place))
        yield f"without {name}", pickle.dumps(_replaced(good, place, None, drop=True), 2)
        value = functools.reduce(lambda inner, key: inner[key], place, good)
        if isinstance(value, np.ndarray):
            for number, (said, changed) in enumerate(_changes(value)):
                yield f"{name} {said}", pickle.dumps(_replaced(good, place, changed), 2 + number % 3)
        for said, other in (
            ("none", None),
            ("a number", 1e308),
            ("a text", "x" * 1000),
            ("a list", [1] * 50),
            ("a dict", {}),
            ("objects", OBJECTS),
        ):
            yield f"{name} is {said}", pickle.dumps(_replaced(good, place, other), 2)
        for said in (
            "tree as text",
            "tree in a list",
            "a tree of lists",
            "a higher tree of lists",
            "deep lists in a list",
            "deep tuple",
            "itself",
            "os.system",
            "a long number",
            "half of a surrogate",
        ):
            yield f"{name} is {said}", _spliced(good, place, PICKLES[said])


OBJECTS = np.array([None, "x", [1, 2], 3.5], dtype=object)
TOKEN = b"\x8c\x0cTHE-TOKEN-XY"


def _spliced(good: Any, place: tuple[Any, ...], content: bytes) -> bytes:
    """The pickle with another's opcodes in the place of one value."""
    whole = pickle.dumps(_replaced(good, place, "THE-TOKEN-XY"), 4).replace(
        TOKEN, content.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04")[:-1]
    )
    # without frames, whose lengths are others now
    at = whole.find(b"\x95")
    return whole[:at] + whole[at + 9 :] if 0 <= at < 4 else whole


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*at, key)
            yield from _places(inner, (*at, key))


def _replaced(value: Any, place: tuple[Any, ...], new: Any, drop: bool = False) -> Any:
    if not place:
        return new
    if len(place) == 1 and drop:
        return {k: v for k, v in value.items() if k != place[0]}
    return {k: _replaced(v, place[1:], new, drop) if k == place[0] else v for k, v in value.items()}


# text


def _csv(_: str, whole: bytes) -> Iterator[Case]:
    head, rows = whole.split(b"\n", 1)
    names, lines = head.split(b","), rows.split(b"\n")
    for column in range(len(names)):
        for word in (
            b"",
            b"nan",
            b"inf",
            b"-1e308",
            b"1e999",
            b"x",
            b"0",
            b"9" * 400,
            b"1_0",
            b"\xff",
            b'"',
            b"\x00",
            b"True",
            b"0x10",
            b" 1 ",
        ):

            def changed(line: bytes, column: int = column, word: bytes = word) -> bytes:
                return b",".join(word if i == column else cell for i, cell in enumerate(line.split(b",")))

            yield f"column {column} all {word[:10]!r}", b"\n".join([head, *(changed(line) if line else line for line in lines)])
            yield f"column {column} once {word[:10]!r}", b"\n".join([head, *lines[:20], changed(lines[20]), *lines[21:]])
        yield (
            f"without column {column}",
            b"\n".join(b",".join(c for i, c in enumerate(line.split(b",")) if i != column) for line in [head, *lines]),
        )
        yield f"column {column} twice", head + b"," + names[column] + b"\n" + rows
    yield "header only", head
    yield "one row", b"\n".join([head, lines[0]])
    yield "no header", rows
    yield "rows backwards", b"\n".join([head, *reversed([line for line in lines if line]), b""])
    yield "a row twice", b"\n".join([head, lines[0], *lines])
    yield "a long line", head + b"\n" + b"1" * 3_000_000
    yield "a wide header", b",".join(b"c%d" % i for i in range(200_000)) + b"\n" + rows
    yield "a wide row", head + b"\n" + b"1," * 500_000
    yield "an open quote", head + b'\n"' + rows
    yield "a huge field", head + b'\n"' + b"x\n" * 300_000 + b'"\n' + rows
    yield "nul", head + b"\n\x00" + rows
    yield "UTF-16", whole.decode().encode("utf-16")
    yield "UTF-32", whole.decode().encode("utf-32")
    yield "a mark", b"\xef\xbb\xbf" + whole
    yield "old line ends", whole.replace(b"\n", b"\r")
    yield "mixed line ends", whole.replace(b"\n", b"\r\n", 500)
    yield "semicolons", whole.replace(b",", b";")
    yield "commas", head + b"\n" + b"," * 900_000
    yield "quotes", head + b"\n" + b'""' * 400_000
    yield "a million words", head + b"\n" + b"\n".join(b",".join([b"1"] * (len(names) - 1) + [b"w%d" % i]) for i in range(20_000))
    yield "few long words", head + b"\n" + b"\n".join(b",".join([b"1"] * (len(names) - 1) + [b"w" * 1000 + b"%d" % i]) for i in range(2000))


def _hea(name: str, whole: bytes) -> Iterator[Case]:
    stem = Path(name).stem
    lines = whole.decode().splitlines()
    for place in (
        "../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "-",
        ".",
        "..",
        "~",
        "~root",
        "a\\..\\b",
        "file:///etc/passwd",
        "|touch executed",
        "$(touch executed)",
        stem,
        f"{stem}.hea",
        "x" * 300,
        "con",
        "%2e%2e%2fpasswd",
        "nothing.dat",
        "./" + stem + ".dat",
        "a\x00b",
        "\u202e.dat",
    ):
        yield f"names {place[:20]!r}", whole.replace(f"{stem}.dat".encode(), place.encode())
    for field, number in [
        (f, n) for f in range(1, 4) for n in (*HUGE, "nan", "1e999", "1e-999", "0.001", "125/1", "125/9999(5)", "1" * 30_000 + "x")
    ]:
        words = lines[0].split()
        words[field] = str(number)
        yield f"word {field} of the record {str(number)[:20]}", "\n".join([" ".join(words), *lines[1:]]).encode()
    for field, number in [
        (f, n)
        for f in range(1, 8)
        for n in (
            *HUGE,
            "nan",
            "1e999",
            "1e-999",
            "16x2",
            "16:5",
            "16+99",
            "16+999999999",
            "100(99999999999)/NU",
            "1" * 30_000 + "x",
            "1" * 200 + "x",
        )
    ]:
        words = lines[2].split()
        words[field] = str(number)
        yield f"word {field} of the PPG {str(number)[:20]}", "\n".join([*lines[:2], " ".join(words), *lines[3:]]).encode()
    yield "segments", whole.replace(f"{stem} 2".encode(), f"{stem}/1000000 2".encode())
    yield "signals without lines", f"{stem} 64 125 100\n".encode()
    yield "no signals", f"{stem} 0 125 100\n".encode()
    yield "signals again and again", "\n".join([lines[0].replace(" 2 ", " 64 "), *[lines[2]] * 64]).encode()
    yield "signals beyond counting", "\n".join([lines[0].replace(" 2 ", " 9999 "), *[lines[2]] * 9999]).encode()
    yield "no name", whole.replace(b"PPG", b"")
    yield "two PPG", whole.replace(b"ECG", b"PPG")
    yield "rate of another kind", whole.replace(b" 125 ", b" 125.003125 ")
    yield "rate that cannot be resampled", whole.replace(b" 125 ", b" 124.9971234 ")
    yield "a slow rate", whole.replace(b" 125 ", b" 20 ")
    yield "a fast rate", whole.replace(b" 125 ", b" 20000 ")
    yield "a header of 10 MB", whole + b"#" * 10_000_000
    yield "digits", b"1" * 60_000
    yield "digits of a gain", (lines[0] + "\n" + lines[1] + "\n" + f"{stem}.dat 16 " + "1" * 60_000 + "x").encode()
    yield "digits of a rate", (f"{stem} 2 " + "1" * 60_000 + "x").encode()
    yield "blanks", (f"{stem} 2" + " " * 60_000 + "x").encode()
    yield "nul", b"\x00" * 500
    yield "UTF-16", whole.decode().encode("utf-16")


def _dat(_: str, whole: bytes) -> Iterator[Case]:
    for size in (0, 1, 2, 3, 4, len(whole) - 1, len(whole) + 1, len(whole) + 2, len(whole) * 2, 2**20 - 1, 500 * 2**20, 520 * 2**20):
        yield f"{size:,} bytes", _sparse(size, whole[: min(size, len(whole))])
    for value in (0x00, 0x80, 0xFF, 0x7F):
        yield f"all {value:#x}", bytes([value]) * len(whole)
    yield "missing samples", b"\x00\x80" * (len(whole) // 2)
    yield "the extremes", b"\xff\x7f\x00\x80" * (len(whole) // 4)
    yield "backwards", whole[::-1]


def _yaml(_: str, whole: bytes) -> Iterator[Case]:
    text = whole.decode()
    for place in (
        "../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "../a.csv",
        "./a.csv",
        "..",
        ".csv",
        "a\\u0000.csv",
        "sub/a.csv",
        "~/a.csv",
        "dataset.yaml",
        "a.CSV",
        "x" * 300 + ".csv",
        "/dev/zero.csv",
        "\\ud800.csv",
    ):
        yield f"names {place[:20]!r}", text.replace("a.csv", f'"{place}"').encode()
    laughs = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])
    yield "aliases", (laughs + "\n" + text).encode()
    yield "a merge", (text + "more: &m {a: 1}\nthen:\n  <<: *m\n").encode()
    yield "an alias to itself", (text + "more: &m [*m]\n").encode()
    yield "an anchor", text.replace("name: made", "name: &n made").encode()
    for said, word in (("flow", "["), ("mappings", "{a: "), ("sequences", "- "), ("keys", "? "), ("mixed", "[{a: ")):
        yield f"deep {said}", (word * 5000).encode()
        yield f"deeper {said}", (text + "more: " + word * 200_000).encode()
    for value in (
        "1:1" + ":1" * 300_000,
        "1:1" + ":59" * 300_000 + ".5",
        "1" * 500_000,
        "0x" + "f" * 500_000,
        "0b" + "1" * 900_000,
        "0" + "7" * 500_000,
        "1e999",
        "-.inf",
        ".nan",
        "1_0" * 200_000,
        "1.5" + "0" * 500_000,
        "!!float 'x'",
        "!!int 'x'",
        "!!timestamp 'x'",
        "2001-99-99",
        "2001-12-14t21:59:43.10-99:99",
        "!!binary 'x'",
        "!!set {a}",
        "!!omap [a]",
        "!!python/object/apply:os.system ['" + MARKER + "']",
        "!!python/name:os.system",
        "!!bool x",
        "yes",
        "~",
        "!x y",
        "0o17",
        "[50]",
        "{a: 50}",
        "'50'",
    ):
        for key, old in (("rate_hz", "50"), ("window_s", "10"), ("name", "made"), ("channels", "[ppg]")):
            yield f"{key} {value[:24]}", text.replace(f"{key}: {old}", f"{key}: {value}").encode()
    yield "code", f"!!python/object/apply:os.system ['{MARKER}']".encode()
    yield "code inside", (text + "more: !!python/object/apply:subprocess.call [[touch, executed]]\n").encode()
    yield "other tags", ("%TAG ! tag:yaml.org,2002:python/object/apply:\n---\n!os.system ['" + MARKER + "']").encode()
    yield "two documents", (text + "---\n" + text).encode()
    yield "keys twice", (text + text).encode()
    yield "a key of a list", (text + "? [a, b]\n: c\n").encode()
    yield "a key of a number", (text + "1: 2\n").encode()
    yield "a list", b"- a\n- b\n"
    yield "a text", b"hello"
    yield "a null", b"~"
    yield "a tab", text.replace("  -", "\t-").encode()
    yield "UTF-16", text.encode("utf-16")
    yield "not UTF-8", text.replace("made", "m\xe4de").encode("latin-1")
    yield "a control character", text.replace("made", "m\x01de").encode()
    yield "escapes", text.replace("made", '"\\e[2J\\x00\\uD800"').encode()
    yield "many files", (text + "".join(f"  - {{file: f{i}.csv, subject: s, label: A}}\n" for i in range(18_000))).encode()
    yield "a file many times", (text + "  - {file: a.csv, subject: s, label: A}\n" * 5000).encode()
    yield "many labels", text.replace("noise: null", ", ".join(f"n{i}: null" for i in range(900))).encode()
    yield "comments", (text + "# x\n" * 200_000).encode()
    yield "blanks", (text + " " * 900_000).encode()
    yield "dashes", (text + "-\n" * 300_000).encode()
    yield "quotes", (text + "more: '" + "''" * 400_000 + "'").encode()
    yield "an open quote", (text + "more: '" + "x\n" * 400_000).encode()
    yield "a folded text", (text + "more: >\n" + "  x\n" * 200_000).encode()
    yield "escaped text", (text + 'more: "' + "\\x41" * 200_000 + '"').encode()
    yield "a long key", (text + "k" * 900_000 + ": 1\n").encode()
    yield "commas", (text + "more: [" + "," * 300_000 + "]").encode()
    yield "empty values", (text + "more: [" + "a," * 300_000 + "]").encode()
    yield "many keys", (text + "".join(f"k{i}: 1\n" for i in range(90_000))).encode()
    yield "tags", (text + "more: [" + "!a b, " * 100_000 + "]").encode()
    yield "anchors", (text + "more: [" + "&a b, " * 100_000 + "]").encode()
    yield "as long as allowed", (text + "# " + "x" * (2**20 - len(text) - 3)).encode()
    for key in ("channels", "rate_hz", "files", "labels", "name"):
        yield f"without {key}", "\n".join(line for line in text.splitlines() if not line.startswith(key)).encode()
    for rate in (20, 20.000001, 20.05, 19999, 33.3333333, 50.123, 20000, 1e-9, -50, 0):
        yield f"rate {rate}", text.replace("rate_hz: 50", f"rate_hz: {rate}").encode()
    for window in (1, 0.001, 600, 599.99, 1e9, 3, 10.005):
        yield f"window {window}", text.replace("window_s: 10", f"window_s: {window}").encode()


# EDF and XML


def _edf(_: str, whole: bytes) -> Iterator[Case]:
    signals = int(whole[252:256])
    size = 256 * (signals + 1)
    fields = {
        "version": (0, 8),
        "header bytes": (184, 8),
        "reserved": (192, 44),
        "records": (236, 8),
        "record seconds": (244, 8),
        "signals": (252, 4),
    }
    fields |= {"patient": (8, 80), "recording": (88, 80), "date": (168, 8), "time": (176, 8)}
    begin = 256
    for title, width in (
        ("label", 16),
        ("transducer", 80),
        ("unit", 8),
        ("physical low", 8),
        ("physical high", 8),
        ("digital low", 8),
        ("digital high", 8),
        ("filter", 80),
        ("samples", 8),
        ("spare", 32),
    ):
        for signal in range(signals):
            fields[f"{title} of {signal}"] = (begin + signal * width, width)
        begin += signals * width
    words = (
        "",
        "0",
        "-1",
        "1",
        "-0",
        "9999",
        "99999999",
        "-9999999",
        "1e9",
        "1e308",
        "1e-308",
        "nan",
        "inf",
        "0x10",
        "1.5",
        "x",
        "1_0",
        "\x00",
        "EDF+C",
        "EDF+D",
        "EDF Annotations",
        "ECG",
        "99.99.99",
        "\xff\xff",
        "+5",
        "1,5",
        "\x1b[2J",
        "0.000001",
    )
    for title, (at, width) in fields.items():
        for word in words:
            content = word.encode("latin-1")[:width].ljust(width)
            yield f"{title} {word!r}", whole[:at] + content + whole[at + width :]
    yield "header only", whole[:size]
    yield "half a record", whole[: size + 100]
    yield "256 bytes", whole[:256]
    yield "9,999 signals", whole[:252] + b"9999" + whole[256:] + bytes(2**20)
    yield "9,999 signals described", whole[:184] + b"2560000 " + whole[192:252] + b"9999" + whole[256:512] * 10_000
    yield "all 0xff", whole[:size] + b"\xff" * (len(whole) - size)
    yield "all 0", whole[:size] + bytes(len(whole) - size)
    yield "as many records as there are", whole[:236] + b"-1      " + whole[244:]
    yield "two in one", whole + whole
    yield "500 MB of records", _sparse(500 * 2**20, whole)
    yield "500 MB of records said", _sparse(500 * 2**20, whole[:236] + b"-1      " + whole[244:])
    yield "BDF", b"\xffBIOSEMI" + whole[8:]
    yield "header of blanks", b" " * size + whole[size:]
    yield "header of nul", bytes(size) + whole[size:]


def _xml(_: str, whole: bytes) -> Iterator[Case]:
    text = whole.decode("utf-8")
    head, body = text.split("?>", 1) if "?>" in text else ("", text)
    head = head + "?>" if head else ""
    root = body.strip().lstrip("<").split(">", 1)[0].split()[0]
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    declared = {
        "laughs": f'<!ENTITY a0 "ha">{laughs}',
        "a quadratic one": f'<!ENTITY a11 "{"x" * 200_000}">',
        "an external file": '<!ENTITY a11 SYSTEM "file:///etc/passwd">',
        "a device": '<!ENTITY a11 SYSTEM "file:///dev/zero">',
        "the network": '<!ENTITY a11 SYSTEM "http://127.0.0.1:9/x">',
        "parameters": '<!ENTITY % p SYSTEM "file:///etc/passwd"> %p; <!ENTITY a11 "x">',
        "itself": '<!ENTITY a11 "&a11;">',
        "nothing": "",
        "default attributes": f'<!ATTLIST {root} a CDATA "x"><!ENTITY a11 "0">',
    }
    for said, entities in declared.items():
        content = body.replace("</", "&a11;</", 5 if said != "a quadratic one" else 500)
        yield f"entities: {said}", f"{head}<!DOCTYPE {root} [{entities}]>{content}".encode()
        yield f"declared: {said}", f"{head}<!DOCTYPE {root} [{entities}]>{body}".encode()
    yield "an external DTD", f'{head}<!DOCTYPE {root} SYSTEM "file:///etc/passwd">{body}'.encode()
    yield "a DTD of the network", f'{head}<!DOCTYPE {root} PUBLIC "-//x" "http://127.0.0.1:9/x.dtd">{body}'.encode()
    for said, inside in (
        ("deep", "<a>" * 200_000),
        ("deep and closed", "<a>" * 100_000 + "</a>" * 100_000),
        ("comments", "<!-- x -->" * 100_000),
        ("instructions", "<?x y?>" * 100_000),
        ("CDATA", "<![CDATA[x]]>" * 100_000),
        ("an include", '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/>'),
        ("attributes", "<a " + " ".join(f'b{i}="x"' for i in range(50_000)) + "/>"),
        ("a long attribute", f'<a b="{"x" * 5_000_000}"/>'),
        ("a long name", f"<{'a' * 1_000_000}/>"),
        ("name spaces", "<a " + " ".join(f'xmlns:n{i}="u{i}"' for i in range(20_000)) + "/>"),
        ("a long text", "<a>" + "x" * 5_000_000 + "</a>"),
        ("references", "&#65;" * 300_000),
        ("a bad reference", "&#0;"),
        ("a control character", "\x01"),
    ):
        at = body.find(">") + 1
        yield f"{said} inside", (head + body[:at] + inside + body[at:]).encode()
    yield "nothing but the root", f"{head}<{root}/>".encode()
    yield "another root", f"{head}<other/>".encode()
    yield "not closed", text[: len(text) // 2].encode()
    yield "twice", (text + body).encode()
    yield "UTF-16", (head.replace("UTF-8", "UTF-16") + body).encode("utf-16")
    yield "said to be UTF-7", (head.replace("UTF-8", "UTF-7") + body).encode()
    yield "said to be unknown", b'<?xml version="1.0" encoding="x-none"?>' + body.encode()
    yield "said to be IDNA", b'<?xml version="1.0" encoding="idna"?>' + body.encode()
    yield "said to be zlib", b'<?xml version="1.0" encoding="zlib"?>' + body.encode()
    yield "XML 1.1", b'<?xml version="1.1"?>' + body.encode()
    yield "not UTF-8", text.replace(root, root, 1).encode() + b"\xff\xfe"
    for old in (">0<", ">1<", ">2<", ">30<", ">30.0<", "Wake|0", ">0.0<"):
        for new in (">-1<", ">9<", "><", ">1e999<", ">nan<", ">" + "9" * 5000 + "<", ">x<", ">1.5<", "|", ">\u0661<", "> 1 <"):
            if old in text:
                yield f"{old} is {new[:12]}", text.replace(old, new).encode()
                yield f"one {old} is {new[:12]}", text.replace(old, new, 1).encode()
    yield "many stages", text.replace("</SleepStages>", "<SleepStage>0</SleepStage>" * 200_000 + "</SleepStages>").encode()
    event = text[text.find("<ScoredEvent>") : text.find("</ScoredEvent>") + len("</ScoredEvent>")] if "<ScoredEvent>" in text else ""
    yield "many events", text.replace("</ScoredEvents>", event * 50_000 + "</ScoredEvents>").encode()
