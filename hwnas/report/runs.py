"""Several runs side by side: which figures may be compared, and the tables that do. Pure: no files, no plotting.

Runs stand in one table, on one pair of axes, only if they share their ground: profile, cost model, windows, split and real or
synthetic data. Another ground gets tables of its own. Runs of different tasks have no error in common and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas import pareto
from hwnas.errors import UsageError
from hwnas.pareto import Objectives
from hwnas.report.content import (
    COSTS,
    EMULATED,
    FIGURES,
    KINDS,
    NONE,
    PREDICTED,
    Column,
    Report,
    Section,
    Student,
    Trial,
    best_student,
    cost,
    doubt,
    figure,
    flatten,
    measure,
    metrics_of,
    primary,
    score,
    short_score,
    source,
    title,
)
from hwnas.report.facts import LOOK, warning

LIMITED = ("latency_us", "ram_bytes", "flash_bytes")  # the costs that are objectives


@dataclass(frozen=True, slots=True)
class Run:
    """One run under comparison, and what to call it."""

    name: str
    report: Report


@dataclass(frozen=True, slots=True)
class Ground:
    """Runs whose figures mean the same."""

    title: str
    runs: tuple[Run, ...]

    @property
    def primary(self) -> str:
        """The metric that all of them compared students by."""
        return primary(self.runs[0].report.front)

    @property
    def source(self) -> str:
        """ "real" or "synthetic"."""
        return source(self.runs[0].report.front)

    @property
    def kind(self) -> str:
        """Which costs are drawn and measured by: emulated ones where every student has them, else predicted ones for all."""
        students = [s for run in self.runs for s in run.report.front["students"]]
        return EMULATED if all(cost(s, name, EMULATED) is not None for s in students for name in COSTS) else PREDICTED

    @property
    def corner(self) -> Objectives:
        """The worst point of the hypervolume: the error of chance, and the loosest limit that any of the runs had."""
        budgets = [run.report.front["budget"] for run in self.runs]
        limits = {name: max(float(budget[name]) for budget in budgets) for name in LIMITED}
        return Objectives.of({"error": self.runs[0].report.front["chance_error"], **limits})

    def objectives(self, student: Student) -> Objectives | None:
        """What a student of the front is judged by, fully distilled and int8; None where a figure is lacking."""
        return _objectives(student, score(student, "validation", self.primary), self.primary, self.kind)

    def tried(self, trial: Trial) -> Objectives | None:
        """What a candidate was judged by after the short distillation, by its predicted cost."""
        return _objectives(trial, short_score(trial, self.primary), self.primary, PREDICTED)

    def volume(self, points: Sequence[Objectives]) -> float:
        """Hypervolume of `points` in units of `corner`: at most 1."""
        corner = np.array(self.corner.as_row())
        return pareto.hypervolume(pareto.as_rows(points) / corner, np.ones(len(corner)))


def _objectives(row: Mapping[str, Any], value: float | None, metric: str, kind: str) -> Objectives | None:
    costs = {name: cost(row, name, kind) for name in LIMITED}
    if value is None or None in costs.values():
        return None
    return Objectives.of({"error": value if measure(metric).lower else 1 - value, **costs})


def grounds(runs: Sequence[Run]) -> list[Ground]:
    """The runs, put together where their figures mean the same; in the order given.

    Raises:
        UsageError: runs of different tasks.
    """
    first = runs[0].report.front
    for run in runs[1:]:
        front = run.report.front
        if (front["task"], primary(front)) != (first["task"], primary(first)):
            raise UsageError(
                f"{runs[0].name} learned {first['task']} (compared by {title(primary(first))}), {run.name} {front['task']} "
                f"({title(primary(front))}): their errors have no axis in common; compare runs of one task"
            )
    found: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(_meaning(run).items()), []).append(run)
    members = list(found.values())
    names = [_title(each[0]) for each in members]
    return [
        Ground(
            name + _distinction(each[0], [other[0] for other, other_name in zip(members, names, strict=True) if other_name == name]),
            (*each,),
        )
        for name, each in zip(names, members, strict=True)
    ]


def _title(run: Run) -> str:
    front = run.report.front
    return f"{front['profile']}, {front.get('data') or NONE} ({source(front)}), split seed {front['split_seed']}"


def _meaning(run: Run) -> dict[str, str]:
    """What figures of a run depend on beside what was searched, as (name, value)."""
    front, prints = run.report.front, run.report.run_yaml.get("fingerprint") or {}
    hardware, windows = front["hardware"], front["windows"]
    methods = {name.replace("_", " "): hardware.get(name) for name in ("core", "clock_hz", "predicted", "emulated", "flash_wait", "energy")}
    made = {"kernels": prints.get("kernels"), "profile content": prints.get("profile_content")}
    data = {"source": source(front), "windows": windows.get("hash"), "parts": windows.get("parts"), "split seed": front["split_seed"]}
    found = {"profile": front["profile"], **methods, **made, **data, "error of chance": front["chance_error"]}
    return {name: str(value) for name, value in found.items()}


def _distinction(run: Run, namesakes: Sequence[Run]) -> str:
    """What tells a ground from others of the same title."""
    meanings = [_meaning(other) for other in namesakes]
    return "".join(f", {name} {value}" for name, value in _meaning(run).items() if len({m[name] for m in meanings}) > 1)


def apart(found: Sequence[Ground]) -> str:
    """Why runs do not share axes; empty where they do."""
    if len(found) < 2:
        return ""
    return (
        f"These runs stand on {len(found)} different grounds (profile, cost model, windows or split differ). Their figures are shown "
        "apart, never in one table: a difference between them is no difference between searches."
    )


def warnings(runs: Sequence[Run]) -> list[str]:
    """What to know before any figure is read."""
    quick = [run.name for run in runs if warning(run.report.front)]
    return [f"{', '.join(quick)}: {LOOK}"] if quick else []


def overview(found: Sequence[Ground]) -> Section:
    """Every run in a line: what was searched, and on which ground."""
    columns = ("run", "profile", "data", "split seed", "seed", "spaces", "effort", "scored", "on the front")
    rows = []
    for ground in found:
        for run in ground.runs:
            front = run.report.front
            search = front["search"]
            rows.append(
                (
                    run.name,
                    str(front["profile"]),
                    f"{front.get('data') or NONE} ({source(front)})",
                    str(front["split_seed"]),
                    str(front["seed"]),
                    ", ".join(search.get("spaces") or [NONE]),
                    str(front.get("effort") or NONE),
                    figure(search.get("scored")),
                    str(len(front["students"])),
                )
            )
    return Section("Runs", "Each as its folder is called.", tuple(map(Column, columns)), tuple(rows))


def settings(runs: Sequence[Run]) -> Section:
    """What differs between the runs' `run.yaml`: a row a setting, a column a run."""
    flat = [dict(_stated(run.report.run_yaml)) for run in runs]
    named = list(dict.fromkeys(name for values in flat for name in values))
    cells = {name: tuple(values.get(name, NONE) for values in flat) for name in named}
    rows = tuple((name, *row) for name, row in cells.items() if len(set(row)) > 1)
    same = sum(len(set(row)) == 1 for row in cells.values())
    note = f"From each run.yaml; {same} more are the same in all. Fingerprints are hashes of what a setting stood for."
    return Section("What differs between them", note, (Column("setting"), *(Column(run.name) for run in runs)), rows)


def _stated(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings, versions, then fingerprints of what is no plain setting itself, as words."""
    config = flatten(content.get("config") or {})
    known = {str(name) for name in content.get("config") or {}}
    prints = {name: value for name, value in (content.get("fingerprint") or {}).items() if name not in known or name == "data"}
    rows = [
        *config,
        ("hwnas", content.get("hwnas")),
        *flatten(content.get("versions") or {}, "version:"),
        *flatten(prints, "fingerprint:"),
    ]
    return [(name, _words(value)) for name, value in rows]


def _words(value: Any) -> str:
    if value is None:
        return NONE
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def volumes(ground: Ground) -> Section:
    """Hypervolume of every run's front, and of its search, on common axes."""
    fronts = {run.name: [o for s in run.report.front["students"] if (o := ground.objectives(s))] for run in ground.runs}
    joint = pareto.as_rows([o for points in fronts.values() for o in points])
    kept = {tuple(row) for row in joint[pareto.front(joint)].tolist()} if len(joint) else set()
    rows = []
    for run in ground.runs:
        points = fronts[run.name]
        tried = [o for t in run.report.trials if t.get("status") == "scored" and (o := ground.tried(t))]
        standing = sum(o.as_row() in kept for o in points)
        reached = (str(len(points)), str(standing), figure(ground.volume(points), 4))
        rows.append((run.name, *reached, str(len(tried)), figure(ground.volume(tried), 4)))
    corner = ground.corner
    limits = ", ".join(COSTS[name].phrase(getattr(corner, name)) for name in LIMITED)
    note = (
        f"Share of the box below the error of chance ({corner.error:.3g}) and {limits} that is dominated; larger is better. The limits "
        "are the loosest of these runs' budgets, the same for all. Students are int8, fully distilled, on validation subjects; candidates "
        "of the search had the short distillation: two different kinds of figures. Of the joint front: students that no student of "
        "another run dominates."
    )
    shown = KINDS[ground.kind]
    columns = (
        Column("run"),
        Column("students", f"front, {shown} costs"),
        Column("of the joint front", f"front, {shown} costs"),
        Column("hypervolume", f"front, {shown} costs"),
        Column("candidates scored", "search, predicted costs"),
        Column("hypervolume", "search, predicted costs"),
    )
    return Section(f"Hypervolume: {ground.title}", note, columns, tuple(rows), figures=True)


def best(ground: Ground) -> list[Section]:
    """The best student of every run side by side: quality, then cost."""
    metrics = list(dict.fromkeys(name for run in ground.runs for name in metrics_of(run.report.front)))
    chosen = [(run, found) for run in ground.runs if (found := best_student(run.report.front)) is not None]
    parts = ("validation", "test")
    named = (Column("run"), Column("student", words=True))
    quality = (
        *named,
        *(Column(name, words=name == "family") for name in ("family", "parameters", "MACs")),
        *(Column(title(m), f"{part}, int8") for part in parts for m in metrics),
    )
    qualities = [
        (
            *(run.name, str(s["id"]), str(s.get("family") or NONE), figure(s.get("parameters")), figure(s.get("macs"))),
            *(measure(m).show(score(s, part, m)) for part in parts for m in metrics),
        )
        for run, s in chosen
    ]
    costs = [
        (
            *(run.name, str(s["id"])),
            *(q.show(cost(s, name, kind), doubt(run.report.front, name)) for kind in KINDS for name, q in FIGURES.items()),
        )
        for run, s in chosen
    ]
    how = (
        f"Of each run the student with the best {title(ground.primary)} on validation subjects, {ground.source} data; test subjects were "
        "scored once, after the front was frozen."
    )
    kinds = "Predicted: before training. Emulated: the shipped program with modelled cycles, not measured on silicon."
    columns = (*named, *(Column(q.title, label) for label in KINDS.values() for q in FIGURES.values()))
    return [
        Section(f"Best students: {ground.title}", how, quality, tuple(qualities), figures=True),
        Section(f"Best students, cost: {ground.title}", kinds, columns, tuple(costs), figures=True),
    ]
