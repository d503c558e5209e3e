"""Whole nights with boards that are made up: what happens to the others when one fails, what is compared with what, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import PREDICTED_CYCLES, record

from hwnas.errors import ConfigError, DataError, FirmwareError, LinkError
from hwnas.firmware.board import Counter, Identity, check_identity
from hwnas.pipeline.progress import Progress, Silent
from hwnas.tasks import Windows
from hwnas.validation import boards, nights, windows
from hwnas.validation.config import NightConfig, TargetConfig, WindowsConfig
from hwnas.validation.history import History
from hwnas.validation.nights import Outcome, Refused, run_night
from hwnas.validation.windows import Pool, choose

PULSE = "time_s,current_a,mark\n0,0.01,0\n0.001,0.01,1\n0.002,0.01,0\n"  # 10 mA for 1 ms
SLOWER = (*PREDICTED_CYCLES[:2], 2 * PREDICTED_CYCLES[2], PREDICTED_CYCLES[3])


@pytest.fixture(autouse=True)
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "GENERATED", 60)


def configured(made: Path, folder: Path, **changes: Any) -> NightConfig:
    content: dict[str, Any] = {
        "students": [str(made / "*")],
        "targets": [{"name": "first", "target": "emulator"}, {"name": "second", "target": "qemu"}],
        "windows": {"golden": 4, "rotating": 6},
        "history": str(folder / "history.sqlite"),
        "out": str(folder / "nights"),
    }
    return NightConfig.model_validate(content | changes)


def bench(**changes: Any) -> Callable[[Path, TargetConfig, Windows, Progress], dict[str, Any]]:
    """A board that runs every student just as predicted, but for these changes."""

    def run(folder: Path, target: TargetConfig, given: Windows, progress: Progress) -> dict[str, Any]:
        found = record(**changes)
        del found["night"]  # added by the night, with what its windows must give
        return found | {"metrics": None, "weights_hash": folder.name}

    return run


def verdicts(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(row.student, row.target, row.verdict.kind) for row in outcome.report.tonight]


def test_a_clean_night_passes_and_writes_all(students: Path, tmp_path: Path) -> None:
    config = configured(students, tmp_path)
    outcome = run_night(config, bench(), Silent())
    assert outcome.report.passed
    everything = [(student, target, "pass") for target in ("first", "second") for student in ("mobilenet", "resnet")]
    assert verdicts(outcome) == everything
    assert {path.name for path in outcome.files} == {"junit.xml", "summary.md", "nights.html", "quarantine.csv"}
    assert all(path.is_file() for path in outcome.files)
    with History(Path(config.history)) as history:
        (night,) = history.nights()
        assert (night.state, night.done, night.planned) == ("finished", 4, 4)
        assert len(history.rows()) == 4


def test_three_nights(students: Path, tmp_path: Path) -> None:
    """Clean, delayed on purpose, and clean again: the delay is named, and leaves no trace in the third night."""
    config = configured(students, tmp_path)
    run_night(config, bench(), Silent())
    second = run_night(config, bench(cycles=SLOWER), Silent(), fault="delay:k:1")
    assert [kind for *_, kind in verdicts(second)] == ["drift"] * 4
    assert all("2 hwnas_depthwise" in row.verdict.reason and row.fault == "delay:k:1" for row in second.report.tonight)
    assert [(each.predicted, each.found, each.fault, each.night) for each in second.report.quarantine] == [
        (23_870, 47_740, "delay:k:1", 2)
    ] * 4
    assert "delay:k:1" in config.quarantine_path.read_text()
    third = run_night(config, bench(), Silent())
    assert third.report.passed and not third.report.quarantine
    assert config.quarantine_path.read_text().count("\n") == 1


def test_a_row_stays_quarantined_until_it_is_measured_within_the_limit(students: Path, tmp_path: Path) -> None:
    config = configured(students, tmp_path)
    assert {each.night for each in run_night(config, bench(cycles=SLOWER), Silent()).report.quarantine} == {1}

    def gone(*_: Any) -> dict[str, Any]:
        raise LinkError("no answer")

    assert {each.night for each in run_night(config, gone, Silent()).report.quarantine} == {1}
    # A night with a fault says nothing of the rows.
    assert run_night(config, bench(), Silent(), fault="flip-weight").report.quarantine
    again = run_night(config, bench(cycles=SLOWER), Silent())
    assert {each.night for each in again.report.quarantine} == {4}
    assert {drift.since for row in again.report.tonight for drift in row.verdict.drifts} == {1}
    assert not run_night(config, bench(), Silent()).report.quarantine


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (LinkError("no answer from /dev/ttyACM0"), "not reached", "no answer from /dev/ttyACM0"),
        (FirmwareError("the compiler failed"), "not reached", "the compiler failed"),
        (DataError("no windows"), "not reached", "no windows"),
        (Refused("the board runs other firmware"), "fail", "refused: the board runs other firmware"),
        (ZeroDivisionError("oh"), "not reached", "this is a fault of hwnas: ZeroDivisionError: oh; report it"),
    ],
)
def test_one_that_cannot_be_run_does_not_keep_the_others_from_it(
    students: Path, tmp_path: Path, error: Exception, kind: str, said: str
) -> None:
    def run(folder: Path, target: TargetConfig, given: Windows, progress: Progress) -> dict[str, Any]:
        if (folder.name, target.name) == ("resnet", "first"):
            raise error
        return bench()(folder, target, given, progress)

    outcome = run_night(configured(students, tmp_path), run, Silent())
    assert not outcome.report.passed
    assert [kind for *_, kind in verdicts(outcome)] == ["pass", kind, "pass", "pass"]
    assert outcome.report.tonight[1].verdict.reason == said


@pytest.mark.parametrize("change", [{"energy": {"kind": "modelled", "energy_uj": float("nan")}}, {"weights_hash": None}])
def test_a_record_that_makes_no_sense_is_no_row(students: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    def run(*given: Any) -> dict[str, Any]:
        found = bench()(*given) | change
        return {name: value for name, value in found.items() if value is not None}

    outcome = run_night(configured(students, tmp_path), run, Silent())
    assert [row.verdict.kind for row in outcome.report.tonight] == ["not reached"] * 4
    assert all("fault of hwnas" in row.verdict.reason for row in outcome.report.tonight)


def test_a_damaged_student_is_not_reached(students: Path, tmp_path: Path) -> None:
    (tmp_path / "students/broken").mkdir(parents=True)
    (tmp_path / "students/broken/card.json").write_text("{}")
    config = configured(students, tmp_path, students=[str(tmp_path / "students/*"), str(students / "resnet")])
    outcome = run_night(config, bench(), Silent())
    assert [kind for *_, kind in verdicts(outcome)] == ["not reached", "pass"] * 2
    assert "card.json" in outcome.report.tonight[0].verdict.reason


def test_reports_of_the_last_night_are_gone_once_another_has_begun(students: Path, tmp_path: Path) -> None:
    config = configured(students, tmp_path)
    reports = [path for path in run_night(config, bench(), Silent()).files if path.suffix != ".csv"]

    def run(*_: Any) -> dict[str, Any]:
        assert not any(path.exists() for path in reports)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_night(config, run, Silent())
    assert len(reports) == 3 and not any(path.exists() for path in reports)


def test_what_was_quarantined_long_ago_still_is(students: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "SHOWN_NIGHTS", 1)
    config = configured(students, tmp_path)
    run_night(config, bench(cycles=SLOWER), Silent())
    quiet = run_night(config, bench(more={"operators": []}), Silent())
    assert {row.night for row in quiet.report.rows} == {2} and {each.night for each in quiet.report.quarantine} == {1}


def test_no_night_is_claimed_for_students_that_are_not_there(students: Path, tmp_path: Path) -> None:
    config = configured(students, tmp_path, students=[str(tmp_path / "none")])
    with pytest.raises(ConfigError):
        run_night(config, bench(), Silent())
    assert not Path(config.history).exists()


def test_an_interrupted_night_keeps_its_rows_and_has_no_end(students: Path, tmp_path: Path) -> None:
    config = configured(students, tmp_path)

    def run(folder: Path, target: TargetConfig, given: Windows, progress: Progress) -> dict[str, Any]:
        if target.name == "second":
            raise KeyboardInterrupt
        return bench()(folder, target, given, progress)

    with pytest.raises(KeyboardInterrupt):
        run_night(config, run, Silent())
    with History(Path(config.history)) as history:
        (night,) = history.nights()
        assert (night.ended, night.done, night.planned) == (None, 2, 4)
    assert run_night(config, bench(), Silent()).report.night.night == 2


def test_a_meter_measures_or_the_student_has_not_passed(students: Path, tmp_path: Path) -> None:
    meter = {"csv": str(tmp_path / "m.csv"), "supply_v": 3.0}
    config = configured(students, tmp_path, targets=[{"name": "first", "target": "emulator", "meter": meter}])
    outcome = run_night(config, bench(), Silent())
    found = outcome.report.tonight[0]
    assert found.reading is not None and found.reading.energy_kind == "modelled"
    assert found.verdict.kind == "not reached" and "no measured energy" in found.verdict.reason

    def run(*given: Any) -> dict[str, Any]:
        (tmp_path / "m.csv").write_text(PULSE)
        return bench()(*given)

    found = run_night(config, run, Silent()).report.tonight[0]
    assert found.reading is not None and (found.reading.energy_kind, found.reading.energy_uj) == ("measured", pytest.approx(30.0))
    assert {drift.quantity for drift in found.verdict.drifts} == {"energy"}


def test_what_a_student_must_give_comes_from_the_reference(students: Path, tmp_path: Path) -> None:
    outcome = run_night(configured(students, tmp_path), bench(), Silent())
    facts = [row.record["night"] for row in outcome.report.tonight if row.record]
    assert all(each["metric"] == "af_auc" and (each["golden"], each["rotating"]) == (4, 6) for each in facts)
    assert facts[0] == facts[2] and facts[0]["golden_hash"] == facts[1]["golden_hash"]
    assert json.dumps(facts[0], allow_nan=False)


def test_golden_windows_stay_and_others_rotate(students: Path) -> None:
    pool = Pool(WindowsConfig(golden=4, rotating=6))
    first, again, second = (pool.take(students / "resnet", night).windows for night in (1, 1, 2))
    assert first.hash == again.hash and len(first) == 10
    assert np.array_equal(first.x[:4], second.x[:4])
    assert not {row.tobytes() for row in first.x[4:]} & {row.tobytes() for row in second.x[4:]}


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 50), st.integers(1, 10_000))
def test_windows_of_a_night(count: int, golden: int, rotating: int, night: int) -> None:
    chosen = choose(count, golden, rotating, night)
    assert len(set(chosen.tolist())) == len(chosen) and set(chosen.tolist()) <= set(range(count))
    assert len(chosen) == min(count, golden) + min(rotating, count - min(count, golden))
    assert np.array_equal(chosen, choose(count, golden, rotating, night))
    assert np.array_equal(chosen[:golden], choose(count, golden, rotating, night + 1)[:golden])
    if rotating:
        turns = -(-(count - min(count, golden)) // rotating)
        seen = {int(index) for turn in range(turns + 1) for index in choose(count, golden, rotating, night + turn)}
        assert seen == set(range(count))


def test_a_board_with_other_firmware_is_refused_and_other_failures_are_not(students: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity(1, 512, 1, Counter.NONE, 0, 1, 1, 1, 1, "board", "t", "set", "graph", "other", "")

    def refusing(*_: Any) -> dict[str, Any]:
        check_identity(identity, kernel_set="set", graph_hash="graph", weights_hash="mine")
        return {}

    def failing(*_: Any) -> dict[str, Any]:
        raise LinkError("no answer")

    config = configured(students, students)
    run = boards.bench_on(config)
    given = Pool(config.windows).take(students / "resnet", 1).windows
    monkeypatch.setattr(boards, "bench_student", refusing)
    with pytest.raises(Refused, match="its weights hash is other, expected mine"):
        run(students / "resnet", config.targets[0], given, Silent())
    monkeypatch.setattr(boards, "bench_student", failing)
    with pytest.raises(LinkError):
        run(students / "resnet", config.targets[0], given, Silent())
