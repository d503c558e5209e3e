"""A search for heart rate whose students answer by classes of it, end to end: what ships, every runtime, exports again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.cli.app import run
from hwnas.errors import RunError
from hwnas.export.runtimes import run_tflite
from hwnas.pipeline.evaluate import RUNTIMES, evaluate_student
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.shipped import load_int8, read_shipped
from hwnas.pipeline.space_report import describe
from hwnas.quantize import reference
from hwnas.quantize.values import Expectation, read_out, value_of
from hwnas.tasks import TASKS, bpm
from hwnas.tasks.synthetic import heart_rate as generator

TASK = TASKS["heart_rate"]
SEARCH = ["search", "--profile", "cortex-m4-192k", "--task", TASK.name, "--space", "spectral", "--effort", "quick", "--jobs", "1"]
SMALL = ["--quiet", "--trials", "2", "--students", "1", "--generation", "2", "--subjects", "6", "--windows", "150"]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the student of a finished search."""
    root = tmp_path_factory.mktemp("runs") / "spectral"
    assert run([*SEARCH, *SMALL, "--out", str(root)]) == 0
    (found,) = json.loads((root / "front.json").read_text())["students"]
    return root / str(found["folder"])


def test_the_card_names_the_classes(student: Path) -> None:
    card = json.loads((student / "card.json").read_text())
    assert len(card["labels"]) in (36, 60) and tuple(card["labels"]) == bpm.names(len(card["labels"])) == TASK.answers(len(card["labels"]))
    assert card["summary"].startswith("split · ") and " · transpose · " in card["summary"] and card["summary"].endswith("pw 1")
    assert card["quantisation"]["temperature"] == 1 and card["quantisation"]["confidence"] is None and not card["exports_lacking"]
    assert card["exports"]["c"]["windows_differing"] == 0 and card["exports"]["onnx"]["unit"] == "BPM"
    bench = json.loads((student / "bench.json").read_text())
    assert [row["operator"] for row in bench["operators"]].count("transpose") == 1
    report = (student.parents[1] / "report.md").read_text()
    assert card["summary"] in report and "largest difference, BPM" in report


def test_every_runtime_gives_the_values_of_the_reference(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The read-out of the same logits; TFLite's built-in kernels round otherwise, and the float student is not rounded at all."""
    card = read_shipped(student)
    q, windows = load_int8(student, card), generator.generate(seed=3, subjects=3, windows=60)
    exact = TASK.estimates(np.asarray(RUNTIMES["reference"](student, card, windows)))  # type: ignore[attr-defined]
    for name, run_in in RUNTIMES.items():
        found = TASK.estimates(np.asarray(run_in(student, card, windows)))  # type: ignore[attr-defined]
        assert np.abs(found - exact).max() < {"reference": 1e-9, "emulator": 1e-9, "float": 3.0}.get(name, 1.0), name
    integers = read_out(q, reference.run(q, reference.quantize_input(q, windows.x)))
    assert np.abs(integers / 256 - exact).max() < 180 * len(card.labels) / 2**18 + 1 / 512
    monkeypatch.setattr(TASK.load.__globals__["generator"], "generate", lambda **_: windows)
    scored = evaluate_student(student, None, runtime="emulator", seed=0, progress=Silent())
    assert scored["metrics"]["mae_bpm"] == pytest.approx(np.abs(exact - windows.y).mean()) and len(scored["by_subject"]) == 3


def test_exports_again_are_the_same_files(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = [word for name in ("tflite", "onnx", "c", "float") for word in ("--format", name)]
    assert run(["export", str(student), *formats, "--out", str(tmp_path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["exports"]
    assert found["float"]["comparison"]["unit"] == found["tflite"]["comparison"]["unit"] == "BPM"
    for name in ("model.tflite", "model.onnx", "firmware/README.md", "firmware/value.c"):
        assert (tmp_path / name).read_bytes() == (student / name).read_bytes()
    card = read_shipped(student)
    q = load_int8(student, card)
    x = reference.quantize_input(q, generator.generate(seed=3, subjects=3, windows=60).x)
    assert run_tflite(tmp_path / "model.tflite", x, q=q).shape == (len(x), len(card.labels))
    assert isinstance(value_of(q.labels), Expectation)


def test_a_card_of_other_classes_is_refused(student: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(student, copy)
    card = json.loads((copy / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"labels": card["labels"][::-1]}))
    with pytest.raises(RunError, match=r"those of task heart_rate are 3[12] bpm"):
        evaluate_student(copy, None, runtime="reference", seed=0, progress=Silent())


@pytest.mark.parametrize(("task", "least"), [("heart_rate", 1_117), ("rhythm", 1_090)])
def test_the_space_is_described_for_a_value_and_for_classes(task: str, least: int) -> None:
    """Less than that nothing has: 24 taps of 36 bands, and the narrowest mixer with a block."""
    found = describe("spectral", "cortex-m4-192k", task, None, candidates=200)
    assert found.space.family == "spectral" and least <= found.parameters.smallest < found.parameters.largest < 9_000
