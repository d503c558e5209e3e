"""Trainings of a comparison: arms differ in nothing but the loss, results are the same bytes every time, and what is there is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import settings, small

from hwnas.errors import RunError
from hwnas.graph import Graph
from hwnas.pipeline.progress import Silent
from hwnas.search.workers import Task
from hwnas.study import arms
from hwnas.study.arms import CONTROL, TEACHER, Result, Training, plan, read_result, run_trainings, write_result
from hwnas.study.folds import Fold, StudyConfig, ensure_teachers, read_folds
from hwnas.study.student import architecture
from hwnas.teachers.card import read_card
from hwnas.train import fit


class Study:
    """A small study whose teachers are there."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.out, self.config = folder, settings(folder, **changes)
        self.folds: tuple[Fold, ...] = read_folds(self.config, folder)
        self.graph: Graph = architecture(self.config, self.folds[0].data)
        ensure_teachers(self.config, self.folds, folder, jobs=1, progress=Silent())

    def run(self) -> dict[Training, Result]:
        return run_trainings(self.config, self.graph, self.folds, self.out, jobs=1, progress=Silent())

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(self.out.rglob("*.npz"))}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    return small(monkeypatch)


def test_the_plan() -> None:
    found = plan(StudyConfig(parameters=1000, folds=3, seeds=2, recipes=("soft", "dkd")))
    assert len(set(found)) == len(found) == 3 * (1 + 3 * 2)
    assert {t.seed for t in found if t.arm == TEACHER} == {0}
    files = {t.file(Path()) for t in [*found, Training(1, "dkd:beta=8", 0), Training(1, "dkd-beta=8", 0)]}
    assert len(files) == len(found) + 2, "recipes that look alike in a file's name are told apart"


def test_arms_differ_in_the_loss_alone(tmp_path: Path, done: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    """Control and recipes of a seed: the same first weights, windows, labels, steps and learning rates."""
    seen: list[tuple[str, int, dict[str, Any], dict[str, Any]]] = []

    def watched(module: Any, x: Any, targets: Any, recipe: Any, *, seed: int) -> Any:
        weights = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
        plain = {name: value for name, value in recipe.to_dict().items() if name != "loss"}
        seen.append((recipe.loss.name, seed, weights, {"x": x.copy(), "y": targets.y.copy(), "recipe": plain}))
        return fit(module, x, targets, recipe, seed=seed)

    monkeypatch.setattr(arms, "fit", watched)
    study = Study(tmp_path, recipes=("soft:temperature=5", "dkd"), epochs=1)
    study.run()
    first = seen[:6]
    assert [(name, seed) for name, seed, *_ in first] == [(name, seed) for name in ("hard", "soft", "dkd") for seed in (0, 1)]
    for _, seed, weights, rest in first:
        _, _, expected, shared = first[seed]
        assert all((weights[name] == expected[name]).all() for name in expected)
        assert (rest["x"] == shared["x"]).all() and (rest["y"] == shared["y"]).all() and rest["recipe"] == shared["recipe"]
        assert rest["recipe"]["epochs"] == 1
    assert any((first[0][2][name] != first[1][2][name]).any() for name in first[0][2]), "seeds differ"


def test_what_is_there_is_kept_and_the_rest_comes_out_the_same(tmp_path: Path, done: list[Task]) -> None:
    study = Study(tmp_path)
    results = study.run()
    files = study.files()
    assert len(done) == len(files) == len(plan(study.config)) == 10
    paths = list(files)
    paths[0].unlink()
    paths[1].write_bytes(files[paths[1]][:-40])
    paths[2].write_bytes(files[paths[3]])
    done.clear()
    again = study.run()
    assert len(done) == 3, "one lost, one torn, one of another training"
    assert study.files() == files
    assert list(again) == list(results) == plan(study.config)
    assert all((again[t].outputs == results[t].outputs).all() for t in results)


def test_a_study_grows(tmp_path: Path, done: list[Task]) -> None:
    study = Study(tmp_path, seeds=1)
    study.run()
    done.clear()
    study.config = settings(tmp_path, seeds=2, recipes=("soft", "relation"))
    assert len(study.run()) == 2 * (1 + 3 * 2)
    assert len(done) == 2 * (2 + 2)
    done.clear()
    study.config = settings(tmp_path, seeds=2, recipes=("soft", "relation"), epochs=3)
    study.run()
    assert {task.parameters["arm"] for task in done} == {CONTROL, "soft", "relation"}, "other steps are other trainings, of students only"


def test_results_are_the_teachers_and_the_students(tmp_path: Path, done: list[Task]) -> None:
    study = Study(tmp_path, int8=True, seeds=1)
    results = study.run()
    for fold in study.folds:
        test, task = fold.data.split.test, fold.data.task
        taught = results[Training(fold.number, TEACHER, 0)]
        card = read_card(fold.teacher)
        assert taught.temperature == card.calibration.temperature and taught.int8 is None
        assert taught.outputs.shape == (len(test), len(task.labels))
        found = results[Training(fold.number, "soft", 0)]
        assert found.int8 is not None and found.int8.shape == found.outputs.shape == taught.outputs.shape
        # integers of a calibrated head: the same answers in steps of a quantised output
        assert np.abs(found.int8 - found.calibrated).max() < 0.2 * np.abs(found.calibrated).max() + 0.1
        assert (found.calibrated == found.outputs / np.float32(found.temperature)).all()


def test_a_failed_training_leaves_the_others(tmp_path: Path, done: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    study, train = Study(tmp_path, seeds=1), arms.train_student

    def fails(config: Any, graph: Any, taught: Any, recipe: Any, seed: int) -> Any:
        if recipe.loss.name == "soft":
            raise ValueError("it diverged")
        return train(config, graph, taught, recipe, seed)

    monkeypatch.setattr(arms, "train_student", fails)
    with pytest.raises(RunError, match=r"2 of 6 trainings failed: fold 1, soft, seed 0: it diverged; .*--resume"):
        study.run()
    assert len(study.files()) == 4
    monkeypatch.setattr(arms, "train_student", train)
    done.clear()
    study.run()
    assert len(done) == 2


def test_files_of_results(tmp_path: Path) -> None:
    result = Result(np.arange(6, dtype=np.float32).reshape(3, 2), 1.5, {"accuracy": 0.5}, np.ones((3, 2), np.float32))
    path = tmp_path / "deep" / "r.npz"
    write_result(path, "key", result)
    content = path.read_bytes()
    found = read_result(path, "key")
    assert found is not None and found.int8 is not None and (found.outputs == result.outputs).all()
    assert (found.temperature, found.validation) == (1.5, {"accuracy": 0.5})
    write_result(path, "key", result)
    assert path.read_bytes() == content, "no clock time in it"
    assert read_result(path, "another key") is None and read_result(tmp_path / "none.npz", "key") is None
    for broken in (b"", b"PK\x03\x04", content[:200], bytes([*content[:300], content[300] ^ 1, *content[301:]])):
        path.write_bytes(broken)
        assert read_result(path, "key") is None
