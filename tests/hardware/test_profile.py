"""Profiles and budgets: units in closed form, presets, overrides, and refusals that name what is wrong."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from hwnas.errors import ConfigError, UsageError
from hwnas.hardware import profile as profiles
from hwnas.hardware.profile import BUDGET_FIELDS, BoundsProfile, Budget, FlashWait, Uncertainty
from hwnas.resources import folder

NAME = "cortex-m4-192k"
TABLES = [name for name in profiles.names() if profiles.read_any(name).kind == "table"]
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
    assert "52 uA/MHz" in profile.energy.source and profile.energy.pj_per_cycle is not None
    assert math.isclose(profile.energy.pj_per_cycle, 52e-6 * profile.energy.supply_v / 1e6 * 1e12, rel_tol=0.01)


@pytest.mark.parametrize("name", TABLES)
def test_budget_of_a_shipped_profile_fits_its_memory(name: str) -> None:
    profile = profiles.read(name)
    for preset in ("default", *profile.presets):
        limits = profile.limits(preset)
        assert limits.ram_bytes <= profile.memory.sram.bytes
        assert limits.flash_bytes <= profile.memory.flash.bytes
        assert profile.check(limits) == limits
    assert profile.lookup_table == f"{profile.core}.csv"


@pytest.mark.parametrize("name", TABLES)
def test_a_limit_above_the_part_is_refused(name: str) -> None:
    profile = profiles.read(name)
    for limit, region in (("ram_bytes", profile.memory.sram), ("flash_bytes", profile.memory.flash)):
        whole = profile.limits().override(**{limit: region.bytes})
        assert profile.check(whole) == whole
        with pytest.raises(UsageError, match=rf"budget {limit}: {region.bytes + 1:,} is more than {name} has \({region.bytes:,}"):
            profile.check(whole.override(**{limit: region.bytes + 1}))


@pytest.mark.parametrize("name", TABLES)
def test_regions_of_a_part_do_not_overlap(name: str) -> None:
    memory = profiles.read(name).memory
    regions = sorted((r.origin, r.origin + r.bytes) for r in (memory.flash, memory.sram, *memory.other))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(regions))


def test_the_ccm_of_an_f405_is_no_part_of_its_block() -> None:
    memory = profiles.read("stm32f405").memory
    assert memory.sram.bytes == (112 + 16) * 1024
    (ccm,) = memory.other
    assert (ccm.name, ccm.origin, ccm.bytes) == ("CCM", 0x10000000, 64 * 1024)
    assert memory.sram.bytes + ccm.bytes == 192 * 1024


def test_weights_that_stream_from_flash_cost_cycles_where_the_part_waits() -> None:
    still, waits = profiles.read(NAME), profiles.read("stm32l4r5")
    assert still.cycles(1000, 10**6, 10**6, 10**6) == 1000
    assert waits.cycles(1000, 301, 10**6, 10**6) == 1150  # half a cycle a byte, rounded to even
    lined = waits.model_copy(update={"flash_wait": FlashWait(cycles_per_byte=0.0, cycles_per_line=1.5, source="-")})
    assert lined.cycles(1000, 10**6, 11, 10**6) == 1016


def test_weights_stream_from_memory_only_when_they_leave_the_first_cache() -> None:
    watch = profiles.read("watch-a53")
    assert watch.cycles(1000, 10**6, 10**6, 32 << 10) == 1000
    assert watch.cycles(1000, 10**6, 10**6, (32 << 10) + 2) == 1000 + (16 << 10) + 1


def test_energy_by_time_is_energy_by_cycle_at_the_clock() -> None:
    watch = profiles.read("watch-a53")
    assert watch.energy.power_mw == 200.0
    assert watch.energy_uj(1.7e9) == pytest.approx(200e3)  # a second at 200 mW
    assert watch.energy_uj(1.7e6) == pytest.approx(watch.latency_us(1.7e6) * 0.2)


def test_l4r5_takes_the_middle_of_its_published_range_and_states_it() -> None:
    energy = profiles.read("stm32l4r5").energy
    assert energy.pj_per_cycle == (323 + 374) / 2
    assert "323-374" in energy.source and energy.supply_v == 1.8


def test_uncertainty_is_stated_for_the_watch_and_is_1_elsewhere() -> None:
    watch = profiles.read("watch-a53")
    assert (watch.uncertainty_factor, watch.energy_uncertainty_factor) == (2.0, 4.0)
    assert watch.uncertainty is not None and watch.uncertainty.reason == "static in-order model, uncalibrated"
    assert (profiles.read(NAME).uncertainty_factor, profiles.read(NAME).energy_uncertainty_factor) == (1.0, 1.0)
    plain = watch.model_copy(update={"uncertainty": Uncertainty(factor=3.0, reason="-")})
    assert plain.energy_uncertainty_factor == 3.0


def test_a_part_with_bounds_only_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(UsageError, match=r"'apple-watch-s9' has bounds only.*'watch-a53' instead; `hwnas profiles apple-watch-s9`"):
        profiles.read("apple-watch-s9")
    bounds = profiles.read_any("apple-watch-s9")
    assert isinstance(bounds, BoundsProfile)
    assert bounds.search_instead in TABLES
    assert [(p.latency_ms, p.power_mw, p.status) for p in bounds.published] == [
        (45.0, 85.0, "published by others, not reproduced"),
        (3.2, 8.0, "published by others, not reproduced"),
    ]


def test_bounds_follow_from_their_reasons() -> None:
    bounds = profiles.read_any("apple-watch-s9")
    assert isinstance(bounds, BoundsProfile)
    macs, power = bounds.bounds
    assert macs.at_least == pytest.approx(1e6 / (2 * 4 * 16 * 2.05e9) * 1e3, rel=0.01)
    assert macs.at_most == pytest.approx(1e6 * 4 / 1e9 * 1e3)
    assert power.at_most == pytest.approx(0.308 * 3.86 / 18 * 1e3, rel=0.01)
    assert all(bound.at_least < bound.at_most for bound in bounds.bounds)


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
    with pytest.raises(UsageError, match=rf"unknown hardware profile 'cortex-m4-192'.*{NAME}.*Did you mean '{NAME}'"):
        profiles.read("cortex-m4-192")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of profiles with one copy of the shipped one."""
    text = (folder("hw_profiles") / f"{NAME}.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace(f"name: {NAME}", "name: mine"))
    monkeypatch.setattr(profiles, "folder", lambda _: tmp_path)
    return tmp_path / "mine.yaml"


def test_any_yaml_file_in_the_folder_is_a_profile(mine: Path) -> None:
    assert profiles.names() == ["mine"]
    assert profiles.read("mine").table_path == mine.parent / "cortex-m4.csv"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_hz:", "clock_hertz:", r"'clock_hertz': unknown key.*Did you mean 'clock_hz'"),
        ("pj_per_cycle:", "pj_per_cycles:", r"'energy\.pj_per_cycles': unknown key.*Did you mean 'pj_per_cycle'"),
        ("strict: {ram_bytes", "strict: {ram_byte", r"'presets\.strict\.ram_byte': unknown key.*Did you mean 'ram_bytes'"),
        ("128_000_000", "0", r"'clock_hz'.*greater than 0, got 0"),
        ("155.0", "'155'", r"'energy\.pj_per_cycle'.*got '155'"),
        ("core: cortex-m4\n", "", r"key 'core' is missing"),
        ("  pj_per_cycle: 155.0\n", "", r"'energy': give either pj_per_cycle or power_mw"),
        ("  pj_per_cycle: 155.0\n", "  pj_per_cycle: 155.0\n  power_mw: 1.0\n", r"'energy': give either pj_per_cycle or power_mw"),
        ("ram_bytes: 65_536", "ram_bytes: 196_609", r"preset 'default': budget ram_bytes: 196,609 is more than mine has \(196,608"),
        ("strict: {ram_bytes: 32_768", "strict: {flash_bytes: 1_048_577", r"preset 'strict': budget flash_bytes: 1,048,577 is more"),
        ("sram: {origin", "other: [{bytes: 1, name: x, note: y}]\n  sram: {origin", r"'memory\.other\.0\.origin' is missing"),
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
