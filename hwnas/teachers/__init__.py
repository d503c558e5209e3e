"""Teachers: networks too large for the target that the students learn from, calibrated, carded and fixed by content hash.

A teacher's forward takes (B, C, T), with any C from its own least number and any T from `MIN_SAMPLES` on, and returns logits (B, K)
and taps: "stage1" ... "stageN" (B, channels, L) and "embedding" (B, width). A teacher that was made elsewhere may have no taps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hwnas.errors import ConfigError, UsageError, unknown
from hwnas.teachers.ensemble import Ensemble
from hwnas.teachers.pulse import pulse
from hwnas.teachers.resnet1d import resnet18_1d, resnet18_1d_8, resnet18_1d_16, resnet34_1d, resnet50_1d
from hwnas.teachers.spectrum import spectrum
from hwnas.teachers.transformer import ppg_transformer

ENSEMBLE = "ensemble:"
FROM = "from:"  # followed by the folder of a finished teacher: nothing is trained
MIN_SAMPLES = 32  # the residual networks shorten the time axis by that factor; one position is left


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """One row of the table: how the network is made from (input channels, classes), what it is, and its size.

    `parameters` is the number of trained values for six classes and `channels`, the fewest channels that it reads.
    """

    make: Callable[[int, int], nn.Module]
    about: str
    parameters: int
    channels: int = 1

    @property
    def description(self) -> str:
        """What it is, with its size."""
        return f"{self.about}, {self.parameters / 1e6:.2g} M parameters"


TEACHERS: dict[str, TeacherSpec] = {
    "resnet18_1d_8": TeacherSpec(resnet18_1d_8, "the slim 1-D ResNet-18 at a third of its widths, for sweeps over capacity", 24_582),
    "resnet18_1d_16": TeacherSpec(resnet18_1d_16, "the slim 1-D ResNet-18 at two thirds of its widths, for sweeps over capacity", 97_458),
    "resnet18_1d": TeacherSpec(resnet18_1d, "1-D ResNet-18, slim, trains on a CPU in minutes", 217_470),
    "ppg_transformer": TeacherSpec(ppg_transformer, "patches, 4 pre-norm encoder blocks, slim, trains on a CPU in minutes", 341_046),
    "pulse": TeacherSpec(pulse, "PPG attends to acceleration, for heart rate, trains on a CPU in minutes", 131_990, channels=2),
    "spectrum": TeacherSpec(spectrum, "spectra and convolutions along the rate, for heart rate, trains on a CPU in minutes", 20_134),
    "resnet34_1d": TeacherSpec(resnet34_1d, "1-D ResNet-34 of the literature, needs hours on a CPU", 21_279_302),
    "resnet50_1d": TeacherSpec(resnet50_1d, "1-D ResNet-50 of the literature, bottleneck blocks, needs hours on a CPU", 23_511_878),
}


def members(name: str) -> tuple[str, ...]:
    """Names of the networks that teacher `name` is made of: (`name`,) itself, those of `ensemble:a+b+c`, none of `from:FOLDER`.

    Raises:
        UsageError: no teacher of that name, an ensemble of fewer than two, or one inside another.
    """
    if name.startswith(FROM):
        return ()
    if not name.startswith(ENSEMBLE):
        if name not in TEACHERS:
            raise UsageError(f"{unknown('teacher', name, TEACHERS)} Several as one: {ENSEMBLE}A+B; one that is finished: {FROM}FOLDER")
        return (name,)
    parts = tuple(name.removeprefix(ENSEMBLE).split("+"))
    if any(part.startswith(ENSEMBLE) for part in parts):
        flat = "+".join(part.removeprefix(ENSEMBLE) for part in parts)
        raise UsageError(f"teacher '{name}': ensembles do not nest; name all members of one: {ENSEMBLE}{flat}")
    if wrong := [part for part in parts if part not in TEACHERS]:
        raise UsageError(f"teacher '{name}': {unknown('member', wrong[0], TEACHERS)} Write {ENSEMBLE}A+B")
    if len(parts) == 1:
        (only,) = parts
        raise UsageError(f"teacher '{name}': an ensemble needs two members at least; write {only}, or {name}+{only} for two seeds of it")
    return parts


def check_channels(name: str, channels: int) -> None:
    """Refuse a teacher that windows of `channels` channels are not enough for.

    Raises:
        UsageError: no teacher of that name. ConfigError: too few channels.
    """
    for one in members(name):
        if channels < (needed := TEACHERS[one].channels):
            raise ConfigError(
                f"teacher '{one}' reads {needed} channels at least ({TEACHERS[one].about}), the windows have {channels}; choose another "
                f"teacher: {', '.join(other for other, spec in TEACHERS.items() if spec.channels <= channels)}"
            )


def member_seeds(name: str, seed: int) -> tuple[int, ...]:
    """Seed of each of `members(name)`: `seed` where a name comes first, as if it were the only teacher, and others where it comes again."""
    names = members(name)
    again = [names[:i].count(one) for i, one in enumerate(names)]
    return tuple(seed if not n else int(np.random.SeedSequence([seed, n]).generate_state(1)[0]) for n in again)


def build(name: str, in_channels: int, classes: int, *, seed: int = 0) -> nn.Module:
    """The untrained teacher `name`: (B, C, T) -> (logits (B, classes), taps); its weights depend on `seed` alone.

    Raises:
        UsageError: no teacher of that name. ConfigError: it reads more channels.
    """
    check_channels(name, in_channels)
    made = [_build(one, in_channels, classes, own) for one, own in zip(members(name), member_seeds(name, seed), strict=True)]
    return made[0] if len(made) == 1 else Ensemble(made)


def _build(name: str, in_channels: int, classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return TEACHERS[name].make(in_channels, classes)


__all__ = ["ENSEMBLE", "FROM", "MIN_SAMPLES", "TEACHERS", "TeacherSpec", "build", "check_channels", "member_seeds", "members"]
