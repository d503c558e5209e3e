"""Battery life in closed form, and that every figure in it says where it comes from."""

from __future__ import annotations

import math

import pytest

from hwnas.errors import UsageError
from hwnas.report.battery import WRIST_SENSOR, life

BARE = WRIST_SENSOR.given("test", capacity_mah=10, supply_v=3, period_s=30, sleep_ua=0)


def test_charge_over_current() -> None:
    """10 mAh at 1 mA are 10 hours, however that milliampere comes about."""
    by_inference = life(3000.0 * 30, BARE)
    by_sleep = life(0.0, BARE.given("test", sleep_ua=1000))
    by_sensing = life(0.0, BARE.given("test", sensing_uw=3000))
    assert by_inference.days == pytest.approx(10 / 24) == by_sleep.days == by_sensing.days
    assert by_inference.average_uw == by_sleep.average_uw == by_sensing.average_uw == 3000
    assert (by_inference.inference_uw, by_inference.sleep_uw, by_inference.sensing_uw) == (3000, 0, None)
    together = life(3000.0 * 30, BARE.given("test", sleep_ua=1000, sensing_uw=3000))
    assert together.days == pytest.approx(10 / 72) and together.sensing_uw == 3000


def test_the_wrist_sensor_by_hand() -> None:
    """10 mAh at 3 V are 108 J; 60 uJ every 30 s and 3.16 uA at 3 V are 11.48 uW."""
    found = life(60.0)
    assert found.days == pytest.approx(108 / 11.48e-6 / 86_400)
    assert (found.inference_uw, found.sleep_uw) == (pytest.approx(2.0), pytest.approx(9.48))
    assert found.days_least == found.days == found.days_most
    assert [(a.name, a.value, a.unit) for a in found.assumptions] == [
        ("battery capacity", 10.0, "mAh"),
        ("supply", 3.0, "V"),
        ("inference period", 30.0, "s"),
        ("sleep current", 3.16, "uA"),
        ("sensing power", None, "uW"),
    ]
    assert all(a.source for a in found.assumptions)


def test_uncertain_energy_gives_a_range() -> None:
    found = life(60.0, uncertainty_factor=4)
    assert found.days_least == life(240.0).days < found.days == life(60.0).days < found.days_most == life(15.0).days


def test_what_is_not_modelled_is_said() -> None:
    assert "sensing" in life(60.0).note and "lasts shorter" in life(60.0).note
    sensed = life(60.0, WRIST_SENSOR.given("data sheet", sensing_uw=50))
    assert "the sensing power given" in sensed.note and "radio and display are not" in sensed.note
    assert sensed.days == pytest.approx(108 / 61.48e-6 / 86_400)


def test_given_figures_name_their_source() -> None:
    device = WRIST_SENSOR.given("--window-s", period_s=10)
    assert (device.period_s.value, device.period_s.source, device.period_s.unit) == (10.0, "--window-s", "s")
    assert device.capacity_mah == WRIST_SENSOR.capacity_mah and WRIST_SENSOR.period_s.value == 30.0


@pytest.mark.parametrize("name", ["capacity_mah", "supply_v", "period_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_figures_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"{name}: got .*, must be a number above 0"):
        WRIST_SENSOR.given("test", **{name: value})


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown figure of a device 'capacity'; choose one of: capacity_mah"):
        WRIST_SENSOR.given("test", capacity=1)
    with pytest.raises(UsageError, match="sleep_ua: got -1, must be a number 0 or above"):
        WRIST_SENSOR.given("test", sleep_ua=-1)
    for energy in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="energy of an inference"):
            life(energy)
    for factor in (0.5, math.nan):
        with pytest.raises(UsageError, match="uncertainty of the energy"):
            life(1.0, uncertainty_factor=factor)
    with pytest.raises(UsageError, match="nothing draws power"):
        life(0.0, BARE)
