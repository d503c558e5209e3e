"""The Pareto scatter, still, for paper and README (matplotlib), and the marks and colours that the page draws it with too. No files.

Marker shapes tell what became of a network. Colours repeat that where a run has one family, and tell families where it has several;
they differ for colour-blind eyes too (Okabe-Ito).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwnas.report.content import COSTS
from hwnas.report.points import Cloud, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRONT, FALLEN, SCORED, BUDGET = "#1f86d1", "#56b4e9", "#9aa3ad", "#d55e00"  # page.css has them too
FLOAT, TEACHER = "#e69f00", "#009e73"  # as there
FAMILIES = ("#1f86d1", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")
FIRST_AXIS = "latency_us"


@dataclass(frozen=True, slots=True)
class Mark:
    """How what became of a network is drawn: by plotly (`symbol`) and by matplotlib (`style`)."""

    label: str
    colour: str
    symbol: dict[str, Any]
    style: dict[str, Any]
    hollow: bool = False

    def still(self, colour: str) -> dict[str, Any]:
        """Arguments of matplotlib's scatter."""
        return self.style | ({"facecolors": "none", "edgecolors": colour} if self.hollow else {"color": colour})


# Rejected candidates have predicted costs and no score: the page draws them in views of two costs, else at the edge.
REJECTED = Mark(
    "rejected, over budget (never trained)", SCORED, {"symbol": "x-thin", "size": 7, "opacity": 0.8, "line": {"width": 1.2}}, {}
)
MARKS = {
    "scored": Mark("scored (short distillation)", SCORED, {"symbol": "circle", "size": 8, "opacity": 0.75}, {"s": 22}),
    "fallen": Mark(
        "fully distilled, not on the front",
        FALLEN,
        {"symbol": "circle-open", "size": 11, "line": {"width": 2}},
        {"s": 48, "linewidths": 1.5},
        hollow=True,
    ),
    "front": Mark("Pareto front", FRONT, {"symbol": "diamond", "size": 13}, {"s": 48, "marker": "D"}),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """Points that look alike; `family` is empty where colours do not tell families."""

    mark: Mark
    points: tuple[Point, ...]
    colour: str
    family: str = ""


def layers(cloud: Cloud) -> list[Layer]:
    """All points, in the order in which they are drawn."""
    groups = {"scored": cloud.scored, "fallen": cloud.fallen, "front": cloud.front}
    if len(cloud.families) < 2:
        return [Layer(MARKS[kind], points, MARKS[kind].colour) for kind, points in groups.items()]
    colours = colours_of(cloud)
    return [
        Layer(MARKS[kind], tuple(p for p in points if p.family == family), colour, family)
        for kind, points in groups.items()
        for family, colour in colours.items()
    ]


def colours_of(cloud: Cloud) -> dict[str, str]:
    """The colour of every family, where a run has several."""
    several = cloud.families if len(cloud.families) > 1 else ()
    return {family: FAMILIES[i % len(FAMILIES)] for i, family in enumerate(several)}


def _axis_title(cloud: Cloud, name: str) -> str:
    return f"{COSTS[name].title} (predicted)" + (f" {cloud.doubts[name]}" if cloud.doubts[name] else "")


def png(cloud: Cloud, y_title: str, heading: str) -> bytes:
    """The scatter over latency and over RAM, side by side, as PNG bytes (1500 x 675 pixels)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for axis, name in zip(panels, (FIRST_AXIS, "ram_bytes"), strict=True):
        _panel(axis, cloud, name)
    panels[0].set_ylabel(y_title)
    figure.suptitle(heading, fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False, fontsize=9)
    content = io.BytesIO()
    # No creation date or version in the file: the same run gives the same bytes.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _panel(axis: Axes, cloud: Cloud, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for point in (*cloud.front, *cloud.fallen):
        if point.before is not None:
            axis.plot([point.x[name]] * 2, [point.before, point.y], color=SCORED, linewidth=0.8, zorder=1)
    for layer in layers(cloud):
        x, y = [p.x[name] for p in layer.points], [p.y for p in layer.points]
        axis.scatter(x, y, label=None if layer.family else layer.mark.label, zorder=2, **layer.mark.still(layer.colour))
    colours = colours_of(cloud)
    for family, colour in colours.items():
        axis.scatter([], [], label=family, marker="s", color=colour)
    for mark in MARKS.values() if colours else ():
        axis.scatter([], [], label=mark.label, **mark.still(SCORED))
    if name in cloud.budget:
        axis.axvline(cloud.budget[name], color=BUDGET, linestyle="--", label="budget")
    if cloud.teacher is not None:
        axis.axhline(cloud.teacher, color="#555555", linestyle=":", linewidth=1, label="teacher (float)")
    axis.set_ylim(*cloud.y_range)
    axis.set_xlabel(_axis_title(cloud, name))
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if cloud.scored or cloud.fallen or cloud.front:  # a logarithmic axis needs a point
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
