"""How long a battery lasts a device that runs a student: a formula, and every figure in it with its source. Pure.

The default device is a wrist sensor: a battery of 10 mAh, one inference every 30 s, on a microcontroller like the nRF52840.
Inference and sleep of the microcontroller are modelled. Sensing is where its power is given; radio and display never are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from hwnas.errors import UsageError, unknown

HOURS_A_DAY = 24
MODELLED = "Of the device only inference and the sleep of the microcontroller are modelled"
NOT_SENSING = f"{MODELLED}: sensing (light source, analogue front end, sampling), radio and display are not, so a real one lasts shorter."
SENSING = "Inference, the sleep of the microcontroller and the sensing power given are modelled; radio and display are not."


@dataclass(frozen=True, slots=True)
class Assumption:
    """One figure: what it is of, its value and unit, and where it comes from. None: not modelled."""

    name: str
    value: float | None
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Device:
    """What is assumed of the device that carries a student."""

    capacity_mah: Assumption
    supply_v: Assumption
    period_s: Assumption
    sleep_ua: Assumption
    sensing_uw: Assumption

    def given(self, source: str, **values: float) -> Device:
        """The same device with other figures, which come from `source`: `given("--window-s", period_s=10)`.

        Raises:
            UsageError: no such figure, or one that is not finite or negative; capacity, supply and period must be above 0.
        """
        changed = {}
        for name, value in values.items():
            if name not in _NAMES:
                raise UsageError(unknown("figure of a device", name, _NAMES))
            if not math.isfinite(value) or value < 0 or (value == 0 and name in _ABOVE_ZERO):
                allowed = "above 0" if name in _ABOVE_ZERO else "0 or above"
                raise UsageError(f"{name}: got {value}, must be a number {allowed}")
            changed[name] = replace(getattr(self, name), value=float(value), source=source)
        return replace(self, **changed)

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Every figure, in the order in which a report shows them."""
        return tuple(getattr(self, name) for name in _NAMES)


_NAMES = tuple(f.name for f in fields(Device))
_ABOVE_ZERO = ("capacity_mah", "supply_v", "period_s")

_ARTICLE = 'the article "PPG Knowledge Distillation"'
WRIST_SENSOR = Device(
    capacity_mah=Assumption("battery capacity", 10.0, "mAh", f"{_ARTICLE}: a wrist sensor of 10 mAh and 32 KB of RAM"),
    supply_v=Assumption("supply", 3.0, "V", "what the energy per cycle of the Cortex-M4 profiles holds for"),
    period_s=Assumption("inference period", 30.0, "s", f"{_ARTICLE}: segments of 30 s, one inference each"),
    # ION_RAMON_RTC of the specification
    sleep_ua=Assumption("sleep current", 3.16, "uA", "nRF52840 product specification, System ON, RAM kept, woken by RTC (second-hand)"),
    sensing_uw=Assumption("sensing power", None, "uW", "not modelled: it depends on the sensor, and is often the largest part"),
)


@dataclass(frozen=True, slots=True)
class Life:
    """How long the battery lasts, and what it is spent on.

    Attributes:
        days: with the energy as it stands.
        days_least, days_most: with an energy so many times higher or lower as it is uncertain.
        inference_uw, sleep_uw, sensing_uw, average_uw: average power by what it is for, and of all; sensing None where not modelled.
        note: what is modelled and what is not, to be shown wherever `days` is.
        assumptions: every figure but the student's energy.
    """

    days: float
    days_least: float
    days_most: float
    inference_uw: float
    sleep_uw: float
    sensing_uw: float | None
    average_uw: float
    note: str
    assumptions: tuple[Assumption, ...]


def life(energy_uj: float, device: Device = WRIST_SENSOR, uncertainty_factor: float = 1.0) -> Life:
    """Days that the battery of `device` lasts at `energy_uj` an inference.

        average power = energy / period + sleep current * supply + sensing power                  (uW)
        days = 1000 * capacity * supply / (24 * average power)                                    (mAh, V, uW)

    All of the capacity is usable at the supply's voltage; self-discharge and the losses of a regulator are left out. The sleep current
    flows all the time, during inference as well.

    Raises:
        UsageError: an energy that is negative or not finite, or an uncertainty factor below 1; or nothing that draws power.
    """
    if not math.isfinite(energy_uj) or energy_uj < 0:
        raise UsageError(f"energy of an inference: got {energy_uj} uJ, must be a number of 0 or above")
    if not math.isfinite(uncertainty_factor) or uncertainty_factor < 1:
        raise UsageError(f"uncertainty of the energy: got factor {uncertainty_factor}, must be 1 or above")
    figures = {name: getattr(device, name).value for name in _NAMES}
    inference, sleep = energy_uj / figures["period_s"], figures["sleep_ua"] * figures["supply_v"]
    sensing = figures["sensing_uw"]
    rest = sleep + (sensing or 0.0)
    if inference + rest == 0:
        raise UsageError("nothing draws power: give an energy, a sleep current or a sensing power above 0")
    return Life(
        days=_days(figures, inference + rest),
        days_least=_days(figures, inference * uncertainty_factor + rest),
        days_most=_days(figures, inference / uncertainty_factor + rest),
        inference_uw=inference,
        sleep_uw=sleep,
        sensing_uw=sensing,
        average_uw=inference + rest,
        note=NOT_SENSING if sensing is None else SENSING,
        assumptions=device.assumptions,
    )


def _days(figures: Mapping[str, float], power_uw: float) -> float:
    return 1000 * figures["capacity_mah"] * figures["supply_v"] / (HOURS_A_DAY * power_uw)
