"""`distil`: one student, one distillation, one split. Trains and writes a folder.

study.yaml      the settings
teacher/        the teacher, trained or taken over (`from:FOLDER`)
student/        graph.json, weights.safetensors: float32, the head calibrated on the validation subjects
gap.csv         teacher and student on every test segment (`hwnas.study.gap`)
distill.json    all figures
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from hwnas.distill import read
from hwnas.errors import DataError
from hwnas.export import floats
from hwnas.pipeline.data import RunData, load_data, load_windows, task_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.teacher import ensure_teacher, lessons
from hwnas.quantize.choice import with_head_at
from hwnas.resources import write_text
from hwnas.student import Student
from hwnas.study import folder, student
from hwnas.study.arms import student_recipe, temperature_of
from hwnas.study.folds import doubts
from hwnas.study.gap import flag_quality, gaps, table
from hwnas.study.measures import Outputs
from hwnas.study.student import StudentConfig
from hwnas.tasks import Task, Windows
from hwnas.tasks.splits import held_out
from hwnas.teachers import members
from hwnas.teachers.cache import predict
from hwnas.teachers.card import load_teacher
from hwnas.train import fit, keep_memory

CHECKPOINT = "checkpoint.safetensors"
Content = dict[str, Any]


class DistilConfig(StudentConfig):
    """Everything that decides the result of one distillation.

    Attributes:
        held_out: the subjects to test on; none: a fifth of all.
    """

    held_out: Annotated[tuple[str, ...], Field(strict=False)] = ()


def distil(config: DistilConfig, out: Path, *, resume: bool, progress: Progress) -> Content:
    """Train one student and write its folder; returns the content of `distill.json`.

    Raises:
        UsageError, ConfigError: settings that do not fit together, or a folder that is taken.
        DataError: recordings that cannot be used or split.
        RunError: a teacher that does not belong here. TrainingError: training diverged.
    """
    check(config)
    folder.check_free(out, resume=resume)
    torch.set_num_threads(1)
    keep_memory()
    progress.stage("reading recordings" if config.data else "generating signals")
    data = _data(config)
    graph = student.architecture(config, data)
    folder.claim(out, "distill", config.model_dump(mode="json"), resume=resume, may_change=("data",))
    place = out / "teacher"
    ensure_teacher(config, data, place, progress)
    module, card = load_teacher(place)
    split, task = data.split, data.task
    recipe = student_recipe(config, config.distillation, card, data.window.length)
    taught = lessons(config, place, card, module, data)
    progress.stage(f"distilling a student of {graph.parameters:,} parameters ({config.distillation})", recipe.epochs)
    network = Student(graph, torch.Generator().manual_seed(config.seed))
    fit(
        network,
        *taught,
        recipe,
        seed=config.seed,
        on_epoch=lambda done, _, loss: progress.step(done, f"loss {loss:.3f}"),
        checkpoint=out / CHECKPOINT,
    )
    temperature = temperature_of(predict(network, split.validation.x), split.validation, task)
    if task.kind == "classification":
        network = with_head_at(network, temperature)
    floats.save(network, out / "student")
    progress.stage("scoring")
    heat = 1.0 if task.kind == "regression" else card.calibration.temperature
    parts = {"validation": split.validation, "test": split.test}
    outputs = {name: (predict(module, part.seen_by_teacher) / np.float32(heat), predict(network, part.x)) for name, part in parts.items()}
    found = gaps(task, split.test, *outputs["test"])
    write_text(out / "gap.csv", table(found))
    content: Content = {
        "task": task.name,
        "data": data.provenance,
        "test_subjects": list(split.test.subjects),
        "provenance": f"float32 on the host, {split.test.source} data",
        "distillation": config.distillation,
        "effort": config.effort,
        "warnings": list(doubts(data, place)),
        "student": {"hash": graph.hash, "parameters": graph.parameters, "macs": graph.macs, "temperature": temperature},
        "recipe": recipe.to_dict(),
        "teacher": {"name": card.name, "id": card.id, "parameters": card.parameters, "temperature": card.calibration.temperature},
        "metrics": {
            who: {name: _metrics(task, outputs[name][i], part) for name, part in parts.items()}
            for i, who in enumerate(("teacher", "student"))
        },
        "gap": flag_quality(found, split.test, config.seed) | {"teacher_signal": list(task.teacher_channels)},
    }
    write_text(out / "distill.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    (out / CHECKPOINT).unlink(missing_ok=True)
    return content


def check(config: DistilConfig) -> None:
    """Refuse settings that cannot be, before anything is read; raises UsageError or ConfigError."""
    read(config.distillation).allow(task_of(config.task).kind)
    members(config.teacher)
    student.check(config)


def _metrics(task: Task, outputs: Outputs, part: Windows) -> dict[str, float]:
    """Metrics of outputs; none where the part does not have them, such as an AUC of subjects without AF."""
    try:
        return task.metrics(outputs, part)
    except DataError:
        return {}


def _data(config: DistilConfig) -> RunData:
    if not config.held_out:
        return load_data(config)
    task, windows, name = load_windows(config)
    return RunData(task, held_out(windows, config.held_out, config.split_seed, task), windows.hash, name)
