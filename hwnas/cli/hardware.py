"""What `hwnas profiles` shows. Pure: returns rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hwnas.cli.display import plain_table
from hwnas.hardware.profile import BoundsProfile, Profile, Region, energy_figure

NONE = "–"  # noqa: RUF001  (an en dash, for a figure that does not exist)


def profile_list(profiles: Sequence[Profile | BoundsProfile]) -> list[Table]:
    """One row a profile, then where each figure of energy comes from."""
    figures = plain_table("profile", "core", "clock", "SRAM", "flash", "energy", "kind")
    sources = plain_table("profile", "source of the energy; uncertainty")
    for p in profiles:
        if isinstance(p, BoundsProfile):
            figures.add_row(p.name, *[NONE] * 5, p.kind)
            sources.add_row(p.name, f"no figures: {p.reason}")
            continue
        sizes = (_size(p.memory.sram), _size(p.memory.flash))
        figures.add_row(p.name, p.core, _clock(p), *sizes, energy_figure(p.energy), p.kind)
        sources.add_row(p.name, p.energy.source + (f"; latency {_uncertainty(p)}" if p.uncertainty else ""))
    return [figures, sources]


def one_profile(profile: Profile | BoundsProfile) -> list[Table]:
    """Everything that a profile says."""
    return _bounds(profile) if isinstance(profile, BoundsProfile) else [_facts(profile), _budgets(profile)]


def _facts(p: Profile) -> Table:
    table = plain_table(p.name, "")
    rows = [("part", p.description), ("core", p.core), ("clock", _clock(p))]
    rows += [("SRAM, one block", _region(p.memory.sram)), ("flash", _region(p.memory.flash))]
    rows += [(f"{other.name}, not used", f"{_region(other)}: {other.note}") for other in p.memory.other]
    rows.append(("energy", f"{energy_figure(p.energy)} at {p.energy.supply_v:g} V, {p.energy.regulator}"))
    rows.append(("its source", p.energy.source))
    if p.flash_wait:
        figures = f"{p.flash_wait.cycles_per_byte:g} cycles a byte of weights, {p.flash_wait.cycles_per_line:g} a line of code"
        rows.append(("waits for flash", f"{figures}: {p.flash_wait.source}"))
    else:
        rows.append(("waits for flash", "none modelled"))
    rows.append(("uncertainty", _uncertainty(p) or "not stated"))
    rows.append(("lookup table", p.lookup_table))
    for row in rows:
        table.add_row(*row)
    return table


def _budgets(p: Profile) -> Table:
    table = plain_table("budget", "RAM", "flash", "latency", "energy", "average power")
    for name in ("default", *p.presets):
        b = p.limits(name)
        sizes = (f"{b.ram_bytes // 1024} KB", f"{b.flash_bytes // 1024} KB")
        table.add_row(name, *sizes, f"{b.latency_us / 1e3:g} ms", f"{b.energy_uj:g} uJ", f"{b.average_power_uw:g} uW")
    return table


def _bounds(p: BoundsProfile) -> list[Table]:
    facts = plain_table(p.name, "")
    facts.add_row("part", p.description)
    facts.add_row("core", p.core)
    facts.add_row("no figures", p.reason)
    facts.add_row("search for", p.search_instead)
    bounds = plain_table("bound", "")
    for b in p.bounds:
        bounds.add_row(b.quantity, f"{b.at_least:g} to {b.at_most:g} {b.unit}: {b.reason}")
    published = plain_table("published", "")
    for point in p.published:
        published.add_row(point.what, f"{point.latency_ms:g} ms, {point.power_mw:g} mW; {point.status}; {point.source}")
    return [facts, bounds, published]


def _clock(p: Profile) -> str:
    return f"{p.clock_hz / 1e6:,g} MHz" if p.clock_hz < 1e9 else f"{p.clock_hz / 1e9:g} GHz"


def _size(region: Region) -> str:
    return f"{region.bytes / 2**20:g} MB" if region.bytes >= 2**20 else f"{region.bytes // 1024} KB"


def _region(region: Region) -> str:
    return f"{_size(region)} at 0x{region.origin:08X}"


def _uncertainty(p: Profile) -> str:
    if p.uncertainty is None:
        return ""
    energy = f", energy x{p.energy_uncertainty_factor:g}" if p.energy_uncertainty_factor != p.uncertainty_factor else ""
    return f"x{p.uncertainty_factor:g} either way{energy} ({p.uncertainty.reason})"
