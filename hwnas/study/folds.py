"""Folds of patients, each with a teacher that never saw its test patients. Reads recordings; writes teachers where there are none.

Fold k of `folds` is the same for teachers and students: `teachers/fold-K` belongs to the K-th split of `grouped_folds`, K from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, MinLen
from numpy.typing import NDArray
from pydantic import Field

from hwnas.errors import RunError, UsageError
from hwnas.pipeline.config import Count
from hwnas.pipeline.data import RunData, load_windows
from hwnas.pipeline.progress import Progress, Silent
from hwnas.pipeline.teacher import check_teacher, ensure_teacher
from hwnas.search.workers import Task as Job
from hwnas.search.workers import WorkerPool
from hwnas.study.student import StudentConfig
from hwnas.tasks import Split, Task, Windows, grouped_folds
from hwnas.tasks.splits import held_out
from hwnas.teachers import FROM
from hwnas.teachers.card import CARD, read_card
from hwnas.train import keep_memory

Places = NDArray[np.int64]


class StudyConfig(StudentConfig):
    """Everything that decides the result of a comparison.

    Attributes:
        recipes: distillations that are compared with no distillation, as `hwnas.distill.read` understands them.
        folds: parts of the patients, each tested once; as many as patients: leave-one-subject-out.
        held_out: patients to test on in one fold instead, by names or patterns such as `test-*`.
        seeds: trainings of every student, with seeds 0, 1...
        int8: also compare the students as they ship.
        teachers: absolute path of a folder with a teacher for every fold; None: the study trains them.
    """

    recipes: Annotated[tuple[str, ...], MinLen(1), Field(strict=False)] = ("soft",)
    folds: Annotated[int, Gt(1)] = 4
    held_out: Annotated[tuple[str, ...], Field(strict=False)] = ()
    seeds: Count = 5
    int8: bool = False
    teachers: str | None = None

    @property
    def parts(self) -> int:
        """Number of folds."""
        return 1 if self.held_out else self.folds


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold. Its windows are made of the whole when they are asked for: as many folds as subjects would not fit in memory at once.

    Attributes:
        number: from 1.
        teacher: folder of its teacher.
        hash, name: of all windows, `whole`.
        places: of the windows that train, validate and test.
    """

    number: int
    teacher: Path
    task: Task
    whole: Windows
    hash: str
    name: str
    places: tuple[Places, Places, Places]

    @property
    def data(self) -> RunData:
        """A copy of its windows in three parts."""
        return RunData(self.task, Split(*(self.whole.take(part) for part in self.places)), self.hash, self.name)

    @property
    def test(self) -> Windows:
        """A copy of the windows that it tests."""
        return self.whole.take(self.places[2])

    @property
    def subjects(self) -> tuple[tuple[str, ...], ...]:
        """The subjects that train, validate and test, each sorted."""
        return tuple(tuple(np.unique(self.whole.subject[part]).tolist()) for part in self.places)


def read_folds(config: StudyConfig, out: Path) -> tuple[Fold, ...]:
    """The folds of the study in `out`, whose teachers are or will be there; raises DataError where the windows cannot be parted so."""
    task, windows, name = load_windows(config)
    content = windows.hash
    # parted by subjects and labels only, so that numbers can stand for the windows
    numbers = replace(windows, x=np.arange(len(windows), dtype=np.float32)[:, None, None], teacher_x=None)
    found = []
    if config.held_out:
        splits: tuple[Split, ...] = (held_out(numbers, config.held_out, config.split_seed, task),)
    else:
        splits = grouped_folds(numbers, config.folds, config.split_seed, task)
    for k, split in enumerate(splits, start=1):
        train, validation, test = (part.x[:, 0, 0].astype(np.int64) for part in (split.train, split.validation, split.test))
        found.append(Fold(k, out / f"teachers/fold-{k}", task, windows, content, name, (train, validation, test)))
    return tuple(found)


def check_given(config: StudyConfig, folds: Sequence[Fold]) -> None:
    """Refuse a study that is given teachers, but not one for every fold; raises UsageError."""
    for fold in folds if config.teachers else ():
        if not (given(config, fold) / CARD).exists():
            raise UsageError(
                f"{given(config, fold)} holds no teacher; `hwnas teacher train --folds {len(folds)}` on the same data makes one for every "
                "fold, or leave --teachers away"
            )


def ensure_teachers(config: StudyConfig, folds: Sequence[Fold], out: Path, *, jobs: int, progress: Progress) -> tuple[str, ...]:
    """Train, or take over, the teachers of the folds that have none yet; returns warnings about all of them.

    The first is trained alone: what teachers have in common, their training on generated windows, is there for the others then.

    Raises:
        TrainingError: a teacher saw patients that its fold tests, or does not read its windows.
        RunError: a training failed.
    """
    missing = [fold for fold in folds if not (fold.teacher / CARD).exists()]
    for fold in missing[: 1 if jobs > 1 else None]:
        progress.say(f"teacher of fold {fold.number} of {len(folds)}")
        ensure_teacher(of_fold(config, fold), fold.data, fold.teacher, progress, pretrained=fold.teacher.parent)
    if jobs > 1 and len(missing) > 1:
        _in_workers(config, missing[1:], out, jobs, progress)
    return tuple(f"fold {fold.number}: {warning}" for fold in folds for warning in doubts(fold.data, fold.teacher))


def doubts(data: RunData, teacher: Path) -> tuple[str, ...]:
    """Warnings about the teacher in a folder; raises TrainingError for one that must not teach students tested on `data`."""
    return check_teacher(read_card(teacher), data.task, data.split.train, data_name=data.name, test_subjects=data.split.test.subjects)


def given(config: StudyConfig, fold: Fold) -> Path:
    """Folder of the teacher that a fold is given."""
    return Path(config.teachers or "") / fold.teacher.name


def of_fold(config: StudyConfig, fold: Fold) -> StudyConfig:
    """The settings with the teacher of a fold."""
    return config.model_copy(update={"teacher": f"{FROM}{given(config, fold)}"}) if config.teachers else config


def _in_workers(config: StudyConfig, missing: Sequence[Fold], out: Path, jobs: int, progress: Progress) -> None:
    count = min(jobs, len(missing))
    progress.stage(f"{len(missing)} more teachers, one a fold, {count} at once", len(missing))
    with WorkerPool(TeacherTrainer(config, out), count) as pool:
        for done, score in enumerate(pool.score(Job(fold.number, {"fold": fold.number}, config.seed) for fold in missing), start=1):
            if score.metrics is None:
                raise RunError(f"the teacher of fold {score.id}: {score.reason}; finished teachers are kept, continue with --resume")
            progress.step(done, f"fold {score.id}: error {score.metrics['error']:.4f} on validation patients")


class TeacherTrainer:
    """Trains the teacher of a fold in a worker (`hwnas.search.workers.Scorer`)."""

    def __init__(self, config: StudyConfig, out: Path) -> None:
        self._config, self._out = config, out
        self._folds: tuple[Fold, ...] = ()

    def setup(self) -> None:
        """Read the windows."""
        torch.set_num_threads(1)
        keep_memory()
        self._folds = read_folds(self._config, self._out)

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Metrics on the validation patients; the teacher's folder is complete afterwards."""
        fold = self._folds[parameters["fold"] - 1]
        card = ensure_teacher(of_fold(self._config, fold), fold.data, fold.teacher, Silent(), pretrained=fold.teacher.parent)
        return {"error": fold.task.error(card.metrics["validation"]), **card.metrics["validation"]}
