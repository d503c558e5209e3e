"""What a loader is asked for and what it gives; cutting long recordings into windows. Numpy only; no files.

A window with a gap (NaN, infinity), with a flat stretch of two seconds or with more than one label is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows, normalise
from hwnas.tasks.datasets.resample import MAX_FACTOR, resample

# Labels of recordings that say AF or not, and no more.
AF_OR_NOT = ("rest", "af")
# Slower ones cannot show a pulse wave, faster ones are no pulse wave.
RATES_HZ = (20.0, 20_000.0)
FLAT_S = 2.0
# control characters, and what stands for bytes of a file's name that are no text
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# so that reading one takes no more than some 2 GB; six days at 100 Hz
MAX_SAMPLES = 50_000_000
# windows and segments are worked on in blocks of so many samples
BLOCK_SAMPLES = 4_000_000
# a range of what is scaled to 1 that is none
NOTHING = 1e-290
MIN_WINDOW_S, MAX_WINDOW_S = 1.0, 600.0
GAP, FLAT, SHORT = "a gap (NaN)", "a flat stretch", "shorter than a window"


@dataclass(frozen=True)
class Wanted:
    """What a task reads: its rate, and the window length where one is asked for (None: what suits the recordings)."""

    rate_hz: float
    window_s: float | None = None

    def length_s(self, default_s: float) -> float:
        """The length asked for or the default, as a whole number of samples; raises DataError where it cannot be cut."""
        length_s = default_s if self.window_s is None else self.window_s
        if not MIN_WINDOW_S <= length_s <= MAX_WINDOW_S:
            raise DataError(f"windows of {length_s:g} s; recordings are cut into {MIN_WINDOW_S:g} to {MAX_WINDOW_S:g} s")
        return round(length_s * self.rate_hz) / self.rate_hz


@dataclass(frozen=True, eq=False)
class Recordings:
    """Windows of a folder and what is to be known of where they come from.

    `labels` names the classes that `windows.y` counts; `recorded_hz` are the rates of the files; `left_out` says how many windows
    were not taken and why; `notes` are sentences for a reader.
    """

    windows: Windows
    labels: tuple[str, ...]
    recorded_hz: tuple[float, ...]
    files: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.windows.subjects:
            if UNWRITABLE.search(name):
                raise DataError(f"{self.windows.name}: the subject {name!a} has a character that cannot be written; rename it or its file")


def check_rate(rate_hz: float, where: str) -> float:
    """`rate_hz`, or DataError where no pulse wave can have been sampled so."""
    low, high = RATES_HZ
    if not low <= rate_hz <= high:
        raise DataError(f"{where}: sampled at {rate_hz:g} Hz; allowed are {low:g} to {high:g} Hz")
    return rate_hz


@dataclass(frozen=True, eq=False)
class Piece:
    """Windows `x` (n, C, T) float32 of recordings; `segment` and `start` (n,) say which one and at which sample a window begins."""

    x: NDArray[np.float32]
    segment: NDArray[np.int64]
    start: NDArray[np.int64]


def cut(segments: NDArray[Any], rate_hz: float, to_hz: float, window_s: float, left_out: Counter[str]) -> Piece:
    """Windows of `window_s` of recordings (S, C, N) at `rate_hz`, side by side from the first sample of each, resampled to `to_hz`.

    Recordings are never joined. Gaps are bridged before the filter, and windows with one are left out. Counts into `left_out`.

    Raises:
        DataError: more samples than memory should be given to.
    """
    size = segments.size * max(1.0, to_hz / rate_hz)
    if size > MAX_SAMPLES:
        raise DataError(f"{size:,.0f} samples in one recording; allowed are {MAX_SAMPLES:,}: cut it into several files")
    # a filter's margins can be longer than a short segment
    room = segments.shape[1] * (segments.shape[2] * max(1.0, to_hz / rate_hz) + 4 * MAX_FACTOR)
    block = max(1, int(BLOCK_SAMPLES / room))
    places = range(0, max(1, len(segments)), block)
    pieces = [_cut(segments[place : place + block], rate_hz, to_hz, window_s, left_out) for place in places]
    segment = np.concatenate([piece.segment + place for piece, place in zip(pieces, places, strict=True)])
    return Piece(np.concatenate([piece.x for piece in pieces]), segment, np.concatenate([piece.start for piece in pieces]))


def _cut(segments: NDArray[Any], rate_hz: float, to_hz: float, window_s: float, left_out: Counter[str]) -> Piece:
    length = round(window_s * to_hz)
    count = int(segments.shape[2] / rate_hz / window_s + 1e-9)
    edges = np.round(np.arange(count + 1) * window_s * rate_hz).astype(np.int64)
    if not count:
        left_out[SHORT] += len(segments)
    finite = np.isfinite(segments)
    held = _held(segments, max(1, round(min(FLAT_S, window_s) * rate_hz) - 1))
    spans = list(pairwise(edges.tolist()))
    gap = np.array([~finite[:, :, a:b].all(axis=(1, 2)) for a, b in spans], dtype=bool).reshape(count, len(segments)).T
    flat = np.array([held(a, b) for a, b in spans], dtype=bool).reshape(count, len(segments)).T & ~gap
    segment, number = np.nonzero(~gap & ~flat)
    left_out[GAP] += int(gap.sum())
    left_out[FLAT] += int(flat.sum())
    used, row = np.unique(segment, return_inverse=True)
    even = resample(_bridged(segments[used], finite[used]), rate_hz, to_hz)
    # rounding may put the last window's end one sample behind the recording's
    begin = np.clip(np.round(edges[number] / rate_hz * to_hz).astype(np.int64), 0, max(0, even.shape[2] - length))
    x = np.zeros((len(begin), segments.shape[1], length), np.float32)
    silent = np.zeros(len(begin), dtype=bool)
    block = max(1, BLOCK_SAMPLES // (segments.shape[1] * length))
    for place in range(0, len(begin), block):
        span = slice(place, place + block)
        windows = np.stack([even[r, :, a : a + length] for r, a in zip(row[span], begin[span], strict=True)])
        # what oscillates above the pass band only is gone now
        silent[span] = (windows.max(axis=2) - windows.min(axis=2) < NOTHING).any(axis=1)
        if not silent[span].all():
            x[span][~silent[span]] = normalise(windows[~silent[span]])
    left_out[FLAT] += int(silent.sum())
    return Piece(x[~silent], segment[~silent], edges[number][~silent])


def gather(
    name: str,
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]],
    labels: tuple[str, ...],
    to_hz: float,
    recorded_hz: Sequence[float],
    left_out: Counter[str],
    files: int,
    notes: tuple[str, ...] = (),
) -> Recordings:
    """The parts (x, y, subject) of a folder's files as one; raises DataError where no window is left."""
    said = {reason: count for reason, count in sorted(left_out.items()) if count}
    if not sum(len(y) for _, y, _ in parts):
        why = ", ".join(f"{count:,}: {reason}" for reason, count in said.items())
        raise DataError(f"{name}: no window can be used ({why or 'it holds none'}); check the channel, the rate and the window length")
    x, y, subject = (np.concatenate([part[i] for part in parts]) for i in range(3))
    windows = Windows(x=x, y=y, subject=subject, rate_hz=to_hz, source="real", name=name)
    return Recordings(windows, labels, tuple(sorted(set(recorded_hz))), files, said, notes)


def _held(segments: NDArray[Any], steps: int) -> Callable[[int, int], NDArray[np.bool_]]:
    """Whether some channel holds one value for `steps` steps within samples [a, b): a function that says so of every segment (S,)."""
    still = np.cumsum(segments[:, :, 1:] == segments[:, :, :-1], axis=2, dtype=np.int32)
    still = np.concatenate([np.zeros((*segments.shape[:2], 1), np.int32), still], axis=2)
    begins = still[:, :, steps:] - still[:, :, :-steps] == steps
    return lambda a, b: np.asarray(begins[:, :, a : max(a, b - steps)].any(axis=(1, 2)))


def _bridged(segments: NDArray[Any], finite: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(S, C, N) with gaps interpolated, each channel scaled to at most 1 so that no filter overflows."""
    full = np.where(finite, segments, 0.0).astype(np.float64, copy=False)
    largest = np.maximum(full.max(axis=2, keepdims=True, initial=0.0), -full.min(axis=2, keepdims=True, initial=0.0))
    full /= np.where(largest > 0, largest, 1.0)
    index = np.arange(full.shape[2])
    for s, c in zip(*np.nonzero(~finite.all(axis=2)), strict=True):
        good = finite[s, c]
        full[s, c, ~good] = np.interp(index[~good], index[good], full[s, c, good])
    return full
