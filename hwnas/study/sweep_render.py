"""A sweep as rich tables, as Markdown and as a figure, from the content of `sweep.json`. Pure; no torch."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from hwnas.report.content import NONE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "sweep.png"
CONTROL = "hard"
COLOURS = ("#1f86d1", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")  # Okabe-Ito, as in the report of a search
GREY, DARK, RING = "#8a939d", "#3c444c", "#c0392b"
MARKERS = ("o", "s", "^", "D", "v", "P")
AXES = {"parameters": "student parameters", "macs": "student MACs"}
STEPS, FINE_STEPS = (1, 2, 5), (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
LEAST_SHOWN = 1e-4  # an error of 0 has no place on a logarithmic axis
Content = Mapping[str, Any]


def tables(content: Content) -> list[Table]:
    """Errors of every arm by size, then the laws."""
    table = _plain(*_error_heads(content), title=f"{content['measure']['error']}, {_where(content)}; mean ± SE of seeds")
    for row in _error_rows(content):
        table.add_row(*row)
    laws = _plain("arm", "law over parameters", "predicts its largest", title="laws")
    for arm in content["arms"]:
        law = arm["laws"]["parameters"]
        laws.add_row(_name(arm), *([f"none: {law['refused']}", NONE] if "refused" in law else [law["formula"], _predicts(law)]))
    return [table, laws]


def recommendation(content: Content) -> list[str]:
    """The recommendation, in sentences."""
    found, target = content["recommendation"], content["target"]
    asked = f"Target: {content['measure']['error']} of {_figure(target['error'])} ({target['why']})."
    if found["student"] is None:
        return [asked, f"Nothing is recommended: {found['why_none']}. Larger students, other recipes or other teachers were not tried."]
    lines = [asked, _chosen(found), *_cost_lines(found)]
    control = found["control_parameters"]
    if found["recipe"] != CONTROL:
        lines.append(
            f"Without a teacher the target takes {control:,} parameters."
            if control
            else "Without a teacher no student that was tried reaches the target."
        )
    gain = found["against_control"]
    if gain and gain["low"] is not None:
        shown = "a gain is shown" if gain["high"] < 1 else "a loss is shown" if gain["low"] > 1 else "neither gain nor loss is shown"
        within = f"{gain['low']:.2f} to {gain['high']:.2f} over sizes, seeds and test subjects"
        lines.append(f"Over all sizes its error is {gain['ratio']:.2f} times the control's ({within}): {shown}.")
    return lines


def markdown(content: Content) -> str:
    """`sweep.md`."""
    data, parts = content["data"], content["data"]["parts"]
    counts = ", ".join(f"{name} {part['subjects']}" for name, part in parts.items())
    lines = [
        f"# {content['task']}: error against the size of teacher and student",
        "",
        f"- **data**: {data['name']} ({data['source']}), windows of {data['window_s']:g} s; subjects: {counts}",
        f"- **error**: {content['measure']['error']}; {content['provenance']['errors']}",
        f"- **trained**: {len(content['students'])} sizes of `{content['space']}`, {content['seeds']} seed(s) each; every teacher once",
        f"- **intervals**: {content['provenance']['intervals']}; bands {content['provenance']['bands']}",
        *(f"- **mind**: {_cell(warning)}" for warning in content["warnings"]),
        "",
        "## Recommendation",
        "",
        *recommendation(content),
        "",
        *_markdown_table(OFFER_HEADS, _offer_rows(content)),
        "",
        f"![Error against student size, one panel a teacher]({FIGURE})",
        "",
        "## Errors",
        "",
        "Mean over seeds ± standard error.",
        "",
        *_markdown_table(_error_heads(content), _error_rows(content)),
        "",
        "## Teachers and students",
        "",
        *_markdown_table(
            ["teacher", "parameters", content["measure"]["error"]],
            [[t["name"], f"{t['parameters']:,}", _figure(t["error"])] for t in content["teachers"]],
        ),
        "",
        *_markdown_table(["student", "parameters", "MACs", *COST_HEADS], _student_rows(content)),
        "",
        f"Latency, flash and RAM: {content['provenance']['cost']}.",
        "",
        "## Laws",
        "",
        *_law_lines(content),
    ]
    return "\n".join(lines) + "\n"


OFFER_HEADS = ["arm", "smallest student that reaches the target", "error there", "from"]
LAW_HEADS = ["arm", "law", "floor", "exponent", "plateau from", "predicts its largest"]
COST_HEADS = ["latency, ms", "flash, KB", "RAM, KB"]


def _offer_rows(content: Content) -> list[list[str]]:
    found = []
    for offer in content["recommendation"]["offers"]:
        reached = offer["student"] is not None
        size = f"{offer['parameters']:,} parameters" if reached else "none of those tried"
        found.append([_name(offer), size, _estimate(offer["error"]) if reached else NONE, offer["basis"]])
    return found


def _student_rows(content: Content) -> list[list[str]]:
    found = []
    for student in content["students"]:
        cost = student["cost"]
        figures = [NONE] * 3
        if cost:
            figures = [f"{cost['latency_us'] / 1e3:.2f}", f"{cost['flash_bytes'] / 1024:.1f}", f"{cost['ram_bytes'] / 1024:.1f}"]
        found.append([student["hash"], f"{student['parameters']:,}", f"{student['macs']:,}", *figures])
    return found


def _law_lines(content: Content) -> list[str]:
    laws = [(_name(arm), title, arm["laws"][name]) for arm in content["arms"] for name, title in AXES.items()]
    laws += [(joint["recipe"], "both capacities", joint["law"]) for joint in content["joint"]]
    rows = [[f"{arm}, {over}", *_law_cells(law)] for arm, over, law in laws]
    lines = ["A law is asked to predict its largest size from the smaller ones; SE are standard errors of the seeds.", ""]
    lines += _markdown_table(LAW_HEADS, rows)
    if content["joint"]:
        lines += ["", "Every teacher was trained once: a trend over teachers is one of these very networks."]
    return lines


def _law_cells(law: Content) -> list[str]:
    if "refused" in law:
        return [f"none: {law['refused']}", *[NONE] * (len(LAW_HEADS) - 2)]
    exponents = ", ".join(_estimate(each["exponent"]) for each in law["capacities"])
    plateau = NONE if law["plateau_from"] is None else f"{law['plateau_from']:,.0f}"
    return [f"`{law['formula']}`", _estimate(law["floor"]), exponents, plateau, _check_text(law)]


def _check_text(law: Content) -> str:
    if not law["checks"]:
        return "too few sizes to ask"
    check = law["checks"][-1]
    away = "" if check["seed_errors"] is None else f", {abs(check['seed_errors']):.1f} SE away"
    found = f"{_estimate(check['predicted'])}, found {_figure(check['found'])}{away}"
    return f"{'yes' if check['holds'] else 'no'}: {found}"


def _chosen(found: Content) -> str:
    teacher = f" from teacher `{found['teacher']}`" if found["teacher"] else ""
    error = found["error"]
    how = "by its law" if found["basis"] == "law" else "as measured, no law holds"
    between = "" if error["low"] is None else f" ({_figure(error['low'])} to {_figure(error['high'])})"
    return (
        f"Recommended: {found['parameters']:,} parameters (student `{found['student']}`), recipe `{found['recipe']}`{teacher}: "
        f"error {_figure(error['value'])}{between} {how}; the mean of its trainings is {_figure(found['measured'])}."
    )


def _cost_lines(found: Content) -> list[str]:
    cost = found["cost"]
    if cost is None:
        return [f"Its cost is unknown: {found['no_cost']}."]
    return [
        f"On {cost['profile']}: {cost['latency_us'] / 1e3:.2f} ms a window, {cost['flash_bytes'] / 1024:.1f} KB of flash, "
        f"{cost['ram_bytes'] / 1024:.1f} KB of RAM as int8 ({cost['provenance']})."
    ]


def _error_heads(content: Content) -> list[str]:
    return ["arm", *(f"{student['parameters']:,}" for student in content["students"]), "against control"]


def _error_rows(content: Content) -> list[list[str]]:
    found = []
    for arm in content["arms"]:
        gain = arm["against_control"]
        ratio = NONE if gain is None else f"x {gain['ratio']:.2f}" + (f" ({gain['low']:.2f} to {gain['high']:.2f})" if gain["low"] else "")
        cells = [_figure(p["error"]) + (f" ± {_figure(p['seeds_se'])}" if p["seeds_se"] is not None else "") for p in arm["points"]]
        found.append([_name(arm), *cells, ratio])
    return found


def png(content: Content) -> bytes:
    """Errors and laws over parameters (above) and MACs (below), a panel for every teacher."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    teachers = content["teachers"]
    figure = Figure(figsize=(1.2 + 3.7 * len(teachers), 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(AXES), len(teachers), sharex="row", sharey=True, squeeze=False)
    for row, (name, title) in zip(panels, AXES.items(), strict=True):
        for axis, teacher in zip(row, teachers, strict=True):
            _panel(axis, content, teacher, name)
            axis.set_xlabel(title, fontsize=9)
        row[0].set_ylabel(content["measure"]["error"], fontsize=9)
    for axis, teacher in zip(panels[0], teachers, strict=True):
        axis.set_title(f"{teacher['name']}, {teacher['parameters']:,} parameters", fontsize=10)
    _scale(panels[0][0], content)
    _legend(figure, list(panels.flat))
    bands = "bands: 95 % over seeds and sizes, test subjects the same for all"
    figure.suptitle(f"{content['task']}, {_where(content)}, float32; {bands}", fontsize=11)
    out = io.BytesIO()
    # No creation date or version in the file: the same sweep gives the same bytes.
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def _panel(axis: Axes, content: Content, teacher: Content, capacity: str) -> None:
    recipes = [arm["recipe"] for arm in content["arms"]]
    axis.axhline(teacher["error"], color=DARK, linestyle=":", linewidth=1.2, label="teacher")
    axis.axhline(content["target"]["error"], color=GREY, linestyle=(0, (6, 3)), linewidth=1.2, label="target")
    shown = [arm for arm in content["arms"] if arm["teacher"] in (None, teacher["name"])]
    for i, arm in enumerate(shown):
        order = list(dict.fromkeys(recipes)).index(arm["recipe"])
        colour = DARK if arm["recipe"] == CONTROL else COLOURS[(order - 1) % len(COLOURS)]
        shift = 1.03 ** (i - (len(shown) - 1) / 2)  # side by side where several recipes have the same size
        _draw(axis, arm, capacity, colour, MARKERS[order % len(MARKERS)], shift)
    chosen = content["recommendation"]
    if chosen["student"] is not None and chosen["teacher"] in (None, teacher["name"]):
        student = next(s for s in content["students"] if s["hash"] == chosen["student"])
        at = [student[capacity]], [chosen["error"]["value"]]
        axis.scatter(at[0], at[1], s=190, facecolors="none", edgecolors=RING, linewidths=1.8, zorder=6, label="recommended")
    if any("refused" in arm["laws"][capacity] for arm in shown):
        axis.scatter([], [], s=34, facecolors="white", edgecolors=GREY, linewidths=1.3, label="hollow: no law holds")
    axis.set_xscale("log")
    axis.grid(which="major", alpha=0.28, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    _ticks(axis.xaxis)


def _draw(axis: Axes, arm: Content, capacity: str, colour: str, marker: str, shift: float) -> None:
    law = arm["laws"][capacity]
    if "curve" in law:
        curve = law["curve"]
        axis.fill_between(curve["size"], curve["low"], curve["high"], color=colour, alpha=0.13, linewidth=0, zorder=1)
        axis.plot(curve["size"], curve["error"], color=colour, linewidth=1.8, zorder=3)
    points = arm["points"]
    at = [p[capacity] * shift for p in points]
    for x, point in zip(at, points, strict=True):
        seeds = [max(error, LEAST_SHOWN) for error in point["errors"]]
        axis.scatter([x] * len(seeds), seeds, s=9, color=colour, alpha=0.45, linewidths=0, zorder=2)
    means = [max(p["error"], LEAST_SHOWN) for p in points]
    face = "white" if "refused" in law else colour
    axis.scatter(at, means, s=34, marker=marker, facecolors=face, edgecolors=colour, linewidths=1.3, zorder=4, label=arm["recipe"])


def _scale(axis: Axes, content: Content) -> None:
    """The y axis around what was found, not around the widest band."""
    errors = [max(e, LEAST_SHOWN) for arm in content["arms"] for p in arm["points"] for e in p["errors"]]
    errors += [max(teacher["error"], LEAST_SHOWN) for teacher in content["teachers"]]
    axis.set_yscale("log")
    axis.set_ylim(min(errors) / 1.15, max(errors) * 1.15)
    _ticks(axis.yaxis, FINE_STEPS if max(errors) < 6 * min(errors) else STEPS)


def _ticks(axis: Any, steps: tuple[float, ...] = STEPS) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.3g}"


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels: what is somewhere, once."""
    found: dict[str, Any] = {}
    for axis in panels:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        found.values(), found, loc="outside lower center", ncols=min(len(found), 3 * len(panels) // len(AXES)), frameon=False, fontsize=9
    )


def _where(content: Content) -> str:
    data = content["data"]
    return f"{data['name']} ({data['source']}), {len(data['test_subjects'])} test subjects, {content['seeds']} seed(s)"


def _name(arm: Content) -> str:
    return f"{arm['recipe']} from {arm['teacher']}" if arm["teacher"] else arm["recipe"]


def _predicts(law: Content) -> str:
    return {True: "yes", False: "no", None: "too few sizes to ask"}[law["predicts_its_largest"]]


def _estimate(estimate: Content) -> str:
    between = "" if estimate["low"] is None else f" ({_figure(estimate['low'])} to {_figure(estimate['high'])})"
    return _figure(estimate["value"]) + between


def _figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.4f}"


def _plain(*heads: str, title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(heads[0], no_wrap=True)
    for head in heads[1:]:
        table.add_column(head)
    return table


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|---" + "|---:" * (len(heads) - 1) + "|",
        *("| " + " | ".join(map(_cell, row)) + " |" for row in rows),
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
