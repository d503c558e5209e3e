"""Finished students' folders without a training: random weights, quantised, exported, with a card. Writes the folder it is given."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from random_students import random_windows, warmed_student

from hwnas.export import c, floats, onnx, tflite
from hwnas.graph import (
    Add,
    AvgPool1d,
    Concat,
    Conv1d,
    Dense,
    DepthwiseConv1d,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    Input,
    Join,
    Lstm,
    MaxPool1d,
    Split,
)
from hwnas.hardware import profile
from hwnas.hardware.deployment import uniform
from hwnas.quantize import reference, storage
from hwnas.quantize.ptq import quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.tasks import TASKS

PROFILE, WINDOW_S, RATE_HZ = "cortex-m4-192k", 5.0, 100.0
FAMILIES = ("mobilenet", "resnet", "lstm", "modalities")


def family_graph(family: str) -> Graph:
    """A small graph with the operators of a family, on windows of 5 s at 100 Hz, six outputs."""
    builder = GraphBuilder()
    x = builder.add(Input(3 if family == "modalities" else 1, round(WINDOW_S * RATE_HZ)))
    if family == "modalities":
        x = builder.add(Conv1d(6, 5, 4), builder.add(Split(), x))
        x = builder.add(Add(), x, builder.add(Conv1d(6, relu=False), builder.add(DepthwiseConv1d(3), x)))
        x = builder.add(Join(), builder.add(MaxPool1d(2, 2), x))
    else:
        x = builder.add(Conv1d(8, 7, 4), x)
    if family == "mobilenet":
        y = builder.add(DepthwiseConv1d(5, 2), builder.add(Conv1d(16), x))
        x = builder.add(Concat(), builder.add(Conv1d(8, relu=False), y), builder.add(DepthwiseConv1d(3, dilation=2), y))
    if family == "resnet":
        for _ in range(2):
            y = builder.add(Conv1d(8, 3, relu=False), builder.add(Conv1d(8, 3), x))
            x = builder.add(Conv1d(8), builder.add(Add(), x, y))
    if family == "lstm":
        x = builder.add(AvgPool1d(4, 4), x)
        x = builder.add(Lstm(7, last=True), builder.add(Lstm(5), x))
    else:
        x = builder.add(GlobalAvgPool(), x)
    builder.add(Dense(len(TASKS["rhythm"].labels)), x)
    return builder.build()


def ship(folder: Path, family: str, *, exports: bool = True) -> QuantGraph:
    """Write what a finished student's folder holds; `exports` says whether the TFLite, ONNX and C forms are among it."""
    graph, task = family_graph(family), TASKS["rhythm"]
    student = warmed_student(graph, 3)
    q = quantize(student, random_windows(graph, 64, 5), task.labels)
    floats.save(student, folder)
    storage.save(q, folder)
    deployment = uniform(graph)
    if exports:
        check = reference.quantize_input(q, random_windows(graph, 8, 7))
        tflite.write(q, folder / "model.tflite", check)
        onnx.write(q, folder / "model.onnx", check)
        c.write(q, deployment, folder / "firmware", weights_hash=storage.content_hash(q))
    target = profile.read(PROFILE)
    card = {
        "id": graph.hash,
        "family": family,
        "labels": list(task.labels),
        "task": task.name,
        "rate_hz": RATE_HZ,
        "window_s": WINDOW_S,
        "channels": graph.input_shape.channels,
        "profile": PROFILE,
        "core": target.core,
        "memory": target.memory.model_dump(),
        "deployment": asdict(deployment),
        "weights_hash": storage.content_hash(q),
        "data": {"name": "signal generator", "source": "synthetic"},
        "run_seed": 0,
        "subjects_seen": ["synthetic-000"],
    }
    (folder / "card.json").write_text(json.dumps(card))
    return q


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its content, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def windows_of(q: QuantGraph, count: int, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Random windows that the student reads, (N, C, T)."""
    return random_windows(q.graph, count, seed)
