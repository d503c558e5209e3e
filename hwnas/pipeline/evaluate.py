"""`evaluate_student`: metrics of an exported student on other recordings, in a runtime of choice. Reads the student's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import lookup
from hwnas.export import floats
from hwnas.export.runtimes import TfliteKernels, run_onnx, run_tflite
from hwnas.firmware.cores import core
from hwnas.firmware.emulator import emulate
from hwnas.pipeline.data import GENERATOR, task_of
from hwnas.pipeline.front import describe_metric
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.shipped import ShippedCard, firmware_of, load_int8, read_shipped
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Int8, QuantGraph
from hwnas.quantize.scoring import real_outputs
from hwnas.tasks import Task, Windows, check_compatible
from hwnas.teachers.cache import predict

Outputs = NDArray[np.floating[Any]]
RunStudent = Callable[[Path, ShippedCard, Windows], Outputs]
RunInt8 = Callable[[Path, ShippedCard, QuantGraph, Int8], Int8]


def evaluate_student(folder: Path, data: Path | None, *, runtime: str, seed: int, progress: Progress) -> dict[str, Any]:
    """Metrics of the student in `folder` on the recordings in `data`, or on generated windows.

    Raises:
        UsageError: no student in `folder`, or an unknown runtime.
        RunError, QuantizationError, ExportError, FirmwareError: a file of the student is missing, damaged or another student's.
        DataError: recordings that cannot be read, or of another length, rate or number of channels than the student's.
    """
    run = lookup(RUNTIMES, runtime, "runtime")
    card = read_shipped(folder)
    task = task_of(card.task)
    card.check_task(task, folder)
    progress.stage("reading recordings" if data else "generating signals")
    windows = task.load(data, window_s=card.window_s, seed=seed)
    check_compatible(windows, card.rate_hz, card.window_s, card.channels)
    progress.stage(f"running {len(windows):,} windows ({runtime})")
    outputs = run(folder, card, windows)
    subjects = by_subject(task, outputs, windows)
    return {
        "metrics": task.metrics(outputs, windows),
        "metric": describe_metric(task),
        **({"by_subject": subjects} if subjects else {}),
        "windows": len(windows),
        "subjects": len(windows.subjects),
        "runtime": runtime,
        "weights": "float32" if runtime == FLOAT else "int8",
        "student": card.id,
        "data": data.resolve().name if data else GENERATOR,
        "source": windows.source,
        "subjects_seen_in_training": _seen(card, windows, seed),
    }


def _seen(card: ShippedCard, windows: Windows, seed: int) -> int:
    """How many of the subjects the student was trained or chosen on: figures on those say little about others.

    Subjects are known by name, and generated ones by the generator's seed as well.
    """
    if windows.source != card.data.source or (windows.source == "synthetic" and seed != card.run_seed):
        return 0
    return len(set(windows.subjects) & set(card.subjects_seen))


def by_subject(task: Task, outputs: Outputs, windows: Windows) -> dict[str, float]:
    """The primary metric of each subject; of a regression alone, since a subject need not have the classes that a score compares."""
    if task.kind != "regression":
        return {}
    of_each = {name: np.flatnonzero(windows.subject == name) for name in windows.subjects}
    return {name: task.metrics(outputs[index], windows.take(index))[task.primary] for name, index in of_each.items()}


def _int8(run: RunInt8) -> RunStudent:
    def outputs(folder: Path, card: ShippedCard, windows: Windows) -> Outputs:
        q = load_int8(folder, card)
        return real_outputs(q, run(folder, card, q, reference.quantize_input(q, windows.x)))

    return outputs


def _float(folder: Path, card: ShippedCard, windows: Windows) -> Outputs:
    student = floats.load(folder)
    card.check_graph(student.graph, folder)
    return predict(student, windows.x)


def _reference(_: Path, __: ShippedCard, q: QuantGraph, x: Int8) -> Int8:
    return reference.run(q, x)


def _tflite(kernels: TfliteKernels) -> RunInt8:
    return lambda folder, _, q, x: run_tflite(folder / "model.tflite", x, kernels, q=q)


def _onnx(folder: Path, _: ShippedCard, q: QuantGraph, x: Int8) -> Int8:
    return run_onnx(folder / "model.onnx", x, q=q)


def _emulator(folder: Path, card: ShippedCard, _: QuantGraph, x: Int8) -> Int8:
    return emulate(firmware_of(folder, card), core(card.core), card.memory).run(x)


FLOAT = "float"
RUNTIMES: dict[str, RunStudent] = {
    "reference": _int8(_reference),
    "tflite": _int8(_tflite(TfliteKernels.BUILTIN)),
    "tflite-xnnpack": _int8(_tflite(TfliteKernels.XNNPACK)),
    "onnx": _int8(_onnx),
    "emulator": _int8(_emulator),
    FLOAT: _float,
}
