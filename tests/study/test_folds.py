"""Fold-matched teachers: every subject tested once, by students of a teacher that never saw it; trained here or taken over, and checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_study import settings, small

from hwnas.errors import RunError, TrainingError, UsageError
from hwnas.pipeline.progress import Silent
from hwnas.study import folds
from hwnas.study.folds import StudyConfig, check_given, ensure_teachers, read_folds
from hwnas.tasks import grouped_folds
from hwnas.teachers.card import read_card


def test_every_subject_is_tested_once_and_by_nobody_who_saw_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = small(monkeypatch)
    config = settings(tmp_path, folds=3)
    found = read_folds(config, tmp_path)
    assert ensure_teachers(config, found, tmp_path, jobs=2, progress=Silent()), "tiny teachers are doubtful, and it is said"
    assert [task.parameters["fold"] for task in done] == [2, 3], "the first is trained alone, before the others"
    tested = [subject for fold in found for subject in fold.data.split.test.subjects]
    assert sorted(tested) == [f"synthetic-{n:03d}" for n in range(12)]
    for fold in found:
        card = read_card(fold.teacher)
        assert fold.teacher == tmp_path / f"teachers/fold-{fold.number}"
        assert not {*card.subjects_trained, *card.subjects_validated} & set(fold.data.split.test.subjects)
    before = [read_card(fold.teacher).id for fold in found]
    done.clear()
    ensure_teachers(config, found, tmp_path, jobs=2, progress=Silent())
    assert not done and before == [read_card(fold.teacher).id for fold in found], "what is there is not trained again"


def test_folds_are_those_of_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    config = settings(tmp_path, folds=4, split_seed=3)
    found = read_folds(config, tmp_path)
    for fold, split in zip(found, grouped_folds(found[0].whole, 4, 3, found[0].task), strict=True):
        for part, expected in zip(("train", "validation", "test"), (split.train, split.validation, split.test), strict=True):
            assert getattr(fold.data.split, part).hash == expected.hash
        assert fold.test.hash == split.test.hash and fold.subjects[2] == split.test.subjects
        assert fold.data.hash == fold.whole.hash == found[0].whole.hash


def test_teachers_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    config = settings(tmp_path)
    ensure_teachers(config, read_folds(config, tmp_path), tmp_path, jobs=1, progress=Silent())
    given = settings(tmp_path, teachers=str(tmp_path / "teachers"))
    other = read_folds(given, tmp_path / "other")
    ensure_teachers(given, other, tmp_path / "other", jobs=1, progress=Silent())
    assert [read_card(fold.teacher).id for fold in other] == [read_card(tmp_path / f"teachers/fold-{k}").id for k in (1, 2)]

    shutil.move(tmp_path / "teachers/fold-1", tmp_path / "teachers/fold-0")
    with pytest.raises(UsageError, match=r"fold-1 holds no teacher.*hwnas teacher train --folds 2"):
        check_given(given, read_folds(given, tmp_path / "third"))
    shutil.copytree(tmp_path / "teachers/fold-2", tmp_path / "teachers/fold-1")
    with pytest.raises(TrainingError, match=r"was trained on .* of the test"):
        ensure_teachers(given, read_folds(given, tmp_path / "third"), tmp_path / "third", jobs=1, progress=Silent())


def test_a_teacher_that_fails_in_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    config = settings(tmp_path, folds=3)
    found = read_folds(config, tmp_path)
    make = folds.ensure_teacher

    def fails(config: StudyConfig, data: object, folder: Path, *rest: object, **more: object) -> object:
        if folder.name == "fold-3":
            raise ValueError("no memory")
        return make(config, data, folder, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(folds, "ensure_teacher", fails)
    with pytest.raises(RunError, match=r"teacher of fold 3: no memory.*--resume"):
        ensure_teachers(config, found, tmp_path, jobs=2, progress=Silent())
    assert (found[1].teacher / "card.json").exists() and not (found[2].teacher / "card.json").exists()
