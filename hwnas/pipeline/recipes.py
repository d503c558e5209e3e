"""Which recipe a run uses at each stage. Pure.

`effort: quick` is for a first look and for tests: the same stations with a fraction of the steps; its figures are no results.
"""

from __future__ import annotations

from dataclasses import replace

from hwnas.distill import read
from hwnas.pipeline.config import LearningConfig
from hwnas.train import FULL, PRETRAIN, QAT, SHORT, TEACHER, VIEWS, Recipe


def teacher_recipe(config: LearningConfig, samples: int) -> Recipe:
    """Recipe of the teacher, for windows of `samples` samples."""
    recipe = _with_effort(config, TEACHER, samples)
    return replace(recipe, epochs=config.teacher_epochs) if config.teacher_epochs else recipe


def pretrain_recipe(config: LearningConfig, samples: int) -> Recipe:
    """Recipe of a teacher's first training, on generated windows."""
    return _with_effort(config, PRETRAIN, samples)


def short_recipe(config: LearningConfig, samples: int, temperature: float) -> Recipe:
    """Recipe that ranks candidates."""
    return _student(config, SHORT, samples, temperature)


def full_recipe(config: LearningConfig, samples: int, temperature: float) -> Recipe:
    """Recipe of the students of the front."""
    return _student(config, FULL, samples, temperature)


def qat_recipe(config: LearningConfig, samples: int, temperature: float) -> Recipe:
    """Recipe that continues a student of the front in its integers."""
    return _student(config, QAT, samples, temperature)


def views(config: LearningConfig) -> int:
    """Fixed views of each training window that the teacher answers and students learn from."""
    return 1 if config.effort == "quick" else VIEWS


def _student(config: LearningConfig, recipe: Recipe, samples: int, temperature: float) -> Recipe:
    """`recipe` with the run's loss, at the teacher's `temperature` unless the run names one."""
    return replace(_with_effort(config, recipe, samples), loss=read(config.distillation, temperature=temperature))


def _with_effort(config: LearningConfig, recipe: Recipe, samples: int) -> Recipe:
    sized = recipe.at_length(samples)
    return replace(sized, epochs=2, windows_per_epoch=256) if config.effort == "quick" else sized
