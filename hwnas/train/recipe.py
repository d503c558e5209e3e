"""Recipes: every number of a training in one frozen, serialisable value. Pure Python; touches no files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hwnas.distill import LossSettings
from hwnas.errors import ConfigError

REFERENCE_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    An epoch draws `windows_per_epoch` windows (all of them where None), class k (heart rates: band of 10 BPM) with a probability
    proportional to its frequency to the power of 1 - `balance`. The learning rate rises linearly over the share `warmup` of the steps to
    `learning_rate` and falls to zero along a cosine. `average` is the decay per step of the averaged weights kept (0: the last).
    `augment` is the strength of random variants; with a teacher it must be 0, because cached outputs belong to fixed windows.
    `patience` epochs without a better watched figure end a training early (None: never).

    Raises:
        ConfigError: a number out of range.
    """

    name: str
    epochs: int
    batch_size: int = 128
    windows_per_epoch: int | None = None
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    warmup: float = 0.15
    clip_norm: float = 1.0
    balance: float = 0.0
    augment: float = 0.0
    average: float = 0.0
    patience: int | None = None
    loss: LossSettings = field(default_factory=LossSettings)

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 2, "at least 2 (batch normalisation needs two windows)"),
            "windows_per_epoch": (self.windows_per_epoch is None or self.windows_per_epoch >= 2, "at least 2, or none for all"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup": (0 <= self.warmup < 1, "0 to below 1"),
            "clip_norm": (self.clip_norm > 0, "above 0"),
            "balance": (0 <= self.balance <= 1, "0 (as they come) to 1 (classes equally often)"),
            "augment": (0 <= self.augment <= 2, "0 to 2"),
            "average": (0 <= self.average < 1, "0 to below 1"),
            "patience": (self.patience is None or self.patience >= 1, "at least 1, or none to train to the end"),
        }
        for key, (fine, allowed) in rules.items():
            if not fine:
                raise ConfigError(f"recipe '{self.name}': {key} is {getattr(self, key)}, allowed is {allowed}")
        if self.augment and self.loss.name != "hard":
            raise ConfigError(
                f"recipe '{self.name}': augment {self.augment:g} with the loss '{self.loss.name}': a teacher's cached outputs "
                "belong to the windows they were computed on; set augment to 0 and cache fixed views instead"
            )

    def steps(self, windows: int) -> tuple[int, int]:
        """(steps in an epoch, steps in all) for a training set of `windows`. A last batch that is not full is left out."""
        drawn = min(self.windows_per_epoch or windows, windows)
        per_epoch = max(1, drawn // self.batch_size)
        return per_epoch, per_epoch * self.epochs

    def rate(self, step: int, total: int) -> float:
        """Learning rate of step `step` of `total`."""
        rising = max(1, round(self.warmup * total))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

    def at_temperature(self, temperature: float) -> Recipe:
        """This recipe with another distillation temperature, usually the one on the teacher's card."""
        return replace(self, loss=replace(self.loss, temperature=temperature))

    def at_length(self, samples: int) -> Recipe:
        """This recipe for windows of `samples` samples: as many steps over as many samples, so about the same time.

        The presets are for windows of 1,000 samples; longer windows come in smaller batches (16 at least).
        """
        factor = REFERENCE_SAMPLES / samples
        windows = self.windows_per_epoch and max(2, round(self.windows_per_epoch * factor))
        return replace(self, batch_size=max(16, round(self.batch_size * factor)), windows_per_epoch=windows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON or YAML file."""
        return asdict(self)


_SOFT = LossSettings(name="soft")

# TEACHER is untuned; FULL was chosen on the validation patients of three splits of the Liu 2022 recordings, SHORT on those of the
# hardest of them. Students learn from VIEWS fixed views of each window at augmentation strength 1.
VIEWS = 6
PRETRAIN = Recipe(name="pretrain", epochs=12, batch_size=64, windows_per_epoch=6000, balance=0.5, augment=1.0, average=0.995)
TEACHER = Recipe(name="teacher", epochs=18, batch_size=64, windows_per_epoch=6000, balance=0.5, augment=1.0, average=0.995)
SHORT = Recipe(name="short", epochs=8, batch_size=64, windows_per_epoch=6000, learning_rate=1.2e-2, average=0.95, loss=_SOFT)
FULL = Recipe(name="full", epochs=44, batch_size=64, windows_per_epoch=6000, learning_rate=1.2e-2, average=0.99, loss=_SOFT)
# Continues a trained student in its integers. A rate of 1e-3 moves a weight by an eighth of a step at a time (`hwnas.quantize.qat`).
QAT = Recipe(name="qat", epochs=6, batch_size=64, windows_per_epoch=6000, learning_rate=1e-3, weight_decay=0.0, average=0.98, loss=_SOFT)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (PRETRAIN, TEACHER, SHORT, FULL, QAT)}
