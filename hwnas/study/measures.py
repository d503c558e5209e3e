"""What students of a task are compared by: each measure for a fold and for each of its patients. Numpy; no torch, no files.

`outputs` are a student's or a teacher's, logits already divided by the temperature that calibrates them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hwnas.study import statistics
from hwnas.study.statistics import Floats, Ints, Statistic
from hwnas.tasks import Task, Windows, bpm
from hwnas.tasks.rhythm import af_score
from hwnas.tasks.tracking import clip_to_recent

ENOUGH = 20  # windows of each kind that a patient needs for an AUC of its own
Outputs = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Scored:
    """One training on one fold: the pooled metric, and that of each patient (P,), NaN where it has none."""

    pooled: Statistic
    patients: Floats


@dataclass(frozen=True)
class Measure:
    """One way to compare.

    Attributes:
        better: 1 where larger is better, -1 where smaller is.
        pooling: what the metric of a fold is, in words; `own`: what a patient's is.
    """

    name: str
    title: str
    unit: str
    better: int
    pooling: str
    own: str
    score: Callable[[Outputs, Windows], Scored]


def measures(task: Task) -> tuple[Measure, ...]:
    """The measures of a task, the one that it is compared by first."""
    if task.kind == "regression":
        return RAW, CLIPPED
    if task.primary == AF_AUC.name:
        return AF_AUC, BRIER, ACCURACY
    return _kappa(len(task.labels)), ACCURACY


def values_bpm(outputs: Outputs) -> Floats:
    """Heart rates (N,) that a student (N, 1) or a teacher (N, 180) answers."""
    return bpm.from_output(outputs[:, 0]) if outputs.shape[1] == 1 else bpm.expectation(outputs)


def members(windows: Windows) -> tuple[Ints, int]:
    """The number (N,) of each window's patient in the sorted names, and how many there are."""
    names, member = np.unique(windows.subject, return_inverse=True)
    return np.asarray(member, dtype=np.int64), len(names)


def _own(patients: int, member: Ints, value: Callable[[NDArray[np.bool_]], float]) -> Floats:
    return np.array([value(member == p) for p in range(patients)], dtype=np.float64)


def _af_auc(outputs: Outputs, windows: Windows) -> Scored:
    member, patients = members(windows)
    found = statistics.auc(af_score(outputs), windows.y == outputs.shape[1] - 1, member, patients)
    kinds = found.positives * found.negatives
    enough = np.minimum(found.positives, found.negatives) >= ENOUGH
    return Scored(found, np.where(enough, np.diag(found.above) / np.maximum(kinds, 1), np.nan))


def _brier(outputs: Outputs, windows: Windows) -> Scored:
    member, patients = members(windows)
    is_af = windows.y == outputs.shape[1] - 1
    return _windowwise((softmax(outputs.astype(np.float64), axis=1)[:, -1] - is_af) ** 2, member, patients)


def _accuracy(outputs: Outputs, windows: Windows) -> Scored:
    return _windowwise((outputs.argmax(axis=1) == windows.y).astype(np.float64), *members(windows))


def _windowwise(values: Floats, member: Ints, patients: int) -> Scored:
    found = statistics.mean_of_windows(values, member, patients)
    return Scored(found, found.total / found.count)


def _kappa(classes: int) -> Measure:
    def score(outputs: Outputs, windows: Windows) -> Scored:
        member, patients = members(windows)
        y = np.asarray(windows.y, dtype=np.int64)
        found = statistics.kappa(outputs.argmax(axis=1), y, member, patients, classes)
        return Scored(found, found(np.eye(patients, dtype=np.int64)))

    return Measure("kappa", "Cohen's kappa", "", 1, "over all windows of the fold", "kappa of the patient's windows", score)


def _absolute_error(estimates: Callable[[Outputs, Windows], Floats]) -> Callable[[Outputs, Windows], Scored]:
    def score(outputs: Outputs, windows: Windows) -> Scored:
        member, patients = members(windows)
        own = statistics.mean_of_windows(np.abs(estimates(outputs, windows) - windows.y), member, patients)
        values = own.total / own.count
        return Scored(statistics.mean_of_patients(values), values)

    return score


def _clipped(outputs: Outputs, windows: Windows) -> Floats:
    return clip_to_recent(values_bpm(outputs), windows.recordings)


AF_AUC = Measure("af_auc", "AF AUC", "", 1, "over all windows of the fold", f"AUC of a patient with {ENOUGH} windows of each kind", _af_auc)
BRIER = Measure("brier_af", "Brier score of AF", "", -1, "mean over the fold's windows", "mean over the patient's windows", _brier)
ACCURACY = Measure("accuracy", "accuracy", "", 1, "share of the fold's windows", "share of the patient's windows", _accuracy)
_MEAN = ("mean over the fold's subjects", "mean over the subject's windows")
RAW = Measure("mae_bpm", "MAE, raw", "BPM", -1, *_MEAN, _absolute_error(lambda outputs, _: values_bpm(outputs)))
CLIPPED = Measure("mae_clipped_bpm", "MAE, clipped", "BPM", -1, *_MEAN, _absolute_error(_clipped))
