"""`Windows`, the seam `Task`, and what every task shares: normalisation, compatibility. Numpy only; no files.

A window is (C, T) float32, min-max scaled to [-1, 1] by itself, so that int8 quantisation of the input is one fixed scale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError

Source = Literal["real", "synthetic"]
Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Windows:
    """Labelled windows of one signal, those of a recording in order of time.

    Attributes:
        x: what a student reads: (N, C, T) float32 in [-1, 1].
        y: (N,) int64 classes, or float32 values (BPM) where the task is a regression.
        subject: (N,) str.
        source, name: where they come from.
        teacher_x: what a teacher reads where that is another signal: (N, C', T') float32 in [-1, 1], of the same seconds.
        recording: (N,) str where a subject has several.
    """

    x: NDArray[np.float32]
    y: Labels
    subject: NDArray[np.str_]
    rate_hz: float
    source: Source
    name: str
    teacher_x: NDArray[np.float32] | None = None
    recording: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def window_s(self) -> float:
        """Length of one window in seconds."""
        return self.x.shape[2] / self.rate_hz

    @property
    def subjects(self) -> tuple[str, ...]:
        """The distinct subjects, sorted."""
        return tuple(str(s) for s in np.unique(self.subject))

    @property
    def seen_by_teacher(self) -> NDArray[np.float32]:
        """The windows as a teacher reads them."""
        return self.x if self.teacher_x is None else self.teacher_x

    @property
    def recordings(self) -> NDArray[np.str_]:
        """Recording of each window (N,): windows of one follow each other in time."""
        return self.subject if self.recording is None else self.recording

    def take(self, index: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> Windows:
        """The windows at `index`, in that order."""
        chosen = {
            name: value[index] for name in ("x", "y", "subject", "teacher_x", "recording") if (value := getattr(self, name)) is not None
        }
        return replace(self, **chosen)

    @property
    def hash(self) -> str:
        """Content hash of everything that a network can learn from."""
        extra = [array for array in (self.teacher_x, self.recording) if array is not None]
        return fingerprint(self.x, self.y, self.subject, *extra)


Kind = Literal["classification", "regression"]


class Task(Protocol):
    """What a task offers; the table of names is `hwnas.tasks.TASKS`.

    A teacher always answers classes (logits (N, K), K = len(`labels`)), of a regression narrow ranges of the value; a student answers
    `outputs`: the same classes, or of a regression one value that `metrics` knows the unit of. A family of networks may answer such a
    value by classes of its own, wider ones; `answers` names them.

    Attributes:
        labels: names of the classes that a teacher tells apart.
        outputs: names of the outputs that a student is asked for.
        channels, teacher_channels: signals that a student and a teacher read.
        primary: the metric that students are compared by.
        loss_allowed: how much worse `error` may get by int8 before integers are trained.
        needed: strata that every part of a split must hold, with another one beside them.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def teacher_channels(self) -> tuple[str, ...]: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def window_s(self) -> float: ...
    @property
    def description(self) -> str: ...
    @property
    def primary(self) -> str: ...
    @property
    def loss_allowed(self) -> float: ...
    @property
    def needed(self) -> tuple[int, ...]: ...

    def load(
        self, path: Path | None, *, window_s: float | None, seed: int, subjects: int | None = None, windows: int | None = None
    ) -> Windows:
        """Recordings at `path`, or generated windows where it is None; raises DataError."""

    def answers(self, count: int) -> tuple[str, ...]:
        """Names of the outputs of a student that has `count`; raises DataError where it is none for this task."""

    def metrics(self, outputs: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        """Named metrics of a teacher's logits (N, K) or a student's outputs for `windows`; raises DataError where they do not exist."""

    def error(self, metrics: Mapping[str, float]) -> float:
        """What a search minimises, from `metrics`: smaller is better."""

    def classes(self, y: Labels) -> NDArray[np.int64]:
        """The class (N,) among `labels` that a teacher should answer for labels `y`."""

    def strata(self, y: Labels) -> NDArray[np.int64]:
        """Groups (N,), 0 to some S - 1, that the parts of a split should hold alike."""


def class_answers(task: Task, count: int) -> tuple[str, ...]:
    """`answers` of a classification: its labels, an output each; raises DataError for another number of outputs."""
    if count != len(task.labels):
        raise DataError(
            f"a student of {count} outputs for task {task.name}, which tells {len(task.labels)} classes apart: {', '.join(task.labels)}; "
            "give it an output for each"
        )
    return task.labels


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Content hash (16 hex digits) of arrays: type, shape and bytes of each."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def normalise(x: NDArray[np.floating[Any]], where: Callable[[int], str] = lambda i: f"window {i}") -> NDArray[np.float32]:
    """Min-max scale every window and channel of (N, C, T) to [-1, 1].

    Raises:
        DataError: NaN, infinity or a constant window; `where(i)` names it.
    """
    bad = ~np.isfinite(x).all(axis=(1, 2))
    if bad.any():
        raise DataError(f"{where(int(bad.argmax()))} holds NaN or infinity ({int(bad.sum())} such windows); remove them")
    low, high = x.min(axis=2, keepdims=True), x.max(axis=2, keepdims=True)
    # halved first, so that a range near the largest float does not overflow; one near the smallest is none then
    span = high / 2 - low / 2
    flat = (span <= 0).any(axis=(1, 2))
    if flat.any():
        raise DataError(f"{where(int(flat.argmax()))} is constant ({int(flat.sum())} such windows): no signal; remove them")
    return np.asarray(np.clip((x / 2 - low / 2) / span * 2 - 1, -1.0, 1.0), dtype=np.float32)


def check_compatible(windows: Windows, rate_hz: float, window_s: float, channels: int = 1) -> None:
    """Refuse windows that a student for (`channels`, `window_s` at `rate_hz`) cannot read.

    Raises:
        DataError: another rate, length or number of channels, with the reason.
    """
    if windows.rate_hz != rate_hz:
        raise DataError(
            f"{windows.name}: sampled at {windows.rate_hz:g} Hz, the student reads {rate_hz:g} Hz; its filters mean other "
            "frequencies there. Resample the recordings or search a student for this rate"
        )
    if windows.x.shape[2] != round(window_s * rate_hz):
        raise DataError(
            f"{windows.name}: windows of {windows.window_s:g} s, the student reads {window_s:g} s "
            f"({round(window_s * rate_hz)} samples). Cut the recordings to that length or search a student for this one"
        )
    if windows.x.shape[1] != channels:
        raise DataError(f"{windows.name}: {windows.x.shape[1]} channels, the student reads {channels}; give it the signal it was made for")
