"""Frames of the board link: what travels between host and board, byte for byte. Pure; `firmware_bench/PROTOCOL.md` specifies it.

A frame is COBS-encoded (Cheshire and Baker, "Consistent overhead byte stuffing", 1999), so that 0x00 occurs on the line between frames
only. That makes resynchronisation trivial: whatever was lost, damaged or printed, the next 0x00 starts afresh. A frame is taken if its
length and its CRC-32 agree with it, and dropped and counted if not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

PROTOCOL = 1
PAYLOAD_MAX_BYTES = 512
REPLY, ERROR = 0x80, 0xFF

DELIMITER = b"\0"
GROUP_BYTES = 254  # the longest run without a zero that one code byte announces
HEADER, CHECKSUM = struct.Struct("<BBHIH"), struct.Struct("<I")
FRAME_MAX_BYTES = HEADER.size + PAYLOAD_MAX_BYTES + CHECKSUM.size
STUFFED_MAX_BYTES = FRAME_MAX_BYTES + FRAME_MAX_BYTES // GROUP_BYTES + 1


class Kind(IntEnum):
    """What the host asks for; the answer's kind is this | REPLY, or ERROR."""

    HELLO = 0x01
    WRITE = 0x02
    CHECK = 0x03
    RUN = 0x04
    OUTPUT = 0x05
    OPERATORS = 0x06
    USAGE = 0x07
    RESET = 0x08


class Code(IntEnum):
    """Why a board refuses a request."""

    UNKNOWN_KIND = 1
    NOT_GREETED = 2
    BAD_PAYLOAD = 3
    BAD_RANGE = 4
    NOT_RUN = 5
    UNSUPPORTED = 6
    VERSION = 7


@dataclass(frozen=True)
class Frame:
    """One request or answer.

    Attributes:
        kind: of `Kind`, with REPLY in an answer; ERROR.
        sequence: the host's count of frames, modulo 2**16; an answer repeats that of its request.
        session: the host's random number of this connection; a board that was reset knows 0.
    """

    kind: int
    sequence: int
    session: int
    payload: bytes = b""
    version: int = PROTOCOL


def encode(frame: Frame) -> bytes:
    """The bytes on the line. The 0x00 in front ends whatever half frame the receiver still holds."""
    body = HEADER.pack(frame.kind, frame.version, frame.sequence, frame.session, len(frame.payload)) + frame.payload
    return DELIMITER + stuff(body + CHECKSUM.pack(crc32(body))) + DELIMITER


def decode(stuffed: bytes) -> Frame | None:
    """The frame in the bytes between two zeros, or None where they hold no sound one."""
    data = unstuff(stuffed)
    if data is None or not HEADER.size + CHECKSUM.size <= len(data) <= FRAME_MAX_BYTES:
        return None
    body, (checksum,) = data[: -CHECKSUM.size], CHECKSUM.unpack(data[-CHECKSUM.size :])
    kind, version, sequence, session, length = HEADER.unpack_from(body)
    if length != len(body) - HEADER.size or checksum != crc32(body):
        return None
    return Frame(kind, sequence, session, body[HEADER.size :], version)


def stuff(data: bytes) -> bytes:
    """COBS: `data` without zeros, at most one byte longer per 254."""
    out = bytearray()
    for run in data.split(DELIMITER):
        for start in range(0, len(run) + 1, GROUP_BYTES):
            group = run[start : start + GROUP_BYTES]
            out.append(len(group) + 1)
            out += group
    return bytes(out)


def unstuff(data: bytes) -> bytes | None:
    """What `stuff` was given, or None: the last group is cut short."""
    out = bytearray()
    place = 0
    while place < len(data):
        code = data[place]
        group = data[place + 1 : place + code]
        if len(group) != code - 1:
            return None
        out += group
        place += code
        if code <= GROUP_BYTES and place < len(data):
            out.append(0)
    return bytes(out)


class Receiver:
    """Finds frames in the bytes of a line, however they are cut.

    Attributes:
        received_bytes: all that was fed.
        bad_frames: what stood between two zeros and was no frame: damaged, too long, or text.
    """

    def __init__(self) -> None:
        self.received_bytes = self.bad_frames = 0
        self._part = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order."""
        self.received_bytes += len(data)
        first, *rest = data.split(DELIMITER)
        self._hold(first)
        found = []
        for following in rest:
            if self._part:
                frame = decode(bytes(self._part))
                self.bad_frames += frame is None
                found += [frame] if frame else []
            self._part.clear()
            self._hold(following)
        return found

    def _hold(self, data: bytes) -> None:
        """Keep a piece of what may become a frame; one byte more than the longest is enough to know that it is none."""
        self._part += data[: STUFFED_MAX_BYTES + 1 - len(self._part)]
