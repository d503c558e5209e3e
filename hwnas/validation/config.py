"""The YAML file of `hwnas validate`: what is run where, how far figures may drift, and where results go. Reads that file; no torch.

    students: [runs/mine/students/*]        # folders of finished students; patterns are allowed
    targets:
      - {name: emulator, target: emulator}
      - {name: qemu, target: qemu}
      - name: bench-1                       # another name begins another history
        target: serial:/dev/ttyACM0
        port: stm32f405
        flash: st-flash --reset write {binary} 0x08000000
        baud: 921600
        meter: {csv: meter.csv, supply_v: 3.0, command: "log-power --out {csv}"}
    windows: {golden: 32, rotating: 64, data: recordings}
    limits: {latency_percent: 2, operator_percent: 5, predicted_percent: 10, ram_bytes: 0, energy_percent: 5, accuracy: 0.001}
    history: history.sqlite
    out: nights
    quarantine: nights/quarantine.csv

Relative paths are those beside the YAML file: of students, data, results, `meter.csv`, and a `port` that names a folder there. Commands
(`flash`, `meter.command`, `exec:`) run in the working directory, which ready-made schedules set to the YAML file's folder. `students` and
`targets` are needed; the rest has the values above (but `windows.data`, without which windows come from the signal generator).
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, field_validator, model_validator

from hwnas.config import Model, load
from hwnas.errors import ConfigError

Percent = Annotated[float, Gt(0), Le(1000)]
Text = Annotated[str, MinLen(1)]


class MeterConfig(Model):
    """A power meter that writes CSV (`hwnas.validation.meter`).

    Attributes:
        csv: the file that the meter writes while a student runs; one that a command writes is removed before.
        supply_v: what the current is drawn at.
        command: started before a student runs and ended after it; `{csv}` stands for the file. Without one the meter writes by itself.
    """

    csv: Text
    supply_v: Annotated[float, Gt(0), Le(60)]
    command: Text | None = None


class TargetConfig(Model):
    """One target, as `hwnas bench` takes it.

    Attributes:
        name: what its figures are kept under.
        target: emulator, qemu, serial:PLACE or exec:COMMAND.
        port: of the firmware, by name or as the folder of one of your own; None is what suits the target.
        flash: command that puts `{image}` (ELF) or `{binary}` (raw bytes) on the board.
        profile: hardware profile that figures are predicted for; None is the student's own.
    """

    name: Text
    target: Text
    port: Text | None = None
    flash: Text | None = None
    baud: Annotated[int, Gt(0)] = 115200
    timeout_s: Annotated[float, Gt(0)] | None = None
    profile: Text | None = None
    meter: MeterConfig | None = None


class WindowsConfig(Model):
    """What is run: `golden` windows that are the same every night, and `rotating` others each night, of the recordings in `data`."""

    golden: Annotated[int, Gt(0)] = 32
    rotating: Annotated[int, Ge(0)] = 64
    data: Text | None = None
    runs: Annotated[int, Ge(10), Le(10_000)] = 10


class Limits(Model):
    """How far a figure may be from what is expected before it has drifted; in percent, bytes, or the unit of the task's metric.

    Attributes:
        latency_percent, operator_percent, energy_percent: from the median of the last passing nights.
        predicted_percent: from the prediction (cycles, energy, operators).
        ram_bytes: above the prediction, or either way from past nights.
        accuracy: the task's metric.
    """

    latency_percent: Percent = 2.0
    operator_percent: Percent = 5.0
    predicted_percent: Percent = 10.0
    energy_percent: Percent = 5.0
    ram_bytes: Annotated[int, Ge(0)] = 0
    accuracy: Annotated[float, Ge(0)] = 0.001

    @field_validator("latency_percent", "operator_percent", "predicted_percent", "energy_percent", "accuracy", mode="before")
    @classmethod
    def _whole_numbers_are_numbers(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value


class NightConfig(Model):
    """Everything that decides a night; paths are absolute once read by `read`."""

    students: Annotated[tuple[Text, ...], MinLen(1), Field(strict=False)]
    targets: Annotated[tuple[TargetConfig, ...], MinLen(1), Field(strict=False)]
    windows: WindowsConfig = Field(default_factory=WindowsConfig)
    limits: Limits = Field(default_factory=Limits)
    history: Text = "history.sqlite"
    out: Text = "nights"
    quarantine: Text | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> NightConfig:
        twice = [name for name, count in Counter(target.name for target in self.targets).items() if count > 1]
        if twice:
            raise ValueError(
                f"targets share the name {', '.join(map(repr, twice))}; figures are kept by name, so each target needs its own"
            )
        return self

    @property
    def quarantine_path(self) -> Path:
        """Where quarantined rows are written."""
        return Path(self.quarantine) if self.quarantine else Path(self.out) / "quarantine.csv"

    def folders(self) -> dict[str, Path]:
        """Short name -> folder of every student; raises ConfigError for a pattern or folder without one."""
        from hwnas.pipeline.shipped import CARD_FILE  # brings torch, which a look at the history can do without

        found: dict[Path, None] = {}
        for pattern in self.students:
            matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) and not Path(pattern).exists() else [pattern]
            folders = [Path(match) for match in matches if (Path(match) / CARD_FILE).is_file()]
            if not folders:
                raise ConfigError(
                    f"at 'students': no finished student (a folder with {CARD_FILE}) at {pattern}; give runs/NAME/students/ID"
                )
            found |= dict.fromkeys(folders)
        return dict(zip(short_names(list(found)), found, strict=True))


def read(path: Path) -> NightConfig:
    """The file `path`, its paths absolute; raises ConfigError naming file, key, what was got and what is allowed."""
    config, base = load(path, NightConfig), path.resolve().parent
    windows, targets = config.windows, []
    for target in config.targets:
        meter = target.meter and target.meter.model_copy(update={"csv": _absolute(target.meter.csv, base)})
        targets.append(target.model_copy(update={"meter": meter, "port": _port(target.port, base)}))
    return config.model_copy(
        update={
            "students": tuple(_absolute(student, base) for student in config.students),
            "targets": tuple(targets),
            "windows": windows.model_copy(update={"data": windows.data and _absolute(windows.data, base)}),
            "history": _absolute(config.history, base),
            "out": _absolute(config.out, base),
            "quarantine": config.quarantine and _absolute(config.quarantine, base),
        }
    )


def short_names(folders: list[Path]) -> list[str]:
    """As few of the last parts of each path as tell all of them apart; `students` in RUN/students/ID is left out."""
    parts = [[part for part in folder.parts if part != "students"] for folder in folders]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _port(name: str | None, base: Path) -> str | None:
    """A port's name as it is, the folder of a port absolute."""
    if name is None or not (base / Path(name).expanduser()).is_dir():
        return name
    from hwnas.firmware.board_image import PORTS  # brings much, which names alone can do without

    return name if name in PORTS else _absolute(name, base)


def _absolute(text: str, base: Path) -> str:
    return os.path.normpath(base / Path(text).expanduser())
