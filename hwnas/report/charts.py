"""Small charts as inline SVG and HTML that stretch with the page. Pure: text in, text out, everything from outside escaped.

Horizontal places are percentages and text is never scaled, so that a chart is as readable on a phone as on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise


def number(value: float) -> str:
    """A coordinate or a tick: as short as it can be."""
    return f"{value:.6g}"


def percent(value: float) -> str:
    """A place or an extent, of the width or the height of a chart."""
    return f"{100 * value:.4g}%"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Plane:
    """An area with two linear axes."""

    x: tuple[float, float]
    y: tuple[float, float]

    def left(self, x: float) -> str:
        """Where `x` is, from the left."""
        return percent((x - self.x[0]) / (self.x[1] - self.x[0]))

    def top(self, y: float) -> str:
        """Where `y` is, from the top."""
        return percent((self.y[1] - y) / (self.y[1] - self.y[0]))

    def line(self, points: Sequence[tuple[float, float]], style: str) -> str:
        """Straight lines from point to point."""
        return "".join(
            f'<line x1="{self.left(a)}" y1="{self.top(b)}" x2="{self.left(c)}" y2="{self.top(d)}" class="{style}"/>'
            for (a, b), (c, d) in pairwise(points)
        )

    def dot(self, x: float, y: float, style: str, told: str, radius: float = 4) -> str:
        """A point, with what a pointer over it tells."""
        return f'<circle cx="{self.left(x)}" cy="{self.top(y)}" r="{number(radius)}" class="{style}"><title>{escape(told)}</title></circle>'

    def block(self, x: tuple[float, float], y: tuple[float, float], style: str, told: str = "", opacity: float = 1) -> str:
        """A rectangle."""
        width, height = (abs(b - a) / (limits[1] - limits[0]) for (a, b), limits in ((x, self.x), (y, self.y)))
        faint = f' fill-opacity="{opacity:.3g}"' if opacity < 1 else ""
        title = f"<title>{escape(told)}</title>" if told else ""
        at = f'x="{self.left(min(x))}" y="{self.top(max(y))}" width="{percent(width)}" height="{percent(height)}"'
        return f'<rect {at} class="{style}"{faint}>{title}</rect>'

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start", shift: tuple[float, float] = (0, 0)) -> str:
        """A label at a point, moved by `shift` pixels."""
        moved = f'dx="{number(shift[0])}" dy="{number(shift[1])}"'
        return f'<text x="{self.left(x)}" y="{self.top(y)}" {moved} text-anchor="{anchor}" class="{style}">{escape(text)}</text>'

    def chart(self, marks: Iterable[str], titles: tuple[str, str], told: str, *, height: int = 240, square: bool = False) -> str:
        """The area with its ticks, grid and titles, and `marks` inside; `told` is what a screen reader says."""
        left = [
            f'<line x1="0" x2="100%" y1="{self.top(y)}" y2="{self.top(y)}" class="grid"/>'
            + self.text(self.x[0], y, number(y), "tick", "end", (-8, 4))
            for y in ticks(*self.y)
        ]
        below = [self.text(x, self.y[0], number(x), "tick", "middle", (0, 18)) for x in ticks(*self.x)]
        kind = "plane square" if square else "plane"
        return (
            f'<figure class="{kind}"><div class="axis-title">{escape(titles[1])}</div>'
            f'<svg role="img" aria-label="{escape(told)}" width="100%" height="{height}">{"".join((*left, *below, *marks))}</svg>'
            f'<div class="axis-title below">{escape(titles[0])}</div></figure>'
        )


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """(style, words) of every series."""
    return '<p class="legend">' + "".join(f'<span><i class="{s}"></i>{escape(t)}</span>' for s, t in entries) + "</p>"


def tag(text: str) -> str:
    """What a figure is, beside its title: predicted, emulated, measured; real or synthetic."""
    return f'<span class="tag">{escape(text)}</span>'


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], style: str = "figures", caption: str = "") -> str:
    """A table: heads are (title, kind of figure below it), cells are text."""
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(
        f'<th scope="col">{escape(title)}' + (f"<small>{escape(kind)}</small>" if kind else "") + "</th>" for title, kind in heads
    )
    body = "".join("<tr>" + "".join(_cell(i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="{style}">{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(column: int, text: str) -> str:
    return f"<td>{escape(text)}</td>" if column else f'<th scope="row">{escape(text)}</th>'


def missing(what: str, why: str) -> str:
    """A part that was not recorded, and how to get it."""
    return f'<p class="missing"><strong>{escape(what)}: not recorded.</strong> {escape(why)}</p>'
