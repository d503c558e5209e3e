"""Tasks `rhythm` (6 classes) and `rhythm-af` (AF against rest) on one PPG channel. Reads recordings through `datasets`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from hwnas import metrics
from hwnas.errors import DataError
from hwnas.tasks import datasets
from hwnas.tasks.base import Labels, Windows, class_answers
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.synthetic import generator
from hwnas.tasks.synthetic.parameters import RHYTHMS


def af_score(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """AF logit minus log-sum-exp of the others, from logits (N, K) with AF last: (N,).

    The log odds of AF: it orders windows as softmax does, without the ties that an int8 softmax would make.
    """
    wide = np.asarray(logits, dtype=np.float64)
    return np.asarray(wide[:, -1] - logsumexp(wide[:, :-1], axis=1))


def _joined(y: Labels, labels: tuple[str, ...]) -> NDArray[np.int64]:
    """AF (1) against every other label (0)."""
    return np.asarray(y == labels.index("af"), dtype=np.int64)


@dataclass(frozen=True)
class Rhythm:
    """A rhythm task: its labels (AF last), window and metrics. `binary` joins all rhythms but AF into `rest`."""

    name: str
    labels: tuple[str, ...]
    description: str
    binary: bool
    kind: Literal["classification"] = "classification"
    rate_hz: float = 100.0
    window_s: float = 30.0
    primary: str = "af_auc"
    loss_allowed: float = 0.002
    channels: tuple[str, ...] = ("ppg",)
    teacher_channels: tuple[str, ...] = ("ppg",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """A student answers the same classes as a teacher."""
        return self.labels

    @property
    def needed(self) -> tuple[int, ...]:
        """AF, without which the primary metric does not exist."""
        return (len(self.labels) - 1,)

    def load(
        self, path: Path | None, *, window_s: float | None, seed: int, subjects: int | None = None, windows: int | None = None
    ) -> Windows:
        """Recordings at `path` (any format of `datasets.RHYTHM_FORMATS`), or generated windows where it is None.

        `window_s` None is the length that suits the recordings, and 30 s for the generator; the other arguments are the generator's.

        Raises:
            DataError: unusable recordings, a length they do not have, or sizes that do not fit together.
        """
        if path is None:
            length = self.window_s if window_s is None else window_s
            found = generator.generate(seed=seed, window_s=length, subjects=subjects, windows=windows)
            return replace(found, y=_joined(found.y, RHYTHMS)) if self.binary else found
        if subjects is not None or windows is not None:
            raise DataError(f"{path}: numbers of subjects and windows are for the generator; recordings are read whole")
        return self.relabel(datasets.load(path, datasets.RHYTHM_FORMATS, Wanted(self.rate_hz, window_s))).windows

    def relabel(self, found: Recordings) -> Recordings:
        """Recordings in the labels of this task.

        Raises:
            DataError: several channels, or labels that do not tell this task's apart.
        """
        channels = found.windows.x.shape[1]
        if channels != 1:
            raise DataError(f"{found.windows.name}: {channels} channels; task {self.name} reads one, the PPG")
        if self.binary:
            return replace(found, windows=replace(found.windows, y=_joined(found.windows.y, found.labels)), labels=self.labels)
        if found.labels != self.labels:
            raise DataError(
                f"{found.windows.name}: its labels say AF or not and no other rhythm, task {self.name} tells {len(self.labels)} apart; "
                f"use --task {RHYTHM_AF.name}"
            )
        return found

    def answers(self, count: int) -> tuple[str, ...]:
        """The labels; raises DataError for another number of outputs than theirs."""
        return class_answers(self, count)

    def metrics(self, outputs: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        """`af_auc`, `accuracy`, `macro_f1`, `sensitivity_<label>` of logits (N, K).

        Classes that do not occur have no sensitivity and do not count in `macro_f1`.

        Raises:
            DataError: no AF or nothing but AF, outputs that are not finite, or another number of classes.
        """
        if outputs.ndim != 2 or outputs.shape[1] != len(self.labels):
            raise DataError(f"task {self.name}: outputs of shape {outputs.shape}, expected (windows, {len(self.labels)})")
        predicted, y = outputs.argmax(axis=1), self.classes(windows.y)
        recalls = metrics.sensitivities(predicted, y)
        return {
            "af_auc": metrics.roc_auc(af_score(outputs), y == len(self.labels) - 1),
            "accuracy": metrics.accuracy(predicted, y),
            "macro_f1": metrics.macro_f1(predicted, y),
            **{f"sensitivity_{self.labels[c]}": recall for c, recall in recalls.items()},
        }

    def error(self, metrics: Mapping[str, float]) -> float:
        """1 - AF AUC."""
        return 1 - metrics[self.primary]

    def classes(self, y: Labels) -> NDArray[np.int64]:
        """The labels themselves."""
        return np.asarray(y, dtype=np.int64)

    strata = classes


RHYTHM = Rhythm("rhythm", RHYTHMS, "six rhythms from PPG: sinus, PVC, PAC, VT, SVT, AF", binary=False)
RHYTHM_AF = Rhythm("rhythm-af", ("rest", "af"), "atrial fibrillation against every other rhythm, from PPG", binary=True)
