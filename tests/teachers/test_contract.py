"""What every teacher and every ensemble keeps: shapes, taps, gradients, seeds, losses and tasks, and the way to disk and back."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_teachers import shrink
from torch import nn

from hwnas.distill import LOSSES, LossSettings
from hwnas.errors import ConfigError
from hwnas.tasks import TASKS
from hwnas.tasks.base import Windows
from hwnas.teachers import MIN_SAMPLES, TEACHERS, build, check_channels, members
from hwnas.teachers.cache import answer, cached_outputs, predict
from hwnas.teachers.calibration import calibrate
from hwnas.teachers.card import MemberCard, TeacherCard, content_id, count_parameters, load_teacher, save_teacher
from hwnas.train import Recipe, Targets, fit

NAMES = (*TEACHERS, "ensemble:resnet18_1d+ppg_transformer", "ensemble:resnet18_1d+resnet50_1d+resnet18_1d")
every_teacher = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def tiny(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks behind every name, but for tests marked `full_size`."""
    if "full_size" not in request.fixturenames:
        shrink(monkeypatch)


@pytest.fixture
def full_size() -> None:
    """The networks as they ship."""


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fewest(name: str) -> int:
    """The fewest channels that a teacher reads."""
    return max(TEACHERS[one].channels for one in members(name))


@pytest.mark.parametrize("name", TEACHERS)
def test_the_table_tells_the_true_size(name: str, full_size: None) -> None:
    spec = TEACHERS[name]
    assert count_parameters(build(name, spec.channels, 6)) == spec.parameters
    (told,) = re.findall(r"([\d.]+) M parameters", spec.description)
    assert float(told) == pytest.approx(spec.parameters / 1e6, rel=0.05) and spec.description.startswith(spec.about)


@every_teacher
@pytest.mark.parametrize("length", [MIN_SAMPLES, MIN_SAMPLES + 1, 250])
@pytest.mark.parametrize("extra", [0, 3])
def test_logits_and_taps(name: str, extra: int, length: int) -> None:
    channels = fewest(name) + extra
    logits, taps = build(name, channels, 5)(noise(3, channels, length))
    assert logits.shape == (3, 5) and torch.isfinite(logits).all()
    stages = [f"stage{n}" for n in range(1, len(taps))]
    assert len(stages) >= 2 and list(taps) == [*stages, "embedding"]
    assert all(tap.shape[0] == 3 and tap.ndim == 3 and tap.shape[2] >= 1 for tap in (taps[stage] for stage in stages))
    assert taps["embedding"].ndim == 2 and all(torch.isfinite(tap).all() for tap in taps.values())


@every_teacher
def test_gradient_reaches_every_parameter(name: str) -> None:
    module = build(name, 2, 3)
    logits, _ = module(noise(8, 2, 200))
    nn.functional.cross_entropy(logits, torch.arange(8) % 3).backward()
    stuck = [key for key, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9]
    assert not stuck


@every_teacher
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    channels = fewest(name)
    first = build(name, channels, 6, seed=5).state_dict()
    torch.manual_seed(2)
    again, other = build(name, channels, 6, seed=5).state_dict(), build(name, channels, 6, seed=6).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    heads = [key for key in first if key.endswith("head.weight")]
    assert heads and all(not torch.equal(first[key], other[key]) for key in heads)


@every_teacher
def test_in_eval_mode_a_window_is_answered_alike_twice_and_in_any_company(name: str) -> None:
    channels = fewest(name)
    module, x = build(name, channels, 6), noise(5, channels, 300)
    module.train()
    for _ in range(3):
        module(3 + noise(16, channels, 300))
    learning = module(x)[0]
    module.eval()
    with torch.inference_mode():
        answer = module(x)[0]
        assert torch.equal(answer, module(x)[0]) and torch.allclose(answer[3], module(x[3:4])[0][0], atol=1e-5)
        assert not torch.allclose(answer, learning, atol=1e-3), "batch statistics and dropout belong to training"


def alike(task: str) -> tuple[object, ...]:
    """What makes two tasks one to a teacher."""
    found = TASKS[task]
    return found.kind, found.labels, found.teacher_channels


KINDS_OF_TASK = [name for number, name in enumerate(TASKS) if alike(name) not in [alike(other) for other in list(TASKS)[:number]]]


@cache
def lesson(task: str) -> Windows:
    """A few generated windows of a task, cut short."""
    found = TASKS[task].load(None, window_s=None, seed=0, subjects=4, windows=12).take(slice(12))
    cut = {name: np.ascontiguousarray(x[:, :, : 2 * MIN_SAMPLES]) for name in ("x", "teacher_x") if (x := getattr(found, name)) is not None}
    return replace(found, **cut)


@every_teacher
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("task", KINDS_OF_TASK)
def test_one_training_step_moves_every_parameter(name: str, loss: str, task: str) -> None:
    """Taught by another of its kind, through logits and through taps; pairs that make no sense are refused before."""
    settings, windows, classes = LossSettings(name=loss), lesson(task), len(TASKS[task].labels)
    x = windows.seen_by_teacher
    assert x.shape[1] == len(TASKS[task].teacher_channels)
    if x.shape[1] < fewest(name):
        with pytest.raises(
            ConfigError, match=r"teacher 'pulse' reads 2 channels at least .* the windows have 1; choose another teacher: .*resnet"
        ):
            check_channels(name, x.shape[1])
        with pytest.raises(ConfigError, match="teacher 'pulse'"):
            build(name, x.shape[1], classes)
        return
    check_channels(name, x.shape[1])
    if not all(TASKS[task].kind in LOSSES[one].kinds for one in settings.names):
        with pytest.raises(ConfigError, match=loss):
            settings.allow(TASKS[task].kind)
        return
    module, taught = build(name, x.shape[1], classes), answer(build(name, x.shape[1], classes, seed=1), x, taps=settings.teacher_taps)
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    targets = Targets(windows.y, 3 * taught.logits, taught.taps)
    result = fit(module, x, targets, Recipe(name="one step", epochs=1, batch_size=12, loss=settings), seed=0)
    assert result.steps == 1 and not module.training
    still = [key for key, p in module.named_parameters() if torch.equal(p, before[key]) or not torch.isfinite(p).all()]
    assert not still
    found = predict(module, x)
    assert found.shape == (len(windows), classes) and np.isfinite(TASKS[task].error(TASKS[task].metrics(found, windows)))


@every_teacher
def test_to_disk_and_back(name: str, tmp_path: Path) -> None:
    module = build(name, 2, 3, seed=4)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (40, 2, 100)).astype(np.float32), rng.integers(0, 3, 40)
    logits = predict(module, x)
    calibration = calibrate(5 * logits, y, logits)
    assert calibration.nll_after <= calibration.nll_before
    member = MemberCard("resnet18_1d", 7, 4, calibration, {"validation": {"accuracy": 0.5}})
    card = TeacherCard(
        id=content_id(module, name, "d0", ("s1", "s2")),
        name=name,
        parameters=count_parameters(module),
        in_channels=2,
        labels=("a", "b", "c"),
        data="d0",
        source="synthetic",
        recipe={},
        seed=4,
        calibration=calibration,
        metrics={"validation": {"accuracy": 0.4}},
        members=(member, member) if name.startswith("ensemble:") else (),
        task="made",
        rate_hz=50.0,
        window_s=2.0,
        data_name="recordings",
        subjects_trained=("s1", "s2"),
        subjects_validated=("s3",),
        class_windows=(20, 0, 20),
        targets_from=("t1", "t2"),
    )
    save_teacher(tmp_path, module, card)
    loaded, again = load_teacher(tmp_path)
    assert again == card and np.array_equal(predict(loaded, x), logits)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert np.array_equal(cached_outputs(tmp_path, card.id, loaded, x).logits[0], logits)
