"""Asks a board and waits for its answer: greeting, time-outs, bounded tries. Touches only the transport it is given.

The host asks, the board answers, nothing else. Every request is a new frame with a new number, tries included, so that a board refuses what
arrives twice or late, and the host takes an answer only if it bears the number of the request that is still open. Whatever was repeated
or dropped on the way is counted in `Trouble`; what cannot be mended raises LinkError. No wait is without end, whatever the line brings.
"""

from __future__ import annotations

import math
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hwnas.errors import LinkError
from hwnas.firmware.frames import ERROR, PROTOCOL, REPLY, Code, Frame, Kind, Receiver, encode

STALE_LIMIT_BYTES = 1 << 16  # old bytes that are thrown away before a greeting: what a kernel buffers, and no more
SEQUENCES = 1 << 16
# What a board says, and what helps.
REFUSALS = {
    Code.UNKNOWN_KIND: "its firmware does not know this request: flash the firmware of this version of hwnas",
    Code.NOT_GREETED: "the board was reset, or another program greeted it: look at its supply and watchdog, then run the command again",
    Code.BAD_PAYLOAD: "its firmware reads this request otherwise: flash the firmware of this version of hwnas",
    Code.BAD_RANGE: "the range is outside its buffers: flash the firmware of this very student",
    Code.NOT_RUN: "it has no result to read: run the command again, and report this if it repeats",
    Code.UNSUPPORTED: "its port cannot do that: implement it in the port, or do without",
    Code.VERSION: f"it does not speak version {PROTOCOL} of the protocol: flash the firmware of this version of hwnas",
}


class Transport(Protocol):
    """Bytes to and from one board, unreliable ones. Every method raises LinkError once the port or process is gone."""

    @property
    def name(self) -> str:
        """What a person calls it: "serial:/dev/ttyACM0"."""

    def read(self, timeout_s: float) -> bytes:
        """What has arrived, as soon as there is a byte; nothing after `timeout_s`, which may be 0."""

    def write(self, data: bytes, timeout_s: float) -> None:
        """Hand over all of `data`; LinkError where that takes longer than `timeout_s`."""

    def close(self) -> None:
        """Give the port back, end the process. May be called twice; raises nothing."""


@dataclass(frozen=True)
class Timeouts:
    """How long the host waits, and how often it tries; every wait ends.

    Attributes:
        greeting_s: until a board must have answered HELLO; it may still be booting.
        greeting_try_s: for the answer to the first HELLO; the n-th waits n times as long.
        reply_s: for the answer to any request but RUN, its way over the line included; the n-th try waits n times as long.
        tries: of one request but RUN, and of writing or reading one buffer as a whole.
        first_run_s: for the first inference, whose time nobody knows.
        run_margin: further inferences may take this multiple of the longest seen.
        run_tries: of one RUN; their waits grow in the same way.
        call_s: for all traffic of one call of `LinkedBoard` together, besides its RUNs.
    """

    greeting_s: float = 10.0
    greeting_try_s: float = 0.5
    reply_s: float = 1.0
    tries: int = 4
    first_run_s: float = 30.0
    run_margin: float = 8.0
    run_tries: int = 3
    call_s: float = 60.0


@dataclass
class Trouble:
    """What was repeated or dropped; but for `greetings` all zero on a good line.

    Attributes:
        retries: requests that were asked again.
        greetings: HELLOs beyond the first; a few are usual where a board boots or a pseudo-terminal is opened late.
        bad_frames: damaged frames, and text between frames, that the host dropped.
        stale_replies: answers to requests that were no longer open.
        rewrites: windows that were sent again because the board's buffer did not hold them.
        rereads: outputs that were read again because their checksum was another.
    """

    retries: int = 0
    greetings: int = 0
    bad_frames: int = 0
    stale_replies: int = 0
    rewrites: int = 0
    rereads: int = 0


class Answer(NamedTuple):
    """An answer's payload, and the time from its very request to it."""

    payload: bytes
    took_s: float


class Link:
    """The host's end of the protocol.

    Args:
        session: number of this connection, not 0; drawn at random if not given.
        clock: seconds, never running backwards.
    """

    def __init__(
        self, transport: Transport, timeouts: Timeouts, *, session: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.trouble = Trouble()
        self.clock = clock
        self.timeouts = timeouts
        self.transport = transport
        self._session = secrets.randbelow((1 << 32) - 1) + 1 if session is None else session
        self._sequence = 0
        self._receiver = Receiver()

    def greet(self) -> bytes:
        """The payload of the board's answer to HELLO. What arrived before is thrown away.

        Raises:
            LinkError: no answer in `greeting_s`, a board of another protocol, or a port that is gone.
        """
        stale = 0
        while stale < STALE_LIMIT_BYTES and (data := self.transport.read(0.0)):
            stale += len(data)
        greetings = 0
        until = self.clock() + self.timeouts.greeting_s
        while self.clock() < until:
            self.trouble.greetings += greetings > 0
            greetings += 1
            answer = self._ask(Kind.HELLO, struct.pack("<I", self._session), greetings * self.timeouts.greeting_try_s, until)
            if answer:
                return answer.payload
        raise LinkError(
            f"{self.transport.name}: no answer to {greetings} HELLOs in {self.timeouts.greeting_s:g} s; {self._seen()}. Is the "
            "board powered, flashed with firmware of hwnas, the port its own and the baud rate that of its firmware? Reset it and try again"
        )

    def request(self, kind: Kind, payload: bytes = b"", *, timeout_s: float, tries: int, until: float = math.inf) -> Answer:
        """The answer to a request, asked up to `tries` times, but not beyond the time `until`.

        The n-th try waits n times `timeout_s`: a board that is only slow has all earlier tries to work off first.

        Raises:
            LinkError: no answer, a refusal (says which), a reset board, or a port that is gone.
        """
        asked, start = 0, self.clock()
        while asked < tries and self.clock() < until:
            self.trouble.retries += asked > 0
            asked += 1
            answer = self._ask(kind, payload, asked * timeout_s, until)
            if answer:
                return answer
        spent = f", and the time for this window's traffic ({self.timeouts.call_s:g} s) was used up" if asked < tries else ""
        raise LinkError(
            f"{self.transport.name}: no answer to {kind.name} after {asked} of {tries} tries in {self.clock() - start:.3g} s{spent}; "
            f"{self._seen()}. Look at cable and supply, reset the board and run the command again, with a longer time-out if it is slow"
        )

    def _ask(self, kind: Kind, payload: bytes, timeout_s: float, until: float) -> Answer | None:
        """One try."""
        self._sequence = (self._sequence + 1) % SEQUENCES
        start = self.clock()
        deadline = min(start + timeout_s, until)
        self.transport.write(encode(Frame(kind, self._sequence, self._session, payload)), deadline - start)
        while (left_s := deadline - self.clock()) > 0:
            found = None
            for frame in self._receiver.feed(self.transport.read(left_s)):
                if found is None and self._answers(frame, kind):
                    found = frame
                else:
                    self.trouble.stale_replies += 1
            self.trouble.bad_frames = self._receiver.bad_frames
            if found:
                return Answer(self._accepted(found, kind), self.clock() - start)
        return None

    def _answers(self, frame: Frame, kind: Kind) -> bool:
        own = frame.sequence == self._sequence and frame.session == self._session
        return own and (frame.kind in (kind | REPLY, ERROR))

    def _accepted(self, frame: Frame, kind: Kind) -> bytes:
        """The payload of an answer that is no refusal."""
        name = self.transport.name
        if frame.version != PROTOCOL:
            raise LinkError(f"{name}: the board speaks version {frame.version} of the protocol, this is {PROTOCOL}; flash it anew")
        if frame.kind != ERROR:
            return frame.payload
        code = int.from_bytes(frame.payload[:2], "little")
        said = frame.payload[2:].decode(errors="replace").strip() or "no reason"
        meaning = REFUSALS[Code(code)] if code in REFUSALS else "an error that this version of hwnas does not know: flash its firmware"
        raise LinkError(f"{name}: the board refuses {kind.name} with error {code} ({said}): {meaning}")

    def _seen(self) -> str:
        """What did arrive, for a person who looks for the cause."""
        received, bad, stale = self._receiver.received_bytes, self.trouble.bad_frames, self.trouble.stale_replies
        if not received:
            return "not one byte has ever arrived"
        return f"of {received} bytes so far {bad} frames were damaged or text, {stale} answers came too late or twice"
