"""`hwnas sweep`: teacher capacity x student capacity x recipe, on one split of patients. Trains in worker processes; one file a training.

The folder of a sweep:

study.yaml             its settings
teachers/NAME/         every teacher, trained once
trainings/*.npz        outputs for the test patients of every training
sweep.json             all figures, laws and the recommendation; sweep.md and sweep.png are made of it

Trainings of one size differ in the loss alone. `hard` is the control: it learns from labels, so that one training serves every teacher.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt, MinLen
from pydantic import Field

from hwnas.distill import read
from hwnas.errors import RunError, UsageError
from hwnas.hardware import profile as profiles
from hwnas.pipeline.config import Count, LearningConfig, Names
from hwnas.pipeline.data import RunData, load_data, task_of
from hwnas.pipeline.progress import Progress, Silent
from hwnas.pipeline.recipes import views
from hwnas.pipeline.teacher import check_learning, check_teacher, ensure_teacher, lessons
from hwnas.resources import write_bytes, write_text
from hwnas.search.workers import Task, WorkerPool
from hwnas.study import folder
from hwnas.study.advice import figures
from hwnas.study.arms import HARD, Lessons, Result, read_result, student_recipe, temperature_of, train_student, write_result
from hwnas.study.law import FEWEST_STUDENTS, FEWEST_TEACHERS
from hwnas.study.sizes import Ladder, Rung, ladder
from hwnas.study.student import StudentConfig
from hwnas.study.sweep_render import FIGURE, markdown, png
from hwnas.teachers import members
from hwnas.teachers.cache import predict
from hwnas.teachers.card import TeacherCard, load_teacher, read_card
from hwnas.train import Recipe, keep_memory

# A sweep may grow, and its parts are known by their content; the target and the target's hardware are asked of finished trainings.
MAY_CHANGE = ("teachers", "recipes", "seeds", "data", "target", "profile")
NO_TEACHER = ""
FEW_SEEDS = 3
Content = dict[str, Any]


class SweepConfig(LearningConfig):
    """Everything that decides the figures of a sweep; `teacher` and `distillation` are not read.

    Attributes:
        teachers: swept, and told apart by their parameters.
        space, smallest, largest, sizes: the students, from so many parameters to so many.
        recipes: distillations, as `hwnas.distill.read` understands them; `hard` is always among them.
        seeds: trainings of every student, with seeds 0, 1...
        epochs: of every training of a student; None is the recipe's own.
        target: test error that the recommendation asks for; None: that of the best control.
        profile: hardware that the recommended student's cost is predicted for.
    """

    teachers: Names = ("resnet18_1d_8", "resnet18_1d_16", "resnet18_1d")
    space: str = "mobilenet1d"
    smallest: Count = 500
    largest: Count = 50_000
    sizes: Annotated[int, Gt(1)] = 6
    recipes: Annotated[tuple[str, ...], MinLen(1), Field(strict=False)] = (HARD, "soft", "dkd")
    seeds: Count = 3
    epochs: Annotated[int, Gt(0)] | None = None
    target: Annotated[float, Gt(0)] | None = None
    profile: str = "cortex-m4-192k"

    @property
    def distillations(self) -> tuple[str, ...]:
        """The recipes that learn from a teacher."""
        return tuple(recipe for recipe in self.recipes if recipe != HARD)

    def of_teacher(self, name: str) -> LearningConfig:
        """The settings by which one teacher is trained, with the outputs that its students will ask for."""
        taught = max(self.distillations, key=lambda recipe: len(read(recipe).teacher_taps), default=HARD)
        return self._learning({"teacher": name, "distillation": taught})

    def of_student(self, training: Training) -> StudentConfig:
        """The settings of one training."""
        teacher = training.teacher or self.teachers[0]
        plain = self._learning({"teacher": teacher, "distillation": training.recipe})
        return StudentConfig(**plain.model_dump(), space=self.space, parameters=training.rung.graph.parameters, epochs=self.epochs)

    def _learning(self, changed: Mapping[str, str]) -> LearningConfig:
        return LearningConfig(**(self.model_dump(include=set(LearningConfig.model_fields)) | dict(changed)))


@dataclass(frozen=True)
class Training:
    """One training of one student; `teacher` is empty where it learns from labels alone."""

    rung: Rung
    teacher: str
    recipe: str
    seed: int

    def file(self, out: Path) -> Path:
        """Where its result is kept."""
        named = f"{self.rung.graph.parameters}-{self.teacher}-{self.recipe}-{self.seed}"
        return out / "trainings" / f"{_file_name(named)}.npz"


def teacher_folder(out: Path, name: str) -> Path:
    """Where a teacher is kept."""
    return out / "teachers" / _file_name(name)


def plan(config: SweepConfig, rungs: Sequence[Rung]) -> list[Training]:
    """Every training: the control's, then teacher by teacher and recipe by recipe, because those share what they learn from."""
    arms = [(NO_TEACHER, HARD), *((teacher, recipe) for teacher in config.teachers for recipe in config.distillations)]
    return [Training(rung, *arm, seed) for arm in arms for rung in rungs for seed in range(config.seeds)]


def check(config: SweepConfig) -> None:
    """Refuse settings that cannot be, before anything is read; raises UsageError or ConfigError."""
    kind = task_of(config.task).kind
    profiles.read(config.profile)
    for name in config.teachers:
        members(name)
    for recipe in config.distillations:
        read(recipe).allow(kind)
        if not read(recipe).needs_teacher and not read(recipe).teacher_taps:
            raise UsageError(f"recipe '{recipe}' learns nothing from a teacher; that is the control, '{HARD}', which is always there")
    for what, given in (("teacher", config.teachers), ("recipe", config.recipes)):
        if len(set(given)) < len(given):
            raise UsageError(f"{what}s {', '.join(given)}: one is given twice; give each once")


def sweep(config: SweepConfig, out: Path, *, jobs: int, resume: bool, progress: Progress) -> Content:
    """Run a sweep, or what is missing of it, and write its figures; returns the content of `sweep.json`.

    Raises:
        UsageError, ConfigError: settings that do not fit together, or a folder that is taken.
        DataError: recordings that cannot be used or parted.
        RunError: a training failed.
    """
    check(config)
    folder.check_free(out, resume=resume)
    progress.stage("reading recordings" if config.data else "generating signals")
    data = load_data(config)
    for name in config.teachers:
        for recipe in config.distillations:
            check_learning(config.of_teacher(name).model_copy(update={"distillation": recipe}), data)
    students = ladder(config.space, data.window, len(data.task.outputs), config.smallest, config.largest, config.sizes)
    for gap in students.gaps:
        progress.say(gap)
    settings = config.model_dump(mode="json", exclude={"teacher", "distillation"})
    folder.claim(out, "sweep", settings, resume=resume, may_change=MAY_CHANGE)
    warnings = [*_doubts(config, students), *_teachers(config, data, out, jobs, progress)]
    results = _students(config, data, students.rungs, out, jobs, progress)
    progress.stage("laws")
    teachers = {name: _assessed_teacher(config, data, out, name) for name in config.teachers}
    content = figures(config.model_dump(), data, students, teachers, _by_arm(results), warnings)
    write_text(out / "sweep.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_bytes(out / FIGURE, png(content))
    write_text(out / "sweep.md", markdown(content))
    return content


def _teachers(config: SweepConfig, data: RunData, out: Path, jobs: int, progress: Progress) -> list[str]:
    """Train the teachers that are not there yet, in `jobs` processes; warnings about any of them."""
    if jobs == 1:
        for name in config.teachers:
            ensure_teacher(config.of_teacher(name), data, teacher_folder(out, name), progress, device="cpu")
    else:
        progress.stage(f"training {len(config.teachers)} teachers, {min(jobs, len(config.teachers))} at once", len(config.teachers))
        work = [Task(i, {"teacher": name}, config.seed) for i, name in enumerate(config.teachers)]
        with WorkerPool(TeacherTrainer(config, out), min(jobs, len(work))) as pool:
            for done, score in enumerate(pool.score(work), start=1):
                name = config.teachers[score.id]
                if score.metrics is None:
                    raise RunError(f"teacher {name}: {score.reason}; finished teachers are kept, continue with --resume")
                progress.step(done, f"{name}: error {score.metrics['error']:.4f} on validation patients")
    found = []
    for name in config.teachers:
        card = read_card(teacher_folder(out, name))
        doubts = check_teacher(card, data.task, data.split.validation, test_subjects=data.split.test.subjects)
        found += [f"{name}: {doubt}" for doubt in doubts]
    return found


def _students(
    config: SweepConfig, data: RunData, rungs: Sequence[Rung], out: Path, jobs: int, progress: Progress
) -> dict[Training, Result]:
    """All results; those that are in `out` already are read, not trained.

    Raises:
        RunError: some trainings failed; the others are kept.
    """
    trainings = plan(config, rungs)
    cards = {name: read_card(teacher_folder(out, name)) for name in config.teachers}
    keys = [_key(config, data, training, cards) for training in trainings]
    results = [read_result(t.file(out), key) for t, key in zip(trainings, keys, strict=True)]
    missing = [i for i, result in enumerate(results) if result is None]
    if len(missing) < len(trainings):
        progress.say(f"{len(trainings) - len(missing)} of {len(trainings)} trainings are there already")
    if missing:
        jobs = min(jobs, len(missing))
        progress.stage(f"training students of {len(rungs)} sizes in {jobs} process{'es' if jobs > 1 else ''}", len(missing))
        failed = []
        with WorkerPool(StudentTrainer(config, out, trainings), jobs) as pool:
            for done, score in enumerate(pool.score(Task(i, {"number": i, "key": keys[i]}, trainings[i].seed) for i in missing), start=1):
                training = trainings[score.id]
                name = f"{training.rung.graph.parameters:,} parameters, {_arm(training)}, seed {training.seed}"
                if score.metrics is None:
                    failed.append(f"{name}: {score.reason}")
                else:
                    progress.step(done, f"{name}: error {score.metrics['error']:.4f} on validation patients")
        if failed:
            raise RunError(f"{len(failed)} of {len(missing)} trainings failed: {failed[0]}; the others are kept; go on with --resume")
    found = {}
    for training, key in zip(trainings, keys, strict=True):
        result = read_result(training.file(out), key)
        if result is None:
            raise RunError(f"{training.file(out)} was changed or removed while the sweep ran; run it again with --resume")
        found[training] = result
    return found


class _Worker:
    """What both kinds of workers do first: read the windows."""

    def __init__(self, config: SweepConfig, out: Path) -> None:
        self._config, self._out = config, out

    def setup(self) -> None:
        """Read the windows."""
        torch.set_num_threads(1)
        keep_memory()
        _ = self._data

    @cached_property
    def _data(self) -> RunData:
        return load_data(self._config)


class TeacherTrainer(_Worker):
    """Trains a teacher in a worker (`hwnas.search.workers.Scorer`)."""

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Metrics on the validation patients; the teacher's folder is complete afterwards."""
        name = parameters["teacher"]
        card = ensure_teacher(self._config.of_teacher(name), self._data, teacher_folder(self._out, name), Silent(), device="cpu")
        found = card.metrics["validation"]
        return {"error": self._data.task.error(found), **found}


class StudentTrainer(_Worker):
    """Trains students in a worker (`hwnas.search.workers.Scorer`) and writes their results."""

    def __init__(self, config: SweepConfig, out: Path, trainings: Sequence[Training]) -> None:
        super().__init__(config, out)
        self._trainings = tuple(trainings)
        self._taught: tuple[tuple[str, str], Lessons] | None = None

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Metrics on the validation patients; the result is written."""
        training, data = self._trainings[parameters["number"]], self._data
        card = read_card(self._folder(training))
        recipe = recipe_of(self._config, training, card, data.window.length)
        student = train_student(self._config.of_student(training), training.rung.graph, self._lessons(training), recipe, seed)
        validation, test = data.split.validation, data.split.test
        on_validation = predict(student, validation.x)
        temperature = temperature_of(on_validation, validation, data.task)
        metrics = data.task.metrics(on_validation / temperature, validation)
        write_result(training.file(self._out), parameters["key"], Result(predict(student, test.x), temperature, metrics))
        return {"error": data.task.error(metrics), **metrics}

    def _folder(self, training: Training) -> Path:
        return teacher_folder(self._out, training.teacher or self._config.teachers[0])

    def _lessons(self, training: Training) -> Lessons:
        """What students of an arm learn from; the last ones are kept, their trainings follow each other."""
        wanted = training.teacher, training.recipe
        if self._taught is None or self._taught[0] != wanted:
            self._taught = None  # first let go of the old ones: two would not fit in memory on large recordings
            folder = self._folder(training)
            module, card = load_teacher(folder)
            self._taught = wanted, lessons(self._config.of_student(training), folder, card, module, self._data)
        return self._taught[1]


def recipe_of(config: SweepConfig, training: Training, card: TeacherCard, samples: int) -> Recipe:
    """The recipe of a training; that of the control depends on no teacher, not even on its temperature."""
    recipe = student_recipe(config.of_student(training), training.recipe, card, samples)
    return recipe if training.teacher else replace(recipe, loss=read(training.recipe))


def _assessed_teacher(config: SweepConfig, data: RunData, out: Path, name: str) -> tuple[TeacherCard, Result]:
    """A teacher's card, and its outputs for the test patients."""
    module, card = load_teacher(teacher_folder(out, name))
    temperature = 1.0 if data.task.kind == "regression" else card.calibration.temperature
    return card, Result(predict(module, data.split.test.seen_by_teacher), temperature, card.metrics["validation"])


def _by_arm(results: Mapping[Training, Result]) -> dict[tuple[str, str], list[tuple[Rung, list[Result]]]]:
    """(teacher, recipe) -> every size with its seeds, in the order of `plan`."""
    found: dict[tuple[str, str], list[tuple[Rung, list[Result]]]] = {}
    for training, result in results.items():
        sizes = found.setdefault((training.teacher, training.recipe), [])
        if not sizes or sizes[-1][0] != training.rung:
            sizes.append((training.rung, []))
        sizes[-1][1].append(result)
    return found


def _key(config: SweepConfig, data: RunData, training: Training, cards: Mapping[str, TeacherCard]) -> str:
    """What decides a result, as a hash."""
    split = data.split
    card = cards[training.teacher or config.teachers[0]]
    content = [
        [data.hash, data.task.name, split.train.subjects, split.validation.subjects, split.test.subjects],
        training.rung.graph.to_json(),
        recipe_of(config, training, card, data.window.length).to_dict(),
        card.id if training.teacher else "",
        [views(config), config.effort, config.seed, config.cross_fit if training.teacher else 0],
        training.seed,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _doubts(config: SweepConfig, students: Ladder) -> list[str]:
    found = list(students.gaps)
    if config.effort == "quick":
        found.append("effort quick: a look at how it works; its figures are no results")
    if config.seeds < FEW_SEEDS:
        found.append(f"{config.seeds} seed(s): intervals and gains are worth something from {FEW_SEEDS} on")
    if len(students.rungs) < FEWEST_STUDENTS:
        found.append(f"{len(students.rungs)} sizes of students: laws need {FEWEST_STUDENTS}")
    if len(config.teachers) < FEWEST_TEACHERS:
        found.append(f"{len(config.teachers)} teacher(s): a law over teachers needs {FEWEST_TEACHERS}")
    return found


def _arm(training: Training) -> str:
    return f"{training.recipe} from {training.teacher}" if training.teacher else training.recipe


def _file_name(text: str) -> str:
    """A name that any file system takes, another one for every text."""
    plain = "".join(c if c.isalnum() or c in "._" else "-" for c in text)
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
