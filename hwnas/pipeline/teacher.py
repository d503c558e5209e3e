"""The teacher stage: trained, calibrated on validation subjects, carded and fixed, its outputs cached. Writes `teacher/`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.errors import RunError
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData, extra_windows
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.recipes import pretrain_recipe, teacher_recipe, views
from hwnas.pipeline.rundir import RunDirectory
from hwnas.tasks.base import Windows
from hwnas.teachers import build
from hwnas.teachers.cache import cached_logits, predict, student_windows
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import CARD, TeacherCard, content_id, count_parameters, load_teacher, save_teacher
from hwnas.train import Recipe, Targets, fit, keep_memory

TEACHER_THREADS = 1  # more threads would make the weights depend on the machine, and gain little on networks this small

CHECKPOINTS = ("pretraining.safetensors", "training.safetensors")


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
        _answers(config, run, card, module, data, extra_windows(config, data))
        return card
    module = _train(config, data, run, progress)
    card = _card(config, module, data)
    _answers(config, run, card, module, data, extra_windows(config, data))
    save_teacher(run.teacher, module, card)
    for name in CHECKPOINTS:
        (run.teacher / name).unlink(missing_ok=True)
    return card


def lessons(
    config: RunConfig, run: RunDirectory, card: TeacherCard, module: nn.Module, data: RunData
) -> tuple[NDArray[np.float32], Targets]:
    """What students learn from: windows (M, C, T), their labels, and the teacher's raw logits, which are computed once and cached.

    The windows are all fixed views of the training windows and, on real recordings, generated windows.
    """
    train, count, extra = data.split.train, views(config), extra_windows(config, data)
    x, y = student_windows(train.x, count=count), np.tile(train.y, count)
    if extra is not None:
        x, y = np.concatenate([x, extra.x]), np.concatenate([y, extra.y])
    return x, Targets(y, _answers(config, run, card, module, data, extra))


def _answers(
    config: RunConfig, run: RunDirectory, card: TeacherCard, module: nn.Module, data: RunData, extra: Windows | None
) -> NDArray[np.float32]:
    """The teacher's raw logits (M, K) for the windows of `lessons`, from the cache or into it."""
    own = cached_logits(run.teacher, card.id, module, data.split.train.x, count=views(config))
    parts = [own.reshape(-1, own.shape[2])]
    if extra is not None:
        parts.append(cached_logits(run.teacher, card.id, module, extra.x)[0])
    return np.concatenate(parts)


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


@dataclass(frozen=True)
class _Stage:
    """One training of the teacher: what is said of it, its checkpoint's name, its recipe and where its windows come from."""

    title: str
    checkpoint: str
    recipe: Recipe
    generated: bool = False


def _stages(config: RunConfig, data: RunData) -> list[_Stage]:
    """The trainings of a teacher, in order; for real recordings the first is on generated windows."""
    samples = data.window.length
    stages = [_Stage(f"training the teacher {config.teacher}", CHECKPOINTS[1], teacher_recipe(config, samples))]
    if data.split.train.source == "real":
        title = f"pre-training the teacher {config.teacher} on generated windows"
        stages.insert(0, _Stage(title, CHECKPOINTS[0], pretrain_recipe(config, samples), generated=True))
    return stages


def _train(config: RunConfig, data: RunData, run: RunDirectory, progress: Progress) -> nn.Module:
    module = build(config.teacher, data.window.channels, len(data.task.labels), seed=config.seed)
    size = count_parameters(module)
    for stage in _stages(config, data):
        windows = (extra_windows(config, data) if stage.generated else None) or data.split.train
        progress.stage(f"{stage.title} ({size:,} parameters)", stage.recipe.epochs)

        def on_epoch(done: int, _: int, loss: float) -> None:
            progress.step(done, f"loss {loss:.3f}")

        checkpoint = run.teacher / stage.checkpoint
        fit(module, windows.x, Targets(windows.y), stage.recipe, seed=config.seed, on_epoch=on_epoch, checkpoint=checkpoint)
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
        recipe={stage.recipe.name: stage.recipe.to_dict() for stage in _stages(config, data)},
        seed=config.seed,
        calibration=calibration,
        metrics={"validation": data.task.metrics(logits, validation.y)},
    )
