"""Sections of the report as HTML tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from hwnas.report.content import NONE, Section

LONG = 30  # words of a cell that are broken over lines


def render(section: Section, level: int = 2) -> str:
    """A titled table with its note."""
    return f"<section><h{level}>{escape(section.title)}</h{level}>{body(section)}</section>"


def body(section: Section) -> str:
    """The note and the table."""
    kind = "figures" if section.figures else "facts-table"
    rows = "".join(f"<tr>{_cells('td', row, section, number)}</tr>" for number, row in enumerate(section.rows))
    return (
        f'<p class="note">{escape(section.note)}</p><div class="scroll" tabindex="0"><table class="{kind}">'
        f"<thead>{_head(section)}</thead><tbody>{rows}</tbody></table></div>"
    )


def _head(section: Section) -> str:
    titles = f"<tr>{_cells('th', [c.title for c in section.columns], section)}</tr>"
    if not any(c.group for c in section.columns):
        return titles
    groups = [(name, len(list(members))) for name, members in groupby(c.group for c in section.columns)]
    return "<tr>" + "".join(f'<th class="group" colspan="{n}">{escape(name)}</th>' for name, n in groups) + "</tr>" + titles


def _starts(section: Section) -> set[int]:
    """Indices of the columns at which another kind of figure begins."""
    groups = [c.group for c in section.columns]
    return {i for i, name in enumerate(groups) if i and name != groups[i - 1]}


def _cells(tag: str, texts: Sequence[str], section: Section, row: int = -1) -> str:
    """The cells of row `row` of a section, or of its head."""
    starts, columns = _starts(section), section.columns
    kinds = [
        {
            "start": i in starts,
            "words": column.words,
            "long": column.words and len(text) > LONG,
            "none": text == NONE,
            "marked": (row, i) in section.marked,
        }
        for i, (text, column) in enumerate(zip(texts, columns, strict=True))
    ]
    marks = [" ".join(name for name, holds in kind.items() if holds) for kind in kinds]
    return "".join(f'<{tag} class="{mark}">{escape(text)}</{tag}>' for mark, text in zip(marks, texts, strict=True))
