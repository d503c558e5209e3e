"""Profiles and budgets: units in closed form, presets, overrides, and refusals that name what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hwnas.errors import ConfigError, UsageError
from hwnas.hardware import profile as profiles
from hwnas.hardware.profile import BUDGET_FIELDS, Budget
from hwnas.resources import folder

NAME = "cortex-m4-192k"
BUDGET = Budget(ram_bytes=1000, flash_bytes=2000, latency_us=30.0, energy_uj=4.0, average_power_uw=5.0)


def test_latency_and_energy_in_closed_form() -> None:
    profile = profiles.read(NAME)
    assert profile.latency_us(128) == 1.0
    assert profile.latency_us(128e6) == 1e6
    # 155 pJ a cycle at 128 million cycles a second are 19.84 mW.
    assert profile.energy_uj(128e6) == pytest.approx(155e-12 * 128e6 * 1e6)
    assert profile.energy_uj(128e6) == pytest.approx(19_840.0)
    assert profile.energy_uj(1_000_003) == pytest.approx(profile.latency_us(1_000_003) * 128 * 155e-6)


def test_energy_per_cycle_is_what_its_source_says() -> None:
    profile = profiles.read(NAME)
    # 52 uA/MHz at 3 V: 52e-6 A * 3 V / 1e6 Hz = 156 pJ, given as 155 pJ.
    assert "52 uA/MHz" in profile.energy.source
    assert math.isclose(profile.energy.pj_per_cycle, 52e-6 * profile.energy.supply_v / 1e6 * 1e12, rel_tol=0.01)


def test_budget_of_a_shipped_profile_fits_its_memory() -> None:
    for name in profiles.names():
        profile = profiles.read(name)
        for preset in ("default", *profile.presets):
            limits = profile.limits(preset)
            assert limits.ram_bytes <= profile.memory.sram.bytes
            assert limits.flash_bytes <= profile.memory.flash.bytes
        assert profile.table_path.is_file()


def test_a_preset_changes_only_what_it_names() -> None:
    profile = profiles.read(NAME)
    default, strict = profile.limits(), profile.limits("strict")
    assert (strict.ram_bytes, strict.latency_us) == (32_768, 5_000.0)
    assert default.override(ram_bytes=32_768, latency_us=5_000.0) == strict
    assert default.ram_bytes == 65_536 and default.flash_bytes == strict.flash_bytes


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=rf"budget preset of {NAME} 'stric'.*default, strict.*Did you mean 'strict'"):
        profiles.read(NAME).limits("stric")


@pytest.mark.parametrize("name", BUDGET_FIELDS)
def test_override_changes_one_limit(name: str) -> None:
    changed = BUDGET.override(**{name: 7})
    assert getattr(changed, name) == 7
    assert all(getattr(changed, other) == getattr(BUDGET, other) for other in BUDGET_FIELDS if other != name)


def test_override_with_none_keeps_every_limit() -> None:
    assert BUDGET.override(**dict.fromkeys(BUDGET_FIELDS)) == BUDGET


@pytest.mark.parametrize("value", [0, -1, 0.0, -0.5, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"latency_us: got .*must be above 0"):
        BUDGET.override(latency_us=value)


def test_an_unknown_profile_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=rf"unknown hardware profile 'cortex-m4'.*{NAME}.*Did you mean '{NAME}'"):
        profiles.read("cortex-m4")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of profiles with one copy of the shipped one."""
    text = (folder("hw_profiles") / f"{NAME}.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace(f"name: {NAME}", "name: mine"))
    monkeypatch.setattr(profiles, "folder", lambda _: tmp_path)
    return tmp_path / "mine.yaml"


def test_any_yaml_file_in_the_folder_is_a_profile(mine: Path) -> None:
    assert profiles.names() == ["mine"]
    assert profiles.read("mine").table_path == mine.parent / f"{NAME}.csv"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_hz:", "clock_hertz:", r"'clock_hertz': unknown key.*Did you mean 'clock_hz'"),
        ("pj_per_cycle:", "pj_per_cycles:", r"'energy\.pj_per_cycles': unknown key.*Did you mean 'pj_per_cycle'"),
        ("strict: {ram_bytes", "strict: {ram_byte", r"'presets\.strict\.ram_byte': unknown key.*Did you mean 'ram_bytes'"),
        ("128_000_000", "0", r"'clock_hz'.*greater than 0, got 0"),
        ("155.0", "'155'", r"'energy\.pj_per_cycle'.*got '155'"),
        ("core: cortex-m4f\n", "", r"key 'core' is missing"),
        ("name: mine", "name: yours", r"'name' is 'yours', must be the file's name 'mine'"),
    ],
)
def test_a_broken_profile_file_is_named_with_its_key(mine: Path, old: str, new: str, message: str) -> None:
    text = mine.read_text()
    assert old in text
    mine.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        profiles.read("mine")
    assert str(mine) in str(caught.value)
