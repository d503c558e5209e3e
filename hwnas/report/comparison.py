"""`compare.html`, `compare.md` and `figures/compare-N.png` of several runs: all as bytes, no file is written. Reads page.css."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from hwnas import __version__
from hwnas.report import markdown, runs, tables
from hwnas.report.content import COSTS, KINDS, Section, Student, cost, doubt, figure, measure, score
from hwnas.report.facts import OBJECTIVES
from hwnas.report.figures import BUDGET, FAMILIES, FIRST_AXIS
from hwnas.report.runs import Ground, Run

# (plotly, matplotlib), hollow, so that equal students of two runs are both seen; one more than colours: 42 runs look different.
SYMBOLS = (("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("x", "X"), ("pentagon", "p"), ("star", "*"))
HERE = Path(__file__).resolve().parent
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
<script>{plotly}</script>
</head>
<body>
<header><h1>{title}</h1>{warnings}</header>
<main>
{sections}
</main>
<footer>hwnas {version}</footer>
<script>
function paint() {{
  const style = getComputedStyle(document.documentElement), seen = (name) => style.getPropertyValue(name).trim();
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {{
    Plotly.relayout(plot, {{
      "font.color": seen("--text"), "xaxis.gridcolor": seen("--line"), "yaxis.gridcolor": seen("--line"),
      "hoverlabel.bgcolor": seen("--card"), "hoverlabel.bordercolor": seen("--line"), "hoverlabel.font.color": seen("--text"),
    }});
  }}
}}
for (const button of document.querySelectorAll("[data-plot]")) {{
  button.addEventListener("click", () => {{
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    const axis = JSON.parse(button.dataset.axis);
    Plotly.update(button.dataset.plot, {{ x: axis.x }}, {{ "xaxis.title.text": axis.title, "xaxis.autorange": true }});
  }});
}}
paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
</script>
</body>
</html>
"""


def render(compared: Sequence[Run]) -> dict[str, bytes]:
    """Name -> content of every file of the comparison.

    Raises:
        UsageError: runs of different tasks.
    """
    found = runs.grounds(compared)
    pictures = {f"figures/compare-{number}.png": _png(ground) for number, ground in enumerate(found, start=1)}
    return {
        **pictures,
        "compare.md": _markdown(compared, found, list(pictures)).encode(),
        "compare.html": _html(compared, found).encode(),
    }


def _heading(compared: Sequence[Run]) -> str:
    return f"hwnas: {len(compared)} runs of {compared[0].report.front['task']} side by side"


def _warnings(compared: Sequence[Run], found: Sequence[Ground]) -> list[str]:
    return [line for line in (*runs.warnings(compared), runs.apart(found)) if line]


def _tables(compared: Sequence[Run], found: Sequence[Ground]) -> tuple[list[Section], list[list[Section]]]:
    """Tables of all runs, and those of every ground."""
    shared = [section for section in (runs.overview(found), runs.settings(compared)) if section.rows]
    return shared, [[s for s in (runs.volumes(ground), *runs.best(ground)) if s.rows] for ground in found]


def _note(ground: Ground) -> str:
    return (
        f"Students on the fronts: costs {KINDS[ground.kind]}, {measure(ground.primary).title} of the int8 form on validation subjects, "
        f"{ground.source} data. {OBJECTIVES}"
    )


# Markdown


def _markdown(compared: Sequence[Run], found: Sequence[Ground], pictures: Sequence[str]) -> str:
    shared, by_ground = _tables(compared, found)
    lines = [f"# {markdown.cell(_heading(compared))}", ""]
    for warning in _warnings(compared, found):
        lines += [f"**{markdown.cell(warning)}**", ""]
    for section in shared[:1]:
        lines += markdown.table(section)
    for ground, made, picture in zip(found, by_ground, pictures, strict=True):
        lines += [f"## Fronts: {markdown.cell(ground.title)}", "", markdown.cell(_note(ground)), "", f"![fronts]({picture})", ""]
        for section in made:
            lines += markdown.table(section)
    for section in shared[1:]:
        lines += markdown.table(section)
    return "\n".join(lines)


# The page


def _html(compared: Sequence[Run], found: Sequence[Ground]) -> str:
    from plotly.offline import get_plotlyjs

    shared, by_ground = _tables(compared, found)
    parts = [tables.render(section) for section in shared[:1]]
    for number, (ground, made) in enumerate(zip(found, by_ground, strict=True)):
        parts += [_scatter(ground, f"fronts-{number}"), *map(tables.render, made)]
    parts += [tables.render(section) for section in shared[1:]]
    return PAGE.format(
        title=escape(_heading(compared)),
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        warnings="".join(f'<p class="marked"><strong>{escape(line)}</strong></p>' for line in _warnings(compared, found)),
        sections="\n".join(parts),
        version=escape(__version__),
    )


def _scatter(ground: Ground, name: str) -> str:
    plot = _plot(ground).to_html(full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False, "responsive": True})
    axes = {key: {"title": _axis(ground, key), "x": _xs(ground, key)} for key in COSTS}
    buttons = "".join(
        f'<button type="button" data-plot="{name}" data-axis="{escape(json.dumps(axis))}" '
        f'aria-pressed="{str(key == FIRST_AXIS).lower()}">{escape(COSTS[key].name)}</button>'
        for key, axis in axes.items()
    )
    return (
        f'<section><h2>Fronts: {escape(ground.title)}</h2><p class="note">{escape(_note(ground))}</p>'
        f'<div class="switch" role="group" aria-label="horizontal axis">{buttons}</div><div class="plot">{plot}</div></section>'
    )


def _drawn(ground: Ground, run: Run) -> list[Student]:
    """Students of the run's front that have all figures, from the fastest."""
    students = [s for s in run.report.front["students"] if ground.objectives(s) and cost(s, "energy_uj", ground.kind) is not None]
    return sorted(students, key=lambda s: cost(s, FIRST_AXIS, ground.kind) or 0.0)


def _shown(ground: Ground, student: Student, name: str) -> float:
    return (cost(student, name, ground.kind) or 0.0) / COSTS[name].divisor


def _xs(ground: Ground, name: str) -> list[list[float]]:
    """x of every trace: one a run, then the limits."""
    xs = [[_shown(ground, s, name) for s in _drawn(ground, run)] for run in ground.runs]
    return xs + [[limit] * 2 for limit in _limits(ground, name)]


def _limits(ground: Ground, name: str) -> list[float]:
    """The runs' budgets for a cost: one where they agree."""
    found = {float(value) for run in ground.runs if (value := run.report.front["budget"].get(name)) is not None}
    # As many traces on every axis: where some cost has a limit of its own for each run, the others repeat theirs.
    most = max(len({run.report.front["budget"].get(key) for run in ground.runs}) for key in COSTS)
    return [value / COSTS[name].divisor for value in (sorted(found) * most)[:most]]


def _axis(ground: Ground, name: str) -> str:
    mark = doubt(ground.runs[0].report.front, name)
    return f"{COSTS[name].title}, {KINDS[ground.kind]}" + (f" {mark}" if mark else "")


def _range(ground: Ground) -> tuple[float, float]:
    values = [score(s, "validation", ground.primary) or 0.0 for run in ground.runs for s in _drawn(ground, run)] or [0.0, 1.0]
    room = max(max(values) - min(values), 0.01) * 0.12
    return min(values) - room, max(values) + room


def _look(number: int) -> tuple[str, tuple[str, str]]:
    """Colour and shape of a run."""
    return FAMILIES[number % len(FAMILIES)], SYMBOLS[number % len(SYMBOLS)]


def _plot(ground: Ground) -> Any:
    """The fronts of the runs of one ground, with latency on the x axis."""
    import plotly.graph_objects as go

    metric, plot, xs, limits = measure(ground.primary), go.Figure(), _xs(ground, FIRST_AXIS), _range(ground)
    for number, (run, x) in enumerate(zip(ground.runs, xs, strict=False)):
        colour, (symbol, _) = _look(number)
        students = _drawn(ground, run)
        plot.add_scatter(
            x=x,
            y=[score(s, "validation", ground.primary) for s in students],
            mode="markers",
            name=escape(run.name),
            marker={"color": colour, "symbol": f"{symbol}-open", "size": 11, "line": {"width": 2}},
            customdata=["<br>".join(map(escape, _told(ground, run, s))) for s in students],
            hovertemplate="%{customdata}<extra></extra>",
        )
    for number, x in enumerate(xs[len(ground.runs) :]):
        line = {"color": BUDGET, "width": 2, "dash": "dash"}
        plot.add_scatter(x=x, y=limits, mode="lines", line=line, name="budget", showlegend=not number, hoverinfo="skip")
    plot.update_layout(
        height=520,
        margin={"l": 64, "r": 16, "t": 16, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        showlegend=True,
        hoverlabel={"align": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 14},
        xaxis={"type": "log", "title": _axis(ground, FIRST_AXIS), "zeroline": False, "dtick": "D2", "tickformat": ",~g"},
        yaxis={"title": f"{metric.axis} (validation, int8, {ground.source})", "range": limits, "zeroline": False, "tickformat": ".3~f"},
    )
    return plot


def _told(ground: Ground, run: Run, student: Student) -> list[str]:
    metric, front = measure(ground.primary), run.report.front
    scores = [f"{metric.title}, {part}: {metric.show(score(student, part, ground.primary))}" for part in ("validation", "test")]
    costs = [q.phrase(cost(student, name, ground.kind), doubt(front, name)) for name, q in COSTS.items()]
    size = f"{figure(student.get('parameters'))} parameters, {figure(student.get('macs'))} MACs"
    lines = [f"{run.name}: {student['id']}", f"{student.get('family')}: {student.get('summary')}"]
    return [*lines, *scores, size, f"{KINDS[ground.kind]}: {', '.join(costs)}"]


# The still picture


def _png(ground: Ground) -> bytes:
    """Fronts over latency and over RAM, side by side, as PNG bytes (1500 x 675 pixels)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(picture)
    panels = picture.subplots(1, 2, sharey=True)
    for axis, name in zip(panels, (FIRST_AXIS, "ram_bytes"), strict=True):
        for number, run in enumerate(ground.runs):
            colour, (_, marker) = _look(number)
            students = _drawn(ground, run)
            ys = [score(s, "validation", ground.primary) for s in students]
            style = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.5, "marker": marker, "s": 48}
            axis.scatter([_shown(ground, s, name) for s in students], ys, label=_plain(run.name), **style)
        for number, limit in enumerate(_limits(ground, name)):
            axis.axvline(limit, color=BUDGET, linestyle="--", label="" if number else "budget")
        axis.set(xlabel=_axis(ground, name), ylim=_range(ground))
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if any(_drawn(ground, run) for run in ground.runs):
            _logarithmic(axis)
    panels[0].set_ylabel(f"{measure(ground.primary).axis} (validation, int8)")
    picture.suptitle(_plain(f"Fronts: {ground.title}"), fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False, fontsize=9)
    content = io.BytesIO()
    picture.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _logarithmic(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _plain(text: str) -> str:
    """Text that matplotlib does not read as formulas, and that a legend does not leave out."""
    return text.replace("$", r"\$").lstrip("_") or "run"
