"""What people get wrong: one clear message each, exit code 1 or 2, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from hwnas.cli.app import run

from .conftest import QUICK, SMALL


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, *words: str) -> None:
    """Run, and hold the exit code and the message against what is expected."""
    capsys.readouterr()
    assert run(arguments) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"


def patient(folder: Path, number: int, y: list[int], x: np.ndarray | None = None) -> None:
    folder.mkdir(exist_ok=True)
    signal = np.random.default_rng(number).random((len(y), 1000)) if x is None else x
    savemat(folder / f"MPA_{number}.mat", {"ppgseg": signal, "labels": np.array(y, np.uint8)[:, None]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--profile", "cortex-m4-192"], ["unknown hardware profile", "Did you mean 'cortex-m4-192k'"]),
        (["--space", "mobilenet"], ["unknown search space", "Did you mean 'mobilenet1d'"]),
        (["--task", "rythm"], ["unknown task", "Did you mean 'rhythm'"]),
        (["--teacher", "resnet18"], ["unknown teacher", "Did you mean 'resnet18_1d'"]),
        (["--budget", "stricd"], ["budget preset", "Did you mean 'strict'"]),
        (["--tuner", "paretto"], ["tuner", "pareto"]),
        (["--trials", "0"], ["trials"]),
        (["--max-ram-kb", "-1"], ["max_ram_kb"]),
        (["--max-latency-ms", "inf"], ["max_latency_ms"]),
        (["--trails", "3"], ["--trials"]),
    ],
)
def test_flags(change: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, [*QUICK, *change, "--out", str(tmp_path / "run"), "--quiet"], 2, *words)
    assert not (tmp_path / "run").exists()


def test_no_profile(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["search", "--quiet"], 2, "--profile", "hwnas profiles")


def test_a_configuration_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("config: 3\n")
    refused(capsys, ["search", "--config", str(tmp_path / "run.yaml")], 2, "run.yaml", "'config' must be a mapping")


def test_misspelt_key_in_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("profile: cortex-m4-192k\ntrails: 3\n")
    refused(capsys, ["search", "--config", str(tmp_path / "run.yaml")], 2, "run.yaml", "trails", "Did you mean 'trials'")


def test_a_budget_that_nothing_meets_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*QUICK, *SMALL, "--max-ram-kb", "1", "--out", str(tmp_path / "run"), "--quiet"]
    refused(capsys, arguments, 1, "no candidate", "ram_bytes", "allowed 1,024")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "text", "nan", "constant", "label", "one patient", "one class"])
def test_recordings(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, everything = tmp_path / "data", [0, 1, 2, 3, 4, 5]
    signal = np.random.default_rng(0).random((6, 1000))
    if kind != "missing":
        folder.mkdir()
    if kind not in ("missing", "empty"):
        for number in range(1 if kind == "one patient" else 8):
            patient(folder, number, [0] * 6 if kind == "one class" else everything)
    if kind == "truncated":
        (folder / "MPA_3.mat").write_bytes((folder / "MPA_3.mat").read_bytes()[:-100])
    if kind == "text":
        (folder / "MPA_3.mat").write_text("no MATLAB file\n" * 40)
    if kind == "nan":
        signal[2, 7] = np.nan
        patient(folder, 3, everything, signal)
    if kind == "constant":
        signal[2] = 0.5
        patient(folder, 3, everything, signal)
    if kind == "label":
        patient(folder, 3, [0, 1, 2, 3, 4, 9])
    words = {
        "missing": ["data"],
        "empty": ["MPA_"],
        "one patient": ["1 subject", "at least 3"],
        "one class": ["all 48 windows are of class"],
        "label": ["MPA_3.mat", "0..5"],
    }.get(kind, ["MPA_3.mat"])
    root = tmp_path / "run"
    refused(capsys, [*QUICK, "--data", str(folder), "--out", str(root), "--quiet"], 1, *words)
    assert not root.exists()


def test_evaluate_refuses_other_lengths_and_folders(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["evaluate", str(tmp_path), "--quiet"], 2, "no exported student")
    student = str(next((finished / "students").iterdir()))
    refused(capsys, ["evaluate", student, "--runtime", "tflight", "--quiet"], 2, "Did you mean 'tflite'")
    refused(capsys, ["evaluate", student, "--data", str(tmp_path / "none"), "--quiet"], 1, "none")


@pytest.mark.parametrize("place", ["a file", "a folder that is no run"])
def test_out_that_is_something_else(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    if place == "a file":
        root.write_text("mine")
    else:
        root.mkdir()
        (root / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    refused(capsys, [*QUICK, *SMALL, "--out", str(root), "--quiet"], 2, "no run of hwnas", "--out")
    assert sorted(tmp_path.rglob("*")) == before


def test_out_below_a_file_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    refused(capsys, [*QUICK, *SMALL, "--out", str(tmp_path / "file" / "run"), "--quiet"], 1, "cannot write", "--out")


def test_full_disk_leaves_nothing_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    root = tmp_path / "run"
    refused(capsys, [*QUICK, *SMALL, "--out", str(root), "--quiet"], 1, "No space left on device", "run.yaml")
    assert not any(path.is_file() for path in root.rglob("*"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ([], "--resume"),
        (["--resume", "--seed", "5"], "seed was 0, now 5"),
        (["--resume", "--teacher", "resnet34_1d"], "teacher was"),
        (["--resume", "--windows", "300"], "data was"),
        (["--resume", "--max-latency-ms", "5"], "budget was"),
        (["--resume", "--split-seed", "5"], "split_seed was"),
        (["--resume", "--trials", "2"], "holds 4 scored candidates"),
    ],
)
def test_a_run_is_continued_only_as_it_was(change: list[str], word: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, [*QUICK, *SMALL, "--out", str(finished), "--quiet", *change], 2, word)


def test_resume_with_another_space(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hwnas.resources import folder

    mine = tmp_path / "mine.yaml"
    shutil.copy(folder("search_spaces") / "mobilenet1d.yaml", mine)
    refused(capsys, [*QUICK, *SMALL, "--space", str(mine), "--out", str(finished), "--resume", "--quiet"], 2, "spaces was")


def test_a_changed_teacher_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    weights = bytearray((copy / "teacher" / "weights.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "teacher" / "weights.safetensors").write_bytes(weights)
    refused(capsys, [*QUICK, *SMALL, "--out", str(copy), "--resume", "--quiet"], 1, "weights.safetensors", "changed")


def test_debug_shows_the_traceback() -> None:
    arguments: list[Any] = ["search", "--profile", "nothing", "--debug"]
    with pytest.raises(Exception, match="unknown hardware profile"):
        run(arguments)
