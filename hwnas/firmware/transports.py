"""The lines to a board: a serial port, a process's standard streams, QEMU behind a pseudo-terminal. Opens ports, starts processes.

Whatever happens, nothing is waited for without end and no process is left behind: a transport ends what it started when it is closed, and
where `setpriv` is installed (Linux) the kernel ends it even if this process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import serial
from serial.tools import list_ports

from hwnas.errors import LinkError

BAUD = 115200
CHUNK_BYTES = 1 << 16
START_S = 10.0  # for QEMU to name its pseudo-terminal
GRACE_S = 1.0  # between asking a process to end and ending it
LAST_WORDS_BYTES = 2000
# STM32F405: Cortex-M4F, 1 MB flash, 192 KB SRAM. `-serial pty` makes USART1 a pseudo-terminal.
QEMU = ("qemu-system-arm", "-M", "netduinoplus2", "-display", "none", "-monitor", "none", "-serial", "pty")
PTY = re.compile(rb"char device redirected to (/dev/\S+)")
HINTS = {
    errno.EACCES: "you may not open it: become a member of its group (`ls -l` says which, often dialout) and log in again",
    errno.EPERM: "you may not open it: become a member of its group (`ls -l` says which, often dialout) and log in again",
    errno.EBUSY: "another program has it: close that terminal or debugger",
    errno.EAGAIN: "another program has it: close that terminal or debugger",
}


class SerialPort:
    """A serial port in raw mode, 8N1, no echo, locked for this program. What arrived before it was opened is thrown away.

    Raises:
        LinkError: it cannot be opened; says why, and which ports there are.
    """

    def __init__(self, device: str, baud: int = BAUD) -> None:
        self.name = f"serial:{device}"
        try:
            self._port = serial.Serial(device, baud, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, ValueError, termios.error) as error:
            hint = HINTS.get(getattr(error, "errno", None) or 0) or f"ports here: {_ports()}"
            raise LinkError(f"{self.name}: cannot be opened at {baud} baud ({error}); {hint}") from error

    def read(self, timeout_s: float) -> bytes:
        try:
            descriptor = self._port.fileno()
            if not _ready([descriptor], select.POLLIN, timeout_s):
                return b""
            data = os.read(descriptor, CHUNK_BYTES)
        except OSError as error:
            raise self._gone(error) from error
        if not data:  # ready, and nothing there
            raise self._gone("end of file")
        return data

    def write(self, data: bytes, timeout_s: float) -> None:
        try:
            _write(self._port.fileno(), data, timeout_s, self.name)
        except OSError as error:
            raise self._gone(error) from error

    def close(self) -> None:
        with contextlib.suppress(OSError, termios.error):
            self._port.reset_output_buffer()  # else a close waits until all is sent, half a minute on some drivers
        with contextlib.suppress(OSError, termios.error):
            self._port.close()

    def _gone(self, cause: object) -> LinkError:
        return LinkError(
            f"{self.name}: the port vanished or was closed ({cause}); look at cable and supply, and whether the board comes back under "
            f"another name (ports here: {_ports()}), then run the command again"
        )


class ProcessPipe:
    """A program that speaks on its standard streams, started here: the host build, `qemu-aarch64 IMAGE`, `adb shell ...`.

    Args:
        command: split as a shell does, run without one.

    Raises:
        LinkError: there is no such program.
    """

    def __init__(self, command: str | Sequence[str]) -> None:
        try:
            words = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise LinkError(f"exec:{command}: this is no command ({error}); close its quotation marks") from error
        self.name = f"exec:{shlex.join(words)}"
        self._child = Child(words, self.name)

    @property
    def process_id(self) -> int:
        return self._child.process_id

    def read(self, timeout_s: float) -> bytes:
        return self._child.read(timeout_s)

    def write(self, data: bytes, timeout_s: float) -> None:
        self._child.write(data, timeout_s)

    def close(self) -> None:
        self._child.close()


class QemuPty:
    """QEMU's STM32F405 with `image` in its flash; its serial line is opened as any other serial port.

    Args:
        options: further ones of QEMU.

    Raises:
        LinkError: QEMU is not installed, does not start, or names no pseudo-terminal.
    """

    def __init__(self, image: Path, options: Sequence[str] = ()) -> None:
        self.name = f"qemu:{image}"
        self._child = Child([*QEMU, *options, "-kernel", str(image)], self.name)
        try:
            with self._explained():
                self._port = SerialPort(self._terminal())
        except BaseException:
            self._child.close()
            raise

    @property
    def process_id(self) -> int:
        return self._child.process_id

    def read(self, timeout_s: float) -> bytes:
        with self._explained():
            return self._port.read(timeout_s)

    def write(self, data: bytes, timeout_s: float) -> None:
        with self._explained():
            self._port.write(data, timeout_s)

    def close(self) -> None:
        self._port.close()
        self._child.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A port fails where QEMU ends: say that then."""
        try:
            yield
        except LinkError as error:
            if ended := self._child.ended(GRACE_S):
                raise ended from error
            raise

    def _terminal(self) -> str:
        """The pseudo-terminal that QEMU names on its standard output."""
        said, until = b"", time.monotonic() + START_S
        while (left_s := until - time.monotonic()) > 0 and len(said) < CHUNK_BYTES:
            said += self._child.read(left_s)
            if found := PTY.search(said):
                return found[1].decode()
        raise LinkError(f"{self.name}: QEMU named no pseudo-terminal in {START_S:g} s; it said: {_text(said)}")


class Child:
    """A process in a group of its own, with its three streams."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        self.name = name
        if not command or not shutil.which(command[0]):
            raise LinkError(f"{name}: there is no program '{command[0] if command else ''}' to start; install it, or give its whole path")
        # A group of its own: a Ctrl-C in the terminal ends this process, which ends the group, in order.
        self._process = subprocess.Popen(
            [*until_our_end(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._last_words = b""
        self._stdin, self._stdout, self._stderr = (
            _descriptor(s) for s in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._is_closed = self._is_quiet = False  # quiet: the error stream has ended

    @property
    def process_id(self) -> int:
        return self._process.pid

    def read(self, timeout_s: float) -> bytes:
        """As of `Transport`; keeps what the process writes to its error stream for the message."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._is_closed:
                raise LinkError(f"{self.name}: it is closed")
            streams = [self._stdout] if self._is_quiet else [self._stdout, self._stderr]
            ready = _ready(streams, select.POLLIN, deadline - time.monotonic())
            if self._stderr in ready:
                self._listen()
            if self._stdout in ready:
                data = os.read(self._stdout, CHUNK_BYTES)
                if not data:
                    raise self.ended(GRACE_S) or LinkError(f"{self.name}: the process closed its output; {self._said()}")
                return data
            if time.monotonic() >= deadline:
                return b""

    def write(self, data: bytes, timeout_s: float) -> None:
        """As of `Transport`."""
        if self._is_closed:
            raise LinkError(f"{self.name}: it is closed")
        try:
            _write(self._stdin, data, timeout_s, self.name)
        except OSError as error:
            raise self.ended(GRACE_S) or LinkError(f"{self.name}: the process takes no more input ({error}); {self._said()}") from error

    def ended(self, within_s: float = 0.0) -> LinkError | None:
        """What to say of a process that has ended, or ends `within_s`; None of one that runs."""
        if self._is_closed or not self._exits(within_s):
            return None
        found = os.waitid(os.P_PID, self.process_id, os.WEXITED | os.WNOWAIT)
        code = found.si_status if found else 0
        how = f"with status {code}" if found and found.si_code == os.CLD_EXITED else f"by signal {code} ({_signal_name(code)})"
        while not self._is_quiet and _ready([self._stderr], select.POLLIN, 0.0):
            self._listen()
        return LinkError(f"{self.name}: the process ended {how}; {self._said()}. Run the command by itself to see why, then try again")

    def close(self) -> None:
        """End the group: politely, then for certain. The process is not reaped before, so that its number is still its own."""
        if self._is_closed:
            return
        self._is_closed = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process_id, number)
            self._exits(GRACE_S)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it ends when that lets go
            self._process.wait(GRACE_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]

    def _exits(self, within_s: float) -> bool:
        """Whether it has ended or does so in time; it stays a zombie."""
        until = time.monotonic() + within_s
        while os.waitid(os.P_PID, self.process_id, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() >= until:
                return False
            time.sleep(0.001)
        return True

    def _listen(self) -> None:
        data = os.read(self._stderr, CHUNK_BYTES)
        self._is_quiet = not data
        self._last_words = (self._last_words + data)[-LAST_WORDS_BYTES:]

    def _said(self) -> str:
        return f"its last words: {_text(self._last_words)}" if self._last_words.strip() else "it said nothing on its error stream"


def _ready(descriptors: Sequence[int], events: int, timeout_s: float) -> list[int]:
    """Those that have what is asked for, or have ended, after at most `timeout_s`."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, events)
    return [descriptor for descriptor, _ in poll.poll(max(0, math.ceil(1000 * timeout_s)))]


def _write(descriptor: int, data: bytes, timeout_s: float, name: str) -> None:
    """All of `data` in time, or LinkError; OSError where the other end is gone."""
    os.set_blocking(descriptor, False)
    rest, until = memoryview(data), time.monotonic() + timeout_s
    while rest:
        with contextlib.suppress(BlockingIOError):
            rest = rest[os.write(descriptor, rest) :]
        if rest and not _ready([descriptor], select.POLLOUT, until - time.monotonic()) and time.monotonic() >= until:
            raise LinkError(
                f"{name}: {len(rest)} of {len(data)} bytes could not be sent in {timeout_s:.3g} s: the other end does not read; "
                "reset the board and run the command again"
            )


def _descriptor(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise LinkError("a process was started without its streams; report this")
    return stream.fileno()


def until_our_end() -> list[str]:
    """A prefix that has the kernel end the command when the thread that started it ends, however it ends.

    The shell looks whether that happened before the kernel was asked.
    """
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())] if found else []


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip() or "nothing"


def _ports() -> str:
    return ", ".join(sorted(port.device for port in list_ports.comports())) or "none"
