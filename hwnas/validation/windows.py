"""The windows of a night: golden ones, the same every night, and others that rotate. Reads recordings; numpy only.

Both are drawn from the same recordings, so that figures of real and of generated windows never mix. A fixed shuffle puts the golden
windows first; the rest are taken in turn, so that successive nights come round to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.pipeline.data import task_of
from hwnas.pipeline.shipped import ShippedCard, load_int8, read_shipped
from hwnas.quantize import reference
from hwnas.quantize.scoring import real_outputs
from hwnas.tasks import Task, Windows, check_compatible
from hwnas.validation.config import WindowsConfig

SEED = 1_000_003
GENERATED, SUBJECTS = 1000, 20


@dataclass(frozen=True)
class NightWindows:
    """What a student is run on in one night, and what the night keeps of it beside the record (`hwnas.validation.reading`)."""

    windows: Windows
    facts: Mapping[str, Any]


class Pool:
    """All windows that nights draw from, read once for students of the same task, rate, length and channels."""

    def __init__(self, config: WindowsConfig) -> None:
        self._config = config
        self._read: dict[tuple[str, float], Windows] = {}

    def take(self, folder: Path, night: int) -> NightWindows:
        """The windows of a night for the student in `folder`.

        Raises:
            HwnasError: a student or recordings that cannot be read, or do not suit each other.
        """
        card = read_shipped(folder)
        task = task_of(card.task)
        pool = self._pool(task, card)
        check_compatible(pool, card.rate_hz, card.window_s, card.channels)
        chosen = choose(len(pool), self._config.golden, self._config.rotating, night)
        windows = pool.take(chosen)
        count = min(self._config.golden, len(pool))
        q = load_int8(folder, card)
        outputs = real_outputs(q, reference.run(q, reference.quantize_input(q, windows.x)))
        facts = {
            "golden": count,
            "rotating": len(chosen) - count,
            "golden_hash": windows.take(slice(count)).hash,
            "metric": task.primary,
            "expected": _metric(task, outputs, windows),
            "golden_expected": _metric(task, outputs[:count], windows.take(slice(count))),
        }
        return NightWindows(windows, facts)

    def _pool(self, task: Task, card: ShippedCard) -> Windows:
        key = (task.name, card.window_s)
        if key not in self._read:
            data = self._config.data
            made = {} if data else {"subjects": SUBJECTS, "windows": GENERATED}
            self._read[key] = task.load(Path(data) if data else None, window_s=card.window_s, seed=SEED, **made)
        return self._read[key]


def choose(count: int, golden: int, rotating: int, night: int) -> NDArray[np.int64]:
    """Indices of a night's windows among `count`: the golden ones, then the night's share of the others; no index twice."""
    order = np.random.default_rng(SEED).permutation(count)
    fixed, others = order[:golden], order[golden:]
    share = min(rotating, len(others))
    turn = (np.arange(share) + night * rotating) % max(len(others), 1)
    return np.concatenate([fixed, others[turn]])


def _metric(task: Task, outputs: NDArray[np.floating[Any]], windows: Windows) -> float | None:
    """The task's metric; None where so few windows have none."""
    try:
        value = float(task.metrics(outputs, windows)[task.primary])
    except DataError:
        return None
    return value if np.isfinite(value) else None
