"""How a search went, how long a battery lasts, and how the run is made again: parts of the overview. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from hwnas.report.battery import SENSING, WRIST_SENSOR, Assumption, life
from hwnas.report.charts import Plane, legend, missing, table, tag
from hwnas.report.content import COSTS, EMULATED, KINDS, NONE, PREDICTED, Report, cost, doubt, doubt_factor, figure, flatten, share
from hwnas.report.history import Rejections, Step, hypervolumes, rejections
from hwnas.report.listing import anchor

STYLES = 4  # lines of limits that are told apart
CHANGED = ("capacity_mah", "supply_v", "period_s", "sleep_ua", "sensing_uw")


def search(report: Report) -> str:
    """Hypervolume over candidates, and rejections by reason."""
    steps = hypervolumes(report.front, report.trials)
    grown = (
        _growth(steps, len(report.trials))
        if steps
        else missing("Hypervolume", "The run has no scored candidate, or does not state its budget.")
    )
    found = rejections(report.trials)
    return f'<div class="pair"><div><h3>Hypervolume</h3>{grown}</div><div><h3>Rejections by reason</h3>{_rejected(found)}</div></div>'


def _growth(steps: list[Step], judged: int) -> str:
    last = steps[-1].hypervolume
    plane = Plane((0, max(judged, 1)), (0, max(last * 1.15, 1e-6)))
    corners: list[tuple[float, float]] = [(0, 0)]
    for step in steps:
        if step.hypervolume != corners[-1][1]:  # only where it rises: thousands of candidates draw a few lines
            corners += [(step.candidate, corners[-1][1]), (step.candidate, step.hypervolume)]
    corners.append((judged, last))
    marks = [plane.line(corners, "int8"), plane.text(judged, last, f"{last:.3f}", "name", "end", (0, -8))]
    told = f"Hypervolume over {judged:,} candidates, up to {last:.3f}"
    note = (
        "Of all scored candidates, by predicted cost and error after the short distillation; 1 would be no error at no cost. "
        f"{len(steps):,} of {judged:,} were scored."
    )
    return plane.chart(marks, ("candidates judged", "hypervolume"), told) + f'<p class="note">{escape(note)}</p>'


def _rejected(found: Rejections) -> str:
    if not found.total or not found.total[-1]:
        return '<p class="note">No candidate was rejected.</p>'
    total, judged = found.total[-1], found.candidates
    plane = Plane((0, judged), (0, total * 1.1))
    marks = [plane.line(_thin((0, *found.total)), "all")]
    entries = [("all", f"all, {total:,}")]
    for number, (name, counts) in enumerate(found.by_limit.items()):
        style = f"limit{number % STYLES}"
        marks.append(plane.line(_thin((0, *counts)), style))
        entries.append(
            (style, f"{COSTS[name].name if name in COSTS else name.replace('_', ' ')}, {counts[-1]:,} ({share(counts[-1] / total, 0)})")
        )
    told = f"{total:,} of {judged:,} candidates rejected: " + "; ".join(words for _, words in entries)
    note = "Over budget as predicted, so never trained. A candidate that breaks two limits counts for both."
    return plane.chart(marks, ("candidates judged", "rejected so far"), told) + legend(entries) + f'<p class="note">{note}</p>'


def _thin(counts: tuple[int, ...], most: int = 120) -> list[tuple[float, float]]:
    """A rising count as at most so many points, its last among them."""
    step = max(1, -(-len(counts) // most))
    kept = [*range(0, len(counts), step)]
    return [(float(i), float(counts[i])) for i in dict.fromkeys([*kept, len(counts) - 1])]


def energies(report: Report) -> tuple[str, dict[str, float]]:
    """(kind, id -> energy of one inference in microjoules), all of one kind: emulated where every student has that."""
    for kind in (EMULATED, PREDICTED):
        found = {str(s["id"]): cost(s, "energy_uj", kind) for s in report.students}
        if found and all(value is not None for value in found.values()):
            return kind, {identity: float(value) for identity, value in found.items() if value is not None}
    found = {str(s["id"]): cost(s, "energy_uj", PREDICTED) for s in report.students}
    return PREDICTED, {identity: float(value) for identity, value in found.items() if value is not None}


def battery(report: Report) -> str:
    """Days on a battery for every student, with figures of the device that a reader can change."""
    kind, known = energies(report)
    if not known:
        return missing("Battery life", "No student has an energy.")
    factor = doubt_factor(report.front, "energy_uj")
    inputs = "".join(_input(name, getattr(WRIST_SENSOR, name)) for name in CHANGED)
    rows = "".join(
        f'<tr data-energy="{json.dumps(energy)}"><th scope="row"><a href="#{escape(anchor(identity))}">{escape(identity)}</a></th>'
        f'<td class="days">{found.days:,.0f}</td><td class="bar"><i></i></td><td class="power">{found.average_uw:,.2f}</td>'
        f"<td>{COSTS['energy_uj'].show(energy, doubt(report.front, 'energy_uj'))}</td></tr>"
        for identity, energy in known.items()
        for found in [life(energy, WRIST_SENSOR, factor)]
    )
    first = life(next(iter(known.values())), WRIST_SENSOR, factor)
    doubted = f" Energy may be {factor:g} times higher or lower: in brackets, the days for both." if factor > 1 else ""
    sources = table(
        [("figure", ""), ("default", ""), ("source", "")],
        ((a.name, _default(a), a.source) for a in WRIST_SENSOR.assumptions),
        "facts-table",
    )
    return (
        f'<p class="note"><span id="battery-note">{escape(first.note)}</span>{escape(doubted)}</p>'
        f'<form class="tools" id="battery" autocomplete="off" data-sensing="{escape(SENSING)}" data-factor="{factor:g}">{inputs}</form>'
        '<p id="battery-wrong" class="marked" role="alert"></p><div class="scroll" tabindex="0"><table class="figures" id="battery-days">'
        '<thead><tr><th scope="col">student</th><th scope="col">days<small>modelled</small></th><th class="bar" aria-hidden="true"></th>'
        '<th scope="col">average power, µW<small>modelled</small></th>'
        f'<th scope="col">energy, µJ<small>{escape(KINDS[kind])}</small></th></tr></thead><tbody>{rows}</tbody></table></div>'
        f"<details><summary>Where the defaults come from</summary>{sources}</details>"
    )


def _default(assumption: Assumption) -> str:
    return "not modelled" if assumption.value is None else f"{assumption.value:g} {assumption.unit}"


def _input(name: str, assumption: Assumption) -> str:
    value = "" if assumption.value is None else f"{assumption.value:g}"
    return (
        f"<label>{escape(assumption.name)}, {escape(assumption.unit.replace('u', 'µ'))} "
        f'<input type="number" name="{name}" min="0" step="any" value="{value}" placeholder="none"></label>'
    )


def reproduce(report: Report) -> str:
    """The command that makes the run again, and what it was made with."""
    run = report.run_yaml
    commands = {
        "Make this run again": "hwnas search --config RUN/run.yaml --out runs/again",
        "Go on with it": "hwnas search --resume --out RUN",
        "Make this page again": "hwnas report RUN",
    }
    lines = "".join(f'<p class="command"><span>{escape(words)}</span><code>{escape(text)}</code></p>' for words, text in commands.items())
    if not run:
        return lines + missing("Settings and versions", "The folder held no run.yaml.")
    config = ((name, _plain(value)) for name, value in flatten(run.get("config") or {}))
    versions = [("hwnas", figure(run.get("hwnas"))), *((name, _plain(value)) for name, value in flatten(run.get("versions") or {}))]
    prints = ((name, _plain(value)) for name, value in flatten(run.get("fingerprint") or {}))
    heads = [("what", ""), ("value", "")]
    return (
        f'{lines}<div class="pair"><div><h3>Settings</h3>{table(heads, config, "facts-table")}</div>'
        f"<div><h3>Versions</h3>{table(heads, versions, 'facts-table')}"
        f"<details><summary>Fingerprint of what settings stood for</summary>{table(heads, prints, 'facts-table')}</details></div></div>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return NONE if value is None else str(value)


def teacher(report: Report) -> str:
    """The tags of the teacher's card."""
    found: Mapping[str, Any] = report.front.get("teacher") or {}
    return tag(str(found.get("provenance") or "float"))
