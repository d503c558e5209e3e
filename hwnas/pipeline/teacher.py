"""The teacher stage: trained, calibrated on validation subjects, carded and fixed, its outputs cached. Writes `teacher/`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.errors import RunError
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.recipes import teacher_recipe, views
from hwnas.pipeline.rundir import RunDirectory
from hwnas.teachers import build
from hwnas.teachers.cache import cached_logits, predict
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import CARD, TeacherCard, content_id, count_parameters, load_teacher, save_teacher
from hwnas.train import Targets, fit, keep_memory

TEACHER_THREADS = 1  # more threads would make the weights depend on the machine, and gain little on networks this small


def ensure_teacher(config: RunConfig, data: RunData, run: RunDirectory, progress: Progress) -> TeacherCard:
    """The fixed teacher of the run: loaded where it is there, trained otherwise. Its cached outputs are there afterwards.

    Raises:
        RunError: the teacher there belongs to other data or another architecture.
        TrainingError: it was changed, or training diverged.
    """
    torch.set_num_threads(TEACHER_THREADS)
    keep_memory()
    if (run.teacher / CARD).exists():
        module, card = load_teacher(run.teacher)
        if (card.name, card.data) != (config.teacher, data.hash):
            raise RunError(
                f"{run.teacher} holds teacher '{card.name}' of data {card.data}, this run needs '{config.teacher}' of {data.hash}"
            )
        teacher_logits(config, run, card, module, data)
        return card
    module = _train(config, data, run, progress)
    card = _card(config, module, data)
    teacher_logits(config, run, card, module, data)
    save_teacher(run.teacher, module, card)
    (run.teacher / "checkpoint.safetensors").unlink(missing_ok=True)
    return card


def teacher_logits(config: RunConfig, run: RunDirectory, card: TeacherCard, module: nn.Module, data: RunData) -> NDArray[np.float32]:
    """Cached raw logits (views, N, K) on the fixed views of the training windows."""
    return cached_logits(run.teacher, card.id, module, data.split.train.x, count=views(config))


def describe(card: TeacherCard, test: dict[str, float]) -> dict[str, Any]:
    """The teacher as `front.json` holds it; `test` are its metrics on the test subjects."""
    return {
        "id": card.id,
        "name": card.name,
        "parameters": card.parameters,
        "metrics": {**card.metrics, "test": test},
        "calibration": asdict(card.calibration),
        "provenance": f"float32 on the host, {card.source} data",
    }


def test_metrics(run: RunDirectory, data: RunData) -> dict[str, float]:
    """The teacher's metrics on the test subjects; for after the front is frozen."""
    module, _ = load_teacher(run.teacher)
    return data.task.metrics(predict(module, data.split.test.x), data.split.test.y)


def _train(config: RunConfig, data: RunData, run: RunDirectory, progress: Progress) -> nn.Module:
    train = data.split.train
    recipe = teacher_recipe(config, data.window.length)
    module = build(config.teacher, data.window.channels, len(data.task.labels), seed=config.seed)
    progress.stage(f"training the teacher {config.teacher} ({count_parameters(module):,} parameters)", recipe.epochs)

    def on_epoch(done: int, _: int, loss: float) -> None:
        progress.step(done, f"loss {loss:.3f}")

    checkpoint = run.teacher / "checkpoint.safetensors"
    fit(module, train.x, Targets(train.y), recipe, seed=config.seed, on_epoch=on_epoch, checkpoint=checkpoint)
    return module


def _card(config: RunConfig, module: nn.Module, data: RunData) -> TeacherCard:
    validation, train = data.split.validation, data.split.train
    logits = predict(module, validation.x)
    calibration = calibrate(logits, validation.y, predict(module, train.x))
    return TeacherCard(
        id=content_id(module, config.teacher, data.hash),
        name=config.teacher,
        parameters=count_parameters(module),
        in_channels=data.window.channels,
        labels=data.task.labels,
        data=data.hash,
        source=train.source,
        recipe=teacher_recipe(config, data.window.length).to_dict(),
        seed=config.seed,
        calibration=calibration,
        metrics={"validation": data.task.metrics(logits, validation.y)},
    )
