"""`hwnas teacher`: a teacher for every fold, trained or made elsewhere, and how well each knows what it knows. Writes teachers' folders.

Fold k of DIR is `DIR/fold-K`, K from 1, for the k-th split of `grouped_folds`: every subject is scored by a teacher that never saw it.
Without folds DIR is the one teacher's folder. `DIR/teachers.json` holds the figures; finished teachers are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError, RunError, UsageError
from hwnas.metrics import ece, nll
from hwnas.pipeline.config import LearningConfig
from hwnas.pipeline.data import GENERATOR, RunData, load_data, load_windows, task_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.teacher import check_learning, ensure_teacher
from hwnas.resources import write_text
from hwnas.tasks import Split, Task, Windows, grouped_folds
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import Calibration, calibrate
from hwnas.teachers.card import (
    CARD,
    IMPORTED,
    TeacherCard,
    check_teacher,
    content_id,
    count_parameters,
    load_teacher,
    read_card,
    save_teacher,
    write_card,
)
from hwnas.teachers.imported import check_imported, load_imported

SUMMARY = "teachers.json"
PRETRAINED = "pretrained"
SPREAD = ("temperature", "nll_before", "nll_after", "ece_before", "ece_after")
Content = dict[str, Any]
Floats = NDArray[np.float32]


def train_teachers(config: LearningConfig, folds: int | None, out: Path, *, device: str, progress: Progress) -> Content:
    """Train the teacher of every fold that has none, score all, and write `teachers.json`; returns its content.

    Raises:
        UsageError, DataError: settings or recordings that do not go together.
        RunError: a folder holds another teacher.
    """
    parts = _folds(config, folds, out)
    for _, data, _ in parts:
        check_learning(config, data)
    for number, data, folder in parts:
        if folds:
            progress.say(f"fold {number} of {folds}, tests {len(data.split.test.subjects)} subject(s)")
        shared = out / PRETRAINED if folds else None
        ensure_teacher(config, data, folder, progress, device=device, pretrained=shared)
    return _conclude(config, folds, parts, out)


def import_teachers(
    config: LearningConfig, file: Path, trained_on: Sequence[str], folds: int | None, out: Path, *, progress: Progress
) -> Content:
    """Check a teacher that was made elsewhere, calibrate it for every fold, and write `teachers.json`; returns its content.

    `trained_on` are the subjects of these recordings that it was trained on, as far as its maker says.

    Raises:
        TrainingError: it is no network that answers the task's classes, or it was trained on subjects that are tested.
    """
    module, parts, cards = load_imported(file), _folds(config, folds, out), []
    for number, data, folder in parts:
        progress.stage(f"checking and calibrating {file.name}" + (f", fold {number} of {folds}" if folds else ""))
        split, task = data.split, data.task
        if unknown := sorted(set(trained_on) - set(_subjects(split))):
            raise UsageError(f"--trained-on {unknown[0]}: no such subject in {data.name}; it has {', '.join(_subjects(split))}")
        x = split.validation.seen_by_teacher
        check_imported(module, x.shape[1], x.shape[2], len(task.labels))
        logits = predict(module, x)
        found = calibrate(
            logits,
            task.classes(split.validation.y),
            predict(module, split.train.seen_by_teacher),
            subjects=len(split.validation.subjects),
        )
        card = TeacherCard(
            id=content_id(module, module.name, data.hash, tuple(trained_on)),
            name=module.name,
            parameters=count_parameters(module),
            in_channels=x.shape[1],
            labels=task.labels,
            data=data.hash,
            source=split.train.source,
            recipe={},
            seed=config.seed,
            calibration=found,
            metrics={"validation": task.metrics(logits, split.validation)},
            task=task.name,
            rate_hz=split.validation.rate_hz * x.shape[2] / split.validation.x.shape[2],
            window_s=data.window_s,
            data_name=data.name,
            subjects_trained=tuple(trained_on),
            subjects_validated=split.validation.subjects,
            origin=f"{IMPORTED}{file.name}",
        )
        for doubt in check_teacher(card, task, split.validation, split.test.subjects):
            progress.say(doubt)
        if (folder / CARD).exists() and read_card(folder).id != card.id:
            raise RunError(f"{folder} already holds another teacher, {read_card(folder).id}; choose another --out")
        cards.append((folder, card))
    for folder, card in cards:
        save_teacher(folder, module, card)
    return _conclude(config, folds, parts, out)


def recalibrate(folder: Path, path: Path | None, subjects: Sequence[str], *, seed: int) -> Content:
    """Calibrate the teacher in `folder` again on recordings, of `subjects` where they are named, and write its card; what `describe` says.

    Subjects that it was trained on are left out. Those that it is calibrated on count as seen: students cannot be tested on them.

    Raises:
        UsageError: an unknown subject, or one that it was trained on. DataError: nothing is left to calibrate on.
        TrainingError: windows that it does not read.
    """
    module, card = load_teacher(folder)
    task = task_of(card.task)
    windows = task.load(path, window_s=card.window_s, seed=seed)
    name = path.resolve().name if path else GENERATOR
    check_teacher(card, task, windows)
    known = set(card.subjects_trained) if name == card.data_name else set()
    if wrong := [one for one in subjects if one not in windows.subjects or one in known]:
        reason = "the teacher was trained on it" if wrong[0] in known else f"{windows.name} has {', '.join(windows.subjects)}"
        raise UsageError(f"subject {wrong[0]}: {reason}; name others")
    chosen = windows.take(np.isin(windows.subject, list(set(subjects or windows.subjects) - known)))
    if not len(chosen):
        raise DataError(f"{windows.name}: the teacher was trained on all of its {len(windows.subjects)} subjects; give other recordings")
    logits = predict(module, chosen.seen_by_teacher)
    found = calibrate(logits, task.classes(chosen.y), logits, subjects=len(chosen.subjects), where="given")
    seen = tuple(sorted({*card.subjects_validated, *chosen.subjects})) if name == card.data_name else card.subjects_validated
    metrics = {**card.metrics, "validation": task.metrics(logits, chosen)}
    write_card(folder, replace(card, calibration=found, metrics=metrics, subjects_validated=seen))
    return show(folder)


def show(folder: Path) -> Content:
    """The card of the teacher in `folder`, or the cards of its folds.

    Raises:
        UsageError: no teacher there. TrainingError: an unreadable card.
    """
    if (folder / CARD).exists():
        return {"teachers": [_plain(read_card(folder), None)]}
    found = sorted(folder.glob(f"fold-*/{CARD}"), key=lambda path: int(path.parent.name.removeprefix("fold-")))
    if not found:
        raise UsageError(f"{folder} holds no teacher ({CARD}) and no folds of teachers; `hwnas teacher train --out {folder}` makes one")
    return {"teachers": [_plain(read_card(path.parent), int(path.parent.name.removeprefix("fold-"))) for path in found]}


def _folds(config: LearningConfig, folds: int | None, out: Path) -> list[tuple[int, RunData, Path]]:
    """Number from 1, windows and folder of every fold."""
    if folds is None:
        return [(1, load_data(config), out)]
    task, windows, name = load_windows(config)
    content = windows.hash
    splits = grouped_folds(windows, folds, config.split_seed, task)
    return [(k, RunData(task, split, content, name), out / f"fold-{k}") for k, split in enumerate(splits, start=1)]


def _conclude(config: LearningConfig, folds: int | None, parts: Sequence[tuple[int, RunData, Path]], out: Path) -> Content:
    """Score the teachers of all folds and write `teachers.json`."""
    figures, scored = [], []
    for number, data, folder in parts:
        found, outputs = _score(folder, data, number if folds else None)
        figures.append(found)
        scored.append((outputs, data.split.test))
    content = {"config": config.model_dump(mode="json"), "folds": folds} | _summary(parts[0][1].task, figures, scored)
    write_text(out / SUMMARY, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def _score(folder: Path, data: RunData, fold: int | None) -> tuple[Content, Floats]:
    """Figures of the teacher in `folder` on validation and test subjects, and its logits (N, K) for the latter."""
    module, card = load_teacher(folder)
    parts, outputs = {}, {}
    for name in ("validation", "test"):
        part: Windows = getattr(data.split, name)
        outputs[name] = predict(module, part.seen_by_teacher)
        parts[name] = _figures(outputs[name], part, card.calibration, data.task)
    return {"fold": fold, "teacher": _plain(card, fold), **parts}, outputs["test"] / np.float32(_scale(card, data.task))


def _scale(card: TeacherCard, task: Task) -> float:
    """What logits of different teachers are divided by before they are pooled; a heart rate is read from raw ones."""
    return 1.0 if task.kind == "regression" else card.calibration.temperature


def _figures(logits: Floats, part: Windows, calibration: Calibration, task: Task) -> Content:
    """Calibration and metrics on one part; the primary metric is None where the part lacks what it needs."""
    y, scaled = task.classes(part.y), logits.astype(np.float64) / calibration.temperature
    return {
        "windows": len(part),
        "subjects": list(part.subjects),
        "temperature": calibration.temperature,
        "nll_before": nll(logits, y),
        "nll_after": nll(scaled, y),
        "ece_before": ece(logits, y),
        "ece_after": ece(scaled, y),
        **_metrics(logits, part, task),
    }


def _metrics(logits: Floats, part: Windows, task: Task) -> Content:
    try:
        return {"metrics": task.metrics(logits, part), "lacks": None}
    except DataError as error:
        return {"metrics": None, "lacks": str(error)}


def _summary(task: Task, figures: list[Content], scored: Sequence[tuple[Floats, Windows]]) -> Content:
    """Mean over folds, and metrics of all test subjects together, each answered by a teacher that never saw it."""
    mean = {part: {key: _mean([one[part][key] for one in figures]) for key in SPREAD} for part in ("validation", "test")}
    for part, values in mean.items():
        values[task.primary] = _mean([one[part]["metrics"][task.primary] for one in figures if one[part]["metrics"]])
    windows = [part for _, part in scored]
    whole = windows[0]
    if len(windows) > 1:
        arrays = ("x", "y", "subject", "teacher_x", "recording")
        whole = replace(whole, **{n: np.concatenate([getattr(w, n) for w in windows]) for n in arrays if getattr(whole, n) is not None})
    pooled = _metrics(np.concatenate([logits for logits, _ in scored]), whole, task)
    return {"task": task.name, "primary": task.primary, "teachers": figures, "mean": mean, "pooled_test": pooled}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _plain(card: TeacherCard, fold: int | None) -> Content:
    values: Content = json.loads(json.dumps(asdict(card), allow_nan=False))
    return {"fold": fold, **values}


def _subjects(split: Split) -> tuple[str, ...]:
    """All subjects of a split, sorted."""
    return tuple(sorted({*split.train.subjects, *split.validation.subjects, *split.test.subjects}))
