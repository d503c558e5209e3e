"""Which recipe a run uses at each stage. Pure.

`effort: quick` is for a first look and for tests: the same stations with a fraction of the steps; its figures are no results.
"""

from __future__ import annotations

from dataclasses import replace

from hwnas.pipeline.config import RunConfig
from hwnas.train import FULL, SHORT, TEACHER, Recipe

VIEWS = 2  # fixed views of each training window that the teacher answers and full distillation learns from
VIEW_STRENGTH = 1.0


def teacher_recipe(config: RunConfig) -> Recipe:
    """Recipe of the teacher."""
    return replace(TEACHER, epochs=2, windows_per_epoch=512) if config.effort == "quick" else TEACHER


def short_recipe(config: RunConfig, temperature: float) -> Recipe:
    """Recipe that ranks candidates."""
    recipe = SHORT.at_temperature(temperature)
    return replace(recipe, epochs=1, windows_per_epoch=512) if config.effort == "quick" else recipe


def full_recipe(config: RunConfig, temperature: float) -> Recipe:
    """Recipe of the students of the front."""
    recipe = FULL.at_temperature(temperature)
    return replace(recipe, epochs=1, windows_per_epoch=1024) if config.effort == "quick" else recipe
