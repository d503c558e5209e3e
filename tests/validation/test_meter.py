"""Energy from a meter's file: a closed form, damaged files, and a meter that is started and ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DataError, FirmwareError
from hwnas.validation.config import MeterConfig
from hwnas.validation.meter import energy_uj, measured_uj, metering

HEADER = "time_s,current_a,mark\n"


def lines(rows: list[tuple[float, float, int]]) -> str:
    return HEADER + "".join(f"{t!r},{a!r},{m}\n" for t, a, m in rows)


def test_a_constant_current_is_supply_times_current_times_time() -> None:
    # 10 mA for 2 ms at 3 V in each of two pulses, whatever flows between them.
    rows = [(0.0, 5.0, 0), (1.0, 0.01, 1), (1.002, 0.01, 1), (1.5, 9.0, 0), (2.0, 0.01, 1), (2.002, 0.01, 1), (3.0, 7.0, 0)]
    assert energy_uj(lines(rows), 3.0, "m") == pytest.approx(60.0)


def test_a_ramp_is_its_mean() -> None:
    assert energy_uj(lines([(0.0, 0.0, 1), (2.0, 1e-3, 1)]), 2.0, "m") == pytest.approx(2000.0)


def test_other_columns_and_orders_do_not_matter() -> None:
    text = "mark,volts,current_a,time_s\n1,3,0.01,0.0\n1,3,0.01,0.001\n"
    assert energy_uj(text, 3.0, "m") == pytest.approx(30.0)


@given(st.lists(st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)), min_size=2, max_size=30), st.floats(0.5, 5.0))
def test_energy_is_linear_in_supply_and_current(steps: list[tuple[float, float]], supply: float) -> None:
    times, at = [], 0.0
    for step, _ in steps:
        at += step
        times.append(at)
    rows = [(t, a, 1) for t, (_, a) in zip(times, steps, strict=True)]
    once = energy_uj(lines(rows), supply, "m")
    assert energy_uj(lines(rows), 2 * supply, "m") == pytest.approx(2 * once)
    assert energy_uj(lines([(t, 3 * a, m) for t, a, m in rows]), supply, "m") == pytest.approx(3 * once)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column time_s, current_a, mark"),
        ("time_s,current_a\n0,1\n", "no column mark"),
        (HEADER, "0 marked pulses"),
        (lines([(0.0, 1.0, 0), (1.0, 1.0, 0)]), "0 marked pulses"),
        (lines([(0.0, 1.0, 1)]), "1 marked pulses with 0 C"),
        (lines([(0.0, -1.0, 1), (1.0, -1.0, 1)]), "marked pulses with -1 C"),
        (HEADER + "0,1,1\n1,x,1\n", "m:3: not numbers"),
        (HEADER + "0,1,1\n1,1\n", "m:3: not numbers"),
        (HEADER + "0,1,1\n0,1,1\n", "m:3: time 0.0 s"),
        (HEADER + "0,nan,1\n", "m:2: time"),
        (HEADER + "inf,1,1\n", "m:2: time"),
    ],
)
def test_damaged_files_are_named(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        energy_uj(text, 3.0, "m")


def meter(path: Path, command: str | None = None) -> MeterConfig:
    return MeterConfig(csv=str(path), supply_v=3.0, command=command)


def test_an_old_or_absent_file_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    with pytest.raises(DataError, match="cannot be read"):
        measured_uj(meter(path), 0.0)
    path.write_text(lines([(0.0, 0.01, 1), (0.001, 0.01, 1)]))
    assert measured_uj(meter(path), time.time()) == pytest.approx(30.0)
    os.utime(path, (0, 1_000_000))
    with pytest.raises(DataError, match="wrote nothing while the student ran"):
        measured_uj(meter(path), time.time())


def test_a_meters_command_runs_around_the_student_and_is_interrupted(tmp_path: Path) -> None:
    path, script = tmp_path / "out put.csv", tmp_path / "meter.py"
    script.write_text(
        "import pathlib, signal, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGINT, lambda *_: (path.write_text('time_s,current_a,mark\\n0,0.01,1\\n0.001,0.01,1\\n'), sys.exit()))\n"
        "pathlib.Path(str(path) + '.ready').touch()\n"
        "signal.pause()\n"
    )
    began = time.time()
    with metering(meter(path, f"{sys.executable} {script} {{csv}}")):
        while not Path(f"{path}.ready").exists():
            time.sleep(0.01)
        assert not path.exists()
    assert measured_uj(meter(path), began) == pytest.approx(30.0)


def test_a_meters_command_that_is_none_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FirmwareError, match=r"no-such-meter.*cannot be started"),
        metering(meter(tmp_path / "m.csv", "no-such-meter {csv}")),
    ):
        pass
