"""Metrics of a student's int8 form on labelled windows. numpy; no torch, no files."""

from __future__ import annotations

import numpy as np

from hwnas.errors import DataError
from hwnas.quantize import reference
from hwnas.quantize.qgraph import Doubles, Int8, QuantGraph
from hwnas.tasks.base import Task, Windows


def score_int8(q: QuantGraph, windows: Windows, task: Task) -> dict[str, float]:
    """The task's metrics of the int8 reference on `windows`; raises DataError where they do not exist."""
    return score_outputs(q, reference.run(q, reference.quantize_input(q, windows.x)), windows, task)


def score_outputs(q: QuantGraph, outputs: Int8, windows: Windows, task: Task) -> dict[str, float]:
    """The task's metrics of int8 outputs (N, K) that some runtime gave for `windows`.

    Raises:
        DataError: outputs that are not those of the task's students, or metrics that do not exist.
    """
    expected = task.answers(len(q.labels))
    if q.labels != expected:
        raise DataError(f"a student of the outputs {', '.join(q.labels)}; those of task {task.name} are {', '.join(expected)}")
    return task.metrics(real_outputs(q, outputs), windows)


def real_outputs(q: QuantGraph, outputs: Int8) -> Doubles:
    """What int8 outputs (N, K) stand for.

    Scales are float32 values, so the products are exact in float64: rounding breaks no tie between two windows.
    """
    real: Doubles = (outputs.astype(np.float64) - q.output.zero_point) * q.output.scale
    return real
