"""A comparison as rich tables, as Markdown and as a figure, from the content of `compare.json`. Pure; no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from hwnas.report.content import NONE

FIGURE = "differences.png"
COLOURS = ("#1f86d1", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")  # Okabe-Ito, as in the report of a search
GREY = "#9aa3ad"
Content = Mapping[str, Any]


def tables(content: Content) -> list[Table]:
    """A table for every measure, the first the one that counts."""
    return [_table(content, measure) for measure in content["measures"]]


def _table(content: Content, measure: Content) -> Table:
    data, folds = content["data"], content["folds"]
    table = Table(
        title=f"{_title(measure)}: {content['task']}, {data['name']} ({data['source']}), {data['subjects']} subjects in {len(folds)} folds"
        f", {content['seeds']} seed(s), {content['student']['parameters']:,} parameters",
        caption=_caption(measure),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("arm", no_wrap=True)
    for head in heads(content):
        table.add_column(head, justify="right")
    for name, cells in rows(content, measure):
        table.add_row(name, *cells)
    return table


def heads(content: Content) -> list[str]:
    """Heads of the columns after the arm's."""
    folds = [f"fold {fold['fold']}" for fold in content["folds"]]
    return ["mean ± SE of seeds", "minus control", "95 % interval", "gap closed", "subjects larger", *folds]


def rows(content: Content, measure: Content) -> list[tuple[str, list[str]]]:
    """(arm, cells) of one measure; folds are the arm's own figure for teacher and control, differences to the control below them."""
    found = []
    for arm in content["arms"]:
        figures = arm["measures"][measure["name"]]
        gain = figures.get("difference")
        cells = [_with_error(figures["value"], figures["seeds_se"]), *([NONE] * 4 if gain is None else _gain(figures, gain))]
        own = arm["arm"] in ("teacher", "control")
        folds = figures["folds"] if own else gain["folds"]
        found.append((f"{arm['arm']}, {arm['form']}", [*cells, *(_number(v, signed=not own) for v in folds)]))
    return found


def _gain(figures: Content, gain: Content) -> list[str]:
    pairs = gain["paired"]
    counted = f"{pairs['larger']} of {pairs['patients']}" if pairs["patients"] else NONE
    value = _with_error(gain["value"], gain.get("seeds_se"), signed=True)
    return [value, _between(gain), _share(figures.get("share")), counted]


def markdown(content: Content) -> str:
    """`compare.md`."""
    data, student = content["data"], content["student"]
    recipes = list(dict.fromkeys(arm["arm"] for arm in content["arms"] if arm["arm"] not in ("teacher", "control")))
    lines = [
        f"# {content['task']}: {', '.join(recipes)} against no distillation",
        "",
        f"- **data**: {data['name']} ({data['source']}), {data['subjects']} subjects, windows of {data['window_s']:g} s",
        f"- **folds**: {len(content['folds'])}, every subject tested once; its teacher ({content['teacher']}) never saw those subjects",
        f"- **student**: {student['hash']}, {student['parameters']:,} parameters, {student['macs']:,} MACs; {content['seeds']} seed(s), "
        f"{content['folds'][0]['epochs']} epochs in every arm",
        *(f"- **{form}**: {content['provenance'][form]}" for form in dict.fromkeys(arm["form"] for arm in content["arms"])),
        f"- **interval**: {content['provenance']['interval']}",
        *(f"- **mind**: {_cell(warning)}" for warning in content["warnings"]),
        "",
        f"![Differences to the control, patient by patient]({FIGURE})",
        "",
    ]
    for measure in content["measures"]:
        head = ["arm", *heads(content)]
        lines += [
            f"## {_title(measure)}",
            "",
            _caption(measure),
            "",
            "| " + " | ".join(head) + " |",
            "|---" + "|---:" * (len(head) - 1) + "|",
        ]
        lines += ["| " + " | ".join(map(_cell, [name, *cells])) + " |" for name, cells in rows(content, measure)]
        lines += ["", *_findings(content, measure), ""]
    return "\n".join(lines)


def _findings(content: Content, measure: Content) -> list[str]:
    """What may be said of every recipe, in a sentence."""
    found, doubt = [], "" if content["claims"] else "; no claim: quick effort or too few seeds"
    for arm in content["arms"]:
        figures = arm["measures"][measure["name"]]
        if arm["arm"] not in ("teacher", "control"):
            found.append(f"- `{arm['arm']}`, {arm['form']}: {verdict(figures['difference'], measure['better'])}{doubt}")
    return found


def verdict(gain: Content, better: int) -> str:
    """Whether a difference shows a gain over these patients."""
    if gain["value"] is None:
        return "no fold has this measure"
    if gain["low"] is None:
        return "too few patients have this measure for an interval: nothing is shown"
    if gain["low"] <= 0 <= gain["high"]:
        return "the interval holds zero: neither gain nor loss is shown"
    return "a gain" if gain["value"] * better > 0 else "a loss"


def png(content: Content) -> bytes:
    """Differences to the control of every patient, a panel a measure; a line marks the mean of the folds with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown, form = content["measures"], content["arms"][0]["form"]
    arms = [arm for arm in content["arms"] if arm["form"] == form and arm["arm"] not in ("teacher", "control")]
    figure = Figure(figsize=(10, 0.6 + 2.6 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, measure in zip(panels, shown, strict=True):
        _panel(axis, content, measure, arms)
    handles, labels = panels[0].get_legend_handles_labels()
    data = content["data"]
    figure.suptitle(f"{content['task']}, {data['name']} ({data['source']}), float32: difference to the control by subject", fontsize=11)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False, fontsize=9)
    out = io.BytesIO()
    # No creation date or version in the file: the same study gives the same bytes.
    figure.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return out.getvalue()


def _panel(axis: Any, content: Content, measure: Content, arms: Sequence[Content]) -> None:
    subjects = content["subjects"]
    count = len(subjects)
    for i, arm in enumerate(arms):
        gain = arm["measures"][measure["name"]]["difference"]
        colour, shift = COLOURS[i % len(COLOURS)], (i + 1) / (len(arms) + 1) - 0.5
        points = [(n + shift * 0.6, v) for n, v in enumerate(gain["patients"]) if v is not None]
        axis.scatter([x for x, _ in points], [y for _, y in points], s=18, color=colour, label=arm["arm"])
        if gain["value"] is not None:
            place = count + 0.5 + i * 0.6
            axis.scatter([place], [gain["value"]], marker="D", s=30, color=colour)
            if gain["low"] is not None:
                axis.plot([place, place], [gain["low"], gain["high"]], color=colour, linewidth=2)
    axis.axhline(0, color=GREY, linewidth=1)
    axis.axvline(count - 0.25, color=GREY, linewidth=1, linestyle=":")
    for n in range(1, count):
        if subjects[n]["fold"] != subjects[n - 1]["fold"]:
            axis.axvline(n - 0.5, color=GREY, linewidth=0.5)
    middle = count + 0.2 + 0.3 * len(arms)
    axis.set_xticks([*range(count), middle], [*(s["subject"] for s in subjects), "mean"], rotation=90, fontsize=7)
    axis.set_xlim(-0.75, count + 0.6 * len(arms) + 0.5)
    sign = "above" if measure["better"] > 0 else "below"
    axis.set_ylabel(f"{measure['title']}{_unit(measure)}\n{sign} 0: better", fontsize=9)
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _title(measure: Content) -> str:
    return f"{measure['title']}{_unit(measure)}"


def _unit(measure: Content) -> str:
    return f", {measure['unit']}" if measure["unit"] else ""


def _caption(measure: Content) -> str:
    better = "larger" if measure["better"] > 0 else "smaller"
    return (
        f"{better} is better; a fold's figure: {measure['pooling']}; a subject's: {measure['own']}; folds of recipes: minus control; "
        "gap closed: shown where the teacher's lead over the control is beyond doubt"
    )


def _number(value: float | None, *, signed: bool = False) -> str:
    return NONE if value is None else f"{value:{'+' if signed else ''}.{2 if abs(value) >= 10 else 4}f}"


def _with_error(value: float | None, error: float | None, *, signed: bool = False) -> str:
    return _number(value, signed=signed) + ("" if error is None or value is None else f" ± {_number(error)}")


def _between(figure: Content) -> str:
    return NONE if figure["low"] is None else f"{_number(figure['low'], signed=True)} to {_number(figure['high'], signed=True)}"


def _share(share: Content | None) -> str:
    """A share of a lead that is not beyond doubt may be any number and is not shown."""
    if share is None or share["low"] is None:
        return NONE
    return f"{100 * share['value']:.0f} % ({100 * share['low']:.0f} to {100 * share['high']:.0f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
