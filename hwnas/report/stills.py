"""Still figures of the report beside the Pareto scatter: the course of the search, and calibration (matplotlib). No files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hwnas.report.content import COSTS, Report, source
from hwnas.report.figures import FAMILIES, FLOAT, FRONT, SCORED, TEACHER
from hwnas.report.history import hypervolumes, rejections

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = {"int8": ("student, int8", FRONT, "o"), "float": ("student, float", FLOAT, "s"), "teacher": ("teacher, float", TEACHER, "^")}
COLUMNS = 4  # panels beside each other


def history(report: Report) -> bytes | None:
    """Hypervolume and rejections over the candidates of the search; None where nothing is known of either."""
    steps, rejected = hypervolumes(report.front, report.trials), rejections(report.trials)
    if not steps and not rejected.by_limit:
        return None
    figure, (left, right) = _canvas(1, 2, (10, 3.6))
    if steps:
        ends = [step.candidate for step in steps] + [len(report.trials)]
        left.plot([0, *ends], [0, *(s.hypervolume for s in steps), steps[-1].hypervolume], drawstyle="steps-post", color=FRONT)
    left.set(xlabel="candidates judged", ylabel="hypervolume (predicted costs,\nshort distillation)", ylim=(0, None))
    right.plot(range(1, len(rejected.total) + 1), rejected.total, color=SCORED, linewidth=3, label="all rejected")
    for number, (name, counts) in enumerate(rejected.by_limit.items()):
        label = COSTS[name].name if name in COSTS else name.replace("_", " ")
        right.plot(range(1, len(counts) + 1), counts, color=FAMILIES[number % len(FAMILIES)], linestyle="--", label=label)
    right.set(xlabel="candidates judged", ylabel="over budget, never trained", ylim=(0, None))
    right.legend(frameon=False, fontsize=9)
    figure.suptitle(f"Course of the search ({source(report.front)} data)", fontsize=11)
    return _png(figure)


def calibration(report: Report) -> bytes | None:
    """How sure every student of the front is against how often it is right, or estimates against truth; None without portraits."""
    drawn = [(str(s["id"]), report.portraits.get(str(s["id"])) or {}) for s in report.front.get("students", [])]
    panels = [(identity, p) for identity, p in drawn if _part(p, "reliability") or _part(p, "values")]
    if not panels:
        return None
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = _canvas(rows, columns, (2.6 * columns + 0.6, 2.7 * rows + 0.9))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for number, (axis, (identity, portrait)) in enumerate(zip(axes, panels, strict=False)):
        (_reliability if _part(portrait, "reliability") else _estimates)(axis, portrait)
        axis.set_title(identity, fontsize=9)
        axis.set_aspect("equal")
        if number + columns < len(panels):  # the panel below says it
            axis.set_xlabel("")
        if number % columns == 0:
            axis.set_ylabel("share that is right" if _part(portrait, "reliability") else "estimate, BPM")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(f"Students on the front, validation subjects ({source(report.front)} data)", fontsize=11)
    return _png(figure)


def _part(portrait: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a portrait knows of the validation subjects, by form."""
    found: Mapping[str, Any] = (portrait.get(name) or {}).get("validation") or {}
    return found


def _reliability(axis: Axes, portrait: Mapping[str, Any]) -> None:
    axis.plot([0, 1], [0, 1], color=SCORED, linestyle=":", linewidth=1)
    for form, (label, colour, marker) in FORMS.items():
        bins = [b for b in _part(portrait, "reliability").get(form) or () if b.get("windows")]
        if bins:
            xs, ys = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axis.plot(xs, ys, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=label)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence")


def _estimates(axis: Axes, portrait: Mapping[str, Any]) -> None:
    cells = _part(portrait, "values").get("int8") or ()
    ends = [value for truth, estimate, _ in cells for value in (truth, estimate)] or [0.0, 1.0]
    axis.plot([min(ends), max(ends)], [min(ends), max(ends)], color=SCORED, linestyle=":", linewidth=1)
    most = max((count for _, _, count in cells), default=1)
    sizes = [3 + 25 * count / most for _, _, count in cells]
    label = "student, int8 (area: windows of a 2-BPM bin)"
    axis.scatter([c[0] for c in cells], [c[1] for c in cells], s=sizes, color=FRONT, alpha=0.6, linewidths=0, label=label)
    axis.set(xlabel="truth, BPM")


def _canvas(rows: int, columns: int, inches: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    # No creation date or version in the file: the same run gives the same bytes.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()
