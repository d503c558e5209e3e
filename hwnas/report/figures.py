"""The Pareto scatter: interactive for the page (plotly), still for paper and README (matplotlib). No files.

Colours tell blue from orange for colour-blind eyes too (Okabe-Ito), and marker shapes repeat what they say.
"""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any

from hwnas.report.content import COSTS
from hwnas.report.points import Cloud, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRONT, FALLEN, SCORED, BUDGET = "#1f86d1", "#56b4e9", "#9aa3ad", "#d55e00"
FIRST_AXIS = "latency_us"


def axes(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """Per cost: axis title and the x values of every trace of `interactive`, in order; the page's buttons switch them."""
    return {name: {"title": _axis_title(cloud, name), "x": _xs(cloud, name)} for name in COSTS}


def _axis_title(cloud: Cloud, name: str) -> str:
    return f"{COSTS[name].title} (predicted)" + (f" {cloud.doubts[name]}" if cloud.doubts[name] else "")


def _xs(cloud: Cloud, name: str) -> list[list[float | None]]:
    finished = (*cloud.front, *cloud.fallen)
    links: list[float | None] = [x for p in finished if p.before is not None for x in (p.x[name], p.x[name], None)]
    budget: list[float | None] = [cloud.budget[name]] * 2 if name in cloud.budget else []
    clouds: list[list[float | None]] = [[p.x[name] for p in group] for group in (cloud.scored, cloud.fallen, cloud.front)]
    return [links, *clouds, budget]


def interactive(cloud: Cloud, y_title: str) -> Any:
    """A plotly figure that starts with latency on its x axis; colours of text and grid are set by the page."""
    import plotly.graph_objects as go

    xs = _xs(cloud, FIRST_AXIS)
    low, high = cloud.y_range
    links = [y for p in (*cloud.front, *cloud.fallen) if p.before is not None for y in (p.before, p.y, None)]
    thin, dashed = {"color": SCORED, "width": 1}, {"color": BUDGET, "width": 2, "dash": "dash"}
    figure = go.Figure()
    figure.add_scatter(x=xs[0], y=links, mode="lines", line=thin, name="short to full distillation", hoverinfo="skip")
    figure.add_scatter(
        x=xs[1],
        **_markers(cloud.scored, "scored (short distillation)", {"color": SCORED, "size": 8, "opacity": 0.75, "symbol": "circle"}),
    )
    open_circle = {"color": FALLEN, "size": 11, "symbol": "circle-open", "line": {"width": 2}}
    figure.add_scatter(x=xs[2], **_markers(cloud.fallen, "fully distilled, not on the front", open_circle))
    figure.add_scatter(x=xs[3], **_markers(cloud.front, "Pareto front", {"color": FRONT, "size": 13, "symbol": "diamond"}))
    figure.add_scatter(x=xs[4], y=[low, high], mode="lines", line=dashed, name="budget", hovertemplate="budget: %{x:,.4~g}<extra></extra>")
    if cloud.teacher is not None:
        label = {"text": f"teacher (float) {cloud.teacher:.3f}", "font": {"size": 12}}
        figure.add_hline(
            y=cloud.teacher, line_dash="dot", line_width=1, line_color=SCORED, annotation=label, annotation_position="top left"
        )
    figure.update_layout(
        height=520,
        margin={"l": 64, "r": 16, "t": 16, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 14},
        xaxis={
            "type": "log",
            "title": _axis_title(cloud, FIRST_AXIS),
            "zeroline": False,
            "dtick": "D2",
            "tickformat": ",~g",
        },
        yaxis={"title": y_title, "range": [low, high], "zeroline": False, "tickformat": ".3~f"},
    )
    return figure


def _markers(points: tuple[Point, ...], name: str, marker: dict[str, Any]) -> dict[str, Any]:
    texts = ["<br>".join([f"<b>{escape(p.text[0])}</b>", *map(escape, p.text[1:])]) for p in points]
    shown = {"y": [p.y for p in points], "mode": "markers", "marker": marker, "name": name}
    return shown | {"customdata": texts, "hovertemplate": "%{customdata}<extra></extra>"}


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
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    content = io.BytesIO()
    # No creation date or version in the file: the same run gives the same bytes.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _panel(axis: Axes, cloud: Cloud, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for point in (*cloud.front, *cloud.fallen):
        if point.before is not None:
            axis.plot([point.x[name]] * 2, [point.before, point.y], color=SCORED, linewidth=0.8, zorder=1)
    styles: tuple[tuple[tuple[Point, ...], str, dict[str, Any]], ...] = (
        (cloud.scored, "scored (short distillation)", {"color": SCORED, "s": 22}),
        (cloud.fallen, "fully distilled, not on the front", {"facecolors": "none", "edgecolors": FALLEN, "s": 48, "linewidths": 1.5}),
        (cloud.front, "Pareto front", {"color": FRONT, "marker": "D", "s": 48}),
    )
    for points, label, style in styles:
        axis.scatter([p.x[name] for p in points], [p.y for p in points], label=label, zorder=2, **style)
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
