"""Windows of a run, split by subject, with a content hash. Reads recordings; writes nothing; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hwnas.errors import lookup
from hwnas.graph import Shape
from hwnas.pipeline.config import LearningConfig
from hwnas.tasks import TASKS
from hwnas.tasks.base import Task, Windows
from hwnas.tasks.splits import Split, split_by_subject

GENERATOR = "signal generator"
EXTRA_SUBJECTS, EXTRA_WINDOWS = 120, 12_000
QUICK_SHRINK = 10
ABSENT = 1e-6  # count of a class without windows, whose logarithm must exist


@dataclass(frozen=True)
class RunData:
    """The recordings of a run: the task they are for, all windows' content hash, and the split by subject."""

    task: Task
    split: Split
    hash: str
    name: str

    @property
    def window(self) -> Shape:
        """Shape (channels, length) of one window."""
        return Shape(*self.split.train.x.shape[1:])

    @property
    def window_s(self) -> float:
        """Length of one window in seconds."""
        return self.split.train.window_s

    @cached_property
    def chance_error(self) -> float:
        """The task's error on the validation subjects of an answer that no window changes: how often each class comes in training."""
        labels, validation = self.task.labels, self.split.validation
        counts = np.bincount(self.task.classes(self.split.train.y), minlength=len(labels))
        always = np.log(np.maximum(counts, ABSENT))
        return self.task.error(self.task.metrics(np.tile(always, (len(validation), 1)), validation))

    @property
    def provenance(self) -> dict[str, object]:
        """What the reader of a figure must know of the data behind it."""
        parts = {"train": self.split.train, "validation": self.split.validation, "test": self.split.test}
        counts = {name: {"windows": len(part), "subjects": len(part.subjects)} for name, part in parts.items()}
        return {
            "name": self.name,
            "source": self.split.train.source,
            "window_s": self.window_s,
            "hash": self.hash,
            "parts": counts,
        }


def task_of(name: str) -> Task:
    """The task of that name; raises UsageError with the names there are."""
    return lookup(TASKS, name, "task")


def load_data(config: LearningConfig) -> RunData:
    """Load or generate the windows of a run and split them.

    Raises:
        DataError: unusable recordings, or too few subjects or classes to split.
    """
    task, windows, name = load_windows(config)
    return RunData(task, split_by_subject(windows, config.split_seed, task), windows.hash, name)


def load_windows(config: LearningConfig) -> tuple[Task, Windows, str]:
    """The task, all its windows, and the name of where they come from; raises DataError for unusable recordings."""
    task = task_of(config.task)
    path = Path(config.data) if config.data else None
    windows = task.load(path, window_s=config.window_s, seed=config.seed, subjects=config.subjects, windows=config.windows)
    return task, windows, path.name if path else GENERATOR


def extra_windows(config: LearningConfig, data: RunData) -> Windows | None:
    """Generated windows that join the training on real recordings; None where the run is on generated signals anyway.

    Recordings have few patients, the generator as many as it is asked for, and what a network learns of intervals carries over.
    """
    if data.split.train.source == "synthetic":
        return None
    shrink = QUICK_SHRINK if config.effort == "quick" else 1
    subjects, windows = EXTRA_SUBJECTS // shrink, EXTRA_WINDOWS // shrink
    return data.task.load(None, window_s=data.window_s, seed=config.seed, subjects=subjects, windows=windows)
