"""`Windows`, `Split` and what every task shares: normalisation, subject splits, compatibility. Numpy only; no files.

A window is (C, T) float32, min-max scaled to [-1, 1] by itself, so that int8 quantisation of the input is one fixed scale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError

Source = Literal["real", "synthetic"]
PARTS = ("train", "validation", "test")
SHARES = np.array([0.6, 0.2, 0.2])
ASSIGNMENTS = 300


@dataclass(frozen=True, eq=False)
class Windows:
    """Labelled windows of one signal.

    `x` (N, C, T) float32 in [-1, 1]; `y` (N,) int64 classes; `subject` (N,) str; `name` says where they come from.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    subject: NDArray[np.str_]
    rate_hz: float
    source: Source
    name: str

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

    def take(self, index: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> Windows:
        """The windows at `index`, in that order."""
        return replace(self, x=self.x[index], y=self.y[index], subject=self.subject[index])


@dataclass(frozen=True)
class Split:
    """Three parts that share no subject."""

    train: Windows
    validation: Windows
    test: Windows


class Task(Protocol):
    """What a task offers; the table of names is `hwnas.tasks.TASKS`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["classification"]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def window_s(self) -> float: ...
    @property
    def description(self) -> str: ...
    @property
    def primary(self) -> str: ...

    def load(
        self, path: Path | None, *, window_s: float | None, seed: int, subjects: int | None = None, windows: int | None = None
    ) -> Windows:
        """Recordings at `path`, or generated windows where it is None; raises DataError."""

    def metrics(self, logits: NDArray[np.floating[Any]], y: NDArray[np.int64]) -> dict[str, float]:
        """Named metrics of logits (N, K); raises DataError where they do not exist."""


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
    flat = (high <= low).any(axis=(1, 2))
    if flat.any():
        raise DataError(f"{where(int(flat.argmax()))} is constant ({int(flat.sum())} such windows): no signal; remove them")
    # halved first, so that a range near the largest float does not overflow
    span = high / 2 - low / 2
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


def split_by_subject(windows: Windows, seed: int, classes: int) -> Split:
    """Split about 60/20/20 by subject; `classes` is the number of classes, the last of them AF.

    Draws 300 random assignments from Generator(seed) and keeps the one that leaves the fewest (part, class) pairs empty,
    then the one whose parts are nearest to 60/20/20 of all windows and of each class. It looks at labels only, never at signals.

    Raises:
        DataError: fewer than 3 subjects, one class only, or no assignment with AF and another rhythm in every part.
    """
    names, member = np.unique(windows.subject, return_inverse=True)
    if len(names) < len(PARTS):
        raise DataError(
            f"{windows.name}: {len(names)} subject(s); a split into {', '.join(PARTS)} by subject needs at least 3, "
            "and some 20 for figures that mean something"
        )
    counts = np.zeros((len(names), classes), dtype=np.int64)
    np.add.at(counts, (member, windows.y), 1)
    present = np.flatnonzero(counts.sum(axis=0))
    if len(present) < 2:
        raise DataError(
            f"{windows.name}: all {len(windows)} windows are of class {present.tolist()}; a classifier needs two classes at least"
        )
    part = _best_assignment(counts, np.random.default_rng(seed))
    for number, title in enumerate(PARTS):
        held = counts[part == number].sum(axis=0)
        if held[-1] == 0 or held[:-1].sum() == 0:
            lacking = "AF" if held[-1] == 0 else "anything but AF"
            raise DataError(
                f"{windows.name}: no split of its {len(names)} subjects has AF and another rhythm in every part "
                f"(the {title} part would lack {lacking}); add recordings of other patients"
            )
    return Split(*(windows.take(np.flatnonzero(part[member] == number)) for number in range(len(PARTS))))


def _best_assignment(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Part number of each subject, from counts (S, K) of its windows per class."""
    subjects = len(counts)
    held_out = max(1, round(subjects * SHARES[1]))
    parts = np.repeat([0, 1, 2], [subjects - 2 * held_out, held_out, held_out])
    present = counts[:, counts.sum(axis=0) > 0]
    binary = np.stack([counts[:, :-1].sum(axis=1), counts[:, -1]], axis=1)
    best, best_cost = parts, np.inf
    for _ in range(ASSIGNMENTS):
        part = rng.permutation(parts)
        inside = part[None, :] == np.arange(3)[:, None]
        per_class = inside @ present
        missing = np.count_nonzero(per_class == 0) + len(PARTS) * present.shape[1] * np.count_nonzero(inside @ binary == 0)
        share = np.abs(per_class / present.sum(axis=0) - SHARES[:, None]).mean()
        size = np.abs(per_class.sum(axis=1) / present.sum() - SHARES).mean()
        cost = 10.0 * missing + share + size
        if cost < best_cost:
            best, best_cost = part, cost
    return best
