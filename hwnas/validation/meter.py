"""Energy of an inference from a power meter's CSV. Reads that file, and runs the meter's command where there is one.

The file has a header with at least the columns `time_s`, `current_a` and `mark`: the meter's digital input, 1 while the board computes
(ports raise a pin round every inference). Energy of an inference = supply * integral of the current while marked / pulses. A sample
stands for the time from half-way to the one before to half-way to the one after it: the mark changes somewhere between two samples.

A meter with a command writes a file of its own for every student. One without appends to its file all the time, a line at once, or begins
the file anew: only what came while the student ran is read.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hwnas.errors import DataError, FirmwareError
from hwnas.validation.config import MeterConfig

COLUMNS = ("time_s", "current_a", "mark")
END_S = 10.0  # for a meter to write what it holds
TAIL_BYTES = 256  # by which a file that was appended to is told from one that was begun anew


@dataclass
class Metering:
    """A meter while a student runs, and what it wrote of it.

    Attributes:
        size, tail: of the file before, and its last bytes.
        ended: exit code of a command that ended before the student had.
    """

    meter: MeterConfig
    size: int = field(init=False, default=0)
    tail: bytes = field(init=False, default=b"")
    ended: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        path = Path(self.meter.csv)
        if self.meter.command is not None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise FirmwareError(f"{path}: the meter's old file cannot be removed ({error}); check 'meter.csv'") from error
            return
        with contextlib.suppress(OSError), path.open("rb") as file:
            self.size = file.seek(0, io.SEEK_END)
            self.tail = _before(file, self.size)

    def measured_uj(self) -> float:
        """Energy of an inference in uJ from what the meter wrote while the student ran.

        Raises:
            DataError: no file, nothing new in it, text that does not hold what is needed, or a command that ended too early.
        """
        path = Path(self.meter.csv)
        if self.ended is not None:
            raise DataError(f"the meter's command '{self.meter.command}' ended by itself (exit code {self.ended}) before the student had")
        try:
            with path.open("rb") as file:
                text = self._new(file)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the meter's file cannot be read ({error}); check 'meter.csv'") from error
        if not text:
            raise DataError(f"{path}: the meter wrote nothing while the student ran; check the meter")
        return energy_uj(text, self.meter.supply_v, str(path))

    def _new(self, file: io.BufferedReader) -> str:
        """Header and lines since the student began; a line that another process is still writing is left out."""
        end = file.seek(0, io.SEEK_END)
        if end < self.size or _before(file, self.size) != self.tail:
            self.size = 0  # begun anew
        elif end == self.size:
            return ""
        file.seek(0)
        header = file.readline()
        file.seek(max(self.size - 1, 0))
        if self.size:
            file.readline()  # the rest of a line that had begun before, if it is not just a line's end
        lines = file.read()
        if self.meter.command is None:
            lines = lines[: lines.rfind(b"\n") + 1]
        return (header + lines if self.size else lines).decode("utf-8")


@contextlib.contextmanager
def metering(meter: MeterConfig | None) -> Iterator[Metering | None]:
    """Run the meter's command, if it has one, around the body; it is ended by an interrupt, then by force.

    Raises:
        FirmwareError: the command cannot be started, or its old file cannot be removed.
    """
    if meter is None:
        yield None
        return
    metered = Metering(meter)
    if meter.command is None:
        yield metered
        return
    words = [word.replace("{csv}", meter.csv) for word in shlex.split(meter.command)]
    try:
        # A session of its own: Ctrl-C reaches the body first, and the meter is ended here.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise FirmwareError(f"the meter's command '{meter.command}' cannot be started ({error}); correct 'meter.command'") from error
    try:
        yield metered
    finally:
        metered.ended = process.poll()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # a second Ctrl-C leaves no meter behind either
            process.kill()
            process.wait()


def energy_uj(text: str, supply_v: float, where: str) -> float:
    """Energy of one marked pulse in uJ, the mean over all that begin and end in the text; raises DataError where there is none."""
    rows = csv.DictReader(io.StringIO(text))
    absent = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if absent:
        raise DataError(
            f"{where}: no column {', '.join(absent)} (its header is {rows.fieldnames}); a meter's file needs {', '.join(COLUMNS)}"
        )
    charge_c, pulses = 0.0, 0
    pulse_c: float | None = None  # of the pulse that lasts; None outside, and in one whose beginning is not in the file
    before_s, before_a, was_marked = -math.inf, 0.0, True
    for row in rows:
        try:
            at_s, current_a, mark = (float(row[name]) for name in COLUMNS)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}:{rows.line_num}: not numbers: {row}; cut the damaged line") from error
        if not math.isfinite(at_s) or not math.isfinite(current_a) or at_s <= before_s:
            raise DataError(f"{where}:{rows.line_num}: time {at_s} s, current {current_a} A; times must increase and figures be finite")
        marked, half_s = mark > 0.5, (at_s - before_s) / 2
        if marked and not was_marked:
            pulse_c = current_a * half_s
        elif pulse_c is not None and marked:
            pulse_c += (before_a + current_a) * half_s
        elif pulse_c is not None:
            charge_c += pulse_c + before_a * half_s
            pulses, pulse_c = pulses + 1, None
        before_s, before_a, was_marked = at_s, current_a, marked
    if not pulses or charge_c <= 0:
        raise DataError(
            f"{where}: {pulses} whole marked pulses with {charge_c:g} C; connect the board's mark pin to the meter's digital input"
        )
    return charge_c / pulses * supply_v * 1e6


def _before(file: io.BufferedReader, end: int) -> bytes:
    """The last bytes of the file up to `end`."""
    start = max(end - TAIL_BYTES, 0)
    file.seek(start)
    return file.read(end - start)
