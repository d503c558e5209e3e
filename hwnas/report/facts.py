"""What was run, as short lines that every format shows. Pure: no files."""

from __future__ import annotations

from hwnas.report.content import COSTS, KINDS, NONE, Front, doubt, figure, source

LOOK = "quick effort: a look, not a result"
OBJECTIVES = (
    "The front has four objectives (error, latency, RAM, flash), so a point that looks dominated in one view may be on the front "
    "for another objective."
)


def warning(front: Front) -> str:
    """What to know before any figure of this run is read; empty for a run of normal effort."""
    return LOOK if front.get("effort") == "quick" else ""


def heading(front: Front) -> str:
    """Task and profile, with the warning where there is one."""
    name = f"{front.get('task')} on {front.get('profile')}"
    return f"{name} ({warning(front)})" if warning(front) else name


def facts(front: Front) -> list[tuple[str, str]]:
    """What was run, as (name, value)."""
    budget = front.get("budget", {})
    limits = ", ".join(f"{q.name} {budget[name] / q.divisor:,g} {q.unit}" for name, q in COSTS.items() if budget.get(name) is not None)
    spaces = (front.get("search") or {}).get("spaces") or []
    stated = [("spaces", ", ".join(spaces)), ("effort", warning(front) or front.get("effort")), ("service", front.get("service"))]
    return [
        ("profile", figure(front.get("profile"))),
        *_hardware(front),
        ("task", figure(front.get("task"))),
        ("data", f"{front.get('data') or NONE} ({source(front)})"),
        *_windows(front),
        ("seed", str(front.get("seed", NONE))),
        ("split seed", str(front.get("split_seed", NONE))),
        *((name, str(value)) for name, value in stated if value),
        ("budget", limits or NONE),
    ]


def _hardware(front: Front) -> list[tuple[str, str]]:
    """Core and clock, and where cycles, energy and their uncertainty come from."""
    hardware = front.get("hardware") or {}
    rows = [("core", f"{hardware['core']}, {hardware['clock_hz'] / 1e6:,g} MHz")] if "core" in hardware else []
    rows += [(label, hardware[kind].removeprefix(f"{label}: ")) for kind, label in KINDS.items() if hardware.get(kind)]
    rows += [("energy figure", hardware["energy"])] if hardware.get("energy") else []
    rows += [("waits for flash", hardware["flash_wait"])] if hardware.get("flash_wait") else []
    if hardware.get("uncertainty"):
        marks = ", ".join(f"{COSTS[name].name} {doubt(front, name)}" for name in ("latency_us", "energy_uj"))
        rows.append(("uncertainty", f"{marks}: {hardware['uncertainty']}"))
    return rows


def _windows(front: Front) -> list[tuple[str, str]]:
    """Window length, and the windows and subjects of every part of the split."""
    windows = front.get("windows") or {}
    rows = [("window length", f"{windows['window_s']:g} s")] if windows.get("window_s") is not None else []
    parts = windows.get("parts") or {}
    return rows + [(name, f"{figure(part['windows'])} windows of {figure(part['subjects'])} subjects") for name, part in parts.items()]
