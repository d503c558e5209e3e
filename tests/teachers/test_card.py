"""A teacher on disk: both files round-trip, and nothing changed is accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import made_task
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hwnas.errors import TrainingError
from hwnas.tasks.base import Windows
from hwnas.teachers import build
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import TeacherCard, check_teacher, content_id, count_parameters, load_teacher, read_card, save_teacher
from hwnas.train import TEACHER

LABELS = ("sinus", "pvc", "af")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, TeacherCard]:
    module = build("resnet18_1d", 1, 3, seed=4)
    rng = np.random.default_rng(0)
    logits, y = 3 * rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    card = TeacherCard(
        id=content_id(module, "resnet18_1d", "d0", ("p1", "p2")),
        name="resnet18_1d",
        parameters=count_parameters(module),
        in_channels=1,
        labels=LABELS,
        data="d0",
        source="synthetic",
        recipe=TEACHER.to_dict(),
        seed=4,
        calibration=calibrate(logits, y, logits),
        metrics={"validation": {"af_auc": 0.9}, "test": {"af_auc": 0.8}},
        task="speed",
        rate_hz=64.0,
        window_s=1.0,
        data_name="recordings",
        subjects_trained=("p1", "p2"),
        subjects_validated=("p3",),
        class_windows=(40, 10, 0),
    )
    save_teacher(tmp_path, module, card)
    return tmp_path, module, card


def test_round_trip(saved: tuple[Path, nn.Module, TeacherCard]) -> None:
    folder, module, card = saved
    loaded, again = load_teacher(folder)
    assert again == card and again.distillation_temperature == card.calibration.distillation_temperature
    x = np.random.default_rng(1).uniform(-1, 1, (4, 1, 200)).astype(np.float32)
    assert np.array_equal(predict(loaded, x), predict(module, x))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_card_holds_what_a_reader_needs(saved: tuple[Path, nn.Module, TeacherCard]) -> None:
    values = json.loads((saved[0] / "card.json").read_text())
    assert values["parameters"] == sum(p.numel() for p in saved[1].parameters())
    calibration = values["calibration"]
    assert calibration["nll_after"] <= calibration["nll_before"] and 3 <= calibration["distillation_temperature"] <= 8
    assert {"ece_before", "ece_after", "temperature"} <= set(calibration)
    assert calibration["entropy_validation"]["verdict"].split(":")[0] in ("passed", "failed")
    assert values["recipe"]["loss"]["name"] == "hard" and values["labels"] == list(LABELS)


def test_changed_weights_are_refused(saved: tuple[Path, nn.Module, TeacherCard]) -> None:
    folder, _, card = saved
    tensors = load_file(folder / "weights.safetensors")
    tensors["head.bias"][0] += 1e-6
    save_file(tensors, folder / "weights.safetensors")
    with pytest.raises(TrainingError, match=f"content hash is .* the card says {card.id}"):
        load_teacher(folder)


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_missing_or_damaged_files_are_refused(saved: tuple[Path, nn.Module, TeacherCard], name: str, damage: str) -> None:
    path = saved[0] / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.raises(TrainingError, match=name):
        load_teacher(saved[0])


def test_a_card_without_a_field_is_refused(saved: tuple[Path, nn.Module, TeacherCard]) -> None:
    path = saved[0] / "card.json"
    values = json.loads(path.read_text())
    for lacking in ("temperature", "subjects_trained"):
        cut = {k: v for k, v in values.items() if k != lacking}
        cut["calibration"] = {k: v for k, v in values["calibration"].items() if k != lacking}
        path.write_text(json.dumps(cut))
        with pytest.raises(TrainingError, match=f"not a readable teacher's card .*{lacking}"):
            read_card(saved[0])


def test_identity_covers_name_weights_statistics_data_and_subjects() -> None:
    module = build("resnet18_1d", 1, 3)
    first = content_id(module, "a", "d")
    others = [
        content_id(module, *key) for key in (("b", "d"), ("a", "e"), ("a", "d", ["s1"]), ("a", "d", ["s1", "s2"]), ("a", "d", ["s1s2"]))
    ]
    assert first == content_id(module, "a", "d") and len({first, *others}) == 6
    statistics = dict(module.named_buffers())["stem.0.1.running_mean"]
    with torch.no_grad():
        statistics[0] += 1e-6
    assert content_id(module, "a", "d") != first


def speed(**values: object) -> made_task.Speed:
    return replace(made_task.TASK, labels=LABELS, outputs=LABELS, **values)  # type: ignore[arg-type]


def test_a_teacher_of_these_windows_may_teach_with_what_is_doubtful_said(saved: tuple[Path, nn.Module, TeacherCard]) -> None:
    card, windows = saved[2], made_task.windows(20, 0)
    said = check_teacher(card, speed(), windows, ("p4", "p5"))
    assert any("never saw af" in sentence for sentence in said)
    assert sum("calibration temperature" in sentence or "ECE" in sentence for sentence in said) == len(card.calibration.doubts)
    good = replace(
        card.calibration, temperature=2.0, ece_after=0.01, doubts=(), entropy_targets=replace(card.calibration.entropy_targets, passed=True)
    )
    clean = replace(card, calibration=good, class_windows=(40, 10, 10))
    assert check_teacher(clean, speed(), windows, ("p4",)) == () == check_teacher(clean, speed(), None)
    for change, words in (({"temperature": 10.5}, "temperature 10.5"), ({"ece_after": 0.06}, "ECE 0.060")):
        (sentence,) = check_teacher(replace(clean, calibration=replace(good, **change)), speed(), windows)
        assert words in sentence
    failed = replace(good, entropy_targets=replace(good.entropy_targets, passed=False, verdict="failed: it hesitates nowhere"))
    assert check_teacher(replace(clean, calibration=failed), speed(), windows) == ("check of the soft labels failed: it hesitates nowhere",)
    (unknown,) = check_teacher(replace(clean, subjects_trained=()), speed(), windows, ("p1",))
    assert "not known which subjects" in unknown
    assert check_teacher(clean, speed(), windows, ("p1",), data_name="other recordings") == ()


def two_channels(windows: Windows) -> Windows:
    return replace(windows, teacher_x=np.concatenate([windows.x, windows.x], axis=1))


MADE = made_task.windows(20, 0)
REFUSED: dict[str, tuple[dict[str, object], Windows, tuple[str, ...]]] = {
    r"answers sinus, pvc, af; task 'speed' tells slow, fast apart": ({"task": made_task.TASK}, MADE, ()),
    r"reads rate of 64 Hz, sines has 32 Hz; resample": ({}, replace(MADE, x=MADE.x[:, :, ::2], rate_hz=32.0), ()),
    r"reads windows of 1 s, sines has 0.5 s": ({}, replace(MADE, x=MADE.x[:, :, :32]), ()),
    r"reads 1 channel\(s\), sines gives a teacher 2": ({}, two_channels(MADE), ()),
    r"was trained on 1 subject\(s\) of the test \(p2\)": ({}, MADE, ("p2", "p9")),
    r"was validated on 1 subject\(s\) of the test \(p3\)": ({}, MADE, ("p3",)),
    r"was trained on windows of 1 class\(es\)": ({"class_windows": (50, 0, 0)}, MADE, ()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_teacher_that_may_not_teach_is_refused_with_the_reason(reason: str, saved: tuple[Path, nn.Module, TeacherCard]) -> None:
    changes, windows, tested = REFUSED[reason]
    task = changes.get("task", speed())
    changes = {name: value for name, value in changes.items() if name != "task"}
    with pytest.raises(TrainingError, match=reason):
        check_teacher(replace(saved[2], **changes), task, windows, tested)  # type: ignore[arg-type]
