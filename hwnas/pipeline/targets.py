"""Where students run besides the emulator: which image a target needs, how it gets there, and the board behind it. Runs compilers and
processes, opens ports; writes a temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast, get_args

from hwnas.errors import FirmwareError, UsageError, unknown
from hwnas.firmware.board import Board, LinkedBoard, check_identity
from hwnas.firmware.board_image import Delay, Flip, Image, Port, build_image, find_port, flip_weight
from hwnas.firmware.cortex_m4 import CORTEX_M4
from hwnas.firmware.link import Timeouts, Transport
from hwnas.firmware.machine import read_elf
from hwnas.firmware.transports import BAUD, ProcessPipe, QemuPty, SerialPort, until_our_end
from hwnas.hardware.profile import Memory
from hwnas.pipeline.progress import Progress
from hwnas.resources import write_bytes

Kind = Literal["emulator", "qemu", "serial", "exec"]
EXAMPLES = "emulator, qemu, serial:/dev/ttyACM0 or exec:'qemu-aarch64 {image}'"
IMAGE = "{image}"  # stands for the file of the built image in commands: an ELF file
BINARY = "{binary}"  # for its bytes alone, as they lie in flash, for programmers that know no ELF
QEMU_PORT, EXEC_PORT, HOST_PORT = "stm32f405", "linux-aarch64", "host"
FLASH_S = 180.0
WINDOW_ANSWERS = 6  # as long as allowed, that one window may take together
NAME_CHARACTERS = 80
MESSAGE_CHARACTERS = 2000  # of what another program says, in an error


@dataclass(frozen=True)
class Target:
    """Where a student runs.

    Attributes:
        place: the device of a serial port, or a command; empty for others.
        name: for files.
    """

    kind: Kind
    place: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" if self.place else self.kind


@dataclass(frozen=True)
class Connection:
    """How a program gets to a target.

    Attributes:
        port: what images are built for: the name of a port, or its folder; None for the target's own.
        flash: command that puts an image on the board.
        timeout_s: patience with one answer, where it is not the link's own.
    """

    target: Target
    port: str | None = None
    flash: str | None = None
    baud: int = BAUD
    timeout_s: float | None = None

    def needs(self) -> Port | None:
        """The port that an image is built for; None where the program is on the board already.

        Raises:
            UsageError: no such port, or options that contradict each other.
        """
        kind, holds_image = self.target.kind, IMAGE in self.target.place
        if self.flash is not None and kind != "serial":
            raise UsageError(f"--flash is for serial ports; '{self.target}' is started with its image: {EXAMPLES}")
        if self.flash is not None and IMAGE not in self.flash and BINARY not in self.flash:
            raise UsageError(f"--flash {self.flash!r} names no image; write {IMAGE} (ELF) or {BINARY} (raw) where its file belongs")
        if self.flash is not None and self.port is None:
            raise UsageError("--flash needs --port: which board is the image built for?")
        if kind == "exec" and BINARY in self.target.place:
            raise UsageError(f"--target {self.target}: {BINARY} is for --flash; a process is started with {IMAGE}, an ELF file")
        default = {"qemu": QEMU_PORT, "exec": EXEC_PORT if holds_image else None, "serial": None, "emulator": None}[kind]
        builds = kind == "qemu" or holds_image or self.flash is not None
        if not builds and self.port is not None:
            how = {"serial": "give --flash", "exec": f"write {IMAGE} in the command"}.get(kind, "leave it out: the emulator has no ports")
            raise UsageError(f"--port {self.port}: nothing is built for '{self.target}'; {how}")
        name = self.port or default
        port = find_port(name) if builds and name is not None else None
        if kind == "qemu" and port is not None and port.runs_linux:
            raise UsageError(f"--port {port.name}: QEMU's board is an STM32F405 and runs no Linux program; leave --port out")
        return port


class Firmware(NamedTuple):
    """A folder of exported C, and what its program must say of itself."""

    folder: Path
    kernel_set: str
    graph_hash: str
    weights_hash: str


class Linked(NamedTuple):
    """A board that was greeted, and the image that was built for it, if one was."""

    board: Board
    image: Image | None


def parse_target(text: str) -> Target:
    """The target that `text` names; raises UsageError for anything else, with what there is."""
    kind, colon, place = text.partition(":")
    if kind not in get_args(Kind):
        hint = f" A serial port is given as serial:{text}" if text.startswith(("/dev/", "COM", "tty")) else ""
        raise UsageError(f"--target: {unknown('target', kind, get_args(Kind))}{hint or f' Such as {EXAMPLES}'}")
    found = cast(Kind, kind)
    if found in ("emulator", "qemu"):
        if colon:
            raise UsageError(f"--target {text}: nothing belongs behind '{kind}'; write --target {kind}")
        return Target(found, "", kind)
    if not place.strip():
        raise UsageError(f"--target {text}: a {'device' if found == 'serial' else 'command'} belongs behind '{kind}:'; such as {EXAMPLES}")
    parts = [Path(place).name] if found == "serial" else [Path(word).name for word in words(place, "--target") if word != IMAGE]
    name = re.sub(r"[^\w.]+", "-", "-".join([kind, *parts])).strip("-.")
    return Target(found, place, name[:NAME_CHARACTERS])


def words(command: str, flag: str) -> list[str]:
    """A command as its words; no shell sees it."""
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{flag}: {command!r} is no command ({error}); close its quotation marks") from error
    if not found:
        raise UsageError(f"{flag}: the command is empty")
    return found


@contextmanager
def linked(
    connection: Connection,
    port: Port | None,
    firmware: Firmware,
    memory: Memory,
    progress: Progress,
    *,
    delay: Delay | None = None,
    flip: Flip | None = None,
) -> Iterator[Linked]:
    """The board of `connection` with `firmware` on it, built and flashed where `port` is given, greeted and checked.

    Args:
        memory: where the image is placed if its port does not say.
        delay, flip: faults to build in.

    Raises:
        FirmwareError: it does not build or flash. IdentityError: the board runs other firmware. LinkError: it cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-board-") as work:
        image = None
        if port is not None:
            progress.stage(f"building for {port.name}")
            path, placed = Path(work) / "hwnas.elf", memory if port.profile is None else None
            built_in = flip if port.runs_linux and port.core else None  # the image has no symbols to find weights by
            image = build_image(
                firmware.folder, path, port, kernel_set=firmware.kernel_set, memory=placed, delay=delay, flip=built_in, baud=connection.baud
            )
            if flip is not None and built_in is None:
                image = replace(image, path=path.with_name("hwnas-wrong.elf"))
                flip_weight(path, image.path, flip)
        if connection.flash is not None and image is not None:
            progress.stage("flashing the board")
            if BINARY in connection.flash:
                write_binary(image.path)
            flash(connection.flash, image.path)
        progress.stage(f"greeting {connection.target}")
        with LinkedBoard(_transport(connection, image), _timeouts(connection.timeout_s)) as board:
            check_identity(
                board.identity,
                kernel_set=firmware.kernel_set,
                graph_hash=firmware.graph_hash,
                weights_hash=firmware.weights_hash,
                has_fault=delay is not None or flip is not None,
            )
            yield Linked(board, image)


def write_binary(image: Path) -> None:
    """Write the bytes of the Cortex-M4 program `image`, as they lie in flash, beside it.

    Raises:
        FirmwareError: another kind of program.
    """
    write_bytes(_binary(image), read_elf(image, CORTEX_M4).flash)


def _binary(image: Path) -> Path:
    return image.with_suffix(".bin")


def flash(command: str, image: Path) -> None:
    """Run the user's flash command; the file that it names for `{binary}` is there already.

    Raises:
        FirmwareError: it cannot run, fails or takes too long; with what it said.
    """
    filled = [word.replace(IMAGE, str(image)).replace(BINARY, str(_binary(image))) for word in words(command, "--flash")]
    shown = shlex.join(filled)
    if not shutil.which(filled[0]):
        raise FirmwareError(
            f"--flash: {filled[0]} cannot run: there is no such program, or it may not be executed; install it or correct the command"
        )
    # A file, not a pipe: what goes on running in the background, such as a debug server, may keep it open.
    with tempfile.TemporaryFile() as output:
        # A group of its own, so that what it starts ends with it.
        process = subprocess.Popen(
            [*until_our_end(), *filled], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(FLASH_S)
        except subprocess.TimeoutExpired:
            _end(process)
            raise FirmwareError(f"--flash: {shown} was stopped after {FLASH_S:g} s; it said:\n{_tail(output)}") from None
        except BaseException:
            _end(process)
            raise
        if process.returncode:
            raise FirmwareError(f"--flash: {shown} failed with status {process.returncode}; it said:\n{_tail(output)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace").strip()[-MESSAGE_CHARACTERS:] or "nothing"


def _transport(connection: Connection, image: Image | None) -> Transport:
    target = connection.target
    if target.kind == "serial":
        return SerialPort(target.place, connection.baud)
    if target.kind == "qemu" and image is not None:
        return QemuPty(image.path)
    path = str(image.path) if image else ""
    return ProcessPipe([word.replace(IMAGE, path) for word in words(target.place, "--target")])


def _timeouts(timeout_s: float | None) -> Timeouts:
    own = Timeouts()
    if timeout_s is None:
        return own
    return replace(own, greeting_s=timeout_s, reply_s=timeout_s, first_run_s=timeout_s, call_s=max(own.call_s, WINDOW_ANSWERS * timeout_s))
