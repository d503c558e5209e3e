"""Teachers: networks too large for the target that the students learn from, calibrated, carded and fixed by content hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.errors import lookup
from hwnas.teachers.resnet1d import resnet18_1d, resnet34_1d


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """One row of the table: how the network is made from (input channels, classes), and what to say about it."""

    make: Callable[[int, int], nn.Module]
    description: str


TEACHERS: dict[str, TeacherSpec] = {
    "resnet18_1d": TeacherSpec(resnet18_1d, "1-D ResNet-18, slim: 0.22 M parameters, trains on a CPU in minutes"),
    "resnet34_1d": TeacherSpec(resnet34_1d, "1-D ResNet-34 of the literature: 21 M parameters, wants a GPU or hours"),
}


def build(name: str, in_channels: int, classes: int, *, seed: int = 0) -> nn.Module:
    """The untrained teacher `name`: (B, C, T) -> (logits (B, classes), taps); its weights depend on `seed` alone.

    Raises:
        UsageError: no teacher of that name.
    """
    spec = lookup(TEACHERS, name, "teacher")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return spec.make(in_channels, classes)


__all__ = ["TEACHERS", "TeacherSpec", "build"]
