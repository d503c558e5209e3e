"""Tasks: windows, labels, subject splits, metrics. `TASKS` is the table of names."""

from __future__ import annotations

from hwnas.tasks.base import Task, Windows, check_compatible
from hwnas.tasks.heart_rate import HEART_RATE
from hwnas.tasks.rhythm import RHYTHM, RHYTHM_AF
from hwnas.tasks.sleep import SLEEP, SLEEP_ECG, SLEEP_NOISY, SLEEP_QUIET
from hwnas.tasks.splits import Split, grouped_folds, split_by_subject

TASKS: dict[str, Task] = {task.name: task for task in (RHYTHM, RHYTHM_AF, HEART_RATE, SLEEP, SLEEP_QUIET, SLEEP_NOISY, SLEEP_ECG)}

__all__ = ["TASKS", "Split", "Task", "Windows", "check_compatible", "grouped_folds", "split_by_subject"]
