"""A task of two classes, slow and fast sines, and a regression, how fast they are; a student learns either in seconds. No files."""

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
from hwnas.graph import Add, AvgPool1d, Conv1d, Dense, DepthwiseConv1d, GlobalAvgPool, Graph, GraphBuilder, Input, Lstm, Transpose
from hwnas.student import Student
from hwnas.tasks import bpm
from hwnas.tasks.base import Labels, Windows, class_answers
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

    def answers(self, count: int) -> tuple[str, ...]:
        return class_answers(self, count)

    def metrics(self, logits: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        y = windows.y
        return {"auc": metrics.roc_auc(logits[:, 1] - logits[:, 0], y == 1), "accuracy": metrics.accuracy(logits.argmax(1), y)}

    def error(self, metrics: Mapping[str, float]) -> float:
        return 1 - metrics[self.primary]

    def classes(self, y: Labels) -> NDArray[np.int64]:
        return np.asarray(y, dtype=np.int64)

    strata = classes


TASK = Speed()


@dataclass(frozen=True)
class Pace(Speed):
    """Turns of a sine as beats per minute, 20 BPM a turn: an error, in a unit."""

    name: str = "pace"
    kind: Literal["regression"] = "regression"  # type: ignore[assignment]
    labels: tuple[str, ...] = bpm.LABELS
    outputs: tuple[str, ...] = ("bpm",)
    description: str = "how fast a sine is"
    primary: str = "mae_bpm"
    loss_allowed: float = 0.1
    needed: tuple[int, ...] = ()

    def answers(self, count: int) -> tuple[str, ...]:
        return self.outputs if count == 1 else bpm.names(count)

    def metrics(self, outputs: NDArray[np.floating[Any]], windows: Windows) -> dict[str, float]:
        found = bpm.from_output(outputs[:, 0]) if outputs.shape[1] == 1 else bpm.expectation(outputs)
        return {"mae_bpm": float(np.abs(found - windows.y).mean()), "bias_bpm": float((found - windows.y).mean())}

    def error(self, metrics: Mapping[str, float]) -> float:
        return metrics[self.primary]

    def classes(self, y: Labels) -> NDArray[np.int64]:
        return bpm.classes(np.asarray(y, dtype=np.float64))

    def strata(self, y: Labels) -> NDArray[np.int64]:
        return np.asarray(np.digitize(y, [90.0, 130.0]), dtype=np.int64)


PACE = Pace()


def windows(count: int, seed: int) -> Windows:
    """Noisy sines of 3 to 6 and of 5 to 9 turns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    turns = rng.uniform(3, 6, count) + y * rng.uniform(2, 3, count)
    x = np.sin(2 * np.pi * (turns[:, None] * np.linspace(0, 1, SAMPLES) + rng.random((count, 1))))
    x = np.clip(x + 0.4 * rng.normal(size=x.shape), -2, 2) / 2
    return Windows(x.astype(np.float32)[:, None], y.astype(np.int64), np.repeat("s", count), 64.0, "synthetic", "sines")


def paced(count: int, seed: int) -> Windows:
    """Noisy sines of 3 to 9 turns, labelled 60 to 180 BPM."""
    rng = np.random.default_rng(seed)
    turns = rng.uniform(3, 9, count)
    x = np.sin(2 * np.pi * (turns[:, None] * np.linspace(0, 1, SAMPLES) + rng.random((count, 1))))
    x = np.clip(x + 0.1 * rng.normal(size=x.shape), -2, 2) / 2
    subject = np.array([f"s{i % 4}" for i in range(count)])
    return Windows(x.astype(np.float32)[:, None], (20 * turns).astype(np.float32), subject, 64.0, "synthetic", "sines")


def graph(*, lstm: bool = False, outputs: int = 2) -> Graph:
    """A stem, a residual block or an LSTM, and a head."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(8, 7, 2), builder.add(Input(1, SAMPLES)))
    if lstm:
        x = builder.add(Lstm(6, last=True), x)
    else:
        y = builder.add(Conv1d(8, relu=False), builder.add(DepthwiseConv1d(5), x))
        x = builder.add(GlobalAvgPool(), builder.add(Add(), x, y))
    builder.add(Dense(outputs), x)
    return builder.build()


def banded(bands: int = 36) -> Graph:
    """A bank of filters, convolutions along its bands, and a logit for each of them: how fast, by classes."""
    builder = GraphBuilder()
    x = builder.add(Conv1d(bands, 24, 2), builder.add(Input(1, SAMPLES)))
    x = builder.add(Transpose(), builder.add(AvgPool1d(SAMPLES // 2, 1), x))
    x = builder.add(Conv1d(8, 5), x)
    y = builder.add(Conv1d(8, relu=False), builder.add(DepthwiseConv1d(5), x))
    builder.add(Conv1d(1, relu=False), builder.add(Add(), x, y))
    return builder.build()


@cache
def trained(*, lstm: bool = False, seed: int = 0) -> Student:
    """A student that tells slow from fast; made once, so leave it as it is."""
    student, lessons = warmed_student(graph(lstm=lstm), seed), windows(400, seed)
    recipe = Recipe(name="test", epochs=6, batch_size=32, learning_rate=0.01, average=0.8)
    torch.set_num_threads(1)
    fit(student, lessons.x, Targets(lessons.y), recipe, seed=seed)
    return student


@cache
def trained_pace(seed: int = 0) -> Student:
    """A student that says how fast; made once, so leave it as it is."""
    student, lessons = warmed_student(graph(outputs=1), seed), paced(600, seed)
    recipe = Recipe(name="test", epochs=40, batch_size=32, learning_rate=0.02, average=0.9)
    torch.set_num_threads(1)
    fit(student, lessons.x, Targets(lessons.y), recipe, seed=seed)
    return student


@cache
def trained_bands(seed: int = 0) -> Student:
    """A student that says how fast by classes of 5 BPM; made once, so leave it as it is."""
    student, lessons = Student(banded(), torch.Generator().manual_seed(seed)), paced(600, seed)
    recipe = Recipe(name="test", epochs=30, batch_size=32, learning_rate=0.01, average=0.9)
    torch.set_num_threads(1)
    fit(student, lessons.x, Targets(lessons.y), recipe, seed=seed)
    return student
