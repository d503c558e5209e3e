"""What students learn from a teacher: cross-fitted, from another signal, with taps, of a teacher made before; and shared pre-training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_task
import numpy as np
import pytest
import torch
from tiny_teachers import shrink

from hwnas.errors import ConfigError, DataError, RunError, TrainingError, UsageError
from hwnas.pipeline import teacher as stage
from hwnas.pipeline.config import LearningConfig
from hwnas.pipeline.data import RunData, extra_windows
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.teacher import choose_device, ensure_teacher, lessons
from hwnas.tasks.base import Source, Windows
from hwnas.tasks.splits import Split
from hwnas.teachers.augment import view
from hwnas.teachers.cache import answer, predict, student_windows
from hwnas.teachers.calibration import check_entropy
from hwnas.teachers.card import load_teacher, read_card


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    monkeypatch.setattr(stage, "views", lambda config: 2)


def people(count: int, seed: int, names: str, source: Source = "synthetic") -> Windows:
    """Windows of the subjects whose names are the letters of `names`, in turn."""
    found = made_task.windows(count, seed)
    return replace(found, subject=np.array([names[i % len(names)] for i in range(count)]), source=source)


@dataclass(frozen=True)
class Generated(made_task.Speed):
    """The made task with a generator of five subjects."""

    def load(self, path: object, **_: Any) -> Windows:
        return people(80, 77, "vwxyz")


def data(source: Source = "synthetic", train: str = "abcde") -> RunData:
    parts = people(96, 1, train, source), people(60, 2, "fg", source), people(40, 3, "hi", source)
    return RunData(Generated(), Split(*parts), "d0", "made")


def config(**values: Any) -> LearningConfig:
    return LearningConfig(**{"teacher": "resnet18_1d", "effort": "quick"} | values)


class Told(Silent):
    def __init__(self) -> None:
        self.titles: list[str] = []
        self.said: list[str] = []

    def stage(self, title: str, total: int | None = None) -> None:
        self.titles.append(title)

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("source", ["synthetic", "real"])
def test_cross_fitted_targets_are_of_teachers_that_did_not_see_the_subject(source: Source, tmp_path: Path) -> None:
    found, settings, told = data(source), config(cross_fit=2), Told()
    card = ensure_teacher(settings, found, tmp_path, told)
    module, again = load_teacher(tmp_path)
    assert again == card and len(set(card.targets_from)) == 2 and card.id not in card.targets_from
    x, targets = lessons(settings, tmp_path, card, module, found)
    assert targets.teacher is not None and len(x) == len(targets.y) == len(targets.teacher)
    extra = extra_windows(settings, found)
    subjects = np.concatenate([np.tile(found.split.train.subject, 2), *([] if extra is None else [extra.subject])])
    seen_by: dict[str, str] = {}
    for group, identity in enumerate(card.targets_from, start=1):
        other, its = load_teacher(tmp_path / f"cross-{group}")
        assert its.id == identity and its.targets_from == () and its.subjects_validated == card.subjects_validated
        alone = ~np.isin(subjects, its.subjects_trained)
        if extra is not None:  # generated subjects are grouped alike: the first, third and fifth are kept from the first teacher
            alone[2 * len(found.split.train) :] = np.isin(extra.subject, list("vxz" if group == 1 else "wy"))
        expected = predict(other, x[alone]) * (card.calibration.temperature / its.calibration.temperature)
        assert alone.any() and np.allclose(targets.teacher[alone], expected, atol=1e-5)
        seen_by |= dict.fromkeys(subjects[alone].tolist(), identity)
    assert set(seen_by) == set(subjects.tolist()) and set(seen_by.values()) == set(card.targets_from)
    assert np.abs(targets.teacher - predict(module, x)).max() > 1e-3, "not the teacher's own answers"
    expected_check = check_entropy(targets.teacher, card.calibration.temperature, "training (cross-fitted)")
    assert card.calibration.entropy_targets == expected_check
    again_told = Told()
    assert ensure_teacher(settings, found, tmp_path, again_told) == card and not again_told.titles
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_teacher_without_cross_fitting_answers_for_itself_and_its_card_says_so(tmp_path: Path) -> None:
    found = data("real")
    card = ensure_teacher(config(), found, tmp_path, Silent())
    module, _ = load_teacher(tmp_path)
    x, targets = lessons(config(), tmp_path, card, module, found)
    assert targets.teacher is not None and np.allclose(targets.teacher, predict(module, x), atol=1e-5)
    assert card.calibration.entropy_targets == check_entropy(targets.teacher, card.calibration.temperature, "training")
    assert card.calibration.entropy_targets.windows == len(x) == 2 * 96 + 80


def test_an_interrupted_cross_fitting_ends_the_same(tmp_path: Path) -> None:
    class Stops(Silent):
        steps = 0

        def step(self, done: int, note: str = "") -> None:
            self.steps += 1
            if self.steps == 5:  # in the second of three trainings of two epochs, after its first
                raise KeyboardInterrupt

    found, settings = data(), config(cross_fit=2)
    whole = ensure_teacher(settings, found, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        ensure_teacher(settings, found, tmp_path / "cut", Stops())
    rest = Told()
    assert ensure_teacher(settings, found, tmp_path / "cut", rest) == whole
    assert len(rest.titles) == 2, "the teacher's own checkpoint is complete, the first group's is done"


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "taps": ({"cross_fit": 2, "distillation": "soft+relation"}, ConfigError, "compares taps .embedding., and cross_fit 2"),
    "groups": ({"cross_fit": 6}, ConfigError, "cross_fit 6: allowed is 0 .off., or 2 to 5, the number of training subjects"),
    "one group": ({"cross_fit": 1}, ConfigError, "cross_fit 1: allowed"),
    "finished": ({"cross_fit": 2, "teacher": "from:here"}, ConfigError, "is finished and cannot be trained without"),
    "channels": ({"teacher": "pulse"}, ConfigError, "reads 2 channels at least"),
    "member": ({"teacher": "ensemble:resnet18_1d+pulse"}, ConfigError, "reads 2 channels at least"),
    "kind": ({"distillation": "pulse"}, ConfigError, "needs a task of kind regression"),
    "loss": ({"distillation": "sooft"}, UsageError, "unknown loss"),
    "teacher": ({"teacher": "resnet18"}, UsageError, "unknown teacher"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_pairs_are_refused_before_anything_is_trained(case: str, tmp_path: Path) -> None:
    values, kind, reason = REFUSED[case]
    told = Told()
    with pytest.raises(kind, match=reason):
        ensure_teacher(config(**values), data(), tmp_path, told)
    assert not told.titles and not list(tmp_path.iterdir())


def test_a_group_that_leaves_one_class_is_refused(tmp_path: Path) -> None:
    found = data()
    train = found.split.train
    lonely = replace(train, y=np.asarray(train.subject == "a", dtype=np.int64))
    with pytest.raises(DataError, match="cross_fit 2: without group 1 all training windows are of one class"):
        ensure_teacher(config(cross_fit=2), replace(found, split=replace(found.split, train=lonely)), tmp_path, Silent())


def test_a_folder_of_another_fold_seed_effort_or_targets_is_refused(tmp_path: Path) -> None:
    found = data()
    card = ensure_teacher(config(), found, tmp_path, Silent())
    assert card.subjects_trained == tuple("abcde") and card.subjects_validated == ("f", "g") and sum(card.class_windows) == 96
    assert (card.task, card.rate_hz, card.window_s, card.data_name, card.origin) == ("speed", 64.0, 1.0, "made", "trained")
    with pytest.raises(RunError, match="a teacher of 5 other training subjects"):
        ensure_teacher(config(), data(train="abcdj"), tmp_path, Silent())
    for other in (config(seed=1), config(cross_fit=2), config(effort="normal")):
        with pytest.raises(RunError, match="another seed, recipe or number of cross-fitted groups"):
            ensure_teacher(other, found, tmp_path, Silent())
    with pytest.raises(RunError, match="holds teacher 'resnet18_1d' of data d0"):
        ensure_teacher(config(), replace(found, hash="d1"), tmp_path, Silent())


def test_two_folds_of_the_same_weights_are_two_teachers(tmp_path: Path) -> None:
    """The same windows under other names: the networks are alike, their identities are not."""
    cards = [ensure_teacher(config(), data(train=names), tmp_path / names, Silent()) for names in ("abcde", "abcdj")]
    weights = [(tmp_path / names / "weights.safetensors").read_bytes() for names in ("abcde", "abcdj")]
    assert weights[0] == weights[1] and cards[0].id != cards[1].id


def test_the_training_on_generated_windows_is_shared_between_folds_and_changes_nothing(tmp_path: Path) -> None:
    shared, first, second = tmp_path / "shared", Told(), Told()
    ensure_teacher(config(), data("real"), tmp_path / "1", first, pretrained=shared)
    other = data("real", "abcdj")
    other = replace(other, split=replace(other.split, train=people(90, 9, "abcdj", "real")))
    card = ensure_teacher(config(), other, tmp_path / "2", second, pretrained=shared)
    assert sum("pre-training" in title for title in first.titles) == 1 and not any("pre-training" in title for title in second.titles)
    assert any("taken from" in line for line in second.said)
    assert ensure_teacher(config(), other, tmp_path / "alone", Silent()) == card
    (file,) = shared.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    third = Told()
    assert ensure_teacher(config(), other, tmp_path / "3", third, pretrained=shared) == card
    assert sum("pre-training" in title for title in third.titles) == 1, "a damaged one is made again"
    ensure_teacher(config(seed=1), other, tmp_path / "4", Silent(), pretrained=shared)
    assert len(list(shared.iterdir())) == 2, "another seed, another training"


class _Other(Generated):
    """Students read one signal, the teacher another of two channels."""

    def load(self, path: object, **_: Any) -> Windows:
        return with_other(people(80, 77, "vwxyz"))


def with_other(windows: Windows) -> Windows:
    return replace(windows, teacher_x=np.concatenate([windows.x[:, :, ::-1], 0.5 * windows.x], axis=1).copy())


@pytest.mark.parametrize("cross_fit", [0, 2])
def test_a_teacher_that_reads_another_signal_answers_once_for_all_views(cross_fit: int, tmp_path: Path) -> None:
    plain, settings = data("real"), config(cross_fit=cross_fit, distillation="soft" if cross_fit else "soft+hint:teacher_tap=stage2")
    split = plain.split
    found = replace(plain, task=_Other(), split=Split(*(with_other(part) for part in (split.train, split.validation, split.test))))
    card = ensure_teacher(settings, found, tmp_path, Silent())
    module, _ = load_teacher(tmp_path)
    assert card.in_channels == 2
    x, targets = lessons(settings, tmp_path, card, module, found)
    expected, _ = student_windows(split.train.x, split.train.y, count=2)
    assert np.array_equal(x[: 2 * 96], expected) and targets.teacher is not None
    assert np.array_equal(targets.teacher[:96], targets.teacher[96 : 2 * 96]), "the views are of the same seconds"
    if not cross_fit:
        seen = np.concatenate([found.split.train.seen_by_teacher, found.task.load(None).seen_by_teacher])
        answers = answer(module, seen, taps=("stage2",))
        rows = np.r_[:96, :96, 96 : 96 + 80]
        assert np.allclose(targets.teacher, answers.logits[rows], atol=1e-5)
        assert list(targets.taps) == ["stage2"] and np.allclose(targets.taps["stage2"], answers.taps["stage2"][rows], atol=1e-4)


def test_taps_that_a_loss_reads_come_with_the_lessons(tmp_path: Path) -> None:
    found, settings = data("real"), config(distillation="soft+hint:teacher_tap=stage3+relation")
    card = ensure_teacher(settings, found, tmp_path, Silent())
    module, _ = load_teacher(tmp_path)
    x, targets = lessons(settings, tmp_path, card, module, found)
    expected = answer(module, x, taps=("embedding", "stage3"))
    assert sorted(targets.taps) == ["embedding", "stage3"]
    assert all(np.allclose(targets.taps[name], expected.taps[name], atol=1e-4) for name in targets.taps)
    plain = config()
    assert lessons(plain, tmp_path, card, module, found)[1].taps == {}, "another loss on the same teacher"


class Paced(made_task.Pace):
    """The made regression with a generator."""

    def load(self, path: object, **_: Any) -> Windows:
        return made_task.paced(80, 77)


def test_a_heart_rate_is_that_of_the_view(tmp_path: Path) -> None:
    split = Split(*(replace(made_task.paced(count, seed), source="real") for count, seed in ((96, 1), (60, 2), (40, 3))))
    found = RunData(Paced(), split, "d0", "made")
    card = ensure_teacher(config(distillation="soft"), found, tmp_path, Silent())
    assert len(card.class_windows) == 180 and sum(card.class_windows) == 96
    _, targets = lessons(config(), tmp_path, card, load_teacher(tmp_path)[0], found)
    rate = view(split.train.x, 1, strength=1.0, seed=0)[1]
    assert targets.y.dtype == np.float32 and np.array_equal(targets.y[:96], split.train.y)
    assert np.allclose(targets.y[96:192], split.train.y * rate) and np.array_equal(targets.y[192:], made_task.paced(80, 77).y)


def test_a_finished_teacher_is_taken_over_unless_it_saw_the_test(tmp_path: Path) -> None:
    found, told = data(), Told()
    made = ensure_teacher(config(), found, tmp_path / "made", Silent())
    given = config(teacher=f"from:{tmp_path / 'made'}")
    card = ensure_teacher(given, found, tmp_path / "run", told)
    assert card == made and not told.titles and read_card(tmp_path / "run") == card
    assert ensure_teacher(given, found, tmp_path / "run", Silent()) == card
    x, targets = lessons(given, tmp_path / "run", card, load_teacher(tmp_path / "run")[0], found)
    assert targets.teacher is not None and len(targets.teacher) == len(x)
    tested = replace(found, split=replace(found.split, test=people(40, 3, "ah")))
    with pytest.raises(TrainingError, match=r"was trained on 1 subject\(s\) of the test \(a\)"):
        ensure_teacher(given, tested, tmp_path / "other", Silent())
    validated = replace(found, split=replace(found.split, test=people(40, 3, "fh")))
    with pytest.raises(TrainingError, match=r"was validated on 1 subject\(s\) of the test \(f\)"):
        ensure_teacher(given, validated, tmp_path / "other", Silent())
    assert not (tmp_path / "other").exists()
    ensure_teacher(given, replace(tested, name="other recordings"), tmp_path / "other", Silent())


def test_early_stopping_watches_the_validation_subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, recipe, watched = data(), stage.teacher_recipe(config(), 64), []

    def worse_and_worse(self: object, metrics: dict[str, float]) -> float:
        watched.append(metrics)
        return float(len(watched))

    monkeypatch.setattr(Generated, "error", worse_and_worse)
    monkeypatch.setattr(stage, "teacher_recipe", lambda *_: replace(recipe, epochs=6, patience=2))
    ensure_teacher(config(), found, tmp_path / "impatient", Silent())
    assert len(watched) == 3, "the first was the best, and two were no better"
    assert all(metrics.keys() == {"auc", "accuracy"} for metrics in watched)
    watched.clear()
    monkeypatch.setattr(stage, "teacher_recipe", lambda *_: replace(recipe, epochs=2))
    ensure_teacher(config(), found, tmp_path / "patient", Silent())
    assert not watched, "without patience nothing is watched and nothing chosen"


def test_devices() -> None:
    there = torch.cuda.is_available()
    assert choose_device("cpu") == "cpu" and choose_device("auto") == ("cuda" if there else "cpu")
    with pytest.raises(UsageError, match="unknown device 'gpu'; choose one of: auto, cpu, cuda"):
        choose_device("gpu")
    if not there:
        with pytest.raises(UsageError, match="torch sees no GPU here"):
            choose_device("cuda")


def test_the_card_is_plain_json(tmp_path: Path) -> None:
    card = ensure_teacher(config(cross_fit=2), data(), tmp_path, Silent())
    values = json.loads((tmp_path / "card.json").read_text())
    assert values["subjects_trained"] == list("abcde") and values["targets_from"] == list(card.targets_from)
