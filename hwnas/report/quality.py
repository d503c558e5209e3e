"""How good a student is, beyond one figure: metrics of all its forms, calibration, confusion, estimates against truth. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from hwnas.report.charts import Plane, legend, missing, table
from hwnas.report.content import METRICS, NONE, Report, Student, figure, measure, primary, share, source, title

FORMS = {"int8": "student, int8", "float": "student, float", "teacher": "teacher, float"}
PARTS = {"validation": "validation", "test": "test"}
BIN = 0.1  # width of the bins of confidence in a portrait, which leaves empty ones out
NO_PORTRAIT = "Runs of this version write it to students/ID/portrait.json."
Portrait = Mapping[str, Any] | None
Row = Mapping[str, Any]


def forms(report: Report, student: Student) -> str:
    """Every metric of teacher, float student and int8 student, a column each."""
    quantised, teacher = student.get("quantisation") or {}, (report.front.get("teacher") or {}).get("metrics") or {}
    validation = {
        "teacher": teacher.get("validation") or {},
        "float": (student.get("metrics_float") or {}).get("validation") or quantised.get("float") or {},
        "int8": (student.get("metrics") or {}).get("validation") or {},
    }
    test = {"teacher": teacher.get("test") or {}, "int8": (student.get("metrics") or {}).get("test") or {}}
    columns = [(form, part, found) for part, each in (("validation", validation), ("test", test)) for form, found in each.items() if found]
    if not columns:
        return missing("Metrics", "The student's card has none.")
    present = dict.fromkeys(name for _, _, found in columns for name in found)
    first = primary(report.front)
    names = [n for n in (first, *METRICS) if n in present] + [n for n in present if n not in METRICS and n not in (first, "error")]
    heads = [("metric", ""), *((FORMS[form], f"{part}, {source(report.front)}") for form, part, _ in columns)]
    rows = ((title(n), *(measure(n).show(found.get(n)) for _, _, found in columns)) for n in dict.fromkeys(names))
    return table(heads, rows)


def strip(report: Report, student: Student) -> str:
    """The primary metric of teacher, float and int8 student on one line."""
    first = primary(report.front)
    metric, teacher = measure(first), ((report.front.get("teacher") or {}).get("metrics") or {}).get("validation") or {}
    found = {
        "teacher": teacher.get(first),
        "float": ((student.get("metrics_float") or {}).get("validation") or (student.get("quantisation") or {}).get("float") or {}).get(
            first
        ),
        "int8": ((student.get("metrics") or {}).get("validation") or {}).get(first),
    }
    known = {form: float(value) for form, value in found.items() if value is not None}
    if len(known) < 2:
        return ""
    low, high = min(known.values()), max(known.values())
    room = max(high - low, 0.01) * 0.25
    plane = Plane((low - room, high + room), (0, len(known)))
    marks = []
    for n, (form, value) in enumerate(known.items()):
        y = len(known) - n - 0.5
        marks += [
            plane.line([(plane.x[0], y), (plane.x[1], y)], "grid"),
            plane.dot(value, y, form, f"{FORMS[form]}: {metric.show(value)}", 6),
        ]
        right = value > (low + high) / 2
        said = f"{FORMS[form]} {metric.show(value)}"
        marks.append(plane.text(value, y, said, "small", "end" if right else "start", (-11 if right else 11, 4)))
    told = f"{metric.title} on validation: " + ", ".join(f"{FORMS[form]} {metric.show(value)}" for form, value in known.items())
    return (
        f'<figure class="strip"><svg role="img" aria-label="{escape(told)}" width="100%" height="{30 * len(known)}">{"".join(marks)}</svg>'
        f"<figcaption>{escape(metric.axis)}, validation, {escape(source(report.front))} data</figcaption></figure>"
    )


def reliability(portrait: Portrait) -> str:
    """Accuracy against confidence of every form, in bins; a calibrated one lies on the diagonal."""
    found = ((portrait or {}).get("reliability") or {}).get("validation") or {}
    known = {form: [b for b in found.get(form) or () if b.get("windows")] for form in FORMS if found.get(form)}
    if not known:
        return missing("Calibration", NO_PORTRAIT)
    plane = Plane((0, 1), (0, 1))
    most = max((b["windows"] for b in known.get("int8", ())), default=1)
    marks = [plane.line([(0, 0), (1, 1)], "diagonal")]
    for b in known.get("int8", ()):
        at = (max(b["confidence"] - BIN / 2, 0), min(b["confidence"] + BIN / 2, 1))
        marks.append(plane.block(at, (0, 0.22 * b["windows"] / most), "count", f"{b['windows']:,} windows near {b['confidence']:.2f}"))
    for form, bins in reversed(known.items()):
        marks.append(plane.line([(b["confidence"], b["accuracy"]) for b in bins], form))
        told = "{}: confidence {:.3f}, accuracy {:.3f}, {:,} windows"
        marks += [plane.dot(b["confidence"], b["accuracy"], form, told.format(FORMS[form], b["confidence"], b["accuracy"], b["windows"]))
                  for b in bins]  # fmt: skip
    titles = ("confidence of the class that is said", "share that is right")
    drawn = plane.chart(marks, titles, f"Calibration of {', '.join(FORMS[f] for f in known)}", height=300, square=True)
    words = [*((form, FORMS[form]) for form in known), ("count", "windows, int8")]
    return drawn + legend(words) + _bins(known)


def _bins(known: Mapping[str, Sequence[Row]]) -> str:
    rows = ((FORMS[f], f"{b['confidence']:.3f}", f"{b['accuracy']:.3f}", figure(b["windows"])) for f, bins in known.items() for b in bins)
    heads = [("form", ""), ("confidence", "mean of the bin"), ("accuracy", ""), ("windows", "")]
    return f"<details><summary>Figures of the curve</summary>{table(heads, rows)}</details>"


def confusion(portrait: Portrait, labels: Sequence[str]) -> str:
    """Truth against answer; the shade and the small figure are shares of a row."""
    found = (portrait or {}).get("confusion") or {}
    if not found:
        return missing("Confusion matrix", NO_PORTRAIT)
    names = [str(name) for name in (portrait or {}).get("classes") or labels]
    shipped = [_matrix(found[part]["int8"], names, f"{FORMS['int8']}, {part}") for part in PARTS if (found.get(part) or {}).get("int8")]
    others = [
        _matrix(found[part][form], names, f"{FORMS[form]}, {part}")
        for part in PARTS
        for form in ("float", "teacher")
        if (found.get(part) or {}).get(form)
    ]
    more = f'<details><summary>Float student and teacher</summary><div class="pair">{"".join(others)}</div></details>' if others else ""
    return f'<div class="pair">{"".join(shipped)}</div>{more}'


def _matrix(counts: Sequence[Sequence[int]], names: Sequence[str], caption: str) -> str:
    names = [*names, *map(str, range(len(names), len(counts)))][: len(counts)]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th>{_shares(row)}</tr>' for name, row in zip(names, counts, strict=True))
    return (
        f'<div class="scroll" tabindex="0"><table class="matrix"><caption>{escape(caption)}</caption>'
        f'<thead><tr><th class="corner">truth &darr; answer &rarr;</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _shares(row: Sequence[int]) -> str:
    total = sum(row)
    return "".join(
        f'<td style="--share:{n / total if total else 0:.3f}">{n:,}<small>{share(n / total, 0) if total else NONE}</small></td>'
        for n in row
    )


def densities(portrait: Portrait) -> str:
    """Estimates against truth of a regression, in bins; darker holds more windows."""
    found = ((portrait or {}).get("values") or {}).get("validation") or {}
    known = {form: found[form] for form in FORMS if found.get(form)}
    if not known:
        return missing("Estimates against truth", NO_PORTRAIT)
    every = [v for cells in known.values() for truth, estimate, _ in cells for v in (truth, estimate)]
    limits = (min(every) - 2, max(every) + 2)
    return '<div class="pair">' + "".join(_density(cells, limits, FORMS[form]) for form, cells in known.items()) + "</div>"


def _density(cells: Sequence[Sequence[float]], limits: tuple[float, float], form: str) -> str:
    plane, most = Plane(limits, limits), max(count for _, _, count in cells)
    marks = [
        plane.block(
            (t - 1, t + 1), (e - 1, e + 1), "density", f"truth {t:g}, estimate {e:g} BPM: {n:,.0f} windows", 0.15 + 0.85 * (n / most) ** 0.5
        )
        for t, e, n in cells
    ]
    marks.append(plane.line([(limits[0], limits[0]), (limits[1], limits[1])], "diagonal"))
    windows = sum(n for _, _, n in cells)
    drawn = plane.chart(marks, ("truth, BPM", "estimate, BPM"), f"Estimates of the {form} against truth", height=280, square=True)
    return f"<div><h4>{escape(form)}, validation, {windows:,.0f} windows</h4>{drawn}</div>"


def subjects(report: Report, portrait: Portrait) -> str:
    """The primary metric of every subject, worst first."""
    found = (portrait or {}).get("by_subject") or {}
    metric = measure(primary(report.front))
    known = {f"{name} ({row['part']})" if row.get("part") else str(name): row.get("int8") for name, row in found.items()}
    scored = sorted(((v, n) for n, v in known.items() if v is not None), reverse=metric.lower)
    if not scored:
        return missing("Subjects", NO_PORTRAIT)
    low, high = min(v for v, _ in scored), max(v for v, _ in scored)
    low, high = (0.0, high * 1.1 or 1.0) if metric.lower else (min(max(0.0, low - 0.05), 0.45) if low >= 0 else low - 0.05, max(1.0, high))
    plane = Plane((low, high), (0, len(scored)))
    marks: list[str] = []
    for n, (value, name) in enumerate(scored):
        y = len(scored) - n - 0.5
        told = f"{name}: {metric.show(value)}"
        right = value > (low + high) / 2
        marks += [
            plane.line([(low, y), (high, y)], "grid"),
            plane.dot(value, y, "int8", told, 5),
            plane.text(value, y, told, "small", "end" if right else "start", (-10 if right else 10, 4)),
        ]
    marks += [plane.text(x, 0, f"{x:g}", "tick", "middle", (0, 16)) for x in _ends(low, high)]
    lost = len(known) - len(scored)
    note = f" {lost} of {len(known)} subjects have no {metric.name} of their own." if lost else ""
    told, height = escape(f"{metric.title} of every subject"), 26 * len(scored)
    return (
        f'<figure class="strip"><svg role="img" aria-label="{told}" width="100%" height="{height + 22}">'
        f'<svg width="100%" height="{height}">{"".join(marks)}</svg></svg>'
        f"<figcaption>{escape(metric.axis)} of every subject, int8, worst first.{escape(note)}</figcaption></figure>"
    )


def _ends(low: float, high: float) -> Iterator[float]:
    yield round(low, 3)
    yield round(high, 3)


def agreement(portrait: Portrait) -> str:
    """How often the int8 student says what its float form and its teacher say."""
    found = (portrait or {}).get("agreement") or {}
    words = {"int8_float": "its float form", "int8_teacher": "its teacher"}
    said = [f"{words[name]} in {share(value)}" for name, value in found.items() if name in words and value is not None]
    rule = f" ({found['rule']})" if found.get("rule") else ""
    told = f"The int8 student agrees{rule} with {' and with '.join(said)} of validation windows."
    return f'<p class="note">{escape(told)}</p>' if said else ""
