"""A target as its YAML file describes it: clock, memory, energy with source, budgets. Reads `hw_profiles/`; no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt
from pydantic import AllowInfNan

from hwnas.config import Model, load
from hwnas.errors import ConfigError, UsageError, lookup, unknown
from hwnas.resources import folder

Positive = Annotated[float, Gt(0), AllowInfNan(False)]
PositiveInt = Annotated[int, Gt(0)]


@dataclass(frozen=True, slots=True)
class Budget:
    """Hard upper limits; a candidate above one of them is never trained."""

    ram_bytes: int
    flash_bytes: int
    latency_us: float
    energy_uj: float
    average_power_uw: float

    def override(self, **limits: float | int | None) -> Budget:
        """The same budget with the given limits instead; None keeps the old one.

        Raises:
            UsageError: a limit that is not positive.
        """
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise UsageError(f"budget {name}: got {value}, must be above 0")
        given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
        return replace(self, **given)


class Region(Model):
    """One memory region of the part."""

    origin: int
    bytes: PositiveInt


class Memory(Model):
    """Memory of the part: program (flash) and data (SRAM)."""

    flash: Region
    sram: Region


class Energy(Model):
    """Energy of a core cycle with the supply it holds for, and where the figure comes from."""

    pj_per_cycle: Positive
    supply_v: Positive
    regulator: str
    source: str


class Limits(Model):
    """The default budget of a profile."""

    ram_bytes: PositiveInt
    flash_bytes: PositiveInt
    latency_us: Positive
    energy_uj: Positive
    average_power_uw: Positive


class Preset(Model):
    """A named variation of the default budget."""

    ram_bytes: PositiveInt | None = None
    flash_bytes: PositiveInt | None = None
    latency_us: Positive | None = None
    energy_uj: Positive | None = None
    average_power_uw: Positive | None = None


class Profile(Model):
    """One target."""

    name: str
    description: str
    core: str
    clock_hz: PositiveInt
    memory: Memory
    energy: Energy
    budget: Limits
    presets: dict[str, Preset]
    lookup_table: str

    def limits(self, preset: str = "default") -> Budget:
        """The default budget, or one of the profile's presets ("strict"...)."""
        budget = Budget(**self.budget.model_dump())
        if preset == "default":
            return budget
        if preset not in self.presets:
            raise UsageError(unknown(f"budget preset of {self.name}", preset, ["default", *self.presets]))
        return budget.override(**self.presets[preset].model_dump())

    def latency_us(self, cycles: float) -> float:
        """Microseconds that `cycles` take at the profile's clock."""
        return cycles / self.clock_hz * 1e6

    def energy_uj(self, cycles: float) -> float:
        """Microjoules that `cycles` take."""
        return cycles * self.energy.pj_per_cycle * 1e-6

    @property
    def table_path(self) -> Path:
        """The lookup table of the profile, beside its YAML file."""
        return folder("hw_profiles") / self.lookup_table


def names() -> list[str]:
    """Names of the profiles that are installed."""
    return sorted(path.stem for path in folder("hw_profiles").glob("*.yaml"))


def read(name: str) -> Profile:
    """The profile of that name; raises UsageError with the names there are, ConfigError for a broken file."""
    path = lookup({n: folder("hw_profiles") / f"{n}.yaml" for n in names()}, name, "hardware profile")
    profile = load(path, Profile)
    if profile.name != name:
        raise ConfigError(f"{path}: 'name' is '{profile.name}', must be the file's name '{name}'")
    return profile


BUDGET_FIELDS = tuple(field.name for field in fields(Budget))
