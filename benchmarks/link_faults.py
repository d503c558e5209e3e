"""Faults on the line to a board: is a wrong result ever accepted, does anything hang, and is every failure explained?

`--faults` of each kind strike runs of a made student in C over a process of this machine, `--qemu` of each over QEMU's STM32F405 behind a
pseudo-terminal; then images of another model, and of other kernels, must be refused before they run anything. Outputs are compared with
the integer reference. Time-outs are short, so that thousands take minutes. Writes `benchmarks/results/link_faults.json`; the status is 1
where a result was wrong, a run took longer than its stated bound, or anything else happened than a result or a reason.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path += [str(TESTS), str(TESTS / "firmware")]
from faulty_line import KINDS, FaultKind, FaultyLine, Made, Plugged, draw, made_student  # noqa: E402

from hwnas.errors import FirmwareError, LinkError  # noqa: E402
from hwnas.firmware.board import OFFSET, LinkedBoard, check_identity  # noqa: E402
from hwnas.firmware.frames import PAYLOAD_MAX_BYTES  # noqa: E402
from hwnas.firmware.link import Timeouts  # noqa: E402
from hwnas.firmware.transports import ProcessPipe, QemuPty  # noqa: E402
from hwnas.resources import write_text  # noqa: E402

FAULTS, QEMU_FAULTS, REFUSALS = 1000, 20, 10
STUDENT, OTHER_STUDENT = 7, 4  # seeds
CONNECTIONS = 5  # tries to make one on an undisturbed line
HANG_S = 120.0  # the traceback is printed and the process ends
SLACK_S = 1.0  # beyond the bound, for a machine that does other work too


@dataclass(frozen=True)
class Place:
    """Where a board is played, and how patient the host is with it."""

    name: str
    timeouts: Timeouts
    warm_up: int  # makes a run long enough to be reset in its middle


HOST = Place("host", Timeouts(5.0, 0.02, reply_s=0.02, tries=4, first_run_s=0.1, run_margin=3.0, run_tries=3, call_s=2.0), 100)
QEMU = Place("qemu", Timeouts(10.0, 0.1, reply_s=0.3, tries=3, first_run_s=1.0, run_margin=3.0, run_tries=2, call_s=5.0), 100)


@dataclass
class Row:
    """What came of the faults of one kind.

    Attributes:
        frames_hit: one fault hits one to three frames, or all that follow.
        dropped: frames that the host did not take: damaged, twice or late.
        bound_s: stated for the longest run before it began.
        reason: the first one given.
    """

    place: str
    kind: str
    trials: int = 0
    frames_hit: int = 0
    correct: int = 0
    aborts: int = 0
    retries: int = 0
    dropped: int = 0
    wrong: int = 0
    hangs: int = 0
    longest_s: float = 0.0
    bound_s: float = 0.0
    reason: str = ""


def strike(kind: FaultKind, number: int, place: Place, made: Made, plugged: Plugged, seed: int) -> Row:
    """`number` faults of one kind, each on a run of its own; a broken connection is made anew after it."""
    row, rng = Row(place.name, kind), np.random.default_rng([seed, KINDS.index(kind)])
    line = FaultyLine(plugged, time.monotonic, rng, plugged.reset, plugged.vanish)
    board: LinkedBoard | None = None
    run = -(-made.windows[0].size // (PAYLOAD_MAX_BYTES - OFFSET.size)) + 1  # after the WRITEs and CHECK; OPERATORS and OUTPUT follow
    for _ in range(number):
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        line.arm(None)
        if board is None:
            board = connected(line, plugged, place, made)
        index, bound_s = int(rng.integers(len(made.windows))), board.bound_s(place.warm_up, 2, True)
        line.arm(draw(kind, run + 3, place.timeouts.reply_s, rng, run))
        before, start = asdict(board.trouble), time.monotonic()
        try:
            output, reason = board.run(made.windows[index], warm_up=place.warm_up, repeats=2, operators=True).output, ""
        except LinkError as error:
            output, reason = None, str(error)
        took_s, after = time.monotonic() - start, asdict(board.trouble)
        row.trials += 1
        row.frames_hit += line.struck
        row.correct += output is not None and np.array_equal(output, made.outputs[index])
        row.wrong += output is not None and not np.array_equal(output, made.outputs[index])
        row.aborts += bool(reason)
        row.reason = row.reason or reason
        row.retries += after["retries"] - before["retries"]
        row.dropped += sum(after[key] - before[key] for key in ("bad_frames", "stale_replies"))
        row.hangs += took_s > bound_s + SLACK_S
        if took_s > row.longest_s:
            row.longest_s, row.bound_s = round(took_s, 3), round(bound_s, 3)
        if kind == "vanished":
            line.arm(None)
            plugged.plug_in()
        if reason or kind == "vanished":
            board = None
    faulthandler.cancel_dump_traceback_later()
    return row


def connected(line: FaultyLine, plugged: Plugged, place: Place, made: Made) -> LinkedBoard:
    """A board after an undisturbed run, so that its time is known."""
    left = CONNECTIONS
    while True:
        try:
            board = LinkedBoard(line, place.timeouts)
            np.testing.assert_array_equal(board.run(made.windows[0]).output, made.outputs[0])
            return board
        except LinkError:  # short time-outs on a busy machine
            left -= 1
            if not left:
                raise
            plugged.plug_in()


def struck(place: Place, number: int, made: Made, start: Callable[[], Plugged], seed: int) -> list[Row]:
    """All kinds; each with a process of its own, ended after it."""
    rows = []
    for kind in KINDS if number else ():
        plugged = start()
        try:
            rows.append(strike(kind, number, place, made, plugged, seed))
        finally:
            plugged.close()
        print(f"{place.name}: {kind}, {rows[-1].trials} faults, longest {rows[-1].longest_s:.2f} s", flush=True)
    return rows


def refused(what: str, image: Path, made: Made, number: int) -> Row:
    """Images that are not the student's own: refused by name, and nothing was run."""
    row = Row("qemu", what)
    for _ in range(number):
        start = time.monotonic()
        with LinkedBoard(QemuPty(image), QEMU.timeouts) as board:
            try:
                check_identity(board.identity, kernel_set=made.kernel_set, graph_hash=made.graph_hash, weights_hash=made.weights_hash)
                row.wrong += 1
            except FirmwareError as error:
                row.aborts += 1
                row.reason = str(error)
            row.wrong += board.usage().runs > 0
        row.trials += 1
        row.longest_s = max(row.longest_s, round(time.monotonic() - start, 3))
    return row


def in_qemu(image: Path, work: Path) -> Plugged:
    """QEMU with a monitor on a socket: its `system_reset` is the board's button, the port stays."""
    monitor = work / "monitor"

    def press() -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5.0)
            line.connect(str(monitor))
            line.sendall(b"system_reset\n")
            said = b""
            while said.count(b"(qemu)") < 2:  # its prompt, and the one after it is done
                said += line.recv(4096)

    return Plugged(lambda: QemuPty(image, ("-monitor", f"unix:{monitor},server,nowait")), press)


def main() -> None:
    """Strike, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=FAULTS, help="of each kind, on this machine")
    parser.add_argument("--qemu", type=int, default=QEMU_FAULTS, help="of each kind, in QEMU")
    parser.add_argument("--refusals", type=int, default=REFUSALS, help="images of another model, and of other kernels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "link_faults.json")
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hwnas-link-faults-") as place:
        work = Path(place)
        made, other = made_student(work / "own", STUDENT), made_student(work / "other", OTHER_STUDENT)
        host = made.image(work, "host")
        rows = struck(HOST, chosen.faults, made, lambda: Plugged(lambda: ProcessPipe([str(host)])), chosen.seed)
        if chosen.qemu:
            image = made.image(work, "stm32f405")
            rows += struck(QEMU, chosen.qemu, made, lambda: in_qemu(image, work), chosen.seed)
        if chosen.refusals:
            rows.append(refused("another model", other.image(work, "stm32f405"), made, chosen.refusals))
            rows.append(refused("other kernels", made.image(work, "stm32f405", kernel_set="other kernels"), made, chosen.refusals))
    columns = ("place", "kind", "trials", "frames_hit", "correct", "aborts", "retries", "dropped", "wrong", "hangs", "longest_s", "bound_s")
    table = Table(*(name.replace("_", " ") for name in columns), title="faults on the line, and what came of them")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in (getattr(row, name) for name in columns)))
    console = Console(width=160)
    console.print(table)
    for row in rows:
        console.print(f"{row.place}, {row.kind}: {row.reason or 'no abort'}", highlight=False, markup=False)
    settings = {place.name: asdict(place) for place in (HOST, QEMU)}
    found = {"seed": chosen.seed, "seconds": round(time.monotonic() - began), "settings": settings, "rows": [asdict(row) for row in rows]}
    write_text(chosen.out, json.dumps(found, indent=1) + "\n")
    sys.exit(any(row.wrong or row.hangs for row in rows))


if __name__ == "__main__":
    main()
