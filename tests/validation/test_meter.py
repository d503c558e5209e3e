"""Energy from a meter's file: a closed form, damaged files, and a meter that is started and ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DataError, FirmwareError
from hwnas.validation.config import MeterConfig
from hwnas.validation.meter import Metering, energy_uj, metering

HEADER = "time_s,current_a,mark\n"


def lines(rows: list[tuple[float, float, int]]) -> str:
    return HEADER + "".join(f"{t!r},{a!r},{m}\n" for t, a, m in rows)


STEP_S = 1e-4  # a meter of 10 kHz


def sampled(pulses: list[tuple[float, float]], until_s: float, current: Callable[[float], float]) -> list[tuple[float, float, int]]:
    """What such a meter writes of pulses (begin, end)."""
    times = [n * STEP_S for n in range(round(until_s / STEP_S))]
    return [(t, current(t), int(any(begin <= t < end for begin, end in pulses))) for t in times]


def test_a_constant_current_is_supply_times_current_times_time() -> None:
    # 10 mA for 2 ms at 3 V in each of two pulses, whatever flows between them.
    rows = sampled([(0.00095, 0.00295), (0.00595, 0.00795)], 0.01, lambda t: 0.01 if 0.0005 < t < 0.0035 or 0.0055 < t < 0.0085 else 5.0)
    assert energy_uj(lines(rows), 3.0, "m") == pytest.approx(60.0)


@pytest.mark.parametrize("length_s", [0.0001, 0.0002, 0.0005, 0.002])
def test_short_pulses_lose_nothing_at_their_edges(length_s: float) -> None:
    """Pulses that fall anywhere between samples: their mean is what they last, and not an interval less."""
    begins = [0.01 * n + 0.37 * n * STEP_S for n in range(1, 101)]
    rows = sampled([(begin, begin + length_s) for begin in begins], 1.1, lambda _: 0.01)
    assert energy_uj(lines(rows), 3.0, "m") == pytest.approx(3.0 * 0.01 * length_s * 1e6, rel=0.02)


def test_a_ramp_is_its_mean() -> None:
    rows = sampled([(0.00995, 0.02995)], 0.04, lambda t: t)
    assert energy_uj(lines(rows), 2.0, "m") == pytest.approx(2.0 * 0.01995 * 0.02 * 1e6, rel=1e-3)


def test_pulses_whose_beginning_or_end_is_not_in_the_file_do_not_count() -> None:
    rows = sampled([(-1, 0.00105), (0.00495, 0.00595), (0.00895, 1)], 0.01, lambda t: 0.01 if 0.002 < t < 0.008 else 7.0)
    assert energy_uj(lines(rows), 3.0, "m") == pytest.approx(30.0)


def test_other_columns_and_orders_do_not_matter() -> None:
    text = "mark,volts,current_a,time_s\n0,3,0.01,0.0\n1,3,0.01,0.001\n0,3,0.01,0.002\n"
    assert energy_uj(text, 3.0, "m") == pytest.approx(30.0)


@given(st.lists(st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)), min_size=3, max_size=30), st.floats(0.5, 5.0))
def test_energy_is_linear_in_supply_and_current(steps: list[tuple[float, float]], supply: float) -> None:
    times, at = [], 0.0
    for step, _ in steps:
        at += step
        times.append(at)
    rows = [(t, a, int(0 < n < len(steps) - 1)) for n, (t, (_, a)) in enumerate(zip(times, steps, strict=True))]
    once = energy_uj(lines(rows), supply, "m")
    assert energy_uj(lines(rows), 2 * supply, "m") == pytest.approx(2 * once)
    assert energy_uj(lines([(t, 3 * a, m) for t, a, m in rows]), supply, "m") == pytest.approx(3 * once)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column time_s, current_a, mark"),
        ("time_s,current_a\n0,1\n", "no column mark"),
        (HEADER, "0 whole marked pulses"),
        (lines([(0.0, 1.0, 0), (1.0, 1.0, 0)]), "0 whole marked pulses"),
        (lines([(0.0, 1.0, 1), (1.0, 1.0, 0)]), "0 whole marked pulses with 0 C"),
        (lines([(0.0, -1.0, 0), (1.0, -1.0, 1), (2.0, -1.0, 0)]), "1 whole marked pulses with -1 C"),
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


def pulse(at_s: float, current_a: float) -> str:
    """Lines of one pulse of 1 ms."""
    return "".join(f"{at_s + n / 1000},{current_a},{int(n == 1)}\n" for n in range(3))


def test_an_old_or_absent_file_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    absent = Metering(meter(path))
    with pytest.raises(DataError, match="cannot be read"):
        absent.measured_uj()
    path.write_text(HEADER + pulse(0, 0.01))
    assert absent.measured_uj() == pytest.approx(30.0)
    with pytest.raises(DataError, match="wrote nothing while the student ran"):
        Metering(meter(path)).measured_uj()


@pytest.mark.parametrize("before", ["", HEADER, HEADER + pulse(0, 1.0), HEADER + pulse(0, 1.0) + "0.5,1."])
@pytest.mark.parametrize("cut", ["", "2,0.0"])
def test_of_a_file_that_is_appended_to_only_what_is_new_counts(tmp_path: Path, before: str, cut: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(before)
    log = Metering(meter(path))
    rest = HEADER if not before else "0,0\n" if not before.endswith("\n") else ""
    path.write_text(before + rest + pulse(1, 0.01) + cut)
    assert log.measured_uj() == pytest.approx(30.0)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_file_that_is_begun_anew_is_read_whole(tmp_path: Path, count: int) -> None:
    path = tmp_path / "m.csv"
    path.write_text(HEADER + pulse(0, 1.0) + pulse(1, 1.0))
    log = Metering(meter(path))
    path.write_text(HEADER + "".join(pulse(n, 0.01) for n in range(count)))
    assert log.measured_uj() == pytest.approx(30.0)


def script(folder: Path, text: str) -> str:
    place = folder / "meter.py"
    place.write_text(text)
    return f"{sys.executable} {place} {{csv}}"


def test_a_meters_command_runs_around_the_student_and_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "out put.csv"
    command = script(
        tmp_path,
        "import pathlib, signal, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        f"signal.signal(signal.SIGINT, lambda *_: (path.write_text({HEADER + pulse(0, 0.01)!r}), sys.exit()))\n"
        "pathlib.Path(str(path) + '.ready').touch()\n"
        "signal.pause()\n",
    )
    path.write_text(HEADER + pulse(0, 1.0))
    with metering(meter(path, command)) as log:
        while not Path(f"{path}.ready").exists():
            time.sleep(0.01)
        assert not path.exists(), "the file of the student before must be gone"
    assert log is not None and log.measured_uj() == pytest.approx(30.0)


def test_a_meters_command_that_died_early_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    command = script(tmp_path, f"import pathlib, sys; pathlib.Path(sys.argv[1]).write_text({HEADER + pulse(0, 0.01)!r}); sys.exit(3)")
    with metering(meter(path, command)) as log:
        assert log is not None
        for _ in range(1000):
            if path.exists() and path.stat().st_size:
                break
            time.sleep(0.01)
        time.sleep(0.5)
    with pytest.raises(DataError, match=r"ended by itself \(exit code 3\)"):
        log.measured_uj()


def test_a_meters_command_that_is_none_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FirmwareError, match=r"no-such-meter.*cannot be started"),
        metering(meter(tmp_path / "m.csv", "no-such-meter {csv}")),
    ):
        pass
