"""`generate`: nights of invented persons as 30 s windows of BCG and ECG, the embedded data of task `sleep`. Touches no files.

A person's night depends on the seed and his number alone, never on how many persons or windows are asked for; nor does his ECG on
how noisy the BCG is. Of a night the windows are taken that many apart that they span it, in order of time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows, normalise
from hwnas.tasks.synthetic import sleep_parameters as p
from hwnas.tasks.synthetic import sleep_signals as signals
from hwnas.tasks.synthetic.sleep_night import Night, night

SUBJECTS = 40
WINDOWS = 3000


def generate(*, seed: int, noise: str, subjects: int | None = None, windows: int | None = None) -> Windows:
    """`windows` windows in all (default 3,000) from nights of `subjects` persons (default 40); `noise` is a level of BCG_NOISE.

    `x` is the BCG, `teacher_x` the ECG of the same seconds, both (N, 1, 1500) at 50 Hz.

    Raises:
        DataError: sizes that do not fit together.
    """
    persons, total = SUBJECTS if subjects is None else subjects, WINDOWS if windows is None else windows
    if persons < 1 or not persons <= total <= persons * p.EPOCHS:
        raise DataError(
            f"signal generator: {total} windows of {persons} subjects; needs at least 1 subject and 1 to {p.EPOCHS} windows of each"
        )
    if seed < 0:
        raise DataError(f"signal generator: seed {seed}; needs an integer of 0 or more")
    share = [total // persons + (k < total % persons) for k in range(persons)]
    made = [_windows_of(seed, k, count, p.BCG_NOISE[noise]) for k, count in enumerate(share)]
    bcg, ecg, y = (np.concatenate([part[i] for part in made]) for i in range(3))
    return Windows(
        x=normalise(bcg[:, None, :]),
        y=y.astype(np.int64),
        subject=np.repeat([f"synthetic-{k:03d}" for k in range(persons)], share),
        rate_hz=signals.RATE_HZ,
        source="synthetic",
        name=f"sleep generator (seed {seed}, {persons} subjects)",
        teacher_x=normalise(ecg[:, None, :]),
    )


def course_of(seed: int, number: int) -> Night:
    """The night of person `number`."""
    return night(np.random.default_rng([seed, number, 0]))


def _windows_of(seed: int, number: int, count: int, noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """BCG and ECG (count, T) and stages of `count` epochs of a person's night."""
    course, who = course_of(seed, number), signals.body(np.random.default_rng([seed, number, 1]))
    epochs = np.arange(count) * p.EPOCHS // count
    start_s = epochs * p.EPOCH_S
    ecg = signals.ecg(np.random.default_rng([seed, number, 2]), who, course, start_s)
    bcg = signals.bcg(np.random.default_rng([seed, number, 3]), who, course, start_s, noise)
    return bcg, ecg, course.stage[epochs]
