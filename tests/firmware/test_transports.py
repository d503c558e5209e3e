"""Ports, pipes and pseudo-terminals: every byte passes, nothing hangs, nothing is left behind; and the C end of the link behind them."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from faulty_line import KINDS, Fault, FaultKind, FaultyLine, Made, Plugged, ReferenceBoard, draw, expected_output, made_student

from hwnas.errors import FirmwareError, LinkError
from hwnas.firmware.board import Counter, LinkedBoard, check_identity
from hwnas.firmware.link import Timeouts, Transport
from hwnas.firmware.transports import ProcessPipe, QemuPty, SerialPort

BYTES = bytes(range(256))
WAIT_S = 10.0  # for what happens at once; reached only where it never does
SHORT = Timeouts(greeting_s=0.3, greeting_try_s=0.05, reply_s=0.05, first_run_s=0.2, call_s=2.0)
QEMU_ABSENT = pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
SETPRIV_ABSENT = pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")


def is_running(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ends(process_id: int) -> bool:
    """Whether a process ends soon."""
    until = time.monotonic() + WAIT_S
    while is_running(process_id):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def read(line: Transport, size: int) -> bytes:
    """`size` bytes, or what came before WAIT_S were over."""
    data, until = b"", time.monotonic() + WAIT_S
    while len(data) < size and time.monotonic() < until:
        data += line.read(0.1)
    return data


# Serial ports


class Terminal:
    """A pseudo-terminal: the far end of a cable, and the device at this end."""

    def __init__(self) -> None:
        self.far, near = pty.openpty()
        self.device = os.ttyname(near)
        self._near = near

    def hang_up(self) -> None:
        """Pull the cable; twice is once."""
        for descriptor in (self.far, self._near):
            if descriptor >= 0:
                os.close(descriptor)
        self.far = self._near = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.hang_up()


@pytest.fixture
def port(terminal: Terminal) -> Iterator[SerialPort]:
    opened = SerialPort(terminal.device)
    yield opened
    opened.close()


def test_every_byte_passes_a_port_unchanged_both_ways(terminal: Terminal, port: SerialPort) -> None:
    """Raw mode: no line ends, no signals, no flow control by characters."""
    os.write(terminal.far, BYTES * 3)
    assert read(port, 768) == BYTES * 3
    port.write(BYTES * 3, 1.0)
    assert os.read(terminal.far, 4096) == BYTES * 3


def test_a_port_echoes_nothing(terminal: Terminal, port: SerialPort) -> None:
    os.write(terminal.far, b"hello\r\n")
    assert read(port, 7) == b"hello\r\n"
    os.set_blocking(terminal.far, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.far, 100)


def test_what_came_before_a_port_was_opened_is_thrown_away(terminal: Terminal) -> None:
    os.write(terminal.far, b"old")
    port = SerialPort(terminal.device)
    os.write(terminal.far, b"new")
    assert read(port, 3) == b"new"
    port.close()


def test_nothing_to_read_is_nothing(port: SerialPort) -> None:
    assert port.read(0.0) == port.read(0.01) == b""


def test_a_port_that_vanishes_is_told(terminal: Terminal, port: SerialPort) -> None:
    terminal.hang_up()
    for use in (lambda: port.read(1.0), lambda: port.write(b"x", 1.0)):
        with pytest.raises(LinkError, match=rf"serial:{terminal.device}: the port vanished or was closed .*cable"):
            use()


def test_a_closed_port_is_told(port: SerialPort) -> None:
    port.close()
    port.close()
    with pytest.raises(LinkError, match="closed"):
        port.read(0.0)


def test_a_port_that_nobody_reads_is_told(port: SerialPort) -> None:
    with pytest.raises(LinkError, match=r"of 1000000 bytes could not be sent in 0.05 s: the other end does not read"):
        port.write(bytes(1_000_000), 0.05)


def test_a_port_that_another_program_has(terminal: Terminal, port: SerialPort) -> None:
    with pytest.raises(LinkError, match=r"cannot be opened at 9600 baud .*another program has it"):
        SerialPort(terminal.device, 9600)


def test_ports_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"serial:/dev/ttyNONE7: cannot be opened at 115200 baud .*ports here: "):
        SerialPort("/dev/ttyNONE7")
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkError, match="cannot be opened"):
        SerialPort(str(tmp_path / "file"))


def test_a_baud_rate_that_is_none(terminal: Terminal) -> None:
    with pytest.raises(LinkError, match="cannot be opened at -5 baud"):
        SerialPort(terminal.device, -5)


def test_a_board_behind_a_port(terminal: Terminal) -> None:
    """The whole link over a terminal, its far end served in a thread until the terminal is gone."""
    board = ReferenceBoard()

    def serve() -> None:
        try:
            while True:
                for answer, _ in board.receive(os.read(terminal.far, 4096)):
                    os.write(terminal.far, answer)
        except OSError:
            return

    os.write(terminal.far, b"boot banner, lost\r\n")
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with LinkedBoard(SerialPort(terminal.device)) as linked:
        window = np.arange(1000).astype(np.int8)
        np.testing.assert_array_equal(linked.run(window, repeats=3, operators=True).output, expected_output(window, 6))
        assert not any(vars(linked.trouble).values())


# Processes


def test_every_byte_passes_a_pipe_unchanged() -> None:
    line = ProcessPipe("cat")
    line.write(BYTES * 100, 1.0)
    assert read(line, 25_600) == BYTES * 100
    assert line.read(0.0) == b""
    line.close()
    line.close()
    assert not is_running(line.process_id)
    with pytest.raises(LinkError, match="exec:cat: it is closed"):
        line.read(0.0)
    with pytest.raises(LinkError, match="exec:cat: it is closed"):
        line.write(b"x", 0.0)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sh -c 'echo wrong core >&2; exit 3'", r"the process ended with status 3; its last words: wrong core\. Run the command"),
        ("sh -c 'kill -SEGV $$'", r"the process ended by signal 11 \(SIGSEGV\); it said nothing"),
        ("sh -c 'exec >&-; sleep 100'", "the process closed its output"),
    ],
)
def test_a_process_that_ends_is_told(command: str, words: str) -> None:
    line = ProcessPipe(command)
    with pytest.raises(LinkError, match=words):
        read(line, 1)
    line.close()
    assert not is_running(line.process_id)


def test_writing_to_a_process_that_has_ended_is_told() -> None:
    line = ProcessPipe("true")
    assert ends(line.process_id)
    with pytest.raises(LinkError, match="the process ended with status 0"):
        line.write(b"x", 1.0)
    line.close()


def test_a_process_that_does_not_read_is_told() -> None:
    line = ProcessPipe("sleep 100")
    with pytest.raises(LinkError, match="the other end does not read"):
        line.write(bytes(1_000_000), 0.05)
    line.close()


def test_a_process_that_only_complains_fills_nothing() -> None:
    """Its error stream is read while waiting, or it would stop; only the last words are kept."""
    line = ProcessPipe("sh -c 'head -c 1000000 /dev/zero | tr \"\\0\" x >&2; echo the end >&2; echo done'")
    assert read(line, 5) == b"done\n"
    with pytest.raises(LinkError, match=r"xxthe end\."):
        read(line, 1)
    line.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program-7 x", "there is no program 'no-such-program-7' to start"),
        ("", "there is no program '' to start"),
        ("sh -c 'x", "this is no command"),
    ],
)
def test_commands_that_are_none(command: str, words: str) -> None:
    with pytest.raises(LinkError, match=words):
        ProcessPipe(command)


@pytest.mark.parametrize("command", ["sleep 1000", "yes", "cat", "sh -c 'trap \"\" TERM; echo x; sleep 1000; sleep 1000'"])
def test_a_process_that_is_no_board_is_told_and_ended(command: str) -> None:
    """Silent, babbling without end, echoing, and deaf to SIGTERM."""
    line = ProcessPipe(command)
    with pytest.raises(LinkError, match=r"no answer to \d+ HELLOs in 0.3 s"):
        LinkedBoard(line, SHORT)
    assert not is_running(line.process_id)


def test_what_a_process_started_ends_with_it() -> None:
    line = ProcessPipe("sh -c 'sleep 1000 & echo $!; wait'")
    grandchild = int(read(line, 2) + line.read(0.1))
    assert is_running(grandchild)
    line.close()
    assert ends(grandchild)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_exception_leaves_no_process_behind(error: type[BaseException], host_image: Path) -> None:
    line = ProcessPipe([str(host_image)])
    with pytest.raises(error), LinkedBoard(line):
        assert is_running(line.process_id)
        raise error
    assert not is_running(line.process_id)


@SETPRIV_ABSENT
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_host_leaves_no_process_behind(number: signal.Signals, root: Path) -> None:
    script = "from hwnas.firmware.transports import ProcessPipe; import time; p = ProcessPipe('sleep 1000'); "
    script += "print(p.process_id, flush=True); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as host:
        assert host.stdout
        child = int(host.stdout.readline())
        assert is_running(child)
        host.send_signal(number)
    assert ends(child)


# The C end, as a program of this machine


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_student(tmp_path_factory.mktemp("linked") / "model", seed=3)


@pytest.fixture(scope="session")
def host_image(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.image(tmp_path_factory.mktemp("host"), "host")


@pytest.fixture(scope="session")
def qemu_image(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.image(tmp_path_factory.mktemp("qemu"), "stm32f405")


def test_a_student_on_this_machine(made: Made, host_image: Path) -> None:
    with LinkedBoard(ProcessPipe([str(host_image)])) as board:
        identity = board.identity
        check_identity(identity, kernel_set=made.kernel_set, graph_hash=made.graph_hash, weights_hash=made.weights_hash)
        assert identity.counter is Counter.HOST_NANOSECONDS
        for window, output in zip(made.windows, made.outputs, strict=True):
            run = board.run(window, warm_up=1, repeats=3, operators=True)
            np.testing.assert_array_equal(run.output, output)
            assert min(run.ticks) > 0
            assert len(run.operator_ticks) == identity.operators
        assert board.usage().runs == len(made.windows) + 1
        assert not any(vars(board.trouble).values())


def harmed(plugged: Plugged, made: Made, kind: FaultKind, seed: int, timeouts: Timeouts) -> tuple[str, int]:
    """What came of one faulty run, and the tries it took."""
    rng = np.random.default_rng(seed)
    line = FaultyLine(plugged, time.monotonic, rng, plugged.reset, plugged.vanish)
    board = LinkedBoard(line, timeouts)
    line.arm(draw(kind, 5, timeouts.reply_s, rng))
    index = int(rng.integers(len(made.windows)))
    try:
        output = board.run(made.windows[index], repeats=2).output
    except LinkError as error:
        assert str(error).startswith(plugged.name)
        return "reason", board.trouble.retries
    np.testing.assert_array_equal(output, made.outputs[index])
    return "right", board.trouble.retries


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_gives_a_wrong_result_from_the_c_end(kind: FaultKind, made: Made, host_image: Path) -> None:
    timeouts = Timeouts(greeting_s=5.0, greeting_try_s=0.02, reply_s=0.02, tries=3, first_run_s=0.05, run_tries=2, call_s=1.0)
    plugged = Plugged(lambda: ProcessPipe([str(host_image)]))
    try:
        for seed in range(4):
            harmed(plugged, made, kind, seed, timeouts)
            if kind in ("reset", "vanished"):
                plugged.plug_in()
    finally:
        plugged.close()


def test_a_process_that_is_killed_in_mid_run_is_told(made: Made, host_image: Path) -> None:
    plugged = Plugged(lambda: ProcessPipe([str(host_image)]))
    line = FaultyLine(plugged, time.monotonic, np.random.default_rng(0), plugged.reset, plugged.vanish)
    with LinkedBoard(line) as board:
        board.run(made.windows[0])
        line.arm(Fault("vanished", to_board=True, first=2, number=1, scale_s=0.05))
        with pytest.raises(LinkError, match=r"the process ended by signal 9 \(SIGKILL\)"):
            board.run(made.windows[0], warm_up=65_000)


# The same in QEMU, behind a pseudo-terminal


@QEMU_ABSENT
def test_a_student_in_qemu(made: Made, qemu_image: Path) -> None:
    line = QemuPty(qemu_image)
    with LinkedBoard(line) as board:
        check_identity(board.identity, kernel_set=made.kernel_set, graph_hash=made.graph_hash, weights_hash=made.weights_hash)
        assert board.identity.counter is Counter.NONE
        run = board.run(made.windows[0], repeats=2, operators=True)
        np.testing.assert_array_equal(run.output, made.outputs[0])
        assert (run.ticks, set(run.operator_ticks)) == ((0, 0), {0})
        assert board.usage().stack_bytes
        assert is_running(line.process_id)
        os.kill(line.process_id, signal.SIGKILL)
        with pytest.raises(LinkError, match=r"qemu:.*the process ended by signal 9"):
            board.run(made.windows[0])
    assert not is_running(line.process_id)


@QEMU_ABSENT
def test_firmware_of_another_student_is_refused(made: Made, qemu_image: Path) -> None:
    with LinkedBoard(QemuPty(qemu_image)) as board, pytest.raises(FirmwareError, match="its weights hash is weights-3, expected mine"):
        check_identity(board.identity, kernel_set=made.kernel_set, graph_hash=made.graph_hash, weights_hash="mine")


@QEMU_ABSENT
def test_what_qemu_cannot_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"absent.elf: the process ended with status 1; its last words: .*absent.elf"):
        LinkedBoard(QemuPty(tmp_path / "absent.elf"))
