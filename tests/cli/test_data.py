"""`hwnas data check`: what a folder holds, what is left out, what is wrong with it; and the same folders through the other commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_nights import write_night
from made_recordings import deepbeat_content, pulse, wfdb_record

from hwnas.cli.app import run


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Twelve made patients, six of them AF, with a gap in one."""
    for number in range(12):
        signal = pulse(41, 125, number)
        signal[300 if number == 3 else slice(0)] = np.nan
        wfdb_record(tmp_path, f"mimic_perform_{'af' if number % 2 else 'non_af'}_{number:03d}", signal)
    return tmp_path


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_a_folder_holds(mimic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = as_json(capsys, "data", "check", str(mimic))
    assert (said["format"], said["task"], said["files"], said["subjects"], said["windows"]) == ("mimic_perform", "rhythm-af", 12, 12, 47)
    assert said["labels"] == {"rest": {"windows": 24, "subjects": 6}, "af": {"windows": 23, "subjects": 6}}
    assert said["left_out"] == {"a gap (NaN)": 1} and said["recorded_hz"] == [125.0] and said["rate_hz"] == 100.0
    assert said["not_for_search"] is None and said["not_for_evaluate"] is None
    assert as_json(capsys, "data", "check", str(mimic), "--window-s", "20")["windows"] == 23
    assert run(["data", "check", str(mimic)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for words in ("47 of 10 s", "125 Hz, read at 100 Hz", "a gap (NaN)", "can be searched on"):
        assert words in text


def test_what_a_folder_is_not_fit_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "test.npz", **deepbeat_content([11, 11]))
    said = as_json(capsys, "data", "check", str(tmp_path))
    assert "1 subject(s)" in said["not_for_search"] and "an AUC needs both classes" in said["not_for_evaluate"]
    assert "train.npz, validate.npz is not there" in said["notes"]


def test_heart_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of one's own with heart rates in its rows: found without naming the task; their range, not their classes."""
    rows, names = [], []
    for number in range(3):
        t = np.arange(0, 60, 1 / 32)
        bpm = 60 + 10 * number + t / 6
        ppg = np.sin(2 * np.pi * np.cumsum(bpm / 60) / 32)
        rows = [f"{p:.5f},{np.sin(s):.5f},0.1,{np.cos(s):.5f},{b:.3f}" for s, p, b in zip(t, ppg, bpm, strict=True)]
        (tmp_path / f"p{number}.csv").write_text("\n".join(["ppg,x,y,z,bpm", *rows, ""]))
        names.append(f"  - {{file: p{number}.csv, subject: s{number}, heart_rate_column: bpm}}")
    (tmp_path / "dataset.yaml").write_text("\n".join(["channels: [ppg, x, y, z]", "rate_hz: 32", "files:", *names, ""]))
    said = as_json(capsys, "data", "check", str(tmp_path))
    assert (said["format"], said["task"], said["subjects"], said["windows"]) == ("plain", "heart_rate", 3, 81)
    spread = said["heart_rate_bpm"]
    assert spread["lowest"] == pytest.approx(60 + 4 / 6, abs=0.2) and spread["highest"] == pytest.approx(80 + 56 / 6, abs=0.2)
    assert list(spread.values()) == sorted(spread.values()) and said["labels"] == {}
    assert abs(said["offset_windows"]) < 2 and said["notes"] == []
    assert run(["data", "check", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "half of the windows" in text and "alignment" in text and max(map(len, text.splitlines())) <= 80


def test_shifted_heart_rates_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = np.arange(0, 300, 1 / 32)
    bpm = 90 + 35 * np.sin(2 * np.pi * t / 70)
    late = np.interp(t + 8, t, bpm)  # of eight seconds on: four windows too early
    ppg = np.sin(2 * np.pi * np.cumsum(bpm / 60) / 32)
    rows = [f"{p:.5f},0,{np.sin(s):.5f},0,{b:.3f}" for s, p, b in zip(t, ppg, late, strict=True)]
    (tmp_path / "p.csv").write_text("\n".join(["ppg,x,y,z,bpm", *rows, ""]))
    (tmp_path / "dataset.yaml").write_text(
        "channels: [ppg, x, y, z]\nrate_hz: 32\nfiles: [{file: p.csv, subject: a, heart_rate_column: bpm}]\n"
    )
    said = as_json(capsys, "data", "check", str(tmp_path))
    assert said["offset_windows"] == pytest.approx(4.0, abs=0.7) and "windows later: are they shifted?" in said["notes"][0]


def test_nights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        write_night(tmp_path, f"shhs1-20000{number}", [0, 0, 1, 2, 3, 5, 9], bcg=False)
    said = as_json(capsys, "data", "check", str(tmp_path))
    assert (said["format"], said["task"], said["files"], said["windows"]) == ("shhs", "sleep-ecg", 4, 24)
    assert said["labels"]["light"] == {"windows": 8, "subjects": 4} and said["left_out"] == {"scored as no stage": 4}
    assert said["teacher_signals"] == ["ecg"] and said["heart_rate_bpm"] is None and said["not_for_evaluate"] is None
    assert run(["data", "check", str(tmp_path), "--task", "sleep"]) == 1
    assert "0 signals are named BCG" in capsys.readouterr().err
    both = tmp_path / "both"
    write_night(both, "p1", [0, 1, 3], bcg=True)
    said = as_json(capsys, "data", "check", str(both), "--task", "sleep")
    assert said["signals"] == ["bcg"] and said["teacher_signals"] == ["ecg"] and "1 subject(s)" in said["not_for_search"]
    assert run(["data", "check", str(both), "--task", "sleep"]) == 0
    assert "bcg; a teacher reads ecg" in capsys.readouterr().out


def test_paired_recordings(real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(real_data("bcg/autotempmatch_scg_ecg"))
    said = as_json(capsys, "data", "check", folder)
    (recording,) = said["recordings"]
    assert said["task"] is None and recording["marked_beats"] == 286 and min(recording["sensitivity"], recording["precision"]) > 0.99
    assert recording["estimate_mae_bpm"] < recording["constant_mae_bpm"]
    assert run(["data", "check", folder]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert run(["data", "check", folder, "--window-s", "10"]) == 2


def test_a_published_record(real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    said = as_json(capsys, "data", "check", str(real_data("rhythm/mimic_perform_af_wfdb")))
    assert (said["format"], said["task"], said["windows"], said["recorded_hz"]) == ("mimic_perform", "rhythm-af", 120, [125.0])
    assert "all 120 windows are positive" in said["not_for_evaluate"]


def test_published_heart_rates(real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    said = as_json(capsys, "data", "check", str(real_data("heart_rate/ieee_spc2015")))
    assert (said["task"], said["windows"], said["recordings"]) == ("heart_rate", 3203, 23)
    assert said["not_for_search"] is None and abs(said["offset_windows"]) < 0.5


def test_what_is_wrong(mimic: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(code: int, said: str, *arguments: str) -> None:
        capsys.readouterr()
        assert run(["data", "check", *arguments]) == code
        message = capsys.readouterr().err
        assert said in message and "Traceback" not in message

    refused(1, "use --task rhythm-af", str(mimic), "--task", "rhythm")
    refused(1, "cut into 1 to 600 s", str(mimic), "--window-s", "0.1")
    refused(1, "no recordings of a known format", str(mimic), "--task", "heart_rate")
    refused(1, "no recordings of a known format", str(mimic), "--task", "sleep")
    refused(2, "Did you mean 'rhythm-af'", str(mimic), "--task", "rhythm_af")
    refused(2, "Missing argument")
    refused(1, "no such folder", str(mimic / "nowhere"))
    refused(1, "it is empty", str(tmp_path_factory.mktemp("empty")))
    (mimic / "mimic_perform_af_001.dat").write_bytes(b"x")
    refused(1, "mimic_perform_af_001.dat: holds 0 samples", str(mimic))


def test_liu_in_both_tasks(liu_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "data", "check", str(liu_dir))["labels"]["vt"] == {"windows": 1074, "subjects": 22}
    assert as_json(capsys, "data", "check", str(liu_dir), "--task", "rhythm-af")["labels"]["rest"]["windows"] == 7536


@pytest.mark.slow
def test_a_search_and_an_evaluation_on_a_new_format(mimic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    quick = ["--effort", "quick", "--trials", "2", "--students", "1", "--generation", "2", "--jobs", "2", "--quiet"]
    assert run(["search", "--profile", "cortex-m4-192k", "--task", "rhythm-af", "--data", str(mimic), *quick, "--out", str(out)]) == 0
    (student,) = (out / "students").iterdir()
    said = as_json(capsys, "evaluate", str(student), "--data", str(mimic))
    assert said["windows"] == 47 and said["source"] == "real" and 0 <= said["metrics"]["af_auc"] <= 1
