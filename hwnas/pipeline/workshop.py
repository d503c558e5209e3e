"""What training a student needs, loaded once in a process: windows, the gate, the teacher's cached outputs. torch on one thread.

`CandidateScorer` ranks a candidate by a short distillation; it is what search workers run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.graph import Graph
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData, load_data
from hwnas.pipeline.gate import Gate, open_gate
from hwnas.pipeline.recipes import full_recipe, qat_recipe, short_recipe
from hwnas.pipeline.rundir import RunDirectory
from hwnas.pipeline.teacher import lessons
from hwnas.quantize.choice import Shipped, ship
from hwnas.quantize.ptq import PtqSettings, quantize
from hwnas.quantize.qgraph import QuantGraph
from hwnas.quantize.scoring import score_int8
from hwnas.student import Student
from hwnas.teachers.card import TeacherCard, load_teacher
from hwnas.train import Recipe, Targets, fit, keep_memory


@dataclass(frozen=True)
class Workshop:
    """Distils, quantises and scores students of one run."""

    config: RunConfig
    run: RunDirectory
    data: RunData
    gate: Gate
    teacher: TeacherCard
    lessons: tuple[NDArray[np.float32], Targets]

    @staticmethod
    def open(config: RunConfig, root: Path) -> Workshop:
        """Load the run in `root`, whose teacher stage is done."""
        torch.set_num_threads(1)
        keep_memory()
        run = RunDirectory(root)
        data = load_data(config)
        module, card = load_teacher(run.teacher)
        return Workshop(config, run, data, open_gate(config, data, run), card, lessons(config, run.teacher, card, module, data))

    @property
    def ptq(self) -> PtqSettings:
        """How activations are calibrated."""
        return PtqSettings(self.config.calibration)

    def short(self, graph: Graph, seed: int) -> Student:
        """A student after the short distillation."""
        return self._distil(graph, seed, short_recipe(self.config, self.data.window.length, self.teacher.distillation_temperature))

    def full(self, graph: Graph, seed: int) -> Student:
        """A student after the full distillation."""
        return self._distil(graph, seed, full_recipe(self.config, self.data.window.length, self.teacher.distillation_temperature))

    def quantise(self, student: Student) -> QuantGraph:
        """The int8 form by PTQ, with ranges from training subjects."""
        labels = self.data.task.answers(student.graph.output_shape.elements)
        return quantize(student, self.data.split.train.x, labels, self.ptq)

    def ship(self, student: Student, seed: int) -> Shipped:
        """The int8 form that leaves the house: PTQ, or QAT on the same lessons where PTQ loses too much on the validation subjects."""
        recipe = qat_recipe(self.config, self.data.window.length, self.teacher.distillation_temperature)
        train, validation = self.data.split.train, self.data.split.validation
        return ship(student, self.lessons, validation, self.data.task, recipe, calibration_x=train.x, seed=seed, settings=self.ptq)

    def validate(self, q: QuantGraph) -> dict[str, float]:
        """Metrics of an int8 student on the validation subjects."""
        return score_int8(q, self.data.split.validation, self.data.task)

    def _distil(self, graph: Graph, seed: int, recipe: Recipe) -> Student:
        student = Student(graph, torch.Generator().manual_seed(seed))
        x, targets = self.lessons
        fit(student, x, targets, recipe, seed=seed)
        return student


class WorkshopScorer(ABC):
    """Work on students in a worker process (`hwnas.search.workers.Scorer`); loads the run once, when the worker starts."""

    def __init__(self, config: RunConfig, root: Path) -> None:
        self._config, self._root = config, root
        self._shop: Workshop | None = None

    def setup(self) -> None:
        """Load the run."""
        self._shop = Workshop.open(self._config, self._root)

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Int8 validation metrics, and `error`, which the task says."""
        shop = self._shop or Workshop.open(self._config, self._root)
        metrics = self.metrics(shop, parameters, seed)
        return {"error": shop.data.task.error(metrics), **metrics}

    @abstractmethod
    def metrics(self, shop: Workshop, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Do the work; int8 validation metrics by name."""


class CandidateScorer(WorkshopScorer):
    """Ranks a candidate: short distillation, int8, validation subjects."""

    def metrics(self, shop: Workshop, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """See `WorkshopScorer`; nothing is written."""
        return shop.validate(shop.quantise(shop.short(shop.gate.graph(parameters), seed)))
