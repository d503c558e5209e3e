"""`evaluate_student`: metrics of an exported student on other recordings, in a runtime of choice. Reads the student's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwnas.config import parse
from hwnas.errors import RunError, UsageError, lookup
from hwnas.export.runtimes import run_onnx, run_tflite
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import emulate
from hwnas.hardware.profile import Memory
from hwnas.pipeline.data import GENERATOR, task_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.rundir import read_json
from hwnas.quantize import reference, storage
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import score_outputs
from hwnas.tasks import Windows, check_compatible

CARD_FIELDS = ("id", "core", "memory", "task", "rate_hz", "window_s", "channels", "data", "run_seed", "subjects_seen")
Runtime = Callable[[Path, QuantGraph, Int8], Int8]


def evaluate_student(folder: Path, data: Path | None, *, runtime: str, seed: int, progress: Progress) -> dict[str, Any]:
    """Metrics of the int8 student in `folder` on the recordings in `data`, or on generated windows.

    Raises:
        UsageError: no student in `folder`, or an unknown runtime.
        DataError: recordings that cannot be read, or of another length or rate than the student's.
    """
    run = lookup(RUNTIMES, runtime, "runtime")
    if not all((folder / name).is_file() for name in ("card.json", storage.GRAPH_FILE)):
        raise UsageError(
            f"{folder} is no exported student (it has no card.json and {storage.GRAPH_FILE}); give a folder such as runs/NAME/students/ID"
        )
    card = read_card(folder)
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
        "data": data.resolve().name if data else GENERATOR,
        "source": windows.source,
        "subjects_seen_in_training": _seen(card, windows, seed),
    }


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the student in `folder`; raises RunError where a field that evaluation needs is missing."""
    card = read_json(folder / "card.json")
    absent = [name for name in CARD_FIELDS if name not in card]
    if absent:
        raise RunError(f"{folder / 'card.json'} lacks {', '.join(absent)}; export the student again with this version of hwnas")
    return card


def _seen(card: dict[str, Any], windows: Windows, seed: int) -> int:
    """How many of the subjects the student was trained or chosen on: figures on those say little about others.

    Subjects are known by name, and generated ones by the generator's seed as well.
    """
    if windows.source != card["data"]["source"] or (windows.source == "synthetic" and seed != card["run_seed"]):
        return 0
    return len(set(windows.subjects) & set(card["subjects_seen"]))


def _reference(_: Path, q: QuantGraph, x: Int8) -> Int8:
    return reference.run(q, x)


def _tflite(folder: Path, _: QuantGraph, x: Int8) -> Int8:
    return run_tflite(folder / "model.tflite", x)


def _onnx(folder: Path, _: QuantGraph, x: Int8) -> Int8:
    return run_onnx(folder / "model.onnx", x)


def _emulator(folder: Path, _: QuantGraph, x: Int8) -> Int8:
    card = read_card(folder)
    memory = parse(card["memory"], Memory, str(folder / "card.json"))
    return emulate(folder / "firmware", core(card["core"]), memory).run(x)


RUNTIMES: dict[str, Runtime] = {"reference": _reference, "tflite": _tflite, "onnx": _onnx, "emulator": _emulator}
