"""A second, plain codec of the board link, written from PROTOCOL.md alone, and a host that asks a process. For tests of the C."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import time
import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

SESSION = 0x1BADB002
HELLO, WRITE, CHECK, RUN, OUTPUT, OPERATORS, USAGE, RESET = range(1, 9)
UNKNOWN_KIND, NOT_GREETED, BAD_PAYLOAD, BAD_RANGE, NOT_RUN, UNSUPPORTED, VERSION = range(1, 8)
ANSWER_S, GREETINGS = 30.0, 60


def stuffed(data: bytes) -> bytes:
    """COBS as its paper has it: the distance to the next zero, or 255 for 254 bytes without any."""
    out, rest = b"", data + b"\0"
    while rest:
        end = rest.index(0)
        if end >= 254:
            out, rest = out + b"\xff" + rest[:254], rest[254:]
        else:
            out, rest = out + bytes([end + 1]) + rest[:end], rest[end + 1 :]
    return out


def unstuffed(line: bytes) -> bytes:
    out = b""
    while line:
        code, group, line = line[0], line[1 : line[0]], line[line[0] :]
        assert code and len(group) == code - 1 and 0 not in group
        out += group + (b"\0" if code < 255 and line else b"")
    return out


def sound(kind: int, sequence: int, payload: bytes = b"", session: int = SESSION, version: int = 1, length: int | None = None) -> bytes:
    """A frame with its checksum."""
    head = struct.pack("<BBHIH", kind, version, sequence % 65536, session, len(payload) if length is None else length)
    return head + payload + struct.pack("<I", zlib.crc32(head + payload))


def on_line(frame: bytes) -> bytes:
    return b"\0" + stuffed(frame) + b"\0"


class Process:
    """A board whose line is the standard streams of a command."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._held = b""
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def send(self, line: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def end(self) -> int:
        """What the process returns when its line is closed."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._process.wait(ANSWER_S)

    def frame(self, wait_s: float = ANSWER_S) -> bytes | None:
        """The next frame, sound; None if there is none in time."""
        assert self._process.stdout
        until = time.monotonic() + wait_s
        while True:
            part, zero, rest = self._held.partition(b"\0")
            if zero:
                self._held = rest
                if not part:
                    continue
                frame = unstuffed(part)
                assert struct.unpack("<I", frame[-4:])[0] == zlib.crc32(frame[:-4])
                return frame
            if not select.select([self._process.stdout], [], [], max(until - time.monotonic(), 0))[0]:
                return None
            read = os.read(self._process.stdout.fileno(), 4096)
            assert read, f"the process ended with {self._process.wait()}"
            self._held += read

    def ask(self, kind: int, payload: bytes = b"") -> tuple[int, bytes]:
        """(error, payload) of the answer; error 0 where there is none."""
        self.sequence += 1
        self.send(on_line(sound(kind, self.sequence, payload)))
        while True:
            frame = self.frame()
            assert frame, "no answer"
            if struct.unpack_from("<HI", frame, 2) == (self.sequence, SESSION):
                data = frame[10:-4]
                return (struct.unpack_from("<H", data)[0], data[2:]) if frame[0] == 0xFF else (0, data)

    def greet(self) -> tuple[tuple[int, ...], list[str]]:
        """(numbers, texts) of the identity; asks until the board has started."""
        for _ in range(GREETINGS):
            self.sequence += 1
            self.send(on_line(sound(HELLO, self.sequence, struct.pack("<I", SESSION))))
            frame = self.frame(ANSWER_S / GREETINGS)
            if frame and frame[0] == HELLO | 0x80:
                break
        assert frame, "no answer to a greeting"
        numbers, rest, texts = struct.unpack_from("<HHIBIIIIH", frame, 10), frame[37:-4], []
        while rest:
            texts.append(rest[1 : 1 + rest[0]].decode())
            rest = rest[1 + rest[0] :]
        return numbers, texts

    def infer(self, window: NDArray[np.int8], outputs: int, repeats: int = 1) -> tuple[NDArray[np.int8], tuple[int, ...]]:
        """(output, ticks of the repeats) of one window, operators timed; every checksum is compared."""
        data = window.tobytes()
        for offset in range(0, len(data), 508):
            assert self.ask(WRITE, struct.pack("<I", offset) + data[offset : offset + 508]) == (0, b"")
        error, answer = self.ask(RUN, struct.pack("<HHB", 1, repeats, 1))
        assert error == 0
        before, after, count, *ticks = struct.unpack(f"<IIH{repeats}Q", answer)
        error, output = self.ask(OUTPUT, struct.pack("<IH", 0, outputs))
        assert (error, before, after, count) == (0, zlib.crc32(data), zlib.crc32(output), repeats)
        return np.frombuffer(output, np.int8), tuple(ticks)

    def number(self, kind: int, payload: bytes, form: str) -> tuple[int, ...]:
        """The numbers of a sound answer."""
        error, answer = self.ask(kind, payload)
        assert error == 0
        return struct.unpack(f"<{form}", answer)
