"""Tasks: windows, labels, subject splits, metrics. `TASKS` is the table of names."""

from __future__ import annotations

from hwnas.tasks.base import Split, Task, Windows, check_compatible, split_by_subject
from hwnas.tasks.rhythm import RHYTHM, RHYTHM_AF

TASKS: dict[str, Task] = {task.name: task for task in (RHYTHM, RHYTHM_AF)}

__all__ = ["TASKS", "Split", "Task", "Windows", "check_compatible", "split_by_subject"]
