"""What `hwnas data check` says of a folder of recordings. Reads the folder through the task; returns rich tables that fit 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from hwnas.cli.display import plain_table
from hwnas.errors import DataError, lookup
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets import RHYTHM_FORMATS, load, recognise
from hwnas.tasks.datasets.recordings import Wanted
from hwnas.tasks.rhythm import RHYTHM, RHYTHM_AF, Rhythm
from hwnas.tasks.splits import split_by_subject

CHECKED = {task.name: task for task in (RHYTHM, RHYTHM_AF)}


def check(folder: Path, task_name: str | None, window_s: float | None) -> dict[str, Any]:
    """What a folder holds for a task; without one, for the task that tells most of its labels apart.

    Raises:
        UsageError: no such task.
        DataError: what is wrong with the folder, in the words that `search` and `evaluate` would use.
    """
    task = None if task_name is None else lookup(CHECKED, task_name, "task of recordings")
    name = recognise(folder, RHYTHM_FORMATS)
    recordings = load(folder, RHYTHM_FORMATS, Wanted((task or RHYTHM).rate_hz, window_s))
    task = task or (RHYTHM if recordings.labels == RHYTHM.labels else RHYTHM_AF)
    found = task.relabel(recordings)
    windows = found.windows
    return {
        "folder": str(folder),
        "format": name,
        "task": task.name,
        "files": found.files,
        "subjects": len(windows.subjects),
        "windows": len(windows),
        "window_s": windows.window_s,
        "recorded_hz": list(found.recorded_hz),
        "rate_hz": windows.rate_hz,
        "labels": _labels(task, windows),
        "left_out": dict(found.left_out),
        "notes": list(found.notes),
        "not_for_search": _refusal(windows, task),
        "not_for_evaluate": None if 0 < (windows.y == len(task.labels) - 1).sum() < len(windows) else "needs windows with AF and without",
    }


def check_tables(said: dict[str, Any]) -> list[Table]:
    """The facts, the labels and what was left out."""
    facts = plain_table(said["format"], said["folder"])
    facts.add_row("task", said["task"])
    facts.add_row("files", f"{said['files']:,}")
    facts.add_row("subjects", f"{said['subjects']:,}")
    facts.add_row("windows", f"{said['windows']:,} of {said['window_s']:g} s")
    recorded = ", ".join(f"{rate:g}" for rate in said["recorded_hz"])
    facts.add_row("rate", f"{recorded} Hz, read at {said['rate_hz']:g} Hz")
    for note in said["notes"]:
        facts.add_row("note", note)
    facts.add_row("search", said["not_for_search"] or "can be searched on")
    facts.add_row("evaluate", said["not_for_evaluate"] or "can be scored on")
    labels = plain_table("label", "windows", "subjects")
    for name, count in said["labels"].items():
        labels.add_row(name, f"{count['windows']:,}", f"{count['subjects']:,}")
    if not said["left_out"]:
        return [facts, labels]
    left_out = plain_table("left out", "windows")
    for reason, count in said["left_out"].items():
        left_out.add_row(reason, f"{count:,}")
    return [facts, labels, left_out]


def _labels(task: Rhythm, windows: Windows) -> dict[str, dict[str, int]]:
    return {
        label: {"windows": int((windows.y == y).sum()), "subjects": len(np.unique(windows.subject[windows.y == y]))}
        for y, label in enumerate(task.labels)
    }


def _refusal(windows: Windows, task: Rhythm) -> str | None:
    """Why the windows cannot be split by subject, if so."""
    try:
        split_by_subject(windows, 0, task)
    except DataError as error:
        return str(error)
    return None
