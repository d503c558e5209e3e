"""Training: one loop for teacher, short, full and quantisation-aware distillation, and the recipes that the product uses."""

from hwnas.distill import Targets
from hwnas.train.allocator import keep_memory
from hwnas.train.loop import FitResult, fit, seeded
from hwnas.train.recipe import FULL, PRETRAIN, QAT, RECIPES, SHORT, TEACHER, VIEWS, Recipe

__all__ = [
    "FULL",
    "PRETRAIN",
    "QAT",
    "RECIPES",
    "SHORT",
    "TEACHER",
    "VIEWS",
    "FitResult",
    "Recipe",
    "Targets",
    "fit",
    "keep_memory",
    "seeded",
]
