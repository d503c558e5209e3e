"""`RunConfig`: everything that decides the result of a run, and nothing else. Reads and writes `run.yaml`.

How many processes work, what is printed and where the run lives are not part of it: they change no figure.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt
from pydantic import Field

from hwnas import __version__
from hwnas.config import Model, parse, read_yaml
from hwnas.hardware.profile import Budget, Profile, read
from hwnas.resources import write_text

Count = Annotated[int, Gt(0)]
Seed = Annotated[int, Ge(0)]
Limit = Annotated[float, Gt(0)]


class BudgetConfig(Model):
    """A preset of the profile and the limits that replace the preset's own."""

    preset: str = "default"
    max_ram_kb: Limit | None = None
    max_flash_kb: Limit | None = None
    max_latency_ms: Limit | None = None
    max_energy_uj: Limit | None = None

    def resolve(self, profile: Profile) -> Budget:
        """The limits in bytes, microseconds and microjoules; raises UsageError for an unknown preset."""
        return profile.limits(self.preset).override(
            ram_bytes=_scaled(self.max_ram_kb, 1024),
            flash_bytes=_scaled(self.max_flash_kb, 1024),
            latency_us=self.max_latency_ms and self.max_latency_ms * 1e3,
            energy_uj=self.max_energy_uj,
        )


class RunConfig(Model):
    """One run of `hwnas search`.

    Attributes:
        data: absolute path of a folder of recordings; None is the signal generator.
        window_s: window length in seconds; None is what the recordings have, or the task's default for the generator.
        trials: candidates to *score* (rejected ones are not counted).
        generation: candidates proposed before results reach the tuner; independent of the number of processes.
        students: at most this many are fully distilled.
    """

    profile: str
    task: str = "rhythm"
    data: str | None = None
    window_s: Limit | None = None
    subjects: Count | None = None
    windows: Count | None = None
    space: str = "mobilenet1d"
    teacher: str = "resnet18_1d"
    tuner: Literal["pareto", "random"] = "pareto"
    service: Literal["local", "nni"] = "local"
    trials: Count = 24
    generation: Count = 8
    students: Count = 8
    seed: Seed = 0
    split_seed: Seed = 0
    effort: Literal["quick", "normal"] = "normal"
    budget: BudgetConfig = Field(default_factory=BudgetConfig)

    @property
    def hardware(self) -> Profile:
        """The profile that the run is for."""
        return read(self.profile)

    @property
    def limits(self) -> Budget:
        """The budget in the profile's units."""
        return self.budget.resolve(self.hardware)


def fingerprint(config: RunConfig, data_hash: str) -> dict[str, str]:
    """What must not change between a run and its resumption, by name: every field of the configuration, and the data's content.

    `trials` and `data` (a path) may change: more trials extend a run, and moved recordings are still the same recordings.
    """
    fields = {k: json.dumps(v, sort_keys=True) for k, v in config.model_dump().items() if k not in ("trials", "data", "service")}
    return fields | {"data": data_hash}


def digest(values: dict[str, Any]) -> str:
    """A short content hash of a JSON-able mapping."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def write_run_yaml(path: Path, config: RunConfig, versions: dict[str, str], data_hash: str) -> None:
    """Write the resolved configuration with the versions that ran it."""
    content = {
        "config": config.model_dump(),
        "fingerprint": fingerprint(config, data_hash),
        "hwnas": __version__,
        "versions": versions,
    }
    write_text(
        path,
        "# What this run was made with; `hwnas search --config` on this file makes it again.\n" + yaml.safe_dump(content, sort_keys=False),
    )


def read_run_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(configuration values, fingerprint) of a `run.yaml`, or of a plain YAML file of `RunConfig` fields (no fingerprint then).

    Raises:
        ConfigError: unreadable, or fields that RunConfig does not have.
    """
    content = read_yaml(path)
    values = content.get("config", content)
    parse({"profile": "-", **values}, RunConfig, str(path))
    return values, content.get("fingerprint", {})


def _scaled(value: float | None, factor: int) -> int | None:
    return None if value is None else int(value * factor)
