"""A task of two classes, slow and fast sines, that a student learns in seconds. No files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from random_students import warmed_student

from hwnas import metrics
from hwnas.graph import Add, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Lstm
from hwnas.student import Student
from hwnas.tasks.base import Labels, Windows
from hwnas.train import Recipe, Targets, fit

SAMPLES = 64


@dataclass(frozen=True)
class Speed:
    """Slow against fast."""

    name: str = "speed"
    kind: Literal["classification"] = "classification"
    labels: tuple[str, ...] = ("slow", "fast")
    rate_hz: float = 64.0
    window_s: float = 1.0
    description: str = "slow and fast sines"
    primary: str = "auc"
    loss_allowed: float = 0.002
    needed: tuple[int, ...] = (1,)
    outputs: tuple[str, ...] = ("slow", "fast")
    channels: tuple[str, ...] = ("signal",)
    teacher_channels: tuple[str, ...] = ("signal",)

    def load(self, path: object, **_: Any) -> Windows:
        raise NotImplementedError

    def metrics(self, logits: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        y = windows.y
        return {"auc": metrics.roc_auc(logits[:, 1] - logits[:, 0], y == 1), "accuracy": metrics.accuracy(logits.argmax(1), y)}

    def error(self, metrics: Mapping[str, float]) -> float:
        return 1 - metrics[self.primary]

    def classes(self, y: Labels) -> NDArray[np.int64]:
        return np.asarray(y, dtype=np.int64)

    strata = classes


TASK = Speed()


def windows(count: int, seed: int) -> Windows:
    """Noisy sines of 3 to 6 and of 5 to 9 turns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    turns = rng.uniform(3, 6, count) + y * rng.uniform(2, 3, count)
    x = np.sin(2 * np.pi * (turns[:, None] * np.linspace(0, 1, SAMPLES) + rng.random((count, 1))))
    x = np.clip(x + 0.4 * rng.normal(size=x.shape), -2, 2) / 2
    return Windows(x.astype(np.float32)[:, None], y.astype(np.int64), np.repeat("s", count), 64.0, "synthetic", "sines")


def graph(*, lstm: bool = False) -> Graph:
    """A stem, a residual block or an LSTM, and a head."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 2), builder.add(Input(1, SAMPLES)))
    if lstm:
        x = builder.add(Lstm(6, last=True), x)
    else:
        y = builder.add(Conv1d(8, relu=False), builder.add(DepthwiseConv1d(5), x))
        x = builder.add(GlobalAvgPool(), builder.add(Add(), x, y))
    builder.add(Dense(2), x)
    return builder.build()


@cache
def trained(*, lstm: bool = False, seed: int = 0) -> Student:
    """A student that tells slow from fast; made once, so leave it as it is."""
    student, lessons = warmed_student(graph(lstm=lstm), seed), windows(400, seed)
    recipe = Recipe(name="test", epochs=6, batch_size=32, learning_rate=0.01, average=0.8)
    torch.set_num_threads(1)
    fit(student, lessons.x, Targets(lessons.y), recipe, seed=seed)
    return student
