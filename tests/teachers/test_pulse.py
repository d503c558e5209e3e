"""PULSE: the published sizes, and what attends to what."""

from __future__ import annotations

import pytest
import torch

from hwnas.errors import ConfigError
from hwnas.teachers import build
from hwnas.teachers.card import count_parameters
from hwnas.teachers.pulse import POSITIONS, PULSE, Pulse


def windows(count: int = 3, channels: int = 4, length: int = 256) -> torch.Tensor:
    return torch.randn((count, channels, length), generator=torch.Generator().manual_seed(0))


def test_the_published_teacher_has_131825_parameters_and_classes_grow_its_head_only() -> None:
    published, classes = build("pulse", 4, 1), build("pulse", 4, 180)
    assert count_parameters(published) == 131_825
    assert count_parameters(classes) - count_parameters(published) == 179 * (PULSE.embedding + 1)
    grown = [k for k, v in classes.state_dict().items() if v.shape != published.state_dict()[k].shape]
    assert grown == ["head.weight", "head.bias"]


def test_convolutions_and_dense_layers_need_the_published_macs() -> None:
    """26.3 M, by hand: rows of 256, 64 and 32 samples for 4 signals, 3 convolutions each, then projections, attention and dense."""
    macs, inputs, length = 0, 1, 256
    for width, pool in zip(PULSE.widths, (4, 2, 2), strict=True):
        macs += 4 * length * PULSE.kernel * (inputs * width + 2 * width * width)
        inputs, length = width, length // pool
    queries, keys = inputs, 3 * inputs
    attention = POSITIONS**2 * (2 * queries + 2 * keys) + 2 * queries * keys * POSITIONS
    assert (macs + attention + inputs * POSITIONS * 32 + 32) / 1e6 == pytest.approx(26.3, abs=0.05)
    module = build("pulse", 4, 1)
    sizes = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda m, _, out: sizes.append(out[0].numel() * m.weight[0].numel()))
    module(windows(1))
    assert sum(sizes) == macs


def test_taps_and_lengths() -> None:
    _, taps = build("pulse", 4, 180)(windows())
    shapes = {name: tuple(tap.shape[1:]) for name, tap in taps.items()}
    assert shapes == {"stage1": (32, 64), "stage2": (48, 32), "stage3": (64, 16), "stage4": (64, 16), "embedding": (32,)}


def test_the_last_pooling_is_the_published_one_at_the_published_length() -> None:
    module, seen = Pulse(PULSE, 1).eval(), []
    module.blocks[-1].pool.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    module(windows())
    (given, out) = seen[0]
    assert torch.allclose(out, torch.nn.functional.avg_pool2d(given, (1, 2)), atol=1e-6)


def test_pulse_asks_and_motion_answers() -> None:
    """Every order of the axes is one to it, PPG and an axis are not; with one motion vector everywhere no query can matter."""
    module, x = build("pulse", 4, 5).eval(), windows()
    with torch.inference_mode():
        answer = module(x)[0]
        assert torch.allclose(answer, module(x[:, [0, 3, 1, 2]])[0], atol=1e-5)
        assert not torch.allclose(answer, module(x[:, [1, 0, 2, 3]])[0], atol=1e-3)
        moved = x.clone()
        moved[:, 2] = moved[:, 2].flip(-1)
        assert not torch.allclose(answer, module(moved)[0], atol=1e-4), "motion matters"
        pulse, other, motion = (torch.randn((1, 64, POSITIONS), generator=torch.Generator().manual_seed(n)) for n in range(3))
        one = motion[:, :1].expand(-1, 192, -1)
        answers = [module.attention(asked, one, one, need_weights=False)[0] for asked in (pulse, other)]
        assert torch.allclose(*answers, atol=1e-5)


def test_a_window_without_motion_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"'pulse' reads 2 channels at least .* have 1; choose another teacher: .*resnet18_1d"):
        build("pulse", 1, 6)
    with pytest.raises(ConfigError, match="'pulse'"):
        build("ensemble:resnet18_1d+pulse", 1, 6)
