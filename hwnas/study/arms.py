"""One training of a comparison: (fold, arm, seed) -> outputs on the fold's test patients. Trains in worker processes; one file a training.

All arms of a fold and seed share everything but the loss: initial weights, windows and their views, number and order of steps,
learning rates, and the rule that the last epoch's averaged weights are kept. Arm `control` learns from labels alone; `teacher` is the
fold's teacher itself. A file is complete or absent, holds the key of everything that decides its content, and no clock time.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.errors import RunError
from hwnas.graph import Graph
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.recipes import full_recipe, qat_recipe, views
from hwnas.pipeline.teacher import lessons
from hwnas.quantize import reference
from hwnas.quantize.choice import ship
from hwnas.resources import write_bytes
from hwnas.search.workers import Task as Job
from hwnas.search.workers import WorkerPool
from hwnas.student import Student
from hwnas.study.folds import Fold, StudyConfig, read_folds
from hwnas.study.student import StudentConfig
from hwnas.tasks import Task, Windows
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import fit_temperature
from hwnas.teachers.card import TeacherCard, load_teacher, read_card
from hwnas.train import Recipe, Targets, fit, keep_memory

CONTROL, TEACHER = "control", "teacher"
HARD = "hard"
Floats = NDArray[np.float32]
Lessons = tuple[Floats, Targets]


@dataclass(frozen=True, slots=True)
class Training:
    """One training: fold from 1, arm (`control`, `teacher`, or a recipe) and seed."""

    fold: int
    arm: str
    seed: int

    @property
    def distillation(self) -> str:
        """The loss that the student learns by."""
        return HARD if self.arm == CONTROL else self.arm

    def file(self, root: Path) -> Path:
        """Where its result is kept."""
        name = "".join(c if c.isalnum() or c in "._" else "-" for c in self.arm)
        mark = hashlib.sha256(self.arm.encode()).hexdigest()[:6]
        return root / "trainings" / f"fold-{self.fold}" / f"{name}-{mark}-{self.seed}.npz"


@dataclass(frozen=True, eq=False)
class Result:
    """What became of a training.

    Attributes:
        outputs: raw outputs (N, K) for the fold's test windows.
        temperature: what logits are divided by to be calibrated on the validation patients; 1 of a regression.
        validation: metrics of calibrated outputs for the validation patients.
        int8: calibrated outputs (N, K) of the student as it ships, where asked for.
    """

    outputs: Floats
    temperature: float
    validation: dict[str, float]
    int8: Floats | None = None

    @property
    def calibrated(self) -> Floats:
        """Outputs at the temperature."""
        return np.asarray(self.outputs / np.float32(self.temperature), dtype=np.float32)


def plan(config: StudyConfig) -> list[Training]:
    """Every training of a study, fold by fold."""
    found = []
    for fold in range(1, config.parts + 1):
        found.append(Training(fold, TEACHER, 0))
        found += [Training(fold, arm, seed) for arm in (CONTROL, *config.recipes) for seed in range(config.seeds)]
    return found


def taught_by(config: StudentConfig, distillation: str) -> StudentConfig:
    """The same settings with another loss."""
    return config.model_copy(update={"distillation": distillation})


def student_recipe(config: StudentConfig, distillation: str, card: TeacherCard, samples: int) -> Recipe:
    """The recipe of a student's training with that loss; nothing but the loss depends on it."""
    recipe = full_recipe(taught_by(config, distillation), samples, card.distillation_temperature)
    return recipe if config.epochs is None else replace(recipe, epochs=config.epochs)


def integer_recipe(config: StudentConfig, distillation: str, card: TeacherCard, samples: int) -> Recipe:
    """The recipe that such a student's integers are trained by, where it comes to that."""
    return qat_recipe(taught_by(config, distillation), samples, card.distillation_temperature)


def train_student(config: StudentConfig, graph: Graph, taught: Lessons, recipe: Recipe, seed: int) -> Student:
    """A trained student; its initial weights depend on `seed` alone."""
    student = Student(graph, torch.Generator().manual_seed(seed))
    fit(student, *taught, recipe, seed=seed)
    return student


def temperature_of(outputs: Floats, windows: Windows, task: Task) -> float:
    """The temperature that calibrates logits (N, K) of `windows`; 1 of a regression."""
    return 1.0 if task.kind == "regression" else fit_temperature(outputs, task.classes(windows.y))


def run_trainings(
    config: StudyConfig, graph: Graph, folds: Sequence[Fold], out: Path, *, jobs: int, progress: Progress
) -> dict[Training, Result]:
    """All results, in the order of `plan`; those that are in `out` already are read, not trained.

    Raises:
        RunError: some trainings failed; the others are kept.
    """
    trainings = plan(config)
    cards = {fold.number: read_card(fold.teacher) for fold in folds}
    keys = {t: _key(config, graph, folds[t.fold - 1], cards[t.fold], t) for t in trainings}
    found = {t: result for t in trainings if (result := read_result(t.file(out), keys[t])) is not None}
    missing = [t for t in trainings if t not in found]
    if found and missing:
        progress.say(f"{len(found)} of {len(trainings)} trainings are there already")
    if missing:
        progress.stage(f"{len(missing)} trainings ({graph.parameters:,} parameters) in {min(jobs, len(missing))} processes", len(missing))
        work = [Job(i, {"fold": t.fold, "arm": t.arm, "key": keys[t]}, t.seed) for i, t in enumerate(missing)]
        failed = []
        with WorkerPool(StudentTrainer(config, graph, out), min(jobs, len(missing))) as pool:
            for done, score in enumerate(pool.score(work), start=1):
                training = missing[score.id]
                note = f"fold {training.fold}, {training.arm}, seed {training.seed}"
                if score.metrics is None:
                    failed.append(f"{note}: {score.reason}")
                else:
                    primary = folds[0].task.primary
                    progress.step(done, f"{note}: {primary} {score.metrics[primary]:.4f} on validation patients")
        if failed:
            raise RunError(f"{len(failed)} of {len(missing)} trainings failed: {failed[0]}; the others are kept; go on with --resume")
    for t in missing:
        result = read_result(t.file(out), keys[t])
        if result is None:
            raise RunError(f"{t.file(out)} was changed or removed while the study ran; run it again with --resume")
        found[t] = result
    return {t: found[t] for t in trainings}


class StudentTrainer:
    """Carries out trainings in a worker (`hwnas.search.workers.Scorer`) and writes their results."""

    def __init__(self, config: StudyConfig, graph: Graph, out: Path) -> None:
        self._config, self._graph, self._out = config, graph, out
        self._folds: tuple[Fold, ...] = ()
        self._taught: tuple[tuple[int, str], Lessons] | None = None

    def setup(self) -> None:
        """Read the windows."""
        torch.set_num_threads(1)
        keep_memory()
        self._folds = read_folds(self._config, self._out)

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Metrics on the validation patients; the result is written."""
        training = Training(parameters["fold"], parameters["arm"], seed)
        fold = self._folds[training.fold - 1]
        result = self._teacher(fold) if training.arm == TEACHER else self._student(fold, training)
        write_result(training.file(self._out), parameters["key"], result)
        return {"error": fold.task.error(result.validation), **result.validation}

    def _teacher(self, fold: Fold) -> Result:
        module, card = load_teacher(fold.teacher)
        split, task = fold.data.split, fold.task
        temperature = 1.0 if task.kind == "regression" else card.calibration.temperature
        on_validation, outputs = predict(module, split.validation.seen_by_teacher), predict(module, split.test.seen_by_teacher)
        return _assessed(on_validation, outputs, temperature, split.validation, task)

    def _student(self, fold: Fold, training: Training) -> Result:
        config, data, task = self._config, fold.data, fold.task
        split, length = data.split, data.window.length
        card = read_card(fold.teacher)
        taught = self._lessons(fold, training.distillation)
        recipe = student_recipe(config, training.distillation, card, length)
        student = train_student(config, self._graph, taught, recipe, training.seed)
        on_validation, outputs = predict(student, split.validation.x), predict(student, split.test.x)
        result = _assessed(on_validation, outputs, temperature_of(on_validation, split.validation, task), split.validation, task)
        if not config.int8:
            return result
        qat = integer_recipe(config, training.distillation, card, length)
        q = ship(student, taught, split.validation, task, qat, calibration_x=split.train.x, seed=training.seed).q
        integers = reference.run(q, reference.quantize_input(q, split.test.x))
        return replace(result, int8=reference.dequantize_output(q, integers))

    def _lessons(self, fold: Fold, distillation: str) -> Lessons:
        """What students of a fold learn from by that loss; the last ones are kept, their trainings follow each other."""
        wanted = fold.number, distillation
        if self._taught is None or self._taught[0] != wanted:
            self._taught = None  # first let go of the old ones: two would not fit in memory on large recordings
            module, card = load_teacher(fold.teacher)
            self._taught = wanted, lessons(taught_by(self._config, distillation), fold.teacher, card, module, fold.data)
        return self._taught[1]


def write_result(path: Path, key: str, result: Result) -> None:
    """Write a result in one piece."""
    about = {"key": key, "temperature": result.temperature, "validation": result.validation}
    arrays = {"outputs": result.outputs} | ({} if result.int8 is None else {"int8": result.int8})
    content = io.BytesIO()
    np.savez_compressed(content, about=np.array(json.dumps(about, sort_keys=True)), **arrays)
    write_bytes(path, content.getvalue())


def read_result(path: Path, key: str) -> Result | None:
    """The result in `path`; None where there is none, a damaged one, or one of another training."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            if about["key"] != key:
                return None
            int8 = np.asarray(file["int8"], dtype=np.float32) if "int8" in file else None
            return Result(np.asarray(file["outputs"], dtype=np.float32), about["temperature"], about["validation"], int8)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
        return None


def _assessed(on_validation: Floats, outputs: Floats, temperature: float, validation: Windows, task: Task) -> Result:
    return Result(outputs, temperature, task.metrics(on_validation / np.float32(temperature), validation))


def _key(config: StudyConfig, graph: Graph, fold: Fold, card: TeacherCard, training: Training) -> str:
    """What decides a result, as a hash."""
    content: list[Any] = [fold.hash, card.id, fold.subjects, config.task]
    if training.arm != TEACHER:
        length = fold.whole.x.shape[2]
        recipe = student_recipe(config, training.distillation, card, length).to_dict()
        qat = integer_recipe(config, training.distillation, card, length).to_dict() if config.int8 else None
        learning = config.model_dump(include={"effort", "cross_fit", "seed"})
        content += [graph.to_json(), recipe, qat, views(config), learning, training.seed]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
