"""`RunConfig`: everything that decides the result of a run, and nothing else. Reads and writes `run.yaml`.

How many processes work, what is printed and where the run lives are not part of it: they change no figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field

from hwnas import __version__
from hwnas.config import Model, parse, read_yaml
from hwnas.errors import ConfigError
from hwnas.hardware.profile import Budget, Profile, read
from hwnas.resources import write_text

Count = Annotated[int, Gt(0)]
Seed = Annotated[int, Ge(0)]
Limit = Annotated[float, Gt(0), Le(1e9)]
Names = Annotated[tuple[str, ...], MinLen(1), Field(strict=False)]  # YAML knows lists only


class BudgetConfig(Model):
    """A preset of the profile and the limits that replace the preset's own."""

    preset: str = "default"
    max_ram_kb: Limit | None = None
    max_flash_kb: Limit | None = None
    max_latency_ms: Limit | None = None
    max_energy_uj: Limit | None = None

    def resolve(self, profile: Profile) -> Budget:
        """The limits in bytes, microseconds and microjoules; raises UsageError for an unknown preset, or for more than the part has."""
        limits = profile.limits(self.preset).override(
            ram_bytes=_scaled(self.max_ram_kb, 1024),
            flash_bytes=_scaled(self.max_flash_kb, 1024),
            latency_us=self.max_latency_ms and self.max_latency_ms * 1e3,
            energy_uj=self.max_energy_uj,
        )
        return profile.check(limits)


class LearningConfig(Model):
    """What is learned, from which windows and from which teacher: the part that searches and studies share.

    Attributes:
        data: absolute path of a folder of recordings; None is the signal generator.
        window_s: window length in seconds; None is what the recordings have, or the task's default for the generator.
        distillation: the loss that students learn by, as `hwnas.distill.read` understands it.
        teacher_epochs: epochs of a teacher's own training; None is the recipe's.
        cross_fit: groups of training subjects whose targets come from a teacher that did not see them; 0: the teacher's own answers.
    """

    task: str = "rhythm"
    data: str | None = None
    window_s: Limit | None = None
    subjects: Count | None = None
    windows: Count | None = None
    teacher: str = "resnet18_1d"
    teacher_epochs: Count | None = None
    distillation: str = "soft"
    cross_fit: Annotated[int, Ge(0)] = 0
    seed: Seed = 0
    split_seed: Seed = 0
    effort: Literal["quick", "normal"] = "normal"


class RunConfig(LearningConfig):
    """One run of `hwnas search`.

    Attributes:
        spaces: search spaces, names or YAML files, that are searched as one.
        trials: candidates to *score* (rejected ones are not counted).
        generation: candidates proposed before results reach the tuner; independent of the number of processes.
        students: at most this many are fully distilled.
        calibration: how ranges of int8 activations are chosen (`hwnas.quantize.ptq.PtqSettings`).
    """

    profile: str
    spaces: Names = ("mobilenet1d",)
    tuner: Literal["pareto", "random", "tpe"] = "pareto"
    service: Literal["local", "nni"] = "local"
    trials: Count = 24
    generation: Count = 8
    students: Count = 8
    calibration: Literal["mse", "min_max", "percentile"] = "mse"
    budget: BudgetConfig = Field(default_factory=BudgetConfig)

    @property
    def hardware(self) -> Profile:
        """The profile that the run is for."""
        return read(self.profile)

    @property
    def limits(self) -> Budget:
        """The budget in the profile's units."""
        return self.budget.resolve(self.hardware)


def write_run_yaml(path: Path, config: RunConfig, fingerprint: dict[str, str], versions: dict[str, str]) -> None:
    """Write the resolved configuration with the versions that ran it.

    When the run is taken up again, the versions that began it stay, and others that continued it stand beside them.
    """
    began = read_yaml(path).get("versions", versions) if path.exists() else versions
    values = config.model_dump(mode="json")
    content: dict[str, Any] = {"config": values, "fingerprint": fingerprint, "hwnas": __version__, "versions": began}
    if versions != began:
        content["continued_with"] = versions
    head = "# What this run was made with; `hwnas search --config` on this file makes it again.\n"
    write_text(path, head + yaml.safe_dump(content, sort_keys=False))


def read_run_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(configuration values, fingerprint) of a `run.yaml`, or of a plain YAML file of `RunConfig` fields (no fingerprint then).

    Raises:
        ConfigError: unreadable, or fields that RunConfig does not have.
    """
    content = read_yaml(path)
    values, fingerprint = content.get("config", content), content.get("fingerprint", {})
    for name, found in (("config", values), ("fingerprint", fingerprint)):
        if not isinstance(found, dict):
            raise ConfigError(f"{path}: '{name}' must be a mapping, got {found!r}")
    parse({"profile": "-", **values}, RunConfig, str(path))
    return values, fingerprint


def _scaled(value: float | None, factor: int) -> int | None:
    return None if value is None else int(value * factor)
