"""Recordings of pulse and motion with heart rates, as windows of the task `heart_rate`. Numpy only; no files.

A format's loader yields one `Track` a recording, so that one of them is in memory at a time; here they are resampled, filtered, cut and
counted. A window with a gap, a PPG that stands still for two seconds or no heart rate is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import pulse_motion
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets.files import naming
from hwnas.tasks.datasets.recordings import FLAT, FLAT_S, GAP, MAX_SAMPLES, Recordings, Wanted
from hwnas.tasks.datasets.resample import resample
from hwnas.tasks.pulse_motion import HOP_S, RATE_HZ, WINDOW_S

# A label beyond is an error of the file: no adult's heart keeps such a rate for eight seconds of exercise or rest.
LOWEST_BPM, HIGHEST_BPM = 25.0, 250.0
UNLABELLED, UNHEARD = "no heart rate", "a heart rate for which there is no signal"


@dataclass(frozen=True, eq=False)
class Track:
    """One recording: `ppg` (T,) and `acc` (3, T') from the same moment on, `bpm` (W,) of windows every two seconds, NaN for none."""

    path: Path
    subject: str
    recording: str
    ppg: NDArray[Any]
    ppg_hz: float
    acc: NDArray[Any]
    acc_hz: float
    bpm: NDArray[np.float64]

    @property
    def windows(self) -> int:
        """Windows that both signals fill."""
        return pulse_motion.count(min(self.ppg.shape[-1] / self.ppg_hz, self.acc.shape[-1] / self.acc_hz))


def check_count(track: Track) -> Track:
    """The recording, of a format with exactly one heart rate for every window; raises DataError."""
    if len(track.bpm) != track.windows:
        raise DataError(
            f"{track.path}: {len(track.bpm)} heart rates for a signal of {track.windows} windows ({WINDOW_S:g} s every {HOP_S:g} s); "
            "signal and heart rates are not of one recording, or one of the files is cut short; copy both again"
        )
    return track


def assemble(name: str, tracks: Iterable[Track], wanted: Wanted, notes: tuple[str, ...] = ()) -> Recordings:
    """All windows of the recordings, in order of time; y is the heart rate in BPM.

    Raises:
        DataError: another rate or length than the task's, a heart rate that cannot be, or nothing left to use.
    """
    check_wanted(name, wanted)
    left_out: Counter[str] = Counter()
    rates, files, told = set[float](), 0, list(notes)
    parts: list[tuple[NDArray[Any], ...]] = []
    for track in tracks:
        with naming(track.path):
            parts.append(_windows(track, left_out))
        rates |= {track.ppg_hz, track.acc_hz}
        files += 1
        if len(track.bpm) != track.windows:
            told.append(f"{track.recording}: {len(track.bpm):,} heart rates, a signal of {track.windows:,} windows; what both have is used")
    said = {reason: number for reason, number in sorted(left_out.items()) if number}
    if not sum(len(part[1]) for part in parts):
        why = ", ".join(f"{number:,}: {reason}" for reason, number in said.items())
        raise DataError(f"{name}: no window can be used ({why or 'it holds none'}); check that its recordings last {WINDOW_S:g} s")
    x, y, subject, recording = (np.concatenate(column) for column in zip(*parts, strict=True))
    windows = Windows(x=x, y=y, subject=subject, rate_hz=RATE_HZ, source="real", name=name, recording=recording)
    return Recordings(windows, (), tuple(sorted(rates)), files, said, tuple(told))


def mean_in_windows(bpm: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Heart rates of windows (W,): the mean of those known (T,) at `rate_hz`, NaN where fewer than half are."""
    windows = pulse_motion.count(len(bpm) / rate_hz)
    begin, end = _edges(windows, rate_hz, len(bpm))
    mean, found = pulse_motion.means(bpm, begin, end)
    return np.where(2 * found >= end - begin, mean, np.nan)


def check_wanted(name: str, wanted: Wanted) -> None:
    """Refuse what the heart rates of recordings do not exist for; raises DataError."""
    if wanted.rate_hz != RATE_HZ:
        raise DataError(f"{name}: heart rates are read from {RATE_HZ:g} Hz; asked for {wanted.rate_hz:g} Hz")
    if wanted.window_s not in (None, WINDOW_S):
        raise DataError(
            f"{name}: its heart rates are means over {WINDOW_S:g} s, one every {HOP_S:g} s; asked for windows of {wanted.window_s:g} s"
        )


def _windows(track: Track, left_out: Counter[str]) -> tuple[NDArray[Any], ...]:
    """x (n, 4, 256), y, subject and recording of those windows of a recording that can be used."""
    _check(track)
    number = min(track.windows, len(track.bpm))
    left_out[UNHEARD] += len(track.bpm) - number
    left_out[UNLABELLED] += track.windows - number
    bpm = track.bpm[:number]
    ppg, acc = track.ppg[None], track.acc
    gap = _in_windows(~np.isfinite(track.ppg), track.ppg_hz, number)
    gap |= _in_windows(~np.isfinite(acc).all(axis=0), track.acc_hz, number)
    flat = _in_windows(_still(track.ppg, track.ppg_hz), track.ppg_hz, number)
    even = [resample(_bridged(ppg), track.ppg_hz, RATE_HZ), resample(_bridged(acc), track.acc_hz, RATE_HZ)]
    length = min(part.shape[1] for part in even)
    joined = np.concatenate([part[:, :length] for part in even])
    # rounding may put the last window's end a sample behind the recording's
    spare = max(0, (number - 1) * pulse_motion.HOP + pulse_motion.SAMPLES - length) if number else 0
    joined = np.pad(joined, [(0, 0), (0, spare)], mode="edge")
    filtered = pulse_motion.band_pass(joined)
    x, alive = pulse_motion.scale(pulse_motion.cut(filtered, number), np.abs(joined).max(axis=1, initial=0.0))
    flat |= ~alive
    unknown = np.isnan(bpm)
    keep = ~gap & ~flat & ~unknown
    left_out[GAP] += int(gap.sum())
    left_out[FLAT] += int((flat & ~gap).sum())
    left_out[UNLABELLED] += int((unknown & ~gap & ~flat).sum())
    kept = int(keep.sum())
    return x[keep], bpm[keep].astype(np.float32), np.full(kept, track.subject), np.full(kept, track.recording)


def _check(track: Track) -> None:
    if track.ppg.size * max(1.0, RATE_HZ / track.ppg_hz) > MAX_SAMPLES:
        raise DataError(f"{track.path}: {track.ppg.size:,} samples in one recording; allowed are {MAX_SAMPLES:,}: cut it in several")
    with np.errstate(invalid="ignore"):
        wrong = np.isinf(track.bpm) | (track.bpm < LOWEST_BPM) | (track.bpm > HIGHEST_BPM)
    if wrong.any():
        where = int(wrong.argmax())
        raise DataError(
            f"{track.path}: window {where} has the heart rate {track.bpm[where]:g} BPM ({int(wrong.sum())} such windows); "
            f"allowed are {LOWEST_BPM:g} to {HIGHEST_BPM:g} BPM"
        )


def _in_windows(marked: NDArray[np.bool_], rate_hz: float, number: int) -> NDArray[np.bool_]:
    """Which of the first `number` windows hold a marked sample (T,)."""
    before = np.concatenate([[0], np.cumsum(marked)])
    begin, end = _edges(number, rate_hz, len(marked))
    return np.asarray(before[end] > before[begin])


def _edges(number: int, rate_hz: float, samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First sample of each window, and the one behind its last."""
    begin = pulse_motion.starts_s(number)
    first, last = (np.round(at * rate_hz).astype(np.int64) for at in (begin, begin + WINDOW_S))
    return first, np.minimum(last, samples)


def _still(ppg: NDArray[Any], rate_hz: float) -> NDArray[np.bool_]:
    """Samples (T,) that end two seconds of one and the same value."""
    run = max(1, round(FLAT_S * rate_hz) - 1)
    same = np.concatenate([[0], np.cumsum(ppg[1:] == ppg[:-1])])
    ends = np.zeros(len(ppg), dtype=bool)
    ends[run:] = same[run:] - same[: max(0, len(same) - run)] == run
    return ends


def _bridged(x: NDArray[Any]) -> NDArray[np.float64]:
    """Signals (C, T) with gaps interpolated, each channel scaled to at most 1 so that no filter overflows."""
    finite = np.isfinite(x)
    full = np.where(finite, x, 0.0).astype(np.float64)
    largest = np.abs(full).max(axis=1, keepdims=True, initial=0.0)
    full /= np.where(largest > 0, largest, 1.0)
    index = np.arange(full.shape[1])
    for channel, good in zip(full, finite, strict=True):
        if good.any() and not good.all():
            channel[~good] = np.interp(index[~good], index[good], channel[good])
    return full
