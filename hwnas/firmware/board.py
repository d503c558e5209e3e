"""A board that runs one student: who it is, windows in, outputs and ticks out. Touches only the transport it is given.

`Board` is what benchmarks ask for; `LinkedBoard` is one at the other end of a serial line, a pipe or a pseudo-terminal. A result is
accepted only if the board computed it from the very bytes that were sent and the bytes read are the very ones it computed.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Protocol, Self
from zlib import crc32

import numpy as np

from hwnas.errors import FirmwareError, IdentityError, LinkError
from hwnas.firmware.frames import PAYLOAD_MAX_BYTES, PROTOCOL, Kind
from hwnas.firmware.link import Link, Timeouts, Transport, Trouble
from hwnas.quantize.qgraph import Int8

IDENTITY = struct.Struct("<HHIBIIIIH")
STRINGS = ("board", "toolchain", "kernel_set", "graph_hash", "weights_hash", "note")
RUN, RUN_HEAD, TICK_BYTES = struct.Struct("<HHB"), struct.Struct("<IIH"), 8
OFFSET, PIECE, USAGE = struct.Struct("<I"), struct.Struct("<IH"), struct.Struct("<IIIII")
TIME_OPERATORS = 1
PAYLOAD_MIN_BYTES = RUN_HEAD.size + TICK_BYTES
BUFFER_MAX_BYTES = 1 << 24  # more than a microcontroller holds: a figure above is a mistake
NOT_KNOWN = 0xFFFFFFFF


class Counter(IntEnum):
    """What a board's ticks count."""

    NONE = 0
    CORE_CYCLES = 1
    HOST_NANOSECONDS = 2  # of the machine that runs the program, which may be this one: no cycles of a core


@dataclass(frozen=True)
class Identity:
    """What a board says of itself.

    Attributes:
        protocol: version of the link.
        payload_max_bytes: of one frame.
        clock_hz: of its core; 0 where it is not known.
        counter: what ticks are; `counter_hz` of them are a second.
        input_bytes, output_bytes: of one window.
        arena_bytes: of activations, as the exported model declares them.
        operators: of the student, in the order they run.
        board: its name, as its port says.
        toolchain: compiler and flags of its firmware.
        kernel_set, graph_hash, weights_hash: hashes of what it was built from.
        note: of the build: empty, or the fault that was built in.
    """

    protocol: int
    payload_max_bytes: int
    clock_hz: int
    counter: Counter
    counter_hz: int
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    operators: int
    board: str
    toolchain: str
    kernel_set: str
    graph_hash: str
    weights_hash: str
    note: str

    @property
    def clock(self) -> str:
        """The clock, for people."""
        return f"{self.clock_hz / 1e6:g} MHz" if self.clock_hz else "a clock that is not known"


@dataclass(frozen=True)
class Run:
    """What one window gave.

    Attributes:
        output: int8 (K,).
        ticks: of each timed inference, in the board's counter; zeros where it has none.
        operator_ticks: of each operator in one further inference; empty if not asked for.
    """

    output: Int8
    ticks: tuple[int, ...]
    operator_ticks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What a board used since its start.

    Attributes:
        stack_bytes: high-water mark; None where the board cannot know.
        arena_bytes: high-water mark of the painted arena; None where nobody watched it.
        bad_frames, stale_frames: what it dropped: damaged, and twice or late.
        runs: RUN requests that it carried out.
    """

    stack_bytes: int | None
    arena_bytes: int | None
    bad_frames: int
    stale_frames: int
    runs: int


class Board(Protocol):
    """Runs one student. A context manager: leaving it closes the board."""

    @property
    def identity(self) -> Identity:
        """Who it is; asked once."""

    @property
    def trouble(self) -> Trouble:
        """What was repeated or dropped on the way, so far."""

    def run(self, window: Int8, *, warm_up: int = 0, repeats: int = 1, operators: bool = False) -> Run:
        """Run the window int8 (T, C) `warm_up` times untimed, then `repeats` times timed, then once more with every operator timed.

        Raises:
            FirmwareError: a window of another size. LinkError: no sound result could be had; never a wrong one instead.
        """

    def usage(self) -> Usage:
        """What it used so far; raises LinkError."""

    def close(self) -> None:
        """Give it back. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Part(NamedTuple):
    """One RUN: inferences untimed, timed, and whether one more has every operator timed."""

    warm_up: int
    repeats: int
    operators: bool

    @property
    def inferences(self) -> int:
        return self.warm_up + self.repeats + self.operators


class LinkedBoard:
    """A board at the other end of `transport`, which it owns: closed with it, and where the board does not greet.

    The first inference is a RUN of its own where more are asked for: its time, as the host sees it, limits the following ones.

    Args:
        session: as of `Link`.

    Raises:
        LinkError: the board does not answer, or what it says of itself makes no sense.
    """

    def __init__(
        self,
        transport: Transport,
        timeouts: Timeouts | None = None,
        *,
        session: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._link = Link(transport, self.timeouts, session=session, clock=clock)
        self._inference_s: float | None = None  # the longest seen
        try:
            self._identity = read_identity(self._link.greet(), transport.name)
        except BaseException:
            transport.close()
            raise

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def trouble(self) -> Trouble:
        return self._link.trouble

    def run(self, window: Int8, *, warm_up: int = 0, repeats: int = 1, operators: bool = False) -> Run:
        """As of `Board`; takes at most `bound_s` of these arguments."""
        if window.dtype != np.int8 or window.size != self._identity.input_bytes:
            raise FirmwareError(
                f"{self._name}: the window is {window.dtype} of {window.size} values; the board reads int8 of {self._identity.input_bytes}"
            )
        if warm_up < 0 or repeats < 1 or warm_up > 0xFFFF:
            raise FirmwareError(f"{self._name}: {warm_up} untimed and {repeats} timed runs; at least 0 and 1, at most 65535 untimed")
        data = window.tobytes()
        until = self._link.clock() + self.timeouts.call_s
        self._write(data, until)
        start = self._link.clock()
        output_crc, ticks = self._execute(crc32(data), warm_up, repeats, operators)
        until += self._link.clock() - start
        operator_ticks = self._operator_ticks(until) if operators else ()
        output = np.frombuffer(self._output(output_crc, until), np.int8)
        return Run(output, ticks, operator_ticks)

    def bound_s(self, warm_up: int = 0, repeats: int = 1, operators: bool = False) -> float:
        """Time after which `run` has returned or raised, whatever board and line do."""
        first = self.timeouts.first_run_s
        pilot_s, slowest_s = (0.0, self._inference_s) if self._inference_s is not None else (first, first)
        limits = (self._limit_s(part, slowest_s) for part in self._parts(warm_up, repeats, operators))
        waits = sum(range(1, self.timeouts.run_tries + 1))
        return self.timeouts.call_s + waits * (pilot_s + sum(limits))

    def usage(self) -> Usage:
        payload = self._ask(Kind.USAGE, b"", USAGE.size, self._link.clock() + self.timeouts.call_s)
        stack, arena, bad_frames, stale_frames, runs = USAGE.unpack(payload)
        return Usage(None if stack == NOT_KNOWN else stack, arena, bad_frames, stale_frames, runs)

    def close(self) -> None:
        self._link.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def _name(self) -> str:
        return self._link.transport.name

    def _ask(self, kind: Kind, payload: bytes, answer_bytes: int, until: float) -> bytes:
        answer = self._link.request(kind, payload, timeout_s=self.timeouts.reply_s, tries=self.timeouts.tries, until=until)
        return self._sized(kind, answer.payload, answer_bytes)

    def _sized(self, kind: Kind, payload: bytes, expected_bytes: int) -> bytes:
        if len(payload) != expected_bytes:
            raise LinkError(
                f"{self._name}: the board answers {kind.name} with {len(payload)} bytes instead of {expected_bytes}; "
                "flash the firmware of this version of hwnas"
            )
        return payload

    def _write(self, data: bytes, until: float) -> None:
        """Fill the board's input buffer, until it says the checksum of `data`."""
        size = self._payload_bytes - OFFSET.size
        for attempt in range(self.timeouts.tries):
            self.trouble.rewrites += attempt > 0
            for start in range(0, len(data), size):
                self._ask(Kind.WRITE, OFFSET.pack(start) + data[start : start + size], 0, until)
            if int.from_bytes(self._ask(Kind.CHECK, b"", 4, until), "little") == crc32(data):
                return
        raise LinkError(
            f"{self._name}: the board's input buffer does not hold the window after it was written {self.timeouts.tries} times, every "
            "frame confirmed; its memory is not sound: look at its supply and clock, and at the memory map of its port"
        )

    def _execute(self, input_crc: int, warm_up: int, repeats: int, operators: bool) -> tuple[int, tuple[int, ...]]:
        """Checksum of the output and the ticks of all timed inferences; each tick is of the one answer that was accepted."""
        parts = self._parts(warm_up, repeats, operators)
        if self._inference_s is None and sum(part.inferences for part in parts) > 1:
            self._run(Part(0, 1, False), input_crc, self.timeouts.first_run_s)
        known_s = self._inference_s
        found = []
        for part in parts:
            limit_s = self.timeouts.first_run_s if known_s is None else self._limit_s(part, known_s)
            found.append(self._run(part, input_crc, limit_s))
        output_crcs = {output_crc for output_crc, _ in found}
        if len(output_crcs) > 1:
            raise FirmwareError(
                f"{self._name}: the board's outputs for one window differ from run to run; its memory or clock is not sound"
            )
        return output_crcs.pop(), tuple(tick for _, ticks in found for tick in ticks)

    def _run(self, part: Part, input_crc: int, limit_s: float) -> tuple[int, tuple[int, ...]]:
        """One RUN; a try whose answer was lost is repeated whole."""
        repeats, flags = part.repeats, TIME_OPERATORS if part.operators else 0
        request = RUN.pack(part.warm_up, repeats, flags)
        answer = self._link.request(Kind.RUN, request, timeout_s=limit_s, tries=self.timeouts.run_tries)
        payload = self._sized(Kind.RUN, answer.payload, RUN_HEAD.size + TICK_BYTES * repeats)
        got_crc, output_crc, got_repeats = RUN_HEAD.unpack_from(payload)
        if got_crc != input_crc or got_repeats != repeats:
            raise LinkError(
                f"{self._name}: the board ran another window (checksum {got_crc:08x}, sent and checked {input_crc:08x}) or another number "
                f"of times ({got_repeats}, asked {repeats}); its memory is not sound: look at the stack and the memory map of its port"
            )
        self._inference_s = max(self._inference_s or 0.0, answer.took_s / part.inferences)
        return output_crc, struct.unpack_from(f"<{repeats}Q", payload, RUN_HEAD.size)

    def _operator_ticks(self, until: float) -> tuple[int, ...]:
        size = self._payload_bytes // TICK_BYTES
        ticks: tuple[int, ...] = ()
        for first in range(0, self._identity.operators, size):
            count = min(size, self._identity.operators - first)
            payload = self._ask(Kind.OPERATORS, struct.pack("<HH", first, count), count * TICK_BYTES, until)
            ticks += struct.unpack(f"<{count}Q", payload)
        return ticks

    def _output(self, output_crc: int, until: float) -> bytes:
        """The bytes of the last run's output, until their checksum is the one that the run said."""
        total = self._identity.output_bytes
        for attempt in range(self.timeouts.tries):
            self.trouble.rereads += attempt > 0
            starts = range(0, total, self._payload_bytes)
            sizes = (min(self._payload_bytes, total - start) for start in starts)
            pieces = (self._ask(Kind.OUTPUT, PIECE.pack(start, size), size, until) for start, size in zip(starts, sizes, strict=True))
            data = b"".join(pieces)
            if crc32(data) == output_crc:
                return data
        raise LinkError(
            f"{self._name}: the output that was read {self.timeouts.tries} times is not the one that the run reported (checksum "
            f"{output_crc:08x}); the board's memory is not sound: look at the stack and the memory map of its port"
        )

    def _parts(self, warm_up: int, repeats: int, operators: bool) -> list[Part]:
        """The RUNs that give these many inferences: ticks of one RUN fit one frame."""
        most = (self._payload_bytes - RUN_HEAD.size) // TICK_BYTES
        counts = [min(most, repeats - done) for done in range(0, repeats, most)]
        last = len(counts) - 1
        return [Part(0 if i else warm_up, n, operators and i == last) for i, n in enumerate(counts)]

    def _limit_s(self, part: Part, inference_s: float) -> float:
        return self.timeouts.reply_s + self.timeouts.run_margin * inference_s * part.inferences

    @property
    def _payload_bytes(self) -> int:
        return min(PAYLOAD_MAX_BYTES, self._identity.payload_max_bytes)


def read_identity(payload: bytes, name: str) -> Identity:
    """What the answer to HELLO says.

    Raises:
        LinkError: it is cut short, or its figures cannot be.
    """
    try:
        fixed, place, strings = IDENTITY.unpack_from(payload), IDENTITY.size, []
        for _ in STRINGS:
            end = place + 1 + payload[place]
            if end > len(payload):
                raise ValueError("a string is cut short")
            strings.append(payload[place + 1 : end].decode())
            place = end
        protocol, payload_max, clock_hz, counter, counter_hz, *rest = fixed
        identity = Identity(protocol, payload_max, clock_hz, Counter(counter), counter_hz, *rest, *strings)
    except (struct.error, IndexError, ValueError) as error:
        raise LinkError(f"{name}: the board's identity cannot be read ({error}); flash the firmware of this version of hwnas") from error
    if identity.protocol != PROTOCOL:
        raise LinkError(f"{name}: the board speaks version {identity.protocol} of the protocol, this is {PROTOCOL}; flash it anew")
    wrong = [
        f"{what} {value}"
        for what, value, sound in (
            ("payload_max_bytes", identity.payload_max_bytes, identity.payload_max_bytes >= PAYLOAD_MIN_BYTES),
            ("input_bytes", identity.input_bytes, 0 < identity.input_bytes <= BUFFER_MAX_BYTES),
            ("output_bytes", identity.output_bytes, 0 < identity.output_bytes <= BUFFER_MAX_BYTES),
            ("counter_hz", identity.counter_hz, identity.counter_hz > 0 or not identity.counter),
        )
        if not sound
    ]
    if wrong:
        raise LinkError(f"{name}: the board's identity says {', '.join(wrong)}, which cannot be; look at `hwnas_port_start` in its port")
    return identity


def check_identity(identity: Identity, *, kernel_set: str, graph_hash: str, weights_hash: str, has_fault: bool = False) -> None:
    """Refuse a board whose firmware was built from something else than what its results are to be compared with.

    Args:
        has_fault: whether a fault was asked for; else a board whose note names one is refused.

    Raises:
        IdentityError: names all that differs.
    """
    expected = {"kernel set": kernel_set, "graph hash": graph_hash, "weights hash": weights_hash}
    found = {"kernel set": identity.kernel_set, "graph hash": identity.graph_hash, "weights hash": identity.weights_hash}
    differing = [
        f"its {what} is {found[what] or 'not named'}, expected {expected[what]}" for what in expected if found[what] != expected[what]
    ]
    if identity.note and not has_fault:
        differing.append(f"a fault was built into it ({identity.note}), and none was asked for")
    if differing:
        raise IdentityError(
            f"the board ({identity.board or 'unnamed'}) runs other firmware: {'; '.join(differing)}. Nothing was run; "
            "build and flash the firmware of this student with this version of hwnas"
        )
