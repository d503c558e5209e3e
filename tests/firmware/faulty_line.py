"""Lines that fail on purpose, and a board in plain Python behind one: the other end of the link for its tests and its benchmark.

`ReferenceBoard` answers as `firmware_bench/PROTOCOL.md` says. `MemoryLine` is a line to it under a clock of its own, so that hours of
time-outs take no time. `FaultyLine` stands before any transport and does one kind of harm to the frames that pass. `Plugged` is a real
program as such a board.
"""

from __future__ import annotations

import heapq
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from random_networks import random_network

from hwnas.errors import LinkError
from hwnas.export import c
from hwnas.firmware.board_image import PORTS, build_image
from hwnas.firmware.frames import ERROR, PROTOCOL, REPLY, Code, Frame, Kind, Receiver, encode
from hwnas.firmware.link import Transport
from hwnas.firmware.transports import ProcessPipe, QemuPty
from hwnas.hardware.deployment import uniform
from hwnas.quantize import reference
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import Int8

FaultKind = Literal["dropped", "duplicated", "flipped", "delayed", "split", "reset", "vanished", "babble"]
KINDS: tuple[FaultKind, ...] = ("dropped", "duplicated", "flipped", "delayed", "split", "reset", "vanished", "babble")
ALWAYS = 1_000_000  # faults in a row: the line never recovers


class VirtualClock:
    """Seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def expected_output(window: Int8 | bytes, output_bytes: int) -> Int8:
    """What the reference board's "model" makes of a window: every output depends on every input."""
    seed = np.frombuffer(bytes(window), np.uint8).astype(np.uint32)
    weights = np.arange(1, len(seed) + 1, dtype=np.uint32) * np.uint32(2654435761)
    mixed = np.uint32((seed * weights).sum(dtype=np.uint32))
    return ((mixed >> np.uint32(7)) + mixed * np.arange(output_bytes, dtype=np.uint32) >> np.uint32(11)).astype(np.uint8).view(np.int8)


@dataclass
class ReferenceBoard:
    """A board in Python, written from the protocol alone.

    Attributes:
        inference_s: that one inference takes.
        requests: kinds that were carried out, in order.
    """

    input_bytes: int = 1000
    output_bytes: int = 6
    operators: int = 5
    payload_max: int = 512
    inference_s: float = 0.02
    counter: int = 1
    protocol: int = PROTOCOL
    strings: tuple[str, ...] = ("reference", "python", "kernels", "graph", "weights", "")
    stack_bytes: int = 0xFFFFFFFF
    requests: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restarts = -1
        self.reset()

    def reset(self) -> None:
        self.restarts += 1
        self._session = self._last = self._runs = self._stale = 0
        self._receiver = Receiver()
        self._input, self._output = bytearray(self.input_bytes), b""
        self._operator_ticks: tuple[int, ...] = ()

    def receive(self, data: bytes) -> list[tuple[bytes, float]]:
        """Answers, each with the time that its making takes."""
        answers = []
        for frame in self._receiver.feed(data):
            self.took_s = 0.0
            answer = self._answer(frame)
            if answer is not None:
                answers.append((encode(answer), self.took_s))
        return answers

    def _answer(self, frame: Frame) -> Frame | None:
        if frame.version != PROTOCOL:
            return self._refusal(frame, Code.VERSION)
        is_newer = 0 < (frame.sequence - self._last) % 65536 < 32768
        if frame.kind == Kind.HELLO:
            if frame.session == self._session and not is_newer:
                return Frame(frame.kind | REPLY, frame.sequence, frame.session, self.identity())
            self._session = frame.session
        elif frame.session != self._session or not self._session:
            return self._refusal(frame, Code.NOT_GREETED)
        elif not is_newer:
            self._stale += 1
            return None
        self._last = frame.sequence
        self.requests.append(frame.kind)
        try:
            payload = self._serve(frame.kind, frame.payload)
        except struct.error:
            payload = Code.BAD_PAYLOAD
        if isinstance(payload, Code):
            return self._refusal(frame, payload)
        return Frame(frame.kind | REPLY, frame.sequence, frame.session, payload)

    def _refusal(self, frame: Frame, code: Code) -> Frame:
        return Frame(ERROR, frame.sequence, frame.session, struct.pack("<H", code) + code.name.encode())

    def _serve(self, kind: int, payload: bytes) -> bytes | Code:
        if kind == Kind.HELLO:
            if struct.unpack("<I", payload) != (self._session,):
                return Code.BAD_PAYLOAD
            return self.identity()
        if kind == Kind.WRITE:
            (offset,), data = struct.unpack_from("<I", payload), payload[4:]
            if offset + len(data) > self.input_bytes:
                return Code.BAD_RANGE
            self._input[offset : offset + len(data)] = data
            return b""
        if kind == Kind.CHECK:
            return struct.pack("<I", crc32(self._input))
        if kind == Kind.RUN:
            return self._run(*struct.unpack("<HHB", payload))
        if kind == Kind.OUTPUT:
            offset, size = struct.unpack("<IH", payload)
            if not self._output:
                return Code.NOT_RUN
            return self._output[offset : offset + size] if offset + size <= self.output_bytes else Code.BAD_RANGE
        if kind == Kind.OPERATORS:
            first, number = struct.unpack("<HH", payload)
            if not self._operator_ticks:
                return Code.NOT_RUN
            ticks = self._operator_ticks[first : first + number]
            return struct.pack(f"<{number}Q", *ticks) if len(ticks) == number else Code.BAD_RANGE
        if kind == Kind.USAGE:
            return struct.pack("<IIIII", self.stack_bytes, 640, self._receiver.bad_frames, self._stale, self._runs)
        return Code.UNSUPPORTED if kind == Kind.RESET else Code.UNKNOWN_KIND

    def identity(self) -> bytes:
        sizes = (self.input_bytes, self.output_bytes, 2048, self.operators)
        fixed = struct.pack("<HHIBIIIIH", self.protocol, self.payload_max, 168_000_000, self.counter, 168_000_000, *sizes)
        return fixed + b"".join(struct.pack("B", len(text.encode())) + text.encode() for text in self.strings)

    def _run(self, warm_up: int, repeats: int, flags: int) -> bytes | Code:
        if not 0 < repeats <= (self.payload_max - 10) // 8:
            return Code.BAD_RANGE
        self._runs += 1
        self.took_s = self.inference_s * (warm_up + repeats + (flags & 1))
        self._output = expected_output(bytes(self._input), self.output_bytes).tobytes()
        if flags & 1:
            self._operator_ticks = tuple(self._runs * 1000 + i for i in range(self.operators))
        # The ticks tell the run: figures from two runs cannot be mixed unnoticed.
        ticks = (self._runs * 1_000_000 + i for i in range(repeats))
        return struct.pack(f"<IIH{repeats}Q", crc32(self._input), crc32(self._output), repeats, *ticks)


class MemoryLine:
    """A perfect line to a board in memory."""

    name = "memory"

    def __init__(self, board: ReferenceBoard, clock: VirtualClock) -> None:
        self.board, self.clock = board, clock
        self.is_gone = self.is_closed = False
        self._busy_until = 0.0
        self._answers: list[tuple[float, bytes]] = []

    def read(self, timeout_s: float) -> bytes:
        self._check()
        until = self.clock.now + timeout_s
        if self._answers and self._answers[0][0] <= until:
            due, data = self._answers.pop(0)
            self.clock.now = max(self.clock.now, due)
            return data
        self.clock.now = until
        return b""

    def write(self, data: bytes, timeout_s: float) -> None:
        self._check()
        for answer, took_s in self.board.receive(data):
            self._busy_until = max(self._busy_until, self.clock.now) + took_s
            self._answers.append((self._busy_until, answer))

    def reset(self) -> None:
        """Whatever the board was about to answer never comes."""
        self.board.reset()
        self._answers.clear()
        self._busy_until = 0.0

    def vanish(self) -> None:
        self.is_gone = True

    def close(self) -> None:
        self.is_closed = True

    def _check(self) -> None:
        if self.is_gone:
            raise LinkError("memory: the port vanished; look at cable and supply")


@dataclass(frozen=True)
class Fault:
    """What happens, to frames `first`, `first + 1` ... (`number` of them) in one direction, counted from `FaultyLine.arm`.

    Attributes:
        scale_s: what delays are drawn in; about the time-out of a reply.
    """

    kind: FaultKind
    to_board: bool
    first: int
    number: int
    scale_s: float


def draw(kind: FaultKind, frames: int, scale_s: float, rng: np.random.Generator, run: int | None = None) -> Fault:
    """A fault somewhere in `frames` frames, of which `run` is the RUN: a reset strikes it in its middle. One in ten never ends."""
    if kind == "reset" and run is not None:
        return Fault(kind, True, run, 1, scale_s)
    number = ALWAYS if rng.random() < 0.1 else int(rng.integers(1, 4))
    return Fault(kind, bool(rng.random() < 0.5), int(rng.integers(frames)), number, scale_s)


class FaultyLine:
    """Passes bytes on, and does harm to some frames.

    Args:
        reset: resets the board behind `line`, as its button does; what it was about to say is lost.
        vanish: takes the port away.

    Attributes:
        struck: frames that the armed fault has hit.
    """

    def __init__(
        self,
        line: Transport,
        clock: Callable[[], float],
        rng: np.random.Generator,
        reset: Callable[[], None],
        vanish: Callable[[], None],
    ) -> None:
        self.name = line.name
        self.line, self.clock, self._rng = line, clock, rng
        self._reset, self._vanish = reset, vanish
        self._fault: Fault | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []  # what is to happen, and when
        self._order = count()
        self._coming, self._arrived = bytearray(), bytearray()
        self.struck = 0
        self._passed = {True: 0, False: 0}

    def arm(self, fault: Fault | None) -> None:
        """From now on. Frames that an earlier fault held back still come when they are due; its resets do not."""
        self._fault = fault
        self._passed = {True: 0, False: 0}
        self.struck = 0

    def write(self, data: bytes, timeout_s: float) -> None:
        self._happen()
        self._pass(data, to_board=True)
        self._happen()

    def read(self, timeout_s: float) -> bytes:
        until = self.clock() + timeout_s
        while True:
            self._happen()
            if self._arrived:
                data = bytes(self._arrived)
                self._arrived.clear()
                return data
            left_s = min([until, *(due for due, _, _ in self._due[:1])]) - self.clock()
            self._sort(self.line.read(max(0.0, left_s)))
            if self.clock() >= until and not self._arrived:
                self._happen()
                data = bytes(self._arrived)
                self._arrived.clear()
                return data

    def close(self) -> None:
        self.line.close()

    def _sort(self, data: bytes) -> None:
        """Cut what comes into frames."""
        self._coming += data
        while (end := self._coming.find(0)) >= 0:
            frame = bytes(self._coming[: end + 1])
            del self._coming[: end + 1]
            self._pass(frame, to_board=False)

    def _pass(self, frame: bytes, to_board: bool) -> None:
        if len(frame) < 2:  # a zero between frames
            self._deliver(frame, to_board)
            return
        place = self._passed[to_board]
        self._passed[to_board] += 1
        fault = self._fault
        if fault and fault.to_board == to_board and fault.first <= place < fault.first + fault.number:
            self.struck += 1
            self._harm(frame, fault)
        else:
            self._deliver(frame, to_board)

    def _harm(self, frame: bytes, fault: Fault) -> None:
        rng, to_board = self._rng, fault.to_board
        wait_s = float(rng.uniform(0.0, 3.0)) * fault.scale_s
        if fault.kind == "duplicated":
            self._deliver(frame, to_board)
            self._later(wait_s if rng.random() < 0.5 else 0.0, lambda: self._deliver(frame, to_board))
        elif fault.kind == "flipped":
            damaged = bytearray(frame)
            for bit in rng.integers(0, 8 * len(frame), rng.integers(1, 5)):
                damaged[bit // 8] ^= 1 << (bit % 8)
            self._deliver(bytes(damaged), to_board)
        elif fault.kind == "delayed":
            self._later(wait_s, lambda: self._deliver(frame, to_board))
        elif fault.kind == "split":
            self._cut(frame, to_board, fault.scale_s)
        elif fault.kind == "reset":
            self._deliver(frame, to_board)
            self._later(float(rng.uniform(0.0, 0.2)) * fault.scale_s, lambda: self._if_armed(fault, self._reset))
        elif fault.kind == "vanished":
            self._deliver(frame, to_board)
            soon_s = float(rng.choice([0.0, rng.uniform(0.0, 0.2)])) * fault.scale_s
            self._later(soon_s, lambda: self._if_armed(fault, self._vanish))
        elif fault.kind == "babble":
            self._babble(fault, self.clock() + (np.inf if fault.number == ALWAYS else wait_s))
            self._cut(frame, to_board, fault.scale_s)

    def _if_armed(self, fault: Fault, event: Callable[[], None]) -> None:
        if self._fault is fault:
            event()

    def _cut(self, frame: bytes, to_board: bool, scale_s: float) -> None:
        """Pieces with pauses between; whole, it is often in time and sometimes late."""
        marks = sorted({0, len(frame), *self._rng.integers(1, len(frame), self._rng.integers(1, 6)).tolist()})
        at_s = 0.0
        for start, end in pairwise(marks):
            self._later(at_s, lambda piece=frame[start:end]: self._deliver(piece, to_board))
            at_s += float(self._rng.uniform(0.0, 0.4)) * scale_s

    def _babble(self, fault: Fault, until: float) -> None:
        """Noise in both directions, some of it zeros."""
        noise = self._rng.integers(0, 256, self._rng.integers(1, 200)).astype(np.uint8).tobytes()
        self._deliver(noise, to_board=bool(self._rng.random() < 0.3))
        if self.clock() < until:
            pause_s = float(self._rng.uniform(0.0, 0.1)) * fault.scale_s
            self._later(pause_s, lambda: self._if_armed(fault, lambda: self._babble(fault, until)))

    def _deliver(self, data: bytes, to_board: bool) -> None:
        if to_board:
            self.line.write(data, 1.0)
        else:
            self._arrived += data

    def _later(self, after_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.clock() + after_s, next(self._order), event))

    def _happen(self) -> None:
        while self._due and self._due[0][0] <= self.clock():
            heapq.heappop(self._due)[2]()


class Plugged:
    """A board that is a process of this machine, with a reset button and a plug.

    Args:
        start: starts it.
        press: resets a running one in place; if not given, a reset is a new process.
    """

    def __init__(self, start: Callable[[], ProcessPipe | QemuPty], press: Callable[[], None] | None = None) -> None:
        self._start, self._press = start, press
        self.line = start()
        self.name = self.line.name

    def read(self, timeout_s: float) -> bytes:
        return self.line.read(timeout_s)

    def write(self, data: bytes, timeout_s: float) -> None:
        self.line.write(data, timeout_s)

    def reset(self) -> None:
        if self._press:
            self._press()
        else:
            self.plug_in()

    def vanish(self) -> None:
        os.kill(self.line.process_id, signal.SIGKILL)

    def plug_in(self) -> None:
        """A new process; the old one is gone."""
        self.line.close()
        self.line = self._start()

    def close(self) -> None:
        self.line.close()


@dataclass(frozen=True)
class Made:
    """A made student in C: what its board must answer for `windows` int8 (N, T, C) is `outputs` int8 (N, K)."""

    folder: Path
    kernel_set: str
    graph_hash: str
    weights_hash: str
    windows: Int8
    outputs: Int8

    def image(self, place: Path, port: str, kernel_set: str = "") -> Path:
        """Its program for a port of hwnas, written below `place`."""
        out = place / f"{self.folder.name}-{port}-{kernel_set}.elf"
        return build_image(self.folder, out, PORTS[port], kernel_set=kernel_set or self.kernel_set).path


def made_student(folder: Path, seed: int, windows: int = 16) -> Made:
    """A random network in C in `folder`, its outputs from the integer reference."""
    rng = np.random.default_rng(seed)
    graph = random_network(rng)
    quantised = arbitrary(graph, rng)
    c.write(quantised, uniform(graph), folder, weights_hash=f"weights-{seed}")
    x = rng.integers(-128, 128, (windows, graph.input_shape.length, graph.input_shape.channels)).astype(np.int8)
    return Made(folder, "kernels-of-the-test", graph.hash, f"weights-{seed}", x, reference.run(quantised, x).reshape(windows, -1))
