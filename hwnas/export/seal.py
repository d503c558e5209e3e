"""Marks inside an exported file, read before a runtime parses it: a checksum tells damage, a student's hash tells a file of another one.

The runtimes parse files in C++ and may crash on a broken one. Touches nothing.
"""

from __future__ import annotations

import hashlib

from hwnas.errors import ExportError
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.storage import content_hash

MARK = b"hwnas-sha256:"
DIGITS = 64
PLACEHOLDER = (MARK + b"0" * DIGITS).decode()


def seal(content: bytes) -> bytes:
    """`content`, which holds PLACEHOLDER once, with its zeros replaced by the checksum of `content`."""
    return _with(content, hashlib.sha256(content).hexdigest().encode(), "the file being written")


def check_seal(content: bytes, name: str) -> None:
    """Raise ExportError unless `content` is what `seal` returned, byte for byte. `name` is what the message calls it."""
    if seal(_with(content, b"0" * DIGITS, name)) != content:
        raise ExportError(f"{name} is damaged or was edited: its checksum differs; export the student again")


def student_mark(q: QuantGraph) -> str:
    """What a file of `q` holds: the hash of its graph, scales and integers."""
    return f"hwnas-student:{content_hash(q)}"


def check_student(content: bytes, name: str, q: QuantGraph) -> None:
    """Raise ExportError unless `content` was written from `q`."""
    if student_mark(q).encode() not in content:
        raise ExportError(f"{name} holds another student than the one beside it (hash {content_hash(q)}); export the student again")


def _with(content: bytes, digits: bytes, name: str) -> bytes:
    start = content.find(MARK) + len(MARK)
    if content.count(MARK) != 1 or start + DIGITS > len(content):
        raise ExportError(f"{name} was not written by hwnas, or is damaged: it has no checksum; export the student again")
    return content[:start] + digits + content[start + DIGITS :]
