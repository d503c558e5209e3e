"""`evaluate_student`: metrics of an exported student on other recordings, in a runtime of choice. Reads the student's folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwnas.errors import UsageError, lookup
from hwnas.export.runtimes import run_onnx, run_tflite
from hwnas.firmware.build import build
from hwnas.firmware.emulator import Emulator
from hwnas.pipeline.data import GENERATOR, task_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.rundir import read_json
from hwnas.quantize import reference, storage
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import score_outputs
from hwnas.tasks import check_compatible

Runtime = Callable[[Path, QuantGraph, Int8], Int8]


def evaluate_student(folder: Path, data: Path | None, *, runtime: str, seed: int, progress: Progress) -> dict[str, Any]:
    """Metrics of the int8 student in `folder` on the recordings in `data`, or on generated windows.

    Raises:
        UsageError: no student in `folder`, or an unknown runtime.
        DataError: recordings that cannot be read, or of another length or rate than the student's.
    """
    run = lookup(RUNTIMES, runtime, "runtime")
    if not (folder / "card.json").is_file():
        raise UsageError(f"{folder} is no exported student (it has no card.json); give a folder such as runs/NAME/students/ID")
    card = read_json(folder / "card.json")
    q = storage.load(folder)
    task = task_of(card["task"])
    progress.stage("reading recordings" if data else "generating signals")
    windows = task.load(data, window_s=None if data else card["window_s"], seed=seed)
    check_compatible(windows, card["rate_hz"], card["window_s"], card["channels"])
    progress.stage(f"running {len(windows):,} windows ({runtime})")
    outputs = run(folder, q, reference.quantize_input(q, windows.x))
    return {
        "metrics": score_outputs(q, outputs, windows, task),
        "windows": len(windows),
        "subjects": len(windows.subjects),
        "runtime": runtime,
        "student": card["id"],
        "data": data.name if data else GENERATOR,
        "source": windows.source,
    }


def _reference(_: Path, q: QuantGraph, x: Int8) -> Int8:
    return reference.run(q, x)


def _tflite(folder: Path, _: QuantGraph, x: Int8) -> Int8:
    return run_tflite(folder / "model.tflite", x)


def _onnx(folder: Path, _: QuantGraph, x: Int8) -> Int8:
    return run_onnx(folder / "model.onnx", x)


def _emulator(folder: Path, _: QuantGraph, x: Int8) -> Int8:
    with tempfile.TemporaryDirectory(prefix="hwnas-evaluate-") as work:
        elf = Path(work) / "model.elf"
        build(folder / "firmware", elf)
        return Emulator(elf).run(x)


RUNTIMES: dict[str, Runtime] = {"reference": _reference, "tflite": _tflite, "onnx": _onnx, "emulator": _emulator}
