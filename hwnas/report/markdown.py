"""The report as Markdown text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.report.content import Front, Section
from hwnas.report.facts import OBJECTIVES, facts, heading


def render(front: Front, sections: Sequence[Section]) -> str:
    """`report.md`: the facts of the run, the figure, then every section as a table."""
    lines = [f"# hwnas report: {_cell(heading(front))}", ""]
    lines += [f"- **{name}**: {_cell(value)}" for name, value in facts(front)]
    lines += ["", "![Pareto front](figures/pareto.png)", "", OBJECTIVES, ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.note, "", *_table(section), ""]
    return "\n".join(lines)


def _table(section: Section) -> list[str]:
    heads = [f"{c.title}: {c.group}" if c.group else c.title for c in section.columns]
    rule = ["---"] + ["---:" if section.figures and not c.words else "---" for c in section.columns[1:]]
    rows = [
        [f"**{_cell(text)}**" if (r, c) in section.marked else _cell(text) for c, text in enumerate(row)]
        for r, row in enumerate(section.rows)
    ]
    return ["| " + " | ".join(row) + " |" for row in (map(_cell, heads), rule, *rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
