"""A teacher on disk: both files round-trip, and nothing changed is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hwnas.errors import TrainingError
from hwnas.teachers import build
from hwnas.teachers.cache import predict
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import TeacherCard, content_id, count_parameters, load_teacher, read_card, save_teacher
from hwnas.train import TEACHER

LABELS = ("sinus", "pvc", "af")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module, TeacherCard]:
    module = build("resnet18_1d", 1, 3, seed=4)
    rng = np.random.default_rng(0)
    logits, y = 3 * rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    card = TeacherCard(
        id=content_id(module, "resnet18_1d", "d0"),
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
    del values["calibration"]["temperature"]
    path.write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="card"):
        read_card(saved[0])


def test_identity_covers_name_weights_statistics_and_data() -> None:
    module = build("resnet18_1d", 1, 3)
    first = content_id(module, "a", "d")
    assert first == content_id(module, "a", "d") and len({first, content_id(module, "b", "d"), content_id(module, "a", "e")}) == 3
    statistics = dict(module.named_buffers())["stem.0.1.running_mean"]
    with torch.no_grad():
        statistics[0] += 1e-6
    assert content_id(module, "a", "d") != first
