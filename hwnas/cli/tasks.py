"""What `hwnas tasks` shows. Pure: returns rich tables that fit 80 columns, and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from hwnas.cli.display import plain_table
from hwnas.report.content import measure
from hwnas.tasks import Task


def task_list(tasks: Mapping[str, Task]) -> list[Table]:
    """What every task is about, then what its networks read, answer and are compared by."""
    about = plain_table("task", "description")
    forms = plain_table("task", "student reads", "teacher reads", "rate", "window", "student answers", "compared by")
    for name, task in tasks.items():
        about.add_row(name, task.description)
        reads, taught = ", ".join(task.channels), ", ".join(task.teacher_channels)
        signals = (reads, "the same" if taught == reads else taught)
        forms.add_row(name, *signals, f"{task.rate_hz:g} Hz", f"{task.window_s:g} s", ", ".join(task.outputs), measure(task.primary).title)
    return [about, forms]


def task_values(tasks: Mapping[str, Task]) -> dict[str, dict[str, Any]]:
    """The same as JSON can hold it, with the classes that a teacher tells apart."""
    return {
        name: {
            "description": task.description,
            "kind": task.kind,
            "labels": list(task.labels),
            "outputs": list(task.outputs),
            "channels": list(task.channels),
            "teacher_channels": list(task.teacher_channels),
            "rate_hz": task.rate_hz,
            "window_s": task.window_s,
            "primary": task.primary,
        }
        for name, task in tasks.items()
    }
