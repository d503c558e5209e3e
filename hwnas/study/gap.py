"""The teacher-student gap of every segment as a flag of signal quality: where they differ, the student's signal may not hold what it needs.

The gap needs the teacher's signal, so it flags recordings afterwards, not on the device. Beside it stands what the device knows of itself:
the entropy of the student's classes, or how far an estimate lies from the recent ones. Numpy; no torch, no files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from hwnas.metrics import entropy_bits
from hwnas.study import statistics
from hwnas.study.measures import Outputs, members, values_bpm
from hwnas.study.statistics import DRAWS, Floats, Folds, difference, draws, everyone, interval
from hwnas.tasks import Task, Windows
from hwnas.tasks.tracking import RECENT, clip_to_recent

# ANSI/AAMI EC13:2002, 4.2.7: heart rate within 5 BPM or 10 %, whichever is greater
ALLOWED_BPM, ALLOWED_SHARE = 5.0, 0.1
GAP, OWN = "gap", "own"
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Gaps:
    """Windows with what teacher and student say of each.

    Attributes:
        columns: of `gap.csv`, each (N,).
        wrong: windows (N,) that the student gets wrong.
        gap, own: the two flags (N,): larger means more doubtful.
        meanings: what gap, own and wrong are, in words.
    """

    columns: Columns
    wrong: NDArray[np.bool_]
    gap: Floats
    own: Floats
    meanings: Mapping[str, str]


def gaps(task: Task, windows: Windows, teacher: Outputs, student: Outputs) -> Gaps:
    """The gaps of `windows` from calibrated outputs: a teacher's logits (N, K), a student's logits (N, K) or values (N, 1)."""
    places: Columns = {"recording": windows.recordings, "subject": windows.subject, "window": _numbers(windows.recordings)}
    if task.kind == "regression":
        return _of_values(places, windows, teacher, student)
    return _of_classes(places, windows, task.labels, teacher, student)


def _of_classes(places: Columns, windows: Windows, labels: tuple[str, ...], teacher: Outputs, student: Outputs) -> Gaps:
    log_t, log_s = (log_softmax(np.asarray(outputs, dtype=np.float64), axis=1) for outputs in (teacher, student))
    gap = np.sum(np.exp(log_t) * (log_t - log_s), axis=1)
    own, names = entropy_bits(student), np.array(labels)
    wrong = student.argmax(axis=1) != windows.y
    columns = places | {
        "label": names[windows.y],
        "teacher": names[teacher.argmax(axis=1)],
        "teacher_probability": np.exp(log_t.max(axis=1)),
        "teacher_entropy_bits": entropy_bits(teacher),
        "student": names[student.argmax(axis=1)],
        "student_probability": np.exp(log_s.max(axis=1)),
        "student_entropy_bits": own,
        "gap_nats": gap,
        "wrong": wrong.astype(int),
    }
    meanings = {
        GAP: "KL divergence of the student's calibrated probabilities from the teacher's, in nats",
        OWN: "entropy of the student's calibrated probabilities, in bits",
        "wrong": "the student's likeliest class is not the label",
    }
    return Gaps(columns, wrong, gap, own, meanings)


def _of_values(places: Columns, windows: Windows, teacher: Outputs, student: Outputs) -> Gaps:
    taught, found = values_bpm(teacher), values_bpm(student)
    gap, own = np.abs(taught - found), np.abs(found - clip_to_recent(found, windows.recordings))
    wrong = np.abs(found - windows.y) > np.maximum(ALLOWED_BPM, ALLOWED_SHARE * np.asarray(windows.y, dtype=np.float64))
    columns = places | {
        "label_bpm": windows.y,
        "teacher_bpm": taught,
        "teacher_entropy_bits": entropy_bits(teacher),
        "student_bpm": found,
        "gap_bpm": gap,
        "jump_bpm": own,
        "wrong": wrong.astype(int),
    }
    meanings = {
        GAP: "absolute difference of teacher's and student's heart rate, in BPM",
        OWN: f"how far the student's estimate lies beyond 10 % of the mean of its last {RECENT}, in BPM",
        "wrong": f"the student's error is above {ALLOWED_BPM:g} BPM and above {100 * ALLOWED_SHARE:g} % (ANSI/AAMI EC13)",
    }
    return Gaps(columns, wrong, gap, own, meanings)


def flag_quality(found: Gaps, windows: Windows, seed: int) -> dict[str, Any]:
    """How well either flag finds the segments that the student gets wrong: AUC with its 95 % interval over subjects, and their difference.

    Without a wrong or a right segment there is no AUC: its value is None.
    """
    member, subjects = members(windows)
    weights = draws(subjects, DRAWS, np.random.default_rng(seed))
    pooled = {
        name: Folds((statistics.auc(score, found.wrong, member, subjects),), (subjects,))
        for name, score in ((GAP, found.gap), (OWN, found.own))
    }
    one = everyone(subjects)
    said: dict[str, Any] = {f"auc_{name}": asdict(interval(float(flag(one)[0]), flag(weights), subjects)) for name, flag in pooled.items()}
    said["auc_gap_minus_own"] = asdict(difference(pooled[GAP], pooled[OWN], weights))
    means = {f"mean_gap_{name}": found.gap[mask] for name, mask in (("wrong", found.wrong), ("right", ~found.wrong))}
    said |= {name: float(values.mean()) if len(values) else None for name, values in means.items()}
    return said | {"windows": len(windows), "subjects": subjects, "wrong": int(found.wrong.sum()), "meanings": dict(found.meanings)}


def table(found: Gaps) -> str:
    """`gap.csv`: a row a window."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(found.columns)
    for row in zip(*found.columns.values(), strict=True):
        writer.writerow([f"{value:.6g}" if isinstance(value, np.floating) else value for value in row])
    return out.getvalue()


def _numbers(recordings: NDArray[np.str_]) -> NDArray[np.int64]:
    """The number of each window in its recording, from 0."""
    _, member = np.unique(recordings, return_inverse=True)
    order = np.argsort(member, kind="stable")
    counts = np.bincount(member)
    numbers = np.empty(len(member), dtype=np.int64)
    numbers[order] = np.arange(len(member)) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers
