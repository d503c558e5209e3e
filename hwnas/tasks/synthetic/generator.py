"""`generate`: labelled PPG windows of invented persons, the embedded default data. Deterministic by seed; touches no files.

Person k and his windows depend on the seed, k and the window length alone, never on how many persons or windows are asked for.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.base import Windows, normalise
from hwnas.tasks.synthetic import intervals, pulse
from hwnas.tasks.synthetic.parameters import RHYTHMS
from hwnas.tasks.synthetic.subject import Person, person

RATE_HZ = 100.0
SUBJECTS = 60
WINDOWS = 3000
BLOCK = 25
SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 5.0, 120.0


def generate(*, seed: int, window_s: float = 30.0, subjects: int | None = None, windows: int | None = None) -> Windows:
    """`windows` windows in all (default 3,000) of `window_s` seconds at 100 Hz from `subjects` persons (default 60).

    Raises:
        DataError: sizes that do not fit together.
    """
    persons, total = SUBJECTS if subjects is None else subjects, WINDOWS if windows is None else windows
    if persons < 1 or total < persons:
        raise DataError(f"signal generator: {total} windows of {persons} subjects; needs at least 1 subject and 1 window of each")
    if not SHORTEST_WINDOW_S <= window_s <= LONGEST_WINDOW_S:
        raise DataError(f"signal generator: windows of {window_s:g} s; allowed {SHORTEST_WINDOW_S:g} to {LONGEST_WINDOW_S:g} s")
    if seed < 0:
        raise DataError(f"signal generator: seed {seed}; needs an integer of 0 or more")
    share = [total // persons + (k < total % persons) for k in range(persons)]
    made = [_windows_of(seed, k, count, window_s) for k, count in enumerate(share)]
    return Windows(
        x=np.concatenate([x for x, _ in made]),
        y=np.concatenate([y for _, y in made]),
        subject=np.repeat([f"synthetic-{k:03d}" for k in range(persons)], share),
        rate_hz=RATE_HZ,
        source="synthetic",
        name=f"generator (seed {seed}, {persons} subjects)",
    )


def _windows_of(seed: int, number: int, count: int, window_s: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first `count` windows (count, 1, T) of person `number` and their classes."""
    who = person(np.random.default_rng([seed, number, 0]))
    blocks = [_block(np.random.default_rng([seed, number, 1 + b]), who, window_s) for b in range(math.ceil(count / BLOCK))]
    x = np.concatenate([x for x, _ in blocks])[:count]
    return normalise(x[:, None, :]), np.concatenate([y for _, y in blocks])[:count]


def _block(rng: np.random.Generator, who: Person, window_s: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    y = rng.choice(len(RHYTHMS), size=BLOCK, p=who.mix)
    return pulse.waveform(rng, who, intervals.simulate(rng, who, y, window_s), RATE_HZ, window_s), y.astype(np.int64)
