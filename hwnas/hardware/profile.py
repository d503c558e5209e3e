"""A target as its YAML file describes it: core, clock, memory, energy with source, budgets. Reads `hw_profiles/`; no torch.

Two kinds of files: a `table` profile has figures for every network (the lookup table of its core, a clock, an energy per cycle); a
`bounds` profile is of a part about which too little is known for that, and holds only what can be said of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen
from pydantic import AllowInfNan, Field, model_validator

from hwnas.config import Model, load, read_yaml
from hwnas.errors import ConfigError, UsageError, lookup, unknown
from hwnas.resources import folder

STACK_BYTES = 1024  # that the linker keeps free; kernels and frame take a few hundred
Positive = Annotated[float, Gt(0), AllowInfNan(False)]
NotNegative = Annotated[float, Ge(0), AllowInfNan(False)]
Factor = Annotated[float, Ge(1), AllowInfNan(False)]
PositiveInt = Annotated[int, Gt(0)]
Text = Annotated[str, MinLen(1)]


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

    origin: Annotated[int, Ge(0)]
    bytes: PositiveInt


class OtherRegion(Region):
    """A region that no student uses, and why."""

    name: Text
    note: Text


class Memory(Model):
    """Memory of the part. `sram` is one contiguous block: arena, buffers, data and stack share it."""

    flash: Region
    sram: Region
    other: list[OtherRegion] = Field(default_factory=list)


class Energy(Model):
    """Energy of a working core, by the cycle or by the time, with the supply it holds for and where the figure comes from."""

    pj_per_cycle: Positive | None = None
    power_mw: Positive | None = None
    supply_v: Positive
    regulator: Text
    source: Text

    @model_validator(mode="after")
    def _one_figure(self) -> Energy:
        if (self.pj_per_cycle is None) == (self.power_mw is None):
            raise ValueError("give either pj_per_cycle or power_mw")
        return self


def energy_figure(energy: Energy) -> str:
    """The figure with its unit."""
    return f"{energy.pj_per_cycle:g} pJ/cycle" if energy.pj_per_cycle is not None else f"{energy.power_mw:g} mW"


class FlashWait(Model):
    """Cycles that reading flash takes beyond the core's own, and where the figures come from."""

    cycles_per_byte: NotNegative
    cycles_per_line: NotNegative
    source: Text


class WeightStream(Model):
    """Constants that outgrow the first cache come from memory once a window; and where the figures come from."""

    cache_bytes: PositiveInt
    bytes_per_cycle: Positive
    source: Text


class Uncertainty(Model):
    """Latency is right within a factor of `factor` either way, energy and power within `energy_factor` (the same where not given)."""

    factor: Factor
    energy_factor: Factor | None = None
    reason: Text


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
    """One target with figures."""

    name: Text
    kind: Literal["table"] = "table"
    description: Text
    core: Text
    clock_hz: PositiveInt
    memory: Memory
    energy: Energy
    weight_stream: WeightStream | None = None
    flash_wait: FlashWait | None = None
    uncertainty: Uncertainty | None = None
    budget: Limits
    presets: dict[str, Preset]
    lookup_table: Text

    def limits(self, preset: str = "default") -> Budget:
        """The default budget, or one of the profile's presets ("strict"...)."""
        budget = Budget(**self.budget.model_dump())
        if preset == "default":
            return budget
        if preset not in self.presets:
            raise UsageError(unknown(f"budget preset of {self.name}", preset, ["default", *self.presets]))
        return budget.override(**self.presets[preset].model_dump())

    def check(self, budget: Budget) -> Budget:
        """`budget`, unless it allows more than the part has; raises UsageError then."""
        for name, region in (("ram_bytes", self.memory.sram), ("flash_bytes", self.memory.flash)):
            if getattr(budget, name) > region.bytes:
                raise UsageError(
                    f"budget {name}: {getattr(budget, name):,.0f} is more than {self.name} has ({region.bytes:,} in one block); lower it"
                )
        return budget

    def cycles(self, cycles: int, flash_read_bytes: int, fetch_lines: int, constants_bytes: int) -> int:
        """All cycles of a run: the core's own at zero wait states, and those that it waits for flash or memory.

        Args:
            flash_read_bytes, fetch_lines: what the run read from flash, as data and as code.
            constants_bytes: weights, parameters and layer table of the student.
        """
        waits = 0.0
        if self.flash_wait is not None:
            waits += self.flash_wait.cycles_per_byte * flash_read_bytes + self.flash_wait.cycles_per_line * fetch_lines
        if self.weight_stream is not None and constants_bytes > self.weight_stream.cache_bytes:
            waits += constants_bytes / self.weight_stream.bytes_per_cycle
        return round(cycles + waits)

    def latency_us(self, cycles: float) -> float:
        """Microseconds that `cycles` take at the profile's clock."""
        return cycles / self.clock_hz * 1e6

    def energy_uj(self, cycles: float) -> float:
        """Microjoules that `cycles` take."""
        if self.energy.pj_per_cycle is not None:
            return cycles * self.energy.pj_per_cycle * 1e-6
        return self.latency_us(cycles) * (self.energy.power_mw or 0.0) * 1e-3

    @property
    def uncertainty_factor(self) -> float:
        """Latency may be so many times higher or lower; 1 where nothing is stated."""
        return self.uncertainty.factor if self.uncertainty else 1.0

    @property
    def energy_uncertainty_factor(self) -> float:
        """The same for energy and power."""
        return (self.uncertainty.energy_factor or self.uncertainty.factor) if self.uncertainty else 1.0

    def doubt(self, name: str) -> str:
        """The uncertainty to show beside a figure of that name, such as "(x2 either way)"; empty where there is none."""
        doubtful = {"latency_us": self.uncertainty_factor}
        doubtful |= dict.fromkeys(("energy_uj", "average_power_uw"), self.energy_uncertainty_factor)
        factor = doubtful.get(name, 1.0)
        return f"(x{factor:g} either way)" if factor > 1 else ""

    @property
    def table_path(self) -> Path:
        """The lookup table of the core, beside the YAML file."""
        return folder("hw_profiles") / self.lookup_table


class Bound(Model):
    """One thing that can be said of a part: a quantity lies between two figures, for a reason."""

    quantity: Text
    at_least: NotNegative
    at_most: Positive
    unit: Text
    reason: Text


class Published(Model):
    """What others have published of a part."""

    what: Text
    latency_ms: Positive
    power_mw: Positive
    source: Text
    status: Text


class BoundsProfile(Model):
    """A part without figures of its own: nothing can be searched for it."""

    name: Text
    kind: Literal["bounds"]
    description: Text
    core: Text
    reason: Text
    search_instead: Text
    bounds: list[Bound]
    published: list[Published]


def names() -> list[str]:
    """Names of the profiles that are installed, of either kind."""
    return sorted(path.stem for path in folder("hw_profiles").glob("*.yaml"))


def read(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UsageError: none of that name (with those there are), or one that has only bounds (with the one to use instead).
        ConfigError: a broken file.
    """
    found = read_any(name)
    if isinstance(found, BoundsProfile):
        raise UsageError(
            f"profile '{name}' has bounds only and no figures to search with: {found.reason}; "
            f"search for '{found.search_instead}' instead; `hwnas profiles {name}` shows the bounds"
        )
    return found


def read_any(name: str) -> Profile | BoundsProfile:
    """The profile of that name, whatever its kind; raises as `read`."""
    path = lookup({n: folder("hw_profiles") / f"{n}.yaml" for n in names()}, name, "hardware profile")
    bounds = read_yaml(path).get("kind") == "bounds"
    profile: Profile | BoundsProfile = load(path, BoundsProfile) if bounds else load(path, Profile)
    if profile.name != name:
        raise ConfigError(f"{path}: 'name' is '{profile.name}', must be the file's name '{name}'")
    if isinstance(profile, Profile):
        for preset in ("default", *profile.presets):
            try:
                profile.check(profile.limits(preset))
            except UsageError as error:
                raise ConfigError(f"{path}: preset '{preset}': {error}") from error
    return profile


BUDGET_FIELDS = tuple(field.name for field in fields(Budget))
