"""The teachers of the table with a few channels each, so that tests of what they share take milliseconds. No files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import nn

from hwnas.teachers import TEACHERS
from hwnas.teachers.pulse import PULSE, Pulse
from hwnas.teachers.resnet1d import RESNET18_8, RESNET18_16, RESNET18_SLIM, RESNET34, RESNET50, Layout, ResNet1d
from hwnas.teachers.spectrum import SpectrumNet
from hwnas.teachers.transformer import PPG_TRANSFORMER, Transformer1d

TOWER = replace(PULSE, widths=(4, 5, 6), convolutions=1, kernel=3, heads=2, embedding=6)
ENCODER = replace(PPG_TRANSFORMER, width=8, blocks=2, heads=2, hidden=12)


def _residual(layout: Layout) -> Callable[[int, int], nn.Module]:
    narrow = replace(layout, widths=(4, 4, 6, 8), blocks=(1, 1, 1, 1), kernel=3, stem=5)
    return lambda channels, classes: ResNet1d(narrow, channels, classes)


TINY: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet18_1d_8": _residual(RESNET18_8),
    "resnet18_1d_16": _residual(RESNET18_16),
    "resnet18_1d": _residual(RESNET18_SLIM),
    "pulse": lambda channels, classes: Pulse(TOWER, classes),
    "spectrum": lambda channels, classes: SpectrumNet(channels, classes, width=4, blocks=2, kernel=3),
    "resnet34_1d": _residual(RESNET34),
    "resnet50_1d": _residual(RESNET50),
    "ppg_transformer": lambda channels, classes: Transformer1d(ENCODER, channels, classes),
}


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name of the table build its tiny form."""
    assert TINY.keys() == TEACHERS.keys(), "each teacher needs a tiny form here"
    for name, make in TINY.items():
        monkeypatch.setitem(TEACHERS, name, replace(TEACHERS[name], make=make))
