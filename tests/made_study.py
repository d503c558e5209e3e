"""A study on a few generated windows with tiny teachers, and a pool that works in this process, so that trainings take milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny_teachers

from hwnas.pipeline.data import GENERATOR
from hwnas.search.workers import Score, Scorer, Task
from hwnas.study import arms, folds
from hwnas.study.folds import StudyConfig
from hwnas.tasks import TASKS, Windows
from hwnas.tasks import Task as TaskOfWindows

BLOCK = "block{0}_channels: 8, block{0}_kernel: 3, block{0}_stride: 4, block{0}_expansion: 1"
STUDENT = f"""\
space: mobilenet1d
choices: {{stem_channels: 4, stem_kernel: 7, stem_stride: 8, blocks: 2, {BLOCK.format(1)}, {BLOCK.format(2)}}}
"""
SMALL: dict[str, Any] = {"effort": "quick", "subjects": 12, "windows": 192, "window_s": 10.0, "folds": 2, "seeds": 2}


class InProcess:
    """`hwnas.search.workers.WorkerPool` without processes; `done` are the tasks it was given."""

    done: list[Task]

    def __init__(self, scorer: Scorer, jobs: int) -> None:
        self._scorer = scorer

    def __enter__(self) -> InProcess:
        self._scorer.setup()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def score(self, tasks: Iterable[Task]) -> Iterator[Score]:
        for task in tasks:
            self.done.append(task)
            try:
                yield Score(task.id, dict(self._scorer(task.parameters, task.seed)), "", 0.0)
            except ValueError as error:
                yield Score(task.id, None, str(error), 0.0)


def small(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Make teachers tiny and work in this process; returns the list that tasks are put into."""
    tiny_teachers.shrink(monkeypatch)
    done: list[Task] = []
    pool = type("Pool", (InProcess,), {"done": done})
    monkeypatch.setattr(arms, "WorkerPool", pool)
    monkeypatch.setattr(folds, "WorkerPool", pool)
    monkeypatch.setattr(folds, "load_windows", _windows)
    return done


def _windows(config: StudyConfig) -> tuple[TaskOfWindows, Windows, str]:
    return _made(config.task, config.window_s, config.seed, config.subjects, config.windows)


@cache
def _made(task: str, window_s: float, seed: int, subjects: int, windows: int) -> tuple[TaskOfWindows, Windows, str]:
    return TASKS[task], TASKS[task].load(None, window_s=window_s, seed=seed, subjects=subjects, windows=windows), GENERATOR


def student_file(folder: Path) -> Path:
    """A student of a few hundred parameters."""
    path = folder / "student.yaml"
    path.write_text(STUDENT)
    return path


def settings(folder: Path, **changes: Any) -> StudyConfig:
    """Settings of a small study."""
    return StudyConfig(**{**SMALL, "student": str(student_file(folder)), **changes})
