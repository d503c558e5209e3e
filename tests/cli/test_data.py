"""`hwnas data check`: what a folder holds, what is left out, what is wrong with it; and the same folders through the other commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
    assert "1 subject(s)" in said["not_for_search"] and "with AF and without" in said["not_for_evaluate"]
    assert "train.npz, validate.npz is not there" in said["notes"]


def test_what_is_wrong(mimic: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(code: int, said: str, *arguments: str) -> None:
        capsys.readouterr()
        assert run(["data", "check", *arguments]) == code
        message = capsys.readouterr().err
        assert said in message and "Traceback" not in message

    refused(1, "use --task rhythm-af", str(mimic), "--task", "rhythm")
    refused(1, "cut into 1 to 600 s", str(mimic), "--window-s", "0.1")
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
