"""A search for every other task than rhythm, end to end: an error that is minimised, four channels, a teacher of another signal."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.cli.app import run
from hwnas.config import parse
from hwnas.pipeline.config import RunConfig, read_run_yaml
from hwnas.pipeline.data import load_data
from hwnas.tasks import TASKS
from hwnas.tasks.synthetic import heart_rate as heart_rate_generator
from hwnas.teachers.cache import predict
from hwnas.teachers.card import load_teacher

QUICK = ["search", "--profile", "cortex-m4-192k", "--effort", "quick", "--trials", "2", "--students", "1", "--generation", "2"]
SMALL = {
    "heart_rate": ["--space", "modality_conv", "--distillation", "soft+relation", "--subjects", "6", "--windows", "150"],
    "sleep": ["--space", "mobilenet1d", "--cross-fit", "2", "--subjects", "6", "--windows", "120"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`runs(task)`: the directory of a finished run, made once."""
    made: dict[str, Path] = {}

    def find(task: str) -> Path:
        if task not in made:
            root = tmp_path_factory.mktemp("runs") / task
            assert run([*QUICK, "--task", task, *SMALL[task], "--out", str(root), "--quiet", "--jobs", "1"]) == 0
            made[task] = root
        return made[task]

    return find


def front_of(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "front.json").read_text())
    return content


@pytest.mark.parametrize("name", SMALL)
def test_a_search_of_every_task(name: str, runs: Any) -> None:
    task, root = TASKS[name], runs(name)
    front = front_of(root)
    data = load_data(parse(read_run_yaml(root / "run.yaml")[0], RunConfig, "run.yaml"))
    assert (front["task"], front["primary"], front["metric"]["name"]) == (name, task.primary, task.primary)
    assert front["chance_error"] == data.chance_error
    (student,) = front["students"]
    folder = root / student["folder"]
    graph = json.loads((folder / "graph.json").read_text())
    assert graph["nodes"][-1]["units"] == len(task.outputs) and student["labels"] == list(task.outputs)
    assert student["channels"] == len(task.channels) and student["metric"] == front["metric"]
    assert student["metrics"].keys() == {"validation", "test"} and task.primary in student["metrics"]["test"]
    assert student["exports"]["c"]["windows_differing"] == 0 and not student["exports_lacking"]
    module, card = load_teacher(root / "teacher")
    assert card.labels == task.labels and card.in_channels == len(task.teacher_channels)
    answers = predict(module, data.split.test.seen_by_teacher)
    assert front["teacher"]["metrics"]["test"] == task.metrics(answers, data.split.test)
    if task.teacher_channels != task.channels:
        assert not np.allclose(answers, predict(module, data.split.test.x)), "the teacher reads a signal of its own"


@pytest.mark.parametrize(("name", "head"), [("heart_rate", "MAE (BPM)"), ("sleep", "kappa")])
def test_the_report_names_the_metric_and_its_unit(name: str, head: str, runs: Any) -> None:
    root = runs(name)
    page, text = (root / "report.html").read_text(), (root / "report.md").read_text()
    assert f"best student, {head}" in page and f"| {head}: validation, int8 |" in text and f"{head}: test, int8" in text
    assert ("lower is better" in text) == ("lower is better" in page) == (name == "heart_rate")
    assert ("ECE, calibrated" in text) == (name == "sleep") and "AF AUC" not in page
    (row,) = csv.DictReader((root / "front.csv").read_text().splitlines())
    assert float(row[f"test_{TASKS[name].primary}"]) == front_of(root)["students"][0]["metrics"]["test"][TASKS[name].primary]


@pytest.mark.parametrize("name", ["heart_rate", pytest.param("sleep", marks=pytest.mark.slow)])
def test_a_run_of_every_task_is_taken_up_again(name: str, runs: Any, tmp_path: Path) -> None:
    """Without its front and with the log cut in half: to the same bytes."""
    root, copy = runs(name), tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "front.json").unlink()
    shutil.rmtree(copy / "students")
    lines = (copy / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "trials.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    assert run(["search", "--out", str(copy), "--resume", "--quiet", "--jobs", "1"]) == 0
    assert (copy / "front.json").read_bytes() == (root / "front.json").read_bytes()


@pytest.mark.parametrize("runtime", ["reference", "float", "tflite", "tflite-xnnpack", "onnx", "emulator"])
def test_heart_rate_in_every_runtime(runtime: str, runs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the error of every subject, whose mean over windows is that of all."""
    generate: Any = heart_rate_generator.generate
    monkeypatch.setattr(heart_rate_generator, "generate", lambda **a: generate(**{**a, "subjects": 3, "windows": 60}))
    root = runs("heart_rate")
    student = root / front_of(root)["students"][0]["folder"]
    assert run(["evaluate", str(student), "--runtime", runtime, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metric"]["unit"] == "BPM" and len(result["by_subject"]) == result["subjects"] == 3
    assert np.mean(list(result["by_subject"].values())) == pytest.approx(result["metrics"]["mae_subjects_bpm"])


def test_evaluate_of_classes_has_no_figures_by_subject(
    runs: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.tasks.synthetic import sleep as generator

    generate: Any = generator.generate
    monkeypatch.setattr(generator, "generate", lambda **a: generate(**{**a, "subjects": 3, "windows": 60}))
    root = runs("sleep")
    assert run(["evaluate", str(root / front_of(root)["students"][0]["folder"]), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metric"] == {"name": "kappa", "title": "kappa", "unit": None, "lower_is_better": False} and "by_subject" not in result


def test_export_of_a_regression_again(runs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = runs("heart_rate")
    student = root / front_of(root)["students"][0]["folder"]
    formats = [word for name in ("tflite", "onnx", "c", "float") for word in ("--format", name)]
    assert run(["export", str(student), *formats, "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["exports"]
    assert found["float"]["comparison"]["unit"] == "BPM" and found["c"]["comparison"]["windows_differing"] == 0
    for name in ("model.tflite", "model.onnx"):
        assert (tmp_path / "out" / name).read_bytes() == (student / name).read_bytes()
    readme = (tmp_path / "out" / "firmware" / "README.md").read_text()
    assert readme == (student / "firmware" / "README.md").read_text()
    assert "ppg, acc_x, acc_y, acc_z" in readme and "0.4 to 8 Hz" in readme and "32 a second (8 s)" in readme


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--task", "sleep", "--distillation", "pulse"], 2, "loss 'pulse' needs a task of kind regression"),
        (["--task", "rhythm", "--distillation", "sof"], 2, "Did you mean 'soft'"),
        (["--task", "heart_rate", "--distillation", "soft:temperature=11"], 2, "temperature"),
        (["--task", "heartrate"], 2, "Did you mean 'heart_rate'"),
    ],
)
def test_what_a_task_cannot_be_trained_with_is_refused(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*QUICK, *arguments, "--out", str(tmp_path / "run"), "--quiet"]) == code
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_tasks_are_listed_with_what_is_read_and_answered(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["tasks"]) == 0
    shown = capsys.readouterr().out
    assert "MAE (BPM)" in shown and "kappa" in shown and "AF AUC" in shown and max(map(len, shown.splitlines())) <= 80
    assert run(["tasks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed.keys() == TASKS.keys() and listed["heart_rate"]["outputs"] == ["bpm"] and len(listed["heart_rate"]["labels"]) == 180
    assert (listed["sleep"]["channels"], listed["sleep"]["teacher_channels"]) == (["bcg"], ["ecg"])
