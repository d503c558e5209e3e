"""Task `heart_rate`: beats per minute of eight seconds from PPG and acceleration. Reads recordings through `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks import bpm, datasets, pulse_motion, tracking
from hwnas.tasks.base import Labels, Windows
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.synthetic import heart_rate as generator

# rest, light, moderate and hard exercise; a stratum is what lies between two
STRATA_BPM = (80.0, 110.0, 140.0)
WITHIN_BPM = 5.0


@dataclass(frozen=True)
class HeartRate:
    """Heart rate as a regression.

    A teacher answers 180 classes of 1 BPM, a student one value on the scale of `bpm.to_output`, or wider classes.
    """

    name: str = "heart_rate"
    description: str = "heart rate in BPM from PPG and acceleration, every 2 s"
    labels: tuple[str, ...] = bpm.LABELS
    outputs: tuple[str, ...] = ("bpm",)
    kind: Literal["regression"] = "regression"
    rate_hz: float = pulse_motion.RATE_HZ
    window_s: float = pulse_motion.WINDOW_S
    primary: str = "mae_bpm"
    loss_allowed: float = 0.1
    channels: tuple[str, ...] = pulse_motion.CHANNELS
    teacher_channels: tuple[str, ...] = pulse_motion.CHANNELS
    needed: tuple[int, ...] = ()

    def load(
        self, path: Path | None, *, window_s: float | None, seed: int, subjects: int | None = None, windows: int | None = None
    ) -> Windows:
        """Recordings at `path` (any format of `datasets.HEART_RATE_FORMATS`), or generated windows where it is None.

        Windows are of 8 s, every 2 s; the other arguments are the generator's.

        Raises:
            DataError: unusable recordings, another length, or sizes that do not fit together.
        """
        if window_s not in (None, self.window_s):
            raise DataError(f"windows of {window_s:g} s; task {self.name} reads {self.window_s:g} s every {pulse_motion.HOP_S:g} s")
        if path is None:
            return generator.generate(seed=seed, subjects=subjects, windows=windows)
        if subjects is not None or windows is not None:
            raise DataError(f"{path}: numbers of subjects and windows are for the generator; recordings are read whole")
        return self.relabel(datasets.load(path, datasets.HEART_RATE_FORMATS, Wanted(self.rate_hz, window_s))).windows

    def relabel(self, found: Recordings) -> Recordings:
        """Recordings as this task reads them; their heart rates are in BPM already.

        Raises:
            DataError: other channels, or classes for heart rates.
        """
        channels = found.windows.x.shape[1]
        if channels != len(self.channels):
            raise DataError(f"{found.windows.name}: {channels} channels; task {self.name} reads {', '.join(self.channels)}")
        if found.labels or found.windows.y.dtype.kind != "f":
            raise DataError(f"{found.windows.name}: its labels are {', '.join(found.labels)}; task {self.name} needs heart rates in BPM")
        return found

    def answers(self, count: int) -> tuple[str, ...]:
        """One value, or classes of heart rate by their middles; raises DataError where 180 cannot be joined to so many."""
        return self.outputs if count == 1 else bpm.names(count)

    def estimates(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Heart rates (N,) in BPM of logits (N, K) of classes, 180 of a teacher, or of a student's values (N, 1).

        Raises:
            DataError: another shape or number of classes, or outputs that are not finite.
        """
        if outputs.ndim != 2:
            raise DataError(f"task {self.name}: outputs of shape {outputs.shape}, expected (windows, 1) or (windows, classes)")
        if not np.isfinite(outputs).all():
            raise DataError("outputs hold NaN or infinity: the network diverged; train it again with a smaller learning rate")
        return bpm.from_output(outputs[:, 0]) if outputs.shape[1] == 1 else bpm.expectation(outputs)

    def metrics(self, outputs: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        """Errors of logits (N, K) or values (N, 1), read as `estimates` does, in BPM.

        `mae_bpm` of the estimates as they are and `mae_clipped_bpm` of those clipped to recent ones, over all windows;
        `mae_subjects_bpm`, the mean of the subjects' own MAE; `rmse_bpm`; `bias_bpm`, estimate minus truth; `within_5_bpm`, a share.

        Raises:
            DataError: no windows, another number or shape of outputs, or outputs that are not finite.
        """
        found = self.estimates(outputs)
        if len(found) != len(windows) or not len(windows):
            raise DataError(f"{len(found)} outputs for {len(windows)} windows: they must be as many, and one at least")
        error = found - windows.y
        clipped = tracking.clip_to_recent(found, windows.recordings) - windows.y
        return {
            "mae_bpm": float(np.abs(error).mean()),
            "mae_clipped_bpm": float(np.abs(clipped).mean()),
            "mae_subjects_bpm": float(np.mean(list(self.subject_errors(outputs, windows).values()))),
            "rmse_bpm": float(np.sqrt(np.mean(error**2))),
            "bias_bpm": float(error.mean()),
            "within_5_bpm": float((np.abs(error) <= WITHIN_BPM).mean()),
        }

    def subject_errors(self, outputs: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        """Mean absolute error in BPM of each subject."""
        error = np.abs(self.estimates(outputs) - windows.y)
        return {name: float(error[windows.subject == name].mean()) for name in windows.subjects}

    def error(self, metrics: Mapping[str, float]) -> float:
        """The mean absolute error in BPM."""
        return metrics[self.primary]

    def classes(self, y: Labels) -> NDArray[np.int64]:
        """The nearest of 180 classes of 1 BPM."""
        return bpm.classes(np.asarray(y, dtype=np.float64))

    def strata(self, y: Labels) -> NDArray[np.int64]:
        """Bands of heart rate: below 80, 110, 140 BPM and above."""
        return np.asarray(np.digitize(y, STRATA_BPM), dtype=np.int64)


HEART_RATE = HeartRate()
