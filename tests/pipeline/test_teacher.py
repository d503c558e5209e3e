"""The teacher stage: one network or an ensemble, on generated signals and on recordings, interrupted anywhere and taken up again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_task
import numpy as np
import pytest
from scipy.special import softmax
from tiny_teachers import shrink

from hwnas.errors import RunError, TrainingError
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.rundir import RunDirectory
from hwnas.pipeline.teacher import describe, ensure_teacher, lessons
from hwnas.pipeline.teacher import test_metrics as metrics_on_test
from hwnas.tasks.base import Source, Windows
from hwnas.tasks.splits import Split
from hwnas.teachers import member_seeds
from hwnas.teachers.cache import predict
from hwnas.teachers.card import load_teacher
from hwnas.teachers.ensemble import Ensemble

PAIR = "ensemble:resnet18_1d+resnet18_1d"
MIXED = "ensemble:ppg_transformer+resnet18_1d"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@dataclass(frozen=True)
class Generated(made_task.Speed):
    """The made task with a generator, so that its windows can pass for recordings."""

    def load(self, path: object, **_: Any) -> Windows:
        return made_task.windows(80, seed=77)


def data(source: Source = "synthetic") -> RunData:
    parts = (replace(made_task.windows(count, seed), source=source) for count, seed in ((96, 1), (60, 2), (40, 3)))
    return RunData(Generated(), Split(*parts), "d0", "made")


def config(teacher: str, seed: int = 0) -> RunConfig:
    return RunConfig(profile="cortex-m4-192k", teacher=teacher, seed=seed, effort="quick")


class Told(Silent):
    """Remembers what it was told, and stops the work after `limit` epochs."""

    def __init__(self, limit: int | None = None) -> None:
        self.titles: list[str] = []
        self.epochs, self.limit = 0, limit

    def stage(self, title: str, total: int | None = None) -> None:
        self.titles.append(title)

    def step(self, done: int, note: str = "") -> None:
        self.epochs += 1
        if self.epochs == self.limit:
            raise KeyboardInterrupt


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_ensemble_answers_the_mean_of_its_calibrated_members(tmp_path: Path) -> None:
    run, found, told = RunDirectory(tmp_path), data(), Told()
    card = ensure_teacher(config(MIXED, seed=3), found, run.teacher, told)
    module, again = load_teacher(run.teacher)
    assert again == card and isinstance(module, Ensemble)
    assert [(m.name, m.seed) for m in card.members] == [("ppg_transformer", 3), ("resnet18_1d", 3)]
    assert sum(m.parameters for m in card.members) == card.parameters
    assert len(told.titles) == 2 and told.titles[0].startswith("member 1 of 2: training the teacher ppg_transformer (")
    x = found.split.validation.x
    raw = [predict(member, x) for member in module.members]
    for member, logits in zip(card.members, raw, strict=True):
        assert member.metrics["validation"] == found.task.metrics(logits, found.split.validation)
        assert member.calibration.nll_after <= member.calibration.nll_before
    mean = np.mean([softmax(r / m.calibration.temperature, axis=1) for r, m in zip(raw, card.members, strict=True)], axis=0)
    whole = predict(module, x)
    assert np.allclose(softmax(whole, axis=1), mean, atol=1e-6) and np.allclose(np.exp(whole).sum(axis=1), 1, atol=1e-5)
    assert card.metrics["validation"] == found.task.metrics(whole, found.split.validation)
    lesson_x, targets = lessons(config(MIXED, seed=3), run.teacher, card, module, found)
    assert targets.teacher is not None and np.array_equal(predict(module, lesson_x), targets.teacher)


def test_members_are_those_that_a_run_of_each_alone_would_have(tmp_path: Path) -> None:
    found = data()
    ensure_teacher(config(PAIR), found, RunDirectory(tmp_path / "pair").teacher, Silent())
    pair, _ = load_teacher(tmp_path / "pair" / "teacher")
    assert isinstance(pair, Ensemble)
    answers = [predict(member, found.split.test.x) for member in pair.members]
    for number, seed in enumerate(member_seeds(PAIR, 0)):
        run = RunDirectory(tmp_path / str(seed))
        card = ensure_teacher(config("resnet18_1d", seed), found, run.teacher, Silent())
        assert np.array_equal(predict(load_teacher(run.teacher)[0], found.split.test.x), answers[number]) and card.members == ()
    assert not np.allclose(*answers, atol=1e-2)


@pytest.mark.parametrize("limit", [1, 4, 5, 7])
def test_interrupted_in_any_training_or_between_two_it_ends_the_same(limit: int, tmp_path: Path, whole: dict[str, bytes]) -> None:
    run, found = RunDirectory(tmp_path), data("real")
    with pytest.raises(KeyboardInterrupt):
        ensure_teacher(config(PAIR), found, run.teacher, Told(limit))
    rest = Told()
    ensure_teacher(config(PAIR), found, run.teacher, rest)
    assert rest.epochs == 8 - limit, "two members, two trainings of two epochs: none is done again"
    assert files(run.teacher) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the ensemble on recordings, never interrupted."""
    run, told = RunDirectory(tmp_path_factory.mktemp("whole")), Told()
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        ensure_teacher(config(PAIR), data("real"), run.teacher, told)
    assert told.epochs == 8 and sum("pre-training" in title for title in told.titles) == 2
    return files(run.teacher)


def test_what_is_left_is_the_weights_the_card_and_the_outputs(whole: dict[str, bytes]) -> None:
    assert sorted(name.split("-")[0] for name in whole) == ["card.json", "outputs", "outputs", "weights.safetensors"]
    assert list(json.loads(whole["card.json"])["recipe"]) == ["pretrain", "teacher"]


def test_a_finished_teacher_is_taken_as_it_is_and_checkpoints_left_by_a_kill_go(tmp_path: Path) -> None:
    run, found = RunDirectory(tmp_path), data()
    card = ensure_teacher(config(PAIR), found, run.teacher, Silent())
    before, told = files(run.teacher), Told()
    (run.teacher / "checkpoint-2-training.safetensors").write_bytes(b"left")
    assert ensure_teacher(config(PAIR), found, run.teacher, told) == card
    assert not told.titles and files(run.teacher) == before
    for wrong, other in ((config("resnet18_1d"), found), (config(PAIR), replace(found, hash="d1"))):
        with pytest.raises(RunError, match=r"holds teacher 'ensemble:.* of data d0, this run needs"):
            ensure_teacher(wrong, other, run.teacher, Silent())


def test_a_member_that_was_changed_is_refused(tmp_path: Path) -> None:
    run, found = RunDirectory(tmp_path), data()
    ensure_teacher(config(PAIR), found, run.teacher, Silent())
    weights = bytearray((run.teacher / "weights.safetensors").read_bytes())
    weights[-2] ^= 1
    (run.teacher / "weights.safetensors").write_bytes(weights)
    with pytest.raises(TrainingError, match="the teacher was changed"):
        ensure_teacher(config(PAIR), found, run.teacher, Silent())


def test_front_json_tells_of_members_and_the_test_subjects(tmp_path: Path) -> None:
    run, found = RunDirectory(tmp_path), data()
    card = ensure_teacher(config(MIXED), found, run.teacher, Silent())
    module, _ = load_teacher(run.teacher)
    reached = metrics_on_test(run.teacher, found)
    assert reached == found.task.metrics(predict(module, found.split.test.x), found.split.test)
    told = describe(card, reached)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [m["name"] for m in told["members"]] == ["ppg_transformer", "resnet18_1d"]
    assert [m["calibration"]["temperature"] for m in told["members"]] == [m.calibration.temperature for m in card.members]
    plain = replace(card, members=())
    assert describe(plain, reached)["members"] == []


def test_a_teacher_trains_as_many_epochs_as_it_is_told(tmp_path: Path) -> None:
    """Its card says so, and a folder with a teacher of another number is refused."""
    run, wanted = RunDirectory(tmp_path), config("resnet18_1d").model_copy(update={"teacher_epochs": 3})
    card = ensure_teacher(wanted, data(), run.teacher, Silent())
    assert card.recipe["teacher"]["epochs"] == 3
    with pytest.raises(RunError, match="another seed, recipe"):
        ensure_teacher(config("resnet18_1d"), data(), run.teacher, Silent())
