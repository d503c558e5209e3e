"""One distillation: what it writes, that it is the same again, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_teachers
from made_study import SMALL, student_file

from hwnas.errors import ConfigError, DataError, UsageError
from hwnas.export import floats
from hwnas.pipeline.data import load_data
from hwnas.pipeline.progress import Silent
from hwnas.study import distil as study
from hwnas.study.distil import DistilConfig, distil
from hwnas.teachers.cache import predict

DATA = {name: SMALL[name] for name in ("effort", "subjects", "windows", "window_s")}


def settings(folder: Path, **changes: Any) -> DistilConfig:
    return DistilConfig(**{**DATA, "student": str(student_file(folder)), **changes})


def test_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_teachers.shrink(monkeypatch)
    config, out = settings(tmp_path), tmp_path / "out"
    content = distil(config, out, resume=False, progress=Silent())
    assert json.loads((out / "distill.json").read_text()) == content
    assert {path.name for path in out.iterdir()} == {"distill.json", "gap.csv", "student", "study.yaml", "teacher"}
    data = load_data(config)
    for name, part in (("validation", data.split.validation), ("test", data.split.test)):
        found = data.task.metrics(predict(floats.load(out / "student"), part.x), part)
        assert content["metrics"]["student"][name] == pytest.approx(found), "the weights written are those scored"
    rows = list(csv.DictReader((out / "gap.csv").read_text().splitlines()))
    assert len(rows) == len(data.split.test) and {row["subject"] for row in rows} == set(data.split.test.subjects)
    wrong = np.mean([int(row["wrong"]) for row in rows])
    assert wrong == pytest.approx(1 - content["metrics"]["student"]["test"]["accuracy"])
    before = {path.name: path.read_bytes() for path in (out / "gap.csv", out / "student/weights.safetensors")}

    again = tmp_path / "again"
    distil(settings(tmp_path, teacher=f"from:{out / 'teacher'}"), again, resume=False, progress=Silent())
    assert {path.name: path.read_bytes() for path in (again / "gap.csv", again / "student/weights.safetensors")} == before
    with pytest.raises(UsageError, match="continue it with --resume"):
        distil(config, out, resume=False, progress=Silent())
    with pytest.raises(UsageError, match="distillation was 'soft', now 'dkd'"):
        distil(settings(tmp_path, distillation="dkd"), out, resume=True, progress=Silent())


def test_an_interrupted_one_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_teachers.shrink(monkeypatch)
    config = settings(tmp_path, epochs=3)
    distil(config, tmp_path / "whole", resume=False, progress=Silent())
    write = study.floats.save

    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr(study.floats, "save", stop)
    with pytest.raises(Stopped):
        distil(config, tmp_path / "broken", resume=False, progress=Silent())
    assert (tmp_path / "broken" / study.CHECKPOINT).exists()
    monkeypatch.setattr(study.floats, "save", write)
    distil(config, tmp_path / "broken", resume=True, progress=Silent())
    assert (tmp_path / "broken/gap.csv").read_bytes() == (tmp_path / "whole/gap.csv").read_bytes()
    assert not (tmp_path / "broken" / study.CHECKPOINT).exists()


@pytest.mark.parametrize("task", ["heart_rate", "sleep"])
def test_other_tasks(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value in place of classes, and a teacher that reads another signal than the student."""
    tiny_teachers.shrink(monkeypatch)
    content = distil(settings(tmp_path, task=task, window_s=None, windows=240), tmp_path / "out", resume=False, progress=Silent())
    assert content["gap"]["teacher_signal"] == {"heart_rate": ["ppg", "acc_x", "acc_y", "acc_z"], "sleep": ["ecg"]}[task]
    assert content["metrics"]["student"]["test"] and content["metrics"]["teacher"]["test"]
    assert (content["student"]["temperature"] == 1.0) == (task == "heart_rate")


def test_subjects_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One subject, who has no AUC of AF against something else: its other figures are there all the same."""
    tiny_teachers.shrink(monkeypatch)
    content = distil(settings(tmp_path, held_out=("synthetic-003",)), tmp_path / "out", resume=False, progress=Silent())
    assert content["test_subjects"] == ["synthetic-003"] and content["metrics"]["student"]["validation"]
    with pytest.raises(DataError, match="no subject nobody"):
        distil(settings(tmp_path, held_out=("nobody",)), tmp_path / "other", resume=False, progress=Silent())
    with pytest.raises(ConfigError, match="needs a task of kind regression"):
        distil(settings(tmp_path, distillation="pulse"), tmp_path / "other", resume=False, progress=Silent())
    assert not (tmp_path / "other").exists()
