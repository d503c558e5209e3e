"""Tasks `sleep` (four stages from BCG, its teacher reads ECG), its quieter and noisier forms, and `sleep-ecg` (from ECG alone).

Reads recordings through `datasets`. Who has nights with ECG and no BCG, such as SHHS, trains a teacher on them in task `sleep-ecg`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hwnas import metrics
from hwnas.errors import DataError
from hwnas.tasks import datasets
from hwnas.tasks.base import Labels, Windows, class_answers
from hwnas.tasks.datasets import Format, shhs
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.synthetic import sleep as generator
from hwnas.tasks.synthetic.sleep_parameters import EPOCH_S, STAGES
from hwnas.tasks.synthetic.sleep_signals import RATE_HZ


@dataclass(frozen=True)
class Sleep:
    """Sleep staging in epochs of 30 s; `bcg_noise` is the noise of generated BCG: low, medium or high."""

    name: str
    description: str
    channels: tuple[str, ...] = ("bcg",)
    bcg_noise: Literal["low", "medium", "high"] = "medium"
    kind: Literal["classification"] = "classification"
    labels: tuple[str, ...] = STAGES
    teacher_channels: tuple[str, ...] = ("ecg",)
    rate_hz: float = RATE_HZ
    window_s: float = EPOCH_S
    primary: str = "kappa"
    loss_allowed: float = 0.005
    needed: tuple[int, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """A student answers the same classes as a teacher."""
        return self.labels

    def load(
        self, path: Path | None, *, window_s: float | None, seed: int, subjects: int | None = None, windows: int | None = None
    ) -> Windows:
        """Nights at `path`, or generated ones where it is None; `seed`, `subjects` and `windows` are the generator's.

        Raises:
            DataError: another length than an epoch's, unusable recordings, or sizes that do not fit together.
        """
        if window_s not in (None, EPOCH_S):
            raise DataError(f"task {self.name}: windows of {window_s:g} s; sleep is scored in epochs of {EPOCH_S:g} s and read in them")
        if path is None:
            found = generator.generate(seed=seed, noise=self.bcg_noise, subjects=subjects, windows=windows)
            return replace(found, x=found.seen_by_teacher, teacher_x=None) if self.channels == self.teacher_channels else found
        if subjects is not None or windows is not None:
            raise DataError(f"{path}: numbers of subjects and windows are for the generator; recordings are read whole")
        return self.relabel(datasets.load(path, self.formats, Wanted(self.rate_hz))).windows

    @property
    def formats(self) -> dict[str, Format]:
        """On-disk formats, read for the signals of this task."""
        signals = tuple(dict.fromkeys(self.channels + self.teacher_channels))
        return {"shhs": Format(shhs.matches, partial(shhs.load, channels=signals), shhs.PATTERN)}

    def relabel(self, found: Recordings) -> Recordings:
        """Recordings in the labels of this task: as they are."""
        return found

    def answers(self, count: int) -> tuple[str, ...]:
        """The labels; raises DataError for another number of outputs than theirs."""
        return class_answers(self, count)

    def metrics(self, outputs: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        """`kappa`, `accuracy`, `macro_f1`, and `f1_<label>` and `sensitivity_<label>` of labels that occur, of logits (N, 4).

        Raises:
            DataError: outputs that are not finite, another number of classes, or windows of one stage only.
        """
        if outputs.ndim != 2 or outputs.shape[1] != len(self.labels):
            raise DataError(f"task {self.name}: outputs of shape {outputs.shape}, expected (windows, {len(self.labels)})")
        if not np.isfinite(outputs).all():
            raise DataError(
                f"task {self.name}: outputs hold NaN or infinity: the network diverged; train it again with a smaller learning rate"
            )
        predicted, y = outputs.argmax(axis=1), self.classes(windows.y)
        return {
            "kappa": metrics.kappa(predicted, y),
            "accuracy": metrics.accuracy(predicted, y),
            "macro_f1": metrics.macro_f1(predicted, y),
            **{f"f1_{self.labels[c]}": value for c, value in metrics.f1s(predicted, y).items()},
            **{f"sensitivity_{self.labels[c]}": recall for c, recall in metrics.sensitivities(predicted, y).items()},
        }

    def error(self, metrics: Mapping[str, float]) -> float:
        """1 - kappa."""
        return 1 - metrics[self.primary]

    def classes(self, y: Labels) -> NDArray[np.int64]:
        """The labels themselves."""
        return np.asarray(y, dtype=np.int64)

    strata = classes


SLEEP = Sleep("sleep", "wake, light, deep and REM sleep from BCG; its teacher reads the ECG of the same seconds")
SLEEP_ECG = replace(SLEEP, name="sleep-ecg", description="the four stages from ECG alone, for teachers of sleep", channels=("ecg",))
SLEEP_QUIET = replace(SLEEP, name="sleep-quiet", description="sleep, generated BCG with little noise", bcg_noise="low")
SLEEP_NOISY = replace(SLEEP, name="sleep-noisy", description="sleep, generated BCG with much noise", bcg_noise="high")
