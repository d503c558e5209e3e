"""Random damage to the bytes of a file, and inside the compressed parts of it. No files."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Bytes = bytes
WORDS = (
    b"-1",
    b"1e999",
    b"nan",
    b"inf",
    b"null",
    b"{",
    b"[",
    b"(",
    b"0",
    b"9" * 20,
    b"1" * 60,
    b"-" * 40,
    b"\x00",
    b"\xff",
    b"../",
    b",",
    b"*a",
    b"&a",
)
WORDS += (
    b":",
    b"\n",
    b"\r",
    b"\t",
    b" " * 30,
    b"2001-99-99",
    b"/dev/zero",
    b"../../etc/passwd",
    b"%s%n",
    b"<!DOCTYPE a>",
    b"&amp;",
    b"</",
    b">",
    b"'",
)
WORDS += (
    b'"',
    b"True",
    b"0x7fffffff",
    b"1:1:1",
    b"!!python/object:os.system",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"1_000",
    b"1e-320",
)
WHOLE_NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    2**15 - 1,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    10**18,
    10**40,
)
FLOATS = (0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -float("inf"), 1e18, 2**31 + 0.5)
DIGITS = re.compile(rb"-?\d+(?:\.\d+)?")
MAX_GROWN = 2**22


def mutated(name: str, whole: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """What is done to a file, and the file then; `others` are the other files of its folder."""
    suffix = Path(name).suffix
    inside = {".npz": _in_archive, ".mat": _in_variable}.get(suffix)
    if inside is not None and rng.random() < 0.6:
        return inside(whole, others, rng)
    return _damaged(whole, others, rng)


def _damaged(whole: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """One to four kinds of damage, one after the other."""
    said, bad = [], whole
    for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 5))):
        kind = KINDS[int(rng.integers(len(KINDS)))]
        bad = kind(bad, others, rng)[:MAX_GROWN]
        said.append(kind.__name__.strip("_"))
    return ", ".join(said), bad


def _at(content: bytes, rng: np.random.Generator) -> int:
    """A place; often near the beginning or the end, where most of a format's structure is."""
    if not content:
        return 0
    draw = rng.random()
    if draw < 0.4:
        return int(rng.integers(min(len(content), 400)))
    if draw < 0.55:
        return len(content) - 1 - int(rng.integers(min(len(content), 300)))
    return int(rng.integers(len(content)))


def _cut(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    return content[: _at(content, rng)]


def _flip(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    bad = bytearray(content)
    for _n in range(int(rng.integers(1, 9)) if bad else 0):
        bad[_at(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(bad)


def _overwrite(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    """A byte, word, long word or float with an extreme value."""
    bad, at = bytearray(content), _at(content, rng)
    order = "<" if rng.random() < 0.8 else ">"
    if rng.random() < 0.3:
        value = FLOATS[int(rng.integers(len(FLOATS)))]
        with np.errstate(over="ignore"):
            word = np.array(value).astype(order + ("f8" if rng.random() < 0.7 else "f4")).tobytes()
    else:
        width = int(rng.choice([1, 2, 4, 8]))
        number = WHOLE_NUMBERS[int(rng.integers(len(WHOLE_NUMBERS)))] % 2 ** (8 * width)
        word = number.to_bytes(width, "little" if order == "<" else "big")
    at = at // 8 * 8 if rng.random() < 0.5 else at
    bad[at : at + len(word)] = word
    return bytes(bad)


def _insert_word(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    at = _at(content, rng)
    return content[:at] + WORDS[int(rng.integers(len(WORDS)))] + content[at + int(rng.integers(4)) :]


def _number(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    """A number that is written out, by another one."""
    found = list(DIGITS.finditer(content[:20_000]))
    if not found:
        return _overwrite(content, _, rng)
    place = found[int(rng.integers(len(found)))]
    new = str(WHOLE_NUMBERS[int(rng.integers(len(WHOLE_NUMBERS)))] if rng.random() < 0.6 else FLOATS[int(rng.integers(len(FLOATS)))])
    # fields of a fixed width stay where they are
    text = new.encode().ljust(place.end() - place.start()) if rng.random() < 0.5 else new.encode()
    return content[: place.start()] + text + content[place.end() :]


def _span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    begin = _at(content, rng)
    return begin, begin + 1 + int(rng.integers(min(4096, len(content) + 1)) if rng.random() < 0.5 else rng.integers(16))


def _delete(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    begin, end = _span(content, rng)
    return content[:begin] + content[end:]


def _duplicate(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    begin, end = _span(content, rng)
    times = 1 if rng.random() < 0.8 else int(rng.integers(2, 300))
    return content[:end] + content[begin:end] * times + content[end:]


def _insert_noise(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    at = _at(content, rng)
    return content[:at] + rng.bytes(int(rng.integers(1, 64))) + content[at:]


def _swap(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    """Two parts of one length change places."""
    length = int(rng.integers(1, 64))
    one, two = sorted((_at(content, rng), _at(content, rng)))
    if one + length > two:
        return content[::-1]
    return content[:one] + content[two : two + length] + content[one + length : two] + content[one : one + length] + content[two + length :]


def _blank(content: bytes, _: list[bytes], rng: np.random.Generator) -> bytes:
    begin, end = _span(content, rng)
    end = min(end, len(content))
    return content[:begin] + bytes([int(rng.choice([0, 255, 32, 48]))]) * (end - begin) + content[end:]


def _append(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    return content + (rng.bytes(int(rng.integers(1, 5000))) if rng.random() < 0.5 or not others else others[int(rng.integers(len(others)))])


def _other(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Another file of the folder under this name, or its beginning before the rest of this one."""
    if not others:
        return b""
    other = others[int(rng.integers(len(others)))]
    return other if rng.random() < 0.5 else other[: _at(other, rng)] + content[_at(content, rng) :]


KINDS: tuple[Callable[[Bytes, list[Bytes], np.random.Generator], Bytes], ...] = (
    *(_cut, _flip, _flip, _overwrite, _overwrite, _overwrite, _insert_word, _insert_word, _number, _number),
    *(_delete, _duplicate, _insert_noise, _swap, _blank, _append, _other),
)


def _in_archive(whole: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """A member of the zip archive is damaged and packed again, so that the archive itself is sound."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = list(members)[int(rng.integers(len(members)))]
    said, members[name] = _damaged(members[name], [m for n, m in members.items() if n != name], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED, compresslevel=1) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return f"in {name}: {said}", packed.getvalue()


def _in_variable(whole: bytes, others: list[bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """A compressed variable of a MATLAB file is damaged and packed again; of a file without any, its bytes are."""
    parts, position = [], 128
    while position + 8 <= len(whole):
        kind, size = struct.unpack_from("<II", whole, position)
        parts.append((kind, whole[position + 8 : position + 8 + size]))
        position += 8 + size
    packed = [i for i, (kind, _) in enumerate(parts) if kind == 15]
    if not packed:
        return _damaged(whole, others, rng)
    chosen = packed[int(rng.integers(len(packed)))]
    said, bad = _damaged(zlib.decompress(parts[chosen][1]), others, rng)
    parts[chosen] = (15, zlib.compress(bad, 1))
    content = b"".join(struct.pack("<II", kind, len(data)) + data for kind, data in parts)
    return f"in variable {chosen}: {said}", whole[:128] + content
