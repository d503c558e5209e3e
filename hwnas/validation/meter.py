"""Energy of an inference from a power meter's CSV. Reads that file, and runs the meter's command where there is one.

The file has a header with at least the columns `time_s`, `current_a` and `mark`: the meter's digital input, 1 while the board computes
(ports raise a pin round every inference). Energy of an inference = supply * integral of the current while marked / pulses, by trapezoids.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from hwnas.errors import DataError, FirmwareError
from hwnas.validation.config import MeterConfig

COLUMNS = ("time_s", "current_a", "mark")
END_S = 10.0  # for a meter to write what it holds
CLOCK_S = 2.0  # by which the clock of a file system may differ


@contextlib.contextmanager
def metering(meter: MeterConfig | None) -> Iterator[None]:
    """Run the meter's command, if it has one, around the body; it is ended by an interrupt, then by force."""
    if meter is None or meter.command is None:
        yield
        return
    words = [word.replace("{csv}", meter.csv) for word in shlex.split(meter.command)]
    try:
        # A session of its own: Ctrl-C reaches the body first, and the meter is ended here.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        raise FirmwareError(f"the meter's command '{meter.command}' cannot be started ({error}); correct 'meter.command'") from error
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # a second Ctrl-C leaves no meter behind either
            process.kill()
            process.wait()


def measured_uj(meter: MeterConfig, began: float) -> float:
    """Energy of an inference in uJ from the file that the meter wrote since `began` (seconds since the epoch).

    Raises:
        DataError: no file, an old one, or one that does not hold what is needed.
    """
    path = Path(meter.csv)
    try:
        written, text = path.stat().st_mtime, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the meter's file cannot be read ({error}); check 'meter.csv'") from error
    if written < began - CLOCK_S:
        raise DataError(f"{path}: the meter wrote nothing while the student ran (last at {time.ctime(written)}); check the meter")
    return energy_uj(text, meter.supply_v, str(path))


def energy_uj(text: str, supply_v: float, where: str) -> float:
    """Energy of one marked pulse in uJ, the mean over all; raises DataError for text that has none."""
    rows = csv.DictReader(io.StringIO(text))
    absent = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if absent:
        raise DataError(
            f"{where}: no column {', '.join(absent)} (its header is {rows.fieldnames}); a meter's file needs {', '.join(COLUMNS)}"
        )
    charge_c, pulses, before = 0.0, 0, (-math.inf, 0.0, False)
    for row in rows:
        try:
            at_s, current_a, mark = (float(row[name]) for name in COLUMNS)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}:{rows.line_num}: not numbers: {row}; cut the damaged line") from error
        if not math.isfinite(at_s) or not math.isfinite(current_a) or at_s <= before[0]:
            raise DataError(f"{where}:{rows.line_num}: time {at_s} s, current {current_a} A; times must increase and figures be finite")
        marked = mark > 0.5
        if marked and before[2]:
            charge_c += (current_a + before[1]) / 2 * (at_s - before[0])
        pulses += marked and not before[2]
        before = (at_s, current_a, marked)
    if not pulses or charge_c <= 0:
        raise DataError(f"{where}: {pulses} marked pulses with {charge_c:g} C; connect the board's mark pin to the meter's digital input")
    return charge_c / pulses * supply_v * 1e6
