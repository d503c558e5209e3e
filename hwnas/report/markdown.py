"""The report as Markdown text. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hwnas.report import student_sections
from hwnas.report.battery import WRIST_SENSOR, life
from hwnas.report.content import (
    COSTS,
    EMULATED,
    KINDS,
    NONE,
    PREDICTED,
    Column,
    Report,
    Section,
    Student,
    cost,
    doubt,
    doubt_factor,
    figure,
    flatten,
)
from hwnas.report.facts import OBJECTIVES, facts, heading
from hwnas.report.history import hypervolumes
from hwnas.report.sections import sections

PICTURES = {
    "figures/pareto.png": "Pareto front",
    "figures/history.png": "Course of the search",
    "figures/calibration.png": "Calibration of the students on the front",
}
ROWS = 12  # at most, of a history


def render(report: Report, pictures: Sequence[str]) -> str:
    """`report.md`: the facts of the run, the figures that there are by relative links, then every section as a table."""
    front = report.front
    lines = [f"# hwnas report: {cell(heading(front))}", ""]
    lines += [f"- **{name}**: {cell(value)}" for name, value in facts(front)]
    for picture, words in PICTURES.items():
        lines += ["", f"![{words}]({picture})"] if picture in pictures else []
    lines += ["", OBJECTIVES, ""]
    for section in (*sections(front, report.trials), *filter(lambda s: s.rows, (growth(report), battery(report)))):
        lines += table(section)
    for student in report.students:
        lines += _student(report, student)
    return "\n".join((*lines, *_reproduce(report)))


def growth(report: Report) -> Section:
    """The hypervolume of the search where it rose; the last row is that of all candidates."""
    steps = hypervolumes(report.front, report.trials)
    risen = [step for before, step in zip([None, *steps], steps, strict=False) if before is None or step.hypervolume > before.hypervolume]
    kept = [*risen[:: max(1, -(-len(risen) // ROWS))], *steps[-1:]]
    rows = tuple((f"{s.candidate:,}", f"{s.scored:,}", f"{s.hypervolume:.4f}") for s in dict.fromkeys(kept))
    note = "Of all candidates scored by then, predicted costs, error after the short distillation; 1 would be no error at no cost."
    columns = (Column("candidates judged"), Column("scored"), Column("hypervolume", "predicted costs"))
    return Section("Hypervolume of the search", note, columns, rows, figures=True)


def battery(report: Report) -> Section:
    """Days on the battery of the default device for every student, and what is assumed of it."""
    emulated = all(cost(s, "energy_uj", EMULATED) is not None for s in report.students)
    kind, quantity = EMULATED if emulated else PREDICTED, COSTS["energy_uj"]
    factor = doubt_factor(report.front, "energy_uj")
    known = {str(s["id"]): energy for s in report.students if (energy := cost(s, "energy_uj", kind)) is not None}
    lives = {identity: life(energy, WRIST_SENSOR, factor) for identity, energy in known.items()}
    rows = tuple(
        (
            *(identity, quantity.show(known[identity], doubt(report.front, "energy_uj"))),
            *(figure(found.average_uw, 2), f"{found.days:,.0f}"),
            *([f"{found.days_least:,.0f} to {found.days_most:,.0f}"] if factor > 1 else []),
        )
        for identity, found in lives.items()
    )
    assumed = "; ".join(f"{a.name} {'none' if a.value is None else f'{a.value:g} {a.unit}'} ({a.source})" for a in WRIST_SENSOR.assumptions)
    note = f"{next(iter(lives.values())).note if lives else ''} Assumed: {assumed}."
    columns = (
        *(Column("student"), Column(quantity.title, KINDS[kind]), Column("average power, µW", "modelled")),
        *(Column("days", "modelled"), *([Column("days, by the energy's uncertainty", "modelled")] if factor > 1 else [])),
    )
    return Section("Battery life", note, columns, rows, figures=True)


def _student(report: Report, student: Student) -> list[str]:
    words = filter(None, (str(student.get("family") or ""), str(student.get("summary") or "")))
    lines = [f"## Student {cell(str(student['id']))}", "", cell(": ".join(words)) or NONE, ""]
    lines += [f"Not on the front: {cell(str(student['fallen']))}.", ""] if student.get("fallen") else []
    for section in student_sections.sections(report, student):
        lines += table(section, level=3)
    return lines


def _reproduce(report: Report) -> list[str]:
    """Commands that make the run again, and what it was made with."""
    run = report.run_yaml
    commands = ("hwnas search --config RUN/run.yaml --out runs/again", "hwnas report RUN")
    lines = ["## How to reproduce", "", "RUN is the folder of this run.", "", "```", *commands, "```", ""]
    for words, values in (
        ("Settings", flatten(run.get("config") or {})),
        ("Versions", [("hwnas", run.get("hwnas")), *flatten(run.get("versions") or {})] if run else []),
    ):
        rows = tuple((name, _plain(value)) for name, value in values)
        lines += table(Section(words, "From run.yaml.", (Column("what"), Column("value")), rows), level=3) if rows else []
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NONE
    return NONE if value is None else str(value)


def table(section: Section, level: int = 2) -> list[str]:
    """A section as lines: its title, its note, its table."""
    heads = [f"{c.title}: {c.group}" if c.group else c.title for c in section.columns]
    rule = ["---"] + ["---:" if section.figures and not c.words else "---" for c in section.columns[1:]]
    rows = [
        [f"**{cell(text)}**" if (r, c) in section.marked else cell(text) for c, text in enumerate(row)]
        for r, row in enumerate(section.rows)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (map(cell, heads), rule, *rows)]
    return [f"{'#' * level} {cell(section.title)}", "", cell(section.note), "", *lines, ""]


def cell(text: str) -> str:
    """Text that breaks out of no table, line, link or element."""
    return re.sub(r"([\\|`\[])", r"\\\1", " ".join(text.splitlines())).replace("<", "&lt;")
