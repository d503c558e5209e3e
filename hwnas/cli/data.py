"""What `hwnas data check` says of a folder of recordings. Reads the folder through the tasks; returns rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hwnas.cli.display import plain_table
from hwnas.errors import DataError, UsageError, lookup
from hwnas.tasks.base import Task, Windows
from hwnas.tasks.datasets import HEART_RATE_FORMATS, RHYTHM_FORMATS, Format, alignment, load, paired, plain, recognise, rpeaks
from hwnas.tasks.datasets.recordings import Recordings, Wanted
from hwnas.tasks.heart_rate import HEART_RATE, HeartRate
from hwnas.tasks.rhythm import RHYTHM, RHYTHM_AF, Rhythm
from hwnas.tasks.sleep import SLEEP, SLEEP_ECG, Sleep
from hwnas.tasks.splits import split_by_subject

# What each task reads, in the order in which a folder is tried where no task is named.
CHECKED: dict[str, tuple[Rhythm | HeartRate | Sleep, dict[str, Format]]] = {
    RHYTHM.name: (RHYTHM, RHYTHM_FORMATS),
    RHYTHM_AF.name: (RHYTHM_AF, RHYTHM_FORMATS),
    HEART_RATE.name: (HEART_RATE, HEART_RATE_FORMATS),
    SLEEP_ECG.name: (SLEEP_ECG, SLEEP_ECG.formats),
    SLEEP.name: (SLEEP, SLEEP.formats),
}
QUANTILES = {"lowest": 0.0, "quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "highest": 1.0}


def check(folder: Path, task_name: str | None, window_s: float | None) -> dict[str, Any]:
    """What a folder holds for a task; without one, for the first that reads it and tells most of its labels apart.

    Raises:
        UsageError: no such task.
        DataError: what is wrong with the folder, in the words that `search` and `evaluate` would use.
    """
    if task_name is not None:
        task, formats = lookup(CHECKED, task_name, "task of recordings")
        name = recognise(folder, formats)
    else:
        if folder.is_dir() and paired.matches(folder):
            return _pairs(folder, window_s)
        name = recognise(folder, {name: each for _, formats in CHECKED.values() for name, each in formats.items()})
        task, formats = next(each for each in CHECKED.values() if name in each[1])
        if name == "plain" and any(entry.heart_rate_column is not None for entry in plain.read(folder / plain.PATTERN).files):
            task, formats = CHECKED[HEART_RATE.name]
    recordings = load(folder, {name: formats[name]}, Wanted(task.rate_hz, window_s))
    if task_name is None and task is RHYTHM and recordings.labels != RHYTHM.labels:
        task = RHYTHM_AF
    return _said(folder, name, task, task.relabel(recordings))


def _said(folder: Path, name: str, task: Task, found: Recordings) -> dict[str, Any]:
    windows = found.windows
    offset = alignment.offset_windows(windows) if task.kind == "regression" else None
    each = np.unique(windows.subject, return_counts=True)[1]
    return {
        "folder": str(folder),
        "format": name,
        "task": task.name,
        "signals": list(task.channels),
        "teacher_signals": list(task.teacher_channels),
        "files": found.files,
        "subjects": len(windows.subjects),
        "recordings": len(np.unique(windows.recordings)),
        "windows": len(windows),
        "windows_of_a_subject": {"fewest": int(each.min()), "most": int(each.max())},
        "window_s": windows.window_s,
        "recorded_hz": list(found.recorded_hz),
        "rate_hz": windows.rate_hz,
        "labels": _labels(task, windows) if task.kind == "classification" else {},
        "heart_rate_bpm": _quantiles(windows.y) if task.kind == "regression" else None,
        "offset_windows": offset,
        "left_out": dict(found.left_out),
        "notes": [*found.notes, *_suspicions(offset)],
        "not_for_search": _refusal(lambda: split_by_subject(windows, 0, task)),
        "not_for_evaluate": _refusal(lambda: task.metrics(np.zeros((len(windows), len(task.outputs)), np.float32), windows)),
    }


def _pairs(folder: Path, window_s: float | None) -> dict[str, Any]:
    """What recordings of two signals of the same beats show: whether heart rates of the ECG hold for the other signal."""
    if window_s is not None:
        raise UsageError(f"--window-s: heart rates of {folder} are of {paired.WINDOW_S:g} s every {paired.HOP_S:g} s")
    said = []
    for pair in paired.load(folder):
        beats = rpeaks.detect(pair.ecg, pair.rate_hz)
        sensitivity, precision = paired.agreement(beats, pair.marked, pair.rate_hz)
        windows = paired.windows(pair, beats)
        error = paired.estimate_bpm(windows.x, windows.rate_hz, pair.kind) - windows.y
        said.append(
            {
                "name": pair.name,
                "signal": pair.kind,
                "recorded_hz": pair.rate_hz,
                "length_s": len(pair.ecg) / pair.rate_hz,
                "marked_beats": len(pair.marked),
                "detected_beats": len(beats),
                "sensitivity": sensitivity,
                "precision": precision,
                "windows": len(windows),
                "heart_rate_bpm": _quantiles(windows.y),
                "estimate_mae_bpm": float(np.abs(error).mean()),
                "constant_mae_bpm": float(np.abs(windows.y - np.median(windows.y)).mean()),
            }
        )
    return {"folder": str(folder), "format": "paired", "task": None, "files": len(said), "recordings": said}


def check_tables(said: dict[str, Any]) -> list[Table]:
    """The facts, the labels and what was left out."""
    if said["task"] is None:
        return [_pair_table(said["folder"], each) for each in said["recordings"]]
    facts = plain_table(said["format"], said["folder"])
    facts.add_row("task", said["task"])
    reads, teacher = ", ".join(said["signals"]), ", ".join(said["teacher_signals"])
    facts.add_row("signals", reads if reads == teacher else f"{reads}; a teacher reads {teacher}")
    facts.add_row("files", f"{said['files']:,}")
    few, most = said["windows_of_a_subject"].values()
    recordings = "" if said["recordings"] == said["subjects"] else f", {said['recordings']:,} recordings"
    facts.add_row("subjects", f"{said['subjects']:,}{recordings}, {few:,} to {most:,} windows each")
    facts.add_row("windows", f"{said['windows']:,} of {said['window_s']:g} s")
    recorded = ", ".join(f"{rate:g}" for rate in said["recorded_hz"])
    facts.add_row("rate", f"{recorded} Hz, read at {said['rate_hz']:g} Hz")
    if said["heart_rate_bpm"]:
        facts.add_row("heart rate", _spread(said["heart_rate_bpm"]))
    if said["offset_windows"] is not None:
        facts.add_row("alignment", f"heart rates fit the PPG best {said['offset_windows']:+.1f} windows later (0 is right)")
    for note in said["notes"]:
        facts.add_row("note", note)
    facts.add_row("search", said["not_for_search"] or "can be searched on")
    facts.add_row("evaluate", said["not_for_evaluate"] or "can be scored on")
    tables = [facts]
    if said["labels"]:
        tables.append(labels := plain_table("label", "windows", "subjects"))
        for name, count in said["labels"].items():
            labels.add_row(name, f"{count['windows']:,}", f"{count['subjects']:,}")
    if said["left_out"]:
        tables.append(left_out := plain_table("left out", "windows"))
        for reason, count in said["left_out"].items():
            left_out.add_row(reason, f"{count:,}")
    return tables


def _pair_table(folder: str, said: dict[str, Any]) -> Table:
    table = plain_table("paired", folder)
    table.add_row("recording", f"{said['name']}: {said['signal'].upper()} and ECG, {said['length_s']:g} s at {said['recorded_hz']:g} Hz")
    table.add_row("task", "none reads it: it shows whether heart rates of the ECG hold for the other signal")
    table.add_row("R peaks", f"{said['detected_beats']:,} detected, {said['marked_beats']:,} marked by the authors")
    table.add_row("", f"sensitivity {said['sensitivity']:.4f}, precision {said['precision']:.4f} within {1000 * paired.TOLERANCE_S:g} ms")
    table.add_row("windows", f"{said['windows']:,} of {paired.WINDOW_S:g} s every {paired.HOP_S:g} s")
    table.add_row("heart rate", _spread(said["heart_rate_bpm"]))
    table.add_row("estimate", f"from the {said['signal'].upper()} alone (autocorrelation): mean error {said['estimate_mae_bpm']:.2f} BPM")
    table.add_row("", f"the median of the recording as a guess: {said['constant_mae_bpm']:.2f} BPM")
    return table


def _labels(task: Task, windows: Windows) -> dict[str, dict[str, int]]:
    return {
        label: {"windows": int((windows.y == y).sum()), "subjects": len(np.unique(windows.subject[windows.y == y]))}
        for y, label in enumerate(task.labels)
    }


def _quantiles(bpm: NDArray[Any]) -> dict[str, float]:
    return {name: float(np.quantile(bpm, share)) for name, share in QUANTILES.items()}


def _suspicions(offset: float | None) -> tuple[str, ...]:
    """A sentence for labels that seem to be of other seconds than their windows."""
    if offset is None or abs(offset) < alignment.SUSPECT:
        return ()
    return (f"heart rates fit the PPG better {abs(offset):.1f} windows {'later' if offset > 0 else 'earlier'}: are they shifted?",)


def _spread(bpm: dict[str, float]) -> str:
    low, first, middle, third, high = bpm.values()
    return f"{low:.0f} to {high:.0f} BPM, half of the windows {first:.0f} to {third:.0f}, median {middle:.0f}"


def _refusal(use: Callable[[], object]) -> str | None:
    """Why the windows cannot be used so, if that is so."""
    try:
        use()
    except DataError as error:
        return str(error)
    return None
