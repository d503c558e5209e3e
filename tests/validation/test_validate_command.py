"""`hwnas validate` on the command line: exit codes, what is printed, what is left after an interrupt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_records import PREDICTED_CYCLES, record

from hwnas.cli.app import run
from hwnas.errors import LinkError
from hwnas.validation import boards, windows


@pytest.fixture
def config(students: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(windows, "GENERATED", 60)
    path = tmp_path / "nightly.yaml"
    path.write_text(f"students: [{students}/resnet]\ntargets: [{{name: first, target: emulator}}]\nwindows: {{golden: 4, rotating: 6}}\n")
    return path


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what `bench_student` does: a record with these changes, or an exception."""

    def behave(error: BaseException | None = None, **changes: Any) -> None:
        def bench(*_: Any) -> dict[str, Any]:
            if error is not None:
                raise error
            return record(**changes) | {"metrics": None}

        monkeypatch.setattr(boards, "bench_student", bench)

    return behave


def test_exit_codes(config: Path, board: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["validate", "--config", str(config)]
    board()
    assert run([*command, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    board(cycles=(*PREDICTED_CYCLES[:3], 600))
    assert run([*command, "--fault", "delay:hwnas_dense_int16:9"]) == 1
    printed = capsys.readouterr()
    assert "drift" in printed.out and "3 hwnas_dense_int16" in printed.out and "quarantined" in printed.out
    assert "resnet on first: drift: operator 3" in printed.err
    board(differing=1)
    assert run([*command, "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"][0]["verdict"] == "fail" and not printed.err
    board(LinkError("no answer"))
    assert run([*command, "--quiet"]) == 1
    capsys.readouterr()
    assert run([*command, "--history"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[1:5]] == ["4", "3", "2", "1"]
    assert "delay:hwnas_dense_int16:9" in printed.out and "no answer" in printed.out
    assert run([*command, "--history", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in found["rows"]] == ["pass", "drift", "fail", "not reached"]
    assert [night["state"] for night in found["nights"]] == ["finished"] * 4


def test_an_interrupt(config: Path, board: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    board(KeyboardInterrupt())
    assert run(["validate", "--config", str(config)]) == 130
    assert "interrupted; finished rows are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--fault", "slow"], "--fault slow: no such fault"),
        (["--schedule", "at"], "unknown schedule 'at'"),
        (["--schedule", "cron", "--fault", "flip-weight"], "leave --history and --fault out"),
        (["--schedule", "cron", "--history"], "leave --history and --fault out"),
        (["--history", "--fault", "flip-weight"], "leave --fault out"),
        (["--history"], "no history at"),
    ],
)
def test_wrong_usage(config: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str) -> None:
    assert run(["validate", "--config", str(config), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (config.parent / "history.sqlite").exists()


def test_a_wrong_target_is_wrong_usage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("emulator", "emulatr"))
    assert run(["validate", "--config", str(config)]) == 2
    assert "emulatr" in capsys.readouterr().err
    assert not (config.parent / "history.sqlite").exists()


def test_schedules_are_printed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, mark in (("systemd", "OnCalendar="), ("cron", "30 2 * * *"), ("github", "runs-on: self-hosted")):
        assert run(["validate", "--config", str(config), "--schedule", kind]) == 0
        printed = capsys.readouterr().out
        assert mark in printed and (kind == "github" or str(config) in printed)
    assert not (config.parent / "history.sqlite").exists()


def test_help_tells_of_faults_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--fault delay:KERNEL:LOOPS" in printed and "Exit code: 0" in printed
