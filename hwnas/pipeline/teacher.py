"""The teacher stage: trained, calibrated on validation subjects, carded and fixed, its outputs cached. Writes the folder of one teacher.

The members of an ensemble are trained and calibrated one after the other, each with checkpoints of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.errors import RunError
from hwnas.pipeline.config import LearningConfig
from hwnas.pipeline.data import RunData, extra_windows
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.recipes import pretrain_recipe, teacher_recipe, views
from hwnas.tasks.base import Labels, Windows
from hwnas.teachers import build, member_seeds, members
from hwnas.teachers.cache import cached_logits, predict, student_windows
from hwnas.teachers.calibration import Calibration, calibrate
from hwnas.teachers.card import CARD, MemberCard, TeacherCard, content_id, count_parameters, load_teacher, save_teacher
from hwnas.teachers.ensemble import Ensemble
from hwnas.train import Recipe, Targets, fit, keep_memory

TEACHER_THREADS = 1  # more threads would make the weights depend on the machine, and gain little on networks this small


def ensure_teacher(config: LearningConfig, data: RunData, folder: Path, progress: Progress) -> TeacherCard:
    """The fixed teacher in `folder`: loaded where it is there, trained otherwise. Its cached outputs are there afterwards.

    Raises:
        RunError: the teacher there belongs to other data or another architecture.
        TrainingError: it was changed, or training diverged.
    """
    torch.set_num_threads(TEACHER_THREADS)
    keep_memory()
    if (folder / CARD).exists():
        module, card = load_teacher(folder)
        if (card.name, card.data) != (config.teacher, data.hash):
            raise RunError(f"{folder} holds teacher '{card.name}' of data {card.data}, this run needs '{config.teacher}' of {data.hash}")
        _answers(config, folder, card, module, data, extra_windows(config, data))
    else:
        module, card = _make(config, data, folder, progress)
        _answers(config, folder, card, module, data, extra_windows(config, data))
        save_teacher(folder, module, card)
    for path in folder.glob("checkpoint-*.safetensors"):
        path.unlink()
    return card


def lessons(
    config: LearningConfig, folder: Path, card: TeacherCard, module: nn.Module, data: RunData
) -> tuple[NDArray[np.float32], Targets]:
    """What students learn from: windows (M, C, T), their labels, and the teacher's raw logits, which are computed once and cached.

    The windows are all fixed views of the training windows and, on real recordings, generated windows.
    """
    train, count, extra = data.split.train, views(config), extra_windows(config, data)
    x: NDArray[np.float32] = student_windows(train.x, count=count)
    y = cast(Labels, np.tile(train.y, count))
    if extra is not None:
        x, y = np.concatenate([x, extra.x]), np.concatenate([y, extra.y])
    return x, Targets(y, _answers(config, folder, card, module, data, extra))


def _answers(
    config: LearningConfig, folder: Path, card: TeacherCard, module: nn.Module, data: RunData, extra: Windows | None
) -> NDArray[np.float32]:
    """The teacher's raw logits (M, K) for the windows of `lessons`, from the cache or into it."""
    own = cached_logits(folder, card.id, module, data.split.train.x, count=views(config))
    parts = [own.reshape(-1, own.shape[2])]
    if extra is not None:
        parts.append(cached_logits(folder, card.id, module, extra.x)[0])
    return np.concatenate(parts)


def describe(card: TeacherCard, test: dict[str, float]) -> dict[str, Any]:
    """The teacher as `front.json` holds it; `test` are its metrics on the test subjects."""
    return {
        "id": card.id,
        "name": card.name,
        "parameters": card.parameters,
        "metrics": {**card.metrics, "test": test},
        "calibration": asdict(card.calibration),
        "members": [asdict(member) for member in card.members],
        "provenance": f"float32 on the host, {card.source} data",
    }


def test_metrics(folder: Path, data: RunData) -> dict[str, float]:
    """The teacher's metrics on the test subjects; for after the front is frozen."""
    module, _ = load_teacher(folder)
    return data.task.metrics(predict(module, data.split.test.seen_by_teacher), data.split.test)


@dataclass(frozen=True)
class _Stage:
    """One training of a network: what is said of it, its checkpoint's name, its recipe and where its windows come from."""

    title: str
    checkpoint: str
    recipe: Recipe
    generated: bool = False


def _stages(config: LearningConfig, data: RunData, name: str) -> list[_Stage]:
    """The trainings of network `name`, in order; for real recordings the first is on generated windows."""
    samples = data.window.length
    stages = [_Stage(f"training the teacher {name}", "training", teacher_recipe(config, samples))]
    if data.split.train.source == "real":
        title = f"pre-training the teacher {name} on generated windows"
        stages.insert(0, _Stage(title, "pretraining", pretrain_recipe(config, samples), generated=True))
    return stages


def _make(config: LearningConfig, data: RunData, folder: Path, progress: Progress) -> tuple[nn.Module, TeacherCard]:
    """The trained and calibrated teacher, and its card."""
    module = build(config.teacher, data.window.channels, len(data.task.labels), seed=config.seed)
    networks = list(module.members) if isinstance(module, Ensemble) else [module]
    names, seeds = members(config.teacher), member_seeds(config.teacher, config.seed)
    cards = []
    for number, (network, name, seed) in enumerate(zip(networks, names, seeds, strict=True), start=1):
        prefix = "" if len(networks) == 1 else f"member {number} of {len(networks)}: "
        for stage in _stages(config, data, name):
            checkpoint = folder / f"checkpoint-{number}-{stage.checkpoint}.safetensors"
            _train(network, replace(stage, title=prefix + stage.title), seed, config, data, checkpoint, progress)
        cards.append(MemberCard(name, count_parameters(network), seed, *_assess(network, data)))
    calibration, metrics = cards[0].calibration, cards[0].metrics
    if isinstance(module, Ensemble):
        module.set_temperatures([card.calibration.temperature for card in cards])
        calibration, metrics = _assess(module.eval(), data)
    card = TeacherCard(
        id=content_id(module, config.teacher, data.hash),
        name=config.teacher,
        parameters=count_parameters(module),
        in_channels=data.window.channels,
        labels=data.task.labels,
        data=data.hash,
        source=data.split.train.source,
        recipe={stage.recipe.name: stage.recipe.to_dict() for stage in _stages(config, data, config.teacher)},
        seed=config.seed,
        calibration=calibration,
        metrics=metrics,
        members=tuple(cards) if len(cards) > 1 else (),
    )
    return module, card


def _train(
    network: nn.Module, stage: _Stage, seed: int, config: LearningConfig, data: RunData, checkpoint: Path, progress: Progress
) -> None:
    """One training of a network in place, from its checkpoint where there is one."""
    windows = (extra_windows(config, data) if stage.generated else None) or data.split.train
    progress.stage(f"{stage.title} ({count_parameters(network):,} parameters)", stage.recipe.epochs)

    def on_epoch(done: int, _: int, loss: float) -> None:
        progress.step(done, f"loss {loss:.3f}")

    fit(network, windows.x, Targets(windows.y), stage.recipe, seed=seed, on_epoch=on_epoch, checkpoint=checkpoint)


def _assess(module: nn.Module, data: RunData) -> tuple[Calibration, dict[str, dict[str, float]]]:
    """Calibration of a trained network on the validation subjects, and its metrics there."""
    validation = data.split.validation
    logits = predict(module, validation.seen_by_teacher)
    calibration = calibrate(logits, data.task.classes(validation.y), predict(module, data.split.train.seen_by_teacher))
    return calibration, {"validation": data.task.metrics(logits, validation)}
