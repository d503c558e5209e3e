"""The tables of the report that are about int8: what it costs, layer by layer, and how exported files keep to it. Pure: no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwnas.report.content import EMULATED, NONE, Column, Front, Section, cost, figure, measure, metrics_of, primary, share, source, title

FORMS = {"float": "float", "ptq": "PTQ", "qat": "QAT", "shipped": "shipped"}
MARKED = {"": 0.1, "BPM": 0.05}  # a layer that costs as much, in points or in a unit, is worth a look: half of what int8 may cost
CALIBRATED = (
    "The temperature divides the logits so that their softmax is calibrated; it is part of the output's scale and changes no integer. "
    "It was fitted, and PTQ or QAT chosen, on these very windows: on others ECE may be higher."
)
# Figure of a comparison -> head of its column.
COMPARED = {
    "share_differing": "outputs differing",
    "share_within_one_step": "within 1 step",
    "share_within_two_steps": "within 2 steps",
    "share_same_class": "same class",
    "largest_difference": "largest difference",
    "largest_step": "largest step",
    "operator_largest_step": "largest step, one operator",
}


def quantisation(front: Front) -> Section:
    """How every student became integers, and what that cost on validation subjects."""
    students = _described(front)
    metrics = [m for m in metrics_of(front) if any(m in (q.get("shipped") or {}) for _, q in students)]
    tempered = any(q.get("confidence") for _, q in students)
    forms = {form: name for form, name in FORMS.items() if any(q.get(form) for _, q in students)}
    columns = [Column("student"), Column("method", words=True)]
    columns += [Column(name) for name in ("temperature", "ECE", "ECE, calibrated")] if tempered else []
    columns += [Column(name, title(m)) for m in metrics for name in forms.values()]
    columns += [Column("why", words=True)]
    rows = tuple(
        (
            identity,
            f"{str(q.get('method', NONE)).upper()}, ranges: {q.get('calibration', NONE)}",
            *(_confidence(q) if tempered else ()),
            *(measure(m).show((q.get(form) or {}).get(m), 4) for m in metrics for form in forms),
            str(q.get("reason") or NONE),
        )
        for identity, q in students
    )
    note = (
        f"Validation subjects, {source(front)} data. PTQ: quantised after training; QAT: trained on as integers, where PTQ lost too much. "
        + (CALIBRATED if tempered else "PTQ or QAT was chosen on these very windows.")
    )
    return Section("From float to int8", note, tuple(columns), rows, figures=True)


def sensitivity(front: Front) -> Section:
    """What int8 in one layer alone costs: a column a student, a row a layer."""
    found = [(identity, {int(row["node"]): row for row in q.get("sensitivity") or ()}) for identity, q in _described(front)]
    nodes = sorted({node for _, layers in found for node in layers})
    rows = tuple((str(node), *(_layer(layers.get(node)) for _, layers in found)) for node in nodes)
    metric = measure(primary(front))
    marked_at = MARKED[metric.unit]
    marked = frozenset(
        (r, c)
        for r, node in enumerate(nodes)
        for c, (_, layers) in enumerate(found, start=1)
        if node in layers and layers[node]["loss"] >= marked_at
    )
    columns = (Column("layer"), *(Column(identity) for identity, _ in found))
    note = (
        f"{metric.unit or 'Points (hundredths)'} of {metric.name} that a student loses on validation subjects when one layer alone has "
        "int8 weights and output, all else float; by PTQ. Negative is a gain. "
        f"{marked_at:g} {metric.unit or 'points'} and more are marked."
    )
    return Section("Sensitivity to int8, layer by layer", note, columns, rows, figures=True, marked=marked)


def exports(front: Front) -> Section:
    """How far every exported file is from the int8 reference, and how large it is."""
    unit = measure(primary(front)).unit
    names = [name for name in COMPARED if name != ("share_same_class" if unit else "largest_difference")]
    rows = tuple(row for student in _all(front) for row in _files(student, names))
    heads = [COMPARED[name] + (f", {unit}" if name == "largest_difference" else "") for name in names]
    columns = (Column("student"), Column("file", words=True), Column("size, KB"), Column("windows"), *map(Column, heads))
    note = (
        "Each exported file was run in its own runtime, with each set of kernels that it has, and compared with the int8 reference. A step "
        "is one unit of int8; an operator alone is given the reference's inputs. The size of c is the flash of the whole program, emulated."
    )
    return Section("Exported files against the int8 reference", note, columns, rows, figures=True)


def _all(front: Front) -> list[Mapping[str, Any]]:
    return [*front.get("students", []), *front.get("fallen", [])]


def _described(front: Front) -> list[tuple[str, Mapping[str, Any]]]:
    """Students that say how they were quantised."""
    return [(str(s["id"]), s["quantisation"]) for s in _all(front) if s.get("quantisation")]


def _confidence(found: Mapping[str, Any]) -> Iterator[str]:
    """Temperature, and ECE before and after it."""
    yield figure(found.get("temperature"))
    for name in ("ece_before", "ece_after"):
        yield figure((found.get("confidence") or {}).get(name))


def _layer(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NONE
    name = str(row["operator"]).replace("_conv1d", "").replace("1d", "").replace("_", " ")
    return f"{name} {row['loss']:+.2f}"


def _files(student: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row a file, one for every further set of kernels that ran it, and one for every file that could not be written."""
    for form, found in (student.get("exports") or {}).items():
        kernels = found.get("kernels") or {}
        name = f"{form} ({next(iter(kernels))})" if kernels else str(form)
        size = found.get("bytes", cost(student, "flash_bytes", EMULATED) if form == "c" else None)
        shown = NONE if size is None else f"{size / 1024:,.1f}"
        yield (str(student["id"]), name, shown, figure(found.get("windows")), *_compared(_exact(found), names))
        for other in list(kernels)[1:]:
            yield (str(student["id"]), f"{form} ({other})", "", "", *_compared(kernels[other], names))
    for form, reason in (student.get("exports_lacking") or {}).items():
        yield (str(student["id"]), f"no {form}: {reason}", NONE, NONE, *_compared({}, names))


def _exact(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """`found`; a program of which no window differs at all has the figures that follow from that."""
    if found.get("windows_differing") == 0:
        nothing = ("share_differing", "largest_difference", "largest_step", "operator_largest_step")
        return dict.fromkeys(COMPARED, 1) | dict.fromkeys(nothing, 0) | dict(found)
    return found


def _compared(figures: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        value = figures.get(name)
        yield share(value, 2) if name.startswith("share") else figure(value)
